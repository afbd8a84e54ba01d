//! A commit is durable: offsets move, answers leave, fetches wake. The same on every medium.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::CommitError;
use crate::log::{LogState, Shared};
use crate::partition::{CommitWaiter, extent_of};
use crate::wal::{Chunk, Gather};

/// `file` and `offset` say where the chunk stands.
pub fn publish(shared: &Shared, chunk: &Chunk, gather: &Gather, file: u64, offset: u64) {
    let number = chunk.header.number;
    let kept = chunk.bytes.slice(..chunk.header.footer_at() as usize);
    shared.tail.lock().push(number, kept);
    let mut woken: Vec<CommitWaiter> = Vec::new();
    let mut rest = gather.batches.as_slice();
    for extent in &chunk.footer.extents {
        let (own, others) = rest.split_at(extent.entry_count);
        rest = others;
        let partition = &own[0].partition;
        assert_eq!(partition.id(), extent.id, "footer and queue name the same partition");
        let placed = extent_of(extent, file, offset, number);
        let entries = chunk.footer.entries_of(extent);
        woken.extend(partition.commit(placed, entries, chunk.header.created_ms));
    }
    for start in &gather.log_starts {
        if let Some(partition) = shared.partition(&start.id) {
            partition.commit_log_start(start.offset as i64);
        }
    }
    end_group(shared, gather, Ok(()));
    woken.iter().for_each(CommitWaiter::wake);
}

pub fn end_group(shared: &Shared, gather: &Gather, result: Result<(), CommitError>) {
    // With the negative control the group ends before the write; a write that then fails has nobody to tell.
    if gather.group.finish(result) {
        shared.flushed(gather.bytes);
    }
}

/// However the writer ends, nobody goes on waiting for it.
pub struct GoneGuard {
    pub shared: Arc<Shared>,
}

impl Drop for GoneGuard {
    fn drop(&mut self) {
        if !self.shared.closing.load(Ordering::Acquire) {
            self.shared.set_state(LogState::Failed("the task that writes is gone: a bug, see above".into()));
        }
        self.shared.medium.close();
        // Dropped, they tell those who wait.
        drop(std::mem::take(&mut *self.shared.gathers.lock()));
    }
}
