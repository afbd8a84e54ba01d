//! A log on a seeded disk, opened as a broker opens it.

use std::path::PathBuf;
use std::sync::Arc;

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::{
    Append, AppendError, AppendOptions, CommitLog, Isolation, LogSettings, OpenError, Partition, ReadRequest,
};
use protocol::batch::{Batch, BatchBuilder};
use protocol::{Str, TopicIdPartition, Uuid};
use world::clock::SimClock;
use world::disk::MemDisk;
use world::rng::SeededRng;

pub const TOPIC: Uuid = Uuid([7; 16]);

pub struct House {
    pub disk: Arc<MemDisk>,
    pub settings: LogSettings,
    /// Each start is an incarnation of its own.
    starts: std::cell::Cell<u64>,
}

/// Small files and chunks, so that a short run passes every kind of place.
pub fn small() -> LogSettings {
    LogSettings {
        wal_file_bytes_min: 16 << 10,
        wal_file_bytes_max: 64 << 10,
        chunk_bytes_max: 4 << 10,
        tail_bytes_max: 8 << 10,
        cold_bytes_max: 4 << 10,
        checkpoint_bytes: 24 << 10,
        reserve_bytes: 0,
        ..LogSettings::default()
    }
}

impl House {
    pub fn new(seed: u64, settings: LogSettings) -> House {
        House { disk: MemDisk::new(seed), settings, starts: std::cell::Cell::new(0) }
    }

    pub async fn open(&self) -> Result<Arc<CommitLog>, OpenError> {
        let clock = Arc::new(SimClock::new(1_700_000_000_000));
        self.starts.set(self.starts.get() + 1);
        let rng = SeededRng::shared(self.starts.get());
        let root = PathBuf::from("/data");
        let options = CatalogOptions::default();
        let catalog =
            Catalog::open(self.disk.clone(), root.join("meta"), clock.clone(), rng.clone(), options);
        let catalog = match catalog.await {
            Ok(catalog) => catalog,
            Err(error) => {
                return Err(OpenError::Format { path: root.join("meta"), detail: error.to_string() });
            }
        };
        if catalog.read().topic("t").is_none() {
            let topic = MetadataRecord::CreateTopic {
                id: TOPIC,
                name: Str::from("t"),
                partition_count: 3,
                replication_factor: 1,
                configs: vec![],
            };
            let created = catalog.append(vec![topic]).await;
            if let Err(error) = created {
                return Err(OpenError::Format { path: root.join("meta"), detail: error.to_string() });
            }
        }
        let log =
            CommitLog::open(self.disk.clone(), root, clock, rng, self.settings.clone(), catalog.clone())
                .await;
        catalog.close().await;
        log
    }
}

pub fn partition(log: &CommitLog, index: i32) -> Arc<Partition> {
    log.partition(&TopicIdPartition { topic_id: TOPIC, partition: index })
        .expect("the topic has three partitions")
}

/// One batch with these values; `producer` is (id, epoch, first sequence).
pub fn batch(values: &[String], producer: Option<(i64, i16, i32)>, timestamp: i64) -> Batch {
    let mut builder = BatchBuilder::new();
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(id, epoch, sequence);
    }
    for (i, value) in values.iter().enumerate() {
        builder.append(timestamp + i as i64, None, Some(value.as_bytes()), &[]).expect("a record");
    }
    Batch::parse(builder.build().expect("a batch")).expect("our own batch")
}

pub fn append(partition: &Arc<Partition>, batch: Batch) -> Result<Append, AppendError> {
    partition.append(batch, AppendOptions { leader_epoch: 0, ..Default::default() })
}

/// (offset, value) of the whole partition, read in steps of at most `step` bytes.
pub async fn read_all(partition: &Partition, step: usize) -> Vec<(i64, String)> {
    let mut out = Vec::new();
    let offsets = partition.offsets();
    let mut offset = offsets.log_start;
    while offset < offsets.high_watermark {
        let request = ReadRequest {
            offset,
            max_bytes: step,
            min_one_batch: true,
            isolation: Isolation::ReadUncommitted,
        };
        let read = partition.read(request).await.expect("readable");
        assert!(!read.records.is_empty(), "nothing at offset {offset} below {}", offsets.high_watermark);
        for batch in protocol::batch::split_batches(&read.records.to_bytes()) {
            let batch = batch.expect("whole batches");
            batch.verify_crc().expect("a good checksum");
            for record in batch.records(1 << 20) {
                let record = record.expect("a record");
                if record.offset >= offset {
                    assert_eq!(record.offset, offset);
                    out.push((
                        offset,
                        String::from_utf8(record.value.expect("a value").to_vec()).expect("text"),
                    ));
                    offset += 1;
                }
            }
        }
    }
    out
}

pub fn run<T>(seed: u64, story: impl Future<Output = T>) -> T {
    world::task::deterministic(seed);
    world::task::paused_runtime().block_on(story)
}
