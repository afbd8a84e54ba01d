//! Several logs in one bucket: partitions go from broker to broker, by plan and by death, on a store with every fault. What was
//! acknowledged is there, once and in order, whoever leads it in the end (P1-P3, P5, R6-R15).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::bucket::{Named, audit, slot_key};
use commitlog::container::{ContainerBuilder, Identity, Kind};
use commitlog::{
    AppendOptions, CommitLog, Isolation, LogSettings, LogState, OpenError, Partition, ReadRequest,
};
use parking_lot::Mutex;
use protocol::batch::split_batches;
use protocol::{Str, TopicIdPartition};
use world::broken;
use world::bucket::{Bucket, MemBucket, MemBucketFaults};
use world::clock::SimClock;
use world::process::Process;
use world::rng::{Rng, SeededRng};
use world::task;

use crate::house::{TOPIC, batch, read_all, run};

const PARTITIONS: i32 = 6;
const NODES: usize = 3;
/// Every scenario is found by one of so many.
const SEEDS_MAX: u64 = 40;
/// Of virtual time, the settling included.
const STORY_MAX: Duration = Duration::from_secs(10_000);

pub fn settings() -> LogSettings {
    LogSettings {
        linger: Duration::from_millis(50),
        puts_per_second: 20,
        chunk_bytes_max: 4 << 10,
        tail_bytes_max: 8 << 10,
        cold_bytes_max: 4 << 10,
        rewrite_interval: Duration::from_millis(300),
        rewrite_job_bytes: 8 << 10,
        bucket_digest_slots: 3,
        bucket_rewrite_slots: 4,
        bucket_rewrite_age: Duration::from_secs(20),
        bucket_segment_bytes: 24 << 10,
        segment_own_bytes: 4 << 10,
        bucket_merge_segments: 3,
        bucket_merge_interval: Duration::from_secs(1),
        bucket_replaced_keep: Duration::ZERO,
        bucket_shard_whole_bytes: 0,
        bucket_shard_changes_percent: 300,
        ..LogSettings::default()
    }
}

pub struct Node {
    pub process: Process,
    is_stopped: AtomicBool,
    pub bucket: MemBucket,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
}

impl Node {
    fn is_live(&self) -> bool {
        !self.catalog.is_fenced() && self.log.state() == LogState::Running
    }

    pub fn kill(&self) {
        self.process.kill();
        self.bucket.kill();
    }

    /// Nothing of it runs for a while: it may be taken over from, and does not know when it goes on.
    fn stop(self: &Arc<Self>, pause: Duration) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.process.pause();
        let node = self.clone();
        task::spawn(async move {
            task::sleep(pause).await;
            node.process.resume();
            node.is_stopped.store(false, Ordering::Relaxed);
        });
    }

    fn led(&self) -> BTreeSet<TopicIdPartition> {
        let led = self.catalog.read().led_by(self.catalog.wal_id());
        led.into_iter().map(|(topic_id, index)| TopicIdPartition::new(topic_id, index as i32)).collect()
    }

    /// Opens what it leads and closes what it does not lead any more, as a broker does.
    pub async fn follow(&self) {
        let led = self.led();
        let open: BTreeSet<TopicIdPartition> = self.log.partition_ids().into_iter().collect();
        self.log.close_partitions(&open.difference(&led).copied().collect::<Vec<_>>());
        let epoch = |id: &TopicIdPartition| {
            self.catalog.read().topic_by_id(id.topic_id).unwrap().partitions[id.partition as usize]
                .leader_epoch
        };
        let (new, known): (Vec<_>, Vec<_>) =
            led.difference(&open).map(|id| (*id, Default::default())).partition(|(id, _)| epoch(id) == 0);
        self.log.create_partitions(&new);
        let _ = self.log.open_partitions(&known).await;
        let led = self.led();
        let late: Vec<_> = self.log.partition_ids().into_iter().filter(|id| !led.contains(id)).collect();
        self.log.close_partitions(&late);
    }

    /// The partition with its leader epoch, if this is its leader as far as it knows.
    pub fn partition(&self, index: i32) -> Option<(Arc<Partition>, i32)> {
        let id = TopicIdPartition { topic_id: TOPIC, partition: index };
        let epoch = self.catalog.read().topic("t")?.partitions[index as usize].leader_epoch;
        Some((self.log.partition(&id)?, epoch))
    }
}

async fn start(store: &MemBucket, rng: &SeededRng, settings: LogSettings) -> Option<Arc<Node>> {
    let process = Process::new();
    let (bucket, seed) = (store.client(), rng.below(u64::MAX));
    process.spawn(start_in(process.clone(), bucket, seed, settings)).await.expect("nobody kills it yet")
}

async fn start_in(
    process: Process,
    bucket: MemBucket,
    seed: u64,
    settings: LogSettings,
) -> Option<Arc<Node>> {
    let clock = Arc::new(SimClock::new(1_700_000_000_000));
    let own = SeededRng::shared(seed);
    let shared: Arc<dyn Bucket> = Arc::new(bucket.clone());
    // Some hear of what others do sooner.
    let follow_every = Duration::from_millis(50 + seed % 1_500);
    let options = CatalogOptions { lease_ttl: Duration::ZERO, follow_every, ..CatalogOptions::default() };
    let catalog = Catalog::open_bucket(shared.clone(), own.clone(), options).await.ok()?;
    let log = CommitLog::open_bucket(shared, clock, own, settings, catalog.clone()).await.ok()?;
    let node = Arc::new(Node { process, is_stopped: AtomicBool::new(false), bucket, catalog, log });
    let following = Arc::downgrade(&node);
    let mut changes = node.catalog.changes();
    task::spawn(async move {
        while let Some(node) = following.upgrade() {
            node.follow().await;
            node.log.follow_manifest().await;
            drop(node);
            let _ = task::timeout(Duration::from_millis(500), changes.changed()).await;
        }
    });
    Some(node)
}

pub async fn started(store: &MemBucket, rng: &SeededRng, settings: LogSettings) -> Arc<Node> {
    for _ in 0..50 {
        if let Some(node) = start(store, rng, settings.clone()).await {
            return node;
        }
    }
    panic!("fifty starts failed");
}

fn value(index: i32, sequence: i32) -> String {
    format!("{index}-{sequence}")
}

type Nodes = Arc<Mutex<Vec<Arc<Node>>>>;

/// An idempotent producer of one partition that looks for the leader again whenever it is told off.
async fn produce(nodes: Nodes, index: i32, acknowledged: Arc<AtomicUsize>, until: task::Instant) {
    while task::now() < until {
        let leader = {
            let nodes = nodes.lock();
            nodes.iter().filter(|node| node.is_live()).find_map(|node| node.partition(index))
        };
        let Some((partition, leader_epoch)) = leader else {
            task::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let first = acknowledged.load(Ordering::Relaxed) as i32;
        let mut under_way = Vec::new();
        for sequence in first..first + 3 {
            let producer = Some((100 + i64::from(index), 0, sequence));
            let options = AppendOptions { leader_epoch, ..AppendOptions::default() };
            match partition.append(batch(&[value(index, sequence)], producer, i64::from(sequence)), options) {
                Ok(appended) => under_way.push(appended),
                Err(_) => break,
            }
        }
        if under_way.is_empty() {
            task::sleep(Duration::from_millis(20)).await;
        }
        for appended in under_way {
            match task::timeout(Duration::from_secs(8), appended.committed()).await {
                Ok(Ok(())) => drop(acknowledged.fetch_add(1, Ordering::Relaxed)),
                _ => break,
            }
        }
    }
}

/// The broker that leads everything is taken over from, alive or stopped, and goes on for a while without knowing.
async fn zombies(
    nodes: &Nodes,
    store: &MemBucket,
    rng: &SeededRng,
    until: task::Instant,
    counts: &mut Counts,
) {
    while task::now() < until {
        task::sleep(Duration::from_millis(rng.below(3_000))).await;
        let (zombie, taker) = {
            let nodes = nodes.lock();
            (nodes[0].clone(), nodes[1].clone())
        };
        if rng.below(3) > 0 {
            zombie.stop(Duration::from_millis(500 + rng.below(6_000)));
            counts.stops += 1;
        }
        let heirs = [taker.catalog.wal_id()];
        let taken = taker.log.take_over(zombie.catalog.wal_id(), &heirs);
        let taken = task::timeout(Duration::from_secs(20), taken).await;
        counts.takeovers += usize::from(matches!(taken, Ok(Ok(_))));
        task::sleep(Duration::from_millis(rng.below(7_000))).await;
        zombie.kill();
        nodes.lock().remove(0);
        let new = started(store, rng, settings()).await;
        nodes.lock().push(new);
    }
}

/// Asks for ends as clients do, also brokers that do not know yet that others lead (R20).
async fn ask_ends(
    nodes: Nodes,
    acknowledged: Vec<Arc<AtomicUsize>>,
    rng: SeededRng,
    until: task::Instant,
    stale: Arc<Mutex<Option<String>>>,
) {
    while task::now() < until {
        task::sleep(Duration::from_millis(rng.below(15))).await;
        let (nodes, stale) = (nodes.lock().clone(), stale.clone());
        let index = rng.below(PARTITIONS as u64) as i32;
        // The first one most often: of zombies it is the one.
        let at = (rng.below(NODES as u64 * 2) as usize).saturating_sub(NODES);
        let Some(node) = nodes.get(at).cloned() else { continue };
        let Some((partition, _)) = node.partition(index) else { continue };
        let known = acknowledged[index as usize].load(Ordering::Relaxed) as i64;
        task::spawn(async move {
            if !matches!(task::timeout(Duration::from_secs(10), node.log.barrier()).await, Ok(Ok(()))) {
                return;
            }
            let is_same = node.partition(index).is_some_and(|(now, _)| Arc::ptr_eq(&now, &partition));
            let end = partition.offsets().high_watermark;
            if is_same && !partition.is_leaving() && end < known {
                *stale.lock() = Some(format!("{index} ends at {end}, and {known} was acknowledged"));
            }
        });
    }
}

/// A consumer of one partition that goes from broker to broker and reads where it is not led: every record in its place, nothing
/// missing that was acknowledged, and no end that goes back (F8, R14).
async fn read_elsewhere(
    nodes: Nodes,
    index: i32,
    acknowledged: Arc<AtomicUsize>,
    rng: SeededRng,
    until: task::Instant,
    count: Arc<AtomicUsize>,
    wrong: Arc<Mutex<Option<String>>>,
) {
    let id = TopicIdPartition { topic_id: TOPIC, partition: index };
    let mut position = 0;
    let mut ends: BTreeMap<u64, i64> = BTreeMap::new();
    while task::now() < until {
        task::sleep(Duration::from_millis(rng.below(300))).await;
        let node = {
            let nodes = nodes.lock();
            nodes[rng.below(nodes.len() as u64) as usize].clone()
        };
        let known = acknowledged.load(Ordering::Relaxed) as i64;
        let (log, catalog) = (node.log.clone(), node.catalog.clone());
        let opening = async {
            let is_new = catalog.catch_up().await.is_ok();
            let opened = log.open_views(&[id]).await;
            (is_new && log.refresh_views().await.is_ok(), opened)
        };
        let Ok((is_fresh, opened)) = task::timeout(Duration::from_secs(60), opening).await else { continue };
        if let Err(OpenError::DamagedObject { key, detail }) = opened {
            *wrong.lock() = Some(format!("{index} cannot be read elsewhere: {key}: {detail}"));
            return;
        }
        let Some(view) = log.view(&id) else { continue };
        let end = view.offsets().high_watermark;
        let before = ends.insert(catalog.wal_id(), end).unwrap_or(0);
        if end < before || is_fresh && end < known {
            *wrong.lock() =
                Some(format!("{index} ends at {end} elsewhere, {before} before, {known} acknowledged"));
            return;
        }
        if end <= position {
            continue;
        }
        let isolation = Isolation::ReadCommitted;
        let request = ReadRequest { offset: position, max_bytes: 700, min_one_batch: true, isolation };
        let Ok(Ok(read)) = task::timeout(Duration::from_secs(60), view.read(request)).await else { continue };
        for batch in split_batches(&read.records.to_bytes()) {
            let record = batch.unwrap().records(1 << 20).next().unwrap().unwrap();
            let found = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            if (record.offset, &found) != (position, &value(index, position as i32)) {
                *wrong.lock() = Some(format!("{index} has {found} at {} elsewhere", record.offset));
                return;
            }
            position += 1;
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Default, Debug)]
struct Counts {
    acknowledged: usize,
    takeovers: usize,
    moves: usize,
    retired: usize,
    stops: usize,
    segments: u64,
    /// At brokers that did not lead.
    read: usize,
    merged: u64,
}

/// Deaths, takeovers and moves at any time, by anybody.
async fn trouble(
    nodes: &Nodes,
    store: &MemBucket,
    rng: &SeededRng,
    until: task::Instant,
    counts: &mut Counts,
) {
    while task::now() < until {
        task::sleep(Duration::from_millis(50 + rng.below(900))).await;
        let all: Vec<Arc<Node>> = nodes.lock().clone();
        let is_stopped = |node: &Arc<Node>| node.is_stopped.load(Ordering::Relaxed);
        let live: Vec<&Arc<Node>> = all.iter().filter(|node| node.is_live() && !is_stopped(node)).collect();
        if live.is_empty() && all.iter().any(is_stopped) {
            continue;
        }
        let Some(actor) = (!live.is_empty()).then(|| live[rng.below(live.len() as u64) as usize].clone())
        else {
            nodes.lock().clear();
            let new = started(store, rng, settings()).await;
            nodes.lock().push(new);
            continue;
        };
        let others: Vec<u64> = live
            .iter()
            .map(|node| node.catalog.wal_id())
            .filter(|wal_id| *wal_id != actor.catalog.wal_id())
            .collect();
        match rng.below(12) {
            // The process goes. Nobody is told.
            0..2 => {
                let victim = rng.below(all.len() as u64) as usize;
                all[victim].kill();
                nodes.lock().remove(victim);
                let new = started(store, rng, settings()).await;
                nodes.lock().push(new);
            }
            // Somebody takes over from somebody who may well be alive.
            2..5 => {
                let open: Vec<u64> = {
                    let state = actor.catalog.read();
                    let open = state.wals().filter(|(_, wal)| wal.sealed_at.is_none());
                    open.map(|(wal_id, _)| wal_id)
                        .filter(|wal_id| *wal_id != actor.catalog.wal_id())
                        .collect()
                };
                if open.is_empty() {
                    continue;
                }
                let victim = open[rng.below(open.len() as u64) as usize];
                let heirs: Vec<u64> = others
                    .iter()
                    .copied()
                    .filter(|wal_id| *wal_id != victim)
                    .chain([actor.catalog.wal_id()])
                    .collect();
                let taken = task::timeout(Duration::from_secs(20), actor.log.take_over(victim, &heirs)).await;
                counts.takeovers += usize::from(matches!(taken, Ok(Ok(_))));
            }
            5..9 => {
                let led: Vec<TopicIdPartition> =
                    actor.log.partition_ids().into_iter().filter(|_| rng.below(2) == 0).collect();
                if led.is_empty() || others.is_empty() {
                    continue;
                }
                let heir = others[rng.below(others.len() as u64) as usize];
                let moved =
                    task::timeout(Duration::from_secs(20), actor.log.move_partitions(&led, heir)).await;
                counts.moves += usize::from(matches!(moved, Ok(Ok(()))));
            }
            9..11 => {
                let victim = &all[rng.below(all.len() as u64) as usize];
                if !is_stopped(victim) {
                    victim.stop(Duration::from_millis(200 + rng.below(8_000)));
                    counts.stops += 1;
                }
            }
            _ if !others.is_empty() => {
                let retired = task::timeout(Duration::from_secs(20), actor.log.retire(&others)).await;
                counts.retired += usize::from(matches!(retired, Ok(Ok(()))));
            }
            _ => {}
        }
        // Whoever is fenced comes again as another incarnation.
        let (live, fenced): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *nodes.lock()).into_iter().partition(|node| node.is_live());
        fenced.iter().for_each(|node| node.kill());
        *nodes.lock() = live;
        while nodes.lock().len() < NODES {
            let new = started(store, rng, settings()).await;
            nodes.lock().push(new);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Story {
    Anything,
    Zombies,
    /// The same, and many answers do not come.
    Silence,
    /// Anything, and readers at brokers that do not lead.
    Readers,
}

impl Story {
    fn faults(self) -> MemBucketFaults {
        match self {
            Story::Anything | Story::Readers => MemBucketFaults::all(),
            // Quick, but answers are lost.
            Story::Zombies | Story::Silence => MemBucketFaults {
                latency: (Duration::from_millis(5), Duration::from_millis(80)),
                list_factor: 1,
                answer_lost: if self == Story::Silence { 150 } else { 60 },
                late: 10,
                ..MemBucketFaults::all()
            },
        }
    }
}

fn story(seed: u64) -> (Counts, u64) {
    tell(seed, Story::Anything)
}

fn tell(seed: u64, story: Story) -> (Counts, u64) {
    run(seed, async { task::timeout(STORY_MAX, told(seed, story)).await.expect("the story ends") })
}

async fn told(seed: u64, story: Story) -> (Counts, u64) {
    {
        let store = MemBucket::new(seed);
        store.set_faults(story.faults());
        let rng = SeededRng::new(seed);
        let nodes: Nodes = Arc::default();
        for _ in 0..NODES {
            let node = started(&store, &rng, settings()).await;
            nodes.lock().push(node);
        }
        let topic = MetadataRecord::CreateTopic {
            id: TOPIC,
            name: Str::from("t"),
            partition_count: PARTITIONS as u32,
            replication_factor: 3,
            configs: vec![],
        };
        let first = nodes.lock()[0].clone();
        while first.catalog.append(vec![topic.clone()]).await.is_err() {
            assert!(task::now().elapsed() < Duration::from_secs(600));
            if first.catalog.read().topic("t").is_some() {
                break;
            }
        }
        let until = task::now() + Duration::from_secs(40);
        let acknowledged: Vec<Arc<AtomicUsize>> = (0..PARTITIONS).map(|_| Arc::default()).collect();
        let mut producers = task::JoinSet::new();
        for index in 0..PARTITIONS {
            producers.spawn(produce(nodes.clone(), index, acknowledged[index as usize].clone(), until));
        }
        let stale: Arc<Mutex<Option<String>>> = Arc::default();
        let asking = SeededRng::new(seed ^ 0xa5);
        task::spawn(ask_ends(nodes.clone(), acknowledged.clone(), asking, until, stale.clone()));
        let mut counts = Counts::default();
        let read: Arc<AtomicUsize> = Arc::default();
        if story == Story::Readers {
            for index in 0..PARTITIONS {
                let reading = SeededRng::new(seed ^ 0x5a ^ (index as u64) << 8);
                let told = acknowledged[index as usize].clone();
                let (nodes, wrong) = (nodes.clone(), stale.clone());
                task::spawn(read_elsewhere(nodes, index, told, reading, until, read.clone(), wrong));
            }
        }
        match story {
            Story::Anything | Story::Readers => trouble(&nodes, &store, &rng, until, &mut counts).await,
            Story::Zombies | Story::Silence => zombies(&nodes, &store, &rng, until, &mut counts).await,
        }
        producers.join_all().await;
        assert_eq!(*stale.lock(), None, "seed {seed}");
        for node in nodes.lock().drain(..) {
            node.kill();
        }
        store.set_faults(MemBucketFaults::default());
        // What was late has come.
        task::sleep(Duration::from_secs(200)).await;
        let last = started(&store, &rng, settings()).await;
        let open: Vec<u64> = {
            let state = last.catalog.read();
            state.wals().filter(|(_, wal)| wal.sealed_at.is_none()).map(|(wal_id, _)| wal_id).collect()
        };
        for wal_id in open.into_iter().rev().filter(|wal_id| *wal_id != last.catalog.wal_id()) {
            last.log.take_over(wal_id, &[last.catalog.wal_id()]).await.unwrap();
        }
        last.follow().await;
        let check = async |when: &str| {
            for index in 0..PARTITIONS {
                let (partition, _) =
                    last.partition(index).unwrap_or_else(|| panic!("seed {seed}: {index} is not open"));
                let values: Vec<String> =
                    read_all(&partition, 600).await.into_iter().map(|(_, v)| v).collect();
                let told = acknowledged[index as usize].load(Ordering::Relaxed);
                assert!(values.len() >= told, "seed {seed}, {when}: {index} has {} of {told}", values.len());
                let expected: Vec<String> = (0..values.len() as i32).map(|at| value(index, at)).collect();
                assert_eq!(values, expected, "seed {seed}, {when}, partition {index}");
            }
        };
        check("before the last rewrite").await;
        let shared: Arc<dyn Bucket> = Arc::new(store.clone());
        assert_eq!(audit(&shared).await.unwrap().problems, Named::default(), "seed {seed}");
        // When the dust has settled nothing is left that nobody needs.
        task::sleep(Duration::from_secs(3601)).await;
        while last.log.rewrite().await.unwrap_or_else(|error| panic!("seed {seed}: {error}")) {}
        check("after the last rewrite").await;
        let settled = audit(&shared).await.unwrap();
        assert_eq!(
            (&settled.problems, &settled.unknown),
            (&Named::default(), &Named::default()),
            "seed {seed}"
        );
        for wal in settled.wals.iter().filter(|wal| wal.sealed_at.is_some()) {
            assert_eq!((Some(wal.mark), wal.slots), (wal.sealed_at, 0), "seed {seed}: {wal:?}");
        }
        counts.acknowledged = acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        counts.segments = settled.segments;
        counts.read = read.load(Ordering::Relaxed);
        counts.merged = settled.merged_segments;
        (counts, store.trace_hash())
    }
}

/// Does the story notice that the rule is broken?
fn is_found(scenario: &'static str, story: Story, seed: u64) -> bool {
    broken::set(Some(scenario));
    let told = std::panic::catch_unwind(|| tell(seed, story));
    broken::set(None);
    told.is_err()
}

/// Seeds until it is found, in the median, from wherever one begins.
pub fn median_seeds(found: &[bool]) -> Option<usize> {
    let from = |first: usize| found[first..].iter().position(|found| *found).map(|at| at + 1);
    let mut seeds: Vec<usize> = (0..found.len()).filter_map(from).collect();
    seeds.sort_unstable();
    seeds.get(seeds.len() / 2).copied()
}

/// Scenarios of the bucket protocol, section 7, each with the rule removed that keeps it away.
#[test]
fn what_rules_keep_away_is_found_without_them() {
    // With SEEDS: so many of each. Else up to the first that finds it.
    let seeds: Option<u64> = std::env::var("SEEDS").ok().map(|seeds| seeds.parse().unwrap());
    let only = std::env::var("SCENARIO").ok();
    for (scenario, story) in [
        ("heirs-apart", Story::Anything),
        ("slatedb-1682", Story::Zombies),
        ("sweep-before-manifest", Story::Zombies),
        ("double-rewriter", Story::Silence),
        ("move-outcome-unknown", Story::Anything),
        ("late-metadata-put", Story::Anything),
        ("scan-from-zero", Story::Zombies),
    ] {
        // These take dozens of seeds, or long ones: by name only.
        let is_slow = ["slatedb-1682", "double-rewriter"].contains(&scenario);
        if only.as_ref().map_or(is_slow, |only| only != scenario) {
            continue;
        }
        let Some(seeds) = seeds else {
            let first = (1..=SEEDS_MAX).find(|seed| is_found(scenario, story, *seed));
            println!("{scenario}: found by seed {first:?}");
            assert!(first.is_some(), "{scenario} is not found");
            continue;
        };
        let found: Vec<bool> = (1..=seeds).map(|seed| is_found(scenario, story, seed)).collect();
        let (count, median) = (found.iter().filter(|found| **found).count(), median_seeds(&found));
        println!("{scenario}: found by {count} of {seeds} seeds, {median:?} in the median");
    }
}

#[test]
fn what_was_acknowledged_is_there_whoever_led_it() {
    let mut total = Counts::default();
    for seed in 1..=20 {
        let (counts, _) = story(seed);
        total.acknowledged += counts.acknowledged;
        total.takeovers += counts.takeovers;
        total.moves += counts.moves;
        total.retired += counts.retired;
        total.stops += counts.stops;
        total.segments += counts.segments;
        total.merged += counts.merged;
    }
    println!("{total:?}");
    assert!(total.merged > 20, "{total:?}");
    assert!(
        total.acknowledged > 15_000 && total.takeovers > 25 && total.moves > 15 && total.retired > 5,
        "{total:?}"
    );
}

#[test]
fn readers_at_brokers_that_do_not_lead_see_the_same_log() {
    let mut total = Counts::default();
    for seed in 1..=15 {
        let (counts, _) = tell(seed, Story::Readers);
        total.read += counts.read;
        total.takeovers += counts.takeovers;
        total.moves += counts.moves;
    }
    println!("{total:?}");
    assert!(total.read > 500 && total.takeovers > 10 && total.moves > 5, "{total:?}");
}

/// A broker that was stopped for longer than its lease, or only does not know yet that others lead, is told nothing that they are not.
#[test]
fn a_zombie_acknowledges_nothing_that_is_lost() {
    let mut total = Counts::default();
    for seed in 1..=20 {
        let (counts, _) = tell(seed, Story::Zombies);
        total.acknowledged += counts.acknowledged;
        total.takeovers += counts.takeovers;
        total.stops += counts.stops;
    }
    println!("{total:?}");
    assert!(total.acknowledged > 15_000 && total.takeovers > 60 && total.stops > 40, "{total:?}");
}

#[test]
fn the_same_seed_moves_the_same_partitions() {
    assert_eq!(story(3).1, story(3).1);
}

/// Does a broker tell an old end, whose next slot was stored, taken over, rewritten and removed while it waited for the answer?
fn tells_an_old_end(scenario: Option<&'static str>) -> bool {
    broken::set(scenario);
    let told = run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let (one, two) = (started(&store, &rng, settings()).await, started(&store, &rng, settings()).await);
        let topic = MetadataRecord::CreateTopic {
            id: TOPIC,
            name: Str::from("t"),
            partition_count: 2,
            replication_factor: 1,
            configs: vec![],
        };
        one.catalog.append(vec![topic]).await.unwrap();
        one.follow().await;
        let index = one.log.partition_ids()[0].partition;
        let write = async |node: &Node, text: &str| {
            let (partition, leader_epoch) = node.partition(index).unwrap();
            let options = AppendOptions { leader_epoch, ..AppendOptions::default() };
            partition.append(batch(&[text.into()], None, 0), options).unwrap()
        };
        write(&one, "a").await.committed().await.unwrap();
        store.set_faults(MemBucketFaults { answer_lost: 1000, ..MemBucketFaults::default() });
        let _unanswered = write(&one, "b").await;
        task::sleep(Duration::from_millis(400)).await;
        one.process.pause();
        store.set_faults(MemBucketFaults::default());
        let me = two.catalog.wal_id();
        assert_eq!(two.log.take_over(one.catalog.wal_id(), &[me]).await.unwrap(), 2);
        two.follow().await;
        while two.log.rewrite().await.unwrap() {}
        write(&two, "c").await.committed().await.unwrap();
        let passed = task::timeout(Duration::from_secs(2), one.log.barrier()).await;
        assert_eq!(one.partition(index).unwrap().0.offsets().high_watermark, 1);
        matches!(passed, Ok(Ok(())))
    });
    broken::set(None);
    told
}

/// R20
#[test]
fn an_end_is_told_only_when_nothing_is_on_its_way() {
    assert!(!tells_an_old_end(None));
    assert!(tells_an_old_end(Some("barrier-404-after-gc")));
}

/// R13: a log start that is on its way is part of what a partition takes along.
#[test]
fn records_that_are_deleted_stay_deleted_when_their_partition_moves() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let (one, two) = (started(&store, &rng, settings()).await, started(&store, &rng, settings()).await);
        let topic = MetadataRecord::CreateTopic {
            id: TOPIC,
            name: Str::from("t"),
            partition_count: 2,
            replication_factor: 1,
            configs: vec![],
        };
        one.catalog.append(vec![topic]).await.unwrap();
        one.follow().await;
        let index = one.log.partition_ids()[0].partition;
        let (partition, epoch) = one.partition(index).unwrap();
        let options = AppendOptions { leader_epoch: epoch, ..AppendOptions::default() };
        let sent = partition.append(batch(&["a".into(), "b".into(), "c".into()], None, 0), options).unwrap();
        sent.committed().await.unwrap();
        let trimming = partition.clone();
        let trimmed = task::spawn(async move { trimming.delete_records(2).await });
        task::yield_now().await;
        one.log.move_partitions(&[partition.id()], two.catalog.wal_id()).await.unwrap();
        assert_eq!(trimmed.await.unwrap().unwrap(), 2);
        two.catalog.catch_up().await.unwrap();
        two.follow().await;
        assert_eq!(two.partition(index).unwrap().0.offsets().log_start, 2);
    });
}

/// R13, R20: a partition that went has taken everything with it, and its end is told only by who may know.
#[test]
fn a_planned_move_takes_everything_along() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let (one, two) = (started(&store, &rng, settings()).await, started(&store, &rng, settings()).await);
        let topic = MetadataRecord::CreateTopic {
            id: TOPIC,
            name: Str::from("t"),
            partition_count: 2,
            replication_factor: 1,
            configs: vec![],
        };
        one.catalog.append(vec![topic]).await.unwrap();
        one.follow().await;
        let index = one.log.partition_ids()[0].partition;
        let (partition, epoch) = one.partition(index).unwrap();
        let options = AppendOptions { leader_epoch: epoch, ..AppendOptions::default() };
        for sequence in 0..5 {
            let sent = partition
                .append(batch(&[value(index, sequence)], Some((7, 0, sequence)), 0), options)
                .unwrap();
            if sequence < 4 {
                sent.committed().await.unwrap();
            }
        }
        one.log.barrier().await.unwrap();
        // The last one is still on its way: it is waited for.
        one.log.move_partitions(&[partition.id()], two.catalog.wal_id()).await.unwrap();
        let refused = partition.append(batch(&["late".into()], None, 0), options).unwrap_err();
        assert!(matches!(refused, commitlog::AppendError::NotLeader), "{refused}");
        assert!(one.partition(index).is_none());
        two.catalog.catch_up().await.unwrap();
        two.follow().await;
        let (there, epoch) = two.partition(index).unwrap();
        assert_eq!(epoch, 1);
        let values: Vec<String> = read_all(&there, 600).await.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, (0..5).map(|at| value(index, at)).collect::<Vec<_>>());
        let again = there.append(batch(&[value(index, 4)], Some((7, 0, 4)), 0), options).unwrap();
        assert!(again.duplicate && again.base_offset == 4);
        // And back, after something was written there.
        let options = AppendOptions { leader_epoch: 1, ..AppendOptions::default() };
        let sent = there.append(batch(&[value(index, 5)], Some((7, 0, 5)), 0), options).unwrap();
        sent.committed().await.unwrap();
        two.log.retire(&[one.catalog.wal_id()]).await.unwrap();
        assert!(two.catalog.is_fenced());
        one.catalog.catch_up().await.unwrap();
        one.follow().await;
        let (back, epoch) = one.partition(index).unwrap();
        assert_eq!((epoch, back.offsets().high_watermark), (2, 6));
        assert_eq!(read_all(&back, 600).await.len(), 6);
        // A barrier asks the bucket: whoever was taken over from finds out by itself.
        let third = started(&store, &rng, settings()).await;
        one.log.barrier().await.unwrap();
        third.log.take_over(one.catalog.wal_id(), &[third.catalog.wal_id()]).await.unwrap();
        let fenced = one.log.barrier().await.unwrap_err().to_string();
        assert!(fenced.contains("fenced"), "{fenced}");
    });
}

/// Whoever reads many partitions of one leader fetches each of its commits once, index and batches of all partitions in one.
#[test]
fn readers_elsewhere_fetch_each_commit_once() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let quiet = LogSettings { bucket_rewrite_slots: 1_000, ..settings() };
        let (one, two) = (started(&store, &rng, quiet.clone()).await, started(&store, &rng, quiet).await);
        let topic = MetadataRecord::CreateTopic {
            id: TOPIC,
            name: Str::from("t"),
            partition_count: 20,
            replication_factor: 2,
            configs: vec![],
        };
        one.catalog.append(vec![topic]).await.unwrap();
        one.follow().await;
        two.catalog.catch_up().await.unwrap();
        let led: Vec<TopicIdPartition> = one.led().into_iter().collect();
        assert_eq!(led.len(), 10);
        let slots = 30;
        for sequence in 0..slots {
            let mut sent = Vec::new();
            for id in &led {
                let partition = one.log.partition(id).unwrap();
                let batch = batch(&[value(id.partition, sequence)], None, 0);
                sent.push(partition.append(batch, AppendOptions::default()).unwrap());
            }
            for sent in sent {
                sent.committed().await.unwrap();
            }
        }
        let before = two.bucket.counters().gets.load(Ordering::Relaxed);
        two.log.open_views(&led).await.unwrap();
        for id in &led {
            let view = two.log.view(id).unwrap();
            let values: Vec<String> =
                read_all(&view, 600).await.into_iter().map(|(_, value)| value).collect();
            assert_eq!(values, (0..slots).map(|at| value(id.partition, at)).collect::<Vec<_>>());
        }
        let gets = two.bucket.counters().gets.load(Ordering::Relaxed) - before;
        // Slots that are not there yet are asked for as well, in steps that double, and the log of the metadata.
        assert!(gets < slots as u64 + 50, "{gets} requests for {slots} commits of {} partitions", led.len());
        assert_eq!(two.log.view_count().0, led.len());
    });
}

#[test]
fn readers_elsewhere_have_no_more_open_than_they_may() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let few = LogSettings { bucket_views_max: 3, ..settings() };
        let (one, two) = (started(&store, &rng, few.clone()).await, started(&store, &rng, few).await);
        let topic = MetadataRecord::CreateTopic {
            id: TOPIC,
            name: Str::from("t"),
            partition_count: 10,
            replication_factor: 2,
            configs: vec![],
        };
        one.catalog.append(vec![topic]).await.unwrap();
        one.follow().await;
        two.catalog.catch_up().await.unwrap();
        let led: Vec<TopicIdPartition> = one.led().into_iter().collect();
        for id in &led {
            two.log.open_views(&[*id]).await.unwrap();
            task::sleep(Duration::from_millis(10)).await;
            // The first one is read again and again.
            assert!(two.log.view(&led[0]).is_some());
        }
        assert_eq!(two.log.view_count(), (3, 3));
        assert!(two.log.view(&led[1]).is_none() && two.log.view(&led[4]).is_some());
        // One that comes to be led here is a view no more.
        one.log.move_partitions(&[led[4]], two.catalog.wal_id()).await.unwrap();
        two.catalog.catch_up().await.unwrap();
        two.log.refresh_views().await.unwrap();
        assert!(two.log.view(&led[4]).is_none() && two.log.view(&led[0]).is_some());
    });
}

/// P7: partition 0 is in slots 0 and 2, partition 1 in slot 1, partition 2 in slot 3 and 3 nowhere. The leader dies, and the heir finds
/// one of them lost.
#[test]
fn a_lost_slot_keeps_closed_what_it_may_be_about_and_nothing_else() {
    // The last one has no next one that could say what it was about.
    for (lost, closed) in [(0, vec![0]), (1, vec![1]), (2, vec![0]), (3, vec![0, 1, 2, 3])] {
        for is_missing in [false, true] {
            run(1, async {
                let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
                let seldom = LogSettings {
                    rewrite_interval: Duration::from_secs(3600),
                    bucket_digest_slots: 0,
                    ..settings()
                };
                let one = started(&store, &rng, seldom.clone()).await;
                let topic = MetadataRecord::CreateTopic {
                    id: TOPIC,
                    name: Str::from("t"),
                    partition_count: 4,
                    replication_factor: 1,
                    configs: vec![],
                };
                one.catalog.append(vec![topic]).await.unwrap();
                one.follow().await;
                for index in [0, 1, 0, 2] {
                    let (partition, _) = one.partition(index).unwrap();
                    let sent = partition.append(batch(&["a".into()], None, 0), Default::default());
                    sent.unwrap().committed().await.unwrap();
                }
                let two = started(&store, &rng, seldom).await;
                one.kill();
                let wal_id = one.catalog.wal_id();
                let key = slot_key(wal_id, lost);
                let whole = store.objects()[&key].clone();
                assert_eq!(two.log.take_over(wal_id, &[two.catalog.wal_id()]).await.unwrap(), 4);
                // It opens all of them by itself.
                while two.log.partition_ids().len() < 4 {
                    task::sleep(Duration::from_millis(10)).await;
                }
                match is_missing {
                    true => store.delete(&key).await.unwrap(),
                    false => {
                        let mut damaged = whole.to_vec();
                        *damaged.last_mut().unwrap() ^= 1;
                        store.put(&key, damaged.into()).await.unwrap();
                    }
                }
                two.log.close_partitions(&two.log.partition_ids());
                let led: Vec<_> = two.led().into_iter().map(|id| (id, Default::default())).collect();
                assert_eq!(led.len(), 4);
                let refused = two.log.open_partitions(&led).await;
                let is_named =
                    matches!(&refused, Err(OpenError::DamagedObject { key: named, .. }) if *named == key);
                assert!(is_named, "{refused:?}");
                let open: Vec<i32> = (0..4).filter(|index| two.partition(*index).is_some()).collect();
                let expected: Vec<i32> = (0..4).filter(|index| !closed.contains(index)).collect();
                assert_eq!(open, expected, "slot {lost}, missing: {is_missing}");
                // It takes writes as if nothing were, and nobody reads less than was acknowledged.
                for index in open {
                    let (partition, leader_epoch) = two.partition(index).unwrap();
                    let options = AppendOptions { leader_epoch, ..Default::default() };
                    let sent = partition.append(batch(&["b".into()], None, 0), options).unwrap();
                    sent.committed().await.unwrap();
                    let count = [2, 1, 1, 0][index as usize] + 1;
                    assert_eq!(read_all(&partition, 600).await.len(), count);
                }
                // A store that had a bad hour.
                store.put(&key, whole).await.unwrap();
                two.follow().await;
                assert_eq!(two.log.partition_ids().len(), 4);
            });
        }
    }
}

/// What is said of a WAL saves looks at the store. It is not believed: neither that there is more than there is, nor for ever.
#[test]
fn what_a_leader_says_of_its_wal_is_a_hint() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let seldom = LogSettings { bucket_view_interval: Duration::from_millis(500), ..settings() };
        let (one, two) = (started(&store, &rng, seldom.clone()).await, started(&store, &rng, seldom).await);
        let topic = MetadataRecord::CreateTopic {
            id: TOPIC,
            name: Str::from("t"),
            partition_count: 2,
            replication_factor: 2,
            configs: vec![],
        };
        one.catalog.append(vec![topic]).await.unwrap();
        one.follow().await;
        two.catalog.catch_up().await.unwrap();
        let id = one.log.partition_ids()[0];
        let partition = one.log.partition(&id).unwrap();
        let append = async |value: &str| {
            let sent = partition.append(batch(&[value.into()], None, 0), Default::default());
            sent.unwrap().committed().await.unwrap();
        };
        two.log.open_views(&[id]).await.unwrap();
        let view = two.log.view(&id).unwrap();
        let wal_id = one.catalog.wal_id();
        assert_eq!(*two.log.followed_wals().unwrap().borrow(), BTreeSet::from([wal_id]));
        let end = || view.offsets().high_watermark;
        let lag = async |ends_at: i64| {
            let began = task::now();
            while end() < ends_at {
                task::sleep(Duration::from_millis(1)).await;
                assert!(began.elapsed() < Duration::from_secs(60));
            }
            began.elapsed()
        };
        append("a").await;
        two.log.slots_stored(wal_id, one.log.stored_slots(0, Duration::ZERO).await);
        assert!(lag(1).await < Duration::from_millis(100), "at once");
        // Somebody says that there are a thousand more.
        two.log.slots_stored(wal_id, 1000);
        task::sleep(Duration::from_secs(1)).await;
        assert_eq!(end(), 1);
        append("b").await;
        lag(2).await;
        // A leader that says again and again that there is nothing new is looked at all the same.
        two.log.slots_unheard(wal_id);
        append("c").await;
        let lying = async {
            loop {
                two.log.slots_stored(wal_id, 2);
                task::sleep(Duration::from_millis(200)).await;
            }
        };
        let late = tokio::select! { late = lag(3) => late, () = lying => unreachable!("for ever") };
        assert!(late <= Duration::from_secs(11), "{late:?}");
        // Nobody says anything any more: it is looked for as often as before.
        append("d").await;
        two.log.slots_unheard(wal_id);
        assert!(lag(4).await < Duration::from_secs(1));
        // A question waits for what is new, and not for longer than it is to.
        let asked = one.log.stored_slots(4, Duration::from_secs(5));
        let (stored, ()) = tokio::join!(asked, append("e"));
        assert_eq!(stored, 5);
        assert_eq!(one.log.stored_slots(5, Duration::from_secs(5)).await, 5);
    });
}

/// Where does a reader elsewhere see the end, when the leader died with its slot 1 on the way and slot 2 stored?
fn end_seen_elsewhere(scenario: Option<&'static str>) -> i64 {
    broken::set(scenario);
    let end = run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let (one, two) = (started(&store, &rng, settings()).await, started(&store, &rng, settings()).await);
        let topic = MetadataRecord::CreateTopic {
            id: TOPIC,
            name: Str::from("t"),
            partition_count: 2,
            replication_factor: 2,
            configs: vec![],
        };
        one.catalog.append(vec![topic]).await.unwrap();
        one.follow().await;
        two.catalog.catch_up().await.unwrap();
        let id = one.log.partition_ids()[0];
        let sent = one.log.partition(&id).unwrap().append(batch(&["a".into()], None, 0), Default::default());
        sent.unwrap().committed().await.unwrap();
        one.kill();
        let wal_id = one.catalog.wal_id();
        let behind = batch(&["void".into()], None, 0);
        let mut slot = ContainerBuilder::new(1_000, 1);
        slot.push(id, 0, &behind, 1, -1);
        let identity = Identity {
            kind: Kind::Object,
            log_id: u128::from(wal_id).to_be_bytes(),
            number: 2,
            predecessor: [0; 16],
            durable: 1,
            nonce: [1; 16],
            created_ms: 0,
            file_len: 0,
        };
        let (bytes, header, _) = slot.finish(identity);
        store.put(&slot_key(wal_id, 2), bytes.slice(..header.len() as usize)).await.unwrap();
        two.log.open_views(&[id]).await.unwrap();
        let end = two.log.view(&id).unwrap().offsets().high_watermark;
        assert_eq!(two.log.take_over(wal_id, &[two.catalog.wal_id()]).await.unwrap(), 1);
        two.follow().await;
        assert_eq!(read_all(&two.log.partition(&id).unwrap(), 600).await, [(0, "a".to_owned())]);
        end
    });
    broken::set(None);
    end
}

/// R14
#[test]
fn readers_elsewhere_stop_at_a_gap() {
    assert_eq!(end_seen_elsewhere(None), 1);
    assert_eq!(end_seen_elsewhere(Some("read-behind-gap")), 2);
}
