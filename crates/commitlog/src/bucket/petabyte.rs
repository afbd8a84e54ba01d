//! What a broker on a bucket with a petabyte costs: 100,000 partitions, each with 10 GiB in segments of 256 MiB, three brokers. Real
//! encoders and a real start; only the segments themselves are not there.
//!
//! `cargo test --release -p commitlog petabyte -- --ignored --nocapture`; `PETABYTES=0.1` for less.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures processor time")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use catalog::{Catalog, CatalogOptions, MetadataRecord, ShardChange};
use protocol::{Str, TopicIdPartition, Uuid};
use world::bucket::{Bucket, MemBucket};
use world::clock::SimClock;
use world::rng::SeededRng;
use world::{machine, task};

use super::folder::new_segment_id;
use super::shards::{BucketShard, Folding, Made, ShardPartition, Version, made};
use crate::checkpoint::PartitionCheckpoint;
use crate::container::HEADER_LEN;
use crate::log::CommitLog;
use crate::manifest::{PlacedPiece, SHARDS, shard_of};
use crate::partition::ReadRequest;
use crate::segment::{Piece, SegmentInfo};
use crate::settings::LogSettings;

const TOPICS: u32 = 100;
const PARTITIONS_OF_A_TOPIC: u32 = 1000;
const SEGMENT_BYTES: u64 = 256 << 20;
const RECORDS_OF_A_SEGMENT: i64 = 1 << 18;
const LOOKUPS: i64 = 100_000;
const JOBS: u64 = 150;
/// One of so many partitions has something in a job: 8,333 of 100,000.
const PARTITIONS_TOUCHED_PART: usize = 12;
const FOLDING: Folding = Folding { whole_bytes: 256 << 10, changes_percent: 25 };

async fn broker(store: &MemBucket, node_id: i32) -> Arc<Catalog> {
    let bucket: Arc<dyn Bucket> = Arc::new(store.client());
    let options =
        CatalogOptions { node_id: Some(node_id), lease_ttl: Duration::ZERO, ..CatalogOptions::default() };
    Catalog::open_bucket(bucket, SeededRng::shared(node_id as u64), options).await.unwrap()
}

fn topic_id(number: u32) -> Uuid {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Uuid(id)
}

/// All segments of the partition, each with nothing else in it.
fn full(segments: i64, uploader: u64, rng: &SeededRng) -> ShardPartition {
    let placed = |number: i64| {
        let footer_bytes = 1 << 20;
        let segment = SegmentInfo {
            id: new_segment_id(uploader, rng),
            len: HEADER_LEN as u64 + SEGMENT_BYTES + footer_bytes,
            payload_len: SEGMENT_BYTES,
            header_hash: [number as u8; 16],
            created_ms: number,
        };
        let piece = Piece {
            first_offset: number * RECORDS_OF_A_SEGMENT,
            last_offset: (number + 1) * RECORDS_OF_A_SEGMENT - 1,
            max_timestamp: number,
            record_count: RECORDS_OF_A_SEGMENT as u32,
            leader_epoch: 0,
            position: HEADER_LEN as u64,
            len: SEGMENT_BYTES,
        };
        PlacedPiece { segment: Arc::new(segment), piece }
    };
    let log_end = segments * RECORDS_OF_A_SEGMENT;
    let state = PartitionCheckpoint { log_end, epochs: vec![(0, 0)], ..PartitionCheckpoint::default() };
    ShardPartition { pieces: (0..segments).map(placed).collect(), state, compacted_to: 0 }
}

/// What jobs of the rewriter write of the manifest, each with a segment in which as many partitions have 8 KiB as 64 MiB have room for.
fn jobs(mut versions: Vec<Version>, uploader: u64, rng: &SeededRng) {
    let (mut bytes, mut whole, mut longest) = (0u64, 0u64, 0);
    let all: u64 = versions.iter().flat_map(|version| &version.objects.parts).map(|part| part.len).sum();
    let began = Instant::now();
    for job in 0..JOBS {
        let segment = Arc::new(SegmentInfo {
            id: new_segment_id(uploader, rng),
            len: 1 << 27,
            payload_len: 64 << 20,
            header_hash: [job as u8; 16],
            created_ms: job as i64,
        });
        for version in &mut versions {
            let mut next =
                BucketShard { version: version.shard.version + 1, ..BucketShard::clone(&version.shard) };
            let touched =
                next.partitions.values_mut().skip(job as usize % 3).step_by(PARTITIONS_TOUCHED_PART);
            for partition in touched {
                let first_offset = partition.state.log_end;
                let piece = Piece {
                    first_offset,
                    last_offset: first_offset + 7,
                    max_timestamp: job as i64,
                    record_count: 8,
                    leader_epoch: 0,
                    position: HEADER_LEN as u64,
                    len: 8 << 10,
                };
                partition.pieces.push(PlacedPiece { segment: segment.clone(), piece });
                partition.state.log_end += 8;
            }
            let made = made(version, &next, FOLDING, uploader, rng);
            bytes += made.bytes.len() as u64;
            whole += u64::from(made.objects.parts.len() == 1);
            longest = longest.max(made.objects.parts.len());
            *version = Version { objects: made.objects, shard: Arc::new(next) };
        }
    }
    println!(
        "manifest written by a job of 64 MiB: {:.1} MiB ({JOBS} jobs; {whole} of {} versions whole, of {longest} objects at most), without changes {:.0} MiB; {:.1?} a job",
        mib(bytes / JOBS),
        JOBS * u64::from(SHARDS),
        mib(all),
        began.elapsed() / JOBS as u32,
    );
    assert!(bytes / JOBS < all / 10, "a shard is not written anew by each job");
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[test]
#[ignore = "minutes and gigabytes: a measurement, see docs/running.md"]
fn a_petabyte_in_three_brokers() {
    let petabytes: f64 = std::env::var("PETABYTES").map_or(1.0, |text| text.parse().unwrap());
    let partitions = u64::from(TOPICS * PARTITIONS_OF_A_TOPIC);
    let segments = (petabytes * 2f64.powi(50) / SEGMENT_BYTES as f64 / partitions as f64).round() as i64;
    task::deterministic(1);
    task::paused_runtime().block_on(async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let mut brokers = Vec::new();
        for node_id in 1..=3 {
            brokers.push(broker(&store, node_id).await);
        }
        let first = &brokers[0];
        for number in 0..TOPICS {
            let topic = MetadataRecord::CreateTopic {
                id: topic_id(number),
                name: Str::from(format!("topic-{number}")),
                partition_count: PARTITIONS_OF_A_TOPIC,
                replication_factor: 1,
                configs: vec![],
            };
            first.append(vec![topic]).await.unwrap();
        }
        let mut shards: Vec<Vec<TopicIdPartition>> = vec![Vec::new(); SHARDS as usize];
        for topic in 0..TOPICS {
            for partition in 0..PARTITIONS_OF_A_TOPIC as i32 {
                let id = TopicIdPartition { topic_id: topic_id(topic), partition };
                shards[shard_of(&id) as usize].push(id);
            }
        }
        let mut encoding = Duration::ZERO;
        let mut largest = 0;
        let mut versions: Vec<Version> = Vec::new();
        for (number, ids) in shards.into_iter().enumerate() {
            let partitions = ids.into_iter().map(|id| (id, full(segments, first.wal_id(), &rng))).collect();
            let shard = BucketShard { number: number as u32, version: 1, partitions };
            let began = Instant::now();
            let Made { bytes, key, objects } =
                made(&Version::default(), &shard, FOLDING, first.wal_id(), &rng);
            encoding += began.elapsed();
            largest = largest.max(bytes.len());
            store.put(&key, bytes).await.unwrap();
            versions.push(Version { objects, shard: Arc::new(shard) });
            let change =
                ShardChange { shard: number as u32, from_version: 0, to_version: 1, object: key.into() };
            let ShardChange { shard, from_version, to_version, object } = change;
            let record = MetadataRecord::ManifestShard { shard, from_version, to_version, object, wal_mark: 0 };
            first.append(vec![record]).await.unwrap();
        }
        let folder = |name: &str| -> u64 {
            let objects = store.objects();
            objects.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, bytes)| bytes.len() as u64).sum()
        };
        let total = segments as u64 * partitions;
        println!("{total} segments of 256 MiB, {partitions} partitions");
        println!("metadata log {:.1} MiB, snapshots {:.1} MiB", mib(folder("meta/")), mib(folder("snapshots/")));
        let manifest = folder("manifest/");
        println!(
            "manifest {:.0} MiB in {SHARDS} shards, the largest {:.1} MiB, {:.0} bytes a segment; encoded in {encoding:.1?}",
            mib(manifest),
            mib(largest as u64),
            manifest as f64 / total as f64
        );
        // One of the three is started anew. What the store holds in memory is not its own.
        let before = machine::resident_bytes();
        let client = store.client();
        let bucket: Arc<dyn Bucket> = Arc::new(client.clone());
        let began = Instant::now();
        let options =
            CatalogOptions { node_id: Some(3), lease_ttl: Duration::ZERO, ..CatalogOptions::default() };
        let catalog = Catalog::open_bucket(bucket.clone(), SeededRng::shared(9), options).await.unwrap();
        let replayed = began.elapsed();
        let settings =
            LogSettings { rewrite_interval: Duration::from_secs(1 << 30), ..LogSettings::default() };
        let log = CommitLog::open_bucket(
            bucket,
            Arc::new(SimClock::new(0)),
            SeededRng::shared(10),
            settings,
            catalog.clone(),
        )
        .await
        .unwrap();
        let opened = began.elapsed();
        let led = log.partition_ids();
        let counters = client.counters();
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        println!(
            "start: metadata in {replayed:.2?}, {} partitions open in {opened:.2?}; {} GETs, {} LISTs, {} PUTs, {:.0} MiB read",
            led.len(),
            load(&counters.gets),
            load(&counters.lists),
            load(&counters.puts),
            mib(load(&counters.bytes_got))
        );
        println!("resident: {:.0} MiB more than before", mib(machine::resident_bytes() - before));
        let partition = log.partition(&led[0]).unwrap();
        let end = partition.offsets().high_watermark;
        assert_eq!(end, segments * RECORDS_OF_A_SEGMENT);
        let began = Instant::now();
        for number in 0..LOOKUPS {
            let offset = number * 7919 * 4093 % end;
            let request =
                ReadRequest { offset, max_bytes: 1, min_one_batch: true, isolation: Default::default() };
            // It finds the segment, which is not in the tail.
            assert!(partition.read_tail(&request).is_none());
        }
        let took = began.elapsed();
        jobs(versions, first.wal_id(), &rng);
        println!("the segment of an offset: {:.0} ns", took.as_nanos() as f64 / LOOKUPS as f64);
        assert!(led.len() as u64 > partitions / 4 && load(&counters.gets) < 1000);
        assert!(manifest / total < 200, "bytes of the manifest for each segment");
    });
}
