//! WriteShareGroupState v0–1: what became of records of share partitions is kept (KIP-932). For whoever may act for the cluster.
//!
//! v0 · v1 counts the records that are done, for the lag (KIP-1226).

use protocol::messages::write_share_group_state_response::{PartitionResult, WriteStateResult};
use protocol::messages::{WriteShareGroupStateRequest, WriteShareGroupStateResponse};

use super::share_group_state::{answered, error_code, message};
use crate::request::RequestContext;
use crate::share_coordinator::{Asked, StateBatch, WriteState};

pub(super) async fn handle(
    context: RequestContext,
    request: WriteShareGroupStateRequest,
) -> WriteShareGroupStateResponse {
    let asked = request.topics.into_iter().flat_map(|topic| {
        topic.partitions.into_iter().map(move |partition| {
            let batches = partition.state_batches.into_iter().map(|batch| StateBatch {
                first_offset: batch.first_offset,
                last_offset: batch.last_offset,
                delivery_state: batch.delivery_state,
                delivery_count: batch.delivery_count,
            });
            let write = WriteState {
                state_epoch: partition.state_epoch,
                leader_epoch: partition.leader_epoch,
                start_offset: partition.start_offset,
                delivery_complete_count: partition.delivery_complete_count,
                batches: batches.collect(),
            };
            (topic.topic_id, partition.partition, Asked::Write(write))
        })
    });
    let results = answered(&context, &request.group_id, asked.collect()).await;
    let result = |(topic_id, partitions): (_, Vec<_>)| WriteStateResult {
        topic_id,
        partitions: partitions
            .into_iter()
            .map(|(partition, answer)| PartitionResult {
                partition,
                error_code: error_code(&answer),
                error_message: message(&answer),
            })
            .collect(),
    };
    WriteShareGroupStateResponse { results: results.into_iter().map(result).collect() }
}
