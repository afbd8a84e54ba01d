//! Compaction of a log in a directory: one partition after the other, the one with most to gain first.
//!
//! The rewriter does it, so nothing else moves data meanwhile; retention may drop some. What is written is durable and read back before the
//! manifest leads to it, and what it replaces goes only afterwards: a crash at any step leaves one or the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use protocol::TopicIdPartition;
use protocol::batch::split_batches;
use world::task;

use super::cleaner::{Cleaned, Cleaner, Keys, Unclean};
use super::offset_map::OffsetMap;
use super::partition::{Readable, Round};
use crate::error::ReadError;
use crate::extent::{Extent, read_together};
use crate::manifest::PlacedPiece;
use crate::partition::Partition;
use crate::rewrite::{RewriteError, Rewriter};
use crate::segment::{SegmentSource, SegmentWriter, Written};
use crate::settings::{CompactionLimits, SyncMode};

/// Why a round ends early. Nothing of it counts then.
enum Stop {
    /// What it was about is gone, trimmed or deleted.
    Moved,
    Uncleanable(String),
    Error(RewriteError),
}

impl<E: Into<RewriteError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Error(error.into())
    }
}

impl From<Unclean> for Stop {
    fn from(unclean: Unclean) -> Self {
        Stop::Uncleanable(unclean.to_string())
    }
}

impl Rewriter {
    /// One round for the partition that needs it most; false when none does.
    pub(crate) async fn compact(&mut self, room: u64) -> Result<bool, RewriteError> {
        let limits = self.shared.compaction_limits();
        let now = self.shared.clock.monotonic();
        if !limits.enabled || self.compaction.is_resting(now) {
            return Ok(false);
        }
        let (now_ms, readable) = (self.shared.clock.now_ms(), self.readable());
        let all = self.shared.all_partitions();
        let Some((partition, candidate)) = self.compaction.filthiest(all, now_ms, readable, room) else {
            self.compaction.rest(now + limits.backoff);
            return Ok(false);
        };
        tracing::debug!("compacting {}: {candidate:?}", partition.id());
        let mut written = Vec::new();
        let cleaned = self.clean(&partition, now_ms, readable, &limits, &mut written).await;
        let counters = &self.shared.counters.compaction;
        counters.keys_bytes.store(0, Ordering::Relaxed);
        match cleaned {
            Ok(cleaned) => {
                let took = self.shared.clock.monotonic().saturating_sub(now);
                counters.count(&cleaned, took, self.shared.clock.now_ms());
            }
            Err(Stop::Moved) => {}
            Err(Stop::Error(error)) => return Err(error),
            Err(Stop::Uncleanable(why)) => self.compaction.give_up(&partition, &why, counters),
        }
        Ok(true)
    }

    fn readable(&self) -> Readable {
        match self.shared.settings.sync {
            SyncMode::Commit => Readable::ALL,
            SyncMode::Interval(_) => {
                let current = &self.shared.directory().current_file;
                Readable::WalFilesBelow(current.load(Ordering::Acquire))
            }
        }
    }

    async fn clean(
        &mut self,
        partition: &Arc<Partition>,
        now_ms: i64,
        readable: Readable,
        limits: &CompactionLimits,
        written: &mut Vec<Written>,
    ) -> Result<Cleaned, Stop> {
        let round = partition.compaction_round(now_ms, readable).ok_or(Stop::Moved)?;
        let keys = self.keys(partition, &round, limits).await?;
        let (compacted_to, count) =
            (keys.to(), round.extents.partition_point(|e| e.first_offset < keys.to()));
        let Round { mut extents, facts, .. } = round;
        extents.truncate(count);
        let end = extents.last().ok_or(Stop::Moved)?.last_offset + 1;
        let cleaner = Cleaner::new(keys, facts, end);
        let cleaned = self.write_cleaned(partition, &extents, cleaner, limits, written).await;
        let cleaned = match cleaned {
            Ok(cleaned) => cleaned,
            Err(stop) => {
                self.remove_files(written.iter().map(|written| written.info.id)).await;
                return Err(stop);
            }
        };
        let id = partition.id();
        let placed = |segment: &Written| {
            let info = segment.info.clone();
            let pieces = segment.pieces.get(&id).into_iter().flatten().copied();
            pieces.map(move |piece| PlacedPiece { segment: info.clone(), piece }).collect::<Vec<_>>()
        };
        let pieces: Vec<PlacedPiece> = written.iter().flat_map(placed).collect();
        assert!(
            pieces.windows(2).all(|pair| pair[0].piece.last_offset + 1 == pair[1].piece.first_offset)
                && pieces.first().map(|placed| placed.piece.first_offset) == Some(extents[0].first_offset)
                && pieces.last().map(|placed| placed.piece.last_offset + 1) == Some(end),
            "{id}: the new pieces cover the old extents: {pieces:?} {extents:?}"
        );
        let replacement = pieces.iter().map(Extent::of_piece).collect();
        self.publish(written, &BTreeMap::from([(id, pieces)]), Some((id, compacted_to))).await?;
        partition.replace(replacement, Some(compacted_to));
        self.settle(written).await?;
        Ok(cleaned)
    }

    /// The first pass.
    async fn keys(
        &mut self,
        partition: &Partition,
        round: &Round,
        limits: &CompactionLimits,
    ) -> Result<Keys, Stop> {
        let end = round.extents.last().map_or(0, |last| last.last_offset + 1);
        let keys_expected = (end - round.compacted_to).max(0) as u64;
        let seed = self.shared.rng.next_u64();
        let map = OffsetMap::new(keys_expected, limits.keys_bytes_max, limits.load_factor, seed);
        let mut keys = Keys::new(map, round.compacted_to, &round.facts);
        let counters = &self.shared.counters.compaction;
        counters.keys_bytes.store(keys.bytes(), Ordering::Relaxed);
        let mut rest = &round.extents[round.first_dirty..];
        while !rest.is_empty() {
            let group = at_once(rest, limits);
            rest = &rest[group.len()..];
            for bytes in self.read_whole(partition, group, limits).await? {
                for batch in split_batches(&bytes) {
                    let batch = batch.map_err(|error| Stop::Uncleanable(error.to_string()))?;
                    if !keys.take(&batch)? {
                        return Ok(keys);
                    }
                }
            }
        }
        Ok(keys)
    }

    /// The second pass: what stays is in new segments, durable and read back, when this returns.
    async fn write_cleaned(
        &mut self,
        partition: &Partition,
        extents: &[Extent],
        mut cleaner: Cleaner,
        limits: &CompactionLimits,
        written: &mut Vec<Written>,
    ) -> Result<Cleaned, Stop> {
        let mut output = Output { id: partition.id(), from: extents[0].first_offset, writer: None };
        let sources = sources_of(extents);
        let mut rest = extents;
        let mut kept = Vec::new();
        let result = 'groups: loop {
            if rest.is_empty() {
                break Ok(());
            }
            let group = at_once(rest, limits);
            rest = &rest[group.len()..];
            let all = match self.read_whole(partition, group, limits).await {
                Ok(all) => all,
                Err(stop) => break Err(stop),
            };
            for bytes in all {
                if let Err(unclean) = cleaner.take(&bytes, &mut kept) {
                    break 'groups Err(unclean.into());
                }
                for batch in kept.drain(..) {
                    if let Err(stop) = output.push(self, batch, &sources, written).await {
                        break 'groups Err(stop);
                    }
                }
            }
        };
        let result = result.and_then(|()| cleaner.finish().map_err(Stop::from));
        match (result, output.writer.take()) {
            (Ok(cleaned), Some(last)) => {
                self.close_segment(last, sources, written).await?;
                Ok(cleaned)
            }
            (Ok(_), None) => Err(Stop::Uncleanable("nothing stays, not even the last batch".into())),
            (Err(stop), left) => {
                if let Some(left) = left
                    && let Err(error) = left.abandon(&*self.shared.directory().disk).await
                {
                    tracing::warn!("a half-written segment stays until the next start: {error}");
                }
                Err(stop)
            }
        }
    }

    /// The bytes of all these extents, every checksum verified.
    async fn read_whole(
        &self,
        partition: &Partition,
        group: &[Extent],
        limits: &CompactionLimits,
    ) -> Result<Vec<Bytes>, Stop> {
        self.check_open()?;
        let bytes: u64 = group.iter().map(|extent| extent.len).sum();
        if limits.bytes_per_second > 0 {
            task::sleep(limits.time_for(bytes)).await;
        }
        match self.read(partition, group).await {
            Ok(all) => Ok(all),
            // What was let go meanwhile takes its file along.
            Err(_) if !group.iter().all(|extent| partition.has(extent)) => Err(Stop::Moved),
            Err((_, ReadError::Storage(error))) => Err(error.into()),
            Err((_, error)) => Err(Stop::Uncleanable(error.to_string())),
        }
    }
}

/// Where what stays goes.
struct Output {
    id: TopicIdPartition,
    /// The next batch stands for the offsets from here on.
    from: i64,
    writer: Option<SegmentWriter>,
}

impl Output {
    async fn push(
        &mut self,
        rewriter: &Rewriter,
        batch: protocol::batch::Batch,
        sources: &[SegmentSource],
        written: &mut Vec<Written>,
    ) -> Result<(), Stop> {
        let shared = &rewriter.shared;
        let len = batch.bytes.len() as u64;
        let is_full = |writer: &SegmentWriter| {
            writer.payload_len() > 0 && writer.payload_len() + len > shared.settings.segment_bytes_max
        };
        if self.writer.as_ref().is_some_and(is_full)
            && let Some(full) = self.writer.take()
        {
            rewriter.close_segment(full, sources.to_vec(), written).await?;
        }
        let writer = match self.writer.as_mut() {
            Some(writer) => writer,
            None => {
                let directory = shared.directory();
                let (disk, dir) = (&*directory.disk, directory.segments.dir());
                self.writer.insert(SegmentWriter::create(disk, dir, shared.rng.uuid()).await?)
            }
        };
        let next = batch.header.next_offset();
        writer.push(self.id, self.from, batch.bytes).await?;
        self.from = next;
        Ok(())
    }
}

/// The extents at the start of `run` that are read as one, and are in memory together.
fn at_once<'a>(run: &'a [Extent], limits: &CompactionLimits) -> &'a [Extent] {
    let together = read_together(run);
    let mut bytes = 0;
    let fits = |extent: &&Extent| {
        bytes += extent.len;
        bytes <= limits.read_bytes
    };
    let count = together.iter().take_while(fits).count();
    &together[..count.max(1)]
}

fn sources_of(extents: &[Extent]) -> Vec<SegmentSource> {
    let source = |extent: &Extent| match (extent.wal(), extent.segment()) {
        (Some(place), _) => Some(SegmentSource::WalFile(place.file)),
        (_, Some(place)) => Some(SegmentSource::Segment(place.segment.id)),
        _ => None,
    };
    extents.iter().filter_map(source).collect::<BTreeSet<_>>().into_iter().collect()
}
