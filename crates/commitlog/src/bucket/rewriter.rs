//! Turns slots into segments, and removes what nobody needs any more.
//!
//! ```text
//!  slots 7, 8, 9: a b │ a c │ b          segment: a a │ b b │ c
//!       mark ─▶ 7                 ──▶        mark ─▶ 10, the manifest leads to the segment, slots 7 to 9 go
//! ```
//!
//! The oldest WAL first, each from its mark on, so that of every partition the segments hold the front. One record says all of
//! it at once: mark, shards of the manifest, and a checkpoint with what the slots said besides batches (R6, F2). It counts when
//! our own replay has accepted it (R7); before that nothing goes, and what was uploaded for a record that did not count goes
//! when its uploader is fenced (R8).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use catalog::{Catalog, CatalogError, MetadataRecord, ShardChange};
use protocol::{Str, TopicIdPartition};
use world::bucket::{Bucket, BucketError, patiently};
use world::task;

use super::folder::{self, checkpoint_key, manifest_key, new_segment_id, put, segment_key};
use super::slot::slot_key;
use super::takeover::PATIENCE;
use crate::checkpoint::{Checkpoint, encode_frame};
use crate::container;
use crate::encoding::hash;
use crate::error::{OpenError, ReadError};
use crate::extent::Extent;
use crate::log::{LogState, Shared};
use crate::manifest::{PlacedPiece, SHARDS, Shard, shard_of};
use crate::partition::Partition;
use crate::rewrite::RewriteError;
use crate::segment::{SegmentBuilder, SegmentId, SegmentIdentity, SegmentSource, tallies_of};
use crate::wal::Position;

/// Between two looks for objects that nobody needs: late requests bring them back, for ever.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
const UNKNOWN_PAUSE: Duration = Duration::from_millis(200);
const DELETES_AT_ONCE: usize = 16;
const LISTED_AT_ONCE: usize = 1000;

pub struct BucketRewriter {
    shared: Arc<Shared>,
    bucket: Arc<dyn Bucket>,
    catalog: Arc<Catalog>,
    /// The newest version of each shard, and its key.
    heads: BTreeMap<u32, (u64, String)>,
    /// Segments that each shard's newest version leads to.
    mentioned: BTreeMap<u32, BTreeSet<SegmentId>>,
    /// Something is damaged or not what we took it for: everything stays where it is, and with it what comes behind (P7).
    stopped: Option<String>,
    swept_at: Option<Duration>,
}

/// What one job is made of.
struct Job {
    wal_id: u64,
    from: u64,
    to: u64,
    runs: Vec<(Arc<Partition>, Vec<Extent>)>,
    slots: BTreeMap<u64, Bytes>,
}

impl Job {
    /// Every extent with its bytes.
    fn pieces(&self) -> Vec<(Arc<Partition>, Extent, Bytes)> {
        let mut pieces = Vec::new();
        for (partition, run) in &self.runs {
            for extent in run {
                let place = extent.wal().expect("what lies in a WAL was asked for");
                assert!(
                    place.file == self.wal_id && (self.from..self.to).contains(&place.chunk),
                    "{}: {place:?} lies before slot {} of WAL {}, whose front is rewritten",
                    partition.id(),
                    self.from,
                    self.wal_id
                );
                let at = place.position as usize;
                let bytes = self.slots[&place.chunk].slice(at..at + extent.len as usize);
                pieces.push((partition.clone(), extent.clone(), bytes));
            }
        }
        pieces
    }
}

impl BucketRewriter {
    /// Reads the manifest and puts its pieces into the partitions, behind the replay of the WALs.
    pub async fn open(
        shared: Arc<Shared>,
        bucket: Arc<dyn Bucket>,
        catalog: Arc<Catalog>,
    ) -> Result<Self, OpenError> {
        let mut heads = BTreeMap::new();
        {
            let state = catalog.read();
            for number in 0..SHARDS {
                if let Some(head) = state.manifest(number) {
                    heads.insert(number, (head.version, head.object.to_string()));
                }
            }
        }
        let mut mentioned = BTreeMap::new();
        for (number, (version, key)) in &heads {
            let damaged = |detail: String| OpenError::DamagedObject { key: key.clone(), detail };
            let object = patiently(PATIENCE, || bucket.get(key)).await?;
            let object = object.ok_or_else(|| damaged("it is missing".into()))?;
            let shard = Shard::decode(&object.bytes).map_err(|error| damaged(error.to_string()))?;
            if (shard.number, shard.version) != (*number, *version)
                || !key.ends_with(&shard.object(&object.bytes))
            {
                return Err(damaged(format!("it is version {} of shard {}", shard.version, shard.number)));
            }
            mentioned.insert(*number, shard.segments().into_keys().collect());
            for (id, pieces) in &shard.partitions {
                // A topic that the catalog has no more: its data is dead.
                let Some(partition) = shared.partition(id) else { continue };
                partition.restore_pieces(pieces).map_err(|detail| damaged(format!("{id}: {detail}")))?;
            }
        }
        Ok(Self { shared, bucket, catalog, heads, mentioned, stopped: None, swept_at: None })
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
        if matches!(self.shared.state(), LogState::Failed(_)) || self.catalog.is_fenced() {
            return Ok(false);
        }
        if self.drop_dead_segments().await? {
            return Ok(true);
        }
        if let Some((wal_id, from, limit)) = self.due() {
            self.rewrite(wal_id, from, limit).await?;
            return Ok(true);
        }
        if let Some(info) = self.shared.medium.bucket().segments.mostly_dead() {
            self.rewrite_segment(info.id).await?;
            return Ok(true);
        }
        let now = self.shared.clock.monotonic();
        if self.swept_at.is_none_or(|at| now.saturating_sub(at) >= SWEEP_INTERVAL) {
            self.sweep().await?;
            self.swept_at = Some(now);
        }
        Ok(false)
    }

    /// The oldest WAL that has slots to rewrite: one that is sealed at once, so that a start has little to read; our own when
    /// enough has come.
    fn due(&self) -> Option<(u64, u64, u64)> {
        let (me, settings) = (self.catalog.wal_id(), &self.shared.settings);
        let state = self.catalog.read();
        for (wal_id, wal) in state.wals().filter(|(_, wal)| wal.rewriter == me) {
            match wal.sealed_at {
                Some(end) if wal.mark < end => return Some((wal_id, wal.mark, end)),
                Some(_) => {}
                None if wal_id == me => {
                    let (slots, bytes) = self.shared.medium.bucket().acknowledged_since(wal.mark);
                    let many = slots >= settings.bucket_rewrite_slots || bytes >= settings.rewrite_job_bytes;
                    return many.then_some((wal_id, wal.mark, wal.mark + slots));
                }
                // Somebody else's that is not sealed: not ours yet.
                None => {}
            }
        }
        None
    }

    async fn rewrite(&mut self, wal_id: u64, from: u64, limit: u64) -> Result<(), RewriteError> {
        let job = self.read(wal_id, from, limit).await?;
        let sources = vec![SegmentSource::Slots { wal_id, from, to: job.to }];
        let new = self.segment(&job.pieces(), sources).await?;
        let shards: BTreeSet<u32> = new.keys().map(shard_of).collect();
        let changed = self.put_shards(&shards, &new).await?;
        let checkpoint = self.put_checkpoint().await?;
        let outdated = {
            let state = self.catalog.read();
            state.wal(self.catalog.wal_id()).map(|own| own.checkpoint.to_string())
        };
        let record = MetadataRecord::RewriteWal {
            wal_id,
            from,
            to: job.to,
            checkpoint: checkpoint.as_str().into(),
            shards: changed.iter().map(|(change, _)| change.clone()).collect(),
        };
        let counts = |catalog: &Catalog| {
            let state = catalog.read();
            let marked = state.wal(wal_id).is_some_and(|wal| wal.mark == job.to);
            marked && state.wal(catalog.wal_id()).is_some_and(|own| *own.checkpoint == *checkpoint)
        };
        self.append(vec![record], counts).await?;
        self.replace(&job.runs, &new);
        let mut gone: Vec<String> = (from..job.to).map(|slot| slot_key(wal_id, slot)).collect();
        gone.extend(outdated.filter(|key| !key.is_empty()));
        gone.extend(self.take_heads(changed));
        self.delete(gone).await;
        self.count();
        Ok(())
    }

    /// Whole slots, each read once, as many as a job takes; and of every partition the extents in them that are still read.
    async fn read(&self, wal_id: u64, from: u64, limit: u64) -> Result<Job, RewriteError> {
        let mut slots = BTreeMap::new();
        let (mut to, mut bytes) = (from, 0);
        while to < limit && (to == from || bytes < self.shared.settings.rewrite_job_bytes) {
            let key = slot_key(wal_id, to);
            let object = patiently(PATIENCE, || self.bucket.get(&key)).await?;
            let object = object.ok_or_else(|| RewriteError::Stopped(format!("{key} is missing")))?;
            // P7: damage stays where it is and is not spread; every checksum is looked at.
            container::open(&object.bytes)
                .map_err(|error| RewriteError::Stopped(format!("{key}: {error}")))?;
            bytes += object.bytes.len() as u64;
            slots.insert(to, object.bytes);
            to += 1;
        }
        let mut runs = Vec::new();
        for partition in self.shared.all_partitions() {
            let run = partition.wal_extents_below(wal_id, to);
            if !run.is_empty() {
                runs.push((partition, run));
            }
        }
        Ok(Job { wal_id, from, to, runs, slots })
    }

    /// What lives of a segment of which less than half does goes into another; the old one is dead then.
    async fn rewrite_segment(&mut self, id: SegmentId) -> Result<(), RewriteError> {
        let key = segment_key(&id);
        let object = patiently(PATIENCE, || self.bucket.get(&key)).await?;
        let bytes = object.ok_or_else(|| RewriteError::Stopped(format!("{key} is missing")))?.bytes;
        let mut runs = Vec::new();
        let mut pieces = Vec::new();
        for partition in self.shared.all_partitions() {
            let run = partition.pieces_in(&id);
            for extent in &run {
                let at = extent.position() as usize;
                let end = at + extent.len as usize;
                if end > bytes.len() {
                    return Err(RewriteError::Stopped(format!("{key} is cut off")));
                }
                pieces.push((partition.clone(), extent.clone(), bytes.slice(at..end)));
            }
            if !run.is_empty() {
                runs.push((partition, run));
            }
        }
        let new = self.segment(&pieces, vec![SegmentSource::Segment(id)]).await?;
        let shards: BTreeSet<u32> = new.keys().map(shard_of).collect();
        let changed = self.put_shards(&shards, &new).await?;
        self.append_shards(&changed).await?;
        self.replace(&runs, &new);
        let outdated = self.take_heads(changed);
        self.delete(outdated).await;
        self.count();
        Ok(())
    }

    /// Readers move over.
    fn replace(
        &self,
        runs: &[(Arc<Partition>, Vec<Extent>)],
        new: &BTreeMap<TopicIdPartition, Vec<PlacedPiece>>,
    ) {
        for (partition, _) in runs {
            if let Some(pieces) = new.get(&partition.id()) {
                partition.replace(pieces.iter().map(Extent::of_piece).collect());
            }
        }
        let counters = &self.shared.counters;
        counters.rewrites.fetch_add(1, Ordering::Relaxed);
        let bytes: u64 = new.values().flatten().map(|placed| placed.piece.len).sum();
        counters.bytes_rewritten.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One segment with all of it, stored, read back and equal to what it was made of.
    async fn segment(
        &self,
        pieces: &[(Arc<Partition>, Extent, Bytes)],
        sources: Vec<SegmentSource>,
    ) -> Result<BTreeMap<TopicIdPartition, Vec<PlacedPiece>>, RewriteError> {
        if pieces.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut builder = SegmentBuilder::default();
        for (partition, extent, bytes) in pieces {
            partition.check(extent, bytes).map_err(stopped)?;
            builder.push(partition.id(), bytes.clone())?;
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
        let placed = |piece| PlacedPiece { segment: written.info.clone(), piece };
        let of = |(id, pieces): (_, Vec<_>)| (id, pieces.into_iter().map(placed).collect());
        Ok(written.pieces.into_iter().map(of).collect())
    }

    /// New versions of these shards: what the partitions have now, with `new` in the place of what it covers.
    async fn put_shards(
        &self,
        numbers: &BTreeSet<u32>,
        new: &BTreeMap<TopicIdPartition, Vec<PlacedPiece>>,
    ) -> Result<Vec<(ShardChange, BTreeSet<SegmentId>)>, RewriteError> {
        let fresh = |number: &u32| {
            let version = self.heads.get(number).map_or(0, |(version, _)| *version) + 1;
            (*number, Shard { number: *number, version, ..Shard::default() })
        };
        let mut shards: BTreeMap<u32, Shard> = numbers.iter().map(fresh).collect();
        for partition in self.shared.all_partitions() {
            let id = partition.id();
            let Some(shard) = shards.get_mut(&shard_of(&id)) else { continue };
            let pieces = partition.pieces_with(new.get(&id).map_or(&[], Vec::as_slice));
            if !pieces.is_empty() {
                shard.partitions.insert(id, pieces);
            }
        }
        let mut changes = Vec::new();
        for shard in shards.into_values() {
            let bytes = Bytes::from(shard.encode());
            let object = manifest_key(self.catalog.wal_id(), &shard.object(&bytes));
            put(&*self.bucket, &object, &bytes).await?;
            let change = ShardChange {
                shard: shard.number,
                from_version: shard.version - 1,
                to_version: shard.version,
                object: object.into(),
            };
            changes.push((change, shard.segments().into_keys().collect()));
        }
        Ok(changes)
    }

    /// What a start needs besides segments and the slots behind: partitions' starts, epochs, producers, and the extents that are
    /// still in WALs.
    async fn put_checkpoint(&self) -> Result<String, RewriteError> {
        let wal_id = self.catalog.wal_id();
        // Before the capture: what is acknowledged now is in it.
        let slot = self.shared.medium.bucket().acknowledged();
        let captured = self
            .shared
            .all_partitions()
            .into_iter()
            .filter_map(|partition| Some((partition.id(), partition.capture(true)?)));
        let at = Position { file: wal_id, last_number: slot, ..Position::default() };
        let checkpoint = Checkpoint { at, partitions: captured.collect(), ..Checkpoint::default() };
        let bytes = Bytes::from(encode_frame(u128::from(wal_id).to_be_bytes(), &checkpoint));
        let key = checkpoint_key(wal_id, slot, &hash(&bytes));
        put(&*self.bucket, &key, &bytes).await?;
        let counters = &self.shared.counters;
        counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        counters.checkpoint_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(key)
    }

    /// Until the outcome is known: our own replay's (R7).
    async fn append(
        &self,
        records: Vec<MetadataRecord>,
        counts: impl Fn(&Catalog) -> bool,
    ) -> Result<(), RewriteError> {
        loop {
            match self.catalog.append(records.clone()).await {
                Ok(_) => {
                    assert!(counts(&self.catalog), "replay has accepted {records:?}");
                    return Ok(());
                }
                Err(CatalogError::Unknown(_)) => task::sleep(UNKNOWN_PAUSE).await,
                // An earlier try, of which we did not hear.
                Err(_) if counts(&self.catalog) => return Ok(()),
                // What readers see is still right; what may go is not known before the next start.
                Err(error) => return Err(RewriteError::Stopped(error.to_string())),
            }
        }
    }

    /// All of them in one request: they count together or not at all.
    async fn append_shards(
        &self,
        changed: &[(ShardChange, BTreeSet<SegmentId>)],
    ) -> Result<(), RewriteError> {
        if changed.is_empty() {
            return Ok(());
        }
        let record = |(change, _): &(ShardChange, _)| MetadataRecord::ManifestShard {
            shard: change.shard,
            from_version: change.from_version,
            to_version: change.to_version,
            object: change.object.clone(),
            wal_mark: 0,
        };
        let heads: Vec<(u32, Str)> =
            changed.iter().map(|(change, _)| (change.shard, change.object.clone())).collect();
        let counts = |catalog: &Catalog| {
            let state = catalog.read();
            heads
                .iter()
                .all(|(shard, object)| state.manifest(*shard).is_some_and(|head| head.object == *object))
        };
        self.append(changed.iter().map(record).collect(), counts).await
    }

    /// The shards' new versions are the truth. Gives the keys of the old ones.
    fn take_heads(&mut self, changed: Vec<(ShardChange, BTreeSet<SegmentId>)>) -> Vec<String> {
        let mut outdated = Vec::new();
        for (change, segments) in changed {
            let head = (change.to_version, change.object.to_string());
            outdated.extend(self.heads.insert(change.shard, head).map(|(_, key)| key));
            self.mentioned.insert(change.shard, segments);
        }
        outdated
    }

    /// Segments that nobody reads any more: the manifest forgets them, then they are removed.
    async fn drop_dead_segments(&mut self) -> Result<bool, RewriteError> {
        let uses = &self.shared.medium.bucket().segments;
        let dead: BTreeSet<SegmentId> =
            self.mentioned.values().flatten().filter(|id| !uses.is_live(id)).copied().collect();
        if dead.is_empty() {
            return Ok(false);
        }
        let names_dead =
            |(number, ids): (&u32, &BTreeSet<SegmentId>)| (!ids.is_disjoint(&dead)).then_some(*number);
        let shards: BTreeSet<u32> = self.mentioned.iter().filter_map(names_dead).collect();
        let changed = self.put_shards(&shards, &BTreeMap::new()).await?;
        self.append_shards(&changed).await?;
        let mut gone = self.take_heads(changed);
        for id in &dead {
            assert!(
                !self.mentioned.values().any(|ids| ids.contains(id)),
                "a segment goes only when the manifest does not lead to it"
            );
            self.shared.medium.bucket().segments.forget(id);
            gone.push(segment_key(id));
        }
        self.delete(gone).await;
        self.count();
        Ok(true)
    }

    /// What is left of crashes and of late requests: slots below their mark, and uploads of fenced incarnations that nothing leads
    /// to (R8). Our own are in use, or were removed when their job failed.
    async fn sweep(&self) -> Result<(), RewriteError> {
        let mut gone = Vec::new();
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
        for folder in [folder::SEGMENTS, folder::MANIFEST, folder::CHECKPOINTS] {
            let listed = self.list(folder).await?;
            let state = self.catalog.read();
            let fenced = |wal_id: u64| state.wal(wal_id).is_some_and(|wal| wal.is_fenced);
            let of_fenced = listed.into_iter().filter(|key| folder::uploader(key).is_some_and(fenced));
            let checkpoints: BTreeSet<&str> = state.checkpoints().values().map(|(_, key)| &***key).collect();
            let segments: BTreeSet<String> = self.mentioned.values().flatten().map(segment_key).collect();
            let heads: BTreeSet<&String> = self.heads.values().map(|(_, key)| key).collect();
            gone.extend(of_fenced.filter(|key| {
                !checkpoints.contains(key.as_str()) && !segments.contains(key) && !heads.contains(key)
            }));
        }
        self.delete(gone).await;
        Ok(())
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

    fn count(&self) {
        let (count, bytes, live) = self.shared.medium.bucket().segments.totals();
        self.shared.counters.segments.store(count, Ordering::Relaxed);
        self.shared.counters.segment_bytes.store(bytes, Ordering::Relaxed);
        self.shared.counters.segment_live_bytes.store(live, Ordering::Relaxed);
    }
}

fn stopped(error: ReadError) -> RewriteError {
    RewriteError::Stopped(error.to_string())
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
