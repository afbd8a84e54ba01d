use broker::{APIS, CloseReason, Handling, Outcome};
use bytes::{BufMut, Bytes, BytesMut};
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::wire::Reader;
use protocol::{ApiKey, ErrorCode, Message};
use world::bucket::MemBucket;

use crate::house::{House, code, story};

#[test]
fn a_client_learns_what_is_spoken_here() {
    story(|| async {
        let house = House::new().await;
        for version in 0..=5 {
            let request = ApiVersionsRequest {
                client_software_name: if version >= 3 { "librdkafka".into() } else { Default::default() },
                client_software_version: if version >= 3 { "2.12.1".into() } else { Default::default() },
                ..ApiVersionsRequest::default()
            };
            let response = house.ask(version, request).await;
            assert_eq!(code(response.error_code), ErrorCode::None);
            assert_eq!(response.api_keys.len(), APIS.len());
            let produce = response.api_keys.iter().find(|api| api.api_key == ApiKey::Produce.code()).unwrap();
            assert_eq!((produce.min_version, produce.max_version), (0, 13));
            if version >= 3 {
                assert_eq!(&*response.finalized_features[0].name, "metadata.version");
                assert!(response.finalized_features_epoch >= 0);
            }
        }
        let software = house.connection.software().unwrap();
        assert_eq!((&*software.name, &*software.version), ("librdkafka", "2.12.1"));
    });
}

#[test]
fn the_table_is_kafkas_and_explicit() {
    // Written out, so that a version never comes or goes unnoticed.
    let table: Vec<String> = APIS
        .iter()
        .map(|api| format!("{} {}-{}", api.key.name(), api.advertised.start(), api.advertised.end()))
        .collect();
    let expected = [
        "Produce 0-13",
        "Fetch 4-18",
        "ListOffsets 1-11",
        "Metadata 0-13",
        "OffsetCommit 2-10",
        "OffsetFetch 1-10",
        "FindCoordinator 0-6",
        "JoinGroup 0-9",
        "Heartbeat 0-4",
        "LeaveGroup 0-5",
        "SyncGroup 0-5",
        "DescribeGroups 0-6",
        "ListGroups 0-5",
        "SaslHandshake 0-1",
        "ApiVersions 0-5",
        "CreateTopics 2-7",
        "DeleteTopics 1-6",
        "DeleteRecords 0-2",
        "InitProducerId 0-5",
        "OffsetForLeaderEpoch 2-4",
        "AddPartitionsToTxn 0-5",
        "AddOffsetsToTxn 0-4",
        "EndTxn 0-5",
        "WriteTxnMarkers 1-2",
        "TxnOffsetCommit 0-6",
        "DescribeAcls 1-3",
        "CreateAcls 1-3",
        "DeleteAcls 1-3",
        "DescribeConfigs 1-4",
        "AlterConfigs 0-2",
        "AlterReplicaLogDirs 1-2",
        "DescribeLogDirs 1-5",
        "SaslAuthenticate 0-2",
        "CreatePartitions 0-3",
        "CreateDelegationToken 1-3",
        "RenewDelegationToken 1-2",
        "ExpireDelegationToken 1-2",
        "DescribeDelegationToken 1-3",
        "DeleteGroups 0-3",
        "ElectLeaders 0-2",
        "IncrementalAlterConfigs 0-1",
        "AlterPartitionReassignments 0-1",
        "ListPartitionReassignments 0-0",
        "OffsetDelete 0-0",
        "DescribeClientQuotas 0-1",
        "AlterClientQuotas 0-1",
        "DescribeUserScramCredentials 0-0",
        "AlterUserScramCredentials 0-0",
        "DescribeQuorum 0-2",
        "UpdateFeatures 0-2",
        "DescribeCluster 0-2",
        "DescribeProducers 0-0",
        "UnregisterBroker 0-0",
        "DescribeTransactions 0-0",
        "ListTransactions 0-2",
        "ConsumerGroupHeartbeat 0-1",
        "ConsumerGroupDescribe 0-1",
        "GetTelemetrySubscriptions 0-0",
        "PushTelemetry 0-0",
        "ListConfigResources 0-1",
        "DescribeTopicPartitions 0-0",
        "ShareGroupHeartbeat 1-1",
        "ShareGroupDescribe 1-1",
        "ShareFetch 1-2",
        "ShareAcknowledge 1-2",
        "InitializeShareGroupState 0-0",
        "ReadShareGroupState 0-0",
        "WriteShareGroupState 0-1",
        "DeleteShareGroupState 0-0",
        "ReadShareGroupStateSummary 0-1",
        "StreamsGroupHeartbeat 0-1",
        "StreamsGroupDescribe 0-1",
        "DescribeShareGroupOffsets 0-1",
        "AlterShareGroupOffsets 0-0",
        "DeleteShareGroupOffsets 0-0",
        "StreamsGroupTopologyDescriptionUpdate 0-0",
    ];
    assert_eq!(table, expected);
    assert!(APIS.is_sorted_by_key(|api| api.key.code()));
    for api in APIS {
        // Produce: see its file. InitProducerId 6 is not released in Kafka 4.4 (two-phase commit, KIP-939).
        if matches!(api.key, ApiKey::Produce | ApiKey::InitProducerId) {
            continue;
        }
        let schema = api.key.versions().expect("no removed API is in the table");
        assert_eq!(api.advertised, schema, "{}: all versions of Kafka 4.4", api.key.name());
    }
}

#[test]
fn a_newer_client_can_step_down_to_version_0() {
    story(|| async {
        let house = House::new().await;
        let Handling::Sequential(outcome) = house.hand_over(header(ApiKey::ApiVersions.code(), 99)) else {
            panic!("not a produce request")
        };
        let Outcome::Answer(segments) = outcome.await else { panic!("no answer") };
        let joined: Bytes = segments.concat().into();
        let mut reader = Reader::new(joined.slice(8..));
        let response = ApiVersionsResponse::decode(&mut reader, 0).unwrap();
        assert_eq!(code(response.error_code), ErrorCode::UnsupportedVersion);
        assert_eq!(response.api_keys.len(), 1);
        assert_eq!(response.api_keys[0].max_version, 5);
    });
}

#[test]
fn a_bad_name_or_the_wrong_broker_is_told() {
    story(|| async {
        let house = House::new().await;
        let named = |name: &str| ApiVersionsRequest {
            client_software_name: name.into(),
            client_software_version: "1".into(),
            ..ApiVersionsRequest::default()
        };
        let refused = house.ask(3, named("no spaces please")).await;
        assert_eq!(code(refused.error_code), ErrorCode::InvalidRequest);
        let other =
            ApiVersionsRequest { cluster_id: Some("another-cluster".into()), node_id: 1, ..named("java") };
        assert_eq!(code(house.ask(5, other).await.error_code), ErrorCode::RebootstrapRequired);
        let other = ApiVersionsRequest { node_id: 2, ..named("java") };
        assert_eq!(code(house.ask(5, other).await.error_code), ErrorCode::RebootstrapRequired);
    });
}

/// Node ids go from address to address there.
#[test]
fn on_a_bucket_only_another_cluster_is_the_wrong_place() {
    story(|| async {
        let house = House::in_bucket(&MemBucket::new(7), &[]).await;
        let own = house.catalog.read().cluster_id().clone();
        for (node_id, cluster_id, expected) in [
            (1, None, ErrorCode::None),
            (2, None, ErrorCode::None),
            (2, Some(own.clone()), ErrorCode::None),
            (1, Some("another-cluster".into()), ErrorCode::RebootstrapRequired),
        ] {
            let request = ApiVersionsRequest {
                client_software_name: "java".into(),
                client_software_version: "1".into(),
                node_id,
                cluster_id,
                ..ApiVersionsRequest::default()
            };
            assert_eq!(code(house.ask(5, request).await.error_code), expected, "{node_id}");
        }
    });
}

#[test]
fn what_is_not_spoken_ends_the_connection() {
    story(|| async {
        let house = House::new().await;
        for (frame, reason) in [
            (header(ApiKey::Metadata.code(), 99), "Metadata has no version 99 here"),
            (header(ApiKey::Produce.code(), 2), "Produce has no version 2 here"),
            (header(999, 0), "unknown api key 999"),
            (Bytes::from_static(b"G"), "not a Kafka request"),
            (header(ApiKey::Fetch.code(), 4), "a Fetch request cannot be read"),
        ] {
            let Handling::Sequential(outcome) = house.hand_over(frame) else {
                panic!("nothing was produced")
            };
            let Outcome::Close(why) = outcome.await else { panic!("{reason}: the connection stays open") };
            assert!(why.to_string().starts_with(reason), "{why}");
        }
        house.broker.shutdown().await;
        let Handling::Sequential(outcome) = house.hand_over(header(ApiKey::Metadata.code(), 0)) else {
            panic!()
        };
        assert!(matches!(outcome.await, Outcome::Close(CloseReason::ShuttingDown)));
    });
}

/// A request header without a body behind it.
fn header(api_key: i16, version: i16) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(api_key);
    frame.put_i16(version);
    frame.put_i32(77);
    frame.put_i16(-1);
    // Flexible headers end in tags; older ones do not mind a byte more.
    frame.put_u8(0);
    frame.freeze()
}
