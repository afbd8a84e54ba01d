//! ExpireDelegationToken (key 40), versions 1–2 (KIP-48): the owner and the renewers set a token's end; a negative time ends it at once,
//! and is answered when no live broker takes it any more.
//!
//! DELEGATION_TOKEN_NOT_FOUND, DELEGATION_TOKEN_EXPIRED, DELEGATION_TOKEN_OWNER_MISMATCH as in Kafka. Difference: any broker answers;
//! REQUEST_TIMED_OUT: it has ended, and some broker did not say in time that it knows.
//!
//! 2: flexible.

use catalog::{DelegationToken, MetadataRecord};
use protocol::ErrorCode;
use protocol::messages::{ExpireDelegationTokenRequest, ExpireDelegationTokenResponse};

use crate::authn::tokens;
use crate::request::RequestContext;

pub(super) async fn handle(
    context: RequestContext,
    request: ExpireDelegationTokenRequest,
) -> ExpireDelegationTokenResponse {
    let mut response = ExpireDelegationTokenResponse::default();
    match expire(&context, &request).await {
        Ok(expires_ms) => response.expiry_timestamp_ms = expires_ms,
        Err(code) => {
            response.error_code = code.code();
            response.expiry_timestamp_ms = tokens::expiry_beside(code);
        }
    }
    response
}

async fn expire(context: &RequestContext, request: &ExpireDelegationTokenRequest) -> Result<i64, ErrorCode> {
    let broker = &context.broker;
    let token = tokens::find(context, &request.hmac).await?;
    tokens::may_change(&context.connection, &token)?;
    let now_ms = broker.clock.now_ms();
    let expires_ms = match request.expiry_time_period_ms {
        ..0 => now_ms,
        _ if token.is_expired(now_ms) => return Err(ErrorCode::DelegationTokenExpired),
        period_ms => token.max_ms.min(now_ms.saturating_add(period_ms)),
    };
    let record = if request.expiry_time_period_ms < 0 {
        tracing::info!(token_id = %token.token_id, owner = %token.owner, "delegation token ended");
        MetadataRecord::RemoveDelegationToken { token_id: token.token_id }
    } else {
        let expected_ms = token.expires_ms;
        MetadataRecord::PutDelegationToken { expected_ms, token: DelegationToken { expires_ms, ..token } }
    };
    let position = broker.catalog.append(vec![record]).await.map_err(|error| error.error_code())?;
    // An earlier end is a withdrawal as well.
    context.in_effect_everywhere(position).await.map_err(|error| error.code)?;
    Ok(expires_ms)
}
