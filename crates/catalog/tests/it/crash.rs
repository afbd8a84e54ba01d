//! Power cuts at every step: what was answered stays, and the directory opens again without a tool.

use std::path::PathBuf;
use std::sync::Arc;

use catalog::{Catalog, CatalogOptions};
use world::clock::ManualClock;
use world::disk::{MemDisk, MemFaults};
use world::rng::SeededRng;

use crate::support::*;

fn options() -> CatalogOptions {
    // Snapshots every third frame, so that the cuts fall into their steps too.
    CatalogOptions { snapshot_frames: 3, ..CatalogOptions::default() }
}

/// Opens, appends topics one after another; gives the names that were answered. Stops at the first error.
async fn work(disk: &Arc<MemDisk>, seed: u64, prefix: &str) -> (Vec<String>, bool) {
    let rng = Arc::new(SeededRng::new(seed));
    let clock = Arc::new(ManualClock::new(0));
    let mut answered = Vec::new();
    let Ok(catalog) = Catalog::open(disk.clone(), PathBuf::from(DIR), clock, rng, options()).await else {
        return (answered, false);
    };
    for number in 0..12u128 {
        let name = format!("{prefix}{number}");
        if catalog.append(vec![topic(u128::from(seed) * 100 + number + 1, &name, 1)]).await.is_err() {
            return (answered, false);
        }
        answered.push(name);
        if number % 5 == 0 {
            world::task::sleep(std::time::Duration::from_secs(2)).await;
        }
    }
    catalog.close().await;
    (answered, true)
}

#[test]
fn a_power_cut_at_every_step_loses_nothing_that_was_answered() {
    run(async {
        let mut cuts = 0;
        for step in 1.. {
            let disk = MemDisk::new(step);
            disk.set_faults(MemFaults { power_lost_at: Some(step), ..MemFaults::default() });
            let (mut answered, finished) = work(&disk, 1, "a").await;
            disk.crash(step * 7);
            // And once more, in the middle of the recovery or soon after it.
            let second = 1 + step % 9;
            disk.set_faults(MemFaults { power_lost_at: Some(second), ..MemFaults::default() });
            let (more, _) = work(&disk, 2, "b").await;
            answered.extend(more);
            disk.crash(step * 11);
            disk.set_faults(MemFaults::default());
            let rng = Arc::new(SeededRng::new(3));
            let clock = Arc::new(ManualClock::new(0));
            let catalog = Catalog::open(disk.clone(), PathBuf::from(DIR), clock, rng, options()).await;
            let catalog =
                catalog.unwrap_or_else(|error| panic!("cut at step {step}, then {second}: {error}"));
            for name in &answered {
                assert!(
                    catalog.read().topic(name).is_some(),
                    "{name} lost by a cut at step {step}, then {second}"
                );
            }
            catalog.append(vec![topic(5_000, "last", 1)]).await.unwrap();
            cuts += 1;
            if finished {
                break;
            }
        }
        assert!(cuts > 40, "only {cuts} steps were cut");
    });
}

#[test]
fn a_kill_is_weaker_than_a_power_cut() {
    run(async {
        let disk = MemDisk::new(9);
        let catalog = open(&disk).await;
        catalog.append(vec![topic(1, "a", 1)]).await.unwrap();
        disk.kill();
        let catalog = open(&disk).await;
        assert!(catalog.read().topic("a").is_some());
    });
}
