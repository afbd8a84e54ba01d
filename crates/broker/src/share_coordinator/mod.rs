//! The share coordinator: keeps for each share partition (a group's view of a partition) which records are done (KIP-932).
//!
//! `shard.rs` is the pure core (start there). `crate::coordinators` runs one for each partition of `__share_group_state` that this
//! broker leads. `state.rs` is what is kept of a share partition, `records.rs` how it is written. `persister.rs` is how leaders and
//! group coordinators reach the coordinator of a share partition, here or at another broker (`messages.rs`).

mod event;
mod messages;
mod persister;
mod records;
mod settings;
mod shard;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use catalog::config::BrokerConfig;
use catalog::{Catalog, Topic, topic_name};
use commitlog::CommitLog;
use futures_util::future::join_all;
use parking_lot::Mutex;
use protocol::{ErrorCode, Uuid};
use world::clock::SharedClock;

pub(crate) use event::{Answer, Asked, ReadState, Refusal, Told, WriteState};
pub(crate) use messages::{Question, SHARE_STATE};
#[cfg(test)]
pub(crate) use state::KeptState;
pub(crate) use state::{NO_COUNT, NO_EPOCH, NO_START_OFFSET, ShareKey, StateBatch};

use crate::configs::Configs;
use crate::coordinators::{CoordinatorOptions, Coordinators, PartitionRuntime, StateMemory};
use crate::freshness::Freshness;
use crate::gone_topics::SeenTopics;
use crate::internal_topics;
use crate::peers::Others;
use crate::topics::Topics;
use settings::{PartitionCounts, ShareCoordinatorSettings};
use shard::ShareShard;

pub(crate) struct ShareCoordinatorOptions {
    pub node_id: i32,
    pub clock: SharedClock,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub configs: Arc<Configs>,
    pub topics: Arc<Topics>,
    pub freshness: Arc<Freshness>,
    /// None: there are no others, or no way to them.
    pub others: Option<Arc<Others>>,
    pub memory: Arc<StateMemory>,
}

pub(crate) struct ShareCoordinator {
    options: ShareCoordinatorOptions,
    coordinators: Coordinators<ShareShard>,
    settings: Mutex<(Arc<BrokerConfig>, Arc<ShareCoordinatorSettings>)>,
    seen: SeenTopics,
}

/// Share partitions there are, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShareStateCounts {
    pub share_partitions: usize,
    pub partitions_loading: usize,
}

impl ShareCoordinator {
    /// Starts to load what is there. Share partitions answer COORDINATOR_LOAD_IN_PROGRESS until their partition is read.
    pub fn start(options: ShareCoordinatorOptions) -> Arc<ShareCoordinator> {
        let coordinators = CoordinatorOptions {
            topic: topic_name::SHARE_GROUP_STATE,
            node_id: options.node_id,
            clock: options.clock.clone(),
            catalog: options.catalog.clone(),
            log: options.log.clone(),
            freshness: options.freshness.clone(),
        };
        let catalog = options.catalog.clone();
        let topics = PartitionCounts(Arc::new(move |topic: Uuid| {
            let state = catalog.read();
            state.topic_by_id(topic).map(|topic| i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX))
        }));
        let config = options.configs.started_with().clone();
        let settings = Arc::new(ShareCoordinatorSettings::of(&config, topics, options.memory.clone()));
        let coordinator = Arc::new(ShareCoordinator {
            coordinators: Coordinators::new(coordinators, None),
            settings: Mutex::new((config, settings)),
            seen: SeenTopics::default(),
            options,
        });
        coordinator.follow_catalog();
        coordinator
    }

    /// To be called when the catalog has changed, and when the log has opened or closed partitions.
    pub fn follow_catalog(&self) {
        self.coordinators.follow_leaders(&self.settings());
        if !self.seen.gone(&self.options.catalog).is_empty() {
            self.topics_deleted();
        }
    }

    /// Topics are gone: so is the state of their share partitions. Not waited for; the next start does it as well.
    pub fn topics_deleted(&self) {
        let settings = self.settings();
        for runtime in self.coordinators.all(&settings).into_iter().flatten() {
            // One that still loads looks for gone topics when it is done.
            let _ = runtime.with(&settings, |shard, _, effects| shard.drop_gone_topics(effects));
        }
    }

    /// Makes `__share_group_state`, should it not be there.
    pub async fn ensure_topic(&self) -> Result<(), ErrorCode> {
        // Another broker may have made it a moment ago.
        if self.topic().is_none() {
            self.options.freshness.catch_up().await;
        }
        if self.topic().is_none() {
            let made = internal_topics::ensure_share_group_state(&self.options.topics, &self.config()).await;
            made.map_err(|error| {
                tracing::error!(?error, "the topic of the share coordinator cannot be made");
                ErrorCode::CoordinatorNotAvailable
            })?;
        }
        self.follow_catalog();
        Ok(())
    }

    /// Questions about share partitions that this broker looks after; each is answered on its own.
    pub async fn ask_here(&self, group: &protocol::Str, questions: Vec<Question>) -> Vec<Answer> {
        let asked = questions.into_iter().map(|(topic, partition, asked)| async move {
            self.ask_one(ShareKey { group: group.clone(), topic, partition }, asked).await
        });
        join_all(asked).await
    }

    /// An answer that was not made by a record of its own says something about the state, so it passes the barrier (R20): a coordinator
    /// that was taken over from would say that nothing is there.
    async fn ask_one(&self, key: ShareKey, asked: Asked) -> Answer {
        let settings = self.settings();
        let id = key.coordinator_key();
        let runtime = self.coordinators.of(&id, &settings)?;
        let mut has_written = false;
        let answer = runtime.ask(&settings, |shard, reply, now, effects| {
            shard.ask(&key, &asked, reply, now, effects);
            has_written = !effects.writes.is_empty();
        });
        let answer = answer.await?;
        match has_written || self.still_knows(&id, &runtime).await {
            true => answer,
            false => Err(ErrorCode::NotCoordinator.into()),
        }
    }

    /// Passes the barrier: is this the coordinator, and was it all the time?
    async fn still_knows(&self, id: &str, runtime: &Arc<PartitionRuntime<ShareShard>>) -> bool {
        let knows = self.options.log.barrier().await.is_ok();
        let now = self.coordinators.of(id, &self.settings());
        knows && now.is_ok_and(|now| Arc::ptr_eq(&now, runtime)) && !runtime.partition().is_leaving()
    }

    /// What another broker asks. None: it cannot be understood.
    pub async fn answer(&self, api_key: i16, body: Bytes) -> Option<Bytes> {
        if api_key != SHARE_STATE {
            return None;
        }
        let (group, questions) = messages::decode_questions(body).ok()?;
        messages::encode_answers(&self.ask_here(&group, questions).await).ok()
    }

    pub fn counts(&self) -> ShareStateCounts {
        let mut counts = ShareStateCounts::default();
        for runtime in self.coordinators.all(&self.settings()) {
            let Ok(runtime) = runtime else {
                counts.partitions_loading += 1;
                continue;
            };
            counts.share_partitions += runtime.look(ShareShard::state_count);
            counts.partitions_loading += usize::from(runtime.is_loading());
        }
        counts
    }

    /// Ends all waiting and lets what was handed to the log land.
    pub async fn shutdown(&self) {
        self.coordinators.shutdown().await;
    }

    fn topic(&self) -> Option<Arc<Topic>> {
        self.coordinators.topic()
    }

    fn config(&self) -> Arc<BrokerConfig> {
        self.options.configs.broker(&self.options.catalog.read())
    }

    /// Settings as the broker's configs have them now.
    fn settings(&self) -> Arc<ShareCoordinatorSettings> {
        let config = self.config();
        let mut known = self.settings.lock();
        if !Arc::ptr_eq(&known.0, &config) {
            let (topics, memory) = (known.1.topics.clone(), known.1.memory.clone());
            *known = (config.clone(), Arc::new(ShareCoordinatorSettings::of(&config, topics, memory)));
        }
        known.1.clone()
    }
}
