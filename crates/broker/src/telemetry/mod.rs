//! Client metrics (KIP-714): who is asked for which of its own metrics, and the last values that it pushed.
//!
//! Subscriptions are configs of resource type CLIENT_METRICS; `subscription.rs` reads them. A client asks for its subscription, then
//! pushes OTLP (`otlp.rs`) every interval; the metrics page shows its last values while it is connected and pushes. Kafka hands pushes
//! to a plug-in and has nothing to show without one.
//!
//! Values are asked for as sums since the client's start (`delta_temporality` false): a push that is lost loses nothing then.
//! Owns: the clients that it knows, in memory only; a restart forgets them, and they ask again.

mod otlp;
mod subscription;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use catalog::{Catalog, ResourceType};
use parking_lot::Mutex;
use protocol::compression::Compression;
use protocol::{ErrorCode, Str, Uuid};
use world::clock::SharedClock;
use world::collections::HashMap;
use world::rng::Rng;

pub use otlp::Point;
use subscription::{Subscriptions, Wanted};

use crate::connection::Connection;

/// Kafka's `CACHE_MAX_SIZE`: clients that are remembered.
pub const CLIENTS_MAX: usize = 16_384;
/// Values of all clients together that the metrics page shows.
pub const SERIES_MAX: usize = 10_000;
/// Of a client's id that is kept and shown; what is longer is cut off.
const CLIENT_ID_LEN_MAX: usize = 256;
/// A client that has not been heard of for this long, or for three of its intervals, is forgotten.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Ids of clients that Kafka keeps for other things; 0 asks for a new one.
const RESERVED_IDS: [Uuid; 2] = [Uuid::ZERO, Uuid::from_u128(1)];

pub struct Telemetry {
    clock: SharedClock,
    rng: Arc<dyn Rng>,
    catalog: Arc<Catalog>,
    subscriptions: Subscriptions,
    clients: Mutex<Clients>,
    counters: TelemetryCounters,
}

#[derive(Debug, Default)]
pub struct TelemetryCounters {
    pub pushes: AtomicU64,
    /// As they came, compressed.
    pub bytes: AtomicU64,
    /// Pushes and questions that were answered with an error.
    pub refused: AtomicU64,
    /// Values that were not kept: of kinds that are not shown, too long, or above [`SERIES_MAX`].
    pub points_dropped: AtomicU64,
}

#[derive(Default)]
struct Clients {
    by_id: HashMap<Uuid, Client>,
    series: usize,
}

struct Client {
    who: Who,
    /// Gone with it: what nobody pushes any more is not shown.
    connection: Weak<Connection>,
    wanted: Arc<Wanted>,
    subscription_id: i32,
    last_get: Option<Duration>,
    last_push: Option<Duration>,
    last_seen: Duration,
    is_terminating: bool,
    last_error: ErrorCode,
    points: Vec<Point>,
}

/// What patterns of subscriptions look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    pub instance_id: Uuid,
    pub client_id: Option<Str>,
    pub software_name: Option<Str>,
    pub software_version: Option<Str>,
    pub address: String,
    pub port: u16,
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub instance_id: Uuid,
    pub subscription_id: i32,
    pub interval_ms: i32,
    pub metrics: Vec<Str>,
}

/// What a client pushes.
#[derive(Debug, Clone)]
pub struct Push {
    pub instance_id: Uuid,
    pub subscription_id: i32,
    pub is_terminating: bool,
    pub compression_type: i8,
    pub metrics: Bytes,
}

/// One client's values, for the metrics page.
#[derive(Debug, Clone)]
pub struct ClientPoints {
    pub who: Who,
    pub points: Vec<Point>,
}

impl Telemetry {
    pub(crate) fn new(clock: SharedClock, rng: Arc<dyn Rng>, catalog: Arc<Catalog>) -> Telemetry {
        Telemetry {
            clock,
            rng,
            catalog,
            subscriptions: Subscriptions::default(),
            clients: Mutex::default(),
            counters: TelemetryCounters::default(),
        }
    }

    pub fn counters(&self) -> &TelemetryCounters {
        &self.counters
    }

    /// Which metrics a client is to push, how often, and the id that it has from now on.
    pub(crate) fn subscription_of(
        &self,
        connection: &Arc<Connection>,
        client_id: Option<&Str>,
        instance_id: Uuid,
    ) -> Result<Told, ErrorCode> {
        let now = self.clock.monotonic();
        let mut clients = self.clients.lock();
        let instance_id = match instance_id.is_zero() {
            false => instance_id,
            true => self.fresh_id(&clients),
        };
        let client = self.client(&mut clients, connection, client_id, instance_id, now);
        let last = client.last_get.max(client.last_push);
        let is_early = last.is_some_and(|last| now.saturating_sub(last) < client.wanted.interval());
        // These two errors say "ask again": the question that follows is not an early one.
        let may_ask_again = matches!(
            client.last_error,
            ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType
        );
        if is_early && !may_ask_again {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        if !is_early {
            client.last_get = Some(now);
        }
        client.last_error = ErrorCode::None;
        Ok(Told {
            instance_id,
            subscription_id: client.subscription_id,
            interval_ms: client.wanted.interval_ms,
            metrics: client.wanted.metrics.clone(),
        })
    }

    /// Takes a client's values: they are what the metrics page shows of it from now on.
    pub(crate) fn push(
        &self,
        connection: &Arc<Connection>,
        client_id: Option<&Str>,
        push: &Push,
        push_bytes_max: usize,
    ) -> Result<(), ErrorCode> {
        let taken = self.take(connection, client_id, push, push_bytes_max);
        let counter = if taken.is_ok() { &self.counters.pushes } else { &self.counters.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        taken
    }

    fn take(
        &self,
        connection: &Arc<Connection>,
        client_id: Option<&Str>,
        push: &Push,
        push_bytes_max: usize,
    ) -> Result<(), ErrorCode> {
        if RESERVED_IDS.contains(&push.instance_id) {
            return Err(ErrorCode::InvalidRequest);
        }
        let now = self.clock.monotonic();
        {
            let mut clients = self.clients.lock();
            let client = self.client(&mut clients, connection, client_id, push.instance_id, now);
            let judged = client.judge(push, push_bytes_max, now);
            client.is_terminating = push.is_terminating;
            client.last_error = judged.err().unwrap_or(ErrorCode::None);
            judged?;
        }
        self.counters.bytes.fetch_add(push.metrics.len() as u64, Ordering::Relaxed);
        // Outside the lock: it may be a megabyte.
        let points = match push.metrics.is_empty() {
            true => Ok((Vec::new(), 0)),
            false => opened(push, push_bytes_max),
        };
        let mut clients = self.clients.lock();
        let Clients { by_id, series } = &mut *clients;
        // It may have been forgotten meanwhile: then nobody misses its values.
        let Some(client) = by_id.get_mut(&push.instance_id) else { return points.map(|_| ()) };
        let Ok((mut points, mut dropped)) = points else {
            client.last_error = ErrorCode::InvalidRecord;
            return Err(ErrorCode::InvalidRecord);
        };
        let room = SERIES_MAX.saturating_sub(*series - client.points.len());
        dropped += points.len().saturating_sub(room);
        points.truncate(room);
        *series = *series - client.points.len() + points.len();
        client.points = points;
        self.counters.points_dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        Ok(())
    }

    /// What connected clients pushed last, ordered by their ids.
    pub fn clients(&self) -> Vec<ClientPoints> {
        let mut clients = self.clients.lock();
        clients.forget(self.clock.monotonic());
        let shown: BTreeMap<Uuid, ClientPoints> = clients
            .by_id
            .iter()
            .map(|(id, client)| {
                (*id, ClientPoints { who: client.who.clone(), points: client.points.clone() })
            })
            .collect();
        shown.into_values().collect()
    }

    fn fresh_id(&self, clients: &Clients) -> Uuid {
        loop {
            let id = Uuid::from_bytes(self.rng.uuid());
            if !RESERVED_IDS.contains(&id) && !clients.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    /// The client as it is known, or anew: when it is new, or when subscriptions have changed what it is to push.
    fn client<'a>(
        &self,
        clients: &'a mut Clients,
        connection: &Arc<Connection>,
        client_id: Option<&Str>,
        instance_id: Uuid,
        now: Duration,
    ) -> &'a mut Client {
        if !clients.by_id.contains_key(&instance_id) && clients.by_id.len() >= CLIENTS_MAX {
            clients.make_room(now);
        }
        let who = Who::of(connection, client_id, instance_id);
        let wanted = {
            let state = self.catalog.read();
            self.subscriptions.wanted(state.configured(ResourceType::ClientMetrics), &who)
        };
        let client = clients.by_id.entry(instance_id).or_insert_with(|| Client::new(&who, &wanted));
        if client.wanted != wanted {
            let points = std::mem::take(&mut client.points);
            *client = Client { points, ..Client::new(&who, &wanted) };
        }
        client.who = who;
        client.connection = Arc::downgrade(connection);
        client.last_seen = now;
        client
    }
}

impl Client {
    fn new(who: &Who, wanted: &Arc<Wanted>) -> Client {
        Client {
            who: who.clone(),
            connection: Weak::new(),
            subscription_id: wanted.subscription_id(who.instance_id),
            wanted: wanted.clone(),
            last_get: None,
            last_push: None,
            last_seen: Duration::ZERO,
            is_terminating: false,
            last_error: ErrorCode::None,
            points: Vec::new(),
        }
    }

    /// Whether a push may be taken, in Kafka's order.
    fn judge(&mut self, push: &Push, push_bytes_max: usize, now: Duration) -> Result<(), ErrorCode> {
        if self.is_terminating {
            return Err(ErrorCode::InvalidRequest);
        }
        // The first push after a question may come at any time: clients spread their pushes over the interval.
        let is_first = self.last_get > self.last_push;
        let is_due = self.last_push.is_none_or(|last| now.saturating_sub(last) >= self.wanted.interval());
        if is_first || is_due {
            self.last_push = Some(now);
        } else if !push.is_terminating {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        if push.subscription_id != self.subscription_id {
            return Err(ErrorCode::UnknownSubscriptionId);
        }
        if codec(push.compression_type).is_none() {
            return Err(ErrorCode::UnsupportedCompressionType);
        }
        if push.metrics.len() > push_bytes_max {
            return Err(ErrorCode::TelemetryTooLarge);
        }
        Ok(())
    }

    fn is_gone(&self, now: Duration) -> bool {
        let is_connected = self.connection.upgrade().is_some_and(|connection| !connection.is_hung_up());
        let silence_max = SILENCE_MAX.max(self.wanted.interval() * 3);
        !is_connected || now.saturating_sub(self.last_seen) > silence_max
    }
}

impl Clients {
    fn forget(&mut self, now: Duration) {
        self.by_id.retain(|_, client| !client.is_gone(now));
        self.series = self.by_id.values().map(|client| client.points.len()).sum();
    }

    /// As Kafka's cache does: who has not been heard of for the longest time goes.
    fn make_room(&mut self, now: Duration) {
        self.forget(now);
        while self.by_id.len() >= CLIENTS_MAX {
            let oldest = self.by_id.iter().min_by_key(|(id, client)| (client.last_seen, **id));
            let Some(id) = oldest.map(|(id, _)| *id) else { return };
            if let Some(client) = self.by_id.remove(&id) {
                self.series -= client.points.len();
            }
        }
    }
}

impl Who {
    fn of(connection: &Connection, client_id: Option<&Str>, instance_id: Uuid) -> Who {
        let software = connection.software();
        Who {
            instance_id,
            client_id: client_id.map(|id| Str::from(&id[..id.floor_char_boundary(CLIENT_ID_LEN_MAX)])),
            software_name: software.map(|software| software.name.clone()),
            software_version: software.map(|software| software.version.clone()),
            address: connection.peer.ip().to_string(),
            port: connection.peer.port(),
        }
    }
}

fn codec(compression_type: i8) -> Option<Compression> {
    Compression::from_attribute_bits(u8::try_from(compression_type).ok()?)
}

/// The values of a push, and how many were not read.
fn opened(push: &Push, push_bytes_max: usize) -> Result<(Vec<Point>, usize), ErrorCode> {
    let codec = codec(push.compression_type).ok_or(ErrorCode::UnsupportedCompressionType)?;
    let bytes = codec.decompress(&push.metrics, push_bytes_max).map_err(|_| ErrorCode::InvalidRecord)?;
    otlp::points(&bytes).ok_or(ErrorCode::InvalidRecord)
}
