//! Many commits that are not rewritten yet: what it costs to take over from their writer, to open partitions and to rewrite them; and
//! what keeps them from becoming ever more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::MetadataRecord;
use commitlog::bucket::slot_key;
use commitlog::{AppendOptions, LogSettings, OpenError};
use futures_util::future::try_join_all;
use protocol::Str;
use world::bucket::{Bucket, MemBucket, MemBucketFaults};
use world::rng::SeededRng;
use world::task;

use crate::bucket_cluster::{Node, settings, started};
use crate::house::{TOPIC, batch, read_all, run};

const NEVER: Duration = Duration::from_secs(1 << 30);

/// Nothing is rewritten by itself.
fn lazy() -> LogSettings {
    LogSettings {
        linger: Duration::ZERO,
        puts_per_second: 1 << 20,
        rewrite_interval: NEVER,
        rewrite_job_bytes: 64 << 20,
        bucket_digest_slots: 32,
        bucket_backlog_slots_max: 1 << 40,
        ..settings()
    }
}

fn slow_store() -> MemBucketFaults {
    MemBucketFaults {
        latency_p50_p99: Some((Duration::from_millis(100), Duration::from_millis(300))),
        ..MemBucketFaults::default()
    }
}

fn topic(partition_count: u32) -> MetadataRecord {
    let name = Str::from("t");
    MetadataRecord::CreateTopic { id: TOPIC, name, partition_count, replication_factor: 1, configs: vec![] }
}

/// A batch of an idempotent producer, which is a commit of its own.
async fn write(node: &Node, index: i32, sequence: i32) {
    let (partition, leader_epoch) = node.partition(index).expect("it leads it");
    let options = AppendOptions { leader_epoch, ..AppendOptions::default() };
    let sent = batch(&[format!("{index}-{sequence}")], Some((100 + i64::from(index), 0, sequence)), 0);
    partition.append(sent, options).expect("it takes it").committed().await.expect("it is acknowledged");
}

/// A broker that has so many commits, of three partitions in turn, and dies; and one that leads nothing yet.
async fn dead(store: &MemBucket, rng: &SeededRng, settings: LogSettings, slots: i32) -> [Arc<Node>; 2] {
    let one = started(store, rng, settings.clone()).await;
    one.catalog.append(vec![topic(3)]).await.unwrap();
    one.follow().await;
    for slot in 0..slots {
        write(&one, slot % 3, slot / 3).await;
    }
    let two = started(store, rng, settings).await;
    one.kill();
    [one, two]
}

fn wanted(node: &Node) -> Vec<(protocol::TopicIdPartition, commitlog::PartitionSettings)> {
    let led = node.catalog.read().led_by(node.catalog.wal_id());
    let id = |(topic_id, index)| protocol::TopicIdPartition::new(topic_id, index as i32);
    led.into_iter().map(|one| (id(one), Default::default())).collect()
}

/// GETs and virtual seconds of a takeover with the opening behind it, of an opening alone, and of rewriting all of it.
async fn measured(slots: i32, digest_every: u64) -> [(u64, f64); 3] {
    let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
    let settings = LogSettings { bucket_digest_slots: digest_every, ..lazy() };
    let [one, two] = dead(&store, &rng, settings, slots).await;
    store.set_faults(slow_store());
    let gets = || two.bucket.counters().gets.load(Ordering::Relaxed);
    let mut steps = Vec::new();
    let (mut before, mut began) = (gets(), task::now());
    let mut done = || {
        steps.push((gets() - before, began.elapsed().as_secs_f64()));
        (before, began) = (gets(), task::now());
    };
    two.log.take_over(one.catalog.wal_id(), &[two.catalog.wal_id()]).await.unwrap();
    while two.log.partition_ids().len() < 3 {
        task::sleep(Duration::from_millis(10)).await;
    }
    // It has opened them by itself, in part before the seal was told to us. Once more, and nothing beside it.
    two.process.pause();
    two.log.close_partitions(&two.log.partition_ids());
    done();
    two.log.open_partitions(&wanted(&two)).await.unwrap();
    assert_eq!(two.log.partition_ids().len(), 3);
    two.process.resume();
    done();
    while two.log.rewrite().await.unwrap() {}
    done();
    for index in 0..3 {
        let (partition, _) = two.partition(index).unwrap();
        let count = (slots + 2 - index) / 3;
        assert_eq!(partition.offsets().high_watermark, i64::from(count));
        // Its producers are known, and what they send again is.
        let (epoch, sequence) = (two.partition(index).unwrap().1, count - 1);
        let options = AppendOptions { leader_epoch: epoch, ..AppendOptions::default() };
        let again = batch(&[format!("{index}-{sequence}")], Some((100 + i64::from(index), 0, sequence)), 0);
        partition.append(again, options).unwrap().committed().await.unwrap();
        assert_eq!(partition.offsets().high_watermark, i64::from(count));
    }
    steps.try_into().expect("three steps")
}

#[test]
fn an_opening_takes_a_request_for_32_commits() {
    for (slots, gets_max) in [(10, 10), (1_000, 31 + 32)] {
        let [over, opened, rewritten] = run(1, measured(slots, 32));
        let [_, singly, _] = run(1, measured(slots, 0));
        println!(
            "{slots} slots: takeover {over:?}, opening {opened:?}, without digests {singly:?}, rewriting {rewritten:?}"
        );
        assert!(opened.0 <= gets_max, "{opened:?}");
        assert_eq!(singly.0, slots as u64, "{singly:?}");
        assert!(over.0 < 150, "{over:?}");
        // Each slot once.
        assert!(rewritten.0 < slots as u64 + 100, "{rewritten:?}");
    }
}

/// P7. Slot 40 is lost, which slot 64 repeats, and slot 32, which says of itself only. Whoever opens knows what is in slot 40, so nothing
/// stays closed for it, and who reads there is told. What slot 32 is about stays closed.
#[test]
fn a_lost_slot_that_a_later_one_repeats_closes_nothing_and_is_told() {
    for lost in [40u64, 32] {
        run(1, async {
            let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
            let [one, two] = dead(&store, &rng, lazy(), 90).await;
            let wal_id = one.catalog.wal_id();
            assert_eq!(two.log.take_over(wal_id, &[two.catalog.wal_id()]).await.unwrap(), 90);
            while two.log.partition_ids().len() < 3 {
                task::sleep(Duration::from_millis(10)).await;
            }
            two.log.close_partitions(&two.log.partition_ids());
            let key = slot_key(wal_id, lost);
            store.delete(&key).await.unwrap();
            let opened = two.log.open_partitions(&wanted(&two)).await;
            let open: Vec<i32> = (0..3).filter(|index| two.partition(*index).is_some()).collect();
            let about = (lost % 3) as i32;
            match lost {
                40 => assert_eq!((opened.is_ok(), open), (true, vec![0, 1, 2])),
                _ => {
                    assert!(
                        matches!(opened, Err(OpenError::DamagedObject { key: named, .. }) if named == key)
                    );
                    assert_eq!(open, (0..3).filter(|index| *index != about).collect::<Vec<_>>());
                }
            }
            for index in 0..3 {
                let Some((partition, leader_epoch)) = two.partition(index) else { continue };
                let options = AppendOptions { leader_epoch, ..AppendOptions::default() };
                let sent = partition.append(batch(&["more".to_owned()], None, 0), options).unwrap();
                sent.committed().await.unwrap();
                assert_eq!(partition.offsets().high_watermark, 31);
                if index == about {
                    let offset = (lost / 3) as i64;
                    let request = commitlog::ReadRequest {
                        offset,
                        max_bytes: 1 << 20,
                        min_one_batch: true,
                        isolation: Default::default(),
                    };
                    let told = partition.read(request).await.err().map(|error| error.to_string());
                    assert!(told.as_ref().is_some_and(|told| told.contains(&key)), "{told:?}");
                } else {
                    assert_eq!(read_all(&partition, 600).await.len(), 31);
                }
            }
        });
    }
}

/// The store has lost a slot in the middle before its writer is taken over from. A slot behind it says that it was acknowledged, so the
/// log does not end there: who opens finds it missing, and nobody takes what is behind it for never written.
#[test]
fn a_taker_does_not_end_a_log_at_a_slot_that_was_lost() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let [one, two] = dead(&store, &rng, lazy(), 90).await;
        let wal_id = one.catalog.wal_id();
        store.delete(&slot_key(wal_id, 40)).await.unwrap();
        assert_eq!(two.log.take_over(wal_id, &[two.catalog.wal_id()]).await.unwrap(), 90);
    });
}

/// The rewriter does not keep up, for whatever reason. Commits go farther and farther apart, and larger; nothing is refused. When it has
/// caught up, they go as before.
#[test]
fn commits_are_held_back_when_too_many_are_not_rewritten() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let bounded = LogSettings {
            linger: Duration::from_millis(10),
            linger_max: Duration::from_secs(1),
            bucket_backlog_slots_max: 40,
            chunk_bytes_max: 1 << 10,
            ..lazy()
        };
        let one = started(&store, &rng, bounded).await;
        one.catalog.append(vec![topic(3)]).await.unwrap();
        one.follow().await;
        let mut sequence = 0;
        let mut write_for = async |time: Duration| {
            let until = task::now() + time;
            let before = sequence;
            while task::now() < until {
                write(&one, 0, sequence).await;
                sequence += 1;
            }
            sequence - before
        };
        let at_first = write_for(Duration::from_millis(300)).await;
        assert!((10..=40).contains(&at_first), "{at_first} commits");
        write_for(Duration::from_secs(30)).await;
        let backlog = one.log.backlog().unwrap();
        assert!((45..60).contains(&backlog.slots) && backlog.bytes > 0, "{backlog:?}");
        assert_eq!(backlog.slots_max, 40);
        assert!(one.log.counters().commits_held_back.load(Ordering::Relaxed) > 5);
        // However much comes: a commit that is full waits as well.
        let (partition, leader_epoch) = one.partition(1).unwrap();
        let options = AppendOptions { leader_epoch, ..AppendOptions::default() };
        let much = batch(&["x".repeat(2_000)], None, 0);
        let sent: Vec<_> = (0..4).map(|_| partition.append(much.clone(), options).unwrap()).collect();
        let began = task::now();
        for sent in sent {
            sent.committed().await.unwrap();
        }
        assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
        while one.log.rewrite().await.unwrap() {}
        assert_eq!(one.log.backlog().unwrap().slots, 0);
        assert!(write_for(Duration::from_millis(200)).await >= 7);
    });
}

/// Three brokers die, and two are left: both have slots of the dead to rewrite, and not only the one that took over, one after the other
/// or of all of them at once.
#[test]
fn who_takes_over_does_not_keep_all_the_work() {
    for at_once in [false, true] {
        run(1, takes_over(at_once));
    }
}

async fn takes_over(at_once: bool) {
    let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(started(&store, &rng, lazy()).await);
    }
    nodes[0].catalog.append(vec![topic(9)]).await.unwrap();
    for node in &nodes {
        node.catalog.catch_up().await.unwrap();
        node.follow().await;
        let led = wanted(node);
        assert_eq!(led.len(), 3);
        for sequence in 0..10 {
            for (id, _) in &led {
                write(node, id.partition, sequence).await;
            }
        }
    }
    let (four, five) = (started(&store, &rng, lazy()).await, started(&store, &rng, lazy()).await);
    let heirs = [four.catalog.wal_id(), five.catalog.wal_id()];
    nodes.iter().for_each(|node| node.kill());
    let takeovers = nodes.iter().map(|node| four.log.take_over(node.catalog.wal_id(), &heirs));
    match at_once {
        true => drop(try_join_all(takeovers).await.unwrap()),
        false => {
            for takeover in takeovers {
                takeover.await.unwrap();
            }
        }
    }
    five.catalog.catch_up().await.unwrap();
    let mut duties = [&four, &five].map(|node| node.log.backlog().unwrap().duties);
    duties.sort_unstable();
    assert_eq!(duties, [30, 60]);
    for node in [&four, &five] {
        while node.log.rewrite().await.unwrap() {}
        // Of two WALs as of one.
        assert_eq!(node.log.counters().rewrites.load(Ordering::Relaxed), 1);
    }
    four.catalog.catch_up().await.unwrap();
    assert_eq!(four.log.backlog().unwrap().for_others, 0);
    let mut there = 0;
    for node in [&four, &five] {
        node.follow().await;
        for id in node.log.partition_ids() {
            there += read_all(&node.log.partition(&id).unwrap(), 600).await.len();
        }
    }
    assert_eq!(there, 90);
}

/// P7: three dead WALs, and the one in the middle is damaged. The others are rewritten, in a job of their own each, and it stays as it is.
#[test]
fn a_damaged_wal_does_not_hold_up_those_that_are_rewritten_with_it() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(started(&store, &rng, lazy()).await);
        }
        nodes[0].catalog.append(vec![topic(3)]).await.unwrap();
        for node in &nodes {
            node.catalog.catch_up().await.unwrap();
            node.follow().await;
            for sequence in 0..20 {
                write(node, wanted(node)[0].0.partition, sequence).await;
            }
        }
        let heir = started(&store, &rng, lazy()).await;
        nodes.iter().for_each(|node| node.kill());
        for node in &nodes {
            heir.log.take_over(node.catalog.wal_id(), &[heir.catalog.wal_id()]).await.unwrap();
        }
        let damaged = nodes[1].catalog.wal_id();
        let key = slot_key(damaged, 11);
        let whole = store.objects()[&key].clone();
        store.put(&key, whole.slice(1..)).await.unwrap();
        let mut said = Vec::new();
        for _ in 0..9 {
            match heir.log.rewrite().await {
                Ok(_) => {}
                Err(error) => said.push(error.to_string()),
            }
        }
        assert!(said.len() == 1 && said[0].contains(&key), "{said:?}");
        assert_eq!(heir.log.counters().rewriter_damaged.load(Ordering::Relaxed), 1);
        let marks: Vec<u64> = {
            let state = heir.catalog.read();
            nodes.iter().map(|node| state.wal(node.catalog.wal_id()).unwrap().mark).collect()
        };
        assert_eq!(marks, [20, 0, 20]);
        // The store had a bad hour.
        store.put(&key, whole).await.unwrap();
        task::sleep(Duration::from_secs(601)).await;
        while heir.log.rewrite().await.unwrap() {}
        assert_eq!(heir.log.backlog().unwrap().for_others, 0);
    });
}

/// A request of the dead comes after all that it had is rewritten and removed. As long as the metadata knows the WAL that is found, so
/// it is known until nothing has come for an hour.
#[test]
fn a_wal_is_forgotten_when_nothing_comes_any_more() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let [one, two] = dead(&store, &rng, lazy(), 10).await;
        let wal_id = one.catalog.wal_id();
        let late = store.objects()[&slot_key(wal_id, 7)].clone();
        two.log.take_over(wal_id, &[two.catalog.wal_id()]).await.unwrap();
        // Its node id is somebody else's.
        let _next = started(&store, &rng, lazy()).await;
        let slots = || {
            let folder = format!("wal/{wal_id:020}/");
            store.objects().keys().filter(|key| key.starts_with(&folder)).count()
        };
        let is_known = || two.catalog.read().wal(wal_id).is_some();
        while two.log.rewrite().await.unwrap() {}
        // Tombstones are left, for ever.
        assert_eq!((slots(), is_known()), (4, true));
        store.put(&slot_key(wal_id, 7), late).await.unwrap();
        for (left, known) in [(4, true), (4, true), (4, false)] {
            task::sleep(Duration::from_secs(3601)).await;
            while two.log.rewrite().await.unwrap() {}
            assert_eq!((slots(), is_known()), (left, known));
        }
    });
}
