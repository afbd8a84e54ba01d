//! Three brokers in three racks on one bucket: consumers read from the broker of their own rack, whoever leads (KIP-392).

use std::time::Duration;

use protocol::batch::split_batches;
use protocol::messages::fetch_response::PartitionData;
use protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::{FetchRequest, FetchResponse, ListOffsetsRequest};
use protocol::{ErrorCode, TopicIdPartition, Uuid};
use world::bucket::MemBucket;
use world::process::Process;
use world::task;

use crate::fetch::{partition, request, transact_in, values};
use crate::house::{House, answer, code, story};

/// Of virtual time.
const PATIENCE: Duration = Duration::from_secs(120);

struct Racks {
    /// Nodes 1, 2 and 3, in the racks a, b and c.
    houses: Vec<(Process, MemBucket, House)>,
    id: Uuid,
}

impl Racks {
    /// A topic whose partition n is led by somebody.
    async fn new() -> Racks {
        let store = MemBucket::new(1);
        let mut houses = Vec::new();
        for (node_id, rack) in [(1, "a"), (2, "b"), (3, "c")] {
            let (process, client) = (Process::new(), store.client());
            let house = House::among(&client, node_id, rack, &process).await;
            houses.push((process, client, house));
        }
        // Each has looked at the leases of the others.
        task::sleep(Duration::from_secs(5)).await;
        let id = houses[0].2.create_topic("t", 3, &[]).await;
        for (_, _, house) in &houses {
            house.catalog.catch_up().await.unwrap();
        }
        let racks = Racks { houses, id };
        for node_id in 1..=3 {
            let index = racks.led_by(node_id);
            let place = TopicIdPartition::new(id, index);
            waited(async || racks.node(node_id).log.partition(&place).is_some()).await;
        }
        racks
    }

    fn node(&self, node_id: i32) -> &House {
        &self.houses[node_id as usize - 1].2
    }

    /// The partition that this node leads.
    fn led_by(&self, node_id: i32) -> i32 {
        let state = self.node(node_id).catalog.read();
        let leaders = &state.topic("t").unwrap().partitions;
        leaders.iter().position(|info| info.leader == node_id).expect("each leads one") as i32
    }

    async fn produce(&self, index: i32, node_id: i32, values: &[&str]) {
        self.node(node_id).produce("t", index, values).await;
    }

    fn ask(&self, version: i16, index: i32, offset: i64, rack: &str) -> FetchRequest {
        let mut asked = request("t", vec![partition(index, offset)]);
        asked.rack_id = rack.into();
        if version >= 13 {
            asked.topics[0].topic = Default::default();
            asked.topics[0].topic_id = self.id;
        }
        asked
    }

    async fn fetch(&self, node_id: i32, version: i16, index: i32, offset: i64, rack: &str) -> PartitionData {
        only(self.node(node_id).ask(version, self.ask(version, index, offset, rack)).await)
    }
}

fn only(mut response: FetchResponse) -> PartitionData {
    response.responses.remove(0).partitions.remove(0)
}

fn read(data: &PartitionData) -> Vec<String> {
    values(&data.records.as_ref().unwrap().to_bytes())
}

async fn waited(is_so: impl AsyncFn() -> bool) {
    let until = task::now() + PATIENCE;
    while !is_so().await {
        assert!(task::now() < until, "it never came to that");
        task::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_leader_sends_consumers_of_other_racks_to_their_own_and_they_read_there() {
    story(|| async {
        let racks = Racks::new().await;
        let index = racks.led_by(1);
        racks.produce(index, 1, &["one", "two"]).await;
        for version in 11..=18 {
            let sent = racks.fetch(1, version, index, 0, "b").await;
            assert_eq!(
                (code(sent.error_code), sent.preferred_read_replica),
                (ErrorCode::None, 2),
                "{version}"
            );
            assert_eq!((sent.high_watermark, read(&sent).len()), (2, 0));
            let there = racks.fetch(2, version, index, 0, "b").await;
            assert_eq!(
                (code(there.error_code), read(&there)),
                (ErrorCode::None, vec!["one".into(), "two".into()])
            );
            assert_eq!((there.high_watermark, there.preferred_read_replica), (2, -1));
        }
        // Nobody to send them to: its own rack, one that nobody is in, none, and clients that do not know of racks.
        for (version, rack) in [(11, "a"), (11, "elsewhere"), (11, ""), (10, "")] {
            let data = racks.fetch(1, version, index, 0, rack).await;
            assert_eq!((data.preferred_read_replica, read(&data).len()), (-1, 2), "{rack}");
        }
        // What it does not have, the leader says.
        let beyond = racks.fetch(1, 11, index, 9, "b").await;
        assert_eq!(code(beyond.error_code), ErrorCode::OffsetOutOfRange);
        // Clients that do not know of racks are not served by others, nor are followers, nor is anybody told an end.
        let refused = racks.fetch(2, 10, index, 0, "").await;
        assert_eq!(code(refused.error_code), ErrorCode::NotLeaderOrFollower);
        let mut follower = racks.ask(11, index, 0, "b");
        follower.replica_id = 3;
        let refused = only(racks.node(2).ask(11, follower).await);
        assert_eq!(code(refused.error_code), ErrorCode::NotLeaderOrFollower);
        let asked = ListOffsetsPartition { partition_index: index, timestamp: -1, ..Default::default() };
        let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: vec![asked] }];
        let listed =
            racks.node(2).ask(7, ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }).await;
        assert_eq!(code(listed.topics[0].partitions[0].error_code), ErrorCode::NotLeaderOrFollower);
        let bytes =
            racks.node(2).broker.counters().replica_bytes_out.load(std::sync::atomic::Ordering::Relaxed);
        assert!(bytes > 8 * 60, "{bytes}");
    });
}

#[test]
fn a_replica_checks_epochs_and_never_says_that_an_offset_is_out_of_range() {
    story(|| async {
        let racks = Racks::new().await;
        let index = racks.led_by(1);
        racks.produce(index, 1, &["one", "two"]).await;
        for (epoch, expected) in
            [(0, ErrorCode::None), (1, ErrorCode::UnknownLeaderEpoch), (-1, ErrorCode::None)]
        {
            let mut asked = racks.ask(11, index, 0, "c");
            asked.topics[0].partitions[0].current_leader_epoch = epoch;
            let data = only(racks.node(3).ask(11, asked).await);
            assert_eq!(code(data.error_code), expected, "{epoch}");
        }
        let beyond = racks.fetch(3, 11, index, 3, "c").await;
        assert_eq!(code(beyond.error_code), ErrorCode::OffsetNotAvailable);
        // A fetch that waits there hears of what is written elsewhere, and one that is ahead of what was looked at waits for nothing.
        let mut waiting = racks.ask(11, index, 2, "c");
        (waiting.max_wait_ms, waiting.min_bytes) = (30_000, 1);
        let waiting = racks.node(3).start(11, &waiting);
        let waiting = task::spawn(async move { only(answer::<FetchRequest>(11, waiting.await)) });
        task::sleep(Duration::from_millis(100)).await;
        racks.produce(index, 1, &["three"]).await;
        assert_eq!(read(&waiting.await.unwrap()), ["three"]);
        racks.produce(index, 1, &["four"]).await;
        let at_end = racks.fetch(3, 11, index, 4, "c").await;
        assert_eq!((code(at_end.error_code), at_end.high_watermark), (ErrorCode::None, 4));
        // What was deleted: the leader says so.
        let leader = racks.node(1).log.partition(&TopicIdPartition::new(racks.id, index)).unwrap();
        leader.delete_records(3).await.unwrap();
        waited(async || racks.fetch(3, 11, index, 3, "c").await.log_start_offset == 3).await;
        let deleted = racks.fetch(3, 11, index, 1, "c").await;
        assert_eq!(code(deleted.error_code), ErrorCode::NotLeaderOrFollower);
        let deleted = racks.fetch(1, 11, index, 1, "c").await;
        assert_eq!(code(deleted.error_code), ErrorCode::OffsetOutOfRange);
    });
}

#[test]
fn a_replica_hides_what_is_open_and_tells_what_was_aborted() {
    story(|| async {
        let racks = Racks::new().await;
        let index = racks.led_by(2);
        let place = TopicIdPartition::new(racks.id, index);
        let leader = racks.node(2);
        transact_in(leader, place, 0, &["aborted"], None).await;
        transact_in(leader, place, 0, &[], Some(false)).await;
        transact_in(leader, place, 1, &["open"], None).await;
        racks.produce(index, 2, &["behind"]).await;
        for node_id in 1..=3 {
            let mut asked = racks.ask(12, index, 0, "");
            asked.isolation_level = 1;
            let data = only(racks.node(node_id).ask(12, asked).await);
            assert_eq!((data.high_watermark, data.last_stable_offset), (4, 2), "node {node_id}");
            let aborted = data.aborted_transactions.as_ref().unwrap();
            assert_eq!(
                aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect::<Vec<_>>(),
                [(9, 0)]
            );
            let bytes = data.records.as_ref().unwrap().to_bytes();
            assert_eq!(split_batches(&bytes).last().unwrap().unwrap().header.last_offset(), 1);
        }
    });
}

/// As Kafka's clients do it: where it is sent, for as long as that goes well; else to the leader, whom somebody names.
struct Consumer {
    rack: &'static str,
    index: i32,
    position: i64,
    preferred: Option<i32>,
    seen: Vec<String>,
    /// Who has sent it records.
    served_by: std::collections::BTreeSet<i32>,
}

impl Consumer {
    async fn poll(&mut self, racks: &Racks, dead: Option<i32>) {
        let alive = (1..=3).find(|node_id| Some(*node_id) != dead).unwrap();
        let leader = {
            let state = racks.node(alive).catalog.read();
            state.topic("t").unwrap().partitions[self.index as usize].leader
        };
        let node_id = self.preferred.unwrap_or(leader);
        if Some(node_id) == dead {
            // Its connection breaks.
            self.preferred = None;
            task::sleep(Duration::from_millis(100)).await;
            return;
        }
        let data = racks.fetch(node_id, 12, self.index, self.position, self.rack).await;
        if code(data.error_code) != ErrorCode::None {
            assert_ne!(
                code(data.error_code),
                ErrorCode::OffsetOutOfRange,
                "at node {node_id}, {}",
                self.position
            );
            self.preferred = None;
            task::sleep(Duration::from_millis(50)).await;
            return;
        }
        if data.preferred_read_replica >= 0 {
            self.preferred = Some(data.preferred_read_replica);
            return;
        }
        let read = read(&data);
        if read.is_empty() {
            task::sleep(Duration::from_millis(50)).await;
            return;
        }
        self.served_by.insert(node_id);
        self.position += read.len() as i64;
        self.seen.extend(read);
    }
}

#[test]
fn a_consumer_reads_everything_once_in_its_own_rack_across_a_takeover() {
    story(|| async {
        let racks = Racks::new().await;
        let index = racks.led_by(1);
        let consumer = |rack| Consumer {
            rack,
            index,
            position: 0,
            preferred: None,
            seen: Vec::new(),
            served_by: Default::default(),
        };
        let (mut near, mut dying) = (consumer("b"), consumer("a"));
        let mut expected = Vec::new();
        for number in 0..20 {
            let value = format!("before {number}");
            racks.produce(index, 1, &[&value]).await;
            expected.push(value);
            near.poll(&racks, None).await;
            dying.poll(&racks, None).await;
        }
        let until = task::now() + PATIENCE;
        while near.seen.len() < 20 || dying.seen.len() < 20 {
            assert!(task::now() < until);
            near.poll(&racks, None).await;
            dying.poll(&racks, None).await;
        }
        // The leader dies; somebody takes over.
        let (process, bucket, _) = &racks.houses[0];
        process.kill();
        bucket.kill();
        let leads = async |node_id: i32| {
            let place = TopicIdPartition::new(racks.id, index);
            racks.node(node_id).log.partition(&place).is_some()
        };
        waited(async || leads(2).await || leads(3).await).await;
        let heir = if leads(2).await { 2 } else { 3 };
        racks.node(2).catalog.catch_up().await.unwrap();
        for number in 0..20 {
            let value = format!("behind {number}");
            racks.produce(index, heir, &[&value]).await;
            expected.push(value);
            near.poll(&racks, Some(1)).await;
            dying.poll(&racks, Some(1)).await;
        }
        while near.seen.len() < 40 || dying.seen.len() < 40 {
            assert!(task::now() < until);
            near.poll(&racks, Some(1)).await;
            dying.poll(&racks, Some(1)).await;
        }
        assert_eq!((&near.seen, &dying.seen), (&expected, &expected));
        assert_eq!(near.served_by.into_iter().collect::<Vec<_>>(), [2], "never from another rack");
    });
}

#[test]
fn what_nobody_reads_any_more_is_closed() {
    story(|| async {
        let racks = Racks::new().await;
        let index = racks.led_by(1);
        racks.produce(index, 1, &["one"]).await;
        assert_eq!(read(&racks.fetch(2, 11, index, 0, "b").await), ["one"]);
        assert_eq!(racks.node(2).log.view_count().0, 1);
        task::sleep(Duration::from_secs(70)).await;
        assert_eq!(racks.node(2).log.view_count().0, 0);
        assert_eq!(read(&racks.fetch(2, 11, index, 0, "b").await), ["one"]);
    });
}
