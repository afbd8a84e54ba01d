//! One member of a consumer group: what it says about itself, and how far it is with its assignment.

use std::collections::BTreeSet;

use protocol::{Str, Uuid};

use super::assignment::Assigned;
use crate::groups::member::OfferedProtocol;

/// The epoch of a member that joins.
pub const JOINING_EPOCH: i32 = 0;
/// The epoch a member leaves with.
pub const LEAVING_EPOCH: i32 = -1;
/// The epoch a static member leaves with for a while: its partitions wait for it until its session ends.
pub const LEAVING_FOR_A_WHILE_EPOCH: i32 = -2;

/// What a member says about itself; its record of type 5.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub rebalance_timeout_ms: i32,
    pub topics: BTreeSet<Str>,
    /// A regular expression over topic names; never empty.
    pub pattern: Option<Str>,
    /// The assignor it prefers.
    pub assignor: Option<Str>,
    /// It speaks JoinGroup and SyncGroup, and the group is on its way from or to the classic protocol.
    pub classic: Option<Classic>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classic {
    pub session_timeout_ms: i32,
    pub protocols: Vec<OfferedProtocol>,
}

/// Kafka's `MemberState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemberState {
    /// It has what it should have, in the epoch it is in.
    #[default]
    Stable,
    /// It has to give partitions up before it gets further.
    Unrevoked,
    /// It waits for partitions that others have not given up yet.
    Unreleased,
    /// From a newer release of Kafka; the member has to join anew.
    Unknown,
}

impl MemberState {
    pub fn code(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::Unrevoked => 1,
            MemberState::Unreleased => 2,
            MemberState::Unknown => 127,
        }
    }

    pub fn from_code(code: i8) -> MemberState {
        match code {
            0 => MemberState::Stable,
            1 => MemberState::Unrevoked,
            2 => MemberState::Unreleased,
            _ => MemberState::Unknown,
        }
    }
}

/// How far a member is with its assignment; its record of type 8.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    pub epoch: i32,
    /// The answer with the newer epoch may have been lost: the member may still come with this one.
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Assigned,
    /// Still at the member, which was told to give them up.
    pub pending_revocation: Assigned,
}

impl Progress {
    /// The same member in another epoch.
    pub fn moved_to(&self, epoch: i32) -> Progress {
        Progress { epoch, previous_epoch: self.epoch, ..self.clone() }
    }

    /// These partitions are another's. Those that it should have it waits for.
    pub fn lose(&mut self, partitions: &[(Uuid, i32)]) {
        for (topic, partition) in partitions {
            for held in [&mut self.assigned, &mut self.pending_revocation] {
                if let Some(of_topic) = held.get_mut(topic) {
                    of_topic.remove(partition);
                    if of_topic.is_empty() {
                        held.remove(topic);
                    }
                }
            }
        }
        if self.state == MemberState::Stable {
            self.state = MemberState::Unreleased;
        }
    }

    pub fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    pub profile: Profile,
    pub progress: Progress,
}

impl Member {
    pub fn is_classic(&self) -> bool {
        self.profile.classic.is_some()
    }

    /// A static member that has left for a while.
    pub fn is_away(&self) -> bool {
        self.progress.epoch == LEAVING_FOR_A_WHILE_EPOCH
    }
}
