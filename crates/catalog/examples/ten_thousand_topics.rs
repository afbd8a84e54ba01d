//! Measures the catalog on a real directory: `cargo run --release -p catalog --example ten_thousand_topics -- DIR`.
//! 10,000 topics in one append, 10,000 single appends that wait together, 1,000 one after another, then a start.
#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use protocol::{Str, Uuid};
use world::clock::RealClock;
use world::disk::RealDisk;
use world::rng::RealRng;

fn topic(number: u128) -> MetadataRecord {
    MetadataRecord::CreateTopic {
        id: Uuid::from_u128(number),
        name: Str::from(format!("topic-{number}")),
        partition_count: 1,
        replication_factor: 1,
        configs: Vec::new(),
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("").to_owned();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

async fn open(dir: &str) -> Arc<Catalog> {
    let disk = RealDisk::new();
    let dir = PathBuf::from(dir);
    Catalog::open(disk, dir, RealClock::shared(), RealRng::shared(), CatalogOptions::default()).await.unwrap()
}

#[tokio::main]
async fn main() {
    let dir = std::env::args().nth(1).expect("a directory");
    let started = Instant::now();
    let catalog = open(&dir).await;
    println!("open an empty directory: {:?}", started.elapsed());
    let before = resident_kib();

    let started = Instant::now();
    catalog.append((1..=10_000).map(topic).collect()).await.unwrap();
    println!("10,000 topics in one append: {:?}", started.elapsed());
    println!("memory per topic with one partition: {} bytes", (resident_kib() - before) * 1024 / 10_000);

    let started = Instant::now();
    let appends: Vec<_> = (20_001..=30_000u128)
        .map(|number| {
            let catalog = catalog.clone();
            tokio::spawn(async move { catalog.append(vec![topic(number)]).await })
        })
        .collect();
    for append in appends {
        append.await.unwrap().unwrap();
    }
    println!("10,000 appends that wait together: {:?}", started.elapsed());

    let started = Instant::now();
    for number in 40_001..=41_000 {
        catalog.append(vec![topic(number)]).await.unwrap();
    }
    println!("1,000 appends one after another: {:?}", started.elapsed());
    println!("frames: {}", catalog.read().position());
    catalog.close().await;
    drop(catalog);

    let started = Instant::now();
    let catalog = open(&dir).await;
    println!("start with {} topics: {:?}", catalog.read().topic_count(), started.elapsed());
}
