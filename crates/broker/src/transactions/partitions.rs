//! Which partitions belong to a transaction: AddPartitionsToTxn, AddOffsetsToTxn, and what leaders ask (T3).

use std::collections::BTreeSet;

use protocol::ErrorCode;

use super::event::{AddRequest, Answer, Comes, Effects, Now, Producer, Refusal, ReplyId, Verified};
use super::shard::TransactionShard;
use super::transaction::{State, TopicPartition};

impl TransactionShard {
    /// Answered when the partitions stand in the log: a batch in a partition that nobody knows of would have no marker.
    pub fn add(&mut self, request: AddRequest, reply: ReplyId, now: Now, effects: &mut Effects) {
        let stamp = match self.may_add(&request) {
            Ok(stamp) => stamp,
            Err(refusal) => return effects.answer(reply, Answer::Added(Err(refusal))),
        };
        if let Some(stamp) = stamp {
            return self.answer_behind_writes(reply, Answer::Added(Ok(stamp)), effects);
        }
        let id = self.transactions[&request.producer.transactional_id].id.clone();
        if !self.has_room_for(0, request.partitions.len(), now) {
            return effects.answer(reply, Answer::Added(Err(ErrorCode::PolicyViolation.into())));
        }
        let transaction = self.transactions.get_mut(&id).expect("it was looked up");
        let begins = transaction.state != State::Ongoing;
        match begins {
            true => transaction.begin(now.wall_ms),
            false => transaction.updated_ms = now.wall_ms,
        }
        transaction.version = request.comes.version();
        transaction.partitions.extend(request.partitions.into_iter().map(TopicPartition::detached));
        let stamp = transaction.started_ms;
        if begins {
            self.set_deadline(&id, now);
        }
        self.write(&id, Some((reply, Answer::Added(Ok(stamp)))), effects);
    }

    /// The stamp, if all of them are in it already.
    fn may_add(&mut self, request: &AddRequest) -> Result<Option<i64>, Refusal> {
        self.of(&request.producer)?;
        if let Comes::By(connection) = request.comes {
            self.check_connection(&request.producer.transactional_id, connection)?;
        }
        let transaction = self.of(&request.producer)?;
        if transaction.state.is_prepared() {
            return Err(ErrorCode::ConcurrentTransactions.into());
        }
        let is_ongoing = transaction.state == State::Ongoing;
        // Nothing is left in one that has ended.
        let new_count = request.partitions.difference(&transaction.partitions).count();
        if new_count > 0 && transaction.partitions.len() + new_count > self.settings.partitions_max {
            return Err(ErrorCode::PolicyViolation.into());
        }
        Ok((is_ongoing && new_count == 0).then_some(transaction.started_ms))
    }

    /// A leader, or a group's coordinator, asks before a transaction begins there. The caller passes the barrier before he believes it.
    pub fn verify(
        &mut self,
        producer: &Producer,
        partitions: &BTreeSet<TopicPartition>,
        reply: ReplyId,
        effects: &mut Effects,
    ) {
        let verified = match self.of(producer) {
            Err(code) => Err(code),
            Ok(transaction) if transaction.state.is_prepared() => Err(ErrorCode::ConcurrentTransactions),
            Ok(transaction) => {
                let is_ongoing = transaction.state == State::Ongoing;
                let is_missing =
                    |partition: &&TopicPartition| !is_ongoing || !transaction.partitions.contains(*partition);
                let missing = partitions.iter().filter(is_missing).cloned().collect();
                Ok(Verified { stamp: transaction.started_ms, missing })
            }
        };
        self.answer_behind_writes(reply, Answer::Verified(verified), effects);
    }
}

impl TopicPartition {
    /// Memory of its own: a name from a request is a slice of its frame.
    fn detached(self) -> TopicPartition {
        TopicPartition { topic: self.topic.detached(), partition: self.partition }
    }
}
