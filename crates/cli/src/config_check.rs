//! `ottla config check`: what `serve` would say about these properties, without starting anything.

use std::path::PathBuf;

use catalog::config::BrokerConfig;
use serde_json::json;

use crate::arguments::{Output, Properties};
use crate::exit::{Done, Failure};
use crate::{output, serve::properties};

pub fn run(file: Option<PathBuf>, given: Properties, output: Output) -> Done {
    let all = properties::gather(&given, file.as_deref())?;
    let (config, warnings) = BrokerConfig::new(all.clone()).map_err(Failure::usage)?;
    properties::listeners("listeners", &all)?;
    properties::listeners("advertised.listeners", &all)?;
    match output {
        Output::Json => {
            let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            output::json(&json!({ "properties": config.started_with(), "warnings": warnings }))
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
