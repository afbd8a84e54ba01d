//! OffsetFetch v1–10: how far groups have read.
//!
//! Only what is in the log for good is answered. With `require_stable` (KIP-447) the answer waits for the commits
//! that are under way and has them in it. A group that does not exist has no offsets; that is no error.
//! Difference: more than `request.partitions.max` groups and partitions are INVALID_REQUEST, and groups that an answer has no room for any
//! more (`answer_room.rs`) COORDINATOR_LOAD_IN_PROGRESS: clients ask for those again.
//!
//! Before a topic id is said to be unknown we catch up with what other brokers said about it.
//!
//! v2 asks for all topics with null and has an error for the group · v5 leader epochs (KIP-320) · v6 is flexible
//! · v7 require_stable · v8 several groups (KIP-709) · v9 KIP-848's member fields · v10 topic ids (KIP-848).

use catalog::acl::AclOperation;
use protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use protocol::{ErrorCode, Str, Uuid};

use crate::answer_room::AnswerRoom;
use crate::authorizer::{Resource, TopicRights};
use crate::freshness::SecondLook;
use crate::groups::{Answer, FetchOffsetsRequest, FetchTopic, FetchedOffsets, FetchedTopic};
use crate::partitions::TopicRef;
use crate::request::RequestContext;

const GROUPS_FROM: i16 = 8;
const TOPIC_IDS_FROM: i16 = 10;
const GROUP_ERROR_FROM: i16 = 2;

pub(crate) async fn handle(context: RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let require_stable = request.require_stable;
    let mut second_look = SecondLook::default();
    if context.api_version >= GROUPS_FROM {
        let named = request.groups.iter().flat_map(|group| group.topics.iter().flatten());
        let named = named.map(|topic| topic.partition_indexes.len()).sum::<usize>() + request.groups.len();
        let mut room = AnswerRoom::of(&context, named);
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            let fetched = match room.check(ErrorCode::CoordinatorLoadInProgress) {
                Err(code) => group_error(&context, group, code),
                Ok(()) => fetch_group(&context, group, require_stable, &mut second_look).await,
            };
            room.take(told_bytes(&fetched));
            groups.push(fetched);
        }
        return OffsetFetchResponse { groups, ..OffsetFetchResponse::default() };
    }
    let topic =
        |topic: protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        };
    let named = request.topics.iter().flatten().map(|topic| topic.partition_indexes.len());
    let is_too_large = named.sum::<usize>() > context.broker.limits.request_partitions_max;
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics: request.topics.map(|topics| topics.into_iter().map(topic).collect()),
        ..OffsetFetchRequestGroup::default()
    };
    single(match is_too_large {
        true => group_error(&context, group, ErrorCode::InvalidRequest),
        false => fetch_group(&context, group, require_stable, &mut second_look).await,
    })
}

/// How long an answer is, about.
fn told_bytes(group: &OffsetFetchResponseGroup) -> usize {
    const PARTITION_BYTES: usize = 24;
    let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
    let told = |partition: &OffsetFetchResponsePartitions| {
        PARTITION_BYTES + partition.metadata.as_ref().map_or(0, |metadata| metadata.len())
    };
    let names: usize = group.topics.iter().map(|topic| PARTITION_BYTES + topic.name.len()).sum();
    names + partitions.map(told).sum::<usize>()
}

async fn fetch_group(
    context: &RequestContext,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
    second_look: &mut SecondLook,
) -> OffsetFetchResponseGroup {
    if let Err(code) = context.authorize(AclOperation::Describe, Resource::Group(&group.group_id)) {
        return group_error(context, group, code);
    }
    let groups = &context.broker.groups;
    if let Err(code) = groups.with(&group.group_id, |_, _, _| ()) {
        return group_error(context, group, code);
    }
    // Offsets that another coordinator has taken since would be read again (R20).
    if context.broker.know_ends().await.is_err() {
        return group_error(context, group, ErrorCode::NotCoordinator);
    }
    let mut describable = context.topics(AclOperation::Describe);
    let (mut known, mut wrong) = split(context, group.topics.as_deref(), &mut describable);
    if wrong.iter().any(|(_, code)| *code == ErrorCode::UnknownTopicId)
        && second_look.is_due(&context.broker.freshness, ErrorCode::UnknownTopicId).await
    {
        (known, wrong) = split(context, group.topics.as_deref(), &mut describable);
    }
    let request = FetchOffsetsRequest { group: group.group_id.clone(), topics: known };
    // A member of a consumer group says who it is; what it commits for may be another's by now.
    let checked = groups.with(&group.group_id, |shard, _, _| {
        shard.check_offset_fetch(&group.group_id, group.member_id.as_deref(), group.member_epoch)
    });
    if let Err(error) = checked.and_then(|checked| checked) {
        return group_error(context, group, error);
    }
    match ask(context, request, require_stable).await {
        Err(error) => group_error(context, group, error),
        Ok(fetched) => {
            let mut topics = name_topics(context, group.topics.is_none(), fetched.topics);
            topics.extend(wrong.into_iter().map(|(topic, code)| failed(topic, code)));
            OffsetFetchResponseGroup { group_id: group.group_id, topics, error_code: ErrorCode::None.code() }
        }
    }
}

async fn ask(
    context: &RequestContext,
    request: FetchOffsetsRequest,
    require_stable: bool,
) -> Result<FetchedOffsets, ErrorCode> {
    let groups = &context.broker.groups;
    if !require_stable {
        return groups.with(&request.group, |shard, _, _| shard.fetch_offsets(&request));
    }
    let asked = groups.ask(&request.group, |shard, reply, _, effects| {
        shard.fetch_stable_offsets(&request, reply, effects);
    });
    match asked.await? {
        Answer::Fetch(fetched) => fetched,
        other => unreachable!("a fetch is answered by a fetch, not {other:?}"),
    }
}

/// Topics by name, and those that are not known, or not to be known, with the reason.
fn split(
    context: &RequestContext,
    topics: Option<&[OffsetFetchRequestTopics]>,
    describable: &mut TopicRights<'_>,
) -> (Option<Vec<FetchTopic>>, Vec<(OffsetFetchRequestTopics, ErrorCode)>) {
    let Some(topics) = topics else { return (None, Vec::new()) };
    let mut known = Vec::with_capacity(topics.len());
    let mut wrong = Vec::new();
    let state = context.broker.catalog.read();
    for topic in topics {
        // Offsets of a topic that is gone are told by its name.
        let name = match context.api_version >= TOPIC_IDS_FROM {
            true => {
                TopicRef::Id(topic.topic_id).find_allowed(&state, describable).map(|found| found.name.clone())
            }
            false => describable.check(&state, &topic.name).map(|()| topic.name.clone()),
        };
        match name {
            Ok(name) => known.push(FetchTopic {
                topic: name,
                topic_id: topic.topic_id,
                partitions: topic.partition_indexes.clone(),
            }),
            Err(code) => wrong.push((topic.clone(), code)),
        }
    }
    (Some(known), wrong)
}

fn name_topics(
    context: &RequestContext,
    is_all: bool,
    topics: Vec<FetchedTopic>,
) -> Vec<OffsetFetchResponseTopics> {
    let names_by_id = context.api_version >= TOPIC_IDS_FROM;
    let state = context.broker.catalog.read();
    // Of those who ask for all nobody hears of a topic that he may not describe.
    let mut describable = context.topics_quietly(AclOperation::Describe);
    let id_of = |topic: &FetchedTopic| match is_all {
        true => state.topic(&topic.topic).map(|found| found.id).unwrap_or(Uuid::ZERO),
        false => topic.topic_id,
    };
    let seen = topics.into_iter().filter(|topic| !is_all || describable.allows(&state, &topic.topic));
    let named = seen.filter_map(|topic| {
        let topic_id = if names_by_id { id_of(&topic) } else { Uuid::ZERO };
        // A topic without an id cannot be named in v10, so it cannot be answered.
        (!names_by_id || topic_id != Uuid::ZERO).then(|| OffsetFetchResponseTopics {
            name: if names_by_id { Str::default() } else { topic.topic },
            topic_id,
            partitions: topic
                .partitions
                .into_iter()
                .map(|fetched| OffsetFetchResponsePartitions {
                    partition_index: fetched.partition,
                    committed_offset: fetched.offset,
                    committed_leader_epoch: if context.api_version >= 5 { fetched.leader_epoch } else { -1 },
                    metadata: Some(fetched.metadata),
                    error_code: match fetched.is_unstable {
                        true => ErrorCode::UnstableOffsetCommit.code(),
                        false => ErrorCode::None.code(),
                    },
                })
                .collect(),
        })
    });
    named.collect()
}

fn failed(topic: OffsetFetchRequestTopics, error: ErrorCode) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter().map(|partition| OffsetFetchResponsePartitions {
        partition_index: *partition,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::default()),
        error_code: error.code(),
    });
    OffsetFetchResponseTopics { name: topic.name, topic_id: topic.topic_id, partitions: partitions.collect() }
}

fn group_error(
    context: &RequestContext,
    group: OffsetFetchRequestGroup,
    error: ErrorCode,
) -> OffsetFetchResponseGroup {
    let error = as_known(error);
    if context.api_version >= GROUP_ERROR_FROM {
        return OffsetFetchResponseGroup {
            group_id: group.group_id,
            topics: Vec::new(),
            error_code: error.code(),
        };
    }
    let topics = group.topics.unwrap_or_default().into_iter().map(|topic| failed(topic, error));
    OffsetFetchResponseGroup { group_id: group.group_id, topics: topics.collect(), error_code: 0 }
}

/// Java's consumers before 3.9 stop at COORDINATOR_NOT_AVAILABLE here; at this one all of them look for the coordinator and ask again.
fn as_known(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::CoordinatorNotAvailable => ErrorCode::NotCoordinator,
        error => error,
    }
}

/// One group in the layout before v8.
fn single(group: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let topics = group.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| OffsetFetchResponsePartition {
                partition_index: partition.partition_index,
                committed_offset: partition.committed_offset,
                committed_leader_epoch: partition.committed_leader_epoch,
                metadata: partition.metadata,
                error_code: partition.error_code,
            })
            .collect(),
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: group.error_code,
        ..OffsetFetchResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kafka's `handleOffsetFetchException` makes of what a log refuses for a moment.
    #[test]
    fn no_consumer_is_ended_by_a_coordinator_that_is_not_well() {
        assert_eq!(as_known(ErrorCode::CoordinatorNotAvailable), ErrorCode::NotCoordinator);
        let others = [ErrorCode::CoordinatorLoadInProgress, ErrorCode::GroupAuthorizationFailed];
        assert_eq!(others.map(as_known), others);
    }
}
