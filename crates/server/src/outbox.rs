//! Answers on their way to one client, sent in order by vectored writes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use broker::memory::{MemoryAccount, MemoryShare, Standing};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// Segments handed to one write.
const SLICES: usize = 64;

/// Bounded by its user: while `bytes()` is at or above a batch of answers, no further answer is made.
pub(crate) struct Outbox {
    account: Arc<MemoryAccount>,
    segments: VecDeque<Bytes>,
    bytes: usize,
    share: Option<MemoryShare>,
    /// Of the client when its answer was begun.
    standing: Standing,
    is_own_copy: bool,
    /// TLS may hold back what it took.
    is_unflushed: bool,
}

impl Outbox {
    pub fn new(account: Arc<MemoryAccount>) -> Self {
        Self {
            account,
            segments: VecDeque::new(),
            bytes: 0,
            share: None,
            standing: Standing::Ordinary,
            is_own_copy: false,
            is_unflushed: false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && !self.is_unflushed
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// For answers that come from now on.
    pub fn set_standing(&mut self, standing: Standing) {
        self.standing = standing;
    }

    pub fn is_own_copy(&self) -> bool {
        self.is_own_copy
    }

    pub fn push(&mut self, answer: Vec<Bytes>) {
        for segment in answer.into_iter().filter(|segment| !segment.is_empty()) {
            self.bytes += segment.len();
            self.segments.push_back(segment);
            self.is_own_copy = false;
        }
    }

    /// Sends what the socket takes. `sent` grows by the bytes taken; ready when all is sent.
    pub fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        sent: &mut u64,
    ) -> Poll<io::Result<()>> {
        let result = loop {
            if self.segments.is_empty() {
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                self.is_unflushed = flushed.is_pending();
                break flushed;
            }
            self.is_unflushed = true;
            match self.poll_send_some(cx, stream) {
                Poll::Ready(Ok(count)) => *sent += count as u64,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.account_for_rest();
        result
    }

    fn poll_send_some<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut filled = 0;
        for segment in self.segments.iter().take(SLICES) {
            slices[filled] = IoSlice::new(segment);
            filled += 1;
        }
        let mut count = ready!(Pin::new(stream).poll_write_vectored(cx, &slices[..filled]))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let taken = count;
        self.bytes -= count;
        while let Some(first) = self.segments.front_mut() {
            if count < first.len() {
                first.advance(count);
                break;
            }
            count -= first.len();
            self.segments.pop_front();
        }
        Poll::Ready(Ok(taken))
    }

    /// Only what the socket did not take at once is charged: that is what stays.
    fn account_for_rest(&mut self) {
        let bytes = self.bytes as u64;
        match &mut self.share {
            _ if bytes == 0 => self.share = None,
            Some(share) if share.bytes() >= bytes => share.shrink_to(bytes),
            Some(share) => {
                share.absorb(self.account.take_anyway_as(self.standing, bytes - share.bytes()));
            }
            None => self.share = Some(self.account.take_anyway_as(self.standing, bytes)),
        }
        if bytes == 0 && self.segments.capacity() > SLICES {
            self.segments = VecDeque::new();
        }
    }

    /// Copies what is left into a buffer of its own. The segments are slices of the log's tail cache; a client that does not read
    /// must not keep whole chunks of it in memory.
    pub fn let_go_of_shared_memory(&mut self) {
        if self.is_own_copy || self.segments.is_empty() {
            return;
        }
        let mut copy = BytesMut::with_capacity(self.bytes);
        self.segments.iter().for_each(|segment| copy.extend_from_slice(segment));
        self.segments = VecDeque::from([copy.freeze()]);
        self.is_own_copy = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Takes `room` bytes in pieces of at most three, then nothing more.
    struct Narrow {
        room: usize,
        got: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.room).min(3);
            if count == 0 {
                return Poll::Pending;
            }
            self.room -= count;
            self.got.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_slow_client_gets_every_byte_in_order_and_is_charged_for_the_rest() {
        let account = MemoryAccount::new(1 << 20);
        let mut outbox = Outbox::new(account.clone());
        let mut cx = Context::from_waker(Waker::noop());
        let mut stream = Narrow { room: 10, got: Vec::new() };
        let mut sent = 0;
        outbox.push(vec![Bytes::from_static(b"0123"), Bytes::new(), Bytes::from_static(b"456789ab")]);
        outbox.push(vec![Bytes::from_static(b"cdef")]);
        assert!(outbox.poll_send(&mut cx, &mut stream, &mut sent).is_pending());
        assert_eq!((sent, account.used()), (10, 6));
        outbox.let_go_of_shared_memory();
        stream.room = 100;
        assert!(outbox.poll_send(&mut cx, &mut stream, &mut sent).is_ready());
        assert_eq!(stream.got, b"0123456789abcdef");
        assert_eq!((sent, account.used()), (16, 0));
    }
}
