//! `--quick`: what CI holds Ottla to. Processor time per GB and syncs only: they survive a noisy machine, times do not.

use anyhow::{Result, bail};
use protocol::compression::Compression;

use super::produce::measured;
use super::{topic, usual};
use crate::load::{self, Amount, Load};
use crate::results::digits;
use crate::run::{Case, Run};
use crate::stats::median;

/// What must hold, per case: CPU-seconds per GB and syncs per 1,000 acknowledged batches at most. About twice what two
/// cores needed when the bounds were set, and three times the syncs of a disk that syncs in 0.1 ms (a slower one gathers
/// more): room for another processor, not for another design.
struct Bound {
    case: &'static str,
    partitions: i32,
    change: fn(&mut Load),
    cpu_seconds_per_gb: f64,
    syncs_per_1000_acks: f64,
}

const BOUNDS: [Bound; 5] = [
    Bound {
        case: "1 partition, batches of 64 KiB",
        partitions: 1,
        change: |load| load.shape.batch_bytes = 65_536,
        cpu_seconds_per_gb: 4.0,
        syncs_per_1000_acks: 800.0,
    },
    Bound {
        case: "100 partitions, batches of 16 KiB, zstd",
        partitions: 100,
        change: |load| load.shape.compression = Compression::Zstd,
        cpu_seconds_per_gb: 3.0,
        syncs_per_1000_acks: 40.0,
    },
    Bound {
        case: "100 partitions, 1 KB records that are batches",
        partitions: 100,
        change: |load| load.shape.batch_bytes = 1,
        cpu_seconds_per_gb: 12.0,
        syncs_per_1000_acks: 40.0,
    },
    Bound {
        case: "1,000 partitions, idempotent",
        partitions: 1000,
        change: |load| load.idempotent = true,
        cpu_seconds_per_gb: 2.4,
        syncs_per_1000_acks: 40.0,
    },
    Bound {
        case: "1,000 partitions, 100 connections",
        partitions: 1000,
        change: |load| {
            load.connections = 100;
            load.partitions_per_request = 1;
        },
        cpu_seconds_per_gb: 2.6,
        syncs_per_1000_acks: 30.0,
    },
];

/// Either ends a run: a slow disk makes it shorter, not longer.
const AMOUNT: Amount = Amount { bytes: Some(300_000_000), seconds: Some(8.0) };
const WARM_UP: Amount = Amount { bytes: Some(100_000_000), seconds: Some(3.0) };

pub async fn run(run: &mut Run) -> Result<()> {
    let mut subjects = run.started(&run.plan.kinds)?;
    let mut broken = Vec::new();
    for bound in &BOUNDS {
        let subject = &subjects[0];
        let topic = topic(subject, "quick", bound.partitions).await?;
        let mut load = usual(subject, &topic, WARM_UP);
        (bound.change)(&mut load);
        load::run(&load).await?;
        run.rounds(&Case::new(1, bound.case), &mut subjects, async |run, subject| {
            let load = Load { amount: AMOUNT, ..load.clone() };
            measured(run, subject, &load).await
        })
        .await?;
        super::delete(&subjects, "quick").await?;
        for (metric, most) in
            [("CPU-s per GB", bound.cpu_seconds_per_gb), ("syncs per 1,000 acks", bound.syncs_per_1000_acks)]
        {
            let values: Vec<f64> = run
                .results
                .samples
                .iter()
                .filter(|sample| sample.case == bound.case && sample.metric == metric)
                .map(|sample| sample.value)
                .collect();
            let measured = median(&values);
            // NaN, from no value at all, is a breach too.
            let held = measured <= most;
            println!(
                "{} {}: {metric} {}, at most {}",
                if held { "held  " } else { "BROKEN" },
                bound.case,
                digits(measured),
                digits(most)
            );
            if !held {
                broken.push(format!("{}: {metric}", bound.case));
            }
        }
    }
    if !broken.is_empty() {
        bail!("{} of {} bounds are broken: {}", broken.len(), 2 * BOUNDS.len(), broken.join("; "));
    }
    Ok(())
}
