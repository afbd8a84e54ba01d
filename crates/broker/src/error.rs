//! The one place where causes become Kafka's error codes.

use catalog::CatalogError;
use catalog::config::AlterError;
use commitlog::{AppendError, CommitError, ReadError};
use protocol::{ErrorCode, Str};

/// A code with the sentence that goes beside it. Many answers carry both (`ErrorMessage`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub code: ErrorCode,
    pub message: Option<Str>,
}

impl ApiError {
    pub const NONE: ApiError = ApiError { code: ErrorCode::None, message: None };

    pub fn new(code: ErrorCode, message: impl Into<Str>) -> ApiError {
        ApiError { code, message: Some(message.into()) }
    }
}

/// Without words of its own; the client has a text for every code.
impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> ApiError {
        ApiError { code, message: None }
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> ApiError {
        ApiError::new(error.error_code(), error.to_string())
    }
}

impl From<AlterError> for ApiError {
    fn from(error: AlterError) -> ApiError {
        ApiError::new(error.code, error.message)
    }
}

pub(crate) fn append_error(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::UnknownProducerId { .. } => ErrorCode::UnknownProducerId,
        AppendError::Deleted => ErrorCode::UnknownTopicOrPartition,
        AppendError::NotLeader => ErrorCode::NotLeaderOrFollower,
        // Nothing can be written for now: disk full, or a sync failed. Producers retry.
        AppendError::Full | AppendError::Failed(_) => ErrorCode::KafkaStorageError,
        // More waits than the log holds, although connections wait for room: come again.
        AppendError::Busy => ErrorCode::RequestTimedOut,
        AppendError::ControlBatch => ErrorCode::InvalidRecord,
        AppendError::NotInTransaction { .. } | AppendError::NotVerified { .. } => ErrorCode::InvalidTxnState,
        AppendError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        // Retention makes room: the client comes again.
        AppendError::TooManyAborted { .. } => ErrorCode::ThrottlingQuotaExceeded,
        AppendError::OffsetsExhausted => ErrorCode::UnknownServerError,
    }
}

pub(crate) fn commit_error(_error: &CommitError) -> ErrorCode {
    ErrorCode::KafkaStorageError
}

pub(crate) fn read_error(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        // Consumers stop with an error that names the offset, and the next read tries again.
        ReadError::Damaged { .. } | ReadError::Missing { .. } => ErrorCode::CorruptMessage,
        ReadError::Deleted => ErrorCode::UnknownTopicOrPartition,
        // A fetch is answered without data instead; whoever needs an answer from old data asks again.
        ReadError::NotYet => ErrorCode::RequestTimedOut,
        ReadError::NotLeader => ErrorCode::NotLeaderOrFollower,
        ReadError::Stopped(_) | ReadError::Storage(_) | ReadError::Bucket(_) => ErrorCode::KafkaStorageError,
    }
}
