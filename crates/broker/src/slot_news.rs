//! Leaders tell brokers that serve what they lead how far their WALs are stored (KIP-392 in a bucket): a record is read there a moment
//! after its acknowledgement, and the store is asked for slots that are there, and not every half second whether there is one.
//!
//! ```text
//!   views here follow WAL 17 ─▶ its broker is asked: "more than 9 slots?" ─▶ 11 (when it is so, or 9 after LISTEN_WAIT) ─▶ the log
//! ```
//! A question that waits is the subscription: nobody keeps a list of who listens, and one who does not answer is looked after by
//! looking. Nothing is safe because of it, and nothing wrong without it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use catalog::Catalog;
use commitlog::CommitLog;
use futures_util::stream::{FuturesUnordered, StreamExt};
use world::task;
use world::watch;

use crate::peers::{Others, Peer};

/// How long one question waits there. A leader that is cut off without a word is noticed after that, and a second.
const LISTEN_WAIT: Duration = Duration::from_secs(2);
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Between two questions to a broker that does not know them, or does not answer.
const PAUSE_MAX: Duration = Duration::from_secs(5);

pub(crate) struct SlotNews {
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub others: Arc<Others>,
}

impl SlotNews {
    /// Until it is dropped: asks the leader of each WAL that readers here wait for.
    pub async fn run(self) {
        let Some(mut followed) = self.log.followed_wals() else { return };
        let mut heard: BTreeSet<u64> = BTreeSet::new();
        let mut listening = FuturesUnordered::new();
        loop {
            let now = followed.borrow_and_update().clone();
            for wal_id in now.difference(&heard) {
                listening.push(self.listen_to(*wal_id, followed.clone()));
            }
            heard = now;
            loop {
                tokio::select! {
                    biased;
                    changed = followed.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    // One that is not followed any more.
                    Some(()) = listening.next(), if !listening.is_empty() => {}
                }
            }
        }
    }

    async fn listen_to(&self, wal_id: u64, mut followed: watch::Receiver<BTreeSet<u64>>) {
        let asking = async {
            let (mut known, mut pause) = (0, PAUSE_MIN);
            loop {
                let began = task::now();
                let stored = match self.peer(wal_id) {
                    Some(peer) => self.others.peers.clone().slots_stored(peer, known, LISTEN_WAIT).await,
                    None => None,
                };
                let is_of_use = match stored {
                    Some(stored) => {
                        self.log.slots_stored(wal_id, stored);
                        let is_news = stored > known;
                        known = stored.max(known);
                        // Whoever answers "no more" before it is time would be asked without a pause.
                        is_news || task::now() - began >= LISTEN_WAIT / 2
                    }
                    None => {
                        self.log.slots_unheard(wal_id);
                        false
                    }
                };
                match is_of_use {
                    true => pause = PAUSE_MIN,
                    false => {
                        task::sleep(pause).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
            }
        };
        tokio::select! {
            biased;
            _ = followed.wait_for(|followed| !followed.contains(&wal_id)) => {}
            () = asking => {}
        }
    }

    /// The broker that writes this WAL, if it can be spoken to.
    fn peer(&self, wal_id: u64) -> Option<Peer> {
        let live = Others::live(&self.catalog.read(), self.catalog.wal_id());
        live.into_iter().find(|peer| peer.wal_id == wal_id)
    }
}
