//! The partitions of a coordinators' topic, and who looks after each.
//!
//! ```text
//!   led elsewhere ──▶ led here, not in the log yet ──▶ loading ──▶ ready ──▶ led elsewhere, or here under the next epoch
//!   NOT_COORDINATOR   COORDINATOR_LOAD_IN_PROGRESS                           (who still waits: NOT_COORDINATOR)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use catalog::{Catalog, PartitionInfo, Topic};
use commitlog::CommitLog;
use futures_util::future::{BoxFuture, join};
use parking_lot::{Mutex, RwLock};
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};
use tokio::sync::Semaphore;
use world::clock::SharedClock;
use world::task::{self, JoinHandle};

use super::{PartitionRuntime, StateMachine};
use crate::freshness::Freshness;

/// All partitions of a topic together stay about below this, as long as the state itself does. What
/// counts is not the space but the start: after one, each small commit is a read of its own (measured: 20,000 of
/// them took 6 s), and a restart has one second.
const LOG_BYTES_TOTAL: u64 = 4 << 20;
/// What one partition's log may weigh before it is worth a snapshot.
const LOG_BYTES_PER_PARTITION: std::ops::RangeInclusive<u64> = 32 << 10..=1 << 20;
/// Partitions that load at the same time.
const LOADS_AT_ONCE: usize = 16;

pub(crate) struct CoordinatorOptions {
    pub topic: &'static str,
    pub node_id: i32,
    pub clock: SharedClock,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub freshness: Arc<Freshness>,
}

/// What goes on beside a runtime, until that is stopped.
pub(crate) type Beside<M> = Box<dyn Fn(Arc<PartitionRuntime<M>>) -> BoxFuture<'static, ()> + Send + Sync>;

pub(crate) struct Coordinators<M: StateMachine> {
    options: CoordinatorOptions,
    beside: Option<Beside<M>>,
    known: RwLock<Arc<Places<M>>>,
    loads: Arc<Semaphore>,
    /// The newest task of each partition; those of runtimes that were stopped may still have something to land.
    tasks: Mutex<BTreeMap<TopicIdPartition, JoinHandle<()>>>,
    is_stopped: AtomicBool,
}

/// The topic as the last look at the catalog and the log found it.
struct Places<M: StateMachine> {
    topic: Option<Arc<Topic>>,
    /// One for each partition of the topic.
    places: Vec<Place<M>>,
}

/// Who looks after one partition.
enum Place<M: StateMachine> {
    Elsewhere,
    /// This broker, as soon as the log has opened the partition.
    Opening,
    Here(Arc<PartitionRuntime<M>>),
}

impl<M: StateMachine> Coordinators<M> {
    pub fn new(options: CoordinatorOptions, beside: Option<Beside<M>>) -> Self {
        Self {
            options,
            beside,
            known: RwLock::new(Arc::new(Places { topic: None, places: Vec::new() })),
            loads: Arc::new(Semaphore::new(LOADS_AT_ONCE)),
            tasks: Mutex::default(),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// To be called when the catalog has changed, and when the log has opened or closed partitions: starts and stops what follows
    /// from it.
    pub fn follow_leaders(&self, settings: &Arc<M::Settings>) {
        self.follow(settings);
    }

    /// The runtime of a key's partition.
    pub fn of(&self, key: &str, settings: &Arc<M::Settings>) -> Result<Arc<PartitionRuntime<M>>, ErrorCode> {
        let known = self.current(settings);
        self.place(known.places.get(partition_for(key, known.places.len())))
    }

    /// The runtime of a partition.
    pub fn at(&self, index: i32, settings: &Arc<M::Settings>) -> Result<Arc<PartitionRuntime<M>>, ErrorCode> {
        let known = self.current(settings);
        self.place(usize::try_from(index).ok().and_then(|index| known.places.get(index)))
    }

    fn place(&self, place: Option<&Place<M>>) -> Result<Arc<PartitionRuntime<M>>, ErrorCode> {
        match place {
            Some(Place::Here(runtime)) => Ok(runtime.clone()),
            Some(Place::Opening) => Err(ErrorCode::CoordinatorLoadInProgress),
            Some(Place::Elsewhere) | None => {
                // Perhaps it is ours already and we have not heard of it. The client asks for the coordinator and comes again.
                self.options.freshness.catch_up_soon();
                Err(ErrorCode::NotCoordinator)
            }
        }
    }

    /// What this broker looks after; an error is a partition that is not open yet.
    pub fn all(&self, settings: &Arc<M::Settings>) -> Vec<Result<Arc<PartitionRuntime<M>>, ErrorCode>> {
        let known = self.current(settings);
        let here = known.places.iter().filter_map(|place| match place {
            Place::Elsewhere => None,
            Place::Opening => Some(Err(ErrorCode::CoordinatorLoadInProgress)),
            Place::Here(runtime) => Some(Ok(runtime.clone())),
        });
        here.collect()
    }

    pub fn topic(&self) -> Option<Arc<Topic>> {
        self.options.catalog.read().topic(self.options.topic).cloned()
    }

    /// Ends all waiting and lets what was handed to the log land. The state stays in the log.
    pub async fn shutdown(&self) {
        self.is_stopped.store(true, Ordering::Release);
        let known =
            std::mem::replace(&mut *self.known.write(), Arc::new(Places { topic: None, places: Vec::new() }));
        known.runtimes().for_each(|runtime| runtime.stop());
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks.into_values() {
            let _ = task.await;
        }
    }

    /// Who looks after which partition by the catalog as it is now: also when nobody has called `follow_leaders` yet, a
    /// request must not reach a partition that is led elsewhere, or miss one that was just made.
    fn current(&self, settings: &Arc<M::Settings>) -> Arc<Places<M>> {
        let topic = self.topic();
        {
            let known = self.known.read();
            if known.is_of(topic.as_ref())
                && !known.opening().any(|id| self.options.log.partition(&id).is_some())
            {
                return known.clone();
            }
        }
        self.follow(settings)
    }

    /// Runs what this broker leads and nothing else.
    fn follow(&self, settings: &Arc<M::Settings>) -> Arc<Places<M>> {
        let mut known = self.known.write();
        if self.is_stopped.load(Ordering::Acquire) {
            return known.clone();
        }
        // Read behind the lock: of two who look at the same time the one with the older view must not have the last word.
        let mut next = Places { topic: self.topic(), places: Vec::new() };
        if let Some(topic) = &next.topic {
            let infos = (0..).zip(&topic.partitions);
            let place = |(index, info)| self.place_of(&known, topic, index, info, settings);
            next.places = infos.map(place).collect();
        }
        for gone in known.runtimes().filter(|runtime| !next.has(runtime)) {
            gone.stop();
        }
        for new in next.runtimes().filter(|runtime| !known.has(runtime)) {
            self.run(new.clone());
        }
        *known = Arc::new(next);
        known.clone()
    }

    /// The place of a partition now: the runtime that is known, if its leadership and its log are still the same.
    fn place_of(
        &self,
        known: &Places<M>,
        topic: &Topic,
        index: i32,
        info: &PartitionInfo,
        settings: &Arc<M::Settings>,
    ) -> Place<M> {
        if info.leader != self.options.node_id {
            return Place::Elsewhere;
        }
        let Some(partition) = self.options.log.partition(&TopicIdPartition::new(topic.id, index)) else {
            return Place::Opening;
        };
        match known.places.get(index as usize) {
            Some(Place::Here(same)) if same.is_of(&partition, info.leader_epoch) => Place::Here(same.clone()),
            _ => {
                let bytes_max = LOG_BYTES_TOTAL / topic.partitions.len().max(1) as u64;
                let bytes_max =
                    bytes_max.clamp(*LOG_BYTES_PER_PARTITION.start(), *LOG_BYTES_PER_PARTITION.end());
                let (clock, settings) = (self.options.clock.clone(), settings.clone());
                Place::Here(PartitionRuntime::new(partition, info.leader_epoch, clock, settings, bytes_max))
            }
        }
    }

    fn run(&self, runtime: Arc<PartitionRuntime<M>>) {
        let (id, catalog, loads) = (runtime.id(), self.options.catalog.clone(), self.loads.clone());
        let beside = self.beside.as_ref().map(|beside| beside(runtime.clone()));
        let mut tasks = self.tasks.lock();
        let earlier = tasks.remove(&id);
        let task = task::spawn(async move {
            // What the earlier leadership handed to the log has to be in it before it is read.
            if let Some(earlier) = earlier {
                let _ = earlier.await;
            }
            let current_topic_id = move |name: &Str| catalog.read().topic(name).map(|topic| topic.id);
            let run = runtime.run(&loads, current_topic_id);
            match beside {
                Some(beside) => drop(join(run, beside).await),
                None => run.await,
            }
        });
        tasks.insert(id, task);
    }
}

impl<M: StateMachine> Places<M> {
    fn runtimes(&self) -> impl Iterator<Item = &Arc<PartitionRuntime<M>>> {
        self.places.iter().filter_map(|place| match place {
            Place::Here(runtime) => Some(runtime),
            Place::Elsewhere | Place::Opening => None,
        })
    }

    fn has(&self, runtime: &Arc<PartitionRuntime<M>>) -> bool {
        let place = self.places.get(runtime.id().partition as usize);
        matches!(place, Some(Place::Here(own)) if Arc::ptr_eq(own, runtime))
    }

    fn opening(&self) -> impl Iterator<Item = TopicIdPartition> {
        let topic_id = self.topic.as_ref().map_or(Uuid::ZERO, |topic| topic.id);
        let opening = (0..).zip(&self.places).filter(|(_, place)| matches!(place, Place::Opening));
        opening.map(move |(index, _)| TopicIdPartition::new(topic_id, index))
    }

    /// Whether the topic has not changed since: no leader, no epoch, no partition.
    fn is_of(&self, topic: Option<&Arc<Topic>>) -> bool {
        match (&self.topic, topic) {
            (Some(known), Some(topic)) => Arc::ptr_eq(known, topic),
            (None, None) => true,
            _ => false,
        }
    }
}

/// The broker that looks after a key: the leader of its partition.
pub(crate) fn coordinator_of(topic: &Topic, key: &str) -> Option<i32> {
    topic.partitions.get(partition_for(key, topic.partitions.len())).map(|partition| partition.leader)
}

/// Where Kafka keeps a group or a transactional id: Java's `String.hashCode`, its sign taken off, by the number of partitions.
pub(crate) fn partition_for(key: &str, partition_count: usize) -> usize {
    let hash =
        key.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's `Utils.abs`: the one number without a positive counterpart counts as 0.
    let hash = hash.checked_abs().unwrap_or(0);
    hash as usize % partition_count.max(1)
}
