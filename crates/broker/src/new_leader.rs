//! Partitions that this broker has begun to lead a moment ago.
//!
//! A client has up to five batches of a partition under way. When the first of them comes a moment too early, it is told that nobody leads
//! here yet; the second one may find the partition open:
//!
//! ```text
//!   client  ─ 596 ─ 598 ─ 599 ─▶            596: NOT_LEADER_OR_FOLLOWER    ║ open ║    598: a sequence is missing
//! ```
//! OUT_OF_ORDER_SEQUENCE_NUMBER would be right and do harm: librdkafka then gives its producer a new epoch, and sends what it has in doubt in
//! *any* partition once more under it, as something new; what was stored and not acknowledged is there twice. A producer that nobody knows yet
//! would be believed that 598 is its first, and librdkafka takes 596 for stored when 598 is. So a leader that is new tells both to
//! come again (NOT_LEADER_OR_FOLLOWER), and they come in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use protocol::TopicIdPartition;
use world::clock::SharedClock;

/// As many as are led here at most.
pub(crate) struct NewLeaderships {
    clock: SharedClock,
    /// How long one is new.
    lasts: Duration,
    known: Mutex<BTreeMap<TopicIdPartition, Known>>,
    /// Produce need not look otherwise.
    are_some: AtomicBool,
}

struct Known {
    /// Monotonic. None: it is being opened.
    open_since: Option<Duration>,
    /// Another broker led it before.
    is_from_another: bool,
}

impl NewLeaderships {
    pub fn new(clock: SharedClock, lasts: Duration) -> NewLeaderships {
        NewLeaderships { clock, lasts, known: Mutex::default(), are_some: AtomicBool::new(false) }
    }

    /// Before they are opened, or are to go to another broker: between that and [`Self::opened`] clients may be there.
    pub fn opening(&self, ids: impl Iterator<Item = TopicIdPartition>, is_from_another: bool) {
        let mut known = self.known.lock();
        known.extend(ids.map(|id| (id, Known { open_since: None, is_from_another })));
        self.are_some.store(!known.is_empty(), Ordering::Release);
    }

    /// Of those the ones that are open here now; the others are forgotten until they are tried again.
    pub fn opened(
        &self,
        ids: impl Iterator<Item = TopicIdPartition>,
        is_open: impl Fn(&TopicIdPartition) -> bool,
    ) {
        let now = self.clock.monotonic();
        let mut known = self.known.lock();
        for id in ids {
            match known.get_mut(&id) {
                Some(one) if is_open(&id) => one.open_since = Some(now),
                _ => drop(known.remove(&id)),
            }
        }
    }

    pub fn has(&self, id: &TopicIdPartition) -> bool {
        let is_new = |known: &Known| self.is_new(known, self.clock.monotonic());
        self.are_some.load(Ordering::Acquire) && self.known.lock().get(id).is_some_and(is_new)
    }

    /// Those that came from other brokers. What is not new any more is forgotten.
    pub fn received(&self) -> BTreeSet<TopicIdPartition> {
        let now = self.clock.monotonic();
        let mut known = self.known.lock();
        known.retain(|_, known| self.is_new(known, now));
        self.are_some.store(!known.is_empty(), Ordering::Release);
        known.iter().filter(|(_, known)| known.is_from_another).map(|(id, _)| *id).collect()
    }

    fn is_new(&self, known: &Known, now: Duration) -> bool {
        known.open_since.is_none_or(|since| now.saturating_sub(since) < self.lasts)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::Uuid;
    use world::clock::SimClock;
    use world::task;

    use super::*;

    #[test]
    fn a_leadership_is_new_from_its_opening_on_for_a_while() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let new = NewLeaderships::new(Arc::new(SimClock::new(0)), Duration::from_secs(6));
            let [ours, theirs, closed] =
                [0, 1, 2].map(|index| TopicIdPartition::new(Uuid::from_u128(7), index));
            new.opening([ours].into_iter(), false);
            new.opening([theirs, closed].into_iter(), true);
            assert!(
                new.has(&closed) && new.has(&theirs),
                "a client may see it before we say that it is open"
            );
            new.opened([ours, theirs, closed].into_iter(), |id| *id != closed);
            assert!(new.has(&ours) && new.has(&theirs) && !new.has(&closed));
            assert_eq!(new.received(), BTreeSet::from([theirs]));
            task::sleep(Duration::from_secs(6)).await;
            assert!(!new.has(&ours) && !new.has(&theirs));
            // One was to go, and stayed.
            new.opening([ours].into_iter(), true);
            assert!(new.has(&ours));
            new.opened([ours].into_iter(), |_| true);
            assert_eq!(new.received(), BTreeSet::from([ours]));
        });
    }
}
