//! Threads for long work of the processor: decoding of long requests, unpacking, patterns.
//!
//! ```text
//!   a worker of the runtime ─ job ─▶ queue ─▶ patient thread (one for two processors, lower priority)
//!            ◀───────────── what came of it ─────────┘
//! ```
//! A worker that computes for milliseconds keeps everybody waiting whose task is in its queue, and the system's scheduler lets it go on
//! when another one wakes up. These threads it interrupts at once, for whoever has a usual priority. What runs here may hold a
//! lock for a few lines, so the priority is a little lower and not the lowest there is.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// On the scale from −20 to 19: a third of the weight of an usual thread.
const NICENESS: i32 = 5;
const STACK_BYTES: usize = 2 << 20;

type Job = Box<dyn FnOnce() + Send>;

struct Queue {
    /// As many as there are callers that wait; each has one.
    jobs: Mutex<VecDeque<Job>>,
    has_jobs: Condvar,
}

static QUEUE: OnceLock<Option<Queue>> = OnceLock::new();

/// Runs `work` on a patient thread, within the caller's runtime. A panic of it is the caller's.
pub(crate) async fn run<F, T>(work: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let Some(queue) = QUEUE.get_or_init(start) else { return work() };
    let runtime = Handle::current();
    let (answer, answered) = oneshot::channel();
    queue.put(Box::new(move || {
        // Nobody waits for it any more, and it has not begun.
        if answer.is_closed() {
            return;
        }
        let _within = runtime.enter();
        let done: Result<T, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(work));
        // Whoever left meanwhile does not want it.
        let _ = answer.send(done);
    }));
    match answered.await.expect("a job that somebody waits for is run") {
        Ok(done) => done,
        Err(panic) => resume_unwind(panic),
    }
}

/// `None` when the system gives no thread: then whoever has work does it himself.
fn start() -> Option<Queue> {
    let started = (0..crate::task::patient_threads()).filter(|number| {
        let thread = std::thread::Builder::new().name(format!("patient-{number}")).stack_size(STACK_BYTES);
        let started = thread.spawn(|| {
            stand_back();
            QUEUE.wait().as_ref().expect("there is a thread").work();
        });
        if let Err(error) = &started {
            tracing::warn!(%error, "no thread for long work");
        }
        started.is_ok()
    });
    let has_threads = started.count() > 0;
    has_threads.then(|| Queue { jobs: Mutex::default(), has_jobs: Condvar::new() })
}

impl Queue {
    fn put(&self, job: Job) {
        self.jobs.lock().push_back(job);
        self.has_jobs.notify_one();
    }

    fn work(&self) -> ! {
        loop {
            self.next()();
        }
    }

    fn next(&self) -> Job {
        let mut jobs = self.jobs.lock();
        loop {
            match jobs.pop_front() {
                Some(job) => return job,
                None => self.has_jobs.wait(&mut jobs),
            }
        }
    }
}

/// Lowers the priority of this thread, for good: back up may go only who has a right to.
fn stand_back() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: takes numbers only. On Linux a "process" is a thread here, and 0 is the one that asks.
        #[allow(unsafe_code)]
        let refused = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) } != 0;
        if refused {
            tracing::debug!(error = %std::io::Error::last_os_error(), "the priority stays as it is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_elsewhere_and_its_panic_is_the_callers() {
        let here = std::thread::current().id();
        let (there, runtime) =
            run(move || (std::thread::current().id(), Handle::try_current().is_ok())).await;
        assert_ne!(there, here);
        assert!(runtime, "timers and tasks are the caller's");
        let panicked = tokio::spawn(run(|| panic!("on purpose"))).await;
        assert!(panicked.is_err_and(|error| error.is_panic()));
        assert_eq!(run(|| 7).await, 7, "the thread goes on");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_begun() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, Ordering};
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let gone = Arc::new(Mutex::new(gone));
        // One for each thread, and a last one that waits behind them.
        let busy: Vec<_> = (0..crate::task::patient_threads())
            .map(|_| {
                let gone = gone.clone();
                tokio::spawn(run(move || {
                    let _ = gone.lock().recv();
                }))
            })
            .collect();
        tokio::task::yield_now().await;
        let began = Arc::new(AtomicBool::new(false));
        let begins = began.clone();
        let mut last = Box::pin(run(move || begins.store(true, Ordering::Relaxed)));
        assert!(futures_util::poll!(last.as_mut()).is_pending());
        drop(last);
        drop(go);
        for one in busy {
            one.await.expect("it only waits");
        }
        run(|| ()).await;
        assert!(!began.load(Ordering::Relaxed));
    }
}
