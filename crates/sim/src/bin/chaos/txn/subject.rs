//! The broker under test, on one port for the whole run: ours, or one Apache Kafka beside it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::broker::{Broker, Settings, answers, free_port, last_words};
use crate::producers;

/// A JVM starts in seconds, on a machine that others use as well.
const KAFKA_START_MAX: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(100);

pub enum Subject {
    Ottla { settings: Settings, environment: Vec<(&'static str, String)>, running: Option<Broker> },
    Kafka { jars: PathBuf, folder: PathBuf, port: u16, running: Option<Child> },
}

impl Subject {
    pub fn ottla(settings: Settings, control: Option<&String>) -> Subject {
        let environment =
            control.map(|control| ("OTTLA_NEGATIVE_CONTROL", control.clone())).into_iter().collect();
        Subject::Ottla { settings, environment, running: None }
    }

    /// One node, formatted and not started. As it comes: an acknowledgement follows the page cache, which outlives kill -9.
    pub fn kafka(jars: &Path, work: &Path, port: u16, advertised: SocketAddr) -> anyhow::Result<Subject> {
        let (internal, controller, folder) = (free_port()?, free_port()?, work.join("kafka"));
        std::fs::create_dir_all(&folder)?;
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=CLIENTS://127.0.0.1:{port},INTERNAL://127.0.0.1:{internal},\
             CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=CLIENTS://{advertised},INTERNAL://127.0.0.1:{internal}\n\
             listener.security.protocol.map=CLIENTS:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=INTERNAL\ncontroller.listener.names=CONTROLLER\nlog.dirs={}/data\noffsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=4\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=4\n",
            folder.display()
        );
        std::fs::write(folder.join("server.properties"), properties)?;
        let subject = Subject::Kafka { jars: jars.to_owned(), folder, port, running: None };
        let id = ["kafka.tools.StorageTool", "random-uuid"];
        let output = subject.java(&id).output().context("java")?;
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let at = subject.properties();
        producers::run(&mut subject.java(&["kafka.tools.StorageTool", "format", "-t", &id, "-c", &at]))?;
        Ok(subject)
    }

    fn properties(&self) -> String {
        match self {
            Subject::Kafka { folder, .. } => folder.join("server.properties").display().to_string(),
            Subject::Ottla { .. } => unreachable!("ours has no properties"),
        }
    }

    fn java(&self, arguments: &[&str]) -> Command {
        let Subject::Kafka { jars, .. } = self else { unreachable!("ours is no JVM") };
        let mut command = Command::new("java");
        command
            .args(["-Xmx512m", "-XX:+UseSerialGC", "-cp", &format!("{}/*", jars.display())])
            .args(arguments);
        command
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Subject::Ottla { settings, .. } => settings.address(),
            Subject::Kafka { port, .. } => ([127, 0, 0, 1], *port).into(),
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Subject::Ottla { .. } => "Ottla",
            Subject::Kafka { .. } => "Apache Kafka",
        }
    }

    pub fn start(&mut self) -> anyhow::Result<()> {
        match self {
            Subject::Ottla { settings, environment, running } => {
                let mut broker = Broker::start(settings, environment)?;
                let is_up = broker.ready(settings.port)?;
                ensure!(is_up, "the broker does not start: {}", last_words(&settings.log));
                *running = Some(broker);
            }
            Subject::Kafka { folder, port, .. } => {
                let (log, port) = (folder.join("kafka.log"), *port);
                let at = self.properties();
                let out = File::options().create(true).append(true).open(&log)?;
                let mut command = self.java(&["kafka.Kafka", &at]);
                command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
                let mut child = command.spawn().context("cannot start java")?;
                let until = Instant::now() + KAFKA_START_MAX;
                while !answers(port) {
                    ensure!(child.try_wait()?.is_none(), "Kafka ends: {}", last_words(&log));
                    ensure!(Instant::now() < until, "Kafka does not start: {}", last_words(&log));
                    std::thread::sleep(LOOK);
                }
                let Subject::Kafka { running, .. } = self else { unreachable!("it is Kafka's") };
                *running = Some(child);
            }
        }
        Ok(())
    }

    /// kill -9.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self {
            Subject::Ottla { running, .. } => running.take().context("it does not run")?.kill(),
            Subject::Kafka { running, .. } => {
                let mut child = running.take().context("it does not run")?;
                child.kill()?;
                child.wait()?;
                Ok(())
            }
        }
    }

    pub fn stop(&mut self) -> anyhow::Result<()> {
        match self {
            Subject::Ottla { running, .. } => running.take().context("it does not run")?.stop(),
            // Its way of stopping is not what we look at.
            Subject::Kafka { .. } => self.kill(),
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Subject::Kafka { running: Some(child), .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
