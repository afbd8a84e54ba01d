//! What a log in a bucket costs, and how long an acknowledgement takes, against the store in memory: a request takes 100 ms in the
//! median and 300 ms in one of a hundred, one of a thousand is answered 503, the answer of another never arrives.
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
/// Dollars for a thousand, by S3's list in us-east-1 (Standard): PUT and LIST, GET.
const PUT_PRICE: f64 = 0.005;
const GET_PRICE: f64 = 0.0004;
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
    bytes_per_put: f64,
    idle_puts: u64,
}

fn batch(bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    builder.append(0, None, Some(&vec![b'x'; bytes]), &[]).expect("a record");
    Batch::parse(builder.build().expect("a batch")).expect("our own batch")
}

async fn open(bucket: &MemBucket, puts_per_second: u32) -> Arc<CommitLog> {
    let (shared, rng): (Arc<dyn Bucket>, _) = (Arc::new(bucket.clone()), SeededRng::shared(1));
    let catalog = Catalog::open_bucket(
        shared.clone(),
        rng.clone(),
        CatalogOptions { lease_ttl: Duration::ZERO, ..CatalogOptions::default() },
    )
    .await
    .expect("opens");
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
        let before = (load(&counters.puts), load(&counters.gets), load(&counters.bytes_put));
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
        let lasted = (task::now() - began).as_secs_f64();
        let after = (load(&counters.puts), load(&counters.gets), load(&counters.bytes_put));
        while log.rewrite().await.expect("it rewrites") {}
        let idle = load(&counters.puts);
        task::sleep(Duration::from_secs(3600)).await;
        let mut took = std::mem::take(&mut *took.lock());
        took.sort_unstable();
        let at = |part: usize| took[(took.len() - 1) * part / 100].as_secs_f64() * 1000.0;
        Outcome {
            p50_ms: at(50),
            p99_ms: at(99),
            puts_per_second: (after.0 - before.0) as f64 / lasted,
            gets_per_second: (after.1 - before.1) as f64 / lasted,
            bytes_per_put: (after.2 - before.2) as f64 / (after.0 - before.0) as f64,
            idle_puts: load(&counters.puts) - idle,
        }
    })
}

fn main() {
    println!(
        "| load | bucket.puts.per.second | ack p50, ms | ack p99, ms | PUTs per GB | GETs per GB | MiB per PUT | PUTs in an idle hour | requests, $ a month |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (megabytes, seconds) in [(1, 120), (10, 60), (100, 10)] {
        // A commit waits 250 ms under a steady load, or 50.
        for puts_per_second in [4, 20] {
            let outcome = measure(puts_per_second, megabytes * 1_000_000, seconds);
            let per_gb = 1000.0 / megabytes as f64;
            let dollars =
                (outcome.puts_per_second * PUT_PRICE + outcome.gets_per_second * GET_PRICE) / 1000.0;
            println!(
                "| {megabytes} MB/s | {puts_per_second} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {} | {:.0} |",
                outcome.p50_ms,
                outcome.p99_ms,
                outcome.puts_per_second * per_gb,
                outcome.gets_per_second * per_gb,
                outcome.bytes_per_put / f64::from(1 << 20),
                outcome.idle_puts,
                dollars * MONTH_SECONDS
            );
        }
    }
}
