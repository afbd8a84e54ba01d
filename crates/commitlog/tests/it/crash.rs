//! Power is lost at every single change that a workload makes to the disk; then the log is opened again and must hold all that was
//! acknowledged, once and in order, and take more.

use std::time::Duration;

use commitlog::OpenError;
use world::disk::{Disk, MemFaults, OpenMode};

use crate::house::{House, append, batch, partition, read_all, run, small};

/// Values acknowledged per partition, in order; and all that were ever sent.
pub type Told = [Vec<String>; 3];

/// Sends until the power goes or the work is done. Every batch holds three records of one producer per partition.
pub async fn work(
    house: &House,
    told: &mut Told,
    sent: &mut [Vec<String>; 3],
    from: usize,
    batches: usize,
) -> Result<(), OpenError> {
    let log = house.open().await?;
    let mut waiting = Vec::new();
    for i in from..from + batches {
        let index = i % 3;
        let values: Vec<String> =
            (0..3).map(|r| format!("{index}/{i}/{r}/{}", "x".repeat((i * 37) % 300))).collect();
        let Ok(append) = append(&partition(&log, index as i32), batch(&values, None, 0)) else { break };
        sent[index].extend(values.clone());
        waiting.push((index, values, append));
        if i % 4 == 3 {
            for (index, values, append) in waiting.drain(..) {
                if append.committed().await.is_err() {
                    return Ok(());
                }
                told[index].extend(values);
            }
        }
        if i % 40 == 39 {
            // Idle long enough for the empty chunk that says the last one is durable.
            world::task::sleep(Duration::from_secs(1)).await;
        }
        if i % 50 == 49 {
            let p = partition(&log, 2);
            let before = p.offsets().log_start + 2;
            if before <= p.offsets().high_watermark && p.delete_records(before).await.is_err() {
                return Ok(());
            }
        }
    }
    log.close().await;
    Ok(())
}

#[test]
fn a_power_cut_at_every_step_loses_nothing_acknowledged() {
    // How many changes does the whole workload make?
    let changes = run(1, async {
        let house = House::new(1, small());
        let (mut told, mut sent) = (Told::default(), Default::default());
        work(&house, &mut told, &mut sent, 0, 300).await.unwrap();
        house.disk.changes()
    });
    assert!(changes > 150, "a workload of {changes} changes proves little");
    let mut cut_mid_work = 0;
    for cut_at in 1..=changes {
        run(cut_at, async {
            // New files are filled with zeros in one half of the runs, and only allocated in the other.
            let allocate_from_bytes = cut_at % 2 * small().allocate_from_bytes;
            let house = House::new(cut_at, commitlog::LogSettings { allocate_from_bytes, ..small() });
            let (mut told, mut sent) = (Told::default(), Default::default());
            house.disk.set_faults(MemFaults { power_lost_at: Some(cut_at), ..MemFaults::default() });
            let _ = work(&house, &mut told, &mut sent, 0, 300).await;
            house.disk.crash(cut_at * 7919);
            house.disk.set_faults(MemFaults::default());
            cut_mid_work += u64::from(told.iter().any(|t| !t.is_empty()));
            let log = house.open().await.unwrap_or_else(|error| panic!("cut at {cut_at}: {error}"));
            for index in 0..3 {
                let found: Vec<String> = read_all(&partition(&log, index as i32), 2048)
                    .await
                    .into_iter()
                    .map(|(_, v)| v)
                    .collect();
                let start = partition(&log, index as i32).offsets().log_start as usize;
                assert!(
                    start + found.len() >= told[index].len(),
                    "cut at {cut_at}: partition {index} holds {start}+{} of {} acknowledged",
                    found.len(),
                    told[index].len()
                );
                assert_eq!(
                    found[..],
                    sent[index][start..start + found.len()],
                    "cut at {cut_at}: partition {index}"
                );
            }
            // It goes on, and a second crash finds both halves.
            let extra = vec!["after the cut".to_owned()];
            append(&partition(&log, 0), batch(&extra, None, 0)).unwrap().committed().await.unwrap();
            house.disk.crash(cut_at);
            let log = house
                .open()
                .await
                .unwrap_or_else(|error| panic!("second start after a cut at {cut_at}: {error}"));
            let found = read_all(&partition(&log, 0), 2048).await;
            assert_eq!(found.last().map(|(_, v)| v.as_str()), Some("after the cut"), "cut at {cut_at}");
        });
    }
    assert!(cut_mid_work > changes / 2, "only {cut_mid_work} of {changes} cuts met acknowledged data");
}

/// Thirty batches in one WAL file with no checkpoint behind the first, idle for long enough, then killed.
async fn thirty_batches() -> House {
    thirty_batches_idle_for(Duration::from_secs(2)).await
}

async fn thirty_batches_idle_for(idle: Duration) -> House {
    let settings =
        commitlog::LogSettings { wal_file_bytes_min: 1 << 20, wal_file_bytes_max: 1 << 20, ..small() };
    let house = House::new(9, commitlog::LogSettings { checkpoint_bytes: 1 << 30, ..settings });
    let log = house.open().await.unwrap();
    for i in 0..30 {
        append(&partition(&log, i % 3), batch(&[format!("{i}")], None, 0))
            .unwrap()
            .committed()
            .await
            .unwrap();
    }
    world::task::sleep(idle).await;
    house.disk.kill();
    house
}

fn wal_path() -> std::path::PathBuf {
    std::path::PathBuf::from("/data/wal/00000000000000000001.wal")
}

/// What must not happen to damage is that somebody reads it, or that data is missing without a word.
async fn notices_damage(house: &House, what: &str) -> bool {
    let damaged = house.disk.content(&wal_path()).unwrap();
    match house.open().await {
        Err(OpenError::Damaged { .. }) => {
            assert_eq!(
                house.disk.content(&wal_path()).unwrap(),
                damaged,
                "{what}: a refused start changes nothing"
            );
            true
        }
        Err(error) => panic!("{what}: {error}"),
        Ok(log) => {
            // Padding between chunks stands for nothing: all data must be there.
            let records = records(&log).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(records, 30, "{what}");
            false
        }
    }
}

#[test]
fn a_flipped_bit_in_durable_chunks_stops_the_start_and_changes_nothing() {
    let content = run(9, async { thirty_batches().await.disk.content(&wal_path()).unwrap() });
    let chunks: Vec<usize> =
        (0..content.len()).step_by(4096).filter(|at| content[*at..].starts_with(b"OTTLACTN")).collect();
    assert_eq!(chunks.len(), 31, "thirty commits and the statement that the last of them is durable");
    let last = chunks[30];
    let used = |at: &usize| content[*at] != 0 || at % 4096 < 128;
    let mut stopped = 0;
    for at in (0..last).step_by(23).filter(used) {
        run(9, async {
            let house = thirty_batches().await;
            house.disk.flip_bit(&wal_path(), at as u64, (at % 8) as u8);
            stopped += u64::from(notices_damage(&house, &format!("bit at {at}")).await);
        });
    }
    assert!(stopped > 150, "only {stopped} flips were noticed");
}

#[test]
fn a_truncated_wal_file_stops_the_start() {
    for len in [0, 1, 100, 4095, 4096, 5000, 8192, 70_000, 1 << 19, (1 << 20) - 1] {
        run(9, async {
            let house = thirty_batches().await;
            house.disk.truncate(&wal_path(), len);
            let what = format!("truncated to {len}");
            // Also where only zeros were lost: a file shorter than it was made is not trusted.
            assert!(notices_damage(&house, &what).await, "{what}");
        });
    }
}

/// The stated exception: within its half second of idleness nobody vouches for the newest chunk, and damage to it
/// looks like a torn tail. It is cut, never served, and the log goes on in its place.
#[test]
fn the_newest_chunk_is_protected_after_half_a_second_of_idleness() {
    let content =
        run(9, async { thirty_batches_idle_for(Duration::ZERO).await.disk.content(&wal_path()).unwrap() });
    let chunks: Vec<usize> =
        (0..content.len()).step_by(4096).filter(|at| content[*at..].starts_with(b"OTTLACTN")).collect();
    assert_eq!(chunks.len(), 30, "thirty commits, and nothing behind them yet");
    let number = |at: usize| u64::from_le_bytes(content[at..at + 8].try_into().unwrap()) as usize;
    let last = chunks[29];
    let (payload_len, footer_len) = (number(last + 84), number(last + 92));
    let footer_at = last + 128 + payload_len;
    // Header, its checksum, the batch's header and record, the footer's beginning and end.
    for at in [last, last + 30, last + 127, last + 140, footer_at - 2, footer_at, footer_at + footer_len - 1]
    {
        run(9, async {
            let house = thirty_batches_idle_for(Duration::ZERO).await;
            house.disk.flip_bit(&wal_path(), at as u64, 2);
            let log = house.open().await.unwrap_or_else(|error| panic!("bit at {at}: {error}"));
            assert_eq!(records(&log).await.unwrap(), 29, "bit at {at}");
            append(&partition(&log, 2), batch(&["again".into()], None, 0))
                .unwrap()
                .committed()
                .await
                .unwrap();
            house.disk.crash(1);
            assert_eq!(records(&house.open().await.unwrap()).await.unwrap(), 30, "bit at {at}");
        });
    }
    for at in [last, last + 140, footer_at] {
        run(9, async {
            let house = thirty_batches().await;
            house.disk.flip_bit(&wal_path(), at as u64, 2);
            assert!(notices_damage(&house, &format!("bit at {at}, after idleness")).await);
        });
    }
}

/// Damage as long as you like, from any chunk on, in front of the newest chunk that is whole: recovery looks as far as the
/// writer may have gone, over files, and also when a power cut took the checkpoint frames that were not synced.
#[test]
fn long_damage_in_front_of_a_whole_chunk_stops_the_start() {
    let mut stopped = 0;
    for (batches, power_cut) in [(7, false), (40, false), (40, true), (90, false), (90, true)] {
        let mut skip = 0;
        let mut left = true;
        while left {
            run(9, async {
                let house = House::new(9, small());
                let log = house.open().await.unwrap();
                for i in 0..batches {
                    append(&partition(&log, 0), batch(&[format!("{i}")], None, 0))
                        .unwrap()
                        .committed()
                        .await
                        .unwrap();
                }
                world::task::sleep(Duration::from_secs(2)).await;
                match power_cut {
                    true => house.disk.crash(skip as u64),
                    false => house.disk.kill(),
                }
                drop(log);
                let chunks = chunks_from_oldest(&house);
                let newest = chunks.len() - 1;
                left = skip + 1 < newest;
                for (path, from) in &chunks[skip..newest] {
                    let file = house.disk.open(path, OpenMode::ReadWrite).await.unwrap();
                    file.write_and_sync(*from, vec![vec![0; 4096].into()]).await.unwrap();
                }
                let what = format!("{batches} batches, power cut {power_cut}, zeros from chunk {skip} on");
                match house.open().await {
                    Err(OpenError::Damaged { .. }) => stopped += 1,
                    Err(error) => panic!("{what}: {error}"),
                    // What was wiped lies in front of the checkpoint: a start does not look there, a read does.
                    Ok(log) => {
                        assert_eq!(partition(&log, 0).offsets().high_watermark, batches as i64, "{what}");
                    }
                }
            });
            skip += 1;
        }
    }
    assert!(stopped > 40, "only {stopped} starts were stopped");
}

/// Path and position of every chunk of one page that stands in the WAL, by number.
fn chunks_from_oldest(house: &House) -> Vec<(std::path::PathBuf, u64)> {
    let mut chunks = Vec::new();
    for path in house.disk.files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "wal")) {
        let content = house.disk.content(&path).unwrap();
        for at in (0..content.len()).step_by(4096).filter(|at| content[*at..].starts_with(b"OTTLACTN")) {
            let number = u64::from_le_bytes(content[at + 28..at + 36].try_into().unwrap());
            chunks.push((number, path.clone(), at as u64));
        }
    }
    chunks.sort();
    chunks.into_iter().map(|(_, path, at)| (path, at)).collect()
}

/// The file that says which log this is, and how long its first file was made.
#[test]
fn a_damaged_or_missing_log_id_stops_the_start_and_changes_nothing() {
    let path = std::path::Path::new("/data/log.id");
    let len = run(9, async { thirty_batches().await.disk.content(path).unwrap().len() as u64 });
    let bits = (0..len).map(|at| (Some(at), None));
    let lengths = (0..len).map(|len| (None, Some(len)));
    for (bit, length) in bits.chain(lengths).chain([(None, None)]) {
        run(9, async {
            let house = thirty_batches().await;
            match (bit, length) {
                (Some(at), _) => house.disk.flip_bit(path, at, (at % 8) as u8),
                (_, Some(len)) => house.disk.truncate(path, len),
                _ => house.disk.remove(path).await.unwrap(),
            }
            let wal = house.disk.content(&wal_path()).unwrap();
            let error = house.open().await.err();
            let what = format!("bit {bit:?}, length {length:?}: {error:?}");
            assert!(matches!(error, Some(OpenError::Format { .. } | OpenError::Damaged { .. })), "{what}");
            assert_eq!(house.disk.content(&wal_path()).unwrap(), wal, "{what}");
        });
    }
}

async fn records(log: &commitlog::CommitLog) -> Result<i64, commitlog::ReadError> {
    let mut total = 0;
    for index in 0..3 {
        let partition = partition(log, index);
        let mut offset = 0;
        while offset < partition.offsets().high_watermark {
            let isolation = commitlog::Isolation::ReadUncommitted;
            let request = commitlog::ReadRequest { offset, max_bytes: 4096, min_one_batch: true, isolation };
            let read = partition.read(request).await?;
            for batch in protocol::batch::split_batches(&read.records.to_bytes()) {
                offset = batch.expect("whole batches").header.next_offset();
            }
        }
        total += offset;
    }
    Ok(total)
}
