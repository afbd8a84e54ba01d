//! The fuzzer's entry for the catalog's directory, on golden bytes and golden bytes changed at every kind of place: a
//! bounded count in every `cargo test`, on the stable toolchain. The real fuzzing is in `/fuzz`.

use world::rng::{Rng, SeededRng};

use crate::fuzz_entries;

const LOG: &[u8] = include_bytes!("../vectors/metadata.log");
const SNAPSHOT: &[u8] = include_bytes!("../vectors/metadata-00000000000000000006.snapshot");
const ROUNDS: usize = 400;

#[test]
fn the_seeds_get_past_the_checksums() {
    let outcomes: Vec<_> =
        fuzz_entries::seeds(LOG, SNAPSHOT).iter().map(|seed| fuzz_entries::catalog(seed)).collect();
    assert!(outcomes.iter().filter(|outcome| outcome.is_ok()).count() >= 4, "{outcomes:?}");
    let in_a_bucket: Vec<_> = fuzz_entries::seeds(LOG, SNAPSHOT)
        .iter()
        .map(|seed| fuzz_entries::catalog_in_a_bucket(seed))
        .collect();
    assert!(in_a_bucket.iter().filter(|outcome| outcome.is_ok()).count() >= 4, "{in_a_bucket:?}");
}

/// A snapshot of position 0 that fits its checksums was waited for by replay, and no frame ever came to it.
#[test]
fn a_snapshot_of_nothing_is_ignored() {
    let snapshot = [&[fuzz_entries::SNAPSHOT, 44, 0][..], &[0; 44]].concat();
    fuzz_entries::catalog(&snapshot).unwrap();
}

#[test]
fn what_is_changed_in_a_catalogs_directory_never_ends_in_a_panic() {
    mutated(|bytes| drop(fuzz_entries::catalog(bytes)));
}

#[test]
fn what_is_changed_in_a_catalogs_bucket_never_ends_in_a_panic() {
    mutated(|bytes| drop(fuzz_entries::catalog_in_a_bucket(bytes)));
}

fn mutated(entry: impl Fn(&[u8])) {
    let seeds = fuzz_entries::seeds(LOG, SNAPSHOT);
    let rng = SeededRng::new(7);
    let below = |bound: usize| rng.next_u64() as usize % bound;
    entry(&[]);
    for round in 0..ROUNDS {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=round % 4 {
            let at = below(bytes.len());
            bytes[at] = match below(3) {
                0 => rng.next_u64() as u8,
                1 => bytes[at] ^ 1 << below(8),
                _ => [0, 0xff, 0x7f, 0x80][below(4)],
            };
        }
        if round % 5 == 0 {
            bytes.truncate(below(bytes.len()));
        }
        entry(&bytes);
    }
}
