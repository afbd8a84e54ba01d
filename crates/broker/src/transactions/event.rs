//! What goes into a shard of the transaction coordinator and what comes out of it, in its own words.

use std::collections::BTreeSet;

use protocol::{ErrorCode, Str};

use super::transaction::{EPOCH_EXHAUSTED, State, TopicPartition};

pub use crate::coordinators::{Now, Record, ReplyId, Token};

pub type Effects = crate::coordinators::Effects<Answer>;

/// Why a request is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Code(ErrorCode),
    /// The epochs of the producer id are used up, or there is none yet: to come again with a fresh one.
    NeedsProducerId,
    /// The producer has come by a newer connection since: nobody waits for the answer (P6).
    Overtaken,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal::Code(code)
    }
}

/// A producer as its requests name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    pub transactional_id: Str,
    pub id: i64,
    pub epoch: i16,
}

impl Producer {
    /// The largest epoch is there for fencing, and has none behind it.
    pub fn is_of_nobody(&self) -> bool {
        self.epoch > EPOCH_EXHAUSTED
    }
}

/// By which connection a client came that does not know KIP-890; others name each transaction by an epoch of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comes {
    By(u64),
    WithItsEpoch,
}

impl Comes {
    pub fn version(self) -> i16 {
        match self {
            Comes::By(_) => 0,
            Comes::WithItsEpoch => 2,
        }
    }
}

#[derive(Debug, Clone)]
pub struct InitRequest {
    pub transactional_id: Str,
    pub timeout_ms: i32,
    /// What the producer believes to be (KIP-360).
    pub expected: Option<(i64, i16)>,
    pub fresh_producer_id: Option<i64>,
    pub connection: u64,
}

#[derive(Debug, Clone)]
pub struct AddRequest {
    pub producer: Producer,
    pub partitions: BTreeSet<TopicPartition>,
    pub comes: Comes,
}

#[derive(Debug, Clone)]
pub struct EndRequest {
    pub producer: Producer,
    pub commit: bool,
    pub comes: Comes,
    pub fresh_producer_id: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Producer id and epoch.
    Init(Result<(i64, i16), Refusal>),
    /// The transaction's stamp.
    Added(Result<i64, Refusal>),
    Verified(Result<Verified, ErrorCode>),
    /// Producer id and epoch for the next transaction.
    Ended(Result<(i64, i16), Refusal>),
    Described(Result<Box<Described>, ErrorCode>),
    Listed(Result<Vec<Listed>, ErrorCode>),
}

impl Answer {
    /// Whoever gets it comes again, so it may be that of a coordinator that is none any more.
    pub fn is_harmless(&self) -> bool {
        let refusal = match self {
            Answer::Init(Err(refusal)) | Answer::Added(Err(refusal)) | Answer::Ended(Err(refusal)) => {
                *refusal
            }
            Answer::Verified(Err(code)) | Answer::Described(Err(code)) | Answer::Listed(Err(code)) => {
                Refusal::Code(*code)
            }
            _ => return false,
        };
        match refusal {
            Refusal::NeedsProducerId | Refusal::Overtaken => true,
            Refusal::Code(code) => {
                matches!(code, ErrorCode::ConcurrentTransactions | ErrorCode::NotCoordinator)
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub stamp: i64,
    /// Of the partitions asked for.
    pub missing: BTreeSet<TopicPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub producer_id: i64,
    pub epoch: i16,
    pub state: State,
    pub timeout_ms: i32,
    pub started_ms: i64,
    pub partitions: Vec<TopicPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub transactional_id: Str,
    pub producer_id: i64,
    pub state: State,
    pub started_ms: i64,
}

/// A decision that is durable, and where it has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub transactional_id: Str,
    pub producer_id: i64,
    pub epoch: i16,
    pub commit: bool,
    pub stamp: i64,
    /// Without those whose marker is durable.
    pub partitions: BTreeSet<TopicPartition>,
}
