//! Hash maps whose seed we choose: from the operating system in production (nobody outside can aim at a bucket),
//! from the run's seed in simulation (iteration order is part of what a seed replays).
//!
//! Make them with `HashMap::default()`: `new()` exists only for std's own random state.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

pub type HashMap<K, V> = std::collections::HashMap<K, V, HashSeed>;
pub type HashSet<T> = std::collections::HashSet<T, HashSeed>;

thread_local! {
    static THREAD_SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// All maps that this thread makes from now on hash with this seed.
pub fn set_thread_seed(seed: u64) {
    THREAD_SEED.set(Some(seed));
}

#[derive(Clone, Copy)]
pub struct HashSeed {
    a: u64,
    b: u64,
}

impl Default for HashSeed {
    fn default() -> Self {
        static PROCESS: OnceLock<HashSeed> = OnceLock::new();
        match THREAD_SEED.get() {
            Some(seed) => HashSeed { a: fold(seed ^ MULTIPLIER, MULTIPLIER), b: fold(seed, !MULTIPLIER) | 1 },
            None => *PROCESS.get_or_init(|| {
                use crate::rng::Rng;
                HashSeed { a: crate::rng::RealRng.next_u64(), b: crate::rng::RealRng.next_u64() | 1 }
            }),
        }
    }
}

impl BuildHasher for HashSeed {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher { state: self.a, key: self.b }
    }
}

const MULTIPLIER: u64 = 0x5851_f42d_4c95_7f2d;

/// Multiplies 64 × 64 → 128 bits and folds the halves: one multiplication per 8 bytes of key.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

pub struct SeededHasher {
    state: u64,
    key: u64,
}

impl SeededHasher {
    fn mix(&mut self, value: u64) {
        self.state = fold(self.state ^ value, self.key ^ MULTIPLIER).wrapping_add(self.key);
    }
}

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.mix(u64::from_le_bytes(chunk.try_into().expect("chunks of eight")));
        }
        let rest = chunks.remainder();
        let mut last = [0u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        // The length goes in, so that "a" and "a\0" differ.
        self.mix(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.state, self.key ^ MULTIPLIER.rotate_left(32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64) -> Vec<u32> {
        std::thread::spawn(move || {
            set_thread_seed(seed);
            let mut map = HashMap::default();
            for i in 0..100u32 {
                map.insert(format!("key-{i}"), i);
            }
            map.into_values().collect()
        })
        .join()
        .unwrap()
    }

    #[test]
    fn iteration_order_follows_the_seed() {
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn hashes_spread_over_high_and_low_bits() {
        let seed = HashSeed::default();
        let mut low = std::collections::BTreeSet::new();
        let mut high = std::collections::BTreeSet::new();
        for i in 0..4096u64 {
            let hash = seed.hash_one(i);
            low.insert(hash & 0xfff);
            high.insert(hash >> 52);
        }
        // 4096 balls in 4096 bins fill about 63 % of them.
        assert!(low.len() > 2300, "low bits fill {} bins", low.len());
        assert!(high.len() > 2300, "high bits fill {} bins", high.len());
    }
}
