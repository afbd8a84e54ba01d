//! EndTxn (key 26), versions 0–5: commits or aborts. Answered when the decision is durable; partitions hear of it afterwards.
//!
//! A client before v5 gives all its transactions one epoch, so a request of an earlier one that was held up on its way looks like one of
//! this one. Kafka takes it for that. Here a request by an older connection than the producer's newest one ends its connection instead
//! (P6, `docs/decisions/transactions.md`).
//!
//! 2: PRODUCER_FENCED · 3: flexible · 4: TRANSACTION_ABORTABLE · 5: each transaction has an epoch of its own (KIP-890)

use catalog::acl::AclOperation;
use protocol::ErrorCode;
use protocol::messages::{EndTxnRequest, EndTxnResponse};

use crate::authorizer::Resource;
use crate::request::{CloseReason, RequestContext};
use crate::transactions::{Answer, Comes, EndRequest, NO_PRODUCER, Producer, Refusal, fenced_before};

const PRODUCER_FENCED_SINCE: i16 = 2;
const EPOCH_OF_ITS_OWN_SINCE: i16 = 5;

pub(super) async fn handle(
    context: RequestContext,
    request: EndTxnRequest,
) -> Result<EndTxnResponse, CloseReason> {
    let comes = match context.api_version >= EPOCH_OF_ITS_OWN_SINCE {
        true => Comes::WithItsEpoch,
        false => Comes::By(context.connection.id),
    };
    let producer = Producer {
        transactional_id: request.transactional_id,
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let mut end = EndRequest { producer, commit: request.committed, comes, fresh_producer_id: None };
    let mut ended = ask(&context, &end).await;
    if ended == Err(Refusal::NeedsProducerId) {
        ended = match context.broker.producer_ids.next().await {
            Ok(fresh) => {
                end.fresh_producer_id = Some(fresh);
                ask(&context, &end).await
            }
            Err(code) => Err(code.into()),
        };
    }
    let (code, (producer_id, producer_epoch)) = match ended {
        Ok(next) if comes == Comes::WithItsEpoch => (ErrorCode::None, next),
        Ok(_) => (ErrorCode::None, NO_PRODUCER),
        Err(Refusal::Overtaken) => return Err(CloseReason::Overtaken),
        Err(Refusal::Code(code)) => (code, NO_PRODUCER),
        Err(Refusal::NeedsProducerId) => (ErrorCode::UnknownServerError, NO_PRODUCER),
    };
    let code = fenced_before(PRODUCER_FENCED_SINCE, &context, code);
    Ok(EndTxnResponse { error_code: code.code(), producer_id, producer_epoch, ..EndTxnResponse::default() })
}

async fn ask(context: &RequestContext, end: &EndRequest) -> Result<(i64, i16), Refusal> {
    let id = &end.producer.transactional_id;
    context.authorize(AclOperation::Write, Resource::TransactionalId(id))?;
    if id.is_empty() {
        return Err(ErrorCode::InvalidRequest.into());
    }
    let transactions = &context.broker.transactions;
    let asked =
        transactions.ask(id, |shard, reply, now, effects| shard.end(end.clone(), reply, now, effects));
    match asked.await? {
        Answer::Ended(ended) => ended,
        other => unreachable!("an end is answered by an end, not {other:?}"),
    }
}
