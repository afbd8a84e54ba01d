//! The machine beside the measurement: what others took of it, and what its disk gives.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::process::{TICKS_PER_SECOND, stat, tree};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub cpus: usize,
    pub cpu: String,
    pub memory_gib: f64,
    pub kernel: String,
}

impl Machine {
    pub fn here() -> Machine {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let of = |text: &str, name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
        };
        let memory = of(&read("/proc/meminfo"), "MemTotal:").unwrap_or_default();
        let kibibytes: f64 = memory.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
        Machine {
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            cpu: of(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_default()
                .trim_start_matches([':', ' '])
                .to_owned(),
            memory_gib: kibibytes / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// What of the machine's time was neither ours, nor our children's (so of no subject), nor the kernel's own threads'.
pub struct Foreign {
    before: f64,
    at: Instant,
}

impl Foreign {
    /// From now on.
    pub fn watch() -> Result<Foreign> {
        Ok(Foreign { before: foreign_seconds()?, at: Instant::now() })
    }

    /// The share of all processors' time since then.
    pub fn share(&self) -> Result<f64> {
        let cpus = std::thread::available_parallelism().map_or(1, Into::into);
        let machine = self.at.elapsed().as_secs_f64() * cpus as f64;
        Ok(((foreign_seconds()? - self.before) / machine).max(0.0))
    }
}

/// Kernel threads are its children: writing back what a subject wrote is not foreign.
const KERNEL_THREADS: u32 = 2;

/// Busy seconds of all processors since they started, without those of known processes. Time that a hypervisor took away
/// counts as busy: it is foreign. A child that has ended is in our own count of ended children.
fn foreign_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat has a first line")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let mut foreign = ticks.iter().take(8).sum::<f64>() - ticks[3] - ticks[4];
    for root in [std::process::id(), KERNEL_THREADS] {
        for pid in tree(root).unwrap_or_default() {
            foreign -= stat(pid).map_or(0, |stat| stat.ticks.iter().sum::<u64>()) as f64;
        }
    }
    Ok(foreign / TICKS_PER_SECOND)
}

const PROBE: Duration = Duration::from_millis(300);
const PROBE_BYTES: usize = 4096;
const PROBE_FILE_BYTES: u64 = 4 << 20;

/// Writes of 4 KiB with fdatasync, one after the other, into a file that is there: per second. What the disk lets pass at
/// this moment, whoever asks.
pub fn syncs_per_second(folder: &Path) -> Result<f64> {
    let path = folder.join("sync-probe");
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&vec![0; PROBE_FILE_BYTES as usize])?;
    file.sync_all()?;
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < PROBE {
        file.write_all_at(&[count as u8; PROBE_BYTES], count * PROBE_BYTES as u64 % PROBE_FILE_BYTES)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

/// What earlier runs left in the page cache is not written at the next one's cost.
pub fn sync_all() -> Result<()> {
    let status = std::process::Command::new("sync").status().context("cannot start sync")?;
    anyhow::ensure!(status.success(), "sync failed");
    Ok(())
}
