//! What the tier means to one partition: what is to be copied, what was, and which local copies may go.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use protocol::batch::split_batches;
use world::broken;

use crate::extent::{Extent, Source};
use crate::manifest::PlacedPiece;
use crate::partition::{Inner, Partition};
use crate::segment::SegmentId;

/// Where the parts of a partition's log begin and end, for ListOffsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TieredOffsets {
    /// The first offset that can be read without the tier.
    pub local_start: i64,
    /// Behind the last offset that the tier has; `None` when it has nothing.
    pub tiered_end: Option<i64>,
}

/// What of a partition is to be copied.
pub struct Waiting {
    pub partition: Arc<Partition>,
    pub extents: Vec<Extent>,
    /// The first of them may begin below: the tier has that part already.
    pub from: i64,
    pub bytes: u64,
}

impl Partition {
    pub fn tiered_offsets(&self) -> TieredOffsets {
        let inner = self.inner.lock();
        TieredOffsets { local_start: inner.local_start(), tiered_end: inner.tiered_end() }
    }

    /// Bytes of batches that only the tier has.
    pub fn only_tiered_bytes(&self) -> u64 {
        self.inner.lock().only_tiered().map(|extent| extent.len).sum()
    }

    /// Is this extent still where it was?
    pub(crate) fn has(&self, extent: &Extent) -> bool {
        let inner = self.inner.lock();
        let lies_in = |extents: &VecDeque<Extent>| {
            let at = extents.partition_point(|known| known.last_offset < extent.first_offset);
            extents.get(at) == Some(extent)
        };
        lies_in(&inner.extents) || lies_in(&inner.tiered)
    }

    /// What is sealed here and not in the tier, up to `bytes_max` (one extent at least). WAL files from `current_file` on still
    /// take commits.
    pub(crate) fn waiting_for_tier(self: &Arc<Self>, current_file: u64, bytes_max: u64) -> Option<Waiting> {
        let inner = self.inner.lock();
        if !inner.settings.tier.enabled || !inner.settings.tier.copies || inner.deleted {
            return None;
        }
        let from = inner.tiered_end().unwrap_or(0);
        let first = inner.extents.partition_point(|extent| extent.last_offset < from);
        let is_sealed = |extent: &&Extent| extent.wal().is_none_or(|place| place.file < current_file);
        let mut extents: Vec<Extent> = Vec::new();
        let mut bytes = 0;
        for extent in inner.extents.range(first..).take_while(is_sealed) {
            if !extents.is_empty() && bytes + extent.len > bytes_max {
                break;
            }
            bytes += extent.len;
            extents.push(extent.clone());
        }
        let from = from.max(extents.first()?.first_offset);
        Some(Waiting { partition: self.clone(), extents, from, bytes })
    }

    /// All its pieces in the tier as they will be when `new` is added to them or stands in the place of what it covers.
    pub(crate) fn tiered_with(&self, new: &[PlacedPiece]) -> Vec<PlacedPiece> {
        let inner = self.inner.lock();
        if inner.deleted {
            return Vec::new();
        }
        joined(&inner, new).iter().filter_map(Extent::piece).collect()
    }

    /// The manifest says so: they are in the tier.
    pub(crate) fn take_tiered(&self, new: &[PlacedPiece]) {
        let mut inner = self.inner.lock();
        if inner.deleted || new.is_empty() {
            return;
        }
        let joined = joined(&inner, new);
        assert!(
            joined
                .iter()
                .zip(joined.iter().skip(1))
                .all(|(one, next)| one.last_offset + 1 == next.first_offset),
            "{}: pieces of the tier follow one another: {joined:?}",
            self.id()
        );
        joined.iter().for_each(|extent| self.medium().hold(extent));
        let old: Vec<Extent> = std::mem::replace(&mut inner.tiered, joined).into();
        inner.layout += 1;
        drop(inner);
        self.medium().release(&old);
    }

    /// At start, behind the replay of the WAL and of the local manifest.
    pub(crate) fn restore_tiered(&self, pieces: &[PlacedPiece]) -> Result<(), String> {
        let mut inner = self.inner.lock();
        let Some(end) = pieces.last().map(|placed| placed.piece.last_offset) else { return Ok(()) };
        if end >= inner.high_watermark {
            return Err(format!("its pieces end at {end}, behind the log's end {}", inner.high_watermark));
        }
        let log_start = inner.log_start;
        let live = pieces.iter().filter(|placed| placed.piece.last_offset >= log_start);
        inner.tiered = live.map(Extent::of_tiered).collect();
        Ok(())
    }

    /// At start: a local copy may be gone that the tier replaces; the checkpoint need not know. What lies before it goes as well, so
    /// that no gap is left.
    pub(crate) fn forget_replaced(&self, is_there: impl Fn(&Extent) -> bool) {
        let mut inner = self.inner.lock();
        let Some(end) = inner.tiered_end() else { return };
        let covered = inner.extents.partition_point(|extent| extent.last_offset < end);
        let gone = inner.extents.range(..covered).rposition(|extent| !is_there(extent));
        if let Some(last) = gone {
            let forgotten: u64 = inner.extents.drain(..=last).map(|extent| extent.len).sum();
            inner.size_bytes -= forgotten;
        }
    }

    /// Lets go of local copies that the local retention does not want any more; only of what the tier has. How many bytes.
    pub(crate) fn drop_local(&self, now_ms: i64) -> u64 {
        let mut inner = self.inner.lock();
        let policy = inner.settings.tier.clone();
        if !policy.enabled || inner.deleted {
            return 0;
        }
        let end = match inner.tiered_end() {
            Some(_) if broken::rule("tier-drop-uncopied") => inner.high_watermark,
            Some(end) => end,
            None => return 0,
        };
        let mut size = inner.size_bytes;
        let mut count = 0;
        for extent in &inner.extents {
            let age_ms = now_ms.saturating_sub(extent.max_timestamp);
            let is_old = policy.local_retention_ms >= 0
                && extent.max_timestamp >= 0
                && age_ms > policy.local_retention_ms;
            let is_over =
                policy.local_retention_bytes >= 0 && size - extent.len >= policy.local_retention_bytes as u64;
            if extent.last_offset >= end || !(is_old || is_over) {
                break;
            }
            size -= extent.len;
            count += 1;
        }
        if count == 0 {
            return 0;
        }
        let dropped: Vec<Extent> = inner.extents.drain(..count).collect();
        let bytes = inner.size_bytes - size;
        inner.size_bytes = size;
        inner.layout += 1;
        drop(inner);
        self.medium().release(&dropped);
        bytes
    }

    /// The topic does not use the tier any more, and what only the tier has is to go: where the log then begins.
    pub(crate) fn start_without_tier(&self) -> Option<i64> {
        let inner = self.inner.lock();
        let policy = &inner.settings.tier;
        let is_unwanted = !policy.enabled && policy.delete_on_disable && !inner.tiered.is_empty();
        (is_unwanted && !inner.deleted).then(|| inner.local_start())
    }

    /// What the tier has is not needed any more: the log begins with what lies here.
    pub(crate) fn forget_tiered(&self) {
        let mut inner = self.inner.lock();
        if inner.log_start < inner.local_start() {
            return;
        }
        let forgotten: Vec<Extent> = std::mem::take(&mut inner.tiered).into();
        inner.layout += 1;
        drop(inner);
        self.medium().release(&forgotten);
    }

    /// What it has in this object of the tier, to be copied into another one.
    pub(crate) fn tiered_in(self: &Arc<Self>, segment: &SegmentId) -> Option<Waiting> {
        let inner = self.inner.lock();
        let in_it = |extent: &&Extent| extent.tier().is_some_and(|place| place.segment.id == *segment);
        let extents: Vec<Extent> = inner.tiered.iter().filter(in_it).cloned().collect();
        let from = extents.first()?.first_offset;
        let bytes = extents.iter().map(|extent| extent.len).sum();
        Some(Waiting { partition: self.clone(), extents, from, bytes })
    }
}

/// The tier's pieces with the new ones, without what lies below the log start.
fn joined(inner: &Inner, new: &[PlacedPiece]) -> VecDeque<Extent> {
    let (first, last) = match (new.first(), new.last()) {
        (Some(first), Some(last)) => (first.piece.first_offset, last.piece.last_offset),
        _ => (i64::MAX, i64::MIN),
    };
    let before = inner.tiered.iter().filter(|extent| extent.last_offset < first).cloned();
    let behind = inner.tiered.iter().filter(|extent| extent.first_offset > last && !new.is_empty()).cloned();
    let all = before.chain(new.iter().map(Extent::of_tiered)).chain(behind);
    all.filter(|extent| extent.last_offset >= inner.log_start).collect()
}

/// The batches of an extent from this offset on.
pub fn batches_from(extent: &Extent, bytes: &Bytes, from: i64) -> Bytes {
    let mut at = 0;
    for batch in split_batches(bytes) {
        let header = batch.expect("batches were checked when they were read").header;
        if header.base_offset >= from {
            break;
        }
        at += header.total_len();
    }
    assert!(at < bytes.len(), "offset {from} lies in {}..={}", extent.first_offset, extent.last_offset);
    bytes.slice(at..)
}

/// Where an extent's bytes come from, as an object's sources name it.
pub fn source_of(extent: &Extent) -> crate::segment::SegmentSource {
    use crate::segment::SegmentSource;
    match &extent.source {
        Source::Wal(place) => SegmentSource::WalFile(place.file),
        Source::Segment(place) | Source::Tier(place) => SegmentSource::Segment(place.segment.id),
    }
}
