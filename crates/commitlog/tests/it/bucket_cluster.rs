//! Several logs in one bucket: partitions go from broker to broker, by plan and by death, on a store with every fault. What was
//! acknowledged is there, once and in order, whoever leads it in the end (P1-P3, P5, R6-R15).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::bucket::{Named, audit};
use commitlog::{AppendOptions, CommitLog, LogSettings, LogState, Partition};
use parking_lot::Mutex;
use protocol::{Str, TopicIdPartition};
use world::bucket::{Bucket, MemBucket, MemBucketFaults};
use world::clock::SimClock;
use world::rng::{Rng, SeededRng};
use world::task;

use crate::house::{TOPIC, batch, read_all, run};

const PARTITIONS: i32 = 6;
const NODES: usize = 3;

fn settings() -> LogSettings {
    LogSettings {
        linger: Duration::from_millis(50),
        puts_per_second: 20,
        chunk_bytes_max: 4 << 10,
        tail_bytes_max: 8 << 10,
        cold_bytes_max: 4 << 10,
        rewrite_interval: Duration::from_millis(300),
        rewrite_job_bytes: 8 << 10,
        bucket_rewrite_slots: 12,
        bucket_rewrite_age: Duration::from_secs(20),
        ..LogSettings::default()
    }
}

/// A process.
struct Node {
    bucket: MemBucket,
    catalog: Arc<Catalog>,
    log: Arc<CommitLog>,
}

impl Node {
    fn is_live(&self) -> bool {
        !self.catalog.is_fenced() && self.log.state() == LogState::Running
    }

    fn led(&self) -> BTreeSet<TopicIdPartition> {
        let led = self.catalog.read().led_by(self.catalog.wal_id());
        led.into_iter().map(|(topic_id, index)| TopicIdPartition::new(topic_id, index as i32)).collect()
    }

    /// Opens what it leads and closes what it does not lead any more, as a broker does.
    async fn follow(&self) {
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
    fn partition(&self, index: i32) -> Option<(Arc<Partition>, i32)> {
        let id = TopicIdPartition { topic_id: TOPIC, partition: index };
        let epoch = self.catalog.read().topic("t")?.partitions[index as usize].leader_epoch;
        Some((self.log.partition(&id)?, epoch))
    }
}

async fn start(store: &MemBucket, rng: &SeededRng, settings: LogSettings) -> Option<Arc<Node>> {
    let bucket = store.client();
    let clock = Arc::new(SimClock::new(1_700_000_000_000));
    let own = SeededRng::shared(rng.below(u64::MAX));
    let shared: Arc<dyn Bucket> = Arc::new(bucket.clone());
    let options = CatalogOptions { lease_ttl: Duration::ZERO, ..CatalogOptions::default() };
    let catalog = Catalog::open_bucket(shared.clone(), own.clone(), options).await.ok()?;
    let log = CommitLog::open_bucket(shared, clock, own, settings, catalog.clone()).await.ok()?;
    let node = Arc::new(Node { bucket, catalog, log });
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

async fn started(store: &MemBucket, rng: &SeededRng, settings: LogSettings) -> Arc<Node> {
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

#[derive(Default, Debug)]
struct Counts {
    acknowledged: usize,
    takeovers: usize,
    moves: usize,
    retired: usize,
    segments: u64,
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
        let live: Vec<&Arc<Node>> = all.iter().filter(|node| node.is_live()).collect();
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
        match rng.below(10) {
            // The process goes. Nobody is told.
            0..2 => {
                let victim = rng.below(all.len() as u64) as usize;
                all[victim].bucket.kill();
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
            _ if !others.is_empty() => {
                let retired = task::timeout(Duration::from_secs(20), actor.log.retire(&others)).await;
                counts.retired += usize::from(matches!(retired, Ok(Ok(()))));
            }
            _ => {}
        }
        // Whoever is fenced comes again as another incarnation.
        let (live, fenced): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *nodes.lock()).into_iter().partition(|node| node.is_live());
        fenced.iter().for_each(|node| node.bucket.kill());
        *nodes.lock() = live;
        while nodes.lock().len() < NODES {
            let new = started(store, rng, settings()).await;
            nodes.lock().push(new);
        }
    }
}

fn story(seed: u64) -> (Counts, u64) {
    run(seed, async {
        let store = MemBucket::new(seed);
        store.set_faults(MemBucketFaults::all());
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
        let mut counts = Counts::default();
        trouble(&nodes, &store, &rng, until, &mut counts).await;
        producers.join_all().await;
        for node in nodes.lock().drain(..) {
            node.bucket.kill();
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
        (counts, store.trace_hash())
    })
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
        total.segments += counts.segments;
    }
    println!("{total:?}");
    assert!(
        total.acknowledged > 15_000 && total.takeovers > 25 && total.moves > 15 && total.retired > 5,
        "{total:?}"
    );
}

#[test]
fn the_same_seed_moves_the_same_partitions() {
    assert_eq!(story(3).1, story(3).1);
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
