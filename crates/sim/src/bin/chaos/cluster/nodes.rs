//! The brokers: each a process with two networks of its own that can break, one to the store and one to its clients.
//!
//! ```text
//!   clients ─▶ to_clients (proxy) ─▶ ottla serve ─▶ to_store (proxy) ─▶ versitygw
//! ```
//! A process that ends by itself is started again, as an operator's supervisor would; how often is counted.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::proxy::{Proxy, Traffic};
use super::store::{self, Store};
use crate::broker::{Broker, Settings, last_words};

/// From the start of a process to its first answer; an outage of the store may lie between.
const READY_MAX: Duration = Duration::from_secs(120);
/// A planned leave.
const LEAVE_MAX: Duration = Duration::from_secs(45);
const LOOK: Duration = Duration::from_millis(100);
/// A start that fails at once is not tried in a tight loop.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// Wall clocks are at most so much wrong; S3 refuses requests that are 15 minutes off.
const CLOCK_SHIFT_SECONDS_MAX: i32 = 120;

pub struct Node {
    pub index: usize,
    pub to_store: Proxy,
    pub to_clients: Proxy,
    settings: Settings,
    /// `None`: down on purpose.
    process: Mutex<Option<Broker>>,
    /// That the process ended although nobody asked for it.
    pub ended_by_itself: AtomicU32,
    clock: Option<parking_lot::Mutex<Clock>>,
}

/// A wall clock that is wrong, differently after each start.
struct Clock {
    library: PathBuf,
    random: StdRng,
}

pub struct Setting<'a> {
    pub bin: &'a Path,
    pub work: &'a Path,
    pub partitions: i32,
    pub properties: &'a [(String, String)],
    pub clock_library: Option<PathBuf>,
    pub seed: u64,
}

impl Node {
    /// Its networks; no process yet.
    pub async fn new(index: usize, port: u16, store: &Store, setting: &Setting<'_>) -> anyhow::Result<Node> {
        let seed = setting.seed.wrapping_mul(1000).wrapping_add(index as u64);
        let to_store = Proxy::start(store.address, Traffic::Requests, seed).await?;
        let to_clients = Proxy::start(([127, 0, 0, 1], port).into(), Traffic::Bytes, seed).await?;
        let advertised = format!("PLAINTEXT://127.0.0.1:{}", to_clients.port);
        let mut extra = vec![("advertised.listeners".to_owned(), advertised)];
        extra.extend_from_slice(setting.properties);
        let settings = Settings {
            bin: setting.bin.to_owned(),
            data: store::url(to_store.port).into(),
            log: setting.work.join(format!("broker-{index}.log")),
            port,
            partitions: setting.partitions,
            extra,
        };
        let clock = setting.clock_library.clone();
        let clock = clock.map(|library| Clock { library, random: StdRng::seed_from_u64(seed) }.into());
        let process = Mutex::new(None);
        Ok(Node { index, to_store, to_clients, settings, process, ended_by_itself: AtomicU32::new(0), clock })
    }

    /// Where clients meet it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.to_clients.port)
    }

    /// Its own port, which no partition stands before.
    pub fn port(&self) -> u16 {
        self.settings.port
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.settings.log).unwrap_or_default()
    }

    pub async fn start(&self) -> anyhow::Result<()> {
        let mut process = self.process.lock().await;
        ensure!(process.is_none(), "broker {} runs already", self.index);
        *process = Some(self.launch()?);
        Ok(())
    }

    fn launch(&self) -> anyhow::Result<Broker> {
        let mut environment = store::credentials();
        if let Some(clock) = &self.clock {
            let Clock { library, random } = &mut *clock.lock();
            let seconds = random.random_range(-CLOCK_SHIFT_SECONDS_MAX..=CLOCK_SHIFT_SECONDS_MAX);
            environment.push(("LD_PRELOAD", library.display().to_string()));
            environment.push(("FAKETIME", format!("{seconds:+}")));
            // Time that only runs stays as it is: no machine's monotonic clock jumps.
            environment.push(("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()));
        }
        Broker::start(&self.settings, &environment)
    }

    /// Waits until it serves clients.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_MAX;
        while !answers(self.settings.port).await {
            if Instant::now() > deadline {
                bail!(
                    "broker {} does not serve within {READY_MAX:?}: {}",
                    self.index,
                    last_words(&self.settings.log)
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub async fn kill(&self) -> anyhow::Result<()> {
        match self.process.lock().await.take() {
            Some(process) => process.kill(),
            None => Ok(()),
        }
    }

    /// SIGTERM, and how it ended.
    pub async fn leave(&self) -> anyhow::Result<ExitStatus> {
        let mut slot = self.process.lock().await;
        let process = slot.as_mut().context("it is down")?;
        process.signal("TERM")?;
        let deadline = Instant::now() + LEAVE_MAX;
        let status = loop {
            match process.ended()? {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        // Dropped, it is killed if it still runs.
        *slot = None;
        status.with_context(|| format!("broker {} does not leave within {LEAVE_MAX:?}", self.index))
    }

    /// STOP or CONT. A process that has just ended by itself cannot be stopped, which is no failure.
    pub async fn signal(&self, name: &str) {
        if let Some(process) = &*self.process.lock().await {
            let _ = process.signal(name);
        }
    }

    /// Starts it again if it ended by itself.
    async fn revive(&self) -> anyhow::Result<()> {
        // Whoever holds it is about to change it.
        let Ok(mut slot) = self.process.try_lock() else { return Ok(()) };
        let Some(process) = &mut *slot else { return Ok(()) };
        let Some(status) = process.ended()? else { return Ok(()) };
        let words = last_words(&self.settings.log);
        eprintln!(
            "broker {} ended with {status}: {}",
            self.index,
            words.lines().next_back().unwrap_or_default()
        );
        self.ended_by_itself.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(RESTART_PAUSE).await;
        *slot = Some(self.launch()?);
        Ok(())
    }
}

pub async fn keep_alive(nodes: Arc<Vec<Node>>) -> anyhow::Result<()> {
    loop {
        for node in nodes.iter() {
            node.revive().await?;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether ApiVersions is answered.
async fn answers(port: u16) -> bool {
    let asked = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        // Version 0: length, key 18, version 0, correlation 7, null client id.
        socket.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255]).await?;
        let mut answer = [0; 8];
        socket.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer[4..] == [0, 0, 0, 7])
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), asked).await, Ok(Ok(true)))
}

/// Free ports below those that the kernel gives to outgoing connections: still free when a broker comes back to one.
pub fn lasting_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    // Two runs beside each other begin to look at different places.
    let first = 12_000 + (std::process::id() % 1000) as u16 * 20;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports: Vec<u16> = (first..32_768).filter(is_free).take(count).collect();
    ensure!(ports.len() == count, "no {count} free ports above {first}");
    Ok(ports)
}
