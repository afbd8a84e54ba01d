//! What log compaction makes of a batch: fewer records, or none, in the same place of the log.
//!
//! Base and last offset, producer, sequence and epoch stay, so that a producer is recognised and a reader knows where to go on. Records that
//! stay are copied byte by byte; only when the batch gets a delete horizon (KIP-534) are their timestamps written anew, since the horizon takes
//! the place of the base timestamp.
//!
//! Source: Kafka's `MemoryRecords.filterTo`, `DefaultRecordBatch.writeEmptyHeader`.

use bytes::Bytes;

use super::header::{
    ATTRIBUTES_AT, COMPRESSION_MASK, CRC_AT, DELETE_HORIZON_BIT, HEADER_LEN, KNOWN_BITS, LENGTH_PREFIX_LEN,
    NO_TIMESTAMP, crc32c,
};
use super::record::RecordsRef;
use super::varint::{read_varint, read_varlong, varlong_len, write_varint, write_varlong};
use super::{Batch, BatchError, BatchHeader, RecordRef, TimestampType};
use crate::compression::Compression;

/// The batch with those of its records that are kept, compressed as it was. `records` are its records, decompressed. `delete_horizon_ms`: the time
/// from which its tombstones may go; without one, what the batch says of it already stays. At least one record has to be kept.
pub fn retained(
    batch: &Batch,
    records: &[u8],
    mut keep: impl FnMut(&RecordRef<'_>) -> bool,
    delete_horizon_ms: Option<i64>,
) -> Result<Bytes, BatchError> {
    let header = &batch.header;
    let base_timestamp = delete_horizon_ms.unwrap_or(header.base_timestamp);
    let mut kept: Vec<u8> = Vec::with_capacity(records.len());
    let (mut count, mut newest) = (0, NO_TIMESTAMP);
    for record in RecordsRef::new(records, header.record_count) {
        let record = record?;
        if !keep(&record) {
            continue;
        }
        count += 1;
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        newest = newest.max(timestamp);
        let malformed = || BatchError::Record { index: count, reason: "the record is cut off" };
        let mut rest = &records[record.position..];
        let len = read_varint(&mut rest).and_then(|len| usize::try_from(len).ok()).ok_or_else(malformed)?;
        let mut body = rest.get(..len).ok_or_else(malformed)?;
        if base_timestamp == header.base_timestamp {
            write_varint(&mut kept, len as i32);
            kept.extend_from_slice(body);
            continue;
        }
        let attributes = *body.first().ok_or_else(malformed)?;
        body = &body[1..];
        read_varlong(&mut body).ok_or_else(malformed)?;
        let delta = timestamp.wrapping_sub(base_timestamp);
        write_varint(&mut kept, (1 + varlong_len(delta) + body.len()) as i32);
        kept.push(attributes);
        write_varlong(&mut kept, delta);
        kept.extend_from_slice(body);
    }
    if count == 0 {
        return Err(BatchError::Empty);
    }
    let max_timestamp = match header.timestamp_type() {
        TimestampType::LogAppendTime => header.max_timestamp,
        TimestampType::CreateTime => newest,
    };
    let horizon_bit = if delete_horizon_ms.is_some() { DELETE_HORIZON_BIT } else { 0 };
    let new = BatchHeader {
        attributes: header.attributes & KNOWN_BITS | horizon_bit,
        base_timestamp,
        max_timestamp,
        record_count: count,
        ..*header
    };
    match header.compression() {
        Compression::None => written(new, &kept),
        codec => written(new, &codec.compress(&kept, None)?),
    }
}

/// The batch without any record: what is left says which offsets it had, whose it was, and how new it was.
pub fn emptied(batch: &Batch) -> Bytes {
    let header = &batch.header;
    let new = BatchHeader {
        attributes: header.attributes & KNOWN_BITS & !COMPRESSION_MASK & !DELETE_HORIZON_BIT,
        base_timestamp: NO_TIMESTAMP,
        record_count: 0,
        ..*header
    };
    written(new, &[]).expect("a header is not too long")
}

fn written(mut header: BatchHeader, records: &[u8]) -> Result<Bytes, BatchError> {
    header.batch_length = i32::try_from(HEADER_LEN - LENGTH_PREFIX_LEN + records.len())
        .map_err(|_| BatchError::TooLarge { cap: i32::MAX as usize })?;
    let mut out = Vec::with_capacity(HEADER_LEN + records.len());
    let mut head = [0; HEADER_LEN];
    header.write(&mut head);
    out.extend_from_slice(&head);
    out.extend_from_slice(records);
    let crc = crc32c(&out[ATTRIBUTES_AT..]);
    out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Header, Record};

    const MAX: usize = 1 << 20;

    fn batch(compression: Compression) -> Batch {
        let headers = [Header::new("h", Some("1")), Header::new("none", None::<Bytes>)];
        let mut builder = BatchBuilder::new()
            .compression(compression)
            .base_offset(100)
            .leader_epoch(7)
            .producer(9, 3, 40)
            .transactional(true);
        for (key, value, timestamp) in [("a", Some("1"), 1_000), ("b", None, 5_000), ("c", Some("3"), 3_000)]
        {
            let value = value.map(str::as_bytes);
            builder.append(timestamp, Some(key.as_bytes()), value, &headers).unwrap();
        }
        Batch::parse(builder.build().unwrap()).unwrap()
    }

    fn records(batch: &Batch) -> Vec<Record> {
        batch.records(MAX).map(Result::unwrap).collect()
    }

    #[test]
    fn what_stays_is_as_it_was_and_where_it_was() {
        for codec in
            [Compression::None, Compression::Gzip, Compression::Lz4, Compression::Snappy, Compression::Zstd]
        {
            let whole = batch(codec);
            let bytes = whole.decompress(MAX).unwrap();
            for horizon in [None, Some(1_700_000_000_000)] {
                let keep = |record: &RecordRef<'_>| record.key != Some(b"b");
                let less = Batch::parse(retained(&whole, &bytes, keep, horizon).unwrap()).unwrap();
                less.verify_crc().unwrap();
                let expected: Vec<Record> =
                    records(&whole).into_iter().filter(|record| record.offset != 101).collect();
                assert_eq!(records(&less), expected, "{codec:?} {horizon:?}");
                let (old, new) = (whole.header, less.header);
                assert_eq!((new.base_offset, new.last_offset(), new.record_count), (100, 102, 2));
                assert_eq!(new.max_timestamp, 3_000, "of what is left");
                assert_eq!(new.delete_horizon_ms(), horizon);
                assert_eq!(new.compression(), old.compression());
                assert_eq!(
                    (new.producer_id, new.producer_epoch, new.base_sequence, new.partition_leader_epoch),
                    (9, 3, 40, 7)
                );
                assert!(new.is_transactional() && !new.is_control());
                // A horizon that is set stays when more of the batch goes.
                let again = retained(&less, &less.decompress(MAX).unwrap(), |r| r.key == Some(b"c"), None);
                let again = Batch::parse(again.unwrap()).unwrap();
                assert_eq!(records(&again), expected[1..]);
                assert_eq!(again.header.delete_horizon_ms(), horizon);
            }
        }
    }

    #[test]
    fn an_emptied_batch_still_says_whose_it_was() {
        let whole = batch(Compression::Zstd);
        let empty = Batch::parse(emptied(&whole)).unwrap();
        empty.verify_crc().unwrap();
        assert!(records(&empty).is_empty());
        let header = empty.header;
        assert_eq!((header.base_offset, header.last_offset(), header.last_sequence()), (100, 102, 42));
        assert_eq!((header.producer_id, header.producer_epoch, header.max_timestamp), (9, 3, 5_000));
        assert!(header.is_transactional() && header.compression() == Compression::None);
        let none = retained(&whole, &whole.decompress(MAX).unwrap(), |_| false, None);
        assert!(matches!(none, Err(BatchError::Empty)));
    }

    #[test]
    fn the_time_of_a_log_append_time_batch_does_not_change() {
        let mut builder = BatchBuilder::new().log_append_time(9_000);
        for key in ["a", "b"] {
            builder.append(1, Some(key.as_bytes()), Some(b"v"), &[]).unwrap();
        }
        let whole = Batch::parse(builder.build().unwrap()).unwrap();
        let kept = retained(&whole, &whole.decompress(MAX).unwrap(), |r| r.offset_delta == 1, Some(77));
        let kept = Batch::parse(kept.unwrap()).unwrap();
        assert_eq!(records(&kept)[0].timestamp, 9_000);
        assert_eq!((kept.header.max_timestamp, kept.header.delete_horizon_ms()), (9_000, Some(77)));
    }
}
