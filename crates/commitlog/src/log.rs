//! The log of one broker: all its partitions over one write-ahead log. Opening and closing, and what everybody shares.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use catalog::{Catalog, MetadataRecord};
use parking_lot::{Mutex, RwLock};
use protocol::{TopicIdPartition, Uuid};
use tokio::sync::{Notify, mpsc};
use world::broken;
use world::bucket::{Bucket, BucketError, BucketErrorKind};
use world::clock::Clock;
use world::collections::HashMap;
use world::disk::{Disk, DiskError, DiskErrorKind, DiskLock, OpenMode, read_small, write_atomic};
use world::rng::Rng;
use world::task;

use crate::bucket::{
    self, BlockDirectory, BlockFiles, BucketMedium, BucketRewriter, BucketWriter, OwnBacklog, TakeoverError,
    take_over, take_over_own,
};
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::checkpointer::{CheckpointRequest, Checkpointer};
use crate::commit::CommitGroup;
use crate::compaction::CompactionCounters;
use crate::container::{ContainerHeader, Footer, HEADER_LEN, LogStart, SectionKind};
use crate::encoding::{Decoder, Encoder, FormatError};
use crate::error::{AppendError, CommitError, EndTransactionError, OpenError};
use crate::extent::Extent;
use crate::housekeeping::housekeeping;
use crate::manifest::{Book, Manifest};
use crate::medium::{Directory, Medium};
use crate::next_file::prepare_files;
use crate::partition::{AppendOptions, EndTransaction, Origin, Partition, extent_of};
use crate::recovery::{self, Walked};
use crate::rewrite::{RewriteError, Rewriter, rewrite};
use crate::settings::{CompactionLimits, LogSettings, PartitionSettings};
use crate::tail::{ColdExtents, Tail};
use crate::tier::{OffloadError, Offloader, Tier, offload};
use crate::wal::{self, FIRST_FILE, FIRST_FILE_BYTES, Files, Gather, Pending, Position};
use crate::writer::Writer;

/// Appends are refused when this many times the bound of unflushed bytes waits: callers did not wait for `room()`.
const BUSY_FACTOR: usize = 4;
/// Room in the WAL that coordinators leave for trimming when the disk is full.
const LAST_ROOM_BYTES: u64 = 64 << 10;
/// How long the end of a log waits for a bucket that does not answer.
const BUCKET_CLOSE_MAX: Duration = Duration::from_secs(10);
/// How often partitions that leave are looked at.
/// By a broker that breaks R13.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(200);
const DRAIN_LOOK: Duration = Duration::from_millis(2);

/// Whether the log takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogState {
    Running,
    /// Produce is refused, reads go on; ends by itself when there is room again.
    Full,
    /// A write or a sync failed: nothing is acknowledged any more, reads go on, a restart recovers.
    Failed(String),
}

/// Commits in a bucket that are not rewritten into segments yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Of this broker's own WAL, and their bytes.
    pub slots: u64,
    pub bytes: u64,
    /// With more of them commits are held back.
    pub slots_max: u64,
    /// Of WALs that have ended and that this broker is to rewrite.
    pub duties: u64,
    /// Of all WALs: what an opening of partitions may have to know.
    pub for_others: u64,
}

/// What the log did so far.
#[derive(Debug, Default)]
pub struct LogCounters {
    pub commits: AtomicU64,
    pub batches: AtomicU64,
    /// Of chunks: batches, headers, footers and padding.
    pub bytes: AtomicU64,
    /// Time from the start of a write to its sync, summed.
    pub commit_nanos: AtomicU64,
    pub checkpoints: AtomicU64,
    pub checkpoint_bytes: AtomicU64,
    pub wal_files: AtomicU64,
    pub wal_bytes: AtomicU64,
    pub wal_files_recycled: AtomicU64,
    /// Segments, their bytes, and how many of those are still read.
    pub segments: AtomicU64,
    pub segment_bytes: AtomicU64,
    pub segment_live_bytes: AtomicU64,
    /// Found missing or cut off at the start.
    pub segments_damaged: AtomicU64,
    /// Jobs of the rewriter, and bytes of batches that they wrote.
    pub rewrites: AtomicU64,
    pub bytes_rewritten: AtomicU64,
    /// Slots of other brokers' WALs of which the index was read for readers here.
    pub view_slots: AtomicU64,
    /// Bucket: of these jobs, those that merged segments.
    pub merges: AtomicU64,
    /// Bucket: what the rewriter leaves alone because it is damaged or missing.
    pub rewriter_damaged: AtomicU64,
    /// Bucket: objects that others have taken the place of, and that are kept for a while.
    pub replaced_objects: AtomicU64,
    /// Bucket: objects below `wal/`, `seg/` and `manifest/`, and their bytes, when everything was listed last (once an hour).
    pub bucket_objects: AtomicU64,
    pub bucket_bytes: AtomicU64,
    /// Bucket: commits that waited for the rewriter.
    pub commits_held_back: AtomicU64,
    /// Bucket: openings of partitions that somebody led before, and how long they took, summed and the last one.
    pub openings: AtomicU64,
    pub opening_nanos: AtomicU64,
    pub last_opening_nanos: AtomicU64,
    pub compaction: CompactionCounters,
    /// Live producer ids; bound `producers_max`.
    pub producers: AtomicU64,
    /// Chunks that the last start replayed, and how long it took.
    pub recovered_chunks: AtomicU64,
    pub recovery_nanos: AtomicU64,
}

/// What partitions, the writer and the background tasks share.
pub struct Shared {
    pub settings: LogSettings,
    pub medium: Medium,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub gathers: Mutex<VecDeque<Gather>>,
    pub wake: Notify,
    /// The writer is not woken before so many batches wait.
    pub wanted: AtomicUsize,
    /// [`Together`] guards alive: whoever holds one wakes the writer in the end.
    together: AtomicUsize,
    unflushed: AtomicUsize,
    room: Notify,
    state: Mutex<LogState>,
    /// False while appends are refused; the state says why.
    writable: AtomicBool,
    pub closing: AtomicBool,
    pub tail: Mutex<Tail>,
    pub cold: Mutex<ColdExtents>,
    partitions: RwLock<HashMap<TopicIdPartition, Arc<Partition>>>,
    /// The broker leaves: no partition takes appends, nor any that is opened from here on. Set under the partitions' lock.
    retiring: AtomicBool,
    /// Questions to coordinators so far. Of the whole log: a partition that is led elsewhere and here again must not take what was asked
    /// for its former self.
    pub verifications: AtomicU64,
    /// Partitions that changed since the last checkpoint frame.
    pub dirty: Mutex<Vec<Arc<Partition>>>,
    pub too_many_producers: Notify,
    compaction: RwLock<CompactionLimits>,
    pub counters: LogCounters,
}

impl Shared {
    pub fn new(
        settings: LogSettings,
        medium: Medium,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        tail: Tail,
    ) -> Self {
        Self {
            tail: Mutex::new(tail),
            cold: Mutex::new(ColdExtents::new(settings.cold_bytes_max)),
            compaction: RwLock::new(settings.compaction),
            settings,
            medium,
            clock,
            rng,
            gathers: Mutex::default(),
            wake: Notify::new(),
            wanted: AtomicUsize::new(0),
            together: AtomicUsize::new(0),
            unflushed: AtomicUsize::new(0),
            room: Notify::new(),
            state: Mutex::new(LogState::Running),
            writable: AtomicBool::new(true),
            closing: AtomicBool::new(false),
            partitions: RwLock::default(),
            retiring: AtomicBool::new(false),
            verifications: AtomicU64::new(0),
            dirty: Mutex::default(),
            too_many_producers: Notify::new(),
            counters: LogCounters::default(),
        }
    }

    /// For the tasks that only a log in a directory has.
    pub fn directory(&self) -> &Directory {
        match &self.medium {
            Medium::Directory(directory) => directory,
            Medium::Bucket(_) => unreachable!("a log in a bucket has no task that works on files"),
        }
    }

    pub fn compaction_limits(&self) -> CompactionLimits {
        *self.compaction.read()
    }

    /// May this batch be enqueued?
    pub fn check_room(&self, options: &AppendOptions, len: usize) -> Result<(), AppendError> {
        let unflushed = self.unflushed.load(Ordering::Acquire);
        if unflushed >= self.settings.unflushed_bytes_max.saturating_mul(BUSY_FACTOR) {
            return Err(AppendError::Busy);
        }
        if self.writable.load(Ordering::Acquire) {
            return Ok(());
        }
        match &*self.state.lock() {
            LogState::Failed(why) => Err(AppendError::Failed(why.clone())),
            LogState::Full => {
                // Coordinators trim and compact what they wrote before: they go on while the WAL has room of its own.
                let needed = (unflushed + len) as u64 + LAST_ROOM_BYTES;
                let room = self.directory().current_room.load(Ordering::Acquire) >= needed;
                if options.origin == Origin::Coordinator && room { Ok(()) } else { Err(AppendError::Full) }
            }
            LogState::Running => Err(AppendError::Failed("the log is closing".into())),
        }
    }

    pub fn state(&self) -> LogState {
        self.state.lock().clone()
    }

    pub fn set_state(&self, state: LogState) {
        let mut now = self.state.lock();
        if matches!(&*now, LogState::Failed(_)) || *now == state {
            return; // a failure is final
        }
        match &state {
            LogState::Running => tracing::info!("there is room on the disk again, produce is taken"),
            LogState::Full => {
                tracing::error!(
                    "the disk is nearly full: produce is refused until there is room; reads go on"
                );
            }
            LogState::Failed(why) => {
                tracing::error!(
                    "the log has stopped: nothing is acknowledged any more, reads go on; restart to recover: {why}"
                );
            }
        }
        let running = state == LogState::Running && !self.closing.load(Ordering::Acquire);
        self.writable.store(running, Ordering::Release);
        *now = state;
        drop(now);
        // Nobody waits for room that a stopped log would never make.
        self.room.notify_waiters();
    }

    fn with_gather(&self, bytes: usize, is_urgent: bool, put: impl FnOnce(&mut Gather)) -> Arc<CommitGroup> {
        let mut gathers = self.gathers.lock();
        let full =
            gathers.back().is_none_or(|g| g.bytes > 0 && g.bytes + bytes > self.settings.chunk_bytes_max);
        if full {
            gathers.push_back(Gather::default());
        }
        let gather = gathers.back_mut().expect("one was pushed");
        gather.bytes += bytes;
        let becomes_urgent = is_urgent && !gather.is_urgent;
        gather.is_urgent |= is_urgent;
        put(gather);
        let group = gather.group.clone();
        let waiting = waiting(&gathers);
        drop(gathers);
        let wanted =
            self.together.load(Ordering::SeqCst) == 0 && waiting >= self.wanted.load(Ordering::SeqCst);
        // A commit that is as long as it may be waits for nobody.
        if wanted || becomes_urgent || full && waiting > 1 {
            self.wake.notify_one();
        }
        group
    }

    /// Batches that wait for the writer.
    pub fn waiting(&self) -> usize {
        waiting(&self.gathers.lock())
    }

    pub fn enqueue(&self, pending: Pending, is_urgent: bool) -> Arc<CommitGroup> {
        let bytes = pending.batch.bytes.len();
        self.unflushed.fetch_add(bytes, Ordering::AcqRel);
        self.with_gather(bytes, is_urgent, |gather| gather.batches.push(pending))
    }

    pub fn enqueue_log_start(&self, start: LogStart) -> Arc<CommitGroup> {
        self.with_gather(0, false, |gather| gather.log_starts.push(start))
    }

    pub fn flushed(&self, bytes: usize) {
        self.unflushed.fetch_sub(bytes, Ordering::AcqRel);
        self.room.notify_waiters();
    }

    /// Partitions hold what they share, and that holds the partitions: without this a log that is closed stays in
    /// memory for as long as the process lives.
    fn cut_circle(&self) {
        self.partitions.write().clear();
        self.dirty.lock().clear();
        if let Medium::Bucket(bucket) = &self.medium {
            bucket.views.clear();
        }
    }

    pub fn producers_added(&self, count: usize) {
        let before = self.counters.producers.fetch_add(count as u64, Ordering::AcqRel);
        if before + count as u64 > self.settings.producers_max as u64 {
            self.too_many_producers.notify_one();
        }
    }

    pub fn producers_removed(&self, count: usize) {
        self.counters.producers.fetch_sub(count as u64, Ordering::AcqRel);
    }

    /// Partitions that are as they should be. Those that somebody has opened meanwhile stay.
    pub fn insert_partitions(&self, opened: Vec<Arc<Partition>>) {
        let mut partitions = self.partitions.write();
        for partition in opened {
            self.drain_if_retiring(&partition);
            partitions.entry(partition.id()).or_insert(partition);
        }
    }

    fn drain_if_retiring(&self, partition: &Partition) {
        if self.retiring.load(Ordering::Acquire) {
            partition.drain();
        }
    }

    /// All partitions refuse appends, now and when they are opened later.
    fn retire(&self) -> Vec<Arc<Partition>> {
        let partitions = self.partitions.write();
        self.retiring.store(true, Ordering::Release);
        partitions.values().for_each(|partition| partition.drain());
        partitions.values().cloned().collect()
    }

    /// It did not come to that. Not while partitions are being moved.
    fn go_on(&self) {
        let partitions = self.partitions.write();
        self.retiring.store(false, Ordering::Release);
        partitions.values().for_each(|partition| partition.stay());
    }

    /// In a bucket: puts in what others have moved, up to the end of the metadata log. An error: that is not known now.
    pub async fn look_for_moves(&self) -> Result<(), BucketError> {
        let Medium::Bucket(bucket) = &self.medium else { return Ok(()) };
        let why = match bucket.catalog.catch_up().await {
            Ok(_) if bucket::follow_manifest(self).await => match bucket::refresh_views(self).await {
                Ok(()) => return Ok(()),
                Err(error) => error.to_string(),
            },
            Ok(_) => "the manifest cannot be followed".to_owned(),
            Err(error) => error.to_string(),
        };
        let kind = BucketErrorKind::Unavailable;
        Err(BucketError { kind, operation: "follow", key: "meta/".to_owned(), detail: why })
    }

    /// Ordered, so that a simulated run does the same each time.
    pub fn all_partitions(&self) -> Vec<Arc<Partition>> {
        let mut all: Vec<_> = self.partitions.read().values().cloned().collect();
        all.sort_unstable_by_key(|partition| partition.id());
        all
    }

    pub fn partition(&self, id: &TopicIdPartition) -> Option<Arc<Partition>> {
        self.partitions.read().get(id).cloned()
    }
}

fn waiting(gathers: &VecDeque<Gather>) -> usize {
    gathers.iter().map(|gather| gather.batches.len()).sum()
}

/// While it lives, what is appended waits for its end: one commit for all of a request and not one for its first batch and
/// one for the others. Never held across an await.
pub struct Together<'a> {
    shared: &'a Shared,
}

impl Drop for Together<'_> {
    fn drop(&mut self) {
        self.shared.together.fetch_sub(1, Ordering::SeqCst);
        let wanted = self.shared.wanted.load(Ordering::SeqCst);
        if wanted == 0 || self.shared.waiting() >= wanted {
            self.shared.wake.notify_one();
        }
    }
}

enum AnyRewriter {
    Directory(Arc<tokio::sync::Mutex<Rewriter>>),
    Bucket(Arc<tokio::sync::Mutex<BucketRewriter>>),
}

pub struct CommitLog {
    shared: Arc<Shared>,
    /// None when the log was opened without a catalog: then there are no segments.
    rewriter: Option<AnyRewriter>,
    /// With a second tier.
    offloader: Option<Arc<tokio::sync::Mutex<Offloader>>>,
    closed: world::watch::Receiver<bool>,
    _lock: Option<DiskLock>,
}

impl CommitLog {
    /// Opens or makes the log in `dir`: reads the checkpoint and the WAL behind it, cuts a torn tail, refuses damage.
    /// Partitions are those of the catalog; data of others is dead.
    pub async fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        settings: LogSettings,
        catalog: Arc<Catalog>,
    ) -> Result<Arc<CommitLog>, OpenError> {
        Self::open_tiered(disk, dir, clock, rng, settings, catalog, None).await
    }

    /// The same with a second tier, which a log that has something there cannot do without.
    pub async fn open_tiered(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        settings: LogSettings,
        catalog: Arc<Catalog>,
        tier: Option<Arc<dyn Bucket>>,
    ) -> Result<Arc<CommitLog>, OpenError> {
        let partitions = all_of(&catalog);
        Self::open_inner(disk, dir, clock, rng, settings, &partitions, Some(catalog), tier).await
    }

    /// Opens the log in a bucket: ends what earlier incarnations of this node left open, begins a WAL of its own, and opens the
    /// partitions that come with them. The catalog lies in the same bucket.
    pub async fn open_bucket(
        bucket: Arc<dyn Bucket>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        settings: LogSettings,
        catalog: Arc<Catalog>,
    ) -> Result<Arc<CommitLog>, OpenError> {
        Self::open_bucket_cached(bucket, clock, rng, settings, catalog, None).await
    }

    /// The same, and what readers fetch of segments is kept in a directory.
    pub async fn open_bucket_cached(
        bucket: Arc<dyn Bucket>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        settings: LogSettings,
        catalog: Arc<Catalog>,
        cache: Option<BlockDirectory>,
    ) -> Result<Arc<CommitLog>, OpenError> {
        let began = clock.monotonic();
        take_over_own(&bucket, &catalog).await?;
        let wal_id = catalog.wal_id();
        let tail = Tail::of_wal(settings.tail_bytes_max, wal_id);
        let (in_memory, ahead) = (settings.bucket_cache_bytes, settings.bucket_read_ahead_bytes);
        let files = cache.map(|cache| BlockFiles::open(cache, catalog.read().cluster_id()));
        let medium = BucketMedium::new(bucket.clone(), catalog.clone(), in_memory, ahead, files);
        let shared = Arc::new(Shared::new(settings, Medium::Bucket(medium), clock, rng, tail));
        let mut opening = Opening { shared: shared.clone(), is_writing: false };
        let led = catalog.read().led_by(wal_id);
        let led: Vec<_> = led.into_iter().map(|id| (id_of(id), PartitionSettings::default())).collect();
        bucket::load(&shared, &led).await?;
        let took = shared.clock.monotonic().saturating_sub(began);
        shared.counters.recovery_nanos.store(took.as_nanos() as u64, Ordering::Relaxed);
        opening.is_writing = true;
        let (closed_sender, closed) = world::watch::channel(false);
        task::spawn(BucketWriter::new(shared.clone(), bucket, wal_id, closed_sender).run());
        task::spawn(housekeeping(Arc::downgrade(&shared)));
        let rewriter = Arc::new(tokio::sync::Mutex::new(BucketRewriter::new(shared.clone())));
        task::spawn(bucket::rewrite(Arc::downgrade(&shared), Arc::downgrade(&rewriter)));
        let rewriter = Some(AnyRewriter::Bucket(rewriter));
        Ok(Arc::new(CommitLog { shared, rewriter, offloader: None, closed, _lock: None }))
    }

    /// As [`CommitLog::open`], with the partitions named, and without segments.
    pub async fn open_with(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        settings: LogSettings,
        partitions: &[(TopicIdPartition, PartitionSettings)],
    ) -> Result<Arc<CommitLog>, OpenError> {
        Self::open_inner(disk, dir, clock, rng, settings, partitions, None, None).await
    }

    #[allow(clippy::too_many_arguments, reason = "all that is outside comes as an argument")]
    async fn open_inner(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        settings: LogSettings,
        partitions: &[(TopicIdPartition, PartitionSettings)],
        catalog: Option<Arc<Catalog>>,
        tier: Option<Arc<dyn Bucket>>,
    ) -> Result<Arc<CommitLog>, OpenError> {
        let began = clock.monotonic();
        let wal_dir = dir.join("wal");
        disk.create_dir_all(&wal_dir).await?;
        let lock = disk.lock(&dir.join("log.lock")).await.map_err(|error| match error.kind {
            DiskErrorKind::Locked => OpenError::Locked { path: dir.clone(), detail: error.detail },
            _ => error.into(),
        })?;
        let sync_dir = !settings.skips_directory_sync();
        let Identity { log_id, first_file_len } = open_identity(&disk, &dir, &*rng, &settings).await?;
        let mut files = wal::open_files(&disk, &wal_dir).await?;
        let (checkpoint_file, checkpoint) =
            CheckpointFile::open(disk.clone(), dir.join("checkpoint"), log_id, !sync_dir).await?;
        let fresh = || Checkpoint { at: Position::START, file_len: first_file_len, ..Checkpoint::default() };
        let checkpoint = checkpoint.unwrap_or_else(fresh);
        let reach = checkpoint.reach.max(settings.checkpoint_bytes);
        let since_durable = checkpoint.since_durable;
        if let (None, Some(catalog)) = (&tier, &catalog) {
            nothing_is_tiered(&disk, &dir, catalog, partitions).await?;
        }
        let tier = tier.map(|bucket| Arc::new(Tier::new(bucket, log_id, &settings)));
        let is_probed = match &tier {
            Some(tier) => tier.prove_itself(&*rng, settings.tier_probe_wait).await?,
            None => false,
        };
        let directory = Directory::new(disk, &dir, log_id, tier.clone());
        let tail = Tail::new(settings.tail_bytes_max, 0);
        let shared = Arc::new(Shared::new(settings, Medium::Directory(directory), clock, rng, tail));
        let directory = shared.directory();
        let mut opening = Opening { shared: shared.clone(), is_writing: false };
        for (id, settings) in partitions {
            ensure(&shared, *id, settings.clone());
        }
        let clean = checkpoint.closed;
        let (start, file_len) = (checkpoint.at, checkpoint.file_len);
        let proven = restore(&shared, checkpoint)?;
        let walked = recovery::walk(&files, &directory.wal_dir, start, file_len, &log_id, reach, |found| {
            let place = &found.place;
            replay(&shared, &found.header, &found.footer, place.file, place.offset)
                .map_err(|detail| recovery::damaged(&directory.wal_dir, place, found.header.number, detail))
        })
        .await?;
        if walked.at.last_number < proven {
            let detail = format!("it cannot be read, yet the checkpoint knows of chunk {proven}");
            return Err(recovery::damaged(
                &shared.directory().wal_dir,
                &walked.at,
                walked.at.last_number + 1,
                detail,
            ));
        }
        let rewriter = match &catalog {
            Some(catalog) => {
                Some(Rewriter::open(shared.clone(), dir.join("manifest"), catalog.clone()).await?)
            }
            None => None,
        };
        let offloader = match (catalog, tier) {
            (Some(catalog), Some(tier)) => {
                Some(Offloader::open(shared.clone(), tier, dir.join("tier"), catalog, is_probed).await?)
            }
            _ => None,
        };
        check_extents(&shared, &files)?;
        if let Some(rewriter) = &rewriter {
            rewriter.count();
        }
        let Walked { at, unsettled, chunk_count, bytes } = walked;
        if let Some(ahead) = files.remove(&(at.file + 1)) {
            directory.next_file.found(at.file + 1, ahead);
        }
        let current = files.get(&at.file).cloned().expect("the walk ended in a file that is there");
        *directory.files.lock() = files;
        directory.count_files(&shared.counters);
        *shared.tail.lock() = Tail::new(shared.settings.tail_bytes_max, at.last_number + 1);
        shared.counters.recovered_chunks.store(chunk_count, Ordering::Relaxed);
        opening.is_writing = true;
        let (requests, request_queue) = mpsc::channel::<CheckpointRequest>(4);
        let checkpointer =
            // Frames of a life that did not end well may stand in the page cache only: nothing is built on them.
            Checkpointer { shared: shared.clone(), file: checkpoint_file, last: start, force_base: !clean };
        task::spawn(checkpointer.run(request_queue));
        task::spawn(prepare_files(Arc::downgrade(&shared)));
        task::spawn(housekeeping(Arc::downgrade(&shared)));
        let (closed_sender, closed) = world::watch::channel(false);
        let since_durable = since_durable + bytes;
        let mut writer = Writer::new(shared.clone(), current, at, since_durable, requests, closed_sender);
        let is_new = at == Position::START && chunk_count == 0;
        let nothing_since_close = clean && chunk_count == 0;
        if !is_new && !nothing_since_close {
            writer.settle(&unsettled).await?;
        }
        let took = shared.clock.monotonic().saturating_sub(began);
        shared.counters.recovery_nanos.store(took.as_nanos() as u64, Ordering::Relaxed);
        task::spawn_on_own_thread("log-writer", writer.run()).map_err(|error| {
            DiskError::new(
                DiskErrorKind::Io,
                "start the writer of",
                &shared.directory().wal_dir,
                error.to_string(),
            )
        })?;
        let rewriter = rewriter.map(|rewriter| Arc::new(tokio::sync::Mutex::new(rewriter)));
        if let Some(rewriter) = &rewriter {
            task::spawn(rewrite(Arc::downgrade(&shared), Arc::downgrade(rewriter)));
        }
        let rewriter = rewriter.map(AnyRewriter::Directory);
        let offloader = offloader.map(|offloader| Arc::new(tokio::sync::Mutex::new(offloader)));
        if let Some(offloader) = &offloader {
            task::spawn(offload(Arc::downgrade(&shared), Arc::downgrade(offloader)));
        }
        Ok(Arc::new(CommitLog { shared, rewriter, offloader, closed, _lock: Some(lock) }))
    }

    pub fn partition(&self, id: &TopicIdPartition) -> Option<Arc<Partition>> {
        self.shared.partition(id)
    }

    /// Ends a transaction in one partition with a marker, durably, and says at which offset. None: the transaction that it names is
    /// not open, so there is nothing to do (T2). Since that says what the state is, it is known behind a barrier only (R20): a
    /// leader that was taken over from may never have seen the transaction, and its coordinator would take it for ended.
    pub async fn end_transaction(
        &self,
        id: &TopicIdPartition,
        marker: EndTransaction,
        leader_epoch: i32,
    ) -> Result<Option<i64>, EndTransactionError> {
        let partition = self.partition(id).ok_or(AppendError::NotLeader)?;
        let appended = partition.end_transaction(marker, leader_epoch)?;
        let offset = (!appended.duplicate).then_some(appended.base_offset);
        appended.committed().await?;
        if offset.is_none() {
            self.barrier().await?;
            let is_same = self.partition(id).is_some_and(|now| Arc::ptr_eq(&now, &partition));
            if !is_same || partition.is_leaving() {
                return Err(AppendError::NotLeader.into());
            }
        }
        Ok(offset)
    }

    /// Partitions that the catalog has; a known one only gets its settings.
    pub fn create_partitions(&self, partitions: &[(TopicIdPartition, PartitionSettings)]) {
        for (id, settings) in partitions {
            ensure(&self.shared, *id, settings.clone());
            self.update_settings(id, settings.clone());
        }
    }

    pub fn update_settings(&self, id: &TopicIdPartition, settings: PartitionSettings) {
        if let Some(partition) = self.partition(id) {
            partition.inner.lock().settings = settings;
        }
    }

    /// Forgets the partitions of a topic that is gone from the catalog. Their space is given back in the background.
    pub async fn remove_partitions(&self, topic_id: Uuid) {
        let removed: Vec<Arc<Partition>> = {
            let mut partitions = self.shared.partitions.write();
            let ids: Vec<_> = partitions.keys().filter(|id| id.topic_id == topic_id).copied().collect();
            ids.iter().filter_map(|id| partitions.remove(id)).collect()
        };
        for partition in removed {
            partition.delete();
            let producers = partition.inner.lock().producers.len();
            self.shared.producers_removed(producers);
        }
    }

    /// In a bucket: opens partitions that this broker leads, as the catalog has it, whoever led them before.
    pub async fn open_partitions(
        &self,
        partitions: &[(TopicIdPartition, PartitionSettings)],
    ) -> Result<(), OpenError> {
        bucket::load(&self.shared, partitions).await?;
        bucket::follow_manifest(&self.shared).await;
        Ok(())
    }

    /// In a bucket: a partition that another broker leads, if it is open for readers here. It takes no appends, and its end may be
    /// behind its leader's.
    pub fn view(&self, id: &TopicIdPartition) -> Option<Arc<Partition>> {
        let Medium::Bucket(bucket) = &self.shared.medium else { return None };
        bucket.views.get(id, self.shared.clock.monotonic())
    }

    /// In a bucket: opens partitions that others lead for readers here. Each has all that its leader acknowledged before the call.
    pub async fn open_views(&self, ids: &[TopicIdPartition]) -> Result<(), OpenError> {
        bucket::open_views(&self.shared, ids).await
    }

    /// In a bucket: all that is open for readers here has what its leader acknowledged before the call, as far as we know who that is.
    pub async fn refresh_views(&self) -> Result<(), OpenError> {
        bucket::refresh_views(&self.shared).await
    }

    /// In a bucket: another broker says that slots of its WAL are stored, below this one. Readers here get what is in them sooner, and
    /// nobody looks for more.
    pub fn slots_stored(&self, wal_id: u64, end: u64) {
        if let Medium::Bucket(bucket) = &self.shared.medium {
            bucket.views.slots_stored(wal_id, end, self.shared.clock.monotonic());
        }
    }

    /// In a bucket: another broker does not say how far its WAL is stored, so we look.
    pub fn slots_unheard(&self, wal_id: u64) {
        if let Medium::Bucket(bucket) = &self.shared.medium {
            bucket.views.unheard(wal_id);
        }
    }

    /// In a bucket: WALs of others that readers here wait for. None: there are no others.
    pub fn followed_wals(&self) -> Option<world::watch::Receiver<BTreeSet<u64>>> {
        match &self.shared.medium {
            Medium::Bucket(bucket) => Some(bucket.views.followed()),
            Medium::Directory(_) => None,
        }
    }

    /// In a bucket: how many slots of our own WAL are stored, once they are more than this, or after `wait`.
    pub async fn stored_slots(&self, more_than: u64, wait: Duration) -> u64 {
        match &self.shared.medium {
            Medium::Bucket(bucket) => bucket.stored_beyond(more_than, wait).await,
            Medium::Directory(_) => 0,
        }
    }

    /// Partitions that others lead, open for readers here, and their bound.
    pub fn view_count(&self) -> (usize, usize) {
        let open = match &self.shared.medium {
            Medium::Bucket(bucket) => bucket.views.len(),
            Medium::Directory(_) => 0,
        };
        (open, self.shared.settings.bucket_views_max)
    }

    /// Partitions that another broker leads now: whoever reads or appends here is told.
    pub fn close_partitions(&self, ids: &[TopicIdPartition]) {
        let mut partitions = self.shared.partitions.write();
        let closed: Vec<Arc<Partition>> = ids.iter().filter_map(|id| partitions.remove(id)).collect();
        drop(partitions);
        closed.iter().for_each(|partition| partition.leave());
    }

    /// All that are open here.
    pub fn partition_ids(&self) -> Vec<TopicIdPartition> {
        self.shared.all_partitions().iter().map(|partition| partition.id()).collect()
    }

    /// Bytes that were appended to each partition that is open here, and read of it by clients, since it was opened.
    pub fn traffic(&self) -> Vec<(TopicIdPartition, u64)> {
        let all = self.shared.all_partitions();
        all.iter().map(|partition| (partition.id(), partition.traffic_bytes())).collect()
    }

    /// In a bucket: puts in place what others have rewritten.
    pub async fn follow_manifest(&self) {
        if let Medium::Bucket(_) = &self.shared.medium {
            bucket::follow_manifest(&self.shared).await;
        }
    }

    /// In a bucket: ends the WAL of a broker that is gone, or only seems to be; its partitions go to the heirs.
    pub async fn take_over(&self, wal_id: u64, heirs: &[u64]) -> Result<u64, TakeoverError> {
        let medium = self.shared.medium.bucket();
        take_over(&medium.bucket, &medium.catalog, wal_id, heirs).await
    }

    /// In a bucket: gives partitions to another broker. They take no appends from here on; when all that was appended is
    /// acknowledged, one record moves them (R13). Those that are still led here afterwards go on.
    pub async fn move_partitions(&self, ids: &[TopicIdPartition], heir: u64) -> Result<(), CommitError> {
        let medium = self.shared.medium.bucket();
        let moving: Vec<Arc<Partition>> = ids.iter().filter_map(|id| self.partition(id)).collect();
        // What is not open has no end that we could name, and a record of nothing would be one for nothing.
        if moving.is_empty() {
            return Ok(());
        }
        let epochs: Vec<_> =
            moving.iter().map(|partition| leader_epoch(&medium.catalog, &partition.id())).collect();
        moving.iter().for_each(|partition| partition.drain());
        let moved = async {
            self.drained(&moving).await?;
            let slot = medium.stored();
            let mut by_topic: BTreeMap<Uuid, Vec<u32>> = BTreeMap::new();
            for partition in &moving {
                by_topic.entry(partition.id().topic_id).or_default().push(partition.id().partition as u32);
            }
            let partitions = by_topic.into_iter().collect();
            if broken::rule("move-outcome-unknown") {
                let record = MetadataRecord::MovePartitions { slot, heir, partitions };
                let asked = task::timeout(GIVEN_UP_AFTER, medium.catalog.append(vec![record])).await;
                let failed = |error: &dyn std::fmt::Display| CommitError(error.to_string());
                return asked.map_err(|late| failed(&late))?.map(drop).map_err(|error| failed(&error));
            }
            let is_ours = |(partition, epoch): (&Arc<Partition>, &Option<i32>)| {
                epoch.is_some() && leader_epoch(&medium.catalog, &partition.id()) == *epoch
            };
            let wanted = || moving.iter().zip(&epochs).any(is_ours);
            let record = MetadataRecord::MovePartitions { slot, heir, partitions };
            bucket::settle(&medium.catalog, record, wanted).await
        };
        let moved = moved.await;
        // One that went and came back meanwhile is another one: what was written in between is not in it.
        let is_ours = |(partition, epoch): &(Arc<Partition>, Option<i32>)| {
            epoch.is_some() && leader_epoch(&medium.catalog, &partition.id()) == *epoch
        };
        let (stay, gone): (Vec<_>, Vec<_>) = moving.into_iter().zip(epochs).partition(is_ours);
        for (partition, _) in &gone {
            let mut partitions = self.shared.partitions.write();
            // Not one that was opened anew since.
            if partitions.get(&partition.id()).is_some_and(|open| Arc::ptr_eq(open, partition)) {
                partitions.remove(&partition.id());
            }
            drop(partitions);
            partition.leave();
        }
        stay.iter().for_each(|(partition, _)| partition.stay());
        moved
    }

    /// In a bucket: the last thing that a broker does. Everything that was appended is acknowledged, nothing more is taken, and the
    /// heirs have its partitions.
    pub async fn retire(&self, heirs: &[u64]) -> Result<(), CommitError> {
        let medium = self.shared.medium.bucket();
        let all = self.shared.retire();
        let retired = async {
            self.drained(&all).await?;
            let (end, me) = (medium.stored(), medium.catalog.wal_id());
            let left = medium.own_backlog(self.shared.clock.monotonic()).slots;
            let heirs_of_work = heirs.iter().copied();
            let rewriter = bucket::least_burdened(&medium.catalog.read(), heirs_of_work, me, left);
            let record = MetadataRecord::RetireWal { end, rewriter, heirs: heirs.to_vec() };
            bucket::settle(&medium.catalog, record, || !medium.catalog.is_fenced()).await
        };
        let retired = retired.await;
        if medium.catalog.is_fenced() {
            self.close_partitions(&self.partition_ids());
            return Ok(());
        }
        self.shared.go_on();
        retired
    }

    async fn drained(&self, moving: &[Arc<Partition>]) -> Result<(), CommitError> {
        loop {
            if let LogState::Failed(why) = self.shared.state() {
                return Err(CommitError(why));
            }
            if moving.iter().all(|partition| partition.is_drained()) {
                return Ok(());
            }
            task::sleep(DRAIN_LOOK).await;
        }
    }

    /// Returns when the partitions led here are known to have everything that was acknowledged before the call, by whomever (R20).
    /// A broker that is alone in its directory knows.
    pub async fn barrier(&self) -> Result<(), CommitError> {
        match &self.shared.medium {
            Medium::Directory(_) => Ok(()),
            Medium::Bucket(medium) => medium.barrier(&self.shared).await,
        }
    }

    /// Bytes of objects that a log in a bucket has in memory for readers, and their bound.
    pub fn bucket_cache_bytes(&self) -> Option<(usize, usize)> {
        match &self.shared.medium {
            Medium::Bucket(bucket) => Some((bucket.cached_bytes(), self.shared.settings.bucket_cache_bytes)),
            Medium::Directory(_) => None,
        }
    }

    /// In a bucket: what is not rewritten yet.
    pub fn backlog(&self) -> Option<Backlog> {
        let Medium::Bucket(medium) = &self.shared.medium else { return None };
        let OwnBacklog { slots, bytes, .. } = medium.own_backlog(self.shared.clock.monotonic());
        let (duties, for_others) = medium.slots_to_rewrite();
        Some(Backlog {
            slots,
            bytes,
            slots_max: self.shared.settings.bucket_backlog_slots_max,
            duties,
            for_others,
        })
    }

    pub fn compaction_limits(&self) -> CompactionLimits {
        self.shared.compaction_limits()
    }

    pub fn set_compaction_limits(&self, limits: CompactionLimits) {
        *self.shared.compaction.write() = limits;
    }

    /// Blocks of segments that a log in a bucket has in a directory.
    pub fn block_files(&self) -> Option<&Arc<BlockFiles>> {
        match &self.shared.medium {
            Medium::Bucket(bucket) => bucket.blocks.files(),
            Medium::Directory(_) => None,
        }
    }

    /// Does now what the rewriter would do next in the background; false when nothing is due.
    pub async fn rewrite(&self) -> Result<bool, RewriteError> {
        match &self.rewriter {
            Some(AnyRewriter::Directory(rewriter)) => rewriter.lock().await.step().await,
            Some(AnyRewriter::Bucket(rewriter)) => rewriter.lock().await.step().await,
            None => Ok(false),
        }
    }

    /// Does now what would be done next in the background for the second tier; false when nothing is due.
    pub async fn offload(&self) -> Result<bool, OffloadError> {
        match &self.offloader {
            Some(offloader) => offloader.lock().await.step().await,
            None => Ok(false),
        }
    }

    /// The second tier, if there is one.
    pub fn tier(&self) -> Option<&Tier> {
        match &self.shared.medium {
            Medium::Directory(directory) => directory.tier.as_deref(),
            Medium::Bucket(_) => None,
        }
    }

    /// Waits until what is not flushed is below its bound. At once when the log is full or has failed: appends say why.
    pub async fn room(&self) {
        loop {
            let room = self.shared.room.notified();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    /// Whether `room()` would return at once.
    pub fn has_room(&self) -> bool {
        self.shared.unflushed.load(Ordering::Acquire) < self.shared.settings.unflushed_bytes_max
            || !self.shared.writable.load(Ordering::Acquire)
    }

    pub fn state(&self) -> LogState {
        self.shared.state()
    }

    pub fn counters(&self) -> &LogCounters {
        &self.shared.counters
    }

    /// Appends until the end of this guard go into one commit, if the writer is not busy taking them anyway.
    pub fn together(&self) -> Together<'_> {
        self.shared.together.fetch_add(1, Ordering::SeqCst);
        Together { shared: &self.shared }
    }

    /// Bytes kept in memory for readers at the tail, and their bound.
    pub fn tail_bytes(&self) -> (usize, usize) {
        (self.shared.tail.lock().bytes(), self.shared.settings.tail_bytes_max)
    }

    /// Bytes that wait for their commit, and their bound.
    pub fn unflushed_bytes(&self) -> (usize, usize) {
        (self.shared.unflushed.load(Ordering::Acquire), self.shared.settings.unflushed_bytes_max)
    }

    /// Finishes the commits that wait, writes a checkpoint, stops. Appends are refused from here on.
    pub async fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.writable.store(false, Ordering::Release);
        self.shared.room.notify_waiters();
        self.shared.medium.closing();
        self.shared.wake.notify_one();
        if let Some(AnyRewriter::Directory(rewriter)) = &self.rewriter {
            // A job under way sees that the log closes and ends; it must not outlive the directory's lock.
            drop(rewriter.lock().await);
        }
        if let Some(offloader) = &self.offloader {
            drop(offloader.lock().await);
        }
        let mut closed = self.closed.clone();
        // An error means that the writer is gone, with the runtime: nothing more will be written either way.
        let closing = closed.wait_for(|closed| *closed);
        match &self.shared.medium {
            Medium::Directory(_) => drop(closing.await),
            // A bucket may be silent for hours. What it has not confirmed was not acknowledged.
            Medium::Bucket(_) => drop(task::timeout(BUCKET_CLOSE_MAX, closing).await),
        }
    }
}

impl Drop for CommitLog {
    /// The tasks end, also without [`CommitLog::close`].
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.writable.store(false, Ordering::Release);
        self.shared.medium.closing();
        self.shared.wake.notify_one();
        // Only when nobody writes any more: a last checkpoint without partitions would forget them.
        if *self.closed.borrow() || self.closed.has_changed().is_err() {
            self.shared.cut_circle();
        }
    }
}

/// An opening that fails before there is a writer leaves nothing behind.
struct Opening {
    shared: Arc<Shared>,
    is_writing: bool,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.is_writing {
            self.shared.cut_circle();
        }
    }
}

/// A log without a tier must not have anything there, but for what nobody reads any more.
async fn nothing_is_tiered(
    disk: &Arc<dyn Disk>,
    dir: &std::path::Path,
    catalog: &Arc<Catalog>,
    partitions: &[(TopicIdPartition, PartitionSettings)],
) -> Result<(), OpenError> {
    if !catalog.read().has_tier() {
        return Ok(());
    }
    let (_, shards) = Manifest::open(Book::Tier, disk.clone(), dir.join("tier"), catalog.clone()).await?;
    let has_pieces = |id: &TopicIdPartition| shards.iter().any(|shard| shard.partitions.contains_key(id));
    match partitions.iter().any(|(id, _)| has_pieces(id)) {
        true => Err(OpenError::NoTier),
        false => Ok(()),
    }
}

fn all_of(catalog: &Catalog) -> Vec<(TopicIdPartition, PartitionSettings)> {
    let mut partitions = Vec::new();
    for topic in catalog.read().topics() {
        let count = topic.partitions.len() as i32;
        let ids = (0..count).map(|partition| TopicIdPartition { topic_id: topic.id, partition });
        partitions.extend(ids.map(|id| (id, PartitionSettings::default())));
    }
    partitions
}

/// Of a partition that this broker leads.
fn leader_epoch(catalog: &Catalog, id: &TopicIdPartition) -> Option<i32> {
    let state = catalog.read();
    let info = state.topic_by_id(id.topic_id)?.partitions.get(id.partition as usize)?;
    (info.leader == catalog.node_id() && state.leads(catalog.wal_id())).then_some(info.leader_epoch)
}

fn id_of((topic_id, partition): (Uuid, u32)) -> TopicIdPartition {
    TopicIdPartition { topic_id, partition: partition as i32 }
}

fn ensure(shared: &Arc<Shared>, id: TopicIdPartition, settings: PartitionSettings) -> Arc<Partition> {
    let mut partitions = shared.partitions.write();
    let fresh = || {
        let partition = Arc::new(Partition::new(id, shared.clone(), settings));
        shared.drain_if_retiring(&partition);
        partition
    };
    partitions.entry(id).or_insert_with(fresh).clone()
}

/// Takes the checkpoint's state; answers the newest chunk that it knows of.
fn restore(shared: &Arc<Shared>, checkpoint: Checkpoint) -> Result<u64, OpenError> {
    let mut proven = checkpoint.at.last_number;
    for (id, state) in checkpoint.partitions {
        proven = state.extents.iter().map(|extent| extent.chunk).fold(proven, u64::max);
        // A topic that the catalog has no more: its data is dead.
        let Some(partition) = shared.partition(&id) else { continue };
        if !partition.restore(state) {
            let path = PathBuf::from("checkpoint");
            return Err(OpenError::Format {
                path,
                detail: format!("the extents of {id} reach beyond its log end"),
            });
        }
    }
    Ok(proven)
}

/// A commit that counts, and stands at `offset` of `file`. An error says what in it does not fit.
fn replay(
    shared: &Shared,
    header: &ContainerHeader,
    footer: &Footer,
    file: u64,
    offset: u64,
) -> Result<(), String> {
    for extent in &footer.extents {
        let Some(partition) = shared.partition(&extent.id) else { continue };
        let entries = footer.entries_of(extent);
        let placed = extent_of(extent, file, offset, header.number);
        partition.replay(placed, extent.leader_epoch, entries, header.created_ms)?;
    }
    if let Some(section) = footer.section(SectionKind::LogStarts) {
        for start in LogStart::decode_all(section).map_err(|error| error.to_string())? {
            if let Some(partition) = shared.partition(&start.id) {
                partition.replay_log_start(start.offset as i64);
            }
        }
    }
    Ok(())
}

/// Every extent that is still read lies in a file that is there and long enough.
fn check_extents(shared: &Arc<Shared>, files: &Files) -> Result<(), OpenError> {
    let is_there = |extent: &Extent| match extent.wal() {
        Some(place) => files.get(&place.file).is_some_and(|file| place.position + extent.len <= file.len),
        None => true,
    };
    for partition in shared.all_partitions() {
        partition.forget_replaced(is_there);
        partition.settle();
        partition
            .check_gaps()
            .map_err(|detail| OpenError::Format { path: shared.directory().wal_dir.clone(), detail })?;
        let inner = partition.inner.lock();
        for extent in &inner.extents {
            let Some(place) = extent.wal().filter(|_| !is_there(extent)) else { continue };
            let (first, last, id) = (extent.first_offset, extent.last_offset, partition.id());
            let at = Position { file: place.file, offset: place.position, ..Position::default() };
            let detail =
                format!("offsets {first} to {last} of {id} were there, and the file is missing or too short");
            return Err(recovery::damaged(&shared.directory().wal_dir, &at, place.chunk, detail));
        }
    }
    Ok(())
}

const IDENTITY_MAGIC: [u8; 8] = *b"OTTLALOG";
const IDENTITY_VERSION: u16 = 1;
const IDENTITY_BYTES_MAX: u64 = 4096;

/// Made once, together with the first WAL file. Without it no chunk counts, so its loss is damage and not a new log.
struct Identity {
    log_id: [u8; 16],
    first_file_len: u64,
}

impl Identity {
    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.raw(&IDENTITY_MAGIC);
        out.u16(IDENTITY_VERSION);
        out.raw(&self.log_id);
        out.u64(self.first_file_len);
        let crc = protocol::batch::crc32c(out.as_slice());
        out.u32(crc);
        out.into_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "the log's identity";
        let (fields, crc) = bytes.split_at(bytes.len().saturating_sub(4));
        if protocol::batch::crc32c(fields).to_le_bytes() != *crc {
            return Err(FormatError::Checksum { what: WHAT });
        }
        let mut input = Decoder::new(fields, WHAT);
        if input.array()? != IDENTITY_MAGIC {
            return Err(FormatError::Magic { what: WHAT });
        }
        let version = input.u16()?;
        if version != IDENTITY_VERSION {
            return Err(FormatError::Version { what: WHAT, version });
        }
        let identity = Self { log_id: input.array()?, first_file_len: input.u64()? };
        input.finish()?;
        Ok(identity)
    }
}

async fn open_identity(
    disk: &Arc<dyn Disk>,
    dir: &std::path::Path,
    rng: &dyn Rng,
    settings: &LogSettings,
) -> Result<Identity, OpenError> {
    let path = dir.join("log.id");
    let wal_dir = dir.join("wal");
    let format = |detail: String| OpenError::Format { path: path.clone(), detail };
    if let Some(bytes) = read_small(&**disk, &path, IDENTITY_BYTES_MAX).await? {
        return Identity::decode(&bytes).map_err(|error| format(error.to_string()));
    }
    // The first file stands before the identity, so that once there is one, a missing file is a loss. A start that was
    // cut short in between leaves that file with nothing in it.
    for entry in disk.list(&wal_dir).await?.into_iter().filter(|entry| entry.name.ends_with(".wal")) {
        let file = disk.open(&wal_dir.join(&entry.name), OpenMode::Read).await?;
        let unused = file.read_at(0, HEADER_LEN).await?.iter().all(|byte| *byte == 0);
        if wal::file_number(&entry.name) != Some(FIRST_FILE) || !unused {
            return Err(format(format!("it is missing, though there is a log ({})", entry.name)));
        }
    }
    let first_file_len = settings.wal_file_bytes_min.min(FIRST_FILE_BYTES);
    wal::create_first(disk, &wal_dir, first_file_len, !settings.skips_directory_sync()).await?;
    let mut log_id = [0; 16];
    rng.fill(&mut log_id);
    let identity = Identity { log_id, first_file_len };
    write_atomic(&**disk, &path, identity.encode().into()).await?;
    Ok(identity)
}
