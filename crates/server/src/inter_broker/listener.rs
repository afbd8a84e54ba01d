//! The listener for other brokers of the cluster.
//!
//! ```text
//!   accept ─▶ a place for the handshake ─▶ TLS, in time ─▶ a live broker? ─▶ requests, some at once, until it goes or is replaced
//! ```
//! A stranger sees our certificate, gets a TLS alert, and nothing else. A broker has one connection to another: a new one ends the one before.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::PeerCalls;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, ReadHalf};
use world::clock::SharedClock;
use world::net::{Listener, Net};
use world::task;
use world::watch;

use super::counters::InterBrokerCounters;
use super::credentials::PeerId;
use super::handshakes::Handshakes;
use super::link::{Duplex, Security, one_more};
use super::messages::{self, Answer, Request};
use crate::connection::LogBrake;
use crate::server::BindError;

/// However long a request asks to wait.
const WAIT_MAX: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may press against the listener how much.
#[derive(Clone, Debug)]
pub struct InterBrokerLimits {
    /// Connections whose other end is not known yet; a further one is closed.
    pub handshakes_max: usize,
    /// Those of one address that is not loopback.
    pub handshakes_per_address_max: usize,
    pub handshake: Duration,
    /// A broker says something every few seconds.
    pub idle: Duration,
    /// From the length of a frame to its last byte, and for an answer to be taken.
    pub frame: Duration,
    /// Requests of one connection under way at once; more are not read.
    pub calls_at_once: usize,
}

impl Default for InterBrokerLimits {
    fn default() -> Self {
        Self {
            handshakes_max: 32,
            handshakes_per_address_max: 8,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            frame: Duration::from_secs(10),
            calls_at_once: 16,
        }
    }
}

/// Bound, not yet served: its address can be registered.
pub struct BoundInterBroker {
    listener: Listener,
    address: SocketAddr,
}

impl BoundInterBroker {
    /// Binds `HOST:PORT`; port 0 takes a free one. Any address will do: whoever is no broker gets nothing here.
    pub async fn bind(net: &Net, address: &str) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { address: address.to_owned(), source };
        let listener = net.bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

pub(super) struct Serving {
    stop: watch::Sender<bool>,
    acceptor: task::JoinHandle<()>,
}

impl Serving {
    pub fn start(
        bound: BoundInterBroker,
        security: Security,
        calls: Arc<dyn PeerCalls>,
        counters: Arc<InterBrokerCounters>,
        limits: InterBrokerLimits,
        clock: SharedClock,
        breaks: Arc<watch::Sender<u64>>,
    ) -> Self {
        let (stop, _) = watch::channel(false);
        let shared = Arc::new(Shared {
            security,
            calls,
            counters,
            stop: stop.clone(),
            handshakes: Handshakes::new(limits.handshakes_max, limits.handshakes_per_address_max),
            connections: Mutex::default(),
            ids: AtomicU64::new(1),
            brake: LogBrake::default(),
            limits,
            clock,
            breaks,
        });
        Self { stop, acceptor: task::spawn(shared.accept(bound.listener)) }
    }

    /// Takes nothing any more, and returns when all connections are closed.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.acceptor.await;
        self.stop.closed().await;
    }
}

struct Shared {
    security: Security,
    calls: Arc<dyn PeerCalls>,
    counters: Arc<InterBrokerCounters>,
    stop: watch::Sender<bool>,
    handshakes: Arc<Handshakes>,
    /// By WAL id of the caller: as many as there are live brokers.
    connections: Mutex<BTreeMap<u64, Open>>,
    ids: AtomicU64,
    brake: LogBrake,
    limits: InterBrokerLimits,
    clock: SharedClock,
    /// Counts connections that the others have ended.
    breaks: Arc<watch::Sender<u64>>,
}

struct Open {
    id: u64,
    replaced: watch::Sender<bool>,
}

impl Shared {
    async fn accept(self: Arc<Self>, mut listener: Listener) {
        let mut stop = self.stop.subscribe();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!("accept of another broker failed: {error}");
                    task::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.handshakes.begin(address.ip()) else {
                self.counters.refused_for_number.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let (this, mut stop) = (self.clone(), self.stop.subscribe());
            drop(task::spawn(async move {
                let greeted = tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return,
                    greeted = task::timeout(this.limits.handshake, this.security.accept(stream)) => greeted,
                };
                drop(place);
                match greeted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok((stream, peer)) => this.admit(stream, peer, address, stop).await,
                    Err(error) => this.refuse(address, &error).await,
                }
            }));
        }
    }

    async fn refuse(&self, address: SocketAddr, error: &io::Error) {
        self.counters.strangers.fetch_add(1, Ordering::Relaxed);
        if self.brake.allows(self.clock.monotonic()) {
            tracing::warn!(%address, "not let in as a broker: {error}");
        }
        // What TLS has to say of a certificate.
        if error.kind() == io::ErrorKind::InvalidData {
            self.security.distrusted().await;
        }
    }

    async fn admit(
        self: Arc<Self>,
        stream: Box<dyn Duplex>,
        peer: PeerId,
        address: SocketAddr,
        mut stop: watch::Receiver<bool>,
    ) {
        if !self.calls.is_live(peer.node_id, peer.wal_id).await {
            self.counters.refused_for_absence.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%address, ?peer, "not let in: it is no live broker");
            return;
        }
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (replaced, mut is_replaced) = watch::channel(false);
        if let Some(before) = self.connections.lock().insert(peer.wal_id, Open { id, replaced }) {
            before.replaced.send_replace(true);
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            _ = is_replaced.wait_for(|replaced| *replaced) => {}
            ended = self.serve(stream, peer) => {
                if let Err(error) = ended {
                    tracing::debug!(%address, ?peer, "a connection of another broker ended: {error}");
                }
                one_more(&self.breaks);
            }
        }
        let mut connections = self.connections.lock();
        if connections.get(&peer.wal_id).is_some_and(|open| open.id == id) {
            connections.remove(&peer.wal_id);
        }
    }

    async fn serve(&self, stream: Box<dyn Duplex>, peer: PeerId) -> io::Result<()> {
        let (read, mut write) = tokio::io::split(stream);
        let mut next = Box::pin(next_frame(read, self.limits.clone()));
        let mut under_way: FuturesUnordered<BoxFuture<'static, Bytes>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(answer) = under_way.next(), if !under_way.is_empty() => {
                    let written = task::timeout(self.limits.frame, messages::write_frame(&mut write, &answer)).await;
                    written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                }
                read = &mut next, if under_way.len() < self.limits.calls_at_once => {
                    let (frame, read) = match read {
                        Ok(Some(read)) => read,
                        Ok(None) => {
                            let _ = write.shutdown().await;
                            return Ok(());
                        }
                        Err(error) => {
                            if error.kind() == io::ErrorKind::InvalidData {
                                self.counters.garbage.fetch_add(1, Ordering::Relaxed);
                            }
                            return Err(error);
                        }
                    };
                    next.set(next_frame(read, self.limits.clone()));
                    under_way.push(self.call(frame, peer)?);
                }
            }
        }
    }

    fn call(&self, frame: Bytes, peer: PeerId) -> io::Result<BoxFuture<'static, Bytes>> {
        let received = Request::decode(frame).map_err(|error| {
            self.counters.garbage.fetch_add(1, Ordering::Relaxed);
            io::Error::new(io::ErrorKind::InvalidData, error)
        })?;
        let (calls, id) = (self.calls.clone(), received.correlation_id);
        Ok(match received.request {
            None => Box::pin(std::future::ready(Answer::Unsupported.encode(id))),
            Some(Request::LogMoved { position, wait }) => {
                self.counters.log_moved_received.fetch_add(1, Ordering::Relaxed);
                let moved = calls.log_moved(position, wait.min(WAIT_MAX));
                Box::pin(async move { Answer::LogMoved(moved.await).encode(id) })
            }
            Some(Request::Transactions { api_key, body }) => {
                let answered = calls.transactions(api_key, body);
                Box::pin(async move {
                    answered.await.map_or(Answer::Unsupported, Answer::Transactions).encode(id)
                })
            }
            Some(Request::AppendMetadata { requests }) => {
                self.counters.appends_received.fetch_add(1, Ordering::Relaxed);
                let appended = calls.append_for(peer.wal_id, requests);
                Box::pin(async move { Answer::AppendMetadata(appended.await).encode(id) })
            }
            Some(Request::SlotsStored { more_than, wait }) => {
                self.counters.slots_stored_received.fetch_add(1, Ordering::Relaxed);
                let stored = calls.slots_stored(more_than, wait.min(WAIT_MAX));
                Box::pin(async move { Answer::SlotsStored(stored.await).encode(id) })
            }
        })
    }
}

type Reading = ReadHalf<Box<dyn Duplex>>;

/// The next frame, and the stream for the one after it. Must be polled to its end: half a frame that is dropped is lost.
async fn next_frame(mut stream: Reading, limits: InterBrokerLimits) -> io::Result<Option<(Bytes, Reading)>> {
    let stalled = |_| io::Error::from(io::ErrorKind::TimedOut);
    let length = task::timeout(limits.idle, messages::read_length(&mut stream)).await.map_err(stalled)??;
    let Some(length) = length else { return Ok(None) };
    let frame =
        task::timeout(limits.frame, messages::read_body(&mut stream, length)).await.map_err(stalled)??;
    Ok(Some((frame, stream)))
}
