//! What tools ask for: DescribeTransactions, ListTransactions.

use protocol::{ErrorCode, Str};

use super::event::{Answer, Described, Effects, Listed, ReplyId};
use super::shard::TransactionShard;
use super::transaction::{State, Transaction};

impl TransactionShard {
    pub fn describe(&mut self, id: &Str, reply: ReplyId, effects: &mut Effects) {
        let found = self.transactions.get(id).map(|transaction| {
            Box::new(Described {
                producer_id: transaction.producer_id,
                epoch: transaction.epoch,
                state: transaction.state,
                timeout_ms: transaction.timeout_ms,
                started_ms: started_ms(transaction),
                partitions: transaction.partitions.iter().cloned().collect(),
            })
        });
        let answer = Answer::Described(found.ok_or(ErrorCode::TransactionalIdNotFound));
        self.answer_behind_writes(reply, answer, effects);
    }

    pub fn list(&mut self, reply: ReplyId, effects: &mut Effects) {
        let listed = self.transactions.values().map(|transaction| Listed {
            transactional_id: transaction.id.clone(),
            producer_id: transaction.producer_id,
            state: transaction.state,
            started_ms: started_ms(transaction),
        });
        let answer = Answer::Listed(Ok(listed.collect()));
        self.answer_behind_writes(reply, answer, effects);
    }
}

/// The stamp is kept when there is no transaction; tools know that as −1.
fn started_ms(transaction: &Transaction) -> i64 {
    match transaction.state {
        State::Empty => -1,
        _ => transaction.started_ms,
    }
}
