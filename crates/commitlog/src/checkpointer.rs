//! The task that writes checkpoint frames, and gives WAL files back once a frame no longer needs them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};
use world::disk::DiskError;

use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::log::Shared;
use crate::partition::Partition;
use crate::settings::SyncMode;
use crate::wal::Position;

pub struct CheckpointRequest {
    /// Everything up to here is committed, and published to the partitions.
    pub at: Position,
    pub file_len: u64,
    /// Bytes of WAL since the newest frame that is known to be durable.
    pub since_durable: u64,
    pub closed: bool,
    /// Durable when done.
    pub sync: bool,
    pub done: oneshot::Sender<Result<(), DiskError>>,
}

pub struct Checkpointer {
    pub shared: Arc<Shared>,
    pub file: CheckpointFile,
    /// Where the last frame was taken.
    pub last: Position,
    /// A frame was lost: the next one has to hold everything.
    pub force_base: bool,
}

impl Checkpointer {
    pub async fn run(mut self, mut requests: mpsc::Receiver<CheckpointRequest>) {
        while let Some(request) = requests.recv().await {
            let result = self.checkpoint(&request).await;
            if let Err(error) = &result {
                self.force_base = true;
                tracing::warn!("a checkpoint could not be written, a start now would read more: {error}");
            }
            // Nobody waits for most of them.
            let _ = request.done.send(result);
        }
    }

    async fn checkpoint(&mut self, request: &CheckpointRequest) -> Result<(), DiskError> {
        // Before the capture: what is dead now is dead in the frame.
        let dead = self.shared.directory().dead_files(request.at.file);
        let all = self.force_base || self.file.wants_base();
        let dirty = std::mem::take(&mut *self.shared.dirty.lock());
        let partitions: Vec<Arc<Partition>> = if all { self.shared.all_partitions() } else { dirty };
        let captured =
            partitions.iter().filter_map(|partition| Some((partition.id(), partition.capture(all)?)));
        let frame = Checkpoint {
            at: request.at,
            file_len: request.file_len,
            closed: request.closed,
            reach: self.shared.settings.checkpoint_bytes,
            since_durable: request.since_durable,
            partitions: captured.collect::<BTreeMap<_, _>>(),
        };
        if matches!(self.shared.settings.sync, SyncMode::Interval(_)) {
            // Captured partitions may show chunks that are written and not synced; the frame must not be ahead of them.
            let files: Vec<_> = self
                .shared
                .directory()
                .files
                .lock()
                .range(self.last.file..)
                .map(|(_, file)| file.clone())
                .collect();
            for file in files {
                file.file.sync().await?;
            }
        }
        if all {
            self.file.write_base(&frame).await?;
            self.force_base = false;
        } else {
            self.file.write_delta(&frame).await?;
        }
        self.last = request.at;
        if request.sync || !dead.is_empty() {
            self.file.sync().await?;
        }
        self.shared.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        if !dead.is_empty() {
            self.shared.directory().give_back(dead, &self.shared).await?;
        }
        Ok(())
    }
}
