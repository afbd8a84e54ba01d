//! UnregisterBroker (key 64), version 0 (KIP-500).
//!
//! Kafka keeps a broker that is gone until somebody says that it will not come back. Here one that is gone is forgotten when its WAL has
//! been ended and its partitions have other leaders, without being told; then, as for an id that nobody ever had, the answer is
//! BROKER_ID_NOT_REGISTERED. One that still is in the cluster is refused (INVALID_REQUEST) where Kafka would take its registration away
//! under it: it is stopped, and the rest follows.

use catalog::acl::AclOperation;
use protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::request::RequestContext;

pub(super) async fn handle(
    context: RequestContext,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    if let Err(code) = context.authorize(AclOperation::Alter, Resource::Cluster) {
        return UnregisterBrokerResponse { error_code: code.code(), ..UnregisterBrokerResponse::default() };
    }
    let broker_id = request.broker_id;
    // The last word on who is in the cluster: one that has registered a moment ago is not to be called unknown.
    context.broker.freshness.catch_up().await;
    let is_registered = {
        let state = context.broker.catalog.read();
        state.live_brokers().any(|broker| broker.node_id == broker_id)
    };
    let (code, message) = match is_registered {
        true => (
            ErrorCode::InvalidRequest,
            format!(
                "Broker {broker_id} is in the cluster: stop it, and it is forgotten once others lead its partitions"
            ),
        ),
        false => {
            (ErrorCode::BrokerIdNotRegistered, format!("Broker ID {broker_id} is not currently registered"))
        }
    };
    UnregisterBrokerResponse {
        error_code: code.code(),
        error_message: Some(Str::from(message)),
        ..UnregisterBrokerResponse::default()
    }
}
