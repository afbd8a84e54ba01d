use protocol::ErrorCode;
use protocol::batch::BatchBuilder;
use protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use protocol::messages::describe_producers_request;
use protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use protocol::messages::{
    DeleteRecordsRequest, DescribeProducersRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest,
};

use world::bucket::MemBucket;

use crate::fetch::{partition, request};
use crate::house::{House, NOW_MS, code, only_partition, produce_request, story};

async fn list(house: &House, version: i16, topic: &str, timestamp: i64) -> (ErrorCode, i64, i64, i32) {
    let asked = ListOffsetsPartition { timestamp, ..ListOffsetsPartition::default() };
    list_partition(house, version, topic, asked).await
}

async fn list_partition(
    house: &House,
    version: i16,
    topic: &str,
    asked: ListOffsetsPartition,
) -> (ErrorCode, i64, i64, i32) {
    let topic = ListOffsetsTopic { name: topic.into(), partitions: vec![asked] };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
    let response = house.ask(version, request).await;
    let found = &response.topics[0].partitions[0];
    (code(found.error_code), found.offset, found.timestamp, found.leader_epoch)
}

#[test]
fn timestamps_stand_for_offsets() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        // Empty: everything special is at 0, nothing is found by time.
        assert_eq!(list(&house, 11, "t", -1).await, (ErrorCode::None, 0, -1, 0));
        assert_eq!(list(&house, 11, "t", -2).await, (ErrorCode::None, 0, -1, 0));
        assert_eq!(list(&house, 11, "t", -3).await, (ErrorCode::None, -1, -1, -1));
        // Records at 0 s, 1 s, 2 s, then 0 s, 1 s again.
        house.produce("t", 0, &["a", "b", "c"]).await;
        house.produce("t", 0, &["d", "e"]).await;
        for version in 1..=11 {
            let epoch = if version >= 4 { 0 } else { -1 };
            assert_eq!(
                list(&house, version, "t", -1).await,
                (ErrorCode::None, 5, -1, epoch),
                "version {version}"
            );
            assert_eq!(list(&house, version, "t", -2).await, (ErrorCode::None, 0, -1, epoch));
            let found = list(&house, version, "t", NOW_MS + 500).await;
            assert_eq!(found, (ErrorCode::None, 1, NOW_MS + 1_000, epoch));
        }
        assert_eq!(list(&house, 11, "t", NOW_MS + 2_001).await, (ErrorCode::None, -1, -1, -1));
        assert_eq!(list(&house, 7, "t", -3).await, (ErrorCode::None, 2, NOW_MS + 2_000, 0));
        assert_eq!(list(&house, 6, "t", -3).await.0, ErrorCode::UnsupportedVersion);
        assert_eq!(list(&house, 8, "t", -4).await.1, 0);
        assert_eq!(list(&house, 9, "t", -5).await, (ErrorCode::None, -1, -1, -1));
        assert_eq!(list(&house, 11, "t", -6).await, (ErrorCode::None, -1, -1, -1));
        assert_eq!(list(&house, 11, "t", -7).await.0, ErrorCode::UnsupportedVersion);
        assert_eq!(list(&house, 11, "nowhere", -1).await.0, ErrorCode::UnknownTopicOrPartition);
        let fenced = ListOffsetsPartition { timestamp: -1, current_leader_epoch: 4, ..Default::default() };
        assert_eq!(list_partition(&house, 11, "t", fenced).await.0, ErrorCode::UnknownLeaderEpoch);
    });
}

/// KIP-405: what lies in the second tier is fetched and found as if it were here, and special timestamps tell what lies where.
#[test]
fn old_offsets_lie_in_the_second_tier() {
    story(|| async {
        let bucket = MemBucket::new(7);
        let house = House::tiered(&bucket).await;
        house
            .create_topic("t", 1, &[("remote.storage.enable", "true"), ("local.retention.bytes", "0")])
            .await;
        house.create_topic("plain", 1, &[]).await;
        assert_eq!(list(&house, 11, "t", -5).await, (ErrorCode::None, -1, -1, -1), "nothing is there yet");
        assert_eq!(list(&house, 11, "t", -6).await.1, 0);
        let long = "x".repeat(1000);
        for _ in 0..100 {
            house.produce("t", 0, &[&long]).await;
        }
        while house.log.offload().await.expect("the bucket is well") {}
        let (local, tiered) = (list(&house, 8, "t", -4).await.1, list(&house, 9, "t", -5).await.1);
        assert!(local > 80 && local < 100, "{local}");
        assert_eq!(tiered, local - 1);
        assert_eq!(list(&house, 11, "t", -6).await.1, local);
        assert_eq!(list(&house, 11, "t", -2).await.1, 0);
        assert_eq!(list(&house, 11, "t", NOW_MS).await.1, 0, "found in the tier");
        assert_eq!(list(&house, 11, "plain", -6).await, (ErrorCode::None, -1, -1, -1));
        for offset in [0, tiered, local] {
            let response = house.ask(12, request("t", vec![partition(0, offset)])).await;
            let found = &response.responses[0].partitions[0];
            assert_eq!(code(found.error_code), ErrorCode::None);
            assert!(!found.records.as_ref().unwrap().is_empty(), "{offset}");
            assert_eq!((found.log_start_offset, found.high_watermark), (0, 100));
        }
        // Away: an empty answer or an error that is repeated, never that the offset is out of range.
        let house = house.restarted().await;
        bucket.set_out(true);
        let response = house.ask(12, request("t", vec![partition(0, 0)])).await;
        let found = &response.responses[0].partitions[0];
        assert!(matches!(code(found.error_code), ErrorCode::None | ErrorCode::KafkaStorageError));
        assert!(found.records.as_ref().unwrap().is_empty());
        let found = list(&house, 11, "t", NOW_MS).await;
        assert!(matches!(found.0, ErrorCode::RequestTimedOut | ErrorCode::KafkaStorageError), "{found:?}");
        assert_eq!(list(&house, 11, "t", -4).await.1, local);
        bucket.set_out(false);
        // DeleteRecords into the tier, then all of it.
        for before in [local / 2, 100] {
            let partitions =
                vec![DeleteRecordsPartition { offset: before, ..DeleteRecordsPartition::default() }];
            let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
            let response =
                house.ask(2, DeleteRecordsRequest { topics, ..DeleteRecordsRequest::default() }).await;
            assert_eq!(response.topics[0].partitions[0].low_watermark, before);
            assert_eq!(list(&house, 11, "t", -2).await.1, before);
        }
        while house.log.offload().await.expect("the bucket is well") {}
        assert!(bucket.objects().is_empty(), "{:?}", bucket.objects().keys());
        assert_eq!(list(&house, 9, "t", -5).await.1, -1);
        let response = house.ask(12, request("t", vec![partition(0, 0)])).await;
        assert_eq!(code(response.responses[0].partitions[0].error_code), ErrorCode::OffsetOutOfRange);
    });
}

#[test]
fn a_partition_asked_twice_is_refused_twice() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 2, &[]).await;
        let ask =
            |partition_index| ListOffsetsPartition { partition_index, timestamp: -1, ..Default::default() };
        let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![ask(0), ask(1), ask(0)] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let response = house.ask(5, request).await;
        let codes: Vec<_> =
            response.topics[0].partitions.iter().map(|found| code(found.error_code)).collect();
        assert_eq!(codes, [ErrorCode::InvalidRequest, ErrorCode::None, ErrorCode::InvalidRequest]);
    });
}

#[test]
fn records_are_deleted_up_to_an_offset() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        house.create_topic("kept", 1, &[("cleanup.policy", "compact")]).await;
        house.produce("t", 0, &["a", "b", "c", "d"]).await;
        let delete = |topic: &str, offset| DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: topic.into(),
                partitions: vec![DeleteRecordsPartition { offset, ..DeleteRecordsPartition::default() }],
            }],
            ..DeleteRecordsRequest::default()
        };
        for (version, topic, offset, expected, low) in [
            (0, "t", 2, ErrorCode::None, 2),
            (1, "t", 1, ErrorCode::None, 2),
            (2, "t", 9, ErrorCode::OffsetOutOfRange, -1),
            (2, "t", -2, ErrorCode::OffsetOutOfRange, -1),
            (2, "nowhere", 0, ErrorCode::UnknownTopicOrPartition, -1),
            (2, "kept", 0, ErrorCode::PolicyViolation, -1),
            (2, "t", -1, ErrorCode::None, 4),
        ] {
            let response = house.ask(version, delete(topic, offset)).await;
            let answered = &response.topics[0].partitions[0];
            assert_eq!(
                (code(answered.error_code), answered.low_watermark),
                (expected, low),
                "{topic} {offset}"
            );
            if (topic, offset) == ("t", 2) {
                assert_eq!(list(&house, 5, "t", -2).await.1, 2);
                let response = house.ask(11, request("t", vec![partition(0, 1)])).await;
                let data = &response.responses[0].partitions[0];
                assert_eq!(code(data.error_code), ErrorCode::OffsetOutOfRange);
            }
        }
        assert_eq!(house.produce("t", 0, &["e"]).await, 4);
    });
}

#[test]
fn the_running_epoch_ends_where_the_log_ends() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        house.produce("t", 0, &["a", "b"]).await;
        for version in 2..=4 {
            let ask = |topic: &str, leader_epoch, current_leader_epoch| OffsetForLeaderEpochRequest {
                topics: vec![OffsetForLeaderTopic {
                    topic: topic.into(),
                    partitions: vec![OffsetForLeaderPartition {
                        leader_epoch,
                        current_leader_epoch,
                        ..OffsetForLeaderPartition::default()
                    }],
                }],
                ..OffsetForLeaderEpochRequest::default()
            };
            for (request, expected) in [
                (ask("t", 0, 0), (ErrorCode::None, 0, 2)),
                (ask("t", 3, -1), (ErrorCode::None, -1, -1)),
                (ask("t", 0, 1), (ErrorCode::UnknownLeaderEpoch, -1, -1)),
                (ask("nowhere", 0, -1), (ErrorCode::UnknownTopicOrPartition, -1, -1)),
            ] {
                let response = house.ask(version, request).await;
                let end = &response.topics[0].partitions[0];
                assert_eq!((code(end.error_code), end.leader_epoch, end.end_offset), expected);
            }
        }
    });
}

#[test]
fn producers_can_be_looked_at() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        let mut builder = BatchBuilder::new().producer(42, 3, 0);
        for value in ["a", "b"] {
            builder.append(NOW_MS, None, Some(value.as_bytes()), &[]).unwrap();
        }
        let response = house.ask(9, produce_request("t", 0, builder.build().unwrap())).await;
        assert_eq!(code(only_partition(&response).error_code), ErrorCode::None);
        let topic =
            describe_producers_request::TopicRequest { name: "t".into(), partition_indexes: vec![0, 5] };
        let response = house.ask(0, DescribeProducersRequest { topics: vec![topic] }).await;
        let producer = &response.topics[0].partitions[0].active_producers[0];
        assert_eq!((producer.producer_id, producer.producer_epoch, producer.last_sequence), (42, 3, 1));
        assert_eq!(producer.current_txn_start_offset, -1);
        let unknown = &response.topics[0].partitions[1];
        assert_eq!(code(unknown.error_code), ErrorCode::UnknownTopicOrPartition);
    });
}
