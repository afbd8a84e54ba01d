//! Stories about groups, told to the pure shard: no log, no clock, no task.

mod consumers;
mod consumers_random;
pub(super) mod fake_catalog;
mod membership;
mod migration;
mod model;
mod offsets;
mod pending;
mod random;
mod replay;
mod streams;
mod streams_random;

pub use fake_catalog::FakeCatalog;
