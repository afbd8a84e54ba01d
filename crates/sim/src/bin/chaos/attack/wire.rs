//! A hostile client's connection: bytes out, bytes in, and no promise kept. It comes from an address of its own, so that the bounds of
//! one address meet it and not the good client.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use protocol::wire::Reader;
use protocol::{Message, Request, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::txn::wire::read_frame;

/// Where the hostile client comes from. Loopback as well: nothing has to be set up on the machine.
pub const HOSTILE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// The broker may hold a request up for a while; who waits for longer has been refused.
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub struct Foe {
    pub stream: TcpStream,
    next_id: i32,
}

impl Foe {
    pub async fn connect(to: SocketAddr) -> anyhow::Result<Foe> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((HOSTILE, 0)))?;
        let stream = timeout(CONNECT_MAX, socket.connect(to)).await??;
        stream.set_nodelay(true)?;
        Ok(Foe { stream, next_id: 0 })
    }

    /// From the address of everybody else.
    pub async fn disguised(to: SocketAddr) -> anyhow::Result<Foe> {
        Ok(Foe { stream: timeout(CONNECT_MAX, TcpStream::connect(to)).await??, next_id: 0 })
    }

    /// Takes little of what the broker sends, so that the rest stays with the broker.
    pub async fn connect_narrow(to: SocketAddr) -> anyhow::Result<Foe> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        socket.bind(SocketAddr::from((HOSTILE, 0)))?;
        Ok(Foe { stream: timeout(CONNECT_MAX, socket.connect(to)).await??, next_id: 0 })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Without waiting for the answer.
    pub async fn tell<R: Request>(&mut self, version: i16, request: &R) -> anyhow::Result<()> {
        let bytes = self.encode(version, request)?;
        self.send(&bytes).await
    }

    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> anyhow::Result<R::Response> {
        self.tell(version, request).await?;
        let answer =
            timeout(ANSWER_MAX, read_frame(&mut self.stream)).await.context("no answer in time")??;
        let mut answer = Reader::new(answer.context("the connection was closed")?);
        let id = frame::decode_response_header(&mut answer, R::KEY, version)?;
        ensure!(id == self.next_id, "an answer to another request");
        Ok(R::Response::decode(&mut answer, version)?)
    }

    fn encode<R: Request>(&mut self, version: i16, request: &R) -> anyhow::Result<Bytes> {
        self.next_id += 1;
        let segments = frame::encode_request(self.next_id, Some("hostile".into()), request, version)?;
        let mut bytes = BytesMut::new();
        segments.iter().for_each(|segment| bytes.extend_from_slice(segment));
        Ok(bytes.freeze())
    }

    /// Has the broker ended the connection? Takes what it still sends.
    pub async fn is_closed_within(&mut self, patience: Duration) -> bool {
        let mut taken = vec![0; 64 << 10];
        let gone = async { while let Ok(1..) = self.stream.read(&mut taken).await {} };
        timeout(patience, gone).await.is_ok()
    }
}

/// The header of a request whose body is made by hand, behind a length that may lie.
pub fn by_hand(length: i32, api_key: i16, version: i16, is_flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&api_key.to_be_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&7i32.to_be_bytes());
    bytes.extend_from_slice(&(-1i16).to_be_bytes());
    if is_flexible {
        bytes.push(0);
    }
    bytes.extend_from_slice(body);
    bytes
}

/// As [`by_hand`], with the length that is true.
pub fn whole(api_key: i16, version: i16, is_flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut bytes = by_hand(0, api_key, version, is_flexible, body);
    let length = (bytes.len() - 4) as i32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}
