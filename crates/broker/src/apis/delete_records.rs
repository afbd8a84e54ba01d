//! DeleteRecords (key 21), versions 0–2 (KIP-107).
//!
//! Moves the start of a partition up to an offset; −1 is the high watermark. Beyond the high watermark, or below −1,
//! it is OFFSET_OUT_OF_RANGE; below the start nothing happens and the start is answered. A topic that is only
//! compacted is POLICY_VIOLATION, an internal one INVALID_TOPIC_EXCEPTION, as in Kafka. Before a partition is said to be
//! unknown, or led elsewhere, we catch up with what other brokers said about it.
//!
//! 2: flexible.

use std::sync::Arc;

use catalog::acl::AclOperation;
use commitlog::Partition;
use protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use protocol::{ErrorCode, Str};

use crate::error::read_error;
use crate::freshness::SecondLook;
use crate::partitions::{TopicRef, led_here};
use crate::request::RequestContext;

const HIGH_WATERMARK: i64 = -1;

pub(super) async fn handle(context: RequestContext, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let asked: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let is_too_large = asked > context.broker.limits.request_partitions_max;
    let mut response = DeleteRecordsResponse::default();
    let mut second_look = SecondLook::default();
    let mut deletable = context.topics(AclOperation::Delete);
    for topic in &request.topics {
        let right = deletable.check(&context.broker.catalog.read(), &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let delete = || delete(&context, &topic.name, partition.partition_index, partition.offset);
            let mut result = match right {
                Err(code) => Err(code),
                Ok(()) if is_too_large => Err(ErrorCode::InvalidRequest),
                Ok(()) => delete().await,
            };
            if let Err(code) = result
                && second_look.is_due(&context.broker.freshness, code).await
            {
                result = delete().await;
            }
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: partition.partition_index,
                low_watermark: result.unwrap_or(-1),
                error_code: result.err().unwrap_or(ErrorCode::None).code(),
            });
        }
        response.topics.push(DeleteRecordsTopicResult { name: topic.name.clone(), partitions });
    }
    response
}

async fn delete(context: &RequestContext, topic: &Str, index: i32, offset: i64) -> Result<i64, ErrorCode> {
    let partition = find(context, topic, index)?;
    let high_watermark = partition.offsets().high_watermark;
    let before = match offset {
        HIGH_WATERMARK => high_watermark,
        0.. if offset <= high_watermark => offset,
        _ => return Err(ErrorCode::OffsetOutOfRange),
    };
    partition.delete_records(before).await.map_err(|error| read_error(&error))
}

fn find(context: &RequestContext, topic: &Str, index: i32) -> Result<Arc<Partition>, ErrorCode> {
    let broker = &context.broker;
    let state = broker.catalog.read();
    let topic = TopicRef::Name(topic.clone()).find(&state)?;
    let led = led_here(&broker.log, broker.node_id, topic, index)?;
    if topic.internal {
        return Err(ErrorCode::InvalidTopicException);
    }
    if !broker.configs.topic(&state, topic).cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    Ok(led.partition)
}
