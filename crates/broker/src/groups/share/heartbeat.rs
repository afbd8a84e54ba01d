//! ShareGroupHeartbeat: a member joins, says what it subscribes to, and learns what it should read; or it leaves. And the alarm that ends
//! a member that is not heard of.
//!
//! ```text
//!   subscriptions, topics or kept states change ──▶ epoch + 1 ──▶ a new target for all ──▶ each member is told in its next heartbeat
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{ErrorCode, Str, Uuid};

use super::assignor::{self, Subscriber};
use super::event::{
    DescribedShareGroup, DescribedShareMember, Initialize, ShareHeartbeatAnswer, ShareHeartbeatRequest,
};
use super::group::{Change, Member, Profile, Progress, ShareGroup, Stored};
use super::states::States;
use super::{Entry, Work};
use crate::groups::catalog_view::{CatalogView, metadata_hash};
use crate::groups::consumer::{
    DescribedTopic, Epoch, JOINING_EPOCH, LEAVING_EPOCH, Partitions, Refusal, TargetEpoch,
};
use crate::groups::entry::next_epoch;
use crate::groups::event::{Answer, Effects, Now, ReplyId, Token};
use crate::groups::shard::Shard;
use crate::groups::timers::{Alarm, TimerKey};

/// The state of partitions that have none begins where the group's config says.
const BY_CONFIG: i64 = -1;

impl Shard {
    pub fn share_heartbeat(
        &mut self,
        request: &ShareHeartbeatRequest,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(&request.group);
        let outcome = match request.epoch {
            LEAVING_EPOCH => self.leave_share_group(&group_id, &mut entry, request, reply, effects),
            _ => self.share_beat(&group_id, &mut entry, request, reply, now, effects),
        };
        self.keep_entry(group_id, entry);
        if let Err(refusal) = outcome {
            effects.answer(reply, Answer::ShareHeartbeat(refusal.into()));
        }
    }

    fn share_beat(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        request: &ShareHeartbeatRequest,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let settings = self.settings.clone();
        let is_joining = request.epoch == JOINING_EPOCH;
        // Everything that can be refused is refused before anything is changed.
        let names = request.topics.iter().flatten().map(|name| name.len()).sum::<usize>();
        let rack = request.rack_id.as_ref().map_or(0, |rack_id| rack_id.len());
        if names + rack + request.member_id.len() > settings.member_metadata_bytes_max {
            return Err(Refusal::new(ErrorCode::InvalidRequest, "The member says too much about itself."));
        }
        self.check_room(entry, group_id, request, now)?;
        match entry.group() {
            Some(group) => check_member(group_id, group, request, settings.share_group_size_max)?,
            None => self.check_new(group_id, is_joining)?,
        }
        let mut work = Work::default();
        let group = entry.create();
        let (id, before) = match group.stored.members.get_key_value(&request.member_id) {
            Some((id, member)) => (id.clone(), Member::clone(member)),
            None => (request.member_id.detached(), Member::default()),
        };
        let is_new = group.member(&id).is_none();
        self.mend_shares(group_id, entry, &mut work);
        let profile = updated_profile(&before.profile, request);
        let has_changed = profile.topics != before.profile.topics;
        if is_new || profile != before.profile {
            work.put(entry, Change::Profile { member: id.clone(), profile: Some(Arc::new(profile)) });
        }
        let has_epoch = self.raise_share_epoch(entry, has_changed, &mut work);
        self.assign_shares(group_id, entry, now, &mut work);
        self.tell_share_member(entry, &id, &before, has_epoch, &mut work);
        let initialize = self.begin_states(entry, now, &mut work);

        let config = settings.catalog.group_config(group_id);
        let config = &config.share;
        self.watch_share(group_id, &id, config.session_timeout_ms, now);
        let member = entry.group().expect("is open").member(&id).expect("was just put there");
        let progress = &member.progress;
        // The answer that told it may not have reached it.
        let may_have_missed = request.epoch != before.progress.epoch;
        let has_changed = progress.assigned != before.progress.assigned;
        let is_told = is_joining || request.topics.is_some() || may_have_missed || has_changed;
        let assigned = progress.assigned.iter();
        let assigned = assigned.map(|(topic, partitions)| (*topic, partitions.iter().copied().collect()));
        let answer = ShareHeartbeatAnswer {
            error: ErrorCode::None,
            message: None,
            member_id: Some(id),
            epoch: progress.epoch,
            heartbeat_interval_ms: config.heartbeat_interval_ms,
            assignment: is_told.then(|| assigned.collect()),
            initialize,
        };
        let answer = Some((reply, Answer::ShareHeartbeat(answer)));
        self.write_changes(group_id, entry, work, answer, effects);
        Ok(())
    }

    /// Whether a member that joins may make this group.
    pub(super) fn check_new(&self, group_id: &Str, may_make: bool) -> Result<(), Refusal> {
        if self.has_group(group_id) {
            let message = format!("Group {group_id} is not a share group.");
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
        }
        if !may_make {
            let message = format!("Share group {group_id} not found.");
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
        }
        if self.is_full_of_groups() {
            let message = "There are as many groups as there may be.";
            return Err(Refusal::new(ErrorCode::PolicyViolation, message));
        }
        Ok(())
    }

    /// A write that failed while later ones landed leaves a group half written, in memory as in the log. What belongs to nobody goes
    /// before a group is worked on for the first time.
    fn mend_shares(&mut self, group_id: &Str, entry: &mut Entry, work: &mut Work) {
        let group = entry.group().expect("is open");
        if group.compared_with.is_some() {
            return;
        }
        let stored = &group.stored;
        // Whoever joined from somewhere has an address.
        let nobody = stored.members.iter().filter(|(_, member)| member.profile.client_host.is_empty());
        let nobody: Vec<Str> = nobody.map(|(id, _)| id.clone()).collect();
        let orphans = stored.targets.keys().filter(|id| !stored.members.contains_key(*id));
        let mut changes: Vec<Change> =
            orphans.map(|id| Change::Target { member: id.clone(), partitions: None }).collect();
        for id in &nobody {
            changes.extend(removal(id));
            self.timers.cancel(&TimerKey::Share { group: group_id.clone(), member: id.clone() });
        }
        changes.into_iter().for_each(|change| work.put(entry, change));
    }

    /// The next epoch, if it must be, or if topics or kept states are others than at the last one. True: there is one.
    fn raise_share_epoch(&mut self, entry: &mut Entry, must: bool, work: &mut Work) -> bool {
        let view = &self.settings.catalog;
        let version = view.version();
        let group = entry.group_mut().expect("is open");
        // Larger when the write of the epoch has failed and that of the target has not.
        let target_epoch = group.stored.target_epoch.epoch;
        let is_assigned = target_epoch >= group.stored.epoch.epoch;
        // A look at all targets is too much for each heartbeat.
        let is_known = group.all_read.as_ref().is_some_and(|(states, epoch)| {
            Arc::ptr_eq(states, &group.stored.states) && *epoch == target_epoch
        });
        let has_unread = is_assigned && !is_known && has_unread_states(&group.stored, &**view);
        if is_assigned && !has_unread {
            group.all_read = Some((group.stored.states.clone(), target_epoch));
        }
        let must = must || has_unread;
        if !must && group.compared_with == Some(version) {
            return false;
        }
        group.compared_with = Some(version);
        let metadata_hash = metadata_hash(group.stored.subscribed_topics(), &**view);
        let Epoch { epoch, metadata_hash: earlier } = group.stored.epoch;
        if !must && metadata_hash == earlier {
            return false;
        }
        let of_members = group.stored.members.values().map(|member| member.progress.epoch);
        let epoch = next_epoch(epoch, target_epoch, of_members);
        work.put(entry, Change::Epoch(Some(Epoch { epoch, metadata_hash })));
        true
    }

    /// A new target, unless the last one was made for this epoch or only just.
    fn assign_shares(&mut self, group_id: &Str, entry: &mut Entry, now: Now, work: &mut Work) {
        let view = &self.settings.catalog;
        let group = entry.group().expect("is open");
        let TargetEpoch { epoch: target_epoch, at_ms } = group.stored.target_epoch;
        let epoch = group.stored.epoch.epoch;
        if target_epoch >= epoch {
            return;
        }
        let interval_ms = i64::from(view.group_config(group_id).share.assignment_interval_ms);
        // A clock that was set back must not keep the group from it.
        if (0..interval_ms).contains(&now.wall_ms.saturating_sub(at_ms)) {
            return;
        }
        for (member, partitions) in changed_targets(&group.stored, &**view) {
            work.put(entry, Change::Target { member, partitions: Some(Arc::new(partitions)) });
        }
        work.put(entry, Change::TargetEpoch(Some(TargetEpoch { epoch, at_ms: now.wall_ms })));
    }

    /// Nobody waits for anybody: a member is told its target as it is.
    fn tell_share_member(
        &mut self,
        entry: &mut Entry,
        id: &Str,
        before: &Member,
        has_changed: bool,
        work: &mut Work,
    ) {
        let view = &self.settings.catalog;
        let group = entry.group().expect("is open");
        let target_epoch = group.stored.target_epoch.epoch;
        let progress = &before.progress;
        if progress.epoch == target_epoch && !has_changed {
            return;
        }
        let member = group.member(id).expect("was just put there");
        let subscribed: BTreeSet<Uuid> =
            member.profile.topics.iter().filter_map(|name| Some(view.topic(name)?.id)).collect();
        let target = group.stored.target(id);
        let assigned = match target.keys().all(|topic| subscribed.contains(topic)) {
            true => target,
            false => {
                let target = target.iter().filter(|(topic, _)| subscribed.contains(topic));
                Arc::new(target.map(|(topic, partitions)| (*topic, partitions.clone())).collect())
            }
        };
        let next = match progress.epoch == target_epoch {
            true => Progress { assigned, ..progress.clone() },
            false => Progress { epoch: target_epoch, previous_epoch: progress.epoch, assigned },
        };
        if next != member.progress {
            work.put(entry, Change::Progress { member: id.clone(), progress: Some(next) });
        }
    }

    /// Partitions that somebody subscribes to and that nobody has begun to keep a state of.
    fn begin_states(&mut self, entry: &mut Entry, now: Now, work: &mut Work) -> Option<Initialize> {
        let settings = &self.settings;
        let group = entry.group().expect("is open");
        let mut states = States::clone(&group.stored.states);
        let mut partitions = BTreeMap::new();
        for name in group.stored.subscribed_topics() {
            let Some(topic) = settings.catalog.topic(name) else { continue };
            let is_new = |partition: &i32| {
                let retry_ms = settings.share_initialize_retry_ms;
                !states.is_known(topic.id, *partition, now.monotonic_ms, retry_ms)
            };
            let room = settings.share_states_max.saturating_sub(states.len());
            let new: Vec<i32> = (0..topic.partition_count).filter(is_new).take(room).collect();
            if !new.is_empty() {
                partitions.extend(new.iter().map(|partition| ((topic.id, *partition), BY_CONFIG)));
                states.begin(topic.id, &topic.name, new, now.monotonic_ms);
            }
        }
        if partitions.is_empty() {
            return None;
        }
        let state_epoch = group.stored.epoch.epoch;
        work.put(entry, Change::States(Some(Arc::new(states))));
        Some(Initialize { state_epoch, partitions })
    }

    fn leave_share_group(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        request: &ShareHeartbeatRequest,
        reply: ReplyId,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let Some(group) = entry.group() else {
            self.check_new(group_id, false)?;
            unreachable!("a group that may not be made is refused");
        };
        let known = group.stored.members.get_key_value(&request.member_id);
        let Some((id, _)) = known else { return Err(Refusal::no_member(group_id, &request.member_id)) };
        let id = id.clone();
        let answer = ShareHeartbeatAnswer {
            member_id: Some(id.clone()),
            epoch: request.epoch,
            ..ShareHeartbeatAnswer::refused(ErrorCode::None, None)
        };
        let answer = Some((reply, Answer::ShareHeartbeat(answer)));
        self.fence_share_member(group_id, entry, &id, answer, effects);
        Ok(())
    }

    /// A member leaves, or is made to.
    fn fence_share_member(
        &mut self,
        group_id: &Str,
        entry: &mut Entry,
        id: &Str,
        answer: Option<(ReplyId, Answer)>,
        effects: &mut Effects,
    ) {
        let mut work = Work::default();
        self.mend_shares(group_id, entry, &mut work);
        removal(id).into_iter().for_each(|change| work.put(entry, change));
        self.timers.cancel(&TimerKey::Share { group: group_id.clone(), member: id.clone() });
        self.raise_share_epoch(entry, true, &mut work);
        self.write_changes(group_id, entry, work, answer, effects);
    }

    /// The session of a member is over.
    pub(in crate::groups) fn share_session_ended(&mut self, group: &Str, id: &Str, effects: &mut Effects) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(group);
        if entry.group().is_some_and(|group| group.member(id).is_some()) {
            tracing::debug!(group = %group_id, member = %id, "a member of a share group did not come in time");
            self.fence_share_member(&group_id, &mut entry, id, None, effects);
        }
        self.keep_entry(group_id, entry);
    }

    fn watch_share(&mut self, group_id: &Str, id: &Str, timeout_ms: i32, now: Now) {
        let alarm = Alarm::Share { group: group_id.clone(), member: id.clone() };
        self.timers.set(now.monotonic_ms + u64::try_from(timeout_ms).unwrap_or(0), alarm);
    }

    /// Every member gets a whole session to be heard of.
    pub(super) fn watch_all_shares(&mut self, group_id: &Str, entry: &Entry, now: Now) {
        let Some(group) = entry.group() else { return };
        let timeout_ms = self.settings.catalog.group_config(group_id).share.session_timeout_ms;
        for id in group.stored.members.keys() {
            self.watch_share(group_id, id, timeout_ms, now);
        }
    }

    pub(in crate::groups) fn share_written(
        &mut self,
        group: &Str,
        token: Token,
        outcome: Result<(), ErrorCode>,
        now: Now,
        effects: &mut Effects,
    ) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(group);
        let landed = entry.landed(token, outcome);
        effects.answers.extend(landed.answers);
        if landed.is_rebuilt {
            self.watch_all_shares(&group_id, &entry, now);
        }
        self.keep_entry(group_id, entry);
    }

    /// The share group of this name with all that was handed to the log.
    pub(in crate::groups) fn share_group(&self, group: &str) -> Option<&ShareGroup> {
        self.shares.get(group)?.group()
    }

    /// Share groups with what is in the log of them for good.
    pub(in crate::groups) fn settled_share_groups(&self) -> impl Iterator<Item = (&Str, &Stored)> {
        self.shares.iter().filter_map(|(id, entry)| Some((id, entry.settled()?)))
    }

    pub fn describe_share_group(&self, group_id: &str) -> Result<DescribedShareGroup, Refusal> {
        let Some(stored) = self.shares.get(group_id).and_then(|entry| entry.settled()) else {
            let message = match self.has_group(group_id) {
                true => format!("Group {group_id} is not a share group."),
                false => format!("Group {group_id} not found."),
            };
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
        };
        let view = &*self.settings.catalog;
        let described = |(id, member): (&Str, &Arc<Member>)| {
            let Member { profile, progress } = &**member;
            DescribedShareMember {
                member_id: id.clone(),
                rack_id: profile.rack_id.clone(),
                epoch: progress.epoch,
                client_id: profile.client_id.clone(),
                client_host: profile.client_host.clone(),
                topics: profile.topics.iter().cloned().collect(),
                assigned: named(&progress.assigned, view),
            }
        };
        Ok(DescribedShareGroup {
            state: stored.state(),
            epoch: stored.epoch.epoch,
            assignment_epoch: stored.target_epoch.epoch,
            members: stored.members.iter().map(described).collect(),
        })
    }
}

/// Whether this member may say something. Kafka's `throwIfShareGroupMemberEpochIsInvalid`.
fn check_member(
    group_id: &str,
    group: &ShareGroup,
    request: &ShareHeartbeatRequest,
    size_max: usize,
) -> Result<(), Refusal> {
    let member = group.member(&request.member_id);
    if member.is_none() && group.stored.members.len() >= size_max {
        let message = format!("The share group has reached its maximum capacity of {size_max} members.");
        return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
    }
    if request.epoch == JOINING_EPOCH {
        return Ok(());
    }
    let member = member.ok_or_else(|| Refusal::no_member(group_id, &request.member_id))?;
    let (received, known) = (request.epoch, member.progress.epoch);
    let what = match received.cmp(&known) {
        std::cmp::Ordering::Greater => "greater",
        std::cmp::Ordering::Less if received != member.progress.previous_epoch => "smaller",
        _ => return Ok(()),
    };
    let message = format!(
        "The share group member has a {what} member epoch ({received}) than the one known by the group coordinator ({known}). The \
         member must abandon all its partitions and rejoin."
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

fn updated_profile(before: &Profile, request: &ShareHeartbeatRequest) -> Profile {
    let same = |said: &Str, before: &Str| if said == before { before.clone() } else { said.detached() };
    Profile {
        rack_id: match &request.rack_id {
            Some(rack_id) if before.rack_id.as_ref() != Some(rack_id) => Some(rack_id.detached()),
            _ => before.rack_id.clone(),
        },
        client_id: same(&request.client_id, &before.client_id),
        client_host: same(&request.client_host, &before.client_host),
        topics: match &request.topics {
            Some(topics) => topics.iter().map(Str::detached).collect(),
            None => before.topics.clone(),
        },
    }
}

/// Is there a partition whose state is kept, that somebody subscribes to, and that nobody was told to read?
fn has_unread_states(stored: &Stored, view: &dyn CatalogView) -> bool {
    if stored.members.is_empty() || stored.states.initialized.is_empty() {
        return false;
    }
    let mut read = Partitions::new();
    for (topic, partitions) in stored.targets.values().flat_map(|target| target.iter()) {
        read.entry(*topic).or_default().extend(partitions);
    }
    let nothing = BTreeSet::new();
    let is_unread = |name: &Str| {
        let Some(topic) = view.topic(name) else { return false };
        let Some(states) = stored.states.initialized.get(&topic.id) else { return false };
        let read = read.get(&topic.id).unwrap_or(&nothing);
        states.partitions.range(..topic.partition_count).any(|partition| !read.contains(partition))
    };
    stored.subscribed_topics().into_iter().any(is_unread)
}

/// The targets that change.
fn changed_targets(stored: &Stored, view: &dyn CatalogView) -> Vec<(Str, Partitions)> {
    let mut partitions = Partitions::new();
    // Members mostly subscribe to the same.
    let mut known: BTreeMap<&BTreeSet<Str>, Arc<BTreeSet<Uuid>>> = BTreeMap::new();
    let subscribers = stored.members.iter().map(|(id, member)| {
        let topics = known.entry(&member.profile.topics).or_insert_with(|| {
            let topics = member.profile.topics.iter().filter_map(|name| view.topic(name));
            let ids = topics.map(|topic| {
                let kept = stored.states.initialized.get(&topic.id);
                let kept = kept.map(|states| states.partitions.range(..topic.partition_count).copied());
                partitions.insert(topic.id, kept.into_iter().flatten().collect());
                topic.id
            });
            Arc::new(ids.collect())
        });
        Subscriber { member_id: id.clone(), topics: topics.clone(), earlier: stored.target(id) }
    });
    let subscribers: Vec<Subscriber> = subscribers.collect();
    let targets = assignor::assign(&subscribers, &partitions);
    let targets = subscribers.into_iter().map(|one| one.member_id).zip(targets);
    let has_changed =
        |(id, target): &(Str, Partitions)| stored.targets.get(id).is_none_or(|earlier| **earlier != *target);
    targets.filter(has_changed).collect()
}

/// A member goes, in the order in which Kafka writes it.
fn removal(id: &Str) -> [Change; 3] {
    [
        Change::Progress { member: id.clone(), progress: None },
        Change::Target { member: id.clone(), partitions: None },
        Change::Profile { member: id.clone(), profile: None },
    ]
}

fn named(partitions: &Partitions, view: &dyn CatalogView) -> Vec<DescribedTopic> {
    let named: BTreeMap<Str, (Uuid, Vec<i32>)> = partitions
        .iter()
        .filter_map(|(id, partitions)| {
            Some((view.topic_by_id(*id)?.name, (*id, partitions.iter().copied().collect())))
        })
        .collect();
    named.into_iter().map(|(name, (id, partitions))| DescribedTopic { id, name, partitions }).collect()
}
