//! What the group coordinator may be told, and its bounds. Everything with a Kafka name is that config; the rest
//! are bounds of our own.

use std::sync::Arc;

use catalog::config::BrokerConfig;

use super::catalog_view::{EmptyCatalog, SharedView};
use super::consumer::{ASSIGNORS, Assignor};
use crate::coordinators::StateMemory;

#[derive(Debug, Clone)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: u64,
    /// `group.max.size`; never more than `MEMBERS_PER_GROUP_MAX`.
    pub group_size_max: usize,
    /// `offset.metadata.max.bytes`; Kafka counts UTF-16 units, so do we.
    pub offset_metadata_units_max: usize,
    /// `offsets.retention.minutes`, in ms.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: u64,
    /// Members that never rejoin are removed after this, though their session cannot be watched: Kafka's
    /// `group.new.member.join.timeout` of 5 minutes.
    pub new_member_join_timeout_ms: u64,
    /// What one member may say about itself in JoinGroup, over all its protocols.
    pub member_metadata_bytes_max: usize,
    /// What the record of one group may weigh; it holds metadata and assignments of all members.
    pub group_record_bytes_max: usize,
    /// Groups of one partition of `__consumer_offsets`.
    pub groups_per_partition_max: usize,
    /// Committed offsets of one partition of `__consumer_offsets`.
    pub offsets_per_partition_max: usize,
    /// `group.consumer.max.size`; never more than `MEMBERS_PER_GROUP_MAX`.
    pub consumer_group_size_max: usize,
    /// The first of `group.consumer.assignors`.
    pub consumer_assignor: Assignor,
    /// `group.consumer.migration.policy`
    pub consumer_migration: Migration,
    /// `group.consumer.regex.refresh.interval.ms`
    pub consumer_regex_refresh_interval_ms: i64,
    /// `group.streams.max.size`; never more than `MEMBERS_PER_GROUP_MAX`.
    pub streams_group_size_max: usize,
    /// `group.share.max.size`; never more than `MEMBERS_PER_GROUP_MAX`.
    pub share_group_size_max: usize,
    /// `group.share.initialize.retry.interval.ms`
    pub share_initialize_retry_ms: u64,
    /// Share partitions of one group; all of them stand in one record.
    pub share_states_max: usize,
    /// Topics, and configs of single groups.
    pub catalog: SharedView,
    /// `coordinators.memory.max.bytes`, for all partitions and for transactions too.
    pub memory: Arc<StateMemory>,
}

/// Whether classic groups become consumer groups when a member of the new protocol joins, and the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    pub upgrades: bool,
    pub downgrades: bool,
}

impl Migration {
    fn of(policy: &str) -> Migration {
        let is = |name: &str| policy.eq_ignore_ascii_case(name);
        Migration {
            upgrades: is("upgrade") || is("bidirectional"),
            downgrades: is("downgrade") || is("bidirectional"),
        }
    }
}

/// The most that `group.max.size`, `group.consumer.max.size` and `group.streams.max.size` can ask for.
pub const MEMBERS_PER_GROUP_MAX: usize = 10_000;

impl GroupSettings {
    pub fn of(config: &BrokerConfig) -> GroupSettings {
        let count = |value: i32| usize::try_from(value).unwrap_or(0);
        let ms = |value: i64| u64::try_from(value).unwrap_or(0);
        GroupSettings {
            session_timeout_ms_min: config.group_min_session_timeout_ms(),
            session_timeout_ms_max: config.group_max_session_timeout_ms(),
            initial_rebalance_delay_ms: ms(config.group_initial_rebalance_delay_ms().into()),
            group_size_max: count(config.group_max_size()).min(MEMBERS_PER_GROUP_MAX),
            offset_metadata_units_max: count(config.offset_metadata_max_bytes()),
            offsets_retention_ms: i64::from(config.offsets_retention_minutes()) * 60_000,
            offsets_retention_check_interval_ms: ms(config.offsets_retention_check_interval_ms()),
            member_metadata_bytes_max: count(config.group_member_metadata_max_bytes()),
            consumer_group_size_max: count(config.group_consumer_max_size()).min(MEMBERS_PER_GROUP_MAX),
            streams_group_size_max: count(config.group_streams_max_size()).min(MEMBERS_PER_GROUP_MAX),
            share_group_size_max: count(config.group_share_max_size()).min(MEMBERS_PER_GROUP_MAX),
            share_initialize_retry_ms: ms(config.group_share_initialize_retry_interval_ms().into()),
            consumer_assignor: config
                .group_consumer_assignors()
                .iter()
                .find_map(|name| Assignor::of(name))
                .unwrap_or(ASSIGNORS[0]),
            consumer_migration: Migration::of(&config.group_consumer_migration_policy()),
            consumer_regex_refresh_interval_ms: config.group_consumer_regex_refresh_interval_ms().into(),
            ..GroupSettings::default()
        }
    }
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            group_size_max: MEMBERS_PER_GROUP_MAX,
            offset_metadata_units_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60_000,
            offsets_retention_check_interval_ms: 600_000,
            new_member_join_timeout_ms: 300_000,
            member_metadata_bytes_max: 1 << 20,
            group_record_bytes_max: 16 << 20,
            groups_per_partition_max: 20_000,
            offsets_per_partition_max: 1_000_000,
            consumer_group_size_max: MEMBERS_PER_GROUP_MAX,
            share_group_size_max: 200,
            share_initialize_retry_ms: 30_000,
            share_states_max: 100_000,
            consumer_assignor: ASSIGNORS[0],
            consumer_migration: Migration { upgrades: true, downgrades: true },
            consumer_regex_refresh_interval_ms: 600_000,
            streams_group_size_max: MEMBERS_PER_GROUP_MAX,
            catalog: SharedView(Arc::new(EmptyCatalog)),
            memory: Arc::default(),
        }
    }
}
