//! A process of a simulated world: tasks that can be stopped together, go on together, and die together.
//!
//! ```text
//!   running ── pause ──▶ stopped ── resume ──▶ running        SIGSTOP, SIGCONT: the world's time goes on meanwhile
//!      └────── kill ──▶ dead                                  SIGKILL: its sockets close, nothing of it runs ever again
//! ```
//! A task belongs to the process of the task that spawned it. What the world does for a process ([`crate::task::spawn_outside`])
//! belongs to none: a request on its way arrives whatever became of the one who sent it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinHandle};

thread_local! {
    static CURRENT: RefCell<Option<Process>> = const { RefCell::new(None) };
}

/// Handles of tasks that have ended are forgotten when there are so many.
const HANDLES_MIN: usize = 64;

#[derive(Clone, Default)]
pub struct Process(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_stopped: bool,
    is_dead: bool,
    /// Whom to wake when it goes on.
    waiting: Vec<Waker>,
    tasks: Vec<AbortHandle>,
    look_again_at: usize,
}

impl Process {
    pub fn new() -> Self {
        Self::default()
    }

    /// A task of this process. When it is killed the task ends as one that was aborted.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let handle = tokio::spawn(Member { process: self.clone(), future: Box::pin(future) });
        let mut state = self.0.lock();
        if state.is_dead {
            handle.abort();
            return handle;
        }
        if state.tasks.len() >= state.look_again_at.max(HANDLES_MIN) {
            state.tasks.retain(|task| !task.is_finished());
            state.look_again_at = state.tasks.len() * 2;
        }
        state.tasks.push(handle.abort_handle());
        handle
    }

    pub fn pause(&self) {
        self.0.lock().is_stopped = true;
    }

    pub fn resume(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.is_stopped = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    pub fn kill(&self) {
        let tasks = {
            let mut state = self.0.lock();
            state.is_dead = true;
            std::mem::take(&mut state.tasks)
        };
        tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Of the task that runs just now.
pub(crate) fn current() -> Option<Process> {
    CURRENT.with_borrow(Clone::clone)
}

struct Member<F> {
    process: Process,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Member<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut state = self.process.0.lock();
            if state.is_stopped {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        let before = CURRENT.replace(Some(self.process.clone()));
        let _left = Left(before);
        self.future.as_mut().poll(cx)
    }
}

/// Puts back what was current, also when the task panics.
struct Left(Option<Process>);

impl Drop for Left {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::task;

    /// A process with a task that its first task has spawned and that counts seconds.
    fn counting() -> (Process, Arc<AtomicU64>) {
        let (process, count) = (Process::new(), Arc::new(AtomicU64::new(0)));
        let counter = count.clone();
        drop(process.spawn(async move {
            drop(task::spawn(async move {
                loop {
                    task::sleep(Duration::from_secs(1)).await;
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }));
        (process, count)
    }

    #[test]
    fn all_tasks_of_a_process_stop_go_on_and_die_together() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let (process, count) = counting();
            let (_other, other) = counting();
            let seconds = |seconds: u64| task::sleep(Duration::from_millis(seconds * 1000 + 250));
            seconds(3).await;
            process.pause();
            seconds(10).await;
            assert_eq!((count.load(Ordering::Relaxed), other.load(Ordering::Relaxed)), (3, 13));
            process.resume();
            seconds(2).await;
            // The timer that came due meanwhile fires at once.
            assert_eq!(count.load(Ordering::Relaxed), 3 + 1 + 2);
            process.kill();
            seconds(10).await;
            assert_eq!(count.load(Ordering::Relaxed), 6);
            let late = process.spawn(async { 1 });
            assert!(late.await.unwrap_err().is_cancelled());
        });
    }
}
