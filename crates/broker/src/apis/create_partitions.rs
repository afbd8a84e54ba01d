//! CreatePartitions (key 37), versions 0–3.
//!
//! Grows topics to a new number of partitions, or says whether it could (`validate_only`). Records stay where they
//! are. Manual assignments are checked as Kafka checks them.
//!
//! Difference: topics of coordinators do not grow (INVALID_PARTITIONS). Kafka lets them, and from its next start on looks for groups, with
//! all that they have committed, in other partitions than they are in; here that would be so at once.
//!
//! 2: flexible · 3: THROTTLING_QUOTA_EXCEEDED (KIP-599).

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::acl::AclOperation;
use catalog::{State, Topic};
use protocol::messages::create_partitions_request::CreatePartitionsTopic;
use protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::error::ApiError;
use crate::request::RequestContext;
use crate::topics::check_assignment;

/// Clients of older versions do not know THROTTLING_QUOTA_EXCEEDED: they are only made to wait.
const THROTTLED_SINCE: i16 = 3;

pub(super) async fn handle(
    context: RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let broker = &context.broker;
    broker.freshness.catch_up().await;
    let mut times: BTreeMap<&Str, u32> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let mut results = Vec::with_capacity(times.len());
    let mut mutations = context.mutations(THROTTLED_SINCE);
    for topic in &request.topics {
        if times[&topic.name] > 1 {
            continue;
        }
        let planned = match context.authorize(AclOperation::Alter, Resource::Topic(&topic.name)) {
            Err(code) => Err(code.into()),
            Ok(()) => plan(&broker.catalog.read(), topic, broker.limits.request_partitions_max),
        };
        let result = match planned {
            Err(error) => Err(error),
            Ok(_) if request.validate_only => Ok(()),
            Ok(existing) => match mutations.take(topic.count as usize - existing.partitions.len()) {
                Err(error) => Err(error),
                Ok(()) => {
                    let assignments: Vec<Vec<i32>> = topic
                        .assignments
                        .iter()
                        .flatten()
                        .map(|assignment| assignment.broker_ids.clone())
                        .collect();
                    broker.topics.add_partitions(&existing, topic.count as u32, &assignments).await
                }
            },
        };
        results.push(response(&topic.name, result));
    }
    for name in times.iter().filter(|(_, times)| **times > 1).map(|(name, _)| *name) {
        let error = ApiError::new(ErrorCode::InvalidRequest, "the topic is named more than once");
        results.push(response(name, Err(error)));
    }
    let throttle_time_ms = mutations.throttle_time_ms();
    CreatePartitionsResponse { throttle_time_ms, results }
}

fn plan(state: &State, asked: &CreatePartitionsTopic, more_max: usize) -> Result<Arc<Topic>, ApiError> {
    let topic = state.topic(&asked.name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let now = topic.partitions.len();
    let refused = |code, message: String| Err(ApiError::new(code, message));
    if topic.internal {
        let message = "where groups and transactional ids are kept follows from the number of partitions";
        return refused(ErrorCode::InvalidPartitions, message.into());
    }
    let to_count = match usize::try_from(asked.count) {
        Ok(to_count) if to_count > now => to_count,
        Ok(to_count) if to_count == now => {
            return refused(
                ErrorCode::InvalidPartitions,
                format!("the topic has {now} partition(s) already"),
            );
        }
        _ => {
            let message = format!("the topic has {now} partition(s), {} would not be more", asked.count);
            return refused(ErrorCode::InvalidPartitions, message);
        }
    };
    if to_count - now > more_max {
        let message = format!("one request may add {more_max} partitions at most");
        return refused(ErrorCode::PolicyViolation, message);
    }
    if let Some(assignments) = &asked.assignments {
        if assignments.len() != to_count - now {
            let message =
                format!("{} partition(s) are added, {} assigned", to_count - now, assignments.len());
            return refused(ErrorCode::InvalidReplicaAssignment, message);
        }
        for assignment in assignments {
            check_assignment(state, &assignment.broker_ids, Some(topic.replication_factor as usize))?;
        }
    }
    Ok(topic.clone())
}

fn response(name: &Str, result: Result<(), ApiError>) -> CreatePartitionsTopicResult {
    let error = result.err().unwrap_or(ApiError::NONE);
    CreatePartitionsTopicResult {
        name: name.clone(),
        error_code: error.code.code(),
        error_message: error.message,
    }
}
