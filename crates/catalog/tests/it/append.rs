//! Appending: all or nothing, one winner, everything durable on return.

use std::sync::Arc;

use catalog::{CatalogError, CatalogOptions, MetadataRecord, Precondition};
use futures_util::future::join_all;
use protocol::{Str, Uuid};
use world::disk::{MemDisk, MemFaults};

use crate::support::*;

#[test]
fn a_first_start_makes_a_cluster_and_later_starts_find_it() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        let cluster_id = catalog.read().cluster_id().clone();
        assert_eq!(cluster_id.len(), 22);
        assert_eq!(catalog.wal_id(), 1);
        catalog.append(vec![topic(7, "orders", 3)]).await.unwrap();
        catalog.close().await;
        assert!(matches!(catalog.append(vec![topic(8, "late", 1)]).await, Err(CatalogError::Closed)));

        let catalog = open(&disk).await;
        let state = catalog.read();
        assert_eq!(*state.cluster_id(), cluster_id);
        assert_eq!(catalog.wal_id(), 3, "each start registers anew, its position is its WAL id");
        let orders = state.topic("orders").unwrap();
        assert_eq!((orders.partitions.len(), orders.partitions[2].leader), (3, 1));
        assert_eq!(state.topic_by_id(Uuid::from_u128(7)).unwrap().name, "orders");
        assert_eq!(state.brokers().next().unwrap().wal_id, 3);
    });
}

#[test]
fn another_node_id_does_not_take_the_directory_over() {
    run(async {
        let disk = MemDisk::new(1);
        open(&disk).await.close().await;
        let refused =
            open_with(&disk, CatalogOptions { node_id: Some(2), ..CatalogOptions::default() }).await;
        assert_eq!(
            refused.err().unwrap().to_string(),
            "the data here belongs to node 1, not to node 2: set node.id=1 or use another place"
        );
    });
}

#[test]
fn an_append_counts_whole_or_not_at_all() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        let before = catalog.read().hash();
        let records = vec![
            topic(1, "a", 1),
            set_config("a", "retention.ms", Some("5")),
            MetadataRecord::CreatePartitions { id: Uuid::from_u128(1), from_count: 1, to_count: 4 },
            MetadataRecord::AllocateProducerIds { expected_next: 0, count: 1000, owner: 1 },
            MetadataRecord::FeatureLevel { name: Str::from("x"), from_level: 0, to_level: 1 },
            topic(2, "a", 1),
        ];
        let rejected = catalog.append(records.clone()).await;
        assert!(matches!(rejected, Err(CatalogError::Rejected(Precondition::TopicExists { .. }))));
        assert_eq!(catalog.read().hash(), before, "the five good records went with the bad one");
        catalog.append(records[..5].to_vec()).await.unwrap();
        let state = catalog.read();
        assert_eq!(state.topic("a").unwrap().partitions.len(), 4);
        assert_eq!((state.next_producer_id(), state.feature("x"), state.partition_count()), (1000, 1, 4));
    });
}

#[test]
fn of_two_racing_appends_one_wins_and_the_other_hears_why() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        let racing = [vec![topic(1, "a.b", 1)], vec![topic(2, "a.b", 1)], vec![topic(3, "a_b", 1)]];
        let results = join_all(racing.map(|records| catalog.append(records))).await;
        assert!(results[0].is_ok());
        assert!(matches!(results[1], Err(CatalogError::Rejected(Precondition::TopicExists { .. }))));
        assert!(matches!(results[2], Err(CatalogError::Rejected(Precondition::TopicNameCollision { .. }))));

        let block = || vec![MetadataRecord::AllocateProducerIds { expected_next: 0, count: 10, owner: 1 }];
        let results = join_all([catalog.append(block()), catalog.append(block())]).await;
        assert!(results[0].is_ok());
        assert!(matches!(results[1], Err(CatalogError::Rejected(Precondition::ProducerIdsMoved { .. }))));
    });
}

/// ```text
///   one commit: [ make "a" , make "a" ]      the second one is told that "a" is there when it is, and never if it is not
/// ```
#[test]
fn nobody_is_refused_for_something_that_is_not_durable() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        let ask = async |name: &'static str, number: u128| {
            let told = catalog.append(vec![topic(number, name, 1)]).await;
            (told, catalog.read().topic(name).map(|topic| topic.id))
        };
        disk.set_faults(MemFaults { fail_write_at: Some(1), ..MemFaults::default() });
        let mut told = join_all([ask("a", 1), ask("a", 2)]).await.into_iter();
        assert!(matches!(told.next().unwrap(), (Err(CatalogError::Storage(_)), _)));
        let (second, seen) = told.next().unwrap();
        assert!(!matches!(second, Err(CatalogError::Rejected(_))), "{second:?}");
        assert_eq!(seen, second.is_ok().then(|| Uuid::from_u128(2)));
        let mut told = join_all([ask("b", 3), ask("b", 4)]).await.into_iter();
        assert!(told.next().unwrap().0.is_ok());
        let (second, seen) = told.next().unwrap();
        assert!(
            matches!(second, Err(CatalogError::Rejected(Precondition::TopicExists { .. }))),
            "{second:?}"
        );
        assert_eq!(seen, Some(Uuid::from_u128(3)), "whoever is told so finds it");
        disk.crash(5);
        assert_eq!(open(&disk).await.read().topic("b").map(|topic| topic.id), seen);
    });
}

#[test]
fn every_precondition_that_a_client_can_meet() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open_with(&disk, CatalogOptions { partitions_max: 10, ..CatalogOptions::default() })
            .await
            .unwrap();
        catalog.append(vec![topic(1, "a", 2)]).await.unwrap();
        let id = Uuid::from_u128(1);
        let two_copies = MetadataRecord::CreateTopic {
            id: Uuid::from_u128(9),
            name: Str::from("b"),
            partition_count: 1,
            replication_factor: 2,
            configs: Vec::new(),
        };
        let cases = [
            (topic(1, "b", 1), "TOPIC_ALREADY_EXISTS"),
            (topic(0, "b", 1), "UNKNOWN_TOPIC_ID"),
            (topic(2, "b", 0), "INVALID_PARTITIONS"),
            (topic(2, "b", 9), "POLICY_VIOLATION"),
            (topic(2, "b/", 1), "INVALID_TOPIC_EXCEPTION"),
            (two_copies, "INVALID_REPLICATION_FACTOR"),
            (MetadataRecord::DeleteTopic { id: Uuid::from_u128(5) }, "UNKNOWN_TOPIC_ID"),
            (MetadataRecord::CreatePartitions { id, from_count: 1, to_count: 3 }, "INVALID_PARTITIONS"),
            (MetadataRecord::CreatePartitions { id, from_count: 2, to_count: 2 }, "INVALID_PARTITIONS"),
            (MetadataRecord::CreatePartitions { id, from_count: 2, to_count: 11 }, "POLICY_VIOLATION"),
            (set_config("nope", "retention.ms", Some("1")), "UNKNOWN_TOPIC_OR_PARTITION"),
            (MetadataRecord::CreateCluster { cluster_id: Str::from("x"), level: 1 }, "UNKNOWN_SERVER_ERROR"),
        ];
        let before = catalog.read().hash();
        for (record, code) in cases {
            let error = catalog.append(vec![record.clone()]).await.unwrap_err();
            assert_eq!(error.error_code().name(), code, "{record:?}: {error}");
        }
        assert_eq!(catalog.read().hash(), before);
        let frames = catalog.read().position();
        assert_eq!(frames, 2, "what is refused before sending never reaches the log");
    });
}

#[test]
fn deleting_a_topic_takes_its_configs_and_frees_its_name() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        let mut changes = catalog.changes();
        catalog.append(vec![topic(1, "a.b", 2), set_config("a.b", "retention.ms", Some("5"))]).await.unwrap();
        assert!(changes.has_changed().unwrap());
        assert_eq!(*changes.borrow_and_update(), 2);
        catalog.append(vec![MetadataRecord::DeleteTopic { id: Uuid::from_u128(1) }]).await.unwrap();
        catalog.append(vec![topic(2, "a_b", 1)]).await.unwrap();
        let state = catalog.read();
        assert!(state.topic("a.b").is_none() && state.topic_by_id(Uuid::from_u128(1)).is_none());
        assert!(state.config(catalog::ResourceType::Topic, "a.b").is_none());
        assert_eq!((state.topic_count(), state.partition_count()), (1, 1));
    });
}

#[test]
fn ten_thousand_waiting_appends_share_a_few_syncs() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        let appends = (1..=10_000u128).map(|number| {
            let catalog: Arc<_> = catalog.clone();
            async move { catalog.append(vec![topic(number, &format!("t{number}"), 1)]).await }
        });
        let results = join_all(appends).await;
        assert!(results.iter().all(Result::is_ok));
        let frames = catalog.read().position();
        assert!(frames <= 200, "{frames} frames for 10,000 appends");
        assert_eq!(catalog.read().topic_count(), 10_000);

        let all: Vec<_> =
            (1..=10_000u128).map(|number| topic(20_000 + number, &format!("u{number}"), 1)).collect();
        catalog.append(all).await.unwrap();
        assert_eq!(catalog.read().topic_count(), 20_000);
    });
}

#[test]
fn a_full_disk_refuses_changes_and_changes_nothing() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        catalog.append(vec![topic(1, "before", 1)]).await.unwrap();
        let before = catalog.read().hash();
        let used: u64 = disk.files().iter().map(|path| disk.content(path).unwrap().len() as u64).sum();
        disk.set_faults(MemFaults { no_space_after_bytes: Some(used + 60), ..MemFaults::default() });
        let many: Vec<_> = (10..200u128).map(|number| topic(number, &format!("full{number}"), 1)).collect();
        for _ in 0..3 {
            let error = catalog.append(many.clone()).await.unwrap_err();
            assert_eq!(error.error_code().name(), "KAFKA_STORAGE_ERROR");
            assert_eq!(catalog.read().hash(), before, "reads go on as before");
        }
        disk.set_faults(MemFaults::default());
        catalog.append(vec![topic(2, "after", 1)]).await.unwrap();
        disk.crash(5);
        let catalog = open(&disk).await;
        let state = catalog.read();
        let names: Vec<_> = state.topics().map(|topic| topic.name.to_string()).collect();
        assert_eq!(names, ["after", "before"]);
    });
}

#[test]
fn a_failed_sync_is_final_until_the_restart() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        catalog.append(vec![topic(1, "before", 1)]).await.unwrap();
        assert_eq!(catalog.failure(), None);
        disk.set_faults(MemFaults { fail_sync_at: Some(1), ..MemFaults::default() });
        for number in 2..5u128 {
            let error = catalog.append(vec![topic(number, "x", 1)]).await.unwrap_err();
            assert_eq!(error.error_code().name(), "KAFKA_STORAGE_ERROR");
        }
        assert!(catalog.failure().is_some());
        assert!(catalog.read().topic("before").is_some() && catalog.read().topic("x").is_none());
        disk.crash(3);
        let catalog = open(&disk).await;
        assert!(catalog.read().topic("before").is_some());
        catalog.append(vec![topic(9, "again", 1)]).await.unwrap();
    });
}

#[test]
fn a_write_that_fails_once_costs_one_append() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        catalog.append(vec![topic(1, "before", 1)]).await.unwrap();
        disk.set_faults(MemFaults { fail_write_at: Some(1), ..MemFaults::default() });
        let error = catalog.append(vec![topic(2, "lost", 1)]).await.unwrap_err();
        assert_eq!(error.error_code().name(), "KAFKA_STORAGE_ERROR");
        assert_eq!(catalog.failure(), None, "nothing was half done, so nothing is final");
        catalog.append(vec![topic(3, "after", 1)]).await.unwrap();
        disk.crash(2);
        let catalog = open(&disk).await;
        let names: Vec<_> = catalog.read().topics().map(|topic| topic.name.to_string()).collect();
        assert_eq!(names, ["after", "before"]);
        disk.set_faults(MemFaults { fail_read_at: Some(1), ..MemFaults::default() });
        disk.kill();
        let error = open_with(&disk, CatalogOptions::default()).await.err().unwrap();
        assert!(matches!(error, catalog::CatalogOpenError::Disk(_)), "a read error is no damage: {error}");
    });
}
