//! One connection on the wire: a request, its answer, and nothing clever. Who gives up on an answer gives up the connection.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use protocol::wire::Reader;
use protocol::{Message, Request, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const FRAME_BYTES_MAX: usize = 64 << 20;
const CONNECT_MAX: Duration = Duration::from_secs(2);

pub struct Wire {
    address: SocketAddr,
    patience: Duration,
    stream: Option<TcpStream>,
    next_id: i32,
}

impl Wire {
    pub fn new(address: SocketAddr, patience: Duration) -> Wire {
        Wire { address, patience, stream: None, next_id: 0 }
    }

    /// An error means that nobody knows whether the broker did it. The next request goes by a new connection.
    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> anyhow::Result<R::Response> {
        let asked = timeout(self.patience, self.try_ask(version, request)).await;
        let asked = asked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")));
        if asked.is_err() {
            self.stream = None;
        }
        asked
    }

    pub fn hang_up(&mut self) {
        self.stream = None;
    }

    async fn try_ask<R: Request>(&mut self, version: i16, request: &R) -> anyhow::Result<R::Response> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let connected = timeout(CONNECT_MAX, TcpStream::connect(self.address)).await??;
                connected.set_nodelay(true)?;
                none.insert(connected)
            }
        };
        self.next_id += 1;
        for segment in frame::encode_request(self.next_id, Some("chaos".into()), request, version)? {
            stream.write_all(&segment).await?;
        }
        let mut answer = Reader::new(read_frame(stream).await?.context("the connection was closed")?);
        let id = frame::decode_response_header(&mut answer, R::KEY, version)?;
        ensure!(id == self.next_id, "an answer to another request");
        Ok(R::Response::decode(&mut answer, version)?)
    }
}

/// Without its length; `None` at the end of the stream.
pub async fn read_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> anyhow::Result<Option<Bytes>> {
    let length = match stream.read_i32().await {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if length > FRAME_BYTES_MAX {
        bail!("a frame of {length} bytes");
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(Some(frame.into()))
}
