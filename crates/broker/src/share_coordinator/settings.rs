//! What the share coordinator may be told, and its bounds.

use std::fmt;
use std::sync::Arc;

use catalog::config::BrokerConfig;
use protocol::Uuid;

use crate::coordinators::StateMemory;

/// The number of partitions of a topic, if it is there.
#[derive(Clone)]
pub struct PartitionCounts(pub Arc<dyn Fn(Uuid) -> Option<i32> + Send + Sync>);

impl PartitionCounts {
    pub fn has(&self, topic: Uuid, partition: i32) -> bool {
        (self.0)(topic).is_some_and(|count| (0..count).contains(&partition))
    }
}

impl fmt::Debug for PartitionCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the catalog's topics")
    }
}

#[derive(Debug, Clone)]
pub struct ShareCoordinatorSettings {
    /// `share.coordinator.snapshot.update.records.per.snapshot`
    pub updates_per_snapshot: u32,
    /// Share partitions of one partition of `__share_group_state`.
    pub states_per_partition_max: usize,
    /// Batches of one share partition; a leader keeps far fewer.
    pub batches_max: usize,
    pub topics: PartitionCounts,
    /// `coordinators.memory.max.bytes`, for groups and transactions too.
    pub memory: Arc<StateMemory>,
}

impl ShareCoordinatorSettings {
    pub fn of(
        config: &BrokerConfig,
        topics: PartitionCounts,
        memory: Arc<StateMemory>,
    ) -> ShareCoordinatorSettings {
        ShareCoordinatorSettings {
            updates_per_snapshot: u32::try_from(config.share_coordinator_updates_per_snapshot()).unwrap_or(0),
            states_per_partition_max: 100_000,
            batches_max: 100_000,
            topics,
            memory,
        }
    }
}
