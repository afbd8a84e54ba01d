//! Power cuts of a real file system at a chosen step, for chaos tests. Compiled only with the feature `failpoints`.
//!
//! `OTTLA_CUT_AT=step:n` shuts the file system down without flushing its journal at the n-th `after-write`,
//! `after-sync`, `after-rename` or `after-directory-sync`, and aborts; `step@ms` at the first one that comes so many
//! milliseconds after the first step of any kind, however often it comes before. ext4 only; needs CAP_SYS_ADMIN.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::parent;

/// `_IOR('X', 125, __u32)`
const EXT4_IOC_SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
/// As if the power went: the journal is not flushed.
const NO_LOG_FLUSH: u32 = 2;

/// How the process ends when the cut failed: not as it does when the cut is done.
const CUT_FAILED: i32 = 125;

struct Plan {
    step: String,
    when: When,
    seen: AtomicU64,
    began: Instant,
}

enum When {
    Nth(u64),
    After(Duration),
}

fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    PLAN.get_or_init(|| {
        let text = std::env::var("OTTLA_CUT_AT").ok()?;
        let number = |text: &str| text.parse::<u64>().expect("OTTLA_CUT_AT is step:n or step@ms");
        let (step, when) = match text.split_once('@') {
            Some((step, ms)) => (step, When::After(Duration::from_millis(number(ms)))),
            None => {
                let (step, n) = text.split_once(':').expect("OTTLA_CUT_AT is step:n or step@ms");
                (step, When::Nth(number(n)))
            }
        };
        Some(Plan { step: step.to_owned(), when, seen: AtomicU64::new(0), began: Instant::now() })
    })
    .as_ref()
}

/// Called after each step on `path`; does not return when the cut is here.
pub fn reached(step: &str, path: &Path) {
    let Some(plan) = plan().filter(|plan| plan.step == step) else { return };
    let here = match plan.when {
        When::Nth(n) => plan.seen.fetch_add(1, Ordering::Relaxed) + 1 == n,
        When::After(time) => plan.began.elapsed() >= time,
    };
    if !here {
        return;
    }
    let dir = if path.is_dir() { path } else { parent(path) };
    let result = std::fs::File::open(dir).map_err(|error| error.to_string()).and_then(|dir| {
        // SAFETY: the call reads one u32 behind the pointer, which `Setter` keeps alive for the call.
        #[allow(unsafe_code)]
        let result = unsafe {
            rustix::ioctl::ioctl(&dir, rustix::ioctl::Setter::<EXT4_IOC_SHUTDOWN, u32>::new(NO_LOG_FLUSH))
        };
        result.map_err(|error| error.to_string())
    });
    if let Err(why) = result {
        eprintln!("OTTLA_CUT_AT: {} cannot be shut down: {why}", dir.display());
        std::process::exit(CUT_FAILED);
    }
    std::process::abort();
}
