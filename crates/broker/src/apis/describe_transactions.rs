//! DescribeTransactions (key 65), version 0 (KIP-664): where transactions stand, of transactional ids that this broker looks after.

use catalog::acl::AclOperation;
use protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use protocol::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse};
use protocol::{ErrorCode, Str};

use crate::answer_room::AnswerRoom;
use crate::authorizer::{Resource, TopicRights};
use crate::request::RequestContext;
use crate::transactions::{Answer, Described};

/// Of what is told of a partition, if it is the only one of its topic.
const PARTITION_BYTES: usize = 8;

pub(super) async fn handle(
    context: RequestContext,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let mut response = DescribeTransactionsResponse::default();
    let mut room = AnswerRoom::of(&context, request.transactional_ids.len());
    // Topics that the caller may not know of are left out.
    let mut known = context.topics_quietly(AclOperation::Describe);
    for transactional_id in request.transactional_ids {
        // Tools ask for the rest then.
        let described = match room.check(ErrorCode::CoordinatorLoadInProgress) {
            Err(code) => Err(code),
            Ok(()) => describe(&context, &transactional_id).await,
        };
        response.transaction_states.push(match described {
            Ok(described) => {
                room.take(described.partitions.iter().map(|it| PARTITION_BYTES + it.topic.len()).sum());
                state(&context, &mut known, transactional_id, *described)
            }
            Err(code) => {
                TransactionState { error_code: code.code(), transactional_id, ..TransactionState::default() }
            }
        });
    }
    response
}

async fn describe(context: &RequestContext, id: &Str) -> Result<Box<Described>, ErrorCode> {
    context.authorize(AclOperation::Describe, Resource::TransactionalId(id))?;
    if id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    let transactions = &context.broker.transactions;
    match transactions.ask(id, |shard, reply, _, effects| shard.describe(id, reply, effects)).await? {
        Answer::Described(described) => described,
        other => unreachable!("a description is answered by one, not {other:?}"),
    }
}

fn state(
    context: &RequestContext,
    known: &mut TopicRights<'_>,
    transactional_id: Str,
    described: Described,
) -> TransactionState {
    let catalog = context.broker.catalog.read();
    let mut topics: Vec<TopicData> = Vec::new();
    // In order, so those of a topic stand together.
    for it in described.partitions.into_iter().filter(|it| known.allows(&catalog, &it.topic)) {
        match topics.last_mut().filter(|last| last.topic == it.topic) {
            Some(last) => last.partitions.push(it.partition),
            None => topics.push(TopicData { topic: it.topic, partitions: vec![it.partition] }),
        }
    }
    TransactionState {
        error_code: ErrorCode::None.code(),
        transactional_id,
        transaction_state: Str::from_static(described.state.name()),
        transaction_timeout_ms: described.timeout_ms,
        transaction_start_time_ms: described.started_ms,
        producer_id: described.producer_id,
        producer_epoch: described.epoch,
        topics,
    }
}
