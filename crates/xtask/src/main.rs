//! `cargo xtask …`: what developers and CI run besides cargo itself. `codegen` writes the protocol's
//! messages from Kafka's schemas, `check` is everything a change must pass.
//! It may see every room; no room sees it. Start reading at the verb you need: one module each.
#![allow(clippy::disallowed_methods)]

mod codegen;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the Ottla repository")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Write crates/protocol/src/messages from the schemas in Kafka's jars.
    Codegen(codegen::Options),
}

fn main() -> Result<()> {
    let root = root()?;
    match Arguments::parse().verb {
        Verb::Codegen(options) => match codegen::run(&root, &options)? {
            codegen::Outcome::Done => Ok(()),
            codegen::Outcome::Skipped(why) => {
                // On CI a check that did not run is a failed check.
                anyhow::ensure!(std::env::var_os("CI").is_none(), "not checked: {why}");
                eprintln!("skipped, not checked: {why}");
                Ok(())
            }
        },
    }
}

/// The root of the repository, wherever in it cargo was called.
fn root() -> Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("run me as `cargo xtask`")?;
    Ok(PathBuf::from(manifest).join("../..").canonicalize()?)
}
