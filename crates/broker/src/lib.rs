//! The room where Kafka's requests are answered.
//!
//! It does: one file per Kafka API in `apis/`, and the nouns they call: topics, configs, produce rules, fetch
//! sessions, groups. It owns: the dispatch table, fetch sessions, group state, counters of topics.
//! `authn/` says who a client is.
//! It never sees: sockets, TLS, disk paths, bucket keys. A request frame comes in, segments of an answer go out.
//!
//! Start reading at `broker.rs` (one frame from header to answer), then `apis/mod.rs` (the table of APIs and
//! versions), then any file in `apis/`: decode, check, call, answer. `error.rs` is the one place where causes
//! become Kafka's error codes; `authorizer/` is what every one of them asks; `limits.rs` names every bound.

mod answer_room;
mod apis;
pub mod authn;
mod authorizer;
mod balance;
mod broker;
mod cluster;
mod configs;
mod connection;
mod coordinators;
mod counters;
mod elsewhere;
mod error;
mod features;
mod fetch_sessions;
mod freshness;
mod gone_topics;
mod groups;
mod internal_topics;
mod limits;
mod load;
pub mod memory;
mod new_leader;
mod nodes;
mod openings;
mod partitions;
mod peers;
mod produce;
mod producer_ids;
mod quotas;
mod request;
mod resources;
mod share;
mod share_coordinator;
mod slot_news;
pub mod telemetry;
mod topics;
mod transactions;
mod zones;

pub use apis::{Api, TABLE as APIS};
pub use authn::{
    AuthnCounters, Jwks, Mechanism, MechanismSettings, PlainUsers, PrincipalMapping, SaslListeners,
    SaslSettings, SecurityProtocol, TokenRules,
};
pub use broker::{Broker, BrokerOptions, Endpoint, StartError};
pub use catalog::HandedOff;
pub use connection::{ClientSoftware, Connection};
pub use counters::{Counters, TopicCounters, TopicCountersSnapshot};
pub use groups::GroupCounts;
pub use limits::Limits;
pub use peers::{INTER_BROKER_LISTENER, Peer, PeerCalls, Peers, Progress};
pub use request::{CloseReason, Handling, LONG_REQUEST_BYTES, Outcome};
pub use share::{DeadLetterCounts, ShareCounts};
pub use share_coordinator::ShareStateCounts;
pub use transactions::TransactionCounts;
