//! The rewriter: turns sealed WAL files into segments, lazily, and gives dead segments back.
//!
//! ```text
//!  WAL file 4:  a1 b1 a2 c1 │ b2 a3 …          segment x (a alone, it is large):  a1 a2 a3
//!  WAL file 5:  c2 a4 …                ──▶     segment y (the small ones):        b1 b2 │ c1 c2
//! ```
//!
//! WAL files stay the primary copy until there are more of them than `wal_retain_bytes` (`wal_retain_large_bytes` where
//! extents are large), or more extents in them than `wal_extents_max`: what expires before is never rewritten. Then the oldest go first, so that of every partition the
//! segments hold the front and the WAL the rest. What is dead by then is left out. A byte is rewritten once; again only
//! when less than half of its segment is still read.
//!
//! Nothing is removed before its replacement is durable: segments are synced, named and read back, then the manifest
//! says so (`manifest.rs`), then readers move over, and only then the inputs are let go. A crash at any step leaves
//! either the old or the new place valid; the next start removes what nobody leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use catalog::Catalog;
use protocol::TopicIdPartition;
use world::bucket::BucketError;
use world::disk::DiskError;
use world::task;

use crate::compaction::Schedule;
use crate::error::ReadError;
use crate::extent::{Extent, read_together};
use crate::log::{LogState, Shared};
use crate::manifest::{Book, Manifest, ManifestError, PlacedPiece, SHARDS, Shard, shard_of};
use crate::partition::Partition;
use crate::segment::{
    SegmentError, SegmentId, SegmentIdentity, SegmentInfo, SegmentSource, SegmentWriter, Written, file_id,
    file_name,
};

/// Room that a job leaves on the disk beyond what it writes.
const SPARE_BYTES: u64 = 4 << 20;
/// Shorter extents are not read one by one from the medium, but from the page cache, into which their files come first.
const READ_ALONE_BYTES: u64 = 64 << 10;
/// A file whose extents are this long on the average is as good a home as a segment.
const LARGE_EXTENT_BYTES: u64 = 128 << 10;
/// After a job failed for want of space or by an I/O error.
const RETRY_STEPS: u32 = 6;

#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("the metadata log does not answer: {0}")]
    Catalog(String),
    #[error("the log is closing")]
    Closing,
    /// In a bucket: what it is about stays as it is, everything else goes on.
    #[error("{place} is left as it is, and looked at again in ten minutes: {detail}")]
    Damaged { place: String, detail: String },
    #[error("rewriting has stopped until the next start: {0}")]
    Stopped(String),
}

impl From<DiskError> for RewriteError {
    fn from(error: DiskError) -> Self {
        RewriteError::Segment(SegmentError::Storage(error))
    }
}

/// What one job is made of: per partition a run of extents without gaps.
struct Job {
    sources: Vec<SegmentSource>,
    runs: Vec<(Arc<Partition>, Vec<Extent>)>,
    bytes: u64,
}

/// A WAL file as the choice sees it.
#[derive(Clone, Copy, Debug)]
pub struct SealedFile {
    pub number: u64,
    pub len: u64,
    pub live_bytes: u64,
    pub live_extents: u64,
}

pub struct Rewriter {
    pub(crate) shared: Arc<Shared>,
    manifest: Manifest,
    /// Segments that each shard's durable version leads to.
    mentioned: BTreeMap<u32, BTreeSet<SegmentId>>,
    /// Partitions of which an input is damaged: they stay where they are, so that damage never spreads (P7).
    pub(crate) blocked: BTreeSet<TopicIdPartition>,
    stopped: Option<String>,
    pub(crate) compaction: Schedule,
}

impl Rewriter {
    /// Reads the manifest, puts its pieces into the partitions (behind the replay of the WAL), and removes segments
    /// that it does not lead to.
    pub async fn open(
        shared: Arc<Shared>,
        manifest_dir: PathBuf,
        catalog: Arc<Catalog>,
    ) -> Result<Self, ManifestError> {
        let disk = shared.directory().disk.clone();
        let segment_dir = shared.directory().segments.dir().clone();
        disk.create_dir_all(&segment_dir).await?;
        let (manifest, shards) =
            Manifest::open(Book::Local, disk.clone(), manifest_dir.clone(), catalog).await?;
        let mut mentioned = BTreeMap::new();
        let mut segments: BTreeMap<SegmentId, Arc<SegmentInfo>> = BTreeMap::new();
        for shard in shards {
            let infos = shard.segments();
            mentioned.insert(shard.number, infos.keys().copied().collect());
            segments.extend(infos);
            for (id, pieces) in shard.partitions {
                // A topic that the catalog has no more: its data is dead.
                let Some(partition) = shared.partition(&id) else { continue };
                let compacted_to = shard.compacted.get(&id).copied().unwrap_or_default();
                partition.restore_pieces(&pieces, compacted_to).map_err(|detail| ManifestError::Damaged {
                    path: manifest_dir.clone(),
                    detail: format!("{id}: {detail}"),
                })?;
            }
        }
        let mut found = BTreeSet::new();
        for entry in disk.list(&segment_dir).await? {
            let Some(id) = file_id(&entry.name) else { continue };
            match segments.get(&id) {
                None => disk.remove(&segment_dir.join(&entry.name)).await?,
                Some(info) if info.len == entry.len => drop(found.insert(id)),
                Some(info) => {
                    tracing::error!("segment {} has {} bytes and not {}", entry.name, entry.len, info.len);
                }
            }
        }
        for id in segments.keys().filter(|id| !found.contains(*id)) {
            // P7: what it held cannot be read and says so; everything else goes on.
            tracing::error!("segment {} is missing or damaged: reads of what it held fail", file_name(id));
            shared.counters.segments_damaged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Self {
            shared,
            manifest,
            mentioned,
            blocked: BTreeSet::new(),
            stopped: None,
            compaction: Schedule::default(),
        })
    }

    /// Does one thing that is due; false when there is none.
    pub async fn step(&mut self) -> Result<bool, RewriteError> {
        if let Some(why) = &self.stopped {
            return Err(RewriteError::Stopped(why.clone()));
        }
        self.check_open()?;
        if matches!(self.shared.state(), LogState::Failed(_)) {
            return Ok(false);
        }
        // First what gives space back without taking any.
        if self.drop_dead_segments().await? {
            return Ok(true);
        }
        let space = self.shared.directory().disk.space(self.shared.directory().segments.dir()).await?;
        let reserve = self.shared.settings.reserve_bytes.min(space.total_bytes / 10);
        let pressed = self.shared.state() == LogState::Full || space.free_bytes < reserve.saturating_mul(2);
        let room = space.free_bytes.saturating_sub(SPARE_BYTES.min(space.total_bytes / 100));
        if let Some(job) = self.wal_job(pressed, room) {
            return self.run(job).await;
        }
        // What compaction removes need not be moved.
        if self.compact(room).await? {
            return Ok(true);
        }
        match self.segment_job(room) {
            Some(job) => self.run(job).await,
            None => Ok(false),
        }
    }

    pub(crate) fn check_open(&self) -> Result<(), RewriteError> {
        if self.shared.closing.load(Ordering::Acquire) { Err(RewriteError::Closing) } else { Ok(()) }
    }

    fn wal_job(&self, pressed: bool, room: u64) -> Option<Job> {
        let sealed = self.shared.directory().sealed();
        let settings = &self.shared.settings;
        let bounds = Bounds {
            retain_bytes: settings.wal_retain_bytes,
            retain_large_bytes: settings.wal_retain_large_bytes,
            extents_max: settings.wal_extents_max,
            job_bytes: settings.rewrite_job_bytes,
            room,
            pressed,
            // What the second tier has was let go to have its space back. Without one, what is dead here makes room for the next file.
            dead_max: match self.shared.directory().is_tier_used() {
                true => settings.tier_dead_bytes_max,
                false => u64::MAX,
            },
        };
        let through = choose(&sealed, &bounds)?;
        let mut runs = Vec::new();
        let mut bytes = 0;
        for partition in self.shared.all_partitions() {
            if self.blocked.contains(&partition.id()) {
                continue;
            }
            let run = partition.wal_extents_through(through);
            if !run.is_empty() {
                bytes += run.iter().map(|extent| extent.len).sum::<u64>();
                runs.push((partition, run));
            }
        }
        let used = |file: &&SealedFile| file.number <= through && file.live_extents > 0;
        let sources = sealed.iter().filter(used).map(|file| SegmentSource::WalFile(file.number)).collect();
        // With nothing but blocked partitions in them there is nothing to do.
        (!runs.is_empty()).then_some(Job { sources, runs, bytes })
    }

    fn segment_job(&self, room: u64) -> Option<Job> {
        let info = self.shared.directory().segments.uses.mostly_dead()?;
        let mut runs = Vec::new();
        let mut bytes = 0;
        for partition in self.shared.all_partitions() {
            let run = partition.pieces_in(&info.id);
            if run.is_empty() {
                continue;
            }
            if self.blocked.contains(&partition.id()) {
                // The segment has to stay for it anyway.
                return None;
            }
            bytes += run.iter().map(|extent| extent.len).sum::<u64>();
            runs.push((partition, run));
        }
        (!runs.is_empty() && bytes <= room).then_some(Job {
            sources: vec![SegmentSource::Segment(info.id)],
            runs,
            bytes,
        })
    }

    async fn run(&mut self, job: Job) -> Result<bool, RewriteError> {
        tracing::debug!("rewriting {} bytes of {} partitions", job.bytes, job.runs.len());
        self.read_ahead(&job);
        let mut written = Vec::new();
        let new = match self.write(&job, &mut written).await {
            Ok(new) => new,
            Err(error) => {
                self.remove_files(written.iter().map(|written: &Written| written.info.id)).await;
                return Err(error);
            }
        };
        if new.is_empty() {
            return Ok(!self.blocked.is_empty());
        }
        self.publish(&written, &new, None).await?;
        for (partition, _) in &job.runs {
            if let Some(pieces) = new.get(&partition.id()) {
                partition.replace(pieces.iter().map(Extent::of_piece).collect(), None);
            }
        }
        self.settle(&written).await?;
        Ok(true)
    }

    /// The manifest says that these pieces take the place of what they cover. What was written for it goes when it does not.
    pub(crate) async fn publish(
        &mut self,
        written: &[Written],
        new: &BTreeMap<TopicIdPartition, Vec<PlacedPiece>>,
        compacted: Option<(TopicIdPartition, i64)>,
    ) -> Result<(), RewriteError> {
        let shards: BTreeSet<u32> = new.keys().map(shard_of).collect();
        match self.commit(&shards, new, compacted).await {
            Ok(()) => Ok(()),
            Err(ManifestError::Catalog(why)) => {
                // Whether the record counts is not known before the next start: neither side may go.
                self.stopped = Some(why.clone());
                Err(RewriteError::Stopped(why))
            }
            Err(error) => {
                self.remove_files(written.iter().map(|written| written.info.id)).await;
                Err(error.into())
            }
        }
    }

    /// Readers have moved over.
    pub(crate) async fn settle(&mut self, written: &[Written]) -> Result<(), RewriteError> {
        let counters = &self.shared.counters;
        let payload: u64 = written.iter().map(|written| written.info.payload_len).sum();
        counters.rewrites.fetch_add(1, Ordering::Relaxed);
        counters.bytes_rewritten.fetch_add(payload, Ordering::Relaxed);
        self.drop_dead_segments().await?;
        self.count();
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Many small extents are read in another order than they lie in: the files come into the page cache in one go.
    fn read_ahead(&self, job: &Job) {
        let extents: usize = job.runs.iter().map(|(_, run)| run.len()).sum();
        if job.bytes / (extents as u64).max(1) >= READ_ALONE_BYTES {
            return;
        }
        let files = self.shared.directory().files.lock();
        for source in &job.sources {
            if let SegmentSource::WalFile(number) = source
                && let Some(file) = files.get(number)
            {
                file.file.read_ahead(0, file.len);
            }
        }
    }

    /// Writes the job's segments: durable, and read back, when this returns.
    async fn write(
        &mut self,
        job: &Job,
        written: &mut Vec<Written>,
    ) -> Result<BTreeMap<TopicIdPartition, Vec<PlacedPiece>>, RewriteError> {
        let settings = self.shared.settings.clone();
        let size = |run: &[Extent]| run.iter().map(|extent| extent.len).sum::<u64>();
        let (large, small): (Vec<_>, Vec<_>) =
            job.runs.iter().partition(|(_, run)| size(run) >= settings.segment_own_bytes);
        let mut good_ends: BTreeMap<TopicIdPartition, i64> = BTreeMap::new();
        let mut writer: Option<SegmentWriter> = None;
        let alone = large.iter().map(|run| (run, true)).chain(small.iter().map(|run| (run, false)));
        let mut result = Ok(());
        'runs: for ((partition, run), alone) in alone {
            let mut rest = run.as_slice();
            while !rest.is_empty() {
                let group = read_together(rest);
                rest = &rest[group.len()..];
                let read = self.read(partition, group).await;
                let good = match &read {
                    Ok(bytes) => bytes.len(),
                    Err((good, _)) => good.len(),
                };
                let (bytes, error) = match read {
                    Ok(bytes) => (bytes, None),
                    Err((bytes, error)) => (bytes, Some(error)),
                };
                for (extent, bytes) in group[..good].iter().zip(bytes) {
                    let full = |writer: &SegmentWriter| {
                        writer.payload_len() + extent.len > settings.segment_bytes_max
                    };
                    if writer.as_ref().is_some_and(|writer| writer.payload_len() > 0 && full(writer))
                        && let Some(done) = writer.take()
                    {
                        result = self.finish(done, job, written).await;
                        if result.is_err() {
                            break 'runs;
                        }
                    }
                    let current = match writer.as_mut() {
                        Some(writer) => writer,
                        None => {
                            let id = self.shared.rng.uuid();
                            let dir = self.shared.directory().segments.dir();
                            match SegmentWriter::create(&*self.shared.directory().disk, dir, id).await {
                                Ok(fresh) => writer.insert(fresh),
                                Err(error) => {
                                    result = Err(error.into());
                                    break 'runs;
                                }
                            }
                        }
                    };
                    if let Err(error) = current.push(partition.id(), extent.first_offset, bytes).await {
                        result = Err(error.into());
                        break 'runs;
                    }
                    good_ends.insert(partition.id(), extent.last_offset);
                }
                if let Some(error) = error {
                    // What was let go meanwhile takes its file along: that is no damage.
                    if partition.has(&group[good]) {
                        tracing::error!(
                            "{} is not rewritten beyond damage, and stays in its file: {error}",
                            partition.id()
                        );
                        self.blocked.insert(partition.id());
                    }
                    break;
                }
                if let Err(error) = self.check_open() {
                    result = Err(error);
                    break 'runs;
                }
                self.pace(group.iter().map(|extent| extent.len).sum()).await;
            }
            // A large run ends its segment, so that it is alone in there.
            if alone && let Some(done) = writer.take() {
                result = self.finish(done, job, written).await;
                if result.is_err() {
                    break;
                }
            }
        }
        match (result, writer.take()) {
            (Ok(()), Some(done)) => self.finish(done, job, written).await?,
            (Ok(()), None) => {}
            (Err(error), left) => {
                if let Some(left) = left
                    && let Err(error) = left.abandon(&*self.shared.directory().disk).await
                {
                    tracing::warn!("a half-written segment stays until the next start: {error}");
                }
                return Err(error);
            }
        }
        let mut new: BTreeMap<TopicIdPartition, Vec<PlacedPiece>> = BTreeMap::new();
        for segment in written.iter() {
            for (id, pieces) in &segment.pieces {
                let placed =
                    pieces.iter().map(|piece| PlacedPiece { segment: segment.info.clone(), piece: *piece });
                new.entry(*id).or_default().extend(placed);
            }
        }
        for (partition, run) in &job.runs {
            let id = partition.id();
            let Some(pieces) = new.get(&id) else { continue };
            assert!(
                pieces.windows(2).all(|pair| pair[0].piece.last_offset + 1 == pair[1].piece.first_offset)
                    && pieces.first().map(|placed| placed.piece.first_offset)
                        == run.first().map(|e| e.first_offset)
                    && pieces.last().map(|placed| placed.piece.last_offset) == good_ends.get(&id).copied(),
                "{id}: the new pieces cover the old extents: {pieces:?} {run:?}"
            );
        }
        Ok(new)
    }

    async fn finish(
        &self,
        writer: SegmentWriter,
        job: &Job,
        written: &mut Vec<Written>,
    ) -> Result<(), RewriteError> {
        self.close_segment(writer, job.sources.clone(), written).await
    }

    pub(crate) async fn close_segment(
        &self,
        writer: SegmentWriter,
        sources: Vec<SegmentSource>,
        written: &mut Vec<Written>,
    ) -> Result<(), RewriteError> {
        let mut nonce = [0; 16];
        self.shared.rng.fill(&mut nonce);
        let identity = SegmentIdentity {
            log_id: self.shared.directory().log_id,
            nonce,
            created_ms: self.shared.clock.now_ms(),
            sources,
        };
        written.push(writer.finish(&*self.shared.directory().disk, identity).await?);
        Ok(())
    }

    /// The bytes of these extents, every checksum verified; or those before the first that is not good.
    pub(crate) async fn read(
        &self,
        partition: &Partition,
        group: &[Extent],
    ) -> Result<Vec<Bytes>, (Vec<Bytes>, ReadError)> {
        let bytes = self
            .shared
            .medium
            .read_extents(group, READ_ALONE_BYTES)
            .await
            .map_err(|error| (Vec::new(), error))?;
        let mut good = Vec::with_capacity(bytes.len());
        for (extent, bytes) in group.iter().zip(bytes) {
            if let Err(error) = partition.check(extent, &bytes) {
                return Err((good, error));
            }
            good.push(bytes);
        }
        Ok(good)
    }

    async fn pace(&self, bytes: u64) {
        let settings = &self.shared.settings;
        let mut burden = Burden::default();
        self.shared.directory().sealed().iter().for_each(|file| burden.add(file));
        // Behind four times a bound, disk space or memory matters more than evenness.
        let behind =
            burden.bytes > 4 * settings.wal_retain_bytes || burden.extents > 4 * settings.wal_extents_max;
        if settings.rewrite_bytes_per_second > 0 && !behind && self.shared.state() == LogState::Running {
            let micros = bytes.saturating_mul(1_000_000) / settings.rewrite_bytes_per_second;
            task::sleep(Duration::from_micros(micros)).await;
        }
    }

    /// New versions of these shards: what the partitions have now, with `new` in the place of what it covers.
    async fn commit(
        &mut self,
        shards: &BTreeSet<u32>,
        new: &BTreeMap<TopicIdPartition, Vec<PlacedPiece>>,
        compacted: Option<(TopicIdPartition, i64)>,
    ) -> Result<(), ManifestError> {
        let partitions = self.shared.all_partitions();
        let mut changed = new_versions(shards, &partitions, |partition| {
            partition.pieces_with(new.get(&partition.id()).map_or(&[], Vec::as_slice))
        });
        for shard in &mut changed {
            let own = |partition: &&Arc<Partition>| shard.partitions.contains_key(&partition.id());
            let now =
                partitions.iter().filter(own).map(|partition| (partition.id(), partition.compacted_to()));
            let all = now.chain(compacted.filter(|(id, _)| shard_of(id) == shard.number));
            shard.compacted = all.filter(|(_, to)| *to > 0).collect();
        }
        let mentioned: Vec<(u32, BTreeSet<SegmentId>)> =
            changed.iter().map(|shard| (shard.number, shard.segments().into_keys().collect())).collect();
        let wal_mark = self
            .shared
            .directory()
            .sealed()
            .iter()
            .find(|file| file.live_extents > 0)
            .map_or(0, |file| file.number);
        self.manifest.commit(changed, wal_mark).await?;
        self.mentioned.extend(mentioned);
        Ok(())
    }

    /// Segments that nobody reads any more: the manifest forgets them, then they are removed.
    async fn drop_dead_segments(&mut self) -> Result<bool, RewriteError> {
        let segments = &self.shared.directory().segments;
        let dead = |id: &&SegmentId| !segments.uses.is_live(id);
        let dead: BTreeSet<SegmentId> = self.mentioned.values().flatten().filter(dead).copied().collect();
        let names_dead =
            |(number, ids): (&u32, &BTreeSet<SegmentId>)| (!ids.is_disjoint(&dead)).then_some(*number);
        let shards: BTreeSet<u32> = self.mentioned.iter().filter_map(names_dead).collect();
        if !shards.is_empty() {
            match self.commit(&shards, &BTreeMap::new(), None).await {
                Ok(()) => {}
                Err(ManifestError::Catalog(why)) => {
                    self.stopped = Some(why.clone());
                    return Err(RewriteError::Stopped(why));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let unmentioned = self.unmentioned().await?;
        let any = !unmentioned.is_empty();
        self.remove_files(unmentioned.into_iter()).await;
        self.count();
        Ok(any)
    }

    /// Files of segments that no shard leads to and nobody reads.
    async fn unmentioned(&self) -> Result<Vec<SegmentId>, DiskError> {
        let entries = self.shared.directory().disk.list(self.shared.directory().segments.dir()).await?;
        let ids = entries.iter().filter_map(|entry| file_id(&entry.name));
        Ok(ids
            .filter(|id| !self.is_mentioned(id) && !self.shared.directory().segments.uses.is_live(id))
            .collect())
    }

    fn is_mentioned(&self, id: &SegmentId) -> bool {
        self.mentioned.values().any(|ids| ids.contains(id))
    }

    pub(crate) async fn remove_files(&self, ids: impl Iterator<Item = SegmentId>) {
        for id in ids {
            assert!(!self.is_mentioned(&id), "a segment goes only when the manifest does not lead to it");
            self.shared.directory().segments.forget(&id);
            let path = self.shared.directory().segments.dir().join(file_name(&id));
            if let Err(error) = self.shared.directory().disk.remove(&path).await {
                tracing::warn!("a segment that nobody needs stays until the next start: {error}");
            }
        }
    }

    /// Shows in the counters what there is.
    pub fn count(&self) {
        let (count, bytes, live) = self.shared.directory().segments.uses.totals();
        self.shared.counters.segments.store(count, Ordering::Relaxed);
        self.shared.counters.segment_bytes.store(bytes, Ordering::Relaxed);
        self.shared.counters.segment_live_bytes.store(live, Ordering::Relaxed);
    }
}

/// When WAL files are rewritten, and how much at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub retain_bytes: u64,
    pub retain_large_bytes: u64,
    pub extents_max: u64,
    pub job_bytes: u64,
    pub room: u64,
    /// The disk is nearly full.
    pub pressed: bool,
    /// More dead bytes than this in files that are mostly dead are a reason, too.
    pub dead_max: u64,
}

/// What would be too much of all sealed files together.
#[derive(Clone, Copy, Debug, Default)]
struct Burden {
    /// Files with small extents, and what is dead in the others.
    bytes: u64,
    /// All files.
    all_bytes: u64,
    extents: u64,
}

impl Burden {
    fn add(&mut self, file: &SealedFile) {
        // A segment would serve large extents no better than the WAL file does.
        let is_large = file.live_bytes >= file.live_extents.max(1) * LARGE_EXTENT_BYTES;
        self.bytes += if is_large { file.len.saturating_sub(file.live_bytes) } else { file.len };
        self.all_bytes += file.len;
        self.extents += file.live_extents;
    }
}

/// Up to which WAL file the next job goes; `None` when there is nothing to do yet. Always from the oldest on.
pub fn choose(sealed: &[SealedFile], bounds: &Bounds) -> Option<u64> {
    let mut all = Burden::default();
    sealed.iter().for_each(|file| all.add(file));
    let too_many = all.bytes > bounds.retain_bytes
        || all.all_bytes > bounds.retain_large_bytes
        || all.extents > bounds.extents_max;
    let mut gone = Burden::default();
    let mut live = 0;
    let mut through = None;
    for file in sealed {
        if through.is_some() && live + file.live_bytes > bounds.job_bytes {
            break;
        }
        gone.add(file);
        live += file.live_bytes;
        // Footers take a part of what the payload takes.
        if live + live / 4 > bounds.room {
            break;
        }
        let dead_max = if bounds.pressed { 0 } else { bounds.dead_max };
        let gain = live > 0 && live * 2 < gone.all_bytes && gone.all_bytes - live > dead_max;
        if gain {
            return Some(file.number);
        }
        if too_many && file.live_extents > 0 {
            through = Some(file.number);
            if all.bytes - gone.bytes <= bounds.retain_bytes
                && all.all_bytes - gone.all_bytes <= bounds.retain_large_bytes
                && all.extents - gone.extents <= bounds.extents_max / 2
            {
                break;
            }
        }
    }
    through
}

/// The background task: one job at a time.
pub async fn rewrite(shared: Weak<Shared>, rewriter: Weak<tokio::sync::Mutex<Rewriter>>) {
    let mut wait_steps = 0;
    loop {
        let Some(interval) = shared.upgrade().map(|shared| shared.settings.rewrite_interval) else { return };
        task::sleep(interval * (1 + wait_steps)).await;
        loop {
            let (Some(shared), Some(rewriter)) = (shared.upgrade(), rewriter.upgrade()) else { return };
            if shared.closing.load(Ordering::Acquire) {
                return;
            }
            match rewriter.lock().await.step().await {
                Ok(true) => wait_steps = 0,
                Ok(false) => {
                    wait_steps = 0;
                    // The writer gives dead WAL files back; without traffic nobody else reminds it.
                    shared.wake.notify_one();
                    break;
                }
                Err(RewriteError::Closing) => return,
                Err(error) => {
                    tracing::warn!("rewriting: {error}");
                    wait_steps = (wait_steps + 1).min(RETRY_STEPS);
                    break;
                }
            }
        }
    }
}

/// The number of shards is part of the format.
const _: () = assert!(SHARDS == 16);

/// Shards of the manifest with what their partitions have now.
pub(crate) fn new_versions(
    shards: &BTreeSet<u32>,
    partitions: &[Arc<Partition>],
    pieces_of: impl Fn(&Partition) -> Vec<PlacedPiece>,
) -> Vec<Shard> {
    let mut new: BTreeMap<u32, Shard> =
        shards.iter().map(|number| (*number, Shard { number: *number, ..Shard::default() })).collect();
    for partition in partitions {
        let id = partition.id();
        let Some(shard) = new.get_mut(&shard_of(&id)) else { continue };
        let pieces = pieces_of(partition);
        if !pieces.is_empty() {
            shard.partitions.insert(id, pieces);
        }
    }
    new.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u64, len: u64, live_bytes: u64) -> SealedFile {
        SealedFile { number, len, live_bytes, live_extents: live_bytes.min(1) }
    }

    const BOUNDS: Bounds = Bounds {
        retain_bytes: 1000,
        retain_large_bytes: 1000,
        extents_max: 1000,
        job_bytes: 1000,
        room: 1000,
        pressed: false,
        dead_max: u64::MAX,
    };

    #[test]
    fn the_oldest_files_beyond_the_bound_go_and_dead_ones_cost_nothing() {
        let files = [file(1, 100, 0), file(2, 100, 90), file(3, 100, 80), file(4, 100, 100)];
        let choose = |retain_bytes, job_bytes, room, pressed| {
            choose(&files, &Bounds { retain_bytes, job_bytes, room, pressed, ..BOUNDS })
        };
        assert_eq!(choose(400, 1000, 1000, false), None, "within the bound");
        assert_eq!(choose(399, 1000, 1000, false), Some(2), "file 1 is dead and is not rewritten");
        assert_eq!(choose(150, 1000, 1000, false), Some(3));
        assert_eq!(choose(150, 100, 1000, false), Some(2), "a job has a bound");
        assert_eq!(choose(150, 1000, 60, false), None, "no room for the output");
        let pressed = choose(1000, 1000, 1000, true);
        assert_eq!(pressed, Some(2), "under pressure what is half dead goes: 90 of 200");
        let bounds = |dead_max| Bounds { dead_max, ..BOUNDS };
        assert_eq!(super::choose(&files, &bounds(109)), Some(2), "so do more dead bytes than may be: 110");
        assert_eq!(super::choose(&files, &bounds(110)), None);
    }

    #[test]
    fn files_of_large_extents_stay_longer_unless_much_of_them_is_dead() {
        let large = |number, live| SealedFile { number, len: 10 << 20, live_bytes: live, live_extents: 8 };
        let whole = [large(1, 9 << 20), large(2, 9 << 20), large(3, 9 << 20), large(4, 9 << 20)];
        let bounds = Bounds {
            retain_bytes: 15 << 20,
            retain_large_bytes: 100 << 20,
            job_bytes: 100 << 20,
            room: 100 << 20,
            ..BOUNDS
        };
        assert_eq!(choose(&whole, &bounds), None, "40 MiB in all, of which 4 are dead");
        assert_eq!(choose(&whole, &Bounds { retain_large_bytes: 35 << 20, ..bounds }), Some(1));
        let half = [large(1, 5 << 20), large(2, 5 << 20), large(3, 5 << 20), large(4, 5 << 20)];
        assert_eq!(choose(&half, &bounds), Some(1), "20 MiB are dead");
    }

    #[test]
    fn many_extents_are_a_reason_as_well() {
        let files = [
            SealedFile { number: 1, len: 10, live_bytes: 10, live_extents: 600 },
            SealedFile { number: 2, len: 10, live_bytes: 10, live_extents: 600 },
        ];
        assert_eq!(choose(&files, &BOUNDS), Some(2));
        assert_eq!(choose(&files, &Bounds { extents_max: 1200, ..BOUNDS }), None);
    }
}
