//! One share partition at its leader: its records in flight, and what of them is being kept by the share coordinator.
//!
//! A task reads the state when the first fetch comes. What members say is gathered while a write is under way and kept with the next one:
//! one write at a time, so a later one never overtakes. Nobody is answered before that.

use std::sync::Arc;
use std::time::Duration;

use commitlog::Partition;
use parking_lot::Mutex;
use protocol::ErrorCode;
use tokio::sync::oneshot;
use world::clock::SharedClock;
use world::{task, watch};

use super::archiving::Archiving;
use super::dead_letters::DeadLetters;
use super::in_flight::{Acknowledgement, Acquired, InFlight, Refused, Rules, Wanted};
use super::reset::{self, Reset};
use crate::coordinators::{StateMemory, Weight};
use crate::share_coordinator::{
    Asked, NO_START_OFFSET, ReadState, Refusal, ShareCoordinator, ShareKey, StateBatch, Told, WriteState,
};

/// What a share partition needs of its broker.
pub struct Surroundings {
    pub clock: SharedClock,
    pub coordinator: Arc<ShareCoordinator>,
    pub log: Arc<commitlog::CommitLog>,
    /// How long something may take to be kept.
    pub keep_max: Duration,
    pub memory: Arc<StateMemory>,
    pub dead_letters: Arc<DeadLetters>,
}

pub struct SharePartition {
    pub key: ShareKey,
    pub partition: Arc<Partition>,
    pub leader_epoch: i32,
    pub(super) around: Arc<Surroundings>,
    pub(super) inner: Mutex<Inner>,
    /// Goes up when records may be given out that could not before.
    changed: watch::Sender<u64>,
}

pub(super) struct Inner {
    pub phase: Phase,
    pub in_flight: InFlight,
    state_epoch: i32,
    next_token: u64,
    /// Waits for the write under way.
    queue: Vec<Queued>,
    pub is_writing: bool,
    pub archiving: Archiving,
    /// `share.delivery.count.limit` as it was when somebody asked last.
    pub deliveries_max: i16,
    weight: Weight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Loading,
    Ready,
    /// Nobody of its group is left, and something is still being kept, or put into the dead letter queue. Then it is over, and read again by whoever comes.
    Retiring,
    /// Whoever needs it makes a new one.
    Over(ErrorCode),
}

pub(super) struct Queued {
    /// None: nothing depends on it.
    pub token: Option<(u64, Rules)>,
    pub batches: Vec<StateBatch>,
    pub reply: Option<oneshot::Sender<Result<(), ErrorCode>>>,
}

/// Why a share partition is over that nobody needed any more. Members hear nothing of it: they come again, and it is read.
pub(super) const READ_AGAIN: ErrorCode = ErrorCode::CoordinatorNotAvailable;
/// What a share partition weighs, and each of its runs (`coordinators/memory.rs`).
pub const SHARE_PARTITION_BYTES: usize = 1 << 10;
const RUN_BYTES: usize = 128;

/// The outcome of what a member has said; None when there was nothing to keep.
pub type Kept = Option<oneshot::Receiver<Result<(), ErrorCode>>>;

impl SharePartition {
    /// Begins to read its state. `reset` says where a group begins that has none.
    pub fn load(
        key: ShareKey,
        partition: Arc<Partition>,
        leader_epoch: i32,
        around: Arc<Surroundings>,
        reset: Reset,
        rules: &Rules,
    ) -> Arc<SharePartition> {
        let inner = Inner {
            phase: Phase::Loading,
            in_flight: InFlight::default(),
            state_epoch: 0,
            next_token: 0,
            queue: Vec::new(),
            is_writing: false,
            archiving: Archiving::Nothing,
            deliveries_max: rules.deliveries_max,
            weight: Weight::default(),
        };
        let loading = Arc::new(SharePartition {
            key,
            partition,
            leader_epoch,
            around,
            inner: Mutex::new(inner),
            changed: watch::channel(0).0,
        });
        let share = loading.clone();
        drop(task::spawn(async move {
            let loaded = share.read_state(reset).await;
            let mut inner = share.inner.lock();
            if inner.phase != Phase::Loading {
                return;
            }
            match loaded {
                Ok((state_epoch, in_flight)) => {
                    inner.state_epoch = state_epoch;
                    inner.in_flight = in_flight;
                    inner.phase = Phase::Ready;
                    inner.weigh(&share.around.memory);
                    share.archive_soon(&mut inner);
                }
                Err(error) => {
                    tracing::debug!(key = ?share.key, ?error, "the state of a share partition cannot be read");
                    inner.phase = Phase::Over(error);
                }
            }
            drop(inner);
            share.wake();
        }));
        loading
    }

    async fn read_state(&self, reset: Reset) -> Result<(i32, InFlight), ErrorCode> {
        let read =
            self.ask(Asked::Read { leader_epoch: self.leader_epoch }).await.map_err(persister_error)?;
        let Told::State(ReadState { state_epoch, start_offset, batches }) = read else {
            return Err(ErrorCode::UnknownServerError);
        };
        if start_offset != NO_START_OFFSET {
            return Ok((state_epoch, InFlight::loaded(start_offset, &batches)));
        }
        let start_offset = reset::start_offset(&self.partition, &self.around.log, reset).await?;
        // Kept at once: the next leader must not begin at what is the newest then.
        let write = WriteState {
            state_epoch,
            leader_epoch: self.leader_epoch,
            start_offset,
            delivery_complete_count: 0,
            batches: Vec::new(),
        };
        self.ask(Asked::Write(write)).await.map_err(persister_error)?;
        Ok((state_epoch, InFlight::loaded(start_offset, &[])))
    }

    async fn ask(&self, asked: Asked) -> Result<Told, Refusal> {
        let question = (self.key.topic, self.key.partition, asked);
        self.around.coordinator.keep(&self.key.group, question, self.around.keep_max).await
    }

    /// Whether it is of this leadership, on this opening of the partition, and can be used.
    pub fn is_of(&self, partition: &Arc<Partition>, leader_epoch: i32) -> bool {
        let is_over = matches!(self.inner.lock().phase, Phase::Over(_));
        !is_over && self.leader_epoch == leader_epoch && Arc::ptr_eq(&self.partition, partition)
    }

    /// Where to read, and whether that is something that was given back. `Ok(None)`: nothing may be given out now.
    pub fn next_offset(self: &Arc<Self>, rules: &Rules) -> Result<Option<(i64, bool)>, ErrorCode> {
        let mut inner = self.inner.lock();
        if let Some(error) = self.resume_retired(&mut inner) {
            drop(inner);
            self.wake();
            return Err(error);
        }
        match inner.phase {
            Phase::Loading | Phase::Retiring => return Ok(None),
            Phase::Over(error) => return Err(error),
            Phase::Ready => {}
        }
        self.look_at_locks(&mut inner, rules);
        let next = inner.in_flight.next_offset(rules);
        Ok(next.map(|offset| (offset, offset < inner.in_flight.end())))
    }

    /// When to look again, monotonic ms, if nothing happens until then.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.inner.lock().in_flight.next_expiry_ms()
    }

    /// True: something has changed, also when nothing could be given.
    pub fn acquire(self: &Arc<Self>, wanted: &Wanted<'_>, rules: &Rules) -> (Vec<Acquired>, bool) {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Ready {
            return (Vec::new(), false);
        }
        let now_ms = self.now_ms();
        let acquired = inner.in_flight.acquire(wanted, rules, now_ms);
        inner.weigh(&self.around.memory);
        self.archive_soon(&mut inner);
        acquired
    }

    /// The log begins here now.
    pub fn move_start(self: &Arc<Self>, log_start: i64) {
        let mut inner = self.inner.lock();
        if inner.phase == Phase::Ready && inner.in_flight.start() < log_start {
            inner.in_flight.move_start(log_start);
            drop(inner);
            self.wake();
        }
    }

    /// What a member says of records that it has.
    pub fn acknowledge(
        self: &Arc<Self>,
        member: &str,
        acknowledgements: &[Acknowledgement],
        rules: &Rules,
    ) -> Result<Kept, (ErrorCode, Option<&'static str>)> {
        let mut inner = self.inner.lock();
        match inner.phase {
            // Its records were given out by a leader before this one, or were given back.
            Phase::Loading | Phase::Retiring => return Err((ErrorCode::InvalidRecordState, None)),
            Phase::Over(error) => return Err((error, None)),
            Phase::Ready => {}
        }
        self.look_at_locks(&mut inner, rules);
        let token = inner.next_token;
        let taken = inner.in_flight.acknowledge(member, acknowledgements, token, rules, self.now_ms());
        inner.weigh(&self.around.memory);
        let batches = taken.map_err(|Refused { error, message }| (error, Some(message)))?;
        if batches.is_empty() {
            return Ok(None);
        }
        inner.next_token += 1;
        let (reply, kept) = oneshot::channel();
        self.keep(&mut inner, Queued { token: Some((token, *rules)), batches, reply: Some(reply) });
        Ok(Some(kept))
    }

    /// The member is gone: what it has comes again.
    pub fn release(self: &Arc<Self>, member: &str, rules: &Rules) {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Ready {
            return;
        }
        let batches = inner.in_flight.release(member, rules);
        self.archive_soon(&mut inner);
        if !batches.is_empty() {
            self.keep(&mut inner, Queued { token: None, batches, reply: None });
            drop(inner);
            self.wake();
        }
    }

    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Nobody of its group is left: its state need not stay in memory, where tools cannot change it. True: it is over already.
    pub fn retire(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.phase = match inner.phase {
            Phase::Ready | Phase::Retiring if inner.is_busy() => Phase::Retiring,
            Phase::Over(error) => Phase::Over(error),
            Phase::Loading | Phase::Ready | Phase::Retiring => Phase::Over(READ_AGAIN),
        };
        inner.phase != Phase::Retiring
    }

    /// Another broker leads it, or it is gone.
    pub fn end(&self, error: ErrorCode) {
        self.inner.lock().phase = Phase::Over(error);
        self.wake();
    }

    pub fn run_count(&self) -> usize {
        self.inner.lock().in_flight.run_count()
    }

    /// Records that wait for their dead letters.
    pub fn dead_count(&self) -> u64 {
        self.inner.lock().in_flight.dead_count()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.around.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn wake(&self) {
        self.changed.send_if_modified(|count| {
            *count += 1;
            true
        });
    }

    /// Locks that are over by now. Nobody waits for that to be kept: should it get lost, a delivery is not counted.
    fn look_at_locks(self: &Arc<Self>, inner: &mut Inner, rules: &Rules) {
        inner.deliveries_max = rules.deliveries_max;
        let batches = inner.in_flight.expire(rules, self.now_ms());
        self.archive_soon(inner);
        if !batches.is_empty() {
            self.keep(inner, Queued { token: None, batches, reply: None });
        }
    }

    pub(super) fn keep(self: &Arc<Self>, inner: &mut Inner, queued: Queued) {
        inner.queue.push(queued);
        if !std::mem::replace(&mut inner.is_writing, true) {
            drop(task::spawn(self.clone().write_all()));
        }
    }

    async fn write_all(self: Arc<Self>) {
        while let Some((write, queued)) = self.next_write() {
            let outcome = self.ask(Asked::Write(write)).await.map(drop).map_err(persister_error);
            let now_ms = self.now_ms();
            let mut replies = Vec::new();
            {
                let mut inner = self.inner.lock();
                for queued in queued {
                    if let Some((token, rules)) = queued.token {
                        inner.in_flight.settle(token, outcome.is_ok(), &rules, now_ms);
                    }
                    replies.extend(queued.reply);
                }
                inner.weigh(&self.around.memory);
                self.archive_soon(&mut inner);
                if let Err(error) = outcome
                    && ends_it(error)
                    && matches!(inner.phase, Phase::Ready | Phase::Retiring)
                {
                    tracing::debug!(key = ?self.key, ?error, "a share partition is fenced");
                    inner.phase = Phase::Over(error);
                }
            }
            for reply in replies {
                // A member that is gone needs no answer.
                let _ = reply.send(outcome);
            }
            self.wake();
        }
    }

    /// Everything that waits, as one write. None: nothing does.
    fn next_write(&self) -> Option<(WriteState, Vec<Queued>)> {
        let mut inner = self.inner.lock();
        let queued = std::mem::take(&mut inner.queue);
        if let Phase::Over(error) = inner.phase {
            // Somebody else may have read the state by now: nothing of ours may come behind that.
            let replies = queued.into_iter().filter_map(|queued| queued.reply);
            replies.for_each(|reply| _ = reply.send(Err(error)));
            inner.is_writing = false;
            return None;
        }
        if queued.is_empty() {
            inner.is_writing = false;
            if inner.phase == Phase::Retiring && !inner.is_busy() {
                inner.phase = Phase::Over(READ_AGAIN);
            }
            return None;
        }
        let write = WriteState {
            state_epoch: inner.state_epoch,
            leader_epoch: self.leader_epoch,
            start_offset: inner.in_flight.start(),
            delivery_complete_count: inner.in_flight.complete_count(),
            batches: queued.iter().flat_map(|queued| queued.batches.iter().copied()).collect(),
        };
        Some((write, queued))
    }
}

impl Inner {
    fn is_busy(&self) -> bool {
        self.is_writing || self.archiving != Archiving::Nothing
    }

    /// After runs were made or joined.
    pub fn weigh(&mut self, memory: &Arc<StateMemory>) {
        let bytes = SHARE_PARTITION_BYTES + self.in_flight.run_count() * RUN_BYTES;
        self.weight.put(memory, bytes as u64);
    }
}

/// Somebody else has it now, or nobody.
fn ends_it(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::GroupIdNotFound
            | ErrorCode::UnknownServerError
    )
}

/// What members are told when something could not be kept. Kafka's `SharePartition.fetchPersisterError`.
fn persister_error(refusal: Refusal) -> ErrorCode {
    match refusal.error {
        ErrorCode::NotCoordinator
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::CoordinatorLoadInProgress => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::GroupIdNotFound => ErrorCode::GroupIdNotFound,
        ErrorCode::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
        ErrorCode::FencedLeaderEpoch | ErrorCode::FencedStateEpoch => ErrorCode::NotLeaderOrFollower,
        _ => ErrorCode::UnknownServerError,
    }
}
