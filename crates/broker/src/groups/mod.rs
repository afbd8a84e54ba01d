//! The group coordinator: classic groups, consumer groups of the new protocol (`consumer/`), streams groups (`streams/`), share groups
//! (`share/`), and the committed offsets of those that commit.
//!
//! `shard.rs` is the pure core (start there): events in, records, answers and alarms out. `crate::coordinators` runs one shard for
//! each partition of `__consumer_offsets` that this broker leads. This file makes the topic when the first group is asked for.
//! The API files translate.

mod admin;
mod catalog_view;
mod consumer;
mod entry;
mod event;
mod group;
mod group_records;
mod member;
mod membership;
mod offset_store;
mod offsets;
mod pending;
mod records;
mod replay;
mod settings;
mod shard;
mod share;
mod snapshot;
mod state_machine;
mod streams;
#[cfg(test)]
mod tests;
mod timers;
mod weight;

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::config::BrokerConfig;
use catalog::{Catalog, Topic, topic_name};
use commitlog::{CommitLog, EndTransaction, Partition};
use parking_lot::Mutex;
use protocol::{ErrorCode, Str, Uuid};
use tokio::sync::oneshot;
use world::clock::SharedClock;
use world::rng::Rng;

pub(crate) use consumer::{
    ConsumerHeartbeatAnswer, ConsumerHeartbeatRequest, DescribedConsumer, DescribedTopic, JOINING_EPOCH,
    LEAVING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH, Partitions, Refusal, compile_pattern,
};
pub(crate) use event::*;
pub(crate) use member::OfferedProtocol;
pub(crate) use share::{
    DescribedShareMember, Initialize, ShareHeartbeatAnswer, ShareHeartbeatRequest, ShareStatesAnswer,
};
pub(crate) use streams::{
    ASSIGNOR_NAME as STREAMS_ASSIGNOR, DescribedStreamsMember, Endpoint, InternalTopic,
    JOINING_EPOCH as STREAMS_JOINING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH as STREAMS_LEAVING_FOR_A_WHILE_EPOCH,
    PushedDescription, STREAMS_PROTOCOL_TYPE, Status as StreamsStatus, StatusCode as StreamsStatusCode,
    StreamsHeartbeatAnswer, StreamsHeartbeatRequest, TaskSets, Tasks, Topology,
};

use crate::broker::StartError;
use crate::configs::Configs;
use crate::coordinators::{CoordinatorOptions, Coordinators, PartitionRuntime, StateMemory, partition_for};
use crate::freshness::Freshness;
use crate::gone_topics::SeenTopics;
use crate::internal_topics;
use crate::topics::Topics;
use catalog_view::{OwnCatalog, SharedView};
use settings::GroupSettings;
use shard::Shard;

pub(crate) struct GroupsOptions {
    pub node_id: i32,
    pub clock: SharedClock,
    pub rng: Arc<dyn Rng>,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub configs: Arc<Configs>,
    pub topics: Arc<Topics>,
    pub freshness: Arc<Freshness>,
    pub memory: Arc<StateMemory>,
}

pub(crate) struct Groups {
    options: GroupsOptions,
    coordinators: Coordinators<Shard>,
    settings: Mutex<(Arc<BrokerConfig>, Arc<GroupSettings>)>,
    seen: SeenTopics,
}

/// Groups, members and committed offsets there are, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupCounts {
    pub groups: usize,
    pub members: usize,
    pub offsets: usize,
    pub partitions_loading: usize,
}

impl Groups {
    /// Starts to load what is there. Groups answer COORDINATOR_LOAD_IN_PROGRESS until their partition is read.
    pub async fn start(options: GroupsOptions) -> Result<Arc<Groups>, StartError> {
        let config = options.configs.started_with().clone();
        let view = OwnCatalog { catalog: options.catalog.clone(), configs: options.configs.clone() };
        let catalog = SharedView(Arc::new(view));
        let settings =
            Arc::new(GroupSettings { catalog, memory: options.memory.clone(), ..GroupSettings::of(&config) });
        let coordinators = CoordinatorOptions {
            topic: topic_name::CONSUMER_OFFSETS,
            node_id: options.node_id,
            clock: options.clock.clone(),
            catalog: options.catalog.clone(),
            log: options.log.clone(),
            freshness: options.freshness.clone(),
        };
        let coordinators = Coordinators::new(coordinators, None);
        let settings = Mutex::new((config, settings));
        let groups = Arc::new(Groups { options, coordinators, settings, seen: SeenTopics::default() });
        groups.follow_catalog();
        Ok(groups)
    }

    /// To be called when the catalog has changed, and when the log has opened or closed partitions: starts and stops what
    /// follows from it, and drops the offsets of topics that are gone. Any number of tasks may call it at any time; it looks
    /// at what is so now, and when nothing has changed it does nothing.
    pub fn follow_catalog(&self) {
        self.coordinators.follow_leaders(&self.settings());
        let gone = self.seen.gone(&self.options.catalog);
        if !gone.is_empty() {
            self.drop_offsets_of(&gone);
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
        self.coordinators.follow_leaders(&self.settings());
        Ok(())
    }

    /// An event of one group that is answered at once.
    pub fn with<R>(
        &self,
        group: &str,
        event: impl FnOnce(&mut Shard, Now, &mut Effects) -> R,
    ) -> Result<R, ErrorCode> {
        self.partition_of(group)?.with(&self.settings(), event)
    }

    /// An event of one group whose answer may come later.
    pub async fn ask(
        &self,
        group: &str,
        event: impl FnOnce(&mut Shard, ReplyId, Now, &mut Effects),
    ) -> Result<Answer, ErrorCode> {
        self.partition_of(group)?.ask(&self.settings(), event).await
    }

    /// Ends a transaction in a partition of `__consumer_offsets`; the marker stands in the log's queue on return.
    pub fn end_transaction(
        &self,
        index: i32,
        marker: EndTransaction,
    ) -> Result<(Arc<PartitionRuntime<Shard>>, oneshot::Receiver<Answer>), ErrorCode> {
        let settings = self.settings();
        let runtime = self.coordinators.at(index, &settings)?;
        let answer = runtime.end_transaction(&settings, marker)?;
        Ok((runtime, answer))
    }

    /// Where the offsets of a group stand, if this broker looks after it.
    pub fn offsets_partition(&self, group: &str) -> Result<Arc<Partition>, ErrorCode> {
        Ok(self.partition_of(group)?.partition().clone())
    }

    /// Every group that this broker looks after.
    pub fn list(&self) -> Result<Vec<ListedGroup>, ErrorCode> {
        let settings = self.settings();
        let mut listed = Vec::new();
        for runtime in self.coordinators.all(&settings) {
            match runtime?.with(&settings, |shard, _, _| shard.list()) {
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
        self.drop_offsets_of(&[(topic.name.clone(), topic.id)]);
    }

    pub fn counts(&self) -> GroupCounts {
        let mut counts = GroupCounts::default();
        for runtime in self.coordinators.all(&self.settings()) {
            let Ok(runtime) = runtime else {
                counts.partitions_loading += 1;
                continue;
            };
            runtime.look(|shard| {
                counts.groups += shard.group_count();
                counts.members += shard.member_count();
                counts.offsets += shard.offset_count();
            });
            counts.partitions_loading += usize::from(runtime.is_loading());
        }
        counts
    }

    /// Ends all waiting and lets what was handed to the log land. Groups stay in the log as they are.
    pub async fn shutdown(&self) {
        self.coordinators.shutdown().await;
    }

    fn partition_of(&self, group: &str) -> Result<Arc<PartitionRuntime<Shard>>, ErrorCode> {
        self.coordinators.of(group, &self.settings())
    }

    fn topic(&self) -> Option<Arc<Topic>> {
        self.coordinators.topic()
    }

    fn drop_offsets_of(&self, deleted: &[(Str, Uuid)]) {
        let settings = self.settings();
        for runtime in self.coordinators.all(&settings).into_iter().flatten() {
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
            let (catalog, memory) = (known.1.catalog.clone(), known.1.memory.clone());
            let settings = GroupSettings { catalog, memory, ..GroupSettings::of(&config) };
            *known = (config.clone(), Arc::new(settings));
        }
        known.1.clone()
    }
}
