//! RenewDelegationToken (key 39), versions 1–2 (KIP-48): the owner and the renewers put off its end, to its longest life at most.
//!
//! DELEGATION_TOKEN_NOT_FOUND, DELEGATION_TOKEN_EXPIRED, DELEGATION_TOKEN_OWNER_MISMATCH as in Kafka. Difference: any broker answers.
//!
//! 2: flexible.

use catalog::{DelegationToken, MetadataRecord};
use protocol::ErrorCode;
use protocol::messages::{RenewDelegationTokenRequest, RenewDelegationTokenResponse};

use crate::authn::tokens;
use crate::request::RequestContext;

pub(super) async fn handle(
    context: RequestContext,
    request: RenewDelegationTokenRequest,
) -> RenewDelegationTokenResponse {
    let mut response = RenewDelegationTokenResponse::default();
    match renew(&context, &request).await {
        Ok(expires_ms) => response.expiry_timestamp_ms = expires_ms,
        Err(code) => {
            response.error_code = code.code();
            response.expiry_timestamp_ms = tokens::expiry_beside(code);
        }
    }
    response
}

async fn renew(context: &RequestContext, request: &RenewDelegationTokenRequest) -> Result<i64, ErrorCode> {
    let broker = &context.broker;
    let token = tokens::find(context, &request.hmac).await?;
    let now_ms = broker.clock.now_ms();
    if token.is_expired(now_ms) {
        return Err(ErrorCode::DelegationTokenExpired);
    }
    tokens::may_change(&context.connection, &token)?;
    let longest_ms = broker.config().delegation_token_expiry_time_ms();
    let period_ms =
        if request.renew_period_ms > 0 { request.renew_period_ms.min(longest_ms) } else { longest_ms };
    let expires_ms = token.max_ms.min(now_ms.saturating_add(period_ms));
    let expected_ms = token.expires_ms;
    let record =
        MetadataRecord::PutDelegationToken { expected_ms, token: DelegationToken { expires_ms, ..token } };
    broker.catalog.append(vec![record]).await.map_err(|error| error.error_code())?;
    broker.tell_others().await;
    Ok(expires_ms)
}
