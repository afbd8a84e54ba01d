//! Randomness as an argument.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::TryRngCore;

pub trait Rng: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);

    fn next_u64(&self) -> u64 {
        let mut bytes = [0u8; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Uniform in `0..bound`; 0 when the bound is 0.
    fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A random UUID (RFC 9562 version 4).
    fn uuid(&self) -> [u8; 16] {
        let mut id = [0u8; 16];
        self.fill(&mut id);
        id[6] = (id[6] & 0x0f) | 0x40;
        id[8] = (id[8] & 0x3f) | 0x80;
        id
    }
}

pub type SharedRng = Arc<dyn Rng>;

/// The operating system's source.
pub struct RealRng;

impl RealRng {
    pub fn shared() -> SharedRng {
        Arc::new(Self)
    }
}

impl Rng for RealRng {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rngs::OsRng.try_fill_bytes(bytes).expect("the operating system has randomness");
    }
}

/// xoshiro256**, seeded through splitmix64. Written out here so that a seed means the same bytes with every version
/// of every crate (P13: a bug's seed replays it).
pub struct SeededRng {
    state: Mutex<[u64; 4]>,
}

impl SeededRng {
    pub fn new(seed: u64) -> Self {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self { state: Mutex::new([next(), next(), next(), next()]) }
    }

    pub fn shared(seed: u64) -> SharedRng {
        Arc::new(Self::new(seed))
    }
}

impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let value = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&value[..chunk.len()]);
        }
    }

    fn next_u64(&self) -> u64 {
        let mut s = self.state.lock();
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let (a, b, c) = (SeededRng::new(7), SeededRng::new(7), SeededRng::new(8));
        assert_eq!(a.uuid(), b.uuid());
        assert_ne!(a.next_u64(), c.next_u64());
        for _ in 0..1000 {
            assert!(a.below(10) < 10);
        }
        assert_eq!(a.below(0), 0);
    }

    #[test]
    fn a_real_uuid_is_of_version_four() {
        let id = RealRng.uuid();
        assert_eq!(id[6] >> 4, 4);
        assert_eq!(id[8] >> 6, 2);
        assert_ne!(id, RealRng.uuid());
    }
}
