//! DescribeTopicPartitions (key 75), version 0 (KIP-966).
//!
//! Metadata of topics page by page, ordered by name: at most `response_partition_limit` partitions (and at most
//! `max.request.partition.size.limit`) per answer, then a cursor to go on from. No topics named: all of them.
//!
//! A leader that is not live is answered as −1, without an error, as in Kafka. Before a topic is said to be unknown, or to
//! lack a leader, we catch up with what other brokers said about it.
//!
//! Eligible leader replicas are always empty: no replica here can be elected but the leader itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use catalog::acl::AclOperation;
use catalog::{Replicas, Topic, topic_name};
use protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::{Resource, Rights, TopicRights};
use crate::nodes::{NO_NODE, Nodes};
use crate::request::RequestContext;

pub(super) async fn handle(
    context: RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let from = request.cursor.as_ref().map_or("", |cursor| cursor.topic_name.as_str());
    let from_partition = request.cursor.as_ref().map_or(0, |cursor| cursor.partition_index);
    let mut named: BTreeSet<&Str> =
        request.topics.iter().map(|topic| &topic.name).filter(|name| name.as_str() >= from).collect();
    let cursor_is_named = request.cursor.is_none() || named.iter().any(|name| **name == from);
    if from_partition < 0 || !request.topics.is_empty() && !cursor_is_named {
        return refused(&request);
    }

    // Of those nobody shall learn whether they exist: they are not looked up.
    let mut describable = match request.topics.is_empty() {
        true => context.topics_quietly(AclOperation::Describe),
        false => context.topics(AclOperation::Describe),
    };
    let mut hidden = Vec::new();
    {
        let state = context.broker.catalog.read();
        named.retain(|name| {
            let is_allowed = describable.allows(&state, name);
            if !is_allowed {
                hidden.push(refused_topic(name, ErrorCode::TopicAuthorizationFailed));
            }
            is_allowed
        });
    }

    let (mut response, lacks_something) =
        look(&context, &request, &named, &mut describable, from, from_partition);
    if lacks_something && context.broker.freshness.catch_up().await {
        (response, _) = look(&context, &request, &named, &mut describable, from, from_partition);
    }
    response.topics.extend(hidden);
    response
}

/// One page, of all topics or of those named, that begins at a partition of the topic `from`. True: it lacks something.
fn look(
    context: &RequestContext,
    request: &DescribeTopicPartitionsRequest,
    named: &BTreeSet<&Str>,
    describable: &mut TopicRights<'_>,
    from: &str,
    from_partition: i32,
) -> (DescribeTopicPartitionsResponse, bool) {
    let broker = &context.broker;
    let state = broker.catalog.read();
    let limit = broker
        .configs
        .broker(&state)
        .max_request_partition_size_limit()
        .min(request.response_partition_limit);
    let mut page = Page {
        left: limit.max(1) as usize,
        nodes: broker.nodes(&state, &context.connection.listener),
        rights: context.rights(&state),
        replicas: state.replicas(),
        lacks_something: false,
        response: DescribeTopicPartitionsResponse::default(),
    };
    if request.topics.is_empty() {
        for topic in state.topics_from(from).filter(|topic| describable.allows(&state, &topic.name)) {
            let first = if topic.name == from { from_partition } else { 0 };
            if !page.add(topic, first) {
                break;
            }
        }
    } else {
        for name in named.iter().copied() {
            let first = if name == from { from_partition } else { 0 };
            let goes_on = match state.topic(name) {
                Some(topic) => page.add(topic, first),
                None => page.add_unknown(name),
            };
            if !goes_on {
                break;
            }
        }
    }
    (page.response, page.lacks_something)
}

/// An answer being filled.
struct Page<'a> {
    left: usize,
    nodes: Nodes,
    rights: Rights<'a>,
    replicas: Replicas<'a>,
    /// A topic is not there, or a partition has no leader.
    lacks_something: bool,
    response: DescribeTopicPartitionsResponse,
}

impl Page<'_> {
    /// False when the page ends here.
    fn add(&mut self, topic: &Arc<Topic>, first: i32) -> bool {
        if self.left == 0 {
            return self.end_at(&topic.name, 0);
        }
        let first = usize::try_from(first).unwrap_or(usize::MAX).min(topic.partitions.len());
        let end = topic.partitions.len().min(first + self.left);
        let partitions = topic.partitions[first..end].iter().zip(first as i32..).map(|(partition, index)| {
            let leader_id = self.nodes.or_nobody(partition.leader);
            self.lacks_something |= leader_id == NO_NODE;
            let (replicas, in_sync) = self.replicas.of(topic, partition);
            DescribeTopicPartitionsResponsePartition {
                error_code: ErrorCode::None.code(),
                partition_index: index,
                leader_id,
                leader_epoch: partition.leader_epoch,
                replica_nodes: replicas.to_vec(),
                isr_nodes: in_sync.to_vec(),
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                offline_replicas: self.nodes.offline(&replicas),
            }
        });
        self.response.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::None.code(),
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: topic.internal,
            partitions: partitions.collect(),
            topic_authorized_operations: self.rights.operations(Resource::Topic(&topic.name)),
        });
        self.left -= end - first;
        match end < topic.partitions.len() {
            true => self.end_at(&topic.name, end as i32),
            false => true,
        }
    }

    fn add_unknown(&mut self, name: &Str) -> bool {
        if self.left == 0 {
            return self.end_at(name, 0);
        }
        let code = match topic_name::validate(name) {
            Ok(()) => ErrorCode::UnknownTopicOrPartition,
            Err(_) => ErrorCode::InvalidTopicException,
        };
        self.lacks_something |= code == ErrorCode::UnknownTopicOrPartition;
        self.response.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: code.code(),
            name: Some(name.clone()),
            is_internal: topic_name::is_internal(name),
            topic_authorized_operations: self.rights.operations(Resource::Topic(name)),
            ..DescribeTopicPartitionsResponseTopic::default()
        });
        true
    }

    fn end_at(&mut self, topic_name: &Str, partition_index: i32) -> bool {
        let cursor = Cursor { topic_name: topic_name.clone(), partition_index };
        self.response.next_cursor = Some(cursor);
        false
    }
}

/// The answer has no error of its own; Kafka puts INVALID_REQUEST on every topic that was named.
fn refused(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.iter().map(|topic| refused_topic(&topic.name, ErrorCode::InvalidRequest));
    DescribeTopicPartitionsResponse { topics: topics.collect(), ..DescribeTopicPartitionsResponse::default() }
}

fn refused_topic(name: &Str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name.clone()),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}
