//! Writing batches: for producers, for coordinators, and for recompression.

use bytes::Bytes;

use super::header::{BatchHeader, HEADER_LEN, LENGTH_PREFIX_LEN, attributes, crc32c};
use super::varint::{varint_len, varlong_len, write_varint, write_varlong};
use super::{
    BatchError, Header, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType,
};
use crate::compression::Compression;

/// Collects records and writes them as one batch.
///
/// ```
/// use protocol::batch::{Batch, BatchBuilder};
/// use protocol::compression::Compression;
///
/// let mut builder = BatchBuilder::new().compression(Compression::Zstd);
/// builder.append(1_700_000_000_000, Some(b"user-1"), Some(b"clicked"), &[]).unwrap();
/// let batch = Batch::parse(builder.build().unwrap()).unwrap();
/// assert_eq!(batch.header.record_count, 1);
/// let record = batch.records(1 << 20).next().unwrap().unwrap();
/// assert_eq!(record.value.unwrap(), "clicked");
/// ```
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    base_offset: i64,
    leader_epoch: i32,
    compression: Compression,
    level: Option<i32>,
    timestamp_type: TimestampType,
    log_append_time: i64,
    transactional: bool,
    control: bool,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    records: Vec<u8>,
    count: i32,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

/// A batch's length field is an i32; half of that leaves room for codecs that make data longer.
const RECORDS_LEN_MAX: usize = 1 << 30;

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    /// An empty, uncompressed batch at base offset 0, as a client sends it.
    pub fn new() -> BatchBuilder {
        BatchBuilder {
            base_offset: 0,
            leader_epoch: -1,
            compression: Compression::None,
            level: None,
            timestamp_type: TimestampType::CreateTime,
            log_append_time: NO_TIMESTAMP,
            transactional: false,
            control: false,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            records: Vec::new(),
            count: 0,
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
        }
    }

    pub fn base_offset(mut self, base_offset: i64) -> Self {
        self.base_offset = base_offset;
        self
    }

    pub fn leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Kafka's level for the codec; without it the codec's default.
    pub fn compression_level(mut self, level: Option<i32>) -> Self {
        self.level = level;
        self
    }

    /// Marks the batch `LogAppendTime`: all its records then have this one time.
    pub fn log_append_time(mut self, now_ms: i64) -> Self {
        self.timestamp_type = TimestampType::LogAppendTime;
        self.log_append_time = now_ms;
        self
    }

    /// The idempotent producer's id, epoch and the sequence of the first record.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.set_producer(id, epoch, base_sequence);
        self
    }

    /// The same for a batch that is being filled: sequences are given when the batch is sent.
    pub fn set_producer(&mut self, id: i64, epoch: i16, base_sequence: i32) {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
    }

    pub fn transactional(mut self, transactional: bool) -> Self {
        self.transactional = transactional;
        self
    }

    pub fn control(mut self, control: bool) -> Self {
        self.control = control;
        self
    }

    /// Adds a record at the next offset and gives its distance from the base offset.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<i32, BatchError> {
        let delta =
            self.last_offset_delta.checked_add(1).ok_or(BatchError::TooLarge { cap: RECORDS_LEN_MAX })?;
        let headers = headers.iter().map(|header| (&header.key[..], header.value.as_deref()));
        self.append_at(delta, timestamp, key, value, headers)?;
        Ok(delta)
    }

    /// Adds a record at a given distance from the base offset, larger than the last one: compaction leaves
    /// gaps. The iterator must give the same headers each time.
    pub fn append_at<'h>(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    ) -> Result<(), BatchError> {
        assert!(
            offset_delta > self.last_offset_delta,
            "offset delta {offset_delta} after {}",
            self.last_offset_delta
        );
        let base_timestamp = if self.count == 0 { timestamp } else { self.base_timestamp };
        let timestamp_delta = timestamp.wrapping_sub(base_timestamp);
        let body_len = body_len(offset_delta, timestamp_delta, key, value, headers.clone());
        let fits = body_len.saturating_add(self.records.len()) < RECORDS_LEN_MAX;
        if !fits {
            return Err(BatchError::TooLarge { cap: RECORDS_LEN_MAX });
        }
        let out = &mut self.records;
        out.reserve(body_len + 5);
        write_varint(out, body_len as i32);
        let start = out.len();
        out.push(0); // record attributes: none are defined
        write_varlong(out, timestamp_delta);
        write_varint(out, offset_delta);
        write_nullable(out, key);
        write_nullable(out, value);
        write_varint(out, headers.len() as i32);
        for (key, value) in headers {
            write_nullable(out, Some(key));
            write_nullable(out, value);
        }
        debug_assert_eq!(out.len() - start, body_len);
        self.base_timestamp = base_timestamp;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = offset_delta;
        self.count += 1;
        Ok(())
    }

    pub fn record_count(&self) -> i32 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The batch's length if it were written now and not compressed.
    pub fn uncompressed_len(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// Compresses, writes the header and computes the CRC.
    pub fn build(self) -> Result<Bytes, BatchError> {
        if self.count == 0 {
            return Err(BatchError::Empty);
        }
        let packed = match self.compression {
            Compression::None => None,
            codec => Some(codec.compress(&self.records, self.level)?),
        };
        let records = packed.as_deref().unwrap_or(&self.records);
        let batch_length = i32::try_from(HEADER_LEN - LENGTH_PREFIX_LEN + records.len())
            .map_err(|_| BatchError::TooLarge { cap: i32::MAX as usize })?;
        let max_timestamp = match self.timestamp_type {
            TimestampType::LogAppendTime => self.log_append_time,
            TimestampType::CreateTime => self.max_timestamp,
        };
        let mut header = BatchHeader {
            base_offset: self.base_offset,
            batch_length,
            partition_leader_epoch: self.leader_epoch,
            magic: 2,
            crc: 0,
            attributes: attributes(self.compression, self.timestamp_type, self.transactional, self.control),
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.count,
        };
        let mut out = Vec::with_capacity(HEADER_LEN + records.len());
        let mut head = [0; HEADER_LEN];
        header.write(&mut head);
        out.extend_from_slice(&head);
        out.extend_from_slice(records);
        header.crc = crc32c(&out[21..]);
        out[17..21].copy_from_slice(&header.crc.to_be_bytes());
        Ok(out.into())
    }
}

/// An upper bound of what a record adds to an uncompressed batch, whatever its place in it.
pub fn record_len(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> usize {
    let headers = headers.iter().map(|header| (&header.key[..], header.value.as_deref()));
    // The deltas are not known yet: take their longest forms.
    body_len(i32::MAX, i64::MAX, key, value, headers) + 5
}

fn body_len<'h>(
    offset_delta: i32,
    timestamp_delta: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl ExactSizeIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
) -> usize {
    let mut len = 1
        + varlong_len(timestamp_delta)
        + varint_len(offset_delta)
        + nullable_len(key)
        + nullable_len(value)
        + varint_len(headers.len() as i32);
    for (key, value) in headers {
        len = len.saturating_add(nullable_len(Some(key)) + nullable_len(value));
    }
    len
}

fn nullable_len(data: Option<&[u8]>) -> usize {
    match data {
        None => 1,
        Some(data) => varint_len(data.len().min(i32::MAX as usize) as i32) + data.len(),
    }
}

fn write_nullable(out: &mut Vec<u8>, data: Option<&[u8]>) {
    match data {
        None => write_varint(out, -1),
        Some(data) => {
            write_varint(out, data.len() as i32);
            out.extend_from_slice(data);
        }
    }
}
