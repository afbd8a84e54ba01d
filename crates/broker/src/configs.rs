//! Effective configs, kept between requests: computing one walks the whole table, and Produce needs it each time.
//!
//! The catalog shares the overrides of a resource behind an `Arc`; as long as the `Arc` is the same, so is the
//! answer. Nothing has to be told about changes.

use std::sync::Arc;

use catalog::config::{BrokerConfig, TopicConfig};
use catalog::{ConfigMap, ResourceType, State, Topic};
use parking_lot::RwLock;
use protocol::Uuid;
use world::collections::HashMap;

/// Snapshots of topics are kept for at most this many more topics than exist, then those of deleted ones go.
const STALE_TOPICS_MAX: usize = 1024;

pub(crate) struct Configs {
    started_with: Arc<BrokerConfig>,
    /// The name of this broker as a config resource.
    node: String,
    broker: RwLock<BrokerEntry>,
    topics: RwLock<HashMap<Uuid, TopicEntry>>,
}

struct BrokerEntry {
    overrides: [Option<ConfigMap>; 2],
    config: Arc<BrokerConfig>,
}

struct TopicEntry {
    overrides: Option<ConfigMap>,
    broker: Arc<BrokerConfig>,
    config: Arc<TopicConfig>,
}

impl Configs {
    pub fn new(started_with: Arc<BrokerConfig>) -> Self {
        let broker = BrokerEntry { overrides: [None, None], config: started_with.clone() };
        Self {
            node: started_with.node_id().to_string(),
            started_with,
            broker: RwLock::new(broker),
            topics: RwLock::default(),
        }
    }

    /// What this broker was started with, without dynamic overrides.
    pub fn started_with(&self) -> &Arc<BrokerConfig> {
        &self.started_with
    }

    /// What this broker runs with now.
    pub fn broker(&self, state: &State) -> Arc<BrokerConfig> {
        let of = |name: &str| state.config(ResourceType::Broker, name).cloned();
        let overrides = [of(&self.node), of("")];
        {
            let entry = self.broker.read();
            if entry.overrides.iter().zip(&overrides).all(|(known, now)| is_same(known, now)) {
                return entry.config.clone();
            }
        }
        let config = Arc::new(self.started_with.effective(state));
        *self.broker.write() = BrokerEntry { overrides, config: config.clone() };
        config
    }

    /// What holds for a topic now.
    pub fn topic(&self, state: &State, topic: &Topic) -> Arc<TopicConfig> {
        let broker = self.broker(state);
        let overrides = state.config(ResourceType::Topic, &topic.name);
        if let Some(entry) = self.topics.read().get(&topic.id)
            && is_same_ref(entry.overrides.as_ref(), overrides)
            && Arc::ptr_eq(&entry.broker, &broker)
        {
            return entry.config.clone();
        }
        let config = Arc::new(TopicConfig::effective(state, &self.started_with, &topic.name));
        let entry = TopicEntry { overrides: overrides.cloned(), broker, config: config.clone() };
        let mut topics = self.topics.write();
        if topics.len() > state.topic_count() + STALE_TOPICS_MAX {
            topics.retain(|id, _| state.topic_by_id(*id).is_some());
        }
        topics.insert(topic.id, entry);
        config
    }
}

fn is_same(known: &Option<ConfigMap>, now: &Option<ConfigMap>) -> bool {
    is_same_ref(known.as_ref(), now.as_ref())
}

fn is_same_ref(known: Option<&ConfigMap>, now: Option<&ConfigMap>) -> bool {
    match (known, now) {
        (Some(known), Some(now)) => Arc::ptr_eq(known, now),
        (None, None) => true,
        _ => false,
    }
}
