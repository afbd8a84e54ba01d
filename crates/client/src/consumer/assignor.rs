//! Who in a group reads what. One member, the leader, decides for all; the others only have to agree on the
//! name of the rule. Member order is Java's (static members by instance id first), so that a mixed group gets
//! the same answer whoever leads.

use std::collections::{BTreeMap, BTreeSet};

use protocol::Str;

use crate::TopicPartition;

/// What a member told the leader about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    pub topics: Vec<Str>,
    pub owned: Vec<TopicPartition>,
    /// The generation in which `owned` was assigned; −1 if it does not say.
    pub generation: i32,
    pub instance_id: Option<Str>,
}

/// A rule for assignments.
pub trait Assignor: Send + Sync + 'static {
    /// The name that members agree on.
    fn name(&self) -> &'static str;

    /// Members keep what stays theirs during a rebalance (KIP-429).
    fn is_cooperative(&self) -> bool {
        false
    }

    /// `partitions` are the counts of the topics that exist.
    fn assign(
        &self,
        members: &BTreeMap<Str, Subscription>,
        partitions: &BTreeMap<Str, i32>,
    ) -> BTreeMap<Str, Vec<TopicPartition>>;
}

/// The rules that come with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignorKind {
    /// Per topic, neighbouring partitions; the first members get one more.
    Range,
    /// All partitions of all topics, one to each in turn.
    RoundRobin,
    /// Balanced, and as much as possible stays where it is.
    CooperativeSticky,
}

impl Assignor for AssignorKind {
    fn name(&self) -> &'static str {
        match self {
            AssignorKind::Range => "range",
            AssignorKind::RoundRobin => "roundrobin",
            AssignorKind::CooperativeSticky => "cooperative-sticky",
        }
    }

    fn is_cooperative(&self) -> bool {
        *self == AssignorKind::CooperativeSticky
    }

    fn assign(
        &self,
        members: &BTreeMap<Str, Subscription>,
        partitions: &BTreeMap<Str, i32>,
    ) -> BTreeMap<Str, Vec<TopicPartition>> {
        match self {
            AssignorKind::Range => range(members, partitions),
            AssignorKind::RoundRobin => round_robin(members, partitions),
            AssignorKind::CooperativeSticky => cooperative_sticky(members, partitions),
        }
    }
}

type Assignment = BTreeMap<Str, Vec<TopicPartition>>;

fn nobody_has_anything(members: &BTreeMap<Str, Subscription>) -> Assignment {
    members.keys().map(|member| (member.clone(), Vec::new())).collect()
}

/// Static members come first, by instance id; the others by member id.
fn in_order(members: &BTreeMap<Str, Subscription>) -> Vec<(&Str, &Subscription)> {
    let mut order: Vec<_> = members.iter().collect();
    order.sort_by_key(|(id, member)| {
        (member.instance_id.is_none(), member.instance_id.clone(), (*id).clone())
    });
    order
}

fn range(members: &BTreeMap<Str, Subscription>, partitions: &BTreeMap<Str, i32>) -> Assignment {
    let mut assignment = nobody_has_anything(members);
    let order = in_order(members);
    for (topic, count) in partitions {
        let readers: Vec<&Str> =
            order.iter().filter(|(_, member)| member.topics.contains(topic)).map(|(id, _)| *id).collect();
        if readers.is_empty() {
            continue;
        }
        let each = *count as usize / readers.len();
        let one_more = *count as usize % readers.len();
        let mut next = 0;
        for (index, reader) in readers.iter().enumerate() {
            let take = each + usize::from(index < one_more);
            let taken =
                (next..next + take).map(|partition| TopicPartition::new(topic.clone(), partition as i32));
            assignment.get_mut(*reader).expect("every member is in the map").extend(taken);
            next += take;
        }
    }
    assignment
}

fn all_partitions(
    members: &BTreeMap<Str, Subscription>,
    partitions: &BTreeMap<Str, i32>,
) -> Vec<TopicPartition> {
    let wanted: BTreeSet<&Str> = members.values().flat_map(|member| &member.topics).collect();
    partitions
        .iter()
        .filter(|(topic, _)| wanted.contains(topic))
        .flat_map(|(topic, count)| (0..*count).map(|partition| TopicPartition::new(topic.clone(), partition)))
        .collect()
}

fn round_robin(members: &BTreeMap<Str, Subscription>, partitions: &BTreeMap<Str, i32>) -> Assignment {
    let mut assignment = nobody_has_anything(members);
    let order = in_order(members);
    let mut turn = 0;
    for partition in all_partitions(members, partitions) {
        // Someone wants it, so this ends within one round.
        while !order[turn % order.len()].1.topics.contains(&partition.topic) {
            turn += 1;
        }
        assignment.get_mut(order[turn % order.len()].0).expect("every member is in the map").push(partition);
        turn += 1;
    }
    assignment
}

fn cooperative_sticky(members: &BTreeMap<Str, Subscription>, partitions: &BTreeMap<Str, i32>) -> Assignment {
    let owners = owners(members, partitions);
    let mut assignment = nobody_has_anything(members);
    let mut free = Vec::new();
    for partition in all_partitions(members, partitions) {
        match owners.get(&partition) {
            Some(owner) => assignment.get_mut(*owner).expect("owners are members").push(partition),
            None => free.push(partition),
        }
    }
    for partition in free {
        let least = members
            .iter()
            .filter(|(_, member)| member.topics.contains(&partition.topic))
            .min_by_key(|(id, _)| (assignment[*id].len(), (*id).clone()))
            .map(|(id, _)| id);
        if let Some(member) = least {
            assignment.get_mut(member).expect("every member is in the map").push(partition);
        }
    }
    balance(members, &mut assignment);
    // What another member still holds must be given up first; it is free in the rebalance after that.
    for (member, assigned) in &mut assignment {
        assigned.retain(|partition| owners.get(partition).is_none_or(|owner| *owner == member));
        assigned.sort();
    }
    assignment
}

/// Who holds what now. Of two members that claim the same, the one of the newer generation is right; in the same
/// generation neither is.
fn owners<'m>(
    members: &'m BTreeMap<Str, Subscription>,
    partitions: &BTreeMap<Str, i32>,
) -> BTreeMap<TopicPartition, &'m Str> {
    let mut claims: BTreeMap<&TopicPartition, (i32, Option<&Str>)> = BTreeMap::new();
    for (id, member) in members {
        for partition in &member.owned {
            let exists = partitions.get(&partition.topic).is_some_and(|count| partition.partition < *count);
            if !exists || !member.topics.contains(&partition.topic) {
                continue;
            }
            let claim = claims.entry(partition).or_insert((i32::MIN, None));
            match member.generation.cmp(&claim.0) {
                std::cmp::Ordering::Greater => *claim = (member.generation, Some(id)),
                std::cmp::Ordering::Equal => claim.1 = None,
                std::cmp::Ordering::Less => {}
            }
        }
    }
    claims.into_iter().filter_map(|(partition, (_, id))| Some((partition.clone(), id?))).collect()
}

/// Moves single partitions from members with many to members with at least two fewer, until none can be moved.
fn balance(members: &BTreeMap<Str, Subscription>, assignment: &mut Assignment) {
    // Each move lowers the sum of squares of the counts, so it ends.
    loop {
        let mut by_count: Vec<(usize, &Str)> = members.keys().map(|id| (assignment[id].len(), id)).collect();
        by_count.sort();
        let found = by_count.iter().rev().find_map(|(many, giver)| {
            by_count.iter().take_while(|(few, _)| few + 1 < *many).find_map(|(_, taker)| {
                let topics = &members[*taker].topics;
                let at =
                    assignment[*giver].iter().rposition(|partition| topics.contains(&partition.topic))?;
                Some(((*giver).clone(), at, (*taker).clone()))
            })
        });
        let Some((giver, at, taker)) = found else { return };
        let partition = assignment.get_mut(&giver).expect("a member").remove(at);
        assignment.get_mut(&taker).expect("a member").push(partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(topics: &[&str]) -> Subscription {
        Subscription {
            topics: topics.iter().map(|topic| Str::from(*topic)).collect(),
            generation: -1,
            ..Default::default()
        }
    }

    fn group(members: &[(&str, &[&str])]) -> BTreeMap<Str, Subscription> {
        members.iter().map(|(id, topics)| (Str::from(*id), member(topics))).collect()
    }

    fn topics(counts: &[(&str, i32)]) -> BTreeMap<Str, i32> {
        counts.iter().map(|(topic, count)| (Str::from(*topic), *count)).collect()
    }

    fn shown(assignment: &Assignment) -> Vec<String> {
        assignment
            .iter()
            .map(|(id, partitions)| {
                let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
                format!("{id}: {}", partitions.join(" "))
            })
            .collect()
    }

    #[test]
    fn range_gives_neighbours_and_the_first_members_one_more() {
        let assignment = AssignorKind::Range
            .assign(&group(&[("c1", &["a", "b"]), ("c2", &["a", "b"])]), &topics(&[("a", 3), ("b", 3)]));
        assert_eq!(shown(&assignment), ["c1: a-0 a-1 b-0 b-1", "c2: a-2 b-2"]);
    }

    #[test]
    fn round_robin_goes_over_all_topics() {
        let assignment = AssignorKind::RoundRobin
            .assign(&group(&[("c1", &["a", "b"]), ("c2", &["a", "b"])]), &topics(&[("a", 3), ("b", 3)]));
        assert_eq!(shown(&assignment), ["c1: a-0 a-2 b-1", "c2: a-1 b-0 b-2"]);
        let uneven = AssignorKind::RoundRobin.assign(
            &group(&[("c0", &["t0"]), ("c1", &["t0", "t1"]), ("c2", &["t0", "t1", "t2"])]),
            &topics(&[("t0", 1), ("t1", 2), ("t2", 3)]),
        );
        assert_eq!(shown(&uneven), ["c0: t0-0", "c1: t1-0", "c2: t1-1 t2-0 t2-1 t2-2"]);
    }

    #[test]
    fn static_members_come_first() {
        let mut members = group(&[("a-dynamic", &["t"]), ("z-static", &["t"])]);
        members.get_mut("z-static").unwrap().instance_id = Some("i1".into());
        let assignment = AssignorKind::Range.assign(&members, &topics(&[("t", 1)]));
        assert_eq!(shown(&assignment), ["a-dynamic: ", "z-static: t-0"]);
    }

    #[test]
    fn sticky_takes_away_first_and_gives_in_the_next_rebalance() {
        // Given one member that has all four
        let mut members = group(&[("c1", &["t"])]);
        let counts = topics(&[("t", 4)]);
        members.get_mut("c1").unwrap().owned =
            AssignorKind::CooperativeSticky.assign(&members, &counts).remove("c1").unwrap();
        members.get_mut("c1").unwrap().generation = 1;
        assert_eq!(members["c1"].owned.len(), 4);
        // when a second one comes, then it gets nothing yet, and the first keeps two
        members.insert("c2".into(), member(&["t"]));
        let first = AssignorKind::CooperativeSticky.assign(&members, &counts);
        assert_eq!(shown(&first), ["c1: t-0 t-1", "c2: "]);
        // and after the first gave two up, the second gets them
        members.get_mut("c1").unwrap().owned = first["c1"].clone();
        let second = AssignorKind::CooperativeSticky.assign(&members, &counts);
        assert_eq!(shown(&second), ["c1: t-0 t-1", "c2: t-2 t-3"]);
    }

    #[test]
    fn of_two_owners_the_newer_generation_is_right() {
        let mut members = group(&[("c1", &["t"]), ("c2", &["t"])]);
        for (id, generation) in [("c1", 3), ("c2", 4)] {
            let member = members.get_mut(id).unwrap();
            member.owned = vec![TopicPartition::new("t", 0)];
            member.generation = generation;
        }
        let assignment = AssignorKind::CooperativeSticky.assign(&members, &topics(&[("t", 2)]));
        assert_eq!(shown(&assignment), ["c1: t-1", "c2: t-0"]);
    }

    proptest! {
        #[test]
        fn everything_is_read_by_exactly_one_who_wants_it(
            wants in proptest::collection::vec(1u8..8, 1..7),
            counts in proptest::collection::vec(0i32..9, 3),
            kind in 0usize..3,
        ) {
            let kind = [AssignorKind::Range, AssignorKind::RoundRobin, AssignorKind::CooperativeSticky][kind];
            let names = ["a", "b", "c"];
            let members: BTreeMap<Str, Subscription> = wants.iter().enumerate().map(|(index, wants)| {
                let topics: Vec<&str> = names.iter().enumerate()
                    .filter(|(bit, _)| wants & (1 << bit) != 0).map(|(_, name)| *name).collect();
                (Str::from(format!("c{index}")), member(&topics))
            }).collect();
            let counts: BTreeMap<Str, i32> =
                names.iter().zip(&counts).map(|(name, count)| (Str::from(*name), *count)).collect();
            let assignment = kind.assign(&members, &counts);
            let mut given: Vec<TopicPartition> = assignment.values().flatten().cloned().collect();
            for (id, partitions) in &assignment {
                for partition in partitions {
                    prop_assert!(members[id].topics.contains(&partition.topic));
                }
            }
            given.sort();
            prop_assert_eq!(given, all_partitions(&members, &counts));
            let same = wants.iter().all(|wants| *wants == 7);
            if same && kind != AssignorKind::Range {
                let counts: Vec<usize> = assignment.values().map(Vec::len).collect();
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            }
        }
    }
}
