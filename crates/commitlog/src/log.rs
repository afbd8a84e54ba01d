//! The log of one broker: all its partitions over one write-ahead log. Opening (recovery), the writer, housekeeping.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use catalog::Catalog;
use parking_lot::{Mutex, RwLock};
use protocol::{TopicIdPartition, Uuid};
use tokio::sync::Notify;
use world::clock::Clock;
use world::collections::HashMap;
use world::disk::{Disk, DiskError, DiskErrorKind, DiskLock, File, OpenMode, read_small, write_atomic};
use world::rng::Rng;
use world::task;

use crate::checkpoint::{Checkpoint, PartitionCheckpoint};
use crate::commit::CommitGroup;
use crate::container::Note;
use crate::error::{AppendError, CommitError, OpenError, ReadError};
use crate::extent::{Extent, Place};
use crate::partition::{CommitWaiter, Partition};
use crate::recovery;
use crate::settings::{LogSettings, PartitionSettings, SyncMode};
use crate::tail::{ColdExtents, Tail};
use crate::wal::{Chunk, Files, Gather, Pending, Position, WalFiles, file_name, padded, prepare};

/// After so much silence an empty chunk says that the last one is durable.
const IDLE_STATEMENT: Duration = Duration::from_millis(500);
/// A checkpoint is taken when this long has passed and something was written.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);
/// While the disk is full: how often the writer looks again.
const FULL_RETRY: Duration = Duration::from_millis(250);
/// A checkpoint larger than this is not ours.
const CHECKPOINT_BYTES_MAX: u64 = 4 << 30;

/// Whether the log takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogState {
    Running,
    /// Produce is refused, reads go on; ends by itself when there is room again.
    Full,
    /// A write or a sync failed: nothing is acknowledged any more, reads go on, a restart recovers.
    Failed(String),
}

/// What the log did so far.
#[derive(Debug, Default)]
pub struct LogCounters {
    pub commits: AtomicU64,
    pub batches: AtomicU64,
    pub bytes: AtomicU64,
    /// Time from the start of a write to its sync, summed.
    pub commit_nanos: AtomicU64,
    pub checkpoints: AtomicU64,
    pub wal_files: AtomicU64,
    pub wal_bytes: AtomicU64,
}

/// What partitions, the writer and housekeeping share.
pub struct Shared {
    pub settings: LogSettings,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    gathers: Mutex<VecDeque<Gather>>,
    wake: Notify,
    unflushed: AtomicUsize,
    room: Notify,
    state: Mutex<LogState>,
    /// False while appends are refused; the state says why.
    writable: AtomicBool,
    closing: AtomicBool,
    closed: Notify,
    pub tail: Mutex<Tail>,
    pub cold: Mutex<ColdExtents>,
    pub files: Mutex<Files>,
    /// The next WAL file, zero-filled ahead of use: number, length, file.
    pub prepared: Mutex<Option<(u64, u64, Arc<dyn File>)>>,
    /// Live extents per WAL file.
    live: Mutex<BTreeMap<u64, u64>>,
    /// Recovery starts in this file: it and later ones stay.
    checkpoint_file: AtomicU64,
    partitions: RwLock<HashMap<TopicIdPartition, Arc<Partition>>>,
    pub counters: LogCounters,
}

impl Shared {
    pub fn check_writable(&self) -> Result<(), AppendError> {
        if self.writable.load(Ordering::Acquire) {
            return Ok(());
        }
        match &*self.state.lock() {
            LogState::Failed(why) => Err(AppendError::Failed(why.clone())),
            LogState::Full => Err(AppendError::Full),
            LogState::Running => Err(AppendError::Failed("the log is closing".into())),
        }
    }

    fn set_state(&self, state: LogState) {
        let mut now = self.state.lock();
        if matches!(&*now, LogState::Failed(_)) || *now == state {
            return; // a failure is final
        }
        match &state {
            LogState::Running => tracing::info!("there is room on the disk again, produce is taken"),
            LogState::Full => tracing::error!(
                "the disk is nearly full: produce is refused until there is room; reads go on"
            ),
            LogState::Failed(why) => {
                tracing::error!(
                    "the log has stopped, nothing is acknowledged any more, reads go on; restart to recover: {why}"
                );
            }
        }
        self.writable.store(state == LogState::Running, Ordering::Release);
        *now = state;
        // Nobody waits for room that a stopped log would never make.
        self.room.notify_waiters();
    }

    fn with_gather(&self, bytes: usize, put: impl FnOnce(&mut Gather)) -> Arc<CommitGroup> {
        let mut gathers = self.gathers.lock();
        let full =
            gathers.back().is_none_or(|g| g.bytes > 0 && g.bytes + bytes > self.settings.chunk_bytes_max);
        if full {
            gathers.push_back(Gather::default());
        }
        let gather = gathers.back_mut().expect("one was pushed");
        gather.bytes += bytes;
        put(gather);
        let group = gather.group.clone();
        drop(gathers);
        self.wake.notify_one();
        group
    }

    pub fn enqueue(&self, pending: Pending) -> Arc<CommitGroup> {
        let bytes = pending.entry.len as usize;
        self.unflushed.fetch_add(bytes, Ordering::AcqRel);
        self.with_gather(bytes, |gather| gather.batches.push(pending))
    }

    pub fn enqueue_note(&self, note: Note) -> Arc<CommitGroup> {
        self.with_gather(0, |gather| gather.notes.push(note))
    }

    pub async fn read_file(&self, place: Place, len: usize) -> Result<Bytes, ReadError> {
        let file = self.files.lock().get(&place.file).cloned();
        let Some(file) = file else {
            let path = self.dir.join("wal").join(file_name(place.file));
            return Err(DiskError::new(DiskErrorKind::NotFound, "read", &path, "no such WAL file").into());
        };
        let bytes = file.read_at(place.position, len).await?;
        if bytes.len() != len {
            let detail = format!("{} of {len} bytes at {}", bytes.len(), place.position);
            return Err(DiskError::new(DiskErrorKind::Io, "read", file.path(), detail).into());
        }
        Ok(bytes)
    }

    pub fn hold(&self, extent: &Extent) {
        *self.live.lock().entry(extent.place.file).or_default() += 1;
    }

    /// Extents that nobody can reach any more: their files go when nothing is left in them.
    pub fn release(&self, extents: &[Extent]) {
        let mut live = self.live.lock();
        for extent in extents {
            let count = live.get_mut(&extent.place.file).expect("a released extent was held");
            *count = count.checked_sub(1).expect("an extent is released once");
        }
    }

    /// Removes WAL files in which nothing lives and from which no recovery would start.
    async fn remove_dead_files(&self) -> Result<(), DiskError> {
        let first_needed = self.checkpoint_file.load(Ordering::Acquire);
        let dead: Vec<u64> = {
            let live = self.live.lock();
            let dead = |file: &&u64| **file < first_needed && live.get(file).is_none_or(|count| *count == 0);
            self.files.lock().keys().filter(dead).copied().collect()
        };
        for file in &dead {
            self.files.lock().remove(file);
            self.live.lock().remove(file);
            self.disk.remove(&self.dir.join("wal").join(file_name(*file))).await?;
        }
        if !dead.is_empty() {
            self.disk.sync_dir(&self.dir.join("wal")).await?;
        }
        self.counters.wal_files.store(self.files.lock().len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn all_partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().values().cloned().collect()
    }
}

pub struct CommitLog {
    shared: Arc<Shared>,
    _lock: DiskLock,
}

impl CommitLog {
    /// Opens or makes the log in `dir`: reads the checkpoint and the WAL behind it, cuts a torn tail, refuses damage.
    pub async fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        settings: LogSettings,
        catalog: Arc<Catalog>,
    ) -> Result<Arc<CommitLog>, OpenError> {
        let wal_dir = dir.join("wal");
        disk.create_dir_all(&wal_dir).await?;
        let lock_path = dir.join("log.lock");
        let lock = disk.lock(&lock_path).await.map_err(|error| match error.kind {
            DiskErrorKind::Locked => OpenError::Locked { path: dir.clone(), detail: error.detail },
            _ => error.into(),
        })?;
        let checkpoint_path = dir.join("checkpoint");
        let checkpoint = match read_small(&*disk, &checkpoint_path, CHECKPOINT_BYTES_MAX).await? {
            Some(bytes) => Checkpoint::decode(&bytes).map_err(|detail| OpenError::Format {
                path: checkpoint_path.clone(),
                detail: detail.into(),
            })?,
            None => Self::create(&*disk, &wal_dir, &checkpoint_path, &*rng, &settings).await?,
        };
        let shared = Arc::new(Shared {
            tail: Mutex::new(Tail::new(settings.tail_bytes_max, 0)),
            cold: Mutex::new(ColdExtents::new(settings.cold_bytes_max)),
            settings,
            disk: disk.clone(),
            dir,
            clock,
            rng,
            gathers: Mutex::default(),
            wake: Notify::new(),
            unflushed: AtomicUsize::new(0),
            room: Notify::new(),
            state: Mutex::new(LogState::Running),
            writable: AtomicBool::new(true),
            closing: AtomicBool::new(false),
            closed: Notify::new(),
            files: Mutex::default(),
            prepared: Mutex::default(),
            live: Mutex::default(),
            checkpoint_file: AtomicU64::new(checkpoint.at.file),
            partitions: RwLock::default(),
            counters: LogCounters::default(),
        });
        let log = Arc::new(CommitLog { shared: shared.clone(), _lock: lock });
        for topic in catalog.read().topics() {
            let ids = (0..topic.partitions.len() as i32)
                .map(|index| TopicIdPartition { topic_id: topic.id, partition: index });
            ids.for_each(|id| drop(log.ensure(id, PartitionSettings::default())));
        }
        let recovered = recovery::recover(&disk, &wal_dir, checkpoint, |id| log.partition(&id)).await?;
        let mut drops = Vec::new();
        for partition in shared.all_partitions() {
            let mut inner = partition.inner.lock();
            drops.extend(inner.drop_below_log_start());
            for extent in &inner.extents {
                let Some(_) = recovered.files.get(&extent.place.file) else {
                    let path = wal_dir.join(file_name(extent.place.file));
                    let detail = format!(
                        "missing, though it holds offsets {} to {} of {}",
                        extent.base_offset,
                        extent.last_offset,
                        partition.id()
                    );
                    return Err(OpenError::Damaged {
                        path,
                        position: extent.place.position,
                        number: extent.chunk,
                        detail,
                    });
                };
                shared.hold(extent);
            }
        }
        *shared.files.lock() = recovered.files;
        *shared.tail.lock() = Tail::new(shared.settings.tail_bytes_max, recovered.at.last_number + 1);
        let current = shared.files.lock()[&recovered.at.file].clone();
        let files = WalFiles {
            disk,
            dir: wal_dir,
            log_id: recovered.log_id,
            current_len: current.len().await?,
            current,
            at: recovered.at,
            chunk_len_max: recovered.chunk_len_max,
        };
        let writer = Writer {
            shared: shared.clone(),
            // What recovery found is durable now, and the next chunk says so.
            stated: false,
            bytes_since_checkpoint: 0,
            last_checkpoint: shared.clock.monotonic(),
            last_sync: shared.clock.monotonic(),
            checkpointed_len_max: files.chunk_len_max,
            files,
        };
        task::spawn(writer.run());
        task::spawn(housekeeping(Arc::downgrade(&shared)));
        Ok(log)
    }

    async fn create(
        disk: &dyn Disk,
        wal_dir: &Path,
        path: &Path,
        rng: &dyn Rng,
        settings: &LogSettings,
    ) -> Result<Checkpoint, OpenError> {
        if let Some(file) = disk.list(wal_dir).await?.into_iter().find(|entry| entry.name.ends_with(".wal")) {
            let detail = format!("missing, though there is a log ({})", file.name);
            return Err(OpenError::Format { path: path.into(), detail });
        }
        let mut log_id = [0; 16];
        rng.fill(&mut log_id);
        let checkpoint = Checkpoint {
            log_id,
            at: Position { file: 0, offset: 0, last_number: 0, last_hash: 0 },
            file_len: settings.wal_file_bytes_min,
            chunk_len_max: settings.chunk_bytes_max as u64 * 2,
            partitions: BTreeMap::new(),
        };
        write_atomic(disk, path, checkpoint.encode()).await?;
        Ok(checkpoint)
    }

    pub fn partition(&self, id: &TopicIdPartition) -> Option<Arc<Partition>> {
        self.shared.partitions.read().get(id).cloned()
    }

    fn ensure(&self, id: TopicIdPartition, settings: PartitionSettings) -> Arc<Partition> {
        let mut partitions = self.shared.partitions.write();
        let fresh = || Arc::new(Partition::new(id, self.shared.clone(), settings));
        partitions.entry(id).or_insert_with(fresh).clone()
    }

    /// Partitions that the catalog has; a known one only gets its settings.
    pub fn create_partitions(&self, partitions: &[(TopicIdPartition, PartitionSettings)]) {
        for (id, settings) in partitions {
            self.ensure(*id, settings.clone());
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
            self.shared.release(&partition.delete());
        }
    }

    /// Waits until what is not flushed is below its bound. At once when the log is full or has failed: appends say why.
    pub async fn room(&self) {
        loop {
            let room = self.shared.room.notified();
            let full =
                self.shared.unflushed.load(Ordering::Acquire) >= self.shared.settings.unflushed_bytes_max;
            if !full || !self.shared.writable.load(Ordering::Acquire) {
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
        self.shared.state.lock().clone()
    }

    pub fn counters(&self) -> &LogCounters {
        &self.shared.counters
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
        self.shared.writable.store(false, Ordering::Release);
        let closed = self.shared.closed.notified();
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        closed.await;
    }
}

/// The one task that writes. Owns the files and the position.
struct Writer {
    shared: Arc<Shared>,
    files: WalFiles,
    /// The last chunk's durability is said by a later chunk.
    stated: bool,
    bytes_since_checkpoint: u64,
    last_checkpoint: Duration,
    last_sync: Duration,
    checkpointed_len_max: u64,
}

impl Writer {
    async fn run(mut self) {
        loop {
            let Some(mut gather) = self.next_gather().await else { break };
            let result = self.commit(&mut gather).await;
            if let Err(error) = result {
                let why = error.to_string();
                self.shared.set_state(LogState::Failed(why.clone()));
                self.end_group(&gather, Err(CommitError(why)));
            }
        }
        let running = *self.shared.state.lock() == LogState::Running;
        if running && let Err(error) = self.checkpoint().await {
            tracing::warn!("no checkpoint at the end, the next start reads more: {error}");
        }
        self.shared.closed.notify_one();
    }

    /// What waits; an empty one when the last chunk's durability is to be said; `None` at the end.
    async fn next_gather(&mut self) -> Option<Gather> {
        loop {
            let wake = self.shared.wake.notified();
            if let Some(gather) = self.shared.gathers.lock().pop_front() {
                return Some(gather);
            }
            let failed = matches!(*self.shared.state.lock(), LogState::Failed(_));
            if self.shared.closing.load(Ordering::Acquire) {
                return (!self.stated && !failed).then(Gather::default);
            }
            if self.stated || failed {
                wake.await;
            } else if task::timeout(IDLE_STATEMENT, wake).await.is_err() {
                return Some(Gather::default());
            }
        }
    }

    async fn commit(&mut self, gather: &mut Gather) -> Result<(), DiskError> {
        if let LogState::Failed(why) = &*self.shared.state.lock() {
            return Err(DiskError::new(DiskErrorKind::SyncFailed, "write", &self.files.dir, why.clone()));
        }
        let statement = gather.is_empty();
        let mut nonce = [0; 16];
        self.shared.rng.fill(&mut nonce);
        let chunk = self.files.build(gather, u128::from_le_bytes(nonce));
        if chunk.bytes.len() as u64 > self.checkpointed_len_max {
            self.files.chunk_len_max = chunk.bytes.len() as u64;
            self.checkpoint().await?;
        }
        if !self.files.has_room(&chunk) {
            self.next_file(chunk.bytes.len() as u64).await?;
        }
        #[cfg(feature = "negative-controls")]
        let early = self.shared.settings.negative_control
            == Some(crate::settings::NegativeControl::AcknowledgeBeforeSync);
        #[cfg(not(feature = "negative-controls"))]
        let early = false;
        if early {
            self.publish(&chunk, gather);
        }
        let began = self.shared.clock.monotonic();
        match self.shared.settings.sync {
            SyncMode::Commit => {
                self.files.current.write_and_sync(self.files.at.offset, padded(&chunk)).await?
            }
            SyncMode::Interval(interval) => {
                self.files.current.write_at(self.files.at.offset, padded(&chunk)).await?;
                if began.saturating_sub(self.last_sync) >= interval || statement {
                    self.files.current.sync().await?;
                    self.last_sync = began;
                }
            }
        }
        let took = self.shared.clock.monotonic().saturating_sub(began);
        let counters = &self.shared.counters;
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters.batches.fetch_add(gather.batches.len() as u64, Ordering::Relaxed);
        counters.bytes.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        counters.commit_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        if !early {
            self.publish(&chunk, gather);
        }
        self.files.advance(&chunk);
        self.stated = statement;
        self.bytes_since_checkpoint += chunk.bytes.len() as u64;
        let due = began.saturating_sub(self.last_checkpoint) >= CHECKPOINT_INTERVAL && !statement;
        if (self.bytes_since_checkpoint >= self.shared.settings.checkpoint_bytes || due)
            && let Err(error) = self.checkpoint().await
        {
            // The old one is still there and good; the next start only reads more. Tried again at the next interval.
            tracing::warn!("no checkpoint now: {error}");
            self.bytes_since_checkpoint = 0;
            self.last_checkpoint = began;
        }
        self.prepare_ahead();
        Ok(())
    }

    /// The chunk is durable: offsets move, answers leave, fetches wake.
    fn publish(&mut self, chunk: &Chunk, gather: &Gather) {
        self.shared.tail.lock().push(chunk.number, chunk.bytes.clone());
        let mut woken: Vec<Arc<CommitWaiter>> = Vec::new();
        let mut rest = gather.batches.as_slice();
        for entry in &chunk.footer.partitions {
            let (own, others) = rest.split_at(entry.batches.len());
            rest = others;
            let partition = &own[0].partition;
            assert_eq!(partition.id(), entry.partition, "footer and queue name the same partition");
            let first = entry.batches[0].position;
            let len: u64 = entry.batches.iter().map(|batch| u64::from(batch.len)).sum();
            let extent = Extent {
                base_offset: entry.first_offset() as i64,
                last_offset: entry.last_offset() as i64,
                max_timestamp: entry.batches.iter().map(|batch| batch.max_timestamp).max().unwrap_or(-1),
                place: Place { file: self.files.at.file, position: self.files.at.offset + first },
                len: u32::try_from(len).expect("a chunk is below 4 GiB"),
                chunk: chunk.number,
                position_in_chunk: u32::try_from(first).expect("a chunk is below 4 GiB"),
            };
            self.shared.hold(&extent);
            woken.extend(partition.commit(extent, &entry.batches));
        }
        self.end_group(gather, Ok(()));
        woken.iter().for_each(|waiter| waiter.wake());
    }

    fn end_group(&self, gather: &Gather, result: Result<(), CommitError>) {
        gather.group.finish(result);
        self.shared.unflushed.fetch_sub(gather.bytes, Ordering::AcqRel);
        self.shared.room.notify_waiters();
    }

    /// Goes on in the next file. Waits, refusing produce, while the disk has no room for it.
    async fn next_file(&mut self, need: u64) -> Result<(), DiskError> {
        loop {
            let free = self.files.disk.space(&self.files.dir).await?.free_bytes;
            let prepared = self.shared.prepared.lock().is_some();
            let wanted = if prepared { 0 } else { self.shared.settings.wal_file_bytes_min.max(need) };
            let result = if free < self.shared.settings.reserve_bytes + wanted {
                Err(DiskError::new(
                    DiskErrorKind::NoSpace,
                    "next file",
                    &self.files.dir,
                    "the reserve is reached",
                ))
            } else {
                let shared = self.shared.clone();
                self.files.next_file(&shared.settings, need, &shared).await
            };
            match result {
                Ok(()) => {
                    self.shared.set_state(LogState::Running);
                    return Ok(());
                }
                Err(error) if error.kind == DiskErrorKind::NoSpace => {
                    self.shared.set_state(LogState::Full);
                    self.shared.remove_dead_files().await?;
                    if self.shared.closing.load(Ordering::Acquire) {
                        return Err(error);
                    }
                    task::sleep(FULL_RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Fills the next file with zeros in the background once the current one is half used.
    fn prepare_ahead(&self) {
        let half = self.files.at.offset * 2 >= self.files.current_len;
        if !half || self.shared.prepared.lock().is_some() {
            return;
        }
        let number = self.files.at.file + 1;
        let settings = &self.shared.settings;
        let len =
            (self.files.current_len * 2).clamp(settings.wal_file_bytes_min, settings.wal_file_bytes_max);
        let path = self.files.dir.join(file_name(number));
        // A placeholder keeps a second preparation from starting; it is never taken, because its length is 0.
        *self.shared.prepared.lock() = Some((number, 0, self.files.current.clone()));
        let shared = self.shared.clone();
        let disk = self.files.disk.clone();
        let dir = self.files.dir.clone();
        task::spawn(async move {
            let room = disk
                .space(&dir)
                .await
                .map(|space| space.free_bytes > shared.settings.reserve_bytes + len)
                .unwrap_or(false);
            let file = if room { prepare(&disk, &path, len, true).await.ok() } else { None };
            let mut prepared = shared.prepared.lock();
            if prepared.as_ref().is_some_and(|(waiting, len, _)| *waiting == number && *len == 0) {
                *prepared = file.map(|file| (number, len, file));
            }
        });
    }

    async fn checkpoint(&mut self) -> Result<(), DiskError> {
        let mut partitions = BTreeMap::new();
        for partition in self.shared.all_partitions() {
            let inner = partition.inner.lock();
            if inner.high_watermark == 0 && inner.log_start == 0 {
                continue;
            }
            let high_watermark = inner.high_watermark;
            let committed = |(id, state): (i64, &crate::producers::ProducerState)| {
                let mut state = state.clone();
                state.batches.retain(|batch| batch.last_offset < high_watermark);
                state.batches.iter_mut().for_each(|batch| batch.in_flight = None);
                (!state.batches.is_empty()).then_some((id, state))
            };
            partitions.insert(
                partition.id(),
                PartitionCheckpoint {
                    log_start: inner.log_start,
                    log_end: high_watermark,
                    epochs: inner
                        .epochs
                        .iter()
                        .filter(|(_, start)| *start < high_watermark)
                        .copied()
                        .collect(),
                    extents: inner.extents.clone(),
                    producers: inner.producers.iter().filter_map(committed).collect(),
                },
            );
        }
        let checkpoint = Checkpoint {
            log_id: self.files.log_id,
            at: self.files.at,
            file_len: self.files.current_len,
            chunk_len_max: self.files.chunk_len_max,
            partitions,
        };
        let path = self.shared.dir.join("checkpoint");
        write_atomic(&*self.files.disk, &path, checkpoint.encode()).await?;
        self.shared.checkpoint_file.store(self.files.at.file, Ordering::Release);
        self.shared.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.checkpointed_len_max = self.files.chunk_len_max;
        self.bytes_since_checkpoint = 0;
        self.last_checkpoint = self.shared.clock.monotonic();
        self.shared.remove_dead_files().await
    }
}

/// Retention, expiry of producers, files in which nothing lives.
async fn housekeeping(shared: std::sync::Weak<Shared>) {
    loop {
        let Some(interval) = shared.upgrade().map(|shared| shared.settings.housekeeping_interval) else {
            return;
        };
        task::sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.closing.load(Ordering::Acquire) {
            return;
        }
        let now = shared.clock.now_ms();
        for partition in shared.all_partitions() {
            if let Some(before) = partition.expired_before(now)
                && let Err(error) = partition.delete_records(before).await
            {
                tracing::warn!("retention of {}: {error}", partition.id());
            }
            let mut inner = partition.inner.lock();
            inner
                .producers
                .expire(now.saturating_sub(shared.settings.producer_expiration.as_millis() as i64));
            inner.producers.shrink_to(shared.settings.producers_max);
        }
        if let Err(error) = shared.remove_dead_files().await {
            tracing::warn!("cannot remove dead WAL files: {error}");
        }
    }
}

impl LogSettings {
    pub(crate) fn skips_directory_sync(&self) -> bool {
        #[cfg(feature = "negative-controls")]
        return self.negative_control == Some(crate::settings::NegativeControl::SkipDirectorySync);
        #[cfg(not(feature = "negative-controls"))]
        false
    }
}

/// Opens every WAL file there is.
pub(crate) async fn open_files(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Files, DiskError> {
    let mut files = Files::new();
    for entry in disk.list(dir).await? {
        if let Some(number) = crate::wal::file_number(&entry.name) {
            files.insert(number, disk.open(&dir.join(&entry.name), OpenMode::ReadWrite).await?);
        }
    }
    Ok(files)
}
