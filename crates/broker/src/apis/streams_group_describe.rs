//! StreamsGroupDescribe v0–1: state, topology, members and tasks of streams groups (KIP-1071).
//!
//! 1: the description of the topology that a member has sent (KIP-1331), the assignor
//!
//! Any other group, of another kind or none at all, is GROUP_ID_NOT_FOUND. A group with topics that the caller may not describe is
//! not shown.
//!
//! Difference: more than `request.partitions.max` groups are INVALID_REQUEST, and those that an answer has no room for any more
//! (`answer_room.rs`) COORDINATOR_LOAD_IN_PROGRESS: tools ask for them again.

use std::collections::BTreeSet;

use catalog::acl::AclOperation;
use protocol::messages::streams_group_describe_response::{
    Assignment, DescribedGroup, Endpoint, KeyValue, Member, Subtopology, TaskIds, TopicInfo, Topology,
    TopologyDescription, TopologyDescriptionGlobalStore, TopologyDescriptionNode,
    TopologyDescriptionSubtopology,
};
use protocol::messages::streams_group_topology_description_update_request as pushed;
use protocol::messages::streams_group_topology_value as stored;
use protocol::messages::{StreamsGroupDescribeRequest, StreamsGroupDescribeResponse};
use protocol::{ErrorCode, Str};

use super::streams_group_heartbeat;
use crate::answer_room::AnswerRoom;
use crate::authorizer::Resource;
use crate::groups::{self, DescribedStreamsMember, TaskSets, Tasks};
use crate::request::RequestContext;

/// Kafka's states of a description.
const DESCRIPTION_NOT_REQUESTED: i8 = 0;
const DESCRIPTION_NOT_STORED: i8 = 1;
const DESCRIPTION_AVAILABLE: i8 = 3;

pub(crate) async fn handle(
    context: RequestContext,
    request: StreamsGroupDescribeRequest,
) -> StreamsGroupDescribeResponse {
    let is_asked = request.include_authorized_operations;
    let mut room = AnswerRoom::of(&context, request.group_ids.len());
    let groups = request.group_ids.into_iter().map(|group_id| {
        let may_be_told = room
            .check(ErrorCode::CoordinatorLoadInProgress)
            .and_then(|()| context.authorize(AclOperation::Describe, Resource::Group(&group_id)));
        if let Err(code) = may_be_told {
            return DescribedGroup { error_code: code.code(), group_id, ..DescribedGroup::default() };
        }
        let mut described = describe(&context, group_id, request.include_topology_description);
        if is_asked && described.error_code == ErrorCode::None.code() {
            described.authorized_operations =
                context.authorized_operations(Resource::Group(&described.group_id));
        }
        let described = without_hidden_topics(&context, described);
        room.take(told_bytes(&described));
        described
    });
    StreamsGroupDescribeResponse { groups: groups.collect(), ..StreamsGroupDescribeResponse::default() }
}

fn without_hidden_topics(context: &RequestContext, described: DescribedGroup) -> DescribedGroup {
    let subtopologies =
        described.topology.iter().flat_map(|topology| topology.subtopologies.iter().flatten());
    let topics: BTreeSet<&Str> = subtopologies
        .flat_map(|one| {
            let own = one.repartition_source_topics.iter().chain(&one.state_changelog_topics);
            one.source_topics.iter().chain(&one.repartition_sink_topics).chain(own.map(|info| &info.name))
        })
        .collect();
    let is_hidden = |topic: &&Str| context.authorize(AclOperation::Describe, Resource::Topic(topic)).is_err();
    if !topics.into_iter().any(|topic| is_hidden(&topic)) {
        return described;
    }
    DescribedGroup {
        error_code: ErrorCode::TopicAuthorizationFailed.code(),
        error_message: Some(Str::from_static(
            "The described group uses topics that the client is not authorized to describe.",
        )),
        group_id: described.group_id,
        ..DescribedGroup::default()
    }
}

/// How long what is told of a group is, about.
fn told_bytes(group: &DescribedGroup) -> usize {
    const MEMBER_BYTES: usize = 96;
    let pair = |pair: &KeyValue| 4 + pair.key.len() + pair.value.len();
    let info = |info: &TopicInfo| 16 + info.name.len() + info.topic_configs.iter().map(pair).sum::<usize>();
    let subtopology = |one: &Subtopology| {
        let names = one.source_topics.iter().chain(&one.repartition_sink_topics).map(|name| 2 + name.len());
        let infos = one.state_changelog_topics.iter().chain(&one.repartition_source_topics).map(info);
        16 + one.subtopology_id.len() + names.chain(infos).sum::<usize>()
    };
    let tasks = |assignment: &Assignment| {
        let tasks = [&assignment.active_tasks, &assignment.standby_tasks, &assignment.warmup_tasks];
        let tasks = tasks.into_iter().flatten();
        tasks.map(|tasks| 8 + tasks.subtopology_id.len() + 4 * tasks.partitions.len()).sum::<usize>()
    };
    let member = |member: &Member| {
        let texts = [&member.member_id, &member.client_id, &member.client_host, &member.process_id];
        MEMBER_BYTES
            + texts.iter().map(|text| text.len()).sum::<usize>()
            + member.client_tags.iter().map(pair).sum::<usize>()
            + tasks(&member.assignment)
            + tasks(&member.target_assignment)
    };
    let node = |node: &TopologyDescriptionNode| {
        let names =
            node.source_topics.iter().chain(&node.sink_topic).chain(&node.stores).chain(&node.successors);
        8 + node.name.len() + names.map(|name| 2 + name.len()).sum::<usize>()
    };
    let described = group.topology_description.iter();
    let nodes = described.clone().flat_map(|all| all.subtopologies.iter().flat_map(|one| &one.nodes));
    let stores =
        described.flat_map(|all| all.global_stores.iter().flat_map(|one| [&one.source, &one.processor]));
    let description: usize = nodes.chain(stores).map(node).sum();
    let subtopologies = group.topology.iter().flat_map(|topology| topology.subtopologies.iter().flatten());
    subtopologies.map(subtopology).chain(group.members.iter().map(member)).sum::<usize>() + description
}

fn describe(context: &RequestContext, group_id: Str, with_description: bool) -> DescribedGroup {
    let refused = |error: ErrorCode, message: Option<Str>, group_id: Str| DescribedGroup {
        error_code: error.code(),
        error_message: message,
        group_id,
        ..DescribedGroup::default()
    };
    if !streams_group_heartbeat::is_enabled(context) {
        return refused(ErrorCode::UnsupportedVersion, None, group_id);
    }
    if group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId, None, group_id);
    }
    match context.broker.groups.with(&group_id, |shard, _, _| shard.describe_streams_group(&group_id)) {
        Err(error) => refused(error, None, group_id),
        Ok(Err(refusal)) => refused(refusal.error, Some(Str::from(refusal.message)), group_id),
        Ok(Ok(described)) => {
            let kept = described.description.filter(|_| with_description);
            DescribedGroup {
                group_id,
                group_state: Str::from_static(described.state.name()),
                group_epoch: described.epoch,
                assignment_epoch: described.assignment_epoch,
                topology: described.topology.map(topology),
                members: described.members.into_iter().map(member).collect(),
                topology_description_status: match (with_description, &kept) {
                    (false, _) => DESCRIPTION_NOT_REQUESTED,
                    (true, None) => DESCRIPTION_NOT_STORED,
                    (true, Some(_)) => DESCRIPTION_AVAILABLE,
                },
                topology_description: kept.map(|kept| description(&kept)),
                assignor_name: Some(Str::from_static(groups::STREAMS_ASSIGNOR)),
                ..DescribedGroup::default()
            }
        }
    }
}

fn description(kept: &pushed::TopologyDescription) -> TopologyDescription {
    let node = |node: &pushed::TopologyDescriptionNode| {
        let pushed::TopologyDescriptionNode {
            name,
            node_type,
            source_topics,
            sink_topic,
            stores,
            successors,
        } = node.clone();
        TopologyDescriptionNode { name, node_type, source_topics, sink_topic, stores, successors }
    };
    let subtopology = |one: &pushed::TopologyDescriptionSubtopology| TopologyDescriptionSubtopology {
        subtopology_id: one.subtopology_id.clone(),
        nodes: one.nodes.iter().map(node).collect(),
    };
    let store = |store: &pushed::TopologyDescriptionGlobalStore| TopologyDescriptionGlobalStore {
        source: node(&store.source),
        processor: node(&store.processor),
    };
    TopologyDescription {
        subtopologies: kept.subtopologies.iter().map(subtopology).collect(),
        global_stores: kept.global_stores.iter().map(store).collect(),
    }
}

fn topology(described: groups::Topology) -> Topology {
    let sorted = |mut topics: Vec<Str>| {
        topics.sort_unstable();
        topics
    };
    let info = |info: stored::TopicInfo| TopicInfo {
        name: info.name,
        partitions: info.partitions,
        replication_factor: info.replication_factor,
        topic_configs: info
            .topic_configs
            .into_iter()
            .map(|config| KeyValue { key: config.key, value: config.value })
            .collect(),
    };
    let infos = |infos: Vec<stored::TopicInfo>| {
        let mut infos: Vec<TopicInfo> = infos.into_iter().map(info).collect();
        infos.sort_by(|left, right| left.name.cmp(&right.name));
        infos
    };
    let subtopology = |one: stored::Subtopology| Subtopology {
        subtopology_id: one.subtopology_id,
        source_topics: sorted(one.source_topics),
        repartition_sink_topics: sorted(one.repartition_sink_topics),
        state_changelog_topics: infos(one.state_changelog_topics),
        repartition_source_topics: infos(one.repartition_source_topics),
    };
    Topology {
        epoch: described.epoch,
        subtopologies: Some(described.subtopologies.into_values().map(subtopology).collect()),
    }
}

fn member(member: DescribedStreamsMember) -> Member {
    Member {
        member_id: member.member_id,
        member_epoch: member.epoch,
        instance_id: member.instance_id,
        rack_id: member.rack_id,
        client_id: member.client_id,
        client_host: member.client_host,
        topology_epoch: member.topology_epoch,
        process_id: member.process_id,
        user_endpoint: member.endpoint.map(|at| Endpoint { host: at.host, port: at.port }),
        client_tags: member.client_tags.into_iter().map(|(key, value)| KeyValue { key, value }).collect(),
        assignment: assignment(member.held),
        target_assignment: assignment(member.target),
        ..Member::default()
    }
}

fn assignment(tasks: TaskSets) -> Assignment {
    let ids = |tasks: Tasks| {
        let ids = |(subtopology_id, partitions): (Str, BTreeSet<i32>)| TaskIds {
            subtopology_id,
            partitions: partitions.into_iter().collect(),
        };
        tasks.into_iter().map(ids).collect()
    };
    Assignment {
        active_tasks: ids(tasks.active),
        standby_tasks: ids(tasks.standby),
        warmup_tasks: ids(tasks.warmup),
    }
}
