//! Stories told to the broker in real messages: encoded, handed over as frames, answered, decoded.
#![allow(clippy::disallowed_methods)]

mod api_versions;
mod authorization;
mod configs;
mod consumer_groups;
mod dead_letters;
mod elsewhere;
mod fetch;
mod fetch_sessions;
mod fuzz_entries;
mod groups;
mod house;
mod limits;
mod moves;
mod neighbours;
mod offsets;
mod produce;
mod quotas;
mod sasl;
mod share_groups;
mod streams_groups;
mod takeover;
mod telemetry;
mod topics;
mod transactions;
mod update_features;
