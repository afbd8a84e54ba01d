//! Random lives of consumer groups against a small model: whatever is lost, refused or restarted, by what members were told no
//! partition is with two of them at a time, and when everything is well again each is with one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use protocol::{ErrorCode, Uuid};

use super::super::consumer::{
    ConsumerHeartbeatRequest, LEAVING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH, Partitions,
};
use super::super::event::{Answer, ReplyId};
use super::consumers::{Client, answer, ask};
use super::fake_catalog::FakeCatalog;
use super::model::World;

const TOPICS: [&str; 3] = ["clicks", "views", "views-old"];
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
    Subscribe {
        client: usize,
        topics: u8,
        pattern: bool,
    },
    Leave {
        client: usize,
        for_a_while: bool,
    },
    Pass {
        ms: u64,
    },
    Partitions {
        topic: usize,
        more: i32,
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
    let client = 0..5usize;
    prop_oneof![
        12 => client.clone().prop_map(|client| Step::Heartbeat { client }),
        2 => client.clone().prop_map(|client| Step::LoseAnswer { client }),
        2 => (client.clone(), 0..8u8, any::<bool>())
            .prop_map(|(client, topics, pattern)| Step::Subscribe { client, topics, pattern }),
        1 => (client, any::<bool>()).prop_map(|(client, for_a_while)| Step::Leave { client, for_a_while }),
        6 => (100..20_000u64).prop_map(|ms| Step::Pass { ms }),
        1 => (0..3usize, 1..3i32).prop_map(|(topic, more)| Step::Partitions { topic, more }),
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
}

impl Life {
    fn new() -> Life {
        let catalog = FakeCatalog::with(&[("clicks", 4), ("views", 3)]);
        let world = World::with(catalog.settings());
        let client = |number: usize| {
            let mut client = Client::of(&format!("c{number}"), &["clicks"]);
            // Two of them are static.
            client.instance_id = (number < 2).then(|| format!("i{number}").as_str().into());
            client
        };
        let clients: Vec<Client> = (0..5).map(client).collect();
        let count = clients.len();
        Life {
            catalog,
            world,
            clients,
            heard_at_ms: vec![0; count],
            asked: vec![None; count],
            loses: vec![false; count],
            unsaid_since_ms: vec![None; count],
            gave_up: vec![false; count],
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Heartbeat { client } => self.heartbeat(client),
            Step::LoseAnswer { client } => self.loses[client] = true,
            Step::Subscribe { client, topics, pattern } => {
                let wanted = (0..TOPICS.len()).filter(|number| topics >> number & 1 == 1);
                self.clients[client].topics = wanted.map(|number| TOPICS[number].into()).collect();
                self.clients[client].pattern = Some(if pattern { "views.*" } else { "" }.into());
            }
            Step::Leave { client, for_a_while } => self.leave(client, for_a_while),
            Step::Pass { ms } => self.world.pass_ms(ms),
            Step::Partitions { topic, more } => {
                let count = self.catalog.partition_count(TOPICS[topic]);
                self.catalog.put(TOPICS[topic], (count + more).min(12));
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

    fn leave(&mut self, client: usize, for_a_while: bool) {
        let for_a_while = for_a_while && self.clients[client].instance_id.is_some();
        let epoch = if for_a_while { LEAVING_FOR_A_WHILE_EPOCH } else { LEAVING_EPOCH };
        let request = ConsumerHeartbeatRequest { epoch, ..self.clients[client].request() };
        // It lets go before it says so, and does not wait for an answer.
        self.forget(client);
        ask(&mut self.world, request);
    }

    fn forget(&mut self, client: usize) {
        self.clients[client].epoch = 0;
        self.clients[client].owned.clear();
        self.asked[client] = None;
        self.unsaid_since_ms[client] = None;
        self.gave_up[client] = false;
    }

    /// Clients read the answers that have arrived.
    fn hear(&mut self) {
        for client in 0..self.clients.len() {
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
                ErrorCode::CoordinatorNotAvailable => {}
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
        let mut owners: BTreeMap<(Uuid, i32), usize> = BTreeMap::new();
        for (index, client) in self.clients.iter().enumerate() {
            let group = self.world.shard.consumer_group("g");
            if group.is_none_or(|group| group.member(&client.id).is_none()) {
                let may_be_out = client.owned == Default::default() || self.is_late(index);
                assert!(may_be_out, "c{index} is out of the group, and came in time");
                continue;
            }
            for (topic, partitions) in &client.owned {
                for partition in partitions {
                    let other = owners.insert((*topic, *partition), index);
                    assert_eq!(other, None, "{topic}-{partition} is with c{index} too");
                }
            }
        }
    }

    /// Nothing fails any more and everybody is there.
    fn end_well(&mut self) {
        self.world.lands_at_once = true;
        self.world.land_all();
        self.loses.fill(false);
        for _ in 0..40 {
            self.world.pass_ms(5_000);
            for client in 0..self.clients.len() {
                self.heartbeat(client);
                self.hear();
                self.check_owners();
            }
        }
        assert_eq!(self.world.state("g"), "Stable");
        let mut wanted = BTreeSet::new();
        for client in &self.clients {
            let is_pattern = client.pattern.as_ref().is_some_and(|pattern| !pattern.is_empty());
            let matched = TOPICS.iter().filter(|topic| is_pattern && topic.starts_with("views"));
            for topic in client.topics.iter().map(|topic| &**topic).chain(matched.copied()) {
                let count = self.catalog.partition_count(topic);
                wanted.extend((0..count).map(|partition| (FakeCatalog::id(topic), partition)));
            }
        }
        let owned: BTreeSet<(Uuid, i32)> = self
            .clients
            .iter()
            .flat_map(|client| &client.owned)
            .flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)))
            .collect();
        assert_eq!(owned, wanted);
        let restarted = self.world.restarted();
        assert_eq!(
            restarted.shard.describe_consumer_group("g"),
            self.world.shard.describe_consumer_group("g")
        );
    }
}

fn is_subset(owned: &Partitions, of: &Partitions) -> bool {
    owned.iter().all(|(topic, partitions)| of.get(topic).is_some_and(|of| partitions.is_subset(of)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_is_with_two_members(steps in prop::collection::vec(step(), 1..120)) {
        let mut life = Life::new();
        for step in &steps {
            life.step(step);
        }
        life.end_well();
        for answer in life.world.answers.values() {
            prop_assert!(matches!(answer, Answer::ConsumerHeartbeat(_)));
        }
    }
}

fn live(steps: &[Step]) {
    let mut life = Life::new();
    steps.iter().for_each(|step| life.step(step));
    life.end_well();
}

/// A member that leaves, what is made of that, and the first of the two is lost: two have its partitions by the log.
#[test]
fn of_two_that_have_a_partition_by_the_log_the_first_one_has_it() {
    let beat = |client| Step::Heartbeat { client };
    live(&[
        beat(0),
        beat(3),
        beat(2),
        Step::Hold { holds: true },
        beat(1),
        Step::Leave { client: 0, for_a_while: false },
        Step::Land { fails: false },
        Step::Pass { ms: 1_000 },
        beat(1),
        Step::Land { fails: true },
    ]);
}

/// The write of the group's next epoch is lost, that of a member which had come to it is not: the epoch does not come again with another target.
#[test]
fn an_epoch_that_a_member_has_does_not_come_again() {
    let beat = |client| Step::Heartbeat { client };
    let leave = |client| Step::Leave { client, for_a_while: false };
    let one_more = || Step::Partitions { topic: 0, more: 1 };
    live(&[
        beat(3),
        Step::Subscribe { client: 1, topics: 0, pattern: false },
        Step::Subscribe { client: 2, topics: 0, pattern: true },
        beat(0),
        leave(0),
        leave(0),
        leave(3),
        beat(4),
        beat(0),
        beat(0),
        leave(1),
        beat(2),
        beat(3),
        Step::Pass { ms: 7_321 },
        beat(0),
        beat(0),
        one_more(),
        Step::Hold { holds: true },
        Step::Pass { ms: 1_000 },
        beat(0),
        beat(4),
        Step::Land { fails: true },
        Step::Pass { ms: 100 },
        one_more(),
    ]);
}
