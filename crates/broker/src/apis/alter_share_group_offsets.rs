//! AlterShareGroupOffsets v0: an empty share group, which may be new, begins at other offsets (KIP-932).
//!
//! What the group had in flight in these partitions is forgotten. The answer waits until the share coordinator has the new beginning.
//! Unlike Kafka's the group's epoch goes up, so that a leader with the old state in memory is fenced.

use std::collections::BTreeMap;

use catalog::acl::AclOperation;
use protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use protocol::messages::{AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse};
use protocol::{ErrorCode, Str, Uuid};

use super::share_group_heartbeat::initialize;
use crate::authorizer::Resource;
use crate::groups::{Answer, Initialize, ShareStatesAnswer};
use crate::request::RequestContext;

pub(super) async fn handle(
    context: RequestContext,
    request: AlterShareGroupOffsetsRequest,
) -> AlterShareGroupOffsetsResponse {
    let refused = |error: ErrorCode, message: Option<Str>| AlterShareGroupOffsetsResponse {
        error_code: error.code(),
        error_message: message,
        ..AlterShareGroupOffsetsResponse::default()
    };
    let group = request.group_id.clone();
    if let Err(error) = context.authorize(AclOperation::Read, Resource::Group(&group)) {
        return refused(error, None);
    }
    if group.is_empty() {
        return refused(ErrorCode::InvalidGroupId, None);
    }
    let count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    if count > context.broker.limits.request_partitions_max {
        return refused(ErrorCode::InvalidRequest, None);
    }
    context.broker.freshness.catch_up().await;
    let mut offsets: BTreeMap<(Uuid, i32), i64> = BTreeMap::new();
    let mut responses: Vec<AlterShareGroupOffsetsResponseTopic> = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let known = known_topic(&context, &topic.topic_name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let error = match known {
                Ok((id, partition_count)) if (0..partition_count).contains(&index) => {
                    offsets.insert((id, index), partition.start_offset.max(0));
                    ErrorCode::None
                }
                Ok(_) => ErrorCode::UnknownTopicOrPartition,
                Err(error) => error,
            };
            partitions.push(AlterShareGroupOffsetsResponsePartition {
                partition_index: index,
                error_code: error.code(),
                error_message: None,
            });
        }
        responses.push(AlterShareGroupOffsetsResponseTopic {
            topic_id: known.map_or(Uuid::ZERO, |(id, _)| id),
            topic_name: topic.topic_name,
            partitions,
        });
    }
    match begin(&context, &group, &offsets).await {
        Err(error) => return refused(error.0, error.1),
        Ok(begin) => {
            for ((topic, partition), refusal) in initialize(&context.broker, &group, begin).await {
                let topic = responses.iter_mut().filter(|response| response.topic_id == topic);
                for response in topic.flat_map(|response| &mut response.partitions) {
                    if response.partition_index == partition {
                        response.error_code = refusal.error.code();
                        response.error_message = refusal.message.clone();
                    }
                }
            }
        }
    }
    AlterShareGroupOffsetsResponse { responses, ..AlterShareGroupOffsetsResponse::default() }
}

fn known_topic(context: &RequestContext, name: &Str) -> Result<(Uuid, i32), ErrorCode> {
    context.authorize(AclOperation::Read, Resource::Topic(name))?;
    let state = context.broker.catalog.read();
    let topic = state.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok((topic.id, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)))
}

async fn begin(
    context: &RequestContext,
    group: &Str,
    offsets: &BTreeMap<(Uuid, i32), i64>,
) -> Result<Initialize, (ErrorCode, Option<Str>)> {
    let asked = context.broker.groups.ask(group, |shard, reply, now, effects| {
        shard.alter_share_offsets(group, offsets, reply, now, effects);
    });
    match asked.await {
        Ok(Answer::ShareStates(ShareStatesAnswer::Initialize(begin))) => Ok(begin),
        Ok(Answer::ShareStates(ShareStatesAnswer::Refused(refusal))) => {
            Err((refusal.error, Some(Str::from(refusal.message))))
        }
        Ok(other) => unreachable!("new offsets are answered by what begins, not {other:?}"),
        Err(error) => Err((error, None)),
    }
}
