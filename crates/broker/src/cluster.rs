//! This broker among the others of its bucket: it says that it lives, watches who does not any more, takes over from them, follows
//! who leads what, and gives away what it has too much of.
//!
//! ```text
//!   catalog changes ─▶ follow: open what we lead now, close what went elsewhere     watch ─▶ a lease stands still ─▶ take over
//!                          └─▶ lease: we live, and have applied so much                └─▶ we lead more than others ─▶ move some
//! ```
//! Nothing here is needed for safety: what counts is decided by the metadata log and by the slots of the WALs (R11, R19).
//! A broker that is alone in a directory has none of this.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catalog::{Catalog, ConfigMap, LeaseWatch, Leases, PartitionInfo, ResourceType, State};
use commitlog::manifest::shard_of;
use commitlog::{CommitError, CommitLog, OpenError, PartitionSettings};
use futures_util::future::join_all;
use parking_lot::Mutex;
use protocol::{Str, TopicIdPartition, Uuid};
use world::clock::SharedClock;
use world::collections::HashMap;
use world::task::{self, JoinHandle};

use crate::configs::Configs;
use crate::counters::Counters;
use crate::groups::Groups;
use crate::peers::{Others, Peer};
use crate::slot_news::SlotNews;
use crate::topics::Topics;
use crate::transactions::Transactions;

/// Of one record that moves partitions.
const MOVED_AT_ONCE: usize = 5_000;
/// Partitions opened side by side share their reads; more at once take more memory.
const OPENED_AT_ONCE: usize = 20_000;
const RETRY: Duration = Duration::from_millis(500);
/// What is damaged is looked at again and again, but not all the time.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long a broker that leaves waits for its last commits and for the record that gives its partitions away.
const LEAVE_MAX: Duration = Duration::from_secs(20);
const HAND_OVER_TRIES: u32 = 5;
/// How often those who wait for all others look at the leases of brokers that do not answer.
const APPLIED_LOOK: Duration = Duration::from_millis(200);
/// How long one question for what is in effect at another broker waits there.
const APPLIED_WAIT: Duration = Duration::from_millis(500);
/// Without news others are spoken to this often, so that one that cannot be reached is known before there is something to say.
const GREET_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct ClusterOptions {
    pub clock: SharedClock,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub configs: Arc<Configs>,
    pub topics: Arc<Topics>,
    pub groups: Arc<Groups>,
    pub transactions: Arc<Transactions>,
    pub counters: Arc<Counters>,
    pub others: Option<Arc<Others>>,
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
        if let Some(others) = &options.others {
            options.catalog.hand_off_by(others.clone());
        }
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
        if let Some(others) = &cluster.options.others {
            let (catalog, log) = (cluster.options.catalog.clone(), cluster.options.log.clone());
            let news = SlotNews { catalog, log, others: others.clone() };
            tasks.push(task::spawn(news.run()));
        }
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
    async fn follow(self: Arc<Self>) {
        let mut changes = self.options.catalog.changes();
        let mut seen = SeenConfigs::default();
        loop {
            changes.borrow_and_update();
            let mut pause = RETRY;
            while !self.follow_once(&mut seen).await {
                task::sleep(RETRY).await;
                // What is new does not wait for what is damaged.
                if let Ok(Err(_)) = task::timeout(pause - RETRY, changes.changed()).await {
                    return;
                }
                pause = (pause * 2).min(RETRY_MAX);
            }
            self.clone().send_home();
            // An error means that the catalog is closed.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Somebody may wait for what was assigned just now.
    fn send_home(self: Arc<Self>) {
        let is_misled = {
            let state = self.options.catalog.read();
            let ours = |info: &&PartitionInfo| info.leader == self.options.catalog.node_id();
            let mut led = state.topics().flat_map(|topic| &topic.partitions).filter(ours);
            led.any(|info| state.misled(info).is_some())
        };
        let lively = self.lively.lock().clone();
        if is_misled && !lively.is_empty() {
            drop(task::spawn(async move { self.even_out(&lively).await }));
        }
    }

    /// False: to be done again soon.
    async fn follow_once(&self, seen: &mut SeenConfigs) -> bool {
        let ClusterOptions { catalog, log, topics, groups, transactions, counters, .. } = &self.options;
        let Differences { position, gone, deleted, missing, changed } = self.differences(seen);
        if !gone.is_empty() {
            log.close_partitions(&gone);
        }
        for id in deleted {
            log.remove_partitions(id).await;
            counters.forget_topic(id);
        }
        topics.follow_catalog(changed);
        let mut closed = 0;
        for some in missing.chunks(OPENED_AT_ONCE) {
            closed += self.open(some).await;
        }
        counters.partitions_not_open.store(closed as u64, Ordering::Relaxed);
        // What went elsewhere while it was being opened.
        let late: Vec<TopicIdPartition> = {
            let led = led(&catalog.read(), self.me());
            missing.into_iter().map(|(id, _)| id).filter(|id| !led.contains_key(id)).collect()
        };
        log.close_partitions(&late);
        log.follow_manifest().await;
        groups.follow_catalog();
        transactions.follow_catalog();
        // What stays closed serves nobody, so the log is followed there as well.
        catalog.set_applied(position);
        closed == 0
    }

    /// Opens partitions; how many of them could not be. A shard of the manifest that is damaged keeps nobody closed but those in it, and a
    /// slot those that it may have something of (P7).
    async fn open(&self, partitions: &[(TopicIdPartition, PartitionSettings)]) -> usize {
        let log = &self.options.log;
        let began = self.options.clock.monotonic();
        let mut closed = 0;
        match log.open_partitions(partitions).await {
            Ok(()) => {}
            Err(mut error @ OpenError::DamagedObject { .. }) => {
                let are_closed = |some: &[(TopicIdPartition, PartitionSettings)]| -> Vec<_> {
                    some.iter().filter(|(id, _)| log.partition(id).is_none()).cloned().collect()
                };
                let mut left = are_closed(partitions);
                // All of them: it is a shard, perhaps.
                if left.len() == partitions.len() {
                    let mut shards: BTreeMap<u32, Vec<(TopicIdPartition, PartitionSettings)>> =
                        BTreeMap::new();
                    for one in left {
                        shards.entry(shard_of(&one.0)).or_default().push(one);
                    }
                    for some in shards.into_values() {
                        if let Err(new) = log.open_partitions(&some).await {
                            error = new;
                        }
                    }
                    left = are_closed(partitions);
                }
                if let Some((first, _)) = left.first() {
                    tracing::error!("{} partitions stay closed, {first} first: {error}", left.len());
                }
                closed = left.len();
            }
            Err(error) => {
                tracing::warn!("{} partitions are not open yet: {error}", partitions.len());
                closed = partitions.len();
            }
        }
        let took = self.options.clock.monotonic().saturating_sub(began);
        tracing::info!("opened {} partitions in {} ms", partitions.len() - closed, took.as_millis());
        closed
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
        let no_breaks = world::watch::channel(0).0;
        let mut orphans = BTreeSet::new();
        // Whose machines say that they have ended.
        let mut ended = BTreeSet::new();
        let mut is_calm = false;
        let mut pause = ttl / 4;
        let mut breaks = match &self.options.others {
            Some(others) => others.peers.breaks(),
            None => no_breaks.subscribe(),
        };
        let mut began = task::now();
        loop {
            // From the start of a look to the start of the next one: where lists are slow, looks farther apart would not count.
            let left = (began + pause).saturating_duration_since(task::now());
            let has_broken = matches!(task::timeout(left, breaks.changed()).await, Ok(Ok(())));
            if has_broken {
                // Somebody may have died just now. Its time counts from the look that finds its last renewal.
                task::sleep(ttl / 60).await;
            }
            began = task::now();
            if self.is_leaving() || self.options.catalog.is_fenced() {
                return;
            }
            let at = self.options.clock.monotonic();
            let Ok(leases) = self.leases.list().await else { continue };
            let answered_at = self.options.clock.monotonic();
            let (live, open): (Vec<u64>, BTreeSet<u64>) = {
                let state = self.options.catalog.read();
                let live = state
                    .live_brokers()
                    .map(|broker| broker.wal_id)
                    .filter(|wal_id| state.wal(*wal_id).is_some());
                let open = state.wals().filter(|(_, wal)| wal.is_fenced && wal.sealed_at.is_none());
                (live.collect(), open.map(|(wal_id, _)| wal_id).collect())
            };
            watch.look(at, answered_at, ttl, live.iter().copied(), &leases);
            let is_late = |wal_id: u64| watch.unchanged(wal_id) >= Some(ttl / 2);
            let may_have_ended = |wal_id: u64| has_broken || ended.contains(&wal_id) || is_late(wal_id);
            ended = self.ended(&may_have_ended, ttl / 24).await;
            // A lease is renewed three times while it lives: of whom nobody listens any more, half of that time is proof enough.
            let is_gone =
                |wal_id: u64| watch.is_expired(wal_id, ttl) || is_late(wal_id) && ended.contains(&wal_id);
            let (gone, alive): (Vec<u64>, Vec<u64>) =
                live.iter().copied().partition(|wal_id| *wal_id != self.me() && is_gone(*wal_id));
            let is_lively = |wal_id: &u64| {
                *wal_id == self.me() || watch.is_lively(*wal_id, ttl) && !ended.contains(wal_id)
            };
            let lively: BTreeSet<u64> = alive.iter().copied().filter(is_lively).collect();
            *self.lively.lock() = lively.clone();
            let rank = alive.iter().filter(|wal_id| **wal_id < self.me()).count();
            let is_suspicious = |wal_id: &u64| {
                is_late(*wal_id) || ended.contains(wal_id) || is_calm && watch.is_same(*wal_id)
            };
            // The first takes over, the second watches the first. The others look less often until something seems wrong.
            let suspicious: Vec<u64> = alive.iter().copied().filter(is_suspicious).collect();
            is_calm = rank > 1 && gone.is_empty() && suspicious.is_empty();
            // Clients wait for the moment at which its time has run out.
            let lasts = |wal_id: &u64| if ended.contains(wal_id) { ttl / 2 } else { ttl };
            let left = suspicious
                .iter()
                .filter_map(|wal_id| Some(lasts(wal_id).saturating_sub(watch.unchanged(*wal_id)?)));
            pause = match left.min() {
                _ if is_calm => ttl,
                Some(left) => left.clamp(ttl / 24, ttl / 4),
                None => ttl / 4,
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

    /// Of the others that are asked, those whose machines say that nobody listens there any more. Those that say nothing have not ended,
    /// as far as anybody knows.
    async fn ended(&self, is_asked: &impl Fn(u64) -> bool, within: Duration) -> BTreeSet<u64> {
        let Some(others) = &self.options.others else { return BTreeSet::new() };
        let asked = self.others().into_iter().filter(|peer| is_asked(peer.wal_id)).map(|peer| async {
            let wal_id = peer.wal_id;
            others.peers.clone().refuses(peer, within).await.then_some(wal_id)
        });
        join_all(asked).await.into_iter().flatten().collect()
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

    /// Has its lease moved lately, as far as we have looked?
    pub fn is_lively(&self, wal_id: u64) -> bool {
        let lively = self.lively.lock();
        lively.is_empty() || lively.contains(&wal_id)
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
            let is_sealed = |wal_id: &u64| match state.wal(*wal_id) {
                Some(wal) => wal.sealed_at.is_some(),
                None => state.is_over(*wal_id),
            };
            leases.filter(is_sealed).collect()
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
        self.options.transactions.follow_catalog();
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
        // An error means that the catalog is closed. Without news, a greeting.
        while !matches!(task::timeout(GREET_EVERY, appended.changed()).await, Ok(Err(_))) {
            self.tell_others().await;
        }
    }

    /// Lets all live brokers know how far the metadata log goes, so that what it says is in effect there when clients come. Not waited
    /// for very long.
    pub async fn tell_others(&self) {
        let position = self.options.catalog.read().position();
        let told = self.others().into_iter().map(|peer| self.is_applied_at(peer, position));
        join_all(told).await;
    }

    /// Live brokers that may be reached.
    fn others(&self) -> Vec<Peer> {
        let Some(others) = &self.options.others else { return Vec::new() };
        let live = Others::live(&self.options.catalog.read(), self.me());
        others.peers.follow(&live);
        live
    }

    async fn is_applied_at(&self, peer: Peer, position: u64) -> bool {
        let Some(others) = &self.options.others else { return false };
        let progress = others.peers.clone().log_moved(peer, position, APPLIED_WAIT).await;
        progress.is_some_and(|progress| progress.applied >= position)
    }

    /// Waits until every live broker has what the catalog says up to a position: by its own word, or where it does not answer us by
    /// that of its lease. False: not within the time given.
    pub async fn applied_everywhere(&self, position: u64, within: Duration) -> bool {
        let everywhere = async {
            // By WAL id. Once applied it stays so.
            let mut applied: BTreeSet<u64> = BTreeSet::new();
            loop {
                let silent: Vec<u64> = {
                    let state = self.options.catalog.read();
                    let live = state.live_brokers().map(|broker| broker.wal_id);
                    live.filter(|wal_id| *wal_id != self.me() && !applied.contains(wal_id)).collect()
                };
                if silent.is_empty() && self.options.catalog.applied() >= position {
                    return;
                }
                let began = task::now();
                let reachable: HashMap<u64, Peer> =
                    self.others().into_iter().map(|peer| (peer.wal_id, peer)).collect();
                let asked = silent.into_iter().map(|wal_id| {
                    let peer = reachable.get(&wal_id).cloned();
                    async move {
                        let is_applied = match peer {
                            Some(peer) => self.is_applied_at(peer, position).await,
                            None => false,
                        };
                        let says = is_applied || self.lease_says(wal_id, position).await;
                        says.then_some(wal_id)
                    }
                });
                let found = join_all(asked).await;
                let is_better = found.iter().any(Option::is_some);
                applied.extend(found.into_iter().flatten());
                if !is_better {
                    task::sleep_until(began + APPLIED_LOOK).await;
                }
            }
        };
        task::timeout(within, everywhere).await.is_ok()
    }

    async fn lease_says(&self, wal_id: u64, position: u64) -> bool {
        matches!(self.leases.get(wal_id).await, Ok(Some(lease)) if lease.applied >= position)
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
    counts(state, |_| true)
}

/// Partitions whose replicas were assigned.
fn bound_counts(state: &State) -> HashMap<i32, usize> {
    counts(state, |info| info.assignment().is_some())
}

fn counts(state: &State, counts: impl Fn(&PartitionInfo) -> bool) -> HashMap<i32, usize> {
    let mut counted: HashMap<i32, usize> = HashMap::default();
    for info in state.topics().flat_map(|topic| &topic.partitions).filter(|info| counts(info)) {
        *counted.entry(info.leader).or_default() += 1;
    }
    counted
}

/// What this broker gives to whom, so that in the end assigned partitions are led by the first of their replicas that can, and all
/// brokers lead as many partitions, give or take one. All make the same plan of the same state, and each carries out its part.
fn plan_moves(state: &State, me: u64, lively: &BTreeSet<u64>) -> Vec<(u64, Vec<TopicIdPartition>)> {
    let led = state.led_by(me);
    let info = |id: &Uuid, index: u32| state.topic_by_id(*id)?.partitions.get(index as usize);
    let mut home: BTreeMap<u64, Vec<TopicIdPartition>> = BTreeMap::new();
    for (id, index) in &led {
        if let Some(broker) = info(id, *index).and_then(|info| state.misled(info))
            && lively.contains(&broker.wal_id)
        {
            home.entry(broker.wal_id).or_default().push(TopicIdPartition::new(*id, *index as i32));
        }
    }
    // What somebody has asked for goes before what would be even.
    if !home.is_empty() {
        return in_records(home);
    }
    let brokers = shares(state, lively);
    let mut wanted: Vec<(u64, usize)> = Vec::new();
    let mut before_us = 0;
    let mut ours = None;
    for broker in &brokers {
        match broker.leads.checked_sub(broker.share) {
            None => wanted.push((broker.wal_id, broker.share - broker.leads)),
            Some(spare) if broker.wal_id == me => ours = Some(spare),
            Some(spare) if ours.is_none() => before_us += spare,
            Some(_) => {}
        }
    }
    let ours = ours.unwrap_or(0);
    if ours == 0 || wanted.is_empty() {
        return Vec::new();
    }
    let free = |(id, index): &(Uuid, u32)| info(id, *index).is_some_and(|info| info.assignment().is_none());
    let led: Vec<(Uuid, u32)> = led.into_iter().filter(free).collect();
    // From all topics alike.
    let step = led.len() as f64 / ours as f64;
    let mut given = (0..ours).map(|n| led[(n as f64 * step) as usize]);
    let mut moves: BTreeMap<u64, Vec<TopicIdPartition>> = BTreeMap::new();
    for (heir, mut count) in wanted {
        let skipped = before_us.min(count);
        before_us -= skipped;
        count -= skipped;
        let some: Vec<TopicIdPartition> =
            given.by_ref().take(count).map(|(id, index)| TopicIdPartition::new(id, index as i32)).collect();
        moves.insert(heir, some);
    }
    in_records(moves)
}

struct Share {
    wal_id: u64,
    node_id: i32,
    leads: usize,
    /// Of those, the ones that somebody has put there: they stay.
    bound: usize,
    /// How many it should lead.
    share: usize,
}

/// Those that lead most first.
fn shares(state: &State, lively: &BTreeSet<u64>) -> Vec<Share> {
    let (leads, bound) = (leader_counts(state), bound_counts(state));
    let of = |counts: &HashMap<i32, usize>, node_id: i32| counts.get(&node_id).copied().unwrap_or(0);
    let ready = state
        .live_brokers()
        .filter(|broker| lively.contains(&broker.wal_id) && state.can_lead(broker.wal_id));
    let mut brokers: Vec<Share> = ready
        .map(|broker| {
            let (wal_id, node_id) = (broker.wal_id, broker.node_id);
            Share { wal_id, node_id, leads: of(&leads, node_id), bound: of(&bound, node_id), share: 0 }
        })
        .collect();
    brokers.sort_unstable_by_key(|broker| (std::cmp::Reverse(broker.leads), broker.node_id));
    let mut left: usize = brokers.iter().map(|broker| broker.leads).sum();
    let mut room: Vec<&mut Share> = brokers.iter_mut().collect();
    // Who has more bound to it than its share keeps just that, and the others share the rest.
    loop {
        let (before, share) = (room.len(), left / room.len().max(1));
        room.retain_mut(|broker| {
            let has_room = broker.bound <= share;
            if !has_room {
                broker.share = broker.bound;
                left -= broker.bound;
            }
            has_room
        });
        if room.len() == before {
            break;
        }
    }
    // Those that have most keep the odd ones.
    let (share, odd) = (left / room.len().max(1), left % room.len().max(1));
    for (place, broker) in room.into_iter().enumerate() {
        broker.share = share + usize::from(place < odd);
    }
    brokers
}

fn in_records(moves: BTreeMap<u64, Vec<TopicIdPartition>>) -> Vec<(u64, Vec<TopicIdPartition>)> {
    let all =
        moves.iter().flat_map(|(heir, some)| some.chunks(MOVED_AT_ONCE).map(|some| (*heir, some.to_vec())));
    all.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use catalog::{Catalog, CatalogOptions, MetadataRecord};
    use world::bucket::MemBucket;
    use world::rng::SeededRng;
    use world::task;

    use super::*;

    async fn broker(bucket: &MemBucket, node_id: i32) -> Arc<Catalog> {
        let options =
            CatalogOptions { node_id: Some(node_id), lease_ttl: Duration::ZERO, ..CatalogOptions::default() };
        let rng = SeededRng::shared(node_id as u64);
        Catalog::open_bucket(Arc::new(bucket.clone()), rng, options).await.unwrap()
    }

    /// Carries the plans of all brokers out until there are none; how many partitions each node leads then.
    async fn settle(brokers: &[Arc<Catalog>]) -> Vec<usize> {
        let lively: BTreeSet<u64> = brokers.iter().map(|broker| broker.wal_id()).collect();
        for _ in 0..9 {
            let mut is_calm = true;
            for broker in brokers {
                broker.catch_up().await.unwrap();
                let moves = plan_moves(&broker.read(), broker.wal_id(), &lively);
                for (heir, moved) in moves {
                    is_calm = false;
                    let partitions =
                        moved.iter().map(|id| (id.topic_id, vec![id.partition as u32])).collect();
                    broker
                        .append(vec![MetadataRecord::MovePartitions { slot: 1, heir, partitions }])
                        .await
                        .unwrap();
                }
            }
            if is_calm {
                brokers[0].catch_up().await.unwrap();
                let counts = leader_counts(&brokers[0].read());
                return brokers
                    .iter()
                    .map(|broker| counts.get(&broker.node_id()).copied().unwrap_or(0))
                    .collect();
            }
        }
        panic!("partitions go to and fro");
    }

    #[test]
    fn leaders_spread_evenly_around_those_that_were_assigned() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let bucket = MemBucket::new(1);
            let mut brokers = vec![broker(&bucket, 1).await];
            let topic_id = Uuid::from_u128(7);
            let create = MetadataRecord::CreateTopic {
                id: topic_id,
                name: Str::from("t"),
                partition_count: 12,
                replication_factor: 1,
                configs: Vec::new(),
            };
            brokers[0].append(vec![create]).await.unwrap();
            brokers.push(broker(&bucket, 2).await);
            brokers.push(broker(&bucket, 3).await);
            assert_eq!(settle(&brokers).await, [4, 4, 4]);
            let assign = |indices: std::ops::Range<u32>, nodes: &[i32]| MetadataRecord::AssignReplicas {
                topic_id,
                partitions: indices.map(|index| (index, nodes.to_vec())).collect(),
            };
            // Nobody can lead for node 9, so node 3 does.
            brokers[1].append(vec![assign(0..7, &[9, 3, 1])]).await.unwrap();
            assert_eq!(settle(&brokers).await, [3, 2, 7]);
            let leader =
                |index: usize| brokers[0].read().topic_by_id(topic_id).unwrap().partitions[index].leader;
            assert!((0..7).all(|index| leader(index) == 3));
            // What is free goes to those who have room.
            brokers[1].append(vec![assign(0..7, &[])]).await.unwrap();
            assert_eq!(settle(&brokers).await, [4, 4, 4]);
        });
    }
}
