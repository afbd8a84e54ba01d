//! OffsetCommit v2–10: remembers how far a group has read. The offsets of one request are one batch in the log.
//!
//! Topics and partitions that do not exist are UNKNOWN_TOPIC_OR_PARTITION (ids: UNKNOWN_TOPIC_ID), the others are
//! committed all the same; before that is said we catch up with what other brokers said about them. An offset metadata above
//! `offset.metadata.max.bytes` is refused for its partition only.
//!
//! v2–4 may bring a retention of their own · v6 leader epochs (KIP-320) · v7 static members (KIP-345) · v8 is
//! flexible · v9 GROUP_ID_NOT_FOUND (KIP-848) · v10 topic ids (KIP-848).

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::Topic;
use catalog::acl::AclOperation;
use protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use protocol::{ErrorCode, Str, Uuid};

use crate::authorizer::{Resource, TopicRights};
use crate::freshness::may_be_stale;
use crate::groups::{Answer, CommitAnswer, CommitOffset, CommitRequest};
use crate::partitions::TopicRef;
use crate::request::RequestContext;

pub(crate) async fn handle(context: RequestContext, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let right = context.authorize(AclOperation::Read, Resource::Group(&request.group_id));
    let mut readable = context.topics(AclOperation::Read);
    let mut checked = check_topics(&context, &request.topics, right, &mut readable);
    if checked.lacks_something && context.broker.freshness.catch_up().await {
        checked = check_topics(&context, &request.topics, right, &mut readable);
    }
    let commit = CommitRequest {
        group: request.group_id.clone(),
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id.clone(),
        instance_id: request.group_instance_id.clone(),
        retention_ms: (request.retention_time_ms >= 0).then_some(request.retention_time_ms),
        knows_group_id_not_found: context.api_version >= 9,
        offsets: checked.offsets,
    };
    let committed = match commit.offsets.is_empty() {
        true => CommitAnswer::Each(Vec::new()),
        false => ask(&context, commit).await,
    };
    let mut committed = match committed {
        CommitAnswer::Each(each) => each.into_iter(),
        CommitAnswer::Refused(error) => vec![error; checked.known_count].into_iter(),
    };
    let mut next_error = |unknown: &Option<ErrorCode>| {
        unknown.unwrap_or_else(|| committed.next().expect("one answer for each offset"))
    };
    let mut errors = checked.unknown.iter();
    let names_by_id = context.api_version >= 10;
    let topics = request.topics.iter().map(|topic| OffsetCommitResponseTopic {
        name: if names_by_id { Str::default() } else { topic.name.clone() },
        topic_id: if names_by_id { topic.topic_id } else { Uuid::ZERO },
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: next_error(errors.next().expect("one check for each offset")).code(),
            })
            .collect(),
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}

async fn ask(context: &RequestContext, commit: CommitRequest) -> CommitAnswer {
    let group = commit.group.clone();
    let groups = &context.broker.groups;
    let answer =
        groups.ask(&group, |shard, reply, now, effects| shard.commit_offsets(commit, reply, now, effects));
    match answer.await {
        Ok(Answer::Commit(answer)) => answer,
        Ok(other) => unreachable!("a commit is answered by a commit, not {other:?}"),
        Err(error) => CommitAnswer::Refused(error),
    }
}

/// The offsets whose partitions exist, and for every offset of the request what is wrong with it already.
struct Checked {
    offsets: Vec<CommitOffset>,
    unknown: Vec<Option<ErrorCode>>,
    known_count: usize,
    /// Some of them may be known to others.
    lacks_something: bool,
}

fn check_topics(
    context: &RequestContext,
    topics: &[OffsetCommitRequestTopic],
    right: Result<(), ErrorCode>,
    readable: &mut TopicRights<'_>,
) -> Checked {
    let mut checked =
        Checked { offsets: Vec::new(), unknown: Vec::new(), known_count: 0, lacks_something: false };
    let names_by_id = context.api_version >= 10;
    let state = context.broker.catalog.read();
    let mut known: BTreeMap<(Str, Uuid), Result<Arc<Topic>, ErrorCode>> = BTreeMap::new();
    for topic in topics {
        let found = known.entry((topic.name.clone(), topic.topic_id)).or_insert_with(|| {
            right?;
            let reference = match names_by_id {
                true => TopicRef::Id(topic.topic_id),
                false => TopicRef::Name(topic.name.clone()),
            };
            reference.find_allowed(&state, readable).cloned()
        });
        for partition in &topic.partitions {
            let error = match &found {
                Err(code) => Some(*code),
                Ok(found) => {
                    let index = usize::try_from(partition.partition_index).unwrap_or(usize::MAX);
                    (index >= found.partitions.len()).then_some(ErrorCode::UnknownTopicOrPartition)
                }
            };
            checked.unknown.push(error);
            checked.lacks_something |= error.is_some_and(may_be_stale);
            let (None, Ok(found)) = (error, &found) else { continue };
            checked.known_count += 1;
            checked.offsets.push(CommitOffset {
                topic: found.name.clone(),
                topic_id: found.id,
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.clone().unwrap_or_default(),
            });
        }
    }
    checked
}
