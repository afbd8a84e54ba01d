//! Workload 7: from the start of the process to the first acknowledgement.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{topic, usual};
use crate::load::{self, Amount, Load};
use crate::process::resident_bytes;
use crate::run::{Case, Run};
use crate::subject::Subject;
use crate::topic::Topic;

pub const ABOUT: &str = "Milliseconds from the start of the process until a record is acknowledged: on an empty directory \
    (its topic is made first, which counts), after SIGTERM, and after SIGKILL in the middle of a load. 5 GB of log.";

pub const EMPTY: &str = "empty directory";
pub const ONE_PARTITION: &str = "1 partition, 5 GB";
pub const MANY_PARTITIONS: &str = "1,000 partitions, 5 GB";
pub const FIRST_ACK: &str = "start → ack, ms";
pub const IDLE_MEMORY: &str = "idle memory, MiB";
pub const KILLED: &str = "kill -9, restart → ack, ms";

const LOG_BYTES: u64 = 5_000_000_000;
/// What is sent while the process is killed.
const LOAD_SECONDS: f64 = 3.0;
const KILL_AFTER: Duration = Duration::from_millis(1500);
const FIRST_ACK_MAX: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(1);
const IDLE: Duration = Duration::from_secs(5);

pub async fn run(run: &mut Run) -> Result<()> {
    empty(run).await?;
    for (name, partitions) in [(ONE_PARTITION, 1), (MANY_PARTITIONS, 1000)] {
        let mut subjects = run.started(&run.one_of_each())?;
        for subject in &mut subjects {
            let topic = topic(subject, "restart", partitions).await?;
            load::run(&usual(subject, &topic, Amount { bytes: Some(LOG_BYTES), seconds: Some(600.0) }))
                .await?;
        }
        run.rounds(&Case::new(7, name), &mut subjects, async |_, subject| {
            let topic = topic(subject, "restart", partitions).await?;
            subject.stop()?;
            let clean = first_ack(subject, &topic).await?;
            killed_under_load(subject, &topic).await?;
            let killed = first_ack(subject, &topic).await?;
            Ok(vec![("SIGTERM, restart → ack, ms", clean), (KILLED, killed)])
        })
        .await?;
    }
    Ok(())
}

async fn empty(run: &mut Run) -> Result<()> {
    let mut subjects = Vec::new();
    for kind in run.one_of_each() {
        subjects.push(Subject::new(kind, &run.plan.places, &[])?);
    }
    run.rounds(&Case::new(7, EMPTY), &mut subjects, async |run, subject| {
        *subject = Subject::new(subject.kind, &run.plan.places, &[])?;
        let began = subject.launch()?;
        while tokio::net::TcpStream::connect(&subject.address).await.is_err() {
            subject.is_well(began)?;
            tokio::time::sleep(PAUSE).await;
        }
        let topic = topic(subject, "first", 1).await?;
        until_acknowledged(subject, &topic, began).await?;
        let first = began.elapsed();
        subject.is_ours()?;
        tokio::time::sleep(IDLE).await;
        let resident = resident_bytes(subject.pid()?)?;
        subject.kill()?;
        Ok(vec![
            (FIRST_ACK, first.as_secs_f64() * 1000.0),
            (IDLE_MEMORY, resident as f64 / f64::from(1 << 20)),
        ])
    })
    .await
}

/// Starts the process on what is there.
async fn first_ack(subject: &mut Subject, topic: &Topic) -> Result<f64> {
    let began = subject.launch()?;
    until_acknowledged(subject, topic, began).await?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    subject.is_ours()?;
    Ok(took)
}

async fn until_acknowledged(subject: &mut Subject, topic: &Topic, began: Instant) -> Result<()> {
    let record = Load {
        shape: crate::batches::Shape {
            record_bytes: 10,
            batch_bytes: 1,
            compression: protocol::compression::Compression::None,
            stamped: false,
        },
        connections: 1,
        partitions_per_request: 1,
        tolerant: true,
        ..usual(subject, topic, Amount { bytes: Some(1), seconds: None })
    };
    while began.elapsed() < FIRST_ACK_MAX {
        // A broker that starts refuses, closes, or says that it does not lead yet.
        if load::run(&record).await.is_ok_and(|outcome| outcome.batches == 1) {
            return Ok(());
        }
        subject.is_well(began)?;
        tokio::time::sleep(PAUSE).await;
    }
    anyhow::bail!("no acknowledgement within {FIRST_ACK_MAX:?}")
}

async fn killed_under_load(subject: &mut Subject, topic: &Topic) -> Result<()> {
    let load = usual(subject, topic, Amount { bytes: None, seconds: Some(LOAD_SECONDS) });
    let loading = tokio::spawn(async move { load::run(&load).await });
    tokio::time::sleep(KILL_AFTER).await;
    subject.kill()?;
    ensure!(loading.await?.is_err(), "the load was over before the kill");
    Ok(())
}
