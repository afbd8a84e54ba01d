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
    /// All answers that clients have not taken yet, together. Above it no new Fetch is started.
    pub answer_memory_bytes_max: u64,
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
    /// While the answers exceed their memory, a client that takes nothing for this long is disconnected.
    pub answer_stall_under_pressure: Duration,
    /// Requests of one connection under way at once.
    pub pipelined_requests_max: usize,
    /// Their bytes. One request is always let through.
    pub pipelined_bytes_max: usize,
    /// How long a stopping server waits for requests that are under way.
    pub shutdown_grace: Duration,
    /// How long a request may go on after its client has left.
    pub orphan_grace: Duration,
}

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
            connections: ConnectionLimits::default(),
            connection_idle: Duration::from_secs(600),
            first_request: Duration::from_secs(10),
            frame_stall: Duration::from_secs(60),
            request_memory_wait: Duration::from_secs(30),
            answer_stall_under_pressure: Duration::from_secs(30),
            pipelined_requests_max: 1_000,
            pipelined_bytes_max: 64 << 20,
            shutdown_grace: Duration::from_secs(10),
            orphan_grace: Duration::from_secs(30),
        }
    }
}
