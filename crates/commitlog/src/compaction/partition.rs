//! What compaction means to one partition: how much is dirty, how much of that may be cleaned by now, and whether that is worth a round.
//!
//! ```text
//!   log start      compacted to                      last stable offset, or what is too young      end
//!      │   clean       │      cleanable     │ active         │                                      │
//! ```
//!
//! Kafka leaves the active segment alone. There are no segments here that belong to one partition, so the same bounds are laid over the
//! extents: a stretch that is as long as `segment.bytes` is done, or older than `segment.ms` (or `max.compaction.lag.ms`, when that is less).

use std::collections::BTreeMap;

use world::broken;

use super::cleaner::{Facts, LastOf};
use crate::extent::{Extent, Source};
use crate::partition::{Inner, Partition};
use crate::settings::CompactionPolicy;

/// Which extents may be read and replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    /// In a directory: those in WAL files below this number, and in segments. What is committed and not synced (`log.sync=interval`) must
    /// not be compacted: the result would be durable, and its source would not.
    WalFilesBelow(u64),
    /// In a bucket: what the manifest has.
    SegmentsOnly,
}

impl Readable {
    /// If everything were where it can be read.
    pub const ALL: Readable = Readable::WalFilesBelow(u64::MAX);

    fn has(self, extent: &Extent) -> bool {
        match (&extent.source, self) {
            (Source::Segment(_), _) => true,
            (Source::Wal(place), Readable::WalFilesBelow(file)) => place.file < file,
            (Source::Wal(_), Readable::SegmentsOnly) | (Source::Tier(_), _) => false,
        }
    }
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub clean_bytes: u64,
    pub cleanable_bytes: u64,
    /// Because of its ratio, or because something waits for longer than it may.
    pub is_due: bool,
}

impl Candidate {
    pub fn ratio(&self) -> f64 {
        self.cleanable_bytes as f64 / (self.clean_bytes + self.cleanable_bytes).max(1) as f64
    }
}

/// All that a round needs to know, as of one moment.
pub struct Round {
    /// From the start of the log to the end of what may be cleaned, without gaps.
    pub extents: Vec<Extent>,
    /// The first of them that has something dirty.
    pub first_dirty: usize,
    pub compacted_to: i64,
    pub facts: Facts,
}

impl Partition {
    /// `None`: it is not compacted, or there is nothing that may be cleaned.
    pub(crate) fn compaction_candidate(&self, now_ms: i64, readable: Readable) -> Option<Candidate> {
        let inner = self.inner.lock();
        let (first_dirty, end) = cleanable(&inner, now_ms, readable)?;
        let policy = &inner.settings.compaction;
        let len = |extents: &mut dyn Iterator<Item = &Extent>| extents.map(|extent| extent.len).sum::<u64>();
        let clean_bytes = len(&mut inner.extents.range(..first_dirty));
        let cleanable_bytes = len(&mut inner.extents.range(first_dirty..end));
        let mut candidate = Candidate { clean_bytes, cleanable_bytes, is_due: false };
        let oldest = inner.extents.range(first_dirty..end).map(|extent| extent.max_timestamp.max(0)).min()?;
        let waits_too_long = now_ms.saturating_sub(oldest) > policy.max_lag_ms;
        candidate.is_due = waits_too_long || candidate.ratio() > policy.dirty_ratio_min;
        Some(candidate)
    }

    pub(crate) fn compaction_round(&self, now_ms: i64, readable: Readable) -> Option<Round> {
        let inner = self.inner.lock();
        let (first_dirty, end) = cleanable(&inner, now_ms, readable)?;
        let extents: Vec<Extent> = inner.extents.range(..end).cloned().collect();
        let ends_at = extents.last()?.last_offset + 1;
        let last_of = |(id, state): (i64, &crate::producers::ProducerState)| match state.batches.back() {
            Some(batch) => (id, LastOf::Data(batch.last_offset)),
            None => (id, LastOf::Marker { epoch: state.epoch }),
        };
        let last_of_producers: BTreeMap<i64, LastOf> = inner.producers.iter().map(last_of).collect();
        let facts = Facts {
            now_ms,
            delete_retention_ms: inner.settings.compaction.delete_retention_ms,
            decompressed_bytes_max: inner.settings.compaction.decompressed_bytes_max,
            aborted: inner.transactions.aborted_in(inner.log_start, ends_at),
            last_of_producers,
        };
        let compacted_to = inner.compacted_to.max(inner.log_start);
        Some(Round { extents, first_dirty, compacted_to, facts })
    }

    /// How far it is compacted.
    pub fn compacted_to(&self) -> i64 {
        self.inner.lock().compacted_to
    }
}

/// The extents that are dirty and may be cleaned, by their places; `None` when there are none.
fn cleanable(inner: &Inner, now_ms: i64, readable: Readable) -> Option<(usize, usize)> {
    let policy = &inner.settings.compaction;
    // What lies in a second tier is not compacted; Kafka keeps these topics apart, and so does the catalog.
    if !policy.enabled || inner.deleted || !inner.tiered.is_empty() {
        return None;
    }
    let first_dirty = inner.extents.partition_point(|extent| extent.last_offset < inner.compacted_to);
    let dirty = || inner.extents.range(first_dirty..);
    let last_stable = match broken::rule("compaction-past-stable") {
        true => inner.high_watermark,
        false => inner.offsets().last_stable,
    };
    let is_old_enough = |extent: &Extent| {
        policy.min_lag_ms <= 0 || now_ms.saturating_sub(extent.max_timestamp.max(0)) >= policy.min_lag_ms
    };
    let may =
        |extent: &&Extent| readable.has(extent) && extent.last_offset < last_stable && is_old_enough(extent);
    let count = dirty().take_while(may).count().min(rolled(dirty(), policy, now_ms));
    (count > 0).then_some((first_dirty, first_dirty + count))
}

/// How many of these lie in stretches that are done.
fn rolled<'a>(dirty: impl Iterator<Item = &'a Extent>, policy: &CompactionPolicy, now_ms: i64) -> usize {
    let age_max = policy.segment_ms.min(policy.max_lag_ms);
    let (mut begun_at, mut bytes, mut done, mut count) = (None, 0u64, 0, 0);
    for extent in dirty {
        // What says no time is old.
        let at = extent.max_timestamp.max(0);
        let began = *begun_at.get_or_insert(at);
        if count > done && (bytes + extent.len > policy.segment_bytes || at.saturating_sub(began) > age_max) {
            (begun_at, bytes, done) = (Some(at), 0, count);
        }
        bytes += extent.len;
        count += 1;
    }
    match begun_at {
        Some(began) if now_ms.saturating_sub(began) > age_max => count,
        _ => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extent::WalPlace;

    fn extent(first_offset: i64, len: u64, max_timestamp: i64) -> Extent {
        let place = WalPlace { file: 1, position: 0, chunk: 1, position_in_chunk: 0, leader_epoch: 0 };
        Extent { first_offset, last_offset: first_offset, max_timestamp, len, source: Source::Wal(place) }
    }

    #[test]
    fn the_newest_stretch_is_active_until_it_is_long_or_old() {
        let policy =
            CompactionPolicy { segment_bytes: 100, segment_ms: 1_000, ..CompactionPolicy::default() };
        let dirty = [extent(0, 60, 0), extent(1, 30, 100), extent(2, 30, 200), extent(3, 60, 300)];
        let rolled = |policy: &CompactionPolicy, now_ms| rolled(dirty.iter(), policy, now_ms);
        assert_eq!(rolled(&policy, 1_200), 2, "60 and 30 are a segment, 30 and 60 are active");
        assert_eq!(rolled(&policy, 1_201), 4, "the active one began at 200");
        let long = CompactionPolicy { segment_bytes: 1 << 30, ..policy.clone() };
        assert_eq!((rolled(&long, 1_000), rolled(&long, 1_001)), (0, 4));
        let old = CompactionPolicy { segment_ms: 150, ..long.clone() };
        assert_eq!(rolled(&old, 0), 2, "what was written 150 ms after the first begins a new one");
        let lag = CompactionPolicy { max_lag_ms: 150, ..long };
        assert_eq!(rolled(&lag, 0), 2);
    }
}
