//! The range assignor: the partitions of a topic are cut into runs, one for each subscriber, the first ones longer by one.
//! Topics with as many partitions and the same subscribers are cut alike. Not sticky, but static members stand first and in
//! the order of their instance ids, so that who comes and goes behind them moves less. Kafka: `RangeAssignor`.

use std::collections::BTreeMap;

use protocol::Uuid;

use super::{Spec, Subscriber};
use crate::groups::consumer::assignment::Partitions;

pub fn assign(spec: &Spec) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..spec.subscribers.len()).collect();
    order.sort_by_key(|&index| rank(&spec.subscribers[index]));
    let mut subscribers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
    for &index in &order {
        for topic in spec.subscribers[index].topics.iter() {
            subscribers.entry(*topic).or_default().push(index);
        }
    }
    let mut assigned = vec![Partitions::new(); spec.subscribers.len()];
    for (topic, subscribers) in subscribers {
        let (all, members) = (spec.partition_count(&topic), subscribers.len() as i32);
        let (each, longer_count) = (all / members, all % members);
        let mut first = 0;
        for (place, index) in (0..).zip(subscribers) {
            let end = first + each + i32::from(place < longer_count);
            if first < end {
                assigned[index].insert(topic, (first..end).collect());
            }
            first = end;
        }
    }
    assigned
}

fn rank(subscriber: &Subscriber) -> (bool, &str) {
    match &subscriber.instance_id {
        Some(instance_id) => (false, instance_id),
        None => (true, &subscriber.member_id),
    }
}
