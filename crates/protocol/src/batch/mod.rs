//! Record batches, format 2: views over the bytes as they came, never a tree of records.
//!
//! A batch is a 61-byte header and one block of records, compressed as a whole:
//!
//! ```text
//!  0 base offset i64 │ 8 length i32 │ 12 leader epoch i32 │ 16 magic i8 = 2 │ 17 crc u32
//! 21 attributes i16 │ 23 last offset delta i32 │ 27 base timestamp i64 │ 35 max timestamp i64
//! 43 producer id i64 │ 51 producer epoch i16 │ 53 base sequence i32 │ 57 record count i32 │ 61 records
//! ```
//!
//! The length counts what follows it. The CRC-32C covers everything from the attributes on; base offset and
//! leader epoch lie before it, so that a broker can fill them in without reading the batch.
//!
//! * [`BatchHeader`] reads and checks the header; [`Batch`] is a header with its bytes.
//! * [`Batch::records`] walks records lazily; keys and values are slices.
//! * [`BatchBuilder`] writes batches, for clients, coordinators and recompression.
//! * [`retained`] and [`emptied`] are what compaction leaves of a batch.
//! * [`produce`] judges what a client sends, as Kafka's `ProduceRequest`, `UnifiedLog` and `LogValidator` do.
//!
//! Sources: Kafka's `DefaultRecordBatch`, `DefaultRecord`, `LogValidator`; KIP-98 (format 2), KIP-32
//! (timestamps), KIP-110 (zstd).

mod builder;
mod control;
mod error;
mod header;
pub mod produce;
mod record;
mod retain;
mod varint;

pub use builder::{BatchBuilder, record_len};
pub use control::{ControlRecord, end_transaction_marker};
pub use error::BatchError;
pub use header::{
    BATCH_OVERHEAD, BatchHeader, HEADER_LEN, LENGTH_PREFIX_LEN, NO_PRODUCER_EPOCH, NO_PRODUCER_ID,
    NO_SEQUENCE, NO_TIMESTAMP, TimestampType, crc32c, patched_header, set_base_offset, set_leader_epoch,
    set_producer, set_timestamps,
};
pub use record::{Header, HeaderRef, Headers, Record, RecordRef, Records, RecordsRef};
pub use retain::{emptied, retained};

use bytes::Bytes;

/// One record batch: its header, and its bytes as they came (header included).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub header: BatchHeader,
    pub bytes: Bytes,
}

impl Batch {
    /// Takes exactly one batch; bytes behind it are an error. Checks the header, not the CRC.
    pub fn parse(bytes: Bytes) -> Result<Batch, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        if bytes.len() != header.total_len() {
            return Err(BatchError::Length { stated: header.total_len() as i64, have: bytes.len() });
        }
        Ok(Batch { header, bytes })
    }

    /// Compares the CRC-32C with the bytes.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        self.header.verify_crc(&self.bytes)
    }

    /// The records as they stand in the batch, still compressed.
    pub fn records_bytes(&self) -> Bytes {
        self.bytes.slice(HEADER_LEN..)
    }

    /// The records' bytes, decompressed; an error when they would be more than `max_decompressed` bytes.
    pub fn decompress(&self, max_decompressed: usize) -> Result<Bytes, BatchError> {
        Ok(self.header.compression().decompress(&self.records_bytes(), max_decompressed)?)
    }

    /// The records, one after the other. A batch that cannot be decompressed (or not within
    /// `max_decompressed` bytes) gives one error; so does the first record that is malformed.
    pub fn records(&self, max_decompressed: usize) -> Records {
        Records::new(self.header, self.decompress(max_decompressed))
    }

    /// The batch in two pieces with its place in the log filled in: a fresh header, and the untouched rest.
    pub fn at(&self, base_offset: i64, leader_epoch: i32) -> [Bytes; 2] {
        let header = patched_header(&self.bytes, base_offset, leader_epoch);
        [Bytes::copy_from_slice(&header), self.records_bytes()]
    }
}

/// The batches that stand one after the other in `bytes`, as a Fetch answer or a segment has them.
///
/// A batch that is cut off at the end ends the walk without an error: a Fetch answer may be cut anywhere, and
/// the reader asks again from there. [`SplitBatches::rest`] tells what was left. Anything else that is wrong
/// is reported once, and the walk ends.
pub fn split_batches(bytes: &Bytes) -> SplitBatches {
    SplitBatches { bytes: bytes.clone(), failed: false }
}

#[derive(Clone, Debug)]
pub struct SplitBatches {
    bytes: Bytes,
    failed: bool,
}

impl SplitBatches {
    /// What no batch was made of (yet): empty after a clean walk, the head of a batch after a cut-off one.
    pub fn rest(&self) -> &Bytes {
        &self.bytes
    }
}

impl Iterator for SplitBatches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.bytes.is_empty() {
            return None;
        }
        match BatchHeader::parse(&self.bytes) {
            Ok(header) => {
                let bytes = self.bytes.split_to(header.total_len());
                Some(Ok(Batch { header, bytes }))
            }
            Err(BatchError::Truncated { .. }) => {
                self.failed = true;
                None
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests;
