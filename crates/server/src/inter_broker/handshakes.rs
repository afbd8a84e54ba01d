//! Connections whose other end has not said yet who it is. Whoever reaches the port could hold all places for them and keep the brokers
//! apart, so an address has only a part of the places.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

pub(super) struct Handshakes {
    max: usize,
    per_address_max: usize,
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    count: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

impl Handshakes {
    pub fn new(max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { max, per_address_max, under_way: Mutex::default() })
    }

    /// None: too many are under way. Brokers of one machine have loopback for themselves.
    pub fn begin(self: &Arc<Self>, ip: IpAddr) -> Option<Handshake> {
        let ip = ip.to_canonical();
        let mut under_way = self.under_way.lock();
        let of_address = under_way.by_address.get(&ip).copied().unwrap_or(0);
        if under_way.count >= self.max || (of_address >= self.per_address_max && !ip.is_loopback()) {
            return None;
        }
        under_way.count += 1;
        under_way.by_address.insert(ip, of_address + 1);
        Some(Handshake { all: self.clone(), ip })
    }
}

/// A place; dropping it frees it.
pub(super) struct Handshake {
    all: Arc<Handshakes>,
    ip: IpAddr,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut under_way = self.all.under_way.lock();
        under_way.count -= 1;
        let of_address = under_way.by_address.get_mut(&self.ip).expect("its own place is counted");
        *of_address -= 1;
        if *of_address == 0 {
            under_way.by_address.remove(&self.ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_keep_the_others_out() {
        let (stranger, broker) = (IpAddr::from([192, 0, 2, 7]), IpAddr::from([192, 0, 2, 8]));
        let all = Handshakes::new(4, 2);
        let first = all.begin(stranger).expect("there is room");
        let second = all.begin(stranger).expect("there is room");
        assert!(all.begin(stranger).is_none());
        let of_broker = all.begin(broker).expect("the broker has room");
        drop(first);
        let third = all.begin(stranger).expect("one has gone");
        drop((second, third, of_broker));
        // On one machine there may be many brokers; the bound of all holds for them too.
        let home = IpAddr::from([127, 0, 0, 1]);
        let at_home: Vec<Handshake> = (0..5).filter_map(|_| all.begin(home)).collect();
        assert_eq!(at_home.len(), 4);
        assert!(all.begin(broker).is_none());
        drop(at_home);
        let under_way = all.under_way.lock();
        assert!(under_way.by_address.is_empty() && under_way.count == 0);
    }
}
