//! Every config key of Ottla, in one table: name, type, default, scope, validator, sensitivity, mutability,
//! synonyms, effect and a sentence on what it does.
//!
//! Effective values reach the other rooms as typed snapshots: [`BrokerConfig`] (what this broker runs with) and
//! [`TopicConfig`] (what holds for one topic). [`describe`] and [`alter`] are all that DescribeConfigs,
//! AlterConfigs, IncrementalAlterConfigs and the configs of CreateTopics need. The reference for users,
//! `docs/config.md`, is generated from the table ([`reference`]).
//!
//! Where the table differs from Kafka stands in [`differences`].

pub mod alter;
mod broker_config;
mod broker_keys;
pub mod describe;
pub mod differences;
mod group_config;
mod group_keys;
mod key;
mod layers;
mod own_keys;
pub mod properties;
mod reasons;
pub mod reference;
mod topic_config;
mod topic_keys;
mod value;

pub use alter::{AlterError, AlterOp, Change};
pub use broker_config::{BrokerConfig, BrokerConfigError, ConfigWarning, LogSync};
pub use describe::{ConfigSource, DescribeError, DescribeOptions, Described, DescribedSynonym};
pub use group_config::{GroupConfig, ShareConfig, ShareOffsetReset};
pub use key::{ConfigKey, ConfigType, Effect, Mutability, Scope, Synonym, Validator};
pub use topic_config::{CleanupPolicy, TimestampType, TopicCompression, TopicConfig};
pub use value::{Value, ValueError};

use crate::record::ResourceType;

/// All keys of a scope, sorted by name.
pub fn keys(scope: Scope) -> impl Iterator<Item = &'static ConfigKey> {
    let (kafka, own): (&'static [ConfigKey], &'static [ConfigKey]) = match scope {
        Scope::Topic => (topic_keys::TOPIC_KEYS, &[]),
        Scope::Broker => (broker_keys::BROKER_KEYS, own_keys::OWN_KEYS),
        Scope::Group => (group_keys::GROUP_KEYS, &[]),
        Scope::ClientMetrics => (group_keys::CLIENT_METRICS_KEYS, &[]),
    };
    let mut all: Vec<_> = kafka.iter().chain(own).collect();
    all.sort_by_key(|key| key.name);
    all.into_iter()
}

/// The key of that exact name.
pub fn find(scope: Scope, name: &str) -> Option<&'static ConfigKey> {
    let search = |keys: &'static [ConfigKey]| {
        keys.binary_search_by(|key| key.name.cmp(name)).ok().map(|index| &keys[index])
    };
    match scope {
        Scope::Topic => search(topic_keys::TOPIC_KEYS),
        Scope::Broker => search(broker_keys::BROKER_KEYS).or_else(|| search(own_keys::OWN_KEYS)),
        Scope::Group => search(group_keys::GROUP_KEYS),
        Scope::ClientMetrics => search(group_keys::CLIENT_METRICS_KEYS),
    }
}

/// Checks a value; gives it back as Kafka would show it. No key of that name: `Ok(None)`.
pub fn validate(scope: Scope, name: &str, text: &str) -> Result<Option<String>, ValueError> {
    match find(scope, name) {
        Some(key) => Ok(Some(Value::parse(key, text)?.to_text())),
        None => Ok(None),
    }
}

/// The scope of a resource that has configs; a broker's loggers have none.
pub fn scope(resource_type: ResourceType) -> Option<Scope> {
    match resource_type {
        ResourceType::Topic => Some(Scope::Topic),
        ResourceType::Broker => Some(Scope::Broker),
        ResourceType::Group => Some(Scope::Group),
        ResourceType::ClientMetrics => Some(Scope::ClientMetrics),
        ResourceType::BrokerLogger => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPES: [Scope; 4] = [Scope::Topic, Scope::Broker, Scope::Group, Scope::ClientMetrics];

    #[test]
    fn the_tables_are_sorted_and_every_default_is_valid() {
        for table in [
            topic_keys::TOPIC_KEYS,
            broker_keys::BROKER_KEYS,
            own_keys::OWN_KEYS,
            group_keys::GROUP_KEYS,
            group_keys::CLIENT_METRICS_KEYS,
        ] {
            assert!(table.is_sorted_by(|left, right| left.name < right.name));
        }
        for key in SCOPES.into_iter().flat_map(keys) {
            assert!(key.documentation.ends_with('.'), "{}", key.name);
            if let Some(default) = key.default {
                assert_eq!(Value::parse(key, default).map(|value| value.to_text()), Ok(default.to_owned()));
            }
        }
    }

    #[test]
    fn synonyms_are_broker_keys_of_the_same_kind() {
        for key in [Scope::Topic, Scope::Group].into_iter().flat_map(keys) {
            for synonym in key.synonyms {
                assert!(find(Scope::Broker, synonym.name).is_some(), "{} behind {}", synonym.name, key.name);
            }
        }
    }
}
