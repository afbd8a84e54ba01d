//! Leases: how brokers in one bucket notice that another is gone. They serve progress only; nothing is safe because of them (R19).
//!
//! ```text
//! lease/<wal_id:020>     put again and again by the incarnation while it lives; a counter makes each content another one
//! ```
//!
//! A lease is expired when it stayed the same for its time to live, and only the time between two *successful* looks counts that
//! are close together: an outage of the bucket, or a pause of the one who looks, fences nobody.
//!
//! ```text
//!   look ├──list──┤  pause  ├──list──┤        close: the pause is short, and neither list took as long as a lease lives
//!        began    ended     began             what counts: from begin to begin, a third of the time to live at most
//! ```
//! What a list shows stood there at some moment of it. So of the look that saw a content first only its end is known to be behind that
//! content, and from there on begins are counted: together never more than has passed. Lists that take longer than a third count less
//! than they take, and who is gone is found all the same; one that took as long as a lease lives is an outage.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use world::broken;
use world::bucket::{Bucket, BucketError, Listed, Version};
use world::task;

use crate::catalog::Catalog;
use crate::encoding::{Decoder, Encoder, checksum};

const FOLDER: &str = "lease/";
const MAGIC: [u8; 8] = *b"OTLALEAS";
const LEASE_VERSION: u16 = 1;
const LISTED_AT_ONCE: usize = 1000;
/// However fast the metadata grows, a lease is not put more often than this.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// What a lease says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub wal_id: u64,
    /// Grows with every renewal: equal bytes would have equal versions.
    pub counter: u64,
    /// The metadata up to this position is in effect at that broker: withdrawals wait for it.
    pub applied: u64,
}

impl Lease {
    fn encode(&self) -> Bytes {
        let mut out = Encoder::with_capacity(64);
        out.raw(&MAGIC);
        out.u16(LEASE_VERSION);
        out.u16(0);
        out.u64(self.wal_id);
        out.u64(self.counter);
        out.u64(self.applied);
        let mut bytes = out.finish();
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (fields, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if !fields.starts_with(&MAGIC) || checksum(fields).to_le_bytes() != crc {
            return None;
        }
        let mut fields = Decoder::new(&fields[MAGIC.len()..], "lease");
        if fields.u16().ok()? != LEASE_VERSION {
            return None;
        }
        fields.u16().ok()?;
        Some(Self { wal_id: fields.u64().ok()?, counter: fields.u64().ok()?, applied: fields.u64().ok()? })
    }
}

fn key(wal_id: u64) -> String {
    format!("{FOLDER}{wal_id:020}")
}

/// The leases of a bucket.
#[derive(Clone)]
pub struct Leases {
    bucket: Arc<dyn Bucket>,
}

impl Leases {
    pub(crate) fn new(bucket: Arc<dyn Bucket>) -> Self {
        Self { bucket }
    }

    /// One's own: nobody else writes it.
    pub async fn put(&self, lease: Lease) -> Result<(), BucketError> {
        self.bucket.put(&key(lease.wal_id), lease.encode()).await.map(drop)
    }

    /// One request for all of them.
    pub async fn list(&self) -> Result<BTreeMap<u64, Version>, BucketError> {
        let mut leases = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let listed = self.bucket.list(FOLDER, after.as_deref(), LISTED_AT_ONCE).await?;
            let is_last = listed.len() < LISTED_AT_ONCE;
            after = listed.last().map(|listed| listed.key.clone());
            leases.extend(listed.into_iter().filter_map(|Listed { key, version, .. }| {
                let digits = key.strip_prefix(FOLDER).filter(|digits| digits.len() == 20)?;
                Some((digits.parse().ok()?, version))
            }));
            if is_last {
                return Ok(leases);
            }
        }
    }

    pub async fn get(&self, wal_id: u64) -> Result<Option<Lease>, BucketError> {
        let object = self.bucket.get(&key(wal_id)).await?;
        Ok(object.and_then(|object| Lease::decode(&object.bytes)))
    }

    /// Its WAL is sealed, or its broker has left.
    pub async fn remove(&self, wal_id: u64) -> Result<(), BucketError> {
        self.bucket.delete(&key(wal_id)).await
    }
}

/// Who has not moved for how long.
#[derive(Debug, Default)]
pub struct LeaseWatch {
    seen: BTreeMap<u64, Seen>,
    /// When the look before began and ended.
    looked: Option<(Duration, Duration)>,
}

#[derive(Debug)]
struct Seen {
    /// None: there is no lease. Its incarnation has left, or has not come so far yet.
    version: Option<Version>,
    unchanged: Duration,
    /// As at the look before.
    is_same: bool,
}

impl LeaseWatch {
    /// A look at these incarnations: monotonic times just before the answer was asked for, and when it was there.
    pub fn look(
        &mut self,
        began: Duration,
        ended: Duration,
        ttl: Duration,
        watched: impl IntoIterator<Item = u64>,
        leases: &BTreeMap<u64, Version>,
    ) {
        let (first, again) =
            self.looked.map_or_else(Default::default, |before| counted(before, began, ended, ttl));
        self.looked = Some((began, ended));
        let mut before = std::mem::take(&mut self.seen);
        for wal_id in watched {
            let version = leases.get(&wal_id).cloned();
            let same = before.remove(&wal_id).filter(|seen| seen.version == version);
            let counts = |seen: &Seen| seen.unchanged + if seen.is_same { again } else { first };
            let unchanged = same.as_ref().map_or(Duration::ZERO, counts);
            self.seen.insert(wal_id, Seen { version, unchanged, is_same: same.is_some() });
        }
    }

    pub fn is_expired(&self, wal_id: u64, ttl: Duration) -> bool {
        self.unchanged(wal_id) >= Some(ttl)
    }

    /// For how long its lease has stood still, as far as that counts.
    pub fn unchanged(&self, wal_id: u64) -> Option<Duration> {
        self.seen.get(&wal_id).map(|seen| seen.unchanged)
    }

    /// It has a lease, and the last look did not find it late.
    pub fn is_lively(&self, wal_id: u64, ttl: Duration) -> bool {
        self.seen.get(&wal_id).is_some_and(|seen| seen.version.is_some() && seen.unchanged < ttl / 2)
    }

    /// Not renewed since the look before, however long ago that was.
    pub fn is_same(&self, wal_id: u64) -> bool {
        self.seen.get(&wal_id).is_some_and(|seen| seen.is_same)
    }
}

/// What counts between two looks, for a content that the one before was the first to see, and for one that was known already.
fn counted(
    (last_began, last_ended): (Duration, Duration),
    began: Duration,
    ended: Duration,
    ttl: Duration,
) -> (Duration, Duration) {
    let (pause, since) = (began.saturating_sub(last_ended), began.saturating_sub(last_began));
    if broken::rule("bucket-outage-mass-fencing") {
        return (since, since);
    }
    // Not seen for too long: what was in between says nothing.
    let longest = ended.saturating_sub(began).max(last_ended.saturating_sub(last_began));
    if pause > ttl / 3 || longest >= ttl {
        return Default::default();
    }
    (pause, since.min(ttl / 3))
}

/// Renews a broker's lease for as long as its catalog lives, and at once when more of the metadata is in effect.
pub(crate) async fn keep(catalog: Weak<Catalog>, leases: Leases, ttl: Duration) {
    let pause = ttl / 3;
    let mut counter = 0;
    loop {
        let Some(strong) = catalog.upgrade().filter(|catalog| !catalog.is_closed()) else { return };
        counter += u64::from(!broken::rule("equal-lease-body"));
        let mut applied = strong.applied_changes();
        let lease = Lease { wal_id: strong.wal_id(), counter, applied: *applied.borrow_and_update() };
        drop(strong);
        if let Err(error) = leases.put(lease).await {
            tracing::debug!("the lease is not renewed: {error}");
        }
        task::sleep(PAUSE_MIN.min(pause)).await;
        let _ = task::timeout(pause.saturating_sub(PAUSE_MIN), applied.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(6);

    fn version(text: &str) -> Version {
        Version(text.to_owned())
    }

    fn looks(watch: &mut LeaseWatch, from: u64, to: u64, step: usize, content: &str) {
        for second in (from..=to).step_by(step) {
            let leases = BTreeMap::from([(7, version(content))]);
            let at = Duration::from_secs(second);
            watch.look(at, at, TTL, [7, 8], &leases);
        }
    }

    #[test]
    fn who_does_not_move_for_its_time_to_live_is_expired() {
        let mut watch = LeaseWatch::default();
        looks(&mut watch, 0, 4, 2, "a");
        assert!(!watch.is_expired(7, TTL) && watch.is_same(7) && !watch.is_lively(7, TTL));
        looks(&mut watch, 5, 5, 1, "b");
        assert!(!watch.is_same(7) && watch.is_lively(7, TTL));
        looks(&mut watch, 6, 10, 2, "b");
        assert!(!watch.is_expired(7, TTL) && watch.is_expired(8, TTL), "8 has no lease at all");
        looks(&mut watch, 12, 12, 1, "b");
        assert!(watch.is_expired(7, TTL) && !watch.is_expired(9, TTL));
    }

    /// bucket-outage-mass-fencing: looks far apart say nothing, however long the lease stood still between them.
    #[test]
    fn an_outage_counts_for_nobody() {
        let mut watch = LeaseWatch::default();
        looks(&mut watch, 0, 600, 3, "a");
        assert!(!watch.is_expired(7, TTL));
        looks(&mut watch, 602, 606, 2, "a");
        assert!(watch.is_expired(7, TTL));
    }

    /// R19 with lists that take long: whoever is gone is found, later; whatever the lists took, never before its time.
    #[test]
    fn slow_lists_find_who_is_gone() {
        let leases = BTreeMap::from([(7, version("a"))]);
        let expires_after = |took_ms: u64, pause_ms: u64| {
            let (mut watch, mut now) = (LeaseWatch::default(), Duration::ZERO);
            let first_ended = Duration::from_millis(took_ms);
            for _ in 0..100 {
                let began = now;
                now += Duration::from_millis(took_ms);
                watch.look(began, now, TTL, [7], &leases);
                if watch.is_expired(7, TTL) {
                    assert!(
                        began - first_ended >= TTL,
                        "{took_ms} {pause_ms}: unchanged for {:?}",
                        began - first_ended
                    );
                    return Some(now.as_millis() as u64);
                }
                now += Duration::from_millis(pause_ms);
            }
            None
        };
        assert_eq!(expires_after(0, 1_500), Some(6_000));
        assert_eq!(expires_after(1_800, 750), Some(12_000), "one that the rule for fast lists never found");
        for (took_ms, pause_ms) in [(100, 1_500), (2_500, 0), (4_000, 0), (5_900, 0), (5_900, 2_000)] {
            let after = expires_after(took_ms, pause_ms);
            assert!(
                after.is_some_and(|after| after <= 6 * (took_ms + pause_ms) + 6_000),
                "{took_ms}: {after:?}"
            );
        }
        // An outage, a pause of the one who looks, and nothing that is answered.
        for (took_ms, pause_ms) in [(6_000, 0), (60_000, 0), (0, 2_001), (5_000, 2_001), (100, 600_000)] {
            assert_eq!(expires_after(took_ms, pause_ms), None, "{took_ms} {pause_ms}");
        }
    }

    /// One list that hung is not the time that it hung.
    #[test]
    fn a_list_that_hung_counts_for_nobody() {
        let leases = BTreeMap::from([(7, version("a"))]);
        let mut watch = LeaseWatch::default();
        let mut now = Duration::ZERO;
        for took in [0, 0, 0, 3_600, 0, 0, 0, 0] {
            let began = now;
            now += Duration::from_secs(took);
            watch.look(began, now, TTL, [7], &leases);
            assert!(!watch.is_expired(7, TTL), "at {now:?}");
            now += Duration::from_millis(1_000);
        }
        assert_eq!(watch.unchanged(7), Some(Duration::from_secs(5)));
    }

    /// The rules of R19 removed: an outage fences everybody, and so does a lease whose content stays the same.
    #[test]
    fn without_the_rules_live_brokers_would_be_fenced() {
        broken::set(Some("bucket-outage-mass-fencing"));
        let mut watch = LeaseWatch::default();
        looks(&mut watch, 0, 600, 300, "a");
        broken::set(None);
        assert!(watch.is_expired(7, TTL), "two looks, an outage between them");
        assert!(!expires_under("none"));
        assert!(expires_under("equal-lease-body"));
    }

    /// Does a broker that renews its lease expire all the same?
    fn expires_under(scenario: &'static str) -> bool {
        broken::set(Some(scenario));
        world::task::deterministic(1);
        let expired = world::task::paused_runtime().block_on(async {
            let bucket: Arc<dyn Bucket> = Arc::new(world::bucket::MemBucket::new(1));
            let rng = world::rng::SeededRng::shared(1);
            let options = crate::CatalogOptions { lease_ttl: TTL, ..Default::default() };
            let catalog = Catalog::open_bucket(bucket, rng, options).await.unwrap();
            let (leases, began) = (catalog.leases().unwrap(), task::now());
            let mut watch = LeaseWatch::default();
            while began.elapsed() < TTL * 3 {
                task::sleep(TTL / 4).await;
                let at = began.elapsed();
                let listed = leases.list().await.unwrap();
                watch.look(at, began.elapsed(), TTL, [catalog.wal_id()], &listed);
            }
            watch.is_expired(catalog.wal_id(), TTL)
        });
        broken::set(None);
        expired
    }

    #[test]
    fn a_lease_is_read_as_it_was_written_and_never_equals_the_one_before() {
        let lease = Lease { wal_id: 7, counter: 1, applied: 99 };
        assert_eq!(Lease::decode(&lease.encode()), Some(lease));
        assert_ne!(lease.encode(), Lease { counter: 2, ..lease }.encode());
        let mut torn = lease.encode().to_vec();
        torn[20] ^= 1;
        assert_eq!((Lease::decode(&torn), Lease::decode(b"")), (None, None));
    }
}
