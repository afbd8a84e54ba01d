//! What a slot says of the one before: which partitions that has something of, four bytes for each. When a slot is lost, whoever opens
//! partitions knows by the next one which of them it may have been about, and the others are opened (P7). Two that share a hash both
//! stay closed, which is safe.

use std::collections::BTreeSet;

use protocol::TopicIdPartition;

use crate::container::{Footer, LogStart, SectionKind};

fn hash_of(id: &TopicIdPartition) -> u32 {
    let mut key = [0u8; 20];
    key[..16].copy_from_slice(id.topic_id.as_bytes());
    key[16..].copy_from_slice(&id.partition.to_le_bytes());
    (xxhash_rust::xxh3::xxh3_64(&key) >> 32) as u32
}

/// Of a slot's own partitions, for the next one.
pub fn encode(footer: &Footer, log_starts: &[LogStart]) -> Vec<u8> {
    let ids = footer.extents.iter().map(|extent| &extent.id).chain(log_starts.iter().map(|start| &start.id));
    let hashes: BTreeSet<u32> = ids.map(hash_of).collect();
    hashes.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Partitions of a lost slot, as far as the next one says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects(Option<BTreeSet<u32>>);

impl Suspects {
    /// By the footer of the slot behind it. An older release does not say it: then it may be any.
    pub fn of(next: &Footer) -> Self {
        let hashes = next.section(SectionKind::SlotBefore).filter(|section| section.len().is_multiple_of(4));
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        Suspects(hashes.map(|section| section.chunks_exact(4).map(number).collect()))
    }

    pub fn may_have(&self, id: &TopicIdPartition) -> bool {
        self.0.as_ref().is_none_or(|hashes| hashes.contains(&hash_of(id)))
    }
}

#[cfg(test)]
mod tests {
    use protocol::Uuid;

    use super::*;

    #[test]
    fn who_is_not_named_is_not_suspected() {
        let id = |partition| TopicIdPartition { topic_id: Uuid([1; 16]), partition };
        let starts: Vec<LogStart> =
            [3, 5, 3].map(|partition| LogStart { id: id(partition), offset: 7 }).into();
        let section = encode(&Footer::default(), &starts);
        assert_eq!(section.len(), 8);
        let sections = vec![(SectionKind::SlotBefore, section)];
        let suspects = Suspects::of(&Footer { sections, ..Footer::default() });
        let suspected: Vec<i32> = (0..1000).filter(|partition| suspects.may_have(&id(*partition))).collect();
        assert_eq!(suspected, [3, 5]);
        let nobody =
            Suspects::of(&Footer { sections: vec![(SectionKind::SlotBefore, vec![])], ..Footer::default() });
        assert!(!nobody.may_have(&id(3)));
        assert!(Suspects::of(&Footer::default()).may_have(&id(9)) && Suspects::default().may_have(&id(9)));
    }
}
