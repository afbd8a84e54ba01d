//! What brokers of one cluster say to one another, over a listener of its own: "the metadata log has moved", and "append this for me".
//!
//! Nothing here is needed for safety: what counts is what the bucket says. Without an answer everything takes a little longer.
//!
//! ```text
//!   peers.rs ─ one connection for each peer ─▶ link.rs: who are you? ─▶ listener.rs ─▶ `broker::PeerCalls`
//!                        messages.rs: frames                    credentials.rs: certificates of the authority in the bucket
//! ```

mod counters;
mod credentials;
mod handshakes;
mod link;
mod listener;
mod messages;
mod peers;

pub use counters::InterBrokerCounters;
pub use credentials::{Authority, AuthorityStore, Credentials, CredentialsError, PeerId, new_authority};
pub use link::Security;
pub use listener::{BoundInterBroker, InterBrokerLimits};
pub use peers::InterBroker;
