//! Stories of the catalog: what survives a crash, what stops a start, what Kafka answers about configs.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod append;
mod config;
mod crash;
mod damage;
mod golden;
mod replay;
mod support;
