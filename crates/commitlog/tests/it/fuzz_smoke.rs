//! The fuzzers' entries for what lies on a disk, on golden bytes and golden bytes changed at every kind of place: a
//! bounded count in every `cargo test`, on the stable toolchain. The real fuzzing is in `/fuzz`.

use world::rng::{Rng, SeededRng};

use crate::fuzz_entries;

const WAL: &[u8] = include_bytes!("../golden/v1/first.wal");
const SEGMENT: &[u8] = include_bytes!("../golden/v1/first.seg");
const SHARD: &[u8] = include_bytes!("../golden/v1/shard.manifest");
const ROUNDS: usize = 300;

#[test]
fn the_seeds_get_past_the_checksums() {
    let mut opened = 0;
    for (target, seed) in fuzz_entries::seeds(WAL, SEGMENT, SHARD) {
        match target {
            "wal_recovery" => opened += usize::from(fuzz_entries::wal_recovery(&seed).is_ok()),
            _ => assert_eq!(fuzz_entries::segment(&seed), Ok(())),
        }
    }
    assert!(opened >= 4, "{opened} logs open");
}

#[test]
fn what_is_changed_in_a_log_directory_never_ends_in_a_panic() {
    mutated("wal_recovery", |bytes| drop(fuzz_entries::wal_recovery(bytes)));
}

#[test]
fn what_is_changed_in_a_segment_or_manifest_never_ends_in_a_panic() {
    mutated("segment", |bytes| drop(fuzz_entries::segment(bytes)));
}

fn mutated(target: &str, entry: impl Fn(&[u8])) {
    let seeds: Vec<_> =
        fuzz_entries::seeds(WAL, SEGMENT, SHARD).into_iter().filter(|(of, _)| *of == target).collect();
    let rng = SeededRng::new(11);
    let below = |bound: usize| rng.next_u64() as usize % bound;
    entry(&[]);
    for round in 0..ROUNDS {
        let mut bytes = seeds[round % seeds.len()].1.clone();
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
