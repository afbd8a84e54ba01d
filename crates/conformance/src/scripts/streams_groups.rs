//! StreamsGroupHeartbeat and StreamsGroupDescribe (KIP-1071), StreamsGroupTopologyDescriptionUpdate (KIP-1331).

use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::streams_group_heartbeat_request::{
    CopartitionGroup, Endpoint, KeyValue, Subtopology, TaskIds, TaskOffset, TopicInfo, Topology,
};
use protocol::messages::streams_group_topology_description_update_request::{
    TopologyDescription, TopologyDescriptionGlobalStore, TopologyDescriptionNode,
    TopologyDescriptionSubtopology,
};
use protocol::messages::{
    DeleteGroupsRequest, IncrementalAlterConfigsRequest, JoinGroupRequest, ListGroupsRequest,
    StreamsGroupDescribeRequest, StreamsGroupHeartbeatRequest, StreamsGroupTopologyDescriptionUpdateRequest,
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
    script(ApiKey::StreamsGroupHeartbeat, "static members", statics),
    script(ApiKey::StreamsGroupHeartbeat, "who is asked for a description", asked_for_descriptions),
    script(ApiKey::StreamsGroupDescribe, "groups", describe),
    script(ApiKey::StreamsGroupTopologyDescriptionUpdate, "descriptions", descriptions),
];

/// As a client makes it.
const MEMBER: &str = "bWVtYmVyLW9mLXN0cmVhbXM";
const OTHER: &str = "b3RoZXItb2Ytc3RyZWFtcw";
const LEAVES: i32 = -1;
const LEAVES_FOR_A_WHILE: i32 = -2;
/// The version of StreamsGroupDescribe.
const DESCRIBED_SINCE: i16 = 1;
const SET: i8 = 0;
const GROUP_RESOURCE: i8 = 32;

/// The first member is not kept waiting for others.
fn group(c: &mut Conversation) -> Str {
    group_named(c, "g")
}

fn group_named(c: &mut Conversation, name: &str) -> Str {
    let group = c.group(name);
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
    let offset = |partition| {
        let at = TaskOffset { subtopology_id: "0".into(), partition, offset: 5 };
        Some(vec![at])
    };
    let told = StreamsGroupHeartbeatRequest {
        task_offsets: offset(0),
        task_end_offsets: offset(0),
        ..beat(&g, epoch)
    };
    c.ask("how far its copies are", &told);
    let nowhere = StreamsGroupHeartbeatRequest { task_offsets: offset(7), ..beat(&g, epoch) };
    c.ask("how far a copy is that it does not have", &nowhere);
    let nothing = StreamsGroupHeartbeatRequest { task_end_offsets: Some(Vec::new()), ..beat(&g, epoch) };
    c.ask("no copies", &nothing);
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

fn statics(c: &mut Conversation) {
    let (g, a) = (group(c), c.topic("a", 2));
    await_coordinator_of(c, &a);
    type Request = StreamsGroupHeartbeatRequest;
    let of = |request: Request| Request { instance_id: Some("i".into()), ..request };
    let other = |request: Request| Request { member_id: OTHER.into(), ..of(request) };
    let joins = || join(&g, vec![reads(&[&a.name])]);
    let joined = c.ask("joins", &of(joins()));
    let epoch = joined.map_or(0, |joined| joined.member_epoch);
    c.ask("is there", &of(beat(&g, epoch)));
    c.ask("does not say which", &beat(&g, epoch));
    c.ask("another of its name", &other(joins()));
    c.ask("another of its name that is not in the group", &other(beat(&g, epoch)));
    c.ask("an unknown name", &Request { instance_id: Some("j".into()), ..beat(&g, epoch) });
    c.ask("joins again", &of(joins()));
    c.ask("another leaves in its name", &other(beat(&g, LEAVES)));
    c.ask("leaves for a while", &of(beat(&g, LEAVES_FOR_A_WHILE)));
    c.ask("is away", &of(beat(&g, epoch)));
    let described =
        |g: &Str| StreamsGroupDescribeRequest { group_ids: vec![g.clone()], ..Default::default() };
    c.ask("shown while it is away", &described(&g));
    let back = c.ask("another takes its place", &other(joins()));
    let epoch = back.map_or(0, |back| back.member_epoch);
    c.ask("the first one", &of(beat(&g, epoch)));
    c.ask("goes on", &other(beat(&g, epoch)));
    c.ask("shown", &described(&g));
    c.ask("leaves", &other(beat(&g, LEAVES)));
    c.ask("shown when it has left", &described(&g));
    c.ask("leaves for a while when it has left", &other(beat(&g, LEAVES_FOR_A_WHILE)));
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
        // Kafka remembers when it has asked a group for a description, longer than the group.
        let g = group_named(c, &label.replace(' ', "-"));
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
    if c.version() >= DESCRIBED_SINCE {
        c.ask("its description, which is not there", &describing(&g));
    }
    c.help(&beat(&g, LEAVES));
    c.ask("an empty one", &of(&[&g]));
}

fn describing(group: &Str) -> StreamsGroupDescribeRequest {
    StreamsGroupDescribeRequest {
        group_ids: vec![group.clone()],
        include_topology_description: true,
        ..StreamsGroupDescribeRequest::default()
    }
}

const SOURCE: i8 = 1;
const PROCESSOR: i8 = 2;
const SINK: i8 = 3;

/// Every field has something in it; which of them count depends on the kind.
fn node(name: &str, node_type: i8, successors: &[&str]) -> TopologyDescriptionNode {
    TopologyDescriptionNode {
        name: name.into(),
        node_type,
        source_topics: vec!["b".into(), "a".into(), "b".into()],
        sink_topic: Some("c".into()),
        stores: vec!["t".into(), "s".into()],
        successors: successors.iter().map(|name| Str::from(*name)).collect(),
    }
}

fn described(nodes: Vec<TopologyDescriptionNode>, stores: &[(i8, i8)]) -> TopologyDescription {
    let subtopology = TopologyDescriptionSubtopology { subtopology_id: "0".into(), nodes };
    let store = |(source, processor): &(i8, i8)| TopologyDescriptionGlobalStore {
        source: node("source of all", *source, &["keeper"]),
        processor: node("keeper", *processor, &[]),
    };
    TopologyDescription {
        subtopologies: vec![subtopology],
        global_stores: stores.iter().map(store).collect(),
    }
}

fn pushing(group: &Str, description: TopologyDescription) -> StreamsGroupTopologyDescriptionUpdateRequest {
    StreamsGroupTopologyDescriptionUpdateRequest {
        group_id: group.clone(),
        member_id: MEMBER.into(),
        topology_epoch: 0,
        topology_description: description,
    }
}

fn pipe() -> TopologyDescription {
    let nodes =
        vec![node("in", SOURCE, &["work"]), node("work", PROCESSOR, &["out"]), node("out", SINK, &[])];
    described(nodes, &[(SOURCE, PROCESSOR)])
}

fn asked_for_descriptions(c: &mut Conversation) {
    let (g, a) = (group(c), c.topic("a", 1));
    await_coordinator_of(c, &a);
    let joined = c.ask("joins", &join(&g, vec![reads(&[&a.name])]));
    let epoch = joined.map_or(0, |joined| joined.member_epoch);
    c.ask("was asked a moment ago", &beat(&g, epoch));
    c.help(&pushing(&g, pipe()));
    c.ask("has sent it", &join(&g, vec![reads(&[&a.name])]));
    c.ask("leaves", &beat(&g, LEAVES));
}

fn descriptions(c: &mut Conversation) {
    let (g, a) = (group(c), c.topic("a", 1));
    await_coordinator_of(c, &a);
    c.help(&join(&g, vec![reads(&[&a.name])]));
    type Request = StreamsGroupTopologyDescriptionUpdateRequest;
    let plain = pushing(&g, pipe());
    for (label, request) in [
        ("no group", Request { group_id: "".into(), ..plain.clone() }),
        ("an unknown group", Request { group_id: c.name("x"), ..plain.clone() }),
        ("no member", Request { member_id: "".into(), ..plain.clone() }),
        ("an unknown member", Request { member_id: "x".into(), ..plain.clone() }),
        ("an older epoch", Request { topology_epoch: -1, ..plain.clone() }),
        ("a newer epoch", Request { topology_epoch: 1, ..plain.clone() }),
        ("an unknown kind of node", pushing(&g, described(vec![node("x", 4, &[])], &[]))),
        ("no kind of node", pushing(&g, described(vec![node("x", 0, &[])], &[]))),
        ("a store of two sources", pushing(&g, described(Vec::new(), &[(SOURCE, SOURCE)]))),
        ("a store the wrong way round", pushing(&g, described(Vec::new(), &[(PROCESSOR, SOURCE)]))),
    ] {
        c.ask(label, &request);
    }
    c.ask("before", &describing(&g));
    c.ask("one", &plain);
    c.ask("shown", &describing(&g));
    c.ask(
        "not asked for",
        &StreamsGroupDescribeRequest { include_topology_description: false, ..describing(&g) },
    );
    c.ask("an unknown group is shown", &describing(&c.name("x")));
    let twice = vec![node("in", SOURCE, &["x", "x", "a"]), node("in", SOURCE, &[])];
    c.ask("names that stand there twice", &pushing(&g, described(twice, &[])));
    c.ask("those are shown", &describing(&g));
    c.ask("nothing", &pushing(&g, TopologyDescription::default()));
    c.ask("nothing is shown", &describing(&g));
    c.help(&plain);
    c.help(&beat(&g, LEAVES));
    c.ask("who has left", &plain);
    c.ask("of a group that is empty", &describing(&g));
    c.ask("deleted", &DeleteGroupsRequest { groups_names: vec![g.clone()] });
    c.ask("of a group that is gone", &plain);
}
