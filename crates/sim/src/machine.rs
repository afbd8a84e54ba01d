//! One simulated machine: a disk, a network address, and a whole broker on them; it can lose its power and start again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, BrokerOptions, Endpoint};
use catalog::config::BrokerConfig;
use catalog::{Catalog, CatalogOptions};
use commitlog::{CommitLog, LogSettings};
use protocol::Str;
use server::{BoundListener, Limits, Server};
use world::clock::{SharedClock, SimClock};
use world::disk::{MemDisk, MemFaults};
use world::net::Net;
use world::rng::{Rng, SeededRng, SharedRng};
use world::task;

/// Where clients find it, across restarts.
pub const ADDRESS: &str = "127.0.0.1:9092";

pub struct Machine {
    pub disk: Arc<MemDisk>,
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
        ..LogSettings::default()
    }
}

impl Machine {
    /// Powered off, with an empty disk. Call [`task::deterministic`] before, and stay on one paused runtime.
    pub fn new(seed: u64) -> Machine {
        let disk = MemDisk::new(seed);
        disk.set_faults(slow_disk());
        Machine {
            disk,
            net: Net::memory(),
            clock: Arc::new(SimClock::new(1_750_000_000_000)),
            seeds: Arc::new(SeededRng::new(seed ^ 0x5eed)),
            running: None,
        }
    }

    /// Randomness of its own for each user, drawn from the machine's seed.
    pub fn rng(&self) -> SharedRng {
        SeededRng::shared(self.seeds.next_u64())
    }

    /// Starts the broker on what the disk holds.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let root = PathBuf::from("/data");
        let rng = self.rng();
        let config = BrokerConfig::new([
            ("num.partitions", "3"),
            ("group.initial.rebalance.delay.ms", "0"),
            ("offsets.topic.num.partitions", "2"),
        ])?;
        let catalog = Catalog::open(
            self.disk.clone(),
            root.join("metadata"),
            self.clock.clone(),
            rng.clone(),
            CatalogOptions::default(),
        )
        .await?;
        let log = CommitLog::open(
            self.disk.clone(),
            root.join("log"),
            self.clock.clone(),
            rng.clone(),
            settings(),
            catalog.clone(),
        )
        .await?;
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
        })
        .await?;
        let listener = BoundListener::bind(&self.net, "PLAINTEXT", ADDRESS, false).await?;
        let server = Server::start(vec![listener], broker.clone(), Limits::default(), self.clock.clone());
        self.running = Some(Running { server, broker, log, catalog });
        Ok(())
    }

    /// The power goes: the disk keeps a legal part of what was not synced, every handle is dead, and then the processes go.
    /// What the old broker still tries fails at the dead disk, so it acknowledges nothing more.
    pub async fn cut_power(&mut self, seed: u64) {
        self.disk.crash(seed);
        if let Some(running) = self.running.take() {
            running.server.shutdown().await;
        }
        self.disk.set_faults(slow_disk());
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
