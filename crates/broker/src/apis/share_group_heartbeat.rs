//! ShareGroupHeartbeat v1: a member of a share group joins, lives, learns what to read and leaves (KIP-932).
//!
//! The answer waits until what it says is in the log, and not for the states of share partitions that begin with it: those are assigned
//! in a later heartbeat. Differences to Kafka: see `groups/share/mod.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use catalog::acl::AclOperation;
use protocol::messages::share_group_heartbeat_response::{Assignment, TopicPartitions};
use protocol::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};
use protocol::{ErrorCode, Str, Uuid};
use world::task;

use crate::authorizer::Resource;
use crate::broker::Broker;
use crate::groups::{
    Answer, Initialize, JOINING_EPOCH, LEAVING_EPOCH, Refusal, ShareHeartbeatAnswer, ShareHeartbeatRequest,
};
use crate::request::RequestContext;
use crate::share_coordinator::{Asked, Question};

/// The states of share partitions that begin; who does not come in time is asked again by a later heartbeat.
const INITIALIZE_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn handle(
    context: RequestContext,
    request: ShareGroupHeartbeatRequest,
) -> ShareGroupHeartbeatResponse {
    let answer = match check(&context, &request) {
        Ok(()) => heartbeat(&context, request).await,
        Err(refusal) => refusal.into(),
    };
    let topic = |(topic_id, partitions): (Uuid, Vec<i32>)| TopicPartitions { topic_id, partitions };
    ShareGroupHeartbeatResponse {
        error_code: answer.error.code(),
        error_message: answer.message,
        member_id: answer.member_id,
        member_epoch: answer.epoch,
        heartbeat_interval_ms: answer.heartbeat_interval_ms,
        assignment: answer
            .assignment
            .map(|topics| Assignment { topic_partitions: topics.into_iter().map(topic).collect() }),
        ..ShareGroupHeartbeatResponse::default()
    }
}

fn check(context: &RequestContext, request: &ShareGroupHeartbeatRequest) -> Result<(), Refusal> {
    let denied = |code| Refusal::new(code, "");
    context.authorize(AclOperation::Read, Resource::Group(&request.group_id)).map_err(denied)?;
    for topic in request.subscribed_topic_names.iter().flatten() {
        context.authorize(AclOperation::Describe, Resource::Topic(topic)).map_err(denied)?;
    }
    let refuse = |why: &str| Err(Refusal::new(ErrorCode::InvalidRequest, why));
    if request.member_id.trim().is_empty() {
        return refuse("MemberId can't be empty.");
    }
    if request.group_id.trim().is_empty() {
        return refuse("GroupId can't be empty.");
    }
    if request.rack_id.as_ref().is_some_and(|rack_id| rack_id.trim().is_empty()) {
        return refuse("RackId can't be empty.");
    }
    match request.member_epoch {
        JOINING_EPOCH if request.subscribed_topic_names.as_ref().is_none_or(Vec::is_empty) => {
            refuse("SubscribedTopicNames must be set in first request.")
        }
        epoch if epoch < LEAVING_EPOCH => refuse("MemberEpoch is invalid."),
        _ => Ok(()),
    }
}

async fn heartbeat(context: &RequestContext, request: ShareGroupHeartbeatRequest) -> ShareHeartbeatAnswer {
    let groups = &context.broker.groups;
    let heartbeat = ShareHeartbeatRequest {
        group: request.group_id,
        member_id: request.member_id,
        epoch: request.member_epoch,
        rack_id: request.rack_id,
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: context.connection.client_host(),
        topics: request.subscribed_topic_names,
    };
    let group = heartbeat.group.clone();
    let asked = groups.ask(&group, |shard, reply, now, effects| {
        shard.share_heartbeat(&heartbeat, reply, now, effects);
    });
    match asked.await {
        Ok(Answer::ShareHeartbeat(mut answer)) => {
            if let Some(initialize) = answer.initialize.take() {
                let broker = context.broker.clone();
                let group = group.detached();
                drop(task::spawn(async move { drop(self::initialize(&broker, &group, initialize).await) }));
            }
            answer
        }
        Ok(other) => unreachable!("a heartbeat is answered by a heartbeat, not {other:?}"),
        Err(error) => ShareHeartbeatAnswer::refused(error, None),
    }
}

/// Has the states begun by the share coordinator, and lets the group know. Gives what went wrong, by partition.
pub(super) async fn initialize(
    broker: &Arc<Broker>,
    group: &Str,
    initialize: Initialize,
) -> Vec<((Uuid, i32), crate::share_coordinator::Refusal)> {
    let Initialize { state_epoch, partitions } = initialize;
    let questions: Vec<Question> = partitions
        .iter()
        .map(|((topic, partition), start_offset)| {
            let asked = Asked::Initialize { state_epoch, start_offset: *start_offset };
            (*topic, *partition, asked)
        })
        .collect();
    let answers = broker.share_coordinator.keep_all(group, questions, INITIALIZE_MAX).await;
    let (mut begun, mut failed, mut refusals) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (place, answer) in partitions.into_keys().zip(answers) {
        match answer {
            Ok(_) => drop(begun.insert(place)),
            Err(refusal) => {
                tracing::debug!(%group, ?place, ?refusal, "the state of a share partition cannot begin");
                failed.insert(place);
                refusals.push((place, refusal));
            }
        }
    }
    // Should the group be another broker's by now, that one begins them once more.
    let told = broker.groups.with(group, |shard, _, effects| {
        shard.share_states_begun(group, &begun, &failed, effects);
    });
    if let Err(error) = told {
        tracing::debug!(%group, ?error, "nobody is told that states of share partitions have begun");
    }
    refusals
}
