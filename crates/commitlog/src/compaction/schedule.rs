//! Which partition is compacted next, and which are not any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use protocol::TopicIdPartition;

use super::CompactionCounters;
use super::partition::{Candidate, Readable};
use crate::partition::Partition;

#[derive(Default)]
pub struct Schedule {
    /// There was nothing to do: until then it is not looked again.
    resting_until: Option<Duration>,
    /// Damaged, or something that we do not understand: left alone until the next start, as Kafka does.
    uncleanable: BTreeMap<TopicIdPartition, u64>,
}

impl Schedule {
    pub fn is_resting(&self, now: Duration) -> bool {
        self.resting_until.is_some_and(|until| now < until)
    }

    pub fn rest(&mut self, until: Duration) {
        self.resting_until = Some(until);
    }

    /// The one with the largest dirty part of those that are due.
    pub fn filthiest(
        &self,
        partitions: Vec<Arc<Partition>>,
        now_ms: i64,
        readable: Readable,
        room: u64,
    ) -> Option<(Arc<Partition>, Candidate)> {
        let candidate = |partition: Arc<Partition>| {
            let candidate = partition.compaction_candidate(now_ms, readable)?;
            Some((partition, candidate))
        };
        let is_due = |(partition, candidate): &(Arc<Partition>, Candidate)| {
            candidate.is_due
                && candidate.clean_bytes + candidate.cleanable_bytes <= room
                && !self.uncleanable.contains_key(&partition.id())
        };
        let due = partitions.into_iter().filter_map(candidate).filter(is_due);
        due.max_by(|(_, one), (_, other)| one.ratio().total_cmp(&other.ratio()))
    }

    pub fn give_up(
        &mut self,
        partition: &Partition,
        why: &dyn std::fmt::Display,
        counters: &CompactionCounters,
    ) {
        tracing::error!("{} is not compacted until the next start: {why}", partition.id());
        self.uncleanable.insert(partition.id(), partition.size_bytes());
        counters.uncleanable_partitions.store(self.uncleanable.len() as u64, Ordering::Relaxed);
        counters.uncleanable_bytes.store(self.uncleanable.values().sum(), Ordering::Relaxed);
    }
}
