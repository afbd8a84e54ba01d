//! InitProducerId v0–5: an id for an idempotent producer.
//!
//! Without a transactional id Kafka gives a new id at epoch 0 each time, also to a producer that brings an old one
//! (KIP-360: it starts over). Transactions do not exist yet: a transactional id is told UNSUPPORTED_VERSION, which
//! is fatal to the producer, and is never given an id that would not fence. v6 (KIP-939) is unstable in Kafka 4.4
//! and not shown.
//!
//! v2 is flexible · v3 may bring its id and epoch (KIP-360) · v4 PRODUCER_FENCED · v5 TRANSACTION_ABORTABLE (KIP-890).

use protocol::ErrorCode;
use protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::request::RequestContext;

const NO_PRODUCER_ID: i64 = -1;
const NO_PRODUCER_EPOCH: i16 = -1;

pub(crate) async fn handle(
    context: RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    match init(&context, &request).await {
        Ok(producer_id) => {
            InitProducerIdResponse { producer_id, producer_epoch: 0, ..InitProducerIdResponse::default() }
        }
        Err(error) => InitProducerIdResponse {
            error_code: error.code(),
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            ..InitProducerIdResponse::default()
        },
    }
}

async fn init(context: &RequestContext, request: &InitProducerIdRequest) -> Result<i64, ErrorCode> {
    context.authorize_producer_id(request.transactional_id.as_deref())?;
    let has_id = request.producer_id != NO_PRODUCER_ID;
    let has_epoch = request.producer_epoch != NO_PRODUCER_EPOCH;
    if has_id != has_epoch {
        return Err(ErrorCode::InvalidRequest);
    }
    match request.transactional_id.as_ref() {
        Some(transactional_id) if transactional_id.is_empty() => Err(ErrorCode::InvalidRequest),
        Some(_) => Err(ErrorCode::UnsupportedVersion),
        None => context.broker.producer_ids.next().await,
    }
}
