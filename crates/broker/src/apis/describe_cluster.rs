//! DescribeCluster (key 60), versions 0–2 (KIP-700).
//!
//! Cluster id, brokers, controller. There are no controllers apart from brokers, so asking for controller
//! endpoints (version 1, KIP-919) is MISMATCHED_ENDPOINT_TYPE, as at any Kafka broker. No broker is ever fenced
//! here: one that is gone is not listed (version 2).

use protocol::messages::describe_cluster_response::DescribeClusterBroker;
use protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use protocol::{ErrorCode, Str};

use crate::request::RequestContext;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn handle(
    context: RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let broker = &context.broker;
    let refusal = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((ErrorCode::MismatchedEndpointType, "this is a broker, not a controller".into())),
        other => Some((ErrorCode::UnsupportedEndpointType, format!("there is no endpoint type {other}"))),
    };
    if let Some((code, message)) = refusal {
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(Str::from(message)),
            ..DescribeClusterResponse::default()
        };
    }
    let state = broker.catalog.read();
    let nodes = broker.nodes(&state, &context.connection.listener);
    let brokers = nodes.into_iter().map(|node| DescribeClusterBroker {
        broker_id: node.id,
        host: node.host,
        port: node.port,
        rack: node.rack,
        ..DescribeClusterBroker::default()
    });
    DescribeClusterResponse {
        error_code: ErrorCode::None.code(),
        cluster_id: state.cluster_id().clone(),
        controller_id: broker.controller_id(&state),
        brokers: brokers.collect(),
        cluster_authorized_operations: context
            .cluster_operations_if(request.include_cluster_authorized_operations),
        ..DescribeClusterResponse::default()
    }
}
