//! A producer, its coordinator and three leaders, where everything is late, lost or repeated: requests that lie about until long after
//! their connection was given up, markers that come twice, restarts and refused writes, time-outs, and a second producer of the same id.
//!
//! Each transaction writes its number. In the end every number is committed in all partitions that it was written to, or aborted in all
//! (P4); as the client was told, if it was told; and nobody has ended a transaction but its client, its time-out or its successor (P6).

use std::collections::{BTreeMap, BTreeSet};

use protocol::ErrorCode;
use world::rng::{Rng, SeededRng};

use super::super::event::*;
use super::super::records::{self, ReadRecord};
use super::super::transaction::{State, TopicPartition};
use super::world::*;

const PARTITIONS: i32 = 3;
const STEPS: usize = 400;

/// A leader, as `commitlog::Partition` behaves.
#[derive(Default)]
struct Leader {
    epoch: i16,
    producer_id: i64,
    /// Stamp and the numbers written.
    open: Option<(i64, BTreeSet<u32>)>,
    asked: BTreeSet<u64>,
    committed: BTreeSet<u32>,
    aborted: BTreeSet<u32>,
}

impl Leader {
    fn append(&mut self, producer: (i64, i16), token: Option<u64>, stamp: i64, number: u32) -> bool {
        let is_known = self.producer_id == producer.0;
        if is_known && producer.1 < self.epoch {
            return false;
        }
        let has_begun = self.open.is_some() && is_known && self.epoch == producer.1;
        let may_begin = self.open.is_none() && token.is_some_and(|token| self.asked.contains(&token));
        if !has_begun && !may_begin {
            return false;
        }
        (self.producer_id, self.epoch) = producer;
        self.open.get_or_insert((stamp, BTreeSet::new())).1.insert(number);
        true
    }

    fn end(&mut self, marker: &Marker) {
        self.asked.clear();
        if self.open.as_ref().is_none_or(|(stamp, _)| *stamp != marker.stamp) {
            return;
        }
        let (_, numbers) = self.open.take().unwrap();
        self.epoch = marker.epoch;
        match marker.commit {
            true => self.committed.extend(numbers),
            false => self.aborted.extend(numbers),
        }
    }
}

#[derive(Clone, Debug)]
struct Marker {
    partition: i32,
    stamp: i64,
    epoch: i16,
    commit: bool,
}

#[derive(Clone, Debug)]
enum Asks {
    Init,
    Add(Vec<i32>),
    End(bool),
}

/// A request on its way; it may arrive whenever it likes, but not twice.
#[derive(Clone, Debug)]
struct Sent {
    asks: Asks,
    producer: (i64, i16),
    connection: u64,
    /// Only the newest one has somebody who waits for it.
    call: u64,
    number: u32,
    /// It does not arrive before this step.
    held_to: usize,
}

/// What the client did with a transaction, and what it was told.
#[derive(Debug, Default)]
struct Fate {
    asked: Option<bool>,
    told: Option<bool>,
    /// By a time-out, or by who came after it.
    may_be_aborted: bool,
}

struct Run {
    rng: SeededRng,
    world: World,
    leaders: Vec<Leader>,
    comes_with_epoch: bool,
    // The client.
    producer: (i64, i16),
    connection: u64,
    number: u32,
    calls: u64,
    waits_for: Option<Sent>,
    added: BTreeSet<i32>,
    fates: BTreeMap<u32, Fate>,
    // On their way.
    wire: Vec<Sent>,
    asked: BTreeMap<ReplyId, (Sent, Option<u64>)>,
    /// Leaders' questions: token, partition, number.
    questions: BTreeMap<ReplyId, (u64, i32, u32, (i64, i16))>,
    last_token: u64,
    markers: Vec<Marker>,
    step: usize,
}

impl Run {
    fn new(seed: u64) -> Run {
        let rng = SeededRng::new(seed);
        let mut world = World::new();
        world.lands_at_once = false;
        Run {
            comes_with_epoch: rng.below(2) == 0,
            rng,
            world,
            leaders: (0..PARTITIONS).map(|_| Leader::default()).collect(),
            producer: (-1, -1),
            connection: 1,
            number: 0,
            calls: 0,
            waits_for: None,
            added: BTreeSet::new(),
            fates: BTreeMap::new(),
            wire: Vec::new(),
            asked: BTreeMap::new(),
            questions: BTreeMap::new(),
            last_token: 0,
            markers: Vec::new(),
            step: 0,
        }
    }

    fn chance(&self, one_in: u64) -> bool {
        self.rng.below(one_in) == 0
    }

    fn comes(&self, connection: u64) -> Comes {
        match self.comes_with_epoch {
            true => Comes::WithItsEpoch,
            false => Comes::By(connection),
        }
    }

    fn send(&mut self, asks: Asks) {
        self.calls += 1;
        let (producer, connection) = (self.producer, self.connection);
        let sent = Sent { asks, producer, connection, call: self.calls, number: self.number, held_to: 0 };
        self.waits_for = Some(sent.clone());
        self.wire.push(sent);
    }

    fn step(&mut self) {
        self.step += 1;
        match self.rng.below(12) {
            0..=2 => self.client(),
            3..=4 => self.deliver(),
            5..=6 => self.world.land(Ok(())),
            7 => self.answers(),
            8 => self.tell(),
            9 => self.arrive(),
            10 if self.chance(4) => self.give_up(),
            11 if self.chance(25) => self.restart(),
            11 if self.chance(25) => {
                self.fates.values_mut().for_each(|fate| fate.may_be_aborted = true);
                self.world.pass_ms(TIMEOUT_MS as u64);
            }
            _ => self.world.pass_ms(self.rng.below(20)),
        }
    }

    fn client(&mut self) {
        if self.waits_for.is_some() {
            return;
        }
        if self.producer.0 < 0 {
            return self.send(Asks::Init);
        }
        let is_begun = self.fates.get(&self.number).is_some_and(|fate| fate.asked.is_none());
        if !is_begun {
            self.number += 1;
            self.fates.insert(self.number, Fate::default());
            self.added.clear();
        }
        match self.rng.below(4) {
            0 if !self.comes_with_epoch => {
                let partition = self.rng.below(PARTITIONS as u64) as i32;
                self.send(Asks::Add(vec![partition]));
            }
            1 if !self.added.is_empty() => {
                let commit = self.chance(2);
                self.fates.get_mut(&self.number).unwrap().asked = Some(commit);
                self.send(Asks::End(commit));
            }
            2 if self.chance(40) => {
                // Somebody else begins with the same id.
                self.become_new();
                self.send(Asks::Init);
            }
            _ => self.write(),
        }
    }

    fn become_new(&mut self) {
        self.fates.entry(self.number).or_default().may_be_aborted = true;
        self.producer = (-1, -1);
        self.connection += 1;
        self.number += 1;
        self.added.clear();
    }

    /// A batch for a partition; its leader asks unless the transaction is open there.
    fn write(&mut self) {
        let partition = self.rng.below(PARTITIONS as u64) as i32;
        if !self.comes_with_epoch && !self.added.contains(&partition) {
            return;
        }
        let (producer, number) = (self.producer, self.number);
        let leader = &mut self.leaders[partition as usize];
        if leader.open.is_some() && (leader.producer_id, leader.epoch) == producer {
            leader.append(producer, None, -1, number);
            return;
        }
        self.last_token += 1;
        let token = self.last_token;
        leader.asked.insert(token);
        let reply = match self.comes_with_epoch {
            true => {
                let request = AddRequest {
                    producer: named(producer),
                    partitions: places(&[partition]),
                    comes: Comes::WithItsEpoch,
                };
                self.world.event(|shard, reply, now, effects| shard.add(request, reply, now, effects))
            }
            false => self.world.event(|shard, reply, _, effects| {
                shard.verify(&named(producer), &places(&[partition]), reply, effects);
            }),
        };
        self.questions.insert(reply, (token, partition, number, producer));
    }

    /// Some request arrives, the oldest or one that everybody has forgotten.
    fn deliver(&mut self) {
        let arriving: Vec<usize> =
            (0..self.wire.len()).filter(|index| self.wire[*index].held_to <= self.step).collect();
        if arriving.is_empty() {
            return;
        }
        let sent = self.wire.remove(arriving[self.rng.below(arriving.len() as u64) as usize]);
        let comes = self.comes(sent.connection);
        let fresh = self.world.fresh_producer_id();
        let reply = match sent.asks.clone() {
            Asks::Init => {
                self.fates.values_mut().for_each(|fate| fate.may_be_aborted = true);
                let request = InitRequest {
                    transactional_id: ID.into(),
                    timeout_ms: TIMEOUT_MS,
                    expected: None,
                    fresh_producer_id: Some(fresh),
                    connection: sent.connection,
                };
                self.world.event(|shard, reply, now, effects| shard.init(request, reply, now, effects))
            }
            Asks::Add(partitions) => {
                let (producer, partitions) = (named(sent.producer), places(&partitions));
                let request = AddRequest { producer, partitions, comes };
                self.world.event(|shard, reply, now, effects| shard.add(request, reply, now, effects))
            }
            Asks::End(commit) => {
                let fresh_producer_id = Some(fresh);
                let request = EndRequest { producer: named(sent.producer), commit, comes, fresh_producer_id };
                self.world.event(|shard, reply, now, effects| shard.end(request, reply, now, effects))
            }
        };
        self.asked.insert(reply, (sent, None));
    }

    /// Answers arrive, or are lost.
    fn answers(&mut self) {
        for (reply, answer) in std::mem::take(&mut self.world.answers) {
            if let Some((token, partition, number, producer)) = self.questions.remove(&reply) {
                self.answered_leader(answer, token, partition, number, producer);
                continue;
            }
            let Some((sent, _)) = self.asked.remove(&reply) else { continue };
            let is_awaited = self.waits_for.as_ref().is_some_and(|waits| waits.call == sent.call);
            if is_awaited && !self.chance(6) {
                self.answered(sent, answer);
            }
        }
    }

    fn answered_leader(
        &mut self,
        answer: Answer,
        token: u64,
        partition: i32,
        number: u32,
        producer: (i64, i16),
    ) {
        let stamp = match answer {
            Answer::Added(Ok(stamp)) => Some(stamp),
            Answer::Verified(Ok(verified)) if verified.missing.is_empty() => Some(verified.stamp),
            _ => None,
        };
        let leader = &mut self.leaders[partition as usize];
        let is_in = stamp.is_some_and(|stamp| leader.append(producer, Some(token), stamp, number));
        leader.asked.remove(&token);
        if is_in && self.number == number {
            self.added.insert(partition);
        }
    }

    fn answered(&mut self, sent: Sent, answer: Answer) {
        let refusal = match &answer {
            Answer::Init(Err(refusal)) | Answer::Added(Err(refusal)) | Answer::Ended(Err(refusal)) => {
                Some(*refusal)
            }
            _ => None,
        };
        match refusal {
            None => {}
            Some(Refusal::Code(ErrorCode::ConcurrentTransactions | ErrorCode::NotCoordinator)) => {
                // Once more, as it was.
                let again = Sent { connection: self.connection, ..sent };
                self.wire.push(again);
                return;
            }
            // The connection is gone.
            Some(Refusal::Overtaken) => return self.give_up(),
            Some(Refusal::Code(_)) => {
                self.waits_for = None;
                return self.become_new();
            }
            Some(Refusal::NeedsProducerId) => panic!("there was one"),
        }
        self.waits_for = None;
        match (sent.asks, answer) {
            (Asks::Init, Answer::Init(Ok(producer))) => self.producer = producer,
            (Asks::Add(partitions), Answer::Added(Ok(_))) => self.added.extend(partitions),
            (Asks::End(commit), Answer::Ended(Ok(next))) => {
                self.fates.get_mut(&sent.number).unwrap().told = Some(commit);
                if self.comes_with_epoch {
                    self.producer = next;
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// The client waits no longer: it comes again by a new connection, and what it sent by the old one goes on its way.
    fn give_up(&mut self) {
        let Some(sent) = self.waits_for.take() else { return };
        // For how long, nobody knows; until long after that, perhaps.
        for late in self.wire.iter_mut().filter(|late| late.call == sent.call) {
            late.held_to = self.step + self.rng.below(200) as usize;
        }
        self.connection += 1;
        self.calls += 1;
        let again = Sent { connection: self.connection, call: self.calls, ..sent };
        self.waits_for = Some(again.clone());
        self.wire.push(again);
    }

    /// Decisions are told, each only if it stands in the log (T1).
    fn tell(&mut self) {
        for decision in self.world.shard.decisions(|_, _| false) {
            let state = if decision.commit { State::PrepareCommit } else { State::PrepareAbort };
            let stands = self.world.log.iter().any(|record| {
                let read = records::read(&record.key, record.value.as_ref()).unwrap();
                matches!(read, ReadRecord::Transaction(it) if it.state == state && it.started_ms == decision.stamp)
            });
            assert!(stands, "told before it was durable: {decision:?}");
            for TopicPartition { partition, .. } in decision.partitions {
                let (stamp, epoch, commit) = (decision.stamp, decision.epoch, decision.commit);
                self.markers.push(Marker { partition, stamp, epoch, commit });
            }
        }
    }

    /// A marker arrives, perhaps not for the last time; its answer may be lost.
    fn arrive(&mut self) {
        if self.markers.is_empty() {
            return;
        }
        let index = self.rng.below(self.markers.len() as u64) as usize;
        let marker = match self.chance(3) {
            true => self.markers[index].clone(),
            false => self.markers.remove(index),
        };
        self.leaders[marker.partition as usize].end(&marker);
        if !self.chance(4) {
            self.world.event(|shard, _, now, effects| {
                shard.told(&ID.into(), marker.stamp, [place(marker.partition)].into(), now, effects);
            });
        }
    }

    fn restart(&mut self) {
        let lands = self.rng.below(4) as usize;
        let refused = self.chance(2);
        if refused {
            self.world.land(Err(ErrorCode::NotCoordinator));
        }
        // Of what was under way nobody hears.
        self.world.restart(lands, self.connection);
        self.world.answers.clear();
        self.asked.clear();
        self.questions.clear();
        self.leaders.iter_mut().for_each(|leader| leader.asked.clear());
    }

    fn settle(&mut self) {
        self.world.lands_at_once = true;
        self.world.land_all();
        self.fates.values_mut().for_each(|fate| fate.may_be_aborted = true);
        self.step = usize::MAX;
        while !self.wire.is_empty() {
            self.deliver();
        }
        self.world.answers.clear();
        self.world.pass_ms(2 * TIMEOUT_MS as u64);
        for _ in 0..100 {
            self.tell();
            while !self.markers.is_empty() {
                self.arrive();
            }
        }
        assert!(self.world.shard.prepared.is_empty(), "not everything is complete");
    }

    fn check(&self) {
        for (number, fate) in &self.fates {
            let is_committed = self.leaders.iter().any(|leader| leader.committed.contains(number));
            let is_aborted = self.leaders.iter().any(|leader| leader.aborted.contains(number));
            assert!(!(is_committed && is_aborted), "transaction {number} is torn: {fate:?}");
            if let Some(commit) = fate.told {
                assert!(!(commit && is_aborted), "{number} was said to be committed: {fate:?}");
                assert!(commit || !is_committed, "{number} was said to be aborted: {fate:?}");
            }
            if is_committed {
                assert_eq!(fate.asked, Some(true), "{number} was never committed by its client: {fate:?}");
            }
            if is_aborted {
                assert!(
                    fate.may_be_aborted || fate.asked == Some(false),
                    "nobody aborted {number}: {fate:?}"
                );
            }
        }
        assert!(self.leaders.iter().all(|leader| leader.open.is_none()), "a transaction hangs");
    }
}

#[test]
fn whatever_is_late_lost_or_repeated_transactions_are_all_or_nothing() {
    let (mut committed, mut aborted, mut told) = (0, 0, 0);
    for seed in 0..600 {
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step();
            // What is ended too early shows at once, and not only when the client has had its say as well.
            run.check_not_ended_by_others();
        }
        run.settle();
        run.check();
        committed += run.leaders.iter().map(|leader| leader.committed.len()).sum::<usize>();
        aborted += run.leaders.iter().map(|leader| leader.aborted.len()).sum::<usize>();
        told += run.fates.values().filter(|fate| fate.told.is_some()).count();
    }
    println!("{committed} numbers committed, {aborted} aborted, {told} transactions whose client was told");
    assert!(committed > 300 && aborted > 300 && told > 300, "too little happened");
}

impl Run {
    fn check_not_ended_by_others(&self) {
        let Some(fate) = self.fates.get(&self.number) else { return };
        if fate.asked.is_none() && !fate.may_be_aborted {
            let is_ended = |leader: &Leader| {
                leader.committed.contains(&self.number) || leader.aborted.contains(&self.number)
            };
            assert!(!self.leaders.iter().any(is_ended), "{} was ended by another: {fate:?}", self.number);
        }
    }
}
