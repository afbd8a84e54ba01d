//! Files of version 1 that must stay readable for ever: `tests/golden`. `OTTLA_GOLDEN=write` makes them anew, which is
//! right only for a new version beside the old one.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use commitlog::container::{self, Kind, SectionKind};

use crate::house::{House, append, batch, partition, read_all, run, small};

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// Three commits of two partitions with and without producers, one trim, closed.
async fn make() -> House {
    let house = House::new(1, small());
    let log = house.open().await.unwrap();
    for i in 0..3 {
        let first = append(&partition(&log, 0), batch(&[format!("a{i}")], None, 1_000 + i)).unwrap();
        let second = append(
            &partition(&log, 2),
            batch(&[format!("b{i}"), "B".into()], Some((9, 1, i as i32 * 2)), 2_000),
        )
        .unwrap();
        first.committed().await.unwrap();
        second.committed().await.unwrap();
    }
    partition(&log, 2).delete_records(2).await.unwrap();
    house.disk.kill();
    house
}

#[test]
fn the_wal_file_of_version_1_is_still_what_we_write() {
    let path = golden_dir().join("first.wal");
    let content =
        run(1, async { make().await.disk.content(Path::new("/data/wal/00000000000000000001.wal")).unwrap() });
    // Behind the last chunk there are zeros.
    let end = content.iter().rposition(|byte| *byte != 0).unwrap() / 4096 * 4096 + 4096;
    if std::env::var_os("OTTLA_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::create_dir_all(golden_dir()).unwrap();
        std::fs::write(&path, &content[..end]).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    assert_eq!(
        golden,
        content[..end],
        "the bytes changed: that takes a new version, and this file stays readable"
    );
}

#[test]
fn a_container_of_version_1_is_read_as_it_was_meant() {
    let golden = Bytes::from(std::fs::read(golden_dir().join("first.wal")).unwrap());
    let mut at = 0;
    let mut seen = Vec::new();
    let mut trims = 0;
    while at < golden.len() {
        let (header, footer) = container::open(&golden.slice(at..)).unwrap();
        assert_eq!(header.kind, Kind::Chunk);
        seen.extend(
            footer.extents.iter().map(|e| (e.id.partition, e.first_offset, e.last_offset, e.max_timestamp)),
        );
        trims += usize::from(footer.section(SectionKind::LogStarts).is_some());
        at += header.padded_len() as usize;
    }
    let partitions = |wanted: i32| {
        seen.iter().filter(|(p, ..)| *p == wanted).map(|(_, a, b, _)| (*a, *b)).collect::<Vec<_>>()
    };
    assert_eq!(partitions(0), [(0, 0), (1, 1), (2, 2)]);
    assert_eq!(partitions(2), [(0, 1), (2, 3), (4, 5)]);
    assert_eq!(trims, 1);
}

#[test]
fn a_log_of_version_1_opens() {
    run(1, async {
        let house = make().await;
        let log = house.open().await.unwrap();
        assert_eq!(read_all(&partition(&log, 0), 4096).await.len(), 3);
        assert_eq!(read_all(&partition(&log, 2), 4096).await.len(), 4);
        assert_eq!(partition(&log, 2).producers().len(), 1);
    });
}
