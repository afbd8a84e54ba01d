//! SASL PLAIN (RFC 4616): name and password as they are. For listeners with TLS.
//!
//! Users stand in the listener's `sasl.jaas.config`, as Kafka's `PlainLoginModule` has them: `user_alice="secret"`.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::{constant_time, digest};
use protocol::Str;

use super::Refusal;

#[derive(Clone, Default, PartialEq, Eq)]
pub struct PlainUsers {
    passwords: BTreeMap<String, String>,
}

impl fmt::Debug for PlainUsers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PlainUsers({})", self.passwords.len())
    }
}

impl PlainUsers {
    pub fn new(passwords: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { passwords: passwords.into_iter().collect() }
    }

    pub fn len(&self) -> usize {
        self.passwords.len()
    }

    pub fn is_empty(&self) -> bool {
        self.passwords.is_empty()
    }

    /// Who the one message of a client proves to be.
    pub fn check(&self, bytes: &[u8]) -> Result<Str, Refusal> {
        let wrong = |why: &'static str| Refusal::told(format!("Authentication failed: {why}"));
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("the message is not UTF-8"))?;
        let parts: Vec<&str> = text.splitn(4, '\0').collect();
        let [authzid, user, password] = parts[..] else {
            return Err(wrong("the message is not authorization id, user and password"));
        };
        if user.is_empty() {
            return Err(wrong("username not specified"));
        }
        if password.is_empty() {
            return Err(wrong("password not specified"));
        }
        // Digests have one length: the time says nothing about the password, nor whether there is such a user.
        let known = self.passwords.get(user);
        let given = digest::digest(&digest::SHA256, password.as_bytes());
        let kept = digest::digest(&digest::SHA256, known.map_or(b"", |known| known.as_bytes()));
        let fits = constant_time::verify_slices_are_equal(given.as_ref(), kept.as_ref()).is_ok();
        if !fits || known.is_none() {
            return Err(wrong("Invalid username or password"));
        }
        if !authzid.is_empty() && authzid != user {
            return Err(Refusal::other_authorization_id());
        }
        Ok(Str::from(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_and_no_other_lets_a_user_in() {
        let pairs = [("alice", "wonder\u{e9}"), ("bob", "builder"), ("empty", "")];
        let users = PlainUsers::new(pairs.map(|(user, password)| (user.to_owned(), password.to_owned())));
        let check = |message: &str| users.check(message.as_bytes()).ok();
        assert_eq!(check("\0alice\0wonder\u{e9}").as_deref(), Some("alice"));
        assert_eq!(check("bob\0bob\0builder").as_deref(), Some("bob"));
        for wrong in [
            "",
            "\0",
            "\0\0",
            "\0alice\0",
            "\0\0builder",
            "\0bob\0Builder",
            "\0bob\0builder\0",
            "\0carol\0builder",
            "alice\0bob\0builder",
            "\0empty\0",
            "\0carol\0",
            "bob\0builder",
            "\0alice\0builder",
        ] {
            assert_eq!(check(wrong), None, "{wrong:?}");
        }
        assert!(users.check(b"\0bob\0\xff").is_err());
        assert_eq!(format!("{users:?}"), "PlainUsers(3)");
    }
}
