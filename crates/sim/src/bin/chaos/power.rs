//! Power cuts on a real file system: the broker works on an ext4 image of its own; a cut is ext4's shutdown ioctl without flushing
//! the journal, then kill -9, unmount, mount (the journal is replayed), start. What was not synced is gone, as after a pulled plug.
//!
//! Half of the cuts come at random moments from outside. The other half come from inside, at a step of the broker's own (after a
//! write, a sync, a rename, a directory sync; see `world::disk`'s feature `failpoints`), where a missing sync would show.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::{Rng, SeedableRng};
use sim::history;

use crate::Power;
use crate::broker::{Broker, Settings, free_port, last_words};
use crate::kill::report;
use crate::producers::{Families, Load, run as run_command};

/// How long a cut from inside may wait for its step before the plug is pulled from outside.
const STEP_WAIT_MAX: Duration = Duration::from_millis(1500);
/// With each the n-th occurrence at most that is drawn; rare steps come with small numbers.
const STEPS: [(&str, u32); 4] =
    [("after-write", 400), ("after-sync", 400), ("after-rename", 3), ("after-directory-sync", 3)];
const IMAGE_BYTES: u64 = 6 << 30;

struct FileSystem {
    image: PathBuf,
    mount: PathBuf,
}

impl FileSystem {
    fn create(work: &Path) -> anyhow::Result<FileSystem> {
        let (image, mount) = (work.join("ext4.image"), work.join("mount"));
        File::create(&image)?.set_len(IMAGE_BYTES)?;
        run_command(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=1"]).arg(&image))?;
        std::fs::create_dir(&mount)?;
        let file_system = FileSystem { image, mount };
        file_system.mount()?;
        Ok(file_system)
    }

    fn mount(&self) -> anyhow::Result<()> {
        run_command(Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.mount]))
    }

    fn unmount(&self) -> anyhow::Result<()> {
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
    fn cut(&self) -> anyhow::Result<()> {
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

pub fn run(args: &Power) -> anyhow::Result<()> {
    if let Err(why) = possible() {
        println!("skipped: {why:#}");
        // On CI a skip is a failure: a promise that nobody checked is not kept.
        ensure!(std::env::var_os("CI").is_none(), "power cuts must not be skipped on CI");
        return Ok(());
    }
    let common = &args.common;
    let families = Families::build(common.clients_home.as_deref())?;
    let work = tempfile::tempdir()?;
    let file_system = FileSystem::create(work.path())?;
    let port = free_port()?;
    let settings = Settings {
        bin: common.bin.clone(),
        data: file_system.mount.join("data"),
        log: work.path().join("broker.log"),
        port,
        partitions: common.partitions,
        extra: vec![("log.retention.ms".into(), "-1".into())],
    };
    let load = Load {
        work: work.path().to_path_buf(),
        address: format!("127.0.0.1:{port}"),
        topic: "chaos".into(),
        partitions: common.partitions,
        rate: common.rate,
    };
    let control: Vec<(&str, String)> =
        args.control.iter().map(|c| ("OTTLA_NEGATIVE_CONTROL", c.clone())).collect();
    let mut random = rand::rngs::StdRng::seed_from_u64(common.seed);
    let mut broker = Broker::start(&settings, &control)?;
    ensure!(broker.ready(port)?, "the broker does not start: {}", last_words(&settings.log));
    let mut producers = families.start(&load)?;
    let mut cuts_at = std::collections::BTreeMap::<&str, u32>::new();
    let mut cuts_under_load = 0;
    let mut before = 0;
    // The step at which the broker running now pulls the plug by itself.
    let mut armed: Option<&str> = None;
    for cut in 1..=args.cuts {
        let deadline = Instant::now()
            + if armed.is_some() {
                STEP_WAIT_MAX
            } else {
                Duration::from_millis(random.random_range(0..700))
            };
        while Instant::now() < deadline && broker.alive()? {
            std::thread::sleep(Duration::from_millis(1));
        }
        if broker.alive()? {
            file_system.cut()?;
            *cuts_at.entry("outside").or_default() += 1;
        } else {
            let step = armed.with_context(|| {
                format!("cut {cut}: the broker ended by itself: {}", last_words(&settings.log))
            })?;
            *cuts_at.entry(step).or_default() += 1;
        }
        broker.kill()?;
        let told = producers.told()?;
        cuts_under_load += u32::from(told > before);
        before = told;
        file_system.unmount()?;
        file_system.mount()?;
        let mut environment = control.clone();
        armed = None;
        if cut % 2 == 1 && cut < args.cuts {
            let (step, most) = STEPS[(cut as usize / 2) % STEPS.len()];
            armed = Some(step);
            environment.push(("OTTLA_CUT_AT", format!("{step}:{}", random.random_range(1..=most))));
        }
        broker = Broker::start(&settings, &environment)?;
        if !broker.ready(port)? {
            if armed.is_some() {
                // The step was reached during recovery or start; the next round counts it.
                continue;
            }
            let words = last_words(&settings.log);
            if let Some(control) = &args.control {
                println!("control {control}: caught, the broker refuses to start:\n{words}");
                return Ok(());
            }
            anyhow::bail!("cut {cut}: the broker does not come back: {words}");
        }
        if args.control.is_none() {
            producers.check_running()?;
        }
        if cut % 20 == 0 {
            eprintln!("{cut} cuts {cuts_at:?}, {} KiB of delivery reports", told >> 10);
        }
    }
    let outcome = producers.finish().and_then(|acknowledged| {
        let log = families.read_all(&load)?;
        Ok(history::check(&acknowledged, &log))
    });
    broker.stop()?;
    if let Some(control) = &args.control {
        return match outcome {
            Ok(Err(violations)) => {
                println!(
                    "control {control}: caught, {} violations, the first: {}",
                    violations.len(),
                    violations[0]
                );
                Ok(())
            }
            // A producer that meets a log gone back in time ends with a fatal error of its own: caught too.
            Err(error) => {
                println!("control {control}: caught, {error:#}");
                Ok(())
            }
            Ok(Ok(_)) => anyhow::bail!("control {control}: not caught in {} cuts", args.cuts),
        };
    }
    ensure!(cuts_under_load * 3 >= args.cuts, "only {cuts_under_load} of {} cuts met deliveries", args.cuts);
    report(&format!("{} power cuts {cuts_at:?}", args.cuts), outcome?)
}

/// Root, loop devices and ext4 are needed.
fn possible() -> anyhow::Result<()> {
    let id = Command::new("id").arg("-u").output().context("cannot run id")?;
    ensure!(id.stdout.starts_with(b"0\n"), "power cuts need root (mount, loop devices)");
    ensure!(Path::new("/dev/loop-control").exists(), "power cuts need loop devices");
    run_command(Command::new("mkfs.ext4").arg("-V")).context("power cuts need mkfs.ext4")
}
