//! Power is lost at every single change that a workload makes to the disk; then the log is opened again and must hold all that was
//! acknowledged, once and in order, and take more.

use std::time::Duration;

use commitlog::OpenError;
use world::disk::MemFaults;

use crate::house::{House, append, batch, partition, read_all, run, small};

/// Values acknowledged per partition, in order; and all that were ever sent.
type Told = [Vec<String>; 3];

/// Sends until the power goes or the work is done. Every batch holds three records of one producer per partition.
async fn work(
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
            let house = House::new(cut_at, small());
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

#[test]
fn a_flipped_bit_in_durable_chunks_stops_the_start_and_changes_nothing() {
    run(9, async {
        // Everything in one WAL file, no checkpoint behind the first.
        let settings =
            commitlog::LogSettings { wal_file_bytes_min: 1 << 20, wal_file_bytes_max: 1 << 20, ..small() };
        let settings = commitlog::LogSettings { checkpoint_bytes: 1 << 30, ..settings };
        let house = House::new(9, settings);
        let log = house.open().await.unwrap();
        for i in 0..30 {
            append(&partition(&log, i % 3), batch(&[format!("{i}")], None, 0))
                .unwrap()
                .committed()
                .await
                .unwrap();
        }
        world::task::sleep(Duration::from_secs(2)).await;
        house.disk.kill();
        drop(log);
        let path = std::path::PathBuf::from("/data/wal/00000000000000000000.wal");
        let content = house.disk.content(&path).unwrap();
        let used = content.iter().rposition(|byte| *byte != 0).unwrap() as u64;
        let mut stopped = 0;
        // Any bit of any chunk but the last, which is the idle statement and has nobody to vouch for it.
        let last =
            (0..=used).step_by(512).filter(|at| content[*at as usize..].starts_with(b"OTLC")).last().unwrap();
        for at in (0..last).step_by(23).filter(|at| content[*at as usize] != 0 || *at % 512 < 128) {
            house.disk.flip_bit(&path, at, (at % 8) as u8);
            let chunk_end = (at..used).find(|p| p % 512 == 0 && content[*p as usize..].starts_with(b"OTLC"));
            match house.open().await {
                Err(OpenError::Damaged { .. } | OpenError::Format { .. }) => stopped += 1,
                Err(error) => panic!("bit at {at}: {error}"),
                Ok(log) => {
                    // Padding between chunks stands for nothing: all data must be there.
                    let total: usize = futures_len(&log).await;
                    assert_eq!(total, 30, "bit at {at}, next chunk at {chunk_end:?}");
                }
            }
            house.disk.kill();
            house.disk.flip_bit(&path, at, (at % 8) as u8);
        }
        assert!(stopped > 50, "only {stopped} flips were noticed");
        assert_eq!(house.disk.content(&path).unwrap(), content, "a refused start changes nothing");
    });
}

async fn futures_len(log: &commitlog::CommitLog) -> usize {
    let mut total = 0;
    for index in 0..3 {
        total += read_all(&partition(log, index), 4096).await.len();
    }
    total
}
