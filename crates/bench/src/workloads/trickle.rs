//! Workload 10: one consumer on 1,000 partitions of which few have news.

use std::time::Duration;

use anyhow::Result;

use super::{topic, usual, warmed};
use crate::fetch::{self, Readers, Until};
use crate::load::{self, Amount};
use crate::run::{Case, Run};
use crate::subject::Subject;

pub const ABOUT: &str = "100 records a second in turn to 1,000 partitions, one consumer with an incremental fetch session on \
    all of them, ten seconds.";

const DRAIN_MAX: Duration = Duration::from_secs(60);

pub async fn run(run: &mut Run) -> Result<()> {
    let mut subjects = warmed(run).await?;
    for subject in &subjects {
        once(subject, 5.0).await?;
    }
    run.rounds(&Case::new(10, "100 records/s"), &mut subjects, async |run, subject| {
        let watched = run.watch(subject)?;
        let (produced, fetched) = once(subject, 10.0).await?;
        let (used, _) = watched.usage()?;
        Ok(vec![
            ("CPU-ms per second", used.cpu_seconds() * 1000.0 / produced.seconds),
            ("end to end p50 ms", fetched.latency.p50_ms),
            ("end to end p99 ms", fetched.latency.p99_ms),
        ])
    })
    .await
}

async fn once(subject: &Subject, seconds: f64) -> Result<(load::Outcome, fetch::Outcome)> {
    let topic = topic(subject, "trickle", 1000).await?;
    let mut load = usual(subject, &topic, Amount { bytes: None, seconds: Some(seconds) });
    load.rate = Some(100.0);
    load.partitions_per_request = 1;
    load.shape.batch_bytes = 1;
    load.shape.record_bytes = 100;
    load.shape.stamped = true;
    let readers = Readers { from: fetch::From::End, ..Readers::new(&subject.address, &topic) };
    let readers = fetch::start(&readers).await?;
    let produced = load::run(&load).await?;
    let fetched = readers.finish(Until::Records(produced.records), DRAIN_MAX).await?;
    Ok((produced, fetched))
}
