//! Produce load: one task per connection, requests pipelined, every answer checked.
//!
//! Closed loop: as fast as `in_flight` allows. Open loop (`rate`): every request has its time, whatever became of those
//! before it, and its latency counts from that time; a broker that stalls for a second is charged for all that was due in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::{InitProducerIdRequest, ProduceRequest};
use protocol::{ErrorCode, Records};
use serde::Serialize;
use tokio::sync::{Barrier, Semaphore, mpsc};

use crate::batches::{Shape, Template, now_micros};
use crate::connection::{Receiver, Sender, ask, connect, error_code};
use crate::latency::{Latencies, Summary};
use crate::topic::Topic;

#[derive(Clone)]
pub struct Load {
    pub address: String,
    pub topic: Topic,
    pub shape: Shape,
    pub connections: usize,
    /// Requests under way on one connection.
    pub in_flight: usize,
    /// Batches in one request, each for another partition.
    pub partitions_per_request: usize,
    pub amount: Amount,
    /// Records per second over all connections; without it the loop is closed.
    pub rate: Option<f64>,
    /// A producer id per connection, and sequences.
    pub idempotent: bool,
    /// Errors are counted and not the end.
    pub tolerant: bool,
}

/// Whatever comes first ends the load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amount {
    /// Of batches, as they go over the wire.
    pub bytes: Option<u64>,
    pub seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    pub seconds: f64,
    pub requests: u64,
    pub batches: u64,
    pub records: u64,
    /// Of acknowledged batches, as they went over the wire.
    pub bytes: u64,
    /// By code, per batch.
    pub errors: BTreeMap<i16, u64>,
    pub latency: Summary,
}

impl Outcome {
    pub fn gigabytes(&self) -> f64 {
        self.bytes as f64 / 1e9
    }
}

/// Kafka's bound for an idempotent producer.
const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;
const PRODUCE_VERSION: i16 = 12;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
const TIMEOUT_MS: i32 = 120_000;
/// A fresh broker may still load what gives out producer ids.
const PRODUCER_ID_TRIES_MAX: u32 = 100;

pub async fn run(load: &Load) -> Result<Outcome> {
    ensure!(
        load.connections > 0 && load.in_flight > 0 && load.partitions_per_request > 0,
        "nothing would be sent"
    );
    ensure!(
        !load.idempotent || load.in_flight <= IDEMPOTENT_IN_FLIGHT_MAX,
        "an idempotent producer has at most {IDEMPOTENT_IN_FLIGHT_MAX} requests under way"
    );
    let template = Arc::new(Template::new(&load.shape)?);
    ensure!(load.amount.bytes.is_some() || load.amount.seconds.is_some(), "the load would never end");
    let batches = load.amount.bytes.map_or(i64::MAX, |bytes| bytes.div_ceil(template.len() as u64) as i64);
    let left = Arc::new(AtomicI64::new(batches));
    // All are connected before the first one sends.
    let ready = Arc::new(Barrier::new(load.connections + 1));
    let mut paced = Vec::new();
    let tasks: Vec<_> = (0..load.connections)
        .map(|index| {
            let (load, template, left, ready) = (load.clone(), template.clone(), left.clone(), ready.clone());
            let (pace, times) = mpsc::unbounded_channel();
            if load.rate.is_some() {
                paced.push(pace);
            }
            tokio::spawn(async move {
                let opened = open(&load).await;
                ready.wait().await;
                let (sender, receiver, producer) = opened?;
                Connection::new(&load, &template, index, producer).run(sender, receiver, times, &left).await
            })
        })
        .collect();
    ready.wait().await;
    let start = Instant::now();
    let pacer = load.rate.map(|rate| {
        let records = per_request(load) as f64 * f64::from(template.record_count());
        let interval = Duration::from_secs_f64(records / rate);
        let by_time = load.amount.seconds.map_or(f64::INFINITY, |seconds| seconds / interval.as_secs_f64());
        // A float becomes the nearest integer there is.
        let requests = (batches as u64).div_ceil(per_request(load) as u64).min(by_time as u64);
        std::thread::spawn(move || pace(start, interval, requests, &paced))
    });
    let mut outcome = Outcome::default();
    let mut latencies = Latencies::default();
    for task in tasks {
        let part = task.await??;
        outcome.requests += part.requests;
        outcome.batches += part.batches;
        latencies.add(&part.latencies);
        for (code, count) in part.errors {
            *outcome.errors.entry(code).or_default() += count;
        }
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    if let Some(pacer) = pacer {
        pacer.join().expect("the pacer does not panic");
    }
    outcome.records = outcome.batches * template.record_count() as u64;
    outcome.bytes = outcome.batches * template.len() as u64;
    outcome.latency = latencies.summary();
    Ok(outcome)
}

#[derive(Clone, Copy)]
struct Producer {
    id: i64,
    epoch: i16,
}

async fn open(load: &Load) -> Result<(Sender, Receiver, Option<Producer>)> {
    let mut connection = connect(&load.address).await?;
    let producer = if load.idempotent { Some(producer_id(&mut connection).await?) } else { None };
    Ok((connection.0, connection.1, producer))
}

async fn producer_id(connection: &mut (Sender, Receiver)) -> Result<Producer> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    for _ in 0..PRODUCER_ID_TRIES_MAX {
        let answer = ask(connection, &request, INIT_PRODUCER_ID_VERSION).await?;
        match error_code(answer.error_code) {
            ErrorCode::None => return Ok(Producer { id: answer.producer_id, epoch: answer.producer_epoch }),
            ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable => {}
            code => bail!("no producer id: {code}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("no producer id in time")
}

/// What one connection did.
#[derive(Default)]
struct Part {
    requests: u64,
    batches: u64,
    errors: BTreeMap<i16, u64>,
    latencies: Latencies,
}

struct Connection<'a> {
    load: &'a Load,
    template: &'a Template,
    /// The partitions of this connection: nobody else writes them, unless there are fewer than connections.
    partitions: Vec<i32>,
    next_partition: usize,
    producer: Option<Producer>,
    /// By place in `partitions`.
    sequences: Vec<i32>,
}

/// A request under way.
struct UnderWay {
    due: Instant,
}

impl<'a> Connection<'a> {
    fn new(
        load: &'a Load,
        template: &'a Template,
        index: usize,
        producer: Option<Producer>,
    ) -> Connection<'a> {
        let (count, connections) = (load.topic.partitions, load.connections as i32);
        let partitions = partitions_of(index as i32, connections, count);
        let sequences = vec![0; partitions.len()];
        Connection { load, template, partitions, next_partition: 0, producer, sequences }
    }

    async fn run(
        mut self,
        mut sender: Sender,
        mut receiver: Receiver,
        mut times: mpsc::UnboundedReceiver<Instant>,
        left: &AtomicI64,
    ) -> Result<Part> {
        let tolerant = self.load.tolerant;
        let room = Semaphore::new(self.load.in_flight);
        // Bounded by `room`.
        let (under_way, mut answers) = mpsc::unbounded_channel::<UnderWay>();
        let end = self.load.amount.seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        let sending = async {
            let under_way = under_way; // dropped when the last one is sent
            loop {
                let paced = if self.load.rate.is_some() {
                    let Some(due) = times.recv().await else { break };
                    Some(due)
                } else {
                    None
                };
                room.acquire().await?.forget();
                let due = paced.unwrap_or_else(Instant::now);
                if paced.is_none() && end.is_some_and(|end| due > end) {
                    break;
                }
                let mut batches = per_request(self.load) as i64;
                batches = batches.min(left.fetch_sub(batches, Ordering::Relaxed));
                if batches <= 0 {
                    break;
                }
                let request = self.request(batches as usize, due);
                under_way.send(UnderWay { due })?;
                sender.send(&request, PRODUCE_VERSION).await?;
            }
            anyhow::Ok(())
        };
        let receiving = async {
            let mut part = Part::default();
            while let Some(UnderWay { due }) = answers.recv().await {
                let answer = receiver.receive::<ProduceRequest>(PRODUCE_VERSION).await?;
                part.latencies.note(due.elapsed());
                part.requests += 1;
                for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
                    if partition.error_code == 0 {
                        part.batches += 1;
                    } else if tolerant {
                        *part.errors.entry(partition.error_code).or_default() += 1;
                    } else {
                        bail!("partition {}: {}", partition.index, error_code(partition.error_code));
                    }
                }
                room.add_permits(1);
            }
            Ok(part)
        };
        let ((), part) = tokio::try_join!(sending, receiving)?;
        Ok(part)
    }

    /// The next request: a batch for each of the next `batches` partitions in turn.
    fn request(&mut self, batches: usize, due: Instant) -> ProduceRequest {
        let partition_data = (0..batches)
            .map(|_| {
                let place = self.next_partition;
                self.next_partition = (place + 1) % self.partitions.len();
                let records = self.batch(place, due);
                PartitionProduceData { index: self.partitions[place], records: Some(records) }
            })
            .collect();
        let topic =
            TopicProduceData { name: self.load.topic.name.clone(), partition_data, ..Default::default() };
        ProduceRequest { transactional_id: None, acks: -1, timeout_ms: TIMEOUT_MS, topic_data: vec![topic] }
    }

    fn batch(&mut self, place: usize, due: Instant) -> Records {
        if let Some(producer) = self.producer {
            let sequence = self.sequences[place];
            let next = i64::from(sequence) + i64::from(self.template.record_count());
            self.sequences[place] = (next % (1 << 31)) as i32;
            self.template.of_producer(producer.id, producer.epoch, sequence)
        } else if self.load.shape.stamped {
            // The time it was due, not the time it left: that is when the application had it.
            self.template.stamped(now_micros() - due.elapsed().as_micros() as u64)
        } else {
            self.template.plain()
        }
    }
}

/// Every partition belongs to one connection; where there are more connections they share.
fn partitions_of(index: i32, connections: i32, count: i32) -> Vec<i32> {
    if count < connections {
        return vec![index % count];
    }
    (index..count).step_by(connections as usize).collect()
}

/// Batches in a request: never two for one partition, whose order would be the sender's affair.
fn per_request(load: &Load) -> usize {
    load.partitions_per_request.min(load.topic.partitions as usize / load.connections).max(1)
}

/// Tells the connections in turn that a request is due. A thread of its own, because tokio's clock ticks in milliseconds
/// only. What waits in the channels is bounded by `requests`.
fn pace(start: Instant, interval: Duration, requests: u64, connections: &[mpsc::UnboundedSender<Instant>]) {
    for (number, connection) in (0..requests).zip(connections.iter().cycle()) {
        let due = start + interval.mul_f64(number as f64);
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        if connection.send(due).is_err() {
            return; // an error ended the connection; who waits for it will tell
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_is_written_by_someone_and_by_one_only_if_there_are_enough() {
        for (connections, count) in [(1, 1), (4, 100), (3, 1_000), (7, 7)] {
            let mut all: Vec<i32> =
                (0..connections).flat_map(|index| partitions_of(index, connections, count)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
        let shared: Vec<_> = (0..5).map(|index| partitions_of(index, 5, 2)).collect();
        assert_eq!(shared, [[0], [1], [0], [1], [0]]);
    }
}
