//! Planned moves: what goes to whom, and when.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use protocol::{TopicIdPartition, Uuid};
use world::bucket::MemBucket;
use world::process::Process;
use world::task;

use crate::house::{Cluster, House, LEASE_TTL, story};

const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 6;

/// How many partitions each node leads, and how many of them it has opened.
fn led(houses: &[&House], topic: Uuid) -> Vec<(usize, usize)> {
    let places = || (0..PARTITIONS).map(|index| TopicIdPartition::new(topic, index));
    let led = |house: &House| {
        let state = house.catalog.read();
        let topic = state.topic_by_id(topic).expect("it was made");
        topic.partitions.iter().filter(|info| info.leader == house.catalog.node_id()).count()
    };
    let open = |house: &House| places().filter(|place| house.log.partition(place).is_some()).count();
    houses.iter().map(|house| (led(house), open(house))).collect()
}

async fn until_led(houses: &[&House], topic: Uuid, wanted: &[(usize, usize)]) {
    let since = task::now();
    while led(houses, topic) != wanted {
        assert!(since.elapsed() < PATIENCE, "{:?}", led(houses, topic));
        task::sleep(Duration::from_millis(10)).await;
    }
}

/// Given a broker that got partitions and does not come to the end of opening them, when another one joins, which leads nothing yet. Then
/// nothing that is not open is given away (with a record of nothing, and the same again a second later), the one that is busy gets
/// nothing more, and all is even once it is done.
#[test]
fn what_is_not_open_is_not_moved_on() {
    story(|| async {
        let store = MemBucket::new(1);
        let processes = [Process::new(), Process::new(), Process::new()];
        let first = House::among(&store.client(), 1, "a", &processes[0]).await;
        let topic = first.create_topic("t", PARTITIONS, &[]).await;
        for index in 0..PARTITIONS {
            first.produce("t", index, &["v"]).await;
        }
        store.set_stuck(Some(&format!("wal/{:020}/", first.catalog.wal_id())));
        let second = House::among(&store.client(), 2, "b", &processes[1]).await;
        until_led(&[&first, &second], topic, &[(3, 3), (3, 0)]).await;
        let third = House::among(&store.client(), 3, "c", &processes[2]).await;
        task::sleep(LEASE_TTL * 5).await;
        let since = first.catalog.read().position();
        task::sleep(LEASE_TTL * 20).await;
        let records = first.catalog.read().position() - since;
        assert!(records <= 2, "{records} records while nothing happens");
        assert_eq!(led(&[&second], topic), [(3, 0)], "it cannot say where what it has not opened ends");
        // What is new and needs no reading does not wait behind it.
        let new = first.create_topic("new", PARTITIONS, &[]).await;
        task::sleep(LEASE_TTL).await;
        let open: Vec<(usize, usize)> = led(&[&first, &second, &third], new);
        assert!(open.iter().all(|(led, open)| led == open), "{open:?}");
        assert_ne!(open[1], (0, 0), "the busy one has something of it");
        store.set_stuck(None);
        let houses = [&first, &second, &third];
        let begun = task::now();
        loop {
            let (old, new) = (led(&houses, topic), led(&houses, new));
            if old.iter().zip(&new).all(|(a, b)| a.0 + b.0 == 4 && a.1 + b.1 == 4) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{old:?} {new:?}");
            task::sleep(Duration::from_millis(100)).await;
        }
        let since = first.catalog.read().position();
        task::sleep(LEASE_TTL * 20).await;
        assert!(first.catalog.read().position() - since <= 2, "nothing moves any more");
        for index in 0..PARTITIONS {
            let leader = houses
                .iter()
                .find(|house| house.log.partition(&TopicIdPartition::new(topic, index)).is_some());
            assert_eq!(leader.expect("it is led").produce("t", index, &["w"]).await, 1);
        }
    });
}

/// As `leader.imbalance.check.interval.seconds` says where nobody has set it, and a little more.
const NEXT_LOOK: Duration = Duration::from_secs(310);

/// Which node leads each partition.
fn leaders(house: &House, topic: Uuid) -> Vec<i32> {
    let state = house.catalog.read();
    state.topic_by_id(topic).expect("it was made").partitions.iter().map(|info| info.leader).collect()
}

/// Given three brokers, of which one leads two partitions that are read a lot. Then, after the next look, another one leads one of them,
/// all lead as many as before, and nothing goes to and fro.
#[test]
fn busy_partitions_go_to_brokers_with_little_traffic() {
    story(|| async {
        let Cluster { houses, processes: _processes, .. } = Cluster::start(&MemBucket::new(1)).await;
        let topic = houses[0].create_topic("t", 12, &[]).await;
        task::sleep(LEASE_TTL * 10).await;
        let before = leaders(&houses[0], topic);
        let busy: Vec<i32> = (0..12).filter(|index| before[*index as usize] == 2).take(2).collect();
        let counts = |leaders: &[i32]| -> BTreeMap<i32, usize> {
            (1..=3).map(|node| (node, leaders.iter().filter(|leader| **leader == node).count())).collect()
        };
        let read_for = |seconds: u64| {
            let (houses, busy) = (&houses, &busy);
            async move {
                for _ in 0..seconds {
                    for index in busy {
                        let place = TopicIdPartition::new(topic, *index);
                        let leader = houses.iter().find_map(|house| house.log.partition(&place));
                        if let Some(partition) = leader {
                            partition.count_read(10 << 20);
                        }
                    }
                    task::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        read_for(NEXT_LOOK.as_secs()).await;
        let after = leaders(&houses[0], topic);
        assert_ne!(after[busy[0] as usize], after[busy[1] as usize], "{before:?} {after:?}");
        assert_eq!(counts(&after), counts(&before));
        let moved = |house: &House| house.broker.counters().leaders_moved_for_load.load(Ordering::Relaxed);
        assert_eq!(houses.iter().map(moved).collect::<Vec<_>>(), [0, 1, 0]);
        read_for(3 * NEXT_LOOK.as_secs()).await;
        assert_eq!(leaders(&houses[0], topic), after);
    });
}

/// Given four brokers in two zones, and topics of two partitions. Then, after a look or two, each topic has a leader in each zone, all
/// brokers lead as many, and nothing goes to and fro.
#[test]
fn the_leaders_of_a_topic_are_in_all_zones() {
    story(|| async {
        let store = MemBucket::new(1);
        let processes: Vec<Process> = (1..=4).map(|_| Process::new()).collect();
        let mut houses = Vec::new();
        for ((node_id, process), rack) in (1..).zip(&processes).zip(["a", "a", "b", "b"]) {
            houses.push(House::among(&store.client(), node_id, rack, process).await);
        }
        task::sleep(LEASE_TTL * 5).await;
        let mut topics = Vec::new();
        for index in 0..8 {
            topics.push(houses[0].create_topic(&format!("t{index}"), 2, &[]).await);
        }
        let all = || -> Vec<Vec<i32>> { topics.iter().map(|topic| leaders(&houses[0], *topic)).collect() };
        let in_one_zone =
            |all: &[Vec<i32>]| all.iter().filter(|leaders| (leaders[0] <= 2) == (leaders[1] <= 2)).count();
        assert_ne!(in_one_zone(&all()), 0, "there is nothing to do");
        let mut looks = 0;
        while in_one_zone(&all()) > 0 {
            looks += 1;
            assert!(looks <= 3, "{:?}", all());
            task::sleep(NEXT_LOOK).await;
        }
        task::sleep(LEASE_TTL * 5).await;
        let after = all();
        let led = |node: i32| after.iter().flatten().filter(|leader| **leader == node).count();
        assert!((1..=4).all(|node| (3..=5).contains(&led(node))), "{after:?}");
        task::sleep(NEXT_LOOK * 3).await;
        assert_eq!(all(), after);
    });
}
