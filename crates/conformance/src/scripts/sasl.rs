//! SaslHandshake and SaslAuthenticate: at the listener that wants to know who speaks, and at the one that does not.

use bytes::Bytes;
use protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use protocol::messages::describe_user_scram_credentials_request::UserName;
use protocol::messages::{
    AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest, MetadataRequest,
    SaslAuthenticateRequest, SaslHandshakeRequest,
};
use protocol::{ApiKey, Str};

use super::{Script, sasl_script, script};
use crate::conversation::Conversation;
use crate::value::Value;

pub(super) const SCRIPTS: &[Script] = &[
    sasl_script(ApiKey::SaslHandshake, "mechanisms", mechanisms),
    sasl_script(ApiKey::SaslHandshake, "what follows", what_follows),
    script(ApiKey::SaslHandshake, "where nobody is asked who he is", handshake_in_vain),
    sasl_script(ApiKey::SaslAuthenticate, "PLAIN", plain),
    sasl_script(ApiKey::SaslAuthenticate, "SCRAM", scram),
    sasl_script(ApiKey::SaslAuthenticate, "out of turn", out_of_turn),
    script(ApiKey::SaslAuthenticate, "where nobody is asked who he is", authenticate_in_vain),
];

pub(super) const ALICE: &[u8] = b"\0alice\0alice-secret";
pub(super) const BOB: &[u8] = b"\0bob\0bob-secret";
const SHA_256: i8 = 1;

fn handshake(mechanism: &str) -> SaslHandshakeRequest {
    SaslHandshakeRequest { mechanism: mechanism.into() }
}

fn authenticate(token: &[u8]) -> SaslAuthenticateRequest {
    SaslAuthenticateRequest { auth_bytes: Bytes::copy_from_slice(token) }
}

fn anything() -> MetadataRequest {
    MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() }
}

/// A new connection of somebody who has said who he is.
pub(super) fn log_in(c: &mut Conversation, token: &[u8]) {
    c.go_to(true);
    c.help(&handshake("PLAIN"));
    c.help(&authenticate(token));
}

fn mechanisms(c: &mut Conversation) {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "plain", "NONSENSE", ""] {
        c.hang_up();
        c.ask(mechanism, &handshake(mechanism));
    }
}

/// Tokens without headers behind version 0, SaslAuthenticate behind 1; and what has no place there.
fn what_follows(c: &mut Conversation) {
    for (label, token) in [
        ("a good token", ALICE),
        ("a wrong password", b"\0alice\0bob-secret"),
        ("a token that is none", b"alice"),
        ("an empty token", b""),
    ] {
        c.hang_up();
        c.ask("PLAIN", &handshake("PLAIN"));
        match c.version() {
            0 => c.token(label, token),
            _ => _ = c.ask(label, &authenticate(token)),
        }
        c.ask("anything behind it", &anything());
    }
    c.hang_up();
    c.ask("PLAIN", &handshake("PLAIN"));
    c.ask("another handshake", &handshake("PLAIN"));
    c.hang_up();
    c.ask("NONSENSE", &handshake("NONSENSE"));
    c.ask("another handshake behind a wrong one", &handshake("PLAIN"));
    c.hang_up();
    c.ask("PLAIN", &handshake("PLAIN"));
    c.ask("anything before the token", &anything());
}

fn handshake_in_vain(c: &mut Conversation) {
    c.ask("PLAIN", &handshake("PLAIN"));
    c.ask("NONSENSE", &handshake("NONSENSE"));
    c.ask("anything behind it", &anything());
}

fn plain(c: &mut Conversation) {
    for (label, token) in [
        ("a good token", ALICE),
        ("as oneself", b"alice\0alice\0alice-secret"),
        ("as somebody else", b"bob\0alice\0alice-secret"),
        ("a wrong password", b"\0alice\0bob-secret"),
        ("an unknown user", b"\0carol\0alice-secret"),
        ("no user", b"\0\0alice-secret"),
        ("no password", b"\0alice\0"),
        ("one part", b"alice"),
        ("two parts", b"alice\0alice-secret"),
        ("four parts", b"\0alice\0alice-secret\0more"),
        ("nothing", b""),
    ] {
        c.hang_up();
        c.help(&handshake("PLAIN"));
        c.ask(label, &authenticate(token));
        c.ask("anything behind it", &anything());
    }
}

fn scram(c: &mut Conversation) {
    let user = c.name("u");
    c.go_to(false);
    let upsertion = ScramCredentialUpsertion {
        name: user.clone(),
        mechanism: SHA_256,
        iterations: 4096,
        salt: Bytes::from_static(b"0123456789abcdef"),
        salted_password: Bytes::from_static(b"0123456789abcdef0123456789abcdef"),
        ..ScramCredentialUpsertion::default()
    };
    c.help(&AlterUserScramCredentialsRequest { upsertions: vec![upsertion], ..Default::default() });
    let described = DescribeUserScramCredentialsRequest {
        users: Some(vec![UserName { name: user.clone(), ..UserName::default() }]),
    };
    c.help_until(&described, |answer| answer.results.iter().all(|result| result.error_code == 0));
    let unknown = c.name("x");
    let first = |name: &Str| format!("n,,n={name},r=abcdefghijkl").into_bytes();
    c.go_to(true);
    c.help(&handshake("SCRAM-SHA-256"));
    let challenge = c.help(&authenticate(&first(&user))).map(|answer| answer.auth_bytes);
    let said =
        challenge.as_deref().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let fields: Vec<&str> = said.split(',').collect();
    let goes_on = fields.first().is_some_and(|nonce| nonce.starts_with("r=abcdefghijkl") && nonce.len() > 20);
    c.note("the challenge", Value::Text(format!("{goes_on} {}", fields[1..].join(","))));
    let nonce = fields[0];
    let wrong = format!("c=biws,{nonce},p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    c.ask("a wrong proof", &authenticate(wrong.as_bytes()));
    c.ask("anything behind it", &anything());
    for (label, message) in [
        ("an unknown user", first(&unknown)),
        ("no user", first(&"".into())),
        ("a channel that is bound", format!("p=tls-unique,,n={user},r=abc").into_bytes()),
        ("an extension that must be known", format!("n,,m=x,n={user},r=abc").into_bytes()),
        ("no nonce", format!("n,,n={user}").into_bytes()),
        ("garbage", b"garbage".to_vec()),
        ("nothing", Vec::new()),
    ] {
        c.hang_up();
        c.help(&handshake("SCRAM-SHA-256"));
        c.ask(label, &authenticate(&message));
        c.ask("anything behind it", &anything());
    }
}

fn out_of_turn(c: &mut Conversation) {
    c.ask("without a handshake", &authenticate(ALICE));
    c.hang_up();
    c.ask("anything first", &anything());
    log_in(c, ALICE);
    c.ask("once more", &authenticate(ALICE));
    c.ask("anything behind it", &anything());
    // Somebody else may not take the connection over.
    log_in(c, ALICE);
    c.ask("another handshake", &handshake("PLAIN"));
    c.ask("another user", &authenticate(BOB));
    c.ask("anything behind that", &anything());
    log_in(c, ALICE);
    c.ask("the same again", &handshake("PLAIN"));
    c.ask("the same user", &authenticate(ALICE));
    c.ask("anything behind the same", &anything());
}

fn authenticate_in_vain(c: &mut Conversation) {
    c.ask("a good token", &authenticate(ALICE));
    c.ask("nothing", &authenticate(b""));
    c.ask("anything behind it", &anything());
}
