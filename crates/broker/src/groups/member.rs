//! One member of a classic group.

use std::collections::BTreeSet;

use bytes::Bytes;
use protocol::Str;

pub use crate::coordinators::ReplyId;

/// A protocol (assignor) that a member offers, in its order of preference, with what it says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedProtocol {
    pub name: Str,
    pub metadata: Bytes,
}

#[derive(Debug, Clone)]
pub struct Member {
    pub id: Str,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub protocols: Vec<OfferedProtocol>,
    pub assignment: Bytes,
    /// Somebody waits for the answer of this member's JoinGroup.
    pub awaiting_join: Option<ReplyId>,
    /// Somebody waits for the answer of this member's SyncGroup.
    pub awaiting_sync: Option<ReplyId>,
    /// Joined for the first time and has no answer yet: it cannot send heartbeats.
    pub is_new: bool,
}

impl Member {
    pub fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        let offered = self.protocols.iter().find(|offered| offered.name == protocol);
        offered.map(|offered| offered.metadata.clone()).unwrap_or_default()
    }

    /// Whether its session must not be ended although no heartbeat came. A member that waits for a rebalance
    /// cannot send heartbeats; a new one can vanish while it waits, so it is not spared.
    pub fn is_excused_from_heartbeat(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    /// Its favourite among the protocols that all members support.
    pub fn vote<'a>(&'a self, candidates: &BTreeSet<&Str>) -> Option<&'a Str> {
        self.protocols.iter().map(|offered| &offered.name).find(|name| candidates.contains(name))
    }
}
