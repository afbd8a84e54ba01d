//! Every bound of this room, by name. `Broker::limits` shows them, counters show how near we are.

use catalog::config::BrokerConfig;

const FETCH_SESSION_PARTITIONS_MAX: usize = 1_000_000;
/// As many for each slot on the average.
const PARTITIONS_PER_FETCH_SESSION: usize = 1_000;
const COORDINATOR_MEMORY_BYTES_MIN: u64 = 64 << 20;
const TOPIC_COUNTERS_MAX: usize = 10_000;

#[derive(Debug, Clone)]
pub struct Limits {
    /// `request.partitions.max`: partitions that one request may touch. More is INVALID_REQUEST, or POLICY_VIOLATION
    /// where partitions are made.
    pub request_partitions_max: usize,
    /// `cluster.partitions.max`: partitions of all topics together.
    pub cluster_partitions_max: u64,
    /// `cluster.acls.max`: ACLs of the cluster. More is POLICY_VIOLATION.
    pub cluster_acls_max: usize,
    /// `max.incremental.fetch.session.cache.slots`
    pub fetch_sessions_max: usize,
    /// Partitions that all fetch sessions remember together.
    pub fetch_session_partitions_max: usize,
    /// `coordinators.memory.max.bytes`: what groups, committed offsets, transactions and share partitions may weigh together,
    /// about.
    pub coordinator_memory_bytes_max: u64,
    /// Topics that have counters of their own; the rest is counted in the totals only.
    pub topic_counters_max: usize,
}

impl Limits {
    /// From the properties the broker was started with; none of these changes while it runs.
    pub fn of(config: &BrokerConfig) -> Self {
        let count = |value: i32| usize::try_from(value).unwrap_or(0);
        Self {
            request_partitions_max: count(config.request_partitions_max()),
            cluster_partitions_max: count(config.cluster_partitions_max()) as u64,
            cluster_acls_max: count(config.cluster_acls_max()),
            fetch_sessions_max: count(config.fetch_sessions_max()),
            fetch_session_partitions_max: count(config.fetch_sessions_max())
                .saturating_mul(PARTITIONS_PER_FETCH_SESSION)
                .min(FETCH_SESSION_PARTITIONS_MAX),
            coordinator_memory_bytes_max: u64::try_from(config.coordinators_memory_max_bytes())
                .unwrap_or((world::machine::memory_bytes() / 8).max(COORDINATOR_MEMORY_BYTES_MIN)),
            topic_counters_max: TOPIC_COUNTERS_MAX,
        }
    }
}
