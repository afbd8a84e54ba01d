//! A second tier: a log in a directory copies what is sealed into a bucket, lets its own copies go when the local retention says
//! so, and serves old offsets from there (KIP-405).
//!
//! ```text
//!   WAL files, segments ──▶ object in memory ──▶ bucket, read back ──▶ manifest, catalog ──▶ local copies may go
//! ```
//! The directory stays the primary: what is acknowledged is synced there, and nothing of that waits for the bucket. An object is
//! a container of kind 3, as a segment is, with extents of the partitions whose topics want it (`offload.rs`); which pieces lie in
//! which object says a manifest of the same form as the local one, which lies in the directory too (`manifest.rs`). So a start
//! replays the manifest and asks the bucket for nothing.
//!
//! Start reading at `offload.rs`, then `partition.rs`. See `docs/decisions/tier.md`.

mod offload;
mod partition;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use world::bucket::{Bucket, ProbeError, probe};
use world::rng::Rng;
use world::task;

use crate::bucket::{Blocks, Home, Object};
use crate::error::ReadError;
use crate::extent::Extent;
use crate::segment::tier_folder;
use crate::segment_files::SegmentUses;
use crate::settings::LogSettings;

pub use offload::OffloadError;
pub(crate) use offload::{Offloader, offload};
pub use partition::TieredOffsets;

/// What the tier did so far, and what waits for it.
#[derive(Debug, Default)]
pub struct TierCounters {
    /// Objects, their bytes, and how many of those are still read.
    pub objects: AtomicU64,
    pub object_bytes: AtomicU64,
    pub live_bytes: AtomicU64,
    pub copies: AtomicU64,
    pub bytes_copied: AtomicU64,
    /// Rounds that ended for want of the bucket.
    pub errors: AtomicU64,
    /// Sealed and not copied: bytes, the files and segments that they lie in, and for how long the oldest waits.
    pub lag_bytes: AtomicU64,
    pub lag_segments: AtomicU64,
    pub lag_ms: AtomicU64,
    /// Local copies that were let go.
    pub local_bytes_dropped: AtomicU64,
    pub deletes: AtomicU64,
    /// Objects that nothing leads to any more and that are still there.
    pub waiting_deletes: AtomicU64,
    pub reads: AtomicU64,
    pub bytes_read: AtomicU64,
    pub read_errors: AtomicU64,
}

/// The tier as readers see it.
pub struct Tier {
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) log_id: [u8; 16],
    pub(crate) uses: SegmentUses,
    pub counters: Arc<TierCounters>,
    blocks: Arc<Blocks>,
    readers: Arc<Semaphore>,
    limits: RwLock<TierLimits>,
}

/// What may be changed while the log is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierLimits {
    /// How long a reader waits.
    pub read_wait: Duration,
    /// Copying goes on at this pace; 0 is without bound.
    pub bytes_per_second: u64,
}

impl Tier {
    pub fn new(bucket: Arc<dyn Bucket>, log_id: [u8; 16], settings: &LogSettings) -> Self {
        Self {
            bucket,
            log_id,
            uses: SegmentUses::default(),
            counters: Arc::default(),
            // A request that fails at once is tried again while somebody waits.
            blocks: Arc::new(Blocks::new(settings.tier_cache_bytes, 0, settings.tier_read_wait / 2)),
            readers: Arc::new(Semaphore::new(settings.tier_reads_max)),
            limits: RwLock::new(TierLimits {
                read_wait: settings.tier_read_wait,
                bytes_per_second: settings.tier_bytes_per_second,
            }),
        }
    }

    /// Does the store keep its promises? False: it does not say so in time.
    pub async fn prove_itself(&self, rng: &dyn Rng, wait: Duration) -> Result<bool, ProbeError> {
        if wait.is_zero() {
            return Ok(false);
        }
        // Below the folder that is swept: a request that was given up may still make an object.
        let folder = tier_folder(&self.log_id) + "probe/";
        match task::timeout(wait, probe(&self.bucket, &folder, rng)).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error @ ProbeError::Broken(_))) => Err(error),
            Ok(Err(silent)) => {
                tracing::warn!("nothing is copied to the second tier until it answers: {silent}");
                Ok(false)
            }
            Err(_) => {
                tracing::warn!(
                    "nothing is copied to the second tier until it answers; it was silent for {wait:?}"
                );
                Ok(false)
            }
        }
    }

    pub fn limits(&self) -> TierLimits {
        *self.limits.read()
    }

    pub fn set_limits(&self, limits: TierLimits) {
        *self.limits.write() = limits;
    }

    fn home(&self, extent: &Extent) -> Home {
        let place = extent.tier().expect("an extent in the tier");
        Home::Tier { log_id: self.log_id, id: place.segment.id }
    }

    /// The bytes of extents of one object, unchecked. Whoever waits in vain may come again: what was asked for still comes, and
    /// stays in memory for a while.
    pub async fn read(&self, together: &[Extent]) -> Result<Vec<Bytes>, ReadError> {
        let Some(first) = together.first() else { return Ok(Vec::new()) };
        let home = self.home(first);
        let ranges: Vec<(u64, u64)> = together.iter().map(|extent| (extent.position(), extent.len)).collect();
        let (bucket, blocks, readers) = (self.bucket.clone(), self.blocks.clone(), self.readers.clone());
        let counters = self.counters.clone();
        let read = async move {
            let permit = readers.acquire_owned().await;
            counters.reads.fetch_add(1, Ordering::Relaxed);
            // A task of its own: a reader that gives up must not undo what a slow bucket is about to bring.
            let fetching = task::spawn(async move {
                let mut read = Vec::with_capacity(ranges.len());
                for (position, len) in &ranges {
                    let bytes = blocks.read(&bucket, Object { home, len: None }, *position, *len).await;
                    let count = bytes.as_ref().map_or(0, Bytes::len) as u64;
                    counters.bytes_read.fetch_add(count, Ordering::Relaxed);
                    counters.read_errors.fetch_add(u64::from(bytes.is_err()), Ordering::Relaxed);
                    read.push(bytes?);
                }
                drop(permit);
                Ok(read)
            });
            // It ends with an error only when the runtime does, or by a panic of ours.
            fetching.await.unwrap_or(Err(ReadError::NotYet))
        };
        task::timeout(self.limits().read_wait, read).await.unwrap_or(Err(ReadError::NotYet))
    }

    /// What was read of it is not what was committed there.
    pub fn distrust(&self, extent: &Extent) {
        self.blocks.distrust(self.home(extent), extent.position(), extent.len);
    }

    /// Shows in the counters what there is.
    fn count(&self) {
        let (objects, bytes, live) = self.uses.totals();
        self.counters.objects.store(objects, Ordering::Relaxed);
        self.counters.object_bytes.store(bytes, Ordering::Relaxed);
        self.counters.live_bytes.store(live, Ordering::Relaxed);
    }
}
