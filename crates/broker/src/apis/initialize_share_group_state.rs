//! InitializeShareGroupState v0: the state of share partitions begins anew (KIP-932). Kafka's brokers ask it of one another; ours do so
//! over their own listener, so here it is for whoever may act for the cluster.

use catalog::acl::AclOperation;
use protocol::ErrorCode;
use protocol::messages::initialize_share_group_state_response::{InitializeStateResult, PartitionResult};
use protocol::messages::{InitializeShareGroupStateRequest, InitializeShareGroupStateResponse};

use super::share_group_state::{answered, error_code, message};
use crate::authorizer::Resource;
use crate::request::RequestContext;
use crate::share_coordinator::Asked;

pub(super) async fn handle(
    context: RequestContext,
    mut request: InitializeShareGroupStateRequest,
) -> InitializeShareGroupStateResponse {
    // No state has an epoch below 0; who may not ask at all is told so, and nothing else.
    let may = context.authorize(AclOperation::ClusterAction, Resource::Cluster).is_ok();
    let mut refused = Vec::new();
    for topic in request.topics.iter_mut().filter(|_| may) {
        let below = topic.partitions.extract_if(.., |partition| partition.state_epoch < 0);
        refused.extend(below.map(|partition| (topic.topic_id, partition.partition)));
    }
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
    let mut results: Vec<InitializeStateResult> = results.into_iter().map(result).collect();
    for (topic_id, partition) in refused {
        let error_code = ErrorCode::InvalidRequest.code();
        let partition = PartitionResult { partition, error_code, ..PartitionResult::default() };
        match results.iter_mut().find(|result| result.topic_id == topic_id) {
            Some(result) => result.partitions.push(partition),
            None => results.push(InitializeStateResult { topic_id, partitions: vec![partition] }),
        }
    }
    InitializeShareGroupStateResponse { results }
}
