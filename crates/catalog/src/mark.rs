//! The durable mark: a small file beside the log that says "everything up to here is durable".
//!
//! The log alone cannot tell a lost tail from a torn one. The mark is written when the log has been idle for a
//! second (and at close and with each snapshot), so that within that second damage to the newest frame, or a file
//! cut exactly between two frames, is noticed at the next start. Two slots are written in turn: a torn mark leaves
//! the older one.

use crate::encoding::{Decoder, Encoder, checksum};
use crate::frame::LogId;

const MAGIC: [u8; 8] = *b"OTLAMARK";
const VERSION: u16 = 1;
pub const SLOT_LEN: usize = 512;
const FIELDS_LEN: usize = 8 + 2 + 16 + 8 + 8 + 8 + 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub log_id: LogId,
    /// Counts marks; the higher one is the newer, its parity is its slot.
    pub sequence: u64,
    pub position: u64,
    pub log_end: u64,
    pub frame_hash: u128,
}

impl Mark {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(SLOT_LEN);
        out.raw(&MAGIC);
        out.u16(VERSION);
        out.raw(&self.log_id);
        out.u64(self.sequence);
        out.u64(self.position);
        out.u64(self.log_end);
        out.u128(self.frame_hash);
        let mut bytes = out.finish();
        assert_eq!(bytes.len(), FIELDS_LEN);
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        bytes.resize(SLOT_LEN, 0);
        bytes
    }

    pub fn offset(&self) -> u64 {
        (self.sequence % 2) * SLOT_LEN as u64
    }

    fn decode_slot(slot: &[u8]) -> Option<Self> {
        let fields = slot.get(..FIELDS_LEN)?;
        let crc = slot.get(FIELDS_LEN..FIELDS_LEN + 4)?;
        if !fields.starts_with(&MAGIC) || checksum(fields).to_le_bytes() != crc {
            return None;
        }
        let mut fields = Decoder::new(&fields[MAGIC.len()..], "mark");
        if fields.u16().ok()? != VERSION {
            return None;
        }
        Some(Self {
            log_id: fields.take(16).ok()?.try_into().ok()?,
            sequence: fields.u64().ok()?,
            position: fields.u64().ok()?,
            log_end: fields.u64().ok()?,
            frame_hash: fields.u128().ok()?,
        })
    }

    /// The newer readable slot of this log.
    pub fn decode(file: &[u8], log_id: &LogId) -> Option<Self> {
        let slots = file.chunks(SLOT_LEN).take(2).filter_map(Self::decode_slot);
        slots.filter(|mark| mark.log_id == *log_id).max_by_key(|mark| mark.sequence)
    }
}
