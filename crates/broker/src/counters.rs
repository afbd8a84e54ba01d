//! What the broker counts: traffic per topic and in all. `server` counts requests and times them; `cli` renders
//! both. Plain atomics, read without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use catalog::Topic;
use parking_lot::RwLock;
use protocol::{Str, Uuid};
use world::collections::HashMap;

/// Kafka's `BrokerTopicMetrics`, of one topic or of all together.
#[derive(Debug, Default)]
pub struct TopicCounters {
    pub messages_in: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    pub produce_requests: AtomicU64,
    pub fetch_requests: AtomicU64,
    pub failed_produce_requests: AtomicU64,
    pub failed_fetch_requests: AtomicU64,
}

impl TopicCounters {
    pub fn snapshot(&self) -> TopicCountersSnapshot {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TopicCountersSnapshot {
            messages_in: load(&self.messages_in),
            bytes_in: load(&self.bytes_in),
            bytes_out: load(&self.bytes_out),
            produce_requests: load(&self.produce_requests),
            fetch_requests: load(&self.fetch_requests),
            failed_produce_requests: load(&self.failed_produce_requests),
            failed_fetch_requests: load(&self.failed_fetch_requests),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicCountersSnapshot {
    pub messages_in: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub produce_requests: u64,
    pub fetch_requests: u64,
    pub failed_produce_requests: u64,
    pub failed_fetch_requests: u64,
}

#[derive(Debug)]
pub struct Counters {
    pub all_topics: TopicCounters,
    /// Batches that were not stored byte for byte as they came (recompression, append time).
    pub batches_rewritten: AtomicU64,
    /// Fetches that had to wait for data.
    pub fetches_delayed: AtomicU64,
    pub fetches_expired: AtomicU64,
    /// Of what was read from partitions that other brokers lead; in `bytes_out` as well.
    pub replica_bytes_out: AtomicU64,
    /// What callers may not do.
    pub authorizations_refused: AtomicU64,
    /// How often a client that has used more than its quota was made to wait.
    pub quota_waits: AtomicU64,
    /// WALs of other brokers that this one has ended.
    pub takeovers: AtomicU64,
    /// Partitions that this broker gave to others because it had much more traffic than they.
    pub leaders_moved_for_load: AtomicU64,
    /// The same because the leaders of their topics were in too few zones.
    pub leaders_moved_for_zones: AtomicU64,
    /// Partitions that this broker leads and cannot open now: the bucket does not answer, or something of them is damaged.
    pub partitions_not_open: AtomicU64,
    topics: RwLock<HashMap<Uuid, (Str, Arc<TopicCounters>)>>,
    topics_max: usize,
}

impl Counters {
    pub(crate) fn new(topics_max: usize) -> Self {
        Self {
            all_topics: TopicCounters::default(),
            batches_rewritten: AtomicU64::new(0),
            fetches_delayed: AtomicU64::new(0),
            fetches_expired: AtomicU64::new(0),
            replica_bytes_out: AtomicU64::new(0),
            authorizations_refused: AtomicU64::new(0),
            quota_waits: AtomicU64::new(0),
            takeovers: AtomicU64::new(0),
            leaders_moved_for_load: AtomicU64::new(0),
            leaders_moved_for_zones: AtomicU64::new(0),
            partitions_not_open: AtomicU64::new(0),
            topics: RwLock::default(),
            topics_max,
        }
    }

    /// Counters of a topic; none beyond the limit, then only the totals count.
    pub(crate) fn topic(&self, topic: &Topic) -> Option<Arc<TopicCounters>> {
        if let Some((_, counters)) = self.topics.read().get(&topic.id) {
            return Some(counters.clone());
        }
        let mut topics = self.topics.write();
        if topics.len() >= self.topics_max && !topics.contains_key(&topic.id) {
            return None;
        }
        let new = || (topic.name.clone(), Arc::default());
        Some(topics.entry(topic.id).or_insert_with(new).1.clone())
    }

    pub(crate) fn forget_topic(&self, id: Uuid) {
        self.topics.write().remove(&id);
    }

    pub fn topics_limit(&self) -> usize {
        self.topics_max
    }

    /// All topics that have counters, ordered by name.
    pub fn topics(&self) -> Vec<(Str, TopicCountersSnapshot)> {
        let topics = self.topics.read();
        let mut all: Vec<_> =
            topics.values().map(|(name, counters)| (name.clone(), counters.snapshot())).collect();
        all.sort_by(|left, right| left.0.cmp(&right.0));
        all
    }

    /// Counts on the topic and on the total.
    pub(crate) fn add(
        &self,
        topic: Option<&TopicCounters>,
        which: fn(&TopicCounters) -> &AtomicU64,
        amount: u64,
    ) {
        which(&self.all_topics).fetch_add(amount, Ordering::Relaxed);
        if let Some(topic) = topic {
            which(topic).fetch_add(amount, Ordering::Relaxed);
        }
    }
}
