//! FindCoordinator v0–6: which broker looks after a group.
//!
//! Always this one. Making `__consumer_offsets` on first use happens here, as in Kafka, but the first asker gets
//! an answer at once instead of COORDINATOR_NOT_AVAILABLE and a retry.
//!
//! Transactions do not exist yet: a transactional id is told UNSUPPORTED_VERSION with a sentence, which ends
//! `initTransactions` instead of letting it retry for ever. The same holds for share groups.
//!
//! v1 adds the key type · v3 is flexible · v4 asks for several keys at once (KIP-699) · v5 TRANSACTION_ABORTABLE
//! (KIP-890) · v6 share groups (KIP-932).

use protocol::messages::find_coordinator_response::Coordinator;
use protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use protocol::{ErrorCode, Str};

use crate::broker::Endpoint;
use crate::error::ApiError;
use crate::request::RequestContext;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub(crate) async fn handle(
    context: RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let found = find(&context, request.key_type).await;
    if context.api_version < 4 {
        return one(found);
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| coordinator(key, &found));
    FindCoordinatorResponse { coordinators: coordinators.collect(), ..FindCoordinatorResponse::default() }
}

struct Found {
    node_id: i32,
    endpoint: Endpoint,
}

async fn find(context: &RequestContext, key_type: i8) -> Result<Found, ApiError> {
    match key_type {
        GROUP => {}
        TRANSACTION => return Err(not_there("transactions are not supported by this broker yet")),
        SHARE if context.api_version >= 6 => {
            return Err(not_there("share groups are not supported by this broker yet"));
        }
        _ => return Err(ErrorCode::InvalidRequest.into()),
    }
    let broker = &context.broker;
    broker.groups.ensure_topic().await?;
    Ok(Found { node_id: broker.node_id, endpoint: broker.endpoint(&context.connection.listener).clone() })
}

fn not_there(what: &'static str) -> ApiError {
    ApiError::new(ErrorCode::UnsupportedVersion, Str::from_static(what))
}

fn one(found: Result<Found, ApiError>) -> FindCoordinatorResponse {
    let Coordinator { node_id, host, port, error_code, error_message, .. } =
        coordinator(Str::default(), &found);
    FindCoordinatorResponse {
        node_id,
        host,
        port,
        error_code,
        error_message,
        ..FindCoordinatorResponse::default()
    }
}

fn coordinator(key: Str, found: &Result<Found, ApiError>) -> Coordinator {
    match found {
        Ok(Found { node_id, endpoint }) => Coordinator {
            key,
            node_id: *node_id,
            host: endpoint.host.clone(),
            port: endpoint.port.into(),
            error_code: ErrorCode::None.code(),
            error_message: None,
        },
        // Kafka's "no node".
        Err(error) => Coordinator {
            key,
            node_id: -1,
            host: Str::default(),
            port: -1,
            error_code: error.code.code(),
            error_message: error.message.clone(),
        },
    }
}
