//! Planned moves: what goes to whom, and when.

use std::time::Duration;

use protocol::{TopicIdPartition, Uuid};
use world::bucket::MemBucket;
use world::process::Process;
use world::task;

use crate::house::{House, LEASE_TTL, story};

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
