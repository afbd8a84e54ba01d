//! Whatever happens on the way: what is reported as stored is stored once, and in order.

use std::time::Duration;

use client::*;
use proptest::prelude::*;
use protocol::ApiKey;

use crate::fake::{Fake, Fate};

fn run<T>(story: impl Future<Output = T>) -> T {
    world::task::deterministic(1);
    world::task::paused_runtime().block_on(story)
}

fn texts(range: std::ops::Range<i32>) -> Vec<String> {
    range.map(|i| i.to_string()).collect()
}

/// Small batches, many under way.
fn hasty() -> ProducerOptions {
    ProducerOptions::default().batch_bytes(120).linger(Duration::ZERO)
}

async fn send_all(producer: &Producer, topic: &str, count: i32) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for i in 0..count {
        let record = Record::to(topic).partition(0).value(i.to_string());
        deliveries.push(producer.send(record).await.unwrap());
    }
    deliveries
}

#[test]
fn an_answer_that_is_lost_does_not_store_twice() {
    run(async {
        let fake = Fake::new().topic("t", 1);
        let producer = fake.client().producer(ProducerOptions::default()).await.unwrap();
        fake.fates(ApiKey::Produce, [Fate::LostAfter, Fate::LostBefore, Fate::LostAfter]);
        let delivered = producer.send(Record::to("t").value("once")).await.unwrap().await.unwrap();
        assert_eq!(delivered.offset, 0);
        assert_eq!(fake.values("t", 0), ["once"]);
        assert_eq!(fake.count(ApiKey::Produce), 4);
    });
}

#[test]
fn no_more_than_five_requests_are_under_way() {
    run(async {
        let fake = Fake::new().topic("t", 1);
        let producer = fake.client().producer(hasty()).await.unwrap();
        for delivery in send_all(&producer, "t", 300).await {
            delivery.await.unwrap();
        }
        assert_eq!(fake.values("t", 0), texts(0..300));
        assert_eq!(fake.state.lock().unwrap().produce_under_way_max, 5);
    });
}

#[test]
fn a_linger_gathers_one_batch() {
    run(async {
        let fake = Fake::new().topic("t", 1);
        let options = ProducerOptions::default().linger(Duration::from_millis(50));
        let producer = fake.client().producer(options).await.unwrap();
        let deliveries = send_all(&producer, "t", 100).await;
        assert!(deliveries[0].now().is_none());
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        assert_eq!(fake.count(ApiKey::Produce), 1);
        // and a flush does not wait for it
        let before = tokio::time::Instant::now();
        let last = producer.send(Record::to("t").value("last")).await.unwrap();
        producer.flush().await.unwrap();
        assert!(last.now().is_some() && before.elapsed() < Duration::from_millis(20));
    });
}

#[test]
fn records_without_a_key_stick_to_a_partition_for_a_batch() {
    run(async {
        let fake = Fake::new().topic("t", 8);
        let options = ProducerOptions::default().linger(Duration::from_millis(50)).batch_bytes(500);
        let producer = fake.client().producer(options).await.unwrap();
        let mut partitions = Vec::new();
        for _ in 0..200 {
            partitions.push(producer.send(Record::to("t").value("x")).await.unwrap().partition().partition);
        }
        producer.close().await.unwrap();
        let changes = partitions.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!((5..=20).contains(&changes), "{changes} changes");
    });
}

#[test]
fn a_broker_that_never_answers_ends_in_a_report() {
    run(async {
        let fake = Fake::new().topic("t", 1);
        fake.fates(ApiKey::Produce, [Fate::Mute; 50]);
        let options = ProducerOptions::default().delivery_timeout(Duration::from_secs(40));
        let producer = fake.client().producer(options).await.unwrap();
        let before = tokio::time::Instant::now();
        let error = producer.send(Record::to("t").value("x")).await.unwrap().await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        assert!(before.elapsed() < Duration::from_secs(75), "{:?}", before.elapsed());
    });
}

#[test]
fn a_full_buffer_makes_send_wait_and_then_fail() {
    run(async {
        let fake = Fake::new().topic("t", 1);
        fake.fates(ApiKey::Produce, [Fate::Mute]);
        let options = ProducerOptions {
            buffer_bytes: 2_000,
            block_max: Duration::from_secs(2),
            ..ProducerOptions::default()
        };
        let producer = fake.client().producer(options).await.unwrap();
        let mut results = Vec::new();
        for _ in 0..30 {
            match producer.send(Record::to("t").value(vec![0; 100])).await {
                Ok(delivery) => results.push(delivery),
                Err(error) => {
                    assert!(matches!(error, Error::Timeout { .. }), "{error}");
                    break;
                }
            }
        }
        assert!((10..20).contains(&results.len()));
        assert!(producer.buffered_bytes() <= 2_000);
        // The one request times out, its retry goes through, and room comes back.
        for delivery in results {
            delivery.await.unwrap();
        }
        assert_eq!(producer.buffered_bytes(), 0);
    });
}

#[test]
fn a_record_too_large_is_refused_at_once() {
    run(async {
        let fake = Fake::new().topic("t", 1);
        let producer = fake.client().producer(ProducerOptions::default()).await.unwrap();
        let error = producer.send(Record::to("t").value(vec![0; 2 << 20])).await.err().unwrap();
        assert!(matches!(error, Error::RecordTooLarge { .. }));
        let error = producer.send(Record::to("t").partition(7).value("x")).await.err().unwrap();
        assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
        producer.close().await.unwrap();
        assert!(matches!(producer.send(Record::to("t").value("x")).await, Err(Error::Closed)));
    });
}

#[test]
fn a_topic_that_does_not_come_ends_in_an_error() {
    run(async {
        let fake = Fake::new();
        let producer = fake.client().producer(ProducerOptions::default()).await.unwrap();
        let error = producer.send(Record::to("nowhere").value("x")).await.err().unwrap();
        assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    });
}

#[test]
fn an_old_broker_is_asked_in_its_own_versions() {
    run(async {
        let fake = Fake::new().topic("t", 1);
        fake.state.lock().unwrap().api_versions_max = 2;
        let producer = fake.client().producer(ProducerOptions::default()).await.unwrap();
        producer.send(Record::to("t").value("x")).await.unwrap().await.unwrap();
    });
}

fn any_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Fine),
        1 => Just(Fate::LostBefore),
        1 => Just(Fate::LostAfter),
        1 => Just(Fate::Refused(ErrorCode::NotLeaderOrFollower)),
        1 => Just(Fate::Mute),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_every_record_is_stored_once_and_in_order(
        fates in proptest::collection::vec(any_fate(), 0..30),
    ) {
        run(async {
            let fake = Fake::new().topic("t", 1);
            let mut options = hasty();
            options.delivery_timeout = Duration::from_secs(3600);
            let producer = fake.client().producer(options).await.unwrap();
            fake.fates(ApiKey::Produce, fates.iter().copied());
            let deliveries = send_all(&producer, "t", 60).await;
            for (i, delivery) in deliveries.into_iter().enumerate() {
                assert_eq!(delivery.await.unwrap().offset, i as i64);
            }
            assert_eq!(fake.values("t", 0), texts(0..60));
        });
    }

    /// Batches refused for good or out of time, also when an earlier try had arrived: nothing is stored twice, the order
    /// holds, and what is reported as stored is where the report says.
    #[test]
    fn a_batch_given_up_leaves_no_trace_on_the_others(
        fates in proptest::collection::vec(
            prop_oneof![3 => any_fate(), 1 => Just(Fate::Refused(ErrorCode::MessageTooLarge))], 0..30),
        patience in prop_oneof![Just(3600), Just(35), Just(65)],
    ) {
        run(async {
            let fake = Fake::new().topic("t", 1);
            let mut options = hasty();
            options.delivery_timeout = Duration::from_secs(patience);
            let producer = fake.client().producer(options).await.unwrap();
            fake.fates(ApiKey::Produce, fates.iter().copied());
            let deliveries = send_all(&producer, "t", 60).await;
            let mut reports = Vec::new();
            for delivery in deliveries {
                reports.push(delivery.await);
            }
            let stored: Vec<i32> = fake.values("t", 0).iter().map(|value| value.parse().unwrap()).collect();
            assert!(stored.is_sorted_by(|a, b| a < b), "{stored:?}");
            for (i, report) in (0..).zip(reports) {
                match report {
                    Ok(delivered) => assert_eq!(stored[delivered.offset as usize], i),
                    // Out of time: the report is whatever came last.
                    Err(error) => {
                        assert!(patience < 3600 || error.code() == Some(ErrorCode::MessageTooLarge), "{error}");
                    }
                }
            }
        });
    }
}
