//! Workload 2: how long a record takes, to its acknowledgement and to its reader, at a rate that everybody bears.

use std::time::Duration;

use anyhow::Result;

use super::{topic, usual, warmed};
use crate::fetch::{self, Readers, Until};
use crate::load::{self, Amount};
use crate::run::{Case, Run};

pub const ABOUT: &str = "Open loop: every request has its time, and its latency counts from then, so a broker that stalls \
    is charged for all that was due meanwhile. 1 KB records on ten partitions over four connections, one record in a \
    request (ten at 20,000 records/s), and one group that reads at the tail. End to end is from the time the record was due \
    to its arrival at the reader, by one clock.";

/// Name, records per second, records in a request.
const CASES: [(&str, f64, usize); 3] =
    [("200 records/s", 200.0, 1), (CASE_2000, 2_000.0, 1), ("20,000 records/s", 20_000.0, 10)];
pub const CASE_2000: &str = "2,000 records/s";
pub const PRODUCE_P99: &str = "produce p99 ms";

const SECONDS: f64 = 10.0;
/// Readers that are not through by then: the broker could not bear the rate.
const DRAIN_MAX: Duration = Duration::from_secs(300);

pub async fn run(run: &mut Run) -> Result<()> {
    let mut subjects = warmed(run).await?;
    for (name, rate, per_request) in CASES {
        for seconds in [2.0, SECONDS] {
            let case = Case::new(2, name);
            let warm_up = seconds < SECONDS;
            if warm_up {
                for subject in &subjects {
                    once(subject, rate, per_request, seconds).await?;
                }
                continue;
            }
            run.rounds(&case, &mut subjects, async |run, subject| {
                let watched = run.watch(subject)?;
                let (produced, fetched) = once(subject, rate, per_request, seconds).await?;
                let (used, _) = watched.usage()?;
                Ok(vec![
                    ("produce p50 ms", produced.latency.p50_ms),
                    (PRODUCE_P99, produced.latency.p99_ms),
                    ("produce p99.9 ms", produced.latency.p999_ms),
                    ("end to end p50 ms", fetched.latency.p50_ms),
                    ("end to end p99 ms", fetched.latency.p99_ms),
                    ("end to end p99.9 ms", fetched.latency.p999_ms),
                    ("CPU-s per second", used.cpu_seconds() / produced.seconds),
                ])
            })
            .await?;
        }
    }
    Ok(())
}

async fn once(
    subject: &crate::subject::Subject,
    rate: f64,
    records_per_request: usize,
    seconds: f64,
) -> Result<(load::Outcome, fetch::Outcome)> {
    let topic = topic(subject, "latency", 10).await?;
    let mut load = usual(subject, &topic, Amount { bytes: None, seconds: Some(seconds) });
    load.rate = Some(rate);
    load.partitions_per_request = 1;
    // Nobody waits for anybody: a queue of what is due stands in the broker.
    load.in_flight = 100_000;
    load.shape.stamped = true;
    load.shape.batch_bytes = 100 + records_per_request * 1020;
    let readers =
        fetch::start(&Readers { from: fetch::From::End, ..Readers::new(&subject.address, &topic) }).await?;
    let produced = load::run(&load).await?;
    let fetched = readers.finish(Until::Records(produced.records), DRAIN_MAX).await?;
    Ok((produced, fetched))
}
