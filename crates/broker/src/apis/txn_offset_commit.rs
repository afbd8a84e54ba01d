//! TxnOffsetCommit (key 28), versions 0–6: offsets that count when the transaction commits.
//!
//! The group's coordinator asks the transaction's before the first offsets of a transaction (T3), as the leader of a partition does.
//! What does not exist is refused for its partition only. A late request by an older connection of a producer before v5 ends that
//! connection, as with the transaction's coordinator (`end_txn.rs`). Older clients are told COORDINATOR_NOT_AVAILABLE while groups load: they
//! stop at an error that they do not know.
//!
//! 2: leader epochs (KIP-320) · 3: flexible, member and generation (KIP-447) · 4: TRANSACTION_ABORTABLE · 5: the group's partition is
//! added to the transaction here (KIP-890) · 6: topic ids

use catalog::acl::AclOperation;
use commitlog::NO_STAMP;
use protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use protocol::{ErrorCode, Str};

use super::add_offsets_to_txn::offsets_partition;
use crate::authorizer::{Resource, TopicRights};
use crate::coordinators::InTransaction;
use crate::freshness::may_be_stale;
use crate::groups::{Answer, CommitAnswer, CommitOffset, CommitRequest};
use crate::partitions::TopicRef;
use crate::request::{CloseReason, RequestContext};
use crate::transactions::{Asking, Join, Producer};

const KNOWS_LOADING_SINCE: i16 = 2;
const ABORTABLE_SINCE: i16 = 4;
const ADDS_SINCE: i16 = 5;
const TOPIC_IDS_SINCE: i16 = 6;

pub(super) async fn handle(
    context: RequestContext,
    request: TxnOffsetCommitRequest,
) -> Result<TxnOffsetCommitResponse, CloseReason> {
    let right = authorize(&context, &request);
    if right.is_ok() && context.api_version < ADDS_SINCE && is_overtaken(&context, &request) {
        return Err(CloseReason::Overtaken);
    }
    let mut readable = context.topics(AclOperation::Read);
    let mut offsets = known_offsets(&context, &request, right, &mut readable);
    let lacks_something = offsets.iter().any(|offset| offset.as_ref().is_err_and(|code| may_be_stale(*code)));
    if lacks_something && context.broker.freshness.catch_up().await {
        offsets = known_offsets(&context, &request, right, &mut readable);
    }
    let commit = CommitRequest {
        group: request.group_id.clone(),
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id.clone(),
        instance_id: request.group_instance_id.clone(),
        retention_ms: None,
        knows_group_id_not_found: false,
        offsets: offsets.iter().flatten().cloned().collect(),
    };
    let known_count = commit.offsets.len();
    let committed = match known_count {
        0 => CommitAnswer::Each(Vec::new()),
        _ => commit_in_transaction(&context, &request, commit).await.unwrap_or_else(CommitAnswer::Refused),
    };
    let mut committed = match committed {
        CommitAnswer::Each(each) => each.into_iter(),
        CommitAnswer::Refused(code) => vec![as_known(&context, code); known_count].into_iter(),
    };
    let mut offsets = offsets.into_iter();
    let mut code = || match offsets.next().expect("one check for each offset") {
        Ok(_) => committed.next().expect("one answer for each offset"),
        Err(code) => code,
    };
    let topics = request.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code().code(),
            })
            .collect(),
    });
    Ok(TxnOffsetCommitResponse { topics: topics.collect(), ..TxnOffsetCommitResponse::default() })
}

fn authorize(context: &RequestContext, request: &TxnOffsetCommitRequest) -> Result<(), ErrorCode> {
    context.authorize(AclOperation::Write, Resource::TransactionalId(&request.transactional_id))?;
    context.authorize(AclOperation::Read, Resource::Group(&request.group_id))
}

fn is_overtaken(context: &RequestContext, request: &TxnOffsetCommitRequest) -> bool {
    let (producer_id, epoch) = (request.producer_id, request.producer_epoch);
    let is_newest = context.broker.groups.with(&request.group_id, |shard, _, _| {
        shard.pending_offsets.is_newest_connection(producer_id, epoch, context.connection.id)
    });
    // Who does not look after the group says so later.
    is_newest == Ok(false)
}

async fn commit_in_transaction(
    context: &RequestContext,
    request: &TxnOffsetCommitRequest,
    commit: CommitRequest,
) -> Result<CommitAnswer, ErrorCode> {
    if request.transactional_id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    if commit.group.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let broker = &context.broker;
    let log = broker.groups.offsets_partition(&commit.group)?;
    let (producer_id, producer_epoch) = (request.producer_id, request.producer_epoch);
    let mut asking = Asking::begin(log, producer_id, producer_epoch);
    let stamp = match asking.has_begun() {
        true => NO_STAMP,
        false => join(context, request, &commit.group, &mut asking).await?,
    };
    let verification = asking.verification;
    let transaction = InTransaction { producer_id, producer_epoch, stamp, verification };
    let group = commit.group.clone();
    let asked = broker.groups.ask(&group, |shard, reply, now, effects| {
        shard.commit_in_transaction(commit, transaction, reply, now, effects);
    });
    match asked.await? {
        Answer::Commit(answer) => Ok(answer),
        other => unreachable!("a commit is answered by a commit, not {other:?}"),
    }
}

/// The transaction's stamp, if the group's partition belongs to it.
async fn join(
    context: &RequestContext,
    request: &TxnOffsetCommitRequest,
    group: &Str,
    asking: &mut Asking,
) -> Result<i64, ErrorCode> {
    let partition = offsets_partition(context, group).await?;
    let producer = Producer {
        transactional_id: request.transactional_id.clone(),
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let adds = context.api_version >= ADDS_SINCE;
    let join = Join { producer, partitions: [partition].into(), adds };
    match context.broker.transactions.join(join, || asking.begin_again()).await {
        Ok(verified) if verified.missing.is_empty() => Ok(verified.stamp),
        Ok(_) if context.api_version >= ABORTABLE_SINCE => Err(ErrorCode::TransactionAbortable),
        Ok(_) => Err(ErrorCode::InvalidTxnState),
        Err(ErrorCode::ProducerFenced) => Err(ErrorCode::InvalidProducerEpoch),
        // The client looks for its group's coordinator, which is the wrong one, and comes again, which is right.
        Err(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => {
            Err(ErrorCode::CoordinatorNotAvailable)
        }
        Err(ErrorCode::ConcurrentTransactions) if !adds => Err(ErrorCode::CoordinatorLoadInProgress),
        Err(code) => Err(code),
    }
}

fn as_known(context: &RequestContext, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::CoordinatorLoadInProgress if context.api_version < KNOWS_LOADING_SINCE => {
            ErrorCode::CoordinatorNotAvailable
        }
        code => code,
    }
}

/// In the order of the request; an error where there is no such partition, or it is not for the client.
fn known_offsets(
    context: &RequestContext,
    request: &TxnOffsetCommitRequest,
    right: Result<(), ErrorCode>,
    readable: &mut TopicRights<'_>,
) -> Vec<Result<CommitOffset, ErrorCode>> {
    let state = context.broker.catalog.read();
    let names_by_id = context.api_version >= TOPIC_IDS_SINCE;
    let mut known = Vec::new();
    for topic in &request.topics {
        let reference = match names_by_id {
            true => TopicRef::Id(topic.topic_id),
            false => TopicRef::Name(topic.name.clone()),
        };
        let found = right.and_then(|()| reference.find_allowed(&state, readable));
        for partition in &topic.partitions {
            let index = usize::try_from(partition.partition_index).unwrap_or(usize::MAX);
            let offset = found.and_then(|found| match index < found.partitions.len() {
                true => Ok(CommitOffset {
                    topic: found.name.clone(),
                    topic_id: found.id,
                    partition: partition.partition_index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata.clone().unwrap_or_default(),
                }),
                false => Err(ErrorCode::UnknownTopicOrPartition),
            });
            known.push(offset);
        }
    }
    known
}
