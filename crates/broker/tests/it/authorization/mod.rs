//! The matrix of authorisation: every API × version × field that Kafka authorises × generated ACLs, against a model of Kafka's rules.
//!
//! ```text
//!   some ACLs (created over the protocol)  ×  some callers  ×  every API in every version  ─►  cells: what the model says == what was answered
//! ```
//! An API without a row fails the test. `cargo test -p broker --test it -- ten_million --ignored` does it a hundred times as long.

mod model;
mod more_rows;
mod rows;
mod share_rows;
mod stories;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use broker::{APIS, Connection};
use protocol::messages::create_acls_request::AclCreation;
use protocol::messages::delete_acls_request::DeleteAclsFilter;
use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::{CreateAclsRequest, DeleteAclsRequest, FindCoordinatorRequest, OffsetCommitRequest};
use protocol::{ApiKey, ErrorCode, Request, Uuid};

use self::model::{Model, Rule, Who};
use crate::house::{House, answer, frame_of, story};

const ROOT: &str = "User:root";
/// Names that share beginnings, one that does not, and one that no topic has.
const TOPICS: [&str; 3] = ["t-a", "t-b", "u"];
const MISSING: &str = "t-none";
const GROUPS: [&str; 2] = ["t-g", "g"];
const MISSING_ID: Uuid = Uuid([0xee; 16]);

/// A caller asks one API in one version.
pub struct Case<'a> {
    world: &'a mut World,
    connection: Arc<Connection>,
    who: Who,
    pub model: &'a Model,
    pub api: ApiKey,
    pub version: i16,
    cells: u64,
}

/// The broker, and what there is in it.
struct World {
    house: House,
    root: Arc<Connection>,
    ids: BTreeMap<&'static str, Uuid>,
    /// Of which the groups have committed offsets.
    with_offsets: BTreeSet<&'static str>,
}

impl World {
    async fn new(allow_everyone: bool) -> World {
        let allow = if allow_everyone { "true" } else { "false" };
        let mut house =
            House::with(&[("super.users", ROOT), ("allow.everyone.if.no.acl.found", allow)]).await;
        let root = connection(ROOT, "127.0.0.1");
        house.connection = root.clone();
        let mut world = World { house, root, ids: BTreeMap::new(), with_offsets: BTreeSet::new() };
        world.make_topics().await;
        for group in GROUPS {
            let request = FindCoordinatorRequest { key: group.into(), ..FindCoordinatorRequest::default() };
            assert_eq!(world.ask(1, &request).await.error_code, 0);
            let topics = TOPICS.map(|name| OffsetCommitRequestTopic {
                name: name.into(),
                partitions: vec![OffsetCommitRequestPartition {
                    committed_offset: 1,
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            });
            let request = OffsetCommitRequest {
                group_id: group.into(),
                generation_id_or_member_epoch: -1,
                topics: topics.to_vec(),
                ..OffsetCommitRequest::default()
            };
            // Until the coordinator has read its partition.
            for attempt in 0.. {
                let response = world.ask(8, &request).await;
                if response.topics.iter().all(|topic| topic.partitions[0].error_code == 0) {
                    break;
                }
                assert!(attempt < 100, "{response:?}");
                world::task::sleep(Duration::from_millis(10)).await;
            }
        }
        world.with_offsets.extend(TOPICS);
        world
    }

    async fn ask<R: Request>(&self, version: i16, request: &R) -> R::Response {
        ask(&self.house, &self.root, version, request).await
    }

    /// Those that a row has deleted.
    async fn make_topics(&mut self) {
        for name in TOPICS {
            let id = self.house.catalog.read().topic(name).map(|topic| topic.id);
            let id = match id {
                Some(id) => id,
                None => {
                    self.with_offsets.remove(name);
                    self.house.create_topic(name, 1, &[]).await
                }
            };
            self.ids.insert(name, id);
        }
    }

    async fn set_acls(&self, rules: &[Rule]) {
        let all = DeleteAclsFilter {
            resource_type_filter: 1,
            resource_name_filter: None,
            pattern_type_filter: 1,
            principal_filter: None,
            host_filter: None,
            operation: 1,
            permission_type: 1,
        };
        let deleted = self.ask(3, &DeleteAclsRequest { filters: vec![all] }).await;
        assert_eq!(deleted.filter_results[0].error_code, 0);
        let creations = rules.iter().map(|rule| AclCreation {
            resource_type: rule.resource_type,
            resource_name: rule.name.as_str().into(),
            resource_pattern_type: rule.pattern_type,
            principal: rule.principal.as_str().into(),
            host: rule.host.as_str().into(),
            operation: rule.operation,
            permission_type: rule.permission,
        });
        let created = self.ask(3, &CreateAclsRequest { creations: creations.collect() }).await;
        assert!(created.results.iter().all(|result| result.error_code == 0), "{created:?}");
    }
}

fn connection(principal: &str, host: &str) -> Arc<Connection> {
    let address = SocketAddr::new(host.parse().expect("an address"), 50_000);
    Connection::with_principal(1, address, "PLAINTEXT", principal)
}

async fn ask<R: Request>(
    house: &House,
    connection: &Arc<Connection>,
    version: i16,
    request: &R,
) -> R::Response {
    answer::<R>(version, house.broker.handle(connection, frame_of(version, request)).outcome().await)
}

impl Case<'_> {
    async fn ask<R: Request>(&self, request: &R) -> R::Response {
        ask(&self.world.house, &self.connection, self.version, request).await
    }

    fn may(&self, operation: i8, resource_type: i8, name: &str) -> bool {
        self.model.may(&self.who, operation, resource_type, name)
    }

    fn may_somewhere(&self, operation: i8, resource_type: i8) -> bool {
        self.model.may_somewhere(&self.who, operation, resource_type)
    }

    fn operations(&self, resource_type: i8, name: &str) -> i32 {
        self.model.operations(&self.who, resource_type, name)
    }

    fn id(&self, name: &str) -> Uuid {
        if name == MISSING { MISSING_ID } else { self.world.ids[name] }
    }

    fn name(&self, id: Uuid) -> String {
        let found = self.world.ids.iter().find(|(_, known)| **known == id);
        found.map_or(MISSING, |(name, _)| name).to_owned()
    }

    fn has_offsets(&self, name: &str) -> bool {
        self.world.with_offsets.contains(name)
    }

    async fn make_topics(&mut self) {
        self.world.make_topics().await;
    }

    /// Should somebody have made it.
    async fn delete_missing(&self) {
        let topic = self.world.house.catalog.read().topic(MISSING).cloned();
        if let Some(topic) = topic {
            let request = protocol::messages::DeleteTopicsRequest {
                topic_names: vec![topic.name.clone()],
                timeout_ms: 1_000,
                ..Default::default()
            };
            assert_eq!(self.world.ask(5, &request).await.responses[0].error_code, 0);
        }
    }

    /// A field with an error code: the refusal, or anything that is none.
    fn cell(&mut self, field: &str, may: bool, refusal: ErrorCode, code: i16) {
        let code = ErrorCode::try_from(code).expect("a known code");
        let is_refusal = matches!(
            code,
            ErrorCode::TopicAuthorizationFailed
                | ErrorCode::GroupAuthorizationFailed
                | ErrorCode::ClusterAuthorizationFailed
                | ErrorCode::TransactionalIdAuthorizationFailed
                | ErrorCode::DelegationTokenAuthorizationFailed
        );
        self.same(field, (!may).then_some(refusal), is_refusal.then_some(code));
    }

    fn same<T: PartialEq + Debug>(&mut self, field: &str, expected: T, answered: T) {
        self.cells += 1;
        assert!(
            expected == answered,
            "{} {} by {:?}: {field}: {answered:?}, Kafka answers {expected:?}; {:#?}",
            self.api,
            self.version,
            self.who,
            self.model,
        );
    }
}

/// A generator of its own: xorshift, so that a number names a set of ACLs for ever.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn rules(&mut self) -> Vec<Rule> {
        // Few rules leave gaps, many hide one another.
        let count = self.one_of(&[0, 1, 2, 4, 8, 16, 40]);
        let mut rules: Vec<Rule> = Vec::new();
        for _ in 0..count {
            let rule = self.rule();
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        rules
    }

    fn rule(&mut self) -> Rule {
        use model::*;
        let resource_type =
            self.one_of(&[TOPIC, TOPIC, TOPIC, GROUP, GROUP, CLUSTER, CLUSTER, TRANSACTIONAL_ID, USER]);
        let pattern_type = self.one_of(&[LITERAL, PREFIXED]);
        let name = match resource_type {
            CLUSTER => THE_CLUSTER,
            USER => self.one_of(&["User:carol", "User:", "User:alice", "*"]),
            _ => self.one_of(&["t-a", "t-b", "u", "t-none", "t-", "t", "*", "t-g", "g", "t-pay", "x", "h"]),
        };
        let operation = self.below(14) as i8 + 2;
        // Most of what is allowed is allowed by what is common.
        let operation = match resource_type {
            USER => self.one_of(&[operation, CREATE_TOKENS]),
            _ => operation,
        };
        let operation =
            self.one_of(&[operation, operation, READ, WRITE, DESCRIBE, ALTER, 2, ALTER_CONFIGS, CREATE]);
        Rule {
            resource_type,
            pattern_type,
            name: name.to_owned(),
            principal: self.one_of(&["User:alice", "User:bob", "User:*", "Other:alice"]).to_owned(),
            host: self.one_of(&["*", "*", "10.0.0.1", "0:0:0:0:0:0:0:1", "10.0.0.9"]).to_owned(),
            operation,
            permission: self.one_of(&[ALLOW, ALLOW, ALLOW, DENY]),
        }
    }
}

/// Plays until so many cells are compared; the seed names the first set of ACLs.
async fn play(seed: u64, cells: u64) {
    let mut dice = Dice(seed);
    let mut worlds = [World::new(false).await, World::new(true).await];
    let callers = [
        ("User:alice", "10.0.0.1", "10.0.0.1"),
        ("User:bob", "::1", "0:0:0:0:0:0:0:1"),
        ("User:alice", "10.0.0.2", "10.0.0.2"),
        (ROOT, "10.0.0.1", "10.0.0.1"),
    ];
    let mut compared = 0;
    while compared < cells {
        let rules = dice.rules();
        for (allow_everyone, world) in [false, true].into_iter().zip(&mut worlds) {
            world.set_acls(&rules).await;
            let model = Model { rules: rules.clone(), super_user: ROOT.to_owned(), allow_everyone };
            let (principal, address, host) = dice.one_of(&callers);
            for api in APIS {
                for version in api.answered_from..=*api.advertised.end() {
                    let mut case = Case {
                        world: &mut *world,
                        connection: connection(principal, address),
                        who: Who { principal: principal.to_owned(), host: host.to_owned() },
                        model: &model,
                        api: api.key,
                        version,
                        cells: 0,
                    };
                    assert!(rows::run(&mut case).await, "{} has no row in the matrix", api.key);
                    compared += case.cells;
                }
            }
        }
    }
}

#[test]
fn every_field_is_answered_as_kafka_would() {
    story(|| play(0x0771a, 100_000));
}

#[test]
#[ignore = "takes minutes; 10 million cells"]
fn ten_million_cells_are_answered_as_kafka_would() {
    let seed = std::env::var("MATRIX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x0a71);
    story(|| play(seed, 10_000_000));
}
