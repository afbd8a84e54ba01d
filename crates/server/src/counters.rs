//! What the server counts; `metrics` renders it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::histogram::Histogram;

/// Api keys and versions above these are counted together as unknown.
const API_KEYS: usize = 128;
const VERSIONS: usize = 32;

pub struct Counters {
    pub bytes_received: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub connections_accepted: AtomicU64,
    pub connections_refused_for_number: AtomicU64,
    pub connections_refused_for_address: AtomicU64,
    pub connections_refused_for_rate: AtomicU64,
    pub connections_closed_idle: AtomicU64,
    pub connections_closed_for_garbage: AtomicU64,
    pub connections_closed_for_stall: AtomicU64,
    /// For want of a proof of who the client is; TLS that came to nothing.
    pub connections_closed_unauthenticated: AtomicU64,
    pub tls_handshakes_failed: AtomicU64,
    pub tls_handshakes: AtomicU64,
    /// Times a connection waited because the request memory was full, and because the log had too much to flush.
    pub waits_for_request_memory: AtomicU64,
    pub waits_for_log_room: AtomicU64,
    pub waits_for_answer_memory: AtomicU64,
    pub requests_unknown: AtomicU64,
    pub requests_under_way: AtomicU64,
    by_api: [OnceLock<Box<ApiCounters>>; API_KEYS],
}

pub struct ApiCounters {
    by_version: [AtomicU64; VERSIONS],
    pub request_bytes: AtomicU64,
    pub answer_bytes: AtomicU64,
    /// From the last byte of the request to its answer, ready to be sent.
    pub answered_after: Histogram,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            connections_accepted: AtomicU64::new(0),
            connections_refused_for_number: AtomicU64::new(0),
            connections_refused_for_address: AtomicU64::new(0),
            connections_refused_for_rate: AtomicU64::new(0),
            connections_closed_idle: AtomicU64::new(0),
            connections_closed_for_garbage: AtomicU64::new(0),
            connections_closed_for_stall: AtomicU64::new(0),
            connections_closed_unauthenticated: AtomicU64::new(0),
            tls_handshakes_failed: AtomicU64::new(0),
            tls_handshakes: AtomicU64::new(0),
            waits_for_request_memory: AtomicU64::new(0),
            waits_for_log_room: AtomicU64::new(0),
            waits_for_answer_memory: AtomicU64::new(0),
            requests_unknown: AtomicU64::new(0),
            requests_under_way: AtomicU64::new(0),
            by_api: [const { OnceLock::new() }; API_KEYS],
        }
    }
}

impl Counters {
    /// Counts a request that came in; `None` when it names no api that exists.
    pub(crate) fn request(&self, api_key: i16, version: i16, bytes: usize) -> Option<&ApiCounters> {
        let api = usize::try_from(api_key).ok().and_then(|key| self.by_api.get(key));
        let (Some(api), Ok(_)) = (api, protocol::api_key::ApiKey::try_from(api_key)) else {
            self.requests_unknown.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let api = api.get_or_init(Default::default);
        let version = usize::try_from(version).unwrap_or(0).min(VERSIONS - 1);
        api.by_version[version].fetch_add(1, Ordering::Relaxed);
        api.request_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Some(api)
    }

    pub(crate) fn api(&self, api_key: i16) -> Option<&ApiCounters> {
        self.by_api.get(usize::try_from(api_key).ok()?)?.get().map(|api| &**api)
    }

    /// Every api that was asked for, by key.
    pub fn apis(&self) -> impl Iterator<Item = (i16, &ApiCounters)> {
        self.by_api.iter().enumerate().filter_map(|(key, api)| Some((key as i16, &**api.get()?)))
    }
}

impl ApiCounters {
    pub fn versions(&self) -> impl Iterator<Item = (usize, u64)> {
        self.by_version
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .enumerate()
            .filter(|(_, count)| *count > 0)
    }
}

impl Default for ApiCounters {
    fn default() -> Self {
        Self {
            by_version: [const { AtomicU64::new(0) }; VERSIONS],
            request_bytes: AtomicU64::new(0),
            answer_bytes: AtomicU64::new(0),
            answered_after: Histogram::default(),
        }
    }
}
