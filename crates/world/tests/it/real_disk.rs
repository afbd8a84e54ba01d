//! The same promises on the operating system's files, as far as a test can see them.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use world::disk::{
    AlignedBuffer, DIRECT_ALIGN, Disk, DiskErrorKind, OpenMode, RealDisk, RealDiskOptions, read_small,
    write_atomic,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_a_directory_run_in_the_order_of_the_calls() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    let file = disk.open(&dir.path().join("wal"), OpenMode::CreateNew).await.unwrap();
    file.fill_zeros(0, 3 << 20).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 3 << 20);
    // All handed over before the first is waited for: the last write wins.
    let commits: Vec<_> = (0..50u8)
        .map(|i| file.write_and_sync(4096, vec![Bytes::from(vec![i; 100]), Bytes::from(vec![i; 28])]))
        .collect();
    for commit in commits {
        commit.await.unwrap();
    }
    let read = file.read_at(4000, 300).await.unwrap();
    assert!(read[..96] == [0; 96] && read[96..224] == [49; 128] && read[224..] == [0; 76]);
    assert_eq!(file.read_at((3 << 20) - 10, 100).await.unwrap().len(), 10);
    let counters = disk.counters();
    assert_eq!(counters.bytes_written.load(Ordering::Relaxed), 50 * 128);
    assert_eq!(counters.bytes_zero_filled.load(Ordering::Relaxed), 3 << 20);
    assert!(counters.syncs.load(Ordering::Relaxed) >= 51);
}

#[tokio::test]
async fn a_thread_of_ones_own_does_its_disk_work_itself() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    let file = disk.open(&dir.path().join("wal"), OpenMode::CreateNew).await.unwrap();
    let (done, answer) = tokio::sync::oneshot::channel();
    world::task::spawn_on_own_thread("writer", async move {
        let mut work = file.write_and_sync(0, vec![Bytes::from_static(b"committed")]);
        // Done by the first look: nobody else was asked.
        let waker = std::task::Waker::noop();
        let looked = work.as_mut().poll(&mut std::task::Context::from_waker(waker));
        assert!(matches!(looked, std::task::Poll::Ready(Ok(()))));
        // What waits for others works there too.
        world::task::sleep(std::time::Duration::from_millis(1)).await;
        done.send(file.read_at(0, 100).await).unwrap();
    })
    .unwrap();
    assert_eq!(&answer.await.unwrap().unwrap()[..], b"committed");
    assert_eq!(disk.counters().syncs.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn on_a_thread_of_ones_own_a_short_wait_ends_with_the_event_or_the_time() {
    let (done, answer) = tokio::sync::oneshot::channel();
    let (tell, told) = tokio::sync::oneshot::channel();
    let (awake, mut waits) = tokio::sync::mpsc::unbounded_channel();
    world::task::spawn_on_own_thread("writer", async move {
        let short = std::time::Duration::from_micros(50);
        let in_vain = world::task::short_timeout(short, std::future::pending::<()>()).await;
        awake.send(()).unwrap();
        let long = std::time::Duration::from_secs(60);
        let event = world::task::short_timeout(long, told).await;
        done.send((in_vain, event)).unwrap();
    })
    .unwrap();
    waits.recv().await.unwrap();
    tell.send("now").unwrap();
    assert_eq!(answer.await.unwrap(), (None, Some(Ok("now"))));
}

#[tokio::test]
async fn many_buffers_are_one_write() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    let file = disk.open(&dir.path().join("a"), OpenMode::CreateNew).await.unwrap();
    // More than the kernel takes at once, with empty ones between.
    let buffers: Vec<Bytes> = (0..3000u32)
        .map(|i| if i % 7 == 0 { Bytes::new() } else { Bytes::copy_from_slice(&i.to_le_bytes()) })
        .collect();
    let expected = buffers.concat();
    file.write_and_sync(10, buffers).await.unwrap();
    assert_eq!(&file.read_at(10, 1 << 20).await.unwrap()[..], &expected[..]);
    let many = file.read_many(vec![(10, 4), (20, 0), (12, 8), (u64::from(u32::MAX), 8)]).await.unwrap();
    assert_eq!(many, [&expected[..4], &[], &expected[2..10], &[]]);
}

/// Aligned and other writes, reads from the cache and from the medium: whichever way, everybody sees the same bytes.
#[tokio::test]
async fn ways_around_the_page_cache_and_through_it_agree() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    let file = disk.open(&dir.path().join("a"), OpenMode::CreateNew).await.unwrap();
    let pages = |count: usize, fill: u8| {
        let mut buffer = AlignedBuffer::with_capacity(count * DIRECT_ALIGN);
        buffer.resize(count * DIRECT_ALIGN);
        buffer.as_mut_slice().fill(fill);
        buffer.freeze()
    };
    let mut expected = vec![0; 100_000];
    let mut step = 0u8;
    for (at, len, aligned) in [
        (0, 20 * DIRECT_ALIGN, true),
        (5000, 3000, false),
        (DIRECT_ALIGN, 2 * DIRECT_ALIGN, true),
        (0, 100_000, false),
        (8 * DIRECT_ALIGN, 8 * DIRECT_ALIGN, true),
        (99_000, 1000, false),
    ] {
        step += 1;
        let bytes = match aligned {
            true => pages(len / DIRECT_ALIGN, step),
            false => Bytes::from(vec![step; len]),
        };
        // What is read before a write past the cache must not be served after it.
        file.read_at(0, 100_000).await.unwrap();
        match step % 2 {
            0 => file.write_at(at as u64, vec![bytes]).await.unwrap(),
            _ => file.write_and_sync(at as u64, vec![bytes]).await.unwrap(),
        }
        expected[at..at + len].fill(step);
        let end = file.len().await.unwrap() as usize;
        assert_eq!(file.read_at(0, 100_000).await.unwrap(), expected[..end], "after step {step}");
        for range in
            [(0, 1), (1, 100), (4095, 2), (5000, 50_000), (end - 10, 10), (end - 10, 20), (end + 5000, 3)]
        {
            let read = file.read_many_from_medium(vec![(range.0 as u64, range.1), (0, 3)]).await.unwrap();
            let from = range.0.min(end);
            assert_eq!(
                read[0],
                expected[from..(range.0 + range.1).min(end).max(from)],
                "{range:?} after step {step}"
            );
            assert_eq!(read[1], expected[..3]);
        }
    }
    assert_eq!(disk.counters().writes.load(Ordering::Relaxed), 6);
}

/// Zeros pass by the page cache where they are aligned; what was cached, and what is written over them, is seen as it must be.
#[tokio::test]
async fn zeros_ahead_and_writes_over_them_agree() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    let file = disk.open(&dir.path().join("a"), OpenMode::CreateNew).await.unwrap();
    file.write_and_sync(0, vec![Bytes::from(vec![7; 10_000])]).await.unwrap();
    for (from, to) in [(4096, 3 << 20), (3 << 20, (3 << 20) + 5000), ((3 << 20) + 5000, 4 << 20)] {
        file.fill_zeros(from, to).await.unwrap();
    }
    assert_eq!(file.len().await.unwrap(), 4 << 20);
    file.write_and_sync(8192, vec![Bytes::from(vec![9; 4096])]).await.unwrap();
    let read = file.read_at(0, 5 << 20).await.unwrap();
    assert_eq!(read.len(), 4 << 20);
    let expected = |at: usize| match at {
        0..4096 => 7,
        8192..12288 => 9,
        _ => 0,
    };
    assert!(read.iter().enumerate().all(|(at, byte)| *byte == expected(at)));
}

#[tokio::test]
async fn one_process_holds_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    let lock = disk.lock(&dir.path().join("lock")).await.unwrap();
    assert_eq!(disk.lock(&dir.path().join("lock")).await.unwrap_err().kind, DiskErrorKind::Locked);
    drop(lock);
    disk.lock(&dir.path().join("lock")).await.unwrap();
}

#[tokio::test]
async fn a_failed_sync_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let disk =
        RealDisk::with_options(RealDiskOptions { fail_sync_at: Some(2), ..RealDiskOptions::default() });
    let file = disk.open(&dir.path().join("a"), OpenMode::CreateNew).await.unwrap();
    file.write_and_sync(0, vec![Bytes::from_static(b"one")]).await.unwrap();
    let failed = file.write_and_sync(3, vec![Bytes::from_static(b"two")]).await.unwrap_err();
    assert_eq!(failed.kind, DiskErrorKind::SyncFailed);
    assert!(file.is_failed());
    assert_eq!(file.sync().await.unwrap_err().kind, DiskErrorKind::SyncFailed);
    assert_eq!(file.write_at(0, vec![Bytes::new()]).await.unwrap_err().kind, DiskErrorKind::SyncFailed);
    assert_eq!(&file.read_at(0, 3).await.unwrap()[..], b"one");
}

#[tokio::test]
async fn names_lists_and_small_files() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    let sub = dir.path().join("x/y");
    disk.create_dir_all(&sub).await.unwrap();
    disk.create_dir_all(&sub).await.unwrap();
    assert!(read_small(&*disk, &sub.join("a"), 100).await.unwrap().is_none());
    write_atomic(&*disk, &sub.join("a"), Bytes::from_static(b"1")).await.unwrap();
    write_atomic(&*disk, &sub.join("a"), Bytes::from_static(b"22")).await.unwrap();
    assert_eq!(&read_small(&*disk, &sub.join("a"), 100).await.unwrap().unwrap()[..], b"22");
    assert!(read_small(&*disk, &sub.join("a"), 1).await.is_err(), "longer than allowed");
    assert_eq!(
        disk.open(&sub.join("a"), OpenMode::CreateNew).await.err().unwrap().kind,
        DiskErrorKind::AlreadyExists
    );
    let entries = disk.list(&sub).await.unwrap();
    assert_eq!(entries.iter().map(|entry| (entry.name.as_str(), entry.len)).collect::<Vec<_>>(), [("a", 2)]);
    disk.remove(&sub.join("a")).await.unwrap();
    assert!(disk.remove(&sub.join("a")).await.unwrap_err().is_not_found());
    assert!(disk.space(&sub).await.unwrap().free_bytes > 0);
}
