//! What streams groups are asked and what they answer, in their own words.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::messages::streams_group_topology_description_update_request::TopologyDescription;
use protocol::{ErrorCode, Str};

use super::Refusal;
use super::configure::{InternalTopic, Status};
use super::endpoints::EndpointTasks;
use super::group::StreamsGroupState;
use super::member::Endpoint;
use super::tasks::TaskSets;
use super::topology::Topology;

#[derive(Debug, Clone)]
pub struct StreamsHeartbeatRequest {
    pub group: Str,
    pub member_id: Str,
    pub instance_id: Option<Str>,
    /// 0 joins, −1 leaves, −2 leaves for a while.
    pub epoch: i32,
    /// Of what it knows about where tasks are.
    pub endpoint_epoch: i32,
    pub client_id: Str,
    pub client_host: Str,
    pub shutdown_application: bool,
    /// It can be asked for a description of its topology.
    pub knows_descriptions: bool,
    /// From here on None means "as I said before".
    pub rack_id: Option<Str>,
    pub rebalance_timeout_ms: Option<i32>,
    /// Only when it joins.
    pub topology: Option<Topology>,
    pub process_id: Option<Str>,
    pub endpoint: Option<Endpoint>,
    pub client_tags: Option<BTreeMap<Str, Str>>,
    pub owned: Option<TaskSets>,
}

const NO_LAG: i64 = -1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsHeartbeatAnswer {
    pub error: ErrorCode,
    pub message: Option<Str>,
    pub member_id: Str,
    pub epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// 0 and −1: nothing is said.
    pub task_offset_interval_ms: i32,
    pub acceptable_recovery_lag: i64,
    pub is_description_missing: bool,
    pub statuses: Vec<Status>,
    /// None: as before.
    pub tasks: Option<TaskSets>,
    pub endpoint_epoch: i32,
    /// None: as before.
    pub endpoints: Option<Vec<EndpointTasks>>,
    /// Topics that the application needs and that are not there: for whoever answers to make.
    pub missing_topics: Vec<InternalTopic>,
}

impl StreamsHeartbeatAnswer {
    pub fn new(member_id: Str, epoch: i32) -> StreamsHeartbeatAnswer {
        StreamsHeartbeatAnswer {
            error: ErrorCode::None,
            message: None,
            member_id,
            epoch,
            heartbeat_interval_ms: 0,
            task_offset_interval_ms: 0,
            acceptable_recovery_lag: NO_LAG,
            is_description_missing: false,
            statuses: Vec::new(),
            tasks: None,
            endpoint_epoch: 0,
            endpoints: None,
            missing_topics: Vec::new(),
        }
    }

    pub fn refused(error: ErrorCode, message: Option<Str>) -> StreamsHeartbeatAnswer {
        StreamsHeartbeatAnswer { error, message, ..StreamsHeartbeatAnswer::new(Str::default(), 0) }
    }
}

impl From<Refusal> for StreamsHeartbeatAnswer {
    fn from(refusal: Refusal) -> StreamsHeartbeatAnswer {
        StreamsHeartbeatAnswer::refused(refusal.error, Some(Str::from(refusal.message)))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribedStreamsGroup {
    pub state: StreamsGroupState,
    pub epoch: i32,
    pub assignment_epoch: i32,
    /// With the partitions that its own topics have, once that is decided.
    pub topology: Option<Topology>,
    pub description: Option<Arc<TopologyDescription>>,
    pub members: Vec<DescribedStreamsMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedStreamsMember {
    pub member_id: Str,
    pub epoch: i32,
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub topology_epoch: i32,
    pub process_id: Str,
    pub endpoint: Option<Endpoint>,
    pub client_tags: BTreeMap<Str, Str>,
    pub held: TaskSets,
    pub target: TaskSets,
}
