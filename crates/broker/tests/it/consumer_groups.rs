//! Consumer groups of KIP-848 through the whole broker: real messages, the real log, configs of groups, a restart.

use std::time::Duration;

use protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::messages::{
    ApiVersionsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, CreatePartitionsRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, IncrementalAlterConfigsRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest, create_partitions_request::CreatePartitionsTopic,
};
use protocol::{ErrorCode, Str, Uuid};

use crate::house::{House, code, story};

const SMALL: &[(&str, &str)] = &[("offsets.topic.num.partitions", "2")];
const GROUP: i8 = 32;
const SET: i8 = 0;
const DELETE: i8 = 1;

async fn open(house: &House) {
    let request =
        FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..FindCoordinatorRequest::default() };
    house.ask(4, request).await;
    while house.broker.group_counts().partitions_loading > 0 {
        world::task::sleep(Duration::from_millis(1)).await;
    }
}

fn joining(topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "m".into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(topics.iter().map(|topic| Str::from(*topic)).collect()),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

/// What a member sends that has nothing new to say.
fn beat(epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "m".into(),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

async fn ask(house: &House, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    house.ask(1, request).await
}

fn assigned(response: &ConsumerGroupHeartbeatResponse) -> Vec<(Uuid, Vec<i32>)> {
    assert_eq!(code(response.error_code), ErrorCode::None, "{:?}", response.error_message);
    let topics = &response.assignment.as_ref().expect("an assignment").topic_partitions;
    topics.iter().map(|topic| (topic.topic_id, topic.partitions.clone())).collect()
}

async fn commit(house: &House, topic_id: Uuid, epoch: i32, version: i16) -> ErrorCode {
    let partition = OffsetCommitRequestPartition { committed_offset: 5, ..Default::default() };
    let name = if version < 10 { "clicks" } else { "" };
    let topic_id = if version < 10 { Uuid::ZERO } else { topic_id };
    let topic = OffsetCommitRequestTopic { name: name.into(), topic_id, partitions: vec![partition] };
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: epoch,
        member_id: "m".into(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    code(house.ask(version, request).await.topics[0].partitions[0].error_code)
}

async fn fetch(house: &House, topic_id: Uuid, epoch: i32) -> Result<i64, ErrorCode> {
    let topic = OffsetFetchRequestTopics { topic_id, partition_indexes: vec![0], ..Default::default() };
    let group = OffsetFetchRequestGroup {
        group_id: "g".into(),
        member_id: Some("m".into()),
        member_epoch: epoch,
        topics: Some(vec![topic]),
    };
    let request =
        OffsetFetchRequest { groups: vec![group], require_stable: true, ..OffsetFetchRequest::default() };
    let fetched = house.ask(10, request).await;
    match code(fetched.groups[0].error_code) {
        ErrorCode::None => Ok(fetched.groups[0].topics[0].partitions[0].committed_offset),
        error => Err(error),
    }
}

#[test]
fn a_member_lives_through_a_restart() {
    story(|| async {
        let house = House::with(SMALL).await;
        let topic_id = house.create_topic("clicks", 2, &[]).await;
        open(&house).await;
        let joined = ask(&house, joining(&["clicks"])).await;
        assert_eq!(assigned(&joined), [(topic_id, vec![0, 1])]);
        assert_eq!((joined.member_id, joined.heartbeat_interval_ms), (Some("m".into()), 5_000));
        let epoch = joined.member_epoch;
        assert_eq!(commit(&house, topic_id, epoch, 10).await, ErrorCode::None);
        assert_eq!(commit(&house, topic_id, epoch + 1, 10).await, ErrorCode::StaleMemberEpoch);
        assert_eq!(commit(&house, topic_id, epoch, 8).await, ErrorCode::UnsupportedVersion);
        assert_eq!(fetch(&house, topic_id, epoch).await, Ok(5));
        assert_eq!(fetch(&house, topic_id, epoch + 1).await, Err(ErrorCode::StaleMemberEpoch));

        let house = house.restarted().await;
        open(&house).await;
        let same = ask(&house, beat(epoch)).await;
        assert_eq!((code(same.error_code), same.member_epoch), (ErrorCode::None, epoch));
        assert!(same.assignment.is_none());
        // New partitions reach it with a heartbeat.
        let topic = CreatePartitionsTopic { name: "clicks".into(), count: 3, assignments: None };
        let more = CreatePartitionsRequest {
            topics: vec![topic],
            timeout_ms: 1_000,
            ..CreatePartitionsRequest::default()
        };
        assert_eq!(code(house.ask(3, more).await.results[0].error_code), ErrorCode::None);
        world::task::sleep(Duration::from_secs(2)).await;
        assert_eq!(assigned(&ask(&house, beat(epoch)).await), [(topic_id, vec![0, 1, 2])]);
        // And when it falls silent the group empties, and can be deleted.
        let delete =
            || DeleteGroupsRequest { groups_names: vec!["g".into()], ..DeleteGroupsRequest::default() };
        assert_eq!(code(house.ask(2, delete()).await.results[0].error_code), ErrorCode::NonEmptyGroup);
        world::task::sleep(Duration::from_secs(50)).await;
        assert_eq!(house.broker.group_counts().members, 0);
        assert_eq!(code(house.ask(2, delete()).await.results[0].error_code), ErrorCode::None);
        assert_eq!(code(ask(&house, beat(epoch)).await.error_code), ErrorCode::GroupIdNotFound);
    });
}

#[test]
fn tools_see_the_group_as_what_it_is() {
    story(|| async {
        let house = House::with(SMALL).await;
        let topic_id = house.create_topic("clicks", 2, &[]).await;
        open(&house).await;
        let mut request = joining(&[]);
        request.subscribed_topic_regex = Some("cl.*".into());
        request.rack_id = Some("r1".into());
        let epoch = ask(&house, request).await.member_epoch;
        let describe = ConsumerGroupDescribeRequest {
            group_ids: vec!["g".into(), "h".into(), "".into()],
            include_authorized_operations: true,
        };
        let described = house.ask(1, describe).await.groups;
        assert_eq!((&*described[0].group_state, &*described[0].assignor_name), ("Stable", "uniform"));
        assert_eq!((described[0].group_epoch, described[0].assignment_epoch), (epoch, epoch));
        assert_eq!(described[0].authorized_operations, 0x0d48);
        let member = &described[0].members[0];
        assert_eq!((member.member_epoch, member.member_type), (epoch, 1));
        assert_eq!(member.subscribed_topic_regex, Some("cl.*".into()));
        assert_eq!((&*member.client_id, &member.rack_id), ("story", &Some("r1".into())));
        for assignment in [&member.assignment, &member.target_assignment] {
            let topic = &assignment.topic_partitions[0];
            assert_eq!(
                (topic.topic_id, &*topic.topic_name, &topic.partitions[..]),
                (topic_id, "clicks", &[0, 1][..])
            );
        }
        assert_eq!(code(described[1].error_code), ErrorCode::GroupIdNotFound);
        assert_eq!(code(described[2].error_code), ErrorCode::InvalidGroupId);
        let describe = DescribeGroupsRequest { groups: vec!["g".into()], ..DescribeGroupsRequest::default() };
        let classic = house.ask(6, describe).await;
        assert_eq!(code(classic.groups[0].error_code), ErrorCode::GroupIdNotFound);
        for (types, states, count) in
            [("consumer", "stable", 1), ("Classic", "", 0), ("", "Empty", 0), ("", "", 1)]
        {
            let filter = |name: &str| if name.is_empty() { Vec::new() } else { vec![Str::from(name)] };
            let list = ListGroupsRequest { types_filter: filter(types), states_filter: filter(states) };
            let listed = house.ask(5, list).await.groups;
            assert_eq!(listed.len(), count, "{types} {states}");
            assert!(
                listed
                    .iter()
                    .all(|group| (&*group.group_type, &*group.protocol_type) == ("consumer", "consumer"))
            );
        }
        let versions = ApiVersionsRequest {
            client_software_name: "a".into(),
            client_software_version: "1".into(),
            ..ApiVersionsRequest::default()
        };
        let versions = house.ask(4, versions).await;
        let finalized = versions.finalized_features.iter().find(|feature| feature.name == "group.version");
        assert_eq!(finalized.map(|feature| feature.max_version_level), Some(1));
    });
}

#[test]
fn configs_of_a_group_hold_for_it() {
    story(|| async {
        let house = House::with(SMALL).await;
        house.create_topic("clicks", 2, &[]).await;
        open(&house).await;
        let joined = ask(&house, joining(&["clicks"])).await;
        assert_eq!(joined.heartbeat_interval_ms, 5_000);
        let interval = async |value| {
            configure(&house, "g", &[("consumer.heartbeat.interval.ms", value)]).await;
            ask(&house, beat(joined.member_epoch)).await.heartbeat_interval_ms
        };
        assert_eq!(interval(Some("6000")).await, 6_000);
        assert_eq!(interval(Some("7000")).await, 7_000);
        let other = ConsumerGroupHeartbeatRequest { group_id: "h".into(), ..joining(&["clicks"]) };
        assert_eq!(ask(&house, other.clone()).await.heartbeat_interval_ms, 5_000);
        assert_eq!(interval(None).await, 5_000);
        let leaving = ConsumerGroupHeartbeatRequest { member_epoch: -1, ..other };
        assert_eq!(code(ask(&house, leaving).await.error_code), ErrorCode::None);

        configure(&house, "g", &[("consumer.session.timeout.ms", Some("60000"))]).await;
        ask(&house, beat(joined.member_epoch)).await;
        world::task::sleep(Duration::from_secs(55)).await;
        assert_eq!(house.broker.group_counts().members, 1);
        world::task::sleep(Duration::from_secs(6)).await;
        assert_eq!(house.broker.group_counts().members, 0);
    });
}

async fn configure(house: &House, group: &str, values: &[(&str, Option<&str>)]) {
    let configs = values.iter().map(|(name, value)| AlterableConfig {
        name: (*name).into(),
        config_operation: if value.is_some() { SET } else { DELETE },
        value: value.map(Into::into),
    });
    let resource = AlterConfigsResource {
        resource_type: GROUP,
        resource_name: group.into(),
        configs: configs.collect(),
    };
    let alter = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    assert_eq!(code(house.ask(1, alter).await.responses[0].error_code), ErrorCode::None);
}

#[test]
fn the_protocol_can_be_switched_off() {
    story(|| async {
        let house = House::with(&[("group.coordinator.rebalance.protocols", "classic")]).await;
        open(&house).await;
        let response = ask(&house, joining(&["clicks"])).await;
        assert_eq!(code(response.error_code), ErrorCode::UnsupportedVersion);
        let describe = ConsumerGroupDescribeRequest { group_ids: vec!["g".into()], ..Default::default() };
        let described = house.ask(1, describe).await.groups;
        assert_eq!(code(described[0].error_code), ErrorCode::UnsupportedVersion);
    });
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    story(|| async {
        let house = House::with(SMALL).await;
        open(&house).await;
        let with = |change: fn(&mut ConsumerGroupHeartbeatRequest)| {
            let mut request = joining(&["clicks"]);
            change(&mut request);
            request
        };
        let owned = |request: &mut ConsumerGroupHeartbeatRequest| {
            let topic = TopicPartitions { topic_id: Uuid([1; 16]), partitions: vec![0] };
            request.topic_partitions = Some(vec![topic]);
        };
        let invalid = [
            with(|request| request.group_id = Str::default()),
            with(|request| request.member_id = Str::default()),
            with(|request| request.instance_id = Some(Str::default())),
            with(|request| request.rack_id = Some(Str::default())),
            with(|request| request.rebalance_timeout_ms = -1),
            with(|request| request.topic_partitions = None),
            with(owned),
            with(|request| request.subscribed_topic_names = None),
            with(|request| request.member_epoch = -2),
            with(|request| request.member_epoch = -3),
        ];
        for request in invalid {
            let response = ask(&house, request).await;
            assert_eq!(code(response.error_code), ErrorCode::InvalidRequest);
            assert!(response.error_message.is_some());
        }
        let request = with(|request| request.server_assignor = Some("sticky".into()));
        let response = ask(&house, request).await;
        assert_eq!(code(response.error_code), ErrorCode::UnsupportedAssignor);
        let request = with(|request| request.subscribed_topic_regex = Some("(".into()));
        assert_eq!(code(ask(&house, request).await.error_code), ErrorCode::InvalidRegularExpression);
        // Version 0 makes ids for members that have none.
        let mut request = with(|request| request.member_id = Str::default());
        request.subscribed_topic_regex = None;
        let response = house.ask(0, request).await;
        assert_eq!((code(response.error_code), response.member_id.unwrap().len()), (ErrorCode::None, 22));
        assert_eq!(house.broker.group_counts().groups, 1);
    });
}
