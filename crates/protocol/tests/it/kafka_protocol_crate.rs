//! A second implementation as an oracle: the public crate `kafka-protocol` reads what we write and writes
//! the same bytes, for every request and response in every version that both know.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey as TheirKey, RequestKind, ResponseKind};

use protocol::ApiKey;

use crate::round_trip::{decode, encode, listed};
use crate::schema::{self, Message, Random};

/// Their reading and writing again of `wire`.
fn through_theirs(key: TheirKey, request: bool, wire: &[u8], version: i16) -> Result<Vec<u8>, String> {
    let mut bytes = Bytes::copy_from_slice(wire);
    let mut again = BytesMut::new();
    let outcome = if request {
        RequestKind::decode(key, &mut bytes, version).and_then(|message| message.encode(&mut again, version))
    } else {
        ResponseKind::decode(key, &mut bytes, version).and_then(|message| message.encode(&mut again, version))
    };
    outcome.map_err(|error| format!("{error:#}"))?;
    if !bytes.is_empty() {
        return Err(format!("{} bytes left", bytes.len()));
    }
    Ok(again.to_vec())
}

fn message(name: String) -> Option<&'static Message> {
    schema::MESSAGES.iter().find(|message| message.name == name)
}

#[test]
fn both_implementations_write_the_same_bytes() {
    let mut compared = 0;
    let mut differences = Vec::new();
    for key in ApiKey::all() {
        let (Ok(their_key), Some(versions)) = (TheirKey::try_from(key.code()), key.versions()) else {
            continue;
        };
        let theirs = their_key.valid_versions();
        for request in [true, false] {
            let suffix = if request { "Request" } else { "Response" };
            let Some(message) = message(format!("{key}{suffix}")) else { continue };
            for version in versions.clone().filter(|version| (theirs.min..=theirs.max).contains(version)) {
                let mut difference = None;
                for seed in 0..8 {
                    let wire = message.encode(&message.filled(version, &mut Random(seed)), version).unwrap();
                    let ours = encode(&*decode(listed(&message.name), &wire, version), version).unwrap();
                    let again = through_theirs(their_key, request, &ours, version);
                    // Their table of keys claims a few versions that their messages do not have.
                    if again.as_ref().is_err_and(|error| error.contains("version not supported")) {
                        continue;
                    }
                    compared += 1;
                    if again.as_ref() != Ok(&ours) {
                        difference = Some(match again {
                            Ok(_) => "other bytes".to_owned(),
                            Err(error) => error,
                        });
                    }
                }
                if let Some(difference) = difference {
                    differences.push(format!("{} {version}: {difference}", message.name));
                }
            }
        }
    }
    assert!(compared > 3_000, "only {compared} messages were compared");
    assert_eq!(differences, Vec::<String>::new());
}
