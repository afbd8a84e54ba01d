//! Several brokers, their WALs in one bucket, every fault of the store, takeovers at any moment, and nobody ever told the truth
//! about who is alive: what was acknowledged counts, and nothing else appears in its place (R1-R5, R9-R12).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::{Catalog, CatalogOptions};
use commitlog::NegativeControl;
use commitlog::bucket::{SlotWriter, slot_key, take_over};
use commitlog::container::{ContainerBuilder, Identity, Kind};
use parking_lot::Mutex;
use world::broken;
use world::bucket::{Bucket, MemBucket, MemBucketFaults};
use world::rng::{Rng, SeededRng};
use world::task;

const NODES: i32 = 3;
/// Of each node, one after the other.
const LIVES: usize = 4;
const STEPS: u64 = 40;

#[derive(Default)]
struct History {
    sent: BTreeMap<(u64, u64), Bytes>,
    acknowledged: Vec<(u64, u64)>,
    /// Writers that found out that they were fenced.
    fenced: usize,
    takeovers: usize,
}

/// A commit like no other.
fn commit(rng: &SeededRng, wal_id: u64, slot: u64) -> Bytes {
    let identity = Identity {
        kind: Kind::Object,
        log_id: u128::from(wal_id).to_le_bytes(),
        number: slot,
        predecessor: [0; 16],
        durable: 0,
        nonce: rng.uuid(),
        created_ms: 0,
        file_len: 0,
    };
    let (bytes, header, _) = ContainerBuilder::new(0, 0).finish(identity);
    bytes.slice(..header.len() as usize)
}

async fn open(bucket: &MemBucket, node_id: i32, rng: &SeededRng) -> Arc<Catalog> {
    loop {
        let options =
            CatalogOptions { node_id: Some(node_id), lease_ttl: Duration::ZERO, ..CatalogOptions::default() };
        let rng = Arc::new(SeededRng::new(rng.below(u64::MAX)));
        // A store that is silent for too long: started again, as an operator would.
        if let Ok(catalog) = Catalog::open_bucket(Arc::new(bucket.clone()), rng, options).await {
            return catalog;
        }
    }
}

/// One incarnation from its registration to its death, of which nobody is told.
async fn live(
    bucket: MemBucket,
    node_id: i32,
    rng: Arc<SeededRng>,
    history: Arc<Mutex<History>>,
    control: Option<NegativeControl>,
) {
    let catalog = open(&bucket, node_id, &rng).await;
    let me = catalog.wal_id();
    let shared: Arc<dyn Bucket> = Arc::new(bucket);
    let mut writer = SlotWriter::new(shared.clone(), me).with_control(control);
    for _ in 0..STEPS {
        match rng.below(30) {
            0 => task::sleep(Duration::from_millis(rng.below(30_000))).await,
            1 => {
                let all: Vec<u64> = catalog.read().wals().map(|(wal_id, _)| wal_id).collect();
                let victim = all[rng.below(all.len() as u64) as usize];
                if victim != me {
                    let _ = take_over(&shared, &catalog, victim, &[me]).await;
                    history.lock().takeovers += 1;
                }
            }
            _ => {}
        }
        while writer.has_room() && rng.below(3) > 0 {
            let slot = history.lock().sent.keys().filter(|(wal_id, _)| *wal_id == me).count() as u64;
            let bytes = commit(&rng, me, slot);
            history.lock().sent.insert((me, slot), bytes.clone());
            assert_eq!(writer.send(bytes), slot);
        }
        let patience = Duration::from_millis(rng.below(800));
        if let Ok(stored) = task::timeout(patience, writer.stored()).await {
            match stored {
                Ok(slot) => history.lock().acknowledged.push((me, slot)),
                Err(_) => {
                    history.lock().fenced += 1;
                    return;
                }
            }
        }
    }
}

/// Lives of all nodes beside one another, then the truth. An error says which promise was broken.
fn run(seed: u64, control: Option<NegativeControl>) -> Result<(History, u64), String> {
    world::task::deterministic(seed);
    world::task::paused_runtime().block_on(async {
        let bucket = MemBucket::new(seed);
        bucket.set_faults(MemBucketFaults::all());
        let history: Arc<Mutex<History>> = Arc::default();
        let mut nodes = task::JoinSet::new();
        for node_id in 1..=NODES {
            let (bucket, history) = (bucket.clone(), history.clone());
            let rng = Arc::new(SeededRng::new(seed * 100 + node_id as u64));
            nodes.spawn(async move {
                for _ in 0..LIVES {
                    live(bucket.clone(), node_id, rng.clone(), history.clone(), control).await;
                }
            });
        }
        nodes.join_all().await;
        bucket.set_faults(MemBucketFaults::default());
        // What was late has come.
        task::sleep(Duration::from_secs(200)).await;
        let catalog = open(&bucket, NODES + 1, &SeededRng::new(seed)).await;
        let shared: Arc<dyn Bucket> = Arc::new(bucket.clone());
        let wals: Vec<u64> = catalog.read().wals().map(|(wal_id, _)| wal_id).collect();
        for wal_id in wals.iter().rev().filter(|wal_id| **wal_id != catalog.wal_id()) {
            take_over(&shared, &catalog, *wal_id, &[catalog.wal_id()]).await.map_err(|e| e.to_string())?;
        }
        let objects = bucket.objects();
        let history = std::mem::take(&mut *history.lock());
        for (wal_id, wal) in catalog.read().wals().filter(|(wal_id, _)| *wal_id != catalog.wal_id()) {
            let end = wal.sealed_at.ok_or(format!("WAL {wal_id} is not sealed"))?;
            for slot in 0..end {
                let sent = history.sent.get(&(wal_id, slot));
                if sent.is_none() || objects.get(&slot_key(wal_id, slot)) != sent {
                    return Err(format!("slot {slot} of WAL {wal_id} counts and is not what was sent"));
                }
            }
            let beyond = history.acknowledged.iter().find(|(id, slot)| *id == wal_id && *slot >= end);
            if let Some((_, slot)) = beyond {
                return Err(format!("slot {slot} of WAL {wal_id} was acknowledged, and it ends at {end}"));
            }
        }
        Ok((history, bucket.trace_hash()))
    })
}

#[test]
fn what_was_acknowledged_counts_whoever_dies_and_whatever_the_store_does() {
    let (mut acknowledged, mut fenced, mut takeovers) = (0, 0, 0);
    for seed in 1..=100 {
        let (history, _) = run(seed, None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        acknowledged += history.acknowledged.len();
        fenced += history.fenced;
        takeovers += history.takeovers;
    }
    println!("{acknowledged} commits, {takeovers} takeovers, {fenced} writers fenced while they wrote");
    assert!(acknowledged > 10_000 && takeovers > 500 && fenced > 100, "{acknowledged} {takeovers} {fenced}");
}

#[test]
fn the_same_seed_is_the_same_story() {
    let story = |seed| run(seed, None).map(|(history, trace)| (history.acknowledged, trace)).unwrap();
    assert_eq!(story(3), story(3));
    assert_ne!(story(3).1, story(4).1);
}

/// The check notices when a rule is broken. Seeds that it takes, in the median: see the assertion.
#[test]
fn broken_rules_are_found() {
    // R2: after a time-out more goes into the slot.
    broken::set(Some("rebatched-slot"));
    let found: Vec<u64> = (1..=100).filter(|seed| run(*seed, None).is_err()).collect();
    broken::set(None);
    println!("rebatched-slot: found by {} of 100 seeds", found.len());
    assert!(found.len() >= 10, "rebatched-slot is found by {found:?} only");
    for control in [NegativeControl::ExistsIsStored, NegativeControl::AcknowledgeOutOfOrder] {
        let found: Vec<u64> = (1..=100).filter(|seed| run(*seed, Some(control)).is_err()).collect();
        println!("{control:?}: found by {} of 100 seeds", found.len());
        assert!(found.len() >= 10, "{control:?} is found by {found:?} only");
    }
}
