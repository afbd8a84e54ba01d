//! InitProducerId for a transactional id: an epoch that fences whoever had the id before. Kafka: `prepareInitProducerIdTransit`.

use protocol::ErrorCode;

use super::event::{Answer, Effects, InitRequest, Now, Refusal, ReplyId};
use super::shard::TransactionShard;
use super::transaction::{EPOCH_EXHAUSTED, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, State, Transaction};

/// What InitProducerId makes of an id.
enum Next {
    /// Who asks again after an answer that was lost gets it once more.
    Same,
    Epoch {
        last_epoch: i16,
    },
    ProducerId {
        fresh: i64,
        previous: i64,
        last_epoch: i16,
    },
}

impl TransactionShard {
    pub fn init(&mut self, request: InitRequest, reply: ReplyId, now: Now, effects: &mut Effects) {
        let answer = |result, effects: &mut Effects| effects.answer(reply, Answer::Init(result));
        if request.timeout_ms <= 0 || request.timeout_ms > self.settings.timeout_ms_max {
            return answer(Err(ErrorCode::InvalidTransactionTimeout.into()), effects);
        }
        let Some(known) = self.transactions.get(&request.transactional_id) else {
            return self.init_new(request, reply, now, effects);
        };
        // First, as in Kafka: the producer id that is expected may be the one that comes next.
        if known.state.is_prepared() {
            return answer(Err(ErrorCode::ConcurrentTransactions.into()), effects);
        }
        if !request.expected.is_none_or(|expected| is_own(known, expected)) {
            return answer(Err(ErrorCode::ProducerFenced.into()), effects);
        }
        match known.state {
            State::Ongoing => {
                // Its transaction is aborted first. The epoch that does it is given to nobody: the client comes again.
                let id = known.id.clone();
                let concurrent = Answer::Init(Err(ErrorCode::ConcurrentTransactions.into()));
                return self.fence(&id, now, Some((reply, concurrent)), effects);
            }
            State::Empty | State::CompleteCommit | State::CompleteAbort => {}
            State::PrepareCommit | State::PrepareAbort => unreachable!("was answered"),
        }
        let next = match next_of(known, &request) {
            Ok(next) => next,
            Err(refusal) => return answer(Err(refusal), effects),
        };
        let id = known.id.clone();
        let transaction = self.transactions.get_mut(&id).expect("it was looked up");
        match next {
            Next::Same => {}
            Next::Epoch { last_epoch } => {
                transaction.epoch += 1;
                transaction.last_epoch = last_epoch;
                transaction.previous_producer_id = NO_PRODUCER_ID;
            }
            Next::ProducerId { fresh, previous, last_epoch } => {
                transaction.producer_id = fresh;
                transaction.previous_producer_id = previous;
                transaction.epoch = 0;
                transaction.last_epoch = last_epoch;
            }
        }
        transaction.become_state(State::Empty, now.wall_ms);
        transaction.timeout_ms = request.timeout_ms;
        transaction.connection = request.connection;
        let result = Ok((transaction.producer_id, transaction.epoch));
        self.write(&id, Some((reply, Answer::Init(result))), effects);
    }

    fn init_new(&mut self, request: InitRequest, reply: ReplyId, now: Now, effects: &mut Effects) {
        let Some(producer_id) = request.fresh_producer_id else {
            return effects.answer(reply, Answer::Init(Err(Refusal::NeedsProducerId)));
        };
        let is_full = self.transactions.len() >= self.settings.ids_per_partition_max;
        if is_full || !self.has_room_for(request.transactional_id.len(), 0, now) {
            return effects.answer(reply, Answer::Init(Err(ErrorCode::PolicyViolation.into())));
        }
        // In memory of its own: the name is a slice of its frame.
        let id = request.transactional_id.detached();
        let mut transaction = Transaction::new(id.clone(), producer_id, request.timeout_ms, now.wall_ms);
        transaction.epoch = 0;
        transaction.connection = request.connection;
        self.transactions.insert(id.clone(), transaction);
        self.write(&id, Some((reply, Answer::Init(Ok((producer_id, 0))))), effects);
    }
}

/// Whoever names another producer id has been fenced, unless his epochs were used up and he repeats the request that gave him a new one.
fn is_own(transaction: &Transaction, (producer_id, epoch): (i64, i16)) -> bool {
    transaction.epoch == NO_PRODUCER_EPOCH
        || transaction.producer_id == producer_id
        || transaction.previous_producer_id == producer_id && epoch >= EPOCH_EXHAUSTED
}

fn next_of(transaction: &Transaction, request: &InitRequest) -> Result<Next, Refusal> {
    let expected = request.expected.map(|(_, epoch)| epoch);
    let is_current = expected.is_none_or(|epoch| epoch == transaction.epoch);
    if transaction.is_exhausted() {
        if !is_current {
            return Err(ErrorCode::ProducerFenced.into());
        }
        let fresh = request.fresh_producer_id.ok_or(Refusal::NeedsProducerId)?;
        return Ok(match expected {
            Some(last_epoch) => Next::ProducerId { fresh, previous: transaction.producer_id, last_epoch },
            None => Next::ProducerId { fresh, previous: NO_PRODUCER_ID, last_epoch: NO_PRODUCER_EPOCH },
        });
    }
    match expected {
        None => Ok(Next::Epoch { last_epoch: NO_PRODUCER_EPOCH }),
        Some(epoch) if epoch == transaction.epoch => Ok(Next::Epoch { last_epoch: epoch }),
        // Nobody else can have asked in between: that would have made the last epoch unknown.
        Some(epoch) if epoch == transaction.last_epoch => Ok(Next::Same),
        Some(_) => Err(ErrorCode::ProducerFenced.into()),
    }
}
