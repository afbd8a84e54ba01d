//! One share group: what its records say. Everything that changes it is a record, here as at a replay; it decides nothing by itself.
//! Kafka: `ShareGroup`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::Str;

use super::event::ShareGroupState;
use super::states::States;
use super::{Entry, records};
use crate::groups::consumer::{Epoch, Partitions, TargetEpoch};
use crate::groups::entry::{ClassicGroup, Kind};
use crate::groups::event::GroupRecord;
use crate::groups::shard::{AfterWrite, Shard};

/// The epoch of a group whose record does not say another. Not 0: that is the epoch of a member that joins.
const FIRST_EPOCH: i32 = 1;

/// What a member says about itself; its record of type 10.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub topics: BTreeSet<Str>,
}

/// What a member was told to read; its record of type 14.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub epoch: i32,
    /// The answer with the newer epoch may have been lost: the member may still come with this one.
    pub previous_epoch: i32,
    pub assigned: Arc<Partitions>,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { epoch: 0, previous_epoch: -1, assigned: Arc::default() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    pub profile: Profile,
    pub progress: Progress,
}

/// A change of a group; one record of `__consumer_offsets`. Without a value it is a tombstone.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Epoch(Option<Epoch>),
    Profile { member: Str, profile: Option<Arc<Profile>> },
    Target { member: Str, partitions: Option<Arc<Partitions>> },
    TargetEpoch(Option<TargetEpoch>),
    Progress { member: Str, progress: Option<Progress> },
    States(Option<Arc<States>>),
}

/// What the records of a group say. Cheap enough to be copied with every first change after a quiet time.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub epoch: Epoch,
    pub members: BTreeMap<Str, Arc<Member>>,
    /// What each member should read.
    pub targets: BTreeMap<Str, Arc<Partitions>>,
    pub target_epoch: TargetEpoch,
    pub states: Arc<States>,
}

impl Default for Stored {
    fn default() -> Stored {
        Stored {
            epoch: Epoch { epoch: FIRST_EPOCH, metadata_hash: 0 },
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            target_epoch: TargetEpoch { epoch: FIRST_EPOCH, at_ms: 0 },
            states: Arc::default(),
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
            Change::States(states) => self.states = states.clone().unwrap_or_default(),
            Change::Profile { member, profile: None } => {
                self.members.remove(member);
            }
            Change::Profile { member, profile: Some(profile) } => {
                let known = self.members.entry(member.clone()).or_default();
                Arc::make_mut(known).profile = Profile::clone(profile);
            }
            Change::Progress { member, progress: None } => {
                if let Some(known) = self.members.get_mut(member) {
                    Arc::make_mut(known).progress = Progress::default();
                }
            }
            Change::Progress { member, progress: Some(progress) } => {
                let known = self.members.entry(member.clone()).or_default();
                Arc::make_mut(known).progress = progress.clone();
            }
            Change::Target { member, partitions: None } => {
                self.targets.remove(member);
            }
            Change::Target { member, partitions: Some(partitions) } => {
                self.targets.insert(member.clone(), partitions.clone());
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
        changes.push(Change::Epoch(Some(self.epoch)));
        for (id, partitions) in &self.targets {
            changes.push(Change::Target { member: id.clone(), partitions: Some(partitions.clone()) });
        }
        changes.push(Change::TargetEpoch(Some(self.target_epoch)));
        for (id, member) in &self.members {
            let progress = Some(member.progress.clone());
            changes.push(Change::Progress { member: id.clone(), progress });
        }
        if *self.states != States::default() {
            changes.push(Change::States(Some(self.states.clone())));
        }
        changes
    }

    /// The tombstones of all that [`Stored::changes`] says, in the order in which Kafka writes them.
    pub fn tombstones(&self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(3 * self.members.len() + 3);
        let ids = || self.members.keys().cloned();
        changes.extend(ids().map(|member| Change::Progress { member, progress: None }));
        changes.extend(self.targets.keys().map(|id| Change::Target { member: id.clone(), partitions: None }));
        changes.push(Change::TargetEpoch(None));
        changes.extend(ids().map(|member| Change::Profile { member, profile: None }));
        changes.push(Change::States(None));
        changes.push(Change::Epoch(None));
        changes
    }

    pub fn state(&self) -> ShareGroupState {
        match self.members.is_empty() {
            true => ShareGroupState::Empty,
            false => ShareGroupState::Stable,
        }
    }

    pub fn target(&self, member: &str) -> Arc<Partitions> {
        self.targets.get(member).cloned().unwrap_or_default()
    }

    /// Names of all topics that somebody subscribes to. They need not exist.
    pub fn subscribed_topics(&self) -> BTreeSet<&Str> {
        self.members.values().flat_map(|member| &member.profile.topics).collect()
    }
}

impl Change {
    fn is_tombstone(&self) -> bool {
        matches!(
            self,
            Change::Epoch(None)
                | Change::TargetEpoch(None)
                | Change::States(None)
                | Change::Profile { profile: None, .. }
                | Change::Target { partitions: None, .. }
                | Change::Progress { progress: None, .. }
        )
    }
}

/// A group with all that was handed to the log.
#[derive(Debug, Clone, Default)]
pub struct ShareGroup {
    pub stored: Stored,
    /// The version of the catalog that the group was compared with last.
    pub compared_with: Option<u64>,
    /// Of these states, with the targets of this epoch, everything that is subscribed to has a reader.
    pub all_read: Option<(Arc<States>, i32)>,
}

impl ShareGroup {
    pub fn member(&self, id: &str) -> Option<&Arc<Member>> {
        self.stored.members.get(id)
    }
}

impl Kind for ShareGroup {
    type Stored = Stored;
    type Change = Change;

    fn of(stored: Stored) -> ShareGroup {
        ShareGroup { stored, ..ShareGroup::default() }
    }

    fn stored(&self) -> &Stored {
        &self.stored
    }

    fn apply(&mut self, change: &Change) {
        self.stored.apply(change);
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

    fn after_write(group: Str, _: ClassicGroup) -> AfterWrite {
        AfterWrite::Share { group }
    }

    fn tombstones(stored: &Stored) -> Vec<Change> {
        stored.tombstones()
    }

    fn has_members(&self) -> bool {
        !self.stored.members.is_empty()
    }

    fn is_subscribed_to(&self, topic: &str) -> bool {
        self.stored.subscribed_topics().into_iter().any(|name| **name == *topic)
    }

    fn entries(shard: &mut Shard) -> &mut BTreeMap<Str, Entry> {
        &mut shard.shares
    }
}
