//! FindCoordinator v0–6: which broker looks after a group, or a transactional id.
//!
//! The leader of its partition of `__consumer_offsets`, `__transaction_state` or `__share_group_state`. One that is fenced, or has no listener of this name, is
//! COORDINATOR_NOT_AVAILABLE until another takes over; before that is said we catch up with what other brokers said about it.
//! Making the topic on first use happens here, as in Kafka, but the first asker gets an answer at once instead of
//! COORDINATOR_NOT_AVAILABLE and a retry.
//!
//! Difference: more than `request.partitions.max` keys are INVALID_REQUEST.
//!
//! v1 adds the key type · v3 is flexible · v4 asks for several keys at once (KIP-699) · v5 TRANSACTION_ABORTABLE
//! (KIP-890) · v6 share groups (KIP-932).

use catalog::acl::AclOperation;
use catalog::topic_name;
use protocol::messages::find_coordinator_response::Coordinator;
use protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::coordinators::coordinator_of;
use crate::error::ApiError;
use crate::nodes::{NO_NODE, Node};
use crate::request::RequestContext;
use crate::share_coordinator::ShareKey;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;
const SEVERAL_KEYS_SINCE: i16 = 4;
const SHARE_SINCE: i16 = 6;

pub(crate) async fn handle(
    context: RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let is_one = context.api_version < SEVERAL_KEYS_SINCE;
    let keys = if is_one { vec![request.key] } else { request.coordinator_keys };
    // A request of many short keys would be answered with many long addresses.
    if keys.len() > context.broker.limits.request_partitions_max {
        let refused = |key: Str| Coordinator {
            key,
            node_id: NO_NODE,
            port: -1,
            error_code: ErrorCode::InvalidRequest.code(),
            ..Coordinator::default()
        };
        let coordinators = keys.into_iter().map(refused).collect();
        return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
    }
    let may_know = |key: &Str| authorize(&context, request.key_type, key).map_err(ApiError::from);
    let rights: Vec<Result<(), ApiError>> = keys.iter().map(may_know).collect();
    // Nobody shall make the topic by asking for what he may not have.
    let allowed: Vec<Str> =
        keys.iter().zip(&rights).filter(|(_, right)| right.is_ok()).map(|(key, _)| key.clone()).collect();
    let found = match allowed.is_empty() {
        true => Vec::new(),
        false => find(&context, request.key_type, &allowed).await,
    };
    let mut found = found.into_iter();
    let mut coordinators = keys.into_iter().zip(rights).map(|(key, right)| {
        let found = right.and_then(|()| found.next().expect("one answer for each key that is allowed"));
        coordinator(key, found)
    });
    match is_one {
        true => one(coordinators.next().expect("one answer for one key")),
        false => FindCoordinatorResponse {
            coordinators: coordinators.collect(),
            ..FindCoordinatorResponse::default()
        },
    }
}

fn authorize(context: &RequestContext, key_type: i8, key: &Str) -> Result<(), ErrorCode> {
    match key_type {
        GROUP => context.authorize(AclOperation::Describe, Resource::Group(key)),
        TRANSACTION => context.authorize(AclOperation::Describe, Resource::TransactionalId(key)),
        SHARE if context.api_version >= SHARE_SINCE => {
            context.authorize(AclOperation::ClusterAction, Resource::Cluster)
        }
        _ => Ok(()),
    }
}

/// One answer for each key.
async fn find(context: &RequestContext, key_type: i8, keys: &[Str]) -> Vec<Result<Node, ApiError>> {
    let broker = &context.broker;
    let topic = match check_type(context, key_type) {
        Ok(topic) if topic == topic_name::TRANSACTION_STATE => {
            broker.transactions.ensure_topic().await.map(|()| topic).map_err(ApiError::from)
        }
        Ok(topic) if topic == topic_name::SHARE_GROUP_STATE => {
            broker.share_coordinator.ensure_topic().await.map(|()| topic).map_err(ApiError::from)
        }
        Ok(topic) => broker.groups.ensure_topic().await.map(|()| topic).map_err(ApiError::from),
        Err(error) => Err(error),
    };
    let topic = match topic {
        Ok(topic) => topic,
        Err(error) => return keys.iter().map(|_| Err(error.clone())).collect(),
    };
    let mut found = look(context, topic, keys);
    if found.iter().any(Result::is_err) && broker.freshness.catch_up().await {
        found = look(context, topic, keys);
    }
    found
}

/// The topic of the coordinators that are asked for.
fn check_type(context: &RequestContext, key_type: i8) -> Result<&'static str, ApiError> {
    match key_type {
        GROUP => Ok(topic_name::CONSUMER_OFFSETS),
        TRANSACTION => Ok(topic_name::TRANSACTION_STATE),
        SHARE if context.api_version >= SHARE_SINCE => Ok(topic_name::SHARE_GROUP_STATE),
        _ => Err(ErrorCode::InvalidRequest.into()),
    }
}

fn look(context: &RequestContext, topic: &str, keys: &[Str]) -> Vec<Result<Node, ApiError>> {
    let broker = &context.broker;
    let state = broker.catalog.read();
    let nodes = broker.nodes(&state, &context.connection.listener);
    let topic = state.topic(topic);
    let is_share = topic.is_some_and(|topic| topic.name == topic_name::SHARE_GROUP_STATE);
    let find = |key: &Str| {
        if is_share && !ShareKey::is_coordinator_key(key) {
            return Err(ErrorCode::InvalidRequest.into());
        }
        let leader = topic.and_then(|topic| coordinator_of(topic, key));
        let node = leader.and_then(|leader| nodes.find(leader)).cloned();
        node.ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into())
    };
    keys.iter().map(find).collect()
}

fn one(coordinator: Coordinator) -> FindCoordinatorResponse {
    let Coordinator { node_id, host, port, error_code, error_message, .. } = coordinator;
    FindCoordinatorResponse {
        node_id,
        host,
        port,
        error_code,
        error_message,
        ..FindCoordinatorResponse::default()
    }
}

fn coordinator(key: Str, found: Result<Node, ApiError>) -> Coordinator {
    match found {
        Ok(node) => Coordinator {
            key,
            node_id: node.id,
            host: node.host,
            port: node.port,
            error_code: ErrorCode::None.code(),
            error_message: None,
        },
        Err(error) => Coordinator {
            key,
            node_id: NO_NODE,
            host: Str::default(),
            port: -1,
            error_code: error.code.code(),
            error_message: error.message,
        },
    }
}
