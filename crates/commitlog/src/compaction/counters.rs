//! What compaction did so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::cleaner::Cleaned;

#[derive(Debug, Default)]
pub struct CompactionCounters {
    pub rounds: AtomicU64,
    pub bytes_read: AtomicU64,
    /// Of batches that stayed.
    pub bytes_kept: AtomicU64,
    pub records_removed: AtomicU64,
    /// How long rounds took, summed.
    pub nanos: AtomicU64,
    /// When the last one ended, in milliseconds since 1970; 0 before the first.
    pub last_round_ms: AtomicU64,
    /// Memory for keys just now; bound `keys_bytes_max`.
    pub keys_bytes: AtomicU64,
    /// Partitions that are left alone until the next start, and their bytes.
    pub uncleanable_partitions: AtomicU64,
    pub uncleanable_bytes: AtomicU64,
}

impl CompactionCounters {
    pub(crate) fn count(&self, cleaned: &Cleaned, took: Duration, now_ms: i64) {
        let add = |counter: &AtomicU64, by: u64| {
            counter.fetch_add(by, Ordering::Relaxed);
        };
        add(&self.rounds, 1);
        add(&self.bytes_read, cleaned.bytes_read);
        add(&self.bytes_kept, cleaned.bytes_kept);
        add(&self.records_removed, cleaned.records_read - cleaned.records_kept);
        add(&self.nanos, took.as_nanos() as u64);
        self.last_round_ms.store(now_ms.max(0) as u64, Ordering::Relaxed);
    }
}
