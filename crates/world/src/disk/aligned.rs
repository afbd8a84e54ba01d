//! A buffer that the disk can take as it is, without a copy through the page cache.

use std::fs::File;

use bytes::Bytes;

/// What O_DIRECT wants of offsets, lengths and memory on every usual device.
pub const DIRECT_ALIGN: usize = 4096;

/// Bytes that start at a multiple of [`DIRECT_ALIGN`] in memory.
pub struct AlignedBuffer {
    /// The content starts at `start`.
    bytes: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    /// Grows beyond `capacity` too, at the price of moving its content.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity + DIRECT_ALIGN);
        let start = bytes.as_ptr().align_offset(DIRECT_ALIGN);
        assert!(start < DIRECT_ALIGN, "memory has addresses");
        bytes.resize(start, 0);
        Self { bytes, start }
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn extend_from_slice(&mut self, more: &[u8]) {
        self.make_room(more.len());
        self.bytes.extend_from_slice(more);
    }

    /// Longer with zeros, or shorter.
    pub fn resize(&mut self, len: usize) {
        self.make_room(len.saturating_sub(self.len()));
        self.bytes.resize(self.start + len, 0);
    }

    /// Appends what one read of at most `len` bytes gives. Into memory that nobody zeroed: that was a sixth of a rewrite's
    /// processor time.
    pub(super) fn read_from(&mut self, file: &File, offset: u64, len: usize) -> rustix::io::Result<usize> {
        self.make_room(len);
        let (read, _) = rustix::io::pread(file, &mut self.bytes.spare_capacity_mut()[..len], offset)?;
        let read = read.len();
        // SAFETY: the read initialised so many bytes behind the vector's length.
        #[allow(unsafe_code)]
        unsafe {
            self.bytes.set_len(self.bytes.len() + read);
        }
        Ok(read)
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn freeze(self) -> Bytes {
        Bytes::from(self.bytes).slice(self.start..)
    }

    /// The vector itself must never move its content: its new place need not be aligned.
    fn make_room(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() < more {
            let mut larger = Self::with_capacity((self.len() + more).max(self.len() * 2));
            larger.bytes.extend_from_slice(self.as_slice());
            *self = larger;
        }
    }
}

/// Can these be written at `offset` without the page cache?
pub(super) fn is_aligned(offset: u64, buffers: &[Bytes]) -> bool {
    let aligned = |buffer: &Bytes| {
        buffer.len().is_multiple_of(DIRECT_ALIGN) && buffer.as_ptr().addr().is_multiple_of(DIRECT_ALIGN)
    };
    offset.is_multiple_of(DIRECT_ALIGN as u64) && !buffers.is_empty() && buffers.iter().all(aligned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_aligned_however_it_grows() {
        for capacity in [0, 1, 4096, 100_000] {
            let mut buffer = AlignedBuffer::with_capacity(capacity);
            let mut content = Vec::new();
            for i in 0..40u8 {
                buffer.extend_from_slice(&vec![i; 1000 + usize::from(i)]);
                content.extend_from_slice(&vec![i; 1000 + usize::from(i)]);
                assert_eq!(buffer.as_slice(), content);
            }
            buffer.resize(content.len().next_multiple_of(DIRECT_ALIGN));
            content.resize(content.len().next_multiple_of(DIRECT_ALIGN), 0);
            buffer.as_mut_slice()[0] = 9;
            content[0] = 9;
            let bytes = buffer.freeze();
            assert_eq!(bytes, content);
            assert!(is_aligned(4096, std::slice::from_ref(&bytes)));
            assert!(!is_aligned(512, std::slice::from_ref(&bytes)));
            assert!(!is_aligned(0, &[bytes.clone(), bytes.slice(..100)]));
            assert!(!is_aligned(0, &[bytes.slice(1..)]));
        }
    }
}
