//! Recent chunks in memory for readers at the tail, and extents read from files. Both are bounded in bytes.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::extent::Place;

/// Slices shorter than this are copied out, so that a small answer to a slow reader does not keep a whole chunk alive.
const COPY_BELOW: usize = 32 << 10;

#[derive(Debug)]
pub struct Tail {
    chunks: VecDeque<Bytes>,
    /// Number of the first chunk in `chunks`; numbers are dense.
    first: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    pub fn new(bytes_max: usize, next_number: u64) -> Tail {
        Tail { chunks: VecDeque::new(), first: next_number, bytes: 0, bytes_max }
    }

    pub fn push(&mut self, number: u64, chunk: Bytes) {
        assert_eq!(number, self.first + self.chunks.len() as u64, "chunks come in order");
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
        while self.bytes > self.bytes_max && self.chunks.len() > 1 {
            if let Some(oldest) = self.chunks.pop_front() {
                self.bytes -= oldest.len();
                self.first += 1;
            }
        }
    }

    pub fn get(&self, number: u64, position: u64, len: u32) -> Option<Bytes> {
        let chunk = self.chunks.get(usize::try_from(number.checked_sub(self.first)?).ok()?)?;
        let range = position as usize..position as usize + len as usize;
        Some(match len as usize {
            short if short < COPY_BELOW => Bytes::copy_from_slice(&chunk[range]),
            _ => chunk.slice(range),
        })
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The last extents read from files: a reader that takes an extent in several fetches reads it once.
#[derive(Debug)]
pub struct ColdExtents {
    recent: VecDeque<(Place, Bytes)>,
    bytes: usize,
    bytes_max: usize,
}

impl ColdExtents {
    pub fn new(bytes_max: usize) -> ColdExtents {
        ColdExtents { recent: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub fn get(&mut self, place: Place) -> Option<Bytes> {
        let at = self.recent.iter().position(|(p, _)| *p == place)?;
        let found = self.recent.remove(at)?;
        let bytes = found.1.clone();
        self.recent.push_back(found);
        Some(bytes)
    }

    pub fn put(&mut self, place: Place, bytes: Bytes) {
        if bytes.len() > self.bytes_max || self.recent.iter().any(|(p, _)| *p == place) {
            return;
        }
        self.bytes += bytes.len();
        self.recent.push_back((place, bytes));
        while self.bytes > self.bytes_max {
            if let Some((_, oldest)) = self.recent.pop_front() {
                self.bytes -= oldest.len();
            }
        }
    }
}
