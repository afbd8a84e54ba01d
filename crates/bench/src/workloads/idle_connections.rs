//! Workload 5: connections that do nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use protocol::messages::ApiVersionsRequest;

use super::{topic, usual};
use crate::connection::{ask, connect};
use crate::load::{self, Amount};
use crate::process::resident_bytes;
use crate::run::{Case, Run};
use crate::subject::Subject;

pub const ABOUT: &str = "10,000 connections that have asked for ApiVersions and then are silent: the memory each of them takes, \
    the processor time of the whole while nothing happens, and what they do to a load of 2,000 records/s beside them.";

const CONNECTIONS: usize = 10_000;
/// Ottla allows 10,000 unless it is told otherwise, and Kafka as many as there are.
const MANY_ALLOWED: [(&str, &str); 1] = [("max.connections", "20000")];
const IDLE: Duration = Duration::from_secs(5);
const SECONDS: f64 = 5.0;

pub async fn run(run: &mut Run) -> Result<()> {
    let mut subjects = Vec::new();
    for kind in &run.plan.kinds {
        let mut subject = Subject::new(*kind, &run.plan.places, &MANY_ALLOWED)?;
        subject.start()?;
        subjects.push(subject);
    }
    run.rounds(&Case::new(5, "10,000 connections"), &mut subjects, async |run, subject| {
        let alone = p99(subject).await?;
        let none = resident_bytes(subject.pid()?)?;
        let mut open = Vec::with_capacity(CONNECTIONS);
        for number in 0..CONNECTIONS {
            let mut connection =
                connect(&subject.address).await.with_context(|| format!("after {number}"))?;
            ask(&mut connection, &ApiVersionsRequest::default(), 0).await?;
            open.push(connection);
        }
        let many = resident_bytes(subject.pid()?)?;
        let watched = run.watch(subject)?;
        tokio::time::sleep(IDLE).await;
        let (used, _) = watched.usage()?;
        let beside = p99(subject).await?;
        drop(open);
        Ok(vec![
            ("KiB per connection", many.saturating_sub(none) as f64 / 1024.0 / CONNECTIONS as f64),
            ("CPU-ms per second, idle", used.cpu_seconds() * 1000.0 / IDLE.as_secs_f64()),
            ("p99 ms without them", alone),
            ("p99 ms beside them", beside),
        ])
    })
    .await
}

async fn p99(subject: &Subject) -> Result<f64> {
    let topic = topic(subject, "beside", 10).await?;
    let mut load = usual(subject, &topic, Amount { bytes: None, seconds: Some(SECONDS) });
    load.rate = Some(2_000.0);
    load.partitions_per_request = 1;
    load.shape.batch_bytes = 1;
    load.in_flight = 100_000;
    Ok(load::run(&load).await?.latency.p99_ms)
}
