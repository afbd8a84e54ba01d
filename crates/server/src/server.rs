//! The listeners of a broker and the connections that came through them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use broker::memory::MemoryAccount;
use broker::{Connection, SecurityProtocol};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::sync::Semaphore;
use world::clock::SharedClock;
use world::net::{Listener, Net, Stream};
use world::task;
use world::watch;

use crate::admission::{Admission, Place, Refusal};
use crate::connection::{End, LogBrake, Session, Shared};
use crate::counters::Counters;
use crate::dispatch::Dispatch;
use crate::limits::{ConnectionLimits, Limits};
use crate::outbox::Transport;
use crate::tls::ListenerTls;
use crate::turns::AllTurns;

/// After an accept that failed for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For the last word of TLS.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{address}: {source}")]
    Io { address: String, source: io::Error },
    #[error("{address} is not a loopback address, and {what}. Bind to 127.0.0.1, or say --insecure")]
    Insecure { address: String, what: &'static str },
}

/// What a listener asks of its clients before they may ask for anything.
#[derive(Clone)]
pub enum ListenerSecurity {
    Plaintext,
    /// What SASL asks for knows the broker.
    SaslPlaintext,
    Ssl(Arc<ListenerTls>),
    SaslSsl(Arc<ListenerTls>),
}

impl ListenerSecurity {
    pub fn protocol(&self) -> SecurityProtocol {
        match self {
            Self::Plaintext => SecurityProtocol::Plaintext,
            Self::SaslPlaintext => SecurityProtocol::SaslPlaintext,
            Self::Ssl(_) => SecurityProtocol::Ssl,
            Self::SaslSsl(_) => SecurityProtocol::SaslSsl,
        }
    }

    fn tls(&self) -> Option<&Arc<ListenerTls>> {
        match self {
            Self::Ssl(tls) | Self::SaslSsl(tls) => Some(tls),
            Self::Plaintext | Self::SaslPlaintext => None,
        }
    }

    /// What others on the network could do.
    fn weakness(&self) -> Option<&'static str> {
        match self {
            Self::Plaintext => {
                Some("plain TCP has no authentication: whoever reaches it may read and write everything")
            }
            Self::SaslPlaintext => {
                Some("without TLS whoever is on the way reads everything, passwords of PLAIN as well")
            }
            Self::Ssl(tls) if !tls.requires_certificates() => Some(
                "without SASL or ssl.client.auth=required nobody has to prove who he is: whoever reaches it may read and write everything",
            ),
            Self::Ssl(_) | Self::SaslSsl(_) => None,
        }
    }
}

/// Bound, not yet served: its port is known, and what connects meanwhile waits in the kernel's queue.
pub struct BoundListener {
    name: String,
    listener: Listener,
    address: SocketAddr,
    security: ListenerSecurity,
    is_insecure: bool,
}

impl BoundListener {
    /// Binds plain TCP on `HOST:PORT`; port 0 takes a free one. An address that others can reach needs `insecure`.
    pub async fn bind(net: &Net, name: &str, address: &str, insecure: bool) -> Result<Self, BindError> {
        Self::bind_with(net, name, address, ListenerSecurity::Plaintext, insecure).await
    }

    /// The same for any listener; one that others can reach and that has both TLS and authentication needs no `insecure`.
    pub async fn bind_with(
        net: &Net,
        name: &str,
        address: &str,
        security: ListenerSecurity,
        insecure: bool,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { address: address.to_owned(), source };
        let listener = net.bind(address).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let weakness = security.weakness().filter(|_| !is_loopback(local.ip()));
        if let Some(what) = weakness.filter(|_| !insecure) {
            return Err(BindError::Insecure { address: address.to_owned(), what });
        }
        let bound = Self {
            name: name.to_owned(),
            listener,
            address: local,
            security,
            is_insecure: weakness.is_some(),
        };
        bound.warn();
        Ok(bound)
    }

    /// Says what `--insecure` lets through, if it does. To be repeated now and then.
    pub fn warn(&self) {
        if self.is_insecure {
            warn_insecure(&self.name, self.address, &self.security);
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn protocol(&self) -> SecurityProtocol {
        self.security.protocol()
    }

    pub(crate) fn into_parts(self) -> (Listener, SocketAddr) {
        (self.listener, self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn warn_insecure(name: &str, address: SocketAddr, security: &ListenerSecurity) {
    if let Some(what) = security.weakness() {
        tracing::warn!(listener = name, %address, "--insecure: an address that others can reach, and {what}");
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

pub struct Server {
    addresses: Vec<SocketAddr>,
    /// Listeners that are only there because of `--insecure`.
    insecure: Vec<(String, SocketAddr, ListenerSecurity)>,
    shared: Arc<Shared>,
    admission: Arc<Admission>,
    stop: watch::Sender<bool>,
    acceptors: parking_lot::Mutex<Vec<task::JoinHandle<()>>>,
}

impl Server {
    /// Serves the listeners from now on.
    pub fn start(
        listeners: Vec<BoundListener>,
        dispatch: impl Dispatch,
        limits: Limits,
        clock: SharedClock,
    ) -> Arc<Self> {
        let admission = Admission::new(limits.connections.clone());
        let shared = Arc::new(Shared {
            dispatch: Box::new(dispatch),
            counters: Arc::new(Counters::default()),
            request_memory: MemoryAccount::new(limits.request_memory_bytes_max),
            heavy: Arc::new(Semaphore::new(limits.heavy_requests_max.max(1))),
            long_frames: AllTurns::new(limits.heavy_requests_max),
            answer_turns: AllTurns::new(world::machine::processors() - 1),
            decode_memory: MemoryAccount::new(limits.decode_memory_bytes_max),
            answer_memory: MemoryAccount::new(limits.answer_memory_bytes_max),
            limits,
            clock,
            is_stopping: AtomicBool::new(false),
        });
        let (stop, _) = watch::channel(false);
        let addresses = listeners.iter().map(BoundListener::address).collect();
        let insecure = listeners.iter().filter(|listener| listener.is_insecure);
        let insecure =
            insecure.map(|listener| (listener.name.clone(), listener.address, listener.security.clone()));
        let insecure = insecure.collect();
        let ids = Arc::new(AtomicU64::new(1));
        let acceptors = listeners
            .into_iter()
            .map(|listener| {
                let acceptor = Acceptor {
                    name: Arc::from(listener.name),
                    security: listener.security,
                    shared: shared.clone(),
                    admission: admission.clone(),
                    stop: stop.clone(),
                    brake: Arc::default(),
                    ids: ids.clone(),
                };
                task::spawn(acceptor.run(listener.listener))
            })
            .collect();
        Arc::new(Self {
            addresses,
            insecure,
            shared,
            admission,
            stop,
            acceptors: parking_lot::Mutex::new(acceptors),
        })
    }

    /// Where it listens, in the order of the listeners.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Says again what `--insecure` lets through; nothing where it lets nothing through.
    pub fn warn_insecure(&self) {
        for (name, address, security) in &self.insecure {
            warn_insecure(name, *address, security);
        }
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// New connections are counted against these from now on.
    pub fn set_connection_limits(&self, limits: ConnectionLimits) {
        self.admission.set_limits(limits);
    }

    pub fn connection_limits(&self) -> ConnectionLimits {
        self.admission.limits()
    }

    /// As it was started; [`Server::connection_limits`] may have changed since.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    pub fn decode_memory(&self) -> &MemoryAccount {
        &self.shared.decode_memory
    }

    pub fn request_memory(&self) -> &MemoryAccount {
        &self.shared.request_memory
    }

    pub fn answer_memory(&self) -> &MemoryAccount {
        &self.shared.answer_memory
    }

    pub fn connections_open(&self) -> usize {
        self.admission.open()
    }

    /// Stops accepting and reading, lets what is under way finish and be answered, and returns when every connection is closed: after
    /// `Limits::shutdown_grace` at the latest.
    pub async fn shutdown(&self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        let acceptors = std::mem::take(&mut *self.acceptors.lock());
        for acceptor in acceptors {
            // A panic of the accept loop was printed when it happened.
            let _ = acceptor.await;
        }
        // Every acceptor and connection holds a receiver.
        self.stop.closed().await;
    }
}

struct Acceptor {
    name: Arc<str>,
    security: ListenerSecurity,
    shared: Arc<Shared>,
    admission: Arc<Admission>,
    stop: watch::Sender<bool>,
    brake: Arc<LogBrake>,
    ids: Arc<AtomicU64>,
}

impl Acceptor {
    async fn run(self, mut listener: Listener) {
        let mut stop = self.stop.subscribe();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                // The peer left before we looked.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                    ) => {}
                Err(error) => {
                    tracing::error!(listener = %self.name, %error, "accept failed");
                    task::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: Stream, peer: SocketAddr) {
        let now = self.shared.clock.monotonic();
        let counters = &self.shared.counters;
        let (place, wait) =
            match self.admission.admit(peer.ip(), self.shared.dispatch.connection_rate(peer.ip()), now) {
                Ok(admitted) => admitted,
                Err(refusal) => {
                    let counter = match refusal {
                        Refusal::Connections { .. } => &counters.connections_refused_for_number,
                        Refusal::PerAddress { .. } | Refusal::UnauthenticatedPerAddress { .. } => {
                            &counters.connections_refused_for_address
                        }
                        Refusal::Rate { .. } | Refusal::RatePerAddress { .. } | Refusal::Quota { .. } => {
                            &counters.connections_refused_for_rate
                        }
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                    if self.brake.allows(now) {
                        tracing::warn!(listener = %self.name, %peer, "connection refused: {refusal}");
                    }
                    return;
                }
            };
        counters.connections_accepted.fetch_add(1, Ordering::Relaxed);
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let arrival = Arrival {
            shared: self.shared.clone(),
            security: self.security.clone(),
            listener: self.name.clone(),
            peer,
            id,
            place,
            wait,
            stop: self.stop.subscribe(),
            brake: self.brake.clone(),
        };
        drop(task::spawn(arrival.serve(stream)));
    }
}

/// A connection that was let in.
struct Arrival {
    shared: Arc<Shared>,
    security: ListenerSecurity,
    listener: Arc<str>,
    peer: SocketAddr,
    id: u64,
    place: Place,
    wait: Duration,
    stop: watch::Receiver<bool>,
    brake: Arc<LogBrake>,
}

impl Arrival {
    async fn serve(self, stream: Stream) {
        if !self.wait.is_zero() {
            task::sleep(self.wait).await;
        }
        if let Some(tls) = self.security.tls().cloned() {
            // Not within this future: a connection without TLS would be as large.
            return Box::pin(self.serve_tls(tls, stream)).await;
        }
        let connection = match self.security.protocol().has_sasl() {
            true => Connection::with_sasl(self.id, self.peer, &self.listener),
            false => Connection::new(self.id, self.peer, &self.listener),
        };
        self.run(connection, stream).await
    }

    async fn serve_tls(mut self, tls: Arc<ListenerTls>, stream: Stream) {
        let Self { peer, id, .. } = self;
        let has_sasl = self.security.protocol().has_sasl();
        let handshake = task::timeout(self.shared.limits.first_request, tls.accept(stream, has_sasl));
        let accepted = tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => return,
            accepted = handshake => accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        };
        let counters = &self.shared.counters;
        let (stream, principal) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                counters.tls_handshakes_failed.fetch_add(1, Ordering::Relaxed);
                if self.brake.allows(self.shared.clock.monotonic()) {
                    tracing::warn!(listener = %self.listener, %peer, id, "no TLS with a client: {error}");
                }
                return;
            }
        };
        counters.tls_handshakes.fetch_add(1, Ordering::Relaxed);
        let connection = match (has_sasl, principal) {
            (true, _) => Connection::with_sasl(id, peer, &self.listener),
            (false, None) => Connection::new(id, peer, &self.listener),
            (false, Some(principal)) => {
                self.place.authenticated();
                Connection::with_principal(id, peer, &self.listener, &principal)
            }
        };
        self.run(connection, stream).await;
    }

    async fn run<S: AsyncRead + Transport>(self, connection: Arc<Connection>, stream: S) {
        let Self { shared, security, id, place, mut stop, brake, .. } = self;
        let alive = stop.clone();
        let stops = Box::pin(async move {
            // An error means that the server itself is gone, which is a stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
        });
        let peer = connection.peer;
        let end = {
            let mut session = Session::new(shared.clone(), connection, id, stream, place, stops);
            let end = session.run().await;
            if security.tls().is_some() {
                // So that the client knows that nobody has cut it off. If it does not take it, it does not.
                let _ = task::timeout(FAREWELL, session.stream().shutdown()).await;
            }
            end
        };
        say_end(&shared, &brake, peer, id, &end);
        drop(alive);
    }
}

fn say_end(shared: &Shared, brake: &LogBrake, peer: SocketAddr, id: u64, end: &End) {
    let counters = &shared.counters;
    match end {
        End::Garbage(_) | End::Refused(_) => {
            counters.connections_closed_for_garbage.fetch_add(1, Ordering::Relaxed);
            if brake.allows(shared.clock.monotonic()) {
                tracing::warn!(%peer, id, "connection closed: {end}");
            }
        }
        End::Unauthenticated(_) | End::NotProvedInTime => {
            counters.connections_closed_unauthenticated.fetch_add(1, Ordering::Relaxed);
            if brake.allows(shared.clock.monotonic()) {
                tracing::warn!(%peer, id, "connection closed: {end}");
            }
        }
        End::FirstRequestTooSlow
        | End::FrameStalled
        | End::NoRequestMemory
        | End::LongWait
        | End::AnswerNotTaken => {
            counters.connections_closed_for_stall.fetch_add(1, Ordering::Relaxed);
            if brake.allows(shared.clock.monotonic()) {
                tracing::warn!(%peer, id, "connection closed: {end}");
            }
        }
        End::Idle => {
            counters.connections_closed_idle.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%peer, id, "connection closed: {end}");
        }
        End::PeerClosed | End::PeerBroke(_) | End::WriteFailed(_) | End::ServerStops => {
            tracing::debug!(%peer, id, "connection closed: {end}");
        }
    }
}
