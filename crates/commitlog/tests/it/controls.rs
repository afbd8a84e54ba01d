//! Negative controls: rules broken on purpose. A test of durability that does not notice them proves nothing.

use std::time::Duration;

use commitlog::{LogSettings, NegativeControl};
use world::disk::MemFaults;

use crate::crash::{Told, work};
use crate::house::{House, append, batch, partition, read_all, run, small};

/// In how many of these cuts is something acknowledged missing, or the start refused?
fn caught(control: NegativeControl, cuts: impl Iterator<Item = u64>) -> u64 {
    let mut caught = 0;
    for cut_at in cuts {
        run(cut_at, async {
            let house = House::new(cut_at, LogSettings { negative_control: Some(control), ..small() });
            let (mut told, mut sent) = (Told::default(), Default::default());
            house.disk.set_faults(MemFaults { power_lost_at: Some(cut_at), ..MemFaults::default() });
            let _ = work(&house, &mut told, &mut sent, 0, 300).await;
            house.disk.crash(cut_at * 31);
            house.disk.set_faults(MemFaults::default());
            let Ok(log) = house.open().await else {
                caught += 1;
                return;
            };
            for (index, told) in told.iter().enumerate() {
                let partition = partition(&log, index as i32);
                let held = partition.offsets().high_watermark;
                if (held as usize) < told.len() {
                    caught += 1;
                    return;
                }
            }
        });
    }
    caught
}

#[test]
fn acknowledging_before_the_sync_is_caught() {
    let caught = caught(NegativeControl::AcknowledgeBeforeSync, (20..320).step_by(3));
    assert!(caught > 0, "a hundred power cuts lost nothing although nothing was synced");
}

#[test]
fn a_directory_that_is_not_synced_is_caught() {
    let caught = caught(NegativeControl::SkipDirectorySync, (20..320).step_by(3));
    assert!(caught > 0, "a hundred power cuts lost nothing although no name was durable");
}

/// A sync fails, the pages stay clean in the cache, the process restarts: what it reads back is not on the disk.
#[test]
fn what_a_failed_sync_left_in_the_cache_is_written_again_before_anybody_builds_on_it() {
    for seed in 0..40 {
        run(seed, async {
            let house = House::new(seed, small());
            let log = house.open().await.unwrap();
            let p = partition(&log, 0);
            append(&p, batch(&["first".into()], None, 0)).unwrap().committed().await.unwrap();
            house.disk.set_faults(MemFaults { fail_sync_at: Some(1), ..MemFaults::default() });
            append(&p, batch(&["unsure".into()], None, 0)).unwrap().committed().await.unwrap_err();
            house.disk.set_faults(MemFaults::default());
            // kill -9 and restart: the page cache still shows the chunk, and the next one is chained to it.
            house.disk.kill();
            drop((log, p));
            let log = house.open().await.unwrap();
            append(&partition(&log, 0), batch(&["last".into()], None, 0)).unwrap().committed().await.unwrap();
            house.disk.crash(seed);
            let log = house.open().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let found: Vec<String> =
                read_all(&partition(&log, 0), 4096).await.into_iter().map(|(_, v)| v).collect();
            assert_eq!(found.first().map(String::as_str), Some("first"));
            assert_eq!(found.last().map(String::as_str), Some("last"), "seed {seed}: {found:?}");
        });
    }
}

/// A checkpoint's deltas are not synced: losing any of them must cost nothing but reading more.
#[test]
fn a_lost_or_damaged_checkpoint_costs_reading_more_or_stops_the_start_but_never_data() {
    let mut refused = 0;
    for seed in 0..60 {
        run(seed, async {
            let house = House::new(seed, small());
            let log = house.open().await.unwrap();
            let p = partition(&log, 1);
            let count = 40 + seed * 5;
            for i in 0..count {
                append(&p, batch(&[format!("{i}")], Some((5, 0, i as i32)), 0))
                    .unwrap()
                    .committed()
                    .await
                    .unwrap();
            }
            world::task::sleep(Duration::from_secs(1)).await;
            house.disk.kill();
            drop((log, p));
            let checkpoints: Vec<_> = house
                .disk
                .files()
                .into_iter()
                .filter(|path| path.extension().is_some_and(|e| e == "ckpt"))
                .collect();
            for path in &checkpoints {
                let len = house.disk.content(path).unwrap().len() as u64;
                match seed % 3 {
                    0 => house.disk.truncate(path, len * (seed % 7) / 7),
                    1 => house.disk.flip_bit(path, len * (seed % 11) / 11, seed as u8),
                    _ => {}
                }
            }
            match house.open().await {
                // The WAL that it needs instead is given back already: said, not guessed.
                Err(commitlog::OpenError::Damaged { .. }) => refused += 1,
                Err(error) => panic!("seed {seed}: {error}"),
                Ok(log) => {
                    assert_eq!(read_all(&partition(&log, 1), 4096).await.len() as u64, count, "seed {seed}");
                    let again = append(
                        &partition(&log, 1),
                        batch(&[format!("{}", count - 1)], Some((5, 0, count as i32 - 1)), 0),
                    );
                    assert!(again.unwrap().duplicate, "seed {seed}: the producer's last batch is remembered");
                }
            }
        });
    }
    assert!(refused < 40, "{refused} starts refused: most damage must be survivable");
}
