//! One streams group: what its records say, and what follows from that. Everything that changes it is a record, here as at a
//! replay; it decides nothing by itself. Kafka: `StreamsGroup`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::Str;
use smallvec::SmallVec;

use super::configure::Configured;
use super::description::Description;
use super::member::{Member, Profile, Progress};
use super::tasks::{Role, TaskSets, each};
use super::topology::Topology;
use super::{Entry, records};
use crate::groups::entry::{ClassicGroup, Kind};
use crate::groups::event::GroupRecord;
use crate::groups::shard::{AfterWrite, Shard};

/// The epoch of a group whose record does not say another. Not 0: that is the epoch of a member that joins.
const FIRST_EPOCH: i32 = 1;
/// The one config that assignments are made with, by Kafka's name.
pub const STANDBY_REPLICAS_CONFIG: &str = "num.standby.replicas";
/// No topology was found to fit the topics.
pub const NOT_VALIDATED: i32 = -1;

/// A change of a group; one record of `__consumer_offsets`. Without a value it is a tombstone.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Epoch(Option<Arc<Epoch>>),
    Topology(Option<Arc<Topology>>),
    Profile { member: Str, profile: Option<Arc<Profile>> },
    Target { member: Str, tasks: Option<Arc<TaskSets>> },
    TargetEpoch(Option<TargetEpoch>),
    Progress { member: Str, progress: Option<Arc<Progress>> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    pub epoch: i32,
    /// Of the topics that the topology needs and their numbers of partitions.
    pub metadata_hash: i64,
    /// The epoch of the topology if its topics are all there.
    pub validated_topology_epoch: i32,
    /// The configs that the last assignment was made with.
    pub assignment_configs: BTreeMap<Str, Str>,
}

impl Default for Epoch {
    fn default() -> Epoch {
        Epoch {
            epoch: FIRST_EPOCH,
            metadata_hash: 0,
            validated_topology_epoch: NOT_VALIDATED,
            assignment_configs: BTreeMap::new(),
        }
    }
}

impl Epoch {
    /// Copies of each task with state.
    pub fn standby_replicas(&self) -> usize {
        let said = self.assignment_configs.get(STANDBY_REPLICAS_CONFIG);
        said.and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

/// When the assignment that members should arrive at was made, and for which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetEpoch {
    pub epoch: i32,
    /// Unix ms; 0: not known.
    pub at_ms: i64,
}

impl Default for TargetEpoch {
    fn default() -> TargetEpoch {
        TargetEpoch { epoch: FIRST_EPOCH, at_ms: 0 }
    }
}

/// What the records of a group say. Cheap enough to be copied with every first change after a quiet time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stored {
    pub epoch: Arc<Epoch>,
    pub topology: Option<Arc<Topology>>,
    pub members: BTreeMap<Str, Arc<Member>>,
    /// What each member should have.
    pub targets: BTreeMap<Str, Arc<TaskSets>>,
    pub target_epoch: TargetEpoch,
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
            Change::Epoch(epoch) => self.epoch = epoch.clone().unwrap_or_default(),
            Change::Topology(topology) => self.topology = topology.clone(),
            Change::TargetEpoch(epoch) => self.target_epoch = epoch.unwrap_or_default(),
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
                self.change_member(member, |member| member.progress = Progress::clone(progress));
            }
            Change::Target { member, tasks: None } => {
                self.targets.remove(member);
            }
            Change::Target { member, tasks: Some(tasks) } => {
                self.targets.insert(member.clone(), tasks.clone());
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
        let mut changes = Vec::with_capacity(3 * self.members.len() + 3);
        for (id, member) in &self.members {
            let profile = Some(Arc::new(member.profile.clone()));
            changes.push(Change::Profile { member: id.clone(), profile });
        }
        if let Some(topology) = &self.topology {
            changes.push(Change::Topology(Some(topology.clone())));
        }
        changes.push(Change::Epoch(Some(self.epoch.clone())));
        for (id, tasks) in &self.targets {
            changes.push(Change::Target { member: id.clone(), tasks: Some(tasks.clone()) });
        }
        changes.push(Change::TargetEpoch(Some(self.target_epoch)));
        for (id, member) in &self.members {
            let progress = Some(Arc::new(member.progress.clone()));
            changes.push(Change::Progress { member: id.clone(), progress });
        }
        changes
    }

    /// The tombstones of all that [`Stored::changes`] says, in the order in which Kafka writes them.
    pub fn tombstones(&self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(3 * self.members.len() + 3);
        let ids = || self.members.keys().cloned();
        changes.extend(ids().map(|member| Change::Progress { member, progress: None }));
        changes.extend(self.targets.keys().map(|id| Change::Target { member: id.clone(), tasks: None }));
        changes.push(Change::TargetEpoch(None));
        changes.extend(ids().map(|member| Change::Profile { member, profile: None }));
        changes.push(Change::Epoch(None));
        changes.push(Change::Topology(None));
        changes
    }

    pub fn target(&self, member: &str) -> Arc<TaskSets> {
        self.targets.get(member).cloned().unwrap_or_default()
    }

    /// Its topology, if its topics are all there.
    pub fn validated_topology(&self) -> Option<&Arc<Topology>> {
        self.topology.as_ref().filter(|topology| topology.epoch == self.epoch.validated_topology_epoch)
    }

    pub fn state(&self) -> StreamsGroupState {
        let target_epoch = self.target_epoch.epoch;
        if self.members.is_empty() {
            return StreamsGroupState::Empty;
        }
        if self.validated_topology().is_none() {
            return StreamsGroupState::NotReady;
        }
        if self.epoch.epoch > target_epoch {
            return StreamsGroupState::Assigning;
        }
        match self.members.values().all(|member| member.progress.is_reconciled_to(target_epoch)) {
            true => StreamsGroupState::Stable,
            false => StreamsGroupState::Reconciling,
        }
    }
}

impl Change {
    fn is_tombstone(&self) -> bool {
        matches!(
            self,
            Change::Epoch(None)
                | Change::Topology(None)
                | Change::TargetEpoch(None)
                | Change::Profile { profile: None, .. }
                | Change::Target { tasks: None, .. }
                | Change::Progress { progress: None, .. }
        )
    }
}

/// Kafka's `Dead` is missing: a dead group is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamsGroupState {
    Empty,
    /// Its topology does not fit the topics that there are.
    NotReady,
    Assigning,
    Reconciling,
    Stable,
}

impl StreamsGroupState {
    pub fn name(self) -> &'static str {
        match self {
            StreamsGroupState::Empty => "Empty",
            StreamsGroupState::NotReady => "NotReady",
            StreamsGroupState::Assigning => "Assigning",
            StreamsGroupState::Reconciling => "Reconciling",
            StreamsGroupState::Stable => "Stable",
        }
    }
}

/// A member that has a task, or has to give it up first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    is_active: bool,
    member: Str,
    process_id: Str,
}

/// A group with all that was handed to the log.
#[derive(Debug, Clone, Default)]
pub struct StreamsGroup {
    pub stored: Stored,
    /// By subtopology and number.
    holders: BTreeMap<(Str, i32), SmallVec<[Holder; 2]>>,
    /// Member ids by `group.instance.id`. More than one only when the write in which the newest took the place of another was lost and a
    /// later one was not.
    statics: BTreeMap<Str, BTreeSet<Str>>,
    /// The version of the catalog that the group was compared with last.
    pub compared_with: Option<u64>,
    /// What its topology means with the topics that there were then.
    pub configured: Option<Arc<Configured>>,
    /// The member that asked the whole application to stop.
    pub shutdown_asked_by: Option<Str>,
    /// Goes up with every change of where tasks are.
    pub endpoint_epoch: i32,
    pub description: Description,
}

impl Kind for StreamsGroup {
    type Stored = Stored;
    type Change = Change;

    fn of(stored: Stored) -> StreamsGroup {
        let mut group = StreamsGroup { stored, ..StreamsGroup::default() };
        let members: Vec<(Str, Arc<Member>)> =
            group.stored.members.iter().map(|(id, member)| (id.clone(), member.clone())).collect();
        for (id, member) in members {
            group.count(&id, &member, true);
        }
        group
    }

    fn stored(&self) -> &Stored {
        &self.stored
    }

    fn apply(&mut self, change: &Change) {
        let of_member = match change {
            Change::Profile { member, .. } | Change::Progress { member, .. } => Some(member),
            _ => None,
        };
        let Some(id) = of_member else { return self.stored.apply(change) };
        if let Some(before) = self.stored.members.get(id).cloned() {
            self.count(id, &before, false);
        }
        self.stored.apply(change);
        if let Some(after) = self.stored.members.get(id).cloned() {
            self.count(id, &after, true);
        }
        if self.stored.members.is_empty() {
            self.shutdown_asked_by = None;
        }
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
        AfterWrite::Streams { group, classic }
    }

    fn tombstones(stored: &Stored) -> Vec<Change> {
        stored.tombstones()
    }

    fn has_members(&self) -> bool {
        !self.stored.members.is_empty()
    }

    fn is_subscribed_to(&self, topic: &str) -> bool {
        let topology = self.stored.topology.as_ref().filter(|_| self.has_members());
        topology.is_some_and(|topology| topology.reader_of(topic).is_some())
    }

    fn entries(shard: &mut Shard) -> &mut BTreeMap<Str, Entry> {
        &mut shard.streams
    }
}

impl StreamsGroup {
    pub fn member(&self, id: &str) -> Option<&Arc<Member>> {
        self.stored.members.get(id)
    }

    /// Who has an instance id.
    pub fn static_members(&self, instance_id: &str) -> impl Iterator<Item = &Str> {
        self.statics.get(instance_id).into_iter().flatten()
    }

    /// Takes a member's instance id and tasks into what is counted, or out of it.
    fn count(&mut self, id: &Str, member: &Member, is_there: bool) {
        let Member { profile, progress } = member;
        if let Some(instance_id) = &profile.instance_id {
            let holders = self.statics.entry(instance_id.clone()).or_default();
            match is_there {
                true => holders.insert(id.clone()),
                false => holders.remove(id),
            };
            if holders.is_empty() {
                self.statics.remove(instance_id);
            }
        }
        for (role, subtopology, task) in progress.held.each().chain(progress.pending_revocation.each()) {
            let place = (subtopology.clone(), task);
            if is_there {
                let holder = Holder {
                    is_active: role == Role::Active,
                    member: id.clone(),
                    process_id: profile.process_id.clone(),
                };
                self.holders.entry(place).or_default().push(holder);
            } else if let Some(holders) = self.holders.get_mut(&place) {
                holders.retain(|holder| holder.member != *id);
                if holders.is_empty() {
                    self.holders.remove(&place);
                }
            }
        }
    }

    /// Whether another member has a task so that this one must wait for it: as an active one anybody, in any other role a member
    /// of the same process.
    pub fn is_held_by_another(
        &self,
        member: &str,
        process_id: &str,
        role: Role,
        subtopology: &Str,
        task: i32,
    ) -> bool {
        let Some(holders) = self.holders.get(&(subtopology.clone(), task)) else { return false };
        holders
            .iter()
            .filter(|holder| holder.member != member)
            .any(|holder| role == Role::Active && holder.is_active || holder.process_id == process_id)
    }

    /// Members that were given a task that another one has for longer in a way that they had to wait for: the write that took it
    /// from that one has failed.
    pub fn given_too_early(&self) -> BTreeMap<Str, Vec<(Str, i32)>> {
        let mut given: BTreeMap<Str, Vec<(Str, i32)>> = BTreeMap::new();
        for ((subtopology, task), holders) in self.holders.iter().filter(|(_, holders)| holders.len() > 1) {
            let since = |holder: &Holder| {
                let progress = &self.member(&holder.member).expect("holds a task").progress;
                let pending = || progress.pending_revocation.epoch_of(subtopology, *task);
                let got_at = progress.held.epoch_of(subtopology, *task).or_else(pending);
                // A copy has no epoch of its own.
                got_at.filter(|_| holder.is_active).unwrap_or(progress.epoch)
            };
            let mut holders: Vec<&Holder> = holders.iter().collect();
            holders.sort_by_key(|holder| (since(holder), holder.member.clone()));
            let mut first: Vec<&Holder> = Vec::with_capacity(holders.len());
            for holder in holders {
                let is_in_its_way = |other: &&Holder| {
                    other.member != holder.member
                        && (other.is_active && holder.is_active || other.process_id == holder.process_id)
                };
                match first.iter().any(is_in_its_way) {
                    true => {
                        given.entry(holder.member.clone()).or_default().push((subtopology.clone(), *task));
                    }
                    false => first.push(holder),
                }
            }
        }
        given
    }

    /// Every task is one member's to have, with as many copies as there can be, as the topology is configured now.
    pub fn is_whole(&self) -> bool {
        let Some(configured) = &self.configured else { return true };
        let mut active: BTreeSet<(&Str, i32)> = BTreeSet::new();
        let mut places: BTreeSet<(&Str, &Str, i32)> = BTreeSet::new();
        let mut copies = 0;
        for (id, target) in &self.stored.targets {
            let Some(member) = self.member(id) else { return false };
            let process_id = &member.profile.process_id;
            for (subtopology, task) in each(&target.active) {
                if !active.insert((subtopology, task)) || !places.insert((process_id, subtopology, task)) {
                    return false;
                }
            }
            for (subtopology, task) in each(&target.standby) {
                if !places.insert((process_id, subtopology, task)) {
                    return false;
                }
                copies += 1;
            }
        }
        let members = self.stored.members.values();
        let processes: BTreeSet<&Str> = members.map(|member| &member.profile.process_id).collect();
        let copies_each = self.stored.epoch.standby_replicas().min(processes.len().saturating_sub(1));
        let (mut all, mut all_copies) = (0, 0);
        for one in configured.subtopologies.values().filter(|_| configured.is_ready()) {
            let count = usize::try_from(one.task_count).unwrap_or(0);
            all += count;
            all_copies += if one.is_stateful { count * copies_each } else { 0 };
        }
        active.len() == all && copies == all_copies
    }

    /// What is counted must be what a fresh count finds. For tests.
    #[cfg(test)]
    pub fn check_invariants(&self) {
        let fresh = StreamsGroup::of(self.stored.clone());
        let sorted = |group: &StreamsGroup| {
            let mut holders = group.holders.clone();
            holders.values_mut().for_each(|holders| holders.sort());
            holders
        };
        assert_eq!(sorted(self), sorted(&fresh));
        assert_eq!(self.statics, fresh.statics);
        if self.compared_with.is_some() {
            // Otherwise it is perhaps half written; it is mended at the next heartbeat.
            assert!(self.stored.targets.keys().all(|id| self.stored.members.contains_key(id)));
            assert!(self.given_too_early().is_empty());
        }
    }
}
