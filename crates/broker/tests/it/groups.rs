//! Groups through the whole broker: real messages, the real log, a restart.

use std::time::Duration;

use protocol::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest, JoinGroupRequest,
    JoinGroupResponse, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};

use crate::house::{House, code, story};

const SMALL: &[(&str, &str)] =
    &[("offsets.topic.num.partitions", "2"), ("group.initial.rebalance.delay.ms", "0")];

async fn find_coordinator(house: &House) {
    let request =
        FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..FindCoordinatorRequest::default() };
    let found = house.ask(4, request).await;
    assert_eq!(code(found.coordinators[0].error_code), ErrorCode::None);
    assert_eq!((found.coordinators[0].node_id, &*found.coordinators[0].host), (1, "broker.test"));
}

async fn join(house: &House) -> JoinGroupResponse {
    let mut request = JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Default::default() }],
        ..JoinGroupRequest::default()
    };
    let first = house.ask(9, request.clone()).await;
    assert_eq!(code(first.error_code), ErrorCode::MemberIdRequired);
    request.member_id = first.member_id;
    let joined = house.ask(9, request).await;
    assert_eq!(code(joined.error_code), ErrorCode::None);
    joined
}

async fn sync(house: &House, joined: &JoinGroupResponse) {
    let assignment =
        SyncGroupRequestAssignment { member_id: joined.member_id.clone(), assignment: "all".into() };
    let request = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: vec![assignment],
        ..SyncGroupRequest::default()
    };
    let synced = house.ask(5, request).await;
    assert_eq!((code(synced.error_code), &synced.assignment[..]), (ErrorCode::None, &b"all"[..]));
}

async fn commit(
    house: &House,
    group: &str,
    topic_id: Uuid,
    offset: i64,
    member: Option<&JoinGroupResponse>,
) -> ErrorCode {
    let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topic = OffsetCommitRequestTopic { topic_id, partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: member.map_or(-1, |member| member.generation_id),
        member_id: member.map(|member| member.member_id.clone()).unwrap_or_default(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    code(house.ask(10, request).await.topics[0].partitions[0].error_code)
}

async fn committed(house: &House, group: &str, topic_id: Uuid) -> i64 {
    let topic = OffsetFetchRequestTopics { topic_id, partition_indexes: vec![0], ..Default::default() };
    let group = OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: Some(vec![topic]),
        ..OffsetFetchRequestGroup::default()
    };
    let request =
        OffsetFetchRequest { groups: vec![group], require_stable: true, ..OffsetFetchRequest::default() };
    let fetched = house.ask(10, request).await;
    assert_eq!(code(fetched.groups[0].error_code), ErrorCode::None);
    fetched.groups[0].topics[0].partitions[0].committed_offset
}

async fn loaded(house: &House) {
    while house.broker.group_counts().partitions_loading > 0 {
        world::task::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_restart_finds_the_group_as_it_was() {
    story(|| async {
        let house = House::with(SMALL).await;
        let topic_id = house.create_topic("clicks", 1, &[]).await;
        find_coordinator(&house).await;
        loaded(&house).await;
        let joined = join(&house).await;
        sync(&house, &joined).await;
        assert_eq!(commit(&house, "g", topic_id, 42, Some(&joined)).await, ErrorCode::None);
        assert_eq!(commit(&house, "g", Uuid([9; 16]), 1, Some(&joined)).await, ErrorCode::UnknownTopicId);

        let house = house.restarted().await;
        loaded(&house).await;
        assert_eq!(committed(&house, "g", topic_id).await, 42);
        // its member goes on as if nothing had been
        let beat = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            ..HeartbeatRequest::default()
        };
        assert_eq!(code(house.ask(4, beat).await.error_code), ErrorCode::None);
        let describe = DescribeGroupsRequest { groups: vec!["g".into()], ..DescribeGroupsRequest::default() };
        let described = house.ask(6, describe).await;
        assert_eq!(&*described.groups[0].group_state, "Stable");
        assert_eq!(described.groups[0].members[0].client_id, Str::from("story"));
        // and when it falls silent the group empties
        world::task::sleep(Duration::from_secs(11)).await;
        let describe = DescribeGroupsRequest { groups: vec!["g".into()], ..DescribeGroupsRequest::default() };
        assert_eq!(&*house.ask(6, describe).await.groups[0].group_state, "Empty");
    });
}

#[test]
fn a_history_of_commits_stays_short() {
    story(|| async {
        // given 50 partitions, each of which may weigh 80 KiB
        let house = House::with(&[("offsets.topic.num.partitions", "50")]).await;
        let topic_id = house.create_topic("clicks", 1, &[]).await;
        find_coordinator(&house).await;
        loaded(&house).await;
        let groups: Vec<String> = (0..8).map(|group| format!("simple-{group}")).collect();
        // when 16,000 commits come
        for offset in 0..2_000 {
            for group in &groups {
                assert_eq!(commit(&house, group, topic_id, offset, None).await, ErrorCode::None);
            }
        }
        // then the log holds a snapshot and what came behind it
        let topic = house.offsets_topic_id();
        let mut trimmed = 0;
        for index in 0..50 {
            let partition = house.log.partition(&TopicIdPartition::new(topic, index)).unwrap();
            assert!(partition.size_bytes() < 160 << 10, "{} bytes", partition.size_bytes());
            trimmed += usize::from(partition.offsets().log_start > 0);
        }
        assert!(trimmed > 0, "nothing was trimmed");
        let house = house.restarted().await;
        loaded(&house).await;
        for group in &groups {
            assert_eq!(committed(&house, group, topic_id).await, 1_999);
        }
    });
}

#[test]
fn a_compacted_topic_of_offsets_gives_the_same_groups() {
    story(|| async {
        let soon = [("log.roll.ms", "100"), ("log.cleaner.min.cleanable.ratio", "0.01")];
        let mut house = House::with(&[SMALL, &soon].concat()).await;
        let topic_id = house.create_topic("clicks", 1, &[]).await;
        find_coordinator(&house).await;
        loaded(&house).await;
        for round in 0..3 {
            for offset in 0..30 {
                for group in ["simple-1", "simple-2", "simple-3"] {
                    let offset = round * 100 + offset;
                    assert_eq!(commit(&house, group, topic_id, offset, None).await, ErrorCode::None);
                }
            }
            // More than one look of the cleaner later.
            world::task::sleep(Duration::from_secs(60)).await;
            let records = async |house: &House| {
                let (mut records, mut end) = (0, 0);
                for index in 0..2 {
                    let id = TopicIdPartition::new(house.offsets_topic_id(), index);
                    let partition = house.log.partition(&id).unwrap();
                    let offsets = partition.offsets();
                    let request = commitlog::ReadRequest {
                        offset: offsets.log_start,
                        max_bytes: 1 << 20,
                        min_one_batch: true,
                        isolation: Default::default(),
                    };
                    let read = partition.read(request).await.unwrap().records.to_bytes();
                    let batches = protocol::batch::split_batches(&read);
                    records += batches.map(|batch| batch.unwrap().header.record_count).sum::<i32>();
                    end += offsets.high_watermark;
                    assert_eq!(partition.compacted_to(), offsets.high_watermark);
                }
                (records, end)
            };
            let (left, end) = records(&house).await;
            assert!(left <= 6 && end >= 90 * (round + 1), "{left} records are left of {end}");
            house = house.restarted().await;
            loaded(&house).await;
            for group in ["simple-1", "simple-2", "simple-3"] {
                assert_eq!(committed(&house, group, topic_id).await, round * 100 + 29);
            }
        }
    });
}

#[test]
fn offsets_go_with_their_topic() {
    story(|| async {
        let house = House::with(SMALL).await;
        let topic_id = house.create_topic("clicks", 1, &[]).await;
        find_coordinator(&house).await;
        loaded(&house).await;
        assert_eq!(commit(&house, "simple", topic_id, 7, None).await, ErrorCode::None);
        let request = protocol::messages::DeleteTopicsRequest {
            topic_names: vec!["clicks".into()],
            ..protocol::messages::DeleteTopicsRequest::default()
        };
        assert_eq!(code(house.ask(5, request).await.responses[0].error_code), ErrorCode::None);
        let again = house.create_topic("clicks", 1, &[]).await;
        assert_eq!(committed(&house, "simple", again).await, -1);
        assert_eq!(house.broker.group_counts().offsets, 0);
    });
}

#[test]
fn producer_ids_are_never_given_twice() {
    story(|| async {
        let mut house = House::new().await;
        let mut given = std::collections::BTreeSet::new();
        for _ in 0..3 {
            for _ in 0..1_100 {
                let answer = house
                    .ask(5, InitProducerIdRequest { transactional_id: None, ..Default::default() })
                    .await;
                assert_eq!((code(answer.error_code), answer.producer_epoch), (ErrorCode::None, 0));
                assert!(given.insert(answer.producer_id), "{} twice", answer.producer_id);
            }
            house = house.restarted().await;
        }
        // Who has not asked for a coordinator is told to.
        let transactional =
            InitProducerIdRequest { transactional_id: Some("t".into()), ..Default::default() };
        let answer = house.ask(5, transactional).await;
        assert_eq!((code(answer.error_code), answer.producer_id), (ErrorCode::NotCoordinator, -1));
    });
}
