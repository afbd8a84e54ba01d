//! ReadShareGroupState v0: a leader takes share partitions over; whoever led before is fenced (KIP-932). For whoever may act for the
//! cluster.

use protocol::messages::read_share_group_state_response::{PartitionResult, ReadStateResult, StateBatch};
use protocol::messages::{ReadShareGroupStateRequest, ReadShareGroupStateResponse};

use super::share_group_state::{answered, error_code, message};
use crate::request::RequestContext;
use crate::share_coordinator::{Answer, Asked, Told};

pub(super) async fn handle(
    context: RequestContext,
    request: ReadShareGroupStateRequest,
) -> ReadShareGroupStateResponse {
    let asked = request.topics.into_iter().flat_map(|topic| {
        topic.partitions.into_iter().map(move |partition| {
            let asked = Asked::Read { leader_epoch: partition.leader_epoch };
            (topic.topic_id, partition.partition, asked)
        })
    });
    let results = answered(&context, &request.group_id, asked.collect()).await;
    let result = |(topic_id, partitions): (_, Vec<_>)| ReadStateResult {
        topic_id,
        partitions: partitions.into_iter().map(partition_result).collect(),
    };
    ReadShareGroupStateResponse { results: results.into_iter().map(result).collect() }
}

fn partition_result((partition, answer): (i32, Answer)) -> PartitionResult {
    let mut result = PartitionResult {
        partition,
        error_code: error_code(&answer),
        error_message: message(&answer),
        ..PartitionResult::default()
    };
    if let Ok(Told::State(state)) = answer {
        let batches = state.batches.into_iter().map(|batch| StateBatch {
            first_offset: batch.first_offset,
            last_offset: batch.last_offset,
            delivery_state: batch.delivery_state,
            delivery_count: batch.delivery_count,
        });
        result.state_epoch = state.state_epoch;
        result.start_offset = state.start_offset;
        result.state_batches = batches.collect();
    }
    result
}
