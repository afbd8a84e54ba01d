//! Subscriptions: configs of resource type CLIENT_METRICS, and what they come to for one client.

use std::sync::Arc;
use std::time::Duration;

use catalog::ConfigMap;
use parking_lot::Mutex;
use protocol::batch::crc32c;
use protocol::{Str, Uuid};
use regex::Regex;

use super::Who;

/// Kafka's `INTERVAL_MS_DEFAULT`: also what a client is told that no subscription is for.
const INTERVAL_MS_DEFAULT: i32 = 300_000;
/// Asks for all metrics, and stands alone then.
const ALL_METRICS: &str = "*";

/// What one client is to push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub interval_ms: i32,
    /// Prefixes, in order; none: nothing.
    pub metrics: Vec<Str>,
}

impl Wanted {
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.max(0) as u64)
    }

    /// As Kafka makes it, a checksum of what is wanted mixed with the client's id: another subscription has another id.
    pub fn subscription_id(&self, instance_id: Uuid) -> i32 {
        let names: Vec<&str> = self.metrics.iter().map(Str::as_str).collect();
        let checksum = crc32c(format!("[{}]{}", names.join(", "), self.interval_ms).as_bytes());
        let id = instance_id.as_u128();
        let folded = (id >> 96) ^ (id >> 64) ^ (id >> 32) ^ id;
        (checksum ^ folded as u32) as i32
    }
}

/// All subscriptions, compiled again when one of them has changed. The catalog shares the configs of a resource behind an `Arc`, so
/// nothing has to be told about changes.
#[derive(Default)]
pub(super) struct Subscriptions {
    compiled: Mutex<Vec<Subscription>>,
}

struct Subscription {
    config: ConfigMap,
    interval_ms: i32,
    metrics: Vec<Str>,
    patterns: Vec<(String, Regex)>,
}

impl Subscriptions {
    pub fn wanted<'a>(
        &self,
        configs: impl Iterator<Item = (&'a Str, &'a ConfigMap)>,
        who: &Who,
    ) -> Arc<Wanted> {
        let configs: Vec<&ConfigMap> = configs.map(|(_, config)| config).collect();
        let mut compiled = self.compiled.lock();
        let is_current = compiled.len() == configs.len()
            && compiled.iter().zip(&configs).all(|(known, now)| Arc::ptr_eq(&known.config, now));
        if !is_current {
            *compiled = configs.into_iter().map(Subscription::compile).collect();
        }
        let mut wanted = Wanted { interval_ms: INTERVAL_MS_DEFAULT, metrics: Vec::new() };
        for subscription in compiled.iter().filter(|subscription| subscription.is_for(who)) {
            wanted.interval_ms = wanted.interval_ms.min(subscription.interval_ms);
            wanted.metrics.extend(subscription.metrics.iter().cloned());
        }
        if wanted.metrics.iter().any(|metric| metric == ALL_METRICS) {
            wanted.metrics = vec![Str::from_static(ALL_METRICS)];
        }
        wanted.metrics.sort_unstable();
        wanted.metrics.dedup();
        Arc::new(wanted)
    }
}

impl Subscription {
    /// What does not parse was refused when it was set (`catalog::config::alter`); a pattern that should not compile is for nobody.
    fn compile(config: &ConfigMap) -> Subscription {
        let list = |key: &str| -> Vec<Str> {
            let text = config.get(key).map_or("", Str::as_str);
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Str::from).collect()
        };
        let interval = config.get("interval.ms").and_then(|text| text.trim().parse().ok());
        let pattern = |text: &Str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            // Of the whole value, as Java's `matches`.
            let regex = Regex::new(&format!("^(?:{})$", value.trim()));
            let never = || Regex::new("$.^").expect("a pattern");
            (name.trim().to_owned(), regex.unwrap_or_else(|_| never()))
        };
        Subscription {
            config: config.clone(),
            interval_ms: interval.unwrap_or(INTERVAL_MS_DEFAULT),
            metrics: list("metrics"),
            patterns: list("match").iter().map(pattern).collect(),
        }
    }

    fn is_for(&self, who: &Who) -> bool {
        self.patterns.iter().all(|(name, pattern)| {
            let value = match name.as_str() {
                "client_instance_id" => Some(who.instance_id.to_string()),
                "client_id" => who.client_id.as_ref().map(|id| id.as_str().to_owned()),
                "client_software_name" => who.software_name.as_ref().map(|name| name.as_str().to_owned()),
                "client_software_version" => {
                    who.software_version.as_ref().map(|text| text.as_str().to_owned())
                }
                "client_source_address" => Some(who.address.clone()),
                "client_source_port" => Some(who.port.to_string()),
                _ => None,
            };
            value.is_some_and(|value| pattern.is_match(&value))
        })
    }
}
