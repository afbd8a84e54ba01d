//! What a log in a bucket has instead of files: the objects that it reads, how far its own WAL is sent and acknowledged, and the
//! manifest as far as it was followed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use catalog::Catalog;
use futures_util::future::join_all;
use parking_lot::Mutex;
use protocol::TopicIdPartition;
use tokio::sync::Notify;
use world::broken;
use world::bucket::Bucket;
use world::task;

use super::block_files::BlockFiles;
use super::blocks::{Blocks, Home, Object};
use super::piece_index::PieceIndex;
use super::shards::Shards;
use super::slot::slot_key;
use super::views::Views;
use crate::container::HEADER_LEN;
use crate::error::{CommitError, ReadError};
use crate::extent::{Extent, Source};
use crate::log::{LogState, Shared};

/// Requests of one read under way at once.
const READS_AT_ONCE: usize = 16;
/// How long a reader waits for a bucket that does not answer: less than clients wait for a fetch.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const BARRIER_PAUSE: Duration = Duration::from_millis(100);

pub struct BucketMedium {
    pub bucket: Arc<dyn Bucket>,
    pub catalog: Arc<Catalog>,
    pub shards: Shards,
    /// Versions of the manifest's shards whose pieces the partitions here have. Held while they are put in.
    pub followed: tokio::sync::Mutex<BTreeMap<u32, u64>>,
    pub blocks: Arc<Blocks>,
    pub views: Views,
    pub(super) pieces: PieceIndex,
    own: Mutex<Own>,
    /// Slots of our own WAL that were sent; as many are acknowledged as [`Own`] says.
    sent: AtomicU64,
    /// So many are stored, for good and without a gap. Counted before anybody hears of what is in them.
    stored: AtomicU64,
    acknowledged: Notify,
    barrier: Barrier,
}

/// Our own WAL: the commits that are acknowledged and not rewritten yet.
#[derive(Default)]
struct Own {
    first: u64,
    commits: VecDeque<OwnCommit>,
    /// Of all of them.
    bytes: u64,
}

struct OwnCommit {
    len: u64,
    /// Monotonic.
    at: Duration,
}

/// What waits in our own WAL to be rewritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnBacklog {
    pub slots: u64,
    pub bytes: u64,
    /// How old the oldest of them is.
    pub age: Duration,
}

/// One look at the bucket for all who wait for one.
#[derive(Default)]
struct Barrier {
    /// Runs begun so far.
    begun: AtomicU64,
    /// The last run that passed. Held during a run.
    passed: tokio::sync::Mutex<u64>,
}

impl BucketMedium {
    /// Of what it has read it keeps so many bytes in memory, and more in files, if there are any.
    pub fn new(
        bucket: Arc<dyn Bucket>,
        catalog: Arc<Catalog>,
        cache_bytes_max: usize,
        ahead_bytes_max: usize,
        files: Option<Arc<BlockFiles>>,
    ) -> Self {
        Self {
            shards: Shards::new(bucket.clone()),
            followed: tokio::sync::Mutex::default(),
            blocks: Arc::new(Blocks::new(cache_bytes_max, ahead_bytes_max, PATIENCE).with_files(files)),
            views: Views::default(),
            pieces: PieceIndex::default(),
            own: Mutex::default(),
            sent: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            acknowledged: Notify::new(),
            barrier: Barrier::default(),
            catalog,
            bucket,
        }
    }

    /// The next slot of our own WAL is on its way.
    pub fn send(&self) {
        self.sent.fetch_add(1, Ordering::AcqRel);
    }

    /// The next slot of our own WAL is stored, and all before it. To be called before its batches count, so that whoever sees that
    /// a partition is drained also finds the slots that it is drained to (R13).
    pub fn store(&self) {
        self.stored.fetch_add(1, Ordering::AcqRel);
    }

    /// How many slots of our own WAL are stored.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::Acquire)
    }

    /// [`BucketMedium::stored`], once it is more than this, or after `wait`.
    pub async fn stored_beyond(&self, slots: u64, wait: Duration) -> u64 {
        let more = async {
            loop {
                let acknowledged = self.acknowledged.notified();
                if self.stored() > slots {
                    return;
                }
                acknowledged.await;
            }
        };
        let _ = task::timeout(wait, more).await;
        self.stored()
    }

    /// The next slot of our own WAL is acknowledged. To be called when its batches count, so that nobody who waited for it reads an
    /// old end (R20).
    pub fn acknowledge(&self, len: u64, at: Duration) {
        {
            let mut own = self.own.lock();
            own.commits.push_back(OwnCommit { len, at });
            own.bytes += len;
        }
        self.acknowledged.notify_waiters();
    }

    /// How many slots of our own WAL are acknowledged.
    pub fn acknowledged(&self) -> u64 {
        let own = self.own.lock();
        own.first + own.commits.len() as u64
    }

    /// Slots from the mark on. What lies before is forgotten.
    pub fn backlog(&self, mark: u64, now: Duration) -> OwnBacklog {
        let mut own = self.own.lock();
        while own.first < mark
            && let Some(commit) = own.commits.pop_front()
        {
            own.first += 1;
            own.bytes -= commit.len;
        }
        OwnBacklog {
            slots: own.commits.len() as u64,
            bytes: own.bytes,
            age: own.commits.front().map_or(Duration::ZERO, |commit| now.saturating_sub(commit.at)),
        }
    }

    /// The same, from where our own WAL is rewritten to by now.
    pub fn own_backlog(&self, now: Duration) -> OwnBacklog {
        let mark = self.catalog.read().wal(self.catalog.wal_id()).map_or(0, |wal| wal.mark);
        self.backlog(mark, now)
    }

    /// Slots of WALs that have ended and that this broker is to rewrite, and of all WALs that somebody who opens partitions has to
    /// read.
    pub fn slots_to_rewrite(&self) -> (u64, u64) {
        let (me, state) = (self.catalog.wal_id(), self.catalog.read());
        let slots = |slots: std::ops::Range<u64>| slots.end - slots.start;
        let duties = state.wals().filter(|(wal_id, wal)| *wal_id != me && wal.rewriter == me);
        let duties = duties.map(|(_, wal)| wal.sealed_at.map_or(0, |end| end.saturating_sub(wal.mark)));
        (duties.sum(), state.wals().map(|(_, wal)| slots(wal.slots_for_others())).sum())
    }

    /// Returns when it is certain that everything that anybody was told before the call, by whoever led our partitions, is in them
    /// here (R20): a commit that was sent after the call is acknowledged, or nothing is in flight and our next slot is empty.
    pub async fn barrier(&self, shared: &Shared) -> Result<(), CommitError> {
        let begun = self.barrier.begun.load(Ordering::Acquire);
        let mut passed = self.barrier.passed.lock().await;
        if *passed > begun {
            return Ok(());
        }
        let run = self.barrier.begun.fetch_add(1, Ordering::AcqRel) + 1;
        self.look(shared).await?;
        *passed = run;
        Ok(())
    }

    async fn look(&self, shared: &Shared) -> Result<(), CommitError> {
        let sent = self.sent.load(Ordering::Acquire);
        loop {
            let acknowledged = self.acknowledged.notified();
            if let LogState::Failed(why) = shared.state() {
                return Err(CommitError(why));
            }
            let (now_sent, confirmed) = (self.sent.load(Ordering::Acquire), self.acknowledged());
            if confirmed > sent {
                return Ok(());
            }
            let is_broken = broken::rule("barrier-404-after-gc");
            if confirmed < now_sent && !is_broken {
                // A failure ends the wait as well.
                let _ = task::timeout(BARRIER_PAUSE, acknowledged).await;
                continue;
            }
            let next = if is_broken { confirmed } else { now_sent };
            let key = slot_key(self.catalog.wal_id(), next);
            match self.bucket.get_range(&key, 0..1).await {
                // What was sent meanwhile may have been stored, taken over, rewritten and removed.
                Ok(None) if self.sent.load(Ordering::Acquire) == now_sent => return Ok(()),
                Ok(None) => {}
                Ok(Some(_)) if self.sent.load(Ordering::Acquire) == now_sent => {
                    return Err(CommitError(format!("{key} is there already: this broker is fenced")));
                }
                Ok(Some(_)) => {}
                Err(_) => task::sleep(BARRIER_PAUSE).await,
            }
        }
    }

    /// Extents in pieces that one read takes.
    pub async fn cut(
        &self,
        id: &TopicIdPartition,
        extents: Vec<Extent>,
        offset: i64,
    ) -> Result<Vec<Extent>, ReadError> {
        self.pieces.cut_extents(&*self.bucket, id, extents, offset).await
    }

    /// The bytes of extents, unchecked.
    pub async fn read_extents(&self, extents: &[Extent]) -> Result<Vec<Bytes>, ReadError> {
        let mut all = Vec::with_capacity(extents.len());
        for some in extents.chunks(READS_AT_ONCE) {
            for read in join_all(some.iter().map(|extent| self.read(extent))).await {
                all.push(read?);
            }
        }
        Ok(all)
    }

    async fn read(&self, extent: &Extent) -> Result<Bytes, ReadError> {
        let len = extent.segment().map(|place| HEADER_LEN as u64 + place.segment.payload_len);
        let object = Object { home: home(extent), len };
        self.blocks.read(&self.bucket, object, extent.position(), extent.len).await
    }

    /// Bytes of objects in memory, and their bound.
    pub fn cached_bytes(&self) -> usize {
        self.blocks.bytes()
    }

    /// Its bytes were not what was committed: perhaps they are, in the store.
    pub fn distrust(&self, extent: &Extent) {
        self.blocks.distrust(home(extent), extent.position(), extent.len);
    }
}

fn home(extent: &Extent) -> Home {
    match &extent.source {
        Source::Wal(place) => Home::Slot { wal_id: place.file, slot: place.chunk },
        Source::Segment(place) => Home::Segment(place.segment.id),
        Source::Tier(_) => unreachable!("a log in a bucket has no second tier"),
    }
}
