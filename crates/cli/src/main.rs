//! `ottla`: the command line, and the only room that knows all rooms. It wires and prints; it does not think.
//!
//! It does: `serve` (opens catalog, log, broker and server in this order and stops them in the other), and the verbs, which are clients
//! of a broker like any other. It owns: arguments, output, exit codes.
//! It never sees: bytes of the protocol, files of the log.
//!
//! Start reading at `arguments.rs`, then `serve/mod.rs`.
// The file bans are for rooms that run in the simulator; this one is where the outside begins.
#![allow(clippy::disallowed_methods)]

mod arguments;
mod bucket;
mod config_check;
mod escapes;
mod exit;
mod output;
mod pem;
mod selftest;
mod serve;
mod verbs;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::arguments::{Arguments, Bucket, Config, Verb};
use crate::exit::Done;

/// `ottla_allocations_total`.
#[global_allocator]
static ALLOCATOR: world::alloc::Counting = world::alloc::Counting;

fn main() -> ExitCode {
    // clap exits with 2 by itself when the arguments are wrong.
    let arguments = Arguments::parse();
    start_log();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ottla: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(arguments: Arguments) -> Done {
    let output = arguments.output;
    match arguments.verb {
        Verb::Serve(serve) => serve::run(serve, output),
        Verb::Topic(verb) => verbs::topic(verb, output),
        Verb::Produce(arguments) => verbs::produce(arguments, output),
        Verb::Consume(arguments) => verbs::consume(arguments, output),
        Verb::Group(verb) => verbs::group(verb, output),
        Verb::Cluster(brokers) => verbs::cluster(brokers, output),
        Verb::Selftest(arguments) => selftest::run(arguments, output),
        Verb::Bucket(Bucket::Audit(place)) => bucket::run_audit(place, output),
        Verb::Config(Config::Check { file, properties }) => config_check::run(file, properties, output),
        Verb::Completion { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "ottla", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// Log lines go to stderr; `OTTLA_LOG` chooses which (`debug`, `server=trace`, …).
fn start_log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("OTTLA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
