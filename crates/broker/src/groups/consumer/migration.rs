//! Classic groups become consumer groups when the first member of the new protocol joins, and classic groups again when the last
//! one leaves: `group.consumer.migration.policy`. Each way is one write, with the tombstones of what was.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use protocol::{ErrorCode, Str};

use super::assignment;
use super::embedded;
use super::event::Refusal;
use super::group::{ConsumerGroup, Epoch, Stored, TargetEpoch};
use super::member::{Classic, Member, MemberState, Profile, Progress};
use super::{Entry, Work};
use crate::groups::entry::ClassicGroup;
use crate::groups::event::{Answer, Effects, Now, ReplyId};
use crate::groups::group::{CONSUMER_PROTOCOL_TYPE, Group, GroupState};
use crate::groups::member::Member as ClassicMember;
use crate::groups::records;
use crate::groups::shard::Shard;

impl Shard {
    /// Turns a classic group with members into a consumer group. Whoever waits in it has to join again.
    pub(super) fn upgrade(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        work: &mut Work,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let stored = self.upgraded(&self.groups[group_id])?;
        let classic = self.remove_classic(group_id, effects);
        work.classic = ClassicGroup::TakenAway(Box::new(classic));
        entry.create();
        for change in stored.changes() {
            work.put(entry, change);
        }
        self.watch_all_consumers(group_id, entry, now);
        Ok(())
    }

    fn upgraded(&self, classic: &Group) -> Result<Stored, Refusal> {
        let refuse = |why: &str| {
            let message =
                format!("Cannot upgrade classic group {} to consumer group because {why}.", classic.id);
            Refusal::new(ErrorCode::GroupIdNotFound, message)
        };
        let view = &*self.settings.catalog;
        if !self.settings.consumer_migration.upgrades {
            return Err(refuse("online upgrade is disabled"));
        }
        if !classic.uses_consumer_protocol() {
            return Err(refuse("the group does not use the consumer embedded protocol"));
        }
        if classic.members.len() >= self.settings.consumer_group_size_max {
            return Err(refuse("the group size exceeds the consumer group maximum size"));
        }
        // A group that has not had a generation yet is in 0, and that is the epoch of a member that joins.
        let epoch = classic.generation.max(1);
        let mut stored = Stored {
            epoch: Epoch { epoch, metadata_hash: 0 },
            target_epoch: TargetEpoch { epoch, at_ms: 0 },
            ..Stored::default()
        };
        for member in classic.members.values() {
            let offered = match &classic.protocol_name {
                Some(name) => member.metadata(name),
                None => member.protocols.first().map(|offered| offered.metadata.clone()).unwrap_or_default(),
            };
            let subscription = embedded::subscription(&offered, view)
                .ok_or_else(|| refuse("a subscription cannot be read"))?;
            let assigned = embedded::assignment(&member.assignment, view)
                .ok_or_else(|| refuse("userData from a custom assignor would be lost"))?;
            let upgraded = Member {
                profile: Profile {
                    instance_id: member.instance_id.clone(),
                    rack_id: subscription.rack_id,
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    topics: subscription.topics,
                    pattern: None,
                    assignor: None,
                    classic: Some(Classic {
                        session_timeout_ms: member.session_timeout_ms,
                        protocols: member.protocols.clone(),
                    }),
                },
                progress: Progress {
                    epoch,
                    previous_epoch: epoch,
                    state: MemberState::Stable,
                    assigned: assignment::with_epoch(&assigned, epoch),
                    ..Progress::default()
                },
            };
            stored.members.insert(member.id.clone(), Arc::new(upgraded));
            stored.targets.insert(member.id.clone(), Arc::new(assigned));
        }
        Ok(stored)
    }

    /// Takes a classic group away. Who waits in it is told to join again; ids that were given out are forgotten.
    pub(in crate::groups) fn remove_classic(&mut self, group_id: &Str, effects: &mut Effects) -> Group {
        let mut group = self.groups.remove(group_id).expect("was looked up");
        self.unload_group(&group, ErrorCode::RebalanceInProgress, effects);
        let ids: Vec<Str> = group.members.keys().cloned().collect();
        for id in ids {
            group.take_awaiting_join(&id);
            group.members.get_mut(&id).expect("is a member").awaiting_sync = None;
        }
        group.pending_join.clear();
        group.pending_sync.clear();
        group
    }

    /// The classic group is still in the log, so it is still there; its members join again.
    pub(in crate::groups) fn restore_classic(&mut self, mut group: Group, now: Now, effects: &mut Effects) {
        let group_id = group.id.clone();
        if self.groups.contains_key(&group_id) {
            return;
        }
        group.previous_state = None;
        group.state = match group.members.is_empty() {
            true => GroupState::Empty,
            false => GroupState::Stable,
        };
        group.protocol_name = group.protocol_name.take().or_else(|| group.select_protocol());
        self.settle_classic(group, now);
        if self.groups[&group_id].is_in(GroupState::Stable) {
            self.prepare_rebalance(&group_id, None, now, effects);
        }
    }

    fn settle_classic(&mut self, group: Group, now: Now) {
        let group_id = group.id.clone();
        let sessions: Vec<(Str, i32)> =
            group.members.values().map(|member| (member.id.clone(), member.session_timeout_ms)).collect();
        self.groups.insert(group_id.clone(), group);
        for (id, session_timeout_ms) in sessions {
            self.watch(&group_id, &id, session_timeout_ms, now);
        }
    }

    /// Whether only members of the classic protocol are left when these are gone, and a classic group may be made of them.
    pub(super) fn may_downgrade(&self, entry: &Entry, leaving: &[Str]) -> bool {
        let Some(group) = entry.group() else { return false };
        let left = group.stored.members.len() - leaving.len();
        self.settings.consumer_migration.downgrades
            && left > 0
            && left <= self.settings.group_size_max
            && group.are_all_classic_but(leaving)
    }

    /// Makes a classic group of the members that are left; they join again for the next generation.
    pub(super) fn downgrade(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        leaving: &[Str],
        answer: Option<(ReplyId, Answer)>,
        now: Now,
        effects: &mut Effects,
    ) {
        let group = entry.group().expect("was looked up");
        let classic = self.downgraded(group_id, group, leaving, now);
        let ids: BTreeSet<Str> = group.stored.members.keys().cloned().collect();
        let tombstones = group.stored.tombstones();
        let mut work = Work::default();
        for change in tombstones {
            work.put(entry, change);
        }
        let value = records::group_value(&classic, |id| classic.members[id].assignment.clone());
        work.classic = ClassicGroup::Made(value);
        for id in &ids {
            self.timers.cancel_consumer(group_id, id);
        }
        self.write_changes(group_id, entry, work, answer, effects);
        self.settle_classic(classic, now);
        self.prepare_rebalance(group_id, None, now, effects);
    }

    fn downgraded(&self, group_id: &Str, group: &ConsumerGroup, leaving: &[Str], now: Now) -> Group {
        let mut classic = Group::new(group_id.clone(), now.wall_ms);
        classic.state = GroupState::Stable;
        classic.generation = group.stored.epoch.epoch;
        classic.protocol_type = Some(Str::from_static(CONSUMER_PROTOCOL_TYPE));
        for (id, member) in group.stored.members.iter().filter(|(id, _)| !leaving.contains(id)) {
            let profile = &member.profile;
            let own = profile.classic.as_ref().expect("only classic members are left");
            classic.add(ClassicMember {
                id: id.clone(),
                instance_id: profile.instance_id.clone(),
                client_id: profile.client_id.clone(),
                client_host: profile.client_host.clone(),
                rebalance_timeout_ms: profile.rebalance_timeout_ms,
                session_timeout_ms: own.session_timeout_ms,
                protocols: own.protocols.clone(),
                assignment: Bytes::new(),
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
            });
        }
        // Each of them offered something that all the others offered too when it joined.
        let protocol = classic.select_protocol().unwrap_or_default();
        for (id, member) in &mut classic.members {
            let target = group.stored.target(id);
            let metadata = member.metadata(&protocol);
            member.assignment = embedded::encode_assignment(&target, &metadata, &*self.settings.catalog);
        }
        classic.protocol_name = Some(protocol);
        classic.subscribed_topics = classic.read_subscriptions();
        classic
    }
}
