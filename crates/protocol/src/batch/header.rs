//! The 61 bytes before the records: reading, checking, patching.

use super::BatchError;
use crate::compression::Compression;

/// Base offset and length: what stands before the bytes that the length counts.
pub const LENGTH_PREFIX_LEN: usize = 12;
/// Everything before the records.
pub const HEADER_LEN: usize = 61;
/// The smallest value of the length field: the header's rest and no record.
pub const BATCH_OVERHEAD: i32 = (HEADER_LEN - LENGTH_PREFIX_LEN) as i32;

pub const NO_TIMESTAMP: i64 = -1;
pub const NO_PRODUCER_ID: i64 = -1;
pub const NO_PRODUCER_EPOCH: i16 = -1;
pub const NO_SEQUENCE: i32 = -1;

const BASE_OFFSET_AT: usize = 0;
const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
pub(super) const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

pub(super) const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;
pub(super) const DELETE_HORIZON_BIT: i16 = 0x40;
pub(super) const KNOWN_BITS: i16 = 0x7f;

/// Who set the timestamps of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// The header of one batch, read but not interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// The bytes that follow the length field.
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    /// Fewer than `last_offset_delta + 1` after compaction.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header of the batch that `bytes` starts with, and checks that the whole batch is there and
    /// that its fields make sense together. The CRC is a separate step: [`BatchHeader::verify_crc`].
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        check_length_and_magic(bytes)?;
        let header = BatchHeader::read(bytes)?;
        header.check()?;
        if bytes.len() < header.total_len() {
            return Err(BatchError::Truncated { need: header.total_len(), have: bytes.len() });
        }
        Ok(header)
    }

    /// Reads the fields without judging them; only too few bytes are an error.
    pub fn read(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::Truncated { need: HEADER_LEN, have: bytes.len() });
        };
        Ok(BatchHeader {
            base_offset: i64::from_be_bytes(field(header, BASE_OFFSET_AT)),
            batch_length: i32::from_be_bytes(field(header, LENGTH_AT)),
            partition_leader_epoch: i32::from_be_bytes(field(header, LEADER_EPOCH_AT)),
            magic: i8::from_be_bytes(field(header, MAGIC_AT)),
            crc: u32::from_be_bytes(field(header, CRC_AT)),
            attributes: i16::from_be_bytes(field(header, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(header, LAST_OFFSET_DELTA_AT)),
            base_timestamp: i64::from_be_bytes(field(header, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(field(header, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(header, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(field(header, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(field(header, BASE_SEQUENCE_AT)),
            record_count: i32::from_be_bytes(field(header, RECORD_COUNT_AT)),
        })
    }

    fn check(&self) -> Result<(), BatchError> {
        if Compression::from_attribute_bits(self.compression_bits()).is_none() {
            return Err(BatchError::UnknownCompression(self.compression_bits()));
        }
        // Compaction may leave an empty batch to remember a producer's last sequence, and gaps, but never
        // more records than offsets.
        let fits = self.last_offset_delta >= 0
            && self.record_count >= 0
            && i64::from(self.record_count) <= i64::from(self.last_offset_delta) + 1
            && self.base_offset >= 0
            && self.base_offset.checked_add(i64::from(self.last_offset_delta) + 1).is_some();
        if !fits {
            return Err(BatchError::Offsets {
                base_offset: self.base_offset,
                last_offset_delta: self.last_offset_delta,
                record_count: self.record_count,
            });
        }
        Ok(())
    }

    /// Length of the batch with everything, the length field and what stands before it included.
    pub fn total_len(&self) -> usize {
        LENGTH_PREFIX_LEN + self.batch_length.max(0) as usize
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
    }

    /// The offset behind the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    pub(crate) fn compression_bits(&self) -> u8 {
        (self.attributes & COMPRESSION_MASK) as u8
    }

    /// How the records are compressed; a header that passed [`BatchHeader::parse`] has a known type.
    pub fn compression(&self) -> Compression {
        Compression::from_attribute_bits(self.compression_bits()).unwrap_or_default()
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Transaction markers and the like: never given to applications.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Set by compaction: the base timestamp is then the time from which tombstones may go (KIP-534).
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON_BIT != 0
    }

    /// From when on its tombstones, or the marker that it is, may go; `None` before compaction has looked at it.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.has_delete_horizon().then_some(self.base_timestamp)
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// The last record's sequence; sequences go from i32::MAX to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        next_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// Compares the CRC-32C with `bytes`, which must be this batch.
    pub fn verify_crc(&self, bytes: &[u8]) -> Result<(), BatchError> {
        let covered = bytes
            .get(ATTRIBUTES_AT..self.total_len())
            .ok_or(BatchError::Truncated { need: self.total_len(), have: bytes.len() })?;
        let computed = crc32c(covered);
        if computed == self.crc { Ok(()) } else { Err(BatchError::Crc { stored: self.crc, computed }) }
    }

    /// Writes all fields; the CRC as it stands in `self`.
    pub(super) fn write(&self, out: &mut [u8; HEADER_LEN]) {
        put(out, BASE_OFFSET_AT, self.base_offset.to_be_bytes());
        put(out, LENGTH_AT, self.batch_length.to_be_bytes());
        put(out, LEADER_EPOCH_AT, self.partition_leader_epoch.to_be_bytes());
        put(out, MAGIC_AT, self.magic.to_be_bytes());
        put(out, CRC_AT, self.crc.to_be_bytes());
        put(out, ATTRIBUTES_AT, self.attributes.to_be_bytes());
        put(out, LAST_OFFSET_DELTA_AT, self.last_offset_delta.to_be_bytes());
        put(out, BASE_TIMESTAMP_AT, self.base_timestamp.to_be_bytes());
        put(out, MAX_TIMESTAMP_AT, self.max_timestamp.to_be_bytes());
        put(out, PRODUCER_ID_AT, self.producer_id.to_be_bytes());
        put(out, PRODUCER_EPOCH_AT, self.producer_epoch.to_be_bytes());
        put(out, BASE_SEQUENCE_AT, self.base_sequence.to_be_bytes());
        put(out, RECORD_COUNT_AT, self.record_count.to_be_bytes());
    }
}

/// The sequence `by` records further on.
pub(crate) fn next_sequence(sequence: i32, by: i32) -> i32 {
    (i64::from(sequence) + i64::from(by)).rem_euclid(1 << 31) as i32
}

pub(super) fn attributes(
    compression: Compression,
    timestamp_type: TimestampType,
    transactional: bool,
    control: bool,
) -> i16 {
    let mut attributes = i16::from(compression.attribute_bits());
    if timestamp_type == TimestampType::LogAppendTime {
        attributes |= LOG_APPEND_TIME_BIT;
    }
    if transactional {
        attributes |= TRANSACTIONAL_BIT;
    }
    if control {
        attributes |= CONTROL_BIT;
    }
    attributes
}

/// Length and magic lie in the first 17 bytes and say whether the rest is worth reading. Formats 0 and 1 have
/// both at the same place.
pub(super) fn check_length_and_magic(bytes: &[u8]) -> Result<usize, BatchError> {
    if bytes.len() <= MAGIC_AT {
        return Err(BatchError::Truncated { need: HEADER_LEN, have: bytes.len() });
    }
    let stated = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    let magic = bytes[MAGIC_AT] as i8;
    match magic {
        2 if stated < BATCH_OVERHEAD => {
            Err(BatchError::Length { stated: i64::from(stated), have: bytes.len() })
        }
        2 => Ok(LENGTH_PREFIX_LEN + stated as usize),
        0 | 1 => Err(BatchError::Legacy(magic)),
        _ => Err(BatchError::Magic(magic)),
    }
}

/// CRC-32C (Castagnoli), with the processor's instructions where it has them.
pub fn crc32c(data: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, data) as u32
}

/// The first 61 bytes of `batch` with another base offset and leader epoch; the CRC does not cover these.
///
/// # Panics
/// If `batch` is shorter than a header: the caller has parsed it.
pub fn patched_header(batch: &[u8], base_offset: i64, leader_epoch: i32) -> [u8; HEADER_LEN] {
    let mut header: [u8; HEADER_LEN] = *batch.first_chunk().expect("a parsed batch has a header");
    set_base_offset(&mut header, base_offset);
    set_leader_epoch(&mut header, leader_epoch);
    header
}

/// Sets where the batch stands in the log. Not under the CRC.
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) {
    put(batch, BASE_OFFSET_AT, base_offset.to_be_bytes());
}

/// Sets the epoch of the leader that appended the batch. Not under the CRC.
pub fn set_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    put(batch, LEADER_EPOCH_AT, leader_epoch.to_be_bytes());
}

/// Sets the timestamp type and the largest timestamp, and makes the CRC fit again.
///
/// `header` is the batch or only its first 61 bytes: the new CRC follows from the old one and the changed
/// bytes, so the records are not read again, and damage to them stays visible under the new CRC.
pub fn set_timestamps(header: &mut [u8], timestamp_type: TimestampType, max_timestamp: i64) {
    change_under_crc(header, |header| {
        // Bits without a meaning go, as in Kafka.
        let mut attributes =
            i16::from_be_bytes(field(header, ATTRIBUTES_AT)) & KNOWN_BITS & !LOG_APPEND_TIME_BIT;
        if timestamp_type == TimestampType::LogAppendTime {
            attributes |= LOG_APPEND_TIME_BIT;
        }
        put(header, ATTRIBUTES_AT, attributes.to_be_bytes());
        put(header, MAX_TIMESTAMP_AT, max_timestamp.to_be_bytes());
    });
}

/// Sets producer id, epoch and base sequence, and makes the CRC fit again; as [`set_timestamps`].
pub fn set_producer(header: &mut [u8], id: i64, epoch: i16, base_sequence: i32) {
    change_under_crc(header, |header| {
        put(header, PRODUCER_ID_AT, id.to_be_bytes());
        put(header, PRODUCER_EPOCH_AT, epoch.to_be_bytes());
        put(header, BASE_SEQUENCE_AT, base_sequence.to_be_bytes());
    });
}

fn change_under_crc(header: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let total_len = LENGTH_PREFIX_LEN as i64 + i64::from(i32::from_be_bytes(field(header, LENGTH_AT)));
    let records_len = (total_len - HEADER_LEN as i64).max(0) as u64;
    let stored = u32::from_be_bytes(field(header, CRC_AT));
    let before = crc32c(&header[ATTRIBUTES_AT..HEADER_LEN]);
    change(header);
    let after = crc32c(&header[ATTRIBUTES_AT..HEADER_LEN]);
    // crc(head ‖ records) = shift(crc(head)) ⊕ crc(records): swap the head's share.
    let crc = stored ^ shifted(before, records_len) ^ shifted(after, records_len);
    put(header, CRC_AT, crc.to_be_bytes());
}

/// The CRC register after `by_bytes` zero bytes: `crc` times x^(8 × by_bytes) modulo the polynomial. As zlib's
/// `crc32_combine` does it. (crc-fast's own `checksum_combine` took 120 µs a call; this takes about 1.)
fn shifted(crc: u32, by_bytes: u64) -> u32 {
    let mut power = X_TO_0;
    let mut bits_left = by_bytes;
    let mut k = 3;
    while bits_left != 0 {
        if bits_left & 1 == 1 {
            power = multiply(SQUARES[k], power);
        }
        bits_left >>= 1;
        k += 1;
    }
    multiply(power, crc)
}

/// CRC-32C's polynomial, and x^0, in the reflected form where the highest bit is x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const X_TO_0: u32 = 1 << 31;

/// x^(2^k); a batch has fewer than 2^31 bytes.
const SQUARES: [u32; 36] = {
    let mut table = [1 << 30; 36];
    let mut k = 1;
    while k < table.len() {
        table[k] = multiply(table[k - 1], table[k - 1]);
        k += 1;
    }
    table
};

/// a × b modulo the polynomial.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = X_TO_0;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
        bit >>= 1;
    }
    product
}

fn field<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

fn put<const N: usize>(header: &mut [u8], at: usize, bytes: [u8; N]) {
    header[at..at + N].copy_from_slice(&bytes);
}
