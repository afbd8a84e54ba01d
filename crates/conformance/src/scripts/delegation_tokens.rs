//! Delegation tokens (KIP-48, KIP-373): made, shown, renewed and ended, by those who may and those who may not.

use bytes::Bytes;
use protocol::messages::create_delegation_token_request::CreatableRenewers;
use protocol::messages::describe_delegation_token_request::DescribeDelegationTokenOwner;
use protocol::messages::{
    CreateDelegationTokenRequest, DescribeDelegationTokenRequest, ExpireDelegationTokenRequest,
    RenewDelegationTokenRequest,
};
use protocol::{ApiKey, Str};

use super::sasl::{ALICE, BOB, log_in};
use super::{Script, sasl_script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    sasl_script(ApiKey::CreateDelegationToken, "good and bad", create),
    script(ApiKey::CreateDelegationToken, "by nobody", create_by_nobody),
    sasl_script(ApiKey::DescribeDelegationToken, "owners", describe),
    script(ApiKey::DescribeDelegationToken, "by nobody", describe_by_nobody),
    sasl_script(ApiKey::RenewDelegationToken, "good and bad", renew),
    script(ApiKey::RenewDelegationToken, "by nobody", renew_by_nobody),
    sasl_script(ApiKey::ExpireDelegationToken, "good and bad", expire),
    script(ApiKey::ExpireDelegationToken, "by nobody", expire_by_nobody),
];

const AS_LONG_AS_MAY_BE: i64 = -1;
const AT_ONCE: i64 = -1;
const HOUR_MS: i64 = 3_600_000;
/// So many bytes as an HMAC has, and nobody's.
const UNKNOWN: Bytes = Bytes::from_static(&[7; 64]);

fn token() -> CreateDelegationTokenRequest {
    CreateDelegationTokenRequest {
        max_lifetime_ms: AS_LONG_AS_MAY_BE,
        ..CreateDelegationTokenRequest::default()
    }
}

fn renewed_by(principal_type: &str, name: &str) -> CreateDelegationTokenRequest {
    let renewer = CreatableRenewers { principal_type: principal_type.into(), principal_name: name.into() };
    CreateDelegationTokenRequest { renewers: vec![renewer], ..token() }
}

fn owned_by(principal_type: &str, name: &Str) -> CreateDelegationTokenRequest {
    CreateDelegationTokenRequest {
        owner_principal_type: Some(principal_type.into()),
        owner_principal_name: Some(name.clone()),
        ..token()
    }
}

fn create(c: &mut Conversation) {
    log_in(c, ALICE);
    c.ask("one", &token());
    c.ask("for an hour", &CreateDelegationTokenRequest { max_lifetime_ms: HOUR_MS, ..token() });
    c.ask("longer than may be", &CreateDelegationTokenRequest { max_lifetime_ms: i64::MAX, ..token() });
    c.ask("for no time", &CreateDelegationTokenRequest { max_lifetime_ms: 0, ..token() });
    c.ask("renewed by another", &renewed_by("User", "bob"));
    c.ask("renewed by a group", &renewed_by("Group", "all"));
    c.ask("renewed by no type", &renewed_by("", "bob"));
    c.ask("owned by another", &owned_by("User", &c.name("o")));
    c.ask("owned by no name", &owned_by("User", &"".into()));
    log_in(c, BOB);
    c.ask("by another", &token());
    c.ask("by another, for somebody else", &owned_by("User", &"alice".into()));
    log_in(c, ALICE);
    c.ask("owned by a group", &owned_by("Group", &c.name("o")));
}

fn create_by_nobody(c: &mut Conversation) {
    c.ask("one", &token());
}

/// A token of an owner that only this run has; alice has made it. Its HMAC, when both know it.
fn token_of(c: &mut Conversation, owner: &Str, renewer: &str) -> Bytes {
    log_in(c, ALICE);
    let renewers = renewed_by("User", renewer).renewers;
    let made = c.help(&CreateDelegationTokenRequest { renewers, ..owned_by("User", owner) });
    let hmac = made.map(|made| made.hmac).unwrap_or_default();
    c.help_until(&tokens_of(&[owner]), |answer| !answer.tokens.is_empty());
    hmac
}

fn tokens_of(owners: &[&Str]) -> DescribeDelegationTokenRequest {
    let owner = |name: &&Str| DescribeDelegationTokenOwner {
        principal_type: "User".into(),
        principal_name: (*name).clone(),
    };
    DescribeDelegationTokenRequest { owners: Some(owners.iter().map(owner).collect()) }
}

fn describe(c: &mut Conversation) {
    let owner = c.name("o");
    token_of(c, &owner, "bob");
    c.ask("one", &tokens_of(&[&owner]));
    c.ask("one, named twice", &tokens_of(&[&owner, &owner]));
    c.ask("an unknown owner", &tokens_of(&[&c.name("x")]));
    c.ask("no owner", &tokens_of(&[]));
    log_in(c, BOB);
    c.ask("by a renewer", &tokens_of(&[&owner]));
}

fn describe_by_nobody(c: &mut Conversation) {
    c.ask("one", &tokens_of(&[&"alice".into()]));
    c.ask("all", &DescribeDelegationTokenRequest { owners: None });
}

fn renewal(hmac: &Bytes, renew_period_ms: i64) -> RenewDelegationTokenRequest {
    RenewDelegationTokenRequest { hmac: hmac.clone(), renew_period_ms }
}

fn renew(c: &mut Conversation) {
    let hmac = token_of(c, &c.name("o"), "bob");
    c.ask("by neither owner nor renewer", &renewal(&hmac, HOUR_MS));
    log_in(c, BOB);
    c.ask("by the renewer", &renewal(&hmac, HOUR_MS));
    c.ask("by default", &renewal(&hmac, AS_LONG_AS_MAY_BE));
    c.ask("for no time", &renewal(&hmac, 0));
    c.ask("longer than may be", &renewal(&hmac, i64::MAX));
    c.ask("an unknown one", &renewal(&UNKNOWN, HOUR_MS));
    c.ask("none", &renewal(&Bytes::new(), HOUR_MS));
}

fn renew_by_nobody(c: &mut Conversation) {
    c.ask("an unknown one", &renewal(&UNKNOWN, HOUR_MS));
}

fn expiry(hmac: &Bytes, expiry_time_period_ms: i64) -> ExpireDelegationTokenRequest {
    ExpireDelegationTokenRequest { hmac: hmac.clone(), expiry_time_period_ms }
}

fn expire(c: &mut Conversation) {
    let owner = c.name("o");
    let hmac = token_of(c, &owner, "bob");
    c.ask("by neither owner nor renewer", &expiry(&hmac, HOUR_MS));
    log_in(c, BOB);
    c.ask("in an hour", &expiry(&hmac, HOUR_MS));
    c.ask("an unknown one", &expiry(&UNKNOWN, AT_ONCE));
    c.ask("none", &expiry(&Bytes::new(), AT_ONCE));
    c.ask("at once", &expiry(&hmac, AT_ONCE));
    c.help_until(&tokens_of(&[&owner]), |answer| answer.tokens.is_empty());
    c.ask("at once, again", &expiry(&hmac, AT_ONCE));
}

fn expire_by_nobody(c: &mut Conversation) {
    c.ask("an unknown one", &expiry(&UNKNOWN, AT_ONCE));
}
