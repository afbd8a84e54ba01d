//! Small segments become large ones: whoever dies or sleeps at whatever step, what was acknowledged is there, and nothing that nobody
//! needs stays for good (R6-R8, F6, F8, P7).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::bucket::{Audit, Named, audit};
use commitlog::{CommitLog, LogSettings, RewriteError};
use protocol::Str;
use world::bucket::{Bucket, BucketCounters, BucketFuture, Listed, MemBucket, Object, Version};
use world::clock::SimClock;
use world::process::Process;
use world::rng::{Rng, SeededRng};
use world::task;

use crate::house::{TOPIC, append, batch, partition, read_all, run};

const NEVER: Duration = Duration::from_secs(1_000_000);
/// More requests than a merge takes.
const STEPS_MAX: u64 = 200;

pub fn settings() -> LogSettings {
    LogSettings {
        linger: Duration::from_millis(50),
        puts_per_second: 20,
        tail_bytes_max: 8 << 10,
        cold_bytes_max: 4 << 10,
        bucket_cache_bytes: 64 << 10,
        // By hand.
        rewrite_interval: NEVER,
        rewrite_job_bytes: 2 << 10,
        bucket_rewrite_slots: 1,
        bucket_segment_bytes: 24 << 10,
        segment_own_bytes: 6 << 10,
        bucket_merge_segments: 3,
        bucket_merge_interval: Duration::ZERO,
        bucket_replaced_keep: Duration::ZERO,
        bucket_shard_whole_bytes: 0,
        bucket_shard_changes_percent: 300,
        ..LogSettings::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The process goes before the request is sent.
    Dies,
    /// It goes when the request has had its effect.
    DiesBehind,
    /// It does not run for a while, and goes on as if nothing had been.
    Sleeps,
}

/// A process's way to the store, with trouble at one of its requests.
#[derive(Clone)]
struct Troubled {
    inner: MemBucket,
    process: Process,
    trouble: Trouble,
    /// Counts down; 0: not armed, or it has been.
    at: Arc<AtomicU64>,
}

impl Troubled {
    fn ask<T: Send + 'static>(&self, ask: impl FnOnce(&MemBucket) -> BucketFuture<T>) -> BucketFuture<T> {
        let left = self.at.load(Ordering::Relaxed);
        self.at.store(left.saturating_sub(1), Ordering::Relaxed);
        if left != 1 {
            return ask(&self.inner);
        }
        match self.trouble {
            Trouble::Dies => {
                self.inner.kill();
                self.process.kill();
                Box::pin(std::future::pending())
            }
            Trouble::DiesBehind => {
                let (asked, inner, process) = (ask(&self.inner), self.inner.clone(), self.process.clone());
                Box::pin(async move {
                    let _ = asked.await;
                    inner.kill();
                    process.kill();
                    std::future::pending().await
                })
            }
            Trouble::Sleeps => {
                self.process.pause();
                ask(&self.inner)
            }
        }
    }
}

impl Bucket for Troubled {
    fn create(&self, key: &str, bytes: Bytes) -> BucketFuture<Version> {
        self.ask(|inner| inner.create(key, bytes))
    }
    fn replace(&self, key: &str, bytes: Bytes, seen: &Version) -> BucketFuture<Version> {
        self.ask(|inner| inner.replace(key, bytes, seen))
    }
    fn put(&self, key: &str, bytes: Bytes) -> BucketFuture<Version> {
        self.ask(|inner| inner.put(key, bytes))
    }
    fn get(&self, key: &str) -> BucketFuture<Option<Object>> {
        self.ask(|inner| inner.get(key))
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> BucketFuture<Option<Bytes>> {
        self.ask(|inner| inner.get_range(key, range))
    }
    fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> BucketFuture<Vec<Listed>> {
        self.ask(|inner| inner.list(prefix, after, max))
    }
    fn delete(&self, key: &str) -> BucketFuture<()> {
        self.ask(|inner| inner.delete(key))
    }
    fn counters(&self) -> Arc<BucketCounters> {
        self.inner.counters()
    }
}

pub struct Node {
    pub process: Process,
    pub at: Arc<AtomicU64>,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
}

pub async fn start(store: &MemBucket, rng: &SeededRng, trouble: Trouble, settings: LogSettings) -> Node {
    let (process, seed) = (Process::new(), rng.below(u64::MAX));
    let at = Arc::new(AtomicU64::new(0));
    let bucket = Troubled { inner: store.client(), process: process.clone(), trouble, at: at.clone() };
    let opening = async move {
        let (shared, own): (Arc<dyn Bucket>, _) = (Arc::new(bucket), SeededRng::shared(seed));
        let options =
            CatalogOptions { node_id: Some(1), lease_ttl: Duration::ZERO, ..CatalogOptions::default() };
        let catalog = Catalog::open_bucket(shared.clone(), own.clone(), options).await.unwrap();
        let clock = Arc::new(SimClock::new(1_700_000_000_000));
        let log = CommitLog::open_bucket(shared, clock, own, settings, catalog.clone()).await.unwrap();
        if catalog.read().topic("t").is_none() {
            let topic = MetadataRecord::CreateTopic {
                id: TOPIC,
                name: Str::from("t"),
                partition_count: 3,
                replication_factor: 1,
                configs: vec![],
            };
            catalog.append(vec![topic]).await.unwrap();
        }
        let ids = (0..3).map(|partition| protocol::TopicIdPartition { topic_id: TOPIC, partition });
        log.create_partitions(&ids.map(|id| (id, Default::default())).collect::<Vec<_>>());
        (catalog, log)
    };
    let (catalog, log) = process.spawn(opening).await.expect("nobody kills it yet");
    Node { process, at, catalog, log }
}

fn value(index: i32, at: i64) -> String {
    format!("{index}-{at}-{}", "v".repeat(40))
}

async fn write(node: &Node, from: i64, to: i64) {
    for at in from..to {
        let all: Vec<_> = (0..3)
            .map(|index| append(&partition(&node.log, index), batch(&[value(index, at)], None, at)).unwrap())
            .collect();
        for appended in all {
            appended.committed().await.unwrap();
        }
    }
}

async fn check(log: &CommitLog, count: i64, when: &str) {
    for index in 0..3 {
        let read = read_all(&partition(log, index), 700).await;
        assert_eq!(read, (0..count).map(|at| (at, value(index, at))).collect::<Vec<_>>(), "{when}");
    }
}

pub async fn audited(store: &MemBucket) -> Audit {
    let shared: Arc<dyn Bucket> = Arc::new(store.clone());
    audit(&shared).await.unwrap()
}

/// Everything that is due, in the process: it may not come to an end.
pub async fn rewrite(node: &Node) -> bool {
    let log = node.log.clone();
    let rewriting = node.process.spawn(async move { while log.rewrite().await.unwrap_or(false) {} });
    task::timeout(Duration::from_secs(300), rewriting).await.is_ok()
}

/// True: the trouble came.
fn story(trouble: Trouble, step: u64) -> bool {
    run(step + 1, async {
        let what = format!("{trouble:?} at step {step}");
        let (store, rng) = (MemBucket::new(step + 1), SeededRng::new(step + 1));
        let one = start(&store, &rng, trouble, settings()).await;
        for job in 0..3 {
            write(&one, job * 8, job * 8 + 8).await;
            one.at.store(if job == 2 { step + 1 } else { 0 }, Ordering::Relaxed);
            rewrite(&one).await;
        }
        if one.at.load(Ordering::Relaxed) > 0 {
            assert!(audited(&store).await.merged_segments > 0, "{what}: there was something to merge");
            return false;
        }
        // The next one takes over, whatever the first one is doing.
        let two = start(&store, &rng, Trouble::Dies, settings()).await;
        check(&two.log, 24, &what).await;
        write(&two, 24, 32).await;
        assert!(rewrite(&two).await, "{what}");
        if trouble == Trouble::Sleeps {
            one.process.resume();
            let log = one.log.clone();
            one.process.spawn(async move { while log.rewrite().await.unwrap_or(false) {} });
            task::sleep(Duration::from_secs(30)).await;
            assert!(one.catalog.is_fenced(), "{what}");
        }
        check(&two.log, 32, &what).await;
        // What the first one left behind is found by a sweep.
        task::sleep(Duration::from_secs(3601)).await;
        assert!(rewrite(&two).await, "{what}");
        check(&two.log, 32, &what).await;
        let settled = audited(&store).await;
        let nothing = Named::default();
        assert_eq!((&settled.problems, &settled.unknown), (&nothing, &nothing), "{what}");
        assert_eq!(settled.segment_records, 96, "{what}");
        assert!(settled.merged_segments > 0 && settled.segments <= 3, "{what}: {settled:?}");
        true
    })
}

#[test]
fn a_merge_may_end_or_sleep_at_any_step() {
    for trouble in [Trouble::Dies, Trouble::DiesBehind, Trouble::Sleeps] {
        let steps = (0..STEPS_MAX).take_while(|step| story(trouble, *step)).count();
        println!("{trouble:?}: {steps} steps");
        assert!((20..STEPS_MAX as usize).contains(&steps), "{steps} steps");
    }
}

/// Large records: pieces as long as a segment, found by the segment's footer.
#[test]
fn long_pieces_are_read_from_any_offset_and_by_time() {
    const COUNT: i64 = 60;
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let settings = LogSettings {
            chunk_bytes_max: 1 << 20,
            unflushed_bytes_max: 64 << 20,
            rewrite_job_bytes: 1 << 20,
            bucket_segment_bytes: 4 << 20,
            segment_own_bytes: 4 << 20,
            ..settings()
        };
        let one = start(&store, &rng, Trouble::Dies, settings.clone()).await;
        let long = |at: i64| format!("{at:06}").repeat(100_000 / 6);
        for at in 0..COUNT {
            let appended = append(&partition(&one.log, 0), batch(&[long(at)], None, at * 10)).unwrap();
            appended.committed().await.unwrap();
        }
        assert!(rewrite(&one).await);
        let merged = audited(&store).await;
        assert!((1..=3).contains(&merged.segments) && merged.merged_segments > 0, "{merged:?}");
        // A shard has few pieces, though there are six mebibytes.
        let two = start(&store, &rng, Trouble::Dies, settings).await;
        let all = partition(&two.log, 0);
        let expected: Vec<_> = (0..COUNT).map(|at| (at, long(at))).collect();
        assert_eq!(read_all(&all, 350_000).await, expected);
        for offset in [0, 7, 31, 59] {
            let request = commitlog::ReadRequest {
                offset,
                max_bytes: 1000,
                min_one_batch: true,
                isolation: Default::default(),
            };
            let read = all.read(request).await.unwrap().records.to_bytes();
            let first = protocol::batch::split_batches(&read).next().unwrap().unwrap();
            assert_eq!(first.header.base_offset, offset);
            let by_time = all.offset_for_timestamp(offset * 10).await.unwrap().unwrap();
            assert_eq!(by_time.offset, offset);
        }
        assert_eq!(all.max_timestamp().await.unwrap().unwrap().offset, COUNT - 1);
        all.delete_records(45).await.unwrap();
        assert_eq!(read_all(&all, 350_000).await, expected[45..]);
    });
}

/// One segment is gone. What else there is goes on being rewritten, merged and removed.
#[test]
fn damage_in_one_place_stops_nothing_else() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let one = start(&store, &rng, Trouble::Dies, settings()).await;
        let segments =
            || store.objects().into_keys().filter(|key| key.starts_with("seg/")).collect::<Vec<_>>();
        write(&one, 0, 8).await;
        assert!(rewrite(&one).await);
        let lost = segments();
        assert_eq!(lost.len(), 1);
        let whole = store.objects()[&lost[0]].clone();
        store.delete(&lost[0]).await.unwrap();
        let mut said = 0;
        for job in 1..8 {
            write(&one, job * 8, job * 8 + 8).await;
            loop {
                match one.log.rewrite().await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(RewriteError::Damaged { place, .. }) if place == lost[0] => said += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert_eq!(said, 1, "it is said once");
        assert_eq!(one.log.counters().rewriter_damaged.load(Ordering::Relaxed), 1);
        assert!(store.objects().keys().filter(|key| key.starts_with("wal/")).count() == 0);
        assert!(audited(&store).await.merged_segments > 0);
        // The store has it again: some time later all is well.
        store.put(&lost[0], whole).await.unwrap();
        task::sleep(Duration::from_secs(601)).await;
        for job in 8..12 {
            write(&one, job * 8, job * 8 + 8).await;
            assert!(rewrite(&one).await);
        }
        assert_eq!(one.log.counters().rewriter_damaged.load(Ordering::Relaxed), 0);
        assert!(!segments().contains(&lost[0]), "it was merged");
        check(&one.log, 96, "in the end").await;
        assert_eq!(audited(&store).await.problems, Named::default());
    });
}

/// F8: readers who learnt of an object a moment ago find it.
#[test]
fn what_was_replaced_stays_for_a_while() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let keep = Duration::from_secs(600);
        let settings = LogSettings { bucket_replaced_keep: keep, ..settings() };
        let one = start(&store, &rng, Trouble::Dies, settings).await;
        write(&one, 0, 8).await;
        let before = store.objects();
        assert!(rewrite(&one).await);
        let is_there =
            || before.keys().all(|key| store.objects().contains_key(key) || key.starts_with("lease/"));
        assert!(is_there());
        let replaced = one.log.counters().replaced_objects.load(Ordering::Relaxed);
        assert!(replaced >= 8, "{replaced}");
        task::sleep(keep - Duration::from_secs(10)).await;
        assert!(rewrite(&one).await);
        assert!(is_there());
        task::sleep(Duration::from_secs(20)).await;
        assert!(rewrite(&one).await);
        assert_eq!(store.objects().keys().filter(|key| key.starts_with("wal/")).count(), 0);
        assert_eq!(one.log.counters().replaced_objects.load(Ordering::Relaxed), 0);
        check(&one.log, 8, "in the end").await;
    });
}
