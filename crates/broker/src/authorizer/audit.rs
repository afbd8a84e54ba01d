//! The lines of the tracing target `audit`: every refused request, and every change of rights, configs and users.
//!
//! A client that asks for what it may not have asks again and again. So refusals are bounded per connection and second, and what was left
//! out is counted in the next line, or when the connection ends. Changes are never left out.

use std::fmt::Display;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::acl::{AclOperation, AclResourceType};
use parking_lot::Mutex;

use crate::request::RequestContext;

/// Of one connection.
const REFUSALS_PER_SECOND: u32 = 10;

#[derive(Debug, Default)]
pub(crate) struct AuditBrake(Mutex<Refusals>);

#[derive(Debug, Default)]
struct Refusals {
    second: u64,
    lines: u32,
    left_out: u64,
}

impl AuditBrake {
    /// Whether to write a line now, and how many before it were left out.
    fn take(&self, now: Duration) -> Option<u64> {
        let mut refusals = self.0.lock();
        if refusals.second != now.as_secs() {
            (refusals.second, refusals.lines) = (now.as_secs(), 0);
        }
        if refusals.lines == REFUSALS_PER_SECOND {
            refusals.left_out += 1;
            return None;
        }
        refusals.lines += 1;
        Some(std::mem::take(&mut refusals.left_out))
    }

    /// To be called when the connection ends.
    pub fn end(&self, principal: &str, host: &dyn Display) {
        let left_out = std::mem::take(&mut self.0.lock().left_out);
        if left_out > 0 {
            tracing::info!(target: "audit", principal, %host, left_out, "refused, not told one by one");
        }
    }
}

/// What somebody may not do.
pub(super) struct Refused<'a> {
    pub operation: AclOperation,
    pub resource_type: AclResourceType,
    pub name: &'a str,
    pub why: &'static str,
}

pub(super) fn refused(context: &RequestContext, what: &Refused<'_>) {
    let connection = &context.connection;
    context.broker.counters().authorizations_refused.fetch_add(1, Ordering::Relaxed);
    let Some(left_out) = connection.audit.take(context.broker.clock.monotonic()) else { return };
    let Refused { operation, resource_type, name, why } = what;
    tracing::info!(
        target: "audit",
        principal = %context.principal(),
        host = %connection.peer.ip(),
        request = context.api_key.name(),
        ?operation,
        resource = ?resource_type,
        name,
        why,
        left_out,
        "refused"
    );
}

impl RequestContext {
    /// A change that was made for the caller: of what kind, and what.
    pub fn audit_change(&self, kind: &str, change: &dyn Display) {
        tracing::info!(
            target: "audit",
            principal = %self.principal(),
            host = %self.connection.peer.ip(),
            request = self.api_key.name(),
            kind,
            %change,
            "changed"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_bounded_and_what_is_left_out_is_counted() {
        let brake = AuditBrake::default();
        let at = |ms| Duration::from_millis(ms);
        for _ in 0..REFUSALS_PER_SECOND {
            assert_eq!(brake.take(at(5_100)), Some(0));
        }
        assert_eq!((brake.take(at(5_900)), brake.take(at(5_999))), (None, None));
        assert_eq!(brake.take(at(6_000)), Some(2));
        assert_eq!(brake.take(at(6_000)), Some(0));
    }
}
