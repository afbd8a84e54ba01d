//! Transactions in a topic of their own, written as a coordinator will write them, and readers of committed data who go from broker to
//! broker, whoever leads (P4).
//!
//! ```text
//!   writer  ── batches, retried until they are acknowledged ──▶ leader, or who takes itself for one
//!           ── commit or abort, repeated until somebody says it is done (T2)
//!   reader  ── Fetch, read_committed ──▶ any broker             sees what was committed, all of it, in order, and nothing else
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use client::{Channel, Transport};
use commitlog::{AppendOptions, EndTransaction};
use protocol::batch::{Batch, BatchBuilder, ControlRecord, split_batches};
use protocol::messages::FetchRequest;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::fetch_response::PartitionData;
use protocol::wire::Reader as FrameReader;
use protocol::{ErrorCode, Message, Request, frame};
use world::rng::SharedRng;
use world::task;

use crate::cluster::Cluster;
use crate::wire::Wire;

pub const TOPIC: &str = "ledger";
/// Two, so that the transactions of a partition are mixed.
pub const WRITERS: usize = 2;
/// Of a request to whom it may concern.
const PATIENCE: Duration = Duration::from_secs(8);
const FETCH_VERSION: i16 = 12;
const RECORD_BYTES_MAX: usize = 1 << 20;

/// What writers were told and readers were given, by partition.
#[derive(Default)]
pub struct Ledger {
    pub topic: &'static str,
    /// Values of transactions that were committed, and of those that were not.
    committed: BTreeMap<i32, BTreeSet<String>>,
    aborted: BTreeMap<i32, BTreeSet<String>>,
    /// Transactions that were to be committed, and of which nobody knows: there as a whole, or not at all.
    undecided: Vec<Vec<(i32, String)>>,
    /// Behind the last record or marker that was acknowledged.
    ends: BTreeMap<i32, i64>,
    /// What each reader was given, in order.
    read: BTreeMap<i32, Vec<(i64, String)>>,
    pub findings: Vec<String>,
    pub transcript: String,
    /// Fetches with records at brokers that do not lead.
    pub elsewhere: u64,
    pub transactions: u64,
}

pub type Shared = Rc<RefCell<Ledger>>;

impl Ledger {
    pub fn of(topic: &'static str) -> Ledger {
        Ledger { topic, ..Ledger::default() }
    }

    /// What became of a transaction, as far as its client knows.
    pub fn decided(&mut self, values: Vec<(i32, String)>, asked: Option<bool>, is_told: bool) {
        self.transactions += 1;
        let known = match asked {
            Some(true) if is_told => &mut self.committed,
            Some(true) => return self.undecided.push(values),
            Some(false) | None => &mut self.aborted,
        };
        for (partition, value) in values {
            known.entry(partition).or_default().insert(value);
        }
    }

    pub fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.transcript.write_fmt(line).expect("writing to a string does not fail");
        self.transcript.push('\n');
    }

    pub fn acknowledged(&mut self, partition: i32, offset: i64) {
        let end = self.ends.entry(partition).or_default();
        *end = (*end).max(offset + 1);
    }

    /// Every reader has come to the end: what they were given against what was decided.
    pub fn check(&mut self) {
        let topic = self.topic;
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let undecided: BTreeSet<String> =
            self.undecided.iter().flatten().map(|(_, value)| value.clone()).collect();
        for (partition, read) in std::mem::take(&mut self.read) {
            let expected = self.committed.get(&partition).cloned().unwrap_or_default();
            let aborted = self.aborted.get(&partition).cloned().unwrap_or_default();
            let given: BTreeSet<String> = read.iter().map(|(_, value)| value.clone()).collect();
            self.line(format_args!("{topic}-{partition}: {} records, {} not", given.len(), aborted.len()));
            let mut found = |what: &str, values: Vec<&String>| {
                if let Some(first) = values.first() {
                    let count = values.len();
                    self.findings.push(format!("{topic}-{partition}: {first} {what}, {count} in all"));
                }
            };
            found("was aborted and seen", given.intersection(&aborted).collect());
            found("was committed and not seen", expected.difference(&given).collect());
            found(
                "is nobody's",
                given
                    .difference(&expected)
                    .filter(|value| !aborted.contains(*value) && !undecided.contains(*value))
                    .collect(),
            );
            if given.len() != read.len() || read.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
                self.findings.push(format!("{topic}-{partition}: records came twice, or out of order"));
            }
            seen.extend(given);
        }
        for values in &self.undecided {
            let found = values.iter().filter(|(_, value)| seen.contains(value)).count();
            if found > 0 && found < values.len() {
                self.findings.push(format!("{topic}: {values:?} is torn, {found} of them are there"));
            }
        }
    }
}

/// One producer and the coordinator of its transactions, until `stop`; never in the middle of one.
pub async fn write(
    cluster: Rc<RefCell<Cluster>>,
    partition: i32,
    number: usize,
    rng: SharedRng,
    ledger: Shared,
    stop: Rc<Cell<bool>>,
) {
    let producer_id = 1_000 + i64::from(partition) * 10 + number as i64;
    let mut sequence = 0;
    let mut stamp = 0;
    while !stop.get() {
        task::sleep(Duration::from_millis(rng.below(3_000))).await;
        stamp += 1;
        let mut values = BTreeSet::new();
        for batch in 0..1 + rng.below(3) {
            let own: Vec<String> =
                (0..1 + rng.below(3)).map(|n| format!("{producer_id} {stamp} {batch} {n}")).collect();
            append(&cluster, partition, producer_id, sequence, stamp, &own, &rng, &ledger).await;
            sequence += own.len() as i32;
            values.extend(own);
            // A marker of the transaction before that was on its way for long ends nothing (T2).
            if rng.below(3) == 0 {
                let late = marker(producer_id, stamp - 1, rng.below(2) == 0);
                let leading = cluster.borrow().leading(TOPIC, partition);
                for (log, id, leader_epoch) in leading {
                    let _ = task::timeout(PATIENCE, log.end_transaction(&id, late, leader_epoch)).await;
                }
            }
            task::sleep(Duration::from_millis(rng.below(800))).await;
        }
        let commit = rng.below(3) > 0;
        {
            // From here on readers may be given it; before they must not.
            let mut ledger = ledger.borrow_mut();
            let decided = match commit {
                true => &mut ledger.committed,
                false => &mut ledger.aborted,
            };
            decided.entry(partition).or_default().extend(values);
        }
        end(&cluster, partition, producer_id, stamp, commit, &rng, &ledger).await;
        let mut ledger = ledger.borrow_mut();
        ledger.transactions += 1;
        ledger.line(format_args!("{TOPIC}-{partition} {producer_id} {stamp} commit {commit}"));
    }
}

#[allow(clippy::too_many_arguments, reason = "a batch and where it goes")]
async fn append(
    cluster: &Rc<RefCell<Cluster>>,
    partition: i32,
    producer_id: i64,
    sequence: i32,
    stamp: i64,
    values: &[String],
    rng: &SharedRng,
    ledger: &Shared,
) {
    let mut builder = BatchBuilder::new().transactional(true).producer(producer_id, 0, sequence);
    let now_ms = cluster.borrow().clock().now_ms();
    for value in values {
        builder.append(now_ms, None, Some(value.as_bytes()), &[]).expect("a small record");
    }
    let batch = Batch::parse(builder.build().expect("a small batch")).expect("our own");
    loop {
        let leading = cluster.borrow().leading(TOPIC, partition);
        if !leading.is_empty() {
            let (log, id, leader_epoch) = &leading[rng.below(leading.len() as u64) as usize];
            let options = AppendOptions {
                leader_epoch: *leader_epoch,
                transaction_stamp: stamp,
                ..AppendOptions::default()
            };
            let appended = log.partition(id).map(|open| open.append(batch.clone(), options));
            if let Some(Ok(appended)) = appended {
                let last_offset = appended.last_offset;
                if matches!(task::timeout(PATIENCE, appended.committed()).await, Ok(Ok(()))) {
                    return ledger.borrow_mut().acknowledged(partition, last_offset);
                }
            }
        }
        task::sleep(Duration::from_millis(50 + rng.below(300))).await;
    }
}

fn marker(producer_id: i64, transaction_stamp: i64, commit: bool) -> EndTransaction {
    EndTransaction { producer_id, producer_epoch: 0, coordinator_epoch: 0, commit, transaction_stamp }
}

async fn end(
    cluster: &Rc<RefCell<Cluster>>,
    partition: i32,
    producer_id: i64,
    transaction_stamp: i64,
    commit: bool,
    rng: &SharedRng,
    ledger: &Shared,
) {
    let marker = marker(producer_id, transaction_stamp, commit);
    let mut is_done = false;
    loop {
        let leading = cluster.borrow().leading(TOPIC, partition);
        if !leading.is_empty() {
            let (log, id, leader_epoch) = &leading[rng.below(leading.len() as u64) as usize];
            let ended = task::timeout(PATIENCE, log.end_transaction(id, marker, *leader_epoch)).await;
            if let Ok(Ok(offset)) = ended {
                if let Some(offset) = offset {
                    ledger.borrow_mut().acknowledged(partition, offset);
                }
                // Now and then once more, as after an answer that was lost.
                if is_done || rng.below(3) > 0 {
                    return;
                }
                is_done = true;
            }
        }
        task::sleep(Duration::from_millis(50 + rng.below(300))).await;
    }
}

/// A connection to each broker, and how far the consumer is.
pub struct Reader {
    wire: Wire,
    addresses: Vec<String>,
    rng: SharedRng,
    ledger: Shared,
    partition: i32,
    position: i64,
    channels: BTreeMap<usize, Channel>,
    correlation_id: i32,
}

impl Reader {
    pub fn new(wire: Wire, addresses: Vec<String>, rng: SharedRng, ledger: Shared, partition: i32) -> Self {
        let (channels, correlation_id) = (BTreeMap::new(), 0);
        Self { wire, addresses, rng, ledger, partition, position: 0, channels, correlation_id }
    }

    /// Until it is told to stop, and then up to the end.
    pub async fn read(mut self, cluster: Rc<RefCell<Cluster>>, stop: Rc<Cell<bool>>) {
        self.ledger.borrow_mut().read.insert(self.partition, Vec::new());
        loop {
            let end = self.ledger.borrow().ends.get(&self.partition).copied().unwrap_or(0);
            if stop.get() && self.position >= end {
                return;
            }
            let number = self.rng.below(self.addresses.len() as u64) as usize;
            for _ in 0..1 + self.rng.below(4) {
                let fetched = task::timeout(PATIENCE, self.fetch(number)).await;
                let Ok(Ok(data)) = fetched else {
                    self.channels.remove(&number);
                    break;
                };
                let leads = cluster.borrow().is_leading(number, self.ledger.borrow().topic, self.partition);
                if !self.take(data, number, leads) {
                    break;
                }
            }
            task::sleep(Duration::from_millis(self.rng.below(400))).await;
        }
    }

    async fn fetch(&mut self, number: usize) -> anyhow::Result<PartitionData> {
        let topic = self.ledger.borrow().topic;
        let partition = FetchPartition {
            partition: self.partition,
            fetch_offset: self.position,
            partition_max_bytes: 200 + self.rng.below(2_000) as i32,
            ..FetchPartition::default()
        };
        // Sometimes of another rack than the broker's.
        let rack = Cluster::rack(self.rng.below(self.addresses.len() as u64) as usize);
        let request = FetchRequest {
            max_wait_ms: self.rng.below(500) as i32,
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation_level: 1,
            session_epoch: -1,
            rack_id: rack.into(),
            topics: vec![FetchTopic {
                topic: topic.into(),
                partitions: vec![partition],
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        if !self.channels.contains_key(&number) {
            let channel = self.wire.connect(&self.addresses[number]).await?;
            self.channels.insert(number, channel);
        }
        let channel = self.channels.get_mut(&number).expect("it was just put in");
        self.correlation_id += 1;
        channel
            .sender
            .send(frame::encode_request(self.correlation_id, None, &request, FETCH_VERSION)?)
            .await?;
        let bytes = channel.receiver.receive().await?.ok_or_else(|| anyhow::anyhow!("it was closed"))?;
        let mut reader = FrameReader::new(bytes);
        let answered = frame::decode_response_header(&mut reader, FetchRequest::KEY, FETCH_VERSION)?;
        anyhow::ensure!(answered == self.correlation_id, "an answer to something else");
        let mut response = <FetchRequest as Request>::Response::decode(&mut reader, FETCH_VERSION)?;
        let mut topic = response.responses.pop().ok_or_else(|| anyhow::anyhow!("no topic"))?;
        topic.partitions.pop().ok_or_else(|| anyhow::anyhow!("no partition"))
    }

    /// As Kafka's consumers take it. False: no use in asking there again.
    fn take(&mut self, data: PartitionData, number: usize, leads: bool) -> bool {
        let mut ledger = self.ledger.borrow_mut();
        let ledger = &mut *ledger;
        let (topic, partition) = (ledger.topic, self.partition);
        if data.error_code == ErrorCode::OffsetOutOfRange.code() {
            let position = self.position;
            ledger
                .findings
                .push(format!("broker {number}: {position} of {topic}-{partition} is out of range"));
        }
        if data.error_code != ErrorCode::None.code() || data.preferred_read_replica >= 0 {
            return false;
        }
        let aborted = data.aborted_transactions.unwrap_or_default();
        let mut waiting: Vec<(i64, i64)> =
            aborted.iter().map(|aborted| (aborted.first_offset, aborted.producer_id)).collect();
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        let mut skipped = BTreeSet::new();
        let mut next = None;
        let bytes = data.records.map(|records| records.to_bytes()).unwrap_or_default();
        ledger.elsewhere += u64::from(!bytes.is_empty() && !leads);
        for batch in split_batches(&bytes) {
            let batch = batch.expect("whole batches");
            let header = &batch.header;
            let is_in_place = match next {
                Some(next) => header.base_offset == next,
                None => (header.base_offset..=header.last_offset()).contains(&self.position),
            };
            if !is_in_place || header.last_offset() >= data.last_stable_offset {
                let (base, stable, position) = (header.base_offset, data.last_stable_offset, self.position);
                ledger.findings.push(format!(
                    "broker {number}: {topic}-{partition} has {base} where {next:?} or {position} belongs, stable up to {stable}"
                ));
            }
            next = Some(header.next_offset());
            while waiting.last().is_some_and(|(first, _)| *first <= header.last_offset()) {
                skipped.insert(waiting.pop().expect("one is there").1);
            }
            if header.is_control() {
                let record = batch.records(RECORD_BYTES_MAX).next().and_then(Result::ok);
                let control =
                    record.and_then(|record| ControlRecord::parse(&record.key?, record.value.as_deref()));
                if matches!(control, Some(ControlRecord::Abort { .. })) {
                    skipped.remove(&header.producer_id);
                }
                continue;
            }
            if skipped.contains(&header.producer_id) {
                continue;
            }
            let read = ledger.read.entry(partition).or_default();
            for record in batch.records(RECORD_BYTES_MAX).map(|record| record.expect("a record")) {
                let value = String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned();
                if record.offset >= self.position {
                    read.push((record.offset, value));
                }
            }
        }
        self.position = next.unwrap_or(self.position);
        true
    }
}
