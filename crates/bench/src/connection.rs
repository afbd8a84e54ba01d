//! One connection: frames out, answers in. Leaner than `client`'s, which routes, retries and times; a generator that
//! costs more than what it measures measures itself.

use std::io::IoSlice;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes, BytesMut};
use protocol::frame::{decode_response_header, encode_request};
use protocol::wire::Reader;
use protocol::{ErrorCode, Message, Request, Str};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Largest answer taken: what a Fetch may ask for, and a batch.
const ANSWER_BYTES_MAX: usize = 128 << 20;
/// Slices handed to one write; Linux takes no more.
const SLICES_MAX: usize = 1024;
const READ_BYTES: usize = 256 << 10;

pub struct Sender {
    write: OwnedWriteHalf,
    next_id: i32,
}

pub struct Receiver {
    read: OwnedReadHalf,
    /// What arrived and was not taken yet.
    buffer: BytesMut,
    next_id: i32,
}

pub async fn connect(address: &str) -> Result<(Sender, Receiver)> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok((Sender { write, next_id: 0 }, Receiver { read, buffer: BytesMut::new(), next_id: 0 }))
}

impl Sender {
    pub async fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<()> {
        let segments = encode_request(self.next_id, Some(Str::from("bench")), request, version)?;
        self.next_id = self.next_id.wrapping_add(1);
        let (mut first, mut offset) = (0, 0);
        while first < segments.len() {
            let left = segments[first..].iter().take(SLICES_MAX);
            let slices: Vec<IoSlice<'_>> = left
                .enumerate()
                .map(|(index, segment)| IoSlice::new(&segment[if index == 0 { offset } else { 0 }..]))
                .collect();
            let mut written = self.write.write_vectored(&slices).await?;
            ensure!(written > 0, "the peer takes no more");
            while first < segments.len() && written >= segments[first].len() - offset {
                written -= segments[first].len() - offset;
                (first, offset) = (first + 1, 0);
            }
            offset += written;
        }
        Ok(())
    }
}

impl Receiver {
    /// The answer to the oldest request that is not answered yet.
    pub async fn receive<R: Request>(&mut self, version: i16) -> Result<R::Response> {
        let frame = self.frame().await?;
        let mut reader = Reader::new(frame);
        let id = decode_response_header(&mut reader, R::KEY, version)?;
        ensure!(id == self.next_id, "answer {id} where {} was due", self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let answer = R::Response::decode(&mut reader, version)?;
        reader.expect_end()?;
        Ok(answer)
    }

    async fn frame(&mut self) -> Result<Bytes> {
        self.fill(4).await?;
        let len = self.buffer.get_i32();
        let len = usize::try_from(len).ok().filter(|len| *len <= ANSWER_BYTES_MAX);
        let len = len.context("an answer that is too long")?;
        self.fill(len).await?;
        Ok(self.buffer.split_to(len).freeze())
    }

    async fn fill(&mut self, bytes: usize) -> Result<()> {
        while self.buffer.len() < bytes {
            // Memory that earlier answers have given back is taken again: fresh pages cost more than the reading.
            self.buffer.reserve((bytes - self.buffer.len()).max(READ_BYTES));
            ensure!(self.read.read_buf(&mut self.buffer).await? > 0, "the broker closed the connection");
        }
        Ok(())
    }
}

/// One question and its answer, nothing else being under way.
pub async fn ask<R: Request>(
    (sender, receiver): &mut (Sender, Receiver),
    request: &R,
    version: i16,
) -> Result<R::Response> {
    sender.send(request, version).await?;
    receiver.receive::<R>(version).await
}

/// A code as its name; one that nobody knows is what Kafka's clients take it for.
pub fn error_code(code: i16) -> ErrorCode {
    ErrorCode::try_from(code).unwrap_or(ErrorCode::UnknownServerError)
}
