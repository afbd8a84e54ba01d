//! What the transaction coordinator may be told, and its bounds. Everything with a Kafka name is that config; the rest are bounds
//! of our own.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use catalog::config::BrokerConfig;

use crate::coordinators::StateMemory;

#[derive(Debug, Clone)]
pub struct TransactionSettings {
    /// `transaction.max.timeout.ms`
    pub timeout_ms_max: i32,
    /// `transactional.id.expiration.ms`
    pub id_expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`
    pub expiration_interval_ms: u64,
    /// Transactional ids of one partition of `__transaction_state`.
    pub ids_per_partition_max: usize,
    /// Partitions of one transaction; all of them stand in its record.
    pub partitions_max: usize,
    /// `coordinators.memory.max.bytes`, for groups too.
    pub memory: Arc<StateMemory>,
    /// The highest number that a connection to this broker has. What is older than a coordinator's start may be held up anywhere.
    pub newest_connection: Arc<AtomicU64>,
}

impl TransactionSettings {
    pub fn of(
        config: &BrokerConfig,
        newest_connection: Arc<AtomicU64>,
        memory: Arc<StateMemory>,
    ) -> TransactionSettings {
        TransactionSettings {
            timeout_ms_max: config.transaction_max_timeout_ms(),
            id_expiration_ms: config.transactional_id_expiration_ms().into(),
            expiration_interval_ms: u64::try_from(
                config.transaction_remove_expired_transaction_cleanup_interval_ms(),
            )
            .unwrap_or(1),
            newest_connection,
            memory,
            ..TransactionSettings::default()
        }
    }
}

impl Default for TransactionSettings {
    fn default() -> Self {
        Self {
            timeout_ms_max: 900_000,
            id_expiration_ms: 604_800_000,
            expiration_interval_ms: 3_600_000,
            ids_per_partition_max: 20_000,
            partitions_max: 10_000,
            memory: Arc::default(),
            newest_connection: Arc::default(),
        }
    }
}
