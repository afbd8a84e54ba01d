//! Who gives which partitions to whom, so that all brokers lead as many.
//!
//! Each broker plans for itself, from the metadata log and from its own list of lively brokers, and those lists may differ for a while.
//! Partitions do not go to and fro all the same:
//!
//! ```text
//!   only the leader gives                        what it has not opened yet stays (it could not say where its part ends, R13)
//!   from who leads n to who leads n − 2 or less  so each move makes the sum of squares smaller, whatever the lists are
//!   one record, then a new plan                  of what that record came to, and of what others have moved meanwhile
//!   what came lately stays for a while           unless somebody has assigned it elsewhere
//! ```

use std::collections::{BTreeMap, BTreeSet};

use catalog::{PartitionInfo, State};
use protocol::{TopicIdPartition, Uuid};
use world::collections::HashMap;

/// Of one record that moves partitions.
const MOVED_AT_ONCE: usize = 5_000;

/// Partitions of one record, and the WAL that gets them.
pub(crate) type Move = (u64, Vec<TopicIdPartition>);

/// What a broker knows besides the metadata log when it plans.
pub(crate) struct Planning<'a> {
    pub me: u64,
    pub lively: &'a BTreeSet<u64>,
    /// Who gets nothing now, whatever its share is.
    pub busy: &'a BTreeSet<u64>,
    pub is_open: &'a dyn Fn(&TopicIdPartition) -> bool,
    pub came_lately: &'a dyn Fn(&TopicIdPartition) -> bool,
}

pub(crate) fn leader_counts(state: &State) -> HashMap<i32, usize> {
    counts(state, |_| true)
}

/// Partitions whose replicas were assigned.
fn bound_counts(state: &State) -> HashMap<i32, usize> {
    counts(state, |info| info.assignment().is_some())
}

fn counts(state: &State, counts: impl Fn(&PartitionInfo) -> bool) -> HashMap<i32, usize> {
    let mut counted: HashMap<i32, usize> = HashMap::default();
    for info in state.topics().flat_map(|topic| &topic.partitions).filter(|info| counts(info)) {
        *counted.entry(info.leader).or_default() += 1;
    }
    counted
}

/// What this broker gives next, so that in the end assigned partitions are led by the first of their replicas that can, and all
/// brokers lead as many partitions, give or take one. Those with the same list and the same state make the same plan, and each carries
/// out its part.
pub(crate) fn next_move(state: &State, planning: &Planning<'_>) -> Option<Move> {
    let &Planning { me, lively, busy, is_open, came_lately } = planning;
    let info = |id: &Uuid, index: u32| state.topic_by_id(*id)?.partitions.get(index as usize);
    let place = |(id, index): &(Uuid, u32)| TopicIdPartition::new(*id, *index as i32);
    let led: Vec<(Uuid, u32)> =
        state.led_by(me).into_iter().filter(|partition| is_open(&place(partition))).collect();
    let mut home: BTreeMap<u64, Vec<TopicIdPartition>> = BTreeMap::new();
    for (id, index) in &led {
        if let Some(broker) = info(id, *index).and_then(|info| state.misled(info))
            && lively.contains(&broker.wal_id)
        {
            home.entry(broker.wal_id).or_default().push(place(&(*id, *index)));
        }
    }
    // What somebody has asked for goes before what would be even.
    if !home.is_empty() {
        return first_record(home, busy);
    }
    let brokers = shares(state, lively);
    let mut wanted: Vec<(u64, usize)> = Vec::new();
    let mut before_us = 0;
    let mut ours = None;
    for broker in &brokers {
        match broker.leads.checked_sub(broker.share) {
            None => wanted.push((broker.wal_id, broker.share - broker.leads)),
            Some(spare) if broker.wal_id == me => ours = Some(spare),
            Some(spare) if ours.is_none() => before_us += spare,
            Some(_) => {}
        }
    }
    let free = |partition: &(Uuid, u32)| {
        let is_bound = info(&partition.0, partition.1).is_none_or(|info| info.assignment().is_some());
        !is_bound && !came_lately(&place(partition))
    };
    let led: Vec<(Uuid, u32)> = led.into_iter().filter(free).collect();
    let ours = ours.unwrap_or(0).min(led.len());
    if ours == 0 || wanted.is_empty() {
        return None;
    }
    // From all topics alike.
    let step = led.len() as f64 / ours as f64;
    let mut given = (0..ours).map(|n| led[(n as f64 * step) as usize]);
    let mut moves: BTreeMap<u64, Vec<TopicIdPartition>> = BTreeMap::new();
    for (heir, mut count) in wanted {
        let skipped = before_us.min(count);
        before_us -= skipped;
        count -= skipped;
        let some: Vec<TopicIdPartition> =
            given.by_ref().take(count).map(|partition| place(&partition)).collect();
        moves.insert(heir, some);
    }
    first_record(moves, busy)
}

fn first_record(moves: BTreeMap<u64, Vec<TopicIdPartition>>, busy: &BTreeSet<u64>) -> Option<Move> {
    let mut wanted = moves.into_iter().filter(|(heir, some)| !some.is_empty() && !busy.contains(heir));
    let (heir, mut some) = wanted.next()?;
    some.truncate(MOVED_AT_ONCE);
    Some((heir, some))
}

struct Share {
    wal_id: u64,
    node_id: i32,
    leads: usize,
    /// Of those, the ones that somebody has put there: they stay.
    bound: usize,
    /// How many it should lead.
    share: usize,
}

/// Those that lead most first.
fn shares(state: &State, lively: &BTreeSet<u64>) -> Vec<Share> {
    let (leads, bound) = (leader_counts(state), bound_counts(state));
    let of = |counts: &HashMap<i32, usize>, node_id: i32| counts.get(&node_id).copied().unwrap_or(0);
    let ready = state
        .live_brokers()
        .filter(|broker| lively.contains(&broker.wal_id) && state.can_lead(broker.wal_id));
    let mut brokers: Vec<Share> = ready
        .map(|broker| {
            let (wal_id, node_id) = (broker.wal_id, broker.node_id);
            Share { wal_id, node_id, leads: of(&leads, node_id), bound: of(&bound, node_id), share: 0 }
        })
        .collect();
    brokers.sort_unstable_by_key(|broker| (std::cmp::Reverse(broker.leads), broker.node_id));
    let mut left: usize = brokers.iter().map(|broker| broker.leads).sum();
    let mut room: Vec<&mut Share> = brokers.iter_mut().collect();
    // Who has more bound to it than its share keeps just that, and the others share the rest.
    loop {
        let (before, share) = (room.len(), left / room.len().max(1));
        room.retain_mut(|broker| {
            let has_room = broker.bound <= share;
            if !has_room {
                broker.share = broker.bound;
                left -= broker.bound;
            }
            has_room
        });
        if room.len() == before {
            break;
        }
    }
    // Those that have most keep the odd ones.
    let (share, odd) = (left / room.len().max(1), left % room.len().max(1));
    for (place, broker) in room.into_iter().enumerate() {
        broker.share = share + usize::from(place < odd);
    }
    brokers
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use catalog::{Catalog, CatalogOptions, MetadataRecord};
    use protocol::Str;
    use world::bucket::MemBucket;
    use world::rng::{Rng, SeededRng};
    use world::task;

    use super::*;

    async fn broker(bucket: &MemBucket, node_id: i32) -> Arc<Catalog> {
        let options =
            CatalogOptions { node_id: Some(node_id), lease_ttl: Duration::ZERO, ..CatalogOptions::default() };
        let rng = SeededRng::shared(node_id as u64);
        Catalog::open_bucket(Arc::new(bucket.clone()), rng, options).await.unwrap()
    }

    /// Carries the next step of a broker's plan out, in which some partitions stay where they are. False: there is none.
    async fn carry_out(
        broker: &Catalog,
        lively: &BTreeSet<u64>,
        closed: &BTreeSet<TopicIdPartition>,
    ) -> bool {
        let planning = Planning {
            me: broker.wal_id(),
            lively,
            busy: &BTreeSet::new(),
            is_open: &|id| !closed.contains(id),
            came_lately: &|_| false,
        };
        let Some((heir, moved)) = next_move(&broker.read(), &planning) else { return false };
        assert!(!moved.is_empty() && moved.iter().all(|id| !closed.contains(id)));
        let partitions = moved.iter().map(|id| (id.topic_id, vec![id.partition as u32])).collect();
        broker.append(vec![MetadataRecord::MovePartitions { slot: 1, heir, partitions }]).await.unwrap();
        true
    }

    async fn cluster_of(nodes: i32, partition_count: u32) -> Vec<Arc<Catalog>> {
        let bucket = MemBucket::new(1);
        let mut brokers = vec![broker(&bucket, 1).await];
        let create = MetadataRecord::CreateTopic {
            id: Uuid::from_u128(7),
            name: Str::from("t"),
            partition_count,
            replication_factor: 1,
            configs: Vec::new(),
        };
        brokers[0].append(vec![create]).await.unwrap();
        for node_id in 2..=nodes {
            brokers.push(broker(&bucket, node_id).await);
        }
        brokers
    }

    /// Carries the plans of all brokers out until there are none; how many partitions each node leads then.
    async fn settle(brokers: &[Arc<Catalog>]) -> Vec<usize> {
        let lively: BTreeSet<u64> = brokers.iter().map(|broker| broker.wal_id()).collect();
        for _ in 0..9 {
            let mut is_calm = true;
            for broker in brokers {
                broker.catch_up().await.unwrap();
                while carry_out(broker, &lively, &BTreeSet::new()).await {
                    is_calm = false;
                }
            }
            if is_calm {
                brokers[0].catch_up().await.unwrap();
                let counts = leader_counts(&brokers[0].read());
                return brokers
                    .iter()
                    .map(|broker| counts.get(&broker.node_id()).copied().unwrap_or(0))
                    .collect();
            }
        }
        panic!("partitions go to and fro");
    }

    #[test]
    fn leaders_spread_evenly_around_those_that_were_assigned() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let brokers = cluster_of(3, 12).await;
            let topic_id = Uuid::from_u128(7);
            assert_eq!(settle(&brokers).await, [4, 4, 4]);
            let assign = |indices: std::ops::Range<u32>, nodes: &[i32]| MetadataRecord::AssignReplicas {
                topic_id,
                partitions: indices.map(|index| (index, nodes.to_vec())).collect(),
            };
            // Nobody can lead for node 9, so node 3 does.
            brokers[1].append(vec![assign(0..7, &[9, 3, 1])]).await.unwrap();
            assert_eq!(settle(&brokers).await, [3, 2, 7]);
            let leader =
                |index: usize| brokers[0].read().topic_by_id(topic_id).unwrap().partitions[index].leader;
            assert!((0..7).all(|index| leader(index) == 3));
            // What is free goes to those who have room.
            brokers[1].append(vec![assign(0..7, &[])]).await.unwrap();
            assert_eq!(settle(&brokers).await, [4, 4, 4]);
        });
    }

    /// Given brokers that each know others to be lively, differently at every look. When they plan in any order, then each move makes the
    /// leaders more even: nothing goes to and fro.
    #[test]
    fn different_lists_move_nothing_to_and_fro() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let brokers = cluster_of(5, 23).await;
            let rng = SeededRng::new(3);
            let unevenness = |broker: &Catalog| -> usize {
                leader_counts(&broker.read()).values().map(|leads| leads * leads).sum()
            };
            let (mut moves, mut left) = (0, unevenness(&brokers[0]));
            for _ in 0..500 {
                let broker = &brokers[rng.below(5) as usize];
                let others = brokers.iter().map(|broker| broker.wal_id()).filter(|_| rng.below(2) == 0);
                let lively: BTreeSet<u64> = others.chain([broker.wal_id()]).collect();
                broker.catch_up().await.unwrap();
                if carry_out(broker, &lively, &BTreeSet::new()).await {
                    let now = unevenness(broker);
                    assert!(now < left, "{now} after {left}");
                    (moves, left) = (moves + 1, now);
                }
            }
            assert!(moves >= 4, "{moves}");
            assert_eq!(settle(&brokers).await.iter().max(), Some(&5));
        });
    }

    #[test]
    fn what_is_not_open_stays() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let brokers = cluster_of(2, 6).await;
            let lively: BTreeSet<u64> = brokers.iter().map(|broker| broker.wal_id()).collect();
            let place = |index| TopicIdPartition::new(Uuid::from_u128(7), index);
            let closed: BTreeSet<TopicIdPartition> = (0..5).map(place).collect();
            brokers[0].catch_up().await.unwrap();
            assert!(carry_out(&brokers[0], &lively, &closed).await);
            assert!(!carry_out(&brokers[0], &lively, &closed).await);
            let counts = leader_counts(&brokers[0].read());
            assert_eq!((counts.get(&1), counts.get(&2)), (Some(&5), Some(&1)));
        });
    }
}
