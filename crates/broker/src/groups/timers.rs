//! The alarms of a shard: at most one per key, setting one anew moves it. Ordered by time, then by the order of
//! setting, so that alarms of one instant ring in the same order in every run.

use std::collections::BTreeMap;

use protocol::Str;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKey {
    /// A member, or an id given out by MEMBER_ID_REQUIRED, was not heard of for its session timeout.
    Session { group: Str, member: Str },
    /// The join phase of a group ends.
    Join { group: Str },
    /// Members that did not send SyncGroup are removed.
    Sync { group: Str },
    /// Of a member of a consumer group.
    Consumer { group: Str, member: Str, kind: ConsumerAlarm },
    /// Of a streams group, or of a member of one.
    Streams { group: Str, member: Str, kind: StreamsAlarm },
    /// A member of a share group was not heard of for its session time-out.
    Share { group: Str, member: Str },
    /// Offsets that are old enough, and groups without any, go.
    Expiration,
}

impl TimerKey {
    pub fn streams(group: &Str, member: &Str, kind: StreamsAlarm) -> TimerKey {
        TimerKey::Streams { group: group.clone(), member: member.clone(), kind }
    }

    /// Of the group itself.
    pub fn streams_delay(group: &Str) -> TimerKey {
        TimerKey::streams(group, &Str::default(), StreamsAlarm::Delay)
    }

    pub fn consumer(group: &Str, member: &Str, kind: ConsumerAlarm) -> TimerKey {
        TimerKey::Consumer { group: group.clone(), member: member.clone(), kind }
    }
}

/// What a member of a consumer group did not do in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsumerAlarm {
    /// To be heard of.
    Session,
    /// To give up what it was told to.
    Rebalance,
    /// To join again; members of the classic protocol.
    Join,
    /// To ask for its assignment; members of the classic protocol.
    Sync,
}

/// What is over in a streams group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamsAlarm {
    /// The time for a member to be heard of.
    Session,
    /// The time for a member to give up what it was told to.
    Rebalance,
    /// The wait for more members before the first assignment.
    Delay,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    Session {
        group: Str,
        member: Str,
    },
    /// The initial rebalance: prolonged while new members keep coming.
    InitialJoin {
        group: Str,
        delay_ms: u64,
        remaining_ms: u64,
    },
    Join {
        group: Str,
    },
    Sync {
        group: Str,
        generation: i32,
    },
    Consumer {
        group: Str,
        member: Str,
        kind: ConsumerAlarm,
        /// That it is in when it is told to give partitions up; 0 where that does not matter.
        epoch: i32,
    },
    Streams {
        group: Str,
        member: Str,
        kind: StreamsAlarm,
        /// As with consumers.
        epoch: i32,
    },
    Share {
        group: Str,
        member: Str,
    },
    Expiration,
}

impl Alarm {
    pub fn streams_delay(group: &Str) -> Alarm {
        Alarm::Streams { group: group.clone(), member: Str::default(), kind: StreamsAlarm::Delay, epoch: 0 }
    }

    fn key(&self) -> TimerKey {
        match self {
            Alarm::Session { group, member } => {
                TimerKey::Session { group: group.clone(), member: member.clone() }
            }
            Alarm::InitialJoin { group, .. } | Alarm::Join { group } => {
                TimerKey::Join { group: group.clone() }
            }
            Alarm::Sync { group, .. } => TimerKey::Sync { group: group.clone() },
            Alarm::Consumer { group, member, kind, .. } => TimerKey::consumer(group, member, *kind),
            Alarm::Streams { group, member, kind, .. } => TimerKey::streams(group, member, *kind),
            Alarm::Share { group, member } => {
                TimerKey::Share { group: group.clone(), member: member.clone() }
            }
            Alarm::Expiration => TimerKey::Expiration,
        }
    }
}

#[derive(Debug, Default)]
pub struct Timers {
    /// By monotonic ms, then by the order of setting.
    due: BTreeMap<(u64, u64), Alarm>,
    by_key: BTreeMap<TimerKey, (u64, u64)>,
    next_number: u64,
}

impl Timers {
    pub fn set(&mut self, at_ms: u64, alarm: Alarm) {
        let key = alarm.key();
        self.cancel(&key);
        let place = (at_ms, self.next_number);
        self.next_number += 1;
        self.by_key.insert(key, place);
        self.due.insert(place, alarm);
    }

    pub fn cancel(&mut self, key: &TimerKey) {
        if let Some(place) = self.by_key.remove(key) {
            self.due.remove(&place);
        }
    }

    pub fn cancel_session(&mut self, group: &Str, member: &Str) {
        self.cancel(&TimerKey::Session { group: group.clone(), member: member.clone() });
    }

    /// Every alarm of a group that goes away.
    pub fn cancel_group(&mut self, group: &Str, members: impl Iterator<Item = Str>) {
        self.cancel(&TimerKey::Join { group: group.clone() });
        self.cancel(&TimerKey::Sync { group: group.clone() });
        for member in members {
            self.cancel(&TimerKey::Session { group: group.clone(), member });
        }
    }

    /// Every alarm of a member of a consumer group.
    pub fn cancel_consumer(&mut self, group: &Str, member: &Str) {
        for kind in
            [ConsumerAlarm::Session, ConsumerAlarm::Rebalance, ConsumerAlarm::Join, ConsumerAlarm::Sync]
        {
            self.cancel(&TimerKey::consumer(group, member, kind));
        }
    }

    /// Every alarm of a member of a streams group.
    pub fn cancel_streams(&mut self, group: &Str, member: &Str) {
        for kind in [StreamsAlarm::Session, StreamsAlarm::Rebalance] {
            self.cancel(&TimerKey::streams(group, member, kind));
        }
    }

    pub fn is_set(&self, key: &TimerKey) -> bool {
        self.by_key.contains_key(key)
    }

    pub fn next_at_ms(&self) -> Option<u64> {
        self.due.keys().next().map(|(at_ms, _)| *at_ms)
    }

    /// Takes one alarm that is due.
    pub fn take_due(&mut self, now_ms: u64) -> Option<Alarm> {
        let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now_ms)?;
        let alarm = entry.remove();
        self.by_key.remove(&alarm.key());
        Some(alarm)
    }
}
