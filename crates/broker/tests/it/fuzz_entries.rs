//! What is called with bytes from a client that nobody knows yet: by libFuzzer (`/fuzz`, nightly) and, for a bounded count, below in
//! every `cargo test`. An entry panics when somebody is let in who must not be.

use std::sync::Arc;

use broker::authn::scram::{self, ClientFirst, Server};
use broker::authn::{PlainUsers, PrincipalMapping, TokenRules, jaas};
use catalog::ScramMechanism;

const NOW_MS: i64 = 1_700_000_000_000;

/// First byte: what the rest is. For SCRAM two messages with a zero byte between them.
pub fn sasl(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 5 {
        0 => plain(rest),
        1 => scram(ScramMechanism::Sha256, rest),
        2 => scram(ScramMechanism::Sha512, rest),
        3 => token(rest),
        _ => settings(rest),
    }
}

fn plain(message: &[u8]) {
    let users = PlainUsers::new([("alice".to_owned(), "wonder".to_owned())]);
    if users.check(message).is_ok() {
        assert!(message == b"\0alice\0wonder" || message == b"alice\0alice\0wonder", "{message:?}");
    }
}

fn scram(mechanism: ScramMechanism, messages: &[u8]) {
    let mut messages = messages.splitn(2, |byte| *byte == 0);
    let (first, last) = (messages.next().unwrap_or_default(), messages.next().unwrap_or_default());
    let Ok(first) = ClientFirst::parse(first) else { return };
    assert!(!first.user.is_empty());
    // Nobody can have the key that fits: it is no hash of anything known.
    let credential = scram::decoy(mechanism, b"a secret of this test", &first.user, None);
    let (server, challenge) = Server::challenge(mechanism, first, credential, false, "servernonce");
    assert!(std::str::from_utf8(&challenge).is_ok_and(|text| text.contains("servernonce,s=")));
    assert!(server.finish(last).is_err());
}

fn token(message: &[u8]) {
    let rules = TokenRules {
        issuer: "issuer".to_owned(),
        audiences: vec!["kafka".to_owned()],
        subject_claim: "sub".to_owned(),
        clock_skew_ms: 0,
        keys: Arc::default(),
    };
    // The keys of a provider come from elsewhere too.
    let _ = rules.keys.replace(message);
    rules.keys.replace(KEYS.as_bytes()).expect("a good set of keys");
    // Nobody has the key that signs.
    assert!(!matches!(rules.check(message, NOW_MS), Ok(Ok(_))));
}

fn settings(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let _ = jaas::parse(&text);
    if let Ok(mapping) = PrincipalMapping::parse(&text) {
        let _ = mapping.name("CN=alice,OU=eng,O=Acme");
    }
}

/// RFC 7517, appendix A.1.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"sig","kid":"1"}]}"#;

pub fn seeds() -> Vec<Vec<u8>> {
    let of = |kind: u8, rest: &[u8]| [&[kind], rest].concat();
    vec![
        of(0, b"\0alice\0wonder"),
        of(0, b"alice\0alice\0wonder"),
        of(1, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO\0c=biws,r=rOprNGfwEbeRWgbNEkqOservernonce,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
        of(2, b"n,a=us=2Cer,n=us=2Cer,r=abc,tokenauth=true\0c=bixhPXVzPTJDZXIs,r=abcservernonce,p=AAAA"),
        of(3, b"n,,\x01auth=Bearer eyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJhIn0.AAAA\x01\x01"),
        of(3, KEYS.as_bytes()),
        of(4, b"o.PlainLoginModule required user_a=\"b\\\"c\" x=y;"),
        of(4, b"RULE:^CN=(.*?),OU=.*$/$1@$12/L, DEFAULT"),
    ]
}

#[cfg(test)]
mod tests {
    use world::rng::{Rng, SeededRng};

    use super::*;

    #[test]
    fn golden_mutated_and_random_messages() {
        let rng = SeededRng::new(11);
        let below = |bound: usize| u128::from_le_bytes(rng.uuid()) as usize % bound;
        for seed in seeds() {
            sasl(&seed);
            for _ in 0..400 {
                let mut bytes = seed.clone();
                for _ in 0..=below(3) {
                    let at = below(bytes.len());
                    match below(5) {
                        0 => bytes[at] = below(256) as u8,
                        1 => bytes[at] ^= 1 << below(8),
                        2 => bytes.truncate(at.max(1)),
                        3 => {
                            let part = bytes[at..(at + 1 + below(16)).min(bytes.len())].to_vec();
                            drop(bytes.splice(at..at, part));
                        }
                        _ => bytes.insert(at, b",=\0\x01.\""[below(6)]),
                    }
                }
                // What the message is stays.
                bytes[0] = seed[0];
                sasl(&bytes);
            }
        }
        for _ in 0..2_000 {
            let noise: Vec<u8> = (0..1 + below(100)).map(|_| below(256) as u8).collect();
            sasl(&noise);
        }
    }
}
