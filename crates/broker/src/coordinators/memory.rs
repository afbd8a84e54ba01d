//! How much memory the state of all coordinators of a broker may take: members and what they say about themselves, assignments, committed
//! offsets, transactions, share partitions. Their numbers have bounds too, which say little about bytes: one member may weigh a megabyte.
//!
//! Nobody counts each change of a group. What an event adds is estimated; the state is weighed, all of it, when much was added since the
//! last time, and when the estimate would have something refused, the latter not more often than every few seconds. What comes by replay
//! is counted and never refused: it is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Now;

/// Weighing goes over all of a state.
const WEIGHED_EVERY_MS: u64 = 5_000;
/// A state is weighed again when this part of it was added since the last time, by an estimate: what grows is seen, and weighing costs little
/// beside what is weighed.
const DOUBTFUL_PART: u64 = 4;
/// The same as a part of the limit, for a state that is small yet. Each partition of each topic of coordinators may be so far off.
const DOUBTFUL_PART_OF_LIMIT: u64 = 1_024;

/// What all coordinators of a broker share.
#[derive(Debug)]
pub struct StateMemory {
    limit: u64,
    used: AtomicU64,
}

impl Default for StateMemory {
    fn default() -> Self {
        StateMemory::new(u64::MAX)
    }
}

impl StateMemory {
    pub fn new(limit: u64) -> StateMemory {
        StateMemory { limit, used: AtomicU64::new(0) }
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whoever can go on with less does so.
    pub fn is_full(&self) -> bool {
        self.used() >= self.limit
    }

    pub fn has_room(&self, bytes: u64) -> bool {
        self.used().saturating_add(bytes) <= self.limit
    }
}

/// What the state of one partition weighs, as far as it is known. Given back when the state goes.
#[derive(Debug, Default)]
pub struct Weight {
    memory: Option<Arc<StateMemory>>,
    bytes: u64,
    /// The same when it was weighed.
    weighed_bytes: u64,
    weighed_at_ms: Option<u64>,
}

impl Weight {
    /// May so much be added? If so it is.
    pub fn admits(
        &mut self,
        memory: &Arc<StateMemory>,
        bytes: u64,
        now: Now,
        weigh: impl FnOnce() -> u64,
    ) -> bool {
        let is_old = self.weighed_at_ms.is_none_or(|at| now.monotonic_ms >= at + WEIGHED_EVERY_MS);
        if !memory.has_room(bytes) && is_old || self.is_doubtful(memory) {
            self.set(memory, weigh(), now);
        }
        let has_room = memory.has_room(bytes);
        if has_room {
            self.put(memory, self.bytes + bytes);
        }
        has_room
    }

    /// So much was added, about, and nobody could refuse it any more.
    pub fn note(&mut self, memory: &Arc<StateMemory>, bytes: u64) {
        self.put(memory, self.bytes + bytes);
    }

    /// It has to be weighed.
    pub fn is_doubtful(&self, memory: &StateMemory) -> bool {
        let added = self.bytes.saturating_sub(self.weighed_bytes);
        added > (self.weighed_bytes / DOUBTFUL_PART).max(memory.limit / DOUBTFUL_PART_OF_LIMIT)
    }

    /// The state was weighed.
    pub fn set(&mut self, memory: &Arc<StateMemory>, bytes: u64, now: Now) {
        self.weighed_at_ms = Some(now.monotonic_ms);
        self.put_weighed(memory, bytes);
    }

    /// The same because it was doubtful, which does not happen often.
    pub fn put_weighed(&mut self, memory: &Arc<StateMemory>, bytes: u64) {
        self.weighed_bytes = bytes;
        self.put(memory, bytes);
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of a state that knows at any time what it weighs.
    pub fn put(&mut self, memory: &Arc<StateMemory>, bytes: u64) {
        let memory = self.memory.get_or_insert_with(|| memory.clone());
        memory.used.fetch_add(bytes, Ordering::Relaxed);
        memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_has_become_lighter_is_weighed_anew_and_one_that_goes_weighs_nothing() {
        let memory = Arc::new(StateMemory::new(100));
        let at = |seconds: u64| Now { wall_ms: 0, monotonic_ms: seconds * 1_000 };
        let (mut first, mut second) = (Weight::default(), Weight::default());
        let heavy = || panic!("there is room, nothing has to be weighed");
        assert!(first.admits(&memory, 60, at(0), heavy) && second.admits(&memory, 40, at(0), heavy));
        assert!(!second.admits(&memory, 1, at(1), || 40));
        assert_eq!(memory.used(), 100);
        // Not again at once, whatever it would say.
        assert!(!second.admits(&memory, 1, at(2), || 0));
        assert!(second.admits(&memory, 30, at(6), || 10));
        assert_eq!(memory.used(), 100);
        drop(first);
        assert_eq!(memory.used(), 40);
        // Much was added since it was weighed, and it was not as much as that.
        second.note(&memory, 20);
        assert!(second.admits(&memory, 1, at(7), || 15));
        assert_eq!(memory.used(), 16);
        assert!(second.admits(&memory, 1, at(7), || panic!("little was added")));
        drop(second);
        assert_eq!(memory.used(), 0);
    }
}
