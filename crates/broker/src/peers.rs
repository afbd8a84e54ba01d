//! What brokers of one cluster ask of one another. `server` carries it; nothing is safe because of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::state::Broker as Registered;
use catalog::{HandOff, HandOffFuture, HandedOff, State};
use futures_util::future::BoxFuture;
use world::{task, watch};

use crate::broker::Broker;
use crate::share::DEAD_LETTERS;
use crate::share_coordinator::SHARE_STATE;

/// What the listener for other brokers is called in the metadata log, always with [`SSL`]. No listener for clients has this name.
pub const INTER_BROKER_LISTENER: &str = "BROKER";
/// Of Kafka's `SecurityProtocol`.
const SSL: i16 = 1;

/// Another broker, as the metadata log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub node_id: i32,
    /// Of its incarnation.
    pub wal_id: u64,
    /// `HOST:PORT` of its listener for other brokers.
    pub address: String,
}

/// How far a broker is with the metadata log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Position of the last frame that it has read.
    pub replayed: u64,
    /// Up to here it does what the log says.
    pub applied: u64,
    /// Bytes per second of what it leads, appended and read. None: it does not say.
    pub load: Option<u64>,
}

/// What a broker asks of others.
pub trait Peers: Send + Sync + 'static {
    /// Says that the metadata log goes up to a position at least; the other one reads it, and answers when it does what it says, or
    /// when it has waited so long. None: no answer.
    fn log_moved(
        self: Arc<Self>,
        peer: Peer,
        position: u64,
        wait: Duration,
    ) -> BoxFuture<'static, Option<Progress>>;
    /// Asks the controller to append metadata requests of this broker.
    fn hand_off(self: Arc<Self>, peer: Peer, requests: Bytes) -> BoxFuture<'static, HandedOff>;
    /// A question about transactions or share partitions, or dead letters (`transactions/messages.rs`, `share_coordinator/messages.rs`,
    /// `share/dead_letters.rs`), by its private api key. None: no answer within this time.
    fn transactions(
        self: Arc<Self>,
        peer: Peer,
        api_key: i16,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Option<Bytes>>;
    /// How many slots of its WAL the other one has stored, once they are more than `more_than`, or after `wait`. None: no answer.
    fn slots_stored(
        self: Arc<Self>,
        peer: Peer,
        more_than: u64,
        wait: Duration,
    ) -> BoxFuture<'static, Option<u64>>;
    /// These are alive now: what is kept of others goes.
    fn follow(&self, live: &[Peer]);
    /// Does its machine say that nobody listens there? Then its process has ended, most likely. Not asked where a connection stands.
    fn refuses(self: Arc<Self>, peer: Peer, within: Duration) -> BoxFuture<'static, bool>;
    /// Counts connections with others that ended: one of them may be gone.
    fn breaks(&self) -> watch::Receiver<u64>;
}

/// What others ask of this broker; they are known to be of this cluster.
pub trait PeerCalls: Send + Sync + 'static {
    /// Is this incarnation a broker now?
    fn is_live(&self, node_id: i32, wal_id: u64) -> BoxFuture<'static, bool>;
    fn log_moved(&self, position: u64, wait: Duration) -> BoxFuture<'static, Progress>;
    fn append_for(&self, wal_id: u64, requests: Bytes) -> BoxFuture<'static, HandedOff>;
    /// A question about transactions or share partitions, or dead letters. None: it cannot be understood.
    fn transactions(&self, api_key: i16, body: Bytes) -> BoxFuture<'static, Option<Bytes>>;
    /// How many slots of our WAL are stored, once they are more than `more_than`, or after `wait`.
    fn slots_stored(&self, more_than: u64, wait: Duration) -> BoxFuture<'static, u64>;
}

impl PeerCalls for Arc<Broker> {
    fn is_live(&self, node_id: i32, wal_id: u64) -> BoxFuture<'static, bool> {
        let broker = self.clone();
        Box::pin(async move {
            let is_live = || {
                let state = broker.catalog.read();
                state.is_writer(wal_id) && state.broker(node_id).is_some_and(|known| known.wal_id == wal_id)
            };
            // It has just registered, perhaps.
            is_live() || broker.freshness.catch_up().await && is_live()
        })
    }

    fn log_moved(&self, position: u64, wait: Duration) -> BoxFuture<'static, Progress> {
        let broker = self.clone();
        Box::pin(async move {
            let replayed = || broker.catalog.read().position();
            if replayed() < position {
                broker.freshness.catch_up().await;
            }
            let mut applied = broker.catalog.applied_changes();
            let _ = task::timeout(wait, applied.wait_for(|applied| *applied >= position)).await;
            let load = broker.cluster.as_ref().map(|cluster| cluster.load());
            Progress { replayed: replayed(), applied: broker.catalog.applied(), load }
        })
    }

    fn append_for(&self, wal_id: u64, requests: Bytes) -> BoxFuture<'static, HandedOff> {
        let catalog = self.catalog.clone();
        Box::pin(async move { catalog.append_for(wal_id, &requests).await })
    }

    fn transactions(&self, api_key: i16, body: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        let (transactions, share_coordinator) = (self.transactions.clone(), self.share_coordinator.clone());
        let sharing = self.sharing.clone();
        Box::pin(async move {
            match api_key {
                SHARE_STATE => share_coordinator.answer(api_key, body).await,
                DEAD_LETTERS => sharing.take_dead_letters(body).await,
                _ => transactions.answer(api_key, body).await,
            }
        })
    }

    fn slots_stored(&self, more_than: u64, wait: Duration) -> BoxFuture<'static, u64> {
        let log = self.log.clone();
        Box::pin(async move { log.stored_slots(more_than, wait).await })
    }
}

/// The live brokers, by their listeners for one another.
pub(crate) struct Others {
    pub peers: Arc<dyn Peers>,
}

impl Others {
    /// Those that have such a listener.
    pub fn live(state: &State, me: u64) -> Vec<Peer> {
        let others = state.live_brokers().filter(|broker| broker.wal_id != me);
        others.filter_map(peer).collect()
    }

    /// A live broker that has such a listener.
    pub fn of(state: &State, node_id: i32) -> Option<Peer> {
        state.broker(node_id).filter(|broker| state.is_writer(broker.wal_id)).and_then(peer)
    }
}

impl HandOff for Others {
    fn hand_off(&self, controller: &Registered, requests: Bytes) -> HandOffFuture {
        match peer(controller) {
            Some(peer) => self.peers.clone().hand_off(peer, requests),
            None => Box::pin(std::future::ready(HandedOff::NotTaken)),
        }
    }
}

fn peer(broker: &Registered) -> Option<Peer> {
    let endpoint = broker.endpoints.iter().find(|endpoint| {
        endpoint.listener_name == INTER_BROKER_LISTENER && endpoint.security_protocol == SSL
    })?;
    let address = match endpoint.host.contains(':') {
        true => format!("[{}]:{}", endpoint.host, endpoint.port),
        false => format!("{}:{}", endpoint.host, endpoint.port),
    };
    Some(Peer { node_id: broker.node_id, wal_id: broker.wal_id, address })
}
