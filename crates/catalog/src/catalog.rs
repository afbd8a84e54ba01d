//! The catalog of a running broker: the replayed state, and the one task that appends to the metadata log.
//!
//! ```text
//! append(records) ─→ queue ─→ rehearse ─→ one frame ─→ write + fdatasync ─→ replay ─→ answers, changes()
//! ```
//!
//! While one commit is under way the next one gathers, so ten thousand waiting appends share a few syncs. A
//! request is rehearsed before it is written and judged again by its replay (R16); the answer is the replay's.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use protocol::{ErrorCode, Str, Uuid};
use tokio::sync::{mpsc, oneshot, watch};
use world::clock::SharedClock;
use world::disk::{Disk, DiskError};
use world::rng::SharedRng;
use world::task;

use crate::frame;
pub use crate::log::Notice;
use crate::log::{MetadataLog, STATE_HASH_INTERVAL};
use crate::precondition::Precondition;
use crate::record::{BrokerEndpoint, MetadataRecord};
use crate::snapshot;
use crate::state::{Entry, Outcome, State};

/// Appends that may wait for the commit before them; further callers wait for room.
pub const APPEND_QUEUE_MAX: usize = 4096;
/// Records of one commit; what is beyond waits for the next one.
const COMMIT_RECORDS_MAX: usize = 20_000;
const COMMIT_BYTES: usize = 4 << 20;

#[derive(Debug, Clone)]
pub struct CatalogOptions {
    pub node_id: i32,
    pub rack: Option<Str>,
    pub endpoints: Vec<BrokerEndpoint>,
    /// `cluster.partitions.max`
    pub partitions_max: u64,
    /// A snapshot is taken after so many frames …
    pub snapshot_frames: u64,
    /// … or so many bytes of log.
    pub snapshot_bytes: u64,
    /// Idle time after which the durable mark is written.
    pub mark_after: Duration,
    /// A log up to this size is checked whole at every start; of a larger one only what the newest snapshot lacks.
    pub check_whole_bytes_max: u64,
}

impl Default for CatalogOptions {
    fn default() -> Self {
        Self {
            node_id: 1,
            rack: None,
            endpoints: Vec::new(),
            partitions_max: 100_000,
            snapshot_frames: 200,
            snapshot_bytes: 4 << 20,
            mark_after: Duration::from_millis(800),
            check_whole_bytes_max: 16 << 20,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CatalogOpenError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// P7: nothing is cut or skipped that was durable once.
    #[error("metadata log {} is damaged at byte {offset}: {what}", file.display())]
    Damaged { file: PathBuf, offset: u64, what: &'static str },
    #[error("{} has {found} but no metadata.log: it is missing", dir.display())]
    LogMissing { dir: PathBuf, found: String },
    #[error("cannot read {} at byte {offset}: {reason}", file.display())]
    Unreadable { file: PathBuf, offset: u64, reason: String },
    #[error("replay up to position {position} gives the state {actual:032x}, its writer had {expected:032x}")]
    Diverged { position: u64, expected: u128, actual: u128 },
    #[error(
        "this directory belongs to node {was}, not to node {now}: set node.id={was} or use another directory"
    )]
    NodeIdChanged { was: i32, now: i32 },
    #[error("the broker could not be registered: {0}")]
    NotRegistered(#[from] CatalogError),
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum CatalogError {
    #[error(transparent)]
    Rejected(#[from] Precondition),
    /// Nothing has changed. After a failed sync nothing more will, until a restart.
    #[error("the metadata log cannot be written: {0}")]
    Storage(String),
    #[error("{bytes} bytes of records are more than one commit can hold")]
    TooLarge { bytes: usize },
    #[error("the catalog is closed")]
    Closed,
}

impl CatalogError {
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::Rejected(precondition) => precondition.error_code(),
            Self::Storage(_) => ErrorCode::KafkaStorageError,
            Self::TooLarge { .. } => ErrorCode::PolicyViolation,
            Self::Closed => ErrorCode::NotController,
        }
    }
}

#[derive(Debug, Default)]
pub struct Counters {
    pub appends: AtomicU64,
    pub appends_rejected: AtomicU64,
    pub appends_failed: AtomicU64,
    pub frames: AtomicU64,
    pub frame_bytes: AtomicU64,
    pub snapshots: AtomicU64,
    pub snapshots_failed: AtomicU64,
}

pub struct Catalog {
    state: Arc<RwLock<State>>,
    queue: mpsc::Sender<Request>,
    changes: watch::Receiver<u64>,
    counters: Arc<Counters>,
    notices: Vec<Notice>,
    failure: Failure,
    node_id: i32,
    wal_id: u64,
}

/// Set by a failed sync: nothing is appended until a restart.
type Failure = Arc<Mutex<Option<String>>>;

enum Request {
    Append { records: Vec<MetadataRecord>, bytes: usize, done: oneshot::Sender<Result<u64, CatalogError>> },
    Close { done: oneshot::Sender<()> },
}

impl Catalog {
    /// Opens the metadata log of a directory, or begins a new cluster in it, and registers this start of the broker.
    pub async fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        _clock: SharedClock,
        rng: SharedRng,
        options: CatalogOptions,
    ) -> Result<Arc<Self>, CatalogOpenError> {
        let (log, state, notices) =
            MetadataLog::open(disk, &dir, &*rng, options.check_whole_bytes_max).await?;
        let node_id = options.node_id;
        if let Some(broker) = state.brokers().next()
            && state.broker(node_id).is_none()
        {
            return Err(CatalogOpenError::NodeIdChanged { was: broker.node_id, now: node_id });
        }
        let counters = Arc::new(Counters::default());
        let state = Arc::new(RwLock::new(state));
        let (publish, changes) = watch::channel(log.position());
        let mut committer = Committer {
            log,
            state,
            publish,
            counters,
            options,
            wal_id: 0,
            last_request: 0,
            failure: Failure::default(),
        };
        committer.register(Uuid(rng.uuid()), Uuid(rng.uuid())).await?;
        let (queue, requests) = mpsc::channel(APPEND_QUEUE_MAX);
        let catalog = Self {
            state: committer.state.clone(),
            queue,
            changes,
            counters: committer.counters.clone(),
            notices,
            failure: committer.failure.clone(),
            node_id,
            wal_id: committer.wal_id,
        };
        task::spawn(committer.run(requests));
        Ok(Arc::new(catalog))
    }

    /// The state as replayed so far. Hold it for a few lines, never across an await: appends wait for it.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        // Recursive: a handler that holds a guard may call another one that takes its own; with a plain read the
        // two would wait for each other as soon as an append waits between them.
        self.state.read_recursive()
    }

    /// Why nothing can be appended any more, after a failed sync. Reads go on; a restart recovers.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Appends records that count all together or not at all. On return they are durable and replayed, at the
    /// position given.
    pub async fn append(&self, records: Vec<MetadataRecord>) -> Result<u64, CatalogError> {
        let bytes = frame::entry_len(&records);
        if bytes > frame::BODY_LEN_MAX / 2 {
            return Err(CatalogError::TooLarge { bytes });
        }
        let (done, answer) = oneshot::channel();
        let request = Request::Append { records, bytes, done };
        self.queue.send(request).await.map_err(|_| CatalogError::Closed)?;
        answer.await.unwrap_or(Err(CatalogError::Closed))
    }

    /// Changes with every replayed frame; holds its position.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    pub fn node_id(&self) -> i32 {
        self.node_id
    }

    /// The position of this start's registration (R1): the owner to name in producer-id blocks and WAL files.
    pub fn wal_id(&self) -> u64 {
        self.wal_id
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the opening found that an operator should hear of.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Finishes what waits and refuses what comes later.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Request::Close { done }).await.is_ok() {
            let _ = closed.await;
        }
    }
}

struct Committer {
    log: MetadataLog,
    state: Arc<RwLock<State>>,
    publish: watch::Sender<u64>,
    counters: Arc<Counters>,
    options: CatalogOptions,
    wal_id: u64,
    last_request: u64,
    failure: Failure,
}

struct Waiting {
    entry: Entry,
    done: oneshot::Sender<Result<u64, CatalogError>>,
}

impl Committer {
    async fn register(&mut self, cluster: Uuid, incarnation: Uuid) -> Result<(), CatalogError> {
        let mut records = Vec::new();
        let previous = {
            let state = self.state.read();
            if state.cluster_id().is_empty() {
                records.push(MetadataRecord::CreateCluster { cluster_id: Str::from(cluster.to_string()) });
            }
            state.broker(self.options.node_id).map_or(0, |broker| broker.wal_id)
        };
        records.push(MetadataRecord::RegisterBroker {
            node_id: self.options.node_id,
            previous,
            incarnation,
            rack: self.options.rack.clone(),
            endpoints: self.options.endpoints.clone(),
        });
        let (done, answer) = oneshot::channel();
        self.commit(vec![Waiting { entry: Entry { writer: 0, request: 0, records }, done }]).await;
        self.wal_id = answer.await.unwrap_or(Err(CatalogError::Closed))?;
        Ok(())
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        // What was taken from the queue and did not fit into the commit before.
        let mut taken: VecDeque<Request> = VecDeque::new();
        loop {
            if taken.is_empty() && !self.take(&mut requests, &mut taken).await {
                break;
            }
            let (batch, close) = self.gather(&mut taken);
            if !batch.is_empty() {
                self.commit(batch).await;
                self.maybe_snapshot().await;
            }
            if let Some(done) = close {
                self.mark().await;
                let _ = done.send(());
                return;
            }
        }
        if !self.log.is_marked() {
            self.mark().await;
        }
    }

    fn has_failed(&self) -> bool {
        self.failure.lock().is_some()
    }

    /// Waits for requests and takes all that are there; writes the durable mark when none comes. False: nobody can
    /// ask any more.
    async fn take(&mut self, requests: &mut mpsc::Receiver<Request>, taken: &mut VecDeque<Request>) -> bool {
        let mut all = Vec::new();
        if !self.log.is_marked() && !self.has_failed() {
            let first =
                task::timeout(self.options.mark_after, requests.recv_many(&mut all, APPEND_QUEUE_MAX)).await;
            if first.is_err() {
                self.mark().await;
            }
        }
        if all.is_empty() && requests.recv_many(&mut all, APPEND_QUEUE_MAX).await == 0 {
            return false;
        }
        taken.extend(all);
        true
    }

    /// What waits already, up to the size of one commit.
    fn gather(&mut self, taken: &mut VecDeque<Request>) -> (Vec<Waiting>, Option<oneshot::Sender<()>>) {
        let mut batch = Vec::new();
        let (mut records_len, mut bytes_len) = (0, 0);
        while records_len < COMMIT_RECORDS_MAX && bytes_len < COMMIT_BYTES {
            match taken.pop_front() {
                Some(Request::Append { records, bytes, done }) => {
                    records_len += records.len();
                    bytes_len += bytes;
                    self.last_request += 1;
                    let entry = Entry { writer: self.wal_id, request: self.last_request, records };
                    batch.push(Waiting { entry, done });
                }
                Some(Request::Close { done }) => return (batch, Some(done)),
                None => break,
            }
        }
        (batch, None)
    }

    async fn commit(&mut self, mut batch: Vec<Waiting>) {
        self.counters.appends.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let failure = self.failure.lock().clone();
        if let Some(reason) = failure {
            return self.refuse(batch, &reason);
        }
        let batch = {
            self.refuse_beyond_limits(&mut batch);
            self.rehearse(batch)
        };
        if batch.is_empty() {
            return;
        }
        let (entries, waiting): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.entry, waiting.done)).unzip();
        let position = self.log.position() + 1;
        let state_hash = position.is_multiple_of(STATE_HASH_INTERVAL).then(|| self.state.read().hash());
        match self.log.commit(state_hash, entries.clone()).await {
            Ok(len) => {
                self.counters.frames.fetch_add(1, Ordering::Relaxed);
                self.counters.frame_bytes.fetch_add(len, Ordering::Relaxed);
            }
            Err(failure) => {
                let reason = failure.error.to_string();
                tracing::error!(reason, is_final = failure.is_final, "the metadata log refuses changes");
                if failure.is_final {
                    *self.failure.lock() = Some(reason.clone());
                }
                self.counters.appends_failed.fetch_add(waiting.len() as u64, Ordering::Relaxed);
                for done in waiting {
                    let _ = done.send(Err(CatalogError::Storage(reason.clone())));
                }
                return;
            }
        }
        let outcomes = self.state.write().apply(position, &entries);
        self.publish.send_replace(position);
        for (outcome, done) in outcomes.into_iter().zip(waiting) {
            let _ = done.send(self.answer(outcome, position));
        }
    }

    /// Answers what its preconditions refuse; the rest goes into the frame.
    fn rehearse(&mut self, batch: Vec<Waiting>) -> Vec<Waiting> {
        let (entries, waiting): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.entry, waiting.done)).unzip();
        let outcomes = self.state.write().rehearse(&entries);
        let mut accepted = Vec::with_capacity(entries.len());
        for ((entry, done), outcome) in entries.into_iter().zip(waiting).zip(outcomes) {
            match outcome {
                Outcome::Accepted => accepted.push(Waiting { entry, done }),
                other => drop(done.send(self.answer(other, 0))),
            }
        }
        accepted
    }

    fn answer(&self, outcome: Outcome, position: u64) -> Result<u64, CatalogError> {
        match outcome {
            Outcome::Accepted => Ok(position),
            Outcome::Repeated { position } => Ok(position),
            Outcome::Rejected(reason) => {
                self.counters.appends_rejected.fetch_add(1, Ordering::Relaxed);
                Err(CatalogError::Rejected(reason))
            }
        }
    }

    /// Limits of this broker are checked before sending only: replay must not depend on a setting.
    fn refuse_beyond_limits(&self, batch: &mut Vec<Waiting>) {
        let max = self.options.partitions_max;
        let mut count = self.state.read().partition_count();
        let mut within = Vec::with_capacity(batch.len());
        for waiting in batch.drain(..) {
            let new: u64 = waiting.entry.records.iter().map(new_partitions).sum();
            if new > 0 && count + new > max {
                let rejected = Precondition::TooManyPartitions { count: count + new, max };
                let _ = waiting.done.send(self.answer(Outcome::Rejected(rejected), 0));
            } else {
                count += new;
                within.push(waiting);
            }
        }
        *batch = within;
    }

    fn refuse(&self, batch: Vec<Waiting>, reason: &str) {
        self.counters.appends_failed.fetch_add(batch.len() as u64, Ordering::Relaxed);
        for waiting in batch {
            let _ = waiting.done.send(Err(CatalogError::Storage(reason.to_owned())));
        }
    }

    async fn maybe_snapshot(&mut self) {
        if self.has_failed()
            || !self.log.is_snapshot_due(self.options.snapshot_frames, self.options.snapshot_bytes)
        {
            return;
        }
        let place = self.log.snapshot_place();
        let bytes = snapshot::encode(&place, &self.state.read());
        match self.log.write_snapshot(place, bytes).await {
            Ok(()) => drop(self.counters.snapshots.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                // The log has everything; the next commit tries again.
                self.counters.snapshots_failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "no snapshot of the metadata");
            }
        }
    }

    async fn mark(&mut self) {
        if let Err(error) = self.log.write_mark().await {
            tracing::warn!(%error, "no durable mark of the metadata log");
        }
    }
}

fn new_partitions(record: &MetadataRecord) -> u64 {
    match record {
        MetadataRecord::CreateTopic { partition_count, .. } => u64::from(*partition_count),
        MetadataRecord::CreatePartitions { from_count, to_count, .. } => {
            u64::from(to_count.saturating_sub(*from_count))
        }
        _ => 0,
    }
}
