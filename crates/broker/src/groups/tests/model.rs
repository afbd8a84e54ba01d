//! A small world around a shard: a log that takes or refuses writes, a clock that moves when told, and answers by
//! the request they belong to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use protocol::{ErrorCode, Str, Uuid};

use super::super::event::*;
use super::super::member::OfferedProtocol;
use super::super::settings::GroupSettings;
use super::super::shard::Shard;

pub const TOPIC_ID: Uuid = Uuid([7; 16]);

pub struct World {
    pub shard: Shard,
    pub now: Now,
    pub answers: BTreeMap<ReplyId, Answer>,
    /// What is durable.
    pub log: Vec<GroupRecord>,
    /// Handed over and not yet durable.
    pub in_flight: VecDeque<Write>,
    /// Whether writes land at once.
    pub lands_at_once: bool,
    next_reply: u64,
    next_fresh: u8,
}

impl World {
    pub fn new() -> World {
        World::with(GroupSettings::default())
    }

    pub fn with(settings: GroupSettings) -> World {
        let now = Now { wall_ms: 1_700_000_000_000, monotonic_ms: 1_000 };
        let mut shard = Shard::new(Arc::new(settings));
        shard.schedule_expiration(now);
        World {
            shard,
            now,
            answers: BTreeMap::new(),
            log: Vec::new(),
            in_flight: VecDeque::new(),
            lands_at_once: true,
            next_reply: 0,
            next_fresh: 0,
        }
    }

    /// One event; what it wrote lands if the log is in the mood.
    pub fn event(&mut self, event: impl FnOnce(&mut Shard, ReplyId, Now, &mut Effects)) -> ReplyId {
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

    pub fn fresh(&mut self) -> [u8; 16] {
        self.next_fresh = self.next_fresh.wrapping_add(1);
        [self.next_fresh; 16]
    }

    pub fn join(&mut self, join: JoinRequest) -> ReplyId {
        let fresh = self.fresh();
        self.event(|shard, reply, now, effects| {
            shard.join(JoinRequest { fresh, ..join }, reply, now, effects)
        })
    }

    /// The whole dance of KIP-394: the first JoinGroup gets an id, the second one waits.
    pub fn join_with_id(&mut self, group: &str, client: &str) -> (Str, ReplyId) {
        let first = self.join(JoinRequest { client_id: client.into(), ..join_request(group) });
        let answer = self.joined(first);
        assert_eq!(answer.error, ErrorCode::MemberIdRequired);
        let second = JoinRequest {
            client_id: client.into(),
            member_id: answer.member_id.clone(),
            ..join_request(group)
        };
        (answer.member_id, self.join(second))
    }

    pub fn rejoin(&mut self, group: &str, member_id: &Str) -> ReplyId {
        self.join(JoinRequest { member_id: member_id.clone(), ..join_request(group) })
    }

    pub fn sync(&mut self, group: &str, joined: &JoinAnswer, assignments: Vec<(Str, Bytes)>) -> ReplyId {
        let sync = SyncRequest {
            group: group.into(),
            generation: joined.generation,
            member_id: joined.member_id.clone(),
            instance_id: None,
            protocol_type: Some("consumer".into()),
            protocol_name: joined.protocol_name.clone(),
            assignments,
        };
        self.event(|shard, reply, now, effects| shard.sync(sync, reply, now, effects))
    }

    pub fn heartbeat(&mut self, group: &str, member_id: &Str, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group: group.into(),
            generation,
            member_id: member_id.clone(),
            instance_id: None,
        };
        let answer = self.shard.heartbeat(&request, self.now);
        self.shard.check_invariants();
        answer
    }

    pub fn leave(&mut self, group: &str, member_id: &Str) -> ReplyId {
        let members = vec![LeavingMember { member_id: member_id.clone(), instance_id: None }];
        let leave = LeaveRequest { group: group.into(), members };
        self.event(|shard, reply, now, effects| shard.leave(leave, reply, now, effects))
    }

    pub fn commit(&mut self, request: CommitRequest) -> ReplyId {
        self.event(|shard, reply, now, effects| shard.commit_offsets(request, reply, now, effects))
    }

    /// Members that joined get the assignments their leader thinks of, and the group is stable.
    pub fn settle(&mut self, group: &str, joins: &[ReplyId]) -> Vec<JoinAnswer> {
        let joined: Vec<JoinAnswer> = joins.iter().map(|join| self.joined(*join)).collect();
        let leader =
            joined.iter().find(|one| one.leader == one.member_id).expect("one of them leads").clone();
        assert_eq!(leader.members.len(), joined.len());
        let assignment = |member: &JoinedMember| (member.member_id.clone(), assignment_of(&member.member_id));
        let assignments: Vec<(Str, Bytes)> = leader.members.iter().map(assignment).collect();
        let syncs: Vec<ReplyId> = joined
            .iter()
            .map(|one| match one.member_id == leader.member_id {
                true => self.sync(group, one, assignments.clone()),
                false => self.sync(group, one, Vec::new()),
            })
            .collect();
        for (one, sync) in joined.iter().zip(syncs) {
            let synced = self.synced(sync);
            assert_eq!((synced.error, synced.assignment), (ErrorCode::None, assignment_of(&one.member_id)));
        }
        joined
    }

    pub fn is_answered(&self, reply: ReplyId) -> bool {
        self.answers.contains_key(&reply)
    }

    pub fn joined(&self, reply: ReplyId) -> JoinAnswer {
        match self.answers.get(&reply) {
            Some(Answer::Join(answer)) => answer.clone(),
            other => panic!("{reply:?}: {other:?}"),
        }
    }

    pub fn synced(&self, reply: ReplyId) -> SyncAnswer {
        match self.answers.get(&reply) {
            Some(Answer::Sync(answer)) => answer.clone(),
            other => panic!("{reply:?}: {other:?}"),
        }
    }

    pub fn left(&self, reply: ReplyId) -> LeaveAnswer {
        match self.answers.get(&reply) {
            Some(Answer::Leave(answer)) => answer.clone(),
            other => panic!("{reply:?}: {other:?}"),
        }
    }

    pub fn committed(&self, reply: ReplyId) -> CommitAnswer {
        match self.answers.get(&reply) {
            Some(Answer::Commit(answer)) => answer.clone(),
            other => panic!("{reply:?}: {other:?}"),
        }
    }

    pub fn state(&self, group: &str) -> &'static str {
        if let Ok(group) = self.shard.describe_consumer_group(group) {
            return group.state.name();
        }
        if let Ok(group) = self.shard.describe_streams_group(group) {
            return group.state.name();
        }
        self.shard.describe(group).map_or("Dead", |group| group.state.name())
    }

    pub fn offset(&self, group: &str, topic: &str, partition: i32) -> i64 {
        let topics =
            vec![FetchTopic { topic: topic.into(), topic_id: Uuid::ZERO, partitions: vec![partition] }];
        let request = FetchOffsetsRequest { group: group.into(), topics: Some(topics) };
        self.shard.fetch_offsets(&request).topics[0].partitions[0].offset
    }

    /// The shard that a restart would find.
    pub fn restarted(&self) -> World {
        let mut world = World::with(self.shard.settings_for_tests());
        world.now = self.now;
        for record in &self.log {
            world.shard.replay(&record.key, record.value.as_ref(), self.now).unwrap();
        }
        world.log = self.log.clone();
        world.shard.loaded(self.now);
        world.shard.check_invariants();
        world
    }
}

pub fn join_request(group: &str) -> JoinRequest {
    JoinRequest {
        group: group.into(),
        member_id: Str::default(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![offers("range", &["clicks"])],
        requires_known_member_id: true,
        can_skip_assignment: true,
        fresh: [0; 16],
    }
}

pub fn static_join(group: &str, instance_id: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance_id.into()), ..join_request(group) }
}

/// A consumer's subscription as a protocol's metadata.
pub fn offers(protocol: &str, topics: &[&str]) -> OfferedProtocol {
    let mut metadata = BytesMut::new();
    metadata.put_i16(1);
    metadata.put_i32(topics.len() as i32);
    for topic in topics {
        metadata.put_i16(topic.len() as i16);
        metadata.put_slice(topic.as_bytes());
    }
    metadata.put_i32(-1);
    OfferedProtocol { name: protocol.into(), metadata: metadata.freeze() }
}

pub fn assignment_of(member_id: &str) -> Bytes {
    Bytes::from(format!("for {member_id}"))
}

pub fn commit_request(group: &str, topic: &str, partition: i32, offset: i64) -> CommitRequest {
    CommitRequest {
        group: group.into(),
        generation: -1,
        member_id: Str::default(),
        instance_id: None,
        retention_ms: None,
        knows_group_id_not_found: true,
        offsets: vec![CommitOffset {
            topic: topic.into(),
            topic_id: TOPIC_ID,
            partition,
            offset,
            leader_epoch: 0,
            metadata: Str::default(),
        }],
    }
}

pub fn commit_as(joined: &JoinAnswer, request: CommitRequest) -> CommitRequest {
    CommitRequest { generation: joined.generation, member_id: joined.member_id.clone(), ..request }
}
