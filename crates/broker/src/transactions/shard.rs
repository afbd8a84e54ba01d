//! The state of one partition of `__transaction_state`: its transactional ids and their transactions. Pure: an event and the time go
//! in, records to write, answers and decisions come out. It never waits and knows no log, no clock.
//!
//! What is decided holds for the next event at once, and is told to nobody before its record is durable: answers wait in `pending`
//! under the write's token, and so do answers about what was written before them. The log takes writes in order. When one has failed
//! nothing is believed any more that was said behind it, and this state is read anew, here or by whoever leads the partition next.
//!
//! `init_producer.rs` has InitProducerId, `partitions.rs` AddPartitionsToTxn and its verification, `end.rs` EndTxn, markers and
//! time-outs, `admin.rs` what tools ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use protocol::wire::DecodeError;
use protocol::{ErrorCode, Str, Uuid};
use world::broken;

use super::event::{Answer, Effects, Now, Producer, Record, Refusal, ReplyId, Token};
use super::records::{self, ReadRecord};
use super::settings::TransactionSettings;
use super::transaction::{State, Transaction};
use crate::coordinators::{Marked, StateMachine, Weight, Write};

/// What a transaction weighs beside its name and its partitions, and each of these (`coordinators/memory.rs`).
const TRANSACTION_BYTES: usize = 512;
const PARTITION_BYTES: usize = 96;

/// A write under way, and what follows.
#[derive(Debug, Default)]
struct Pending {
    /// The decision of this transaction is durable with it.
    decides: Option<Str>,
    waiting: Vec<(ReplyId, Answer)>,
}

pub struct TransactionShard {
    pub(super) settings: Arc<TransactionSettings>,
    pub(super) transactions: BTreeMap<Str, Transaction>,
    /// When transactions under way are over: monotonic ms, and the transactional id.
    pub(super) deadlines: BTreeSet<(u64, Str)>,
    /// Ids with a decision, durable or not, that not all their partitions know.
    pub(super) prepared: BTreeSet<Str>,
    /// Connections up to this number are older than this coordinator.
    connections_before: u64,
    next_expiration_ms: Option<u64>,
    pending: BTreeMap<Token, Pending>,
    next_token: u64,
    /// The log has refused a write: what is here may not be so.
    is_broken: bool,
    weight: Weight,
}

impl TransactionShard {
    pub fn transaction_count(&self) -> usize {
        self.transactions.len()
    }

    /// May so much text and so many partitions be added?
    pub(super) fn has_room_for(&mut self, text_bytes: usize, partitions: usize, now: Now) -> bool {
        // The name stands in several sets.
        let bytes = TRANSACTION_BYTES + 2 * text_bytes + partitions * PARTITION_BYTES;
        let mut weight = std::mem::take(&mut self.weight);
        let has_room = weight.admits(&self.settings.memory, bytes as u64, now, || self.weigh());
        self.weight = weight;
        has_room
    }

    fn weigh(&self) -> u64 {
        let of = |transaction: &Transaction| {
            TRANSACTION_BYTES + 2 * transaction.id.len() + transaction.partitions.len() * PARTITION_BYTES
        };
        self.transactions.values().map(of).sum::<usize>() as u64
    }

    pub fn ongoing_count(&self) -> usize {
        self.deadlines.len()
    }

    /// The transaction of a producer, if the request comes from the producer of this id and not from an earlier one.
    pub(super) fn of(&self, producer: &Producer) -> Result<&Transaction, ErrorCode> {
        let transaction = self.transactions.get(&producer.transactional_id);
        let transaction = transaction.ok_or(ErrorCode::InvalidProducerIdMapping)?;
        match () {
            () if transaction.will_be(producer.id) => Err(ErrorCode::ConcurrentTransactions),
            () if transaction.producer_id != producer.id => Err(ErrorCode::InvalidProducerIdMapping),
            () if transaction.epoch != producer.epoch || producer.is_of_nobody() => {
                Err(ErrorCode::ProducerFenced)
            }
            () => Ok(transaction),
        }
    }

    /// For clients that give all their transactions one epoch: nothing that comes by an older connection than the newest one may
    /// have an effect any more (P6). The producer would have come by the newer one.
    pub(super) fn check_connection(&mut self, id: &Str, connection: u64) -> Result<(), Refusal> {
        let floor = self.connections_before + 1;
        let transaction = self.transactions.get_mut(id).expect("it was looked up");
        let newest = match transaction.connection {
            0 => floor,
            newest => newest,
        };
        if connection < newest && !broken::rule("late-end-txn") {
            return Err(Refusal::Overtaken);
        }
        transaction.connection = connection;
        Ok(())
    }

    /// Writes a transaction as it is now; the answer goes when the record is durable.
    pub(super) fn write(&mut self, id: &Str, answer: Option<(ReplyId, Answer)>, effects: &mut Effects) {
        let transaction = &self.transactions[id];
        let decides = transaction.state.is_prepared().then(|| transaction.id.clone());
        let record = records::record(transaction);
        if decides.is_some() && broken::rule("marker-before-decision") {
            self.transactions.get_mut(id).expect("it was looked up").is_decided = true;
        }
        self.watch(id);
        self.write_records(vec![record], decides, answer, effects);
    }

    pub(super) fn write_records(
        &mut self,
        records: Vec<Record>,
        decides: Option<Str>,
        answer: Option<(ReplyId, Answer)>,
        effects: &mut Effects,
    ) {
        let token = Token(self.next_token);
        self.next_token += 1;
        let waiting = answer.into_iter().collect();
        self.pending.insert(token, Pending { decides, waiting });
        effects.writes.push(Write { token, records, transaction: None });
    }

    /// Answers when everything that was written so far is durable: what it says may stand there.
    pub(super) fn answer_behind_writes(&mut self, reply: ReplyId, answer: Answer, effects: &mut Effects) {
        match self.pending.last_entry() {
            Some(mut newest) => newest.get_mut().waiting.push((reply, answer)),
            None if self.is_broken => effects.answer(reply, refused(answer, ErrorCode::NotCoordinator)),
            None => effects.answer(reply, answer),
        }
    }

    /// Keeps the sets by which transactions are found in step with their state.
    fn watch(&mut self, id: &Str) {
        match self.transactions.get(id).map(|transaction| transaction.state.is_prepared()) {
            Some(true) => self.prepared.insert(id.clone()),
            _ => self.prepared.remove(id),
        };
    }

    pub(super) fn set_deadline(&mut self, id: &Str, now: Now) {
        let transaction = &self.transactions[id];
        let over_ms = transaction.started_ms.saturating_add(transaction.timeout_ms.into());
        let left_ms = over_ms.saturating_sub(now.wall_ms).clamp(0, i64::from(transaction.timeout_ms).max(0));
        let at_ms = now.monotonic_ms + left_ms as u64;
        self.transactions.get_mut(id).expect("it is under way").deadline_ms = at_ms;
        self.deadlines.insert((at_ms, id.clone()));
    }

    pub(super) fn cancel_deadline(&mut self, id: &Str) {
        self.deadlines.remove(&(self.transactions[id].deadline_ms, id.clone()));
    }

    /// Transactional ids that nobody has used for `transactional.id.expiration.ms`.
    fn expire(&mut self, now: Now, effects: &mut Effects) {
        let is_old = |transaction: &&Transaction| {
            let is_idle =
                matches!(transaction.state, State::Empty | State::CompleteCommit | State::CompleteAbort);
            is_idle && transaction.updated_ms.saturating_add(self.settings.id_expiration_ms) <= now.wall_ms
        };
        let old: Vec<Str> =
            self.transactions.values().filter(is_old).map(|transaction| transaction.id.clone()).collect();
        if old.is_empty() {
            return;
        }
        let tombstones = old.iter().map(records::tombstone).collect();
        for id in &old {
            self.transactions.remove(id);
        }
        self.write_records(tombstones, None, None, effects);
    }

    #[cfg(test)]
    pub fn check_invariants(&self) {
        for transaction in self.transactions.values() {
            let has_deadline = self.deadlines.iter().any(|(_, id)| *id == transaction.id);
            assert_eq!(has_deadline, transaction.state == State::Ongoing, "{transaction:?}");
            assert_eq!(self.prepared.contains(&transaction.id), transaction.state.is_prepared());
            assert!(transaction.marked.is_subset(&transaction.partitions), "{transaction:?}");
            assert!(!transaction.is_decided || transaction.state.is_prepared(), "{transaction:?}");
        }
        assert!(self.deadlines.iter().all(|(_, id)| self.transactions.contains_key(id)));
    }
}

impl StateMachine for TransactionShard {
    type Settings = TransactionSettings;
    type Answer = Answer;
    /// Behind this transactional id.
    type SnapshotPlace = Str;
    const WHAT: &'static str = "transactions";
    const IS_URGENT: bool = true;

    fn new(settings: Arc<TransactionSettings>) -> TransactionShard {
        let connections_before = settings.newest_connection.load(std::sync::atomic::Ordering::Relaxed);
        TransactionShard {
            settings,
            transactions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            prepared: BTreeSet::new(),
            connections_before,
            next_expiration_ms: None,
            pending: BTreeMap::new(),
            next_token: 0,
            is_broken: false,
            weight: Weight::default(),
        }
    }

    fn set_settings(&mut self, settings: Arc<TransactionSettings>) {
        self.settings = settings;
    }

    fn replay(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        _: Option<i64>,
        _: Now,
    ) -> Result<(), DecodeError> {
        match records::read(key, value)? {
            ReadRecord::Transaction(transaction) => {
                self.transactions.insert(transaction.id.clone(), *transaction);
            }
            ReadRecord::Gone(id) => {
                self.transactions.remove(&id);
            }
            ReadRecord::Other(record_type) => {
                tracing::debug!(record_type, "a record of another kind in __transaction_state");
            }
        }
        Ok(())
    }

    fn replay_marker(&mut self, _: i64, _: bool, _: Now) {
        // Nobody writes into this topic inside a transaction.
    }

    /// Decisions without their end are told again (T6), and what is under way has its time.
    fn loaded(&mut self, _: &dyn Fn(&Str) -> Option<Uuid>, now: Now, _: &mut Effects) {
        let ids: Vec<Str> = self.transactions.keys().cloned().collect();
        for id in ids {
            self.watch(&id);
            let transaction = self.transactions.get_mut(&id).expect("it is one of them");
            transaction.is_decided = transaction.state.is_prepared();
            if transaction.state == State::Ongoing {
                self.set_deadline(&id, now);
            }
        }
        self.next_expiration_ms = Some(now.monotonic_ms + self.settings.expiration_interval_ms);
        let bytes = self.weigh();
        self.weight.set(&self.settings.memory, bytes, now);
    }

    fn tick(&mut self, now: Now, effects: &mut Effects) {
        while let Some((at_ms, id)) = self.deadlines.first().cloned() {
            if at_ms > now.monotonic_ms {
                break;
            }
            self.fence(&id, now, None, effects);
        }
        if self.next_expiration_ms.is_some_and(|at_ms| at_ms <= now.monotonic_ms) {
            self.expire(now, effects);
            self.next_expiration_ms = Some(now.monotonic_ms + self.settings.expiration_interval_ms);
        }
    }

    fn next_alarm_at_ms(&self) -> Option<u64> {
        let deadline = self.deadlines.first().map(|(at_ms, _)| *at_ms);
        deadline.into_iter().chain(self.next_expiration_ms).min()
    }

    fn written(&mut self, token: Token, outcome: Result<(), ErrorCode>, _: Now, effects: &mut Effects) {
        let pending = self.pending.remove(&token).expect("a write that was under way has ended");
        self.is_broken |= outcome.is_err();
        // One behind it may have landed all the same, if it was the log's room that was missing for a moment. What waits for that one was
        // said by a state that nobody will find.
        let outcome = outcome.and(if self.is_broken { Err(ErrorCode::NotCoordinator) } else { Ok(()) });
        if let (Some(id), Ok(())) = (&pending.decides, outcome)
            && let Some(transaction) = self.transactions.get_mut(id)
        {
            transaction.is_decided = transaction.state.is_prepared();
        }
        for (reply, answer) in pending.waiting {
            effects.answer(reply, outcome.err().map_or(answer.clone(), |error| refused(answer, error)));
        }
    }

    fn marked(&mut self, _: Marked, _: ReplyId, _: Now, _: &mut Effects) {
        unreachable!("nobody writes into this topic inside a transaction");
    }

    fn snapshot_page(&self, place: Option<Str>, bytes_max: usize) -> (Vec<Record>, Option<Str>) {
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = place.map_or(Unbounded, Excluded);
        let (mut records, mut size_bytes) = (Vec::new(), 0);
        for (id, transaction) in self.transactions.range((behind, Unbounded)) {
            let record = records::record(transaction);
            size_bytes += record.size_bytes();
            records.push(record);
            if size_bytes >= bytes_max {
                return (records, Some(id.clone()));
            }
        }
        (records, None)
    }

    fn is_lost(&self) -> bool {
        self.is_broken
    }

    fn unload(&mut self, error: ErrorCode, effects: &mut Effects) {
        self.deadlines.clear();
        self.prepared.clear();
        self.transactions.clear();
        self.next_expiration_ms = None;
        self.is_broken = true;
        for pending in self.pending.values_mut() {
            for (reply, answer) in pending.waiting.drain(..) {
                effects.answer(reply, refused(answer, error));
            }
        }
    }
}

/// The same answer, if nothing of it can be relied on.
fn refused(answer: Answer, error: ErrorCode) -> Answer {
    match answer {
        Answer::Init(_) => Answer::Init(Err(error.into())),
        Answer::Added(_) => Answer::Added(Err(error.into())),
        Answer::Verified(_) => Answer::Verified(Err(error)),
        Answer::Ended(_) => Answer::Ended(Err(error.into())),
        Answer::Described(_) => Answer::Described(Err(error)),
        Answer::Listed(_) => Answer::Listed(Err(error)),
    }
}
