//! The good client: it produces and fetches at a fixed moderate rate all the time, and measures from when a request was due, not from
//! when it could be sent: whoever is kept waiting does not measure less often.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use bytes::Bytes;
use parking_lot::Mutex;
use protocol::batch::{BatchBuilder, split_batches};
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::{FetchRequest, FetchResponse, ProduceRequest, ProduceResponse};
use protocol::wire::Reader;
use protocol::{ApiKey, Message, Records, frame};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::txn::wire::read_frame;

pub const TOPIC: &str = "good";
const EVERY: Duration = Duration::from_millis(5);
const RECORD_BYTES: usize = 1 << 10;
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;

/// One record: when it was due, when it was acknowledged and when it was fetched.
#[derive(Clone, Copy)]
struct Sample {
    due: Instant,
    acknowledged: Option<Instant>,
    fetched: Option<Instant>,
}

#[derive(Default)]
struct Story {
    samples: Vec<Sample>,
    error: Option<String>,
}

#[derive(Clone)]
pub struct Good {
    /// One that was not served is followed by another.
    client: u32,
    story: Arc<Mutex<Story>>,
    is_over: Arc<AtomicBool>,
}

/// What the good client felt in some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Felt {
    pub records: usize,
    pub acknowledged_p99_ms: f64,
    pub fetched_p99_ms: f64,
}

impl Good {
    /// On a thread and a runtime of its own.
    pub fn start(address: SocketAddr, client: u32) -> anyhow::Result<Good> {
        let good = Good { client, story: Arc::default(), is_over: Arc::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let working = good.clone();
        std::thread::Builder::new().name("good".to_owned()).spawn(move || {
            super::set_niceness(-10);
            let done = runtime.block_on(working.work(address));
            if let Err(error) = done
                && !working.is_over()
            {
                working.story.lock().error = Some(format!("{error:#}"));
            }
        })?;
        Ok(good)
    }

    pub fn stop(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Nobody may end its connections or refuse what it asks.
    pub fn check(&self) -> anyhow::Result<()> {
        match &self.story.lock().error {
            Some(error) => anyhow::bail!("the good client was not served: {error}"),
            None => Ok(()),
        }
    }

    /// Is something of this time not acknowledged or not fetched yet?
    pub fn is_owed(&self, (from, to): (Instant, Instant)) -> bool {
        let story = self.story.lock();
        let mut within = story.samples.iter().filter(|sample| (from..to).contains(&sample.due));
        within.any(|sample| sample.acknowledged.is_none() || sample.fetched.is_none())
    }

    /// What became of the records that were due within this time. One that is not there yet counts with its age.
    pub fn felt(&self, slices: &[(Instant, Instant)]) -> Felt {
        let story = self.story.lock();
        let now = Instant::now();
        let within = |due: Instant| slices.iter().any(|(from, to)| (*from..*to).contains(&due));
        let samples: Vec<&Sample> = story.samples.iter().filter(|sample| within(sample.due)).collect();
        let p99 = |of: fn(&Sample) -> Option<Instant>| {
            let mut ms: Vec<f64> = samples
                .iter()
                .map(|sample| of(sample).unwrap_or(now).duration_since(sample.due).as_secs_f64() * 1e3)
                .collect();
            ms.sort_by(f64::total_cmp);
            ms.get((ms.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::INFINITY)
        };
        Felt {
            records: samples.len(),
            acknowledged_p99_ms: p99(|sample| sample.acknowledged),
            fetched_p99_ms: p99(|sample| sample.fetched),
        }
    }

    async fn work(&self, address: SocketAddr) -> anyhow::Result<()> {
        let connect = || async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            anyhow::Ok(stream)
        };
        let producer = connect().await?;
        let consumer = connect().await?;
        let (answers, requests) = producer.into_split();
        tokio::try_join!(self.produce(requests), self.acknowledge(answers), self.fetch(consumer))?;
        Ok(())
    }

    async fn produce(&self, mut requests: tokio::net::tcp::OwnedWriteHalf) -> anyhow::Result<()> {
        let began = Instant::now();
        for number in 0.. {
            if self.is_over() {
                break;
            }
            let due = began + EVERY * number;
            tokio::time::sleep_until(due.into()).await;
            self.story.lock().samples.push(Sample { due, acknowledged: None, fetched: None });
            let request = produce_request(TOPIC, 0, record(number, self.client)?);
            let segments =
                frame::encode_request(number as i32, Some("good".into()), &request, PRODUCE_VERSION)?;
            for segment in segments {
                requests.write_all(&segment).await?;
            }
        }
        Ok(())
    }

    async fn acknowledge(&self, mut answers: tokio::net::tcp::OwnedReadHalf) -> anyhow::Result<()> {
        for number in 0.. {
            if self.is_over() {
                break;
            }
            let mut answer =
                Reader::new(read_frame(&mut answers).await?.context("its connection was closed")?);
            let id = frame::decode_response_header(&mut answer, ApiKey::Produce, PRODUCE_VERSION)?;
            ensure!(id == number, "answer {id} where {number} was due");
            let response = ProduceResponse::decode(&mut answer, PRODUCE_VERSION)?;
            let partition = &response.responses[0].partition_responses[0];
            ensure!(partition.error_code == 0, "produce: error {}", partition.error_code);
            self.story.lock().samples[number as usize].acknowledged = Some(Instant::now());
        }
        Ok(())
    }

    async fn fetch(&self, mut consumer: TcpStream) -> anyhow::Result<()> {
        let mut offset = 0;
        while !self.is_over() {
            let request = fetch_request(TOPIC, &[(0, offset)], 500, 1 << 20);
            for segment in frame::encode_request(0, Some("good".into()), &request, FETCH_VERSION)? {
                consumer.write_all(&segment).await?;
            }
            let answer = read_frame(&mut consumer).await?.context("its connection was closed")?;
            let mut answer = Reader::new(answer);
            frame::decode_response_header(&mut answer, ApiKey::Fetch, FETCH_VERSION)?;
            let response = FetchResponse::decode(&mut answer, FETCH_VERSION)?;
            ensure!(response.error_code == 0, "fetch: error {}", response.error_code);
            let partition = &response.responses[0].partitions[0];
            ensure!(partition.error_code == 0, "fetch: error {}", partition.error_code);
            let Some(records) = &partition.records else { continue };
            let now = Instant::now();
            for batch in split_batches(&records.to_bytes()) {
                let batch = batch?;
                for record in batch.records(1 << 20) {
                    let value = record?.value.context("a record without a value")?;
                    let word = |at: usize| value[at..].first_chunk().copied().map(u32::from_be_bytes);
                    let (number, client) = (word(0), word(4));
                    let mut story = self.story.lock();
                    // An earlier good client may have been there.
                    if client == Some(self.client)
                        && let Some(sample) = story.samples.get_mut(number.context("no number")? as usize)
                    {
                        sample.fetched.get_or_insert(now);
                    }
                }
                offset = batch.header.next_offset().max(offset);
            }
        }
        Ok(())
    }
}

fn record(number: u32, client: u32) -> anyhow::Result<Bytes> {
    let mut value = vec![b'.'; RECORD_BYTES];
    value[..4].copy_from_slice(&number.to_be_bytes());
    value[4..8].copy_from_slice(&client.to_be_bytes());
    batch(&value)
}

pub fn batch(value: &[u8]) -> anyhow::Result<Bytes> {
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
    let mut builder = BatchBuilder::new();
    builder.append(now_ms, None, Some(value), &[])?;
    Ok(builder.build()?)
}

/// All of one partition.
pub fn produce_request(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let mut records = Records::new();
    records.push(batch);
    let partition_data =
        vec![PartitionProduceData { index: partition, records: Some(records), ..Default::default() }];
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData { name: topic.into(), partition_data, ..Default::default() }],
        ..Default::default()
    }
}

/// Partitions and where to read from.
pub fn fetch_request(
    topic: &str,
    partitions: &[(i32, i64)],
    max_wait_ms: i32,
    max_bytes: i32,
) -> FetchRequest {
    let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        current_leader_epoch: -1,
        partition_max_bytes: max_bytes,
        ..Default::default()
    };
    let partitions = partitions.iter().map(partition).collect();
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: topic.into(), partitions, ..Default::default() }],
        ..Default::default()
    }
}
