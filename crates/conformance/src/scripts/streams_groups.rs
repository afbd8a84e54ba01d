//! StreamsGroupHeartbeat and StreamsGroupDescribe (KIP-1071).

use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::streams_group_heartbeat_request::{
    CopartitionGroup, Endpoint, KeyValue, Subtopology, TaskIds, TopicInfo, Topology,
};
use protocol::messages::{
    DeleteGroupsRequest, IncrementalAlterConfigsRequest, JoinGroupRequest, ListGroupsRequest,
    StreamsGroupDescribeRequest, StreamsGroupHeartbeatRequest,
};
use protocol::{ApiKey, Str};

use super::consumer_groups::await_coordinator_of;
use super::setup::Topic;
use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::StreamsGroupHeartbeat, "one member", beats),
    script(ApiKey::StreamsGroupHeartbeat, "wrong ones", wrong_beats),
    script(ApiKey::StreamsGroupHeartbeat, "topologies", topologies),
    script(ApiKey::StreamsGroupDescribe, "groups", describe),
];

/// As a client makes it.
const MEMBER: &str = "bWVtYmVyLW9mLXN0cmVhbXM";
const LEAVES: i32 = -1;
const SET: i8 = 0;
const GROUP_RESOURCE: i8 = 32;

/// The first member is not kept waiting for others.
fn group(c: &mut Conversation) -> Str {
    let group = c.group("g");
    let resource = AlterConfigsResource {
        resource_type: GROUP_RESOURCE,
        resource_name: group.clone(),
        configs: vec![AlterableConfig {
            name: "streams.initial.rebalance.delay.ms".into(),
            config_operation: SET,
            value: Some("0".into()),
        }],
    };
    c.help(&IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false });
    group
}

fn reads(topics: &[&Str]) -> Subtopology {
    Subtopology {
        subtopology_id: "0".into(),
        source_topics: topics.iter().map(|topic| (*topic).clone()).collect(),
        ..Subtopology::default()
    }
}

fn join(group: &Str, subtopologies: Vec<Subtopology>) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        group_id: group.clone(),
        member_id: MEMBER.into(),
        rebalance_timeout_ms: 60_000,
        topology: Some(Topology { epoch: 0, subtopologies }),
        active_tasks: Some(Vec::new()),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        process_id: Some("process".into()),
        client_tags: Some(Vec::new()),
        ..StreamsGroupHeartbeatRequest::default()
    }
}

fn beat(group: &Str, member_epoch: i32) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        group_id: group.clone(),
        member_id: MEMBER.into(),
        member_epoch,
        ..StreamsGroupHeartbeatRequest::default()
    }
}

fn owns(tasks: &[i32], request: StreamsGroupHeartbeatRequest) -> StreamsGroupHeartbeatRequest {
    let ids = TaskIds { subtopology_id: "0".into(), partitions: tasks.to_vec() };
    StreamsGroupHeartbeatRequest {
        active_tasks: Some(vec![ids]),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        ..request
    }
}

fn beats(c: &mut Conversation) {
    let (g, a) = (group(c), c.topic("a", 2));
    await_coordinator_of(c, &a);
    let joined = c.ask("joins", &join(&g, vec![reads(&[&a.name])]));
    let epoch = joined.map_or(0, |joined| joined.member_epoch);
    c.ask("has its tasks", &owns(&[0, 1], beat(&g, epoch)));
    c.ask("is there", &beat(&g, epoch));
    c.ask("an older epoch", &beat(&g, epoch - 1));
    c.ask("a newer epoch", &beat(&g, epoch + 1));
    c.ask("a task that is not there", &owns(&[2], beat(&g, epoch)));
    c.ask("an unknown member", &StreamsGroupHeartbeatRequest { member_id: "x".into(), ..beat(&g, epoch) });
    c.ask(
        "a consumer of old",
        &JoinGroupRequest {
            group_id: g.clone(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
            protocol_type: "consumer".into(),
            ..JoinGroupRequest::default()
        },
    );
    c.ask("is not empty", &DeleteGroupsRequest { groups_names: vec![g.clone()] });
    c.ask("stops all", &StreamsGroupHeartbeatRequest { shutdown_application: true, ..beat(&g, epoch) });
    c.ask("leaves", &beat(&g, LEAVES));
    c.ask("has left", &beat(&g, epoch));
    c.ask("leaves again", &beat(&g, LEAVES));
    let streams = ListGroupsRequest { types_filter: vec!["streams".into()], ..ListGroupsRequest::default() };
    c.help(&streams);
    c.ask("is deleted", &DeleteGroupsRequest { groups_names: vec![g.clone()] });
    c.ask("is gone", &beat(&g, epoch));
}

fn wrong_beats(c: &mut Conversation) {
    let (g, a) = (group(c), c.topic("a", 1));
    await_coordinator_of(c, &a);
    let plain = join(&g, vec![reads(&[&a.name])]);
    type Request = StreamsGroupHeartbeatRequest;
    let tag = KeyValue { key: "k".into(), value: "v".into() };
    for (label, request) in [
        ("no group", Request { group_id: "".into(), ..plain.clone() }),
        ("no member", Request { member_id: "".into(), ..plain.clone() }),
        ("no time", Request { rebalance_timeout_ms: -1, ..plain.clone() }),
        ("no topology", Request { topology: None, ..plain.clone() }),
        ("a topology later", Request { member_epoch: 1, ..plain.clone() }),
        ("owns something before", owns(&[0], plain.clone())),
        (
            "some of its tasks",
            Request { standby_tasks: None, member_epoch: 1, topology: None, ..plain.clone() },
        ),
        ("an instance", Request { instance_id: Some("i".into()), ..plain.clone() }),
        ("an empty rack", Request { rack_id: Some("".into()), ..plain.clone() }),
        ("offsets", Request { task_offsets: Some(Vec::new()), ..plain.clone() }),
        ("end offsets", Request { task_end_offsets: Some(Vec::new()), ..plain.clone() }),
        ("an epoch below all", Request { member_epoch: -9, topology: None, ..plain.clone() }),
        ("leaves for a while", Request { member_epoch: -2, topology: None, ..plain.clone() }),
        ("no group of this name", beat(&c.name("x"), 1)),
        ("leaves no group", beat(&c.name("x"), LEAVES)),
        (
            "says much",
            Request {
                rack_id: Some("r".into()),
                client_tags: Some(vec![tag]),
                user_endpoint: Some(Endpoint { host: "h".into(), port: 1 }),
                ..plain
            },
        ),
    ] {
        c.ask(label, &request);
    }
}

fn info(name: &Str, partitions: i32) -> TopicInfo {
    TopicInfo { name: name.clone(), partitions, ..TopicInfo::default() }
}

/// Each in a group of its own: what is missing is never made, since the answers are what is looked at.
fn topologies(c: &mut Conversation) {
    let (a, b): (Topic, Topic) = (c.topic("a", 2), c.topic("b", 3));
    await_coordinator_of(c, &a);
    await_coordinator_of(c, &b);
    let (own, nowhere) = (c.name("own"), c.name("nowhere"));
    let both = CopartitionGroup { source_topics: vec![0, 1], ..CopartitionGroup::default() };
    for (label, subtopologies) in [
        ("a source that is missing", vec![reads(&[&nowhere])]),
        (
            "joined and of two sizes",
            vec![Subtopology { copartition_groups: vec![both], ..reads(&[&a.name, &b.name]) }],
        ),
        (
            "one of its own topics is there, with another size",
            vec![Subtopology { state_changelog_topics: vec![info(&b.name, 0)], ..reads(&[&a.name]) }],
        ),
        (
            "a changelog with a size",
            vec![Subtopology { state_changelog_topics: vec![info(&own, 4)], ..reads(&[&a.name]) }],
        ),
        (
            "a circle",
            vec![Subtopology {
                repartition_source_topics: vec![info(&own, 0)],
                repartition_sink_topics: vec![own.clone()],
                ..reads(&[])
            }],
        ),
        ("an internal topic", vec![reads(&[&"__consumer_offsets".into()])]),
        ("a name that is none", vec![reads(&[&"a b".into()])]),
        ("an expression", vec![Subtopology { source_topic_regex: vec!["a.*".into()], ..reads(&[]) }]),
    ] {
        let g = group(c);
        c.ask(label, &join(&g, subtopologies));
        c.help(&beat(&g, LEAVES));
        c.help(&DeleteGroupsRequest { groups_names: vec![g] });
    }
}

fn describe(c: &mut Conversation) {
    let (g, a) = (group(c), c.topic("a", 1));
    await_coordinator_of(c, &a);
    c.help(&join(&g, vec![reads(&[&a.name])]));
    let of = |groups: &[&Str]| StreamsGroupDescribeRequest {
        group_ids: groups.iter().map(|group| (*group).clone()).collect(),
        ..StreamsGroupDescribeRequest::default()
    };
    c.ask("one", &of(&[&g]));
    c.ask("an unknown one", &of(&[&c.name("x")]));
    c.ask("no name", &of(&[&"".into()]));
    c.ask("none", &of(&[]));
    c.help(&beat(&g, LEAVES));
    c.ask("an empty one", &of(&[&g]));
}
