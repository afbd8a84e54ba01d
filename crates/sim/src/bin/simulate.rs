//! `cargo xtask sim`: seeds of the whole cluster on one bucket, everything going wrong. One line for each finding, with the seed that
//! replays it, and a line about all of them.
#![allow(clippy::disallowed_methods)] // a harness, not a room

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use sim::upheaval::{Plan, Totals, simulate};

/// In so many seeds some segments are merged, or something is wrong with the run.
const MERGES_EXPECTED_FROM: u64 = 20;

#[derive(Parser)]
#[command(name = "sim", about = "The whole cluster on a seeded clock, network and bucket")]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Of each seed.
    #[arg(long, default_value_t = 500)]
    operations: u64,
    #[arg(long, default_value_t = 3)]
    brokers: usize,
    /// Seeds side by side.
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Everything that is logged, and the transcript, go to stderr.
    #[arg(long)]
    aloud: bool,
}

#[derive(Default)]
struct All {
    totals: Totals,
    findings: u64,
    seeds_with_findings: u64,
}

fn main() {
    let arguments = Arguments::parse();
    let Arguments { seeds, from, operations, brokers, threads, aloud } = arguments;
    let began = std::time::Instant::now();
    let (next, all) = (AtomicU64::new(from), Mutex::new(All::default()));
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= from + seeds {
            return;
        }
        let outcome = simulate(Plan { brokers, aloud, ..Plan::of(seed, operations) });
        if aloud {
            eprint!("{}", outcome.transcript);
        }
        for finding in &outcome.findings {
            println!("seed {seed}: {finding}");
        }
        let mut all = all.lock().expect("nobody panics with it");
        all.totals.add(&outcome.totals);
        all.findings += outcome.findings.len() as u64;
        all.seeds_with_findings += u64::from(!outcome.findings.is_empty());
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, 2) {
            scope.spawn(work);
        }
    });
    let All { totals, findings, seeds_with_findings } = all.into_inner().expect("nobody panics with it");
    println!("{totals:?}");
    println!(
        "{seeds} seeds of {operations} operations in {:.1} s: {findings} findings in {seeds_with_findings} seeds",
        began.elapsed().as_secs_f64()
    );
    if seeds >= MERGES_EXPECTED_FROM && totals.merged == 0 {
        println!("no segment was merged in any of them: the run says nothing of merges");
        std::process::exit(1);
    }
    if findings > 0 {
        println!("replay one with: cargo xtask sim --seeds 1 --from SEED --operations {operations}");
        std::process::exit(1);
    }
}
