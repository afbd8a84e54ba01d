use protocol::ErrorCode;
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::{CreateTopicsRequest, FetchRequest};

use crate::fetch::{partition, request};
use crate::house::{House, batch, code, only_partition, produce_request, story};

#[test]
fn a_request_touches_so_many_partitions_and_no_more() {
    story(|| async {
        let house = House::with(&[("request.partitions.max", "3")]).await;
        house.create_topic("t", 3, &[]).await;
        let fetch = |count| request("t", (0..count).map(|index| partition(index, 0)).collect());
        assert_eq!(code(house.ask(11, fetch(3)).await.error_code), ErrorCode::None);
        assert_eq!(code(house.ask(11, fetch(4)).await.error_code), ErrorCode::InvalidRequest);
        let mut produce = produce_request("t", 0, batch(&["x"]));
        let one = produce.topic_data[0].partition_data[0].clone();
        produce.topic_data[0].partition_data = vec![one; 4];
        let response = house.ask(9, produce).await;
        assert_eq!(code(only_partition(&response).error_code), ErrorCode::InvalidRequest);
    });
}

#[test]
fn the_cluster_holds_so_many_partitions_and_no_more() {
    story(|| async {
        let house = House::with(&[("cluster.partitions.max", "5")]).await;
        let topic = |name: &str, num_partitions| CreatableTopic {
            name: name.into(),
            num_partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let topics = vec![topic("a", 3), topic("b", 3), topic("c", 2)];
        let response = house.ask(7, CreateTopicsRequest { topics, ..CreateTopicsRequest::default() }).await;
        let mut results: Vec<_> =
            response.topics.iter().map(|topic| (topic.name.to_string(), code(topic.error_code))).collect();
        results.sort();
        // Each is judged with those before it that fit.
        let expected = [("a", ErrorCode::None), ("b", ErrorCode::PolicyViolation), ("c", ErrorCode::None)];
        assert_eq!(results, expected.map(|(name, code)| (name.to_owned(), code)));
    });
}

#[test]
fn a_session_is_not_made_for_a_name_that_no_topic_can_have() {
    story(|| async {
        let house = House::new().await;
        let endless = "x".repeat(20_000);
        let fetch = FetchRequest { session_epoch: 0, ..request(&endless, vec![partition(0, 0)]) };
        let response = house.ask(11, fetch).await;
        assert_eq!(response.session_id, 0);
        assert_eq!(house.broker.fetch_session_counts().sessions, 0);
    });
}
