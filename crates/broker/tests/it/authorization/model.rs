//! Kafka's rules, written down once more and without a thought of speed: a list of ACLs is looked through for each question.
//!
//! It shares nothing with the code that it is compared to, not even names of operations: these are the numbers of the protocol.

pub const READ: i8 = 3;
pub const WRITE: i8 = 4;
pub const CREATE: i8 = 5;
pub const DELETE: i8 = 6;
pub const ALTER: i8 = 7;
pub const DESCRIBE: i8 = 8;
pub const CLUSTER_ACTION: i8 = 9;
pub const DESCRIBE_CONFIGS: i8 = 10;
pub const ALTER_CONFIGS: i8 = 11;
pub const IDEMPOTENT_WRITE: i8 = 12;
pub const CREATE_TOKENS: i8 = 13;
const ALL: i8 = 2;

pub const TOPIC: i8 = 2;
pub const GROUP: i8 = 3;
pub const CLUSTER: i8 = 4;
pub const TRANSACTIONAL_ID: i8 = 5;
pub const USER: i8 = 7;

pub const LITERAL: i8 = 3;
pub const PREFIXED: i8 = 4;
pub const DENY: i8 = 2;
pub const ALLOW: i8 = 3;

pub const THE_CLUSTER: &str = "kafka-cluster";

#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub resource_type: i8,
    pub pattern_type: i8,
    pub name: String,
    pub principal: String,
    pub host: String,
    pub operation: i8,
    pub permission: i8,
}

#[derive(Debug, Clone)]
pub struct Who {
    pub principal: String,
    /// As Java writes it.
    pub host: String,
}

#[derive(Debug, Default)]
pub struct Model {
    pub rules: Vec<Rule>,
    pub super_user: String,
    pub allow_everyone: bool,
}

impl Model {
    pub fn may(&self, who: &Who, operation: i8, resource_type: i8, name: &str) -> bool {
        if who.principal == self.super_user {
            return true;
        }
        let names_it = |rule: &&Rule| {
            rule.resource_type == resource_type
                && match rule.pattern_type {
                    LITERAL => rule.name == name || rule.name == "*",
                    _ => name.starts_with(&rule.name),
                }
        };
        let of_resource: Vec<&Rule> = self.rules.iter().filter(names_it).collect();
        if of_resource.is_empty() {
            return self.allow_everyone;
        }
        let of_caller: Vec<&Rule> = of_resource.into_iter().filter(|rule| is_about(rule, who)).collect();
        for rule in &of_caller {
            if rule.permission == DENY && (rule.operation == operation || rule.operation == ALL) {
                return false;
            }
        }
        of_caller.iter().any(|rule| rule.permission == ALLOW && implied(rule.operation).contains(&operation))
    }

    /// Kafka's `authorizeByResourceType`, KIP-679.
    pub fn may_somewhere(&self, who: &Who, operation: i8, resource_type: i8) -> bool {
        if self.may(who, operation, resource_type, "hardcode") {
            return true;
        }
        let mine: Vec<&Rule> = self
            .rules
            .iter()
            .filter(|rule| rule.resource_type == resource_type && is_about(rule, who))
            .filter(|rule| rule.operation == operation || rule.operation == ALL)
            .collect();
        let denied: Vec<&&Rule> = mine.iter().filter(|rule| rule.permission == DENY).collect();
        if denied.iter().any(|rule| rule.pattern_type == LITERAL && rule.name == "*") {
            return false;
        }
        mine.iter().filter(|rule| rule.permission == ALLOW).any(|allowed| {
            if allowed.pattern_type == LITERAL && allowed.name == "*" {
                return true;
            }
            !denied.iter().any(|denied| match (allowed.pattern_type, denied.pattern_type) {
                (LITERAL, LITERAL) => denied.name == allowed.name,
                (_, PREFIXED) => allowed.name.starts_with(&denied.name),
                _ => false,
            })
        })
    }

    /// The bits of KIP-430.
    pub fn operations(&self, who: &Who, resource_type: i8, name: &str) -> i32 {
        let there_are: &[i8] = match resource_type {
            TOPIC => &[READ, WRITE, CREATE, DESCRIBE, DELETE, ALTER, DESCRIBE_CONFIGS, ALTER_CONFIGS],
            GROUP => &[READ, DESCRIBE, DELETE, DESCRIBE_CONFIGS, ALTER_CONFIGS],
            CLUSTER => {
                &[CREATE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE, ALTER, DESCRIBE]
            }
            other => panic!("nobody asks for the operations of type {other}"),
        };
        let mut bits = 0;
        for operation in there_are {
            if self.may(who, *operation, resource_type, name) {
                bits |= 1 << operation;
            }
        }
        bits
    }
}

fn is_about(rule: &Rule, who: &Who) -> bool {
    (rule.principal == who.principal || rule.principal == "User:*")
        && (rule.host == who.host || rule.host == "*")
}

/// What a permission permits.
fn implied(operation: i8) -> Vec<i8> {
    match operation {
        ALL => (READ..=15).collect(),
        READ | WRITE | DELETE | ALTER => vec![operation, DESCRIBE],
        ALTER_CONFIGS => vec![ALTER_CONFIGS, DESCRIBE_CONFIGS],
        other => vec![other],
    }
}
