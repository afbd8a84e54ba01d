//! Several brokers on one object store, with real processes and clients, while everything fails that can: `cargo xtask chaos cluster`.
//!
//! ```text
//!   producers, consumer ─▶ proxy ─▶ broker 0 ─▶ proxy ─┐
//!                       ─▶ proxy ─▶ broker 1 ─▶ proxy ─┼─▶ versitygw ─▶ a folder
//!                       ─▶ proxy ─▶ broker 2 ─▶ proxy ─┘
//! ```
//! Faults drawn from the seed come one after the other, some beside another (`faults.rs`). Then everything is healed, and the log must
//! hold what was acknowledged: once, at its offset, in order, the same in every reading (`sim::history`).

mod faults;
mod gaps;
mod load;
mod nodes;
mod proxy;
mod report;
mod store;
mod witness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sim::history::{self, Acknowledged};
use tokio::task::JoinSet;

use self::faults::{Fault, SETTLE, Scene};
use self::load::{Plan, Producers, Reading, Told, Watcher};
use self::nodes::{Node, Setting, keep_alive, lasting_ports};
use self::proxy::Link;
use self::report::{Counts, Summary};
use self::store::Store;
use crate::Cluster;
use crate::producers::{self, Families, Work};

/// Between the end of one fault, or the begin of one that others may join, and the next.
const PAUSE_MS: std::ops::Range<u64> = 500..4_000;
/// All is well for so long before the first fault and after the last one.
const CALM: Duration = Duration::from_secs(5);
/// A record that is not acknowledged by then, outages aside, has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the brokers' own default is.
const LEASE_DEFAULT_MS: u64 = 6000;
/// A few of many say enough.
const SHOWN_MAX: usize = 20;
const CLOCK_LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

pub fn run(args: &Cluster) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let work = Work::new()?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = story(args, work.path()) => done,
            () = interrupted() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    // Tasks hold brokers; dropped, they end their processes.
    runtime.shutdown_timeout(Duration::from_secs(10));
    let is_clean = done.with_context(|| format!("logs and data are left in {}", work.path().display()))?;
    ensure!(is_clean, "promises were broken; logs and data are left in {}", work.path().display());
    work.done()
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
}

/// Says whether all promises were kept.
async fn story(args: &Cluster, work: &Path) -> anyhow::Result<bool> {
    let brokers = usize::from(args.brokers);
    let home = producers::clients_home(args.clients_home.as_deref())?;
    let families = match args.only_ottla_clients {
        true => None,
        false => Some(Families::build(Some(&home))?),
    };
    let ports = lasting_ports(brokers + 1)?;
    let mut store = Store::start(&home, work, ports[brokers]).await?;
    let nodes = Arc::new(nodes(args, work, &store, &ports).await?);
    let _alive = AbortOnDrop(tokio::spawn(keep_alive(nodes.clone())));
    for node in nodes.iter() {
        node.start().await?;
    }
    for node in nodes.iter() {
        node.ready().await?;
    }
    let addresses: Vec<String> = nodes.iter().map(Node::address).collect();
    let client = load::client(&addresses);
    load::create_topic(&client, args.partitions).await?;

    let began = Instant::now();
    let told = Arc::new(Told::new(began, work)?);
    let scene = Arc::new(Scene {
        nodes: nodes.clone(),
        partitions: args.partitions,
        lease: Duration::from_millis(args.lease_ttl_ms.unwrap_or(LEASE_DEFAULT_MS)),
        told: told.clone(),
        client,
        windows: Default::default(),
        problems: Default::default(),
        witnesses: Default::default(),
        witnesses_acknowledged: Default::default(),
    });
    // Leaders spread over brokers that have just come.
    tokio::time::sleep(if brokers > 1 { SETTLE } else { Duration::ZERO }).await;
    scene.calm().await?;
    let outage = Duration::from_secs_f64(args.outage_minutes * 60.0);
    let plan = Plan {
        producers: args.producers,
        partitions: args.partitions,
        rate: args.rate,
        patience: PATIENCE + outage,
    };
    let producers = Producers::start(&addresses, &plan, &told).await?;
    let mut watcher = Some(Watcher::start(&addresses, args.partitions, told.clone())?);
    let family_load = producers::Load {
        work: work.to_owned(),
        address: addresses.join(","),
        topic: load::TOPIC.into(),
        partitions: args.partitions,
        rate: args.rate,
    };
    let mut family_producers = families.as_ref().map(|families| families.start(&family_load)).transpose()?;
    let mut family_failed = false;
    tokio::time::sleep(CALM).await;

    let mut injected: BTreeMap<&'static str, u32> = BTreeMap::new();
    let mut breaking = Breaking::new(scene.clone(), args.seed);
    let until = began + Duration::from_secs_f64(args.minutes * 60.0);
    let mut outage_at = (!outage.is_zero()).then(|| began + Duration::from_secs_f64(args.minutes * 30.0));
    while Instant::now() < until {
        if outage_at.is_some_and(|at| Instant::now() >= at) {
            outage_at = None;
            let how = Link::Cut;
            *injected.entry("long outage").or_default() += 1;
            breaking.alone(Fault::Outage { how, lasts: outage }).await?;
        } else {
            let kind = breaking.next().await?;
            kind.into_iter().for_each(|kind| *injected.entry(kind).or_default() += 1);
        }
        store.check_running()?;
        if let Some(Err(error)) =
            family_producers.as_mut().filter(|_| !family_failed).map(|p| p.check_running())
        {
            family_failed = true;
            scene.problem(format!("{error:#}"));
        }
        if let Some(ended) = watcher.take_if(|watcher| watcher.has_ended()) {
            let error = ended.finish(BTreeMap::new()).await.err().context("the consumer ended")?;
            scene.problem(format!("{error:#}"));
        }
    }
    breaking.healed().await?;
    scene.calm().await?;
    let healed = told.count();
    tokio::time::sleep(CALM).await;
    if told.count() == healed {
        scene.problem(format!("nothing is acknowledged in {CALM:?} after everything is healed"));
    }
    let done_ms = told.now_ms();
    eprintln!("{done_ms:>8} ms  healed; the producers finish");

    producers.finish().await?;
    let family_told = match family_producers {
        Some(producers) if family_failed => tokio::task::block_in_place(|| producers.told_at_all())?,
        Some(producers) => tokio::task::block_in_place(|| producers.finish())?,
        None => Acknowledged::default(),
    };
    let (log, ends) = load::read_all(&addresses, args.partitions).await.context("reading everything")?;
    let watched = match watcher {
        Some(watcher) => watcher.finish(ends).await?,
        None => Reading::default(),
    };
    let by_librdkafka = match &families {
        Some(families) => tokio::task::block_in_place(|| families.read_all(&family_load))?,
        None => Vec::new(),
    };
    eprintln!("{:>8} ms  everything was read; now by a broker that has nothing in memory", told.now_ms());
    for node in nodes.iter() {
        let status = node.leave().await?;
        if !status.success() {
            scene.problem(format!("broker {} ended with {status} at the end", node.index));
        }
    }
    nodes[0].start().await?;
    nodes[0].ready().await?;
    scene.calm().await?;
    let (again, _) = load::read_all(&addresses[..1], args.partitions).await.context("reading it again")?;
    nodes[0].leave().await?;
    if let Err(error) = tokio::task::block_in_place(|| audit(&args.bin, store.address.port())) {
        scene.problem(format!("{error:#}"));
    }

    let mut everything = told.take();
    everything.acknowledged.extend(family_told);
    let acknowledged = &everything.acknowledged;
    let mut violations = everything.violations;
    violations.extend(history::violations(acknowledged, &log.found));
    for earlier in [&watched.found, &by_librdkafka] {
        violations.extend(history::changes(earlier, &log.found));
    }
    violations.extend(history::changes(&log.found, &again.found));
    for violation in violations.iter().take(SHOWN_MAX) {
        println!("{violation}");
    }
    for refused in everything.refused.iter().take(SHOWN_MAX) {
        println!("not acknowledged: {refused}");
    }
    let windows = scene.windows.lock().clone();
    let summary = Summary {
        seed: args.seed,
        brokers,
        minutes: f64::from(done_ms) / 60e3,
        injected,
        acknowledged: acknowledged.len(),
        found: log.found.len(),
        read_meanwhile: watched.found.len(),
        counts: Counts::of(&violations),
        refused: everything.refused.len(),
        witnesses: scene.witnesses.load(Ordering::Relaxed),
        witnesses_acknowledged: scene.witnesses_acknowledged.load(Ordering::Relaxed),
        brokers_said: report::Said::in_logs(nodes.iter().map(Node::log)),
        ended_by_themselves: nodes.iter().map(|node| node.ended_by_itself.load(Ordering::Relaxed)).sum(),
        store: report::requests(nodes.iter().map(|node| node.to_store.counters())),
        gaps: gaps::gaps(&everything.timeline, &windows),
        consumer_gaps: gaps::gaps(&watched.timeline, &windows),
        consumer_gap_max_ms: watched.timeline.longest_silence_ms(done_ms),
        lease: scene.lease,
        problems: scene.problems.lock().clone(),
        has_bounds: args.bounds,
    };
    summary.print();
    Ok(summary.is_clean())
}

async fn nodes(args: &Cluster, work: &Path, store: &Store, ports: &[u16]) -> anyhow::Result<Vec<Node>> {
    // More commits than a bucket that charges for them would get: the pauses that are measured should be those of faults.
    let mut properties = BTreeMap::from(
        [
            ("auto.create.topics.enable", "false"),
            ("bucket.linger.ms", "5"),
            ("bucket.puts.per.second", "20"),
            ("offsets.topic.num.partitions", "4"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    let lease = args.lease_ttl_ms.map(|ttl| ("bucket.lease.ttl.ms".to_owned(), ttl.to_string()));
    properties.extend(lease);
    properties.extend(args.set.iter().cloned());
    let clock_library = match args.clock_shift {
        false => None,
        true => {
            let there = CLOCK_LIBRARIES.map(PathBuf::from).into_iter().find(|library| library.exists());
            Some(there.context("--clock-shift needs libfaketime (apt-get install libfaketime)")?)
        }
    };
    let setting = Setting {
        bin: &args.bin,
        work,
        partitions: args.partitions,
        properties: &properties.into_iter().collect::<Vec<_>>(),
        clock_library,
        seed: args.seed,
    };
    let mut nodes = Vec::new();
    for (index, port) in ports[..usize::from(args.brokers)].iter().enumerate() {
        nodes.push(Node::new(index, *port, store, &setting).await?);
    }
    Ok(nodes)
}

/// Which fault is next, and which are under way.
struct Breaking {
    scene: Arc<Scene>,
    random: StdRng,
    count: usize,
    /// What a fault keeps busy: a broker, or the store (`None`).
    under_way: JoinSet<(Option<usize>, anyhow::Result<()>)>,
    busy: Vec<Option<usize>>,
}

impl Breaking {
    fn new(scene: Arc<Scene>, seed: u64) -> Breaking {
        let random = StdRng::seed_from_u64(seed);
        Breaking { scene, random, count: 0, under_way: JoinSet::new(), busy: Vec::new() }
    }

    /// One more fault, and a pause. Gives its kind; nothing when all that could break is broken.
    async fn next(&mut self) -> anyhow::Result<Option<&'static str>> {
        while let Some(done) = self.under_way.try_join_next() {
            self.take(done?)?;
        }
        let is_alone = self.random.random_ratio(3, 5);
        if is_alone {
            self.healed().await?;
        }
        let count = self.scene.nodes.len();
        let free: Vec<usize> = (0..count).filter(|broker| !self.busy.contains(&Some(*broker))).collect();
        // One stays, unless there is only one.
        let may_break = free.len() > 1 || count == 1;
        let free = if may_break { &free[..] } else { &[] };
        let is_store_free = !self.busy.contains(&None);
        // Nobody takes over what the only broker has, however long it is down.
        let lease = if count == 1 { Duration::ZERO } else { self.scene.lease };
        let fault = Fault::draw(&mut self.random, free, is_store_free, lease);
        let kind = fault.as_ref().map(Fault::kind);
        match fault {
            Some(fault) if is_alone => self.alone(fault).await?,
            Some(fault) => self.begin(fault, false),
            None => {}
        }
        let pause = Duration::from_millis(self.random.random_range(PAUSE_MS));
        tokio::time::sleep(pause).await;
        Ok(kind)
    }

    fn begin(&mut self, fault: Fault, is_alone: bool) {
        self.count += 1;
        let (scene, number, what) = (self.scene.clone(), self.count, fault.broker());
        self.busy.push(what);
        self.under_way.spawn(async move { (what, scene.carry_out(number, fault, is_alone).await) });
    }

    async fn alone(&mut self, fault: Fault) -> anyhow::Result<()> {
        self.healed().await?;
        self.scene.calm().await?;
        self.begin(fault, true);
        self.healed().await
    }

    /// Until nothing is under way.
    async fn healed(&mut self) -> anyhow::Result<()> {
        while let Some(done) = self.under_way.join_next().await {
            self.take(done?)?;
        }
        Ok(())
    }

    fn take(&mut self, (what, result): (Option<usize>, anyhow::Result<()>)) -> anyhow::Result<()> {
        self.busy.retain(|busy| *busy != what);
        result
    }
}

/// `ottla bucket audit`: what is in the store is whole, and all that leads to it.
fn audit(bin: &Path, port: u16) -> anyhow::Result<()> {
    let mut command = std::process::Command::new(bin);
    command.args(["bucket", "audit", "--data", &store::url(port)]).envs(store::credentials());
    producers::run(&mut command).context("the audit of the bucket")
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
