//! PushTelemetry (key 72), version 0 (KIP-714).
//!
//! A client's own metrics, as OTLP. The last values of each are on the metrics page while the client is connected (`telemetry`); bytes
//! that are no metrics are INVALID_RECORD.

use protocol::messages::{PushTelemetryRequest, PushTelemetryResponse};

use crate::request::RequestContext;
use crate::telemetry::Push;

pub(super) async fn handle(context: RequestContext, request: PushTelemetryRequest) -> PushTelemetryResponse {
    let broker = &context.broker;
    let push = Push {
        instance_id: request.client_instance_id,
        subscription_id: request.subscription_id,
        is_terminating: request.terminating,
        compression_type: request.compression_type,
        metrics: request.metrics,
    };
    let push_bytes_max = usize::try_from(broker.config().telemetry_max_bytes()).unwrap_or(0);
    let client_id = context.client_id.as_ref();
    let taken = broker.telemetry.push(&context.connection, client_id, &push, push_bytes_max);
    PushTelemetryResponse {
        error_code: taken.err().map_or(0, |code| code.code()),
        ..PushTelemetryResponse::default()
    }
}
