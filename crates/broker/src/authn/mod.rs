//! Who a client is: SASL, as far as it is no socket's matter (KIP-43, KIP-152, KIP-368).
//!
//! ```text
//!   SaslHandshake ─▶ mechanism ─▶ SaslAuthenticate … ─▶ principal of the connection
//! ```
//! Each mechanism is a pure state machine: bytes in; a challenge, a user or a refusal out. [`Authn`] knows what each listener asks, and
//! `session` has what one connection has proved so far. What a client whose proof is wrong is told names neither the reason nor
//! whether there is such a user; the log has the reason.

pub mod jaas;
mod oauthbearer;
mod plain;
mod principal_mapping;
pub mod scram;
mod session;
pub(crate) mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use catalog::{Catalog, ScramMechanism};
use parking_lot::RwLock;
use protocol::Str;
use world::clock::SharedClock;
use world::rng::Rng;

use crate::freshness::Freshness;

pub use oauthbearer::{Bearer, JWKS_BYTES_MAX, Jwks, TokenRules};
pub use plain::PlainUsers;
pub use principal_mapping::PrincipalMapping;
pub(crate) use session::{BeginError, Finished, NotOpen, SaslSession, Step};

/// Longest message of a mechanism; `server` bounds frames before authentication too.
pub const TOKEN_BYTES_MAX: usize = 64 << 10;

/// Kafka's `SecurityProtocol`, with Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum SecurityProtocol {
    Plaintext = 0,
    Ssl = 1,
    SaslPlaintext = 2,
    SaslSsl = 3,
}

impl SecurityProtocol {
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "PLAINTEXT" => Some(Self::Plaintext),
            "SSL" => Some(Self::Ssl),
            "SASL_PLAINTEXT" => Some(Self::SaslPlaintext),
            "SASL_SSL" => Some(Self::SaslSsl),
            _ => None,
        }
    }

    pub fn code(self) -> i16 {
        self as i16
    }

    pub fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    pub fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

/// How clients of a listener may prove who they are.
#[derive(Debug, Clone, Default)]
pub struct SaslSettings {
    /// In the order in which clients are told.
    pub mechanisms: Vec<MechanismSettings>,
    /// How long a refusal waits (`connection.failed.authentication.delay.ms`).
    pub failed_delay: Duration,
}

#[derive(Debug, Clone)]
pub struct MechanismSettings {
    pub mechanism: Mechanism,
    /// `connections.max.reauth.ms`; zero = for ever.
    pub reauth_max: Duration,
}

#[derive(Debug, Clone)]
pub enum Mechanism {
    Plain(Arc<PlainUsers>),
    /// Users stand in the catalog.
    Scram(ScramMechanism),
    OAuthBearer(Arc<TokenRules>),
}

impl Mechanism {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plain(_) => "PLAIN",
            Self::Scram(mechanism) => mechanism.name(),
            Self::OAuthBearer(_) => "OAUTHBEARER",
        }
    }
}

/// What every listener asks; can change while the broker runs.
#[derive(Debug, Default)]
pub struct SaslListeners {
    listeners: RwLock<BTreeMap<Str, Arc<SaslSettings>>>,
}

impl SaslListeners {
    /// Holds for connections that begin from now on, and for those that prove anew who they are.
    pub fn set(&self, listener: &str, settings: SaslSettings) {
        self.listeners.write().insert(Str::from(listener.to_owned()), Arc::new(settings));
    }

    fn of(&self, listener: &str) -> Arc<SaslSettings> {
        self.listeners.read().get(listener).cloned().unwrap_or_default()
    }
}

/// Why a client is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For the log.
    pub reason: String,
    /// For the client; without it that the credentials are invalid.
    pub told: Option<String>,
}

impl Refusal {
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), told: None }
    }

    /// The reason is for the client too.
    pub(crate) fn told(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { told: Some(reason.clone()), reason }
    }

    fn other_authorization_id() -> Self {
        Self::told(
            "Authentication failed: Client requested an authorization id that is different from username",
        )
    }
}

#[derive(Debug, Default)]
pub struct AuthnCounters {
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    pub reauthenticated: AtomicU64,
    /// Connections that were closed because their time to prove it anew was up.
    pub expired: AtomicU64,
}

pub(crate) struct Authn {
    pub clock: SharedClock,
    pub rng: Arc<dyn Rng>,
    pub catalog: Arc<Catalog>,
    pub freshness: Arc<Freshness>,
    pub listeners: Arc<SaslListeners>,
    /// Secrets of delegation tokens; none: there are no tokens.
    pub tokens: tokens::Tokens,
    pub counters: AuthnCounters,
    /// For salts of users that do not exist.
    decoy_secret: [u8; 16],
}

impl Authn {
    pub fn new(
        clock: SharedClock,
        rng: Arc<dyn Rng>,
        catalog: Arc<Catalog>,
        freshness: Arc<Freshness>,
        listeners: Arc<SaslListeners>,
        tokens: tokens::Tokens,
    ) -> Self {
        let decoy_secret = rng.uuid();
        let counters = AuthnCounters::default();
        Self { clock, rng, catalog, freshness, listeners, tokens, counters, decoy_secret }
    }

    pub fn settings(&self, listener: &str) -> Arc<SaslSettings> {
        self.listeners.of(listener)
    }

    /// What SCRAM's first message asks for: whose credential, and what there is.
    pub(super) async fn scram_first(
        &self,
        mechanism: ScramMechanism,
        bytes: &[u8],
    ) -> Result<(session::Scram, Vec<u8>), Refusal> {
        let first = scram::ClientFirst::parse(bytes)?;
        let name = first.user.clone();
        let now_ms = self.clock.now_ms();
        let found = match self.find(mechanism, &first, now_ms) {
            // Made a moment ago at another broker, perhaps.
            None if self.freshness.catch_up().await => self.find(mechanism, &first, now_ms),
            found => found,
        };
        let is_decoy = found.is_none();
        let found = found.unwrap_or_else(|| session::Found {
            credential: self.decoy(mechanism, &first, &name),
            identity: session::Authenticated { user: name, expires_ms: None, is_token: false },
        });
        let nonce = format!("{:032x}", u128::from_le_bytes(self.rng.uuid()));
        let (server, challenge) =
            scram::Server::challenge(mechanism, first, found.credential, is_decoy, &nonce);
        Ok((session::Scram { server, identity: found.identity }, challenge))
    }

    /// What nobody has, and what looks like what the next user in order has; or, of a token, like a token's.
    fn decoy(
        &self,
        mechanism: ScramMechanism,
        first: &scram::ClientFirst,
        name: &str,
    ) -> catalog::ScramCredential {
        if first.is_token {
            return scram::decoy(mechanism, &self.decoy_secret, name, Some(&tokens::looks(mechanism)));
        }
        let state = self.catalog.read();
        let like = state.credentials().scram_near(name, mechanism);
        scram::decoy(mechanism, &self.decoy_secret, name, like.map(|like| &**like))
    }

    fn find(
        &self,
        mechanism: ScramMechanism,
        first: &scram::ClientFirst,
        now_ms: i64,
    ) -> Option<session::Found> {
        if first.is_token {
            return self.tokens.credential(&self.catalog, mechanism, &first.user, now_ms);
        }
        let credential = self.catalog.read().credentials().scram(&first.user, mechanism)?.as_ref().clone();
        let identity = session::Authenticated { user: first.user.clone(), expires_ms: None, is_token: false };
        Some(session::Found { credential, identity })
    }

    pub(crate) fn count(&self, counter: impl Fn(&AuthnCounters) -> &AtomicU64) {
        counter(&self.counters).fetch_add(1, Ordering::Relaxed);
    }
}
