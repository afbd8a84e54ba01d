//! The properties file of a Kafka client (`--command-config`): how to reach the brokers.
//!
//! Keys that are not about security are left alone, so that one file serves Kafka's tools and ours. What is about security and cannot
//! be done is an error: nobody talks in the clear who asked for TLS.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use broker::SecurityProtocol;
use broker::authn::jaas;
use client::{Bearer, Sasl, ScramMechanism, SecureTransport, TcpTransport, Tls, Transport};

use crate::exit::Failure;
use crate::pem::{read_pem, unfold};

/// Longest token in a file.
const TOKEN_BYTES_MAX: u64 = 1 << 20;

pub fn transport(file: Option<&Path>) -> Result<Arc<dyn Transport>, Failure> {
    let Some(file) = file else { return Ok(Arc::new(TcpTransport::new())) };
    let wrong = |why: String| Failure::usage(format!("{}: {why}", file.display()));
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let all = catalog::config::properties::parse(&String::from_utf8_lossy(&text));
    let all = all.map_err(|error| wrong(error.to_string()))?;
    transport_of(&all.into_iter().collect()).map_err(wrong)
}

fn transport_of(all: &BTreeMap<String, String>) -> Result<Arc<dyn Transport>, String> {
    let named = value(all, "security.protocol").unwrap_or("PLAINTEXT");
    let protocol = SecurityProtocol::from_name(&named.to_uppercase())
        .ok_or_else(|| format!("security.protocol={named}: there is no such protocol"))?;
    if protocol == SecurityProtocol::Plaintext {
        return Ok(Arc::new(TcpTransport::new()));
    }
    let tls = if protocol.has_tls() { Some(tls(all)?) } else { None };
    let sasl = if protocol.has_sasl() { Some(sasl(all)?) } else { None };
    let transport = SecureTransport::new(tls.as_ref(), sasl).map_err(|error| error.to_string())?;
    Ok(Arc::new(transport))
}

/// An empty value is none, as in Kafka's files.
fn value<'a>(all: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    all.get(key).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn tls(all: &BTreeMap<String, String>) -> Result<Tls, String> {
    let read = |key: &str, kind: &str, file: &str| read_pem(key, file, value(all, kind));
    let trusted = match (value(all, "ssl.truststore.location"), value(all, "ssl.truststore.certificates")) {
        (Some(file), None) => Some(read("ssl.truststore.location", "ssl.truststore.type", file)?),
        (None, Some(text)) => Some(unfold(text)),
        (None, None) => None,
        (Some(_), Some(_)) => {
            return Err("either ssl.truststore.location or ssl.truststore.certificates".to_owned());
        }
    };
    let identity = match (
        value(all, "ssl.keystore.location"),
        value(all, "ssl.keystore.certificate.chain"),
        value(all, "ssl.keystore.key"),
    ) {
        (Some(file), None, None) => {
            let pem = read("ssl.keystore.location", "ssl.keystore.type", file)?;
            Some((pem.clone(), pem))
        }
        (None, Some(chain), Some(key)) => Some((unfold(chain), unfold(key))),
        (None, None, None) => None,
        _ => {
            return Err(
                "either ssl.keystore.location or both ssl.keystore.certificate.chain and ssl.keystore.key"
                    .to_owned(),
            );
        }
    };
    // Kafka's default is https; an empty value turns the check off.
    let checks_host_name = match all.get("ssl.endpoint.identification.algorithm").map(|value| value.trim()) {
        None => true,
        Some("") => false,
        Some(value) if value.eq_ignore_ascii_case("https") => true,
        Some(value) => {
            return Err(format!("ssl.endpoint.identification.algorithm={value}: https, or nothing"));
        }
    };
    Ok(Tls { trusted, identity, checks_host_name })
}

fn sasl(all: &BTreeMap<String, String>) -> Result<Sasl, String> {
    let named = value(all, "sasl.mechanism").unwrap_or("GSSAPI");
    let scram = |mechanism| -> Result<Sasl, String> {
        let options = login_module(all)?;
        let (username, password) = name_and_password(&options)?;
        let is_token = options.get("tokenauth").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Ok(Sasl::Scram { mechanism, username, password, is_token })
    };
    match named {
        "PLAIN" => {
            let (username, password) = name_and_password(&login_module(all)?)?;
            Ok(Sasl::Plain { username, password })
        }
        "SCRAM-SHA-256" => scram(ScramMechanism::Sha256),
        "SCRAM-SHA-512" => scram(ScramMechanism::Sha512),
        "OAUTHBEARER" => Ok(Sasl::OauthBearer(token_of_file(all)?)),
        _ => Err(format!(
            "sasl.mechanism={named} is not supported: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER are"
        )),
    }
}

fn login_module(all: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let text = value(all, "sasl.jaas.config").ok_or("sasl.jaas.config is missing")?;
    Ok(jaas::parse(text).map_err(|why| format!("sasl.jaas.config: {why}"))?.options)
}

fn name_and_password(options: &BTreeMap<String, String>) -> Result<(String, String), String> {
    let option = |key: &str| {
        options.get(key).cloned().ok_or_else(|| format!("sasl.jaas.config: the option {key} is missing"))
    };
    Ok((option("username")?, option("password")?))
}

/// The file is read for every connection: whoever makes the tokens replaces it before they end.
fn token_of_file(all: &BTreeMap<String, String>) -> Result<Bearer, String> {
    const KEY: &str = "sasl.oauthbearer.token.endpoint.url";
    let url = value(all, KEY).ok_or_else(|| format!("OAUTHBEARER needs {KEY}=file:///PATH"))?;
    let path = url.strip_prefix("file://").filter(|path| path.starts_with('/'));
    let path = path.ok_or_else(|| format!("{KEY}={url}: only file:///PATH, a file with a token in it"))?;
    let path = std::path::PathBuf::from(path);
    Ok(Arc::new(move || {
        if std::fs::metadata(&path)?.len() > TOKEN_BYTES_MAX {
            return Err(std::io::Error::other(format!("{} is no token", path.display())));
        }
        std::fs::read_to_string(&path)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<(), String> {
        let all = catalog::config::properties::parse(text).unwrap().into_iter().collect();
        transport_of(&all).map(drop)
    }

    #[test]
    fn what_cannot_be_done_is_said_and_not_left_out() {
        const MODULE: &str =
            "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required";
        for (text, expected) in [
            ("security.protocol=TLS", "no such protocol"),
            ("security.protocol=SASL_PLAINTEXT", "GSSAPI is not supported"),
            ("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN", "sasl.jaas.config is missing"),
            (
                &format!(
                    "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\n{MODULE} username=a;"
                ),
                "password",
            ),
            ("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER", "needs sasl.oauthbearer.token"),
            (
                "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\n\
                 sasl.oauthbearer.token.endpoint.url=https://example.org/token",
                "only file:///PATH",
            ),
            ("security.protocol=SSL\nssl.truststore.location=/nowhere", "/nowhere"),
            ("security.protocol=SSL\nssl.keystore.key=x", "ssl.keystore.certificate.chain"),
            ("security.protocol=SSL\nssl.endpoint.identification.algorithm=ldaps", "https, or nothing"),
            ("security.protocol=SSL\nssl.truststore.certificates=x", "no certificate is trusted"),
        ] {
            let why = of(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
        of("security.protocol=plaintext\nacks=all").unwrap();
        let good = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n{MODULE} username=a password=b;"
        );
        of(&good).unwrap();
    }
}
