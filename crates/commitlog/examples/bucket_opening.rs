//! What it takes to go on behind a broker that died with many commits that are not rewritten: the takeover, the opening of its
//! partitions, and the rewriting, in GETs and in time. A request takes 100 ms in the median and 300 ms in one of a hundred. Ten
//! partitions, each commit has something of all of them. Virtual time.
//!
//! `cargo run --release -p commitlog --example bucket_opening`
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::{AppendOptions, CommitLog, LogSettings, PartitionSettings};
use futures_util::stream::{self, StreamExt};
use protocol::batch::{Batch, BatchBuilder};
use protocol::{Str, TopicIdPartition, Uuid};
use world::bucket::{Bucket, MemBucket, MemBucketFaults};
use world::clock::SimClock;
use world::rng::SeededRng;
use world::task;

const TOPIC: Uuid = Uuid([1; 16]);
const PARTITIONS: u32 = 10;
const NEVER: Duration = Duration::from_secs(1 << 30);

async fn start(bucket: &MemBucket, node_id: i32) -> (Arc<Catalog>, Arc<CommitLog>) {
    let (shared, rng): (Arc<dyn Bucket>, _) =
        (Arc::new(bucket.clone()), SeededRng::shared(bucket.objects().len() as u64));
    let options =
        CatalogOptions { node_id: Some(node_id), lease_ttl: Duration::ZERO, ..CatalogOptions::default() };
    let catalog = Catalog::open_bucket(shared.clone(), rng.clone(), options).await.expect("opens");
    let settings = LogSettings {
        linger: Duration::ZERO,
        puts_per_second: 1 << 20,
        rewrite_job_bytes: 64 << 20,
        rewrite_interval: NEVER,
        ..LogSettings::default()
    };
    let clock = Arc::new(SimClock::new(0));
    let log = CommitLog::open_bucket(shared, clock, rng, settings, catalog.clone()).await.expect("opens");
    (catalog, log)
}

/// So many WALs, each of a broker with its own id, with so many commits in each.
fn measure(wals: u64, slots_each: u64) {
    task::deterministic(1);
    task::paused_runtime().block_on(async {
        let bucket = MemBucket::new(1);
        let (catalog, heir) = start(&bucket, 1).await;
        let mut clients = Vec::new();
        let mut dead = Vec::new();
        for wal in 0..wals {
            let topic_id = Uuid::from_u128(u128::from_be_bytes(TOPIC.0) + u128::from(wal));
            let client = bucket.client();
            let (writer, log) = start(&client, 2 + wal as i32).await;
            clients.push(client);
            let create = MetadataRecord::CreateTopic {
                id: topic_id,
                name: Str::from(format!("t{wal}")),
                partition_count: PARTITIONS,
                replication_factor: 1,
                configs: vec![],
            };
            writer.append(vec![create]).await.expect("a topic");
            let led = writer.read().led_by(writer.wal_id());
            let ids: Vec<_> =
                led.into_iter().map(|(id, index)| TopicIdPartition::new(id, index as i32)).collect();
            let new: Vec<_> = ids.iter().map(|id| (*id, PartitionSettings::default())).collect();
            log.create_partitions(&new);
            let mut builder = BatchBuilder::new();
            builder.append(0, None, Some(b"a record of a few bytes"), &[]).expect("a record");
            let batch = Batch::parse(builder.build().expect("a batch")).expect("our own batch");
            for _ in 0..slots_each {
                let sent: Vec<_> = {
                    let _together = log.together();
                    let send = |id| {
                        let partition = log.partition(id).expect("it is open");
                        partition.append(batch.clone(), AppendOptions::default()).expect("there is room")
                    };
                    ids.iter().map(send).collect()
                };
                for sent in sent {
                    sent.committed().await.expect("it is acknowledged");
                }
            }
            dead.push((writer, log));
        }
        // Whatever they still do does not reach the store.
        clients.iter().for_each(MemBucket::kill);
        catalog.catch_up().await.expect("it answers");
        let slow = Some((Duration::from_millis(100), Duration::from_millis(300)));
        bucket.set_faults(MemBucketFaults { latency_p50_p99: slow, ..MemBucketFaults::default() });
        let gets = || bucket.counters().gets.load(Ordering::Relaxed);
        let mut line = format!("| {wals} × {slots_each} |");
        let (mut before, mut began) = (gets(), task::now());
        let mut say = |before: &mut u64, began: &mut task::Instant| {
            line += &format!(" {} | {:.1} |", gets() - *before, began.elapsed().as_secs_f64());
            (*before, *began) = (gets(), task::now());
        };
        let me = [catalog.wal_id()];
        // As many side by side as a broker takes.
        stream::iter(dead.iter())
            .for_each_concurrent(16, async |(writer, _)| {
                heir.take_over(writer.wal_id(), &me).await.expect("it is taken over");
            })
            .await;
        say(&mut before, &mut began);
        let led = catalog.read().led_by(catalog.wal_id());
        let led: Vec<_> = led
            .into_iter()
            .map(|(id, index)| (TopicIdPartition::new(id, index as i32), PartitionSettings::default()))
            .collect();
        heir.open_partitions(&led).await.expect("they open");
        say(&mut before, &mut began);
        while heir.rewrite().await.expect("it rewrites") {}
        say(&mut before, &mut began);
        println!("{line}");
    })
}

fn main() {
    println!(
        "| WALs × commits | takeover: GETs | seconds | opening: GETs | seconds | rewriting: GETs | seconds |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (wals, slots_each) in [(1, 10), (1, 1_000), (1, 10_000), (100, 100)] {
        measure(wals, slots_each);
    }
}
