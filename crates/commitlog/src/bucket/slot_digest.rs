//! What a slot says of the ones before: every 32nd has their headers and footers once more, without payload. Who opens partitions reads
//! these and not what they are about, so an opening takes a 32nd of the requests, however much is not rewritten yet.
//!
//! ```text
//!   slot 31 │ slot 32: batches, footer, 1 … 31 once more │ slot 33 │ … │ slot 64: …, 33 … 63 once more │ slot 65 │ 66
//!             read                                                       read                            read      read
//! ```
//! A slot that counts has only slots below it that count, and it names the hash of the one before, which names the hash of the one
//! before that: so a digest can say nothing else than the slots themselves. A slot with a digest is in none, or digests would
//! have digests in them. A long footer is not repeated: who opens partitions fetches it with a request of its own, which is few per byte.

use crate::container::{ContainerHeader, Footer, HEADER_LEN, SectionKind};
use crate::encoding::{Decoder, Encoder, FormatError};

const WHAT: &str = "a digest of slots";
/// A longer footer is not repeated. So no digest is longer than 32 of them.
const FOOTER_BYTES_MAX: usize = 32 << 10;

/// Has this slot a digest, if `every` so many have one?
pub fn has_digest(slot: u64, every: u64) -> bool {
    slot > 0 && every > 1 && slot.is_multiple_of(every)
}

/// What the writer keeps for the next digest.
pub struct NextDigest {
    every: u64,
    count: u32,
    /// Encoded.
    slots: Encoder,
}

impl NextDigest {
    pub fn new(every: u64) -> Self {
        Self { every, count: 0, slots: Encoder::default() }
    }

    /// The digest for this slot, if it is to have one. None is empty.
    pub fn take(&mut self, slot: u64) -> Option<Vec<u8>> {
        if !has_digest(slot, self.every) {
            return None;
        }
        let slots = std::mem::take(&mut self.slots).into_vec();
        let mut out = Encoder::with_capacity(4 + slots.len());
        out.u32(std::mem::take(&mut self.count));
        out.raw(&slots);
        Some(out.into_vec())
    }

    /// A slot as it was made.
    pub fn push(&mut self, header: &ContainerHeader, object: &[u8]) {
        let footer = &object[header.footer_at() as usize..header.len() as usize];
        if self.every < 2 || has_digest(header.number, self.every) || footer.len() > FOOTER_BYTES_MAX {
            return;
        }
        self.count += 1;
        self.slots.raw(&header.encode());
        self.slots.raw(footer);
    }
}

/// The slots that this footer's digest is about, in their order. None: it has none.
pub fn digest_of(footer: &Footer) -> Result<Option<Vec<(ContainerHeader, Footer)>>, FormatError> {
    let Some(section) = footer.section(SectionKind::SlotDigest) else { return Ok(None) };
    let mut input = Decoder::new(section, WHAT);
    let mut slots: Vec<(ContainerHeader, Footer)> = Vec::new();
    for _ in 0..input.count(HEADER_LEN)? {
        let header = ContainerHeader::decode(input.take(HEADER_LEN)?)?;
        if slots.last().is_some_and(|(last, _)| last.number >= header.number) {
            return Err(input.inconsistent(format!("slot {} is out of place", header.number)));
        }
        let len = usize::try_from(header.footer_len).unwrap_or(usize::MAX);
        let footer = header.decode_footer(input.take(len)?)?;
        slots.push((header, footer));
    }
    input.finish()?;
    Ok(Some(slots))
}

/// For fuzz targets: how many slots this digest is about.
pub fn fuzz_digest(section: &[u8]) -> Result<usize, FormatError> {
    let sections = vec![(SectionKind::SlotDigest, section.to_vec())];
    let slots = digest_of(&Footer { sections, ..Footer::default() })?.expect("there is one");
    assert!(slots.is_sorted_by(|(one, _), (next, _)| one.number < next.number));
    Ok(slots.len())
}

#[cfg(test)]
mod tests {
    use protocol::{TopicIdPartition, Uuid};

    use super::*;
    use crate::container::{ContainerBuilder, Identity, Kind, LogStart};
    use crate::encoding::Hash;

    /// A slot that raises so many log starts, and has this digest.
    fn slot(number: u64, starts: i32, digest: Option<Vec<u8>>) -> (ContainerHeader, Footer, Vec<u8>) {
        let mut builder = ContainerBuilder::new(0, 0);
        let start = |partition| LogStart {
            id: TopicIdPartition { topic_id: Uuid([2; 16]), partition },
            offset: number,
        };
        let starts: Vec<LogStart> = (0..starts).map(start).collect();
        builder.section(SectionKind::LogStarts, LogStart::encode_all(&starts));
        if let Some(digest) = digest {
            builder.section(SectionKind::SlotDigest, digest);
        }
        let (bytes, header, footer) = builder.finish(Identity {
            kind: Kind::Object,
            log_id: 7u128.to_be_bytes(),
            number,
            predecessor: Hash::default(),
            durable: 0,
            nonce: [0; 16],
            created_ms: 0,
            file_len: 0,
        });
        (header, footer, bytes.to_vec())
    }

    #[test]
    fn a_digest_has_what_the_slots_before_it_say() {
        let mut next = NextDigest::new(4);
        let mut made = Vec::new();
        let mut digests = Vec::new();
        for number in 0..10 {
            let digest = next.take(number);
            digests.push(digest.is_some());
            // Slot 6 is long.
            let (header, footer, bytes) = slot(number, if number == 6 { 2_000 } else { 3 }, digest);
            next.push(&header, &bytes);
            made.push((header, footer));
        }
        let with: Vec<usize> = (0..10).filter(|number| digests[*number]).collect();
        assert_eq!(with, [4, 8]);
        let of = |number: usize| digest_of(&made[number].1).unwrap();
        assert_eq!(of(3), None);
        assert_eq!(of(4).unwrap(), made[0..4]);
        assert_eq!(of(8).unwrap(), [made[5].clone(), made[7].clone()]);
        // Nothing of it is believed that does not fit.
        let section = made[8].1.section(SectionKind::SlotDigest).unwrap();
        for at in [0, 4, 40, HEADER_LEN + 20, section.len() - 1] {
            let mut damaged = section.to_vec();
            damaged[at] ^= 1;
            let sections = vec![(SectionKind::SlotDigest, damaged)];
            assert!(digest_of(&Footer { sections, ..Footer::default() }).is_err(), "byte {at}");
        }
    }

    #[test]
    fn without_digests_nothing_is_kept() {
        let mut next = NextDigest::new(0);
        for number in 0..100 {
            assert_eq!(next.take(number), None);
            let (header, _, bytes) = slot(number, 1, None);
            next.push(&header, &bytes);
        }
        assert_eq!(next.count, 0);
    }
}
