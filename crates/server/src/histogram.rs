//! How long things took: counts in buckets whose bounds grow by a fourth root of two, so that a quantile is at most 19 % off.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Four buckets per power of two, from 1 µs to about 18 minutes.
const BUCKETS: usize = 30 * 4 + 1;
/// Quantiles look at the last one to two of these.
const WINDOW: Duration = Duration::from_secs(60);

pub struct Histogram {
    ever: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
    /// Counts at the start of the previous and of the present window, and when that one began (seconds of the monotonic clock + 1;
    /// 0 = nothing yet).
    windows: parking_lot::Mutex<Option<Box<Windows>>>,
}

struct Windows {
    began: Duration,
    previous: [u64; BUCKETS],
    present: [u64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            ever: [const { AtomicU64::new(0) }; BUCKETS],
            sum_us: AtomicU64::new(0),
            windows: parking_lot::Mutex::new(None),
        }
    }
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let us = took.as_micros() as u64;
        self.ever[bucket(us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.counts().iter().sum()
    }

    pub fn sum_seconds(&self) -> f64 {
        self.sum_us.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Cumulative counts below 2^k µs for every fourth power of two: what Prometheus wants, without 121 lines per request type.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let counts = self.counts();
        (4..=24).step_by(2).map(|k| ((1u64 << k) as f64 / 1e6, counts[..=k * 4].iter().sum())).collect()
    }

    /// Quantiles in seconds of the last minute or two; `None` when nothing was recorded in it.
    pub fn recent_quantiles<const N: usize>(&self, now: Duration, wanted: [f64; N]) -> Option<[f64; N]> {
        let counts = self.counts();
        let mut windows = self.windows.lock();
        let windows = windows.get_or_insert_with(|| {
            Box::new(Windows { began: now, previous: [0; BUCKETS], present: [0; BUCKETS] })
        });
        if now.saturating_sub(windows.began) >= WINDOW {
            windows.previous =
                if now.saturating_sub(windows.began) >= WINDOW * 2 { counts } else { windows.present };
            windows.present = counts;
            windows.began = now;
        }
        let recent: Vec<u64> =
            counts.iter().zip(&windows.previous).map(|(ever, before)| ever - before).collect();
        let total: u64 = recent.iter().sum();
        (total > 0).then(|| wanted.map(|q| quantile(&recent, total, q)))
    }

    fn counts(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|i| self.ever[i].load(Ordering::Relaxed))
    }
}

/// Bucket `i` holds what is at most 2^(i/4) µs and more than 2^((i-1)/4).
fn bucket(us: u64) -> usize {
    if us <= 1 {
        return 0;
    }
    (((us as f64).log2() * 4.0).ceil() as usize).min(BUCKETS - 1)
}

fn quantile(counts: &[u64], total: u64, q: f64) -> f64 {
    let rank = ((total as f64 * q).ceil() as u64).clamp(1, total);
    let mut seen = 0;
    for (i, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= rank {
            return (i as f64 / 4.0).exp2() / 1e6;
        }
    }
    unreachable!("rank {rank} of {total}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_and_forget_old_times() {
        let histogram = Histogram::default();
        for ms in 1..=1000 {
            histogram.record(Duration::from_millis(ms));
        }
        let [median, high] = histogram.recent_quantiles(Duration::from_secs(1), [0.5, 0.99]).unwrap();
        assert!((0.5..0.6).contains(&median), "{median}");
        assert!((0.99..1.2).contains(&high), "{high}");
        assert_eq!(histogram.count(), 1000);
        assert!(histogram.recent_quantiles(Duration::from_secs(62), [0.5]).is_some());
        assert!(histogram.recent_quantiles(Duration::from_secs(200), [0.5]).is_none());
    }

    #[test]
    fn buckets_for_prometheus_only_grow() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(3));
        histogram.record(Duration::from_millis(3));
        histogram.record(Duration::from_secs(3600));
        let cumulative = histogram.cumulative();
        assert!(cumulative.is_sorted_by_key(|(_, count)| *count));
        assert_eq!(cumulative.first().unwrap().1, 1);
        assert_eq!(cumulative.last().unwrap().1, 2);
    }
}
