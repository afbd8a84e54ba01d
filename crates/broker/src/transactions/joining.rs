//! A transaction begins in a partition when its coordinator has said that the partition belongs to it (T3). Clients before KIP-890 have
//! told the coordinator themselves; for the others the leader adds the partition.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use commitlog::{Partition, Verification};
use protocol::{ErrorCode, Str};
use world::task;

use super::Transactions;
use super::event::{AddRequest, Answer, Comes, Producer, Refusal, Verified};
use super::messages::{
    END_TRANSACTIONS, EndTransactions, JOIN_TRANSACTION, JoinTransaction, decode_joined, encode_codes,
    encode_joined,
};
use super::transaction::TopicPartition;
use crate::coordinators::coordinator_of;
use crate::peers::Others;

/// For a commit and a barrier at the coordinator, which in a bucket take as long as the store does.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Of the partitions' names in one call. The frame between brokers is larger, and so is that of an answer that names them again.
const NAMED_BYTES_PER_CALL_MAX: usize = 1 << 20;

/// Before it is asked again: on a directory the markers are there by then, and `add.partitions.to.txn.retry.backoff.ms` would be most of what
/// a transaction takes. Each pause is twice the one before, up to that.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// What a leader asks.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub producer: Producer,
    pub partitions: BTreeSet<TopicPartition>,
    /// They shall belong to it from now on (KIP-890); else they have to already.
    pub adds: bool,
}

/// A question under way about a partition; a request that is given up leaves none behind.
pub(crate) struct Asking {
    pub partition: Arc<Partition>,
    producer_id: i64,
    epoch: i16,
    pub verification: Verification,
}

impl Asking {
    /// Before the coordinator is asked.
    pub fn begin(partition: Arc<Partition>, producer_id: i64, epoch: i16) -> Asking {
        let verification = partition.verification(producer_id, epoch);
        Asking { partition, producer_id, epoch, verification }
    }

    /// Before it is asked once more: the marker of the transaction before may have come meanwhile, and what was asked before a marker
    /// counts for nothing (T4).
    pub fn begin_again(&mut self) {
        self.partition.forget_verification(self.producer_id, self.verification);
        self.verification = self.partition.verification(self.producer_id, self.epoch);
    }

    /// The transaction is open in the partition: nobody has to be asked.
    pub fn has_begun(&self) -> bool {
        self.verification == Verification::Begun
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.partition.forget_verification(self.producer_id, self.verification);
    }
}

/// What the leader is told: the transaction's stamp, and partitions that do not belong to it.
type Told = Result<Verified, ErrorCode>;

impl Transactions {
    /// Asks the coordinator, wherever it is. `asks_again` is called before each time but the first one.
    pub async fn join(&self, join: Join, mut asks_again: impl FnMut() + Send) -> Told {
        let config = self.config();
        let ms = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let pause_max = ms(config.add_partitions_to_txn_retry_backoff_ms());
        let mut pause = PAUSE_MIN.min(pause_max);
        let until = task::now() + ms(config.add_partitions_to_txn_retry_backoff_max_ms());
        loop {
            let joined = self.join_once(&join).await;
            // The transaction before this one has decided, and not every partition knows: a moment later they do.
            let is_early = joined == Err(ErrorCode::ConcurrentTransactions) && join.adds;
            if !is_early || task::now() + pause > until {
                return joined;
            }
            task::sleep(pause).await;
            pause = (pause * 2).min(pause_max);
            asks_again();
        }
    }

    async fn join_once(&self, join: &Join) -> Told {
        let leader = self.coordinator(&join.producer.transactional_id);
        match leader {
            Some(leader) if leader == self.options.node_id => self.join_here(join.clone()).await,
            Some(leader) => self.join_there(leader, join).await,
            None => {
                self.options.freshness.catch_up_soon();
                Err(ErrorCode::CoordinatorNotAvailable)
            }
        }
    }

    fn coordinator(&self, transactional_id: &Str) -> Option<i32> {
        self.topic().and_then(|topic| coordinator_of(&topic, transactional_id))
    }

    async fn join_there(&self, leader: i32, join: &Join) -> Told {
        let unreachable = ErrorCode::CoordinatorNotAvailable;
        let others = self.options.others.as_ref().ok_or(unreachable)?;
        let peer = Others::of(&self.options.catalog.read(), leader).ok_or(unreachable)?;
        let mut told: Option<Verified> = None;
        for partitions in calls(&join.partitions) {
            let (producer, adds) = (join.producer.clone(), join.adds);
            let body = JoinTransaction { producer, partitions, adds }.encode();
            let body = body.map_err(|_| ErrorCode::InvalidRequest)?;
            let peers = others.peers.clone();
            let answer = peers.transactions(peer.clone(), JOIN_TRANSACTION, body, ANSWER_MAX).await;
            let verified = decode_joined(answer.ok_or(unreachable)?).unwrap_or(Err(unreachable))?;
            match &mut told {
                None => told = Some(verified),
                Some(told) if told.stamp == verified.stamp => told.missing.extend(verified.missing),
                // Between two calls it has ended, and the next one has begun.
                Some(_) => return Err(unreachable),
            }
        }
        Ok(told.expect("there is a call"))
    }

    /// What another broker asks. None: it cannot be understood.
    pub async fn answer(&self, api_key: i16, body: Bytes) -> Option<Bytes> {
        match api_key {
            END_TRANSACTIONS => {
                let EndTransactions(markers) = EndTransactions::decode(body).ok()?;
                encode_codes(&self.markers.write(markers).await).ok()
            }
            JOIN_TRANSACTION => {
                let JoinTransaction { producer, partitions, adds } = JoinTransaction::decode(body).ok()?;
                encode_joined(&self.join_here(Join { producer, partitions, adds }).await).ok()
            }
            _ => None,
        }
    }

    /// As the coordinator.
    pub async fn join_here(&self, join: Join) -> Told {
        let Join { producer, partitions, adds } = join;
        if producer.transactional_id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let id = producer.transactional_id.clone();
        if adds {
            let request = AddRequest { producer, partitions, comes: Comes::WithItsEpoch };
            let asked = self.ask(&id, |shard, reply, now, effects| shard.add(request, reply, now, effects));
            return match asked.await? {
                Answer::Added(Ok(stamp)) => Ok(Verified { stamp, missing: BTreeSet::new() }),
                Answer::Added(Err(Refusal::Code(code))) => Err(code),
                other => unreachable!("an epoch is answered by a stamp, not {other:?}"),
            };
        }
        let runtime = self.runtime_of(&id)?;
        let settings = self.settings();
        let asked = runtime.ask(&settings, |shard, reply, _, effects| {
            shard.verify(&producer, &partitions, reply, effects);
        });
        let Answer::Verified(verified) = asked.await? else { unreachable!("a question has its answer") };
        // A coordinator that was taken over from would say yes to what has ended since (T3, R20).
        match self.still_knows(&id, &runtime).await {
            true => verified,
            false => Err(ErrorCode::NotCoordinator),
        }
    }
}

/// Partitions by call: one at least, also for none.
fn calls(partitions: &BTreeSet<TopicPartition>) -> Vec<BTreeSet<TopicPartition>> {
    const BESIDE_NAME_BYTES: usize = 6;
    let (mut calls, mut bytes) = (vec![BTreeSet::new()], 0);
    for partition in partitions {
        let size = partition.topic.len() + BESIDE_NAME_BYTES;
        if bytes > 0 && bytes + size > NAMED_BYTES_PER_CALL_MAX {
            calls.push(BTreeSet::new());
            bytes = 0;
        }
        bytes += size;
        calls.last_mut().expect("there is one").insert(partition.clone());
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_partitions_as_a_request_may_name_fit_into_calls() {
        let topic = Str::from("t".repeat(249));
        let partition = |partition| TopicPartition { topic: topic.clone(), partition };
        let all: BTreeSet<TopicPartition> = (0..10_000).map(partition).collect();
        let calls = calls(&all);
        assert_eq!(calls.iter().flatten().cloned().collect::<BTreeSet<_>>(), all);
        for partitions in calls {
            let producer = Producer { transactional_id: Str::from("i".repeat(32_767)), id: 1, epoch: 0 };
            let missing = partitions.clone();
            let join = JoinTransaction { producer, partitions, adds: false }.encode().unwrap();
            let answer = encode_joined(&Ok(Verified { stamp: 1, missing })).unwrap();
            // Of the frames between brokers, 2 MiB.
            assert!(join.len().max(answer.len()) < 3 << 19, "{} {}", join.len(), answer.len());
        }
        assert_eq!(
            super::calls(&BTreeSet::new()),
            [BTreeSet::new()],
            "the producer is asked about all the same"
        );
    }
}
