//! Bytes that Kafka's own Java classes wrote (`vectors/java`, run by `cargo xtask vectors`; the format of a
//! line stands there). No JDK is needed to hold us against them.

use protocol::message::AnyMessage;
use protocol::{ApiKey, ErrorCode};

use crate::round_trip::{decode, encode, listed};
use crate::schema;

pub const VECTORS: &str = include_str!("../../vectors/messages.txt");

pub fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

/// Name, version and bytes of every filled message.
pub fn filled() -> impl Iterator<Item = (&'static str, i16, Vec<u8>)> {
    VECTORS.lines().filter_map(|line| line.strip_prefix("F ")).map(|line| {
        let mut words = line.split(' ');
        let (name, version) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        (name, version, from_hex(words.next().unwrap_or_default()))
    })
}

#[test]
fn every_vector_of_kafkas_classes_comes_back() {
    let mut current: Option<(&str, i16, Box<dyn AnyMessage>)> = None;
    let mut seen = std::collections::BTreeSet::new();
    for line in VECTORS.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["F", name, version, hex] => {
                let version = version.parse().unwrap();
                let message = decode(listed(name), &from_hex(hex), version);
                let again = encode(&*message, version).unwrap();
                assert_eq!(again, from_hex(hex), "{name} version {version}\n{message:#?}");
                seen.insert((name, version));
                current = Some((name, version, message));
            }
            ["D", name, version, expected] => {
                let version: i16 = version.parse().unwrap();
                let expected = (expected != "!").then(|| from_hex(expected));
                assert_eq!(encode(&*(listed(name).default)(), version).ok(), expected, "{name} {version}");
            }
            ["X", other, expected] => {
                let other: i16 = other.parse().unwrap();
                let (name, version, message) = current.as_ref().expect("an F line stands before");
                let ours = match encode(&**message, other) {
                    Ok(bytes) => {
                        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &bytes);
                        format!("{crc:x}")
                    }
                    Err(_) => "!".to_owned(),
                };
                assert_eq!(ours, expected, "{name} read in {version}, written in {other}\n{message:#?}");
            }
            _ => {}
        }
    }
    for (message, version) in schema::every_version() {
        assert!(seen.contains(&(message.name.as_str(), version)), "{} {version} has no vector", message.name);
    }
}

#[test]
fn errors_are_those_of_kafka() {
    let mut count = 0;
    for line in VECTORS.lines().filter_map(|line| line.strip_prefix("E ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let code: i16 = words[0].parse().unwrap();
        let ours = ErrorCode::try_from(code).unwrap();
        assert_eq!(ours.name(), words[1]);
        assert_eq!(ours.is_retriable().to_string(), words[2], "{ours}");
        count += 1;
    }
    assert!(ErrorCode::try_from(count - 1).is_err(), "we know an error that Kafka does not");
}

#[test]
fn api_keys_and_header_versions_are_those_of_kafka() {
    let mut count = 0;
    for line in VECTORS.lines().filter_map(|line| line.strip_prefix("K ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let key = ApiKey::try_from(words[0].parse::<i16>().unwrap()).unwrap();
        assert_eq!(key.name(), words[1]);
        count += 1;
        let Some(versions) = key.versions() else {
            assert_eq!(words.len(), 2, "{key} was removed");
            continue;
        };
        assert_eq!(versions.start().to_string(), words[2], "{key}");
        assert_eq!(versions.end().to_string(), words[3], "{key}");
        for (version, expected) in versions.zip(&words[4..]) {
            let ours =
                format!("{},{}", key.request_header_version(version), key.response_header_version(version));
            assert_eq!(&ours, expected, "{key} version {version}");
        }
    }
    assert_eq!(count, ApiKey::all().count());
}
