//! The fuzz target `wal_recovery`, for a bounded count: a real WAL file with bytes changed at every kind of place.

use world::rng::{Rng, SeededRng};

use crate::house::{House, append, batch, partition, run, small};

#[test]
fn recovery_of_arbitrary_bytes_ends_without_a_panic() {
    let real = run(3, async {
        let house = House::new(3, small());
        let log = house.open().await.unwrap();
        for i in 0..12 {
            let values = [format!("{i}"), "x".repeat(i * 100)];
            append(&partition(&log, i as i32 % 3), batch(&values, Some((1, 0, i as i32 / 3 * 2)), 0))
                .unwrap()
                .committed()
                .await
                .unwrap();
        }
        let path = std::path::PathBuf::from("/data/wal/00000000000000000001.wal");
        house.disk.content(&path).unwrap()
    });
    let rng = SeededRng::new(11);
    commitlog::fuzz_recover(&real);
    commitlog::fuzz_recover(&[]);
    for round in 0..400 {
        let mut bytes = real.to_vec();
        for _ in 0..=round % 4 {
            let at = rng.next_u64() as usize % bytes.len();
            bytes[at] = rng.next_u64() as u8;
        }
        bytes.truncate(bytes.len() - (round * 37) % 4096);
        commitlog::fuzz_recover(&bytes);
    }
}
