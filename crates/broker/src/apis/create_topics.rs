//! CreateTopics (key 19), versions 2–7.
//!
//! Makes topics, or says what would happen (`validate_only`). One topic's error does not touch the others; a name
//! that stands twice in the request is INVALID_REQUEST. The answer carries the effective configs of what was made.
//!
//! Differences: on a directory a replication factor of 1 is the only one that can be reached (−1 takes
//! `default.replication.factor`); more is INVALID_REPLICATION_FACTOR, as in a Kafka cluster of one. On a bucket, which keeps
//! copies of its own, any factor is taken. A topic that would take the cluster beyond `cluster.partitions.max` is
//! POLICY_VIOLATION; Kafka's own bound is 10,000 per request.
//!
//! 4: defaults by −1 (KIP-464) · 5: flexible, configs in the answer (KIP-525) · 6: THROTTLING_QUOTA_EXCEEDED (KIP-599)
//! · 7: topic ids (KIP-516).

use std::collections::BTreeMap;

use catalog::State;
use catalog::acl::AclOperation;
use catalog::config::describe::describe_new_topic;
use catalog::topic_name::CLUSTER_METADATA;
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::error::ApiError;
use crate::request::RequestContext;
use crate::topics::{NewTopic, PlannedTopic};

/// Clients of older versions do not know THROTTLING_QUOTA_EXCEEDED: they are only made to wait.
const THROTTLED_SINCE: i16 = 6;

pub(super) async fn handle(context: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let broker = &context.broker;
    let mut times: BTreeMap<&Str, u32> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let mut results: Vec<CreatableTopicResult> = Vec::with_capacity(times.len());
    let mut planned: Vec<PlannedTopic> = Vec::new();
    let mut mutations = context.mutations(THROTTLED_SINCE);
    {
        let state = broker.catalog.read();
        let rights = context.rights(&state);
        // Whoever may create anything, or this one.
        let may_create_all = rights.may(AclOperation::Create, Resource::Cluster);
        let mut partitions_asked = 0;
        for topic in request.topics.iter().filter(|topic| times[&topic.name] == 1) {
            partitions_asked += topic.num_partitions.max(1) as usize + topic.assignments.len();
            let plan = match () {
                _ if topic.name == CLUSTER_METADATA => Err(ApiError::new(
                    ErrorCode::InvalidRequest,
                    format!("{CLUSTER_METADATA} cannot be created"),
                )),
                _ if !may_create_all
                    && rights.authorize(AclOperation::Create, Resource::Topic(&topic.name)).is_err() =>
                {
                    Err(ApiError::new(ErrorCode::TopicAuthorizationFailed, "Authorization failed."))
                }
                _ if partitions_asked > broker.limits.request_partitions_max => Err(ApiError::new(
                    ErrorCode::PolicyViolation,
                    format!(
                        "one request may create {} partitions at most",
                        broker.limits.request_partitions_max
                    ),
                )),
                _ => broker.topics.plan(&state, &new_topic(topic)),
            };
            match plan {
                Ok(plan) => planned.push(plan),
                Err(error) => results.push(refused(&topic.name, error)),
            }
        }
        // Two topics of one request may collide with each other, or be too many together.
        let rooms = broker.topics.check_room_for(&state, &planned);
        let mut rooms = rooms.into_iter();
        planned.retain(|plan| match rooms.next() {
            Some(Err(error)) => {
                results.push(refused(&plan.name, error));
                false
            }
            _ => true,
        });
        if !request.validate_only {
            planned.retain(|plan| match mutations.take(plan.partition_count as usize) {
                Ok(()) => true,
                Err(error) => {
                    results.push(refused(&plan.name, error));
                    false
                }
            });
        }
        if request.validate_only {
            results.extend(planned.drain(..).map(|plan| created(&context, &state, &plan)));
        }
    }
    let made = broker.topics.create(&planned).await;
    // Who produces next, perhaps without waiting for an answer, shall find the leader ready.
    broker.tell_others().await;
    let state = broker.catalog.read();
    for (plan, result) in planned.iter().zip(made) {
        results.push(match result {
            Ok(()) => created(&context, &state, plan),
            Err(error) => refused(&plan.name, error),
        });
    }
    for name in times.iter().filter(|(_, times)| **times > 1).map(|(name, _)| *name) {
        results.push(refused(
            name,
            ApiError::new(ErrorCode::InvalidRequest, "the topic is named more than once"),
        ));
    }
    let throttle_time_ms = mutations.throttle_time_ms();
    CreateTopicsResponse { throttle_time_ms, topics: results }
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    NewTopic {
        name: topic.name.clone(),
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|assignment| (assignment.partition_index, assignment.broker_ids.clone()))
            .collect(),
        configs: topic.configs.iter().map(|config| (config.name.clone(), config.value.clone())).collect(),
    }
}

fn refused(name: &Str, error: ApiError) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.clone(),
        error_code: error.code.code(),
        error_message: error.message,
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    }
}

/// How it is made is told to those who may describe its configs.
fn created(context: &RequestContext, state: &State, plan: &PlannedTopic) -> CreatableTopicResult {
    if !context.rights(state).may(AclOperation::DescribeConfigs, Resource::Topic(&plan.name)) {
        return CreatableTopicResult {
            name: plan.name.clone(),
            topic_id: plan.id,
            error_code: ErrorCode::None.code(),
            error_message: None,
            topic_config_error_code: ErrorCode::TopicAuthorizationFailed.code(),
            num_partitions: -1,
            replication_factor: -1,
            configs: Some(Vec::new()),
        };
    }
    let described = describe_new_topic(state, context.broker.configs.started_with(), &plan.configs);
    let configs = described.into_iter().map(|config| CreatableTopicConfigs {
        name: config.name,
        value: config.value,
        read_only: config.read_only,
        config_source: config.source.code(),
        is_sensitive: config.is_sensitive,
    });
    CreatableTopicResult {
        name: plan.name.clone(),
        topic_id: plan.id,
        error_code: ErrorCode::None.code(),
        error_message: None,
        num_partitions: plan.partition_count as i32,
        replication_factor: plan.replication_factor,
        configs: Some(configs.collect()),
        ..CreatableTopicResult::default()
    }
}
