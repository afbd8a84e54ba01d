//! Group commit: what waits while one commit is under way goes out with the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::CommitError;

const WAITING: u8 = 0;
const DONE: u8 = 1;
const FAILED: u8 = 2;

/// One commit, shared by all whose batches are in it.
#[derive(Debug, Default)]
pub struct CommitGroup {
    state: AtomicU8,
    why: Mutex<Option<CommitError>>,
    changed: Notify,
}

impl CommitGroup {
    pub async fn wait(&self) -> Result<(), CommitError> {
        loop {
            let changed = self.changed.notified();
            match self.state.load(Ordering::Acquire) {
                DONE => return Ok(()),
                FAILED => return Err(self.why.lock().clone().expect("a failed commit says why")),
                _ => changed.await,
            }
        }
    }

    pub(crate) fn finish(&self, result: Result<(), CommitError>) {
        let state = match result {
            Ok(()) => DONE,
            Err(error) => {
                *self.why.lock() = Some(error);
                FAILED
            }
        };
        let before = self.state.swap(state, Ordering::AcqRel);
        assert_eq!(before, WAITING, "a commit ends once");
        self.changed.notify_waiters();
    }
}

/// What an append came to; the offsets are assigned, the data is not durable before [`Append::committed`] says so.
#[derive(Debug)]
pub struct Append {
    pub base_offset: i64,
    pub last_offset: i64,
    pub log_start_offset: i64,
    /// The batch was there already, at these offsets.
    pub duplicate: bool,
    pub(crate) group: Option<Arc<CommitGroup>>,
}

impl Append {
    /// Returns when the batch is durable and readable, or when it is certain that nobody will say so.
    pub async fn committed(self) -> Result<(), CommitError> {
        match self.group {
            Some(group) => group.wait().await,
            None => Ok(()),
        }
    }
}
