//! Accounts of memory that many connections share: for request frames, for what is decoded of them, and for answers that clients have
//! not taken yet.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// A part of each account is for the favoured: small requests, and answers of clients that take them. Whoever fills the rest does not
/// keep them waiting.
const FAVOURED_PART: u64 = 8;
/// While others work on so much (a part of the limit), that comes free by itself, and half-received frames wait for it.
const AT_WORK_PART: u64 = 32;

/// Who asks for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// May use all of it.
    Favoured,
    /// An eighth is not for him.
    Ordinary,
}

/// A bounded account. It lets somebody in as long as it is not full, so it can be exceeded by what the last one took: with a hard
/// bound, a request larger than what is left would wait for ever while small ones pass it by.
///
/// Half-received frames could hold all of it and wait for each other. So when they hold nearly everything, one of them at a time, the
/// finisher, is let past the limit. What is taken stays below the limit, a thirty-second of it, and one frame.
pub struct MemoryAccount {
    limit: u64,
    used: AtomicU64,
    /// The part of `used` that the favoured have. They may have their part also when others have gone past the limit.
    favoured: AtomicU64,
    /// The part of `used` that somebody works on, and that therefore comes free by itself.
    at_work: AtomicU64,
    /// The connection that may exceed the limit to complete its frame; 0 when there is none.
    finisher: AtomicU64,
    /// By connection id, so that no connection waits twice and the map is bounded by the connections.
    waiting: Mutex<BTreeMap<u64, Waker>>,
}

impl fmt::Debug for MemoryAccount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "MemoryAccount({} of {})", self.used(), self.limit)
    }
}

impl MemoryAccount {
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicU64::new(0),
            favoured: AtomicU64::new(0),
            at_work: AtomicU64::new(0),
            finisher: AtomicU64::new(0),
            waiting: Mutex::new(BTreeMap::new()),
        })
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Somebody is kept waiting, or would be. Then those who keep much and get nowhere are let go.
    pub fn is_pressed(&self) -> bool {
        self.used() >= self.bound(Standing::Ordinary)
    }

    fn bound(&self, standing: Standing) -> u64 {
        match standing {
            Standing::Favoured => self.limit,
            Standing::Ordinary => self.limit - self.limit / FAVOURED_PART,
        }
    }

    fn has_room(&self, standing: Standing) -> bool {
        let part = self.limit / FAVOURED_PART;
        self.used() < self.bound(standing)
            || standing == Standing::Favoured && self.favoured.load(Ordering::Acquire) < part
    }

    /// Waits until the account is below its bound. `connection` says who waits.
    pub fn poll_room(&self, cx: &mut Context<'_>, connection: u64, standing: Standing) -> Poll<()> {
        if self.has_room(standing) {
            return Poll::Ready(());
        }
        self.waiting.lock().insert(connection, cx.waker().clone());
        // The room may have come between the look and the entry in the map.
        if self.has_room(standing) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// As much of `bytes` as leaves room for others that come at the same time: the fuller the account, the less. The favoured have their
    /// part also when others have gone past the limit.
    pub fn take_part(self: &Arc<Self>, standing: Standing, bytes: u64) -> MemoryShare {
        let left = |limit: u64, used: u64| limit.saturating_sub(used) / 4;
        let room = left(self.limit, self.used());
        match standing {
            Standing::Ordinary => self.take_anyway(bytes.min(room)),
            Standing::Favoured => {
                let theirs = left(self.limit / FAVOURED_PART, self.favoured.load(Ordering::Acquire));
                self.take_anyway_as(standing, bytes.min(room.max(theirs)))
            }
        }
    }

    /// Takes `bytes` if the account is below its bound, else registers the caller.
    pub fn poll_take(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        connection: u64,
        standing: Standing,
        bytes: u64,
    ) -> Poll<MemoryShare> {
        loop {
            if self.poll_room(cx, connection, standing).is_pending() {
                return Poll::Pending;
            }
            if let Some(share) = self.try_take(standing, bytes) {
                return Poll::Ready(share);
            }
        }
    }

    /// Takes `bytes` more for a frame that is being received by `connection`.
    pub fn poll_take_more(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        connection: u64,
        share: &mut MemoryShare,
        bytes: u64,
    ) -> Poll<()> {
        if self.finisher.load(Ordering::Acquire) != connection
            && let Poll::Ready(more) = self.poll_take(cx, connection, Standing::Ordinary, bytes)
        {
            share.absorb(more);
            return Poll::Ready(());
        }
        // Registered with the waiting by now, or the finisher already.
        let others_free_enough = self.at_work.load(Ordering::Acquire) > self.limit / AT_WORK_PART;
        if !share.is_finisher {
            if others_free_enough
                || self.finisher.compare_exchange(0, connection, Ordering::AcqRel, Ordering::Acquire).is_err()
            {
                return Poll::Pending;
            }
            share.is_finisher = true;
        }
        share.absorb(self.take_anyway(bytes));
        Poll::Ready(())
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_values().for_each(Waker::wake);
    }

    fn try_take(self: &Arc<Self>, standing: Standing, bytes: u64) -> Option<MemoryShare> {
        if standing == Standing::Favoured {
            // What they take is small: that two of them come at the same time does no harm.
            return Some(self.take_anyway_as(standing, bytes));
        }
        let bound = self.bound(standing);
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| (used < bound).then_some(used + bytes))
            .ok()
            .map(|_| MemoryShare::new(self, bytes))
    }

    /// Takes `bytes` whether there is room or not: the memory is in use already.
    pub fn take_anyway(self: &Arc<Self>, bytes: u64) -> MemoryShare {
        self.used.fetch_add(bytes, Ordering::AcqRel);
        MemoryShare::new(self, bytes)
    }

    /// As [`MemoryAccount::take_anyway`]; what the favoured take counts as theirs.
    pub fn take_anyway_as(self: &Arc<Self>, standing: Standing, bytes: u64) -> MemoryShare {
        let mut share = self.take_anyway(bytes);
        if standing == Standing::Favoured {
            self.favoured.fetch_add(bytes, Ordering::AcqRel);
            share.favoured_bytes = bytes;
        }
        share
    }

    fn give_back_favoured(&self, bytes: u64) {
        let part = self.limit / FAVOURED_PART;
        let before = self.favoured.fetch_sub(bytes, Ordering::AcqRel);
        if before >= part && before - bytes < part {
            self.wake_all();
        }
    }

    fn give_back(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let before = self.used.fetch_sub(bytes, Ordering::AcqRel);
        assert!(before >= bytes, "memory account: {bytes} bytes given back, {before} taken");
        let after = before - bytes;
        let crosses = |bound: u64| before >= bound && after < bound;
        if crosses(self.limit) || crosses(self.bound(Standing::Ordinary)) {
            self.wake_all();
        }
    }
}

/// What one holder took from an account; given back when dropped.
pub struct MemoryShare {
    account: Arc<MemoryAccount>,
    bytes: u64,
    /// So much of it counts as the favoured's.
    favoured_bytes: u64,
    is_finisher: bool,
    is_at_work: bool,
}

impl MemoryShare {
    fn new(account: &Arc<MemoryAccount>, bytes: u64) -> Self {
        Self { account: account.clone(), bytes, favoured_bytes: 0, is_finisher: false, is_at_work: false }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn is_finisher(&self) -> bool {
        self.is_finisher
    }

    pub fn absorb(&mut self, mut other: MemoryShare) {
        debug_assert!(Arc::ptr_eq(&self.account, &other.account));
        self.bytes += std::mem::take(&mut other.bytes);
        self.favoured_bytes += std::mem::take(&mut other.favoured_bytes);
    }

    pub fn shrink_to(&mut self, bytes: u64) {
        if bytes < self.bytes {
            self.account.give_back(self.bytes - bytes);
            self.bytes = bytes;
            if bytes < self.favoured_bytes {
                self.account.give_back_favoured(self.favoured_bytes - bytes);
                self.favoured_bytes = bytes;
            }
        }
    }

    /// The frame is complete and goes to work: its memory comes free without further bytes from outside.
    pub fn goes_to_work(&mut self) {
        debug_assert!(!self.is_at_work);
        self.is_at_work = true;
        self.account.at_work.fetch_add(self.bytes, Ordering::AcqRel);
        self.make_way();
    }

    /// Lets another be the finisher.
    fn make_way(&mut self) {
        if std::mem::take(&mut self.is_finisher) {
            self.account.finisher.store(0, Ordering::Release);
            self.account.wake_all();
        }
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        if self.is_at_work {
            let before = self.account.at_work.fetch_sub(self.bytes, Ordering::AcqRel);
            let enough = self.account.limit / AT_WORK_PART;
            if before > enough && before - self.bytes <= enough {
                self.account.wake_all();
            }
        }
        self.make_way();
        self.account.give_back(self.bytes);
        if self.favoured_bytes > 0 {
            self.account.give_back_favoured(self.favoured_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn the_last_one_in_may_exceed_the_limit_and_the_next_waits_until_it_leaves() {
        let account = MemoryAccount::new(100);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(small) = account.poll_take(&mut cx, 1, Standing::Favoured, 60) else {
            panic!("empty account refused")
        };
        let Poll::Ready(large) = account.poll_take(&mut cx, 2, Standing::Favoured, 500) else {
            panic!("there was room")
        };
        assert_eq!(account.used(), 560);
        assert!(account.poll_take(&mut cx, 3, Standing::Favoured, 1).is_pending());
        drop(large);
        assert!(account.poll_take(&mut cx, 3, Standing::Favoured, 1).is_ready());
        drop(small);
        assert_eq!(account.used(), 0);
    }

    #[test]
    fn what_is_left_at_the_end_is_for_the_favoured() {
        let account = MemoryAccount::new(800);
        let mut cx = Context::from_waker(Waker::noop());
        let most = account.take_anyway(700);
        assert!(account.is_pressed());
        assert!(account.poll_take(&mut cx, 1, Standing::Ordinary, 1).is_pending());
        // Also when somebody has gone past the limit.
        let finisher = account.take_anyway(500);
        let Poll::Ready(last) = account.poll_take(&mut cx, 2, Standing::Favoured, 100) else {
            panic!("an eighth is left")
        };
        assert!(account.poll_take(&mut cx, 2, Standing::Favoured, 1).is_pending());
        drop(finisher);
        assert!(account.poll_take(&mut cx, 2, Standing::Favoured, 1).is_pending());
        drop(most);
        assert!(account.poll_take(&mut cx, 1, Standing::Ordinary, 1).is_ready());
        drop(last);
        // Each that comes gets a quarter of what is left, so that all of them together stay below the limit.
        let parts: Vec<MemoryShare> =
            (0..100).map(|_| account.take_part(Standing::Ordinary, 10_000)).collect();
        assert_eq!((parts[0].bytes(), parts[1].bytes()), (200, 150));
        assert!(account.used() < 800 && parts.iter().all(|part| part.bytes() <= 200));
        // Of theirs the favoured get something, whatever the others have.
        let stuck = account.take_anyway(10_000);
        let favoured: Vec<u64> =
            (0..2).map(|_| account.take_part(Standing::Favoured, 10_000)).map(|part| part.bytes()).collect();
        assert_eq!(favoured, [25, 25]);
        drop(stuck);
    }

    #[test]
    fn when_half_received_frames_hold_all_of_it_one_at_a_time_may_finish() {
        let account = MemoryAccount::new(100);
        let mut cx = Context::from_waker(Waker::noop());
        let (mut first, mut second) = (account.take_anyway(60), account.take_anyway(60));
        assert!(account.poll_take_more(&mut cx, 1, &mut first, 50).is_ready());
        assert!(account.poll_take_more(&mut cx, 2, &mut second, 50).is_pending());
        assert!(account.poll_take_more(&mut cx, 1, &mut first, 50).is_ready());
        first.goes_to_work();
        assert!(
            account.poll_take_more(&mut cx, 2, &mut second, 50).is_pending(),
            "the first will come free by itself"
        );
        drop(first);
        assert!(account.poll_take_more(&mut cx, 2, &mut second, 50).is_ready());
        drop(second);
        assert_eq!(
            (
                account.used(),
                account.at_work.load(Ordering::Relaxed),
                account.finisher.load(Ordering::Relaxed)
            ),
            (0, 0, 0)
        );
    }
}
