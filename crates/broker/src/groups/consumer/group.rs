//! One consumer group: what its records say, and what follows from that. Everything that changes it is a record, here as at
//! a replay; it decides nothing by itself. Kafka: `ConsumerGroup`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{Str, Uuid};
use smallvec::SmallVec;

use super::Entry;
use super::assignment::{self, Partitions};
use super::assignor::{ASSIGNORS, Assignor};
use super::member::{Member, MemberState, Profile, Progress};
use super::records;
use crate::groups::entry::{ClassicGroup, Kind};
use crate::groups::event::GroupRecord;
use crate::groups::shard::{AfterWrite, Shard};

/// The epoch of a group whose record does not say another. Not 0: that is the epoch of a member that joins.
const FIRST_EPOCH: i32 = 1;

/// A change of a group; one record of `__consumer_offsets`. Without a value it is a tombstone.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Epoch(Option<Epoch>),
    Profile { member: Str, profile: Option<Arc<Profile>> },
    Target { member: Str, partitions: Option<Arc<Partitions>> },
    TargetEpoch(Option<TargetEpoch>),
    Progress { member: Str, progress: Option<Progress> },
    Pattern { pattern: Str, matches: Option<Arc<Matches>> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    pub epoch: i32,
    /// Of the topics it subscribes to and their numbers of partitions.
    pub metadata_hash: i64,
}

/// When the assignment that members should arrive at was made, and for which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetEpoch {
    pub epoch: i32,
    /// Unix ms; 0: not known.
    pub at_ms: i64,
}

/// The topics that a regular expression stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matches {
    pub topics: BTreeSet<Str>,
    /// Of the catalog that was looked at.
    pub version: i64,
    /// Unix ms.
    pub at_ms: i64,
}

/// What the records of a group say. Cheap enough to be copied with every first change after a quiet time.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub epoch: Epoch,
    pub members: BTreeMap<Str, Arc<Member>>,
    /// What each member should have.
    pub targets: BTreeMap<Str, Arc<Partitions>>,
    pub target_epoch: TargetEpoch,
    pub patterns: BTreeMap<Str, Arc<Matches>>,
}

impl Default for Stored {
    fn default() -> Stored {
        Stored {
            epoch: Epoch { epoch: FIRST_EPOCH, metadata_hash: 0 },
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            target_epoch: TargetEpoch { epoch: FIRST_EPOCH, at_ms: 0 },
            patterns: BTreeMap::new(),
        }
    }
}

impl Stored {
    /// Applies a change to a group that may not be there: the tombstone of its epoch takes it away, any other value makes it.
    pub fn apply_to(group: &mut Option<Stored>, change: &Change) {
        match (change, group.is_some()) {
            (Change::Epoch(None), _) => *group = None,
            (change, false) if change.is_tombstone() => {}
            (change, _) => group.get_or_insert_default().apply(change),
        }
    }

    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Epoch(epoch) => self.epoch = epoch.unwrap_or(Stored::default().epoch),
            Change::TargetEpoch(epoch) => self.target_epoch = epoch.unwrap_or(Stored::default().target_epoch),
            Change::Profile { member, profile: None } => {
                self.members.remove(member);
            }
            Change::Profile { member, profile: Some(profile) } => {
                self.change_member(member, |member| member.profile = Profile::clone(profile));
            }
            Change::Progress { member, progress: None } => {
                if self.members.contains_key(member) {
                    self.change_member(member, |member| member.progress = Progress::default());
                }
            }
            Change::Progress { member, progress: Some(progress) } => {
                self.change_member(member, |member| member.progress = progress.clone());
            }
            Change::Target { member, partitions: None } => {
                self.targets.remove(member);
            }
            Change::Target { member, partitions: Some(partitions) } => {
                self.targets.insert(member.clone(), partitions.clone());
            }
            Change::Pattern { pattern, matches: None } => {
                self.patterns.remove(pattern);
            }
            Change::Pattern { pattern, matches: Some(matches) } => {
                self.patterns.insert(pattern.clone(), matches.clone());
            }
        }
    }

    fn change_member(&mut self, id: &Str, change: impl FnOnce(&mut Member)) {
        match self.members.get_mut(id) {
            Some(member) => change(Arc::make_mut(member)),
            None => {
                let mut member = Member::default();
                change(&mut member);
                self.members.insert(id.clone(), Arc::new(member));
            }
        }
    }

    /// All that has to be written so that a replay finds this group.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(3 * self.members.len() + 2);
        for (id, member) in &self.members {
            let profile = Some(Arc::new(member.profile.clone()));
            changes.push(Change::Profile { member: id.clone(), profile });
        }
        for (pattern, matches) in &self.patterns {
            changes.push(Change::Pattern { pattern: pattern.clone(), matches: Some(matches.clone()) });
        }
        changes.push(Change::Epoch(Some(self.epoch)));
        for (id, partitions) in &self.targets {
            changes.push(Change::Target { member: id.clone(), partitions: Some(partitions.clone()) });
        }
        changes.push(Change::TargetEpoch(Some(self.target_epoch)));
        for (id, member) in &self.members {
            let progress = Some(member.progress.clone());
            changes.push(Change::Progress { member: id.clone(), progress });
        }
        changes
    }

    /// The tombstones of all that [`Stored::changes`] says, in the order in which Kafka writes them.
    pub fn tombstones(&self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(3 * self.members.len() + 2);
        let ids = || self.members.keys().cloned();
        changes.extend(ids().map(|member| Change::Progress { member, progress: None }));
        changes.extend(self.targets.keys().map(|id| Change::Target { member: id.clone(), partitions: None }));
        changes.push(Change::TargetEpoch(None));
        changes.extend(ids().map(|member| Change::Profile { member, profile: None }));
        let patterns = self.patterns.keys();
        changes.extend(patterns.map(|pattern| Change::Pattern { pattern: pattern.clone(), matches: None }));
        changes.push(Change::Epoch(None));
        changes
    }

    pub fn target(&self, member: &str) -> Arc<Partitions> {
        self.targets.get(member).cloned().unwrap_or_default()
    }

    pub fn state(&self) -> ConsumerGroupState {
        let target_epoch = self.target_epoch.epoch;
        if self.members.is_empty() {
            return ConsumerGroupState::Empty;
        }
        if self.epoch.epoch > target_epoch {
            return ConsumerGroupState::Assigning;
        }
        let is_reconciled = |member: &Arc<Member>| member.progress.is_reconciled_to(target_epoch);
        match self.members.values().all(is_reconciled) {
            true => ConsumerGroupState::Stable,
            false => ConsumerGroupState::Reconciling,
        }
    }

    /// The assignor that most members want. None: nobody says, or it is one that we do not have.
    pub fn preferred_assignor(&self) -> Option<Assignor> {
        let wanted = |assignor: Assignor| {
            let members = self.members.values();
            members.filter(|member| member.profile.assignor.as_deref() == Some(assignor.name())).count()
        };
        let mut counts: Vec<(usize, Assignor)> =
            ASSIGNORS.into_iter().map(|assignor| (wanted(assignor), assignor)).collect();
        // Stable: of equals the one that stands first.
        counts.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        counts.first().filter(|(count, _)| *count > 0).map(|(_, assignor)| *assignor)
    }
}

impl Change {
    fn is_tombstone(&self) -> bool {
        matches!(
            self,
            Change::Epoch(None)
                | Change::TargetEpoch(None)
                | Change::Profile { profile: None, .. }
                | Change::Target { partitions: None, .. }
                | Change::Progress { progress: None, .. }
                | Change::Pattern { matches: None, .. }
        )
    }
}

/// Kafka's `Dead` is missing: a dead group is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerGroupState {
    Empty,
    Assigning,
    Reconciling,
    Stable,
}

impl ConsumerGroupState {
    pub fn name(self) -> &'static str {
        match self {
            ConsumerGroupState::Empty => "Empty",
            ConsumerGroupState::Assigning => "Assigning",
            ConsumerGroupState::Reconciling => "Reconciling",
            ConsumerGroupState::Stable => "Stable",
        }
    }
}

/// A group with all that was handed to the log.
#[derive(Debug, Clone, Default)]
pub struct ConsumerGroup {
    pub stored: Stored,
    /// Members that have a partition, or have to give it up first. One, but for records that a failed write left out.
    owners: BTreeMap<(Uuid, i32), SmallVec<[Str; 1]>>,
    /// Members by topic name and by regular expression that they subscribe to.
    names: BTreeMap<Str, usize>,
    pattern_users: BTreeMap<Str, usize>,
    /// Member ids by `group.instance.id`.
    statics: BTreeMap<Str, BTreeSet<Str>>,
    classic_count: usize,
    /// Classic members by protocol that they offer.
    classic_protocols: BTreeMap<Str, usize>,
    /// The version of the catalog that the group was compared with last.
    pub compared_with: Option<u64>,
    /// The version of the catalog that all regular expressions were looked up in, and when (Unix ms).
    pub patterns_looked_up: Option<(u64, i64)>,
}

impl Kind for ConsumerGroup {
    type Stored = Stored;
    type Change = Change;

    fn of(stored: Stored) -> ConsumerGroup {
        ConsumerGroup::of(stored)
    }

    fn stored(&self) -> &Stored {
        &self.stored
    }

    fn apply(&mut self, change: &Change) {
        self.apply(change);
    }

    fn apply_to(stored: &mut Option<Stored>, change: &Change) {
        Stored::apply_to(stored, change);
    }

    fn is_end(change: &Change) -> bool {
        matches!(change, Change::Epoch(None))
    }

    fn record(group: &Str, change: &Change) -> GroupRecord {
        records::record(group, change)
    }

    fn after_write(group: Str, classic: ClassicGroup) -> AfterWrite {
        AfterWrite::Consumer { group, classic }
    }

    fn tombstones(stored: &Stored) -> Vec<Change> {
        stored.tombstones()
    }

    fn has_members(&self) -> bool {
        !self.stored.members.is_empty()
    }

    fn is_subscribed_to(&self, topic: &str) -> bool {
        self.is_subscribed_to(topic)
    }

    fn entries(shard: &mut Shard) -> &mut BTreeMap<Str, Entry> {
        &mut shard.consumers
    }
}

impl ConsumerGroup {
    pub fn of(stored: Stored) -> ConsumerGroup {
        let mut group = ConsumerGroup { stored, ..ConsumerGroup::default() };
        let members: Vec<(Str, Arc<Member>)> =
            group.stored.members.iter().map(|(id, member)| (id.clone(), member.clone())).collect();
        for (id, member) in members {
            group.count(&id, &member, 1);
        }
        group
    }

    pub fn apply(&mut self, change: &Change) {
        let of_member = match change {
            Change::Profile { member, .. } | Change::Progress { member, .. } => Some(member),
            _ => None,
        };
        let Some(id) = of_member else { return self.stored.apply(change) };
        if let Some(before) = self.stored.members.get(id).cloned() {
            self.count(id, &before, -1);
        }
        self.stored.apply(change);
        if let Some(after) = self.stored.members.get(id).cloned() {
            self.count(id, &after, 1);
        }
    }

    /// Takes a member into everything that is counted, or out of it.
    fn count(&mut self, id: &Str, member: &Member, by: isize) {
        let Member { profile, progress } = member;
        for topic in &profile.topics {
            add(&mut self.names, topic, by);
        }
        if let Some(pattern) = &profile.pattern {
            add(&mut self.pattern_users, pattern, by);
        }
        if let Some(classic) = &profile.classic {
            self.classic_count = self.classic_count.checked_add_signed(by).expect("counted before");
            let names: BTreeSet<&Str> = classic.protocols.iter().map(|offered| &offered.name).collect();
            names.into_iter().for_each(|name| add(&mut self.classic_protocols, name, by));
        }
        if let Some(instance_id) = &profile.instance_id {
            let holders = self.statics.entry(instance_id.clone()).or_default();
            match by > 0 {
                true => holders.insert(id.clone()),
                false => holders.remove(id),
            };
            if holders.is_empty() {
                self.statics.remove(instance_id);
            }
        }
        let partitions =
            assignment::each(&progress.assigned).chain(assignment::each(&progress.pending_revocation));
        for partition in partitions {
            if by > 0 {
                self.owners.entry(partition).or_default().push(id.clone());
            } else if let Some(owners) = self.owners.get_mut(&partition) {
                owners.retain(|owner| owner != id);
                if owners.is_empty() {
                    self.owners.remove(&partition);
                }
            }
        }
    }

    pub fn member(&self, id: &str) -> Option<&Arc<Member>> {
        self.stored.members.get(id)
    }

    /// Who has an instance id: one, or two when the write that took it from one of them was lost and a later one landed.
    pub fn static_members(&self, instance_id: &str) -> impl Iterator<Item = &Str> {
        self.statics.get(instance_id).into_iter().flatten()
    }

    /// Whether anybody but this member still has a partition.
    pub fn is_held_by_another(&self, member: &str, topic: Uuid, partition: i32) -> bool {
        self.owners.get(&(topic, partition)).is_some_and(|owners| owners.iter().any(|owner| owner != member))
    }

    /// Members that were given a partition that another one has for longer: the write that took it from that one has failed.
    pub fn given_too_early(&self) -> BTreeMap<Str, Vec<(Uuid, i32)>> {
        let mut given: BTreeMap<Str, Vec<(Uuid, i32)>> = BTreeMap::new();
        for (&(topic, partition), owners) in self.owners.iter().filter(|(_, owners)| owners.len() > 1) {
            let since = |owner: &&Str| {
                let progress = self.member(owner).map(|member| &member.progress);
                progress.and_then(|progress| {
                    assignment::epoch_of(&progress.assigned, topic, partition)
                        .or_else(|| assignment::epoch_of(&progress.pending_revocation, topic, partition))
                })
            };
            let first = owners.iter().min_by_key(|owner| (since(owner), (*owner).clone()));
            for late in owners.iter().filter(|owner| Some(*owner) != first) {
                given.entry(late.clone()).or_default().push((topic, partition));
            }
        }
        given
    }

    pub fn pattern_users(&self, pattern: &str) -> usize {
        self.pattern_users.get(pattern).copied().unwrap_or(0)
    }

    pub fn used_patterns(&self) -> impl Iterator<Item = &Str> {
        self.pattern_users.keys()
    }

    /// Names of all topics that somebody subscribes to, by name or by regular expression. They need not exist.
    pub fn subscribed_topics(&self) -> BTreeSet<&Str> {
        let matched = self.stored.patterns.values().flat_map(|matches| &matches.topics);
        self.names.keys().chain(matched).collect()
    }

    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.names.contains_key(topic)
            || self.stored.patterns.values().any(|matches| matches.topics.contains(topic))
    }

    /// What a member subscribes to, by name and by regular expression.
    pub fn topics_of<'a>(&'a self, profile: &'a Profile) -> impl Iterator<Item = &'a Str> {
        let matches = profile.pattern.as_ref().and_then(|pattern| self.stored.patterns.get(pattern));
        profile.topics.iter().chain(matches.into_iter().flat_map(|matches| &matches.topics))
    }

    /// All members but these speak the classic protocol.
    pub fn are_all_classic_but(&self, but: &[Str]) -> bool {
        let members = but.iter().filter_map(|id| self.member(id));
        let classic = members.filter(|member| member.is_classic()).count();
        self.classic_count - classic == self.stored.members.len() - but.len()
    }

    /// Whether somebody who offers these protocols of JoinGroup can be a member beside the classic ones.
    pub fn supports_classic<'a>(&self, mut offered: impl Iterator<Item = &'a Str>) -> bool {
        match self.stored.members.is_empty() {
            true => offered.next().is_some(),
            false => offered
                .any(|name| self.classic_protocols.get(name).copied().unwrap_or(0) == self.classic_count),
        }
    }

    /// Whether a member waits for a partition that another one still has.
    pub fn is_waiting_for_others(&self, id: &str, member: &Member) -> bool {
        member.progress.state == MemberState::Unreleased
            && self.stored.target(id).iter().any(|(topic, partitions)| {
                partitions.iter().any(|partition| {
                    assignment::epoch_of(&member.progress.assigned, *topic, *partition).is_none()
                        && self.is_held_by_another(id, *topic, *partition)
                })
            })
    }

    /// What is counted must be what a fresh count finds. For tests.
    #[cfg(test)]
    pub fn check_invariants(&self) {
        let fresh = ConsumerGroup::of(self.stored.clone());
        assert_eq!(self.names, fresh.names);
        assert_eq!(self.pattern_users, fresh.pattern_users);
        assert_eq!(self.statics, fresh.statics);
        assert_eq!(self.classic_protocols, fresh.classic_protocols);
        let sorted = |group: &ConsumerGroup| {
            let mut owners = group.owners.clone();
            owners.values_mut().for_each(|owners| owners.sort());
            owners
        };
        assert_eq!(sorted(self), sorted(&fresh));
        if self.compared_with.is_none() {
            // Perhaps half written; it is mended at the next heartbeat.
            return;
        }
        assert!(self.stored.targets.keys().all(|id| self.stored.members.contains_key(id)));
        assert!(self.stored.patterns.keys().all(|pattern| self.pattern_users.contains_key(pattern)));
    }
}

fn add(counts: &mut BTreeMap<Str, usize>, name: &Str, by: isize) {
    match counts.get_mut(name) {
        Some(count) => {
            *count = count.checked_add_signed(by).expect("counted before");
            if *count == 0 {
                counts.remove(name);
            }
        }
        None => {
            assert!(by > 0, "{name} was not counted before");
            counts.insert(name.clone(), 1);
        }
    }
}
