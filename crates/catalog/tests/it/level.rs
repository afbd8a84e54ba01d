//! Two releases on one log (R18): the level goes up when all know it, and who does not know it stops.

use std::sync::Arc;

use bytes::Bytes;
use catalog::{
    Catalog, CatalogError, CatalogOpenError, CatalogOptions, LevelUnknown, Levels, MetadataRecord,
    OTTLA_VERSION, Precondition,
};
use protocol::batch::crc32c;
use protocol::{ErrorCode, Str};
use world::bucket::{Bucket, MemBucket};
use world::disk::MemDisk;
use world::rng::SeededRng;
use xxhash_rust::xxh3::xxh3_128;

use crate::support::{self, run, topic};

const OLD: Levels = Levels { lowest: 1, highest: 1 };
const NEW: Levels = Levels { lowest: 1, highest: 2 };

async fn start(
    bucket: &MemBucket,
    node_id: i32,
    levels: Levels,
    snapshot_frames: u64,
) -> Result<Arc<Catalog>, CatalogOpenError> {
    let options = CatalogOptions {
        node_id: Some(node_id),
        lease_ttl: std::time::Duration::ZERO,
        // Nothing is followed that nobody asks for.
        follow_every: std::time::Duration::from_secs(1_000_000),
        levels,
        snapshot_frames,
        ..CatalogOptions::default()
    };
    let rng = SeededRng::shared(bucket.trace_hash() ^ node_id as u64);
    Catalog::open_bucket(Arc::new(bucket.clone()), rng, options).await
}

fn raise(from_level: i16, to_level: i16) -> Vec<MetadataRecord> {
    vec![MetadataRecord::FeatureLevel { name: Str::from_static(OTTLA_VERSION), from_level, to_level }]
}

/// Starts like one that has not been upgraded; what it says.
async fn refused(bucket: &MemBucket) -> String {
    let error = start(bucket, 9, OLD, 200).await.err().expect("it does not know the level");
    let expected = LevelUnknown { level: 2, known: OLD };
    assert!(matches!(error, CatalogOpenError::LevelUnknown(unknown) if unknown == expected), "{error}");
    error.to_string()
}

#[test]
fn a_rolling_upgrade() {
    for snapshot_frames in [200, 2] {
        run(async {
            let bucket = MemBucket::new(1);
            let old = start(&bucket, 1, OLD, snapshot_frames).await.unwrap();
            let paused = start(&bucket, 2, OLD, snapshot_frames).await.unwrap();
            // The first one is upgraded. It works on, at the level that there is.
            old.leave().await;
            old.close().await;
            let new = start(&bucket, 1, NEW, snapshot_frames).await.unwrap();
            new.append(vec![topic(1, "a", 1)]).await.unwrap();
            assert_eq!(new.read().level(), 1);
            let early = new.append(raise(1, 2)).await.unwrap_err();
            let known = Precondition::LevelNotKnown { node_id: 2, level: 2, known: OLD };
            assert!(matches!(&early, CatalogError::Rejected(reason) if *reason == known), "{early}");
            assert_eq!(early.error_code(), ErrorCode::InvalidUpdateVersion);
            // The other one sleeps; somebody takes over from it.
            new.append(vec![MetadataRecord::FenceWal { wal_id: paused.wal_id() }]).await.unwrap();
            new.append(raise(1, 2)).await.unwrap();
            assert_eq!(new.read().level(), 2);
            let again = new.append(raise(1, 2)).await.unwrap_err();
            assert!(matches!(again, CatalogError::Rejected(Precondition::FeatureMoved { actual: 2, .. })));
            let down = new.append(raise(2, 1)).await.unwrap_err();
            assert!(matches!(down, CatalogError::Rejected(Precondition::LevelLowered { from: 2, to: 1 })));
            // Enough for snapshots.
            for expected_next in 0..4 {
                let ids =
                    MetadataRecord::AllocateProducerIds { expected_next, count: 1, owner: new.wal_id() };
                new.append(vec![ids]).await.unwrap();
            }
            let snapshots = bucket.objects().keys().filter(|key| key.starts_with("snapshots/")).count();
            assert_eq!(snapshots, if snapshot_frames == 2 { 2 } else { 0 });
            // It wakes up, meets the level, and is heard of.
            paused.catch_up().await.unwrap_err();
            let words = paused.failure().expect("it stops");
            assert!(words.contains("is at ottla.version 2, this build of ottla knows 1 to 1"), "{words}");
            assert_eq!(refused(&bucket).await, words);
            let newest = start(&bucket, 2, NEW, snapshot_frames).await.unwrap();
            new.catch_up().await.unwrap();
            assert_eq!(newest.read().hash(), new.read().hash());
            assert_eq!(newest.read().broker(2).unwrap().levels, NEW);
        });
    }
}

/// It opened the log a moment before the level was raised.
#[test]
fn a_registration_that_comes_too_late_is_void() {
    run(async {
        let bucket = MemBucket::new(1);
        let new = start(&bucket, 1, NEW, 200).await.unwrap();
        assert_eq!(new.read().level(), 2, "a cluster starts at what the build knows that begins it");
        refused(&bucket).await;
        let error = start(&bucket, 2, Levels { lowest: 3, highest: 4 }, 200).await.err().unwrap();
        assert!(
            error.to_string().contains("is at ottla.version 2, this build of ottla knows 3 to 4"),
            "{error}"
        );
        let late = MetadataRecord::RegisterBroker {
            node_id: 2,
            previous: 0,
            incarnation: protocol::Uuid([4; 16]),
            rack: None,
            endpoints: Vec::new(),
            levels: OLD,
        };
        let void = new.append(vec![late]).await.unwrap_err();
        let known = Precondition::LevelNotKnown { node_id: 2, level: 2, known: OLD };
        assert!(matches!(&void, CatalogError::Rejected(reason) if *reason == known), "{void}");
    });
}

#[test]
fn in_a_directory_too() {
    run(async {
        let disk = MemDisk::new(1);
        let newer = CatalogOptions { levels: NEW, snapshot_frames: 2, ..CatalogOptions::default() };
        let old = support::open_with(&disk, CatalogOptions { levels: OLD, ..newer.clone() }).await.unwrap();
        old.close().await;
        let new = support::open_with(&disk, newer.clone()).await.unwrap();
        new.append(raise(1, 2)).await.unwrap();
        new.append(vec![topic(1, "a", 1)]).await.unwrap();
        new.close().await;
        let bytes = disk.content(&support::log_path()).unwrap();
        for check_whole_bytes_max in [0, u64::MAX] {
            let options = CatalogOptions { levels: OLD, check_whole_bytes_max, ..newer.clone() };
            let refused = support::open_with(&disk, options).await.err().expect("it does not know the level");
            assert!(matches!(refused, CatalogOpenError::LevelUnknown(_)), "{refused}");
        }
        assert_eq!(
            disk.content(&support::log_path()).unwrap(),
            bytes,
            "who refuses to start leaves all as it was"
        );
        let again = support::open_with(&disk, newer).await.unwrap();
        assert_eq!((again.read().level(), again.read().topic_count()), (2, 1));
    });
}

/// What no release of ours writes without a level: but if it stands there, nobody reads past it.
#[test]
fn a_record_that_nobody_knows_stops_the_broker_that_meets_it() {
    run(async {
        let bucket = MemBucket::new(1);
        let broker = start(&bucket, 1, OLD, 200).await.unwrap();
        broker.append(vec![topic(1, "a", 1)]).await.unwrap();
        let before = (broker.read().position(), broker.read().hash());
        let next = before.0 + 1;
        let frame = frame_of_an_unknown_record(&bucket, next);
        bucket.create(&format!("meta/{next:020}"), frame).await.unwrap();
        broker.append(vec![topic(2, "b", 1)]).await.unwrap_err();
        let words = broker.failure().expect("it stops");
        assert!(words.contains("unknown metadata record type 999 version 0"), "{words}");
        assert_eq!((broker.read().position(), broker.read().hash()), before);
        let refused = start(&bucket, 2, NEW, 200).await.err().expect("it does not know it either");
        assert!(refused.to_string().contains("unknown metadata record type 999 version 0"), "{refused}");
        assert_eq!(bucket.objects().keys().filter(|key| key.starts_with("meta/")).count() as u64, next + 1);
    });
}

fn frame_of_an_unknown_record(bucket: &MemBucket, position: u64) -> Bytes {
    let objects = bucket.objects();
    let object = |position: u64| &objects[&format!("meta/{position:020}")];
    let log_id = &object(0)[12..28];
    let body = [&[0][..], &1u32.to_le_bytes(), &[1; 8], &[9; 8], &1u32.to_le_bytes(), &[0xe7, 3, 0]].concat();
    let fields = [
        &position.to_le_bytes()[..],
        &(body.len() as u32).to_le_bytes(),
        &crc32c(&body).to_le_bytes(),
        &xxh3_128(object(position - 1)).to_le_bytes(),
    ]
    .concat();
    let checksum = crc32c(&[log_id, &fields].concat());
    [&b"OMF1"[..], &checksum.to_le_bytes(), &fields, &body].concat().into()
}
