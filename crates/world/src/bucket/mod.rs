//! An object store: as little of it as the engine needs, and as little trust as it deserves.
//!
//! - Only `Ok` is success, and only of this very request. [`BucketErrorKind::Exists`] and [`BucketErrorKind::Unavailable`]
//!   both mean *unknown*: the store, or a retry on the way to it, may have done what was asked before it said so, and what
//!   timed out may still happen, minutes later, also after the object was removed again. Who needs to know looks with
//!   [`Bucket::get`].
//! - Once an object is there, every later `get` and `list` shows it (strong consistency, as S3 promises since 2020). Nothing
//!   can prove that promise; the probe at start ([`probe()`]) tests the conditional writes, which not every store keeps.
//! - Removal may take effect late, and nothing here rests on when.
//!
//! `RealBucket` (feature `bucket`, a crate of many others: only `cli` turns it on) speaks to a store; [`MemBucket`] is a seeded
//! one in memory that loses, delays and repeats requests.

mod mem;
mod probe;
#[cfg(feature = "bucket")]
mod real;
mod store;

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

pub use mem::{MemBucket, MemBucketFaults};
pub use probe::{ProbeError, probe};
#[cfg(feature = "bucket")]
pub use real::{BucketUrlError, RealBucket};
pub use store::{StoreError, Stored, patiently, store};

pub type BucketFuture<T> = Pin<Box<dyn Future<Output = Result<T, BucketError>> + Send + 'static>>;

/// What tells two contents of a key apart: S3's ETag. Equal bytes may have equal versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub bytes: Bytes,
    pub version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub len: u64,
    pub version: Version,
}

pub trait Bucket: Send + Sync + 'static {
    /// Makes an object where none is (`If-None-Match: *`).
    fn create(&self, key: &str, bytes: Bytes) -> BucketFuture<Version>;
    /// Replaces exactly this version (`If-Match`).
    fn replace(&self, key: &str, bytes: Bytes, seen: &Version) -> BucketFuture<Version>;
    /// Puts it there whatever was.
    fn put(&self, key: &str, bytes: Bytes) -> BucketFuture<Version>;
    /// `None`: at some moment between the call and the answer there was no such object.
    fn get(&self, key: &str) -> BucketFuture<Option<Object>>;
    /// The bytes of a range; fewer only at the object's end.
    fn get_range(&self, key: &str, range: Range<u64>) -> BucketFuture<Option<Bytes>>;
    /// Up to `max` objects below `prefix` (empty, or ends with a slash) whose keys are greater than `after`, in the order of
    /// their keys.
    fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> BucketFuture<Vec<Listed>>;
    /// An object that is not there is removed as well.
    fn delete(&self, key: &str) -> BucketFuture<()>;
    fn counters(&self) -> Arc<BucketCounters>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketErrorKind {
    /// 409 or 412: another content is there, or our own from an earlier try, or soon will be.
    Exists,
    /// Time-out, 5xx, 429, broken connection: it may have happened, or may happen yet.
    Unavailable,
    /// 401, 403, no such bucket: asking again will not help.
    Refused,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} {key}: {detail}")]
pub struct BucketError {
    pub kind: BucketErrorKind,
    pub operation: &'static str,
    pub key: String,
    pub detail: String,
}

/// Requests, as stores charge for them, tries included.
#[derive(Debug, Default)]
pub struct BucketCounters {
    pub puts: AtomicU64,
    pub gets: AtomicU64,
    pub lists: AtomicU64,
    pub deletes: AtomicU64,
    pub errors: AtomicU64,
    pub bytes_put: AtomicU64,
    pub bytes_got: AtomicU64,
}

impl BucketCounters {
    fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}
