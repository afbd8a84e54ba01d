//! `cargo xtask chaos kill|power|disk`: real processes, real clients, a real file system; the history checker has the last word.
//!
//! Two families of idempotent producers (librdkafka and kafka-clients) send for ever while the broker dies again and again;
//! at the end they flush, and the whole log is read back and checked against what they were told.
#![allow(clippy::disallowed_methods)] // a harness around processes, not a room

mod broker;
mod disk;
mod file_system;
mod kill;
mod power;
mod producers;

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

fn main() -> anyhow::Result<()> {
    match Cli::parse().what {
        What::Kill(args) => kill::run(&args),
        What::Power(args) => power::run(&args),
        What::Disk(args) => disk::run(&args),
    }
}
