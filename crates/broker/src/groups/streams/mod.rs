//! Streams groups (KIP-1071): the broker knows the topology of an application of Kafka Streams, makes the topics that it needs
//! for itself, cuts it into tasks and says which member has which of them.
//!
//! `heartbeat.rs` has the one request that members send (start there), `checks.rs` what is refused in it. `topology.rs` is what
//! an application says it is, `configure.rs` what that means with the topics that there are, `assignor.rs` who should get which
//! task, `reconcile.rs` the way of one member to its tasks, `group.rs` what the records of a group say, `endpoints.rs` where the
//! state of tasks can be asked, `description.rs` what people may read of a topology. `groups/entry.rs` keeps what is changed and what is in the log apart.
//!
//! Behaviour after Kafka's `GroupMetadataManager`, as it is in 4.4: no warm-up tasks (what members say of how far their copies are
//! changes nothing yet), no topics by regular expression, and a topology never changes. Where we differ: a member that says it has
//! other tasks than it was given is told its tasks again, since the answer that had them may have been lost; so is a static member
//! that joins again under its own id.

mod assignor;
#[cfg(test)]
mod assignor_tests;
mod checks;
mod configure;
#[cfg(test)]
mod configure_tests;
mod describe;
mod description;
mod endpoints;
mod event;
mod group;
mod heartbeat;
mod member;
mod reconcile;
mod records;
mod replay;
mod tasks;
mod topology;

pub use super::consumer::Refusal;
pub use assignor::NAME as ASSIGNOR_NAME;
pub use configure::{InternalTopic, Status, StatusCode};
pub use description::PushedDescription;
pub use event::*;
pub use group::{Change, Stored, StreamsGroup};
pub use member::{Endpoint, JOINING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH, Profile};
pub use records::{is_streams_record, read as read_record};
pub use tasks::{TaskSets, Tasks};
pub use topology::Topology;

pub type Entry = super::entry::Entry<StreamsGroup>;
type Work = super::entry::Work<StreamsGroup>;

/// Kafka's name of these groups' protocol and of their type.
pub const STREAMS_PROTOCOL_TYPE: &str = "streams";
