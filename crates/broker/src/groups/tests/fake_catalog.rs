//! A catalog that tests change as they like.

use std::sync::Arc;

use catalog::config::GroupConfig;
use parking_lot::Mutex;
use protocol::{Str, Uuid};

use super::super::catalog_view::{CatalogView, KnownTopic, SharedView};
use super::super::settings::GroupSettings;

#[derive(Default)]
pub struct FakeCatalog {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    version: u64,
    topics: Vec<KnownTopic>,
    config: GroupConfig,
}

impl FakeCatalog {
    pub fn with(topics: &[(&str, i32)]) -> Arc<FakeCatalog> {
        let catalog = Arc::new(FakeCatalog::default());
        topics.iter().for_each(|(name, partition_count)| catalog.put(name, *partition_count));
        catalog
    }

    pub fn settings(self: &Arc<Self>) -> GroupSettings {
        GroupSettings { catalog: SharedView(self.clone()), ..GroupSettings::default() }
    }

    pub fn id(name: &str) -> Uuid {
        let bytes = name.bytes().fold(7u128, |id, byte| id.wrapping_mul(257).wrapping_add(byte.into()));
        Uuid::from_u128(bytes)
    }

    /// A topic is made, or gets partitions.
    pub fn put(&self, name: &str, partition_count: i32) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        inner.topics.retain(|topic| topic.name != name);
        inner.topics.push(KnownTopic { id: FakeCatalog::id(name), name: name.into(), partition_count });
        inner.topics.sort_by(|left, right| left.name.cmp(&right.name));
    }

    pub fn remove(&self, name: &str) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        inner.topics.retain(|topic| topic.name != name);
    }

    pub fn configure(&self, change: impl FnOnce(&mut GroupConfig)) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        change(&mut inner.config);
    }

    pub fn partition_count(&self, name: &str) -> i32 {
        self.topic(name).map_or(0, |topic| topic.partition_count)
    }
}

impl CatalogView for FakeCatalog {
    fn version(&self) -> u64 {
        self.inner.lock().version
    }

    fn topic(&self, name: &str) -> Option<KnownTopic> {
        self.inner.lock().topics.iter().find(|topic| topic.name == name).cloned()
    }

    fn topic_by_id(&self, id: Uuid) -> Option<KnownTopic> {
        self.inner.lock().topics.iter().find(|topic| topic.id == id).cloned()
    }

    fn topic_names(&self, holds_for: &dyn Fn(&str) -> bool) -> Vec<Str> {
        let names: Vec<Str> = self.inner.lock().topics.iter().map(|topic| topic.name.clone()).collect();
        names.into_iter().filter(|name| holds_for(name)).collect()
    }

    fn group_config(&self, _group: &str) -> Arc<GroupConfig> {
        Arc::new(self.inner.lock().config.clone())
    }
}
