//! The simple assignor, the one that share groups have: every partition is read by at least one member, every member reads some, and
//! both are shared as evenly as that goes; who reads something keeps it. A pure function of who subscribes to what and of the assignment
//! before. The same promises as Kafka's `SimpleAssignor`; which partition goes to whom may differ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{Str, Uuid};

use crate::groups::consumer::Partitions;

#[derive(Debug, Clone)]
pub struct Subscriber {
    pub member_id: Str,
    /// Topics that exist.
    pub topics: Arc<BTreeSet<Uuid>>,
    /// What it should have read until now.
    pub earlier: Arc<Partitions>,
}

/// What every subscriber should read, in their order. `partitions` are those whose state is kept.
pub fn assign(subscribers: &[Subscriber], partitions: &Partitions) -> Vec<Partitions> {
    let Some(first) = subscribers.first() else { return Vec::new() };
    let is_same = |one: &Subscriber| Arc::ptr_eq(&one.topics, &first.topics) || one.topics == first.topics;
    let mut given = vec![Partitions::new(); subscribers.len()];
    let all: Vec<usize> = (0..subscribers.len()).collect();
    match subscribers.iter().all(is_same) {
        // Together, so that few partitions of many topics are shared alike.
        true => {
            let pool = first.topics.iter().flat_map(|topic| of_topic(partitions, *topic)).collect();
            share(subscribers, &all, pool, &mut given);
        }
        false => {
            let mut by_topic: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
            for (index, subscriber) in subscribers.iter().enumerate() {
                subscriber.topics.iter().for_each(|topic| by_topic.entry(*topic).or_default().push(index));
            }
            for (topic, members) in by_topic {
                share(subscribers, &members, of_topic(partitions, topic).collect(), &mut given);
            }
        }
    }
    given
}

fn of_topic(partitions: &Partitions, topic: Uuid) -> impl Iterator<Item = (Uuid, i32)> {
    partitions.get(&topic).into_iter().flatten().map(move |partition| (topic, *partition))
}

/// Shares a pool of partitions among members.
fn share(
    subscribers: &[Subscriber],
    members: &[usize],
    pool: BTreeSet<(Uuid, i32)>,
    given: &mut [Partitions],
) {
    if pool.is_empty() {
        return;
    }
    // So many members read each partition at most, and so many partitions are read by each member.
    let sharing = members.len().div_ceil(pool.len());
    let total = sharing * pool.len();
    let up_to = |count: usize| (total * count).div_ceil(members.len());
    let mut room: Vec<usize> = (0..members.len()).map(|at| up_to(at + 1) - up_to(at)).collect();
    let mut readers: BTreeMap<(Uuid, i32), BTreeSet<usize>> =
        pool.into_iter().map(|partition| (partition, BTreeSet::new())).collect();
    for (at, &member) in members.iter().enumerate() {
        let earlier = subscribers[member].earlier.iter();
        let earlier =
            earlier.flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)));
        for partition in earlier {
            let Some(readers) = readers.get_mut(&partition) else { continue };
            if room[at] > 0 && readers.len() < sharing {
                readers.insert(at);
                room[at] -= 1;
            }
        }
    }
    let mut open: Vec<usize> = (0..members.len()).filter(|&at| room[at] > 0).collect();
    let mut next = 0;
    for readers in readers.values_mut() {
        let mut passed = 0;
        while readers.len() < sharing && passed < open.len() {
            next %= open.len();
            let at = open[next];
            if !readers.insert(at) {
                passed += 1;
                next += 1;
                continue;
            }
            room[at] -= 1;
            match room[at] {
                0 => drop(open.remove(next)),
                _ => next += 1,
            }
        }
    }
    for ((topic, partition), readers) in readers {
        for at in readers {
            given[members[at]].entry(topic).or_default().insert(partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOPIC: Uuid = Uuid([1; 16]);
    const OTHER: Uuid = Uuid([2; 16]);

    fn subscriber(id: usize, topics: &[Uuid], earlier: Partitions) -> Subscriber {
        Subscriber {
            member_id: Str::from(format!("member-{id}")),
            topics: Arc::new(topics.iter().copied().collect()),
            earlier: Arc::new(earlier),
        }
    }

    fn counts(given: &[Partitions]) -> Vec<usize> {
        given.iter().map(|partitions| partitions.values().map(BTreeSet::len).sum()).collect()
    }

    #[test]
    fn more_members_than_partitions_share_them() {
        let members: Vec<Subscriber> = (0..4).map(|id| subscriber(id, &[TOPIC], Partitions::new())).collect();
        let given = assign(&members, &Partitions::from([(TOPIC, [0, 1].into())]));
        assert_eq!(counts(&given), [1, 1, 1, 1]);
        let readers = given.iter().filter(|partitions| partitions[&TOPIC].contains(&0)).count();
        assert_eq!(readers, 2);
    }

    #[test]
    fn who_subscribes_to_something_else_gets_none_of_it() {
        let members = [
            subscriber(0, &[TOPIC], Partitions::new()),
            subscriber(1, &[TOPIC, OTHER], Partitions::new()),
            subscriber(2, &[OTHER], Partitions::from([(TOPIC, [0].into())])),
        ];
        let partitions = Partitions::from([(TOPIC, [0, 1].into()), (OTHER, [0, 1].into())]);
        let given = assign(&members, &partitions);
        assert!(!given[0].contains_key(&OTHER) && !given[2].contains_key(&TOPIC));
        assert_eq!(counts(&given), [1, 2, 1]);
    }

    proptest! {
        /// Every partition has a reader, no member reads much more than another, and who is asked again gives the same.
        #[test]
        fn everything_is_read_and_evenly(
            member_count in 1usize..20,
            partition_count in 1i32..20,
            earlier in prop::collection::vec(prop::collection::btree_set(0i32..25, 0..8), 20),
        ) {
            let partitions = Partitions::from([(TOPIC, (0..partition_count).collect())]);
            let member = |(id, earlier): (usize, &BTreeSet<i32>)| {
                let earlier = Partitions::from([(TOPIC, earlier.clone())]);
                subscriber(id, &[TOPIC], earlier)
            };
            let mut members: Vec<Subscriber> =
                earlier.iter().take(member_count).enumerate().map(member).collect();
            let given = assign(&members, &partitions);
            let read: BTreeSet<i32> = given.iter().flat_map(|one| one.values().flatten().copied()).collect();
            prop_assert_eq!(read, (0..partition_count).collect::<BTreeSet<i32>>());
            let counts = counts(&given);
            let sharing = member_count.div_ceil(partition_count as usize);
            let most = (sharing * partition_count as usize).div_ceil(member_count);
            prop_assert!(counts.iter().all(|count| *count <= most), "{counts:?}");
            for (member, given) in members.iter_mut().zip(&given) {
                member.earlier = Arc::new(given.clone());
            }
            let again = assign(&members, &partitions);
            for (before, after) in given.iter().zip(&again) {
                let before: BTreeSet<i32> = before.values().flatten().copied().collect();
                let after: BTreeSet<i32> = after.values().flatten().copied().collect();
                prop_assert!(before.is_subset(&after), "{before:?} {after:?}");
            }
        }
    }
}
