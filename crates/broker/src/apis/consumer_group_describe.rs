//! ConsumerGroupDescribe v0–1: state, members and assignments of consumer groups (KIP-848).
//!
//! Any other group, of another kind or none at all, is GROUP_ID_NOT_FOUND: tools ask DescribeGroups then.
//!
//! v0 · v1 says which protocol a member speaks (KIP-1099).
//!
//! Difference: more than `request.partitions.max` groups are INVALID_REQUEST, and those that an answer has no room for any more
//! (`answer_room.rs`) COORDINATOR_LOAD_IN_PROGRESS: tools ask for them again.

use std::collections::BTreeSet;

use catalog::acl::AclOperation;
use protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
use protocol::{ErrorCode, Str};

use super::consumer_group_heartbeat;
use crate::answer_room::AnswerRoom;
use crate::authorizer::Resource;
use crate::groups::{DescribedConsumer, DescribedTopic};
use crate::request::RequestContext;

const MEMBER_TYPE_FROM: i16 = 1;

pub(crate) async fn handle(
    context: RequestContext,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let is_asked = request.include_authorized_operations;
    let mut room = AnswerRoom::of(&context, request.group_ids.len());
    let groups = request.group_ids.into_iter().map(|group_id| {
        let may_be_told = room
            .check(ErrorCode::CoordinatorLoadInProgress)
            .and_then(|()| context.authorize(AclOperation::Describe, Resource::Group(&group_id)));
        if let Err(code) = may_be_told {
            return DescribedGroup { error_code: code.code(), group_id, ..DescribedGroup::default() };
        }
        let mut described = describe(&context, group_id);
        if is_asked && described.error_code == ErrorCode::None.code() {
            described.authorized_operations =
                context.authorized_operations(Resource::Group(&described.group_id));
        }
        let described = without_hidden_topics(&context, described);
        room.take(told_bytes(&described));
        described
    });
    ConsumerGroupDescribeResponse { groups: groups.collect(), ..ConsumerGroupDescribeResponse::default() }
}

/// A group with topics that the caller may not describe is not shown.
fn without_hidden_topics(context: &RequestContext, described: DescribedGroup) -> DescribedGroup {
    let topics = described.members.iter().flat_map(|member| {
        let assigned =
            member.assignment.topic_partitions.iter().chain(&member.target_assignment.topic_partitions);
        member.subscribed_topic_names.iter().chain(assigned.map(|topic| &topic.topic_name))
    });
    let topics: BTreeSet<&Str> = topics.collect();
    let is_hidden = |topic: &&Str| context.authorize(AclOperation::Describe, Resource::Topic(topic)).is_err();
    if !topics.into_iter().any(|topic| is_hidden(&topic)) {
        return described;
    }
    DescribedGroup {
        error_code: ErrorCode::TopicAuthorizationFailed.code(),
        error_message: Some(Str::from_static("The group has topics that the client may not describe.")),
        members: Vec::new(),
        ..described
    }
}

/// How long what is told of a group is, about.
fn told_bytes(group: &DescribedGroup) -> usize {
    const MEMBER_BYTES: usize = 64;
    let assigned = |assignment: &Assignment| {
        let topics = assignment.topic_partitions.iter();
        topics.map(|topic| 24 + topic.topic_name.len() + 4 * topic.partitions.len()).sum::<usize>()
    };
    let told = |member: &Member| {
        let texts = [&member.member_id, &member.client_id, &member.client_host];
        let texts = texts.into_iter().chain(&member.subscribed_topic_names).map(|text| 4 + text.len());
        MEMBER_BYTES
            + texts.sum::<usize>()
            + member.subscribed_topic_regex.as_ref().map_or(0, |pattern| pattern.len())
            + assigned(&member.assignment)
            + assigned(&member.target_assignment)
    };
    group.members.iter().map(told).sum()
}

fn describe(context: &RequestContext, group_id: Str) -> DescribedGroup {
    let refused = |error: ErrorCode, message: Option<Str>, group_id: Str| DescribedGroup {
        error_code: error.code(),
        error_message: message,
        group_id,
        ..DescribedGroup::default()
    };
    if !consumer_group_heartbeat::is_enabled(context) {
        return refused(ErrorCode::UnsupportedVersion, None, group_id);
    }
    if group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId, None, group_id);
    }
    match context.broker.groups.with(&group_id, |shard, _, _| shard.describe_consumer_group(&group_id)) {
        Err(error) => refused(error, None, group_id),
        Ok(Err(refusal)) => refused(refusal.error, Some(Str::from(refusal.message)), group_id),
        Ok(Ok(described)) => DescribedGroup {
            group_id,
            group_state: Str::from_static(described.state.name()),
            group_epoch: described.epoch,
            assignment_epoch: described.assignment_epoch,
            assignor_name: described.assignor,
            members: described.members.into_iter().map(|one| member(context, one)).collect(),
            ..DescribedGroup::default()
        },
    }
}

fn member(context: &RequestContext, member: DescribedConsumer) -> Member {
    Member {
        member_id: member.member_id,
        instance_id: member.instance_id,
        rack_id: member.rack_id,
        member_epoch: member.epoch,
        client_id: member.client_id,
        client_host: member.client_host,
        subscribed_topic_names: member.topics,
        // Kafka shows "" for none.
        subscribed_topic_regex: Some(member.pattern.unwrap_or_default()),
        assignment: assignment(member.assigned),
        target_assignment: assignment(member.target),
        member_type: match context.api_version >= MEMBER_TYPE_FROM {
            true => i8::from(!member.is_classic),
            false => -1,
        },
    }
}

fn assignment(topics: Vec<DescribedTopic>) -> Assignment {
    let topic = |topic: DescribedTopic| TopicPartitions {
        topic_id: topic.id,
        topic_name: topic.name,
        partitions: topic.partitions,
    };
    Assignment { topic_partitions: topics.into_iter().map(topic).collect() }
}
