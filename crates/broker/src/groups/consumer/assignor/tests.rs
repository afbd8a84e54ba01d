use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use protocol::{Str, Uuid};

use super::super::assignment::Partitions;
use super::{ASSIGNORS, Assignor, Spec, Subscriber};

fn topic(number: usize) -> Uuid {
    Uuid::from_u128(number as u128 + 1)
}

fn subscriber(number: usize, topics: impl IntoIterator<Item = usize>, is_static: bool) -> Subscriber {
    Subscriber {
        member_id: Str::from(format!("m{number:03}")),
        instance_id: is_static.then(|| Str::from(format!("i{:03}", 999 - number))),
        topics: Arc::new(topics.into_iter().map(topic).collect()),
        earlier: Arc::default(),
    }
}

fn spec(partition_counts: &[i32], subscribers: Vec<Subscriber>) -> Spec {
    let partition_counts = partition_counts.iter().enumerate().map(|(number, count)| (topic(number), *count));
    Spec { subscribers, partition_counts: partition_counts.collect() }
}

fn sizes(assigned: &[Partitions]) -> Vec<usize> {
    assigned.iter().map(|partitions| partitions.values().map(BTreeSet::len).sum()).collect()
}

fn with_earlier(mut spec: Spec, earlier: Vec<Partitions>) -> Spec {
    for (subscriber, earlier) in spec.subscribers.iter_mut().zip(earlier) {
        subscriber.earlier = Arc::new(earlier);
    }
    spec
}

/// How many partitions have another owner than before.
fn moved(before: &Spec, after: &[Partitions]) -> usize {
    let lost = |(before, after): (&Subscriber, &Partitions)| -> usize {
        let lost_of = |(topic, partitions): (&Uuid, &BTreeSet<i32>)| {
            partitions.iter().filter(|one| !after.get(topic).is_some_and(|now| now.contains(one))).count()
        };
        before.earlier.iter().map(lost_of).sum()
    };
    before.subscribers.iter().zip(after).map(lost).sum()
}

/// Every partition of a topic that somebody subscribes to has one owner, who subscribes to it.
fn check_complete(spec: &Spec, assigned: &[Partitions]) {
    let mut owners: BTreeMap<(Uuid, i32), usize> = BTreeMap::new();
    for (index, partitions) in assigned.iter().enumerate() {
        for (topic, partitions) in partitions {
            assert!(spec.subscribers[index].topics.contains(topic), "{index} did not ask for {topic}");
            assert!(!partitions.is_empty());
            for partition in partitions {
                assert_eq!(owners.insert((*topic, *partition), index), None, "{topic}-{partition} twice");
            }
        }
    }
    for topic in spec.subscribers.iter().flat_map(|subscriber| subscriber.topics.iter()) {
        for partition in 0..spec.partition_counts[topic] {
            assert!(owners.contains_key(&(*topic, partition)), "nobody has {topic}-{partition}");
        }
    }
}

#[test]
fn range_cuts_topics_alike_and_puts_static_members_first() {
    // Static members stand in the order of their instance ids: i997 (m002) before i998 (m001).
    let members =
        vec![subscriber(0, [0, 1], false), subscriber(1, [0, 1], true), subscriber(2, [0, 1], true)];
    let assigned = Assignor::Range.assign(&spec(&[4, 4], members));
    let both = |partitions: &[i32]| -> Partitions {
        [0, 1].into_iter().map(|number| (topic(number), partitions.iter().copied().collect())).collect()
    };
    assert_eq!(assigned, [both(&[3]), both(&[2]), both(&[0, 1])]);
}

#[test]
fn uniform_gives_a_new_member_its_share_and_moves_nothing_else() {
    let two = spec(&[7], vec![subscriber(0, [0], false), subscriber(1, [0], false)]);
    let first = Assignor::Uniform.assign(&two);
    assert_eq!(sizes(&first), [4, 3]);
    let mut three = two.clone();
    three.subscribers.push(subscriber(2, [0], false));
    let three = with_earlier(three, first.clone());
    let second = Assignor::Uniform.assign(&three);
    assert_eq!(sizes(&second), [3, 2, 2]);
    assert_eq!(moved(&three, &second), 2);
}

#[test]
fn uniform_evens_out_members_with_different_topics() {
    // m0 could take all of both; m1 can only have of the second.
    let members = vec![subscriber(0, [0, 1], false), subscriber(1, [1], false)];
    let assigned = Assignor::Uniform.assign(&spec(&[4, 4], members));
    assert_eq!(sizes(&assigned), [4, 4]);
}

#[test]
fn nobody_and_nothing_can_be_assigned() {
    for assignor in ASSIGNORS {
        assert!(assignor.assign(&Spec::default()).is_empty());
        let idle = spec(&[], vec![subscriber(0, [], false)]);
        assert_eq!(assignor.assign(&idle), [Partitions::new()]);
        assert_eq!(Assignor::of(assignor.name()), Some(assignor));
    }
}

/// Members, what each subscribes to as bits of a number, topics with their partitions.
fn any_spec() -> impl Strategy<Value = (Spec, Vec<u8>)> {
    let topics = prop::collection::vec(1..12i32, 1..5);
    let members = prop::collection::vec((0..16u8, any::<bool>()), 1..9);
    (topics, members).prop_map(|(counts, members)| {
        let of = |bits: u8| (0..counts.len()).filter(move |number| bits >> number & 1 == 1);
        let subscribers = members.iter().enumerate();
        let subscribers =
            subscribers.map(|(number, (bits, is_static))| subscriber(number, of(*bits), *is_static));
        (spec(&counts, subscribers.collect()), members.iter().map(|(bits, _)| *bits).collect())
    })
}

fn is_alike(spec: &Spec) -> bool {
    spec.subscribers.iter().all(|subscriber| subscriber.topics == spec.subscribers[0].topics)
}

fn spread(sizes: &[usize]) -> usize {
    sizes.iter().max().unwrap_or(&0) - sizes.iter().min().unwrap_or(&0)
}

proptest! {
    #[test]
    fn every_partition_has_one_owner((spec, _) in any_spec()) {
        for assignor in ASSIGNORS {
            let assigned = assignor.assign(&spec);
            check_complete(&spec, &assigned);
            // The same again, and the same with the order of nothing but the ids.
            prop_assert_eq!(assignor.assign(&spec), assigned);
        }
    }

    #[test]
    fn range_shares_each_topic_evenly((spec, _) in any_spec()) {
        let assigned = Assignor::Range.assign(&spec);
        for topic in spec.partition_counts.keys() {
            let shares: Vec<usize> = spec.subscribers.iter().zip(&assigned)
                .filter(|(subscriber, _)| subscriber.topics.contains(topic))
                .map(|(_, partitions)| partitions.get(topic).map_or(0, BTreeSet::len))
                .collect();
            prop_assert!(spread(&shares) <= 1);
        }
    }

    #[test]
    fn uniform_is_even_and_keeps_what_it_can((spec, _) in any_spec(), leaves in 0..8usize) {
        let assigned = Assignor::Uniform.assign(&spec);
        if is_alike(&spec) {
            prop_assert!(spread(&sizes(&assigned)) <= 1);
        }
        // Subscribers of one topic differ by one partition at most, or have none of it to give.
        for topic in spec.partition_counts.keys() {
            let sizes = sizes(&assigned);
            let members = || (0..spec.subscribers.len()).filter(|&one| spec.subscribers[one].topics.contains(topic));
            let most = members().filter(|&one| assigned[one].contains_key(topic)).map(|one| sizes[one]).max();
            let least = members().map(|one| sizes[one]).min();
            if let (Some(most), Some(least)) = (most, least) {
                prop_assert!(most <= least + 1, "{sizes:?}");
            }
        }
        // Nothing changes: nothing moves.
        let same = with_earlier(spec.clone(), assigned.clone());
        prop_assert_eq!(moved(&same, &Assignor::Uniform.assign(&same)), 0);
        // A member leaves: the others keep what they have.
        if spec.subscribers.len() > 1 && is_alike(&spec) {
            let mut fewer = with_earlier(spec.clone(), assigned);
            fewer.subscribers.remove(leaves % spec.subscribers.len());
            let after = Assignor::Uniform.assign(&fewer);
            check_complete(&fewer, &after);
            prop_assert_eq!(moved(&fewer, &after), 0);
        }
    }

    #[test]
    fn what_was_assigned_before_may_be_nonsense((spec, bits) in any_spec(), extra in prop::collection::vec((0..6usize, 0..20i32), 0..40)) {
        let mut earlier = vec![Partitions::new(); spec.subscribers.len()];
        for (index, (number, partition)) in extra.into_iter().enumerate() {
            earlier[index % bits.len()].entry(topic(number)).or_default().insert(partition);
        }
        let spec = with_earlier(spec, earlier);
        for assignor in ASSIGNORS {
            check_complete(&spec, &assignor.assign(&spec));
        }
    }
}
