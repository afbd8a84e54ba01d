//! One frame of the metadata log: the requests that shared one commit. A frame is what `meta/<seq>` is in a bucket.
//!
//! Header (40 bytes): magic · header checksum · position · body length · body checksum · hash of the predecessor.
//! The header checksum covers the log's id too, so bytes of another log, or a client's bytes in a config value,
//! never look like a frame of this one.

use crate::encoding::{DecodeError, Decoder, Encoder, checksum, hash};
use crate::record::{MetadataRecord, decode_list};
use crate::state::Entry;

pub const MAGIC: [u8; 4] = *b"OMF1";
pub const HEADER_LEN: usize = 40;
/// One commit is never larger; an append beyond it is refused before anything is written.
pub const BODY_LEN_MAX: usize = 64 << 20;

pub type LogId = [u8; 16];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub position: u64,
    pub previous_hash: u128,
    /// Hash of the state before this frame; in every 100th frame, to notice two brokers with two states.
    pub state_hash: Option<u128>,
    pub entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub position: u64,
    pub body_len: usize,
    body_checksum: u32,
    pub previous_hash: u128,
}

#[derive(Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The bytes end inside the frame.
    Incomplete,
    Damaged(&'static str),
    /// The checksums are right, so this was written so: a newer release, never a torn write.
    Decode(DecodeError),
}

impl Frame {
    /// The bytes and their hash.
    pub fn encode(&self, log_id: &LogId) -> (Vec<u8>, u128) {
        let body = self.encode_body();
        assert!(body.len() <= BODY_LEN_MAX, "frame body of {} bytes", body.len());
        let mut fields = Encoder::with_capacity(HEADER_LEN + body.len());
        fields.raw(&MAGIC);
        fields.u32(0);
        fields.u64(self.position);
        fields.u32(body.len() as u32);
        fields.u32(checksum(&body));
        fields.u128(self.previous_hash);
        let mut bytes = fields.finish();
        let crc = header_checksum(log_id, &bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&body);
        let hash = hash(&bytes);
        (bytes, hash)
    }

    fn encode_body(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(256);
        out.bool(self.state_hash.is_some());
        if let Some(hash) = self.state_hash {
            out.u128(hash);
        }
        out.count(self.entries.len());
        for entry in &self.entries {
            encode_entry(entry, &mut out);
        }
        out.finish()
    }
}

pub fn encode_entry(entry: &Entry, out: &mut Encoder) {
    out.u64(entry.writer);
    out.u64(entry.request);
    out.count(entry.records.len());
    for record in &entry.records {
        record.encode(out);
    }
}

pub fn decode_entry(bytes: &mut Decoder<'_>) -> Result<Entry, DecodeError> {
    Ok(Entry {
        writer: bytes.u64()?,
        request: bytes.u64()?,
        records: decode_list(bytes, 3, MetadataRecord::decode)?,
    })
}

/// Bytes that an entry of these records takes in a frame.
pub fn entry_len(records: &[MetadataRecord]) -> usize {
    let mut out = Encoder::default();
    for record in records {
        record.encode(&mut out);
    }
    out.len() + 20
}

pub fn parse_header(log_id: &LogId, bytes: &[u8]) -> Result<Header, FrameError> {
    let bytes = bytes.get(..HEADER_LEN).ok_or(FrameError::Incomplete)?;
    if bytes[..4] != MAGIC {
        return Err(FrameError::Damaged("no frame begins here"));
    }
    if header_checksum(log_id, bytes).to_le_bytes() != bytes[4..8] {
        return Err(FrameError::Damaged("checksum of a frame header"));
    }
    let mut fields = Decoder::new(&bytes[8..], "frame header");
    let mut read = || -> Result<Header, DecodeError> {
        Ok(Header {
            position: fields.u64()?,
            body_len: fields.u32()? as usize,
            body_checksum: fields.u32()?,
            previous_hash: fields.u128()?,
        })
    };
    let header = read().map_err(FrameError::Decode)?;
    if header.body_len > BODY_LEN_MAX {
        return Err(FrameError::Damaged("length of a frame"));
    }
    Ok(header)
}

/// Parses the frame at the start of `bytes`; gives it with its length and hash.
pub fn parse(log_id: &LogId, bytes: &[u8]) -> Result<(Frame, usize, u128), FrameError> {
    let header = parse_header(log_id, bytes)?;
    let len = HEADER_LEN + header.body_len;
    let bytes = bytes.get(..len).ok_or(FrameError::Incomplete)?;
    let body = &bytes[HEADER_LEN..];
    if checksum(body) != header.body_checksum {
        return Err(FrameError::Damaged("checksum of a frame body"));
    }
    let frame = decode_body(&header, body).map_err(FrameError::Decode)?;
    Ok((frame, len, hash(bytes)))
}

fn decode_body(header: &Header, body: &[u8]) -> Result<Frame, DecodeError> {
    let mut bytes = Decoder::new(body, "metadata frame");
    let state_hash = if bytes.bool()? { Some(bytes.u128()?) } else { None };
    let entries = decode_list(&mut bytes, 20, decode_entry)?;
    bytes.end()?;
    Ok(Frame { position: header.position, previous_hash: header.previous_hash, state_hash, entries })
}

/// Over log id and header, the checksum field itself taken as zero.
fn header_checksum(log_id: &LogId, header: &[u8]) -> u32 {
    let mut covered = [0u8; 16 + HEADER_LEN - 8];
    covered[..16].copy_from_slice(log_id);
    covered[16..].copy_from_slice(&header[8..HEADER_LEN]);
    checksum(&covered)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::Str;

    use super::*;

    const LOG: LogId = [7; 16];

    fn frame(record: MetadataRecord) -> Frame {
        let entries = vec![Entry { writer: 1, request: 2, records: vec![record] }];
        Frame { position: 5, previous_hash: 6, state_hash: Some(7), entries }
    }

    #[test]
    fn a_frame_comes_back_and_belongs_to_one_log() {
        let frame = frame(MetadataRecord::CreateCluster { cluster_id: Str::from("x"), level: 1 });
        let (bytes, hash) = frame.encode(&LOG);
        assert_eq!(parse(&LOG, &bytes), Ok((frame, bytes.len(), hash)));
        assert_eq!(parse(&[8; 16], &bytes), Err(FrameError::Damaged("checksum of a frame header")));
        assert_eq!(parse(&LOG, &bytes[..bytes.len() - 1]), Err(FrameError::Incomplete));
    }

    /// R18: a record type or version of a newer release is an error of its own, never damage and never skipped.
    #[test]
    fn an_unknown_record_is_named() {
        for (offset, record_type, version) in [(0, 0x0163, 0), (2, 1, 9)] {
            let (mut bytes, _) =
                frame(MetadataRecord::CreateCluster { cluster_id: Str::from("x"), level: 1 }).encode(&LOG);
            // Body: flag, state hash, entry count, writer, request, record count, then the record.
            let at = HEADER_LEN + 1 + 16 + 4 + 8 + 8 + 4;
            if offset == 0 {
                bytes[at..at + 2].copy_from_slice(&0x0163u16.to_le_bytes());
            } else {
                bytes[at + 2] = 9;
            }
            let body = checksum(&bytes[HEADER_LEN..]);
            bytes[20..24].copy_from_slice(&body.to_le_bytes());
            let header = header_checksum(&LOG, &bytes);
            bytes[4..8].copy_from_slice(&header.to_le_bytes());
            let unknown = FrameError::Decode(DecodeError::UnknownRecord { record_type, version });
            assert_eq!(parse(&LOG, &bytes), Err(unknown));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse(&LOG, &bytes).is_err());
            let mut body = Decoder::new(&bytes, "body");
            let _ = MetadataRecord::decode(&mut body);
            let header =
                Header { position: 1, body_len: bytes.len(), body_checksum: 0, previous_hash: 0 };
            let _ = decode_body(&header, &bytes);
            let _ = crate::snapshot::decode(&bytes, crate::Levels::KNOWN);
        }
    }
}
