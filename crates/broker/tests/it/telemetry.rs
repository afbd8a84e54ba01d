use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::ClientSoftware;
use broker::telemetry::Point;
use bytes::Bytes;
use protocol::compression::Compression;
use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, IncrementalAlterConfigsRequest,
    PushTelemetryRequest, UnregisterBrokerRequest,
};
use protocol::{ErrorCode, Uuid};

use crate::house::{House, code, story};

const CLIENT_METRICS: i8 = 16;
const INTERVAL: Duration = Duration::from_millis(5_000);

async fn subscribe(house: &House, name: &str, configs: &[(&str, &str)]) {
    let config = |(name, value): &(&str, &str)| AlterableConfig {
        name: (*name).into(),
        value: Some((*value).into()),
        ..AlterableConfig::default()
    };
    let resource = AlterConfigsResource {
        resource_type: CLIENT_METRICS,
        resource_name: name.into(),
        configs: configs.iter().map(config).collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    let response = house.ask(1, request).await;
    assert_eq!(code(response.responses[0].error_code), ErrorCode::None, "{response:?}");
}

async fn subscription(house: &House, client_instance_id: Uuid) -> GetTelemetrySubscriptionsResponse {
    house.ask(0, GetTelemetrySubscriptionsRequest { client_instance_id }).await
}

fn push_of(told: &GetTelemetrySubscriptionsResponse, metrics: Bytes) -> PushTelemetryRequest {
    PushTelemetryRequest {
        client_instance_id: told.client_instance_id,
        subscription_id: told.subscription_id,
        metrics,
        ..PushTelemetryRequest::default()
    }
}

async fn push(house: &House, request: PushTelemetryRequest) -> ErrorCode {
    code(house.ask(0, request).await.error_code)
}

/// A field of Protocol Buffers with a length before it.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

/// MetricsData with one gauge.
fn gauge(name: &str, value: f64) -> Bytes {
    let point = [&[4 << 3 | 1][..], &value.to_bits().to_le_bytes()].concat();
    let metric = [field(1, name.as_bytes()), field(5, &field(1, &point))].concat();
    field(1, &field(2, &field(2, &metric))).into()
}

#[test]
fn what_a_client_pushes_is_shown_as_long_as_it_is_connected() {
    story(|| async {
        let house = House::new().await;
        subscribe(&house, "all", &[("metrics", "b.,a."), ("interval.ms", "5000")]).await;
        let told = subscription(&house, Uuid::ZERO).await;
        assert_eq!(code(told.error_code), ErrorCode::None);
        assert!(!told.client_instance_id.is_zero());
        assert_eq!(told.requested_metrics, ["a.", "b."]);
        assert_eq!((told.push_interval_ms, told.telemetry_max_bytes), (5_000, 1 << 20));
        assert_eq!(told.accepted_compression_types, [4, 3, 1, 2]);

        let packed = Compression::Zstd.compress(&gauge("a.x", 1.5), None).unwrap();
        let request = PushTelemetryRequest { compression_type: 4, ..push_of(&told, packed) };
        assert_eq!(push(&house, request).await, ErrorCode::None);
        let clients = house.broker.telemetry().clients();
        assert_eq!(clients[0].points, [Point { metric: "a.x".into(), labels: Vec::new(), value: 1.5 }]);
        assert_eq!(clients[0].who.instance_id, told.client_instance_id);

        world::task::sleep(INTERVAL).await;
        assert_eq!(push(&house, push_of(&told, gauge("a.y", 2.0))).await, ErrorCode::None);
        let clients = house.broker.telemetry().clients();
        assert_eq!(clients[0].points.len(), 1, "the last push is all there is");
        assert_eq!(clients[0].points[0].value, 2.0);

        house.connection.hang_up();
        assert!(house.broker.telemetry().clients().is_empty());
    });
}

#[test]
fn who_comes_too_early_is_told_to_wait() {
    story(|| async {
        let house = House::new().await;
        subscribe(&house, "all", &[("metrics", "*"), ("interval.ms", "5000")]).await;
        let told = subscription(&house, Uuid::ZERO).await;
        let again = subscription(&house, told.client_instance_id).await;
        assert_eq!(code(again.error_code), ErrorCode::ThrottlingQuotaExceeded);
        let empty = || push_of(&told, Bytes::new());
        assert_eq!(push(&house, empty()).await, ErrorCode::None, "the first may come at any time");
        assert_eq!(push(&house, empty()).await, ErrorCode::ThrottlingQuotaExceeded);
        let last = PushTelemetryRequest { terminating: true, ..empty() };
        assert_eq!(push(&house, last.clone()).await, ErrorCode::None, "the last one too");
        assert_eq!(push(&house, last).await, ErrorCode::InvalidRequest, "nothing comes after the last");
    });
}

#[test]
fn a_subscription_that_changes_is_asked_for_again_at_once() {
    story(|| async {
        let house = House::new().await;
        let told = subscription(&house, Uuid::ZERO).await;
        assert_eq!(
            (told.requested_metrics.len(), told.push_interval_ms),
            (0, 300_000),
            "nobody wants anything"
        );
        subscribe(&house, "all", &[("metrics", "*"), ("interval.ms", "5000")]).await;
        let refused = push(&house, push_of(&told, Bytes::new())).await;
        assert_eq!(refused, ErrorCode::UnknownSubscriptionId);
        let anew = subscription(&house, told.client_instance_id).await;
        assert_eq!(code(anew.error_code), ErrorCode::None);
        assert_ne!(anew.subscription_id, told.subscription_id);
        assert_eq!(anew.requested_metrics, ["*"]);
        assert_eq!(anew.client_instance_id, told.client_instance_id);
    });
}

#[test]
fn a_subscription_is_for_those_that_match_all_its_patterns() {
    story(|| async {
        let house = House::new().await;
        let java =
            [("metrics", "j."), ("match", "client_software_name=.*java.*,client_source_address=127.*")];
        subscribe(&house, "java", &java).await;
        subscribe(&house, "half", &[("metrics", "h."), ("match", "client_software_name=java")]).await;
        let before = subscription(&house, Uuid::ZERO).await;
        assert!(before.requested_metrics.is_empty(), "who says no name matches no pattern of names");
        let software = ClientSoftware { name: "apache-kafka-java".into(), version: "4.4.0".into() };
        house.connection.set_software(software);
        let told = subscription(&house, Uuid::ZERO).await;
        assert_eq!(told.requested_metrics, ["j."], "a pattern is for the whole value");
    });
}

#[test]
fn what_is_no_metrics_is_refused_and_shown_nowhere() {
    story(|| async {
        let house = House::with(&[("telemetry.max.bytes", "200")]).await;
        subscribe(&house, "all", &[("metrics", "*"), ("interval.ms", "100")]).await;
        let told = subscription(&house, Uuid::ZERO).await;
        let bomb = Compression::Gzip.compress(&[0; 100_000], None).unwrap();
        for (request, expected) in [
            (push_of(&told, Bytes::from_static(b"hello")), ErrorCode::InvalidRecord),
            (push_of(&told, Bytes::from(vec![0; 201])), ErrorCode::TelemetryTooLarge),
            (PushTelemetryRequest { compression_type: 1, ..push_of(&told, bomb) }, ErrorCode::InvalidRecord),
            (
                PushTelemetryRequest { compression_type: 9, ..push_of(&told, Bytes::new()) },
                ErrorCode::UnsupportedCompressionType,
            ),
            (
                PushTelemetryRequest { client_instance_id: Uuid::ZERO, ..push_of(&told, Bytes::new()) },
                ErrorCode::InvalidRequest,
            ),
        ] {
            world::task::sleep(INTERVAL).await;
            assert_eq!(push(&house, request).await, expected);
        }
        assert!(house.broker.telemetry().clients().iter().all(|client| client.points.is_empty()));
        assert_eq!(house.broker.telemetry().counters().refused.load(Ordering::Relaxed), 5);
    });
}

#[test]
fn a_broker_that_is_in_the_cluster_is_not_unregistered() {
    story(|| async {
        let house = House::new().await;
        let here = house.ask(0, UnregisterBrokerRequest { broker_id: 1 }).await;
        assert_eq!(code(here.error_code), ErrorCode::InvalidRequest);
        assert!(here.error_message.unwrap().contains("is in the cluster"));
        for broker_id in [-1, 77] {
            let unknown = house.ask(0, UnregisterBrokerRequest { broker_id }).await;
            assert_eq!(code(unknown.error_code), ErrorCode::BrokerIdNotRegistered);
        }
    });
}
