//! Consumer groups as the log has them, and as a snapshot writes them. Members between two kinds of groups may leave records of
//! both under one name when a write fails; the kind that was written last is the one that counts.

use protocol::Str;

use super::Entry;
use super::group::{Change, Stored};
use super::records;
use crate::groups::event::{GroupRecord, Now};
use crate::groups::shard::Shard;

impl Shard {
    pub(in crate::groups) fn replay_consumer(&mut self, group: Str, change: &Change) {
        let mut stored = self.replayed.remove(&group);
        Stored::apply_to(&mut stored, change);
        if let Some(stored) = stored {
            self.groups.remove(&group);
            self.replayed.insert(group, stored);
        }
    }

    /// The end of the log is reached.
    pub(in crate::groups) fn consumers_loaded(&mut self, now: Now) {
        for (group_id, stored) in std::mem::take(&mut self.replayed) {
            let entry = Entry::loaded(stored);
            self.watch_all_consumers(&group_id, &entry, now);
            self.consumers.insert(group_id, entry);
        }
    }

    /// Everything that has to be written of a consumer group so that what stands before can go.
    pub(in crate::groups) fn consumer_snapshot(&self, group_id: &Str) -> Vec<GroupRecord> {
        let Some(group) = self.consumer_group(group_id) else { return Vec::new() };
        group.stored.changes().iter().map(|change| records::record(group_id, change)).collect()
    }
}
