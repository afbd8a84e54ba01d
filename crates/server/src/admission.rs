//! Who may connect: the number of connections, of one address, and of new ones per second.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use world::collections::HashMap;

use crate::limits::ConnectionLimits;

/// New connections above the rate wait; those that would wait longer than this are refused.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Addresses that are remembered without an open connection, for their rate.
const FORMER_ADDRESSES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Connections { max: usize },
    PerAddress { max: usize },
    UnauthenticatedPerAddress { max: usize },
    Rate { per_second: u32 },
    RatePerAddress { per_second: u32 },
    Quota { per_second: u32 },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Connections { max } => write!(f, "{max} connections are open (max.connections)"),
            Refusal::PerAddress { max } => {
                write!(f, "its address has {max} connections open (max.connections.per.ip)")
            }
            Refusal::UnauthenticatedPerAddress { max } => write!(
                f,
                "its address has {max} connections open whose clients have not proved who they are \
                 (connection.unauthenticated.max.per.ip)"
            ),
            Refusal::Rate { per_second } => {
                write!(
                    f,
                    "far more than {per_second} connections a second are coming (max.connection.creation.rate)"
                )
            }
            Refusal::RatePerAddress { per_second } => write!(
                f,
                "far more than {per_second} connections a second come from its address \
                 (connection.unauthenticated.creation.rate.per.ip)"
            ),
            Refusal::Quota { per_second } => write!(
                f,
                "far more than {per_second} connections a second come from its address \
                 (the quota connection_creation_rate)"
            ),
        }
    }
}

pub struct Admission {
    state: Mutex<State>,
}

struct State {
    limits: ConnectionLimits,
    open: usize,
    rate: Rate,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Default)]
struct Address {
    open: usize,
    unauthenticated: usize,
    rate: Rate,
    /// By the quota of the address, if it has one.
    quota_rate: Rate,
}

/// When the next connection would be let in if all that were admitted came evenly at the highest rate.
#[derive(Clone, Copy, Default)]
struct Rate {
    next_turn: Duration,
}

impl Rate {
    /// The turn of a connection that comes now. One second's worth may come at once.
    fn turn(&self, now: Duration) -> Duration {
        self.next_turn.max(now.saturating_sub(Duration::from_secs(1)))
    }

    fn take(&mut self, turn: Duration, per_second: u32) {
        self.next_turn = turn + Duration::from_secs(1) / per_second;
    }
}

impl Admission {
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        let state = State { limits, open: 0, rate: Rate::default(), addresses: HashMap::default() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub fn limits(&self) -> ConnectionLimits {
        self.state.lock().limits.clone()
    }

    /// They hold for connections that come from now on; those that are open stay.
    pub fn set_limits(&self, limits: ConnectionLimits) {
        self.state.lock().limits = limits;
    }

    pub fn open(&self) -> usize {
        self.state.lock().open
    }

    /// A place for a connection of `ip`, and how long it must wait before it is served.
    /// With a quota it waits its turn of that too, wherever it comes from.
    pub fn admit(
        self: &Arc<Self>,
        ip: IpAddr,
        quota: Option<u32>,
        now: Duration,
    ) -> Result<(Place, Duration), Refusal> {
        let ip = ip.to_canonical();
        let mut state = self.state.lock();
        let state = &mut *state;
        let limits = &state.limits;
        let (per_second_max, per_ip_per_second_max) =
            (limits.per_second_max.max(1), limits.per_ip_per_second_max.max(1));
        if state.open >= limits.max {
            return Err(Refusal::Connections { max: limits.max });
        }
        if state.addresses.len() >= FORMER_ADDRESSES + limits.max {
            state.addresses.retain(|_, address| address.open > 0);
        }
        let (per_ip_max, unauthenticated_max) = match limits.per_ip_overrides.get(&ip) {
            Some(max) => (*max, *max),
            None if ip.is_loopback() => (usize::MAX, usize::MAX),
            None => (limits.per_ip_max, limits.unauthenticated_per_ip_max),
        };
        let address = state.addresses.entry(ip).or_default();
        if address.open >= per_ip_max {
            return Err(Refusal::PerAddress { max: per_ip_max });
        }
        if address.unauthenticated >= unauthenticated_max {
            return Err(Refusal::UnauthenticatedPerAddress { max: unauthenticated_max });
        }
        let mut wait = Duration::ZERO;
        if let Some(per_second) = quota {
            let turn = address.quota_rate.turn(now);
            wait = turn.saturating_sub(now);
            if wait > WAIT_MAX {
                return Err(Refusal::Quota { per_second });
            }
            address.quota_rate.take(turn, per_second);
        }
        if !ip.is_loopback() {
            let (of_all, of_address) = (state.rate.turn(now), address.rate.turn(now));
            if of_address.saturating_sub(now) > WAIT_MAX {
                return Err(Refusal::RatePerAddress { per_second: per_ip_per_second_max });
            }
            if of_all.saturating_sub(now) > WAIT_MAX {
                return Err(Refusal::Rate { per_second: per_second_max });
            }
            state.rate.take(of_all, per_second_max);
            address.rate.take(of_address, per_ip_per_second_max);
            wait = wait.max(of_all.max(of_address).saturating_sub(now));
        }
        state.open += 1;
        address.open += 1;
        address.unauthenticated += 1;
        Ok((Place { admission: self.clone(), ip, is_unauthenticated: true }, wait))
    }
}

/// A connection's place; dropping it frees it.
pub struct Place {
    admission: Arc<Admission>,
    ip: IpAddr,
    is_unauthenticated: bool,
}

impl Place {
    /// The client has proved who it is.
    pub fn authenticated(&mut self) {
        if std::mem::replace(&mut self.is_unauthenticated, false) {
            let mut state = self.admission.state.lock();
            let address = state.addresses.get_mut(&self.ip).expect("an open connection's address is known");
            address.unauthenticated -= 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock();
        state.open -= 1;
        let address = state.addresses.get_mut(&self.ip).expect("an open connection's address is known");
        address.open -= 1;
        address.unauthenticated -= usize::from(self.is_unauthenticated);
        if address.open == 0 && self.ip.is_loopback() && address.quota_rate.next_turn.is_zero() {
            state.addresses.remove(&self.ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    #[test]
    fn places_are_counted_and_given_back() {
        let admission = Admission::new(ConnectionLimits {
            max: 3,
            unauthenticated_per_ip_max: 2,
            ..ConnectionLimits::default()
        });
        let now = Duration::from_secs(100);
        let first = admission.admit(FAR, None, now).unwrap();
        let _second = admission.admit(FAR, None, now).unwrap();
        let refused = Some(Refusal::UnauthenticatedPerAddress { max: 2 });
        assert_eq!(admission.admit(FAR, None, now).err(), refused);
        let _third = admission.admit(HOME, None, now).unwrap();
        assert_eq!(admission.admit(HOME, None, now).err(), Some(Refusal::Connections { max: 3 }));
        drop(first);
        assert!(admission.admit(FAR, None, now).is_ok());
        // Fewer are let in from now on, and nobody who is in has to go.
        admission.set_limits(ConnectionLimits { max: 1, ..ConnectionLimits::default() });
        assert_eq!(admission.open(), 2);
        assert_eq!(admission.admit(HOME, None, now).err(), Some(Refusal::Connections { max: 1 }));
    }

    #[test]
    fn a_client_that_has_proved_who_it_is_makes_room_for_one_that_has_not() {
        let limits =
            ConnectionLimits { per_ip_max: 3, unauthenticated_per_ip_max: 1, ..ConnectionLimits::default() };
        let admission = Admission::new(limits);
        let now = Duration::from_secs(100);
        let mut first = admission.admit(FAR, None, now).unwrap().0;
        assert!(admission.admit(FAR, None, now).is_err());
        first.authenticated();
        first.authenticated();
        let mut second = admission.admit(FAR, None, now).unwrap().0;
        assert!(admission.admit(FAR, None, now).is_err());
        second.authenticated();
        let _third = admission.admit(FAR, None, now).unwrap();
        drop(first);
        assert!(admission.admit(FAR, None, now).is_err(), "the third has proved nothing");
        drop(second);
        assert_eq!(admission.open(), 1);
    }

    #[test]
    fn a_rush_is_slowed_down_and_a_flood_refused_but_not_on_loopback() {
        let admission = Admission::new(ConnectionLimits {
            unauthenticated_per_ip_max: 10_000,
            ..ConnectionLimits::default()
        });
        let now = Duration::from_secs(100);
        let mut open = Vec::new();
        let (mut at_once, mut later, mut refused) = (0, 0, 0);
        for _ in 0..2000 {
            match admission.admit(FAR, None, now) {
                Ok((place, Duration::ZERO)) => (at_once, ()) = (at_once + 1, open.push(place)),
                Ok((place, _)) => (later, ()) = (later + 1, open.push(place)),
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::RatePerAddress { per_second: 200 });
                    refused += 1;
                }
            }
        }
        assert_eq!((at_once, later, refused), (201, 1000, 799));
        assert_eq!(admission.admit(HOME, None, now).unwrap().1, Duration::ZERO);
        assert_eq!(admission.admit(IpAddr::from([192, 0, 2, 8]), None, now).unwrap().1, Duration::ZERO);
    }

    #[test]
    fn a_quota_holds_on_loopback_too_and_for_addresses_that_have_left() {
        let admission = Admission::new(ConnectionLimits::default());
        let now = Duration::from_secs(100);
        let waits: Vec<u64> = (0..9)
            .map_while(|_| admission.admit(HOME, Some(1), now).ok())
            .map(|(place, wait)| {
                drop(place);
                wait.as_secs()
            })
            .collect();
        assert_eq!(waits, [0, 0, 1, 2, 3, 4, 5]);
        assert_eq!(admission.admit(HOME, Some(1), now).err(), Some(Refusal::Quota { per_second: 1 }));
        assert_eq!(admission.admit(HOME, None, now).unwrap().1, Duration::ZERO);
    }

    #[test]
    fn addresses_of_the_past_are_forgotten() {
        let admission = Admission::new(ConnectionLimits { max: 2, ..ConnectionLimits::default() });
        for i in 0..20_000u32 {
            drop(admission.admit(IpAddr::from(i.to_be_bytes()), None, Duration::from_secs(i.into())));
        }
        assert!(admission.state.lock().addresses.len() <= FORMER_ADDRESSES + 3);
    }
}
