//! StreamsGroupHeartbeat: a member joins with its topology, says which tasks it has, and learns which it should have; or it
//! leaves. And the alarms that end a member that does not.
//!
//! ```text
//!   members, topology, topics or configs change ──▶ epoch + 1 ──▶ a new target for all ──▶ each member moves to it
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{ErrorCode, Str};

use super::assignor::{self, MemberSpec, Spec, SubtopologySpec};
use super::configure::{Configured, Status, StatusCode, configure};
use super::description::Description;
use super::event::{StreamsHeartbeatAnswer, StreamsHeartbeatRequest};
use super::group::{Change, Epoch, NOT_VALIDATED, STANDBY_REPLICAS_CONFIG, StreamsGroup, TargetEpoch};
use super::member::{
    JOINING_EPOCH, LEAVING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH, Member, MemberState, Profile, Progress,
};
use super::reconcile::Reconciliation;
use super::tasks::{HeldTasks, TaskSets};
use super::topology::Topology;
use super::{Entry, Refusal, Work, checks, endpoints};
use crate::groups::catalog_view::{CatalogView, metadata_hash};
use crate::groups::entry::{ClassicGroup, next_epoch};
use crate::groups::event::{Answer, Effects, Now, ReplyId, Token};
use crate::groups::shard::Shard;
use crate::groups::timers::{Alarm, StreamsAlarm, TimerKey};

/// What a group is to be like with what a member says.
struct Next {
    topology: Arc<Topology>,
    is_new_topology: bool,
    configured: Arc<Configured>,
    metadata_hash: i64,
    /// Of the catalog.
    version: u64,
}

impl Shard {
    pub fn streams_heartbeat(
        &mut self,
        request: &StreamsHeartbeatRequest,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(&request.group);
        let outcome = match request.epoch {
            LEAVING_EPOCH | LEAVING_FOR_A_WHILE_EPOCH => {
                self.leave_streams_group(&group_id, &mut entry, request, reply, effects)
            }
            _ => self.streams_beat(&group_id, &mut entry, request, reply, now, effects),
        };
        self.keep_entry(group_id, entry);
        if let Err(refusal) = outcome {
            effects.answer(reply, Answer::StreamsHeartbeat(refusal.into()));
        }
    }

    fn streams_beat(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        request: &StreamsHeartbeatRequest,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let settings = self.settings.clone();
        let view = &*settings.catalog;
        let is_joining = request.epoch == JOINING_EPOCH;
        // Everything that can be refused is refused before anything is changed.
        checks::check_size(request, &settings)?;
        self.check_room(entry, group_id, request, now)?;
        let was_there = entry.group().is_some();
        if !was_there {
            self.check_may_open(group_id, is_joining)?;
        }
        let nothing = StreamsGroup::default();
        let group = entry.group().unwrap_or(&nothing);
        let holder = checks::check_member(group_id, group, request, &settings)?;
        let next = next(group_id, group, request, view)?;
        checks::check_owned(&next.configured, request)?;

        let mut work = Work::default();
        if !was_there {
            self.open_streams_group(group_id, entry, &mut work, effects);
        }
        self.mend_streams(group_id, entry, &mut work);
        let was_empty = entry.group().expect("is open").stored.members.is_empty();
        let (id, before) = self.asking_streams(group_id, entry, request, holder, &mut work);
        let mut statuses = Vec::new();
        statuses.extend(stale_topology(entry.group().expect("is open"), &before.profile, request));
        let config = view.group_config(group_id);
        let configs = BTreeMap::from([(
            Str::from_static(STANDBY_REPLICAS_CONFIG),
            Str::from(config.streams_num_standby_replicas.to_string()),
        )]);
        self.take_down(entry, &id, &before, request, &next, configs, &mut work);
        let delay_ms = ms(config.streams_initial_rebalance_delay_ms);
        if was_empty && delay_ms > 0 && !self.timers.is_set(&TimerKey::streams_delay(group_id)) {
            self.timers.set(now.monotonic_ms + delay_ms, Alarm::streams_delay(group_id));
        }
        if let Some(why) = self.assign_streams_if_due(group_id, entry, now, &mut work) {
            statuses.push(Status { code: StatusCode::AssignmentDelayed, detail: why.to_owned() });
        }
        self.reconcile_streams(group_id, entry, &id, request.owned.as_ref(), now, &mut work);
        self.watch_streams(group_id, &id, config.streams_session_timeout_ms, now);

        let group = entry.group_mut().expect("is open");
        if request.shutdown_application && group.shutdown_asked_by.is_none() {
            tracing::info!(group = %group_id, member = %id, "a member asks the whole application to stop");
            group.shutdown_asked_by = Some(id.clone());
        }
        let member = group.member(&id).expect("was just put there").clone();
        let tasks = member.progress.held.sets();
        let has_changed = tasks != before.progress.held.sets();
        // What it was told may not have reached it.
        let may_have_missed = request.epoch != before.progress.epoch
            || request.owned.as_ref().is_some_and(|owned| *owned != tasks);
        let is_told = is_joining || has_changed || may_have_missed;
        let has_moved = member.profile.endpoint != before.profile.endpoint;
        if has_moved || has_changed && member.profile.endpoint.is_some() {
            group.endpoint_epoch = group.endpoint_epoch.wrapping_add(1);
        }
        statuses.extend(next.configured.problem.clone());
        statuses.extend(group.shutdown_asked_by.as_ref().map(|by| Status {
            code: StatusCode::ShutdownApplication,
            detail: format!(
                "Streams group member {by} encountered a fatal error and requested a shutdown for the entire application."
            ),
        }));
        let is_behind = statuses.iter().any(|status| status.code == StatusCode::StaleTopology);
        let answer = StreamsHeartbeatAnswer {
            heartbeat_interval_ms: config.streams_heartbeat_interval_ms,
            task_offset_interval_ms: config.streams_task_offset_interval_ms,
            acceptable_recovery_lag: config.streams_acceptable_recovery_lag,
            // The topology of a member that is behind is not the group's.
            is_description_missing: request.knows_descriptions && !is_behind && group.description.ask(now),
            statuses,
            tasks: is_told.then_some(tasks),
            // Of a group that is not yet in the log there is none.
            endpoint_epoch: if was_there { group.endpoint_epoch } else { 0 },
            endpoints: (group.endpoint_epoch != request.endpoint_epoch)
                .then(|| endpoints::endpoints(group, view)),
            missing_topics: next.configured.missing.clone(),
            ..StreamsHeartbeatAnswer::new(id, member.progress.epoch)
        };
        let answer = (reply, Answer::StreamsHeartbeat(answer));
        self.write_changes(group_id, entry, work, Some(answer), effects);
        Ok(())
    }

    fn check_may_open(&self, group_id: &Str, is_joining: bool) -> Result<(), Refusal> {
        let classic = self.groups.get(group_id);
        let may_give_way = classic.is_some_and(|classic| classic.members.is_empty());
        if self.has_group(group_id) && !(may_give_way && is_joining) {
            return Err(not_a_streams_group(group_id));
        }
        if !is_joining {
            let message = format!("Streams group {group_id} not found.");
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
        }
        match classic.is_none() && self.is_full_of_groups() {
            true => {
                Err(Refusal::new(ErrorCode::PolicyViolation, "There are as many groups as there may be."))
            }
            false => Ok(()),
        }
    }

    /// A group for a member that joins: new, or in the place of an empty classic one.
    fn open_streams_group(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        work: &mut Work,
        effects: &mut Effects,
    ) {
        if self.groups.contains_key(group_id) {
            let classic = self.remove_classic(group_id, effects);
            work.classic = ClassicGroup::TakenAway(Box::new(classic));
        }
        entry.create();
    }

    /// A write that failed while later ones landed leaves a group half written, in memory as in the log. What belongs to nobody
    /// goes before a group is worked on for the first time; whether all of it is assigned is looked at with its topics.
    fn mend_streams(&mut self, group_id: &Str, entry: &mut Entry, work: &mut Work) {
        let group = entry.group().expect("is open");
        if group.compared_with.is_some() {
            return;
        }
        let stored = &group.stored;
        let nobody = stored.members.iter().filter(|(_, member)| checks::is_nobody(member));
        let nobody: Vec<Str> = nobody.map(|(id, _)| id.clone()).collect();
        let targets = stored.targets.keys().filter(|id| !stored.members.contains_key(*id));
        let mut changes: Vec<Change> =
            targets.map(|id| Change::Target { member: id.clone(), tasks: None }).collect();
        for id in &nobody {
            changes.extend(removal(id));
            self.timers.cancel_streams(group_id, id);
        }
        changes.into_iter().for_each(|change| work.put(entry, change));
        // Nobody was told of it: its answer was refused. It gets the task when the other one has given it up.
        let group = entry.group().expect("is open");
        let late = group.given_too_early().into_iter().filter_map(|(id, tasks)| {
            let mut progress = group.member(&id)?.progress.clone();
            progress.lose(&tasks);
            Some(Change::Progress { member: id, progress: Some(Arc::new(progress)) })
        });
        let late: Vec<Change> = late.collect();
        late.into_iter().for_each(|change| work.put(entry, change));
    }

    /// The member as it is known, or a new one. A static member takes the place of the one that holds its instance id.
    fn asking_streams(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        request: &StreamsHeartbeatRequest,
        holder: Option<Str>,
        work: &mut Work,
    ) -> (Str, Member) {
        let group = entry.group().expect("is open");
        let Some(holder) = holder else { return known_or_new(group, &request.member_id) };
        let mut member = Member::clone(group.member(&holder).expect("holds the instance id"));
        let is_rejoining = request.epoch == JOINING_EPOCH && member.is_away();
        if holder == request.member_id && !is_rejoining {
            return (holder, member);
        }
        member.progress = Progress { epoch: JOINING_EPOCH, previous_epoch: JOINING_EPOCH, ..member.progress };
        let progress = Some(Arc::new(member.progress.clone()));
        if holder == request.member_id {
            work.put(entry, Change::Progress { member: holder.clone(), progress });
            return (holder, member);
        }
        let id = request.member_id.detached();
        let target = group.stored.target(&holder);
        for change in removal(&holder) {
            work.put(entry, change);
        }
        self.timers.cancel_streams(group_id, &holder);
        let profile = Some(Arc::new(member.profile.clone()));
        work.put(entry, Change::Profile { member: id.clone(), profile });
        work.put(entry, Change::Target { member: id.clone(), tasks: Some(target) });
        work.put(entry, Change::Progress { member: id.clone(), progress });
        (id, member)
    }

    /// Takes down what a member says, and what follows for the group: its epoch goes up when anything has changed that an
    /// assignment is made from.
    #[allow(clippy::too_many_arguments)]
    fn take_down(
        &mut self,
        entry: &mut Entry,
        id: &Str,
        before: &Member,
        request: &StreamsHeartbeatRequest,
        next: &Next,
        assignment_configs: BTreeMap<Str, Str>,
        work: &mut Work,
    ) {
        let profile = updated_profile(&before.profile, request);
        let is_new = entry.group().expect("is open").member(id).is_none();
        let has_changed = is_new || profile != before.profile;
        // A static member that comes back with what it had finds what it had.
        let is_assigned_anew = match request.instance_id {
            None => has_changed,
            Some(_) => is_new || is_assigned_otherwise(&before.profile, &profile),
        };
        if has_changed {
            work.put(entry, Change::Profile { member: id.clone(), profile: Some(Arc::new(profile)) });
        }
        if next.is_new_topology {
            work.put(entry, Change::Topology(Some(next.topology.clone())));
        }
        let group = entry.group_mut().expect("is open");
        if next.is_new_topology {
            group.description = Description::default();
        }
        let is_first_look = group.compared_with.is_none();
        group.compared_with = Some(next.version);
        group.configured = Some(next.configured.clone());
        let epoch = group.stored.epoch.clone();
        // Larger when the write of the epoch has failed and that of the target has not.
        let target_epoch = group.stored.target_epoch.epoch;
        let validated_topology_epoch = match next.configured.is_ready() {
            true => next.topology.epoch,
            false => NOT_VALIDATED,
        };
        let is_half_assigned = is_first_look && target_epoch >= epoch.epoch && !group.is_whole();
        if is_assigned_anew
            || next.is_new_topology
            || is_half_assigned
            || next.metadata_hash != epoch.metadata_hash
            || validated_topology_epoch != epoch.validated_topology_epoch
            || assignment_configs != epoch.assignment_configs
        {
            let of_members = group.stored.members.values().map(|member| member.progress.epoch);
            let next_epoch = Epoch {
                epoch: next_epoch(epoch.epoch, target_epoch, of_members),
                metadata_hash: next.metadata_hash,
                validated_topology_epoch,
                assignment_configs,
            };
            work.put(entry, Change::Epoch(Some(Arc::new(next_epoch))));
        }
    }

    /// A new target, unless the last one was made for this epoch, or it is too early: then why.
    fn assign_streams_if_due(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        now: Now,
        work: &mut Work,
    ) -> Option<&'static str> {
        if self.timers.is_set(&TimerKey::streams_delay(group_id)) {
            return Some("Assignment delayed due to the configured initial rebalance delay.");
        }
        let group = entry.group().expect("is open");
        let TargetEpoch { epoch: target_epoch, at_ms } = group.stored.target_epoch;
        let epoch = group.stored.epoch.epoch;
        if target_epoch >= epoch {
            return None;
        }
        let config = self.settings.catalog.group_config(group_id);
        // A clock that was set back must not keep the group from it.
        let interval_ms = i64::from(config.streams_assignment_interval_ms);
        if (0..interval_ms).contains(&now.wall_ms.saturating_sub(at_ms)) {
            return Some("Assignment delayed due to the configured assignment interval.");
        }
        for (member, tasks) in assigned(group) {
            work.put(entry, Change::Target { member, tasks: Some(Arc::new(tasks)) });
        }
        work.put(entry, Change::TargetEpoch(Some(TargetEpoch { epoch, at_ms: now.wall_ms })));
        None
    }

    /// One step of a member towards its target.
    fn reconcile_streams(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        id: &Str,
        owned: Option<&TaskSets>,
        now: Now,
        work: &mut Work,
    ) {
        let group = entry.group().expect("is open");
        let member = group.member(id).expect("was just put there").clone();
        let target = group.stored.target(id);
        let process_id = &member.profile.process_id;
        let reconciliation = Reconciliation {
            progress: &member.progress,
            target_epoch: group.stored.target_epoch.epoch,
            target: &target,
            owned,
            is_held_by_another: &|role, subtopology, task| {
                group.is_held_by_another(id, process_id, role, subtopology, task)
            },
        };
        let Some(next) = reconciliation.next() else { return };
        match next.state {
            MemberState::Unrevoked => {
                let at_ms = now.monotonic_ms + ms(member.profile.rebalance_timeout_ms);
                self.timers.set(at_ms, rebalance_alarm(group_id, id, next.epoch));
            }
            _ => self.timers.cancel(&TimerKey::streams(group_id, id, StreamsAlarm::Rebalance)),
        }
        work.put(entry, Change::Progress { member: id.clone(), progress: Some(Arc::new(next)) });
    }

    fn leave_streams_group(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        request: &StreamsHeartbeatRequest,
        reply: ReplyId,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let Some(group) = entry.group_mut() else {
            return Err(match self.has_group(group_id) {
                true => not_a_streams_group(group_id),
                false => Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {group_id} not found.")),
            });
        };
        if let Some(instance_id) = &request.instance_id {
            checks::check_holder(group_id, group, &request.member_id, instance_id)?;
        }
        let (id, member) = checks::known_member(group_id, group, &request.member_id)?;
        if request.shutdown_application && group.shutdown_asked_by.is_none() {
            group.shutdown_asked_by = Some(id.clone());
        }
        let answer = StreamsHeartbeatAnswer::new(id.clone(), request.epoch);
        let answer = Some((reply, Answer::StreamsHeartbeat(answer)));
        if request.epoch == LEAVING_EPOCH {
            self.fence_streams(group_id, entry, &id, answer, effects);
            return Ok(());
        }
        // What it has waits for it until its session ends. For whoever takes its place it is as if assigned at its join.
        let mut progress = Progress { epoch: LEAVING_FOR_A_WHILE_EPOCH, ..member.progress.clone() };
        progress.pending_revocation = HeldTasks::default();
        let epochs = progress.held.active.values_mut().flat_map(BTreeMap::values_mut);
        epochs.for_each(|epoch| *epoch = JOINING_EPOCH);
        let mut work = Work::default();
        work.put(entry, Change::Progress { member: id, progress: Some(Arc::new(progress)) });
        self.write_changes(group_id, entry, work, answer, effects);
        Ok(())
    }

    /// A member leaves, or is made to.
    fn fence_streams(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        id: &Str,
        answer: Option<(ReplyId, Answer)>,
        effects: &mut Effects,
    ) {
        let mut work = Work::default();
        for change in removal(id) {
            work.put(entry, change);
        }
        self.timers.cancel_streams(group_id, id);
        let group = entry.group_mut().expect("has the member");
        group.endpoint_epoch = group.endpoint_epoch.wrapping_add(1);
        let epoch = &group.stored.epoch;
        let of_members = group.stored.members.values().map(|member| member.progress.epoch);
        let next = next_epoch(epoch.epoch, group.stored.target_epoch.epoch, of_members);
        let has_emptied = group.stored.members.is_empty();
        let next_epoch = Epoch { epoch: next, ..Epoch::clone(epoch) };
        work.put(entry, Change::Epoch(Some(Arc::new(next_epoch))));
        if has_emptied {
            // Nothing is left to be assigned, and whoever comes next is not kept waiting for an interval.
            work.put(entry, Change::TargetEpoch(Some(TargetEpoch { epoch: next, at_ms: 0 })));
        }
        self.write_changes(group_id, entry, work, answer, effects);
    }

    pub(in crate::groups) fn streams_alarm(
        &mut self,
        group: &Str,
        id: &Str,
        kind: StreamsAlarm,
        epoch: i32,
        now: Now,
        effects: &mut Effects,
    ) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(group);
        let member = entry.group().and_then(|group| group.member(id));
        match kind {
            StreamsAlarm::Delay => self.initial_delay_ended(&group_id, &mut entry, now, effects),
            // It may have moved on since.
            StreamsAlarm::Rebalance if member.is_none_or(|member| member.progress.epoch != epoch) => {}
            StreamsAlarm::Session if member.is_none() => {}
            StreamsAlarm::Rebalance | StreamsAlarm::Session => {
                tracing::debug!(group = %group_id, member = %id, ?kind, "a member did not come in time");
                self.fence_streams(&group_id, &mut entry, id, None, effects);
            }
        }
        self.keep_entry(group_id, entry);
    }

    /// Whoever came meanwhile is in the first assignment.
    fn initial_delay_ended(&mut self, group_id: &Str, entry: &mut Entry, now: Now, effects: &mut Effects) {
        let group = entry.group().filter(|group| group.configured.is_some());
        if group.is_none_or(|group| group.stored.members.is_empty()) {
            return;
        }
        let mut work = Work::default();
        self.assign_streams_if_due(group_id, entry, now, &mut work);
        self.write_changes(group_id, entry, work, None, effects);
    }

    fn watch_streams(&mut self, group_id: &Str, id: &Str, timeout_ms: i32, now: Now) {
        let alarm = Alarm::Streams {
            group: group_id.clone(),
            member: id.clone(),
            kind: StreamsAlarm::Session,
            epoch: 0,
        };
        self.timers.set(now.monotonic_ms + ms(timeout_ms), alarm);
    }

    pub(in crate::groups) fn streams_written(
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
        if let (Err(_), ClassicGroup::TakenAway(classic)) = (outcome, classic) {
            self.restore_classic(*classic, now, effects);
        }
        if landed.is_rebuilt {
            // Of the two kinds the classic one is newer, whatever came back here.
            if self.groups.contains_key(&group_id) {
                entry.give_way();
            }
            self.watch_all_streams(&group_id, &entry, now);
        }
        self.keep_entry(group_id, entry);
    }

    /// Every member gets a whole session to be heard of, and a whole rebalance to give up what it must.
    pub(super) fn watch_all_streams(&mut self, group_id: &Str, entry: &Entry, now: Now) {
        let Some(group) = entry.group() else { return };
        let session_timeout_ms = self.settings.catalog.group_config(group_id).streams_session_timeout_ms;
        for (id, member) in &group.stored.members {
            self.watch_streams(group_id, id, session_timeout_ms, now);
            if member.progress.state == MemberState::Unrevoked {
                let at_ms = now.monotonic_ms + ms(member.profile.rebalance_timeout_ms);
                self.timers.set(at_ms, rebalance_alarm(group_id, id, member.progress.epoch));
            }
        }
    }
}

pub(super) fn not_a_streams_group(group_id: &str) -> Refusal {
    Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {group_id} is not a streams group."))
}

/// What the group's topology will be, and what that means with the topics that there are now.
fn next(
    group_id: &str,
    group: &StreamsGroup,
    request: &StreamsHeartbeatRequest,
    view: &dyn CatalogView,
) -> Result<Next, Refusal> {
    let (topology, is_new_topology) = checks::check_topology(group_id, group, request)?;
    let version = view.version();
    let known = group.configured.as_ref().filter(|_| !is_new_topology);
    let earlier_hash = group.stored.epoch.metadata_hash;
    let known_now = known.filter(|_| group.compared_with == Some(version));
    if let Some(configured) = known_now {
        let configured = configured.clone();
        return Ok(Next { topology, is_new_topology, configured, metadata_hash: earlier_hash, version });
    }
    let metadata_hash = metadata_hash(topology.required_topics(), view);
    let configured = match known.filter(|_| metadata_hash == earlier_hash) {
        Some(configured) => configured.clone(),
        None => Arc::new(configure(&topology, view)?),
    };
    Ok(Next { topology, is_new_topology, configured, metadata_hash, version })
}

fn known_or_new(group: &StreamsGroup, member_id: &Str) -> (Str, Member) {
    match group.stored.members.get_key_value(member_id) {
        Some((id, member)) => (id.clone(), Member::clone(member)),
        None => (member_id.detached(), Member::default()),
    }
}

fn stale_topology(
    group: &StreamsGroup,
    before: &Profile,
    request: &StreamsHeartbeatRequest,
) -> Option<Status> {
    let of_group = group.stored.topology.as_ref()?.epoch;
    let of_member = request.topology.as_ref().map_or(before.topology_epoch, |topology| topology.epoch);
    (of_member < of_group).then(|| Status {
        code: StatusCode::StaleTopology,
        detail: format!(
            "The member's topology epoch {of_member} is behind the group's topology epoch {of_group}."
        ),
    })
}

/// The targets that change. While topics are missing nobody has a task.
fn assigned(group: &StreamsGroup) -> Vec<(Str, TaskSets)> {
    let stored = &group.stored;
    let configured = group.configured.as_ref().filter(|configured| configured.is_ready());
    let subtopologies = configured.into_iter().flat_map(|configured| &configured.subtopologies);
    let spec = Spec {
        members: stored
            .members
            .iter()
            .map(|(id, member)| MemberSpec {
                process_id: member.profile.process_id.clone(),
                earlier: stored.target(id),
            })
            .collect(),
        subtopologies: subtopologies
            .map(|(id, one)| SubtopologySpec {
                id: id.clone(),
                task_count: one.task_count,
                is_stateful: one.is_stateful,
            })
            .collect(),
        standby_replicas: stored.epoch.standby_replicas(),
    };
    let targets = stored.members.keys().cloned().zip(assignor::assign(&spec));
    let has_changed =
        |(id, target): &(Str, TaskSets)| stored.targets.get(id).is_none_or(|earlier| **earlier != *target);
    targets.filter(has_changed).collect()
}

fn updated_profile(before: &Profile, request: &StreamsHeartbeatRequest) -> Profile {
    let same = |said: &Str, before: &Str| if said == before { before.clone() } else { said.detached() };
    let newer = |said: &Option<Str>, before: &Option<Str>| match said {
        Some(said) if before.as_ref() == Some(said) => before.clone(),
        Some(said) => Some(said.detached()),
        None => before.clone(),
    };
    let endpoint = request
        .endpoint
        .as_ref()
        .map(|said| super::member::Endpoint { host: said.host.detached(), port: said.port });
    let tags = request.client_tags.as_ref().map(|tags| {
        tags.iter().map(|(key, value)| (key.detached(), value.detached())).collect::<BTreeMap<Str, Str>>()
    });
    Profile {
        instance_id: newer(&request.instance_id, &before.instance_id),
        rack_id: newer(&request.rack_id, &before.rack_id),
        client_id: same(&request.client_id, &before.client_id),
        client_host: same(&request.client_host, &before.client_host),
        rebalance_timeout_ms: request.rebalance_timeout_ms.unwrap_or(before.rebalance_timeout_ms),
        topology_epoch: request.topology.as_ref().map_or(before.topology_epoch, |topology| topology.epoch),
        process_id: request
            .process_id
            .as_ref()
            .map_or_else(|| before.process_id.clone(), |said| same(said, &before.process_id)),
        // Who joins says all of it.
        endpoint: match request.epoch {
            JOINING_EPOCH => endpoint,
            _ => endpoint.or_else(|| before.endpoint.clone()),
        },
        client_tags: tags.unwrap_or_else(|| before.client_tags.clone()),
    }
}

/// Whether an assignment would be another one for what the member says now.
fn is_assigned_otherwise(before: &Profile, now: &Profile) -> bool {
    (before.topology_epoch, &before.rack_id, &before.client_tags, &before.process_id)
        != (now.topology_epoch, &now.rack_id, &now.client_tags, &now.process_id)
}

/// A member goes, in the order in which Kafka writes it.
fn removal(id: &Str) -> [Change; 3] {
    [
        Change::Progress { member: id.clone(), progress: None },
        Change::Target { member: id.clone(), tasks: None },
        Change::Profile { member: id.clone(), profile: None },
    ]
}

fn rebalance_alarm(group_id: &Str, id: &Str, epoch: i32) -> Alarm {
    Alarm::Streams { group: group_id.clone(), member: id.clone(), kind: StreamsAlarm::Rebalance, epoch }
}

fn ms(timeout_ms: i32) -> u64 {
    u64::try_from(timeout_ms).unwrap_or(0)
}
