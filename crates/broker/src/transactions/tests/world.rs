//! A small world around a shard: a log that takes or refuses writes, a clock that moves when told, answers by the request they belong to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::{ErrorCode, Str};

use super::super::event::*;
use super::super::settings::TransactionSettings;
use super::super::shard::TransactionShard;
use super::super::transaction::{State, TopicPartition};
use crate::coordinators::{StateMachine, Write};

pub const ID: &str = "orders";
pub const TIMEOUT_MS: i32 = 60_000;

pub struct World {
    pub shard: TransactionShard,
    pub settings: TransactionSettings,
    pub now: Now,
    pub answers: BTreeMap<ReplyId, Answer>,
    /// What is durable.
    pub log: Vec<Record>,
    pub in_flight: VecDeque<Write>,
    pub lands_at_once: bool,
    next_reply: u64,
    next_producer_id: i64,
}

impl World {
    pub fn new() -> World {
        let settings = TransactionSettings::default();
        let mut world = World {
            shard: TransactionShard::new(Arc::new(settings.clone())),
            settings,
            now: Now { wall_ms: 1_700_000_000_000, monotonic_ms: 1_000 },
            answers: BTreeMap::new(),
            log: Vec::new(),
            in_flight: VecDeque::new(),
            lands_at_once: true,
            next_reply: 0,
            next_producer_id: 7_000,
        };
        world.load();
        world
    }

    pub fn event(
        &mut self,
        event: impl FnOnce(&mut TransactionShard, ReplyId, Now, &mut Effects),
    ) -> ReplyId {
        let reply = ReplyId(self.next_reply);
        self.next_reply += 1;
        let mut effects = Effects::default();
        event(&mut self.shard, reply, self.now, &mut effects);
        self.take(effects);
        if self.lands_at_once {
            self.land_all();
        }
        self.shard.check_invariants();
        reply
    }

    fn take(&mut self, effects: Effects) {
        self.in_flight.extend(effects.writes);
        for (reply, answer) in effects.answers {
            let earlier = self.answers.insert(reply, answer);
            assert!(earlier.is_none(), "{reply:?} was answered twice");
        }
    }

    pub fn land_all(&mut self) {
        while !self.in_flight.is_empty() {
            self.land(Ok(()));
        }
    }

    /// The oldest write becomes durable, or fails.
    pub fn land(&mut self, outcome: Result<(), ErrorCode>) {
        let Some(write) = self.in_flight.pop_front() else { return };
        if outcome.is_ok() {
            self.log.extend(write.records);
        }
        let mut effects = Effects::default();
        self.shard.written(write.token, outcome, self.now, &mut effects);
        self.take(effects);
        self.shard.check_invariants();
    }

    /// Another coordinator, or this one after a restart: it knows what is durable. What was handed to the log before may land yet.
    pub fn restart(&mut self, lands: usize, newest_connection: u64) {
        for _ in 0..lands.min(self.in_flight.len()) {
            self.land(Ok(()));
        }
        self.in_flight.clear();
        self.settings.newest_connection.store(newest_connection, Ordering::Relaxed);
        self.load();
    }

    fn load(&mut self) {
        self.shard = TransactionShard::new(Arc::new(self.settings.clone()));
        for record in &self.log {
            self.shard.replay(&record.key, record.value.as_ref(), None, self.now).unwrap();
        }
        let mut effects = Effects::default();
        self.shard.loaded(&|_| None, self.now, &mut effects);
        self.take(effects);
        self.shard.check_invariants();
    }

    /// Time passes, alarm by alarm.
    pub fn pass_ms(&mut self, ms: u64) {
        let until = self.now.monotonic_ms + ms;
        while let Some(at) = self.shard.next_alarm_at_ms().filter(|at| *at <= until) {
            self.move_to(at.max(self.now.monotonic_ms));
            self.event(|shard, _, now, effects| shard.tick(now, effects));
        }
        self.move_to(until);
    }

    fn move_to(&mut self, monotonic_ms: u64) {
        self.now.wall_ms += (monotonic_ms - self.now.monotonic_ms) as i64;
        self.now.monotonic_ms = monotonic_ms;
    }

    pub fn fresh_producer_id(&mut self) -> i64 {
        self.next_producer_id += 1;
        self.next_producer_id
    }

    pub fn init_by(&mut self, expected: Option<(i64, i16)>, connection: u64) -> Result<(i64, i16), Refusal> {
        let fresh = self.fresh_producer_id();
        let request = InitRequest {
            transactional_id: ID.into(),
            timeout_ms: TIMEOUT_MS,
            expected,
            fresh_producer_id: Some(fresh),
            connection,
        };
        let reply = self.event(|shard, reply, now, effects| shard.init(request, reply, now, effects));
        match self.answers.remove(&reply) {
            Some(Answer::Init(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn init(&mut self) -> (i64, i16) {
        self.init_by(None, 1).unwrap()
    }

    pub fn add(&mut self, producer: (i64, i16), partitions: &[i32], comes: Comes) -> Result<i64, Refusal> {
        let request = AddRequest { producer: named(producer), partitions: places(partitions), comes };
        let reply = self.event(|shard, reply, now, effects| shard.add(request, reply, now, effects));
        match self.answers.remove(&reply) {
            Some(Answer::Added(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn end(&mut self, producer: (i64, i16), commit: bool, comes: Comes) -> Result<(i64, i16), Refusal> {
        let fresh = Some(self.fresh_producer_id());
        let request = EndRequest { producer: named(producer), commit, comes, fresh_producer_id: fresh };
        let reply = self.event(|shard, reply, now, effects| shard.end(request, reply, now, effects));
        match self.answers.remove(&reply) {
            Some(Answer::Ended(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    /// All markers of what is decided arrive.
    pub fn tell_all(&mut self) -> Vec<Decision> {
        let decisions = self.shard.decisions(|_, _| false);
        for decision in decisions.clone() {
            self.event(|shard, _, now, effects| {
                shard.told(&decision.transactional_id, decision.stamp, decision.partitions, now, effects);
            });
        }
        decisions
    }

    pub fn state(&self) -> State {
        self.shard.transactions[ID].state
    }
}

pub fn named((id, epoch): (i64, i16)) -> Producer {
    Producer { transactional_id: ID.into(), id, epoch }
}

pub fn place(partition: i32) -> TopicPartition {
    TopicPartition { topic: Str::from("topic"), partition }
}

pub fn places(partitions: &[i32]) -> BTreeSet<TopicPartition> {
    partitions.iter().map(|partition| place(*partition)).collect()
}
