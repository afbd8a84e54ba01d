//! Effective configs, kept between requests: computing one walks the whole table, and Produce and the heartbeats of groups need it
//! each time.
//!
//! The catalog shares the overrides of a resource behind an `Arc`; as long as the `Arc` is the same, so is the
//! answer. Nothing has to be told about changes.

use std::sync::Arc;

use catalog::config::{BrokerConfig, GroupConfig, TopicConfig};
use catalog::{ConfigMap, ResourceType, State, Topic};
use parking_lot::RwLock;
use protocol::{Str, Uuid};
use world::collections::HashMap;

/// Snapshots of topics are kept for at most this many more topics than exist, then those of deleted ones go.
const STALE_TOPICS_MAX: usize = 1024;
/// Groups with configs of their own whose snapshots are kept.
const OWN_GROUPS_MAX: usize = 4096;

pub(crate) struct Configs {
    started_with: Arc<BrokerConfig>,
    /// The name of this broker as a config resource.
    node: String,
    broker: RwLock<BrokerEntry>,
    topics: RwLock<HashMap<Uuid, Entry<TopicConfig>>>,
    /// What holds for every group without configs of its own.
    groups: RwLock<Option<Entry<GroupConfig>>>,
    own_groups: RwLock<HashMap<Str, Entry<GroupConfig>>>,
}

struct BrokerEntry {
    overrides: [Option<ConfigMap>; 2],
    config: Arc<BrokerConfig>,
}

/// Of a topic or a group.
struct Entry<C> {
    overrides: Option<ConfigMap>,
    broker: Arc<BrokerConfig>,
    config: Arc<C>,
}

impl<C> Entry<C> {
    /// What it says, if that is so now.
    fn holds(&self, overrides: Option<&ConfigMap>, broker: &Arc<BrokerConfig>) -> Option<Arc<C>> {
        let is_same = is_same_ref(self.overrides.as_ref(), overrides) && Arc::ptr_eq(&self.broker, broker);
        is_same.then(|| self.config.clone())
    }
}

impl Configs {
    pub fn new(started_with: Arc<BrokerConfig>) -> Self {
        let broker = BrokerEntry { overrides: [None, None], config: started_with.clone() };
        Self {
            node: started_with.node_id().to_string(),
            started_with,
            broker: RwLock::new(broker),
            topics: RwLock::default(),
            groups: RwLock::default(),
            own_groups: RwLock::default(),
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
        let known = self.topics.read().get(&topic.id).and_then(|entry| entry.holds(overrides, &broker));
        if let Some(config) = known {
            return config;
        }
        let config = Arc::new(TopicConfig::effective(state, &self.started_with, &topic.name));
        let entry = Entry { overrides: overrides.cloned(), broker, config: config.clone() };
        let mut topics = self.topics.write();
        if topics.len() > state.topic_count() + STALE_TOPICS_MAX {
            topics.retain(|id, _| state.topic_by_id(*id).is_some());
        }
        topics.insert(topic.id, entry);
        config
    }

    /// What holds for a group now. One that does not exist gets what a new one would have.
    pub fn group(&self, state: &State, group: &str) -> Arc<GroupConfig> {
        let broker = self.broker(state);
        let overrides = state.config(ResourceType::Group, group);
        let known = match overrides {
            None => self.groups.read().as_ref().and_then(|entry| entry.holds(None, &broker)),
            Some(_) => self.own_groups.read().get(group).and_then(|entry| entry.holds(overrides, &broker)),
        };
        if let Some(config) = known {
            return config;
        }
        let config = Arc::new(GroupConfig::effective(state, &self.started_with, group));
        let entry = Entry { overrides: overrides.cloned(), broker, config: config.clone() };
        match overrides {
            None => *self.groups.write() = Some(entry),
            Some(_) => {
                let mut own_groups = self.own_groups.write();
                if own_groups.len() >= OWN_GROUPS_MAX {
                    own_groups.clear();
                }
                own_groups.insert(group.into(), entry);
            }
        }
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
