//! Place of helper `groups`.
use std::sync::Arc;

use catalog::{Catalog, Topic};
use commitlog::CommitLog;
use world::clock::SharedClock;
use world::rng::Rng;

use crate::broker::StartError;
use crate::configs::Configs;
use crate::topics::Topics;

pub(crate) struct GroupsOptions {
    pub clock: SharedClock,
    pub rng: Arc<dyn Rng>,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub configs: Arc<Configs>,
    pub topics: Arc<Topics>,
    pub node_id: i32,
}

pub(crate) struct Groups;

impl Groups {
    pub async fn start(_options: GroupsOptions) -> Result<Arc<Groups>, StartError> {
        Ok(Arc::new(Groups))
    }

    pub async fn topic_deleted(&self, _topic: &Topic) {}

    pub async fn shutdown(&self) {}
}
