//! What holds for one topic: its own overrides over what the broker says, typed.

use super::key::Scope;
use super::layers::{Layers, parse_known};
use super::{BrokerConfig, Value, find};
use crate::record::ResourceType;
use crate::state::State;

/// `cleanup.policy`. Neither flag: nothing is ever removed; Kafka 4 allows the empty list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

/// `compression.type`, with the level to use when batches are recompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicCompression {
    /// Batches stay as the producer sent them.
    Producer,
    Uncompressed,
    /// 1 to 9, or -1 for the default.
    Gzip {
        level: i32,
    },
    Snappy,
    /// 1 to 17.
    Lz4 {
        level: i32,
    },
    /// -131072 to 22.
    Zstd {
        level: i32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// Of `local.retention.*`: whatever `retention.*` says.
pub(super) const SAME_AS_RETENTION: i64 = -2;

#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// -1 = no limit.
    pub retention_ms: i64,
    /// Per partition, -1 = no limit.
    pub retention_bytes: i64,
    /// Of what a second tier has: how old it may get here, and how much of it may stay; -1 = no limit. Never -2, which means
    /// the same as the whole log's.
    pub local_retention_ms: i64,
    pub local_retention_bytes: i64,
    pub remote_storage_enable: bool,
    pub remote_log_copy_disable: bool,
    pub remote_log_delete_on_disable: bool,
    pub segment_bytes: i32,
    pub segment_ms: i64,
    pub cleanup_policy: CleanupPolicy,
    pub max_message_bytes: i32,
    /// Of one batch, after decompression.
    pub max_decompressed_message_bytes: i32,
    pub compression: TopicCompression,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub min_insync_replicas: i32,
    pub delete_retention_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub min_cleanable_dirty_ratio: f64,
    /// Share groups may put records here that they gave up.
    pub takes_dead_letters: bool,
}

impl TopicConfig {
    /// Topic override → this broker's override → cluster-wide override → what the broker started with → default.
    /// Ask again when the catalog changes. A topic that does not exist gets what a new one would have.
    pub fn effective(state: &State, broker: &BrokerConfig, topic: &str) -> Self {
        let layers = Layers::new(state, broker);
        let overrides = state.config(ResourceType::Topic, topic);
        Self::from_values(|name| {
            let key = find(Scope::Topic, name).expect("a topic key");
            match overrides.and_then(|map| map.get(name)) {
                Some(text) => parse_known(key, text),
                None => layers.inherited(key).expect("a topic key with a default"),
            }
        })
    }

    fn from_values(value: impl Fn(&'static str) -> Value) -> Self {
        let integer = |name| value(name).as_i64().expect("a number");
        let text = |name| match value(name) {
            Value::Text(text) => text,
            other => unreachable!("{name} is a string, not {other:?}"),
        };
        let policies = match value("cleanup.policy") {
            Value::List(policies) => policies,
            other => unreachable!("cleanup.policy is a list, not {other:?}"),
        };
        let has = |policy: &str| policies.iter().any(|entry| entry == policy);
        let compression = match text("compression.type").as_str() {
            "uncompressed" => TopicCompression::Uncompressed,
            "gzip" => TopicCompression::Gzip { level: integer("compression.gzip.level") as i32 },
            "snappy" => TopicCompression::Snappy,
            "lz4" => TopicCompression::Lz4 { level: integer("compression.lz4.level") as i32 },
            "zstd" => TopicCompression::Zstd { level: integer("compression.zstd.level") as i32 },
            _ => TopicCompression::Producer,
        };
        let flag = |name| match value(name) {
            Value::Boolean(flag) => flag,
            other => unreachable!("{name} is a boolean, not {other:?}"),
        };
        let local = |name, of_all| match integer(name) {
            SAME_AS_RETENTION => integer(of_all).max(-1),
            own => own,
        };
        Self {
            retention_ms: integer("retention.ms").max(-1),
            retention_bytes: integer("retention.bytes").max(-1),
            local_retention_ms: local("local.retention.ms", "retention.ms"),
            local_retention_bytes: local("local.retention.bytes", "retention.bytes"),
            remote_storage_enable: flag("remote.storage.enable"),
            remote_log_copy_disable: flag("remote.log.copy.disable"),
            remote_log_delete_on_disable: flag("remote.log.delete.on.disable"),
            segment_bytes: integer("segment.bytes") as i32,
            segment_ms: integer("segment.ms"),
            cleanup_policy: CleanupPolicy { delete: has("delete"), compact: has("compact") },
            max_message_bytes: integer("max.message.bytes") as i32,
            max_decompressed_message_bytes: integer("max.decompressed.message.bytes") as i32,
            compression,
            timestamp_type: match text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: integer("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: integer("message.timestamp.after.max.ms"),
            min_insync_replicas: integer("min.insync.replicas") as i32,
            delete_retention_ms: integer("delete.retention.ms"),
            min_compaction_lag_ms: integer("min.compaction.lag.ms"),
            max_compaction_lag_ms: integer("max.compaction.lag.ms"),
            min_cleanable_dirty_ratio: match value("min.cleanable.dirty.ratio") {
                Value::Double(ratio) => ratio,
                other => unreachable!("min.cleanable.dirty.ratio is a number, not {other:?}"),
            },
            takes_dead_letters: flag("errors.deadletterqueue.group.enable"),
        }
    }
}
