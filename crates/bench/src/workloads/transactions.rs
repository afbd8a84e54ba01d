//! Workload 13: transactions, one after the other on each connection.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use client::{Isolation, OffsetSpec, TopicPartition};
use futures_util::future::try_join_all;
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::{EndTxnRequest, InitProducerIdRequest, ProduceRequest};
use protocol::{ErrorCode, Str};

use super::produce::many;
use super::{COORDINATOR_PAUSE, COORDINATOR_TRIES_MAX, ONE_BROKER, coordinated, delete, topic, usual};
use crate::batches::{Shape, Template};
use crate::connection::{Receiver, Sender, ask, connect, error_code};
use crate::latency::Latencies;
use crate::load::Amount;
use crate::run::{Case, Run, Values};
use crate::subject::Subject;
use crate::topic::{Topic, admin};

pub const ABOUT: &str = "Eight producers on a connection each, with a transactional id, on a topic of 100 partitions. A transaction is one \
    Produce with a batch for each of its partitions and, when that is answered, EndTxn (KIP-890's version: the broker adds the \
    partitions by itself, and each transaction has an epoch of its own); then the next one. What the broker tells to come again \
    comes again after 2 ms, within the transaction's time. A run takes four seconds; after it the last stable offsets must have \
    grown by just the records and markers of what was committed.";

const PRODUCERS: usize = 8;
const PARTITIONS: i32 = 100;
const SECONDS: f64 = 4.0;
const WARM_UP_SECONDS: f64 = 10.0;
/// Partitions of a transaction, and bytes of a batch: one record is the least.
const CASES: [(usize, usize); 2] = [(10, 16_384), (1, 1)];

const INIT_PRODUCER_ID_VERSION: i16 = 5;
const PRODUCE_VERSION: i16 = 12;
const END_TXN_VERSION: i16 = 5;
const TIMEOUT_MS: i32 = 60_000;
const COMES_AGAIN_AFTER: Duration = Duration::from_millis(2);
/// Of one request of a transaction. What takes longer is no pause any more.
const TRIES_MAX: u32 = 10_000;
const STABLE_MAX: Duration = Duration::from_secs(60);

pub async fn run(run: &mut Run) -> Result<()> {
    let mut subjects = Vec::new();
    for kind in &run.plan.kinds {
        let mut subject = Subject::new(*kind, &run.plan.places, &ONE_BROKER)?;
        subject.start()?;
        subjects.push(subject);
    }
    let name = "transactions";
    for (partitions, batch_bytes) in CASES {
        let size = if batch_bytes > 1000 { "16 KiB" } else { "1 KB" };
        let case = Case::new(13, format!("{}, {size} each", many(partitions as i32, "partition")));
        if !run.wants(&case) {
            continue;
        }
        for subject in &subjects {
            once(subject, name, partitions, batch_bytes, WARM_UP_SECONDS).await?;
        }
        run.rounds(&case, &mut subjects, async |run, subject| {
            let watched = run.watch(subject)?;
            let all = once(subject, name, partitions, batch_bytes, SECONDS).await?;
            let (used, _) = watched.usage()?;
            let (count, latency) = (all.transactions as f64, all.latencies.summary());
            let mut values: Values = vec![
                ("transactions/s", count / all.seconds),
                ("MB/s", all.bytes as f64 / 1e6 / all.seconds),
                ("p50 ms", latency.p50_ms),
                ("p99 ms", latency.p99_ms),
                ("CPU-s per 1,000 transactions", used.cpu_seconds() * 1000.0 / count),
                ("told to come again, per transaction", all.again as f64 / count),
                ("resident peak, MiB", used.resident_peak_bytes as f64 / f64::from(1 << 20)),
            ];
            if let Some(syncs) = used.syncs {
                values.insert(5, ("syncs per transaction", syncs as f64 / count));
            }
            Ok(values)
        })
        .await?;
    }
    delete(&subjects, name).await
}

#[derive(Default)]
struct Part {
    transactions: u64,
    bytes: u64,
    /// Requests, or partitions of them, that came again.
    again: u64,
    seconds: f64,
    latencies: Latencies,
}

async fn once(
    subject: &Subject,
    name: &str,
    partitions: usize,
    batch_bytes: usize,
    seconds: f64,
) -> Result<Part> {
    let topic = topic(subject, name, PARTITIONS).await?;
    let amount = Amount { bytes: None, seconds: None };
    let template = Template::transactional(&Shape { batch_bytes, ..usual(subject, &topic, amount).shape })?;
    let before = stable(subject, &topic).await?;
    let mut producers = Vec::new();
    for index in 0..PRODUCERS {
        producers.push(Producer::open(subject, &topic, index, partitions).await?);
    }
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(seconds);
    let parts = try_join_all(producers.into_iter().map(|producer| producer.run(&template, until))).await?;
    let mut all = Part { seconds: began.elapsed().as_secs_f64(), ..Part::default() };
    for part in parts {
        all.transactions += part.transactions;
        all.bytes += part.bytes;
        all.again += part.again;
        all.latencies.add(&part.latencies);
    }
    let in_each = i64::from(template.record_count()) + 1;
    let expected = before + all.transactions as i64 * partitions as i64 * in_each;
    let deadline = Instant::now() + STABLE_MAX;
    // The last markers may come a moment after the answers.
    loop {
        let now = stable(subject, &topic).await?;
        if now == expected {
            return Ok(all);
        }
        ensure!(now < expected && Instant::now() < deadline, "{now} stable offsets where {expected} are due");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The sum of the partitions' last stable offsets.
async fn stable(subject: &Subject, topic: &Topic) -> Result<i64> {
    let asked: BTreeMap<TopicPartition, OffsetSpec> = (0..topic.partitions)
        .map(|partition| (TopicPartition::new(&topic.name, partition), OffsetSpec::Latest))
        .collect();
    let answers = admin(&subject.address).list_offsets(&asked, Isolation::ReadCommitted).await?;
    let mut sum = 0;
    for (at, answer) in answers {
        sum += answer.with_context(|| at.to_string())?.offset;
    }
    Ok(sum)
}

struct Producer<'a> {
    topic: &'a Topic,
    connection: (Sender, Receiver),
    transactional_id: Str,
    id: i64,
    epoch: i16,
    /// Nobody else writes these.
    mine: Vec<i32>,
    next: usize,
    /// Of a transaction.
    partitions: usize,
    part: Part,
}

/// What a broker says that has not finished with the transaction before, or cannot say yet.
fn comes_again(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ConcurrentTransactions
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::NotEnoughReplicas
    )
}

impl<'a> Producer<'a> {
    async fn open(
        subject: &Subject,
        topic: &'a Topic,
        index: usize,
        partitions: usize,
    ) -> Result<Producer<'a>> {
        let mut connection = connect(&subject.address).await?;
        let transactional_id = Str::from(format!("bench-{index}"));
        coordinated(&mut connection, 1, &transactional_id).await?;
        let request = InitProducerIdRequest {
            transactional_id: Some(transactional_id.clone()),
            transaction_timeout_ms: TIMEOUT_MS,
            ..Default::default()
        };
        let mine: Vec<i32> = (index as i32..topic.partitions).step_by(PRODUCERS).collect();
        for _ in 0..COORDINATOR_TRIES_MAX {
            let answer = ask(&mut connection, &request, INIT_PRODUCER_ID_VERSION).await?;
            match error_code(answer.error_code) {
                ErrorCode::None => {
                    let (id, epoch, part) = (answer.producer_id, answer.producer_epoch, Part::default());
                    return Ok(Producer {
                        topic,
                        connection,
                        transactional_id,
                        id,
                        epoch,
                        mine,
                        next: 0,
                        partitions,
                        part,
                    });
                }
                code if comes_again(code) => tokio::time::sleep(COORDINATOR_PAUSE).await,
                code => bail!("no producer id for {transactional_id}: {code}"),
            }
        }
        bail!("no producer id for {transactional_id} in time")
    }

    async fn run(mut self, template: &Template, until: Instant) -> Result<Part> {
        while Instant::now() < until {
            let began = Instant::now();
            self.produce(template).await?;
            self.commit().await?;
            self.part.latencies.note(began.elapsed());
            self.part.transactions += 1;
            self.part.bytes += (self.partitions * template.len()) as u64;
        }
        Ok(self.part)
    }

    /// A batch for each of the next partitions in turn.
    async fn produce(&mut self, template: &Template) -> Result<()> {
        let mut left: Vec<i32> =
            (0..self.partitions).map(|place| self.mine[(self.next + place) % self.mine.len()]).collect();
        self.next = (self.next + self.partitions) % self.mine.len();
        for _ in 0..TRIES_MAX {
            // A new epoch begins its sequences anew.
            let batch = |index: &i32| PartitionProduceData {
                index: *index,
                records: Some(template.of_producer(self.id, self.epoch, 0)),
            };
            let partition_data = left.iter().map(batch).collect();
            let topic =
                TopicProduceData { name: self.topic.name.clone(), partition_data, ..Default::default() };
            let request = ProduceRequest {
                transactional_id: Some(self.transactional_id.clone()),
                acks: -1,
                timeout_ms: TIMEOUT_MS,
                topic_data: vec![topic],
            };
            let answer = ask(&mut self.connection, &request, PRODUCE_VERSION).await?;
            left.clear();
            for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
                match error_code(partition.error_code) {
                    ErrorCode::None => {}
                    code if comes_again(code) => left.push(partition.index),
                    code => bail!("partition {}: {code}", partition.index),
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            self.part.again += left.len() as u64;
            tokio::time::sleep(COMES_AGAIN_AFTER).await;
        }
        bail!("{} cannot produce", self.transactional_id)
    }

    async fn commit(&mut self) -> Result<()> {
        for _ in 0..TRIES_MAX {
            let request = EndTxnRequest {
                transactional_id: self.transactional_id.clone(),
                producer_id: self.id,
                producer_epoch: self.epoch,
                committed: true,
            };
            let answer = ask(&mut self.connection, &request, END_TXN_VERSION).await?;
            match error_code(answer.error_code) {
                ErrorCode::None => {
                    (self.id, self.epoch) = (answer.producer_id, answer.producer_epoch);
                    return Ok(());
                }
                code if comes_again(code) => self.part.again += 1,
                code => bail!("{} cannot commit: {code}", self.transactional_id),
            }
            tokio::time::sleep(COMES_AGAIN_AFTER).await;
        }
        bail!("{} cannot commit", self.transactional_id)
    }
}
