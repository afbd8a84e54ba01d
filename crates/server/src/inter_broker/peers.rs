//! Calls to other brokers of the cluster. One connection to each that is alive, kept, with any number of calls on it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker::{HandedOff, Peer, PeerCalls, Peers, Progress};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use protocol::wire::Reader;
use tokio::sync::{mpsc, oneshot};
use world::clock::SharedClock;
use world::net::Net;
use world::task::{self, Instant};
use world::watch;

use super::counters::InterBrokerCounters;
use super::credentials::PeerId;
use super::link::{Duplex, Security, one_more};
use super::listener::{BoundInterBroker, InterBrokerLimits, Serving};
use super::messages::{self, Answer, Request};

const CONNECT_MAX: Duration = Duration::from_secs(1);
/// A peer that does not answer by then, beyond what it was asked to wait, finds out by itself.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Calls that wait for their turn on one connection.
const CALLS_QUEUED_MAX: usize = 64;
/// Calls of one connection without an answer; more end it.
const CALLS_UNANSWERED_MAX: usize = 1024;
/// After a connection that could not be made; doubled each time.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// This broker's side of all that brokers say to one another.
pub struct InterBroker {
    net: Net,
    security: Security,
    clock: SharedClock,
    /// By WAL id; of live brokers only.
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
    counters: Arc<InterBrokerCounters>,
    serving: Mutex<Option<Serving>>,
    breaks: Arc<watch::Sender<u64>>,
}

struct Link {
    id: PeerId,
    address: String,
    /// Whoever finds no connection makes one, the others wait for it.
    connection: tokio::sync::Mutex<Connecting>,
    /// The last try came to nothing.
    is_unreachable: AtomicBool,
}

#[derive(Default)]
struct Connecting {
    calls: Option<mpsc::Sender<Call>>,
    not_before: Option<Instant>,
    back_off: Duration,
}

struct Call {
    request: Request,
    answer: oneshot::Sender<Reader>,
}

/// Why a call has no answer.
enum Failed {
    /// It never left.
    NotSent,
    /// It may have arrived.
    Unknown,
}

impl InterBroker {
    pub fn new(net: Net, security: Security, clock: SharedClock) -> Arc<Self> {
        Arc::new(Self {
            net,
            security,
            clock,
            links: Mutex::default(),
            counters: Arc::default(),
            serving: Mutex::default(),
            breaks: Arc::new(watch::channel(0).0),
        })
    }

    /// Serves the listener from now on.
    pub fn serve(&self, bound: BoundInterBroker, calls: impl PeerCalls, limits: InterBrokerLimits) {
        let (security, counters) = (self.security.clone(), self.counters.clone());
        let (calls, clock, breaks) = (Arc::new(calls), self.clock.clone(), self.breaks.clone());
        let serving = Serving::start(bound, security, calls, counters, limits, clock, breaks);
        *self.serving.lock() = Some(serving);
    }

    /// Neither serves nor calls any more.
    pub async fn stop(&self) {
        let serving = self.serving.lock().take();
        if let Some(serving) = serving {
            serving.stop().await;
        }
        self.links.lock().clear();
    }

    pub fn counters(&self) -> &InterBrokerCounters {
        &self.counters
    }

    /// How many others are alive as the metadata log says, and the node ids of those that do not answer us.
    pub fn unreachable(&self) -> (usize, Vec<i32>) {
        let links = self.links.lock();
        let silent = links.values().filter(|link| link.is_unreachable.load(Ordering::Relaxed));
        (links.len(), silent.map(|link| link.id.node_id).collect())
    }

    fn link(&self, peer: &Peer) -> Arc<Link> {
        let mut links = self.links.lock();
        let known = links.get(&peer.wal_id).filter(|link| link.address == peer.address).cloned();
        known.unwrap_or_else(|| {
            let link = Arc::new(Link {
                id: PeerId { node_id: peer.node_id, wal_id: peer.wal_id },
                address: peer.address.clone(),
                connection: tokio::sync::Mutex::default(),
                is_unreachable: AtomicBool::new(false),
            });
            links.insert(peer.wal_id, link.clone());
            link
        })
    }

    async fn call(&self, peer: &Peer, request: Request, within: Duration) -> Result<Reader, Failed> {
        let link = self.link(peer);
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
        let answered = self.ask(&link, request, within).await;
        link.is_unreachable.store(answered.is_err(), Ordering::Relaxed);
        if answered.is_err() {
            self.counters.calls_failed.fetch_add(1, Ordering::Relaxed);
        }
        answered
    }

    async fn ask(&self, link: &Link, request: Request, within: Duration) -> Result<Reader, Failed> {
        let (answer, answered) = oneshot::channel();
        let mut call = Call { request, answer };
        // A connection that was idle may be dead: then once more, as long as nothing was sent.
        for _ in 0..2 {
            let calls = self.connected(link).await.ok_or(Failed::NotSent)?;
            call = match calls.send(call).await {
                Ok(()) => {
                    let answered = task::timeout(within, answered).await;
                    return answered.ok().and_then(Result::ok).ok_or(Failed::Unknown);
                }
                Err(mpsc::error::SendError(call)) => call,
            };
        }
        Err(Failed::NotSent)
    }

    async fn connected(&self, link: &Link) -> Option<mpsc::Sender<Call>> {
        let mut connection = link.connection.lock().await;
        if let Some(calls) = connection.calls.as_ref().filter(|calls| !calls.is_closed()) {
            return Some(calls.clone());
        }
        connection.calls = None;
        if connection.not_before.is_some_and(|not_before| task::now() < not_before) {
            return None;
        }
        self.counters.connects.fetch_add(1, Ordering::Relaxed);
        let connecting = async {
            let stream = self.net.connect(&link.address).await?;
            self.security.connect(stream, link.id).await
        };
        match task::timeout(CONNECT_MAX, connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        {
            Ok(stream) => {
                let (calls, queue) = mpsc::channel(CALLS_QUEUED_MAX);
                *connection = Connecting { calls: Some(calls.clone()), ..Connecting::default() };
                let (id, breaks) = (link.id, self.breaks.clone());
                drop(task::spawn(async move {
                    if let Err(error) = talk(stream, queue).await {
                        tracing::debug!(?id, "the connection to another broker ended: {error}");
                        one_more(&breaks);
                    }
                }));
                Some(calls)
            }
            Err(error) => {
                self.counters.connects_failed.fetch_add(1, Ordering::Relaxed);
                connection.back_off = (connection.back_off * 2).clamp(BACK_OFF_MIN, BACK_OFF_MAX);
                connection.not_before = Some(task::now() + connection.back_off);
                tracing::debug!(id = ?link.id, address = link.address, "another broker is not reached: {error}");
                // What TLS has to say of a certificate, ours or theirs. The bucket may take its time for it, and all who call this broker
                // wait for us.
                if error.kind() == io::ErrorKind::InvalidData {
                    let security = self.security.clone();
                    drop(task::spawn(async move { security.distrusted().await }));
                }
                None
            }
        }
    }
}

/// One connection, for as long as somebody may call and the other one answers.
async fn talk(stream: Box<dyn Duplex>, mut calls: mpsc::Receiver<Call>) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut unanswered: BTreeMap<i32, oneshot::Sender<Reader>> = BTreeMap::new();
    let mut last_id = 0i32;
    let mut next = Box::pin(next_answer(read));
    loop {
        tokio::select! {
            biased;
            answer = &mut next => {
                let Some((frame, read)) = answer? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
                next.set(next_answer(read));
                let (id, answer) =
                    Answer::split(frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                if let Some(asked) = unanswered.remove(&id) {
                    // Nobody waits for it any more, perhaps.
                    let _ = asked.send(answer);
                }
            }
            call = calls.recv() => {
                // The peer is gone from the catalog.
                let Some(Call { request, answer }) = call else { return Ok(()) };
                unanswered.retain(|_, asked| !asked.is_closed());
                if unanswered.len() >= CALLS_UNANSWERED_MAX {
                    return Err(io::Error::other("too many calls without an answer"));
                }
                last_id = last_id.wrapping_add(1);
                unanswered.insert(last_id, answer);
                let frame = request.encode(last_id);
                let written = task::timeout(ANSWER_MAX, messages::write_frame(&mut write, &frame)).await;
                written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            }
        }
    }
}

type Reading = tokio::io::ReadHalf<Box<dyn Duplex>>;

async fn next_answer(mut stream: Reading) -> io::Result<Option<(Bytes, Reading)>> {
    let Some(length) = messages::read_length(&mut stream).await? else { return Ok(None) };
    let frame = messages::read_body(&mut stream, length).await?;
    Ok(Some((frame, stream)))
}

impl Peers for InterBroker {
    fn log_moved(
        self: Arc<Self>,
        peer: Peer,
        position: u64,
        wait: Duration,
    ) -> BoxFuture<'static, Option<Progress>> {
        Box::pin(async move {
            let request = Request::LogMoved { position, wait };
            let answer = self.call(&peer, request, wait + ANSWER_MAX).await.ok()?;
            Answer::log_moved(answer).ok()?
        })
    }

    fn hand_off(self: Arc<Self>, peer: Peer, requests: Bytes) -> BoxFuture<'static, HandedOff> {
        Box::pin(async move {
            match self.call(&peer, Request::AppendMetadata { requests }, ANSWER_MAX).await {
                Ok(answer) => Answer::append_metadata(answer).unwrap_or(HandedOff::Unknown),
                Err(Failed::NotSent) => HandedOff::NotTaken,
                Err(Failed::Unknown) => HandedOff::Unknown,
            }
        })
    }

    fn refuses(self: Arc<Self>, peer: Peer, within: Duration) -> BoxFuture<'static, bool> {
        Box::pin(async move {
            let link = self.link(&peer);
            // Whoever holds it is connecting, which has a time limit of its own.
            let is_connected = link
                .connection
                .try_lock()
                .map_or(true, |connection| connection.calls.as_ref().is_some_and(|calls| !calls.is_closed()));
            if is_connected {
                return false;
            }
            let connected = task::timeout(within, self.net.connect(&link.address)).await;
            matches!(connected, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
        })
    }

    fn transactions(
        self: Arc<Self>,
        peer: Peer,
        api_key: i16,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Option<Bytes>> {
        Box::pin(async move {
            let answer = self.call(&peer, Request::Transactions { api_key, body }, within).await.ok()?;
            Answer::transactions(answer).ok()?
        })
    }

    fn slots_stored(
        self: Arc<Self>,
        peer: Peer,
        more_than: u64,
        wait: Duration,
    ) -> BoxFuture<'static, Option<u64>> {
        Box::pin(async move {
            let request = Request::SlotsStored { more_than, wait };
            let answer = self.call(&peer, request, wait + ANSWER_MAX).await.ok()?;
            Answer::slots_stored(answer).ok()?
        })
    }

    fn follow(&self, live: &[Peer]) {
        let is_live = |wal_id: &u64, address: &str| {
            live.iter().any(|peer| peer.wal_id == *wal_id && peer.address == address)
        };
        self.links.lock().retain(|wal_id, link| is_live(wal_id, &link.address));
        live.iter().for_each(|peer| drop(self.link(peer)));
    }

    fn breaks(&self) -> watch::Receiver<u64> {
        self.breaks.subscribe()
    }
}
