//! P8 on a real file system and a real broker: a small ext4 image that fills up, and an fsync that fails.
//!
//! ```text
//!   fill ─▶ refused, read ─▶ delete records ─▶ taken again ─▶ fill ─▶ kill -9, start full ─▶ read ─▶ delete the topic ─▶ taken
//!   load ─▶ the n-th fsync fails ─▶ nothing acknowledged any more, read ─▶ kill -9, start ─▶ all that was told is there
//! ```
//! Two topics: `much` is what fills the disk and is given up, `kept` must be whole at every turn.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use client::{
    Client, ClientOptions, ConsumerOptions, ErrorCode, NewTopic, OffsetReset, ProducerOptions, Record,
    TopicPartition,
};
use protocol::batch::BatchBuilder;
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::{ProduceRequest, ProduceResponse};
use protocol::wire::Reader;
use protocol::{ApiKey, Message, frame};

use crate::Disk;
use crate::broker::{Broker, Settings, free_port, last_words};
use crate::file_system::{self, FileSystem};
use crate::producers::Work;

const IMAGE_BYTES: u64 = 96 << 20;
const MUCH_BYTES: usize = 64 << 10;
/// Records on their way at a time; every `KEPT_EACH`-th of them goes to the topic that is kept.
const IN_FLIGHT: usize = 16;
const KEPT_EACH: usize = 4;
/// More than the image holds: by then it must have been refused.
const SENT_MAX: usize = 4 * (IMAGE_BYTES as usize / MUCH_BYTES);
/// With topic names.
const PRODUCE_VERSION: i16 = 8;
/// A batch that is refused for so long is given up.
const REFUSED_MAX: Duration = Duration::from_secs(3);
/// How long the broker may take until there is room after something was deleted (it rewrites what stays).
const ROOM_MAX: Duration = Duration::from_secs(60);
/// Until then records have gone through.
const FAILING_SYNC: u64 = 200;

pub fn run(args: &Disk) -> anyhow::Result<()> {
    if !file_system::possible()? {
        return Ok(());
    }
    let work = Work::new()?;
    let file_system = FileSystem::create(work.path(), IMAGE_BYTES)?;
    let port = free_port()?;
    let settings = Settings {
        bin: args.bin.clone(),
        data: file_system.mount.join("full"),
        log: work.path().join("broker.log"),
        port,
        namespace: None,
        partitions: 1,
        extra: vec![
            ("log.wal.file.min.bytes".into(), (1 << 20).to_string()),
            // Somebody's look for a deleted topic would make it anew.
            ("auto.create.topics.enable".into(), "false".into()),
        ],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(full_disk(&settings)).with_context(|| last_words(&settings.log))?;
    let settings = Settings { data: work.path().join("failing"), ..settings };
    runtime.block_on(failing_sync(&settings)).with_context(|| last_words(&settings.log))?;
    drop(file_system);
    work.done()
}

/// Everything that was acknowledged, by topic and offset.
#[derive(Default)]
struct Told(BTreeMap<&'static str, BTreeMap<i64, Vec<u8>>>);

struct House {
    port: u16,
    client: Client,
    told: Told,
    sent: usize,
}

impl House {
    async fn new(port: u16) -> anyhow::Result<House> {
        let client = Client::new(ClientOptions::new([format!("127.0.0.1:{port}")]));
        Ok(House { port, client, told: Told::default(), sent: 0 })
    }

    async fn create_topics(&self) -> anyhow::Result<()> {
        for name in ["much", "kept"] {
            self.client.admin().create_topic(NewTopic::new(name).partitions(1)).await?;
        }
        Ok(())
    }

    fn next(&mut self) -> (&'static str, Vec<u8>) {
        self.sent += 1;
        let (topic, len) =
            if self.sent.is_multiple_of(KEPT_EACH) { ("kept", 200) } else { ("much", MUCH_BYTES) };
        let mut value = format!("{} ", self.sent).into_bytes();
        value.resize(len, b'a' + (self.sent % 26) as u8);
        (topic, value)
    }

    /// Sends until a record is refused for good; says how many were acknowledged. A producer of its own each time.
    async fn send(&mut self, most: usize) -> anyhow::Result<(usize, Option<client::Error>)> {
        let options = ProducerOptions::default().linger(Duration::ZERO).delivery_timeout(REFUSED_MAX);
        let producer = match self.client.producer(options).await {
            Ok(producer) => producer,
            Err(error) => return Ok((0, Some(error))),
        };
        let (mut acknowledged, mut refused) = (0, None);
        while acknowledged < most && refused.is_none() {
            let mut waiting = Vec::new();
            for _ in 0..IN_FLIGHT {
                let (topic, value) = self.next();
                let delivery = producer.send(Record::to(topic).partition(0).value(value.clone())).await;
                waiting.push((topic, value, delivery));
            }
            for (topic, value, delivery) in waiting {
                let delivered = match delivery {
                    Ok(delivery) => delivery.await,
                    Err(error) => Err(error),
                };
                match delivered {
                    Ok(delivered) => {
                        acknowledged += 1;
                        ensure!(delivered.offset >= 0, "an acknowledgement without an offset");
                        let before = self.told.0.entry(topic).or_default().insert(delivered.offset, value);
                        ensure!(before.is_none(), "{topic} offset {} was given twice", delivered.offset);
                    }
                    Err(error) => refused = Some(error),
                }
            }
        }
        // What it still holds has been refused: closing says so once more.
        let _ = producer.close().await;
        Ok((acknowledged, refused))
    }

    /// The broker's own word for it: a Produce by hand, because a client tries such a code again until it gives up.
    fn code(&self) -> anyhow::Result<ErrorCode> {
        let mut builder = BatchBuilder::new();
        builder.append(0, None, Some(&[0; MUCH_BYTES]), &[])?;
        let partition =
            PartitionProduceData { index: 0, records: Some(builder.build()?.into()), ..Default::default() };
        let topic = TopicProduceData {
            name: "much".into(),
            partition_data: vec![partition],
            ..TopicProduceData::default()
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![topic],
            ..ProduceRequest::default()
        };
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        for segment in frame::encode_request(1, None, &request, PRODUCE_VERSION)? {
            socket.write_all(&segment)?;
        }
        let mut len = [0; 4];
        socket.read_exact(&mut len)?;
        let mut answer = vec![0; u32::from_be_bytes(len) as usize];
        socket.read_exact(&mut answer)?;
        let mut reader = Reader::new(answer.into());
        frame::decode_response_header(&mut reader, ApiKey::Produce, PRODUCE_VERSION)?;
        let answer = ProduceResponse::decode(&mut reader, PRODUCE_VERSION)?;
        let topic = answer.responses.first().context("an answer without the topic")?;
        let partition = topic.partition_responses.first().context("an answer without the partition")?;
        Ok(ErrorCode::try_from(partition.error_code)?)
    }

    /// The topic holds what was told, at its offset; what was never acknowledged may stand there as well.
    async fn check(&self, topic: &'static str) -> anyhow::Result<usize> {
        let Some(told) = self.told.0.get(topic) else { return Ok(0) };
        let partition = TopicPartition::new(topic, 0);
        let mut options = ConsumerOptions::default().offset_reset(OffsetReset::Earliest);
        options.group = None;
        options.poll_records_max = 10_000;
        let mut consumer = self.client.consumer(options)?;
        consumer.assign([partition.clone()])?;
        let end = consumer
            .end_offsets(std::slice::from_ref(&partition))
            .await?
            .get(&partition)
            .copied()
            .context("no end")?;
        let mut found = BTreeMap::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        while found.last_key_value().map_or(0, |(offset, _)| offset + 1) < end {
            ensure!(Instant::now() < deadline, "{topic} cannot be read to its end {end}");
            for record in consumer.poll(Duration::from_millis(500)).await? {
                found.insert(record.offset, record.value.context("a record without a value")?);
            }
        }
        consumer.close().await?;
        for (offset, value) in told {
            let now = found.get(offset).with_context(|| format!("{topic} offset {offset} is lost"))?;
            ensure!(now == value, "{topic} offset {offset} holds something else");
        }
        Ok(told.len())
    }

    async fn taken_again(&mut self, after: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let (acknowledged, refused) = self.send(IN_FLIGHT).await?;
            if acknowledged >= IN_FLIGHT && refused.is_none() {
                println!("{after}: produce is taken again after {:.1} s", began.elapsed().as_secs_f64());
                return Ok(());
            }
            ensure!(began.elapsed() < ROOM_MAX, "{after}: still refused after {ROOM_MAX:?}: {refused:?}");
        }
    }

    async fn fill(&mut self, what: &str) -> anyhow::Result<()> {
        let (acknowledged, refused) = self.send(SENT_MAX).await?;
        let refused = refused.context("the disk never filled up")?;
        let code = self.code()?;
        ensure!(code == ErrorCode::KafkaStorageError, "{what}: refused with {code}");
        println!("{what}: {acknowledged} acknowledged, then {code} (the producer gave up with: {refused})");
        Ok(())
    }
}

async fn full_disk(settings: &Settings) -> anyhow::Result<()> {
    let mut broker = Broker::start(settings, &[])?;
    ensure!(broker.ready(settings.port)?, "it does not start");
    let mut house = House::new(settings.port).await?;
    house.create_topics().await?;

    house.fill("full disk").await?;
    println!("full disk: read {} and {} records", house.check("much").await?, house.check("kept").await?);
    let admin = house.client.admin();
    let all = BTreeMap::from([(TopicPartition::new("much", 0), -1)]);
    for (partition, result) in admin.delete_records(&all).await? {
        result.with_context(|| format!("{partition}"))?;
    }
    house.told.0.remove("much");
    house.taken_again("records deleted").await?;
    house.check("kept").await?;

    house.fill("full again").await?;
    broker.kill()?;
    let mut broker = Broker::start(settings, &[])?;
    ensure!(broker.ready(settings.port)?, "it does not start on a full disk");
    let (much, kept) = (house.check("much").await?, house.check("kept").await?);
    println!("started on the full disk: {much} and {kept} records are there");
    admin.delete_topic("much").await?;
    admin.create_topic(NewTopic::new("much").partitions(1)).await?;
    house.told.0.remove("much");
    house.taken_again("topic deleted").await?;
    let (much, kept) = (house.check("much").await?, house.check("kept").await?);
    broker.stop()?;
    let mut broker = Broker::start(settings, &[])?;
    ensure!(broker.ready(settings.port)?, "it does not start again");
    ensure!((much, kept) == (house.check("much").await?, house.check("kept").await?));
    println!("full disk: {} records of what had to stay are there, 0 lost", much + kept);
    broker.stop()
}

async fn failing_sync(settings: &Settings) -> anyhow::Result<()> {
    let fault = [("OTTLA_FAIL_SYNC_AT", FAILING_SYNC.to_string())];
    let mut broker = Broker::start(settings, &fault)?;
    ensure!(broker.ready(settings.port)?, "it does not start");
    let mut house = House::new(settings.port).await?;
    house.create_topics().await?;
    let (acknowledged, refused) = house.send(SENT_MAX).await?;
    ensure!(refused.is_some(), "no fsync failed: is this a build with failpoints?");
    ensure!(acknowledged > 0, "it failed before anything was acknowledged");
    let code = house.code()?;
    ensure!(code == ErrorCode::KafkaStorageError, "refused with {code}");
    // Not for a while: for good.
    let (more, _) = house.send(1).await?;
    ensure!(more == 0, "{more} acknowledged after a failed fsync");
    let words = std::fs::read_to_string(&settings.log)?;
    ensure!(words.contains("nothing is acknowledged any more, reads go on; restart to recover"));
    let read = house.check("much").await? + house.check("kept").await?;
    ensure!(read == acknowledged, "{read} of {acknowledged} can be read");
    broker.kill()?;
    let mut broker = Broker::start(settings, &[])?;
    ensure!(broker.ready(settings.port)?, "it does not recover");
    let read = house.check("much").await? + house.check("kept").await?;
    house.taken_again("after the restart").await?;
    println!(
        "failing fsync: {acknowledged} acknowledged, then {code}; {read} of them there after the restart"
    );
    ensure!(read == acknowledged);
    broker.stop()
}
