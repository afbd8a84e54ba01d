//! What consumer groups are asked and what they answer, in their own words.

use protocol::{ErrorCode, Str, Uuid};
use regex::Regex;

use super::assignment::Partitions;
use super::group::ConsumerGroupState;

#[derive(Debug, Clone)]
pub struct ConsumerHeartbeatRequest {
    pub group: Str,
    pub member_id: Str,
    /// 0 joins, −1 leaves, −2 leaves for a while.
    pub epoch: i32,
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    /// From here on None means "as I said before".
    pub rebalance_timeout_ms: Option<i32>,
    pub topics: Option<Vec<Str>>,
    /// "": none any more.
    pub pattern: Option<Str>,
    /// The same, compiled before the group is asked; None: not yet.
    pub compiled: Option<Result<Regex, Refusal>>,
    pub assignor: Option<Str>,
    pub owned: Option<Partitions>,
}

impl ConsumerHeartbeatRequest {
    /// It says everything, as a member does that joins or has lost its answer: then it is told everything.
    pub fn is_full(&self) -> bool {
        self.rebalance_timeout_ms.is_some()
            && (self.topics.is_some() || self.pattern.is_some())
            && self.owned.is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerHeartbeatAnswer {
    pub error: ErrorCode,
    pub message: Option<Str>,
    pub member_id: Option<Str>,
    pub epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// None: as before.
    pub assignment: Option<Vec<(Uuid, Vec<i32>)>>,
}

impl ConsumerHeartbeatAnswer {
    pub fn refused(error: ErrorCode, message: Option<Str>) -> ConsumerHeartbeatAnswer {
        ConsumerHeartbeatAnswer {
            error,
            message,
            member_id: None,
            epoch: 0,
            heartbeat_interval_ms: 0,
            assignment: None,
        }
    }
}

/// Why a request is refused, with a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub error: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { error, message: message.into() }
    }

    pub fn no_group(group: &str) -> Refusal {
        Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {group} is not a consumer group."))
    }

    pub fn no_member(group: &str, member: &str) -> Refusal {
        let message = format!("Member {member} is not a member of group {group}.");
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }
}

impl From<Refusal> for ConsumerHeartbeatAnswer {
    fn from(refusal: Refusal) -> ConsumerHeartbeatAnswer {
        ConsumerHeartbeatAnswer::refused(refusal.error, Some(Str::from(refusal.message)))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConsumerGroup {
    pub state: ConsumerGroupState,
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub assignor: Str,
    pub members: Vec<DescribedConsumer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConsumer {
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    pub epoch: i32,
    pub client_id: Str,
    pub client_host: Str,
    pub topics: Vec<Str>,
    pub pattern: Option<Str>,
    /// What it has, and what it has to give up and may still have.
    pub assigned: Vec<DescribedTopic>,
    pub target: Vec<DescribedTopic>,
    pub is_classic: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedTopic {
    pub id: Uuid,
    pub name: Str,
    pub partitions: Vec<i32>,
}
