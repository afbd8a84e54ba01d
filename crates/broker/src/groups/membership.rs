//! Who is in a group, and how a group agrees on an assignment: JoinGroup, SyncGroup, Heartbeat, LeaveGroup and the
//! alarms between them.
//!
//! ```text
//!     Empty ──join──▶ PreparingRebalance ──all joined, or time is up──▶ CompletingRebalance ──leader's sync──▶ Stable
//!       ▲                 ▲      │                                            │                                 │
//!       └── nobody left ──┼──────┘       join, leave, a lost member           │                                 │
//!                         └──────────────────────────────────────────────────┴─────────────────────────────────┘
//! ```
//!
//! Behaviour after Kafka's `GroupMetadataManager` (the classic part). Where we differ: the answer to a first
//! JoinGroup waits until the new group is in the log; a member that leaves while it waits for an assignment is
//! answered UNKNOWN_MEMBER_ID instead of never; ids given out and not used yet are bounded.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{ErrorCode, Str};

use super::consumer::ConsumerGroup;
use super::entry::Kind;
use super::event::{
    Answer, Effects, HeartbeatRequest, JoinAnswer, JoinRequest, JoinedMember, LeaveAnswer, LeaveRequest,
    LeavingMember, Now, ReplyId, SyncAnswer, SyncRequest,
};
use super::group::{Group, GroupState};
use super::member::{Member, OfferedProtocol};
use super::records;
use super::shard::{AfterWrite, Shard, StaticReplacement};
use super::streams::StreamsGroup;
use super::timers::{Alarm, TimerKey};

/// Who waits for the end of a LeaveGroup.
type Leaving = (ReplyId, LeaveAnswer);

impl Shard {
    pub fn join(&mut self, request: JoinRequest, reply: ReplyId, now: Now, effects: &mut Effects) {
        let is_unknown_member = request.member_id.is_empty();
        let refuse = |error, effects: &mut Effects| {
            effects.join(reply, JoinAnswer::refused(error, request.member_id.clone()));
        };
        let timeouts = self.settings.session_timeout_ms_min..=self.settings.session_timeout_ms_max;
        if !timeouts.contains(&request.session_timeout_ms) {
            return refuse(ErrorCode::InvalidSessionTimeout, effects);
        }
        let offered = request.protocols.iter().map(|offered| offered.name.len() + offered.metadata.len());
        let offered: usize = offered.sum();
        if offered > self.settings.member_metadata_bytes_max {
            return refuse(ErrorCode::MessageTooLarge, effects);
        }
        let is_heavier =
            is_unknown_member || offered > self.offered_bytes(&request.group, &request.member_id);
        if is_heavier && !self.has_room_for_member(offered, now) {
            return refuse(ErrorCode::PolicyViolation, effects);
        }
        match self.consumer_group(&request.group) {
            Some(group) if !group.stored.members.is_empty() => {
                return self.join_consumer_group(request, reply, now, effects);
            }
            Some(_) if !is_unknown_member => return refuse(ErrorCode::UnknownMemberId, effects),
            Some(_) => self.clear_empty::<ConsumerGroup>(&request.group, effects),
            None => {}
        }
        match self.streams_group(&request.group) {
            Some(group) if group.has_members() => {
                let refused = JoinAnswer::refused(ErrorCode::InconsistentGroupProtocol, Str::default());
                return effects.join(reply, refused);
            }
            Some(_) if !is_unknown_member => return refuse(ErrorCode::UnknownMemberId, effects),
            Some(_) => self.clear_empty::<StreamsGroup>(&request.group, effects),
            None => {}
        }
        if self.share_group(&request.group).is_some() {
            return refuse(ErrorCode::InconsistentGroupProtocol, effects);
        }
        let is_new_group = !self.groups.contains_key(&request.group);
        if is_new_group && !is_unknown_member {
            return refuse(ErrorCode::UnknownMemberId, effects);
        }
        if is_new_group && self.is_full_of_groups() {
            return refuse(ErrorCode::PolicyViolation, effects);
        }
        if is_new_group {
            let id = request.group.detached();
            self.groups.insert(id.clone(), Group::new(id, now.wall_ms));
        }
        let group_id = self.group(&request.group).id.clone();
        let answers_before = effects.answers.len();
        if !self.accepts(&group_id, &request.member_id) {
            self.drop_member(&group_id, &request.member_id, effects);
            let refused = JoinAnswer::refused(ErrorCode::GroupMaxSizeReached, Str::default());
            effects.join(reply, refused);
        } else if is_unknown_member {
            self.join_new_member(&group_id, request, reply, now, effects);
        } else {
            self.join_known_member(&group_id, request, reply, now, effects);
        }
        if is_new_group {
            self.write_new_group(&group_id, answers_before, effects);
        }
    }

    /// What a member of a group has said about itself so far.
    fn offered_bytes(&self, group: &Str, member: &Str) -> usize {
        let known = self.groups.get(group).and_then(|group| group.members.get(member));
        let offered = known.into_iter().flat_map(|member| &member.protocols);
        offered.map(|offered| offered.name.len() + offered.metadata.len()).sum()
    }

    /// The group and the answer about it go into the log and out of the door in this order.
    fn write_new_group(&mut self, group_id: &Str, answers_before: usize, effects: &mut Effects) {
        let value = records::new_group_value(self.group(group_id));
        let record = self.group_record(group_id, value);
        let answer = effects.answers.drain(answers_before..).find_map(|(reply, answer)| match answer {
            Answer::Join(answer) => Some((reply, answer)),
            _ => None,
        });
        let after = AfterWrite::GroupCreated { group: group_id.clone(), answer };
        self.write(vec![record], Vec::new(), after, effects);
    }

    pub(super) fn group_created(
        &mut self,
        group_id: &Str,
        answer: Option<(ReplyId, JoinAnswer)>,
        outcome: Result<(), ErrorCode>,
        effects: &mut Effects,
    ) {
        let Err(error) = outcome else {
            if let Some((reply, answer)) = answer {
                effects.join(reply, answer);
            }
            return;
        };
        if let Some((reply, _)) = answer {
            effects.join(reply, JoinAnswer::refused(error, Str::default()));
        }
        // It never was. Whoever joined meanwhile looks for a coordinator again.
        if let Some(group) = self.groups.remove(group_id) {
            self.unload_group(&group, error, effects);
        }
    }

    /// Ids given out by MEMBER_ID_REQUIRED do not count into the size of a group, but have the same bound.
    fn accepts(&self, group_id: &Str, member_id: &Str) -> bool {
        let group = self.group(group_id);
        let size_max = self.settings.group_size_max;
        if member_id.is_empty() && group.pending_join.len() >= size_max {
            return false;
        }
        match group.state {
            GroupState::Empty => true,
            // Counted are those that wait, not the members: a group that is larger than a limit that was lowered
            // loses those who come last.
            GroupState::PreparingRebalance => {
                let is_waiting =
                    group.members.get(member_id).is_some_and(|member| member.awaiting_join.is_some());
                is_waiting || group.awaiting_join_count() < size_max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                group.members.contains_key(member_id) || group.members.len() < size_max
            }
        }
    }

    fn join_new_member(
        &mut self,
        group_id: &Str,
        request: JoinRequest,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        if !self.group(group_id).supports_protocols(&request.protocol_type, &request.protocols) {
            let refused = JoinAnswer::refused(ErrorCode::InconsistentGroupProtocol, Str::default());
            return effects.join(reply, refused);
        }
        let owner = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let member_id = Str::from(format!("{owner}-{}", dashed(request.fresh)));
        match request.instance_id.as_ref().map(|id| self.group(group_id).static_members.get(id).cloned()) {
            Some(Some(old_id)) => {
                self.replace_static(group_id, request, old_id, member_id, reply, now, effects)
            }
            Some(None) => self.add_member(group_id, request, member_id, reply, now, effects),
            None if request.requires_known_member_id => {
                self.group_mut(group_id).pending_join.insert(member_id.clone());
                self.watch(group_id, &member_id, request.session_timeout_ms, now);
                effects.join(reply, JoinAnswer::refused(ErrorCode::MemberIdRequired, member_id));
            }
            None => self.add_member(group_id, request, member_id, reply, now, effects),
        }
    }

    fn join_known_member(
        &mut self,
        group_id: &Str,
        request: JoinRequest,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        let group = self.group(group_id);
        let member_id = request.member_id.clone();
        let refuse =
            |error, effects: &mut Effects| effects.join(reply, JoinAnswer::refused(error, member_id.clone()));
        if !group.supports_protocols(&request.protocol_type, &request.protocols) {
            return refuse(ErrorCode::InconsistentGroupProtocol, effects);
        }
        if group.pending_join.contains(&member_id) {
            // An id given out by MEMBER_ID_REQUIRED belongs to a dynamic member.
            if request.instance_id.is_some() {
                return refuse(ErrorCode::UnknownMemberId, effects);
            }
            let owned = group.pending_join.get(&member_id).expect("is there").clone();
            return self.add_member(group_id, request, owned, reply, now, effects);
        }
        if let Err(error) = group.check_member(&member_id, request.instance_id.as_ref()) {
            return refuse(error, effects);
        }
        let is_unchanged = group.members[&member_id].protocols == request.protocols;
        let leads_stable_group = group.is_in(GroupState::Stable) && group.is_leader(&member_id);
        match group.state {
            GroupState::Empty => refuse(ErrorCode::UnknownMemberId, effects),
            // It did not get the answer of this generation, or has nothing new to say: the same again. A leader that
            // joins a stable group asks for a rebalance (topics changed, say).
            GroupState::CompletingRebalance | GroupState::Stable if is_unchanged && !leads_stable_group => {
                let answer = self.joined(group_id, &member_id);
                effects.join(reply, answer);
            }
            _ => {
                self.refuse_earlier_join(group_id, &member_id, effects);
                self.group_mut(group_id).update_member(
                    &member_id,
                    owned_protocols(&request),
                    request.rebalance_timeout_ms,
                    request.session_timeout_ms,
                    Some(reply),
                );
                self.rebalance_or_complete(group_id, None, now, effects);
            }
        }
    }

    /// A client that gave up waiting joins again: only its newest request can be answered usefully.
    fn refuse_earlier_join(&mut self, group_id: &Str, member_id: &Str, effects: &mut Effects) {
        if let Some(earlier) = self.group_mut(group_id).take_awaiting_join(member_id) {
            effects.join(earlier, JoinAnswer::refused(ErrorCode::RebalanceInProgress, member_id.clone()));
        }
    }

    fn add_member(
        &mut self,
        group_id: &Str,
        request: JoinRequest,
        member_id: Str,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        let member = Member {
            id: member_id.clone(),
            instance_id: request.instance_id.as_ref().map(Str::detached),
            client_id: request.client_id.detached(),
            client_host: request.client_host.detached(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: owned_protocols(&request),
            assignment: Bytes::new(),
            awaiting_join: Some(reply),
            awaiting_sync: None,
            is_new: true,
        };
        let group = self.group_mut(group_id);
        if group.is_in(GroupState::PreparingRebalance) && group.previous_state == Some(GroupState::Empty) {
            group.new_member_added = true;
        }
        if group.members.is_empty() {
            group.protocol_type = Some(request.protocol_type.detached());
        }
        group.add(member);
        // It has no id to send heartbeats with, and a parked connection does not tell that its client is gone.
        // A client that still lives will have asked again by then.
        let timeout_ms = self.settings.new_member_join_timeout_ms;
        self.watch_for(group_id, &member_id, timeout_ms, now);
        self.rebalance_or_complete(group_id, None, now, effects);
    }

    /// KIP-345: the same `group.instance.id`, started again.
    #[allow(clippy::too_many_arguments)]
    fn replace_static(
        &mut self,
        group_id: &Str,
        request: JoinRequest,
        old_id: Str,
        new_id: Str,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        let instance_id =
            self.group(group_id).members[&old_id].instance_id.clone().expect("is a static member");
        self.fence(group_id, &old_id, effects);
        let group = self.group_mut(group_id);
        let old_leader = group.leader.clone().unwrap_or_default();
        group.rename_static_member(&instance_id, &old_id, new_id.clone());
        let member = &group.members[&new_id];
        let replacement = StaticReplacement {
            group: group_id.clone(),
            instance_id,
            old_id: old_id.clone(),
            new_id: new_id.clone(),
            old_protocols: member.protocols.clone(),
            old_rebalance_timeout_ms: member.rebalance_timeout_ms,
            old_session_timeout_ms: member.session_timeout_ms,
            old_leader,
            can_skip_assignment: request.can_skip_assignment,
        };
        let session_timeout_ms = member.session_timeout_ms;
        group.update_member(
            &new_id,
            owned_protocols(&request),
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
            Some(reply),
        );
        self.timers.cancel_session(group_id, &old_id);
        self.watch(group_id, &new_id, session_timeout_ms, now);
        let group = self.group_mut(group_id);
        match group.state {
            // Nothing changes for the others: the new id takes the old one's assignment, and only has to be
            // remembered.
            GroupState::Stable if group.select_protocol() == group.protocol_name => {
                let value = records::group_value(group, |id| group.members[id].assignment.clone());
                let record = self.group_record(group_id, value);
                let after = AfterWrite::StaticMemberReplaced(Box::new(replacement));
                self.write(vec![record], Vec::new(), after, effects);
            }
            GroupState::Stable => self.rebalance_or_complete(group_id, None, now, effects),
            // The leader may be assigning to the old id right now, which would leave the new one without anything.
            GroupState::CompletingRebalance => self.prepare_rebalance(group_id, None, now, effects),
            GroupState::PreparingRebalance => self.complete_join_if_all_came(group_id, None, now, effects),
            GroupState::Empty => unreachable!("an empty group has no static member"),
        }
    }

    pub(super) fn static_member_replaced(
        &mut self,
        replacement: StaticReplacement,
        outcome: Result<(), ErrorCode>,
        now: Now,
        effects: &mut Effects,
    ) {
        let StaticReplacement { group: group_id, instance_id, old_id, new_id, old_leader, .. } = replacement;
        let Some(group) = self.groups.get_mut(&group_id) else { return };
        if !group.members.contains_key(&new_id) {
            // It left, or was replaced again; whoever waited was answered then.
            return;
        }
        match outcome {
            Ok(()) if group.is_in(GroupState::Stable) => {
                let Some(reply) = group.take_awaiting_join(&new_id) else { return };
                let mut answer = self.joined(&group_id, &new_id);
                match replacement.can_skip_assignment {
                    true => answer.skip_assignment = self.group(&group_id).is_leader(&new_id),
                    false => {
                        answer.leader = old_leader;
                        answer.members.clear();
                    }
                }
                effects.join(reply, answer);
                // Its alarm may have rung while it waited, which then meant nothing.
                let session_timeout_ms = self.group(&group_id).members[&new_id].session_timeout_ms;
                self.watch(&group_id, &new_id, session_timeout_ms, now);
            }
            // A rebalance began meanwhile: the member waits for its end like everybody.
            Ok(()) => {}
            Err(error) => {
                let reply = group.take_awaiting_join(&new_id);
                group.update_member(
                    &new_id,
                    replacement.old_protocols,
                    replacement.old_rebalance_timeout_ms,
                    replacement.old_session_timeout_ms,
                    None,
                );
                self.fence(&group_id, &new_id, effects);
                let group = self.group_mut(&group_id);
                group.rename_static_member(&instance_id, &new_id, old_id.clone());
                self.timers.cancel_session(&group_id, &new_id);
                self.watch(&group_id, &old_id, replacement.old_session_timeout_ms, now);
                if let Some(reply) = reply {
                    effects.join(reply, JoinAnswer::refused(error, Str::default()));
                }
                // Who joined meanwhile may know nothing of what it offered before, and then they cannot be in one group.
                if self.group(&group_id).select_protocol().is_none() {
                    self.drop_member(&group_id, &old_id, effects);
                    return self.rebalance_or_complete(&group_id, None, now, effects);
                }
                self.complete_join_if_all_came(&group_id, None, now, effects);
            }
        }
    }

    /// Whoever still speaks for a replaced static member is told that it is no more.
    fn fence(&mut self, group_id: &Str, member_id: &Str, effects: &mut Effects) {
        let group = self.group_mut(group_id);
        let awaiting_join = group.take_awaiting_join(member_id);
        let awaiting_sync = group.members.get_mut(member_id).and_then(|member| member.awaiting_sync.take());
        if let Some(reply) = awaiting_join {
            effects.join(reply, JoinAnswer::refused(ErrorCode::FencedInstanceId, member_id.clone()));
        }
        if let Some(reply) = awaiting_sync {
            effects.sync(reply, SyncAnswer::refused(ErrorCode::FencedInstanceId));
        }
    }

    /// What a member is told about the generation that the group is in.
    fn joined(&self, group_id: &Str, member_id: &Str) -> JoinAnswer {
        let group = self.group(group_id);
        let protocol = group.protocol_name.clone().unwrap_or_default();
        let described = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(&protocol),
        };
        JoinAnswer {
            error: ErrorCode::None,
            member_id: member_id.clone(),
            generation: group.generation,
            protocol_type: group.protocol_type.clone(),
            protocol_name: group.protocol_name.clone(),
            leader: group.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members: match group.is_leader(member_id) {
                true => group.members.values().map(described).collect(),
                false => Vec::new(),
            },
        }
    }

    fn rebalance_or_complete(
        &mut self,
        group_id: &Str,
        leaving: Option<Leaving>,
        now: Now,
        effects: &mut Effects,
    ) {
        match self.group(group_id).state {
            GroupState::PreparingRebalance => self.complete_join_if_all_came(group_id, leaving, now, effects),
            _ => self.prepare_rebalance(group_id, leaving, now, effects),
        }
    }

    pub(super) fn prepare_rebalance(
        &mut self,
        group_id: &Str,
        leaving: Option<Leaving>,
        now: Now,
        effects: &mut Effects,
    ) {
        let group = self.group_mut(group_id);
        let is_initial = group.is_in(GroupState::Empty);
        if group.is_in(GroupState::CompletingRebalance) {
            group.members.values_mut().for_each(|member| member.assignment = Bytes::new());
            self.answer_syncs(group_id, ErrorCode::RebalanceInProgress, now, effects);
        }
        self.group_mut(group_id).pending_sync.clear();
        self.timers.cancel(&TimerKey::Sync { group: group_id.clone() });
        self.group_mut(group_id).transition_to(GroupState::PreparingRebalance, now.wall_ms);
        let group = self.group(group_id);
        let rebalance_timeout_ms = ms(group.rebalance_timeout_ms());
        if is_initial {
            // More members are likely on their way; each rebalance costs all of them.
            let delay_ms = self.settings.initial_rebalance_delay_ms;
            let remaining_ms = rebalance_timeout_ms.saturating_sub(delay_ms);
            let alarm = Alarm::InitialJoin { group: group_id.clone(), delay_ms, remaining_ms };
            self.timers.set(now.monotonic_ms + delay_ms, alarm);
            answer_leaving(leaving, effects);
        } else if group.all_members_joined() {
            self.complete_join(group_id, leaving, now, effects);
        } else {
            self.timers.set(now.monotonic_ms + rebalance_timeout_ms, Alarm::Join { group: group_id.clone() });
            answer_leaving(leaving, effects);
        }
    }

    /// The join phase ends early once everybody is back, but the initial one takes its whole delay.
    fn complete_join_if_all_came(
        &mut self,
        group_id: &Str,
        leaving: Option<Leaving>,
        now: Now,
        effects: &mut Effects,
    ) {
        let group = self.group(group_id);
        let is_initial = group.previous_state == Some(GroupState::Empty);
        match group.is_in(GroupState::PreparingRebalance) && !is_initial && group.all_members_joined() {
            true => self.complete_join(group_id, leaving, now, effects),
            false => answer_leaving(leaving, effects),
        }
    }

    pub(super) fn initial_join_delay_ended(
        &mut self,
        group_id: &Str,
        delay_ms: u64,
        remaining_ms: u64,
        now: Now,
        effects: &mut Effects,
    ) {
        let initial_delay_ms = self.settings.initial_rebalance_delay_ms;
        let Some(group) = self.groups.get_mut(group_id) else { return };
        if group.new_member_added && remaining_ms != 0 {
            group.new_member_added = false;
            let next_delay_ms = initial_delay_ms.min(remaining_ms);
            let alarm = Alarm::InitialJoin {
                group: group_id.clone(),
                delay_ms: next_delay_ms,
                remaining_ms: remaining_ms.saturating_sub(delay_ms),
            };
            self.timers.set(now.monotonic_ms + next_delay_ms, alarm);
        } else {
            self.complete_join(group_id, None, now, effects);
        }
    }

    /// Ends the join phase with those who came.
    pub(super) fn complete_join(
        &mut self,
        group_id: &Str,
        leaving: Option<Leaving>,
        now: Now,
        effects: &mut Effects,
    ) {
        self.timers.cancel(&TimerKey::Join { group: group_id.clone() });
        let Some(group) = self.groups.get_mut(group_id) else { return answer_leaving(leaving, effects) };
        if !group.is_in(GroupState::PreparingRebalance) {
            return answer_leaving(leaving, effects);
        }
        // Static members keep their place until their session ends.
        let absent = |member: &&Member| member.awaiting_join.is_none() && !member.is_static();
        let absent: Vec<Str> =
            group.members.values().filter(absent).map(|member| member.id.clone()).collect();
        for member_id in &absent {
            group.remove(member_id);
            self.timers.cancel_session(group_id, member_id);
        }
        let group = self.groups.get_mut(group_id).expect("is there");
        if !group.elect_joined_leader() && !group.members.is_empty() {
            // Only static members are left and none came: wait on, until their sessions end.
            let at_ms = now.monotonic_ms + ms(group.rebalance_timeout_ms());
            self.timers.set(at_ms, Alarm::Join { group: group_id.clone() });
            return answer_leaving(leaving, effects);
        }
        group.new_member_added = false;
        group.begin_next_generation(now.wall_ms);
        match group.is_in(GroupState::Empty) {
            true => self.write_empty_group(group_id, leaving, effects),
            false => {
                self.answer_joins(group_id, now, effects);
                answer_leaving(leaving, effects);
            }
        }
    }

    fn write_empty_group(&mut self, group_id: &Str, leaving: Option<Leaving>, effects: &mut Effects) {
        let value = records::group_value(self.group(group_id), |_| Bytes::new());
        let record = self.group_record(group_id, value);
        let after = AfterWrite::GroupEmptied { answer: leaving };
        self.write(vec![record], Vec::new(), after, effects);
    }

    fn answer_joins(&mut self, group_id: &Str, now: Now, effects: &mut Effects) {
        let member_ids: Vec<Str> = self.group(group_id).members.keys().cloned().collect();
        for member_id in &member_ids {
            if let Some(reply) = self.group_mut(group_id).take_awaiting_join(member_id) {
                let answer = self.joined(group_id, member_id);
                effects.join(reply, answer);
            }
            let group = self.group_mut(group_id);
            let member = group.members.get_mut(member_id).expect("is a member");
            member.is_new = false;
            let session_timeout_ms = member.session_timeout_ms;
            group.pending_sync.insert(member_id.clone());
            self.watch(group_id, member_id, session_timeout_ms, now);
        }
        let group = self.group(group_id);
        let at_ms = now.monotonic_ms + ms(group.rebalance_timeout_ms());
        let alarm = Alarm::Sync { group: group_id.clone(), generation: group.generation };
        self.timers.set(at_ms, alarm);
    }

    pub fn sync(&mut self, request: SyncRequest, reply: ReplyId, now: Now, effects: &mut Effects) {
        if self.consumer_group(&request.group).is_some() {
            return self.sync_consumer_group(&request, reply, now, effects);
        }
        if let Err(error) = self.check_sync(&request) {
            return effects.sync(reply, SyncAnswer::refused(error));
        }
        let group = self.groups.get_mut(&request.group).expect("was checked");
        let group_id = group.id.clone();
        match group.state {
            GroupState::Empty | GroupState::PreparingRebalance => {
                effects.sync(reply, SyncAnswer::refused(ErrorCode::RebalanceInProgress));
            }
            GroupState::CompletingRebalance => {
                let is_leader = group.is_leader(&request.member_id);
                let member = group.members.get_mut(&request.member_id).expect("was checked");
                if let Some(earlier) = member.awaiting_sync.replace(reply) {
                    // A client that asks again has given up the first request.
                    effects.sync(earlier, SyncAnswer::refused(ErrorCode::RebalanceInProgress));
                }
                self.sync_received(&group_id, &request.member_id);
                if is_leader {
                    self.store_assignment(&group_id, request.assignments, now, effects);
                }
            }
            GroupState::Stable => {
                let answer = SyncAnswer {
                    error: ErrorCode::None,
                    protocol_type: group.protocol_type.clone(),
                    protocol_name: group.protocol_name.clone(),
                    assignment: group.members[&request.member_id].assignment.clone(),
                };
                self.sync_received(&group_id, &request.member_id);
                effects.sync(reply, answer);
            }
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        let group = self.groups.get(&request.group).ok_or(ErrorCode::UnknownMemberId)?;
        group.check_member(&request.member_id, request.instance_id.as_ref())?;
        if request.generation != group.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        // KIP-559: versions before 5 do not say which protocol they mean.
        let differs = |said: &Option<Str>, is: &Option<Str>| said.is_some() && is.is_some() && said != is;
        let is_consistent = !differs(&request.protocol_type, &group.protocol_type)
            && !differs(&request.protocol_name, &group.protocol_name);
        is_consistent.then_some(()).ok_or(ErrorCode::InconsistentGroupProtocol)
    }

    fn sync_received(&mut self, group_id: &Str, member_id: &Str) {
        let group = self.group_mut(group_id);
        group.pending_sync.remove(member_id);
        if group.pending_sync.is_empty() {
            self.timers.cancel(&TimerKey::Sync { group: group_id.clone() });
        }
    }

    fn store_assignment(
        &mut self,
        group_id: &Str,
        given: Vec<(Str, Bytes)>,
        now: Now,
        effects: &mut Effects,
    ) {
        let given: BTreeMap<Str, Bytes> = given.into_iter().collect();
        let record_bytes_max = self.settings.group_record_bytes_max;
        let group = self.group(group_id);
        // A member the leader forgot gets nothing, explicitly.
        let of = |id: &Str| given.get(id).map(|bytes| Bytes::copy_from_slice(bytes)).unwrap_or_default();
        let assignment: BTreeMap<Str, Bytes> = group.members.keys().map(|id| (id.clone(), of(id))).collect();
        let value = records::group_value(group, |id| assignment[id].clone());
        let generation = group.generation;
        let earlier_bytes = self.group_records.newest(group_id).map_or(0, Bytes::len);
        // What members have of it in memory, and the record.
        let more_bytes = (value.len() * 2).saturating_sub(earlier_bytes * 2);
        let is_too_much = more_bytes > 0 && !self.has_room_for(more_bytes, now);
        if value.len() > record_bytes_max || is_too_much {
            // Kafka answers the same for a record that its log does not take.
            let refused = Err(ErrorCode::UnknownServerError);
            return self.assignment_stored(group_id, generation, assignment, refused, now, effects);
        }
        let record = self.group_record(group_id, value);
        let after = AfterWrite::AssignmentStored { group: group_id.clone(), generation, assignment };
        self.write(vec![record], Vec::new(), after, effects);
    }

    pub(super) fn assignment_stored(
        &mut self,
        group_id: &Str,
        generation: i32,
        assignment: BTreeMap<Str, Bytes>,
        outcome: Result<(), ErrorCode>,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        if !group.is_in(GroupState::CompletingRebalance) || group.generation != generation {
            // The group has moved on; everybody was told to join again.
            return;
        }
        match outcome {
            Ok(()) => {
                for member in group.members.values_mut() {
                    member.assignment = assignment.get(&member.id).cloned().unwrap_or_default();
                }
                self.answer_syncs(group_id, ErrorCode::None, now, effects);
                self.group_mut(group_id).transition_to(GroupState::Stable, now.wall_ms);
            }
            Err(error) => {
                group.members.values_mut().for_each(|member| member.assignment = Bytes::new());
                self.answer_syncs(group_id, error, now, effects);
                self.prepare_rebalance(group_id, None, now, effects);
            }
        }
    }

    fn answer_syncs(&mut self, group_id: &Str, error: ErrorCode, now: Now, effects: &mut Effects) {
        let group = self.group_mut(group_id);
        let is_success = error == ErrorCode::None;
        let protocol_type = group.protocol_type.clone().filter(|_| is_success);
        let protocol_name = group.protocol_name.clone().filter(|_| is_success);
        let mut answered = Vec::new();
        for member in group.members.values_mut() {
            let Some(reply) = member.awaiting_sync.take() else { continue };
            let assignment = member.assignment.clone();
            let answer = SyncAnswer {
                error,
                protocol_type: protocol_type.clone(),
                protocol_name: protocol_name.clone(),
                assignment,
            };
            effects.sync(reply, answer);
            answered.push((member.id.clone(), member.session_timeout_ms));
        }
        // An alarm that rang while the member waited did nothing and set no other.
        for (member_id, session_timeout_ms) in answered {
            self.watch(group_id, &member_id, session_timeout_ms, now);
        }
    }

    pub(super) fn sync_phase_ended(
        &mut self,
        group_id: &Str,
        generation: i32,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        let has_synced = !matches!(group.state, GroupState::CompletingRebalance | GroupState::Stable);
        if group.generation != generation || has_synced || group.pending_sync.is_empty() {
            return;
        }
        let silent: Vec<Str> = group.pending_sync.iter().cloned().collect();
        for member_id in &silent {
            self.drop_member(group_id, member_id, effects);
        }
        self.prepare_rebalance(group_id, None, now, effects);
    }

    pub fn heartbeat(&mut self, request: &HeartbeatRequest, now: Now) -> ErrorCode {
        if self.consumer_group(&request.group).is_some() {
            return self.heartbeat_in_consumer_group(request, now);
        }
        let Some(group) = self.groups.get(&request.group) else { return ErrorCode::UnknownMemberId };
        if let Err(error) = group.check_member(&request.member_id, request.instance_id.as_ref()) {
            return error;
        }
        if request.generation != group.generation {
            return ErrorCode::IllegalGeneration;
        }
        let session_timeout_ms = group.members[&request.member_id].session_timeout_ms;
        let group_id = group.id.clone();
        let answer = match group.state {
            GroupState::Empty => return ErrorCode::UnknownMemberId,
            GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::None,
        };
        self.watch_own(&group_id, &request.member_id, session_timeout_ms, now);
        answer
    }

    pub fn leave(&mut self, request: LeaveRequest, reply: ReplyId, now: Now, effects: &mut Effects) {
        if self.consumer_group(&request.group).is_some() {
            return self.leave_consumer_group_as_classic(request, reply, now, effects);
        }
        let Some(group) = self.groups.get(&request.group) else {
            let unknown = |member| (member, ErrorCode::UnknownMemberId);
            let members = request.members.into_iter().map(unknown).collect();
            let answer = LeaveAnswer { error: ErrorCode::None, members };
            return answer_leaving(Some((reply, answer)), effects);
        };
        let (group_id, count_before) = (group.id.clone(), group.members.len());
        let members: Vec<(LeavingMember, ErrorCode)> = request
            .members
            .into_iter()
            .map(|member| {
                let error = self.leave_one(&group_id, &member, effects);
                (member, error)
            })
            .collect();
        // Somebody who was given an id and has not joined yet leaves behind what the others have.
        let has_left = self.group(&group_id).members.len() < count_before;
        let leaving = Some((reply, LeaveAnswer { error: ErrorCode::None, members }));
        match self.group(&group_id).state {
            GroupState::Empty => answer_leaving(leaving, effects),
            GroupState::PreparingRebalance => {
                self.complete_join_if_all_came(&group_id, leaving, now, effects);
            }
            _ if !has_left => answer_leaving(leaving, effects),
            _ => self.prepare_rebalance(&group_id, leaving, now, effects),
        }
    }

    fn leave_one(&mut self, group_id: &Str, leaving: &LeavingMember, effects: &mut Effects) -> ErrorCode {
        let group = self.group(group_id);
        let member_id = match (leaving.member_id.is_empty(), &leaving.instance_id) {
            // An administrator removes whoever holds the instance id.
            (true, Some(instance_id)) => match group.static_members.get(instance_id) {
                Some(member_id) => member_id.clone(),
                None => return ErrorCode::UnknownMemberId,
            },
            (true, None) => return ErrorCode::UnknownMemberId,
            (false, _) if group.pending_join.contains(&leaving.member_id) => leaving.member_id.clone(),
            (false, instance_id) => match group.check_member(&leaving.member_id, instance_id.as_ref()) {
                Ok(()) => leaving.member_id.clone(),
                Err(error) => return error,
            },
        };
        self.drop_member(group_id, &member_id, effects);
        ErrorCode::None
    }

    pub(super) fn session_ended(&mut self, group_id: &Str, member_id: &Str, now: Now, effects: &mut Effects) {
        let Some(group) = self.groups.get(group_id) else { return };
        if group.pending_join.contains(member_id) {
            self.drop_member(group_id, member_id, effects);
            let group = self.group(group_id);
            if group.is_in(GroupState::PreparingRebalance) && group.all_members_joined() {
                self.complete_join(group_id, None, now, effects);
            }
            return;
        }
        let Some(member) = group.members.get(member_id) else { return };
        if member.is_excused_from_heartbeat() {
            return;
        }
        self.drop_member(group_id, member_id, effects);
        let group = self.group(group_id);
        match group.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(group_id, None, now, effects);
            }
            GroupState::PreparingRebalance if group.all_members_joined() => {
                self.complete_join(group_id, None, now, effects);
            }
            _ => {}
        }
    }

    /// Removes a member, or an id given out, and answers whoever waits for it.
    pub(super) fn drop_member(&mut self, group_id: &Str, member_id: &Str, effects: &mut Effects) {
        let group = self.group_mut(group_id);
        let awaiting_join = group.take_awaiting_join(member_id);
        let removed = group.remove(member_id);
        self.timers.cancel_session(group_id, member_id);
        if let Some(reply) = awaiting_join {
            effects.join(reply, JoinAnswer::refused(ErrorCode::UnknownMemberId, Str::default()));
        }
        if let Some(reply) = removed.and_then(|member| member.awaiting_sync) {
            effects.sync(reply, SyncAnswer::refused(ErrorCode::UnknownMemberId));
        }
    }

    /// The broker stops, or the partition goes away: who waits is sent to look for the coordinator again. The
    /// groups stay in the log as they are.
    pub fn unload(&mut self, error: ErrorCode, effects: &mut Effects) {
        // Who waits in a consumer group waits for a write, and hears of its end.
        self.consumers.clear();
        self.streams.clear();
        self.shares.clear();
        let groups = std::mem::take(&mut self.groups);
        for group in groups.values() {
            self.unload_group(group, error, effects);
        }
    }

    pub(super) fn unload_group(&mut self, group: &Group, error: ErrorCode, effects: &mut Effects) {
        for member in group.members.values() {
            if let Some(reply) = member.awaiting_join {
                effects.join(reply, JoinAnswer::refused(error, member.id.clone()));
            }
            if let Some(reply) = member.awaiting_sync {
                effects.sync(reply, SyncAnswer::refused(error));
            }
        }
        let watched = group.members.keys().chain(&group.pending_join).cloned();
        self.timers.cancel_group(&group.id, watched);
    }

    /// The member's session begins anew.
    pub(super) fn watch(&mut self, group_id: &Str, member_id: &Str, session_timeout_ms: i32, now: Now) {
        self.watch_for(group_id, member_id, ms(session_timeout_ms), now);
    }

    /// As `watch`, for ids that stand in a frame: the alarm must not keep the frame.
    pub(super) fn watch_own(&mut self, group_id: &Str, member_id: &Str, session_timeout_ms: i32, now: Now) {
        let Some((owned, _)) = self.group(group_id).members.get_key_value(member_id) else { return };
        let owned = owned.clone();
        self.watch(group_id, &owned, session_timeout_ms, now);
    }

    fn watch_for(&mut self, group_id: &Str, member_id: &Str, timeout_ms: u64, now: Now) {
        let alarm = Alarm::Session { group: group_id.clone(), member: member_id.clone() };
        self.timers.set(now.monotonic_ms + timeout_ms, alarm);
    }

    fn group(&self, group_id: &Str) -> &Group {
        &self.groups[group_id]
    }

    fn group_mut(&mut self, group_id: &Str) -> &mut Group {
        self.groups.get_mut(group_id).expect("the group is there")
    }
}

fn answer_leaving(leaving: Option<Leaving>, effects: &mut Effects) {
    if let Some((reply, answer)) = leaving {
        effects.answer(reply, Answer::Leave(answer));
    }
}

/// What a member offers, in memory of its own: the frame it came in may be much larger.
pub(super) fn owned_protocols(request: &JoinRequest) -> Vec<OfferedProtocol> {
    let owned = |offered: &OfferedProtocol| OfferedProtocol {
        name: offered.name.detached(),
        metadata: Bytes::copy_from_slice(&offered.metadata),
    };
    request.protocols.iter().map(owned).collect()
}

fn ms(timeout_ms: i32) -> u64 {
    u64::try_from(timeout_ms).unwrap_or(0)
}

/// Random bytes as Java prints a UUID.
pub(super) fn dashed(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
