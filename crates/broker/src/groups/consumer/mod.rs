//! Consumer groups of the new protocol (KIP-848): the broker assigns, and members learn in their heartbeats what to give up
//! and what to take.
//!
//! `heartbeat.rs` has the one request that members send (start there), `checks.rs` what is refused in it, `target.rs` when and how
//! all of it is assigned anew; `group.rs` what the records of a group say;
//! `reconcile.rs` the way of one member to its assignment; `assignor/` who should get what; `pattern.rs` subscriptions by
//! regular expression. `migration.rs` turns classic groups into these and back, `classic.rs` lets members of both kinds live in
//! one group meanwhile. `groups/entry.rs` keeps what is changed and what is in the log apart.
//!
//! Behaviour after Kafka's `GroupMetadataManager`. Where we differ: a regular expression is looked up within the heartbeat that
//! brings it, so its topics are in the first answer; a static member that joins again under the id it has takes its place back,
//! where Kafka answers UNRELEASED_INSTANCE_ID until its session ends (its first answer may have been lost).

mod assignment;
mod assignor;
mod checks;
mod classic;
mod describe;
mod embedded;
mod event;
mod group;
mod heartbeat;
mod member;
mod migration;
mod pattern;
mod reconcile;
mod records;
mod replay;
mod target;

pub use assignment::Partitions;
pub use assignor::{ASSIGNORS, Assignor};
#[cfg(test)]
pub use checks::PATTERNS_PER_GROUP_MAX;
pub use event::*;
pub use group::{Change, ConsumerGroup, Epoch, Stored, TargetEpoch};
pub use member::{JOINING_EPOCH, LEAVING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH, Profile};
pub use pattern::compile as compile_pattern;
pub use records::{is_consumer_record, read as read_record};

pub type Entry = super::entry::Entry<ConsumerGroup>;
type Work = super::entry::Work<ConsumerGroup>;
