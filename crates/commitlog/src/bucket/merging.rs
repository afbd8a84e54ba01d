//! What of the segments should become one segment. A job of the rewriter makes a segment of what came in a moment, with a little of
//! many partitions; left like that, a petabyte would be millions of small objects and its manifest longer than the memory of a broker.
//!
//! ```text
//!  jobs:      ▂▂▂▂▂▂▂▂                                          of all partitions
//!  merged:    ▇ ▇ ▇ ▇        a a │ b b │ c c                     of all, as long as a segment may be: runs of 8 jobs
//!  of a run:  ▇ ▇ ▇ ▇        a a a a a a a a │ b b b b b b b b   of one shard, a run of each partition 8 times as long, and so on
//! ```
//!
//! Sizes count in *steps* of a factor, `bucket_merge_segments`: what is merged has so many inputs, or is as long as a segment may
//! be, so each time a byte is written again it comes at least one step further. That bounds how often: ⌈log8(256 MiB / a job)⌉ as
//! long as the object is small, ⌈log8(32 MiB / a run)⌉ as long as the runs of its partitions are short.
//!
//! Nothing here asks anybody: it is what should be done with the manifest as it is. Whether it may is seen when it is done.

use std::collections::BTreeMap;

use protocol::TopicIdPartition;

use super::inputs::Input;
use super::shards::BucketShard;
use crate::manifest::{PlacedPiece, shard_of};
use crate::segment::{SegmentId, SegmentInfo};
use crate::settings::LogSettings;

/// Smaller ones are all alike.
const STEPS_MAX: u32 = 8;

/// How long is long enough.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of a segment.
    pub segment_bytes: u64,
    /// Of what a partition has in a row in one segment.
    pub run_bytes: u64,
    /// So many of a size become one.
    pub factor: u64,
}

/// Why something is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Less than half of the segment lives.
    MostlyDead,
    SmallSegments,
    ShortRuns,
}

#[derive(Debug)]
pub struct Merge {
    pub reason: Reason,
    /// In the order of the output: by shard, partition, offset. So a later merge of one shard finds it in one place.
    pub inputs: Vec<Input>,
}

/// A segment as far as the manifest has it.
struct Seen<'a> {
    info: &'a SegmentInfo,
    live_bytes: u64,
}

/// What a partition has in a row in one segment.
struct Run {
    segment: SegmentId,
    pieces: std::ops::Range<usize>,
    bytes: u64,
}

impl Sizes {
    pub fn of(settings: &LogSettings) -> Self {
        Self {
            segment_bytes: settings.bucket_segment_bytes,
            run_bytes: settings.segment_own_bytes.min(settings.bucket_segment_bytes),
            factor: settings.bucket_merge_segments.max(2),
        }
    }

    /// 0: from here on an object is long enough.
    fn segment_steps(&self, bytes: u64) -> u32 {
        self.steps(bytes, self.segment_bytes / 2)
    }

    /// How many steps it is away from `enough`.
    fn steps(&self, bytes: u64, enough: u64) -> u32 {
        let (mut bound, mut steps) = (enough, 0);
        while bytes < bound && steps < STEPS_MAX {
            (bound, steps) = (bound / self.factor, steps + 1);
        }
        steps
    }
}

/// The next thing to do, if there is one. `is_ours`: by the segment's uploader, for each segment exactly one broker.
pub fn next_merge(
    shards: &[&BucketShard],
    is_ours: impl Fn(&SegmentId) -> bool,
    sizes: &Sizes,
) -> Option<Merge> {
    let mut seen: BTreeMap<SegmentId, Seen> = BTreeMap::new();
    // Of a petabyte there are millions.
    for placed in shards.iter().flat_map(|shard| shard.partitions.values()).flat_map(|known| &known.pieces) {
        if is_ours(&placed.segment.id) {
            let fresh = || Seen { info: &placed.segment, live_bytes: 0 };
            seen.entry(placed.segment.id).or_insert_with(fresh).live_bytes += placed.piece.len;
        }
    }
    // First, because it leaves segments behind of which nothing lives: those cost no writing.
    let is_long =
        |id: &SegmentId| seen.get(id).is_some_and(|seen| sizes.segment_steps(seen.info.payload_len) == 0);
    let of_shard = |shard: &&BucketShard| short_runs(shard, &is_long, sizes);
    if let Some(inputs) = shards.iter().find_map(of_shard) {
        return Some(Merge { reason: Reason::ShortRuns, inputs });
    }
    if let Some(dead) = mostly_dead(&seen) {
        return Some(Merge { reason: Reason::MostlyDead, inputs: all_of(shards, &[dead]) });
    }
    let small = small_segments(&seen, sizes)?;
    Some(Merge { reason: Reason::SmallSegments, inputs: all_of(shards, &small) })
}

/// That of which the least lives, by its part.
fn mostly_dead(seen: &BTreeMap<SegmentId, Seen>) -> Option<SegmentId> {
    let dead = seen.iter().filter(|(_, seen)| seen.live_bytes * 2 < seen.info.payload_len);
    let part = |(_, seen): &(&SegmentId, &Seen)| seen.live_bytes * 1000 / seen.info.payload_len.max(1);
    dead.min_by_key(part).map(|(id, _)| *id)
}

/// Of the smallest ones as many as make one that is a step longer, the oldest first.
fn small_segments(seen: &BTreeMap<SegmentId, Seen>, sizes: &Sizes) -> Option<Vec<SegmentId>> {
    // What was long is not small because some of it has gone: half of it has to be dead before it is touched again.
    let steps = |seen: &Seen| sizes.segment_steps(seen.info.payload_len);
    let farthest = seen.values().map(steps).max()?;
    for least in (1..=farthest).rev() {
        let mut small: Vec<(i64, SegmentId, u64)> = seen
            .iter()
            .filter(|(_, seen)| steps(seen) >= least)
            .map(|(id, seen)| (seen.info.created_ms, *id, seen.live_bytes))
            .collect();
        small.sort_unstable();
        let mut bytes = 0;
        let fits = |(_, _, live_bytes): &&(i64, SegmentId, u64)| {
            let is_full = bytes >= sizes.segment_bytes;
            bytes += live_bytes;
            !is_full
        };
        let chosen: Vec<SegmentId> = small.iter().take_while(fits).map(|(_, id, _)| *id).collect();
        let total: u64 = small.iter().take(chosen.len()).map(|(_, _, live_bytes)| live_bytes).sum();
        // Smaller ones go along, but are no reason: they would take the large ones through every small step of theirs.
        let alike = chosen.iter().filter(|id| steps(&seen[*id]) == least).count() as u64;
        if alike >= sizes.factor || total >= sizes.segment_bytes {
            return Some(chosen);
        }
    }
    None
}

/// Everything that lives in these segments.
fn all_of(shards: &[&BucketShard], segments: &[SegmentId]) -> Vec<Input> {
    let mut inputs = Vec::new();
    for shard in shards {
        for (id, known) in &shard.partitions {
            let wanted = known.pieces.iter().filter(|placed| segments.contains(&placed.segment.id));
            inputs.extend(wanted.map(|placed| (*id, placed.clone())));
        }
    }
    in_order(&mut inputs);
    inputs
}

pub fn in_order(inputs: &mut [Input]) {
    inputs.sort_by_key(|(id, placed)| (shard_of(id), *id, placed.piece.first_offset));
}

/// Partitions of one shard whose newest runs in long segments are many and short: those runs, in one segment. Only if they fill it
/// by half, or it would be small itself.
fn short_runs(
    shard: &BucketShard,
    is_long: &impl Fn(&SegmentId) -> bool,
    sizes: &Sizes,
) -> Option<Vec<Input>> {
    let (mut inputs, mut bytes) = (Vec::new(), 0);
    for (id, known) in &shard.partitions {
        let runs = runs(&known.pieces);
        // What is still in small segments comes here later, in longer runs.
        let settled = runs.iter().rposition(|run| is_long(&run.segment)).map_or(0, |last| last + 1);
        let newest_first = || {
            let usable = |run: &&Run| is_long(&run.segment) && run.bytes < sizes.run_bytes;
            runs[..settled].iter().rev().take_while(usable)
        };
        let steps = |run: &Run| sizes.steps(run.bytes, sizes.run_bytes);
        let alike = |least: u32| {
            let small = newest_first().take_while(|run| steps(run) >= least);
            small.filter(|run| steps(run) == least).count() as u64
        };
        let Some(least) = (1..=STEPS_MAX).rev().find(|least| alike(*least) >= sizes.factor) else {
            continue;
        };
        for run in newest_first().take_while(|run| steps(run) >= least) {
            inputs.extend(known.pieces[run.pieces.clone()].iter().map(|placed| (*id, placed.clone())));
            bytes += run.bytes;
        }
        if bytes >= sizes.segment_bytes {
            break;
        }
    }
    in_order(&mut inputs);
    (bytes >= sizes.segment_bytes / 2).then_some(inputs)
}

fn runs(pieces: &[PlacedPiece]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, placed) in pieces.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.segment == placed.segment.id => {
                run.pieces.end = index + 1;
                run.bytes += placed.piece.len;
            }
            _ => runs.push(Run {
                segment: placed.segment.id,
                pieces: index..index + 1,
                bytes: placed.piece.len,
            }),
        }
    }
    runs
}

/// A run of offsets, in the pieces where it was and those where it is now.
#[derive(Debug, PartialEq, Eq)]
pub struct Moved {
    pub id: TopicIdPartition,
    pub from: Vec<PlacedPiece>,
    pub to: Vec<PlacedPiece>,
}

/// The pieces of an output beside what they are made of. Both hold the same offsets.
pub fn moved(inputs: &[Input], mut outputs: BTreeMap<TopicIdPartition, Vec<PlacedPiece>>) -> Vec<Moved> {
    let mut all: Vec<Moved> = Vec::new();
    for (id, placed) in inputs {
        let continues = |moved: &Moved| {
            let last = moved.from.last().expect("it is made with one");
            moved.id == *id && last.piece.last_offset + 1 == placed.piece.first_offset
        };
        match all.last_mut() {
            Some(moved) if continues(moved) => moved.from.push(placed.clone()),
            _ => all.push(Moved { id: *id, from: vec![placed.clone()], to: Vec::new() }),
        }
    }
    for moved in &mut all {
        let last = moved.from.last().expect("it is made with one").piece.last_offset;
        let made = outputs.get_mut(&moved.id).expect("of every input there is an output");
        let count = made.partition_point(|placed| placed.piece.last_offset <= last);
        moved.to = made.drain(..count).collect();
        moved.check();
    }
    all
}

impl Moved {
    /// Both cover the same offsets.
    pub fn check(&self) {
        let ends = |placed: &[PlacedPiece]| {
            let (first, last) = (placed.first(), placed.last());
            (first.map(|placed| placed.piece.first_offset), last.map(|placed| placed.piece.last_offset))
        };
        assert_eq!(ends(&self.from), ends(&self.to), "{}: what went in came out", self.id);
        let continues = |pair: &[PlacedPiece]| pair[0].piece.last_offset + 1 == pair[1].piece.first_offset;
        assert!(self.to.windows(2).all(continues), "{}: without gaps: {:?}", self.id, self.to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::shards::ShardPartition;
    use crate::segment::Piece;
    use protocol::Uuid;
    use std::sync::Arc;

    const SIZES: Sizes = Sizes { segment_bytes: 1 << 20, run_bytes: 128 << 10, factor: 4 };
    const PARTITIONS: i32 = 3;

    fn id(partition: i32) -> TopicIdPartition {
        TopicIdPartition { topic_id: Uuid([1; 16]), partition }
    }

    /// Of shard 0, whatever its partitions' shard is: the sizes decide, not the place.
    #[derive(Default)]
    struct House {
        shard: BucketShard,
        segments: u64,
        ingested: u64,
        written: u64,
    }

    impl House {
        fn segment(&mut self, payload_len: u64) -> Arc<SegmentInfo> {
            self.segments += 1;
            let (number, mut id) = (self.segments, [0; 16]);
            id[8..].copy_from_slice(&number.to_be_bytes());
            self.written += payload_len;
            let created_ms = number as i64;
            Arc::new(SegmentInfo { id, len: payload_len, payload_len, header_hash: [0; 16], created_ms })
        }

        /// A job that has so many bytes of each partition.
        fn job(&mut self, bytes: u64) {
            let segment = self.segment(bytes * PARTITIONS as u64);
            self.ingested += bytes * PARTITIONS as u64;
            for partition in 0..PARTITIONS {
                let known = self.shard.partitions.entry(id(partition)).or_default();
                let first_offset = known.pieces.last().map_or(0, |placed| placed.piece.last_offset + 1);
                let piece = Piece {
                    first_offset,
                    last_offset: first_offset,
                    max_timestamp: 0,
                    record_count: 1,
                    leader_epoch: 0,
                    position: bytes * partition as u64,
                    len: bytes,
                };
                known.pieces.push(PlacedPiece { segment: segment.clone(), piece });
            }
        }

        /// Merges as long as there is something to merge.
        fn settle(&mut self) {
            while let Some(merge) = next_merge(&[&self.shard], |_| true, &SIZES) {
                assert_ne!(merge.reason, Reason::MostlyDead);
                let bytes = merge.inputs.iter().map(|(_, placed)| placed.piece.len).sum();
                assert!(bytes <= SIZES.segment_bytes * 3 / 2 + SIZES.run_bytes * SIZES.factor);
                let segment = self.segment(bytes);
                let mut made: BTreeMap<TopicIdPartition, Vec<PlacedPiece>> = BTreeMap::new();
                for (id, placed) in &merge.inputs {
                    let pieces = made.entry(*id).or_default();
                    match pieces.last_mut() {
                        Some(last) if last.piece.last_offset + 1 == placed.piece.first_offset => {
                            last.piece.last_offset = placed.piece.last_offset;
                            last.piece.len += placed.piece.len;
                        }
                        _ => pieces.push(PlacedPiece { segment: segment.clone(), piece: placed.piece }),
                    }
                }
                for Moved { id, from, to } in moved(&merge.inputs, made) {
                    let ShardPartition { pieces, .. } = self.shard.partitions.get_mut(&id).unwrap();
                    let at = pieces.iter().position(|placed| *placed == from[0]).unwrap();
                    assert_eq!(pieces[at..at + from.len()], from);
                    pieces.splice(at..at + from.len(), to);
                }
            }
        }

        fn segments_in_use(&self) -> usize {
            self.shard.segments().len()
        }
    }

    #[test]
    fn a_byte_is_written_a_few_times_and_runs_become_long() {
        for (job_bytes, jobs, at_most) in [(10, 30_000, 8.0), (1 << 10, 12_000, 5.5), (90 << 10, 300, 2.1)] {
            let mut house = House::default();
            for _ in 0..jobs {
                house.job(job_bytes);
                house.settle();
            }
            let amplification = house.written as f64 / house.ingested as f64;
            let pieces: usize = house.shard.partitions.values().map(|known| known.pieces.len()).sum();
            let total = house.ingested;
            println!(
                "{job_bytes} bytes a job: {amplification:.2} times, {} segments, {pieces} pieces of {total} bytes",
                house.segments_in_use()
            );
            assert!(amplification <= at_most, "{job_bytes}: {amplification}");
            let least = total / SIZES.segment_bytes;
            assert!(
                (house.segments_in_use() as u64) < least * 3 + 40,
                "{} of {least}",
                house.segments_in_use()
            );
            assert!((pieces as u64) < 3 * (total / PARTITIONS as u64 / SIZES.run_bytes * 3 + 40), "{pieces}");
        }
    }

    #[test]
    fn what_is_not_ours_stays_and_what_is_mostly_dead_goes_first() {
        let mut house = House::default();
        for _ in 0..8 {
            house.job(1000);
        }
        assert!(next_merge(&[&house.shard], |_| false, &SIZES).is_none());
        let few = |id: &SegmentId| id[15] <= 3;
        assert!(next_merge(&[&house.shard], few, &SIZES).is_none(), "three are not four");
        let merge = next_merge(&[&house.shard], |_| true, &SIZES).unwrap();
        assert_eq!((merge.reason, merge.inputs.len()), (Reason::SmallSegments, 24));
        for partition in [0, 2] {
            house.shard.partitions.get_mut(&id(partition)).unwrap().pieces.remove(0);
        }
        let merge = next_merge(&[&house.shard], |_| true, &SIZES).unwrap();
        assert_eq!((merge.reason, merge.inputs.len()), (Reason::MostlyDead, 1));
        assert_eq!(merge.inputs[0].0, id(1));
    }
}
