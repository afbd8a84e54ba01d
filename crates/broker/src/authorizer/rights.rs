//! What a handler asks before it does something for its caller.
//!
//! ```text
//!   context.authorize(Read, Resource::Group(id))?         one thing: Kafka's error, and a line of audit
//!   context.may(Create, Resource::Cluster)                the same, where a no only leads to the next question
//!   let mut readable = context.topics(Read);              many topics of one request: each is decided once
//!   readable.check(&name)?
//!   context.authorized_operations(Resource::Topic(name))  the bit field of KIP-430
//! ```
//! Whoever needs several answers of one moment, or has read the catalog already, takes [`RequestContext::rights`] of that state.

use std::collections::BTreeMap;

use catalog::State;
use catalog::acl::{AclOperation, AclResourceType};
use protocol::{ErrorCode, Str};

use super::audit;
use super::decision::{self, Caller, Verdict};
use crate::request::RequestContext;

/// Of all ACLs of the cluster's own resource, Kafka's one name.
pub(crate) const CLUSTER_NAME: &str = "kafka-cluster";

/// What somebody wants to do something with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    TransactionalId(&'a str),
    DelegationToken(&'a str),
    /// A principal.
    User(&'a str),
    Cluster,
}

impl<'a> Resource<'a> {
    fn resource_type(self) -> AclResourceType {
        match self {
            Resource::Topic(_) => AclResourceType::Topic,
            Resource::Group(_) => AclResourceType::Group,
            Resource::TransactionalId(_) => AclResourceType::TransactionalId,
            Resource::DelegationToken(_) => AclResourceType::DelegationToken,
            Resource::User(_) => AclResourceType::User,
            Resource::Cluster => AclResourceType::Cluster,
        }
    }

    fn name(self) -> &'a str {
        match self {
            Resource::Topic(name)
            | Resource::Group(name)
            | Resource::TransactionalId(name)
            | Resource::DelegationToken(name)
            | Resource::User(name) => name,
            Resource::Cluster => CLUSTER_NAME,
        }
    }

    /// What a refusal is called.
    fn error(self) -> ErrorCode {
        match self {
            Resource::Topic(_) => ErrorCode::TopicAuthorizationFailed,
            Resource::Group(_) => ErrorCode::GroupAuthorizationFailed,
            Resource::TransactionalId(_) => ErrorCode::TransactionalIdAuthorizationFailed,
            Resource::DelegationToken(_) | Resource::User(_) => ErrorCode::DelegationTokenAuthorizationFailed,
            Resource::Cluster => ErrorCode::ClusterAuthorizationFailed,
        }
    }

    /// The operations that there are for it (Kafka's `AclEntry.supportedOperations`).
    fn operations(self) -> &'static [AclOperation] {
        use AclOperation::*;
        match self {
            Resource::Topic(_) => {
                &[Read, Write, Create, Describe, Delete, Alter, DescribeConfigs, AlterConfigs]
            }
            Resource::Group(_) => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
            Resource::DelegationToken(_) => &[Describe],
            Resource::User(_) => &[CreateTokens, DescribeTokens],
            Resource::TransactionalId(_) => &[Describe, Write, TwoPhaseCommit],
            Resource::Cluster => {
                &[Create, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite, Alter, Describe]
            }
        }
    }
}

/// The rights of the caller of a request, at one moment of the catalog.
pub(crate) struct Rights<'a> {
    context: &'a RequestContext,
    state: &'a State,
    principal: Str,
    /// The one answer to every question: of a super user, and where there are no ACLs.
    always: Option<bool>,
}

impl RequestContext {
    /// Who asks, as `User:alice`.
    pub fn principal(&self) -> Str {
        self.connection.principal()
    }

    /// Nobody has said anything, and that means yes: the one answer that does not depend on who asks.
    fn is_free_for_all(&self, state: &State) -> bool {
        self.broker.authorizer.allow_everyone && state.acls().is_empty()
    }

    pub fn rights<'a>(&'a self, state: &'a State) -> Rights<'a> {
        let principal = self.principal();
        let always = match state.acls().is_empty() {
            _ if self.is_free_for_all(state) => Some(true),
            _ if self.broker.authorizer.super_users.contains(principal.as_str()) => Some(true),
            true => Some(false),
            false => None,
        };
        Rights { context: self, state, principal, always }
    }

    /// Whether the caller may do it. A refusal leaves a line of audit.
    pub fn authorize(&self, operation: AclOperation, resource: Resource<'_>) -> Result<(), ErrorCode> {
        self.rights(&self.broker.catalog.read()).authorize(operation, resource)
    }

    /// The same where a no is nothing that anybody asked for: another right will do, or a list is a little shorter.
    pub fn may(&self, operation: AclOperation, resource: Resource<'_>) -> bool {
        self.rights(&self.broker.catalog.read()).may(operation, resource)
    }

    /// May the caller have a producer id? With a transactional id whoever may write under it; else whoever may write anywhere at all
    /// (KIP-679), so that idempotence needs no right of its own.
    pub fn authorize_producer_id(&self, transactional_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(transactional_id) = transactional_id {
            return self.authorize(AclOperation::Write, Resource::TransactionalId(transactional_id));
        }
        let state = self.broker.catalog.read();
        let rights = self.rights(&state);
        match rights.has_on_some_topic(AclOperation::Write) {
            true => Ok(()),
            false => rights.authorize(AclOperation::IdempotentWrite, Resource::Cluster),
        }
    }

    /// One operation on the topics of a request.
    pub fn topics(&self, operation: AclOperation) -> TopicRights<'_> {
        TopicRights { context: self, operation, is_audited: true, known: BTreeMap::new() }
    }

    /// The same for topics that the caller did not name.
    pub fn topics_quietly(&self, operation: AclOperation) -> TopicRights<'_> {
        TopicRights { is_audited: false, ..self.topics(operation) }
    }

    /// A bit for each operation that the caller may do with it (KIP-430).
    pub fn authorized_operations(&self, resource: Resource<'_>) -> i32 {
        self.rights(&self.broker.catalog.read()).operations(resource)
    }

    /// The same for answers that have the field whether it was asked for or not: "not asked for" is the default of the schemas. Of the
    /// cluster nothing is told to who may not describe it.
    pub fn cluster_operations_if(&self, is_asked: bool) -> i32 {
        match is_asked {
            false => i32::MIN,
            true if self.authorize(AclOperation::Describe, Resource::Cluster).is_err() => 0,
            true => self.authorized_operations(Resource::Cluster),
        }
    }
}

impl Rights<'_> {
    pub fn may(&self, operation: AclOperation, resource: Resource<'_>) -> bool {
        self.verdict(operation, resource).is_ok()
    }

    pub fn authorize(&self, operation: AclOperation, resource: Resource<'_>) -> Result<(), ErrorCode> {
        let Err(why) = self.verdict(operation, resource) else { return Ok(()) };
        let what =
            audit::Refused { operation, resource_type: resource.resource_type(), name: resource.name(), why };
        audit::refused(self.context, &what);
        Err(resource.error())
    }

    /// Kafka's `authorizeByResourceType`: is there a topic, of whatever name, on which the caller may do it?
    pub fn has_on_some_topic(&self, operation: AclOperation) -> bool {
        self.always.unwrap_or_else(|| {
            // A topic of which nobody said anything.
            self.may(operation, Resource::Topic("hardcode"))
                || decision::has_somewhere(
                    self.state.acls(),
                    self.caller(),
                    operation,
                    AclResourceType::Topic,
                )
        })
    }

    pub fn operations(&self, resource: Resource<'_>) -> i32 {
        let allowed = resource.operations().iter().filter(|operation| self.may(**operation, resource));
        allowed.fold(0, |bits, operation| bits | 1 << operation.code())
    }

    /// An error says why.
    fn verdict(&self, operation: AclOperation, resource: Resource<'_>) -> Result<(), &'static str> {
        match self.always {
            Some(true) => return Ok(()),
            Some(false) => return Err("there are no ACLs"),
            None => {}
        }
        let acls = self.state.acls();
        match decision::decide(acls, self.caller(), operation, resource.resource_type(), resource.name()) {
            Verdict::Allowed => Ok(()),
            Verdict::NoAcl if self.context.broker.authorizer.allow_everyone => Ok(()),
            Verdict::Denied => Err("an ACL denies it"),
            Verdict::NotAllowed => Err("no ACL allows it"),
            Verdict::NoAcl => Err("no ACL names it"),
        }
    }

    fn caller(&self) -> Caller<'_> {
        Caller { principal: &self.principal, host: self.context.connection.peer.ip() }
    }
}

/// The topics of a request: each of them is decided once, and told of once, however many of its partitions are named.
pub(crate) struct TopicRights<'a> {
    context: &'a RequestContext,
    operation: AclOperation,
    is_audited: bool,
    known: BTreeMap<Str, bool>,
}

impl TopicRights<'_> {
    pub fn allows(&mut self, state: &State, topic: &Str) -> bool {
        // Asked for each topic of each Produce and Fetch: without ACLs it costs nothing.
        if self.context.is_free_for_all(state) {
            return true;
        }
        let rights = self.context.rights(state);
        if rights.always == Some(true) {
            return true;
        }
        if let Some(known) = self.known.get(topic) {
            return *known;
        }
        let resource = Resource::Topic(topic);
        let is_allowed = match self.is_audited {
            true => rights.authorize(self.operation, resource).is_ok(),
            false => rights.may(self.operation, resource),
        };
        self.known.insert(topic.clone(), is_allowed);
        is_allowed
    }

    pub fn check(&mut self, state: &State, topic: &Str) -> Result<(), ErrorCode> {
        match self.allows(state, topic) {
            true => Ok(()),
            false => Err(ErrorCode::TopicAuthorizationFailed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_are_those_of_kafka_4() {
        // As `kafka-topics` and `kafka-configs` of 4.3.1 print them for a broker without an authorizer.
        let all = |resource: Resource<'_>| {
            resource.operations().iter().fold(0, |bits, operation| bits | 1 << operation.code())
        };
        assert_eq!(all(Resource::Topic("t")), 0x0df8);
        assert_eq!(all(Resource::Group("g")), 0x0d48);
        assert_eq!(all(Resource::Cluster), 0x1fa0);
    }
}
