//! `docs/config.md`: the table for people. A test writes it anew when asked and fails when it is stale.

use super::key::{ConfigKey, Effect, Mutability, Scope, Validator};
use super::keys;

pub fn markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         Generated from `catalog::config`; do not edit. Renew it with `OTTLA_WRITE_DOCS=1 cargo test -p catalog`.\n\n\
         Broker keys are given at start (`--set KEY=VALUE` or a `server.properties` file); those marked *per broker* \
         or *cluster-wide* can also be changed while Ottla runs (`kafka-configs`, or any admin client). Topic keys \
         are set per topic; without an override they take the value of the broker key named in their row.\n\
         A key without effect is accepted, kept and shown, so that tools and files written for Apache Kafka go on \
         working; giving one at start prints a warning.\n",
    );
    let parts = [
        (Scope::Topic, "Topic keys"),
        (Scope::Broker, "Broker keys"),
        (Scope::Group, "Group keys"),
        (Scope::ClientMetrics, "Client-metrics keys"),
    ];
    for (scope, title) in parts {
        if scope == Scope::Broker {
            section(&mut out, scope, "Broker keys of Ottla", |key| key.ours);
        }
        section(&mut out, scope, title, |key| !key.ours && key.effect == Effect::Effective && !key.internal);
        let without = format!("{title} without effect");
        section(&mut out, scope, &without, |key| {
            !key.ours && key.effect != Effect::Effective && !key.internal
        });
    }
    out.push_str("\n## Defaults other than Kafka's\n\n| key | why |\n|---|---|\n");
    for (key, reason) in super::differences::DEFAULTS {
        out.push_str(&format!("| `{key}` | {reason} |\n"));
    }
    out
}

fn section(out: &mut String, scope: Scope, title: &str, wanted: impl Fn(&ConfigKey) -> bool) {
    let rows: Vec<&ConfigKey> = keys(scope).filter(|key| wanted(key)).collect();
    if rows.is_empty() {
        return;
    }
    out.push_str(&format!("\n## {title}\n\n| key | type | default | allowed | change | what it does |\n|---|---|---|---|---|---|\n"));
    for key in rows {
        let default = key.default.map_or("–".to_owned(), |default| format!("`{default}`"));
        let mut what = key.documentation.to_owned();
        if let Effect::NoEffect(reason) = key.effect {
            what.push_str(&format!(" *No effect: {reason}.*"));
        }
        if !key.synonyms.is_empty() {
            let names: Vec<String> =
                key.synonyms.iter().map(|synonym| format!("`{}`", synonym.name)).collect();
            what.push_str(&format!(" Broker: {}.", names.join(", ")));
        }
        let change = match (scope, key.mutability) {
            (Scope::Broker, Mutability::ReadOnly) => "at start",
            (Scope::Broker, Mutability::PerBroker) => "per broker",
            (Scope::Broker, Mutability::ClusterWide) => "cluster-wide",
            _ => "any time",
        };
        let (name, kind, allowed) = (key.name, key.config_type.name().to_lowercase(), allowed(key));
        let default = if key.default == Some("") { "empty".to_owned() } else { default };
        out.push_str(&format!("| `{name}` | {kind} | {default} | {allowed} | {change} | {what} |\n"));
    }
}

fn allowed(key: &ConfigKey) -> String {
    match key.validator {
        Validator::Any => String::new(),
        Validator::IntegerRange { min, max: i64::MAX } => format!("≥ {min}"),
        Validator::IntegerRange { min, max } => format!("{min} … {max}"),
        Validator::IntegerRangeOr { min, max, or } => format!("{min} … {max}, {or}"),
        Validator::DoubleRange { min, max } => format!("{min} … {max}"),
        Validator::OneOf(values) | Validator::OneOfIgnoreCase(values) => values.join(", "),
        Validator::NotEmpty => "not empty".to_owned(),
        Validator::List { values: [], empty_allowed: true } => String::new(),
        Validator::List { values: [], empty_allowed: false } => "not empty".to_owned(),
        Validator::List { values, .. } => values.join(", "),
        Validator::ThrottledReplicas => "`*` or partition:broker".to_owned(),
        Validator::DeadLetterTopic => "not `__…`".to_owned(),
        Validator::ShareOffsetReset => "latest, earliest, by_duration:PnDTnHnMn.nS".to_owned(),
    }
}
