//! The room between the socket and the broker.
//!
//! It does: listeners, framing, the order of answers, back-pressure and every limit that a peer could press against, the HTTP page
//! with metrics and health, and the orderly stop. It owns: connections, their memory, their counters.
//! It never sees: what a request means (that is `broker`), the log, files on disk.
//!
//! Start reading at `connection.rs`: one request goes `frame` → `dispatch` → broker → `outbox`. `server.rs` accepts, `admission.rs`
//! says who may connect, `tls/` has the certificates of listeners, `broker::memory` has the accounts that make readers wait, `limits.rs` names every bound,
//! `admin.rs` and `metrics.rs` are what an operator sees.

mod admin;
mod admission;
mod connection;
mod counters;
mod dispatch;
mod frame;
mod histogram;
mod inter_broker;
mod limits;
mod metrics;
mod outbox;
mod server;
mod tls;
mod turns;
mod world_time;

pub use admin::{Admin, BoundAdmin, Readiness, Report};
pub use broker::memory::{MemoryAccount, MemoryShare};
pub use counters::{ApiCounters, Counters};
pub use dispatch::Dispatch;
pub use histogram::Histogram;
pub use inter_broker::{
    Authority, AuthorityStore, BoundInterBroker, Credentials, CredentialsError, InterBroker,
    InterBrokerCounters, InterBrokerLimits, PeerId, Security, new_authority,
};
pub use limits::{ConnectionLimits, Limits};
pub use metrics::{MetricsText, write_inter_broker_metrics, write_server_metrics};
pub use server::{BindError, BoundListener, ListenerSecurity, Server};
pub use tls::{ClientAuth, ListenerTls, TlsError, TlsSettings};
