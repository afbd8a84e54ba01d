//! The listeners of a broker and the connections that came through them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use broker::Connection;
use world::clock::SharedClock;
use world::net::{Listener, Net, Stream};
use world::task;
use world::watch;

use crate::admission::{Admission, Place, Refusal};
use crate::connection::{End, LogBrake, Session, Shared};
use crate::counters::Counters;
use crate::dispatch::Dispatch;
use crate::limits::{ConnectionLimits, Limits};
use crate::memory::MemoryAccount;

/// After an accept that failed for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{address}: {source}")]
    Io { address: String, source: io::Error },
    #[error(
        "{address} is not a loopback address and plain TCP has no authentication: whoever reaches it may read and write everything. \
         Bind to 127.0.0.1, or say --insecure"
    )]
    Insecure { address: String },
}

/// Bound, not yet served: its port is known, and what connects meanwhile waits in the kernel's queue.
pub struct BoundListener {
    name: String,
    listener: Listener,
    address: SocketAddr,
}

impl BoundListener {
    /// Binds plain TCP on `HOST:PORT`; port 0 takes a free one. An address that others can reach needs `insecure`.
    pub async fn bind(net: &Net, name: &str, address: &str, insecure: bool) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { address: address.to_owned(), source };
        let listener = net.bind(address).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        if !is_loopback(local.ip()) {
            if !insecure {
                return Err(BindError::Insecure { address: address.to_owned() });
            }
            tracing::warn!(listener = name, address = %local, "--insecure: plain TCP without authentication on an address that others can reach");
        }
        Ok(Self { name: name.to_owned(), listener, address: local })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn into_parts(self) -> (Listener, SocketAddr) {
        (self.listener, self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

pub struct Server {
    addresses: Vec<SocketAddr>,
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
            answer_memory: MemoryAccount::new(limits.answer_memory_bytes_max),
            limits,
            clock,
            is_stopping: AtomicBool::new(false),
        });
        let (stop, _) = watch::channel(false);
        let addresses = listeners.iter().map(BoundListener::address).collect();
        let ids = Arc::new(AtomicU64::new(1));
        let acceptors = listeners
            .into_iter()
            .map(|listener| {
                let acceptor = Acceptor {
                    name: Arc::from(listener.name),
                    shared: shared.clone(),
                    admission: admission.clone(),
                    stop: stop.clone(),
                    brake: Arc::default(),
                    ids: ids.clone(),
                };
                task::spawn(acceptor.run(listener.listener))
            })
            .collect();
        Arc::new(Self { addresses, shared, admission, stop, acceptors: parking_lot::Mutex::new(acceptors) })
    }

    /// Where it listens, in the order of the listeners.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
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
                        Refusal::PerAddress { .. } => &counters.connections_refused_for_address,
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
        let connection = Connection::new(id, peer, &self.name);
        let served = serve(
            self.shared.clone(),
            connection,
            id,
            stream,
            place,
            wait,
            self.stop.subscribe(),
            self.brake.clone(),
        );
        drop(task::spawn(served));
    }
}

#[allow(clippy::too_many_arguments)] // the parts of one connection, named where it begins
async fn serve(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    id: u64,
    stream: Stream,
    place: Place,
    wait: Duration,
    mut stop: watch::Receiver<bool>,
    brake: Arc<LogBrake>,
) {
    if !wait.is_zero() {
        task::sleep(wait).await;
    }
    let alive = stop.clone();
    let stops = Box::pin(async move {
        // An error means that the server itself is gone, which is a stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    });
    let peer = connection.peer;
    let end = Session::new(shared.clone(), connection, id, stream, stops).run().await;
    drop(place);
    let counters = &shared.counters;
    match &end {
        End::Garbage(_) | End::Refused(_) => {
            counters.connections_closed_for_garbage.fetch_add(1, Ordering::Relaxed);
            if brake.allows(shared.clock.monotonic()) {
                tracing::warn!(%peer, id, "connection closed: {end}");
            }
        }
        End::FirstRequestTooSlow | End::FrameStalled | End::NoRequestMemory | End::AnswerNotTaken => {
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
    drop(alive);
}
