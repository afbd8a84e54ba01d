//! What groups ask the catalog: topics, and configs of groups. The shard stays pure: the same answers, the same effects.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use catalog::Catalog;
use catalog::config::GroupConfig;
use protocol::{Str, Uuid};

use crate::configs::Configs;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownTopic {
    pub id: Uuid,
    pub name: Str,
    pub partition_count: i32,
}

pub trait CatalogView: Send + Sync {
    /// Changes whenever an answer may have changed.
    fn version(&self) -> u64;
    fn topic(&self, name: &str) -> Option<KnownTopic>;
    fn topic_by_id(&self, id: Uuid) -> Option<KnownTopic>;
    /// The names of all topics that a test holds for.
    fn topic_names(&self, holds_for: &dyn Fn(&str) -> bool) -> Vec<Str>;
    fn group_config(&self, group: &str) -> Arc<GroupConfig>;
}

/// A view that many share.
#[derive(Clone)]
pub struct SharedView(pub Arc<dyn CatalogView>);

impl std::ops::Deref for SharedView {
    type Target = dyn CatalogView;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for SharedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "catalog at {}", self.version())
    }
}

/// The catalog of this broker.
pub struct OwnCatalog {
    pub catalog: Arc<Catalog>,
    pub configs: Arc<Configs>,
}

impl CatalogView for OwnCatalog {
    fn version(&self) -> u64 {
        self.catalog.read().position()
    }

    fn topic(&self, name: &str) -> Option<KnownTopic> {
        self.catalog.read().topic(name).map(|topic| known(topic))
    }

    fn topic_by_id(&self, id: Uuid) -> Option<KnownTopic> {
        self.catalog.read().topic_by_id(id).map(|topic| known(topic))
    }

    fn topic_names(&self, holds_for: &dyn Fn(&str) -> bool) -> Vec<Str> {
        // The names are gathered first: a test may take long, and nothing of the catalog changes while it is read.
        let names: Vec<Str> = self.catalog.read().topics().map(|topic| topic.name.clone()).collect();
        names.into_iter().filter(|name| holds_for(name)).collect()
    }

    fn group_config(&self, group: &str) -> Arc<GroupConfig> {
        self.configs.group(&self.catalog.read(), group)
    }
}

fn known(topic: &catalog::Topic) -> KnownTopic {
    let partition_count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    KnownTopic { id: topic.id, name: topic.name.clone(), partition_count }
}

/// Of those of these topics that exist, with their numbers of partitions. 0: none.
pub fn metadata_hash<'a>(names: impl IntoIterator<Item = &'a Str>, view: &dyn CatalogView) -> i64 {
    let topics = names.into_iter().filter_map(|name| view.topic(name));
    let topics: BTreeMap<Uuid, i32> = topics.map(|topic| (topic.id, topic.partition_count)).collect();
    if topics.is_empty() {
        return 0;
    }
    // FNV-1a. Only compared with what we wrote ourselves: after a broker of Kafka there is one rebalance more.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for (id, partition_count) in topics {
        for byte in id.0.into_iter().chain(partition_count.to_be_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash as i64
}

/// Nothing is there, and groups have Kafka's defaults.
#[derive(Debug)]
pub struct EmptyCatalog;

impl CatalogView for EmptyCatalog {
    fn version(&self) -> u64 {
        0
    }

    fn topic(&self, _name: &str) -> Option<KnownTopic> {
        None
    }

    fn topic_by_id(&self, _id: Uuid) -> Option<KnownTopic> {
        None
    }

    fn topic_names(&self, _holds_for: &dyn Fn(&str) -> bool) -> Vec<Str> {
        Vec::new()
    }

    fn group_config(&self, _group: &str) -> Arc<GroupConfig> {
        Arc::default()
    }
}
