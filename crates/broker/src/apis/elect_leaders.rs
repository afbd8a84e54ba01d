//! ElectLeaders (key 43), versions 0–2 (KIP-183, KIP-460).
//!
//! Moves leadership to the first replica of a partition (preferred, type 0) or to any that is left (unclean, type 1).
//! Every partition here is led by its first replica, so the answer is ELECTION_NOT_NEEDED, as in a Kafka cluster whose
//! leaders are where they belong. Asked for all partitions (null), those that need no election are left out.
//!
//! 1: election type, before it was always preferred · 2: flexible.

use std::collections::BTreeMap;

use catalog::PartitionInfo;
use protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use protocol::{ErrorCode, Str};

use crate::error::ApiError;
use crate::request::RequestContext;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(super) async fn handle(context: RequestContext, request: ElectLeadersRequest) -> ElectLeadersResponse {
    if !matches!(request.election_type, PREFERRED | UNCLEAN) {
        let error_code = ErrorCode::InvalidRequest.code();
        return ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() };
    }
    let state = context.broker.catalog.read();
    let mut results: BTreeMap<Str, Vec<PartitionResult>> = BTreeMap::new();
    let mut add = |topic: &Str, partition_id: i32, error: ApiError| {
        let result =
            PartitionResult { partition_id, error_code: error.code.code(), error_message: error.message };
        results.entry(topic.clone()).or_default().push(result);
    };
    match &request.topic_partitions {
        Some(topics) => {
            for topic in topics {
                let found = state.topic(&topic.topic);
                for index in &topic.partitions {
                    let info = found.and_then(|found| found.partitions.get(usize::try_from(*index).ok()?));
                    add(&topic.topic, *index, elect(info, request.election_type));
                }
            }
        }
        None => {
            for topic in state.topics() {
                for (index, info) in (0..).zip(&topic.partitions) {
                    let error = elect(Some(info), request.election_type);
                    if error.code != ErrorCode::ElectionNotNeeded {
                        add(&topic.name, index, error);
                    }
                }
            }
        }
    }
    let results = results.into_iter();
    let results = results.map(|(topic, partition_result)| ReplicaElectionResult { topic, partition_result });
    ElectLeadersResponse { replica_election_results: results.collect(), ..ElectLeadersResponse::default() }
}

fn elect(info: Option<&PartitionInfo>, election_type: i8) -> ApiError {
    match info {
        None => ApiError::new(ErrorCode::UnknownTopicOrPartition, "there is no such partition"),
        Some(info) if election_type == UNCLEAN && info.leader >= 0 => {
            ApiError::new(ErrorCode::ElectionNotNeeded, "the partition has a leader")
        }
        Some(info) if info.replicas.first() == Some(&info.leader) => {
            ApiError::new(ErrorCode::ElectionNotNeeded, "the preferred replica is the leader")
        }
        // A cluster of one does not get here.
        Some(_) => {
            ApiError::new(ErrorCode::PreferredLeaderNotAvailable, "the preferred replica cannot lead now")
        }
    }
}
