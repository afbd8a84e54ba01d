//! Compaction of what a bucket has (F7): the leader of a partition does it, since it knows what is decided; what it does not lead it leaves alone.
//!
//! It reads what the manifest has of the partition; slots of a WAL count as active, and are rewritten first when compaction waits for them. The
//! result takes the place of exactly the pieces that it was made of, in one change of the manifest together with what is forgotten of aborted
//! transactions (F6). Who leads the partition by then does not matter: what is below the last stable offset is the same for everybody,
//! and of two who compact the same pieces the second one finds them gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::batch::split_batches;
use world::task;

use super::changes::Changes;
use super::inputs::{self, Input};
use super::merging::Moved;
use super::rewriter::{
    BucketRewriter, OVERTAKEN_PAUSE, Settled, Stop, TRIES_MAX, Uploaded, all_lead, manifest_records,
};
use crate::compaction::{Cleaned, Cleaner, Keys, OffsetMap, Readable, Round, Unclean};
use crate::extent::Extent;
use crate::manifest::PlacedPiece;
use crate::partition::Partition;
use crate::rewrite::RewriteError;
use crate::segment::{SegmentBuilder, SegmentSource};
use crate::settings::CompactionLimits;

/// Why a round comes to nothing.
enum End {
    /// Its pieces are not there any more, or the partition is not.
    Moved,
    Uncleanable(String),
    Stop(Stop),
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        End::Stop(stop)
    }
}

impl From<Unclean> for End {
    fn from(unclean: Unclean) -> Self {
        End::Uncleanable(unclean.to_string())
    }
}

impl BucketRewriter {
    /// Is there a partition that would be due if its slots were rewritten?
    pub(super) fn compaction_wants_slots(&self) -> bool {
        let (limits, now) = (self.shared.compaction_limits(), self.shared.clock.monotonic());
        if !limits.enabled || self.compaction.is_resting(now) {
            return false;
        }
        let (all, now_ms) = (self.shared.all_partitions(), self.shared.clock.now_ms());
        self.compaction.filthiest(all, now_ms, Readable::ALL, u64::MAX).is_some()
    }

    /// One round for the partition that needs it most; false when none does.
    pub(super) async fn compact(&mut self) -> Result<bool, Stop> {
        let limits = self.shared.compaction_limits();
        let now = self.shared.clock.monotonic();
        if !limits.enabled || self.compaction.is_resting(now) {
            return Ok(false);
        }
        let (all, now_ms) = (self.shared.all_partitions(), self.shared.clock.now_ms());
        let Some((partition, candidate)) =
            self.compaction.filthiest(all, now_ms, Readable::SegmentsOnly, u64::MAX)
        else {
            self.compaction.rest(now + limits.backoff);
            return Ok(false);
        };
        tracing::debug!("compacting {}: {candidate:?}", partition.id());
        let mut uploaded = Vec::new();
        let cleaned = self.clean(&partition, now_ms, &limits, &mut uploaded).await;
        let shared = self.shared.clone();
        let counters = &shared.counters.compaction;
        counters.keys_bytes.store(0, Ordering::Relaxed);
        match cleaned {
            Ok(cleaned) => {
                let took = self.shared.clock.monotonic().saturating_sub(now);
                counters.count(&cleaned, took, self.shared.clock.now_ms());
                return Ok(true);
            }
            // Others are at work on it: it is looked again when there is nothing else to do.
            Err(End::Moved) => self.compaction.rest(now + limits.backoff),
            Err(End::Uncleanable(why)) => self.compaction.give_up(&partition, &why, counters),
            Err(End::Stop(stop)) => {
                self.take_back(uploaded).await?;
                return Err(stop);
            }
        }
        self.take_back(uploaded).await?;
        Ok(true)
    }

    async fn take_back(&self, uploaded: Vec<Uploaded>) -> Result<(), Stop> {
        self.delete_unused(uploaded.into_iter().map(|uploaded| uploaded.key).collect()).await
    }

    async fn clean(
        &mut self,
        partition: &Arc<Partition>,
        now_ms: i64,
        limits: &CompactionLimits,
        uploaded: &mut Vec<Uploaded>,
    ) -> Result<Cleaned, End> {
        let id = partition.id();
        let round = partition.compaction_round(now_ms, Readable::SegmentsOnly).ok_or(End::Moved)?;
        let keys = self.keys(partition, &round, limits).await?;
        let (compacted_to, count) =
            (keys.to(), round.extents.partition_point(|e| e.first_offset < keys.to()));
        let from = pieces_of(&round.extents[..count]);
        let end = from.last().ok_or(End::Moved)?.piece.last_offset + 1;
        let cleaned =
            self.write_cleaned(partition, &from, Cleaner::new(keys, round.facts, end), limits, uploaded);
        let cleaned = cleaned.await?;
        let pieces = uploaded.iter().filter_map(|uploaded| uploaded.pieces.get(&id)).flatten();
        let moved = Moved { id, from, to: pieces.cloned().collect() };
        moved.check();
        for _ in 0..TRIES_MAX {
            let Some(shards) = self.shards().await? else { continue };
            let mut changes = Changes::of(shards);
            if !changes.put(&moved) {
                return Err(End::Moved);
            }
            changes.compacted(id, compacted_to);
            changes.trim(&self.catalog.read(), self.shared.settings.producers_max);
            if self.change(changes, manifest_records, all_lead).await? == Settled::Accepted {
                return Ok(cleaned);
            }
            task::sleep(OVERTAKEN_PAUSE).await;
        }
        Err(End::Moved)
    }

    async fn keys(
        &self,
        partition: &Partition,
        round: &Round,
        limits: &CompactionLimits,
    ) -> Result<Keys, End> {
        let end = round.extents.last().map_or(0, |last| last.last_offset + 1);
        let keys_expected = (end - round.compacted_to).max(0) as u64;
        let seed = self.shared.rng.next_u64();
        let map = OffsetMap::new(keys_expected, limits.keys_bytes_max, limits.load_factor, seed);
        let mut keys = Keys::new(map, round.compacted_to, &round.facts);
        self.shared.counters.compaction.keys_bytes.store(keys.bytes(), Ordering::Relaxed);
        let short = self.short(partition, pieces_of(&round.extents[round.first_dirty..])).await?;
        let mut rest = short.as_slice();
        while !rest.is_empty() {
            let (window, behind) = rest.split_at(inputs::window(rest));
            rest = behind;
            for bytes in self.read_window(window, limits).await? {
                for batch in split_batches(&bytes) {
                    let batch = batch.map_err(|error| End::Uncleanable(error.to_string()))?;
                    if !keys.take(&batch)? {
                        return Ok(keys);
                    }
                }
                // Others want the processor as well.
                task::yield_now().await;
            }
        }
        Ok(keys)
    }

    /// What stays is in the bucket when this returns, read back, and nothing leads to it.
    async fn write_cleaned(
        &self,
        partition: &Partition,
        from: &[PlacedPiece],
        mut cleaner: Cleaner,
        limits: &CompactionLimits,
        uploaded: &mut Vec<Uploaded>,
    ) -> Result<Cleaned, End> {
        let id = partition.id();
        let object_bytes = self.shared.settings.bucket_segment_bytes;
        let mut sources: Vec<_> = from.iter().map(|placed| placed.segment.id).collect();
        sources.sort_unstable();
        sources.dedup();
        let sources: Vec<_> = sources.into_iter().map(SegmentSource::Segment).collect();
        let total: u64 = from.iter().map(|placed| placed.piece.len).sum();
        let fresh = || SegmentBuilder::new(object_bytes, total.min(object_bytes) as usize);
        let mut builder = fresh();
        let mut offset = from[0].piece.first_offset;
        let mut kept = Vec::new();
        let short = self.short(partition, from.to_vec()).await?;
        let mut rest = short.as_slice();
        while !rest.is_empty() {
            let (window, behind) = rest.split_at(inputs::window(rest));
            rest = behind;
            for bytes in self.read_window(window, limits).await? {
                cleaner.take(&bytes, &mut kept)?;
                for batch in kept.drain(..) {
                    if !builder.is_empty() && builder.len() + batch.bytes.len() as u64 > object_bytes {
                        let full = std::mem::replace(&mut builder, fresh());
                        uploaded.push(self.upload(full, sources.clone()).await?);
                    }
                    let next = batch.header.next_offset();
                    builder.push(id, offset, batch.bytes).map_err(Stop::from)?;
                    offset = next;
                }
                task::yield_now().await;
            }
        }
        let cleaned = cleaner.finish()?;
        if builder.is_empty() && uploaded.is_empty() {
            return Err(End::Uncleanable("nothing stays, not even the last batch".into()));
        }
        if !builder.is_empty() {
            uploaded.push(self.upload(builder, sources).await?);
        }
        Ok(cleaned)
    }

    /// In pieces that can be read by themselves.
    async fn short(&self, partition: &Partition, pieces: Vec<PlacedPiece>) -> Result<Vec<Input>, End> {
        let inputs: Vec<Input> = pieces.into_iter().map(|placed| (partition.id(), placed)).collect();
        self.cut(&inputs).await?.ok_or(End::Moved)
    }

    async fn read_window(
        &self,
        window: &[Input],
        limits: &CompactionLimits,
    ) -> Result<Vec<bytes::Bytes>, End> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(Stop::from(RewriteError::Closing).into());
        }
        let bytes: u64 = window.iter().map(|(_, placed)| placed.piece.len).sum();
        if limits.bytes_per_second > 0 {
            task::sleep(limits.time_for(bytes)).await;
        }
        match inputs::read(&self.bucket, window).await {
            Ok(read) => Ok(read),
            Err(error) => self.unreadable(error).await?.ok_or(End::Moved),
        }
    }
}

fn pieces_of(extents: &[Extent]) -> Vec<PlacedPiece> {
    extents.iter().filter_map(Extent::piece).collect()
}
