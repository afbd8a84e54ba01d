//! Random lives of groups: whatever happens, some things hold.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::{ErrorCode, Str};

use super::super::event::*;
use super::super::settings::GroupSettings;
use super::model::*;
use super::replay::visible;

#[derive(Debug, Clone)]
enum Step {
    /// A client process: joins first, or does what comes next for it.
    Advance {
        client: usize,
    },
    Resubscribe {
        client: usize,
    },
    Leave {
        client: usize,
    },
    /// Forgets everything, as a restarted process does.
    Restart {
        client: usize,
    },
    Heartbeat {
        client: usize,
    },
    Commit {
        client: usize,
        partition: i32,
        offset: i64,
        as_tool: bool,
    },
    Delete {
        group: bool,
    },
    PassMs(u64),
    Land,
    Fail,
    Snapshot {
        page_bytes: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        12 => client.clone().prop_map(|client| Step::Advance { client }),
        2 => client.clone().prop_map(|client| Step::Resubscribe { client }),
        2 => client.clone().prop_map(|client| Step::Leave { client }),
        2 => client.clone().prop_map(|client| Step::Restart { client }),
        3 => client.clone().prop_map(|client| Step::Heartbeat { client }),
        4 => (client, 0..3, 0i64..100, any::<bool>())
            .prop_map(|(client, partition, offset, as_tool)| Step::Commit { client, partition, offset, as_tool }),
        1 => any::<bool>().prop_map(|group| Step::Delete { group }),
        4 => (0u64..15_000).prop_map(Step::PassMs),
        1 => (0u64..90_000).prop_map(Step::PassMs),
        8 => Just(Step::Land),
        1 => Just(Step::Fail),
        1 => prop_oneof![Just(1), Just(1_000)].prop_map(|page_bytes| Step::Snapshot { page_bytes }),
    ]
}

const CLIENTS: usize = 5;

/// What a client process knows.
#[derive(Debug, Clone, Default)]
struct Client {
    member_id: Str,
    joined: Option<JoinAnswer>,
    join: Option<ReplyId>,
    sync: Option<ReplyId>,
    topics: usize,
}

struct Life {
    world: World,
    clients: Vec<Client>,
    /// Generations answered, and the leader each names.
    leaders: BTreeMap<i32, Str>,
    answered_joins: usize,
}

impl Life {
    fn new() -> Life {
        let settings = GroupSettings { group_size_max: 4, ..GroupSettings::default() };
        let mut world = World::with(settings);
        world.lands_at_once = false;
        Life { world, clients: vec![Client::default(); CLIENTS], leaders: BTreeMap::new(), answered_joins: 0 }
    }

    /// Clients 0 and 1 are static members.
    fn request(&self, client: usize) -> JoinRequest {
        let topics = &["clicks", "views", "likes"][..=self.clients[client].topics];
        JoinRequest {
            member_id: self.clients[client].member_id.clone(),
            instance_id: (client < 2).then(|| Str::from(format!("i{client}"))),
            client_id: format!("client-{client}").into(),
            protocols: vec![offers("range", topics), offers("sticky", topics)],
            ..join_request("g")
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Advance { client } => self.advance(client),
            Step::Resubscribe { client } => {
                self.clients[client].topics = (self.clients[client].topics + 1) % 3;
                self.clients[client].joined = None;
            }
            Step::Leave { client } => {
                let member_id = self.clients[client].member_id.clone();
                if !member_id.is_empty() {
                    self.world.leave("g", &member_id);
                }
                self.clients[client] = Client::default();
            }
            Step::Restart { client } => self.clients[client] = Client::default(),
            Step::Heartbeat { client } => {
                if let Some(joined) = self.clients[client].joined.clone() {
                    let error = self.world.heartbeat("g", &joined.member_id, joined.generation);
                    self.learn(client, error);
                }
            }
            Step::Commit { client, partition, offset, as_tool } => {
                let request = commit_request("g", "clicks", partition, offset);
                match (&self.clients[client].joined, as_tool) {
                    (Some(joined), false) => self.world.commit(commit_as(&joined.clone(), request)),
                    _ => self.world.commit(request),
                };
            }
            Step::Delete { group: true } => {
                self.world
                    .event(|shard, reply, _, effects| shard.delete_groups(vec!["g".into()], reply, effects));
            }
            Step::Delete { group: false } => {
                self.world.event(|shard, _, _, effects| {
                    shard.topics_deleted(&[("clicks".into(), TOPIC_ID)], effects);
                });
            }
            Step::PassMs(ms) => self.world.pass_ms(ms),
            Step::Land => self.world.land(Ok(())),
            Step::Fail => {
                // A log that failed stays failed until a restart, which finds what is durable.
                while !self.world.in_flight.is_empty() {
                    self.world.land(Err(ErrorCode::NotCoordinator));
                }
                self.world.event(|shard, _, _, effects| shard.unload(ErrorCode::NotCoordinator, effects));
                self.world.shard = self.world.restarted().shard;
            }
            Step::Snapshot { page_bytes } => self.snapshot(page_bytes),
        }
        self.read_answers();
        self.world.shard.check_invariants();
    }

    fn advance(&mut self, client: usize) {
        let known = self.clients[client].clone();
        match known {
            Client { join: Some(_), .. } | Client { sync: Some(_), .. } => {}
            Client { joined: Some(joined), .. } => {
                let assignments = joined
                    .members
                    .iter()
                    .map(|m| (m.member_id.clone(), assignment_of(&m.member_id)))
                    .collect();
                let sync = self.world.sync("g", &joined, assignments);
                self.clients[client].sync = Some(sync);
            }
            Client { joined: None, .. } => {
                let request = self.request(client);
                let join = self.world.join(request);
                self.clients[client].join = Some(join);
            }
        }
    }

    fn read_answers(&mut self) {
        for client in 0..CLIENTS {
            if let Some(reply) = self.clients[client].join
                && self.world.is_answered(reply)
            {
                self.clients[client].join = None;
                let answer = self.world.joined(reply);
                match answer.error {
                    ErrorCode::None => {
                        self.check_joined(&answer);
                        self.clients[client].member_id = answer.member_id.clone();
                        self.clients[client].joined = Some(answer);
                    }
                    ErrorCode::MemberIdRequired => self.clients[client].member_id = answer.member_id,
                    error => self.learn(client, error),
                }
            }
            if let Some(reply) = self.clients[client].sync
                && self.world.is_answered(reply)
            {
                self.clients[client].sync = None;
                let answer = self.world.synced(reply);
                self.learn(client, answer.error);
            }
        }
    }

    fn learn(&mut self, client: usize, error: ErrorCode) {
        match error {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress => self.clients[client].joined = None,
            _ => self.clients[client] = Client::default(),
        }
    }

    /// Every answered join is in a generation, of one leader, which is one of its members.
    fn check_joined(&mut self, answer: &JoinAnswer) {
        self.answered_joins += 1;
        assert!(answer.generation > 0 && answer.protocol_name.is_some());
        if answer.leader == answer.member_id {
            assert!(answer.members.iter().any(|member| member.member_id == answer.member_id));
            // A static leader that came back leads the same generation under another name.
            if !answer.skip_assignment {
                self.leaders.insert(answer.generation, answer.leader.clone());
            }
        } else {
            assert!(answer.members.is_empty());
        }
    }

    fn snapshot(&mut self, page_bytes: usize) {
        self.world.land_all();
        let first = self.world.log.len();
        let mut place = None;
        loop {
            let (records, next) = self.world.shard.snapshot_page(place, page_bytes);
            self.world.log.extend(records);
            self.world.commit(commit_request("other", "clicks", 0, first as i64));
            self.world.land_all();
            match next {
                Some(next) => place = Some(next),
                None => break,
            }
        }
        let whole = visible(&self.world.restarted());
        self.world.log.drain(..first);
        assert_eq!(visible(&self.world.restarted()), whole, "a snapshot changes nothing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn groups_survive_whatever_comes(steps in prop::collection::vec(step(), 1..120)) {
        let mut life = Life::new();
        let mut generation = 0;
        for step in steps {
            let deletes = matches!(step, Step::Delete { group: true } | Step::Fail);
            life.run(step);
            // Generations grow as long as the group lives.
            let now = life.world.shard.generation_for_tests("g");
            if let Some(now) = now {
                prop_assert!(deletes || now >= generation || generation == 0 || now == 0);
                generation = now;
            } else {
                generation = 0;
            }
        }
        // No timer is lost: with nobody left to say anything, every wait ends and the group empties.
        life.world.lands_at_once = true;
        life.world.land_all();
        life.world.pass_ms(600_000);
        life.read_answers();
        for client in &life.clients {
            prop_assert!(client.join.is_none() && client.sync.is_none(), "{client:?} waits for ever");
        }
        prop_assert!(["Empty", "Dead"].contains(&life.world.state("g")), "{}", life.world.state("g"));
        // What a restart finds is what stands here, now that nothing is under way.
        prop_assert_eq!(visible(&life.world.restarted()), visible(&life.world));
    }

    /// Writes are lost one by one, and later ones are not: what a snapshot repeats of a group is what the log has.
    #[test]
    fn a_lost_write_leaves_what_the_log_has(
        steps in prop::collection::vec((step(), prop::bool::weighted(0.15)), 1..120),
    ) {
        let mut life = Life::new();
        let in_log = |world: &World| world.shard.group_records.newest("g").cloned();
        for (step, is_lost) in steps {
            match step {
                // Of a group whose first record was lost, a snapshot takes away what came later.
                Step::Snapshot { .. } => life.world.land_all(),
                step => life.run(step),
            }
            if is_lost {
                life.world.land(Err(ErrorCode::NotCoordinator));
                life.read_answers();
            }
            if life.world.in_flight.is_empty() && life.world.shard.generation_for_tests("g").is_some() {
                prop_assert_eq!(in_log(&life.world), in_log(&life.world.restarted()));
            }
        }
    }

    #[test]
    fn the_same_life_gives_the_same_log(steps in prop::collection::vec(step(), 1..60)) {
        let mut lives = [Life::new(), Life::new()];
        for step in steps {
            lives.iter_mut().for_each(|life| life.run(step.clone()));
        }
        prop_assert_eq!(&lives[0].world.log, &lives[1].world.log);
        prop_assert_eq!(&lives[0].world.answers, &lives[1].world.answers);
    }
}
