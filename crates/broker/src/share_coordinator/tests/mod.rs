//! Stories about kept share partitions, told to the pure shard: no log, no clock, no task.

mod random;
mod story;

use std::sync::Arc;

use protocol::{ErrorCode, Str, Uuid};

use super::event::{Answer, Asked, Effects, Now, Record, ReplyId};
use super::settings::{PartitionCounts, ShareCoordinatorSettings};
use super::shard::ShareShard;
use super::state::ShareKey;
use crate::coordinators::{StateMachine, StateMemory};

pub const TOPIC: Uuid = Uuid([1; 16]);
pub const GONE: Uuid = Uuid([2; 16]);
const NOW: Now = Now { wall_ms: 1_000, monotonic_ms: 1_000 };

pub fn key(partition: i32) -> ShareKey {
    ShareKey { group: Str::from("group"), topic: TOPIC, partition }
}

/// A shard and the log it writes to.
pub struct Told {
    pub shard: ShareShard,
    pub log: Vec<Record>,
    next_reply: u64,
}

impl Told {
    pub fn new() -> Told {
        Told::with(Arc::default())
    }

    pub fn with(memory: Arc<StateMemory>) -> Told {
        Told { shard: ShareShard::new(settings(memory)), log: Vec::new(), next_reply: 0 }
    }

    /// Asked, written and answered.
    pub fn ask(&mut self, key: &ShareKey, asked: Asked) -> Answer {
        self.ask_with(key, asked, Ok(()))
    }

    pub fn ask_with(&mut self, key: &ShareKey, asked: Asked, outcome: Result<(), ErrorCode>) -> Answer {
        let reply = ReplyId(self.next_reply);
        self.next_reply += 1;
        let mut effects = Effects::default();
        self.shard.ask(key, &asked, reply, NOW, &mut effects);
        let mut answers = std::mem::take(&mut effects.answers);
        for write in effects.writes {
            assert!(answers.is_empty(), "answered before it is durable");
            if outcome.is_ok() {
                self.log.extend(write.records);
            }
            let mut effects = Effects::default();
            self.shard.written(write.token, outcome, NOW, &mut effects);
            answers.extend(effects.answers);
        }
        let (of, answer) = answers.pop().expect("one answer");
        assert_eq!(of, reply);
        answer
    }

    /// The same log, read by another broker.
    pub fn replayed(&self) -> ShareShard {
        let mut shard = ShareShard::new(settings(Arc::default()));
        for Record { key, value } in &self.log {
            shard.replay(key, value.as_ref(), None, NOW).expect("what was written is read");
        }
        let mut effects = Effects::default();
        shard.loaded(&|_| None, NOW, &mut effects);
        shard
    }
}

fn settings(memory: Arc<StateMemory>) -> Arc<ShareCoordinatorSettings> {
    let topics = PartitionCounts(Arc::new(|topic| (topic == TOPIC).then_some(4)));
    Arc::new(ShareCoordinatorSettings {
        memory,
        updates_per_snapshot: 5,
        states_per_partition_max: 3,
        batches_max: 100,
        topics,
    })
}
