//! Transactions under kill -9, time-outs, fencing, and requests that arrive long after their client has given them up.
//!
//! ```text
//!   producers ──▶ holder: EndTxn waits here for up to a minute ──▶ broker, which is killed ──▶ readers of committed data, all the while
//! ```
//! Producers are of several families, and many of each: a *run* is a producer with a transactional id of its own and a few transactions.
//! In the end: no transaction is torn, nothing is seen that was said to be aborted or that nobody committed, nothing is missing that was
//! said to be committed, and what readers saw on the way is what stands there. With `--kafka` the same happens to Apache Kafka, which is only
//! described; with `--control` to a broker without one of the rules, and then something has to be found.

pub mod check;
mod holder;
mod producer;
pub mod programs;
mod reader;
mod subject;
pub mod wire;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use protocol::messages::CreateTopicsRequest;
use protocol::messages::create_topics_request::CreatableTopic;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::check::{Histories, Kind, Violation, check};
use self::holder::Holder;
use self::producer::Terms;
use self::programs::{Program, Programs};
use self::reader::{Reader, committed_offset};
use self::subject::Subject;
use self::wire::Wire;
use crate::Txn;
use crate::broker::{Settings, free_port};
use crate::producers::{Work, clients_home};

pub const TOPIC: &str = "ledger";
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// For the runs that have begun when the time is over.
const FINISH_MAX: Duration = Duration::from_secs(300);
/// Of a family some violations say enough.
const SHOWN_MAX: usize = 5;
const LOOK: Duration = Duration::from_millis(50);

/// Whose producers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Family {
    /// Ours, on the wire, as clients before KIP-890.
    Wire,
    /// Ours, as clients with it.
    WireEpochs,
    Librdkafka,
    /// kafka-clients with KIP-890.
    Java,
    /// And before it.
    JavaOld,
}

impl Family {
    pub const ALL: [Family; 5] =
        [Family::Wire, Family::WireEpochs, Family::Librdkafka, Family::Java, Family::JavaOld];

    /// Also of its producers, with a number.
    pub fn name(self) -> &'static str {
        match self {
            Family::Wire => "wire",
            Family::WireEpochs => "wire-epochs",
            Family::Librdkafka => "librdkafka",
            Family::Java => "java",
            Family::JavaOld => "java-old",
        }
    }

    pub fn is_of(self, producer: &str) -> bool {
        producer.rsplit_once('-').is_some_and(|(family, _)| family == self.name())
    }
}

/// What the producers of a family do.
#[derive(Clone)]
pub struct Load {
    pub work: PathBuf,
    pub addresses: String,
    pub topic: String,
    pub partitions: i32,
    pub runs: u32,
    pub at_once: u32,
    pub seed: u64,
    pub timeout_ms: i32,
    /// Transactions of a run.
    pub each: u32,
}

pub fn run(args: &Txn) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let work = Work::new()?;
    let told = runtime.block_on(story(args, &work));
    let left = format!("logs and data are left in {}", work.path().display());
    let Outcome { violations, committed, late } = told.with_context(|| left.clone())?;
    ensure!(committed > 0 && late > 0, "nothing was committed, or nothing came late: nothing is proved");
    match (&args.control, violations.len()) {
        (Some(control), 0) => anyhow::bail!("{control} was not found out; {left}"),
        (Some(control), count) => println!("{control}: {count} violations were found, as they had to be"),
        (None, count) if count > 0 && !args.kafka => anyhow::bail!("{count} violations; {left}"),
        (None, _) => {}
    }
    work.done()
}

struct Outcome {
    violations: Vec<Violation>,
    committed: usize,
    late: u64,
}

async fn story(args: &Txn, work: &Work) -> anyhow::Result<Outcome> {
    let port = free_port()?;
    let held_max = Duration::from_secs(args.hold_seconds_max);
    let holder = Holder::start((Ipv4Addr::LOCALHOST, port).into(), args.seed, held_max).await?;
    let (mut subject, pauses) = tokio::task::block_in_place(|| set(args, work, port, holder.address))?;
    let mut random = StdRng::seed_from_u64(args.seed);
    tokio::task::block_in_place(|| subject.start())?;
    let address = subject.address();
    create_topic(address, args.partitions).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let load = Load {
        work: work.path().to_owned(),
        addresses: holder.address.to_string(),
        topic: TOPIC.to_owned(),
        partitions: args.partitions,
        runs: args.runs,
        at_once: args.at_once,
        seed: args.seed,
        timeout_ms: 8_000,
        each: args.each,
    };
    let mut producers = Producers::start(args, load, holder.address, &is_over)?;
    let readers: Vec<_> = (0..args.partitions)
        .map(|partition| tokio::spawn(read(address, partition, is_over.clone())))
        .collect();
    let (began, mut kills) = (Instant::now(), 0);
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    loop {
        let pause = pauses.draw(&mut random);
        let until = (Instant::now() + pause).min(began + time);
        while Instant::now() < until && !producers.are_over() {
            tokio::time::sleep(LOOK).await;
        }
        if producers.are_over() || began.elapsed() >= time {
            break;
        }
        tokio::task::block_in_place(|| subject.kill().and_then(|()| subject.start()))?;
        kills += 1;
    }
    producers.stop();
    holder.calm_down();
    let histories = producers.finish().await?;
    is_over.store(true, Ordering::Relaxed);
    let mut seen = Vec::new();
    for task in readers {
        seen.push(task.await??);
    }
    let (mut log, mut offsets) = (Vec::new(), BTreeMap::new());
    for partition in 0..args.partitions {
        let mut reader = Reader::new(address, partition);
        ensure!(reader.finish(SETTLE_MAX).await?, "a transaction in partition {partition} hangs");
        log.push(reader.values);
    }
    for name in histories.keys() {
        offsets.insert(name.clone(), committed_offset(address, name).await?);
    }
    tokio::task::block_in_place(|| subject.stop())?;
    let held = holder.counters.held.load(Ordering::Relaxed);
    let late = holder.counters.late.load(Ordering::Relaxed);
    let violations = check(&histories, &log, &seen, &offsets);
    println!(
        "{}: {kills} kills in {:.0} s; {held} requests held up, {late} of them arrived when their client had given up",
        subject.name(),
        began.elapsed().as_secs_f64()
    );
    print(&histories, &violations);
    let fates = || histories.values().flat_map(BTreeMap::values);
    let committed = fates().filter(|fate| fate.told == Some(true)).count();
    Ok(Outcome { violations, committed, late })
}

/// Between two kills, in seconds: short ones, and one in ten that is long.
struct Pauses {
    short: std::ops::Range<f64>,
    long: std::ops::Range<f64>,
}

impl Pauses {
    fn draw(&self, random: &mut StdRng) -> Duration {
        let range = if random.random_ratio(1, 10) { self.long.clone() } else { self.short.clone() };
        Duration::from_secs_f64(random.random_range(range))
    }
}

fn set(args: &Txn, work: &Work, port: u16, advertised: SocketAddr) -> anyhow::Result<(Subject, Pauses)> {
    // Longer than anything is held up, so that it arrives where it was sent to.
    let held_max = args.hold_seconds_max as f64;
    let long = held_max..1.5 * held_max;
    if args.kafka {
        let home = clients_home(args.clients_home.as_deref())?;
        let jars = args.kafka_jars.clone().unwrap_or_else(|| home.join("kafka"));
        ensure!(jars.is_dir(), "no jars of Kafka in {}: --kafka-jars", jars.display());
        // It takes seconds to come back.
        let kafka = Subject::kafka(&jars, work.path(), port, advertised)?;
        return Ok((kafka, Pauses { short: 10.0..40.0, long }));
    }
    let settings = Settings {
        bin: args.bin.clone(),
        data: args.data.clone().unwrap_or_else(|| work.path().join("data")),
        log: work.path().join("broker.log"),
        port,
        namespace: None,
        partitions: args.partitions,
        extra: vec![
            ("offsets.topic.num.partitions".into(), "4".into()),
            ("transaction.state.log.num.partitions".into(), "4".into()),
            ("advertised.listeners".into(), format!("PLAINTEXT://{advertised}")),
        ],
    };
    Ok((Subject::ottla(settings, args.control.as_ref()), Pauses { short: 0.2..8.0, long }))
}

/// All families at once.
struct Producers {
    wire: Vec<tokio::task::JoinHandle<anyhow::Result<Histories>>>,
    programs: Vec<Program>,
    is_stopped: Arc<AtomicBool>,
}

impl Producers {
    fn start(
        args: &Txn,
        load: Load,
        address: SocketAddr,
        is_over: &Arc<AtomicBool>,
    ) -> anyhow::Result<Producers> {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let mut producers = Producers { wire: Vec::new(), programs: Vec::new(), is_stopped };
        let is_ours = |family: &&Family| matches!(family, Family::Wire | Family::WireEpochs);
        let others: Vec<Family> = args.families.iter().filter(|family| !is_ours(family)).copied().collect();
        if !others.is_empty() {
            let build = || Programs::build(args.clients_home.as_deref());
            let programs = tokio::task::block_in_place(build)?;
            for family in others {
                producers.programs.push(programs.start(family, &load)?);
            }
        }
        for family in args.families.iter().filter(is_ours) {
            let next = Arc::new(AtomicU32::new(0));
            for _ in 0..load.at_once {
                let (load, next) = (load.clone(), next.clone());
                let is_stopped = producers.is_stopped.clone();
                let running = wire_runs(*family, load, address, next, is_stopped, is_over.clone());
                producers.wire.push(tokio::spawn(running));
            }
        }
        Ok(producers)
    }

    fn are_over(&self) -> bool {
        self.wire.iter().all(|task| task.is_finished()) && self.programs.iter().all(Program::is_over)
    }

    fn stop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.programs.iter_mut().for_each(Program::stop);
    }

    async fn finish(self) -> anyhow::Result<Histories> {
        let mut all = Histories::new();
        for task in self.wire {
            let histories = tokio::time::timeout(FINISH_MAX, task).await;
            all.extend(histories.context("a producer of ours does not come to its end")???);
        }
        for program in self.programs {
            all.extend(tokio::task::block_in_place(|| program.finish())?);
        }
        Ok(all)
    }
}

async fn wire_runs(
    family: Family,
    load: Load,
    address: SocketAddr,
    next: Arc<AtomicU32>,
    is_stopped: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
) -> anyhow::Result<Histories> {
    let mut histories = Histories::new();
    while !is_stopped.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed) + 1;
        if number > load.runs {
            break;
        }
        let terms = Terms {
            name: format!("{}-{number}", family.name()),
            address,
            partitions: load.partitions,
            has_epochs: family == Family::WireEpochs,
            timeout_ms: load.timeout_ms,
            transactions: load.each,
        };
        let seed = load.seed * 1_000_003 + family as u64 * 100_003 + u64::from(number);
        let history = producer::run(terms.clone(), seed, is_over.clone()).await;
        let history = history.with_context(|| terms.name.clone())?;
        histories.insert(terms.name, history);
    }
    Ok(histories)
}

/// A table, and some of what was found.
pub fn print(histories: &Histories, violations: &[Violation]) {
    println!(
        "producers      runs transactions committed aborted unknown   torn aborted-seen committed-missing other"
    );
    for family in Family::ALL {
        let of_it = || histories.iter().filter(|(name, _)| family.is_of(name)).map(|(_, history)| history);
        if of_it().next().is_none() {
            continue;
        }
        let fates = || of_it().flat_map(BTreeMap::values);
        let told = |commit| fates().filter(|fate| fate.told == Some(commit)).count();
        let found = |kind| violations.iter().filter(|it| it.kind == kind && family.is_of(&it.name)).count();
        println!(
            "{:<13} {:>5} {:>12} {:>9} {:>7} {:>7} {:>6} {:>12} {:>17} {:>5}",
            family.name(),
            of_it().count(),
            fates().count(),
            told(true),
            told(false),
            fates().filter(|fate| fate.told.is_none()).count(),
            found(Kind::Torn),
            found(Kind::AbortedSeen),
            found(Kind::CommittedMissing),
            found(Kind::Other),
        );
        let shown = violations.iter().filter(|it| family.is_of(&it.name)).take(SHOWN_MAX);
        shown.for_each(|violation| println!("  {violation}"));
    }
    let nobodys = violations.iter().filter(|it| !Family::ALL.iter().any(|family| family.is_of(&it.name)));
    nobodys.take(SHOWN_MAX).for_each(|violation| println!("{violation}"));
}

async fn create_topic(address: SocketAddr, partitions: i32) -> anyhow::Result<()> {
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    let created = Wire::new(address, Duration::from_secs(10)).ask(7, &request).await?;
    ensure!(created.topics[0].error_code == 0, "{:?}", created.topics[0].error_message);
    Ok(())
}

/// A consumer that lives through all of it.
async fn read(address: SocketAddr, partition: i32, is_over: Arc<AtomicBool>) -> anyhow::Result<Vec<String>> {
    let mut reader = Reader::new(address, partition);
    while !is_over.load(Ordering::Relaxed) {
        if reader.fetch().await?.is_none() {
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(reader.values)
}
