//! Share partitions at their leaders: who has which record, and what became of it (KIP-932).
//!
//! `in_flight.rs` is the pure core (start there). `partition.rs` runs one: it reads the state from the share coordinator and has it kept.
//! `sessions.rs` is what members tell of themselves, `fetch.rs` gives records out, `acknowledge.rs` takes what members say of them,
//! `reset.rs` finds where a group begins. What is given up goes through `archiving.rs` to the group's dead letter queue
//! (`dead_letters.rs`, KIP-1191). The API files translate.
//!
//! ```text
//!   member ──ShareFetch──▶ leader: locks for the member ──▶ records
//!   member ──ShareAcknowledge──▶ leader ──write──▶ share coordinator: durable ──▶ answered
//! ```

mod acknowledge;
mod archiving;
mod dead_letters;
mod fetch;
mod in_flight;
mod partition;
mod reset;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use catalog::Catalog;
use catalog::config::ShareOffsetReset;
use commitlog::{CommitLog, Isolation};
use parking_lot::Mutex;
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};
use world::clock::SharedClock;
use world::task;

pub(crate) use acknowledge::{Acknowledged, Outcome, are_valid};
pub(crate) use dead_letters::DEAD_LETTERS;
pub use dead_letters::DeadLetterCounts;
pub(crate) use fetch::{FetchedPartition, ShareFetch, Source, Target};
pub(crate) use in_flight::{Acknowledgement, RENEW, Rules};
pub(crate) use sessions::{FINAL_EPOCH, INITIAL_EPOCH, Opened, SessionKey, ShareSessionCounts};

use crate::configs::Configs;
use crate::connection::Connection;
use crate::coordinators::StateMemory;
use crate::counters::Counters;
use crate::freshness::Freshness;
use crate::partitions::Led;
use crate::peers::Others;
use crate::share_coordinator::{ShareCoordinator, ShareKey};
use crate::topics::Topics;
use dead_letters::DeadLetters;
use partition::{SHARE_PARTITION_BYTES, SharePartition, Surroundings};
use reset::Reset;
use sessions::ShareSessions;

/// Share partitions that a broker has in memory at once, each with as many runs as its group may lock records.
const SHARE_PARTITIONS_MAX: usize = 20_000;
/// Partitions of all share sessions together.
const SESSION_PARTITIONS_MAX: usize = 1_000_000;
/// Records that a share partition may have out while the memory for groups is used up: the fate of each may be another, so it bounds runs.
const LOCKS_UNDER_PRESSURE: i64 = 100;

pub(crate) struct SharingOptions {
    pub node_id: i32,
    pub clock: SharedClock,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub configs: Arc<Configs>,
    pub topics: Arc<Topics>,
    pub counters: Arc<Counters>,
    pub freshness: Arc<Freshness>,
    /// None: there are no others, or no way to them.
    pub others: Option<Arc<Others>>,
    pub coordinator: Arc<ShareCoordinator>,
    pub memory: Arc<StateMemory>,
}

pub(crate) struct Sharing {
    options: Arc<SharingOptions>,
    around: Arc<Surroundings>,
    sessions: ShareSessions,
    partitions: Mutex<BTreeMap<ShareKey, Arc<SharePartition>>>,
}

/// What there is, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShareCounts {
    pub sessions: ShareSessionCounts,
    pub share_partitions: usize,
    /// Runs of records with one fate in all of them.
    pub runs: usize,
    /// Records that are given up and wait for their dead letters.
    pub records_archiving: u64,
    pub dead_letters: DeadLetterCounts,
}

/// What a group's config says to its share partitions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupRules {
    pub rules: Rules,
    pub isolation: Isolation,
    reset: ShareOffsetReset,
    pub lock_duration_ms: i32,
}

impl Sharing {
    pub fn new(options: SharingOptions) -> Arc<Sharing> {
        let write_timeout_ms = options.configs.started_with().share_coordinator_write_timeout_ms().max(1);
        let options = Arc::new(options);
        let around = Arc::new(Surroundings {
            clock: options.clock.clone(),
            coordinator: options.coordinator.clone(),
            log: options.log.clone(),
            keep_max: Duration::from_millis(write_timeout_ms as u64),
            memory: options.memory.clone(),
            dead_letters: DeadLetters::new(options.clone()),
        });
        let sessions = ShareSessions::new(SESSION_PARTITIONS_MAX);
        Arc::new(Sharing { options, around, sessions, partitions: Mutex::default() })
    }

    pub fn counts(&self) -> ShareCounts {
        let partitions = self.partitions.lock();
        ShareCounts {
            sessions: self.sessions.counts(),
            share_partitions: partitions.len(),
            runs: partitions.values().map(|share| share.run_count()).sum(),
            records_archiving: partitions.values().map(|share| share.dead_count()).sum(),
            dead_letters: self.around.dead_letters.counts(),
        }
    }

    pub fn group_rules(&self, group: &str) -> GroupRules {
        let state = self.options.catalog.read();
        let config = &self.options.configs.group(&state, group).share;
        let locks_max: i64 = config.partition_max_record_locks.into();
        let rules = Rules {
            deliveries_max: i16::try_from(config.delivery_count_limit).unwrap_or(i16::MAX),
            locks_max: if self.options.memory.is_full() {
                locks_max.min(LOCKS_UNDER_PRESSURE)
            } else {
                locks_max
            },
            lock_ms: u64::try_from(config.record_lock_duration_ms).unwrap_or(0),
            may_renew: config.renew_acknowledge_enable,
            has_dead_letters: config.dead_letter_topic.is_some(),
        };
        let isolation = match config.is_read_committed {
            true => Isolation::ReadCommitted,
            false => Isolation::ReadUncommitted,
        };
        let lock_duration_ms = config.record_lock_duration_ms;
        GroupRules { rules, isolation, reset: config.auto_offset_reset, lock_duration_ms }
    }

    /// A new session. It ends with its connection, which is watched from here on.
    pub fn begin_session(
        self: &Arc<Self>,
        key: &SessionKey,
        connection: &Arc<Connection>,
        partitions: &[(Uuid, i32)],
    ) -> Result<Opened, ErrorCode> {
        let config = self.options.configs.broker(&self.options.catalog.read());
        let sessions_max = usize::try_from(config.group_share_max_share_sessions()).unwrap_or(0);
        let opened = self.sessions.begin(key, connection.id, partitions, sessions_max)?;
        if self.sessions.watch(connection.id) {
            let (sharing, id): (Weak<Sharing>, u64) = (Arc::downgrade(self), connection.id);
            let mut hang_up = connection.hang_up_watch();
            drop(task::spawn(async move {
                // An error says that the connection is gone as well.
                let _ = hang_up.wait_for(|hung_up| *hung_up).await;
                if let Some(sharing) = sharing.upgrade() {
                    sharing.sessions.connection_ended(id).iter().for_each(|key| sharing.member_left(key));
                }
            }));
        }
        Ok(opened)
    }

    pub fn next_in_session(
        &self,
        key: &SessionKey,
        epoch: i32,
        added: &[(Uuid, i32)],
        forgotten: &[(Uuid, i32)],
    ) -> Result<Opened, ErrorCode> {
        self.sessions.next(key, epoch, added, forgotten)
    }

    pub fn check_session(&self, key: &SessionKey, epoch: i32) -> Result<(), ErrorCode> {
        self.sessions.check(key, epoch)
    }

    /// The member has said that this was its last request.
    pub fn end_session(&self, key: &SessionKey) {
        if self.sessions.end(key) {
            self.member_left(key);
        }
    }

    /// What it has comes again. Without any member a group's state need not stay in memory; tools may change it meanwhile.
    fn member_left(&self, key: &SessionKey) {
        let rules = self.group_rules(&key.group).rules;
        let has_members = self.sessions.has_group(&key.group);
        let mut partitions = self.partitions.lock();
        let of_group =
            partitions.range(first_of(&key.group)..).take_while(|(share, _)| share.group == key.group);
        let mut over = Vec::new();
        for (share_key, share) in of_group {
            share.release(&key.member, &rules);
            if !has_members && share.retire() {
                over.push(share_key.clone());
            }
        }
        // One that is being written stays until that is over: the next to read must not overtake it.
        for share_key in over {
            partitions.remove(&share_key);
        }
    }

    /// The share partition, which may have to be read first.
    pub fn share_partition(
        &self,
        group: &Str,
        place: TopicIdPartition,
        led: &Led,
        of_group: &GroupRules,
    ) -> Result<Arc<SharePartition>, ErrorCode> {
        let key = ShareKey { group: group.clone(), topic: place.topic_id, partition: place.partition };
        let mut partitions = self.partitions.lock();
        if let Some(known) = partitions.get(&key)
            && known.is_of(&led.partition, led.leader_epoch)
        {
            return Ok(known.clone());
        }
        if partitions.len() >= SHARE_PARTITIONS_MAX && !partitions.contains_key(&key) {
            // Some were being written when their group's last session ended.
            partitions.retain(|key, share| self.sessions.has_group(&key.group) || !share.retire());
            if partitions.len() >= SHARE_PARTITIONS_MAX {
                return Err(ErrorCode::UnknownServerError);
            }
        }
        if !partitions.contains_key(&key) && !self.options.memory.has_room(SHARE_PARTITION_BYTES as u64) {
            // Clients stop at codes that they do not expect here.
            return Err(ErrorCode::UnknownServerError);
        }
        let reset = match of_group.reset {
            ShareOffsetReset::Earliest => Reset::Earliest,
            ShareOffsetReset::Latest => Reset::Latest,
            ShareOffsetReset::ByDuration(duration_ms) => {
                Reset::Since(self.options.clock.now_ms().saturating_sub(duration_ms))
            }
        };
        let key = key.detached();
        let share = SharePartition::load(
            key.clone(),
            led.partition.clone(),
            led.leader_epoch,
            self.around.clone(),
            reset,
            &of_group.rules,
        );
        if let Some(earlier) = partitions.insert(key, share.clone()) {
            earlier.end(ErrorCode::NotLeaderOrFollower);
        }
        Ok(share)
    }

    /// The share partition, if somebody has read from it here.
    fn known(&self, group: &Str, place: TopicIdPartition, led: &Led) -> Option<Arc<SharePartition>> {
        let key = ShareKey { group: group.clone(), topic: place.topic_id, partition: place.partition };
        let partitions = self.partitions.lock();
        partitions.get(&key).filter(|known| known.is_of(&led.partition, led.leader_epoch)).cloned()
    }

    /// Dead letters of another broker. None: they cannot be understood.
    pub async fn take_dead_letters(&self, body: Bytes) -> Option<Bytes> {
        self.around.dead_letters.answer(body).await
    }

    /// Begins with no further dead letters.
    pub fn stop(&self) {
        self.around.dead_letters.stop();
    }

    /// To be called when the catalog has changed, and when the log has opened or closed partitions: what is not led here any more goes.
    pub fn follow_catalog(&self) {
        let mut partitions = self.partitions.lock();
        if partitions.is_empty() {
            return;
        }
        let state = self.options.catalog.read();
        partitions.retain(|key, share| {
            let topic = state.topic_by_id(key.topic);
            let info = topic.and_then(|topic| topic.partitions.get(key.partition as usize));
            let is_led = info.is_some_and(|info| {
                info.leader == self.options.node_id && info.leader_epoch == share.leader_epoch
            });
            if !is_led {
                share.end(match topic {
                    Some(_) => ErrorCode::NotLeaderOrFollower,
                    None => ErrorCode::UnknownTopicOrPartition,
                });
            }
            is_led
        });
    }
}

/// Before every share partition of a group.
fn first_of(group: &Str) -> ShareKey {
    ShareKey { group: group.clone(), topic: Uuid::ZERO, partition: i32::MIN }
}
