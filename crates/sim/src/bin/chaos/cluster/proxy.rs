//! A network that breaks: one port that forwards to one address, with faults that are switched while it runs.
//!
//! On the way to the store it knows as much of HTTP/1.1 as it takes to treat each request by itself: late, refused with 503, or carried out
//! and never answered. On the way to a broker it forwards bytes. Either link can be cut, which closes connections, or silent: nothing moves
//! and nothing is closed. What was under way in a silence goes on when it ends, though nobody waits for it any more: so late writes come.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// More in one request or answer is not believed.
const MESSAGE_BYTES_MAX: u64 = 256 << 20;
/// Of one line of a head.
const HEAD_BYTES_MAX: u64 = 64 << 10;
const BUFFER_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    #[default]
    Whole,
    /// Connections are closed, and new ones as well.
    Cut,
    /// Connections are taken and kept; nothing moves.
    Silent,
}

/// How long requests wait before they go on: half of them less than the median, one in a hundred longer than p99.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    pub median_ms: u32,
    pub p99_ms: u32,
}

impl Delay {
    fn draw(&self, random: &mut StdRng) -> Duration {
        // Log-normal, as the times of object stores are; two uniform draws make a normal one (Box and Muller).
        let (u, v) = (1.0 - random.random::<f64>(), random.random::<f64>());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        const NORMAL_P99: f64 = 2.326;
        let spread = f64::from(self.p99_ms.max(1)) / f64::from(self.median_ms.max(1));
        Duration::from_secs_f64(f64::from(self.median_ms) / 1e3 * spread.powf(normal / NORMAL_P99))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Of this broker alone.
    pub link: Link,
    /// Of the store for everybody; wins over `link`.
    pub outage: Link,
    pub delay: Option<Delay>,
    /// Answered with 503, and not carried out.
    pub refused_percent: u32,
    /// Carried out; the connection is closed instead of an answer.
    pub lost_percent: u32,
    /// A write of the log that is answered with success and not carried out. No store may do that; it is there to be found out.
    pub forgotten_percent: u32,
}

impl Weather {
    fn link(&self) -> Link {
        if self.outage == Link::Whole { self.link } else { self.outage }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// HTTP/1.1, one request after the other.
    Requests,
    Bytes,
}

#[derive(Debug, Default)]
pub struct Counters {
    pub requests: AtomicU64,
    pub refused: AtomicU64,
    pub lost: AtomicU64,
    pub forgotten: AtomicU64,
}

pub struct Proxy {
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
    counters: Arc<Counters>,
    accepting: JoinHandle<()>,
}

struct Shared {
    to: SocketAddr,
    traffic: Traffic,
    weather: watch::Receiver<Weather>,
    counters: Arc<Counters>,
    random: Mutex<StdRng>,
}

impl Proxy {
    /// Listens on a free port of this address.
    pub async fn start(on: Ipv4Addr, to: SocketAddr, traffic: Traffic, seed: u64) -> io::Result<Proxy> {
        let listener = TcpListener::bind((on, 0)).await?;
        let address = listener.local_addr()?;
        let (weather, seen) = watch::channel(Weather::default());
        let counters = Arc::new(Counters::default());
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let shared = Shared { to, traffic, weather: seen, counters: counters.clone(), random };
        let accepting = tokio::spawn(accept(listener, Arc::new(shared)));
        Ok(Proxy { address, weather, counters, accepting })
    }

    pub fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, which ends them all.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => drop(connections.spawn(connection(socket, shared.clone()))),
                // Out of file descriptors: some are given back soon.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(socket: TcpStream, shared: Arc<Shared>) {
    let mut weather = shared.weather.clone();
    let forwarded = async {
        socket.set_nodelay(true)?;
        match shared.traffic {
            Traffic::Requests => requests(socket, &shared).await,
            Traffic::Bytes => bytes(socket, &shared).await,
        }
    };
    tokio::select! {
        biased;
        _ = weather.wait_for(|weather| weather.link() == Link::Cut) => {}
        // However it ended, both sides are closed now.
        _ = forwarded => {}
    }
}

impl Shared {
    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = TcpStream::connect(self.to).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    /// Waits out a silence.
    async fn audible(&self) {
        let _ = self.weather.clone().wait_for(|weather| weather.link() != Link::Silent).await;
    }

    fn happens(&self, percent: u32, counter: &AtomicU64) -> bool {
        let happens = percent > 0 && self.random.lock().random_ratio(percent.min(100), 100);
        counter.fetch_add(u64::from(happens), Ordering::Relaxed);
        happens
    }
}

async fn bytes(client: TcpStream, shared: &Shared) -> io::Result<()> {
    shared.audible().await;
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = shared.connect().await?.into_split();
    tokio::select! {
        done = pump(client_read, server_write, shared) => done,
        done = pump(server_read, client_write, shared) => done,
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let len = from.read(&mut buffer).await?;
        shared.audible().await;
        if len == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..len]).await?;
    }
}

async fn requests(client: TcpStream, shared: &Shared) -> io::Result<()> {
    const BODY: &str = "<Error><Code>SlowDown</Code><Message>chaos</Message></Error>";
    const HEAD: &str = "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length:";
    const FORGOTTEN: &[u8] = b"HTTP/1.1 200 OK\r\nETag: \"forgotten\"\r\nContent-Length: 0\r\n\r\n";
    let mut client = BufReader::with_capacity(BUFFER_BYTES, client);
    let mut store: Option<BufReader<TcpStream>> = None;
    while let Some(request) = Message::read(&mut client, Asked::Request).await? {
        let counters = &shared.counters;
        counters.requests.fetch_add(1, Ordering::Relaxed);
        let weather = *shared.weather.borrow();
        if let Some(delay) = weather.delay {
            let delay = delay.draw(&mut shared.random.lock());
            tokio::time::sleep(delay).await;
        }
        shared.audible().await;
        if shared.happens(weather.refused_percent, &counters.refused) {
            client.write_all(format!("{HEAD} {}\r\n\r\n{BODY}", BODY.len()).as_bytes()).await?;
            continue;
        }
        if request.is_write_of_the_log() && shared.happens(weather.forgotten_percent, &counters.forgotten) {
            client.write_all(FORGOTTEN).await?;
            continue;
        }
        let store = match &mut store {
            Some(store) => store,
            None => store.insert(BufReader::with_capacity(BUFFER_BYTES, shared.connect().await?)),
        };
        store.write_all(&request.bytes).await?;
        let asked = Asked::Answer { to_head: request.bytes.starts_with(b"HEAD ") };
        let Some(answer) = Message::read(store, asked).await? else { return Ok(()) };
        if shared.happens(weather.lost_percent, &counters.lost) {
            return Ok(());
        }
        shared.audible().await;
        client.write_all(&answer.bytes).await?;
        if request.is_last || answer.is_last {
            return Ok(());
        }
    }
    Ok(())
}

/// What a message is, which decides whether it has a body.
#[derive(Clone, Copy)]
enum Asked {
    Request,
    Answer { to_head: bool },
}

/// A request or an answer, whole (RFC 9112).
struct Message {
    bytes: Vec<u8>,
    /// The connection ends behind it.
    is_last: bool,
}

enum Body {
    None,
    Length(u64),
    Chunked,
    ToTheEnd,
}

impl Message {
    fn is_write_of_the_log(&self) -> bool {
        let line = self.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        line.starts_with(b"PUT ") && line.windows(5).any(|part| part == b"/wal/")
    }

    /// `None`: the other side has closed the connection between two messages.
    async fn read(from: &mut (impl AsyncBufRead + Unpin), asked: Asked) -> io::Result<Option<Message>> {
        let mut bytes = Vec::new();
        let mut is_last = false;
        let (mut length, mut is_chunked) = (None, false);
        loop {
            let start = read_line(from, &mut bytes).await?;
            match text(&bytes[start..])? {
                "" if bytes.is_empty() => return Ok(None),
                "" => break,
                line => {
                    let Some((name, value)) = line.split_once(':') else { continue };
                    let value = value.trim();
                    match name.to_ascii_lowercase().as_str() {
                        "content-length" => length = Some(value.parse().map_err(wrong)?),
                        "transfer-encoding" => is_chunked = value.eq_ignore_ascii_case("chunked"),
                        "connection" => is_last = value.eq_ignore_ascii_case("close"),
                        _ => {}
                    }
                }
            }
        }
        let body = match asked {
            Asked::Answer { to_head } if to_head || has_no_body(&bytes) => Body::None,
            _ if is_chunked => Body::Chunked,
            Asked::Request => length.map_or(Body::None, Body::Length),
            Asked::Answer { .. } => length.map_or(Body::ToTheEnd, Body::Length),
        };
        match body {
            Body::None => {}
            Body::Length(len) => read_exactly(from, len, &mut bytes).await?,
            Body::Chunked => loop {
                let start = read_line(from, &mut bytes).await?;
                let len = text(&bytes[start..])?.split(';').next().unwrap_or_default();
                let len = u64::from_str_radix(len, 16).map_err(wrong)?;
                if len > 0 {
                    read_exactly(from, len + 2, &mut bytes).await?;
                    continue;
                }
                // Trailers, if any, end with an empty line.
                loop {
                    let start = read_line(from, &mut bytes).await?;
                    if text(&bytes[start..])?.is_empty() {
                        break;
                    }
                }
                break;
            },
            Body::ToTheEnd => {
                is_last = true;
                from.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes).await?;
            }
        }
        Ok(Some(Message { bytes, is_last }))
    }
}

/// By its status: `HTTP/1.1 304 …`.
fn has_no_body(answer: &[u8]) -> bool {
    let status = answer.get(9..12).unwrap_or_default();
    status.starts_with(b"1") || status == b"204" || status == b"304"
}

/// Adds one line to `bytes` and says where it begins; nothing at the end of the connection.
async fn read_line(from: &mut (impl AsyncBufRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<usize> {
    let start = bytes.len();
    from.take(HEAD_BYTES_MAX).read_until(b'\n', bytes).await?;
    let is_whole = bytes.last() == Some(&b'\n') && bytes.len() > start;
    if is_whole || bytes.is_empty() { Ok(start) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn text(line: &[u8]) -> io::Result<&str> {
    Ok(std::str::from_utf8(line).map_err(wrong)?.trim_end())
}

async fn read_exactly(
    from: &mut (impl AsyncBufRead + Unpin),
    len: u64,
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    if len > MESSAGE_BYTES_MAX {
        return Err(wrong("a body too long"));
    }
    let start = bytes.len();
    from.take(len).read_to_end(bytes).await?;
    if ((bytes.len() - start) as u64) < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn wrong(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(300);

    /// A store that answers what it was asked, in turn with a length and in chunks; it counts what it carried out.
    async fn echo(carried_out: Arc<AtomicU64>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let carried_out = carried_out.clone();
                tokio::spawn(async move {
                    let mut socket = BufReader::new(socket);
                    while let Ok(Some(request)) = Message::read(&mut socket, Asked::Request).await {
                        let number = carried_out.fetch_add(1, Ordering::Relaxed);
                        let body = request.bytes.split(|byte| *byte == b'\n').next_back().unwrap().to_vec();
                        let body = String::from_utf8(body).unwrap();
                        let answer = match number % 2 {
                            0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
                            _ => format!(
                                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                                body.len()
                            ),
                        };
                        socket.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        address
    }

    async fn put(socket: &mut BufReader<TcpStream>, body: &str) -> io::Result<Option<String>> {
        let request = format!("PUT /wal/a HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        socket.write_all(request.as_bytes()).await?;
        let answer = Message::read(socket, Asked::Answer { to_head: false }).await?;
        Ok(answer.map(|answer| String::from_utf8(answer.bytes).unwrap()))
    }

    struct Scene {
        carried_out: Arc<AtomicU64>,
        proxy: Proxy,
    }

    impl Scene {
        async fn new(traffic: Traffic) -> Scene {
            let carried_out = Arc::new(AtomicU64::new(0));
            let store = echo(carried_out.clone()).await;
            Scene { carried_out, proxy: Proxy::start(Ipv4Addr::LOCALHOST, store, traffic, 1).await.unwrap() }
        }

        async fn connect(&self) -> BufReader<TcpStream> {
            BufReader::new(TcpStream::connect(self.proxy.address).await.unwrap())
        }

        fn carried_out(&self) -> u64 {
            self.carried_out.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn requests_go_through_one_after_the_other_on_one_connection() {
        for traffic in [Traffic::Requests, Traffic::Bytes] {
            let scene = Scene::new(traffic).await;
            let mut socket = scene.connect().await;
            for body in ["one", "two", "three", "four"] {
                let answer = put(&mut socket, body).await.unwrap().unwrap();
                assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(body), "{answer}");
            }
        }
    }

    #[tokio::test]
    async fn a_refusal_and_a_lie_do_not_reach_the_store_and_a_lost_answer_does() {
        let scene = Scene::new(Traffic::Requests).await;
        let mut socket = scene.connect().await;
        scene.proxy.change(|weather| weather.refused_percent = 100);
        for _ in 0..2 {
            assert!(put(&mut socket, "x").await.unwrap().unwrap().starts_with("HTTP/1.1 503"));
        }
        assert_eq!(scene.carried_out(), 0);
        scene.proxy.change(|weather| (weather.refused_percent, weather.lost_percent) = (0, 100));
        assert!(put(&mut socket, "y").await.unwrap().is_none());
        assert_eq!(scene.carried_out(), 1);
        scene.proxy.change(|weather| (weather.lost_percent, weather.forgotten_percent) = (0, 100));
        assert!(put(&mut scene.connect().await, "z").await.unwrap().unwrap().starts_with("HTTP/1.1 200"));
        assert_eq!(scene.carried_out(), 1);
    }

    #[tokio::test]
    async fn a_cut_closes_what_is_open_and_what_comes() {
        for traffic in [Traffic::Requests, Traffic::Bytes] {
            let scene = Scene::new(traffic).await;
            let mut socket = scene.connect().await;
            put(&mut socket, "x").await.unwrap().unwrap();
            scene.proxy.change(|weather| weather.outage = Link::Cut);
            assert_eq!(socket.read(&mut [0; 9]).await.unwrap_or(0), 0);
            assert!(!matches!(put(&mut scene.connect().await, "y").await, Ok(Some(_))));
            scene.proxy.change(|weather| weather.outage = Link::Whole);
            put(&mut scene.connect().await, "z").await.unwrap().unwrap();
            assert_eq!(scene.carried_out(), 2);
        }
    }

    #[tokio::test]
    async fn what_was_sent_in_a_silence_arrives_behind_it() {
        for traffic in [Traffic::Requests, Traffic::Bytes] {
            let scene = Scene::new(traffic).await;
            scene.proxy.change(|weather| weather.link = Link::Silent);
            let mut socket = scene.connect().await;
            assert!(tokio::time::timeout(WAIT, put(&mut socket, "late")).await.is_err());
            assert_eq!(scene.carried_out(), 0);
            scene.proxy.change(|weather| weather.link = Link::Whole);
            let answer = Message::read(&mut socket, Asked::Answer { to_head: false });
            assert!(answer.await.unwrap().unwrap().bytes.ends_with(b"late"));
        }
    }

    #[test]
    fn delays_have_the_median_and_the_p99_that_were_asked_for() {
        let mut random = StdRng::seed_from_u64(1);
        let delay = Delay { median_ms: 100, p99_ms: 1000 };
        let mut drawn: Vec<u128> = (0..10_000).map(|_| delay.draw(&mut random).as_millis()).collect();
        drawn.sort_unstable();
        assert!((90..110).contains(&drawn[5_000]), "{}", drawn[5_000]);
        assert!((800..1200).contains(&drawn[9_900]), "{}", drawn[9_900]);
    }
}
