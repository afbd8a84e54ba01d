//! StreamsGroupHeartbeat v0–1: a member of a streams group joins with its topology, lives, learns its tasks and leaves (KIP-1071).
//!
//! The answer waits until what it says is in the log. Topics that the application needs for itself are made here, as the caller,
//! before the answer that says that they are missing: the next heartbeat finds them. Kafka makes them behind the answer and tells
//! why it could not in a later one. Other differences: see `groups/streams/mod.rs`.
//!
//! How far its copies are a member may say, from version 1 on as often as it is told; as in Kafka 4.4, nothing follows from it yet.
//!
//! 1: asks for a description of the topology (KIP-1331)

use std::collections::{BTreeMap, BTreeSet};

use catalog::acl::AclOperation;
use catalog::topic_name;
use protocol::messages::streams_group_heartbeat_request as asked;
use protocol::messages::streams_group_heartbeat_response::{
    Endpoint, EndpointToPartitions, Status, TaskIds, TopicPartition,
};
use protocol::messages::streams_group_topology_value as stored;
use protocol::messages::{
    StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse, StreamsGroupTopologyValue,
};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::error::ApiError;
use crate::groups::{
    self, Answer, InternalTopic, Refusal, STREAMS_JOINING_EPOCH, STREAMS_LEAVING_FOR_A_WHILE_EPOCH,
    STREAMS_PROTOCOL_TYPE, StreamsHeartbeatAnswer, StreamsStatus, StreamsStatusCode, TaskSets, Tasks,
    Topology,
};
use crate::request::RequestContext;
use crate::topics::NewTopic;

/// Clients are told of a quota that is used up in a status, so it may be strict in every version.
const THROTTLED_SINCE: i16 = 0;
const DESCRIPTIONS_SINCE: i16 = 1;

pub(crate) async fn handle(
    context: RequestContext,
    request: StreamsGroupHeartbeatRequest,
) -> StreamsGroupHeartbeatResponse {
    let mut answer = match check(&context, &request) {
        Ok(()) => heartbeat(&context, request).await,
        Err(refusal) => refusal.into(),
    };
    let missing = std::mem::take(&mut answer.missing_topics);
    let mut throttle_time_ms = 0;
    if !missing.is_empty() {
        let (why_not, throttled_ms) = make_topics(&context, missing).await;
        throttle_time_ms = throttled_ms;
        let statuses = &mut answer.statuses;
        let of_missing =
            statuses.iter_mut().find(|status| status.code == StreamsStatusCode::MissingInternalTopics);
        if let (Some(status), Some(why_not)) = (of_missing, why_not) {
            status.detail.push_str(&why_not);
        }
    }
    response(answer, throttle_time_ms)
}

/// `group.coordinator.rebalance.protocols`
pub(super) fn is_enabled(context: &RequestContext) -> bool {
    let protocols = context.broker.config().group_coordinator_rebalance_protocols();
    protocols.iter().any(|protocol| protocol.eq_ignore_ascii_case(STREAMS_PROTOCOL_TYPE))
}

fn check(context: &RequestContext, request: &StreamsGroupHeartbeatRequest) -> Result<(), Refusal> {
    if !is_enabled(context) {
        return Err(Refusal::new(
            ErrorCode::UnsupportedVersion,
            "The streams rebalance protocol is disabled.",
        ));
    }
    context
        .authorize(AclOperation::Read, Resource::Group(&request.group_id))
        .map_err(|code| Refusal::new(code, ""))?;
    if let Some(topology) = &request.topology {
        check_topics(context, topology)?;
    }
    check_unsupported(request)?;
    check_fields(request)
}

/// Every topic of a topology must be one that the caller may know of.
fn check_topics(context: &RequestContext, topology: &asked::Topology) -> Result<(), Refusal> {
    let topics: BTreeSet<&Str> = topology
        .subtopologies
        .iter()
        .flat_map(|one| {
            let own = one.repartition_source_topics.iter().chain(&one.state_changelog_topics);
            let others = one.source_topics.iter().chain(&one.repartition_sink_topics);
            others.chain(own.map(|info| &info.name))
        })
        .collect();
    let these = |holds: &dyn Fn(&str) -> bool| {
        let these: Vec<&str> =
            topics.iter().map(|topic| topic.as_str()).filter(|topic| holds(topic)).collect();
        (!these.is_empty()).then(|| these.join(","))
    };
    let is_internal = |topic: &str| topic_name::is_internal(topic) || topic == topic_name::CLUSTER_METADATA;
    if let Some(internal) = these(&is_internal) {
        return Err(Refusal::new(
            ErrorCode::StreamsInvalidTopology,
            format!("Use of Kafka internal topics {internal} in a Kafka Streams topology is prohibited."),
        ));
    }
    if let Some(invalid) = these(&|topic| topic_name::validate(topic).is_err()) {
        return Err(Refusal::new(
            ErrorCode::StreamsInvalidTopology,
            format!("Topic names {invalid} are not valid topic names."),
        ));
    }
    for topic in topics {
        context
            .authorize(AclOperation::Describe, Resource::Topic(topic))
            .map_err(|code| Refusal::new(code, ""))?;
    }
    Ok(())
}

/// What the protocol knows and Kafka 4.4 does not do.
fn check_unsupported(request: &StreamsGroupHeartbeatRequest) -> Result<(), Refusal> {
    let refuse = |why: &str| Err(Refusal::new(ErrorCode::InvalidRequest, why));
    let subtopologies = request.topology.iter().flat_map(|topology| &topology.subtopologies);
    match subtopologies.into_iter().all(|one| one.source_topic_regex.is_empty()) {
        true => Ok(()),
        false => refuse("Regular expressions for source topics are not supported yet."),
    }
}

fn check_fields(request: &StreamsGroupHeartbeatRequest) -> Result<(), Refusal> {
    let refuse = |why: &str| Err(Refusal::new(ErrorCode::InvalidRequest, why));
    if request.member_id.is_empty() {
        return refuse("MemberId can't be empty.");
    }
    if request.group_id.is_empty() {
        return refuse("GroupId can't be empty.");
    }
    if request.instance_id.as_ref().is_some_and(|id| id.is_empty()) {
        return refuse("InstanceId can't be empty.");
    }
    if request.rack_id.as_ref().is_some_and(|rack| rack.is_empty()) {
        return refuse("RackId can't be empty.");
    }
    let has_some =
        |tasks: &Option<Vec<asked::TaskIds>>| tasks.as_ref().is_some_and(|tasks| !tasks.is_empty());
    match request.member_epoch {
        STREAMS_JOINING_EPOCH => {
            if request.rebalance_timeout_ms == -1 {
                return refuse("RebalanceTimeoutMs must be provided in first request.");
            }
            if has_some(&request.active_tasks) {
                return refuse("ActiveTasks must be empty when (re-)joining.");
            }
            if has_some(&request.standby_tasks) {
                return refuse("StandbyTasks must be empty when (re-)joining.");
            }
            if has_some(&request.warmup_tasks) {
                return refuse("WarmupTasks must be empty when (re-)joining.");
            }
            let Some(topology) = &request.topology else {
                return refuse("Topology must be non-null when (re-)joining.");
            };
            check_changelogs(topology)?;
        }
        STREAMS_LEAVING_FOR_A_WHILE_EPOCH if request.instance_id.is_none() => {
            return refuse("InstanceId can't be null.");
        }
        epoch if epoch < STREAMS_LEAVING_FOR_A_WHILE_EPOCH => {
            return refuse(&format!("MemberEpoch is {epoch}, but must be greater than or equal to -2."));
        }
        _ => {}
    }
    let said = [&request.active_tasks, &request.standby_tasks, &request.warmup_tasks].map(Option::is_some);
    if said != [said[0]; 3] {
        return refuse("If one task-type is non-null, all must be non-null.");
    }
    match request.topology.is_some() && request.member_epoch != STREAMS_JOINING_EPOCH {
        true => refuse("Topology can only be provided when (re-)joining."),
        false => Ok(()),
    }
}

/// A changelog has as many partitions as there are tasks; nobody else can say how many.
fn check_changelogs(topology: &asked::Topology) -> Result<(), Refusal> {
    let changelogs = topology.subtopologies.iter().flat_map(|one| &one.state_changelog_topics);
    match changelogs.into_iter().find(|info| info.partitions != 0) {
        None => Ok(()),
        Some(info) => Err(Refusal::new(
            ErrorCode::StreamsInvalidTopology,
            format!(
                "Changelog topic {} must have an undefined partition count, but it is set to {}.",
                info.name, info.partitions
            ),
        )),
    }
}

async fn heartbeat(
    context: &RequestContext,
    request: StreamsGroupHeartbeatRequest,
) -> StreamsHeartbeatAnswer {
    let topology = match request.topology.map(topology).transpose() {
        Ok(topology) => topology,
        Err(refusal) => return refusal.into(),
    };
    let owned = match (request.active_tasks, request.standby_tasks, request.warmup_tasks) {
        (Some(active), Some(standby), Some(warmup)) => {
            Some(TaskSets { active: tasks(active), standby: tasks(standby), warmup: tasks(warmup) })
        }
        _ => None,
    };
    let tags = |tags: Vec<asked::KeyValue>| -> BTreeMap<Str, Str> {
        tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
    };
    let heartbeat = groups::StreamsHeartbeatRequest {
        group: request.group_id,
        member_id: request.member_id,
        instance_id: request.instance_id,
        epoch: request.member_epoch,
        endpoint_epoch: request.endpoint_information_epoch,
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: context.connection.client_host(),
        shutdown_application: request.shutdown_application,
        knows_descriptions: context.api_version >= DESCRIPTIONS_SINCE,
        rack_id: request.rack_id,
        rebalance_timeout_ms: (request.rebalance_timeout_ms >= 0).then_some(request.rebalance_timeout_ms),
        topology,
        process_id: request.process_id,
        endpoint: request.user_endpoint.map(|at| groups::Endpoint { host: at.host, port: at.port }),
        client_tags: request.client_tags.map(tags),
        owned,
    };
    let group = heartbeat.group.clone();
    let asked = context.broker.groups.ask(&group, |shard, reply, now, effects| {
        shard.streams_heartbeat(&heartbeat, reply, now, effects);
    });
    match asked.await {
        Ok(Answer::StreamsHeartbeat(answer)) => answer,
        Ok(other) => unreachable!("a heartbeat is answered by a heartbeat, not {other:?}"),
        Err(error) => StreamsHeartbeatAnswer::refused(error, None),
    }
}

fn tasks(tasks: Vec<asked::TaskIds>) -> Tasks {
    let mut by_subtopology = Tasks::new();
    for one in tasks.into_iter().filter(|one| !one.partitions.is_empty()) {
        by_subtopology.entry(one.subtopology_id).or_default().extend(one.partitions);
    }
    by_subtopology
}

fn topology(topology: asked::Topology) -> Result<Topology, Refusal> {
    let info = |info: asked::TopicInfo| stored::TopicInfo {
        name: info.name,
        partitions: info.partitions,
        replication_factor: info.replication_factor,
        topic_configs: info
            .topic_configs
            .into_iter()
            .map(|config| stored::TopicConfig { key: config.key, value: config.value })
            .collect(),
    };
    let joined = |joined: asked::CopartitionGroup| stored::CopartitionGroup {
        source_topics: joined.source_topics,
        source_topic_regex: joined.source_topic_regex,
        repartition_source_topics: joined.repartition_source_topics,
    };
    let subtopology = |one: asked::Subtopology| stored::Subtopology {
        subtopology_id: one.subtopology_id,
        source_topics: one.source_topics,
        source_topic_regex: one.source_topic_regex,
        state_changelog_topics: one.state_changelog_topics.into_iter().map(info).collect(),
        repartition_sink_topics: one.repartition_sink_topics,
        repartition_source_topics: one.repartition_source_topics.into_iter().map(info).collect(),
        copartition_groups: one.copartition_groups.into_iter().map(joined).collect(),
    };
    Topology::of(StreamsGroupTopologyValue {
        epoch: topology.epoch,
        subtopologies: topology.subtopologies.into_iter().map(subtopology).collect(),
    })
}

/// Makes the topics that the application needs for itself, if the caller may. What could not be made and why, and for how long the
/// caller has to wait for it.
async fn make_topics(context: &RequestContext, missing: Vec<InternalTopic>) -> (Option<String>, i32) {
    let broker = &context.broker;
    let mut planned = Vec::with_capacity(missing.len());
    let mut failed: Vec<(Str, ApiError)> = Vec::new();
    let mut mutations = context.mutations(THROTTLED_SINCE);
    {
        let state = broker.catalog.read();
        let rights = context.rights(&state);
        if !rights.may(AclOperation::Create, Resource::Cluster) {
            let may_not = missing.iter().filter(|topic| {
                rights.authorize(AclOperation::Create, Resource::Topic(&topic.name)).is_err()
            });
            let may_not: Vec<&str> = may_not.map(|topic| topic.name.as_str()).collect();
            if !may_not.is_empty() {
                return (Some(format!("; Unauthorized to CREATE on topics {}.", may_not.join(", "))), 0);
            }
        }
        for topic in missing {
            match broker.topics.plan(&state, &new_topic(&topic)) {
                Ok(plan) => planned.push(plan),
                Err(error) => failed.push((topic.name, error)),
            }
        }
        let mut rooms = broker.topics.check_room_for(&state, &planned).into_iter();
        planned.retain(|plan| match rooms.next() {
            Some(Err(error)) => {
                failed.push((plan.name.clone(), error));
                false
            }
            _ => true,
        });
        planned.retain(|plan| match mutations.take(plan.partition_count as usize) {
            Ok(()) => true,
            Err(error) => {
                failed.push((plan.name.clone(), error));
                false
            }
        });
    }
    let made = broker.topics.create(&planned).await;
    broker.tell_others().await;
    let results = planned.into_iter().zip(made);
    failed.extend(results.filter_map(|(plan, made)| Some((plan.name, made.err()?))));
    // Another member, or another broker, was faster.
    failed.retain(|(_, error)| error.code != ErrorCode::TopicAlreadyExists);
    (why_not(&failed), mutations.throttle_time_ms())
}

fn new_topic(topic: &InternalTopic) -> NewTopic {
    NewTopic {
        name: topic.name.clone(),
        partition_count: topic.partition_count,
        replication_factor: match topic.replication_factor {
            0 => -1,
            factor => factor,
        },
        assignments: Vec::new(),
        configs: topic.configs.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect(),
    }
}

fn why_not(failed: &[(Str, ApiError)]) -> Option<String> {
    const SHOWN: usize = 3;
    let shown = failed.iter().take(SHOWN).map(|(topic, error)| {
        let why =
            error.message.as_ref().map_or_else(|| error.code.to_string(), |message| message.to_string());
        format!("{topic} ({why})")
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    match failed.len() {
        0 => None,
        count if count > SHOWN => Some(format!("; Creation failed: {shown} and {} more.", count - SHOWN)),
        _ => Some(format!("; Creation failed: {shown}.")),
    }
}

fn response(answer: StreamsHeartbeatAnswer, throttle_time_ms: i32) -> StreamsGroupHeartbeatResponse {
    let status = |status: StreamsStatus| Status {
        status_code: status.code.code(),
        status_detail: Str::from(status.detail),
    };
    let ids = |tasks: Tasks| -> Vec<TaskIds> {
        let ids = |(subtopology_id, partitions): (Str, BTreeSet<i32>)| TaskIds {
            subtopology_id,
            partitions: partitions.into_iter().collect(),
        };
        tasks.into_iter().map(ids).collect()
    };
    let partitions = |topics: Vec<(Str, Vec<i32>)>| -> Vec<TopicPartition> {
        topics.into_iter().map(|(topic, partitions)| TopicPartition { topic, partitions }).collect()
    };
    let (mut active, mut standby, mut warmup) = (None, None, None);
    if let Some(tasks) = answer.tasks {
        (active, standby, warmup) =
            (Some(ids(tasks.active)), Some(ids(tasks.standby)), Some(ids(tasks.warmup)));
    }
    let endpoints = answer.endpoints.map(|endpoints| {
        let endpoints = endpoints.into_iter().map(|one| EndpointToPartitions {
            user_endpoint: Endpoint { host: one.endpoint.host, port: one.endpoint.port },
            active_partitions: partitions(one.active),
            standby_partitions: partitions(one.standby),
        });
        endpoints.collect()
    });
    StreamsGroupHeartbeatResponse {
        throttle_time_ms,
        error_code: answer.error.code(),
        error_message: answer.message,
        member_id: answer.member_id,
        member_epoch: answer.epoch,
        heartbeat_interval_ms: answer.heartbeat_interval_ms,
        task_offset_interval_ms: answer.task_offset_interval_ms,
        acceptable_recovery_lag: answer.acceptable_recovery_lag,
        topology_description_required: answer.is_description_missing,
        status: Some(answer.statuses.into_iter().map(status).collect()),
        active_tasks: active,
        standby_tasks: standby,
        warmup_tasks: warmup,
        endpoint_information_epoch: answer.endpoint_epoch,
        partitions_by_user_endpoint: endpoints,
        ..StreamsGroupHeartbeatResponse::default()
    }
}
