//! Transactions over all partitions of a topic and an offset of a group, by clients that speak to the coordinators as Kafka's do, old ones
//! and new ones (P4, P6).
//!
//! ```text
//!   writer ── AddPartitionsToTxn · Produce · TxnOffsetCommit · EndTxn ──▶ whoever takes himself for a coordinator, or the leader
//!          ── the same again, by a new connection ──▶       … while the first one arrives up to twenty seconds later
//! ```
//! Readers are those of the [`ledger`](crate::ledger). In the end each transaction is there as a whole or not at all. The offset is the
//! transaction's number: what the group has is that of the last one that was committed, at any time (T7).

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use client::{Channel, Transport};
use protocol::batch::BatchBuilder;
use protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, EndTxnRequest,
    FindCoordinatorRequest, InitProducerIdRequest, OffsetFetchRequest, OffsetFetchResponse, ProduceRequest,
    ProduceResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use protocol::wire::Reader;
use protocol::{ErrorCode, Message, Records, Request, Str, frame};
use world::clock::SharedClock;
use world::rng::SharedRng;
use world::task;

use crate::ledger::Shared;
use crate::wire::Wire;

pub const TOPIC: &str = "transfers";
pub const WRITERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(8);
const LATE_MS_MAX: u64 = 20_000;
const TIMEOUT_MS: i32 = 20_000;
/// Requests in vain after which something is wrong.
const TRIES_MAX: u32 = 3_000;

/// The producer cannot go on: another one has its id, or its time was over.
struct Lost;

/// Who is asked, as FindCoordinator calls them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Coordinator {
    Group = 0,
    Transaction = 1,
}
use Coordinator::{Group, Transaction};

/// The group's offset as its only writer knows it.
struct Offset {
    /// −1: none.
    committed: i64,
    /// Of transactions of which nobody knows.
    perhaps: BTreeSet<i64>,
}

pub struct Writer {
    pub wire: Wire,
    pub addresses: Vec<String>,
    pub rng: SharedRng,
    pub clock: SharedClock,
    pub ledger: Shared,
    pub number: usize,
    pub partitions: i32,
}

struct Producer {
    writer: Writer,
    channels: BTreeMap<String, Channel>,
    correlation_id: i32,
    coordinators: BTreeMap<Coordinator, String>,
    leaders: BTreeMap<i32, String>,
    id: i64,
    epoch: i16,
    sequences: BTreeMap<i32, i32>,
}

impl Writer {
    /// Until it is told to stop, and never in the middle of a transaction.
    pub async fn write(self, stop: Rc<Cell<bool>>) {
        let mut producer = Producer {
            writer: self,
            channels: BTreeMap::new(),
            correlation_id: 0,
            coordinators: BTreeMap::new(),
            leaders: BTreeMap::new(),
            id: -1,
            epoch: -1,
            sequences: BTreeMap::new(),
        };
        let mut transaction = 0;
        let mut offset = Offset { committed: -1, perhaps: BTreeSet::new() };
        while !stop.get() {
            task::sleep(Duration::from_millis(producer.below(2_000))).await;
            if producer.id < 0 && producer.init().await.is_err() {
                return;
            }
            transaction += 1;
            let (mut values, mut asked) = (Vec::new(), None);
            let has_offset = producer.below(2) == 0;
            let told = producer.transaction(transaction, has_offset, &mut values, &mut asked).await;
            if has_offset && asked == Some(true) {
                match told {
                    Ok(()) => offset.committed = transaction.into(),
                    Err(Lost) => drop(offset.perhaps.insert(transaction.into())),
                }
            }
            let name = producer.name();
            {
                let mut ledger = producer.writer.ledger.borrow_mut();
                ledger.decided(values, asked, told.is_ok());
                ledger.line(format_args!("{name} {transaction}: commit {asked:?}, told {}", told.is_ok()));
            }
            if told.is_err() {
                producer.id = -1;
            }
            // Whoever has given up a transaction asks when the next one has begun, and nobody can be deciding it any more.
            if told.is_ok() && producer.below(3) == 0 {
                producer.check_offset(&mut offset).await;
            }
        }
        // What the last one has left open would hold up readers until its time is over.
        let _ = producer.init().await;
    }
}

impl Producer {
    fn below(&self, bound: u64) -> u64 {
        self.writer.rng.below(bound)
    }

    fn name(&self) -> String {
        format!("{TOPIC}-writer-{}", self.writer.number)
    }

    /// As clients of KIP-890.
    fn has_epochs(&self) -> bool {
        self.writer.number % 3 == 2
    }

    async fn transaction(
        &mut self,
        number: u32,
        has_offset: bool,
        values: &mut Vec<(i32, String)>,
        asked: &mut Option<bool>,
    ) -> Result<(), Lost> {
        let partitions = self.writer.partitions;
        let (first, count) = (self.below(partitions as u64) as i32, 1 + self.below(partitions as u64) as i32);
        let chosen: Vec<i32> = (0..count).map(|step| (first + step) % partitions).collect();
        if !self.has_epochs() {
            self.add(&chosen).await?;
        }
        for partition in chosen {
            let value = format!("{} {number} {partition}", self.name());
            self.produce(partition, &value).await?;
            values.push((partition, value));
        }
        if has_offset {
            self.commit_offset(number).await?;
        }
        match self.below(24) {
            0 => return Err(Lost),
            1 => task::sleep(Duration::from_millis(TIMEOUT_MS as u64 + self.below(2_000))).await,
            _ => task::sleep(Duration::from_millis(self.below(600))).await,
        }
        let commit = self.below(3) > 0;
        *asked = Some(commit);
        self.end(commit).await
    }

    async fn init(&mut self) -> Result<(), Lost> {
        let request = InitProducerIdRequest {
            transactional_id: Some(Str::from(self.name())),
            transaction_timeout_ms: TIMEOUT_MS,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let answer = self.coordinate(Transaction, 4, &request, |answer| answer.error_code, false).await?;
        (self.id, self.epoch) = (answer.producer_id, answer.producer_epoch);
        self.sequences.clear();
        Ok(())
    }

    async fn add(&mut self, partitions: &[i32]) -> Result<(), Lost> {
        let topic = AddPartitionsToTxnTopic {
            name: TOPIC.into(),
            partitions: partitions.to_vec(),
            ..AddPartitionsToTxnTopic::default()
        };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: Str::from(self.name()),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![topic],
            ..AddPartitionsToTxnRequest::default()
        };
        let code = |answer: &AddPartitionsToTxnResponse| {
            answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        };
        self.coordinate(Transaction, 3, &request, code, true).await.map(drop)
    }

    async fn commit_offset(&mut self, number: u32) -> Result<(), Lost> {
        let name = Str::from(self.name());
        if !self.has_epochs() {
            let request = AddOffsetsToTxnRequest {
                transactional_id: name.clone(),
                producer_id: self.id,
                producer_epoch: self.epoch,
                group_id: name.clone(),
                ..AddOffsetsToTxnRequest::default()
            };
            self.coordinate(Transaction, 3, &request, |answer| answer.error_code, true).await?;
        }
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: number.into(),
            committed_leader_epoch: -1,
            ..TxnOffsetCommitRequestPartition::default()
        };
        let topic = TxnOffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: vec![partition],
            ..TxnOffsetCommitRequestTopic::default()
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: name.clone(),
            group_id: name,
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![topic],
            ..TxnOffsetCommitRequest::default()
        };
        let version = if self.has_epochs() { 5 } else { 3 };
        let code = |answer: &TxnOffsetCommitResponse| answer.topics[0].partitions[0].error_code;
        self.coordinate(Group, version, &request, code, true).await.map(drop)
    }

    /// Once nothing of the offset is inside a transaction any more.
    async fn check_offset(&mut self, known: &mut Offset) {
        let topic = OffsetFetchRequestTopics {
            name: TOPIC.into(),
            partition_indexes: vec![0],
            ..OffsetFetchRequestTopics::default()
        };
        let group = OffsetFetchRequestGroup {
            group_id: Str::from(self.name()),
            topics: Some(vec![topic]),
            ..OffsetFetchRequestGroup::default()
        };
        let request =
            OffsetFetchRequest { groups: vec![group], require_stable: true, ..OffsetFetchRequest::default() };
        let code = |answer: &OffsetFetchResponse| match answer.groups[0].error_code {
            0 => answer.groups[0].topics[0].partitions[0].error_code,
            code => code,
        };
        let Ok(answer) = self.coordinate(Group, 8, &request, code, false).await else {
            let finding = format!("{}: the group's offset cannot be fetched", self.name());
            return self.writer.ledger.borrow_mut().findings.push(finding);
        };
        let found = answer.groups[0].topics[0].partitions[0].committed_offset;
        let name = self.name();
        let Offset { committed, perhaps } = known;
        let mut ledger = self.writer.ledger.borrow_mut();
        ledger.line(format_args!("{name}: offset {found}"));
        let is_possible = found == *committed || found > *committed && perhaps.contains(&found);
        if !is_possible {
            ledger
                .findings
                .push(format!("{name}: offset {found}, and {committed} or {perhaps:?} was committed"));
        }
        *committed = found;
        perhaps.retain(|number| *number > found);
    }

    async fn end(&mut self, commit: bool) -> Result<(), Lost> {
        let request = EndTxnRequest {
            transactional_id: Str::from(self.name()),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed: commit,
            ..EndTxnRequest::default()
        };
        let version = if self.has_epochs() { 5 } else { 3 };
        // Now and then it dies before it hears the answer, and its successor cannot wait.
        if self.below(8) == 0
            && let Some(address) = self.find(Transaction).await
        {
            self.send_later(&address, version, &request, Duration::ZERO).await;
            task::sleep(Duration::from_millis(self.below(300))).await;
            return Err(Lost);
        }
        let answer =
            self.coordinate(Transaction, version, &request, |answer| answer.error_code, true).await?;
        if self.has_epochs() {
            (self.id, self.epoch) = (answer.producer_id, answer.producer_epoch);
            self.sequences.clear();
        }
        Ok(())
    }

    async fn produce(&mut self, partition: i32, value: &str) -> Result<(), Lost> {
        let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
        let mut batch = BatchBuilder::new().transactional(true).producer(self.id, self.epoch, sequence);
        batch.append(self.writer.clock.now_ms(), None, Some(value.as_bytes()), &[]).expect("a small record");
        let records = Records::from(batch.build().expect("a small batch"));
        let data = PartitionProduceData { index: partition, records: Some(records) };
        let topic = TopicProduceData {
            name: TOPIC.into(),
            partition_data: vec![data],
            ..TopicProduceData::default()
        };
        let request = ProduceRequest {
            transactional_id: Some(Str::from(self.name())),
            acks: -1,
            timeout_ms: 5_000,
            topic_data: vec![topic],
        };
        let version = if self.has_epochs() { 12 } else { 9 };
        let code = |answer: &ProduceResponse| answer.responses[0].partition_responses[0].error_code;
        for _ in 0..TRIES_MAX {
            let address = self.leaders.get(&partition).cloned().unwrap_or_else(|| self.anybody());
            match self.ask(&address, version, &request).await.map(|answer| (code(&answer), answer)) {
                Ok((0, answer)) => {
                    self.leaders.insert(partition, address);
                    self.sequences.insert(partition, sequence + 1);
                    let offset = answer.responses[0].partition_responses[0].base_offset;
                    self.writer.ledger.borrow_mut().acknowledged(partition, offset);
                    return Ok(());
                }
                Ok((code, _)) if !comes_again(code) => return Err(Lost),
                Ok(_) | Err(_) => drop(self.leaders.remove(&partition)),
            }
            self.pause().await;
        }
        self.in_vain("Produce")
    }

    /// Asks a coordinator until it has an answer. Now and then the request is held up, and arrives when it has been sent again.
    async fn coordinate<R: Request>(
        &mut self,
        who: Coordinator,
        version: i16,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
        may_be_late: bool,
    ) -> Result<R::Response, Lost> {
        for _ in 0..TRIES_MAX {
            let Some(address) = self.find(who).await else {
                self.pause().await;
                continue;
            };
            if may_be_late && self.below(8) == 0 {
                let late = Duration::from_millis(self.below(LATE_MS_MAX));
                self.send_later(&address, version, request, late).await;
            }
            match self.ask(&address, version, request).await.map(|answer| (code(&answer), answer)) {
                Ok((0, answer)) => return Ok(answer),
                Ok((code, _)) if !comes_again(code) => return Err(Lost),
                Ok((code, _)) if is_same_coordinator(code) => {}
                Ok(_) | Err(_) => drop(self.coordinators.remove(&who)),
            }
            self.pause().await;
        }
        self.in_vain(R::KEY.name())
    }

    async fn find(&mut self, who: Coordinator) -> Option<String> {
        if !self.coordinators.contains_key(&who) {
            let request = FindCoordinatorRequest {
                key_type: who as i8,
                coordinator_keys: vec![Str::from(self.name())],
                ..FindCoordinatorRequest::default()
            };
            let address = self.anybody();
            let found = self.ask(&address, 4, &request).await.ok()?.coordinators.pop()?;
            if found.error_code == 0 {
                self.coordinators.insert(who, format!("{}:{}", found.host, found.port));
            }
        }
        self.coordinators.get(&who).cloned()
    }

    fn anybody(&self) -> String {
        self.writer.addresses[self.below(self.writer.addresses.len() as u64) as usize].clone()
    }

    async fn pause(&self) {
        task::sleep(Duration::from_millis(50 + self.below(300))).await;
    }

    fn in_vain<T>(&self, what: &str) -> Result<T, Lost> {
        let finding = format!("{}: {what} in vain for ever", self.name());
        self.writer.ledger.borrow_mut().findings.push(finding);
        Err(Lost)
    }

    /// The connection that there is gets the request later; whoever waits for an answer takes another one.
    async fn send_later<R: Request>(&mut self, address: &str, version: i16, request: &R, late: Duration) {
        if self.channel(address).await.is_err() {
            return;
        }
        let Some(Channel { mut sender, mut receiver }) = self.channels.remove(address) else { return };
        self.correlation_id += 1;
        let frame =
            frame::encode_request(self.correlation_id, None, request, version).expect("a good request");
        drop(task::spawn_outside(async move {
            task::sleep(late).await;
            if sender.send(frame).await.is_ok() {
                let _ = task::timeout(PATIENCE, receiver.receive()).await;
            }
        }));
    }

    async fn channel(&mut self, address: &str) -> anyhow::Result<&mut Channel> {
        if !self.channels.contains_key(address) {
            let channel = task::timeout(PATIENCE, self.writer.wire.connect(address)).await??;
            self.channels.insert(address.to_owned(), channel);
        }
        Ok(self.channels.get_mut(address).expect("it was just put in"))
    }

    async fn ask<R: Request>(
        &mut self,
        address: &str,
        version: i16,
        request: &R,
    ) -> anyhow::Result<R::Response> {
        let asked = task::timeout(PATIENCE, self.try_ask(address, version, request)).await;
        let asked = asked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer")));
        if asked.is_err() {
            self.channels.remove(address);
        }
        asked
    }

    async fn try_ask<R: Request>(
        &mut self,
        address: &str,
        version: i16,
        request: &R,
    ) -> anyhow::Result<R::Response> {
        self.correlation_id += 1;
        let id = self.correlation_id;
        let channel = self.channel(address).await?;
        channel.sender.send(frame::encode_request(id, None, request, version)?).await?;
        let bytes = channel.receiver.receive().await?.ok_or_else(|| anyhow::anyhow!("it was closed"))?;
        let mut reader = Reader::new(bytes);
        let answered = frame::decode_response_header(&mut reader, R::KEY, version)?;
        anyhow::ensure!(answered == id, "an answer to something else");
        Ok(R::Response::decode(&mut reader, version)?)
    }
}

/// To be asked again where it was asked.
fn is_same_coordinator(code: i16) -> bool {
    matches!(
        ErrorCode::try_from(code),
        Ok(ErrorCode::ConcurrentTransactions | ErrorCode::UnstableOffsetCommit)
    )
}

/// What clients of Kafka try again.
fn comes_again(code: i16) -> bool {
    matches!(
        ErrorCode::try_from(code),
        Ok(ErrorCode::ConcurrentTransactions
            | ErrorCode::UnstableOffsetCommit
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::KafkaStorageError
            | ErrorCode::RequestTimedOut)
    )
}
