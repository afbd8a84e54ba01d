//! Batches made once and sent often: what changes from one to the next is patched, so that the generator costs little.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use bytes::Bytes;
use protocol::Records;
use protocol::batch::{BatchBuilder, HEADER_LEN, crc32c, set_producer};
use protocol::compression::Compression;

/// What a batch looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Of a record's value; keys and headers there are none.
    pub record_bytes: usize,
    /// The batch gets as many records as fit into this before compression, at least one.
    pub batch_bytes: usize,
    pub compression: Compression,
    /// The first record's value begins with the time of sending. Not in compressed batches: nobody could patch them.
    pub stamped: bool,
}

/// A batch with its CRC, to be sent as it is or patched.
pub struct Template {
    bytes: Bytes,
    record_count: i32,
    stamp_at: Option<usize>,
}

/// What a stamped value begins with; the microseconds since 1970 follow, big endian.
const STAMP_MAGIC: [u8; 8] = *b"\xffstamp\xff\x01";
const STAMP_BYTES: usize = STAMP_MAGIC.len() + 8;
/// A record of format 2 around a value, its deltas included: never more than this.
const RECORD_OVERHEAD_MAX: usize = 24;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;

impl Template {
    pub fn new(shape: &Shape) -> Result<Template> {
        Self::made(shape, false)
    }

    /// Of a transaction's batches.
    pub fn transactional(shape: &Shape) -> Result<Template> {
        Self::made(shape, true)
    }

    fn made(shape: &Shape, is_transactional: bool) -> Result<Template> {
        ensure!(
            !shape.stamped || (shape.record_bytes >= STAMP_BYTES && shape.compression == Compression::None),
            "a stamp needs {STAMP_BYTES} bytes in a record of an uncompressed batch"
        );
        let now_ms = (now_micros() / 1000) as i64;
        let mut text = Text::new();
        let mut builder = BatchBuilder::new().compression(shape.compression).transactional(is_transactional);
        let mut value = vec![0; shape.record_bytes];
        loop {
            text.fill(&mut value);
            if shape.stamped && builder.is_empty() {
                value[..STAMP_MAGIC.len()].copy_from_slice(&STAMP_MAGIC);
            }
            builder.append(now_ms, None, Some(&value), &[])?;
            if builder.uncompressed_len() + shape.record_bytes + RECORD_OVERHEAD_MAX > shape.batch_bytes {
                break;
            }
        }
        let record_count = builder.record_count();
        let bytes = builder.build()?;
        let stamp_at = shape.stamped.then(|| {
            let place = bytes.windows(STAMP_MAGIC.len()).position(|window| window == STAMP_MAGIC);
            place.expect("the first value was stamped") + STAMP_MAGIC.len()
        });
        Ok(Template { bytes, record_count, stamp_at })
    }

    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// The batch as it goes over the wire.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        false // there is no batch without a record
    }

    /// The batch as it is: not copied.
    pub fn plain(&self) -> Records {
        Records::from(self.bytes.clone())
    }

    /// With a producer's id and sequence: 61 bytes are copied, the records are not read for the CRC.
    pub fn of_producer(&self, id: i64, epoch: i16, base_sequence: i32) -> Records {
        let mut head: [u8; HEADER_LEN] = *self.bytes.first_chunk().expect("a batch has a header");
        set_producer(&mut head, id, epoch, base_sequence);
        let mut records = Records::from(Bytes::copy_from_slice(&head));
        records.push(self.bytes.slice(HEADER_LEN..));
        records
    }

    /// With a time in the first record, and as the batch's timestamp. The whole batch is copied and its CRC computed.
    pub fn stamped(&self, at_micros: u64) -> Records {
        let at = self.stamp_at.expect("a shape without a stamp");
        let mut bytes = self.bytes.to_vec();
        bytes[at..at + 8].copy_from_slice(&at_micros.to_be_bytes());
        let at_ms = (at_micros / 1000).to_be_bytes();
        bytes[BASE_TIMESTAMP_AT..BASE_TIMESTAMP_AT + 8].copy_from_slice(&at_ms);
        bytes[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&at_ms);
        let crc = crc32c(&bytes[CRC_FROM..]);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        Records::from(Bytes::from(bytes))
    }
}

/// When the batch that `bytes` start with was sent, if its first record says so: microseconds since 1970.
pub fn stamp_of(bytes: &[u8]) -> Option<u64> {
    // The record's length comes first, then four bytes: attributes, two deltas of 0, no key. Then the value's length.
    let record = skip_varint(bytes.get(HEADER_LEN..)?)?.get(4..)?;
    let value = skip_varint(record)?;
    let at = value.strip_prefix(&STAMP_MAGIC)?;
    Some(u64::from_be_bytes(*at.first_chunk()?))
}

fn skip_varint(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().take(5).position(|byte| byte & 0x80 == 0)?;
    bytes.get(end + 1..)
}

/// The one clock that producers and readers of one machine share.
pub fn now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_micros() as u64
}

/// Values that a codec shrinks about as much as it shrinks real events (a third to a half), and the same in every run.
struct Text {
    state: u64,
}

const WORDS: [&str; 16] = [
    "order",
    "customer",
    "clicked",
    "payment",
    "warehouse",
    "session",
    "page",
    "delivered",
    "basket",
    "refund",
    "search",
    "login",
    "invoice",
    "address",
    "article",
    "price",
];

impl Text {
    fn new() -> Text {
        Text { state: 0x9e37_79b9_7f4a_7c15 }
    }

    fn fill(&mut self, out: &mut [u8]) {
        let mut at = 0;
        while at < out.len() {
            // xorshift64: no more is asked of it than that neighbours differ.
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            let word = WORDS[(self.state >> 60) as usize];
            for byte in word.bytes().chain(format!("={:x},", self.state & 0xff_ffff).into_bytes()) {
                if at < out.len() {
                    out[at] = byte;
                    at += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::batch::Batch;

    fn shape(record_bytes: usize, batch_bytes: usize, compression: Compression) -> Shape {
        Shape { record_bytes, batch_bytes, compression, stamped: false }
    }

    fn read(records: &Records) -> Batch {
        let batch = Batch::parse(records.to_bytes()).unwrap();
        batch.verify_crc().unwrap();
        batch
    }

    #[test]
    fn the_protocols_own_reader_takes_every_shape() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            for (record_bytes, batch_bytes) in [(100, 1), (100, 16_384), (1_000, 65_536), (10_000, 1 << 20)] {
                let template = Template::new(&shape(record_bytes, batch_bytes, compression)).unwrap();
                let batch = read(&template.plain());
                let values: Vec<usize> =
                    batch.records(2 << 20).map(|record| record.unwrap().value.unwrap().len()).collect();
                assert_eq!(values, vec![record_bytes; template.record_count() as usize]);
                let uncompressed = HEADER_LEN + batch.decompress(2 << 20).unwrap().len();
                let room = batch_bytes.saturating_sub(uncompressed);
                assert!(uncompressed <= batch_bytes || template.record_count() == 1, "{uncompressed} bytes");
                assert!(room <= record_bytes + RECORD_OVERHEAD_MAX, "{room} bytes are left of {batch_bytes}");
                if compression != Compression::None && batch_bytes > 10_000 {
                    let ratio = template.len() as f64 / uncompressed as f64;
                    assert!((0.2..0.7).contains(&ratio), "{} packs to {ratio:.2}", compression.name());
                }
            }
        }
    }

    #[test]
    fn a_producer_is_patched_in_and_the_crc_fits_again() {
        for compression in [Compression::None, Compression::Zstd] {
            let template = Template::new(&shape(1_000, 65_536, compression)).unwrap();
            let batch = read(&template.of_producer(4_711, 3, 640));
            assert_eq!(
                (batch.header.producer_id, batch.header.producer_epoch, batch.header.base_sequence),
                (4_711, 3, 640)
            );
        }
    }

    #[test]
    fn a_stamp_is_found_again_and_only_where_there_is_one() {
        for record_bytes in [16, 100, 1_000, 100_000] {
            let stamped = Shape { stamped: true, ..shape(record_bytes, 4_096, Compression::None) };
            let template = Template::new(&stamped).unwrap();
            let batch = read(&template.stamped(1_700_000_000_123_456));
            assert_eq!(stamp_of(&batch.bytes), Some(1_700_000_000_123_456));
            assert_eq!(batch.header.max_timestamp, 1_700_000_000_123);
        }
        let plain = Template::new(&shape(1_000, 4_096, Compression::None)).unwrap();
        assert_eq!(stamp_of(&plain.plain().to_bytes()), None);
        assert_eq!(stamp_of(b"short"), None);
        assert!(Template::new(&Shape { stamped: true, ..shape(15, 4_096, Compression::None) }).is_err());
        assert!(Template::new(&Shape { stamped: true, ..shape(100, 4_096, Compression::Lz4) }).is_err());
    }
}
