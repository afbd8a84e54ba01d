//! The promises of Ottla as krafka (pure Rust, unmodified, from crates.io) sees them. ADDR=host:port says where the broker is.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use krafka::admin::NewTopic;
use krafka::consumer::{AutoOffsetReset, Consumer, ConsumerRecord, PartitionAssignmentStrategy};
use krafka::error::{ErrorCode, KrafkaError};

use krafka::{Compression, Kafka, Record};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

struct Checks {
    kafka: Kafka,
    run: String,
    passed: u32,
    failed: u32,
}

impl Checks {
    async fn check(&mut self, name: &str, story: impl Future<Output = Outcome>) {
        match tokio::time::timeout(Duration::from_secs(90), story).await {
            Ok(Ok(())) => {
                self.passed += 1;
                println!("ok   {name}");
            }
            Ok(Err(error)) => self.fail(name, &error.to_string()),
            Err(_) => self.fail(name, "not done in 90 s"),
        }
    }

    fn fail(&mut self, name: &str, why: &str) {
        self.failed += 1;
        println!("FAIL {name}: {why}");
    }
}

fn must(condition: bool, what: impl Into<String>) -> Outcome {
    if condition { Ok(()) } else { Err(what.into().into()) }
}

async fn create(kafka: &Kafka, topic: NewTopic) -> Outcome<Result<(), KrafkaError>> {
    let created = kafka.admin().create_topics([topic], Default::default()).await?;
    Ok(created.into_iter().next().ok_or("no answer for the topic")?.1)
}

async fn topic(kafka: &Kafka, run: &str, name: &str, partitions: i32) -> Outcome<String> {
    let full = format!("rust-{name}-{run}");
    create(kafka, NewTopic::new(&full, partitions, 1)?).await??;
    Ok(full)
}

async fn read_all(kafka: &Kafka, topic: &str, partitions: i32, count: usize) -> Outcome<Vec<ConsumerRecord>> {
    let consumer = kafka.consumer_without_group().build().await?;
    consumer.assign(topic, (0..partitions).collect()).await?;
    for partition in 0..partitions {
        consumer.seek_to_beginning(topic, partition).await?;
    }
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(consumer.poll(Duration::from_millis(200)).await?);
    }
    consumer.close().await?;
    Ok(records)
}

fn value(i: usize) -> String {
    format!("value {i} ").repeat(i % 40)
}

async fn every_codec(kafka: Kafka, run: String) -> Outcome {
    for codec in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let topic = topic(&kafka, &run, &format!("codec-{codec:?}"), 3).await?;
        let producer = kafka.producer().compression(codec).linger(Duration::from_millis(5)).build().await?;
        let mut acks = Vec::new();
        for i in 0..900 {
            let record = Record::new(&topic, value(i)).key(format!("k{}", i % 37)).header("n", i.to_string());
            acks.push(producer.enqueue(record).await?);
        }
        for ack in acks {
            let _ = ack.await?;
        }
        producer.close().await?;
        let mut seen = BTreeSet::new();
        for record in read_all(&kafka, &topic, 3, 900).await? {
            let header = record.headers.iter().next().ok_or("no header")?;
            let n = header.1.as_deref().ok_or("no header value")?;
            let i: usize = std::str::from_utf8(n)?.parse()?;
            must(
                record.value.as_deref() == Some(value(i).as_bytes()),
                format!("{codec:?}: value {i} differs"),
            )?;
            must(
                record.key.as_deref() == Some(format!("k{}", i % 37).as_bytes()),
                format!("key {i} differs"),
            )?;
            must(seen.insert(i), format!("{i} came twice"))?;
        }
    }
    Ok(())
}

async fn idempotent_order(kafka: Kafka, run: String) -> Outcome {
    let topic = topic(&kafka, &run, "order", 1).await?;
    let producer = kafka.producer().batch_size(1000).build().await?;
    let mut acks = Vec::new();
    for i in 0..3000 {
        acks.push(producer.enqueue(Record::new(&topic, i.to_string())).await?);
    }
    for (i, ack) in acks.into_iter().enumerate() {
        let offset = ack.await?.offset;
        must(offset == i as i64, format!("delivery report {i} says offset {offset}"))?;
    }
    producer.close().await?;
    for (i, record) in read_all(&kafka, &topic, 1, 3000).await?.iter().enumerate() {
        must(record.value.as_deref() == Some(i.to_string().as_bytes()), format!("record {i} is {record:?}"))?;
    }
    Ok(())
}

async fn connect() -> Outcome<Kafka> {
    let addr = std::env::var("ADDR").unwrap_or_else(|_| "127.0.0.1:9092".into());
    Ok(Kafka::builder(addr).client_id("check").connect().await?)
}

type Seen = Arc<Mutex<BTreeMap<Vec<u8>, u32>>>;

/// A client of its own, as two processes would have: what shares a `Kafka` shares its connections, and on one connection a
/// member's JoinGroup that waits for the other member holds back that other's requests, with every Kafka broker.
async fn member(
    group: &str,
    topic: &str,
    seen: Seen,
) -> Outcome<(Arc<Consumer>, tokio::task::JoinHandle<Outcome>)> {
    let consumer = connect()
        .await?
        .consumer(group)
        .auto_offset_reset(AutoOffsetReset::Earliest)
        .enable_auto_commit(false)
        .heartbeat_interval(Duration::from_millis(300))
        .partition_assignment_strategy(PartitionAssignmentStrategy::Range)
        .build()
        .await?;
    consumer.subscribe([topic]).await?;
    let consumer = Arc::new(consumer);
    let polling = consumer.clone();
    let task = tokio::spawn(async move {
        while !polling.is_closed() {
            let records = match polling.poll(Duration::from_millis(100)).await {
                Ok(records) => records,
                Err(_) if polling.is_closed() => break,
                Err(error) => return Err(error.into()),
            };
            if !records.is_empty() {
                for record in records {
                    *seen.lock().unwrap().entry(record.value.unwrap_or_default().to_vec()).or_default() += 1;
                }
                polling.commit().await?;
            }
        }
        Ok(())
    });
    Ok((consumer, task))
}

async fn held(consumer: &Consumer) -> usize {
    consumer.assignment().await.values().map(Vec::len).sum()
}

async fn group_of_two(kafka: Kafka, run: String) -> Outcome {
    let topic = topic(&kafka, &run, "group", 4).await?;
    let group = format!("rust-group-{run}");
    let seen = Seen::default();
    let (one, one_task) = member(&group, &topic, seen.clone()).await?;
    let (two, two_task) = member(&group, &topic, seen.clone()).await?;
    let deadline = Instant::now() + Duration::from_secs(80);
    let pause = || tokio::time::sleep(Duration::from_millis(50));
    let send = async |prefix: &str| -> Outcome {
        let producer = kafka.producer().build().await?;
        for i in 0..400 {
            let _ = producer.enqueue(Record::new(&topic, format!("{prefix}{i}")).key(i.to_string())).await?;
        }
        producer.close().await?;
        Ok(())
    };
    while (held(&one).await, held(&two).await) != (2, 2) {
        must(Instant::now() < deadline, "not two partitions each")?;
        pause().await;
    }
    send("a").await?;
    while seen.lock().unwrap().len() < 400 {
        must(Instant::now() < deadline, "the two did not read everything")?;
        pause().await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await; // the last commit
    two.close().await?;
    two_task.await??;
    while held(&one).await != 4 {
        must(Instant::now() < deadline, "no takeover")?;
        pause().await;
    }
    send("b").await?;
    while seen.lock().unwrap().len() < 800 {
        must(Instant::now() < deadline, "the one did not read everything")?;
        pause().await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    one.close().await?;
    one_task.await??;
    must(seen.lock().unwrap().values().all(|times| *times == 1), "a record came twice")
}

async fn errors(kafka: Kafka, run: String) -> Outcome {
    let full = format!("rust-errors-{run}");
    create(&kafka, NewTopic::new(&full, 1, 1)?.with_config("max.message.bytes", "2000")).await??;
    match create(&kafka, NewTopic::new(&full, 1, 1)?).await? {
        Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => {}
        other => return Err(format!("created twice: {other:?}").into()),
    }
    let producer = kafka.producer().build().await?;
    match producer.send(Record::new(&full, vec![7u8; 5000])).await {
        Err(KrafkaError::Broker { code: ErrorCode::MessageTooLarge, .. }) => {}
        other => return Err(format!("too large a record: {other:?}").into()),
    }
    let _ = producer.send(Record::new(&full, "small")).await?;
    producer.close().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let run = format!("{:x}", std::time::UNIX_EPOCH.elapsed()?.as_micros() % 0xffff_ffff);
    let kafka = connect().await?;
    let mut checks = Checks { kafka, run, passed: 0, failed: 0 };
    let (kafka, run) = (|c: &Checks| c.kafka.clone(), |c: &Checks| c.run.clone());
    let story = every_codec(kafka(&checks), run(&checks));
    checks.check("every_codec_comes_back_byte_for_byte", story).await;
    let story = idempotent_order(kafka(&checks), run(&checks));
    checks.check("idempotent_producer_keeps_order_and_reports_offsets", story).await;
    let story = group_of_two(kafka(&checks), run(&checks));
    checks.check("a_group_of_two_shares_and_takes_over", story).await;
    let story = errors(kafka(&checks), run(&checks));
    checks.check("errors_are_kafkas_own", story).await;
    println!("{} passed, {} failed", checks.passed, checks.failed);
    std::process::exit(if checks.failed == 0 { 0 } else { 1 });
}
