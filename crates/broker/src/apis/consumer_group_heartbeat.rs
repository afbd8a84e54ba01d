//! ConsumerGroupHeartbeat v0–1: a member of a consumer group joins, lives, learns its assignment and leaves (KIP-848).
//!
//! The answer waits until what it says is in the log. Differences to Kafka: see `groups/consumer/mod.rs`.
//!
//! v0 · v1 subscriptions by regular expression, and members make their ids themselves (KIP-1082).

use catalog::acl::AclOperation;
use protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use protocol::{ErrorCode, Str, Uuid};
use world::task::patiently;

use crate::authorizer::Resource;
use crate::groups::{
    self, Answer, ConsumerHeartbeatAnswer, JOINING_EPOCH, LEAVING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH, Refusal,
};
use crate::request::RequestContext;

const OWN_MEMBER_ID_FROM: i16 = 1;
const CONSUMER_PROTOCOL: &str = "consumer";

pub(crate) async fn handle(
    context: RequestContext,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let answer = match check(&context, &request) {
        Ok(()) => heartbeat(&context, request).await,
        Err(refusal) => refusal.into(),
    };
    let topic = |(topic_id, partitions): (Uuid, Vec<i32>)| TopicPartitions { topic_id, partitions };
    ConsumerGroupHeartbeatResponse {
        error_code: answer.error.code(),
        error_message: answer.message,
        member_id: answer.member_id,
        member_epoch: answer.epoch,
        heartbeat_interval_ms: answer.heartbeat_interval_ms,
        assignment: answer
            .assignment
            .map(|topics| Assignment { topic_partitions: topics.into_iter().map(topic).collect() }),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

/// `group.coordinator.rebalance.protocols`
pub(super) fn is_enabled(context: &RequestContext) -> bool {
    let protocols = context.broker.config().group_coordinator_rebalance_protocols();
    protocols.iter().any(|protocol| protocol.eq_ignore_ascii_case(CONSUMER_PROTOCOL))
}

fn check(context: &RequestContext, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    if !is_enabled(context) {
        return Err(Refusal::new(
            ErrorCode::UnsupportedVersion,
            "The consumer rebalance protocol is disabled.",
        ));
    }
    context
        .authorize(AclOperation::Read, Resource::Group(&request.group_id))
        .map_err(|code| Refusal::new(code, ""))?;
    for topic in request.subscribed_topic_names.iter().flatten() {
        context
            .authorize(AclOperation::Describe, Resource::Topic(topic))
            .map_err(|code| Refusal::new(code, ""))?;
    }
    let refuse = |why: &str| Err(Refusal::new(ErrorCode::InvalidRequest, why));
    let epoch = request.member_epoch;
    let needs_member_id =
        context.api_version >= OWN_MEMBER_ID_FROM || epoch > JOINING_EPOCH || epoch == LEAVING_EPOCH;
    if needs_member_id && request.member_id.is_empty() {
        return refuse("MemberId can't be empty.");
    }
    if request.group_id.is_empty() {
        return refuse("GroupId can't be empty.");
    }
    let is_empty = |text: &Option<Str>| text.as_ref().is_some_and(|text| text.is_empty());
    if is_empty(&request.instance_id) {
        return refuse("InstanceId can't be empty.");
    }
    if is_empty(&request.rack_id) {
        return refuse("RackId can't be empty.");
    }
    if epoch == JOINING_EPOCH {
        if request.rebalance_timeout_ms == -1 {
            return refuse("RebalanceTimeoutMs must be provided in first request.");
        }
        if !request.topic_partitions.as_ref().is_some_and(Vec::is_empty) {
            return refuse("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return refuse(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            );
        }
    }
    if epoch == LEAVING_FOR_A_WHILE_EPOCH && request.instance_id.is_none() {
        return refuse("InstanceId can't be null.");
    }
    if epoch < LEAVING_FOR_A_WHILE_EPOCH {
        return refuse("MemberEpoch is invalid.");
    }
    let Some(assignor) = &request.server_assignor else { return Ok(()) };
    let assignors = context.broker.config().group_consumer_assignors();
    match assignors.iter().any(|known| assignor == known) {
        true => Ok(()),
        false => {
            let message = format!(
                "ServerAssignor {assignor} is not supported. Supported assignors: {}.",
                assignors.join(", ")
            );
            Err(Refusal::new(ErrorCode::UnsupportedAssignor, message))
        }
    }
}

async fn heartbeat(
    context: &RequestContext,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerHeartbeatAnswer {
    let groups = &context.broker.groups;
    let member_id = match request.member_id.is_empty() {
        true => Str::from(Uuid(groups.fresh_uuid()).to_string()),
        false => request.member_id,
    };
    let owned = |topics: Vec<protocol::messages::consumer_group_heartbeat_request::TopicPartitions>| {
        let mut owned = groups::Partitions::new();
        for topic in topics.into_iter().filter(|topic| !topic.partitions.is_empty()) {
            owned.entry(topic.topic_id).or_default().extend(topic.partitions);
        }
        owned
    };
    // Under no lock, and where it keeps nobody waiting: a pattern of a few bytes can be work of milliseconds.
    let compiled = match request.subscribed_topic_regex.clone().filter(|pattern| !pattern.is_empty()) {
        Some(pattern) => Some(patiently(move || groups::compile_pattern(&pattern)).await),
        None => None,
    };
    let heartbeat = groups::ConsumerHeartbeatRequest {
        group: request.group_id,
        member_id,
        epoch: request.member_epoch,
        instance_id: request.instance_id,
        rack_id: request.rack_id,
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: context.connection.client_host(),
        rebalance_timeout_ms: (request.rebalance_timeout_ms >= 0).then_some(request.rebalance_timeout_ms),
        topics: request.subscribed_topic_names,
        pattern: request.subscribed_topic_regex,
        compiled,
        assignor: request.server_assignor,
        owned: request.topic_partitions.map(owned),
    };
    let group = heartbeat.group.clone();
    // A regular expression finds what may be described.
    let may_see = |topic: &str| context.may(AclOperation::Describe, Resource::Topic(topic));
    let asked = groups.ask(&group, |shard, reply, now, effects| {
        shard.consumer_heartbeat(&heartbeat, &may_see, reply, now, effects);
    });
    match asked.await {
        Ok(Answer::ConsumerHeartbeat(answer)) => answer,
        Ok(other) => unreachable!("a heartbeat is answered by a heartbeat, not {other:?}"),
        Err(error) => ConsumerHeartbeatAnswer::refused(error, None),
    }
}
