//! How transactions end: EndTxn, time-outs, and the markers that tell partitions. Kafka: `endTransaction`.
//!
//! ```text
//!   EndTxn ─▶ Prepare… written ─▶ durable: answered, decided ─▶ markers durable in all partitions ─▶ Complete… written
//! ```

use std::collections::BTreeSet;

use protocol::{ErrorCode, Str};

use super::event::{Answer, Comes, Decision, Effects, EndRequest, Now, Refusal, ReplyId};
use super::shard::TransactionShard;
use super::transaction::{
    EPOCH_EXHAUSTED, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, State, TopicPartition, Transaction,
};

/// What EndTxn comes to.
enum End {
    /// It was done before: the answer was lost.
    Repeated,
    /// `fresh`: the producer id of the next transaction, when the epochs of this one are used up.
    Now { fresh: i64 },
}

impl TransactionShard {
    pub fn end(&mut self, request: EndRequest, reply: ReplyId, now: Now, effects: &mut Effects) {
        let end = match request.comes {
            Comes::By(connection) => self.may_end(&request, connection),
            Comes::WithItsEpoch => self.may_end_epoch(&request),
        };
        let fresh = match end {
            Ok(End::Now { fresh }) => fresh,
            Ok(End::Repeated) => {
                let told = self.transactions[&request.producer.transactional_id].after_end();
                return self.answer_behind_writes(reply, Answer::Ended(Ok(told)), effects);
            }
            Err(refusal) => return effects.answer(reply, Answer::Ended(Err(refusal))),
        };
        let id = self.transactions[&request.producer.transactional_id].id.clone();
        self.cancel_deadline(&id);
        let transaction = self.transactions.get_mut(&id).expect("it was looked up");
        if transaction.state != State::Ongoing {
            // A version-2 client aborts what it has written nothing in: a transaction of its own, so that its epoch ends.
            transaction.started_ms = now.wall_ms.max(transaction.started_ms + 1);
        }
        let state = if request.commit { State::PrepareCommit } else { State::PrepareAbort };
        transaction.become_state(state, now.wall_ms);
        transaction.version = request.comes.version();
        if request.comes == Comes::WithItsEpoch {
            transaction.last_epoch = transaction.epoch;
            transaction.epoch += 1;
            transaction.next_producer_id = fresh;
        }
        let told = transaction.after_end();
        self.write(&id, Some((reply, Answer::Ended(Ok(told)))), effects);
    }

    /// For clients without KIP-890.
    fn may_end(&mut self, request: &EndRequest, connection: u64) -> Result<End, Refusal> {
        self.of(&request.producer)?;
        self.check_connection(&request.producer.transactional_id, connection)?;
        let state = self.of(&request.producer)?.state;
        match (state, request.commit) {
            (State::Ongoing, _) => Ok(End::Now { fresh: NO_PRODUCER_ID }),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(End::Repeated),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => {
                Err(ErrorCode::ConcurrentTransactions.into())
            }
            _ => Err(ErrorCode::InvalidTxnState.into()),
        }
    }

    /// For clients with KIP-890: each transaction has an epoch, so a late request names one that is gone.
    fn may_end_epoch(&self, request: &EndRequest) -> Result<End, Refusal> {
        let producer = &request.producer;
        let transaction = self.transactions.get(&producer.transactional_id);
        let transaction = transaction.ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if transaction.will_be(producer.id) {
            return Err(ErrorCode::ConcurrentTransactions.into());
        }
        let is_same = transaction.producer_id == producer.id;
        let has_ended_its_epoch = is_same && i32::from(transaction.epoch) == i32::from(producer.epoch) + 1;
        let has_used_up = transaction.previous_producer_id == producer.id
            && producer.epoch == EPOCH_EXHAUSTED
            && transaction.epoch == 0;
        if !is_same && !has_used_up {
            return Err(ErrorCode::InvalidProducerIdMapping.into());
        }
        let is_current = is_same && transaction.epoch == producer.epoch;
        let is_repeated = match transaction.state {
            State::Empty | State::Ongoing => false,
            State::PrepareCommit | State::PrepareAbort => has_ended_its_epoch,
            State::CompleteCommit | State::CompleteAbort => has_ended_its_epoch || has_used_up,
        };
        if !is_repeated && (!is_current || transaction.state.is_prepared()) || producer.is_of_nobody() {
            return Err(ErrorCode::ProducerFenced.into());
        }
        // A time-out has taken the last epoch from it, and it cannot be told to go on with one that has none behind it.
        if is_repeated && transaction.epoch > EPOCH_EXHAUSTED && !transaction.state.is_prepared() {
            return Err(ErrorCode::ProducerFenced.into());
        }
        match (transaction.state, request.commit, is_repeated) {
            (State::Ongoing, _, _) => self.now(transaction, request),
            (State::CompleteCommit, true, true) | (State::CompleteAbort, false, true) => Ok(End::Repeated),
            (State::Empty | State::CompleteCommit | State::CompleteAbort, false, false) => {
                self.now(transaction, request)
            }
            (State::PrepareCommit, true, _) | (State::PrepareAbort, false, _) => {
                Err(ErrorCode::ConcurrentTransactions.into())
            }
            _ => Err(ErrorCode::InvalidTxnState.into()),
        }
    }

    fn now(&self, transaction: &Transaction, request: &EndRequest) -> Result<End, Refusal> {
        match (transaction.is_exhausted(), request.fresh_producer_id) {
            (false, _) => Ok(End::Now { fresh: NO_PRODUCER_ID }),
            (true, Some(fresh)) => Ok(End::Now { fresh }),
            (true, None) => Err(Refusal::NeedsProducerId),
        }
    }

    /// Aborts what is under way, and leaves its producer behind.
    pub(super) fn fence(
        &mut self,
        id: &Str,
        now: Now,
        answer: Option<(ReplyId, Answer)>,
        effects: &mut Effects,
    ) {
        self.cancel_deadline(id);
        let transaction = self.transactions.get_mut(id).expect("it is under way");
        // Clients never have the largest epoch, so there is room for this one.
        transaction.epoch = transaction.epoch.saturating_add(1);
        transaction.last_epoch = NO_PRODUCER_EPOCH;
        transaction.become_state(State::PrepareAbort, now.wall_ms);
        tracing::info!(transactional_id = %transaction.id, epoch = transaction.epoch, "a transaction is aborted, and its producer fenced");
        self.write(id, answer, effects);
    }

    /// Decisions that are durable and not known everywhere, but for those that `is_told` knows.
    pub fn decisions(&self, is_told: impl Fn(&str, i64) -> bool) -> Vec<Decision> {
        let open = self.prepared.iter().map(|id| &self.transactions[id]);
        let decided = open.filter(|transaction| {
            transaction.is_decided && !is_told(&transaction.id, transaction.started_ms)
        });
        decided.map(decision).collect()
    }

    /// The decision as it is now, if it is still that one.
    pub fn decision(&self, id: &str, stamp: i64) -> Option<Decision> {
        let transaction = self.transactions.get(id)?;
        let is_it = transaction.is_decided && transaction.started_ms == stamp;
        is_it.then(|| decision(transaction))
    }

    /// These partitions have the marker of that decision, or are gone for good (T5). True when it is complete.
    pub fn told(
        &mut self,
        id: &Str,
        stamp: i64,
        partitions: BTreeSet<TopicPartition>,
        now: Now,
        effects: &mut Effects,
    ) -> bool {
        let Some(transaction) = self.transactions.get_mut(id) else { return true };
        if !transaction.is_decided || transaction.started_ms != stamp {
            return true;
        }
        transaction.marked.extend(partitions.into_iter().filter(|it| transaction.partitions.contains(it)));
        if transaction.marked.len() < transaction.partitions.len() {
            return false;
        }
        transaction.complete(now.wall_ms);
        self.write(id, None, effects);
        true
    }
}

fn decision(transaction: &Transaction) -> Decision {
    Decision {
        transactional_id: transaction.id.clone(),
        producer_id: transaction.producer_id,
        epoch: transaction.epoch,
        commit: transaction.state == State::PrepareCommit,
        stamp: transaction.started_ms,
        partitions: transaction.partitions.difference(&transaction.marked).cloned().collect(),
    }
}
