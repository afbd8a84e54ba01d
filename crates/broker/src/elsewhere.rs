//! Reading at brokers that do not lead (KIP-392). In a bucket any broker can serve any partition; clients are shown at least one of
//! each zone as replicas, and only those serve. So all that one broker writes is fetched from the store once per zone.

use std::cell::OnceCell;
use std::time::Duration;

use catalog::{PartitionInfo, Replicas, State, Topic};
use protocol::{ErrorCode, Str, TopicIdPartition};
use world::task;

use crate::broker::Broker;
use crate::partitions::Led;

/// How long a fetch waits for its partitions to open, or for what the leader has written a moment ago. After that the client
/// asks the leader.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Who serves what to whom, by one state of the catalog.
pub(crate) struct Zones<'a> {
    broker: &'a Broker,
    state: &'a State,
    replicas: OnceCell<Replicas<'a>>,
}

impl<'a> Zones<'a> {
    pub fn new(broker: &'a Broker, state: &'a State) -> Self {
        Self { broker, state, replicas: OnceCell::new() }
    }

    /// Replicas that can be read from, the leader first.
    fn in_sync(&self, topic: &Topic, info: &PartitionInfo) -> std::sync::Arc<[i32]> {
        self.replicas.get_or_init(|| self.state.replicas()).of(topic, info).1
    }

    /// A partition that another broker leads, to be read here. One that is not open yet is added to `unopened`.
    pub fn read_here(
        &self,
        topic: &Topic,
        index: i32,
        unopened: &mut Vec<TopicIdPartition>,
    ) -> Result<Led, ErrorCode> {
        let info = usize::try_from(index).ok().and_then(|index| topic.partitions.get(index));
        let info = info.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let me = self.broker.node_id;
        if info.leader == me || !self.in_sync(topic, info).contains(&me) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let place = TopicIdPartition::new(topic.id, index);
        match self.broker.log.view(&place) {
            Some(partition) => Ok(Led { partition, leader_epoch: info.leader_epoch }),
            None => {
                unopened.push(place);
                Err(ErrorCode::NotLeaderOrFollower)
            }
        }
    }

    /// The broker of the client's rack that it had better read from, if we are not there ourselves: as Kafka's
    /// `RackAwareReplicaSelector`, but of several the one that others of that rack are sent to as well.
    pub fn preferred(&self, topic: &Topic, info: &PartitionInfo, rack: &Str) -> Option<i32> {
        let is_there = |node_id: i32| {
            self.state.broker(node_id).is_some_and(|broker| broker.rack.as_ref() == Some(rack))
        };
        let me = self.broker.node_id;
        if is_there(me) {
            return None;
        }
        let replicas = self.in_sync(topic, info);
        let mut others = replicas.iter().copied().filter(|node_id| *node_id != me && is_there(*node_id));
        others.find(|node_id| self.is_lively(*node_id))
    }

    /// Not one whose lease stands still: its clients would come back and be sent there again.
    fn is_lively(&self, node_id: i32) -> bool {
        let Some(cluster) = &self.broker.cluster else { return false };
        self.state.broker(node_id).is_some_and(|broker| cluster.is_lively(broker.wal_id))
    }
}

/// Opens partitions that others lead. False: not now.
pub(crate) async fn open(broker: &Broker, unopened: &[TopicIdPartition]) -> bool {
    match task::timeout(WAIT_MAX, broker.log.open_views(unopened)).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => tracing::warn!("partitions that others lead cannot be read here: {error}"),
        Err(_) => tracing::warn!("{} partitions that others lead are not open yet", unopened.len()),
    }
    false
}

/// Looks what leaders have written.
pub(crate) async fn refresh(broker: &Broker) {
    if let Ok(Err(error)) = task::timeout(WAIT_MAX, broker.log.refresh_views()).await {
        tracing::debug!("what others have written is not known: {error}");
    }
}
