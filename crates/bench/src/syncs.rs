//! How often a process calls fsync and its kin: counted by the kernel for any program alike, threads that come later
//! included, at next to no cost. (strace would stop the process at each call; an LD_PRELOAD sees no raw system call.)

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const EVENTS: &str = "syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync,syscalls:sys_enter_sync_file_range,\
                      syscalls:sys_enter_msync,syscalls:sys_enter_syncfs";
/// perf says nothing when it has attached.
const ATTACH: Duration = Duration::from_millis(300);

/// A count under way. Without perf, or without the right to use it, there is none.
pub struct Count {
    perf: Child,
}

/// Whether syncs can be counted here.
pub fn can_count() -> bool {
    Command::new("perf")
        .args(["stat", "-x", ",", "-e", EVENTS, "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

impl Count {
    pub fn start(pid: u32) -> Result<Count> {
        let perf = Command::new("perf")
            .args(["stat", "-x", ",", "-e", EVENTS, "-p", &pid.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start perf")?;
        std::thread::sleep(ATTACH);
        Ok(Count { perf })
    }

    pub fn finish(self) -> Result<u64> {
        let status = Command::new("kill").args(["-INT", &self.perf.id().to_string()]).status()?;
        anyhow::ensure!(status.success(), "perf ended by itself");
        let output = self.perf.wait_with_output()?;
        sum(&String::from_utf8_lossy(&output.stderr))
    }
}

/// Adds up perf's lines: count, unit, event, ….
fn sum(output: &str) -> Result<u64> {
    let mut sum = 0;
    let mut lines = 0;
    for line in output.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        if fields.len() < 3 || !fields[2].starts_with("syscalls:") {
            continue;
        }
        lines += 1;
        // Nobody called it: perf says that it did not count.
        if fields[0] != "<not counted>" {
            sum += fields[0].parse::<u64>().with_context(|| format!("perf says {line}"))?;
        }
    }
    if lines == 0 {
        bail!("perf counted nothing: {output}");
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfs_lines_are_added_up() {
        let output = "7,,syscalls:sys_enter_fsync,6231866,100.00,,\n50,,syscalls:sys_enter_fdatasync,6231866,100.00,,\n\
                      <not counted>,,syscalls:sys_enter_msync,0,100.00,,\n";
        assert_eq!(sum(output).unwrap(), 57);
        assert!(sum("event syntax error").is_err());
        assert!(sum("<not supported>,,syscalls:sys_enter_fsync,0,100.00,,").is_err());
    }
}
