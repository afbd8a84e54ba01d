//! Workload 4: a reader that was away reads from the disk while producers go on.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rustix::fs::Advice;

use super::{delete, topic, usual, warmed_of};
use crate::fetch::{self, Readers, Until};
use crate::load::{self, Amount};
use crate::machine::sync_all;
use crate::run::{Case, Run};

pub const ABOUT: &str = "2 GB of 1 KB records on ten partitions, dropped from the page cache, are read by one group while 20 MB/s \
    are produced into another topic; before that, the same load alone.";

const LOG_BYTES: u64 = 2_000_000_000;
const RECORDS_PER_SECOND: f64 = 20_000.0;
const SECONDS: f64 = 10.0;
const READ_MAX: Duration = Duration::from_secs(300);

pub async fn run(run: &mut Run) -> Result<()> {
    let mut subjects = warmed_of(run, &run.one_of_each()).await?;
    for subject in &subjects {
        let old = topic(subject, "old", 10).await?;
        load::run(&usual(subject, &old, Amount { bytes: Some(LOG_BYTES), seconds: Some(600.0) })).await?;
    }
    run.rounds(&Case::new(4, "2 GB beside 20 MB/s"), &mut subjects, async |run, subject| {
        let old = topic(subject, "old", 10).await?;
        let new = topic(subject, "new", 10).await?;
        let mut load = usual(subject, &new, Amount { bytes: None, seconds: Some(SECONDS) });
        load.rate = Some(RECORDS_PER_SECOND);
        load.partitions_per_request = 1;
        load.in_flight = 1000;
        let alone = load::run(&load).await?;
        sync_all()?;
        drop_from_cache(&subject.folder)?;
        let readers = Readers::new(&subject.address, &old);
        let there = fetch::there(&readers).await?;
        let watched = run.watch(subject)?;
        let producing = tokio::spawn(async move { load::run(&load).await });
        let readers = fetch::start(&readers).await?;
        let fetched = readers.finish(Until::Records(there), READ_MAX).await?;
        let beside = producing.await??;
        let (used, _) = watched.usage()?;
        Ok(vec![
            ("read, MB/s", fetched.bytes as f64 / 1e6 / fetched.seconds),
            ("produce p99 ms alone", alone.latency.p99_ms),
            ("produce p99 ms beside", beside.latency.p99_ms),
            (
                "CPU-s per GB read and written",
                used.cpu_seconds() / (fetched.gigabytes() + beside.gigabytes()),
            ),
            ("disk bytes read per byte", used.read_bytes as f64 / fetched.bytes as f64),
            ("resident peak, MiB", used.resident_peak_bytes as f64 / f64::from(1 << 20)),
        ])
    })
    .await?;
    delete(&subjects, "old").await
}

/// Only this subject's files: what others have cached stays, and nobody needs to be root.
fn drop_from_cache(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            drop_from_cache(&path)?;
        } else if let Ok(file) = std::fs::File::open(&path) {
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
