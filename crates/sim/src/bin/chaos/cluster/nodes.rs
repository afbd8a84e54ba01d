//! The brokers: each a process with two networks of its own that can break, one to the store and one to its clients.
//!
//! ```text
//!   clients ─▶ to_clients (proxy) ─▶ ═ cable ═▶ ottla serve ═ cable ═▶ to_store (proxy) ─▶ versitygw
//! ```
//! The cables are those of a network namespace, where there can be one.
//! A process that ends by itself is started again, as an operator's supervisor would; how often is counted.

use std::net::{Ipv4Addr, SocketAddr};
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

use super::namespace::Namespace;
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
    /// What the next start runs.
    bin: parking_lot::Mutex<PathBuf>,
    /// `None`: down on purpose.
    process: Mutex<Option<Broker>>,
    /// That the process ended although nobody asked for it.
    pub ended_by_itself: AtomicU32,
    clock: Option<parking_lot::Mutex<Clock>>,
    /// Behind the process: it can go when nobody is in it any more.
    pub namespace: Option<Namespace>,
}

/// A wall clock that is wrong, differently after each start.
struct Clock {
    library: PathBuf,
    random: StdRng,
}

/// The brokers' zones, in turn.
const ZONES: usize = 3;

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
    pub async fn new(
        index: usize,
        port: u16,
        store: &Store,
        namespace: Option<Namespace>,
        setting: &Setting<'_>,
    ) -> anyhow::Result<Node> {
        let seed = setting.seed.wrapping_mul(1000).wrapping_add(index as u64);
        let cables = namespace.as_ref();
        let on = cables.map_or(Ipv4Addr::LOCALHOST, |namespace| namespace.to_store.outside);
        let to_store = Proxy::start(on, store.address, Traffic::Requests, seed).await?;
        let mut settings = Settings {
            bin: setting.bin.to_owned(),
            data: store::url(to_store.address).into(),
            log: setting.work.join(format!("broker-{index}.log")),
            port,
            namespace: cables.map(|namespace| (namespace.name.clone(), namespace.to_clients.inside)),
            partitions: setting.partitions,
            extra: setting.properties.to_vec(),
        };
        let to_clients = Proxy::start(Ipv4Addr::LOCALHOST, settings.address(), Traffic::Bytes, seed).await?;
        let advertised = format!("PLAINTEXT://{}", to_clients.address);
        settings.extra.push(("advertised.listeners".to_owned(), advertised));
        settings.extra.push(("broker.rack".to_owned(), format!("zone-{}", index % ZONES)));
        let clock = setting.clock_library.clone();
        let clock = clock.map(|library| Clock { library, random: StdRng::seed_from_u64(seed) });
        Ok(Node {
            index,
            to_store,
            to_clients,
            bin: parking_lot::Mutex::new(settings.bin.clone()),
            settings,
            process: Mutex::new(None),
            ended_by_itself: AtomicU32::new(0),
            clock: clock.map(parking_lot::Mutex::new),
            namespace,
        })
    }

    pub fn bin(&self) -> PathBuf {
        self.bin.lock().clone()
    }

    /// From the next start on.
    pub fn install(&self, bin: &Path) {
        *self.bin.lock() = bin.to_owned();
    }

    /// One process more, as this node would be with another binary on another port: how it ended and its last words.
    pub async fn try_once(&self, bin: &Path, port: u16) -> anyhow::Result<(ExitStatus, String)> {
        let log = self.settings.log.with_extension("once.log");
        let settings = Settings { bin: bin.to_owned(), port, log: log.clone(), ..self.settings.clone() };
        let mut process = Broker::start(&settings, &store::credentials())?;
        let deadline = Instant::now() + LEAVE_MAX;
        loop {
            if let Some(status) = process.ended()? {
                return Ok((status, last_words(&log)));
            }
            ensure!(Instant::now() < deadline, "{} runs: {}", bin.display(), last_words(&log));
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Where clients meet it.
    pub fn address(&self) -> String {
        self.to_clients.address.to_string()
    }

    /// Its own address, without a proxy before it.
    pub fn own_address(&self) -> SocketAddr {
        self.settings.address()
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
        let settings = Settings { bin: self.bin(), ..self.settings.clone() };
        Broker::start(&settings, &environment)
    }

    /// Waits until it serves clients.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_MAX;
        while !answers(self.settings.address()).await {
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
async fn answers(address: SocketAddr) -> bool {
    let asked = async {
        let mut socket = TcpStream::connect(address).await?;
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
