//! Scenarios with a name that no seed meets often enough, told step by step. Each is told twice: the rule that keeps it away holds, and
//! it is broken on purpose (`world::broken`), which has to show.

use std::sync::Arc;
use std::time::Duration;

use catalog::MetadataRecord;
use commitlog::bucket::{Named, audit, beginning_at};
use commitlog::{AppendOptions, Partition};
use protocol::{Str, TopicIdPartition, Uuid};
use world::bucket::{Bucket, MemBucket, MemBucketFaults};
use world::rng::{Rng, SeededRng};
use world::{broken, task};

use crate::bucket_cluster::{Node, median_seeds, settings, started};
use crate::house::{TOPIC, batch, read_all, run};

fn topic(id: Uuid, name: &str, partition_count: u32) -> MetadataRecord {
    let name = Str::from(name);
    MetadataRecord::CreateTopic { id, name, partition_count, replication_factor: 1, configs: vec![] }
}

/// A broken rule holds for one story only.
fn told<T>(scenario: Option<&'static str>, seed: u64, story: impl Future<Output = T>) -> T {
    broken::set(scenario);
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, story)));
    broken::set(None);
    told.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn write(node: &Node, index: i32, text: &str) {
    let (partition, leader_epoch) = node.partition(index).expect("it leads it");
    let options = AppendOptions { leader_epoch, ..AppendOptions::default() };
    let sent = partition.append(batch(&[text.to_owned()], None, 0), options).expect("it takes it");
    sent.committed().await.expect("it is acknowledged");
}

async fn values(partition: &Partition) -> Vec<String> {
    read_all(partition, 600).await.into_iter().map(|(_, value)| value).collect()
}

async fn rewrite_all(node: &Node) {
    while node.log.rewrite().await.expect("nothing is damaged") {}
}

/// R7, SlateDB issue 352: a PUT that hangs, and a tombstone that is removed before it lands. Acknowledged and not there?
fn lost_behind_a_removed_tombstone(scenario: Option<&'static str>, seed: u64) -> bool {
    told(scenario, seed, async {
        let (store, rng) = (MemBucket::new(seed), SeededRng::new(seed));
        let one = started(&store, &rng, settings()).await;
        one.catalog.append(vec![topic(TOPIC, "t", 1)]).await.unwrap();
        one.follow().await;
        write(&one, 0, "a").await;
        let hanging = Duration::from_secs(30 + seed % 10);
        store.set_faults(MemBucketFaults {
            latency: (hanging, hanging),
            time_out: Duration::from_secs(1_000),
            ..MemBucketFaults::default()
        });
        let (partition, leader_epoch) = one.partition(0).unwrap();
        let options = AppendOptions { leader_epoch, ..AppendOptions::default() };
        let sent = partition.append(batch(&["b".to_owned()], None, 0), options).unwrap();
        task::sleep(Duration::from_millis(600)).await;
        // The process stops; what it has sent is on its way.
        one.process.pause();
        store.set_faults(MemBucketFaults::default());
        let two = started(&store, &rng, settings()).await;
        two.log.take_over(one.catalog.wal_id(), &[two.catalog.wal_id()]).await.unwrap();
        two.follow().await;
        write(&two, 0, "c").await;
        rewrite_all(&two).await;
        task::sleep(hanging * 3).await;
        one.process.resume();
        let acknowledged = matches!(task::timeout(hanging * 3, sent.committed()).await, Ok(Ok(())));
        let there = values(&two.partition(0).unwrap().0).await;
        assert!(there == ["a", "c"] || there == ["a", "b", "c"], "{there:?}");
        acknowledged && !there.contains(&"b".to_owned())
    })
}

#[test]
fn slatedb_352() {
    measured("slatedb-352", lost_behind_a_removed_tombstone);
}

/// R6, open in the bucket protocol: one sealed WAL, two heirs, one rewriter, which leads only one of the partitions that it rewrites.
fn heirs_lack_something(scenario: Option<&'static str>, seed: u64) -> bool {
    told(scenario, seed, async {
        let (store, rng) = (MemBucket::new(seed), SeededRng::new(seed));
        let one = started(&store, &rng, settings()).await;
        one.catalog.append(vec![topic(TOPIC, "t", 2)]).await.unwrap();
        one.follow().await;
        let two = started(&store, &rng, settings()).await;
        let three = started(&store, &rng, settings()).await;
        let expected = |index: i32| (0..6).map(|at| format!("{index}-{at}")).collect::<Vec<_>>();
        let mut under_way = Vec::new();
        for at in 0..6 {
            // Some slots have both partitions, some one.
            let both = [0, 1].map(|index| {
                let (partition, leader_epoch) = one.partition(index).unwrap();
                let options = AppendOptions { leader_epoch, ..AppendOptions::default() };
                partition.append(batch(&[format!("{index}-{at}")], None, 0), options).unwrap()
            });
            for sent in both {
                match rng.below(2) {
                    0 => sent.committed().await.unwrap(),
                    _ => under_way.push(sent),
                }
            }
        }
        for sent in under_way {
            sent.committed().await.unwrap();
        }
        one.process.pause();
        let heirs = [two.catalog.wal_id(), three.catalog.wal_id()];
        two.log.take_over(one.catalog.wal_id(), &heirs).await.unwrap();
        let lags = rng.below(2) == 0;
        let nodes = [&two, &three];
        if !lags {
            three.catalog.catch_up().await.unwrap();
            three.follow().await;
        }
        rewrite_all(&two).await;
        three.catalog.catch_up().await.unwrap();
        for node in nodes {
            node.follow().await;
            rewrite_all(node).await;
        }
        task::sleep(Duration::from_secs(5)).await;
        let mut is_whole = true;
        let mut leaders = 0;
        for node in nodes {
            for id in node.log.partition_ids() {
                leaders += 1;
                let partition = node.partition(id.partition).unwrap().0;
                is_whole &= partition.offsets().high_watermark == 6
                    && task::timeout(Duration::from_secs(60), whole(&partition, expected(id.partition)))
                        .await
                        .unwrap_or(false);
            }
            assert!(scenario.is_some() || node.log.partition_ids().len() == 1, "each has one");
        }
        !(is_whole && leaders == 2)
    })
}

/// Reads as a client does: an error is an answer too.
async fn whole(partition: &Arc<Partition>, expected: Vec<String>) -> bool {
    let reading = partition.clone();
    match task::spawn(async move { values(&reading).await }).await {
        Ok(values) => values == expected,
        Err(_) => false,
    }
}

#[test]
fn two_partitions_of_one_sealed_wal_go_to_different_leaders() {
    measured("heirs-apart", heirs_lack_something);
}

/// The last topic goes while its data lies in slots and segments. Then everything of it goes as well, and nothing else.
fn data_of_no_topic_stays(scenario: Option<&'static str>, seed: u64) -> bool {
    told(scenario, seed, async {
        let (store, rng) = (MemBucket::new(seed), SeededRng::new(seed));
        let (one, two) = (started(&store, &rng, settings()).await, started(&store, &rng, settings()).await);
        one.catalog.append(vec![topic(TOPIC, "t", 2)]).await.unwrap();
        for node in [&one, &two] {
            node.catalog.catch_up().await.unwrap();
            node.follow().await;
        }
        let led = |node: &Node| node.log.partition_ids().first().map(|id| id.partition);
        for at in 0..4 + rng.below(12) {
            for node in [&one, &two] {
                if let Some(index) = led(node) {
                    write(node, index, &format!("{at}-{}", "x".repeat(300))).await;
                }
            }
            if rng.below(4) == 0 {
                rewrite_all(&one).await;
            }
        }
        let left = |store: &MemBucket| {
            let objects = store.objects();
            objects.iter().filter(|(key, _)| key.starts_with("seg/") || key.starts_with("wal/")).count()
        };
        assert!(left(&store) > 0);
        one.catalog.append(vec![MetadataRecord::DeleteTopic { id: TOPIC }]).await.unwrap();
        // Few slots are rewritten when they are old; what came twice goes with the next sweep.
        for pause in [21, 21, 3601, 1] {
            if left(&store) == 0 {
                break;
            }
            for node in [&one, &two] {
                node.catalog.catch_up().await.unwrap();
                node.log.remove_partitions(TOPIC).await;
                rewrite_all(node).await;
            }
            task::sleep(Duration::from_secs(pause)).await;
        }
        let stays = left(&store) > 0;
        // Another one comes, and has all that it should.
        one.catalog.append(vec![topic(Uuid([8; 16]), "t", 2)]).await.unwrap();
        for node in [&one, &two] {
            node.catalog.catch_up().await.unwrap();
            let led = node.catalog.read().led_by(node.catalog.wal_id());
            let new: Vec<_> = led
                .into_iter()
                .map(|(id, index)| (TopicIdPartition::new(id, index as i32), Default::default()))
                .collect();
            node.log.create_partitions(&new);
            for (id, _) in &new {
                let partition = node.log.partition(id).unwrap();
                let sent = partition.append(batch(&["new".to_owned()], None, 0), AppendOptions::default());
                sent.unwrap().committed().await.unwrap();
                rewrite_all(node).await;
                assert_eq!(values(&partition).await, ["new"]);
            }
        }
        let shared: Arc<dyn Bucket> = Arc::new(store.clone());
        assert_eq!(audit(&shared).await.unwrap().problems, Named::default());
        stays
    })
}

#[test]
fn the_last_topic_is_deleted_while_its_data_waits() {
    measured("last-topic-deleted", data_of_no_topic_stays);
}

/// Offsets beyond what 31, 32 and nearly 63 bits hold: what is below the log start goes, and nothing that is not.
fn live_data_is_taken_for_dead(scenario: Option<&'static str>, seed: u64) -> bool {
    told(scenario, seed, async {
        let (store, rng) = (MemBucket::new(seed), SeededRng::new(seed));
        let (one, two) = (started(&store, &rng, settings()).await, started(&store, &rng, settings()).await);
        const LIMITS: [i64; 4] = [1 << 31, 1 << 32, 1 << 53, i64::MAX - 1_000];
        let first = LIMITS[rng.below(4) as usize] - rng.below(30) as i64;
        one.catalog.append(vec![topic(TOPIC, "t", 1)]).await.unwrap();
        let id = TopicIdPartition::new(TOPIC, 0);
        let (shard, key, bytes) = beginning_at(id, first, one.catalog.wal_id());
        store.create(&key, bytes).await.unwrap();
        let object = Str::from(key);
        let manifest =
            MetadataRecord::ManifestShard { shard, from_version: 0, to_version: 1, object, wal_mark: 0 };
        one.catalog.append(vec![manifest]).await.unwrap();
        // Whoever leads it next reads the manifest.
        for node in [&one, &two] {
            node.catalog.catch_up().await.unwrap();
            node.follow().await;
        }
        let (from, to) = if one.partition(0).is_some() { (&one, &two) } else { (&two, &one) };
        from.log.move_partitions(&[id], to.catalog.wal_id()).await.unwrap();
        to.catalog.catch_up().await.unwrap();
        to.follow().await;
        let partition = to.partition(0).unwrap().0;
        assert_eq!(partition.offsets().high_watermark, first);
        let count = 40;
        let deleted = first + 1 + rng.below(25) as i64;
        for at in 0..count {
            write(to, 0, &format!("{}", first + at)).await;
            if first + at == deleted {
                rewrite_all(to).await;
                partition.delete_records(deleted).await.unwrap();
            }
        }
        for _ in 0..3 {
            task::sleep(Duration::from_secs(21)).await;
            to.log.rewrite().await.ok();
        }
        // A reader without a memory.
        let last = started(&store, &rng, settings()).await;
        last.log.take_over(to.catalog.wal_id(), &[last.catalog.wal_id()]).await.unwrap();
        last.follow().await;
        let Some((partition, _)) = last.partition(0) else { return true };
        let expected: Vec<String> = (deleted..first + count).map(|offset| offset.to_string()).collect();
        !whole(&partition, expected).await
    })
}

#[test]
fn data_is_proved_obsolete_by_an_overflow() {
    measured("obsolete-by-overflow", live_data_is_taken_for_dead);
}

/// With the rule nothing is found, ever; without it something is, by one of the first seeds. With SEEDS: by how many of so many.
fn measured(scenario: &'static str, story: fn(Option<&'static str>, u64) -> bool) {
    const SEEDS: u64 = 6;
    let seeds = std::env::var("SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    let found: Vec<bool> = (1..=seeds)
        .map(|seed| {
            assert!(!story(None, seed), "seed {seed}: the rule holds, and {scenario} happens");
            let broken = std::panic::catch_unwind(|| story(Some(scenario), seed));
            broken::set(None);
            broken.unwrap_or(true)
        })
        .collect();
    let (count, median) = (found.iter().filter(|found| **found).count(), median_seeds(&found));
    println!("{scenario}: found by {count} of {seeds} seeds, {median:?} in the median");
    assert!(count > 0, "{scenario} is not found");
}
