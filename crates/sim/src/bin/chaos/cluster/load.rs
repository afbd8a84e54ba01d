//! The clients while the faults come: producers that note every acknowledgement, a consumer that reads all along, and readings of
//! everything afterwards.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use client::{
    Client, ClientOptions, Consumer, ConsumerOptions, Delivery, Error, NewTopic, OffsetAndTimestamp,
    OffsetReset, OffsetSpec, Producer, ProducerOptions, Received, Record, TopicPartition,
};
use parking_lot::Mutex;
use sim::history::{Acknowledged, Found, Violation};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::gaps::Timeline;

pub const TOPIC: &str = "chaos";
/// Records of one producer and partition that are not acknowledged yet. Beyond that the others go on without it.
const IN_FLIGHT_MAX: usize = 2000;
/// A reading that gets nothing new for so long is given up.
const STUCK_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);

/// A client that finds what is new soon and lets go of what is silent: the waits that are measured should be the cluster's.
pub fn client(addresses: &[String]) -> Client {
    let mut options = ClientOptions::new(addresses.to_vec())
        .request_timeout(Duration::from_secs(5))
        .connect_timeout(Duration::from_secs(2));
    options.retry_backoff = Duration::from_millis(20);
    options.retry_backoff_max = Duration::from_millis(200);
    options.allow_auto_create_topics = false;
    Client::new(options)
}

pub async fn create_topic(client: &Client, partitions: i32) -> anyhow::Result<()> {
    client.admin().create_topic(NewTopic::new(TOPIC).partitions(partitions)).await?;
    Ok(())
}

/// All that clients of ours were told.
pub struct Told {
    began: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    acknowledged: Acknowledged,
    timeline: Timeline,
    violations: Vec<Violation>,
    refused: Vec<String>,
    /// A line per acknowledgement, to look into afterwards.
    written: BufWriter<File>,
}

pub struct Everything {
    pub acknowledged: Acknowledged,
    pub timeline: Timeline,
    /// Those that showed before anything was read.
    pub violations: Vec<Violation>,
    pub refused: Vec<String>,
}

impl Told {
    pub fn new(began: Instant, work: &Path) -> anyhow::Result<Told> {
        let inner = Inner {
            acknowledged: Acknowledged::default(),
            timeline: Timeline::default(),
            violations: Vec::new(),
            refused: Vec::new(),
            written: BufWriter::new(File::create(work.join("acknowledged"))?),
        };
        Ok(Told { began, inner: Mutex::new(inner) })
    }

    pub fn now_ms(&self) -> u32 {
        self.began.elapsed().as_millis() as u32
    }

    pub fn acknowledge(&self, who: &str, partition: i32, number: u64, offset: i64) {
        let now_ms = self.now_ms();
        let mut inner = self.inner.lock();
        inner.timeline.note(who, partition, now_ms);
        let violation = inner.acknowledged.add(who, partition, number, offset).err();
        inner.violations.extend(violation);
        // For people only: a full disk must not end the run.
        let _ = writeln!(inner.written, "{now_ms} {who} {partition} {number} {offset}");
    }

    /// Of a single write, which is no stream whose pauses count.
    pub fn acknowledge_witness(&self, who: &str, partition: i32, offset: i64) {
        let mut inner = self.inner.lock();
        let violation = inner.acknowledged.add(who, partition, 0, offset).err();
        inner.violations.extend(violation);
        let _ = writeln!(inner.written, "{} {who} {partition} 0 {offset}", self.now_ms());
    }

    fn refuse(&self, who: &str, partition: i32, number: u64, error: &Error) {
        let line =
            format!("{} ms: record {number} of {who} in partition {partition}: {error}", self.now_ms());
        self.inner.lock().refused.push(line);
    }

    pub fn count(&self) -> usize {
        self.inner.lock().acknowledged.len()
    }

    pub fn take(&self) -> Everything {
        let mut inner = self.inner.lock();
        let _ = inner.written.flush();
        Everything {
            acknowledged: std::mem::take(&mut inner.acknowledged),
            timeline: std::mem::take(&mut inner.timeline),
            violations: std::mem::take(&mut inner.violations),
            refused: std::mem::take(&mut inner.refused),
        }
    }
}

pub struct Plan {
    pub producers: usize,
    pub partitions: i32,
    /// Of each producer, per second.
    pub rate: u32,
    /// From `send` to the acknowledgement; a record that takes longer is a failure of the cluster.
    pub patience: Duration,
}

/// Idempotent producers that send until they are told to stop.
pub struct Producers {
    stop: watch::Sender<bool>,
    running: JoinSet<anyhow::Result<()>>,
}

impl Producers {
    pub async fn start(addresses: &[String], plan: &Plan, told: &Arc<Told>) -> anyhow::Result<Producers> {
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        for number in 1..=plan.producers {
            let options = ProducerOptions::default().delivery_timeout(plan.patience);
            let producer = client(addresses).producer(options).await?;
            let name = format!("own-{number}");
            running.spawn(produce(name, producer, plan.partitions, plan.rate, told.clone(), stopped.clone()));
        }
        Ok(Producers { stop, running })
    }

    /// Waits until every record has its answer.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        while let Some(done) = self.running.join_next().await {
            done??;
        }
        Ok(())
    }
}

async fn produce(
    name: String,
    producer: Producer,
    partitions: i32,
    rate: u32,
    told: Arc<Told>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    // Answers of one partition come in the order of its records, those of different ones do not.
    let mut lanes = Vec::new();
    let mut listening = JoinSet::new();
    for partition in 0..partitions {
        let (lane, deliveries) = mpsc::channel(IN_FLIGHT_MAX);
        listening.spawn(listen(name.clone(), partition, deliveries, told.clone()));
        lanes.push((partition, lane, 0));
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut turn = 0;
    while !*stopped.borrow() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.changed() => continue,
        }
        let (partition, lane, next) = &mut lanes[turn];
        turn = (turn + 1) % partitions as usize;
        let Ok(place) = lane.try_reserve() else { continue };
        let number = *next;
        *next += 1;
        let record = Record::to(TOPIC).partition(*partition).value(format!("{name} {number}"));
        match producer.send(record).await {
            Ok(delivery) => place.send((number, delivery)),
            Err(error) => told.refuse(&name, *partition, number, &error),
        }
    }
    drop(lanes);
    while let Some(done) = listening.join_next().await {
        done?;
    }
    // Nothing is left to flush.
    producer.close().await?;
    Ok(())
}

async fn listen(
    name: String,
    partition: i32,
    mut deliveries: mpsc::Receiver<(u64, Delivery)>,
    told: Arc<Told>,
) {
    while let Some((number, delivery)) = deliveries.recv().await {
        match delivery.wait().await {
            Ok(delivered) => told.acknowledge(&name, partition, number, delivered.offset),
            Err(error) => told.refuse(&name, partition, number, &error),
        }
    }
}

/// What one reading saw, each partition in the order of its offsets.
#[derive(Default)]
pub struct Reading {
    pub found: Vec<Found>,
    pub timeline: Timeline,
    /// Behind the last record of each partition.
    next: BTreeMap<i32, i64>,
    /// Why it did not come to the end.
    pub broken_off: Option<String>,
}

pub type Ends = BTreeMap<i32, i64>;

/// A consumer that reads from the beginning and all along.
pub struct Watcher {
    ends: watch::Sender<Option<Ends>>,
    running: tokio::task::JoinHandle<Reading>,
}

impl Watcher {
    pub fn start(addresses: &[String], partitions: i32, told: Arc<Told>) -> anyhow::Result<Watcher> {
        let (ends, known) = watch::channel(None);
        let consumer = from_the_beginning(&client(addresses), partitions)?;
        let running = tokio::spawn(read(consumer, known, Some(told)));
        Ok(Watcher { ends, running })
    }

    /// Lets it come to the end, which is known now.
    pub async fn finish(self, ends: Ends) -> anyhow::Result<Reading> {
        self.ends.send_replace(Some(ends));
        Ok(self.running.await?)
    }

    /// An error that is not waited out has ended it.
    pub fn has_ended(&self) -> bool {
        self.running.is_finished()
    }
}

/// Everything, with a consumer of its own.
pub async fn read_all(addresses: &[String], partitions: i32) -> anyhow::Result<(Reading, Ends)> {
    let consumer = from_the_beginning(&client(addresses), partitions)?;
    let latest = (0..partitions).map(|p| (TopicPartition::new(TOPIC, p), OffsetSpec::Latest)).collect();
    // A partition whose end nobody knows is read as far as it goes.
    let end = |end: Result<OffsetAndTimestamp, Error>| end.map_or(i64::MAX, |end| end.offset);
    let ends = consumer.list_offsets(&latest).await?;
    let ends: Ends = ends.into_iter().map(|(p, result)| (p.partition, end(result))).collect();
    let (_sender, known) = watch::channel(Some(ends.clone()));
    Ok((read(consumer, known, None).await, ends))
}

fn from_the_beginning(client: &Client, partitions: i32) -> anyhow::Result<Consumer> {
    // An offset that is out of range would mean that something acknowledged is gone: an error, not a new start.
    let mut options = ConsumerOptions::default().offset_reset(OffsetReset::None).poll_records_max(10_000);
    options.group = None;
    let mut consumer = client.consumer(options)?;
    let all: Vec<TopicPartition> = (0..partitions).map(|p| TopicPartition::new(TOPIC, p)).collect();
    consumer.assign(all.clone())?;
    for partition in &all {
        consumer.seek(partition, 0)?;
    }
    Ok(consumer)
}

/// Reads until the ends are known and reached, or it cannot go on.
async fn read(
    mut consumer: Consumer,
    known: watch::Receiver<Option<Ends>>,
    told: Option<Arc<Told>>,
) -> Reading {
    let mut reading = Reading::default();
    reading.broken_off =
        reading.fill(&mut consumer, known, told).await.err().map(|error| format!("{error:#}"));
    // Offsets of a partition came in order; the partitions were mixed.
    reading.found.sort_by_key(|record| record.partition);
    reading
}

impl Reading {
    async fn fill(
        &mut self,
        consumer: &mut Consumer,
        known: watch::Receiver<Option<Ends>>,
        told: Option<Arc<Told>>,
    ) -> anyhow::Result<()> {
        let mut last = Instant::now();
        loop {
            match &*known.borrow() {
                // While there are faults nobody is in a hurry.
                None => last = Instant::now(),
                Some(ends) => {
                    let missing =
                        |(partition, end): &(&i32, &i64)| self.next.get(partition).unwrap_or(&0) < end;
                    let missing: Vec<_> = ends.iter().filter(missing).collect();
                    if missing.is_empty() {
                        return Ok(());
                    }
                    ensure!(
                        last.elapsed() < STUCK_MAX,
                        "nothing comes any more; {:?} was read, missing is what is before {missing:?}",
                        self.next
                    );
                }
            }
            for record in consumer.poll(POLL).await? {
                last = Instant::now();
                if let Some(told) = &told {
                    self.timeline.note("consumer", record.partition, told.now_ms());
                }
                self.next.insert(record.partition, record.offset + 1);
                self.found.push(found(&record)?);
            }
        }
    }
}

fn found(record: &Received) -> anyhow::Result<Found> {
    let value = record.value.as_deref().unwrap_or_default();
    let parsed = std::str::from_utf8(value).ok().and_then(|value| value.split_once(' '));
    let parsed = parsed.and_then(|(producer, number)| Some((producer, number.parse().ok()?)));
    let place = || format!("partition {} offset {} holds what nobody sent", record.partition, record.offset);
    let (producer, number) = parsed.with_context(place)?;
    let producer = producer.to_owned();
    Ok(Found { partition: record.partition, offset: record.offset, producer, number })
}
