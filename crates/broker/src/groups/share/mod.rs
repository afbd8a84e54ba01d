//! Share groups (KIP-932): members share partitions instead of having them to themselves, so the assignment only says who reads where,
//! and nobody waits for another one to give something up.
//!
//! `heartbeat.rs` has the one request that members send (start there); `group.rs` what the records of a group say, `assignor.rs` who
//! should read what; `states.rs` the way of partitions from "subscribed" to "their state is kept by the share coordinator", which they
//! have to go before anybody gets them; `offsets.rs` what tools change of that.
//!
//! Behaviour after Kafka's `GroupMetadataManager`. Where we differ: changing offsets raises the epoch of the group, so that a leader that
//! still has the old state is fenced; states that were being initialized when the coordinator ended are taken up at the next heartbeat,
//! without a pause.

mod assignor;
mod event;
mod group;
mod heartbeat;
mod offsets;
mod records;
mod replay;
mod states;
#[cfg(test)]
mod tests;

pub use event::*;
pub use group::{Change, Profile, ShareGroup, Stored};
pub use records::{is_share_record, read as read_record};

pub type Entry = super::entry::Entry<ShareGroup>;
type Work = super::entry::Work<ShareGroup>;
