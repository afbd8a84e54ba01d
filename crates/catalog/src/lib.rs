//! The room `catalog`: the metadata of the cluster, and the log that makes it durable.
//!
//! It owns the metadata state machine (brokers, topics, partitions, leaders, epochs, configs, producer-id blocks,
//! feature levels, ACLs, quotas, credentials of users, the heads of the segment manifest), its log with snapshots, and [`config`]:
//! the one table of every config key.
//! It never sees record batches, groups or sockets, and it decides nothing about policy: callers propose records,
//! the state machine accepts or rejects them by preconditions that any replay gives again.
//!
//! Start reading at [`record::MetadataRecord`] (what can be said), then [`state::State::apply`] (what it means),
//! then [`catalog::Catalog::append`] (how it becomes durable). The bytes stand in `docs/data-layout.md`.

pub mod acl;
mod authorities;
mod bucket_log;
pub mod catalog;
pub mod config;
pub mod credentials;
mod directory_log;
mod encoding;
mod frame;
mod hand_off;
mod lease;
pub mod level;
mod log;
mod mark;
mod precondition;
pub mod quota;
pub mod record;
mod replicas;
mod snapshot;
pub mod state;
pub mod topic_name;

pub use authorities::{Authorities, Authority, AuthorityError};
pub use catalog::{Catalog, CatalogError, CatalogOpenError, CatalogOptions, Counters, read_bucket};
pub use credentials::{Credentials, DelegationToken, ScramCredential, ScramMechanism};
pub use hand_off::{HandOff, HandOffFuture, HandedOff};
pub use lease::{Lease, LeaseWatch, Leases};
pub use level::{LevelUnknown, Levels, OTTLA_VERSION};
pub use precondition::Precondition;
pub use record::{BrokerEndpoint, MetadataRecord, ResourceType, ShardChange};
pub use replicas::Replicas;
pub use state::{Broker, ConfigMap, ManifestHead, PartitionInfo, State, Topic, Wal};
