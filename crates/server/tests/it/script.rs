//! A broker that does what the request says, so that a test is in command of every answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::{CloseReason, Connection, Handling, Outcome};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use server::{BoundListener, Dispatch, Limits, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use world::clock::{Clock, RealClock};
use world::net::Net;

pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
pub const METADATA: i16 = 3;

/// First byte of a request's body.
pub const NOW: u8 = 0;
pub const WHEN_COMMITTED: u8 = 1;
pub const NEVER: u8 = 2;
pub const SILENT: u8 = 3;
pub const CLOSE: u8 = 4;
/// Followed by a u32: that many bytes of answer.
pub const LARGE: u8 = 5;

/// Answered at once, and nothing more is heard of the connection for a tenth of a second.
pub const MUTE: u8 = 6;

/// Long work is done on it until something is committed; what it is then is known only when that is over.
pub const PREPARED: u8 = 7;

/// What the server holds of it.
pub struct Shared(pub Arc<Script>);

pub struct Script {
    pub commit: watch::Sender<bool>,
    pub room: watch::Sender<bool>,
    pub handled: AtomicUsize,
    /// Correlation ids, as they came.
    pub order: Mutex<Vec<i32>>,
    pub started: Arc<AtomicUsize>,
    pub dropped_waits: Arc<AtomicUsize>,
    pub clock: Arc<RealClock>,
    /// Until when the last connection was muted.
    pub muted_until: Mutex<Duration>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            commit: watch::channel(false).0,
            room: watch::channel(true).0,
            handled: AtomicUsize::new(0),
            order: Mutex::default(),
            started: Arc::default(),
            dropped_waits: Arc::default(),
            clock: Arc::new(RealClock::new()),
            muted_until: Mutex::default(),
        }
    }
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Dispatch for Shared {
    fn handle(&self, connection: &Arc<Connection>, frame: Bytes) -> Handling {
        self.0.handled.fetch_add(1, Ordering::SeqCst);
        self.0.order.lock().unwrap().push(i32::from_be_bytes(frame[4..8].try_into().unwrap()));
        if frame.get(8) == Some(&MUTE) {
            let until = self.0.clock.monotonic() + Duration::from_millis(100);
            connection.mute_until(until);
            *self.0.muted_until.lock().unwrap() = until;
        }
        let api_key = i16::from_be_bytes([frame[0], frame[1]]);
        let mut committed = self.0.commit.subscribe();
        let mut prepared = self.0.commit.subscribe();
        let is_prepared = frame.get(8) == Some(&PREPARED);
        let started = self.0.started.clone();
        let dropped = self.0.dropped_waits.clone();
        let answer = async move {
            started.fetch_add(1, Ordering::SeqCst);
            let correlation = frame.slice(4..8);
            let mut size = 0;
            match frame.get(8).copied().unwrap_or(NOW) {
                WHEN_COMMITTED => drop(committed.wait_for(|committed| *committed).await),
                NEVER => {
                    let _guard = CountDrop(dropped);
                    std::future::pending::<()>().await
                }
                SILENT => return Outcome::Silent,
                CLOSE => return Outcome::Close(CloseReason::ShuttingDown),
                LARGE => size = u32::from_be_bytes(frame[9..13].try_into().unwrap()) as usize,
                _ => {}
            }
            let mut head = BytesMut::new();
            head.put_u32(4 + size as u32);
            head.extend_from_slice(&correlation);
            Outcome::Answer(vec![head.freeze(), Bytes::from(vec![7; size])])
        };
        if is_prepared {
            Handling::Preparing(Box::pin(async move {
                drop(prepared.wait_for(|committed| *committed).await);
                Handling::Pipelined(Box::pin(answer))
            }))
        } else if api_key == PRODUCE {
            Handling::Pipelined(Box::pin(answer))
        } else {
            Handling::Sequential(Box::pin(answer))
        }
    }

    fn produce_room(&self) -> Option<BoxFuture<'static, ()>> {
        let mut room = self.0.room.subscribe();
        if *room.borrow() {
            return None;
        }
        Some(Box::pin(async move { drop(room.wait_for(|room| *room).await) }))
    }
}

pub async fn serve(limits: Limits) -> (Arc<Server>, Arc<Script>) {
    let script = Arc::new(Script::default());
    let listener = BoundListener::bind(&Net::tcp(), "PLAINTEXT", "127.0.0.1:0", false).await.unwrap();
    (Server::start(vec![listener], Shared(script.clone()), limits, script.clock.clone()), script)
}

pub fn request(api_key: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_i32(8 + body.len() as i32);
    frame.put_i16(api_key);
    frame.put_i16(0);
    frame.put_i32(correlation);
    frame.extend_from_slice(body);
    frame
}

pub struct Peer(pub TcpStream);

impl Peer {
    pub async fn connect(server: &Server) -> Self {
        Peer(TcpStream::connect(server.local_addresses()[0]).await.unwrap())
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next answer's correlation id and the size of its body.
    pub async fn answer(&mut self) -> (i32, usize) {
        within(async {
            let length = self.0.read_i32().await.unwrap();
            let correlation = self.0.read_i32().await.unwrap();
            let mut rest = vec![0; length as usize - 4];
            self.0.read_exact(&mut rest).await.unwrap();
            (correlation, rest.len())
        })
        .await
    }

    /// Waits until the server closes; what it still sent.
    pub async fn closed(&mut self) -> Vec<u8> {
        within(async {
            let mut rest = Vec::new();
            match self.0.read_to_end(&mut rest).await {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
            }
            rest
        })
        .await
    }
}

/// A bound for tests that would hang when they fail.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing happened for 20 s")
}

pub async fn until(mut what: impl FnMut() -> bool) {
    within(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}
