//! What users prove who they are with, as far as the cluster keeps it: SCRAM credentials (RFC 5802) and delegation tokens (KIP-48).
//!
//! No password is in here. A SCRAM credential is what a server needs to check one, and a token's secret follows from its id and a key
//! that stands in the brokers' configuration. Even so nothing of a credential is printed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use protocol::Str;

use crate::encoding::{DecodeError, Decoder, Encoder};
use crate::precondition::Precondition;
use crate::record::decode_list;

/// More credentials than that no cluster keeps; part of the rules, so never a setting.
pub const SCRAM_CREDENTIALS_MAX: usize = 100_000;
/// The same for delegation tokens.
pub const DELEGATION_TOKENS_MAX: usize = 100_000;
/// So many users are looked at for one that has a mechanism.
const NEAR_USERS: usize = 64;

/// Kafka's `ScramMechanism`, with Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ScramMechanism {
    Sha256 = 1,
    Sha512 = 2,
}

impl ScramMechanism {
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    pub fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.code() == code)
    }

    pub fn code(self) -> i8 {
        self as i8
    }

    /// As SASL calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Length of the keys.
    pub fn key_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// What the server keeps of a password (RFC 5802 §3).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    pub salt: Vec<u8>,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
    pub iterations: u32,
}

impl fmt::Debug for ScramCredential {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ScramCredential({} iterations)", self.iterations)
    }
}

impl ScramCredential {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        for bytes in [&self.salt, &self.stored_key, &self.server_key] {
            out.count(bytes.len());
            out.raw(bytes);
        }
        out.u32(self.iterations);
    }

    pub(crate) fn decode(bytes: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut part = || {
            let count = bytes.count(1)?;
            Ok::<_, DecodeError>(bytes.take(count)?.to_vec())
        };
        let (salt, stored_key, server_key) = (part()?, part()?, part()?);
        Ok(Self { salt, stored_key, server_key, iterations: bytes.u32()? })
    }
}

pub(crate) fn decode_mechanism(bytes: &mut Decoder<'_>) -> Result<ScramMechanism, DecodeError> {
    let code = bytes.u8()?;
    ScramMechanism::from_code(code as i8).ok_or_else(|| bytes.impossible(u64::from(code)))
}

/// A delegation token. Its secret is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegationToken {
    pub token_id: Str,
    /// Principals, as `User:alice`.
    pub owner: Str,
    pub requester: Str,
    pub renewers: Vec<Str>,
    /// Times in milliseconds since 1970.
    pub issued_ms: i64,
    pub expires_ms: i64,
    /// It cannot be renewed beyond.
    pub max_ms: i64,
}

impl DelegationToken {
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_ms < now_ms || self.max_ms < now_ms
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.str(&self.token_id);
        out.str(&self.owner);
        out.str(&self.requester);
        out.count(self.renewers.len());
        self.renewers.iter().for_each(|renewer| out.str(renewer));
        out.i64(self.issued_ms);
        out.i64(self.expires_ms);
        out.i64(self.max_ms);
    }

    pub(crate) fn decode(bytes: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            token_id: bytes.str()?,
            owner: bytes.str()?,
            requester: bytes.str()?,
            renewers: decode_list(bytes, 4, |bytes| bytes.str())?,
            issued_ms: bytes.i64()?,
            expires_ms: bytes.i64()?,
            max_ms: bytes.i64()?,
        })
    }

    fn detached(&self) -> Self {
        Self {
            token_id: self.token_id.detached(),
            owner: self.owner.detached(),
            requester: self.requester.detached(),
            renewers: self.renewers.iter().map(Str::detached).collect(),
            ..*self
        }
    }
}

/// Of the state: all of them, ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    scram: BTreeMap<Str, BTreeMap<ScramMechanism, Arc<ScramCredential>>>,
    scram_count: usize,
    tokens: BTreeMap<Str, Arc<DelegationToken>>,
}

/// What takes one accepted record back.
pub(crate) enum UndoCredential {
    Scram { user: Str, mechanism: ScramMechanism, old: Option<Arc<ScramCredential>> },
    Token { token_id: Str, old: Option<Arc<DelegationToken>> },
}

impl Credentials {
    pub fn scram(&self, user: &str, mechanism: ScramMechanism) -> Option<&Arc<ScramCredential>> {
        self.scram.get(user)?.get(&mechanism)
    }

    /// Of the next user in order who has one of this mechanism, or of the first.
    pub fn scram_near(&self, user: &str, mechanism: ScramMechanism) -> Option<&Arc<ScramCredential>> {
        use std::ops::Bound::{Included, Unbounded};
        let after = self.scram.range::<str, _>((Included(user), Unbounded)).chain(self.scram.iter());
        after.take(NEAR_USERS).find_map(|(_, of_user)| of_user.get(&mechanism))
    }

    /// One entry per user, ordered by name.
    pub fn scram_users(
        &self,
    ) -> impl Iterator<Item = (&Str, &BTreeMap<ScramMechanism, Arc<ScramCredential>>)> {
        self.scram.iter()
    }

    pub fn scram_user(&self, user: &str) -> Option<&BTreeMap<ScramMechanism, Arc<ScramCredential>>> {
        self.scram.get(user)
    }

    pub fn scram_count(&self) -> usize {
        self.scram_count
    }

    pub fn token(&self, token_id: &str) -> Option<&Arc<DelegationToken>> {
        self.tokens.get(token_id)
    }

    /// Ordered by id.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<DelegationToken>> {
        self.tokens.values()
    }

    pub fn token_count(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn put_scram(
        &mut self,
        user: &Str,
        mechanism: ScramMechanism,
        credential: &ScramCredential,
    ) -> Result<UndoCredential, Precondition> {
        if self.scram(user, mechanism).is_none() && self.scram_count >= SCRAM_CREDENTIALS_MAX {
            return Err(Precondition::TooManyCredentials { max: SCRAM_CREDENTIALS_MAX });
        }
        let user = user.detached();
        let old = self.set_scram(&user, mechanism, Some(Arc::new(credential.clone())));
        Ok(UndoCredential::Scram { user, mechanism, old })
    }

    pub(crate) fn remove_scram(
        &mut self,
        user: &Str,
        mechanism: ScramMechanism,
    ) -> Result<UndoCredential, Precondition> {
        match self.set_scram(user, mechanism, None) {
            old @ Some(_) => Ok(UndoCredential::Scram { user: user.detached(), mechanism, old }),
            None => Err(Precondition::UnknownCredential { name: user.clone() }),
        }
    }

    /// `expected_ms`: when the one of that id expires now; 0 if there is none.
    pub(crate) fn put_token(
        &mut self,
        expected_ms: i64,
        token: &DelegationToken,
    ) -> Result<UndoCredential, Precondition> {
        let actual = self.tokens.get(&token.token_id).map_or(0, |token| token.expires_ms);
        if actual != expected_ms {
            return Err(Precondition::TokenChanged { token_id: token.token_id.clone() });
        }
        if expected_ms == 0 && self.tokens.len() >= DELEGATION_TOKENS_MAX {
            return Err(Precondition::TooManyCredentials { max: DELEGATION_TOKENS_MAX });
        }
        let token = token.detached();
        let token_id = token.token_id.clone();
        let old = self.tokens.insert(token_id.clone(), Arc::new(token));
        Ok(UndoCredential::Token { token_id, old })
    }

    pub(crate) fn remove_token(&mut self, token_id: &Str) -> Result<UndoCredential, Precondition> {
        match self.tokens.remove(token_id) {
            old @ Some(_) => Ok(UndoCredential::Token { token_id: token_id.detached(), old }),
            None => Err(Precondition::UnknownCredential { name: token_id.clone() }),
        }
    }

    pub(crate) fn roll_back(&mut self, step: UndoCredential) {
        match step {
            UndoCredential::Scram { user, mechanism, old } => drop(self.set_scram(&user, mechanism, old)),
            UndoCredential::Token { token_id, old } => {
                self.tokens.remove(&token_id);
                self.tokens.extend(old.map(|old| (token_id, old)));
            }
        }
    }

    fn set_scram(
        &mut self,
        user: &Str,
        mechanism: ScramMechanism,
        credential: Option<Arc<ScramCredential>>,
    ) -> Option<Arc<ScramCredential>> {
        let is_set = credential.is_some();
        let of_user = self.scram.entry(user.clone()).or_default();
        let old = of_user.remove(&mechanism);
        of_user.extend(credential.map(|credential| (mechanism, credential)));
        if of_user.is_empty() {
            self.scram.remove(user);
        }
        self.scram_count = self.scram_count + usize::from(is_set) - usize::from(old.is_some());
        old
    }

    // ── in snapshots ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    pub(crate) fn encode_scram(&self, out: &mut Encoder) {
        out.count(self.scram_count);
        for (user, of_user) in &self.scram {
            for (mechanism, credential) in of_user {
                out.str(user);
                out.u8(*mechanism as u8);
                credential.encode(out);
            }
        }
    }

    pub(crate) fn decode_scram(&mut self, bytes: &mut Decoder<'_>) -> Result<(), DecodeError> {
        for _ in 0..bytes.count(21)? {
            let (user, mechanism) = (bytes.str()?, decode_mechanism(bytes)?);
            let credential = ScramCredential::decode(bytes)?;
            self.set_scram(&user, mechanism, Some(Arc::new(credential)));
        }
        Ok(())
    }

    pub(crate) fn encode_tokens(&self, out: &mut Encoder) {
        out.count(self.tokens.len());
        self.tokens.values().for_each(|token| token.encode(out));
    }

    pub(crate) fn decode_tokens(&mut self, bytes: &mut Decoder<'_>) -> Result<(), DecodeError> {
        for _ in 0..bytes.count(40)? {
            let token = DelegationToken::decode(bytes)?;
            self.tokens.insert(token.token_id.clone(), Arc::new(token));
        }
        Ok(())
    }
}
