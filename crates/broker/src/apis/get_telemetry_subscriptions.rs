//! GetTelemetrySubscriptions (key 71), version 0 (KIP-714).
//!
//! Which of its own metrics a client is to push to us, and how often. A client that no subscription is for is told none, and asks again
//! after five minutes.
//!
//! We differ from Kafka: it is always advertised, since what is pushed always goes somewhere (`telemetry`), where Kafka needs a plug-in;
//! and values are asked for as sums since the client's start.

use protocol::compression::Compression;
use protocol::messages::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse};

use crate::request::RequestContext;

/// In Kafka's order of preference.
const COMPRESSION_TYPES: [Compression; 4] =
    [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];

pub(super) async fn handle(
    context: RequestContext,
    request: GetTelemetrySubscriptionsRequest,
) -> GetTelemetrySubscriptionsResponse {
    let broker = &context.broker;
    let told = broker.telemetry.subscription_of(
        &context.connection,
        context.client_id.as_ref(),
        request.client_instance_id,
    );
    match told {
        Err(code) => GetTelemetrySubscriptionsResponse {
            error_code: code.code(),
            ..GetTelemetrySubscriptionsResponse::default()
        },
        Ok(told) => GetTelemetrySubscriptionsResponse {
            client_instance_id: told.instance_id,
            subscription_id: told.subscription_id,
            accepted_compression_types: COMPRESSION_TYPES.map(|codec| codec as i8).to_vec(),
            push_interval_ms: told.interval_ms,
            telemetry_max_bytes: broker.config().telemetry_max_bytes(),
            delta_temporality: false,
            requested_metrics: told.metrics,
            ..GetTelemetrySubscriptionsResponse::default()
        },
    }
}
