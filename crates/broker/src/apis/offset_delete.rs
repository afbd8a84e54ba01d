//! OffsetDelete v0 (KIP-496): forgets committed offsets of topics that the group does not subscribe to.

use catalog::acl::AclOperation;
use protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::groups::{Answer, DeleteOffsetsAnswer};
use crate::request::RequestContext;

pub(crate) async fn handle(context: RequestContext, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let refused = |error: ErrorCode| OffsetDeleteResponse {
        error_code: error.code(),
        ..OffsetDeleteResponse::default()
    };
    if let Err(code) = context.authorize(AclOperation::Delete, Resource::Group(&request.group_id)) {
        return refused(code);
    }
    if request.group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    context.broker.freshness.catch_up().await;
    let (known, wrong) = check_topics(&context, &request);
    let group = request.group_id.clone();
    let asked = context.broker.groups.ask(&group, |shard, reply, _, effects| {
        shard.delete_offsets(&group, known, reply, effects);
    });
    let mut each = match asked.await {
        Ok(Answer::DeleteOffsets(DeleteOffsetsAnswer::Each(each))) => each.into_iter(),
        Ok(Answer::DeleteOffsets(DeleteOffsetsAnswer::Refused(error))) | Err(error) => return refused(error),
        Ok(other) => unreachable!("a deletion is answered by a deletion, not {other:?}"),
    };
    let mut wrong = wrong.into_iter();
    let mut next_error = || {
        let wrong = wrong.next().expect("one answer for each partition");
        wrong.unwrap_or_else(|| each.next().expect("one answer for each partition that is right"))
    };
    let topics = request.topics.into_iter().map(|topic| OffsetDeleteResponseTopic {
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: next_error().code(),
            })
            .collect(),
        name: topic.name,
    });
    OffsetDeleteResponse { topics: topics.collect(), ..OffsetDeleteResponse::default() }
}

/// The partitions that exist and that the caller may read, and for each partition of the request what is wrong with it.
fn check_topics(
    context: &RequestContext,
    request: &OffsetDeleteRequest,
) -> (Vec<(Str, i32)>, Vec<Option<ErrorCode>>) {
    let state = context.broker.catalog.read();
    let mut readable = context.topics(AclOperation::Read);
    let mut known = Vec::new();
    let mut wrong = Vec::new();
    for topic in &request.topics {
        let right = readable.check(&state, &topic.name);
        let partition_count = state.topic(&topic.name).map_or(0, |found| found.partitions.len());
        for partition in &topic.partitions {
            let is_there =
                usize::try_from(partition.partition_index).is_ok_and(|index| index < partition_count);
            let error = match right {
                Err(code) => Some(code),
                Ok(()) => (!is_there).then_some(ErrorCode::UnknownTopicOrPartition),
            };
            if error.is_none() {
                known.push((topic.name.clone(), partition.partition_index));
            }
            wrong.push(error);
        }
    }
    (known, wrong)
}
