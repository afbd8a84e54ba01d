//! DescribeProducers (key 61), version 0 (KIP-664).
//!
//! The idempotent producers that a partition remembers: epoch, last sequence, when they wrote last, and where their open
//! transaction begins (−1: none is open).

use catalog::acl::AclOperation;
use catalog::topic_name;
use protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};
use protocol::{ErrorCode, Str};

use crate::answer_room::AnswerRoom;
use crate::authorizer::Resource;
use crate::partitions::{TopicRef, led_here};
use crate::request::RequestContext;

/// Of what is told of a producer.
const PRODUCER_BYTES: usize = 40;

pub(super) async fn handle(
    context: RequestContext,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let asked: usize = request.topics.iter().map(|topic| topic.partition_indexes.len()).sum();
    context.broker.freshness.catch_up().await;
    let mut room = AnswerRoom::of(&context, asked);
    let mut response = DescribeProducersResponse::default();
    for topic in request.topics {
        let right = match topic_name::validate(&topic.name) {
            Err(_) => Err(ErrorCode::InvalidTopicException),
            Ok(()) => context.authorize(AclOperation::Read, Resource::Topic(&topic.name)),
        };
        let partitions = topic.partition_indexes.iter().map(|index| {
            let result = right
                // Tools look for the leader then, and ask for the rest.
                .and_then(|()| room.check(ErrorCode::NotLeaderOrFollower))
                .and_then(|()| describe(&context, &topic.name, *index));
            room.take(PRODUCER_BYTES * result.as_ref().map_or(0, Vec::len));
            PartitionResponse {
                partition_index: *index,
                error_code: result.as_ref().err().copied().unwrap_or(ErrorCode::None).code(),
                active_producers: result.unwrap_or_default(),
                ..PartitionResponse::default()
            }
        });
        let partitions = partitions.collect();
        response.topics.push(TopicResponse { name: topic.name, partitions });
    }
    response
}

fn describe(context: &RequestContext, topic: &Str, index: i32) -> Result<Vec<ProducerState>, ErrorCode> {
    let broker = &context.broker;
    let state = broker.catalog.read();
    let topic = TopicRef::Name(topic.clone()).find(&state)?;
    let led = led_here(&broker.log, broker.node_id, topic, index)?;
    let producers = led.partition.producers().into_iter().map(|producer| ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: producer.epoch.into(),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start_offset,
    });
    Ok(producers.collect())
}
