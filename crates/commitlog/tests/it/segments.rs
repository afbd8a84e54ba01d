//! From the WAL into segments: the same data before and after, whatever happens in between.
//!
//! ```text
//!   wal/ 1 2 3 4 (sealed) 5 (current)        segments/ a b c        manifest/ one object per shard
//!        ────────────────────────▶ rewrite ─▶ a b c ─▶ manifest ─▶ catalog ─▶ 1 2 3 4 go
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::manifest::Shard;
use commitlog::{
    CommitLog, LogSettings, LogState, OpenError, Partition, PartitionSettings, ReadError, ReadRequest,
    RewriteError,
};
use protocol::{Str, TopicIdPartition, Uuid};
use world::clock::SimClock;
use world::disk::{Disk, MemDisk, MemFaults, OpenMode};
use world::rng::SeededRng;

use crate::house::{append, batch, read_all, run, small};

const TOPIC: Uuid = Uuid([7; 16]);
const OTHER: Uuid = Uuid([9; 16]);
const PARTITIONS: i32 = 4;
const NOW_MS: i64 = 1_700_000_000_000;

fn settings() -> LogSettings {
    LogSettings {
        wal_retain_bytes: 0,
        rewrite_bytes_per_second: 0,
        // By hand only.
        rewrite_interval: Duration::from_secs(1_000_000),
        rewrite_job_bytes: 96 << 10,
        segment_own_bytes: 20 << 10,
        segment_bytes_max: 48 << 10,
        ..small()
    }
}

pub struct Home {
    pub disk: Arc<MemDisk>,
    settings: LogSettings,
    starts: std::cell::Cell<u64>,
}

pub struct Open {
    log: Arc<CommitLog>,
    catalog: Arc<Catalog>,
}

impl Home {
    pub fn new(seed: u64) -> Home {
        Home { disk: MemDisk::new(seed), settings: settings(), starts: std::cell::Cell::new(0) }
    }

    pub async fn open(&self) -> Result<Open, OpenError> {
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
            // The other topic is deleted by one of the tests, for good.
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
        let log =
            CommitLog::open(self.disk.clone(), root, clock, rng, self.settings.clone(), catalog.clone())
                .await?;
        Ok(Open { log, catalog })
    }

    pub fn named(&self, dir: &str) -> Vec<PathBuf> {
        self.disk.files().into_iter().filter(|path| path.starts_with(Path::new("/data").join(dir))).collect()
    }
}

impl Open {
    fn partition(&self, topic_id: Uuid, partition: i32) -> Arc<Partition> {
        self.log.partition(&TopicIdPartition { topic_id, partition }).expect("a partition of the catalog")
    }

    pub async fn rewrite_all(&self) -> Result<(), RewriteError> {
        let mut steps = 0;
        while self.log.rewrite().await? {
            steps += 1;
            assert!(steps < 1000, "there is always more to do");
        }
        Ok(())
    }

    async fn close(self) {
        self.log.close().await;
        self.catalog.close().await;
    }
}

/// Partition 0 of the topic gets most, so that it becomes a segment of its own; each batch has three records.
pub async fn fill(open: &Open, from: usize, batches: usize) {
    let mut waiting = Vec::new();
    for i in from..from + batches {
        let (topic, index) = match i % 8 {
            0..=3 => (TOPIC, 0),
            4 => (TOPIC, 1),
            5 => (TOPIC, 2),
            6 => (OTHER, 0),
            _ => (OTHER, 3),
        };
        let values: Vec<String> =
            (0..3).map(|r| format!("{index}/{i}/{r}/{}", "x".repeat((i * 37) % 300))).collect();
        let Some(partition) = open.log.partition(&TopicIdPartition { topic_id: topic, partition: index })
        else {
            continue;
        };
        let batch = batch(&values, None, NOW_MS + i as i64 * 10);
        waiting.push(append(&partition, batch).expect("the log takes it"));
        if i % 5 == 4 {
            for append in waiting.drain(..) {
                append.committed().await.expect("the disk is well");
            }
        }
    }
    for append in waiting {
        append.committed().await.expect("the disk is well");
    }
}

type Content = Vec<Vec<(i64, String)>>;

async fn content(open: &Open) -> Content {
    let mut all = Vec::new();
    for topic in [TOPIC, OTHER] {
        for index in 0..PARTITIONS {
            if let Some(partition) =
                open.log.partition(&TopicIdPartition { topic_id: topic, partition: index })
            {
                all.push(read_all(&partition, 3000).await);
            }
        }
    }
    all
}

/// Every segment file is one that the log counts: nothing is left over.
fn assert_no_orphans(home: &Home, open: &Open) {
    let segments = open.log.counters().segments.load(Ordering::Relaxed);
    assert_eq!(home.named("segments").len() as u64, segments, "{:?}", home.named("segments"));
    assert!(home.named("manifest").len() <= 16);
}

#[test]
fn rewritten_data_reads_the_same_and_the_wal_goes() {
    run(1, async {
        let home = Home::new(1);
        let open = home.open().await.unwrap();
        fill(&open, 0, 400).await;
        let before = content(&open).await;
        let wal_before = home.named("wal").len();
        let partition = open.partition(TOPIC, 1);
        let times: Vec<i64> = (0..420).map(|i| NOW_MS + i * 10 + 1).collect();
        let mut found_before = Vec::new();
        for time in &times {
            found_before.push(partition.offset_for_timestamp(*time).await.unwrap());
        }
        let (size, latest) = (partition.size_bytes(), partition.max_timestamp().await.unwrap());

        open.rewrite_all().await.unwrap();

        let counters = open.log.counters();
        assert!(counters.segments.load(Ordering::Relaxed) >= 3, "a large partition has segments of its own");
        let live = counters.segment_live_bytes.load(Ordering::Relaxed);
        assert_eq!(counters.bytes_rewritten.load(Ordering::Relaxed), live, "no byte was rewritten twice");
        assert_no_orphans(&home, &open);
        assert_eq!(content(&open).await, before);
        for (time, before) in times.iter().zip(found_before) {
            assert_eq!(partition.offset_for_timestamp(*time).await.unwrap(), before);
        }
        assert_eq!((partition.size_bytes(), partition.max_timestamp().await.unwrap()), (size, latest));

        // More traffic brings the checkpoint that lets the old files go.
        fill(&open, 400, 200).await;
        let before = content(&open).await;
        open.rewrite_all().await.unwrap();
        fill(&open, 600, 100).await;
        assert!(home.named("wal").len() < wal_before + 4, "{wal_before} files, now {:?}", home.named("wal"));
        open.close().await;
        let open = home.open().await.unwrap();
        let after = content(&open).await;
        assert!(before.iter().zip(&after).all(|(before, after)| after.starts_with(before)));
        assert_no_orphans(&home, &open);
    });
}

#[test]
fn what_is_read_cold_is_read_once() {
    run(2, async {
        let mut home = Home::new(2);
        // Less than a quarter of what is read; the longest piece of a segment fits.
        home.settings.cold_bytes_max = 48 << 10;
        let open = home.open().await.unwrap();
        fill(&open, 0, 800).await;
        for rewritten in [false, true] {
            if rewritten {
                open.rewrite_all().await.unwrap();
            }
            let partition = open.partition(TOPIC, 0);
            for step in [4 << 10, 20 << 10] {
                let before = home.disk.counters().bytes_read.load(Ordering::Relaxed);
                let records = read_all(&partition, step).await;
                let read = home.disk.counters().bytes_read.load(Ordering::Relaxed) - before;
                let size = partition.size_bytes();
                assert!(records.len() == 1200 && size > 100_000);
                assert!(read <= size, "{read} bytes for {size}, rewritten: {rewritten}, in steps of {step}");
                assert!(read * 2 > size, "the tail cannot have it all");
            }
        }
        open.close().await;
    });
}

/// What was acknowledged, and where partition 0 was trimmed, or may have been.
#[derive(Default)]
struct Told {
    acknowledged: [Vec<(i64, String)>; 3],
    trimmed: i64,
}

/// Traffic, rewriting, trimming, more of each. Stops at the first error.
async fn story(home: &Home, told: &mut Told) -> Result<(), OpenError> {
    let open = home.open().await?;
    let stopped =
        |error: &dyn std::fmt::Display| OpenError::Format { path: "/".into(), detail: error.to_string() };
    for round in 0..3 {
        for i in 0..12 {
            let index = [0, 0, 0, 1, 2][i % 5];
            let values: Vec<String> =
                (0..3).map(|r| format!("{round}/{i}/{r}/{}", "x".repeat(400))).collect();
            let append = append(&open.partition(TOPIC, index), batch(&values, None, NOW_MS));
            let append = append.map_err(|error| stopped(&error))?;
            let base_offset = append.base_offset;
            append.committed().await.map_err(|error| stopped(&error))?;
            told.acknowledged[index as usize].extend((base_offset..).zip(values));
        }
        open.rewrite_all().await.map_err(|error| stopped(&error))?;
        let partition = open.partition(TOPIC, 0);
        told.trimmed = partition.offsets().high_watermark - 5;
        partition.delete_records(told.trimmed).await.map_err(|error| stopped(&error))?;
        open.rewrite_all().await.map_err(|error| stopped(&error))?;
    }
    open.close().await;
    Ok(())
}

/// What was told is there; of partition 0 only what lies at or above its trimmed start has to be.
fn assert_kept(told: &Told, now: &Content, context: &str) {
    for (index, (told_here, now)) in told.acknowledged.iter().zip(now).enumerate() {
        let must = |record: &&(i64, String)| index != 0 || record.0 >= told.trimmed;
        let have: BTreeSet<&(i64, String)> = now.iter().collect();
        let lost =
            told_here.iter().filter(must).filter(|record| !have.contains(record)).map(|record| record.0);
        let lost: Vec<i64> = lost.collect();
        assert!(lost.is_empty(), "{context}: partition {index} lost offsets {lost:?}");
        assert!(
            now.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0),
            "{context}: gaps in partition {index}"
        );
    }
}

#[test]
fn power_cut_at_every_step_of_rewriting_and_trimming_loses_nothing() {
    let tiny = LogSettings { wal_file_bytes_min: 8 << 10, wal_file_bytes_max: 16 << 10, ..settings() };
    let home_of = |seed| Home { settings: tiny.clone(), ..Home::new(seed) };
    let changes = run(1, async {
        let home = home_of(1);
        story(&home, &mut Told::default()).await.unwrap();
        home.disk.changes()
    });
    assert!(changes > 200, "the story makes {changes} changes only");
    let mut with_segments = 0;
    for step in 1..=changes {
        run(1, async {
            let home = home_of(1);
            home.disk.set_faults(MemFaults { power_lost_at: Some(step), ..MemFaults::default() });
            let mut told = Told::default();
            let result = story(&home, &mut told).await;
            // Tasks of the dead process see that the disk is gone.
            world::task::sleep(Duration::from_secs(60)).await;
            match step % 3 {
                0 => home.disk.kill(),
                _ => home.disk.crash(step),
            }
            home.disk.set_faults(MemFaults::default());
            let open = match home.open().await {
                Ok(open) => open,
                Err(error) => panic!("step {step} ({result:?}): no start: {error}"),
            };
            let context = format!("step {step}");
            let found = content(&open).await;
            assert_kept(&told, &found, &context);
            let first_open = open.log.counters().segments_damaged.load(Ordering::Relaxed);
            assert_eq!(first_open, 0, "{context}: a segment that the manifest leads to is missing");
            open.rewrite_all().await.unwrap();
            assert_eq!(content(&open).await, found, "{context}: rewriting after the crash");
            assert_no_orphans(&home, &open);
            with_segments += u64::from(open.log.counters().segments.load(Ordering::Relaxed) > 0);
            fill(&open, 0, 30).await;
            let found = content(&open).await;
            open.close().await;
            let open = home.open().await.unwrap();
            assert_eq!(content(&open).await, found, "{context}: the second start");
        });
    }
    assert!(with_segments > changes / 2);
}

#[test]
fn the_same_seed_rewrites_the_same_bytes() {
    let trace = |seed| {
        run(seed, async {
            let home = Home::new(seed);
            story(&home, &mut Told::default()).await.unwrap();
            home.disk.trace_hash()
        })
    };
    assert_eq!(trace(5), trace(5));
}

#[test]
fn what_expires_first_is_never_rewritten_and_dead_segments_go() {
    run(2, async {
        let home = Home::new(2);
        let open = home.open().await.unwrap();
        fill(&open, 0, 300).await;
        let partition = open.partition(TOPIC, 0);
        let end = partition.offsets().high_watermark;
        partition.delete_records(end - 30).await.unwrap();
        let left = partition.size_bytes();
        open.rewrite_all().await.unwrap();
        let counters = open.log.counters();
        let all: u64 = [TOPIC, OTHER]
            .iter()
            .flat_map(|topic| (0..PARTITIONS).map(|index| open.partition(*topic, index).size_bytes()))
            .sum();
        assert!(counters.bytes_rewritten.load(Ordering::Relaxed) <= all, "deleted bytes were rewritten");
        assert!(left < 60_000);

        // Everything goes, at the end of the topic and by trimming.
        for index in 0..PARTITIONS {
            let partition = open.partition(TOPIC, index);
            partition.delete_records(-1).await.unwrap();
        }
        let delete = MetadataRecord::DeleteTopic { id: OTHER };
        open.catalog.append(vec![delete]).await.unwrap();
        open.log.remove_partitions(OTHER).await;
        open.rewrite_all().await.unwrap();
        assert_eq!(home.named("segments").len(), 0);
        open.close().await;
        let open = home.open().await.unwrap();
        assert_eq!(content(&open).await.concat(), []);
        assert_eq!(home.named("segments").len(), 0);
    });
}

#[test]
fn a_topic_deleted_while_nobody_looks_gives_its_space_back_after_the_start() {
    run(3, async {
        let home = Home::new(3);
        let open = home.open().await.unwrap();
        fill(&open, 0, 200).await;
        open.rewrite_all().await.unwrap();
        let kept: Content = content(&open).await[..PARTITIONS as usize].to_vec();
        open.catalog.append(vec![MetadataRecord::DeleteTopic { id: OTHER }]).await.unwrap();
        let before: u64 = bytes(&home);
        home.disk.kill();
        let open = home.open().await.unwrap();
        open.rewrite_all().await.unwrap();
        assert_eq!(content(&open).await, kept);
        assert!(bytes(&home) < before, "its part of the shared segments is rewritten away or they go");
    });
}

fn bytes(home: &Home) -> u64 {
    home.named("segments").iter().map(|path| home.disk.content(path).unwrap().len() as u64).sum()
}

#[test]
fn a_segment_is_rewritten_below_half_and_not_before() {
    run(4, async {
        let mut home = Home::new(4);
        let open = home.open().await.unwrap();
        fill(&open, 0, 400).await;
        open.rewrite_all().await.unwrap();
        open.close().await;
        // From here on only segments are a reason to rewrite.
        home.settings.wal_retain_bytes = 1 << 40;
        let open = home.open().await.unwrap();
        let rewritten = open.log.counters().bytes_rewritten.load(Ordering::Relaxed);
        for index in [0, 3] {
            let other = open.partition(OTHER, index);
            other.delete_records(other.offsets().high_watermark / 16).await.unwrap();
        }
        open.rewrite_all().await.unwrap();
        assert_eq!(
            open.log.counters().bytes_rewritten.load(Ordering::Relaxed),
            rewritten,
            "more than half lives"
        );
        for (topic, index) in [(OTHER, 0), (OTHER, 3), (TOPIC, 1)] {
            let partition = open.partition(topic, index);
            partition.delete_records(partition.offsets().high_watermark - 6).await.unwrap();
        }
        let before = content(&open).await;
        open.rewrite_all().await.unwrap();
        assert!(open.log.counters().bytes_rewritten.load(Ordering::Relaxed) > rewritten);
        assert_eq!(content(&open).await, before);
        assert_no_orphans(&home, &open);
        open.close().await;
        assert_eq!(content(&home.open().await.unwrap()).await, before);
    });
}

#[test]
fn a_flipped_bit_fails_the_read_of_its_piece_and_of_nothing_else() {
    run(5, async {
        let home = Home::new(5);
        let open = home.open().await.unwrap();
        fill(&open, 0, 400).await;
        open.rewrite_all().await.unwrap();
        open.close().await;
        let segments = home.named("segments");
        let mut failed_pieces = 0;
        for path in &segments {
            let len = home.disk.content(path).unwrap().len() as u64;
            for place in 0..24 {
                let at = place * len / 24 + place % 7;
                home.disk.flip_bit(path, at, place as u8);
                let open = home.open().await.expect("a damaged segment stops nobody's start");
                let mut failures = 0;
                for topic in [TOPIC, OTHER] {
                    for index in 0..PARTITIONS {
                        failures += usize::from(read_some(&open.partition(topic, index)).await);
                    }
                }
                assert!(failures <= 1, "one bit of one piece, yet {failures} partitions fail");
                failed_pieces += failures;
                open.close().await;
                home.disk.flip_bit(path, at, place as u8);
            }
        }
        // Of 24 places per segment only header and footer hold no batch; and those the reads do not need.
        assert!(failed_pieces > segments.len() * 12, "{failed_pieces} of {}", segments.len() * 24);
    });
}

/// Reads the whole partition over damage; true when a part of it said that it is damaged.
async fn read_some(partition: &Partition) -> bool {
    let offsets = partition.offsets();
    let (mut offset, mut damaged) = (offsets.log_start, false);
    while offset < offsets.high_watermark {
        let request =
            ReadRequest { offset, max_bytes: 1000, min_one_batch: true, isolation: Default::default() };
        match partition.read(request).await {
            Ok(read) => {
                for batch in protocol::batch::split_batches(&read.records.to_bytes()) {
                    let batch = batch.unwrap();
                    batch.verify_crc().expect("nothing damaged is ever served");
                    offset = offset.max(batch.header.last_offset() + 1);
                }
            }
            Err(ReadError::Damaged { .. }) => {
                damaged = true;
                offset += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    damaged
}

#[test]
fn damage_in_the_wal_is_not_copied_and_blocks_only_its_partition() {
    run(6, async {
        let home = Home::new(6);
        let open = home.open().await.unwrap();
        fill(&open, 0, 400).await;
        let before = content(&open).await;
        // A bit in the middle of a sealed file: in some batch.
        let file = home.named("wal")[1].clone();
        let at = home.disk.content(&file).unwrap().len() as u64 / 3 + 300;
        home.disk.flip_bit(&file, at, 1);
        open.rewrite_all().await.unwrap();
        let mut damaged = 0;
        for (at, topic) in [TOPIC, OTHER].into_iter().enumerate() {
            for index in 0..PARTITIONS {
                let partition = open.partition(topic, index);
                match read_some(&partition).await {
                    true => damaged += 1,
                    false => {
                        let same = read_all(&partition, 4000).await
                            == before[at * PARTITIONS as usize + index as usize];
                        assert!(same, "partition {index} is not what it was");
                    }
                }
            }
        }
        assert!(damaged <= 1, "one bit damages one batch");
        assert!(home.disk.content(&file).is_some() || damaged == 0, "the damaged file stays");
        // The bit comes back (a cable was loose), and everything is whole: nothing was thrown away.
        if damaged == 1 {
            home.disk.flip_bit(&file, at, 1);
            assert_eq!(content(&open).await, before);
        }
    });
}

#[test]
fn a_damaged_manifest_stops_the_start_and_nothing_is_changed() {
    run(7, async {
        let home = Home::new(7);
        let open = home.open().await.unwrap();
        fill(&open, 0, 200).await;
        open.rewrite_all().await.unwrap();
        let before = content(&open).await;
        open.close().await;
        let objects = home.named("manifest");
        assert!(!objects.is_empty());
        for path in &objects {
            let len = home.disk.content(path).unwrap().len() as u64;
            for place in 0..8 {
                let at = place * (len - 1) / 7;
                let segments = home.named("segments");
                home.disk.flip_bit(path, at, 3);
                let error = home.open().await.err().expect("the catalog leads to a damaged object");
                assert!(error.to_string().contains("manifest"), "{error}");
                assert_eq!(home.named("segments"), segments, "nothing was removed");
                home.disk.kill();
                home.disk.flip_bit(path, at, 3);
            }
        }
        assert_eq!(content(&home.open().await.unwrap()).await, before);
    });
}

#[test]
fn a_truncated_manifest_stops_the_start_and_nothing_is_changed() {
    run(17, async {
        let home = Home::new(17);
        let open = home.open().await.unwrap();
        fill(&open, 0, 200).await;
        open.rewrite_all().await.unwrap();
        let before = content(&open).await;
        open.close().await;
        for path in home.named("manifest") {
            let whole = home.disk.content(&path).unwrap();
            let len = whole.len() as u64;
            // The header, in the middle of the segments and partitions, within the hash, all but one byte; and no file.
            for cut_to in [Some(0), Some(20), Some(len / 2), Some(len - 9), Some(len - 1), None] {
                match cut_to {
                    Some(len) => home.disk.truncate(&path, len),
                    None => home.disk.remove(&path).await.unwrap(),
                }
                let segments = home.named("segments");
                let error = home.open().await.err().expect("the catalog leads to this object");
                assert!(error.to_string().contains("manifest"), "cut to {cut_to:?}: {error}");
                assert_eq!(home.named("segments"), segments, "nothing was removed");
                home.disk.kill();
                put_back(&home, &path, &whole).await;
            }
        }
        assert_eq!(content(&home.open().await.unwrap()).await, before);
    });
}

async fn put_back(home: &Home, path: &Path, whole: &bytes::Bytes) {
    let file = home.disk.open(path, OpenMode::Create).await.unwrap();
    file.write_at(0, vec![whole.clone()]).await.unwrap();
    file.sync().await.unwrap();
    home.disk.sync_dir(path.parent().unwrap()).await.unwrap();
}

/// Header, batches, footer: wherever a segment ends too early, what it held fails with a clear error, everything else
/// is read as before, and nothing is thrown away.
#[test]
fn a_truncated_or_missing_segment_fails_its_own_reads_and_nothing_else() {
    run(18, async {
        let home = Home::new(18);
        let open = home.open().await.unwrap();
        fill(&open, 0, 400).await;
        open.rewrite_all().await.unwrap();
        let before = content(&open).await;
        open.close().await;
        let segments = home.named("segments");
        assert!(segments.len() > 1);
        for path in &segments {
            let whole = home.disk.content(path).unwrap();
            let payload_len = u64::from_le_bytes(whole[84..92].try_into().unwrap());
            let footer_at = 128 + payload_len;
            let len = whole.len() as u64;
            assert!(footer_at < len);
            for cut_to in
                [Some(0), Some(100), Some(128), Some(footer_at / 2), Some(footer_at), Some(len - 1), None]
            {
                match cut_to {
                    Some(len) => home.disk.truncate(path, len),
                    None => home.disk.remove(path).await.unwrap(),
                }
                let open = home.open().await.expect("a damaged segment stops nobody's start");
                assert_eq!(open.log.counters().segments_damaged.load(Ordering::Relaxed), 1, "{cut_to:?}");
                // Rewriting over it changes nothing of it.
                let _ = open.rewrite_all().await;
                let mut failures = 0;
                for (at, topic) in [TOPIC, OTHER].into_iter().enumerate() {
                    for index in 0..PARTITIONS {
                        let partition = open.partition(topic, index);
                        if read_some(&partition).await {
                            failures += 1;
                        } else {
                            let was = &before[at * PARTITIONS as usize + index as usize];
                            assert_eq!(&read_all(&partition, 4000).await, was, "cut to {cut_to:?}");
                        }
                    }
                }
                // Reads go by the manifest: without its footer a segment is counted as damaged, and its batches are whole.
                let batches_lost = cut_to.is_none_or(|len| len < footer_at);
                assert_eq!(failures > 0, batches_lost, "cut to {cut_to:?} of {footer_at} + footer");
                open.close().await;
                put_back(&home, path, &whole).await;
                assert_eq!(home.named("segments"), segments, "nothing was thrown away");
            }
        }
        assert_eq!(content(&home.open().await.unwrap()).await, before);
    });
}

/// The four kinds of place of a segment, one bit each: header, batches, footer and its checksum's end.
#[test]
fn a_flipped_bit_at_every_kind_of_place_of_a_segment_is_never_served() {
    run(19, async {
        let home = Home::new(19);
        let open = home.open().await.unwrap();
        fill(&open, 0, 400).await;
        open.rewrite_all().await.unwrap();
        let before = content(&open).await;
        open.close().await;
        for path in home.named("segments") {
            let whole = home.disk.content(&path).unwrap();
            let footer_at = 128 + u64::from_le_bytes(whole[84..92].try_into().unwrap());
            let len = whole.len() as u64;
            for at in [0, 10, 90, 127, 128, footer_at / 2, footer_at - 1, footer_at, footer_at + 40, len - 1]
            {
                home.disk.flip_bit(&path, at, (at % 8) as u8);
                let open = home.open().await.expect("a damaged segment stops nobody's start");
                // Whoever does not say "damaged" reads what was written, every byte of it.
                for (at, topic) in [TOPIC, OTHER].into_iter().enumerate() {
                    for index in 0..PARTITIONS {
                        let partition = open.partition(topic, index);
                        if !read_some(&partition).await {
                            let was = &before[at * PARTITIONS as usize + index as usize];
                            assert_eq!(&read_all(&partition, 4000).await, was);
                        }
                    }
                }
                open.close().await;
                home.disk.flip_bit(&path, at, (at % 8) as u8);
            }
        }
    });
}

#[test]
fn a_full_disk_delays_rewriting_and_loses_nothing() {
    run(8, async {
        let home = Home::new(8);
        let open = home.open().await.unwrap();
        fill(&open, 0, 300).await;
        let before = content(&open).await;
        let used =
            home.disk.files().iter().map(|path| home.disk.content(path).unwrap().len() as u64).sum::<u64>();
        for extra in [0, 1_000, 5_000, 20_000, 60_000] {
            let limit = Some(used + extra);
            home.disk.set_faults(MemFaults { no_space_after_bytes: limit, ..MemFaults::default() });
            // It may do a part, or nothing, or fail; it may not lose.
            let _ = open.rewrite_all().await;
            assert_eq!(content(&open).await, before);
        }
        home.disk.set_faults(MemFaults::default());
        open.rewrite_all().await.unwrap();
        assert_eq!(content(&open).await, before);
        assert_no_orphans(&home, &open);
    });
}

#[test]
fn a_full_disk_ends_by_itself_when_data_is_deleted() {
    for keep in [false, true] {
        run(13, async {
            let mut home = Home::new(13);
            home.settings.rewrite_interval = Duration::from_secs(1);
            home.settings.wal_retain_bytes = 1 << 40;
            home.settings.reserve_bytes = 200 << 10;
            home.disk.set_capacity_bytes(1 << 20);
            let open = home.open().await.unwrap();
            // Alternating, so that every file holds both.
            let (large, small) = (open.partition(TOPIC, 0), open.partition(TOPIC, 1));
            for i in 0..100_000 {
                let (partition, len) = if i % 3 == 0 { (&small, 300) } else { (&large, 800) };
                let Ok(append) = append(partition, batch(&[format!("{i:0len$}")], None, NOW_MS)) else {
                    break;
                };
                append.committed().await.unwrap();
            }
            assert_eq!(open.log.state(), LogState::Full);
            let kept = read_all(&small, 4000).await;
            large.delete_records(-1).await.unwrap();
            if !keep {
                // Nothing lives in the sealed files: they go without being rewritten.
                small.delete_records(-1).await.unwrap();
            }
            world::task::sleep(Duration::from_secs(30)).await;
            assert_eq!(open.log.state(), LogState::Running);
            let rewritten = open.log.counters().bytes_rewritten.load(Ordering::Relaxed);
            assert_eq!(rewritten > 0, keep, "{rewritten} bytes were rewritten");
            if keep {
                assert_eq!(read_all(&small, 4000).await, kept);
            }
            append(&large, batch(&["more".into()], None, NOW_MS)).unwrap().committed().await.unwrap();
        });
    }
}

#[test]
fn a_failing_disk_under_the_rewriter_leaves_the_inputs() {
    run(9, async {
        for n in 1..40 {
            let home = Home::new(9);
            let open = home.open().await.unwrap();
            fill(&open, 0, 150).await;
            let before = content(&open).await;
            let faults = match n % 3 {
                0 => MemFaults { fail_write_at: Some(n), ..MemFaults::default() },
                1 => MemFaults { fail_sync_at: Some(n / 3 + 1), ..MemFaults::default() },
                _ => MemFaults { fail_read_at: Some(n * 3), ..MemFaults::default() },
            };
            home.disk.set_faults(faults);
            let _ = open.rewrite_all().await;
            home.disk.set_faults(MemFaults::default());
            assert_eq!(content(&open).await, before, "fault {n}");
            home.disk.crash(n);
            let open = home.open().await.unwrap();
            assert_eq!(content(&open).await, before, "fault {n}, after a crash");
            open.rewrite_all().await.unwrap();
            assert_eq!(content(&open).await, before);
            assert_no_orphans(&home, &open);
        }
    });
}

#[test]
fn reads_go_on_while_data_moves() {
    run(10, async {
        let home = Home::new(10);
        let open = home.open().await.unwrap();
        fill(&open, 0, 400).await;
        let before = content(&open).await;
        let latency = Some((Duration::from_micros(50), Duration::from_millis(5)));
        home.disk.set_faults(MemFaults { latency, ..MemFaults::default() });
        let reader = {
            let partition = open.partition(TOPIC, 0);
            tokio::spawn(async move {
                let mut last = Vec::new();
                for _ in 0..10 {
                    last = read_all(&partition, 500).await;
                }
                last
            })
        };
        open.rewrite_all().await.unwrap();
        fill(&open, 400, 100).await;
        open.rewrite_all().await.unwrap();
        assert!(reader.await.unwrap().starts_with(&before[0]));
    });
}

#[test]
fn retention_by_time_and_size_reaches_into_segments() {
    run(11, async {
        let home = Home::new(11);
        let settings = LogSettings { housekeeping_interval: Duration::from_secs(10), ..settings() };
        let home = Home { settings, ..home };
        let open = home.open().await.unwrap();
        fill(&open, 0, 400).await;
        open.rewrite_all().await.unwrap();
        let id = |partition| TopicIdPartition { topic_id: TOPIC, partition };
        let by_size = PartitionSettings {
            retention_ms: -1,
            retention_bytes: 20_000,
            delete: true,
            ..PartitionSettings::default()
        };
        let by_time = PartitionSettings {
            retention_ms: 60_000,
            retention_bytes: -1,
            delete: true,
            ..PartitionSettings::default()
        };
        open.log.update_settings(&id(0), by_size);
        open.log.update_settings(&id(1), by_time);
        let kept = read_all(&open.partition(TOPIC, 2), 4000).await;
        world::task::sleep(Duration::from_secs(200)).await;
        let size = open.partition(TOPIC, 0).size_bytes();
        assert!((20_000..60_000).contains(&size), "{size} bytes are left");
        let old = open.partition(TOPIC, 1).offsets();
        assert_eq!(old.log_start, old.high_watermark, "all of it is older than a minute");
        assert_eq!(read_all(&open.partition(TOPIC, 2), 4000).await, kept);
        open.rewrite_all().await.unwrap();
        assert_no_orphans(&home, &open);
    });
}

#[test]
fn arbitrary_bytes_are_no_manifest_and_no_segment() {
    use world::rng::Rng;
    let rng = SeededRng::new(12);
    let (shard, segment) = run(12, async {
        let home = Home::new(12);
        let open = home.open().await.unwrap();
        fill(&open, 0, 100).await;
        open.rewrite_all().await.unwrap();
        let first = |dir: &str| home.disk.content(&home.named(dir)[0]).unwrap();
        (first("manifest"), first("segments"))
    });
    assert_eq!(Shard::decode(&shard).unwrap().encode(), shard, "what is read is what is written");
    for round in 0..3000 {
        let mut bytes = shard.to_vec();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.next_u64() as u8;
        }
        bytes.truncate(if round % 3 == 0 { rng.below(bytes.len() as u64) as usize } else { bytes.len() });
        if round % 2 == 0 && bytes.len() > 16 {
            // A checksum that fits: the fields themselves must be checked.
            let at = bytes.len() - 16;
            let hash = commitlog::encoding::hash(&bytes[..at]);
            bytes[at..].copy_from_slice(&hash);
        }
        if let Ok(read) = Shard::decode(&bytes) {
            assert_eq!(Shard::decode(&read.encode()), Ok(read), "what is written is what is read");
        }
        let mut bytes = segment.to_vec();
        let at = rng.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << rng.below(8);
        assert!(commitlog::segment::fuzz_segment(&bytes).is_err(), "a flip at {at} was not seen");
        bytes.truncate(at);
        assert!(commitlog::segment::fuzz_segment(&bytes).is_err());
    }
}
