//! What a process and all below it used, as Linux counts it in /proc.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// Clock ticks of /proc: 100 on every Linux that runs on anything but an Alpha.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

/// Counters that only grow; two of them give what was used in between.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    user_seconds: f64,
    system_seconds: f64,
    read_bytes: u64,
    write_bytes: u64,
    context_switches: u64,
}

/// What Ottla's metrics page counts.
#[derive(Clone, Copy, Debug)]
struct Page {
    /// Of files and of directories.
    syncs: u64,
    /// Not of an Ottla that is older than the count.
    allocations: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// From and to the disk, as the kernel charges them to the process.
    pub read_bytes: u64,
    pub write_bytes: u64,
    /// Of threads that are still there.
    pub context_switches: u64,
    pub resident_peak_bytes: u64,
    /// Where somebody counts them.
    pub syncs: Option<u64>,
    pub allocations: Option<u64>,
}

impl Usage {
    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// A process that is being watched.
pub struct Watch {
    pid: u32,
    /// Without what is below it.
    alone: bool,
    metrics: Option<String>,
    before: Counters,
    page_before: Option<Page>,
    /// Allocations that making the page takes.
    page_allocations: u64,
}

impl Watch {
    /// From now on. `metrics` is the address of Ottla's metrics page, for syncs and allocations.
    pub fn start(pid: u32, metrics: Option<String>) -> Result<Watch> {
        // The page is not part of what is watched: it is made before the counters are read, and twice, because its own
        // allocations, thousands with thousands of partitions, come after it has told their number.
        let mut page_before = metrics.as_deref().map(Page::read).transpose()?;
        let mut page_allocations = 0;
        if let (Some(first), Some(address)) = (page_before, &metrics) {
            let second = Page::read(address)?;
            page_allocations = first.allocations_until(&second).unwrap_or(0);
            page_before = Some(second);
        }
        // The peak starts anew; where the kernel does not let us, it is that of the whole life.
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
        let before = counters(&tree(pid)?);
        Ok(Watch { pid, alone: false, metrics, before, page_before, page_allocations })
    }

    /// This process without its children: the subjects may be among them.
    pub fn this_process() -> Result<Watch> {
        let pid = std::process::id();
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let before = counters(&[pid]);
        Ok(Watch { pid, alone: true, metrics: None, before, page_before: None, page_allocations: 0 })
    }

    pub fn usage(&self) -> Result<Usage> {
        let all = if self.alone { vec![self.pid] } else { tree(self.pid)? };
        let (before, after) = (&self.before, counters(&all));
        let peak =
            all.iter().filter_map(|pid| status(*pid, "VmHWM:")).map(|kibibytes| kibibytes * 1024).sum();
        let page_after = self.metrics.as_deref().map(Page::read).transpose()?;
        let pages = self.page_before.zip(page_after);
        Ok(Usage {
            user_seconds: after.user_seconds - before.user_seconds,
            system_seconds: after.system_seconds - before.system_seconds,
            read_bytes: after.read_bytes.saturating_sub(before.read_bytes),
            write_bytes: after.write_bytes.saturating_sub(before.write_bytes),
            context_switches: after.context_switches.saturating_sub(before.context_switches),
            resident_peak_bytes: peak,
            syncs: pages.map(|(before, after)| after.syncs - before.syncs),
            allocations: pages
                .and_then(|(before, after)| before.allocations_until(&after))
                .map(|allocations| allocations.saturating_sub(self.page_allocations)),
        })
    }
}

/// Resident memory of a process and all below it.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    Ok(tree(pid)?.iter().filter_map(|pid| status(*pid, "VmRSS:")).sum::<u64>() * 1024)
}

fn counters(pids: &[u32]) -> Counters {
    let mut sum = Counters::default();
    for pid in pids.iter().copied() {
        // One that ended meanwhile is in its parent's sum of ended children.
        let Ok(stat) = stat(pid) else { continue };
        sum.user_seconds += (stat.ticks[0] + stat.ticks[2]) as f64 / TICKS_PER_SECOND;
        sum.system_seconds += (stat.ticks[1] + stat.ticks[3]) as f64 / TICKS_PER_SECOND;
        if let Ok(io) = std::fs::read_to_string(format!("/proc/{pid}/io")) {
            sum.read_bytes += field(&io, "read_bytes:").unwrap_or(0);
            sum.write_bytes += field(&io, "write_bytes:").unwrap_or(0);
        }
        sum.context_switches += switches(pid);
    }
    sum
}

pub(crate) struct Stat {
    parent: u32,
    /// User, system, and both of children that have ended and were waited for.
    pub(crate) ticks: [u64; 4],
}

pub(crate) fn stat(pid: u32) -> Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold anything, spaces and brackets too.
    let (_, rest) = text.rsplit_once(')').context("stat has a name in brackets")?;
    let fields: Vec<u64> = rest.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
    Ok(Stat { parent: fields[1] as u32, ticks: [fields[11], fields[12], fields[13], fields[14]] })
}

/// A process and all below it.
pub(crate) fn tree(root: u32) -> Result<Vec<u32>> {
    let mut all: Vec<(u32, u32)> = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok())
            && let Ok(stat) = stat(pid)
        {
            all.push((pid, stat.parent));
        }
    }
    anyhow::ensure!(all.iter().any(|(pid, _)| *pid == root), "there is no process {root}");
    let mut tree = vec![root];
    let mut next = 0;
    while next < tree.len() {
        let parent = tree[next];
        tree.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(tree)
}

fn switches(pid: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .map(|status| {
            field(&status, "voluntary_ctxt_switches:").unwrap_or(0)
                + field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0)
        })
        .sum()
}

fn status(pid: u32, name: &str) -> Option<u64> {
    field(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, name)
}

/// The number behind a name that begins a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Page {
    fn read(address: &str) -> Result<Page> {
        let page = page(address).with_context(|| format!("no metrics at {address}"))?;
        let of = |name| field(&page, name).with_context(|| format!("the page has no {name}"));
        Ok(Page {
            syncs: of("ottla_disk_syncs_total ")? + of("ottla_disk_directory_syncs_total ")?,
            allocations: field(&page, "ottla_allocations_total "),
        })
    }

    fn allocations_until(&self, later: &Page) -> Option<u64> {
        Some(later.allocations?.saturating_sub(self.allocations?))
    }
}

fn page(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_charged_with_its_parent_while_it_lives_and_after() {
        let watch = Watch::start(std::process::id(), None).unwrap();
        // 30 ticks of a shell that counts.
        let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let status = std::process::Command::new("sh").args(["-c", script]).status().unwrap();
        assert!(status.success());
        let usage = watch.usage().unwrap();
        assert!(usage.cpu_seconds() > 0.0, "{usage:?}");
        assert!(usage.resident_peak_bytes > 1 << 20, "{usage:?}");
        assert!(Watch::start(u32::MAX, None).is_err(), "there is no such process");
    }

    #[test]
    fn names_are_whole_names() {
        let status = "voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t7\nVmHWM:\t  1024 kB\n";
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(5));
        assert_eq!(field(status, "VmHWM:"), Some(1024));
        assert_eq!(field(status, "VmRSS:"), None);
    }
}
