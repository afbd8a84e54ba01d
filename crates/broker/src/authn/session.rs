//! What one connection of a SASL listener has proved so far.
//!
//! ```text
//!   Handshake ──SaslHandshake──▶ Exchange ──messages──▶ Authenticated ──(KIP-368) SaslHandshake──▶ Exchange …
//!                                    └──────────────────▶ Failed: closed after the answer
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use catalog::ScramCredential;
use parking_lot::Mutex;
use protocol::{ApiKey, Str};

use super::oauthbearer::Bearer;
use super::{Authn, Mechanism, MechanismSettings, Refusal, scram};

/// A client may prove anew who it is once a second.
const REAUTH_PAUSE: Duration = Duration::from_secs(1);
const NEVER: u64 = u64::MAX;

/// What SASL finds out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authenticated {
    pub user: Str,
    /// When what proved it ends, in ms since 1970.
    pub expires_ms: Option<i64>,
    /// By a delegation token.
    pub is_token: bool,
}

pub(crate) struct Found {
    pub credential: ScramCredential,
    pub identity: Authenticated,
}

pub(crate) struct Scram {
    pub server: scram::Server,
    pub identity: Authenticated,
}

/// Who a connection is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    mechanism: &'static str,
    user: Str,
    since: Duration,
}

/// A conversation under way.
pub(crate) struct Exchange {
    settings: MechanismSettings,
    turn: Turn,
    /// Who it was before; it must stay so.
    before: Option<Identity>,
}

enum Turn {
    First,
    Scram(Scram),
    /// The token was wrong and the client was told.
    TokenRefused(String),
}

pub(crate) enum Step {
    Challenge(Box<Exchange>, Vec<u8>),
    Done(Finished),
}

pub(crate) struct Finished {
    pub answer: Vec<u8>,
    pub identity: Authenticated,
    pub mechanism: &'static str,
    pub is_again: bool,
    /// Zero: for ever.
    pub lifetime_ms: i64,
}

impl Exchange {
    fn new(settings: MechanismSettings, before: Option<Identity>) -> Self {
        Self { settings, turn: Turn::First, before }
    }

    pub fn mechanism(&self) -> &'static str {
        self.settings.mechanism.name()
    }

    pub fn is_again(&self) -> bool {
        self.before.is_some()
    }

    /// Takes the client's next message.
    pub async fn step(mut self: Box<Self>, authn: &Authn, bytes: &[u8]) -> Result<Step, Refusal> {
        if bytes.len() > super::TOKEN_BYTES_MAX {
            return Err(Refusal::invalid("a message is too long"));
        }
        let turn = std::mem::replace(&mut self.turn, Turn::First);
        match (&self.settings.mechanism, turn) {
            (Mechanism::Plain(users), _) => {
                let user = users.check(bytes)?;
                self.done(authn, Vec::new(), Authenticated { user, expires_ms: None, is_token: false })
            }
            (Mechanism::Scram(mechanism), Turn::First) => {
                let (scram, challenge) = authn.scram_first(*mechanism, bytes).await?;
                self.turn = Turn::Scram(scram);
                Ok(Step::Challenge(self, challenge))
            }
            (_, Turn::Scram(Scram { server, identity })) => {
                let answer = server.finish(bytes)?;
                self.done(authn, answer, identity)
            }
            (_, Turn::TokenRefused(why)) => Err(Refusal::invalid(why)),
            (Mechanism::OAuthBearer(rules), Turn::First) => {
                match rules.check(bytes, authn.clock.now_ms())? {
                    Ok(Bearer { user, expires_ms }) => {
                        let expires_ms = Some(expires_ms);
                        self.done(authn, Vec::new(), Authenticated { user, expires_ms, is_token: false })
                    }
                    Err(why) => {
                        self.turn = Turn::TokenRefused(format!("the token is not good: {why}"));
                        Ok(Step::Challenge(self, br#"{"status":"invalid_token"}"#.to_vec()))
                    }
                }
            }
        }
    }

    fn done(self, authn: &Authn, answer: Vec<u8>, identity: Authenticated) -> Result<Step, Refusal> {
        if let Some(before) = &self.before
            && before.user != identity.user
        {
            return Err(Refusal::told("Cannot change principals during re-authentication"));
        }
        let reauth_ms = i64::try_from(self.settings.reauth_max.as_millis()).unwrap_or(i64::MAX);
        let left_ms = identity.expires_ms.map(|at_ms| at_ms.saturating_sub(authn.clock.now_ms()).max(0));
        // Zero would mean for ever.
        let lifetime_ms = match (left_ms.map(|left_ms| left_ms.max(1)), reauth_ms) {
            (None, reauth_ms) => reauth_ms,
            (Some(left_ms), 0) => left_ms,
            (Some(left_ms), reauth_ms) => left_ms.min(reauth_ms),
        };
        Ok(Step::Done(Finished {
            answer,
            mechanism: self.mechanism(),
            is_again: self.is_again(),
            identity,
            lifetime_ms,
        }))
    }
}

pub(crate) enum Phase {
    Handshake,
    Exchange(Box<Exchange>),
    Authenticated(Identity),
    Failed,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotOpen {
    NotAuthenticated,
    Expired,
}

pub(crate) struct SaslSession {
    phase: Mutex<Phase>,
    is_authenticated: AtomicBool,
    is_raw: AtomicBool,
    /// Monotonic, in ms.
    expires_at: AtomicU64,
}

impl std::fmt::Debug for SaslSession {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "SaslSession(authenticated: {})", self.is_authenticated())
    }
}

impl SaslSession {
    pub fn new() -> Self {
        Self {
            phase: Mutex::new(Phase::Handshake),
            is_authenticated: AtomicBool::new(false),
            is_raw: AtomicBool::new(false),
            expires_at: AtomicU64::new(NEVER),
        }
    }

    pub fn is_authenticated(&self) -> bool {
        self.is_authenticated.load(Ordering::Acquire)
    }

    /// Does the next frame hold a message of the mechanism and nothing else?
    pub fn is_raw(&self) -> bool {
        self.is_raw.load(Ordering::Acquire)
    }

    /// May a request of this kind be answered?
    pub fn check(&self, api_key: ApiKey, now: impl FnOnce() -> Duration) -> Result<(), NotOpen> {
        if matches!(api_key, ApiKey::SaslHandshake | ApiKey::SaslAuthenticate) {
            return Ok(());
        }
        if !self.is_authenticated() {
            // What it speaks is asked before the handshake, never within.
            let is_first = api_key == ApiKey::ApiVersions && matches!(*self.phase.lock(), Phase::Handshake);
            return if is_first { Ok(()) } else { Err(NotOpen::NotAuthenticated) };
        }
        let expires_at = self.expires_at.load(Ordering::Relaxed);
        if expires_at != NEVER && now().as_millis() as u64 > expires_at {
            return Err(NotOpen::Expired);
        }
        Ok(())
    }

    /// SaslHandshake; without settings the listener does not have the mechanism.
    pub fn begin(
        &self,
        settings: Option<&MechanismSettings>,
        is_raw: bool,
        now: Duration,
    ) -> Result<(), BeginError> {
        let mut phase = self.phase.lock();
        let before = match &*phase {
            Phase::Handshake => None,
            // Without an end there is nothing to renew.
            Phase::Authenticated(identity)
                if self.expires_at.load(Ordering::Relaxed) != NEVER
                    && now.saturating_sub(identity.since) >= REAUTH_PAUSE =>
            {
                Some(identity.clone())
            }
            _ => return Err(BeginError::NotNow),
        };
        let Some(settings) = settings else {
            self.fail_in(&mut phase);
            return Err(BeginError::NoSuchMechanism);
        };
        if before.as_ref().is_some_and(|before| before.mechanism != settings.mechanism.name()) {
            self.fail_in(&mut phase);
            return Err(BeginError::OtherMechanism);
        }
        self.is_authenticated.store(false, Ordering::Release);
        self.is_raw.store(is_raw, Ordering::Release);
        *phase = Phase::Exchange(Box::new(Exchange::new(settings.clone(), before)));
        Ok(())
    }

    /// The conversation that is under way, to be given back with [`SaslSession::go_on`] or ended.
    pub fn take_exchange(&self) -> Option<Box<Exchange>> {
        let mut phase = self.phase.lock();
        match std::mem::replace(&mut *phase, Phase::Failed) {
            Phase::Exchange(exchange) => Some(exchange),
            other => {
                *phase = other;
                None
            }
        }
    }

    pub fn go_on(&self, exchange: Box<Exchange>) {
        *self.phase.lock() = Phase::Exchange(exchange);
    }

    pub fn succeed(&self, finished: &Finished, now: Duration) {
        let expires_at = match finished.lifetime_ms {
            0 => NEVER,
            lifetime_ms => (now.as_millis() as u64).saturating_add(lifetime_ms as u64).min(NEVER - 1),
        };
        self.expires_at.store(expires_at, Ordering::Relaxed);
        self.is_raw.store(false, Ordering::Release);
        let (mechanism, user) = (finished.mechanism, finished.identity.user.clone());
        *self.phase.lock() = Phase::Authenticated(Identity { mechanism, user, since: now });
        self.is_authenticated.store(true, Ordering::Release);
    }

    pub fn fail(&self) {
        self.fail_in(&mut self.phase.lock());
    }

    fn fail_in(&self, phase: &mut Phase) {
        *phase = Phase::Failed;
        self.is_authenticated.store(false, Ordering::Release);
        self.is_raw.store(false, Ordering::Release);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BeginError {
    /// It is not the moment for a handshake.
    NotNow,
    NoSuchMechanism,
    OtherMechanism,
}
