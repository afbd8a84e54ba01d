//! What a client may append: the judgement on one partition's records of a Produce request.
//!
//! Kafka spreads it over `ProduceRequest.validateRecords` (one batch, format 2, zstd only from version 7 on),
//! `UnifiedLog.analyzeAndValidateRecords` (base offset 0, size, CRC) and `LogValidator` (counts, control
//! batches, sequences, then every record). The order of the checks and the codes are the same here.
//!
//! Where we differ, and why:
//!
//! * Kafka decompresses every batch of every request to look at each record. We read records only when the
//!   header cannot answer: always for uncompressed batches (a walk over them is cheap, and catches clients
//!   that write broken records), and for compressed ones only when a topic needs keys, bounds timestamps from
//!   below, has a codec of its own, or the header's largest timestamp is out of bounds.
//!   [`ProduceRules::check_compressed_records`] switches to Kafka's way.
//! * A transactional batch without a producer id is refused: nothing could ever end its transaction.
//! * Compression types 5–7 are `UNSUPPORTED_COMPRESSION_TYPE` (Kafka: an unknown server error), and records
//!   that cannot be decompressed `INVALID_RECORD` (Kafka: the same, or an unknown server error).
//! * What decompresses to more than [`ProduceRules::decompressed_bytes_max`] is `MESSAGE_TOO_LARGE`.
//! * Records whose offsets do not count up from 0 are written anew with offsets that do. Kafka does so for
//!   compressed batches only, and stores uncompressed ones with offsets that lie.
//! * At most [`RECORD_ERRORS_MAX`] faulty records are listed.

use bytes::Bytes;
use thiserror::Error;

use super::header::check_length_and_magic;
use super::{
    Batch, BatchBuilder, BatchError, BatchHeader, HEADER_LEN, NO_TIMESTAMP, RecordsRef, TimestampType,
    set_timestamps,
};
use crate::compression::{Compression, CompressionError};
use crate::error_code::ErrorCode;

/// So many faulty records are named in one answer.
pub const RECORD_ERRORS_MAX: usize = 1_000;

/// zstd came with this version of Produce (KIP-110).
const ZSTD_SINCE_PRODUCE_VERSION: i16 = 7;

/// The settings of topic and request that decide.
#[derive(Clone, Copy, Debug)]
pub struct ProduceRules {
    /// Version of the Produce request, 3 or newer.
    pub produce_version: i16,
    pub now_ms: i64,
    /// `max.message.bytes`: of the whole batch, as it was sent and as it will be stored.
    pub message_bytes_max: usize,
    /// `compression.type`: `None` is `producer` (keep what came), else the codec and its level.
    pub compression: Option<(Compression, Option<i32>)>,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`; i64::MAX is no bound.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`; i64::MAX is no bound.
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` contains `compact`: every record needs a key.
    pub compacted: bool,
    /// No batch may decompress to more.
    pub decompressed_bytes_max: usize,
    /// Decompress and check every record of every batch, as Kafka does.
    pub check_compressed_records: bool,
}

impl ProduceRules {
    /// Kafka's defaults for a topic, at this time.
    pub fn defaults(produce_version: i16, now_ms: i64) -> ProduceRules {
        ProduceRules {
            produce_version,
            now_ms,
            message_bytes_max: 1_048_588,
            compression: None,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compacted: false,
            decompressed_bytes_max: 128 << 20,
            check_compressed_records: false,
        }
    }
}

/// A batch that may be appended. Base offset and leader epoch are still the client's: the log sets them.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub batch: Batch,
    /// −1 in a `CreateTime` topic: what the Produce answer says then.
    pub log_append_time_ms: i64,
    /// The batch is not byte for byte what the client sent.
    pub rewritten: bool,
}

/// One faulty record, by its place in the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    pub batch_index: i32,
    pub message: String,
}

/// Why records are refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ProduceError {
    #[error("there must be exactly one record batch per partition, there is none")]
    NoBatch,
    #[error("there must be exactly one record batch per partition, there are more")]
    MoreThanOneBatch,
    #[error("only message format 2 is accepted, this is {0}")]
    LegacyFormat(i8),
    #[error("the batch is corrupt: {0}")]
    Corrupt(BatchError),
    #[error("Produce version {0} does not know zstd, version 7 does")]
    ZstdTooEarly(i16),
    #[error("unknown compression type {0}")]
    UnknownCompression(u8),
    #[error("a producer sends batches with base offset 0, this one has {0}")]
    BaseOffset(i64),
    #[error("the batch has {len} bytes, {cap} are allowed")]
    TooLarge { len: usize, cap: usize },
    #[error("the records decompress to more than {cap} bytes")]
    DecompressedTooLarge { cap: usize },
    #[error("{record_count} records cannot have the last offset delta {last_offset_delta}")]
    Count { record_count: i32, last_offset_delta: i32 },
    #[error("control records are the broker's")]
    Control,
    #[error("producer {producer_id} needs a sequence, {base_sequence} is none")]
    Sequence { producer_id: i64, base_sequence: i32 },
    #[error("a transactional batch needs a producer id")]
    TransactionalWithoutProducer,
    #[error("the records cannot be read: {0}")]
    Unreadable(BatchError),
    #[error("{} records have a timestamp that this topic does not take", .0.len())]
    Timestamps(Vec<RecordError>),
    #[error("{} records are not what this topic takes, the first: {}", .0.len(), .0.first().map_or("", |e| &e.message))]
    Records(Vec<RecordError>),
    #[error("the records could not be compressed: {0}")]
    Recompression(BatchError),
}

impl ProduceError {
    /// Kafka's code for the Produce answer.
    pub fn error_code(&self) -> ErrorCode {
        use ProduceError::*;
        match self {
            Corrupt(_) => ErrorCode::CorruptMessage,
            ZstdTooEarly(_) | UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
            TooLarge { .. } | DecompressedTooLarge { .. } => ErrorCode::MessageTooLarge,
            Timestamps(_) => ErrorCode::InvalidTimestamp,
            Recompression(_) => ErrorCode::UnknownServerError,
            NoBatch
            | MoreThanOneBatch
            | LegacyFormat(_)
            | BaseOffset(_)
            | Count { .. }
            | Control
            | Sequence { .. }
            | TransactionalWithoutProducer
            | Unreadable(_)
            | Records(_) => ErrorCode::InvalidRecord,
        }
    }

    /// The faulty records, for `record_errors` of the answer (version 8 and newer, KIP-467).
    pub fn record_errors(&self) -> &[RecordError] {
        match self {
            ProduceError::Timestamps(errors) | ProduceError::Records(errors) => errors,
            _ => &[],
        }
    }
}

/// Judges the records that a client sent for one partition.
pub fn validate(records: &Bytes, rules: &ProduceRules) -> Result<Accepted, ProduceError> {
    let batch = take_one_batch(records, rules)?;
    check_header(&batch, records.len(), rules)?;

    let source = batch.header.compression();
    let target = rules.compression.map_or(source, |(codec, _)| codec);
    if source == target && source != Compression::None && !needs_records(&batch.header, rules) {
        return Ok(accept_as_is(batch, rules, None));
    }
    let data = decompress(&batch, rules)?;
    let walk = check_records(&batch.header, &data, rules)?;
    if source == target && walk.offsets_in_order {
        Ok(accept_as_is(batch, rules, Some(walk.max_timestamp)))
    } else {
        rebuild(&batch.header, &data, target, rules)
    }
}

/// Does the batch at the front say that its records are compressed? One look, for what every batch is asked.
pub fn is_compressed(records: &[u8]) -> bool {
    const ATTRIBUTES_LOW_BYTE: usize = 22;
    records.get(ATTRIBUTES_LOW_BYTE).is_some_and(|attributes| attributes & 0b111 != 0)
}

/// Has [`validate`] to unpack or to pack these records? Tells from the header, which may be wrong in other ways.
pub fn is_unpacked(records: &Bytes, rules: &ProduceRules) -> bool {
    let Ok(header) = BatchHeader::read(records) else { return false };
    let Some(source) = Compression::from_attribute_bits(header.compression_bits()) else { return false };
    let target = rules.compression.map_or(source, |(codec, _)| codec);
    source != target || source != Compression::None && needs_records(&header, rules)
}

/// Exactly one batch, format 2, all of it there. A cut-off second batch is dropped, as Kafka does.
fn take_one_batch(records: &Bytes, rules: &ProduceRules) -> Result<Batch, ProduceError> {
    let Some(len) = next_batch_len(records)? else { return Err(ProduceError::NoBatch) };
    match check_length_and_magic(records) {
        Err(BatchError::Legacy(magic)) => return Err(ProduceError::LegacyFormat(magic)),
        Err(error) => return Err(ProduceError::Corrupt(error)),
        Ok(_) => {}
    }
    let header = BatchHeader::read(records).map_err(ProduceError::Corrupt)?;
    match Compression::from_attribute_bits(header.compression_bits()) {
        None => return Err(ProduceError::UnknownCompression(header.compression_bits())),
        Some(Compression::Zstd) if rules.produce_version < ZSTD_SINCE_PRODUCE_VERSION => {
            return Err(ProduceError::ZstdTooEarly(rules.produce_version));
        }
        Some(_) => {}
    }
    if next_batch_len(&records.slice(len..))?.is_some() {
        return Err(ProduceError::MoreThanOneBatch);
    }
    Ok(Batch { header, bytes: records.slice(..len) })
}

/// The smallest length that any message format ever had.
const LEGACY_OVERHEAD: i32 = 14;

/// Length of the batch that stands at the front, `None` when it is cut off.
fn next_batch_len(bytes: &[u8]) -> Result<Option<usize>, ProduceError> {
    let Some(stated) = bytes.get(8..12) else { return Ok(None) };
    let stated = i32::from_be_bytes([stated[0], stated[1], stated[2], stated[3]]);
    if stated < LEGACY_OVERHEAD {
        let error = BatchError::Length { stated: i64::from(stated), have: bytes.len() };
        return Err(ProduceError::Corrupt(error));
    }
    let Some(&magic) = bytes.get(16) else { return Ok(None) };
    if !(0..=2).contains(&(magic as i8)) {
        return Err(ProduceError::Corrupt(BatchError::Magic(magic as i8)));
    }
    let len = super::LENGTH_PREFIX_LEN + stated as usize;
    Ok((len <= bytes.len()).then_some(len))
}

fn check_header(batch: &Batch, sent_len: usize, rules: &ProduceRules) -> Result<(), ProduceError> {
    let header = &batch.header;
    if header.base_offset != 0 {
        return Err(ProduceError::BaseOffset(header.base_offset));
    }
    let len = batch.bytes.len();
    debug_assert!(len <= sent_len);
    if len > rules.message_bytes_max {
        return Err(ProduceError::TooLarge { len, cap: rules.message_bytes_max });
    }
    batch.verify_crc().map_err(ProduceError::Corrupt)?;
    let count_from_offsets = i64::from(header.last_offset_delta) + 1;
    if count_from_offsets <= 0
        || header.record_count <= 0
        || count_from_offsets != i64::from(header.record_count)
    {
        return Err(ProduceError::Count {
            record_count: header.record_count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    if header.is_control() {
        return Err(ProduceError::Control);
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(ProduceError::Sequence {
            producer_id: header.producer_id,
            base_sequence: header.base_sequence,
        });
    }
    if header.is_transactional() && !header.has_producer_id() {
        return Err(ProduceError::TransactionalWithoutProducer);
    }
    Ok(())
}

/// Whether the header of a compressed batch leaves a question that only its records answer.
fn needs_records(header: &BatchHeader, rules: &ProduceRules) -> bool {
    let create_time = rules.timestamp_type == TimestampType::CreateTime;
    rules.check_compressed_records
        || rules.compacted
        // A batch that claims the broker's time is an error in most cases; the records' walk tells.
        || header.timestamp_type() == TimestampType::LogAppendTime
        // The header has the largest timestamp, but not the smallest.
        || create_time && rules.timestamp_before_max_ms != i64::MAX
        || create_time && header.max_timestamp.saturating_sub(rules.now_ms) > rules.timestamp_after_max_ms
}

fn decompress(batch: &Batch, rules: &ProduceRules) -> Result<Bytes, ProduceError> {
    batch.decompress(rules.decompressed_bytes_max).map_err(|error| match error {
        BatchError::Compression(CompressionError::TooLarge { cap }) => {
            ProduceError::DecompressedTooLarge { cap }
        }
        error => ProduceError::Unreadable(error),
    })
}

struct Walk {
    max_timestamp: i64,
    offsets_in_order: bool,
}

fn check_records(header: &BatchHeader, data: &[u8], rules: &ProduceRules) -> Result<Walk, ProduceError> {
    let mut walk = Walk { max_timestamp: NO_TIMESTAMP, offsets_in_order: true };
    let mut errors = Vec::new();
    let mut timestamp_errors = false;
    for (index, record) in (0..).zip(RecordsRef::new(data, header.record_count)) {
        let record = record.map_err(ProduceError::Unreadable)?;
        let timestamp = header.record_timestamp(record.timestamp_delta);
        walk.max_timestamp = walk.max_timestamp.max(timestamp);
        walk.offsets_in_order &= record.offset_delta == index;
        let message = if rules.compacted && record.key.is_none() {
            "a compacted topic takes no record without a key".to_string()
        } else if let Some(message) = timestamp_fault(header, timestamp, rules) {
            timestamp_errors = true;
            message
        } else {
            continue;
        };
        if errors.len() < RECORD_ERRORS_MAX {
            errors.push(RecordError { batch_index: index, message });
        }
    }
    match (errors.is_empty(), timestamp_errors) {
        (true, _) => Ok(walk),
        (false, true) => Err(ProduceError::Timestamps(errors)),
        (false, false) => Err(ProduceError::Records(errors)),
    }
}

/// `LogValidator.validateTimestamp`, its oddity included: a batch that says `LogAppendTime` passes in a
/// `CreateTime` topic if its time is within bounds.
fn timestamp_fault(header: &BatchHeader, timestamp: i64, rules: &ProduceRules) -> Option<String> {
    if rules.timestamp_type == TimestampType::CreateTime && timestamp != NO_TIMESTAMP {
        let age = rules.now_ms.saturating_sub(timestamp);
        let ahead = timestamp.saturating_sub(rules.now_ms);
        (age > rules.timestamp_before_max_ms || ahead > rules.timestamp_after_max_ms).then(|| {
            let from = rules.now_ms.saturating_sub(rules.timestamp_before_max_ms);
            let to = rules.now_ms.saturating_add(rules.timestamp_after_max_ms);
            format!("timestamp {timestamp} is outside of {from} to {to}")
        })
    } else if header.timestamp_type() == TimestampType::LogAppendTime {
        Some("a producer must not set the timestamp type to LogAppendTime".to_string())
    } else {
        None
    }
}

/// Keeps the client's bytes; only type and maximum of the timestamps may have to change, which costs a copy of
/// the batch and no second look at its records.
fn accept_as_is(batch: Batch, rules: &ProduceRules, seen_max_timestamp: Option<i64>) -> Accepted {
    let (max_timestamp, log_append_time_ms) = match rules.timestamp_type {
        TimestampType::LogAppendTime => (rules.now_ms, rules.now_ms),
        TimestampType::CreateTime => (seen_max_timestamp.unwrap_or(batch.header.max_timestamp), NO_TIMESTAMP),
    };
    let fits =
        batch.header.max_timestamp == max_timestamp && batch.header.timestamp_type() == rules.timestamp_type;
    if fits {
        return Accepted { batch, log_append_time_ms, rewritten: false };
    }
    let mut bytes = batch.bytes.to_vec();
    set_timestamps(&mut bytes[..HEADER_LEN], rules.timestamp_type, max_timestamp);
    let header = BatchHeader::read(&bytes).expect("only timestamps changed");
    Accepted { batch: Batch { header, bytes: bytes.into() }, log_append_time_ms, rewritten: true }
}

/// Writes the records anew with the topic's codec; everything of the producer stays.
fn rebuild(
    header: &BatchHeader,
    data: &[u8],
    target: Compression,
    rules: &ProduceRules,
) -> Result<Accepted, ProduceError> {
    let level = rules.compression.and_then(|(_, level)| level);
    let mut builder = BatchBuilder::new()
        .compression(target)
        .compression_level(level)
        .transactional(header.is_transactional())
        .producer(header.producer_id, header.producer_epoch, header.base_sequence)
        .leader_epoch(header.partition_leader_epoch);
    if rules.timestamp_type == TimestampType::LogAppendTime {
        builder = builder.log_append_time(rules.now_ms);
    }
    for (index, record) in (0..).zip(RecordsRef::new(data, header.record_count)) {
        let record = record.map_err(ProduceError::Unreadable)?;
        let timestamp = header.record_timestamp(record.timestamp_delta);
        // Collected because the builder asks for the count first.
        let headers: Vec<_> = record.headers.map(|header| (header.key, header.value)).collect();
        builder
            .append_at(index, timestamp, record.key, record.value, headers.into_iter())
            .map_err(ProduceError::Recompression)?;
    }
    let bytes = builder.build().map_err(ProduceError::Recompression)?;
    if bytes.len() > rules.message_bytes_max {
        return Err(ProduceError::TooLarge { len: bytes.len(), cap: rules.message_bytes_max });
    }
    let batch = Batch::parse(bytes).expect("what the builder writes can be parsed");
    let log_append_time_ms = match rules.timestamp_type {
        TimestampType::LogAppendTime => rules.now_ms,
        TimestampType::CreateTime => NO_TIMESTAMP,
    };
    Ok(Accepted { batch, log_append_time_ms, rewritten: true })
}
