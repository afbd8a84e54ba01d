//! Replay is a function of the log: with snapshots or without, the same state, byte for byte.

use std::sync::Arc;

use catalog::acl::{
    Acl, AclOperation, AclPermission, AclResourceType, AclRule, PatternType, ResourcePattern,
};
use catalog::quota::{QuotaChange, QuotaValue};
use catalog::{CatalogOptions, MetadataRecord, ResourceType, ShardChange};
use proptest::prelude::*;
use protocol::{Str, Uuid};
use world::disk::{Disk, MemDisk};

use crate::support::*;

fn acl() -> impl Strategy<Value = Acl> {
    use prop::sample::select;
    let pattern = (
        select(AclResourceType::ALL_OF_THEM),
        select(PatternType::ALL_OF_THEM),
        select(vec!["a", "ab", "*"]),
    );
    let rule =
        (select(vec!["*", "::1"]), select(AclOperation::ALL_OF_THEM), select(AclPermission::ALL_OF_THEM));
    (pattern, select(vec!["User:a", "User:*"]), rule).prop_map(
        |((resource_type, pattern_type, name), principal, (host, operation, permission))| Acl {
            pattern: ResourcePattern { resource_type, pattern_type, name: Str::from(name) },
            principal: Str::from(principal),
            rule: AclRule { host: Str::from(host), operation, permission },
        },
    )
}

fn record() -> impl Strategy<Value = MetadataRecord> {
    let id = (1..12u128).prop_map(Uuid::from_u128);
    let name = prop::sample::select(vec!["a", "b", "a.b", "a_b", "__consumer_offsets", "c-d", "bad name"]);
    let name = name.prop_map(Str::from);
    let key = prop::sample::select(vec!["retention.ms", "cleanup.policy", "k"]).prop_map(Str::from);
    let value = prop::option::of(prop::sample::select(vec!["1", "", "compact"]).prop_map(Str::from));
    let kind = prop::sample::select(vec![
        ResourceType::Topic,
        ResourceType::Broker,
        ResourceType::Group,
        ResourceType::ClientMetrics,
    ]);
    prop_oneof![
        4 => (id.clone(), name.clone(), 0..5u32, 0..3i16, prop::collection::vec((key.clone(), name.clone()), 0..3))
            .prop_map(|(id, name, partition_count, replication_factor, configs)| {
                MetadataRecord::CreateTopic { id, name, partition_count, replication_factor, configs }
            }),
        2 => id.clone().prop_map(|id| MetadataRecord::DeleteTopic { id }),
        2 => (id, 1..5u32, 1..9u32)
            .prop_map(|(id, from_count, to_count)| MetadataRecord::CreatePartitions { id, from_count, to_count }),
        2 => (kind, name.clone(), prop::collection::vec((key, value), 0..3))
            .prop_map(|(resource_type, resource_name, changes)| {
                MetadataRecord::SetConfigs { resource_type, resource_name, changes }
            }),
        1 => (0..3i64, 0..2u32)
            .prop_map(|(expected_next, count)| MetadataRecord::AllocateProducerIds { expected_next, count, owner: 1 }),
        1 => (0..3u32, 0..3u64, 0..4u64).prop_map(|(shard, from_version, to_version)| {
            MetadataRecord::ManifestShard { shard, from_version, to_version, object: Str::from("o"), wal_mark: 3 }
        }),
        1 => (0..3u32, 0..3u64, 0..4u64).prop_map(|(shard, from_version, to_version)| {
            MetadataRecord::TierShard(ShardChange { shard, from_version, to_version, object: Str::from("t") })
        }),
        1 => (prop::sample::select(vec!["user", "ip"]), prop::option::of(Just("a")), prop::option::of(0..3u8)).prop_map(
            |(kind, name, value)| MetadataRecord::AlterQuota(QuotaChange {
                entity: [(Str::from(kind), name.map(Str::from))].into_iter().collect(),
                values: vec![(Str::from("k"), value.map(|value| QuotaValue(value.into())))],
            })
        ),
        2 => acl().prop_map(MetadataRecord::CreateAcl),
        1 => acl().prop_map(MetadataRecord::DeleteAcl),
        1 => (name, 0..2i16, -1..3i16)
            .prop_map(|(name, from_level, to_level)| MetadataRecord::FeatureLevel { name, from_level, to_level }),
        1 => prop::sample::select(vec![
            MetadataRecord::BeginWal,
            MetadataRecord::FenceWal { wal_id: 1 },
            MetadataRecord::SealWal { wal_id: 1, end: 0, rewriter: 1, heirs: vec![1] },
        ]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn snapshot_and_tail_give_what_the_whole_log_gives(
        appends in prop::collection::vec(prop::collection::vec(record(), 1..4), 1..40),
        snapshot_frames in 1..9u64,
    ) {
        run(async {
            let disk = MemDisk::new(2);
            let options = CatalogOptions { snapshot_frames, ..CatalogOptions::default() };
            let catalog = open_with(&disk, options).await.unwrap();
            let mut live = catalog.read().hash();
            for records in appends {
                match catalog.append(records).await {
                    Ok(position) => assert_eq!(position, catalog.read().position()),
                    Err(_) => assert_eq!(catalog.read().hash(), live, "a refused append changes nothing"),
                }
                live = catalog.read().hash();
            }
            let live = catalog.read().clone();
            catalog.close().await;
            let bare = bare_copy(&disk).await;
            // The same seed makes the same registration, so both must end in the same state.
            let reopen = |disk: Arc<MemDisk>, check_whole_bytes_max: u64| async move {
                let rng = Arc::new(world::rng::SeededRng::new(77));
                let clock = Arc::new(world::clock::ManualClock::new(0));
                let dir = std::path::PathBuf::from(DIR);
                let options = CatalogOptions { check_whole_bytes_max, ..CatalogOptions::default() };
                catalog::Catalog::open(disk, dir, clock, rng, options).await.unwrap()
            };
            let with = reopen(disk, if snapshot_frames % 2 == 0 { 0 } else { u64::MAX }).await;
            let without = reopen(bare, u64::MAX).await;
            let (with, without) = (with.read(), without.read());
            assert_eq!(*with, *without);
            assert_eq!(with.hash(), without.hash());
            assert_eq!(with.topics().collect::<Vec<_>>(), live.topics().collect::<Vec<_>>());
            assert_eq!(with.partition_count(), live.partition_count());
            assert_eq!(with.next_producer_id(), live.next_producer_id());
        });
    }
}

/// The log alone, without its snapshots.
async fn bare_copy(of: &Arc<MemDisk>) -> Arc<MemDisk> {
    let disk = MemDisk::new(3);
    disk.create_dir_all(std::path::Path::new(DIR)).await.unwrap();
    let file = disk.open(&log_path(), world::disk::OpenMode::Create).await.unwrap();
    file.write_at(0, vec![of.content(&log_path()).unwrap()]).await.unwrap();
    file.sync().await.unwrap();
    disk
}
