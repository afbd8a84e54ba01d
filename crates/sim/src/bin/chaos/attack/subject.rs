//! The broker under attack: small limits, so that a few seconds are enough to reach them; what it says of its memory, and what it takes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::wire::HOSTILE;
use crate::broker::{Broker, free_port, last_words};

const START_MAX: Duration = Duration::from_secs(30);
const PAGE_MAX: Duration = Duration::from_secs(5);
/// What the page of metrics calls the most memory that the broker means to take.
const LIMIT: &str = "ottla_memory_limit_bytes";

/// One request.
pub const REQUEST_BYTES: i32 = 16 << 20;
/// Connections of the hostile client's address.
pub const CONNECTIONS_OF_AN_ADDRESS: usize = 800;
pub const PARTITIONS_OF_A_REQUEST: i32 = 2_000;
pub const PARTITIONS: i32 = 3_000;
pub const ACLS: usize = 1_000;
pub const FETCH_SESSIONS: usize = 100;
pub const GROUP_SIZE: usize = 50;
pub const PRODUCER_IDS: usize = 2_000;
pub const DECOMPRESSED_BYTES: usize = 8 << 20;
/// A secret that nobody of the run knows.
const USER: &str = "SCRAM-SHA-256=[name=alice,password=wonderland-and-more]";

pub struct Subject {
    broker: Broker,
    pid: u32,
    log: PathBuf,
    pub plain: SocketAddr,
    pub sasl: SocketAddr,
    pub tls: SocketAddr,
    pub admin: SocketAddr,
}

fn properties(pem: &Path, ports: &[u16; 3]) -> String {
    let [plain, sasl, tls] = ports;
    let mib = |count: usize| count << 20;
    let lines = [
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{sasl},SSL://127.0.0.1:{tls}"
        ),
        "sasl.enabled.mechanisms=SCRAM-SHA-256,PLAIN".to_owned(),
        "listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
         required user_alice=\"wonderland-and-more\";"
            .to_owned(),
        "ssl.keystore.type=PEM".to_owned(),
        format!("ssl.keystore.location={}", pem.display()),
        // Nobody here says who he is, and the limits are to be met by those who may do everything.
        "allow.everyone.if.no.acl.found=true".to_owned(),
        format!("socket.request.max.bytes={REQUEST_BYTES}"),
        format!("queued.max.request.bytes={}", mib(48)),
        format!("queued.max.response.bytes={}", mib(48)),
        format!("log.unflushed.max.bytes={}", mib(32)),
        format!("log.cache.bytes={}", mib(16)),
        format!("max.decompressed.message.bytes={DECOMPRESSED_BYTES}"),
        format!("coordinators.memory.max.bytes={}", mib(32)),
        format!("log.cleaner.dedupe.buffer.size={}", mib(8)),
        "max.connections=1500".to_owned(),
        format!("max.connections.per.ip.overrides={HOSTILE}:{CONNECTIONS_OF_AN_ADDRESS}"),
        format!("request.partitions.max={PARTITIONS_OF_A_REQUEST}"),
        format!("cluster.partitions.max={PARTITIONS}"),
        format!("cluster.acls.max={ACLS}"),
        format!("max.incremental.fetch.session.cache.slots={FETCH_SESSIONS}"),
        format!("group.max.size={GROUP_SIZE}"),
        format!("group.consumer.max.size={GROUP_SIZE}"),
        "group.initial.rebalance.delay.ms=0".to_owned(),
        format!("producer.ids.max={PRODUCER_IDS}"),
        "connection.handshake.timeout.ms=500".to_owned(),
        "connections.max.idle.ms=700".to_owned(),
        "offsets.topic.num.partitions=2".to_owned(),
        "transaction.state.log.num.partitions=2".to_owned(),
        "log.wal.file.max.bytes=67108864".to_owned(),
    ];
    lines.join("\n")
}

impl Subject {
    pub fn start(bin: &Path, work: &Path) -> anyhow::Result<Subject> {
        let pem = work.join("server.pem");
        certificate(&pem)?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let file = work.join("server.properties");
        std::fs::write(&file, properties(&pem, &ports))?;
        let log = work.join("broker.log");
        let out = std::fs::File::options().create(true).append(true).open(&log)?;
        let admin = free_port()?;
        let child = Command::new(bin)
            .args(["serve", "--insecure", "--admin", &format!("127.0.0.1:{admin}"), "--server-properties"])
            .arg(&file)
            .arg("--data")
            .arg(work.join("data"))
            .args(["--add-scram", USER])
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {}", bin.display()))?;
        let pid = child.id();
        let here = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let [plain, sasl, tls] = ports.map(here);
        let mut subject =
            Subject { broker: Broker::of(child), pid, log, plain, sasl, tls, admin: here(admin) };
        let deadline = Instant::now() + START_MAX;
        while subject.page("/health/ready").is_err() {
            ensure!(subject.broker.alive()?, "the broker does not start: {}", last_words(&subject.log));
            ensure!(Instant::now() < deadline, "the broker does not start in time");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(subject)
    }

    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.broker.ended()? {
            None => Ok(()),
            Some(status) => bail!("the broker ended with {status}: {}", last_words(&self.log)),
        }
    }

    pub fn stop(self) -> anyhow::Result<()> {
        self.broker.stop()
    }

    /// A page over HTTP, without its head.
    pub fn page(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.admin, PAGE_MAX)?;
        stream.set_read_timeout(Some(PAGE_MAX))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no page")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
        Ok(body.to_owned())
    }

    /// What the broker says that it means to take at the most.
    pub fn memory_limit(&self) -> anyhow::Result<u64> {
        let page = self.page("/metrics")?;
        let line = page.lines().find_map(|line| line.strip_prefix(LIMIT)?.trim().parse::<f64>().ok());
        Ok(line.with_context(|| format!("the broker does not say {LIMIT}"))? as u64)
    }

    /// From now on [`Subject::memory_peak`] counts anew.
    pub fn forget_memory_peak(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5")?)
    }

    pub fn memory_peak(&self) -> anyhow::Result<u64> {
        self.broker.memory_max()
    }
}

/// Of the listener with TLS; nobody gets as far as to look at it.
fn certificate(pem: &Path) -> anyhow::Result<()> {
    let status = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(pem)
        .arg("-out")
        .arg(pem.with_extension("crt"))
        .stderr(Stdio::null())
        .status()
        .context("cannot start openssl")?;
    ensure!(status.success(), "openssl: {status}");
    let mut both = std::fs::read(pem)?;
    both.extend(std::fs::read(pem.with_extension("crt"))?);
    Ok(std::fs::write(pem, both)?)
}
