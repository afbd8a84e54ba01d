//! The group coordinator: classic consumer groups and their committed offsets.
//!
//! `shard.rs` is the pure core (start there): events in, records, answers and alarms out. `partition_runtime.rs`
//! runs one shard per partition of `__consumer_offsets` on the log and the clock. This file finds the partition of
//! a group and makes the topic when the first one is asked for. The API files translate.

mod admin;
mod event;
mod group;
mod member;
mod membership;
mod offset_store;
mod offsets;
mod partition_runtime;
mod records;
mod replay;
mod settings;
mod shard;
mod snapshot;
#[cfg(test)]
mod tests;
mod timers;

use std::sync::Arc;

use catalog::config::BrokerConfig;
use catalog::{Catalog, Topic, topic_name};
use commitlog::CommitLog;
use parking_lot::{Mutex, RwLock};
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};
use tokio::sync::Semaphore;
use world::clock::SharedClock;
use world::rng::Rng;
use world::task::{self, JoinHandle};

pub(crate) use event::*;
pub(crate) use member::OfferedProtocol;

use crate::broker::StartError;
use crate::configs::Configs;
use crate::internal_topics;
use crate::topics::Topics;
use partition_runtime::PartitionRuntime;
use settings::GroupSettings;

/// All partitions of `__consumer_offsets` together stay about below this, as long as the state itself does. What
/// counts is not the space but the start: after one, each small commit is a read of its own (measured: 20,000 of
/// them took 6 s), and a restart has one second.
const LOG_BYTES_TOTAL: u64 = 4 << 20;
/// What one partition's log may weigh before it is worth a snapshot.
const LOG_BYTES_PER_PARTITION: std::ops::RangeInclusive<u64> = 32 << 10..=1 << 20;
/// Partitions that load at the same time.
const LOADS_AT_ONCE: usize = 16;

pub(crate) struct GroupsOptions {
    pub clock: SharedClock,
    pub rng: Arc<dyn Rng>,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub configs: Arc<Configs>,
    pub topics: Arc<Topics>,
}

pub(crate) struct Groups {
    options: GroupsOptions,
    coordinator: RwLock<Option<Arc<Coordinator>>>,
    settings: Mutex<(Arc<BrokerConfig>, Arc<GroupSettings>)>,
    is_stopped: std::sync::atomic::AtomicBool,
}

/// Groups, members and committed offsets there are, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupCounts {
    pub groups: usize,
    pub members: usize,
    pub offsets: usize,
    pub partitions_loading: usize,
}

/// One incarnation of the topic `__consumer_offsets`.
struct Coordinator {
    topic_id: Uuid,
    partitions: Vec<Arc<PartitionRuntime>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Groups {
    /// Starts to load what is there. Groups answer COORDINATOR_LOAD_IN_PROGRESS until their partition is read.
    pub async fn start(options: GroupsOptions) -> Result<Arc<Groups>, StartError> {
        let config = options.configs.started_with().clone();
        let settings = Arc::new(GroupSettings::of(&config));
        let groups = Arc::new(Groups {
            options,
            coordinator: RwLock::new(None),
            settings: Mutex::new((config, settings)),
            is_stopped: std::sync::atomic::AtomicBool::new(false),
        });
        groups.current();
        Ok(groups)
    }

    pub fn fresh_uuid(&self) -> [u8; 16] {
        self.options.rng.uuid()
    }

    /// Makes `__consumer_offsets`, should it not be there. FindCoordinator comes first in every group's life.
    pub async fn ensure_topic(&self) -> Result<(), ErrorCode> {
        if self.current().is_some() {
            return Ok(());
        }
        let config = self.config();
        let made = internal_topics::ensure_consumer_offsets(&self.options.topics, &config).await;
        made.map_err(|error| {
            tracing::error!(?error, "the topic of the group coordinator cannot be made");
            ErrorCode::CoordinatorNotAvailable
        })?;
        self.current().map(|_| ()).ok_or(ErrorCode::CoordinatorNotAvailable)
    }

    /// An event of one group that is answered at once.
    pub fn with<R>(
        &self,
        group: &str,
        event: impl FnOnce(&mut shard::Shard, Now, &mut Effects) -> R,
    ) -> Result<R, ErrorCode> {
        self.partition_of(group)?.with(&self.settings(), event)
    }

    /// An event of one group whose answer may come later.
    pub async fn ask(
        &self,
        group: &str,
        event: impl FnOnce(&mut shard::Shard, ReplyId, Now, &mut Effects),
    ) -> Result<Answer, ErrorCode> {
        self.partition_of(group)?.ask(&self.settings(), event).await
    }

    /// Every group there is. Without the topic there are none.
    pub fn list(&self) -> Result<Vec<ListedGroup>, ErrorCode> {
        let Some(coordinator) = self.current() else { return Ok(Vec::new()) };
        let settings = self.settings();
        let mut listed = Vec::new();
        for partition in &coordinator.partitions {
            listed.extend(partition.with(&settings, |shard, _, _| shard.list())?);
        }
        Ok(listed)
    }

    /// Groups by the partition they live in: what a request asks of several groups is one event per partition.
    pub fn by_partition(&self, groups: impl IntoIterator<Item = Str>) -> Result<Vec<Vec<Str>>, ErrorCode> {
        let coordinator = self.current().ok_or(ErrorCode::NotCoordinator)?;
        let mut by_partition: std::collections::BTreeMap<usize, Vec<Str>> = Default::default();
        for group in groups {
            by_partition.entry(partition_for(&group, coordinator.partitions.len())).or_default().push(group);
        }
        Ok(by_partition.into_values().collect())
    }

    /// A topic is gone: so are the offsets committed for it. Not waited for; should we stop before they are
    /// written off, the next start does it.
    pub async fn topic_deleted(&self, topic: &Topic) {
        let deleted = [(topic.name.clone(), topic.id)];
        if deleted[0].0 == topic_name::CONSUMER_OFFSETS {
            self.current();
            return;
        }
        let Some(coordinator) = self.current() else { return };
        let settings = self.settings();
        for partition in &coordinator.partitions {
            // A partition that still loads looks for gone topics when it is done.
            let _ = partition.with(&settings, |shard, _, effects| shard.topics_deleted(&deleted, effects));
        }
    }

    pub fn follow_catalog(&self) {
        self.current();
    }

    pub fn counts(&self) -> GroupCounts {
        let Some(coordinator) = self.current() else { return GroupCounts::default() };
        let mut counts = GroupCounts::default();
        for partition in &coordinator.partitions {
            let (groups, members, offsets) = partition.counts();
            counts.groups += groups;
            counts.members += members;
            counts.offsets += offsets;
            counts.partitions_loading += usize::from(partition.is_loading());
        }
        counts
    }

    /// Ends all waiting and lets what was handed to the log land. Groups stay in the log as they are.
    pub async fn shutdown(&self) {
        self.is_stopped.store(true, std::sync::atomic::Ordering::Release);
        let coordinator = self.coordinator.write().take();
        if let Some(coordinator) = coordinator {
            coordinator.stop();
            let tasks = std::mem::take(&mut *coordinator.tasks.lock());
            for task in tasks {
                let _ = task.await;
            }
        }
    }

    fn partition_of(&self, group: &str) -> Result<Arc<PartitionRuntime>, ErrorCode> {
        let coordinator = self.current().ok_or(ErrorCode::NotCoordinator)?;
        Ok(coordinator.partitions[partition_for(group, coordinator.partitions.len())].clone())
    }

    /// The coordinator of the topic as it is in the catalog now; None when there is no topic.
    fn current(&self) -> Option<Arc<Coordinator>> {
        let topic_id = self.options.catalog.read().topic(topic_name::CONSUMER_OFFSETS).map(|topic| topic.id);
        {
            let known = self.coordinator.read();
            if known.as_ref().map(|coordinator| coordinator.topic_id) == topic_id {
                return known.clone();
            }
        }
        let mut known = self.coordinator.write();
        if known.as_ref().map(|coordinator| coordinator.topic_id) == topic_id {
            return known.clone();
        }
        if let Some(gone) = known.take() {
            gone.stop();
        }
        if self.is_stopped.load(std::sync::atomic::Ordering::Acquire) {
            return None;
        }
        *known = self.start_coordinator().map(Arc::new);
        known.clone()
    }

    fn start_coordinator(&self) -> Option<Coordinator> {
        let topic = self.options.catalog.read().topic(topic_name::CONSUMER_OFFSETS).cloned()?;
        let settings = self.settings();
        let bytes_max = LOG_BYTES_TOTAL / topic.partitions.len().max(1) as u64;
        let bytes_max = bytes_max.clamp(*LOG_BYTES_PER_PARTITION.start(), *LOG_BYTES_PER_PARTITION.end());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (index, info) in (0..).zip(&topic.partitions) {
            // Recorded in the catalog, and not yet in the log: it will be in a moment.
            let partition = self.options.log.partition(&TopicIdPartition::new(topic.id, index))?;
            let clock = self.options.clock.clone();
            partitions.push(PartitionRuntime::new(
                partition,
                info.leader_epoch,
                clock,
                settings.clone(),
                bytes_max,
            ));
        }
        let permits = Arc::new(Semaphore::new(LOADS_AT_ONCE));
        let spawn = |runtime: &Arc<PartitionRuntime>| {
            let (runtime, catalog) = (runtime.clone(), self.options.catalog.clone());
            let permits = permits.clone();
            task::spawn(async move {
                let current_topic_id = move |name: &Str| catalog.read().topic(name).map(|topic| topic.id);
                runtime.run(&permits, current_topic_id).await;
            })
        };
        let tasks = Mutex::new(partitions.iter().map(spawn).collect());
        Some(Coordinator { topic_id: topic.id, partitions, tasks })
    }

    fn config(&self) -> Arc<BrokerConfig> {
        self.options.configs.broker(&self.options.catalog.read())
    }

    /// Settings as the broker's configs have them now.
    fn settings(&self) -> Arc<GroupSettings> {
        let config = self.config();
        let mut known = self.settings.lock();
        if !Arc::ptr_eq(&known.0, &config) {
            *known = (config.clone(), Arc::new(GroupSettings::of(&config)));
        }
        known.1.clone()
    }
}

impl Coordinator {
    fn stop(&self) {
        self.partitions.iter().for_each(|partition| partition.stop());
    }
}

/// Where Kafka keeps a group: Java's `String.hashCode`, its sign taken off, by the number of partitions.
fn partition_for(group: &str, partition_count: usize) -> usize {
    let hash =
        group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's `Utils.abs`: the one number without a positive counterpart counts as 0.
    let hash = hash.checked_abs().unwrap_or(0);
    hash as usize % partition_count.max(1)
}
