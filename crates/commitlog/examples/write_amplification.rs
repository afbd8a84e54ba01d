//! Bytes written to the disk per byte acknowledged, in a steady state where old data expires and the rest is rewritten;
//! then what a start costs with all that.
//!
//! `cargo run --release -p commitlog --example write_amplification -- DIR [GIB] [PARTITIONS] [BATCH_BYTES]`
//!
//! DIR must be empty or missing. A quarter of the partitions keeps only 16 MiB, so their data dies before it is
//! rewritten; the others keep everything. The bound of sealed WAL is a sixteenth of the data, so that most of the run is
//! steady state.
#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::{AppendOptions, CommitLog, Isolation, LogSettings, PartitionSettings, ReadRequest};
use protocol::batch::{Batch, BatchBuilder};
use protocol::{Str, TopicIdPartition, Uuid};
use world::clock::RealClock;
use world::disk::{Disk, RealDisk};
use world::rng::{RealRng, Rng};

const TOPIC: Uuid = Uuid([1; 16]);
const KEEP_BYTES: i64 = 16 << 20;
/// Batches on their way at a time.
const IN_FLIGHT: usize = 256;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().expect("DIR [GIB] [PARTITIONS] [BATCH_BYTES]"));
    let mut number = |default: f64| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let total = (number(2.0) * (1u64 << 30) as f64) as u64;
    let partitions = number(100.0) as i32;
    let batch_bytes = number(16384.0) as usize;
    let settings = LogSettings {
        wal_retain_bytes: total / 16,
        wal_retain_large_bytes: total / 16,
        rewrite_bytes_per_second: 0,
        rewrite_interval: Duration::from_millis(500),
        housekeeping_interval: Duration::from_secs(2),
        ..LogSettings::default()
    };

    let disk = RealDisk::new();
    let (catalog, log) = open(&disk, &dir, partitions, &settings).await;
    let ids: Vec<_> =
        (0..partitions).map(|partition| TopicIdPartition { topic_id: TOPIC, partition }).collect();
    for id in ids.iter().filter(|id| id.partition % 4 == 3) {
        let short = PartitionSettings {
            retention_ms: -1,
            retention_bytes: KEEP_BYTES,
            delete: true,
            ..PartitionSettings::default()
        };
        log.update_settings(id, short);
    }
    let mut value = vec![0; batch_bytes - 80];
    RealRng.fill(&mut value);
    let mut builder = BatchBuilder::new();
    builder.append(1, None, Some(&value), &[]).expect("a record");
    let batch = Batch::parse(builder.build().expect("a batch")).expect("our own batch");

    let counters = disk.counters();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let cpu = world::machine::cpu_time();
    let began = Instant::now();
    let mut acknowledged = 0u64;
    let mut waiting = std::collections::VecDeque::new();
    let mut half: Option<(u64, u64)> = None;
    let mut next = 0usize;
    while acknowledged < total {
        log.room().await;
        let partition = log.partition(&ids[next % ids.len()]).expect("a partition");
        next += 1;
        match partition.append(batch.clone(), AppendOptions::default()) {
            Ok(append) => waiting.push_back(append),
            Err(error) => panic!("{error}"),
        }
        if waiting.len() >= IN_FLIGHT {
            waiting.pop_front().expect("it is full").committed().await.expect("a commit");
            acknowledged += batch.bytes.len() as u64;
        }
        if half.is_none() && acknowledged >= total / 2 {
            half = Some((acknowledged, load(&counters.bytes_written) + load(&counters.bytes_zero_filled)));
        }
    }
    for append in waiting {
        append.committed().await.expect("a commit");
        acknowledged += batch.bytes.len() as u64;
    }
    let took = began.elapsed();
    let ratio = |bytes: u64| bytes as f64 / acknowledged as f64;
    let (written, zeros) = (load(&counters.bytes_written), load(&counters.bytes_zero_filled));
    let (half_acknowledged, half_written) = half.expect("half of it was passed");
    let log_counters = log.counters();
    println!(
        "acknowledged           {:>10.1} MiB in {:.1} s, {:.2} CPU-seconds per GB",
        mib(acknowledged),
        took.as_secs_f64(),
        (world::machine::cpu_time() - cpu).as_secs_f64() / (acknowledged as f64 / 1e9)
    );
    println!("written per byte       {:>10.3}  (and zeros ahead of use {:.3})", ratio(written), ratio(zeros));
    println!(
        "in the second half     {:>10.3}  zeros included",
        (written + zeros - half_written) as f64 / (acknowledged - half_acknowledged) as f64
    );
    println!("  WAL chunks           {:>10.3}", ratio(load(&log_counters.bytes)));
    println!(
        "  rewritten            {:>10.3}  in {} jobs",
        ratio(load(&log_counters.bytes_rewritten)),
        load(&log_counters.rewrites)
    );
    println!("  checkpoints          {:>10.3}", ratio(load(&log_counters.checkpoint_bytes)));
    println!(
        "WAL files {} ({:.0} MiB, {} recycled), segments {} ({:.0} MiB, {:.0} live)",
        load(&log_counters.wal_files),
        mib(load(&log_counters.wal_bytes)),
        load(&log_counters.wal_files_recycled),
        load(&log_counters.segments),
        mib(load(&log_counters.segment_bytes)),
        mib(load(&log_counters.segment_live_bytes))
    );
    println!(
        "resident {:.1} MiB, syncs {}, directory syncs {}",
        mib(world::machine::resident_bytes()),
        load(&counters.syncs),
        load(&counters.dir_syncs)
    );

    // As after kill -9: nothing is closed.
    drop(log);
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(catalog);
    let began = Instant::now();
    let (catalog, log) = open(&disk, &dir, partitions, &settings).await;
    let opened = began.elapsed();
    let partition = log.partition(&ids[0]).expect("a partition");
    partition
        .append(batch.clone(), AppendOptions::default())
        .expect("it takes it")
        .committed()
        .await
        .expect("a commit");
    println!(
        "start without a close: open {:.0} ms, first acknowledgement {:.0} ms",
        opened.as_secs_f64() * 1e3,
        began.elapsed().as_secs_f64() * 1e3
    );

    let began = Instant::now();
    let mut read = 0u64;
    let mut offset = partition.offsets().log_start;
    while offset < partition.offsets().high_watermark {
        let request = ReadRequest {
            offset,
            max_bytes: 1 << 20,
            min_one_batch: true,
            isolation: Isolation::ReadUncommitted,
        };
        let records = partition.read(request).await.expect("readable").records;
        read += records.len() as u64;
        offset += (records.len() / batch.bytes.len()) as i64;
    }
    println!(
        "one partition read from its start: {:.0} MiB, {:.0} MiB/s",
        mib(read),
        mib(read) / began.elapsed().as_secs_f64()
    );
    log.close().await;
    catalog.close().await;
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

async fn open(
    disk: &Arc<RealDisk>,
    dir: &std::path::Path,
    partitions: i32,
    settings: &LogSettings,
) -> (Arc<Catalog>, Arc<CommitLog>) {
    let (clock, rng) = (Arc::new(RealClock::new()), RealRng::shared());
    let disk: Arc<dyn Disk> = disk.clone();
    let catalog = Catalog::open(
        disk.clone(),
        dir.join("metadata"),
        clock.clone(),
        rng.clone(),
        CatalogOptions::default(),
    )
    .await
    .expect("a catalog");
    if catalog.read().topic("t").is_none() {
        let topic = MetadataRecord::CreateTopic {
            id: TOPIC,
            name: Str::from("t"),
            partition_count: partitions as u32,
            replication_factor: 1,
            configs: vec![],
        };
        catalog.append(vec![topic]).await.expect("the topic");
    }
    let log = CommitLog::open(disk, dir.join("log"), clock, rng, settings.clone(), catalog.clone())
        .await
        .expect("a log");
    (catalog, log)
}
