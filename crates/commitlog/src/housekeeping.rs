//! What the log does by itself from time to time: retention, and forgetting producers.

use std::sync::Weak;
use std::sync::atomic::Ordering;

use world::task;

use crate::log::Shared;

/// When there are too many producer ids, a tenth more than necessary go, so that this is seldom.
const EVICT_PART: usize = 10;

pub async fn housekeeping(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        if strong.closing.load(Ordering::Acquire) {
            return;
        }
        // Ends early when there are too many producers; the wait must not keep the log alive for longer than that.
        let _ =
            task::timeout(strong.settings.housekeeping_interval, strong.too_many_producers.notified()).await;
        if strong.closing.load(Ordering::Acquire) {
            return;
        }
        retention(&strong).await;
        forget_producers(&strong);
    }
}

async fn retention(shared: &Shared) {
    let now = shared.clock.now_ms();
    for partition in shared.all_partitions() {
        if let Some(before) = partition.expired_before(now)
            && let Err(error) = partition.delete_records(before).await
        {
            tracing::warn!("retention of {}: {error}", partition.id());
        }
    }
}

fn forget_producers(shared: &Shared) {
    let expiration_ms = shared.settings.producer_expiration.as_millis() as i64;
    let before = shared.clock.now_ms().saturating_sub(expiration_ms);
    let partitions = shared.all_partitions();
    let expired = partitions.iter().map(|partition| partition.expire_producers(before)).sum();
    shared.producers_removed(expired);
    let count = shared.counters.producers.load(Ordering::Acquire) as usize;
    let max = shared.settings.producers_max;
    if count <= max {
        return;
    }
    // Those that were silent longest go first.
    let mut oldest: Vec<(i64, i64, usize)> = Vec::with_capacity(count);
    for (index, partition) in partitions.iter().enumerate() {
        oldest.extend(partition.producer_ages().into_iter().map(|(since, id)| (since, id, index)));
    }
    oldest.sort_unstable();
    let many = (count - max + max / EVICT_PART).min(oldest.len());
    let forgotten =
        oldest[..many].iter().filter(|(_, id, index)| partitions[*index].forget_producer(*id)).count();
    shared.producers_removed(forgotten);
}
