//! An idle broker is small: after a burst the allocator holds several times what is in use, and gives it back when asked.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use server::Server;

const LOOK: Duration = Duration::from_secs(5);
/// Less traffic than this between two looks counts as idle.
const IDLE_BYTES: u64 = 1 << 20;
/// A process of this size has nothing worth asking for.
const SMALL_BYTES: u64 = 32 << 20;

/// Asks once after each busy time; never while requests come, because that would make them slower.
pub async fn watch(server: Weak<Server>) {
    let traffic = || {
        let server = server.upgrade()?;
        let counters = server.counters();
        let bytes =
            counters.bytes_received.load(Ordering::Relaxed) + counters.bytes_sent.load(Ordering::Relaxed);
        Some(bytes)
    };
    let Some(mut before) = traffic() else { return };
    let mut was_busy = false;
    loop {
        world::task::sleep(LOOK).await;
        let Some(now) = traffic() else { return };
        let is_busy = now - before > IDLE_BYTES;
        before = now;
        if was_busy && !is_busy && world::machine::resident_bytes() > SMALL_BYTES {
            world::machine::give_back_free_memory();
        }
        was_busy = is_busy;
    }
}
