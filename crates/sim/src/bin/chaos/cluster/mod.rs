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
mod namespace;
mod nodes;
mod proxy;
mod report;
mod store;
mod transactions;
mod upgrade;
mod witness;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sim::history::{self, Acknowledged, Found, Violation};
use tokio::task::JoinSet;

use self::faults::{Fault, SETTLE, Scene};
use self::gaps::Timeline;
use self::load::{Everything, Plan, Producers, Reading, Told, Watcher};
use self::namespace::Namespace;
use self::nodes::{Node, Setting, keep_alive, lasting_ports};
use self::proxy::Link;
use self::report::{Counts, Summary};
use self::store::Store;
use self::transactions::Transactions;
use crate::Cluster;
use crate::producers::{self, Families, Work};

/// Between the end of one fault, or the begin of one that others may join, and the next.
const PAUSE_MS: Range<u64> = 500..4_000;
/// All is well for so long before the first fault and after the last one.
const CALM: Duration = Duration::from_secs(5);
/// A record that is not acknowledged by then, outages aside, has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the brokers' own default is.
const LEASE_DEFAULT_MS: u64 = 6000;
/// Of the writes of the log, where a store that forgets is to be found out.
const FORGOTTEN_PERCENT: u32 = 2;
const OFFSETS_PARTITIONS: i32 = 4;
/// A few of many say enough.
const SHOWN_MAX: usize = 5;
const LONGEST_SHOWN: usize = 8;
const CLOCK_LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

/// What happens to the cluster.
#[derive(Clone, Copy)]
pub enum Story<'a> {
    Faults,
    /// To this binary.
    Upgrade(&'a Path),
}

pub fn run(args: &Cluster, what: Story<'_>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let work = Work::new()?;
    clients_say(work.path())?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = story(args, what, work.path()) => done,
            () = interrupted() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    // Tasks hold brokers; dropped, they end their processes.
    runtime.shutdown_timeout(Duration::from_secs(10));
    let left = format!("logs and data are left in {}", work.path().display());
    let summary = done.with_context(|| left.clone())?;
    if args.control.is_some() {
        ensure!(summary.counts.lost > 0, "a store that forgets was not found out; {left}");
        println!("the store forgot, and {} lost records were found", summary.counts.lost);
    } else {
        ensure!(summary.is_clean(), "promises were broken; {left}");
    }
    if args.keep {
        println!("{left}");
        return Ok(());
    }
    work.done()
}

/// What our clients say goes to `clients.log`; `CHAOS_LOG` chooses (`client=debug`).
fn clients_say(work: &Path) -> anyhow::Result<()> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("CHAOS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let file = std::fs::File::create(work.join("clients.log"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(file).with_ansi(false).init();
    Ok(())
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

async fn story(args: &Cluster, what: Story<'_>, work: &Path) -> anyhow::Result<Summary> {
    let mut stage = Stage::set(args, work).await?;
    let mut clients = Clients::start(args, work, &stage).await?;
    tokio::time::sleep(CALM).await;
    let scene = stage.scene.clone();
    let mut injected = BTreeMap::new();
    let happened = match what {
        Story::Faults => break_things(args, &mut stage, &mut clients, &mut injected).await,
        Story::Upgrade(newer) => upgrade::roll(args, newer, work, &scene, &mut clients, &mut injected).await,
    };
    if let Err(error) = happened {
        scene.problem(format!("{error:#}"));
        // What was promised is looked at none the less.
        scene.heal().await;
    }
    let done_ms = scene.told.now_ms();
    eprintln!("{done_ms:>8} ms  healed; the producers finish, and everything is read");
    let transactions = clients.transactions.take();
    let heard = clients.finish(&scene).await?;
    let mut committed = None;
    if let Some(transactions) = transactions {
        match transactions.finish(&scene).await {
            Ok(values) => committed = Some(values),
            Err(error) => scene.problem(format!("transactions: {error:#}")),
        }
    }
    eprintln!("{:>8} ms  the same by a broker that has nothing in memory", scene.told.now_ms());
    let again = match stage.read_afresh(committed.as_ref()).await {
        Ok(again) => Some(again),
        Err(error) => {
            scene.problem(format!("{error:#}"));
            None
        }
    };

    let Heard { acknowledged, timeline, refused, mut violations, log, watched, by_librdkafka, gave_up } =
        heard;
    violations.extend(history::violations(&acknowledged, &log));
    for earlier in [&watched.found, &by_librdkafka] {
        violations.extend(history::changes(earlier, &log));
    }
    violations.extend(again.iter().flat_map(|again| history::changes(&log, again)));
    show(&violations);
    refused.iter().take(SHOWN_MAX).for_each(|refused| println!("not acknowledged: {refused}"));
    for waits in [&timeline, &watched.timeline] {
        for ((who, partition), Range { start, end }) in waits.longest(LONGEST_SHOWN) {
            eprintln!("{who} waited {} ms in partition {partition}, {start} to {end} ms", end - start);
        }
    }
    let windows = scene.windows.lock().clone();
    let summary = Summary {
        seed: args.seed,
        brokers: scene.nodes.len(),
        minutes: f64::from(done_ms) / 60e3,
        injected,
        acknowledged: acknowledged.len(),
        found: log.len(),
        read_meanwhile: watched.found.len(),
        counts: Counts::of(&violations),
        refused: refused.len(),
        witnesses: scene.witnesses.load(Ordering::Relaxed),
        witnesses_acknowledged: scene.witnesses_acknowledged.load(Ordering::Relaxed),
        brokers_said: report::Said::in_logs(scene.nodes.iter().map(Node::log)),
        ended_by_themselves: scene
            .nodes
            .iter()
            .map(|node| node.ended_by_itself.load(Ordering::Relaxed))
            .sum(),
        gave_up,
        store: report::requests(scene.nodes.iter().map(|node| node.to_store.counters())),
        gaps: gaps::gaps(&timeline, &windows),
        consumer_gaps: gaps::gaps(&watched.timeline, &windows),
        consumer_gap_max_ms: watched.timeline.longest_silence_ms(done_ms),
        lease: scene.lease,
        problems: scene.problems.lock().clone(),
        has_bounds: args.bounds,
    };
    summary.print();
    Ok(summary)
}

/// Some of each kind.
fn show(violations: &[Violation]) {
    let mut shown: BTreeMap<String, usize> = BTreeMap::new();
    for violation in violations {
        let text = violation.to_string();
        let count = shown.entry(text.split(':').next().unwrap_or_default().to_owned()).or_default();
        *count += 1;
        if *count <= SHOWN_MAX {
            println!("{text}");
        }
    }
}

/// The store, the brokers, and a topic.
struct Stage {
    store: Store,
    scene: Arc<Scene>,
    addresses: Vec<String>,
    _alive: AbortOnDrop<anyhow::Result<()>>,
}

impl Stage {
    async fn set(args: &Cluster, work: &Path) -> anyhow::Result<Stage> {
        let home = producers::clients_home(args.clients_home.as_deref())?;
        let count = usize::from(args.brokers);
        let ports = lasting_ports(count + 1)?;
        let store = Store::start(&home, work, ports[count]).await?;
        let nodes = Arc::new(nodes(args, work, &store, &ports[..count]).await?);
        let alive = AbortOnDrop(tokio::spawn(keep_alive(nodes.clone())));
        for node in nodes.iter() {
            node.start().await?;
        }
        for node in nodes.iter() {
            node.ready().await?;
        }
        let addresses: Vec<String> = nodes.iter().map(Node::address).collect();
        let client = load::client(&addresses);
        load::create_topic(&client, args.partitions).await?;
        let scene = Scene {
            nodes,
            partitions: args.partitions,
            lease: Duration::from_millis(args.lease_ttl_ms.unwrap_or(LEASE_DEFAULT_MS)),
            told: Arc::new(Told::new(Instant::now(), work)?),
            client,
            windows: Default::default(),
            problems: Default::default(),
            witnesses: Default::default(),
            witnesses_acknowledged: Default::default(),
        };
        // Leaders spread over brokers that have just come.
        tokio::time::sleep(if count > 1 { SETTLE } else { Duration::ZERO }).await;
        scene.calm().await?;
        Ok(Stage { store, scene: Arc::new(scene), addresses, _alive: alive })
    }

    /// Everybody leaves; one comes back and has everything.
    async fn read_afresh(&self, committed: Option<&Vec<Vec<String>>>) -> anyhow::Result<Vec<Found>> {
        let scene = &self.scene;
        for node in scene.nodes.iter() {
            let status = node.leave().await?;
            if !status.success() {
                scene.problem(format!("broker {} ended with {status} at the end", node.index));
            }
        }
        let one = &scene.nodes[0];
        one.start().await?;
        one.ready().await?;
        scene.led().await?;
        let (again, _) =
            load::read_all(&self.addresses[..1], scene.partitions).await.context("reading again")?;
        if let Some(committed) = committed
            && let Err(error) = transactions::read_again(&self.addresses[..1], committed).await
        {
            scene.problem(format!("reading what is committed again: {error:#}"));
        }
        one.leave().await?;
        if let Err(error) = tokio::task::block_in_place(|| audit(&one.bin(), self.store.address)) {
            scene.problem(format!("{error:#}"));
        }
        Ok(again.found)
    }
}

/// Who produces and reads.
struct Clients {
    addresses: Vec<String>,
    producers: Producers,
    watcher: Watcher,
    watcher_failed: bool,
    /// librdkafka and kafka-clients.
    others: Option<(Families, producers::Load, producers::Producers)>,
    others_failed: bool,
    transactions: Option<Transactions>,
    transactions_failed: bool,
    /// Producers of librdkafka that ended by its own mistake.
    gave_up: usize,
}

/// All that clients were told and saw.
struct Heard {
    acknowledged: Acknowledged,
    timeline: Timeline,
    refused: Vec<String>,
    /// Those that showed before the log was read.
    violations: Vec<Violation>,
    log: Vec<Found>,
    watched: Reading,
    by_librdkafka: Vec<Found>,
    gave_up: usize,
}

impl Clients {
    async fn start(args: &Cluster, work: &Path, stage: &Stage) -> anyhow::Result<Clients> {
        let (scene, addresses) = (&stage.scene, &stage.addresses);
        let plan = Plan {
            producers: args.producers,
            partitions: args.partitions,
            rate: args.rate,
            patience: PATIENCE + minutes(args.outage_minutes),
        };
        let producers = Producers::start(addresses, &plan, &scene.told).await?;
        let watcher = Watcher::start(addresses, args.partitions, scene.told.clone())?;
        let mut others = None;
        if !args.only_ottla_clients {
            let families = tokio::task::block_in_place(|| Families::build(args.clients_home.as_deref()))?;
            let load = producers::Load {
                work: work.to_owned(),
                address: addresses.join(","),
                topic: load::TOPIC.into(),
                partitions: args.partitions,
                rate: args.rate / 4,
            };
            let producers = families.start(&load)?;
            others = Some((families, load, producers));
        }
        let mut transactions = None;
        if args.transactions > 0 {
            let home = args.clients_home.as_deref();
            let (partitions, at_once, seed) = (args.partitions, args.transactions, args.seed);
            let started = Transactions::start(addresses, partitions, at_once, seed, work, home);
            transactions = Some(started.await.context("transactions")?);
        }
        let addresses = addresses.clone();
        Ok(Clients {
            addresses,
            producers,
            watcher,
            watcher_failed: false,
            others,
            others_failed: false,
            transactions,
            transactions_failed: false,
            gave_up: 0,
        })
    }

    /// A client that gave up is a broken promise; the others go on.
    fn look_after(&mut self, scene: &Scene) {
        if let Some((families, load, producers)) = self.others.as_mut().filter(|_| !self.others_failed) {
            let replaced = producers.replace_those_that_gave_up(families, load);
            match replaced.and_then(|count| producers.check_running().map(|()| count)) {
                Ok(count) => self.gave_up = count,
                Err(error) => {
                    self.others_failed = true;
                    scene.problem(format!("{error:#}"));
                }
            }
        }
        if let Some(transactions) = &self.transactions {
            transactions.look_after(scene, &mut self.transactions_failed);
        }
        if self.watcher.has_ended() && !self.watcher_failed {
            self.watcher_failed = true;
            scene.problem("the consumer that reads all along has ended".to_owned());
        }
    }

    /// Every record gets its answer; then everything is read.
    async fn finish(self, scene: &Scene) -> anyhow::Result<Heard> {
        self.producers.finish().await?;
        let Everything { mut acknowledged, timeline, violations, refused } = scene.told.take();
        let mut readers = None;
        if let Some((families, load, producers)) = self.others {
            let told = tokio::task::block_in_place(|| match self.others_failed {
                true => producers.told_at_all(),
                false => producers.finish(),
            });
            match told {
                Ok(told) => acknowledged.extend(told),
                Err(error) => scene.problem(format!("{error:#}")),
            }
            readers = Some((families, load));
        }
        let (log, ends) =
            load::read_all(&self.addresses, scene.partitions).await.context("reading everything")?;
        let watched = self.watcher.finish(ends).await?;
        for (what, reading) in [("everything", &log), ("all along", &watched)] {
            if let Some(why) = &reading.broken_off {
                scene.problem(format!("reading {what}: {why}"));
            }
        }
        let mut by_librdkafka = Vec::new();
        if let Some((families, load)) = readers {
            match tokio::task::block_in_place(|| families.read_all(&load)) {
                Ok(found) => by_librdkafka = found,
                Err(error) => scene.problem(format!("librdkafka: {error:#}")),
            }
        }
        Ok(Heard {
            acknowledged,
            timeline,
            refused,
            violations,
            log: log.found,
            watched,
            by_librdkafka,
            gave_up: self.gave_up,
        })
    }
}

/// Faults until the time is over, and then none for a while. Counts in `injected` how many of which kind came.
async fn break_things(
    args: &Cluster,
    stage: &mut Stage,
    clients: &mut Clients,
    injected: &mut BTreeMap<&'static str, u32>,
) -> anyhow::Result<()> {
    let scene = stage.scene.clone();
    let mut breaking = Breaking::new(scene.clone(), args);
    let forgotten_percent = if args.control.is_some() { FORGOTTEN_PERCENT } else { 0 };
    scene.nodes.iter().for_each(|node| node.to_store.change(|w| w.forgotten_percent = forgotten_percent));
    let (began, lasts, outage) = (Instant::now(), minutes(args.minutes), minutes(args.outage_minutes));
    let mut outage_is_due = !outage.is_zero();
    while began.elapsed() < lasts {
        if outage_is_due && began.elapsed() >= lasts / 2 {
            outage_is_due = false;
            *injected.entry("long outage").or_default() += 1;
            breaking.alone(Fault::Outage { how: Link::Cut, lasts: outage }).await?;
        } else if let Some(kind) = breaking.next().await? {
            *injected.entry(kind).or_default() += 1;
        }
        stage.store.check_running()?;
        clients.look_after(&scene);
    }
    breaking.healed().await?;
    scene.nodes.iter().for_each(|node| node.to_store.change(|w| w.forgotten_percent = 0));
    scene.calm().await?;
    let before = scene.told.count();
    tokio::time::sleep(CALM).await;
    if scene.told.count() == before {
        scene.problem(format!("nothing is acknowledged in {CALM:?} after everything is healed"));
    }
    Ok(())
}

fn minutes(minutes: f64) -> Duration {
    Duration::from_secs_f64(minutes * 60.0)
}

async fn nodes(args: &Cluster, work: &Path, store: &Store, ports: &[u16]) -> anyhow::Result<Vec<Node>> {
    // More commits than a bucket that charges for them would get: the pauses that are measured should be those of faults.
    let mut properties = BTreeMap::from(
        [
            ("auto.create.topics.enable", "false"),
            ("bucket.linger.ms", "5"),
            ("bucket.puts.per.second", "20"),
            ("offsets.topic.num.partitions", &OFFSETS_PARTITIONS.to_string()),
            ("transaction.state.log.num.partitions", "6"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    properties.extend(args.lease_ttl_ms.map(|ttl| ("bucket.lease.ttl.ms".to_owned(), ttl.to_string())));
    properties.extend(args.set.iter().cloned());
    let properties: Vec<(String, String)> = properties.into_iter().collect();
    let mut clock_library = None;
    if args.clock_shift {
        let there = CLOCK_LIBRARIES.map(PathBuf::from).into_iter().find(|library| library.exists());
        clock_library = Some(there.context("--clock-shift needs libfaketime (apt-get install libfaketime)")?);
    }
    let setting = Setting {
        bin: &args.bin,
        work,
        partitions: args.partitions,
        properties: &properties,
        clock_library,
        seed: args.seed,
    };
    let mut nodes = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        // In namespaces of their own brokers have no way to one another, and transactions across them would wait for ever.
        let namespace = match args.without_namespaces || args.transactions > 0 {
            true => None,
            // Where that is not allowed there are still the proxies.
            false => {
                Namespace::new(index).inspect_err(|error| eprintln!("no network namespace: {error:#}")).ok()
            }
        };
        nodes.push(Node::new(index, *port, store, namespace, &setting).await?);
    }
    let namespaces: Vec<&Namespace> =
        nodes.iter().filter_map(|node: &Node| node.namespace.as_ref()).collect();
    for pair in namespaces.windows(2) {
        pair[0].check_reaches(pair[1])?;
    }
    Ok(nodes)
}

/// Which fault is next, and which are under way.
struct Breaking {
    scene: Arc<Scene>,
    random: StdRng,
    alone_percent: u32,
    /// Of all kinds if there are none.
    kinds: Vec<String>,
    count: usize,
    /// What a fault keeps busy: a broker, or the store (`None`).
    under_way: JoinSet<(Option<usize>, anyhow::Result<()>)>,
    busy: Vec<Option<usize>>,
}

impl Breaking {
    fn new(scene: Arc<Scene>, args: &Cluster) -> Breaking {
        Breaking {
            scene,
            random: StdRng::seed_from_u64(args.seed),
            alone_percent: args.alone_percent,
            kinds: args.faults.clone(),
            count: 0,
            under_way: JoinSet::new(),
            busy: Vec::new(),
        }
    }

    /// One more fault, and a pause. Gives its kind; nothing when all that could break is broken.
    async fn next(&mut self) -> anyhow::Result<Option<&'static str>> {
        while let Some(done) = self.under_way.try_join_next() {
            self.take(done?)?;
        }
        let is_alone = self.random.random_ratio(self.alone_percent, 100);
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
        let fault = Fault::draw(&mut self.random, free, is_store_free, lease, &self.kinds);
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
fn audit(bin: &Path, store: SocketAddr) -> anyhow::Result<()> {
    let mut command = std::process::Command::new(bin);
    command.args(["bucket", "audit", "--data", &store::url(store)]).envs(store::credentials());
    producers::run(&mut command).context("the audit of the bucket")
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
