//! What can go wrong, as one enum. `is_retriable` says whether the same call can succeed later.

use std::time::Duration;

use protocol::batch::BatchError;
use protocol::wire::{DecodeError, EncodeError};
use protocol::{ErrorCode, Str};
use thiserror::Error as ThisError;

/// Errors of all calls. Cheap to clone: one failed batch tells all its records.
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// A broker answered with this code.
    #[error("{code}{}{}", if message.is_empty() { "" } else { ": " }, message)]
    Kafka { code: ErrorCode, message: Str },
    /// No connection could be made.
    #[error("cannot connect to {address}: {reason}")]
    Connect { address: Str, reason: Str },
    /// TLS or SASL: one side does not believe the other who it is. Trying again would change nothing.
    #[error("authentication with {address} failed: {reason}")]
    Authentication { address: Str, reason: Str },
    /// The connection ended while something was under way; whether it was carried out is not known.
    #[error("the connection to {address} was lost: {reason}")]
    Disconnected { address: Str, reason: Str },
    #[error("{what} took longer than {limit:?}")]
    Timeout { what: Str, limit: Duration },
    #[error("the broker sent what cannot be read: {0}")]
    Decode(#[from] DecodeError),
    #[error("the request cannot be written: {0}")]
    Encode(#[from] EncodeError),
    #[error("the broker has no version of {api} that this client knows")]
    UnsupportedApi { api: &'static str },
    #[error("record batch: {0}")]
    Batch(#[from] BatchError),
    #[error("the record would need {len} bytes, {cap} are allowed")]
    RecordTooLarge { len: usize, cap: usize },
    /// The partition has no committed offset and the policy for that is `none`, or the offset is gone.
    #[error("no valid offset for {partition}, and auto.offset.reset is none")]
    NoOffset { partition: crate::TopicPartition },
    #[error("{0}")]
    Invalid(Str),
    /// The producer or consumer has been closed.
    #[error("already closed")]
    Closed,
}

impl Error {
    pub(crate) fn invalid(what: impl Into<Str>) -> Error {
        Error::Invalid(what.into())
    }

    /// The code, when a broker gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Kafka { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later. For writes that does not mean that nothing happened.
    pub fn is_retriable(&self) -> bool {
        match self {
            // A leader that has left since we looked for it, as a rule.
            Error::Kafka { code: ErrorCode::BrokerNotAvailable, .. } => true,
            Error::Kafka { code, .. } => code.is_retriable(),
            Error::Connect { .. } | Error::Disconnected { .. } | Error::Timeout { .. } => true,
            _ => false,
        }
    }

    /// Whether no broker could be reached at all.
    pub fn is_connect(&self) -> bool {
        matches!(self, Error::Connect { .. })
    }

    /// Whether the error says that what we believe about leaders is out of date.
    pub(crate) fn needs_metadata(&self) -> bool {
        use ErrorCode::*;
        match self {
            Error::Kafka { code, .. } => matches!(
                code,
                NotLeaderOrFollower
                    | BrokerNotAvailable
                    | LeaderNotAvailable
                    | FencedLeaderEpoch
                    | UnknownLeaderEpoch
                    | UnknownTopicOrPartition
                    | UnknownTopicId
                    | InconsistentTopicId
                    | NotController
                    | ReplicaNotAvailable
                    | KafkaStorageError
                    | ListenerNotFound
            ),
            Error::Connect { .. } | Error::Disconnected { .. } | Error::Timeout { .. } => true,
            _ => false,
        }
    }
}

/// The code of an answer; codes that are newer than this client count as unknown server errors.
pub(crate) fn code_of(code: i16) -> ErrorCode {
    ErrorCode::try_from(code).unwrap_or(ErrorCode::UnknownServerError)
}

/// Turns the error fields of an answer into a result.
pub(crate) fn check(code: i16, message: Option<&Str>) -> Result<(), Error> {
    match code_of(code) {
        ErrorCode::None => Ok(()),
        code => Err(Error::Kafka { code, message: message.map(Str::detached).unwrap_or_default() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_is_not_known_any_more_is_looked_for_again() {
        let code = ErrorCode::BrokerNotAvailable;
        let error = Error::Kafka { code, message: "broker 1 is not known".into() };
        assert!(error.is_retriable() && error.needs_metadata());
    }
}
