use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use commitlog::{AppendError, FetchWait, Isolation, LogSettings, LogState, ReadError, ReadRequest};
use protocol::batch::{Batch, BatchBuilder};
use protocol::compression::Compression;
use world::disk::{Disk, MemFaults};

use crate::house::{House, append, batch, partition, read_all, run, small};

fn values(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("value {i}")).collect()
}

#[test]
fn what_is_appended_is_read_back_also_after_a_restart() {
    run(1, async {
        let house = House::new(1, small());
        let log = house.open().await.unwrap();
        let mut expected = Vec::new();
        for i in 0..200 {
            let p = partition(&log, (i % 3) as i32);
            let sent = append(&p, batch(&values(i * 10..i * 10 + 10), None, 0)).unwrap();
            assert_eq!(sent.last_offset - sent.base_offset, 9);
            sent.committed().await.unwrap();
            if i % 3 == 0 {
                expected.extend(values(i * 10..i * 10 + 10));
            }
        }
        let expected: Vec<(i64, String)> =
            expected.into_iter().enumerate().map(|(o, v)| (o as i64, v)).collect();
        for step in [1, 700, 1 << 20] {
            assert_eq!(read_all(&partition(&log, 0), step).await, expected);
        }
        log.close().await;
        drop(log);
        house.disk.kill();
        let log = house.open().await.unwrap();
        assert_eq!(read_all(&partition(&log, 0), 4096).await, expected);
    });
}

#[test]
fn what_is_appended_together_waits_for_the_last_and_is_one_commit() {
    run(1, async {
        let house = House::new(1, small());
        let log = house.open().await.unwrap();
        append(&partition(&log, 0), batch(&values(0..1), None, 0)).unwrap().committed().await.unwrap();
        let commits = || log.counters().commits.load(Ordering::Relaxed);
        let before = commits();
        let mut sent = Vec::new();
        {
            let outer = log.together();
            for index in 0..3 {
                // Another request at the same time: its end wakes the writer, and nobody's batch is lost.
                let inner = (index == 1).then(|| log.together());
                sent.push(append(&partition(&log, index), batch(&values(1..2), None, 0)).unwrap());
                drop(inner);
            }
            drop(outer);
        }
        for sent in sent {
            sent.committed().await.unwrap();
        }
        assert_eq!(commits() - before, 1);
        let held = log.together();
        let sent = append(&partition(&log, 0), batch(&values(2..3), None, 0)).unwrap();
        world::task::sleep(Duration::from_millis(100)).await;
        assert_eq!(commits() - before, 1, "the writer was not woken for it");
        drop(held);
        sent.committed().await.unwrap();
        assert_eq!(commits() - before, 2);
        log.close().await;
    });
}

#[test]
fn every_offset_is_found_near_the_end_and_far_from_it() {
    run(1, async {
        let house = House::new(1, small());
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        for i in 0..50 {
            append(&p, batch(&values(i * 2..i * 2 + 2), None, 0)).unwrap().committed().await.unwrap();
        }
        for offset in 0..100 {
            let isolation = Isolation::ReadUncommitted;
            let read =
                p.read(ReadRequest { offset, max_bytes: 1, min_one_batch: true, isolation }).await.unwrap();
            let first = protocol::batch::split_batches(&read.records.to_bytes()).next().unwrap().unwrap();
            assert_eq!(first.header.base_offset, offset - offset % 2);
        }
        log.close().await;
    });
}

#[test]
fn a_duplicate_gets_the_offsets_of_the_first_also_after_a_restart() {
    run(2, async {
        let house = House::new(2, small());
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        let first = append(&p, batch(&values(0..3), Some((9, 0, 0)), 0)).unwrap();
        // Still in flight: the duplicate waits for the very same commit.
        let again = append(&p, batch(&values(0..3), Some((9, 0, 0)), 0)).unwrap();
        assert!(again.duplicate && again.base_offset == first.base_offset);
        first.committed().await.unwrap();
        again.committed().await.unwrap();
        append(&p, batch(&values(3..5), Some((9, 0, 3)), 0)).unwrap().committed().await.unwrap();
        drop((log, p));
        house.disk.kill();
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        let again = append(&p, batch(&values(3..5), Some((9, 0, 3)), 0)).unwrap();
        assert!(again.duplicate && again.base_offset == 3);
        let gap = append(&p, batch(&values(9..10), Some((9, 0, 9)), 0));
        assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { expected: 5, found: 9, .. })));
        assert_eq!(read_all(&p, 4096).await.len(), 5);
    });
}

#[test]
fn a_waiting_fetch_wakes_at_the_commit_and_sees_only_what_is_committed() {
    run(3, async {
        let house = House::new(3, small());
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        let wait = FetchWait::new();
        assert!(!p.notify(&wait, 0), "nothing there yet");
        let sent = append(&p, batch(&values(0..1), None, 0)).unwrap();
        assert_eq!(p.offsets().high_watermark, 0);
        world::task::timeout(Duration::from_secs(1), wait.notified()).await.unwrap();
        assert_eq!(p.offsets().high_watermark, 1);
        sent.committed().await.unwrap();
        let beyond = ReadRequest {
            offset: 2,
            max_bytes: 1,
            min_one_batch: true,
            isolation: Isolation::ReadUncommitted,
        };
        assert!(matches!(p.read(beyond).await, Err(ReadError::OutOfRange { .. })));
    });
}

#[test]
fn deleted_records_stay_deleted_and_their_files_go() {
    run(4, async {
        let house = House::new(4, small());
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        for i in 0..400 {
            append(&p, batch(&values(i * 5..i * 5 + 5), None, 0)).unwrap().committed().await.unwrap();
        }
        let files = |house: &House| {
            house.disk.files().iter().filter(|f| f.extension().is_some_and(|e| e == "wal")).count()
        };
        let before = files(&house);
        assert_eq!(p.delete_records(1990).await.unwrap(), 1990);
        assert_eq!(read_all(&p, 4096).await.len(), 10);
        log.close().await;
        drop((log, p));
        house.disk.kill();
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        assert_eq!(p.offsets().log_start, 1990);
        assert_eq!(read_all(&p, 4096).await.len(), 10);
        assert!(files(&house) < before, "{} WAL files, {before} before", files(&house));
    });
}

#[test]
fn records_are_found_by_time() {
    run(5, async {
        let house = House::new(5, small());
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        for i in 0..100 {
            append(&p, batch(&values(i * 3..i * 3 + 3), None, 1000 + i as i64 * 10))
                .unwrap()
                .committed()
                .await
                .unwrap();
        }
        let found = p.offset_for_timestamp(1501).await.unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (151, 1501));
        assert_eq!(p.offset_for_timestamp(99_999).await.unwrap(), None);
        let last = p.max_timestamp().await.unwrap().unwrap();
        assert_eq!((last.offset, last.timestamp), (299, 1992));
    });
}

/// Few bytes that would become many: looking for a time does not unpack them, and a consumer that begins there misses nothing.
#[test]
fn a_batch_that_decompresses_to_too_much_is_found_by_time_as_a_whole() {
    run(6, async {
        let house = House::new(6, LogSettings { decompressed_bytes_max: 64 << 10, ..small() });
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        append(&p, batch(&values(0..3), None, 1000)).unwrap().committed().await.unwrap();
        let mut bomb = BatchBuilder::new().compression(Compression::Zstd);
        for (time, bytes) in [(2000, 100 << 10), (3000, 100 << 10), (4000, 1)] {
            bomb.append(time, None, Some(&vec![0; bytes]), &[]).unwrap();
        }
        let bomb = Batch::parse(bomb.build().unwrap()).unwrap();
        assert!(bomb.bytes.len() < 1000);
        append(&p, bomb).unwrap().committed().await.unwrap();
        append(&p, batch(&values(0..2), None, 5000)).unwrap().committed().await.unwrap();
        for (time, expected) in
            [(999, Some(0)), (1001, Some(1)), (1500, Some(3)), (3500, Some(3)), (4001, Some(6))]
        {
            let found = p.offset_for_timestamp(time).await.unwrap();
            assert_eq!(found.map(|found| found.offset), expected, "{time}");
        }
        assert_eq!(p.max_timestamp().await.unwrap().unwrap().offset, 7);
    });
}

#[test]
fn a_failed_sync_is_final_nothing_is_acknowledged_and_reads_go_on() {
    run(6, async {
        let house = House::new(6, small());
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        append(&p, batch(&values(0..3), None, 0)).unwrap().committed().await.unwrap();
        house.disk.set_faults(MemFaults { fail_sync_at: Some(1), ..MemFaults::default() });
        let lost = append(&p, batch(&values(3..6), None, 0)).unwrap();
        lost.committed().await.unwrap_err();
        assert!(matches!(log.state(), LogState::Failed(_)));
        assert!(matches!(append(&p, batch(&values(6..7), None, 0)), Err(AppendError::Failed(_))));
        assert_eq!(read_all(&p, 4096).await.len(), 3);
        house.disk.set_faults(MemFaults::default());
        drop((log, p));
        house.disk.kill();
        let log = house.open().await.unwrap();
        assert!(read_all(&partition(&log, 0), 4096).await.len() >= 3);
    });
}

#[test]
fn a_full_disk_refuses_produce_keeps_reads_and_goes_on_when_there_is_room() {
    run(7, async {
        let house = House::new(7, LogSettings { reserve_bytes: 64 << 10, ..small() });
        house.disk.set_capacity_bytes(512 << 10);
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        let mut acknowledged = 0;
        let mut waiting = None;
        for i in 0..2000 {
            match append(&p, batch(&values(i * 10..i * 10 + 10), None, 0)) {
                Ok(sent) => match world::task::timeout(Duration::from_secs(5), sent.committed()).await {
                    Ok(result) => {
                        result.unwrap();
                        acknowledged = (i + 1) * 10;
                    }
                    Err(_) => waiting = Some(i),
                },
                Err(error) => {
                    assert!(matches!(error, AppendError::Full), "{error}");
                    break;
                }
            }
        }
        // Refused before anything has to wait for room that may never come.
        assert!(waiting.is_none(), "batch {waiting:?} was taken, and waits");
        assert_eq!(log.state(), LogState::Full, "{acknowledged} acknowledged");
        assert_eq!(read_all(&p, 4096).await.len(), acknowledged);
        // Somebody makes room: produce goes on.
        house.disk.set_capacity_bytes(4 << 20);
        world::task::sleep(Duration::from_secs(2)).await;
        assert_eq!(log.state(), LogState::Running);
        append(&p, batch(&values(0..1), None, 0)).unwrap().committed().await.unwrap();
        assert_eq!(read_all(&p, 4096).await.len(), acknowledged + 1);
    });
}

#[test]
fn a_full_disk_keeps_nobody_from_closing() {
    run(8, async {
        let house = House::new(8, LogSettings { reserve_bytes: 64 << 10, ..small() });
        house.disk.set_capacity_bytes(512 << 10);
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        let mut waiting = Vec::new();
        // All at once: more is taken than the prepared files hold.
        while let Ok(sent) = append(&p, batch(&["x".repeat(3000)], None, 0)) {
            waiting.push(sent);
            if waiting.len() == 400 {
                break;
            }
        }
        log.close().await;
        let mut told = 0;
        for sent in waiting {
            told += usize::from(sent.committed().await.is_ok());
        }
        drop((log, p));
        house.disk.set_capacity_bytes(8 << 20);
        let log = house.open().await.unwrap();
        assert!(read_all(&partition(&log, 0), 8192).await.len() >= told);
    });
}

/// The writer reaches the end of a file before the next one is ready: the next one is then made once, and never a
/// second time under the name of the one in use.
#[test]
fn a_file_in_use_is_never_replaced_by_one_that_was_made_too_late() {
    for seed in 0..20 {
        run(seed, async {
            let house = House::new(seed, small());
            let log = house.open().await.unwrap();
            let latency = Some((Duration::from_micros(100), Duration::from_millis(1 + seed)));
            house.disk.set_faults(MemFaults { latency, ..MemFaults::default() });
            let mut told = Vec::new();
            for i in 0..200 {
                let value = format!("{i}/{}", "x".repeat(2000));
                let one = append(&partition(&log, 0), batch(std::slice::from_ref(&value), None, 1)).unwrap();
                told.push((i as i64, value));
                one.committed().await.unwrap();
            }
            house.disk.set_faults(MemFaults::default());
            let wal = |path: &PathBuf| path.starts_with("/data/wal");
            let files = house.disk.files().into_iter().filter(wal);
            let bytes: u64 = files.map(|path| house.disk.content(&path).unwrap().len() as u64).sum();
            let zeros = house.disk.counters().bytes_zero_filled.load(Ordering::Relaxed);
            assert!(
                zeros <= bytes,
                "seed {seed}: {zeros} bytes of zeros for files of {bytes}: one was made twice"
            );
            house.disk.crash(seed);
            let log = house.open().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let found = read_all(&partition(&log, 0), 10_000).await;
            assert_eq!(found.len(), told.len(), "seed {seed}");
            assert_eq!(found, told);
        });
    }
}

/// A busy broker with many partitions leaves extents of a few hundred bytes. A reader that starts from the beginning
/// once waited a minute for an answer: there was a hand-over to the disk for each, and a walk through all read before.
#[test]
fn a_cold_read_of_many_small_extents_is_few_reads() {
    const BATCHES: usize = 2000;
    run(12, async {
        let house = House::new(12, small());
        let log = house.open().await.unwrap();
        let partitions = [partition(&log, 0), partition(&log, 1)];
        for i in 0..BATCHES {
            for p in &partitions {
                append(p, batch(&values(i..i + 1), None, 0)).unwrap().committed().await.unwrap();
            }
        }
        let reads = &house.disk.counters().reads;
        let before = reads.load(Ordering::Relaxed);
        let bytes_before = house.disk.counters().bytes_read.load(Ordering::Relaxed);
        assert_eq!(read_all(&partitions[0], 1 << 20).await.len(), BATCHES);
        let files = log.counters().wal_files.load(Ordering::Relaxed);
        let took = reads.load(Ordering::Relaxed) - before;
        assert!(took <= files, "{took} reads for {BATCHES} extents in {files} files");
        let bytes = house.disk.counters().bytes_read.load(Ordering::Relaxed) - bytes_before;
        assert!(bytes < partitions[0].size_bytes(), "what is still in memory was read again");
    });
}

/// A program that opens and closes brokers in itself, as tests do, must not keep every log it ever had.
#[test]
fn a_log_that_is_closed_or_cannot_be_opened_is_gone_from_memory() {
    let house = House::new(5, small());
    let disk = Arc::downgrade(&house.disk);
    run(5, async {
        let log = house.open().await.unwrap();
        append(&partition(&log, 0), batch(&["a".into()], None, 0)).unwrap().committed().await.unwrap();
        log.close().await;
        drop(log);
        house.disk.truncate(&PathBuf::from("/data/log.id"), 3);
        assert!(house.open().await.is_err(), "its identity is damaged");
    });
    drop(house);
    // The runtime has ended with `run`, and its tasks with it: what is left is what the log itself keeps.
    assert_eq!(disk.strong_count(), 0, "somebody still holds the disk");
}
