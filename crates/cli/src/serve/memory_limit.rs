//! What the broker means to take of the memory at the most: the sum of its bounds. An operator can hold it against what the machine has,
//! and `cargo xtask chaos attack` holds it against what hostile clients can make of it.

use catalog::config::BrokerConfig;
use server::{Limits, MetricsText};

/// Program, threads, and what is small and bounded by number: quotas, users, telemetry, counters.
const BASE_BYTES: u64 = 48 << 20;
/// Of a connection that sends and takes little: buffers of one read, its task, its socket; a short Fetch while there is no memory for answers.
const CONNECTION_BYTES: u64 = 40 << 10;
const PARTITION_BYTES: u64 = 2 << 10;
const ACL_BYTES: u64 = 1 << 10;
const PRODUCER_BYTES: u64 = 512;
/// Of one partition that a fetch session remembers.
const SESSION_PARTITION_BYTES: u64 = 192;

pub struct MemoryLimit {
    parts: Vec<(&'static str, u64)>,
}

impl MemoryLimit {
    pub fn of(config: &BrokerConfig, limits: &Limits, tail_bytes: u64) -> MemoryLimit {
        let processors = world::machine::processors() as u64;
        let count = |value: i32| u64::try_from(value).unwrap_or(0);
        let room = broker::Limits::of(config);
        let request = limits.request_bytes_max as u64;
        let decompressed = u64::try_from(config.message_decompressed_max_bytes()).unwrap_or(0);
        let parts = vec![
            ("base", BASE_BYTES),
            ("connections", limits.connections.max as u64 * CONNECTION_BYTES),
            // A thirty-second and one frame more: `broker::memory`.
            ("requests", limits.request_memory_bytes_max * 33 / 32 + request),
            (
                "decoded",
                limits.decode_memory_bytes_max + processors * protocol::wire::REQUEST_BUDGET_BYTES_MAX as u64,
            ),
            ("answers", limits.answer_memory_bytes_max),
            ("unflushed", u64::try_from(config.log_unflushed_max_bytes()).unwrap_or(0)),
            ("tail", tail_bytes),
            ("decompressed", processors * decompressed),
            ("coordinators", room.coordinator_memory_bytes_max),
            ("compaction", config.log_cleaner_dedupe_buffer_size().max(0) as u64),
            ("partitions", count(config.cluster_partitions_max()) * PARTITION_BYTES),
            ("acls", count(config.cluster_acls_max()) * ACL_BYTES),
            ("producers", count(config.producer_ids_max()) * PRODUCER_BYTES),
            ("fetch sessions", room.fetch_session_partitions_max as u64 * SESSION_PARTITION_BYTES),
        ];
        MemoryLimit { parts }
    }

    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }

    pub fn write(&self, text: &mut MetricsText) {
        text.gauge(
            "ottla_memory_limit_bytes",
            "The most memory that the broker means to take: the sum of its bounds.",
            self.bytes(),
        );
        let name = "ottla_memory_limit_part_bytes";
        text.family(name, "gauge", "The same by what it is for.");
        for (part, bytes) in &self.parts {
            text.sample(name, &[("part", part)], bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_limit_is_the_sum_of_the_bounds_and_follows_their_keys() {
        let of = |properties: &[(&str, &str)]| {
            let all: BTreeMap<String, String> =
                properties.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            // Of the machine that the test runs on.
            let coordinators = ("coordinators.memory.max.bytes".to_owned(), (1u64 << 30).to_string());
            let all: BTreeMap<String, String> = all.into_iter().chain([coordinators]).collect();
            let (config, _) = BrokerConfig::new(all).unwrap();
            let limits = crate::serve::properties::limits(&config, 8 << 30);
            MemoryLimit::of(&config, &limits, 128 << 20).bytes()
        };
        let usual = of(&[]);
        // Of 8 GiB. That of a machine with less is smaller, and every part can be set.
        assert!((6 << 30..8 << 30).contains(&usual), "{usual}");
        assert_eq!(usual - of(&[("queued.max.response.bytes", "1048576")]), (2 << 30) - (1 << 20));
    }
}
