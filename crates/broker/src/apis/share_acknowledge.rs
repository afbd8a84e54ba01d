//! ShareAcknowledge v1–2: a member of a share group says what became of records that it had: accepted, released, rejected, or that it
//! needs them for longer (KIP-932).
//!
//! The answer leaves when that is kept. All entries of a partition are taken or none.
//!
//! v1 · v2 renews locks (KIP-1222).

use std::collections::{BTreeMap, BTreeSet};

use protocol::messages::share_acknowledge_request::AcknowledgementBatch;
use protocol::messages::share_acknowledge_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionData, ShareAcknowledgeTopicResponse,
};
use protocol::messages::{ShareAcknowledgeRequest, ShareAcknowledgeResponse};
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};

use super::share_fetch::{RENEWS_SINCE, acknowledge, leader_of, leaders, session_key};
use crate::request::RequestContext;
use crate::share::{Acknowledgement, FINAL_EPOCH, Outcome};

pub(super) async fn handle(
    context: RequestContext,
    request: ShareAcknowledgeRequest,
) -> ShareAcknowledgeResponse {
    let refused = |error: ErrorCode, message: Option<&'static str>| ShareAcknowledgeResponse {
        error_code: error.code(),
        error_message: message.map(Str::from_static),
        ..ShareAcknowledgeResponse::default()
    };
    let key = match session_key(&context, &request.group_id, &request.member_id) {
        Ok(key) => key,
        Err((error, message)) => return refused(error, Some(message)),
    };
    let sharing = &context.broker.sharing;
    let entry = |batch: AcknowledgementBatch| Acknowledgement {
        first_offset: batch.first_offset,
        last_offset: batch.last_offset,
        types: batch.acknowledge_types,
    };
    let mut entries: BTreeMap<(Uuid, i32), Vec<Acknowledgement>> = BTreeMap::new();
    for topic in request.topics {
        for partition in topic.partitions {
            let of_partition: Vec<_> = partition.acknowledgement_batches.into_iter().map(entry).collect();
            // Of what nothing is said nothing is answered.
            if !of_partition.is_empty() {
                entries.insert((topic.topic_id, partition.partition_index), of_partition);
            }
        }
    }
    if entries.len() > context.broker.limits.request_partitions_max {
        return refused(ErrorCode::InvalidRequest, None);
    }
    if let Err(error) = sharing.check_session(&key, request.share_session_epoch) {
        return refused(error, None);
    }
    let of_group = sharing.group_rules(&key.group);
    let places: BTreeSet<TopicIdPartition> =
        entries.keys().map(|(topic, partition)| TopicIdPartition::new(*topic, *partition)).collect();
    let leaders = leaders(&context, &places).await;
    let is_renewal = context.api_version >= RENEWS_SINCE && request.is_renew_ack;
    let outcomes = acknowledge(&context, &key, &leaders, &entries, is_renewal, &of_group).outcomes().await;
    if request.share_session_epoch == FINAL_EPOCH {
        sharing.end_session(&key);
    }
    let responses = responses(&context, outcomes);
    ShareAcknowledgeResponse {
        acquisition_lock_timeout_ms: of_group.lock_duration_ms,
        node_endpoints: leader_endpoints(&context, &responses),
        responses,
        ..ShareAcknowledgeResponse::default()
    }
}

fn responses(
    context: &RequestContext,
    outcomes: BTreeMap<TopicIdPartition, Outcome>,
) -> Vec<ShareAcknowledgeTopicResponse> {
    let mut by_topic: BTreeMap<Uuid, Vec<PartitionData>> = BTreeMap::new();
    for (place, Outcome { error, message }) in outcomes {
        let is_elsewhere = matches!(error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
        let current_leader = leader_of(context, place)
            .filter(|_| is_elsewhere)
            .map(|(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch })
            .unwrap_or_default();
        by_topic.entry(place.topic_id).or_default().push(PartitionData {
            partition_index: place.partition,
            error_code: error.code(),
            error_message: message.map(Str::from_static),
            current_leader,
        });
    }
    let topics = by_topic.into_iter();
    topics.map(|(topic_id, partitions)| ShareAcknowledgeTopicResponse { topic_id, partitions }).collect()
}

fn leader_endpoints(
    context: &RequestContext,
    responses: &[ShareAcknowledgeTopicResponse],
) -> Vec<NodeEndpoint> {
    let leaders: BTreeSet<i32> = responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.current_leader.leader_id)
        .filter(|leader| *leader >= 0)
        .collect();
    if leaders.is_empty() {
        return Vec::new();
    }
    let state = context.broker.catalog.read();
    let nodes = context.broker.nodes(&state, &context.connection.listener).into_iter();
    nodes
        .filter(|node| leaders.contains(&node.id))
        .map(|node| NodeEndpoint { node_id: node.id, host: node.host, port: node.port, rack: node.rack })
        .collect()
}
