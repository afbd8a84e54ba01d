//! Work whose instructions are counted (`cargo xtask instructions`): one case, so many times over.
#![allow(clippy::disallowed_methods)] // names a program's arguments

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use commitlog::{
    AppendOptions, CommitLog, Isolation, LogSettings, Partition, PartitionSettings, ReadRequest,
};
use protocol::batch::{Batch, BatchBuilder};
use protocol::{TopicIdPartition, Uuid};
use world::clock::SimClock;
use world::disk::MemDisk;
use world::rng::SeededRng;

const PARTITIONS: i32 = 100;
/// Extents that the look-up finds its way among.
const EXTENTS: i64 = 2_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let case = arguments.next().expect("CASE COUNT");
    let count: u64 = arguments.next().expect("CASE COUNT").parse().expect("a count");
    world::task::deterministic(1);
    world::task::paused_runtime().block_on(async {
        let log = open().await;
        let batch = batch();
        match case.as_str() {
            "append-100-batches-one-commit" => {
                for _ in 0..count {
                    append_to_all(&log, &batch).await;
                }
            }
            "look-up-among-2000-extents" => {
                let partition = partition(&log, 0);
                for _ in 0..EXTENTS {
                    append(&partition, &batch).committed().await.expect("durable");
                }
                for i in 0..count as i64 {
                    let request = ReadRequest {
                        offset: (i * 977) % EXTENTS,
                        max_bytes: 1,
                        min_one_batch: true,
                        isolation: Isolation::ReadUncommitted,
                    };
                    black_box(partition.read_tail(&request).expect("in memory").expect("readable"));
                }
            }
            other => panic!("no case {other}"),
        }
        log.close().await;
    });
}

async fn open() -> Arc<CommitLog> {
    let ids: Vec<_> = (0..PARTITIONS).map(|index| (id(index), PartitionSettings::default())).collect();
    let (clock, rng) = (Arc::new(SimClock::new(0)), SeededRng::shared(1));
    let opened = CommitLog::open_with(
        MemDisk::new(1),
        PathBuf::from("/data"),
        clock,
        rng,
        LogSettings::default(),
        &ids,
    );
    opened.await.expect("a log in an empty directory")
}

fn id(partition: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: Uuid([7; 16]), partition }
}

fn partition(log: &CommitLog, index: i32) -> Arc<Partition> {
    log.partition(&id(index)).expect("it was named")
}

fn batch() -> Batch {
    let mut builder = BatchBuilder::new();
    builder.append(0, None, Some(&[7; 1000]), &[]).expect("a record");
    Batch::parse(builder.build().expect("a batch")).expect("our own")
}

fn append(partition: &Arc<Partition>, batch: &Batch) -> commitlog::Append {
    partition.append(batch.clone(), AppendOptions::default()).expect("taken")
}

async fn append_to_all(log: &CommitLog, batch: &Batch) {
    let waiting: Vec<_> = (0..PARTITIONS).map(|index| append(&partition(log, index), batch)).collect();
    for append in waiting {
        append.committed().await.expect("durable");
    }
}
