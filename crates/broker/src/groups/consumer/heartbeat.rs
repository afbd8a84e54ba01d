//! ConsumerGroupHeartbeat: a member joins, says what it subscribes to and what it has, and learns what it should have; or it
//! leaves. And the alarms that end a member that does not.
//!
//! ```text
//!   subscriptions or topics change ──▶ epoch + 1 ──▶ a new target for all ──▶ each member moves to it in its heartbeats
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{ErrorCode, Str, Uuid};

use super::assignment::{self, Partitions};
use super::checks::{self, Asking};
use super::event::{ConsumerHeartbeatAnswer, ConsumerHeartbeatRequest, Refusal};
use super::group::{Change, Epoch, TargetEpoch};
use super::member::{
    JOINING_EPOCH, LEAVING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH, Member, MemberState, Profile, Progress,
};
use super::pattern::Sight;
use super::reconcile::Reconciliation;
use super::{Entry, Work, pattern, target};
use crate::groups::entry::{ClassicGroup, next_epoch};
use crate::groups::event::{Answer, Effects, Now, ReplyId, Token};
use crate::groups::shard::Shard;
use crate::groups::timers::{Alarm, ConsumerAlarm, TimerKey};

impl Shard {
    /// `may_see` says which topics the caller may describe: regular expressions match no others.
    pub fn consumer_heartbeat(
        &mut self,
        request: &ConsumerHeartbeatRequest,
        may_see: &dyn Fn(&str) -> bool,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(&request.group);
        let outcome = match request.epoch {
            LEAVING_EPOCH | LEAVING_FOR_A_WHILE_EPOCH => {
                self.leave_consumer_group(&group_id, &mut entry, request, reply, now, effects)
            }
            _ => self.beat(&group_id, &mut entry, request, may_see, reply, now, effects),
        };
        self.keep_entry(group_id, entry);
        if let Err(refusal) = outcome {
            effects.answer(reply, Answer::ConsumerHeartbeat(refusal.into()));
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn beat(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        request: &ConsumerHeartbeatRequest,
        may_see: &dyn Fn(&str) -> bool,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let settings = self.settings.clone();
        let is_joining = request.epoch == JOINING_EPOCH;
        // Everything that can be refused is refused before anything is changed.
        checks::check_size(request, &settings)?;
        self.check_room(entry, group_id, request, now)?;
        let pattern = request.pattern.as_ref().filter(|pattern| !pattern.is_empty());
        let compiled = match (pattern, &request.compiled) {
            (Some(pattern), Some(compiled)) => Some((pattern, compiled.clone()?)),
            (Some(pattern), None) => Some((pattern, pattern::compile(pattern)?)),
            (None, _) => None,
        };
        let sight = Sight { may_see, compiled };
        let mut work = Work::default();
        let was_there = entry.group().is_some();
        if !was_there {
            if !is_joining || self.streams_group(group_id).is_some() {
                return Err(Refusal::no_group(group_id));
            }
            self.open_consumer_group(group_id, entry, &mut work, now, effects)?;
        }
        let holder = match checks::check_member(group_id, entry.group().expect("is open"), request, &settings)
        {
            Ok(holder) => holder,
            Err(refusal) if was_there => return Err(refusal),
            Err(refusal) => {
                self.give_up_opening(entry, work, now, effects);
                return Err(refusal);
            }
        };
        self.mend(group_id, entry, &mut work);
        let asking = self.asking(group_id, entry, request, holder, &mut work);
        let profile = updated_profile(&asking.before.profile, request);
        let has_changed = self.subscribe(entry, &asking, profile, Some(&sight), now, &mut work);
        self.assign_if_due(group_id, entry, now, &mut work);
        self.reconcile(group_id, entry, &asking, request.owned.as_ref(), has_changed, now, &mut work);

        let config = settings.catalog.group_config(group_id);
        let session_timeout_ms = config.consumer_session_timeout_ms;
        self.watch_consumer(group_id, &asking.id, ConsumerAlarm::Session, session_timeout_ms, now);
        let progress =
            &entry.group().expect("is open").member(&asking.id).expect("was just put there").progress;
        let is_told = is_joining
            || request.is_full()
            || !assignment::is_same_set(&asking.before.progress.assigned, &progress.assigned);
        let assigned = progress.assigned.iter();
        let assigned = assigned.map(|(topic, partitions)| (*topic, partitions.keys().copied().collect()));
        let answer = ConsumerHeartbeatAnswer {
            error: ErrorCode::None,
            message: None,
            member_id: Some(asking.id.clone()),
            epoch: progress.epoch,
            heartbeat_interval_ms: config.consumer_heartbeat_interval_ms,
            assignment: is_told.then(|| assigned.collect()),
        };
        let answer = (reply, Answer::ConsumerHeartbeat(answer));
        self.write_changes(group_id, entry, work, Some(answer), effects);
        Ok(())
    }

    /// A write that failed while later ones landed leaves a group half written, in memory as in the log. What belongs to nobody
    /// goes before a group is worked on for the first time; whether all of it is assigned is looked at with its topics.
    pub(super) fn mend(&mut self, group_id: &Str, entry: &mut Entry, work: &mut Work) {
        let group = entry.group().expect("is open");
        if group.compared_with.is_some() {
            return;
        }
        let stored = &group.stored;
        // Whoever joined from somewhere has an address.
        let nobody = stored.members.iter().filter(|(_, member)| member.profile.client_host.is_empty());
        let nobody: Vec<Str> = nobody.map(|(id, _)| id.clone()).collect();
        let targets = stored.targets.keys().filter(|id| !stored.members.contains_key(*id));
        let patterns = stored.patterns.keys().filter(|pattern| group.pattern_users(pattern) == 0);
        let orphans = targets
            .map(|id| Change::Target { member: id.clone(), partitions: None })
            .chain(patterns.map(|pattern| Change::Pattern { pattern: pattern.clone(), matches: None }));
        let mut changes: Vec<Change> = orphans.collect();
        for id in &nobody {
            changes.extend(removal(id));
            self.timers.cancel_consumer(group_id, id);
        }
        changes.into_iter().for_each(|change| work.put(entry, change));
        // Nobody was told of it: its answer was refused. It gets the partition when the other one has given it up.
        let group = entry.group().expect("is open");
        let late = group.given_too_early().into_iter().filter_map(|(id, partitions)| {
            let mut progress = group.member(&id)?.progress.clone();
            progress.lose(&partitions);
            Some(Change::Progress { member: id, progress: Some(progress) })
        });
        let late: Vec<Change> = late.collect();
        late.into_iter().for_each(|change| work.put(entry, change));
    }

    /// A group for a member that joins: new, in the place of an empty classic one, or a classic one that is turned into it.
    fn open_consumer_group(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        work: &mut Work,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        match self.groups.get(group_id) {
            Some(classic) if !classic.members.is_empty() => {
                self.upgrade(group_id, entry, work, now, effects)?;
            }
            Some(_) => {
                let classic = self.remove_classic(group_id, effects);
                work.classic = ClassicGroup::TakenAway(Box::new(classic));
                entry.create();
            }
            None if self.share_group(group_id).is_some() => return Err(Refusal::no_group(group_id)),
            None if self.is_full_of_groups() => {
                let message = "There are as many groups as there may be.";
                return Err(Refusal::new(ErrorCode::PolicyViolation, message));
            }
            None => {
                entry.create();
            }
        }
        Ok(())
    }

    /// Whoever the group was opened for is refused: it never was, and what it was made of is as before.
    fn give_up_opening(&mut self, entry: &mut Entry, work: Work, now: Now, effects: &mut Effects) {
        entry.give_way();
        entry.forget_copy();
        if let ClassicGroup::TakenAway(classic) = work.classic {
            self.restore_classic(*classic, now, effects);
        }
    }

    /// The member as it is known, or a new one. A static member takes the place of the one that holds its instance id.
    fn asking(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        request: &ConsumerHeartbeatRequest,
        holder: Option<Str>,
        work: &mut Work,
    ) -> Asking {
        let group = entry.group().expect("is open");
        let Some(holder) = holder else { return checks::known_or_new(group, &request.member_id) };
        let mut member = Member::clone(group.member(&holder).expect("holds the instance id"));
        let is_rejoining = request.epoch == JOINING_EPOCH && member.is_away();
        if holder == request.member_id && !is_rejoining {
            return Asking { id: holder, before: member };
        }
        member.progress = Progress { epoch: JOINING_EPOCH, previous_epoch: JOINING_EPOCH, ..member.progress };
        let id = match holder == request.member_id {
            true => holder,
            false => {
                let id = request.member_id.detached();
                self.replace_consumer(group_id, entry, &holder, &id, &member, work);
                id
            }
        };
        Asking { id, before: member }
    }

    /// The new id gets everything that the old one had.
    pub(super) fn replace_consumer(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        old: &Str,
        new: &Str,
        member: &Member,
        work: &mut Work,
    ) {
        let target = entry.group().expect("has the old member").stored.target(old);
        for change in removal(old) {
            work.put(entry, change);
        }
        self.timers.cancel_consumer(group_id, old);
        work.put(
            entry,
            Change::Profile { member: new.clone(), profile: Some(Arc::new(member.profile.clone())) },
        );
        work.put(entry, Change::Target { member: new.clone(), partitions: Some(target) });
        work.put(entry, Change::Progress { member: new.clone(), progress: Some(member.progress.clone()) });
    }

    /// Takes down what a member says of itself, and what follows for the group: its epoch goes up when the topics that it
    /// subscribes to change, or these topics themselves. True: the subscription of the member has changed.
    pub(super) fn subscribe(
        &mut self,
        entry: &mut Entry,
        asking: &Asking,
        profile: Profile,
        sight: Option<&Sight<'_>>,
        now: Now,
        work: &mut Work,
    ) -> bool {
        let settings = self.settings.clone();
        let before = &asking.before.profile;
        let old_pattern = before.pattern.clone().filter(|pattern| profile.pattern.as_ref() != Some(pattern));
        let mut has_changed = profile.topics != before.topics || profile.pattern != before.pattern;
        let is_new = entry.group().expect("is open").member(&asking.id).is_none();
        if is_new || profile != *before {
            work.put(entry, Change::Profile { member: asking.id.clone(), profile: Some(Arc::new(profile)) });
        }
        if let Some(pattern) = old_pattern {
            drop_unused_pattern(entry, pattern, work);
        }
        // A member of the classic protocol has nothing to do with the regular expressions of others.
        if let Some(sight) = sight {
            has_changed |= pattern::refresh(entry, &settings, sight, now, work);
        }
        self.raise_epoch(entry, has_changed, work);
        has_changed
    }

    /// The next epoch, if it must be or if the topics are others than at the last one.
    fn raise_epoch(&mut self, entry: &mut Entry, must: bool, work: &mut Work) {
        let view = &self.settings.catalog;
        let version = view.version();
        let group = entry.group_mut().expect("is open");
        if !must && group.compared_with == Some(version) {
            return;
        }
        // Larger when the write of the epoch has failed and that of the target has not.
        let target_epoch = group.stored.target_epoch.epoch;
        let is_assigned = target_epoch >= group.stored.epoch.epoch;
        let must = must || group.compared_with.is_none() && is_assigned && !target::is_whole(group, &**view);
        group.compared_with = Some(version);
        let metadata_hash = target::metadata_hash(group, &**view);
        let Epoch { epoch, metadata_hash: earlier } = group.stored.epoch;
        if must || metadata_hash != earlier {
            let of_members = group.stored.members.values().map(|member| member.progress.epoch);
            let epoch = next_epoch(epoch, target_epoch, of_members);
            work.put(entry, Change::Epoch(Some(Epoch { epoch, metadata_hash })));
        }
    }

    /// A new target, unless the last one was made for this epoch or only just.
    pub(super) fn assign_if_due(&mut self, group_id: &Str, entry: &mut Entry, now: Now, work: &mut Work) {
        let view = &self.settings.catalog;
        let group = entry.group().expect("is open");
        let TargetEpoch { epoch: target_epoch, at_ms } = group.stored.target_epoch;
        let epoch = group.stored.epoch.epoch;
        if target_epoch >= epoch {
            return;
        }
        let interval_ms = i64::from(view.group_config(group_id).consumer_assignment_interval_ms);
        // A clock that was set back must not keep the group from it.
        if (0..interval_ms).contains(&now.wall_ms.saturating_sub(at_ms)) {
            return;
        }
        let assignor = group.stored.preferred_assignor().unwrap_or(self.settings.consumer_assignor);
        for (member, partitions) in target::assign(group, assignor, &**view) {
            work.put(entry, Change::Target { member, partitions: Some(Arc::new(partitions)) });
        }
        work.put(entry, Change::TargetEpoch(Some(TargetEpoch { epoch, at_ms: now.wall_ms })));
    }

    /// One step of a member towards its target.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn reconcile(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        asking: &Asking,
        owned: Option<&Partitions>,
        has_subscription_changed: bool,
        now: Now,
        work: &mut Work,
    ) {
        let group = entry.group().expect("is open");
        let member = group.member(&asking.id).expect("was just put there").clone();
        let target_epoch = group.stored.target_epoch.epoch;
        // What it had as another, or before it went away, is not in the group's records yet.
        let progress = &asking.before.progress;
        let is_settled = *progress == member.progress && progress.is_reconciled_to(target_epoch);
        if is_settled && !has_subscription_changed {
            return;
        }
        let view = &self.settings.catalog;
        let subscribed: BTreeSet<Uuid> =
            group.topics_of(&member.profile).filter_map(|name| Some(view.topic(name)?.id)).collect();
        let target = group.stored.target(&asking.id);
        let reconciliation = Reconciliation {
            progress,
            target_epoch,
            target: &target,
            subscribed: &subscribed,
            has_subscription_changed,
            owned,
            is_held_by_another: &|topic, partition| group.is_held_by_another(&asking.id, topic, partition),
        };
        let next = reconciliation.next().unwrap_or_else(|| progress.clone());
        if next == member.progress {
            return;
        }
        // Classic members have alarms of their own: for JoinGroup and SyncGroup.
        if !member.is_classic() {
            match next.state {
                MemberState::Unrevoked => {
                    let rebalance_timeout_ms = member.profile.rebalance_timeout_ms;
                    let alarm = Alarm::Consumer {
                        group: group_id.clone(),
                        member: asking.id.clone(),
                        kind: ConsumerAlarm::Rebalance,
                        epoch: next.epoch,
                    };
                    self.timers.set(now.monotonic_ms + ms(rebalance_timeout_ms), alarm);
                }
                _ => self.timers.cancel(&TimerKey::consumer(group_id, &asking.id, ConsumerAlarm::Rebalance)),
            }
        }
        work.put(entry, Change::Progress { member: asking.id.clone(), progress: Some(next) });
    }

    fn leave_consumer_group(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        request: &ConsumerHeartbeatRequest,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let Some(group) = entry.group() else { return Err(Refusal::no_group(group_id)) };
        let (id, member) = match &request.instance_id {
            None => checks::known_member(group_id, group, &request.member_id)?,
            Some(instance_id) => {
                let holder = checks::check_holder(group_id, group, &request.member_id, instance_id)?;
                checks::known_member(group_id, group, &holder)?
            }
        };
        let answer = ConsumerHeartbeatAnswer {
            error: ErrorCode::None,
            message: None,
            member_id: Some(id.clone()),
            epoch: request.epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        };
        let answer = Some((reply, Answer::ConsumerHeartbeat(answer)));
        if request.epoch == LEAVING_EPOCH {
            self.fence_consumers(group_id, entry, &[id], answer, now, effects);
            return Ok(());
        }
        // What it has waits for it until its session ends. For whoever takes its place it is as if assigned at its join.
        let mut progress = Progress { epoch: LEAVING_FOR_A_WHILE_EPOCH, ..member.progress.clone() };
        progress.pending_revocation.clear();
        let epochs = progress.assigned.values_mut().flat_map(BTreeMap::values_mut);
        epochs.for_each(|epoch| *epoch = JOINING_EPOCH);
        let mut work = Work::default();
        work.put(entry, Change::Progress { member: id, progress: Some(progress) });
        self.write_changes(group_id, entry, work, answer, effects);
        Ok(())
    }

    /// Members leave, or are made to.
    pub(super) fn fence_consumers(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        ids: &[Str],
        answer: Option<(ReplyId, Answer)>,
        now: Now,
        effects: &mut Effects,
    ) {
        let mut work = Work::default();
        if ids.is_empty() {
            return self.write_changes(group_id, entry, work, answer, effects);
        }
        if self.may_downgrade(entry, ids) {
            return self.downgrade(group_id, entry, ids, answer, now, effects);
        }
        self.mend(group_id, entry, &mut work);
        for id in ids {
            let pattern = entry.group().and_then(|group| group.member(id)?.profile.pattern.clone());
            for change in removal(id) {
                work.put(entry, change);
            }
            if let Some(pattern) = pattern {
                drop_unused_pattern(entry, pattern, &mut work);
            }
            self.timers.cancel_consumer(group_id, id);
        }
        self.raise_epoch(entry, true, &mut work);
        self.write_changes(group_id, entry, work, answer, effects);
    }

    pub(in crate::groups) fn consumer_alarm(
        &mut self,
        group: &Str,
        id: &Str,
        kind: ConsumerAlarm,
        epoch: i32,
        now: Now,
        effects: &mut Effects,
    ) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(group);
        let member = entry.group().and_then(|group| group.member(id));
        let is_meant = member.is_some_and(|member| match kind {
            // It has moved on since.
            ConsumerAlarm::Rebalance => member.progress.epoch == epoch,
            ConsumerAlarm::Session | ConsumerAlarm::Join | ConsumerAlarm::Sync => true,
        });
        if is_meant {
            tracing::debug!(group = %group_id, member = %id, ?kind, "a member did not come in time");
            self.fence_consumers(&group_id, &mut entry, std::slice::from_ref(id), None, now, effects);
        }
        self.keep_entry(group_id, entry);
    }

    pub(super) fn watch_consumer(
        &mut self,
        group_id: &Str,
        id: &Str,
        kind: ConsumerAlarm,
        timeout_ms: i32,
        now: Now,
    ) {
        let alarm = Alarm::Consumer { group: group_id.clone(), member: id.clone(), kind, epoch: 0 };
        self.timers.set(now.monotonic_ms + ms(timeout_ms), alarm);
    }

    pub(in crate::groups) fn consumer_written(
        &mut self,
        group: &Str,
        token: Token,
        classic: ClassicGroup,
        outcome: Result<(), ErrorCode>,
        now: Now,
        effects: &mut Effects,
    ) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(group);
        let landed = entry.landed(token, outcome);
        effects.answers.extend(landed.answers);
        if let Err(error) = outcome {
            match classic {
                ClassicGroup::Nothing => {}
                ClassicGroup::TakenAway(classic) => self.restore_classic(*classic, now, effects),
                ClassicGroup::Made(_) => {
                    if let Some(classic) = self.groups.remove(&group_id) {
                        self.unload_group(&classic, error, effects);
                    }
                }
            }
        }
        if landed.is_rebuilt {
            // Of the two kinds the classic one is newer, whatever came back here.
            if self.groups.contains_key(&group_id) {
                entry.give_way();
            }
            self.watch_all_consumers(&group_id, &entry, now);
        }
        self.keep_entry(group_id, entry);
    }

    /// Every member gets a whole session to be heard of, and a whole rebalance to give up what it must.
    pub(super) fn watch_all_consumers(&mut self, group_id: &Str, entry: &Entry, now: Now) {
        let Some(group) = entry.group() else { return };
        let session_timeout_ms = self.settings.catalog.group_config(group_id).consumer_session_timeout_ms;
        for (id, member) in &group.stored.members {
            let classic = member.profile.classic.as_ref();
            let timeout_ms = classic.map_or(session_timeout_ms, |classic| classic.session_timeout_ms);
            self.watch_consumer(group_id, id, ConsumerAlarm::Session, timeout_ms, now);
            if member.progress.state == MemberState::Unrevoked && classic.is_none() {
                let alarm = Alarm::Consumer {
                    group: group_id.clone(),
                    member: id.clone(),
                    kind: ConsumerAlarm::Rebalance,
                    epoch: member.progress.epoch,
                };
                self.timers.set(now.monotonic_ms + ms(member.profile.rebalance_timeout_ms), alarm);
            }
        }
    }
}

fn updated_profile(before: &Profile, request: &ConsumerHeartbeatRequest) -> Profile {
    let newer = |said: &Option<Str>, before: &Option<Str>| match said {
        Some(said) if before.as_ref() == Some(said) => before.clone(),
        Some(said) => Some(said.detached()),
        None => before.clone(),
    };
    let same = |said: &Str, before: &Str| if said == before { before.clone() } else { said.detached() };
    Profile {
        instance_id: newer(&request.instance_id, &before.instance_id),
        rack_id: newer(&request.rack_id, &before.rack_id),
        client_id: same(&request.client_id, &before.client_id),
        client_host: same(&request.client_host, &before.client_host),
        rebalance_timeout_ms: request.rebalance_timeout_ms.unwrap_or(before.rebalance_timeout_ms),
        topics: match &request.topics {
            Some(topics) => topics.iter().map(Str::detached).collect(),
            None => before.topics.clone(),
        },
        pattern: newer(&request.pattern, &before.pattern).filter(|pattern| !pattern.is_empty()),
        assignor: newer(&request.assignor, &before.assignor),
        classic: None,
    }
}

/// A member goes, in the order in which Kafka writes it.
fn removal(id: &Str) -> [Change; 3] {
    [
        Change::Progress { member: id.clone(), progress: None },
        Change::Target { member: id.clone(), partitions: None },
        Change::Profile { member: id.clone(), profile: None },
    ]
}

fn drop_unused_pattern(entry: &mut Entry, pattern: Str, work: &mut Work) {
    let group = entry.group().expect("is open");
    if group.pattern_users(&pattern) == 0 && group.stored.patterns.contains_key(&pattern) {
        work.put(entry, Change::Pattern { pattern, matches: None });
    }
}

pub(super) fn ms(timeout_ms: i32) -> u64 {
    u64::try_from(timeout_ms).unwrap_or(0)
}
