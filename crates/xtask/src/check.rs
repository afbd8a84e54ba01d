//! `cargo xtask check`: everything a change must pass, cheapest first, each step with its name and its time.
//! It goes on after a failed step, so that one run shows all that is wrong.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::{arrows, cargo, codegen, on_ci, started};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only these steps.
    #[arg(value_parser = STEPS.map(|step| step.0))]
    steps: Vec<String>,
    /// All steps but the tests, which CI runs by themselves.
    #[arg(long, conflicts_with = "steps")]
    without_tests: bool,
}

type Step = fn(&Path) -> Result<Note>;

/// What a step that did not fail has to say.
enum Note {
    Passed,
    Skipped(String),
}

const STEPS: [(&str, Step); 5] = [
    ("format", format),
    ("arrows", arrows_between_crates),
    ("generated", generated_code),
    ("lints", lints),
    ("tests", tests),
];

pub fn run(root: &Path, options: &Options) -> Result<()> {
    let chosen = STEPS.iter().filter(|(name, _)| match options.without_tests {
        true => *name != "tests",
        false => options.steps.is_empty() || options.steps.iter().any(|wanted| wanted == name),
    });
    let mut report = Vec::new();
    let mut failed = Vec::new();
    for (name, step) in chosen {
        println!("── {name}");
        let began = Instant::now();
        let outcome = step(root);
        let seconds = began.elapsed().as_secs_f64();
        let word = match &outcome {
            Ok(Note::Passed) => "ok".to_owned(),
            Ok(Note::Skipped(why)) => format!("skipped: {why}"),
            Err(error) => {
                eprintln!("{name} failed: {error:#}");
                failed.push(*name);
                "FAILED".to_owned()
            }
        };
        report.push(format!("{name:<10} {seconds:>7.1} s  {word}"));
    }
    println!("── check\n{}", report.join("\n"));
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn format(root: &Path) -> Result<Note> {
    started(&mut cargo(root, ["fmt", "--all", "--", "--check"]))?;
    Ok(Note::Passed)
}

fn arrows_between_crates(root: &Path) -> Result<Note> {
    let wrong = arrows::wrong(root)?;
    if !wrong.is_empty() {
        bail!("the rooms import what they may not:\n  {}", wrong.join("\n  "));
    }
    Ok(Note::Passed)
}

fn generated_code(root: &Path) -> Result<Note> {
    match codegen::run(root, &codegen::Options { check: true, schemas: None })? {
        codegen::Outcome::Done => Ok(Note::Passed),
        codegen::Outcome::Skipped(why) if on_ci() => bail!("on CI this must not be skipped: {why}"),
        codegen::Outcome::Skipped(why) => Ok(Note::Skipped(why)),
    }
}

fn lints(root: &Path) -> Result<Note> {
    started(&mut cargo(root, ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    Ok(Note::Passed)
}

fn tests(root: &Path) -> Result<Note> {
    started(&mut cargo(root, ["test", "--workspace"]))?;
    Ok(Note::Passed)
}
