//! Workload 9: a log that is as long as it may be, for minutes: what reaches the disk, and what stays on it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::usual;
use crate::fetch::{Readers, there};
use crate::load::{self, Amount};
use crate::machine::{Foreign, sync_all, syncs_per_second};
use crate::run::{Case, Run, Values};
use crate::subject::{Kind, Subject};
use crate::topic::ensure_topic;

pub const ABOUT: &str = "20 MB/s of 1 KB records on 50 partitions for ten minutes (after one that fills), open loop. A partition keeps 20 MB in segments of \
    10 MB, so that all is rewritten and dropped many times over. Every subject has a file system of its own on a loop device \
    of its own, whose sectors are counted: what the kernel wrote for it, journal and all. One run each, not interleaved.";

pub const CASE: &str = "20 MB/s, 1 GB kept";
pub const DEVICE_BYTES: &str = "bytes written to the device per byte";

const RECORDS_PER_SECOND: f64 = 20_000.0;
pub const SECONDS: f64 = 600.0;
/// Until retention has begun to drop.
const FILL_SECONDS: f64 = 60.0;
const PARTITIONS: i32 = 50;
const FILE_SYSTEM_BYTES: u64 = 12 << 30;
const TOPIC: [(&str, &str); 2] = [("retention.bytes", "20000000"), ("segment.bytes", "10000000")];
const SERVER: [(&str, &str); 1] = [("log.retention.check.interval.ms", "5000")];

pub async fn run(run: &mut Run) -> Result<()> {
    let case = Case::new(9, CASE);
    for kind in run.plan.kinds.clone() {
        sync_all()?;
        let probe = syncs_per_second(&run.plan.places.work)?;
        let foreign = Foreign::watch()?;
        let values = once(run, kind).await.with_context(|| kind.name())?;
        run.keep(&case, kind, 0, &values, foreign.share()?, probe);
    }
    run.results.write(&run.plan.json)
}

async fn once(run: &Run, kind: Kind) -> Result<Values> {
    let device = Device::new(&run.plan.places.work)?;
    let mut subject = Subject::within(kind, &run.plan.places, &SERVER, &device.mounted)?;
    subject.start()?;
    let topic = ensure_topic(&subject.address, "steady", PARTITIONS, &TOPIC).await?;
    let mut load = usual(&subject, &topic, Amount { bytes: None, seconds: Some(FILL_SECONDS) });
    load.rate = Some(RECORDS_PER_SECOND);
    load.in_flight = 1000;
    load::run(&load).await?;
    device.sync()?;
    let written_before = device.written()?;
    let watched = run.watch(&subject)?;
    load.amount.seconds = Some(run.plan.steady_seconds);
    let produced = load::run(&load).await?;
    let (used, _) = watched.usage()?;
    device.sync()?;
    let written = device.written()? - written_before;
    let live = there(&Readers::new(&subject.address, &topic)).await? as f64 / produced.records as f64
        * produced.bytes as f64;
    let space = device.used_bytes()?;
    subject.stop()?;
    Ok(vec![
        (DEVICE_BYTES, written as f64 / produced.bytes as f64),
        ("space used per live byte", space as f64 / live),
        ("CPU-s per GB", used.cpu_seconds() / produced.gigabytes()),
        ("produce p50 ms", produced.latency.p50_ms),
        ("produce p99 ms", produced.latency.p99_ms),
        ("produce p99.9 ms", produced.latency.p999_ms),
        ("resident peak, MiB", used.resident_peak_bytes as f64 / f64::from(1 << 20)),
    ])
}

/// An ext4 file system on a loop device, gone when it is dropped. Needs root.
struct Device {
    image: PathBuf,
    node: String,
    mounted: PathBuf,
    empty_bytes: u64,
}

impl Device {
    fn new(work: &Path) -> Result<Device> {
        let (image, mounted) = (work.join("image"), work.join("mounted"));
        std::fs::File::create(&image)?.set_len(FILE_SYSTEM_BYTES)?;
        std::fs::create_dir_all(&mounted)?;
        let path = |path: &Path| path.display().to_string();
        // Everything is made now: an inode table that is made later would count as the subject's.
        let now = "lazy_itable_init=0,lazy_journal_init=0";
        told("mkfs.ext4", &["-q", "-F", "-E", now, &path(&image)])?;
        let node = told("losetup", &["--find", "--show", &path(&image)])?;
        let mut device = Device { image, node, mounted, empty_bytes: 0 };
        told("mount", &[&device.node, &path(&device.mounted)])?;
        device.sync()?;
        device.empty_bytes = device.used_bytes()?;
        Ok(device)
    }

    fn sync(&self) -> Result<()> {
        told("sync", &["-f", &self.mounted.display().to_string()]).map(|_| ())
    }

    /// Bytes that the device was told to write since it exists.
    fn written(&self) -> Result<u64> {
        const SECTORS_WRITTEN: usize = 6;
        const SECTOR_BYTES: u64 = 512;
        let name = self.node.trim_start_matches("/dev/");
        let stat = std::fs::read_to_string(format!("/sys/block/{name}/stat"))?;
        let field = stat.split_whitespace().nth(SECTORS_WRITTEN).context("the device counts its writes")?;
        Ok(field.parse::<u64>()? * SECTOR_BYTES)
    }

    fn used_bytes(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.mounted)?;
        Ok(((stat.f_blocks - stat.f_bfree) * stat.f_frsize).saturating_sub(self.empty_bytes))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = told("umount", &[&self.mounted.display().to_string()]);
        let _ = told("losetup", &["--detach", &self.node]);
        let _ = std::fs::remove_file(&self.image);
    }
}

fn told(program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("cannot start {program}"))?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
