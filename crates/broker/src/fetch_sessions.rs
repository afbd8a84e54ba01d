//! Incremental fetch sessions (KIP-227): the broker remembers which partitions a consumer reads, the consumer
//! sends and gets only what changed.
//!
//! The cache has slots. A new session takes the slot of one that was not used for two minutes, else of a smaller
//! one that is older than two minutes, else it gets none and the consumer goes on with full fetches. Kafka's
//! "privileged" sessions of followers do not exist here.
//!
//! Source: Kafka's `FetchSession`, `FetchSessionCacheShard`, `FetchManager`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::ErrorCode;
use protocol::messages::fetch_response::PartitionData;
use world::clock::SharedClock;
use world::collections::HashMap;
use world::rng::Rng;

use crate::limits::Limits;
use crate::partitions::TopicRef;

/// A session may lose its slot when it was not used, or has existed, for longer.
const EVICTION: Duration = Duration::from_secs(120);
/// Longer names are no topics; a session with one is not worth its memory.
const TOPIC_NAME_LEN_MAX: usize = 249;

pub(crate) const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// One partition as a consumer asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub topic: TopicRef,
    pub partition: i32,
    pub fetch_offset: i64,
    pub max_bytes: i32,
    pub current_leader_epoch: i32,
    pub last_fetched_epoch: i32,
}

/// What a request says about its session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub session_id: i32,
    pub epoch: i32,
    pub uses_topic_ids: bool,
}

/// How this fetch stands to its session; decides what of the answer is sent.
pub(crate) enum Fetching {
    /// Every partition is answered, nothing is remembered.
    Sessionless,
    /// Every partition is answered, and a session is made if there is a slot.
    Full { uses_topic_ids: bool },
    /// Only partitions with news are answered.
    Incremental { session: Arc<Mutex<Session>>, id: i32, epoch: i32 },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCounts {
    pub sessions: usize,
    pub sessions_max: usize,
    pub partitions: usize,
    pub partitions_max: usize,
    pub evictions: u64,
}

pub(crate) struct FetchSessions {
    clock: SharedClock,
    rng: Arc<dyn Rng>,
    sessions_max: usize,
    partitions_max: usize,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    sessions: HashMap<i32, Slot>,
    last_used: BTreeSet<(Duration, i32)>,
    /// (partitions, id) of those older than [`EVICTION`].
    evictable: BTreeSet<(usize, i32)>,
    partitions: usize,
    evictions: u64,
}

struct Slot {
    session: Arc<Mutex<Session>>,
    created: Duration,
    last_used: Duration,
    /// Its partitions as the cache last counted them.
    size: usize,
}

pub(crate) struct Session {
    epoch: i32,
    uses_topic_ids: bool,
    /// In the order in which they are read; who got data goes to the end, so that all get their turn.
    order: BTreeMap<u64, Cached>,
    places: HashMap<(TopicRef, i32), u64>,
    next_place: u64,
}

struct Cached {
    wanted: Wanted,
    high_watermark: i64,
    log_start_offset: i64,
}

impl FetchSessions {
    pub fn new(clock: SharedClock, rng: Arc<dyn Rng>, limits: Limits) -> Self {
        Self {
            clock,
            rng,
            sessions_max: limits.fetch_sessions_max,
            partitions_max: limits.fetch_session_partitions_max,
            cache: Mutex::default(),
        }
    }

    pub fn counts(&self) -> SessionCounts {
        let cache = self.cache.lock();
        SessionCounts {
            sessions: cache.sessions.len(),
            sessions_max: self.sessions_max,
            partitions: cache.partitions,
            partitions_max: self.partitions_max,
            evictions: cache.evictions,
        }
    }

    /// Sorts a request into its session. Gives back what is to be read.
    pub fn begin(
        &self,
        asked: Asked,
        wanted: Vec<Wanted>,
        forgotten: &[(TopicRef, i32)],
    ) -> Result<(Fetching, Vec<Wanted>), ErrorCode> {
        if asked.epoch == INITIAL_EPOCH || asked.epoch == FINAL_EPOCH {
            // A full fetch ends the session it names.
            self.cache.lock().remove(asked.session_id);
            let fetching = match asked.epoch {
                FINAL_EPOCH => Fetching::Sessionless,
                _ => Fetching::Full { uses_topic_ids: asked.uses_topic_ids },
            };
            return Ok((fetching, wanted));
        }
        let now = self.clock.monotonic();
        let mut cache = self.cache.lock();
        let slot = cache.sessions.get(&asked.session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let session = slot.session.clone();
        let others = cache.partitions - slot.size;
        let mut open = session.lock();
        if open.epoch != asked.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if open.uses_topic_ids != asked.uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let too_long = wanted.iter().any(|wanted| wanted.topic.name().len() > TOPIC_NAME_LEN_MAX);
        let is_full = others + open.order.len() + wanted.len() > self.partitions_max;
        if too_long || is_full {
            // The client starts anew with a full fetch, which works without a session.
            cache.remove(asked.session_id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        let sent = wanted.clone();
        for wanted in wanted {
            open.put(wanted);
        }
        for (topic, partition) in forgotten {
            open.forget(topic, *partition);
        }
        if open.order.is_empty() {
            cache.remove(asked.session_id);
            return Ok((Fetching::Sessionless, sent));
        }
        open.epoch = next_epoch(open.epoch);
        let epoch = open.epoch;
        let all = open.order.values().map(|cached| cached.wanted.clone()).collect();
        let size = open.order.len();
        drop(open);
        cache.touch(asked.session_id, size, now);
        Ok((Fetching::Incremental { session, id: asked.session_id, epoch }, all))
    }

    /// Takes what was read, gives what is sent: the session's id and the partitions with news. `None` when the
    /// session went on without this request.
    pub fn finish(
        &self,
        fetching: &Fetching,
        read: Vec<(Wanted, PartitionData)>,
    ) -> Option<(i32, Vec<(TopicRef, PartitionData)>)> {
        match fetching {
            Fetching::Sessionless => Some((NO_SESSION, all(read))),
            Fetching::Full { uses_topic_ids } => {
                let id = self.create(*uses_topic_ids, &read);
                Some((id, all(read)))
            }
            Fetching::Incremental { session, id, epoch } => {
                let mut session = session.lock();
                if session.epoch != *epoch {
                    return None;
                }
                let news = read.into_iter().filter_map(|(wanted, data)| {
                    session.take_news(&wanted, &data).then_some((wanted.topic, data))
                });
                Some((*id, news.collect()))
            }
        }
    }

    fn create(&self, uses_topic_ids: bool, read: &[(Wanted, PartitionData)]) -> i32 {
        let too_long = read.iter().any(|(wanted, _)| wanted.topic.name().len() > TOPIC_NAME_LEN_MAX);
        if read.is_empty() || too_long {
            return NO_SESSION;
        }
        let now = self.clock.monotonic();
        let mut cache = self.cache.lock();
        let is_full = cache.sessions.len() >= self.sessions_max;
        if is_full && !cache.evict_for(read.len(), now) || cache.partitions + read.len() > self.partitions_max
        {
            return NO_SESSION;
        }
        let mut session = Session {
            epoch: next_epoch(INITIAL_EPOCH),
            uses_topic_ids,
            order: BTreeMap::new(),
            places: HashMap::default(),
            next_place: 0,
        };
        for (wanted, data) in read {
            session.put(wanted.clone());
            session.remember(wanted, data);
        }
        let id = loop {
            let id = (self.rng.next_u64() >> 33) as i32;
            if id != NO_SESSION && !cache.sessions.contains_key(&id) {
                break id;
            }
        };
        let size = session.order.len();
        let slot = Slot { session: Arc::new(Mutex::new(session)), created: now, last_used: now, size: 0 };
        cache.last_used.insert((now, id));
        cache.sessions.insert(id, slot);
        cache.touch(id, size, now);
        id
    }
}

impl Cache {
    fn remove(&mut self, id: i32) {
        if let Some(slot) = self.sessions.remove(&id) {
            self.last_used.remove(&(slot.last_used, id));
            self.evictable.remove(&(slot.size, id));
            self.partitions -= slot.size;
        }
    }

    fn touch(&mut self, id: i32, size: usize, now: Duration) {
        let Some(slot) = self.sessions.get_mut(&id) else { return };
        self.last_used.remove(&(slot.last_used, id));
        self.evictable.remove(&(slot.size, id));
        self.partitions = self.partitions - slot.size + size;
        slot.last_used = now;
        slot.size = size;
        self.last_used.insert((now, id));
        if now - slot.created > EVICTION {
            self.evictable.insert((size, id));
        }
    }

    /// Frees a slot for a session of so many partitions, if one is worth less.
    fn evict_for(&mut self, size: usize, now: Duration) -> bool {
        let stale = self.last_used.first().filter(|(last_used, _)| now - *last_used > EVICTION);
        let smaller = self.evictable.first().filter(|(smallest, _)| *smallest <= size);
        let Some(id) = stale.map(|(_, id)| *id).or(smaller.map(|(_, id)| *id)) else { return false };
        self.remove(id);
        self.evictions += 1;
        true
    }
}

impl Session {
    fn put(&mut self, wanted: Wanted) {
        let key = (wanted.topic.clone(), wanted.partition);
        if let Some(cached) = self.places.get(&key).and_then(|place| self.order.get_mut(place)) {
            // The cached name stays: the request's is a slice of its frame.
            let topic = std::mem::replace(&mut cached.wanted.topic, TopicRef::Id(protocol::Uuid::ZERO));
            cached.wanted = Wanted { topic, ..wanted };
            return;
        }
        let topic = wanted.topic.detached();
        let cached = Cached {
            wanted: Wanted { topic: topic.clone(), ..wanted },
            high_watermark: -1,
            log_start_offset: -1,
        };
        self.places.insert((topic, key.1), self.next_place);
        self.order.insert(self.next_place, cached);
        self.next_place += 1;
    }

    fn forget(&mut self, topic: &TopicRef, partition: i32) {
        if let Some(place) = self.places.remove(&(topic.clone(), partition)) {
            self.order.remove(&place);
        }
    }

    fn remember(&mut self, wanted: &Wanted, data: &PartitionData) {
        let key = (wanted.topic.clone(), wanted.partition);
        if let Some(cached) = self.places.get(&key).and_then(|place| self.order.get_mut(place)) {
            cached.high_watermark = data.high_watermark;
            cached.log_start_offset = data.log_start_offset;
        }
    }

    /// Whether the client has to hear of this, and remembers that it has.
    fn take_news(&mut self, wanted: &Wanted, data: &PartitionData) -> bool {
        let key = (wanted.topic.clone(), wanted.partition);
        let Some(place) = self.places.get(&key).copied() else { return true };
        let Some(cached) = self.order.get_mut(&place) else { return true };
        let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
        let has_error = data.error_code != ErrorCode::None.code();
        let is_news = has_records
            || has_error
            || cached.high_watermark != data.high_watermark
            || cached.log_start_offset != data.log_start_offset
            || data.diverging_epoch.end_offset >= 0
            || data.preferred_read_replica >= 0;
        // After an error the partition is sent again as soon as it is well.
        cached.high_watermark = if has_error { -1 } else { data.high_watermark };
        cached.log_start_offset = data.log_start_offset;
        if has_records {
            let cached = self.order.remove(&place).expect("it was just there");
            self.order.insert(self.next_place, cached);
            self.places.insert(key, self.next_place);
            self.next_place += 1;
        }
        is_news
    }
}

fn all(read: Vec<(Wanted, PartitionData)>) -> Vec<(TopicRef, PartitionData)> {
    read.into_iter().map(|(wanted, data)| (wanted.topic, data)).collect()
}

fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        FINAL_EPOCH => FINAL_EPOCH,
        i32::MAX => 1,
        epoch => epoch + 1,
    }
}
