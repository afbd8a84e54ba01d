//! How long a commit waits for the clients that the one before has answered.
//!
//! A client with several requests under way sends the next one when it is answered. Taken at once, what waits goes into
//! one commit and what comes back into the one after it, for ever: two commits where one would do. So on a slow disk the
//! writer waits, for a part of what a commit takes, and less and less often where nobody comes back. On a fast one the
//! way back takes as long as the commit, and there is nothing to gain.

use std::time::Duration;

const SLOW: Duration = Duration::from_micros(400);
/// Waits for at most half of what a commit takes: two that take turns are dearer than one and a half.
const PART: u32 = 2;
/// What a commit takes is the mean of about so many: a volume with a budget of writes takes some at once and holds back
/// the next one for long.
const SMOOTHING: u32 = 256;
/// Larger commits are bound by the disk's bandwidth, which waiting wastes.
const BYTES_MAX: usize = 256 << 10;
/// After waiting in vain, again and again, one commit in so many waits.
const RARELY: u32 = 64;

#[derive(Debug, Default)]
pub struct Patience {
    /// Batches in the last commit.
    answered: usize,
    /// What a commit takes.
    mean: Duration,
    /// Commits that do not wait: left, and after the next time in vain.
    left: u32,
    next: u32,
}

impl Patience {
    pub fn committed(&mut self, batches: usize, bytes: usize, took: Duration) {
        self.answered = if bytes <= BYTES_MAX { batches } else { 0 };
        self.mean = (self.mean * (SMOOTHING - 1) + took) / SMOOTHING;
    }

    /// The batches that are expected, and how long to wait for them; `None` to go on at once.
    pub fn wait(&mut self) -> Option<(usize, Duration)> {
        let answered = std::mem::take(&mut self.answered);
        if answered == 0 || self.mean < SLOW {
            return None;
        }
        if self.left > 0 {
            self.left -= 1;
            return None;
        }
        self.answered = answered;
        Some((answered, self.mean / PART))
    }

    /// So many came.
    pub fn learn(&mut self, came: usize) {
        let answered = std::mem::take(&mut self.answered);
        // Those who come by chance are fewer.
        if came * 4 >= answered * 3 {
            self.next = 0;
        } else {
            self.next = (self.next * 2).clamp(1, RARELY);
            self.left = self.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW_DISK: Duration = Duration::from_millis(2);

    fn on(took: Duration) -> Patience {
        let mut patience = Patience::default();
        for _ in 0..2000 {
            patience.committed(0, 0, took);
        }
        patience
    }

    #[test]
    fn it_waits_where_it_can_gain_and_for_a_part_of_a_commit() {
        let mut patience = on(SLOW_DISK);
        assert_eq!(patience.wait(), None, "nobody was answered");
        patience.committed(3, 3000, SLOW_DISK);
        let (answered, bound) = patience.wait().unwrap();
        assert_eq!(answered, 3);
        assert!(bound > SLOW_DISK / 3 && bound <= SLOW_DISK / PART, "{bound:?}");
        patience.committed(3, BYTES_MAX + 1, SLOW_DISK);
        assert_eq!(patience.wait(), None, "a large commit");
        let mut fast = on(SLOW / 2);
        fast.committed(3, 3000, SLOW / 2);
        assert_eq!(fast.wait(), None, "a fast disk");
    }

    #[test]
    fn in_vain_it_waits_less_and_less_often_and_again_once_they_come() {
        let mut patience = on(SLOW_DISK);
        let mut waits = 0;
        let commits = 10 * RARELY;
        for _ in 0..commits {
            patience.committed(4, 4000, SLOW_DISK);
            if patience.wait().is_some() {
                patience.learn(2);
                waits += 1;
            }
        }
        assert!((10..25).contains(&waits), "{waits} of {commits}");
        let mut waits = 0;
        for _ in 0..commits {
            patience.committed(4, 4000, SLOW_DISK);
            if patience.wait().is_some() {
                patience.learn(3);
                waits += 1;
            }
        }
        assert!(waits >= commits - RARELY, "{waits} of {commits}");
    }
}
