//! Delegation tokens (KIP-48): a user gives a worker a token, and the worker proves with SCRAM that it has it.
//!
//! ```text
//!   HMAC-SHA-512(delegation.token.secret.key, token id) = the token's secret; its base64 is the password, the id is the name
//! ```
//! The catalog has no secret of a token: every broker that has the key finds it from the id.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use catalog::{Catalog, DelegationToken, MetadataRecord, ScramCredential, ScramMechanism};
use parking_lot::Mutex;
use protocol::{ErrorCode, Str};
use world::collections::HashMap;

use super::scram;
use super::session::{Authenticated, Found};
use crate::connection::Connection;
use crate::request::RequestContext;

/// Expired tokens that are removed in one round.
const SWEPT_MAX: usize = 1000;

/// The one kind of principal.
pub(crate) const USER: &str = "User";

/// Credentials that are kept because making one takes milliseconds; when they are as many all are forgotten.
const CREDENTIALS_MAX: usize = 10_000;

/// Of the salt of a token's credential.
const SALT_BYTES: usize = 32;

#[derive(Default)]
pub(crate) struct Tokens {
    secret: Option<String>,
    credentials: Mutex<HashMap<(Str, ScramMechanism), ScramCredential>>,
}

impl Tokens {
    pub fn new(secret: Option<String>) -> Self {
        Self { secret: secret.filter(|secret| !secret.is_empty()), credentials: Mutex::default() }
    }

    pub fn are_enabled(&self) -> bool {
        self.secret.is_some()
    }

    /// None: there are no tokens.
    pub fn secret_of(&self, token_id: &str) -> Option<Vec<u8>> {
        let key = hmac::Key::new(hmac::HMAC_SHA512, self.secret.as_ref()?.as_bytes());
        Some(hmac::sign(&key, token_id.as_bytes()).as_ref().to_vec())
    }

    /// The token with this secret.
    pub fn find(&self, catalog: &Catalog, secret: &[u8]) -> Option<DelegationToken> {
        let key = hmac::Key::new(hmac::HMAC_SHA512, self.secret.as_ref()?.as_bytes());
        let state = catalog.read();
        let mut tokens = state.credentials().tokens();
        let found = tokens.find(|token| hmac::verify(&key, token.token_id.as_bytes(), secret).is_ok());
        found.map(|token| DelegationToken::clone(token))
    }

    pub(super) fn credential(
        &self,
        catalog: &Catalog,
        mechanism: ScramMechanism,
        token_id: &Str,
        now_ms: i64,
    ) -> Option<Found> {
        let token = catalog.read().credentials().token(token_id)?.clone();
        if token.is_expired(now_ms) {
            return None;
        }
        let secret = self.secret_of(token_id)?;
        let key = (token.token_id.clone(), mechanism);
        let known = self.credentials.lock().get(&key).cloned();
        let credential = known.unwrap_or_else(|| {
            let password = BASE64.encode(&secret);
            // Never told to anybody but the client; the id makes it one of its own.
            let salt = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), b"salt");
            let salted =
                scram::salted_password(mechanism, password.as_bytes(), salt.as_ref(), scram::ITERATIONS_MIN);
            scram::credential(mechanism, &salted, salt.as_ref(), scram::ITERATIONS_MIN)
        });
        let mut credentials = self.credentials.lock();
        if credentials.len() >= CREDENTIALS_MAX {
            credentials.clear();
        }
        credentials.insert(key, credential.clone());
        let owner = token.owner.split_once(':').map_or(&*token.owner, |(_, name)| name);
        let expires_ms = Some(token.expires_ms.min(token.max_ms));
        let identity = Authenticated { user: Str::from(owner.to_owned()), expires_ms, is_token: true };
        Some(Found { credential, identity })
    }
}

/// What credentials of tokens have in common, for those that there are not.
pub(super) fn looks(mechanism: ScramMechanism) -> ScramCredential {
    let salt = vec![u8::MAX; SALT_BYTES];
    let key = vec![0; mechanism.key_bytes()];
    ScramCredential { salt, stored_key: key.clone(), server_key: key, iterations: scram::ITERATIONS_MIN }
}

/// Every `delegation.token.expiry.check.interval.ms` one broker of the cluster removes what has expired.
pub(crate) async fn sweep(authn: std::sync::Weak<super::Authn>, node_id: i32, every: Duration) {
    loop {
        world::task::sleep(every).await;
        let Some(authn) = authn.upgrade() else { return };
        let now_ms = authn.clock.now_ms();
        let expired: Vec<MetadataRecord> = {
            let state = authn.catalog.read();
            if state.controller() != Some(node_id) {
                continue;
            }
            let tokens = state.credentials().tokens().filter(|token| token.is_expired(now_ms));
            let removal = |token: &std::sync::Arc<DelegationToken>| MetadataRecord::RemoveDelegationToken {
                token_id: token.token_id.clone(),
            };
            tokens.take(SWEPT_MAX).map(removal).collect()
        };
        // One by one: a token that somebody else has removed must not keep the others.
        for record in expired {
            if let Err(error) = authn.catalog.append(vec![record]).await {
                tracing::debug!("an expired delegation token stays for now: {error}");
            }
        }
    }
}

/// Kind and name of a principal.
pub(crate) fn split(principal: &Str) -> (Str, Str) {
    let (kind, name) = principal.split_once(':').unwrap_or((USER, principal));
    (Str::from(kind.to_owned()), Str::from(name.to_owned()))
}

/// Only a client that has proved who it is, and not with a token.
pub(crate) fn may_ask(connection: &Connection) -> Result<(), ErrorCode> {
    match connection.is_anonymous() || connection.is_token_authenticated() {
        true => Err(ErrorCode::DelegationTokenRequestNotAllowed),
        false => Ok(()),
    }
}

/// The end of a token that an error goes with; Kafka has two.
pub(crate) fn expiry_beside(error: ErrorCode) -> i64 {
    match error {
        ErrorCode::DelegationTokenRequestNotAllowed => -1,
        _ => 0,
    }
}

/// The owner and the renewers.
pub(crate) fn may_change(connection: &Connection, token: &DelegationToken) -> Result<(), ErrorCode> {
    let me = connection.principal();
    match token.owner == me || token.renewers.contains(&me) {
        true => Ok(()),
        false => Err(ErrorCode::DelegationTokenOwnerMismatch),
    }
}

/// The token that a request to renew or to expire means.
pub(crate) async fn find(context: &RequestContext, secret: &[u8]) -> Result<DelegationToken, ErrorCode> {
    may_ask(&context.connection)?;
    let tokens = &context.broker.authn.tokens;
    if !tokens.are_enabled() {
        return Err(ErrorCode::DelegationTokenAuthDisabled);
    }
    context.broker.freshness.catch_up().await;
    tokens.find(&context.broker.catalog, secret).ok_or(ErrorCode::DelegationTokenNotFound)
}
