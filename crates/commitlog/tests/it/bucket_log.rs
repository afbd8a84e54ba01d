//! The log in a bucket: one broker that dies again and again, on a store with every fault. What was acknowledged is there, once
//! and in order (P1-P3, P9).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::bucket::{Named, audit};
use commitlog::{CommitLog, LogSettings, LogState, OpenError, ReadError, ReadRequest, RewriteError};
use protocol::Str;
use world::bucket::{Bucket, MemBucket, MemBucketFaults};
use world::clock::SimClock;
use world::rng::{Rng, SeededRng};
use world::task;

use crate::house::{TOPIC, append, batch, partition, read_all, run};

/// What lies in slots for so long is rewritten, however little it is.
const AGE: Duration = Duration::from_secs(20);

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
        bucket_rewrite_age: AGE,
        // A few jobs fill a segment, and runs are long enough soon.
        bucket_segment_bytes: 24 << 10,
        segment_own_bytes: 6 << 10,
        bucket_merge_segments: 3,
        bucket_merge_interval: Duration::ZERO,
        bucket_replaced_keep: Duration::ZERO,
        ..LogSettings::default()
    }
}

struct Broker {
    bucket: MemBucket,
    catalog: Arc<Catalog>,
    log: Arc<CommitLog>,
}

/// Takes the place of the one before without waiting.
fn alone() -> CatalogOptions {
    CatalogOptions { node_id: Some(1), lease_ttl: Duration::ZERO, ..CatalogOptions::default() }
}

/// A process of its own, as node 1.
async fn start(store: &MemBucket, rng: &SeededRng) -> Result<Broker, OpenError> {
    let bucket = store.client();
    let clock = Arc::new(SimClock::new(1_700_000_000_000));
    let own = SeededRng::shared(rng.below(u64::MAX));
    let shared: Arc<dyn Bucket> = Arc::new(bucket.clone());
    let failed = |detail: String| OpenError::Format { path: "metadata".into(), detail };
    let catalog = Catalog::open_bucket(shared.clone(), own.clone(), alone()).await;
    let catalog = catalog.map_err(|error| failed(error.to_string()))?;
    let log = CommitLog::open_bucket(shared, clock, own, settings(), catalog.clone()).await?;
    let topic = MetadataRecord::CreateTopic {
        id: TOPIC,
        name: Str::from("t"),
        partition_count: 3,
        replication_factor: 1,
        configs: vec![],
    };
    if catalog.read().topic("t").is_none() {
        catalog.append(vec![topic]).await.map_err(|error| failed(error.to_string()))?;
    }
    let ids = (0..3).map(|partition| protocol::TopicIdPartition { topic_id: TOPIC, partition });
    log.create_partitions(&ids.map(|id| (id, Default::default())).collect::<Vec<_>>());
    Ok(Broker { bucket, catalog, log })
}

async fn started(store: &MemBucket, rng: &SeededRng) -> Broker {
    for _ in 0..20 {
        if let Ok(broker) = start(store, rng).await {
            return broker;
        }
    }
    panic!("twenty starts failed");
}

fn value(index: i32, sequence: i32) -> String {
    format!("{index}-{sequence}")
}

/// An idempotent producer of one partition: three batches under way, and what was not acknowledged again in the next life.
async fn produce(log: &CommitLog, index: i32, acknowledged: &mut i32, until: task::Instant) {
    let partition = partition(log, index);
    while task::now() < until {
        let mut under_way = Vec::new();
        for sequence in *acknowledged..*acknowledged + 3 {
            let producer = Some((100 + i64::from(index), 0, sequence));
            let batch = batch(&[value(index, sequence)], producer, i64::from(sequence));
            let Ok(appended) = append(&partition, batch) else { return };
            under_way.push(appended);
        }
        for appended in under_way {
            match task::timeout(until.saturating_duration_since(task::now()), appended.committed()).await {
                Ok(Ok(())) => *acknowledged += 1,
                _ => return,
            }
        }
    }
}

#[test]
fn what_was_acknowledged_is_there_once_and_in_order_after_any_number_of_deaths() {
    let (mut total, mut segments, mut merged) = (0, 0, 0);
    for seed in 1..=40 {
        let (acknowledged, some, some_merged) = run(seed, async {
            let store = MemBucket::new(seed);
            store.set_faults(MemBucketFaults::all());
            let rng = SeededRng::new(seed);
            let mut acknowledged = [0; 3];
            for life in 0..4 {
                let broker = started(&store, &rng).await;
                let until = task::now() + Duration::from_millis(2_000 + rng.below(8_000));
                let [a, b, c] = &mut acknowledged;
                let log = &broker.log;
                let three = [produce(log, 0, a, until), produce(log, 1, b, until), produce(log, 2, c, until)];
                futures_util::future::join_all(three).await;
                if life % 2 == 0 {
                    broker.bucket.kill();
                } else {
                    broker.log.close().await;
                    broker.catalog.close().await;
                }
            }
            store.set_faults(MemBucketFaults::default());
            task::sleep(Duration::from_secs(200)).await;
            let broker = started(&store, &rng).await;
            for (index, acknowledged) in acknowledged.iter().enumerate() {
                let index = index as i32;
                let read = read_all(&partition(&broker.log, index), 600).await;
                let values: Vec<String> = read.into_iter().map(|(_, value)| value).collect();
                assert!(values.len() >= *acknowledged as usize, "seed {seed}: {index} lost some");
                let expected: Vec<String> = (0..values.len() as i32).map(|at| value(index, at)).collect();
                assert_eq!(values, expected, "seed {seed}, partition {index}");
            }
            let shared: Arc<dyn Bucket> = Arc::new(store.clone());
            let audited = audit(&shared).await.unwrap();
            assert_eq!(audited.problems, Named::default(), "seed {seed}");
            let records: u64 =
                audited.segment_records + audited.wals.iter().map(|wal| wal.records).sum::<u64>();
            assert!(records >= acknowledged.iter().sum::<i32>() as u64);
            // When the dust has settled nothing is left that nobody needs.
            while broker.log.rewrite().await.unwrap() {}
            let settled = audit(&shared).await.unwrap();
            assert_eq!(
                (&settled.problems, &settled.unknown),
                (&Named::default(), &Named::default()),
                "seed {seed}"
            );
            for wal in settled.wals.iter().filter(|wal| wal.sealed_at.is_some()) {
                assert_eq!((Some(wal.mark), wal.slots), (wal.sealed_at, 0), "seed {seed}: {wal:?}");
            }
            assert_eq!(settled.segment_records, records, "seed {seed}: rewritten, and nothing else");
            (acknowledged.iter().sum::<i32>(), settled.segments, settled.merged_segments)
        });
        total += acknowledged;
        segments += some;
        merged += some_merged;
    }
    println!("{total} records acknowledged, {segments} segments, {merged} of them merged");
    assert!(total > 5_000 && merged > 50, "{total} and {merged} are too little to say anything");
}

/// The same node id started a second time: the first one stops acknowledging, by itself and for good (P5).
#[test]
fn a_second_start_fences_the_first() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let first = started(&store, &rng).await;
        let p = partition(&first.log, 0);
        append(&p, batch(&["before".into()], None, 0)).unwrap().committed().await.unwrap();
        let second = started(&store, &rng).await;
        let late = append(&p, batch(&["late".into()], None, 0)).unwrap().committed().await;
        let late = late.unwrap_err().to_string();
        assert!(late.contains("this broker is fenced"), "{late}");
        assert!(matches!(first.log.state(), LogState::Failed(_)));
        assert!(append(&p, batch(&["later".into()], None, 0)).is_err());
        let after = partition(&second.log, 0);
        append(&after, batch(&["after".into()], None, 0)).unwrap().committed().await.unwrap();
        let values: Vec<String> = read_all(&after, 100).await.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, ["before", "after"]);
        // Its epoch is the next one, so that clients see that the leader is another.
        assert_eq!(second.catalog.read().topic("t").unwrap().partitions[0].leader_epoch, 1);
    });
}

/// Group commit: what comes within the linger is one object, and nothing waiting is nothing written.
#[test]
fn commits_wait_for_company_and_an_idle_log_writes_nothing() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let broker = started(&store, &rng).await;
        let puts = || broker.bucket.counters().puts.load(Ordering::Relaxed);
        let before = puts();
        let appended: Vec<_> = (0..30)
            .map(|i| append(&partition(&broker.log, i % 3), batch(&[i.to_string()], None, 0)).unwrap())
            .collect();
        for appended in appended {
            appended.committed().await.unwrap();
        }
        assert_eq!(puts() - before, 1);
        // More than a commit holds does not wait.
        let began = task::now();
        let many: Vec<_> = (0..9)
            .map(|_| append(&partition(&broker.log, 0), batch(&["x".repeat(1000)], None, 0)).unwrap())
            .collect();
        for (index, appended) in many.into_iter().enumerate() {
            appended.committed().await.unwrap();
            assert!(index > 0 || task::now() - began < Duration::from_millis(50), "the first is full");
        }
        assert!(puts() - before >= 3);
        task::sleep(AGE).await;
        while broker.log.rewrite().await.unwrap() {}
        let before = puts();
        task::sleep(Duration::from_secs(3600)).await;
        assert_eq!(puts(), before, "an hour of silence costs no PUT");
    });
}

/// P9: an outage costs latency. What waits is bounded, and all of it is acknowledged in the end.
#[test]
fn an_outage_delays_and_loses_nothing() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let broker = started(&store, &rng).await;
        store.set_out(true);
        let p = partition(&broker.log, 0);
        let appended: Vec<_> =
            (0..20).map(|i| append(&p, batch(&[format!("{i}")], None, 0)).unwrap()).collect();
        let (back, outage) = (store.clone(), Duration::from_secs(600));
        task::spawn(async move {
            task::sleep(outage).await;
            back.set_out(false);
        });
        let began = task::now();
        for appended in appended {
            appended.committed().await.unwrap();
        }
        assert!(task::now() - began >= outage);
        assert_eq!(read_all(&p, 1000).await.len(), 20);
        // An end that nobody can wait for comes all the same, and says that it does not know.
        store.set_out(true);
        let open = append(&p, batch(&["open".into()], None, 0)).unwrap();
        let began = task::now();
        broker.log.close().await;
        assert!(task::now() - began < Duration::from_secs(15));
        assert!(task::timeout(Duration::from_secs(60), open.committed()).await.is_err(), "nobody said so");
    });
}

/// P7: an object that is gone or changed is said to be, and stops the next start.
#[test]
fn damage_is_never_served_and_stops_the_start() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let broker = started(&store, &rng).await;
        let p = partition(&broker.log, 0);
        for i in 0..4 {
            append(&p, batch(&[i.to_string()], None, 0)).unwrap().committed().await.unwrap();
        }
        broker.log.close().await;
        broker.catalog.close().await;
        let whole = store.objects();
        let slots: Vec<&String> = whole.keys().filter(|key| key.starts_with("wal/")).collect();
        assert_eq!(slots.len(), 4);
        // The footer: at the start.
        let mut bytes = whole[slots[1]].to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        store.put(slots[1], bytes.into()).await.unwrap();
        let refused = start(&store, &rng).await.err().expect("a damaged footer");
        assert!(matches!(&refused, OpenError::DamagedObject { key, .. } if key == slots[1]), "{refused}");
        // The payload: when it is read.
        let mut bytes = whole[slots[1]].to_vec();
        bytes[128 + 63] ^= 1;
        store.put(slots[1], bytes.into()).await.unwrap();
        let broker = started(&store, &rng).await;
        let p = partition(&broker.log, 0);
        let request =
            ReadRequest { offset: 1, max_bytes: 100, min_one_batch: true, isolation: Default::default() };
        let read = p.read(request).await;
        assert!(matches!(read, Err(ReadError::Damaged { offset: 1, .. })), "{read:?}");
        let problems = async || {
            let shared: Arc<dyn Bucket> = Arc::new(store.clone());
            audit(&shared).await.unwrap().problems
        };
        // It is not spread either.
        let rewritten = broker.log.rewrite().await;
        assert!(matches!(rewritten, Err(RewriteError::Damaged { .. })), "{rewritten:?}");
        assert_eq!(keys(&store, "seg/"), Vec::<String>::new());
        let damaged = problems().await;
        // The slot, and the offset that is missing behind it.
        assert!(damaged.count == 2 && damaged.first[0].starts_with(slots[1].as_str()), "{damaged:?}");
        store.delete(slots[1]).await.unwrap();
        let missing = problems().await;
        assert!(missing.count == 2 && missing.first[0] == format!("{} is missing", slots[1]), "{missing:?}");
        let read = p.read(request).await;
        assert!(matches!(read, Err(ReadError::Damaged { offset: 1, .. })), "{read:?}");
        assert!(p.read(ReadRequest { offset: 2, ..request }).await.is_ok());
    });
}

fn keys(store: &MemBucket, folder: &str) -> Vec<String> {
    store.objects().into_keys().filter(|key| key.starts_with(folder)).collect()
}

/// What was written is read from slots, then from segments, then by another start that reads little; and what is trimmed goes.
#[test]
fn slots_become_segments_and_what_nobody_reads_goes() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let broker = started(&store, &rng).await;
        for i in 0..40 {
            let all = (0..3).map(|index| {
                let producer = Some((7, 0, i));
                append(&partition(&broker.log, index), batch(&[value(index, i)], producer, 0)).unwrap()
            });
            for appended in all.collect::<Vec<_>>() {
                appended.committed().await.unwrap();
            }
        }
        while broker.log.rewrite().await.unwrap() {}
        let (slots, segments) = (keys(&store, "wal/").len(), keys(&store, "seg/").len());
        assert!(slots < 12 && segments == 1, "{slots} slots and {segments} segments of 40 commits");
        let expected = |index, from| (from..40).map(|i| (i64::from(i), value(index, i))).collect::<Vec<_>>();
        assert_eq!(read_all(&partition(&broker.log, 1), 300).await, expected(1, 0));
        partition(&broker.log, 1).delete_records(30).await.unwrap();
        broker.bucket.kill();

        let second = start(&store, &rng).await.unwrap();
        let gets = second.bucket.counters().gets.load(Ordering::Relaxed);
        assert!(gets < 40 + slots as u64, "{gets} requests to start");
        for index in [0, 2] {
            assert_eq!(read_all(&partition(&second.log, index), 300).await, expected(index, 0));
        }
        assert_eq!(read_all(&partition(&second.log, 1), 300).await, expected(1, 30));
        // P3: the checkpoint has the producers.
        let again = append(&partition(&second.log, 0), batch(&[value(0, 39)], Some((7, 0, 39)), 0)).unwrap();
        assert!(again.duplicate && again.base_offset == 39);
        for index in 0..3 {
            partition(&second.log, index).delete_records(-1).await.unwrap();
        }
        task::sleep(AGE).await;
        while second.log.rewrite().await.unwrap() {}
        assert_eq!(keys(&store, "seg/"), Vec::<String>::new());
        assert_eq!(keys(&store, "wal/00000000000000000006/"), Vec::<String>::new());
        let next = append(&partition(&second.log, 1), batch(&["next".into()], None, 0)).unwrap();
        assert_eq!(next.base_offset, 40);
        next.committed().await.unwrap();
        second.bucket.kill();
        let third = start(&store, &rng).await.unwrap();
        assert_eq!(read_all(&partition(&third.log, 1), 300).await, [(40, "next".to_owned())]);
    });
}

/// Partitions that live longer than others keep what they have, and not the segment that they shared.
#[test]
fn a_segment_that_is_mostly_dead_is_made_anew() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let broker = started(&store, &rng).await;
        for i in 0..12 {
            let all = (0..3).map(|index| {
                append(&partition(&broker.log, index), batch(&[value(index, i)], None, 0)).unwrap()
            });
            for appended in all.collect::<Vec<_>>() {
                appended.committed().await.unwrap();
            }
        }
        while broker.log.rewrite().await.unwrap() {}
        let (before, bytes) = (keys(&store, "seg/"), |key: &String| store.objects()[key].len());
        let size: usize = before.iter().map(bytes).sum();
        for index in [0, 2] {
            partition(&broker.log, index).delete_records(-1).await.unwrap();
        }
        task::sleep(AGE).await;
        while broker.log.rewrite().await.unwrap() {}
        let after = keys(&store, "seg/");
        assert!(before.iter().all(|key| !after.contains(key)), "{before:?} {after:?}");
        assert!(after.iter().map(bytes).sum::<usize>() * 2 < size);
        let expected: Vec<_> = (0..12).map(|i| (i64::from(i), value(1, i))).collect();
        assert_eq!(read_all(&partition(&broker.log, 1), 300).await, expected);
        broker.bucket.kill();
        let again = start(&store, &rng).await.unwrap();
        assert_eq!(read_all(&partition(&again.log, 1), 300).await, expected);
        assert_eq!(partition(&again.log, 0).offsets().log_start, 12);
    });
}

/// A commit of many partitions is one object, and one request for all who read it.
#[test]
fn each_object_is_fetched_once() {
    run(1, async {
        let (store, rng) = (MemBucket::new(1), SeededRng::new(1));
        let broker = started(&store, &rng).await;
        // Fewer than are rewritten.
        for i in 0..10 {
            let all = (0..3).map(|index| {
                append(&partition(&broker.log, index), batch(&[value(index, i)], None, 0)).unwrap()
            });
            for appended in all.collect::<Vec<_>>() {
                appended.committed().await.unwrap();
            }
        }
        broker.bucket.kill();
        let again = started(&store, &rng).await;
        let gets = || again.bucket.counters().gets.load(Ordering::Relaxed);
        let before = gets();
        for index in 0..3 {
            assert_eq!(read_all(&partition(&again.log, index), 100).await.len(), 10);
        }
        // What the catalog asks meanwhile is not much.
        assert!(gets() - before <= 15, "{} requests", gets() - before);
    });
}
