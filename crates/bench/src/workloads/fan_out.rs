//! Workload 3: groups that read at the tail what is being written.

use std::time::Duration;

use anyhow::Result;

use super::{delete, topic, usual, warmed};
use crate::fetch::{self, Readers, Until};
use crate::load::{self, Amount};
use crate::run::{Case, Run};

pub const ABOUT: &str = "30 MB/s of 1 KB records in batches of 64 KiB on ten partitions, open loop, for five seconds, read \
    meanwhile by no, one and five groups. The cost of a GB fetched is what five groups cost more than none, in one run. \
    Allocations are per request of producers and readers together.";

pub const CASE: &str = "30 MB/s, ten partitions";
pub const CPU_PER_GB_FETCHED: &str = "CPU-s per GB fetched";

const RECORDS_PER_SECOND: f64 = 30_000.0;
const SECONDS: f64 = 5.0;
const DRAIN_MAX: Duration = Duration::from_secs(120);

pub async fn run(run: &mut Run) -> Result<()> {
    let mut subjects = warmed(run).await?;
    for subject in &subjects {
        once(subject, 5, 2.0).await?;
    }
    run.rounds(&Case::new(3, CASE), &mut subjects, async |run, subject| {
        let mut cpu = Vec::new();
        let mut values = Vec::new();
        let mut gigabytes = 0.0;
        let names = [
            ("CPU-s per GB produced, no group", "", "", "no group: allocations per request"),
            (
                "CPU-s per GB produced, 1 group",
                "1 group: end to end p50 ms",
                "1 group: end to end p99 ms",
                "1 group: allocations per request",
            ),
            (
                "CPU-s per GB produced, 5 groups",
                "5 groups: end to end p50 ms",
                "5 groups: end to end p99 ms",
                "5 groups: allocations per request",
            ),
        ];
        for (groups, names) in [0, 1, 5].into_iter().zip(names) {
            let watched = run.watch(subject)?;
            let (produced, fetched) = once(subject, groups, SECONDS).await?;
            let (used, _) = watched.usage()?;
            cpu.push(used.cpu_seconds() / produced.gigabytes());
            values.push((names.0, used.cpu_seconds() / produced.gigabytes()));
            let mut requests = produced.requests;
            if let Some(fetched) = fetched {
                requests += fetched.requests;
                gigabytes = fetched.gigabytes() / produced.gigabytes();
                values.push((names.1, fetched.latency.p50_ms));
                values.push((names.2, fetched.latency.p99_ms));
            }
            if let Some(allocations) = used.allocations {
                values.push((names.3, allocations as f64 / requests as f64));
            }
        }
        values.insert(0, (CPU_PER_GB_FETCHED, (cpu[2] - cpu[0]) / gigabytes));
        Ok(values)
    })
    .await?;
    delete(&subjects, "fan-out").await
}

async fn once(
    subject: &crate::subject::Subject,
    groups: usize,
    seconds: f64,
) -> Result<(load::Outcome, Option<fetch::Outcome>)> {
    let topic = topic(subject, "fan-out", 10).await?;
    let mut load = usual(subject, &topic, Amount { bytes: None, seconds: Some(seconds) });
    load.rate = Some(RECORDS_PER_SECOND);
    load.partitions_per_request = 1;
    load.in_flight = 1000;
    load.shape.batch_bytes = 65_536;
    load.shape.stamped = true;
    if groups == 0 {
        return Ok((load::run(&load).await?, None));
    }
    let readers = Readers { groups, from: fetch::From::End, ..Readers::new(&subject.address, &topic) };
    let readers = fetch::start(&readers).await?;
    let produced = load::run(&load).await?;
    let fetched = readers.finish(Until::Records(produced.records), DRAIN_MAX).await?;
    Ok((produced, Some(fetched)))
}
