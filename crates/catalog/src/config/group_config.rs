//! What holds for one group: its own overrides over what the broker says, typed.

use super::key::Scope;
use super::layers::{Layers, parse_known};
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
        Self {
            consumer_session_timeout_ms: int("consumer.session.timeout.ms"),
            consumer_heartbeat_interval_ms: int("consumer.heartbeat.interval.ms"),
            consumer_assignment_interval_ms: int("consumer.assignment.interval.ms"),
            streams_session_timeout_ms: int("streams.session.timeout.ms"),
            streams_heartbeat_interval_ms: int("streams.heartbeat.interval.ms"),
            streams_assignment_interval_ms: int("streams.assignment.interval.ms"),
            streams_initial_rebalance_delay_ms: int("streams.initial.rebalance.delay.ms"),
            streams_num_standby_replicas: int("streams.num.standby.replicas"),
        }
    }
}

impl Default for GroupConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self::effective(&State::default(), &BrokerConfig::default(), "")
    }
}
