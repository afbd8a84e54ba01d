//! Where a broker value comes from: this broker's overrides, the cluster-wide ones, what it was started with, the
//! default. The first layer that has the key, or one of its synonyms, wins.

use std::collections::BTreeMap;

use protocol::Str;

use super::describe::ConfigSource;
use super::key::Scope;
use super::{BrokerConfig, ConfigKey, ConfigType, Value, find};
use crate::record::ResourceType;
use crate::state::State;

pub struct Layers<'a> {
    dynamic_broker: Option<&'a BTreeMap<Str, Str>>,
    dynamic_default: Option<&'a BTreeMap<Str, Str>>,
    started_with: &'a BTreeMap<String, String>,
}

pub struct Found<'a> {
    pub name: &'a str,
    pub text: &'a str,
    pub source: ConfigSource,
}

impl<'a> Layers<'a> {
    pub fn new(state: &'a State, broker: &'a BrokerConfig) -> Self {
        let of = |name: &str| state.config(ResourceType::Broker, name).map(|map| map.as_ref());
        Self {
            dynamic_broker: of(&broker.node_id().to_string()),
            dynamic_default: of(""),
            started_with: broker.started_with(),
        }
    }

    pub fn of_start(started_with: &'a BTreeMap<String, String>) -> Self {
        Self { dynamic_broker: None, dynamic_default: None, started_with }
    }

    pub fn dynamic_broker(&self) -> impl Iterator<Item = &'a Str> {
        self.dynamic_broker.into_iter().flat_map(BTreeMap::keys)
    }

    pub fn dynamic_default(&self) -> impl Iterator<Item = &'a Str> {
        self.dynamic_default.into_iter().flat_map(BTreeMap::keys)
    }

    pub fn started_with(&self) -> impl Iterator<Item = &'a str> {
        self.started_with.keys().map(String::as_str)
    }

    /// All layers that have one of the names, in the order in which they win: layer by layer, name by name.
    pub fn all<'n: 'a>(&self, names: &[&'n str]) -> Vec<Found<'a>> {
        let mut all = Vec::new();
        let dynamic = [
            (self.dynamic_broker, ConfigSource::DynamicBroker),
            (self.dynamic_default, ConfigSource::DynamicDefaultBroker),
        ];
        for (layer, source) in dynamic {
            for &name in names {
                if let Some(text) = layer.and_then(|layer| layer.get(name)) {
                    all.push(Found { name, text, source });
                }
            }
        }
        for &name in names {
            if let Some(text) = self.started_with.get(name) {
                all.push(Found { name, text, source: ConfigSource::StaticBroker });
            }
        }
        for &name in names {
            if let Some(text) = find(Scope::Broker, name).and_then(|key| key.default) {
                all.push(Found { name, text, source: ConfigSource::Default });
            }
        }
        all
    }

    /// The value of a broker key itself, without synonyms; none = null.
    pub fn value(&self, key: &'static ConfigKey) -> Option<Value> {
        let found = self.all(&[key.name]).into_iter().next()?;
        Some(parse_known(key, found.text))
    }

    /// The value that a topic or group key takes from the broker when the resource has none of its own.
    pub fn inherited(&self, key: &'static ConfigKey) -> Option<Value> {
        let names: Vec<&str> = key.synonyms.iter().map(|synonym| synonym.name).collect();
        let Some(found) = self.all(&names).into_iter().next() else {
            return key.default.map(|default| parse_known(key, default));
        };
        let synonym = key.synonyms.iter().find(|synonym| synonym.name == found.name)?;
        let broker_key = find(Scope::Broker, synonym.name)?;
        Some(match parse_known(broker_key, found.text) {
            Value::Integer(value) => Value::Integer(value.saturating_mul(synonym.factor)),
            // The first assignor of the broker's list is the one that groups get.
            Value::List(entries) if key.config_type != ConfigType::List => {
                Value::Text(entries.into_iter().next().unwrap_or_default())
            }
            other => other,
        })
    }
}

/// Values are checked before they are kept. One of a release with other rules falls back to the default instead
/// of stopping the broker.
pub fn parse_known(key: &ConfigKey, text: &str) -> Value {
    Value::parse(key, text).unwrap_or_else(|_| {
        let default = key.default.unwrap_or("");
        Value::parse(key, default).unwrap_or_else(|_| Value::Text(default.to_owned()))
    })
}
