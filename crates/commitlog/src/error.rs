//! What can go wrong in the log, by operation. `broker` turns these into Kafka's codes.

use std::path::PathBuf;

use protocol::TopicIdPartition;
use world::bucket::{BucketError, ProbeError};
use world::disk::DiskError;

use crate::bucket::TakeoverError;
use crate::manifest::ManifestError;

#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    #[error("producer {producer_id}: sequence {found} where {expected} comes next")]
    OutOfOrderSequence { producer_id: i64, expected: i32, found: i32 },
    #[error("producer {producer_id}: epoch {epoch} is older than {current}")]
    InvalidProducerEpoch { producer_id: i64, epoch: i16, current: i16 },
    #[error("producer {producer_id} is not known")]
    UnknownProducerId { producer_id: i64 },
    #[error("the partition is deleted")]
    Deleted,
    /// Another broker leads the partition, or is about to.
    #[error("the partition is led by another broker")]
    NotLeader,
    #[error("the disk is nearly full; nothing is written until there is room")]
    Full,
    #[error("the log has stopped: {0}")]
    Failed(String),
    /// More waits for its commit than the log holds: come again.
    #[error("too much waits for its commit")]
    Busy,
    /// A marker among what a client sent.
    #[error("a control batch is no data")]
    ControlBatch,
    /// Its producer has a transaction open here.
    #[error("producer {producer_id}: a batch outside of its open transaction")]
    NotInTransaction { producer_id: i64 },
    /// Its coordinator was not asked, or a marker has come since.
    #[error("producer {producer_id}: a batch of a transaction that is not open")]
    NotVerified { producer_id: i64 },
    /// A newer coordinator has ended a transaction of this producer.
    #[error("producer {producer_id}: coordinator epoch {epoch} is older than {current}")]
    CoordinatorFenced { producer_id: i64, epoch: i32, current: i32 },
    /// No transaction begins before retention has removed some that were aborted.
    #[error("the partition remembers {max} aborted transactions, as many as it may")]
    TooManyAborted { max: usize },
    #[error("no offset is left in the partition")]
    OffsetsExhausted,
}

/// Why an enqueued batch is not durable, and never will be said to be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the commit failed: {0}")]
pub struct CommitError(pub String);

#[derive(Clone, Debug, thiserror::Error)]
pub enum EndTransactionError {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("offset {offset} is outside of {log_start}..={high_watermark}")]
    OutOfRange { offset: i64, log_start: i64, high_watermark: i64 },
    #[error("{partition} is damaged at offset {offset}: {detail}")]
    Damaged { partition: TopicIdPartition, offset: i64, detail: String },
    #[error("the partition is deleted")]
    Deleted,
    #[error("the partition is led by another broker")]
    NotLeader,
    /// The log takes no changes any more.
    #[error("the log has stopped: {0}")]
    Stopped(String),
    #[error(transparent)]
    Storage(#[from] DiskError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// It is on its way from the second tier.
    #[error("the second tier has not answered yet")]
    NotYet,
    /// P7: what the metadata promises is not in the bucket.
    #[error("{key} is missing in the bucket")]
    Missing { key: String },
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// P7: what was durable is damaged. Nothing is cut, nothing is changed.
    #[error("{} is damaged at byte {position}: {detail}. Chunk {number} was durable, so nothing was cut or changed", path.display())]
    Damaged { path: PathBuf, position: u64, number: u64, detail: String },
    #[error("{} cannot be understood: {detail}", path.display())]
    Format { path: PathBuf, detail: String },
    #[error("another process uses {}: {detail}", path.display())]
    Locked { path: PathBuf, detail: String },
    #[error(transparent)]
    Storage(#[from] DiskError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The log has data that only a tier has.
    #[error("a part of the log lies in a second tier, and none is configured: nothing was opened")]
    NoTier,
    #[error("the second tier: {0}")]
    Tier(#[from] ProbeError),
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    #[error("the metadata cannot be followed: {0}")]
    Metadata(#[from] catalog::CatalogError),
    /// P7, in a bucket.
    #[error("{key} is damaged: {detail}. It was acknowledged, so nothing is skipped")]
    DamagedObject { key: String, detail: String },
}

impl From<ManifestError> for OpenError {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::Storage(error) => OpenError::Storage(error),
            ManifestError::Damaged { path, detail } => OpenError::Format { path, detail },
            ManifestError::Catalog(detail) => OpenError::Format { path: PathBuf::from("manifest"), detail },
        }
    }
}
