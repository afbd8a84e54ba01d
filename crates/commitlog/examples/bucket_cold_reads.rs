//! What a consumer costs that reads old data from the start to the end of a partition in a bucket, and how fast it is: with nothing
//! read ahead, and as it is. A request takes 100 ms in the median and 300 ms in one of a hundred, whatever its length, so the
//! speeds say how many requests are waited for one after the other, and not what a network carries. Virtual time.
//!
//! `cargo run --release -p commitlog --example bucket_cold_reads`
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::{AppendOptions, CommitLog, LogSettings, ReadRequest};
use protocol::batch::{Batch, BatchBuilder};
use protocol::{Str, TopicIdPartition, Uuid};
use world::bucket::{Bucket, MemBucket, MemBucketFaults};
use world::clock::SimClock;
use world::rng::SeededRng;
use world::task;

const TOPIC: Uuid = Uuid([1; 16]);
const BATCH_BYTES: usize = 16 << 10;
const MEGABYTES: usize = 200;
/// What a consumer asks for at a time (`max.partition.fetch.bytes`).
const FETCH_BYTES: usize = 1 << 20;
const NEVER: Duration = Duration::from_secs(1 << 30);

async fn open(bucket: &MemBucket, ahead_bytes: usize) -> Arc<CommitLog> {
    let (shared, rng): (Arc<dyn Bucket>, _) = (Arc::new(bucket.clone()), SeededRng::shared(1));
    let options = CatalogOptions { node_id: Some(1), lease_ttl: Duration::ZERO, ..CatalogOptions::default() };
    let catalog = Catalog::open_bucket(shared.clone(), rng.clone(), options).await.expect("opens");
    let topic = MetadataRecord::CreateTopic {
        id: TOPIC,
        name: Str::from("t"),
        partition_count: 1,
        replication_factor: 1,
        configs: vec![],
    };
    if catalog.read().topic("t").is_none() {
        catalog.append(vec![topic]).await.expect("a topic");
    }
    let settings = LogSettings {
        chunk_bytes_max: 8 << 20,
        unflushed_bytes_max: 256 << 20,
        rewrite_job_bytes: 64 << 20,
        rewrite_interval: NEVER,
        bucket_merge_interval: Duration::ZERO,
        bucket_read_ahead_bytes: ahead_bytes,
        ..LogSettings::default()
    };
    CommitLog::open_bucket(shared, Arc::new(SimClock::new(0)), rng, settings, catalog).await.expect("opens")
}

fn measure(ahead_bytes: usize) -> (f64, f64) {
    task::deterministic(1);
    task::paused_runtime().block_on(async {
        let bucket = MemBucket::new(1);
        let id = TopicIdPartition { topic_id: TOPIC, partition: 0 };
        let log = open(&bucket, 0).await;
        let partition = log.partition(&id).expect("it is there");
        let mut builder = BatchBuilder::new();
        builder.append(0, None, Some(&vec![b'x'; BATCH_BYTES]), &[]).expect("a record");
        let batch = Batch::parse(builder.build().expect("a batch")).expect("our own batch");
        let mut last = None;
        for _ in 0..MEGABYTES * 1_000_000 / BATCH_BYTES {
            log.room().await;
            last = Some(partition.append(batch.clone(), AppendOptions::default()).expect("there is room"));
        }
        last.expect("some").committed().await.expect("it is acknowledged");
        while log.rewrite().await.expect("it rewrites") {}
        log.close().await;
        bucket.set_faults(MemBucketFaults {
            latency_p50_p99: Some((Duration::from_millis(100), Duration::from_millis(300))),
            ..MemBucketFaults::default()
        });
        let log = open(&bucket, ahead_bytes).await;
        let partition = log.partition(&id).expect("it is there");
        let gets = || bucket.counters().gets.load(Ordering::Relaxed);
        let (before, began, mut offset, mut bytes) = (gets(), task::now(), 0, 0);
        while offset < partition.offsets().high_watermark {
            let request = ReadRequest {
                offset,
                max_bytes: FETCH_BYTES,
                min_one_batch: true,
                isolation: Default::default(),
            };
            let read = partition.read(request).await.expect("readable").records.to_bytes();
            bytes += read.len();
            for batch in protocol::batch::split_batches(&read) {
                offset = batch.expect("whole batches").header.next_offset();
            }
        }
        let (seconds, gigabytes) = ((task::now() - began).as_secs_f64(), bytes as f64 / 1e9);
        ((gets() - before) as f64 / gigabytes, bytes as f64 / 1e6 / seconds)
    })
}

fn main() {
    println!("| read ahead | GETs per GB | MB/s |");
    println!("|---|---|---|");
    for ahead_bytes in [0, LogSettings::default().bucket_read_ahead_bytes] {
        let (gets, speed) = measure(ahead_bytes);
        println!("| {} MiB | {gets:.0} | {speed:.0} |", ahead_bytes >> 20);
    }
}
