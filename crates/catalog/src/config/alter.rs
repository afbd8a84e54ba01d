//! AlterConfigs, IncrementalAlterConfigs and the configs of CreateTopics: what may be set, and to what.
//!
//! Each function checks the whole resource as it would be afterwards and gives the record to append, or the error
//! to answer. Topics and groups answer INVALID_CONFIG, brokers INVALID_REQUEST, as Kafka does.
//!
//! Where we differ: an unknown broker key is refused (Kafka keeps it for plugins, which Ottla cannot load), and
//! thread counts may be set to anything, because they have no effect.

use std::collections::BTreeMap;

use protocol::{ErrorCode, Str};

use super::broker_config::{OVERRIDES_RULE, find_with_listener, parse_overrides};
use super::key::{ConfigKey, ConfigType, Mutability, Scope};
use super::layers::Layers;
use super::topic_config::SAME_AS_RETENTION;
use super::{BrokerConfig, Value, find};
use crate::record::{MetadataRecord, ResourceType};
use crate::state::State;
use crate::topic_name;

/// Kafka's limit on a value that is put together from several requests.
const VALUE_LEN_MAX: usize = 32_767;

/// Kafka's `AlterConfigOp.OpType`, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum AlterOp {
    Set = 0,
    Delete = 1,
    /// Adds entries to a list.
    Append = 2,
    /// Takes entries out of a list.
    Subtract = 3,
}

impl AlterOp {
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Delete => "DELETE",
            Self::Append => "APPEND",
            Self::Subtract => "SUBTRACT",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub name: Str,
    pub op: AlterOp,
    pub value: Option<Str>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AlterError {
    pub code: ErrorCode,
    pub message: String,
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, AlterError> {
    Err(AlterError { code, message: message.into() })
}

type Overrides = BTreeMap<Str, Str>;

/// IncrementalAlterConfigs of one resource. `None`: nothing would change.
pub fn alter(
    state: &State,
    broker: &BrokerConfig,
    resource_type: ResourceType,
    resource_name: &str,
    changes: &[Change],
) -> Result<Option<MetadataRecord>, AlterError> {
    let names = changes.iter().map(|change| &change.name);
    let null = changes.iter().filter(|change| change.op != AlterOp::Delete && change.value.is_none());
    check_request(names, null.map(|change| &change.name))?;
    let scope = check_resource_name(broker, resource_type, resource_name)?;
    let current = overrides(state, resource_type, resource_name);
    let mut altered = current.clone();
    for change in changes {
        let value = change.value.as_deref().unwrap_or("");
        match change.op {
            AlterOp::Set => drop(altered.insert(change.name.detached(), Str::from(value))),
            AlterOp::Delete => drop(altered.remove(&change.name)),
            AlterOp::Append | AlterOp::Subtract => {
                let list = change_list(scope, change, &current, value)?;
                altered.insert(change.name.detached(), Str::from(list));
            }
        }
    }
    finish(state, broker, scope, resource_type, resource_name, current, altered)
}

/// AlterConfigs (deprecated by KIP-339) of one resource: what is not named loses its override.
pub fn replace(
    state: &State,
    broker: &BrokerConfig,
    resource_type: ResourceType,
    resource_name: &str,
    configs: &[(Str, Option<Str>)],
) -> Result<Option<MetadataRecord>, AlterError> {
    let null = configs.iter().filter(|(_, value)| value.is_none());
    check_request(configs.iter().map(|(name, _)| name), null.map(|(name, _)| name))?;
    let scope = check_resource_name(broker, resource_type, resource_name)?;
    let current = overrides(state, resource_type, resource_name);
    let altered =
        configs.iter().filter_map(|(name, value)| Some((name.detached(), value.as_ref()?.detached())));
    finish(state, broker, scope, resource_type, resource_name, current, altered.collect())
}

/// The configs of a topic to be created, checked; as they go into `MetadataRecord::CreateTopic`.
pub fn topic_create_configs(
    state: &State,
    broker: &BrokerConfig,
    configs: &[(Str, Option<Str>)],
) -> Result<Vec<(Str, Str)>, AlterError> {
    let null: Vec<&str> =
        configs.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name as &str).collect();
    if !null.is_empty() {
        let names = null.join(",");
        return refuse(
            ErrorCode::InvalidConfig,
            format!("Null value not supported for topic configs: {names}"),
        );
    }
    let mut overrides: Overrides = configs
        .iter()
        .filter_map(|(name, value)| Some((name.detached(), value.as_ref()?.detached())))
        .collect();
    check_topic(state, broker, &Overrides::new(), &mut overrides)?;
    Ok(overrides.into_iter().collect())
}

fn check_request<'a>(
    names: impl Iterator<Item = &'a Str>,
    null: impl Iterator<Item = &'a Str>,
) -> Result<(), AlterError> {
    let mut names: Vec<&Str> = names.collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    if names.len() != count {
        return refuse(ErrorCode::InvalidRequest, "a config key appears twice");
    }
    let null: Vec<&str> = null.map(|name| name as &str).collect();
    if !null.is_empty() {
        let names = null.join(", ");
        return refuse(ErrorCode::InvalidRequest, format!("Null value not supported for : {names}"));
    }
    Ok(())
}

fn check_resource_name(
    broker: &BrokerConfig,
    resource_type: ResourceType,
    name: &str,
) -> Result<Scope, AlterError> {
    match resource_type {
        ResourceType::Topic if name.is_empty() => {
            refuse(ErrorCode::InvalidRequest, "Default topic resources are not allowed.")
        }
        ResourceType::Topic => match topic_name::validate(name) {
            Ok(()) => Ok(Scope::Topic),
            Err(error) => refuse(ErrorCode::InvalidTopicException, error.to_string()),
        },
        ResourceType::Broker if name.is_empty() => Ok(Scope::Broker),
        ResourceType::Broker => match name.parse::<i32>() {
            Ok(id) if id == broker.node_id() => Ok(Scope::Broker),
            Ok(id) => {
                let expected = broker.node_id();
                refuse(
                    ErrorCode::InvalidRequest,
                    format!("this is broker {expected}, it cannot alter broker {id}"),
                )
            }
            Err(_) => {
                refuse(ErrorCode::InvalidRequest, format!("Node id must be an integer, but it is: {name}"))
            }
        },
        ResourceType::Group if name.is_empty() => {
            refuse(ErrorCode::InvalidRequest, "Default group resources are not allowed.")
        }
        ResourceType::Group => Ok(Scope::Group),
        ResourceType::ClientMetrics if name.is_empty() => {
            refuse(ErrorCode::InvalidRequest, "Subscription name can't be empty")
        }
        ResourceType::ClientMetrics => Ok(Scope::ClientMetrics),
        ResourceType::BrokerLogger => refuse(
            ErrorCode::InvalidRequest,
            "Ottla's log levels cannot be read or changed over Kafka's protocol",
        ),
    }
}

fn overrides(state: &State, resource_type: ResourceType, name: &str) -> Overrides {
    state.config(resource_type, name).map(|map| Overrides::clone(map)).unwrap_or_default()
}

/// A list that was never set begins with its default.
fn change_list(
    scope: Scope,
    change: &Change,
    current: &Overrides,
    operand: &str,
) -> Result<String, AlterError> {
    let key = find(scope, &change.name).filter(|key| key.config_type == ConfigType::List);
    let Some(key) = key else {
        let (op, name) = (change.op.name(), &change.name);
        return refuse(
            ErrorCode::InvalidConfig,
            format!("Can't {op} to key {name} because its type is not LIST."),
        );
    };
    let text = current.get(&change.name).map(|text| text as &str).or(key.default).unwrap_or("");
    let mut entries: Vec<&str> = text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
    for entry in operand.split(',').map(str::trim) {
        match change.op {
            AlterOp::Append if !entries.contains(&entry) => entries.push(entry),
            AlterOp::Subtract => entries.retain(|kept| *kept != entry),
            _ => {}
        }
    }
    Ok(entries.join(","))
}

fn finish(
    state: &State,
    broker: &BrokerConfig,
    scope: Scope,
    resource_type: ResourceType,
    resource_name: &str,
    current: Overrides,
    mut altered: Overrides,
) -> Result<Option<MetadataRecord>, AlterError> {
    if let Some((name, _)) = altered.iter().find(|(_, value)| value.len() > VALUE_LEN_MAX) {
        let message = format!("the value of {name} is longer than {VALUE_LEN_MAX} bytes");
        return refuse(ErrorCode::InvalidConfig, message);
    }
    match scope {
        Scope::Topic => {
            check_topic(state, broker, &current, &mut altered)?;
            if state.topic(resource_name).is_none() {
                let message = format!("The topic '{resource_name}' does not exist.");
                return refuse(ErrorCode::UnknownTopicOrPartition, message);
            }
        }
        Scope::Broker => check_broker(broker, &current, &mut altered, !resource_name.is_empty())?,
        Scope::Group => check_group(state, broker, &mut altered)?,
        Scope::ClientMetrics => check_client_metrics(&mut altered)?,
    }
    let mut changes: Vec<(Str, Option<Str>)> = Vec::new();
    changes
        .extend(current.keys().filter(|name| !altered.contains_key(*name)).map(|name| (name.clone(), None)));
    let set = altered.into_iter().filter(|(name, value)| current.get(name) != Some(value));
    changes.extend(set.map(|(name, value)| (name, Some(value))));
    if changes.is_empty() {
        return Ok(None);
    }
    Ok(Some(MetadataRecord::SetConfigs { resource_type, resource_name: Str::from(resource_name), changes }))
}

/// Types and checks all overrides; keeps them as Kafka would show them.
fn normalize(
    scope: Scope,
    what: &str,
    unknown_code: ErrorCode,
    overrides: &mut Overrides,
) -> Result<BTreeMap<&'static str, Value>, AlterError> {
    let mut values = BTreeMap::new();
    for (name, text) in overrides {
        let Some(key) = find(scope, name) else {
            return refuse(unknown_code, format!("Unknown {what}: {name}"));
        };
        let value = match Value::parse(key, text) {
            Ok(value) => value,
            Err(error) => return refuse(ErrorCode::InvalidConfig, error.to_string()),
        };
        *text = Str::from(value.to_text());
        values.insert(key.name, value);
    }
    Ok(values)
}

fn check_topic(
    state: &State,
    broker: &BrokerConfig,
    current: &Overrides,
    overrides: &mut Overrides,
) -> Result<(), AlterError> {
    let values = normalize(Scope::Topic, "topic config name", ErrorCode::InvalidConfig, overrides)?;
    let layers = Layers::new(state, broker);
    let number = |name: &str| {
        let key: &'static ConfigKey = find(Scope::Topic, name).expect("a topic key");
        let value = values.get(name).cloned().or_else(|| layers.inherited(key));
        value.and_then(|value| value.as_i64()).expect("a number")
    };
    let (min, max) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"));
    if min > max {
        let message = format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        );
        return refuse(ErrorCode::InvalidConfig, message);
    }
    check_tier(broker, current, |name| {
        let key: &'static ConfigKey = find(Scope::Topic, name).expect("a topic key");
        values.get(name).cloned().or_else(|| layers.inherited(key)).expect("a key with a default")
    })
}

/// The rules of KIP-405, KIP-950: a topic goes into the second tier only where there is one and only if it is not compacted, keeps no
/// more here than in all, and leaves it only when that is meant.
fn check_tier(
    broker: &BrokerConfig,
    current: &Overrides,
    value: impl Fn(&'static str) -> Value,
) -> Result<(), AlterError> {
    let invalid = |message: String| refuse(ErrorCode::InvalidConfig, message);
    let is_on = |name| value(name) == Value::Boolean(true);
    if !is_on("remote.storage.enable") {
        let was_on = current.get("remote.storage.enable").is_some_and(|text| text as &str == "true");
        return match was_on && !is_on("remote.log.delete.on.disable") {
            true => invalid(
                "a topic that leaves the second tier loses what only lies there: say remote.log.delete.on.disable=true as well, or \
                 keep it readable with remote.storage.enable=true and remote.log.copy.disable=true"
                    .to_owned(),
            ),
            false => Ok(()),
        };
    }
    if !broker.remote_log_storage_system_enable() {
        return invalid(
            "remote.storage.enable: this broker has no second tier (remote.log.storage.system.enable)"
                .to_owned(),
        );
    }
    if value("cleanup.policy") != Value::List(vec!["delete".to_owned()]) {
        return invalid("remote.storage.enable: only for topics with cleanup.policy=delete".to_owned());
    }
    for (local, whole) in
        [("local.retention.bytes", "retention.bytes"), ("local.retention.ms", "retention.ms")]
    {
        let number = |name| value(name).as_i64().expect("a number");
        let (here, all) = (number(local), number(whole).max(-1));
        if here == SAME_AS_RETENTION {
            continue;
        }
        if all > -1 && (here == -1 || here > all) {
            return invalid(format!("{local} ({here}) must not be more than {whole} ({all})"));
        }
        if is_on("remote.log.copy.disable") && here != all {
            return invalid(format!(
                "{local} ({here}) must be the same as {whole} ({all}), or -2, while nothing is copied to the second tier"
            ));
        }
    }
    Ok(())
}

fn check_broker(
    broker: &BrokerConfig,
    current: &Overrides,
    altered: &mut Overrides,
    per_broker: bool,
) -> Result<(), AlterError> {
    for (name, text) in altered.iter_mut() {
        let Some(key) = find_with_listener(name) else {
            return refuse(ErrorCode::InvalidRequest, format!("Unknown broker config name: {name}"));
        };
        let of_listener = key.name != name as &str;
        if key.mutability == Mutability::ReadOnly {
            let message = format!("Cannot update these configs dynamically: [{name}]");
            return refuse(ErrorCode::InvalidRequest, message);
        }
        if !of_listener && RELOADABLE_TLS.contains(&key.name) {
            let message = format!("{name} can be changed per listener only: listener.name.<listener>.{name}");
            return refuse(ErrorCode::InvalidRequest, message);
        }
        let of_one_broker = key.mutability == Mutability::PerBroker
            || (of_listener
                && !matches!(
                    key.name,
                    "max.connections" | "max.connection.creation.rate" | "num.network.threads"
                ));
        if !per_broker && of_one_broker {
            let message = format!(
                "Cannot update these configs at default cluster level, broker id must be specified: [{name}]"
            );
            return refuse(ErrorCode::InvalidRequest, message);
        }
        // What stands in the catalog already was checked when it was set.
        if current.get(name) != Some(text) {
            match Value::parse(key, text) {
                Ok(value) => *text = Str::from(value.to_text()),
                Err(error) => return refuse(ErrorCode::InvalidRequest, error.to_string()),
            }
        }
    }
    let retention = altered.get("log.retention.ms").and_then(|text| text.parse::<i64>().ok());
    if retention.is_some_and(|ms| ms == 0 || ms < -1) {
        return refuse(ErrorCode::InvalidRequest, "log.retention.ms must be -1 (for ever) or at least 1");
    }
    let per_ip = altered.get("max.connections.per.ip").map(|text| text as &str);
    let overrides = altered.get("max.connections.per.ip.overrides");
    if overrides.is_some_and(|text| parse_overrides(text).is_none()) {
        let message = format!("max.connections.per.ip.overrides {OVERRIDES_RULE}");
        return refuse(ErrorCode::InvalidRequest, message);
    }
    let empty = overrides.map(|text| text.is_empty());
    if per_ip == Some("0") && empty.unwrap_or(broker.connections_per_ip_overrides().is_empty()) {
        let message = "max.connections.per.ip may be 0 only if max.connections.per.ip.overrides has entries";
        return refuse(ErrorCode::InvalidRequest, message);
    }
    Ok(())
}

/// Key and trust stores change per listener (KIP-226); there is no base value that a running broker re-reads.
const RELOADABLE_TLS: [&str; 10] = [
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];

/// Group key, and the broker keys that bound it.
const GROUP_BOUNDS: [(&str, &str, &str); 15] = [
    (
        "consumer.heartbeat.interval.ms",
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    (
        "consumer.session.timeout.ms",
        "group.consumer.min.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
    (
        "consumer.assignment.interval.ms",
        "group.consumer.min.assignment.interval.ms",
        "group.consumer.max.assignment.interval.ms",
    ),
    (
        "share.heartbeat.interval.ms",
        "group.share.min.heartbeat.interval.ms",
        "group.share.max.heartbeat.interval.ms",
    ),
    ("share.session.timeout.ms", "group.share.min.session.timeout.ms", "group.share.max.session.timeout.ms"),
    (
        "share.record.lock.duration.ms",
        "group.share.min.record.lock.duration.ms",
        "group.share.max.record.lock.duration.ms",
    ),
    (
        "share.delivery.count.limit",
        "group.share.min.delivery.count.limit",
        "group.share.max.delivery.count.limit",
    ),
    (
        "share.partition.max.record.locks",
        "group.share.min.partition.max.record.locks",
        "group.share.max.partition.max.record.locks",
    ),
    (
        "share.assignment.interval.ms",
        "group.share.min.assignment.interval.ms",
        "group.share.max.assignment.interval.ms",
    ),
    (
        "streams.heartbeat.interval.ms",
        "group.streams.min.heartbeat.interval.ms",
        "group.streams.max.heartbeat.interval.ms",
    ),
    (
        "streams.session.timeout.ms",
        "group.streams.min.session.timeout.ms",
        "group.streams.max.session.timeout.ms",
    ),
    (
        "streams.assignment.interval.ms",
        "group.streams.min.assignment.interval.ms",
        "group.streams.max.assignment.interval.ms",
    ),
    ("streams.num.standby.replicas", "", "group.streams.max.standby.replicas"),
    ("streams.num.warmup.replicas", "", "group.streams.max.warmup.replicas"),
    ("streams.task.offset.interval.ms", "group.streams.min.task.offset.interval.ms", ""),
];

fn check_group(state: &State, broker: &BrokerConfig, overrides: &mut Overrides) -> Result<(), AlterError> {
    let values = normalize(Scope::Group, "group config name", ErrorCode::InvalidConfig, overrides)?;
    let layers = Layers::new(state, broker);
    let of_broker = |name: &str| {
        let value = find(Scope::Broker, name).and_then(|key| layers.value(key));
        value.and_then(|value| value.as_i64())
    };
    for (name, min, max) in GROUP_BOUNDS {
        let Some(value) = values.get(name).and_then(Value::as_i64) else { continue };
        if of_broker(min).is_some_and(|bound| value < bound) {
            return refuse(
                ErrorCode::InvalidConfig,
                format!("{name} must be greater than or equal to {min}"),
            );
        }
        if of_broker(max).is_some_and(|bound| value > bound) {
            return refuse(ErrorCode::InvalidConfig, format!("{name} must be less than or equal to {max}"));
        }
    }
    if let Some(Value::Text(assignor)) = values.get("streams.assignor.name")
        && let Some(Value::List(known)) =
            find(Scope::Broker, "group.streams.assignors").and_then(|key| layers.value(key))
        && !known.contains(assignor)
    {
        let message = format!("streams.assignor.name must be one of {}", known.join(", "));
        return refuse(ErrorCode::InvalidConfig, message);
    }
    for kind in ["consumer", "share", "streams"] {
        let effective = |suffix: &str| {
            let name = format!("{kind}.{suffix}");
            let key = find(Scope::Group, &name).expect("a group key");
            let value = values.get(key.name).cloned().or_else(|| layers.inherited(key));
            value.and_then(|value| value.as_i64()).expect("a number")
        };
        if effective("session.timeout.ms") <= effective("heartbeat.interval.ms") {
            let message =
                format!("{kind}.session.timeout.ms must be greater than {kind}.heartbeat.interval.ms");
            return refuse(ErrorCode::InvalidConfig, message);
        }
    }
    Ok(())
}

fn check_client_metrics(overrides: &mut Overrides) -> Result<(), AlterError> {
    let values = normalize(
        Scope::ClientMetrics,
        "client metrics configuration",
        ErrorCode::InvalidRequest,
        overrides,
    )?;
    if let Some(interval) = values.get("interval.ms").and_then(Value::as_i64)
        && !(100..=3_600_000).contains(&interval)
    {
        let message = format!(
            "Invalid value {interval} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
        );
        return refuse(ErrorCode::InvalidRequest, message);
    }
    if let Some(Value::List(patterns)) = values.get("match") {
        for pattern in patterns {
            if !is_client_match(pattern) {
                let message = format!("Illegal client matching pattern: {pattern}");
                return refuse(ErrorCode::InvalidConfig, message);
            }
        }
    }
    Ok(())
}

/// `name=regular expression` (KIP-714).
fn is_client_match(pattern: &str) -> bool {
    const NAMES: [&str; 6] = [
        "client_instance_id",
        "client_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    ];
    match pattern.split_once('=') {
        Some((name, value)) => {
            NAMES.contains(&name.trim()) && !value.contains('=') && regex::Regex::new(value.trim()).is_ok()
        }
        None => false,
    }
}
