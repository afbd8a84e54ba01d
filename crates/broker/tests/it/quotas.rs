//! Quotas: said, shown, kept, and waited for.

use std::time::Duration;

use protocol::ErrorCode;
use protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::describe_client_quotas_request::ComponentData;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::{
    AlterClientQuotasRequest, CreateTopicsRequest, DescribeClientQuotasRequest, FetchRequest, MetadataRequest,
};

use crate::house::{House, batch, code, produce_request, story};

fn entry(entity: &[(&str, Option<&str>)], ops: &[(&str, Option<f64>)]) -> EntryData {
    let part = |(kind, name): &(&str, Option<&str>)| EntityData {
        entity_type: (*kind).into(),
        entity_name: name.map(Into::into),
    };
    let op = |(key, value): &(&str, Option<f64>)| OpData {
        key: (*key).into(),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
    };
    EntryData { entity: entity.iter().map(part).collect(), ops: ops.iter().map(op).collect() }
}

async fn alter(house: &House, entries: Vec<EntryData>) -> Vec<ErrorCode> {
    let response = house.ask(1, AlterClientQuotasRequest { entries, validate_only: false }).await;
    response.entries.iter().map(|entry| code(entry.error_code)).collect()
}

/// One line for each entity, as `user=alice client-id=(default): key=value`.
async fn described(house: &House, components: &[(&str, i8, Option<&str>)], strict: bool) -> Vec<String> {
    let components = components.iter().map(|(kind, match_type, name)| ComponentData {
        entity_type: (*kind).into(),
        match_type: *match_type,
        r#match: name.map(Into::into),
    });
    let request = DescribeClientQuotasRequest { components: components.collect(), strict };
    let response = house.ask(1, request).await;
    assert_eq!(code(response.error_code), ErrorCode::None, "{:?}", response.error_message);
    let entries = response.entries.expect("no error").into_iter().map(|entry| {
        let parts = entry.entity.iter().map(|part| {
            format!("{}={}", part.entity_type, part.entity_name.as_deref().unwrap_or("(default)"))
        });
        let values = entry.values.iter().map(|value| format!("{}={}", value.key, value.value));
        format!("{}: {}", parts.collect::<Vec<_>>().join(" "), values.collect::<Vec<_>>().join(" "))
    });
    entries.collect()
}

#[test]
fn quotas_are_set_shown_removed_and_outlive_a_restart() {
    story(|| async {
        let house = House::new().await;
        let alice = [("user", Some("alice"))];
        let both = [("user", Some("alice")), ("client-id", None)];
        let set = vec![
            entry(&alice, &[("producer_byte_rate", Some(1024.0)), ("request_percentage", Some(12.5))]),
            entry(&both, &[("consumer_byte_rate", Some(2.0))]),
            entry(&[("ip", Some("0:0:0:0:0:0:0:1"))], &[("connection_creation_rate", Some(7.0))]),
        ];
        assert_eq!(alter(&house, set).await, [ErrorCode::None; 3]);
        let wrong = vec![
            entry(&[], &[]),
            entry(&[("group", Some("g"))], &[]),
            entry(&[("user", Some("a")), ("ip", Some("10.0.0.1"))], &[]),
            entry(&[("ip", Some("example.org"))], &[]),
            entry(&alice, &[("connection_creation_rate", Some(1.0))]),
            entry(&[("user", Some("b"))], &[("producer_byte_rate", Some(0.5))]),
            entry(&[("user", Some("c"))], &[("request_percentage", Some(0.0))]),
            entry(&[("user", Some("d"))], &[("request_percentage", None), ("request_percentage", Some(1.0))]),
        ];
        assert_eq!(alter(&house, wrong).await, [ErrorCode::InvalidRequest; 8]);

        let house = house.restarted().await;
        assert_eq!(
            described(&house, &[], false).await,
            [
                "client-id=(default) user=alice: consumer_byte_rate=2",
                "ip=::1: connection_creation_rate=7",
                "user=alice: producer_byte_rate=1024 request_percentage=12.5",
            ]
        );
        let one = described(&house, &[("user", 0, Some("alice"))], true).await;
        assert_eq!(one, ["user=alice: producer_byte_rate=1024 request_percentage=12.5"]);
        assert_eq!(described(&house, &[("client-id", 1, None)], false).await.len(), 1);
        assert_eq!(described(&house, &[("user", 2, None)], false).await.len(), 2);
        let address = "::1".parse().expect("an address");
        assert_eq!(house.broker.connection_rate(address), Some(7));

        let remove = vec![entry(&alice, &[("producer_byte_rate", None), ("request_percentage", None)])];
        assert_eq!(alter(&house, remove).await, [ErrorCode::None]);
        assert_eq!(described(&house, &[("user", 2, None)], true).await, Vec::<String>::new());
    });
}

#[test]
fn who_sends_or_reads_too_much_is_told_to_wait_and_not_heard_meanwhile() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        let value = "v".repeat(10_000);
        let records = || batch(&[value.as_str()]);
        let before = house.ask(9, produce_request("t", 0, records())).await;
        assert_eq!((before.throttle_time_ms, house.connection.muted_until()), (0, Duration::ZERO));

        let anonymous = [("user", Some("ANONYMOUS"))];
        let quota =
            entry(&anonymous, &[("producer_byte_rate", Some(500.0)), ("consumer_byte_rate", Some(250.0))]);
        assert_eq!(alter(&house, vec![quota]).await, [ErrorCode::None]);
        // 10 KB in a window of 10 s is twice what it may: as long again.
        let throttled = house.ask(9, produce_request("t", 0, records())).await;
        let bytes = records().len() as f64;
        let expected_ms = ((bytes / 10.0 - 500.0) / 500.0 * 10_000.0) as i32;
        assert!((expected_ms - throttled.throttle_time_ms).abs() <= 1, "{}", throttled.throttle_time_ms);
        let muted = house.connection.muted_until();
        assert!(muted > Duration::ZERO);

        let partition = FetchPartition { partition_max_bytes: 1 << 20, ..FetchPartition::default() };
        let topic = FetchTopic { topic: "t".into(), partitions: vec![partition], ..FetchTopic::default() };
        let fetch = FetchRequest {
            replica_id: -1,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: vec![topic],
            ..FetchRequest::default()
        };
        let read = house.ask(12, fetch).await;
        assert!(read.throttle_time_ms > throttled.throttle_time_ms, "{}", read.throttle_time_ms);
        assert!(house.connection.muted_until() > muted);
    });
}

#[test]
fn changes_beyond_the_quota_are_refused_or_waited_for() {
    story(|| async {
        let house = House::new().await;
        let quota = entry(&[("user", None)], &[("controller_mutation_rate", Some(1.0))]);
        assert_eq!(alter(&house, vec![quota]).await, [ErrorCode::None]);
        let create = async |version: i16, names: &[&str]| {
            let topic = |name: &&str| CreatableTopic {
                name: (*name).into(),
                num_partitions: 8,
                replication_factor: 1,
                ..CreatableTopic::default()
            };
            let request = CreateTopicsRequest {
                topics: names.iter().map(topic).collect(),
                ..CreateTopicsRequest::default()
            };
            let response = house.ask(version, request).await;
            let codes: Vec<ErrorCode> = response.topics.iter().map(|topic| code(topic.error_code)).collect();
            (codes, response.throttle_time_ms)
        };
        // 11 changes are there: eight are taken, eight are owed, then nothing is left.
        assert_eq!(create(7, &["a"]).await, (vec![ErrorCode::None], 0));
        let (codes, wait) = create(7, &["b"]).await;
        assert_eq!(codes, [ErrorCode::None]);
        assert!((4_900..=5_000).contains(&wait), "{wait}");
        let (codes, wait) = create(7, &["c"]).await;
        assert_eq!(codes, [ErrorCode::ThrottlingQuotaExceeded]);
        assert!((4_900..=5_000).contains(&wait), "{wait}");
        // Asking for it in another way does not help.
        let topics = vec![MetadataRequestTopic { name: Some("e".into()), ..MetadataRequestTopic::default() }];
        let request = MetadataRequest {
            topics: Some(topics),
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        };
        let response = house.ask(9, request).await;
        assert_eq!(code(response.topics[0].error_code), ErrorCode::UnknownTopicOrPartition);
        // Who does not know the error is let do it, and waits.
        let (codes, wait) = create(5, &["d"]).await;
        assert_eq!(codes, [ErrorCode::None]);
        assert!((12_900..=13_000).contains(&wait), "{wait}");
    });
}
