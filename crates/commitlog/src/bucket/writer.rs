//! The one that writes into a bucket: lets what comes wait for company, makes one object of it, and tells everybody when it
//! and all objects before it are stored.
//!
//! ```text
//!   appends ─▶ gather ── linger, or full ──▶ slot 7 ┐
//!                                            slot 8 ├─ in flight ──▶ stored in their order ─▶ publish
//!                                            slot 9 ┘
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use world::bucket::Bucket;
use world::task;
use world::watch;

use super::put_budget::PutBudget;
use super::slot_before;
use super::slot_digest::NextDigest;
use super::slot_writer::{Fenced, SlotWriter};
use crate::container::{Identity, Kind, SectionKind};
use crate::encoding::Hash;
use crate::error::CommitError;
use crate::log::{LogState, Shared};
use crate::publish::{GoneGuard, end_group, publish};
use crate::wal::{self, Chunk, Gather};

/// How often a commit that waits for the rewriter looks how far that is.
const HELD_BACK_LOOK: Duration = Duration::from_millis(500);

pub struct BucketWriter {
    shared: Arc<Shared>,
    wal_id: u64,
    slots: SlotWriter,
    /// As many as the slot writer has in flight, in the same order.
    in_flight: VecDeque<Sent>,
    next_slot: u64,
    last_hash: Hash,
    /// What the last slot has something of. None: there was none.
    last_partitions: Option<Vec<u8>>,
    digest: NextDigest,
    /// Since when something waits.
    waits_since: Option<Duration>,
    budget: PutBudget,
    closed: watch::Sender<bool>,
}

struct Sent {
    chunk: Chunk,
    gather: Gather,
    at: Duration,
}

/// What the writer waited for.
enum Next {
    Stored(Result<u64, Fenced>),
    /// False: the log closes, and nothing waits.
    Due(bool),
}

/// What waits for the next commit.
enum Waits {
    Nothing,
    Something { is_urgent: bool },
    AsMuchAsFits,
}

impl BucketWriter {
    pub fn new(
        shared: Arc<Shared>,
        bucket: Arc<dyn Bucket>,
        wal_id: u64,
        closed: watch::Sender<bool>,
    ) -> Self {
        let budget = PutBudget::new(&shared.settings, shared.clock.monotonic());
        let digest = NextDigest::new(shared.settings.bucket_digest_slots);
        Self {
            shared,
            wal_id,
            slots: SlotWriter::new(bucket, wal_id),
            in_flight: VecDeque::new(),
            next_slot: 0,
            last_hash: Hash::default(),
            last_partitions: None,
            digest,
            waits_since: None,
            budget,
            closed,
        }
    }

    pub async fn run(mut self) {
        let _guard = GoneGuard { shared: self.shared.clone() };
        loop {
            let has_room = self.slots.has_room();
            let is_idle = self.in_flight.is_empty();
            let (slots, shared) = (&mut self.slots, &*self.shared);
            let (waits_since, budget) = (&mut self.waits_since, &mut self.budget);
            let next = tokio::select! {
                biased;
                stored = slots.stored(), if !is_idle => Next::Stored(stored),
                is_due = is_due(shared, waits_since, budget), if has_room => Next::Due(is_due),
            };
            let stored = match next {
                Next::Stored(stored) => stored,
                Next::Due(true) => {
                    self.send();
                    continue;
                }
                // Closing, and nothing waits: the end comes when nothing is in flight.
                Next::Due(false) if is_idle => break,
                Next::Due(false) => self.slots.stored().await,
            };
            match stored {
                Ok(slot) => self.stored(slot),
                Err(fenced) => {
                    self.fail(fenced.to_string());
                    break;
                }
            }
        }
        let _ = self.closed.send(true);
        // Who appends after a failure is refused; who was just too early for that is told here.
        while !self.shared.closing.load(Ordering::Acquire) {
            self.shared.wake.notified().await;
            self.refuse_waiting();
        }
        self.refuse_waiting();
    }

    fn send(&mut self) {
        let Some(mut gather) = self.shared.gathers.lock().pop_front() else { return };
        self.waits_since = None;
        self.budget.spend(self.shared.clock.monotonic());
        let mut nonce = [0; 16];
        self.shared.rng.fill(&mut nonce);
        let slot = self.next_slot;
        let identity = Identity {
            kind: Kind::Object,
            log_id: u128::from(self.wal_id).to_be_bytes(),
            number: slot,
            predecessor: self.last_hash,
            // Slots below were acknowledged.
            durable: slot - self.in_flight.len() as u64,
            nonce,
            created_ms: self.shared.clock.now_ms(),
            file_len: 0,
        };
        let before = self.last_partitions.take().map(|before| (SectionKind::SlotBefore, before));
        let digest = self.digest.take(slot).map(|digest| (SectionKind::SlotDigest, digest));
        let chunk = wal::build_with(&mut gather, identity, before.into_iter().chain(digest).collect());
        self.digest.push(&chunk.header, &chunk.bytes);
        self.last_partitions = Some(slot_before::encode(&chunk.footer, &gather.log_starts));
        self.last_hash = chunk.hash;
        self.next_slot += 1;
        self.shared.medium.bucket().send();
        assert_eq!(self.slots.send(chunk.bytes.clone()), slot, "slots are filled in their order");
        let at = self.shared.clock.monotonic();
        self.in_flight.push_back(Sent { chunk, gather, at });
    }

    /// This slot and all before it are stored for good.
    fn stored(&mut self, slot: u64) {
        let Sent { chunk, gather, at } = self.in_flight.pop_front().expect("it was in flight");
        assert_eq!(chunk.header.number, slot, "slots are acknowledged in their order (R4)");
        let took = self.shared.clock.monotonic().saturating_sub(at);
        let counters = &self.shared.counters;
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters.batches.fetch_add(gather.batches.len() as u64, Ordering::Relaxed);
        counters.bytes.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        counters.commit_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        self.shared.medium.bucket().store();
        publish(&self.shared, &chunk, &gather, self.wal_id, 0);
        self.shared.medium.bucket().acknowledge(chunk.bytes.len() as u64, self.shared.clock.monotonic());
    }

    /// Nothing is acknowledged any more. Whether what was in flight counts, somebody else has decided (R3).
    fn fail(&mut self, why: String) {
        self.shared.set_state(LogState::Failed(why.clone()));
        // Who was let in just before wakes us, to be refused.
        self.shared.wanted.store(0, Ordering::SeqCst);
        for sent in self.in_flight.drain(..) {
            end_group(&self.shared, &sent.gather, Err(CommitError(why.clone())));
        }
        self.refuse_waiting();
    }

    fn refuse_waiting(&self) {
        let waiting = std::mem::take(&mut *self.shared.gathers.lock());
        let why = match self.shared.state() {
            LogState::Failed(why) => why,
            _ => "the log is closed".to_owned(),
        };
        for gather in waiting {
            end_group(&self.shared, &gather, Err(CommitError(why.clone())));
        }
    }
}

/// Waits until a commit is due. False: the log closes, and nothing waits.
async fn is_due(shared: &Shared, waits_since: &mut Option<Duration>, budget: &mut PutBudget) -> bool {
    let mut is_held_back = false;
    loop {
        let wake = shared.wake.notified();
        // Before the look: what comes behind it wakes.
        shared.wanted.store(0, Ordering::SeqCst);
        let closing = shared.closing.load(Ordering::Acquire);
        let waits = waits(shared);
        if closing {
            return !matches!(waits, Waits::Nothing);
        }
        if let Waits::Nothing = waits {
            *waits_since = None;
            wake.await;
            continue;
        }
        let now = shared.clock.monotonic();
        let since = *waits_since.get_or_insert(now);
        let affordable = match waits {
            Waits::Something { is_urgent } => budget.due(&shared.settings, since, is_urgent, now),
            Waits::Nothing | Waits::AsMuchAsFits => now,
        };
        // However full it is: clients are slowed down, and nothing is refused.
        let medium = shared.medium.bucket();
        let held_back = budget.held_back(&shared.settings, medium.own_backlog(now).slots);
        if now >= affordable.max(held_back) {
            shared.counters.commits_held_back.fetch_add(u64::from(is_held_back), Ordering::Relaxed);
            return true;
        }
        let pause = match held_back > affordable {
            // What is rewritten meanwhile lets it go.
            true => (held_back - now).min(HELD_BACK_LOOK),
            false => affordable - now,
        };
        is_held_back |= now >= affordable;
        // Nobody else has to wake us before that, but the one that makes the commit as long as it may be, or urgent.
        shared.wanted.store(usize::MAX, Ordering::SeqCst);
        let _ = task::timeout(pause, wake).await;
    }
}

fn waits(shared: &Shared) -> Waits {
    let gathers = shared.gathers.lock();
    match gathers.front() {
        None => Waits::Nothing,
        Some(gather) if gather.is_empty() && gathers.len() == 1 => Waits::Nothing,
        Some(gather) if gathers.len() > 1 || gather.bytes >= shared.settings.chunk_bytes_max => {
            Waits::AsMuchAsFits
        }
        Some(gather) => Waits::Something { is_urgent: gather.is_urgent },
    }
}
