//! How frames travel: over TCP, or in-process straight into a broker.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use world::net::Net;

/// Makes connections to `host:port`.
///
/// For an in-process transport: what [`FrameSender::send`] gets is a whole request, its four-byte length
/// included; what [`FrameReceiver::receive`] gives is a whole answer *without* the length. Answers must come in
/// the order of their requests; a request without an answer (Produce with acks=0) gives none.
pub trait Transport: Send + Sync + 'static {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Channel>>;
}

/// The two directions of a connection.
pub struct Channel {
    pub sender: Box<dyn FrameSender>,
    pub receiver: Box<dyn FrameReceiver>,
}

impl Channel {
    /// Frames over a stream of bytes.
    pub(crate) fn over(
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        frame_bytes_max: usize,
    ) -> Channel {
        let reader = BufReader::with_capacity(READ_BUFFER_BYTES, read);
        Channel {
            sender: Box::new(StreamSender { write }),
            receiver: Box::new(StreamReceiver { reader, frame_bytes_max }),
        }
    }
}

pub trait FrameSender: Send + 'static {
    /// Sends one frame; the segments joined are the frame with its length prefix.
    fn send(&mut self, segments: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>>;
}

pub trait FrameReceiver: Send + 'static {
    /// The next frame without its length prefix; `None` when the peer has closed.
    fn receive(&mut self) -> BoxFuture<'_, io::Result<Option<Bytes>>>;
}

/// Real TCP, or the simulator's network.
#[derive(Clone)]
pub struct TcpTransport {
    net: Net,
    frame_bytes_max: usize,
}

/// Largest answer taken; a Fetch answer is bounded by `fetch.max.bytes`, 50 MiB, plus one batch.
pub const FRAME_BYTES_MAX: usize = 256 << 20;
const READ_BUFFER_BYTES: usize = 64 << 10;

impl TcpTransport {
    pub fn new() -> TcpTransport {
        TcpTransport::over(Net::tcp())
    }

    pub fn over(net: Net) -> TcpTransport {
        TcpTransport { net, frame_bytes_max: FRAME_BYTES_MAX }
    }
}

impl Default for TcpTransport {
    fn default() -> TcpTransport {
        TcpTransport::new()
    }
}

impl Transport for TcpTransport {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Channel>> {
        Box::pin(async move {
            let (read, write) = self.net.connect(address).await?.into_split();
            Ok(Channel::over(read, write, self.frame_bytes_max))
        })
    }
}

struct StreamSender<W> {
    write: W,
}

impl<W: AsyncWrite + Send + Unpin + 'static> FrameSender for StreamSender<W> {
    fn send(&mut self, segments: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let mut queue = Segments(segments.into());
            while queue.has_remaining() {
                if self.write.write_buf(&mut queue).await? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
            }
            self.write.flush().await
        })
    }
}

/// Several byte strings as one buffer, so that one vectored write sends them.
struct Segments(std::collections::VecDeque<Bytes>);

impl Buf for Segments {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |segment| segment)
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [io::IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, segment) in out.iter_mut().zip(&self.0) {
            *slot = io::IoSlice::new(segment);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut by: usize) {
        while let Some(front) = self.0.front_mut() {
            if by < front.len() {
                front.advance(by);
                return;
            }
            by -= front.len();
            self.0.pop_front();
        }
    }
}

struct StreamReceiver<R> {
    reader: BufReader<R>,
    frame_bytes_max: usize,
}

impl<R: AsyncRead + Send + Unpin + 'static> FrameReceiver for StreamReceiver<R> {
    fn receive(&mut self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        Box::pin(async move {
            let len = match self.reader.read_i32().await {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            };
            let len =
                usize::try_from(len).ok().filter(|len| *len <= self.frame_bytes_max).ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("an answer of {len} bytes is not taken"),
                    )
                })?;
            // The buffer grows with what arrives, not with what the prefix promises.
            let mut frame = BytesMut::with_capacity(len.min(1 << 20));
            let mut body = (&mut self.reader).take(len as u64);
            while frame.len() < len {
                if body.read_buf(&mut frame).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(Some(frame.freeze()))
        })
    }
}
