//! What is called with bytes from outside: by libFuzzer (`/fuzz`, nightly) and, for a bounded count, by
//! `fuzz_smoke.rs` in every `cargo test`. An entry panics when a promise is broken and ignores its result.

use bytes::Bytes;

use protocol::ApiKey;
use protocol::batch::produce::{self, ProduceRules};
use protocol::batch::{Batch, HEADER_LEN, crc32c, split_batches};
use protocol::frame::decode_request_header;
use protocol::message::{AnyMessage, Kind, Listed};
use protocol::messages::all::ALL;
use protocol::wire::{Reader, Writer};

use super::counting::{allowed_bytes, peak_bytes};

/// What one batch may decompress to here.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 20;

/// Two bytes choose message and version, the rest is its body.
pub fn message(data: &[u8]) {
    let Some((choice, body)) = data.split_first_chunk::<2>() else { return };
    let choice = u16::from_be_bytes(*choice);
    let (row, version) = chosen(choice);
    check_body(row, version, Bytes::copy_from_slice(body));
}

/// The number that makes [`message`] choose this message and version.
pub fn choice_of(name: &str, version: i16) -> Option<u16> {
    every_version().position(|(row, of_row)| row.name == name && of_row == version).map(|index| index as u16)
}

fn every_version() -> impl Iterator<Item = (&'static Listed, i16)> {
    ALL.iter().flat_map(|row| (row.version_min..=row.version_max).map(move |version| (row, version)))
}

fn chosen(choice: u16) -> (&'static Listed, i16) {
    let index = usize::from(choice) % every_version().count();
    every_version().nth(index).expect("the index was taken modulo the count")
}

/// A whole request frame, as a connection reads it.
pub fn request_frame(data: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(data));
    let Ok(header) = decode_request_header(&mut reader) else { return };
    let key = ApiKey::try_from(header.api_key).expect("the header was accepted");
    let row = ALL.iter().find(|row| row.kind == Kind::Request && row.key == Some(key.code()));
    if let Some(row) = row {
        check_body(row, header.api_version, reader.take_rest());
    }
}

fn check_body(row: &Listed, version: i16, body: Bytes) {
    let mut reader = Reader::new(body.clone());
    let (peak, outcome) = peak_bytes(|| (row.decode)(&mut reader, version));
    assert!(peak <= allowed_bytes(body.len()), "{} {version}: {peak} bytes for {}", row.name, body.len());
    let Ok(message) = outcome else { return };
    // What can be read can be written in the same version, and then stays as it is: the first writing may
    // differ from what came (an unknown tag is gone, a default that was sent needlessly), the second may not.
    let first = written(&*message, version);
    let mut reader = Reader::new(first.clone());
    let again = (row.decode)(&mut reader, version).expect("our own bytes can be read");
    assert_eq!(reader.remaining(), 0);
    assert_eq!(written(&*again, version), first, "{} {version}", row.name);
}

fn written(message: &dyn AnyMessage, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode_any(&mut writer, version).expect("what was read in a version can be written in it");
    writer.into_bytes()
}

/// Record batches one after the other, as in a Produce request or a Fetch response.
pub fn record_batches(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    judged_as_produced(&bytes);
    // With a CRC that fits, so that what lies behind the check is reached as well.
    if let Some(repaired) = with_right_crc(data) {
        judged_as_produced(&repaired);
        walked(&repaired);
    }
    walked(&bytes);
}

fn with_right_crc(data: &[u8]) -> Option<Bytes> {
    let mut bytes = data.to_vec();
    let length = usize::try_from(i32::from_be_bytes(*bytes.get(8..12)?.first_chunk()?)).ok()?;
    let end = length.checked_add(12)?;
    let crc = crc32c(bytes.get(21..end)?);
    bytes.get_mut(17..21)?.copy_from_slice(&crc.to_be_bytes());
    Some(Bytes::from(bytes))
}

fn walked(bytes: &Bytes) {
    let mut batches = split_batches(bytes);
    let mut taken = 0;
    for batch in batches.by_ref().flatten() {
        taken += batch.bytes.len();
        let _ = batch.verify_crc();
        let mut records = 0;
        for record in batch.records(DECOMPRESSED_BYTES_MAX).flatten() {
            records += 1;
            let _ = (record.key, record.value, record.headers);
        }
        assert!(records <= batch.header.record_count.max(0), "more records than the header says");
        let moved = Bytes::from(batch.at(42, 7).concat());
        let moved = Batch::parse(moved).expect("a batch that moved is still a batch");
        assert_eq!((moved.header.base_offset, moved.header.partition_leader_epoch), (42, 7));
        assert_eq!(moved.verify_crc().is_ok(), batch.verify_crc().is_ok());
    }
    assert_eq!(taken + batches.rest().len(), bytes.len(), "bytes were lost");
}

fn judged_as_produced(bytes: &Bytes) {
    for (version, log_append_time) in [(3, false), (13, false), (13, true)] {
        let mut rules = ProduceRules::defaults(version, 1_700_000_000_000);
        rules.decompressed_bytes_max = DECOMPRESSED_BYTES_MAX;
        rules.check_compressed_records = true;
        if log_append_time {
            rules.timestamp_type = protocol::batch::TimestampType::LogAppendTime;
        }
        if let Ok(accepted) = produce::validate(bytes, &rules) {
            let batch = accepted.batch;
            assert!(batch.bytes.len() >= HEADER_LEN);
            assert_eq!(batch.verify_crc(), Ok(()), "an accepted batch has a CRC that fits");
        }
    }
}
