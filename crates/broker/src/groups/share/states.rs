//! Which share partitions of a group have a state at the share coordinator.
//!
//! ```text
//!   subscribed to ──▶ initializing ──the coordinator has it──▶ initialized: may be assigned ──tool deletes it──▶ deleting ──▶ gone
//! ```

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Str, Uuid};

/// The record of type 15.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct States {
    pub initializing: BTreeMap<Uuid, TopicStates>,
    pub initialized: BTreeMap<Uuid, TopicStates>,
    /// With their names.
    pub deleting: BTreeMap<Uuid, Str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicStates {
    pub name: Str,
    pub partitions: BTreeSet<i32>,
    /// Since when they are being initialized, monotonic ms; not in the record. None: by a coordinator that is gone.
    pub since_ms: Option<u64>,
}

impl States {
    /// A partition whose initialization began so long ago that it is begun again does not count.
    pub fn is_known(&self, topic: Uuid, partition: i32, now_ms: u64, retry_ms: u64) -> bool {
        let has = |topics: &BTreeMap<Uuid, TopicStates>| {
            topics.get(&topic).filter(|states| states.partitions.contains(&partition)).cloned()
        };
        let is_under_way = |states: TopicStates| {
            states.since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) < retry_ms)
        };
        has(&self.initialized).is_some() || has(&self.initializing).is_some_and(is_under_way)
    }

    pub fn begin(&mut self, topic: Uuid, name: &Str, partitions: impl IntoIterator<Item = i32>, now_ms: u64) {
        self.deleting.remove(&topic);
        let states = self.initializing.entry(topic).or_default();
        states.name = name.clone();
        states.partitions.extend(partitions);
        states.since_ms = Some(now_ms);
    }

    pub fn initialized(&mut self, partitions: &BTreeSet<(Uuid, i32)>) {
        for (topic, partition) in partitions {
            let Some(initializing) = self.initializing.get(topic) else { continue };
            // A tool has deleted it meanwhile.
            if !initializing.partitions.contains(partition) {
                continue;
            }
            let name = initializing.name.clone();
            let states = self.initialized.entry(*topic).or_default();
            states.name = name;
            states.partitions.insert(*partition);
        }
        self.not_initialized(partitions);
    }

    pub fn not_initialized(&mut self, partitions: &BTreeSet<(Uuid, i32)>) {
        for (topic, partition) in partitions {
            let Some(states) = self.initializing.get_mut(topic) else { continue };
            states.partitions.remove(partition);
            if states.partitions.is_empty() {
                self.initializing.remove(topic);
            }
        }
    }

    /// The topic's states are to be deleted. Gives the partitions that may have some.
    pub fn delete(&mut self, topic: Uuid, name: &Str, partition_count: i32) -> BTreeSet<i32> {
        let mut partitions = BTreeSet::new();
        let was_deleting = self.deleting.contains_key(&topic);
        for states in
            [self.initialized.remove(&topic), self.initializing.remove(&topic)].into_iter().flatten()
        {
            partitions.extend(states.partitions);
        }
        if was_deleting {
            partitions.extend(0..partition_count);
        }
        if !partitions.is_empty() {
            self.deleting.insert(topic, name.clone());
        }
        partitions
    }

    pub fn deleted(&mut self, topics: &BTreeSet<Uuid>) {
        self.deleting.retain(|topic, _| !topics.contains(topic));
    }

    /// Topics are gone, and their states with them.
    pub fn forget(&mut self, is_gone: impl Fn(Uuid) -> bool) {
        self.initializing.retain(|topic, _| !is_gone(*topic));
        self.initialized.retain(|topic, _| !is_gone(*topic));
        self.deleting.retain(|topic, _| !is_gone(*topic));
    }

    /// How many there are; what bounds the record.
    pub fn len(&self) -> usize {
        let topics = self.initializing.values().chain(self.initialized.values());
        topics.map(|states| states.partitions.len()).sum()
    }
}
