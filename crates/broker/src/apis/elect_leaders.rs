//! ElectLeaders (key 43), versions 0–2 (KIP-183, KIP-460).
//!
//! Moves leadership to the first replica of a partition (preferred, type 0) or to any that is left (unclean, type 1). In a directory
//! every partition is led by its first replica, so the answer is ELECTION_NOT_NEEDED, as in a Kafka cluster whose leaders are where
//! they belong. In a bucket leaders that somebody has assigned go where they belong by themselves as soon as they can: this waits
//! for them. Asked for all partitions (null), those that need no election are left out.
//!
//! 1: election type, before it was always preferred · 2: flexible.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catalog::acl::AclOperation;
use catalog::{PartitionInfo, State};
use protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use protocol::{ErrorCode, Str};
use world::task;

use crate::authorizer::Resource;
use crate::error::ApiError;
use crate::request::RequestContext;

const ERROR_OF_THE_WHOLE_SINCE: i16 = 1;
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

pub(super) async fn handle(context: RequestContext, request: ElectLeadersRequest) -> ElectLeadersResponse {
    if let Err(code) = context.authorize(AclOperation::Alter, Resource::Cluster) {
        return refused(&request, code, context.api_version);
    }
    if !matches!(request.election_type, PREFERRED | UNCLEAN) {
        return refused(&request, ErrorCode::InvalidRequest, context.api_version);
    }
    let broker = &context.broker;
    broker.freshness.catch_up().await;
    let asked = asked(&broker.catalog.read(), &request);
    // Every topic that was looked at is in the answer, also with nothing to say of it.
    let mut results: BTreeMap<Str, Vec<PartitionResult>> = match &request.topic_partitions {
        Some(topics) => topics.iter().map(|asked| (asked.topic.clone(), Vec::new())).collect(),
        None => broker.catalog.read().topics().map(|topic| (topic.name.clone(), Vec::new())).collect(),
    };
    let mut add = |topic: &Str, partition_id: i32, error: ApiError| {
        let result =
            PartitionResult { partition_id, error_code: error.code.code(), error_message: error.message };
        results.entry(topic.clone()).or_default().push(result);
    };
    let mut moving: BTreeSet<(Str, i32)> = BTreeSet::new();
    for (topic, index) in asked {
        match elect(&broker.catalog.read(), &topic, index, request.election_type) {
            None => drop(moving.insert((topic, index))),
            Some(error)
                if request.topic_partitions.is_none() && error.code == ErrorCode::ElectionNotNeeded => {}
            Some(error) => add(&topic, index, error),
        }
    }
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64).min(TIMEOUT_MAX);
    let late = arrive(&context, moving.clone(), timeout).await;
    for (topic, index) in moving {
        let error = match late.contains(&(topic.clone(), index)) {
            true => ApiError::new(ErrorCode::RequestTimedOut, "the leader has not moved yet"),
            false => ApiError::NONE,
        };
        add(&topic, index, error);
    }
    let results = results.into_iter();
    let results = results.map(|(topic, partition_result)| ReplicaElectionResult { topic, partition_result });
    ElectLeadersResponse { replica_election_results: results.collect(), ..ElectLeadersResponse::default() }
}

/// Kafka says it of every partition that is named, and of the whole where there is a place for that.
fn refused(request: &ElectLeadersRequest, code: ErrorCode, version: i16) -> ElectLeadersResponse {
    let error_code = code.code();
    let topics = request.topic_partitions.iter().flatten();
    let results = topics.map(|asked| {
        let partitions = asked.partitions.iter();
        ReplicaElectionResult {
            topic: asked.topic.clone(),
            partition_result: partitions
                .map(|index| PartitionResult { partition_id: *index, error_code, error_message: None })
                .collect(),
        }
    });
    ElectLeadersResponse {
        error_code: if version >= ERROR_OF_THE_WHOLE_SINCE { error_code } else { ErrorCode::None.code() },
        replica_election_results: results.collect(),
        ..ElectLeadersResponse::default()
    }
}

fn asked(state: &State, request: &ElectLeadersRequest) -> Vec<(Str, i32)> {
    let of = |topic: &Str, indices: &mut dyn Iterator<Item = i32>| -> Vec<(Str, i32)> {
        indices.map(|index| (topic.clone(), index)).collect()
    };
    match &request.topic_partitions {
        Some(topics) => {
            topics.iter().flat_map(|asked| of(&asked.topic, &mut asked.partitions.iter().copied())).collect()
        }
        None => state
            .topics()
            .flat_map(|topic| of(&topic.name, &mut (0..topic.partitions.len() as i32)))
            .collect(),
    }
}

/// None: the leader is about to move.
fn elect(state: &State, topic: &Str, index: i32, election_type: i8) -> Option<ApiError> {
    let Some(info) = info(state, topic, index) else {
        return Some(ApiError::new(ErrorCode::UnknownTopicOrPartition, "there is no such partition"));
    };
    let preferred = info.replicas.first();
    match () {
        () if election_type == UNCLEAN && info.leader >= 0 => {
            Some(ApiError::new(ErrorCode::ElectionNotNeeded, "the partition has a leader"))
        }
        () if preferred == Some(&info.leader) => {
            Some(ApiError::new(ErrorCode::ElectionNotNeeded, "the preferred replica is the leader"))
        }
        () if state.misled(info).is_some_and(|broker| Some(&broker.node_id) == preferred) => None,
        () => Some(ApiError::new(
            ErrorCode::PreferredLeaderNotAvailable,
            "the preferred replica cannot lead now",
        )),
    }
}

fn info<'a>(state: &'a State, topic: &Str, index: i32) -> Option<&'a PartitionInfo> {
    state.topic(topic)?.partitions.get(usize::try_from(index).ok()?)
}

/// Those that are not where they should be when the time is over.
async fn arrive(
    context: &RequestContext,
    mut moving: BTreeSet<(Str, i32)>,
    timeout: Duration,
) -> BTreeSet<(Str, i32)> {
    let catalog = &context.broker.catalog;
    let mut changes = catalog.changes();
    let all = async {
        loop {
            changes.borrow_and_update();
            {
                let state = catalog.read();
                moving.retain(|(topic, index)| elect(&state, topic, *index, PREFERRED).is_none());
            }
            if moving.is_empty() || changes.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = task::timeout(timeout, all).await;
    moving
}
