//! Appends per second, syncs per acknowledgement and bytes written per byte, on the real disk.
//!
//! `cargo run --release -p commitlog --example appends -- DIR [partitions] [producers] [batch bytes] [seconds]`
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use commitlog::{AppendOptions, CommitLog, LogSettings, PartitionSettings};
use protocol::batch::{Batch, BatchBuilder};
use protocol::{TopicIdPartition, Uuid};
use world::clock::RealClock;
use world::disk::{Disk, RealDisk};
use world::rng::RealRng;

fn number(index: usize, default: u64) -> u64 {
    std::env::args().nth(index).map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::main]
async fn main() {
    let dir = PathBuf::from(std::env::args().nth(1).expect("a directory"));
    let (partitions, producers) = (number(2, 100), number(3, 64));
    let (batch_bytes, seconds) = (number(4, 1024), number(5, 5));
    let disk = RealDisk::new();
    let ids: Vec<_> = (0..partitions as i32)
        .map(|partition| {
            (TopicIdPartition { topic_id: Uuid([1; 16]), partition }, PartitionSettings::default())
        })
        .collect();
    let began = Instant::now();
    let log = CommitLog::open_with(
        disk.clone(),
        dir,
        RealClock::shared(),
        RealRng::shared(),
        LogSettings::default(),
        &ids,
    )
    .await
    .expect("the log opens");
    println!("open: {:?}", began.elapsed());
    let value = vec![b'x'; batch_bytes as usize];
    let mut builder = BatchBuilder::new();
    builder.append(0, None, Some(&value), &[]).expect("a record");
    let batch = Batch::parse(builder.build().expect("a batch")).expect("our own batch");
    let acknowledged = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + Duration::from_secs(seconds);
    let before = disk.counters();
    let (syncs, written) =
        (before.syncs.load(Ordering::Relaxed), before.bytes_written.load(Ordering::Relaxed));
    let tasks: Vec<_> = (0..producers)
        .map(|producer| {
            let (log, batch, acknowledged) = (log.clone(), batch.clone(), acknowledged.clone());
            let ids: Vec<_> = ids.iter().map(|(id, _)| *id).collect();
            tokio::spawn(async move {
                let mut at = producer as usize;
                let mut first = true;
                while Instant::now() < until {
                    log.room().await;
                    let partition = log.partition(&ids[at % ids.len()]).expect("it was created");
                    let append =
                        partition.append(batch.clone(), AppendOptions::default()).expect("it is taken");
                    append.committed().await.expect("it is durable");
                    if std::mem::take(&mut first) && producer == 0 {
                        println!("first acknowledgement after {:?}", began.elapsed());
                    }
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    at += 1;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a producer");
    }
    let acks = acknowledged.load(Ordering::Relaxed);
    let counters = disk.counters();
    let syncs = counters.syncs.load(Ordering::Relaxed) - syncs;
    let written = counters.bytes_written.load(Ordering::Relaxed) - written;
    let user = acks * batch.bytes.len() as u64;
    println!(
        "{acks} acknowledgements in {seconds} s ({}/s), {syncs} syncs ({:.3} per ack), {:.2} bytes written per byte, {} zero bytes",
        acks / seconds,
        syncs as f64 / acks as f64,
        written as f64 / user as f64,
        counters.bytes_zero_filled.load(Ordering::Relaxed),
    );
    log.close().await;
}
