//! Power cuts on a real file system: the broker works on an ext4 image of its own; a cut is ext4's shutdown ioctl without flushing
//! the journal, then kill -9, unmount, mount (the journal is replayed), start. What was not synced is gone, as after a pulled plug.
//!
//! A third of the cuts comes from outside at random moments, some of them while the broker starts. The others come from
//! inside, at a step of the broker's own (after a write, a sync, a rename, a directory sync; see `world::disk`'s feature
//! `failpoints`): one of the first of its life, which is recovery and start, or the next one after a random time of load.
//! WAL files are as short as they may be and are rewritten at once, so that a life of a second comes to every step.
//!
//! What a missing directory sync costs on ext4: fdatasync of a file whose blocks and length were there before does not
//! commit the journal, so the *name* that such a file was given by a rename stays in memory, and with it all that is
//! acknowledged into the file, until something else commits the journal (a file that grows and is synced, or 5 seconds).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rand::{Rng, SeedableRng};
use sim::history::{self, Violation};

use crate::Power;
use crate::broker::{Broker, Settings, free_port, last_words};
use crate::file_system::{self, FileSystem};
use crate::kill::report;
use crate::producers::{Families, Load, Producers, Work};

/// How long a cut from inside may wait for its step before the plug is pulled from outside.
const STEP_WAIT_MAX: Duration = Duration::from_millis(2500);
const STEPS: [&str; 4] = ["after-write", "after-sync", "after-rename", "after-directory-sync"];
const OUTSIDE: &str = "outside";
/// Which of its kind: recovery and start make this many steps of each kind, or fewer.
const START_STEPS: u64 = 4;
/// Random moments under load, counted from the start or from when the broker answers.
const LOAD_MS: std::ops::Range<u64> = 60..900;
/// Random moments of a start.
const START_MS: std::ops::Range<u64> = 0..50;
/// The shortest that WAL files may be.
const WAL_FILE_BYTES: u64 = 1 << 20;
/// A run of so many cuts must have met every step, or it says nothing of them.
const CUTS_FOR_EVERY_STEP: u32 = 24;
/// What the broker says when data is missing that was durable.
const DAMAGE_WORDS: &str = "was durable, so nothing was cut or changed";
const IMAGE_BYTES: u64 = 6 << 30;

/// How the life of one broker ends.
enum Plan {
    /// At this moment, from outside; of a start the moment counts from its beginning.
    Outside { start: bool, after: Duration },
    /// At a step of its own: `OTTLA_CUT_AT`.
    Step { step: &'static str, at: String },
}

impl Plan {
    fn draw(cut: u32, random: &mut impl Rng) -> Plan {
        let (third, turn) = (cut % 3, cut as usize / 3);
        if third == 0 {
            let start = turn % 3 == 2;
            let range = if start { START_MS } else { LOAD_MS };
            return Plan::Outside { start, after: Duration::from_millis(random.random_range(range)) };
        }
        let step = STEPS[turn % STEPS.len()];
        let at = match third {
            1 => format!("{step}:{}", random.random_range(1..=START_STEPS)),
            _ => format!("{step}@{}", random.random_range(LOAD_MS)),
        };
        Plan::Step { step, at }
    }
}

/// Cuts by step, those of a start and those under load.
#[derive(Default)]
struct Counts(BTreeMap<&'static str, (u32, u32)>);

impl Counts {
    fn add(&mut self, step: &'static str, at_start: bool) {
        let (start, load) = self.0.entry(step).or_default();
        *if at_start { start } else { load } += 1;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each: Vec<String> = self
            .0
            .iter()
            .map(|(step, (start, load))| format!("{step} {} ({start} during start)", start + load))
            .collect();
        write!(f, "[{}]", each.join(", "))
    }
}

struct Machine {
    file_system: FileSystem,
    settings: Settings,
    environment: Vec<(&'static str, String)>,
}

impl Machine {
    fn start(&self, plan: Option<&Plan>) -> anyhow::Result<Broker> {
        let mut environment = self.environment.clone();
        if let Some(Plan::Step { at, .. }) = plan {
            environment.push(("OTTLA_CUT_AT", at.clone()));
        }
        Broker::start(&self.settings, &environment)
    }

    /// Lets the broker live until its plan is fulfilled; says at which step the power went, and whether during start.
    fn cut(&self, broker: &mut Broker, plan: &Plan) -> anyhow::Result<(&'static str, bool)> {
        if let Plan::Outside { start: true, after } = plan {
            std::thread::sleep(*after);
            ensure!(broker.alive()?, "it ended by itself during start: {}", last_words(&self.settings.log));
            self.file_system.cut()?;
            return Ok((OUTSIDE, true));
        }
        let at_start = !broker.ready(self.settings.port)?;
        let wait = match plan {
            Plan::Outside { after, .. } => *after,
            Plan::Step { .. } => STEP_WAIT_MAX,
        };
        let deadline = Instant::now() + wait;
        while Instant::now() < deadline && broker.alive()? {
            std::thread::sleep(Duration::from_millis(1));
        }
        if broker.alive()? {
            self.file_system.cut()?;
            return Ok((OUTSIDE, false));
        }
        match plan {
            Plan::Step { step, .. } if broker.cut_itself()? => Ok((step, at_start)),
            _ => bail!("the broker ended by itself: {}", last_words(&self.settings.log)),
        }
    }

    fn power_back(&self) -> anyhow::Result<()> {
        self.file_system.unmount()?;
        self.file_system.mount()
    }
}

pub fn run(args: &Power) -> anyhow::Result<()> {
    if !file_system::possible()? {
        return Ok(());
    }
    let common = &args.common;
    let families = Families::build(common.clients_home.as_deref())?;
    let work = Work::new()?;
    let file_system = FileSystem::create(work.path(), IMAGE_BYTES)?;
    let port = free_port()?;
    let settings = Settings {
        bin: common.bin.clone(),
        data: file_system.mount.join("data"),
        log: work.path().join("broker.log"),
        port,
        namespace: None,
        partitions: common.partitions,
        extra: vec![
            ("log.retention.ms".into(), "-1".into()),
            ("log.wal.file.min.bytes".into(), WAL_FILE_BYTES.to_string()),
            ("log.wal.file.max.bytes".into(), WAL_FILE_BYTES.to_string()),
        ],
    };
    let load = Load {
        work: work.path().to_path_buf(),
        address: format!("127.0.0.1:{port}"),
        topic: "chaos".into(),
        partitions: common.partitions,
        rate: common.rate,
    };
    let environment = match &args.control {
        // Rewriting syncs files that grow, and with them the names that the control leaves unsynced.
        Some(control) => vec![("OTTLA_NEGATIVE_CONTROL", control.clone())],
        None => vec![("OTTLA_REWRITE_SOON", "1".into())],
    };
    let machine = Machine { file_system, settings, environment };
    let mut random = rand::rngs::StdRng::seed_from_u64(common.seed);
    let mut plan = Plan::Outside { start: false, after: Duration::from_secs(2) };
    let mut broker = machine.start(None)?;
    ensure!(broker.ready(port)?, "the broker does not start: {}", last_words(&machine.settings.log));
    let mut producers = families.start(&load)?;
    let mut counts = Counts::default();
    let (mut cuts_under_load, mut before) = (0, 0);
    let mut refused = None;
    for cut in 1..=args.cuts {
        match machine.cut(&mut broker, &plan) {
            Ok((step, at_start)) => counts.add(step, at_start),
            // Whoever breaks the rules may find out by himself.
            Err(why) if args.control.is_some() => {
                refused = Some(why);
                break;
            }
            Err(why) => return Err(why.context(format!("cut {cut}, {counts}"))),
        }
        broker.kill()?;
        let told = producers.told()?;
        cuts_under_load += u32::from(told > before);
        before = told;
        machine.power_back()?;
        plan = Plan::draw(cut, &mut random);
        let next = if cut < args.cuts { Some(&plan) } else { None };
        broker = machine.start(next)?;
        if args.control.is_none() {
            producers.check_running()?;
        }
        if cut % 20 == 0 {
            eprintln!("{cut} cuts {counts}, {} KiB of delivery reports", told >> 10);
        }
    }
    if let Some(control) = &args.control {
        let what =
            format!("control {control}: after {} cuts", counts.0.values().map(|(s, l)| s + l).sum::<u32>());
        if refused.is_none() && !broker.ready(port)? {
            refused = Some(anyhow::anyhow!("{}", last_words(&machine.settings.log)));
        }
        caught(&what, refused, producers, || families.read_readable(&load))?;
        broker.kill()?;
    } else {
        ensure!(broker.ready(port)?, "it does not come back: {}", last_words(&machine.settings.log));
        let acknowledged = producers.finish()?;
        let log = families.read_all(&load)?;
        broker.stop()?;
        let cuts = args.cuts;
        ensure!(cuts_under_load * 3 >= cuts, "only {cuts_under_load} of {cuts} cuts met deliveries");
        for step in STEPS.iter().chain([&OUTSIDE]).filter(|_| cuts >= CUTS_FOR_EVERY_STEP) {
            let (start, under_load) = counts.0.get(step).copied().unwrap_or_default();
            let enough = (start + under_load) * 20 >= cuts && under_load > 0;
            ensure!(enough, "too few of {cuts} cuts came at {step}: {counts}");
        }
        report(&format!("{cuts} power cuts {counts}"), history::check(&acknowledged, &log))?;
    }
    drop(machine);
    work.done()
}

/// A negative control is caught when the checker finds acknowledged records missing, or the broker itself says that
/// something durable is. Anything else is an accident, and fails.
fn caught(
    what: &str,
    refused: Option<anyhow::Error>,
    producers: Producers,
    read: impl FnOnce() -> anyhow::Result<Vec<history::Found>>,
) -> anyhow::Result<()> {
    if let Some(why) = refused {
        let why = format!("{why:#}");
        ensure!(why.contains(DAMAGE_WORDS), "{what}, not by its rule: {why}");
        println!("{what} caught: the broker refuses to start, acknowledged data is missing: {why}");
        return Ok(());
    }
    let acknowledged = producers.told_at_all()?;
    let Err(violations) = history::check(&acknowledged, &read()?) else {
        bail!("{what} not caught, {} acknowledged", acknowledged.len())
    };
    // A lost record whose offset somebody else has got is lost all the same; one that was sent again has moved.
    let lost = violations.iter().find(|v| matches!(v, Violation::Lost { .. } | Violation::Moved { .. }));
    let lost = lost.with_context(|| format!("{what}: not what it should be caught by: {}", violations[0]))?;
    println!(
        "{what} caught by the checker, {} violations (it stops at 50), of them: {lost}",
        violations.len()
    );
    Ok(())
}
