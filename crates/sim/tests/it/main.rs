//! The whole broker on the seeded world.

use sim::power_cuts::{Plan, simulate};

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let plan = Plan { seed: 42, producers: 2, records_per_producer: 200, cuts: 3 };
    let first = simulate(plan).unwrap();
    let second = simulate(plan).unwrap();
    assert_eq!(first.transcript, second.transcript);
    assert_eq!(first, second);
    let other = simulate(Plan { seed: 43, ..plan }).unwrap();
    assert_ne!(first.transcript, other.transcript, "another seed is another world");
}

#[test]
fn power_cuts_lose_nothing_acknowledged_and_double_nothing() {
    let mut cuts = 0;
    for seed in 0..40 {
        let outcome = simulate(Plan { seed, producers: 3, records_per_producer: 300, cuts: 6 }).unwrap();
        let checked = outcome.checked.unwrap_or_else(|violations| panic!("seed {seed}: {}", violations[0]));
        assert_eq!((checked.acknowledged, checked.found), (900, 900), "seed {seed}");
        cuts += outcome.cuts;
    }
    assert!(cuts >= 80, "only {cuts} cuts met producers at work");
}
