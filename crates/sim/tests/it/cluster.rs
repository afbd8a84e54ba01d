//! Three brokers on one bucket, everything goes wrong: a few seeds of what `cargo xtask sim` does with many.

use sim::upheaval::{Outcome, Plan, Totals, simulate};

#[test]
fn the_same_seed_is_the_same_upheaval() {
    for seed in [7, 8] {
        let (first, second) = (simulate(Plan::of(seed, 300)), simulate(Plan::of(seed, 300)));
        assert_eq!(first.transcript, second.transcript, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
        assert!(first.transcript.lines().count() > 300, "somebody was told something");
        assert_ne!(first.transcript, simulate(Plan::of(seed + 100, 300)).transcript);
    }
}

#[test]
fn whatever_goes_wrong_what_was_acknowledged_is_there_once_and_in_order() {
    let mut all = Totals::default();
    for seed in 1..=20 {
        let Outcome { findings, totals, .. } = simulate(Plan::of(seed, 100));
        assert!(findings.is_empty(), "seed {seed}: {findings:#?}");
        all.add(&totals);
    }
    println!("{all:?}");
    assert!(all.acknowledged > 2_000 && all.seen > 1_000 && all.takeovers > 10 && all.kills > 5, "{all:?}");
}
