//! What goes wrong: drawn from the seed, then done to the cluster.
//!
//! Most faults have the cluster for themselves, and then the pause that clients see is that fault's. The others come while something else
//! is broken. Never more brokers than may be are down or cut off at once, and the store has one trouble at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use client::Client;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::task::JoinHandle;

use super::gaps::Window;
use super::load::{TOPIC, Told};
use super::nodes::Node;
use super::proxy::{Delay, Link, Weather};
use super::witness;

/// After a start, until the leaders that come to a broker have come.
pub const SETTLE: Duration = Duration::from_secs(6);
/// So much longer than a lease a takeover may take before the next thing happens.
const AFTER_LEASE: Duration = Duration::from_secs(3);
/// How the names of those begin who write once, to a broker that should not count any more.
pub const WITNESS: &str = "witness-";
const WITNESS_AFTER: Duration = Duration::from_millis(200);
const WITNESS_PATIENCE: Duration = Duration::from_secs(30);
const PROBLEM_CHARS_MAX: usize = 600;
/// Of these one is possible, or none is.
const DRAWS_MAX: usize = 10_000;
/// A cluster that was left alone for so long has a leader for each partition.
const CALM_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Store,
    Clients,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Closed,
    Silent,
    /// Every packet is lost: what TCP makes of that. Only where there are namespaces, else silent.
    Swallowed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9, and a start after `down`.
    Kill {
        broker: usize,
        down: Duration,
    },
    /// SIGTERM, and a start after `down`.
    Leave {
        broker: usize,
        down: Duration,
    },
    /// SIGSTOP, then SIGCONT.
    Pause {
        broker: usize,
        lasts: Duration,
    },
    Partition {
        broker: usize,
        from: Side,
        how: How,
        lasts: Duration,
    },
    SlowStore {
        delay: Delay,
        lasts: Duration,
    },
    StoreErrors {
        refused_percent: u32,
        lost_percent: u32,
        lasts: Duration,
    },
    Outage {
        how: Link,
        lasts: Duration,
    },
}

impl Fault {
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Kill { .. } => "kill",
            Fault::Leave { .. } => "leave",
            Fault::Pause { .. } => "pause",
            Fault::Partition { from: Side::Store, .. } => "cut from the store",
            Fault::Partition { from: Side::Clients, .. } => "cut from clients",
            Fault::Partition { from: Side::Both, .. } => "cut from both",
            Fault::SlowStore { .. } => "store slow",
            Fault::StoreErrors { .. } => "store errors",
            Fault::Outage { .. } => "store out",
        }
    }

    /// `None`: the store, for everybody.
    pub fn broker(&self) -> Option<usize> {
        match *self {
            Fault::Kill { broker, .. }
            | Fault::Leave { broker, .. }
            | Fault::Pause { broker, .. }
            | Fault::Partition { broker, .. } => Some(broker),
            Fault::SlowStore { .. } | Fault::StoreErrors { .. } | Fault::Outage { .. } => None,
        }
    }

    /// A fault of one of these kinds (none: of any) that is possible now; `None` when there is none.
    pub fn draw(
        random: &mut StdRng,
        brokers: &[usize],
        is_store_free: bool,
        lease: Duration,
        kinds: &[String],
    ) -> Option<Fault> {
        if brokers.is_empty() && !is_store_free {
            return None;
        }
        let is_wanted = |fault: &Fault| kinds.is_empty() || kinds.iter().any(|kind| kind == fault.kind());
        let is_possible = |fault: &Fault| fault.broker().is_some() || is_store_free;
        let mut drawn = (0..DRAWS_MAX).filter_map(|_| Fault::any(random, brokers, lease));
        drawn.find(|fault| is_wanted(fault) && is_possible(fault))
    }

    fn any(random: &mut StdRng, brokers: &[usize], lease: Duration) -> Option<Fault> {
        let kind = random.random_range(0..100);
        // Drawn for every kind, so that what is possible at the moment changes as little as may be of what comes after.
        let lasts = Duration::from_millis(random.random_range(1_000..=20_000));
        let how = if random.random_ratio(1, 2) { Link::Cut } else { Link::Silent };
        let at_once = random.random_ratio(1, 2);
        let apart = [How::Closed, How::Silent, How::Swallowed][random.random_range(0..3)];
        let side = random.random_range(0..4);
        let chosen = random.random_range(0..usize::MAX);
        let broker = brokers.get(chosen % brokers.len().max(1)).copied();
        Some(match kind {
            0..25 => {
                // Back before its lease is over, or well after others have its partitions.
                let down = if at_once { lasts / 40 } else { lease + AFTER_LEASE + lasts / 10 };
                Fault::Kill { broker: broker?, down }
            }
            25..50 => Fault::Leave { broker: broker?, down: Duration::from_secs(2) + lasts / 5 },
            50..65 => Fault::Pause { broker: broker?, lasts },
            65..80 => {
                let from = [Side::Store, Side::Store, Side::Clients, Side::Both][side];
                Fault::Partition { broker: broker?, from, how: apart, lasts }
            }
            80..87 => {
                let median_ms = random.random_range(20..=200);
                let delay = Delay { median_ms, p99_ms: median_ms * random.random_range(2..=8) };
                Fault::SlowStore { delay, lasts }
            }
            87..95 => {
                let (refused_percent, lost_percent) =
                    (random.random_range(1..=30), random.random_range(1..=10));
                Fault::StoreErrors { refused_percent, lost_percent, lasts }
            }
            _ => Fault::Outage { how, lasts: lasts * 3 / 2 },
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |duration: &Duration| format!("{:.1} s", duration.as_secs_f64());
        match self {
            Fault::Kill { broker, down } => write!(f, "kill -9 broker {broker}, start after {}", s(down)),
            Fault::Leave { broker, down } => write!(f, "SIGTERM broker {broker}, start {} later", s(down)),
            Fault::Pause { broker, lasts } => write!(f, "SIGSTOP broker {broker} for {}", s(lasts)),
            Fault::Partition { broker, from, how, lasts } => {
                write!(f, "broker {broker} and {from:?} apart ({how:?}) for {}", s(lasts))
            }
            Fault::SlowStore { delay, lasts } => {
                write!(f, "store slow, p50 {} p99 {} ms, for {}", delay.median_ms, delay.p99_ms, s(lasts))
            }
            Fault::StoreErrors { refused_percent, lost_percent, lasts } => {
                write!(f, "store: {refused_percent} % 503, {lost_percent} % answers lost, for {}", s(lasts))
            }
            Fault::Outage { how, lasts } => write!(f, "store out ({how:?}) for {}", s(lasts)),
        }
    }
}

struct Over {
    /// The end of the fault's window.
    at_ms: u32,
    /// When the broker began to join again, if others had what was its own.
    joins_from_ms: Option<u32>,
}

impl Over {
    fn now(told: &Told) -> Over {
        Over { at_ms: told.now_ms(), joins_from_ms: None }
    }
}

/// What the faults are done to, and what they leave.
pub struct Scene {
    pub nodes: Arc<Vec<Node>>,
    pub partitions: i32,
    pub lease: Duration,
    pub told: Arc<Told>,
    /// For questions about leaders.
    pub client: Client,
    pub windows: Mutex<Vec<Window>>,
    /// What broke a promise without a record being wrong; each fails the run.
    pub problems: Mutex<Vec<String>>,
    pub witnesses: AtomicU32,
    pub witnesses_acknowledged: AtomicU32,
}

impl Scene {
    pub fn problem(&self, what: String) {
        // Of a client that ended: what it complained of first.
        let what: String = what.lines().next().unwrap_or_default().chars().take(PROBLEM_CHARS_MAX).collect();
        eprintln!("{:>8} ms  PROBLEM: {what}", self.told.now_ms());
        self.problems.lock().push(what);
    }

    /// After faults that were broken off: all networks whole, all brokers there, as far as that is possible.
    pub async fn heal(&self) {
        for node in self.nodes.iter() {
            node.to_store.change(|weather| *weather = Weather::default());
            node.to_clients.change(|weather| *weather = Weather::default());
            for cable in
                node.namespace.iter().flat_map(|namespace| [&namespace.to_store, &namespace.to_clients])
            {
                // One that is whole cannot be mended.
                let _ = cable.set_broken(false);
            }
            node.signal("CONT").await;
            // One that runs cannot be started.
            let _ = node.start().await;
        }
    }

    /// From the fault until everything is as it was. Alone, the pause around it is looked at later.
    pub async fn carry_out(
        self: Arc<Self>,
        number: usize,
        fault: Fault,
        is_alone: bool,
    ) -> anyhow::Result<()> {
        let led = match (is_alone, fault.broker()) {
            (false, _) => BTreeSet::new(),
            (true, None) => (0..self.partitions).collect(),
            (true, Some(broker)) => self.led_by(broker).await?,
        };
        eprintln!("{:>8} ms  {fault}{}", self.told.now_ms(), if is_alone { "" } else { " (meanwhile)" });
        let from_ms = self.told.now_ms();
        let over = self.clone().done_to(number, &fault, is_alone).await?;
        if is_alone {
            let span_ms = from_ms..over.at_ms;
            self.windows.lock().push(Window { kind: fault.kind(), partitions: led, span_ms });
            if let (Some(from_ms), Some(broker)) = (over.joins_from_ms, fault.broker()) {
                // It led nothing while it was down: all that it leads now has been moved to it.
                let partitions = self.led_by(broker).await?;
                let span_ms = from_ms..self.told.now_ms();
                self.windows.lock().push(Window { kind: "join", partitions, span_ms });
            }
        }
        Ok(())
    }

    async fn done_to(self: Arc<Self>, number: usize, fault: &Fault, is_alone: bool) -> anyhow::Result<Over> {
        let sleep = tokio::time::sleep;
        match *fault {
            Fault::Kill { broker, down } => {
                self.nodes[broker].kill().await?;
                self.start_again(broker, down, down > self.lease).await
            }
            Fault::Leave { broker, down } => {
                match self.nodes[broker].leave().await {
                    Ok(status) if status.success() => {}
                    // Without the store nobody can leave properly.
                    ended if is_alone => self.problem(format!("broker {broker}: a planned leave: {ended:?}")),
                    ended => eprintln!("broker {broker}: a planned leave beside another fault: {ended:?}"),
                }
                self.start_again(broker, down, true).await
            }
            Fault::Pause { broker, lasts } => {
                let node = &self.nodes[broker];
                node.signal("STOP").await;
                let witness = self.witness(number, broker, lasts);
                sleep(lasts).await;
                node.signal("CONT").await;
                self.healed(broker, witness).await
            }
            Fault::Partition { broker, from, how, lasts } => {
                self.apart(broker, from, how, true)?;
                let witness = self.witness(number, broker, lasts);
                sleep(lasts).await;
                self.apart(broker, from, how, false)?;
                self.healed(broker, witness).await
            }
            Fault::SlowStore { delay, lasts } => {
                self.store(|weather| weather.delay = Some(delay));
                sleep(lasts).await;
                self.store(|weather| weather.delay = None);
                Ok(Over::now(&self.told))
            }
            Fault::StoreErrors { refused_percent, lost_percent, lasts } => {
                self.store(|weather| {
                    (weather.refused_percent, weather.lost_percent) = (refused_percent, lost_percent);
                });
                sleep(lasts).await;
                self.store(|weather| (weather.refused_percent, weather.lost_percent) = (0, 0));
                Ok(Over::now(&self.told))
            }
            Fault::Outage { how, lasts } => {
                self.store(|weather| weather.outage = how);
                sleep(lasts).await;
                self.store(|weather| weather.outage = Link::Whole);
                sleep(AFTER_LEASE).await;
                for node in self.nodes.iter() {
                    node.ready().await?;
                }
                Ok(Over::now(&self.told))
            }
        }
    }

    async fn start_again(&self, broker: usize, down: Duration, others_have_it: bool) -> anyhow::Result<Over> {
        let node = &self.nodes[broker];
        let began = Instant::now();
        tokio::time::sleep(down).await;
        let mut over = Over { at_ms: self.told.now_ms(), joins_from_ms: None };
        node.start().await?;
        node.ready().await?;
        if self.nodes.len() > 1 && others_have_it {
            over.joins_from_ms = Some(self.told.now_ms());
        } else {
            // Back before anybody took over: what was its own comes back now, or when the lease of the dead one is over.
            let takeover = if self.nodes.len() > 1 { self.lease + AFTER_LEASE } else { Duration::ZERO };
            tokio::time::sleep(takeover.saturating_sub(began.elapsed())).await;
            over.at_ms = self.told.now_ms();
        }
        tokio::time::sleep(SETTLE).await;
        Ok(over)
    }

    fn apart(&self, broker: usize, from: Side, how: How, is_apart: bool) -> anyhow::Result<()> {
        let node = &self.nodes[broker];
        let sides = [
            (Side::Store, &node.to_store, node.namespace.as_ref().map(|namespace| &namespace.to_store)),
            (Side::Clients, &node.to_clients, node.namespace.as_ref().map(|namespace| &namespace.to_clients)),
        ];
        for (side, proxy, cable) in sides {
            if from != side && from != Side::Both {
                continue;
            }
            match (how, cable) {
                (How::Swallowed, Some(cable)) => cable.set_broken(is_apart)?,
                _ if !is_apart => proxy.change(|weather| weather.link = Link::Whole),
                (How::Closed, _) => proxy.change(|weather| weather.link = Link::Cut),
                (How::Silent | How::Swallowed, _) => proxy.change(|weather| weather.link = Link::Silent),
            }
        }
        Ok(())
    }

    fn store(&self, change: impl Fn(&mut Weather)) {
        self.nodes.iter().for_each(|node| node.to_store.change(&change));
    }

    /// Asks the broker for something while it is stopped or cut off, and waits longer than that.
    fn witness(self: &Arc<Self>, number: usize, broker: usize, lasts: Duration) -> JoinHandle<()> {
        let scene = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(WITNESS_AFTER).await;
            let name = format!("{WITNESS}{number}");
            scene.witnesses.fetch_add(1, Ordering::Relaxed);
            let address = scene.nodes[broker].own_address();
            for (partition, offset) in
                witness::ask(address, scene.partitions, &name, lasts + WITNESS_PATIENCE).await
            {
                scene.witnesses_acknowledged.fetch_add(1, Ordering::Relaxed);
                scene.told.acknowledge_witness(&name, partition, offset);
            }
        })
    }

    async fn healed(&self, broker: usize, witness: JoinHandle<()>) -> anyhow::Result<Over> {
        tokio::time::sleep(AFTER_LEASE).await;
        self.nodes[broker].ready().await?;
        let over = Over::now(&self.told);
        witness.await?;
        Ok(over)
    }

    /// Waits until every broker serves and every partition has a leader.
    pub async fn calm(&self) -> anyhow::Result<()> {
        for node in self.nodes.iter() {
            node.ready().await?;
        }
        self.led().await
    }

    /// Waits until every partition has a leader that is one of ours.
    pub async fn led(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + CALM_MAX;
        loop {
            let leaders = self.leaders().await?;
            if leaders.len() == self.partitions as usize {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "after {CALM_MAX:?} of calm only {leaders:?} of {} partitions have a leader",
                self.partitions
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub async fn led_by(&self, broker: usize) -> anyhow::Result<BTreeSet<i32>> {
        let leaders = self.leaders().await?;
        Ok(leaders
            .into_iter()
            .filter(|(_, leader)| *leader == broker)
            .map(|(partition, _)| partition)
            .collect())
    }

    /// Partition → broker, as clients are told; those without one are left out.
    async fn leaders(&self) -> anyhow::Result<BTreeMap<i32, usize>> {
        let cluster = self.client.describe(Some(&[TOPIC.into()])).await.context("who leads what")?;
        // Node ids change from start to start; ports do not.
        let index_of = |id: i32| {
            let port = cluster.brokers.get(&id)?.port;
            self.nodes.iter().position(|node| i32::from(node.to_clients.address.port()) == port)
        };
        let partitions = cluster.topic(TOPIC).map(|topic| topic.partitions.as_slice()).unwrap_or_default();
        Ok(partitions.iter().filter_map(|p| Some((p.partition, index_of(p.leader)?))).collect())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_faults_of_every_kind_and_only_possible_ones() {
        let drawn = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            let draw = |_| Fault::draw(&mut random, &[0, 1, 2], true, Duration::from_secs(6), &[]).unwrap();
            (0..500).map(draw).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        let kinds: BTreeSet<&str> = drawn(1).iter().map(Fault::kind).collect();
        assert_eq!(kinds.len(), 9, "{kinds:?}");

        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..100 {
            let of_two = Fault::draw(&mut random, &[2], false, Duration::ZERO, &[]).unwrap();
            assert_eq!(of_two.broker(), Some(2));
            assert_eq!(Fault::draw(&mut random, &[], true, Duration::ZERO, &[]).unwrap().broker(), None);
            let leave = ["leave".to_owned()];
            let one_kind = Fault::draw(&mut random, &[0, 1], true, Duration::ZERO, &leave);
            assert_eq!(one_kind.unwrap().kind(), "leave");
        }
        assert_eq!(Fault::draw(&mut random, &[], false, Duration::ZERO, &[]), None);
        assert_eq!(Fault::draw(&mut random, &[], true, Duration::ZERO, &["kill".to_owned()]), None);
    }
}
