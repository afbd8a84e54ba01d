//! `cargo xtask instructions`: instructions per piece of work, counted by valgrind, against bounds. Unlike time they are
//! the same on a busy machine, so a hot path that became slower fails CI and noise does not.
//!
//! A case runs for N and for 2N rounds; the difference, divided by N, leaves out all that is done once.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{cargo, started};

struct Case {
    package: &'static str,
    name: &'static str,
    rounds: u64,
    /// Instructions per round; about a sixth above what was measured when it was set.
    bound: u64,
}

const fn case(package: &'static str, name: &'static str, rounds: u64, bound: u64) -> Case {
    Case { package, name, rounds, bound }
}

const CASES: [Case; 8] = [
    case("protocol", "produce-request-100-partitions", 200, 40_000),
    case("protocol", "produce-response-100-partitions", 200, 30_000),
    case("protocol", "fetch-request-100-partitions", 200, 28_000),
    case("protocol", "validate-16-records-uncompressed", 500, 13_500),
    case("protocol", "validate-16-records-lz4", 500, 1_100),
    case("protocol", "split-100-batches", 200, 17_000),
    case("commitlog", "append-100-batches-one-commit", 50, 800_000),
    case("commitlog", "look-up-among-2000-extents", 1000, 3_000),
];

pub fn run(root: &Path) -> Result<()> {
    let mut above = Vec::new();
    for package in ["protocol", "commitlog"] {
        let build = ["build", "--quiet", "--release", "--package", package, "--example", "instructions"];
        started(&mut cargo(root, build))?;
        // Both examples have the same name: the one just built is the one that lies there.
        let program = target(root).join("release/examples/instructions");
        for case in CASES.iter().filter(|case| case.package == package) {
            let (once, twice) = (count(&program, case, 1)?, count(&program, case, 2)?);
            let each = twice.saturating_sub(once) / case.rounds;
            println!("{:<40} {each:>10} instructions, bound {:>10}", case.name, case.bound);
            if each > case.bound {
                above.push(case.name);
            }
        }
    }
    ensure!(above.is_empty(), "above their bounds: {}", above.join(", "));
    Ok(())
}

fn target(root: &Path) -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into)
}

fn count(program: &Path, case: &Case, times: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([case.name, &(case.rounds * times).to_string()])
        .output()
        .context("cannot start valgrind (package valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {said}", case.name);
    let collected = said.lines().find_map(|line| line.split("Collected : ").nth(1));
    let collected = collected.with_context(|| format!("valgrind counted nothing: {said}"))?;
    Ok(collected.trim().parse()?)
}
