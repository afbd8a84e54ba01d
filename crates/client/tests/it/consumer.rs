//! Reading through trouble, and what a reader must not see.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use client::*;
use protocol::ApiKey;
use protocol::batch::{BatchBuilder, end_transaction_marker};

use crate::fake::{Fake, Fate, put};

fn run<T>(story: impl Future<Output = T>) -> T {
    world::task::deterministic(1);
    world::task::paused_runtime().block_on(story)
}

fn batch(values: &[&str], builder: BatchBuilder) -> Bytes {
    let mut builder = builder;
    for value in values {
        builder.append(1_760_000_000_000, None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.build().unwrap()
}

fn plain(values: &[&str]) -> Bytes {
    batch(values, BatchBuilder::new())
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    for _ in 0..40 {
        for record in consumer.poll(Duration::from_secs(1)).await.unwrap() {
            values.push(String::from_utf8_lossy(&record.value.unwrap()).into_owned());
        }
        if values.len() >= count {
            break;
        }
    }
    values
}

fn earliest() -> ConsumerOptions {
    ConsumerOptions::default().offset_reset(OffsetReset::Earliest)
}

#[test]
fn reading_goes_on_after_errors_and_lost_connections() {
    run(async {
        let fake = Fake::new().topic("t", 2);
        put(&fake, "t", 0, &plain(&["a", "b"]));
        put(&fake, "t", 1, &plain(&["c"]));
        fake.fates(
            ApiKey::Fetch,
            [Fate::LostBefore, Fate::Refused(ErrorCode::NotLeaderOrFollower), Fate::Mute, Fate::LostAfter],
        );
        let mut consumer = fake.client().consumer(earliest()).unwrap();
        consumer.assign([TopicPartition::new("t", 0), TopicPartition::new("t", 1)]).unwrap();
        let mut got = Vec::new();
        // A fetch that is never answered costs its time limit of half a minute.
        for _ in 0..60 {
            got.extend(read(&mut consumer, 3).await);
            if got.len() == 3 {
                break;
            }
        }
        got.sort();
        assert_eq!(got, ["a", "b", "c"]);
    });
}

#[test]
fn read_committed_hides_aborted_transactions_and_everyone_hides_markers() {
    run(async {
        // Given two producers, one of which aborts its first transaction
        //   0 plain │ 1-2 p7 │ 3 p8 │ 4 abort p7 │ 5 p7 │ 6 commit p7 │ 7 commit p8
        let fake = Fake::new().topic("t", 1);
        let transactional =
            |id: i64, sequence| BatchBuilder::new().transactional(true).producer(id, 0, sequence);
        put(&fake, "t", 0, &plain(&["plain"]));
        put(&fake, "t", 0, &batch(&["7-aborted", "7-aborted"], transactional(7, 0)));
        put(&fake, "t", 0, &batch(&["8-committed"], transactional(8, 0)));
        let marker = |id, commit| end_transaction_marker(id, 0, commit, 0, 1).unwrap();
        let push = |bytes: Bytes| {
            let mut state = fake.state.lock().unwrap();
            let partition = &mut state.topics.get_mut("t").unwrap()[0];
            let end = partition.end();
            let [head, rest] = protocol::batch::Batch::parse(bytes).unwrap().at(end, 0);
            partition.batches.push(protocol::batch::Batch::parse([head, rest].concat().into()).unwrap());
        };
        push(marker(7, false));
        push(batch(&["7-committed"], transactional(7, 2)));
        push(marker(7, true));
        push(marker(8, true));
        fake.state.lock().unwrap().aborted = vec![(7, 1)];

        for (isolation, expected) in [
            (Isolation::ReadCommitted, vec!["plain", "8-committed", "7-committed"]),
            (
                Isolation::ReadUncommitted,
                vec!["plain", "7-aborted", "7-aborted", "8-committed", "7-committed"],
            ),
        ] {
            let mut consumer = fake.client().consumer(earliest().isolation(isolation)).unwrap();
            let partition = TopicPartition::new("t", 0);
            consumer.assign([partition.clone()]).unwrap();
            assert_eq!(read(&mut consumer, expected.len()).await, expected);
            // and the position is behind the last marker, so that the lag is none
            consumer.poll(Duration::from_millis(10)).await.unwrap();
            assert_eq!(consumer.position(&partition).await.unwrap(), 8);
            assert_eq!(consumer.lag(&partition), Some(0));
        }
    });
}

#[test]
fn damage_is_an_error_after_what_came_before_it() {
    run(async {
        let fake = Fake::new().topic("t", 1);
        put(&fake, "t", 0, &plain(&["good"]));
        put(&fake, "t", 0, &plain(&["bad"]));
        {
            let mut state = fake.state.lock().unwrap();
            let batch = &mut state.topics.get_mut("t").unwrap()[0].batches[1];
            let mut bytes = batch.bytes.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            batch.bytes = bytes.into();
        }
        let mut consumer = fake.client().consumer(earliest()).unwrap();
        consumer.assign([TopicPartition::new("t", 0)]).unwrap();
        assert_eq!(read(&mut consumer, 1).await, ["good"]);
        let error = loop {
            match consumer.poll(Duration::from_secs(1)).await {
                Ok(records) => assert!(records.is_empty()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Batch(_)), "{error}");
        // One can step over it.
        consumer.seek(&TopicPartition::new("t", 0), 2).unwrap();
        put(&fake, "t", 0, &plain(&["after"]));
        assert_eq!(read(&mut consumer, 1).await, ["after"]);
    });
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl RebalanceListener for Heard {
    fn assigned(&self, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(format!("assigned {}", partitions.len()));
    }
    fn revoked(&self, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(format!("revoked {}", partitions.len()));
    }
    fn lost(&self, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(format!("lost {}", partitions.len()));
    }
}

#[test]
fn a_member_that_the_group_forgot_joins_again() {
    run(async {
        let fake = Fake::new().topic("t", 3);
        let heard = Heard::default();
        let options = ConsumerOptions::group("g").offset_reset(OffsetReset::Earliest).listener(heard.clone());
        let mut consumer = fake.client().consumer(options).unwrap();
        consumer.subscribe(["t"]).unwrap();
        put(&fake, "t", 0, &plain(&["a"]));
        fake.fates(
            ApiKey::JoinGroup,
            [
                Fate::Refused(ErrorCode::CoordinatorLoadInProgress),
                Fate::LostBefore,
                Fate::Refused(ErrorCode::NotCoordinator),
            ],
        );
        assert_eq!(read(&mut consumer, 1).await, ["a"]);
        assert_eq!(consumer.member_id().unwrap(), "member-1");

        // A rebalance: cooperative, so nothing is given up.
        fake.fates(ApiKey::Heartbeat, [Fate::Refused(ErrorCode::RebalanceInProgress)]);
        let generation = fake.state.lock().unwrap().generation;
        while fake.state.lock().unwrap().generation == generation {
            consumer.poll(Duration::from_secs(1)).await.unwrap();
        }
        // Forgotten: everything is lost and comes back, from the committed offset.
        consumer.commit().await.unwrap();
        fake.fates(ApiKey::Heartbeat, [Fate::Refused(ErrorCode::UnknownMemberId)]);
        while consumer.member_id().is_none_or(|id| id == "member-1") {
            consumer.poll(Duration::from_secs(1)).await.unwrap();
        }
        put(&fake, "t", 0, &plain(&["b"]));
        assert_eq!(read(&mut consumer, 1).await, ["b"]);
        consumer.close().await.unwrap();
        assert_eq!(fake.count(ApiKey::LeaveGroup), 1);
        assert_eq!(fake.state.lock().unwrap().committed[&TopicPartition::new("t", 0)], 2);
        assert_eq!(
            *heard.0.lock().unwrap(),
            ["assigned 3", "assigned 0", "lost 3", "assigned 3", "revoked 3",]
        );
    });
}

#[test]
fn whoever_does_not_poll_leaves_the_group() {
    run(async {
        let fake = Fake::new().topic("t", 1);
        let mut options = ConsumerOptions::group("g");
        options.poll_interval_max = Duration::from_secs(30);
        let mut consumer = fake.client().consumer(options).unwrap();
        consumer.subscribe(["t"]).unwrap();
        while consumer.assignment().count() == 0 {
            consumer.poll(Duration::from_secs(1)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(fake.count(ApiKey::LeaveGroup), 1);
        // The next poll joins again.
        let joins = fake.count(ApiKey::JoinGroup);
        while fake.count(ApiKey::SyncGroup) < 2 {
            consumer.poll(Duration::from_secs(1)).await.unwrap();
        }
        assert!(fake.count(ApiKey::JoinGroup) > joins);
    });
}

#[test]
fn auto_commit_commits_what_earlier_polls_gave() {
    run(async {
        let fake = Fake::new().topic("t", 1);
        put(&fake, "t", 0, &plain(&["a", "b", "c"]));
        let options = ConsumerOptions::group("g").offset_reset(OffsetReset::Earliest).poll_records_max(2);
        let mut consumer = fake.client().consumer(options).unwrap();
        consumer.subscribe(["t"]).unwrap();
        assert_eq!(read(&mut consumer, 1).await, ["a", "b"]);
        assert!(fake.state.lock().unwrap().committed.is_empty());
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(read(&mut consumer, 1).await, ["c"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(fake.state.lock().unwrap().committed[&TopicPartition::new("t", 0)], 2);
    });
}
