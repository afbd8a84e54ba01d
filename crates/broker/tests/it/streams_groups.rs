//! Streams groups through the whole broker: real messages, the real log, topics that are made, a restart.

use std::time::Duration;

use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::streams_group_heartbeat_request::{Subtopology, TaskIds, TopicInfo, Topology};
use protocol::messages::streams_group_topology_description_update_request::{
    TopologyDescription, TopologyDescriptionNode, TopologyDescriptionSubtopology,
};
use protocol::messages::{
    ApiVersionsRequest, DescribeGroupsRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest,
    ListGroupsRequest, StreamsGroupDescribeRequest, StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse, StreamsGroupTopologyDescriptionUpdateRequest,
};
use protocol::{ErrorCode, Str};

use crate::house::{House, code, story};

const SMALL: &[(&str, &str)] = &[("offsets.topic.num.partitions", "2")];
const GROUP: i8 = 32;
const MISSING_INTERNAL_TOPICS: i8 = 3;

pub async fn open(house: &House) {
    let request =
        FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..FindCoordinatorRequest::default() };
    house.ask(4, request).await;
    while house.broker.group_counts().partitions_loading > 0 {
        world::task::sleep(Duration::from_millis(1)).await;
    }
    let config = AlterableConfig {
        name: "streams.initial.rebalance.delay.ms".into(),
        config_operation: 0,
        value: Some("0".into()),
    };
    let resource =
        AlterConfigsResource { resource_type: GROUP, resource_name: "g".into(), configs: vec![config] };
    let alter = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    assert_eq!(code(house.ask(1, alter).await.responses[0].error_code), ErrorCode::None);
}

fn names(names: &[&str]) -> Vec<Str> {
    names.iter().map(|name| Str::from(*name)).collect()
}

fn word_count() -> Topology {
    let info = |name: &str| TopicInfo { name: name.into(), ..TopicInfo::default() };
    let cuts = Subtopology {
        subtopology_id: "0".into(),
        source_topics: names(&["lines"]),
        repartition_sink_topics: names(&["words"]),
        ..Subtopology::default()
    };
    let counts = Subtopology {
        subtopology_id: "1".into(),
        repartition_source_topics: vec![info("words")],
        state_changelog_topics: vec![info("counted")],
        ..Subtopology::default()
    };
    Topology { epoch: 0, subtopologies: vec![cuts, counts] }
}

pub fn joining() -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "m".into(),
        rebalance_timeout_ms: 60_000,
        topology: Some(word_count()),
        active_tasks: Some(Vec::new()),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        process_id: Some("p".into()),
        client_tags: Some(Vec::new()),
        ..StreamsGroupHeartbeatRequest::default()
    }
}

/// What a member sends that has nothing new to say.
pub fn beat(epoch: i32) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "m".into(),
        member_epoch: epoch,
        ..StreamsGroupHeartbeatRequest::default()
    }
}

async fn ask(house: &House, request: StreamsGroupHeartbeatRequest) -> StreamsGroupHeartbeatResponse {
    let response = house.ask(0, request).await;
    assert_eq!(code(response.error_code), ErrorCode::None, "{:?}", response.error_message);
    response
}

fn both(tasks: &[i32]) -> Vec<TaskIds> {
    let ids = |id: &str| TaskIds { subtopology_id: id.into(), partitions: tasks.to_vec() };
    vec![ids("0"), ids("1")]
}

fn active(response: &StreamsGroupHeartbeatResponse) -> Vec<TaskIds> {
    let tasks = response.active_tasks.iter().flatten();
    tasks
        .map(|ids| TaskIds { subtopology_id: ids.subtopology_id.clone(), partitions: ids.partitions.clone() })
        .collect()
}

pub fn statuses(response: &StreamsGroupHeartbeatResponse) -> Vec<(i8, Str)> {
    let statuses = response.status.iter().flatten();
    statuses.map(|status| (status.status_code, status.status_detail.clone())).collect()
}

#[test]
fn topics_are_made_and_tasks_outlive_a_restart() {
    story(|| async {
        let house = House::with(SMALL).await;
        house.create_topic("lines", 2, &[]).await;
        open(&house).await;
        let joined = ask(&house, joining()).await;
        assert_eq!(
            statuses(&joined),
            [(MISSING_INTERNAL_TOPICS, "Internal topics are missing: counted, words".into())]
        );
        assert_eq!(active(&joined), []);
        // Before the answer: the next heartbeat finds them.
        assert!(house.topic_exists("words").await && house.topic_exists("counted").await);
        world::task::sleep(Duration::from_secs(2)).await;
        let given = ask(&house, beat(joined.member_epoch)).await;
        assert_eq!(statuses(&given), []);
        assert_eq!(active(&given), both(&[0, 1]));
        assert_eq!(given.standby_tasks, Some(Vec::new()));

        let house = house.restarted().await;
        open(&house).await;
        let same = ask(&house, beat(given.member_epoch)).await;
        assert_eq!((same.member_epoch, same.active_tasks), (given.member_epoch, None));
        let describe = || StreamsGroupDescribeRequest {
            group_ids: names(&["g", "h", ""]),
            include_authorized_operations: true,
            ..StreamsGroupDescribeRequest::default()
        };
        let described = house.ask(0, describe()).await.groups;
        assert_eq!(&*described[0].group_state, "Stable");
        assert_eq!(described[0].authorized_operations, 0x0d48);
        let subtopologies = described[0].topology.as_ref().unwrap().subtopologies.as_ref().unwrap();
        assert_eq!(subtopologies[1].state_changelog_topics[0].partitions, 2);
        let member = &described[0].members[0];
        assert_eq!((&*member.member_id, &*member.process_id, &*member.client_id), ("m", "p", "story"));
        assert_eq!(member.assignment, member.target_assignment);
        assert_eq!(member.assignment.active_tasks.len(), 2);
        assert_eq!(code(described[1].error_code), ErrorCode::GroupIdNotFound);
        assert_eq!(code(described[2].error_code), ErrorCode::InvalidGroupId);
        let classic = DescribeGroupsRequest { groups: names(&["g"]), ..DescribeGroupsRequest::default() };
        assert_eq!(code(house.ask(6, classic).await.groups[0].error_code), ErrorCode::GroupIdNotFound);
        let list = ListGroupsRequest { types_filter: names(&["Streams"]), ..ListGroupsRequest::default() };
        let listed = house.ask(5, list).await.groups;
        assert_eq!(
            (&*listed[0].group_id, &*listed[0].group_type, &*listed[0].protocol_type),
            ("g", "streams", "streams")
        );
    });
}

#[test]
fn a_topic_that_cannot_be_made_is_said() {
    story(|| async {
        let house = House::with(SMALL).await;
        house.create_topic("lines", 2, &[]).await;
        open(&house).await;
        let mut request = joining();
        let topology = request.topology.as_mut().unwrap();
        topology.subtopologies[1].state_changelog_topics[0].replication_factor = 9;
        let joined = ask(&house, request).await;
        let [(status, why)] = &statuses(&joined)[..] else { panic!("{:?}", joined.status) };
        assert_eq!(*status, MISSING_INTERNAL_TOPICS);
        assert!(why.contains("Creation failed: counted (9 replicas"), "{why}");
        assert!(house.topic_exists("words").await, "the other one is there");
        assert!(!house.topic_exists("counted").await);
    });
}

#[test]
fn what_is_not_there_is_refused() {
    story(|| async {
        let house = House::with(SMALL).await;
        house.create_topic("lines", 1, &[]).await;
        open(&house).await;
        type Request = StreamsGroupHeartbeatRequest;
        let with_topics = |topics: &[&str]| {
            let subtopology = Subtopology { source_topics: names(topics), ..Subtopology::default() };
            Some(Topology { epoch: 0, subtopologies: vec![subtopology] })
        };
        let mut sized = word_count();
        sized.subtopologies[1].state_changelog_topics[0].partitions = 3;
        let mut twice = word_count();
        twice.subtopologies[1].subtopology_id = "0".into();
        let mut expression = word_count();
        expression.subtopologies[0].source_topic_regex = names(&["l.*"]);
        let invalid = ErrorCode::InvalidRequest;
        let topology = ErrorCode::StreamsInvalidTopology;
        for (request, expected) in [
            (Request { member_id: "".into(), ..joining() }, invalid),
            (Request { rack_id: Some("".into()), ..joining() }, invalid),
            (Request { rebalance_timeout_ms: -1, ..joining() }, invalid),
            (Request { topology: None, ..joining() }, invalid),
            (Request { topology: Some(word_count()), ..beat(1) }, invalid),
            (Request { active_tasks: Some(both(&[0])), ..joining() }, invalid),
            (Request { active_tasks: Some(Vec::new()), ..beat(1) }, invalid),
            (Request { warmup_tasks: Some(both(&[0])), ..joining() }, invalid),
            (Request { instance_id: Some("".into()), ..joining() }, invalid),
            (Request { topology: Some(expression), ..joining() }, invalid),
            (beat(-2), invalid),
            (beat(-3), invalid),
            (Request { topology: with_topics(&["__consumer_offsets"]), ..joining() }, topology),
            (Request { topology: with_topics(&["a b"]), ..joining() }, topology),
            (Request { topology: with_topics(&[]), ..joining() }, topology),
            (Request { topology: Some(sized), ..joining() }, topology),
            (Request { topology: Some(twice), ..joining() }, topology),
            (beat(1), ErrorCode::GroupIdNotFound),
        ] {
            let shown = format!("{request:?}");
            let refused = house.ask(0, request).await;
            assert_eq!(code(refused.error_code), expected, "{shown}");
        }
        assert_eq!(house.broker.group_counts().groups, 0);
        let versions = ApiVersionsRequest {
            client_software_name: "a".into(),
            client_software_version: "1".into(),
            ..ApiVersionsRequest::default()
        };
        let versions = house.ask(4, versions).await;
        let finalized = versions.finalized_features.iter().find(|feature| feature.name == "streams.version");
        assert_eq!(finalized.map(|feature| feature.max_version_level), Some(1));
    });
}

#[test]
fn what_a_topology_is_made_of_is_asked_for_and_shown() {
    story(|| async {
        let house = House::with(SMALL).await;
        house.create_topic("lines", 1, &[]).await;
        open(&house).await;
        type Push = StreamsGroupTopologyDescriptionUpdateRequest;
        let old = house.ask(0, joining()).await;
        assert_eq!((old.topology_description_required, old.task_offset_interval_ms), (false, 60_000));
        let joined = house.ask(1, joining()).await;
        assert!(joined.topology_description_required);
        assert_eq!(joined.acceptable_recovery_lag, 10_000);
        let node = TopologyDescriptionNode {
            name: "in".into(),
            node_type: 1,
            source_topics: names(&["lines"]),
            ..TopologyDescriptionNode::default()
        };
        let subtopology = TopologyDescriptionSubtopology { subtopology_id: "0".into(), nodes: vec![node] };
        let push = Push {
            group_id: "g".into(),
            member_id: "m".into(),
            topology_epoch: 0,
            topology_description: TopologyDescription {
                subtopologies: vec![subtopology],
                global_stores: Vec::new(),
            },
        };
        let describe = |includes| StreamsGroupDescribeRequest {
            group_ids: names(&["g", "h"]),
            include_topology_description: includes,
            ..StreamsGroupDescribeRequest::default()
        };
        let described = house.ask(1, describe(true)).await.groups;
        assert_eq!(
            (described[0].topology_description_status, described[1].topology_description_status),
            (1, 0)
        );
        for (wrong, expected) in [
            (Push { group_id: "".into(), ..push.clone() }, ErrorCode::InvalidRequest),
            (Push { member_id: "".into(), ..push.clone() }, ErrorCode::InvalidRequest),
            (Push { group_id: "h".into(), ..push.clone() }, ErrorCode::GroupIdNotFound),
            (Push { member_id: "x".into(), ..push.clone() }, ErrorCode::UnknownMemberId),
        ] {
            assert_eq!(code(house.ask(0, wrong).await.error_code), expected);
        }
        assert_eq!(code(house.ask(0, push).await.error_code), ErrorCode::None);
        let shown = &house.ask(1, describe(true)).await.groups[0];
        assert_eq!((shown.topology_description_status, shown.assignor_name.as_deref()), (3, Some("sticky")));
        let nodes = &shown.topology_description.as_ref().unwrap().subtopologies[0].nodes;
        assert_eq!((&*nodes[0].name, &nodes[0].source_topics), ("in", &names(&["lines"])));
        let hidden = &house.ask(1, describe(false)).await.groups[0];
        assert_eq!((hidden.topology_description_status, &hidden.topology_description), (0, &None));
        assert!(!house.ask(1, beat(joined.member_epoch)).await.topology_description_required);
    });
}

#[test]
fn a_static_member_keeps_its_tasks_while_it_is_away() {
    story(|| async {
        let house = House::with(SMALL).await;
        house.create_topic("lines", 1, &[]).await;
        house.create_topic("words", 1, &[]).await;
        house.create_topic("counted", 1, &[]).await;
        open(&house).await;
        type Request = StreamsGroupHeartbeatRequest;
        let instance_id = || Some(Str::from("i"));
        let joined = ask(&house, Request { instance_id: instance_id(), ..joining() }).await;
        assert_eq!(active(&joined), both(&[0]));
        let gone = ask(&house, Request { instance_id: instance_id(), ..beat(-2) }).await;
        assert_eq!(gone.member_epoch, -2);
        let back = Request { instance_id: instance_id(), member_id: "n".into(), ..joining() };
        let back = ask(&house, back).await;
        assert_eq!((back.member_epoch, active(&back)), (joined.member_epoch, both(&[0])));
        let late = house.ask(0, Request { instance_id: instance_id(), ..beat(joined.member_epoch) }).await;
        assert_eq!(code(late.error_code), ErrorCode::FencedInstanceId);
    });
}
