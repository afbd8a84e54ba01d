use std::time::Duration;

use bytes::Bytes;
use commitlog::{AppendOptions, EndTransaction};
use protocol::batch::{Batch, BatchBuilder, split_batches};
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::fetch_response::PartitionData;
use protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::{DeleteTopicsRequest, FetchRequest, FetchResponse, ListOffsetsRequest};
use protocol::{ErrorCode, TopicIdPartition, Uuid};
use world::task::{Instant, sleep};

use crate::house::{House, NOW_MS, answer, code, story};

pub fn partition(index: i32, offset: i64) -> FetchPartition {
    FetchPartition {
        partition: index,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    }
}

pub fn request(topic: &str, partitions: Vec<FetchPartition>) -> FetchRequest {
    FetchRequest {
        max_bytes: 1 << 20,
        topics: vec![FetchTopic { topic: topic.into(), partitions, ..FetchTopic::default() }],
        ..FetchRequest::default()
    }
}

pub async fn fetch_bytes(house: &House, topic: &str, index: i32, offset: i64) -> Bytes {
    let response = house.ask(11, request(topic, vec![partition(index, offset)])).await;
    let data = &response.responses[0].partitions[0];
    assert_eq!(code(data.error_code), ErrorCode::None);
    data.records.as_ref().unwrap().to_bytes()
}

pub async fn read_all(house: &House, topic: &str, index: i32, offset: i64) -> Vec<String> {
    values(&fetch_bytes(house, topic, index, offset).await)
}

pub fn values(records: &Bytes) -> Vec<String> {
    let records = split_batches(records).flat_map(|batch| batch.unwrap().records(1 << 20));
    records.map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap()).collect()
}

fn only(response: &FetchResponse) -> &PartitionData {
    &response.responses[0].partitions[0]
}

/// While the memory for answers is used up a consumer gets what is short, and nothing that is longer, not even one batch.
#[test]
fn a_short_fetch_brings_no_batch_that_is_longer() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        house.produce("t", 0, &["x"]).await;
        house.produce("t", 0, &[&"y".repeat(2_000)]).await;
        let records = |offset: i64| {
            let house = &house;
            async move {
                let response = house.ask(11, request("t", vec![partition(0, offset)])).await;
                let data = &response.responses[0].partitions[0];
                assert_eq!(code(data.error_code), ErrorCode::None);
                data.records.as_ref().map_or(0, |records| records.len())
            }
        };
        let all = records(0).await;
        house.connection.set_answer_bytes_max(Some(1_000));
        let short = records(0).await;
        assert!(short > 0 && short < 1_000 && all > 2_000, "{short} of {all}");
        assert_eq!(records(1).await, 0);
        house.connection.set_answer_bytes_max(None);
        assert_eq!(short + records(1).await, all);
    });
}

#[test]
fn every_version_reads_what_was_produced() {
    story(|| async {
        let house = House::new().await;
        let id = house.create_topic("t", 1, &[]).await;
        house.produce("t", 0, &["one", "two"]).await;
        for version in 4..=18 {
            let mut request = request("t", vec![partition(0, 0)]);
            if version >= 13 {
                request.topics[0].topic = Default::default();
                request.topics[0].topic_id = id;
            }
            let response = house.ask(version, request).await;
            let data = only(&response);
            assert_eq!(code(data.error_code), ErrorCode::None, "version {version}");
            assert_eq!((data.high_watermark, data.last_stable_offset), (2, 2));
            assert_eq!(data.preferred_read_replica, -1);
            assert_eq!(data.aborted_transactions, None);
            assert_eq!(
                values(&data.records.as_ref().unwrap().to_bytes()),
                ["one", "two"],
                "version {version}"
            );
        }
        let mut committed = request("t", vec![partition(0, 1)]);
        committed.isolation_level = 1;
        let response = house.ask(11, committed).await;
        assert_eq!(only(&response).aborted_transactions, Some(Vec::new()));
    });
}

#[test]
fn errors_are_of_the_partition_that_has_them() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        house.produce("t", 0, &["one", "two"]).await;
        let epoch = |epoch| FetchPartition { current_leader_epoch: epoch, ..partition(0, 0) };
        for (topic, wanted, expected) in [
            ("t", partition(0, 2), ErrorCode::None),
            ("t", partition(0, 3), ErrorCode::OffsetOutOfRange),
            ("t", partition(0, -1), ErrorCode::OffsetOutOfRange),
            ("t", partition(5, 0), ErrorCode::UnknownTopicOrPartition),
            ("nowhere", partition(0, 0), ErrorCode::UnknownTopicOrPartition),
            ("t", epoch(0), ErrorCode::None),
            ("t", epoch(-2), ErrorCode::None),
            ("t", epoch(3), ErrorCode::UnknownLeaderEpoch),
        ] {
            let response = house.ask(12, request(topic, vec![wanted.clone()])).await;
            let data = only(&response);
            assert_eq!(code(data.error_code), expected, "{topic} {wanted:?}");
            if expected != ErrorCode::None {
                assert_eq!((data.high_watermark, data.log_start_offset), (-1, -1));
                assert!(data.records.as_ref().unwrap().is_empty());
                let exists = expected != ErrorCode::UnknownTopicOrPartition;
                assert_eq!(data.aborted_transactions.is_none(), exists, "as Kafka: {expected:?}");
            }
        }
        let mut by_id = request("", vec![partition(0, 0)]);
        by_id.topics[0].topic_id = Uuid::from_u128(77);
        assert_eq!(code(only(&house.ask(15, by_id).await).error_code), ErrorCode::UnknownTopicId);
        let mut follower = request("t", vec![partition(0, 0)]);
        follower.replica_id = 3;
        assert_eq!(code(only(&house.ask(11, follower).await).error_code), ErrorCode::NotLeaderOrFollower);
    });
}

#[test]
fn a_long_poll_ends_with_data_or_with_its_time() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        let mut poll = request("t", vec![partition(0, 0)]);
        poll.max_wait_ms = 5_000;
        poll.min_bytes = 1;

        let begun = Instant::now();
        let response = house.ask(11, poll.clone()).await;
        assert!(only(&response).records.as_ref().unwrap().is_empty());
        assert_eq!(begun.elapsed(), Duration::from_secs(5));

        let begun = Instant::now();
        let (response, ()) = tokio::join!(house.ask(11, poll.clone()), async {
            sleep(Duration::from_secs(2)).await;
            house.produce("t", 0, &["news"]).await;
        });
        assert_eq!(values(&only(&response).records.as_ref().unwrap().to_bytes()), ["news"]);
        assert!(begun.elapsed() < Duration::from_secs(3));

        // Data that is there, but less than asked for, does not end the wait.
        poll.min_bytes = 10_000;
        let begun = Instant::now();
        let response = house.ask(11, poll.clone()).await;
        assert_eq!(values(&only(&response).records.as_ref().unwrap().to_bytes()), ["news"]);
        assert_eq!(begun.elapsed(), Duration::from_secs(5));

        // An error does.
        let mut wrong = request("t", vec![partition(0, 0), partition(9, 0)]);
        (wrong.max_wait_ms, wrong.min_bytes) = (5_000, 10_000);
        let begun = Instant::now();
        house.ask(11, wrong).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);

        // So does the topic's end, and the client's.
        let mut tail = request("t", vec![partition(0, 1)]);
        (tail.max_wait_ms, tail.min_bytes) = (5_000, 1);
        let (response, ()) = tokio::join!(house.ask(11, tail.clone()), async {
            sleep(Duration::from_secs(1)).await;
            let delete =
                DeleteTopicsRequest { topic_names: vec!["t".into()], ..DeleteTopicsRequest::default() };
            house.ask(5, delete).await;
        });
        assert_eq!(code(only(&response).error_code), ErrorCode::UnknownTopicOrPartition);
        house.create_topic("u", 1, &[]).await;
        tail.topics[0].topic = "u".into();
        tail.topics[0].partitions[0].fetch_offset = 0;
        let polling = house.start(11, &tail);
        let begun = Instant::now();
        let (outcome, ()) = tokio::join!(polling, async {
            sleep(Duration::from_secs(1)).await;
            house.connection.hang_up();
        });
        answer::<FetchRequest>(11, outcome);
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    });
}

#[test]
fn answers_keep_to_the_bytes_asked_for_but_always_move_on() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 3, &[]).await;
        let large = "x".repeat(1_000);
        for index in 0..3 {
            house.produce("t", index, &[&large]).await;
            house.produce("t", index, &[&large]).await;
        }
        let lengths = |response: &FetchResponse| -> Vec<usize> {
            response.responses[0].partitions.iter().map(|data| data.records.as_ref().unwrap().len()).collect()
        };
        let all = |max_bytes, partition_max_bytes| {
            let wanted = |index| FetchPartition { partition_max_bytes, ..partition(index, 0) };
            FetchRequest { max_bytes, ..request("t", (0..3).map(wanted).collect()) }
        };
        let one = lengths(&house.ask(11, all(i32::MAX, i32::MAX)).await)[0] / 2;
        // The first batch of the first partition with data is sent whatever the bounds say.
        assert_eq!(lengths(&house.ask(11, all(1, 1)).await), [one, 0, 0]);
        assert_eq!(lengths(&house.ask(11, all(i32::MAX, one as i32)).await), [one, one, one]);
        assert_eq!(lengths(&house.ask(11, all(2 * one as i32 + 1, i32::MAX)).await), [2 * one, 0, 0]);
        assert_eq!(lengths(&house.ask(11, all(5 * one as i32, i32::MAX)).await), [2 * one, 2 * one, one]);
        // A negative bound is none at all, and no reason to fall.
        assert_eq!(lengths(&house.ask(11, all(-1, -1)).await), [one, 0, 0]);
    });
}

/// A transaction's batch, or its end, in partition 0. No coordinator does that yet.
pub async fn transact(house: &House, id: Uuid, sequence: i32, values: &[&str], commit: Option<bool>) {
    transact_in(house, TopicIdPartition::new(id, 0), sequence, values, commit).await;
}

pub async fn transact_in(
    house: &House,
    place: TopicIdPartition,
    sequence: i32,
    values: &[&str],
    commit: Option<bool>,
) {
    if let Some(commit) = commit {
        let end = EndTransaction {
            producer_id: 9,
            producer_epoch: 0,
            coordinator_epoch: 0,
            commit,
            transaction_stamp: -1,
        };
        house.log.end_transaction(&place, end, 0).await.unwrap();
        return;
    }
    let mut builder = BatchBuilder::new().transactional(true).producer(9, 0, sequence);
    for value in values {
        builder.append(NOW_MS, None, Some(value.as_bytes()), &[]).unwrap();
    }
    let batch = Batch::parse(builder.build().unwrap()).unwrap();
    let partition = house.log.partition(&place).unwrap();
    partition.append(batch, AppendOptions::default()).unwrap().committed().await.unwrap();
}

#[test]
fn readers_of_committed_data_end_before_the_first_open_transaction_and_are_told_what_was_aborted() {
    story(|| async {
        let house = House::new().await;
        let id = house.create_topic("t", 1, &[]).await;
        transact(&house, id, 0, &["aborted", "too"], None).await;
        house.produce("t", 0, &["plain"]).await;
        transact(&house, id, 0, &[], Some(false)).await;
        transact(&house, id, 2, &["open"], None).await;
        house.produce("t", 0, &["behind"]).await;
        // Offsets: 0, 1 aborted · 2 plain · 3 marker · 4 open · 5 behind.
        let committed = |offset: i64| {
            let mut request = request("t", vec![partition(0, offset)]);
            request.isolation_level = 1;
            request
        };
        for (offset, aborted) in [(0, vec![(9, 0)]), (3, vec![(9, 0)])] {
            let response = house.ask(11, committed(offset)).await;
            let data = only(&response);
            assert_eq!((data.high_watermark, data.last_stable_offset), (6, 4));
            let told: Vec<(i64, i64)> = data
                .aborted_transactions
                .iter()
                .flatten()
                .map(|aborted| (aborted.producer_id, aborted.first_offset))
                .collect();
            assert_eq!(told, aborted);
            let bytes = data.records.as_ref().unwrap().to_bytes();
            assert_eq!(split_batches(&bytes).last().unwrap().unwrap().header.last_offset(), 3);
        }
        let response = house.ask(11, committed(5)).await;
        assert_eq!(only(&response).aborted_transactions.as_deref(), Some(&[][..]));
        assert!(only(&response).records.as_ref().unwrap().is_empty());
        // Readers of everything get no list.
        let response = house.ask(11, request("t", vec![partition(0, 0)])).await;
        assert_eq!((only(&response).last_stable_offset, &only(&response).aborted_transactions), (4, &None));
        assert_eq!(latest(&house, 0).await, 6);
        assert_eq!(latest(&house, 1).await, 4);

        // A long poll at the last stable offset ends with the transaction.
        let waiting = FetchRequest { max_wait_ms: 5_000, min_bytes: 1, ..committed(4) };
        let waiting = house.start(11, &waiting);
        transact(&house, id, 0, &[], Some(true)).await;
        let response = answer::<FetchRequest>(11, waiting.await);
        assert_eq!(only(&response).last_stable_offset, 7);
        assert_eq!(latest(&house, 1).await, 7);
    });
}

async fn latest(house: &House, isolation_level: i8) -> i64 {
    let asked = ListOffsetsPartition { partition_index: 0, timestamp: -1, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: vec![asked] }];
    let request = ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..Default::default() };
    house.ask(7, request).await.topics[0].partitions[0].offset
}
