//! Turns slots into segments, and removes what nobody needs any more.
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

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use catalog::{Catalog, CatalogError, MetadataRecord, Precondition, ShardChange, State};
use protocol::{Str, TopicIdPartition};
use world::broken;
use world::bucket::{Bucket, BucketError, patiently};
use world::task;

use super::folder::{self, new_segment_id, put, segment_key};
use super::loader::{check_place, follow_manifest, log_starts_of};
use super::shards::{BucketShard, ShardError, ShardPartition, encoded, heads};
use super::slot::slot_key;
use super::takeover::PATIENCE;
use crate::checkpoint::PartitionCheckpoint;
use crate::container::{self, Footer, FooterExtent};
use crate::log::{LogState, Shared};
use crate::manifest::{PlacedPiece, SHARDS, shard_of};
use crate::producers::produced;
use crate::rewrite::RewriteError;
use crate::segment::{SegmentBuilder, SegmentId, SegmentIdentity, SegmentInfo, SegmentSource, tallies_of};

/// Between two looks for objects that nobody needs: late requests bring them back, for ever.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
const UNKNOWN_PAUSE: Duration = Duration::from_millis(200);
const DELETES_AT_ONCE: usize = 16;
const LISTED_AT_ONCE: usize = 1000;

pub struct BucketRewriter {
    shared: Arc<Shared>,
    bucket: Arc<dyn Bucket>,
    catalog: Arc<Catalog>,
    /// Something is damaged or not what we took it for: everything stays where it is, and with it what comes behind (P7).
    stopped: Option<String>,
    swept_at: Option<Duration>,
    /// The manifest that was looked through for what is dead, and at which position of the catalog.
    examined: Option<(Vec<u64>, u64)>,
}

/// Shards as the catalog has them, with the keys of their objects.
#[derive(Clone)]
struct Known {
    key: String,
    shard: Arc<BucketShard>,
}

type AllShards = BTreeMap<u32, Known>;

/// All shards that a job may change, as they are and as they will be.
struct Changes {
    old: AllShards,
    new: BTreeMap<u32, BucketShard>,
}

/// Runs of batches of one partition, with the bytes that they lie in.
type Run = (TopicIdPartition, Bytes);

/// Slots that go together.
struct Job {
    to: u64,
    runs: Vec<Run>,
    changes: Changes,
}

/// What became of a change.
#[derive(Debug, PartialEq, Eq)]
enum Settled {
    Accepted,
    /// Somebody else has changed the same meanwhile: to be done anew.
    Overtaken,
}

impl Changes {
    fn of(old: AllShards) -> Self {
        let next = |(number, known): (&u32, &Known)| {
            let shard = BucketShard { version: known.shard.version + 1, ..BucketShard::clone(&known.shard) };
            (*number, shard)
        };
        Self { new: old.iter().map(next).collect(), old }
    }

    fn partition(&mut self, id: TopicIdPartition) -> &mut ShardPartition {
        let shard = self.new.get_mut(&shard_of(&id)).expect("all shards of a job were read");
        shard.partitions.entry(id).or_default()
    }

    /// Forgets shards that stayed the same, topics that are gone, and pieces below their partition's start.
    fn trim(&mut self, state: &State, producers_max: usize) {
        for shard in self.new.values_mut() {
            shard.partitions.retain(|id, _| state.topic_by_id(id.topic_id).is_some());
            for ShardPartition { pieces, state } in shard.partitions.values_mut() {
                let dead =
                    pieces.partition_point(|placed| is_below(placed.piece.last_offset, state.log_start));
                pieces.drain(..dead);
                state.trim_epochs();
                state.transactions.trim(state.log_start);
            }
            forget_producers(shard, producers_max / SHARDS as usize);
        }
        let old = &self.old;
        self.new.retain(|number, shard| old[number].shard.partitions != shard.partitions);
    }

    /// Segments that only old versions lead to, of the shards that change.
    fn no_longer_mentioned(&self) -> BTreeSet<SegmentId> {
        let changed = self.old.iter().filter(|(number, _)| self.new.contains_key(number));
        let before: BTreeSet<SegmentId> = changed.flat_map(|(_, known)| known.shard.segments()).collect();
        let after: BTreeSet<SegmentId> = self.new.values().flat_map(BucketShard::segments).collect();
        before.difference(&after).copied().collect()
    }
}

/// Nothing of it is readable any more: it may go.
fn is_below(last_offset: i64, log_start: i64) -> bool {
    match broken::rule("obsolete-by-overflow") {
        true => (last_offset as u32) < log_start as u32,
        false => last_offset < log_start,
    }
}

/// Those that were silent longest go first, a producer in many partitions counts in each.
fn forget_producers(shard: &mut BucketShard, max: usize) {
    let count: usize = shard.partitions.values().map(|partition| partition.state.producers.len()).sum();
    if count <= max.max(1) {
        return;
    }
    let mut ages: Vec<(i64, TopicIdPartition, i64)> = Vec::with_capacity(count);
    for (id, partition) in &shard.partitions {
        // Never one inside a transaction.
        let idle = partition.state.producers.iter();
        let idle = idle.filter(|(producer, _)| partition.state.transactions.open(**producer).is_none());
        ages.extend(idle.map(|(producer, state)| (state.last_append_ms, *id, *producer)));
    }
    ages.sort_unstable();
    for (_, id, producer) in ages.into_iter().take(count - max) {
        shard.partitions.get_mut(&id).expect("it was listed").state.producers.remove(&producer);
    }
}

impl BucketRewriter {
    pub fn new(shared: Arc<Shared>) -> Self {
        let medium = shared.medium.bucket();
        let (bucket, catalog) = (medium.bucket.clone(), medium.catalog.clone());
        Self { shared, bucket, catalog, stopped: None, swept_at: None, examined: None }
    }

    /// Does one thing that is due; false when there is none.
    pub async fn step(&mut self) -> Result<bool, RewriteError> {
        if let Some(why) = &self.stopped {
            return Err(RewriteError::Stopped(why.clone()));
        }
        let done = self.next().await;
        if let Err(RewriteError::Stopped(why)) = &done {
            self.stopped = Some(why.clone());
        }
        done
    }

    async fn next(&mut self) -> Result<bool, RewriteError> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(RewriteError::Closing);
        }
        let is_fenced = self.catalog.is_fenced() && !broken::rule("slatedb-1682");
        if matches!(self.shared.state(), LogState::Failed(_)) || is_fenced {
            return Ok(false);
        }
        if broken::rule("last-topic-deleted") && self.catalog.read().topic_count() == 0 {
            return Ok(false);
        }
        follow_manifest(&self.shared).await;
        for (wal_id, slots) in self.due() {
            if self.rewrite(wal_id, slots).await? {
                return Ok(true);
            }
        }
        if self.drop_dead().await? {
            return Ok(true);
        }
        let now = self.shared.clock.monotonic();
        let at_once = broken::rule("slatedb-352") || broken::rule("sweep-before-manifest");
        if at_once || self.swept_at.is_none_or(|at| now.saturating_sub(at) >= SWEEP_INTERVAL) {
            self.sweep().await?;
            self.swept_at = Some(now);
        }
        Ok(false)
    }

    /// WALs that have slots to rewrite, the oldest first: one that is sealed at once, so that a takeover has little to read; our
    /// own when enough has come, when what has come is old, or when partitions have gone elsewhere.
    fn due(&self) -> Vec<(u64, Range<u64>)> {
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
                    if own.slots > 0 && (many || old || wal.moved_to > wal.mark) {
                        due.push((wal_id, wal.mark..wal.mark + own.slots));
                    }
                }
                // Somebody else's that is not sealed: not ours yet.
                None => {}
            }
        }
        due
    }

    /// False: an older WAL has to be rewritten first.
    async fn rewrite(&mut self, wal_id: u64, slots: Range<u64>) -> Result<bool, RewriteError> {
        let from = slots.start;
        let Some(job) = self.read(wal_id, slots).await? else { return Ok(false) };
        let Job { to, runs, mut changes } = job;
        let source = SegmentSource::Slots { wal_id, from, to };
        let uploaded = self.segment(&runs, vec![source], &mut changes).await?;
        changes.trim(&self.catalog.read(), self.shared.settings.producers_max);
        let record = |shards| MetadataRecord::RewriteWal { wal_id, from, to, shards };
        // Nobody else may move it.
        let marked = |state: &State, _: &[(u32, Str)]| state.wal(wal_id).is_some_and(|wal| wal.mark == to);
        if self.change(changes, uploaded, |shards| vec![record(shards)], marked).await? == Settled::Accepted {
            self.delete((from..to).map(|slot| slot_key(wal_id, slot)).collect()).await;
        }
        Ok(true)
    }

    /// Whole slots, each read once, as many as a job takes, and what they add to the manifest. None: not even the first one
    /// continues it.
    async fn read(&self, wal_id: u64, slots: Range<u64>) -> Result<Option<Job>, RewriteError> {
        let Some(old) = self.shards().await? else { return Ok(None) };
        let mut changes = Changes::of(old);
        let mut runs: BTreeMap<TopicIdPartition, Vec<(i64, Bytes)>> = BTreeMap::new();
        let (from, mut to, mut bytes) = (slots.start, slots.start, 0);
        while to < slots.end && (to == from || bytes < self.shared.settings.rewrite_job_bytes) {
            let key = slot_key(wal_id, to);
            let object = patiently(PATIENCE, || self.bucket.get(&key)).await?;
            let Some(object) = object else {
                self.catch_up().await?;
                let state = self.catalog.read();
                let is_ours = state.wal(wal_id).is_some_and(|wal| wal.rewriter == self.catalog.wal_id());
                return match is_ours && !self.catalog.is_fenced() {
                    true => Err(RewriteError::Stopped(format!("{key} is missing"))),
                    // Whose it is now has gone on.
                    false => Ok(None),
                };
            };
            // P7: damage stays where it is and is not spread; every checksum is looked at.
            let stopped = |what: String| RewriteError::Stopped(format!("{key}: {what}"));
            let (header, footer) =
                container::open(&object.bytes).map_err(|error| stopped(error.to_string()))?;
            check_place(&header, wal_id, to).map_err(stopped)?;
            let lives =
                |extent: &&FooterExtent| self.catalog.read().topic_by_id(extent.id.topic_id).is_some();
            let ours = self.own_partitions_only();
            let is_ours = |extent: &&FooterExtent| ours.as_ref().is_none_or(|ours| ours.contains(&extent.id));
            let extents: Vec<&FooterExtent> = footer.extents.iter().filter(lives).filter(is_ours).collect();
            let is_live = |id: &TopicIdPartition| self.catalog.read().topic_by_id(id.topic_id).is_some();
            if !continues(&mut changes, &extents, &footer, is_live).map_err(stopped)? {
                break;
            }
            for extent in extents {
                let state = &mut changes.partition(extent.id).state;
                state.replay(extent, &footer, header.created_ms);
                let at = extent.position as usize;
                let run = object.bytes.slice(at..at + extent.len as usize);
                runs.entry(extent.id).or_default().push((extent.last_offset as i64, run));
            }
            for start in log_starts_of(&footer).map_err(stopped)? {
                if self.catalog.read().topic_by_id(start.id.topic_id).is_some() {
                    let state = &mut changes.partition(start.id).state;
                    state.log_start = state.log_start.max(start.offset as i64);
                }
            }
            bytes += object.bytes.len() as u64;
            to += 1;
        }
        if to == from {
            return Ok(None);
        }
        let mut all = Vec::new();
        for (id, some) in runs {
            let log_start = changes.partition(id).state.log_start;
            all.extend(
                some.into_iter().filter(|(last, _)| !is_below(*last, log_start)).map(|(_, run)| (id, run)),
            );
        }
        Ok(Some(Job { to, runs: all, changes }))
    }

    /// Which partitions are rewritten: all that the slots have, whoever leads them by now. Some: with that rule broken.
    fn own_partitions_only(&self) -> Option<BTreeSet<TopicIdPartition>> {
        broken::rule("heirs-apart").then(|| {
            let led = self.catalog.read().led_by(self.catalog.wal_id());
            led.into_iter().map(|(id, index)| TopicIdPartition::new(id, index as i32)).collect()
        })
    }

    /// The manifest as the catalog has it now. None: it moves.
    async fn shards(&self) -> Result<Option<AllShards>, RewriteError> {
        let (heads, position) = {
            let state = self.catalog.read();
            (heads(&state), state.position())
        };
        let mut shards = AllShards::new();
        for head in heads {
            match self.shared.medium.bucket().shards.get(&head).await {
                Ok(shard) => drop(shards.insert(head.number, Known { key: head.key, shard })),
                Err(ShardError::Bucket(error)) => return Err(error.into()),
                Err(ShardError::Missing { key }) if self.catch_up().await? == position => {
                    return Err(RewriteError::Stopped(format!("{key} is missing")));
                }
                Err(ShardError::Missing { .. }) => return Ok(None),
                Err(error) => return Err(RewriteError::Stopped(error.to_string())),
            }
        }
        Ok(Some(shards))
    }

    async fn catch_up(&self) -> Result<u64, RewriteError> {
        self.catalog.catch_up().await.map_err(|error| RewriteError::Catalog(error.to_string()))
    }

    /// One segment with all of it, stored, read back and equal to what it was made of; its pieces are in the changes then.
    async fn segment(
        &self,
        runs: &[Run],
        sources: Vec<SegmentSource>,
        changes: &mut Changes,
    ) -> Result<Vec<String>, RewriteError> {
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let mut builder = SegmentBuilder::default();
        for (id, bytes) in runs {
            builder.push(*id, bytes.clone())?;
        }
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
            tallies_of(&bytes).map_err(|error| RewriteError::Stopped(format!("{key}: {error}")))?;
        assert_eq!(read_back, tallies, "{key}: counts and checksums are those of the input");
        let counters = &self.shared.counters;
        counters.rewrites.fetch_add(1, Ordering::Relaxed);
        counters.bytes_rewritten.fetch_add(written.info.payload_len, Ordering::Relaxed);
        for (id, pieces) in written.pieces {
            let placed = |piece| PlacedPiece { segment: written.info.clone(), piece };
            let known = &mut changes.partition(id).pieces;
            let new: Vec<PlacedPiece> = pieces.into_iter().map(placed).collect();
            // A segment made anew stands where the old one stood; new slots come last.
            let first = new.first().map_or(i64::MAX, |placed| placed.piece.first_offset);
            let last = new.last().map_or(-1, |placed| placed.piece.last_offset);
            let from = known.partition_point(|placed| placed.piece.last_offset < first);
            let to = known.partition_point(|placed| placed.piece.first_offset <= last);
            known.splice(from..to, new);
        }
        Ok(vec![key])
    }

    /// Makes new versions of shards the truth, with a record that says so, or takes back what was uploaded for it.
    async fn change(
        &mut self,
        changes: Changes,
        mut uploaded: Vec<String>,
        records: impl Fn(Vec<ShardChange>) -> Vec<MetadataRecord>,
        counts: impl Fn(&State, &[(u32, Str)]) -> bool,
    ) -> Result<Settled, RewriteError> {
        let mut shards = Vec::new();
        for shard in changes.new.values() {
            let (bytes, key) = encoded(shard, self.catalog.wal_id(), &*self.shared.rng);
            put(&*self.bucket, &key, &bytes).await?;
            uploaded.push(key.clone());
            shards.push(ShardChange {
                shard: shard.number,
                from_version: shard.version - 1,
                to_version: shard.version,
                object: key.into(),
            });
        }
        let heads: Vec<(u32, Str)> =
            shards.iter().map(|change| (change.shard, change.object.clone())).collect();
        if self.append(records(shards), |state| counts(state, &heads)).await? == Settled::Overtaken {
            self.delete_unused(uploaded).await?;
            return Ok(Settled::Overtaken);
        }
        let replaced = changes.old.iter().filter(|(number, _)| changes.new.contains_key(number));
        let mut gone: Vec<String> =
            replaced.map(|(_, known)| known.key.clone()).filter(|key| !key.is_empty()).collect();
        gone.extend(changes.no_longer_mentioned().iter().map(segment_key));
        for ((_, key), shard) in heads.into_iter().zip(changes.new.into_values()) {
            self.shared.medium.bucket().shards.put(key.to_string(), Arc::new(shard));
        }
        follow_manifest(&self.shared).await;
        self.delete_unused(gone).await?;
        Ok(Settled::Accepted)
    }

    /// Removes those of them that the catalog does not lead to. What it led to once and does not any more it never will again, nor
    /// to what we uploaded for a record that was refused.
    async fn delete_unused(&self, mut keys: Vec<String>) -> Result<(), RewriteError> {
        let Some(shards) = self.shards().await? else { return Ok(()) };
        let used: BTreeSet<String> = used(&shards).collect();
        keys.retain(|key| !used.contains(key));
        self.delete(keys).await;
        Ok(())
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

    /// What topics had that are gone, and what lives of a segment of which less than half does: that goes into another one.
    async fn drop_dead(&mut self) -> Result<bool, RewriteError> {
        let position = self.catalog.read().position();
        let Some(shards) = self.shards().await? else { return Ok(false) };
        let versions: Vec<u64> = shards.values().map(|known| known.shard.version).collect();
        let now = Some((versions, position));
        if self.examined == now {
            return Ok(false);
        }
        self.count(&shards);
        if self.drop_dead_partitions(&shards).await? || self.rewrite_mostly_dead(&shards).await? {
            return Ok(true);
        }
        self.examined = now;
        Ok(false)
    }

    /// One broker does it for all.
    async fn drop_dead_partitions(&mut self, shards: &AllShards) -> Result<bool, RewriteError> {
        {
            let state = self.catalog.read();
            let is_dead = |id: &TopicIdPartition| state.topic_by_id(id.topic_id).is_none();
            let mut all = shards.values().flat_map(|known| known.shard.partitions.keys());
            if state.controller() != Some(self.catalog.node_id()) || !all.any(is_dead) {
                return Ok(false);
            }
        }
        let mut changes = Changes::of(shards.clone());
        changes.trim(&self.catalog.read(), self.shared.settings.producers_max);
        self.change(changes, Vec::new(), manifest_records, all_lead).await?;
        Ok(true)
    }

    /// Each broker looks after what it uploaded, and what those did whose duties it has.
    async fn rewrite_mostly_dead(&mut self, shards: &AllShards) -> Result<bool, RewriteError> {
        let Some(info) = self.mostly_dead(shards) else { return Ok(false) };
        let key = segment_key(&info.id);
        let position = self.catalog.read().position();
        let Some(object) = patiently(PATIENCE, || self.bucket.get(&key)).await? else {
            return match self.catch_up().await? == position {
                true => Err(RewriteError::Stopped(format!("{key} is missing"))),
                false => Ok(false),
            };
        };
        tallies_of(&object.bytes).map_err(|error| RewriteError::Stopped(format!("{key}: {error}")))?;
        let mut runs: Vec<Run> = Vec::new();
        for (id, partition) in shards.values().flat_map(|known| &known.shard.partitions) {
            for placed in partition.pieces.iter().filter(|placed| placed.segment.id == info.id) {
                let at = placed.piece.position as usize;
                runs.push((*id, object.bytes.slice(at..at + placed.piece.len as usize)));
            }
        }
        runs.sort_by_key(|(id, _)| *id);
        let mut changes = Changes::of(shards.clone());
        let uploaded = self.segment(&runs, vec![SegmentSource::Segment(info.id)], &mut changes).await?;
        changes.trim(&self.catalog.read(), self.shared.settings.producers_max);
        self.change(changes, uploaded, manifest_records, all_lead).await?;
        Ok(true)
    }

    fn mostly_dead(&self, shards: &AllShards) -> Option<Arc<SegmentInfo>> {
        let mut live: BTreeMap<SegmentId, (&Arc<SegmentInfo>, u64)> = BTreeMap::new();
        for placed in all_pieces(shards) {
            live.entry(placed.segment.id).or_insert((&placed.segment, 0)).1 += placed.piece.len;
        }
        let (me, state) = (self.catalog.wal_id(), self.catalog.read());
        let is_ours =
            |id: &SegmentId| state.wal(folder::uploader_of(id)).is_some_and(|wal| wal.rewriter == me);
        let half_dead = live.iter().filter(|(id, (info, bytes))| bytes * 2 < info.payload_len && is_ours(id));
        let part =
            |(_, (info, bytes)): &(_, &(&Arc<SegmentInfo>, u64))| bytes * 1000 / info.payload_len.max(1);
        half_dead.min_by_key(part).map(|(_, (info, _))| (*info).clone())
    }

    /// What is left of crashes and of late requests: slots below their mark, and uploads of fenced incarnations that nothing leads
    /// to (R8). What live ones uploaded is in use, or they remove it themselves.
    async fn sweep(&self) -> Result<(), RewriteError> {
        let mut gone = Vec::new();
        // Of a WAL that somebody rewrites just now more is below the mark than we know, never less.
        let marks: Vec<(u64, u64)> = self
            .catalog
            .read()
            .wals()
            .map(|(wal_id, wal)| (wal_id, wal.mark))
            .filter(|(_, mark)| *mark > 0)
            .collect();
        for (wal_id, mark) in marks {
            let folder = format!("wal/{wal_id:020}/");
            let below = slot_key(wal_id, mark);
            gone.extend(self.list(&folder).await?.into_iter().take_while(|key| *key < below));
        }
        if broken::rule("slatedb-352") {
            let sealed: Vec<(u64, u64)> = self
                .catalog
                .read()
                .wals()
                .filter_map(|(wal_id, wal)| Some((wal_id, wal.sealed_at?)))
                .collect();
            for (wal_id, end) in sealed {
                let listed = self.list(&format!("wal/{wal_id:020}/")).await?;
                gone.extend(listed.into_iter().filter(|key| *key >= slot_key(wal_id, end)));
            }
        }
        for folder in [folder::SEGMENTS, folder::MANIFEST] {
            let listed = self.list(folder).await?;
            let state = self.catalog.read();
            let is_controller = state.controller() == Some(self.catalog.node_id());
            let fenced = |wal_id: u64| is_controller && state.wal(wal_id).is_some_and(|wal| wal.is_fenced);
            // Of our own nothing is under way while we are here.
            let anybodys = broken::rule("sweep-before-manifest");
            let may_go = |wal_id: u64| wal_id == self.catalog.wal_id() || fenced(wal_id) || anybodys;
            gone.extend(listed.into_iter().filter(|key| folder::uploader(key).is_some_and(may_go)));
        }
        self.delete_unused(gone).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, BucketError> {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let after = keys.last().cloned();
            let listed =
                patiently(PATIENCE, || self.bucket.list(folder, after.as_deref(), LISTED_AT_ONCE)).await?;
            if listed.is_empty() {
                return Ok(keys);
            }
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
        let mut segments: BTreeMap<SegmentId, u64> = BTreeMap::new();
        let mut live = 0;
        for placed in all_pieces(shards) {
            segments.insert(placed.segment.id, placed.segment.len);
            live += placed.piece.len;
        }
        let counters = &self.shared.counters;
        counters.segments.store(segments.len() as u64, Ordering::Relaxed);
        counters.segment_bytes.store(segments.values().sum(), Ordering::Relaxed);
        counters.segment_live_bytes.store(live, Ordering::Relaxed);
    }
}

/// Does the slot go on, for each partition, where the manifest and the slots before it end? An error: it begins before that.
fn continues(
    changes: &mut Changes,
    extents: &[&FooterExtent],
    footer: &Footer,
    is_live: impl Fn(&TopicIdPartition) -> bool,
) -> Result<bool, String> {
    let mut ends: BTreeMap<TopicIdPartition, i64> = BTreeMap::new();
    for extent in extents {
        let end = match ends.get(&extent.id) {
            Some(end) => *end,
            None => changes.partition(extent.id).state.log_end,
        };
        match (extent.first_offset as i64).cmp(&end) {
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => return Ok(false),
            std::cmp::Ordering::Less => {
                let first = extent.first_offset;
                return Err(format!(
                    "it brings offset {first} of {}, which the manifest has up to {end}",
                    extent.id
                ));
            }
        }
        ends.insert(extent.id, extent.last_offset as i64 + 1);
    }
    // Of a topic that is gone nothing more will come before it.
    for start in log_starts_of(footer)?.into_iter().filter(|start| is_live(&start.id)) {
        let known = ends.get(&start.id).copied();
        let end = known.unwrap_or_else(|| changes.partition(start.id).state.log_end);
        if (start.offset as i64) > end {
            return Ok(false);
        }
    }
    Ok(true)
}

fn all_pieces(shards: &AllShards) -> impl Iterator<Item = &PlacedPiece> {
    shards.values().flat_map(|known| known.shard.partitions.values()).flat_map(|partition| &partition.pieces)
}

/// Keys that the manifest leads to.
fn used(shards: &AllShards) -> impl Iterator<Item = String> {
    let objects = shards.values().map(|known| known.key.clone());
    let segments: BTreeSet<SegmentId> = all_pieces(shards).map(|placed| placed.segment.id).collect();
    objects.chain(segments.into_iter().map(|id| segment_key(&id)))
}

fn all_lead(state: &State, heads: &[(u32, Str)]) -> bool {
    heads.iter().all(|(shard, object)| state.manifest(*shard).is_some_and(|head| head.object == *object))
}

/// All of them in one request: they count together or not at all.
fn manifest_records(shards: Vec<ShardChange>) -> Vec<MetadataRecord> {
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
    fn trim_epochs(&mut self) {
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
                Err(error @ RewriteError::Stopped(_)) => {
                    tracing::error!("{error}; nothing is removed from the bucket any more");
                    return;
                }
                Err(error) => {
                    tracing::warn!("rewriting: {error}");
                    break;
                }
            }
        }
    }
}
