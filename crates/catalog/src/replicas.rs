//! Which nodes clients are shown as the replicas of a partition.
//!
//! In a directory it is what the topic was placed on. In a bucket the store keeps the copies and any broker can serve any partition,
//! so there are as many replicas, all in sync, as the topic's factor says and live brokers allow: the leader first, then at least one
//! of each other zone (a consumer reads only from a broker that is in the list, KIP-392), then the nodes that follow the leader.
//! Replicas that somebody assigned are shown as they were assigned, and the leader before them if it is none of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::Str;

use crate::state::{PartitionInfo, State, Topic};

type Chosen = (Arc<[i32]>, Arc<[i32]>);

pub struct Replicas<'a> {
    /// None: as placed. Ordered by node id.
    live: Option<Vec<(i32, Option<&'a Str>)>>,
    /// By leader and factor: partitions are many, and these few.
    known: RefCell<BTreeMap<(i32, i16), Chosen>>,
}

impl<'a> Replicas<'a> {
    pub(crate) fn new(state: &'a State) -> Self {
        let is_shared = state.wals().next().is_some();
        let live = || state.live_brokers().map(|broker| (broker.node_id, broker.rack.as_ref())).collect();
        Self { live: is_shared.then(live), known: RefCell::default() }
    }

    /// Is a partition's data where its replicas are?
    pub fn are_fixed(&self) -> bool {
        self.live.is_none()
    }

    /// Replicas, and those of them that are in sync.
    pub fn of(&self, topic: &Topic, partition: &PartitionInfo) -> Chosen {
        let Some(live) = &self.live else { return (partition.replicas.clone(), partition.isr.clone()) };
        if let Some(assigned) = partition.assignment() {
            let is_alone = !assigned.contains(&partition.leader);
            let replicas: Arc<[i32]> =
                is_alone.then_some(partition.leader).into_iter().chain(assigned.iter().copied()).collect();
            let in_sync = in_sync(live, &replicas);
            return (replicas, in_sync);
        }
        let (leader, factor) = (partition.leader, topic.replication_factor);
        let chosen = || {
            let replicas = choose(live, leader, factor);
            let in_sync = in_sync(live, &replicas);
            (replicas, in_sync)
        };
        self.known.borrow_mut().entry((leader, factor)).or_insert_with(chosen).clone()
    }
}

/// All of them but those that are gone.
fn in_sync(live: &[(i32, Option<&Str>)], replicas: &[i32]) -> Arc<[i32]> {
    replicas.iter().copied().filter(|node_id| live.iter().any(|(live, _)| live == node_id)).collect()
}

fn choose(live: &[(i32, Option<&Str>)], leader: i32, factor: i16) -> Arc<[i32]> {
    let behind = live.partition_point(|(node_id, _)| *node_id <= leader);
    let others = || live[behind..].iter().chain(&live[..behind]).filter(|(node_id, _)| *node_id != leader);
    let mut zones = BTreeSet::new();
    zones.extend(live.iter().find(|(node_id, _)| *node_id == leader).and_then(|(_, rack)| *rack));
    let mut chosen = vec![leader];
    chosen.extend(
        others().filter(|(_, rack)| rack.is_some_and(|rack| zones.insert(rack))).map(|(node_id, _)| *node_id),
    );
    for (node_id, _) in others() {
        if chosen.len() < factor.max(1) as usize && !chosen.contains(node_id) {
            chosen.push(*node_id);
        }
    }
    chosen.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_comes_first_and_every_zone_has_one() {
        let (a, b) = (Str::from("a"), Str::from("b"));
        let live = [(1, Some(&a)), (2, Some(&a)), (3, Some(&b)), (4, None), (7, Some(&b))];
        assert_eq!(*choose(&live, 1, 1), [1, 3]);
        assert_eq!(*choose(&live, 3, 1), [3, 1]);
        assert_eq!(*choose(&live, 4, 3), [4, 7, 1]);
        assert_eq!(*choose(&live, 7, 9), [7, 1, 2, 3, 4]);
        assert_eq!(*choose(&live[3..4], 4, 3), [4]);
        // A leader that has gone is still the one to be named.
        assert_eq!(*choose(&live[..2], 9, 2), [9, 1]);
    }
}
