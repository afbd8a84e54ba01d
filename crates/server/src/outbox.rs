//! Answers on their way to one client, sent in order by vectored writes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use broker::memory::{MemoryAccount, MemoryShare, Standing};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio_rustls::server::TlsStream;
use world::net::Stream;

use crate::limits::SMALL_ANSWER_BYTES;

/// Segments handed to one write.
const SLICES: usize = 64;
/// So much is copied at once; then others come first.
const COPIED_AT_ONCE_BYTES: usize = 256 << 10;

/// Of small answers so much may lie in the system's buffer unsent.
const UNSENT_BYTES: u32 = SMALL_ANSWER_BYTES as u32;

/// Where answers go.
pub(crate) trait Transport: AsyncWrite + Unpin {
    /// See [`Stream::set_unsent_max`].
    fn set_unsent_max(&self, bytes: Option<u32>) -> io::Result<()>;
}

impl Transport for Stream {
    fn set_unsent_max(&self, bytes: Option<u32>) -> io::Result<()> {
        self.set_unsent_max(bytes)
    }
}

impl Transport for TlsStream<Stream> {
    fn set_unsent_max(&self, bytes: Option<u32>) -> io::Result<()> {
        self.get_ref().0.set_unsent_max(bytes)
    }
}

/// Bounded by its user: while `bytes()` is at or above a batch of answers, no further answer is made.
pub(crate) struct Outbox {
    account: Arc<MemoryAccount>,
    segments: VecDeque<Bytes>,
    bytes: usize,
    share: Option<MemoryShare>,
    /// Of the client when its answer was begun.
    standing: Standing,
    /// So many segments at the front are copies of our own.
    copied: usize,
    /// TLS may hold back what it took.
    is_unflushed: bool,
    /// Since it was empty a long answer came.
    has_long: bool,
    /// The system's buffer takes what it likes. For long answers, because filling it by halves is a sixth more work for a fast consumer;
    /// not for small ones: it takes megabytes of them from whoever asks without end and reads nothing.
    is_wide: bool,
}

impl Outbox {
    pub fn new(account: Arc<MemoryAccount>) -> Self {
        Self {
            account,
            segments: VecDeque::new(),
            bytes: 0,
            share: None,
            standing: Standing::Ordinary,
            copied: 0,
            is_unflushed: false,
            has_long: false,
            is_wide: true,
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

    /// Is nothing left of what belongs to others? What TLS holds back is no segment any more.
    pub fn is_own_copy(&self) -> bool {
        self.copied == self.segments.len()
    }

    pub fn push(&mut self, answer: Vec<Bytes>) {
        self.has_long &= !self.is_empty();
        let before = self.bytes;
        for segment in answer.into_iter().filter(|segment| !segment.is_empty()) {
            self.bytes += segment.len();
            self.segments.push_back(segment);
        }
        self.has_long |= self.bytes - before > SMALL_ANSWER_BYTES;
    }

    /// Sends what the socket takes, and about `at_once_max` of it; then others come first. `sent` grows by the bytes taken; ready when
    /// all is sent.
    pub fn poll_send<S: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        at_once_max: usize,
        sent: &mut u64,
    ) -> Poll<io::Result<()>> {
        if self.is_wide != self.has_long {
            self.is_wide = self.has_long;
            // A system that cannot do it has the bound that it has.
            let _ = stream.set_unsent_max((!self.is_wide).then_some(UNSENT_BYTES));
        }
        let until = sent.saturating_add(at_once_max as u64);
        let result = loop {
            if self.segments.is_empty() {
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                self.is_unflushed = flushed.is_pending();
                break flushed;
            }
            self.is_unflushed = true;
            if *sent >= until {
                cx.waker().wake_by_ref();
                break Poll::Pending;
            }
            match self.poll_send_some(cx, stream, (until - *sent) as usize) {
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
        mut left: usize,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut filled = 0;
        for segment in self.segments.iter().take(SLICES) {
            if left == 0 {
                break;
            }
            let part = segment.len().min(left);
            slices[filled] = IoSlice::new(&segment[..part]);
            left -= part;
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
            self.copied = self.copied.saturating_sub(1);
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

    /// Copies some of what is left into a buffer of its own, until [`Outbox::is_own_copy`]. The segments are slices of the log's tail
    /// cache; a client that does not read must not keep whole chunks of it in memory.
    pub fn let_go_of_shared_memory(&mut self) {
        if self.is_own_copy() {
            return;
        }
        let mut copy = BytesMut::with_capacity(self.bytes.min(COPIED_AT_ONCE_BYTES));
        while copy.len() < COPIED_AT_ONCE_BYTES
            && let Some(shared) = self.segments.get_mut(self.copied)
        {
            let piece = shared.split_to(shared.len().min(COPIED_AT_ONCE_BYTES - copy.len()));
            copy.extend_from_slice(&piece);
            if shared.is_empty() {
                self.segments.remove(self.copied);
            }
        }
        self.segments.insert(self.copied, copy.freeze());
        self.copied += 1;
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
        is_holding_back: bool,
        told: std::cell::RefCell<Vec<Option<u32>>>,
    }

    impl Narrow {
        fn new(room: usize) -> Self {
            Self { room, got: Vec::new(), is_holding_back: false, told: Default::default() }
        }
    }

    impl Transport for Narrow {
        fn set_unsent_max(&self, bytes: Option<u32>) -> io::Result<()> {
            self.told.borrow_mut().push(bytes);
            Ok(())
        }
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
        /// As TLS, which holds back what the socket does not take.
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.is_holding_back { Poll::Pending } else { Poll::Ready(Ok(())) }
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
        let mut stream = Narrow::new(10);
        let mut sent = 0;
        outbox.push(vec![Bytes::from_static(b"0123"), Bytes::new(), Bytes::from_static(b"456789ab")]);
        outbox.push(vec![Bytes::from_static(b"cdef")]);
        assert!(outbox.poll_send(&mut cx, &mut stream, usize::MAX, &mut sent).is_pending());
        assert_eq!((sent, account.used()), (10, 6));
        assert!(!outbox.is_own_copy());
        outbox.let_go_of_shared_memory();
        assert!(outbox.is_own_copy());
        (stream.room, stream.is_holding_back) = (100, true);
        assert!(outbox.poll_send(&mut cx, &mut stream, usize::MAX, &mut sent).is_pending());
        assert_eq!(stream.got, b"0123456789abcdef");
        assert_eq!((sent, account.used()), (16, 0));
        assert!(!outbox.is_empty());
        assert!(outbox.is_own_copy(), "there is nothing left to copy");
        stream.is_holding_back = false;
        assert!(outbox.poll_send(&mut cx, &mut stream, usize::MAX, &mut sent).is_ready());
        assert!(outbox.is_empty());
    }

    #[test]
    fn no_more_is_sent_at_once_than_is_said() {
        let mut outbox = Outbox::new(MemoryAccount::new(1 << 20));
        let mut cx = Context::from_waker(Waker::noop());
        let mut stream = Narrow::new(100);
        let mut sent = 0;
        outbox.push(vec![Bytes::from_static(b"01"), Bytes::from_static(b"23456789")]);
        for expected in [4, 8] {
            assert!(outbox.poll_send(&mut cx, &mut stream, 4, &mut sent).is_pending());
            assert_eq!(sent, expected);
        }
        assert!(outbox.poll_send(&mut cx, &mut stream, 4, &mut sent).is_ready());
        assert_eq!(stream.got, b"0123456789");
    }

    #[test]
    fn the_system_takes_little_of_small_answers_and_all_it_can_of_long_ones() {
        let (small, long) =
            (Bytes::from(vec![1; SMALL_ANSWER_BYTES]), Bytes::from(vec![2; SMALL_ANSWER_BYTES]));
        let mut outbox = Outbox::new(MemoryAccount::new(8 << 20));
        let mut stream = Narrow::new(usize::MAX);
        let mut turn = |outbox: &mut Outbox, told: &[Option<u32>]| {
            let mut cx = Context::from_waker(Waker::noop());
            let is_sent = outbox.poll_send(&mut cx, &mut stream, usize::MAX, &mut 0).is_ready();
            assert_eq!(std::mem::take(&mut *stream.told.borrow_mut()), told);
            stream.room = if is_sent { 0 } else { usize::MAX };
        };
        // The call is only made when something changes.
        for told in [&[Some(UNSENT_BYTES)][..], &[]] {
            outbox.push(vec![small.clone()]);
            turn(&mut outbox, told);
            turn(&mut outbox, &[]);
        }
        outbox.push(vec![long.slice(1..), small.clone()]);
        turn(&mut outbox, &[None]);
        // Small ones behind a long one that is on its way go with it.
        outbox.push(vec![small.clone()]);
        turn(&mut outbox, &[]);
        outbox.push(vec![small]);
        turn(&mut outbox, &[Some(UNSENT_BYTES)]);
    }

    #[test]
    fn what_a_client_does_not_take_is_copied_piece_by_piece() {
        let account = MemoryAccount::new(8 << 20);
        let mut cx = Context::from_waker(Waker::noop());
        let mut stream = Narrow::new(0);
        let (mut outbox, mut sent, mut expected) = (Outbox::new(account), 0, Vec::new());
        for (number, size) in
            [10, 20, COPIED_AT_ONCE_BYTES + 7, 30, 2 * COPIED_AT_ONCE_BYTES].into_iter().enumerate()
        {
            let segment = vec![number as u8; size];
            expected.extend_from_slice(&segment);
            outbox.push(vec![segment.into()]);
        }
        // They stay, so that no copy gets the memory of one that is gone.
        let theirs: Vec<Bytes> = outbox.segments.iter().cloned().collect();
        let mut steps = 0;
        while !outbox.is_own_copy() {
            // It takes a little meanwhile, beyond the end of a piece too.
            stream.room = COPIED_AT_ONCE_BYTES / 3;
            assert!(outbox.poll_send(&mut cx, &mut stream, usize::MAX, &mut sent).is_pending());
            outbox.let_go_of_shared_memory();
            steps += 1;
        }
        assert!((3..=4).contains(&steps), "{steps}");
        let is_theirs =
            |segment: &Bytes| theirs.iter().any(|one| one.as_ptr_range().contains(&segment.as_ptr()));
        assert!(!outbox.segments.iter().any(is_theirs));
        stream.room = expected.len();
        assert!(outbox.poll_send(&mut cx, &mut stream, usize::MAX, &mut sent).is_ready());
        assert!(stream.got == expected);
        // What comes then is another's again.
        outbox.push(vec![Bytes::from_static(b"more")]);
        assert!(!outbox.is_own_copy());
    }
}
