//! Many brokers on one bucket: one metadata log, whatever the store does to their requests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use catalog::{
    BrokerEndpoint, Catalog, CatalogError, CatalogOpenError, CatalogOptions, MetadataRecord, Precondition,
};
use protocol::ErrorCode;
use world::bucket::{Bucket, MemBucket, MemBucketFaults};
use world::rng::SeededRng;
use world::task;

use crate::support::{run, topic};

fn options(node_id: i32) -> CatalogOptions {
    CatalogOptions { node_id: Some(node_id), lease_ttl: Duration::ZERO, ..CatalogOptions::default() }
}

async fn open_with(
    bucket: &MemBucket,
    seed: u64,
    options: CatalogOptions,
) -> Result<Arc<Catalog>, CatalogOpenError> {
    Catalog::open_bucket(Arc::new(bucket.clone()), Arc::new(SeededRng::new(seed)), options).await
}

async fn open(bucket: &MemBucket, node_id: i32) -> Arc<Catalog> {
    open_with(bucket, bucket.trace_hash() ^ node_id as u64, options(node_id))
        .await
        .expect("the catalog opens")
}

fn keys(bucket: &MemBucket, folder: &str) -> Vec<String> {
    bucket.objects().into_keys().filter(|key| key.starts_with(folder)).collect()
}

#[test]
fn what_one_broker_appends_all_have() {
    run(async {
        let bucket = MemBucket::new(1);
        let (first, second) = (open(&bucket, 1).await, open(&bucket, 2).await);
        first.append(vec![topic(1, "a", 3)]).await.unwrap();
        // Nobody told the second one. It finds the frame where its own should stand.
        let taken = second.append(vec![topic(2, "a", 1)]).await;
        assert!(matches!(taken, Err(CatalogError::Rejected(Precondition::TopicExists { .. }))));
        second.append(vec![topic(3, "b", 1)]).await.unwrap();
        assert_eq!(second.counters().conflicts.load(Ordering::Relaxed), 1);
        assert!(first.read().topic("b").is_none());
        first.catch_up().await.unwrap();
        assert_eq!(first.read().hash(), second.read().hash());
        assert_eq!(first.read().brokers().count(), 2);
        // Without being asked it looks by itself.
        first.append(vec![topic(4, "c", 1)]).await.unwrap();
        let mut changes = second.changes();
        changes.wait_for(|position| *position == first.read().position()).await.unwrap();
        assert!(second.read().topic("c").is_some());
        let hash = first.read().hash();
        first.close().await;
        second.close().await;
        let third = open(&bucket, 3).await;
        assert_eq!((third.read().topic_count(), third.read().brokers().count()), (3, 3));
        assert_ne!(third.read().hash(), hash, "it has registered itself");
    });
}

/// Every fault of the store at once; what was answered must be so on every broker.
#[test]
fn answers_are_true_whatever_the_store_does() {
    const BROKERS: i32 = 3;
    const EACH: u64 = 40;
    for seed in 1..=30 {
        run(async {
            let bucket = MemBucket::new(seed);
            bucket.set_faults(MemBucketFaults::all());
            let mut brokers = task::JoinSet::new();
            for node_id in 1..=BROKERS {
                let bucket = bucket.clone();
                brokers.spawn(async move {
                    let options = CatalogOptions { snapshot_frames: 10, ..options(node_id) };
                    let catalog = open_with(&bucket, seed * 100 + node_id as u64, options).await.unwrap();
                    let mut made = Vec::new();
                    let mut shared = Vec::new();
                    let mut ids = Vec::new();
                    let mut unknown = 0;
                    for number in 0..EACH {
                        let id = u128::from(number) * 1000 + node_id as u128 + (1 << 64);
                        let own = format!("own-{node_id}-{number}");
                        match catalog.append(vec![topic(id, &own, 1)]).await {
                            Ok(_) => made.push(own),
                            Err(CatalogError::Unknown(_)) => unknown += 1,
                            Err(error) => panic!("seed {seed}: {error}"),
                        }
                        let name = format!("shared-{number}");
                        if catalog.append(vec![topic(id + 500, &name, 1)]).await.is_ok() {
                            shared.push(name);
                        }
                        let expected_next = catalog.read().next_producer_id();
                        let owner = catalog.wal_id();
                        let block = MetadataRecord::AllocateProducerIds { expected_next, count: 10, owner };
                        if catalog.append(vec![block]).await.is_ok() {
                            ids.push(expected_next);
                        }
                    }
                    (catalog, made, shared, ids, unknown)
                });
            }
            let all = brokers.join_all().await;
            bucket.set_faults(MemBucketFaults::default());
            // What was late has come.
            task::sleep(Duration::from_secs(200)).await;
            let mut hashes = BTreeSet::new();
            for (catalog, ..) in &all {
                catalog.catch_up().await.unwrap();
                hashes.insert((catalog.read().position(), catalog.read().hash()));
            }
            assert_eq!(hashes.len(), 1, "seed {seed}");
            let state = all[0].0.read();
            let own: usize = all.iter().map(|(_, made, ..)| made.len()).sum();
            let unknown: usize = all.iter().map(|(.., unknown)| *unknown).sum();
            assert!(all.iter().flat_map(|(_, made, ..)| made).all(|name| state.topic(name).is_some()));
            let there = state.topics().filter(|topic| topic.name.starts_with("own")).count();
            assert!((own..=own + unknown).contains(&there), "seed {seed}: {own} {unknown} {there}");
            assert!(own >= 100, "seed {seed}: the store lets most through");
            let shared: Vec<&String> = all.iter().flat_map(|(_, _, shared, ..)| shared).collect();
            assert_eq!(shared.iter().collect::<BTreeSet<_>>().len(), shared.len(), "a name has one maker");
            let ids: Vec<i64> = all.iter().flat_map(|(_, _, _, ids, _)| ids).copied().collect();
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "a block has one owner");
            let conflicts: u64 =
                all.iter().map(|(catalog, ..)| catalog.counters().conflicts.load(Ordering::Relaxed)).sum();
            assert!(conflicts > 10, "seed {seed}: {conflicts}");
            assert!(keys(&bucket, "snapshots/").len() <= 2 + BROKERS as usize);
            assert_eq!(keys(&bucket, "meta/").len() as u64, state.position() + 1, "no record goes");
        });
    }
}

#[test]
fn the_same_seed_makes_the_same_requests() {
    let story = |seed| {
        run(async move {
            let bucket = MemBucket::new(seed);
            bucket.set_faults(MemBucketFaults::all());
            let (first, second) = (open(&bucket, 1).await, open(&bucket, 2).await);
            for number in 0..20 {
                let (one, two) = (topic(number + 1, &format!("t{number}"), 1), topic(number + 100, "x", 1));
                let _ = futures_util::future::join(first.append(vec![one]), second.append(vec![two])).await;
            }
            (bucket.trace_hash(), first.read().hash())
        })
    };
    assert_eq!(story(5), story(5));
    assert_ne!(story(5).0, story(6).0);
}

#[test]
fn a_start_reads_the_newest_snapshot_and_what_came_behind_it() {
    run(async {
        let bucket = MemBucket::new(1);
        let options = CatalogOptions { snapshot_frames: 10, ..options(1) };
        let first = open_with(&bucket, 1, options.clone()).await.unwrap();
        for number in 0..45 {
            first.append(vec![topic(number + 1, &format!("t{number}"), 1)]).await.unwrap();
        }
        let snapshots = keys(&bucket, "snapshots/");
        assert_eq!(snapshots.len(), 2, "{snapshots:?}");
        let (position, hash) = (first.read().position(), first.read().hash());
        first.close().await;
        let gets = bucket.counters().gets.load(Ordering::Relaxed);
        let second =
            open_with(&bucket, 2, CatalogOptions { node_id: Some(2), ..options.clone() }).await.unwrap();
        let gets = bucket.counters().gets.load(Ordering::Relaxed) - gets;
        assert!(gets < 20, "{gets} requests for {position} frames");
        assert_eq!(second.read().topic_count(), 45);
        second.close().await;
        // A snapshot that cannot be read costs time and nothing else.
        for snapshot in &snapshots {
            bucket.put(snapshot, Bytes::from_static(b"OTLASNAP and nonsense behind it")).await.unwrap();
        }
        let third = open_with(&bucket, 3, CatalogOptions { node_id: Some(3), ..options }).await.unwrap();
        assert_eq!(third.notices().len(), 2);
        assert_eq!((third.read().topic_count(), third.read().brokers().count()), (45, 3));
        assert_ne!(third.read().hash(), hash);
    });
}

/// Two states at one position: one of the brokers is wrong, and the one that notices stops.
#[test]
fn another_snapshot_of_the_same_position_stops_the_broker() {
    run(async {
        let bucket = MemBucket::new(1);
        let catalog =
            open_with(&bucket, 1, CatalogOptions { snapshot_frames: 5, ..options(1) }).await.unwrap();
        bucket.put(&format!("snapshots/{:020}", 5), Bytes::from_static(b"of another state")).await.unwrap();
        for number in 0..4 {
            catalog.append(vec![topic(number + 1, &format!("t{number}"), 1)]).await.unwrap();
        }
        let refused = catalog.append(vec![topic(99, "t9", 1)]).await.unwrap_err();
        assert_eq!(refused.error_code(), ErrorCode::KafkaStorageError);
        assert!(
            catalog.failure().unwrap().contains("another state at position 5"),
            "{:?}",
            catalog.failure()
        );
    });
}

#[test]
fn a_later_incarnation_of_the_same_node_takes_the_place_of_the_earlier_one() {
    run(async {
        let bucket = MemBucket::new(1);
        let first = open(&bucket, 1).await;
        assert!(!first.is_fenced());
        let second = open(&bucket, 1).await;
        assert!(second.wal_id() > first.wal_id());
        let refused = first.append(vec![topic(1, "a", 1)]).await.unwrap_err();
        assert!(matches!(refused, CatalogError::Rejected(Precondition::WriterFenced { .. })), "{refused}");
        assert!(first.is_fenced() && !second.is_fenced());
        // What the first one wrote last is not known yet: nothing new goes to its node before that.
        let early = second.append(vec![topic(1, "a", 1)]).await.unwrap_err();
        assert!(matches!(early, CatalogError::Rejected(Precondition::NoBroker)), "{early}");
        let (wal_id, heir) = (first.wal_id(), second.wal_id());
        let seal = MetadataRecord::SealWal { wal_id, end: 0, rewriter: heir, heirs: vec![heir] };
        second.append(vec![seal]).await.unwrap();
        second.append(vec![topic(1, "a", 1)]).await.unwrap();
    });
}

/// Without an id each broker takes one of its own, also when several start at once, and has it again when it comes back.
#[test]
fn brokers_without_an_id_get_one_each() {
    run(async {
        let bucket = MemBucket::new(1);
        bucket.set_faults(MemBucketFaults::all());
        let free = CatalogOptions::default;
        let start = |seed| open_with(&bucket, seed, free());
        let all = futures_util::future::join_all((1..=4).map(start)).await;
        let all: Vec<Arc<Catalog>> = all.into_iter().map(|catalog| catalog.unwrap()).collect();
        let ids: BTreeSet<i32> = all.iter().map(|catalog| catalog.node_id()).collect();
        assert_eq!(ids, BTreeSet::from([1, 2, 3, 4]));
        let second = all.iter().find(|catalog| catalog.node_id() == 2).unwrap();
        second.append(vec![MetadataRecord::FenceWal { wal_id: second.wal_id() }]).await.unwrap();
        assert!(second.is_fenced());
        assert_eq!(open_with(&bucket, 9, free()).await.unwrap().node_id(), 2);
    });
}

/// A client finds a broker by its id, and would look for it where the id was before.
#[test]
fn an_id_does_not_go_to_another_address() {
    run(async {
        let bucket = MemBucket::new(1);
        let at = |port: u16| {
            let endpoint = |listener_name: &str, port| BrokerEndpoint {
                listener_name: listener_name.into(),
                security_protocol: 0,
                host: "here".into(),
                port,
            };
            // Only clients' addresses stay.
            let endpoints = vec![endpoint("PLAINTEXT", port), endpoint("BETWEEN", port + 1000 + port % 7)];
            CatalogOptions { endpoints, ..CatalogOptions::default() }
        };
        let first = open_with(&bucket, 1, at(1)).await.unwrap();
        let second = open_with(&bucket, 2, at(2)).await.unwrap();
        let fence = |wal_id| vec![MetadataRecord::FenceWal { wal_id }];
        second.append(fence(first.wal_id())).await.unwrap();
        // While the first one does not know yet that it is gone, a third one starts; then it begins anew.
        let third = open_with(&bucket, 3, at(3)).await.unwrap();
        let again = open_with(&bucket, 4, at(1)).await.unwrap();
        assert_eq!([&second, &third, &again].map(|catalog| catalog.node_id()), [2, 3, 1]);
        // Whoever starts at an address before its last broker is known to be gone gets another id, and later the lower one again.
        let hasty = open_with(&bucket, 5, at(3)).await.unwrap();
        assert_eq!(hasty.node_id(), 4);
        again.append(fence(third.wal_id())).await.unwrap();
        again.append(fence(hasty.wal_id())).await.unwrap();
        assert_eq!(open_with(&bucket, 6, at(3)).await.unwrap().node_id(), 3);
    });
}

/// An id that is asked for is refused while its lease moves, and taken when that stands still.
#[test]
fn an_id_in_use_is_refused_until_its_lease_expires() {
    run(async {
        let bucket = MemBucket::new(1);
        let first_process = bucket.client();
        let as_one = CatalogOptions { node_id: Some(1), ..CatalogOptions::default() };
        let first = open_with(&first_process, 1, as_one.clone()).await.unwrap();
        let refused = open_with(&bucket, 2, as_one.clone()).await.err().expect("it lives");
        assert!(matches!(refused, CatalogOpenError::NodeIdInUse { node_id: 1, .. }), "{refused}");
        first.set_applied(first.read().position());
        task::sleep(Duration::from_secs(1)).await;
        let lease = first.leases().unwrap().get(first.wal_id()).await.unwrap().unwrap();
        assert_eq!((lease.wal_id, lease.applied), (first.wal_id(), first.read().position()));
        first_process.kill();
        let began = task::now();
        let second = open_with(&bucket, 3, as_one).await.unwrap();
        assert!(task::now() - began >= Duration::from_secs(6) && second.wal_id() > first.wal_id());
    });
}

/// An outage delays; it does not lose, and it does not tell lies.
#[test]
fn an_outage_is_waited_for_and_a_long_one_is_answered_as_unknown() {
    run(async {
        let bucket = MemBucket::new(1);
        let catalog = open(&bucket, 1).await;
        bucket.set_out(true);
        let (back, waiting) = (bucket.clone(), catalog.clone());
        let appended = task::spawn(async move { waiting.append(vec![topic(1, "short", 1)]).await });
        task::sleep(Duration::from_secs(12)).await;
        back.set_out(false);
        appended.await.unwrap().unwrap();
        bucket.set_out(true);
        let unknown = catalog.append(vec![topic(2, "long", 1)]).await.unwrap_err();
        assert_eq!(unknown.error_code(), ErrorCode::RequestTimedOut);
        bucket.set_out(false);
        catalog.append(vec![topic(3, "after", 1)]).await.unwrap();
        assert!(catalog.read().topic("after").is_some());
    });
}

/// P7: nothing is skipped.
#[test]
fn a_frame_that_is_missing_or_damaged_stops_the_start() {
    run(async {
        let bucket = MemBucket::new(1);
        let catalog = open(&bucket, 1).await;
        for number in 0..5 {
            catalog.append(vec![topic(number + 1, &format!("t{number}"), 1)]).await.unwrap();
        }
        catalog.close().await;
        let whole = bucket.objects();
        for (key, bytes) in whole.iter().filter(|(key, _)| key.starts_with("meta/")) {
            let flipped: Vec<u8> = bytes.iter().enumerate().map(|(i, b)| b ^ u8::from(i == 20)).collect();
            let long = [bytes.as_ref(), b"x"].concat();
            let cut = bytes.slice(..bytes.len() - 1);
            for damage in [Some(Bytes::from(flipped)), Some(Bytes::from(long)), Some(cut), None] {
                match &damage {
                    Some(damage) => drop(bucket.put(key, damage.clone()).await.unwrap()),
                    // Without its last frame a log is a shorter log; without its head it gets a new one.
                    None if key.ends_with('6') || key.ends_with('0') => continue,
                    None => bucket.delete(key).await.unwrap(),
                }
                let opened = open_with(&bucket, 7, options(7)).await;
                let error = opened.err().unwrap_or_else(|| panic!("{key} with {damage:?} was taken"));
                assert!(matches!(error, CatalogOpenError::Damaged { .. }), "{key}: {error}");
                bucket.put(key, bytes.clone()).await.unwrap();
            }
        }
        assert_eq!(bucket.objects(), whole, "a start that is refused changes nothing");
    });
}

/// Two of one name in one batch: the second is refused when the first stands, not when it is only meant to.
#[test]
fn an_answer_does_not_rest_on_what_is_refused_itself() {
    run(async {
        let bucket = MemBucket::new(1);
        let (first, second) = (open(&bucket, 1).await, open(&bucket, 2).await);
        // The second one does not know that the id is taken.
        first.append(vec![topic(1, "taken", 1)]).await.unwrap();
        let both = futures_util::future::join(
            second.append(vec![topic(1, "a", 1)]),
            second.append(vec![topic(2, "a", 1)]),
        );
        let (one, two) = both.await;
        assert!(matches!(one, Err(CatalogError::Rejected(Precondition::TopicIdInUse { .. }))), "{one:?}");
        two.expect("nobody has that name");
        let again = futures_util::future::join_all((10..20).map(|id| {
            let second = second.clone();
            async move { second.append(vec![topic(id, "b", 1)]).await }
        }));
        let made = again.await.into_iter().filter(Result::is_ok).count();
        assert_eq!((made, second.counters().frames.load(Ordering::Relaxed)), (1, 3), "one frame for all ten");
        assert!(second.append(vec![topic(30, "c", 1)]).await.is_ok(), "request numbers went on");
    });
}
