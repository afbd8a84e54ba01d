//! Who gives which partitions to whom, so that all brokers lead as many, each topic in all zones, and none has much more traffic than others.
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
//! From time to time it looks besides for topics whose leaders are in too few zones, and for traffic (`load.rs`). What a broker gives away
//! for these reasons the count takes back, with something that neither of them minds: a busy partition goes, an idle one comes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use catalog::{PartitionInfo, State};
use protocol::{TopicIdPartition, Uuid};
use world::collections::HashMap;

use crate::zones::TopicZones;

/// Of one record that moves partitions.
const MOVED_AT_ONCE: usize = 5_000;
/// Who gives fewer than this part of what it leads gives those with the least traffic: their clients notice least.
const FEW: usize = 10;
/// Of the mean of all brokers, in percent: who has less traffic than this gives nothing because of it.
const LOAD_MUCH_PERCENT: u64 = 125;
/// Bytes per second above the mean that are not worth a move.
const LOAD_LITTLE: u64 = 1 << 20;
/// Parts of what a broker has above the mean: a partition with less than one of them is not worth a move.
const LOAD_PARTS: u64 = 16;
/// Of one look for zones.
const ZONE_MOVES_MAX: usize = 1_000;

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
    /// Bytes per second of a partition that is led here.
    pub load_of: &'a dyn Fn(&TopicIdPartition) -> u64,
}

impl Planning<'_> {
    /// What is led here and may go.
    fn free(&self, state: &State) -> Vec<TopicIdPartition> {
        let is_free = |place: &TopicIdPartition| {
            let info = state.topic_by_id(place.topic_id);
            let info = info.and_then(|topic| topic.partitions.get(place.partition as usize));
            let is_bound = info.is_none_or(|info| info.assignment().is_some());
            !is_bound && (self.is_open)(place) && !(self.came_lately)(place)
        };
        state.led_by(self.me).iter().map(place).filter(is_free).collect()
    }

    /// Those that may get something.
    fn ready<'s>(&self, state: &'s State) -> impl Iterator<Item = &'s catalog::state::Broker> {
        let lively = self.lively;
        state
            .live_brokers()
            .filter(move |broker| lively.contains(&broker.wal_id) && state.can_lead(broker.wal_id))
    }
}

fn place((id, index): &(Uuid, u32)) -> TopicIdPartition {
    TopicIdPartition::new(*id, *index as i32)
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
    let &Planning { me, lively, busy, is_open, .. } = planning;
    let mut home: BTreeMap<u64, Vec<TopicIdPartition>> = BTreeMap::new();
    for (id, index) in state.led_by(me) {
        let place = place(&(id, index));
        let info = state.topic_by_id(id).and_then(|topic| topic.partitions.get(index as usize));
        if let Some(broker) = info.and_then(|info| state.misled(info))
            && lively.contains(&broker.wal_id)
            && is_open(&place)
        {
            home.entry(broker.wal_id).or_default().push(place);
        }
    }
    // What somebody has asked for goes before what would be even.
    if !home.is_empty() {
        return first_record(home, busy);
    }
    let brokers = shares(state, planning);
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
    let (ours, mut left) = match ours {
        Some(ours) if ours > 0 && !wanted.is_empty() => (ours, planning.free(state)),
        _ => return None,
    };
    let ours = ours.min(left.len());
    if ours == 0 {
        return None;
    }
    if ours * FEW < left.len() {
        left.sort_by_cached_key(|place| (planning.load_of)(place));
    } else {
        left = from_all_alike(left, ours);
    }
    let mut zones = TopicZones::new(state, planning.ready(state).map(|broker| broker.node_id));
    let mut moves: BTreeMap<u64, Vec<TopicIdPartition>> = BTreeMap::new();
    let mut given = 0;
    for (heir, mut count) in wanted {
        let skipped = before_us.min(count);
        before_us -= skipped;
        count = (count - skipped).min(ours - given);
        given += count;
        // Where counts differ by two only, zones count for more.
        let is_strict = count == 1 && ours == 1;
        moves.insert(heir, zones.choose(state, (me, heir), &mut left, count, is_strict));
    }
    first_record(moves, busy)
}

/// The first so many of them are spread over all topics.
fn from_all_alike(places: Vec<TopicIdPartition>, count: usize) -> Vec<TopicIdPartition> {
    let step = places.len() as f64 / count as f64;
    let mut chosen: Vec<usize> = (0..count).map(|n| (n as f64 * step) as usize).collect();
    chosen.dedup();
    let mut is_chosen = vec![false; places.len()];
    chosen.iter().for_each(|at| is_chosen[*at] = true);
    let rest = (0..places.len()).filter(|at| !is_chosen[*at]);
    chosen.iter().copied().chain(rest).map(|at| places[at]).collect()
}

/// What this broker gives to others so that the leaders of each topic are in all zones alike, those with the least traffic first. All make
/// the same plan for all topics, and each carries out its part. Counts come level again afterwards.
pub(crate) fn zone_moves(state: &State, planning: &Planning<'_>) -> Vec<Move> {
    let ready: BTreeMap<i32, u64> =
        planning.ready(state).map(|broker| (broker.node_id, broker.wal_id)).collect();
    let mut zones = TopicZones::new(state, ready.keys().copied());
    let Some(me) = state.wal(planning.me).map(|wal| wal.node_id).filter(|_| !zones.are_one()) else {
        return Vec::new();
    };
    let mut leads = leader_counts(state);
    // By topic, who gets one of it.
    let mut ours: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    let mut count = 0;
    for topic in state.topics() {
        let free = topic.partitions.iter().filter(|info| info.assignment().is_none());
        let mut has: BTreeMap<i32, usize> = BTreeMap::new();
        free.for_each(|info| *has.entry(info.leader).or_default() += 1);
        while let Some((from, to)) = zones.best(state, topic.id) {
            let leads_of = |node_id: i32| leads.get(&node_id).copied().unwrap_or(0);
            let of_leads = |node_id: &i32| (leads_of(*node_id), *node_id);
            let giver = zones.nodes(from).filter(|node_id| has.get(node_id).is_some_and(|count| *count > 0));
            let (giver, heir) = (giver.max_by_key(of_leads), zones.nodes(to).min_by_key(of_leads));
            let pair = giver.zip(heir);
            // Not to who leads clearly more.
            let Some((giver, heir)) = pair.filter(|(giver, heir)| leads_of(*giver) + 1 >= leads_of(*heir))
            else {
                break;
            };
            if giver == me {
                ours.entry(topic.id).or_default().push(heir);
                count += 1;
            }
            *has.entry(giver).or_default() -= 1;
            *leads.entry(giver).or_default() -= 1;
            *leads.entry(heir).or_default() += 1;
            zones.moved(state, topic.id, from, to);
        }
        if count >= ZONE_MOVES_MAX {
            break;
        }
    }
    let mut free = planning.free(state);
    free.sort_by_cached_key(|place| (planning.load_of)(place));
    let mut moves: BTreeMap<u64, Vec<TopicIdPartition>> = BTreeMap::new();
    for place in free {
        if let Some(heir) = ours.get_mut(&place.topic_id).and_then(Vec::pop) {
            moves.entry(ready[&heir]).or_default().push(place);
        }
    }
    moves.into_iter().collect()
}

/// What this broker gives to others because it has much more traffic than they have. `loads`: bytes per second of the brokers that are
/// known, by WAL id; nobody else gets anything. Who has more than the mean gives what it has too much, those that have most first, and
/// those that have least get as much as they have too little: all make the same plan out of the same figures.
pub(crate) fn load_moves(state: &State, planning: &Planning<'_>, loads: &BTreeMap<u64, u64>) -> Vec<Move> {
    let known = planning.ready(state).filter_map(|broker| {
        let load = *loads.get(&broker.wal_id)?;
        Some((load, broker.wal_id))
    });
    let mut brokers: Vec<(u64, u64)> = known.collect();
    brokers.sort_unstable();
    let sum: u64 = brokers.iter().map(|(load, _)| load).sum();
    let mean = sum / brokers.len().max(1) as u64;
    let ours = loads.get(&planning.me).copied().unwrap_or(0);
    let spare = ours.saturating_sub(mean);
    if spare < LOAD_LITTLE || ours * 100 < mean * LOAD_MUCH_PERCENT {
        return Vec::new();
    }
    let mut before_us: u64 = brokers
        .iter()
        .filter(|(load, wal_id)| (*load, *wal_id) > (ours, planning.me))
        .map(|(load, _)| load - mean)
        .sum();
    let mut busiest: Vec<(u64, TopicIdPartition)> = planning
        .free(state)
        .into_iter()
        .map(|place| ((planning.load_of)(&place), place))
        .filter(|(load, _)| *load > spare / LOAD_PARTS)
        .collect();
    busiest.sort_unstable_by_key(|(load, place)| (Reverse(*load), *place));
    let mut moves = Vec::new();
    let (mut ours, mut spare) = (ours, spare);
    for (theirs, heir) in brokers.into_iter().take_while(|(load, _)| *load < mean) {
        let wanted = mean - theirs;
        let skipped = before_us.min(wanted);
        before_us -= skipped;
        let mut room = (wanted - skipped).min(spare);
        let mut some = Vec::new();
        busiest.retain(|(load, place)| {
            // A little too much is better than nothing. So is one that is much too much, where it has more with us than it will have there;
            // but one that has nearly all of it would only be somewhere else.
            let fits = *load <= room + room / 4
                || some.is_empty() && room > 0 && theirs + load <= ours.saturating_sub(*load);
            if fits {
                room = room.saturating_sub(*load);
                spare = spare.saturating_sub(*load);
                ours = ours.saturating_sub(*load);
                some.push(*place);
            }
            !fits
        });
        if !some.is_empty() {
            moves.push((heir, some));
        }
    }
    moves
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
fn shares(state: &State, planning: &Planning<'_>) -> Vec<Share> {
    let (leads, bound) = (leader_counts(state), bound_counts(state));
    let of = |counts: &HashMap<i32, usize>, node_id: i32| counts.get(&node_id).copied().unwrap_or(0);
    let ready = planning.ready(state);
    let mut brokers: Vec<Share> = ready
        .map(|broker| {
            let (wal_id, node_id) = (broker.wal_id, broker.node_id);
            Share { wal_id, node_id, leads: of(&leads, node_id), bound: of(&bound, node_id), share: 0 }
        })
        .collect();
    brokers.sort_unstable_by_key(|broker| (Reverse(broker.leads), broker.node_id));
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

    async fn broker(bucket: &MemBucket, node_id: i32, rack: Option<Str>) -> Arc<Catalog> {
        let options = CatalogOptions {
            node_id: Some(node_id),
            rack,
            lease_ttl: Duration::ZERO,
            ..CatalogOptions::default()
        };
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
            load_of: &|_| 0,
        };
        let Some((heir, moved)) = next_move(&broker.read(), &planning) else { return false };
        assert!(!moved.is_empty() && moved.iter().all(|id| !closed.contains(id)));
        let partitions = moved.iter().map(|id| (id.topic_id, vec![id.partition as u32])).collect();
        broker.append(vec![MetadataRecord::MovePartitions { slot: 1, heir, partitions }]).await.unwrap();
        true
    }

    async fn cluster_of(nodes: i32, partition_count: u32) -> Vec<Arc<Catalog>> {
        let bucket = MemBucket::new(1);
        let mut brokers = vec![broker(&bucket, 1, None).await];
        let create = MetadataRecord::CreateTopic {
            id: Uuid::from_u128(7),
            name: Str::from("t"),
            partition_count,
            replication_factor: 1,
            configs: Vec::new(),
        };
        brokers[0].append(vec![create]).await.unwrap();
        for node_id in 2..=nodes {
            brokers.push(broker(&bucket, node_id, None).await);
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

    /// Given brokers in any zones and topics of any size, which all look for zones at the same moment. Then, after a few looks, nothing
    /// moves any more, no topic could gain, and numbers differ by two at most.
    #[test]
    fn zones_and_numbers_come_to_rest_together() {
        task::deterministic(1);
        let rng = SeededRng::new(9);
        for round in 0..100 {
            task::paused_runtime().block_on(async {
                let bucket = MemBucket::new(round);
                let mut brokers = Vec::new();
                for node_id in 1..=3 + rng.below(5) as i32 {
                    let rack = Str::from(format!("rack-{}", rng.below(3)));
                    brokers.push(broker(&bucket, node_id, Some(rack)).await);
                }
                for index in 0..20 {
                    let create = MetadataRecord::CreateTopic {
                        id: Uuid::from_u128(rng.next_u64().into()),
                        name: Str::from(format!("t{index}")),
                        partition_count: 1 + rng.below(7) as u32,
                        replication_factor: 1,
                        configs: Vec::new(),
                    };
                    brokers[0].append(vec![create]).await.unwrap();
                }
                let lively: BTreeSet<u64> = brokers.iter().map(|broker| broker.wal_id()).collect();
                let mut looks = 0;
                loop {
                    settle(&brokers).await;
                    let mut planned = Vec::new();
                    for broker in &brokers {
                        broker.catch_up().await.unwrap();
                        let planning = Planning {
                            me: broker.wal_id(),
                            lively: &lively,
                            busy: &BTreeSet::new(),
                            is_open: &|_| true,
                            came_lately: &|_| false,
                            load_of: &|_| 0,
                        };
                        let moves = zone_moves(&broker.read(), &planning);
                        planned.extend(moves.into_iter().map(|one| (broker, one)));
                    }
                    if planned.is_empty() {
                        break;
                    }
                    looks += 1;
                    assert!(looks <= 5, "round {round}: {planned:?}", planned = planned.len());
                    for (broker, (heir, moved)) in planned {
                        let partitions =
                            moved.iter().map(|id| (id.topic_id, vec![id.partition as u32])).collect();
                        let record = MetadataRecord::MovePartitions { slot: 1, heir, partitions };
                        broker.append(vec![record]).await.unwrap();
                    }
                }
                let counts = settle(&brokers).await;
                assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 2, "{counts:?}");
                let state = brokers[0].read();
                let nodes = || state.live_brokers().map(|broker| broker.node_id);
                let mut zones = TopicZones::new(&state, nodes());
                let uneven = state.topics().filter(|topic| zones.best(&state, topic.id).is_some()).count();
                assert_eq!(uneven, 0, "round {round} of {} brokers", brokers.len());
            });
        }
    }

    /// Given loads of brokers and of the partitions of the first one: what it gives to whom.
    fn given(loads: &[u64], partitions: &[u64]) -> Vec<(usize, Vec<u64>)> {
        task::paused_runtime().block_on(async {
            // One record makes them all the first broker's.
            let brokers = cluster_of(loads.len() as i32, partitions.len() as u32).await;
            brokers[0].catch_up().await.unwrap();
            let wal_ids: Vec<u64> = brokers.iter().map(|broker| broker.wal_id()).collect();
            let planning = Planning {
                me: wal_ids[0],
                lively: &wal_ids.iter().copied().collect(),
                busy: &BTreeSet::new(),
                is_open: &|_| true,
                came_lately: &|_| false,
                load_of: &|id| partitions[id.partition as usize] << 20,
            };
            let loads = wal_ids.iter().copied().zip(loads.iter().map(|load| load << 20)).collect();
            let moves = load_moves(&brokers[0].read(), &planning, &loads);
            let to = |heir: u64| wal_ids.iter().position(|wal_id| *wal_id == heir).unwrap();
            let load = |id: TopicIdPartition| partitions[id.partition as usize];
            moves.into_iter().map(|(heir, some)| (to(heir), some.into_iter().map(load).collect())).collect()
        })
    }

    /// In MiB per second.
    #[test]
    fn who_has_much_traffic_gives_what_it_has_too_much() {
        task::deterministic(1);
        assert_eq!(given(&[100, 0], &[50, 50]), [(1, vec![50])]);
        assert_eq!(given(&[100, 0], &[51, 49]), [(1, vec![51])]);
        assert_eq!(given(&[90, 30, 0], &[20, 20, 20, 20, 10]), [(2, vec![20, 20]), (1, vec![10])]);
        // What it gives is what brings it near to the mean, the busy ones first and the idle ones never.
        assert_eq!(given(&[100, 20, 0], &[30, 20, 10, 10, 10, 10, 9, 1]), [(2, vec![30, 10]), (1, vec![20])]);
        // One partition that has all of it: others make room for it, and it would be no better anywhere else.
        assert_eq!(given(&[100, 10], &[90, 10]), [(1, vec![10])]);
        assert_eq!(given(&[90, 10], &[90]), []);
        // It is not much, or hardly more than others have.
        assert_eq!(given(&[2, 1, 1], &[1, 1]), []);
        assert_eq!(given(&[120, 100, 80], &[20, 20, 20, 60]), []);
        // Others give as well: of what is wanted it fills what they leave.
        assert_eq!(given(&[90, 110, 0, 0], &[10; 9]), [(3, vec![10; 4])]);
        assert_eq!(given(&[60, 120, 0], &[10; 6]), []);
    }

    /// Whose load nobody knows gives and gets nothing because of it.
    #[test]
    fn who_does_not_say_what_it_has_is_left_alone() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let brokers = cluster_of(3, 4).await;
            brokers[0].catch_up().await.unwrap();
            let wal_ids: Vec<u64> = brokers.iter().map(|broker| broker.wal_id()).collect();
            let mut planning = Planning {
                me: wal_ids[0],
                lively: &wal_ids.iter().copied().collect(),
                busy: &BTreeSet::new(),
                is_open: &|_| true,
                came_lately: &|_| false,
                load_of: &|_| 10 << 20,
            };
            let loads = BTreeMap::from([(wal_ids[0], 40 << 20), (wal_ids[2], 0)]);
            let moves = load_moves(&brokers[0].read(), &planning, &loads);
            assert_eq!(
                moves.iter().map(|(heir, some)| (*heir, some.len())).collect::<Vec<_>>(),
                [(wal_ids[2], 2)]
            );
            planning.came_lately = &|id| id.partition != 3;
            let moves = load_moves(&brokers[0].read(), &planning, &loads);
            assert_eq!(moves, [(wal_ids[2], vec![TopicIdPartition::new(Uuid::from_u128(7), 3)])]);
        });
    }
}
