//! Which partition a record without one goes to: by key as Java's clients do, or sticky without a key.

use bytes::Bytes;

/// Chooses partitions for records that name none.
pub trait Partitioner: Send + Sync + 'static {
    /// The partition for a record with a key; below `partitions`, which is at least 1. `None` leaves the
    /// choice to the sticky rule: one partition until a batch is full, then another.
    fn partition(&self, topic: &str, key: Option<&Bytes>, partitions: i32) -> Option<i32>;
}

/// Kafka's default: murmur2 of the key, sticky without one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DefaultPartitioner;

impl Partitioner for DefaultPartitioner {
    fn partition(&self, _topic: &str, key: Option<&Bytes>, partitions: i32) -> Option<i32> {
        key.map(|key| partition_for_key(key, partitions))
    }
}

/// The partition that Java's producer gives to a key.
///
/// ```
/// assert_eq!(client::partition_for_key(b"user-1", 1), 0);
/// ```
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & i32::MAX) % partitions.max(1)
}

/// MurmurHash2, 32 bits, with the seed that Kafka uses.
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut h = SEED ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * index);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ (h >> 15)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_are_javas() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
        assert_eq!(murmur2(b"abc"), 479_470_107);
    }
}
