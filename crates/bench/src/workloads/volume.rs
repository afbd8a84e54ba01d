//! Workload 12: small batches on a disk that lets few writes pass.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{produce, warmed};
use crate::run::{Case, Run};

pub const ABOUT: &str = "The small batches of workload 1 again, where the disk takes 3,000 writes per second, as many as the usual network volume of a \
    cloud does: the kernel holds back what is more (blkio throttling of the subject's process). A local disk syncs in less \
    than a tenth of a millisecond, and what a sync per batch costs hardly shows there. Needs root.";

const WRITES_PER_SECOND: u32 = 3000;
pub const CASES: [(i32, &str); 3] = [(1, "1 partition"), (100, "100 partitions"), (1000, "1,000 partitions")];

pub async fn run(run: &mut Run) -> Result<()> {
    // Before the subjects, so that it goes after them: a group with a process in it stays.
    let volume = Volume::new(&run.plan.places.work)?;
    let mut subjects = warmed(run).await?;
    for subject in &subjects {
        volume.hold(subject.pid()?)?;
    }
    for (partitions, name) in CASES {
        produce::small_batches(run, Case::new(12, name), &mut subjects, partitions).await?;
    }
    Ok(())
}

/// A control group whose writes to the disk of a folder are held back; all processes in it share the writes.
struct Volume {
    groups: PathBuf,
    held: std::cell::RefCell<Vec<PathBuf>>,
    file: &'static str,
    line: String,
}

impl Volume {
    fn new(folder: &Path) -> Result<Volume> {
        let disk = disk_of(folder)?;
        // The first version of control groups has a tree for each controller, the second one has one for all.
        let first = PathBuf::from("/sys/fs/cgroup/blkio");
        let (groups, file, line) = if first.is_dir() {
            (first, "blkio.throttle.write_iops_device", format!("{disk} {WRITES_PER_SECOND}"))
        } else {
            let groups = PathBuf::from("/sys/fs/cgroup");
            std::fs::write(groups.join("cgroup.subtree_control"), "+io").context("no io controller")?;
            (groups, "io.max", format!("{disk} wiops={WRITES_PER_SECOND}"))
        };
        Ok(Volume { groups, held: std::cell::RefCell::default(), file, line })
    }

    /// Each process has a volume of its own.
    fn hold(&self, pid: u32) -> Result<()> {
        let group = self.groups.join(format!("ottla-bench-{pid}"));
        let context = || format!("cannot hold back writes with {}; root can", group.display());
        std::fs::create_dir(&group).with_context(context)?;
        self.held.borrow_mut().push(group.clone());
        std::fs::write(group.join(self.file), &self.line).with_context(context)?;
        std::fs::write(group.join("cgroup.procs"), pid.to_string()).with_context(context)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        for group in self.held.borrow().iter() {
            let _ = std::fs::remove_dir(group);
        }
    }
}

/// Major and minor number of the whole disk: partitions cannot be held back.
fn disk_of(folder: &Path) -> Result<String> {
    let device = std::fs::metadata(folder)?.dev();
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let block = Path::new("/sys/dev/block").join(&number);
    let block = block.canonicalize().with_context(|| format!("{} is on no disk", folder.display()))?;
    if !block.join("partition").exists() {
        return Ok(number);
    }
    let whole = block.parent().context("a partition is in its disk's folder")?.join("dev");
    Ok(std::fs::read_to_string(whole)?.trim().to_owned())
}
