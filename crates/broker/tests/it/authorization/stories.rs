//! Stories of rights: what is granted, taken back, and kept.

use std::time::Duration;

use protocol::batch::BatchBuilder;
use protocol::messages::create_acls_request::AclCreation;
use protocol::messages::delete_acls_request::DeleteAclsFilter;
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::{
    AddPartitionsToTxnRequest, CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest,
    DescribeTransactionsRequest, FindCoordinatorRequest, InitProducerIdRequest, MetadataRequest,
    ProduceRequest,
};
use protocol::{ErrorCode, Records};

use super::{ROOT, ask, connection};
use crate::house::{House, NOW_MS, code, story};

fn allow(principal: &str, pattern_type: i8, topic: &str, operation: i8) -> AclCreation {
    AclCreation {
        resource_type: 2,
        resource_name: topic.into(),
        resource_pattern_type: pattern_type,
        principal: principal.into(),
        host: "*".into(),
        operation,
        permission_type: 3,
    }
}

fn of_topic(name: Option<&str>, pattern_type: i8) -> DeleteAclsFilter {
    DeleteAclsFilter {
        resource_type_filter: 2,
        resource_name_filter: name.map(Into::into),
        pattern_type_filter: pattern_type,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    }
}

async fn house(properties: &[(&str, &str)]) -> House {
    let mut all = vec![("super.users", ROOT), ("allow.everyone.if.no.acl.found", "false")];
    all.extend(properties);
    let mut house = House::with(&all).await;
    house.connection = connection(ROOT, "127.0.0.1");
    house
}

async fn sees(house: &House, principal: &str, topic: &str) -> ErrorCode {
    let topics = vec![MetadataRequestTopic { name: Some(topic.into()), ..Default::default() }];
    let request =
        MetadataRequest { topics: Some(topics), allow_auto_topic_creation: false, ..Default::default() };
    let response = ask(house, &connection(principal, "10.0.0.1"), 12, &request).await;
    code(response.topics[0].error_code)
}

#[test]
fn a_right_is_granted_used_taken_back_and_outlives_a_restart() {
    story(|| async {
        let house = house(&[]).await;
        house.create_topic("team-orders", 1, &[]).await;
        assert_eq!(sees(&house, "User:alice", "team-orders").await, ErrorCode::TopicAuthorizationFailed);
        let creations = vec![
            allow("User:alice", 4, "team-", 3),
            allow("alice", 4, "team-", 3),
            allow("User:alice", 4, "team-", 3),
        ];
        let created = house.ask(3, CreateAclsRequest { creations }).await;
        let codes: Vec<ErrorCode> = created.results.iter().map(|result| code(result.error_code)).collect();
        // A principal without its type is none; the same ACL once more is there already.
        assert_eq!(codes, [ErrorCode::None, ErrorCode::InvalidRequest, ErrorCode::None]);

        assert_eq!(sees(&house, "User:alice", "team-orders").await, ErrorCode::None);
        assert_eq!(sees(&house, "User:alice", "team-none").await, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(sees(&house, "User:bob", "team-orders").await, ErrorCode::TopicAuthorizationFailed);

        let mut house = house.restarted().await;
        house.connection = connection(ROOT, "127.0.0.1");
        assert_eq!(sees(&house, "User:alice", "team-orders").await, ErrorCode::None);

        let none = house.ask(3, DeleteAclsRequest { filters: vec![of_topic(Some("team-orders"), 1)] }).await;
        assert!(none.filter_results[0].matching_acls.is_empty());
        let filters = vec![of_topic(Some("team-orders"), 2), of_topic(None, 9)];
        let deleted = house.ask(3, DeleteAclsRequest { filters }).await;
        assert_eq!(deleted.filter_results[0].matching_acls.len(), 1);
        assert_eq!(code(deleted.filter_results[1].error_code), ErrorCode::InvalidRequest);
        assert_eq!(sees(&house, "User:alice", "team-orders").await, ErrorCode::TopicAuthorizationFailed);
    });
}

#[test]
fn acls_are_bounded() {
    story(|| async {
        let house = house(&[("cluster.acls.max", "2")]).await;
        let create = async |topics: &[&str]| {
            let creations = topics.iter().map(|topic| allow("User:a", 3, topic, 3)).collect();
            let created = house.ask(3, CreateAclsRequest { creations }).await;
            created.results.iter().map(|result| code(result.error_code)).collect::<Vec<_>>()
        };
        assert_eq!(create(&["a", "b"]).await, [ErrorCode::None; 2]);
        assert_eq!(create(&["a", "b"]).await, [ErrorCode::None; 2]);
        assert_eq!(create(&["c"]).await, [ErrorCode::PolicyViolation]);
    });
}

#[test]
fn what_describes_a_resource_is_found_by_match() {
    story(|| async {
        let house = house(&[]).await;
        let creations = vec![
            allow("User:a", 3, "orders", 3),
            allow("User:b", 3, "orders", 4),
            allow("User:a", 4, "or", 3),
            allow("User:a", 3, "*", 8),
            allow("User:a", 3, "other", 8),
        ];
        house.ask(3, CreateAclsRequest { creations }).await;
        let request = DescribeAclsRequest {
            resource_type_filter: 2,
            resource_name_filter: Some("orders".into()),
            pattern_type_filter: 2,
            principal_filter: None,
            host_filter: None,
            operation: 1,
            permission_type: 1,
        };
        let described = house.ask(3, request).await;
        let found: Vec<(i8, &str, usize)> = described
            .resources
            .iter()
            .map(|resource| (resource.pattern_type, resource.resource_name.as_str(), resource.acls.len()))
            .collect();
        assert_eq!(found, [(3, "*", 1), (3, "orders", 2), (4, "or", 1)]);
    });
}

/// The setting that trusts everybody is about resources that nobody has spoken of.
#[test]
fn the_first_acl_of_a_resource_ends_the_trust_in_everybody() {
    story(|| async {
        let mut house = House::with(&[("super.users", ROOT)]).await;
        assert!(house.broker.allows_everyone());
        house.connection = connection(ROOT, "127.0.0.1");
        house.create_topic("a", 1, &[]).await;
        assert_eq!(sees(&house, "User:bob", "a").await, ErrorCode::None);
        house.ask(3, CreateAclsRequest { creations: vec![allow("User:alice", 3, "a", 3)] }).await;
        assert_eq!(sees(&house, "User:bob", "a").await, ErrorCode::TopicAuthorizationFailed);
        assert_eq!(sees(&house, "User:alice", "a").await, ErrorCode::None);
        assert_eq!(sees(&house, ROOT, "a").await, ErrorCode::None);
    });
}

#[test]
fn a_transaction_gets_no_partition_that_its_producer_may_not_write_to() {
    story(|| async {
        let house = house(&[]).await;
        house.create_topic("mine", 1, &[]).await;
        house.create_topic("theirs", 1, &[]).await;
        let under_id = AclCreation { resource_type: 5, ..allow("User:alice", 3, "pay", 4) };
        let creations = vec![under_id, allow("User:alice", 3, "mine", 4)];
        house.ask(3, CreateAclsRequest { creations }).await;
        let alice = connection("User:alice", "10.0.0.1");
        let init = InitProducerIdRequest {
            transactional_id: Some("pay".into()),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let mut made = ask(&house, &alice, 5, &init).await;
        // Until the coordinator is there and has read its partition.
        for _ in 0..100 {
            if made.error_code == 0 {
                break;
            }
            let keys = vec!["pay".into()];
            let find = FindCoordinatorRequest { key_type: 1, coordinator_keys: keys, ..Default::default() };
            ask(&house, &alice, 4, &find).await;
            world::task::sleep(Duration::from_millis(10)).await;
            made = ask(&house, &alice, 5, &init).await;
        }
        assert_eq!(code(made.error_code), ErrorCode::None);
        let mut builder =
            BatchBuilder::new().producer(made.producer_id, made.producer_epoch, 0).transactional(true);
        builder.append(NOW_MS, None, Some(b"v"), &[]).unwrap();
        let records = builder.build().unwrap();
        let topics = ["mine", "theirs"].map(|name| TopicProduceData {
            name: name.into(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(Records::from(records.clone())),
            }],
            ..Default::default()
        });
        let request = ProduceRequest {
            acks: -1,
            transactional_id: Some("pay".into()),
            topic_data: topics.to_vec(),
            ..Default::default()
        };
        let produced = ask(&house, &alice, 12, &request).await;
        let codes = produced.responses.iter().map(|topic| code(topic.partition_responses[0].error_code));
        assert_eq!(codes.collect::<Vec<_>>(), [ErrorCode::None, ErrorCode::TopicAuthorizationFailed]);
        let describe = DescribeTransactionsRequest { transactional_ids: vec!["pay".into()] };
        let described = house.ask(0, describe.clone()).await;
        let names = described.transaction_states[0].topics.iter().map(|topic| topic.topic.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["mine"]);
        let bob = ask(&house, &connection("User:bob", "10.0.0.1"), 0, &describe).await;
        let refused = code(bob.transaction_states[0].error_code);
        assert_eq!(refused, ErrorCode::TransactionalIdAuthorizationFailed);
        // One topic that is refused keeps the other out.
        use protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: "pay".into(),
            v3_and_below_producer_id: made.producer_id,
            v3_and_below_producer_epoch: made.producer_epoch,
            v3_and_below_topics: ["mine", "__consumer_offsets"]
                .map(|name| AddPartitionsToTxnTopic { name: name.into(), partitions: vec![0] })
                .to_vec(),
            ..Default::default()
        };
        let added = ask(&house, &house.connection, 3, &request).await.results_by_topic_v3_and_below;
        let codes = added.iter().map(|topic| code(topic.results_by_partition[0].partition_error_code));
        let expected = [ErrorCode::OperationNotAttempted, ErrorCode::TopicAuthorizationFailed];
        assert_eq!(codes.collect::<Vec<_>>(), expected);
    });
}

/// Topics of an application are made as whoever runs it.
#[test]
fn a_streams_application_needs_the_right_to_make_its_topics() {
    use crate::streams_groups::{beat, joining, open, statuses};
    const READ: i8 = 3;
    const CREATE: i8 = 5;
    const DESCRIBE: i8 = 8;
    story(|| async {
        let house = house(&[("offsets.topic.num.partitions", "1")]).await;
        house.create_topic("lines", 1, &[]).await;
        open(&house).await;
        let group = AclCreation { resource_type: 3, ..allow("User:alice", 3, "g", READ) };
        let of_topics = ["lines", "words", "counted"].map(|topic| allow("User:alice", 3, topic, DESCRIBE));
        let creations = [group].into_iter().chain(of_topics).collect();
        house.ask(3, CreateAclsRequest { creations }).await;
        let alice = connection("User:alice", "10.0.0.1");
        let joined = ask(&house, &alice, 0, &joining()).await;
        assert_eq!(code(joined.error_code), ErrorCode::None, "{:?}", joined.error_message);
        let why = &statuses(&joined)[0].1;
        assert!(why.ends_with("; Unauthorized to CREATE on topics counted, words."), "{why}");
        assert!(!house.topic_exists("words").await);

        let creations = ["words", "counted"].map(|topic| allow("User:alice", 3, topic, CREATE)).to_vec();
        house.ask(3, CreateAclsRequest { creations }).await;
        ask(&house, &alice, 0, &beat(joined.member_epoch)).await;
        assert!(house.topic_exists("words").await && house.topic_exists("counted").await);
        // Who may not describe one of its topics cannot join, nor see the group.
        let bob = connection("User:bob", "10.0.0.1");
        let creations = vec![
            AclCreation { resource_type: 3, ..allow("User:bob", 3, "g", READ) },
            allow("User:bob", 3, "lines", DESCRIBE),
        ];
        house.ask(3, CreateAclsRequest { creations }).await;
        let refused = ask(&house, &bob, 0, &joining()).await;
        assert_eq!(code(refused.error_code), ErrorCode::TopicAuthorizationFailed);
        let describe = protocol::messages::StreamsGroupDescribeRequest {
            group_ids: vec!["g".into()],
            ..Default::default()
        };
        let hidden = ask(&house, &bob, 0, &describe).await;
        assert_eq!(code(hidden.groups[0].error_code), ErrorCode::TopicAuthorizationFailed);
        assert!(hidden.groups[0].members.is_empty() && hidden.groups[0].topology.is_none());
        let shown = ask(&house, &alice, 0, &describe).await;
        assert_eq!(code(shown.groups[0].error_code), ErrorCode::None);
    });
}
