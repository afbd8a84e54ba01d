//! In which zones the leaders of each topic are. A zone is a `broker.rack`; brokers without one are in a zone of their own together.
//!
//! A zone's share of a topic's leaders is as large as its share of the brokers, rounded up or down as it comes. A topic gains by a move
//! when it goes from a zone that has more than its share, or to one that has less, and what zones have beyond their shares gets smaller
//! (the sum of squares): so whatever the order, moves that gain end.

use std::collections::BTreeMap;

use catalog::State;
use protocol::{Str, TopicIdPartition, Uuid};
use world::collections::HashMap;

pub(crate) struct TopicZones {
    /// By node id; those that may lead.
    zone_of: BTreeMap<i32, usize>,
    /// How many brokers each zone has.
    brokers: Vec<i64>,
    /// How many leaders of a topic are in each zone, of topics that were asked for.
    leaders: HashMap<Uuid, Vec<i64>>,
}

impl TopicZones {
    pub fn new(state: &State, nodes: impl Iterator<Item = i32>) -> TopicZones {
        let mut racks: BTreeMap<Option<&Str>, usize> = BTreeMap::new();
        let (mut zone_of, mut brokers) = (BTreeMap::new(), Vec::new());
        for node_id in nodes {
            let rack = state.broker(node_id).and_then(|broker| broker.rack.as_ref());
            let zone = *racks.entry(rack).or_insert(brokers.len());
            if zone == brokers.len() {
                brokers.push(0);
            }
            brokers[zone] += 1;
            zone_of.insert(node_id, zone);
        }
        TopicZones { zone_of, brokers, leaders: HashMap::default() }
    }

    pub fn are_one(&self) -> bool {
        self.brokers.len() < 2
    }

    pub fn nodes(&self, zone: usize) -> impl Iterator<Item = i32> {
        self.zone_of.iter().filter(move |(_, of)| **of == zone).map(|(node_id, _)| *node_id)
    }

    /// From which zone to which one a leader of this topic should go.
    pub fn best(&mut self, state: &State, topic: Uuid) -> Option<(usize, usize)> {
        self.count(state, topic);
        let zones = 0..self.brokers.len();
        let pairs = zones.clone().flat_map(|from| zones.clone().map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from != to && self.leaders[&topic][*from] > 0);
        let gains = pairs.map(|(from, to)| (self.gain(topic, from, to), (from, to)));
        gains.filter(|(gain, _)| *gain > 0).max().map(|(_, pair)| pair)
    }

    /// What a topic that was counted gains when one of its leaders goes from one zone to another. Below zero: it loses.
    fn gain(&self, topic: Uuid, from: usize, to: usize) -> i64 {
        let all: i64 = self.brokers.iter().sum();
        let leaders = &self.leaders[&topic];
        let count: i64 = leaders.iter().sum();
        // What a zone has beyond its share, and so the gain, times the number of brokers: whole numbers.
        let beyond = |zone: usize| leaders[zone] * all - count * self.brokers[zone];
        let (from, to) = (beyond(from), beyond(to));
        let gain = from - to - all;
        // By one leader or more there are too many, or too few.
        let is_uneven = from >= all || to <= -all;
        let will_be_uneven = from - all <= -all || to + all >= all;
        let counts = if gain > 0 { is_uneven } else { will_be_uneven };
        if counts { gain } else { 0 }
    }

    pub fn moved(&mut self, state: &State, topic: Uuid, from: usize, to: usize) {
        let leaders = self.count(state, topic);
        leaders[from] -= 1;
        leaders[to] += 1;
    }

    /// Takes so many partitions out of `left`, in its order, for another broker: first those whose topics gain by it, then those that do
    /// not lose, and last any, unless it is strict.
    pub fn choose(
        &mut self,
        state: &State,
        (from, to): (u64, u64),
        left: &mut Vec<TopicIdPartition>,
        count: usize,
        is_strict: bool,
    ) -> Vec<TopicIdPartition> {
        let zones = self.zones_of(state, from, to);
        let mut chosen = Vec::with_capacity(count);
        let least = [Some(1), Some(0), (!is_strict).then_some(i64::MIN)];
        for least in least.into_iter().flatten() {
            left.retain(|place| {
                let mut takes = chosen.len() < count;
                if let Some((from, to)) = zones.filter(|_| takes) {
                    self.count(state, place.topic_id);
                    takes = self.gain(place.topic_id, from, to) >= least;
                    if takes {
                        self.moved(state, place.topic_id, from, to);
                    }
                }
                if takes {
                    chosen.push(*place);
                }
                !takes
            });
        }
        chosen
    }

    /// None: they are in one zone, or not all of them may lead.
    fn zones_of(&self, state: &State, from: u64, to: u64) -> Option<(usize, usize)> {
        let zone = |wal_id: u64| self.zone_of.get(&state.wal(wal_id)?.node_id).copied();
        let (from, to) = (zone(from)?, zone(to)?);
        (from != to).then_some((from, to))
    }

    /// How many leaders of a topic each zone has.
    fn count(&mut self, state: &State, topic: Uuid) -> &mut Vec<i64> {
        let (zone_of, zones) = (&self.zone_of, self.brokers.len());
        self.leaders.entry(topic).or_insert_with(|| {
            let mut leaders = vec![0; zones];
            let partitions = state.topic_by_id(topic).map(|topic| &topic.partitions);
            for info in partitions.into_iter().flatten() {
                if let Some(zone) = zone_of.get(&info.leader) {
                    leaders[*zone] += 1;
                }
            }
            leaders
        })
    }
}

#[cfg(test)]
mod tests {
    use world::rng::{Rng, SeededRng};

    use super::*;

    /// As gains say, of a topic with leaders in zones of so many brokers.
    fn gains(brokers: &[i64], leaders: &[i64], from: usize, to: usize) -> i64 {
        // Nodes 0, 1 … are the first of their zones.
        let zone_of = (0..brokers.len()).map(|zone| (zone as i32, zone)).collect();
        let topic = Uuid::from_u128(7);
        let leaders = [(topic, leaders.to_vec())].into_iter().collect();
        TopicZones { zone_of, brokers: brokers.to_vec(), leaders }.gain(topic, from, to).signum()
    }

    #[test]
    fn a_topic_gains_by_what_goes_to_a_zone_that_has_too_few() {
        assert_eq!(gains(&[1, 1], &[2, 0], 0, 1), 1);
        assert_eq!(gains(&[1, 1], &[1, 1], 0, 1), -1);
        // Three of two zones are one and two, either way.
        assert_eq!((gains(&[1, 1], &[2, 1], 0, 1), gains(&[1, 1], &[1, 2], 0, 1)), (0, -1));
        assert_eq!(gains(&[1, 1], &[3, 0], 0, 1), 1);
        // One partition is where it is, also beside a larger zone.
        assert_eq!((gains(&[1, 3], &[1, 0], 0, 1), gains(&[1, 3], &[0, 1], 1, 0)), (0, 0));
        // Shares of four brokers and eight leaders: two and six.
        assert_eq!((gains(&[1, 3], &[3, 5], 0, 1), gains(&[1, 3], &[2, 6], 0, 1)), (1, -1));
        assert_eq!((gains(&[1, 3], &[1, 7], 1, 0), gains(&[1, 3], &[2, 6], 1, 0)), (1, -1));
        assert_eq!(gains(&[1, 1, 1], &[2, 2, 2], 0, 1), -1);
        assert_eq!((gains(&[1, 1, 1], &[2, 1, 0], 0, 2), gains(&[1, 1, 1], &[2, 1, 0], 0, 1)), (1, 0));
    }

    /// Whatever the zones and leaders: moves that gain come to an end, and then no zone is beyond its share by one or more.
    #[test]
    fn moves_that_gain_end_in_even_zones() {
        let rng = SeededRng::new(5);
        for _ in 0..2_000 {
            let zones = 2 + rng.below(3) as usize;
            let brokers: Vec<i64> = (0..zones).map(|_| 1 + rng.below(4) as i64).collect();
            let mut leaders: Vec<i64> = (0..zones).map(|_| rng.below(9) as i64).collect();
            let (all, count): (i64, i64) = (brokers.iter().sum(), leaders.iter().sum());
            let mut moves = 0;
            loop {
                let has_one = (0..zones).filter(|from| leaders[*from] > 0);
                let pairs = has_one.flat_map(|from| (0..zones).map(move |to| (from, to)));
                let good: Vec<_> = pairs
                    .filter(|(from, to)| from != to && gains(&brokers, &leaders, *from, *to) > 0)
                    .collect();
                if good.is_empty() {
                    break;
                }
                let (from, to) = good[rng.below(good.len() as u64) as usize];
                (leaders[from], leaders[to]) = (leaders[from] - 1, leaders[to] + 1);
                moves += 1;
                assert!(moves <= 40, "{brokers:?} {leaders:?}");
            }
            for zone in 0..zones {
                let beyond = leaders[zone] * all - count * brokers[zone];
                assert!(beyond.abs() < all, "{brokers:?} {leaders:?}");
            }
        }
    }
}
