//! The whole state of a shard as records, page by page, so that all that stands before them in the log can go.
//!
//! A page shows each of its keys as the log will have it once everything handed over so far is written. What is
//! written between two pages comes behind the first page in the log, so a replay that begins at the first page
//! ends in the same state: for each key the newest of {its place in a page, what was written later} counts, and a
//! key that is missing from its page was deleted before.

use protocol::Str;

use super::event::GroupRecord;
use super::offset_store::OffsetKey;
use super::records;
use super::shard::Shard;

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotPlace {
    BehindGroup(Str),
    /// Inside a group whose own record is written.
    BehindOffset(OffsetKey),
}

impl Shard {
    /// One page of about `bytes_max`, and where the next one begins. An empty shard has one empty page.
    pub fn snapshot_page(
        &self,
        place: Option<SnapshotPlace>,
        bytes_max: usize,
    ) -> (Vec<GroupRecord>, Option<SnapshotPlace>) {
        let mut records = Vec::new();
        let mut size_bytes = 0;
        let mut place = place;
        while let Some((group_id, after)) = self.next_in_snapshot(place.as_ref()) {
            let first = records.len();
            if after.is_none() {
                let is_classic = self.groups.contains_key(&group_id);
                let value = self.group_records.newest(&group_id).filter(|_| is_classic);
                records.extend(value.map(|value| records::group_record(&group_id, value)));
                records.extend(self.consumer_snapshot(&group_id));
                records.extend(self.streams_snapshot(&group_id));
                records.extend(self.share_snapshot(&group_id));
            }
            let page = self.offsets.page_of_group(&group_id, after.as_ref(), PAGE_OFFSETS);
            records
                .extend(page.offsets.iter().map(|(key, committed)| records::offset_record(key, committed)));
            size_bytes += records[first..].iter().map(GroupRecord::size_bytes).sum::<usize>();
            place = Some(match page.next_after {
                Some(key) => SnapshotPlace::BehindOffset(key),
                None => SnapshotPlace::BehindGroup(group_id),
            });
            if size_bytes >= bytes_max {
                return (records, place);
            }
        }
        (records, None)
    }

    /// The next group to write, and behind which of its offsets to begin.
    fn next_in_snapshot(&self, place: Option<&SnapshotPlace>) -> Option<(Str, Option<OffsetKey>)> {
        use std::ops::Bound::{Excluded, Unbounded};
        match place {
            Some(SnapshotPlace::BehindOffset(key)) => Some((key.group.clone(), Some(key.clone()))),
            Some(SnapshotPlace::BehindGroup(group)) => {
                let behind = (Excluded(group), Unbounded);
                let classic = self.groups.range::<Str, _>(behind).next().map(|(group, _)| group);
                let consumer = self.consumers.range::<Str, _>(behind).next().map(|(group, _)| group);
                let streams = self.streams.range::<Str, _>(behind).next().map(|(group, _)| group);
                let share = self.shares.range::<Str, _>(behind).next().map(|(group, _)| group);
                first_of([classic, consumer, streams, share, self.offsets.next_group(Some(group))])
            }
            None => {
                let (classic, consumer) = (self.groups.keys().next(), self.consumers.keys().next());
                let (streams, share) = (self.streams.keys().next(), self.shares.keys().next());
                first_of([classic, consumer, streams, share, self.offsets.next_group(None)])
            }
        }
    }
}

/// The first group of any kind; none of its offsets is written yet. One whose own record failed has offsets and nothing else.
fn first_of(groups: [Option<&Str>; 5]) -> Option<(Str, Option<OffsetKey>)> {
    groups.into_iter().flatten().min().map(|group| (group.clone(), None))
}

/// Offsets read at once; each record is some hundred bytes.
const PAGE_OFFSETS: usize = 1_000;
