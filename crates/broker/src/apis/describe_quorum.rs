//! DescribeQuorum (key 55), versions 0–2 (KIP-595).
//!
//! The state of the metadata log, under Kafka's name for it. Ours has no quorum: what is in the log is committed, and nobody
//! votes. The controller is shown as leader and only voter, other live brokers as observers; all of them read one and the same
//! log, so each has it to its end, and when they looked last is not known (−1). The epoch is always 1, since being the
//! controller gives no right that another broker would lose. Any other topic or partition is UNKNOWN_TOPIC_OR_PARTITION.
//!
//! 1: time stamps of replicas (KIP-836) · 2: directory ids, endpoints of voters (KIP-853).

use catalog::State;
use catalog::acl::AclOperation;
use protocol::messages::describe_quorum_request::TopicData as AskedTopic;
use protocol::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use protocol::{ErrorCode, Str, Uuid};

use crate::authorizer::Resource;
use crate::broker::Broker;
use crate::peers::INTER_BROKER_LISTENER;
use crate::request::RequestContext;

const METADATA_TOPIC: &str = "__cluster_metadata";
const LEADER_EPOCH: i32 = 1;
const NODES_SINCE: i16 = 2;
const NOT_KNOWN: i64 = -1;

pub(super) async fn handle(
    context: RequestContext,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let broker = &context.broker;
    if let Err(code) = context.authorize(AclOperation::Describe, Resource::Cluster) {
        let error_code = code.code();
        return DescribeQuorumResponse {
            error_code,
            error_message: None,
            ..DescribeQuorumResponse::default()
        };
    }
    let state = broker.catalog.read();
    let topics = request.topics.iter().map(|topic| describe(&context, &state, topic));
    let mut response = DescribeQuorumResponse {
        error_message: None,
        topics: topics.collect(),
        ..DescribeQuorumResponse::default()
    };
    // Kafka names the nodes only beside the one partition that there is.
    let is_the_partition = |topic: &AskedTopic| {
        let mut partitions = topic.partitions.iter().map(|partition| partition.partition_index);
        topic.topic_name == METADATA_TOPIC && partitions.next() == Some(0) && partitions.next().is_none()
    };
    let is_asked_well = matches!(&request.topics[..], [topic] if is_the_partition(topic));
    if context.api_version >= NODES_SINCE && is_asked_well {
        let node_id = broker.controller_id(&state);
        response.nodes = vec![Node { node_id, listeners: listeners(broker, &state, node_id) }];
    }
    response
}

fn listeners(broker: &Broker, state: &State, node_id: i32) -> Vec<Listener> {
    let listener = |name: &Str, host: &Str, port| Listener { name: name.clone(), host: host.clone(), port };
    if node_id == broker.node_id {
        let own = broker.advertised.iter();
        return own.map(|own| listener(&own.listener_name, &own.host, own.port)).collect();
    }
    let registered = state.broker(node_id).into_iter().flat_map(|other| &other.endpoints);
    let for_clients = registered.filter(|one| one.listener_name != INTER_BROKER_LISTENER);
    for_clients.map(|one| listener(&one.listener_name, &one.host, one.port)).collect()
}

fn describe(context: &RequestContext, state: &State, topic: &AskedTopic) -> TopicData {
    let broker = &context.broker;
    let log_end = i64::try_from(state.position()).unwrap_or(i64::MAX);
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
        let replica = |replica_id: i32, looked_ms: i64| ReplicaState {
            replica_id,
            replica_directory_id: Uuid::ZERO,
            log_end_offset: log_end,
            last_fetch_timestamp: looked_ms,
            last_caught_up_timestamp: looked_ms,
        };
        let leader_id = broker.controller_id(state);
        let others = state.live_brokers().filter(|other| other.node_id != leader_id);
        PartitionData {
            partition_index,
            error_code: ErrorCode::None.code(),
            error_message: None,
            leader_id,
            leader_epoch: LEADER_EPOCH,
            high_watermark: log_end,
            current_voters: vec![replica(leader_id, broker.clock.now_ms())],
            observers: others.map(|other| replica(other.node_id, NOT_KNOWN)).collect(),
        }
    });
    TopicData { topic_name: topic.topic_name.clone(), partitions: partitions.collect() }
}
