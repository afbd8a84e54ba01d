use protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use protocol::messages::delete_topics_request::DeleteTopicState;
use protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use protocol::messages::elect_leaders_request::TopicPartitions;
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeLogDirsRequest,
    DescribeQuorumRequest, DescribeTopicPartitionsRequest, ElectLeadersRequest, FindCoordinatorRequest,
    ListPartitionReassignmentsRequest, MetadataRequest,
};
use protocol::{ErrorCode, Str, Uuid};

use crate::house::{House, code, story};

fn wanted(name: &str, partitions: i32, factor: i16) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: factor,
        ..CreatableTopic::default()
    }
}

async fn create(house: &House, topics: Vec<CreatableTopic>) -> Vec<(String, ErrorCode)> {
    let request = CreateTopicsRequest { topics, ..CreateTopicsRequest::default() };
    let response = house.ask(7, request).await;
    let mut results: Vec<_> =
        response.topics.iter().map(|topic| (topic.name.to_string(), code(topic.error_code))).collect();
    results.sort();
    results
}

#[test]
fn topics_are_made_each_with_its_own_error() {
    story(|| async {
        let house = House::with(&[("num.partitions", "3")]).await;
        house.create_topic("old.one", 1, &[]).await;
        let assigned = |factor, partitions, brokers: &[&[i32]]| CreatableTopic {
            assignments: (0..)
                .zip(brokers)
                .map(|(index, brokers)| CreatableReplicaAssignment {
                    partition_index: index,
                    broker_ids: brokers.to_vec(),
                })
                .collect(),
            ..wanted("assigned", partitions, factor)
        };
        let config = |name: &str, value: Option<&str>| {
            let config = CreatableTopicConfig { name: name.into(), value: value.map(Into::into) };
            CreatableTopic { configs: vec![config], ..wanted("configured", 1, 1) }
        };
        for (topic, expected) in [
            (wanted("fine", 2, 1), ErrorCode::None),
            (wanted("defaults", -1, -1), ErrorCode::None),
            (wanted("old.one", 1, 1), ErrorCode::TopicAlreadyExists),
            (wanted("old_one", 1, 1), ErrorCode::InvalidTopicException),
            (wanted("no spaces", 1, 1), ErrorCode::InvalidTopicException),
            (wanted("", 1, 1), ErrorCode::InvalidTopicException),
            (wanted("many", 1, 3), ErrorCode::InvalidReplicationFactor),
            (wanted("none", 1, 0), ErrorCode::InvalidReplicationFactor),
            (wanted("empty", 0, 1), ErrorCode::InvalidPartitions),
            (wanted("huge", 20_000, 1), ErrorCode::PolicyViolation),
            (wanted("__cluster_metadata", 1, 1), ErrorCode::InvalidRequest),
            (assigned(-1, -1, &[&[1], &[1]]), ErrorCode::None),
            (assigned(1, -1, &[&[1]]), ErrorCode::InvalidRequest),
            (assigned(-1, -1, &[&[2]]), ErrorCode::InvalidReplicaAssignment),
            (assigned(-1, -1, &[&[1, 1]]), ErrorCode::InvalidReplicaAssignment),
            (config("retention.ms", Some("1000")), ErrorCode::None),
            (config("retention.ms", Some("soon")), ErrorCode::InvalidConfig),
            (config("no.such.key", Some("1")), ErrorCode::InvalidConfig),
            (config("retention.ms", None), ErrorCode::InvalidConfig),
        ] {
            let name = topic.name.to_string();
            let results = create(&house, vec![topic.clone()]).await;
            // "assigned" and "configured" exist after their first success.
            let again = (name.as_str() == "assigned" || name.as_str() == "configured")
                && results[0].1 == ErrorCode::TopicAlreadyExists;
            assert!(results[0].1 == expected || again, "{topic:?}: {results:?}");
        }
        let twice = vec![wanted("twice", 1, 1), wanted("twice", 2, 1), wanted("beside", 1, 1)];
        let results = create(&house, twice).await;
        assert_eq!(
            results,
            [("beside".into(), ErrorCode::None), ("twice".into(), ErrorCode::InvalidRequest)]
        );
        assert!(!house.topic_exists("twice").await);
    });
}

#[test]
fn a_dry_run_answers_the_same_and_makes_nothing() {
    story(|| async {
        let house = House::new().await;
        let mut request = CreateTopicsRequest {
            topics: vec![wanted("clicks", 3, -1)],
            validate_only: true,
            ..CreateTopicsRequest::default()
        };
        let dry = house.ask(7, request.clone()).await;
        assert_eq!(code(dry.topics[0].error_code), ErrorCode::None);
        assert_eq!((dry.topics[0].num_partitions, dry.topics[0].replication_factor), (3, 1));
        assert!(!house.topic_exists("clicks").await);
        request.validate_only = false;
        let real = house.ask(7, request).await;
        assert_eq!(real.topics[0].configs, dry.topics[0].configs);
        let configs = real.topics[0].configs.as_ref().unwrap();
        assert!(
            configs
                .iter()
                .any(|config| &*config.name == "cleanup.policy" && config.value.as_deref() == Some("delete"))
        );
        assert!(house.topic_exists("clicks").await);
    });
}

#[test]
fn all_versions_make_a_topic() {
    story(|| async {
        let house = House::new().await;
        for version in 2..=7 {
            let name = format!("v{version}");
            let request =
                CreateTopicsRequest { topics: vec![wanted(&name, 1, 1)], ..CreateTopicsRequest::default() };
            let response = house.ask(version, request).await;
            assert_eq!(code(response.topics[0].error_code), ErrorCode::None, "version {version}");
            assert_eq!(response.topics[0].topic_id.is_zero(), version < 7);
        }
    });
}

#[test]
fn metadata_tells_null_from_empty() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("a", 2, &[]).await;
        house.create_topic("b", 1, &[]).await;
        for version in 0..=13 {
            // Version 0 has no null: its empty list means everything.
            let all = if version == 0 { Some(Vec::new()) } else { None };
            let response =
                house.ask(version, MetadataRequest { topics: all, ..MetadataRequest::default() }).await;
            assert_eq!(response.topics.len(), 2, "version {version}");
            assert_eq!(response.topics[0].partitions.len(), 2);
            assert_eq!(response.brokers.len(), 1);
            assert_eq!((&*response.brokers[0].host, response.brokers[0].port), ("broker.test", 9092));
            if version >= 1 {
                assert_eq!(response.controller_id, 1);
                let none = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
                assert!(house.ask(version, none).await.topics.is_empty(), "version {version}");
            }
            if version >= 2 {
                assert_eq!(response.cluster_id.unwrap().len(), 22);
            }
        }
    });
}

#[test]
fn topics_are_made_when_somebody_asks_for_them_and_may() {
    story(|| async {
        let house = House::new().await;
        let ask = |name: &str, allow| MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(name.into()),
                ..MetadataRequestTopic::default()
            }]),
            allow_auto_topic_creation: allow,
            ..MetadataRequest::default()
        };
        let response = house.ask(9, ask("fresh", false)).await;
        assert_eq!(code(response.topics[0].error_code), ErrorCode::UnknownTopicOrPartition);
        let response = house.ask(9, ask("fresh", true)).await;
        assert_eq!(code(response.topics[0].error_code), ErrorCode::None);
        assert_eq!(response.topics[0].partitions[0].leader_id, 1);
        let response = house.ask(9, ask("not a name", true)).await;
        assert_eq!(code(response.topics[0].error_code), ErrorCode::InvalidTopicException);
        // The name of Kafka's own log is for nobody.
        let response = house.ask(9, ask("__cluster_metadata", true)).await;
        assert_eq!(code(response.topics[0].error_code), ErrorCode::UnknownTopicOrPartition);

        let strict = House::with(&[("auto.create.topics.enable", "false")]).await;
        let response = strict.ask(9, ask("fresh", true)).await;
        assert_eq!(code(response.topics[0].error_code), ErrorCode::UnknownTopicOrPartition);
    });
}

#[test]
fn metadata_by_id_and_with_rights() {
    story(|| async {
        let house = House::new().await;
        let id = house.create_topic("known", 1, &[]).await;
        let by_id = |id| MetadataRequestTopic { topic_id: id, name: None };
        let request = MetadataRequest {
            topics: Some(vec![by_id(id), by_id(Uuid::from_u128(9))]),
            include_topic_authorized_operations: true,
            ..MetadataRequest::default()
        };
        let response = house.ask(12, request.clone()).await;
        let known = response.topics.iter().find(|topic| topic.topic_id == id).unwrap();
        assert_eq!(known.name.as_deref(), Some("known"));
        assert_eq!(known.topic_authorized_operations, 0x0df8);
        let unknown = response.topics.iter().find(|topic| topic.topic_id != id).unwrap();
        assert_eq!((code(unknown.error_code), &unknown.name), (ErrorCode::UnknownTopicId, &None));
        // Ids came to the request with version 12; 10 and 11 have the field and may not use it.
        let early = MetadataRequest {
            include_topic_authorized_operations: false,
            include_cluster_authorized_operations: true,
            ..request
        };
        let response = house.ask(10, early).await;
        assert!(response.topics.iter().all(|topic| code(topic.error_code) == ErrorCode::InvalidRequest));
        assert_eq!(response.cluster_authorized_operations, 0x1fa0);
    });
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free() {
    story(|| async {
        let house = House::new().await;
        for version in 1..=5 {
            let id = house.create_topic("short-lived", 2, &[]).await;
            house.produce("short-lived", 0, &["x"]).await;
            let request = DeleteTopicsRequest {
                topic_names: vec!["short-lived".into(), "never-was".into()],
                ..DeleteTopicsRequest::default()
            };
            let mut responses = house.ask(version, request).await.responses;
            responses.sort_by_key(|response| response.error_code);
            assert_eq!(code(responses[0].error_code), ErrorCode::None, "version {version}");
            assert_eq!(code(responses[1].error_code), ErrorCode::UnknownTopicOrPartition);
            assert!(!house.topic_exists("short-lived").await);
            // A topic of the same name is another topic: it starts at offset 0.
            let other = house.create_topic("short-lived", 1, &[]).await;
            assert_ne!(id, other);
            assert_eq!(house.produce("short-lived", 0, &["y"]).await, 0);
            let by_id = DeleteTopicState { name: None, topic_id: other };
            let request = DeleteTopicsRequest { topics: vec![by_id], ..DeleteTopicsRequest::default() };
            let responses = house.ask(6, request).await.responses;
            assert_eq!(
                (code(responses[0].error_code), responses[0].name.as_deref()),
                (ErrorCode::None, Some("short-lived"))
            );
        }
    });
}

#[test]
fn deletion_refuses_what_is_named_twice_or_not_at_all() {
    story(|| async {
        let house = House::new().await;
        let id = house.create_topic("t", 1, &[]).await;
        let state = |name: Option<&str>, topic_id| DeleteTopicState { name: name.map(Into::into), topic_id };
        for topics in [
            vec![state(Some("t"), Uuid::ZERO), state(Some("t"), Uuid::ZERO)],
            vec![state(None, id), state(None, id)],
            vec![state(None, id), state(Some("t"), Uuid::ZERO)],
            vec![state(Some("t"), id)],
            vec![state(None, Uuid::ZERO)],
        ] {
            let request = DeleteTopicsRequest { topics, ..DeleteTopicsRequest::default() };
            let response = house.ask(6, request.clone()).await;
            assert_eq!(response.responses.len(), 1, "{request:?}");
            assert_eq!(code(response.responses[0].error_code), ErrorCode::InvalidRequest, "{request:?}");
        }
        assert!(house.topic_exists("t").await);

        let keeper = House::with(&[("delete.topic.enable", "false")]).await;
        keeper.create_topic("t", 1, &[]).await;
        for (version, expected) in [(2, ErrorCode::InvalidRequest), (5, ErrorCode::TopicDeletionDisabled)] {
            let request =
                DeleteTopicsRequest { topic_names: vec!["t".into()], ..DeleteTopicsRequest::default() };
            assert_eq!(code(keeper.ask(version, request).await.responses[0].error_code), expected);
        }
    });
}

#[test]
fn topics_grow_and_never_shrink() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 2, &[]).await;
        let grow = |name: &str, count, assignments: Option<Vec<i32>>| CreatePartitionsTopic {
            name: name.into(),
            count,
            assignments: assignments.map(|brokers| {
                let assigned = |broker| CreatePartitionsAssignment { broker_ids: vec![broker] };
                brokers.into_iter().map(assigned).collect()
            }),
        };
        let cases = [
            (grow("t", 5, None), true, ErrorCode::None),
            (grow("t", 4, None), false, ErrorCode::None),
            (grow("t", 4, None), false, ErrorCode::InvalidPartitions),
            (grow("t", 3, None), false, ErrorCode::InvalidPartitions),
            (grow("t", 5, Some(vec![1])), false, ErrorCode::None),
            (grow("t", 7, Some(vec![1])), false, ErrorCode::InvalidReplicaAssignment),
            (grow("t", 6, Some(vec![8])), false, ErrorCode::InvalidReplicaAssignment),
            (grow("t", 50_000, None), false, ErrorCode::PolicyViolation),
            (grow("other", 5, None), false, ErrorCode::UnknownTopicOrPartition),
        ];
        for (case, (topic, validate_only, expected)) in (0..).zip(cases) {
            let request = CreatePartitionsRequest {
                topics: vec![topic.clone()],
                validate_only,
                ..CreatePartitionsRequest::default()
            };
            let response = house.ask(case % 4, request).await;
            assert_eq!(code(response.results[0].error_code), expected, "{topic:?}");
        }
        // The new ones are there at once.
        assert_eq!(house.produce("t", 4, &["x"]).await, 0);
        let twice = CreatePartitionsRequest {
            topics: vec![grow("t", 8, None), grow("t", 9, None)],
            ..CreatePartitionsRequest::default()
        };
        let response = house.ask(3, twice).await;
        assert_eq!(response.results.len(), 1);
        assert_eq!(code(response.results[0].error_code), ErrorCode::InvalidRequest);
    });
}

/// With another number of partitions every group would be looked for somewhere else.
#[test]
fn topics_of_coordinators_do_not_grow() {
    story(|| async {
        let house = House::new().await;
        let find = FindCoordinatorRequest {
            key_type: 0,
            coordinator_keys: vec!["g".into()],
            ..FindCoordinatorRequest::default()
        };
        assert_eq!(code(house.ask(4, find).await.coordinators[0].error_code), ErrorCode::None);
        for validate_only in [true, false] {
            let name = Str::from("__consumer_offsets");
            let topics = vec![CreatePartitionsTopic { name, count: 500, assignments: None }];
            let request =
                CreatePartitionsRequest { topics, validate_only, ..CreatePartitionsRequest::default() };
            let response = house.ask(3, request).await;
            assert_eq!(code(response.results[0].error_code), ErrorCode::InvalidPartitions);
        }
    });
}

#[test]
fn a_long_list_of_partitions_comes_page_by_page() {
    story(|| async {
        let house = House::new().await;
        for (name, partitions) in [("a", 2), ("b", 3), ("c", 1)] {
            house.create_topic(name, partitions, &[]).await;
        }
        let mut cursor = None;
        let mut pages = Vec::new();
        loop {
            let request = DescribeTopicPartitionsRequest {
                response_partition_limit: 2,
                cursor,
                ..DescribeTopicPartitionsRequest::default()
            };
            let response = house.ask(0, request).await;
            let page: Vec<String> = response
                .topics
                .iter()
                .flat_map(|topic| {
                    let name = topic.name.clone().unwrap();
                    topic
                        .partitions
                        .iter()
                        .map(move |partition| format!("{name}{}", partition.partition_index))
                })
                .collect();
            pages.push(page.join(" "));
            let Some(next) = response.next_cursor else { break };
            cursor = Some(Cursor { topic_name: next.topic_name, partition_index: next.partition_index });
        }
        assert_eq!(pages, ["a0 a1", "b0 b1", "b2 c0"]);

        let named = |name: &str| TopicRequest { name: name.into() };
        let request = DescribeTopicPartitionsRequest {
            topics: vec![named("zzz"), named("b")],
            response_partition_limit: 2_000,
            ..DescribeTopicPartitionsRequest::default()
        };
        let response = house.ask(0, request.clone()).await;
        assert_eq!(response.topics.len(), 2);
        assert_eq!(code(response.topics[1].error_code), ErrorCode::UnknownTopicOrPartition);
        let elsewhere = Cursor { topic_name: "a".into(), partition_index: 0 };
        let response =
            house.ask(0, DescribeTopicPartitionsRequest { cursor: Some(elsewhere), ..request }).await;
        assert!(response.topics.iter().all(|topic| code(topic.error_code) == ErrorCode::InvalidRequest));
    });
}

#[test]
fn the_cluster_is_one_broker() {
    story(|| async {
        let house = House::with(&[("log.dirs", "/data")]).await;
        house.create_topic("t", 2, &[]).await;
        house.produce("t", 1, &["some bytes"]).await;
        for version in 0..=2 {
            let request =
                DescribeClusterRequest { include_cluster_authorized_operations: true, ..Default::default() };
            let response = house.ask(version, request).await;
            assert_eq!((response.controller_id, response.brokers.len()), (1, 1));
            assert_eq!(response.cluster_authorized_operations, 0x1fa0);
        }
        let controllers = DescribeClusterRequest { endpoint_type: 2, ..DescribeClusterRequest::default() };
        let response = house.ask(1, controllers).await;
        assert_eq!(code(response.error_code), ErrorCode::MismatchedEndpointType);

        for version in 1..=5 {
            let request = DescribeLogDirsRequest { topics: None };
            let response = house.ask(version, request).await;
            let partitions = &response.results[0].topics[0].partitions;
            assert_eq!(partitions.len(), 2);
            assert!(partitions[0].partition_size == 0 && partitions[1].partition_size > 0);
        }
        for version in 0..=2 {
            let all = ElectLeadersRequest { topic_partitions: None, ..ElectLeadersRequest::default() };
            let all = house.ask(version, all).await.replica_election_results;
            assert_eq!(all[0].topic, "t", "every topic was looked at");
            assert!(all[0].partition_result.is_empty(), "and has the leader that it should");
            let named = TopicPartitions { topic: "t".into(), partitions: vec![0, 7] };
            let named = ElectLeadersRequest { topic_partitions: Some(vec![named]), ..Default::default() };
            if version > 0 {
                let unknown = ElectLeadersRequest { election_type: 9, ..named.clone() };
                let refused = house.ask(version, unknown).await;
                assert_eq!(code(refused.error_code), ErrorCode::InvalidRequest);
                let partitions = &refused.replica_election_results[0].partition_result;
                assert_eq!(code(partitions[1].error_code), ErrorCode::InvalidRequest, "each one too");
            }
            let response = house.ask(version, named).await;
            let codes: Vec<_> = response.replica_election_results[0]
                .partition_result
                .iter()
                .map(|result| code(result.error_code))
                .collect();
            assert_eq!(codes, [ErrorCode::ElectionNotNeeded, ErrorCode::UnknownTopicOrPartition]);
        }
        for (index, replicas, expected) in [
            (0, Some(vec![1]), ErrorCode::None),
            (0, Some(vec![2]), ErrorCode::InvalidReplicaAssignment),
            (0, None, ErrorCode::NoReassignmentInProgress),
            (9, None, ErrorCode::UnknownTopicOrPartition),
        ] {
            let partition = ReassignablePartition { partition_index: index, replicas };
            let topic = ReassignableTopic { name: "t".into(), partitions: vec![partition] };
            let request = AlterPartitionReassignmentsRequest { topics: vec![topic], ..Default::default() };
            let response = house.ask(1, request).await;
            assert_eq!(code(response.responses[0].partitions[0].error_code), expected);
        }
        for version in 1..=2 {
            for (path, expected) in [("/data/", ErrorCode::None), ("/elsewhere", ErrorCode::LogDirNotFound)] {
                let topic = AlterReplicaLogDirTopic { name: "t".into(), partitions: vec![0] };
                let dir = AlterReplicaLogDir { path: path.into(), topics: vec![topic] };
                let response = house.ask(version, AlterReplicaLogDirsRequest { dirs: vec![dir] }).await;
                assert_eq!(code(response.results[0].partitions[0].error_code), expected);
            }
        }
        for version in 0..=2 {
            let ask = |topic: &str| DescribeQuorumRequest {
                topics: vec![TopicData {
                    topic_name: topic.into(),
                    partitions: vec![PartitionData::default()],
                }],
            };
            let response = house.ask(version, ask("__cluster_metadata")).await;
            let log = &response.topics[0].partitions[0];
            assert_eq!(
                (code(log.error_code), log.leader_id, log.current_voters.len()),
                (ErrorCode::None, 1, 1)
            );
            assert!(log.high_watermark > 0);
            assert_eq!(response.nodes.len(), usize::from(version >= 2));
            let other = house.ask(version, ask("t")).await;
            assert!(other.nodes.is_empty(), "nodes stand beside the one partition only");
            let code = code(other.topics[0].partitions[0].error_code);
            assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
        }
        let moving = house.ask(0, ListPartitionReassignmentsRequest::default()).await;
        assert!(moving.topics.is_empty() && moving.error_code == 0);
    });
}
