//! This broker among the others of its bucket: it says that it lives, watches who does not any more, takes over from them, follows
//! who leads what, and gives away what it has too much of.
//!
//! ```text
//!   catalog changes ─▶ follow: open what we lead now, close what went elsewhere     watch ─▶ a lease stands still ─▶ take over
//!                          └─▶ lease: we live, and have applied so much                └─▶ we lead more than others ─▶ move some
//! ```
//! Nothing here is needed for safety: what counts is decided by the metadata log and by the slots of the WALs (R11, R19).
//! A broker that is alone in a directory has none of this.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catalog::{Catalog, ConfigMap, LeaseWatch, Leases, ResourceType, State};
use commitlog::{CommitError, CommitLog, PartitionSettings};
use futures_util::future::join_all;
use parking_lot::Mutex;
use protocol::{Str, TopicIdPartition, Uuid};
use world::clock::SharedClock;
use world::collections::HashMap;
use world::task::{self, JoinHandle};

use crate::broker::Peers;
use crate::configs::Configs;
use crate::counters::Counters;
use crate::groups::Groups;
use crate::topics::Topics;

/// Of one record that moves partitions.
const MOVED_AT_ONCE: usize = 5_000;
/// Partitions opened side by side share their reads; more at once take more memory.
const OPENED_AT_ONCE: usize = 20_000;
const RETRY: Duration = Duration::from_millis(500);
/// How long a broker that leaves waits for its last commits and for the record that gives its partitions away.
const LEAVE_MAX: Duration = Duration::from_secs(20);
const HAND_OVER_TRIES: u32 = 5;
/// How often those who wait for all others look at their leases.
const APPLIED_LOOK: Duration = Duration::from_millis(200);

pub(crate) struct ClusterOptions {
    pub clock: SharedClock,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub configs: Arc<Configs>,
    pub topics: Arc<Topics>,
    pub groups: Arc<Groups>,
    pub counters: Arc<Counters>,
    pub peers: Option<Arc<dyn Peers>>,
    pub lease_ttl: Duration,
}

pub(crate) struct Cluster {
    options: ClusterOptions,
    leases: Leases,
    /// Partitions move one plan after the other.
    moving: tokio::sync::Mutex<()>,
    is_leaving: AtomicBool,
    /// Brokers whose lease moved lately: who may get partitions.
    lively: Mutex<BTreeSet<u64>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// The overrides that settings of partitions come from.
#[derive(Default)]
struct SeenConfigs {
    topics: HashMap<Str, ConfigMap>,
    brokers: Vec<(Str, ConfigMap)>,
}

/// What the catalog's partitions and ours differ in.
#[derive(Default)]
struct Differences {
    position: u64,
    gone: Vec<TopicIdPartition>,
    deleted: BTreeSet<Uuid>,
    missing: Vec<(TopicIdPartition, PartitionSettings)>,
    /// Topics that are new, or whose settings are.
    changed: Vec<Uuid>,
}

impl Cluster {
    /// None: there are no others.
    pub fn start(options: ClusterOptions) -> Option<Arc<Cluster>> {
        let leases = options.catalog.leases()?.clone();
        let cluster = Arc::new(Cluster {
            options,
            leases,
            moving: tokio::sync::Mutex::default(),
            is_leaving: AtomicBool::new(false),
            lively: Mutex::default(),
            tasks: Mutex::default(),
        });
        let mut tasks = Vec::new();
        let this = cluster.clone();
        tasks.push(task::spawn(async move { this.follow().await }));
        let this = cluster.clone();
        tasks.push(task::spawn(async move { this.watch().await }));
        let this = cluster.clone();
        tasks.push(task::spawn(async move { this.spread_news().await }));
        *cluster.tasks.lock() = tasks;
        Some(cluster)
    }

    fn me(&self) -> u64 {
        self.options.catalog.wal_id()
    }

    fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Brings what is open here to what the catalog says, whenever it changes.
    async fn follow(&self) {
        let mut changes = self.options.catalog.changes();
        let mut seen = SeenConfigs::default();
        loop {
            changes.borrow_and_update();
            while !self.follow_once(&mut seen).await {
                task::sleep(RETRY).await;
            }
            // An error means that the catalog is closed.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// False: to be done again soon.
    async fn follow_once(&self, seen: &mut SeenConfigs) -> bool {
        let ClusterOptions { catalog, log, topics, groups, counters, .. } = &self.options;
        let Differences { position, gone, deleted, missing, changed } = self.differences(seen);
        if !gone.is_empty() {
            log.close_partitions(&gone);
        }
        for id in deleted {
            log.remove_partitions(id).await;
            counters.forget_topic(id);
        }
        topics.follow_catalog(changed);
        let mut is_done = true;
        for some in missing.chunks(OPENED_AT_ONCE) {
            let began = self.options.clock.monotonic();
            if let Err(error) = log.open_partitions(some).await {
                tracing::warn!("{} partitions are not open yet: {error}", some.len());
                is_done = false;
                continue;
            }
            let took = self.options.clock.monotonic().saturating_sub(began);
            tracing::info!("opened {} partitions in {} ms", some.len(), took.as_millis());
        }
        // What went elsewhere while it was being opened.
        let late: Vec<TopicIdPartition> = {
            let led = led(&catalog.read(), self.me());
            missing.into_iter().map(|(id, _)| id).filter(|id| !led.contains_key(id)).collect()
        };
        log.close_partitions(&late);
        log.follow_manifest().await;
        groups.follow_catalog();
        if is_done {
            catalog.set_applied(position);
        }
        is_done
    }

    fn differences(&self, seen: &mut SeenConfigs) -> Differences {
        let ClusterOptions { catalog, log, configs, .. } = &self.options;
        let open = log.partition_ids();
        let state = catalog.read();
        let led = led(&state, self.me());
        let mut found = Differences { position: state.position(), ..Differences::default() };
        let mut known: HashMap<TopicIdPartition, ()> = HashMap::default();
        for id in open {
            match state.topic_by_id(id.topic_id) {
                None => drop(found.deleted.insert(id.topic_id)),
                Some(_) if led.contains_key(&id) => drop(known.insert(id, ())),
                Some(_) => found.gone.push(id),
            }
        }
        let mut new_topics = BTreeSet::new();
        let mut missing: Vec<(TopicIdPartition, i32)> =
            led.into_iter().filter(|(id, _)| !known.contains_key(id)).collect();
        missing.sort_unstable();
        for (id, epoch) in missing {
            let Some(topic) = state.topic_by_id(id.topic_id) else { continue };
            match epoch {
                // Nobody has led it before: there is nothing to read.
                0 => drop(new_topics.insert(id.topic_id)),
                _ => found.missing.push((id, PartitionSettings::from(&*configs.topic(&state, topic)))),
            }
        }
        new_topics.extend(seen.changed(&state));
        found.changed = new_topics.into_iter().collect();
        found
    }

    /// Watches the others.
    async fn watch(self: Arc<Self>) {
        let ttl = self.options.lease_ttl;
        let mut watch = LeaseWatch::default();
        let mut orphans = BTreeSet::new();
        let mut is_calm = false;
        let mut pause = ttl / 4;
        let mut began = task::now();
        loop {
            // From the start of a look to the start of the next one: where lists are slow, looks farther apart would not count.
            task::sleep_until(began + pause).await;
            began = task::now();
            if self.is_leaving() || self.options.catalog.is_fenced() {
                return;
            }
            let at = self.options.clock.monotonic();
            let Ok(leases) = self.leases.list().await else { continue };
            let (live, open): (Vec<u64>, BTreeSet<u64>) = {
                let state = self.options.catalog.read();
                let live = state
                    .live_brokers()
                    .map(|broker| broker.wal_id)
                    .filter(|wal_id| state.wal(*wal_id).is_some());
                let open = state.wals().filter(|(_, wal)| wal.is_fenced && wal.sealed_at.is_none());
                (live.collect(), open.map(|(wal_id, _)| wal_id).collect())
            };
            watch.look(at, ttl, live.iter().copied(), &leases);
            let (gone, alive): (Vec<u64>, Vec<u64>) = live
                .iter()
                .copied()
                .partition(|wal_id| *wal_id != self.me() && watch.is_expired(*wal_id, ttl));
            let is_lively = |wal_id: &u64| *wal_id == self.me() || watch.is_lively(*wal_id, ttl);
            let lively: BTreeSet<u64> = alive.iter().copied().filter(is_lively).collect();
            *self.lively.lock() = lively.clone();
            let rank = alive.iter().filter(|wal_id| **wal_id < self.me()).count();
            let is_suspicious =
                |wal_id: &u64| watch.unchanged(*wal_id) >= Some(ttl / 2) || is_calm && watch.is_same(*wal_id);
            // The first takes over, the second watches the first. The others look less often until something seems wrong.
            let is_quiet = gone.is_empty() && !alive.iter().any(is_suspicious);
            is_calm = rank > 1 && is_quiet;
            pause = match is_quiet {
                true if is_calm => ttl,
                true => ttl / 4,
                // Its time runs out soon: clients wait for that.
                false => ttl / 12,
            };
            if rank == 0 {
                // Whoever fenced them may have died before it came to their end.
                let left: Vec<u64> = open.intersection(&orphans).copied().collect();
                orphans = open;
                for wal_id in gone.into_iter().chain(left) {
                    self.take_over(wal_id).await;
                }
                self.remove_leases(leases.into_keys()).await;
            }
            // In its own time: a takeover does not wait for a move.
            let this = self.clone();
            drop(task::spawn(async move { this.even_out(&lively).await }));
        }
    }

    async fn take_over(&self, wal_id: u64) {
        let ClusterOptions { catalog, log, clock, .. } = &self.options;
        let node_id = catalog.read().wal(wal_id).map_or(-1, |wal| wal.node_id);
        let heirs = self.heirs(wal_id);
        let began = clock.monotonic();
        match log.take_over(wal_id, &heirs).await {
            Ok(end) => {
                let took = clock.monotonic().saturating_sub(began).as_millis();
                tracing::info!(
                    "took over WAL {wal_id} of node {node_id}, which ends at slot {end}, in {took} ms"
                );
                self.options.counters.takeovers.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!("WAL {wal_id} of node {node_id} is not taken over yet: {error}"),
        }
    }

    /// Who may get partitions, those that lead fewest first.
    fn heirs(&self, without: u64) -> Vec<u64> {
        let state = self.options.catalog.read();
        let lively = self.lively.lock();
        let ready = state.live_brokers().filter(|broker| {
            let wal_id = broker.wal_id;
            // Before the first look all are taken for alive.
            wal_id != without && (lively.is_empty() || lively.contains(&wal_id) || wal_id == self.me())
        });
        let counts = leader_counts(&state);
        let mut heirs: Vec<(usize, u64)> = ready
            .filter(|broker| state.can_lead(broker.wal_id) || is_next_of(&state, broker.wal_id, without))
            .map(|broker| (counts.get(&broker.node_id).copied().unwrap_or(0), broker.wal_id))
            .collect();
        heirs.sort_unstable();
        heirs.into_iter().map(|(_, wal_id)| wal_id).collect()
    }

    /// Leases of those who have left.
    async fn remove_leases(&self, leases: impl Iterator<Item = u64>) {
        let sealed: Vec<u64> = {
            let state = self.options.catalog.read();
            leases.filter(|wal_id| state.wal(*wal_id).is_some_and(|wal| wal.sealed_at.is_some())).collect()
        };
        for wal_id in sealed {
            let _ = self.leases.remove(wal_id).await;
        }
    }

    /// Gives away what we lead more than our share, to those that lead less than theirs.
    async fn even_out(&self, lively: &BTreeSet<u64>) {
        let Ok(_one_at_a_time) = self.moving.try_lock() else { return };
        let moves = plan_moves(&self.options.catalog.read(), self.me(), lively);
        for (heir, partitions) in moves {
            if self.is_leaving() {
                return;
            }
            let began = self.options.clock.monotonic();
            match self.options.log.move_partitions(&partitions, heir).await {
                Ok(()) => {
                    let took = self.options.clock.monotonic().saturating_sub(began).as_millis();
                    tracing::info!("moved {} partitions to WAL {heir} in {took} ms", partitions.len());
                }
                Err(error) => tracing::warn!("{} partitions stay here: {error}", partitions.len()),
            }
        }
    }

    /// The planned end: others get our partitions, and this broker's WAL is sealed. Alone, it keeps them for its next start.
    pub async fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
        match task::timeout(LEAVE_MAX, self.hand_over()).await {
            Ok(Ok(0)) => {}
            Ok(Ok(heirs)) => tracing::info!("left: {heirs} other brokers have the partitions"),
            Ok(Err(error)) => tracing::warn!("leaving without handing over: {error}"),
            Err(_) => tracing::warn!("leaving without handing over: the bucket does not answer"),
        }
        self.options.groups.follow_catalog();
        self.end().await;
    }

    /// How many have them now.
    async fn hand_over(&self) -> Result<usize, CommitError> {
        let _nothing_moves = self.moving.lock().await;
        let mut tries = 0;
        loop {
            let heirs = self.heirs(self.me());
            if heirs.is_empty() {
                return Ok(0);
            }
            match self.options.log.retire(&heirs).await {
                Ok(()) => return Ok(heirs.len()),
                Err(error) if tries == HAND_OVER_TRIES => return Err(error),
                // One of them has just left as well, perhaps.
                Err(_) => drop(self.options.catalog.catch_up().await),
            }
            tries += 1;
        }
    }

    /// Nothing is followed and nobody watched any more.
    pub fn stop(&self) {
        self.is_leaving.store(true, Ordering::Release);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.iter().for_each(JoinHandle::abort);
    }

    async fn end(&self) {
        self.stop();
        let _ = task::timeout(Duration::from_secs(1), self.leases.remove(self.me())).await;
    }

    /// What we append the others hear of at once.
    async fn spread_news(&self) {
        let mut appended = self.options.catalog.appended();
        while appended.changed().await.is_ok() {
            self.tell_others().await;
        }
    }

    /// True: all live brokers have what we know.
    pub async fn tell_others(&self) -> bool {
        let Some(peers) = &self.options.peers else { return false };
        let addresses: Vec<String> = {
            let state = self.options.catalog.read();
            let others = state.live_brokers().filter(|broker| broker.wal_id != self.me());
            let first = others.filter_map(|broker| broker.endpoints.first());
            first.map(|endpoint| host_and_port(&endpoint.host, endpoint.port)).collect()
        };
        let nudged = addresses.into_iter().map(|address| peers.clone().nudge(address));
        join_all(nudged).await.into_iter().all(|is_told| is_told)
    }

    /// Waits until every live broker has what the catalog says up to a position. False: not within the time given.
    pub async fn applied_everywhere(&self, position: u64, within: Duration) -> bool {
        let _ = task::timeout(within, self.tell_others()).await;
        let everywhere = async {
            loop {
                let others: Vec<u64> = {
                    let state = self.options.catalog.read();
                    state
                        .live_brokers()
                        .map(|broker| broker.wal_id)
                        .filter(|wal_id| *wal_id != self.me())
                        .collect()
                };
                let mut behind = self.options.catalog.applied() < position;
                for wal_id in others {
                    let lease = self.leases.get(wal_id).await;
                    behind |= !matches!(lease, Ok(Some(lease)) if lease.applied >= position);
                }
                if !behind {
                    return;
                }
                task::sleep(APPLIED_LOOK).await;
            }
        };
        task::timeout(within, everywhere).await.is_ok()
    }
}

impl SeenConfigs {
    /// Topics whose partitions may have other settings than before.
    fn changed(&mut self, state: &State) -> Vec<Uuid> {
        let brokers: Vec<(Str, ConfigMap)> =
            state.configured(ResourceType::Broker).map(|(name, map)| (name.clone(), map.clone())).collect();
        let is_same = |a: &(Str, ConfigMap), b: &(Str, ConfigMap)| a.0 == b.0 && Arc::ptr_eq(&a.1, &b.1);
        let defaults_stay = brokers.len() == self.brokers.len()
            && brokers.iter().zip(&self.brokers).all(|(now, before)| is_same(now, before));
        self.brokers = brokers;
        let topics: HashMap<Str, ConfigMap> =
            state.configured(ResourceType::Topic).map(|(name, map)| (name.clone(), map.clone())).collect();
        let before = std::mem::replace(&mut self.topics, topics);
        if !defaults_stay {
            return state.topics().map(|topic| topic.id).collect();
        }
        let same = |name: &Str| match (before.get(name), self.topics.get(name)) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        let names = before.keys().chain(self.topics.keys()).filter(|name| !same(name));
        names
            .filter_map(|name| state.topic(name))
            .map(|topic| topic.id)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }
}

fn host_and_port(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Partitions of this WAL, with their leader epochs.
fn led(state: &State, wal_id: u64) -> HashMap<TopicIdPartition, i32> {
    let with_epoch = |(topic_id, index): (Uuid, u32)| {
        let info = &state.topic_by_id(topic_id)?.partitions[index as usize];
        Some((TopicIdPartition::new(topic_id, index as i32), info.leader_epoch))
    };
    state.led_by(wal_id).into_iter().filter_map(with_epoch).collect()
}

/// Would it be ready if that WAL were sealed?
fn is_next_of(state: &State, wal_id: u64, sealed: u64) -> bool {
    let node_of = |wal_id: u64| state.wal(wal_id).map(|wal| wal.node_id);
    let open = state.wals().filter(|(other, wal)| {
        *other < wal_id && Some(wal.node_id) == node_of(wal_id) && wal.sealed_at.is_none()
    });
    open.map(|(other, _)| other).eq([sealed])
}

fn leader_counts(state: &State) -> HashMap<i32, usize> {
    let mut counts: HashMap<i32, usize> = HashMap::default();
    for info in state.topics().flat_map(|topic| &topic.partitions) {
        *counts.entry(info.leader).or_default() += 1;
    }
    counts
}

/// What this broker gives to whom, so that in the end all lead as many partitions, give or take one. All brokers make the same plan
/// of the same state, and each carries out its part.
fn plan_moves(state: &State, me: u64, lively: &BTreeSet<u64>) -> Vec<(u64, Vec<TopicIdPartition>)> {
    let counts = leader_counts(state);
    let mut brokers: Vec<(usize, i32, u64)> = state
        .live_brokers()
        .filter(|broker| lively.contains(&broker.wal_id) && state.can_lead(broker.wal_id))
        .map(|broker| (counts.get(&broker.node_id).copied().unwrap_or(0), broker.node_id, broker.wal_id))
        .collect();
    // Those that have most keep the odd ones.
    brokers.sort_unstable_by_key(|(count, node_id, _)| (std::cmp::Reverse(*count), *node_id));
    let total: usize = brokers.iter().map(|(count, ..)| count).sum();
    let share = |place: usize| total / brokers.len() + usize::from(place < total % brokers.len());
    let mut wanted: Vec<(u64, usize)> = Vec::new();
    let mut before_us = 0;
    let mut ours = 0;
    for (place, (count, _, wal_id)) in brokers.iter().enumerate() {
        let share = share(place);
        if *count < share {
            wanted.push((*wal_id, share - count));
        } else if *wal_id == me {
            ours = count - share;
        } else if ours == 0 && !brokers[..place].iter().any(|(.., earlier)| *earlier == me) {
            before_us += count - share;
        }
    }
    if ours == 0 || wanted.is_empty() {
        return Vec::new();
    }
    let led = state.led_by(me);
    // From all topics alike.
    let step = led.len() as f64 / ours as f64;
    let mut given = (0..ours).map(|n| led[(n as f64 * step) as usize]);
    let mut moves: Vec<(u64, Vec<TopicIdPartition>)> = Vec::new();
    for (heir, mut count) in wanted {
        let skipped = before_us.min(count);
        before_us -= skipped;
        count -= skipped;
        let some: Vec<TopicIdPartition> =
            given.by_ref().take(count).map(|(id, index)| TopicIdPartition::new(id, index as i32)).collect();
        moves.extend(some.chunks(MOVED_AT_ONCE).map(|some| (heir, some.to_vec())));
    }
    moves
}
