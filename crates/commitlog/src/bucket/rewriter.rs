//! Turns slots into segments and small segments into larger ones, and removes what nobody needs any more.
//!
//! ```text
//!  slots 7, 8, 9: a b │ a c │ b          segment: a a │ b b │ c
//!       mark ─▶ 7                 ──▶        mark ─▶ 10, the manifest leads to the segment, slots 7 to 9 go
//! ```
//!
//! It works on what the bucket says, not on partitions that are open here: those of a sealed WAL may be led by anybody. A slot is
//! taken when it continues each of its partitions where the manifest ends; else an older WAL has to be rewritten first, perhaps by
//! another broker. One record says all of it at once: the mark, and shards of the manifest with what the slots said besides batches
//! (R6, F2). It counts when our own replay has accepted it (R7); before that nothing goes. What was uploaded for a record that did
//! not count goes at once, or when its uploader is fenced (R8).
//!
//! What should be merged says `merging.rs`. Exactly one broker merges a segment: who uploaded it, or who has that one's duties. A
//! merge is made of pieces as the manifest has them, named one by one; it is put into the newest version of the manifest where
//! all of them are still there, and the catalog takes it only if that is the newest version still. So it may take as long as it
//! likes: whoever changed something meanwhile is not undone, and the segment that was made is of use all the same.
//!
//! What is damaged or missing is left as it is, said, and looked at again later; the rest goes on (P7).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use catalog::{Catalog, CatalogError, MetadataRecord, Precondition, ShardChange, State};
use futures_util::future::{join_all, try_join_all};
use protocol::{Str, TopicIdPartition};
use world::broken;
use world::bucket::{Bucket, BucketError, patiently};
use world::task;

use super::changes::{AllShards, Changes, all_pieces, is_below, unused};
use super::folder::{self, new_segment_id, put, segment_key};
use super::graves::Graves;
use super::inputs::{self, Input, InputError};
use super::loader::follow_manifest;
use super::merging::{Merge, Sizes, moved, next_merge};
use super::piece_index::is_long;
use super::shards::{BucketShard, Folding, Made, ShardError, Version, heads, made};
use super::slot::{check_place, log_starts_of, slot_key};
use super::slot_stream::SlotStream;
use super::takeover::PATIENCE;
use crate::checkpoint::PartitionCheckpoint;
use crate::compaction::Schedule;
use crate::container::{self, Footer, FooterExtent, LogStart};
use crate::error::ReadError;
use crate::log::{LogState, Shared};
use crate::manifest::{PlacedPiece, SHARDS, shard_of};
use crate::producers::produced;
use crate::rewrite::RewriteError;
use crate::segment::{PIECE_BYTES, SegmentBuilder, SegmentId, SegmentIdentity, SegmentSource, tallies_of};

/// Between two looks for objects that nobody needs: late requests bring them back, for ever.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
const UNKNOWN_PAUSE: Duration = Duration::from_millis(200);
/// Between two tries to change what others change at the same time.
pub(super) const OVERTAKEN_PAUSE: Duration = Duration::from_millis(50);
/// Such tries, before all of it is done anew.
pub(super) const TRIES_MAX: u32 = 20;
/// What is damaged is looked at again after this: a store may have had a bad hour.
const DAMAGED_PAUSE: Duration = Duration::from_secs(600);
const DELETES_AT_ONCE: usize = 16;
const LISTED_AT_ONCE: usize = 1000;
/// WALs that one request forgets.
const FORGOTTEN_AT_ONCE: usize = 1000;
/// WALs that one job takes something of.
const WALS_AT_ONCE: usize = 64;

pub struct BucketRewriter {
    pub(super) shared: Arc<Shared>,
    pub(super) bucket: Arc<dyn Bucket>,
    pub(super) catalog: Arc<Catalog>,
    /// Damaged or missing, and until when it is left alone.
    damaged: BTreeMap<Place, Duration>,
    /// WALs whose next slot does not continue the manifest, and what is missing before it: they need not be read again until it is there.
    blocked: BTreeMap<u64, Gap>,
    graves: Graves,
    swept_at: Option<Duration>,
    /// WALs that the last sweep found rewritten, with nothing left below their marks.
    empty: BTreeSet<u64>,
    /// When the manifest was looked through for something to merge, with nothing found.
    merged_at: Option<Duration>,
    /// That manifest, and at which position of the catalog.
    examined: Option<(Vec<u64>, u64)>,
    pub(super) compaction: Schedule,
}

/// What cannot be worked on when it is damaged; everything else can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Wal(u64),
    Segment(SegmentId),
    Shard(u32),
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Wal(wal_id) => write!(out, "WAL {wal_id}"),
            Place::Segment(id) => write!(out, "{}", segment_key(id)),
            Place::Shard(number) => write!(out, "shard {number} of the manifest"),
        }
    }
}

/// Why a step ends early.
pub(super) enum Stop {
    Damaged(Place, String),
    Error(RewriteError),
}

impl<E: Into<RewriteError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Error(error.into())
    }
}

/// Batches of one partition: the first of their offsets, and the bytes that they lie in.
type Run = (TopicIdPartition, i64, Bytes);

/// What a slot adds to the manifest, of topics that were there when it was read.
struct SlotIndex {
    key: String,
    created_ms: i64,
    footer: Footer,
    log_starts: Vec<LogStart>,
}

/// Something of this partition up to this offset is missing in the manifest: another WAL has it.
#[derive(Clone, Copy)]
struct Gap {
    id: TopicIdPartition,
    to: i64,
}

/// Slots of one WAL that go together.
struct Stretch {
    wal_id: u64,
    from: u64,
    to: u64,
    slots: Vec<SlotIndex>,
}

/// What goes into one segment and one record of the metadata: after a bad hour there are many WALs with a little each.
struct Job {
    stretches: Vec<Stretch>,
    runs: Vec<Run>,
}

/// A slot, and the object that its batches lie in.
type Taken = (SlotIndex, Bytes);

/// A segment that is in the bucket, and that nothing leads to yet.
pub(super) struct Uploaded {
    pub key: String,
    pub pieces: BTreeMap<TopicIdPartition, Vec<PlacedPiece>>,
}

/// What was listed.
#[derive(Default)]
struct Listing {
    objects: u64,
    bytes: u64,
}

/// What became of a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Accepted,
    /// Somebody else has changed the same meanwhile: to be done anew.
    Overtaken,
}

impl BucketRewriter {
    pub fn new(shared: Arc<Shared>) -> Self {
        let medium = shared.medium.bucket();
        let (bucket, catalog) = (medium.bucket.clone(), medium.catalog.clone());
        Self {
            shared,
            bucket,
            catalog,
            damaged: BTreeMap::new(),
            blocked: BTreeMap::new(),
            graves: Graves::default(),
            swept_at: None,
            empty: BTreeSet::new(),
            merged_at: None,
            examined: None,
            compaction: Schedule::default(),
        }
    }

    /// Does one thing that is due; false when there is none.
    pub async fn step(&mut self) -> Result<bool, RewriteError> {
        let done = self.next().await;
        let counters = &self.shared.counters;
        counters.replaced_objects.store(self.graves.len() as u64, Ordering::Relaxed);
        let done = match done {
            Ok(done) => Ok(done),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Damaged(place, detail)) => {
                self.damaged.insert(place, self.shared.clock.monotonic() + DAMAGED_PAUSE);
                Err(RewriteError::Damaged { place: place.to_string(), detail })
            }
        };
        counters.rewriter_damaged.store(self.damaged.len() as u64, Ordering::Relaxed);
        done
    }

    async fn next(&mut self) -> Result<bool, Stop> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(RewriteError::Closing.into());
        }
        let is_fenced = self.catalog.is_fenced() && !broken::rule("slatedb-1682");
        if matches!(self.shared.state(), LogState::Failed(_)) || is_fenced {
            return Ok(false);
        }
        if broken::rule("last-topic-deleted") && self.catalog.read().topic_count() == 0 {
            return Ok(false);
        }
        let now = self.shared.clock.monotonic();
        self.damaged.retain(|_, until| *until > now);
        let due = self.graves.take_due(now);
        self.delete(due).await;
        follow_manifest(&self.shared).await;
        let is_wanted = self.compaction_wants_slots();
        let mut due = self.due(is_wanted);
        self.blocked.retain(|wal_id, _| due.iter().any(|(due, _)| due == wal_id));
        let blocked = self.still_blocked().await?;
        due.retain(|(wal_id, _)| {
            !self.damaged.contains_key(&Place::Wal(*wal_id)) && !blocked.contains(wal_id)
        });
        if self.rewrite(due).await? {
            return Ok(true);
        }
        // What compaction removes need not be merged.
        if self.compact().await? {
            return Ok(true);
        }
        let interval = self.shared.settings.bucket_merge_interval;
        if self.merged_at.is_none_or(|at| now.saturating_sub(at) >= interval) {
            if self.tidy().await? {
                return Ok(true);
            }
            self.merged_at = Some(now);
        }
        let at_once = broken::rule("slatedb-352") || broken::rule("sweep-before-manifest");
        if at_once || self.swept_at.is_none_or(|at| now.saturating_sub(at) >= SWEEP_INTERVAL) {
            self.sweep().await?;
            self.swept_at = Some(now);
        }
        Ok(false)
    }

    /// Those for which what was missing is missing still.
    async fn still_blocked(&self) -> Result<BTreeSet<u64>, Stop> {
        if self.blocked.is_empty() {
            return Ok(BTreeSet::new());
        }
        let Some(shards) = self.shards().await? else { return Ok(BTreeSet::new()) };
        let (changes, state) = (Changes::of(shards), self.catalog.read());
        let is_open = |gap: &Gap| {
            let lives = state.topic_by_id(gap.id.topic_id).is_some();
            lives && changes.log_end(&gap.id).is_some_and(|end| end < gap.to)
        };
        Ok(self.blocked.iter().filter(|(_, gap)| is_open(gap)).map(|(wal_id, _)| *wal_id).collect())
    }

    /// WALs that have slots to rewrite, the oldest first: one that is sealed at once, so that a takeover has little to read; our
    /// own when enough has come, when what has come is old or wanted, or when partitions have gone elsewhere.
    fn due(&self, is_wanted: bool) -> Vec<(u64, Range<u64>)> {
        let (me, settings) = (self.catalog.wal_id(), &self.shared.settings);
        let state = self.catalog.read();
        let mut due = Vec::new();
        let anybodys = broken::rule("double-rewriter");
        for (wal_id, wal) in state.wals().filter(|(_, wal)| wal.rewriter == me || anybodys) {
            match wal.sealed_at {
                Some(end) if wal.mark < end => due.push((wal_id, wal.mark..end)),
                Some(_) => {}
                None if wal_id == me => {
                    let own = self.shared.medium.bucket().backlog(wal.mark, self.shared.clock.monotonic());
                    let many =
                        own.slots >= settings.bucket_rewrite_slots || own.bytes >= settings.rewrite_job_bytes;
                    let old = own.age >= settings.bucket_rewrite_age;
                    // Each rewrite costs requests, so what compaction waits for is not fetched commit by commit.
                    let is_wanted = is_wanted && own.age >= self.shared.compaction_limits().backoff;
                    if own.slots > 0 && (many || old || is_wanted || wal.moved_to > wal.mark) {
                        due.push((wal_id, wal.mark..wal.mark + own.slots));
                    }
                }
                // Somebody else's that is not sealed: not ours yet.
                None => {}
            }
        }
        due
    }

    /// False: nothing of these can be rewritten now, others come first.
    async fn rewrite(&mut self, due: Vec<(u64, Range<u64>)>) -> Result<bool, Stop> {
        let Some(Job { stretches, runs }) = self.read(due).await? else { return Ok(false) };
        let uploaded = match runs.is_empty() {
            true => None,
            false => {
                let mut builder =
                    SegmentBuilder::new(PIECE_BYTES, runs.iter().map(|(_, _, run)| run.len()).sum());
                for (id, from, run) in runs {
                    builder.push(id, from, run)?;
                }
                let source = |stretch: &Stretch| {
                    let Stretch { wal_id, from, to, .. } = *stretch;
                    SegmentSource::Slots { wal_id, from, to }
                };
                Some(self.upload(builder, stretches.iter().map(source).collect()).await?)
            }
        };
        // They count together or not at all, so the first one may say what becomes of the manifest.
        let records = |shards: Vec<ShardChange>| {
            let shards = std::iter::once(shards).chain(std::iter::repeat_with(Vec::new));
            let record = |(stretch, shards): (&Stretch, Vec<ShardChange>)| {
                let Stretch { wal_id, from, to, .. } = *stretch;
                MetadataRecord::RewriteWal { wal_id, from, to, shards }
            };
            stretches.iter().zip(shards).map(record).collect()
        };
        // Nobody else may move them.
        let marked = |state: &State, _: &[(u32, Str)]| {
            stretches.iter().all(|of| state.wal(of.wal_id).is_some_and(|wal| wal.mark == of.to))
        };
        let me = self.catalog.wal_id();
        let is_due = |state: &State| {
            let anybodys = broken::rule("double-rewriter");
            stretches.iter().all(|of| {
                let wal = state.wal(of.wal_id);
                wal.is_some_and(|wal| wal.mark == of.from && (wal.rewriter == me || anybodys))
            })
        };
        // Somebody else changes the same shards: what was uploaded is good for the next version of them as well.
        for _ in 0..TRIES_MAX {
            let Some(old) = self.shards().await? else { continue };
            if !is_due(&self.catalog.read()) {
                break;
            }
            let mut changes = Changes::of(old);
            let mut ends = BTreeMap::new();
            let mut is_continued = true;
            for (wal_id, slot) in
                stretches.iter().flat_map(|of| of.slots.iter().map(move |slot| (of.wal_id, slot)))
            {
                is_continued = is_continued && self.gap(wal_id, &changes, &mut ends, slot)?.is_none();
                if is_continued {
                    self.take(wal_id, &mut changes, slot)?;
                }
            }
            if !is_continued {
                break;
            }
            for (id, pieces) in uploaded.iter().flat_map(|uploaded| &uploaded.pieces) {
                changes.add(*id, pieces.clone());
            }
            changes.trim(&self.catalog.read(), self.shared.settings.producers_max);
            if self.change(changes, records, marked).await? == Settled::Accepted {
                let keys = |of: &Stretch| {
                    let wal_id = of.wal_id;
                    (of.from..of.to).map(move |slot| slot_key(wal_id, slot))
                };
                self.let_go(stretches.iter().flat_map(keys).collect()).await;
                return Ok(true);
            }
            task::sleep(OVERTAKEN_PAUSE).await;
        }
        self.delete_unused(uploaded.into_iter().map(|uploaded| uploaded.key).collect()).await?;
        Ok(true)
    }

    /// Whole slots, each read once, as many as a job takes, and what they add to the manifest. None: none of them continues it.
    async fn read(&mut self, due: Vec<(u64, Range<u64>)>) -> Result<Option<Job>, Stop> {
        if due.is_empty() {
            return Ok(None);
        }
        let Some(old) = self.shards().await? else { return Ok(None) };
        let mut changes = Changes::of(old);
        let mut ends = BTreeMap::new();
        let mut job = Job { stretches: Vec::new(), runs: Vec::new() };
        let mut runs: BTreeMap<(u32, TopicIdPartition), Vec<(FooterExtent, Bytes)>> = BTreeMap::new();
        let job_bytes = self.shared.settings.rewrite_job_bytes;
        let mut bytes = 0;
        for (wal_id, slots) in due {
            if job.stretches.len() == WALS_AT_ONCE || bytes > 0 && bytes >= job_bytes {
                break;
            }
            let (from, mut new_ends, mut gap) = (slots.start, ends.clone(), None);
            let left = job_bytes.saturating_sub(bytes);
            let read = self.read_wal(wal_id, slots, left, &changes, &mut new_ends, &mut gap).await;
            let taken = match read {
                // It is told when it comes first.
                Err(Stop::Damaged(..)) if !job.stretches.is_empty() => break,
                read => read?,
            };
            match gap {
                Some(gap) if taken.is_empty() => drop(self.blocked.insert(wal_id, gap)),
                _ => drop(self.blocked.remove(&wal_id)),
            }
            if taken.is_empty() {
                continue;
            }
            ends = new_ends;
            let mut stretch = Stretch { wal_id, from, to: from + taken.len() as u64, slots: Vec::new() };
            for (index, object) in taken {
                self.take(wal_id, &mut changes, &index)?;
                for extent in &index.footer.extents {
                    let at = extent.position as usize;
                    let run = object.slice(at..at + extent.len as usize);
                    let place = (shard_of(&extent.id), extent.id);
                    runs.entry(place).or_default().push((*extent, run));
                }
                bytes += object.len() as u64;
                stretch.slots.push(index);
            }
            job.stretches.push(stretch);
        }
        if job.stretches.is_empty() {
            return Ok(None);
        }
        for ((_, id), some) in runs {
            let log_start = changes.partition(id).expect("it was taken").state.log_start;
            let live = some.into_iter().filter(|(extent, _)| !is_below(extent.last_offset as i64, log_start));
            job.runs.extend(live.map(|(extent, run)| (id, extent.first_offset as i64, run)));
        }
        Ok(Some(job))
    }

    /// Slots of one WAL that continue what `ends` says, and the manifest where that says nothing. `gap` is why they end.
    async fn read_wal(
        &self,
        wal_id: u64,
        slots: Range<u64>,
        bytes_max: u64,
        changes: &Changes,
        ends: &mut BTreeMap<TopicIdPartition, i64>,
        gap: &mut Option<Gap>,
    ) -> Result<Vec<Taken>, Stop> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let mut reads = SlotStream::new(&*self.bucket, wal_id, slots, bytes_max);
        while (bytes == 0 || bytes < bytes_max)
            && let Some((slot, object)) = reads.next(bytes_max.saturating_sub(bytes)).await
        {
            let key = slot_key(wal_id, slot);
            let Some(object) = object? else {
                self.catch_up().await?;
                let state = self.catalog.read();
                let is_ours = state.wal(wal_id).is_some_and(|wal| wal.rewriter == self.catalog.wal_id());
                return match is_ours && !self.catalog.is_fenced() {
                    true => Err(Stop::Damaged(Place::Wal(wal_id), format!("{key} is missing"))),
                    // Whose it is now has gone on.
                    false => Ok(Vec::new()),
                };
            };
            let index = self.index(wal_id, slot, key, &object)?;
            *gap = self.gap(wal_id, changes, ends, &index)?;
            if gap.is_some() {
                break;
            }
            bytes += object.len() as u64;
            taken.push((index, object));
        }
        Ok(taken)
    }

    /// Which partitions are rewritten: all that the slots have, whoever leads them by now. Some: with that rule broken.
    fn own_partitions_only(&self, state: &State) -> Option<BTreeSet<TopicIdPartition>> {
        broken::rule("heirs-apart").then(|| {
            let led = state.led_by(self.catalog.wal_id());
            led.into_iter().map(|(id, index)| TopicIdPartition::new(id, index as i32)).collect()
        })
    }

    /// P7: damage stays where it is and is not spread; every checksum is looked at.
    fn index(&self, wal_id: u64, slot: u64, key: String, object: &Bytes) -> Result<SlotIndex, Stop> {
        let damaged = |what: String| Stop::Damaged(Place::Wal(wal_id), format!("{key}: {what}"));
        let (header, mut footer) = container::open(object).map_err(|error| damaged(error.to_string()))?;
        check_place(&header, wal_id, slot).map_err(damaged)?;
        let mut log_starts = log_starts_of(&footer).map_err(damaged)?;
        // What it says of other slots is long.
        footer.sections.clear();
        // Of a topic that is gone nothing more will come before it.
        let state = self.catalog.read();
        let lives = |id: &TopicIdPartition| state.topic_by_id(id.topic_id).is_some();
        let ours = self.own_partitions_only(&state);
        let is_ours = |id: &TopicIdPartition| ours.as_ref().is_none_or(|ours| ours.contains(id));
        footer.extents.retain(|extent| lives(&extent.id) && is_ours(&extent.id));
        log_starts.retain(|start| lives(&start.id));
        Ok(SlotIndex { key, created_ms: header.created_ms, footer, log_starts })
    }

    /// The slot has to go on, for each partition, where the manifest and the slots before it (`ends`) end. Some: it does not.
    fn gap(
        &self,
        wal_id: u64,
        changes: &Changes,
        ends: &mut BTreeMap<TopicIdPartition, i64>,
        slot: &SlotIndex,
    ) -> Result<Option<Gap>, Stop> {
        let damaged = |what: String| Stop::Damaged(Place::Wal(wal_id), format!("{}: {what}", slot.key));
        let end_of = |id: &TopicIdPartition| {
            let end = ends.get(id).copied().or_else(|| changes.log_end(id));
            end.ok_or_else(|| damaged(format!("{} cannot be read", Place::Shard(shard_of(id)))))
        };
        let mut new: BTreeMap<TopicIdPartition, i64> = BTreeMap::new();
        for extent in &slot.footer.extents {
            let end = match new.get(&extent.id) {
                Some(end) => *end,
                None => end_of(&extent.id)?,
            };
            match (extent.first_offset as i64).cmp(&end) {
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Greater => {
                    return Ok(Some(Gap { id: extent.id, to: extent.first_offset as i64 }));
                }
                std::cmp::Ordering::Less => {
                    let (first, id) = (extent.first_offset, extent.id);
                    let detail =
                        format!("it brings offset {first} of {id}, which the manifest has up to {end}");
                    return Err(damaged(detail));
                }
            }
            new.insert(extent.id, extent.last_offset as i64 + 1);
        }
        for start in &slot.log_starts {
            let end = match new.get(&start.id) {
                Some(end) => *end,
                None => end_of(&start.id)?,
            };
            if (start.offset as i64) > end {
                return Ok(Some(Gap { id: start.id, to: start.offset as i64 }));
            }
        }
        ends.extend(new);
        Ok(None)
    }

    /// What the slot says of its partitions besides batches.
    fn take(&self, wal_id: u64, changes: &mut Changes, slot: &SlotIndex) -> Result<(), Stop> {
        let unreadable = |id: &TopicIdPartition| {
            let detail = format!("{}: {} cannot be read", slot.key, Place::Shard(shard_of(id)));
            Stop::Damaged(Place::Wal(wal_id), detail)
        };
        for extent in &slot.footer.extents {
            let known = changes.partition(extent.id).ok_or_else(|| unreadable(&extent.id))?;
            known.state.replay(extent, &slot.footer, slot.created_ms);
        }
        for start in &slot.log_starts {
            let known = changes.partition(start.id).ok_or_else(|| unreadable(&start.id))?;
            known.state.log_start = known.state.log_start.max(start.offset as i64);
        }
        Ok(())
    }

    /// The manifest as the catalog has it now, but for shards that cannot be read. None: it moves.
    pub(super) async fn shards(&self) -> Result<Option<AllShards>, Stop> {
        let (mut heads, position) = {
            let state = self.catalog.read();
            (heads(&state), state.position())
        };
        heads.retain(|head| !self.damaged.contains_key(&Place::Shard(head.number)));
        let medium = self.shared.medium.bucket();
        let read = join_all(heads.iter().map(|head| medium.shards.version(head))).await;
        let mut shards = AllShards::new();
        for (head, shard) in heads.into_iter().zip(read) {
            match shard {
                Ok(version) => drop(shards.insert(head.number, version)),
                Err(ShardError::Bucket(error)) => return Err(error.into()),
                Err(error @ ShardError::Missing { .. }) => {
                    return match self.catch_up().await? == position {
                        true => Err(Stop::Damaged(Place::Shard(head.number), error.to_string())),
                        false => Ok(None),
                    };
                }
                Err(error) => return Err(Stop::Damaged(Place::Shard(head.number), error.to_string())),
            }
        }
        Ok(Some(shards))
    }

    async fn catch_up(&self) -> Result<u64, RewriteError> {
        self.catalog.catch_up().await.map_err(|error| RewriteError::Catalog(error.to_string()))
    }

    /// A segment: stored, read back, and equal to what it was made of.
    pub(super) async fn upload(
        &self,
        builder: SegmentBuilder,
        sources: Vec<SegmentSource>,
    ) -> Result<Uploaded, Stop> {
        let mut nonce = [0; 16];
        self.shared.rng.fill(&mut nonce);
        let identity = SegmentIdentity {
            log_id: u128::from(self.catalog.wal_id()).to_be_bytes(),
            nonce,
            created_ms: self.shared.clock.now_ms(),
            sources,
        };
        let id = new_segment_id(self.catalog.wal_id(), &*self.shared.rng);
        let (bytes, written, tallies) = builder.finish(id, identity);
        let key = segment_key(&id);
        put(&*self.bucket, &key, &bytes).await?;
        let read_back =
            tallies_of(&bytes).map_err(|error| Stop::Damaged(Place::Segment(id), error.to_string()))?;
        assert_eq!(read_back, tallies, "{key}: counts and checksums are those of the input");
        let counters = &self.shared.counters;
        counters.rewrites.fetch_add(1, Ordering::Relaxed);
        counters.bytes_rewritten.fetch_add(written.info.payload_len, Ordering::Relaxed);
        let placed = |piece| PlacedPiece { segment: written.info.clone(), piece };
        let pieces = written.pieces.into_iter();
        let pieces = pieces.map(|(id, pieces)| (id, pieces.into_iter().map(placed).collect())).collect();
        Ok(Uploaded { key, pieces })
    }

    /// Makes new versions of shards the truth, with a record that says so, or takes back what was uploaded for it.
    pub(super) async fn change(
        &mut self,
        changes: Changes,
        records: impl Fn(Vec<ShardChange>) -> Vec<MetadataRecord>,
        counts: impl Fn(&State, &[(u32, Str)]) -> bool,
    ) -> Result<Settled, Stop> {
        let folding = Folding {
            whole_bytes: self.shared.settings.bucket_shard_whole_bytes,
            changes_percent: self.shared.settings.bucket_shard_changes_percent,
        };
        let next = |(number, shard): (&u32, &BucketShard)| {
            made(&changes.old[number], shard, folding, self.catalog.wal_id(), &*self.shared.rng)
        };
        let made: Vec<Made> = changes.new.iter().map(next).collect();
        try_join_all(made.iter().map(|made| put(&*self.bucket, &made.key, &made.bytes))).await?;
        let change = |(shard, made): (&BucketShard, &Made)| ShardChange {
            shard: shard.number,
            from_version: shard.version - 1,
            to_version: shard.version,
            object: made.key.as_str().into(),
        };
        let shards: Vec<ShardChange> = changes.new.values().zip(&made).map(change).collect();
        let heads: Vec<(u32, Str)> =
            shards.iter().map(|change| (change.shard, change.object.clone())).collect();
        if self.append(records(shards), |state| counts(state, &heads)).await? == Settled::Overtaken {
            self.delete_unused(made.into_iter().map(|made| made.key).collect()).await?;
            return Ok(Settled::Overtaken);
        }
        let gone = changes.no_longer_mentioned(&made);
        for (made, shard) in made.into_iter().zip(changes.new.into_values()) {
            self.shared.medium.bucket().shards.put(Version { objects: made.objects, shard: Arc::new(shard) });
        }
        follow_manifest(&self.shared).await;
        let gone = self.unused(gone).await?;
        self.let_go(gone).await;
        Ok(Settled::Accepted)
    }

    /// Those of them that the catalog does not lead to. What it led to once and does not any more it never will again, nor to what
    /// we uploaded for a record that was refused. As long as a shard cannot be read, nobody knows what it leads to.
    async fn unused(&self, keys: Vec<String>) -> Result<Vec<String>, Stop> {
        if keys.is_empty() {
            return Ok(keys);
        }
        Ok(match self.shards().await? {
            Some(shards) if shards.len() as u32 == SHARDS => unused(&shards, keys),
            _ => Vec::new(),
        })
    }

    pub(super) async fn delete_unused(&self, keys: Vec<String>) -> Result<(), Stop> {
        let unused = self.unused(keys).await?;
        self.delete(unused).await;
        Ok(())
    }

    /// They go when nobody can have learnt of them lately (F8).
    async fn let_go(&mut self, keys: Vec<String>) {
        let keep = self.shared.settings.bucket_replaced_keep;
        if keep.is_zero() {
            return self.delete(keys).await;
        }
        self.graves.bury(keys, self.shared.clock.monotonic() + keep);
    }

    /// Until the outcome is known: our own replay's (R7).
    async fn append(
        &self,
        records: Vec<MetadataRecord>,
        counts: impl Fn(&State) -> bool,
    ) -> Result<Settled, RewriteError> {
        let mut is_unknown = false;
        loop {
            if is_unknown && self.shared.closing.load(Ordering::Acquire) {
                return Err(RewriteError::Closing);
            }
            match self.catalog.append(records.clone()).await {
                Ok(_) => return Ok(Settled::Accepted),
                Err(CatalogError::Unknown(_)) => {
                    is_unknown = true;
                    task::sleep(UNKNOWN_PAUSE).await;
                }
                // The try before may have counted all the same.
                Err(CatalogError::Storage(_)) if is_unknown => task::sleep(UNKNOWN_PAUSE).await,
                // An earlier try, of which we did not hear.
                Err(_) if counts(&self.catalog.read()) => return Ok(Settled::Accepted),
                Err(CatalogError::Rejected(
                    Precondition::ManifestMoved { .. }
                    | Precondition::WrongRewrite { .. }
                    | Precondition::WriterFenced { .. },
                )) => return Ok(Settled::Overtaken),
                Err(error) => return Err(RewriteError::Catalog(error.to_string())),
            }
        }
    }

    /// What topics had that are gone, and what should be merged.
    async fn tidy(&mut self) -> Result<bool, Stop> {
        let position = self.catalog.read().position();
        let Some(shards) = self.shards().await? else { return Ok(false) };
        let versions: Vec<u64> = shards.values().map(|known| known.shard.version).collect();
        let now = Some((versions, position));
        if self.examined == now {
            return Ok(false);
        }
        self.count(&shards);
        if self.drop_dead_partitions(&shards).await? || self.merge(&shards).await? {
            return Ok(true);
        }
        self.examined = now;
        Ok(false)
    }

    /// One broker does it for all.
    async fn drop_dead_partitions(&mut self, shards: &AllShards) -> Result<bool, Stop> {
        let mut changes = Changes::of(shards.clone());
        {
            let state = self.catalog.read();
            if state.controller() != Some(self.catalog.node_id()) {
                return Ok(false);
            }
            changes.with_dead_topics(&state);
            changes.trim(&state, self.shared.settings.producers_max);
        }
        if changes.new.is_empty() {
            return Ok(false);
        }
        self.change(changes, manifest_records, all_lead).await?;
        Ok(true)
    }

    /// Each broker looks after what it uploaded, and what those did whose duties it has.
    async fn merge(&mut self, shards: &AllShards) -> Result<bool, Stop> {
        let Some(merge) = self.next_merge(shards) else { return Ok(false) };
        let Merge { inputs, reason } = merge;
        let began = self.shared.clock.monotonic();
        let Some(uploaded) = self.merged(&inputs).await? else { return Ok(true) };
        let Uploaded { key, pieces } = uploaded;
        let moved = moved(&inputs, pieces);
        for _ in 0..TRIES_MAX {
            let Some(shards) = self.shards().await? else { continue };
            let mut changes = Changes::of(shards);
            let mut is_of_use = false;
            for moved in &moved {
                is_of_use |= changes.put(moved);
            }
            // All of it was trimmed or deleted meanwhile, or an earlier try has counted after all.
            if !is_of_use {
                break;
            }
            changes.trim(&self.catalog.read(), self.shared.settings.producers_max);
            if self.change(changes, manifest_records, all_lead).await? == Settled::Accepted {
                self.shared.counters.merges.fetch_add(1, Ordering::Relaxed);
                let took = self.shared.clock.monotonic().saturating_sub(began);
                tracing::debug!("{} pieces went into {key} ({reason:?}), in {took:?}", inputs.len());
                return Ok(true);
            }
            task::sleep(OVERTAKEN_PAUSE).await;
        }
        self.delete_unused(vec![key]).await?;
        Ok(true)
    }

    fn next_merge(&self, shards: &AllShards) -> Option<Merge> {
        let (me, state) = (self.catalog.wal_id(), self.catalog.read());
        let is_ours = |id: &SegmentId| {
            let heir = match state.wal(folder::uploader_of(id)) {
                Some(wal) => wal.rewriter == me,
                // Its duties ended with it, so they are the controller's.
                None => state.controller() == Some(self.catalog.node_id()),
            };
            heir && !self.damaged.contains_key(&Place::Segment(*id))
        };
        let shards: Vec<_> = shards.values().map(|known| &*known.shard).collect();
        next_merge(&shards, is_ours, &Sizes::of(&self.shared.settings))
    }

    /// One segment of these pieces. None: they are not there any more, we were late.
    async fn merged(&self, inputs: &[Input]) -> Result<Option<Uploaded>, Stop> {
        let Some(short) = self.cut(inputs).await? else { return Ok(None) };
        let payload_len: u64 = short.iter().map(|(_, placed)| placed.piece.len).sum();
        let mut builder =
            SegmentBuilder::new(self.shared.settings.bucket_segment_bytes, payload_len as usize);
        let mut rest = short.as_slice();
        while !rest.is_empty() {
            let (window, behind) = rest.split_at(inputs::window(rest));
            match inputs::read(&self.bucket, window).await {
                Ok(read) => {
                    for ((id, placed), bytes) in window.iter().zip(read) {
                        builder.push(*id, placed.piece.first_offset, bytes)?;
                    }
                }
                Err(error) => return self.unreadable(error).await,
            }
            rest = behind;
            if self.shared.closing.load(Ordering::Acquire) {
                return Err(RewriteError::Closing.into());
            }
        }
        let sources: BTreeSet<SegmentId> = inputs.iter().map(|(_, placed)| placed.segment.id).collect();
        Ok(Some(self.upload(builder, sources.into_iter().map(SegmentSource::Segment).collect()).await?))
    }

    /// The inputs in pieces that can be read by themselves.
    pub(super) async fn cut(&self, inputs: &[Input]) -> Result<Option<Vec<Input>>, Stop> {
        let index = &self.shared.medium.bucket().pieces;
        let mut short = Vec::with_capacity(inputs.len());
        for (id, placed) in inputs {
            if !is_long(&placed.piece) {
                short.push((*id, placed.clone()));
                continue;
            }
            let segment = placed.segment.id;
            match index.cut(&*self.bucket, id, placed).await {
                Ok(cut) => short.extend(cut.into_iter().map(|placed| (*id, placed))),
                Err(ReadError::Bucket(error)) => return Err(error.into()),
                Err(ReadError::Missing { .. }) => return self.unreadable(InputError::Missing(segment)).await,
                Err(error) => {
                    return self.unreadable(InputError::Damaged(segment, error.to_string())).await;
                }
            }
        }
        Ok(Some(short))
    }

    /// What is missing is no damage before we know what others did (R15).
    pub(super) async fn unreadable<T>(&self, error: InputError) -> Result<Option<T>, Stop> {
        match error {
            InputError::Bucket(error) => Err(error.into()),
            InputError::Damaged(id, detail) => Err(Stop::Damaged(Place::Segment(id), detail)),
            InputError::Missing(id) => {
                self.catch_up().await?;
                let Some(shards) = self.shards().await? else { return Ok(None) };
                match all_pieces(&shards).any(|placed| placed.segment.id == id) {
                    true => Err(Stop::Damaged(Place::Segment(id), "it is missing".into())),
                    false => Ok(None),
                }
            }
        }
    }

    /// What is left of crashes and of late requests: slots below their mark, and uploads of fenced incarnations that nothing leads
    /// to (R8). What live ones uploaded is in use, or they remove it themselves.
    async fn sweep(&mut self) -> Result<(), Stop> {
        let mut gone = Vec::new();
        // They are listed anyhow.
        let mut all = Listing::default();
        // Of a WAL that somebody rewrites just now more is below the mark than we know, never less.
        let marks: Vec<(u64, u64)> = self
            .catalog
            .read()
            .wals()
            .map(|(wal_id, wal)| (wal_id, wal.mark))
            .filter(|(_, mark)| *mark > 0)
            .collect();
        let mut empty = BTreeSet::new();
        for (wal_id, mark) in marks {
            let folder = format!("wal/{wal_id:020}/");
            let below = slot_key(wal_id, mark);
            let before = gone.len();
            gone.extend(self.list(&folder, &mut all).await?.into_iter().take_while(|key| *key < below));
            if gone.len() == before {
                empty.insert(wal_id);
            }
        }
        // Nobody looks there afterwards, so what was late has an hour to come, and is found.
        self.forget(empty.intersection(&self.empty).copied().collect()).await?;
        if broken::rule("slatedb-352") {
            let sealed: Vec<(u64, u64)> = self
                .catalog
                .read()
                .wals()
                .filter_map(|(wal_id, wal)| Some((wal_id, wal.sealed_at?)))
                .collect();
            for (wal_id, end) in sealed {
                let listed = self.list(&format!("wal/{wal_id:020}/"), &mut Listing::default()).await?;
                gone.extend(listed.into_iter().filter(|key| *key >= slot_key(wal_id, end)));
            }
        }
        for folder in [folder::SEGMENTS, folder::MANIFEST] {
            let listed = self.list(folder, &mut all).await?;
            let state = self.catalog.read();
            let is_controller = state.controller() == Some(self.catalog.node_id());
            let fenced = |wal_id: u64| is_controller && state.is_over(wal_id);
            // Of our own nothing is under way while we are here.
            let anybodys = broken::rule("sweep-before-manifest");
            let may_go = |wal_id: u64| wal_id == self.catalog.wal_id() || fenced(wal_id) || anybodys;
            gone.extend(listed.into_iter().filter(|key| folder::uploader(key).is_some_and(may_go)));
        }
        self.shared.counters.bucket_objects.store(all.objects, Ordering::Relaxed);
        self.shared.counters.bucket_bytes.store(all.bytes, Ordering::Relaxed);
        let (slots, uploads): (Vec<String>, Vec<String>) =
            gone.into_iter().partition(|key| folder::uploader(key).is_none());
        self.let_go(slots).await;
        let unused = self.unused(uploads).await?;
        self.let_go(unused).await;
        self.empty = empty;
        Ok(())
    }

    /// WALs of which nothing was left but their ends for two sweeps, and to which nothing refers, go from the metadata.
    async fn forget(&self, empty: Vec<u64>) -> Result<(), RewriteError> {
        let records: Vec<MetadataRecord> = {
            let state = self.catalog.read();
            let forgettable = empty.into_iter().filter(|wal_id| state.is_forgettable(*wal_id));
            forgettable.take(FORGOTTEN_AT_ONCE).map(|wal_id| MetadataRecord::ForgetWal { wal_id }).collect()
        };
        if records.is_empty() {
            return Ok(());
        }
        match self.catalog.append(records).await {
            // Another one was faster, or it is not known: the next sweep looks again.
            Ok(_) | Err(CatalogError::Rejected(_) | CatalogError::Unknown(_) | CatalogError::Storage(_)) => {
                Ok(())
            }
            Err(error) => Err(RewriteError::Catalog(error.to_string())),
        }
    }

    async fn list(&self, folder: &str, all: &mut Listing) -> Result<Vec<String>, BucketError> {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let after = keys.last().cloned();
            let listed =
                patiently(PATIENCE, || self.bucket.list(folder, after.as_deref(), LISTED_AT_ONCE)).await?;
            if listed.is_empty() {
                return Ok(keys);
            }
            all.objects += listed.len() as u64;
            all.bytes += listed.iter().map(|listed| listed.len).sum::<u64>();
            keys.extend(listed.into_iter().map(|listed| listed.key));
        }
    }

    /// What stays goes with the next sweep.
    async fn delete(&self, keys: Vec<String>) {
        for some in keys.chunks(DELETES_AT_ONCE) {
            let deletes = some.iter().map(|key| self.bucket.delete(key));
            for deleted in futures_util::future::join_all(deletes).await {
                if let Err(error) = deleted {
                    tracing::debug!("an object that nobody needs stays for now: {error}");
                }
            }
        }
    }

    fn count(&self, shards: &AllShards) {
        let mut live = 0;
        // Of a petabyte there are millions: eight bytes name each well enough to count.
        let mut segments: Vec<(u64, u64)> = Vec::new();
        for placed in all_pieces(shards) {
            live += placed.piece.len;
            let name = u64::from_be_bytes(*placed.segment.id.last_chunk().expect("16 bytes"));
            if segments.last().is_none_or(|(last, _)| *last != name) {
                segments.push((name, placed.segment.len));
            }
        }
        segments.sort_unstable();
        segments.dedup();
        let counters = &self.shared.counters;
        counters.segments.store(segments.len() as u64, Ordering::Relaxed);
        counters.segment_bytes.store(segments.iter().map(|(_, len)| len).sum(), Ordering::Relaxed);
        counters.segment_live_bytes.store(live, Ordering::Relaxed);
    }
}

pub(super) fn all_lead(state: &State, heads: &[(u32, Str)]) -> bool {
    heads.iter().all(|(shard, object)| state.manifest(*shard).is_some_and(|head| head.object == *object))
}

/// All of them in one request: they count together or not at all.
pub(super) fn manifest_records(shards: Vec<ShardChange>) -> Vec<MetadataRecord> {
    let record = |change: ShardChange| MetadataRecord::ManifestShard {
        shard: change.shard,
        from_version: change.from_version,
        to_version: change.to_version,
        object: change.object,
        wal_mark: 0,
    };
    shards.into_iter().map(record).collect()
}

impl PartitionCheckpoint {
    /// What one commit's extent adds.
    fn replay(&mut self, extent: &FooterExtent, footer: &Footer, created_ms: i64) {
        if self.epochs.last().is_none_or(|(last, _)| extent.leader_epoch > *last) {
            self.epochs.push((extent.leader_epoch, extent.first_offset as i64));
        }
        for (id, epoch, produced) in produced(footer.entries_of(extent)) {
            self.producers.entry(id).or_default().take(epoch, produced, created_ms);
        }
        footer.entries_of(extent).iter().for_each(|entry| self.transactions.take(entry));
        self.log_end = extent.last_offset as i64 + 1;
    }

    /// An epoch that ends below the log start is history; the one that holds it starts there.
    pub(super) fn trim_epochs(&mut self) {
        let holds = self.epochs.partition_point(|(_, start)| *start <= self.log_start);
        if holds > 1 {
            self.epochs.drain(..holds - 1);
        }
        if let Some(first) = self.epochs.first_mut() {
            first.1 = first.1.max(self.log_start.min(self.log_end));
        }
    }
}

/// The background task: one thing after the other, and a pause when nothing is due.
pub async fn rewrite(shared: Weak<Shared>, rewriter: Weak<tokio::sync::Mutex<BucketRewriter>>) {
    loop {
        let Some(interval) = shared.upgrade().map(|shared| shared.settings.rewrite_interval) else { return };
        task::sleep(interval).await;
        loop {
            let Some(rewriter) = rewriter.upgrade() else { return };
            let stepped = rewriter.lock().await.step().await;
            match stepped {
                Ok(true) => {}
                Ok(false) => break,
                Err(RewriteError::Closing) => return,
                // It is left alone from here on.
                Err(error @ RewriteError::Damaged { .. }) => tracing::error!("{error}"),
                Err(error) => {
                    tracing::warn!("rewriting: {error}");
                    break;
                }
            }
        }
    }
}
