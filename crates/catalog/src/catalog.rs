//! The catalog of a running broker: the replayed state, and the one task that appends to the metadata log.
//!
//! ```text
//! append(records) ─→ queue ─→ rehearse ─→ one frame ─→ write + fdatasync ─→ replay ─→ answers, changes()
//! ```
//!
//! While one commit is under way the next one gathers, so ten thousand waiting appends share a few syncs. A
//! request is rehearsed before it is written and judged again by its replay (R16); the answer is the replay's.
//!
//! In a bucket many brokers append. Who finds another's frame where its own should stand replays that one, rehearses again
//! and tries behind it. Without appends of its own a broker looks for the frames of others every `follow_every`. Where there is a way
//! to the controller, it appends for all ([`crate::hand_off`]).

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use protocol::{ErrorCode, Str, Uuid};
use tokio::sync::{mpsc, oneshot};
use world::broken;
use world::bucket::{Bucket, BucketError, patiently};
use world::clock::SharedClock;
use world::disk::{Disk, DiskError};
use world::rng::SharedRng;
use world::task;
use world::watch;

use crate::authorities::Authorities;
use crate::bucket_log::BucketLog;
use crate::directory_log::DirectoryLog;
use crate::frame::{self, Frame};
use crate::hand_off::{self, HAND_OFF_BYTES_MAX, HandOff, HandedOff};
use crate::lease::{self, LeaseWatch, Leases};
#[cfg(feature = "next-level")]
use crate::level;
use crate::level::{LevelUnknown, Levels};
pub use crate::log::Notice;
use crate::log::{Committed, MetadataLog, STATE_HASH_INTERVAL, replay};
use crate::precondition::Precondition;
use crate::record::{BrokerEndpoint, MetadataRecord};
use crate::snapshot;
use crate::state::{Entry, Outcome, State};

/// Appends that may wait for the commit before them; further callers wait for room.
pub const APPEND_QUEUE_MAX: usize = 4096;
/// Records of one commit; what is beyond waits for the next one.
const COMMIT_RECORDS_MAX: usize = 20_000;
const COMMIT_BYTES: usize = 4 << 20;
/// Other brokers may register, or begin the cluster, at the same time.
const REGISTER_TRIES: usize = 10;
/// How long a start waits for a bucket that does not say who is alive.
const LEASE_PATIENCE: Duration = Duration::from_secs(30);
/// How long the last word of a broker waits for a bucket that does not answer.
const LEAVE_MAX: Duration = Duration::from_secs(5);
/// A controller that has not answered by then is not waited for …
const HAND_OFF_MAX: Duration = Duration::from_secs(1);
/// … nor asked again for so long.
const HAND_OFF_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// None: 1 in a directory; in a bucket see [`State::free_node_id`].
    pub node_id: Option<i32>,
    pub rack: Option<Str>,
    pub endpoints: Vec<BrokerEndpoint>,
    /// In a bucket: how long a lease stands still until its broker counts as gone. Zero: this broker has none.
    pub lease_ttl: Duration,
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
    /// In a bucket: how often a broker that appends nothing looks for the appends of others.
    pub follow_every: Duration,
    /// What this build knows; something else only in tests, where one build plays two.
    pub levels: Levels,
}

impl Default for CatalogOptions {
    fn default() -> Self {
        Self {
            node_id: None,
            rack: None,
            endpoints: Vec::new(),
            lease_ttl: Duration::from_secs(6),
            partitions_max: 100_000,
            snapshot_frames: 200,
            snapshot_bytes: 4 << 20,
            mark_after: Duration::from_millis(800),
            check_whole_bytes_max: 16 << 20,
            follow_every: Duration::from_secs(1),
            levels: Levels::KNOWN,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CatalogOpenError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("the metadata log is not begun: {0}")]
    NotBegun(String),
    /// P7: nothing is cut or skipped that was durable once.
    #[error("metadata log {} is damaged at byte {offset}: {what}", file.display())]
    Damaged { file: PathBuf, offset: u64, what: &'static str },
    #[error("{} has {found} but no metadata.log: it is missing", dir.display())]
    LogMissing { dir: PathBuf, found: String },
    #[error("cannot read {} at byte {offset}: {reason}", file.display())]
    Unreadable { file: PathBuf, offset: u64, reason: String },
    #[error(transparent)]
    LevelUnknown(#[from] LevelUnknown),
    #[error("replay up to position {position} gives the state {actual:032x}, its writer had {expected:032x}")]
    Diverged { position: u64, expected: u128, actual: u128 },
    #[error("the data here belongs to node {was}, not to node {now}: set node.id={was} or use another place")]
    NodeIdChanged { was: i32, now: i32 },
    #[error(
        "node id {node_id} is in use by another live broker of this cluster (WAL {wal_id}); choose another, or none"
    )]
    NodeIdInUse { node_id: i32, wal_id: u64 },
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
    /// The bucket took the request and did not say what became of it: the change may stand, now or later.
    #[error("whether the change was made is not known: {0}")]
    Unknown(String),
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
            Self::Unknown(_) => ErrorCode::RequestTimedOut,
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
    /// Frames of other brokers, and those of them that stood where one's own should.
    pub frames_of_others: AtomicU64,
    pub conflicts: AtomicU64,
    pub frame_bytes: AtomicU64,
    pub snapshots: AtomicU64,
    pub snapshots_failed: AtomicU64,
    /// Appends that the controller was asked to make for us, and those of which it said nothing in time.
    pub handed_off: AtomicU64,
    pub handed_off_unknown: AtomicU64,
    /// Appends that others asked us to make.
    pub appends_for_others: AtomicU64,
}

pub struct Catalog {
    state: Arc<RwLock<State>>,
    queue: mpsc::Sender<Request>,
    changes: watch::Receiver<u64>,
    counters: Arc<Counters>,
    notices: Vec<Notice>,
    failure: Failure,
    leases: Option<Leases>,
    authorities: Option<Authorities>,
    hand_off: HandOffPlace,
    /// The metadata up to this position is in effect at this broker.
    applied: watch::Sender<u64>,
    /// Frames of our own.
    appended: watch::Receiver<u64>,
    is_closed: AtomicBool,
    node_id: i32,
    wal_id: u64,
    levels: Levels,
}

/// Set by a failed sync: nothing is appended until a restart.
type Failure = Arc<Mutex<Option<String>>>;

/// The way to the controller, once there is one.
type HandOffPlace = Arc<Mutex<Option<Arc<dyn HandOff>>>>;

enum Request {
    Append {
        records: Vec<MetadataRecord>,
        bytes: usize,
        done: oneshot::Sender<Result<u64, CatalogError>>,
    },
    /// Of another broker.
    AppendFor {
        waiting: Vec<Waiting>,
        bytes: usize,
    },
    /// To be answered when everything is replayed that was there when it was asked.
    Follow {
        done: oneshot::Sender<Result<u64, CatalogError>>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
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
            DirectoryLog::open(disk, &dir, &*rng, options.check_whole_bytes_max, options.levels).await?;
        let node_id = options.node_id.unwrap_or(1);
        belongs_to(&state, node_id)?;
        let options = CatalogOptions { node_id: Some(node_id), ..options };
        Self::begin(MetadataLog::Directory(log), state, notices, rng, options, None).await
    }

    /// The same in a bucket, where other brokers may be at work.
    pub async fn open_bucket(
        bucket: Arc<dyn Bucket>,
        rng: SharedRng,
        options: CatalogOptions,
    ) -> Result<Arc<Self>, CatalogOpenError> {
        let (log, state, notices) = BucketLog::open(bucket.clone(), &*rng, options.levels).await?;
        let shared = (Leases::new(bucket.clone()), Authorities::new(bucket));
        Self::begin(MetadataLog::Bucket(log), state, notices, rng, options, Some(shared)).await
    }

    async fn begin(
        log: MetadataLog,
        state: State,
        notices: Vec<Notice>,
        rng: SharedRng,
        options: CatalogOptions,
        shared: Option<(Leases, Authorities)>,
    ) -> Result<Arc<Self>, CatalogOpenError> {
        let (leases, authorities) = shared.unzip();
        if let Some(leases) = &leases {
            wait_for_node_id(leases, &state, &options).await?;
        }
        let counters = Arc::new(Counters::default());
        let state = Arc::new(RwLock::new(state));
        let (publish, changes) = watch::channel(log.position());
        let (publish_own, appended) = watch::channel(0);
        let mut committer = Committer {
            log,
            state,
            publish,
            publish_own,
            counters,
            options,
            node_id: 0,
            wal_id: 0,
            last_request: 0,
            unsettled: 0,
            hand_off: HandOffPlace::default(),
            no_hand_off_before: None,
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
            leases: leases.clone(),
            authorities,
            hand_off: committer.hand_off.clone(),
            applied: watch::channel(0).0,
            appended,
            is_closed: AtomicBool::new(false),
            node_id: committer.node_id,
            wal_id: committer.wal_id,
            levels: committer.options.levels,
        };
        let ttl = committer.options.lease_ttl;
        task::spawn(committer.run(requests));
        let catalog = Arc::new(catalog);
        if let Some(leases) = leases.filter(|_| !ttl.is_zero()) {
            task::spawn(lease::keep(Arc::downgrade(&catalog), leases, ttl));
        }
        Ok(catalog)
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
        #[cfg(feature = "next-level")]
        let records = level::with_remark(self.read().level(), records);
        let bytes = frame::entry_len(&records);
        if bytes > frame::BODY_LEN_MAX / 2 {
            return Err(CatalogError::TooLarge { bytes });
        }
        let (done, answer) = oneshot::channel();
        let request = Request::Append { records, bytes, done };
        self.queue.send(request).await.map_err(|_| CatalogError::Closed)?;
        answer.await.unwrap_or(Err(CatalogError::Closed))
    }

    /// From now on the controller appends for this broker, as long as it answers.
    pub fn hand_off_by(&self, hand_off: Arc<dyn HandOff>) {
        *self.hand_off.lock() = Some(hand_off);
    }

    /// Appends requests that another incarnation has handed off, together with what waits here.
    pub async fn append_for(&self, writer: u64, requests: &[u8]) -> HandedOff {
        let entries = match hand_off::decode(requests, writer) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(writer, "requests of another broker are not taken: {error}");
                return HandedOff::NotTaken;
            }
        };
        self.counters.appends_for_others.fetch_add(entries.len() as u64, Ordering::Relaxed);
        let (waiting, answers): (Vec<Waiting>, Vec<_>) = entries
            .into_iter()
            .map(|entry| {
                let (done, answer) = oneshot::channel();
                (Waiting { entry, done }, answer)
            })
            .unzip();
        if self.queue.send(Request::AppendFor { waiting, bytes: requests.len() }).await.is_err() {
            return HandedOff::NotTaken;
        }
        let mut is_unknown = false;
        for answer in answers {
            is_unknown |= matches!(answer.await, Ok(Err(CatalogError::Unknown(_))) | Err(_));
        }
        match is_unknown {
            true => HandedOff::Unknown,
            false => HandedOff::Done { position: self.read().position() },
        }
    }

    /// Replays what others have appended so far; gives the position. What came before the call is in the state then.
    pub async fn catch_up(&self) -> Result<u64, CatalogError> {
        let (done, answer) = oneshot::channel();
        self.queue.send(Request::Follow { done }).await.map_err(|_| CatalogError::Closed)?;
        answer.await.unwrap_or(Err(CatalogError::Closed))
    }

    /// Another incarnation has taken this one's place: nothing that it appends counts any more.
    pub fn is_fenced(&self) -> bool {
        !self.read().is_writer(self.wal_id)
    }

    /// Changes with every replayed frame; holds its position.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    pub fn node_id(&self) -> i32 {
        self.node_id
    }

    /// May other brokers append as well? Then what the state lacks may be there all the same.
    pub fn is_shared(&self) -> bool {
        self.leases.is_some()
    }

    /// How far this broker has come, as its lease says it.
    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// What the metadata says up to a position is in effect here.
    pub fn set_applied(&self, position: u64) {
        self.applied.send_if_modified(|applied| {
            let is_more = *applied < position;
            *applied = position.max(*applied);
            is_more
        });
    }

    pub fn applied_changes(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Changes with every frame that this broker has appended: what others do not know yet.
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.appended.clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Of a bucket.
    pub fn leases(&self) -> Option<&Leases> {
        self.leases.as_ref()
    }

    /// Of a bucket.
    pub fn authorities(&self) -> Option<&Authorities> {
        self.authorities.as_ref()
    }

    /// The position of this start's registration (R1): the owner to name in producer-id blocks and WAL files.
    pub fn wal_id(&self) -> u64 {
        self.wal_id
    }

    /// The feature levels that this broker knows.
    pub fn levels(&self) -> Levels {
        self.levels
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the opening found that an operator should hear of.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// In a bucket: says that this incarnation has ended, so that nobody waits for its lease. Nothing that it appends counts any more.
    pub async fn leave(&self) {
        if self.is_shared() && !self.is_fenced() {
            let left = self.append(vec![MetadataRecord::FenceWal { wal_id: self.wal_id }]);
            if task::timeout(LEAVE_MAX, left).await.is_err() {
                tracing::warn!("the bucket does not answer: others will wait for this broker's lease");
            }
        }
    }

    /// Finishes what waits and refuses what comes later.
    pub async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let (done, closed) = oneshot::channel();
        if self.queue.send(Request::Close { done }).await.is_ok() {
            let _ = closed.await;
        }
    }
}

/// What a bucket's metadata says, without becoming one of its brokers.
pub async fn read_bucket(bucket: Arc<dyn Bucket>) -> Result<State, CatalogOpenError> {
    BucketLog::look(bucket).await
}

/// A node id that is asked for and that a live broker has is free once that one's lease has stood still for as long as a lease
/// may. When it moves, the id is refused.
async fn wait_for_node_id(
    leases: &Leases,
    state: &State,
    options: &CatalogOptions,
) -> Result<(), CatalogOpenError> {
    let Some(node_id) = options.node_id.filter(|node_id| state.is_live(*node_id)) else { return Ok(()) };
    let wal_id = state.broker(node_id).map_or(0, |broker| broker.wal_id);
    let (began, ttl) = (task::now(), options.lease_ttl);
    let mut watch = LeaseWatch::default();
    let mut first = None;
    loop {
        // Not when it was asked for in vain.
        let asked_at = Mutex::new(task::now());
        let listed = patiently(LEASE_PATIENCE, || {
            *asked_at.lock() = task::now();
            leases.list()
        })
        .await?;
        let lease = listed.get(&wal_id).cloned();
        match first.get_or_insert_with(|| lease.clone()) {
            first if *first == lease => {}
            _ if lease.is_some() => return Err(CatalogOpenError::NodeIdInUse { node_id, wal_id }),
            // It has left.
            _ => return Ok(()),
        }
        watch.look(*asked_at.lock() - began, task::now() - began, ttl, [wal_id], &listed);
        if watch.is_expired(wal_id, ttl) {
            return Ok(());
        }
        task::sleep(ttl / 8).await;
    }
}

fn belongs_to(state: &State, now: i32) -> Result<(), CatalogOpenError> {
    match state.brokers().find(|broker| broker.node_id != now) {
        Some(other) => Err(CatalogOpenError::NodeIdChanged { was: other.node_id, now }),
        None => Ok(()),
    }
}

struct Committer {
    log: MetadataLog,
    state: Arc<RwLock<State>>,
    publish: watch::Sender<u64>,
    publish_own: watch::Sender<u64>,
    counters: Arc<Counters>,
    options: CatalogOptions,
    node_id: i32,
    wal_id: u64,
    last_request: u64,
    /// Requests up to this number were handed off and may count yet, until the log has a later number of ours.
    unsettled: u64,
    hand_off: HandOffPlace,
    no_hand_off_before: Option<task::Instant>,
    failure: Failure,
}

#[derive(Default)]
struct Gathered {
    batch: Vec<Waiting>,
    followers: Vec<oneshot::Sender<Result<u64, CatalogError>>>,
    close: Option<oneshot::Sender<()>>,
}

struct Waiting {
    entry: Entry,
    done: oneshot::Sender<Result<u64, CatalogError>>,
}

impl Committer {
    async fn register(&mut self, cluster: Uuid, incarnation: Uuid) -> Result<(), CatalogError> {
        for _ in 0..REGISTER_TRIES {
            let asked = self.options.node_id;
            self.node_id = asked.unwrap_or_else(|| self.state.read().free_node_id(&self.options.endpoints));
            let records = self.registration(cluster, incarnation);
            let (done, answer) = oneshot::channel();
            self.commit(vec![Waiting { entry: Entry { writer: 0, request: 0, records }, done }]).await;
            match answer.await.unwrap_or(Err(CatalogError::Closed)) {
                Ok(position) => {
                    self.wal_id = position;
                    return Ok(());
                }
                // An earlier try whose answer was lost.
                Err(CatalogError::Rejected(Precondition::IncarnationRegistered {
                    incarnation: known,
                    wal_id,
                })) if known == incarnation => {
                    self.wal_id = wal_id;
                    return Ok(());
                }
                Err(CatalogError::Rejected(
                    Precondition::ClusterExists { .. } | Precondition::WriterFenced { .. },
                )) if self.log.is_shared() => {}
                Err(error) => return Err(error),
            }
        }
        Err(CatalogError::Storage("others were faster again and again".to_owned()))
    }

    fn registration(&self, cluster: Uuid, incarnation: Uuid) -> Vec<MetadataRecord> {
        let state = self.state.read();
        let mut records = Vec::new();
        if state.cluster_id().is_empty() {
            records.push(MetadataRecord::CreateCluster {
                cluster_id: Str::from(cluster.to_string()),
                level: self.options.levels.highest,
            });
        }
        records.push(MetadataRecord::RegisterBroker {
            node_id: self.node_id,
            previous: state.broker(self.node_id).map_or(0, |broker| broker.wal_id),
            incarnation,
            rack: self.options.rack.clone(),
            endpoints: self.options.endpoints.clone(),
            levels: self.options.levels,
        });
        if self.log.is_shared() {
            records.push(MetadataRecord::BeginWal);
        }
        records
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        // What was taken from the queue and did not fit into the commit before.
        let mut taken: VecDeque<Request> = VecDeque::new();
        loop {
            if taken.is_empty() && !self.take(&mut requests, &mut taken).await {
                break;
            }
            let Gathered { batch, followers, close } = self.gather(&mut taken);
            if !followers.is_empty() {
                let followed = self.follow().await;
                for done in followers {
                    let _ = done.send(followed.clone());
                }
            }
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

    /// Waits for requests and takes all that are there. When none comes, it writes the durable mark, or looks for frames of
    /// others. False: nobody can ask any more.
    async fn take(&mut self, requests: &mut mpsc::Receiver<Request>, taken: &mut VecDeque<Request>) -> bool {
        let mut all = Vec::new();
        let idle = match self.log.is_shared() {
            _ if self.has_failed() => None,
            true => Some(self.options.follow_every),
            false => (!self.log.is_marked()).then_some(self.options.mark_after),
        };
        if let Some(idle) = idle {
            let first = task::timeout(idle, requests.recv_many(&mut all, APPEND_QUEUE_MAX)).await;
            if first.is_err() {
                if self.log.is_shared() {
                    let _ = self.follow().await;
                    return true;
                }
                self.mark().await;
            }
        }
        if all.is_empty() && requests.recv_many(&mut all, APPEND_QUEUE_MAX).await == 0 {
            return false;
        }
        taken.extend(all);
        true
    }

    /// Replays the frames of others up to the end of the log.
    async fn follow(&mut self) -> Result<u64, CatalogError> {
        loop {
            if let Some(reason) = self.failure.lock().clone() {
                return Err(CatalogError::Storage(reason));
            }
            match self.log.next().await {
                Ok(Some(frame)) => self.replay(&frame, &mut Vec::new()),
                Ok(None) => return Ok(self.log.position()),
                Err(failure) => {
                    if failure.is_final {
                        self.fail(failure.reason.clone());
                    }
                    return Err(CatalogError::Storage(failure.reason));
                }
            }
        }
    }

    /// A frame of another broker. What it has of ours is answered.
    fn replay(&mut self, frame: &Frame, batch: &mut Vec<Waiting>) {
        let replayed = replay(&mut self.state.write(), frame, self.options.levels);
        match replayed {
            Ok(outcomes) => {
                self.counters.frames_of_others.fetch_add(1, Ordering::Relaxed);
                self.publish.send_replace(frame.position);
                for (entry, outcome) in frame.entries.iter().zip(outcomes) {
                    let is_it = |waiting: &Waiting| {
                        self.is_own(&waiting.entry) && waiting.entry.request == entry.request
                    };
                    if self.is_own(entry)
                        && let Some(found) = batch.iter().position(is_it)
                    {
                        let answer = self.answer(outcome, frame.position);
                        let _ = batch.remove(found).done.send(answer);
                    }
                }
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn fail(&self, reason: String) {
        tracing::error!(reason, "the metadata log takes nothing any more");
        *self.failure.lock() = Some(reason);
    }

    /// What waits already, up to the size of one commit.
    fn gather(&mut self, taken: &mut VecDeque<Request>) -> Gathered {
        let mut gathered = Gathered::default();
        let (mut records_len, mut bytes_len) = (0, 0);
        while records_len < COMMIT_RECORDS_MAX && bytes_len < COMMIT_BYTES {
            match taken.pop_front() {
                Some(Request::Append { records, bytes, done }) => {
                    records_len += records.len();
                    bytes_len += bytes;
                    self.last_request += 1;
                    let entry = Entry { writer: self.wal_id, request: self.last_request, records };
                    gathered.batch.push(Waiting { entry, done });
                }
                Some(Request::AppendFor { waiting, bytes }) => {
                    records_len += waiting.iter().map(|waiting| waiting.entry.records.len()).sum::<usize>();
                    bytes_len += bytes;
                    gathered.batch.extend(waiting);
                }
                Some(Request::Follow { done }) => gathered.followers.push(done),
                Some(Request::Close { done }) => {
                    gathered.close = Some(done);
                    break;
                }
                None => break,
            }
        }
        gathered
    }

    async fn commit(&mut self, mut batch: Vec<Waiting>) {
        self.counters.appends.fetch_add(batch.len() as u64, Ordering::Relaxed);
        while !batch.is_empty() {
            batch = self.commit_once(batch).await;
        }
    }

    /// One frame, if there is anything for one. What stays over is refused only because of others of this batch: it comes to a
    /// decision when they have.
    async fn commit_once(&mut self, mut batch: Vec<Waiting>) -> Vec<Waiting> {
        let mut may_hand_off = true;
        let mut postponed = Vec::new();
        loop {
            let failure = self.failure.lock().clone();
            if let Some(reason) = failure {
                self.refuse(batch, &CatalogError::Storage(reason));
                return postponed;
            }
            self.number_anew(&mut batch);
            // What may come to the log behind our back must not be refused before the log has refused it.
            let is_settled = !self.is_unsettled();
            if is_settled {
                self.refuse_beyond_limits(&mut batch);
            }
            batch = self.rehearse(batch, is_settled, &mut postponed);
            if batch.is_empty() {
                return postponed;
            }
            if is_settled && std::mem::take(&mut may_hand_off) && self.hand_off(&mut batch).await {
                continue;
            }
            let entries: Vec<Entry> = batch.iter().map(|waiting| waiting.entry.clone()).collect();
            let position = self.log.position() + 1;
            let state_hash = position.is_multiple_of(STATE_HASH_INTERVAL).then(|| self.state.read().hash());
            match self.log.commit(state_hash, entries.clone()).await {
                Ok(Committed::Own { bytes }) => {
                    self.counters.frames.fetch_add(1, Ordering::Relaxed);
                    self.counters.frame_bytes.fetch_add(bytes, Ordering::Relaxed);
                    let outcomes = self.state.write().apply(position, &entries);
                    self.publish.send_replace(position);
                    self.publish_own.send_replace(position);
                    for (outcome, waiting) in outcomes.into_iter().zip(batch) {
                        let _ = waiting.done.send(self.answer(outcome, position));
                    }
                    return postponed;
                }
                Ok(Committed::Other(frame)) => {
                    self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
                    self.replay(&frame, &mut batch);
                }
                Err(failure) => {
                    let reason = failure.reason;
                    tracing::error!(reason, is_final = failure.is_final, "the metadata log refuses changes");
                    if failure.is_final {
                        self.fail(reason.clone());
                    }
                    self.refuse(
                        batch,
                        &match failure.is_unknown {
                            true => CatalogError::Unknown(reason),
                            false => CatalogError::Storage(reason),
                        },
                    );
                    return postponed;
                }
            }
        }
    }

    fn is_own(&self, entry: &Entry) -> bool {
        self.wal_id != 0 && entry.writer == self.wal_id
    }

    /// The newest of our requests that the log has, accepted or not. None: we are fenced, or not registered yet.
    fn last_in_log(&self) -> Option<u64> {
        self.state.read().writers.get(&self.wal_id).map(|last| last.request)
    }

    /// May a request of ours come to the log that we do not wait for any more?
    fn is_unsettled(&self) -> bool {
        let is_behind = self.last_in_log().is_some_and(|last| last < self.unsettled);
        is_behind && !broken::rule("handed-off-then-refused")
    }

    /// A request behind whose number the log is, and that is not in it, cannot count any more under that number: it gets a new one.
    fn number_anew(&mut self, batch: &mut Vec<Waiting>) {
        let Some(last) = self.last_in_log() else { return };
        let is_late = |waiting: &mut Waiting| self.is_own(&waiting.entry) && waiting.entry.request <= last;
        let mut late: Vec<Waiting> = batch.extract_if(.., is_late).collect();
        self.give_numbers(&mut late);
        batch.append(&mut late);
    }

    fn give_numbers(&mut self, waiting: &mut [Waiting]) {
        for waiting in waiting {
            self.last_request += 1;
            waiting.entry.request = self.last_request;
        }
    }

    /// Lets the controller append these, if it is another broker and can be asked. True: something has come of it, to be looked at.
    async fn hand_off(&mut self, batch: &mut Vec<Waiting>) -> bool {
        let is_paused = self.no_hand_off_before.is_some_and(|before| task::now() < before);
        if is_paused || !batch.iter().all(|waiting| self.is_own(&waiting.entry)) {
            return false;
        }
        let Some(hand_off) = self.hand_off.lock().clone() else { return false };
        let controller = {
            let state = self.state.read();
            state.controller().and_then(|node_id| state.broker(node_id)).cloned()
        };
        let Some(controller) = controller.filter(|controller| controller.wal_id != self.wal_id) else {
            return false;
        };
        let entries: Vec<Entry> = batch.iter().map(|waiting| waiting.entry.clone()).collect();
        let requests = hand_off::encode(&entries);
        if requests.len() > HAND_OFF_BYTES_MAX {
            return false;
        }
        let asked = task::timeout(HAND_OFF_MAX, hand_off.hand_off(&controller, requests)).await;
        let outcome = asked.unwrap_or(HandedOff::Unknown);
        let count = batch.len() as u64;
        if outcome != HandedOff::NotTaken {
            self.counters.handed_off.fetch_add(count, Ordering::Relaxed);
        }
        if let HandedOff::Done { position } = outcome
            && self.follow_to(position, batch).await
        {
            // What it did not write it never will, under that number.
            self.give_numbers(batch);
            return true;
        }
        self.no_hand_off_before = Some(task::now() + HAND_OFF_PAUSE);
        if outcome == HandedOff::NotTaken {
            return false;
        }
        self.counters.handed_off_unknown.fetch_add(count, Ordering::Relaxed);
        self.unsettled = self.last_request;
        true
    }

    /// Replays up to a position that is there. False: the bucket does not show it.
    async fn follow_to(&mut self, position: u64, batch: &mut Vec<Waiting>) -> bool {
        while self.log.position() < position && !self.has_failed() {
            self.log.read_ahead(position).await;
            match self.log.next().await {
                Ok(Some(frame)) => self.replay(&frame, batch),
                Ok(None) => return false,
                Err(failure) => {
                    if failure.is_final {
                        self.fail(failure.reason);
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Answers what its preconditions refuse; the rest goes into the frame. Our own goes there too while it is not `settled` that
    /// nothing of ours is on its way: then the log has to refuse it. Ours that would be possible without the rest is postponed: told
    /// now, a refusal would rest on what nothing has decided yet. Others judge what they hand off by their own replay.
    fn rehearse(
        &mut self,
        batch: Vec<Waiting>,
        is_settled: bool,
        postponed: &mut Vec<Waiting>,
    ) -> Vec<Waiting> {
        let (entries, waiting): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.entry, waiting.done)).unzip();
        let mut state = self.state.write();
        let outcomes = state.rehearse(&entries);
        let mut accepted = Vec::with_capacity(entries.len());
        for ((entry, done), outcome) in entries.into_iter().zip(waiting).zip(outcomes) {
            match outcome {
                Outcome::Accepted => accepted.push(Waiting { entry, done }),
                _ if !is_settled && self.is_own(&entry) => accepted.push(Waiting { entry, done }),
                Outcome::Rejected(_) if self.is_own(&entry) && state.rehearse_alone(&entry) => {
                    postponed.push(Waiting { entry, done });
                }
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
            // What others ask for they have held against theirs.
            if self.wal_id != 0 && !self.is_own(&waiting.entry) {
                within.push(waiting);
                continue;
            }
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

    fn refuse(&self, batch: Vec<Waiting>, error: &CatalogError) {
        self.counters.appends_failed.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let is_unsettled = self.is_unsettled();
        for waiting in batch {
            let error = match error {
                // The controller may write it yet.
                CatalogError::Storage(reason)
                    if is_unsettled
                        && self.is_own(&waiting.entry)
                        && waiting.entry.request <= self.unsettled =>
                {
                    CatalogError::Unknown(reason.clone())
                }
                error => error.clone(),
            };
            let _ = waiting.done.send(Err(error));
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
            Err(failure) => {
                // The log has everything; the next commit tries again.
                self.counters.snapshots_failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(reason = failure.reason, "no snapshot of the metadata");
                if failure.is_final {
                    self.fail(failure.reason);
                }
            }
        }
    }

    async fn mark(&mut self) {
        if let Err(error) = self.log.write_mark().await {
            tracing::warn!(error, "no durable mark of the metadata log");
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
