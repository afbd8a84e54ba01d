//! What brokers count of their talk with one another.

use std::sync::atomic::AtomicU64;

#[derive(Debug, Default)]
pub struct InterBrokerCounters {
    /// Connections of other brokers that were let in.
    pub accepted: AtomicU64,
    /// No certificate of the cluster, or no handshake in time.
    pub strangers: AtomicU64,
    /// More handshakes at once than there may be.
    pub refused_for_number: AtomicU64,
    /// A certificate of the cluster, of a broker that is not one any more.
    pub refused_for_absence: AtomicU64,
    /// Frames that were too long, could not be read, or stood still half-way.
    pub garbage: AtomicU64,
    pub log_moved_received: AtomicU64,
    pub appends_received: AtomicU64,
    pub slots_stored_received: AtomicU64,

    pub connects: AtomicU64,
    pub connects_failed: AtomicU64,
    pub calls: AtomicU64,
    /// Without an answer in time.
    pub calls_failed: AtomicU64,
}
