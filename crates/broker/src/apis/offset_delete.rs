//! OffsetDelete v0 (KIP-496): forgets committed offsets of topics that the group does not subscribe to.

use protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use protocol::{ErrorCode, Str};

use crate::groups::{Answer, DeleteOffsetsAnswer};
use crate::request::RequestContext;

pub(crate) async fn handle(context: RequestContext, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let refused = |error: ErrorCode| OffsetDeleteResponse {
        error_code: error.code(),
        ..OffsetDeleteResponse::default()
    };
    if request.group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    context.broker.freshness.catch_up().await;
    let (known, exists) = existing(&context, &request);
    let group = request.group_id.clone();
    let asked = context.broker.groups.ask(&group, |shard, reply, _, effects| {
        shard.delete_offsets(&group, known, reply, effects);
    });
    let mut each = match asked.await {
        Ok(Answer::DeleteOffsets(DeleteOffsetsAnswer::Each(each))) => each.into_iter(),
        Ok(Answer::DeleteOffsets(DeleteOffsetsAnswer::Refused(error))) | Err(error) => return refused(error),
        Ok(other) => unreachable!("a deletion is answered by a deletion, not {other:?}"),
    };
    let mut exists = exists.into_iter();
    let mut next_error = || match exists.next() {
        Some(true) => each.next().expect("one answer for each partition"),
        _ => ErrorCode::UnknownTopicOrPartition,
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

/// The partitions that exist, and for each partition of the request whether it does.
fn existing(context: &RequestContext, request: &OffsetDeleteRequest) -> (Vec<(Str, i32)>, Vec<bool>) {
    let state = context.broker.catalog.read();
    let mut known = Vec::new();
    let mut exists = Vec::new();
    for topic in &request.topics {
        let partition_count = state.topic(&topic.name).map_or(0, |found| found.partitions.len());
        for partition in &topic.partitions {
            let is_there =
                usize::try_from(partition.partition_index).is_ok_and(|index| index < partition_count);
            exists.push(is_there);
            if is_there {
                known.push((topic.name.clone(), partition.partition_index));
            }
        }
    }
    (known, exists)
}
