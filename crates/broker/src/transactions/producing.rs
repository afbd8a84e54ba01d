//! Produce requests in which transactions begin: what their coordinator has to be asked before, and what it said.

use std::collections::BTreeMap;

use catalog::acl::AclOperation;
use commitlog::Verification;
use futures_util::future::join_all;
use protocol::batch::BatchHeader;
use protocol::messages::ProduceRequest;
use protocol::{ErrorCode, Str, TopicIdPartition};

use super::event::Producer;
use super::joining::{Asking, Join};
use super::transaction::TopicPartition;
use crate::authorizer::Resource;
use crate::partitions::{TopicRef, led_here};
use crate::request::RequestContext;

const TOPIC_IDS_SINCE: i16 = 13;
const ABORTABLE_SINCE: i16 = 11;
/// KIP-890: the leader adds the partition to the transaction.
const ADDS_SINCE: i16 = 12;

/// A partition that has to belong to a transaction.
struct Asked {
    asking: Asking,
    name: TopicPartition,
}

/// Partitions of one request in which its transaction is not open, by producer id and epoch: one as a rule.
pub(crate) struct Joining {
    transactional_id: Str,
    by_producer: BTreeMap<(i64, i16), Vec<Asked>>,
}

/// What the coordinator said, for the append.
#[derive(Default)]
pub(crate) struct Joined {
    by_partition: BTreeMap<TopicIdPartition, Result<(Verification, i64), ErrorCode>>,
    /// Until the batches are in the log, or not.
    _asked: Vec<Asking>,
}

impl Joined {
    /// None: nothing had to be asked.
    pub fn of(&self, place: &TopicIdPartition) -> Option<Result<(Verification, i64), ErrorCode>> {
        self.by_partition.get(place).copied()
    }
}

/// A produce request, as far as transactions are concerned.
pub(crate) struct Transactional {
    /// Records of a transaction are for those who may write under its id; of one who may not nothing is taken.
    pub right: Result<(), ErrorCode>,
    /// None: nobody has to be asked.
    pub joining: Option<Joining>,
}

impl Transactional {
    /// Looks at every batch once. `asks`: not if the request is refused anyway.
    pub fn of(context: &RequestContext, request: &ProduceRequest, asks: bool) -> Transactional {
        let mut found = Transactional { right: Ok(()), joining: None };
        let Some(transactional_id) = &request.transactional_id else { return found };
        let broker = &context.broker;
        let mut by_producer: BTreeMap<(i64, i16), Vec<Asked>> = BTreeMap::new();
        let state = broker.catalog.read();
        let mut writable = context.topics_quietly(AclOperation::Write);
        let mut has_right = false;
        for topic in &request.topic_data {
            let reference = match context.api_version >= TOPIC_IDS_SINCE {
                true => TopicRef::Id(topic.topic_id),
                false => TopicRef::Name(topic.name.clone()),
            };
            for data in &topic.partition_data {
                // What is no batch, or not ours, is refused later.
                let bytes = data.records.as_ref().map(|records| records.to_bytes());
                let Some(Ok(header)) = bytes.map(|bytes| BatchHeader::parse(&bytes)) else { continue };
                if !header.is_transactional() {
                    continue;
                }
                if !has_right {
                    found.right =
                        context.authorize(AclOperation::Write, Resource::TransactionalId(transactional_id));
                    if found.right.is_err() {
                        return found;
                    }
                    has_right = true;
                }
                if !asks {
                    return found;
                }
                // What the client may not write does not get into its transaction; that it is refused is said when it is appended.
                let Ok(topic) = reference.find_allowed(&state, &mut writable) else { continue };
                let Ok(led) = led_here(&broker.log, broker.node_id, topic, data.index) else { continue };
                let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
                let asking = Asking::begin(led.partition, producer_id, epoch);
                if asking.has_begun() {
                    continue;
                }
                let name = TopicPartition { topic: topic.name.clone(), partition: data.index };
                let asked = Asked { asking, name };
                by_producer.entry((producer_id, epoch)).or_default().push(asked);
            }
        }
        let transactional_id = transactional_id.clone();
        found.joining = (!by_producer.is_empty()).then_some(Joining { transactional_id, by_producer });
        found
    }
}

impl Joining {
    pub async fn ask(self, context: &RequestContext) -> Joined {
        let adds = context.api_version >= ADDS_SINCE;
        let questions = self.by_producer.into_iter().map(|((id, epoch), asked)| {
            let transactional_id = self.transactional_id.clone();
            let join = Join {
                producer: Producer { transactional_id, id, epoch },
                partitions: asked.iter().map(|asked| asked.name.clone()).collect(),
                adds,
            };
            async move {
                let mut asked = asked;
                let asks_again = || asked.iter_mut().for_each(|asked| asked.asking.begin_again());
                let told = context.broker.transactions.join(join, asks_again).await;
                (asked, told)
            }
        });
        let mut joined = Joined::default();
        for (asked, told) in join_all(questions).await {
            for asked in asked {
                let result = match &told {
                    Ok(verified) if verified.missing.contains(&asked.name) => Err(missing(context)),
                    Ok(verified) => Ok((asked.asking.verification, verified.stamp)),
                    Err(code) => Err(as_producer(context, *code)),
                };
                joined.by_partition.insert(asked.asking.partition.id(), result);
                joined._asked.push(asked.asking);
            }
        }
        joined
    }
}

fn missing(context: &RequestContext) -> ErrorCode {
    match context.api_version >= ABORTABLE_SINCE {
        true => ErrorCode::TransactionAbortable,
        false => ErrorCode::InvalidTxnState,
    }
}

/// Producers know the errors of Produce. As Kafka's `ReplicaManager` translates it.
fn as_producer(context: &RequestContext, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::ConcurrentTransactions if context.api_version >= ADDS_SINCE => code,
        // All of these are over in a moment, and this one every producer tries again.
        ErrorCode::ConcurrentTransactions
        | ErrorCode::NotCoordinator
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::CoordinatorLoadInProgress => ErrorCode::NotEnoughReplicas,
        code => code,
    }
}
