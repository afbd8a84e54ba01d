//! ListPartitionReassignments (key 46), version 0 (KIP-455).
//!
//! There is no copy to make: a reassignment is under way while none of the nodes that a partition was assigned to leads it, though
//! one of them could. Never in a directory.

use catalog::acl::AclOperation;
use catalog::{PartitionInfo, Replicas, State, Topic};
use protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::authorizer::Resource;
use crate::request::RequestContext;

pub(super) async fn handle(
    context: RequestContext,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let broker = &context.broker;
    if let Err(code) = context.authorize(AclOperation::Describe, Resource::Cluster) {
        return ListPartitionReassignmentsResponse {
            error_code: code.code(),
            error_message: None,
            ..ListPartitionReassignmentsResponse::default()
        };
    }
    broker.freshness.catch_up().await;
    let state = broker.catalog.read();
    let replicas = state.replicas();
    let under_way = |topic: &Topic, indices: &mut dyn Iterator<Item = i32>| {
        let known =
            indices.filter_map(|index| Some((index, topic.partitions.get(usize::try_from(index).ok()?)?)));
        let known = known.filter(|(_, info)| is_under_way(&state, info));
        let partitions: Vec<_> = known.map(|(index, info)| ongoing(&replicas, topic, index, info)).collect();
        (!partitions.is_empty()).then(|| OngoingTopicReassignment { name: topic.name.clone(), partitions })
    };
    let topics = match &request.topics {
        Some(asked) => asked
            .iter()
            .filter_map(|asked| {
                under_way(state.topic(&asked.name)?, &mut asked.partition_indexes.iter().copied())
            })
            .collect(),
        None => state
            .topics()
            .filter_map(|topic| under_way(topic, &mut (0..topic.partitions.len() as i32)))
            .collect(),
    };
    ListPartitionReassignmentsResponse {
        error_message: None,
        topics,
        ..ListPartitionReassignmentsResponse::default()
    }
}

pub(super) fn is_under_way(state: &State, info: &PartitionInfo) -> bool {
    state.misled(info).is_some() && info.assignment().is_some_and(|nodes| !nodes.contains(&info.leader))
}

fn ongoing(
    replicas: &Replicas<'_>,
    topic: &Topic,
    partition_index: i32,
    info: &PartitionInfo,
) -> OngoingPartitionReassignment {
    OngoingPartitionReassignment {
        partition_index,
        replicas: replicas.of(topic, info).0.to_vec(),
        adding_replicas: info.assignment().unwrap_or_default().to_vec(),
        removing_replicas: vec![info.leader],
    }
}
