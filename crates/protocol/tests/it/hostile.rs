//! Bytes that nobody honest sends. Whatever they are, decoding ends with an error or a message, and never
//! allocates more than 8 × frame + 1 MiB: counted here by the allocator itself.

use bytes::Bytes;

use protocol::message::Message;
use protocol::messages::all::ALL;
use protocol::messages::{FetchRequest, MetadataRequest, ProduceRequest};
use protocol::wire::{DecodeError, Reader};

use crate::counting::{allowed_bytes, peak_bytes};
use crate::round_trip::listed;
use crate::schema::{self, Random, uvarint};

#[test]
fn a_frame_cut_anywhere_is_an_error_and_never_a_panic() {
    for (message, version) in schema::every_version() {
        let row = listed(&message.name);
        let wire = message.encode(&message.filled(version, &mut Random(7)), version).unwrap();
        let wire = Bytes::from(wire);
        // Every place in short messages, every 17th in the middle of long ones.
        let places = (0..wire.len()).filter(|at| *at < 200 || wire.len() - at < 50 || at % 17 == 0);
        for at in places {
            let cut = (row.decode)(&mut Reader::new(wire.slice(..at)), version);
            assert!(cut.is_err(), "{} version {version} cut at {at} of {}", message.name, wire.len());
        }
    }
}

#[test]
fn a_count_of_two_billion_in_a_few_bytes_allocates_nothing() {
    // Produce 3: no transactional id, acks, timeout, and then 2^31 - 1 topics.
    let old: &[u8] = &[0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff];
    let (peak, refused) = peak_bytes(|| ProduceRequest::decode(&mut Reader::new(Bytes::from_static(old)), 3));
    assert!(matches!(refused, Err(DecodeError::CountTooLarge { .. })), "{refused:?}");
    assert_eq!(peak, 0);

    // Metadata 12, the same in the compact form.
    let compact: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    let (peak, refused) =
        peak_bytes(|| MetadataRequest::decode(&mut Reader::new(Bytes::from_static(compact)), 12));
    assert!(matches!(refused, Err(DecodeError::CountTooLarge { .. })), "{refused:?}");
    assert_eq!(peak, 0);
}

#[test]
fn a_string_of_two_gigabytes_in_a_few_bytes_allocates_nothing() {
    for hostile in [&[0xff, 0xff, 0xff, 0xff, 0x07][..], &[0x7f, 0xff]] {
        let mut reader = Reader::new(Bytes::copy_from_slice(hostile));
        let (peak, refused) = peak_bytes(|| reader.nullable_string(hostile.len() == 5));
        assert!(refused.is_err());
        assert_eq!(peak, 0);
    }
}

/// A body that is all small numbers: counts that fit, elements that are as small as they can be.
#[test]
fn many_small_elements_stay_within_the_budget() {
    for byte in [0u8, 1, 2, 3, 0x10, 0x7f] {
        for length in [64, 4_000, 300_000] {
            let mut frame = vec![byte; length];
            // A first count that claims most of the frame, in whichever of the two forms it is read.
            let mut claim = Vec::new();
            uvarint(&mut claim, length as u64 / 4);
            frame[..claim.len()].copy_from_slice(&claim);
            within_budget(&Bytes::from(frame));
        }
    }
}

#[test]
fn arrays_of_empty_strings_stay_within_the_budget() {
    // Fetch 17 forgets topics, OffsetFetch lists partitions, Metadata lists names: honest shapes at their worst.
    for count in [10u32, 1_000, 100_000, 2_000_000] {
        let mut frame = Vec::new();
        uvarint(&mut frame, u64::from(count) + 1);
        frame.resize(frame.len() + count as usize * 2, 1);
        within_budget(&Bytes::from(frame));
    }
}

#[test]
fn every_array_of_every_message_stays_within_the_budget() {
    // The oldest and the newest version: elements are smallest there, or have most fields.
    for message in schema::MESSAGES.iter() {
        for version in [message.versions.0, message.versions.1] {
            let wire = message.encode(&message.swollen(version, 12_000), version).unwrap();
            let frame = Bytes::from(wire);
            let mut reader = Reader::new(frame.clone());
            let (peak, outcome) = peak_bytes(|| (listed(&message.name).decode)(&mut reader, version));
            let allowed = allowed_bytes(frame.len());
            assert!(peak <= allowed, "{} {version}: {peak} > {allowed}", message.name);
            // A refusal must be for the memory, never for the shape: the message is an honest one.
            if let Err(error) = outcome {
                assert!(
                    matches!(error, DecodeError::OverBudget { .. }),
                    "{} {version}: {error}",
                    message.name
                );
            }
        }
    }
}

fn within_budget(frame: &Bytes) {
    for row in ALL {
        for version in row.version_min..=row.version_max {
            let mut reader = Reader::new(frame.clone());
            let (peak, outcome) = peak_bytes(|| (row.decode)(&mut reader, version).is_ok());
            let allowed = allowed_bytes(frame.len());
            assert!(peak <= allowed, "{} {version}: {peak} > {allowed} ({outcome})", row.name);
        }
    }
}

#[test]
fn what_honest_clients_send_fits_the_budget() {
    // 100,000 partitions in one Fetch, the largest cluster there is; and a Metadata request of 20,000 short names.
    use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use protocol::messages::metadata_request::MetadataRequestTopic;
    let topics = (0..1_000u128).map(|topic| FetchTopic {
        topic_id: protocol::Uuid::from_u128(topic + 1),
        partitions: (0..100).map(|partition| FetchPartition { partition, ..Default::default() }).collect(),
        ..Default::default()
    });
    let fetch = FetchRequest { topics: topics.collect(), ..Default::default() };
    let bytes = protocol::message::to_bytes(&fetch, 17).unwrap();
    assert_eq!(FetchRequest::decode(&mut Reader::new(bytes), 17).unwrap(), fetch);

    let names = (0..20_000).map(|number| Some(protocol::Str::from(format!("t{number}"))));
    let topics = names.map(|name| MetadataRequestTopic { name, ..Default::default() }).collect();
    let metadata = MetadataRequest { topics: Some(topics), ..Default::default() };
    let bytes = protocol::message::to_bytes(&metadata, 8).unwrap();
    assert_eq!(MetadataRequest::decode(&mut Reader::new(bytes), 8).unwrap(), metadata);
}
