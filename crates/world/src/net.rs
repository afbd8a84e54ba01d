//! Listeners and streams: TCP, or in-memory pipes with a registry of listeners by address for simulation.
//! No TLS here; the server room puts it on top of [`Stream`].

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Connections that a TCP listener lets the kernel hold until we accept them.
const ACCEPT_BACKLOG: u32 = 1024;
/// Bytes in flight per direction of an in-memory stream.
const MEMORY_STREAM_BYTES: usize = 64 << 10;
/// Connections that an in-memory listener holds until they are accepted.
const MEMORY_BACKLOG: usize = 1024;
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// The network: cheap to clone.
#[derive(Clone)]
pub enum Net {
    Tcp,
    Memory(Arc<MemNet>),
}

impl Net {
    pub fn tcp() -> Self {
        Net::Tcp
    }

    pub fn memory() -> Self {
        Net::Memory(Arc::new(MemNet::default()))
    }

    /// Listens at `host:port`. Port 0 picks a free one, see [`Listener::local_addr`].
    pub async fn bind(&self, address: &str) -> io::Result<Listener> {
        match self {
            Net::Tcp => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"));
                for resolved in tokio::net::lookup_host(address).await? {
                    match bind_tcp(resolved) {
                        Ok(listener) => return Ok(Listener::Tcp(listener)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Net::Memory(net) => net.bind(address),
        }
    }

    pub async fn connect(&self, address: &str) -> io::Result<Stream> {
        match self {
            Net::Tcp => {
                let stream = TcpStream::connect(address).await?;
                prepare(&stream)?;
                Ok(Stream::Tcp(stream))
            }
            Net::Memory(net) => net.connect(address).await,
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` serves IPv4 clients as well, as Java's sockets do.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_BACKLOG as i32)?;
    TcpListener::from_std(socket.into())
}

/// No Nagle (we write whole answers), keepalive (a client that vanished without a FIN must not stay for ever).
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

pub enum Listener {
    Tcp(TcpListener),
    Memory(MemListener),
}

impl Listener {
    pub async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                prepare(&stream)?;
                Ok((Stream::Tcp(stream), peer))
            }
            Listener::Memory(listener) => match listener.incoming.recv().await {
                Some((pipe, peer)) => {
                    Ok((Stream::Memory(MemStream { pipe, local: listener.address, peer }), peer))
                }
                None => Err(io::Error::new(io::ErrorKind::NotConnected, "the network is gone")),
            },
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr(),
            Listener::Memory(listener) => Ok(listener.address),
        }
    }
}

pub enum Stream {
    Tcp(TcpStream),
    Memory(MemStream),
}

pub struct MemStream {
    pipe: DuplexStream,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Stream {
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Tcp(stream) => stream.peer_addr(),
            Stream::Memory(stream) => Ok(stream.peer),
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Tcp(stream) => stream.local_addr(),
            Stream::Memory(stream) => Ok(stream.local),
        }
    }

    /// How much may lie in the system's buffer that it has not sent yet; `None`: as much as it likes, which is megabytes.
    pub fn set_unsent_max(&self, bytes: Option<u32>) -> io::Result<()> {
        match self {
            // Nothing else has the option under this name; 0 is the system's own setting, which has no bound as a rule.
            #[cfg(target_os = "linux")]
            Stream::Tcp(stream) => {
                socket2::SockRef::from(stream).set_tcp_notsent_lowat(bytes.unwrap_or_default())
            }
            #[cfg(not(target_os = "linux"))]
            Stream::Tcp(_) => Ok(()),
            Stream::Memory(_) => Ok(()),
        }
    }

    /// A half to read and a half to write, for two tasks.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Stream::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Stream::Memory(stream) => {
                let (read, write) = tokio::io::split(stream.pipe);
                (ReadHalf::Memory(read), WriteHalf::Memory(write))
            }
        }
    }
}

pub enum ReadHalf {
    Tcp(tokio::net::tcp::OwnedReadHalf),
    Memory(tokio::io::ReadHalf<DuplexStream>),
}

pub enum WriteHalf {
    Tcp(tokio::net::tcp::OwnedWriteHalf),
    Memory(tokio::io::WriteHalf<DuplexStream>),
}

macro_rules! read_through {
    ($type:ty, $tcp:path, $memory:path) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $tcp(inner) => Pin::new(inner).poll_read(cx, buf),
                    $memory(inner) => Pin::new(inner).poll_read(cx, buf),
                }
            }
        }
    };
}

macro_rules! write_through {
    ($type:ty, $tcp:path, $memory:path) => {
        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $tcp(inner) => Pin::new(inner).poll_write(cx, buf),
                    $memory(inner) => Pin::new(inner).poll_write(cx, buf),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $tcp(inner) => Pin::new(inner).poll_write_vectored(cx, bufs),
                    $memory(inner) => Pin::new(inner).poll_write_vectored(cx, bufs),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $tcp(inner) => inner.is_write_vectored(),
                    $memory(inner) => inner.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $tcp(inner) => Pin::new(inner).poll_flush(cx),
                    $memory(inner) => Pin::new(inner).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $tcp(inner) => Pin::new(inner).poll_shutdown(cx),
                    $memory(inner) => Pin::new(inner).poll_shutdown(cx),
                }
            }
        }
    };
}

read_through!(Stream, Stream::Tcp, Stream::Memory);
write_through!(Stream, Stream::Tcp, Stream::Memory);
read_through!(ReadHalf, ReadHalf::Tcp, ReadHalf::Memory);
write_through!(WriteHalf, WriteHalf::Tcp, WriteHalf::Memory);

impl AsyncRead for MemStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for MemStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().pipe).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().pipe).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_shutdown(cx)
    }
}

/// Who listens where, in memory. Host names get addresses of 10.0.0.0/8 in order of first use.
#[derive(Default)]
pub struct MemNet {
    state: Mutex<MemNetState>,
}

#[derive(Default)]
struct MemNetState {
    hosts: BTreeMap<String, IpAddr>,
    listeners: BTreeMap<SocketAddr, mpsc::Sender<(DuplexStream, SocketAddr)>>,
    ports_used: u16,
    unreachable: Vec<IpAddr>,
}

const FIRST_EPHEMERAL_PORT: u16 = 20_000;

impl MemNetState {
    fn resolve(&mut self, address: &str) -> io::Result<SocketAddr> {
        if let Ok(parsed) = address.parse() {
            return Ok(parsed);
        }
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is not host:port"));
        let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        let next = self.hosts.len() as u32 + 1;
        let ip = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            name => *self
                .hosts
                .entry(name.to_owned())
                .or_insert(IpAddr::V4(Ipv4Addr::from_bits((10 << 24) + next))),
        };
        Ok(SocketAddr::new(ip, port))
    }

    fn next_port(&mut self) -> u16 {
        self.ports_used = (self.ports_used + 1) % 40_000;
        FIRST_EPHEMERAL_PORT + self.ports_used
    }
}

impl MemNet {
    /// New connections to this host are refused until it is reachable again. Those that exist go on.
    pub fn set_reachable(&self, ip: IpAddr, reachable: bool) {
        let mut state = self.state.lock();
        state.unreachable.retain(|known| *known != ip);
        if !reachable {
            state.unreachable.push(ip);
        }
    }

    fn bind(self: &Arc<Self>, address: &str) -> io::Result<Listener> {
        let mut state = self.state.lock();
        let mut address = state.resolve(address)?;
        while address.port() == 0 {
            let candidate = SocketAddr::new(address.ip(), state.next_port());
            if !state.listeners.contains_key(&candidate) {
                address = candidate;
            }
        }
        // A listener that was dropped leaves a closed channel behind; its address is free again.
        if state.listeners.get(&address).is_some_and(|sender| !sender.is_closed()) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{address} is taken")));
        }
        let (sender, incoming) = mpsc::channel(MEMORY_BACKLOG);
        state.listeners.insert(address, sender);
        Ok(Listener::Memory(MemListener { address, incoming }))
    }

    async fn connect(&self, address: &str) -> io::Result<Stream> {
        let (sender, local, peer) = {
            let mut state = self.state.lock();
            let peer = state.resolve(address)?;
            let refused =
                || io::Error::new(io::ErrorKind::ConnectionRefused, format!("nobody listens at {peer}"));
            if state.unreachable.contains(&peer.ip()) {
                return Err(refused());
            }
            let sender = state.listeners.get(&peer).cloned().ok_or_else(refused)?;
            let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), state.next_port());
            (sender, local, peer)
        };
        let (ours, theirs) = tokio::io::duplex(MEMORY_STREAM_BYTES);
        sender.send((theirs, local)).await.map_err(|_| {
            io::Error::new(io::ErrorKind::ConnectionRefused, format!("nobody listens at {peer}"))
        })?;
        Ok(Stream::Memory(MemStream { pipe: ours, local, peer }))
    }
}

pub struct MemListener {
    address: SocketAddr,
    incoming: mpsc::Receiver<(DuplexStream, SocketAddr)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn echo_once(net: Net, bind: &str) {
        let mut listener = net.bind(bind).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = stream.into_split();
            let mut got = [0u8; 5];
            read.read_exact(&mut got).await.unwrap();
            write.write_all(&got).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut stream = net.connect(&address).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"hello");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn both_networks_carry_bytes_and_ends_of_stream() {
        echo_once(Net::tcp(), "127.0.0.1:0").await;
        echo_once(Net::memory(), "broker-1:0").await;
    }

    #[tokio::test]
    async fn an_address_serves_one_listener_at_a_time() {
        let net = Net::memory();
        let listener = net.bind("broker-1:9092").await.unwrap();
        assert!(net.bind("broker-1:9092").await.is_err());
        assert_eq!(
            net.connect("broker-2:9092").await.err().unwrap().kind(),
            io::ErrorKind::ConnectionRefused
        );
        drop(listener);
        assert_eq!(
            net.connect("broker-1:9092").await.err().unwrap().kind(),
            io::ErrorKind::ConnectionRefused
        );
        assert!(net.bind("broker-1:9092").await.is_ok());
    }
}
