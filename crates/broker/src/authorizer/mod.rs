//! Who may do what: Kafka's ACLs, always on.
//!
//! ```text
//!   RequestContext::authorize ─► Rights (who asks, which ACLs) ─► decision (pure) ─► allowed, or Kafka's error and a line of audit
//! ```
//! `decision.rs` is the rule: super users, then denials, then permissions, then what holds where no ACL names a resource. `rights.rs` is
//! what handlers ask. `settings.rs` says who is a super user, and what holds without ACLs. `audit.rs` writes down who was refused, and
//! who changed rights and configs.

mod acl_filter;
mod audit;
mod decision;
mod rights;
mod settings;
mod withdrawal;

pub(crate) use acl_filter::{AclFilter, FilterFields, acl_to_create};
pub(crate) use audit::AuditBrake;
pub(crate) use rights::{Resource, Rights, TopicRights};
pub(crate) use settings::AuthorizerSettings;
pub(crate) use withdrawal::ACL_CHANGES_MAX;
