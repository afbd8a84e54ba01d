//! WriteTxnMarkers (key 27), versions 1–2: ends transactions in partitions that this broker leads, without asking their coordinator.
//!
//! Between brokers there is a request of our own, whose markers name their transaction. So who sends this one is an administrator
//! (`kafka-transactions.sh abort`) who ends what hangs: whichever transaction of the producer is open.
//!
//! 1: flexible · 2: the transaction version, which needs no looking at here: a producer's epoch never goes back

use std::collections::BTreeMap;

use catalog::acl::AclOperation;
use commitlog::{EndTransaction, NO_STAMP};
use protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use protocol::{ErrorCode, TopicIdPartition};

use crate::authorizer::Resource;
use crate::request::RequestContext;

pub(super) async fn handle(
    context: RequestContext,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let broker = &context.broker;
    let right = match context.may(AclOperation::Alter, Resource::Cluster) {
        true => Ok(()),
        false => context.authorize(AclOperation::ClusterAction, Resource::Cluster),
    };
    let topics = request.markers.iter().flat_map(|marker| &marker.topics);
    let asked: usize = topics.map(|topic| topic.partition_indexes.len()).sum();
    let is_too_large = asked > broker.limits.request_partitions_max;
    broker.freshness.catch_up().await;
    let (mut markers, mut codes) = (Vec::new(), BTreeMap::new());
    {
        let state = broker.catalog.read();
        for (place, marker, name) in each(&request) {
            if let Err(code) = right {
                codes.insert(place, Ok(code));
                continue;
            }
            match state.topic(name) {
                Some(topic) if !is_too_large => {
                    markers.push((TopicIdPartition::new(topic.id, place.2), marker));
                    codes.insert(place, Err(markers.len() - 1));
                }
                Some(_) => drop(codes.insert(place, Ok(ErrorCode::InvalidRequest))),
                None => drop(codes.insert(place, Ok(ErrorCode::UnknownTopicOrPartition))),
            }
        }
    }
    let written = broker.transactions.markers.write(markers).await;
    let code_of = |place: (usize, usize, i32)| match codes[&place] {
        Ok(code) => code,
        Err(index) => written[index],
    };
    let results = request.markers.iter().enumerate().map(|(marker_index, marker)| WritableTxnMarkerResult {
        producer_id: marker.producer_id,
        topics: marker
            .topics
            .iter()
            .enumerate()
            .map(|(topic_index, topic)| WritableTxnMarkerTopicResult {
                name: topic.name.clone(),
                partitions: topic
                    .partition_indexes
                    .iter()
                    .map(|partition| WritableTxnMarkerPartitionResult {
                        partition_index: *partition,
                        error_code: code_of((marker_index, topic_index, *partition)).code(),
                    })
                    .collect(),
            })
            .collect(),
    });
    WriteTxnMarkersResponse { markers: results.collect(), ..WriteTxnMarkersResponse::default() }
}

/// Every marker of the request: its place in it, what it says, and the topic's name.
fn each(
    request: &WriteTxnMarkersRequest,
) -> impl Iterator<Item = ((usize, usize, i32), EndTransaction, &protocol::Str)> {
    request.markers.iter().enumerate().flat_map(|(marker_index, marker)| {
        let ends = EndTransaction {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            coordinator_epoch: marker.coordinator_epoch,
            commit: marker.transaction_result,
            transaction_stamp: NO_STAMP,
        };
        marker.topics.iter().enumerate().flat_map(move |(topic_index, topic)| {
            let place = move |partition: &i32| ((marker_index, topic_index, *partition), ends, &topic.name);
            topic.partition_indexes.iter().map(place)
        })
    })
}
