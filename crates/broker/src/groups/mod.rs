//! The group coordinator: classic consumer groups and their committed offsets.
//!
//! `shard.rs` is the pure core (start there): events in, records, answers and alarms out. `partition_runtime.rs`
//! runs one shard on the log and the clock. This file makes the topic when the first group is asked for, and has one runtime
//! for each partition of `__consumer_offsets` that this broker leads: `follow_catalog` starts and stops them as leaders move.
//! The API files translate.
//!
//! ```text
//!   led elsewhere ──▶ led here, not in the log yet ──▶ loading ──▶ ready ──▶ led elsewhere, or here under the next epoch
//!   NOT_COORDINATOR   COORDINATOR_LOAD_IN_PROGRESS                           (who still waits: NOT_COORDINATOR)
//! ```

mod admin;
mod catalog_view;
mod consumer;
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

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::config::BrokerConfig;
use catalog::{Catalog, PartitionInfo, Topic, topic_name};
use commitlog::CommitLog;
use parking_lot::{Mutex, RwLock};
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};
use tokio::sync::Semaphore;
use world::clock::SharedClock;
use world::rng::Rng;
use world::task::{self, JoinHandle};

pub(crate) use consumer::{
    ConsumerHeartbeatAnswer, ConsumerHeartbeatRequest, DescribedConsumer, DescribedTopic, JOINING_EPOCH,
    LEAVING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH, Partitions, Refusal,
};
pub(crate) use event::*;
pub(crate) use member::OfferedProtocol;

use crate::broker::StartError;
use crate::configs::Configs;
use crate::freshness::Freshness;
use crate::internal_topics;
use crate::topics::Topics;
use catalog_view::{OwnCatalog, SharedView};
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
    pub node_id: i32,
    pub clock: SharedClock,
    pub rng: Arc<dyn Rng>,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub configs: Arc<Configs>,
    pub topics: Arc<Topics>,
    pub freshness: Arc<Freshness>,
}

pub(crate) struct Groups {
    options: GroupsOptions,
    coordinator: RwLock<Arc<Coordinator>>,
    settings: Mutex<(Arc<BrokerConfig>, Arc<GroupSettings>)>,
    loads: Arc<Semaphore>,
    /// The newest task of each partition; those of runtimes that were stopped may still have something to land.
    tasks: Mutex<BTreeMap<TopicIdPartition, JoinHandle<()>>>,
    seen: Mutex<SeenTopics>,
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

/// `__consumer_offsets` as the last look at the catalog and the log found it.
#[derive(Default)]
struct Coordinator {
    topic: Option<Arc<Topic>>,
    /// One for each partition of the topic.
    places: Vec<Place>,
}

/// Who looks after the groups of one partition.
#[derive(Clone)]
enum Place {
    Elsewhere,
    /// This broker, as soon as the log has opened the partition.
    Opening,
    Here(Arc<PartitionRuntime>),
}

/// All topics as the last look found them. The catalog shares a topic for as long as nothing of it changes.
#[derive(Default)]
struct SeenTopics {
    position: u64,
    /// Ordered by name.
    topics: Vec<Arc<Topic>>,
}

impl Groups {
    /// Starts to load what is there. Groups answer COORDINATOR_LOAD_IN_PROGRESS until their partition is read.
    pub async fn start(options: GroupsOptions) -> Result<Arc<Groups>, StartError> {
        let config = options.configs.started_with().clone();
        let view = OwnCatalog { catalog: options.catalog.clone(), configs: options.configs.clone() };
        let catalog = SharedView(Arc::new(view));
        let settings = Arc::new(GroupSettings { catalog, ..GroupSettings::of(&config) });
        let groups = Arc::new(Groups {
            options,
            coordinator: RwLock::default(),
            settings: Mutex::new((config, settings)),
            loads: Arc::new(Semaphore::new(LOADS_AT_ONCE)),
            tasks: Mutex::default(),
            seen: Mutex::default(),
            is_stopped: std::sync::atomic::AtomicBool::new(false),
        });
        groups.follow_catalog();
        Ok(groups)
    }

    /// To be called when the catalog has changed, and when the log has opened or closed partitions: starts and stops what
    /// follows from it, and drops the offsets of topics that are gone. Any number of tasks may call it at any time; it looks
    /// at what is so now, and when nothing has changed it does nothing.
    pub fn follow_catalog(&self) {
        let coordinator = self.follow_leaders();
        let gone = self.gone_topics();
        if !gone.is_empty() {
            self.drop_offsets_of(&coordinator, &gone);
        }
    }

    pub fn fresh_uuid(&self) -> [u8; 16] {
        self.options.rng.uuid()
    }

    /// Makes `__consumer_offsets`, should it not be there. FindCoordinator comes first in every group's life.
    pub async fn ensure_topic(&self) -> Result<(), ErrorCode> {
        // Another broker may have made it a moment ago.
        if self.topic().is_none() {
            self.options.freshness.catch_up().await;
        }
        if self.topic().is_none() {
            let config = self.config();
            let made = internal_topics::ensure_consumer_offsets(&self.options.topics, &config).await;
            made.map_err(|error| {
                tracing::error!(?error, "the topic of the group coordinator cannot be made");
                ErrorCode::CoordinatorNotAvailable
            })?;
        }
        self.current();
        Ok(())
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

    /// Every group that this broker looks after.
    pub fn list(&self) -> Result<Vec<ListedGroup>, ErrorCode> {
        let settings = self.settings();
        let mut listed = Vec::new();
        for place in &self.current().places {
            let groups = match place {
                Place::Elsewhere => continue,
                Place::Opening => Err(ErrorCode::CoordinatorLoadInProgress),
                Place::Here(runtime) => runtime.with(&settings, |shard, _, _| shard.list()),
            };
            match groups {
                Ok(groups) => listed.extend(groups),
                // Stopped since we looked: another broker lists them.
                Err(ErrorCode::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }

    /// Groups by the partition they live in: what a request asks of several groups is one event per partition.
    pub fn by_partition(&self, groups: impl IntoIterator<Item = Str>) -> Result<Vec<Vec<Str>>, ErrorCode> {
        let topic = self.topic().ok_or(ErrorCode::NotCoordinator)?;
        let mut by_partition: BTreeMap<usize, Vec<Str>> = BTreeMap::new();
        for group in groups {
            by_partition.entry(partition_for(&group, topic.partitions.len())).or_default().push(group);
        }
        Ok(by_partition.into_values().collect())
    }

    /// A topic is gone: so are the offsets committed for it. Not waited for; should we stop before they are
    /// written off, the next start does it.
    pub async fn topic_deleted(&self, topic: &Topic) {
        self.drop_offsets_of(&self.current(), &[(topic.name.clone(), topic.id)]);
    }

    pub fn counts(&self) -> GroupCounts {
        let mut counts = GroupCounts::default();
        for place in &self.current().places {
            match place {
                Place::Elsewhere => {}
                Place::Opening => counts.partitions_loading += 1,
                Place::Here(runtime) => {
                    let (groups, members, offsets) = runtime.counts();
                    counts.groups += groups;
                    counts.members += members;
                    counts.offsets += offsets;
                    counts.partitions_loading += usize::from(runtime.is_loading());
                }
            }
        }
        counts
    }

    /// Ends all waiting and lets what was handed to the log land. Groups stay in the log as they are.
    pub async fn shutdown(&self) {
        self.is_stopped.store(true, std::sync::atomic::Ordering::Release);
        let coordinator = std::mem::take(&mut *self.coordinator.write());
        coordinator.runtimes().for_each(|runtime| runtime.stop());
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks.into_values() {
            let _ = task.await;
        }
    }

    fn partition_of(&self, group: &str) -> Result<Arc<PartitionRuntime>, ErrorCode> {
        let coordinator = self.current();
        match coordinator.places.get(partition_for(group, coordinator.places.len())) {
            Some(Place::Here(runtime)) => Ok(runtime.clone()),
            Some(Place::Opening) => Err(ErrorCode::CoordinatorLoadInProgress),
            Some(Place::Elsewhere) | None => {
                // Perhaps it is ours already and we have not heard of it. The client asks for the coordinator and comes again.
                self.options.freshness.catch_up_soon();
                Err(ErrorCode::NotCoordinator)
            }
        }
    }

    fn topic(&self) -> Option<Arc<Topic>> {
        self.options.catalog.read().topic(topic_name::CONSUMER_OFFSETS).cloned()
    }

    /// Who looks after which partition by the catalog as it is now: also when nobody has called `follow_catalog` yet, a
    /// request must not reach a partition that is led elsewhere, or miss one that was just made.
    fn current(&self) -> Arc<Coordinator> {
        let topic = self.topic();
        {
            let known = self.coordinator.read();
            if known.is_of(topic.as_ref())
                && !known.opening().any(|id| self.options.log.partition(&id).is_some())
            {
                return known.clone();
            }
        }
        self.follow_leaders()
    }

    /// Runs what this broker leads and nothing else.
    fn follow_leaders(&self) -> Arc<Coordinator> {
        let mut known = self.coordinator.write();
        if self.is_stopped.load(std::sync::atomic::Ordering::Acquire) {
            return known.clone();
        }
        // Read behind the lock: of two who look at the same time the one with the older view must not have the last word.
        let mut next = Coordinator { topic: self.topic(), places: Vec::new() };
        if let Some(topic) = &next.topic {
            let infos = (0..).zip(&topic.partitions);
            next.places = infos.map(|(index, info)| self.place(&known, topic, index, info)).collect();
        }
        for gone in known.runtimes().filter(|runtime| !next.has(runtime)) {
            gone.stop();
        }
        for new in next.runtimes().filter(|runtime| !known.has(runtime)) {
            self.run(new.clone());
        }
        *known = Arc::new(next);
        known.clone()
    }

    /// The place of a partition now: the runtime that is known, if its leadership and its log are still the same.
    fn place(&self, known: &Coordinator, topic: &Topic, index: i32, info: &PartitionInfo) -> Place {
        if info.leader != self.options.node_id {
            return Place::Elsewhere;
        }
        let Some(partition) = self.options.log.partition(&TopicIdPartition::new(topic.id, index)) else {
            return Place::Opening;
        };
        match known.places.get(index as usize) {
            Some(Place::Here(same)) if same.is_of(&partition, info.leader_epoch) => Place::Here(same.clone()),
            _ => {
                let bytes_max = LOG_BYTES_TOTAL / topic.partitions.len().max(1) as u64;
                let bytes_max =
                    bytes_max.clamp(*LOG_BYTES_PER_PARTITION.start(), *LOG_BYTES_PER_PARTITION.end());
                let (clock, settings) = (self.options.clock.clone(), self.settings());
                Place::Here(PartitionRuntime::new(partition, info.leader_epoch, clock, settings, bytes_max))
            }
        }
    }

    fn run(&self, runtime: Arc<PartitionRuntime>) {
        let (id, catalog, loads) = (runtime.id(), self.options.catalog.clone(), self.loads.clone());
        let mut tasks = self.tasks.lock();
        let earlier = tasks.remove(&id);
        let task = task::spawn(async move {
            // What the earlier leadership handed to the log has to be in it before it is read.
            if let Some(earlier) = earlier {
                let _ = earlier.await;
            }
            let current_topic_id = move |name: &Str| catalog.read().topic(name).map(|topic| topic.id);
            runtime.run(&loads, current_topic_id).await;
        });
        tasks.insert(id, task);
    }

    /// Topics that were there at the last look and are not there now. In a catalog of our own only we delete topics, and
    /// `topic_deleted` is called. In a shared one this is asked with every change, and few of those have to do with topics:
    /// then it is a walk along pointers.
    fn gone_topics(&self) -> Vec<(Str, Uuid)> {
        if !self.options.catalog.is_shared() {
            return Vec::new();
        }
        let mut seen = self.seen.lock();
        let state = self.options.catalog.read();
        if seen.position == state.position() {
            return Vec::new();
        }
        seen.position = state.position();
        let is_same = |(seen, now): (&Arc<Topic>, &Arc<Topic>)| Arc::ptr_eq(seen, now);
        if seen.topics.len() == state.topic_count() && seen.topics.iter().zip(state.topics()).all(is_same) {
            return Vec::new();
        }
        let gone = seen.topics.iter().filter(|topic| state.topic_by_id(topic.id).is_none());
        let gone = gone.map(|topic| (topic.name.clone(), topic.id)).collect();
        seen.topics = state.topics().cloned().collect();
        gone
    }

    fn drop_offsets_of(&self, coordinator: &Coordinator, deleted: &[(Str, Uuid)]) {
        let settings = self.settings();
        for runtime in coordinator.runtimes() {
            // A partition that still loads looks for gone topics when it is done.
            let _ = runtime.with(&settings, |shard, _, effects| shard.topics_deleted(deleted, effects));
        }
    }

    fn config(&self) -> Arc<BrokerConfig> {
        self.options.configs.broker(&self.options.catalog.read())
    }

    /// Settings as the broker's configs have them now.
    fn settings(&self) -> Arc<GroupSettings> {
        let config = self.config();
        let mut known = self.settings.lock();
        if !Arc::ptr_eq(&known.0, &config) {
            let catalog = known.1.catalog.clone();
            *known = (config.clone(), Arc::new(GroupSettings { catalog, ..GroupSettings::of(&config) }));
        }
        known.1.clone()
    }
}

impl Coordinator {
    fn runtimes(&self) -> impl Iterator<Item = &Arc<PartitionRuntime>> {
        self.places.iter().filter_map(|place| match place {
            Place::Here(runtime) => Some(runtime),
            Place::Elsewhere | Place::Opening => None,
        })
    }

    fn has(&self, runtime: &Arc<PartitionRuntime>) -> bool {
        let place = self.places.get(runtime.id().partition as usize);
        matches!(place, Some(Place::Here(own)) if Arc::ptr_eq(own, runtime))
    }

    fn opening(&self) -> impl Iterator<Item = TopicIdPartition> {
        let topic_id = self.topic.as_ref().map_or(Uuid::ZERO, |topic| topic.id);
        let opening = (0..).zip(&self.places).filter(|(_, place)| matches!(place, Place::Opening));
        opening.map(move |(index, _)| TopicIdPartition::new(topic_id, index))
    }

    /// Whether the topic has not changed since: no leader, no epoch, no partition.
    fn is_of(&self, topic: Option<&Arc<Topic>>) -> bool {
        match (&self.topic, topic) {
            (Some(known), Some(topic)) => Arc::ptr_eq(known, topic),
            (None, None) => true,
            _ => false,
        }
    }
}

/// The broker that looks after a group: the leader of its partition of `__consumer_offsets`.
pub(crate) fn coordinator_of(topic: &Topic, group: &str) -> Option<i32> {
    topic.partitions.get(partition_for(group, topic.partitions.len())).map(|partition| partition.leader)
}

/// Where Kafka keeps a group: Java's `String.hashCode`, its sign taken off, by the number of partitions.
fn partition_for(group: &str, partition_count: usize) -> usize {
    let hash =
        group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's `Utils.abs`: the one number without a positive counterpart counts as 0.
    let hash = hash.checked_abs().unwrap_or(0);
    hash as usize % partition_count.max(1)
}
