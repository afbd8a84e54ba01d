//! Turns for pieces of what is long: so many connections at once receive or send one, and the others wait in order, not in the queues of
//! the workers, where everybody with little to do would wait behind them.
//!
//! A turn can rest behind a piece. Where all of them are used without end, the pieces take a third of the time there are turns for:
//! ```text
//!   turn   ▒▒▒▒ rest ──────── ▒▒▒▒ rest ──────── ▒▒▒▒
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use world::task;

/// Timers have milliseconds: a shorter rest would be much longer than it should.
const REST_MIN: Duration = Duration::from_millis(2);
/// The time of a piece is that of the clock: a process that was stopped meanwhile does not rest for as long.
const REST_MAX: Duration = Duration::from_millis(50);
/// Of the time worked.
const REST_TIMES: u32 = 2;

/// All the turns there are for one kind of work.
pub(crate) struct AllTurns {
    turns: Arc<Semaphore>,
    /// Rest that is due, in microseconds.
    rest_us: AtomicU64,
}

/// One connection's place in the line.
pub(crate) struct Turns {
    all: Arc<AllTurns>,
    waiting: Option<Pin<Box<dyn Future<Output = Option<Turn>> + Send>>>,
}

/// Held for one piece.
pub(crate) type Turn = OwnedSemaphorePermit;

impl AllTurns {
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { turns: Arc::new(Semaphore::new(count.max(1))), rest_us: AtomicU64::new(0) })
    }

    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.turns.available_permits()
    }

    #[cfg(test)]
    pub fn take(&self) -> Turn {
        self.turns.clone().try_acquire_owned().expect("one is free")
    }

    /// A piece took so long. Whoever did it goes on; the turn is the next one's behind the rest that is due.
    pub fn rest_after(&self, turn: Turn, worked: Duration) {
        let more = (worked * REST_TIMES).as_micros() as u64;
        let due = self.rest_us.fetch_add(more, Ordering::Relaxed) + more;
        if due < REST_MIN.as_micros() as u64 {
            return;
        }
        let rest = Duration::from_micros(self.rest_us.swap(0, Ordering::Relaxed)).min(REST_MAX);
        drop(task::spawn(async move {
            task::sleep(rest).await;
            drop(turn);
        }));
    }
}

impl Turns {
    pub fn of(all: Arc<AllTurns>) -> Self {
        Self { all, waiting: None }
    }

    pub fn all(&self) -> &AllTurns {
        &self.all
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Turn>> {
        if self.waiting.is_none() {
            if let Ok(turn) = self.all.turns.clone().try_acquire_owned() {
                return Poll::Ready(Some(turn));
            }
            let turns = self.all.turns.clone();
            self.waiting = Some(Box::pin(async move { turns.acquire_owned().await.ok() }));
        }
        let waiting = self.waiting.as_mut().expect("it was just put there");
        let turn = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(turn)
    }

    /// Whoever does not go on must not have a turn: it may have come while nobody looked.
    pub fn give_up(&mut self) {
        self.waiting = None;
    }
}
