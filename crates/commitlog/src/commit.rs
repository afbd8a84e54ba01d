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

    /// Ends it, once. False when it had ended before: then the first reason stays.
    pub(crate) fn finish(&self, result: Result<(), CommitError>) -> bool {
        let mut why = self.why.lock();
        if self.state.load(Ordering::Acquire) != WAITING {
            return false;
        }
        let state = match result {
            Ok(()) => DONE,
            Err(error) => {
                *why = Some(error);
                FAILED
            }
        };
        self.state.store(state, Ordering::Release);
        drop(why);
        self.changed.notify_waiters();
        true
    }
}

/// What an append came to; the offsets are assigned, the data is not durable before [`Append::committed`] says so.
#[derive(Debug)]
pub struct Append {
    pub base_offset: i64,
    pub last_offset: i64,
    pub log_start_offset: i64,
    /// When the broker set the timestamps (`LogAppendTime`); −1 else.
    pub log_append_time: i64,
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
