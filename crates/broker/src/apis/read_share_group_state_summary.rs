//! ReadShareGroupStateSummary v0–1: where groups begin in share partitions, for tools (KIP-932). For whoever may act for the cluster.
//!
//! v0 · v1 counts the records that are done (KIP-1226).

use protocol::messages::read_share_group_state_summary_response::{PartitionResult, ReadStateSummaryResult};
use protocol::messages::{ReadShareGroupStateSummaryRequest, ReadShareGroupStateSummaryResponse};

use super::share_group_state::{answered, error_code, message};
use crate::request::RequestContext;
use crate::share_coordinator::{Answer, Asked, NO_COUNT, Told};

const COUNT_SINCE: i16 = 1;

pub(super) async fn handle(
    context: RequestContext,
    request: ReadShareGroupStateSummaryRequest,
) -> ReadShareGroupStateSummaryResponse {
    let asked = request.topics.into_iter().flat_map(|topic| {
        let partitions = topic.partitions.into_iter();
        partitions.map(move |partition| (topic.topic_id, partition.partition, Asked::Summary))
    });
    let results = answered(&context, &request.group_id, asked.collect()).await;
    let tells_count = context.api_version >= COUNT_SINCE;
    let result = |(topic_id, partitions): (_, Vec<_>)| ReadStateSummaryResult {
        topic_id,
        partitions: partitions.into_iter().map(|one| partition_result(one, tells_count)).collect(),
    };
    ReadShareGroupStateSummaryResponse { results: results.into_iter().map(result).collect() }
}

fn partition_result((partition, answer): (i32, Answer), tells_count: bool) -> PartitionResult {
    let mut result = PartitionResult {
        partition,
        error_code: error_code(&answer),
        error_message: message(&answer),
        delivery_complete_count: NO_COUNT,
        ..PartitionResult::default()
    };
    if let Ok(Told::Summary(summary)) = answer {
        result.state_epoch = summary.state_epoch;
        result.leader_epoch = summary.leader_epoch;
        result.start_offset = summary.start_offset;
        if tells_count {
            result.delivery_complete_count = summary.delivery_complete_count;
        }
    }
    result
}
