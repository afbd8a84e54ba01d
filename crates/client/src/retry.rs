//! When to try again: exponential backoff with jitter, within a deadline.

use std::time::Duration;

use world::task::{self, Instant};

use crate::cluster::Client;
use crate::error::Error;

/// The tries of one call.
pub(crate) struct Tries {
    client: Client,
    deadline: Instant,
    failures: u32,
}

impl Tries {
    pub fn within(client: &Client, limit: Duration) -> Tries {
        Tries { client: client.clone(), deadline: task::now() + limit, failures: 0 }
    }

    /// After a failure: sleeps before the next try, or gives the error back when another try is pointless.
    pub async fn pause(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_retriable() {
            return Err(error);
        }
        let wait = self.client.backoff(self.failures);
        if task::now() + wait >= self.deadline {
            return Err(error);
        }
        self.failures += 1;
        if error.needs_metadata() {
            self.client.outdated();
        }
        tracing::debug!(%error, ?wait, "trying again");
        task::sleep(wait).await;
        Ok(())
    }
}
