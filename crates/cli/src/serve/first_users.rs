//! `--add-scram`: the users with whom an administrator comes in for the first time, written as for `kafka-storage.sh format`.
//!
//! ```text
//!   SCRAM-SHA-512=[name=admin,password="…",iterations=8192]
//! ```
//! A user who is there already stays as he is: whoever starts the broker again with an old password does not bring it back.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use broker::authn::scram::{self, ITERATIONS_MAX, ITERATIONS_MIN};
use catalog::{Catalog, MetadataRecord, ScramCredential, ScramMechanism};
use world::rng::SharedRng;

use crate::exit::Failure;

#[derive(Clone, PartialEq, Eq)]
pub struct FirstUser {
    name: String,
    mechanism: ScramMechanism,
    secret: Secret,
    salt: Option<Vec<u8>>,
    iterations: u32,
}

#[derive(Clone, PartialEq, Eq)]
enum Secret {
    Password(String),
    Salted(Vec<u8>),
}

impl fmt::Debug for FirstUser {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "FirstUser({}, {})", self.name, self.mechanism.name())
    }
}

impl std::str::FromStr for FirstUser {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "want SCRAM-SHA-256=[name=NAME,password=PASSWORD] or SCRAM-SHA-512=[…]".to_owned();
        let (mechanism, rest) = text.trim().split_once('=').ok_or_else(form)?;
        let mechanism = ScramMechanism::from_name(mechanism).ok_or_else(form)?;
        let inner = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or_else(form)?;
        let (mut name, mut password, mut salt, mut salted, mut iterations) = (None, None, None, None, None);
        for (key, value) in pairs(inner)? {
            let place = match key.as_str() {
                "name" => &mut name,
                "password" => &mut password,
                "salt" => &mut salt,
                "saltedpassword" => &mut salted,
                "iterations" => &mut iterations,
                _ => {
                    return Err(format!(
                        "{key} is not known; there are name, password, iterations, salt, saltedpassword"
                    ));
                }
            };
            if place.replace(value).is_some() {
                return Err(format!("{key} is there twice"));
            }
        }
        let decode =
            |what: &str, text: String| BASE64.decode(text).map_err(|_| format!("{what} is no base64"));
        let salt = salt.map(|text| decode("salt", text)).transpose()?;
        let iterations = match iterations {
            None => ITERATIONS_MIN,
            Some(text) => text.parse().map_err(|_| "iterations is no number".to_owned())?,
        };
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(format!("iterations must be from {ITERATIONS_MIN} to {ITERATIONS_MAX}"));
        }
        let secret = match (password, salted) {
            (Some(password), None) if !password.is_empty() => Secret::Password(password),
            (None, Some(salted)) => {
                let salted = decode("saltedpassword", salted)?;
                if salt.is_none() || salted.len() != mechanism.key_bytes() {
                    return Err("saltedpassword needs its salt and the mechanism's length".to_owned());
                }
                Secret::Salted(salted)
            }
            _ => return Err("want either password or saltedpassword".to_owned()),
        };
        let name = name.filter(|name| !name.is_empty()).ok_or("name is missing")?;
        Ok(Self { name, mechanism, secret, salt, iterations })
    }
}

/// `key=value`, separated by commas; a value with a comma or a bracket stands in double quotes.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, behind) = rest.split_once('=').ok_or("want name=value, separated by commas")?;
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a quote has no end")?,
            None => behind.split_at(behind.find(',').unwrap_or(behind.len())),
        };
        pairs.push((key.trim().to_owned(), value.to_owned()));
        rest = match behind.strip_prefix(',') {
            Some(next) => next,
            None if behind.is_empty() => behind,
            None => return Err("want name=value, separated by commas".to_owned()),
        };
    }
    Ok(pairs)
}

impl FirstUser {
    fn credential(&self, rng: &SharedRng) -> ScramCredential {
        // As Kafka's tools make them: printable.
        let salt = self.salt.clone().unwrap_or_else(|| BASE64.encode(rng.uuid()).into_bytes());
        let salted = match &self.secret {
            Secret::Password(password) => {
                scram::salted_password(self.mechanism, password.as_bytes(), &salt, self.iterations)
            }
            Secret::Salted(salted) => salted.clone(),
        };
        scram::credential(self.mechanism, &salted, &salt, self.iterations)
    }
}

pub async fn add(users: &[FirstUser], catalog: &Arc<Catalog>, rng: &SharedRng) -> Result<(), Failure> {
    let failed = |error: catalog::CatalogError| Failure::failed(format!("--add-scram: {error}"));
    if catalog.is_shared() && !users.is_empty() {
        catalog.catch_up().await.map_err(failed)?;
    }
    for user in users {
        let mechanism = user.mechanism;
        if catalog.read().credentials().scram(&user.name, mechanism).is_some() {
            tracing::info!(user = %user.name, "--add-scram: {} is there already and stays as it is", mechanism.name());
            continue;
        }
        let credential = user.credential(rng);
        let record =
            MetadataRecord::PutScramCredential { user: user.name.clone().into(), mechanism, credential };
        catalog.append(vec![record]).await.map_err(failed)?;
        tracing::info!(user = %user.name, "--add-scram: {} credential set", mechanism.name());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_written_as_for_kafka_storage() {
        let user: FirstUser = "SCRAM-SHA-256=[name=alice,password=alice-secret]".parse().unwrap();
        assert_eq!((user.name.as_str(), user.iterations), ("alice", 4096));
        assert!(user.secret == Secret::Password("alice-secret".to_owned()));
        assert!(!format!("{user:?}").contains("secret"));
        let quoted: FirstUser =
            "SCRAM-SHA-512=[password=\"a,b]=\",iterations=8192,name=\"bob\",salt=\"c2FsdA==\"]"
                .parse()
                .unwrap();
        assert!(
            quoted.secret == Secret::Password("a,b]=".to_owned()) && quoted.salt == Some(b"salt".to_vec())
        );
        let salted = BASE64.encode([7; 32]);
        let salted = format!("SCRAM-SHA-256=[name=c,salt=c2FsdA==,saltedpassword=\"{salted}\"]");
        assert!(salted.parse::<FirstUser>().is_ok());
        for wrong in [
            "",
            "PLAIN=[name=a,password=b]",
            "SCRAM-SHA-256=name=a,password=b",
            "SCRAM-SHA-256=[name=a]",
            "SCRAM-SHA-256=[password=b]",
            "SCRAM-SHA-256=[name=a,password=b,iterations=4095]",
            "SCRAM-SHA-256=[name=a,password=b,iterations=16385]",
            "SCRAM-SHA-256=[name=a,password=\"b]",
            "SCRAM-SHA-256=[name=a,name=a,password=b]",
            "SCRAM-SHA-256=[name=a,password=b,salt=?]",
            "SCRAM-SHA-256=[name=a,password=b,saltedpassword=Yg==]",
            "SCRAM-SHA-256=[name=a,password=]",
            "SCRAM-SHA-512=[name=c,salt=c2FsdA==,saltedpassword=Yg==]",
            "SCRAM-SHA-256=[name=a,colour=b]",
        ] {
            assert!(wrong.parse::<FirstUser>().is_err(), "{wrong}");
        }
    }
}
