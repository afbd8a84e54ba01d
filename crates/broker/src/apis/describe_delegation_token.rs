//! DescribeDelegationToken (key 41), versions 1–3 (KIP-48): the tokens that the client owns, asked for or may renew; with owners named,
//! those that one of them owns, asked for or may renew. Others' tokens are for those who may describe them, or the tokens of their owners (KIP-373).
//!
//! Differences: any broker answers. Expired ones are left out.
//!
//! 2: flexible · 3: requester (KIP-373).

use catalog::acl::AclOperation;
use protocol::messages::describe_delegation_token_response::{
    DescribedDelegationToken, DescribedDelegationTokenRenewer,
};
use protocol::messages::{DescribeDelegationTokenRequest, DescribeDelegationTokenResponse};
use protocol::{ErrorCode, Str};

use crate::authn::tokens;
use crate::authorizer::Resource;
use crate::request::RequestContext;

const REQUESTER_SINCE: i16 = 3;

pub(super) async fn handle(
    context: RequestContext,
    request: DescribeDelegationTokenRequest,
) -> DescribeDelegationTokenResponse {
    let mut response = DescribeDelegationTokenResponse::default();
    match describe(&context, &request).await {
        Ok(tokens) => response.tokens = tokens,
        Err(code) => response.error_code = code.code(),
    }
    response
}

async fn describe(
    context: &RequestContext,
    request: &DescribeDelegationTokenRequest,
) -> Result<Vec<DescribedDelegationToken>, ErrorCode> {
    let broker = &context.broker;
    tokens::may_ask(&context.connection)?;
    if !broker.authn.tokens.are_enabled() {
        return Err(ErrorCode::DelegationTokenAuthDisabled);
    }
    broker.freshness.catch_up().await;
    let me = context.connection.principal();
    let now_ms = broker.clock.now_ms();
    // Null: of all owners; an empty list: of none.
    let owners: Option<Vec<String>> = request.owners.as_ref().map(|owners| {
        owners.iter().map(|owner| format!("{}:{}", owner.principal_type, owner.principal_name)).collect()
    });
    let state = broker.catalog.read();
    let rights = context.rights(&state);
    let mine = state.credentials().tokens().filter(|token| {
        let is_of = |owner: &String| {
            [&token.owner, &token.requester]
                .into_iter()
                .chain(&token.renewers)
                .any(|named| **named == **owner)
        };
        let is_asked = owners.as_ref().is_none_or(|owners| owners.iter().any(is_of));
        let is_mine = token.owner == me || token.requester == me || token.renewers.contains(&me);
        let may_see = || {
            is_mine
                || rights.may(AclOperation::Describe, Resource::DelegationToken(&token.token_id))
                || rights.may(AclOperation::DescribeTokens, Resource::User(&token.owner))
        };
        is_asked && !token.is_expired(now_ms) && may_see()
    });
    let described = mine.map(|token| {
        let (principal_type, principal_name) = tokens::split(&token.owner);
        let (token_requester_principal_type, token_requester_principal_name) =
            match context.api_version >= REQUESTER_SINCE {
                true => tokens::split(&token.requester),
                false => Default::default(),
            };
        let renewers = token.renewers.iter().map(|renewer: &Str| {
            let (principal_type, principal_name) = tokens::split(renewer);
            DescribedDelegationTokenRenewer {
                principal_type,
                principal_name,
                ..DescribedDelegationTokenRenewer::default()
            }
        });
        DescribedDelegationToken {
            principal_type,
            principal_name,
            token_requester_principal_type,
            token_requester_principal_name,
            issue_timestamp: token.issued_ms,
            expiry_timestamp: token.expires_ms,
            max_timestamp: token.max_ms,
            token_id: token.token_id.clone(),
            hmac: broker.authn.tokens.secret_of(&token.token_id).unwrap_or_default().into(),
            renewers: renewers.collect(),
            ..DescribedDelegationToken::default()
        }
    });
    Ok(described.collect())
}
