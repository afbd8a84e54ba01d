//! An old file stays readable: a log and a snapshot written once and kept in the repository.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::acl::{
    Acl, AclOperation, AclPermission, AclResourceType, AclRule, PatternType, ResourcePattern,
};
use catalog::quota::{QuotaChange, QuotaEntity, QuotaValue};
use catalog::{
    BrokerEndpoint, Catalog, CatalogOptions, DelegationToken, MetadataRecord, ResourceType, ScramCredential,
    ScramMechanism, ShardChange,
};
use protocol::{Str, Uuid};
use world::clock::ManualClock;
use world::disk::{Disk, MemDisk, OpenMode};
use world::rng::SeededRng;

use crate::support::*;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn options() -> CatalogOptions {
    let endpoint = BrokerEndpoint {
        listener_name: Str::from("PLAINTEXT"),
        security_protocol: 0,
        host: Str::from("broker.example"),
        port: 9092,
    };
    CatalogOptions {
        rack: Some(Str::from("zone-a")),
        endpoints: vec![endpoint],
        snapshot_frames: 6,
        ..CatalogOptions::default()
    }
}

/// One record of every type of the first format.
async fn write_all_types(disk: &Arc<MemDisk>) {
    write(disk, &all_types()).await;
}

async fn write(disk: &Arc<MemDisk>, records: &[MetadataRecord]) {
    // A seed of its own: these bytes must not change with anything but our formats.
    let (clock, rng) = (Arc::new(ManualClock::new(0)), Arc::new(SeededRng::new(42)));
    let catalog = Catalog::open(disk.clone(), PathBuf::from(DIR), clock, rng, options()).await.unwrap();
    for record in records {
        catalog.append(vec![record.clone()]).await.unwrap();
    }
    catalog.close().await;
}

fn all_types() -> [MetadataRecord; 8] {
    let id = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
    [
        MetadataRecord::CreateTopic {
            id,
            name: Str::from("orders.v1"),
            partition_count: 3,
            replication_factor: 1,
            configs: vec![(Str::from("cleanup.policy"), Str::from("compact"))],
        },
        topic(2, "gone", 1),
        MetadataRecord::DeleteTopic { id: Uuid::from_u128(2) },
        MetadataRecord::CreatePartitions { id, from_count: 3, to_count: 5 },
        MetadataRecord::SetConfigs {
            resource_type: ResourceType::Broker,
            resource_name: Str::from(""),
            changes: vec![(Str::from("log.retention.ms"), Some(Str::from("1000"))), (Str::from("x"), None)],
        },
        MetadataRecord::AllocateProducerIds { expected_next: 0, count: 1000, owner: 1 },
        MetadataRecord::ManifestShard {
            shard: 3,
            from_version: 0,
            to_version: 1,
            object: Str::from("seg/1/manifest"),
            wal_mark: 17,
        },
        MetadataRecord::FeatureLevel { name: Str::from("transaction.version"), from_level: 0, to_level: 2 },
    ]
}

/// Written once, byte for byte the same ever since; a copy of the golden files on a disk of its own.
async fn as_ever(disk: &MemDisk, vectors: &Path) -> Arc<MemDisk> {
    if std::env::var_os("OTTLA_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(vectors).unwrap();
        for path in disk.files() {
            std::fs::write(vectors.join(path.file_name().unwrap()), disk.content(&path).unwrap()).unwrap();
        }
    }
    let old = MemDisk::new(2);
    old.create_dir_all(Path::new(DIR)).await.unwrap();
    let mut files = 0;
    for path in disk.files() {
        let golden = std::fs::read(vectors.join(path.file_name().unwrap())).unwrap();
        assert_eq!(disk.content(&path).unwrap(), golden, "{} is written differently now", path.display());
        let file = old.open(&path, OpenMode::Create).await.unwrap();
        file.write_at(0, vec![golden.into()]).await.unwrap();
        file.sync().await.unwrap();
        files += 1;
    }
    assert_eq!(files, 3, "log, snapshot, mark");
    old
}

#[test]
fn the_first_format_is_read_and_still_written() {
    run(async {
        let disk = MemDisk::new(1);
        write_all_types(&disk).await;
        let old = as_ever(&disk, &vectors()).await;
        let catalog = open_with(&old, options()).await.unwrap();
        let state = catalog.read();
        let orders = state.topic("orders.v1").unwrap();
        assert_eq!(orders.id.to_string(), "AQIDBAUGBwgJCgsMDQ4PEA");
        assert_eq!(orders.partitions.len(), 5);
        assert_eq!(
            state.config(ResourceType::Topic, "orders.v1").unwrap().get("cleanup.policy").unwrap(),
            "compact"
        );
        assert_eq!(state.config(ResourceType::Broker, "").unwrap().len(), 1);
        assert_eq!(state.next_producer_id(), 1000);
        assert_eq!(state.manifest(3).unwrap().wal_mark, 17);
        assert_eq!(state.feature("transaction.version"), 2);
        assert_eq!(state.broker(1).unwrap().endpoints[0].host, "broker.example");
        assert!(state.topic("gone").is_none());
    });
}

#[test]
fn a_directory_with_a_second_tier_is_read_and_still_written() {
    run(async {
        let disk = MemDisk::new(1);
        let change =
            ShardChange { shard: 5, from_version: 0, to_version: 1, object: Str::from("0005-1.manifest") };
        let mut records = vec![topic(1, "clicks", 1), MetadataRecord::TierShard(change)];
        // So that there is a snapshot, which has it too.
        records.extend(["a", "b", "c", "d"].iter().zip(2..).map(|(name, id)| topic(id, name, 1)));
        write(&disk, &records).await;
        let old = as_ever(&disk, &vectors().join("tier")).await;
        let catalog = open_with(&old, options()).await.unwrap();
        let state = catalog.read();
        assert!(state.has_tier());
        assert_eq!(state.tier(5).unwrap().object, "0005-1.manifest");
        assert!(state.manifest(5).is_none());
    });
}

#[test]
fn credentials_of_users_are_read_and_still_written() {
    run(async {
        let disk = MemDisk::new(1);
        let put = |user: &str, mechanism: ScramMechanism, byte: u8| MetadataRecord::PutScramCredential {
            user: Str::from(user),
            mechanism,
            credential: ScramCredential {
                salt: vec![byte; 10],
                stored_key: vec![byte + 1; mechanism.key_bytes()],
                server_key: vec![byte + 2; mechanism.key_bytes()],
                iterations: 4096,
            },
        };
        let token = DelegationToken {
            token_id: Str::from("t1"),
            owner: Str::from("User:alice"),
            requester: Str::from("User:bob"),
            renewers: vec![Str::from("User:carol")],
            issued_ms: 1,
            expires_ms: 20,
            max_ms: 300,
        };
        let renewed = DelegationToken { expires_ms: 40, ..token.clone() };
        let other = DelegationToken { token_id: Str::from("t2"), ..token.clone() };
        let remove = MetadataRecord::RemoveScramCredential {
            user: Str::from("gone"),
            mechanism: ScramMechanism::Sha512,
        };
        let before_snapshot = [
            put("alice", ScramMechanism::Sha256, 10),
            put("alice", ScramMechanism::Sha512, 20),
            put("gone", ScramMechanism::Sha512, 30),
            MetadataRecord::PutDelegationToken { expected_ms: 0, token: token.clone() },
            MetadataRecord::PutDelegationToken { expected_ms: 0, token: other },
            MetadataRecord::PutDelegationToken { expected_ms: 20, token: renewed.clone() },
        ];
        let behind = [
            remove.clone(),
            MetadataRecord::RemoveDelegationToken { token_id: Str::from("t2") },
            put("alice", ScramMechanism::Sha256, 40),
        ];
        write(&disk, &[before_snapshot.as_slice(), &behind].concat()).await;
        let old = as_ever(&disk, &vectors().join("credentials")).await;
        let catalog = open_with(&old, options()).await.unwrap();
        {
            let state = catalog.read();
            let credentials = state.credentials();
            assert_eq!((credentials.scram_count(), credentials.token_count()), (2, 1));
            let alice = credentials.scram_user("alice").unwrap();
            assert_eq!(alice[&ScramMechanism::Sha256].salt, [40; 10]);
            assert_eq!(alice[&ScramMechanism::Sha512].server_key, [22; 64]);
            assert_eq!(**credentials.token("t1").unwrap(), renewed);
        }
        // What is not there cannot be removed, and a token that was changed meanwhile stays as it is.
        assert!(catalog.append(vec![remove]).await.is_err());
        let late = MetadataRecord::PutDelegationToken { expected_ms: 20, token };
        let both = vec![put("alice", ScramMechanism::Sha256, 50), late];
        let refused = catalog.append(both).await.unwrap_err();
        assert_eq!(refused.error_code(), protocol::ErrorCode::NotController);
        let state = catalog.read();
        assert_eq!(state.credentials().scram("alice", ScramMechanism::Sha256).unwrap().salt, [40; 10]);
        assert_eq!(**state.credentials().token("t1").unwrap(), renewed);
    });
}

fn acl(pattern_type: PatternType, name: &str, operation: AclOperation, permission: AclPermission) -> Acl {
    Acl {
        pattern: ResourcePattern {
            resource_type: AclResourceType::Topic,
            pattern_type,
            name: Str::from(name),
        },
        principal: Str::from("User:alice"),
        rule: AclRule { host: Str::from("10.0.0.7"), operation, permission },
    }
}

#[test]
fn quotas_are_read_and_still_written() {
    run(async {
        let disk = MemDisk::new(1);
        let entity = |parts: &[(&'static str, Option<&'static str>)]| -> QuotaEntity {
            parts.iter().map(|(kind, name)| (Str::from(*kind), name.map(Str::from))).collect()
        };
        let change = |entity: &QuotaEntity, key: &'static str, value: Option<f64>| {
            let values = vec![(Str::from(key), value.map(QuotaValue))];
            MetadataRecord::AlterQuota(QuotaChange { entity: entity.clone(), values })
        };
        let both = entity(&[("user", Some("alice")), ("client-id", None)]);
        let address = entity(&[("ip", Some("10.0.0.7"))]);
        let records = [
            change(&both, "producer_byte_rate", Some(1024.0)),
            change(&both, "request_percentage", Some(12.5)),
            change(&both, "producer_byte_rate", None),
            change(&address, "connection_creation_rate", Some(3.0)),
            change(&entity(&[("user", None)]), "consumer_byte_rate", Some(1.0)),
            change(&entity(&[("user", None)]), "consumer_byte_rate", None),
        ];
        write(&disk, &records).await;
        let old = as_ever(&disk, &vectors().join("quotas")).await;
        let catalog = open_with(&old, options()).await.unwrap();
        let state = catalog.read();
        assert_eq!(state.quotas().len(), 2);
        let of = |entity: &QuotaEntity, key: &str| state.quotas().of(entity).unwrap().get(key).copied();
        assert_eq!(of(&both, "request_percentage"), Some(QuotaValue(12.5)));
        assert_eq!(of(&both, "producer_byte_rate"), None);
        assert_eq!(of(&address, "connection_creation_rate"), Some(QuotaValue(3.0)));
    });
}

#[test]
fn acls_are_read_and_still_written() {
    run(async {
        let disk = MemDisk::new(1);
        let allowed = acl(PatternType::Prefixed, "team-", AclOperation::Read, AclPermission::Allow);
        let denied = acl(PatternType::Literal, "team-secret", AclOperation::All, AclPermission::Deny);
        let gone = acl(PatternType::Literal, "*", AclOperation::Write, AclPermission::Allow);
        let create = |acl: &Acl| MetadataRecord::CreateAcl(acl.clone());
        let records = [
            create(&allowed),
            create(&denied),
            create(&gone),
            MetadataRecord::DeleteAcl(gone.clone()),
            // Twice is once.
            create(&allowed),
            MetadataRecord::DeleteAcl(gone),
        ];
        write(&disk, &records).await;
        let old = as_ever(&disk, &vectors().join("acls")).await;
        let catalog = open_with(&old, options()).await.unwrap();
        assert!(catalog.read().acls().iter().eq([denied, allowed]));
    });
}
