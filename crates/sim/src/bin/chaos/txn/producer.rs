//! A transactional producer of a few transactions that never gives up: it writes numbers, commits or aborts, and remembers what it was told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use protocol::batch::BatchBuilder;
use protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use protocol::messages::*;
use protocol::{ErrorCode, Records, Request, Str};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use super::TOPIC;
use super::check::{Fate, History};
use super::wire::Wire;

const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(30);
/// A producer that is stuck for so long has found something.
const STUCK_AFTER: Duration = Duration::from_secs(180);

#[derive(Clone, Debug)]
pub struct Terms {
    pub name: String,
    pub address: SocketAddr,
    pub partitions: i32,
    /// As clients of KIP-890 do it.
    pub has_epochs: bool,
    pub timeout_ms: i32,
    /// How many it has.
    pub transactions: u32,
}

/// What is left of a transaction whose producer cannot go on.
enum Lost {
    /// Another epoch, a new producer.
    Producer(ErrorCode),
    Broken(anyhow::Error),
}

struct Producer {
    terms: Terms,
    wire: Wire,
    random: StdRng,
    id: i64,
    epoch: i16,
    sequences: BTreeMap<i32, i32>,
    number: u32,
}

pub async fn run(terms: Terms, seed: u64, is_over: Arc<AtomicBool>) -> anyhow::Result<History> {
    let wire = Wire::new(terms.address, PATIENCE);
    let random = StdRng::seed_from_u64(seed);
    let mut producer =
        Producer { terms, wire, random, id: -1, epoch: -1, sequences: BTreeMap::new(), number: 0 };
    let mut history = History::new();
    while producer.number < producer.terms.transactions && !is_over.load(Ordering::Relaxed) {
        if producer.id < 0 || producer.random.random_ratio(1, 40) {
            // Also in the middle of something, as a process that was started anew does.
            if producer.random.random_ratio(1, 2) {
                producer.wire.hang_up();
            }
            producer.init().await?;
        }
        producer.number += 1;
        let number = producer.number;
        history.insert(number, Fate::default());
        match producer.transaction(history.get_mut(&number).expect("was put there")).await {
            Ok(()) => {}
            Err(Lost::Producer(code)) => {
                history.get_mut(&number).expect("was put there").why = Some(format!("{code:?}"));
                producer.id = -1;
            }
            Err(Lost::Broken(error)) => return Err(error),
        }
    }
    Ok(history)
}

impl Producer {
    fn transactional_id(&self) -> Str {
        Str::from(self.terms.name.as_str())
    }

    async fn transaction(&mut self, fate: &mut Fate) -> Result<(), Lost> {
        let count = self.random.random_range(1..=3usize.min(self.terms.partitions as usize));
        let first = self.random.random_range(0..self.terms.partitions);
        let partitions: Vec<i32> =
            (0..count as i32).map(|step| (first + step) % self.terms.partitions).collect();
        if !self.terms.has_epochs {
            self.add(&partitions).await?;
        }
        for partition in &partitions {
            self.write(*partition).await?;
            fate.written.push(*partition);
        }
        if self.random.random_ratio(1, 3) {
            self.commit_offset().await?;
            fate.offset = true;
        }
        match self.random.random_range(0..60) {
            // Nobody hears of it any more: its successor aborts it.
            0 => return Err(Lost::Producer(ErrorCode::None)),
            // Or its time-out does.
            1 => sleep(Duration::from_millis(self.terms.timeout_ms as u64 + 500)).await,
            2..=20 => sleep(Duration::from_millis(self.random.random_range(0..100))).await,
            _ => {}
        }
        let commit = self.random.random_ratio(3, 4);
        fate.asked = Some(commit);
        self.end(commit).await?;
        fate.told = Some(commit);
        Ok(())
    }

    /// The same request until it has an answer that is one.
    async fn insist<R: Request + Clone>(
        &mut self,
        version: i16,
        request: R,
        code_of: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, Lost> {
        let since = tokio::time::Instant::now();
        loop {
            let code = match self.wire.ask(version, &request).await {
                Ok(response) => match ErrorCode::try_from(code_of(&response)) {
                    Ok(ErrorCode::None) => return Ok(response),
                    Ok(code) => Some(code),
                    Err(error) => return Err(Lost::Broken(anyhow::anyhow!("{error:?}"))),
                },
                Err(_) => None,
            };
            match code {
                None
                | Some(
                    ErrorCode::ConcurrentTransactions
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::NotCoordinator
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::NotEnoughReplicas
                    | ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::RequestTimedOut,
                ) => {}
                Some(code) => return Err(Lost::Producer(code)),
            }
            if since.elapsed() > STUCK_AFTER {
                let name = &self.terms.name;
                return Err(Lost::Broken(anyhow::anyhow!(
                    "{name} is stuck at number {} with {} v{version}: {code:?}",
                    self.number,
                    R::KEY.name()
                )));
            }
            sleep(PAUSE).await;
        }
    }

    async fn find(&mut self, key_type: i8, key: Str) -> Result<(), Lost> {
        let request = FindCoordinatorRequest {
            key_type,
            coordinator_keys: vec![key],
            ..FindCoordinatorRequest::default()
        };
        self.insist(4, request, |response| response.coordinators[0].error_code).await.map(drop)
    }

    async fn init(&mut self) -> anyhow::Result<()> {
        let request = InitProducerIdRequest {
            transactional_id: Some(self.transactional_id()),
            transaction_timeout_ms: self.terms.timeout_ms,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let id = self.transactional_id();
        let found = match self.find(1, id.clone()).await {
            Ok(()) => self.find(0, id).await,
            lost => lost,
        };
        let asked = match found {
            Ok(()) => self.insist(5, request, |response| response.error_code).await,
            Err(lost) => Err(lost),
        };
        match asked {
            Ok(response) => {
                (self.id, self.epoch) = (response.producer_id, response.producer_epoch);
                self.sequences.clear();
                Ok(())
            }
            Err(Lost::Producer(code)) => bail!("{} gets no producer id: {code:?}", self.terms.name),
            Err(Lost::Broken(error)) => Err(error),
        }
    }

    async fn add(&mut self, partitions: &[i32]) -> Result<(), Lost> {
        let topic = AddPartitionsToTxnTopic {
            name: TOPIC.into(),
            partitions: partitions.to_vec(),
            ..AddPartitionsToTxnTopic::default()
        };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.transactional_id(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![topic],
            ..AddPartitionsToTxnRequest::default()
        };
        let code_of = |response: &AddPartitionsToTxnResponse| {
            response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        };
        self.insist(3, request, code_of).await.map(drop)
    }

    async fn write(&mut self, partition: i32) -> Result<(), Lost> {
        let sequence = *self.sequences.entry(partition).or_default();
        let value = format!("{}:{}", self.terms.name, self.number);
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_millis() as i64);
        let mut batch = BatchBuilder::new().transactional(true).producer(self.id, self.epoch, sequence);
        let built = batch.append(now_ms, None, Some(value.as_bytes()), &[]).and_then(|_| batch.build());
        let records = built.map_err(|error| Lost::Broken(error.into()))?;
        let data = PartitionProduceData { index: partition, records: Some(Records::from(records)) };
        let topic = TopicProduceData {
            name: TOPIC.into(),
            partition_data: vec![data],
            ..TopicProduceData::default()
        };
        let request = ProduceRequest {
            transactional_id: Some(self.transactional_id()),
            acks: -1,
            timeout_ms: 5_000,
            topic_data: vec![topic],
        };
        let version = if self.terms.has_epochs { 12 } else { 9 };
        let code_of = |response: &ProduceResponse| response.responses[0].partition_responses[0].error_code;
        self.insist(version, request, code_of).await?;
        self.sequences.insert(partition, sequence + 1);
        Ok(())
    }

    /// The number of the transaction, as the offset of a group of its own.
    async fn commit_offset(&mut self) -> Result<(), Lost> {
        if !self.terms.has_epochs {
            let request = AddOffsetsToTxnRequest {
                transactional_id: self.transactional_id(),
                producer_id: self.id,
                producer_epoch: self.epoch,
                group_id: self.transactional_id(),
                ..AddOffsetsToTxnRequest::default()
            };
            self.insist(3, request, |response| response.error_code).await?;
        }
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: self.number.into(),
            committed_leader_epoch: -1,
            committed_metadata: Some(Str::default()),
            ..TxnOffsetCommitRequestPartition::default()
        };
        let topic = TxnOffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: vec![partition],
            ..TxnOffsetCommitRequestTopic::default()
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: self.transactional_id(),
            group_id: self.transactional_id(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![topic],
            ..TxnOffsetCommitRequest::default()
        };
        let version = if self.terms.has_epochs { 5 } else { 3 };
        let code_of = |response: &TxnOffsetCommitResponse| response.topics[0].partitions[0].error_code;
        self.insist(version, request, code_of).await.map(drop)
    }

    async fn end(&mut self, commit: bool) -> Result<(), Lost> {
        let request = EndTxnRequest {
            transactional_id: self.transactional_id(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed: commit,
            ..EndTxnRequest::default()
        };
        let version = if self.terms.has_epochs { 5 } else { 3 };
        let response = self.insist(version, request, |response| response.error_code).await?;
        if self.terms.has_epochs {
            (self.id, self.epoch) = (response.producer_id, response.producer_epoch);
            self.sequences.clear();
        }
        Ok(())
    }
}
