//! Client metrics (KIP-714): what a client is asked for, and what it pushes.

use bytes::Bytes;
use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::{
    GetTelemetrySubscriptionsRequest, IncrementalAlterConfigsRequest, PushTelemetryRequest,
};
use protocol::{ApiKey, Str, Uuid};

use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::GetTelemetrySubscriptions, "nothing is asked for", nothing),
    script(ApiKey::GetTelemetrySubscriptions, "something is asked for", something),
    script(ApiKey::PushTelemetry, "good and bad", push),
];

const CLIENT_METRICS: i8 = 16;
const SET: i8 = 0;
const DELETE: i8 = 1;
const GZIP: i8 = 1;
/// No client's.
const UNKNOWN: Uuid = Uuid([7; 16]);
/// More than `telemetry.max.bytes`.
const TOO_LONG: usize = 2 << 20;

fn of(client_instance_id: Uuid) -> GetTelemetrySubscriptionsRequest {
    GetTelemetrySubscriptionsRequest { client_instance_id }
}

/// A subscription for the clients of this run, and its end.
fn subscription(c: &mut Conversation, name: &Str, is_there: bool) {
    let set = |name: &str, value: &str| AlterableConfig {
        name: name.into(),
        config_operation: if is_there { SET } else { DELETE },
        value: is_there.then(|| value.into()),
    };
    let configs = vec![
        set("metrics", "org.apache.kafka.producer.,org.apache.kafka.consumer."),
        set("interval.ms", "1000"),
        set("match", "client_id=conformance"),
    ];
    let resource =
        AlterConfigsResource { resource_type: CLIENT_METRICS, resource_name: name.clone(), configs };
    c.help(&IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false });
}

fn nothing(c: &mut Conversation) {
    let told = c.ask("a new client", &of(Uuid::ZERO));
    let id = told.map_or(UNKNOWN, |told| told.client_instance_id);
    c.ask("the same at once", &of(id));
    c.ask("another new client", &of(Uuid::ZERO));
    c.ask("an id that nobody gave", &of(UNKNOWN));
}

/// Until the subscription has reached the broker, under ids that are new each time.
fn subscribed(c: &mut Conversation) {
    c.help_until(&of(Uuid::ZERO), |told| !told.requested_metrics.is_empty());
}

fn something(c: &mut Conversation) {
    let name = c.name("s");
    subscription(c, &name, true);
    subscribed(c);
    let told = c.ask("a new client", &of(Uuid::ZERO));
    c.ask("the same at once", &of(told.map_or(UNKNOWN, |told| told.client_instance_id)));
    subscription(c, &name, false);
    c.help_until(&of(Uuid::ZERO), |told| told.requested_metrics.is_empty());
}

fn push(c: &mut Conversation) {
    let name = c.name("s");
    subscription(c, &name, true);
    subscribed(c);
    let mut good = || {
        let told = c.help(&of(Uuid::ZERO));
        let (client_instance_id, subscription_id) =
            told.map_or((UNKNOWN, 1), |told| (told.client_instance_id, told.subscription_id));
        PushTelemetryRequest { client_instance_id, subscription_id, ..PushTelemetryRequest::default() }
    };
    // A client may push once in its interval: each has an id of its own.
    let requests = [
        ("nothing", good()),
        ("another subscription", PushTelemetryRequest { subscription_id: 12345, ..good() }),
        ("no id", PushTelemetryRequest { client_instance_id: Uuid::ZERO, ..good() }),
        ("an id that nobody gave", PushTelemetryRequest { client_instance_id: UNKNOWN, ..good() }),
        ("an unknown compression", PushTelemetryRequest { compression_type: 9, ..good() }),
        (
            "no gzip",
            PushTelemetryRequest {
                compression_type: GZIP,
                metrics: Bytes::from_static(b"nonsense"),
                ..good()
            },
        ),
        ("too much", PushTelemetryRequest { metrics: Bytes::from(vec![0; TOO_LONG]), ..good() }),
        ("the last one", PushTelemetryRequest { terminating: true, ..good() }),
    ];
    for (label, request) in &requests {
        c.ask(label, request);
    }
    c.ask("behind the last one", &requests[requests.len() - 1].1);
    c.ask("too early", &requests[0].1);
    subscription(c, &name, false);
    c.help_until(&of(Uuid::ZERO), |told| told.requested_metrics.is_empty());
}
