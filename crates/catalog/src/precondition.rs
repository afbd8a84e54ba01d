//! Why a metadata record is not accepted. The same answer comes back before sending and at replay (R16).

use protocol::{ErrorCode, Str, Uuid};

use crate::level::{Levels, OTTLA_VERSION};
use crate::topic_name::TopicNameError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Precondition {
    #[error("the cluster already has the id {cluster_id}")]
    ClusterExists { cluster_id: Str },
    #[error("the cluster has no id yet")]
    NoCluster,
    /// Two registrations at one position would get the same WAL id (R1).
    #[error("position {position} already registered an incarnation")]
    SecondRegistration { position: u64 },
    #[error("incarnation {incarnation} is already registered as WAL {wal_id}")]
    IncarnationRegistered { incarnation: Uuid, wal_id: u64 },
    #[error("broker id {node_id} is not a valid id")]
    InvalidNodeId { node_id: i32 },
    #[error("no live broker to put partitions on")]
    NoBroker,
    #[error(transparent)]
    TopicName(TopicNameError),
    #[error("Topic '{name}' already exists.")]
    TopicExists { name: Str },
    #[error("Topic '{name}' collides with the existing topic '{existing}'.")]
    TopicNameCollision { name: Str, existing: Str },
    #[error("topic id {id} is already in use")]
    TopicIdInUse { id: Uuid },
    #[error("topic id {id} is not a valid id")]
    InvalidTopicId { id: Uuid },
    #[error("there is no topic with the id {id}")]
    UnknownTopicId { id: Uuid },
    #[error("the topic has {actual} partitions, not {expected}")]
    PartitionCountChanged { expected: u32, actual: u32 },
    #[error("a topic needs between 1 and {max} partitions, not {count}")]
    InvalidPartitionCount { count: u32, max: u32 },
    #[error("the topic has no partition {index}")]
    UnknownPartition { index: u32 },
    #[error("only in a bucket can replicas be assigned")]
    NoAssignments,
    #[error("the replication factor {factor} cannot be reached with {brokers} broker(s)")]
    InvalidReplicationFactor { factor: i16, brokers: usize },
    /// A limit of this broker (`cluster.partitions.max`), checked before sending only, never at replay.
    #[error("the cluster would have {count} partitions, the limit is {max}")]
    TooManyPartitions { count: u64, max: u64 },
    #[error("there is no topic '{name}' to configure")]
    UnknownResource { name: Str },
    #[error("the next producer id is {actual}, not {expected}")]
    ProducerIdsMoved { expected: i64, actual: i64 },
    #[error("a block of {count} producer ids is not possible")]
    InvalidProducerIdCount { count: u32 },
    #[error("shard {shard} of the manifest is at version {actual}, not {expected}")]
    ManifestMoved { shard: u32, expected: u64, actual: u64 },
    #[error("feature {name} is at level {actual}, not {expected}")]
    FeatureMoved { name: Str, expected: i16, actual: i16 },
    #[error("WAL {wal_id} is fenced or was never registered")]
    WriterFenced { wal_id: u64 },
    /// The blind retry of a request whose outcome was overtaken by a later request of the same writer.
    #[error("request {request} of WAL {wal_id} is older than its last one, {last}")]
    RequestOutdated { wal_id: u64, request: u64, last: u64 },
    #[error("there is no WAL {wal_id}")]
    UnknownWal { wal_id: u64 },
    #[error("WAL {wal_id} has begun already")]
    WalBegun { wal_id: u64 },
    #[error("WAL {wal_id} is sealed")]
    WalSealed { wal_id: u64 },
    /// Not rewritten to its end, or somebody has it as his own, or it still has the duties of another.
    #[error("WAL {wal_id} is still in use")]
    WalInUse { wal_id: u64 },
    #[error("WAL {wal_id} is not fenced")]
    WalNotFenced { wal_id: u64 },
    /// Fenced itself, or an older WAL of its node is not sealed yet.
    #[error("WAL {wal_id} cannot take partitions")]
    HeirNotReady { wal_id: u64 },
    #[error("the partitions of WAL {wal_id} need an heir, and only they do")]
    WrongHeirs { wal_id: u64 },
    #[error(
        "slots {from} to {to} of WAL {wal_id} are not this incarnation's to rewrite; the mark is at {mark}"
    )]
    WrongRewrite { wal_id: u64, from: u64, to: u64, mark: u64 },
    /// R18: a log never has a record that some broker may not know.
    #[error("a record of {OTTLA_VERSION} {needed} in a cluster that is at {actual}")]
    LevelTooLow { needed: i16, actual: i16 },
    #[error("broker {node_id} knows {OTTLA_VERSION} {known}, not {level}")]
    LevelNotKnown { node_id: i32, level: i16, known: Levels },
    #[error(
        "{OTTLA_VERSION} goes from {from} up, not to {to}: records of the level that it has may be in the log"
    )]
    LevelLowered { from: i16, to: i16 },
    #[error("there is no credential of {name}")]
    UnknownCredential { name: Str },
    #[error("there are {max} credentials of this kind, which is the limit")]
    TooManyCredentials { max: usize },
    #[error("delegation token {token_id} was changed meanwhile")]
    TokenChanged { token_id: Str },
    /// Only the code of an earlier rejection is kept in the state; this is that rejection told again.
    #[error("the request was rejected before (reason {code})")]
    RejectedBefore { code: u16 },
}

impl Precondition {
    /// Stable number kept in the state as the last result of a writer. Never reuse one.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::ClusterExists { .. } => 1,
            Self::NoCluster => 2,
            Self::SecondRegistration { .. } => 3,
            Self::IncarnationRegistered { .. } => 4,
            Self::InvalidNodeId { .. } => 5,
            Self::NoBroker => 6,
            Self::TopicName(_) => 7,
            Self::TopicExists { .. } => 8,
            Self::TopicNameCollision { .. } => 9,
            Self::TopicIdInUse { .. } => 10,
            Self::InvalidTopicId { .. } => 11,
            Self::UnknownTopicId { .. } => 12,
            Self::PartitionCountChanged { .. } => 13,
            Self::InvalidPartitionCount { .. } => 14,
            Self::InvalidReplicationFactor { .. } => 15,
            Self::TooManyPartitions { .. } => 16,
            Self::UnknownResource { .. } => 17,
            Self::ProducerIdsMoved { .. } => 18,
            Self::InvalidProducerIdCount { .. } => 19,
            Self::ManifestMoved { .. } => 20,
            Self::FeatureMoved { .. } => 21,
            Self::WriterFenced { .. } => 22,
            Self::RequestOutdated { .. } => 23,
            Self::UnknownWal { .. } => 24,
            Self::WalBegun { .. } => 25,
            Self::WalSealed { .. } => 26,
            Self::WalNotFenced { .. } => 27,
            Self::HeirNotReady { .. } => 28,
            Self::WrongHeirs { .. } => 29,
            Self::WrongRewrite { .. } => 30,
            Self::UnknownPartition { .. } => 35,
            Self::NoAssignments => 36,
            Self::WalInUse { .. } => 50,
            Self::LevelTooLow { .. } => 31,
            Self::LevelNotKnown { .. } => 32,
            Self::LevelLowered { .. } => 33,
            Self::UnknownCredential { .. } => 60,
            Self::TooManyCredentials { .. } => 61,
            Self::TokenChanged { .. } => 62,
            Self::RejectedBefore { code } => *code,
        }
    }

    /// The one place where a rejection becomes a Kafka error code.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::TopicName(_) | Self::TopicNameCollision { .. } => ErrorCode::InvalidTopicException,
            Self::TopicExists { .. } | Self::TopicIdInUse { .. } => ErrorCode::TopicAlreadyExists,
            Self::UnknownTopicId { .. } | Self::InvalidTopicId { .. } => ErrorCode::UnknownTopicId,
            Self::UnknownResource { .. } | Self::UnknownPartition { .. } => {
                ErrorCode::UnknownTopicOrPartition
            }
            Self::NoAssignments => ErrorCode::InvalidReplicaAssignment,
            Self::InvalidPartitionCount { .. } | Self::PartitionCountChanged { .. } => {
                ErrorCode::InvalidPartitions
            }
            Self::InvalidReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
            Self::TooManyPartitions { .. } | Self::TooManyCredentials { .. } => ErrorCode::PolicyViolation,
            Self::UnknownCredential { .. } => ErrorCode::ResourceNotFound,
            Self::LevelTooLow { .. } => ErrorCode::UnsupportedVersion,
            Self::LevelNotKnown { .. } | Self::LevelLowered { .. } => ErrorCode::InvalidUpdateVersion,
            // Somebody was faster, or this broker is no longer who it was: the client may try again.
            Self::ProducerIdsMoved { .. }
            | Self::ManifestMoved { .. }
            | Self::FeatureMoved { .. }
            | Self::TokenChanged { .. }
            | Self::WriterFenced { .. }
            | Self::UnknownWal { .. }
            | Self::WalBegun { .. }
            | Self::WalSealed { .. }
            | Self::WalNotFenced { .. }
            | Self::WalInUse { .. }
            | Self::HeirNotReady { .. }
            | Self::WrongHeirs { .. }
            | Self::WrongRewrite { .. }
            | Self::NoBroker => ErrorCode::NotController,
            Self::ClusterExists { .. }
            | Self::NoCluster
            | Self::SecondRegistration { .. }
            | Self::IncarnationRegistered { .. }
            | Self::InvalidNodeId { .. }
            | Self::InvalidProducerIdCount { .. }
            | Self::RequestOutdated { .. } => ErrorCode::UnknownServerError,
            Self::RejectedBefore { code } => Self::error_code_of(*code),
        }
    }

    /// The error code of a rejection of which only [`Precondition::code`] is kept: a retry hears what the first try would have heard.
    fn error_code_of(code: u16) -> ErrorCode {
        match code {
            7 | 9 => ErrorCode::InvalidTopicException,
            8 | 10 => ErrorCode::TopicAlreadyExists,
            11 | 12 => ErrorCode::UnknownTopicId,
            17 | 35 => ErrorCode::UnknownTopicOrPartition,
            36 => ErrorCode::InvalidReplicaAssignment,
            13 | 14 => ErrorCode::InvalidPartitions,
            15 => ErrorCode::InvalidReplicationFactor,
            16 | 61 => ErrorCode::PolicyViolation,
            60 => ErrorCode::ResourceNotFound,
            31 => ErrorCode::UnsupportedVersion,
            32 | 33 => ErrorCode::InvalidUpdateVersion,
            6 | 18 | 20..=22 | 24..=30 | 50 | 62 => ErrorCode::NotController,
            _ => ErrorCode::UnknownServerError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_told_again_has_the_code_of_the_first_one() {
        let (name, id, wal_id) = (Str::from("t"), Uuid::from_u128(1), 7);
        let known = Levels { lowest: 1, highest: 1 };
        let all = [
            Precondition::ClusterExists { cluster_id: name.clone() },
            Precondition::NoCluster,
            Precondition::SecondRegistration { position: 1 },
            Precondition::IncarnationRegistered { incarnation: id, wal_id },
            Precondition::InvalidNodeId { node_id: -1 },
            Precondition::NoBroker,
            Precondition::TopicName(TopicNameError::Empty),
            Precondition::TopicExists { name: name.clone() },
            Precondition::TopicNameCollision { name: name.clone(), existing: name.clone() },
            Precondition::TopicIdInUse { id },
            Precondition::InvalidTopicId { id },
            Precondition::UnknownTopicId { id },
            Precondition::PartitionCountChanged { expected: 1, actual: 2 },
            Precondition::InvalidPartitionCount { count: 0, max: 9 },
            Precondition::UnknownPartition { index: 3 },
            Precondition::NoAssignments,
            Precondition::InvalidReplicationFactor { factor: 3, brokers: 1 },
            Precondition::TooManyPartitions { count: 2, max: 1 },
            Precondition::UnknownResource { name: name.clone() },
            Precondition::ProducerIdsMoved { expected: 1, actual: 2 },
            Precondition::InvalidProducerIdCount { count: 0 },
            Precondition::ManifestMoved { shard: 1, expected: 1, actual: 2 },
            Precondition::FeatureMoved { name, expected: 1, actual: 2 },
            Precondition::WriterFenced { wal_id },
            Precondition::RequestOutdated { wal_id, request: 1, last: 2 },
            Precondition::UnknownWal { wal_id },
            Precondition::WalBegun { wal_id },
            Precondition::WalSealed { wal_id },
            Precondition::WalNotFenced { wal_id },
            Precondition::WalInUse { wal_id },
            Precondition::HeirNotReady { wal_id },
            Precondition::WrongHeirs { wal_id },
            Precondition::WrongRewrite { wal_id, from: 1, to: 2, mark: 3 },
            Precondition::LevelTooLow { needed: 2, actual: 1 },
            Precondition::LevelNotKnown { node_id: 1, level: 2, known },
            Precondition::LevelLowered { from: 2, to: 1 },
            Precondition::UnknownCredential { name: Str::from("u") },
            Precondition::TooManyCredentials { max: 1 },
            Precondition::TokenChanged { token_id: Str::from("u") },
        ];
        for first in all {
            let again = Precondition::RejectedBefore { code: first.code() };
            assert_eq!((again.code(), again.error_code()), (first.code(), first.error_code()), "{first}");
        }
    }
}
