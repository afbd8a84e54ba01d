//! AlterPartitionReassignments (key 45), versions 0–1 (KIP-455).
//!
//! Puts partitions onto brokers. In a directory there is one place, so a reassignment either asks for what is (success, nothing to do)
//! or for brokers that do not exist (INVALID_REPLICA_ASSIGNMENT); nothing is ever under way, so there is nothing to cancel.
//!
//! In a bucket it is a line in the catalog: those nodes are shown as the replicas from now on, and the first of them that can leads. No
//! data moves, so that is a matter of a second, and under way only as long as the leader is none of them. Cancelled before that
//! (null replicas), or with no replicas left alive, the partition is placed as any other.
//!
//! 1: whether the number of replicas may change (KIP-860).

use catalog::acl::AclOperation;
use catalog::{MetadataRecord, Replicas, State, Topic};
use protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};
use protocol::{ErrorCode, Str};

use crate::apis::list_partition_reassignments::is_under_way;
use crate::authorizer::Resource;
use crate::error::ApiError;
use crate::request::RequestContext;
use crate::topics::check_assignment;

pub(super) async fn handle(
    context: RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let broker = &context.broker;
    if let Err(code) = context.authorize(AclOperation::Alter, Resource::Cluster) {
        return refused(&request, code);
    }
    broker.freshness.catch_up().await;
    let may_change_factor = request.allow_replication_factor_change;
    let mut responses = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let (mut results, record) = plan(&broker.catalog.read(), asked, may_change_factor);
        if let Some(record) = record
            && let Err(error) = broker.catalog.append(vec![record]).await
        {
            let error = ApiError::from(error);
            results
                .iter_mut()
                .filter(|result| result.is_ok())
                .for_each(|result| *result = Err(error.clone()));
        }
        responses.push(response(asked, results));
    }
    broker.tell_others().await;
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_change_factor,
        error_message: None,
        responses,
        ..AlterPartitionReassignmentsResponse::default()
    }
}

/// Kafka says it of every partition, and of the whole.
fn refused(
    request: &AlterPartitionReassignmentsRequest,
    code: ErrorCode,
) -> AlterPartitionReassignmentsResponse {
    let of_topic = |asked: &ReassignableTopic| {
        response(asked, asked.partitions.iter().map(|_| Err(code.into())).collect())
    };
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        error_code: code.code(),
        error_message: None,
        responses: request.topics.iter().map(of_topic).collect(),
        ..AlterPartitionReassignmentsResponse::default()
    }
}

fn response(asked: &ReassignableTopic, results: Vec<Result<(), ApiError>>) -> ReassignableTopicResponse {
    let partitions = asked.partitions.iter().zip(results).map(|(partition, result)| {
        let error = result.err().unwrap_or(ApiError::NONE);
        ReassignablePartitionResponse {
            partition_index: partition.partition_index,
            error_code: error.code.code(),
            error_message: error.message,
        }
    });
    ReassignableTopicResponse { name: asked.name.clone(), partitions: partitions.collect() }
}

/// What becomes of each partition, and the record that does it for those that are well.
fn plan(
    state: &State,
    asked: &ReassignableTopic,
    may_change_factor: bool,
) -> (Vec<Result<(), ApiError>>, Option<MetadataRecord>) {
    let replicas = state.replicas();
    let mut wanted: Vec<(u32, Vec<i32>)> = Vec::new();
    let results = asked.partitions.iter().map(|partition| {
        wanted.extend(reassign(state, &replicas, &asked.name, partition, may_change_factor)?);
        Ok(())
    });
    let results = results.collect();
    let topic = state.topic(&asked.name).filter(|_| !wanted.is_empty());
    let record = topic.map(|topic| MetadataRecord::AssignReplicas { topic_id: topic.id, partitions: wanted });
    (results, record)
}

/// None: it is as it is asked for.
fn reassign(
    state: &State,
    shown: &Replicas<'_>,
    topic: &Str,
    asked: &ReassignablePartition,
    may_change_factor: bool,
) -> Result<Option<(u32, Vec<i32>)>, ApiError> {
    let topic: &Topic = state.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let index = u32::try_from(asked.partition_index).ok();
    let index = index.filter(|index| (*index as usize) < topic.partitions.len());
    let index = index.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let info = &topic.partitions[index as usize];
    let Some(replicas) = &asked.replicas else {
        return match is_under_way(state, info) {
            true => Ok(Some((index, Vec::new()))),
            false => Err(ErrorCode::NoReassignmentInProgress.into()),
        };
    };
    let (now, _) = shown.of(topic, info);
    if !may_change_factor && replicas.len() != now.len() {
        return Err(ApiError::new(
            ErrorCode::InvalidReplicationFactor,
            "the number of replicas may not change",
        ));
    }
    check_assignment(state, replicas, None)?;
    match info.assignment() {
        Some(assigned) if assigned == replicas => Ok(None),
        _ if shown.are_fixed() && now[..] == replicas[..] => Ok(None),
        _ if shown.are_fixed() => Err(ApiError::new(
            ErrorCode::InvalidReplicaAssignment,
            "in a directory partitions cannot be moved",
        )),
        _ => Ok(Some((index, replicas.clone()))),
    }
}
