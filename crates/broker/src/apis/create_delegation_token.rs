//! CreateDelegationToken (key 38), versions 1–3 (KIP-48).
//!
//! Without `delegation.token.secret.key` it is DELEGATION_TOKEN_AUTH_DISABLED. A client that nobody knows, or that a token let in, gets
//! none: DELEGATION_TOKEN_REQUEST_NOT_ALLOWED. INVALID_PRINCIPAL_TYPE: only users renew, and only users own: whoever comes with a token
//! is the user of its owner's name.
//!
//! A token for somebody else (v3, KIP-373) is for those who may create that user's tokens, else it is
//! DELEGATION_TOKEN_AUTHORIZATION_FAILED.
//!
//! Differences: any broker answers. The names of a token are bounded (INVALID_REQUEST), and so are the tokens that one user has asked for
//! (POLICY_VIOLATION): whoever may ask for one could fill everybody's memory with them, or take the place of all others.
//!
//! 2: flexible · 3: owner and requester (KIP-373).

use catalog::acl::AclOperation;
use catalog::{DelegationToken, MetadataRecord};
use protocol::messages::{CreateDelegationTokenRequest, CreateDelegationTokenResponse};
use protocol::{ErrorCode, Str, Uuid};

use crate::authn::tokens::{self, USER};
use crate::authorizer::Resource;
use crate::request::RequestContext;

const RENEWERS_MAX: usize = 1000;
/// Of the owner and the renewers together.
const NAMES_BYTES_MAX: usize = 16 << 10;
/// Of one requester, a tenth of what the cluster keeps.
const TOKENS_OF_ONE_MAX: usize = 10_000;
const REQUESTER_SINCE: i16 = 3;
/// Of what was not made.
const NEVER: i64 = -1;

pub(super) async fn handle(
    context: RequestContext,
    request: CreateDelegationTokenRequest,
) -> CreateDelegationTokenResponse {
    let requester = context.connection.principal();
    let owner = match request.owner_principal_name.as_deref() {
        None | Some("") => requester.clone(),
        Some(name) => {
            let kind = request.owner_principal_type.as_deref().unwrap_or(USER);
            Str::from(format!("{kind}:{name}"))
        }
    };
    let mut response = CreateDelegationTokenResponse::default();
    (response.principal_type, response.principal_name) = tokens::split(&owner);
    if context.api_version >= REQUESTER_SINCE {
        (response.token_requester_principal_type, response.token_requester_principal_name) =
            tokens::split(&requester);
    }
    match create(&context, &request, owner, requester).await {
        Ok((token, secret)) => {
            response.issue_timestamp_ms = token.issued_ms;
            response.expiry_timestamp_ms = token.expires_ms;
            response.max_timestamp_ms = token.max_ms;
            response.token_id = token.token_id;
            response.hmac = secret.into();
        }
        Err(code) => {
            response.error_code = code.code();
            response.issue_timestamp_ms = NEVER;
            response.expiry_timestamp_ms = NEVER;
            response.max_timestamp_ms = NEVER;
        }
    }
    response
}

async fn create(
    context: &RequestContext,
    request: &CreateDelegationTokenRequest,
    owner: Str,
    requester: Str,
) -> Result<(DelegationToken, Vec<u8>), ErrorCode> {
    let broker = &context.broker;
    tokens::may_ask(&context.connection)?;
    if owner != requester {
        context.authorize(AclOperation::CreateTokens, Resource::User(&owner))?;
    }
    if !broker.authn.tokens.are_enabled() {
        return Err(ErrorCode::DelegationTokenAuthDisabled);
    }
    let renewers = request.renewers.iter().map(|renewer| renewer.principal_type.as_str());
    let (kind_of_owner, _) = tokens::split(&owner);
    if renewers.chain([kind_of_owner.as_str()]).any(|kind| kind != USER) {
        return Err(ErrorCode::InvalidPrincipalType);
    }
    let names = request.renewers.iter().map(|renewer| renewer.principal_name.len());
    if request.renewers.len() > RENEWERS_MAX || owner.len() + names.sum::<usize>() > NAMES_BYTES_MAX {
        return Err(ErrorCode::InvalidRequest);
    }
    let count_of_one =
        broker.catalog.read().credentials().tokens().filter(|token| token.requester == requester).count();
    if count_of_one >= TOKENS_OF_ONE_MAX {
        return Err(ErrorCode::PolicyViolation);
    }
    let config = broker.config();
    let now_ms = broker.clock.now_ms();
    let longest_ms = config.delegation_token_max_lifetime_ms();
    let life_ms =
        if request.max_lifetime_ms > 0 { request.max_lifetime_ms.min(longest_ms) } else { longest_ms };
    let max_ms = now_ms.saturating_add(life_ms);
    let expires_ms = max_ms.min(now_ms.saturating_add(config.delegation_token_expiry_time_ms()));
    let token = DelegationToken {
        token_id: Str::from(Uuid(broker.authn.rng.uuid()).to_string()),
        owner,
        requester,
        renewers: request
            .renewers
            .iter()
            .map(|renewer| Str::from(format!("{USER}:{}", renewer.principal_name)))
            .collect(),
        issued_ms: now_ms,
        expires_ms,
        max_ms,
    };
    let secret = broker.authn.tokens.secret_of(&token.token_id).expect("tokens are enabled");
    let record = MetadataRecord::PutDelegationToken { expected_ms: 0, token: token.clone() };
    broker.catalog.append(vec![record]).await.map_err(|error| error.error_code())?;
    broker.tell_others().await;
    tracing::info!(token_id = %token.token_id, owner = %token.owner, "delegation token made");
    Ok((token, secret))
}
