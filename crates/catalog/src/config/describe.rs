//! DescribeConfigs: the effective value of every key of a resource, where it comes from, and what stands behind it.
//!
//! Source: Kafka's `ConfigHelper`. Two of its habits are kept on purpose, tools rely on them: a synonym list begins
//! with the first entry of the key's own (or main) name, so that a value inherited from `log.retention.hours` alone
//! shows no synonyms; and the source of a value is that of the first synonym, DEFAULT_CONFIG without any.

use std::collections::BTreeMap;

use protocol::{ErrorCode, Str};

use super::broker_config::find_with_listener;
use super::key::{ConfigKey, Mutability, Scope};
use super::layers::{Layers, parse_known};
use super::{BrokerConfig, Value, find, keys};
use crate::record::ResourceType;
use crate::state::State;
use crate::topic_name;

/// Kafka's `DescribeConfigsResponse.ConfigSource`, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum ConfigSource {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    ClientMetrics = 7,
    Group = 8,
}

impl ConfigSource {
    pub fn code(self) -> i8 {
        self as i8
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct DescribeOptions {
    pub synonyms: bool,
    pub documentation: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedSynonym {
    pub name: Str,
    /// None for passwords.
    pub value: Option<Str>,
    pub source: ConfigSource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub name: Str,
    /// None for passwords and for keys without a value.
    pub value: Option<Str>,
    pub read_only: bool,
    pub source: ConfigSource,
    pub is_sensitive: bool,
    pub synonyms: Vec<DescribedSynonym>,
    /// Kafka's number of the type, 0 = unknown.
    pub config_type: i8,
    pub documentation: Option<&'static str>,
}

impl Described {
    /// The flag of version 0.
    pub fn is_default(&self) -> bool {
        self.source == ConfigSource::Default
    }
}

/// A resource that cannot be described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DescribeError {
    pub code: ErrorCode,
    pub message: String,
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, DescribeError> {
    Err(DescribeError { code, message: message.into() })
}

/// The keys asked for (none = all), ordered by name. Names that the resource does not have are left out, as Kafka
/// does.
pub fn describe(
    state: &State,
    broker: &BrokerConfig,
    resource_type: ResourceType,
    resource_name: &str,
    names: Option<&[Str]>,
    options: DescribeOptions,
) -> Result<Vec<Described>, DescribeError> {
    check_resource(state, broker, resource_type, resource_name)?;
    let describer = Describer { state, layers: Layers::new(state, broker), options };
    let mut described = match resource_type {
        ResourceType::Topic => {
            describer.resource(Scope::Topic, resource_type, resource_name, ConfigSource::Topic)
        }
        ResourceType::Group => {
            describer.resource(Scope::Group, resource_type, resource_name, ConfigSource::Group)
        }
        ResourceType::ClientMetrics => describer.resource(
            Scope::ClientMetrics,
            resource_type,
            resource_name,
            ConfigSource::ClientMetrics,
        ),
        ResourceType::Broker if resource_name.is_empty() => describer.cluster_default(),
        ResourceType::Broker => describer.broker(),
        ResourceType::BrokerLogger => Vec::new(),
    };
    if let Some(names) = names {
        described.retain(|entry| names.contains(&entry.name));
    }
    Ok(described)
}

fn check_resource(
    state: &State,
    broker: &BrokerConfig,
    resource_type: ResourceType,
    resource_name: &str,
) -> Result<(), DescribeError> {
    match resource_type {
        ResourceType::Topic => {
            if let Err(error) = topic_name::validate(resource_name) {
                return refuse(ErrorCode::InvalidTopicException, error.to_string());
            }
            if state.topic(resource_name).is_none() {
                return refuse(ErrorCode::UnknownTopicOrPartition, "");
            }
            Ok(())
        }
        ResourceType::Broker if resource_name.is_empty() => Ok(()),
        ResourceType::Broker => match resource_name.parse::<i32>() {
            Err(_) => refuse(
                ErrorCode::InvalidRequest,
                format!("Broker id must be an integer, but it is: {resource_name}"),
            ),
            Ok(id) if id != broker.node_id() => {
                let expected = broker.node_id();
                refuse(
                    ErrorCode::InvalidRequest,
                    format!("this is broker {expected}, it cannot describe broker {id}"),
                )
            }
            Ok(_) => Ok(()),
        },
        ResourceType::BrokerLogger => refuse(
            ErrorCode::InvalidRequest,
            "Ottla's log levels cannot be read or changed over Kafka's protocol",
        ),
        ResourceType::Group if resource_name.is_empty() => {
            refuse(ErrorCode::InvalidRequest, "Group name must not be empty")
        }
        ResourceType::ClientMetrics if resource_name.is_empty() => {
            refuse(ErrorCode::InvalidRequest, "Client metrics subscription name must not be empty")
        }
        ResourceType::Group | ResourceType::ClientMetrics => Ok(()),
    }
}

/// The configs that a topic with these overrides would have: what CreateTopics answers.
pub fn describe_new_topic(state: &State, broker: &BrokerConfig, overrides: &[(Str, Str)]) -> Vec<Described> {
    let overrides = overrides.iter().cloned().collect();
    let describer =
        Describer { state, layers: Layers::new(state, broker), options: DescribeOptions::default() };
    describer.with_overrides(Scope::Topic, Some(&overrides), ConfigSource::Topic)
}

struct Describer<'a> {
    state: &'a State,
    layers: Layers<'a>,
    options: DescribeOptions,
}

impl Describer<'_> {
    /// Topics, groups and client-metrics subscriptions: own overrides over what the broker says.
    fn resource(
        &self,
        scope: Scope,
        resource_type: ResourceType,
        resource_name: &str,
        own_source: ConfigSource,
    ) -> Vec<Described> {
        let overrides = self.state.config(resource_type, resource_name);
        self.with_overrides(scope, overrides.map(|map| map.as_ref()), own_source)
    }

    fn with_overrides(
        &self,
        scope: Scope,
        overrides: Option<&BTreeMap<Str, Str>>,
        own_source: ConfigSource,
    ) -> Vec<Described> {
        let mut described = Vec::new();
        for key in keys(scope) {
            let own = overrides.and_then(|map| map.get(key.name)).map(|text| parse_known(key, text));
            if key.internal && own.is_none() {
                continue;
            }
            let mut synonyms = match key.synonyms.first() {
                Some(main) => self.synonyms(key, main.name),
                // A group key without a broker key shows its own default, a topic key nothing (as Kafka).
                None if scope == Scope::Group => self.own_default(key),
                None => Vec::new(),
            };
            let value = match own {
                Some(own) => {
                    let value = self.shown(key, &own);
                    let name = Str::from_static(key.name);
                    synonyms.insert(0, DescribedSynonym { name, value, source: own_source });
                    Some(own)
                }
                None => self.layers.inherited(key),
            };
            let value = value.and_then(|value| self.shown(key, &value));
            described.push(self.entry(key, Str::from_static(key.name), value, false, synonyms));
        }
        described
    }

    fn broker(&self) -> Vec<Described> {
        let mut described = Vec::new();
        for key in keys(Scope::Broker) {
            let names = own_synonyms(key.name);
            let synonyms = self.synonyms_of(key, &names, key.name);
            if key.internal && synonyms.iter().all(|synonym| synonym.source == ConfigSource::Default) {
                continue;
            }
            let value = self.layers.value(key).and_then(|value| self.shown(key, &value));
            let read_only = key.mutability == Mutability::ReadOnly;
            described.push(self.entry(key, Str::from_static(key.name), value, read_only, synonyms));
        }
        let dynamic = self.layers.dynamic_broker().chain(self.layers.dynamic_default());
        self.add_foreign(
            self.layers.started_with().chain(dynamic.map(|name| name as &str)),
            |_| true,
            &mut described,
        );
        described.sort_by(|left, right| left.name.cmp(&right.name));
        described
    }

    /// The resource "": what is set for all brokers, and nothing else.
    fn cluster_default(&self) -> Vec<Described> {
        let mut described = Vec::new();
        for name in self.layers.dynamic_default() {
            let Some(key) = find(Scope::Broker, name) else { continue };
            let mut synonyms = self.synonyms_of(key, &own_synonyms(key.name), key.name);
            synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
            let value = synonyms.first().and_then(|synonym| synonym.value.clone());
            let read_only = key.mutability == Mutability::ReadOnly;
            described.push(self.entry(key, Str::from_static(key.name), value, read_only, synonyms));
        }
        let of_all = |source| source == ConfigSource::DynamicDefaultBroker;
        self.add_foreign(self.layers.dynamic_default().map(|name| name as &str), of_all, &mut described);
        described
    }

    /// Keys that the table does not have: those with a listener in front, and what nobody knows, whose values are
    /// hidden because they may be secrets.
    fn add_foreign<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        from: impl Fn(ConfigSource) -> bool,
        described: &mut Vec<Described>,
    ) {
        for name in names.filter(|name| find(Scope::Broker, name).is_none()) {
            if described.iter().any(|entry| entry.name == *name) {
                continue;
            }
            let known = find_with_listener(name);
            let sensitive = known.is_none_or(ConfigKey::is_sensitive);
            let mut found: Vec<&str> = vec![name];
            found.extend(known.map(|key| key.name));
            let synonyms: Vec<DescribedSynonym> = self
                .layers
                .all(&found)
                .into_iter()
                .filter(|found| from(found.source))
                .map(|found| DescribedSynonym {
                    name: Str::from(found.name),
                    value: (!sensitive).then(|| Str::from(found.text)),
                    source: found.source,
                })
                .collect();
            let own = synonyms.iter().find(|synonym| synonym.name == *name);
            described.push(Described {
                name: Str::from(name),
                value: own.and_then(|synonym| synonym.value.clone()),
                read_only: true,
                source: own.map_or(ConfigSource::Default, |synonym| synonym.source),
                is_sensitive: sensitive,
                config_type: known.map_or(0, |key| key.config_type.code()),
                documentation: known.map(|key| key.documentation).filter(|_| self.options.documentation),
                synonyms: if self.options.synonyms { synonyms } else { Vec::new() },
            });
        }
    }

    fn entry(
        &self,
        key: &'static ConfigKey,
        name: Str,
        value: Option<Str>,
        read_only: bool,
        synonyms: Vec<DescribedSynonym>,
    ) -> Described {
        Described {
            name,
            value,
            read_only,
            source: synonyms.first().map_or(ConfigSource::Default, |synonym| synonym.source),
            is_sensitive: key.is_sensitive(),
            synonyms: if self.options.synonyms { synonyms } else { Vec::new() },
            config_type: key.config_type.code(),
            documentation: self.options.documentation.then_some(key.documentation),
        }
    }

    /// The broker keys behind a topic or group key.
    fn synonyms(&self, key: &'static ConfigKey, main: &'static str) -> Vec<DescribedSynonym> {
        self.synonyms_of(key, &own_synonyms(main), main)
    }

    fn synonyms_of(
        &self,
        key: &ConfigKey,
        names: &[&'static str],
        main: &'static str,
    ) -> Vec<DescribedSynonym> {
        let all = self.layers.all(names).into_iter().map(|found| DescribedSynonym {
            name: Str::from(found.name),
            value: (!key.is_sensitive()).then(|| Str::from(found.text)),
            source: found.source,
        });
        all.skip_while(|synonym| synonym.name != *main).collect()
    }

    fn own_default(&self, key: &'static ConfigKey) -> Vec<DescribedSynonym> {
        let default = key.default.map(|default| DescribedSynonym {
            name: Str::from_static(key.name),
            value: Some(Str::from_static(default)),
            source: ConfigSource::Default,
        });
        default.into_iter().collect()
    }

    fn shown(&self, key: &ConfigKey, value: &Value) -> Option<Str> {
        (!key.is_sensitive()).then(|| Str::from(value.to_text()))
    }
}

/// Broker keys that say the same thing in other units, the one that wins first.
fn own_synonyms(name: &'static str) -> Vec<&'static str> {
    match name {
        "log.roll.ms" | "log.roll.hours" => vec!["log.roll.ms", "log.roll.hours"],
        "log.roll.jitter.ms" | "log.roll.jitter.hours" => vec!["log.roll.jitter.ms", "log.roll.jitter.hours"],
        "log.retention.ms" | "log.retention.minutes" | "log.retention.hours" => {
            vec!["log.retention.ms", "log.retention.minutes", "log.retention.hours"]
        }
        "log.flush.interval.ms" => vec!["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
        name => vec![name],
    }
}
