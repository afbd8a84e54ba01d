//! What a power cut may take from the simulated disk, and what it may not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use world::disk::{Disk, DiskErrorKind, File, MemDisk, MemFaults, OpenMode, read_small, write_atomic};
use world::rng::{Rng, SeededRng};

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

fn dir() -> PathBuf {
    PathBuf::from("/data")
}

fn path(name: &str) -> PathBuf {
    dir().join(name)
}

async fn disk(seed: u64) -> Arc<MemDisk> {
    let disk = MemDisk::new(seed);
    disk.create_dir_all(&dir()).await.unwrap();
    disk
}

/// A file whose name is durable.
async fn durable_file(disk: &MemDisk, name: &str, content: &[u8]) -> Arc<dyn File> {
    let file = disk.open(&path(name), OpenMode::CreateNew).await.unwrap();
    file.write_and_sync(0, vec![Bytes::copy_from_slice(content)]).await.unwrap();
    disk.sync_dir(&dir()).await.unwrap();
    file
}

#[test]
fn what_was_synced_survives_every_crash() {
    for seed in 0..200 {
        run(async {
            let disk = disk(seed).await;
            let file = durable_file(&disk, "a", &[7; 10_000]).await;
            file.write_and_sync(5_000, vec![Bytes::from(vec![8; 3_000]), Bytes::from(vec![9; 10])])
                .await
                .unwrap();
            disk.crash(seed);
            let after = disk.content(&path("a")).unwrap();
            assert_eq!(after.len(), 10_000);
            assert!(
                after[..5_000].iter().all(|byte| *byte == 7) && after[8_010..].iter().all(|byte| *byte == 7)
            );
            assert!(after[5_000..8_000].iter().all(|byte| *byte == 8) && after[8_000..8_010] == [9; 10]);
        });
    }
}

#[test]
fn an_unsynced_write_is_lost_kept_or_torn_at_sector_borders() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..300 {
        run(async {
            let disk = disk(1).await;
            let file = durable_file(&disk, "a", &[0; 16_384]).await;
            file.write_at(100, vec![Bytes::from(vec![1; 12_000])]).await.unwrap();
            disk.crash(seed);
            let after = disk.content(&path("a")).unwrap();
            assert!(after[..100].iter().all(|byte| *byte == 0), "bytes before the write are untouched");
            assert!(after[12_100..].iter().all(|byte| *byte == 0), "bytes after it as well");
            let changes: Vec<usize> = (101..12_100).filter(|at| after[*at] != after[at - 1]).collect();
            assert!(changes.iter().all(|at| at % 512 == 0), "torn at {changes:?}");
            match after[100..12_100].iter().filter(|byte| **byte == 1).count() {
                0 => lost += 1,
                12_000 => kept += 1,
                _ => torn += 1,
            }
        });
    }
    assert!(lost > 20 && kept > 20 && torn > 20, "lost {lost}, kept {kept}, torn {torn}");
}

#[test]
fn a_later_write_may_survive_an_earlier_one() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        run(async {
            let disk = disk(1).await;
            let file = durable_file(&disk, "a", &[0; 8192]).await;
            file.write_at(0, vec![Bytes::from_static(&[1; 512])]).await.unwrap();
            file.write_at(4096, vec![Bytes::from_static(&[2; 512])]).await.unwrap();
            disk.crash(seed);
            let after = disk.content(&path("a")).unwrap();
            seen.insert((after[0], after[4096]));
        });
    }
    assert_eq!(seen, BTreeSet::from([(0, 0), (0, 2), (1, 0), (1, 2)]), "there is no barrier but a sync");
}

#[test]
fn a_new_name_needs_its_directory_synced() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..100 {
        run(async {
            let disk = disk(1).await;
            let file = disk.open(&path("a"), OpenMode::CreateNew).await.unwrap();
            file.write_and_sync(0, vec![Bytes::from_static(b"synced")]).await.unwrap();
            durable_file(&disk, "b", b"b").await;
            let file = disk.open(&path("c"), OpenMode::CreateNew).await.unwrap();
            file.write_and_sync(0, vec![Bytes::from_static(b"synced")]).await.unwrap();
            disk.crash(seed);
            assert_eq!(
                disk.content(&path("a")).unwrap(),
                "synced",
                "its name was covered by b's directory sync"
            );
            match disk.content(&path("c")) {
                Some(content) => {
                    assert_eq!(content, "synced");
                    kept += 1;
                }
                None => lost += 1,
            }
        });
    }
    assert!(lost > 10 && kept > 10, "lost {lost}, kept {kept}");
}

#[test]
fn a_rename_happened_or_did_not() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        run(async {
            let disk = disk(1).await;
            durable_file(&disk, "new", b"new").await;
            durable_file(&disk, "old", b"old").await;
            disk.rename(&path("new"), &path("old")).await.unwrap();
            disk.crash(seed);
            let text =
                |name| disk.content(&path(name)).map(|content| String::from_utf8(content.to_vec()).unwrap());
            seen.insert((text("new"), text("old")));
        });
    }
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(seen, BTreeSet::from([(None, some("new")), (some("new"), some("old"))]));
}

#[test]
fn an_atomic_write_leaves_the_old_or_the_new_at_every_step() {
    for seed in 0..20 {
        let mut outcomes = BTreeSet::new();
        for step in 1.. {
            let finished = run(async {
                let disk = disk(1).await;
                write_atomic(&*disk, &path("a"), Bytes::from(vec![1; 5000])).await.unwrap();
                disk.set_faults(MemFaults { power_lost_at: Some(step), ..MemFaults::default() });
                let result = write_atomic(&*disk, &path("a"), Bytes::from(vec![2; 7000])).await;
                disk.crash(seed * 1000 + step);
                let content =
                    read_small(&*disk, &path("a"), 1 << 20).await.unwrap().expect("one of the two is there");
                assert!(content == vec![1; 5000] || content == vec![2; 7000], "step {step}: a mixture");
                assert!(result.is_err() || content[0] == 2, "what was said to be written is there");
                outcomes.insert(content[0]);
                result.is_ok()
            });
            if finished {
                assert!(step > 4, "create, write, sync, rename and directory sync are steps");
                break;
            }
        }
        assert!(outcomes.contains(&1) && outcomes.contains(&2));
    }
}

#[test]
fn a_failed_sync_is_final_and_what_it_covered_may_be_gone() {
    let mut lost = 0;
    for seed in 0..50 {
        run(async {
            let disk = disk(1).await;
            let file = durable_file(&disk, "a", &[0; 512]).await;
            disk.set_faults(MemFaults { fail_sync_at: Some(1), ..MemFaults::default() });
            let error = file.write_and_sync(0, vec![Bytes::from_static(&[1; 512])]).await.unwrap_err();
            assert_eq!(error.kind, DiskErrorKind::SyncFailed);
            assert!(file.is_failed());
            for again in
                [file.sync().await, file.write_at(0, vec![Bytes::new()]).await, file.set_len(0).await]
            {
                assert_eq!(again.unwrap_err().kind, DiskErrorKind::SyncFailed);
            }
            assert_eq!(file.read_at(0, 1).await.unwrap()[0], 1, "reads go on");
            // As on Linux, a new handle's sync succeeds, and means nothing for the pages that were given up.
            let again = disk.open(&path("a"), OpenMode::ReadWrite).await.unwrap();
            again.sync().await.unwrap();
            disk.crash(seed);
            lost += u32::from(disk.content(&path("a")).unwrap()[0] == 0);
        });
    }
    assert!(lost > 5, "lost {lost} of 50");
}

#[test]
fn kill_keeps_what_was_written_and_frees_the_lock() {
    run(async {
        let disk = disk(1).await;
        let lock = disk.lock(&path("lock")).await.unwrap();
        assert_eq!(disk.lock(&path("lock")).await.unwrap_err().kind, DiskErrorKind::Locked);
        let file = disk.open(&path("a"), OpenMode::CreateNew).await.unwrap();
        file.write_at(0, vec![Bytes::from_static(b"cached")]).await.unwrap();
        disk.kill();
        assert_eq!(file.write_at(0, vec![Bytes::new()]).await.unwrap_err().kind, DiskErrorKind::PowerLost);
        assert_eq!(disk.content(&path("a")).unwrap(), "cached");
        let second = disk.lock(&path("lock")).await.unwrap();
        drop(lock);
        assert!(disk.lock(&path("lock")).await.is_err(), "the dead holder's guard frees nobody else's lock");
        drop(second);
        disk.lock(&path("lock")).await.unwrap();
    });
}

#[test]
fn injected_faults_hit_the_call_they_name() {
    run(async {
        let disk = disk(1).await;
        let file = durable_file(&disk, "a", &[0; 1000]).await;
        disk.set_faults(MemFaults { fail_write_at: Some(2), fail_read_at: Some(2), ..MemFaults::default() });
        file.write_at(0, vec![Bytes::from_static(b"x")]).await.unwrap();
        assert_eq!(
            file.write_at(0, vec![Bytes::from_static(b"y")]).await.unwrap_err().kind,
            DiskErrorKind::Io
        );
        assert_eq!(&file.read_at(0, 1).await.unwrap()[..], b"x");
        assert_eq!(file.read_at(0, 1).await.unwrap_err().kind, DiskErrorKind::Io);
        assert_eq!(file.read_at(990, 100).await.unwrap().len(), 10, "short at the end of the file");

        disk.set_faults(MemFaults { no_space_after_bytes: Some(1500), ..MemFaults::default() });
        assert_eq!(disk.space(&dir()).await.unwrap().free_bytes, 500);
        file.write_at(1000, vec![Bytes::from(vec![0; 500])]).await.unwrap();
        assert_eq!(
            file.write_at(1500, vec![Bytes::from_static(b"z")]).await.unwrap_err().kind,
            DiskErrorKind::NoSpace
        );
        file.write_at(0, vec![Bytes::from_static(b"z")]).await.unwrap();
        disk.remove(&path("a")).await.unwrap();
        assert_eq!(disk.space(&dir()).await.unwrap().free_bytes, 1500);

        let file = durable_file(&disk, "b", &[0; 100]).await;
        disk.flip_bit(&path("b"), 50, 3);
        assert_eq!(file.read_at(50, 1).await.unwrap()[0], 8);
        disk.crash(1);
        assert_eq!(disk.content(&path("b")).unwrap()[50], 8);
    });
}

#[test]
fn a_recycled_file_shows_its_old_content() {
    run(async {
        let disk = disk(1).await;
        durable_file(&disk, "old", &[5; 8192]).await;
        disk.rename(&path("old"), &path("new")).await.unwrap();
        disk.sync_dir(&dir()).await.unwrap();
        let file = disk.open(&path("new"), OpenMode::ReadWrite).await.unwrap();
        file.write_and_sync(0, vec![Bytes::from_static(&[6; 512])]).await.unwrap();
        disk.crash(3);
        let content = disk.content(&path("new")).unwrap();
        assert!(content[..512] == [6; 512] && content[512..].iter().all(|byte| *byte == 5));
        assert!(disk.content(&path("old")).is_none());
    });
}

/// A small program that does a bit of everything, in an order that the seed decides.
async fn workload(seed: u64) -> (u64, Vec<(PathBuf, Bytes)>) {
    let disk = disk(seed).await;
    let latency = Some((Duration::from_micros(10), Duration::from_millis(3)));
    disk.set_faults(MemFaults { latency, ..MemFaults::default() });
    let rng = Arc::new(SeededRng::new(seed));
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let (disk, rng) = (disk.clone(), rng.clone());
            tokio::spawn(async move {
                let file = disk.open(&path(&format!("f{task}")), OpenMode::Create).await.unwrap();
                for _ in 0..20 {
                    let bytes = Bytes::from(vec![rng.next_u64() as u8; rng.below(5000) as usize]);
                    let at = rng.below(20_000);
                    match rng.below(5) {
                        0 => file.write_and_sync(at, vec![bytes]).await.unwrap(),
                        1 => file.fill_zeros(at, at + 100).await.unwrap(),
                        2 => file.set_len(at).await.unwrap(),
                        3 => disk.sync_dir(&dir()).await.unwrap(),
                        _ => file.write_at(at, vec![bytes]).await.unwrap(),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    disk.crash(seed);
    let files = disk.files().into_iter().map(|path| (path.clone(), disk.content(&path).unwrap())).collect();
    (disk.trace_hash(), files)
}

#[test]
fn the_same_seed_gives_the_same_disk_and_the_same_trace() {
    for seed in 0..10 {
        assert_eq!(run(workload(seed)), run(workload(seed)));
    }
    assert_ne!(run(workload(1)).0, run(workload(2)).0);
}

#[test]
fn pages_hold_what_a_plain_vector_would() {
    for seed in 0..50 {
        run(async {
            let rng = SeededRng::new(seed);
            let disk = disk(seed).await;
            let file = disk.open(&path("a"), OpenMode::CreateNew).await.unwrap();
            let mut model: Vec<u8> = Vec::new();
            for _ in 0..60 {
                let (at, len) = (rng.below(20_000) as usize, rng.below(9_000) as usize);
                match rng.below(4) {
                    0 => {
                        file.set_len(at as u64).await.unwrap();
                        model.resize(at, 0);
                    }
                    1 => {
                        file.fill_zeros(at as u64, (at + len) as u64).await.unwrap();
                        model.resize(model.len().max(at + len), 0);
                        model[at..at + len].fill(0);
                    }
                    _ => {
                        let byte = rng.next_u64() as u8;
                        file.write_at(at as u64, vec![Bytes::from(vec![byte; len])]).await.unwrap();
                        model.resize(model.len().max(at + len), 0);
                        model[at..at + len].fill(byte);
                    }
                }
                assert_eq!(file.len().await.unwrap(), model.len() as u64);
                let (from, len) = (rng.below(20_000) as usize, rng.below(9_000) as usize);
                let expected = &model[from.min(model.len())..(from + len).min(model.len())];
                assert_eq!(&file.read_at(from as u64, len).await.unwrap()[..], expected);
            }
        });
    }
}

#[test]
fn listing_names_files_and_directories() {
    run(async {
        let disk = disk(1).await;
        disk.create_dir_all(&path("sub")).await.unwrap();
        durable_file(&disk, "b", b"12").await;
        durable_file(&disk, "a", b"1").await;
        disk.open(&path("sub/inner"), OpenMode::CreateNew).await.unwrap();
        let names: Vec<_> =
            disk.list(&dir()).await.unwrap().into_iter().map(|e| (e.name, e.len, e.is_dir)).collect();
        let expected = [("a", 1, false), ("b", 2, false), ("sub", 0, true)];
        assert_eq!(names, expected.map(|(name, len, is_dir)| (name.to_owned(), len, is_dir)));
        assert!(disk.list(Path::new("/nowhere")).await.unwrap_err().is_not_found());
        assert!(disk.open(Path::new("/nowhere/a"), OpenMode::Create).await.is_err());
    });
}
