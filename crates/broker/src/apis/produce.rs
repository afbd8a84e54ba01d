//! Produce (key 0), versions 3–13. Advertised from 0, because librdkafka turns compression off otherwise
//! (KAFKA-18659); Kafka does the same and closes the connection on versions 0–2.
//!
//! Appends one record batch per partition. `acks` 1 and −1 both wait until the batch is durable, 0 gets no answer;
//! anything else is INVALID_REQUIRED_ACKS. An `acks=0` request that fails ends the connection, as in Kafka.
//!
//! Differences: Kafka acknowledges from memory, we from the disk. `min.insync.replicas` and the timeout are about
//! replicas and have no effect here.
//!
//! Before the first batch of a transaction in a partition its coordinator is asked (`transactions/joining.rs`), for clients with
//! KIP-890 to add the partition. Such a request has its connection for itself until it is answered, so that no later batch of the
//! producer overtakes it; all others wait for their commits side by side.
//!
//! A topic or a leadership that we have not heard of yet is refused at once, and we catch up behind the answer: batches are
//! queued in the order in which they come, so none may wait for news while the next one does not. Producers try again. What
//! is refused for the producer's sequence or epoch waits until we are known to lead still, and is NOT_LEADER_OR_FOLLOWER otherwise.
//!
//! What takes long, unpacking much to judge it, is done on a thread that stands back (`world::task::patiently`), before anything else of
//! the connection is looked at: batches stay in their order.
//!
//! 5: log start offset · 7: zstd (KIP-110) · 8: errors of records (KIP-467) · 9: flexible · 10: current leader
//! (KIP-951) · 11, 12: transactions (KIP-890) · 13: topic ids (KIP-516).

use std::collections::VecDeque;

use bytes::Bytes;
use catalog::acl::AclOperation;
use protocol::batch::produce::RecordError;
use protocol::messages::ProduceRequest;
use protocol::messages::ProduceResponse;
use protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use protocol::wire::{DecodeError, Reader};
use protocol::{ErrorCode, Message, Records, Str, Uuid};
use world::task::patiently;

use crate::freshness::may_be_stale;
use crate::partitions::TopicRef;
use crate::produce::{Appended, Judgement, ProduceTerms, ProduceTopic, Refused, Stored};
use crate::quotas::Usage;
use crate::request::{CloseReason, Handling, Outcome, RequestContext};
use crate::transactions::{Joined, Transactional};

const TOPIC_IDS_SINCE: i16 = 13;
const CURRENT_LEADER_SINCE: i16 = 10;

/// The queued records of one topic, in the order of the request.
struct TopicAppends {
    name: Str,
    topic_id: Uuid,
    partitions: Vec<(i32, Result<Appended, Refused>)>,
}

pub(super) fn handle(context: RequestContext, mut body: Reader) -> Result<Handling, DecodeError> {
    let request = ProduceRequest::decode(&mut body, context.api_version)?;
    context.connection.note_decoded(body.charged());
    let acks = request.acks;
    let (mut bytes, mut partition_count) = (0, 0);
    for partition in request.topic_data.iter().flat_map(|topic| &topic.partition_data) {
        bytes += partition.records.as_ref().map_or(0, Records::len);
        partition_count += 1;
    }
    let refused = match acks {
        -1..=1 if partition_count <= context.broker.limits.request_partitions_max => None,
        -1..=1 => Some(ErrorCode::InvalidRequest),
        _ => Some(ErrorCode::InvalidRequiredAcks),
    };
    let Transactional { right, joining } = Transactional::of(&context, &request, refused.is_none());
    if let Some(joining) = joining {
        return Ok(Handling::Sequential(Box::pin(async move {
            let joined = joining.ask(&context).await;
            let mut ready = Ready::of(&context, request, right, refused);
            if ready.is_work_due() {
                ready = patiently(move || ready.work()).await;
            }
            let topics = ready.queue(&context, &joined);
            drop(joined);
            let throttle_time_ms = context.use_quota(Usage::Produce, bytes as f64);
            match settle(&context, acks, topics) {
                Ok(topics) => answer(context, topics, throttle_time_ms).await,
                Err(outcome) => outcome,
            }
        })));
    }
    let pipelined = move |context: RequestContext, ready: Ready| {
        let topics = ready.queue(&context, &Joined::default());
        let throttle_time_ms = context.use_quota(Usage::Produce, bytes as f64);
        match settle(&context, acks, topics) {
            Ok(topics) => Handling::Pipelined(Box::pin(answer(context, topics, throttle_time_ms))),
            Err(outcome) => Handling::Pipelined(Box::pin(std::future::ready(outcome))),
        }
    };
    let ready = Ready::of(&context, request, right, refused);
    if !ready.is_work_due() {
        return Ok(pipelined(context, ready));
    }
    Ok(Handling::Preparing(Box::pin(async move {
        let ready = patiently(move || ready.work()).await;
        pipelined(context, ready)
    })))
}

/// What is left to answer; `acks=0` has its outcome at once.
fn settle(
    context: &RequestContext,
    acks: i16,
    topics: Vec<TopicAppends>,
) -> Result<Vec<TopicAppends>, Outcome> {
    if acks == 0 {
        let failed = topics.iter().flat_map(|topic| &topic.partitions).any(|(_, result)| result.is_err());
        let outcome = match failed {
            true => {
                // The client will look for the leader.
                context.broker.freshness.catch_up_soon();
                Outcome::Close(CloseReason::ProduceWithoutAcksFailed)
            }
            false => Outcome::Silent,
        };
        return Err(outcome);
    }
    Ok(topics)
}

/// A request whose topics were looked up, and whose records were judged as far as they have to be unpacked for it.
struct Ready {
    request: ProduceRequest,
    found: Vec<Result<ProduceTopic, ErrorCode>>,
    now_ms: i64,
    /// By the places of topic and partition in the request, in their order; most requests have none.
    judged: VecDeque<((usize, usize), Judgement)>,
}

impl Ready {
    /// `right`: to write under its transactional id; `refused`: as a whole.
    fn of(
        context: &RequestContext,
        request: ProduceRequest,
        right: Result<(), ErrorCode>,
        refused: Option<ErrorCode>,
    ) -> Ready {
        let broker = &context.broker;
        let now_ms = broker.clock.now_ms();
        let found: Vec<Result<ProduceTopic, ErrorCode>> = {
            let state = broker.catalog.read();
            let mut writable = context.topics(AclOperation::Write);
            let mut find = |name: &Str, id: Uuid| {
                right?;
                let reference = match context.api_version >= TOPIC_IDS_SINCE {
                    true => TopicRef::Id(id),
                    false => TopicRef::Name(name.clone()),
                };
                let topic = reference.find_allowed(&state, &mut writable);
                match refused {
                    Some(code) if topic != Err(ErrorCode::TopicAuthorizationFailed) => Err(code),
                    _ => ProduceTopic::find(broker, &state, topic?, context.client_id.as_deref()),
                }
            };
            request.topic_data.iter().map(|topic| find(&topic.name, topic.topic_id)).collect()
        };
        let mut judged = VecDeque::new();
        for (at_topic, (topic, found)) in request.topic_data.iter().zip(&found).enumerate() {
            let Ok(found) = found else { continue };
            for (at, partition) in topic.partition_data.iter().enumerate() {
                // A frame has them in one piece.
                let Some([records]) = partition.records.as_ref().map(Records::segments) else { continue };
                let judgement = found.judge(broker, partition.index, records, context.api_version, now_ms);
                judged.extend(judgement.map(|judgement| ((at_topic, at), judgement)));
            }
        }
        Ready { request, found, now_ms, judged }
    }

    fn is_work_due(&self) -> bool {
        self.judged.iter().any(|(_, judgement)| judgement.is_due())
    }

    /// What takes long.
    fn work(mut self) -> Ready {
        for (_, judgement) in &mut self.judged {
            judgement.complete();
        }
        self
    }

    /// Everything of the request is in the log's queue, or refused, when this returns.
    fn queue(self, context: &RequestContext, joined: &Joined) -> Vec<TopicAppends> {
        let Ready { request, found, now_ms, mut judged } = self;
        let broker = &context.broker;
        let terms = ProduceTerms {
            version: context.api_version,
            now_ms,
            transactional_id: request.transactional_id.as_deref(),
            joined,
        };
        let mut judgement_of = |place: (usize, usize)| {
            let is_there = judged.front().is_some_and(|(of, _)| *of == place);
            is_there.then(|| judged.pop_front()).flatten().map(|(_, judgement)| judgement)
        };
        let _together = broker.log.together();
        let topics = request.topic_data.into_iter().zip(found).enumerate();
        topics
            .map(|(at_topic, (topic, found))| TopicAppends {
                name: topic.name,
                topic_id: topic.topic_id,
                partitions: topic
                    .partition_data
                    .into_iter()
                    .enumerate()
                    .map(|(at, partition)| {
                        let result = match &found {
                            Err(code) => Err(Refused::from(*code)),
                            Ok(found) => {
                                let records =
                                    partition.records.map_or_else(Bytes::new, |records| records.to_bytes());
                                let judged = judgement_of((at_topic, at));
                                found.append(broker, partition.index, &records, judged, terms)
                            }
                        };
                        (partition.index, result)
                    })
                    .collect(),
            })
            .collect()
    }
}

async fn answer(context: RequestContext, topics: Vec<TopicAppends>, throttle_time_ms: i32) -> Outcome {
    let mut response = ProduceResponse { throttle_time_ms, ..ProduceResponse::default() };
    let mut leader_changed = false;
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (index, queued) in topic.partitions {
            let result = match queued {
                Ok(appended) => appended.committed().await,
                Err(refused) => {
                    let refused = refused.confirmed(&context.broker).await;
                    if may_be_stale(refused.code) {
                        context.broker.freshness.catch_up_soon();
                    }
                    Err(refused)
                }
            };
            leader_changed |=
                matches!(&result, Err(refused) if refused.code == ErrorCode::NotLeaderOrFollower);
            partitions.push(partition_response(index, result));
        }
        response.responses.push(TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: partitions,
        });
    }
    if leader_changed && context.api_version >= CURRENT_LEADER_SINCE {
        add_leaders(&context, &mut response);
    }
    context.answer(&response)
}

fn partition_response(index: i32, result: Result<Stored, Refused>) -> PartitionProduceResponse {
    match result {
        Ok(stored) => PartitionProduceResponse {
            index,
            error_code: ErrorCode::None.code(),
            base_offset: stored.base_offset,
            log_append_time_ms: stored.log_append_time_ms,
            log_start_offset: stored.log_start_offset,
            ..PartitionProduceResponse::default()
        },
        Err(refused) => PartitionProduceResponse {
            index,
            error_code: refused.code.code(),
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: refused.log_start_offset,
            record_errors: refused.record_errors.into_iter().map(record_error).collect(),
            error_message: refused.message.map(Str::from),
            ..PartitionProduceResponse::default()
        },
    }
}

fn record_error(error: RecordError) -> BatchIndexAndErrorMessage {
    BatchIndexAndErrorMessage {
        batch_index: error.batch_index,
        batch_index_error_message: Some(Str::from(error.message)),
    }
}

/// Tells a client that came to the wrong broker where the leader is, so that it need not ask for metadata.
fn add_leaders(context: &RequestContext, response: &mut ProduceResponse) {
    let broker = &context.broker;
    let state = broker.catalog.read();
    let mut leaders = std::collections::BTreeSet::new();
    for topic in &mut response.responses {
        let reference = match context.api_version >= TOPIC_IDS_SINCE {
            true => TopicRef::Id(topic.topic_id),
            false => TopicRef::Name(topic.name.clone()),
        };
        let Ok(found) = reference.find(&state) else { continue };
        for partition in &mut topic.partition_responses {
            let info = usize::try_from(partition.index).ok().and_then(|index| found.partitions.get(index));
            if let Some(info) = info.filter(|_| partition.error_code == ErrorCode::NotLeaderOrFollower.code())
            {
                partition.current_leader.leader_id = info.leader;
                partition.current_leader.leader_epoch = info.leader_epoch;
                leaders.insert(info.leader);
            }
        }
    }
    let nodes = broker.nodes(&state, &context.connection.listener);
    response.node_endpoints = nodes
        .into_iter()
        .filter(|node| leaders.contains(&node.id))
        .map(|node| NodeEndpoint { node_id: node.id, host: node.host, port: node.port, rack: node.rack })
        .collect();
}
