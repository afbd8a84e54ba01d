//! What the requests of a broker and the bytes of its bucket cost in a month, by prices that an operator gives.

use std::collections::VecDeque;
use std::time::Duration;

use catalog::config::BrokerConfig;
use parking_lot::Mutex;

/// How far back the rates reach.
const RATES_OVER: Duration = Duration::from_secs(3600);
/// Between two samples that are kept.
const SAMPLE_EVERY: Duration = Duration::from_secs(60);
const SAMPLES_MAX: usize = 61;
const MONTH_SECONDS: f64 = 30.0 * 86_400.0;
const GIB: f64 = (1u64 << 30) as f64;

/// Counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub puts: u64,
    pub gets: u64,
    pub lists: u64,
    pub deletes: u64,
}

/// Of a million requests, and of a GiB for a month, in whatever currency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    pub put: f64,
    pub get: f64,
    pub list: f64,
    pub delete: f64,
    pub gib_month: f64,
}

pub struct BucketCost {
    prices: Prices,
    /// Requests at points of the monotonic clock, the oldest first.
    samples: Mutex<VecDeque<(Duration, Requests)>>,
}

impl Prices {
    pub fn of(config: &BrokerConfig) -> Self {
        Self {
            put: config.bucket_price_put(),
            get: config.bucket_price_get(),
            list: config.bucket_price_list(),
            delete: config.bucket_price_delete(),
            gib_month: config.bucket_price_gib_month(),
        }
    }
}

impl BucketCost {
    /// Of a broker that starts now.
    pub fn new(prices: Prices, now: Duration) -> Self {
        Self { prices, samples: Mutex::new(VecDeque::from([(now, Requests::default())])) }
    }

    /// (what for, how much a month) if it goes on as in the last hour, or as since the start if that is less.
    pub fn month(&self, now: Duration, requests: Requests, stored_bytes: u64) -> [(&'static str, f64); 5] {
        let (at, before) = {
            let mut samples = self.samples.lock();
            if samples.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= SAMPLE_EVERY) {
                samples.push_back((now, requests));
            }
            while samples.len() > SAMPLES_MAX
                || samples.len() > 1 && now.saturating_sub(samples[1].0) >= RATES_OVER
            {
                samples.pop_front();
            }
            samples[0]
        };
        let seconds = now.saturating_sub(at).as_secs_f64().max(1.0);
        let cost = |now: u64, before: u64, price: f64| {
            now.saturating_sub(before) as f64 / seconds * MONTH_SECONDS / 1e6 * price
        };
        [
            ("put", cost(requests.puts, before.puts, self.prices.put)),
            ("get", cost(requests.gets, before.gets, self.prices.get)),
            ("list", cost(requests.lists, before.lists, self.prices.list)),
            ("delete", cost(requests.deletes, before.deletes, self.prices.delete)),
            ("storage", stored_bytes as f64 / GIB * self.prices.gib_month),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: Prices = Prices { put: 5.0, get: 0.4, list: 5.0, delete: 0.0, gib_month: 0.023 };

    fn puts(puts: u64) -> Requests {
        Requests { puts, ..Requests::default() }
    }

    #[test]
    fn it_is_the_rate_of_the_last_hour() {
        let (cost, minute) = (BucketCost::new(PRICES, Duration::ZERO), Duration::from_secs(60));
        // Four a second: 10,368,000 a month.
        let month = |at: Duration, requests| cost.month(at, requests, 100 << 30);
        let [put, get, list, delete, storage] = month(minute, puts(240));
        assert_eq!((put.0, put.1.round(), storage.1), ("put", 52.0, 100.0 * 0.023));
        assert_eq!([get.1, list.1, delete.1], [0.0; 3]);
        for at in 2..=60 {
            month(minute * at, puts(240 * u64::from(at)));
        }
        // Then silence: after half an hour half of it is left, after an hour nothing.
        for at in 61..=90 {
            month(minute * at, puts(240 * 60));
        }
        assert_eq!(month(minute * 90, puts(240 * 60))[0].1.round(), 26.0);
        for at in 91..=120 {
            month(minute * at, puts(240 * 60));
        }
        assert_eq!(month(minute * 120, puts(240 * 60))[0].1, 0.0);
        assert!(cost.samples.lock().len() <= SAMPLES_MAX);
    }

    #[test]
    fn deletions_cost_where_a_store_says_so() {
        let cost = BucketCost::new(Prices { delete: 1.0, ..PRICES }, Duration::ZERO);
        let requests = Requests { deletes: 1000, ..Requests::default() };
        let month = cost.month(Duration::from_secs(1000), requests, 0);
        assert_eq!(month[3], ("delete", MONTH_SECONDS / 1e6));
    }
}
