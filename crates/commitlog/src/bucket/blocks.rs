//! Pieces of objects in memory: an object of many partitions is fetched once for all of their readers, not once for each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use world::bucket::{Bucket, patiently};
use world::collections::HashMap;

use super::folder::segment_key;
use super::slot::slot_key;
use crate::error::ReadError;
use crate::segment::{SegmentId, tier_key};

/// What one request fetches: large enough that a request is worth its price, small enough for a reader who wants little.
pub const BLOCK_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Home {
    Slot {
        wal_id: u64,
        slot: u64,
    },
    Segment(SegmentId),
    /// Of the second tier of a log in a directory, which has that id.
    Tier {
        log_id: [u8; 16],
        id: SegmentId,
    },
}

impl Home {
    fn key(&self) -> String {
        match self {
            Home::Slot { wal_id, slot } => slot_key(*wal_id, *slot),
            Home::Segment(id) => segment_key(id),
            Home::Tier { log_id, id } => tier_key(log_id, id),
        }
    }
}

pub struct Blocks {
    inner: Mutex<Inner>,
    bytes_max: usize,
    /// How long one block is asked for.
    patience: Duration,
}

#[derive(Default)]
struct Inner {
    blocks: HashMap<(Home, u64), Block>,
    bytes: usize,
    /// Grows with every use.
    now: u64,
}

struct Block {
    used_at: u64,
    /// Empty while somebody fetches it; all who want it wait for that.
    bytes: Arc<OnceCell<Bytes>>,
    /// As counted in `Inner::bytes`.
    counted: usize,
}

impl Blocks {
    pub fn new(bytes_max: usize, patience: Duration) -> Self {
        Self { inner: Mutex::default(), bytes_max, patience }
    }

    /// A range of an object; shorter than asked for where the object ends.
    pub async fn read(
        &self,
        bucket: &dyn Bucket,
        home: Home,
        position: u64,
        len: u64,
    ) -> Result<Bytes, ReadError> {
        let (first, last) = (position / BLOCK_BYTES, (position + len.max(1) - 1) / BLOCK_BYTES);
        let mut read = Vec::with_capacity(len as usize);
        for number in first..=last {
            let block = self.block(bucket, home, number).await?;
            let at = number * BLOCK_BYTES;
            let from = (position.max(at) - at).min(block.len() as u64) as usize;
            let to = ((position + len).min(at + BLOCK_BYTES) - at).min(block.len() as u64) as usize;
            // Most of the block: then it is not worth a copy. Less would keep all of it alive for a slow reader.
            if first == last && (to - from) * 2 > block.len() {
                return Ok(block.slice(from..to));
            }
            read.extend_from_slice(&block[from..to]);
        }
        Ok(read.into())
    }

    async fn block(&self, bucket: &dyn Bucket, home: Home, number: u64) -> Result<Bytes, ReadError> {
        let cell = {
            let mut inner = self.inner.lock();
            inner.now += 1;
            let used_at = inner.now;
            let fresh = || Block { used_at, bytes: Arc::default(), counted: 0 };
            let block = inner.blocks.entry((home, number)).or_insert_with(fresh);
            block.used_at = used_at;
            block.bytes.clone()
        };
        let fetched = cell.get_or_try_init(async || {
            let (key, range) = (home.key(), number * BLOCK_BYTES..(number + 1) * BLOCK_BYTES);
            let bytes = patiently(self.patience, || bucket.get_range(&key, range.clone())).await?;
            bytes.ok_or(ReadError::Missing { key })
        });
        let fetched = match fetched.await {
            Ok(bytes) => bytes.clone(),
            Err(error) => {
                self.forget(home, number);
                return Err(error);
            }
        };
        self.count(home, number, fetched.len());
        Ok(fetched)
    }

    /// It has come; what was not used for longest goes.
    fn count(&self, home: Home, number: u64, len: usize) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if let Some(block) = inner.blocks.get_mut(&(home, number))
            && block.counted == 0
        {
            block.counted = len;
            inner.bytes += len;
        }
        while inner.bytes > self.bytes_max {
            let counted = inner.blocks.iter().filter(|(_, block)| block.counted > 0);
            let Some(oldest) = counted.min_by_key(|(_, block)| block.used_at).map(|(key, _)| *key) else {
                return;
            };
            inner.bytes -= inner.blocks.remove(&oldest).map_or(0, |block| block.counted);
        }
    }

    fn forget(&self, home: Home, number: u64) {
        let mut inner = self.inner.lock();
        if let Some(block) = inner.blocks.remove(&(home, number)) {
            inner.bytes -= block.counted;
        }
    }

    /// What came from there was not what was stored: the next reader asks the store again.
    pub fn distrust(&self, home: Home, position: u64, len: u64) {
        for number in position / BLOCK_BYTES..=(position + len.max(1) - 1) / BLOCK_BYTES {
            self.forget(home, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use futures_util::future::join_all;
    use world::bucket::MemBucket;

    use super::*;

    const HOME: Home = Home::Slot { wal_id: 1, slot: 2 };

    #[test]
    fn an_object_is_fetched_once_for_all_who_read_it_and_what_is_not_used_goes() {
        world::task::deterministic(1);
        world::task::paused_runtime().block_on(async {
            let bucket = MemBucket::new(1);
            let content: Vec<u8> = (0..5 * BLOCK_BYTES / 2).map(|at| (at / 1000) as u8).collect();
            bucket.put(&HOME.key(), content.clone().into()).await.unwrap();
            let blocks = Blocks::new(2 * BLOCK_BYTES as usize, Duration::from_secs(10));
            let gets = || bucket.counters().gets.load(Ordering::Relaxed);
            let read =
                async |position: u64, len: u64| blocks.read(&bucket, HOME, position, len).await.unwrap();
            let many = (0..100).map(|reader| read(reader * 1000, 1000));
            for (reader, bytes) in join_all(many).await.into_iter().enumerate() {
                assert_eq!(bytes, content[reader * 1000..(reader + 1) * 1000]);
            }
            assert_eq!(gets(), 1, "all wait for one request");
            // Across two blocks, then what the third has of it.
            let (from, to) = (BLOCK_BYTES as usize - 10, BLOCK_BYTES as usize + 10);
            assert_eq!(read(from as u64, 20).await, content[from..to]);
            assert_eq!(read(2 * BLOCK_BYTES, BLOCK_BYTES).await, content[2 * BLOCK_BYTES as usize..]);
            assert_eq!(gets(), 3);
            assert!(blocks.inner.lock().bytes <= 2 * BLOCK_BYTES as usize);
            read(0, 1).await;
            assert_eq!(gets(), 4, "the first was not used for longest");
            blocks.distrust(HOME, 0, 1);
            read(0, 1).await;
            assert_eq!(gets(), 5);
            let missing = blocks.read(&bucket, Home::Slot { wal_id: 1, slot: 3 }, 0, 1).await;
            assert!(matches!(missing, Err(ReadError::Missing { .. })));
        });
    }
}
