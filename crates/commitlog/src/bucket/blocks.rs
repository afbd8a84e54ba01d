//! Pieces of objects in memory: an object of many partitions is fetched once for all of their readers, not once for each. Who reads one
//! block after the other gets the next ones ahead, several with one request: a store charges for requests and takes a tenth of a
//! second for each, however long it is. What is not in memory may be in a directory (`block_files.rs`).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use world::bucket::{Bucket, patiently};
use world::collections::HashMap;
use world::task;

use super::block_files::BlockFiles;
use super::folder::segment_key;
use super::slot::slot_key;
use crate::error::ReadError;
use crate::segment::{SegmentId, tier_key};

/// The least that one request fetches: large enough that a request is worth its price, small enough for a reader who wants little.
pub const BLOCK_BYTES: u64 = 1 << 20;
/// Readers in a row that are remembered.
const STREAMS_MAX: usize = 64;
/// What is read ahead for all of them takes this part of the cache at most.
const AHEAD_PART: u64 = 2;
/// Entries that nobody waits for any more, and that were never fetched, are looked for when there are so many more than blocks.
const ABANDONED_MAX: usize = 256;

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

/// An object, and how much of it may be read ahead.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    pub home: Home,
    /// None: it is not known how long it is, so nothing is read ahead.
    pub len: Option<u64>,
}

pub struct Blocks {
    inner: Mutex<Inner>,
    bytes_max: usize,
    ahead_bytes_max: u64,
    /// How long one request may take.
    patience: Duration,
    /// Where segments' blocks are looked for before the store is asked.
    files: Option<Arc<BlockFiles>>,
}

#[derive(Default)]
struct Inner {
    /// Which span has a block.
    blocks: HashMap<(Home, u64), Arc<Span>>,
    /// By their first block.
    spans: HashMap<(Home, u64), Cached>,
    bytes: usize,
    streams: Vec<Stream>,
    /// Grows with every use.
    now: u64,
}

struct Cached {
    used_at: u64,
    span: Arc<Span>,
    /// As counted in `Inner::bytes`; 0 as long as it has not come.
    counted: usize,
}

/// Blocks in a row that one request fetches.
struct Span {
    home: Home,
    first: u64,
    count: u64,
    /// Empty while somebody fetches it; all who want it wait for that.
    bytes: OnceCell<Bytes>,
}

/// Somebody who reads an object from one block to the next.
struct Stream {
    home: Home,
    /// Blocks below were read, or are read ahead.
    to: u64,
    /// So many were read ahead last.
    window: u64,
    used_at: u64,
}

impl Span {
    async fn get(
        &self,
        bucket: &dyn Bucket,
        files: Option<&Arc<BlockFiles>>,
        patience: Duration,
    ) -> Result<Bytes, ReadError> {
        let fetch = async || match (&self.home, files) {
            (Home::Segment(id), Some(files)) => self.through(bucket, files, id, patience).await,
            _ => self.fetch(bucket, self.first, self.count, patience).await,
        };
        self.bytes.get_or_try_init(fetch).await.cloned()
    }

    async fn fetch(
        &self,
        bucket: &dyn Bucket,
        first: u64,
        count: u64,
        patience: Duration,
    ) -> Result<Bytes, ReadError> {
        let (key, range) = (self.home.key(), first * BLOCK_BYTES..(first + count) * BLOCK_BYTES);
        let bytes = patiently(patience, || bucket.get_range(&key, range.clone())).await?;
        bytes.ok_or(ReadError::Missing { key })
    }

    /// What is in files, and one request for what is not.
    async fn through(
        &self,
        bucket: &dyn Bucket,
        files: &Arc<BlockFiles>,
        id: &SegmentId,
        patience: Duration,
    ) -> Result<Bytes, ReadError> {
        let numbers = self.first..self.first + self.count;
        let mut kept = join_all(numbers.map(|number| files.get(id, number))).await;
        let last = kept.len() - 1;
        // Only an object's last block is short; one in between would move what lies behind it.
        kept[..last].iter_mut().for_each(|block| {
            block.take_if(|block| block.len() as u64 != BLOCK_BYTES);
        });
        let is_missing = |block: &Option<Bytes>| block.is_none();
        let Some(from) = kept.iter().position(is_missing) else {
            return Ok(joined(kept.into_iter().flatten()));
        };
        let to = kept.iter().rposition(is_missing).map_or(from, |at| at + 1);
        let first = self.first + from as u64;
        let fetched = self.fetch(bucket, first, (to - from) as u64, patience).await?;
        files.put(id, first, &fetched, BLOCK_BYTES as usize);
        let behind = kept.split_off(to);
        kept.truncate(from);
        Ok(joined(kept.into_iter().flatten().chain([fetched]).chain(behind.into_iter().flatten())))
    }

    fn block(&self, bytes: &Bytes, number: u64) -> Bytes {
        let from = (((number - self.first) * BLOCK_BYTES) as usize).min(bytes.len());
        bytes.slice(from..bytes.len().min(from + BLOCK_BYTES as usize))
    }
}

/// One after the other; without a copy when it is one.
fn joined(mut blocks: impl Iterator<Item = Bytes>) -> Bytes {
    let Some(first) = blocks.next() else { return Bytes::new() };
    let Some(second) = blocks.next() else { return first };
    let mut all = BytesMut::from(&*first);
    all.extend_from_slice(&second);
    blocks.for_each(|block| all.extend_from_slice(&block));
    all.freeze()
}

impl Blocks {
    pub fn new(bytes_max: usize, ahead_bytes_max: usize, patience: Duration) -> Self {
        let ahead_bytes_max = ahead_bytes_max as u64;
        Self { inner: Mutex::default(), bytes_max, ahead_bytes_max, patience, files: None }
    }

    pub fn with_files(self, files: Option<Arc<BlockFiles>>) -> Self {
        Self { files, ..self }
    }

    pub fn files(&self) -> Option<&Arc<BlockFiles>> {
        self.files.as_ref()
    }

    /// A range of an object; shorter than asked for where the object ends.
    pub async fn read(
        self: &Arc<Self>,
        bucket: &Arc<dyn Bucket>,
        object: Object,
        position: u64,
        len: u64,
    ) -> Result<Bytes, ReadError> {
        let (first, last) = (position / BLOCK_BYTES, (position + len.max(1) - 1) / BLOCK_BYTES);
        let mut read = Vec::new();
        for number in first..=last {
            let block = self.block(bucket, object, number).await?;
            let at = number * BLOCK_BYTES;
            let from = (position.max(at) - at).min(block.len() as u64) as usize;
            let to = ((position + len).min(at + BLOCK_BYTES) - at).min(block.len() as u64) as usize;
            // Most of the block: then it is not worth a copy. Less would keep all of it alive for a slow reader.
            if first == last && (to - from) * 2 > block.len() && block.len() as u64 >= BLOCK_BYTES / 2 {
                return Ok(block.slice(from..to));
            }
            read.reserve_exact(len as usize - read.len());
            read.extend_from_slice(&block[from..to]);
        }
        Ok(read.into())
    }

    async fn block(
        self: &Arc<Self>,
        bucket: &Arc<dyn Bucket>,
        object: Object,
        number: u64,
    ) -> Result<Bytes, ReadError> {
        let home = object.home;
        let (span, ahead) = {
            let mut inner = self.inner.lock();
            inner.now += 1;
            let ahead = self.ahead(&mut inner, object, number);
            (inner.span(home, number, 1), ahead)
        };
        if let Some(ahead) = ahead {
            let (blocks, bucket) = (self.clone(), bucket.clone());
            task::spawn(async move {
                // Who reads it asks again if that fails, and hears why.
                let _ = blocks.fetched(&*bucket, &ahead).await;
            });
        }
        let bytes = self.fetched(&**bucket, &span).await?;
        Ok(span.block(&bytes, number))
    }

    async fn fetched(&self, bucket: &dyn Bucket, span: &Arc<Span>) -> Result<Bytes, ReadError> {
        match span.get(bucket, self.files.as_ref(), self.patience).await {
            Ok(bytes) => {
                self.count(span, bytes.len());
                Ok(bytes)
            }
            Err(error) => {
                self.inner.lock().forget(span.home, span.first);
                Err(error)
            }
        }
    }

    /// What a reader who is at this block will want next, if he reads in a row and most of what was read ahead is behind him. It
    /// doubles each time.
    fn ahead(&self, inner: &mut Inner, object: Object, number: u64) -> Option<Arc<Span>> {
        let (home, now) = (object.home, inner.now);
        let end = object.len?.div_ceil(BLOCK_BYTES);
        let is_of = |stream: &&mut Stream| {
            stream.home == home && number <= stream.to && number + 2 * stream.window + 1 >= stream.to
        };
        let streams = inner.streams.len() as u64;
        let Some(stream) = inner.streams.iter_mut().find(is_of) else {
            if inner.streams.len() >= STREAMS_MAX {
                let oldest = (0..STREAMS_MAX).min_by_key(|at| inner.streams[*at].used_at);
                inner.streams.swap_remove(oldest.expect("there are some"));
            }
            inner.streams.push(Stream { home, to: number + 1, window: 0, used_at: now });
            return None;
        };
        stream.used_at = now;
        // The first block again and again says nothing.
        let is_in_a_row = number == stream.to || stream.window > 0;
        let is_late = number + (stream.window / 2).max(1) >= stream.to;
        if !is_in_a_row || !is_late {
            return None;
        }
        let share = self.bytes_max as u64 / AHEAD_PART / streams.max(1);
        let window_max = self.ahead_bytes_max.min(share) / BLOCK_BYTES;
        let first = stream.to.max(number + 1);
        let window = (stream.window * 2).max(1).min(window_max).min(end.saturating_sub(first));
        (stream.to, stream.window) = (first + window, window);
        let is_free = |number: &u64| !inner.blocks.contains_key(&(home, *number));
        let count = (first..first + window).take_while(is_free).count() as u64;
        (count > 0).then(|| inner.span(home, first, count))
    }

    /// It has come; what was not used for longest goes.
    fn count(&self, span: &Span, len: usize) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if let Some(cached) = inner.spans.get_mut(&(span.home, span.first))
            && cached.counted == 0
        {
            cached.counted = len;
            inner.bytes += len;
        }
        while inner.bytes > self.bytes_max {
            let counted = inner.spans.iter().filter(|(_, cached)| cached.counted > 0);
            let Some((home, first)) = counted.min_by_key(|(_, cached)| cached.used_at).map(|(key, _)| *key)
            else {
                break;
            };
            inner.forget(home, first);
        }
        if inner.spans.len() > self.bytes_max / BLOCK_BYTES as usize + ABANDONED_MAX {
            let is_abandoned = |cached: &Cached| {
                let blocks = cached.span.count as usize;
                cached.counted == 0 && Arc::strong_count(&cached.span) <= blocks + 1
            };
            let abandoned: Vec<(Home, u64)> =
                inner.spans.iter().filter(|(_, cached)| is_abandoned(cached)).map(|(key, _)| *key).collect();
            for (home, first) in abandoned {
                inner.forget(home, first);
            }
        }
    }

    /// What came from there was not what was stored: the next reader asks the store again.
    pub fn distrust(&self, home: Home, position: u64, len: u64) {
        let mut inner = self.inner.lock();
        for number in position / BLOCK_BYTES..=(position + len.max(1) - 1) / BLOCK_BYTES {
            if let (Home::Segment(id), Some(files)) = (&home, &self.files) {
                files.distrust(id, number);
            }
            if let Some(first) = inner.blocks.get(&(home, number)).map(|span| span.first) {
                inner.forget(home, first);
            }
        }
    }

    /// Bytes of objects in memory; bound `bucket_cache_bytes`.
    pub fn bytes(&self) -> usize {
        self.inner.lock().bytes
    }
}

impl Inner {
    /// The one that has the block, or a new one from there on.
    fn span(&mut self, home: Home, number: u64, count: u64) -> Arc<Span> {
        let now = self.now;
        if let Some(span) = self.blocks.get(&(home, number)).cloned() {
            if let Some(cached) = self.spans.get_mut(&(home, span.first)) {
                cached.used_at = now;
            }
            return span;
        }
        let span = Arc::new(Span { home, first: number, count, bytes: OnceCell::new() });
        for number in number..number + count {
            self.blocks.insert((home, number), span.clone());
        }
        self.spans.insert((home, number), Cached { used_at: now, span: span.clone(), counted: 0 });
        span
    }

    fn forget(&mut self, home: Home, first: u64) {
        let Some(cached) = self.spans.remove(&(home, first)) else { return };
        self.bytes -= cached.counted;
        for number in first..first + cached.span.count {
            self.blocks.remove(&(home, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use world::bucket::MemBucket;

    use super::*;

    const HOME: Home = Home::Slot { wal_id: 1, slot: 2 };
    const OBJECT: Object = Object { home: HOME, len: None };

    #[test]
    fn an_object_is_fetched_once_for_all_who_read_it_and_what_is_not_used_goes() {
        world::task::deterministic(1);
        world::task::paused_runtime().block_on(async {
            let bucket = MemBucket::new(1);
            let content: Vec<u8> = (0..5 * BLOCK_BYTES / 2).map(|at| (at / 1000) as u8).collect();
            bucket.put(&HOME.key(), content.clone().into()).await.unwrap();
            let blocks = Arc::new(Blocks::new(2 * BLOCK_BYTES as usize, 0, Duration::from_secs(10)));
            let shared: Arc<dyn Bucket> = Arc::new(bucket.clone());
            let gets = || bucket.counters().gets.load(Ordering::Relaxed);
            let read =
                async |position: u64, len: u64| blocks.read(&shared, OBJECT, position, len).await.unwrap();
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
            let missing = Object { home: Home::Slot { wal_id: 1, slot: 3 }, len: None };
            let missing = blocks.read(&shared, missing, 0, 1).await;
            assert!(matches!(missing, Err(ReadError::Missing { .. })));
        });
    }

    #[test]
    fn who_reads_in_a_row_gets_more_with_each_request_and_the_cache_keeps_its_bound() {
        const BLOCKS: u64 = 64;
        world::task::deterministic(1);
        world::task::paused_runtime().block_on(async {
            let bucket = MemBucket::new(1);
            let content: Vec<u8> = (0..BLOCKS * BLOCK_BYTES + 5).map(|at| (at / 4096) as u8).collect();
            bucket.put(&HOME.key(), content.clone().into()).await.unwrap();
            let shared: Arc<dyn Bucket> = Arc::new(bucket.clone());
            let gets = || bucket.counters().gets.load(Ordering::Relaxed);
            let object = Object { home: HOME, len: Some(content.len() as u64) };
            let bytes_max = 32 * BLOCK_BYTES as usize;
            let blocks = Arc::new(Blocks::new(bytes_max, 8 * BLOCK_BYTES as usize, Duration::from_secs(10)));
            let step = 700_000;
            for position in (0..content.len() as u64).step_by(step) {
                let read = blocks.read(&shared, object, position, step as u64).await.unwrap();
                let end = content.len().min(position as usize + step);
                assert_eq!(read, content[position as usize..end]);
                // What comes ahead has come.
                world::task::sleep(std::time::Duration::from_secs(1)).await;
                assert!(blocks.bytes() <= bytes_max);
            }
            // 1 + 1 + 1, 2, 4, and 8 from there on.
            assert!((10..=14).contains(&gets()), "{} requests for {BLOCKS} blocks", gets());
            // Here and there: nothing is read ahead.
            let before = gets();
            for number in [50, 10, 30, 20, 40] {
                blocks.distrust(HOME, number * BLOCK_BYTES, 1);
                blocks.read(&shared, object, number * BLOCK_BYTES, 10).await.unwrap();
            }
            assert!(gets() - before <= 5);
            // Reads that were given up leave nothing behind.
            for number in 0..2 * ABANDONED_MAX as u64 {
                let home = Home::Slot { wal_id: 9, slot: number };
                bucket.put(&home.key(), vec![1; 10].into()).await.unwrap();
                let other = Object { home, len: None };
                let given_up = blocks.read(&shared, other, 0, 1);
                drop(futures_util::future::select(Box::pin(given_up), std::future::ready(())).await);
            }
            blocks.read(&shared, object, 0, 1).await.unwrap();
            blocks.distrust(HOME, 0, 1);
            blocks.read(&shared, object, 0, 1).await.unwrap();
            assert!(blocks.inner.lock().spans.len() <= 32 + ABANDONED_MAX + 1);
        });
    }
}
