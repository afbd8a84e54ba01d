//! Puts one commit after the other into slots: some at once, acknowledged in their order.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use world::broken;
use world::bucket::{Bucket, StoreError, Stored, store};
use world::task::{self, JoinHandle};

use super::slot::slot_key;

/// Slots beyond the acknowledged prefix (W of R4).
pub const SLOTS_IN_FLIGHT_MAX: usize = 4;
/// How long a store may be silent before that is said once more. Nothing is given up: trouble costs latency, never data.
const SILENCE: Duration = Duration::from_secs(30);

/// A request that takes so many times the usual is sent a second time, the same bytes under the same key: whichever comes first
/// will do (R2).
const HEDGE_FACTOR: u32 = 3;
const HEDGE_MIN: Duration = Duration::from_millis(100);
/// What is usual before anything was measured.
const USUAL: Duration = Duration::from_millis(100);

/// Somebody has ended this WAL: what was in flight may or may not count, and nobody here will ever know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("slot {slot} of WAL {wal_id} has another content: this broker is fenced")]
pub struct Fenced {
    pub wal_id: u64,
    pub slot: u64,
}

pub struct SlotWriter {
    bucket: Arc<dyn Bucket>,
    wal_id: u64,
    /// The next slot to be filled; those in flight are the ones just below.
    next: u64,
    in_flight: VecDeque<JoinHandle<Result<(), Fenced>>>,
    fenced: Option<Fenced>,
    /// Microseconds that filling a slot takes, smoothed.
    usual: Arc<AtomicU64>,
    #[cfg(feature = "negative-controls")]
    control: Option<crate::settings::NegativeControl>,
}

impl SlotWriter {
    /// The WAL of an incarnation that was just registered: its slots are empty.
    pub fn new(bucket: Arc<dyn Bucket>, wal_id: u64) -> Self {
        Self {
            bucket,
            wal_id,
            next: 0,
            in_flight: VecDeque::new(),
            fenced: None,
            usual: Arc::new(AtomicU64::new(USUAL.as_micros() as u64)),
            #[cfg(feature = "negative-controls")]
            control: None,
        }
    }

    #[cfg(feature = "negative-controls")]
    pub fn with_control(mut self, control: Option<crate::settings::NegativeControl>) -> Self {
        self.control = control;
        self
    }

    pub fn has_room(&self) -> bool {
        self.in_flight.len() < SLOTS_IN_FLIGHT_MAX
    }

    /// Fills the next slot, for ever with these bytes (R2); gives its number. The caller has seen that there is room.
    pub fn send(&mut self, bytes: Bytes) -> u64 {
        assert!(self.has_room(), "WAL {}: more than {SLOTS_IN_FLIGHT_MAX} slots in flight", self.wal_id);
        let slot = self.next;
        self.next += 1;
        let (bucket, wal_id, usual) = (self.bucket.clone(), self.wal_id, self.usual.clone());
        #[cfg(feature = "negative-controls")]
        let control = self.control;
        self.in_flight.push_back(task::spawn(async move {
            #[cfg(feature = "negative-controls")]
            if control == Some(crate::settings::NegativeControl::ExistsIsStored)
                && bucket
                    .create(&slot_key(wal_id, slot), bytes.clone())
                    .await
                    .is_err_and(|error| error.kind == world::bucket::BucketErrorKind::Exists)
            {
                return Ok(());
            }
            let mut bytes = bytes;
            if broken::rule("rebatched-slot")
                && bucket.create(&slot_key(wal_id, slot), bytes.clone()).await.is_err()
            {
                bytes = [&bytes[..], b"and more"].concat().into();
            }
            let began = task::now();
            let hedge = Duration::from_micros(usual.load(Ordering::Relaxed)) * HEDGE_FACTOR;
            let filled = fill(&*bucket, wal_id, slot, &bytes, hedge.max(HEDGE_MIN)).await;
            let took = (task::now() - began).as_micros() as u64;
            usual.store((usual.load(Ordering::Relaxed) * 7 + took) / 8, Ordering::Relaxed);
            filled
        }));
        slot
    }

    /// Waits for the lowest slot in flight, and says that it and all before it are stored. Pending while nothing is in flight.
    /// Once fenced, always fenced.
    pub async fn stored(&mut self) -> Result<u64, Fenced> {
        if let Some(fenced) = self.fenced {
            return Err(fenced);
        }
        #[cfg(feature = "negative-controls")]
        if self.control == Some(crate::settings::NegativeControl::AcknowledgeOutOfOrder) {
            return self.any_stored().await;
        }
        let Some(lowest) = self.in_flight.front_mut() else { return std::future::pending().await };
        // Not taken out before it is done: who calls may be dropped at any await.
        let filled = lowest.await.expect("filling a slot neither panics nor is aborted");
        self.in_flight.pop_front();
        match filled {
            Ok(()) => Ok(self.next - 1 - self.in_flight.len() as u64),
            Err(fenced) => {
                self.fenced = Some(fenced);
                Err(fenced)
            }
        }
    }

    /// R4 broken: whichever comes first.
    #[cfg(feature = "negative-controls")]
    async fn any_stored(&mut self) -> Result<u64, Fenced> {
        loop {
            if let Some(done) = self.in_flight.iter().position(JoinHandle::is_finished) {
                let slot = self.next - self.in_flight.len() as u64 + done as u64;
                let task = self.in_flight.remove(done).expect("it is there");
                return task.await.expect("neither panics nor is aborted").map(|()| slot);
            }
            task::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Until it is known what stands in the slot (R3).
async fn fill(
    bucket: &dyn Bucket,
    wal_id: u64,
    slot: u64,
    bytes: &Bytes,
    hedge: Duration,
) -> Result<(), Fenced> {
    let key = slot_key(wal_id, slot);
    loop {
        match store_hedged(bucket, &key, bytes, hedge).await {
            Ok(Stored::Own) => return Ok(()),
            Ok(Stored::Other(_)) => return Err(Fenced { wal_id, slot }),
            Err(error) => tracing::warn!("a commit waits for the bucket: {error}"),
        }
    }
}

/// The first answer that is one.
async fn store_hedged(
    bucket: &dyn Bucket,
    key: &str,
    bytes: &Bytes,
    hedge: Duration,
) -> Result<Stored, StoreError> {
    let first = pin!(store(bucket, key, bytes, SILENCE));
    let second = pin!(async {
        task::sleep(hedge).await;
        store(bucket, key, bytes, SILENCE).await
    });
    match select(first, second).await {
        Either::Left((Ok(stored), _)) | Either::Right((Ok(stored), _)) => Ok(stored),
        Either::Left((Err(_), second)) => second.await,
        Either::Right((Err(_), first)) => first.await,
    }
}

impl Drop for SlotWriter {
    /// What was sent may still arrive; nobody asks for it any more.
    fn drop(&mut self) {
        self.in_flight.iter().for_each(JoinHandle::abort);
    }
}
