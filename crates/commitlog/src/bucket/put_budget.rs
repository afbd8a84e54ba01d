//! How long a commit waits for company. A store charges for each PUT, so a broker that has little to write pays most per record;
//! the budget says how many PUTs a second that may cost on the average. What was saved in quiet times lets the next commits go
//! soon.

use std::time::Duration;

use crate::settings::LogSettings;

/// So many seconds' worth may be saved.
const SAVED_SECONDS: f64 = 2.0;
/// Commits are never farther apart because of what is not rewritten: clients give up after 30 seconds.
const HELD_BACK_MAX: Duration = Duration::from_secs(10);

pub struct PutBudget {
    per_second: f64,
    saved: f64,
    /// When `saved` was counted.
    at: Duration,
    /// When the last commit went.
    last: Option<Duration>,
}

impl PutBudget {
    pub fn new(settings: &LogSettings, now: Duration) -> Self {
        let per_second = f64::from(settings.puts_per_second.max(1));
        Self { per_second, saved: per_second * SAVED_SECONDS, at: now, last: None }
    }

    /// When a commit whose first record came at `since` goes, should it not be full before.
    pub fn due(
        &mut self,
        settings: &LogSettings,
        since: Duration,
        is_urgent: bool,
        now: Duration,
    ) -> Duration {
        let earned = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.saved = (self.saved + earned).min(self.per_second * SAVED_SECONDS);
        self.at = now;
        let missing = (1.0 - self.saved).max(0.0) / self.per_second;
        let affordable = now + Duration::from_secs_f64(missing);
        let earliest = match (is_urgent, self.last) {
            (false, _) => since + settings.linger,
            (true, None) => since,
            // Never later than without being urgent.
            (true, Some(last)) => (last + settings.urgent_flush).min(since + settings.linger),
        };
        affordable.max(earliest).min(since + settings.linger_max)
    }

    /// Before this moment no commit goes, not even a full one, with so many slots that are not rewritten yet. An eighth more than there
    /// may be, and commits are `linger_max` apart; twice as many, and it is eight times that.
    pub fn held_back(&self, settings: &LogSettings, unrewritten: u64) -> Duration {
        let max = settings.bucket_backlog_slots_max.max(1);
        let Some(beyond) = unrewritten.checked_sub(max) else { return Duration::ZERO };
        let pause = settings.linger_max.mul_f64(8.0 * beyond as f64 / max as f64).min(HELD_BACK_MAX);
        self.last.map_or(Duration::ZERO, |last| last + pause)
    }

    /// A commit goes. A full one goes whatever there is.
    pub fn spend(&mut self, now: Duration) {
        self.last = Some(now);
        self.saved = (self.saved - 1.0).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// When commits go if something always waits.
    fn steady(settings: &LogSettings, count: usize) -> Vec<u128> {
        let (mut budget, mut now) = (PutBudget::new(settings, Duration::ZERO), Duration::ZERO);
        (0..count)
            .map(|_| {
                let since = now;
                while budget.due(settings, since, false, now) > now {
                    now += MS;
                }
                budget.spend(now);
                (now - since).as_millis()
            })
            .collect()
    }

    #[test]
    fn what_comes_after_a_pause_goes_soon_and_a_steady_trickle_keeps_to_the_budget() {
        let settings = LogSettings { puts_per_second: 4, ..LogSettings::default() };
        let waits = steady(&settings, 50);
        assert_eq!(waits[..8], [50; 8], "what was saved");
        assert!(waits[20..].iter().all(|wait| (249..=251).contains(wait)), "{waits:?}");
        let generous = LogSettings { puts_per_second: 100, ..settings.clone() };
        assert!(steady(&generous, 300).iter().all(|wait| *wait == 50));
        let frugal = LogSettings { puts_per_second: 1, linger_max: MS * 600, ..settings };
        assert!(steady(&frugal, 30)[10..].iter().all(|wait| *wait == 600), "never longer than the longest");
    }

    #[test]
    fn what_is_urgent_goes_soon_and_not_beyond_the_budget() {
        let settings = LogSettings { puts_per_second: 4, ..LogSettings::default() };
        let mut budget = PutBudget::new(&settings, Duration::ZERO);
        assert_eq!(budget.due(&settings, MS, true, MS), MS, "nothing went before");
        budget.spend(MS);
        assert_eq!(budget.due(&settings, 2 * MS, true, 2 * MS), 26 * MS);
        assert_eq!(budget.due(&settings, 2 * MS, false, 2 * MS), 52 * MS);
        (0..20).for_each(|_| budget.spend(30 * MS));
        let due = budget.due(&settings, 31 * MS, true, 31 * MS);
        assert!(due > 250 * MS && due < 290 * MS, "{due:?}");
    }
}
