//! The newest offset of each key, by a hash of 128 bits: 24 bytes per key, whatever the key is. Two keys with one hash would lose a
//! record: with 10 billion keys the odds are below 10^-18. The hash has a seed of its own in each round, as in no other.

use xxhash_rust::xxh3::xxh3_128_with_seed;

pub const SLOT_BYTES: u64 = 24;

/// Hash, and offset + 1; 0: free.
type Slot = [u64; 3];

pub struct OffsetMap {
    slots: Vec<Slot>,
    len: usize,
    len_max: usize,
    seed: u64,
}

impl OffsetMap {
    /// Room for `keys_expected` if that is within the bound; for one key at least.
    pub fn new(keys_expected: u64, bytes_max: u64, load_factor: f64, seed: u64) -> Self {
        let load_factor = load_factor.clamp(0.01, 0.99);
        let slots_max = (bytes_max / SLOT_BYTES).max(2);
        let wanted = (keys_expected as f64 / load_factor) as u64 + 2;
        let slots = usize::try_from(wanted.min(slots_max)).unwrap_or(usize::MAX);
        let len_max = ((slots as f64 * load_factor) as usize).clamp(1, slots - 1);
        Self { slots: vec![[0; 3]; slots], len: 0, len_max, seed }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Keys that have room still.
    pub fn room(&self) -> usize {
        self.len_max - self.len
    }

    pub fn bytes(&self) -> u64 {
        self.slots.len() as u64 * SLOT_BYTES
    }

    /// A batch with more keys than there is room for in an empty table is taken all the same: the table grows for it.
    pub fn make_room(&mut self, keys: usize) {
        assert_eq!(self.len, 0, "only an empty table grows");
        if keys > self.len_max {
            self.slots = vec![[0; 3]; keys * 2];
            self.len_max = keys;
        }
    }

    /// Offsets of a key come in order.
    pub fn put(&mut self, key: &[u8], offset: i64) {
        let hash = self.hash(key);
        let at = self.find(hash);
        if self.slots[at][2] == 0 {
            assert!(self.len < self.len_max, "there is room: it was looked at before");
            self.len += 1;
        }
        self.slots[at] = [hash[0], hash[1], offset as u64 + 1];
    }

    pub fn get(&self, key: &[u8]) -> Option<i64> {
        let offset = self.slots[self.find(self.hash(key))][2];
        offset.checked_sub(1).map(|offset| offset as i64)
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let hash = xxh3_128_with_seed(key, self.seed);
        [hash as u64, (hash >> 64) as u64]
    }

    /// Where it is, or where it would be.
    fn find(&self, hash: [u64; 2]) -> usize {
        let mut at = ((u128::from(hash[1]) * self.slots.len() as u128) >> 64) as usize;
        loop {
            let slot = &self.slots[at];
            if slot[2] == 0 || slot[..2] == hash {
                return at;
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_of_each_key_is_found_and_memory_is_bounded() {
        let mut map = OffsetMap::new(1 << 40, 24_000, 0.9, 7);
        assert_eq!((map.bytes(), map.room()), (24_000, 900));
        for offset in 0..2700i64 {
            map.put(&(offset % 900).to_be_bytes(), offset);
        }
        assert_eq!((map.len(), map.room()), (900, 0));
        for key in 0..900i64 {
            assert_eq!(map.get(&key.to_be_bytes()), Some(1800 + key));
        }
        assert_eq!(map.get(&900i64.to_be_bytes()), None);
    }

    #[test]
    fn a_small_round_takes_little_memory_and_a_large_batch_finds_room() {
        assert!(OffsetMap::new(100, 128 << 20, 0.9, 1).bytes() < 4000);
        let mut map = OffsetMap::new(0, 0, 0.9, 1);
        assert_eq!(map.room(), 1);
        map.make_room(50);
        (0..50i64).for_each(|key| map.put(&key.to_be_bytes(), key));
        assert_eq!((map.len(), map.get(&7i64.to_be_bytes())), (50, Some(7)));
    }
}
