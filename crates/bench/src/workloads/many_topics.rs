//! Workload 6: 10,000 topics.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use client::NewTopic;

use crate::process::resident_bytes;
use crate::run::{Case, Run};
use crate::subject::Subject;
use crate::topic::admin;

pub const ABOUT: &str = "Topics of one partition, 500 in a request, one request after the other, on a fresh directory, until Metadata has them all; then \
    Metadata of all of them (median of five); then the memory that a topic adds, and again after a restart. Two rounds.";

pub const CASE: &str = "10,000 topics";
pub const CREATE: &str = "create, s";
pub const PER_PARTITION: &str = "KiB per idle partition";
pub const PER_PARTITION_RESTARTED: &str = "KiB per idle partition, restarted";

const TOPICS: usize = 10_000;
const TOPICS_PER_REQUEST: usize = 500;
const SETTLE: Duration = Duration::from_secs(5);
const KNOWN_MAX: Duration = Duration::from_secs(120);
const ROUNDS: usize = 2;
const ASKED: usize = 5;

pub async fn run(run: &mut Run) -> Result<()> {
    let rounds = std::mem::replace(&mut run.plan.rounds, ROUNDS);
    let mut subjects = Vec::new();
    for kind in run.one_of_each() {
        subjects.push(Subject::new(kind, &run.plan.places, &[])?);
    }
    let done = run
        .rounds(&Case::new(6, CASE), &mut subjects, async |run, subject| {
            *subject = Subject::new(subject.kind, &run.plan.places, &[])?;
            subject.start()?;
            // Once down and up: what a start leaves behind is in both figures.
            subject.stop()?;
            subject.start()?;
            tokio::time::sleep(SETTLE).await;
            let none = resident_bytes(subject.pid()?)?;
            let watched = run.watch(subject)?;
            let create_seconds = create(subject).await?;
            let (used, _) = watched.usage()?;
            tokio::time::sleep(SETTLE).await;
            let made = resident_bytes(subject.pid()?)?;
            let metadata_ms = metadata(subject).await?;
            subject.stop()?;
            subject.start()?;
            tokio::time::sleep(SETTLE).await;
            ensure!(
                admin(&subject.address).topics().await?.len() >= TOPICS,
                "topics are missing after the restart"
            );
            let restarted = resident_bytes(subject.pid()?)?;
            subject.kill()?;
            let kibibytes = |bytes: u64| bytes.saturating_sub(none) as f64 / 1024.0 / TOPICS as f64;
            Ok(vec![
                (CREATE, create_seconds),
                ("CPU-s to create", used.cpu_seconds()),
                ("Metadata, ms", metadata_ms),
                (PER_PARTITION, kibibytes(made)),
                (PER_PARTITION_RESTARTED, kibibytes(restarted)),
            ])
        })
        .await;
    run.plan.rounds = rounds;
    done
}

async fn create(subject: &Subject) -> Result<f64> {
    let admin = admin(&subject.address);
    let began = Instant::now();
    for first in (0..TOPICS).step_by(TOPICS_PER_REQUEST) {
        let topics = (first..first + TOPICS_PER_REQUEST)
            .map(|number| NewTopic::new(format!("topic-{number:05}")).partitions(1).replication_factor(1))
            .collect();
        for created in admin.create_topics(topics, false).await? {
            created?;
        }
    }
    all_known(subject).await?;
    Ok(began.elapsed().as_secs_f64())
}

/// A Kafka answers before its brokers have heard of what it made.
async fn all_known(subject: &Subject) -> Result<()> {
    let (admin, began) = (admin(&subject.address), Instant::now());
    while admin.topics().await?.len() < TOPICS {
        ensure!(began.elapsed() < KNOWN_MAX, "topics are missing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn metadata(subject: &Subject) -> Result<f64> {
    let admin = admin(&subject.address);
    let mut took = Vec::new();
    for _ in 0..ASKED {
        let began = Instant::now();
        ensure!(admin.topics().await?.len() >= TOPICS, "topics are missing");
        took.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(crate::stats::median(&took))
}
