//! The store in memory keeps what a store promises, and does what a store may do.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use world::bucket::{
    Bucket, BucketCounters, BucketErrorKind, BucketFuture, Listed, MemBucket, MemBucketFaults, Object,
    ProbeError, Version, probe,
};
use world::rng::SeededRng;
use world::task;

fn run<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(story)
}

fn always(change: impl FnOnce(&mut MemBucketFaults)) -> MemBucketFaults {
    let mut faults = MemBucketFaults::default();
    change(&mut faults);
    faults
}

const BYTES: Bytes = Bytes::from_static(b"content");

#[test]
fn one_of_sixteen_racing_creates_wins() {
    run(async {
        let bucket = MemBucket::new(1);
        let mut racing = task::JoinSet::new();
        for number in 0..16_u8 {
            let bucket = bucket.clone();
            racing.spawn(async move { (number, bucket.create("a", Bytes::from(vec![number])).await) });
        }
        let results = racing.join_all().await;
        let won: Vec<u8> =
            results.iter().filter(|(_, result)| result.is_ok()).map(|(number, _)| *number).collect();
        let lost = results.iter().filter_map(|(_, result)| result.as_ref().err());
        assert!(lost.into_iter().all(|error| error.kind == BucketErrorKind::Exists));
        assert_eq!(won.len(), 1);
        assert_eq!(bucket.get("a").await.unwrap().unwrap().bytes, won);
    });
}

#[test]
fn only_the_version_that_was_seen_is_replaced() {
    run(async {
        let bucket = MemBucket::new(1);
        let first = bucket.create("a", BYTES).await.unwrap();
        let second = bucket.replace("a", Bytes::from_static(b"new"), &first).await.unwrap();
        assert_ne!(first, second);
        let stale = bucket.replace("a", BYTES, &first).await.unwrap_err();
        assert_eq!(stale.kind, BucketErrorKind::Exists);
        bucket.delete("a").await.unwrap();
        assert!(bucket.replace("a", BYTES, &second).await.is_err(), "there is nothing to replace");
        assert_eq!(bucket.get("a").await.unwrap(), None);
        bucket.delete("a").await.unwrap();
    });
}

#[test]
fn what_timed_out_may_happen_later_even_behind_a_removal() {
    run(async {
        let bucket = MemBucket::new(1);
        bucket.set_faults(always(|faults| faults.late = 1000));
        let error = bucket.create("a", BYTES).await.unwrap_err();
        assert_eq!(error.kind, BucketErrorKind::Unavailable);
        bucket.set_faults(MemBucketFaults::default());
        assert_eq!(bucket.get("a").await.unwrap(), None, "not yet");
        bucket.delete("a").await.unwrap();
        task::sleep(Duration::from_secs(61)).await;
        assert_eq!(bucket.get("a").await.unwrap().unwrap().bytes, BYTES);
    });
}

#[test]
fn a_repeated_create_brings_an_object_back() {
    run(async {
        let bucket = MemBucket::new(1);
        bucket.set_faults(always(|faults| faults.repeated = 1000));
        bucket.create("a", BYTES).await.unwrap();
        bucket.set_faults(MemBucketFaults::default());
        bucket.delete("a").await.unwrap();
        assert_eq!(bucket.get("a").await.unwrap(), None);
        task::sleep(Duration::from_secs(61)).await;
        assert!(bucket.get("a").await.unwrap().is_some());
    });
}

#[test]
fn an_error_says_nothing_about_what_happened() {
    run(async {
        let bucket = MemBucket::new(1);
        for (key, faults, kind, there) in [
            ("a", always(|f| f.answer_lost = 1000), BucketErrorKind::Unavailable, true),
            ("b", always(|f| f.request_lost = 1000), BucketErrorKind::Unavailable, false),
            ("c", always(|f| f.own_success_exists = 1000), BucketErrorKind::Exists, true),
            ("d", always(|f| f.conflict = 1000), BucketErrorKind::Exists, false),
            ("e", always(|f| f.unavailable = 1000), BucketErrorKind::Unavailable, false),
        ] {
            bucket.set_faults(faults);
            assert_eq!(bucket.create(key, BYTES).await.unwrap_err().kind, kind, "{key}");
            bucket.set_faults(MemBucketFaults::default());
            assert_eq!(bucket.get(key).await.unwrap().is_some(), there, "{key}");
        }
    });
}

#[test]
fn a_caller_that_is_gone_does_not_stop_its_request() {
    run(async {
        let bucket = MemBucket::new(1);
        let gone = task::timeout(Duration::from_micros(1), bucket.create("a", BYTES)).await;
        assert!(gone.is_err());
        task::sleep(Duration::from_secs(1)).await;
        assert!(bucket.get("a").await.unwrap().is_some());
    });
}

#[test]
fn an_outage_answers_nobody_and_ends() {
    run(async {
        let bucket = MemBucket::new(1);
        bucket.create("a", BYTES).await.unwrap();
        bucket.set_out(true);
        let errors = [
            bucket.get("a").await.unwrap_err().kind,
            bucket.list("", None, 10).await.unwrap_err().kind,
            bucket.put("b", BYTES).await.unwrap_err().kind,
        ];
        assert_eq!(errors, [BucketErrorKind::Unavailable; 3]);
        bucket.set_out(false);
        assert!(bucket.get("a").await.unwrap().is_some());
        assert_eq!(bucket.get("b").await.unwrap(), None);
    });
}

#[test]
fn lists_are_in_order_and_go_on_where_they_stopped() {
    run(async {
        let bucket = MemBucket::new(1);
        for key in ["wal/2", "wal/1", "meta/1", "wal/3", "x"] {
            bucket.put(key, BYTES).await.unwrap();
        }
        let keys = async |after: Option<&str>, max| -> Vec<String> {
            let listed = bucket.list("wal/", after, max).await.unwrap();
            listed.into_iter().map(|listed| listed.key).collect()
        };
        assert_eq!(keys(None, 2).await, ["wal/1", "wal/2"]);
        assert_eq!(keys(Some("wal/2"), 2).await, ["wal/3"]);
        assert_eq!(keys(Some("a"), 9).await.len(), 3, "what lies before the prefix is no start");
        let part = bucket.get_range("x", 3..100).await.unwrap().unwrap();
        assert_eq!(&part[..], b"tent");
        assert_eq!(bucket.get_range("nothing", 0..1).await.unwrap(), None);
    });
}

/// Many requests at once under all faults.
fn storm(seed: u64) -> (u64, Vec<String>) {
    run(async {
        let bucket = MemBucket::new(seed);
        bucket.set_faults(MemBucketFaults::all());
        let mut all = task::JoinSet::new();
        for number in 0..400_u32 {
            let bucket = bucket.clone();
            all.spawn(async move {
                let key = format!("k/{}", number % 40);
                task::sleep(Duration::from_millis(u64::from(number) * 7)).await;
                let told = match number % 4 {
                    0 => bucket.create(&key, Bytes::from(number.to_be_bytes().to_vec())).await.is_ok(),
                    1 => bucket.delete(&key).await.is_ok(),
                    2 => bucket.get(&key).await.is_ok(),
                    _ => bucket.list("k/", None, 5).await.is_ok(),
                };
                format!("{number} {told}")
            });
        }
        let told = all.join_all().await;
        task::sleep(Duration::from_secs(120)).await;
        (bucket.trace_hash(), told)
    })
}

#[test]
fn the_same_seed_has_the_same_storm() {
    assert_eq!(storm(7), storm(7));
    assert_ne!(storm(7).0, storm(8).0);
}

/// A store that breaks one promise.
struct Liar {
    inner: MemBucket,
    lie: Lie,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    IgnoresIfNoneMatch,
    /// Right one after the other, and wrong in a race.
    LooksFirstAndWritesThen,
    IgnoresIfMatch,
    ListsLate,
}

impl Bucket for Liar {
    fn create(&self, key: &str, bytes: Bytes) -> BucketFuture<Version> {
        let (inner, key, own) = (self.inner.clone(), key.to_owned(), bytes.clone());
        match self.lie {
            Lie::IgnoresIfNoneMatch => inner.put(&key, bytes),
            Lie::LooksFirstAndWritesThen => Box::pin(async move {
                match inner.get(&key).await? {
                    Some(_) => inner.create(&key, own).await,
                    None => inner.put(&key, own).await,
                }
            }),
            _ => inner.create(&key, bytes),
        }
    }

    fn replace(&self, key: &str, bytes: Bytes, seen: &Version) -> BucketFuture<Version> {
        match self.lie {
            Lie::IgnoresIfMatch => self.inner.put(key, bytes),
            _ => self.inner.replace(key, bytes, seen),
        }
    }

    fn put(&self, key: &str, bytes: Bytes) -> BucketFuture<Version> {
        self.inner.put(key, bytes)
    }

    fn get(&self, key: &str) -> BucketFuture<Option<Object>> {
        self.inner.get(key)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> BucketFuture<Option<Bytes>> {
        self.inner.get_range(key, range)
    }

    fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> BucketFuture<Vec<Listed>> {
        match self.lie {
            Lie::ListsLate => Box::pin(std::future::ready(Ok(Vec::new()))),
            _ => self.inner.list(prefix, after, max),
        }
    }

    fn delete(&self, key: &str) -> BucketFuture<()> {
        self.inner.delete(key)
    }

    fn counters(&self) -> Arc<BucketCounters> {
        self.inner.counters()
    }
}

#[test]
fn the_probe_refuses_a_store_that_breaks_a_promise_and_says_which() {
    run(async {
        for (lie, says) in [
            (Lie::IgnoresIfNoneMatch, "If-None-Match"),
            (Lie::LooksFirstAndWritesThen, "several of many racing"),
            (Lie::IgnoresIfMatch, "If-Match"),
            (Lie::ListsLate, "lists are not consistent"),
        ] {
            let bucket: Arc<dyn Bucket> = Arc::new(Liar { inner: MemBucket::new(1), lie });
            let error = probe(&bucket, "probe/", &SeededRng::new(1)).await.unwrap_err();
            assert!(matches!(error, ProbeError::Broken(_)), "{lie:?}: {error}");
            assert!(error.to_string().contains(says), "{lie:?}: {error}");
        }
    });
}

#[test]
fn the_probe_passes_an_honest_store_in_any_weather_and_leaves_nothing() {
    for seed in 0..100 {
        run(async {
            let store = MemBucket::new(seed);
            let bucket: Arc<dyn Bucket> = Arc::new(store.clone());
            probe(&bucket, "probe/", &SeededRng::new(seed)).await.unwrap();
            assert_eq!(store.objects().len(), 0);
            store.set_faults(MemBucketFaults::all());
            match probe(&bucket, "probe/", &SeededRng::new(seed)).await {
                // All racing creates may have been lost.
                Ok(()) | Err(ProbeError::Silent(_)) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        });
    }
}

#[test]
fn a_store_that_is_out_is_silent_and_not_broken() {
    run(async {
        let store = MemBucket::new(1);
        store.set_out(true);
        let bucket: Arc<dyn Bucket> = Arc::new(store);
        let error = probe(&bucket, "probe/", &SeededRng::new(1)).await.unwrap_err();
        assert!(matches!(error, ProbeError::Silent(_)), "{error}");
    });
}
