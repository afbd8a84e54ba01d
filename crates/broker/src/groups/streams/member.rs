//! One member of a streams group, which is one thread of an application: what it says about itself, and how far it is with its
//! tasks.

use std::collections::BTreeMap;

use protocol::Str;

use super::tasks::HeldTasks;

/// The epoch of a member that joins.
pub const JOINING_EPOCH: i32 = 0;
/// The epoch a member leaves with.
pub const LEAVING_EPOCH: i32 = -1;
/// The epoch a static member leaves with for a while: its tasks wait for it until its session ends.
pub const LEAVING_FOR_A_WHILE_EPOCH: i32 = -2;

/// Where the application of a member answers questions about its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: Str,
    pub port: u16,
}

/// What a member says about itself; its record of type 19.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub rebalance_timeout_ms: i32,
    pub topology_epoch: i32,
    /// Members of one process share a directory of state: no task is twice with them.
    pub process_id: Str,
    pub endpoint: Option<Endpoint>,
    pub client_tags: BTreeMap<Str, Str>,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            instance_id: None,
            rack_id: None,
            client_id: Str::default(),
            client_host: Str::default(),
            rebalance_timeout_ms: -1,
            topology_epoch: -1,
            process_id: Str::default(),
            endpoint: None,
            client_tags: BTreeMap::new(),
        }
    }
}

/// Kafka's `MemberState` of streams groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemberState {
    /// It has what it should have, in the epoch it is in.
    #[default]
    Stable,
    /// It has to give tasks up before it gets further.
    Unrevoked,
    /// It waits for tasks that others have not given up yet.
    Unreleased,
    /// From a newer release of Kafka; the member has to join anew.
    Unknown,
}

impl MemberState {
    pub fn code(self) -> i8 {
        match self {
            MemberState::Stable => 1,
            MemberState::Unrevoked => 2,
            MemberState::Unreleased => 3,
            MemberState::Unknown => 127,
        }
    }

    pub fn from_code(code: i8) -> MemberState {
        match code {
            1 => MemberState::Stable,
            2 => MemberState::Unrevoked,
            3 => MemberState::Unreleased,
            _ => MemberState::Unknown,
        }
    }
}

/// How far a member is with its tasks; its record of type 22.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    pub epoch: i32,
    /// The answer with the newer epoch may have been lost: the member may still come with this one.
    pub previous_epoch: i32,
    pub state: MemberState,
    pub held: HeldTasks,
    /// Still at the member, which was told to give them up.
    pub pending_revocation: HeldTasks,
}

impl Progress {
    /// The same member in another epoch.
    pub fn moved_to(&self, epoch: i32) -> Progress {
        Progress { epoch, previous_epoch: self.epoch, ..self.clone() }
    }

    /// These tasks are another's. Those that it should have it waits for.
    pub fn lose(&mut self, tasks: &[(Str, i32)]) {
        for (subtopology, task) in tasks {
            self.held.remove(subtopology, *task);
            self.pending_revocation.remove(subtopology, *task);
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
    /// A static member that has left for a while.
    pub fn is_away(&self) -> bool {
        self.progress.epoch == LEAVING_FOR_A_WHILE_EPOCH
    }
}
