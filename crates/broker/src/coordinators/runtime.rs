//! One partition of an internal topic at work: the pure state machine, the log it writes to, the clock that rings its
//! alarms, and everybody who waits for an answer.
//!
//! A request locks the state for a few lines: the event goes in, its records go to the log while the lock is held
//! (so the log's order is the order of events), and the request waits for its answer. One task per partition reads
//! the log at start, waits for the commits in their order, rings the alarms, and keeps the log short.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use commitlog::{
    Append, AppendOptions, EndTransaction, Isolation, Origin, Partition, ReadError, ReadRequest,
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use protocol::batch::{Batch, BatchBuilder, ControlRecord, NO_SEQUENCE, split_batches};
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};
use tokio::sync::{Notify, Semaphore, oneshot};
use world::broken;
use world::clock::SharedClock;
use world::task;

use super::{Effects, InTransaction, Marked, Now, Record, ReplyId, StateMachine, Token};
use crate::error;

/// Records of one write stand in one batch up to here; only deletions of very many offsets need more.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// One page of a snapshot: what is handed to the log under one hold of the lock.
const SNAPSHOT_PAGE_BYTES: usize = 256 << 10;
/// One read while loading.
const LOAD_READ_BYTES: usize = 1 << 20;
/// A batch of our own is not compressed; one of a Kafka broker may be.
const BATCH_DECOMPRESSED_BYTES_MAX: usize = 128 << 20;
/// A log grows to this many times its last snapshot before the next one is made, however large the state is.
const GROWTH_PER_SNAPSHOT: u64 = 3;

pub(crate) struct PartitionRuntime<M: StateMachine> {
    partition: Arc<Partition>,
    leader_epoch: i32,
    clock: SharedClock,
    /// Of the start; each event brings those of its time.
    settings: Arc<M::Settings>,
    /// Above this the log gets a snapshot and is trimmed below it.
    log_bytes_max: u64,
    inner: Mutex<Inner<M>>,
    /// Something was handed to the log, or an alarm was set earlier than those before.
    wake: Notify,
    /// The state was loaded, or something is durable that was not before.
    settled: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Loading,
    Ready,
    /// The log could not be read: nothing is answered from half a state. It is tried again.
    Broken,
    Stopped,
}

struct Inner<M: StateMachine> {
    phase: Phase,
    shard: M,
    waiting: BTreeMap<ReplyId, oneshot::Sender<M::Answer>>,
    next_reply: u64,
    in_flight: VecDeque<InFlight<M::SnapshotPlace>>,
    /// The alarm that the task sleeps for, monotonic ms.
    sleeping_until_ms: Option<u64>,
    snapshot: Option<SnapshotRun>,
    last_snapshot_bytes: u64,
    /// Refused by the log: no new try before this, monotonic ms.
    no_snapshot_before_ms: u64,
    /// What stands before the last snapshot is being taken away.
    is_trimming: bool,
    /// The last stable offset up to which the last snapshot has trimmed. As long as a transaction holds it there, another one trims nothing.
    held_at: Option<i64>,
}

struct SnapshotRun {
    /// Everything below goes once the last page is safe.
    first_offset: i64,
    /// Where the first page stands.
    page: i64,
    bytes: u64,
    /// A write has failed that its pages may show, a deletion perhaps: what they leave out stands before them.
    is_spoiled: bool,
}

/// Handed to the log, in its order.
enum InFlight<Place> {
    Write { token: Token, outcome: Result<Vec<Append>, ErrorCode> },
    SnapshotPage { appends: Vec<Append>, next: Option<Place> },
}

/// A snapshot that could not be written is tried again after this.
const SNAPSHOT_RETRY_MS: u64 = 10_000;
/// A bucket that did not answer while loading is asked again after this.
const LOAD_RETRY: Duration = Duration::from_secs(1);
/// A log that cannot be read is looked at again later and later, but no later than this.
const LOAD_RETRY_MAX: Duration = Duration::from_secs(60);

impl<M: StateMachine> PartitionRuntime<M> {
    pub fn new(
        partition: Arc<Partition>,
        leader_epoch: i32,
        clock: SharedClock,
        settings: Arc<M::Settings>,
        log_bytes_max: u64,
    ) -> Arc<PartitionRuntime<M>> {
        let shard = M::new(settings.clone());
        let inner = Inner {
            phase: Phase::Loading,
            shard,
            waiting: BTreeMap::new(),
            next_reply: 0,
            in_flight: VecDeque::new(),
            sleeping_until_ms: None,
            snapshot: None,
            last_snapshot_bytes: 0,
            no_snapshot_before_ms: 0,
            is_trimming: false,
            held_at: None,
        };
        let inner = Mutex::new(inner);
        Arc::new(PartitionRuntime {
            partition,
            leader_epoch,
            clock,
            settings,
            log_bytes_max,
            inner,
            wake: Notify::new(),
            settled: Notify::new(),
        })
    }

    pub fn id(&self) -> TopicIdPartition {
        self.partition.id()
    }

    /// Whether it runs this leadership, on this opening of the partition: a log that was closed and opened again may have
    /// been written to by others in between.
    pub fn is_of(&self, partition: &Arc<Partition>, leader_epoch: i32) -> bool {
        self.leader_epoch == leader_epoch && Arc::ptr_eq(&self.partition, partition)
    }

    pub fn now(&self) -> Now {
        let monotonic_ms = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        Now { wall_ms: self.clock.now_ms(), monotonic_ms }
    }

    /// An event that is answered at once.
    pub fn with<R>(
        &self,
        settings: &Arc<M::Settings>,
        event: impl FnOnce(&mut M, Now, &mut Effects<M::Answer>) -> R,
    ) -> Result<R, ErrorCode> {
        let mut inner = self.inner.lock();
        self.check_ready(&inner)?;
        inner.shard.set_settings(settings.clone());
        let mut effects = Effects::default();
        let answer = event(&mut inner.shard, self.now(), &mut effects);
        self.carry_out(&mut inner, effects);
        Ok(answer)
    }

    /// While a partition is being given away its next coordinator may be at work already: what we know may be old (R13).
    fn check_ready(&self, inner: &Inner<M>) -> Result<(), ErrorCode> {
        inner.check_loaded()?;
        match self.partition.is_leaving() {
            false => Ok(()),
            true => Err(ErrorCode::NotCoordinator),
        }
    }

    /// An event whose answer may come later.
    pub async fn ask(
        &self,
        settings: &Arc<M::Settings>,
        event: impl FnOnce(&mut M, ReplyId, Now, &mut Effects<M::Answer>),
    ) -> Result<M::Answer, ErrorCode> {
        let answer = {
            let mut inner = self.inner.lock();
            self.check_ready(&inner)?;
            inner.shard.set_settings(settings.clone());
            let (reply, answer) = inner.expect_reply();
            let mut effects = Effects::default();
            event(&mut inner.shard, reply, self.now(), &mut effects);
            self.carry_out(&mut inner, effects);
            answer
        };
        // Nobody answers any more: the partition was stopped.
        answer.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// Ends a transaction with a marker. The log says whether it is the one that is open here; what it says and the event come
    /// under one lock, so the state changes where the marker stands. It stands in the log's queue on return.
    pub fn end_transaction(
        &self,
        settings: &Arc<M::Settings>,
        marker: EndTransaction,
    ) -> Result<oneshot::Receiver<M::Answer>, ErrorCode> {
        let mut inner = self.inner.lock();
        self.check_ready(&inner)?;
        inner.shard.set_settings(settings.clone());
        let appended = self.partition.end_transaction(marker, self.leader_epoch);
        let appended = appended.map_err(|error| answer_code(error::append_error(&error)))?;
        let EndTransaction { producer_id, commit, .. } = marker;
        let marked = Marked { producer_id, commit, is_repeated: appended.duplicate };
        let (reply, answer) = inner.expect_reply();
        let mut effects = Effects::default();
        inner.shard.marked(marked, reply, self.now(), &mut effects);
        self.carry_out_behind(&mut inner, effects, Some(appended));
        Ok(answer)
    }

    pub fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Returns when there may be news: the state was loaded, a write landed, an alarm rang. One task waits.
    pub async fn settled(&self) {
        self.settled.notified().await;
    }

    /// Appends the writes and sends the answers. Under the lock, so that the log has events in their order.
    fn carry_out(&self, inner: &mut Inner<M>, effects: Effects<M::Answer>) {
        self.carry_out_behind(inner, effects, None);
    }

    /// As [`PartitionRuntime::carry_out`]; the first write is that of a marker which stands in the log's queue already.
    fn carry_out_behind(
        &self,
        inner: &mut Inner<M>,
        effects: Effects<M::Answer>,
        mut marker: Option<Append>,
    ) {
        let has_writes = !effects.writes.is_empty();
        for write in effects.writes {
            // A write that failed may bring about another one. Once we are stopped the log is another's to write.
            let outcome = match (inner.phase, marker.take()) {
                (_, Some(marker)) => Ok(vec![marker]),
                (Phase::Stopped, None) => Err(ErrorCode::NotCoordinator),
                _ => self.append(&write.records, write.transaction),
            };
            inner.in_flight.push_back(InFlight::Write { token: write.token, outcome });
        }
        for (reply, answer) in effects.answers {
            if let Some(waiting) = inner.waiting.remove(&reply) {
                // A client that is gone needs no answer.
                let _ = waiting.send(answer);
            }
        }
        let next_alarm_ms = inner.shard.next_alarm_at_ms();
        let is_earlier =
            next_alarm_ms.is_some_and(|at| inner.sleeping_until_ms.is_none_or(|until| at < until));
        if has_writes || is_earlier {
            self.wake.notify_one();
        }
        if has_writes && broken::rule("marker-before-decision") {
            self.settled.notify_one();
        }
    }

    fn append(
        &self,
        records: &[Record],
        transaction: Option<InTransaction>,
    ) -> Result<Vec<Append>, ErrorCode> {
        let now_ms = self.clock.now_ms();
        let mut appended = Vec::with_capacity(1);
        for records in batches(records) {
            let batch = encode(records, now_ms, transaction).ok_or(ErrorCode::UnknownServerError)?;
            let mut options = AppendOptions {
                leader_epoch: self.leader_epoch,
                origin: Origin::Coordinator,
                is_urgent: M::IS_URGENT || transaction.is_some(),
                ..AppendOptions::default()
            };
            if let Some(transaction) = transaction {
                options.transaction_stamp = transaction.stamp;
                options.verification = transaction.verification;
            }
            let append = self.partition.append(batch, options);
            appended.push(append.map_err(|error| answer_code(error::append_error(&error)))?);
        }
        Ok(appended)
    }

    /// The task of this partition. Ends after [`PartitionRuntime::stop`], once everything handed to the log has
    /// its outcome.
    pub async fn run(
        &self,
        loads: &Semaphore,
        current_topic_id: impl Fn(&Str) -> Option<Uuid> + Send + Sync,
    ) {
        let mut pause = LOAD_RETRY;
        loop {
            let is_loaded = {
                let _permit = loads.acquire().await;
                self.load(&current_topic_id).await
            };
            match is_loaded {
                true => {
                    pause = LOAD_RETRY;
                    self.work().await;
                    if !self.is_stopped() {
                        tracing::warn!(partition = %self.partition.id(), "{} are read anew: the log has refused a record", M::WHAT);
                    }
                    self.rest(LOAD_RETRY).await;
                }
                false if self.is_loading() => self.rest(LOAD_RETRY).await,
                false => {
                    self.rest(pause).await;
                    pause = (pause * 2).min(LOAD_RETRY_MAX);
                }
            }
            let mut inner = self.inner.lock();
            match inner.phase {
                Phase::Stopped => return,
                Phase::Broken | Phase::Loading => {
                    inner.phase = Phase::Loading;
                    inner.shard = M::new(self.settings.clone());
                }
                Phase::Ready => unreachable!("only a load makes it ready"),
            }
        }
    }

    /// Waits, unless it is stopped.
    async fn rest(&self, pause: Duration) {
        let until = task::now() + pause;
        while !self.is_stopped() && task::now() < until {
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = task::sleep_until(until) => {}
            }
        }
    }

    /// Until nothing is under way and it has been stopped, or has to be loaded again.
    async fn work(&self) {
        let mut front: Option<Landing<M::SnapshotPlace>> = None;
        // A commit of its own: nobody who waits for a record waits for it too.
        let mut trim: Option<BoxFuture<'_, ()>> = None;
        loop {
            let (phase, alarm_in) = self.prepare_to_wait(&mut front);
            if front.is_none() && trim.is_none() && matches!(phase, Phase::Stopped | Phase::Loading) {
                return;
            }
            let alarm = async {
                match alarm_in {
                    Some(delay) => task::sleep(delay).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                landed = landed(&mut front) => {
                    if let Some(run) = self.landed(landed) {
                        trim = Some(Box::pin(self.trim(run)));
                    }
                }
                () = ended(&mut trim) => {}
                () = self.wake.notified() => {}
                () = alarm => self.ring(),
            }
        }
    }

    fn prepare_to_wait(&self, front: &mut Option<Landing<M::SnapshotPlace>>) -> (Phase, Option<Duration>) {
        let mut inner = self.inner.lock();
        if front.is_none() {
            *front = inner.in_flight.pop_front().map(landing);
        }
        let phase = inner.phase;
        let next_alarm_ms = inner.shard.next_alarm_at_ms().filter(|_| inner.phase == Phase::Ready);
        inner.sleeping_until_ms = next_alarm_ms;
        let now_ms = self.now().monotonic_ms;
        (phase, next_alarm_ms.map(|at| Duration::from_millis(at.saturating_sub(now_ms))))
    }

    fn ring(&self) {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Ready {
            return;
        }
        let mut effects = Effects::default();
        inner.shard.tick(self.now(), &mut effects);
        self.carry_out(&mut inner, effects);
        self.settled.notify_one();
    }

    /// A snapshot that is whole is given back: what stands before it can go.
    fn landed(&self, landed: Landed<M::SnapshotPlace>) -> Option<SnapshotRun> {
        match landed {
            Landed::Write { token, outcome } => {
                let mut inner = self.inner.lock();
                if let (Err(_), Some(snapshot)) = (outcome, &mut inner.snapshot) {
                    snapshot.is_spoiled = true;
                }
                let mut effects = Effects::default();
                inner.shard.written(token, outcome, self.now(), &mut effects);
                self.carry_out(&mut inner, effects);
                if inner.phase == Phase::Ready && inner.shard.is_lost() {
                    inner.phase = Phase::Loading;
                    inner.snapshot = None;
                }
                self.start_snapshot(&mut inner);
                self.settled.notify_one();
            }
            Landed::SnapshotPage { outcome: Ok(()), next: Some(place) } => {
                let mut inner = self.inner.lock();
                let is_whole = inner.snapshot.as_ref().is_some_and(|run| !run.is_spoiled);
                match inner.phase {
                    Phase::Ready if is_whole => self.write_snapshot_page(&mut inner, Some(place)),
                    // The shard was emptied: its next page would lack groups that live on in the log.
                    _ => self.give_up_snapshot(&mut inner),
                }
            }
            Landed::SnapshotPage { outcome: Ok(()), next: None } => return self.finish_snapshot(),
            Landed::SnapshotPage { outcome: Err(_), .. } => self.give_up_snapshot(&mut self.inner.lock()),
        }
        None
    }

    fn start_snapshot(&self, inner: &mut Inner<M>) {
        let bytes_max = self.log_bytes_max.max(inner.last_snapshot_bytes * GROWTH_PER_SNAPSHOT);
        let is_held = inner.held_at.is_some_and(|held_at| self.partition.offsets().last_stable <= held_at);
        let may_try = inner.phase == Phase::Ready
            && !is_held
            && !inner.is_trimming
            && self.now().monotonic_ms >= inner.no_snapshot_before_ms;
        if inner.snapshot.is_none() && may_try && self.partition.size_bytes() >= bytes_max {
            self.write_snapshot_page(inner, None);
        }
    }

    fn write_snapshot_page(&self, inner: &mut Inner<M>, place: Option<M::SnapshotPlace>) {
        let (records, next) = inner.shard.snapshot_page(place, SNAPSHOT_PAGE_BYTES);
        if records.is_empty() && inner.snapshot.is_none() {
            // Nothing lives: all that is committed by now is history.
            let offsets = self.partition.offsets();
            let is_quiet = inner.in_flight.is_empty();
            if is_quiet {
                let (first_offset, page) = (offsets.last_stable, offsets.high_watermark);
                inner.snapshot = Some(SnapshotRun { first_offset, page, bytes: 0, is_spoiled: false });
                inner.in_flight.push_back(InFlight::SnapshotPage { appends: Vec::new(), next: None });
                self.wake.notify_one();
            }
            return;
        }
        let bytes: usize = records.iter().map(Record::size_bytes).sum();
        // Before the append: what is open as of now, or is on its way, stands at the last stable offset or behind it.
        let stable = self.partition.offsets().last_stable;
        match self.append(&records, None) {
            Ok(appends) => {
                let page = appends.first().map_or(i64::MAX, |append| append.base_offset);
                let first_offset = page.min(stable);
                let first = SnapshotRun { first_offset, page, bytes: 0, is_spoiled: false };
                let run = inner.snapshot.get_or_insert(first);
                run.bytes += bytes as u64;
                inner.in_flight.push_back(InFlight::SnapshotPage { appends, next });
                self.wake.notify_one();
            }
            Err(_) => self.give_up_snapshot(inner),
        }
    }

    fn give_up_snapshot(&self, inner: &mut Inner<M>) {
        inner.snapshot = None;
        inner.no_snapshot_before_ms = self.now().monotonic_ms + SNAPSHOT_RETRY_MS;
    }

    /// The whole snapshot is safe: what stands before it says nothing new.
    fn finish_snapshot(&self) -> Option<SnapshotRun> {
        let mut inner = self.inner.lock();
        let is_ready = inner.phase == Phase::Ready;
        let run = inner.snapshot.take().filter(|run| is_ready && !run.is_spoiled);
        match run {
            Some(_) => inner.is_trimming = true,
            None => self.give_up_snapshot(&mut inner),
        }
        run
    }

    async fn trim(&self, run: SnapshotRun) {
        let trimmed = self.partition.delete_records(run.first_offset).await;
        let mut inner = self.inner.lock();
        inner.is_trimming = false;
        inner.last_snapshot_bytes = run.bytes;
        // A transaction that began before it is open yet: what it has written is in no page. When it has ended another try is worth it.
        inner.held_at = Some(run.first_offset).filter(|first_offset| *first_offset < run.page);
        match trimmed {
            Ok(_) => {
                tracing::debug!(partition = %self.partition.id(), bytes = run.bytes, "trimmed behind a snapshot")
            }
            Err(error) => {
                tracing::warn!(partition = %self.partition.id(), %error, "cannot be trimmed behind its snapshot");
                inner.no_snapshot_before_ms = self.now().monotonic_ms + SNAPSHOT_RETRY_MS;
            }
        }
    }

    /// False: it could not be read.
    async fn load(&self, current_topic_id: &(impl Fn(&Str) -> Option<Uuid> + Send + Sync)) -> bool {
        let started = self.now().monotonic_ms;
        let loaded = self.replay().await;
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Loading {
            return false;
        }
        let is_loaded = loaded.is_ok();
        match loaded {
            Ok(record_count) => {
                inner.phase = Phase::Ready;
                let now = self.now();
                if record_count > 0 {
                    let took_ms = now.monotonic_ms - started;
                    tracing::debug!(partition = %self.partition.id(), record_count, took_ms, "{} loaded", M::WHAT);
                }
                let mut effects = Effects::default();
                inner.shard.loaded(current_topic_id, now, &mut effects);
                self.carry_out(&mut inner, effects);
                self.start_snapshot(&mut inner);
                self.settled.notify_one();
            }
            Err(LoadError::Read(error @ (ReadError::Bucket(_) | ReadError::NotYet))) => {
                tracing::warn!(partition = %self.partition.id(), %error, "{} cannot be loaded yet", M::WHAT);
            }
            Err(error) => {
                inner.phase = Phase::Broken;
                tracing::error!(partition = %self.partition.id(), %error, "{} of this partition cannot be loaded", M::WHAT);
            }
        }
        is_loaded
    }

    /// Applies the whole log. The lock is held per read only, so that requests learn at once that we load.
    async fn replay(&self) -> Result<u64, LoadError> {
        let offsets = self.partition.offsets();
        let (mut offset, mut record_count) = (offsets.log_start, 0);
        while offset < offsets.high_watermark && self.is_loading() {
            let request = ReadRequest {
                offset,
                max_bytes: LOAD_READ_BYTES,
                min_one_batch: true,
                isolation: Isolation::ReadUncommitted,
            };
            let read = self.partition.read(request).await?;
            let before = offset;
            for segment in read.records.segments() {
                let mut inner = self.inner.lock();
                let now = self.now();
                for batch in split_batches(segment) {
                    let batch = batch?;
                    offset = batch.header.next_offset();
                    let producer_id = batch.header.is_transactional().then_some(batch.header.producer_id);
                    if batch.header.is_control() {
                        for record in batch.records(BATCH_DECOMPRESSED_BYTES_MAX) {
                            let record = record?;
                            let marker = record
                                .key
                                .as_ref()
                                .and_then(|key| ControlRecord::parse(key, record.value.as_deref()));
                            let commit = match marker {
                                Some(ControlRecord::Commit { .. }) => true,
                                Some(ControlRecord::Abort { .. }) => false,
                                _ => continue,
                            };
                            inner.shard.replay_marker(batch.header.producer_id, commit, now);
                        }
                        continue;
                    }
                    for record in batch.records(BATCH_DECOMPRESSED_BYTES_MAX) {
                        let record = record?;
                        if let Some(key) = record.key.filter(|_| record.offset >= before) {
                            inner.shard.replay(&key, record.value.as_ref(), producer_id, now)?;
                            record_count += 1;
                        }
                    }
                }
            }
            if offset == before {
                return Err(LoadError::Stuck { offset });
            }
            task::yield_now().await;
        }
        Ok(record_count)
    }

    /// Sends everybody who waits to look for the coordinator again, also those whose write is under way: they will find it
    /// in the log, or write it again. The groups stay in the log.
    pub fn stop(&self) {
        let mut inner = self.inner.lock();
        let was_ready = inner.phase == Phase::Ready;
        inner.phase = Phase::Stopped;
        if was_ready {
            let mut effects = Effects::default();
            inner.shard.unload(ErrorCode::NotCoordinator, &mut effects);
            self.carry_out(&mut inner, effects);
        }
        inner.waiting.clear();
        self.wake.notify_one();
        self.settled.notify_one();
    }

    /// Looks at the state as it is, loaded or not.
    pub fn look<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        look(&self.inner.lock().shard)
    }

    pub fn is_stopped(&self) -> bool {
        self.inner.lock().phase == Phase::Stopped
    }

    pub fn is_loading(&self) -> bool {
        self.inner.lock().phase == Phase::Loading
    }
}

impl<M: StateMachine> Inner<M> {
    fn expect_reply(&mut self) -> (ReplyId, oneshot::Receiver<M::Answer>) {
        let reply = ReplyId(self.next_reply);
        self.next_reply += 1;
        let (sender, answer) = oneshot::channel();
        self.waiting.insert(reply, sender);
        (reply, answer)
    }

    fn check_loaded(&self) -> Result<(), ErrorCode> {
        match self.phase {
            Phase::Ready => Ok(()),
            Phase::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Phase::Broken => Err(ErrorCode::CoordinatorNotAvailable),
            Phase::Stopped => Err(ErrorCode::NotCoordinator),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Batch(#[from] protocol::batch::BatchError),
    #[error("a record cannot be read: {0:?}")]
    Record(protocol::wire::DecodeError),
    #[error("nothing stands at offset {offset}")]
    Stuck { offset: i64 },
}

impl From<protocol::wire::DecodeError> for LoadError {
    fn from(error: protocol::wire::DecodeError) -> LoadError {
        LoadError::Record(error)
    }
}

enum Landed<Place> {
    Write { token: Token, outcome: Result<(), ErrorCode> },
    SnapshotPage { outcome: Result<(), ErrorCode>, next: Option<Place> },
}

/// Waits for the commit of what was handed over first.
type Landing<Place> = BoxFuture<'static, Landed<Place>>;

fn landing<Place: Send + 'static>(in_flight: InFlight<Place>) -> Landing<Place> {
    Box::pin(async move {
        match in_flight {
            InFlight::Write { token, outcome: Ok(appends) } => {
                Landed::Write { token, outcome: all_committed(appends).await }
            }
            InFlight::Write { token, outcome: Err(error) } => Landed::Write { token, outcome: Err(error) },
            InFlight::SnapshotPage { appends, next } => {
                Landed::SnapshotPage { outcome: all_committed(appends).await, next }
            }
        }
    })
}

async fn all_committed(appends: Vec<Append>) -> Result<(), ErrorCode> {
    for append in appends {
        append.committed().await.map_err(|error| answer_code(error::commit_error(&error)))?;
    }
    Ok(())
}

/// Safe to drop and to call again: what is not there yet stays in `front`.
async fn landed<Place>(front: &mut Option<Landing<Place>>) -> Landed<Place> {
    match front {
        None => std::future::pending().await,
        Some(landing) => {
            let landed = landing.await;
            *front = None;
            landed
        }
    }
}

/// Safe to drop and to call again.
async fn ended(trim: &mut Option<BoxFuture<'_, ()>>) {
    match trim {
        None => std::future::pending().await,
        Some(trimming) => {
            trimming.await;
            *trim = None;
        }
    }
}

/// What members and tools are told when the log does not take a record. Kafka's
/// `CoordinatorOperationExceptionHelper`: both make a client look for the coordinator again and retry.
fn answer_code(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::NotEnoughReplicas | ErrorCode::RequestTimedOut => {
            ErrorCode::CoordinatorNotAvailable
        }
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        error => error,
    }
}

/// Splits records into runs of at most `BATCH_BYTES_MAX`, or of one record.
fn batches(records: &[Record]) -> impl Iterator<Item = &[Record]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let is_first = bytes == 0;
            bytes += record.size_bytes();
            is_first || bytes <= BATCH_BYTES_MAX
        };
        let count = rest.iter().take_while(fits).count();
        let (run, behind) = rest.split_at(count);
        rest = behind;
        (count > 0).then_some(run)
    })
}

fn encode(records: &[Record], now_ms: i64, transaction: Option<InTransaction>) -> Option<Batch> {
    let mut builder = match transaction {
        Some(InTransaction { producer_id, producer_epoch, .. }) => {
            BatchBuilder::new().transactional(true).producer(producer_id, producer_epoch, NO_SEQUENCE)
        }
        None => BatchBuilder::new(),
    };
    for record in records {
        builder.append(now_ms, Some(&record.key), record.value.as_deref(), &[]).ok()?;
    }
    Batch::parse(builder.build().ok()?).ok()
}
