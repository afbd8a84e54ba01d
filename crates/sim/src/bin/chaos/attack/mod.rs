//! Each limit met by a hostile client, while a good one produces and fetches at a fixed rate.
//!
//! ```text
//!   good client   ────────────────────────────────────────────────────────────▶ time
//!   hostile one        ▒▒▒▒▒▒        ▒▒▒▒▒▒        ▒▒▒▒▒▒
//!                quiet  row 1  quiet  row 2  quiet  row 3  quiet
//! ```
//! A row is good when the broker's memory stayed within what it says that it takes at the most and a tenth, when the good client's p99 was
//! at most three times that of the quiet slices before and after it, when nothing of the good client was refused, and when the hostile one met the
//! limit. Machines are noisy: a row that was too slow is tried once more, and with `--only-memory` none is too slow.
//!
//! The hostile client has threads of its own that run when nobody else wants to, and the good one a thread that comes before all others where
//! that is allowed: both stand for other machines.

mod bombs;
mod connections;
mod frames;
mod good;
mod readers;
mod sasl;
mod state;
mod subject;
mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bytes::Bytes;
use protocol::ErrorCode;
use protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use protocol::messages::{CreateTopicsRequest, FindCoordinatorRequest};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Attack;
use crate::producers::Work;
use good::{Felt, Good};
use subject::Subject;
use wire::Foe;

/// Topics of the hostile client. Records that are asked for and not taken; none; such as are compressed.
pub const BAIT: &str = "bait";
pub const BAIT_PARTITIONS: i32 = 4;
pub const EMPTY: &str = "empty";
pub const BOMBED: &str = "bombed";
pub const LISTED: &str = "listed";
pub const FLOODED: &str = "flooded";
pub const SEQUENCED: &str = "sequenced";
/// Partitions to be named.
pub const WIDE: &str = "wide";
pub const WIDE_PARTITIONS: i32 = 500;
/// Topics to be listed.
pub const TOPICS: usize = 500;
const BAIT_BYTES: usize = 24 << 20;

/// The most memory, as a part of what the broker says, and the longest p99, as a part of the quiet one.
const MEMORY_MAX: f64 = 1.10;
const P99_MAX: f64 = 3.0;
/// A quiet slice, as a part of an attack.
const QUIET: f64 = 0.3;
/// So many quiet slices, the latest ones, say what is usual.
const QUIET_SLICES: usize = 8;
/// After an attack, for what it left under way.
const SETTLE: Duration = Duration::from_millis(200);
/// So long a record of the good client may take.
const LATE_MAX: Duration = Duration::from_secs(10);

type Running = Pin<Box<dyn Future<Output = anyhow::Result<Told>> + Send>>;

struct Row {
    name: &'static str,
    /// What bounds it, and whether the hostile client is told so or closed.
    limit: &'static str,
    /// Some of what it does has to be refused or closed, or the limit was not met.
    is_refused: bool,
    attack: fn(Field) -> Running,
}

macro_rules! rows {
    ($($name:literal, $limit:literal, $is_refused:literal, $attack:path;)*) => {
        &[$(Row { name: $name, limit: $limit, is_refused: $is_refused, attack: |field| Box::pin($attack(field)) }),*]
    };
}

const ROWS: &[Row] = rows! {
    "16 MiB promised, 10 bytes sent", "connection.handshake.timeout.ms", true, frames::promised;
    "frames of 16 MiB, 4 MiB of each sent", "queued.max.request.bytes", true, frames::half_sent;
    "requests byte by byte", "connection.handshake.timeout.ms", true, frames::drops;
    "garbage, HTTP, TLS, unknown APIs", "socket.request.max.bytes", true, frames::garbage;
    "arrays of 2³¹ elements", "what the frame holds", true, frames::counts;
    "arrays of 3 million empty elements", "8 times the frame", true, frames::expanding;
    "batches with a wrong CRC", "CORRUPT_MESSAGE", true, frames::wrong_checksum;
    "1,000 connections of one address", "max.connections.per.ip", true, connections::of_one_address;
    "idle connections", "connections.max.idle.ms", true, connections::idle;
    "a rush of new connections", "connection_creation_rate", true, connections::rush;
    "TLS handshakes begun and left", "connection.handshake.timeout.ms", true, connections::half_handshakes;
    "no TLS on a listener with TLS", "the connection ends", true, connections::no_handshakes;
    "SASL exchanges begun and left", "connection.handshake.timeout.ms", true, sasl::half_exchanges;
    "wrong passwords and proofs", "connection.failed.authentication.delay.ms", true, sasl::wrong_proofs;
    "long frames before the proof", "64 KiB, the connection ends", true, sasl::before_the_proof;
    "half requests to the admin page", "64 connections at once", false, connections::admin;
    "Fetch, answers not read", "queued.max.response.bytes", false, readers::fetch_unread;
    "Fetch, one answer read and no further one", "queued.max.response.bytes", false, readers::fetch_read_once;
    "Metadata, answers not read", "queued.max.response.bytes", false, readers::metadata_unread;
    "DescribeConfigs, answers not read", "queued.max.response.bytes", false, readers::configs_unread;
    "one topic named 5,000 times", "request.partitions.max", false, readers::repeated;
    "requests without end, answers not read", "1,000 under way", false, readers::pipelined;
    "requests over TLS, answers not read", "1,000 under way", false, readers::pipelined_tls;
    "waits without end", "max.connections.per.ip", false, readers::long_polls;
    "waits without end, long requests", "queued.max.request.bytes", true, readers::long_requests_wait;
    "a flood of records", "producer_byte_rate", true, readers::flood;
    "a flood of requests", "request_percentage", false, readers::requests;
    "gzip bombs", "max.decompressed.message.bytes", true, bombs::gzip;
    "snappy bombs", "max.decompressed.message.bytes", true, bombs::snappy;
    "lz4 bombs", "max.decompressed.message.bytes", true, bombs::lz4;
    "zstd bombs", "max.decompressed.message.bytes", true, bombs::zstd;
    "ListOffsets by time in a bomb", "max.decompressed.message.bytes", false, bombs::by_time;
    "bombs in client metrics", "telemetry.max.bytes", true, bombs::telemetry;
    "topics and partitions without end", "cluster.partitions.max", true, state::partitions;
    "Fetch of 8,000 partitions", "request.partitions.max", true, state::partitions_of_a_request;
    "fetch sessions without end", "max.incremental.fetch.session.cache.slots", true, state::fetch_sessions;
    "members without end", "group.max.size", true, state::members;
    "groups with a megabyte each", "coordinators.memory.max.bytes", true, state::groups;
    "offsets with 4 KB each", "coordinators.memory.max.bytes", true, state::offsets;
    "expensive patterns", "16 KiB, 1 MiB compiled", true, state::patterns;
    "transactional ids without end", "coordinators.memory.max.bytes", true, state::transactional_ids;
    "producer ids without end", "producer.ids.max", false, state::producer_ids;
    "ACLs without end", "cluster.acls.max", true, state::acls;
    "users and quotas with long names", "1,024 characters", true, state::users;
};

/// Where an attack takes place, and until when.
#[derive(Clone)]
pub struct Field {
    pub plain: SocketAddr,
    pub sasl: SocketAddr,
    pub tls: SocketAddr,
    pub admin: SocketAddr,
    /// Another one each time, for names.
    pub turn: usize,
    seconds: f64,
    began: Arc<parking_lot::Mutex<Option<Instant>>>,
}

impl Field {
    /// The clock runs from the first look: what an attack has to prepare does not count.
    pub fn left(&self) -> Duration {
        let until =
            *self.began.lock().get_or_insert_with(Instant::now) + Duration::from_secs_f64(self.seconds);
        until.saturating_duration_since(Instant::now())
    }
}

/// What became of an attack.
#[derive(Clone, Default)]
pub struct Told {
    did: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Told {
    pub fn did(&self, count: u64) {
        self.did.fetch_add(count, Ordering::Relaxed);
    }

    pub fn refused(&self, count: u64) {
        self.refused.fetch_add(count, Ordering::Relaxed);
    }

    /// Done, or refused with this code, or by a coordinator that is on its way.
    pub fn answer_of_coordinator(&self, code: i16, refusal: ErrorCode) -> anyhow::Result<()> {
        match ErrorCode::try_from(code) {
            Ok(ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator) => Ok(()),
            _ => self.answer(code, refusal),
        }
    }

    /// Done, or refused with this code and no other.
    pub fn answer(&self, code: i16, refusal: ErrorCode) -> anyhow::Result<()> {
        self.did(1);
        match code {
            0 => Ok(()),
            code if code == refusal.code() => {
                self.refused(1);
                Ok(())
            }
            code => bail!("error {code} where {refusal:?} was due"),
        }
    }
}

/// So many at once until the time is up. That the broker closes a connection is no error; that nothing at all comes of it is.
pub async fn crowd<F>(
    field: Field,
    count: usize,
    attack: impl Fn(Field, Told, usize) -> F,
) -> anyhow::Result<Told>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let told = Told::default();
    let mut running = JoinSet::new();
    let left = field.left();
    for number in 0..count {
        running.spawn(attack(field.clone(), told.clone(), number));
    }
    let mut last = None;
    let all = async {
        while let Some(done) = running.join_next().await {
            match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => last = Some(error),
                Err(panic) => last = Some(panic.into()),
            }
        }
    };
    // Whoever is still in the middle of something when the time is up leaves it there.
    let _ = tokio::time::timeout(left + Duration::from_millis(100), all).await;
    match last {
        Some(error) if told.did.load(Ordering::Relaxed) == 0 => Err(error),
        _ => Ok(told),
    }
}

/// How one row ended.
struct Result {
    did: u64,
    refused: u64,
    memory: f64,
    quiet: Felt,
    attacked: Felt,
}

impl Result {
    fn ratios(&self) -> [f64; 2] {
        [
            self.attacked.acknowledged_p99_ms / self.quiet.acknowledged_p99_ms,
            self.attacked.fetched_p99_ms / self.quiet.fetched_p99_ms,
        ]
    }

    fn is_slow(&self) -> bool {
        self.ratios().into_iter().any(|ratio| ratio > P99_MAX)
    }

    fn wrong(&self, row: &Row, judges_latency: bool) -> Vec<&'static str> {
        let mut wrong = Vec::new();
        if self.memory > MEMORY_MAX {
            wrong.push("MEMORY");
        }
        if judges_latency && self.is_slow() {
            wrong.push("SLOW");
        }
        if self.did == 0 || row.is_refused && self.refused == 0 {
            wrong.push("LIMIT NOT MET");
        }
        wrong
    }
}

struct Run {
    subject: Subject,
    good: Good,
    hostile: Runtime,
    memory_limit: u64,
    seconds: f64,
    turns: usize,
    /// The latest quiet slices, the last of them right before the next attack.
    quiet: Vec<(Instant, Instant)>,
}

pub fn run(args: &Attack) -> anyhow::Result<()> {
    ensure!((1.0..=60.0).contains(&args.seconds), "--seconds: 1 to 60");
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| args.rows.is_empty() || args.rows.iter().any(|part| row.name.contains(part.as_str())))
        .collect();
    ensure!(
        !rows.is_empty(),
        "no such row; there are: {:?}",
        ROWS.iter().map(|row| row.name).collect::<Vec<_>>()
    );
    allow_many_files();
    let work = Work::within(&args.place)?;
    eprintln!("data and log: {}", work.path().display());
    let mut run = Run::start(args, &work)?;
    println!(
        "memory limit {} MiB; the hostile client meets each limit for {} s",
        run.memory_limit >> 20,
        args.seconds
    );
    println!(
        "{:<40} {:<42} {:>8} {:>8} {:>7} {:>15} {:>15}",
        "attack", "limit", "tried", "refused", "memory", "acked p99 ms", "fetched p99 ms"
    );
    let (mut failed, mut again) = (Vec::new(), 0);
    for row in &rows {
        let mut tried = run.row(row);
        if !args.only_memory
            && let Ok(first) = &tried
            && first.is_slow()
            && first.wrong(row, false).is_empty()
        {
            again += 1;
            println!("{}", line(row, first, &["once more"]));
            tried = run.row(row);
        }
        run.subject.check()?;
        let result = match tried {
            Ok(result) => result,
            Err(error) => {
                println!("{:<40} FAILED: {error:#}", row.name);
                failed.push(row.name);
                run.good = Good::start(run.subject.plain, run.turns as u32)?;
                continue;
            }
        };
        let wrong = result.wrong(row, !args.only_memory);
        println!("{}", line(row, &result, &wrong));
        if !wrong.is_empty() {
            failed.push(row.name);
        }
    }
    run.good.stop();
    run.subject.stop()?;
    println!("{} rows, {again} of them twice, {} failed", rows.len(), failed.len());
    ensure!(failed.is_empty(), "failed: {}", failed.join("; "));
    if !args.keep {
        work.done()?;
    }
    Ok(())
}

fn line(row: &Row, result: &Result, wrong: &[&str]) -> String {
    let [acknowledged, fetched] = result.ratios();
    format!(
        "{:<40} {:<42} {:>8} {:>8} {:>5.0} % {:>7.1} {:>5.1} x {:>7.1} {:>5.1} x  {}",
        row.name,
        row.limit,
        result.did,
        result.refused,
        result.memory * 100.0,
        result.attacked.acknowledged_p99_ms,
        acknowledged,
        result.attacked.fetched_p99_ms,
        fetched,
        wrong.join(", ")
    )
}

impl Run {
    fn start(args: &Attack, work: &Work) -> anyhow::Result<Run> {
        let subject = Subject::start(&args.bin, work.path())?;
        let hostile = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(step_back)
            .build()?;
        hostile.block_on(set_up(subject.plain))?;
        let good = Good::start(subject.plain, 0)?;
        // The first second is that of a start.
        std::thread::sleep(Duration::from_secs(1));
        let memory_limit = subject.memory_limit()?;
        let mut run =
            Run { subject, good, hostile, memory_limit, seconds: args.seconds, turns: 0, quiet: Vec::new() };
        while run.quiet.len() < 3 {
            run.quiet.push(run.slice());
        }
        Ok(run)
    }

    fn slice(&self) -> (Instant, Instant) {
        let from = Instant::now();
        std::thread::sleep(Duration::from_secs_f64(self.seconds * QUIET));
        (from, Instant::now())
    }

    fn row(&mut self, row: &Row) -> anyhow::Result<Result> {
        self.turns += 1;
        let field = Field {
            plain: self.subject.plain,
            sasl: self.subject.sasl,
            tls: self.subject.tls,
            admin: self.subject.admin,
            turn: self.turns,
            seconds: self.seconds,
            began: Arc::default(),
        };
        self.subject.forget_memory_peak()?;
        let told = self.hostile.block_on((row.attack)(field.clone()));
        let told = told.map_err(|error| error.context(row.name))?;
        let attacked = ((*field.began.lock()).unwrap_or_else(Instant::now), Instant::now());
        std::thread::sleep(SETTLE);
        self.quiet.push(self.slice());
        self.quiet.drain(..self.quiet.len().saturating_sub(QUIET_SLICES));
        self.subject.check()?;
        let deadline = Instant::now() + LATE_MAX;
        while self.good.is_owed(attacked) && Instant::now() < deadline {
            self.good.check().map_err(|error| error.context(row.name))?;
            std::thread::sleep(Duration::from_millis(20));
        }
        ensure!(
            !self.good.is_owed(attacked),
            "{}: the good client waits for longer than {LATE_MAX:?}",
            row.name
        );
        self.good.check().map_err(|error| error.context(row.name))?;
        Ok(Result {
            did: told.did.load(Ordering::Relaxed),
            refused: told.refused.load(Ordering::Relaxed),
            memory: self.subject.memory_peak()? as f64 / self.memory_limit as f64,
            quiet: self.good.felt(&self.quiet),
            attacked: self.good.felt(&[attacked]),
        })
    }
}

/// A socket for each connection.
fn allow_many_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get the address of a limit that lives here.
    #[allow(unsafe_code)]
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// The threads of the hostile client run when nobody else wants to: a low priority alone keeps others waiting until its slice is over.
fn step_back() {
    // SAFETY: it changes how this thread is scheduled, and takes numbers only.
    #[allow(unsafe_code)]
    let is_idle = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &libc::sched_param { sched_priority: 0 }) == 0
    };
    if !is_idle {
        set_niceness(19);
    }
}

/// Of this thread; only who has a right to goes below 0.
fn set_niceness(niceness: i32) {
    // SAFETY: it changes the priority of this thread, and takes numbers only.
    #[allow(unsafe_code)]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, niceness);
    }
}

/// The topics of both.
async fn set_up(address: SocketAddr) -> anyhow::Result<()> {
    let mut foe = Foe::connect(address).await?;
    let config = |name: &str, value: &str| CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
        ..Default::default()
    };
    let topic = |name: String, num_partitions: i32, configs: Vec<CreatableTopicConfig>| CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor: 1,
        configs,
        ..Default::default()
    };
    let mut topics = vec![
        topic(good::TOPIC.to_owned(), 1, Vec::new()),
        topic(BAIT.to_owned(), BAIT_PARTITIONS, Vec::new()),
        topic(EMPTY.to_owned(), 1, Vec::new()),
        topic(FLOODED.to_owned(), 1, vec![config("retention.bytes", "16777216")]),
        topic(LISTED.to_owned(), 1, Vec::new()),
        topic(SEQUENCED.to_owned(), 8, Vec::new()),
        topic(WIDE.to_owned(), WIDE_PARTITIONS, Vec::new()),
        // Only where keys have to be there are records looked at.
        topic(
            BOMBED.to_owned(),
            1,
            vec![config("cleanup.policy", "compact"), config("max.message.bytes", "8388608")],
        ),
    ];
    topics.extend((0..TOPICS).map(|number| topic(format!("topic-{number}"), 1, Vec::new())));
    let request = CreateTopicsRequest { topics, timeout_ms: 30_000, ..Default::default() };
    let response = foe.ask(7, &request).await?;
    for topic in &response.topics {
        ensure!(topic.error_code == 0, "{topic:?}");
    }
    // Whoever is asked for a coordinator makes its topic; until that is open all who come are sent away.
    for key_type in [0, 1] {
        let request =
            FindCoordinatorRequest { key_type, coordinator_keys: vec!["x".into()], ..Default::default() };
        let deadline = Instant::now() + Duration::from_secs(10);
        while foe.ask(4, &request).await?.coordinators[0].error_code != 0 {
            ensure!(Instant::now() < deadline, "there is no coordinator");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let batch: Bytes = good::batch(&vec![7; 512 << 10])?;
    for number in 0..BAIT_BYTES / (512 << 10) {
        let request = good::produce_request(BAIT, number as i32 % BAIT_PARTITIONS, batch.clone());
        let response = foe.ask(9, &request).await?;
        let code = response.responses[0].partition_responses[0].error_code;
        ensure!(code == 0, "the bait is refused: {code}");
    }
    Ok(())
}
