//! The task that copies into the tier, and removes from it what nobody reads any more. One thing at a time, and every step durable
//! before the next:
//!
//! ```text
//!   build an object of what waits ─▶ create it under a random id ─▶ read it back ─▶ manifest object, catalog record
//!     ─▶ readers may use it ─▶ local copies go as the local retention says
//!   nothing in an object is read any more ─▶ manifest object, catalog record ─▶ the object goes
//! ```
//! A crash leaves at most objects that nothing leads to. They lie under this log's own folder, which nobody else writes to, and are
//! swept after a start, again a while after a start or any trouble (a PUT that was given up may still arrive), and once a day.
//!
//! While the bucket does not answer nothing is copied, and so nothing is let go here.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use catalog::Catalog;
use protocol::TopicIdPartition;
use world::broken;
use world::bucket::{BucketError, StoreError, Stored, patiently, store};
use world::task;

use super::Tier;
use super::partition::{Waiting, batches_from, source_of};
use crate::error::ReadError;
use crate::extent::{Extent, read_together};
use crate::log::{LogState, Shared};
use crate::manifest::{Book, Manifest, ManifestError, PlacedPiece, shard_of};
use crate::partition::Partition;
use crate::rewrite::new_versions;
use crate::segment::{
    SegmentBuilder, SegmentError, SegmentId, SegmentIdentity, SegmentSource, Written, file_id, tallies_of,
    tier_folder, tier_key,
};

/// How long one request of this task is repeated before the round ends. The next round tries again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether the log closes, while the bucket is waited for.
const CLOSING_LOOK: Duration = Duration::from_millis(100);
/// A probe of a store that does not answer gives up by then.
const PROBE_MAX: Duration = Duration::from_secs(30);
/// When what was given up has arrived, if it ever does: time for another sweep.
const LATE: Duration = Duration::from_secs(60);
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Objects named in one answer of the store.
const LIST_MAX: usize = 1000;
/// Longer extents than this are not read through the page cache.
const READ_ALONE_BYTES: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum OffloadError {
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the second tier does not answer")]
    Silent,
    /// It was there, and then it was not, or not the same.
    #[error("{key} in the second tier is not what was stored there: {detail}")]
    Output { key: String, detail: String },
    #[error("{partition}: {error}")]
    Input { partition: TopicIdPartition, error: ReadError },
    #[error("the log is closing")]
    Closing,
    #[error("copying to the second tier has stopped until the next start: {0}")]
    Stopped(String),
}

pub struct Offloader {
    shared: Arc<Shared>,
    tier: Arc<Tier>,
    manifest: Manifest,
    /// Objects that each shard's durable version leads to.
    mentioned: BTreeMap<u32, BTreeSet<SegmentId>>,
    /// Objects that nothing leads to any more, until the last reader of a partition that is being deleted lets go of them.
    parting: BTreeSet<SegmentId>,
    /// Keys of objects to be removed: nothing leads to them any more, or nothing ever did.
    doomed: BTreeSet<String>,
    /// Does the store keep its promises? Nothing is written before that is known.
    is_probed: bool,
    /// Monotonic, as all times here.
    swept_at: Option<Duration>,
    /// When something was last given up; at first by the process before this one.
    trouble_at: Duration,
    /// Partitions take turns.
    last: Option<TopicIdPartition>,
    /// Of what waits: since when each file or segment does.
    waiting_since: BTreeMap<SegmentSource, Duration>,
    /// Damaged here: not copied, so that damage never spreads (P7), and hence never let go.
    blocked: BTreeSet<TopicIdPartition>,
    stopped: Option<String>,
}

/// What is in the bucket for good, but not in the manifest yet.
#[derive(Default)]
struct Uploaded {
    pieces: BTreeMap<TopicIdPartition, Vec<PlacedPiece>>,
    ids: Vec<SegmentId>,
    bytes: u64,
}

impl Offloader {
    /// Reads the tier's manifest and puts its pieces into the partitions, behind the replay of the WAL. Asks the bucket nothing.
    pub async fn open(
        shared: Arc<Shared>,
        tier: Arc<Tier>,
        dir: PathBuf,
        catalog: Arc<Catalog>,
        is_probed: bool,
    ) -> Result<Self, ManifestError> {
        let disk = shared.directory().disk.clone();
        let (manifest, shards) = Manifest::open(Book::Tier, disk, dir.clone(), catalog).await?;
        let mut mentioned = BTreeMap::new();
        for shard in shards {
            mentioned.insert(shard.number, shard.segments().into_keys().collect());
            for (id, pieces) in shard.partitions {
                // A topic that the catalog has no more: its data is dead.
                let Some(partition) = shared.partition(&id) else { continue };
                let damaged =
                    |detail| ManifestError::Damaged { path: dir.clone(), detail: format!("{id}: {detail}") };
                partition.restore_tiered(&pieces).map_err(damaged)?;
            }
        }
        Ok(Self {
            trouble_at: shared.clock.monotonic(),
            shared,
            tier,
            manifest,
            mentioned,
            parting: BTreeSet::new(),
            doomed: BTreeSet::new(),
            is_probed,
            swept_at: None,
            last: None,
            waiting_since: BTreeMap::new(),
            blocked: BTreeSet::new(),
            stopped: None,
        })
    }

    /// Does one thing that is due; false when there is none.
    pub async fn step(&mut self) -> Result<bool, OffloadError> {
        if let Some(why) = &self.stopped {
            return Err(OffloadError::Stopped(why.clone()));
        }
        self.check_open()?;
        if matches!(self.shared.state(), LogState::Failed(_)) {
            return Ok(false);
        }
        // First what needs no bucket.
        self.withdraw().await;
        let has_dropped = self.drop_local();
        self.forget_dead().await?;
        let has_waiting = self.look_at_lag();
        let result = self.step_in_bucket(has_waiting).await;
        self.count();
        match result {
            Ok(done) => Ok(done || has_dropped),
            Err(error) => {
                self.trouble_at = self.shared.clock.monotonic();
                if !matches!(error, OffloadError::Closing) {
                    self.tier.counters.errors.fetch_add(1, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }

    async fn step_in_bucket(&mut self, has_waiting: bool) -> Result<bool, OffloadError> {
        self.sweep().await?;
        if has_waiting {
            self.probe().await?;
            if self.copy().await? {
                return Ok(true);
            }
        }
        if self.remove_doomed().await? {
            return Ok(true);
        }
        self.rewrite_mostly_dead().await
    }

    fn check_open(&self) -> Result<(), OffloadError> {
        if self.shared.closing.load(Ordering::Acquire) { Err(OffloadError::Closing) } else { Ok(()) }
    }

    /// The end of the log waits for no bucket.
    async fn unless_closing<T>(&self, work: impl Future<Output = T>) -> Result<T, OffloadError> {
        let mut work = pin!(work);
        loop {
            match task::timeout(CLOSING_LOOK, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) => self.check_open()?,
            }
        }
    }

    /// Topics that do not use the tier any more and want nothing left there.
    async fn withdraw(&self) {
        for partition in self.shared.all_partitions() {
            let Some(start) = partition.start_without_tier() else { continue };
            match partition.delete_records(start).await {
                Ok(_) => partition.forget_tiered(),
                Err(error) => tracing::warn!("{} does not leave the second tier: {error}", partition.id()),
            }
        }
    }

    fn drop_local(&self) -> bool {
        let now_ms = self.shared.clock.now_ms();
        let all = self.shared.all_partitions();
        let bytes: u64 = all.iter().map(|partition| partition.drop_local(now_ms)).sum();
        self.tier.counters.local_bytes_dropped.fetch_add(bytes, Ordering::Relaxed);
        if bytes > 0 {
            // The writer gives dead WAL files back; without traffic nobody else reminds it.
            self.shared.wake.notify_one();
        }
        bytes > 0
    }

    /// Objects that nobody reads any more: the manifest forgets them, then they may go.
    async fn forget_dead(&mut self) -> Result<(), OffloadError> {
        let dead: BTreeSet<SegmentId> =
            self.mentioned.values().flatten().filter(|id| !self.tier.uses.is_live(id)).copied().collect();
        if dead.is_empty() {
            self.let_go(Vec::new());
            return Ok(());
        }
        let names_dead =
            |(number, ids): (&u32, &BTreeSet<SegmentId>)| (!ids.is_disjoint(&dead)).then_some(*number);
        let shards: BTreeSet<u32> = self.mentioned.iter().filter_map(names_dead).collect();
        if broken::rule("tier-object-before-record") {
            for id in &dead {
                self.tier.bucket.delete(&self.key(id)).await?;
            }
        }
        let gone = self.commit(&shards, &BTreeMap::new()).await?;
        self.let_go(gone);
        Ok(())
    }

    /// Nothing leads to these objects any more. Those that nobody reads go.
    fn let_go(&mut self, gone: Vec<SegmentId>) {
        self.parting.extend(gone);
        let uses = &self.tier.uses;
        let unread: Vec<SegmentId> = self.parting.iter().filter(|id| !uses.is_live(id)).copied().collect();
        for id in &unread {
            self.parting.remove(id);
            self.tier.uses.forget(id);
        }
        self.doom(&unread);
    }

    fn doom(&mut self, ids: &[SegmentId]) {
        for id in ids {
            let key = self.key(id);
            self.doomed.insert(key);
        }
    }

    fn key(&self, id: &SegmentId) -> String {
        tier_key(&self.tier.log_id, id)
    }

    /// How much waits, and since when. Is there anything?
    fn look_at_lag(&mut self) -> bool {
        let now = self.shared.clock.monotonic();
        let mut bytes = 0;
        let mut sources = BTreeSet::new();
        for waiting in self.waiting(u64::MAX) {
            bytes += waiting.bytes;
            sources.extend(waiting.extents.iter().map(source_of));
        }
        self.waiting_since.retain(|source, _| sources.contains(source));
        for source in sources {
            self.waiting_since.entry(source).or_insert(now);
        }
        let oldest =
            self.waiting_since.values().min().map_or(Duration::ZERO, |since| now.saturating_sub(*since));
        let counters = &self.tier.counters;
        counters.lag_bytes.store(bytes, Ordering::Relaxed);
        counters.lag_segments.store(self.waiting_since.len() as u64, Ordering::Relaxed);
        counters.lag_ms.store(oldest.as_millis() as u64, Ordering::Relaxed);
        bytes > 0
    }

    /// Of each partition what it has to copy, in turn: the one after the last that was copied from comes first.
    fn waiting(&self, bytes_max: u64) -> impl Iterator<Item = Waiting> + use<'_> {
        let current_file = self.shared.directory().current_file.load(Ordering::Acquire);
        let mut all = self.shared.all_partitions();
        let first = self.last.map_or(0, |last| all.partition_point(|partition| partition.id() <= last));
        all.rotate_left(first);
        let open = all.into_iter().filter(|partition| !self.blocked.contains(&partition.id()));
        open.filter_map(move |partition| partition.waiting_for_tier(current_file, bytes_max))
    }

    async fn probe(&mut self) -> Result<(), OffloadError> {
        if self.is_probed {
            return Ok(());
        }
        let (tier, rng) = (self.tier.clone(), self.shared.rng.clone());
        match self.unless_closing(tier.prove_itself(&*rng, PROBE_MAX)).await? {
            Ok(true) => self.is_probed = true,
            Ok(false) => return Err(OffloadError::Silent),
            Err(error) => {
                tracing::error!("the second tier is not used: {error}");
                self.stopped = Some(error.to_string());
                return Err(OffloadError::Stopped(error.to_string()));
            }
        }
        Ok(())
    }

    /// Finds objects of ours that nothing leads to.
    async fn sweep(&mut self) -> Result<(), OffloadError> {
        let now = self.shared.clock.monotonic();
        let settled = self.trouble_at + LATE;
        let is_due = self.swept_at.is_none_or(|at| at < settled && settled <= now || at + SWEEP_EVERY <= now);
        if !is_due {
            return Ok(());
        }
        let folder = tier_folder(&self.tier.log_id);
        let mut after: Option<String> = None;
        loop {
            let list = || self.tier.bucket.list(&folder, after.as_deref(), LIST_MAX);
            let listed = self.unless_closing(patiently(PATIENCE, list)).await??;
            for object in &listed {
                // What a probe left is nobody's either.
                let id = object.key.strip_prefix(&folder).and_then(file_id);
                if !id.is_some_and(|id| self.is_mentioned(&id)) {
                    self.doomed.insert(object.key.clone());
                }
            }
            match listed.last() {
                Some(last) if listed.len() == LIST_MAX => after = Some(last.key.clone()),
                _ => break,
            }
        }
        self.swept_at = Some(now);
        Ok(())
    }

    fn is_mentioned(&self, id: &SegmentId) -> bool {
        self.mentioned.values().any(|ids| ids.contains(id))
    }

    async fn remove_doomed(&mut self) -> Result<bool, OffloadError> {
        let any = !self.doomed.is_empty();
        let folder = tier_folder(&self.tier.log_id);
        while let Some(key) = self.doomed.first().cloned() {
            let id = key.strip_prefix(&folder).and_then(file_id);
            let is_needed = id.is_some_and(|id| self.is_mentioned(&id));
            assert!(!is_needed, "{key}: an object goes only when the manifest does not lead to it");
            self.unless_closing(patiently(PATIENCE, || self.tier.bucket.delete(&key))).await??;
            self.doomed.remove(&key);
            self.tier.counters.deletes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(any)
    }

    /// Copies what waits, as far as one job goes.
    async fn copy(&mut self) -> Result<bool, OffloadError> {
        let settings = self.shared.settings.clone();
        let mut uploaded = Uploaded::default();
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut bytes = 0;
        for next in self.waiting(settings.tier_job_bytes) {
            bytes += next.bytes;
            waiting.push(next);
            if bytes >= settings.tier_job_bytes {
                break;
            }
        }
        let result = self.upload_all(&waiting, &mut uploaded).await;
        self.last = waiting.last().map(|waiting| waiting.partition.id());
        let any = !uploaded.pieces.is_empty();
        // What is in the bucket for good counts, also when what was to follow failed.
        self.take(uploaded).await?;
        result?;
        Ok(any)
    }

    /// Less than half of an object is still read: that goes into another one, so that the rest can go.
    async fn rewrite_mostly_dead(&mut self) -> Result<bool, OffloadError> {
        let Some(info) = self.tier.uses.mostly_dead() else { return Ok(false) };
        let all = self.shared.all_partitions();
        let runs: Vec<Waiting> = all.iter().filter_map(|partition| partition.tiered_in(&info.id)).collect();
        if runs.iter().any(|run| self.blocked.contains(&run.partition.id())) {
            // The object has to stay for it anyway.
            return Ok(false);
        }
        self.probe().await?;
        let mut uploaded = Uploaded::default();
        let result = self.upload_all(&runs, &mut uploaded).await;
        if let Err(error) = result {
            // Half of it is of no use.
            self.doom(&uploaded.ids);
            return Err(error);
        }
        self.take(uploaded).await?;
        Ok(true)
    }

    /// Makes objects of these runs, in order, and puts them into the bucket.
    async fn upload_all(&mut self, runs: &[Waiting], uploaded: &mut Uploaded) -> Result<(), OffloadError> {
        let object_bytes = self.shared.settings.tier_object_bytes;
        let mut builder = SegmentBuilder::default();
        let mut sources = BTreeSet::new();
        for Waiting { partition, extents, from, .. } in runs {
            let id = partition.id();
            let mut rest = extents.as_slice();
            while !rest.is_empty() {
                self.check_open()?;
                let group = read_together(rest);
                rest = &rest[group.len()..];
                let (good, error) = self.read(partition, group).await;
                for (extent, bytes) in group.iter().zip(good) {
                    let bytes = match extent.first_offset < *from {
                        true => batches_from(extent, &bytes, *from),
                        false => bytes,
                    };
                    if !builder.is_empty() && builder.len() + bytes.len() as u64 > object_bytes {
                        let full = std::mem::take(&mut builder);
                        self.upload(full, std::mem::take(&mut sources), uploaded).await?;
                    }
                    builder.push(id, extent.first_offset.max(*from), bytes)?;
                    sources.insert(source_of(extent));
                }
                if let Some(error) = error {
                    self.cannot_read(partition, group, &error)?;
                    break;
                }
            }
        }
        if !builder.is_empty() {
            self.upload(builder, sources, uploaded).await?;
        }
        Ok(())
    }

    /// What is let go meanwhile takes its file along. What is damaged here stays here.
    fn cannot_read(
        &mut self,
        partition: &Partition,
        group: &[Extent],
        error: &ReadError,
    ) -> Result<(), OffloadError> {
        let id = partition.id();
        let is_there = group.iter().all(|extent| partition.has(extent));
        if matches!(error, ReadError::NotYet | ReadError::Bucket(_)) {
            return Err(OffloadError::Input { partition: id, error: error.clone() });
        }
        if is_there && self.blocked.insert(id) {
            tracing::error!("{id} is not copied to the second tier beyond damage: {error}");
        }
        Ok(())
    }

    /// The bytes of these extents, every checksum verified; or those before the first that is not good, and why it is not.
    async fn read(&self, partition: &Partition, group: &[Extent]) -> (Vec<Bytes>, Option<ReadError>) {
        let until = self.shared.clock.monotonic() + PATIENCE;
        let bytes = loop {
            match self.shared.medium.read_extents(group, READ_ALONE_BYTES).await {
                Ok(bytes) => break bytes,
                Err(ReadError::NotYet)
                    if self.shared.clock.monotonic() < until && self.check_open().is_ok() =>
                {
                    task::sleep(CLOSING_LOOK).await;
                }
                Err(error) => return (Vec::new(), Some(error)),
            }
        };
        let mut good = Vec::with_capacity(bytes.len());
        for (extent, bytes) in group.iter().zip(bytes) {
            if let Err(error) = partition.check(extent, &bytes) {
                return (good, Some(error));
            }
            good.push(bytes);
        }
        (good, None)
    }

    /// One object: created where none is, and read back.
    async fn upload(
        &mut self,
        builder: SegmentBuilder,
        sources: BTreeSet<SegmentSource>,
        uploaded: &mut Uploaded,
    ) -> Result<(), OffloadError> {
        let mut nonce = [0; 16];
        self.shared.rng.fill(&mut nonce);
        let identity = SegmentIdentity {
            log_id: self.tier.log_id,
            nonce,
            created_ms: self.shared.clock.now_ms(),
            sources: sources.into_iter().collect(),
        };
        let id = self.shared.rng.uuid();
        let (bytes, written, tallies) = builder.finish(id, identity);
        let len = bytes.len() as u64;
        let key = self.key(&id);
        // Unless all of what follows comes to an end, nobody knows whether it is there.
        self.doomed.insert(key.clone());
        let bucket = &*self.tier.bucket;
        let output = |detail: &str| OffloadError::Output { key: key.clone(), detail: detail.to_owned() };
        match self.unless_closing(store(bucket, &key, &bytes, PATIENCE)).await? {
            Ok(Stored::Own) => {}
            Ok(Stored::Other(_)) => return Err(output("another object has its name")),
            Err(_) if broken::rule("tier-unproven-copy") => {
                uploaded.add(written);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        let read_back = self.unless_closing(patiently(PATIENCE, || bucket.get(&key))).await??;
        let read_back = read_back.ok_or_else(|| output("it is not there"))?.bytes;
        if read_back != bytes {
            return Err(output("its bytes differ"));
        }
        if !tallies_of(&read_back).is_ok_and(|read| read == tallies) {
            return Err(output("counts or checksums differ from what was copied"));
        }
        self.doomed.remove(&key);
        uploaded.add(written);
        let counters = &self.tier.counters;
        counters.copies.fetch_add(1, Ordering::Relaxed);
        counters.bytes_copied.fetch_add(len, Ordering::Relaxed);
        if let Some(micros) = len.saturating_mul(1_000_000).checked_div(self.tier.limits().bytes_per_second) {
            self.unless_closing(task::sleep(Duration::from_micros(micros))).await?;
        }
        Ok(())
    }

    /// The manifest says that it is there, then the partitions do.
    async fn take(&mut self, uploaded: Uploaded) -> Result<(), OffloadError> {
        if uploaded.pieces.is_empty() {
            return Ok(());
        }
        let shards: BTreeSet<u32> = uploaded.pieces.keys().map(shard_of).collect();
        let gone = match self.commit(&shards, &uploaded.pieces).await {
            Ok(gone) => gone,
            Err(error) => {
                if !matches!(error, OffloadError::Stopped(_)) {
                    self.doom(&uploaded.ids);
                }
                return Err(error);
            }
        };
        for (id, pieces) in &uploaded.pieces {
            if let Some(partition) = self.shared.partition(id) {
                partition.take_tiered(pieces);
            }
        }
        self.let_go(gone);
        // Deleted or trimmed while it was copied: nothing leads to it, and nothing ever did.
        let unwanted: Vec<SegmentId> =
            uploaded.ids.iter().filter(|id| !self.is_mentioned(id)).copied().collect();
        self.doom(&unwanted);
        tracing::debug!("{} objects of {} bytes are in the second tier", uploaded.ids.len(), uploaded.bytes);
        Ok(())
    }

    /// New versions of these shards: what the partitions have in the tier now, and `new`. The objects that nothing leads to any more.
    async fn commit(
        &mut self,
        shards: &BTreeSet<u32>,
        new: &BTreeMap<TopicIdPartition, Vec<PlacedPiece>>,
    ) -> Result<Vec<SegmentId>, OffloadError> {
        let changed = new_versions(shards, &self.shared.all_partitions(), |partition| {
            partition.tiered_with(new.get(&partition.id()).map_or(&[], Vec::as_slice))
        });
        let mentioned: Vec<(u32, BTreeSet<SegmentId>)> =
            changed.iter().map(|shard| (shard.number, shard.segments().into_keys().collect())).collect();
        match self.manifest.commit(changed, 0).await {
            Ok(()) => {}
            Err(ManifestError::Catalog(why)) => {
                // Whether the record counts is not known before the next start: neither side may go.
                self.stopped = Some(why.clone());
                return Err(OffloadError::Stopped(why));
            }
            Err(error) => return Err(error.into()),
        }
        let before: BTreeSet<SegmentId> = self.mentioned.values().flatten().copied().collect();
        self.mentioned.extend(mentioned);
        Ok(before.into_iter().filter(|id| !self.is_mentioned(id)).collect())
    }

    fn count(&self) {
        self.tier.counters.waiting_deletes.store(self.doomed.len() as u64, Ordering::Relaxed);
        self.tier.count();
    }
}

impl Uploaded {
    fn add(&mut self, written: Written) {
        self.ids.push(written.info.id);
        self.bytes += written.info.len;
        for (id, pieces) in written.pieces {
            let placed = pieces.into_iter().map(|piece| PlacedPiece { segment: written.info.clone(), piece });
            self.pieces.entry(id).or_default().extend(placed);
        }
    }
}

/// The background task.
pub async fn offload(shared: Weak<Shared>, offloader: Weak<tokio::sync::Mutex<Offloader>>) {
    loop {
        let Some(interval) = shared.upgrade().map(|shared| shared.settings.tier_interval) else { return };
        task::sleep(interval).await;
        loop {
            let (Some(shared), Some(offloader)) = (shared.upgrade(), offloader.upgrade()) else { return };
            if shared.closing.load(Ordering::Acquire) {
                return;
            }
            let step = offloader.lock().await.step().await;
            match step {
                Ok(true) => {}
                Ok(false) => break,
                Err(OffloadError::Closing) => return,
                Err(error) => {
                    tracing::warn!("copying to the second tier: {error}");
                    break;
                }
            }
        }
    }
}
