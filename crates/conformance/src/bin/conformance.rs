//! `cargo xtask conformance`: starts Apache Kafka from Maven's jars and Ottla on a fresh directory, asks both the same, and says where
//! they differ. Exit code 1: they differ where `docs/differences.md` does not say so, or do not where it does.
#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bench::subject::{Kind, Places, Subject, jars};
use clap::Parser;
use conformance::declared::Declared;
use conformance::report::report;
use conformance::{Choice, Place};
use protocol::ApiKey;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(
    name = "conformance",
    about = "The same requests to Apache Kafka and to Ottla, and where their answers differ"
)]
struct Arguments {
    /// Only the scripts of these APIs, by Kafka's names.
    #[arg(long = "api", value_name = "NAME", num_args = 1.., value_parser = api)]
    apis: Vec<ApiKey>,
    /// Only scripts with this in their names.
    #[arg(long, value_name = "TEXT")]
    script: Option<String>,
    /// Of each API only the lowest, the first flexible and the highest version.
    #[arg(long)]
    few_versions: bool,
    /// Say which scripts take long.
    #[arg(long)]
    verbose: bool,
    /// A Kafka that is up already; scripts about SASL are left out [default: one is started].
    #[arg(long, value_name = "ADDR")]
    kafka: Option<String>,
    /// An Ottla that is up already; scripts about SASL are left out [default: one is started].
    #[arg(long, value_name = "ADDR")]
    ottla: Option<String>,
    /// Where differences are declared.
    #[arg(long, default_value = "docs/differences.md")]
    declared: PathBuf,
    /// Where those that are started have their data.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    work: PathBuf,
    #[arg(long, env = "OTTLA_BIN")]
    bin: Option<PathBuf>,
    /// Where Kafka's jars are kept.
    #[arg(long, env = "CLIENTS_HOME")]
    clients_home: Option<PathBuf>,
}

/// What both are started with. Kafka's defaults are for three brokers and for people who wait.
const PROPERTIES: [(&str, &str); 12] = [
    ("num.partitions", "1"),
    ("offsets.topic.num.partitions", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("auto.create.topics.enable", "true"),
    ("log.message.timestamp.after.max.ms", "9223372036854775807"),
    ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256"),
    ("listener.name.sasl_plaintext.plain.sasl.jaas.config", PLAIN_USERS),
    (
        "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config",
        "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    ),
    ("delegation.token.secret.key", "what only the brokers know"),
    ("super.users", "User:ANONYMOUS;User:alice"),
    ("allow.everyone.if.no.acl.found", "true"),
];

/// Alice may do everything.
const PLAIN_USERS: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required \
    user_alice=\"alice-secret\" user_bob=\"bob-secret\";";

/// What Kafka alone needs for the answers that Ottla gives without being told.
const KAFKA_PROPERTIES: [(&str, &str); 9] = [
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "2"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "2"),
    ("metric.reporters", "TelemetryReceiver"),
    ("group.streams.topology.description.plugin.class", "TopologyKeeper"),
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let declared = Declared::read(&arguments.declared)?;
    let started = Arc::new(Mutex::new(Vec::new()));
    end_on_signal(started.clone())?;
    let outcome = compared(arguments, &declared, &started);
    // Ends those that were started, and takes their folders away.
    lock(&started).clear();
    outcome
}

fn compared(arguments: Arguments, declared: &Declared, started: &Mutex<Vec<Subject>>) -> Result<()> {
    let began = Instant::now();
    let kafka = place(Kind::Kafka, &arguments.kafka, &arguments, started)?;
    let ottla = place(Kind::Ottla, &arguments.ottla, &arguments, started)?;
    let took = began.elapsed().as_secs_f64();
    println!("Kafka at {}, Ottla at {}, after {took:.1} s", kafka.address, ottla.address);
    let choice = Choice {
        apis: arguments.apis,
        script: arguments.script,
        few_versions: arguments.few_versions,
        verbose: arguments.verbose,
    };
    let findings = conformance::run(&kafka, &ottla, &choice, |difference| declared.tells(difference))?;
    let is_whole = choice.script.is_none();
    let report = report(&findings, declared, is_whole);
    print!("{}", report.text);
    println!("{:.1} s", began.elapsed().as_secs_f64());
    if !report.failures.is_empty() {
        println!("{}", report.failures.join("\n"));
        bail!("{} differences that {} does not tell", report.failures.len(), arguments.declared.display());
    }
    Ok(())
}

/// Of the one that is up, or of one that is started now.
fn place(
    kind: Kind,
    up: &Option<String>,
    arguments: &Arguments,
    started: &Mutex<Vec<Subject>>,
) -> Result<Place> {
    if let Some(address) = up {
        return Ok(Place { address: address.clone(), sasl_address: None });
    }
    let mut properties = PROPERTIES.to_vec();
    let mut places =
        Places { ottla: PathBuf::new(), jars: None, classes: None, work: arguments.work.clone() };
    if kind.is_kafka() {
        properties.extend(KAFKA_PROPERTIES);
        let home = arguments.clients_home.clone();
        let home = home.or_else(|| Some(std::env::home_dir()?.join(".cache/ottla-clients")));
        let home = home.context("no home folder")?;
        let jars = jars(&home)?;
        places.classes = Some(plug_ins(&home, &jars)?);
        places.jars = Some(jars);
    } else {
        let bin = arguments.bin.clone();
        places.ottla = bin.context("no binary: OTTLA_BIN, --bin, or cargo xtask conformance")?;
    }
    // Held while it starts: a signal that comes now waits, and then ends it too.
    let mut started = lock(started);
    let mut subject = Subject::new(kind, &places, &properties)?;
    subject.start()?;
    let place = Place { address: subject.address.clone(), sasl_address: subject.sasl_address.clone() };
    started.push(subject);
    Ok(place)
}

/// The plug-ins without which Kafka does not have client metrics and descriptions of topologies, compiled.
fn plug_ins(home: &Path, jars: &Path) -> Result<PathBuf> {
    let sources = [
        ("TelemetryReceiver.java", include_str!("../../kafka/TelemetryReceiver.java")),
        ("TopologyKeeper.java", include_str!("../../kafka/TopologyKeeper.java")),
    ];
    let folder = home.join("conformance");
    std::fs::create_dir_all(&folder)?;
    for (name, source) in sources {
        std::fs::write(folder.join(name), source)?;
    }
    let class_path = format!("{}/*", jars.display());
    let status = Command::new("javac")
        .args(["-nowarn", "-Xlint:none", "-Xlint:-removal", "-cp", &class_path, "-d"])
        .arg(&folder)
        .args(sources.map(|(name, _)| folder.join(name)))
        .status()
        .context("cannot start javac (a JDK, 17 or newer)")?;
    ensure!(status.success(), "Kafka's plug-ins do not compile");
    Ok(folder)
}

/// SIGTERM and SIGINT end what was started as well; a Kafka that is left behind takes a gigabyte.
fn end_on_signal(started: Arc<Mutex<Vec<Subject>>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        let heard = runtime.block_on(async {
            let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
            let (mut terminate, mut interrupt) = (signal(terminate)?, signal(interrupt)?);
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::io::Result::Ok(())
        });
        if heard.is_ok() {
            lock(&started).clear();
            std::process::exit(1);
        }
    });
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn api(name: &str) -> Result<ApiKey, String> {
    ApiKey::all().find(|key| key.name() == name).ok_or_else(|| format!("Kafka has no API {name}"))
}
