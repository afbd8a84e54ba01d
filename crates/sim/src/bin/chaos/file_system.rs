//! An ext4 image on a loop device, with a plug to pull.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::producers::run as run_command;

pub struct FileSystem {
    image: PathBuf,
    pub mount: PathBuf,
}

impl FileSystem {
    pub fn create(work: &Path, bytes: u64) -> anyhow::Result<FileSystem> {
        let (image, mount) = (work.join("ext4.image"), work.join("mount"));
        File::create(&image)?.set_len(bytes)?;
        run_command(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=1"]).arg(&image))?;
        std::fs::create_dir(&mount)?;
        let file_system = FileSystem { image, mount };
        file_system.mount()?;
        Ok(file_system)
    }

    pub fn mount(&self) -> anyhow::Result<()> {
        run_command(Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.mount]))
    }

    pub fn unmount(&self) -> anyhow::Result<()> {
        // The killed broker's last write may hold the mount for a moment.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match run_command(Command::new("umount").arg(&self.mount)) {
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
                Ok(()) => return Ok(()),
            }
        }
    }

    #[allow(unsafe_code)]
    pub fn cut(&self) -> anyhow::Result<()> {
        const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
        const NO_LOG_FLUSH: u32 = 2;
        let directory = File::open(&self.mount)?;
        // SAFETY: the request reads one u32 through the pointer, which lives across the call.
        let result = unsafe { libc::ioctl(directory.as_raw_fd(), EXT4_IOC_SHUTDOWN, &NO_LOG_FLUSH) };
        ensure!(result == 0, "ext4 shutdown: {}", std::io::Error::last_os_error());
        Ok(())
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        let _ = run_command(Command::new("umount").arg("-l").arg(&self.mount));
    }
}

/// Where it is not possible the run is skipped; but on CI a skip is a failure: a promise that nobody checked is not kept.
pub fn possible() -> anyhow::Result<bool> {
    let Err(why) = needed() else { return Ok(true) };
    println!("skipped: {why:#}");
    ensure!(std::env::var_os("CI").is_none(), "this must not be skipped on CI");
    Ok(false)
}

/// Root, loop devices and ext4 are needed.
fn needed() -> anyhow::Result<()> {
    let id = Command::new("id").arg("-u").output().context("cannot run id")?;
    ensure!(id.stdout.starts_with(b"0\n"), "this needs root (mount, loop devices)");
    ensure!(Path::new("/dev/loop-control").exists(), "this needs loop devices");
    run_command(Command::new("mkfs.ext4").arg("-V")).context("this needs mkfs.ext4")
}
