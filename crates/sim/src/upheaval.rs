//! A cluster on one bucket while everything goes wrong that can, and clients that never give up.
//!
//! ```text
//!   operations, drawn from the seed        what is told to clients                       in the end
//!   produce · commit · list ends           acknowledgements, offsets, records            heal, wait, read everything back:
//!   create, delete topics · DeleteRecords     └──▶ transcript                            nothing lost, twice, moved or out of order;
//!   kill · pause · leave                                                                 what anybody saw is there;
//!   outages, storms of the bucket, the net                                               the bucket holds what its metadata promises
//! ```

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use client::{
    Client, ClientOptions, ConsumerOptions, ErrorCode, Isolation, NewTopic, OffsetAndMetadata,
    OffsetAndTimestamp, OffsetReset, OffsetSpec, ProducerOptions, Received, Record, TopicPartition,
};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};
use world::bucket::{Bucket, MemBucketFaults};
use world::rng::{Rng, SeededRng};
use world::task;

use crate::cluster::{Cluster, LEASE_TTL};
use crate::history::{self, Acknowledged, Found};
use crate::ledger::{self, Ledger};
use crate::machine::run;
use crate::transfers;
use crate::wire::{Trouble, Wire};
use crate::witness;

/// Lives as long as the run.
const ORDERS: &str = "orders";
/// Its records are deleted from the front.
const TRIMMED: &str = "trimmed";
const PARTITIONS: i32 = 3;
const PRODUCERS: usize = 3;
const GROUP: &str = "keeper";
const READERS: &str = "readers";
/// How long a request may come late.
const LATE_MAX: Duration = Duration::from_secs(20);
/// Nothing takes that long once everything is well again.
const RECOVERY_MAX: Duration = Duration::from_secs(300);
const API_TIMEOUT: Duration = Duration::from_secs(20);
/// For records of a topic that may be gone.
const FLEETING_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);
const LEAVE_SECONDS_MAX: u32 = 40;
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// Broken connections, out of a thousand frames.
const NET_USUAL: u64 = 3;
const NET_STORM: u64 = 100;
/// Calls between brokers that go wrong, out of a thousand.
const CALLS_USUAL: u64 = 50;
const CALLS_STORM: u64 = 400;

/// What most operations are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    Anything,
    /// Topics that come and go, and hardly any trouble.
    Topics,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub focus: Focus,
    pub brokers: usize,
    pub operations: u64,
    /// Everything that is logged goes to stderr.
    pub aloud: bool,
}

impl Plan {
    pub fn of(seed: u64, operations: u64) -> Plan {
        Plan { seed, focus: Focus::Anything, brokers: 3, operations, aloud: false }
    }
}

/// What a run came to. Equal plans give equal outcomes, the transcript byte for byte.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub findings: Vec<String>,
    pub transcript: String,
    pub totals: Totals,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub acknowledged: u64,
    /// Records that consumers were given while the trouble went on.
    pub seen: u64,
    pub kills: u64,
    pub pauses: u64,
    pub outages: u64,
    pub storms: u64,
    pub left: u64,
    pub rejoined: u64,
    pub starts: u64,
    pub takeovers: u64,
    /// Changes of metadata by way of the controller, and those of which it said nothing in time.
    pub handed_off: u64,
    pub handed_off_unknown: u64,
    pub topics_deleted: u64,
    pub trims: u64,
    pub commits: u64,
    pub ends: u64,
    pub segments: u64,
    pub transactions: u64,
    /// Blocks of segments that came out of brokers' files, and files that were damaged.
    pub cache_hits: u64,
    pub cache_damaged: u64,
    /// Fetches with records of transactions at brokers that did not lead.
    pub read_elsewhere: u64,
    /// Of them, those that the rewriter made of others.
    pub merged: u64,
    pub virtual_seconds: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Totals) {
        for (mine, theirs) in self.fields().into_iter().zip({ *other }.fields()) {
            *mine += *theirs;
        }
    }

    fn fields(&mut self) -> [&mut u64; 23] {
        let Totals {
            acknowledged,
            seen,
            kills,
            pauses,
            outages,
            storms,
            left,
            rejoined,
            starts,
            takeovers,
            handed_off,
            handed_off_unknown,
            topics_deleted,
            trims,
            commits,
            ends,
            segments,
            transactions,
            cache_hits,
            cache_damaged,
            read_elsewhere,
            merged,
            virtual_seconds,
        } = self;
        [
            acknowledged,
            seen,
            kills,
            pauses,
            outages,
            storms,
            left,
            rejoined,
            starts,
            takeovers,
            handed_off,
            handed_off_unknown,
            topics_deleted,
            trims,
            commits,
            ends,
            segments,
            transactions,
            cache_hits,
            cache_damaged,
            read_elsewhere,
            merged,
            virtual_seconds,
        ]
    }
}

pub fn simulate(plan: Plan) -> Outcome {
    let (mut outcome, seen) = witness::watched(plan.aloud, || run(plan.seed, world(plan)));
    outcome.findings.extend(seen);
    outcome
}

/// What clients were told, by topic.
#[derive(Default)]
struct Told {
    transcript: String,
    findings: Vec<String>,
    acknowledged: BTreeMap<String, Acknowledged>,
    /// The end of each partition as acknowledgements say it.
    ends: BTreeMap<TopicPartition, i64>,
    /// What readers were given.
    seen: BTreeMap<(TopicPartition, i64), String>,
    /// Starts that DeleteRecords has answered.
    trimmed: BTreeMap<i32, i64>,
    totals: Totals,
}

impl Told {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        tracing::debug!("{line}");
        self.transcript.write_fmt(line).expect("writing to a string does not fail");
        self.transcript.push('\n');
    }

    fn found(&mut self, what: String) {
        self.line(format_args!("FINDING {what}"));
        self.findings.push(what);
    }
}

type Shared = Rc<RefCell<Told>>;

/// A record for a producer to send.
struct Order {
    topic: String,
    /// Of the topic, if it is one that comes and goes.
    generation: u64,
    partition: i32,
    number: u64,
    padding: usize,
}

impl Order {
    fn is_fleeting(&self) -> bool {
        self.topic.starts_with("fleeting")
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.topic, self.partition, self.number)
    }
}

/// The state of the run that operations look at.
struct Run {
    plan: Plan,
    cluster: Rc<RefCell<Cluster>>,
    told: Shared,
    random: SeededRng,
    trouble: Trouble,
    producers: Vec<mpsc::UnboundedSender<Order>>,
    producing: Vec<JoinHandle<()>>,
    /// By producer, topic and partition.
    numbers: BTreeMap<(usize, String, i32), u64>,
    admin: Client,
    ledger: ledger::Shared,
    transfers: ledger::Shared,
    ledger_writers: Vec<JoinHandle<()>>,
    ledger_readers: Vec<JoinHandle<()>>,
    /// Readers go on until writers have come to their end.
    is_ledger_written: Rc<Cell<bool>>,
    keeper: Rc<RefCell<Keeper>>,
    fleeting: Rc<RefCell<Fleeting>>,
    /// Operations that take their time. One of a kind at once.
    under_way: BTreeMap<&'static str, JoinHandle<()>>,
    /// Brokers that something is happening to.
    troubled: Vec<Option<JoinHandle<()>>>,
}

/// One register: an offset that one client commits and reads.
#[derive(Default)]
struct Keeper {
    tried: i64,
    acknowledged: i64,
}

/// A topic that is deleted and made again under the same name.
#[derive(Clone, Default)]
struct Fleeting {
    name: String,
    generation: u64,
    /// It is there, and what is acknowledged from now on has to be found unless it is deleted again.
    is_there: bool,
}

fn client(cluster: &Cluster, trouble: &Trouble, name: &str) -> Client {
    let wire = Wire::new(cluster.net().clone(), trouble.clone(), cluster.rng());
    let mut options = ClientOptions::new(cluster.addresses())
        .client_id(name)
        .transport(Arc::new(wire))
        .clock(cluster.clock())
        .rng(cluster.rng());
    options.api_timeout = API_TIMEOUT;
    options.request_timeout = Duration::from_secs(12);
    options.connect_timeout = Duration::from_secs(3);
    options.allow_auto_create_topics = false;
    Client::new(options)
}

/// Now and then a request never arrives: some brokers hear late of what others do.
fn deaf_brokers() -> MemBucketFaults {
    let latency = (Duration::from_millis(2), Duration::from_millis(30));
    MemBucketFaults { latency, request_lost: 60, late_max: LATE_MAX, ..MemBucketFaults::default() }
}

fn usual_faults() -> MemBucketFaults {
    MemBucketFaults { late_max: LATE_MAX, list_factor: 2, ..MemBucketFaults::all() }
}

/// 409, 412 and 503 and lost answers by the dozen, and slow lists.
fn storm(random: &SeededRng) -> MemBucketFaults {
    let often = || random.below(150);
    MemBucketFaults {
        request_lost: often() / 3,
        answer_lost: often(),
        late: often() / 3,
        repeated: often(),
        own_success_exists: often(),
        conflict: often(),
        unavailable: often(),
        list_factor: 1 + random.below(30) as u32,
        ..usual_faults()
    }
}

async fn world(plan: Plan) -> Outcome {
    let began = task::now();
    let local = LocalSet::new();
    let mut cluster = Cluster::new(plan.seed, plan.brokers);
    cluster.store().set_faults(match plan.focus {
        Focus::Anything => usual_faults(),
        Focus::Topics => deaf_brokers(),
    });
    for number in 0..plan.brokers {
        cluster.start(number);
    }
    let told = Shared::default();
    let ended = local
        .run_until(task::timeout(NEVER, async {
            let mut run = Run::begin(plan, cluster, told.clone()).await?;
            run.operate().await;
            run.end().await
        }))
        .await;
    let mut told = told.take();
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => told.found(format!("the run cannot go on: {error:#}")),
        Err(_) => told.found("the run does not end".to_owned()),
    }
    told.totals.virtual_seconds = (task::now() - began).as_secs();
    Outcome { findings: told.findings, transcript: told.transcript, totals: told.totals }
}

impl Run {
    async fn begin(plan: Plan, cluster: Cluster, told: Shared) -> anyhow::Result<Run> {
        let trouble = Trouble::default();
        let admin = client(&cluster, &trouble, "admin");
        for name in [ORDERS, TRIMMED, ledger::TOPIC, transfers::TOPIC] {
            create(&admin, name).await?;
        }
        let mut run = Run {
            plan,
            told,
            random: SeededRng::new(plan.seed.wrapping_mul(0x9e37_79b9) ^ 0x5eed),
            trouble,
            producers: Vec::new(),
            producing: Vec::new(),
            numbers: BTreeMap::new(),
            admin,
            ledger: Rc::new(RefCell::new(Ledger::of(ledger::TOPIC))),
            transfers: Rc::new(RefCell::new(Ledger::of(transfers::TOPIC))),
            ledger_writers: Vec::new(),
            ledger_readers: Vec::new(),
            is_ledger_written: Rc::default(),
            keeper: Rc::default(),
            fleeting: Rc::new(RefCell::new(Fleeting {
                name: "fleeting-0".to_owned(),
                ..Fleeting::default()
            })),
            under_way: BTreeMap::new(),
            troubled: (0..plan.brokers).map(|_| None).collect(),
            cluster: Rc::new(RefCell::new(cluster)),
        };
        for number in 0..PRODUCERS {
            let (orders, taken) = mpsc::unbounded_channel();
            let client = run.client(&format!("producer-{number}"));
            run.producers.push(orders);
            let (told, fleeting) = (run.told.clone(), run.fleeting.clone());
            run.producing.push(task_local(produce(client, number, taken, told, fleeting)));
        }
        Ok(run)
    }

    fn client(&self, name: &str) -> Client {
        client(&self.cluster.borrow(), &self.trouble, name)
    }

    async fn operate(&mut self) {
        let between_brokers = self.cluster.borrow().between_brokers().clone();
        self.trouble.set(NET_USUAL);
        between_brokers.set(CALLS_USUAL);
        let stop = Rc::new(Cell::new(false));
        self.begin_ledger(&stop);
        let reading = task_local(read_on(self.client("reader"), self.told.clone(), stop.clone()));
        let members: Vec<_> = (0..2)
            .map(|number| {
                let client = self.client(&format!("member-{number}"));
                task_local(read_in_group(client, self.told.clone(), stop.clone()))
            })
            .collect();
        for _ in 0..self.plan.operations {
            task::sleep(Duration::from_micros(self.random.below(180_000))).await;
            self.operation();
        }
        for troubled in self.troubled.iter_mut().filter_map(Option::take) {
            let _ = troubled.await;
        }
        for kind in ["weather", "net"] {
            if let Some(under_way) = self.under_way.remove(kind) {
                let _ = under_way.await;
            }
        }
        // Everything is well again.
        self.trouble.set(0);
        between_brokers.set(0);
        let well = MemBucketFaults { late_max: LATE_MAX, ..MemBucketFaults::default() };
        self.cluster.borrow().store().set_faults(well);
        for under_way in std::mem::take(&mut self.under_way).into_values() {
            let _ = under_way.await;
        }
        stop.set(true);
        for reader in members.into_iter().chain([reading]) {
            let _ = reader.await;
        }
    }

    fn begin_ledger(&mut self, stop: &Rc<Cell<bool>>) {
        for partition in 0..PARTITIONS {
            for number in 0..ledger::WRITERS {
                let rng = self.cluster.borrow().rng();
                let (cluster, ledger, stop) = (self.cluster.clone(), self.ledger.clone(), stop.clone());
                let writing = ledger::write(cluster, partition, number, rng, ledger, stop);
                self.ledger_writers.push(task_local(writing));
            }
        }
        for number in 0..transfers::WRITERS {
            let cluster = self.cluster.borrow();
            let writer = transfers::Writer {
                wire: Wire::new(cluster.net().clone(), self.trouble.clone(), cluster.rng()),
                addresses: cluster.addresses(),
                rng: cluster.rng(),
                clock: cluster.clock(),
                ledger: self.transfers.clone(),
                number,
                partitions: PARTITIONS,
            };
            self.ledger_writers.push(task_local(writer.write(stop.clone())));
        }
        self.ledger_readers = self.ledger_readers_from_start();
    }

    /// One of each partition.
    fn ledger_readers_from_start(&self) -> Vec<JoinHandle<()>> {
        let reading = |(ledger, partition): (&ledger::Shared, i32)| {
            let cluster = self.cluster.borrow();
            let wire = Wire::new(cluster.net().clone(), self.trouble.clone(), cluster.rng());
            let (addresses, rng) = (cluster.addresses(), cluster.rng());
            let reader = ledger::Reader::new(wire, addresses, rng, ledger.clone(), partition);
            task_local(reader.read(self.cluster.clone(), self.is_ledger_written.clone()))
        };
        let both = [&self.ledger, &self.transfers];
        both.into_iter().flat_map(|ledger| (0..PARTITIONS).map(move |it| (ledger, it))).map(reading).collect()
    }

    /// All transactions are decided, and all readers know it: then those who begin only now.
    async fn end_ledger(&mut self) -> anyhow::Result<()> {
        let come_to_end = async |tasks: Vec<JoinHandle<()>>, who: &str| {
            for (number, task) in tasks.into_iter().enumerate() {
                let end = task::timeout(RECOVERY_MAX, task).await;
                anyhow::ensure!(
                    matches!(end, Ok(Ok(()))),
                    "{who} {number} of the ledger does not come to its end"
                );
            }
            Ok(())
        };
        come_to_end(std::mem::take(&mut self.ledger_writers), "writer").await?;
        self.is_ledger_written.set(true);
        come_to_end(std::mem::take(&mut self.ledger_readers), "reader").await?;
        self.ledger.borrow_mut().check();
        self.transfers.borrow_mut().check();
        come_to_end(self.ledger_readers_from_start(), "last reader").await?;
        self.ledger.borrow_mut().check();
        self.transfers.borrow_mut().check();
        Ok(())
    }

    fn operation(&mut self) {
        let drawn = match self.plan.focus {
            Focus::Anything => self.random.below(1000),
            Focus::Topics => {
                if self.random.below(25) == 0 {
                    700
                } else {
                    650
                }
            }
        };
        match drawn {
            0..550 => self.produce_to(ORDERS.to_owned(), 4),
            550..620 => self.produce_to(TRIMMED.to_owned(), 2),
            620..690 => {
                let name = {
                    let fleeting = self.fleeting.borrow();
                    fleeting.is_there.then(|| fleeting.name.clone())
                };
                if let Some(name) = name {
                    self.produce_to(name, 2);
                }
            }
            690..730 => self
                .one_of("fleeting", recreate(self.admin.clone(), self.fleeting.clone(), self.told.clone())),
            730..760 => {
                let partition = self.random.below(PARTITIONS as u64) as i32;
                let part = 1 + self.random.below(3) as i64;
                self.one_of("trim", trim(self.admin.clone(), partition, part, self.told.clone()));
            }
            760..810 => {
                self.one_of("keeper", commit(self.admin.clone(), self.keeper.clone(), self.told.clone()))
            }
            810..840 => {
                self.one_of("keeper", committed(self.admin.clone(), self.keeper.clone(), self.told.clone()))
            }
            840..900 => {
                let partition = TopicPartition::new(ORDERS, self.random.below(PARTITIONS as u64) as i32);
                self.one_of("ends", end_of(self.admin.clone(), partition, self.told.clone()));
            }
            900..912 => {
                let pause = Duration::from_millis(self.random.below(6_000));
                self.trouble_one(
                    |cluster, number| kill(cluster, number, pause),
                    |totals| &mut totals.kills,
                    "killed",
                );
            }
            912..920 => {
                let pause = Duration::from_millis(self.random.below(3_000));
                self.trouble_one(
                    |cluster, number| leave(cluster, number, pause),
                    |totals| &mut totals.left,
                    "asked to leave",
                );
            }
            920..930 => {
                // From a hiccup to four leases.
                let pause = Duration::from_millis(100 + self.random.below(LEASE_TTL.as_millis() as u64 * 4));
                self.trouble_one(
                    |cluster, number| stop(cluster, number, pause),
                    |totals| &mut totals.pauses,
                    "stopped",
                );
            }
            930..935 => {
                let pause = Duration::from_millis(500 + self.random.below(12_000));
                self.one_of("weather", outage(self.cluster.clone(), pause, self.told.clone()));
            }
            935..950 => {
                let pause = Duration::from_millis(500 + self.random.below(8_000));
                let faults = storm(&self.random);
                self.one_of("weather", bad_weather(self.cluster.clone(), faults, pause, self.told.clone()));
            }
            950..960 => {
                let pause = Duration::from_millis(500 + self.random.below(4_000));
                let between_brokers = self.cluster.borrow().between_brokers().clone();
                self.one_of("net", bad_net(self.trouble.clone(), between_brokers, pause, self.told.clone()));
            }
            _ => {}
        }
    }

    fn produce_to(&mut self, topic: String, records_max: u64) {
        let producer = self.random.below(PRODUCERS as u64) as usize;
        let partition = self.random.below(PARTITIONS as u64) as i32;
        let generation = self.fleeting.borrow().generation;
        for _ in 0..1 + self.random.below(records_max) {
            let padding = self.random.below(400) as usize;
            let number = self.numbers.entry((producer, topic.clone(), partition)).or_default();
            let order = Order { topic: topic.clone(), generation, partition, number: *number, padding };
            *number += 1;
            self.producers[producer].send(order).expect("producers outlive the operations");
        }
    }

    /// Unless one of its kind is under way.
    fn one_of(&mut self, kind: &'static str, operation: impl Future<Output = ()> + 'static) {
        if self.under_way.get(kind).is_none_or(JoinHandle::is_finished) {
            self.under_way.insert(kind, task_local(operation));
        }
    }

    /// Something happens to a broker that is well.
    fn trouble_one<T: Future<Output = ()> + 'static>(
        &mut self,
        trouble: impl FnOnce(Rc<RefCell<Cluster>>, usize) -> T,
        counter: impl FnOnce(&mut Totals) -> &mut u64,
        what: &str,
    ) {
        let number = self.random.below(self.plan.brokers as u64) as usize;
        let is_free = self.troubled[number].as_ref().is_none_or(JoinHandle::is_finished);
        if !is_free || !self.cluster.borrow().is_up(number) {
            return;
        }
        self.troubled[number] = Some(task_local(trouble(self.cluster.clone(), number)));
        let mut told = self.told.borrow_mut();
        *counter(&mut told.totals) += 1;
        told.line(format_args!("broker {number} is {what}"));
    }

    /// Waits for everybody, reads everything back and checks it.
    async fn end(&mut self) -> anyhow::Result<()> {
        self.producers.clear();
        for (number, producing) in self.producing.drain(..).enumerate() {
            let end = task::timeout(RECOVERY_MAX, producing).await;
            anyhow::ensure!(end.is_ok(), "producer {number} does not come to its end");
        }
        self.end_ledger().await?;
        task::sleep(LATE_MAX * 2).await;
        let reader = self.client("last-reader");
        for topic in [ORDERS, TRIMMED] {
            let log = read_all(&reader, topic).await?;
            check(&mut self.told.borrow_mut(), topic, log);
        }
        // Once more, when what brokers have kept of it is damaged here and there.
        self.cluster.borrow().damage_caches();
        let again = read_all(&reader, ORDERS).await?;
        check(&mut self.told.borrow_mut(), ORDERS, again);
        let fleeting = self.fleeting.borrow().clone();
        if fleeting.is_there {
            let log = read_all(&reader, &fleeting.name).await?;
            check(&mut self.told.borrow_mut(), &fleeting.name, log);
        }
        let store = self.cluster.borrow().store().clone();
        let bucket: Arc<dyn Bucket> = Arc::new(store.clone());
        let audit = commitlog::bucket::audit(&bucket).await?;
        let mut told = self.told.borrow_mut();
        for problem in audit.problems.first {
            told.found(format!("audit: {problem}"));
        }
        for ledger in [&self.ledger, &self.transfers] {
            let mut ledger = ledger.borrow_mut();
            told.transcript.push_str(&std::mem::take(&mut ledger.transcript));
            std::mem::take(&mut ledger.findings).into_iter().for_each(|finding| told.found(finding));
            told.totals.transactions += ledger.transactions;
            told.totals.read_elsewhere += ledger.elsewhere;
        }
        let cluster = self.cluster.borrow();
        for finding in cluster.findings() {
            told.found(finding);
        }
        let counts = cluster.counts();
        let totals = &mut told.totals;
        totals.segments = audit.segments;
        totals.merged = audit.merged_segments;
        totals.starts = counts.starts.load(Ordering::Relaxed);
        totals.rejoined = counts.rejoined.load(Ordering::Relaxed);
        totals.left = counts.left.load(Ordering::Relaxed);
        totals.takeovers = cluster.takeovers();
        (totals.cache_hits, totals.cache_damaged) = cluster.caches();
        (totals.handed_off, totals.handed_off_unknown) = cluster.handed_off();
        told.line(format_args!("the store did {:016x}", store.trace_hash()));
        Ok(())
    }
}

fn task_local<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    tokio::task::spawn_local(future)
}

async fn create(admin: &Client, name: &str) -> anyhow::Result<()> {
    for _ in 0..20 {
        let topic = NewTopic::new(name).partitions(PARTITIONS);
        match admin.admin().create_topics(vec![topic], false).await.map(|mut created| created.remove(0)) {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) | Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {
                return Ok(());
            }
            Ok(Err(error)) | Err(error) if error.is_retriable() => task::sleep(LEASE_TTL).await,
            Ok(Err(error)) | Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("topic {name} is not made")
}

async fn produce(
    client: Client,
    number: usize,
    mut orders: mpsc::UnboundedReceiver<Order>,
    told: Shared,
    fleeting: Rc<RefCell<Fleeting>>,
) {
    let name = format!("p{number}");
    let options = ProducerOptions { delivery_timeout: NEVER, block_max: NEVER, ..ProducerOptions::default() };
    let producer = loop {
        match client.producer(options.clone()).await {
            Ok(producer) => break producer,
            Err(error) if error.is_retriable() => task::sleep(Duration::from_millis(100)).await,
            Err(error) => return told.borrow_mut().found(format!("{name} does not begin: {error}")),
        }
    };
    let mut waiting = Vec::new();
    while let Some(order) = orders.recv().await {
        let Order { topic, partition, number, padding, .. } = &order;
        let value = format!("{name} {number} {:padding$}", "", padding = *padding);
        let record = Record::to(topic.as_str()).partition(*partition).value(value);
        let (name, told, fleeting) = (name.clone(), told.clone(), fleeting.clone());
        if !order.is_fleeting() {
            match producer.send(record).await {
                Ok(delivery) => waiting.push(task_local(async move {
                    match delivery.await {
                        Ok(delivered) => acknowledged(&told, &name, &order, delivered.offset),
                        Err(error) => told.borrow_mut().found(format!("{name} {order}: {error}")),
                    }
                })),
                Err(error) => told.borrow_mut().found(format!("{name} {order}: {error}")),
            }
            continue;
        }
        // A topic that is gone would be waited for for ever.
        let Ok(Ok(delivery)) = task::timeout(API_TIMEOUT, producer.send(record)).await else { continue };
        waiting.push(task_local(async move {
            let Ok(Ok(delivered)) = task::timeout(FLEETING_MAX, delivery.into_future()).await else { return };
            let is_current = {
                let now = fleeting.borrow();
                now.is_there && now.name == order.topic && now.generation == order.generation
            };
            if is_current {
                acknowledged(&told, &name, &order, delivered.offset);
            }
        }));
    }
    for waiting in waiting {
        let _ = waiting.await;
    }
}

fn acknowledged(told: &Shared, name: &str, order: &Order, offset: i64) {
    let mut told = told.borrow_mut();
    told.line(format_args!("{name} {order} at {offset}"));
    told.totals.acknowledged += 1;
    if offset < 0 {
        return;
    }
    let known = told.acknowledged.entry(order.topic.clone()).or_default();
    if let Err(violation) = known.add(name, order.partition, order.number, offset) {
        told.found(format!("{}: {violation}", order.topic));
    }
    let end = told.ends.entry(TopicPartition::new(order.topic.as_str(), order.partition)).or_default();
    *end = (*end).max(offset + 1);
}

/// Reads the long-lived topic from its start. What comes has to go on where the last one was, whoever leads.
async fn read_on(client: Client, told: Shared, stop: Rc<Cell<bool>>) {
    let options = ConsumerOptions::default().offset_reset(OffsetReset::Earliest);
    let mut consumer = client.consumer(options).expect("nothing is wrong with these options");
    let all = (0..PARTITIONS).map(|partition| TopicPartition::new(ORDERS, partition));
    consumer.assign(all).expect("partitions that are there");
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    while !stop.get() {
        match consumer.poll(POLL).await {
            Ok(records) => {
                for record in records {
                    let expected = next.insert(record.partition, record.offset + 1).unwrap_or(0);
                    if record.offset != expected {
                        let (partition, offset) = (record.partition, record.offset);
                        told.borrow_mut().found(format!(
                            "a reader of {ORDERS}-{partition} got {offset} where {expected} should come"
                        ));
                    }
                    seen(&told, record);
                }
            }
            Err(error) if error.is_retriable() => task::sleep(POLL).await,
            Err(error) => return told.borrow_mut().found(format!("the reader of {ORDERS}: {error}")),
        }
    }
}

/// One of a group, whose members come to read from where the others have committed.
async fn read_in_group(client: Client, told: Shared, stop: Rc<Cell<bool>>) {
    let options = ConsumerOptions::group(READERS)
        .offset_reset(OffsetReset::Earliest)
        .auto_commit(Some(Duration::from_secs(1)));
    let options = ConsumerOptions {
        session_timeout: Duration::from_secs(10),
        heartbeat_interval: Duration::from_secs(1),
        ..options
    };
    let mut consumer = client.consumer(options).expect("nothing is wrong with these options");
    consumer.subscribe([ORDERS]).expect("a name");
    while !stop.get() {
        match consumer.poll(POLL).await {
            Ok(records) => records.into_iter().for_each(|record| seen(&told, record)),
            Err(error) if error.is_retriable() => task::sleep(POLL).await,
            Err(error) => {
                told.borrow_mut().line(format_args!("a member of {READERS}: {error}"));
                task::sleep(POLL).await;
            }
        }
    }
    let _ = task::timeout(API_TIMEOUT, consumer.close()).await;
}

/// What a reader was given stays as it is.
fn seen(told: &Shared, record: Received) {
    let mut told = told.borrow_mut();
    told.totals.seen += 1;
    let place = (TopicPartition::new(record.topic, record.partition), record.offset);
    let value = String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned();
    let words: Vec<&str> = value.split(' ').take(2).collect();
    told.line(format_args!("seen {}@{} {}", place.0, place.1, words.join(" ")));
    if let Some(before) = told.seen.insert(place.clone(), value.clone())
        && before != value
    {
        told.found(format!("{}@{} was {before} and is {value}", place.0, place.1));
    }
}

/// Deletes the topic if it is there, else makes it. Once somebody was told of a failure nobody knows, and another name is taken.
async fn recreate(admin: Client, fleeting: Rc<RefCell<Fleeting>>, told: Shared) {
    let (name, was_there) = {
        let mut fleeting = fleeting.borrow_mut();
        (fleeting.name.clone(), std::mem::take(&mut fleeting.is_there))
    };
    if was_there {
        told.borrow_mut().acknowledged.remove(&name);
        let deleted = admin.admin().delete_topic(name.as_str()).await;
        told.borrow_mut().line(format_args!("delete {name}: {deleted:?}"));
        if deleted.is_err() {
            let mut fleeting = fleeting.borrow_mut();
            fleeting.generation += 1;
            fleeting.name = format!("fleeting-{}", fleeting.generation);
            return;
        }
        told.borrow_mut().totals.topics_deleted += 1;
    }
    let (name, made) = {
        let name = fleeting.borrow().name.clone();
        let topic = NewTopic::new(name.as_str()).partitions(PARTITIONS);
        (name, admin.admin().create_topic(topic).await)
    };
    told.borrow_mut().line(format_args!("create {name}: {}", made.is_ok()));
    let mut fleeting = fleeting.borrow_mut();
    fleeting.generation += 1;
    match made {
        Ok(_) => fleeting.is_there = true,
        Err(_) => fleeting.name = format!("fleeting-{}", fleeting.generation),
    }
}

/// Deletes a part of what is known to be there.
async fn trim(admin: Client, partition: i32, part: i64, told: Shared) {
    let place = TopicPartition::new(TRIMMED, partition);
    let Some(end) = told.borrow().ends.get(&place).copied() else { return };
    let before = end * part / 4;
    let asked = BTreeMap::from([(place.clone(), before)]);
    let trimmed = admin.admin().delete_records(&asked).await.map(|mut trimmed| trimmed.remove(&place));
    let mut told = told.borrow_mut();
    match trimmed {
        Ok(Some(Ok(start))) => {
            told.line(format_args!("trimmed {place} to {start}"));
            told.totals.trims += 1;
            let known = told.trimmed.entry(partition).or_default();
            if start < before.max(*known) {
                let known = *known;
                told.found(format!("{place} starts at {start}, asked for {before}, told {known} before"));
            }
            let known = told.trimmed.entry(partition).or_default();
            *known = (*known).max(start);
        }
        other => told.line(format_args!("trimmed {place}: {other:?}")),
    }
}

async fn commit(admin: Client, keeper: Rc<RefCell<Keeper>>, told: Shared) {
    let offset = {
        let mut keeper = keeper.borrow_mut();
        keeper.tried += 1;
        keeper.tried
    };
    let offsets = BTreeMap::from([(TopicPartition::new(ORDERS, 0), OffsetAndMetadata::new(offset))]);
    let done = admin.admin().alter_group_offsets(GROUP, &offsets).await;
    let mut told = told.borrow_mut();
    told.line(format_args!("commit {offset}: {done:?}"));
    if done.is_ok() {
        keeper.borrow_mut().acknowledged = offset;
        told.totals.commits += 1;
    }
}

async fn committed(admin: Client, keeper: Rc<RefCell<Keeper>>, told: Shared) {
    let place = TopicPartition::new(ORDERS, 0);
    let found = admin.admin().group_offsets(GROUP, Some(std::slice::from_ref(&place))).await;
    let mut told = told.borrow_mut();
    let keeper = keeper.borrow();
    match found {
        Ok(offsets) => {
            let offset = offsets.get(&place).map_or(0, |found| found.offset.max(0));
            told.line(format_args!("committed {offset}"));
            if !(keeper.acknowledged..=keeper.tried).contains(&offset) {
                let (least, most) = (keeper.acknowledged, keeper.tried);
                told.found(format!("the committed offset is {offset}, not within {least} and {most}"));
            }
        }
        Err(error) => told.line(format_args!("committed: {error}")),
    }
}

/// R20: an end that is asked for covers everything that was acknowledged before.
async fn end_of(admin: Client, place: TopicPartition, told: Shared) {
    let known = told.borrow().ends.get(&place).copied().unwrap_or(0);
    let asked = BTreeMap::from([(place.clone(), OffsetSpec::Latest)]);
    let ends = admin.admin().list_offsets(&asked, Isolation::ReadUncommitted).await;
    let mut told = told.borrow_mut();
    match ends.map(|mut ends| ends.remove(&place)) {
        Ok(Some(Ok(OffsetAndTimestamp { offset: end, .. }))) => {
            told.line(format_args!("{place} ends at {end}"));
            told.totals.ends += 1;
            if end < known {
                told.found(format!("{place} ends at {end}, and {known} was acknowledged before"));
            }
        }
        other => told.line(format_args!("{place}: {other:?}")),
    }
}

async fn kill(cluster: Rc<RefCell<Cluster>>, number: usize, pause: Duration) {
    cluster.borrow_mut().kill(number);
    task::sleep(pause).await;
    cluster.borrow_mut().start(number);
}

async fn leave(cluster: Rc<RefCell<Cluster>>, number: usize, pause: Duration) {
    cluster.borrow().leave(number);
    for _ in 0..LEAVE_SECONDS_MAX {
        task::sleep(Duration::from_secs(1)).await;
        if !cluster.borrow().is_up(number) {
            break;
        }
    }
    kill(cluster, number, pause).await;
}

async fn stop(cluster: Rc<RefCell<Cluster>>, number: usize, pause: Duration) {
    cluster.borrow().pause(number);
    task::sleep(pause).await;
    cluster.borrow().resume(number);
}

async fn outage(cluster: Rc<RefCell<Cluster>>, pause: Duration, told: Shared) {
    told.borrow_mut().totals.outages += 1;
    told.borrow_mut().line(format_args!("outage for {pause:?}"));
    let store = cluster.borrow().store().clone();
    store.set_out(true);
    task::sleep(pause).await;
    store.set_out(false);
}

async fn bad_weather(cluster: Rc<RefCell<Cluster>>, faults: MemBucketFaults, pause: Duration, told: Shared) {
    told.borrow_mut().totals.storms += 1;
    told.borrow_mut().line(format_args!("{faults:?} for {pause:?}"));
    let store = cluster.borrow().store().clone();
    store.set_faults(faults);
    task::sleep(pause).await;
    store.set_faults(usual_faults());
}

async fn bad_net(trouble: Trouble, between_brokers: Trouble, pause: Duration, told: Shared) {
    told.borrow_mut().totals.storms += 1;
    trouble.set(NET_STORM);
    between_brokers.set(CALLS_STORM);
    task::sleep(pause).await;
    trouble.set(NET_USUAL);
    between_brokers.set(CALLS_USUAL);
}

async fn read_all(client: &Client, topic: &str) -> anyhow::Result<Vec<Received>> {
    let mut found = Vec::new();
    for partition in 0..PARTITIONS {
        let place = TopicPartition::new(topic, partition);
        let mut consumer = client.consumer(ConsumerOptions::default().offset_reset(OffsetReset::Earliest))?;
        consumer.assign([place.clone()])?;
        let end = consumer.end_offsets(std::slice::from_ref(&place)).await?[&place];
        let reading = async {
            while consumer.position(&place).await? < end {
                found.extend(consumer.poll(Duration::from_secs(1)).await?);
            }
            Ok::<_, client::Error>(())
        };
        match task::timeout(RECOVERY_MAX, reading).await {
            Ok(read) => read?,
            Err(_) => anyhow::bail!("{place} is not read up to {end}"),
        }
        consumer.close().await?;
    }
    Ok(found)
}

/// What was told, and what readers have seen, against what is there.
fn check(told: &mut Told, topic: &str, log: Vec<Received>) {
    let mut starts: BTreeMap<i32, i64> = BTreeMap::new();
    let mut found = Vec::new();
    for record in log {
        let start = *starts.entry(record.partition).or_insert(record.offset);
        let value = String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned();
        let place = (TopicPartition::new(topic, record.partition), record.offset);
        if let Some(before) = told.seen.remove(&place)
            && before != value
        {
            told.found(format!("{}@{} was {before} and is {value}", place.0, place.1));
        }
        let mut words = value.split(' ');
        let (producer, number) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let Ok(number) = number.parse() else {
            told.found(format!("nobody sent {value} to {topic}"));
            continue;
        };
        // As if it began at its start.
        let (partition, offset) = (record.partition, record.offset - start);
        found.push(Found { partition, offset, producer: producer.to_owned(), number });
    }
    let vanished: Vec<_> = told.seen.keys().filter(|(place, _)| place.topic == topic).cloned().collect();
    if let (false, Some((place, offset))) = (topic == TRIMMED, vanished.first()) {
        told.found(format!("{place}@{offset} was seen and is not there; {} in all", vanished.len()));
    }
    let all = told.acknowledged.remove(topic).unwrap_or_default();
    let start_of = |partition: i32| match starts.get(&partition) {
        Some(start) => *start,
        // Nothing is left of it.
        None => i64::MAX,
    };
    if topic == TRIMMED {
        for (partition, start) in &starts {
            let promised = told.trimmed.get(partition).copied().unwrap_or(0);
            let asked = told.ends.get(&TopicPartition::new(topic, *partition)).copied().unwrap_or(0);
            if *start < promised || *start > promised.max(asked) {
                told.found(format!("{topic}-{partition} starts at {start}, and {promised} was told"));
            }
        }
    } else if let Some((partition, start)) = starts.iter().find(|(_, start)| **start != 0) {
        told.found(format!("{topic}-{partition} starts at {start}"));
    }
    match history::check(&all.from(start_of), &found) {
        Ok(checked) => {
            told.line(format_args!("{topic}: {} of {} acknowledged", checked.acknowledged, checked.found));
        }
        Err(violations) => {
            violations.into_iter().for_each(|violation| told.found(format!("{topic}: {violation}")));
        }
    }
}
