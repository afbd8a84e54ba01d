//! AddPartitionsToTxn (key 24), versions 0–5: partitions that a transaction is about to write to. Answered when they stand in the log.
//!
//! All or none of a transaction's partitions are added: where one does not exist the others are OPERATION_NOT_ATTEMPTED. A late request
//! by an older connection of the producer ends its connection, see `end_txn.rs`. From v4 on brokers ask, for several transactions at
//! once and perhaps only whether partitions belong to them; ours have a request of their own for that, so who asks is an administrator.
//!
//! 2: PRODUCER_FENCED · 3: flexible · 4: several transactions (KIP-890) · 5: TRANSACTION_ABORTABLE

use std::collections::{BTreeMap, BTreeSet};

use catalog::acl::AclOperation;
use catalog::topic_name;
use protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::{Resource, TopicRights};
use crate::request::{CloseReason, RequestContext};
use crate::transactions::{
    AddRequest, Answer, Comes, Join, Producer, Refusal, TopicPartition, fenced_before,
};

const PRODUCER_FENCED_SINCE: i16 = 2;
const SEVERAL_SINCE: i16 = 4;
const ABORTABLE_SINCE: i16 = 5;

/// What to say of each partition: its own error, or that of all.
type Codes = Result<BTreeSet<TopicPartition>, ErrorCode>;

pub(super) async fn handle(
    context: RequestContext,
    request: AddPartitionsToTxnRequest,
) -> Result<AddPartitionsToTxnResponse, CloseReason> {
    let mut response = AddPartitionsToTxnResponse::default();
    if context.api_version >= SEVERAL_SINCE
        && let Err(code) = context.authorize(AclOperation::ClusterAction, Resource::Cluster)
    {
        response.error_code = code.code();
        return Ok(response);
    }
    let transactions = match context.api_version >= SEVERAL_SINCE {
        true => request.transactions,
        false => vec![AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            topics: request.v3_and_below_topics,
            ..AddPartitionsToTxnTransaction::default()
        }],
    };
    let asked: usize =
        transactions.iter().flat_map(|asked| &asked.topics).map(|topic| topic.partitions.len()).sum();
    let is_too_large = asked > context.broker.limits.request_partitions_max;
    for transaction in transactions {
        let topic_results = match is_too_large {
            true => results(&context, &transaction.topics, Err(ErrorCode::InvalidRequest)),
            false => add(&context, &transaction).await?,
        };
        let transactional_id = transaction.transactional_id;
        response.results_by_transaction.push(AddPartitionsToTxnResult {
            transactional_id,
            topic_results,
            ..AddPartitionsToTxnResult::default()
        });
    }
    if context.api_version < SEVERAL_SINCE {
        let only = response.results_by_transaction.pop();
        response.results_by_topic_v3_and_below = only.map(|only| only.topic_results).unwrap_or_default();
    }
    Ok(response)
}

async fn add(
    context: &RequestContext,
    asked: &AddPartitionsToTxnTransaction,
) -> Result<Vec<AddPartitionsToTxnTopicResult>, CloseReason> {
    let topics = &asked.topics;
    // Whoever asks for several is a broker, or may do what brokers do.
    let is_client = context.api_version < SEVERAL_SINCE;
    if is_client
        && let Err(code) =
            context.authorize(AclOperation::Write, Resource::TransactionalId(&asked.transactional_id))
    {
        return Ok(results(context, topics, Err(code)));
    }
    let mut writable = is_client.then(|| context.topics(AclOperation::Write));
    let mut wrong = wrong(context, topics, writable.as_mut());
    let is_unknown = wrong.values().any(|code| *code == ErrorCode::UnknownTopicOrPartition);
    if is_unknown && context.broker.freshness.catch_up().await {
        wrong = self::wrong(context, topics, writable.as_mut());
    }
    if !wrong.is_empty() {
        let of = |it: &TopicPartition| wrong.get(it).copied().unwrap_or(ErrorCode::OperationNotAttempted);
        return Ok(each(topics, of));
    }
    let producer = Producer {
        transactional_id: asked.transactional_id.clone(),
        id: asked.producer_id,
        epoch: asked.producer_epoch,
    };
    let partitions = named(topics).collect();
    let codes = match asked.verify_only {
        true => {
            let join = Join { producer, partitions, adds: false };
            context.broker.transactions.join_here(join).await.map(|verified| verified.missing)
        }
        false => match ask(context, producer, partitions).await {
            Ok(_) => Ok(BTreeSet::new()),
            Err(Refusal::Overtaken) => return Err(CloseReason::Overtaken),
            Err(Refusal::Code(code)) => Err(code),
            Err(Refusal::NeedsProducerId) => Err(ErrorCode::UnknownServerError),
        },
    };
    Ok(results(context, topics, codes))
}

async fn ask(
    context: &RequestContext,
    producer: Producer,
    partitions: BTreeSet<TopicPartition>,
) -> Result<i64, Refusal> {
    let id = producer.transactional_id.clone();
    if id.is_empty() {
        return Err(ErrorCode::InvalidRequest.into());
    }
    let request = AddRequest { producer, partitions, comes: Comes::By(context.connection.id) };
    let transactions = &context.broker.transactions;
    let asked = transactions.ask(&id, |shard, reply, now, effects| shard.add(request, reply, now, effects));
    match asked.await? {
        Answer::Added(added) => added,
        other => unreachable!("an addition is answered by an addition, not {other:?}"),
    }
}

fn named(topics: &[AddPartitionsToTxnTopic]) -> impl Iterator<Item = TopicPartition> {
    topics.iter().flat_map(|topic| {
        topic
            .partitions
            .iter()
            .map(|partition| TopicPartition { topic: topic.name.clone(), partition: *partition })
    })
}

/// Partitions that do not exist, or are not for the client: those of the coordinators are for nobody.
fn wrong(
    context: &RequestContext,
    topics: &[AddPartitionsToTxnTopic],
    mut writable: Option<&mut TopicRights<'_>>,
) -> BTreeMap<TopicPartition, ErrorCode> {
    let state = context.broker.catalog.read();
    let mut check = |it: &TopicPartition| {
        if let Some(writable) = &mut writable {
            if topic_name::is_internal(&it.topic) {
                return Err(ErrorCode::TopicAuthorizationFailed);
            }
            writable.check(&state, &it.topic)?;
        }
        let index = usize::try_from(it.partition).unwrap_or(usize::MAX);
        match state.topic(&it.topic).is_some_and(|topic| index < topic.partitions.len()) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownTopicOrPartition),
        }
    };
    named(topics).filter_map(|it| check(&it).err().map(|code| (it, code))).collect()
}

fn results(
    context: &RequestContext,
    topics: &[AddPartitionsToTxnTopic],
    codes: Codes,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let missing = match context.api_version >= ABORTABLE_SINCE {
        true => ErrorCode::TransactionAbortable,
        false => ErrorCode::InvalidTxnState,
    };
    each(topics, |it| match &codes {
        Ok(without) if without.contains(it) => missing,
        Ok(_) => ErrorCode::None,
        Err(code) => fenced_before(PRODUCER_FENCED_SINCE, context, *code),
    })
}

fn each(
    topics: &[AddPartitionsToTxnTopic],
    code: impl Fn(&TopicPartition) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let result = |topic: &Str, partition: i32| AddPartitionsToTxnPartitionResult {
        partition_index: partition,
        partition_error_code: code(&TopicPartition { topic: topic.clone(), partition }).code(),
        ..AddPartitionsToTxnPartitionResult::default()
    };
    let topics = topics.iter().map(|topic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: topic.partitions.iter().map(|it| result(&topic.name, *it)).collect(),
        ..AddPartitionsToTxnTopicResult::default()
    });
    topics.collect()
}
