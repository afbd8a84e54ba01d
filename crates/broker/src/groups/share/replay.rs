//! Share groups as the log has them, and as a snapshot writes them. See `consumer/replay.rs` for names that were of two kinds.

use protocol::Str;

use super::group::{Change, Stored};
use super::{Entry, records};
use crate::groups::event::{GroupRecord, Now};
use crate::groups::shard::Shard;

impl Shard {
    pub(in crate::groups) fn replay_share(&mut self, group: Str, change: &Change) {
        let mut stored = self.replayed_shares.remove(&group);
        Stored::apply_to(&mut stored, change);
        if let Some(stored) = stored {
            self.groups.remove(&group);
            self.replayed_shares.insert(group, stored);
        }
    }

    /// The end of the log is reached.
    pub(in crate::groups) fn shares_loaded(&mut self, now: Now) {
        for (group_id, stored) in std::mem::take(&mut self.replayed_shares) {
            let entry = Entry::loaded(stored);
            self.watch_all_shares(&group_id, &entry, now);
            self.shares.insert(group_id, entry);
        }
    }

    /// Everything that has to be written of a share group so that what stands before can go.
    pub(in crate::groups) fn share_snapshot(&self, group_id: &Str) -> Vec<GroupRecord> {
        let Some(group) = self.share_group(group_id) else { return Vec::new() };
        group.stored.changes().iter().map(|change| records::record(group_id, change)).collect()
    }
}
