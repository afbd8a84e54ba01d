//! `ottla config check`: what `serve` would say about these properties, without starting anything.

use std::collections::BTreeMap;
use std::path::PathBuf;

use catalog::config::BrokerConfig;
use serde_json::json;
use world::clock::RealClock;

use crate::arguments::{Output, Properties};
use crate::exit::{Done, Failure};
use crate::output;
use crate::serve::{properties, security::Security};

pub fn run(file: Option<PathBuf>, given: Properties, output: Output) -> Done {
    let all = properties::gather(&given, file.as_deref())?;
    let (config, warnings) = BrokerConfig::new(all.clone()).map_err(Failure::usage)?;
    let listeners = properties::listeners("listeners", &all)?;
    // Whether an address is one that others can reach is found out when it is bound.
    Security::open(&config, &listeners, false, &RealClock::shared())?;
    properties::listeners("advertised.listeners", &all)?;
    match output {
        Output::Json => {
            let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            let shown: BTreeMap<&String, &str> = config
                .started_with()
                .iter()
                .map(|(name, text)| (name, if config.is_sensitive(name) { "[hidden]" } else { text }))
                .collect();
            output::json(&json!({ "properties": shown, "warnings": warnings }))
        }
        Output::Table => {
            let mut text: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            text.push_str(&match (all.len(), warnings.len()) {
                (0, _) => "nothing to check: every property has its default\n".to_owned(),
                (count, 0) => format!("ok: {count} properties\n"),
                (count, warnings) => format!("ok: {count} properties, {warnings} of them with a warning\n"),
            });
            output::print(&text)
        }
    }
}
