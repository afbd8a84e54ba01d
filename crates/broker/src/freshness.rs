//! What other brokers have appended to the catalog, before an answer says "there is no such thing".
//!
//! A broker replays the appends of others now and then. In between a topic may be there, or led by us, and we do not know
//! yet. A client that has heard of it from another broker would be told nonsense, and some clients give up on that. So
//! whoever finds nothing catches up and looks again; administrators' rare requests catch up first.
//!
//! ```text
//!   round 1 under way  ├────────────┤  pause  ├──── round 2 ────┤
//!   asks here             ^ waits for round 2, since round 1 may have looked before the append it needs
//! ```

use std::sync::Arc;
use std::time::Duration;

use catalog::Catalog;
use parking_lot::Mutex;
use protocol::ErrorCode;
use world::task::{self, Instant};
use world::watch;

/// From the start of one round to the next one. A round asks the bucket for one object at least, so clients that ask for what
/// does not exist cost 20 requests per second at most.
const PAUSE: Duration = Duration::from_millis(50);
/// Whoever has waited so long answers as the catalog is.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Partitions with much to read are open when they are: requests for them come again.
const IN_EFFECT_MAX: Duration = Duration::from_millis(500);

pub(crate) struct Freshness {
    catalog: Arc<Catalog>,
    rounds: Mutex<Rounds>,
    finished: watch::Sender<u64>,
}

/// Rounds are counted from 1.
#[derive(Default)]
struct Rounds {
    begun: u64,
    wanted: u64,
    began_at: Option<Instant>,
    /// A task goes on until nobody wants another one.
    is_running: bool,
}

impl Freshness {
    pub fn new(catalog: Arc<Catalog>) -> Arc<Freshness> {
        Arc::new(Freshness { catalog, rounds: Mutex::default(), finished: watch::channel(0).0 })
    }

    /// On return the state has what others appended before the call, unless the bucket did not answer in time. False: nobody
    /// else can have appended anything, there is no need to look again.
    pub async fn catch_up(self: &Arc<Self>) -> bool {
        if !self.catalog.is_shared() {
            return false;
        }
        let round = self.want_next();
        let mut finished = self.finished.subscribe();
        let is_over = async { drop(finished.wait_for(|finished| *finished >= round).await) };
        if task::timeout(WAIT_MAX, is_over).await.is_err() {
            tracing::debug!("the metadata log could not be caught up with in time");
        }
        true
    }

    /// The same without waiting for it: who was told to come again will find us up to date.
    pub fn catch_up_soon(self: &Arc<Self>) {
        if self.catalog.is_shared() {
            self.want_next();
        }
    }

    /// Until partitions that came with it are open, unless that takes long.
    async fn in_effect(&self, position: u64) {
        let mut applied = self.catalog.applied_changes();
        let is_applied = applied.wait_for(|applied| *applied >= position);
        let _ = task::timeout(IN_EFFECT_MAX, is_applied).await;
    }

    /// The number of the first round that begins from now on.
    fn want_next(self: &Arc<Self>) -> u64 {
        let mut rounds = self.rounds.lock();
        rounds.wanted = rounds.begun + 1;
        if !rounds.is_running {
            rounds.is_running = true;
            task::spawn(self.clone().run());
        }
        rounds.wanted
    }

    /// A task of its own: a client that leaves must not take the round of the others with it.
    async fn run(self: Arc<Self>) {
        loop {
            let next_at = self.rounds.lock().began_at.map(|began_at| began_at + PAUSE);
            if let Some(next_at) = next_at {
                task::sleep_until(next_at).await;
            }
            let round = {
                let mut rounds = self.rounds.lock();
                rounds.begun += 1;
                rounds.began_at = Some(task::now());
                rounds.begun
            };
            match self.catalog.catch_up().await {
                Ok(position) => self.in_effect(position).await,
                Err(error) => tracing::debug!(%error, "the metadata log cannot be caught up with"),
            }
            self.finished.send_replace(round);
            let mut rounds = self.rounds.lock();
            if rounds.wanted <= round {
                rounds.is_running = false;
                return;
            }
        }
    }
}

/// May this be an answer of one who has not heard the news yet? UNKNOWN_LEADER_EPOCH is one too: the client knows of a
/// leadership that we do not know of.
pub(crate) fn may_be_stale(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::UnknownLeaderEpoch
    )
}

/// One request catches up once, however many things it names that are not there.
#[derive(Default)]
pub(crate) struct SecondLook {
    is_taken: bool,
}

impl SecondLook {
    /// Whether to look again, after a first look that ended with this code. Catches up first.
    pub async fn is_due(&mut self, freshness: &Arc<Freshness>, code: ErrorCode) -> bool {
        if self.is_taken || !may_be_stale(code) {
            return false;
        }
        self.is_taken = true;
        freshness.catch_up().await
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::Ordering;

    use catalog::CatalogOptions;
    use futures_util::future::join_all;
    use world::bucket::{Bucket, MemBucket};
    use world::clock::SimClock;
    use world::disk::MemDisk;
    use world::rng::SeededRng;

    use super::*;

    fn run<F: Future>(story: F) -> F::Output {
        task::deterministic(3);
        task::paused_runtime().block_on(story)
    }

    async fn in_bucket(bucket: &MemBucket) -> Arc<Freshness> {
        let options =
            CatalogOptions { follow_every: Duration::from_secs(3_600), ..CatalogOptions::default() };
        let catalog = Catalog::open_bucket(Arc::new(bucket.clone()), SeededRng::shared(1), options).await;
        let catalog = catalog.expect("the catalog opens");
        // Nobody follows it here.
        catalog.set_applied(u64::MAX);
        Freshness::new(catalog)
    }

    fn gets(bucket: &MemBucket) -> u64 {
        bucket.counters().gets.load(Ordering::Relaxed)
    }

    #[test]
    fn many_who_ask_share_a_round_and_there_are_few_rounds() {
        run(async {
            let bucket = MemBucket::new(1);
            let freshness = in_bucket(&bucket).await;
            let before = gets(&bucket);
            assert!(
                join_all((0..1_000).map(|_| freshness.catch_up()))
                    .await
                    .into_iter()
                    .all(|caught_up| caught_up)
            );
            assert_eq!(freshness.rounds.lock().begun, 1);
            let one_round = gets(&bucket) - before;
            // Who asks again and again for a second gets a round each 50 ms.
            let until = task::now() + Duration::from_secs(1);
            while task::now() < until {
                freshness.catch_up().await;
                freshness.catch_up_soon();
            }
            let rounds = freshness.rounds.lock().begun;
            assert!((15..=22).contains(&rounds), "{rounds}");
            task::sleep(Duration::from_secs(10)).await;
            assert!(!freshness.rounds.lock().is_running);
            assert!(gets(&bucket) - before <= 23 * one_round);
        });
    }

    #[test]
    fn who_comes_while_a_round_is_under_way_waits_for_the_next_one() {
        run(async {
            let bucket = MemBucket::new(1);
            let freshness = in_bucket(&bucket).await;
            freshness.catch_up_soon();
            while freshness.rounds.lock().begun == 0 {
                task::yield_now().await;
            }
            assert_eq!(*freshness.finished.borrow(), 0, "the first round is under way");
            freshness.catch_up().await;
            assert_eq!(*freshness.finished.borrow(), 2);
        });
    }

    #[test]
    fn a_bucket_that_does_not_answer_is_waited_for_for_so_long_and_no_longer() {
        run(async {
            let bucket = MemBucket::new(1);
            let freshness = in_bucket(&bucket).await;
            bucket.set_out(true);
            let began = task::now();
            freshness.catch_up().await;
            assert!(task::now() - began <= WAIT_MAX + Duration::from_millis(1));
        });
    }

    #[test]
    fn a_broker_alone_has_nothing_to_catch_up_with() {
        run(async {
            let options = CatalogOptions::default();
            let (disk, clock) = (MemDisk::new(1), Arc::new(SimClock::new(0)));
            let dir = PathBuf::from("/metadata");
            let catalog = Catalog::open(disk, dir, clock, SeededRng::shared(1), options).await;
            let freshness = Freshness::new(catalog.expect("the catalog opens"));
            assert!(!freshness.catch_up().await);
            freshness.catch_up_soon();
            assert_eq!(freshness.rounds.lock().wanted, 0);
        });
    }
}
