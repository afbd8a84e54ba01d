//! Stories of the catalog: what survives a crash, what stops a start, what Kafka answers about configs.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod append;
mod bucket;
mod config;
#[path = "../../../protocol/tests/it/counting.rs"]
mod counting;
mod crash;
mod damage;
mod fuzz_entries;
mod fuzz_smoke;
mod golden;
mod level;
mod replay;
mod support;
