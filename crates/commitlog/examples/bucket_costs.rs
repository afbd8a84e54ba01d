//! What three brokers on a bucket cost, and how long an acknowledgement takes, against the store in memory: a request takes 100 ms in
//! the median and 300 ms in one of a hundred, one of a thousand is answered 503, the answer of another never arrives. One broker is
//! measured with a third of the load, with its lease, its looks at the metadata log, rewriting and merging; the others are alike.
//! Virtual time: the same figures on every machine.
//!
//! `cargo run --release -p commitlog --example bucket_costs`
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::{AppendOptions, CommitLog, LogSettings, Partition};
use parking_lot::Mutex;
use protocol::batch::{Batch, BatchBuilder};
use protocol::{Str, TopicIdPartition, Uuid};
use world::bucket::{Bucket, MemBucket, MemBucketFaults};
use world::clock::SimClock;
use world::rng::SeededRng;
use world::task;

const PARTITIONS: i32 = 10;
const TICK: Duration = Duration::from_millis(10);
const TOPIC: Uuid = Uuid([1; 16]);
const BROKERS: f64 = 3.0;
/// Dollars for a thousand, by S3's list in us-east-1 (Standard): PUT and LIST, GET; and for a GB for a month.
const PUT_PRICE: f64 = 0.005;
const GET_PRICE: f64 = 0.0004;
const STORED_PRICE: f64 = 0.023;
/// A GB of a gp3 volume for a month, and a GB that crosses zones (a cent on either side).
const DISK_PRICE: f64 = 0.08;
const CROSS_ZONE_PRICE: f64 = 0.02;
const REPLICAS: f64 = 3.0;
const RETENTION_SECONDS: f64 = 7.0 * 86_400.0;
const MONTH_SECONDS: f64 = 30.0 * 86_400.0;

fn store_as_it_is() -> MemBucketFaults {
    MemBucketFaults {
        latency_p50_p99: Some((Duration::from_millis(100), Duration::from_millis(300))),
        unavailable: 1,
        answer_lost: 1,
        ..MemBucketFaults::default()
    }
}

struct Outcome {
    p50_ms: f64,
    p99_ms: f64,
    puts_per_second: f64,
    gets_per_second: f64,
    lists_per_second: f64,
    bytes_per_put: f64,
    idle_puts: u64,
    idle_gets: u64,
}

impl Outcome {
    /// Of all brokers' requests for a month, in dollars.
    fn requests(&self) -> f64 {
        let a_second =
            (self.puts_per_second + self.lists_per_second) * PUT_PRICE + self.gets_per_second * GET_PRICE;
        a_second / 1000.0 * MONTH_SECONDS * BROKERS
    }
}

fn batch(bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    builder.append(0, None, Some(&vec![b'x'; bytes]), &[]).expect("a record");
    Batch::parse(builder.build().expect("a batch")).expect("our own batch")
}

async fn open(bucket: &MemBucket, puts_per_second: u32) -> Arc<CommitLog> {
    let (shared, rng): (Arc<dyn Bucket>, _) = (Arc::new(bucket.clone()), SeededRng::shared(1));
    let catalog =
        Catalog::open_bucket(shared.clone(), rng.clone(), CatalogOptions::default()).await.expect("opens");
    let topic = MetadataRecord::CreateTopic {
        id: TOPIC,
        name: Str::from("t"),
        partition_count: PARTITIONS as u32,
        replication_factor: 1,
        configs: vec![],
    };
    catalog.append(vec![topic]).await.expect("a topic");
    let settings = LogSettings {
        puts_per_second,
        chunk_bytes_max: 8 << 20,
        unflushed_bytes_max: 256 << 20,
        rewrite_job_bytes: 64 << 20,
        ..LogSettings::default()
    };
    CommitLog::open_bucket(shared, Arc::new(SimClock::new(0)), rng, settings, catalog).await.expect("opens")
}

fn measure(puts_per_second: u32, bytes_per_second: usize, seconds: u64) -> Outcome {
    task::deterministic(1);
    task::paused_runtime().block_on(async {
        let bucket = MemBucket::new(1);
        bucket.set_faults(store_as_it_is());
        let log = open(&bucket, puts_per_second).await;
        let partitions: Vec<Arc<Partition>> = (0..PARTITIONS)
            .map(|partition| {
                log.partition(&TopicIdPartition { topic_id: TOPIC, partition }).expect("it is there")
            })
            .collect();
        let batch = batch(bytes_per_second / 100 / PARTITIONS as usize);
        let counters = bucket.counters();
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let now = || {
            let (puts, gets, lists) = (load(&counters.puts), load(&counters.gets), load(&counters.lists));
            (puts, gets, lists, load(&counters.bytes_put))
        };
        let before = now();
        let took: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let mut acknowledging = task::JoinSet::new();
        let began = task::now();
        for tick in 0..seconds * 100 {
            task::sleep_until(began + TICK * tick as u32).await;
            for partition in &partitions {
                log.room().await;
                let appended =
                    partition.append(batch.clone(), AppendOptions::default()).expect("there is room");
                let (at, took) = (task::now(), took.clone());
                acknowledging.spawn(async move {
                    appended.committed().await.expect("it is acknowledged");
                    took.lock().push(task::now() - at);
                });
            }
        }
        while acknowledging.join_next().await.is_some() {}
        while log.rewrite().await.expect("it rewrites") {}
        // All requests belong to the data of these seconds, also those of the rewriter afterwards: divided by the time that it took to
        // finish they would seem fewer, most of all in a short run.
        let (lasted, after) = (seconds as f64, now());
        let idle = now();
        task::sleep(Duration::from_secs(3600)).await;
        let mut took = std::mem::take(&mut *took.lock());
        took.sort_unstable();
        let at = |part: usize| took[(took.len() - 1) * part / 100].as_secs_f64() * 1000.0;
        Outcome {
            p50_ms: at(50),
            p99_ms: at(99),
            puts_per_second: (after.0 - before.0) as f64 / lasted,
            gets_per_second: (after.1 - before.1) as f64 / lasted,
            lists_per_second: (after.2 - before.2) as f64 / lasted,
            bytes_per_put: (after.3 - before.3) as f64 / (after.0 - before.0) as f64,
            idle_puts: now().0 - idle.0,
            idle_gets: now().1 - idle.1,
        }
    })
}

fn main() {
    println!(
        "| load of three brokers | a commit waits | ack p50 / p99, ms | PUTs / GETs per GB | MiB per PUT | PUTs / GETs in an idle hour, each broker |"
    );
    println!("|---|---|---|---|---|---|");
    let mut months = Vec::new();
    for (megabytes, seconds) in [(1, 300), (10, 120), (100, 20)] {
        // Under a steady load.
        for (puts_per_second, linger_ms) in [(4, 250), (20, 50)] {
            let outcome = measure(puts_per_second, megabytes * 1_000_000 / BROKERS as usize, seconds);
            let per_gb = 1000.0 / megabytes as f64 * BROKERS;
            println!(
                "| {megabytes} MB/s | {linger_ms} ms | {:.0} / {:.0} | {:.0} / {:.0} | {:.2} | {} / {} |",
                outcome.p50_ms,
                outcome.p99_ms,
                outcome.puts_per_second * per_gb,
                outcome.gets_per_second * per_gb,
                outcome.bytes_per_put / f64::from(1 << 20),
                outcome.idle_puts,
                outcome.idle_gets,
            );
            months.push((megabytes as f64, linger_ms, outcome.requests()));
        }
    }
    println!();
    println!(
        "| load | a commit waits | requests | storage | bucket, $ a month | Kafka: disks | Kafka: replication across zones | Kafka, $ a month |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (megabytes, linger_ms, requests) in months {
        let stored_gb = megabytes * RETENTION_SECONDS / 1000.0;
        let month_gb = megabytes * MONTH_SECONDS / 1000.0;
        let (stored, disks) = (stored_gb * STORED_PRICE, stored_gb * REPLICAS * DISK_PRICE);
        let crossing = month_gb * (REPLICAS - 1.0) * CROSS_ZONE_PRICE;
        println!(
            "| {megabytes} MB/s | {linger_ms} ms | {requests:.0} | {stored:.0} | {:.0} | {disks:.0} | {crossing:.0} | {:.0} |",
            requests + stored,
            disks + crossing
        );
    }
}
