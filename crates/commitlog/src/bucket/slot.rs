//! What stands in a slot of a WAL.

use bytes::Bytes;
use protocol::batch::crc32c;
use world::bucket::{Bucket, BucketError, patiently};

use crate::container::{self, ContainerHeader, Footer, Kind, LogStart, SectionKind};
use crate::encoding::Encoder;

use super::takeover::PATIENCE;

const TOMBSTONE_MAGIC: [u8; 8] = *b"OTTLATMB";
const TOMBSTONE_VERSION: u16 = 1;
pub const TOMBSTONE_LEN: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Nothing yet.
    Absent,
    /// A container, of which only the first bytes were looked at.
    Data,
    /// The WAL ends here, or before.
    Tombstone,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum SlotError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// P7: neither a container nor this slot's tombstone.
    #[error("{key} is damaged: it is neither a commit nor a tombstone")]
    Damaged { key: String },
}

pub fn slot_key(wal_id: u64, slot: u64) -> String {
    format!("wal/{wal_id:020}/{slot:020}")
}

/// The same bytes whoever puts it there, so that takers never get in each other's way.
pub fn tombstone(wal_id: u64, slot: u64) -> Bytes {
    let mut out = Encoder::with_capacity(TOMBSTONE_LEN);
    out.raw(&TOMBSTONE_MAGIC);
    out.u16(TOMBSTONE_VERSION);
    out.u16(0);
    out.u64(wal_id);
    out.u64(slot);
    let crc = crc32c(out.as_slice());
    out.u32(crc);
    out.into_vec().into()
}

/// What stands there, by its first bytes. None: neither a commit nor this slot's tombstone.
pub fn slot_of(first: &[u8], wal_id: u64, slot: u64) -> Option<Slot> {
    match first {
        _ if first.starts_with(&container::MAGIC) => Some(Slot::Data),
        _ if first == tombstone(wal_id, slot) => Some(Slot::Tombstone),
        _ => None,
    }
}

/// Looks at the first bytes of a slot.
pub async fn look(bucket: &dyn Bucket, wal_id: u64, slot: u64) -> Result<Slot, SlotError> {
    let key = slot_key(wal_id, slot);
    let first = patiently(PATIENCE, || bucket.get_range(&key, 0..TOMBSTONE_LEN as u64)).await?;
    match first {
        None => Ok(Slot::Absent),
        Some(bytes) => slot_of(&bytes, wal_id, slot).ok_or(SlotError::Damaged { key }),
    }
}

/// Is it the commit of this slot?
pub fn check_place(header: &ContainerHeader, wal_id: u64, slot: u64) -> Result<(), String> {
    match header.kind == Kind::Object
        && header.log_id == u128::from(wal_id).to_be_bytes()
        && header.number == slot
    {
        true => Ok(()),
        false => Err("it belongs elsewhere".into()),
    }
}

/// Where the slot raises log starts.
pub fn log_starts_of(footer: &Footer) -> Result<Vec<LogStart>, String> {
    match footer.section(SectionKind::LogStarts) {
        Some(section) => LogStart::decode_all(section).map_err(|error| error.to_string()),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_has_the_same_bytes_for_ever() {
        let golden = b"OTTLATMB\x01\0\0\0\x07\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0";
        let bytes = tombstone(7, 9);
        assert_eq!((bytes.len(), &bytes[..28]), (TOMBSTONE_LEN, &golden[..]));
        assert_eq!(bytes[28..], crc32c(golden).to_le_bytes());
        assert_ne!(bytes, tombstone(7, 10));
        assert_ne!(bytes, tombstone(8, 9));
    }

    #[test]
    fn keys_are_in_the_order_of_their_numbers() {
        assert_eq!(slot_key(7, 9), "wal/00000000000000000007/00000000000000000009");
        assert!(slot_key(7, u64::MAX) < slot_key(8, 0) && slot_key(7, 99) < slot_key(7, 100));
    }
}
