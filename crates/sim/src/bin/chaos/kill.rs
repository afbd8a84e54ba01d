//! kill -9 at random moments under load: P1, P2 and P3 against a process that dies.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::{Rng, SeedableRng};
use sim::history;

use crate::Kill;
use crate::broker::{Broker, Settings, free_port, last_words};
use crate::producers::{Families, Load, Work};

pub fn run(args: &Kill) -> anyhow::Result<()> {
    let common = &args.common;
    let families = Families::build(common.clients_home.as_deref())?;
    let work = Work::new()?;
    let port = free_port()?;
    let settings = Settings {
        bin: common.bin.clone(),
        data: work.path().join("data"),
        log: work.path().join("broker.log"),
        port,
        namespace: None,
        partitions: common.partitions,
        extra: vec![],
    };
    let load = Load {
        work: work.path().to_path_buf(),
        address: format!("127.0.0.1:{port}"),
        topic: "chaos".into(),
        partitions: common.partitions,
        rate: common.rate,
    };
    let mut random = rand::rngs::StdRng::seed_from_u64(common.seed);
    let mut broker = Broker::start(&settings, &[])?;
    ensure!(broker.ready(port)?, "the broker does not start: {}", last_words(&settings.log));
    let mut producers = families.start(&load)?;
    let mut killed_under_load = 0;
    let (mut before, mut slowest) = (0, Duration::ZERO);
    for round in 1..=args.rounds {
        // Mostly in the middle of work, sometimes right after the start, when recovery has only just ended.
        let wait =
            if random.random_ratio(1, 5) { random.random_range(0..20) } else { random.random_range(20..600) };
        std::thread::sleep(Duration::from_millis(wait));
        broker.kill()?;
        let told = producers.told()?;
        killed_under_load += u32::from(told > before);
        before = told;
        let started = Instant::now();
        broker = Broker::start(&settings, &[])?;
        ensure!(
            broker.ready(port)?,
            "round {round}: the broker does not come back: {}",
            last_words(&settings.log)
        );
        slowest = slowest.max(started.elapsed());
        producers.check_running()?;
        if round % 20 == 0 {
            eprintln!("{round} kills, {} KiB of delivery reports, slowest start {slowest:?}", told >> 10);
        }
    }
    let acknowledged = producers.finish()?;
    let log = families.read_all(&load)?;
    broker.stop()?;
    // A run in which little was delivered between the kills proves little.
    ensure!(
        killed_under_load * 2 >= args.rounds,
        "only {killed_under_load} of {} kills met deliveries",
        args.rounds
    );
    report(&format!("{} kills", args.rounds), history::check(&acknowledged, &log))?;
    work.done()
}

/// Prints what the checker says; the run fails on any violation.
pub fn report(what: &str, result: Result<history::Checked, Vec<history::Violation>>) -> anyhow::Result<()> {
    match result {
        Ok(checked) => {
            ensure!(checked.acknowledged > 0, "nothing was acknowledged, so nothing is proved");
            println!(
                "{what}: {} acknowledged, {} in the log, 0 lost, 0 twice, 0 out of order",
                checked.acknowledged, checked.found
            );
            Ok(())
        }
        Err(violations) => {
            violations.iter().for_each(|violation| println!("{violation}"));
            anyhow::bail!("{what}: {} violations", violations.len())
        }
    }
}
