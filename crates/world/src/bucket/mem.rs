//! A store in memory that does what a real one may do, driven by a seed.
//!
//! ```text
//!   call ── before ──▶ effect ── after ──▶ answer        the effect is a task of its own: a caller that is gone by then
//!                        │                               does not keep it from happening
//!                        └── later ──▶ effect again      (a proxy or a client library that tried twice)
//! ```
//! What may go wrong with one request: it never arrives; its answer never arrives; it takes effect long after its time-out;
//! it takes effect twice; it is answered 409 or 503 and nothing happened; it is answered 412 because its own first try had
//! made the object. On top of that the whole store may be out for a while.
//!
//! Everything is deterministic on one thread: fates, latencies (tokio time), and the trace hash.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Bucket, BucketCounters, BucketError, BucketErrorKind, BucketFuture, Listed, Object, Version};
use crate::rng::{Rng, SeededRng};
use crate::task;

/// Out of so many requests.
/// How often a reader that is stuck looks whether it still is.
const STUCK_LOOK: Duration = Duration::from_millis(50);
const PER: u64 = 1000;
/// The 99th percentile of the normal distribution.
const Z_P99: f64 = 2.326;

/// What goes wrong, and how often: out of a thousand requests.
#[derive(Clone, Debug)]
pub struct MemBucketFaults {
    /// From the call to the effect, and from the effect to the answer, each.
    pub latency: (Duration, Duration),
    /// Instead: median and 99th percentile of a whole request, log-normal, as stores over a network are.
    pub latency_p50_p99: Option<(Duration, Duration)>,
    /// A list takes so many times as long.
    pub list_factor: u32,
    /// After how long a request without an answer fails.
    pub time_out: Duration,
    /// Never arrives.
    pub request_lost: u64,
    /// Takes effect, and nobody is told.
    pub answer_lost: u64,
    /// Times out, and takes effect up to `late_max` after that.
    pub late: u64,
    /// Takes effect again up to `late_max` later.
    pub repeated: u64,
    /// Creates only: takes effect, and a second try on the way is answered that it exists.
    pub own_success_exists: u64,
    /// Creates and replaces only: 409, nothing happened.
    pub conflict: u64,
    /// 503, nothing happened.
    pub unavailable: u64,
    pub late_max: Duration,
}

impl Default for MemBucketFaults {
    /// A store without faults, and as fast as a store can be.
    fn default() -> Self {
        MemBucketFaults {
            latency: (Duration::from_millis(1), Duration::from_millis(10)),
            latency_p50_p99: None,
            list_factor: 1,
            time_out: Duration::from_secs(5),
            request_lost: 0,
            answer_lost: 0,
            late: 0,
            repeated: 0,
            own_success_exists: 0,
            conflict: 0,
            unavailable: 0,
            late_max: Duration::from_secs(60),
        }
    }
}

impl MemBucketFaults {
    /// Everything, often enough that a short run meets it all.
    pub fn all() -> Self {
        MemBucketFaults {
            latency: (Duration::from_millis(5), Duration::from_millis(300)),
            list_factor: 5,
            request_lost: 10,
            answer_lost: 10,
            late: 10,
            repeated: 10,
            own_success_exists: 10,
            conflict: 10,
            unavailable: 20,
            ..MemBucketFaults::default()
        }
    }
}

#[derive(Clone)]
pub struct MemBucket {
    state: Arc<Mutex<State>>,
    counters: Arc<BucketCounters>,
    /// Of this client's process: it asks for nothing any more, and hears nothing.
    is_dead: Arc<AtomicBool>,
}

struct State {
    rng: SeededRng,
    faults: MemBucketFaults,
    objects: BTreeMap<String, Object>,
    /// Nobody gets an answer.
    out: bool,
    /// What begins so is read when that is over.
    stuck: Option<String>,
    trace_hash: u64,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Usual,
    RequestLost,
    AnswerLost,
    Late,
    Repeated,
    OwnSuccessExists,
    Conflict,
    Unavailable,
}

/// What a request does to the objects.
#[derive(Clone)]
enum Effect {
    Create { key: String, bytes: Bytes },
    Replace { key: String, bytes: Bytes, seen: Version },
    Put { key: String, bytes: Bytes },
    Delete { key: String },
}

impl Effect {
    fn name(&self) -> (&'static str, &str) {
        match self {
            Effect::Create { key, .. } => ("create", key),
            Effect::Replace { key, .. } => ("replace", key),
            Effect::Put { key, .. } => ("put", key),
            Effect::Delete { key } => ("delete", key),
        }
    }

    fn is_conditional(&self) -> bool {
        matches!(self, Effect::Create { .. } | Effect::Replace { .. })
    }

    fn error(&self, kind: BucketErrorKind, detail: &str) -> BucketError {
        let (operation, key) = self.name();
        BucketError { kind, operation, key: key.to_owned(), detail: detail.to_owned() }
    }
}

fn unavailable(operation: &'static str, key: &str, detail: &str) -> BucketError {
    BucketError {
        kind: BucketErrorKind::Unavailable,
        operation,
        key: key.to_owned(),
        detail: detail.to_owned(),
    }
}

impl State {
    fn apply(&mut self, effect: &Effect) -> Result<Version, BucketError> {
        let (operation, key) = effect.name();
        self.trace(operation, key);
        let exists = || Err(effect.error(BucketErrorKind::Exists, "precondition failed (412)"));
        let bytes = match effect {
            Effect::Create { key, .. } if self.objects.contains_key(key) => return exists(),
            Effect::Replace { key, seen, .. }
                if self.objects.get(key).is_none_or(|object| object.version != *seen) =>
            {
                return exists();
            }
            Effect::Create { bytes, .. } | Effect::Replace { bytes, .. } | Effect::Put { bytes, .. } => bytes,
            Effect::Delete { key } => {
                self.objects.remove(key);
                return Ok(Version(String::new()));
            }
        };
        // As in S3: equal bytes have equal versions.
        let version = Version(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(bytes)));
        self.objects.insert(key.to_owned(), Object { bytes: bytes.clone(), version: version.clone() });
        Ok(version)
    }

    fn fate(&self, effect: &Effect) -> Fate {
        let faults = &self.faults;
        let mut drawn = self.rng.below(PER);
        let conditional = |often| if effect.is_conditional() { often } else { 0 };
        let own = if matches!(effect, Effect::Create { .. }) { faults.own_success_exists } else { 0 };
        for (often, fate) in [
            (faults.request_lost, Fate::RequestLost),
            (faults.answer_lost, Fate::AnswerLost),
            (faults.late, Fate::Late),
            (faults.repeated, Fate::Repeated),
            (own, Fate::OwnSuccessExists),
            (conditional(faults.conflict), Fate::Conflict),
            (faults.unavailable, Fate::Unavailable),
        ] {
            if drawn < often {
                return fate;
            }
            drawn -= often;
        }
        Fate::Usual
    }

    fn latency(&self) -> Duration {
        if let Some((median, p99)) = self.faults.latency_p50_p99 {
            // Half of it before the effect, half behind.
            return median.mul_f64((p99.as_secs_f64() / median.as_secs_f64()).powf(self.normal() / Z_P99))
                / 2;
        }
        let (least, most) = self.faults.latency;
        least + self.up_to(most.saturating_sub(least))
    }

    /// Box-Muller.
    fn normal(&self) -> f64 {
        let uniform = || (self.rng.below(1 << 53) + 1) as f64 / (1u64 << 53) as f64;
        (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
    }

    fn up_to(&self, most: Duration) -> Duration {
        Duration::from_nanos(self.rng.below(most.as_nanos() as u64 + 1))
    }

    fn trace(&mut self, operation: &str, key: &str) {
        for byte in operation.bytes().chain([b' ']).chain(key.bytes()) {
            // FNV-1a.
            self.trace_hash = (self.trace_hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl MemBucket {
    pub fn new(seed: u64) -> MemBucket {
        let state = State {
            rng: SeededRng::new(seed),
            faults: MemBucketFaults::default(),
            objects: BTreeMap::new(),
            out: false,
            stuck: None,
            trace_hash: 0xcbf2_9ce4_8422_2325,
        };
        MemBucket { state: Arc::new(Mutex::new(state)), counters: Arc::default(), is_dead: Arc::default() }
    }

    /// The same store for another process.
    pub fn client(&self) -> MemBucket {
        MemBucket { counters: Arc::default(), is_dead: Arc::default(), ..self.clone() }
    }

    /// The process ends, without a word. What it has asked for may still happen.
    pub fn kill(&self) {
        self.is_dead.store(true, Ordering::Release);
    }

    async fn alive(&self) {
        if self.is_dead.load(Ordering::Acquire) {
            std::future::pending().await
        }
    }

    pub fn set_faults(&self, faults: MemBucketFaults) {
        self.state.lock().faults = faults;
    }

    /// From now on every request times out, and those under way are lost or not as they are; or the end of that.
    pub fn set_out(&self, out: bool) {
        self.state.lock().out = out;
    }

    /// From now on whoever reads an object whose key begins so waits; or the end of that.
    pub fn set_stuck(&self, prefix: Option<&str>) {
        self.state.lock().stuck = prefix.map(str::to_owned);
    }

    /// What is stored, past all faults: for those who check a run.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        let state = self.state.lock();
        state.objects.iter().map(|(key, object)| (key.clone(), object.bytes.clone())).collect()
    }

    /// Two runs of one seed have the same.
    pub fn trace_hash(&self) -> u64 {
        self.state.lock().trace_hash
    }

    fn change(&self, effect: Effect) -> BucketFuture<Version> {
        let this = self.clone();
        Box::pin(async move {
            this.alive().await;
            let result = this.meet(effect).await;
            this.alive().await;
            BucketCounters::add(&this.counters.errors, u64::from(result.is_err()));
            result
        })
    }

    async fn meet(&self, effect: Effect) -> Result<Version, BucketError> {
        let (mut fate, before, after, late, time_out) = {
            let state = self.state.lock();
            let (before, after) = (state.latency(), state.latency());
            let fate = if state.out { Fate::RequestLost } else { state.fate(&effect) };
            (fate, before, after, state.up_to(state.faults.late_max), state.faults.time_out)
        };
        let timed_out = || effect.error(BucketErrorKind::Unavailable, "timed out");
        match fate {
            Fate::RequestLost => {
                task::sleep(time_out).await;
                return Err(timed_out());
            }
            Fate::Conflict => {
                task::sleep(before + after).await;
                return Err(effect.error(BucketErrorKind::Exists, "conflict (409)"));
            }
            Fate::Unavailable => {
                task::sleep(before + after).await;
                return Err(effect.error(BucketErrorKind::Unavailable, "slow down (503)"));
            }
            _ => {}
        }
        let (answer, answered) = oneshot::channel();
        let this = self.clone();
        let asked = effect.clone();
        task::spawn_outside(async move {
            task::sleep(if fate == Fate::Late { time_out + late } else { before }).await;
            // Nobody may wait for it any more; it has happened all the same.
            let _ = answer.send(this.state.lock().apply(&asked));
            if fate == Fate::Repeated {
                task::sleep(late).await;
                let _ = this.state.lock().apply(&asked);
            }
        });
        if matches!(fate, Fate::AnswerLost | Fate::Late) {
            task::sleep(time_out).await;
            return Err(timed_out());
        }
        let result = answered.await.map_err(|_| timed_out())?;
        task::sleep(after).await;
        if self.state.lock().out {
            fate = Fate::AnswerLost;
        }
        match (fate, result) {
            (Fate::AnswerLost, _) => {
                task::sleep(time_out).await;
                Err(timed_out())
            }
            (Fate::OwnSuccessExists, Ok(_)) => {
                Err(effect.error(BucketErrorKind::Exists, "precondition failed (412)"))
            }
            (_, result) => result,
        }
    }

    /// A request that changes nothing. What it sees is what is there at one moment of it.
    fn look<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        factor: fn(&MemBucketFaults) -> u32,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> BucketFuture<T> {
        let (this, key) = (self.clone(), key.to_owned());
        Box::pin(async move {
            this.alive().await;
            let (out, slow_down, lost, before, after, time_out) = {
                let mut state = this.state.lock();
                state.trace(operation, &key);
                let faults = &state.faults;
                let drawn = state.rng.below(PER);
                let lost = drawn < faults.request_lost;
                let slow_down = !lost && drawn < faults.request_lost + faults.unavailable;
                let factor = factor(faults);
                let (before, after) = (state.latency() * factor, state.latency() * factor);
                (state.out, slow_down, lost, before, after, state.faults.time_out)
            };
            let failed = |detail| {
                BucketCounters::add(&this.counters.errors, 1);
                Err(unavailable(operation, &key, detail))
            };
            if out || lost {
                task::sleep(time_out).await;
                return failed("timed out");
            }
            task::sleep(before).await;
            while this.state.lock().stuck.as_ref().is_some_and(|prefix| key.starts_with(prefix)) {
                task::sleep(STUCK_LOOK).await;
            }
            if slow_down {
                return failed("slow down (503)");
            }
            let seen = look(&this.state.lock());
            task::sleep(after).await;
            if this.state.lock().out {
                task::sleep(time_out).await;
                return failed("timed out");
            }
            this.alive().await;
            Ok(seen)
        })
    }

    fn count_put(&self, bytes: &Bytes) {
        BucketCounters::add(&self.counters.puts, 1);
        BucketCounters::add(&self.counters.bytes_put, bytes.len() as u64);
    }
}

impl Bucket for MemBucket {
    fn create(&self, key: &str, bytes: Bytes) -> BucketFuture<Version> {
        self.count_put(&bytes);
        self.change(Effect::Create { key: key.to_owned(), bytes })
    }

    fn replace(&self, key: &str, bytes: Bytes, seen: &Version) -> BucketFuture<Version> {
        self.count_put(&bytes);
        self.change(Effect::Replace { key: key.to_owned(), bytes, seen: seen.clone() })
    }

    fn put(&self, key: &str, bytes: Bytes) -> BucketFuture<Version> {
        self.count_put(&bytes);
        self.change(Effect::Put { key: key.to_owned(), bytes })
    }

    fn get(&self, key: &str) -> BucketFuture<Option<Object>> {
        BucketCounters::add(&self.counters.gets, 1);
        let (wanted, counters) = (key.to_owned(), self.counters.clone());
        self.look(
            "get",
            key,
            |_| 1,
            move |state| {
                let found = state.objects.get(&wanted).cloned();
                let len = found.as_ref().map_or(0, |object| object.bytes.len());
                BucketCounters::add(&counters.bytes_got, len as u64);
                found
            },
        )
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> BucketFuture<Option<Bytes>> {
        BucketCounters::add(&self.counters.gets, 1);
        let (wanted, counters) = (key.to_owned(), self.counters.clone());
        self.look(
            "get",
            key,
            |_| 1,
            move |state| {
                let bytes = &state.objects.get(&wanted)?.bytes;
                let end = (range.end as usize).min(bytes.len());
                let found = bytes.slice((range.start as usize).min(end)..end);
                BucketCounters::add(&counters.bytes_got, found.len() as u64);
                Some(found)
            },
        )
    }

    fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> BucketFuture<Vec<Listed>> {
        BucketCounters::add(&self.counters.lists, 1);
        let (start, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.look(
            "list",
            prefix,
            |faults| faults.list_factor,
            move |state| {
                let from = after.as_ref().filter(|after| **after > start).unwrap_or(&start);
                state
                    .objects
                    .range(from.clone()..)
                    .skip_while(|(key, _)| after.as_ref() == Some(key))
                    .take_while(|(key, _)| key.starts_with(&start))
                    .take(max)
                    .map(|(key, object)| Listed {
                        key: key.clone(),
                        len: object.bytes.len() as u64,
                        version: object.version.clone(),
                    })
                    .collect()
            },
        )
    }

    fn delete(&self, key: &str) -> BucketFuture<()> {
        BucketCounters::add(&self.counters.deletes, 1);
        let deleted = self.change(Effect::Delete { key: key.to_owned() });
        Box::pin(async move { deleted.await.map(drop) })
    }

    fn counters(&self) -> Arc<BucketCounters> {
        self.counters.clone()
    }
}
