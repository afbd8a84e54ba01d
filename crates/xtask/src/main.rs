//! `cargo xtask …`: what developers and CI run besides cargo itself. `check` is everything a change must
//! pass, `codegen` writes the protocol's messages from Kafka's schemas, `vectors` its golden bytes.
//! It imports no room: it must build while generated code, or any room, is broken. What needs rooms is a
//! program of that room, and the verb here only starts it.
//! Start reading at the verb you need: one module each.
#![allow(clippy::disallowed_methods)]

mod arrows;
mod check;
mod codegen;
mod fuzz;
mod instructions;
mod vectors;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the Ottla repository")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Everything a change must pass: format, lints, arrows between crates, generated code, tests.
    Check(check::Options),
    /// Write crates/protocol/src/messages from the schemas in Kafka's jars.
    Codegen(codegen::Options),
    /// Write crates/protocol/vectors from Kafka's own Java classes.
    Vectors,
    /// Count the instructions of hot paths against their bounds (valgrind).
    Instructions,
    /// Run every fuzz target for a while (nightly, cargo-fuzz).
    Fuzz(fuzz::Options),
    /// Kill the broker, cut the power of its disk, fill it, or break several brokers on one object store, under load
    /// (crates/sim/src/bin/chaos).
    Chaos {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// The whole cluster on a seeded clock, network and bucket, everything going wrong (crates/sim/src/bin/simulate.rs).
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Send the same requests to Apache Kafka and to Ottla, and compare the answers (crates/conformance, docs/differences.md).
    Conformance {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measure Ottla beside Apache Kafka, or (--quick) against bounds; `bench report FILE…` writes docs/performance.md
    /// (crates/bench).
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> Result<()> {
    let root = root()?;
    match Arguments::parse().verb {
        Verb::Check(options) => check::run(&root, &options),
        Verb::Codegen(options) => match codegen::run(&root, &options)? {
            codegen::Outcome::Done => Ok(()),
            codegen::Outcome::Skipped(why) => {
                // On CI a check that did not run is a failed check.
                ensure!(!on_ci(), "not checked: {why}");
                eprintln!("skipped, not checked: {why}");
                Ok(())
            }
        },
        Verb::Vectors => vectors::run(&root),
        Verb::Instructions => instructions::run(&root),
        Verb::Fuzz(options) => fuzz::run(&root, &options),
        Verb::Chaos { arguments } => chaos(&root, arguments),
        Verb::Sim { arguments } => {
            let mut sim =
                cargo(&root, ["run", "--quiet", "--release", "--package", "sim", "--bin", "simulate", "--"]);
            started(sim.args(arguments))
        }
        Verb::Conformance { arguments } => conformance(&root, arguments),
        Verb::Bench { arguments } => bench(&root, arguments),
    }
}

/// Builds the broker, unless it is named or has to be a build with special features, and starts the harness.
fn chaos(root: &Path, arguments: Vec<OsString>) -> Result<()> {
    let mut chaos = cargo(root, ["run", "--quiet", "--release", "--package", "sim", "--bin", "chaos", "--"]);
    let verb = arguments.first().and_then(|verb| verb.to_str()).unwrap_or_default();
    let takes_any_build = matches!(verb, "kill" | "cluster" | "upgrade" | "compaction" | "txn" | "attack");
    let is_named = arguments.iter().any(|argument| {
        let argument = argument.to_string_lossy();
        argument == "--bin" || argument.starts_with("--bin=") || argument == "--help"
    });
    if takes_any_build && !is_named {
        if verb == "upgrade" {
            build_newer(root, &mut chaos)?;
        }
        build_subject(root, &mut chaos)?;
    }
    in_our_place(chaos.args(arguments))
}

/// Builds what is measured, unless OTTLA_BIN names it, and starts the measurement.
fn bench(root: &Path, arguments: Vec<OsString>) -> Result<()> {
    let mut bench = cargo(root, ["run", "--quiet", "--release", "--package", "bench", "--"]);
    if arguments.first().is_some_and(|verb| verb == "report") {
        return started(bench.args(arguments));
    }
    build_subject(root, &mut bench)?;
    in_our_place(bench.arg("run").args(arguments))
}

/// Builds the broker for its developers, unless OTTLA_BIN names one: what is compared is what it says, not how fast.
fn conformance(root: &Path, arguments: Vec<OsString>) -> Result<()> {
    let mut conformance = cargo(root, ["run", "--quiet", "--package", "conformance", "--"]);
    if std::env::var_os("OTTLA_BIN").is_none() {
        started(&mut cargo(root, ["build", "--quiet", "--package", "cli"]))?;
        conformance.env("OTTLA_BIN", target(root).join("debug/ottla"));
    }
    in_our_place(conformance.args(arguments))
}

/// The release build of `ottla` in OTTLA_BIN of `of`, unless ours names one.
fn build_subject(root: &Path, of: &mut Command) -> Result<()> {
    if std::env::var_os("OTTLA_BIN").is_none() {
        started(&mut cargo(root, ["build", "--quiet", "--release", "--package", "cli"]))?;
        of.env("OTTLA_BIN", release(root).join("ottla"));
    }
    Ok(())
}

/// What the next release will be to this one, in OTTLA_NEWER_BIN, unless ours names one. Under a name of its own: the other build of
/// `ottla` takes its place.
fn build_newer(root: &Path, of: &mut Command) -> Result<()> {
    if std::env::var_os("OTTLA_NEWER_BIN").is_none() {
        let arguments = ["build", "--quiet", "--release", "--package", "cli", "--features", "next-level"];
        started(&mut cargo(root, arguments))?;
        let newer = release(root).join("ottla-next-level");
        std::fs::copy(release(root).join("ottla"), &newer)?;
        of.env("OTTLA_NEWER_BIN", newer);
    }
    Ok(())
}

fn release(root: &Path) -> PathBuf {
    target(root).join("release")
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// In the place of this process: whoever ends it ends the program, and that takes what it started with it.
fn in_our_place(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {:?}", command.get_program()))
}

fn on_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// The root of the repository, wherever in it cargo was called.
fn root() -> Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("run me as `cargo xtask`")?;
    Ok(PathBuf::from(manifest).join("../..").canonicalize()?)
}

fn cargo<'a>(root: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(arguments);
    cargo
}

/// Runs a program with our own output; an exit code other than 0 is an error.
fn started(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    ensure!(status.success(), "{:?} ended with {status}", command.get_program());
    Ok(())
}
