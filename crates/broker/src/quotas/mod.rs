//! What clients may use: bytes in and out, changes of the cluster, and the time that their requests take.
//!
//! ```text
//!   user and client id ─► the quota that is said most exactly of them ─► what they used of it lately ─► how long they are not listened to
//! ```
//! A quota is that of each broker, as in Kafka. Whoever has used too much is answered at once, with the time that it has to wait, and
//! `server` reads nothing more from the connection until then (KIP-219). New connections of an address are counted where they come in
//! (`server`), by the rate that [`connection_rate`] finds.
//!
//! Differences: a Fetch above its quota brings its data and is the last one for a while, where Kafka answers without data; the answer
//! is the same on the average. Time is said in the answers of Produce, Fetch and of changes; what the time of requests costs is only
//! waited for.

mod time_of_request;
mod usage;

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::config::BrokerConfig;
use catalog::quota::{CLIENT_ID, IP, QuotaEntity, Quotas, USER};
use parking_lot::Mutex;
use protocol::{ErrorCode, Str};
use world::collections::HashMap;

pub(crate) use time_of_request::timed;

use self::usage::{Tokens, Window};
use crate::error::ApiError;
use crate::request::RequestContext;

/// Users and clients whose use is remembered. Beyond that, those who used nothing lately are forgotten; more than so many at once
/// share what is left.
const USERS_MAX: usize = 10_000;
/// Of the name of a user or a client that is remembered; those that begin alike share what they use. No quota is said of a longer one.
const NAME_LEN_MAX: usize = 1024;
/// However much was used at once, a client is heard again after this.
const THROTTLE_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Usage {
    Produce,
    Fetch,
    /// In seconds of this broker's work.
    RequestTime,
    /// Partitions that were made or deleted.
    Mutations,
}

impl Usage {
    fn key(self) -> &'static str {
        match self {
            Usage::Produce => "producer_byte_rate",
            Usage::Fetch => "consumer_byte_rate",
            Usage::RequestTime => "request_percentage",
            Usage::Mutations => "controller_mutation_rate",
        }
    }
}

/// Whose use is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Who {
    usage: Usage,
    user: Option<Str>,
    client_id: Option<Str>,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    windows: usize,
    window: Duration,
    mutation_windows: usize,
    mutation_window: Duration,
}

/// What was used of the quotas lately.
pub(crate) struct UsageOfQuotas {
    settings: Settings,
    used: Mutex<HashMap<Who, Used>>,
}

enum Used {
    Rate(Window),
    Tokens(Tokens),
}

impl Used {
    fn is_idle(&self, now: Duration) -> bool {
        match self {
            Used::Rate(window) => window.is_idle(now),
            Used::Tokens(tokens) => tokens.is_full(now),
        }
    }
}

impl UsageOfQuotas {
    pub fn new(config: &BrokerConfig) -> Self {
        let seconds = |seconds: i32| Duration::from_secs(seconds.max(1) as u64);
        let settings = Settings {
            windows: config.quota_window_num().max(1) as usize,
            window: seconds(config.quota_window_size_seconds()),
            mutation_windows: config.controller_quota_window_num().max(1) as usize,
            mutation_window: seconds(config.controller_quota_window_size_seconds()),
        };
        Self { settings, used: Mutex::default() }
    }

    /// Does something with what somebody has used.
    fn with<R>(&self, who: Who, now: Duration, act: impl FnOnce(&mut Used) -> R) -> R {
        let mut used = self.used.lock();
        if used.len() >= USERS_MAX && !used.contains_key(&who) {
            used.retain(|_, used| !used.is_idle(now));
        }
        let who = match used.len() >= USERS_MAX && !used.contains_key(&who) {
            true => Who { user: None, client_id: None, ..who },
            false => who,
        };
        let usage = who.usage;
        let settings = self.settings;
        let used = used.entry(who).or_insert_with(|| match usage {
            Usage::Mutations => {
                Used::Tokens(Tokens::new(settings.mutation_window * settings.mutation_windows as u32))
            }
            _ => Used::Rate(Window::new(settings.windows, settings.window)),
        });
        act(used)
    }
}

/// The quota that holds for a user and a client, and whose use of it counts together: Kafka's `DefaultQuotaCallback`. A user is said
/// more exactly than a client, and a name more exactly than the default.
fn find(quotas: &Quotas, usage: Usage, user: &Str, client_id: &Str) -> Option<(f64, Who)> {
    let both = |user: Option<&Str>, client_id: Option<&Str>| entity(&[(USER, user), (CLIENT_ID, client_id)]);
    let candidates = [
        (both(Some(user), Some(client_id)), true, true),
        (both(Some(user), None), true, true),
        (entity(&[(USER, Some(user))]), true, false),
        (both(None, Some(client_id)), true, true),
        (both(None, None), true, true),
        (entity(&[(USER, None)]), true, false),
        (entity(&[(CLIENT_ID, Some(client_id))]), false, true),
        (entity(&[(CLIENT_ID, None)]), false, true),
    ];
    candidates.into_iter().find_map(|(entity, by_user, by_client)| {
        let bound = quotas.of(&entity)?.get(usage.key())?.0;
        let who = Who {
            usage,
            user: by_user.then(|| remembered(user)),
            client_id: by_client.then(|| remembered(client_id)),
        };
        Some((bound, who))
    })
}

fn remembered(name: &Str) -> Str {
    Str::from(&name[..name.floor_char_boundary(NAME_LEN_MAX)])
}

fn entity(parts: &[(&'static str, Option<&Str>)]) -> QuotaEntity {
    parts.iter().map(|(kind, name)| (Str::from_static(kind), name.cloned())).collect()
}

/// New connections of an address in a second, if there is a quota for it.
pub(crate) fn connection_rate(quotas: &Quotas, address: IpAddr) -> Option<u32> {
    const KEY: &str = "connection_creation_rate";
    if quotas.is_empty() {
        return None;
    }
    let name = Str::from(address.to_canonical().to_string());
    let of = |name: Option<&Str>| quotas.of(&entity(&[(IP, name)]))?.get(KEY).copied();
    let rate = of(Some(&name)).or_else(|| of(None))?;
    Some((rate.0 as u32).max(1))
}

impl RequestContext {
    /// Counts what the caller has used. Milliseconds for which it is not listened to from now on.
    pub fn use_quota(&self, usage: Usage, amount: f64) -> i32 {
        let Some((bound, who)) = self.quota(usage) else { return 0 };
        let broker = &self.broker;
        let now = broker.clock.monotonic();
        let wait = broker.quotas.with(who, now, |used| match used {
            Used::Rate(window) => window.record(now, amount, bound),
            Used::Tokens(_) => unreachable!("only changes have tokens"),
        });
        self.silence(now, wait)
    }

    /// The quota of changes, for a request of an API that refuses what is too much from some version on.
    pub fn mutations(&self, strict_since: i16) -> Mutations<'_> {
        let quota = self.quota(Usage::Mutations);
        Mutations { context: self, quota, is_strict: self.api_version >= strict_since, wait: Duration::ZERO }
    }

    fn quota(&self, usage: Usage) -> Option<(f64, Who)> {
        let state = self.broker.catalog.read();
        let quotas = state.quotas();
        if quotas.is_empty() {
            return None;
        }
        let principal = self.principal();
        let user = principal.split_once(':').map_or(principal.as_str(), |(_, name)| name);
        find(quotas, usage, &Str::from(user), &self.client_id.clone().unwrap_or_default())
    }

    fn silence(&self, now: Duration, wait: Duration) -> i32 {
        let wait = wait.min(THROTTLE_MAX);
        if wait.is_zero() {
            return 0;
        }
        self.broker.counters().quota_waits.fetch_add(1, Ordering::Relaxed);
        self.connection.mute_until(now + wait);
        i32::try_from(wait.as_millis()).unwrap_or(i32::MAX).max(1)
    }
}

/// What one request changes, counted in partitions (KIP-599).
pub(crate) struct Mutations<'a> {
    context: &'a RequestContext,
    quota: Option<(f64, Who)>,
    is_strict: bool,
    wait: Duration,
}

impl Mutations<'_> {
    /// Before so many partitions are made or deleted. As long as something is left of the quota any number may be, and is owed.
    pub fn take(&mut self, partitions: usize) -> Result<(), ApiError> {
        let Some((rate, who)) = &self.quota else { return Ok(()) };
        let broker = &self.context.broker;
        let now = broker.clock.monotonic();
        let taken = broker.quotas.with(who.clone(), now, |used| match used {
            Used::Tokens(tokens) => tokens.take(now, partitions as f64, *rate, self.is_strict),
            Used::Rate(_) => unreachable!("changes have tokens"),
        });
        match taken {
            Ok(wait) => {
                self.wait = self.wait.max(wait);
                Ok(())
            }
            Err(wait) => {
                self.wait = self.wait.max(wait);
                Err(ApiError::new(
                    ErrorCode::ThrottlingQuotaExceeded,
                    "the quota of changes is used up (controller_mutation_rate)",
                ))
            }
        }
    }

    /// For the answer, whose client is not listened to for so long.
    pub fn throttle_time_ms(&self) -> i32 {
        self.context.silence(self.context.broker.clock.monotonic(), self.wait)
    }
}

#[cfg(test)]
mod tests {
    use catalog::quota::QuotaValue;

    use super::*;

    #[test]
    fn who_shares_a_quota_is_who_it_was_said_of() {
        let said = |parts: &[(&'static str, Option<&'static str>)], key: &'static str, value: f64| {
            let parts = parts.iter().map(|(kind, name)| (Str::from(*kind), name.map(Str::from)));
            (parts.collect::<QuotaEntity>(), [(Str::from(key), QuotaValue(value))].into_iter().collect())
        };
        let quotas: Quotas = [
            said(&[(USER, Some("a")), (CLIENT_ID, Some("x"))], "producer_byte_rate", 1.0),
            said(&[(USER, Some("a")), (CLIENT_ID, None)], "producer_byte_rate", 2.0),
            said(&[(USER, Some("b"))], "producer_byte_rate", 3.0),
            said(&[(USER, None), (CLIENT_ID, Some("y"))], "producer_byte_rate", 4.0),
            said(&[(USER, None)], "consumer_byte_rate", 5.0),
            said(&[(CLIENT_ID, Some("x"))], "producer_byte_rate", 6.0),
            said(&[(CLIENT_ID, None)], "producer_byte_rate", 7.0),
        ]
        .into_iter()
        .collect();
        let found = |usage, user: &str, client_id: &str| {
            let (bound, who) = find(&quotas, usage, &user.into(), &client_id.into()).expect("a quota");
            let part = |part: Option<Str>| part.map_or("-".to_owned(), |part| part.to_string());
            (bound, part(who.user), part(who.client_id))
        };
        let is = |bound: f64, user: &str, client_id: &str| (bound, user.to_owned(), client_id.to_owned());
        assert_eq!(found(Usage::Produce, "a", "x"), is(1.0, "a", "x"));
        assert_eq!(found(Usage::Produce, "a", "z"), is(2.0, "a", "z"));
        assert_eq!(found(Usage::Produce, "b", "x"), is(3.0, "b", "-"));
        assert_eq!(found(Usage::Produce, "c", "y"), is(4.0, "c", "y"));
        assert_eq!(found(Usage::Produce, "c", "x"), is(6.0, "-", "x"));
        assert_eq!(found(Usage::Produce, "c", "z"), is(7.0, "-", "z"));
        assert_eq!(found(Usage::Fetch, "c", "z"), is(5.0, "c", "-"));
        assert!(find(&quotas, Usage::RequestTime, &"c".into(), &"z".into()).is_none());
        // Of a name of 30,000 bytes not all is kept, ten thousand times.
        let long = "\u{e9}".repeat(15_000);
        let (bound, _, kept) = found(Usage::Produce, "c", &long);
        assert_eq!((bound, kept), (7.0, "\u{e9}".repeat(NAME_LEN_MAX / 2)));
    }
}
