//! Random lives of streams groups against a small model: whatever is lost, refused or restarted, by what members were told no
//! task is active with two of them at a time nor twice in one process, and when everything is well again each is with one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use protocol::{ErrorCode, Str};

use super::super::event::{Answer, ReplyId};
use super::super::streams::{StreamsHeartbeatRequest, TaskSets, Tasks};
use super::fake_catalog::FakeCatalog;
use super::model::World;
use super::streams::{Client, answer, ask};

const CLIENTS: usize = 5;
/// Two of two threads each, and one of one.
const PROCESSES: [&str; CLIENTS] = ["p", "p", "q", "q", "r"];
/// Which of them have an instance id.
const STATICS: [usize; 2] = [0, 2];
const OWN_TOPICS: [&str; 2] = ["words", "counted"];
const SESSION_MS: u64 = 45_000;
/// As clients have it in their heartbeats.
const REBALANCE_MS: u64 = 60_000;

#[derive(Debug, Clone)]
enum Step {
    Heartbeat {
        client: usize,
    },
    /// The answer of the next heartbeat does not arrive.
    LoseAnswer {
        client: usize,
    },
    /// Static members can come back, as another member with the same instance id.
    Leave {
        client: usize,
        for_a_while: bool,
    },
    Pass {
        ms: u64,
    },
    /// The source topic gets partitions, which the topics of the application do not have yet.
    Grow,
    /// The topics of the application are as they should be.
    Mend,
    Remove {
        topic: usize,
    },
    Copies {
        count: i32,
    },
    /// Writes wait from now on, or land at once.
    Hold {
        holds: bool,
    },
    Land {
        fails: bool,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        14 => client.clone().prop_map(|client| Step::Heartbeat { client }),
        2 => client.clone().prop_map(|client| Step::LoseAnswer { client }),
        2 => (client, any::<bool>()).prop_map(|(client, for_a_while)| Step::Leave { client, for_a_while }),
        6 => (100..20_000u64).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Grow),
        2 => Just(Step::Mend),
        1 => (0..2usize).prop_map(|topic| Step::Remove { topic }),
        1 => (0..3i32).prop_map(|count| Step::Copies { count }),
        2 => any::<bool>().prop_map(|holds| Step::Hold { holds }),
        3 => any::<bool>().prop_map(|fails| Step::Land { fails }),
        1 => Just(Step::Restart),
    ]
}

struct Life {
    catalog: Arc<FakeCatalog>,
    world: World,
    clients: Vec<Client>,
    /// When each client asked what it was answered last. Its session ran from then at the latest, and may be over.
    heard_at_ms: Vec<u64>,
    /// The request under way of each client, and when it was sent.
    asked: Vec<Option<(ReplyId, u64)>>,
    loses: Vec<bool>,
    /// The oldest request of each client that may have been answered with something to give up, as long as it has not said since
    /// that it did. After a rebalance's time it may be out of the group, and learns of it with its next heartbeat.
    unsaid_since_ms: Vec<Option<u64>>,
    /// It gave something up, and its next heartbeat says so.
    gave_up: Vec<bool>,
    /// How often a static member has left for a while.
    lives: usize,
}

impl Life {
    fn new() -> Life {
        let catalog = FakeCatalog::with(&[("lines", 3), ("words", 3), ("counted", 3)]);
        let world = World::with(catalog.settings());
        let clients = (0..CLIENTS).map(|number| Client {
            instance_id: STATICS.contains(&number).then(|| format!("i{number}").as_str().into()),
            ..Client::of(&format!("c{number}"), PROCESSES[number])
        });
        Life {
            catalog,
            world,
            clients: clients.collect(),
            heard_at_ms: vec![0; CLIENTS],
            asked: vec![None; CLIENTS],
            loses: vec![false; CLIENTS],
            unsaid_since_ms: vec![None; CLIENTS],
            gave_up: vec![false; CLIENTS],
            lives: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Heartbeat { client } => self.heartbeat(client),
            Step::LoseAnswer { client } => self.loses[client] = true,
            Step::Leave { client, for_a_while } => {
                let for_a_while = for_a_while && STATICS.contains(&client);
                let epoch = if for_a_while { -2 } else { -1 };
                let request = StreamsHeartbeatRequest { epoch, ..self.clients[client].request() };
                // It lets go before it says so, and does not wait for an answer.
                self.forget(client);
                ask(&mut self.world, request);
                if for_a_while {
                    self.lives += 1;
                    self.clients[client].id = format!("c{client}-{}", self.lives).as_str().into();
                }
            }
            Step::Pass { ms } => self.world.pass_ms(ms),
            Step::Grow => {
                let count = self.catalog.partition_count("lines");
                self.catalog.put("lines", (count + 1).min(6));
            }
            Step::Mend => self.mend_topics(),
            Step::Remove { topic } => self.catalog.remove(OWN_TOPICS[topic]),
            Step::Copies { count } => {
                self.catalog.configure(|config| config.streams_num_standby_replicas = count);
            }
            Step::Hold { holds } => {
                self.world.lands_at_once = !holds;
                if !holds {
                    self.world.land_all();
                }
            }
            Step::Land { fails: true } => self.world.land(Err(ErrorCode::CoordinatorNotAvailable)),
            Step::Land { fails: false } => self.world.land(Ok(())),
            Step::Restart => {
                // What is under way is lost, and so is every answer that waits for it.
                let restarted = self.world.restarted();
                self.world = restarted;
                self.asked.fill(None);
            }
        }
        self.hear();
        self.check_owners();
    }

    fn mend_topics(&self) {
        let count = self.catalog.partition_count("lines");
        OWN_TOPICS.iter().for_each(|topic| self.catalog.put(topic, count));
    }

    /// One request at a time for each client; another one before the answer means that it gave the first one up.
    fn heartbeat(&mut self, client: usize) {
        let now_ms = self.world.now.monotonic_ms;
        let reply = ask(&mut self.world, self.clients[client].request());
        self.asked[client] = Some((reply, now_ms));
        let says_so = std::mem::take(&mut self.gave_up[client]);
        // Said too late it may be out all the same, until it hears that it is not.
        let is_late = |since: &u64| now_ms - since >= REBALANCE_MS;
        let unsaid = self.unsaid_since_ms[client].filter(|since| !says_so || is_late(since));
        self.unsaid_since_ms[client] = Some(unsaid.unwrap_or(now_ms));
    }

    fn forget(&mut self, client: usize) {
        self.clients[client].epoch = 0;
        self.clients[client].owned = TaskSets::default();
        self.asked[client] = None;
        self.unsaid_since_ms[client] = None;
        self.gave_up[client] = false;
    }

    /// Clients read the answers that have arrived.
    fn hear(&mut self) {
        for client in 0..CLIENTS {
            let answered = self.asked[client].filter(|(reply, _)| self.world.is_answered(*reply));
            let Some((reply, asked_at_ms)) = answered else { continue };
            self.asked[client] = None;
            if std::mem::take(&mut self.loses[client]) {
                continue;
            }
            let answer = answer(&self.world, reply);
            match answer.error {
                ErrorCode::None => {
                    let owned = self.clients[client].owned.clone();
                    self.clients[client].take(&answer);
                    self.gave_up[client] = !is_subset(&owned, &self.clients[client].owned);
                    if !self.gave_up[client] {
                        self.unsaid_since_ms[client] = None;
                    }
                    self.heard_at_ms[client] = asked_at_ms;
                }
                ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => {
                    self.forget(client);
                }
                // What it has is not what the topology has any more; Kafka's client ends here, and comes again.
                ErrorCode::InvalidRequest => self.forget(client),
                ErrorCode::CoordinatorNotAvailable => {}
                // Its goodbye did not get into the log: it waits for its former self's session to end.
                ErrorCode::UnreleasedInstanceId => {}
                ErrorCode::FencedInstanceId => self.forget(client),
                other => panic!("c{client}: {other:?} {:?}", answer.message),
            }
        }
    }

    /// Nobody heard of it, or not that it gave something up, for as long as a member may take: it may be out of the group, and what it had
    /// another's. Only a member that *is* out is let off for that.
    fn is_late(&self, client: usize) -> bool {
        let now_ms = self.world.now.monotonic_ms;
        let is_silent = now_ms - self.heard_at_ms[client] >= SESSION_MS;
        is_silent || self.unsaid_since_ms[client].is_some_and(|since| now_ms - since >= REBALANCE_MS)
    }

    fn check_owners(&self) {
        let mut active: BTreeMap<(Str, i32), usize> = BTreeMap::new();
        let mut in_process: BTreeMap<(&str, Str, i32), usize> = BTreeMap::new();
        for (index, client) in self.clients.iter().enumerate() {
            let group = self.world.shard.streams_group("g");
            if group.is_none_or(|group| group.member(&client.id).is_none()) {
                let may_be_out = client.owned == Default::default() || self.is_late(index);
                assert!(may_be_out, "c{index} is out of the group, and came in time");
                continue;
            }
            for (id, task) in each(&client.owned.active) {
                let other = active.insert((id.clone(), task), index);
                assert_eq!(other, None, "task {id}_{task} is active with c{index} too");
            }
            for (id, task) in each(&client.owned.active).chain(each(&client.owned.standby)) {
                let other = in_process.insert((PROCESSES[index], id.clone(), task), index);
                assert_eq!(other, None, "task {id}_{task} is in the process of c{index} twice");
            }
        }
    }

    /// Nothing fails any more and everybody is there.
    fn end_well(&mut self) {
        self.world.lands_at_once = true;
        self.world.land_all();
        self.loses.fill(false);
        self.mend_topics();
        for _ in 0..40 {
            self.world.pass_ms(5_000);
            for client in 0..CLIENTS {
                self.heartbeat(client);
                self.hear();
                self.check_owners();
            }
        }
        assert_eq!(self.world.state("g"), "Stable");
        let count = self.catalog.partition_count("lines");
        let wanted: BTreeSet<(Str, i32)> =
            ["0", "1"].iter().flat_map(|id| (0..count).map(move |task| (Str::from(*id), task))).collect();
        let active: BTreeSet<(Str, i32)> = self
            .clients
            .iter()
            .flat_map(|client| each(&client.owned.active))
            .map(|(id, task)| (id.clone(), task))
            .collect();
        assert_eq!(active, wanted);
        let copies: usize = self.clients.iter().map(|client| each(&client.owned.standby).count()).sum();
        let replicas = self.world.shard.settings_for_tests().catalog.group_config("g");
        assert_eq!(copies as i32, count * replicas.streams_num_standby_replicas.min(2));
        let restarted = self.world.restarted();
        assert_eq!(restarted.shard.describe_streams_group("g"), self.world.shard.describe_streams_group("g"));
    }
}

fn each(tasks: &Tasks) -> impl Iterator<Item = (&Str, i32)> {
    tasks.iter().flat_map(|(id, tasks)| tasks.iter().map(move |task| (id, *task)))
}

fn is_subset(owned: &TaskSets, of: &TaskSets) -> bool {
    let is_in = |owned: &Tasks, of: &Tasks| {
        owned.iter().all(|(id, tasks)| of.get(id).is_some_and(|of| tasks.is_subset(of)))
    };
    is_in(&owned.active, &of.active) && is_in(&owned.standby, &of.standby)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_task_is_with_two_members(steps in prop::collection::vec(step(), 1..120)) {
        let mut life = Life::new();
        for step in &steps {
            life.step(step);
        }
        life.end_well();
        for answer in life.world.answers.values() {
            prop_assert!(matches!(answer, Answer::StreamsHeartbeat(_)));
        }
    }
}
