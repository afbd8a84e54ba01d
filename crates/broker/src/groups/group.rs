//! One classic group: who is in it, in which state and generation. It decides nothing by itself; `membership.rs`
//! drives it. Kafka: `ClassicGroup`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::{Buf, Bytes};
use protocol::{ErrorCode, Str};

use super::member::{Member, OfferedProtocol, ReplyId};

/// The protocol type of consumers. Only for this type does the broker read the members' subscriptions.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// Kafka's `Dead` is missing here: a dead group is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl GroupState {
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }

    fn may_follow(self, previous: GroupState) -> bool {
        use GroupState::*;
        match self {
            Empty | CompletingRebalance => previous == PreparingRebalance,
            PreparingRebalance => matches!(previous, Stable | CompletingRebalance | Empty),
            Stable => previous == CompletingRebalance,
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug, Clone)]
pub struct Group {
    pub id: Str,
    pub state: GroupState,
    pub previous_state: Option<GroupState>,
    /// When the state was entered, Unix ms. None when the record it came from did not say.
    pub state_since_ms: Option<i64>,
    pub protocol_type: Option<Str>,
    pub protocol_name: Option<Str>,
    pub generation: i32,
    pub leader: Option<Str>,
    /// By member id. Ordered, so that the same events give the same answers.
    pub members: BTreeMap<Str, Member>,
    /// Member ids by `group.instance.id`.
    pub static_members: BTreeMap<Str, Str>,
    /// Ids given out by MEMBER_ID_REQUIRED (KIP-394) whose owners have not come back yet.
    pub pending_join: BTreeSet<Str>,
    /// Members of this generation that have not sent SyncGroup.
    pub pending_sync: BTreeSet<Str>,
    /// None: not a consumer group, or a subscription could not be read.
    pub subscribed_topics: Option<BTreeSet<Str>>,
    /// Somebody joined during the initial rebalance delay, which is then prolonged.
    pub new_member_added: bool,
    /// How many members offer each protocol.
    supported: BTreeMap<Str, usize>,
    awaiting_join_count: usize,
}

impl Group {
    pub fn new(id: Str, now_ms: i64) -> Group {
        Group {
            id,
            state: GroupState::Empty,
            previous_state: None,
            state_since_ms: Some(now_ms),
            protocol_type: None,
            protocol_name: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            subscribed_topics: None,
            new_member_added: false,
            supported: BTreeMap::new(),
            awaiting_join_count: 0,
        }
    }

    pub fn is_in(&self, state: GroupState) -> bool {
        self.state == state
    }

    pub fn transition_to(&mut self, state: GroupState, now_ms: i64) {
        assert!(state.may_follow(self.state), "group {}: {} cannot follow {}", self.id, state, self.state);
        self.previous_state = Some(self.state);
        self.state = state;
        self.state_since_ms = Some(now_ms);
    }

    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_ref().is_some_and(|leader| leader == member_id)
    }

    pub fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_ref().is_some_and(|kind| kind == CONSUMER_PROTOCOL_TYPE)
    }

    pub fn awaiting_join_count(&self) -> usize {
        self.awaiting_join_count
    }

    pub fn all_members_joined(&self) -> bool {
        self.members.len() == self.awaiting_join_count && self.pending_join.is_empty()
    }

    /// The group waits for its slowest member.
    pub fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    pub fn add(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            let earlier = self.static_members.insert(instance_id.clone(), member.id.clone());
            assert!(earlier.is_none(), "group {}: static member {instance_id} added twice", self.id);
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.count_protocols(&member.protocols);
        if member.awaiting_join.is_some() {
            self.awaiting_join_count += 1;
        }
        self.pending_join.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member or a pending id away. Who waits for an answer of the member must have been answered.
    pub fn remove(&mut self, member_id: &str) -> Option<Member> {
        let removed = self.members.remove(member_id);
        if let Some(member) = &removed {
            self.discount_protocols(&member.protocols);
            if member.awaiting_join.is_some() {
                self.awaiting_join_count -= 1;
            }
            if let Some(instance_id) = &member.instance_id {
                self.static_members.remove(instance_id);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        removed
    }

    /// New offers and timeouts of a member, and whether it waits for a join answer now.
    pub fn update_member(
        &mut self,
        member_id: &str,
        protocols: Vec<OfferedProtocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
        awaiting_join: Option<ReplyId>,
    ) {
        let Some(mut member) = self.members.remove(member_id) else { return };
        self.discount_protocols(&member.protocols);
        self.count_protocols(&protocols);
        self.awaiting_join_count -= usize::from(member.awaiting_join.is_some());
        self.awaiting_join_count += usize::from(awaiting_join.is_some());
        member.protocols = protocols;
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        member.awaiting_join = awaiting_join;
        self.members.insert(member.id.clone(), member);
    }

    /// Takes the waiting join answer of a member.
    pub fn take_awaiting_join(&mut self, member_id: &str) -> Option<ReplyId> {
        let reply = self.members.get_mut(member_id)?.awaiting_join.take()?;
        self.awaiting_join_count -= 1;
        Some(reply)
    }

    /// A static member came back under another member id (KIP-345). The answers that its old self waits for
    /// must have been given.
    pub fn rename_static_member(&mut self, instance_id: &Str, old_id: &str, new_id: Str) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        assert!(member.awaiting_join.is_none() && member.awaiting_sync.is_none());
        member.id = new_id.clone();
        member.is_new = false;
        self.members.insert(new_id.clone(), member);
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        self.pending_sync.remove(old_id);
        self.static_members.insert(instance_id.clone(), new_id);
    }

    /// KIP-345: who claims a `group.instance.id` must be the member that holds it.
    pub fn check_member(&self, member_id: &str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// Whether somebody with these offers can be a member beside those that are.
    pub fn supports_protocols(&self, protocol_type: &str, protocols: &[OfferedProtocol]) -> bool {
        if self.is_in(GroupState::Empty) {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let is_same_type = self.protocol_type.as_ref().is_some_and(|kind| kind == protocol_type);
        let supporters = |offered: &OfferedProtocol| self.supported.get(&offered.name).copied().unwrap_or(0);
        is_same_type && protocols.iter().any(|offered| supporters(offered) == self.members.len())
    }

    /// The protocol that all members support and most of them prefer. Between equals the first member's order
    /// decides, so that the choice does not depend on a hash seed.
    pub fn select_protocol(&self) -> Option<Str> {
        let everybody = self.members.len();
        let candidates: BTreeSet<&Str> =
            self.supported.iter().filter(|(_, count)| **count == everybody).map(|(name, _)| name).collect();
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for vote in self.members.values().filter_map(|member| member.vote(&candidates)) {
            *votes.entry(vote).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        let first_member = self.members.values().next()?;
        let favourite = first_member.protocols.iter().map(|offered| &offered.name);
        favourite.into_iter().find(|name| votes.get(name) == Some(&most)).cloned()
    }

    /// When the leader did not come back in time, one who did takes its place. False when nobody did.
    pub fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = self.leader.as_ref().and_then(|leader| self.members.get(leader)) else {
            return false;
        };
        if leader.awaiting_join.is_some() {
            return true;
        }
        match self.members.values().find(|member| member.awaiting_join.is_some()) {
            Some(joined) => {
                self.leader = Some(joined.id.clone());
                true
            }
            None => false,
        }
    }

    pub fn begin_next_generation(&mut self, now_ms: i64) {
        self.generation = self.generation.wrapping_add(1);
        let next_state = match self.members.is_empty() {
            true => {
                self.protocol_name = None;
                GroupState::Empty
            }
            false => {
                self.protocol_name = self.select_protocol();
                assert!(
                    self.protocol_name.is_some(),
                    "group {}: members without a protocol in common",
                    self.id
                );
                GroupState::CompletingRebalance
            }
        };
        self.subscribed_topics = self.read_subscriptions();
        self.pending_sync.clear();
        self.transition_to(next_state, now_ms);
    }

    /// The topics all members subscribe to, as far as this group is one of consumers and says so readably.
    pub fn read_subscriptions(&self) -> Option<BTreeSet<Str>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol_name.as_ref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    /// A consumer group whose subscriptions are unknown counts as subscribed to everything: its offsets are
    /// kept rather than lost.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    fn count_protocols(&mut self, protocols: &[OfferedProtocol]) {
        for offered in distinct(protocols) {
            *self.supported.entry(offered.clone()).or_default() += 1;
        }
    }

    fn discount_protocols(&mut self, protocols: &[OfferedProtocol]) {
        for offered in distinct(protocols) {
            if let Some(count) = self.supported.get_mut(offered) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(offered);
                }
            }
        }
    }

    /// What must hold after every event. For tests.
    #[cfg(test)]
    pub fn check_invariants(&self) {
        let awaiting = self.members.values().filter(|member| member.awaiting_join.is_some()).count();
        assert_eq!(awaiting, self.awaiting_join_count, "group {}: awaiting join", self.id);
        if let Some(leader) = &self.leader {
            assert!(self.members.contains_key(leader), "group {}: leader {leader} is no member", self.id);
        }
        assert_eq!(self.leader.is_some(), !self.members.is_empty(), "group {}: one leader", self.id);
        for (instance_id, member_id) in &self.static_members {
            assert_eq!(self.members[member_id].instance_id.as_ref(), Some(instance_id));
        }
        let statics = self.members.values().filter(|member| member.is_static()).count();
        assert_eq!(statics, self.static_members.len());
        assert!(self.pending_join.iter().all(|id| !self.members.contains_key(id)));
        assert!(self.pending_sync.iter().all(|id| self.members.contains_key(id)));
        match self.state {
            GroupState::Empty => assert!(self.members.is_empty()),
            GroupState::Stable | GroupState::CompletingRebalance => assert!(self.protocol_name.is_some()),
            GroupState::PreparingRebalance => {}
        }
        if !matches!(self.state, GroupState::CompletingRebalance) {
            assert!(self.members.values().all(|member| member.awaiting_sync.is_none()));
        }
    }
}

/// A list of protocols may name one twice (the wire has no sets); it counts once.
fn distinct(protocols: &[OfferedProtocol]) -> BTreeSet<&Str> {
    protocols.iter().map(|offered| &offered.name).collect()
}

/// The topics of a consumer's subscription. Read as version 0, which every later version begins with.
fn subscribed_topics(metadata: &Bytes) -> Option<Vec<Str>> {
    let mut rest = &metadata[..];
    let version = rest.try_get_i16().ok()?;
    let count = rest.try_get_i32().ok()?;
    if version < 0 || count < 0 {
        return None;
    }
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(rest.try_get_i16().ok()?).ok()?;
        if rest.len() < length {
            return None;
        }
        let (name, behind) = rest.split_at(length);
        topics.push(Str::from(std::str::from_utf8(name).ok()?));
        rest = behind;
    }
    Some(topics)
}
