//! InitializeShareGroupState v0: the state of share partitions begins anew (KIP-932). Kafka's brokers ask it of one another; ours do so
//! over their own listener, so here it is for whoever may act for the cluster.

use protocol::messages::initialize_share_group_state_response::{InitializeStateResult, PartitionResult};
use protocol::messages::{InitializeShareGroupStateRequest, InitializeShareGroupStateResponse};

use super::share_group_state::{answered, error_code, message};
use crate::request::RequestContext;
use crate::share_coordinator::Asked;

pub(super) async fn handle(
    context: RequestContext,
    request: InitializeShareGroupStateRequest,
) -> InitializeShareGroupStateResponse {
    let asked = request.topics.into_iter().flat_map(|topic| {
        topic.partitions.into_iter().map(move |partition| {
            let asked = Asked::Initialize {
                state_epoch: partition.state_epoch,
                start_offset: partition.start_offset,
            };
            (topic.topic_id, partition.partition, asked)
        })
    });
    let results = answered(&context, &request.group_id, asked.collect()).await;
    let result = |(topic_id, partitions): (_, Vec<_>)| InitializeStateResult {
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
    InitializeShareGroupStateResponse { results: results.into_iter().map(result).collect() }
}
