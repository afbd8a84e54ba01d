//! The five compression types of a record batch, in memory, with a cap on what comes out.
//!
//! A batch's records are compressed as one block. Two things here surprise:
//!
//! * **Snappy** has two wire forms. Java (and everything that copies it) writes the framing of the Xerial
//!   library: a 16-byte header, then length-prefixed raw blocks. librdkafka and others write one raw block.
//!   We read both and write the framed form, which every client reads.
//! * **LZ4** is the frame format with *independent* blocks. The Java reader refuses linked blocks, so we must
//!   never write them; we do read them.
//!
//! What comes out is bounded by the caller (`cap`): a batch of a few bytes can otherwise ask for gigabytes.
//! The bound is held before memory is asked for (snappy and zstd say or imply how much will come) or while
//! the stream is read (gzip, lz4); no codec allocates more than `cap` plus a small constant.

use std::io::{Read, Write};

use bytes::Bytes;
use thiserror::Error;

/// How the records of a batch are compressed: the low three bits of the batch attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Compression {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// Why compressed bytes could not be read or written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CompressionError {
    /// The data would decompress to more than the caller allows.
    #[error("decompresses to more than {cap} bytes")]
    TooLarge { cap: usize },
    /// The data is not what the codec writes.
    #[error("not valid {codec} data: {reason}")]
    Corrupt { codec: &'static str, reason: String },
    /// The codec itself refused (out of memory, a level out of its range).
    #[error("{codec} could not compress: {reason}")]
    Refused { codec: &'static str, reason: String },
}

impl Compression {
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The type for the low three attribute bits; 5, 6 and 7 mean nothing.
    pub const fn from_attribute_bits(bits: u8) -> Option<Compression> {
        match bits {
            0 => Some(Compression::None),
            1 => Some(Compression::Gzip),
            2 => Some(Compression::Snappy),
            3 => Some(Compression::Lz4),
            4 => Some(Compression::Zstd),
            _ => None,
        }
    }

    pub const fn attribute_bits(self) -> u8 {
        self as u8
    }

    /// Kafka's word in `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// The type for one of Kafka's words (`none`, `gzip`, `snappy`, `lz4`, `zstd`).
    pub fn from_name(name: &str) -> Option<Compression> {
        Compression::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Compresses `data` as the records of one batch.
    ///
    /// `level` has the meaning of Kafka's `compression.gzip.level` (1–9, −1 is the default),
    /// `compression.lz4.level` (1–17; 9, the default, is the *fast* compressor, everything else the slow one)
    /// and `compression.zstd.level` (−131072–22); `None` takes the codec's default. A level out of range is
    /// clamped: the config table has refused it long before.
    pub fn compress(self, data: &[u8], level: Option<i32>) -> Result<Bytes, CompressionError> {
        match self {
            Compression::None => Ok(Bytes::copy_from_slice(data)),
            Compression::Gzip => gzip(data, level),
            Compression::Snappy => snappy(data),
            Compression::Lz4 => lz4(data, level),
            Compression::Zstd => zstd(data, level),
        }
    }

    /// Decompresses the records of one batch; an error as soon as more than `cap` bytes would come out.
    pub fn decompress(self, data: &Bytes, cap: usize) -> Result<Bytes, CompressionError> {
        match self {
            Compression::None if data.len() > cap => Err(CompressionError::TooLarge { cap }),
            Compression::None => Ok(data.clone()),
            Compression::Gzip => gunzip(data, cap),
            Compression::Snappy => unsnappy(data, cap),
            Compression::Lz4 => unlz4(data, cap),
            Compression::Zstd => unzstd(data, cap),
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

// ---- gzip

fn gzip(data: &[u8], level: Option<i32>) -> Result<Bytes, CompressionError> {
    let level = match level {
        None => flate2::Compression::default(),
        Some(negative) if negative < 0 => flate2::Compression::default(),
        Some(level) => flate2::Compression::new(level.clamp(1, 9) as u32),
    };
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(data.len() / 2 + 64), level);
    encoder
        .write_all(data)
        .and_then(|()| encoder.finish())
        .map(Bytes::from)
        .map_err(|error| CompressionError::Refused { codec: "gzip", reason: error.to_string() })
}

fn gunzip(data: &[u8], cap: usize) -> Result<Bytes, CompressionError> {
    read_capped("gzip", flate2::read::MultiGzDecoder::new(data), data.len(), cap)
}

/// Reads a decoder to its end, but never more than one byte past the cap.
fn read_capped(
    codec: &'static str,
    mut decoder: impl Read,
    compressed_len: usize,
    cap: usize,
) -> Result<Bytes, CompressionError> {
    let mut out = Vec::with_capacity(compressed_len.saturating_mul(3).min(cap).min(1 << 20));
    let limit = (cap as u64).saturating_add(1);
    decoder
        .by_ref()
        .take(limit)
        .read_to_end(&mut out)
        .map_err(|error| CompressionError::Corrupt { codec, reason: error.to_string() })?;
    if out.len() > cap {
        return Err(CompressionError::TooLarge { cap });
    }
    Ok(out.into())
}

// ---- snappy

/// What the Xerial library puts before its blocks: a magic, a version and the oldest version that can read it.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_LEN: usize = 16;
const XERIAL_BLOCK_LEN: usize = 32 * 1024;

/// A snappy element of three bytes can stand for 64 bytes; nothing expands more than that.
const SNAPPY_EXPANSION_MAX: usize = 22;

fn snappy(data: &[u8]) -> Result<Bytes, CompressionError> {
    let refused =
        |error: snap::Error| CompressionError::Refused { codec: "snappy", reason: error.to_string() };
    let mut encoder = snap::raw::Encoder::new();
    let mut out = Vec::with_capacity(XERIAL_HEADER_LEN + data.len() / 2 + 64);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    for block in data.chunks(XERIAL_BLOCK_LEN) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
        let written = encoder.compress(block, &mut out[at + 4..]).map_err(refused)?;
        out[at..at + 4].copy_from_slice(&(written as u32).to_be_bytes());
        out.truncate(at + 4 + written);
    }
    Ok(out.into())
}

fn unsnappy(data: &[u8], cap: usize) -> Result<Bytes, CompressionError> {
    let corrupt = |reason: &str| CompressionError::Corrupt { codec: "snappy", reason: reason.to_string() };
    let mut decoder = snap::raw::Decoder::new();
    let mut out = Vec::new();
    if !data.starts_with(&XERIAL_MAGIC) {
        unsnappy_block(&mut decoder, data, &mut out, cap)?;
        return Ok(out.into());
    }
    let mut rest = data.get(XERIAL_HEADER_LEN..).ok_or_else(|| corrupt("the header is cut off"))?;
    while !rest.is_empty() {
        // Streams may be joined end to end: a new header then stands where a length is expected. (A length
        // cannot look like it: the magic's first byte makes it negative.)
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_LEN..).ok_or_else(|| corrupt("the header is cut off"))?;
            continue;
        }
        let (len, after) = rest.split_first_chunk::<4>().ok_or_else(|| corrupt("a length is cut off"))?;
        let len = u32::from_be_bytes(*len) as usize;
        if len > after.len() {
            return Err(corrupt("a block is cut off"));
        }
        unsnappy_block(&mut decoder, &after[..len], &mut out, cap)?;
        rest = &after[len..];
    }
    Ok(out.into())
}

fn unsnappy_block(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    out: &mut Vec<u8>,
    cap: usize,
) -> Result<(), CompressionError> {
    let corrupt = |reason: String| CompressionError::Corrupt { codec: "snappy", reason };
    let len = snap::raw::decompress_len(block).map_err(|error| corrupt(error.to_string()))?;
    if len > cap.saturating_sub(out.len()) {
        return Err(CompressionError::TooLarge { cap });
    }
    if len > block.len().saturating_mul(SNAPPY_EXPANSION_MAX) {
        return Err(corrupt(format!("{} bytes cannot hold {len}", block.len())));
    }
    let at = out.len();
    out.resize(at + len, 0);
    let written = decoder.decompress(block, &mut out[at..]).map_err(|error| corrupt(error.to_string()))?;
    out.truncate(at + written);
    Ok(())
}

// ---- lz4

/// Kafka's default level stands for LZ4's fast compressor, all others for the high-compression one.
const KAFKA_LZ4_DEFAULT_LEVEL: i32 = 9;

fn lz4(data: &[u8], level: Option<i32>) -> Result<Bytes, CompressionError> {
    let refused =
        |error: std::io::Error| CompressionError::Refused { codec: "lz4", reason: error.to_string() };
    let level = match level {
        None | Some(KAFKA_LZ4_DEFAULT_LEVEL) => 0,
        Some(level) => level.clamp(3, 12) as u32,
    };
    let mut encoder = lz4::EncoderBuilder::new()
        .level(level)
        .block_mode(lz4::BlockMode::Independent)
        .block_size(lz4::BlockSize::Max64KB)
        .checksum(lz4::ContentChecksum::NoChecksum)
        .block_checksum(lz4::liblz4::BlockChecksum::NoBlockChecksum)
        .build(Vec::with_capacity(data.len() / 2 + 64))
        .map_err(refused)?;
    encoder.write_all(data).map_err(refused)?;
    let (out, result) = encoder.finish();
    result.map_err(refused)?;
    Ok(out.into())
}

fn unlz4(data: &[u8], cap: usize) -> Result<Bytes, CompressionError> {
    let corrupt = |reason: String| CompressionError::Corrupt { codec: "lz4", reason };
    let mut decoder = lz4::Decoder::new(data).map_err(|error| corrupt(error.to_string()))?;
    let out = read_capped("lz4", &mut decoder, data.len(), cap)?;
    // The decoder reports a frame that stops too early only here; to `read` it looks like the end.
    decoder.finish().1.map_err(|_| corrupt("the frame is cut off".to_string()))?;
    Ok(out)
}

// ---- zstd

fn zstd(data: &[u8], level: Option<i32>) -> Result<Bytes, CompressionError> {
    zstd::bulk::compress(data, level.unwrap_or(3).clamp(-131_072, 22))
        .map(Bytes::from)
        .map_err(|error| CompressionError::Refused { codec: "zstd", reason: error.to_string() })
}

/// Decodes in one step into a buffer whose size the frame's block headers bound. A streaming decoder would
/// allocate the window that the frame *names*, up to 128 MiB for a frame of a few bytes.
fn unzstd(data: &[u8], cap: usize) -> Result<Bytes, CompressionError> {
    let corrupt = |reason: String| CompressionError::Corrupt { codec: "zstd", reason };
    let bound = zstd_bound(data).ok_or_else(|| corrupt("the frame is cut off or malformed".to_string()))?;
    if bound.at_least > cap as u64 {
        return Err(CompressionError::TooLarge { cap });
    }
    let room = bound.at_most.min(cap as u64) as usize;
    let mut out = Vec::new();
    out.try_reserve_exact(room).map_err(|error| corrupt(error.to_string()))?;
    let mut decoder = zstd::bulk::Decompressor::new().map_err(|error| corrupt(error.to_string()))?;
    match decoder.decompress_to_buffer(data, &mut out) {
        Ok(_) => {}
        // Only a frame that may be larger than the cap can fail for want of room.
        Err(error) if bound.at_most > cap as u64 && error.to_string().contains("too small") => {
            return Err(CompressionError::TooLarge { cap });
        }
        Err(error) => return Err(corrupt(error.to_string())),
    }
    // An allocator may give a little more room than asked for.
    if out.len() > cap {
        return Err(CompressionError::TooLarge { cap });
    }
    // Java's encoder does not say how much will come, so the bound can be far above what came.
    if out.capacity() > 64 * 1024 && out.len() < out.capacity() / 2 {
        out.shrink_to_fit();
    }
    Ok(out.into())
}

struct ZstdBound {
    /// Raw and run-length blocks say exactly what they hold.
    at_least: u64,
    /// A compressed block holds at most 128 KiB.
    at_most: u64,
}

const ZSTD_MAGIC: u32 = 0xFD2F_B528;
const ZSTD_BLOCK_MAX: u64 = 128 * 1024;

/// Walks frame and block headers (RFC 8878 §3.1.1) without decoding anything.
fn zstd_bound(mut data: &[u8]) -> Option<ZstdBound> {
    let mut bound = ZstdBound { at_least: 0, at_most: 0 };
    while !data.is_empty() {
        let magic = u32::from_le_bytes(take(&mut data)?);
        if magic & 0xFFFF_FFF0 == 0x184D_2A50 {
            let skip = u32::from_le_bytes(take(&mut data)?) as usize;
            data = data.get(skip..)?;
            continue;
        }
        if magic != ZSTD_MAGIC {
            return None;
        }
        let [descriptor] = take::<1>(&mut data)?;
        let single_segment = descriptor & 0x20 != 0;
        let dictionary_id_len = [0, 1, 2, 4][(descriptor & 3) as usize];
        let content_size_len = match descriptor >> 6 {
            0 if single_segment => 1,
            0 => 0,
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let window_len = usize::from(!single_segment);
        data = data.get(window_len + dictionary_id_len + content_size_len..)?;
        loop {
            let [a, b, c] = take::<3>(&mut data)?;
            let header = u32::from_le_bytes([a, b, c, 0]);
            let size = (header >> 3) as usize;
            let stored = match (header >> 1) & 3 {
                0 => {
                    bound.at_least += size as u64;
                    bound.at_most += size as u64;
                    size
                }
                1 => {
                    bound.at_least += size as u64;
                    bound.at_most += size as u64;
                    1
                }
                2 => {
                    bound.at_most += ZSTD_BLOCK_MAX;
                    size
                }
                _ => return None,
            };
            data = data.get(stored..)?;
            if header & 1 == 1 {
                break;
            }
        }
        if descriptor & 4 != 0 {
            take::<4>(&mut data)?;
        }
    }
    Some(bound)
}

fn take<const N: usize>(data: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = data.split_first_chunk::<N>()?;
    *data = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mixed(len: usize) -> Vec<u8> {
        (0..len).map(|i| if i % 7 < 4 { b'a' + (i % 5) as u8 } else { ((i * i) >> 3) as u8 }).collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_got() {
        for codec in Compression::ALL {
            for len in [0, 1, 100, 32 * 1024, 65 * 1024, 700_000] {
                let data = mixed(len);
                let packed = codec.compress(&data, None).unwrap();
                assert_eq!(codec.decompress(&packed, len).unwrap(), data, "{codec} {len}");
            }
        }
    }

    #[test]
    fn levels_of_kafkas_ranges_are_taken() {
        let data = mixed(50_000);
        for (codec, levels) in [
            (Compression::Gzip, vec![-1, 1, 6, 9]),
            (Compression::Lz4, vec![1, 3, 9, 12, 17]),
            (Compression::Zstd, vec![-131_072, -5, 1, 3, 19, 22]),
            (Compression::Snappy, vec![3]),
        ] {
            for level in levels {
                let packed = codec.compress(&data, Some(level)).unwrap();
                assert_eq!(codec.decompress(&packed, 1 << 20).unwrap(), data, "{codec} level {level}");
            }
        }
    }

    #[test]
    fn the_cap_holds_for_bombs() {
        // Given 64 MiB of zeros packed into very little
        let zeros = vec![0u8; 64 << 20];
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let packed = codec.compress(&zeros, None).unwrap();
            // when a caller allows 1 MiB, then it gets an error and not the 64 MiB
            assert_eq!(
                codec.decompress(&packed, 1 << 20),
                Err(CompressionError::TooLarge { cap: 1 << 20 }),
                "{codec}"
            );
            assert_eq!(
                codec.decompress(&packed, zeros.len() - 1),
                Err(CompressionError::TooLarge { cap: zeros.len() - 1 })
            );
            assert!(codec.decompress(&packed, zeros.len()).is_ok());
        }
    }

    #[test]
    fn a_raw_snappy_block_is_read_too() {
        let data = mixed(100_000);
        let raw = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        assert_eq!(Compression::Snappy.decompress(&raw.into(), 1 << 20).unwrap(), data);
    }

    #[test]
    fn a_snappy_length_that_lies_is_refused_before_memory_is_asked_for() {
        // a varint that claims almost 2 GiB, then nothing
        let lie = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x07, 0, 0]);
        assert!(matches!(
            Compression::Snappy.decompress(&lie, usize::MAX),
            Err(CompressionError::Corrupt { .. })
        ));
    }

    #[test]
    fn lz4_frames_with_linked_blocks_and_checksums_are_read() {
        let data = mixed(300_000);
        for mode in [lz4::BlockMode::Linked, lz4::BlockMode::Independent] {
            for size in [lz4::BlockSize::Max64KB, lz4::BlockSize::Max4MB] {
                let mut encoder = lz4::EncoderBuilder::new()
                    .block_mode(mode.clone())
                    .block_size(size.clone())
                    .checksum(lz4::ContentChecksum::ChecksumEnabled)
                    .build(Vec::new())
                    .unwrap();
                encoder.write_all(&data).unwrap();
                let (packed, result) = encoder.finish();
                result.unwrap();
                assert_eq!(Compression::Lz4.decompress(&packed.clone().into(), 1 << 20).unwrap(), data);
                // and a wrong content checksum is noticed
                let mut damaged = packed;
                *damaged.last_mut().unwrap() ^= 1;
                assert!(Compression::Lz4.decompress(&damaged.into(), 1 << 20).is_err());
            }
        }
    }

    #[test]
    fn our_lz4_frames_have_independent_blocks_because_java_refuses_linked_ones() {
        let packed = Compression::Lz4.compress(&mixed(200_000), None).unwrap();
        assert_eq!(packed[4] & 0x20, 0x20, "block independence flag");
        assert_eq!(packed[4] & 0x1c, 0, "no checksums, no content size");
        assert_eq!(packed[5] >> 4 & 7, 4, "64 KiB blocks");
    }

    #[test]
    fn zstd_frames_without_a_content_size_are_read() {
        let data = mixed(500_000);
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.write_all(&data).unwrap();
        encoder.flush().unwrap();
        encoder.write_all(&data).unwrap();
        let packed: Bytes = encoder.finish().unwrap().into();
        assert_eq!(Compression::Zstd.decompress(&packed, 1_000_000).unwrap(), [data.clone(), data].concat());
        assert_eq!(
            Compression::Zstd.decompress(&packed, 999_999),
            Err(CompressionError::TooLarge { cap: 999_999 })
        );
    }

    proptest! {
        #[test]
        fn cut_or_flipped_data_never_panics(
            codec in 1usize..5, len in 0usize..3000, cut in 0usize..4000, at in 0usize..4000, flip in 1u8..
        ) {
            let codec = Compression::ALL[codec];
            let data = mixed(len);
            let packed = codec.compress(&data, None).unwrap().to_vec();
            let mut damaged = packed[..cut.min(packed.len())].to_vec();
            if let Some(byte) = damaged.get_mut(at) { *byte ^= flip; }
            let intact = damaged == packed;
            let result = codec.decompress(&damaged.into(), 1 << 16);
            prop_assert!(!intact || result.unwrap() == data);
        }

        #[test]
        fn arbitrary_bytes_never_panic(codec in 1usize..5, data: Vec<u8>) {
            if let Ok(out) = Compression::ALL[codec].decompress(&data.into(), 1 << 16) {
                prop_assert!(out.len() <= 1 << 16);
            }
        }

        #[test]
        fn arbitrary_zstd_after_its_magic_never_panics(data: Vec<u8>) {
            let framed = [&ZSTD_MAGIC.to_le_bytes()[..], &data].concat();
            if let Ok(out) = Compression::Zstd.decompress(&framed.into(), 1 << 16) {
                prop_assert!(out.len() <= 1 << 16);
            }
        }
    }
}
