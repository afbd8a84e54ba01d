use std::sync::atomic::Ordering;

use broker::{Handling, Outcome};
use bytes::Bytes;
use protocol::batch::{BatchBuilder, split_batches};
use protocol::compression::Compression;
use protocol::messages::ProduceRequest;
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::{ErrorCode, Records, Uuid};

use crate::fetch::read_all;
use crate::house::{House, NOW_MS, answer, batch, code, frame_of, only_partition, produce_request, story};

#[test]
fn every_version_appends_and_tells_where() {
    story(|| async {
        let house = House::new().await;
        let id = house.create_topic("t", 1, &[]).await;
        for version in 3..=13 {
            let mut request = produce_request("t", 0, batch(&["one", "two"]));
            if version >= 13 {
                request.topic_data[0].name = Default::default();
                request.topic_data[0].topic_id = id;
            }
            request.acks = if version % 2 == 0 { 1 } else { -1 };
            let response = house.ask(version, request).await;
            let partition = only_partition(&response);
            assert_eq!(code(partition.error_code), ErrorCode::None, "version {version}");
            assert_eq!(partition.base_offset, i64::from(version - 3) * 2);
            assert_eq!(partition.log_append_time_ms, -1);
        }
        let counted = house.broker.counters().all_topics.snapshot();
        assert_eq!(
            (counted.messages_in, counted.produce_requests, counted.failed_produce_requests),
            (22, 11, 0)
        );
        assert_eq!(house.broker.counters().topics()[0].1, counted);
    });
}

#[test]
fn requests_are_queued_in_order_before_any_is_answered() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        let waiting: Vec<_> = (0..5)
            .map(|n| {
                let request = produce_request("t", 0, batch(&[&format!("{n}")]));
                let Handling::Pipelined(outcome) = house.hand_over(frame_of(9, &request)) else {
                    panic!("produce requests of a connection overlap")
                };
                outcome
            })
            .collect();
        for (n, outcome) in (0..).zip(waiting) {
            let response = answer::<ProduceRequest>(9, outcome.await);
            assert_eq!(only_partition(&response).base_offset, n);
        }
        assert_eq!(read_all(&house, "t", 0, 0).await, ["0", "1", "2", "3", "4"]);
    });
}

/// Batches that unpack to much are judged elsewhere, and then they are queued like all others.
#[test]
fn what_takes_long_to_unpack_is_prepared_first() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("keyed", 1, &[("cleanup.policy", "compact")]).await;
        house.create_topic("packed", 1, &[("compression.type", "gzip")]).await;
        house.create_topic("plain", 1, &[]).await;
        let of = |codec: Compression, key: Option<&[u8]>, bytes: usize| {
            let mut builder = BatchBuilder::new().compression(codec);
            builder.append(NOW_MS, key, Some(&vec![b'x'; bytes]), &[]).unwrap();
            builder.build().unwrap()
        };
        let is_prepared = |topic: &str, batch: Bytes| {
            let handling = house.hand_over(frame_of(9, &produce_request(topic, 0, batch)));
            (matches!(handling, Handling::Preparing(_)), handling.outcome())
        };
        let mut offsets = std::collections::BTreeMap::new();
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            for (topic, bytes, is_long) in [
                ("keyed", 10_000, false),
                ("keyed", 600_000, true),
                // Nobody looks into it.
                ("plain", 600_000, false),
                ("packed", 10_000, false),
                // It has to be packed anew, unless it is packed as it should be.
                ("packed", 600_000, codec != Compression::Gzip),
            ] {
                let (is_prepared, outcome) = is_prepared(topic, of(codec, Some(b"key"), bytes));
                assert_eq!(is_prepared, is_long, "{codec} {topic} {bytes}");
                let response = answer::<ProduceRequest>(9, outcome.await);
                let partition = only_partition(&response);
                assert_eq!(code(partition.error_code), ErrorCode::None, "{codec} {topic} {bytes}");
                let next: &mut i64 = offsets.entry(topic).or_default();
                assert_eq!(partition.base_offset, *next, "{codec} {topic} {bytes}");
                *next += 1;
            }
            let (is_prepared, outcome) = is_prepared("keyed", of(codec, None, 600_000));
            assert!(is_prepared, "{codec}");
            let response = answer::<ProduceRequest>(9, outcome.await);
            let partition = only_partition(&response);
            assert_eq!(code(partition.error_code), ErrorCode::InvalidRecord, "{codec}");
            assert_eq!(partition.record_errors.len(), 1, "{codec}");
        }
        let (is_prepared, outcome) = is_prepared("packed", of(Compression::None, None, 600_000));
        assert!(is_prepared, "packing is work as well");
        answer::<ProduceRequest>(9, outcome.await);
    });
}

#[test]
fn acks_0_is_silent_and_closes_on_failure() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        let request = ProduceRequest { acks: 0, ..produce_request("t", 0, batch(&["quiet"])) };
        assert!(matches!(house.start(9, &request).await, Outcome::Silent));
        // A later acknowledged record comes behind it.
        assert_eq!(house.produce("t", 0, &["loud"]).await, 1);
        let request = ProduceRequest { acks: 0, ..produce_request("nowhere", 0, batch(&["lost"])) };
        assert!(matches!(house.start(9, &request).await, Outcome::Close(_)));
    });
}

#[test]
fn what_cannot_be_appended_says_why() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[("max.message.bytes", "200")]).await;
        house.create_topic("keyed", 1, &[("cleanup.policy", "compact")]).await;
        house.create_topic("punctual", 1, &[("message.timestamp.after.max.ms", "1000")]).await;
        let late = {
            let mut builder = BatchBuilder::new();
            builder.append(NOW_MS + 60_000, None, Some(b"tomorrow"), &[]).unwrap();
            builder.build().unwrap()
        };
        let mut corrupt = batch(&["abc"]).to_vec();
        *corrupt.last_mut().unwrap() ^= 1;
        let two = [batch(&["a"]), batch(&["b"])].concat();
        for (request, expected) in [
            (produce_request("nowhere", 0, batch(&["x"])), ErrorCode::UnknownTopicOrPartition),
            (produce_request("t", 7, batch(&["x"])), ErrorCode::UnknownTopicOrPartition),
            (produce_request("t", -1, batch(&["x"])), ErrorCode::UnknownTopicOrPartition),
            (
                ProduceRequest { acks: 2, ..produce_request("t", 0, batch(&["x"])) },
                ErrorCode::InvalidRequiredAcks,
            ),
            (produce_request("t", 0, batch(&[&"x".repeat(500)])), ErrorCode::MessageTooLarge),
            (produce_request("t", 0, corrupt.into()), ErrorCode::CorruptMessage),
            (produce_request("t", 0, two.into()), ErrorCode::InvalidRecord),
            (produce_request("t", 0, Bytes::new()), ErrorCode::InvalidRecord),
            (produce_request("keyed", 0, batch(&["no key"])), ErrorCode::InvalidRecord),
            (produce_request("punctual", 0, late), ErrorCode::InvalidTimestamp),
        ] {
            let response = house.ask(9, request).await;
            let partition = only_partition(&response);
            assert_eq!(code(partition.error_code), expected, "{:?}", partition.error_message);
            assert_eq!(partition.base_offset, -1);
            if matches!(expected, ErrorCode::InvalidTimestamp) {
                assert_eq!(partition.record_errors[0].batch_index, 0);
            }
        }
        let unknown_id = TopicProduceData {
            topic_id: Uuid::from_u128(5),
            partition_data: vec![PartitionProduceData {
                records: Some(Records::from(batch(&["x"]))),
                ..Default::default()
            }],
            ..TopicProduceData::default()
        };
        let request = ProduceRequest { acks: -1, topic_data: vec![unknown_id], ..ProduceRequest::default() };
        let response = house.ask(13, request).await;
        assert_eq!(code(only_partition(&response).error_code), ErrorCode::UnknownTopicId);
        assert_eq!(house.produce("t", 0, &["still works"]).await, 0);
    });
}

#[test]
fn a_transaction_that_no_coordinator_knows_is_not_written() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        let mut builder = BatchBuilder::new().producer(7, 0, 0).transactional(true);
        builder.append(NOW_MS, None, Some(b"half a transfer"), &[]).unwrap();
        let request = produce_request("t", 0, builder.build().unwrap());
        let without_id = house.ask(9, request.clone()).await;
        assert_eq!(
            code(only_partition(&without_id).error_code),
            ErrorCode::TransactionalIdAuthorizationFailed
        );
        let with_id = ProduceRequest { transactional_id: Some("bank".into()), ..request };
        let response = house.ask(9, with_id).await;
        assert_eq!(code(only_partition(&response).error_code), ErrorCode::NotEnoughReplicas, "not yet");
        assert!(read_all(&house, "t", 0, 0).await.is_empty());
    });
}

#[test]
fn a_topic_with_a_codec_and_a_clock_of_its_own() {
    story(|| async {
        let house = House::new().await;
        house
            .create_topic(
                "t",
                1,
                &[("compression.type", "zstd"), ("message.timestamp.type", "LogAppendTime")],
            )
            .await;
        let response = house.ask(9, produce_request("t", 0, batch(&["one", "two"]))).await;
        assert_eq!(code(only_partition(&response).error_code), ErrorCode::None);
        let append_time = only_partition(&response).log_append_time_ms;
        assert!(append_time >= NOW_MS);
        let stored = crate::fetch::fetch_bytes(&house, "t", 0, 0).await;
        let batch = split_batches(&stored).next().unwrap().unwrap();
        assert_eq!(batch.header.compression(), Compression::Zstd);
        assert_eq!(batch.header.max_timestamp, append_time);
        assert_eq!(read_all(&house, "t", 0, 0).await, ["one", "two"]);
        assert_eq!(house.broker.counters().batches_rewritten.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn internal_topics_are_not_for_producers() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("__consumer_offsets", 1, &[]).await;
        let response = house.ask(9, produce_request("__consumer_offsets", 0, batch(&["x"]))).await;
        assert_eq!(code(only_partition(&response).error_code), ErrorCode::InvalidTopicException);
    });
}
