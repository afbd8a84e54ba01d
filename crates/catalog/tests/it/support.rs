//! A small world for the stories: a disk in memory, a seed, paused time.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::{Catalog, CatalogOpenError, CatalogOptions, MetadataRecord, ResourceType};
use protocol::{Str, Uuid};
use world::clock::ManualClock;
use world::disk::MemDisk;
use world::rng::SeededRng;

pub const DIR: &str = "/data/metadata";

pub fn log_path() -> PathBuf {
    Path::new(DIR).join("metadata.log")
}

pub fn run<F: Future>(future: F) -> F::Output {
    world::task::deterministic(1);
    world::task::paused_runtime().block_on(future)
}

pub async fn open_with(
    disk: &Arc<MemDisk>,
    options: CatalogOptions,
) -> Result<Arc<Catalog>, CatalogOpenError> {
    // Incarnations must differ from start to start; the disk's own history is as good a seed as any.
    let rng = Arc::new(SeededRng::new(disk.trace_hash()));
    Catalog::open(disk.clone(), PathBuf::from(DIR), Arc::new(ManualClock::new(0)), rng, options).await
}

pub async fn open(disk: &Arc<MemDisk>) -> Arc<Catalog> {
    open_with(disk, CatalogOptions::default()).await.expect("the catalog opens")
}

pub fn topic(number: u128, name: &str, partitions: u32) -> MetadataRecord {
    MetadataRecord::CreateTopic {
        id: Uuid::from_u128(number),
        name: Str::from(name),
        partition_count: partitions,
        replication_factor: 1,
        configs: Vec::new(),
    }
}

pub fn set_config(topic: &str, key: &str, value: Option<&str>) -> MetadataRecord {
    MetadataRecord::SetConfigs {
        resource_type: ResourceType::Topic,
        resource_name: Str::from(topic),
        changes: vec![(Str::from(key), value.map(Str::from))],
    }
}
