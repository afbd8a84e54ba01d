//! Log compaction against a plain list of everything that was ever appended: whatever the log goes through, of each key the newest
//! record is there, nothing older comes back, nothing of an aborted transaction is ever visible, and offsets stay what they were.
//!
//! ```text
//!   a1 b1 a2 [c1 b2 C] a- …      keys, tombstones (-), transactions; rounds of any size, restarts, deaths and trims in between
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::bucket::Named;
use commitlog::container::SectionKind;
use commitlog::manifest::Shard;
use commitlog::segment::{decode_runs, fuzz_segment};
use commitlog::{
    AppendOptions, CommitLog, CompactionLimits, CompactionPolicy, EndTransaction, Isolation, LogSettings,
    OpenError, Partition, PartitionSettings, ReadRequest,
};
use protocol::batch::{Batch, BatchBuilder, ControlRecord, Header, Record, split_batches};
use protocol::compression::Compression;
use protocol::{Str, TopicIdPartition};
use world::bucket::{Bucket, MemBucket};
use world::clock::SimClock;
use world::disk::{MemDisk, MemFaults};
use world::rng::{Rng, SeededRng};
use world::{broken, task};

use crate::bucket_merge::{self, Node, Trouble, audited, rewrite};
use crate::house::{TOPIC, append, partition, run, small};

const NOW_MS: i64 = 1_700_000_000_000;
const DELETE_RETENTION_MS: i64 = 5_000;
const PRODUCERS: u64 = 3;
const KEYS: u64 = 9;
const CODECS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

enum Home {
    Directory(Arc<MemDisk>),
    Bucket(MemBucket),
}

struct Open {
    log: Arc<CommitLog>,
    catalog: Arc<Catalog>,
    client: Option<MemBucket>,
    clock: Arc<SimClock>,
}

fn id() -> TopicIdPartition {
    TopicIdPartition::new(TOPIC, 0)
}

fn settings(limits: CompactionLimits) -> LogSettings {
    LogSettings {
        // WAL files go on the way, and are not rewritten before they have to be.
        wal_retain_bytes: 24 << 10,
        rewrite_bytes_per_second: 0,
        // By hand.
        rewrite_interval: Duration::from_secs(1_000_000),
        segment_own_bytes: 8 << 10,
        segment_bytes_max: 6 << 10,
        rewrite_job_bytes: 8 << 10,
        bucket_rewrite_slots: 3,
        bucket_segment_bytes: 24 << 10,
        bucket_merge_segments: 3,
        bucket_merge_interval: Duration::ZERO,
        bucket_replaced_keep: Duration::ZERO,
        puts_per_second: 100,
        linger: Duration::from_millis(5),
        compaction: limits,
        ..small()
    }
}

/// A table of a few keys, or of all; little read at a time.
fn limits(rng: &SeededRng) -> CompactionLimits {
    CompactionLimits {
        keys_bytes_max: [24 * 5, 24 * 9, 1 << 20][rng.below(3) as usize],
        read_bytes: [1, 700, 1 << 20][rng.below(3) as usize],
        backoff: Duration::ZERO,
        ..CompactionLimits::default()
    }
}

fn compacted() -> PartitionSettings {
    let compaction = CompactionPolicy {
        enabled: true,
        delete_retention_ms: DELETE_RETENTION_MS,
        dirty_ratio_min: 0.0,
        segment_ms: 100,
        ..CompactionPolicy::default()
    };
    PartitionSettings { compaction, ..PartitionSettings::default() }
}

impl Home {
    async fn open(&self, rng: &SeededRng, clock: &Arc<SimClock>) -> Open {
        self.try_open(rng, clock, 1).await.expect("it opens")
    }

    async fn try_open(
        &self,
        rng: &SeededRng,
        clock: &Arc<SimClock>,
        node_id: i32,
    ) -> Result<Open, OpenError> {
        let clock = clock.clone();
        let own = SeededRng::shared(rng.below(u64::MAX));
        let settings = settings(limits(rng));
        let format = |error: String| OpenError::Format { path: "/".into(), detail: error };
        let (log, catalog, client) = match self {
            Home::Directory(disk) => {
                let root = PathBuf::from("/data");
                let options = CatalogOptions::default();
                let catalog =
                    Catalog::open(disk.clone(), root.join("meta"), clock.clone(), own.clone(), options)
                        .await
                        .map_err(|error| format(error.to_string()))?;
                create_topic(&catalog).await.map_err(format)?;
                let log = CommitLog::open(disk.clone(), root, clock.clone(), own, settings, catalog.clone());
                (log.await?, catalog, None)
            }
            Home::Bucket(store) => {
                let client = store.client();
                let shared: Arc<dyn Bucket> = Arc::new(client.clone());
                let options = CatalogOptions {
                    node_id: Some(node_id),
                    lease_ttl: Duration::ZERO,
                    ..CatalogOptions::default()
                };
                let catalog = Catalog::open_bucket(shared.clone(), own.clone(), options)
                    .await
                    .map_err(|error| format(error.to_string()))?;
                let log =
                    CommitLog::open_bucket(shared, clock.clone(), own, settings, catalog.clone()).await?;
                create_topic(&catalog).await.map_err(format)?;
                (log, catalog, Some(client))
            }
        };
        if node_id == 1 {
            log.create_partitions(&[(id(), compacted())]);
        }
        Ok(Open { log, catalog, client, clock })
    }

    /// Dies, or ends in order.
    async fn end(&self, open: Open, dies: bool) {
        if dies {
            if let Some(client) = &open.client {
                client.kill();
            }
            drop(open.log);
            open.catalog.close().await;
            if let Home::Directory(disk) = self {
                disk.kill();
            }
            return;
        }
        open.log.close().await;
        open.catalog.close().await;
    }
}

async fn create_topic(catalog: &Catalog) -> Result<(), String> {
    if catalog.read().topic("t").is_some() {
        return Ok(());
    }
    let topic = MetadataRecord::CreateTopic {
        id: TOPIC,
        name: Str::from("t"),
        partition_count: 1,
        replication_factor: 1,
        configs: vec![],
    };
    catalog.append(vec![topic]).await.map(drop).map_err(|error| error.to_string())
}

impl Open {
    fn partition(&self) -> Arc<Partition> {
        self.log.partition(&id()).expect("the topic has one")
    }

    async fn rewrite_all(&self) -> Result<(), commitlog::RewriteError> {
        for _ in 0..1000 {
            if !self.log.rewrite().await? {
                return Ok(());
            }
        }
        panic!("there is always more to do");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

#[derive(Clone, Debug)]
struct Line {
    record: Record,
    /// None: it belongs to no transaction.
    transaction: Option<usize>,
}

/// The plain list.
#[derive(Default)]
struct Model {
    /// By offset. Without markers.
    lines: BTreeMap<i64, Line>,
    /// Producer, first offset, fate.
    transactions: Vec<(i64, i64, Fate)>,
    end: i64,
    log_start: i64,
    epochs: Vec<(i32, i64)>,
}

impl Model {
    fn open(&self, producer: i64) -> Option<usize> {
        self.transactions.iter().position(|known| known.0 == producer && known.2 == Fate::Open)
    }

    fn last_stable(&self) -> i64 {
        let open = self.transactions.iter().filter(|known| known.2 == Fate::Open).map(|known| known.1);
        open.min().map_or(self.end, |first| first.max(self.log_start))
    }

    fn fate(&self, line: &Line) -> Fate {
        line.transaction.map_or(Fate::Committed, |transaction| self.transactions[transaction].2)
    }

    /// Newest offsets by key, of committed records below an offset.
    fn newest_below(&self, end: i64) -> BTreeMap<bytes::Bytes, i64> {
        let committed = self.lines.range(..end).filter(|(_, line)| self.fate(line) == Fate::Committed);
        committed.filter_map(|(offset, line)| Some((line.record.key.clone()?, *offset))).collect()
    }
}

/// Everything that is readable, batch by batch.
async fn batches(
    partition: &Partition,
    isolation: Isolation,
    max_bytes: usize,
) -> (Vec<Batch>, BTreeSet<(i64, i64)>) {
    let (mut all, mut aborted) = (Vec::new(), BTreeSet::new());
    let offsets = partition.offsets();
    let end = match isolation {
        Isolation::ReadUncommitted => offsets.high_watermark,
        Isolation::ReadCommitted => offsets.last_stable,
    };
    let mut offset = offsets.log_start;
    while offset < end {
        let request = ReadRequest { offset, max_bytes, min_one_batch: true, isolation };
        let read = partition.read(request).await.expect("readable");
        assert!(!read.records.is_empty(), "nothing at {offset} below {end}");
        aborted.extend(read.aborted.iter().map(|aborted| (aborted.first_offset, aborted.producer_id)));
        for batch in split_batches(&read.records.to_bytes()) {
            let batch = batch.expect("whole batches");
            batch.verify_crc().expect("a good checksum");
            assert!(batch.header.last_offset() >= offset, "{:?} for {offset}", batch.header);
            offset = batch.header.next_offset();
            all.push(batch);
        }
    }
    (all, aborted)
}

fn records_of(batch: &Batch) -> Vec<Record> {
    batch.records(1 << 20).map(|record| record.expect("a record")).collect()
}

/// As Kafka's consumers do it.
fn committed(batches: &[Batch], aborted: &BTreeSet<(i64, i64)>, log_start: i64) -> Vec<Record> {
    let mut waiting: Vec<(i64, i64)> = aborted.iter().rev().copied().collect();
    let mut skipped = BTreeSet::new();
    let mut records = Vec::new();
    for batch in batches {
        while waiting.last().is_some_and(|(first, _)| *first <= batch.header.last_offset()) {
            skipped.insert(waiting.pop().expect("one is there").1);
        }
        let producer = batch.header.producer_id;
        if batch.header.is_control() {
            let record = records_of(batch).into_iter().next();
            let control =
                record.and_then(|record| ControlRecord::parse(&record.key?, record.value.as_deref()));
            if matches!(control, Some(ControlRecord::Abort { .. })) {
                skipped.remove(&producer);
            }
            continue;
        }
        if !(batch.header.is_transactional() && skipped.contains(&producer)) {
            records.extend(records_of(batch).into_iter().filter(|record| record.offset >= log_start));
        }
    }
    records
}

/// `doubtful`: offsets from there on may be there though nobody was told.
async fn check(partition: &Partition, model: &Model, now_ms: i64, rng: &SeededRng, what: &str) {
    let offsets = partition.offsets();
    assert_eq!(
        (offsets.log_start, offsets.high_watermark, offsets.last_stable),
        (model.log_start, model.end, model.last_stable()),
        "{what}"
    );
    let max_bytes = [1, 500, 4_000, 1 << 20][rng.below(4) as usize];
    let (all, _) = batches(partition, Isolation::ReadUncommitted, max_bytes).await;
    let mut found = BTreeMap::new();
    let mut times = Vec::new();
    for batch in &all {
        for record in records_of(batch).into_iter().filter(|record| record.offset >= model.log_start) {
            times.push((record.offset, record.timestamp));
            if !batch.header.is_control() {
                let line = model.lines.get(&record.offset).unwrap_or_else(|| panic!("{what}: {record:?}"));
                assert_eq!(line.record, record, "{what}");
                assert!(found.insert(record.offset, record).is_none(), "{what}: an offset twice");
            }
        }
    }
    let compacted_to = partition.compacted_to();
    assert!(compacted_to <= model.last_stable(), "{what}: beyond the last stable offset");
    let newest = model.newest_below(compacted_to);
    for (offset, line) in model.lines.range(model.log_start..) {
        let is_there = found.contains_key(offset);
        if *offset >= compacted_to {
            assert!(is_there, "{what}: {offset} is not compacted and is missing");
            continue;
        }
        let key = line.record.key.as_ref().expect("all have keys");
        let is_newest = model.fate(line) == Fate::Committed && newest.get(key) == Some(offset);
        let may_be_gone =
            line.record.value.is_none() && now_ms - line.record.timestamp >= DELETE_RETENTION_MS;
        assert!(!is_there || is_newest, "{what}: {offset} came back, below {compacted_to}");
        assert!(is_there || !is_newest || may_be_gone, "{what}: {offset} is lost, the newest of {key:?}");
    }
    // What a consumer of committed data ends up with, from offset 0 on.
    let (all, aborted) = batches(partition, Isolation::ReadCommitted, max_bytes).await;
    let seen = committed(&all, &aborted, model.log_start);
    let expected: Vec<i64> = found
        .keys()
        .filter(|offset| {
            **offset < model.last_stable() && model.fate(&model.lines[offset]) == Fate::Committed
        })
        .copied()
        .collect();
    assert_eq!(seen.iter().map(|record| record.offset).collect::<Vec<_>>(), expected, "{what}: {aborted:?}");
    let newest_now = |model: &Model| -> BTreeMap<bytes::Bytes, bytes::Bytes> {
        let newest = model.newest_below(model.last_stable()).into_iter();
        let above = newest.filter(|(_, offset)| *offset >= model.log_start);
        above.filter_map(|(key, offset)| Some((key, model.lines[&offset].record.value.clone()?))).collect()
    };
    let mut state = BTreeMap::new();
    for record in seen {
        match record.value {
            Some(value) => drop(state.insert(record.key.expect("a key"), value)),
            None => drop(state.remove(&record.key.expect("a key"))),
        }
    }
    assert_eq!(state, newest_now(model), "{what}: the final state");
    // Finding by time.
    for _ in 0..4 {
        let at = NOW_MS + rng.below((now_ms - NOW_MS + 2) as u64) as i64;
        let expected = times.iter().find(|(_, time)| *time >= at).copied();
        let got = partition.offset_for_timestamp(at).await.expect("found");
        assert_eq!(got.map(|found| (found.offset, found.timestamp)), expected, "{what}: at {at}");
    }
    let largest = times.iter().map(|(_, time)| *time).max();
    let expected = largest.and_then(|at| times.iter().find(|(_, time)| *time == at).copied());
    let got = partition.max_timestamp().await.expect("found");
    assert_eq!(got.map(|found| (found.offset, found.timestamp)), expected, "{what}: the newest");
    // Epochs are where they began.
    for (index, (epoch, _)) in model.epochs.iter().enumerate() {
        let current = model.epochs.last().expect("one").0;
        let (found, end) = partition.end_offset_for_epoch(*epoch, current);
        let next = model.epochs.get(index + 1).map_or(model.end, |(_, start)| *start);
        if next > model.log_start {
            assert_eq!((found, end), (*epoch, next), "{what}: epoch {epoch}");
        }
    }
}

struct Story {
    model: Model,
    sequences: BTreeMap<i64, i32>,
    epoch: i32,
}

impl Story {
    async fn append(
        &mut self,
        open: &Open,
        producer: Option<i64>,
        transactional: bool,
        rng: &SeededRng,
        step: u64,
    ) {
        let (partition, now_ms) = (open.partition(), open.now_ms());
        let is_append_time = rng.below(5) == 0;
        let mut builder =
            BatchBuilder::new().transactional(transactional).compression(CODECS[rng.below(3) as usize]);
        if is_append_time {
            builder = builder.log_append_time(now_ms);
        }
        if let Some(id) = producer {
            builder = builder.producer(id, 0, self.sequences.get(&id).copied().unwrap_or_default());
        }
        let first = self.model.end;
        let mut lines = Vec::new();
        for n in 0..=rng.below(5) {
            let key = format!("key-{}", rng.below(KEYS));
            let value =
                (rng.below(4) > 0).then(|| format!("{step}-{n}-{}", "x".repeat(rng.below(60) as usize)));
            let headers: Vec<Header> = (0..rng.below(2)).map(|_| Header::new("h", Some("v"))).collect();
            let timestamp = now_ms - rng.below(50) as i64;
            let bytes = value.as_ref().map(String::as_bytes);
            builder.append(timestamp, Some(key.as_bytes()), bytes, &headers).expect("a record");
            let timestamp = if is_append_time { now_ms } else { timestamp };
            let (key, value) = (Some(key.into()), value.map(Into::into));
            lines.push(Record { offset: first + n as i64, timestamp, key, value, headers });
        }
        let batch = Batch::parse(builder.build().expect("a batch")).expect("our own batch");
        let options = AppendOptions {
            leader_epoch: self.epoch,
            transaction_stamp: 1_000 + step as i64,
            ..AppendOptions::default()
        };
        let sent = partition.append(batch, options).expect("taken");
        assert_eq!(sent.base_offset, first);
        sent.committed().await.expect("committed");
        if let Some(id) = producer {
            *self.sequences.entry(id).or_default() += lines.len() as i32;
        }
        let transaction = producer.filter(|_| transactional).map(|id| {
            self.model.open(id).unwrap_or_else(|| {
                self.model.transactions.push((id, first, Fate::Open));
                self.model.transactions.len() - 1
            })
        });
        self.begin_epoch(first);
        self.model.end += lines.len() as i64;
        self.model
            .lines
            .extend(lines.into_iter().map(|record| (record.offset, Line { record, transaction })));
    }

    fn begin_epoch(&mut self, offset: i64) {
        if self.model.epochs.last().is_none_or(|(last, _)| self.epoch > *last) {
            self.model.epochs.push((self.epoch, offset));
        }
    }

    async fn end_transaction(&mut self, open: &Open, producer: i64, commit: bool) {
        let Some(index) = self.model.open(producer) else { return };
        let marker = EndTransaction {
            producer_id: producer,
            producer_epoch: 0,
            coordinator_epoch: 1,
            commit,
            transaction_stamp: -1,
        };
        let ended = open.log.end_transaction(&id(), marker, self.epoch).await.expect("ended");
        assert_eq!(ended, Some(self.model.end));
        self.begin_epoch(self.model.end);
        self.model.end += 1;
        self.model.transactions[index].2 = if commit { Fate::Committed } else { Fate::Aborted };
    }
}

impl Open {
    fn now_ms(&self) -> i64 {
        use world::clock::Clock;
        self.clock.now_ms()
    }
}

async fn story(home: Home, seed: u64) -> u64 {
    let rng = SeededRng::new(seed);
    // Restarts do not turn it back.
    let clock = Arc::new(SimClock::new(NOW_MS));
    let mut story = Story { model: Model::default(), sequences: BTreeMap::new(), epoch: 0 };
    let mut open = home.open(&rng, &clock).await;
    let reader = match &home {
        Home::Directory(_) => None,
        Home::Bucket(_) => Some(home.try_open(&rng, &clock, 2).await.expect("it opens")),
    };
    let mut rounds = 0;
    for step in 0..rng.below(80) + 60 {
        let producer = 100 + rng.below(PRODUCERS) as i64;
        match rng.below(24) {
            0..6 => story.append(&open, None, false, &rng, step).await,
            // An idempotent one that has no transactions.
            6..8 => story.append(&open, Some(99), false, &rng, step).await,
            8..14 => story.append(&open, Some(producer), true, &rng, step).await,
            14..17 => story.end_transaction(&open, producer, rng.below(2) == 0).await,
            17..20 => {
                task::sleep(Duration::from_millis([101, 1_000, 6_000][rng.below(3) as usize])).await;
                open.rewrite_all().await.expect("rewritten");
            }
            20 => {
                rounds += open.log.counters().compaction.rounds.load(Ordering::Relaxed);
                home.end(open, rng.below(2) == 0).await;
                open = home.open(&rng, &clock).await;
            }
            21 if matches!(home, Home::Directory(_)) => story.epoch += 1,
            22 if rng.below(3) == 0 => {
                let model = &mut story.model;
                let before = model.log_start + rng.below((model.end - model.log_start) as u64 / 3 + 1) as i64;
                model.log_start = open.partition().delete_records(before).await.expect("trimmed");
            }
            _ => task::sleep(Duration::from_millis(rng.below(300))).await,
        }
        let uncleanable = open.log.counters().compaction.uncleanable_partitions.load(Ordering::Relaxed);
        assert_eq!(uncleanable, 0, "seed {seed} step {step}");
        if step % 3 == 0 {
            let what = format!("seed {seed} step {step}");
            check(&open.partition(), &story.model, open.now_ms(), &rng, &what).await;
        }
        if step % 7 == 0
            && let Some(reader) = &reader
        {
            reader.catalog.catch_up().await.expect("caught up");
            reader.log.open_views(&[id()]).await.expect("open");
            reader.log.refresh_views().await.expect("fresh");
            let view = reader.log.view(&id()).expect("it is open");
            let what = format!("seed {seed} step {step}, elsewhere");
            check(&view, &story.model, open.now_ms(), &rng, &what).await;
        }
    }
    task::sleep(Duration::from_millis(DELETE_RETENTION_MS as u64 + 200)).await;
    open.rewrite_all().await.expect("rewritten");
    check(&open.partition(), &story.model, open.now_ms(), &rng, &format!("seed {seed} in the end")).await;
    rounds += open.log.counters().compaction.rounds.load(Ordering::Relaxed);
    home.end(open, true).await;
    let open = home.open(&rng, &clock).await;
    check(&open.partition(), &story.model, open.now_ms(), &rng, &format!("seed {seed} after the end")).await;
    home.end(open, false).await;
    if let Some(reader) = reader {
        reader.log.close().await;
    }
    rounds
}

#[test]
fn the_newest_record_of_each_key_stays_in_a_directory() {
    let rounds: u64 = (1..=80).map(|seed| run(seed, story(Home::Directory(MemDisk::new(seed)), seed))).sum();
    assert!(rounds > 400, "only {rounds} rounds");
}

#[test]
fn the_newest_record_of_each_key_stays_in_a_bucket() {
    let story = |seed: u64| async move {
        let story = story(Home::Bucket(MemBucket::new(seed)), seed);
        task::timeout(Duration::from_secs(100_000), story).await.expect("it ends")
    };
    let rounds: u64 = (1..=60).map(|seed| run(seed, story(seed))).sum();
    assert!(rounds > 200, "only {rounds} rounds");
}

/// A story that could not fail would prove nothing.
#[test]
fn broken_rules_of_compaction_are_noticed() {
    for rule in ["compaction-forgets-late", "compaction-past-stable", "compaction-tombstones-at-once"] {
        let is_noticed = |seed: &u64| {
            broken::set(Some(rule));
            let home = Home::Directory(MemDisk::new(*seed));
            let ended =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(*seed, story(home, *seed))));
            broken::set(None);
            ended.is_err()
        };
        let noticed = (1..=20).filter(is_noticed).count();
        println!("{rule}: {noticed} of 20 seeds");
        assert!(noticed > 0, "{rule} is not noticed");
    }
}

/// Keys that were acknowledged, with their newest offsets and values, and what nobody was told about.
#[derive(Default)]
struct Told {
    newest: BTreeMap<String, (i64, Option<String>)>,
    acknowledged: BTreeMap<i64, (String, Option<String>)>,
}

/// Traffic and compaction, in turn. Stops at the first error.
async fn deadly(home: &Home, rng: &SeededRng, clock: &Arc<SimClock>, told: &mut Told) -> Result<(), String> {
    let open = home.try_open(rng, clock, 1).await.map_err(|error| error.to_string())?;
    for round in 0..4 {
        for i in 0..8 {
            let mut builder = BatchBuilder::new().compression(CODECS[i % 3]);
            let mut records = Vec::new();
            for r in 0..3 {
                let key = format!("key-{}", (i * 3 + r + round) % 7);
                let value = ((i + r + round) % 5 > 0).then(|| format!("{round}/{i}/{r}/{}", "x".repeat(200)));
                let bytes = value.as_ref().map(String::as_bytes);
                builder.append(open.now_ms(), Some(key.as_bytes()), bytes, &[]).expect("a record");
                records.push((key, value));
            }
            let batch = Batch::parse(builder.build().expect("a batch")).expect("our own batch");
            let sent = open.partition().append(batch, AppendOptions::default());
            let sent = sent.map_err(|error| error.to_string())?;
            let first = sent.base_offset;
            sent.committed().await.map_err(|error| error.to_string())?;
            for (offset, (key, value)) in (first..).zip(records) {
                told.newest.insert(key.clone(), (offset, value.clone()));
                told.acknowledged.insert(offset, (key, value));
            }
        }
        task::sleep(Duration::from_millis(200)).await;
        open.rewrite_all().await.map_err(|error| error.to_string())?;
    }
    home.end(open, false).await;
    Ok(())
}

/// The newest value of every key is there, and nothing that was compacted away has come back.
async fn check_told(open: &Open, told: &Told, what: &str) {
    let partition = open.partition();
    let (all, _) = batches(&partition, Isolation::ReadUncommitted, 1 << 20).await;
    let mut state: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
    let compacted_to = partition.compacted_to();
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    let mut below = BTreeSet::new();
    for record in all.iter().flat_map(records_of) {
        let (key, value) = (text(record.key.expect("a key")), record.value.map(text));
        assert!(
            record.offset >= compacted_to || below.insert(key.clone()),
            "{what}: {key} twice below {compacted_to}"
        );
        if let Some(told) = told.acknowledged.get(&record.offset) {
            assert_eq!(*told, (key.clone(), value.clone()), "{what}: {}", record.offset);
        }
        state.insert(key, (record.offset, value));
    }
    for (key, (offset, value)) in &told.newest {
        match state.get(key) {
            // Nobody was told of what came last.
            Some((newer, _)) if newer > offset => {
                assert!(!told.acknowledged.contains_key(newer), "{what}: {key}")
            }
            Some(found) => assert_eq!(*found, (*offset, value.clone()), "{what}: {key}"),
            None => assert_eq!(*value, None, "{what}: {key} is lost"),
        }
    }
}

#[test]
fn power_cut_at_every_step_of_a_compaction_loses_nothing() {
    let story = |seed: u64, cut_at: Option<u64>| {
        run(seed, async move {
            let (disk, rng) = (MemDisk::new(seed), SeededRng::new(seed));
            disk.set_faults(MemFaults { power_lost_at: cut_at, ..MemFaults::default() });
            let (home, clock) = (Home::Directory(disk.clone()), Arc::new(SimClock::new(NOW_MS)));
            let mut told = Told::default();
            let result = deadly(&home, &rng, &clock, &mut told).await;
            let Some(step) = cut_at else {
                result.expect("nothing is wrong");
                return disk.changes();
            };
            // Tasks of the dead process see that the disk is gone.
            task::sleep(Duration::from_secs(60)).await;
            match step % 3 {
                0 => disk.kill(),
                _ => disk.crash(step),
            }
            disk.set_faults(MemFaults::default());
            let open = match home.try_open(&rng, &clock, 1).await {
                Ok(open) => open,
                Err(error) => panic!("step {step} ({result:?}): no start: {error}"),
            };
            check_told(&open, &told, &format!("step {step}")).await;
            task::sleep(Duration::from_millis(DELETE_RETENTION_MS as u64)).await;
            open.rewrite_all().await.expect("rewritten");
            check_told(&open, &told, &format!("step {step}, compacted again")).await;
            home.end(open, true).await;
            let open = home.open(&rng, &clock).await;
            check_told(&open, &told, &format!("step {step}, started again")).await;
            u64::from(open.partition().compacted_to() > 0)
        })
    };
    let changes = story(1, None);
    assert!(changes > 150, "the story makes {changes} changes only");
    let compacted: u64 = (1..=changes).map(|step| story(1, Some(step))).sum();
    assert!(compacted > changes / 2, "{compacted} of {changes} ends were compacted");
}

fn keyed(records: &[(&str, Option<String>)], timestamp: i64) -> Batch {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        let value = value.as_ref().map(String::as_bytes);
        builder.append(timestamp, Some(key.as_bytes()), value, &[]).expect("a record");
    }
    Batch::parse(builder.build().expect("a batch")).expect("our own batch")
}

/// Of each key what was acknowledged last is there, and below "compacted to" nothing else.
async fn check_versions(log: &CommitLog, newest: &BTreeMap<&str, i64>, what: &str) {
    let partition = partition(log, 0);
    let (all, _) = batches(&partition, Isolation::ReadUncommitted, 700).await;
    let (mut found, mut below) = (BTreeMap::new(), BTreeSet::new());
    for record in all.iter().flat_map(records_of) {
        let key = String::from_utf8(record.key.expect("a key").to_vec()).expect("text");
        let value = String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
        let version: i64 =
            value.split('-').next().and_then(|version| version.parse().ok()).expect("a number");
        assert!(found.insert(key.clone(), version).is_none_or(|before| before < version), "{what}: {key}");
        assert!(
            record.offset >= partition.compacted_to() || below.insert(key.clone()),
            "{what}: {key} twice"
        );
    }
    for (key, version) in newest {
        assert_eq!(found.get(*key), Some(version), "{what}: {key}");
    }
}

/// True: the trouble came.
fn compaction_in_a_bucket(trouble: Trouble, step: u64) -> bool {
    const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
    run(step + 1, async {
        let what = format!("{trouble:?} at step {step}");
        let (store, rng) = (MemBucket::new(step + 1), SeededRng::new(step + 1));
        let limits = CompactionLimits { backoff: Duration::ZERO, ..CompactionLimits::default() };
        let settings = LogSettings { compaction: limits, ..bucket_merge::settings() };
        let open = async || {
            let node = bucket_merge::start(&store, &rng, trouble, settings.clone()).await;
            (0..3).for_each(|index| {
                node.log.update_settings(&TopicIdPartition::new(TOPIC, index), compacted())
            });
            node
        };
        let mut newest = BTreeMap::new();
        let mut write = async |node: &Node, from: i64, to: i64| {
            for at in from..to {
                let key = KEYS[(at * 3 % 7 % 5) as usize];
                let value = Some(format!("{at}-{}", "v".repeat(180)));
                let sent = append(&partition(&node.log, 0), keyed(&[(key, value)], NOW_MS - 9_000));
                sent.unwrap().committed().await.unwrap();
                newest.insert(key, at);
            }
            newest.clone()
        };
        let one = open().await;
        for job in 0..3 {
            write(&one, job * 8, job * 8 + 8).await;
            one.at.store(if job == 2 { step + 1 } else { 0 }, Ordering::Relaxed);
            rewrite(&one).await;
        }
        if one.at.load(Ordering::Relaxed) > 0 {
            let rounds = one.log.counters().compaction.rounds.load(Ordering::Relaxed);
            assert!(rounds >= 3, "{what}: {rounds} rounds");
            return false;
        }
        let two = open().await;
        check_versions(&two.log, &write(&two, 0, 0).await, &what).await;
        let newest = write(&two, 24, 32).await;
        assert!(rewrite(&two).await, "{what}");
        if trouble == Trouble::Sleeps {
            one.process.resume();
            let log = one.log.clone();
            one.process.spawn(async move { while log.rewrite().await.unwrap_or(false) {} });
            task::sleep(Duration::from_secs(30)).await;
            assert!(one.catalog.is_fenced(), "{what}");
        }
        check_versions(&two.log, &newest, &what).await;
        // What the first one left behind is found by a sweep.
        task::sleep(Duration::from_secs(3601)).await;
        assert!(rewrite(&two).await, "{what}");
        check_versions(&two.log, &newest, &what).await;
        let settled = audited(&store).await;
        let nothing = Named::default();
        assert_eq!((&settled.problems, &settled.unknown), (&nothing, &nothing), "{what}");
        assert!(settled.segment_records <= KEYS.len() as u64, "{what}: {settled:?}");
        true
    })
}

#[test]
fn a_compaction_in_a_bucket_may_end_or_sleep_at_any_step() {
    for trouble in [Trouble::Dies, Trouble::DiesBehind, Trouble::Sleeps] {
        let steps = (0..400).take_while(|step| compaction_in_a_bucket(trouble, *step)).count();
        println!("{trouble:?}: {steps} steps");
        assert!((20..400).contains(&steps), "{steps} steps");
    }
}

/// A log in a directory that compacts by hand.
async fn one_partition(disk: &Arc<MemDisk>, clock: &Arc<SimClock>, policy: PartitionSettings) -> Open {
    let (home, rng) = (Home::Directory(disk.clone()), SeededRng::new(3));
    let open = home.open(&rng, clock).await;
    open.log.update_settings(&id(), policy);
    let limits = CompactionLimits { backoff: Duration::ZERO, ..CompactionLimits::default() };
    open.log.set_compaction_limits(limits);
    open
}

async fn send(open: &Open, records: &[(&str, Option<String>)]) {
    let sent = append(&open.partition(), keyed(records, open.now_ms()));
    sent.expect("taken").committed().await.expect("committed");
}

#[test]
fn compact_and_delete_removes_what_is_too_old_as_well() {
    run(1, async {
        let (disk, clock) = (MemDisk::new(1), Arc::new(SimClock::new(NOW_MS)));
        let policy = PartitionSettings { delete: true, retention_ms: 60_000, ..compacted() };
        let open = one_partition(&disk, &clock, policy).await;
        for round in 0..4 {
            send(&open, &[("a", Some(format!("{round}"))), ("b", Some(format!("{round}")))]).await;
        }
        task::sleep(Duration::from_secs(1)).await;
        open.rewrite_all().await.unwrap();
        let partition = open.partition();
        let left = batches(&partition, Isolation::ReadUncommitted, 1 << 20).await.0;
        assert_eq!(left.iter().flat_map(records_of).map(|record| record.offset).collect::<Vec<_>>(), [6, 7]);
        assert_eq!((partition.offsets().log_start, partition.compacted_to()), (0, 8), "offsets stay");
        // Housekeeping looks every 30 s.
        task::sleep(Duration::from_secs(70)).await;
        send(&open, &[("c", Some("new".into()))]).await;
        task::sleep(Duration::from_secs(31)).await;
        assert_eq!(partition.offsets().log_start, 8);
        // Without compaction nothing of that happens, whatever the topic says.
        let rounds = || open.log.counters().compaction.rounds.load(Ordering::Relaxed);
        let before = rounds();
        open.log.set_compaction_limits(CompactionLimits { enabled: false, ..CompactionLimits::default() });
        send(&open, &[("c", Some("newer".into()))]).await;
        task::sleep(Duration::from_secs(1)).await;
        open.rewrite_all().await.unwrap();
        assert_eq!(rounds(), before);
        open.log.close().await;
    });
}

#[test]
fn what_is_young_or_too_little_is_left_alone() {
    run(1, async {
        let (disk, clock) = (MemDisk::new(1), Arc::new(SimClock::new(NOW_MS)));
        let mut policy = compacted();
        policy.compaction.min_lag_ms = 10_000;
        let open = one_partition(&disk, &clock, policy.clone()).await;
        let partition = open.partition();
        for round in 0..3 {
            send(&open, &[("a", Some(format!("{round}")))]).await;
        }
        task::sleep(Duration::from_secs(5)).await;
        open.rewrite_all().await.unwrap();
        assert_eq!(partition.compacted_to(), 0, "min.compaction.lag.ms");
        task::sleep(Duration::from_secs(6)).await;
        open.rewrite_all().await.unwrap();
        assert_eq!(partition.compacted_to(), 3);
        policy.compaction.min_lag_ms = 0;
        policy.compaction.dirty_ratio_min = 0.9;
        open.log.update_settings(&id(), policy.clone());
        send(&open, &[("a", Some("3".into()))]).await;
        task::sleep(Duration::from_secs(5)).await;
        open.rewrite_all().await.unwrap();
        assert_eq!(partition.compacted_to(), 3, "min.cleanable.dirty.ratio");
        policy.compaction.max_lag_ms = 4_000;
        open.log.update_settings(&id(), policy);
        open.rewrite_all().await.unwrap();
        assert_eq!(partition.compacted_to(), 4, "max.compaction.lag.ms");
        open.log.close().await;
    });
}

/// P7: damage is not spread, and nothing is removed because of it.
#[test]
fn a_partition_with_damage_is_left_alone() {
    run(1, async {
        let (disk, clock) = (MemDisk::new(1), Arc::new(SimClock::new(NOW_MS)));
        let open = one_partition(&disk, &clock, compacted()).await;
        for round in 0..3 {
            send(&open, &[("a", Some(format!("{round}"))), ("b", Some("x".repeat(300)))]).await;
        }
        task::sleep(Duration::from_secs(1)).await;
        open.rewrite_all().await.unwrap();
        let segment = disk.files().into_iter().find(|path| path.starts_with("/data/segments")).expect("one");
        disk.flip_bit(&segment, 250, 3);
        send(&open, &[("a", Some("3".into()))]).await;
        task::sleep(Duration::from_secs(1)).await;
        open.rewrite_all().await.unwrap();
        let counters = &open.log.counters().compaction;
        assert_eq!(counters.uncleanable_partitions.load(Ordering::Relaxed), 1);
        assert!(counters.uncleanable_bytes.load(Ordering::Relaxed) > 300);
        assert_eq!(open.partition().compacted_to(), 6, "as far as it was");
        assert!(disk.files().contains(&segment));
        open.log.close().await;
    });
}

/// A segment and a manifest object of a compacted partition that must stay readable for ever: `tests/golden/v2`.
/// `OTTLA_GOLDEN=write` makes them anew, which is right only for a new version beside the old one.
#[test]
fn what_compaction_wrote_is_still_what_we_write_and_read() {
    let (segment, object) = run(1, async {
        let (disk, clock) = (MemDisk::new(1), Arc::new(SimClock::new(NOW_MS)));
        let open = one_partition(&disk, &clock, compacted()).await;
        for round in 0..4 {
            send(
                &open,
                &[("a", Some(format!("{round}"))), ("b", None), (["c", "d"][round % 2], Some("x".into()))],
            )
            .await;
        }
        task::sleep(Duration::from_secs(1)).await;
        open.rewrite_all().await.unwrap();
        let first = |dir: &str| {
            let dir = PathBuf::from("/data").join(dir);
            disk.content(&disk.files().into_iter().find(|path| path.starts_with(&dir)).expect("one"))
                .expect("there")
        };
        let written = (first("segments"), first("manifest"));
        open.log.close().await;
        written
    });
    let golden = |name: &str, fresh: &[u8]| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v2").join(name);
        if std::env::var_os("OTTLA_GOLDEN").is_some_and(|value| value == "write") {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, fresh).unwrap();
        }
        let stored = std::fs::read(&path).unwrap();
        assert!(stored == fresh, "the bytes changed: that takes a new version, and this file stays readable");
        stored
    };
    let footer = fuzz_segment(&golden("compacted.seg", &segment)).unwrap();
    let runs = decode_runs(footer.section(SectionKind::Runs).unwrap()).unwrap();
    assert_eq!(runs.iter().map(|run| (run.first_offset, run.position)).collect::<Vec<_>>(), [(0, 128)]);
    // c of the third batch, and the fourth one: its tombstone has a horizon now.
    let entries: Vec<_> =
        footer.entries.iter().map(|entry| (entry.base_offset, entry.record_count)).collect();
    assert_eq!(entries, [(6, 1), (9, 3)]);
    assert_eq!(footer.entries[0].delete_horizon_ms, None);
    assert!(footer.entries[1].delete_horizon_ms.is_some_and(|at| at > NOW_MS + DELETE_RETENTION_MS));
    let shard = Shard::decode(&golden("compacted.manifest", &object)).unwrap();
    assert_eq!(shard.compacted, BTreeMap::from([(id(), 12)]));
    let piece = &shard.partitions[&id()][0].piece;
    assert_eq!((piece.first_offset, piece.last_offset, piece.record_count), (0, 11, 4));
}
