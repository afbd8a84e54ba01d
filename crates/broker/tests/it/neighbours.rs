//! Several brokers on one bucket. Node 1 is a whole broker that never looks for news unasked; the others are catalogs that say
//! something about the cluster behind its back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::{INTER_BROKER_LISTENER, Outcome};
use catalog::{BrokerEndpoint, Catalog, CatalogOptions, MetadataRecord};
use commitlog::manifest::shard_of;
use futures_util::future::BoxFuture;
use protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use protocol::messages::describe_topic_partitions_request::TopicRequest;
use protocol::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeQuorumRequest, DescribeTopicPartitionsRequest, FindCoordinatorRequest, JoinGroupRequest,
    JoinGroupResponse, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse,
    OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
    create_topics_request::CreatableTopic,
};
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};
use world::bucket::{Bucket, MemBucket};
use world::rng::SeededRng;
use world::task;

use crate::fetch::{partition, request};
use crate::house::{House, Opened, answer, batch, code, endpoint, only_partition, produce_request, story};

const TWO: &[(&str, &str)] = &[("offsets.topic.num.partitions", "2")];

/// Where clients have no business.
const BETWEEN_BROKERS: &str = "between-brokers.test";

/// Another broker, as far as the metadata knows.
async fn neighbour(bucket: &MemBucket, node_id: i32) -> Arc<Catalog> {
    let between_brokers = BrokerEndpoint {
        listener_name: INTER_BROKER_LISTENER.into(),
        security_protocol: 1,
        ..endpoint(BETWEEN_BROKERS)
    };
    let endpoints = vec![endpoint(&format!("broker-{node_id}.test")), between_brokers];
    neighbour_at(bucket, node_id, endpoints).await
}

async fn neighbour_at(bucket: &MemBucket, node_id: i32, endpoints: Vec<BrokerEndpoint>) -> Arc<Catalog> {
    let options = CatalogOptions {
        node_id: Some(node_id),
        endpoints,
        lease_ttl: Duration::ZERO,
        ..CatalogOptions::default()
    };
    let seed = bucket.trace_hash() ^ node_id as u64;
    Catalog::open_bucket(Arc::new(bucket.clone()), SeededRng::shared(seed), options).await.expect("it opens")
}

fn new_topic(number: u128, name: &str, partition_count: u32) -> MetadataRecord {
    let (id, name) = (Uuid::from_u128(number), Str::from(name));
    MetadataRecord::CreateTopic { id, name, partition_count, replication_factor: 1, configs: Vec::new() }
}

/// Ends a WAL; its partitions go to the heirs.
async fn take_over(taker: &Catalog, wal_id: u64, heirs: &[u64]) {
    taker.append(vec![MetadataRecord::FenceWal { wal_id }]).await.unwrap();
    let seal = MetadataRecord::SealWal { wal_id, end: 0, rewriter: taker.wal_id(), heirs: heirs.to_vec() };
    taker.append(vec![seal]).await.unwrap();
}

async fn metadata(house: &House, version: i16, name: &str) -> MetadataResponse {
    let topic = MetadataRequestTopic { name: Some(name.into()), ..MetadataRequestTopic::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    house.ask(version, request).await
}

/// (error, node, host) of each group.
async fn coordinators(house: &House, groups: &[String]) -> Vec<(ErrorCode, i32, String)> {
    let coordinator_keys = groups.iter().map(|group| Str::from(group.as_str())).collect();
    let request = FindCoordinatorRequest { coordinator_keys, ..FindCoordinatorRequest::default() };
    let found = house.ask(6, request).await.coordinators;
    found.into_iter().map(|found| (code(found.error_code), found.node_id, found.host.to_string())).collect()
}

/// A group in the partition that the node leads.
async fn group_of(house: &House, node_id: i32) -> String {
    groups_of(house, node_id).await.swap_remove(0)
}

/// Another one in the same partition.
async fn simple_group_of(house: &House, node_id: i32) -> String {
    groups_of(house, node_id).await.swap_remove(1)
}

async fn groups_of(house: &House, node_id: i32) -> Vec<String> {
    let groups: Vec<String> = (0..20).map(|number| format!("g{number}")).collect();
    let found = coordinators(house, &groups).await;
    let is_there = |place: &usize| found[*place].1 == node_id;
    (0..groups.len()).filter(is_there).map(|place| groups[place].clone()).collect()
}

fn join(group: &str, member_id: Str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        member_id,
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Default::default() }],
        ..JoinGroupRequest::default()
    }
}

async fn join_error(house: &House, group: &str) -> ErrorCode {
    code(house.ask(9, join(group, Str::default())).await.error_code)
}

/// A member whose JoinGroup waits for others.
async fn waiting_member(house: &House, group: &str) -> task::JoinHandle<JoinGroupResponse> {
    let first = house.ask(9, join(group, Str::default())).await;
    assert_eq!(code(first.error_code), ErrorCode::MemberIdRequired);
    let joining: BoxFuture<'static, Outcome> = house.start(9, &join(group, first.member_id));
    let joining = task::spawn(async move { answer::<JoinGroupRequest>(9, joining.await) });
    task::sleep(Duration::from_millis(500)).await;
    assert!(!joining.is_finished());
    joining
}

async fn loaded(house: &House) {
    while house.broker.group_counts().partitions_loading > 0 {
        task::sleep(Duration::from_millis(1)).await;
    }
}

fn commit_request(group: &str, topic_id: Uuid, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topic = OffsetCommitRequestTopic { topic_id, partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}

async fn commit(house: &House, group: &str, topic_id: Uuid, offset: i64) -> ErrorCode {
    let committed = house.ask(10, commit_request(group, topic_id, offset)).await;
    code(committed.topics[0].partitions[0].error_code)
}

async fn committed(house: &House, group: &str, topic_id: Uuid) -> Result<i64, ErrorCode> {
    let topic = OffsetFetchRequestTopics { topic_id, partition_indexes: vec![0], ..Default::default() };
    let group = OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: Some(vec![topic]),
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() };
    let fetched = house.ask(10, request).await;
    match code(fetched.groups[0].error_code) {
        ErrorCode::None => Ok(fetched.groups[0].topics[0].partitions[0].committed_offset),
        error => Err(error),
    }
}

#[test]
fn what_another_broker_made_is_found_at_once() {
    story(|| async {
        let bucket = MemBucket::new(1);
        let house = House::in_bucket(&bucket, &[("num.partitions", "1")]).await;
        let other = neighbour(&bucket, 2).await;
        let mut number = 0;
        // Each API meets a topic that nobody has told node 1 of. Partition 0 or 1 is led by node 2.
        let mut make = async |name: &'static str| {
            number += 1;
            other.append(vec![new_topic(number, name, 2)]).await.unwrap();
            assert!(house.catalog.read().topic(name).is_none());
            let leaders: Vec<i32> =
                other.read().topic(name).unwrap().partitions.iter().map(|info| info.leader).collect();
            (Uuid::from_u128(number), leaders.iter().position(|leader| *leader == 2).unwrap() as i32)
        };
        for version in 0..=13 {
            let name: &'static str = format!("metadata-{version}").leak();
            make(name).await;
            let response = metadata(&house, version, name).await;
            assert_eq!(code(response.topics[0].error_code), ErrorCode::None, "version {version}");
            // It was not made a second time.
            assert_eq!(response.topics[0].partitions.len(), 2);
            assert!(response.brokers.iter().any(|broker| &*broker.host == "broker-2.test"));
        }
        let (id, _) = make("by-id").await;
        let topic = MetadataRequestTopic { topic_id: id, name: None };
        let request_by_id = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
        assert_eq!(code(house.ask(13, request_by_id).await.topics[0].error_code), ErrorCode::None);

        make("described").await;
        let request_page = DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest { name: "described".into() }],
            response_partition_limit: 100,
            ..DescribeTopicPartitionsRequest::default()
        };
        let page = house.ask(0, request_page).await;
        assert_eq!((code(page.topics[0].error_code), page.topics[0].partitions.len()), (ErrorCode::None, 2));

        make("configured").await;
        let resource = DescribeConfigsResource {
            resource_type: 2,
            resource_name: "configured".into(),
            ..DescribeConfigsResource::default()
        };
        let request_configs =
            DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
        assert_eq!(code(house.ask(4, request_configs).await.results[0].error_code), ErrorCode::None);

        let (_, index) = make("listed").await;
        let asked = ListOffsetsPartition { partition_index: index, timestamp: -1, ..Default::default() };
        let topic = ListOffsetsTopic { name: "listed".into(), partitions: vec![asked] };
        let request_offsets =
            ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
        let listed = house.ask(11, request_offsets).await;
        assert_eq!(code(listed.topics[0].partitions[0].error_code), ErrorCode::NotLeaderOrFollower);

        let (_, index) = make("epochs").await;
        let asked = OffsetForLeaderPartition { partition: index, ..OffsetForLeaderPartition::default() };
        let topic = OffsetForLeaderTopic { topic: "epochs".into(), partitions: vec![asked] };
        let request_epochs = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
        let epochs = house.ask(4, request_epochs).await;
        assert_eq!(code(epochs.topics[0].partitions[0].error_code), ErrorCode::NotLeaderOrFollower);

        let (_, index) = make("trimmed").await;
        let asked = DeleteRecordsPartition { partition_index: index, offset: -1 };
        let topic = DeleteRecordsTopic { name: "trimmed".into(), partitions: vec![asked] };
        let request_trim = DeleteRecordsRequest { topics: vec![topic], ..DeleteRecordsRequest::default() };
        let trimmed = house.ask(2, request_trim).await;
        assert_eq!(code(trimmed.topics[0].partitions[0].error_code), ErrorCode::NotLeaderOrFollower);

        let (id, index) = make("fetched").await;
        let mut fetch = request("", vec![partition(index, 0)]);
        fetch.topics[0].topic_id = id;
        let fetched = house.ask(16, fetch).await;
        let data = &fetched.responses[0].partitions[0];
        assert_eq!(code(data.error_code), ErrorCode::NotLeaderOrFollower);
        assert_eq!((data.current_leader.leader_id, &*fetched.node_endpoints[0].host), (2, "broker-2.test"));

        let group = group_of(&house, 1).await;
        loaded(&house).await;
        let (id, _) = make("committed").await;
        assert_eq!(commit(&house, &group, id, 4).await, ErrorCode::None);
        let (id, _) = make("never-committed").await;
        assert_eq!(committed(&house, &group, id).await, Ok(-1));

        // A producer is refused at once and does better when it comes again.
        let (_, index) = make("produced").await;
        let produced = house.ask(12, produce_request("produced", index, batch(&["x"]))).await;
        assert_eq!(code(only_partition(&produced).error_code), ErrorCode::UnknownTopicOrPartition);
        task::sleep(Duration::from_millis(100)).await;
        let produced = house.ask(12, produce_request("produced", index, batch(&["x"]))).await;
        assert_eq!(code(only_partition(&produced).error_code), ErrorCode::NotLeaderOrFollower);
        assert_eq!(only_partition(&produced).current_leader.leader_id, 2);
    });
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

/// P7: a shard of the manifest that is damaged keeps closed what it has, and nothing else; the others learn what is in effect here.
#[test]
fn what_is_damaged_keeps_nothing_else_closed() {
    story(|| async {
        let bucket = MemBucket::new(1);
        let house = House::in_bucket(&bucket, TWO).await;
        let second = neighbour(&bucket, 2).await;
        second.append(vec![new_topic(1, "t", 40)]).await.unwrap();
        let theirs: Vec<u32> =
            second.read().led_by(second.wal_id()).into_iter().map(|(_, index)| index).collect();
        let id = |index: u32| TopicIdPartition::new(Uuid::from_u128(1), index as i32);
        let shard = shard_of(&id(theirs[0]));
        let (damaged, whole): (Vec<u32>, Vec<u32>) =
            theirs.iter().copied().partition(|index| shard_of(&id(*index)) == shard);
        assert!(!damaged.is_empty() && whole.len() > 5, "{damaged:?} {whole:?}");
        let object = Str::from_static("manifest/of-another-world");
        bucket.put(&object, bytes::Bytes::from_static(b"nonsense")).await.unwrap();
        let manifest =
            MetadataRecord::ManifestShard { shard, from_version: 0, to_version: 1, object, wal_mark: 0 };
        second.append(vec![manifest]).await.unwrap();
        let heir = house.catalog.wal_id();
        let partitions = vec![(Uuid::from_u128(1), theirs)];
        second.append(vec![MetadataRecord::MovePartitions { slot: 0, heir, partitions }]).await.unwrap();
        let moved_at = house.catalog.catch_up().await.unwrap();
        task::sleep(Duration::from_secs(2)).await;
        let open = house.log.partition_ids();
        assert!(whole.iter().all(|index| open.contains(&id(*index))), "{open:?}");
        assert!(!damaged.iter().any(|index| open.contains(&id(*index))), "{open:?}");
        let not_open = || house.broker.counters().partitions_not_open.load(Ordering::Relaxed);
        assert_eq!(not_open(), damaged.len() as u64);
        assert_eq!(house.catalog.applied(), moved_at);
        // With its topic it is nobody's trouble any more.
        second.append(vec![MetadataRecord::DeleteTopic { id: Uuid::from_u128(1) }]).await.unwrap();
        house.catalog.catch_up().await.unwrap();
        task::sleep(Duration::from_secs(2)).await;
        assert_eq!((not_open(), house.log.partition_ids().len()), (0, 0));
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
        assert!(cluster.brokers.iter().all(|broker| &*broker.host != BETWEEN_BROKERS));
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

/// Node 1 with `__consumer_offsets`, one of whose two partitions is led by node 2; and node 3, which came later.
async fn three(bucket: &MemBucket) -> (House, Arc<Catalog>, Arc<Catalog>) {
    let house = House::in_bucket(bucket, TWO).await;
    let second = neighbour(bucket, 2).await;
    coordinators(&house, &["any".to_owned()]).await;
    loaded(&house).await;
    (house, second, neighbour(bucket, 3).await)
}

fn offsets_partition(house: &House, leader: i32) -> TopicIdPartition {
    let id = house.offsets_topic_id();
    let state = house.catalog.read();
    let leads = |info: &catalog::PartitionInfo| info.leader == leader;
    let index = state.topic_by_id(id).unwrap().partitions.iter().position(leads).expect("it leads one");
    TopicIdPartition::new(id, index as i32)
}

#[test]
fn the_leader_of_its_partition_looks_after_a_group() {
    story(|| async {
        let bucket = MemBucket::new(1);
        let (house, second, third) = three(&bucket).await;
        let groups: Vec<String> = (0..20).map(|number| format!("g{number}")).collect();
        let found = coordinators(&house, &groups).await;
        for (error, node, host) in &found {
            let expected = if *node == 1 { "broker.test" } else { "broker-2.test" };
            assert_eq!((*error, host.as_str()), (ErrorCode::None, expected));
        }
        let (own, others) = (group_of(&house, 1).await, group_of(&house, 2).await);
        let one = FindCoordinatorRequest { key: others.as_str().into(), ..FindCoordinatorRequest::default() };
        assert_eq!(house.ask(3, one.clone()).await.node_id, 2);
        assert_eq!(join_error(&house, &own).await, ErrorCode::MemberIdRequired);
        assert_eq!(join_error(&house, &others).await, ErrorCode::NotCoordinator);
        let listed = house.ask(5, ListGroupsRequest::default()).await;
        assert!(listed.groups.iter().all(|group| group.group_type == "classic"), "{listed:?}");
        let listed: Vec<&str> = listed.groups.iter().map(|group| &*group.group_id).collect();
        assert_eq!(listed, [own.as_str()]);

        // when node 2 is gone nobody does
        third.append(vec![MetadataRecord::FenceWal { wal_id: second.wal_id() }]).await.unwrap();
        house.catalog.catch_up().await.unwrap();
        let gone = coordinators(&house, &[own.clone(), others.clone()]).await;
        assert_eq!(gone[0].1, 1);
        assert_eq!(gone[1], (ErrorCode::CoordinatorNotAvailable, -1, String::new()));
        let answered = house.ask(3, one).await;
        assert_eq!((code(answered.error_code), answered.node_id), (ErrorCode::CoordinatorNotAvailable, -1));
        // until another takes over, of which we hear because we are asked
        let (wal_id, heirs) = (second.wal_id(), vec![house.catalog.wal_id()]);
        let seal = MetadataRecord::SealWal { wal_id, end: 0, rewriter: third.wal_id(), heirs };
        third.append(vec![seal]).await.unwrap();
        assert_eq!(coordinators(&house, std::slice::from_ref(&others)).await[0].1, 1);
        // and the partition is loaded as soon as the log has it
        while join_error(&house, &others).await == ErrorCode::CoordinatorLoadInProgress {
            task::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(join_error(&house, &others).await, ErrorCode::MemberIdRequired);
        // while the groups of the other partition never noticed
        assert_eq!(house.ask(5, ListGroupsRequest::default()).await.groups.len(), 2);
    });
}

#[test]
fn who_waits_in_a_group_is_sent_away_when_the_partition_goes_to_another_broker() {
    story(|| async {
        let bucket = MemBucket::new(1);
        let (house, second, _) = three(&bucket).await;
        let own = group_of(&house, 1).await;
        let waiting = waiting_member(&house, &own).await;
        // when nothing happens, nothing happens
        for _ in 0..100 {
            house.broker.follow_catalog();
        }
        task::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished());
        // when node 2 takes over
        take_over(&second, house.catalog.wal_id(), &[second.wal_id()]).await;
        house.catalog.catch_up().await.unwrap();
        house.broker.follow_catalog();
        // then the member looks for its coordinator
        assert_eq!(code(waiting.await.unwrap().error_code), ErrorCode::NotCoordinator);
        assert_eq!(join_error(&house, &own).await, ErrorCode::NotCoordinator);
        assert!(house.ask(5, ListGroupsRequest::default()).await.groups.is_empty());
        assert_eq!(house.broker.group_counts(), broker::GroupCounts::default());
        task::timeout(Duration::from_secs(60), house.broker.shutdown())
            .await
            .expect("nothing is left to land");
    });
}

/// It goes to node 2 by plan and comes back.
#[test]
fn the_same_partition_under_a_later_epoch_is_read_anew() {
    story(|| async {
        let bucket = MemBucket::new(1);
        let (house, second, _) = three(&bucket).await;
        let topic_id = house.create_topic("clicks", 2, &[]).await;
        let (own, simple) = (group_of(&house, 1).await, simple_group_of(&house, 1).await);
        assert_eq!(commit(&house, &simple, topic_id, 41).await, ErrorCode::None);
        let waiting = waiting_member(&house, &own).await;
        // given a commit that is on its way
        let committing = house.start(10, &commit_request(&simple, topic_id, 42));
        let committing = task::spawn(async move { answer::<OffsetCommitRequest>(10, committing.await) });
        task::yield_now().await;
        let moved = offsets_partition(&house, 1);
        let before = house.log.partition(&moved).unwrap();
        house.log.move_partitions(&[moved], second.wal_id()).await.unwrap();
        // then it is acknowledged, and all who wait look for their coordinator
        let told = committing.await.unwrap();
        assert_eq!(code(told.topics[0].partitions[0].error_code), ErrorCode::None);
        assert_eq!(code(waiting.await.unwrap().error_code), ErrorCode::NotCoordinator);
        assert_eq!(committed(&house, &simple, topic_id).await, Err(ErrorCode::NotCoordinator));
        // and when it comes back what was written before is there
        let (slot, heir) = (0, house.catalog.wal_id());
        let partitions = vec![(moved.topic_id, vec![moved.partition as u32])];
        second.append(vec![MetadataRecord::MovePartitions { slot, heir, partitions }]).await.unwrap();
        house.catalog.catch_up().await.unwrap();
        while committed(&house, &simple, topic_id).await == Err(ErrorCode::CoordinatorLoadInProgress) {
            task::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(committed(&house, &simple, topic_id).await, Ok(42));
        let log = house.log.partition(&moved).unwrap();
        assert!(!Arc::ptr_eq(&log, &before));
        assert_eq!(log.epoch_at(log.offsets().high_watermark - 1), Some(0));
        assert_eq!(commit(&house, &simple, topic_id, 43).await, ErrorCode::None);
        assert_eq!(log.epoch_at(log.offsets().high_watermark - 1), Some(2));
    });
}

#[test]
fn offsets_go_with_a_topic_that_another_broker_deletes() {
    story(|| async {
        let bucket = MemBucket::new(1);
        let (house, second, _) = three(&bucket).await;
        let (gone, stays) = (Uuid::from_u128(1), Uuid::from_u128(2));
        second.append(vec![new_topic(1, "gone", 1), new_topic(2, "stays", 1)]).await.unwrap();
        let own = group_of(&house, 1).await;
        for topic_id in [gone, stays] {
            assert_eq!(commit(&house, &own, topic_id, 7).await, ErrorCode::None);
        }
        // In a broker's life this is called with every change of the catalog.
        house.broker.follow_catalog();
        let records = vec![MetadataRecord::DeleteTopic { id: gone }, new_topic(3, "gone", 1)];
        second.append(records).await.unwrap();
        house.catalog.catch_up().await.unwrap();
        assert_eq!(house.broker.group_counts().offsets, 2);
        house.broker.follow_catalog();
        house.broker.follow_catalog();
        task::sleep(Duration::from_secs(1)).await;
        assert_eq!(house.broker.group_counts().offsets, 1);
        assert_eq!(committed(&house, &own, stays).await, Ok(7));
        assert_eq!(committed(&house, &own, Uuid::from_u128(3)).await, Ok(-1));
    });
}

#[test]
fn groups_are_loaded_when_the_bucket_answers_again() {
    story(|| async {
        let bucket = MemBucket::new(1);
        let house = House::in_bucket(&bucket, TWO).await;
        let topic_id = house.create_topic("clicks", 1, &[]).await;
        let group = group_of(&house, 1).await;
        loaded(&house).await;
        assert_eq!(commit(&house, &group, topic_id, 9).await, ErrorCode::None);
        house.broker.shutdown().await;
        house.log.close().await;
        house.catalog.close().await;
        // given a start that finds its log, and then the bucket falls silent
        let opened = Opened::in_bucket(&bucket, TWO, 8).await;
        bucket.set_out(true);
        let house = opened.start().await;
        task::sleep(Duration::from_secs(200)).await;
        assert_eq!(committed(&house, &group, topic_id).await, Err(ErrorCode::CoordinatorLoadInProgress));
        bucket.set_out(false);
        loaded(&house).await;
        assert_eq!(committed(&house, &group, topic_id).await, Ok(9));
    });
}
