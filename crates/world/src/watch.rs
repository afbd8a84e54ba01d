//! A value that many wait for changes of: tokio's `watch`, except that those who wait are woken in the same order every time. tokio
//! spreads them over its lists at random, from a source that cannot be seeded; then the same seed would not be the same run.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::Notify;

/// Those who wait are spread over so many lists, each with a lock of its own.
const LISTS: usize = 8;

struct Shared<T> {
    value: RwLock<T>,
    /// Counts changes. Only moves while the value is locked.
    version: AtomicUsize,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    subscribed: AtomicUsize,
    changed: [Notify; LISTS],
    /// The last receiver has gone.
    left: Notify,
}

impl<T> Shared<T> {
    fn wake(&self) {
        self.changed.iter().for_each(Notify::notify_waiters);
    }

    fn is_closed(&self) -> bool {
        self.senders.load(Ordering::SeqCst) == 0
    }
}

pub struct Sender<T>(Arc<Shared<T>>);

pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: usize,
    list: usize,
}

/// The value, locked: not to be held across an await.
pub struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Nobody can change the value any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the channel is closed")]
pub struct Closed;

pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender(Arc::new(Shared {
        value: RwLock::new(value),
        version: AtomicUsize::new(0),
        senders: AtomicUsize::new(1),
        receivers: AtomicUsize::new(0),
        subscribed: AtomicUsize::new(0),
        changed: Default::default(),
        left: Notify::new(),
    }));
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    /// Puts a new value, unless nobody would see it.
    pub fn send(&self, value: T) -> Result<(), Closed> {
        if self.0.receivers.load(Ordering::SeqCst) == 0 {
            return Err(Closed);
        }
        self.send_replace(value);
        Ok(())
    }

    /// Puts a new value; gives the old one.
    pub fn send_replace(&self, value: T) -> T {
        let old = {
            let mut current = self.0.value.write();
            self.0.version.fetch_add(1, Ordering::SeqCst);
            std::mem::replace(&mut *current, value)
        };
        self.0.wake();
        old
    }

    /// Changes the value in its place, and says so if the change was one.
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) {
        let is_modified = {
            let mut current = self.0.value.write();
            let is_modified = modify(&mut current);
            self.0.version.fetch_add(usize::from(is_modified), Ordering::SeqCst);
            is_modified
        };
        if is_modified {
            self.0.wake();
        }
    }

    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.value.read())
    }

    /// A receiver that has seen the current value.
    pub fn subscribe(&self) -> Receiver<T> {
        new_receiver(&self.0, None)
    }

    /// Waits until there is no receiver.
    pub async fn closed(&self) {
        loop {
            let left = self.0.left.notified();
            if self.0.receivers.load(Ordering::SeqCst) == 0 {
                return;
            }
            left.await;
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&*self.borrow()).finish()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::SeqCst);
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.wake();
        }
    }
}

fn new_receiver<T>(shared: &Arc<Shared<T>>, seen: Option<usize>) -> Receiver<T> {
    shared.receivers.fetch_add(1, Ordering::SeqCst);
    let list = shared.subscribed.fetch_add(1, Ordering::Relaxed) % LISTS;
    let seen = seen.unwrap_or_else(|| shared.version.load(Ordering::SeqCst));
    Receiver { shared: shared.clone(), seen, list }
}

impl<T> Receiver<T> {
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.value.read())
    }

    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.value.read();
        self.seen = self.shared.version.load(Ordering::SeqCst);
        Ref(value)
    }

    /// Is there a value that this receiver has not seen?
    pub fn has_changed(&self) -> Result<bool, Closed> {
        match self.shared.is_closed() {
            true => Err(Closed),
            false => Ok(self.shared.version.load(Ordering::SeqCst) != self.seen),
        }
    }

    /// Waits for a value that this receiver has not seen.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // Before the look: what comes behind it wakes.
            let changed = self.shared.changed[self.list].notified();
            let is_closed = self.shared.is_closed();
            let version = self.shared.version.load(Ordering::SeqCst);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if is_closed {
                return Err(Closed);
            }
            changed.await;
        }
    }

    /// Waits for such a value; the one that is there will do.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, Closed> {
        loop {
            let changed = self.shared.changed[self.list].notified();
            let is_closed = self.shared.is_closed();
            let is_there = {
                let value = self.shared.value.read();
                self.seen = self.shared.version.load(Ordering::SeqCst);
                wanted(&value)
            };
            if is_there {
                return Ok(self.borrow());
            }
            if is_closed {
                return Err(Closed);
            }
            changed.await;
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        new_receiver(&self.shared, Some(self.seen))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.shared.receivers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::task;

    #[test]
    fn receivers_see_changes_and_the_end_and_are_woken_in_the_order_in_which_they_came() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let (sender, mut first) = channel(0);
            let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
            for number in 0..LISTS {
                let (mut receiver, order) = (first.clone(), order.clone());
                drop(task::spawn(async move {
                    while receiver.changed().await.is_ok() {
                        order.lock().push((number, *receiver.borrow()));
                    }
                }));
            }
            task::sleep(Duration::from_millis(1)).await;
            assert_eq!(sender.send_replace(7), 0);
            task::sleep(Duration::from_millis(1)).await;
            // Their lists are taken in turn; the channel itself has made the first receiver.
            let mut woken: Vec<_> = order.lock().clone();
            let first_list = woken.iter().position(|(number, _)| *number == 0).expect("all are woken");
            woken.rotate_left(first_list);
            assert_eq!(woken, (0..LISTS).map(|number| (number, 7)).collect::<Vec<_>>());
            assert_eq!(first.changed().await, Ok(()));
            assert_eq!(*first.borrow_and_update(), 7);
            assert_eq!(*first.wait_for(|value| *value == 7).await.unwrap(), 7);
            let late = sender.subscribe();
            drop(sender);
            assert_eq!(first.changed().await, Err(Closed));
            assert!(first.wait_for(|value| *value == 8).await.is_err());
            drop(late);
        });
    }

    #[test]
    fn a_sender_knows_when_all_have_left() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let (sender, receiver) = channel(0);
            let other = receiver.clone();
            drop(receiver);
            assert!(task::timeout(Duration::from_secs(1), sender.closed()).await.is_err());
            drop(task::spawn(async move {
                task::sleep(Duration::from_secs(1)).await;
                drop(other);
            }));
            sender.closed().await;
            assert_eq!(sender.send(1), Err(Closed));
            assert_eq!(*sender.subscribe().borrow(), 0);
        });
    }
}
