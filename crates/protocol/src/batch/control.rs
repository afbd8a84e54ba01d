//! Control records: what brokers write between the records of clients (KIP-98).

use bytes::Bytes;

use super::{BatchBuilder, BatchError};

/// The kinds of control records that live in ordinary partitions. (Kafka's Raft log has more.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    Abort {
        coordinator_epoch: i32,
    },
    Commit {
        coordinator_epoch: i32,
    },
    /// A kind that a newer version wrote; readers skip it.
    Unknown(i16),
}

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

impl ControlRecord {
    /// Reads a control record from its key and value; `None` when they are malformed.
    pub fn parse(key: &[u8], value: Option<&[u8]>) -> Option<ControlRecord> {
        let (_version, rest) = key.split_first_chunk::<2>()?;
        let kind = i16::from_be_bytes(*rest.first_chunk()?);
        let epoch = || {
            let (_version, rest) = value?.split_first_chunk::<2>()?;
            Some(i32::from_be_bytes(*rest.first_chunk()?))
        };
        match kind {
            ABORT => Some(ControlRecord::Abort { coordinator_epoch: epoch()? }),
            COMMIT => Some(ControlRecord::Commit { coordinator_epoch: epoch()? }),
            other => Some(ControlRecord::Unknown(other)),
        }
    }
}

/// The batch that ends a transaction in one partition: one control record, no sequence.
pub fn end_transaction_marker(
    producer_id: i64,
    producer_epoch: i16,
    commit: bool,
    coordinator_epoch: i32,
    now_ms: i64,
) -> Result<Bytes, BatchError> {
    let mut key = [0; 4];
    key[2..].copy_from_slice(&(if commit { COMMIT } else { ABORT }).to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let mut builder = BatchBuilder::new().transactional(true).control(true).producer(
        producer_id,
        producer_epoch,
        super::NO_SEQUENCE,
    );
    builder.append(now_ms, Some(&key), Some(&value), &[])?;
    builder.build()
}
