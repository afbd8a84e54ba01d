//! DescribeQuorum (key 55), versions 0–2 (KIP-595).
//!
//! The state of the metadata log, under Kafka's name for it. Ours has no quorum: one broker writes and syncs it, so
//! that broker is leader and only voter, and what is in the log is committed. The epoch is 1, since leadership never
//! moves in a cluster of one. Any other topic or partition is UNKNOWN_TOPIC_OR_PARTITION.
//!
//! 1: time stamps of replicas (KIP-836) · 2: directory ids, endpoints of voters (KIP-853).

use protocol::messages::describe_quorum_request::TopicData as AskedTopic;
use protocol::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use protocol::{ErrorCode, Uuid};

use crate::request::RequestContext;

const METADATA_TOPIC: &str = "__cluster_metadata";
const LEADER_EPOCH: i32 = 1;
const NODES_SINCE: i16 = 2;

pub(super) async fn handle(
    context: RequestContext,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let broker = &context.broker;
    let position = broker.catalog.read().position();
    let log_end = i64::try_from(position).unwrap_or(i64::MAX);
    let topics = request.topics.iter().map(|topic| describe(&context, topic, log_end));
    let mut response = DescribeQuorumResponse {
        error_message: None,
        topics: topics.collect(),
        ..DescribeQuorumResponse::default()
    };
    if context.api_version >= NODES_SINCE {
        let listeners = broker.advertised.iter().map(|endpoint| Listener {
            name: endpoint.listener_name.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
        });
        response.nodes = vec![Node { node_id: broker.node_id, listeners: listeners.collect() }];
    }
    response
}

fn describe(context: &RequestContext, topic: &AskedTopic, log_end: i64) -> TopicData {
    let partitions = topic.partitions.iter().map(|partition| {
        let partition_index = partition.partition_index;
        if topic.topic_name != METADATA_TOPIC || partition_index != 0 {
            return PartitionData {
                partition_index,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
                error_message: None,
                ..PartitionData::default()
            };
        }
        let now_ms = context.broker.clock.now_ms();
        let voter = ReplicaState {
            replica_id: context.broker.node_id,
            replica_directory_id: Uuid::ZERO,
            log_end_offset: log_end,
            last_fetch_timestamp: now_ms,
            last_caught_up_timestamp: now_ms,
        };
        PartitionData {
            partition_index,
            error_code: ErrorCode::None.code(),
            error_message: None,
            leader_id: context.broker.node_id,
            leader_epoch: LEADER_EPOCH,
            high_watermark: log_end,
            current_voters: vec![voter],
            observers: Vec::new(),
        }
    });
    TopicData { topic_name: topic.topic_name.clone(), partitions: partitions.collect() }
}
