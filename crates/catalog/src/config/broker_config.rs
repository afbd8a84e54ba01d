//! What this broker runs with: the properties given at start, and after [`BrokerConfig::effective`] the dynamic
//! overrides on top.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::key::{Effect, Scope};
use super::layers::Layers;
use super::{ConfigKey, Value, ValueError, find};
use crate::state::State;

/// Why a broker does not start with these properties.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerConfigError {
    #[error(transparent)]
    Value(#[from] ValueError),
    #[error("{key}: {reason}")]
    Conflict { key: &'static str, reason: String },
}

/// A property that was given but does nothing; the CLI prints it by name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigWarning {
    #[error("unknown configuration {key}{}", suggestion_text(.suggestion))]
    Unknown { key: String, suggestion: Option<&'static str> },
    #[error("configuration {key} has no effect: {reason}")]
    NoEffect { key: String, reason: &'static str },
}

fn suggestion_text(suggestion: &Option<&'static str>) -> String {
    suggestion.map(|name| format!(", did you mean {name}?")).unwrap_or_default()
}

/// `log.sync`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSync {
    /// Acknowledged means durable.
    Commit,
    /// Acknowledge first, sync every `log.sync.interval.ms`.
    Interval,
}

const LISTENER_PREFIX: &str = "listener.name.";

pub(super) const OVERRIDES_RULE: &str = "must be a list of IP-address:count (host names are not resolved)";

#[derive(Clone, PartialEq)]
pub struct BrokerConfig {
    started_with: Arc<BTreeMap<String, String>>,
    /// Dynamic overrides of single listeners, by name.
    of_listeners: Arc<BTreeMap<String, String>>,
    /// Effective values of all known keys, by name.
    values: Arc<BTreeMap<&'static str, Value>>,
}

/// Passwords are among them.
impl std::fmt::Debug for BrokerConfig {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "BrokerConfig(started with {} properties)", self.started_with.len())
    }
}

impl Default for BrokerConfig {
    /// Kafka's defaults and Ottla's.
    fn default() -> Self {
        Self::from_known(BTreeMap::new())
    }
}

impl BrokerConfig {
    /// From the properties of a file and the command line; a key given twice: the last one counts.
    pub fn new<K: Into<String>, V: Into<String>>(
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(Self, Vec<ConfigWarning>), BrokerConfigError> {
        let mut started_with = BTreeMap::new();
        for (name, text) in properties {
            started_with.insert(name.into(), text.into());
        }
        let mut warnings = Vec::new();
        for (name, text) in &mut started_with {
            match find_with_listener(name) {
                None => {
                    let suggestion = nearest(name);
                    warnings.push(ConfigWarning::Unknown { key: name.clone(), suggestion });
                }
                Some(key) => {
                    *text = Value::parse(key, text)?.to_text();
                    if let Effect::NoEffect(reason) = key.effect {
                        warnings.push(ConfigWarning::NoEffect { key: name.clone(), reason });
                    }
                }
            }
        }
        // Two names of one thing; the newer one wins.
        let id = started_with.get("node.id").or(started_with.get("broker.id")).cloned();
        if let Some(id) = id {
            started_with.insert("broker.id".to_owned(), id.clone());
            started_with.insert("node.id".to_owned(), id);
        }
        let config = Self::from_known(started_with);
        config.check_conflicts()?;
        Ok((config, warnings))
    }

    fn from_known(started_with: BTreeMap<String, String>) -> Self {
        let values = effective_values(&Layers::of_start(&started_with));
        Self { started_with: Arc::new(started_with), of_listeners: Arc::default(), values: Arc::new(values) }
    }

    /// The same broker with the dynamic overrides of the state on top. Ask again when the catalog changes.
    pub fn effective(&self, state: &State) -> Self {
        let layers = Layers::new(state, self);
        let values = effective_values(&layers);
        let names = layers.dynamic_broker().chain(layers.dynamic_default());
        let names = names.filter(|name| name.starts_with(LISTENER_PREFIX));
        let of_listeners = names.filter_map(|name| {
            let found = layers.all(&[name]).into_iter().next()?;
            Some((name.to_string(), found.text.to_owned()))
        });
        let of_listeners = Arc::new(of_listeners.collect());
        Self { started_with: self.started_with.clone(), of_listeners, values: Arc::new(values) }
    }

    /// What holds for one listener, and one of its SASL mechanisms: what is said of it alone, else the key as it is for all.
    pub fn of_listener(&self, listener: &str, mechanism: Option<&str>, key: &str) -> Option<String> {
        self.of_listener_alone(listener, mechanism, key).or_else(|| self.get(key))
    }

    /// `listener.name.<listener>.<mechanism>.<key>`, else `listener.name.<listener>.<key>`.
    pub fn of_listener_alone(&self, listener: &str, mechanism: Option<&str>, key: &str) -> Option<String> {
        let prefix = format!("{LISTENER_PREFIX}{}.", listener.to_lowercase());
        let narrow = mechanism.map(|mechanism| format!("{prefix}{}.{key}", mechanism.to_lowercase()));
        let names = narrow.into_iter().chain([format!("{prefix}{key}")]);
        let mut set = names.filter_map(|name| self.of_listeners.get(&name).or(self.started_with.get(&name)));
        set.next().cloned()
    }

    /// The properties given at start, checked.
    pub fn started_with(&self) -> &BTreeMap<String, String> {
        &self.started_with
    }

    /// Must this property not be shown? What nobody knows may be a password with a typing error in its name.
    pub fn is_sensitive(&self, name: &str) -> bool {
        find_with_listener(name).is_none_or(ConfigKey::is_sensitive)
    }

    /// The effective value of any key, as text; none = null or no such key.
    pub fn get(&self, name: &str) -> Option<String> {
        match self.values.get(name) {
            Some(value) => Some(value.to_text()),
            None => self.started_with.get(name).cloned(),
        }
    }

    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    fn check_conflicts(&self) -> Result<(), BrokerConfigError> {
        let conflict = |key: &'static str, reason: &str| {
            Err(BrokerConfigError::Conflict { key, reason: reason.to_owned() })
        };
        if self.node_id() < 0 {
            return conflict("node.id", "must be at least 0");
        }
        if self.group_min_session_timeout_ms() > self.group_max_session_timeout_ms() {
            return conflict(
                "group.min.session.timeout.ms",
                "must not be above group.max.session.timeout.ms",
            );
        }
        if self.value("log.retention.ms").and_then(Value::as_i64).is_some_and(|ms| ms == 0 || ms < -1) {
            return conflict("log.retention.ms", "must be -1 (for ever) or at least 1");
        }
        if (1..i64::from(self.socket_request_max_bytes())).contains(&self.queued_max_request_bytes()) {
            return conflict(
                "queued.max.request.bytes",
                "must hold at least one request of socket.request.max.bytes",
            );
        }
        if self.log_wal_file_min_bytes() > self.log_wal_file_max_bytes() {
            return conflict("log.wal.file.min.bytes", "must not be above log.wal.file.max.bytes");
        }
        if self.max_connections_per_ip() == 0 && self.max_connections_per_ip_overrides().is_empty() {
            return conflict(
                "max.connections.per.ip",
                "may be 0 only if max.connections.per.ip.overrides has entries",
            );
        }
        if parse_overrides(&self.max_connections_per_ip_overrides()).is_none() {
            return conflict("max.connections.per.ip.overrides", OVERRIDES_RULE);
        }
        if self.remote_log_storage_system_enable() && self.remote_log_storage_url().is_none() {
            return conflict(
                "remote.log.storage.system.enable",
                "needs remote.log.storage.url, which says where the second tier lies",
            );
        }
        if self.super_users().iter().any(|principal| !principal.contains(':')) {
            return conflict("super.users", "must name principals as Type:name, separated by semicolons");
        }
        if self.log_dirs().is_empty() {
            return conflict("log.dirs", "must name a directory");
        }
        Ok(())
    }

    /// Where the data lies: the first of `log.dirs`, else of `log.dir`.
    pub fn data_dir(&self) -> String {
        self.log_dirs().swap_remove(0)
    }

    pub fn log_dirs(&self) -> Vec<String> {
        match self.values.get("log.dirs") {
            Some(Value::List(dirs)) if !dirs.is_empty() => dirs.clone(),
            _ => self.list("log.dir"),
        }
    }

    /// Where the second tier lies; it may hold secrets.
    pub fn remote_log_storage_url(&self) -> Option<String> {
        self.get("remote.log.storage.url").filter(|url| !url.is_empty())
    }

    /// Where a broker on a bucket keeps what it has fetched of segments.
    pub fn bucket_cache_dir(&self) -> Option<String> {
        self.get("bucket.cache.dir").filter(|dir| !dir.is_empty())
    }

    pub fn log_sync(&self) -> LogSync {
        if self.text("log.sync") == "interval" { LogSync::Interval } else { LogSync::Commit }
    }

    /// Address → most connections from it.
    pub fn connections_per_ip_overrides(&self) -> Vec<(IpAddr, u32)> {
        parse_overrides(&self.max_connections_per_ip_overrides()).unwrap_or_default()
    }

    /// Listener name → security protocol, both in capital letters: they may be written in any.
    pub fn security_protocols(&self) -> Vec<(String, String)> {
        let map = self.text("listener.security.protocol.map");
        let pairs = map.split(',').filter_map(|pair| pair.trim().split_once(':'));
        pairs.map(|(name, protocol)| (name.trim().to_uppercase(), protocol.trim().to_uppercase())).collect()
    }

    /// Principals, as `User:admin`.
    pub fn super_users(&self) -> Vec<String> {
        let text = self.text("super.users");
        text.split(';').map(str::trim).filter(|user| !user.is_empty()).map(str::to_owned).collect()
    }

    /// None: what it is follows from the listeners.
    pub fn allow_everyone_if_no_acl_found(&self) -> Option<bool> {
        self.value("allow.everyone.if.no.acl.found").map(|value| *value == Value::Boolean(true))
    }

    pub fn broker_rack(&self) -> Option<String> {
        self.get("broker.rack").filter(|rack| !rack.is_empty())
    }

    pub fn advertised_listeners(&self) -> Option<Vec<String>> {
        self.values.get("advertised.listeners").map(|_| self.list("advertised.listeners"))
    }

    fn integer(&self, name: &str) -> i64 {
        match self.values.get(name) {
            Some(Value::Integer(value)) => *value,
            other => unreachable!("{name} is a number of the table, not {other:?}"),
        }
    }

    fn double(&self, name: &str) -> f64 {
        match self.values.get(name) {
            Some(Value::Double(value)) => *value,
            other => unreachable!("{name} is a real number of the table, not {other:?}"),
        }
    }

    fn boolean(&self, name: &str) -> bool {
        match self.values.get(name) {
            Some(Value::Boolean(value)) => *value,
            other => unreachable!("{name} is a boolean of the table, not {other:?}"),
        }
    }

    fn text(&self, name: &str) -> String {
        match self.values.get(name) {
            Some(Value::Text(value)) => value.clone(),
            other => unreachable!("{name} is a string of the table, not {other:?}"),
        }
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.values.get(name) {
            Some(Value::List(value)) => value.clone(),
            other => unreachable!("{name} is a list of the table, not {other:?}"),
        }
    }
}

macro_rules! accessors {
    ($($name:ident: $key:literal $kind:ident),* $(,)?) => {
        impl BrokerConfig {
            $(#[doc = concat!("`", $key, "`")] pub fn $name(&self) -> accessors!(@type $kind) {
                accessors!(@get self $kind $key)
            })*
        }
        #[cfg(test)]
        const ACCESSORS: &[&str] = &[$($key),*];
    };
    (@type int) => { i32 };
    (@type short) => { i16 };
    (@type long) => { i64 };
    (@type flag) => { bool };
    (@type real) => { f64 };
    (@type words) => { String };
    (@type items) => { Vec<String> };
    (@get $self:ident int $key:literal) => { $self.integer($key) as i32 };
    (@get $self:ident short $key:literal) => { $self.integer($key) as i16 };
    (@get $self:ident long $key:literal) => { $self.integer($key) };
    (@get $self:ident real $key:literal) => { $self.double($key) };
    (@get $self:ident flag $key:literal) => { $self.boolean($key) };
    (@get $self:ident words $key:literal) => { $self.text($key) };
    (@get $self:ident items $key:literal) => { $self.list($key) };
}

accessors! {
    node_id: "node.id" int,
    listeners: "listeners" items,
    admin_address: "admin.address" words,
    bucket_backlog_slots_max: "bucket.backlog.slots.max" long,
    bucket_cache_bytes: "bucket.cache.bytes" long,
    bucket_follow_interval_ms: "bucket.follow.interval.ms" long,
    bucket_lease_ttl_ms: "bucket.lease.ttl.ms" long,
    bucket_linger_ms: "bucket.linger.ms" long,
    bucket_linger_max_ms: "bucket.linger.max.ms" long,
    bucket_urgent_flush_ms: "bucket.urgent.flush.ms" long,
    bucket_puts_per_second: "bucket.puts.per.second" int,
    bucket_object_bytes: "bucket.object.bytes" int,
    bucket_replicas_open_max: "bucket.replicas.open.max" int,
    bucket_price_put: "bucket.price.put" real,
    bucket_price_get: "bucket.price.get" real,
    bucket_price_list: "bucket.price.list" real,
    bucket_price_delete: "bucket.price.delete" real,
    bucket_price_gib_month: "bucket.price.gib.month" real,
    bucket_replaced_keep_ms: "bucket.replaced.keep.ms" long,
    bucket_segment_bytes: "bucket.segment.bytes" long,
    num_partitions: "num.partitions" int,
    default_replication_factor: "default.replication.factor" int,
    initial_broker_registration_timeout_ms: "initial.broker.registration.timeout.ms" int,
    auto_create_topics_enable: "auto.create.topics.enable" flag,
    auto_leader_rebalance_enable: "auto.leader.rebalance.enable" flag,
    leader_imbalance_check_interval_seconds: "leader.imbalance.check.interval.seconds" long,
    delete_topic_enable: "delete.topic.enable" flag,
    cluster_acls_max: "cluster.acls.max" int,
    cluster_partitions_max: "cluster.partitions.max" int,
    request_partitions_max: "request.partitions.max" int,
    max_request_partition_size_limit: "max.request.partition.size.limit" int,
    message_max_bytes: "message.max.bytes" int,
    telemetry_max_bytes: "telemetry.max.bytes" int,
    message_decompressed_max_bytes: "max.decompressed.message.bytes" long,
    fetch_max_bytes: "fetch.max.bytes" int,
    fetch_sessions_max: "max.incremental.fetch.session.cache.slots" int,
    producer_id_expiration_ms: "producer.id.expiration.ms" int,
    producer_ids_max: "producer.ids.max" int,
    log_cleaner_enable: "log.cleaner.enable" flag,
    log_cleaner_backoff_ms: "log.cleaner.backoff.ms" long,
    log_cleaner_dedupe_buffer_size: "log.cleaner.dedupe.buffer.size" long,
    log_cleaner_io_buffer_load_factor: "log.cleaner.io.buffer.load.factor" real,
    log_cleaner_io_buffer_size: "log.cleaner.io.buffer.size" int,
    log_cleaner_io_max_bytes_per_second: "log.cleaner.io.max.bytes.per.second" real,
    log_retention_check_interval_ms: "log.retention.check.interval.ms" long,
    log_sync_interval_ms: "log.sync.interval.ms" long,
    log_cache_bytes: "log.cache.bytes" long,
    log_disk_reserve_bytes: "log.disk.reserve.bytes" long,
    log_unflushed_max_bytes: "log.unflushed.max.bytes" long,
    log_wal_file_min_bytes: "log.wal.file.min.bytes" long,
    log_wal_file_max_bytes: "log.wal.file.max.bytes" long,
    remote_log_storage_system_enable: "remote.log.storage.system.enable" flag,
    remote_log_manager_task_interval_ms: "remote.log.manager.task.interval.ms" long,
    remote_log_manager_copy_max_bytes_per_second: "remote.log.manager.copy.max.bytes.per.second" long,
    remote_log_reader_max_pending_tasks: "remote.log.reader.max.pending.tasks" int,
    remote_fetch_max_wait_ms: "remote.fetch.max.wait.ms" int,
    quota_window_num: "quota.window.num" int,
    quota_window_size_seconds: "quota.window.size.seconds" int,
    controller_quota_window_num: "controller.quota.window.num" int,
    controller_quota_window_size_seconds: "controller.quota.window.size.seconds" int,
    offset_metadata_max_bytes: "offset.metadata.max.bytes" int,
    offsets_retention_minutes: "offsets.retention.minutes" int,
    offsets_retention_check_interval_ms: "offsets.retention.check.interval.ms" long,
    offsets_topic_num_partitions: "offsets.topic.num.partitions" int,
    offsets_topic_replication_factor: "offsets.topic.replication.factor" short,
    group_initial_rebalance_delay_ms: "group.initial.rebalance.delay.ms" int,
    transaction_state_log_num_partitions: "transaction.state.log.num.partitions" int,
    transaction_max_timeout_ms: "transaction.max.timeout.ms" int,
    transaction_remove_expired_transaction_cleanup_interval_ms: "transaction.remove.expired.transaction.cleanup.interval.ms" int,
    transactional_id_expiration_ms: "transactional.id.expiration.ms" int,
    add_partitions_to_txn_retry_backoff_ms: "add.partitions.to.txn.retry.backoff.ms" int,
    add_partitions_to_txn_retry_backoff_max_ms: "add.partitions.to.txn.retry.backoff.max.ms" int,
    group_min_session_timeout_ms: "group.min.session.timeout.ms" int,
    group_max_session_timeout_ms: "group.max.session.timeout.ms" int,
    group_max_size: "group.max.size" int,
    group_consumer_max_size: "group.consumer.max.size" int,
    group_streams_max_size: "group.streams.max.size" int,
    group_consumer_assignors: "group.consumer.assignors" items,
    group_consumer_migration_policy: "group.consumer.migration.policy" words,
    group_consumer_regex_refresh_interval_ms: "group.consumer.regex.refresh.interval.ms" int,
    group_share_max_size: "group.share.max.size" int,
    group_share_max_share_sessions: "group.share.max.share.sessions" int,
    group_share_initialize_retry_interval_ms: "group.share.initialize.retry.interval.ms" int,
    share_coordinator_state_topic_num_partitions: "share.coordinator.state.topic.num.partitions" int,
    share_coordinator_updates_per_snapshot: "share.coordinator.snapshot.update.records.per.snapshot" int,
    share_coordinator_write_timeout_ms: "share.coordinator.write.timeout.ms" int,
    dead_letters_auto_create_topics_enable: "errors.deadletterqueue.auto.create.topics.enable" flag,
    dead_letters_topic_name_prefix: "errors.deadletterqueue.topic.name.prefix" words,
    group_coordinator_rebalance_protocols: "group.coordinator.rebalance.protocols" items,
    group_member_metadata_max_bytes: "group.member.metadata.max.bytes" int,
    socket_request_max_bytes: "socket.request.max.bytes" int,
    queued_max_request_bytes: "queued.max.request.bytes" long,
    queued_max_response_bytes: "queued.max.response.bytes" long,
    coordinators_memory_max_bytes: "coordinators.memory.max.bytes" long,
    max_connections: "max.connections" int,
    max_connections_per_ip: "max.connections.per.ip" int,
    max_connections_per_ip_overrides: "max.connections.per.ip.overrides" words,
    max_connection_creation_rate: "max.connection.creation.rate" int,
    connections_max_idle_ms: "connections.max.idle.ms" long,
    delegation_token_expiry_check_interval_ms: "delegation.token.expiry.check.interval.ms" long,
    delegation_token_expiry_time_ms: "delegation.token.expiry.time.ms" long,
    delegation_token_max_lifetime_ms: "delegation.token.max.lifetime.ms" long,
    connection_handshake_timeout_ms: "connection.handshake.timeout.ms" int,
    connection_unauthenticated_max_per_ip: "connection.unauthenticated.max.per.ip" int,
    connection_unauthenticated_creation_rate_per_ip: "connection.unauthenticated.creation.rate.per.ip" int,
}

fn effective_values(layers: &Layers<'_>) -> BTreeMap<&'static str, Value> {
    super::keys(Scope::Broker).filter_map(|key| Some((key.name, layers.value(key)?))).collect()
}

/// `listener.name.<listener>.<key>` and `listener.name.<listener>.<mechanism>.<key>` have the type of the key.
pub(super) fn find_with_listener(name: &str) -> Option<&'static ConfigKey> {
    if let Some(key) = find(Scope::Broker, name) {
        return Some(key);
    }
    let (_, base) = name.strip_prefix(LISTENER_PREFIX)?.split_once('.')?;
    find(Scope::Broker, base).or_else(|| base.split_once('.').and_then(|(_, base)| find(Scope::Broker, base)))
}

/// `None` when it is no list of IP address and count; host names are not resolved.
pub(super) fn parse_overrides(text: &str) -> Option<Vec<(IpAddr, u32)>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (address, count) = entry.rsplit_once(':')?;
            Some((address.trim().parse().ok()?, count.trim().parse().ok()?))
        })
        .collect()
}

/// The known key with the fewest letters to change, if that is few.
fn nearest(name: &str) -> Option<&'static str> {
    let candidates = super::keys(Scope::Broker).map(|key| (distance(name, key.name), key.name));
    let (changes, nearest) = candidates.min()?;
    (changes <= 1 + name.len() / 8).then_some(nearest)
}

fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, character) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..right.len() {
            let replace = diagonal + usize::from(right[column] != character);
            diagonal = row[column + 1];
            row[column + 1] = replace.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_typed_and_every_accessor_finds_its_key() {
        let config = BrokerConfig::default();
        for name in ACCESSORS {
            assert!(config.value(name).is_some(), "{name}");
        }
        assert_eq!(config.node_id(), 1);
        assert_eq!(config.num_partitions(), 1);
        assert!(config.auto_create_topics_enable());
        assert_eq!(config.log_sync(), LogSync::Commit);
        assert_eq!(config.broker_rack(), None);
    }

    #[test]
    fn a_listener_has_values_of_its_own_and_passwords_are_not_printed() {
        let given = [
            ("ssl.client.auth", "requested"),
            ("listener.name.outer.ssl.client.auth", "required"),
            ("listener.name.outer.plain.sasl.jaas.config", "secret of PLAIN"),
            ("listener.name.outer.sasl.jaas.config", "secret of others"),
        ];
        let (config, warnings) = BrokerConfig::new(given).unwrap();
        assert_eq!(warnings, []);
        let of = |listener, mechanism, key| config.of_listener(listener, mechanism, key);
        assert_eq!(of("OUTER", None, "ssl.client.auth").as_deref(), Some("required"));
        assert_eq!(of("INNER", None, "ssl.client.auth").as_deref(), Some("requested"));
        assert_eq!(of("INNER", None, "ssl.truststore.type").as_deref(), Some("JKS"));
        assert_eq!(of("OUTER", Some("PLAIN"), "sasl.jaas.config").as_deref(), Some("secret of PLAIN"));
        assert_eq!(of("OUTER", Some("X"), "sasl.jaas.config").as_deref(), Some("secret of others"));
        assert_eq!(of("INNER", Some("PLAIN"), "sasl.jaas.config"), None);
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn a_typo_and_a_dead_key_warn_by_name() {
        let given =
            [("num.partition", "3"), ("zookeeper.connect", "x"), ("num.io.threads", "4"), ("node.id", "7")];
        let (config, warnings) = BrokerConfig::new(given).unwrap();
        let text: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(config.node_id(), 7);
        assert_eq!(text.len(), 3);
        assert!(text[0].contains("num.io.threads") && text[0].contains("no effect"), "{}", text[0]);
        assert_eq!(text[1], "unknown configuration num.partition, did you mean num.partitions?");
        assert_eq!(text[2], "unknown configuration zookeeper.connect");
    }

    #[test]
    fn wrong_values_and_conflicts_stop_the_start() {
        for (name, text) in [
            ("num.partitions", "0"),
            ("num.partitions", "many"),
            ("log.retention.ms", "0"),
            ("group.min.session.timeout.ms", "99999999"),
            ("queued.max.request.bytes", "5"),
            ("max.connections.per.ip", "0"),
            ("max.connections.per.ip.overrides", "localhost"),
            ("node.id", "-1"),
            ("log.sync", "never"),
        ] {
            assert!(BrokerConfig::new([(name, text)]).is_err(), "{name}={text}");
        }
    }
}
