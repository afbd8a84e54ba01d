//! Turns for pieces of what is long: so many connections at once receive or send one, and the others wait in order, not in the queues of
//! the workers, where everybody with little to do would wait behind them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One connection's place in the line.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    waiting: Option<Pin<Box<dyn Future<Output = Option<Turn>> + Send>>>,
}

/// Held for one piece.
pub(crate) type Turn = OwnedSemaphorePermit;

impl Turns {
    pub fn of(all: Arc<Semaphore>) -> Self {
        Self { all, waiting: None }
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Turn>> {
        if self.waiting.is_none() {
            if let Ok(turn) = self.all.clone().try_acquire_owned() {
                return Poll::Ready(Some(turn));
            }
            let all = self.all.clone();
            self.waiting = Some(Box::pin(async move { all.acquire_owned().await.ok() }));
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
