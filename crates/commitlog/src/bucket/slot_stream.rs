//! Whole slots of a WAL, one after the other, for who rewrites them: as many are fetched at a time as fit into so many bytes. How long a
//! slot is nobody knows before it is there, so the longest so far stands for those to come; of one that is longer the rest is fetched
//! when its turn comes.

use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use world::bucket::{Bucket, BucketError, patiently};

use super::slot::slot_key;
use super::takeover::PATIENCE;
use crate::container::ContainerHeader;

/// Slots that are fetched or wait to be taken, by their bytes …
pub const AHEAD_BYTES_MAX: u64 = 32 << 20;
/// … and their number. With 100 ms for a request, that is 640 small slots a second.
const AHEAD_MAX: u64 = 64;
/// So many before the first one is there: a full commit of `bucket.object.bytes` is whole in its share of the bytes.
const AHEAD_MIN: u64 = 3;

/// None: there is none.
type Read = Result<Option<Bytes>, BucketError>;

pub struct SlotStream<'a> {
    bucket: &'a dyn Bucket,
    wal_id: u64,
    left: Range<u64>,
    /// With the slot's number, and how many bytes were asked for at most.
    under_way: FuturesOrdered<BoxFuture<'a, (u64, u64, Read)>>,
    /// The sum of what was asked for, never more than [`AHEAD_BYTES_MAX`], unless one slot is longer.
    asked_bytes: u64,
    longest: u64,
    bytes_max: u64,
}

impl<'a> SlotStream<'a> {
    /// `bytes_max`: what is wanted in all, at most.
    pub fn new(bucket: &'a dyn Bucket, wal_id: u64, slots: Range<u64>, bytes_max: u64) -> Self {
        Self {
            bucket,
            wal_id,
            left: slots,
            under_way: FuturesOrdered::new(),
            asked_bytes: 0,
            longest: 0,
            bytes_max: bytes_max.min(AHEAD_BYTES_MAX),
        }
    }

    /// The next slot, None behind the last. No more are fetched than those that so many bytes are likely to need.
    pub async fn next(&mut self, wanted: u64) -> Option<(u64, Read)> {
        let width = width(self.longest, wanted.min(self.bytes_max));
        // However long the slots turn out to be.
        let bytes = (AHEAD_BYTES_MAX / width).max(self.longest);
        while (self.under_way.len() as u64) < width
            && (self.under_way.is_empty() || self.asked_bytes + bytes <= AHEAD_BYTES_MAX)
            && let Some(slot) = self.left.next()
        {
            let (bucket, wal_id) = (self.bucket, self.wal_id);
            self.asked_bytes += bytes;
            self.under_way.push_back(Box::pin(async move {
                (slot, bytes, read(bucket, wal_id, slot, 0..bytes).await)
            }));
        }
        let (slot, asked, mut found) = self.under_way.next().await?;
        self.asked_bytes -= asked;
        if let Ok(Some(first)) = &found
            && first.len() as u64 == asked
            && let Some(len) = longer(first)
        {
            found = match read(self.bucket, self.wal_id, slot, first.len() as u64..len).await {
                Ok(Some(rest)) => Ok(Some([&first[..], &rest[..]].concat().into())),
                // Removed in between.
                other => other,
            };
        }
        if let Ok(Some(object)) = &found {
            self.longest = self.longest.max(object.len() as u64);
        }
        Some((slot, found))
    }
}

async fn read(bucket: &dyn Bucket, wal_id: u64, slot: u64, range: Range<u64>) -> Read {
    let key = slot_key(wal_id, slot);
    patiently(PATIENCE, || bucket.get_range(&key, range.clone())).await
}

/// How long a slot is of which this is only the beginning. None: it is all, or damaged.
fn longer(first: &[u8]) -> Option<u64> {
    let len = ContainerHeader::decode(first).ok()?.len();
    (len > first.len() as u64).then_some(len)
}

/// How many slots are under way, when the longest one so far is so long, and so many bytes are wanted.
fn width(longest: u64, bytes: u64) -> u64 {
    match longest {
        0 => AHEAD_MIN,
        longest => bytes.div_ceil(longest).clamp(1, AHEAD_MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use world::bucket::MemBucket;

    use super::*;
    use crate::container::{HEADER_LEN, Kind};
    use crate::encoding::Hash;

    #[test]
    fn many_short_slots_are_fetched_at_a_time_and_few_long_ones() {
        assert_eq!(width(0, AHEAD_BYTES_MAX), AHEAD_MIN);
        assert_eq!(width(100, AHEAD_BYTES_MAX), AHEAD_MAX);
        assert_eq!(width(8 << 20, AHEAD_BYTES_MAX), 4);
        assert_eq!(width(1 << 30, AHEAD_BYTES_MAX), 1);
        // Near the end of a job no more than it takes.
        assert_eq!(width(1 << 20, 3 << 20), 3);
    }

    /// Bytes that may be a slot, of this length.
    fn slot(number: u64, len: usize) -> Bytes {
        let header = ContainerHeader {
            kind: Kind::Object,
            log_id: 7u128.to_be_bytes(),
            number,
            predecessor: Hash::default(),
            durable: 0,
            nonce: [0; 16],
            created_ms: 0,
            payload_len: (len - HEADER_LEN) as u64,
            footer_len: 0,
            footer_hash: Hash::default(),
            file_len: 0,
        };
        [&header.encode()[..], &vec![number as u8; len - HEADER_LEN]].concat().into()
    }

    /// Reads all of them, and gives the most bytes that were under way.
    async fn read_all(store: &MemBucket, slots: Range<u64>) -> u64 {
        let mut stream = SlotStream::new(store, 7, slots.clone(), u64::MAX);
        let mut most = 0;
        for slot in slots {
            let (found, object) = stream.next(u64::MAX).await.unwrap();
            most = most.max(stream.asked_bytes);
            let expected = store.objects().get(&slot_key(7, slot)).cloned();
            assert!(found == slot && object.unwrap() == expected, "slot {slot}");
        }
        assert!(stream.next(u64::MAX).await.is_none());
        most
    }

    #[test]
    fn slots_come_in_their_order_and_one_that_is_missing_is_told() {
        world::task::deterministic(1);
        world::task::paused_runtime().block_on(async {
            let store = MemBucket::new(1);
            for number in (3..200).filter(|number| *number != 150) {
                store.put(&slot_key(7, number), slot(number, 200)).await.unwrap();
            }
            // Not a slot at all: whoever takes it finds out.
            store.put(&slot_key(7, 160), Bytes::from_static(b"nothing")).await.unwrap();
            assert!(read_all(&store, 3..200).await <= AHEAD_BYTES_MAX);
            assert_eq!(store.counters().gets.load(Ordering::Relaxed), 197);
        });
    }

    /// A quiet hour, and then full commits: no more of them is in memory than of small ones.
    #[test]
    fn long_slots_behind_short_ones_take_no_more_memory() {
        world::task::deterministic(1);
        world::task::paused_runtime().block_on(async {
            let store = MemBucket::new(1);
            for number in 0..80 {
                let len = if number < 10 { 200 } else { 900_000 };
                store.put(&slot_key(7, number), slot(number, len)).await.unwrap();
            }
            assert!(read_all(&store, 0..80).await <= AHEAD_BYTES_MAX);
            // Those that were asked for before the first long one was there are fetched in two.
            assert_eq!(store.counters().gets.load(Ordering::Relaxed), 80 + AHEAD_MAX);
        });
    }
}
