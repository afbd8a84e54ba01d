//! What holds for one group: its own overrides over what the broker says, typed.

use super::key::Scope;
use super::layers::{Layers, parse_known};
use super::value::iso_duration_ms;
use super::{BrokerConfig, Value, find};
use crate::record::ResourceType;
use crate::state::State;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    pub consumer_session_timeout_ms: i32,
    pub consumer_heartbeat_interval_ms: i32,
    /// Shortest time between two assignments.
    pub consumer_assignment_interval_ms: i32,
    pub streams_session_timeout_ms: i32,
    pub streams_heartbeat_interval_ms: i32,
    /// Shortest time between two assignments.
    pub streams_assignment_interval_ms: i32,
    /// How long the first assignment waits for more members.
    pub streams_initial_rebalance_delay_ms: i32,
    pub streams_num_standby_replicas: i32,
    /// How often members report how far their copies are.
    pub streams_task_offset_interval_ms: i32,
    /// How many records behind a copy counts as caught up.
    pub streams_acceptable_recovery_lag: i64,
    pub share: ShareConfig,
}

/// Of a share group (KIP-932).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareConfig {
    pub session_timeout_ms: i32,
    pub heartbeat_interval_ms: i32,
    pub assignment_interval_ms: i32,
    pub record_lock_duration_ms: i32,
    pub partition_max_record_locks: i32,
    pub delivery_count_limit: i32,
    pub auto_offset_reset: ShareOffsetReset,
    pub is_read_committed: bool,
    pub renew_acknowledge_enable: bool,
    /// Where records go that the group gave up (KIP-1191).
    pub dead_letter_topic: Option<String>,
    /// With their keys and values.
    pub dead_letters_copy: bool,
}

/// Where a share group begins in a partition that it has not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareOffsetReset {
    Earliest,
    Latest,
    /// So many milliseconds back.
    ByDuration(i64),
}

impl ShareOffsetReset {
    /// Of a value that was checked.
    fn of(text: &str) -> ShareOffsetReset {
        match text.strip_prefix("by_duration:") {
            Some(duration) => ShareOffsetReset::ByDuration(iso_duration_ms(duration).unwrap_or(0)),
            None if text == "earliest" => ShareOffsetReset::Earliest,
            None => ShareOffsetReset::Latest,
        }
    }
}

impl GroupConfig {
    /// Group override → this broker's override → cluster-wide override → what the broker started with → default.
    /// Ask again when the catalog changes. A group that does not exist gets what a new one would have.
    pub fn effective(state: &State, broker: &BrokerConfig, group: &str) -> Self {
        let layers = Layers::new(state, broker);
        let overrides = state.config(ResourceType::Group, group);
        let value = |name: &'static str| -> Value {
            let key = find(Scope::Group, name).expect("a group key");
            match overrides.and_then(|map| map.get(name)) {
                Some(text) => parse_known(key, text),
                None => layers.inherited(key).expect("a group key with a default"),
            }
        };
        let int = |name: &'static str| value(name).as_i64().expect("a number") as i32;
        let text = |name: &'static str| value(name).to_text();
        let share = ShareConfig {
            session_timeout_ms: int("share.session.timeout.ms"),
            heartbeat_interval_ms: int("share.heartbeat.interval.ms"),
            assignment_interval_ms: int("share.assignment.interval.ms"),
            record_lock_duration_ms: int("share.record.lock.duration.ms"),
            partition_max_record_locks: int("share.partition.max.record.locks"),
            delivery_count_limit: int("share.delivery.count.limit"),
            auto_offset_reset: ShareOffsetReset::of(&text("share.auto.offset.reset")),
            is_read_committed: text("share.isolation.level") == "read_committed",
            renew_acknowledge_enable: text("share.renew.acknowledge.enable") == "true",
            dead_letter_topic: Some(text("errors.deadletterqueue.topic.name"))
                .filter(|name| !name.is_empty()),
            dead_letters_copy: text("errors.deadletterqueue.copy.record.enable") == "true",
        };
        Self {
            consumer_session_timeout_ms: int("consumer.session.timeout.ms"),
            consumer_heartbeat_interval_ms: int("consumer.heartbeat.interval.ms"),
            consumer_assignment_interval_ms: int("consumer.assignment.interval.ms"),
            streams_session_timeout_ms: int("streams.session.timeout.ms"),
            streams_heartbeat_interval_ms: int("streams.heartbeat.interval.ms"),
            streams_assignment_interval_ms: int("streams.assignment.interval.ms"),
            streams_initial_rebalance_delay_ms: int("streams.initial.rebalance.delay.ms"),
            streams_num_standby_replicas: int("streams.num.standby.replicas"),
            streams_task_offset_interval_ms: int("streams.task.offset.interval.ms"),
            streams_acceptable_recovery_lag: value("streams.acceptable.recovery.lag")
                .as_i64()
                .expect("a number"),
            share,
        }
    }
}

impl Default for GroupConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self::effective(&State::default(), &BrokerConfig::default(), "")
    }
}
