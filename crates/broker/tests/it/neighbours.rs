//! Several brokers on one bucket. Node 1 is a whole broker that never looks for news unasked; the others are catalogs that say
//! something about the cluster behind its back.

use protocol::ErrorCode;
use protocol::messages::CreateTopicsRequest;
use protocol::messages::create_topics_request::CreatableTopic;
use world::bucket::MemBucket;

use crate::house::{House, code, story};

#[test]
fn a_bucket_keeps_copies_of_its_own_so_any_replication_factor_is_taken() {
    story(|| async {
        let house = House::in_bucket(&MemBucket::new(1), &[]).await;
        for (factor, expected) in [(3, ErrorCode::None), (0, ErrorCode::InvalidReplicationFactor)] {
            let topic = CreatableTopic {
                name: "t".into(),
                num_partitions: 1,
                replication_factor: factor,
                ..CreatableTopic::default()
            };
            let request = CreateTopicsRequest {
                topics: vec![topic],
                validate_only: true,
                ..CreateTopicsRequest::default()
            };
            assert_eq!(code(house.ask(7, request).await.topics[0].error_code), expected);
        }
    });
}
