//! Topics that were there at the last look and are not there now.

use std::sync::Arc;

use catalog::{Catalog, Topic};
use parking_lot::Mutex;
use protocol::{Str, Uuid};

/// All topics as the last look found them. The catalog shares a topic for as long as nothing of it changes.
#[derive(Default)]
pub(crate) struct SeenTopics(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    position: u64,
    /// Ordered by name.
    topics: Vec<Arc<Topic>>,
}

impl SeenTopics {
    /// In a catalog of our own only we delete topics, and whoever has to do with it is told. In a shared one this is asked with every
    /// change, and few of those have to do with topics: then it is a walk along pointers.
    pub fn gone(&self, catalog: &Catalog) -> Vec<(Str, Uuid)> {
        if !catalog.is_shared() {
            return Vec::new();
        }
        let mut seen = self.0.lock();
        let state = catalog.read();
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
}
