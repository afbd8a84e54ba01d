//! `cargo xtask chaos kill|power|disk|cluster|upgrade|compaction|txn|attack`: real processes, real clients, a real file system; the history checker has
//! the last word.
//!
//! Two families of idempotent producers (librdkafka and kafka-clients) send for ever while the broker dies again and again;
//! at the end they flush, and the whole log is read back and checked against what they were told.
#![allow(clippy::disallowed_methods)] // a harness around processes, not a room

mod attack;
mod broker;
mod cluster;
mod compaction;
mod disk;
mod file_system;
mod kill;
mod power;
mod producers;
mod txn;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "chaos", about = "Kills and power cuts against real clients, checked")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// kill -9 at random moments under load.
    Kill(Kill),
    /// Power cuts on an ext4 file system of its own (needs root).
    Power(Power),
    /// A full disk (a small ext4 image, needs root) and an fsync that fails.
    Disk(Disk),
    /// Several brokers on one object store, which are killed, stopped, cut off, while the store is slow, errs or is out.
    Cluster(Cluster),
    /// Transactions: kill -9, time-outs, fencing, and requests that arrive a minute late.
    Txn(Txn),
    /// A rolling upgrade under load: from one build to one that knows another feature level.
    Upgrade(Upgrade),
    /// Log compaction under load, with kill -9 in between, checked over a million keys.
    Compaction(Compaction),
    /// Each limit met by a hostile client while a good one works: memory and the good client's latency are measured.
    Attack(Attack),
}

#[derive(Args)]
pub struct Common {
    /// The ottla binary under test.
    #[arg(long, env = "OTTLA_BIN")]
    bin: PathBuf,
    /// Records per second and producer.
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 8)]
    partitions: i32,
    /// What the random moments are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where compiled producers and fetched jars are kept.
    #[arg(long, env = "CLIENTS_HOME")]
    clients_home: Option<PathBuf>,
}

#[derive(Args)]
pub struct Kill {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 200)]
    rounds: u32,
}

#[derive(Args)]
pub struct Power {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 200)]
    cuts: u32,
    /// A broker that breaks the rule on purpose (a build with the feature `negative-controls`): the run must find the loss.
    #[arg(long, value_parser = ["acknowledge-before-sync", "skip-directory-sync"])]
    control: Option<String>,
}

#[derive(Args)]
pub struct Disk {
    /// The ottla binary under test, built with the feature `failpoints`.
    #[arg(long, env = "OTTLA_BIN")]
    bin: PathBuf,
}

#[derive(Args)]
pub struct Cluster {
    /// The ottla binary under test.
    #[arg(long, env = "OTTLA_BIN")]
    bin: PathBuf,
    /// How long faults come; starting and reading everything takes some more.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    brokers: u16,
    /// Which faults come, and when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 12)]
    partitions: i32,
    /// Idempotent producers of our own client, whose pauses are measured.
    #[arg(long, default_value_t = 3)]
    producers: usize,
    /// Records per second and producer of ours; the others send a quarter of that.
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Without librdkafka and kafka-clients, which otherwise produce as well and read everything in the end.
    #[arg(long)]
    only_ottla_clients: bool,
    /// Transactional producers of librdkafka, kafka-clients and an old kafka-clients, so many of each at the same time. Brokers have no
    /// namespaces then.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=50))]
    transactions: u32,
    /// How many of a hundred faults have the cluster for themselves, so that their pauses can be told; fewer give more takeovers.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=100))]
    alone_percent: u32,
    /// Only these kinds of faults; may be repeated.
    #[arg(long = "fault", value_parser = FAULTS)]
    faults: Vec<String>,
    /// One long outage of the store, half-way.
    #[arg(long, default_value_t = 0.0)]
    outage_minutes: f64,
    /// `bucket.lease.ttl.ms`, if it should not be the brokers' default of 6000.
    #[arg(long)]
    lease_ttl_ms: Option<u64>,
    /// Without a network namespace for each broker (which needs root): links are closed or silent, packets are never lost.
    #[arg(long)]
    without_namespaces: bool,
    /// A store that breaks the rule on purpose, and forgets writes that it acknowledged: the run must find the loss.
    #[arg(long, value_parser = ["forget-writes"])]
    control: Option<String>,
    /// Wall clocks of the brokers wrong by up to two minutes, differently after each start (needs libfaketime).
    #[arg(long)]
    clock_shift: bool,
    /// A pause longer than promised fails the run: p99 of planned moves 1 s, after kill -9 the lease and 1 s.
    #[arg(long)]
    bounds: bool,
    /// Leave logs and data also of a run in which all was well.
    #[arg(long)]
    keep: bool,
    /// A broker property; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// Where programs of others are kept: the store, compiled producers, fetched jars.
    #[arg(long, env = "CLIENTS_HOME")]
    clients_home: Option<PathBuf>,
}

/// As the report calls them.
const FAULTS: [&str; 9] = [
    "kill",
    "leave",
    "pause",
    "cut from the store",
    "cut from clients",
    "cut from both",
    "store slow",
    "store errors",
    "store out",
];

#[derive(Args)]
pub struct Txn {
    /// The ottla binary under test.
    #[arg(long, env = "OTTLA_BIN")]
    bin: PathBuf,
    /// A bucket, instead of a directory of the run's own.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Whose producers; all of them if none is named.
    #[arg(long = "family", value_enum, default_values_t = txn::Family::ALL)]
    families: Vec<txn::Family>,
    /// Producers of each family, every one with a transactional id of its own.
    #[arg(long, default_value_t = 500)]
    runs: u32,
    /// Transactions of a producer.
    #[arg(long, default_value_t = 8)]
    each: u32,
    /// Producers of a family at the same time.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    at_once: u32,
    /// After that no more producers begin.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=64))]
    partitions: i32,
    /// How long requests are held up on their way, at most.
    #[arg(long, default_value_t = 60)]
    hold_seconds_max: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A broker that breaks the rule on purpose (a build with the feature `negative-controls`): the run must find it.
    #[arg(long, value_parser = ["late-end-txn", "marker-repeat"])]
    control: Option<String>,
    /// The same against one Apache Kafka, which is described and not judged.
    #[arg(long)]
    kafka: bool,
    /// Its jars.
    #[arg(long)]
    kafka_jars: Option<PathBuf>,
    /// Where compiled producers and fetched jars are kept.
    #[arg(long, env = "CLIENTS_HOME")]
    clients_home: Option<PathBuf>,
}

#[derive(Args)]
pub struct Upgrade {
    /// The next release: a build with the feature `next-level`.
    #[arg(long, env = "OTTLA_NEWER_BIN")]
    newer_bin: PathBuf,
    /// Its `bin` is the release that is upgraded; `minutes` and what concerns faults do nothing.
    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Args, Clone)]
pub struct Compaction {
    /// The ottla binary under test.
    #[arg(long, env = "OTTLA_BIN")]
    bin: PathBuf,
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// The longest time between two kills. A broker looks for something to compact five seconds after its start.
    #[arg(long, default_value_t = 15_000)]
    between_ms: u64,
    /// After every so many kills everything is read and checked.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    check_every: u32,
    #[arg(long, default_value_t = 3)]
    producers: usize,
    /// Records per second and producer.
    #[arg(long, default_value_t = 15_000)]
    rate: u32,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Memory of the broker for keys (log.cleaner.dedupe.buffer.size): far too little for a partition's, so that it takes several rounds.
    #[arg(long, default_value_t = 3 << 20)]
    keys_bytes: u64,
    /// A broker that takes more fails the run.
    #[arg(long, default_value_t = 700)]
    memory_max_mib: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// An empty bucket, instead of a directory.
    #[arg(long)]
    data: Option<PathBuf>,
}

#[derive(Args)]
pub struct Attack {
    /// The ottla binary under test.
    #[arg(long, env = "OTTLA_BIN")]
    bin: PathBuf,
    /// Only rows whose name contains one of these.
    rows: Vec<String>,
    /// How long each attack lasts.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Where the broker's data is put. In memory unless told otherwise: what else a disk has to do would be measured there.
    #[arg(long, default_value = "/dev/shm")]
    place: PathBuf,
    /// The good client's latency is printed and not judged: for a machine that has other work.
    #[arg(long)]
    only_memory: bool,
    /// Leave log and data also of a run in which all was well.
    #[arg(long)]
    keep: bool,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("want KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().what {
        What::Kill(args) => kill::run(&args),
        What::Power(args) => power::run(&args),
        What::Disk(args) => disk::run(&args),
        What::Txn(args) => txn::run(&args),
        What::Cluster(args) => cluster::run(&args, cluster::Story::Faults),
        What::Attack(args) => attack::run(&args),
        What::Compaction(args) => compaction::run(&args),
        What::Upgrade(args) => cluster::run(&args.cluster, cluster::Story::Upgrade(&args.newer_bin)),
    }
}
