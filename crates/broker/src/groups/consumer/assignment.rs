//! Sets of partitions, in the two forms that groups have them in.

use std::collections::{BTreeMap, BTreeSet};

use protocol::Uuid;

/// Partitions by topic. A topic without partitions does not stand in it.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// Partitions by topic, each with the epoch in which its member got it.
pub type Assigned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

pub fn with_epoch(partitions: &Partitions, epoch: i32) -> Assigned {
    let topic = |(topic, partitions): (&Uuid, &BTreeSet<i32>)| {
        (*topic, partitions.iter().map(|partition| (*partition, epoch)).collect())
    };
    partitions.iter().map(topic).collect()
}

/// The epoch a partition was got in, if it is there.
pub fn epoch_of(assigned: &Assigned, topic: Uuid, partition: i32) -> Option<i32> {
    assigned.get(&topic)?.get(&partition).copied()
}

pub fn each(assigned: &Assigned) -> impl Iterator<Item = (Uuid, i32)> + '_ {
    assigned.iter().flat_map(|(topic, partitions)| partitions.keys().map(|partition| (*topic, *partition)))
}

/// Whether a member that says it owns `owned` owns nothing beside `assigned`. One that says nothing does not.
pub fn is_subset(owned: Option<&Partitions>, assigned: &Assigned) -> bool {
    let Some(owned) = owned else { return false };
    owned.iter().all(|(topic, partitions)| {
        let assigned = assigned.get(topic);
        partitions.iter().all(|partition| assigned.is_some_and(|assigned| assigned.contains_key(partition)))
    })
}

pub fn is_same_set(left: &Assigned, right: &Assigned) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|((left_topic, left), (right_topic, right))| {
            left_topic == right_topic && left.keys().eq(right.keys())
        })
}
