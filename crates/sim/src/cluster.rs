//! Several brokers on one bucket, each a process of its own: with an address, a catalog, a commit log and a server. They can be
//! killed, stopped for a while, and asked to leave; whoever has gone is started again, as a supervisor would.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use broker::{Broker, BrokerOptions, Endpoint, INTER_BROKER_LISTENER};
use catalog::config::BrokerConfig;
use catalog::{BrokerEndpoint, Catalog, CatalogOptions};
use commitlog::bucket::BlockDirectory;
use commitlog::{CommitLog, LogSettings, LogState};
use parking_lot::Mutex;
use protocol::{Str, TopicIdPartition};
use server::{
    BoundInterBroker, BoundListener, InterBroker, InterBrokerLimits, Limits, PeerId, Security, Server,
};
use world::bucket::{Bucket, MemBucket};
use world::clock::{SharedClock, SimClock};
use world::disk::MemDisk;
use world::net::Net;
use world::process::Process;
use world::rng::{Rng, SeededRng, SharedRng};
use world::task;
use world::watch;

use crate::peers::ShakyPeers;
use crate::wire::Trouble;

pub const LEASE_TTL: Duration = Duration::from_secs(3);
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// Between a start that failed and the next one.
const START_PAUSE: Duration = Duration::from_millis(500);
/// How often a broker looks whether it still counts.
const FENCED_LOOK: Duration = Duration::from_secs(1);
const FIRST_PORT: u16 = 9092;
/// What a broker may keep of what it fetched, and what its disk has room for: it is full before the cache is.
const CACHE_BYTES: u64 = 64 << 10;
const CACHE_DISK_BYTES: u64 = 48 << 10;
/// One of so many files of caches is damaged whenever a broker starts, stops for a while or goes on.
const CACHE_DAMAGED: u64 = 2;
/// Between a broker's port for clients and the one for other brokers.
const INTER_BROKER_PORTS: u16 = 1000;

/// Small objects and short intervals, so that a short run passes every kind of place.
fn settings() -> LogSettings {
    LogSettings {
        chunk_bytes_max: 16 << 10,
        tail_bytes_max: 8 << 10,
        cold_bytes_max: 8 << 10,
        linger: Duration::from_millis(20),
        linger_max: Duration::from_millis(200),
        puts_per_second: 20,
        rewrite_interval: Duration::from_millis(500),
        rewrite_job_bytes: 32 << 10,
        // What was read is asked for again: the cache on the disk has something to do.
        bucket_cache_bytes: 2 << 10,
        bucket_shard_whole_bytes: 0,
        bucket_shard_changes_percent: 300,
        bucket_digest_slots: 5,
        bucket_backlog_slots_max: 64,
        bucket_rewrite_slots: 12,
        bucket_rewrite_age: Duration::from_secs(15),
        bucket_segment_bytes: 96 << 10,
        segment_own_bytes: 12 << 10,
        bucket_merge_segments: 3,
        bucket_merge_interval: Duration::from_secs(1),
        bucket_replaced_keep: Duration::from_secs(2),
        ..LogSettings::default()
    }
}

/// What is the same for all of them.
#[derive(Clone)]
struct World {
    store: MemBucket,
    net: Net,
    clock: SharedClock,
    seeds: Arc<SeededRng>,
    counts: Arc<Counts>,
    findings: Arc<Mutex<Vec<String>>>,
    between_brokers: Trouble,
}

#[derive(Default)]
pub struct Counts {
    pub starts: AtomicU64,
    /// Brokers that found that others had taken over from them, and began anew.
    pub rejoined: AtomicU64,
    pub left: AtomicU64,
    /// Blocks of segments that were found in files, and files that were damaged, of processes that are gone.
    pub cache_hits: AtomicU64,
    pub cache_damaged: AtomicU64,
}

impl Counts {
    fn take_cache(&self, log: &CommitLog) {
        if let Some(files) = log.block_files() {
            self.cache_hits.fetch_add(files.counters.hits.load(Ordering::Relaxed), Ordering::Relaxed);
            self.cache_damaged.fetch_add(files.counters.damaged.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

pub struct Cluster {
    world: World,
    brokers: Vec<Seat>,
}

/// Where a broker is, whichever process has the place now.
struct Seat {
    port: u16,
    process: Process,
    bucket: MemBucket,
    /// For its cache of blocks; outlives the process.
    disk: Arc<MemDisk>,
    leave: watch::Sender<bool>,
    /// Serves, as far as it knows.
    is_up: Arc<AtomicBool>,
    running: Arc<Mutex<Option<Running>>>,
}

#[derive(Clone)]
struct Running {
    server: Arc<Server>,
    broker: Arc<Broker>,
    log: Arc<CommitLog>,
    catalog: Arc<Catalog>,
    others: Arc<InterBroker>,
}

impl Running {
    fn leads(&self, topic: &str, partition: i32) -> Option<(Arc<CommitLog>, TopicIdPartition, i32)> {
        let state = self.catalog.read();
        let topic = state.topic(topic)?;
        let info = topic.partitions.get(partition as usize)?;
        let id = TopicIdPartition::new(topic.id, partition);
        let is_led = info.leader == self.catalog.node_id() && self.log.partition(&id).is_some();
        is_led.then(|| (self.log.clone(), id, info.leader_epoch))
    }
}

/// How a broker ends that nobody has killed.
enum End {
    Left,
    TakenOver,
    Ended,
}

impl Cluster {
    /// Nobody runs yet. Call [`task::deterministic`] before, and stay on one paused runtime.
    pub fn new(seed: u64, brokers: usize) -> Cluster {
        let world = World {
            store: MemBucket::new(seed),
            net: Net::memory(),
            clock: Arc::new(SimClock::new(1_750_000_000_000)),
            seeds: Arc::new(SeededRng::new(seed ^ 0xc1a5)),
            counts: Arc::default(),
            findings: Arc::default(),
            between_brokers: Trouble::default(),
        };
        let seat = |number| Seat {
            port: FIRST_PORT + number as u16,
            process: Process::new(),
            bucket: world.store.client(),
            disk: small_disk(seed + number as u64),
            leave: watch::channel(false).0,
            is_up: Arc::default(),
            running: Arc::default(),
        };
        Cluster { brokers: (0..brokers).map(seat).collect(), world }
    }

    pub fn store(&self) -> &MemBucket {
        &self.world.store
    }

    pub fn net(&self) -> &Net {
        &self.world.net
    }

    pub fn clock(&self) -> SharedClock {
        self.world.clock.clone()
    }

    pub fn counts(&self) -> &Counts {
        &self.world.counts
    }

    pub fn len(&self) -> usize {
        self.brokers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.brokers.is_empty()
    }

    /// What brokers met that must not be.
    pub fn findings(&self) -> Vec<String> {
        self.world.findings.lock().clone()
    }

    /// Randomness of its own for each user, drawn from the seed.
    pub fn rng(&self) -> SharedRng {
        SeededRng::shared(self.world.seeds.next_u64())
    }

    pub fn addresses(&self) -> Vec<String> {
        self.brokers.iter().map(|seat| format!("127.0.0.1:{}", seat.port)).collect()
    }

    pub fn is_up(&self, number: usize) -> bool {
        self.brokers[number].is_up.load(Ordering::Acquire)
    }

    /// A new process in this place. The one before must be dead or have left.
    pub fn start(&mut self, number: usize) {
        let world = self.world.clone();
        let seat = &mut self.brokers[number];
        seat.process = Process::new();
        seat.bucket = world.store.client();
        seat.leave = watch::channel(false).0;
        let (port, is_up, running) = (seat.port, seat.is_up.clone(), seat.running.clone());
        let (bucket, leave) = (seat.bucket.clone(), seat.leave.subscribe());
        seat.disk.kill();
        let disk = seat.disk.clone();
        drop(seat.process.spawn(live(world, port, bucket, disk, leave, is_up, running)));
        self.damage_caches();
    }

    /// Files of all brokers, of those that run as well.
    pub fn damage_caches(&self) {
        self.brokers.iter().for_each(|seat| damage_some(&seat.disk, &*self.world.seeds));
    }

    /// Nothing of it runs ever again. What it has sent to the bucket may arrive.
    pub fn kill(&mut self, number: usize) {
        let seat = &mut self.brokers[number];
        seat.process.kill();
        seat.bucket.kill();
        seat.is_up.store(false, Ordering::Release);
        if let Some(running) = seat.running.lock().take() {
            self.world.counts.take_cache(&running.log);
        }
    }

    pub fn pause(&self, number: usize) {
        self.damage_caches();
        self.brokers[number].process.pause();
    }

    pub fn resume(&self, number: usize) {
        self.damage_caches();
        self.brokers[number].process.resume();
    }

    /// Asks it to go; it is not up any more when it has gone.
    pub fn leave(&self, number: usize) {
        self.brokers[number].leave.send_replace(true);
    }

    /// How often calls from one broker to another go wrong.
    pub fn between_brokers(&self) -> &Trouble {
        &self.world.between_brokers
    }

    /// Appends of those that run now which the controller was asked to make, and those of which it said nothing in time.
    pub fn handed_off(&self) -> (u64, u64) {
        let running = self.brokers.iter().filter_map(|seat| seat.running.lock().clone());
        running.fold((0, 0), |(all, unknown), running| {
            let counters = running.catalog.counters();
            (
                all + counters.handed_off.load(Ordering::Relaxed),
                unknown + counters.handed_off_unknown.load(Ordering::Relaxed),
            )
        })
    }

    /// Those who lead a partition, as far as they know, each with its log and its epoch.
    pub fn leading(&self, topic: &str, partition: i32) -> Vec<(Arc<CommitLog>, TopicIdPartition, i32)> {
        let running = self.brokers.iter().filter_map(|seat| seat.running.lock().clone());
        running.filter_map(|running| running.leads(topic, partition)).collect()
    }

    pub fn is_leading(&self, number: usize, topic: &str, partition: i32) -> bool {
        let running = self.brokers[number].running.lock().clone();
        running.is_some_and(|running| running.leads(topic, partition).is_some())
    }

    /// Each broker is in a rack of its own.
    pub fn rack(number: usize) -> String {
        format!("rack-{number}")
    }

    /// Blocks of segments that brokers found in their files, and files that were damaged, so far.
    pub fn caches(&self) -> (u64, u64) {
        let counts = Counts::default();
        let gone = &self.world.counts;
        counts.cache_hits.store(gone.cache_hits.load(Ordering::Relaxed), Ordering::Relaxed);
        counts.cache_damaged.store(gone.cache_damaged.load(Ordering::Relaxed), Ordering::Relaxed);
        for seat in &self.brokers {
            if let Some(running) = &*seat.running.lock() {
                counts.take_cache(&running.log);
            }
        }
        (counts.cache_hits.into_inner(), counts.cache_damaged.into_inner())
    }

    pub fn takeovers(&self) -> u64 {
        let running = self.brokers.iter().filter_map(|seat| seat.running.lock().clone());
        running.map(|running| running.broker.counters().takeovers.load(Ordering::Relaxed)).sum()
    }
}

/// A process from its start to its end; begins anew when others have taken over from it.
async fn live(
    world: World,
    port: u16,
    bucket: MemBucket,
    disk: Arc<MemDisk>,
    mut leave: watch::Receiver<bool>,
    is_up: Arc<AtomicBool>,
    place: Arc<Mutex<Option<Running>>>,
) {
    loop {
        let running = match start(&world, port, &bucket, &disk).await {
            Ok(running) => running,
            Err(error) => {
                tracing::info!("a start failed: {error:#}");
                task::sleep(START_PAUSE).await;
                continue;
            }
        };
        world.counts.starts.fetch_add(1, Ordering::Relaxed);
        *place.lock() = Some(running.clone());
        is_up.store(true, Ordering::Release);
        let end = tokio::select! {
            biased;
            _ = leave.wait_for(|leave| *leave) => End::Left,
            end = fenced(&running, &world) => end,
        };
        if matches!(end, End::Left) {
            running.broker.leave().await;
        }
        place.lock().take();
        let Running { server, broker, log, catalog, others } = running;
        world.counts.take_cache(&log);
        tracing::debug!("stopping the server");
        server.shutdown().await;
        others.stop().await;
        tracing::debug!("stopping the broker");
        broker.shutdown().await;
        tracing::debug!("closing the log");
        log.close().await;
        tracing::debug!("closing the catalog");
        catalog.close().await;
        tracing::debug!("closed");
        drop((server, broker));
        match end {
            End::Left => {
                world.counts.left.fetch_add(1, Ordering::Relaxed);
                is_up.store(false, Ordering::Release);
                return;
            }
            End::TakenOver => drop(world.counts.rejoined.fetch_add(1, Ordering::Relaxed)),
            End::Ended => task::sleep(START_PAUSE).await,
        }
    }
}

/// What power cuts and old age do to files.
fn damage_some(disk: &MemDisk, rng: &dyn Rng) {
    for path in disk.files() {
        let len = disk.content(&path).map_or(0, |content| content.len() as u64);
        if len > 0 && rng.below(CACHE_DAMAGED) == 0 {
            disk.flip_bit(&path, rng.below(len), rng.below(8) as u8);
        }
    }
}

fn small_disk(seed: u64) -> Arc<MemDisk> {
    let disk = MemDisk::new(seed);
    disk.set_capacity_bytes(CACHE_DISK_BYTES);
    disk
}

async fn start(world: &World, port: u16, bucket: &MemBucket, disk: &Arc<MemDisk>) -> anyhow::Result<Running> {
    let listener = BoundListener::bind(&world.net, "PLAINTEXT", &format!("127.0.0.1:{port}"), false).await?;
    let for_brokers =
        BoundInterBroker::bind(&world.net, &format!("127.0.0.1:{}", port + INTER_BROKER_PORTS)).await?;
    let rng: SharedRng = SeededRng::shared(world.seeds.next_u64());
    let config = |node_id: i32| {
        let properties = [
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
            ("offsets.topic.num.partitions", "2".to_owned()),
            ("transaction.state.log.num.partitions", "2".to_owned()),
            ("bucket.lease.ttl.ms", LEASE_TTL.as_millis().to_string()),
            ("node.id", node_id.to_string()),
        ];
        BrokerConfig::new(properties).map(|(config, _)| Arc::new(config))
    };
    let endpoint = Endpoint {
        listener_name: Str::from("PLAINTEXT"),
        security_protocol: 0,
        host: Str::from("127.0.0.1"),
        port,
    };
    let options = CatalogOptions {
        lease_ttl: LEASE_TTL,
        follow_every: FOLLOW_EVERY,
        snapshot_frames: 25,
        rack: Some(Cluster::rack(usize::from(port - FIRST_PORT)).as_str().into()),
        endpoints: vec![
            BrokerEndpoint {
                listener_name: endpoint.listener_name.clone(),
                security_protocol: endpoint.security_protocol,
                host: endpoint.host.clone(),
                port: endpoint.port,
            },
            BrokerEndpoint {
                listener_name: INTER_BROKER_LISTENER.into(),
                security_protocol: 1,
                host: endpoint.host.clone(),
                port: for_brokers.address().port(),
            },
        ],
        ..CatalogOptions::default()
    };
    let shared: Arc<dyn Bucket> = Arc::new(bucket.clone());
    let catalog = Catalog::open_bucket(shared.clone(), rng.clone(), options).await?;
    let cache = BlockDirectory { disk: disk.clone(), dir: "/cache".into(), bytes_max: CACHE_BYTES };
    let (clock, own_rng) = (world.clock.clone(), rng.clone());
    let log = CommitLog::open_bucket_cached(shared, clock, own_rng, settings(), catalog.clone(), Some(cache));
    let log = match log.await {
        Ok(log) => log,
        Err(error) => {
            // What waits for it must not keep the lease alive.
            catalog.close().await;
            return Err(error.into());
        }
    };
    let node_id = catalog.node_id();
    let me = PeerId { node_id, wal_id: catalog.wal_id() };
    let others = InterBroker::new(world.net.clone(), Security::Memory(me), world.clock.clone());
    let shaky = ShakyPeers {
        inner: others.clone(),
        trouble: world.between_brokers.clone(),
        rng: SeededRng::shared(world.seeds.next_u64()),
    };
    let broker = Broker::start(BrokerOptions {
        clock: world.clock.clone(),
        rng,
        catalog: catalog.clone(),
        log: log.clone(),
        config: config(node_id)?,
        node_id,
        advertised: vec![endpoint],
        peers: Some(Arc::new(shaky)),
        sasl: Arc::default(),
    });
    let broker = match broker.await {
        Ok(broker) => broker,
        Err(error) => {
            log.close().await;
            catalog.close().await;
            return Err(error.into());
        }
    };
    others.serve(for_brokers, broker.clone(), InterBrokerLimits::default());
    let server = Server::start(vec![listener], broker.clone(), Limits::default(), world.clock.clone());
    Ok(Running { server, broker, log, catalog, others })
}

/// Resolves when this broker does not count any more, as `ottla serve` finds out.
async fn fenced(running: &Running, world: &World) -> End {
    let Running { catalog, log, .. } = running;
    let mut changes = catalog.changes();
    let found = |why: String| {
        world.findings.lock().push(format!("broker {} ended: {why}", catalog.node_id()));
        End::Ended
    };
    loop {
        if catalog.is_fenced() {
            let newest = catalog.read().broker(catalog.node_id()).map(|broker| broker.wal_id);
            return match newest == Some(catalog.wal_id()) {
                true => End::TakenOver,
                false => End::Ended,
            };
        }
        if let Some(why) = catalog.failure() {
            return found(why);
        }
        if let (LogState::Failed(why), true) = (log.state(), catalog.catch_up().await.is_ok()) {
            if !catalog.is_fenced() {
                return found(why);
            }
            continue;
        }
        let _ = task::timeout(FENCED_LOOK, changes.changed()).await;
    }
}
