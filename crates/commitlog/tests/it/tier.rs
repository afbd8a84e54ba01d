//! A log in a directory with a second tier: what was acknowledged is read in order whatever happens to the disk, the bucket and the
//! process, local space comes back, and the bucket holds what the manifest leads to and nothing else.
//!
//! ```text
//!   tier/<log id>/  [ a0 a1 b0 ] [ a2 a3 ]          wal/ … 7 8 (current)
//!                   only in the tier ──▶│ in both │ only here
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::manifest::Shard;
use commitlog::segment::tallies_of;
use commitlog::tier::OffloadError;
use commitlog::{
    CommitLog, Isolation, LogSettings, OpenError, Partition, PartitionSettings, ReadError, ReadRequest,
    TierPolicy,
};
use proptest::prelude::*;
use protocol::{Str, TopicIdPartition, Uuid};
use world::bucket::{
    Bucket, BucketCounters, BucketFuture, Listed, MemBucket, MemBucketFaults, Object, Version,
};
use world::clock::SimClock;
use world::disk::{MemDisk, MemFaults};
use world::rng::SeededRng;
use world::task;

use crate::house::{append, batch, run, small};

/// Goes into the tier, and its neighbour does not.
const TOPIC: Uuid = Uuid([7; 16]);
const OTHER: Uuid = Uuid([9; 16]);
const PARTITIONS: i32 = 3;
const NOW_MS: i64 = 1_700_000_000_000;
/// Faults may take a minute each.
const TRIES_MAX: usize = 400;

fn settings() -> LogSettings {
    LogSettings {
        wal_file_bytes_min: 8 << 10,
        wal_file_bytes_max: 16 << 10,
        wal_retain_bytes: 1 << 30,
        tier_dead_bytes_max: 20 << 10,
        rewrite_bytes_per_second: 0,
        rewrite_job_bytes: 48 << 10,
        segment_own_bytes: 12 << 10,
        segment_bytes_max: 24 << 10,
        // By hand only.
        rewrite_interval: Duration::from_secs(1_000_000),
        tier_probe_wait: Duration::ZERO,
        tier_interval: Duration::from_secs(1_000_000),
        tier_object_bytes: 10 << 10,
        tier_job_bytes: 24 << 10,
        ..small()
    }
}

/// Nothing stays here that the tier has.
fn tiered() -> PartitionSettings {
    let tier = TierPolicy { enabled: true, local_retention_bytes: 0, ..TierPolicy::default() };
    PartitionSettings { delete: true, tier, ..PartitionSettings::default() }
}

struct Home {
    disk: Arc<MemDisk>,
    bucket: MemBucket,
    settings: LogSettings,
    starts: std::cell::Cell<u64>,
}

struct Open {
    log: Arc<CommitLog>,
    catalog: Arc<Catalog>,
    /// Of this process.
    bucket: MemBucket,
}

impl Home {
    fn new(seed: u64) -> Home {
        let (disk, bucket) = (MemDisk::new(seed), MemBucket::new(seed));
        Home { disk, bucket, settings: settings(), starts: std::cell::Cell::new(0) }
    }

    async fn open(&self) -> Result<Open, OpenError> {
        let bucket = self.bucket.client();
        self.open_with(bucket.clone(), Some(Arc::new(bucket))).await
    }

    async fn open_with(&self, client: MemBucket, bucket: Option<Arc<dyn Bucket>>) -> Result<Open, OpenError> {
        let clock = Arc::new(SimClock::new(NOW_MS));
        self.starts.set(self.starts.get() + 1);
        let rng = SeededRng::shared(self.starts.get());
        let root = PathBuf::from("/data");
        let format = |error: String| OpenError::Format { path: "/data/metadata".into(), detail: error };
        let options = CatalogOptions::default();
        let catalog =
            Catalog::open(self.disk.clone(), root.join("metadata"), clock.clone(), rng.clone(), options)
                .await
                .map_err(|error| format(error.to_string()))?;
        for (id, name) in [(TOPIC, "t"), (OTHER, "other")] {
            if catalog.read().topic(name).is_some() || self.starts.get() > 1 && name == "other" {
                continue;
            }
            let topic = MetadataRecord::CreateTopic {
                id,
                name: Str::from(name),
                partition_count: PARTITIONS as u32,
                replication_factor: 1,
                configs: vec![],
            };
            catalog.append(vec![topic]).await.map_err(|error| format(error.to_string()))?;
        }
        let settings = self.settings.clone();
        let log =
            CommitLog::open_tiered(self.disk.clone(), root, clock, rng, settings, catalog.clone(), bucket);
        let open = Open { log: log.await?, catalog, bucket: client };
        open.set(tiered());
        Ok(open)
    }

    fn named(&self, dir: &str) -> Vec<PathBuf> {
        self.disk.files().into_iter().filter(|path| path.starts_with(Path::new("/data").join(dir))).collect()
    }

    fn local_bytes(&self) -> u64 {
        let files = self.named("wal").into_iter().chain(self.named("segments"));
        files.map(|path| self.disk.content(&path).unwrap().len() as u64).sum()
    }

    /// Objects of the tier.
    fn objects(&self) -> BTreeSet<String> {
        self.bucket.objects().into_keys().collect()
    }

    /// Objects that the manifest in the directory leads to.
    fn referenced(&self) -> BTreeSet<String> {
        let Some(log_id) = self.disk.content(Path::new("/data/log.id")) else { return BTreeSet::new() };
        let log_id: [u8; 16] = log_id[10..26].try_into().unwrap();
        let mut referenced = BTreeSet::new();
        for path in self.named("tier") {
            let shard = Shard::decode(&self.disk.content(&path).unwrap()).expect("a manifest object");
            referenced.extend(shard.segments().keys().map(|id| commitlog::segment::tier_key(&log_id, id)));
        }
        referenced
    }

    /// Every object that is led to is there and whole, and there is no other one.
    fn assert_tidy(&self, context: &str) {
        assert_eq!(self.objects(), self.referenced(), "{context}");
        self.assert_whole(context);
        assert!(self.named("tier").len() <= 16, "{context}");
    }

    fn assert_whole(&self, context: &str) {
        let objects = self.bucket.objects();
        for key in self.referenced() {
            let bytes = objects.get(&key).unwrap_or_else(|| panic!("{context}: {key} is missing"));
            tallies_of(bytes).unwrap_or_else(|error| panic!("{context}: {key}: {error}"));
        }
    }
}

impl Open {
    fn partition(&self, topic_id: Uuid, partition: i32) -> Arc<Partition> {
        self.log.partition(&TopicIdPartition { topic_id, partition }).expect("a partition of the catalog")
    }

    fn set(&self, settings: PartitionSettings) {
        for partition in 0..PARTITIONS {
            self.log.update_settings(&TopicIdPartition { topic_id: TOPIC, partition }, settings.clone());
        }
    }

    /// Everything that is due, whatever fails meanwhile.
    async fn offload_all(&self) -> Result<(), OffloadError> {
        for _ in 0..TRIES_MAX {
            match self.log.offload().await {
                Ok(false) => return Ok(()),
                Ok(true) => {}
                Err(
                    error @ (OffloadError::Stopped(_) | OffloadError::Closing | OffloadError::Manifest(_)),
                ) => {
                    return Err(error);
                }
                Err(_) => task::sleep(Duration::from_secs(5)).await,
            }
        }
        panic!("there is always more to do");
    }

    async fn rewrite_all(&self) {
        let mut steps = 0;
        while let Ok(true) = self.log.rewrite().await {
            steps += 1;
            assert!(steps < 1000, "there is always more to do");
        }
    }

    async fn close(self) {
        self.log.close().await;
        self.catalog.close().await;
    }

    fn counter(
        &self,
        counter: impl Fn(&commitlog::tier::TierCounters) -> &std::sync::atomic::AtomicU64,
    ) -> u64 {
        counter(&self.log.tier().expect("opened with a tier").counters).load(Ordering::Relaxed)
    }
}

/// Records that were acknowledged, by topic and partition, and where the first of them may begin now.
#[derive(Clone, Debug, Default)]
struct Told {
    records: Vec<Vec<(i64, String)>>,
    trimmed: Vec<i64>,
}

impl Told {
    fn new() -> Told {
        let count = 2 * PARTITIONS as usize;
        Told { records: vec![Vec::new(); count], trimmed: vec![0; count] }
    }

    fn index(topic: Uuid, partition: i32) -> usize {
        usize::from(topic == OTHER) * PARTITIONS as usize + partition as usize
    }
}

/// Batches of three records, most of them for partition 0.
async fn fill(open: &Open, told: &mut Told, from: usize, count: usize) -> Result<(), String> {
    for i in from..from + count {
        let (topic, index) = match i % 8 {
            0..=3 => (TOPIC, 0),
            4 => (TOPIC, 1),
            5 | 6 => (TOPIC, 2),
            _ => (OTHER, 1),
        };
        let Some(partition) = open.log.partition(&TopicIdPartition { topic_id: topic, partition: index })
        else {
            continue;
        };
        let values: Vec<String> = (0..3).map(|r| format!("{i}/{r}/{}", "x".repeat((i * 37) % 300))).collect();
        let append = append(&partition, batch(&values, None, NOW_MS + i as i64 * 10));
        let append = append.map_err(|error| error.to_string())?;
        let base_offset = append.base_offset;
        append.committed().await.map_err(|error| error.to_string())?;
        told.records[Told::index(topic, index)].extend((base_offset..).zip(values));
    }
    Ok(())
}

/// (offset, value) of the whole partition. A read that the tier has no answer for yet is empty, or an error of the tier, and never
/// says that an offset is out of range.
async fn read_all(partition: &Partition) -> Vec<(i64, String)> {
    let mut out = Vec::new();
    let offsets = partition.offsets();
    let mut offset = offsets.log_start;
    let mut tries = 0;
    while offset < offsets.high_watermark {
        let request = ReadRequest {
            offset,
            max_bytes: 3000,
            min_one_batch: true,
            isolation: Isolation::ReadUncommitted,
        };
        let records = match partition.read(request).await {
            Ok(read) => read.records,
            Err(ReadError::Bucket(_)) => Default::default(),
            Err(error) => panic!("offset {offset} of {}: {error}", partition.id()),
        };
        if records.is_empty() {
            tries += 1;
            assert!(tries < TRIES_MAX, "nothing at offset {offset} below {}", offsets.high_watermark);
            task::sleep(Duration::from_secs(1)).await;
            continue;
        }
        for batch in protocol::batch::split_batches(&records.to_bytes()) {
            let batch = batch.expect("whole batches");
            for record in batch.records(1 << 20) {
                let record = record.expect("a record");
                if record.offset >= offset {
                    assert_eq!(record.offset, offset, "in order, without gaps");
                    let value = String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
                    out.push((offset, value));
                    offset += 1;
                }
            }
        }
    }
    out
}

/// What was told is there, once and in order; beyond it only what was on its way.
async fn assert_kept(open: &Open, told: &Told, context: &str) {
    for topic in [TOPIC, OTHER] {
        for index in 0..PARTITIONS {
            let Some(partition) = open.log.partition(&TopicIdPartition { topic_id: topic, partition: index })
            else {
                continue;
            };
            let at = Told::index(topic, index);
            let found = read_all(&partition).await;
            let start = partition.offsets().log_start;
            assert!(start <= told.trimmed[at], "{context}: {index} begins at {start}");
            let found: std::collections::BTreeMap<i64, String> = found.into_iter().collect();
            for (offset, value) in told.records[at].iter().filter(|(offset, _)| *offset >= start) {
                assert_eq!(found.get(offset), Some(value), "{context}: {index}@{offset}");
            }
        }
    }
}

#[test]
fn old_offsets_are_read_from_the_tier_and_local_space_comes_back() {
    run(1, async {
        let home = Home::new(1);
        let open = home.open().await.unwrap();
        let mut told = Told::new();
        fill(&open, &mut told, 0, 300).await.unwrap();
        let before = home.local_bytes();
        let (size, times): (u64, Vec<i64>) =
            (open.partition(TOPIC, 0).size_bytes(), (0..320).map(|i| NOW_MS + i * 10 + 1).collect());
        let mut found_before = Vec::new();
        for time in &times {
            found_before.push(open.partition(TOPIC, 1).offset_for_timestamp(*time).await.unwrap());
        }
        let latest = open.partition(TOPIC, 1).max_timestamp().await.unwrap();
        assert!(open.log.offload().await.unwrap());
        assert!(open.counter(|tier| &tier.lag_bytes) > 0, "more than one job's worth waited");
        open.offload_all().await.unwrap();
        assert_eq!(open.counter(|tier| &tier.lag_bytes), 0);
        assert_eq!(open.counter(|tier| &tier.lag_segments), 0);

        let partition = open.partition(TOPIC, 0);
        let offsets = partition.tiered_offsets();
        assert!(offsets.local_start > partition.offsets().log_start);
        assert_eq!(offsets.tiered_end, Some(offsets.local_start), "nothing stays that the tier has");
        assert!(partition.size_bytes() + partition.only_tiered_bytes() == size, "no byte is counted twice");
        assert!(partition.size_bytes() < 20_000, "{}", partition.size_bytes());
        home.assert_tidy("offloaded");
        assert_kept(&open, &told, "offloaded").await;
        for (time, before) in times.iter().zip(found_before) {
            assert_eq!(open.partition(TOPIC, 1).offset_for_timestamp(*time).await.unwrap(), before, "{time}");
        }
        assert_eq!(open.partition(TOPIC, 1).max_timestamp().await.unwrap(), latest);
        // The neighbour's data stays here; what the files hold besides goes when they are rewritten.
        assert_eq!(open.partition(OTHER, 1).tiered_offsets().tiered_end, None);
        open.rewrite_all().await;
        fill(&open, &mut told, 300, 40).await.unwrap();
        open.rewrite_all().await;
        fill(&open, &mut told, 340, 40).await.unwrap();
        assert!(home.local_bytes() < before / 2, "{} of {before} bytes stay", home.local_bytes());

        open.close().await;
        let lists = home.bucket.counters().lists.load(Ordering::Relaxed);
        let open = home.open().await.unwrap();
        assert_eq!(
            home.bucket.counters().lists.load(Ordering::Relaxed),
            lists,
            "a start asks the bucket nothing"
        );
        assert_eq!(open.bucket.counters().gets.load(Ordering::Relaxed), 0);
        assert_eq!(open.partition(TOPIC, 0).tiered_offsets(), offsets);
        assert_kept(&open, &told, "the second start").await;
        open.close().await;
    });
}

#[test]
fn what_is_trimmed_deleted_or_expired_leaves_the_bucket() {
    run(2, async {
        let home = Home::new(2);
        let open = home.open().await.unwrap();
        let mut told = Told::new();
        fill(&open, &mut told, 0, 300).await.unwrap();
        open.offload_all().await.unwrap();
        let objects = home.objects().len();
        // DeleteRecords into the tiered part.
        let partition = open.partition(TOPIC, 0);
        let before = partition.tiered_offsets().tiered_end.unwrap() / 2;
        assert_eq!(partition.delete_records(before).await.unwrap(), before);
        told.trimmed[0] = before;
        open.offload_all().await.unwrap();
        home.assert_tidy("trimmed");
        assert!(home.objects().len() < objects);
        assert_kept(&open, &told, "trimmed").await;
        let live = open.counter(|tier| &tier.live_bytes);
        let all: u64 = home.bucket.objects().values().map(|bytes| bytes.len() as u64).sum();
        assert!(all < live * 3, "{live} bytes are read of {all}: what is mostly dead is copied anew");
        // Retention by size counts both parts.
        let size = partition.size_bytes() + partition.only_tiered_bytes();
        open.set(PartitionSettings { retention_bytes: size as i64 / 2, ..tiered() });
        task::sleep(home.settings.housekeeping_interval * 2).await;
        let kept = partition.size_bytes() + partition.only_tiered_bytes();
        assert!(kept < size * 3 / 4 && kept >= size / 2, "{kept} of {size}");
        for index in 0..PARTITIONS {
            told.trimmed[index as usize] = open.partition(TOPIC, index).offsets().log_start;
        }
        open.offload_all().await.unwrap();
        home.assert_tidy("expired");
        assert_kept(&open, &told, "expired").await;
        // The topic goes.
        open.catalog.append(vec![MetadataRecord::DeleteTopic { id: TOPIC }]).await.unwrap();
        open.log.remove_partitions(TOPIC).await;
        open.offload_all().await.unwrap();
        assert_eq!(home.objects(), BTreeSet::new());
        home.assert_tidy("deleted");
        assert_kept(&open, &told, "deleted").await;
        open.close().await;
    });
}

#[test]
fn a_topic_that_leaves_the_tier_begins_with_what_lies_here() {
    run(3, async {
        let home = Home::new(3);
        let open = home.open().await.unwrap();
        let mut told = Told::new();
        fill(&open, &mut told, 0, 200).await.unwrap();
        open.offload_all().await.unwrap();
        // Read only: nothing is added, nothing goes.
        let mut policy = tiered();
        policy.tier.copies = false;
        open.set(policy.clone());
        let objects = home.objects();
        fill(&open, &mut told, 200, 100).await.unwrap();
        open.offload_all().await.unwrap();
        assert_eq!(home.objects(), objects);
        assert_kept(&open, &told, "read only").await;
        // Switched off without the flag (a catalog that was written before it was checked): nothing is lost.
        policy.tier.enabled = false;
        open.set(policy.clone());
        open.offload_all().await.unwrap();
        assert_eq!(home.objects(), objects);
        policy.tier.delete_on_disable = true;
        open.set(policy);
        let starts: Vec<i64> =
            (0..PARTITIONS).map(|index| open.partition(TOPIC, index).tiered_offsets().local_start).collect();
        open.offload_all().await.unwrap();
        assert_eq!(home.objects(), BTreeSet::new());
        for (index, start) in starts.into_iter().enumerate() {
            assert_eq!(open.partition(TOPIC, index as i32).offsets().log_start, start);
            told.trimmed[index] = start;
        }
        assert_kept(&open, &told, "off").await;
        open.close().await;
        let open = home.open().await.unwrap();
        assert_kept(&open, &told, "off, restarted").await;
        open.close().await;
    });
}

#[test]
fn a_tier_that_is_away_costs_local_space_and_nothing_else() {
    run(4, async {
        let home = Home::new(4);
        let open = home.open().await.unwrap();
        let mut told = Told::new();
        fill(&open, &mut told, 0, 150).await.unwrap();
        open.offload_all().await.unwrap();
        home.bucket.set_out(true);
        let partition = open.partition(TOPIC, 0);
        let local = partition.tiered_offsets().local_start;
        fill(&open, &mut told, 150, 150).await.expect("what is acknowledged is here");
        let size = partition.size_bytes();
        for _ in 0..3 {
            assert!(open.log.offload().await.is_err());
        }
        assert_eq!(partition.size_bytes(), size, "nothing goes that is not there as well");
        assert!(open.counter(|tier| &tier.errors) == 3 && open.counter(|tier| &tier.lag_bytes) > 0);
        assert!(open.counter(|tier| &tier.lag_ms) > 0);
        let request = |offset| ReadRequest {
            offset,
            max_bytes: 1000,
            min_one_batch: true,
            isolation: Isolation::ReadUncommitted,
        };
        let began = task::now();
        match partition.read(request(0)).await {
            Ok(read) => assert!(read.records.is_empty()),
            Err(ReadError::Bucket(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(
            task::now() - began <= home.settings.tier_read_wait * 2,
            "a reader waits so long and no longer"
        );
        let found = partition.offset_for_timestamp(NOW_MS).await;
        assert!(matches!(found, Err(ReadError::NotYet | ReadError::Bucket(_))), "{found:?}");
        let read = partition.read(request(local)).await.expect("what lies here is read");
        assert!(!read.records.is_empty());
        // It does not keep the log from being closed, nor from being opened.
        open.close().await;
        let open = home.open().await.unwrap();
        assert!(!open.partition(TOPIC, 0).read(request(local)).await.unwrap().records.is_empty());
        home.bucket.set_out(false);
        task::sleep(Duration::from_secs(60)).await;
        open.offload_all().await.unwrap();
        home.assert_tidy("back");
        assert_kept(&open, &told, "back").await;
        open.close().await;
    });
}

#[test]
fn a_log_that_has_something_there_is_not_opened_without_its_tier() {
    run(5, async {
        let home = Home::new(5);
        let open = home.open().await.unwrap();
        let mut told = Told::new();
        fill(&open, &mut told, 0, 100).await.unwrap();
        open.close().await;
        let without = home.open_with(home.bucket.client(), None).await.unwrap();
        assert_kept(&without, &told, "nothing is there yet").await;
        assert!(!without.log.offload().await.unwrap());
        without.close().await;
        let open = home.open().await.unwrap();
        open.offload_all().await.unwrap();
        open.close().await;
        let refused = home.open_with(home.bucket.client(), None).await;
        assert!(matches!(refused, Err(OpenError::NoTier)));
        // When nothing of it is needed any more, it may go.
        let open = home.open().await.unwrap();
        for index in 0..PARTITIONS {
            let partition = open.partition(TOPIC, index);
            told.trimmed[index as usize] = partition.delete_records(-1).await.unwrap();
        }
        open.offload_all().await.unwrap();
        assert_eq!(home.objects(), BTreeSet::new());
        open.close().await;
        let without = home.open_with(home.bucket.client(), None).await.unwrap();
        assert_kept(&without, &told, "nothing is there any more").await;
        without.close().await;
    });
}

/// A store that takes the header of a conditional write and ignores it.
struct Careless(MemBucket);

impl Bucket for Careless {
    fn create(&self, key: &str, bytes: bytes::Bytes) -> BucketFuture<Version> {
        self.0.put(key, bytes)
    }
    fn replace(&self, key: &str, bytes: bytes::Bytes, _: &Version) -> BucketFuture<Version> {
        self.0.put(key, bytes)
    }
    fn put(&self, key: &str, bytes: bytes::Bytes) -> BucketFuture<Version> {
        self.0.put(key, bytes)
    }
    fn get(&self, key: &str) -> BucketFuture<Option<Object>> {
        self.0.get(key)
    }
    fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> BucketFuture<Option<bytes::Bytes>> {
        self.0.get_range(key, range)
    }
    fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> BucketFuture<Vec<Listed>> {
        self.0.list(prefix, after, max)
    }
    fn delete(&self, key: &str) -> BucketFuture<()> {
        self.0.delete(key)
    }
    fn counters(&self) -> Arc<BucketCounters> {
        self.0.counters()
    }
}

#[test]
fn a_store_that_does_not_keep_its_promises_gets_nothing() {
    run(6, async {
        let home = Home::new(6);
        let client = home.bucket.client();
        let open = home.open_with(client.clone(), Some(Arc::new(Careless(client)))).await.unwrap();
        let mut told = Told::new();
        fill(&open, &mut told, 0, 150).await.unwrap();
        assert!(matches!(open.offload_all().await, Err(OffloadError::Stopped(_))));
        assert_eq!(home.objects(), BTreeSet::new());
        assert_eq!(open.partition(TOPIC, 0).tiered_offsets().tiered_end, None);
        assert_kept(&open, &told, "not used").await;
        open.close().await;
        // A start says so at once, if it may wait for it.
        let home =
            Home { settings: LogSettings { tier_probe_wait: Duration::from_secs(5), ..settings() }, ..home };
        let client = home.bucket.client();
        let refused = home.open_with(client.clone(), Some(Arc::new(Careless(client)))).await;
        assert!(matches!(refused, Err(OpenError::Tier(_))));
        assert!(home.open().await.is_ok());
    });
}

#[test]
fn an_object_that_is_gone_or_damaged_is_said_to_be_so() {
    run(7, async {
        let home = Home::new(7);
        let open = home.open().await.unwrap();
        let mut told = Told::new();
        fill(&open, &mut told, 0, 200).await.unwrap();
        open.offload_all().await.unwrap();
        let objects = home.bucket.objects();
        for (number, (key, bytes)) in objects.iter().enumerate() {
            match number % 2 {
                0 => home.bucket.delete(key).await.unwrap(),
                _ => {
                    let mut damaged = bytes.to_vec();
                    damaged.iter_mut().skip(200).step_by(50).for_each(|byte| *byte ^= 0x10);
                    home.bucket.put(key, damaged.into()).await.map(drop).unwrap();
                }
            }
        }
        let request = ReadRequest {
            offset: 0,
            max_bytes: 1000,
            min_one_batch: true,
            isolation: Isolation::ReadUncommitted,
        };
        for _ in 0..2 {
            let read = open.partition(TOPIC, 0).read(request).await;
            assert!(matches!(read, Err(ReadError::Damaged { .. })), "{read:?}");
        }
        // Whoever puts it back finds everything again.
        for (key, bytes) in objects {
            home.bucket.put(&key, bytes).await.unwrap();
        }
        assert_kept(&open, &told, "put back").await;
        open.close().await;
    });
}

/// Traffic, copying, rewriting, trimming, more of each. Stops at the first error.
async fn story(home: &Home, told: &mut Told) -> Result<(), String> {
    let open = home.open().await.map_err(|error| error.to_string())?;
    let result = tell(&open, told).await;
    match result {
        Ok(()) => open.close().await,
        // The process is dead, and what it asked for may still happen.
        Err(_) => open.bucket.kill(),
    }
    result
}

async fn tell(open: &Open, told: &mut Told) -> Result<(), String> {
    for round in 0..3 {
        fill(open, told, round * 40, 40).await?;
        open.offload_all().await.map_err(|error| error.to_string())?;
        if round == 1 {
            open.rewrite_all().await;
        }
        let partition = open.partition(TOPIC, 0);
        told.trimmed[0] = partition.offsets().high_watermark / 2;
        partition.delete_records(told.trimmed[0]).await.map_err(|error| error.to_string())?;
        open.offload_all().await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// After everything: the bucket is well again and what was late has come, a new process tidies up.
async fn settle(home: &Home, told: &Told, context: &str) {
    home.bucket.set_out(false);
    home.bucket.set_faults(MemBucketFaults::default());
    task::sleep(Duration::from_secs(200)).await;
    let open = match home.open().await {
        Ok(open) => open,
        Err(error) => panic!("{context}: no start: {error}"),
    };
    // Manifest objects that the catalog does not lead to went with the start.
    home.assert_whole(context);
    assert_kept(&open, told, context).await;
    open.offload_all().await.unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_kept(&open, told, context).await;
    home.assert_tidy(context);
    let mut told = told.clone();
    fill(&open, &mut told, 1000, 60).await.unwrap();
    open.offload_all().await.unwrap();
    open.rewrite_all().await;
    open.close().await;
    let open = home.open().await.unwrap();
    assert_kept(&open, &told, context).await;
    for index in 0..PARTITIONS {
        let (size, at) =
            (open.partition(TOPIC, index).size_bytes(), open.partition(TOPIC, index).tiered_offsets());
        assert!(size < 40_000, "{context}: {size} bytes of {index} stay here: {at:?}");
    }
    open.close().await;
    home.assert_tidy(context);
}

#[test]
fn power_cut_at_every_step_loses_nothing_and_leaves_nothing_behind() {
    let changes = run(1, async {
        let home = Home::new(1);
        story(&home, &mut Told::new()).await.unwrap();
        assert!(home.objects().len() > 2);
        home.disk.changes()
    });
    assert!(changes > 300, "the story makes {changes} changes only");
    let mut with_tier = 0;
    for step in 1..=changes {
        run(1, async {
            let home = Home::new(1);
            home.disk.set_faults(MemFaults { power_lost_at: Some(step), ..MemFaults::default() });
            let mut told = Told::new();
            let _ = story(&home, &mut told).await;
            task::sleep(Duration::from_secs(60)).await;
            match step % 2 {
                0 => home.disk.kill(),
                _ => home.disk.crash(step),
            }
            home.disk.set_faults(MemFaults::default());
            with_tier += u64::from(!home.objects().is_empty());
            settle(&home, &told, &format!("step {step}")).await;
        });
    }
    assert!(with_tier > changes / 3, "{with_tier} of {changes}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Lost requests and answers, late and repeated ones, 409, 412, 503, outages, and a death at some time.
    #[test]
    fn nothing_that_goes_wrong_with_bucket_or_process_is_noticed(
        seed in 0..1_000_000u64,
        dies_after_ms in prop::option::of(0..200_000u64),
        outage in prop::option::of((0..100_000u64, 1_000..100_000u64)),
    ) {
        run(seed, async {
            let home = Home::new(seed);
            home.bucket.set_faults(MemBucketFaults::all());
            let mut told = Told::new();
            let open = home.open().await.unwrap();
            let bucket = home.bucket.clone();
            let outages = async move {
                if let Some((from, len)) = outage {
                    task::sleep(Duration::from_millis(from)).await;
                    bucket.set_out(true);
                    task::sleep(Duration::from_millis(len)).await;
                    bucket.set_out(false);
                }
            };
            let living = async {
                let told = tell(&open, &mut told).await;
                told.expect("the disk is well, and the bucket comes back");
            };
            let lifetime = Duration::from_millis(dies_after_ms.unwrap_or(u64::from(u32::MAX)));
            let (_, lived) = tokio::join!(outages, task::timeout(lifetime, living));
            match lived {
                Ok(()) => {
                    assert_kept(&open, &told, "alive").await;
                    open.close().await;
                }
                Err(_) => {
                    open.bucket.kill();
                    drop(open);
                    task::sleep(Duration::from_secs(60)).await;
                    home.disk.kill();
                }
            }
            settle(&home, &told, &format!("seed {seed}")).await;
        });
    }
}

#[test]
fn the_same_seed_copies_the_same_bytes() {
    let trace = |seed| {
        run(seed, async {
            let home = Home::new(seed);
            home.bucket.set_faults(MemBucketFaults::all());
            story(&home, &mut Told::new()).await.unwrap();
            (home.disk.trace_hash(), home.bucket.trace_hash())
        })
    };
    assert_eq!(trace(5), trace(5));
}

/// In how many of these cuts does the story find that something is wrong?
fn caught(rule: &'static str, cuts: impl Iterator<Item = u64>) -> usize {
    let is_caught = |cut_at: &u64| {
        let cut_at = *cut_at;
        let told = std::panic::catch_unwind(|| {
            run(1, async {
                world::broken::set(Some(rule));
                let home = Home::new(1);
                home.disk.set_faults(MemFaults { power_lost_at: Some(cut_at), ..MemFaults::default() });
                let mut told = Told::new();
                let _ = story(&home, &mut told).await;
                task::sleep(Duration::from_secs(60)).await;
                world::broken::set(None);
                home.disk.crash(cut_at);
                home.disk.set_faults(MemFaults::default());
                settle(&home, &told, "broken on purpose").await;
            });
        });
        world::broken::set(None);
        told.is_err()
    };
    cuts.filter(is_caught).count()
}

#[test]
fn what_is_removed_before_the_catalog_says_so_is_missed() {
    assert_eq!(caught("no rule", (100..600).step_by(100)), 0);
    assert!(caught("tier-object-before-record", (20..1000).step_by(5)) > 0);
}

#[test]
fn what_is_let_go_before_it_is_copied_is_missed() {
    assert!(caught("tier-drop-uncopied", (100..1000).step_by(50)) > 5);
}

#[test]
fn a_copy_that_nobody_looked_for_is_missed() {
    let story = |rule| {
        std::panic::catch_unwind(|| {
            run(8, async {
                world::broken::set(rule);
                let home = Home::new(8);
                let open = home.open().await.unwrap();
                let mut told = Told::new();
                fill(&open, &mut told, 0, 100).await.unwrap();
                open.offload_all().await.unwrap();
                fill(&open, &mut told, 100, 100).await.unwrap();
                home.bucket.set_out(true);
                let _ = open.log.offload().await;
                home.bucket.set_out(false);
                open.offload_all().await.unwrap();
                home.assert_whole("after an outage");
                assert_kept(&open, &told, "after an outage").await;
            });
        })
    };
    assert!(story(None).is_ok());
    let broken = story(Some("tier-unproven-copy"));
    world::broken::set(None);
    assert!(broken.is_err());
}
