//! Tasks, timers and blocking work. All of it is tokio; a simulation runs on one thread with paused time
//! ([`deterministic`]), where blocking work runs inline so that nothing depends on the scheduler of the system.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

pub use tokio::task::{JoinError, JoinHandle, JoinSet, yield_now};
pub use tokio::time::Instant;
pub use tokio::time::error::Elapsed;

const OWN_THREAD_STACK_BYTES: usize = 1 << 20;

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
    static INLINE_BLOCKING: Cell<bool> = const { Cell::new(false) };
}

pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[cfg(any(test, feature = "sim"))]
    if let Some(process) = crate::process::current() {
        return process.spawn(future);
    }
    tokio::spawn(future)
}

/// Of the world, not of the simulated process that asks for it: goes on when that one is stopped or dead.
pub fn spawn_outside<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// Runs `work` on a thread that may block. In a deterministic run: on this thread, as a task.
pub fn spawn_blocking<F, T>(work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if INLINE_BLOCKING.get() { spawn(async move { work() }) } else { tokio::task::spawn_blocking(work) }
}

/// Runs long work of the processor where it stands back: on one of a few threads of a lower priority (`patient.rs`), so that whoever has
/// little to do does not wait for it. Work that is begun is finished also when nobody waits for it any more. In a deterministic run: on
/// this thread, at once.
pub async fn patiently<F, T>(work: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if INLINE_BLOCKING.get() { work() } else { crate::patient::run(work).await }
}

/// So many pieces of [`patiently`] run at once; further ones wait. Some processors are left for everybody else.
pub fn patient_threads() -> usize {
    (crate::machine::processors() / 2).max(1)
}

/// Runs a future on a thread of its own, which also does the disk's work that the future waits for: handing a small commit
/// to another thread and back costs more than the commit. In a deterministic run: as a task.
pub fn spawn_on_own_thread<F>(name: &str, future: F) -> std::io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    if INLINE_BLOCKING.get() {
        drop(spawn(future));
        return Ok(());
    }
    let runtime = tokio::runtime::Handle::current();
    let work = move || {
        MAY_BLOCK.set(true);
        runtime.block_on(future);
    };
    std::thread::Builder::new().name(name.into()).stack_size(OWN_THREAD_STACK_BYTES).spawn(work).map(drop)
}

/// Is this a thread of [`spawn_on_own_thread`], where nobody else waits while it blocks?
pub(crate) fn may_block() -> bool {
    MAY_BLOCK.get()
}

pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

pub async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline).await;
}

/// Now, on the time that [`sleep_until`] uses.
pub fn now() -> Instant {
    Instant::now()
}

pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(duration, future).await
}

/// [`timeout`] for microseconds: its timers tick in milliseconds. A thread of [`spawn_on_own_thread`] sleeps meanwhile.
pub async fn short_timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    match may_block() {
        true => sleep_for(duration, future),
        false => timeout(duration, future).await.ok(),
    }
}

fn sleep_for<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    let deadline = std::time::Instant::now() + duration;
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::park_timeout(left);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Resolves at SIGTERM or SIGINT.
pub async fn termination() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        biased;
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// From here on this thread is a deterministic world: hash seeds follow `seed`, blocking work runs inline.
/// Every simulated run starts with it, before it makes its runtime.
pub fn deterministic(seed: u64) {
    INLINE_BLOCKING.set(true);
    crate::collections::set_thread_seed(seed);
}

/// A runtime on the calling thread whose time stands still while somebody is busy and jumps to the next timer
/// when nobody is.
#[cfg(any(test, feature = "sim"))]
pub fn paused_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a current-thread runtime needs nothing that can be missing")
}
