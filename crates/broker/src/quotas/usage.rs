//! How much was used lately: a rate over some windows of time, and tokens that come back at a rate.

use std::collections::VecDeque;
use std::time::Duration;

/// Kafka's `Rate` over a `SampledStat`: what came in the last windows, over the time that these took; of a use that has just begun
/// over all of them but one.
#[derive(Debug)]
pub(super) struct Window {
    windows: usize,
    len: Duration,
    /// When each began, and what came in it; the oldest first.
    samples: VecDeque<(Duration, f64)>,
}

impl Window {
    pub fn new(windows: usize, len: Duration) -> Self {
        Self { windows, len, samples: VecDeque::new() }
    }

    pub fn is_idle(&self, now: Duration) -> bool {
        self.samples.back().is_none_or(|(began, _)| *began + self.len * self.windows as u32 <= now)
    }

    /// How long whoever used it has to be quiet, so that the rate comes down to `per_second`.
    pub fn record(&mut self, now: Duration, amount: f64, per_second: f64) -> Duration {
        let all = self.len * self.windows as u32;
        while self.samples.front().is_some_and(|(began, _)| *began + all <= now) {
            self.samples.pop_front();
        }
        match self.samples.back_mut() {
            Some((began, used)) if now < *began + self.len => *used += amount,
            _ => self.samples.push_back((now, amount)),
        }
        let oldest = self.samples.front().map_or(now, |(began, _)| *began);
        let least = self.len * (self.windows.saturating_sub(1).max(1)) as u32;
        let elapsed = now.saturating_sub(oldest).max(least).as_secs_f64();
        let used: f64 = self.samples.iter().map(|(_, used)| used).sum();
        let rate = used / elapsed;
        match rate > per_second {
            true => seconds((rate - per_second) / per_second * elapsed),
            false => Duration::ZERO,
        }
    }
}

/// Kafka's `TokenBucket`: full it holds what comes back in all of its windows. Empty it may be owed to.
#[derive(Debug)]
pub(super) struct Tokens {
    windows: Duration,
    /// None: nothing was taken yet.
    left: Option<f64>,
    at: Duration,
    rate: f64,
}

impl Tokens {
    pub fn new(windows: Duration) -> Self {
        Self { windows, left: None, at: Duration::ZERO, rate: 0.0 }
    }

    pub fn is_full(&self, now: Duration) -> bool {
        let back = now.saturating_sub(self.at).as_secs_f64() * self.rate;
        self.left.is_none_or(|left| left + back >= self.rate * self.windows.as_secs_f64())
    }

    /// How long whoever takes has to wait then; an error: before anything is taken.
    pub fn take(
        &mut self,
        now: Duration,
        count: f64,
        rate: f64,
        is_strict: bool,
    ) -> Result<Duration, Duration> {
        let most = rate * self.windows.as_secs_f64();
        let back = now.saturating_sub(self.at).as_secs_f64() * rate;
        let left = self.left.map_or(most, |left| (left + back).min(most));
        (self.at, self.rate) = (now, rate);
        let owed = |left: f64| seconds((-left / rate).max(0.0));
        if left < 0.0 && is_strict {
            self.left = Some(left);
            return Err(owed(left));
        }
        self.left = Some(left - count);
        Ok(owed(left - count))
    }
}

fn seconds(seconds: f64) -> Duration {
    // A quota may be next to nothing.
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_keeps_to_the_rate_never_waits_and_who_does_not_comes_down_to_it() {
        let mut window = Window::new(11, SECOND);
        for second in 0..100 {
            assert_eq!(window.record(SECOND * second, 1_000.0, 1_000.0 * 1.1), Duration::ZERO, "{second}");
        }
        // As fast as it may: what it sends over a long time is what the quota says.
        let mut window = Window::new(11, SECOND);
        let (mut now, mut sent) = (Duration::ZERO, 0.0);
        while now < SECOND * 600 {
            now += Duration::from_millis(1) + window.record(now, 5_000.0, 1_000.0);
            sent += 5_000.0;
        }
        let rate = sent / now.as_secs_f64();
        assert!((900.0..1_150.0).contains(&rate), "{rate}");
        window.record(now, 1.0, 1_000.0);
        assert!(!window.is_idle(now) && window.is_idle(now + SECOND * 11));
    }

    #[test]
    fn tokens_come_back_and_a_strict_request_waits_for_them() {
        let mut tokens = Tokens::new(SECOND * 10);
        // 20 at once are there; the next ones are owed, and then there are none.
        assert_eq!(tokens.take(SECOND, 20.0, 2.0, true), Ok(Duration::ZERO));
        assert_eq!(tokens.take(SECOND, 4.0, 2.0, true), Ok(SECOND * 2));
        assert_eq!(tokens.take(SECOND, 1.0, 2.0, true), Err(SECOND * 2));
        assert_eq!(tokens.take(SECOND * 2, 1.0, 2.0, true), Err(SECOND));
        assert_eq!(tokens.take(SECOND * 2, 1.0, 2.0, false), Ok(Duration::from_millis(1_500)));
        assert!(!tokens.is_full(SECOND * 3) && tokens.is_full(SECOND * 60));
        assert_eq!(tokens.take(SECOND * 60, 1.0, 2.0, true), Ok(Duration::ZERO));
    }
}
