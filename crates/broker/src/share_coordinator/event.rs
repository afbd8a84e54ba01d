//! What the share coordinator is asked about one share partition, and what it answers.

use protocol::{ErrorCode, Str};

use super::state::StateBatch;
pub use crate::coordinators::{Now, Record, ReplyId, Token};

pub type Effects = crate::coordinators::Effects<Answer>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The state begins anew, at this offset or, with −1, where the group's config says. A second time in the same epoch it does not.
    Initialize {
        state_epoch: i32,
        start_offset: i64,
    },
    /// A leader takes over; whoever led before is fenced.
    Read {
        leader_epoch: i32,
    },
    Write(WriteState),
    /// What has begun in a later epoch stays; −1: whatever there is goes.
    Delete {
        state_epoch: i32,
    },
    Summary,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteState {
    pub state_epoch: i32,
    pub leader_epoch: i32,
    /// −1: as before.
    pub start_offset: i64,
    pub delivery_complete_count: i32,
    pub batches: Vec<StateBatch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Done,
    State(ReadState),
    Summary(StateSummary),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadState {
    pub state_epoch: i32,
    pub start_offset: i64,
    pub batches: Vec<StateBatch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateSummary {
    pub state_epoch: i32,
    pub leader_epoch: i32,
    pub start_offset: i64,
    pub delivery_complete_count: i32,
}

/// Why something is refused, with a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub error: ErrorCode,
    pub message: Option<Str>,
}

impl Refusal {
    pub fn new(error: ErrorCode, message: &'static str) -> Refusal {
        Refusal { error, message: Some(Str::from_static(message)) }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Refusal {
        Refusal { error, message: None }
    }
}

pub type Answer = Result<Told, Refusal>;
