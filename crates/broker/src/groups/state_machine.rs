//! A shard as the runtime of coordinators sees it.

use std::sync::Arc;

use bytes::Bytes;
use protocol::wire::DecodeError;
use protocol::{ErrorCode, Str, Uuid};

use super::event::{Answer, Effects, GroupRecord, Now, ReplyId, Token};
use super::settings::GroupSettings;
use super::shard::Shard;
use super::snapshot::SnapshotPlace;
use crate::coordinators::{Marked, StateMachine};

impl StateMachine for Shard {
    type Settings = GroupSettings;
    type Answer = Answer;
    type SnapshotPlace = SnapshotPlace;
    const WHAT: &'static str = "groups";
    const IS_URGENT: bool = false;

    fn new(settings: Arc<GroupSettings>) -> Shard {
        Shard::new(settings)
    }

    fn set_settings(&mut self, settings: Arc<GroupSettings>) {
        self.set_settings(settings);
    }

    fn replay(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        producer_id: Option<i64>,
        now: Now,
    ) -> Result<(), DecodeError> {
        match producer_id {
            Some(producer_id) => self.replay_in_transaction(producer_id, key, value, now),
            None => Shard::replay(self, key, value, now),
        }
    }

    fn replay_marker(&mut self, producer_id: i64, commit: bool, _: Now) {
        self.replay_end_of_transaction(producer_id, commit);
    }

    fn loaded(&mut self, topic_id: &dyn Fn(&Str) -> Option<Uuid>, now: Now, effects: &mut Effects) {
        Shard::loaded(self, now);
        self.drop_offsets_of_gone_topics(topic_id, effects);
        self.weigh_anew(now);
    }

    fn tick(&mut self, now: Now, effects: &mut Effects) {
        self.tick(now, effects);
    }

    fn next_alarm_at_ms(&self) -> Option<u64> {
        self.next_alarm_at_ms()
    }

    fn written(&mut self, token: Token, outcome: Result<(), ErrorCode>, now: Now, effects: &mut Effects) {
        self.written(token, outcome, now, effects);
    }

    fn marked(&mut self, marked: Marked, reply: ReplyId, _: Now, effects: &mut Effects) {
        self.transaction_ended(marked, reply, effects);
    }

    fn snapshot_page(
        &self,
        place: Option<SnapshotPlace>,
        bytes_max: usize,
    ) -> (Vec<GroupRecord>, Option<SnapshotPlace>) {
        self.snapshot_page(place, bytes_max)
    }

    fn unload(&mut self, error: ErrorCode, effects: &mut Effects) {
        self.unload(error, effects);
    }
}
