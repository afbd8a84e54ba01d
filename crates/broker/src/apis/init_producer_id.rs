//! InitProducerId v0–5: an id for an idempotent producer, or the id and the epoch for a transactional one.
//!
//! Without a transactional id Kafka gives a new id at epoch 0 each time, also to a producer that brings an old one
//! (KIP-360: it starts over). With one its coordinator gives an epoch that fences whoever had it before; a transaction that is
//! under way is aborted first, and the client told CONCURRENT_TRANSACTIONS until it is. v6 (KIP-939) is unstable in Kafka 4.4
//! and not shown.
//!
//! v2 is flexible · v3 may bring its id and epoch (KIP-360) · v4 PRODUCER_FENCED · v5 TRANSACTION_ABORTABLE (KIP-890).

use protocol::ErrorCode;
use protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::request::RequestContext;
use crate::transactions::{Answer, InitRequest, Refusal, fenced_before};

const NO_PRODUCER_ID: i64 = -1;
const NO_PRODUCER_EPOCH: i16 = -1;
const PRODUCER_FENCED_SINCE: i16 = 4;

pub(crate) async fn handle(
    context: RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    match init(&context, &request).await {
        Ok((producer_id, producer_epoch)) => {
            InitProducerIdResponse { producer_id, producer_epoch, ..InitProducerIdResponse::default() }
        }
        Err(error) => InitProducerIdResponse {
            error_code: fenced_before(PRODUCER_FENCED_SINCE, &context, error).code(),
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            ..InitProducerIdResponse::default()
        },
    }
}

async fn init(context: &RequestContext, request: &InitProducerIdRequest) -> Result<(i64, i16), ErrorCode> {
    context.authorize_producer_id(request.transactional_id.as_deref())?;
    let has_id = request.producer_id != NO_PRODUCER_ID;
    let has_epoch = request.producer_epoch != NO_PRODUCER_EPOCH;
    if has_id != has_epoch {
        return Err(ErrorCode::InvalidRequest);
    }
    match request.transactional_id.as_ref() {
        Some(transactional_id) if transactional_id.is_empty() => Err(ErrorCode::InvalidRequest),
        Some(transactional_id) => {
            let init = InitRequest {
                transactional_id: transactional_id.clone(),
                timeout_ms: request.transaction_timeout_ms,
                expected: has_id.then_some((request.producer_id, request.producer_epoch)),
                fresh_producer_id: None,
                connection: context.connection.id,
            };
            match ask(context, init.clone()).await {
                Err(Refusal::NeedsProducerId) => {
                    let fresh_producer_id = Some(context.broker.producer_ids.next().await?);
                    ask(context, InitRequest { fresh_producer_id, ..init }).await.map_err(code)
                }
                asked => asked.map_err(code),
            }
        }
        None => Ok((context.broker.producer_ids.next().await?, 0)),
    }
}

async fn ask(context: &RequestContext, init: InitRequest) -> Result<(i64, i16), Refusal> {
    let id = init.transactional_id.clone();
    let transactions = &context.broker.transactions;
    match transactions.ask(&id, |shard, reply, now, effects| shard.init(init, reply, now, effects)).await? {
        Answer::Init(result) => result,
        other => unreachable!("an InitProducerId is answered by one, not {other:?}"),
    }
}

fn code(refusal: Refusal) -> ErrorCode {
    match refusal {
        Refusal::Code(code) => code,
        Refusal::NeedsProducerId | Refusal::Overtaken => ErrorCode::UnknownServerError,
    }
}
