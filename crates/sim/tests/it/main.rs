//! The whole broker, and a cluster of them, on the seeded world.

mod cluster;
mod hand_off;
mod slot_news;

use sim::machine::Medium;
use sim::power_cuts::{Plan, simulate};

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for medium in [Medium::Disk, Medium::Bucket] {
        let plan = Plan { seed: 42, medium, producers: 2, records_per_producer: 200, cuts: 3 };
        let first = simulate(plan).unwrap();
        let second = simulate(plan).unwrap();
        assert_eq!(first.transcript, second.transcript);
        assert_eq!(first, second);
        let other = simulate(Plan { seed: 43, ..plan }).unwrap();
        assert_ne!(first.transcript, other.transcript, "another seed is another world");
    }
}

/// How many cuts met producers at work.
fn cuts_of(medium: Medium) -> u32 {
    let mut cuts = 0;
    for seed in 0..40 {
        let plan = Plan { seed, medium, producers: 3, records_per_producer: 300, cuts: 6 };
        let outcome = simulate(plan).unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
        let checked = outcome.checked.unwrap_or_else(|violations| panic!("seed {seed}: {}", violations[0]));
        assert_eq!((checked.acknowledged, checked.found), (900, 900), "seed {seed}");
        cuts += outcome.cuts;
    }
    cuts
}

#[test]
fn power_cuts_lose_nothing_acknowledged_and_double_nothing() {
    let cuts = cuts_of(Medium::Disk);
    assert!(cuts >= 80, "only {cuts} cuts met producers at work");
}

#[test]
fn in_a_bucket_with_every_fault_they_do_not_either() {
    let cuts = cuts_of(Medium::Bucket);
    assert!(cuts >= 80, "only {cuts} cuts met producers at work");
}
