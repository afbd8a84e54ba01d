//! The one that writes, on a thread of its own: takes what waits, makes a chunk of it, writes and syncs it, and tells
//! everybody. While one commit is under way the next one gathers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use world::disk::{DiskError, DiskErrorKind};
use world::task;
use world::watch;

use crate::checkpointer::CheckpointRequest;
use crate::container::{ContainerHeader, HEADER_LEN, Identity, Kind};
use crate::error::CommitError;
use crate::log::{LogState, Shared};
use crate::patience::Patience;
use crate::publish::{GoneGuard, end_group, publish};
use crate::settings::SyncMode;
use crate::wal::{self, Chunk, Filling, Gather, Position, WalFile};

/// After so much silence an empty chunk says that the last one is durable.
const IDLE_STATEMENT: Duration = Duration::from_millis(500);
/// A checkpoint frame after so many chunks, or `LogSettings::checkpoint_bytes`.
const CHECKPOINT_CHUNKS: u64 = 64;
/// Dead files are given back after a checkpoint frame; for that alone one is taken at most this often.
const RELEASE_INTERVAL: Duration = Duration::from_millis(250);
/// While the disk is full: how often a write is tried again.
const FULL_RETRY: Duration = Duration::from_millis(250);
/// Unsettled chunks up to this length are written again at start; beyond (only with `log.sync=interval`) they are synced.
const SETTLE_BYTES_MAX: u64 = 64 << 20;

pub struct Writer {
    shared: Arc<Shared>,
    current: WalFile,
    at: Position,
    chunks_in_file: u64,
    /// The last chunk that was synced.
    durable: u64,
    /// The last chunk holds nothing: there is nothing to say about it.
    stated: bool,
    chunks_since_checkpoint: u64,
    /// Bytes of WAL behind the newest checkpoint frame that is known to be durable. Recovery looks so far for chunks
    /// behind a damaged one, so no chunk begins more than `LogSettings::checkpoint_bytes` behind.
    since_durable: u64,
    /// A frame under way that will be durable when done, and `since_durable` when it was taken.
    durable_soon: Option<(u64, oneshot::Receiver<Result<(), DiskError>>)>,
    /// Shall a commit wait for those that the one before has answered?
    patience: Patience,
    last_sync: Duration,
    last_release: Duration,
    checkpoints: mpsc::Sender<CheckpointRequest>,
    closed: watch::Sender<bool>,
}

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        current: WalFile,
        at: Position,
        since_durable: u64,
        checkpoints: mpsc::Sender<CheckpointRequest>,
        closed: watch::Sender<bool>,
    ) -> Self {
        shared.directory().current_file.store(at.file, Ordering::Release);
        shared.directory().current_room.store(current.len - at.offset, Ordering::Release);
        let last_sync = shared.clock.monotonic();
        Self {
            shared,
            current,
            chunks_in_file: 0,
            durable: at.last_number,
            at,
            stated: true,
            chunks_since_checkpoint: 0,
            since_durable,
            durable_soon: None,
            patience: Patience::default(),
            last_sync,
            last_release: last_sync,
            checkpoints,
            closed,
        }
    }

    /// Makes what recovery found certain, before anybody sees it. Chunks that nobody said to be durable may stand in
    /// the page cache only, even after a sync that failed and left clean pages: they are written again. Then an empty
    /// chunk says so, and takes the place of a torn one.
    pub async fn settle(&mut self, unsettled: &[Position]) -> Result<(), DiskError> {
        let mut again = Vec::new();
        let mut len = 0;
        for place in unsettled {
            let file = self.shared.directory().files.lock()[&place.file].file.clone();
            let header = file.read_at(place.offset, HEADER_LEN).await?;
            let header = ContainerHeader::decode(&header).expect("recovery read this chunk");
            len += header.padded_len();
            again.push((file, place.offset, header.padded_len()));
        }
        for (file, offset, chunk_len) in again {
            if len <= SETTLE_BYTES_MAX {
                let bytes = file.read_at(offset, chunk_len as usize).await?;
                file.write_and_sync(offset, vec![bytes]).await?;
            } else {
                file.sync().await?;
            }
        }
        self.commit(&mut Gather::default()).await
    }

    pub async fn run(mut self) {
        let _guard = GoneGuard { shared: self.shared.clone() };
        loop {
            self.wait_for_the_answered().await;
            let Some(mut gather) = self.next_gather().await else { break };
            let result = match self.shared.state() {
                LogState::Failed(why) => Err(why),
                _ => self.commit(&mut gather).await.map_err(|error| error.to_string()),
            };
            if let Err(why) = result {
                self.shared.set_state(LogState::Failed(why.clone()));
                end_group(&self.shared, &gather, Err(CommitError(why)));
            }
        }
        if !matches!(self.shared.state(), LogState::Failed(_)) && self.durable_checkpoint(true).await.is_err()
        {
            tracing::warn!("no checkpoint at the end: the next start reads more of the log");
        }
        self.shared.directory().next_file.close();
        let _ = self.closed.send(true);
    }

    /// Clients with several requests under way, just answered, come back at once: with those that wait already they make
    /// one commit instead of two that take turns.
    async fn wait_for_the_answered(&mut self) {
        let Some((answered, bound)) = self.patience.wait() else { return };
        let shared = &self.shared;
        let waiting = shared.waiting();
        let wanted = waiting + answered;
        let until = shared.clock.monotonic() + bound;
        shared.wanted.store(wanted, Ordering::SeqCst);
        loop {
            let wake = shared.wake.notified();
            let left = until.saturating_sub(shared.clock.monotonic());
            let enough = shared.waiting() >= wanted || shared.closing.load(Ordering::Acquire);
            if enough || left.is_zero() || task::short_timeout(left, wake).await.is_none() {
                break;
            }
        }
        shared.wanted.store(0, Ordering::SeqCst);
        let came = shared.waiting().saturating_sub(waiting);
        self.patience.learn(came);
    }

    /// What waits; an empty one when the last chunk's durability is to be said; `None` at the end.
    async fn next_gather(&mut self) -> Option<Gather> {
        loop {
            let shared = self.shared.clone();
            let wake = shared.wake.notified();
            if let Some(gather) = shared.gathers.lock().pop_front() {
                return Some(gather);
            }
            let failed = matches!(shared.state(), LogState::Failed(_));
            if !failed {
                self.release_dead().await;
            }
            if shared.closing.load(Ordering::Acquire) {
                return (!self.stated && !failed).then(Gather::default);
            }
            if self.stated || failed {
                wake.await;
            } else if task::timeout(IDLE_STATEMENT, wake).await.is_err() {
                return Some(Gather::default());
            }
        }
    }

    /// Without traffic there would be no checkpoint, and without one no dead file goes: on a full disk, for ever.
    async fn release_dead(&mut self) {
        let now = self.shared.clock.monotonic();
        let lately = now.saturating_sub(self.last_release) < RELEASE_INTERVAL;
        if !lately && !self.shared.directory().dead_files(self.at.file).is_empty() {
            self.last_release = now;
            self.checkpoint();
        }
    }

    async fn commit(&mut self, gather: &mut Gather) -> Result<(), DiskError> {
        let statement = gather.is_empty();
        let mut nonce = [0; 16];
        self.shared.rng.fill(&mut nonce);
        let identity = Identity {
            kind: Kind::Chunk,
            log_id: self.shared.directory().log_id,
            number: self.at.last_number + 1,
            predecessor: self.at.last_hash,
            durable: self.durable,
            nonce,
            created_ms: self.shared.clock.now_ms(),
            file_len: self.current.len,
        };
        let mut chunk = wal::build(gather, identity);
        let len = chunk.bytes.len() as u64;
        self.stay_within_reach().await?;
        if self.at.offset + len > self.current.len {
            self.switch_file(len).await?;
            // Its header names the file it stands in; this happens once per file.
            chunk = wal::build(
                gather,
                Identity { durable: self.durable, file_len: self.current.len, ..identity },
            );
        }
        let early = self.shared.settings.acknowledges_early();
        if early {
            publish(&self.shared, &chunk, gather, self.at.file, self.at.offset);
        }
        let began = self.shared.clock.monotonic();
        let sync = match self.shared.settings.sync {
            SyncMode::Commit => true,
            SyncMode::Interval(interval) => statement || began.saturating_sub(self.last_sync) >= interval,
        };
        self.write(&chunk, sync && !early).await?;
        let took = self.shared.clock.monotonic().saturating_sub(began);
        let counters = &self.shared.counters;
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters.batches.fetch_add(gather.batches.len() as u64, Ordering::Relaxed);
        counters.bytes.fetch_add(len, Ordering::Relaxed);
        counters.commit_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        self.patience.committed(gather.batches.len(), gather.bytes, took);
        if !early {
            publish(&self.shared, &chunk, gather, self.at.file, self.at.offset);
        }
        self.at = self.at.behind(&chunk);
        self.shared.directory().current_room.store(self.current.len - self.at.offset, Ordering::Release);
        if sync {
            self.durable = chunk.header.number;
            self.last_sync = began;
        }
        self.stated = statement;
        self.chunks_since_checkpoint += 1;
        self.chunks_in_file += 1;
        self.since_durable += len;
        if self.chunks_since_checkpoint >= CHECKPOINT_CHUNKS || self.wants_durable_checkpoint() {
            self.checkpoint();
        }
        if self.at.offset * 2 >= self.current.len {
            self.shared.directory().next_file.want(self.at.file + 1, self.next_len(), 0, self.next_filling());
        }
        Ok(())
    }

    /// The same bytes at the same place until they are there: a disk that is full for a while takes them later.
    async fn write(&mut self, chunk: &Chunk, sync: bool) -> Result<(), DiskError> {
        loop {
            let buffers = vec![chunk.bytes.clone()];
            let written = match sync {
                true => self.current.file.write_and_sync(self.at.offset, buffers).await,
                false => self.current.file.write_at(self.at.offset, buffers).await,
            };
            match written {
                Err(error)
                    if error.kind == DiskErrorKind::NoSpace
                        && !self.shared.closing.load(Ordering::Acquire) =>
                {
                    self.wait_for_space().await;
                }
                other => return other,
            }
        }
    }

    fn next_len(&self) -> u64 {
        let settings = &self.shared.settings;
        (self.current.len * 2).clamp(settings.wal_file_bytes_min, settings.wal_file_bytes_max)
    }

    fn next_filling(&self) -> Filling {
        match self.at.offset / self.chunks_in_file.max(1) >= self.shared.settings.allocate_from_bytes {
            true => Filling::Allocate,
            false => Filling::Zeros,
        }
    }

    async fn switch_file(&mut self, need: u64) -> Result<(), DiskError> {
        if self.durable < self.at.last_number {
            // Only with log.sync=interval: nobody comes back to this file.
            self.current.file.sync().await?;
            self.durable = self.at.last_number;
        }
        let number = self.at.file + 1;
        self.shared.directory().next_file.want(number, self.next_len(), need, self.next_filling());
        let file = self.shared.directory().next_file.take(number, need).await?;
        self.shared.directory().files.lock().insert(number, file.clone());
        self.shared.directory().count_files(&self.shared.counters);
        self.current = file;
        self.at.file = number;
        self.at.offset = 0;
        self.chunks_in_file = 0;
        self.shared.directory().current_file.store(number, Ordering::Release);
        // From now on the file before can be given back, once a checkpoint stands behind it.
        self.chunks_since_checkpoint = CHECKPOINT_CHUNKS;
        Ok(())
    }

    /// Half way to the bound, so that nobody has to wait at the bound itself.
    fn wants_durable_checkpoint(&self) -> bool {
        self.durable_soon.is_none() && self.since_durable >= self.shared.settings.checkpoint_bytes / 2
    }

    /// Before a chunk is written: see [`Self::since_durable`].
    async fn stay_within_reach(&mut self) -> Result<(), DiskError> {
        while self.since_durable >= self.shared.settings.checkpoint_bytes {
            if let Some((taken_at, answer)) = self.durable_soon.take() {
                if let Ok(Ok(())) = answer.await {
                    self.since_durable -= taken_at;
                }
                continue;
            }
            match self.durable_checkpoint(false).await {
                Err(error)
                    if error.kind == DiskErrorKind::NoSpace
                        && !self.shared.closing.load(Ordering::Acquire) =>
                {
                    self.wait_for_space().await;
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn wait_for_space(&self) {
        self.shared.set_state(LogState::Full);
        // The task that looks for room also says when there is some.
        self.shared.directory().next_file.want(self.at.file + 1, self.next_len(), 0, self.next_filling());
        task::sleep(FULL_RETRY).await;
    }

    /// Asks for a checkpoint frame. It is skipped while too many are under way: the next one has it all.
    fn checkpoint(&mut self) {
        self.note_durable();
        let sync = self.wants_durable_checkpoint();
        let (request, answer) = self.checkpoint_request(false, sync);
        if self.checkpoints.try_send(request).is_ok() {
            self.chunks_since_checkpoint = 0;
            if sync {
                self.durable_soon = Some((self.since_durable, answer));
            }
        }
    }

    /// A checkpoint frame, durable on return.
    async fn durable_checkpoint(&mut self, close: bool) -> Result<(), DiskError> {
        let (request, answer) = self.checkpoint_request(close, true);
        let gone = || {
            let detail = "the task that writes checkpoints is gone: a bug, see above";
            DiskError::new(
                DiskErrorKind::Io,
                "write a checkpoint of",
                &self.shared.directory().wal_dir,
                detail,
            )
        };
        self.checkpoints.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())??;
        self.durable_soon = None;
        self.chunks_since_checkpoint = 0;
        self.since_durable = 0;
        Ok(())
    }

    /// The frame that was under way may be durable by now. One that failed is asked for again.
    fn note_durable(&mut self) {
        if let Some((taken_at, answer)) = &mut self.durable_soon {
            match answer.try_recv() {
                Ok(Ok(())) => self.since_durable -= *taken_at,
                Err(oneshot::error::TryRecvError::Empty) => return,
                Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => {}
            }
            self.durable_soon = None;
        }
    }

    fn checkpoint_request(
        &self,
        closed: bool,
        sync: bool,
    ) -> (CheckpointRequest, oneshot::Receiver<Result<(), DiskError>>) {
        let (done, answer) = oneshot::channel();
        let (at, file_len, since_durable) = (self.at, self.current.len, self.since_durable);
        (CheckpointRequest { at, file_len, since_durable, closed, sync, done }, answer)
    }
}
