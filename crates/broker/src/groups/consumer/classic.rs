//! Members that speak the classic protocol in a consumer group, while its members move from one protocol to the other: JoinGroup
//! asks for the next step of the assignment, SyncGroup gets it, Heartbeat says when to ask again. None of them is a leader.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{ErrorCode, Str};

use super::assignment::Partitions;
use super::checks::{Asking, check_holder, check_room, known_member};
use super::group::ConsumerGroup;
use super::member::{Classic, JOINING_EPOCH, Member, MemberState, Profile, Progress};
use super::{Entry, Refusal, Work, embedded};
use crate::groups::event::{
    Answer, Effects, HeartbeatRequest, JoinAnswer, JoinRequest, LeaveAnswer, LeaveRequest, LeavingMember,
    Now, ReplyId, SyncAnswer, SyncRequest,
};
use crate::groups::group::CONSUMER_PROTOCOL_TYPE;
use crate::groups::membership::{dashed, owned_protocols};
use crate::groups::shard::Shard;
use crate::groups::timers::{ConsumerAlarm, TimerKey};

impl Shard {
    pub(in crate::groups) fn join_consumer_group(
        &mut self,
        request: JoinRequest,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(&request.group);
        let outcome = self.join_as_classic(&group_id, &mut entry, &request, reply, now, effects);
        self.keep_entry(group_id, entry);
        match outcome {
            Ok(Joined::Answered) => {}
            Ok(Joined::NowClassic { id }) => {
                let request = JoinRequest { member_id: id, requires_known_member_id: false, ..request };
                self.join(request, reply, now, effects);
            }
            Err(refusal) => effects.join(reply, JoinAnswer::refused(refusal.error, request.member_id)),
        }
    }

    fn join_as_classic(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        request: &JoinRequest,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Joined, Refusal> {
        let settings = self.settings.clone();
        let group = entry.group().expect("was looked up");
        let is_unknown = request.member_id.is_empty();
        let own_id = match is_unknown {
            true => {
                let owner = request.instance_id.as_ref().unwrap_or(&request.client_id);
                Str::from(format!("{owner}-{}", dashed(request.fresh)))
            }
            false => request.member_id.detached(),
        };
        check_room(group, &own_id, &settings)?;
        let is_supported = request.protocol_type == CONSUMER_PROTOCOL_TYPE
            && group.supports_classic(request.protocols.iter().map(|offered| &offered.name));
        let first = request.protocols.first().filter(|_| is_supported);
        let subscription =
            first.and_then(|offered| embedded::subscription(&offered.metadata, &*settings.catalog));
        let (Some(first), Some(subscription)) = (first, subscription) else {
            let message = format!("Member {own_id}'s protocols are not supported.");
            return Err(Refusal::new(ErrorCode::InconsistentGroupProtocol, message));
        };
        if request.instance_id.is_none() && is_unknown && request.requires_known_member_id {
            effects.join(reply, JoinAnswer::refused(ErrorCode::MemberIdRequired, own_id));
            return Ok(Joined::Answered);
        }
        let holder = match &request.instance_id {
            None => None,
            Some(instance_id) if is_unknown => group.static_members(instance_id).last().cloned(),
            Some(instance_id) => Some(check_holder(group_id, group, &own_id, instance_id)?),
        };
        let mut work = Work::default();
        self.mend(group_id, entry, &mut work);
        let asking = self.classic_asking(group_id, entry, own_id, holder, &mut work);
        let profile = Profile {
            instance_id: request.instance_id.as_ref().map(Str::detached),
            rack_id: subscription.rack_id,
            client_id: request.client_id.detached(),
            client_host: request.client_host.detached(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            topics: subscription.topics,
            pattern: None,
            assignor: asking.before.profile.assignor.clone(),
            classic: Some(Classic {
                session_timeout_ms: request.session_timeout_ms,
                protocols: owned_protocols(request),
            }),
        };
        let was_of_new_protocol = asking.before != Member::default() && !asking.before.is_classic();
        let has_changed = self.subscribe(entry, &asking, profile, None, now, &mut work);
        if was_of_new_protocol && self.may_downgrade(entry, &[]) {
            // It replaced the last member of the new protocol.
            self.write_changes(group_id, entry, work, None, effects);
            self.downgrade(group_id, entry, &[], None, now, effects);
            return Ok(Joined::NowClassic { id: asking.id });
        }
        self.assign_if_due(group_id, entry, now, &mut work);
        self.reconcile(group_id, entry, &asking, Some(&subscription.owned), has_changed, now, &mut work);
        self.timers.cancel(&TimerKey::consumer(group_id, &asking.id, ConsumerAlarm::Join));
        self.watch_consumer(group_id, &asking.id, ConsumerAlarm::Session, request.session_timeout_ms, now);
        self.watch_consumer(group_id, &asking.id, ConsumerAlarm::Sync, request.rebalance_timeout_ms, now);
        let member = entry.group().expect("is open").member(&asking.id).expect("was just put there");
        let answer = JoinAnswer {
            error: ErrorCode::None,
            member_id: asking.id.clone(),
            generation: member.progress.epoch,
            protocol_type: Some(Str::from_static(CONSUMER_PROTOCOL_TYPE)),
            protocol_name: Some(first.name.clone()),
            leader: Str::default(),
            skip_assignment: false,
            members: Vec::new(),
        };
        self.write_changes(group_id, entry, work, Some((reply, Answer::Join(answer))), effects);
        Ok(Joined::Answered)
    }

    /// The member under the id it will have; it may take the place of a static one, of either protocol.
    fn classic_asking(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        own_id: Str,
        holder: Option<Str>,
        work: &mut Work,
    ) -> Asking {
        let group = entry.group().expect("is open");
        match holder {
            Some(holder) if holder != own_id => {
                let mut member = Member::clone(group.member(&holder).expect("holds the instance id"));
                member.progress =
                    Progress { epoch: JOINING_EPOCH, previous_epoch: JOINING_EPOCH, ..member.progress };
                self.replace_consumer(group_id, entry, &holder, &own_id, &member, work);
                Asking { id: own_id, before: member }
            }
            _ => match group.member(&own_id) {
                Some(member) => Asking { id: own_id, before: Member::clone(member) },
                None => Asking { id: own_id, before: Member::default() },
            },
        }
    }

    pub(in crate::groups) fn sync_consumer_group(
        &mut self,
        request: &SyncRequest,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(&request.group);
        match self.sync_as_classic(&group_id, &entry, request, now) {
            Ok(answer) => {
                if let Some((reply, answer)) = entry.answer_behind(reply, Answer::Sync(answer)) {
                    effects.answer(reply, answer);
                }
            }
            Err(error) => effects.sync(reply, SyncAnswer::refused(error)),
        }
        self.keep_entry(group_id, entry);
    }

    fn sync_as_classic(
        &mut self,
        group_id: &Str,
        entry: &Entry,
        request: &SyncRequest,
        now: Now,
    ) -> Result<SyncAnswer, ErrorCode> {
        let group = entry.group().expect("was looked up");
        let (id, member) = classic_member(group_id, group, &request.member_id, request.instance_id.as_ref())?;
        let classic = member.profile.classic.as_ref().expect("was checked");
        if request.generation != member.progress.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        let protocol = classic.protocols.first();
        let is_same =
            |said: &Option<Str>, is: Option<&str>| said.as_deref().is_none_or(|said| Some(said) == is);
        if !is_same(&request.protocol_type, Some(CONSUMER_PROTOCOL_TYPE))
            || !is_same(&request.protocol_name, protocol.map(|offered| &*offered.name))
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // One that gives partitions up has joined for the newest epoch already, and joins again when it has done so.
        let is_behind = group.stored.target_epoch.epoch > member.progress.epoch;
        if is_behind && member.progress.state != MemberState::Unrevoked {
            self.expect_join(group_id, &id, member.profile.rebalance_timeout_ms, now);
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.timers.cancel(&TimerKey::consumer(group_id, &id, ConsumerAlarm::Sync));
        self.watch_consumer(group_id, &id, ConsumerAlarm::Session, classic.session_timeout_ms, now);
        let assigned: Partitions = member
            .progress
            .assigned
            .iter()
            .map(|(topic, partitions)| (*topic, partitions.keys().copied().collect()))
            .collect();
        let metadata = protocol.map(|offered| offered.metadata.clone()).unwrap_or_else(Bytes::new);
        Ok(SyncAnswer {
            error: ErrorCode::None,
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment: embedded::encode_assignment(&assigned, &metadata, &*self.settings.catalog),
        })
    }

    pub(in crate::groups) fn heartbeat_in_consumer_group(
        &mut self,
        request: &HeartbeatRequest,
        now: Now,
    ) -> ErrorCode {
        let (group_id, entry): (Str, Entry) = self.take_entry(&request.group);
        let answer = self.beat_as_classic(&group_id, &entry, request, now);
        self.keep_entry(group_id, entry);
        answer.err().unwrap_or(ErrorCode::None)
    }

    fn beat_as_classic(
        &mut self,
        group_id: &Str,
        entry: &Entry,
        request: &HeartbeatRequest,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let group = entry.group().expect("was looked up");
        let (id, member) = classic_member(group_id, group, &request.member_id, request.instance_id.as_ref())?;
        let progress = &member.progress;
        if request.generation != progress.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        let classic = member.profile.classic.as_ref().expect("was checked");
        self.watch_consumer(group_id, &id, ConsumerAlarm::Session, classic.session_timeout_ms, now);
        let has_to_join = progress.epoch < group.stored.target_epoch.epoch
            || progress.state == MemberState::Unrevoked
            || progress.state == MemberState::Unreleased && !group.is_waiting_for_others(&id, &member);
        if has_to_join {
            self.expect_join(group_id, &id, member.profile.rebalance_timeout_ms, now);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// It was told to join again; the time for it runs from the first time it was told.
    fn expect_join(&mut self, group_id: &Str, id: &Str, rebalance_timeout_ms: i32, now: Now) {
        if !self.timers.is_set(&TimerKey::consumer(group_id, id, ConsumerAlarm::Join)) {
            self.watch_consumer(group_id, id, ConsumerAlarm::Join, rebalance_timeout_ms, now);
        }
    }

    pub(in crate::groups) fn leave_consumer_group_as_classic(
        &mut self,
        request: LeaveRequest,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(&request.group);
        let group = entry.group().expect("was looked up");
        let mut ids: Vec<Str> = Vec::new();
        let mut members = Vec::with_capacity(request.members.len());
        for leaving in request.members {
            let found = leaving_member(&group_id, group, &leaving);
            let error = found.as_ref().err().copied().unwrap_or(ErrorCode::None);
            ids.extend(found.ok().filter(|id| !ids.contains(id)));
            members.push((leaving, error));
        }
        let answer = Answer::Leave(LeaveAnswer { error: ErrorCode::None, members });
        self.fence_consumers(&group_id, &mut entry, &ids, Some((reply, answer)), now, effects);
        self.keep_entry(group_id, entry);
    }
}

enum Joined {
    Answered,
    /// The group is a classic one now, and the member, under this id, still waits for its answer.
    NowClassic {
        id: Str,
    },
}

fn classic_member(
    group_id: &str,
    group: &ConsumerGroup,
    member_id: &str,
    instance_id: Option<&Str>,
) -> Result<(Str, Arc<Member>), ErrorCode> {
    let known = match instance_id {
        None => known_member(group_id, group, member_id),
        Some(instance_id) => check_holder(group_id, group, member_id, instance_id)
            .and_then(|holder| known_member(group_id, group, &holder)),
    };
    let (id, member) = known.map_err(|refusal| refusal.error)?;
    match member.is_classic() {
        true => Ok((id, member)),
        false => Err(ErrorCode::UnknownMemberId),
    }
}

/// An administrator removes members of both protocols, and static ones by their instance ids alone.
fn leaving_member(group_id: &str, group: &ConsumerGroup, leaving: &LeavingMember) -> Result<Str, ErrorCode> {
    let found = match &leaving.instance_id {
        None => known_member(group_id, group, &leaving.member_id).map(|(id, _)| id),
        Some(instance_id) if leaving.member_id.is_empty() => {
            return group.static_members(instance_id).last().cloned().ok_or(ErrorCode::UnknownMemberId);
        }
        Some(instance_id) => check_holder(group_id, group, &leaving.member_id, instance_id),
    };
    found.map_err(|refusal| refusal.error)
}
