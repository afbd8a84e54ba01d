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
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use protocol::{Str, TopicIdPartition, Uuid};
use world::clock::SharedClock;
use world::collections::HashMap;
use world::task::{self, JoinHandle};

use crate::balance::{Move, Planning, leader_counts, load_moves, next_move, zone_moves};
use crate::configs::Configs;
use crate::counters::Counters;
use crate::groups::Groups;
use crate::load::Loads;
use crate::new_leader::NewLeaderships;
use crate::openings::Openings;
use crate::peers::{Others, Peer};
use crate::slot_news::SlotNews;
use crate::topics::Topics;
use crate::transactions::Transactions;

/// Records of one look that move partitions: each is planned when the one before is there.
const MOVES_PER_LOOK: usize = 100;
/// Partitions opened side by side share their reads; more at once take more memory.
const OPENED_AT_ONCE: usize = 20_000;
/// Brokers that are taken over from side by side.
const TAKEOVERS_AT_ONCE: usize = 16;
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
    /// New for as long as a lease lives. What has come from another broker stays for so long: by then all know the same ones to be lively.
    new: NewLeaderships,
    loads: Loads,
    /// When zones and traffic were looked at last, or this broker started.
    looked: Mutex<Duration>,
    /// What this node led when it started was opened, as far as it could be.
    has_begun: AtomicBool,
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
    /// Nobody has led them before: there is nothing to read.
    fresh: Vec<TopicIdPartition>,
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
        let new = NewLeaderships::new(options.clock.clone(), options.lease_ttl);
        let loads = Loads::new(options.clock.clone());
        let looked = Mutex::new(options.clock.monotonic());
        let cluster = Arc::new(Cluster {
            options,
            leases,
            loads,
            looked,
            moving: tokio::sync::Mutex::default(),
            is_leaving: AtomicBool::new(false),
            lively: Mutex::default(),
            new,
            has_begun: AtomicBool::new(false),
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
        let (mut seen, mut openings) = (SeenConfigs::default(), Openings::default());
        loop {
            changes.borrow_and_update();
            self.follow_once(&mut seen, &mut openings).await;
            self.clone().send_home();
            let ended = tokio::select! {
                biased;
                ended = openings.next() => ended,
                changed = changes.changed() => {
                    // An error means that the catalog is closed.
                    if changed.is_err() {
                        return;
                    }
                    openings.metadata_changed();
                    continue;
                }
            };
            if ended.is_empty() {
                continue;
            }
            let log = &self.options.log;
            self.look_what_is_open(&Vec::from_iter(ended.iter().copied()));
            openings.rest(ended.into_iter().filter(|id| log.partition(id).is_none()));
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

    async fn follow_once(self: &Arc<Self>, seen: &mut SeenConfigs, openings: &mut Openings) {
        let ClusterOptions { catalog, log, topics, groups, transactions, counters, .. } = &self.options;
        let Differences { position, gone, deleted, mut missing, fresh, changed } = self.differences(seen);
        if !gone.is_empty() {
            log.close_partitions(&gone);
        }
        for id in deleted {
            log.remove_partitions(id).await;
            counters.forget_topic(id);
        }
        self.new.opening(fresh.iter().copied(), false);
        topics.follow_catalog(changed);
        self.look_what_is_open(&fresh);
        missing.retain(|(id, _)| !openings.has(id));
        // What this node led when it started has come from nobody.
        let is_from_another = self.has_begun.swap(true, Ordering::Relaxed);
        let mut waiting = missing.len();
        for some in missing.chunks(OPENED_AT_ONCE) {
            if !openings.has_room() {
                break;
            }
            let ids: BTreeSet<TopicIdPartition> = some.iter().map(|(id, _)| *id).collect();
            self.new.opening(ids.iter().copied(), is_from_another);
            let (this, some) = (self.clone(), some.to_vec());
            waiting -= some.len();
            openings.begin(ids, catalog.applied(), async move { this.open(&some).await });
        }
        counters.partitions_not_open.store((openings.count() + waiting) as u64, Ordering::Relaxed);
        log.follow_manifest().await;
        groups.follow_catalog();
        transactions.follow_catalog();
        // What cannot be opened serves nobody, so the log is followed there as well.
        if waiting == 0 {
            catalog.set_applied(openings.applied_max().unwrap_or(position));
        }
    }

    /// Opens partitions, as far as they can be. A shard of the manifest that is damaged keeps nobody closed but those in it, and a slot
    /// those that it may have something of (P7).
    async fn open(&self, partitions: &[(TopicIdPartition, PartitionSettings)]) {
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
                0 => {
                    new_topics.insert(id.topic_id);
                    found.fresh.push(id);
                }
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
                // One record after the other takes as long as the store does, and all of them share one.
                let all = stream::iter(gone.into_iter().chain(left));
                all.for_each_concurrent(TAKEOVERS_AT_ONCE, |wal_id| self.take_over(wal_id)).await;
                self.remove_leases(leases.into_keys()).await;
            }
            self.look_at_traffic();
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

    /// Have we begun to lead this partition a moment ago?
    pub fn is_new_leader_of(&self, id: &TopicIdPartition) -> bool {
        self.new.has(id)
    }

    /// Has its lease moved lately, as far as we have looked?
    pub fn is_lively(&self, wal_id: u64) -> bool {
        let lively = self.lively.lock();
        lively.is_empty() || lively.contains(&wal_id)
    }

    /// Who may get partitions, those that lead fewest first, zones in turn: what a topic loses goes to all of them.
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
        let mut of_zone: BTreeMap<Option<&Str>, usize> = BTreeMap::new();
        let in_turn = |(_, wal_id): (usize, u64)| {
            let node = state.wal(wal_id).and_then(|wal| state.broker(wal.node_id));
            let before = of_zone.entry(node.and_then(|broker| broker.rack.as_ref())).or_default();
            *before += 1;
            (*before, wal_id)
        };
        let mut heirs: Vec<(usize, u64)> = heirs.into_iter().map(in_turn).collect();
        // Stable: among those with the same turn the one that leads fewest stays first.
        heirs.sort_by_key(|(turn, _)| *turn);
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

    /// Gives away what we lead more than our share, to those that lead less than theirs and are done with what they have got before; from
    /// time to time also what makes zones or traffic uneven.
    async fn even_out(&self, lively: &BTreeSet<u64>) {
        let Ok(_one_at_a_time) = self.moving.try_lock() else { return };
        let mut busy = BTreeSet::new();
        for _ in 0..MOVES_PER_LOOK {
            let (position, planned) = self.plan(lively, &busy, next_move);
            let Some(planned) = planned else { break };
            self.give(position, vec![planned], &mut busy).await;
            if self.is_leaving() {
                return;
            }
        }
        if !self.is_time_to_look() {
            return;
        }
        let counters = &self.options.counters;
        let (position, moves) = self.plan(lively, &busy, zone_moves);
        let given = self.give(position, moves, &mut busy).await;
        counters.leaders_moved_for_zones.fetch_add(given, Ordering::Relaxed);
        let mut loads = self.loads.others();
        loads.insert(self.me(), self.loads.own());
        let (position, moves) =
            self.plan(lively, &busy, |state, planning| load_moves(state, planning, &loads));
        let given = self.give(position, moves, &mut busy).await;
        counters.leaders_moved_for_load.fetch_add(given, Ordering::Relaxed);
    }

    /// With the position of the metadata log that it was planned at.
    fn plan<T>(
        &self,
        lively: &BTreeSet<u64>,
        busy: &BTreeSet<u64>,
        plan: impl FnOnce(&State, &Planning<'_>) -> T,
    ) -> (u64, T) {
        let ClusterOptions { catalog, log, .. } = &self.options;
        let lately = self.new.received();
        let state = catalog.read();
        let planning = Planning {
            me: self.me(),
            lively,
            busy,
            is_open: &|id| log.partition(id).is_some(),
            came_lately: &|id| lately.contains(id),
            load_of: &|id| self.loads.of(id),
        };
        (state.position(), plan(&state, &planning))
    }

    /// Gives away what was planned, but to nobody who is busy, and nothing any more once we leave: whoever leaves waits for this. How many
    /// partitions went.
    async fn give(&self, position: u64, moves: Vec<Move>, busy: &mut BTreeSet<u64>) -> u64 {
        let mut given = 0;
        for (heir, partitions) in moves {
            if self.is_leaving() {
                break;
            }
            // What goes to a broker that still opens what it has got waits there, without a leader.
            if busy.contains(&heir) || !self.has_applied(heir, position).await {
                busy.insert(heir);
                continue;
            }
            if self.is_leaving() {
                break;
            }
            let began = self.options.clock.monotonic();
            // Clients are told that nobody leads them here until it is known whether they go.
            self.new.opening(partitions.iter().copied(), true);
            let moved = self.options.log.move_partitions(&partitions, heir).await;
            self.look_what_is_open(&partitions);
            match moved {
                Ok(()) => {
                    let took = self.options.clock.monotonic().saturating_sub(began).as_millis();
                    tracing::info!("moved {} partitions to WAL {heir} in {took} ms", partitions.len());
                    given += partitions.len() as u64;
                }
                Err(error) => {
                    tracing::warn!("{} partitions stay here: {error}", partitions.len());
                    busy.insert(heir);
                }
            }
        }
        given
    }

    /// For zones and traffic, which change slowly.
    fn is_time_to_look(&self) -> bool {
        let config = self.options.configs.started_with();
        let every = Duration::from_secs(config.leader_imbalance_check_interval_seconds().max(1) as u64);
        let now = self.options.clock.monotonic();
        let mut looked = self.looked.lock();
        let is_time = config.auto_leader_rebalance_enable() && now.saturating_sub(*looked) >= every;
        if is_time {
            *looked = now;
        }
        is_time
    }

    fn look_at_traffic(&self) {
        self.loads.look(|| self.options.log.traffic());
    }

    /// Bytes per second of what we lead.
    pub fn load(&self) -> u64 {
        self.loads.own()
    }

    fn look_what_is_open(&self, ids: &[TopicIdPartition]) {
        self.new.opened(ids.iter().copied(), |id| self.options.log.partition(id).is_some());
    }

    /// Does another broker do all that the metadata says up to here? By its own word, or where it does not answer us by that of its lease.
    async fn has_applied(&self, wal_id: u64, position: u64) -> bool {
        let peer = self.others().into_iter().find(|peer| peer.wal_id == wal_id);
        let says = match peer {
            Some(peer) => self.is_applied_at(peer, position).await,
            None => false,
        };
        says || self.lease_says(wal_id, position).await
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
            let all = self.options.log.partition_ids();
            self.new.opening(all.iter().copied(), true);
            let retired = self.options.log.retire(&heirs).await;
            self.look_what_is_open(&all);
            match retired {
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
        let wal_id = peer.wal_id;
        let Some(progress) = others.peers.clone().log_moved(peer, position, APPLIED_WAIT).await else {
            return false;
        };
        if let Some(load) = progress.load {
            self.loads.said(wal_id, load);
        }
        progress.applied >= position
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
                let asked = silent
                    .into_iter()
                    .map(|wal_id| async move { self.has_applied(wal_id, position).await.then_some(wal_id) });
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
