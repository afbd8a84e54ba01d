//! `cargo xtask fuzz`: every target in `/fuzz` for a while, from the golden corpus. Needs the nightly toolchain and
//! cargo-fuzz, so it is no part of `check`; the same entries run there for a bounded count.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::started;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only these targets.
    targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

pub fn run(root: &Path, options: &Options) -> Result<()> {
    let mut known = Vec::new();
    for entry in std::fs::read_dir(root.join("fuzz/fuzz_targets"))? {
        known.push(entry?.path().file_stem().context("a target has a name")?.to_string_lossy().into_owned());
    }
    known.sort();
    let unknown = options.targets.iter().find(|target| !known.contains(target));
    ensure!(unknown.is_none(), "no target {unknown:?}; there are {}", known.join(", "));
    let targets = if options.targets.is_empty() { &known } else { &options.targets };
    started(nightly(root).args(["run", "--quiet", "--manifest-path", "fuzz/Cargo.toml", "--bin", "seeds"]))?;
    let mut found = Vec::new();
    for target in targets {
        println!("── {target}");
        let outcome = started(nightly(root).args(["fuzz", "run", target, "--"]).args([
            format!("-max_total_time={}", options.seconds).as_str(),
            // One allocation of this size is a finding, whatever asks for it.
            "-malloc_limit_mb=64",
            "-max_len=65536",
            "-timeout=10",
            "-print_final_stats=1",
        ]));
        // The others run all the same: a finding in one says nothing of them.
        if outcome.is_err() {
            found.push(target.as_str());
        }
    }
    ensure!(found.is_empty(), "findings in fuzz/artifacts: {}", found.join(", "));
    Ok(())
}

fn nightly(root: &Path) -> Command {
    // rustup's own `cargo`, not the one that runs us: only that knows `+nightly`.
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).arg("+nightly").env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    cargo
}
