//! Several brokers on one bucket. Node 1 is a whole broker that never looks for news unasked; the others are catalogs that say
//! something about the cluster behind its back.

use std::sync::Arc;

use catalog::{BrokerEndpoint, Catalog, CatalogOptions, MetadataRecord};
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use protocol::messages::describe_topic_partitions_request::TopicRequest;
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::{
    CreateTopicsRequest, DescribeClusterRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest,
    MetadataRequest, MetadataResponse,
};
use protocol::{ErrorCode, Str, Uuid};
use world::bucket::MemBucket;
use world::rng::SeededRng;

use crate::house::{House, code, endpoint, story};

const TWO: &[(&str, &str)] = &[("offsets.topic.num.partitions", "2")];

/// Another broker, as far as the metadata knows.
async fn neighbour(bucket: &MemBucket, node_id: i32) -> Arc<Catalog> {
    neighbour_at(bucket, node_id, vec![endpoint(&format!("broker-{node_id}.test"))]).await
}

async fn neighbour_at(bucket: &MemBucket, node_id: i32, endpoints: Vec<BrokerEndpoint>) -> Arc<Catalog> {
    let options = CatalogOptions { node_id, endpoints, ..CatalogOptions::default() };
    let seed = bucket.trace_hash() ^ node_id as u64;
    Catalog::open_bucket(Arc::new(bucket.clone()), SeededRng::shared(seed), options).await.expect("it opens")
}

fn new_topic(number: u128, name: &str, partition_count: u32) -> MetadataRecord {
    let (id, name) = (Uuid::from_u128(number), Str::from(name));
    MetadataRecord::CreateTopic { id, name, partition_count, replication_factor: 1, configs: Vec::new() }
}

async fn metadata(house: &House, version: i16, name: &str) -> MetadataResponse {
    let topic = MetadataRequestTopic { name: Some(name.into()), ..MetadataRequestTopic::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    house.ask(version, request).await
}

#[test]
fn a_bucket_keeps_copies_of_its_own_so_any_replication_factor_is_taken() {
    story(|| async {
        let house = House::in_bucket(&MemBucket::new(1), &[]).await;
        for (factor, expected) in [(3, ErrorCode::None), (0, ErrorCode::InvalidReplicationFactor)] {
            let topic = CreatableTopic {
                name: "t".into(),
                num_partitions: 1,
                replication_factor: factor,
                ..CreatableTopic::default()
            };
            let request = CreateTopicsRequest {
                topics: vec![topic],
                validate_only: true,
                ..CreateTopicsRequest::default()
            };
            assert_eq!(code(house.ask(7, request).await.topics[0].error_code), expected);
        }
    });
}

#[test]
fn a_fenced_broker_is_not_listed_and_its_partitions_have_no_leader() {
    story(|| async {
        let bucket = MemBucket::new(1);
        let house = House::in_bucket(&bucket, TWO).await;
        let second = neighbour(&bucket, 2).await;
        let third = neighbour(&bucket, 3).await;
        third.append(vec![new_topic(1, "t", 3)]).await.unwrap();
        let ids = |response: &MetadataResponse| -> Vec<i32> {
            response.brokers.iter().map(|broker| broker.node_id).collect()
        };
        let before = metadata(&house, 13, "t").await;
        assert_eq!((ids(&before), before.controller_id), (vec![1, 2, 3], 1));

        third.append(vec![MetadataRecord::FenceWal { wal_id: second.wal_id() }]).await.unwrap();
        house.catalog.catch_up().await.unwrap();
        for version in 0..=13 {
            let after = metadata(&house, version, "t").await;
            assert_eq!(ids(&after), [1, 3]);
            for partition in &after.topics[0].partitions {
                let is_dead = *partition.replica_nodes == [2];
                let error = if is_dead { ErrorCode::LeaderNotAvailable } else { ErrorCode::None };
                assert_eq!(code(partition.error_code), error, "version {version}");
                assert_eq!(partition.leader_id == -1, is_dead);
                let offline: &[i32] = if is_dead && version >= 5 { &[2] } else { &[] };
                assert_eq!(partition.offline_replicas, offline, "version {version}");
            }
            assert_eq!(after.topics[0].partitions.iter().filter(|one| one.leader_id == -1).count(), 1);
        }
        let request_page = DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest { name: "t".into() }],
            response_partition_limit: 100,
            ..DescribeTopicPartitionsRequest::default()
        };
        let page = house.ask(0, request_page).await;
        let dead: Vec<_> =
            page.topics[0].partitions.iter().filter(|partition| partition.leader_id == -1).collect();
        assert_eq!((dead.len(), &dead[0].offline_replicas[..], dead[0].error_code), (1, &[2][..], 0));
        let cluster = house.ask(2, DescribeClusterRequest { endpoint_type: 1, ..Default::default() }).await;
        let brokers: Vec<i32> = cluster.brokers.iter().map(|broker| broker.broker_id).collect();
        assert_eq!((brokers, cluster.controller_id), (vec![1, 3], 1));
        let log =
            TopicData { topic_name: "__cluster_metadata".into(), partitions: vec![PartitionData::default()] };
        let quorum = house.ask(2, DescribeQuorumRequest { topics: vec![log] }).await;
        let quorum = &quorum.topics[0].partitions[0];
        let observers: Vec<i32> = quorum.observers.iter().map(|replica| replica.replica_id).collect();
        assert_eq!((quorum.leader_id, observers), (1, vec![3]));

        // when node 3 takes over, which Metadata hears of because it has no leader to tell of
        let (wal_id, heirs) = (second.wal_id(), vec![third.wal_id()]);
        let seal = MetadataRecord::SealWal { wal_id, end: 0, rewriter: third.wal_id(), heirs };
        third.append(vec![seal]).await.unwrap();
        for partition in &metadata(&house, 13, "t").await.topics[0].partitions {
            assert_eq!((partition.error_code, partition.leader_id == -1), (0, false));
            assert!(partition.offline_replicas.is_empty());
        }
    });
}

/// As in Kafka: the broker lives, and this client has no way to it.
#[test]
fn a_leader_without_a_listener_of_the_clients_name_is_said_to_have_none() {
    story(|| async {
        let bucket = MemBucket::new(1);
        let house = House::in_bucket(&bucket, TWO).await;
        let other = neighbour_at(&bucket, 2, Vec::new()).await;
        other.append(vec![new_topic(1, "t", 2)]).await.unwrap();
        for version in 0..=13 {
            let answered = metadata(&house, version, "t").await;
            let partitions = answered.topics[0].partitions.iter();
            let mut errors: Vec<ErrorCode> = partitions.map(|partition| code(partition.error_code)).collect();
            errors.sort_by_key(|error| error.code());
            let expected =
                if version >= 6 { ErrorCode::ListenerNotFound } else { ErrorCode::LeaderNotAvailable };
            assert_eq!(errors, [ErrorCode::None, expected], "version {version}");
        }
    });
}
