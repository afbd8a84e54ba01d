use std::time::Duration;

use protocol::messages::fetch_request::ForgottenTopic;
use protocol::messages::{FetchRequest, FetchResponse};
use protocol::{ErrorCode, Uuid};
use world::task::sleep;

use crate::fetch::{partition, request};
use crate::house::{House, code, story};

/// Which partitions an answer speaks of.
fn indexes(response: &FetchResponse) -> Vec<i32> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.partition_index).collect()
}

fn full(partitions: i32) -> FetchRequest {
    FetchRequest {
        session_epoch: 0,
        ..request("t", (0..partitions).map(|index| partition(index, 0)).collect())
    }
}

fn next(session_id: i32, session_epoch: i32) -> FetchRequest {
    FetchRequest { session_id, session_epoch, max_bytes: 1 << 20, ..FetchRequest::default() }
}

#[test]
fn a_session_answers_only_what_changed() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 4, &[]).await;
        let response = house.ask(11, full(4)).await;
        let id = response.session_id;
        assert_ne!(id, 0);
        assert_eq!(indexes(&response), [0, 1, 2, 3]);
        let counts = house.broker.fetch_session_counts();
        assert_eq!((counts.sessions, counts.partitions), (1, 4));

        let response = house.ask(11, next(id, 1)).await;
        assert_eq!((response.session_id, indexes(&response)), (id, vec![]));

        house.produce("t", 2, &["x"]).await;
        let response = house.ask(11, next(id, 2)).await;
        assert_eq!(indexes(&response), [2]);

        // The consumer moves on, forgets one partition, and the rest stays as it was.
        let mut moved =
            FetchRequest { session_id: id, session_epoch: 3, ..request("t", vec![partition(2, 1)]) };
        let gone = ForgottenTopic { topic: "t".into(), partitions: vec![0], ..ForgottenTopic::default() };
        moved.forgotten_topics_data = vec![gone];
        let response = house.ask(11, moved).await;
        assert_eq!(indexes(&response), Vec::<i32>::new());
        house.produce("t", 0, &["unseen"]).await;
        assert_eq!(indexes(&house.ask(11, next(id, 4)).await), Vec::<i32>::new());
        assert_eq!(house.broker.fetch_session_counts().partitions, 3);
    });
}

#[test]
fn who_got_data_goes_to_the_end_of_the_line() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 3, &[]).await;
        let response = house.ask(11, full(3)).await;
        let id = response.session_id;
        for index in 0..3 {
            house.produce("t", index, &[&"x".repeat(500)]).await;
        }
        // Room for one batch per answer: each partition gets its turn, though nobody moves on.
        let mut seen = Vec::new();
        for epoch in 1..=6 {
            let response = house.ask(11, FetchRequest { max_bytes: 1, ..next(id, epoch) }).await;
            let with_data = response.responses.iter().flat_map(|topic| &topic.partitions);
            let with_data = with_data.filter(|data| !data.records.as_ref().unwrap().is_empty());
            seen.extend(with_data.map(|data| data.partition_index));
        }
        assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
    });
}

#[test]
fn a_lost_session_is_told_and_begun_anew() {
    story(|| async {
        let house = House::new().await;
        let topic_id = house.create_topic("t", 1, &[]).await;
        let id = house.ask(11, full(1)).await.session_id;
        for (request, version, expected) in [
            (next(id + 1, 1), 11, ErrorCode::FetchSessionIdNotFound),
            (next(id, 7), 11, ErrorCode::InvalidFetchSessionEpoch),
            (next(id, 1), 13, ErrorCode::FetchSessionTopicIdError),
        ] {
            let response = house.ask(version, request).await;
            assert_eq!(code(response.error_code), expected);
            assert!(response.responses.is_empty() && response.session_id == 0);
        }
        // A full fetch ends the old session; epoch −1 ends it without a new one.
        let mut again = full(1);
        again.session_id = id;
        let second = house.ask(11, again).await.session_id;
        assert_eq!(house.broker.fetch_session_counts().sessions, 1);
        let last = FetchRequest { session_id: second, session_epoch: -1, ..full(1) };
        assert_eq!(house.ask(11, last).await.session_id, 0);
        assert_eq!(house.broker.fetch_session_counts().sessions, 0);

        // By id, a topic that does not exist is an error in every answer, and once it is well it is news.
        let mut by_id = full(1);
        by_id.topics[0].topic = Default::default();
        by_id.topics[0].topic_id = Uuid::from_u128(5);
        let response = house.ask(16, by_id).await;
        let id = response.session_id;
        assert_eq!(code(response.responses[0].partitions[0].error_code), ErrorCode::UnknownTopicId);
        let mut both = next(id, 1);
        both.topics = full(1).topics;
        both.topics[0].topic = Default::default();
        both.topics[0].topic_id = topic_id;
        let response = house.ask(16, both).await;
        assert_eq!(response.responses.len(), 2);
    });
}

#[test]
fn slots_are_few_and_go_to_who_uses_them() {
    story(|| async {
        let house = House::with(&[("max.incremental.fetch.session.cache.slots", "2")]).await;
        house.create_topic("t", 4, &[]).await;
        let first = house.ask(11, full(1)).await.session_id;
        let second = house.ask(11, full(2)).await.session_id;
        assert!(first != 0 && second != 0);
        // Both are young: no slot for a third, however large.
        assert_eq!(house.ask(11, full(4)).await.session_id, 0);

        sleep(Duration::from_secs(100)).await;
        house.ask(11, next(first, 1)).await;
        sleep(Duration::from_secs(30)).await;
        // The second was silent for too long and goes, though it is larger.
        let third = house.ask(11, full(4)).await.session_id;
        assert_ne!(third, 0);
        assert_eq!(code(house.ask(11, next(second, 1)).await.error_code), ErrorCode::FetchSessionIdNotFound);

        // The first is old enough to be evicted by a larger one, not by a smaller one.
        house.ask(11, next(first, 2)).await;
        assert_ne!(house.ask(11, full(3)).await.session_id, 0);
        assert_eq!(code(house.ask(11, next(first, 3)).await.error_code), ErrorCode::FetchSessionIdNotFound);
        assert_eq!(house.broker.fetch_session_counts().evictions, 2);
    });
}
