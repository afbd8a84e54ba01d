//! The limits of a server, each with its name, its default and the Kafka property it answers to.
//! The metrics page shows how near each one is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Every bound that `server` keeps. A field that has a Kafka property of the same meaning names it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest request frame, without its length prefix (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// The same before a client of a listener with SASL has proved who it is.
    pub unauthenticated_request_bytes_max: usize,
    /// All request frames in memory together, half-received ones included (`queued.max.request.bytes`; Kafka's default is no
    /// limit, ours is a quarter of the memory). Above it the server stops reading.
    pub request_memory_bytes_max: u64,
    /// All answers that clients have not taken yet, together (`queued.max.response.bytes`). Above it nothing is begun whose answer may
    /// be long.
    pub answer_memory_bytes_max: u64,
    /// Requests that may be much work at once ([`crate::Server`] says which), so that some processors are left for the others. There are
    /// not more threads for them than [`world::task::patient_threads`].
    pub heavy_requests_max: usize,
    /// What is decoded of requests that are not small, together. Above it the next one waits.
    pub decode_memory_bytes_max: u64,
    pub connections: ConnectionLimits,
    /// A connection with nothing under way is closed after this time (`connections.max.idle.ms`).
    pub connection_idle: Duration,
    /// A TLS handshake must be done within this time. Once its first byte is here, a connection's first request must be complete within
    /// it, and where a proof is asked for the proof too (`connection.handshake.timeout.ms`).
    pub first_request: Duration,
    /// A later frame may pause this long between two pieces.
    pub frame_stall: Duration,
    /// How long a half-received frame may wait for request memory before its connection is closed. Without it, half-received
    /// frames could hold all of the memory and wait for each other.
    pub request_memory_wait: Duration,
    /// While one of these memories is used up, a client that keeps a part of it and gets nowhere is disconnected after this time: with
    /// half a request, with a long request that waits for something, with an answer that it does not take.
    pub stall_under_pressure: Duration,
    /// The same for one that keeps little of it: answers up to [`SMALL_ANSWER_BYTES`].
    pub small_stall_under_pressure: Duration,
    /// Requests of one connection under way at once.
    pub pipelined_requests_max: usize,
    /// Their bytes. One request is always let through.
    pub pipelined_bytes_max: usize,
    /// How long a stopping server waits for requests that are under way.
    pub shutdown_grace: Duration,
    /// How long a request may go on after its client has left.
    pub orphan_grace: Duration,
}

/// So much of an answer is little.
pub const SMALL_ANSWER_BYTES: usize = 64 << 10;
/// So much of records a Fetch brings while the memory for answers is used up.
pub const SHORT_FETCH_BYTES: usize = 16 << 10;
/// Requests from this length on have to wait while the memory for what is decoded is used up.
pub use broker::LONG_REQUEST_BYTES;

/// Who may connect. These can change while the server runs ([`crate::Server::set_connection_limits`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections (`max.connections`).
    pub max: usize,
    /// Open connections of one address that is not loopback (`max.connections.per.ip`).
    pub per_ip_max: usize,
    /// Those of them whose clients have not proved who they are (`connection.unauthenticated.max.per.ip`); where no proof is asked for that
    /// is all of them.
    pub unauthenticated_per_ip_max: usize,
    /// Exceptions from both (`max.connections.per.ip.overrides`); they hold for loopback too.
    pub per_ip_overrides: BTreeMap<IpAddr, usize>,
    /// New connections per second, loopback not counted (`max.connection.creation.rate`).
    pub per_second_max: u32,
    /// New connections per second of one address, loopback exempt (`connection.unauthenticated.creation.rate.per.ip`).
    pub per_ip_per_second_max: u32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max: 10_000,
            per_ip_max: usize::MAX,
            unauthenticated_per_ip_max: 1_000,
            per_ip_overrides: BTreeMap::new(),
            per_second_max: u32::MAX,
            per_ip_per_second_max: 200,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes_max: 100 << 20,
            unauthenticated_request_bytes_max: 64 << 10,
            request_memory_bytes_max: 1 << 30,
            answer_memory_bytes_max: 1 << 30,
            heavy_requests_max: world::task::patient_threads(),
            decode_memory_bytes_max: 256 << 20,
            connections: ConnectionLimits::default(),
            connection_idle: Duration::from_secs(600),
            first_request: Duration::from_secs(10),
            frame_stall: Duration::from_secs(60),
            request_memory_wait: Duration::from_secs(30),
            stall_under_pressure: Duration::from_secs(1),
            small_stall_under_pressure: Duration::from_secs(30),
            pipelined_requests_max: 1_000,
            pipelined_bytes_max: 64 << 20,
            shutdown_grace: Duration::from_secs(10),
            orphan_grace: Duration::from_secs(30),
        }
    }
}
