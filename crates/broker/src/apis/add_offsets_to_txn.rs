//! AddOffsetsToTxn (key 25), versions 0–4: the transaction is about to commit offsets of a group, so the group's partition of
//! `__consumer_offsets` belongs to it. Late requests: see `end_txn.rs`.
//!
//! 2: PRODUCER_FENCED · 3: flexible · 4: TRANSACTION_ABORTABLE (KIP-890; such clients need not send this at all)

use catalog::acl::AclOperation;
use catalog::topic_name;
use protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::coordinators::partition_for;
use crate::request::{CloseReason, RequestContext};
use crate::transactions::{AddRequest, Answer, Comes, Producer, Refusal, TopicPartition, fenced_before};

const PRODUCER_FENCED_SINCE: i16 = 2;

pub(super) async fn handle(
    context: RequestContext,
    request: AddOffsetsToTxnRequest,
) -> Result<AddOffsetsToTxnResponse, CloseReason> {
    let code = match add(&context, request).await {
        Ok(()) => ErrorCode::None,
        Err(Refusal::Overtaken) => return Err(CloseReason::Overtaken),
        Err(Refusal::Code(code)) => code,
        Err(Refusal::NeedsProducerId) => ErrorCode::UnknownServerError,
    };
    let code = fenced_before(PRODUCER_FENCED_SINCE, &context, code);
    Ok(AddOffsetsToTxnResponse { error_code: code.code(), ..AddOffsetsToTxnResponse::default() })
}

async fn add(context: &RequestContext, request: AddOffsetsToTxnRequest) -> Result<(), Refusal> {
    let id = request.transactional_id;
    context.authorize(AclOperation::Write, Resource::TransactionalId(&id))?;
    context.authorize(AclOperation::Read, Resource::Group(&request.group_id))?;
    if id.is_empty() {
        return Err(ErrorCode::InvalidRequest.into());
    }
    let partition = offsets_partition(context, &request.group_id).await?;
    let producer =
        Producer { transactional_id: id.clone(), id: request.producer_id, epoch: request.producer_epoch };
    let comes = Comes::By(context.connection.id);
    let request = AddRequest { producer, partitions: [partition].into(), comes };
    let transactions = &context.broker.transactions;
    let asked = transactions.ask(&id, |shard, reply, now, effects| shard.add(request, reply, now, effects));
    match asked.await? {
        Answer::Added(added) => added.map(drop),
        other => unreachable!("an addition is answered by an addition, not {other:?}"),
    }
}

/// Where a group's offsets stand, as transactions name it.
pub(super) async fn offsets_partition(
    context: &RequestContext,
    group: &Str,
) -> Result<TopicPartition, ErrorCode> {
    let broker = &context.broker;
    broker.groups.ensure_topic().await?;
    let state = broker.catalog.read();
    let topic = state.topic(topic_name::CONSUMER_OFFSETS).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let partition = partition_for(group, topic.partitions.len()) as i32;
    Ok(TopicPartition { topic: topic.name.clone(), partition })
}
