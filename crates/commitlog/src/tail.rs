//! Recent chunks in memory for readers at the tail, and extents read from files. Both are bounded in bytes.
//!
//! Readers get slices of a chunk, and a slice keeps the whole chunk alive. So what is alive *outside* of the ring is
//! counted too: once slow readers hold more than the bound, and always for small slices, answers are copied out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::extent::{Source, WalPlace};
use crate::segment::SegmentId;

/// Slices shorter than this are copied out, so that a small answer to a slow reader does not keep a chunk alive.
const COPY_BELOW: usize = 32 << 10;

/// Extents shorter than this are not kept once read: many of them are read as one, and finding one among tens of
/// thousands would cost more than reading it again.
const KEEP_FROM: usize = 16 << 10;

/// The memory of one chunk; counted from its making to the end of its last slice.
struct Counted {
    bytes: Bytes,
    alive: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(self.bytes.len(), Ordering::AcqRel);
    }
}

#[derive(Debug)]
pub struct Tail {
    /// In a bucket: the one WAL whose commits are here; others have commits of the same numbers.
    wal_id: Option<u64>,
    chunks: VecDeque<Bytes>,
    /// Number of the first chunk in `chunks`; numbers are dense.
    first: u64,
    bytes: usize,
    bytes_max: usize,
    /// Chunk bytes alive, in the ring or in answers on their way.
    alive: Arc<AtomicUsize>,
}

impl Tail {
    pub fn new(bytes_max: usize, next_number: u64) -> Tail {
        let chunks = VecDeque::new();
        Tail { wal_id: None, chunks, first: next_number, bytes: 0, bytes_max, alive: Arc::default() }
    }

    /// Of the WAL that begins in a bucket.
    pub fn of_wal(bytes_max: usize, wal_id: u64) -> Tail {
        Tail { wal_id: Some(wal_id), ..Tail::new(bytes_max, 0) }
    }

    /// Header and payload of a chunk. Of small ones a copy is kept: their footer, padding and alignment take more memory than
    /// they do.
    pub fn push(&mut self, number: u64, chunk: Bytes) {
        let chunk = if chunk.len() < COPY_BELOW { Bytes::copy_from_slice(&chunk) } else { chunk };
        assert_eq!(number, self.first + self.chunks.len() as u64, "chunks come in order");
        self.bytes += chunk.len();
        self.alive.fetch_add(chunk.len(), Ordering::AcqRel);
        self.chunks.push_back(Bytes::from_owner(Counted { bytes: chunk, alive: self.alive.clone() }));
        while self.bytes > self.bytes_max && self.chunks.len() > 1 {
            if let Some(oldest) = self.chunks.pop_front() {
                self.bytes -= oldest.len();
                self.first += 1;
            }
        }
    }

    /// The extent's bytes while its chunk is here.
    pub fn get(&self, place: &WalPlace, len: u64) -> Option<Bytes> {
        if self.wal_id.is_some_and(|wal_id| wal_id != place.file) {
            return None;
        }
        let chunk = self.chunks.get(usize::try_from(place.chunk.checked_sub(self.first)?).ok()?)?;
        let from = place.position_in_chunk as usize;
        Some(chunk.slice(from..from + len as usize))
    }

    /// Must an answer of this length be copied, so that it keeps no chunk alive?
    pub fn must_copy(&self, len: usize) -> bool {
        len < COPY_BELOW || self.alive.load(Ordering::Acquire).saturating_sub(self.bytes) > self.bytes_max
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The last extents read from files: a reader that takes an extent in several fetches reads it once.
#[derive(Debug)]
pub struct ColdExtents {
    recent: VecDeque<(ColdKey, Bytes)>,
    bytes: usize,
    bytes_max: usize,
}

impl ColdExtents {
    pub fn new(bytes_max: usize) -> ColdExtents {
        ColdExtents { recent: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// By chunk and position in it: a chunk's number never comes again in a file, a place in a recycled one does.
    pub fn get(&mut self, source: &Source) -> Option<Bytes> {
        let key = key(source);
        let at = self.recent.iter().position(|(known, _)| *known == key)?;
        let found = self.recent.remove(at)?;
        let bytes = found.1.clone();
        self.recent.push_back(found);
        Some(bytes)
    }

    pub fn put(&mut self, source: &Source, bytes: Bytes) {
        let key = key(source);
        if bytes.len() < KEEP_FROM
            || bytes.len() > self.bytes_max
            || self.recent.iter().any(|(known, _)| *known == key)
        {
            return;
        }
        self.bytes += bytes.len();
        self.recent.push_back((key, bytes));
        while self.bytes > self.bytes_max {
            if let Some((_, oldest)) = self.recent.pop_front() {
                self.bytes -= oldest.len();
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColdKey {
    Wal { file: u64, chunk: u64, position: u32 },
    Segment { id: SegmentId, position: u64 },
}

fn key(source: &Source) -> ColdKey {
    match source {
        Source::Wal(place) => {
            ColdKey::Wal { file: place.file, chunk: place.chunk, position: place.position_in_chunk }
        }
        Source::Segment(place) | Source::Tier(place) => {
            ColdKey::Segment { id: place.segment.id, position: place.position }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(chunk: u64, at: u32) -> WalPlace {
        WalPlace { file: 1, position: 0, chunk, position_in_chunk: at, leader_epoch: 0 }
    }

    #[test]
    fn only_what_is_worth_finding_again_is_kept() {
        let mut cold = ColdExtents::new(1 << 20);
        let source = |chunk| Source::Wal(place(chunk, 0));
        cold.put(&source(1), Bytes::from(vec![1; KEEP_FROM - 1]));
        assert!(cold.get(&source(1)).is_none());
        for chunk in 2..1000 {
            cold.put(&source(chunk), Bytes::from(vec![1; KEEP_FROM]));
        }
        assert!(cold.get(&source(2)).is_none() && cold.get(&source(999)).is_some());
        assert!(cold.recent.len() <= (1 << 20) / KEEP_FROM, "a look-up walks through few");
    }

    #[test]
    fn slow_readers_make_later_answers_copies() {
        let mut tail = Tail::new(200_000, 1);
        let mut held = Vec::new();
        for number in 1..=6 {
            tail.push(number, Bytes::from(vec![number as u8; 100_000]));
            held.push(tail.get(&place(number, 0), 60_000).expect("just pushed"));
        }
        assert!(tail.bytes() <= 200_000);
        assert!(tail.get(&place(1, 0), 10).is_none(), "the oldest are gone from the ring");
        assert!(tail.must_copy(60_000), "400,000 bytes are alive outside of the ring");
        held.clear();
        assert!(!tail.must_copy(60_000));
        assert!(tail.must_copy(100), "small answers are always copies");
    }
}
