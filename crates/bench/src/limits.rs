//! What the machine itself gives, measured before the subjects: no broker is faster than this.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use protocol::batch::crc32c;
use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// One after the other, past the page cache, each followed by its fdatasync.
    pub writes: Vec<Writes>,
    /// Processor time of the sending and of the receiving thread.
    pub loopback_send_cpu_s_per_gb: f64,
    pub loopback_receive_cpu_s_per_gb: f64,
    pub loopback_mb_per_s: f64,
    pub crc_cpu_s_per_gb: f64,
    /// From memory to memory, both larger than the caches.
    pub copy_cpu_s_per_gb: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Writes {
    pub bytes: usize,
    pub micros: f64,
    pub cpu_micros: f64,
}

const ALIGN: usize = 4096;
const WRITE_SIZES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];
const WRITES: usize = 500;
const FILE_BYTES: usize = 64 << 20;
const LOOPBACK_BYTES: usize = 1 << 30;
/// What a broker's socket calls move at once, about.
const LOOPBACK_STEP: usize = 64 << 10;
const MEMORY_BYTES: usize = 256 << 20;
const GB: f64 = 1e9;

impl Limits {
    pub fn measure(folder: &Path) -> Result<Limits> {
        let (loopback_send_cpu, loopback_receive_cpu, loopback_seconds) = loopback()?;
        let gb = LOOPBACK_BYTES as f64 / GB;
        let from = vec![1_u8; MEMORY_BYTES];
        let mut to = vec![2_u8; MEMORY_BYTES];
        let memory_gb = MEMORY_BYTES as f64 / GB;
        let (_, crc) = timed(|| black_box(crc32c(&from)));
        let (_, copy) = timed(|| black_box(&mut to).copy_from_slice(black_box(&from)));
        Ok(Limits {
            writes: writes(folder)?,
            loopback_send_cpu_s_per_gb: loopback_send_cpu / gb,
            loopback_receive_cpu_s_per_gb: loopback_receive_cpu / gb,
            loopback_mb_per_s: gb * 1000.0 / loopback_seconds,
            crc_cpu_s_per_gb: crc / memory_gb,
            copy_cpu_s_per_gb: copy / memory_gb,
        })
    }

    /// For the document.
    pub fn table(&self) -> String {
        use crate::results::digits;
        let mut text = String::from("| the machine alone | time | CPU |\n|---|---|---|\n");
        for writes in &self.writes {
            text.push_str(&format!(
                "| write of {} KiB past the page cache, with its fdatasync | {} µs | {} µs |\n",
                writes.bytes >> 10,
                digits(writes.micros),
                digits(writes.cpu_micros)
            ));
        }
        text.push_str(&format!(
            "| loopback TCP, {} KiB at once | {} MB/s | {} s per GB sent, {} s per GB received |\n\
             | CRC-32C | | {} s per GB |\n| copy in memory | | {} s per GB |\n",
            LOOPBACK_STEP >> 10,
            digits(self.loopback_mb_per_s),
            digits(self.loopback_send_cpu_s_per_gb),
            digits(self.loopback_receive_cpu_s_per_gb),
            digits(self.crc_cpu_s_per_gb),
            digits(self.copy_cpu_s_per_gb)
        ));
        text
    }
}

/// What `work` gave, and the processor time of this thread in seconds.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let before = now();
    let result = work();
    (result, now() - before)
}

fn writes(folder: &Path) -> Result<Vec<Writes>> {
    let path = folder.join("write-limits");
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&vec![0; FILE_BYTES])?;
    file.sync_all()?;
    let direct =
        std::fs::OpenOptions::new().write(true).custom_flags(OFlags::DIRECT.bits() as i32).open(&path);
    let direct =
        direct.with_context(|| format!("{} cannot be written past the page cache", path.display()))?;
    let memory = vec![3_u8; WRITE_SIZES[WRITE_SIZES.len() - 1] + ALIGN];
    let from = memory.as_ptr().align_offset(ALIGN);
    let mut all = Vec::new();
    for bytes in WRITE_SIZES {
        let buffer = &memory[from..from + bytes];
        let began = Instant::now();
        let (done, cpu) = timed(|| -> std::io::Result<()> {
            for number in 0..WRITES {
                direct.write_all_at(buffer, (number * bytes % FILE_BYTES) as u64)?;
                direct.sync_data()?;
            }
            Ok(())
        });
        done?;
        let micros = began.elapsed().as_secs_f64() * 1e6 / WRITES as f64;
        all.push(Writes { bytes, micros, cpu_micros: cpu * 1e6 / WRITES as f64 });
    }
    std::fs::remove_file(&path)?;
    Ok(all)
}

/// Processor seconds of the sender and of the receiver, and seconds.
fn loopback() -> Result<(f64, f64, f64)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let sender = std::thread::spawn(move || {
        timed(|| -> std::io::Result<()> {
            let mut stream = TcpStream::connect(address)?;
            let bytes = vec![4_u8; LOOPBACK_STEP];
            for _ in 0..LOOPBACK_BYTES / LOOPBACK_STEP {
                stream.write_all(&bytes)?;
            }
            Ok(())
        })
    });
    let (mut stream, _) = listener.accept()?;
    let began = Instant::now();
    let (received, receive_cpu) = timed(|| -> std::io::Result<usize> {
        let mut bytes = vec![0_u8; LOOPBACK_STEP];
        let mut received = 0;
        loop {
            match stream.read(&mut bytes)? {
                0 => return Ok(received),
                read => received += read,
            }
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let (sent, send_cpu) = sender.join().expect("a thread that only sends");
    sent?;
    anyhow::ensure!(received? == LOOPBACK_BYTES, "the loopback lost bytes");
    Ok((send_cpu, receive_cpu, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_a_number_above_nothing() {
        let folder = std::env::temp_dir().join(format!("bench-limits-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let measured = Limits::measure(&folder);
        let left = std::fs::read_dir(&folder).unwrap().count();
        std::fs::remove_dir_all(&folder).unwrap();
        let limits = match measured {
            Ok(limits) => limits,
            // A file system in memory may know no way past the page cache.
            Err(error) => {
                assert!(format!("{error:#}").contains("past the page cache"), "{error:#}");
                return;
            }
        };
        assert_eq!(limits.writes.iter().map(|writes| writes.bytes).collect::<Vec<_>>(), WRITE_SIZES);
        assert!(limits.writes.iter().all(|writes| writes.micros > 0.0));
        for value in [limits.loopback_mb_per_s, limits.crc_cpu_s_per_gb, limits.copy_cpu_s_per_gb] {
            assert!(value > 0.0 && value.is_finite());
        }
        assert_eq!(left, 0, "nothing is left behind");
    }
}
