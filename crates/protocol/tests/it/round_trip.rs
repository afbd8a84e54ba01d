//! Every message in every version: what the schema writes we read, and write again byte for byte, in every
//! other version too — or refuse exactly where the schema refuses.

use bytes::Bytes;
use proptest::prelude::*;

use protocol::message::{AnyMessage, Listed};
use protocol::messages::all::ALL;
use protocol::wire::{EncodeError, Reader, Writer};

use crate::schema::{self, Message, Random};

pub fn listed(name: &str) -> &'static Listed {
    ALL.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name} is not generated"))
}

pub fn decode(row: &Listed, bytes: &[u8], version: i16) -> Box<dyn AnyMessage> {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
    let message = (row.decode)(&mut reader, version)
        .unwrap_or_else(|error| panic!("{} version {version}: {error}\n{bytes:02x?}", row.name));
    assert_eq!(reader.remaining(), 0, "{} version {version} leaves bytes", row.name);
    message
}

pub fn encode(message: &dyn AnyMessage, version: i16) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::new();
    message.encode_any(&mut writer, version)?;
    let length = writer.len();
    let bytes = writer.finish().concat();
    assert_eq!(bytes.len(), length, "the writer miscounts");
    Ok(bytes)
}

fn comes_back(message: &Message, version: i16, random: &mut Random) {
    let row = listed(&message.name);
    let value = message.filled(version, random);
    let wire = message.encode(&value, version).expect("filled for this version");
    let ours = decode(row, &wire, version);
    for other in message.versions.0..=message.versions.1 {
        match (message.encode(&value, other), encode(&*ours, other)) {
            (Ok(theirs), Ok(ours)) => {
                assert_eq!(theirs, ours, "{} read in {version}, written in {other}", message.name)
            }
            (Err(_), Err(_)) => {}
            (theirs, our_answer) => panic!(
                "{} read in {version}, written in {other}: the schema says {theirs:?}, we say {our_answer:?}\n{ours:#?}",
                message.name
            ),
        }
    }
}

#[test]
fn every_message_comes_back_in_every_version() {
    for (message, version) in schema::every_version() {
        for seed in 0..12 {
            comes_back(message, version, &mut Random(seed));
        }
    }
}

#[test]
fn every_default_is_the_one_of_the_schema() {
    for (message, version) in schema::every_version() {
        let plain = (listed(&message.name).default)();
        let theirs = message.encode(&message.plain(), version).ok();
        assert_eq!(theirs, encode(&*plain, version).ok(), "{} version {version}", message.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn any_message_comes_back(index in 0..10_000usize, seed: u64) {
        let every: Vec<_> = schema::every_version().collect();
        let (message, version) = every[index % every.len()];
        comes_back(message, version, &mut Random(seed));
    }
}

#[test]
fn the_schema_of_the_tests_is_that_of_the_code() {
    assert_eq!(schema::MESSAGES.len(), ALL.len());
    for (message, row) in schema::MESSAGES.iter().zip(ALL) {
        assert_eq!(message.name, row.name);
        assert_eq!(message.versions, (row.version_min, row.version_max));
        assert_eq!(message.first_flexible, row.first_flexible_version);
    }
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    // A newer client may tag what we have no name for; Metadata 13 ends in its tag section.
    let message = schema::MESSAGES.iter().find(|message| message.name == "MetadataRequest").unwrap();
    let plain = message.encode(&message.plain(), 13).unwrap();
    let mut tagged = plain[..plain.len() - 1].to_vec();
    tagged.extend([2, 5, 3, b'a', b'b', b'c', 99, 0]);
    let decoded = decode(listed("MetadataRequest"), &tagged, 13);
    assert_eq!(encode(&*decoded, 13).unwrap(), plain);
}

#[test]
fn a_version_that_does_not_exist_is_refused() {
    for row in ALL {
        for version in [row.version_min - 1, row.version_max + 1, i16::MIN, i16::MAX] {
            assert!((row.decode)(&mut Reader::new(Bytes::new()), version).is_err());
            assert!(encode(&*(row.default)(), version).is_err());
        }
    }
}

#[test]
fn a_tagged_struct_that_is_null_says_so() {
    // Kafka writes the null of this one field as a tagged varint 0, and its default is *not* null.
    use protocol::Message as _;
    use protocol::messages::ConsumerGroupMemberMetadataValue;
    let with_null = ConsumerGroupMemberMetadataValue { classic_member_metadata: None, ..Default::default() };
    let bytes = protocol::message::to_bytes(&with_null, 0).unwrap();
    assert!(bytes.ends_with(&[1, 0, 1, 0]), "{bytes:02x?}");
    let back = ConsumerGroupMemberMetadataValue::decode(&mut Reader::new(bytes), 0).unwrap();
    assert_eq!(back, with_null);
    assert_ne!(back, ConsumerGroupMemberMetadataValue::default());
}
