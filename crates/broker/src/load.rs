//! How much traffic the partitions have that this broker leads, and how much the other brokers say theirs have.
//!
//! Traffic is what is appended to a partition and what clients read of it at its leader, in bytes per second, averaged over about a
//! minute. Brokers tell one another the sum beside how far they are with the metadata log; what a broker has not said lately is not known.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use protocol::TopicIdPartition;
use world::clock::SharedClock;
use world::collections::HashMap;

/// Between two looks at what partitions have counted.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// What is older than this counts about a third.
const AVERAGED_OVER: Duration = Duration::from_secs(60);
/// What another broker said is believed for so long; it is spoken to every few seconds.
const SAID_LASTS: Duration = Duration::from_secs(30);

pub(crate) struct Loads {
    clock: SharedClock,
    /// As many as are led here.
    own: Mutex<Own>,
    /// Of all that is led here, whole bytes per second.
    sum: AtomicU64,
    /// By WAL id. As many as live.
    said: Mutex<BTreeMap<u64, Said>>,
}

#[derive(Default)]
struct Own {
    looked: Option<Duration>,
    partitions: HashMap<TopicIdPartition, Seen>,
}

struct Seen {
    /// What it had counted at the last look.
    bytes: u64,
    per_second: f64,
}

struct Said {
    at: Duration,
    per_second: u64,
}

impl Loads {
    pub fn new(clock: SharedClock) -> Loads {
        Loads { clock, own: Mutex::default(), sum: AtomicU64::new(0), said: Mutex::default() }
    }

    /// Looks, if it is time: what the partitions that are led here have counted since they were opened.
    pub fn look(&self, counted: impl FnOnce() -> Vec<(TopicIdPartition, u64)>) {
        let now = self.clock.monotonic();
        let mut own = self.own.lock();
        let since = own.looked.map(|looked| now.saturating_sub(looked));
        if since.is_some_and(|since| since < LOOK_EVERY) {
            return;
        }
        own.looked = Some(now);
        let mut before = std::mem::take(&mut own.partitions);
        let weight =
            since.map_or(0.0, |since| 1.0 - (-since.as_secs_f64() / AVERAGED_OVER.as_secs_f64()).exp());
        let look = |(id, bytes): (TopicIdPartition, u64)| {
            let seen = match (before.remove(&id), since) {
                (Some(Seen { bytes: before, per_second }), Some(since)) => {
                    let grown = bytes.saturating_sub(before) as f64 / since.as_secs_f64();
                    Seen { bytes, per_second: per_second + (grown - per_second) * weight }
                }
                // It came since the last look: the first figure, as it is.
                (None, Some(since)) => Seen { bytes, per_second: bytes as f64 / since.as_secs_f64() },
                (_, None) => Seen { bytes, per_second: 0.0 },
            };
            (id, seen)
        };
        // Most partitions of a large cluster have none at all.
        own.partitions = counted().into_iter().filter(|(_, bytes)| *bytes > 0).map(look).collect();
        let sum: f64 = own.partitions.values().map(|seen| seen.per_second).sum();
        self.sum.store(sum as u64, Ordering::Relaxed);
    }

    /// Of everything that is led here, bytes per second.
    pub fn own(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// Of one partition that is led here.
    pub fn of(&self, id: &TopicIdPartition) -> u64 {
        self.own.lock().partitions.get(id).map_or(0, |seen| seen.per_second as u64)
    }

    /// Another broker says this of itself.
    pub fn said(&self, wal_id: u64, per_second: u64) {
        let now = self.clock.monotonic();
        let mut said = self.said.lock();
        said.retain(|_, said| now.saturating_sub(said.at) <= SAID_LASTS);
        said.insert(wal_id, Said { at: now, per_second });
    }

    /// By WAL id, those of which it is known.
    pub fn others(&self) -> BTreeMap<u64, u64> {
        let now = self.clock.monotonic();
        let said = self.said.lock();
        let fresh = said.iter().filter(|(_, said)| now.saturating_sub(said.at) <= SAID_LASTS);
        fresh.map(|(wal_id, said)| (*wal_id, said.per_second)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::Uuid;
    use world::clock::ManualClock;

    use super::*;

    fn place(index: i32) -> TopicIdPartition {
        TopicIdPartition::new(Uuid::from_u128(7), index)
    }

    #[test]
    fn traffic_is_averaged_over_about_a_minute() {
        let clock = Arc::new(ManualClock::new(0));
        let loads = Loads::new(clock.clone());
        let mut bytes = [5_000_000, 0];
        let mut after = |seconds: u64, per_second: [u64; 2]| {
            for _ in 0..seconds / 10 {
                clock.advance(Duration::from_secs(10));
                bytes = [bytes[0] + 10 * per_second[0], bytes[1] + 10 * per_second[1]];
                loads.look(|| vec![(place(0), bytes[0]), (place(1), bytes[1])]);
            }
            (loads.own(), loads.of(&place(0)), loads.of(&place(1)))
        };
        // What was there before the first look says nothing of now.
        assert_eq!(after(10, [1_000, 0]), (0, 0, 0));
        let (sum, first, second) = after(60, [1_000, 0]);
        assert!((600..700).contains(&first) && sum == first && second == 0, "{first} {second}");
        let (sum, first, second) = after(600, [1_000, 3_000]);
        assert!((990..=1_000).contains(&first) && (2_990..=3_000).contains(&second), "{first} {second}");
        assert!(sum.abs_diff(first + second) <= 1);
        let (_, first, second) = after(60, [1_000, 0]);
        assert!((990..=1_000).contains(&first) && (900..1_200).contains(&second), "{first} {second}");
        // Looks that are too close together change nothing.
        clock.advance(Duration::from_secs(9));
        loads.look(|| panic!("it is not time"));
    }

    #[test]
    fn what_came_counts_at_once_and_what_went_does_not_any_more() {
        let clock = Arc::new(ManualClock::new(0));
        let loads = Loads::new(clock.clone());
        loads.look(Vec::new);
        clock.advance(Duration::from_secs(10));
        loads.look(|| vec![(place(3), 20_000)]);
        assert_eq!((loads.own(), loads.of(&place(3))), (2_000, 2_000));
        clock.advance(Duration::from_secs(10));
        loads.look(Vec::new);
        assert_eq!((loads.own(), loads.of(&place(3))), (0, 0));
    }

    #[test]
    fn what_others_said_long_ago_is_not_known() {
        let clock = Arc::new(ManualClock::new(0));
        let loads = Loads::new(clock.clone());
        loads.said(5, 100);
        clock.advance(Duration::from_secs(20));
        loads.said(9, 200);
        assert_eq!(loads.others(), BTreeMap::from([(5, 100), (9, 200)]));
        clock.advance(Duration::from_secs(20));
        assert_eq!(loads.others(), BTreeMap::from([(9, 200)]));
    }
}
