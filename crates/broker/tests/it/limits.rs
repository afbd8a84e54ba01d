use std::time::Duration;

use broker::memory::MemoryAccount;
use broker::{CloseReason, Outcome};
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use protocol::messages::streams_group_heartbeat_request::KeyValue;
use protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use protocol::messages::{
    ConsumerGroupHeartbeatRequest, CreateTopicsRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, JoinGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, ShareGroupHeartbeatRequest, StreamsGroupHeartbeatRequest, SyncGroupRequest,
};
use protocol::{ErrorCode, Str};

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

/// Both topics are there and read.
async fn coordinators(house: &House) {
    for key_type in [0, 1] {
        let request =
            FindCoordinatorRequest { key_type, coordinator_keys: vec!["x".into()], ..Default::default() };
        let found = house.ask(4, request).await;
        assert_eq!(code(found.coordinators[0].error_code), ErrorCode::None);
    }
    while house.broker.group_counts().partitions_loading > 0
        || house.broker.transaction_counts().partitions_loading > 0
    {
        world::task::sleep(Duration::from_millis(1)).await;
    }
}

/// Groups, their members, offsets and transactional ids may be many and each of them heavy: what counts is what they weigh together.
#[test]
fn the_state_of_coordinators_has_so_much_memory_and_no_more() {
    story(|| async {
        let house = House::with(&[
            ("coordinators.memory.max.bytes", "300000"),
            ("group.initial.rebalance.delay.ms", "0"),
            ("offsets.topic.num.partitions", "2"),
            ("transaction.state.log.num.partitions", "2"),
        ])
        .await;
        house.create_topic("t", 20, &[]).await;
        coordinators(&house).await;
        let join = |group: &str, bytes: usize| JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: vec![7; bytes].into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let commit = |group: &str, metadata: usize| OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: "t".into(),
                partitions: vec![OffsetCommitRequestPartition {
                    committed_metadata: Some("m".repeat(metadata).into()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let init = |id: String| InitProducerIdRequest {
            transactional_id: Some(id.into()),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let offset_code = |response: protocol::messages::OffsetCommitResponse| {
            code(response.topics[0].partitions[0].error_code)
        };
        assert_eq!(offset_code(house.ask(8, commit("known", 10)).await), ErrorCode::None);
        assert_eq!(code(house.ask(4, init("first".to_owned())).await.error_code), ErrorCode::None);
        // Two members say a hundred kilobytes each; there is no room for a third of that kind.
        for (group, expected) in
            [("a", ErrorCode::None), ("b", ErrorCode::None), ("c", ErrorCode::PolicyViolation)]
        {
            assert_eq!(code(house.ask(3, join(group, 100_000)).await.error_code), expected, "{group}");
        }
        let mut codes = Vec::new();
        for number in 0..60 {
            codes.push(offset_code(house.ask(8, commit(&format!("g{number}"), 4_000)).await));
        }
        assert!(codes.contains(&ErrorCode::None) && codes.contains(&ErrorCode::PolicyViolation));
        let full = code(house.ask(4, init("x".repeat(30_000))).await.error_code);
        assert_eq!(full, ErrorCode::PolicyViolation);
        // Who is there goes on: what is committed again weighs nothing more.
        assert_eq!(offset_code(house.ask(8, commit("known", 10)).await), ErrorCode::None);
        assert_eq!(code(house.ask(4, init("first".to_owned())).await.error_code), ErrorCode::None);
        assert!((200_000..=300_000).contains(&house.broker.coordinator_memory_bytes()));
        // A restart counts what it finds.
        let house = house.restarted().await;
        coordinators(&house).await;
        assert_eq!(offset_code(house.ask(8, commit("known", 10)).await), ErrorCode::None);
        assert!(house.broker.coordinator_memory_bytes() > 40_000);
    });
}

/// Consumers, members of share groups and threads of Kafka Streams say what they want in heartbeats, and say more later.
#[test]
fn members_of_groups_of_every_kind_weigh_what_they_say() {
    story(|| async {
        let said = |number: usize, bytes: usize| -> Option<Vec<Str>> {
            Some(
                (0..bytes / 1_000)
                    .map(|name| format!("{number}-{name}-{}", "x".repeat(940)).into())
                    .collect(),
            )
        };
        let consumer = |number: usize, epoch: i32, topics: Option<Vec<Str>>| ConsumerGroupHeartbeatRequest {
            group_id: format!("g{number}").into(),
            member_id: "m".into(),
            member_epoch: epoch,
            rebalance_timeout_ms: if epoch == 0 { 60_000 } else { -1 },
            topic_partitions: (epoch == 0).then(Vec::new),
            subscribed_topic_names: topics,
            ..Default::default()
        };
        let sharer = |number: usize, epoch: i32, topics: Option<Vec<Str>>| ShareGroupHeartbeatRequest {
            group_id: format!("g{number}").into(),
            member_id: "m".into(),
            member_epoch: epoch,
            subscribed_topic_names: topics,
            ..Default::default()
        };
        let thread = |number: usize, epoch: i32, tags: Option<Vec<Str>>| StreamsGroupHeartbeatRequest {
            group_id: format!("g{number}").into(),
            member_id: "m".into(),
            member_epoch: epoch,
            client_tags: tags.map(|tags| {
                let tag = |key: Str| KeyValue { key, value: "y".into() };
                tags.into_iter().map(tag).collect()
            }),
            ..match epoch {
                0 => crate::streams_groups::joining(),
                _ => crate::streams_groups::beat(epoch),
            }
        };
        for kind in ["consumer", "share", "streams"] {
            let house = House::with(&[("coordinators.memory.max.bytes", "300000")]).await;
            coordinators(&house).await;
            let ask = |number: usize, epoch: i32, said: Option<Vec<Str>>| {
                let house = &house;
                async move {
                    let (error, epoch) = match kind {
                        "consumer" => {
                            let told = house.ask(1, consumer(number, epoch, said)).await;
                            (told.error_code, told.member_epoch)
                        }
                        "share" => {
                            let told = house.ask(1, sharer(number, epoch, said)).await;
                            (told.error_code, told.member_epoch)
                        }
                        _ => {
                            let told = house.ask(0, thread(number, epoch, said)).await;
                            (told.error_code, told.member_epoch)
                        }
                    };
                    (code(error), epoch)
                }
            };
            let (error, epoch) = ask(1, 0, said(1, 100_000)).await;
            assert_eq!(error, ErrorCode::None, "{kind}");
            assert_eq!(ask(2, 0, said(2, 100_000)).await.0, ErrorCode::None, "{kind}");
            assert_eq!(ask(3, 0, said(3, 100_000)).await.0, ErrorCode::PolicyViolation, "{kind}");
            // Who is there goes on, but not with more than there is room for.
            assert_eq!(ask(1, epoch, None).await.0, ErrorCode::None, "{kind}");
            assert_eq!(ask(1, epoch, said(1, 90_000)).await.0, ErrorCode::None, "{kind}");
            assert_eq!(ask(1, epoch, said(4, 290_000)).await.0, ErrorCode::PolicyViolation, "{kind}");
            let used = house.broker.coordinator_memory_bytes();
            assert!((190_000..=300_000).contains(&used), "{kind}: {used}");
        }
    });
}

/// A name is a few bytes in a request, and what is told of it many in the answer.
#[test]
fn an_answer_tells_so_much_of_the_same_and_no_more() {
    story(|| async {
        let house =
            House::with(&[("request.partitions.max", "400"), ("group.initial.rebalance.delay.ms", "0")])
                .await;
        house.create_topic("t", 20, &[]).await;
        coordinators(&house).await;
        // Then an answer has a megabyte.
        house.connection.set_answer_memory(MemoryAccount::new(8 << 20));
        let partition = |partition_index| OffsetCommitRequestPartition {
            partition_index,
            committed_metadata: Some("m".repeat(4_000).into()),
            ..Default::default()
        };
        let topics = vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: (0..20).map(partition).collect(),
            ..Default::default()
        }];
        let commit = OffsetCommitRequest {
            group_id: "g".into(),
            generation_id_or_member_epoch: -1,
            topics,
            ..Default::default()
        };
        assert_eq!(house.ask(8, commit).await.topics[0].partitions[0].error_code, 0);
        let join = JoinGroupRequest {
            group_id: "members".into(),
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: vec![7; 100_000].into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let joined = house.ask(3, join).await;
        let sync = SyncGroupRequest {
            group_id: "members".into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: joined.member_id,
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(code(house.ask(3, sync).await.error_code), ErrorCode::None);

        let told = |codes: Vec<i16>, rest: ErrorCode| {
            let first = codes.iter().take_while(|code| **code == 0).count();
            assert!(codes[first..].iter().all(|code| *code == rest.code()), "{codes:?}");
            first
        };
        let group = || OffsetFetchRequestGroup { group_id: "g".into(), topics: None, ..Default::default() };
        let offsets = |count: usize| OffsetFetchRequest {
            groups: (0..count).map(|_| group()).collect(),
            ..Default::default()
        };
        let fetched = house.ask(8, offsets(30)).await;
        let codes = fetched.groups.iter().map(|group| group.error_code).collect();
        assert_eq!(told(codes, ErrorCode::CoordinatorLoadInProgress), 14);
        let fetched = house.ask(8, offsets(401)).await;
        assert!(fetched.groups.iter().all(|group| code(group.error_code) == ErrorCode::InvalidRequest));

        let describe = |count: usize| DescribeGroupsRequest {
            groups: vec!["members".into(); count],
            ..Default::default()
        };
        let described = house.ask(5, describe(30)).await;
        let codes = described.groups.iter().map(|group| group.error_code).collect();
        assert_eq!(told(codes, ErrorCode::CoordinatorLoadInProgress), 11);
        let described = house.ask(5, describe(401)).await;
        assert!(described.groups.iter().all(|group| code(group.error_code) == ErrorCode::InvalidRequest));

        let resource =
            || DescribeConfigsResource { resource_type: 2, resource_name: "t".into(), ..Default::default() };
        let configs = DescribeConfigsRequest {
            resources: (0..400).map(|_| resource()).collect(),
            include_synonyms: true,
            include_documentation: true,
        };
        let described = house.ask(4, configs).await;
        let codes = described.results.iter().map(|result| result.error_code).collect();
        assert!((50..350).contains(&told(codes, ErrorCode::InvalidRequest)));

        let find = |count: usize| FindCoordinatorRequest {
            coordinator_keys: vec!["g".into(); count],
            ..Default::default()
        };
        assert!(house.ask(4, find(400)).await.coordinators.iter().all(|found| found.error_code == 0));
        let refused = house.ask(4, find(401)).await.coordinators;
        assert!(refused.len() == 401 && refused.iter().all(|found| found.host.is_empty()));
        assert!(refused.iter().all(|found| code(found.error_code) == ErrorCode::InvalidRequest));
    });
}

/// Elements of few bytes on the wire are many in memory: at most eight times the frame, which is told, so that the server can have others
/// wait.
#[test]
fn what_is_decoded_of_a_request_is_bounded_and_told() {
    story(|| async {
        let house = House::new().await;
        let frame = |count: u32, name: &[u8]| {
            // Metadata 1.
            let mut frame = vec![0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff];
            frame.extend_from_slice(&count.to_be_bytes());
            for _ in 0..count {
                frame.extend_from_slice(&(name.len() as u16).to_be_bytes());
                frame.extend_from_slice(name);
            }
            frame
        };
        let long = frame(50_000, b"as-name-as");
        // When its turn comes and not before.
        let mut answer = house.broker.handle(&house.connection, long.clone().into()).outcome();
        assert_eq!(house.connection.take_decoded_bytes(), 0);
        assert!(matches!(answer.as_mut().await, Outcome::Answer(_)), "it is a good request");
        let decoded = house.connection.take_decoded_bytes();
        assert!((1 << 20..8 * long.len() + (1 << 20)).contains(&decoded), "{decoded}");
        assert_eq!(house.connection.take_decoded_bytes(), 0);
        // More than eight times the frame.
        let dense = house.broker.handle(&house.connection, frame(500_000, b"").into());
        assert!(matches!(dense.outcome().await, Outcome::Close(CloseReason::Undecodable { .. })));
        // More than a request may ever take, whatever its length.
        let huge = house.broker.handle(&house.connection, frame(1_500_000, b"as-name-as").into());
        assert!(matches!(huge.outcome().await, Outcome::Close(CloseReason::Undecodable { .. })));
    });
}
