use protocol::messages::alter_configs_request;
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
};
use protocol::{ErrorCode, Str};

use crate::house::{House, batch, code, only_partition, produce_request, story};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

async fn describe(house: &House, resource_type: i8, name: &str, key: &str) -> DescribeConfigsResourceResult {
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: Some(vec![key.into()]),
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    };
    let response = house.ask(4, request).await;
    assert_eq!(
        code(response.results[0].error_code),
        ErrorCode::None,
        "{:?}",
        response.results[0].error_message
    );
    response.results[0].configs[0].clone()
}

async fn alter(
    house: &House,
    resource_type: i8,
    name: &str,
    changes: &[(&str, i8, Option<&str>)],
) -> ErrorCode {
    let configs = changes.iter().map(|(name, operation, value)| AlterableConfig {
        name: Str::from(*name),
        config_operation: *operation,
        value: value.map(Str::from),
    });
    let resource =
        AlterConfigsResource { resource_type, resource_name: name.into(), configs: configs.collect() };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    code(house.ask(1, request).await.responses[0].error_code)
}

#[test]
fn a_topic_config_is_set_shown_used_and_taken_back() {
    story(|| async {
        let house = House::with(&[("message.max.bytes", "5000")]).await;
        house.create_topic("t", 1, &[]).await;
        let shown = describe(&house, TOPIC, "t", "max.message.bytes").await;
        assert_eq!((shown.value.as_deref(), shown.config_source), (Some("5000"), 4));
        assert!(shown.documentation.is_some_and(|text| !text.is_empty()));

        assert_eq!(
            alter(&house, TOPIC, "t", &[("max.message.bytes", SET, Some("100"))]).await,
            ErrorCode::None
        );
        let shown = describe(&house, TOPIC, "t", "max.message.bytes").await;
        assert_eq!((shown.value.as_deref(), shown.config_source), (Some("100"), 1));
        assert_eq!(shown.synonyms.len(), 3);
        let response = house.ask(9, produce_request("t", 0, batch(&[&"x".repeat(500)]))).await;
        assert_eq!(code(only_partition(&response).error_code), ErrorCode::MessageTooLarge);

        assert_eq!(alter(&house, TOPIC, "t", &[("max.message.bytes", DELETE, None)]).await, ErrorCode::None);
        house.produce("t", 0, &[&"x".repeat(500)]).await;
    });
}

#[test]
fn the_brokers_defaults_reach_the_topics() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        assert_eq!(
            alter(&house, BROKER, "", &[("message.max.bytes", SET, Some("100"))]).await,
            ErrorCode::None
        );
        let response = house.ask(9, produce_request("t", 0, batch(&[&"x".repeat(500)]))).await;
        assert_eq!(code(only_partition(&response).error_code), ErrorCode::MessageTooLarge);
        // This broker's own value is stronger than the default of all.
        assert_eq!(
            alter(&house, BROKER, "1", &[("message.max.bytes", SET, Some("9000"))]).await,
            ErrorCode::None
        );
        house.produce("t", 0, &[&"x".repeat(500)]).await;
        let shown = describe(&house, BROKER, "1", "message.max.bytes").await;
        assert_eq!((shown.value.as_deref(), shown.config_source), (Some("9000"), 2));
        let all = describe(&house, BROKER, "", "message.max.bytes").await;
        assert_eq!((all.value.as_deref(), all.config_source), (Some("100"), 3));
    });
}

#[test]
fn wrong_changes_change_nothing() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        for (resource_type, name, changes, expected) in [
            (TOPIC, "t", vec![("retention.ms", SET, Some("soon"))], ErrorCode::InvalidConfig),
            (TOPIC, "t", vec![("no.such.key", SET, Some("1"))], ErrorCode::InvalidConfig),
            (TOPIC, "t", vec![("retention.ms", APPEND, Some("1"))], ErrorCode::InvalidConfig),
            (TOPIC, "t", vec![("retention.ms", SET, None)], ErrorCode::InvalidRequest),
            (TOPIC, "t", vec![("retention.ms", 9, Some("1"))], ErrorCode::InvalidRequest),
            (TOPIC, "nowhere", vec![("retention.ms", SET, Some("1"))], ErrorCode::UnknownTopicOrPartition),
            (BROKER, "2", vec![("message.max.bytes", SET, Some("1"))], ErrorCode::InvalidRequest),
            (BROKER, "1", vec![("node.id", SET, Some("2"))], ErrorCode::InvalidRequest),
            (BROKER_LOGGER, "1", vec![("root", SET, Some("DEBUG"))], ErrorCode::InvalidRequest),
            (77, "t", vec![("retention.ms", SET, Some("1"))], ErrorCode::InvalidRequest),
            (GROUP, "g", vec![("consumer.session.timeout.ms", SET, Some("46000"))], ErrorCode::None),
            (TOPIC, "t", vec![("cleanup.policy", APPEND, Some("compact"))], ErrorCode::None),
        ] {
            assert_eq!(alter(&house, resource_type, name, &changes).await, expected, "{name} {changes:?}");
        }
        let policy = describe(&house, TOPIC, "t", "cleanup.policy").await;
        assert_eq!(policy.value.as_deref(), Some("delete,compact"));
        let resource = |name: &str| AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: name.into(),
            ..Default::default()
        };
        let twice = IncrementalAlterConfigsRequest {
            resources: vec![resource("t"), resource("t")],
            ..Default::default()
        };
        let response = house.ask(0, twice).await;
        assert!(
            response.responses.iter().all(|resource| code(resource.error_code) == ErrorCode::InvalidRequest)
        );
    });
}

#[test]
fn the_old_alter_replaces_everything() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[("retention.ms", "1000")]).await;
        for (version, validate_only) in [(0, true), (1, false), (2, false)] {
            let config = alter_configs_request::AlterableConfig {
                name: "segment.ms".into(),
                value: Some("5000".into()),
            };
            let resource = alter_configs_request::AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: "t".into(),
                configs: vec![config],
            };
            let request = AlterConfigsRequest { resources: vec![resource], validate_only };
            let response = house.ask(version, request).await;
            assert_eq!(code(response.responses[0].error_code), ErrorCode::None);
            let retention = describe(&house, TOPIC, "t", "retention.ms").await;
            assert_eq!(retention.config_source, if validate_only { 1 } else { 5 });
        }
        assert_eq!(describe(&house, TOPIC, "t", "segment.ms").await.value.as_deref(), Some("5000"));
    });
}

#[test]
fn all_versions_describe_and_errors_are_of_the_resource() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        for version in 1..=4 {
            let resource = |resource_type, name: &str| DescribeConfigsResource {
                resource_type,
                resource_name: name.into(),
                configuration_keys: None,
            };
            let request = DescribeConfigsRequest {
                resources: vec![
                    resource(TOPIC, "t"),
                    resource(BROKER, "1"),
                    resource(TOPIC, "nowhere"),
                    resource(BROKER, "9"),
                    resource(99, "x"),
                ],
                ..DescribeConfigsRequest::default()
            };
            let response = house.ask(version, request).await;
            let codes: Vec<_> = response.results.iter().map(|result| code(result.error_code)).collect();
            let expected = [
                ErrorCode::None,
                ErrorCode::None,
                ErrorCode::UnknownTopicOrPartition,
                ErrorCode::InvalidRequest,
                ErrorCode::InvalidRequest,
            ];
            assert_eq!(codes, expected, "version {version}");
            assert!(response.results[0].configs.len() > 20 && response.results[1].configs.len() > 100);
        }
    });
}

#[test]
fn resources_with_configs_are_listed() {
    story(|| async {
        let house = House::new().await;
        house.create_topic("t", 1, &[]).await;
        alter(&house, GROUP, "g", &[("consumer.session.timeout.ms", SET, Some("46000"))]).await;
        let list = |types: &[i8]| ListConfigResourcesRequest { resource_types: types.to_vec() };
        let names = |response: &protocol::messages::ListConfigResourcesResponse| -> Vec<String> {
            let resources = response.config_resources.iter();
            resources
                .map(|resource| format!("{} {}", resource.resource_type, resource.resource_name))
                .collect()
        };
        assert_eq!(names(&house.ask(1, list(&[])).await), ["2 t", "4 1", "8 1", "32 g"]);
        assert_eq!(names(&house.ask(1, list(&[GROUP])).await), ["32 g"]);
        assert_eq!(code(house.ask(1, list(&[3])).await.error_code), ErrorCode::UnsupportedVersion);
        assert!(house.ask(0, list(&[])).await.config_resources.is_empty());
    });
}
