//! Workloads 1, 8 and the scaling curves: produce as fast as answers allow.

use anyhow::Result;
use protocol::compression::Compression;

use super::{delete, topic, usual, warmed};
use crate::batches::{Shape, Template};
use crate::load::{self, Amount, Load};
use crate::run::{Case, Run, Values};
use crate::subject::Subject;

pub const ABOUT: &str = "Closed loop, acks=all, five requests under way per connection. One partition: one connection, \
    batches of 64 KiB. More: four connections, ten partitions in a request, batches of 16 KiB. \"Small batches\": one record \
    of 1 KB is a batch, connections and requests as before. \"Large batches\": of 1 MB, as large as a topic takes. A run ends after 400 MB or 4 seconds. CPU and syncs are those of the broker's process tree; an \
    acknowledgement is that of one partition's batch.";
pub const ABOUT_IDEMPOTENT: &str =
    "As workload 1 with 1 KB records, every connection with a producer id and sequences.";
pub const ABOUT_SCALING: &str = "1 KB records in batches of 16 KiB. Partitions grow with four connections; connections \
    grow on 1,000 partitions, with one request of one batch under way on each.";

/// Either ends a run.
const AMOUNT: Amount = Amount { bytes: Some(400_000_000), seconds: Some(4.0) };
/// After one batch to every partition; either ends it.
const WARM_UP: Amount = Amount { bytes: Some(200_000_000), seconds: Some(30.0) };

pub const MB_PER_S: &str = "MB/s";
pub const CPU_PER_GB: &str = "CPU-s per GB";
/// Of Ottla only: a JVM does not count them.
const ALLOCATIONS: &str = "allocations per request";

const PARTITIONS: [i32; 3] = [1, 100, 1000];

/// A case of workload 1.
struct Variant {
    name: String,
    record_bytes: usize,
    compression: Compression,
    batch_bytes: usize,
}

fn variants(partitions: i32) -> Vec<Variant> {
    let many = many(partitions, "partition");
    let mut variants = Vec::new();
    for (size, record_bytes) in [("100 B", 100), ("1 KB", 1000), ("10 KB", 10_000)] {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let name = format!("{many}, {size}, {}", compression.name());
            let batch_bytes = if partitions == 1 { 65_536 } else { 16_384 };
            variants.push(Variant { name, record_bytes, compression, batch_bytes });
        }
    }
    let name = format!("{many}, 1 KB, small batches");
    variants.push(Variant { name, record_bytes: 1000, compression: Compression::None, batch_bytes: 1000 });
    if partitions == 1 {
        let name = format!("{many}, 1 KB, large batches");
        let batch_bytes = 1_000_000;
        variants.push(Variant { name, record_bytes: 1000, compression: Compression::None, batch_bytes });
    }
    variants
}

pub async fn run(run: &mut Run) -> Result<()> {
    for partitions in PARTITIONS {
        let variants: Vec<(Case, Variant)> = variants(partitions)
            .into_iter()
            .map(|variant| (Case::new(1, variant.name.clone()), variant))
            .filter(|(case, _)| run.wants(case))
            .collect();
        if variants.is_empty() {
            continue;
        }
        let mut subjects = warmed(run).await?;
        for (name, variant) in variants {
            case(run, name, &mut subjects, partitions, &|load| {
                load.shape.record_bytes = variant.record_bytes;
                load.shape.compression = variant.compression;
                load.shape.batch_bytes = variant.batch_bytes;
            })
            .await?;
        }
    }
    Ok(())
}

pub async fn run_idempotent(run: &mut Run) -> Result<()> {
    let mut subjects = warmed(run).await?;
    for partitions in [1, 100, 1000] {
        let name = Case::new(8, many(partitions, "partition"));
        case(run, name, &mut subjects, partitions, &|load| {
            load.idempotent = true;
            if partitions == 1 {
                load.shape.batch_bytes = 65_536;
            }
        })
        .await?;
    }
    Ok(())
}

pub async fn run_scaling(run: &mut Run) -> Result<()> {
    let mut subjects = warmed(run).await?;
    for partitions in [1, 10, 100, 1000, 10_000] {
        let name = Case::new(11, many(partitions, "partition"));
        case(run, name, &mut subjects, partitions, &|_| {}).await?;
    }
    for connections in [1, 10, 100, 1000] {
        let name = Case::new(11, many(connections, "connection"));
        case(run, name, &mut subjects, 1000, &|load| {
            load.connections = connections as usize;
            load.in_flight = 1;
            load.partitions_per_request = 1;
        })
        .await?;
    }
    Ok(())
}

/// One record of 1 KB is a batch.
pub async fn small_batches(
    run: &mut Run,
    name: Case,
    subjects: &mut [Subject],
    partitions: i32,
) -> Result<()> {
    case(run, name, subjects, partitions, &|load| load.shape.batch_bytes = 1000).await
}

async fn case(
    run: &mut Run,
    case: Case,
    subjects: &mut [Subject],
    partitions: i32,
    change: &dyn Fn(&mut Load),
) -> Result<()> {
    if !run.wants(&case) {
        return Ok(());
    }
    let name = "produce";
    for subject in subjects.iter() {
        let topic = topic(subject, name, partitions).await?;
        let mut load = usual(subject, &topic, WARM_UP);
        change(&mut load);
        load::run(&every_partition_once(&load)?).await?;
        load::run(&load).await?;
    }
    run.rounds(&case, subjects, async |run, subject| {
        let topic = topic(subject, name, partitions).await?;
        let mut load = usual(subject, &topic, AMOUNT);
        change(&mut load);
        measured(run, subject, &load).await
    })
    .await?;
    delete(subjects, name).await
}

/// A small batch to each partition, however long that takes: Kafka makes a partition's files with its first batch, and that
/// takes it longer than the batch.
fn every_partition_once(load: &Load) -> Result<Load> {
    let shape = Shape { batch_bytes: 1, compression: Compression::None, ..load.shape };
    // In turn over one connection, so that as many batches as partitions are one to each.
    let bytes = Template::new(&shape)?.len() * load.topic.partitions as usize;
    let amount = Amount { bytes: Some(bytes as u64), seconds: None };
    Ok(Load { shape, amount, connections: 1, partitions_per_request: 10, ..load.clone() })
}

/// A load, and what it cost.
pub async fn measured(run: &Run, subject: &Subject, load: &Load) -> Result<Values> {
    let watched = run.watch(subject)?;
    let produced = load::run(load).await?;
    let (used, generator) = watched.usage()?;
    let mut values = vec![
        (MB_PER_S, produced.bytes as f64 / 1e6 / produced.seconds),
        (CPU_PER_GB, used.cpu_seconds() / produced.gigabytes()),
        ("bytes written per byte", used.write_bytes as f64 / produced.bytes as f64),
        ("p99 ms", produced.latency.p99_ms),
        ("resident peak, MiB", used.resident_peak_bytes as f64 / f64::from(1 << 20)),
        ("generator's CPU-s per GB", generator.cpu_seconds() / produced.gigabytes()),
    ];
    if let Some(syncs) = used.syncs {
        values.insert(2, ("syncs per 1,000 acks", syncs as f64 * 1000.0 / produced.batches as f64));
    }
    if let Some(allocations) = used.allocations {
        values.push((ALLOCATIONS, allocations as f64 / produced.requests as f64));
    }
    Ok(values)
}

pub fn many(count: i32, what: &str) -> String {
    let count_shown = crate::results::digits(f64::from(count));
    match count {
        1 => format!("1 {what}"),
        10..=99 => format!("{count} {what}s"),
        _ => format!("{count_shown} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::TARGETS;

    #[test]
    fn targets_of_this_workload_name_cases_that_there_are() {
        let names: Vec<String> =
            PARTITIONS.into_iter().flat_map(variants).map(|variant| variant.name).collect();
        for target in TARGETS.iter().filter(|target| target.workload == 1) {
            assert!(names.iter().any(|name| name == target.case), "{} in {names:?}", target.case);
        }
    }
}
