//! What is asked. One file per family of APIs; a script is a function that asks one API in the version of the run, good and bad, and
//! others where it needs them. Add yours to the list of its file.

mod api_versions;
mod cluster;
mod configs;
mod consumer_groups;
mod delegation_tokens;
mod fetch;
mod group_admin;
mod group_membership;
mod group_offsets;
mod metadata;
mod offsets;
mod produce;
mod sasl;
mod security;
mod setup;
mod share_state;
mod shares;
mod streams_groups;
mod telemetry;
mod topics;
mod transactions;

use protocol::ApiKey;

use crate::conversation::Conversation;

/// Run once for every version of its API that Kafka advertises.
#[derive(Debug)]
pub struct Script {
    pub api: ApiKey,
    pub name: &'static str,
    pub run: fn(&mut Conversation),
    /// It begins at the listener with SASL.
    pub needs_sasl: bool,
}

const fn script(api: ApiKey, name: &'static str, run: fn(&mut Conversation)) -> Script {
    Script { api, name, run, needs_sasl: false }
}

const fn sasl_script(api: ApiKey, name: &'static str, run: fn(&mut Conversation)) -> Script {
    Script { api, name, run, needs_sasl: true }
}

pub fn all() -> impl Iterator<Item = &'static Script> {
    const FAMILIES: &[&[Script]] = &[
        api_versions::SCRIPTS,
        metadata::SCRIPTS,
        topics::SCRIPTS,
        configs::SCRIPTS,
        produce::SCRIPTS,
        fetch::SCRIPTS,
        offsets::SCRIPTS,
        group_membership::SCRIPTS,
        group_offsets::SCRIPTS,
        group_admin::SCRIPTS,
        consumer_groups::SCRIPTS,
        shares::SCRIPTS,
        share_state::SCRIPTS,
        streams_groups::SCRIPTS,
        transactions::SCRIPTS,
        security::SCRIPTS,
        sasl::SCRIPTS,
        delegation_tokens::SCRIPTS,
        cluster::SCRIPTS,
        telemetry::SCRIPTS,
    ];
    FAMILIES.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_per_api() {
        let mut seen = BTreeSet::new();
        for script in super::all() {
            assert!(seen.insert((script.api, script.name)), "{} of {} twice", script.name, script.api);
        }
    }
}
