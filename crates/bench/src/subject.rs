//! What is measured: a broker that we start ourselves, on a fresh directory and free ports.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::process::tree;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// As it comes: an acknowledgement follows the sync.
    Ottla,
    /// Apache Kafka with flush.messages=1: the same promise.
    KafkaFsync,
    /// Apache Kafka as it comes: an acknowledgement follows the page cache.
    Kafka,
    /// log.sync=interval: Kafka's promise.
    OttlaInterval,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Ottla, Kind::KafkaFsync, Kind::Kafka, Kind::OttlaInterval];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Ottla => "ottla",
            Kind::KafkaFsync => "kafka-fsync",
            Kind::Kafka => "kafka",
            Kind::OttlaInterval => "ottla-interval",
        }
    }

    pub fn is_kafka(self) -> bool {
        matches!(self, Kind::Kafka | Kind::KafkaFsync)
    }

    /// Whose promise it is measured against: what it is compared with first.
    pub fn neighbours(self) -> &'static [Kind] {
        match self {
            Kind::Ottla => &[Kind::KafkaFsync, Kind::Kafka],
            Kind::OttlaInterval => &[Kind::Kafka],
            Kind::Kafka | Kind::KafkaFsync => &[],
        }
    }
}

/// Where programs and data are.
#[derive(Clone, Debug)]
pub struct Places {
    pub ottla: PathBuf,
    /// Kafka's jars; none if no Kafka is measured.
    pub jars: Option<PathBuf>,
    /// Classes that Kafka needs besides.
    pub classes: Option<PathBuf>,
    /// Every subject gets a folder in here.
    pub work: PathBuf,
}

pub struct Subject {
    pub kind: Kind,
    pub address: String,
    /// A second listener, for those who have to say who they are: where the properties name `sasl.enabled.mechanisms`.
    pub sasl_address: Option<String>,
    /// Ottla's metrics page.
    pub admin: Option<String>,
    pub folder: PathBuf,
    port: u16,
    places: Places,
    properties: Vec<(String, String)>,
    child: Option<Child>,
}

/// How long a start or a stop may take: a Kafka that recovers many gigabytes takes its time.
const START_MAX: Duration = Duration::from_secs(300);
const STOP_MAX: Duration = Duration::from_secs(300);
/// Pauses between two looks at a broker that starts: what a start is measured with.
const LOOK: Duration = Duration::from_millis(1);

/// What Kafka's start script gives a broker.
const KAFKA_JVM: [&str; 8] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

impl Subject {
    /// A folder and ports, and Kafka's storage formatted; not started. `properties` are server properties, the same for all.
    pub fn new(kind: Kind, places: &Places, properties: &[(&str, &str)]) -> Result<Subject> {
        Subject::within(kind, places, properties, &places.work)
    }

    /// The same in a folder of its own: a file system that is measured, say.
    pub fn within(
        kind: Kind,
        places: &Places,
        properties: &[(&str, &str)],
        parent: &Path,
    ) -> Result<Subject> {
        let port = free_port()?;
        let folder = parent.join(format!("{}-{port}", kind.name()));
        std::fs::create_dir_all(&folder)?;
        let has_sasl = properties.iter().any(|(key, _)| *key == "sasl.enabled.mechanisms");
        let sasl_address = if has_sasl { Some(format!("127.0.0.1:{}", free_port()?)) } else { None };
        let admin = if kind.is_kafka() { None } else { Some(format!("127.0.0.1:{}", free_port()?)) };
        let subject = Subject {
            kind,
            address: format!("127.0.0.1:{port}"),
            sasl_address,
            admin,
            folder,
            port,
            places: places.clone(),
            properties: properties
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            child: None,
        };
        if kind.is_kafka() {
            subject.format()?;
        }
        Ok(subject)
    }

    fn format(&self) -> Result<()> {
        let (controller, folder) = (free_port()?, self.folder.display());
        let mut text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners={},CONTROLLER://127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT\n\
             log.dirs={folder}/data\noffsets.topic.replication.factor=1\n",
            self.listeners()
        );
        if self.kind == Kind::KafkaFsync {
            text.push_str("log.flush.interval.messages=1\n");
        }
        for (key, value) in &self.properties {
            text.push_str(&format!("{key}={value}\n"));
        }
        std::fs::write(self.folder.join("server.properties"), text)?;
        std::fs::write(self.folder.join("log4j2.properties"), "rootLogger.level=OFF\n")?;
        let output = self
            .java(&["-Xmx256m"])?
            .args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"])
            .arg(self.folder.join("server.properties"))
            .output()?;
        ensure!(output.status.success(), "cannot format: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn listeners(&self) -> String {
        let plain = format!("PLAINTEXT://{}", self.address);
        self.sasl_address.as_ref().map_or(plain.clone(), |sasl| format!("{plain},SASL_PLAINTEXT://{sasl}"))
    }

    fn java(&self, options: &[&str]) -> Result<Command> {
        let jars = self.places.jars.as_ref().context("no jars")?;
        let mut java = Command::new("java");
        java.args(options)
            .arg(format!("-Dlog4j2.configurationFile={}/log4j2.properties", self.folder.display()))
            .arg("-cp")
            .arg(self.class_path(jars));
        Ok(java)
    }

    fn class_path(&self, jars: &Path) -> String {
        let classes = self.places.classes.as_ref().map(|classes| format!(":{}", classes.display()));
        format!("{}/*{}", jars.display(), classes.unwrap_or_default())
    }

    fn command(&self) -> Result<Command> {
        if self.kind.is_kafka() {
            let mut java = self.java(&KAFKA_JVM)?;
            java.arg("kafka.Kafka").arg(self.folder.join("server.properties"));
            return Ok(java);
        }
        let mut ottla = Command::new(&self.places.ottla);
        ottla.arg("serve").arg("--data").arg(self.folder.join("data"));
        ottla.arg("--set").arg(format!("listeners={}", self.listeners()));
        ottla.args(["--admin", self.admin.as_deref().context("Ottla has a page")?]);
        if self.kind == Kind::OttlaInterval {
            ottla.args(["--set", "log.sync=interval"]);
        }
        for (key, value) in &self.properties {
            ottla.arg("--set").arg(format!("{key}={value}"));
        }
        Ok(ottla)
    }

    /// Starts the process and does not wait. Gives the moment.
    pub fn launch(&mut self) -> Result<Instant> {
        ensure!(self.child.is_none(), "{} runs already", self.kind.name());
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = self.command()?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let at = Instant::now();
        self.child =
            Some(command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?);
        Ok(at)
    }

    /// Starts and waits until requests are answered, by this process and no other.
    pub fn start(&mut self) -> Result<()> {
        let began = self.launch()?;
        while !answers(&self.address) {
            self.is_well(began)?;
            std::thread::sleep(LOOK);
        }
        self.is_ours()
    }

    /// An error when the process has ended or takes too long to start.
    pub fn is_well(&mut self, began: Instant) -> Result<()> {
        let child = self.child.as_mut().context("not started")?;
        if let Some(status) = child.try_wait()? {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(10).collect();
            bail!("{} ended with {status}: {tail:#?}", self.kind.name());
        }
        ensure!(began.elapsed() < START_MAX, "{} does not come up", self.kind.name());
        Ok(())
    }

    /// Whoever listens on the port is our process: its socket is among our files.
    pub fn is_ours(&self) -> Result<()> {
        let socket = format!("socket:[{}]", listening_inode(self.port)?);
        for pid in tree(self.pid()?)? {
            let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
            if files
                .flatten()
                .any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == socket.as_str()))
            {
                return Ok(());
            }
        }
        bail!("another process listens on {}", self.address)
    }

    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("not started")?.id())
    }

    /// SIGTERM, and the wait for the end.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let killed = Command::new("kill").arg(child.id().to_string()).status()?;
        ensure!(killed.success(), "cannot signal {}", self.kind.name());
        let began = Instant::now();
        while child.try_wait()?.is_none() {
            if began.elapsed() > STOP_MAX {
                child.kill()?;
                child.wait()?;
                bail!("{} did not stop within {STOP_MAX:?}", self.kind.name());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// ApiVersions v0 is answered.
fn answers(address: &str) -> bool {
    let ask = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])?;
        stream.read_exact(&mut [0; 8])
    };
    ask().is_ok()
}

/// The inode of the socket that listens on a port of loopback, or of all addresses.
fn listening_inode(port: u16) -> Result<String> {
    const LISTEN: &str = "0A";
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.len() > 9 && fields[1].ends_with(&format!(":{port:04X}")) && fields[3] == LISTEN {
                return Ok(fields[9].to_owned());
            }
        }
    }
    bail!("nobody listens on {port}")
}

/// What is fetched, and in which version.
const POM: &str = include_str!("../kafka/pom.xml");

/// Apache Kafka's version, as the pom says it.
pub fn kafka_version() -> &'static str {
    let (_, after) = POM.split_once("<kafka.version>").expect("the pom names a version");
    after.split_once('<').expect("the version ends").0
}

/// Kafka's jars, fetched once for each version by the project's own pom.
pub fn jars(home: &Path) -> Result<PathBuf> {
    let folder = home.join(format!("kafka-{}", kafka_version()));
    if !folder.join("fetched").exists() {
        std::fs::create_dir_all(&folder)?;
        let pom = home.join("bench-pom.xml");
        std::fs::write(&pom, POM)?;
        let status = Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(&pom)
            .arg("dependency:copy-dependencies")
            .arg(format!("-DoutputDirectory={}", folder.display()))
            .status()
            .context("cannot start mvn")?;
        ensure!(status.success(), "Maven did not fetch Kafka");
        std::fs::write(folder.join("fetched"), "")?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pom_names_a_version() {
        let numbers: Vec<&str> = kafka_version().split('.').collect();
        assert_eq!(numbers.len(), 3, "{numbers:?}");
        assert!(numbers.iter().all(|number| number.parse::<u32>().is_ok()), "{numbers:?}");
    }

    #[test]
    fn who_listens_is_found_by_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = listening_inode(listener.local_addr().unwrap().port()).unwrap();
        let found = std::fs::read_dir("/proc/self/fd").unwrap().flatten().any(|file| {
            std::fs::read_link(file.path())
                .is_ok_and(|to| to.to_string_lossy() == format!("socket:[{inode}]"))
        });
        assert!(found, "socket {inode} is one of ours");
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(listening_inode(port).is_err());
    }
}
