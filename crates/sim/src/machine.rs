//! One simulated machine: a network address and a whole broker, on a disk of its own or on a bucket; it can lose its power and start
//! again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, BrokerOptions, Endpoint};
use catalog::config::BrokerConfig;
use catalog::{Catalog, CatalogOptions};
use commitlog::{CommitLog, LogSettings};
use protocol::Str;
use server::{BoundListener, Limits, Server};
use world::bucket::{Bucket, MemBucket, MemBucketFaults};
use world::clock::{SharedClock, SimClock};
use world::disk::{MemDisk, MemFaults};
use world::net::Net;
use world::rng::{Rng, SeededRng, SharedRng};
use world::task;

/// Where clients find it, across restarts.
pub const ADDRESS: &str = "127.0.0.1:9092";

/// Where its data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    Disk,
    Bucket,
}

enum Store {
    Disk(Arc<MemDisk>),
    /// What outlives the machine, and the store as the running process sees it.
    Bucket {
        store: MemBucket,
        process: MemBucket,
    },
}

pub struct Machine {
    store: Store,
    pub net: Net,
    pub clock: SharedClock,
    seeds: Arc<SeededRng>,
    running: Option<Running>,
}

struct Running {
    server: Arc<Server>,
    broker: Arc<Broker>,
    log: Arc<CommitLog>,
    catalog: Arc<Catalog>,
}

/// Each of them may meet a store that is silent for half a minute.
const STARTS_MAX: usize = 20;
const LAST_BREATH: Duration = Duration::from_millis(10);

/// Small files, so that a short run passes every kind of place.
fn settings() -> LogSettings {
    LogSettings {
        wal_file_bytes_min: 64 << 10,
        wal_file_bytes_max: 256 << 10,
        chunk_bytes_max: 32 << 10,
        tail_bytes_max: 64 << 10,
        cold_bytes_max: 64 << 10,
        checkpoint_bytes: 128 << 10,
        reserve_bytes: 0,
        linger: Duration::from_millis(20),
        puts_per_second: 50,
        ..LogSettings::default()
    }
}

impl Machine {
    /// Powered off, with nothing stored. Call [`task::deterministic`] before, and stay on one paused runtime.
    pub fn new(seed: u64, medium: Medium) -> Machine {
        let store = match medium {
            Medium::Disk => {
                let disk = MemDisk::new(seed);
                disk.set_faults(slow_disk());
                Store::Disk(disk)
            }
            Medium::Bucket => {
                let store = MemBucket::new(seed);
                store.set_faults(MemBucketFaults::all());
                Store::Bucket { process: store.client(), store }
            }
        };
        Machine {
            store,
            net: Net::memory(),
            clock: Arc::new(SimClock::new(1_750_000_000_000)),
            seeds: Arc::new(SeededRng::new(seed ^ 0x5eed)),
            running: None,
        }
    }

    /// Of all that the medium was asked for.
    pub fn trace_hash(&self) -> u64 {
        match &self.store {
            Store::Disk(disk) => disk.trace_hash(),
            Store::Bucket { store, .. } => store.trace_hash(),
        }
    }

    /// Randomness of its own for each user, drawn from the machine's seed.
    pub fn rng(&self) -> SharedRng {
        SeededRng::shared(self.seeds.next_u64())
    }

    /// Starts the broker on what is stored. Again and again where a bucket may be silent for longer than a start waits.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let mut started = self.try_start().await;
        for _ in 0..STARTS_MAX {
            if started.is_ok() || matches!(self.store, Store::Disk(_)) {
                break;
            }
            started = self.try_start().await;
        }
        started
    }

    async fn try_start(&mut self) -> anyhow::Result<()> {
        let rng = self.rng();
        let config = BrokerConfig::new([
            ("num.partitions", "3"),
            ("group.initial.rebalance.delay.ms", "0"),
            ("offsets.topic.num.partitions", "2"),
        ])?;
        let clock = self.clock.clone();
        // The next start takes the place of the one before without waiting.
        let options =
            CatalogOptions { node_id: Some(1), lease_ttl: Duration::ZERO, ..CatalogOptions::default() };
        let (catalog, log) = match &mut self.store {
            Store::Disk(disk) => {
                let (disk, root) = (disk.clone(), PathBuf::from("/data"));
                let metadata = root.join("metadata");
                let catalog =
                    Catalog::open(disk.clone(), metadata, clock.clone(), rng.clone(), options).await?;
                let log = root.join("log");
                let log = CommitLog::open(disk, log, clock, rng.clone(), settings(), catalog.clone()).await?;
                (catalog, log)
            }
            Store::Bucket { store, process } => {
                // What a start that failed left behind is dead.
                process.kill();
                *process = store.client();
                let bucket: Arc<dyn Bucket> = Arc::new(process.clone());
                let catalog = Catalog::open_bucket(bucket.clone(), rng.clone(), options).await?;
                let log = CommitLog::open_bucket(bucket, clock, rng.clone(), settings(), catalog.clone());
                (catalog, log.await?)
            }
        };
        let endpoint = Endpoint {
            listener_name: Str::from("PLAINTEXT"),
            security_protocol: 0,
            host: Str::from("127.0.0.1"),
            port: 9092,
        };
        let config = Arc::new(config.0);
        let broker = Broker::start(BrokerOptions {
            clock: self.clock.clone(),
            rng,
            catalog: catalog.clone(),
            log: log.clone(),
            config: config.clone(),
            node_id: 1,
            advertised: vec![endpoint],
            peers: None,
            sasl: Arc::default(),
        })
        .await?;
        let listener = BoundListener::bind(&self.net, "PLAINTEXT", ADDRESS, false).await?;
        let server = Server::start(vec![listener], broker.clone(), Limits::default(), self.clock.clone());
        self.running = Some(Running { server, broker, log, catalog });
        Ok(())
    }

    /// The power goes. A disk keeps a legal part of what was not synced; what was on its way to a bucket may arrive or not. Every
    /// handle is dead, and then the processes go: what the old broker still tries fails, so it acknowledges nothing more.
    pub async fn cut_power(&mut self, seed: u64) {
        match &self.store {
            Store::Disk(disk) => disk.crash(seed),
            Store::Bucket { process, .. } => process.kill(),
        }
        if let Some(running) = self.running.take() {
            // A request that waits for a bucket waits for ever.
            let _ = task::timeout(LAST_BREATH, running.server.shutdown()).await;
        }
        if let Store::Disk(disk) = &self.store {
            disk.set_faults(slow_disk());
        }
    }

    /// A graceful stop: commits finish, groups stay as they are.
    pub async fn stop(&mut self) {
        if let Some(Running { server, broker, log, catalog }) = self.running.take() {
            server.shutdown().await;
            broker.shutdown().await;
            log.close().await;
            catalog.close().await;
        }
    }
}

/// Every operation takes a seeded time, so that the order of things differs from seed to seed.
fn slow_disk() -> MemFaults {
    MemFaults { latency: Some((Duration::from_micros(50), Duration::from_millis(4))), ..MemFaults::default() }
}

/// Runs one seeded world to its end on this thread.
pub fn run<T>(seed: u64, world: impl Future<Output = T>) -> T {
    task::deterministic(seed);
    task::paused_runtime().block_on(world)
}
