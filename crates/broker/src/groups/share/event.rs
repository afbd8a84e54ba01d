//! What share groups are asked and what they answer, in their own words.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{ErrorCode, Str, Uuid};

use crate::groups::consumer::{DescribedTopic, Refusal};

#[derive(Debug, Clone)]
pub struct ShareHeartbeatRequest {
    pub group: Str,
    pub member_id: Str,
    /// 0 joins, −1 leaves.
    pub epoch: i32,
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    /// None: as I said before.
    pub topics: Option<Vec<Str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareHeartbeatAnswer {
    pub error: ErrorCode,
    pub message: Option<Str>,
    pub member_id: Option<Str>,
    pub epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// None: as before.
    pub assignment: Option<Vec<(Uuid, Vec<i32>)>>,
    /// To be initialized at the share coordinator now; the member need not wait for that.
    pub initialize: Option<Initialize>,
}

/// States of share partitions that begin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Initialize {
    pub state_epoch: i32,
    /// With the offset to begin at; −1: where the group's config says.
    pub partitions: BTreeMap<(Uuid, i32), i64>,
}

impl ShareHeartbeatAnswer {
    pub fn refused(error: ErrorCode, message: Option<Str>) -> ShareHeartbeatAnswer {
        ShareHeartbeatAnswer {
            error,
            message,
            member_id: None,
            epoch: 0,
            heartbeat_interval_ms: 0,
            assignment: None,
            initialize: None,
        }
    }
}

impl From<Refusal> for ShareHeartbeatAnswer {
    fn from(refusal: Refusal) -> ShareHeartbeatAnswer {
        ShareHeartbeatAnswer::refused(refusal.error, Some(Str::from(refusal.message)))
    }
}

/// The answer of everything that changes what states a group has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareStatesAnswer {
    Refused(Refusal),
    /// What the share coordinator has to begin.
    Initialize(Initialize),
    /// What the share coordinator has to delete, and topics of which there is nothing.
    Delete {
        /// What begins in a later one stays.
        state_epoch: i32,
        partitions: BTreeSet<(Uuid, i32)>,
        unknown: Vec<Str>,
    },
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedShareGroup {
    pub state: ShareGroupState,
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub members: Vec<DescribedShareMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedShareMember {
    pub member_id: Str,
    pub rack_id: Option<Str>,
    pub epoch: i32,
    pub client_id: Str,
    pub client_host: Str,
    pub topics: Vec<Str>,
    pub assigned: Vec<DescribedTopic>,
}

/// Kafka's `Dead` is missing: a dead group is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareGroupState {
    Empty,
    Stable,
}

impl ShareGroupState {
    pub fn name(self) -> &'static str {
        match self {
            ShareGroupState::Empty => "Empty",
            ShareGroupState::Stable => "Stable",
        }
    }
}
