//! What a share partition gives up: its dead letters are written first, then it is archived (KIP-1191).
//!
//! ```text
//!   given up ──▶ Archiving, kept by the coordinator ──▶ dead letter durable ──▶ Archived, kept with what comes next
//!                ^ read by the next leader, which begins again here
//! ```
//! One task while there is something to do, one write at a time: what waits stands in the share partition's runs, which its locks bound.
//!
//! Kafka: `SharePartition.initiateDLQAndArchive`, `maybeResumeDlqArchiving`. It writes a dead letter also when the coordinator could not
//! keep that the record is given up.

use std::sync::Arc;
use std::time::Duration;

use protocol::ErrorCode;
use tokio::sync::oneshot;
use world::task;

use super::dead_letters::{Failure, Origin, RECORDS_PER_WRITE_MAX};
use super::in_flight::Dead;
use super::partition::{Inner, Phase, Queued, READ_AGAIN, SharePartition};

/// Between two tries, doubled each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Of one write of dead letters, a minute and a half in all: as long as brokers may need to find out that one of them is gone and to
/// begin with what it led. Kafka gives up after five.
const TRIES_MAX: u32 = 8;

/// What the task is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archiving {
    Nothing,
    UnderWay,
    /// A try has failed, the next one comes later.
    Paused,
}

impl SharePartition {
    /// To be called when something may have been given up.
    pub(super) fn archive_soon(self: &Arc<Self>, inner: &mut Inner) {
        let is_alive = matches!(inner.phase, Phase::Ready | Phase::Retiring);
        if is_alive && inner.archiving == Archiving::Nothing && inner.in_flight.has_dead() {
            inner.archiving = Archiving::UnderWay;
            drop(task::spawn(self.clone().archive_all()));
        }
    }

    async fn archive_all(self: Arc<Self>) {
        let mut failures = 0;
        while let Some((dead, deliveries_max)) = self.next_dead() {
            let not_kept: Vec<Dead> = dead.iter().filter(|one| !one.is_kept).copied().collect();
            if !not_kept.is_empty() {
                match self.keep_archiving(&not_kept).await {
                    true => failures = 0,
                    false => {
                        failures += 1;
                        self.pause(failures).await;
                    }
                }
                continue;
            }
            let key = &self.key;
            let origin = Origin {
                group: &key.group,
                topic: key.topic,
                index: key.partition,
                partition: &self.partition,
                deliveries_max,
            };
            let is_last_try = failures + 1 >= TRIES_MAX;
            let tried = self.around.dead_letters.write(&origin, &dead, is_last_try).await;
            match &tried.outcome {
                Ok(()) => {}
                Err(Failure::TryAgain(reason)) if !is_last_try => {
                    tracing::debug!(?key, reason, "dead letters are not written yet");
                    failures += 1;
                    self.pause(failures).await;
                    continue;
                }
                Err(Failure::TryAgain(reason) | Failure::GiveUp(reason)) => {
                    let (first, last) = (dead[0].first_offset, tried.last_offset());
                    tracing::warn!(?key, first, last, reason, "records are archived without dead letters");
                    self.around.dead_letters.gave_up(&tried.dead);
                }
            }
            failures = 0;
            self.archived(&tried.dead);
        }
    }

    /// What is to be done next. None: nothing, or it is somebody else's by now.
    fn next_dead(&self) -> Option<(Vec<Dead>, i16)> {
        let mut inner = self.inner.lock();
        let is_alive = matches!(inner.phase, Phase::Ready | Phase::Retiring);
        let dead = match is_alive && !self.around.dead_letters.are_stopped() {
            true => inner.in_flight.dead(RECORDS_PER_WRITE_MAX),
            false => Vec::new(),
        };
        if dead.is_empty() {
            inner.archiving = Archiving::Nothing;
            if inner.phase == Phase::Retiring && !inner.is_writing {
                inner.phase = Phase::Over(READ_AGAIN);
                drop(inner);
                self.wake();
            }
            return None;
        }
        inner.archiving = Archiving::UnderWay;
        Some((dead, inner.deliveries_max))
    }

    /// Has the coordinator keep that these are given up.
    async fn keep_archiving(self: &Arc<Self>, dead: &[Dead]) -> bool {
        let (reply, kept) = oneshot::channel();
        let batches = dead.iter().map(Dead::state_batch).collect();
        self.keep(&mut self.inner.lock(), Queued { token: None, batches, reply: Some(reply) });
        let is_kept = kept.await == Ok(Ok(()));
        if is_kept {
            self.inner.lock().in_flight.dead_are_kept(dead);
        }
        is_kept
    }

    /// Nobody waits for that to be kept: should it get lost, the next leader writes them once more.
    fn archived(self: &Arc<Self>, dead: &[Dead]) {
        {
            let mut inner = self.inner.lock();
            if !matches!(inner.phase, Phase::Ready | Phase::Retiring) {
                return;
            }
            let batches = inner.in_flight.archive(dead);
            inner.weigh(&self.around.memory);
            if !batches.is_empty() {
                self.keep(&mut inner, Queued { token: None, batches, reply: None });
            }
        }
        // Locks are free again.
        self.wake();
    }

    /// As long as it is ours.
    async fn pause(&self, failures: u32) {
        let mut changed = self.subscribe();
        let pause = PAUSE_MAX.min(PAUSE_MIN * (1 << failures.saturating_sub(1).min(10)));
        let until = task::now() + pause;
        {
            let mut inner = self.inner.lock();
            inner.archiving = Archiving::Paused;
        }
        while !self.is_over() {
            tokio::select! {
                biased;
                () = task::sleep_until(until) => return,
                _ = changed.changed() => {}
            }
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.inner.lock().phase, Phase::Over(_))
    }

    /// Members wait for records while what is left to archive waits for its next try: whoever reads the state finds it there.
    pub(super) fn resume_retired(&self, inner: &mut Inner) -> Option<ErrorCode> {
        let is_paused = inner.archiving == Archiving::Paused && !inner.is_writing;
        (inner.phase == Phase::Retiring && is_paused).then(|| {
            inner.phase = Phase::Over(READ_AGAIN);
            READ_AGAIN
        })
    }
}
