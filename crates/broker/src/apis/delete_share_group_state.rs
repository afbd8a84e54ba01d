//! DeleteShareGroupState v0: the state of share partitions goes (KIP-932). For whoever may act for the cluster.

use protocol::messages::delete_share_group_state_response::{DeleteStateResult, PartitionResult};
use protocol::messages::{DeleteShareGroupStateRequest, DeleteShareGroupStateResponse};

use super::share_group_state::{answered, error_code, message};
use crate::request::RequestContext;
use crate::share_coordinator::{Asked, NO_EPOCH};

const WHATEVER_THERE_IS: Asked = Asked::Delete { state_epoch: NO_EPOCH };

pub(super) async fn handle(
    context: RequestContext,
    request: DeleteShareGroupStateRequest,
) -> DeleteShareGroupStateResponse {
    let asked = request.topics.into_iter().flat_map(|topic| {
        let partitions = topic.partitions.into_iter();
        partitions.map(move |partition| (topic.topic_id, partition.partition, WHATEVER_THERE_IS))
    });
    let results = answered(&context, &request.group_id, asked.collect()).await;
    let result = |(topic_id, partitions): (_, Vec<_>)| DeleteStateResult {
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
    DeleteShareGroupStateResponse { results: results.into_iter().map(result).collect() }
}
