//! Partitions that are being opened, so that what is quick does not wait for what is slow: after a death one group of them may have much to
//! read while others come one by one.
//!
//! ```text
//!   led and not open ─▶ a group, side by side with some others ─┬─▶ open
//!                                                               └─▶ rests, and is tried again: soon when the metadata goes on, later and later otherwise
//! ```
//! What the metadata says is in effect here up to where the oldest group began, since whoever waits for that may mean one of its partitions.
//! Those that rest hold nobody up.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::{pending, select_all};
use protocol::TopicIdPartition;
use world::task::{self, Instant, JoinHandle};

/// Groups side by side; each reads the headers of all slots that nobody has rewritten yet.
const GROUPS_MAX: usize = 4;
const RETRY: Duration = Duration::from_millis(500);
/// What is damaged is looked at again and again, but not all the time.
const RETRY_MAX: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct Openings {
    /// The oldest first.
    under_way: Vec<Group>,
    resting: Option<Resting>,
    /// How long the next ones rest that cannot be opened.
    pause: Duration,
}

struct Group {
    ids: BTreeSet<TopicIdPartition>,
    /// What was in effect here when it began.
    applied: u64,
    task: JoinHandle<()>,
}

struct Resting {
    ids: BTreeSet<TopicIdPartition>,
    since: Instant,
    until: Instant,
}

impl Openings {
    pub fn has_room(&self) -> bool {
        self.under_way.len() < GROUPS_MAX
    }

    /// Is it taken care of?
    pub fn has(&self, id: &TopicIdPartition) -> bool {
        self.under_way.iter().any(|group| group.ids.contains(id))
            || self.resting.as_ref().is_some_and(|resting| resting.ids.contains(id))
    }

    pub fn count(&self) -> usize {
        let resting = self.resting.as_ref().map_or(0, |resting| resting.ids.len());
        self.under_way.iter().map(|group| group.ids.len()).sum::<usize>() + resting
    }

    /// `opening` ends whether they are open then or not.
    pub fn begin(
        &mut self,
        ids: BTreeSet<TopicIdPartition>,
        applied: u64,
        opening: impl Future<Output = ()> + Send + 'static,
    ) {
        self.under_way.push(Group { ids, applied, task: task::spawn(opening) });
    }

    /// What is in effect here at most; None: nothing is under way.
    pub fn applied_max(&self) -> Option<u64> {
        self.under_way.first().map(|group| group.applied)
    }

    /// Waits for the end of a group, whose partitions it gives, or until it is time to try those that rest once more (none). Does not end
    /// while there is nothing to wait for. May be given up and called again.
    pub async fn next(&mut self) -> BTreeSet<TopicIdPartition> {
        let rested = async {
            match &self.resting {
                Some(resting) => task::sleep_until(resting.until).await,
                None => pending().await,
            }
        };
        let ended = async {
            match self.under_way.is_empty() {
                true => pending().await,
                false => select_all(self.under_way.iter_mut().map(|group| &mut group.task)).await.1,
            }
        };
        tokio::select! {
            biased;
            place = ended => self.under_way.remove(place).ids,
            () = rested => {
                self.resting = None;
                BTreeSet::new()
            }
        }
    }

    /// Of a group that has ended, those that could not be opened. They rest longer each time, until nothing needs to.
    pub fn rest(&mut self, ids: impl Iterator<Item = TopicIdPartition>) {
        let ids: BTreeSet<TopicIdPartition> = ids.collect();
        if ids.is_empty() {
            if self.resting.is_none() && self.under_way.is_empty() {
                self.pause = RETRY;
            }
            return;
        }
        // Groups that fail together are one failure, or an outage of a moment would make all of them rest as long as what is damaged.
        if let Some(resting) = &mut self.resting {
            resting.ids.extend(ids);
            return;
        }
        let since = task::now();
        self.pause = self.pause.max(RETRY);
        self.resting = Some(Resting { ids, since, until: since + self.pause });
        self.pause = (self.pause * 2).min(RETRY_MAX);
    }

    /// The metadata says something new: what could not be opened may be possible now, or nobody's business any more.
    pub fn metadata_changed(&mut self) {
        let Some(resting) = &mut self.resting else { return };
        resting.until = resting.until.min(resting.since + RETRY);
        if resting.until <= task::now() {
            self.resting = None;
        }
    }
}

impl Drop for Openings {
    fn drop(&mut self) {
        self.under_way.iter().for_each(|group| group.task.abort());
    }
}

#[cfg(test)]
mod tests {
    use protocol::Uuid;

    use super::*;

    fn some(index: i32) -> BTreeSet<TopicIdPartition> {
        BTreeSet::from([TopicIdPartition::new(Uuid::from_u128(7), index)])
    }

    #[test]
    fn what_is_quick_does_not_wait_for_what_is_slow() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let mut openings = Openings::default();
            openings.begin(some(0), 10, task::sleep(Duration::from_secs(60)));
            openings.begin(some(1), 12, task::sleep(Duration::from_secs(1)));
            assert_eq!((openings.applied_max(), openings.count()), (Some(10), 2));
            assert_eq!(openings.next().await, some(1));
            assert_eq!((openings.applied_max(), openings.count()), (Some(10), 1));
            for index in 2..5 {
                assert!(openings.has_room());
                openings.begin(some(index), 13, pending());
            }
            assert!(!openings.has_room());
            // Whoever gave up waiting has missed nothing.
            assert!(task::timeout(Duration::from_secs(30), openings.next()).await.is_err());
            assert_eq!(openings.next().await, some(0));
            assert_eq!(openings.applied_max(), Some(13));
        });
    }

    #[test]
    fn groups_that_fail_together_rest_no_longer_than_one() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let mut openings = Openings::default();
            for index in 0..8 {
                openings.begin(some(index), 1, std::future::ready(()));
                let ended = openings.next().await;
                openings.rest(ended.into_iter());
            }
            assert_eq!(openings.count(), 8);
            openings.next().await;
            openings.rest(some(0).into_iter());
            let since = task::now();
            openings.next().await;
            assert_eq!(since.elapsed(), 2 * RETRY);
        });
    }

    #[test]
    fn what_cannot_be_opened_rests_longer_each_time() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let mut openings = Openings::default();
            let mut rested = Vec::new();
            for _ in 0..9 {
                openings.begin(some(0), 1, std::future::ready(()));
                let ended = openings.next().await;
                openings.rest(ended.into_iter());
                assert!(openings.has(&some(0).pop_first().unwrap()));
                let since = task::now();
                assert_eq!(openings.next().await, BTreeSet::new());
                rested.push(since.elapsed().as_millis());
            }
            assert_eq!(rested, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
            // News make it try sooner, but not at once.
            openings.rest(some(0).into_iter());
            openings.metadata_changed();
            assert_eq!(openings.count(), 1);
            let since = task::now();
            assert_eq!(openings.next().await, BTreeSet::new());
            assert_eq!(since.elapsed(), RETRY);
            // Something could be opened, and nothing rests.
            openings.rest(BTreeSet::new().into_iter());
            openings.rest(some(0).into_iter());
            let since = task::now();
            openings.next().await;
            assert_eq!(since.elapsed(), RETRY);
        });
    }
}
