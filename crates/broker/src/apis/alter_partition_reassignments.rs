//! AlterPartitionReassignments (key 45), versions 0–1 (KIP-455).
//!
//! Puts partitions onto brokers. In a cluster of one there is one place, so a reassignment either asks for what is
//! (success, nothing to do) or for brokers that do not exist (INVALID_REPLICA_ASSIGNMENT). Nothing is ever under way,
//! so there is nothing to cancel (null replicas: NO_REASSIGNMENT_IN_PROGRESS).
//!
//! 1: whether the number of replicas may change (KIP-860).

use catalog::State;
use protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};
use protocol::{ErrorCode, Str};

use crate::error::ApiError;
use crate::request::RequestContext;
use crate::topics::check_assignment;

pub(super) async fn handle(
    context: RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let state = context.broker.catalog.read();
    let may_change_factor = request.allow_replication_factor_change;
    let responses = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let result = reassign(&state, &topic.name, partition, may_change_factor);
            let error = result.err().unwrap_or(ApiError::NONE);
            ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code: error.code.code(),
                error_message: error.message,
            }
        });
        ReassignableTopicResponse { name: topic.name.clone(), partitions: partitions.collect() }
    });
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_change_factor,
        error_message: None,
        responses: responses.collect(),
        ..AlterPartitionReassignmentsResponse::default()
    }
}

fn reassign(
    state: &State,
    topic: &Str,
    asked: &ReassignablePartition,
    may_change_factor: bool,
) -> Result<(), ApiError> {
    let topic = state.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let index = usize::try_from(asked.partition_index).ok();
    let info =
        index.and_then(|index| topic.partitions.get(index)).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let replicas = asked.replicas.as_ref().ok_or(ErrorCode::NoReassignmentInProgress)?;
    if !may_change_factor && replicas.len() != info.replicas.len() {
        return Err(ApiError::new(
            ErrorCode::InvalidReplicationFactor,
            "the number of replicas may not change",
        ));
    }
    check_assignment(state, replicas, None)?;
    match info.replicas[..] == replicas[..] {
        true => Ok(()),
        false => Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, "partitions cannot be moved yet")),
    }
}
