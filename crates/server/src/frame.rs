//! Request frames: a 4-byte length, then that many bytes.
//!
//! The buffer follows the bytes that came, never the length that was promised: a peer that says "100 MiB" and sends ten bytes makes
//! us hold ten bytes. An idle connection holds no buffer at all: bytes arrive in an array on the stack first. A large frame is read
//! straight into its own buffer, which grows in steps of four, so that at most a quarter of it is ever moved; from a peer that
//! has sent such a frame before it is taken whole at once.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use broker::memory::{MemoryAccount, MemoryShare, Standing};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use world::clock::SharedClock;

use crate::turns::{AllTurns, Turns};

/// Smallest thing that can be a request: api key, version, correlation id (header version 0).
const REQUEST_BYTES_MIN: usize = 8;
/// One read into the stack; frames that fit are copied once from there.
const FIRST_READ_BYTES: usize = 16 << 10;
/// Frames up to this are small: they have a part of the request memory for themselves, and nobody is disconnected for what they hold.
pub(crate) const SMALL_FRAME_BYTES: usize = FIRST_READ_BYTES;
/// A frame has a buffer of its own when so much of it is here. A length that was only promised takes none.
const FIRST_PIECE_BYTES: usize = 4 << 10;
/// First buffer of a frame that does not fit in one read.
const FIRST_BUFFER_BYTES: usize = 256 << 10;
/// No peer gets a longer first buffer, whatever it sent before.
const PROVEN_BYTES_MAX: usize = 4 << 20;
/// After so much at once others come first: whoever sends megabytes must not keep those waiting who send little.
const READ_AT_ONCE_BYTES: usize = 512 << 10;
/// Frames that are longer, longer than producers send them, are received by so many connections at once as there are turns for it. The
/// memory for them is new, and a page of it costs as much as copying it: dozens of such connections would take all processors. A connection's
/// first one, or first again, is received with rests: whoever sends what is refused begins anew on another connection, and can do so without end.
const TURNLESS_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// Bytes that may be received ahead of a request that blocks the connection.
const READ_AHEAD_BYTES: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("closed by the peer")]
    Closed,
    #[error("closed by the peer within a frame, {received} bytes after its start")]
    Truncated { received: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{length} is not the length of a request (from {REQUEST_BYTES_MIN} to {max} bytes){}", hint(*.length))]
    Length { length: i32, max: usize },
}

/// What the first four bytes look like when somebody speaks another protocol to a Kafka port.
fn hint(length: i32) -> &'static str {
    match &length.to_be_bytes() {
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" => {
            ": this looks like HTTP, which the admin address speaks"
        }
        [0x16, 0x03, ..] => ": this looks like TLS, and this listener is plain TCP",
        b"SSH-" => ": this looks like SSH",
        _ => "",
    }
}

/// One request's bytes, without the length, and their share of the request memory.
pub(crate) struct Frame {
    pub bytes: Bytes,
    pub share: MemoryShare,
}

pub(crate) struct FrameReader {
    account: Arc<MemoryAccount>,
    connection: u64,
    request_bytes_min: usize,
    request_bytes_max: usize,
    received: BytesMut,
    /// Body length of the frame at the start of `received`, once its prefix was taken off.
    body: Option<usize>,
    /// Share for the buffer of a frame that is being received.
    share: Option<MemoryShare>,
    /// So long was the last frame that came whole: a peer that sent one gets the next one's buffer at once, and
    /// nothing of it has to be moved as it grows.
    proven: usize,
    /// Whether the last poll ended for want of request memory rather than of bytes.
    waits_for_memory: bool,
    turns: Turns,
    clock: SharedClock,
}

impl FrameReader {
    /// `turns`: for pieces of very long frames.
    pub fn new(
        account: Arc<MemoryAccount>,
        turns: Arc<AllTurns>,
        clock: SharedClock,
        connection: u64,
        request_bytes_max: usize,
    ) -> Self {
        Self {
            account,
            connection,
            request_bytes_min: REQUEST_BYTES_MIN,
            request_bytes_max,
            received: BytesMut::new(),
            body: None,
            share: None,
            proven: 0,
            waits_for_memory: false,
            turns: Turns::of(turns),
            clock,
        }
    }

    /// To be called when it is not read for now.
    pub fn give_up_turn(&mut self) {
        self.turns.give_up();
    }

    /// For the frames whose length was not read yet. `is_bare`: they are messages without the header of a request.
    pub fn set_bounds(&mut self, is_bare: bool, request_bytes_max: usize) {
        self.request_bytes_min = if is_bare { 0 } else { REQUEST_BYTES_MIN };
        self.request_bytes_max = request_bytes_max;
    }

    /// Whether a frame has begun and is not complete.
    pub fn is_within_frame(&self) -> bool {
        self.body.is_some() || !self.received.is_empty()
    }

    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// Whether a frame that is being received has memory that others wait for.
    pub fn holds_memory(&self) -> bool {
        self.share.is_some()
    }

    /// Whether it waits for memory, so that no byte of its peer's is taken.
    pub fn waits_for_memory(&self) -> bool {
        self.waits_for_memory
    }

    /// Whether it waits for request memory, or keeps others waiting that do.
    pub fn is_under_memory_pressure(&self) -> bool {
        self.waits_for_memory || self.share.as_ref().is_some_and(MemoryShare::is_finisher)
    }

    /// The next frame. `bytes_read` grows by what came from the stream.
    pub fn poll_frame<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        bytes_read: &mut u64,
    ) -> Poll<Result<Frame, FrameError>> {
        let until = *bytes_read + READ_AT_ONCE_BYTES as u64;
        loop {
            if self.body.is_none() && self.received.len() >= 4 {
                self.body = Some(self.take_length()?);
            }
            let Some(body) = self.body else {
                *bytes_read += ready!(self.poll_read_small(cx, stream))? as u64;
                continue;
            };
            if self.received.len() >= body {
                return self.poll_complete(cx, body).map(Ok);
            }
            if *bytes_read >= until {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let is_long = body - self.received.len() > FIRST_READ_BYTES
                && (self.received.len() >= FIRST_PIECE_BYTES || self.proven > FIRST_READ_BYTES);
            *bytes_read += if is_long || self.share.is_some() {
                ready!(self.poll_read_large(cx, stream, body))?
            } else {
                ready!(self.poll_read_small(cx, stream))?
            } as u64;
        }
    }

    /// While a request blocks the connection: receives a little ahead, only to notice when the peer is gone. Never ready with `Ok`.
    /// A peer that has sent more than the read-ahead is not watched; it is noticed when its answer cannot be written.
    pub fn poll_peer_gone<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        bytes_read: &mut u64,
    ) -> Poll<FrameError> {
        while self.received.len() < READ_AHEAD_BYTES && self.share.is_none() {
            match ready!(self.poll_read_small(cx, stream)) {
                Ok(count) => *bytes_read += count as u64,
                Err(gone) => return Poll::Ready(gone),
            }
        }
        Poll::Pending
    }

    fn take_length(&mut self) -> Result<usize, FrameError> {
        let length = self.received.get_i32();
        match usize::try_from(length) {
            Ok(body) if (self.request_bytes_min..=self.request_bytes_max).contains(&body) => Ok(body),
            _ => Err(FrameError::Length { length, max: self.request_bytes_max }),
        }
    }

    fn poll_complete(&mut self, cx: &mut Context<'_>, body: usize) -> Poll<Frame> {
        let mut share = match self.share.take() {
            Some(share) => share,
            None => {
                self.waits_for_memory = true;
                let standing =
                    if body <= SMALL_FRAME_BYTES { Standing::Favoured } else { Standing::Ordinary };
                ready!(self.account.poll_take(cx, self.connection, standing, body as u64))
            }
        };
        self.waits_for_memory = false;
        share.shrink_to(body as u64);
        share.goes_to_work();
        self.body = None;
        self.proven = body.min(PROVEN_BYTES_MAX);
        let bytes = self.received.split_to(body).freeze();
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
        Poll::Ready(Frame { bytes, share })
    }

    fn poll_read_small<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<usize, FrameError>> {
        let mut array = [const { MaybeUninit::uninit() }; FIRST_READ_BYTES];
        let mut read = ReadBuf::uninit(&mut array);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        let filled = read.filled();
        if filled.is_empty() {
            return Poll::Ready(Err(self.end()));
        }
        self.received.extend_from_slice(filled);
        Poll::Ready(Ok(filled.len()))
    }

    /// A piece of a frame that has a buffer of its own; in turns where it is very long.
    fn poll_read_large<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        body: usize,
    ) -> Poll<Result<usize, FrameError>> {
        if body <= TURNLESS_BYTES_MAX {
            return self.poll_read_piece(cx, stream, body);
        }
        let turn = ready!(self.turns.poll(cx));
        let began = self.clock.monotonic();
        let read = self.poll_read_piece(cx, stream, body);
        if let Some(turn) = turn
            && self.proven <= TURNLESS_BYTES_MAX
        {
            self.turns.all().rest_after(turn, self.clock.monotonic().saturating_sub(began));
        }
        read
    }

    /// Reads into the frame's own buffer and never past its end, so that the buffer holds nothing else.
    fn poll_read_piece<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        body: usize,
    ) -> Poll<Result<usize, FrameError>> {
        if self.share.is_none() || self.received.len() == self.received.capacity() {
            let first = FIRST_BUFFER_BYTES.max(self.proven);
            let wanted = body.min(first.max(self.received.len().saturating_mul(4)));
            let held = self.share.as_ref().map_or(0, MemoryShare::bytes);
            let more = (wanted as u64).saturating_sub(held);
            self.waits_for_memory = true;
            match &mut self.share {
                Some(share) => ready!(self.account.poll_take_more(cx, self.connection, share, more)),
                None => {
                    let share = self.account.poll_take(cx, self.connection, Standing::Ordinary, more);
                    self.share = Some(ready!(share));
                }
            }
            self.waits_for_memory = false;
            self.received.reserve(wanted - self.received.len());
        }
        let missing = body - self.received.len();
        let room = missing.min(self.received.capacity() - self.received.len()).min(READ_AT_ONCE_BYTES);
        let mut buffer = (&mut self.received).limit(room);
        let count = ready!(pin!(stream.read_buf(&mut buffer)).poll(cx))?;
        Poll::Ready(if count == 0 { Err(self.end()) } else { Ok(count) })
    }

    fn end(&self) -> FrameError {
        if self.is_within_frame() {
            FrameError::Truncated { received: self.received.len() }
        } else {
            FrameError::Closed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::task::Waker;
    use std::time::Duration;

    use world::clock::{Clock, ManualClock, RealClock};

    /// A stream that has arrived in these pieces; after them it is silent.
    struct Arrived(VecDeque<Vec<u8>>);

    impl AsyncRead for Arrived {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let Some(mut piece) = self.0.pop_front() else { return Poll::Pending };
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
            Poll::Ready(Ok(()))
        }
    }

    fn frame_of(body: &[u8]) -> Vec<u8> {
        let mut frame = (body.len() as i32).to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        frame
    }

    fn turns() -> Arc<AllTurns> {
        AllTurns::new(1)
    }

    /// One that stands still: nobody rests.
    fn clock() -> SharedClock {
        Arc::new(ManualClock::new(0))
    }

    fn poll(reader: &mut FrameReader, stream: &mut Arrived) -> Poll<Result<Frame, FrameError>> {
        loop {
            let mut bytes_read = 0;
            let polled = reader.poll_frame(&mut Context::from_waker(Waker::noop()), stream, &mut bytes_read);
            // A long frame lets others come first; then it goes on.
            if polled.is_ready() || bytes_read < READ_AT_ONCE_BYTES as u64 {
                return polled;
            }
        }
    }

    #[test]
    fn frames_come_out_whole_however_they_are_cut() {
        let bodies: Vec<Vec<u8>> = [8usize, 9, 100, 16 << 10, (16 << 10) + 1, 300_000, 3 << 20, 8]
            .iter()
            .map(|n| (0..*n).map(|i| (i * 7 + n) as u8).collect())
            .collect();
        let wire: Vec<u8> = bodies.iter().flat_map(|body| frame_of(body)).collect();
        for cut in [1, 3, 4, 5, 1000, 16 << 10, 100_000, wire.len()] {
            let account = MemoryAccount::new(1 << 30);
            let mut reader = FrameReader::new(account.clone(), turns(), clock(), 1, 100 << 20);
            let mut stream = Arrived(wire.chunks(cut).map(<[u8]>::to_vec).collect());
            for body in &bodies {
                let Poll::Ready(Ok(frame)) = poll(&mut reader, &mut stream) else {
                    panic!("no frame, cut {cut}")
                };
                assert_eq!(frame.bytes, body[..], "cut {cut}");
                assert_eq!(frame.share.bytes(), body.len() as u64);
            }
            assert!(poll(&mut reader, &mut stream).is_pending());
            assert!(!reader.is_within_frame());
            assert_eq!(account.used(), 0);
        }
    }

    #[test]
    fn a_large_promise_with_few_bytes_takes_little_memory() {
        let account = MemoryAccount::new(1 << 30);
        let mut reader = FrameReader::new(account.clone(), turns(), clock(), 1, 100 << 20);
        let mut stream = Arrived([(100i32 << 20).to_be_bytes().to_vec(), vec![1; 10]].into());
        assert!(poll(&mut reader, &mut stream).is_pending());
        assert!(reader.received.capacity() <= FIRST_READ_BYTES);
        assert_eq!(account.used(), 0);
        // Of the frame's first bytes on it has one.
        let mut stream = Arrived([vec![1; FIRST_PIECE_BYTES]].into());
        assert!(poll(&mut reader, &mut stream).is_pending());
        assert!(reader.received.capacity() <= FIRST_BUFFER_BYTES);
        assert!((1..=FIRST_BUFFER_BYTES as u64).contains(&account.used()));
    }

    #[test]
    fn lengths_that_no_request_has_are_refused() {
        for length in [-1, 0, 7, (100 << 20) + 1, i32::MAX, i32::MIN] {
            let mut reader = FrameReader::new(MemoryAccount::new(1 << 30), turns(), clock(), 1, 100 << 20);
            let mut stream = Arrived([length.to_be_bytes().to_vec()].into());
            assert!(
                matches!(poll(&mut reader, &mut stream), Poll::Ready(Err(FrameError::Length { .. }))),
                "{length}"
            );
        }
    }

    #[test]
    fn without_memory_a_frame_waits_and_then_goes_on() {
        let account = MemoryAccount::new(1000);
        let other = account.take_anyway(1000);
        let mut reader = FrameReader::new(account.clone(), turns(), clock(), 1, 100 << 20);
        let mut stream = Arrived([frame_of(&[5; 50_000])].into());
        assert!(poll(&mut reader, &mut stream).is_pending());
        assert!(reader.is_under_memory_pressure());
        drop(other);
        assert!(matches!(poll(&mut reader, &mut stream), Poll::Ready(Ok(_))));
    }

    #[test]
    fn pieces_of_very_long_frames_come_in_turns_and_others_without() {
        let (account, turns) = (MemoryAccount::new(1 << 30), turns());
        let reader = || FrameReader::new(account.clone(), turns.clone(), clock(), 1, 100 << 20);
        let stream = |bytes: usize| Arrived([frame_of(&vec![3; bytes])].into());
        let busy = turns.take();
        let (mut long, mut arrived) = (reader(), stream(3 << 20));
        assert!(poll(&mut long, &mut arrived).is_pending());
        // As long as producers send them.
        assert!(poll(&mut reader(), &mut stream(1 << 20)).is_ready());
        drop(busy);
        assert_eq!(turns.free(), 0, "it is the waiting one's");
        long.give_up_turn();
        assert_eq!(turns.free(), 1, "who does not read has none");
        assert!(
            matches!(poll(&mut long, &mut arrived), Poll::Ready(Ok(frame)) if frame.bytes.len() == 3 << 20)
        );
        assert_eq!(turns.free(), 1);
    }

    /// As `Arrived`, and each piece takes 3 ms to be copied.
    struct Slow(Arrived, Arc<ManualClock>);

    impl AsyncRead for Slow {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1.advance(Duration::from_millis(3));
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    #[tokio::test]
    async fn who_receives_a_first_very_long_frame_rests_more_than_it_works() {
        let (turns, clock) = (turns(), Arc::new(ManualClock::new(0)));
        let account = MemoryAccount::new(1 << 30);
        let mut reader = FrameReader::new(account, turns.clone(), clock.clone(), 1, 100 << 20);
        let real = RealClock::new();
        let receive = async |reader: &mut FrameReader| {
            let mut stream = Slow(Arrived([frame_of(&vec![3; 6 << 20])].into()), clock.clone());
            let (began, worked_before) = (real.monotonic(), clock.monotonic());
            let frame = std::future::poll_fn(|cx| reader.poll_frame(cx, &mut stream, &mut 0));
            assert_eq!(frame.await.unwrap().bytes.len(), 6 << 20);
            (turns.free(), real.monotonic() - began, clock.monotonic() - worked_before)
        };
        let (free, took, worked) = receive(&mut reader).await;
        // What came before it had a turn takes no rest, and nobody has waited for the last one.
        assert!(took >= 2 * (worked - Duration::from_millis(12)), "{took:?} for {worked:?}");
        assert_eq!(free, 0, "the turn rests");
        let (free, ..) = receive(&mut reader).await;
        assert_eq!(free, 1, "it has sent one that was taken");
    }
}
