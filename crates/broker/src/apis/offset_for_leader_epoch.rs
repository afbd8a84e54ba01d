//! OffsetForLeaderEpoch (key 23), versions 2–4.
//!
//! Where the records of a leader epoch end: consumers compare it with what they read to notice a log that went
//! another way (KIP-320). For the current epoch it is the end of the log; for an epoch that had no records, the
//! largest one before it. Before a partition is said to be unknown, or led elsewhere, we catch up with what other brokers said
//! about it.
//!
//! 3: replica id (consumers send −1) · 4: flexible.

use catalog::acl::AclOperation;
use protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::freshness::SecondLook;
use crate::partitions::{TopicRef, led_here};
use crate::request::RequestContext;

const UNDEFINED: (i32, i64) = (-1, -1);

pub(super) async fn handle(
    context: RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let asked: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let is_too_large = asked > context.broker.limits.request_partitions_max;
    let mut response = OffsetForLeaderEpochResponse::default();
    let mut second_look = SecondLook::default();
    // Brokers ask as well as consumers.
    let may_all = context.may(AclOperation::ClusterAction, Resource::Cluster);
    let mut describable = context.topics(AclOperation::Describe);
    for topic in request.topics {
        let right = match may_all {
            true => Ok(()),
            false => describable.check(&context.broker.catalog.read(), &topic.topic),
        };
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let mut result = match right {
                Err(code) => Err(code),
                Ok(()) if is_too_large => Err(ErrorCode::InvalidRequest),
                Ok(()) => find(&context, &topic.topic, asked),
            };
            if let Err(code) = result
                && second_look.is_due(&context.broker.freshness, code).await
            {
                result = find(&context, &topic.topic, asked);
            }
            let (leader_epoch, end_offset) = result.unwrap_or(UNDEFINED);
            partitions.push(EpochEndOffset {
                error_code: result.err().unwrap_or(ErrorCode::None).code(),
                partition: asked.partition,
                leader_epoch,
                end_offset,
            });
        }
        response.topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    response
}

fn find(
    context: &RequestContext,
    topic: &Str,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    let broker = &context.broker;
    let state = broker.catalog.read();
    let topic = TopicRef::Name(topic.clone()).find(&state)?.clone();
    let led = led_here(&broker.log, broker.node_id, &topic, asked.partition)?;
    led.check_epoch(asked.current_leader_epoch)?;
    Ok(led.partition.end_offset_for_epoch(asked.leader_epoch, led.leader_epoch))
}
