//! P7: a flipped bit or a cut at any place is noticed at the next start, or it was in nothing that counted.
//!
//!     metadata.log   header | frame 1 | frame 2 | … | frame n        every bit, every length
//!     snapshots      every 7th bit, some lengths                      the log still has everything
//!     metadata.mark  every bit                                        the other slot, or none

use std::path::Path;
use std::sync::Arc;

use catalog::{CatalogOpenError, CatalogOptions};
use world::disk::MemDisk;

use crate::support::*;

/// A cluster with topics, closed properly, with one snapshot and two frames behind it.
async fn cluster() -> (Arc<MemDisk>, u128) {
    let disk = MemDisk::new(4);
    let catalog =
        open_with(&disk, CatalogOptions { snapshot_frames: 4, ..CatalogOptions::default() }).await.unwrap();
    for number in 1..6u128 {
        catalog.append(vec![topic(number, &format!("t{number}"), 1)]).await.unwrap();
    }
    catalog.close().await;
    let hash = catalog.read().hash();
    (disk, hash)
}

/// Like `cluster`, but the disk is made again for each damage.
async fn copy(of: &Arc<MemDisk>) -> Arc<MemDisk> {
    use world::disk::{Disk, OpenMode};
    let disk = MemDisk::new(8);
    disk.create_dir_all(Path::new(DIR)).await.unwrap();
    for path in of.files() {
        let file = disk.open(&path, OpenMode::Create).await.unwrap();
        file.write_at(0, vec![of.content(&path).unwrap()]).await.unwrap();
        file.sync().await.unwrap();
    }
    disk.sync_dir(Path::new(DIR)).await.unwrap();
    disk
}

#[test]
fn any_bit_of_the_log() {
    run(async {
        let (disk, _) = cluster().await;
        let path = log_path();
        let len = disk.content(&path).unwrap().len() as u64;
        for offset in 0..len {
            let damaged = copy(&disk).await;
            damaged.flip_bit(&path, offset, (offset % 8) as u8);
            match open_with(&damaged, CatalogOptions::default()).await.err() {
                Some(CatalogOpenError::Damaged { file, offset: at, .. }) => {
                    assert_eq!(file, path);
                    assert!(at <= offset, "damage at {offset} reported at {at}");
                }
                Some(CatalogOpenError::Unreadable { .. }) if offset < 32 => {}
                other => panic!("a flipped bit at {offset} of {len}: {other:?}"),
            }
        }
    });
}

#[test]
fn any_length_of_the_log() {
    run(async {
        let (disk, _) = cluster().await;
        let path = log_path();
        let len = disk.content(&path).unwrap().len() as u64;
        for shorter in 0..len {
            let damaged = copy(&disk).await;
            damaged.truncate(&path, shorter);
            let error = open_with(&damaged, CatalogOptions::default()).await.err();
            assert!(
                matches!(error, Some(CatalogOpenError::Damaged { .. })),
                "cut to {shorter} of {len}: {error:?}"
            );
        }
        let gone = copy(&disk).await;
        use world::disk::Disk;
        gone.remove(&path).await.unwrap();
        let error = open_with(&gone, CatalogOptions::default()).await.err();
        assert!(matches!(error, Some(CatalogOpenError::LogMissing { .. })), "{error:?}");
    });
}

#[test]
fn a_damaged_snapshot_or_mark_costs_nothing() {
    run(async {
        let (disk, hash) = cluster().await;
        for path in disk.files() {
            if path == log_path() {
                continue;
            }
            let len = disk.content(&path).unwrap().len() as u64;
            for offset in (0..len).step_by(3) {
                let damaged = copy(&disk).await;
                damaged.flip_bit(&path, offset, (offset % 8) as u8);
                // A format number of the future is the one thing that may stop it.
                match open_with(&damaged, CatalogOptions::default()).await {
                    Ok(catalog) => {
                        assert_eq!(catalog.read().topic_count(), 5, "{}: bit at {offset}", path.display());
                    }
                    Err(error) => panic!("{}: bit at {offset}: {error}", path.display()),
                }
            }
            for shorter in [0, 1, len / 2, len - 1] {
                let damaged = copy(&disk).await;
                damaged.truncate(&path, shorter);
                let catalog = open_with(&damaged, CatalogOptions::default()).await;
                assert!(catalog.is_ok(), "{} cut to {shorter}", path.display());
            }
        }
        // And the state is the same with and without the snapshots.
        let without = copy(&disk).await;
        for path in disk.files() {
            if path.extension().is_some_and(|extension| extension == "snapshot") {
                use world::disk::Disk;
                without.remove(&path).await.unwrap();
            }
        }
        let log = without.content(&log_path()).unwrap();
        assert_eq!(log, disk.content(&log_path()).unwrap());
        let catalog = open_with(&without, CatalogOptions::default()).await.unwrap();
        assert_eq!(catalog.read().topic_count(), 5);
        assert_ne!(catalog.read().hash(), hash, "this start registered itself");
    });
}

/// Of a large log only the tail behind the newest snapshot is read; damage there is noticed all the same.
#[test]
fn a_large_log_is_read_from_its_snapshot() {
    run(async {
        let (disk, _) = cluster().await;
        let options = CatalogOptions { check_whole_bytes_max: 0, ..CatalogOptions::default() };
        let len = disk.content(&log_path()).unwrap().len() as u64;
        let snapshot_end = {
            let path =
                disk.files().into_iter().find(|path| path.to_string_lossy().ends_with("4.snapshot")).unwrap();
            let bytes = disk.content(&path).unwrap();
            u64::from_le_bytes(bytes[36..44].try_into().unwrap())
        };
        assert!(snapshot_end < len, "two frames lie behind the snapshot");
        for offset in 0..len {
            let damaged = copy(&disk).await;
            damaged.flip_bit(&log_path(), offset, 3);
            let opened = open_with(&damaged, options.clone()).await;
            if (32..snapshot_end).contains(&offset) {
                assert_eq!(opened.unwrap().read().topic_count(), 5, "bit at {offset}: nobody needed it");
            } else {
                assert!(opened.is_err(), "bit at {offset}");
            }
        }
        for shorter in 0..len {
            let damaged = copy(&disk).await;
            damaged.truncate(&log_path(), shorter);
            assert!(open_with(&damaged, options.clone()).await.is_err(), "cut to {shorter}");
        }
    });
}

/// The newest frame within its second of idleness: it cannot be told from a torn one, and is cut. Stated exception.
#[test]
fn the_newest_frame_is_protected_after_a_second_of_idleness() {
    run(async {
        for idle in [false, true] {
            let disk = MemDisk::new(4);
            let catalog = open(&disk).await;
            catalog.append(vec![topic(1, "a", 1)]).await.unwrap();
            world::task::sleep(std::time::Duration::from_secs(2)).await;
            catalog.append(vec![topic(2, "b", 1)]).await.unwrap();
            if idle {
                world::task::sleep(std::time::Duration::from_secs(1)).await;
            }
            disk.kill();
            let len = disk.content(&log_path()).unwrap().len() as u64;
            disk.flip_bit(&log_path(), len - 1, 0);
            match open_with(&disk, CatalogOptions::default()).await {
                Ok(catalog) => {
                    assert!(!idle);
                    assert!(catalog.read().topic("a").is_some() && catalog.read().topic("b").is_none());
                    assert_eq!(catalog.notices().len(), 1);
                }
                Err(error) => {
                    assert!(idle, "{error}");
                    assert!(error.to_string().contains("metadata.log is damaged at byte"), "{error}");
                }
            }
        }
    });
}

/// Whatever the files hold, opening says yes or says why; it never panics and never hangs.
#[test]
fn arbitrary_bytes_in_every_file() {
    use world::disk::{Disk, OpenMode};
    use world::rng::{Rng, SeededRng};
    run(async {
        let (disk, _) = cluster().await;
        for seed in 0..300 {
            let rng = SeededRng::new(seed);
            let damaged = copy(&disk).await;
            let files = damaged.files();
            let path = &files[rng.below(files.len() as u64) as usize];
            let len = damaged.content(path).unwrap().len() as u64;
            let (from, run) = (rng.below(len), 1 + rng.below(200) as usize);
            let mut bytes = vec![0; run];
            rng.fill(&mut bytes);
            let file = damaged.open(path, OpenMode::ReadWrite).await.unwrap();
            file.write_at(from, vec![bytes.into()]).await.unwrap();
            file.sync().await.unwrap();
            match open_with(&damaged, CatalogOptions::default()).await {
                Ok(catalog) => assert_eq!(catalog.read().topic_count(), 5, "seed {seed}, {}", path.display()),
                Err(error) => assert!(!matches!(error, CatalogOpenError::Disk(_)), "seed {seed}: {error}"),
            }
        }
    });
}
