//! The uniform assignor: members get as many partitions as the others, or one less, and keep as much as that allows of what
//! they had. Where members subscribe to different topics it is as even as moving partitions one by one makes it. The same
//! promises as Kafka's `UniformAssignor`; which partition goes to whom may differ.

use std::collections::{BTreeMap, BTreeSet};

use protocol::Uuid;

use super::Spec;
use crate::groups::consumer::assignment::Partitions;

/// Rounds of evening out, of which each halves the difference or so. With subscriptions that overlap in chains more of them
/// would still find something to move.
const ROUNDS_MAX: usize = 16;

pub fn assign(spec: &Spec) -> Vec<Partitions> {
    match spec.is_homogeneous() {
        true => assign_alike(spec),
        false => Mixed::of(spec).assign(),
    }
}

/// Everybody subscribes to the same.
fn assign_alike(spec: &Spec) -> Vec<Partitions> {
    let Some(first) = spec.subscribers.first() else { return Vec::new() };
    let all: usize = first.topics.iter().map(|topic| spec.partition_count(topic) as usize).sum();
    let members = spec.subscribers.len();
    let (each, mut more) = (all / members, all % members);
    let mut taken: BTreeSet<(Uuid, i32)> = BTreeSet::new();
    let mut kept: Vec<Vec<(Uuid, i32)>> = spec.subscribers.iter().map(|_| Vec::new()).collect();
    for (kept, earlier) in kept.iter_mut().zip(valid_earlier(spec)) {
        kept.extend(earlier.into_iter().filter(|partition| taken.insert(*partition)));
    }
    // Who has more than its share already keeps one more; what is left of these goes to the first of the others.
    let mut share = vec![each; members];
    let over: Vec<usize> = (0..members).filter(|&index| kept[index].len() > each).collect();
    let rest = (0..members).filter(|&index| kept[index].len() <= each);
    for index in over.into_iter().chain(rest) {
        if more > 0 {
            share[index] += 1;
            more -= 1;
        }
    }
    for (kept, share) in kept.iter_mut().zip(&share) {
        for given_up in kept.drain(kept.len().min(*share)..) {
            taken.remove(&given_up);
        }
    }
    let partitions = first
        .topics
        .iter()
        .flat_map(|topic| (0..spec.partition_count(topic)).map(|partition| (*topic, partition)));
    let mut free = partitions.filter(|partition| !taken.contains(partition));
    for (kept, share) in kept.iter_mut().zip(&share) {
        let missing = share - kept.len();
        kept.extend(free.by_ref().take(missing));
    }
    kept.into_iter().map(|kept| gathered(kept.into_iter())).collect()
}

/// What each member had and may keep: it subscribes to the topic, and the partition is there.
fn valid_earlier(spec: &Spec) -> impl Iterator<Item = Vec<(Uuid, i32)>> + '_ {
    spec.subscribers.iter().map(|subscriber| {
        let topics = subscriber.earlier.iter().filter(|(topic, _)| subscriber.topics.contains(topic));
        let partitions = topics.flat_map(|(topic, partitions)| {
            let there = partitions.range(0..spec.partition_count(topic));
            there.map(move |partition| (*topic, *partition))
        });
        partitions.collect()
    })
}

fn gathered(partitions: impl Iterator<Item = (Uuid, i32)>) -> Partitions {
    let mut gathered = Partitions::new();
    for (topic, partition) in partitions {
        gathered.entry(topic).or_default().insert(partition);
    }
    gathered
}

/// Members subscribe to different topics.
struct Mixed<'a> {
    spec: &'a Spec,
    /// Members by topic, in the order of the spec.
    subscribers: BTreeMap<Uuid, Vec<usize>>,
    /// Topics with the most partitions for each subscriber first: they are the hardest to even out later.
    order: Vec<Uuid>,
    /// The owner of each partition of each topic.
    owners: BTreeMap<Uuid, Vec<Option<usize>>>,
    /// How many partitions each member has.
    loads: Vec<usize>,
}

impl<'a> Mixed<'a> {
    fn of(spec: &'a Spec) -> Mixed<'a> {
        let mut subscribers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (index, subscriber) in spec.subscribers.iter().enumerate() {
            for topic in subscriber.topics.iter() {
                subscribers.entry(*topic).or_default().push(index);
            }
        }
        let nobody = |topic: &Uuid| vec![None; spec.partition_count(topic).max(0) as usize];
        let mut owners: BTreeMap<Uuid, Vec<Option<usize>>> =
            subscribers.keys().map(|topic| (*topic, nobody(topic))).collect();
        let mut loads = vec![0; spec.subscribers.len()];
        for (index, earlier) in valid_earlier(spec).enumerate() {
            for (topic, partition) in earlier {
                let place = &mut owners.get_mut(&topic).expect("is subscribed to")[partition as usize];
                if place.is_none() {
                    *place = Some(index);
                    loads[index] += 1;
                }
            }
        }
        let mut order: Vec<Uuid> = subscribers.keys().copied().collect();
        order.sort_by(|left, right| {
            let partitions = |topic| spec.partition_count(topic) as usize;
            let members = |topic: &Uuid| subscribers[topic].len();
            // Fractions compared without dividing.
            let (left_weight, right_weight) =
                (partitions(left) * members(right), partitions(right) * members(left));
            right_weight.cmp(&left_weight).then(members(left).cmp(&members(right))).then(left.cmp(right))
        });
        Mixed { spec, subscribers, order, owners, loads }
    }

    fn assign(mut self) -> Vec<Partitions> {
        for topic in self.order.clone() {
            self.give_out(topic);
        }
        for _ in 0..ROUNDS_MAX {
            let moved: usize = self.order.clone().into_iter().map(|topic| self.even_out(topic)).sum();
            if moved == 0 {
                break;
            }
        }
        let mut assigned = vec![Partitions::new(); self.spec.subscribers.len()];
        for (topic, owners) in self.owners {
            for (partition, owner) in (0..).zip(owners) {
                let owner = owner.expect("every partition of a subscribed topic has an owner");
                assigned[owner].entry(topic).or_default().insert(partition);
            }
        }
        assigned
    }

    /// Each partition that nobody has goes to whoever has the least.
    fn give_out(&mut self, topic: Uuid) {
        let mut by_load = self.by_load(&topic);
        for place in self.owners.get_mut(&topic).expect("is subscribed to") {
            if place.is_some() {
                continue;
            }
            let (load, index) = by_load.pop_first().expect("a topic is here because of a subscriber");
            *place = Some(index);
            self.loads[index] += 1;
            by_load.insert((load + 1, index));
        }
    }

    /// Moves partitions of a topic from who has the most to who has the least. Says how many.
    fn even_out(&mut self, topic: Uuid) -> usize {
        let mut by_load = self.by_load(&topic);
        let owners = self.owners.get_mut(&topic).expect("is subscribed to");
        let mut owned: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in owners.iter().enumerate() {
            owned.entry(owner.expect("was given out")).or_default().push(partition);
        }
        let mut givers: BTreeSet<(usize, usize)> =
            owned.keys().map(|&index| (self.loads[index], index)).collect();
        let mut moved = 0;
        while let (Some(&(most, giver)), Some(&(least, taker))) = (givers.last(), by_load.first()) {
            if most <= least + 1 {
                break;
            }
            let partitions = owned.get_mut(&giver).expect("owns some");
            let partition = partitions.pop().expect("owns some");
            givers.remove(&(most, giver));
            if !partitions.is_empty() {
                givers.insert((most - 1, giver));
            }
            by_load.remove(&(most, giver));
            by_load.insert((most - 1, giver));
            by_load.remove(&(least, taker));
            by_load.insert((least + 1, taker));
            if givers.remove(&(least, taker)) {
                givers.insert((least + 1, taker));
            }
            owners[partition] = Some(taker);
            self.loads[giver] -= 1;
            self.loads[taker] += 1;
            moved += 1;
        }
        moved
    }

    fn by_load(&self, topic: &Uuid) -> BTreeSet<(usize, usize)> {
        self.subscribers[topic].iter().map(|&index| (self.loads[index], index)).collect()
    }
}
