//! What a log in a bucket has instead of files: the objects that it reads, and how far its own WAL is acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use world::bucket::Bucket;

use super::blocks::{Blocks, Home};
use crate::error::ReadError;
use crate::extent::{Extent, Source};
use crate::segment_files::SegmentUses;

/// Requests of one read under way at once.
const READS_AT_ONCE: usize = 16;
/// How long a reader waits for a bucket that does not answer: less than clients wait for a fetch.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub struct BucketMedium {
    bucket: Arc<dyn Bucket>,
    pub segments: SegmentUses,
    blocks: Blocks,
    own: Mutex<Own>,
}

/// Our own WAL: how long the commits are that are acknowledged and not rewritten yet.
#[derive(Default)]
struct Own {
    first: u64,
    lens: VecDeque<u64>,
}

impl BucketMedium {
    /// Of what it has read it keeps so many bytes.
    pub fn new(bucket: Arc<dyn Bucket>, cache_bytes_max: usize) -> Self {
        let blocks = Blocks::new(cache_bytes_max);
        Self { bucket, segments: SegmentUses::default(), blocks, own: Mutex::default() }
    }

    /// The next slot of our own WAL is acknowledged.
    pub fn acknowledge(&self, len: u64) {
        self.own.lock().lens.push_back(len);
    }

    /// How many slots of our own WAL are acknowledged.
    pub fn acknowledged(&self) -> u64 {
        let own = self.own.lock();
        own.first + own.lens.len() as u64
    }

    /// Slots from the mark on, and their bytes. What lies before is forgotten.
    pub fn acknowledged_since(&self, mark: u64) -> (u64, u64) {
        let mut own = self.own.lock();
        while own.first < mark && own.lens.pop_front().is_some() {
            own.first += 1;
        }
        (own.lens.len() as u64, own.lens.iter().sum())
    }

    pub fn hold(&self, extent: &Extent) {
        if let Source::Segment(place) = &extent.source {
            self.segments.hold(place, extent.len);
        }
    }

    pub fn release(&self, extents: &[Extent]) {
        for extent in extents {
            if let Source::Segment(place) = &extent.source {
                self.segments.release(place, extent.len);
            }
        }
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
        self.blocks.read(&*self.bucket, home(extent), extent.position(), extent.len).await
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
    }
}
