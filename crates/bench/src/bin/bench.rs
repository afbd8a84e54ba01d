//! `bench load` and `bench fetch`: load for an address that already serves. `bench run` (`cargo xtask bench`): subjects that
//! it starts itself, side by side. `bench report`: the document.
#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bench::batches::Shape;
use bench::fetch::{self, Readers, Until};
use bench::load::{self, Amount, Load};
use bench::process::{Usage, Watch};
use bench::run::{FOREIGN_MAX, Plan, Run};
use bench::subject::{Kind, Places};
use bench::topic::ensure_topic;
use bench::workloads;
use clap::{Args, Parser, Subcommand};
use protocol::compression::Compression;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(name = "bench", about = "Load on the wire, and what it costs")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Produce, closed loop or (--rate) open loop, with readers at the tail if wanted.
    Load(LoadArguments),
    /// Read, from the start or at the tail.
    Fetch(FetchArguments),
    /// Start the subjects and measure them side by side.
    Run(RunArguments),
    /// Write docs/performance.md from files that `run` left. A case comes from the first file that has it; what later files
    /// have of it is held against that.
    Report {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[arg(long, default_value = "docs")]
        docs: PathBuf,
    },
}

#[derive(Args)]
struct RunArguments {
    /// Ottla alone, a few minutes, against bounds of processor time and syncs.
    #[arg(long)]
    quick: bool,
    /// Only these; all without.
    #[arg(long = "workload", value_name = "NUMBER")]
    workloads: Vec<u8>,
    /// Only cases with this in their names (workloads 1, 8 and 11).
    #[arg(long = "case", value_name = "TEXT")]
    only: Option<String>,
    /// Only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    subjects: Vec<Kind>,
    #[arg(long)]
    rounds: Option<usize>,
    /// How long workload 9 goes on; the document's is as long as the default.
    #[arg(long, default_value_t = workloads::steady_state::SECONDS)]
    steady_seconds: f64,
    /// Runs beside which others took a larger share of the processors are thrown away.
    #[arg(long, default_value_t = FOREIGN_MAX)]
    foreign_max: f64,
    /// Where every value goes [default: a new file under the folder for temporary ones].
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the subjects have their data; about 20 GB are used.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    work: PathBuf,
    #[arg(long, env = "OTTLA_BIN")]
    ottla: PathBuf,
    /// Where Kafka's jars are kept.
    #[arg(long, env = "CLIENTS_HOME")]
    clients_home: Option<PathBuf>,
}

const ROUNDS: usize = 6;
const QUICK_ROUNDS: usize = 3;
/// CI's machine is never quiet, and what `--quick` holds to survives that.
const QUICK_FOREIGN_MAX: f64 = f64::INFINITY;

#[derive(Args)]
struct Common {
    /// HOST:PORT of a broker.
    #[arg(long)]
    addr: String,
    #[arg(long, default_value = "bench")]
    topic: String,
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// A config of the topic, if it is made.
    #[arg(long = "config", value_name = "KEY=VALUE")]
    configs: Vec<String>,
    /// The broker's process: what it and all below it used is reported.
    #[arg(long)]
    pid: Option<u32>,
    /// HOST:PORT of Ottla's metrics page: syncs are reported.
    #[arg(long)]
    metrics: Option<String>,
    /// Threads of this generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct LoadArguments {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 1000)]
    record_bytes: usize,
    #[arg(long, default_value_t = 65_536)]
    batch_bytes: usize,
    #[arg(long, default_value = "none", value_parser = compression)]
    compression: Compression,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Requests under way per connection.
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    #[arg(long, default_value_t = 1)]
    partitions_per_request: usize,
    /// How much to send; 1g is 10^9.
    #[arg(long, value_parser = size, required_unless_present = "seconds")]
    bytes: Option<u64>,
    #[arg(long)]
    seconds: Option<f64>,
    /// Records per second; without it as fast as the answers allow.
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long)]
    idempotent: bool,
    /// Count errors instead of stopping at the first one.
    #[arg(long)]
    tolerant: bool,
    /// So many groups read all partitions at the tail meanwhile.
    #[arg(long, default_value_t = 0)]
    tail_groups: usize,
    /// Connections of each group.
    #[arg(long, default_value_t = 1)]
    readers: usize,
}

#[derive(Args)]
struct FetchArguments {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 1)]
    groups: usize,
    /// Connections of each group; they share the partitions.
    #[arg(long, default_value_t = 1)]
    readers: usize,
    /// Begin behind the last record.
    #[arg(long)]
    tail: bool,
    /// Stop after so many, per group; without either: at what is the end when the readers start.
    #[arg(long, value_parser = size)]
    bytes: Option<u64>,
    #[arg(long, conflicts_with = "bytes")]
    seconds: Option<f64>,
    #[arg(long, default_value_t = 500)]
    max_wait_ms: i32,
    #[arg(long, default_value_t = 1)]
    min_bytes: i32,
    #[arg(long, default_value_t = 50 << 20)]
    max_bytes: i32,
    #[arg(long, default_value_t = 1 << 20)]
    partition_max_bytes: i32,
}

fn compression(name: &str) -> Result<Compression, String> {
    Compression::from_name(name).ok_or_else(|| format!("{name} is none of none, gzip, snappy, lz4, zstd"))
}

fn size(text: &str) -> Result<u64, String> {
    let text = text.to_ascii_lowercase();
    let (digits, factor) = match text.strip_suffix(['k', 'm', 'g']) {
        Some(digits) if text.ends_with('k') => (digits, 1e3),
        Some(digits) if text.ends_with('m') => (digits, 1e6),
        Some(digits) => (digits, 1e9),
        None => (text.as_str(), 1.0),
    };
    digits.parse::<f64>().map(|number| (number * factor) as u64).map_err(|_| format!("{text} is no size"))
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    produced: Option<load::Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fetched: Option<fetch::Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<Usage>,
    generator: Usage,
}

/// Readers that have not come to the end after this are stuck.
const CATCH_UP_MAX: Duration = Duration::from_secs(600);

fn main() -> Result<()> {
    let on = |threads: usize| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
    };
    let (report, json) = match Arguments::parse().verb {
        Verb::Run(arguments) => {
            // One thread, as small as can be beside the subject.
            return on(1)?.block_on(side_by_side(arguments));
        }
        Verb::Report { files, docs } => return bench::report::write(&files, &docs),
        Verb::Load(arguments) => {
            (on(arguments.common.threads)?.block_on(load(&arguments))?, arguments.common.json)
        }
        Verb::Fetch(arguments) => {
            (on(arguments.common.threads)?.block_on(fetch(&arguments))?, arguments.common.json)
        }
    };
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

async fn side_by_side(arguments: RunArguments) -> Result<()> {
    let mut kinds = arguments.subjects.clone();
    if arguments.quick {
        kinds = vec![Kind::Ottla];
    } else if kinds.is_empty() {
        kinds = Kind::ALL.to_vec();
    }
    let home = arguments.clients_home.or_else(|| Some(std::env::home_dir()?.join(".cache/ottla-clients")));
    let jars = if kinds.iter().any(|kind| kind.is_kafka()) {
        Some(bench::subject::jars(&home.context("no home folder")?)?)
    } else {
        None
    };
    // Two runs may begin in the same second.
    let name = format!("ottla-bench-{}-{}", bench::batches::now_micros() / 1_000_000, std::process::id());
    let json = arguments.json.unwrap_or_else(|| std::env::temp_dir().join(format!("{name}.json")));
    let work = arguments.work.join(&name);
    std::fs::create_dir_all(&work)?;
    raise_open_files();
    let plan = Plan {
        places: Places { ottla: arguments.ottla, jars, classes: None, work: work.clone() },
        kinds,
        rounds: arguments.rounds.unwrap_or(if arguments.quick { QUICK_ROUNDS } else { ROUNDS }),
        foreign_max: if arguments.quick { QUICK_FOREIGN_MAX } else { arguments.foreign_max },
        json: json.clone(),
        only: arguments.only,
        steady_seconds: arguments.steady_seconds,
        commit: commit(),
    };
    let mut run = Run::new(plan);
    // Whoever is told to stop drops the measurement, and with it its subjects, their folders and their file systems.
    let done = tokio::select! {
        done = measure(&mut run, arguments.quick, &arguments.workloads) => done,
        signal = told_to_stop() => signal.and_then(|signal| bail!("stopped by {signal}")),
    };
    if !arguments.quick {
        print!("{}", bench::report::tables(&run.results));
    }
    println!(
        "{} values, {} runs thrown away: {}",
        run.results.samples.len(),
        run.results.discarded,
        json.display()
    );
    let removed = std::fs::remove_dir_all(&work);
    done?;
    removed.with_context(|| format!("cannot remove {}", work.display()))
}

async fn measure(run: &mut Run, quick: bool, wanted: &[u8]) -> Result<()> {
    if quick {
        return workloads::quick::run(run).await;
    }
    for (number, title, _) in workloads::ALL {
        if wanted.is_empty() || wanted.contains(&number) {
            let began = std::time::Instant::now();
            let done = workloads::run(number, run).await.with_context(|| format!("workload {number}"));
            eprintln!("{number} {title}: {:.0} s", began.elapsed().as_secs_f64());
            done?;
        }
    }
    Ok(())
}

/// The name of the signal that ends this process when it comes (SIGHUP is left to nohup). It is heard between two steps: a subject that is just
/// starting or stopping is waited for.
async fn told_to_stop() -> Result<&'static str> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// 10,000 connections and 10,000 partitions of Kafka need more files than a shell allows. Who is not root gets what there is.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 200_000;
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: Some(WANTED), maximum: Some(WANTED) };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
}

fn commit() -> String {
    let asked = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

impl Common {
    async fn topic(&self) -> Result<bench::topic::Topic> {
        let configs: Vec<(&str, &str)> = self
            .configs
            .iter()
            .map(|config| config.split_once('=').with_context(|| format!("{config} is not KEY=VALUE")))
            .collect::<Result<_>>()?;
        ensure_topic(&self.addr, &self.topic, self.partitions, &configs).await
    }

    fn watches(&self) -> Result<(Option<Watch>, Watch)> {
        let broker = self.pid.map(|pid| Watch::start(pid, self.metrics.clone())).transpose()?;
        Ok((broker, Watch::this_process()?))
    }
}

async fn load(arguments: &LoadArguments) -> Result<Report> {
    let topic = arguments.common.topic().await?;
    let amount = Amount { bytes: arguments.bytes, seconds: arguments.seconds };
    let shape = Shape {
        record_bytes: arguments.record_bytes,
        batch_bytes: arguments.batch_bytes,
        compression: arguments.compression,
        stamped: arguments.tail_groups > 0
            && !arguments.idempotent
            && arguments.compression == Compression::None,
    };
    let load = Load {
        address: arguments.common.addr.clone(),
        topic: topic.clone(),
        shape,
        connections: arguments.connections,
        in_flight: arguments.in_flight,
        partitions_per_request: arguments.partitions_per_request,
        amount,
        rate: arguments.rate,
        idempotent: arguments.idempotent,
        tolerant: arguments.tolerant,
    };
    let tail = if arguments.tail_groups > 0 {
        let readers = Readers {
            groups: arguments.tail_groups,
            readers: arguments.readers,
            from: fetch::From::End,
            ..Readers::new(&arguments.common.addr, &topic)
        };
        Some(fetch::start(&readers).await?)
    } else {
        None
    };
    let (broker, generator) = arguments.common.watches()?;
    let produced = load::run(&load).await?;
    let fetched = match tail {
        Some(tail) => Some(tail.finish(Until::Records(produced.records), CATCH_UP_MAX).await?),
        None => None,
    };
    report(Some(produced), fetched, broker, &generator)
}

async fn fetch(arguments: &FetchArguments) -> Result<Report> {
    let topic = arguments.common.topic().await?;
    let readers = Readers {
        groups: arguments.groups,
        readers: arguments.readers,
        from: if arguments.tail { fetch::From::End } else { fetch::From::Start },
        max_wait_ms: arguments.max_wait_ms,
        min_bytes: arguments.min_bytes,
        max_bytes: arguments.max_bytes,
        partition_max_bytes: arguments.partition_max_bytes,
        ..Readers::new(&arguments.common.addr, &topic)
    };
    let there = fetch::there(&readers).await?;
    ensure!(
        there > 0 || arguments.bytes.is_some() || arguments.seconds.is_some(),
        "there is nothing to read, and no --bytes or --seconds"
    );
    let (broker, generator) = arguments.common.watches()?;
    let running = fetch::start(&readers).await?;
    let fetched = match (arguments.bytes, arguments.seconds) {
        (Some(bytes), _) => running.finish(Until::Bytes(bytes), CATCH_UP_MAX).await?,
        (None, Some(seconds)) => {
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            running.finish(Until::Told, CATCH_UP_MAX).await?
        }
        (None, None) => running.finish(Until::Records(there), CATCH_UP_MAX).await?,
    };
    report(None, Some(fetched), broker, &generator)
}

fn report(
    produced: Option<load::Outcome>,
    fetched: Option<fetch::Outcome>,
    broker: Option<Watch>,
    generator: &Watch,
) -> Result<Report> {
    let broker = broker.map(|watch| watch.usage()).transpose()?;
    Ok(Report { produced, fetched, broker, generator: generator.usage()? })
}

fn print(report: &Report) {
    let mut gigabytes = 0.0;
    if let Some(produced) = &report.produced {
        gigabytes = produced.gigabytes();
        println!(
            "produced  {:.3} GB, {} records, {} batches, {} requests in {:.2} s: {:.1} MB/s, {:.0} records/s",
            gigabytes,
            produced.records,
            produced.batches,
            produced.requests,
            produced.seconds,
            gigabytes * 1000.0 / produced.seconds,
            produced.records as f64 / produced.seconds
        );
        println!("latency   {}", produced.latency);
        if !produced.errors.is_empty() {
            println!("errors    {:?}", produced.errors);
        }
    }
    if let Some(fetched) = &report.fetched {
        if report.produced.is_none() {
            gigabytes = fetched.gigabytes();
        }
        println!(
            "fetched   {:.3} GB, {} records, {} batches, {} requests ({} empty), {} sessions lost in {:.2} s: {:.1} MB/s",
            fetched.gigabytes(),
            fetched.records,
            fetched.batches,
            fetched.requests,
            fetched.empty_answers,
            fetched.sessions_lost,
            fetched.seconds,
            fetched.gigabytes() * 1000.0 / fetched.seconds
        );
        if fetched.latency.count > 0 {
            println!("end to end {}", fetched.latency);
        }
    }
    for (who, usage) in [("broker", report.broker.as_ref()), ("generator", Some(&report.generator))] {
        let Some(usage) = usage else { continue };
        println!(
            "{who:<9} {:.2} CPU-s ({:.2} user, {:.2} system), {:.3} CPU-s/GB, {} switches, peak {:.1} MiB, {:.3} GB written, {:.3} GB read",
            usage.cpu_seconds(),
            usage.user_seconds,
            usage.system_seconds,
            usage.cpu_seconds() / gigabytes,
            usage.context_switches,
            usage.resident_peak_bytes as f64 / f64::from(1 << 20),
            usage.write_bytes as f64 / 1e9,
            usage.read_bytes as f64 / 1e9
        );
        if let (Some(syncs), Some(produced)) = (usage.syncs, &report.produced) {
            println!(
                "syncs     {syncs}, {:.3} per 1,000 acknowledged batches",
                syncs as f64 * 1000.0 / produced.batches as f64
            );
        }
    }
}
