//! A segment and a manifest object of version 1 that must stay readable for ever: `tests/golden/v1`.
//! `OTTLA_GOLDEN=write` makes them anew, which is right only for a new version beside the old one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use commitlog::container::{Kind, SectionKind};
use commitlog::encoding::FormatError;
use commitlog::manifest::{PlacedPiece, Shard};
use commitlog::segment::{Piece, SegmentInfo, SegmentSource, Sources, decode_epoch_starts, fuzz_segment};
use protocol::{TopicIdPartition, Uuid};

use crate::house::run;
use crate::segments::{Home, fill};

fn golden(name: &str, fresh: &[u8]) -> Vec<u8> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name);
    if std::env::var_os("OTTLA_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, fresh).unwrap();
    }
    std::fs::read(&path).unwrap()
}

#[test]
fn segments_and_manifest_of_version_1_are_still_what_we_write_and_read() {
    let (segment, object) = run(1, async {
        let home = Home::new(1);
        let open = home.open().await.unwrap();
        fill(&open, 0, 60).await;
        open.rewrite_all().await.unwrap();
        let first = |dir: &str| home.disk.content(&home.named(dir)[0]).unwrap();
        (first("segments"), first("manifest"))
    });
    let changed = "the bytes changed: that takes a new version, and this file stays readable";
    let stored = golden("first.seg", &segment);
    assert!(stored == segment, "{changed}");
    let footer = fuzz_segment(&stored).unwrap();
    let header = commitlog::container::ContainerHeader::decode(&stored).unwrap();
    assert_eq!((header.kind, header.len()), (Kind::Segment, stored.len() as u64));
    let sources = Sources::decode(footer.section(SectionKind::Sources).unwrap()).unwrap();
    assert_eq!(sources.from[0], SegmentSource::WalFile(1));
    assert_eq!(sources.batches, footer.entries.len() as u64);
    assert_eq!(sources.records, footer.entries.len() as u64 * 3);
    let epochs = decode_epoch_starts(footer.section(SectionKind::EpochStarts).unwrap()).unwrap();
    assert_eq!(epochs.len(), footer.extents.len());
    assert!(epochs.iter().all(|(_, epoch, offset)| *epoch == 0 && *offset == 0));

    let stored = golden("shard.manifest", &object);
    assert!(stored == object, "{changed}");
    let shard = Shard::decode(&stored).unwrap();
    assert!(shard.version >= 1);
    for placed in shard.partitions.values().flatten() {
        assert!(placed.piece.position + placed.piece.len <= 128 + placed.segment.payload_len);
        assert_eq!(placed.piece.leader_epoch, 0);
    }
}

#[test]
fn a_manifest_in_which_a_segment_stands_twice_is_refused() {
    let placed = |number: u8| PlacedPiece {
        segment: Arc::new(SegmentInfo {
            id: [number; 16],
            len: 1000,
            payload_len: 800,
            header_hash: [number; 16],
            created_ms: 5,
        }),
        piece: Piece {
            first_offset: i64::from(number),
            last_offset: i64::from(number),
            max_timestamp: 1,
            record_count: 1,
            leader_epoch: 0,
            position: 128,
            len: 100,
        },
    };
    let id = TopicIdPartition { topic_id: Uuid([1; 16]), partition: 0 };
    let shard = Shard { partitions: [(id, vec![placed(1), placed(2)])].into(), ..Shard::default() };
    let mut bytes = shard.encode();
    assert_eq!(Shard::decode(&bytes), Ok(shard));
    let at = bytes.windows(16).position(|window| window == [2; 16]).unwrap();
    bytes[at..at + 16].fill(1);
    let end = bytes.len() - 16;
    let hash = commitlog::encoding::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&hash);
    let refused = Shard::decode(&bytes);
    assert!(matches!(refused, Err(FormatError::Inconsistent { .. })), "{refused:?}");
}
