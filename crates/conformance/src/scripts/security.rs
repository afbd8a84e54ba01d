//! ACLs, quotas, SCRAM credentials.

use bytes::Bytes;
use protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use protocol::messages::create_acls_request::AclCreation;
use protocol::messages::delete_acls_request::DeleteAclsFilter;
use protocol::messages::describe_client_quotas_request::ComponentData;
use protocol::messages::describe_user_scram_credentials_request::UserName;
use protocol::messages::{
    AlterClientQuotasRequest, AlterUserScramCredentialsRequest, CreateAclsRequest, DeleteAclsRequest,
    DescribeAclsRequest, DescribeClientQuotasRequest, DescribeUserScramCredentialsRequest,
};
use protocol::{ApiKey, Str};

use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::CreateAcls, "good and bad", create_acls),
    script(ApiKey::DescribeAcls, "filters", describe_acls),
    script(ApiKey::DeleteAcls, "filters", delete_acls),
    script(ApiKey::AlterClientQuotas, "entities", alter_quotas),
    script(ApiKey::DescribeClientQuotas, "components", describe_quotas),
    script(ApiKey::AlterUserScramCredentials, "users", alter_scram),
    script(ApiKey::DescribeUserScramCredentials, "users", describe_scram),
];

const ANY: i8 = 1;
const TOPIC: i8 = 2;
const CLUSTER: i8 = 4;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const READ: i8 = 3;
const ALLOW: i8 = 3;

fn acl(name: &Str) -> AclCreation {
    AclCreation {
        resource_type: TOPIC,
        resource_name: name.clone(),
        resource_pattern_type: LITERAL,
        principal: "User:somebody".into(),
        host: "*".into(),
        operation: READ,
        permission_type: ALLOW,
    }
}

fn creation(creations: Vec<AclCreation>) -> CreateAclsRequest {
    CreateAclsRequest { creations }
}

fn create_acls(c: &mut Conversation) {
    let a = acl(&c.name("a"));
    for (label, creation_of) in [
        ("one", a.clone()),
        ("again", a.clone()),
        ("prefixed", AclCreation { resource_pattern_type: PREFIXED, ..a.clone() }),
        ("no name", AclCreation { resource_name: "".into(), ..a.clone() }),
        ("an unknown type", AclCreation { resource_type: 99, ..a.clone() }),
        ("any type", AclCreation { resource_type: ANY, ..a.clone() }),
        ("any pattern", AclCreation { resource_pattern_type: ANY, ..a.clone() }),
        ("an unknown operation", AclCreation { operation: 99, ..a.clone() }),
        ("any operation", AclCreation { operation: ANY, ..a.clone() }),
        ("an unknown permission", AclCreation { permission_type: 99, ..a.clone() }),
        ("a principal that is none", AclCreation { principal: "somebody".into(), ..a.clone() }),
        ("a cluster of another name", AclCreation { resource_type: CLUSTER, ..a.clone() }),
        ("an operation that topics have not", AclCreation { operation: 12, ..a.clone() }),
    ] {
        c.ask(label, &creation(vec![creation_of]));
    }
    c.ask("good and bad", &creation(vec![a.clone(), AclCreation { operation: 99, ..a }]));
    c.ask("none", &creation(Vec::new()));
}

fn filter(name: Option<&Str>) -> DescribeAclsRequest {
    DescribeAclsRequest {
        resource_type_filter: TOPIC,
        resource_name_filter: name.cloned(),
        pattern_type_filter: LITERAL,
        principal_filter: None,
        host_filter: None,
        operation: ANY,
        permission_type: ANY,
    }
}

fn describe_acls(c: &mut Conversation) {
    let a = c.name("a");
    c.help(&creation(vec![acl(&a), AclCreation { operation: 4, ..acl(&a) }]));
    c.settle("a topic", &filter(Some(&a)), |answer| !answer.resources.is_empty());
    c.ask("an unknown topic", &filter(Some(&c.name("x"))));
    c.ask("one operation", &DescribeAclsRequest { operation: READ, ..filter(Some(&a)) });
    c.ask("another's", &DescribeAclsRequest { principal_filter: Some("User:x".into()), ..filter(Some(&a)) });
    c.ask("what matches", &DescribeAclsRequest { pattern_type_filter: 2, ..filter(Some(&a)) });
    c.ask("an unknown type", &DescribeAclsRequest { resource_type_filter: 99, ..filter(Some(&a)) });
    c.ask("an unknown pattern", &DescribeAclsRequest { pattern_type_filter: 99, ..filter(Some(&a)) });
}

fn delete_acls(c: &mut Conversation) {
    let a = c.name("a");
    c.help(&creation(vec![acl(&a)]));
    c.help_until(&filter(Some(&a)), |answer| !answer.resources.is_empty());
    let of = |name: &Str| DeleteAclsFilter {
        resource_type_filter: TOPIC,
        resource_name_filter: Some(name.clone()),
        pattern_type_filter: LITERAL,
        principal_filter: None,
        host_filter: None,
        operation: ANY,
        permission_type: ANY,
    };
    c.ask("one", &DeleteAclsRequest { filters: vec![of(&a)] });
    c.ask("again", &DeleteAclsRequest { filters: vec![of(&a)] });
    c.ask(
        "an unknown type",
        &DeleteAclsRequest { filters: vec![DeleteAclsFilter { resource_type_filter: 99, ..of(&a) }] },
    );
    c.ask("none", &DeleteAclsRequest { filters: Vec::new() });
}

fn quota(entity: &[(&str, Option<&Str>)], ops: &[(&str, f64, bool)]) -> AlterClientQuotasRequest {
    let entity = entity.iter().map(|(entity_type, name)| EntityData {
        entity_type: (*entity_type).into(),
        entity_name: name.cloned(),
        ..EntityData::default()
    });
    let ops = ops.iter().map(|(key, value, remove)| OpData {
        key: (*key).into(),
        value: *value,
        remove: *remove,
        ..OpData::default()
    });
    let entry = EntryData { entity: entity.collect(), ops: ops.collect(), ..EntryData::default() };
    AlterClientQuotasRequest { entries: vec![entry], ..AlterClientQuotasRequest::default() }
}

fn alter_quotas(c: &mut Conversation) {
    let u = c.name("u");
    let user = [("user", Some(&u))];
    let rate = [("producer_byte_rate", 1e6, false)];
    for (label, request) in [
        ("a user", quota(&user, &rate)),
        ("a user and a client", quota(&[("user", Some(&u)), ("client-id", Some(&u))], &rate)),
        ("an unknown key", quota(&user, &[("no_such_rate", 1.0, false)])),
        ("below 0", quota(&user, &[("producer_byte_rate", -1.0, false)])),
        ("0", quota(&user, &[("producer_byte_rate", 0.0, false)])),
        ("half a byte", quota(&user, &[("producer_byte_rate", 1000.5, false)])),
        ("an unknown entity", quota(&[("planet", Some(&u))], &rate)),
        ("no entity", quota(&[], &rate)),
        ("one entity twice", quota(&[("user", Some(&u)), ("user", Some(&u))], &rate)),
        ("an empty name", quota(&[("user", Some(&Str::default()))], &rate)),
        ("no such address", quota(&[("ip", Some(&u))], &[("connection_creation_rate", 1.0, false)])),
        ("an address and a user", quota(&[("ip", Some(&u)), ("user", Some(&u))], &rate)),
        ("nothing", quota(&user, &[])),
        ("away", quota(&user, &[("producer_byte_rate", 0.0, true)])),
        ("away again", quota(&user, &[("producer_byte_rate", 0.0, true)])),
    ] {
        c.ask(label, &request);
    }
    c.ask("only checked", &AlterClientQuotasRequest { validate_only: true, ..quota(&user, &rate) });
}

fn describe_quotas(c: &mut Conversation) {
    let u = c.name("u");
    c.help(&quota(&[("user", Some(&u))], &[("producer_byte_rate", 1e6, false)]));
    let of = |entity_type: &str, match_type, name: Option<&Str>, strict| DescribeClientQuotasRequest {
        components: vec![ComponentData {
            entity_type: entity_type.into(),
            match_type,
            r#match: name.cloned(),
            ..ComponentData::default()
        }],
        strict,
        ..DescribeClientQuotasRequest::default()
    };
    c.settle("a user", &of("user", 0, Some(&u), true), |answer| {
        answer.entries.as_ref().is_some_and(|entries| !entries.is_empty())
    });
    c.ask("an unknown user", &of("user", 0, Some(&c.name("x")), false));
    c.ask("an unknown entity", &of("planet", 0, Some(&u), false));
    c.ask("an unknown way to match", &of("user", 9, Some(&u), false));
    c.ask("an exact name that is none", &of("user", 0, None, false));
}

const SHA_256: i8 = 1;

fn upsertion(name: &Str) -> ScramCredentialUpsertion {
    ScramCredentialUpsertion {
        name: name.clone(),
        mechanism: SHA_256,
        iterations: 4096,
        salt: Bytes::from_static(b"0123456789abcdef"),
        salted_password: Bytes::from_static(b"0123456789abcdef0123456789abcdef"),
        ..ScramCredentialUpsertion::default()
    }
}

fn deletion(name: &Str, mechanism: i8) -> AlterUserScramCredentialsRequest {
    AlterUserScramCredentialsRequest {
        deletions: vec![ScramCredentialDeletion { name: name.clone(), mechanism, ..Default::default() }],
        ..Default::default()
    }
}

fn alter_scram(c: &mut Conversation) {
    let u = c.name("u");
    let of = |upsertions: Vec<ScramCredentialUpsertion>| AlterUserScramCredentialsRequest {
        upsertions,
        ..Default::default()
    };
    let good = upsertion(&u);
    c.ask("one", &of(vec![good.clone()]));
    c.ask("again", &of(vec![good.clone()]));
    c.ask("no name", &of(vec![upsertion(&"".into())]));
    c.ask("an unknown mechanism", &of(vec![ScramCredentialUpsertion { mechanism: 9, ..good.clone() }]));
    c.ask("too few rounds", &of(vec![ScramCredentialUpsertion { iterations: 10, ..good.clone() }]));
    c.ask("too many rounds", &of(vec![ScramCredentialUpsertion { iterations: 1_000_000, ..good.clone() }]));
    c.ask("one twice", &of(vec![good.clone(), good.clone()]));
    c.ask(
        "set and deleted",
        &AlterUserScramCredentialsRequest { upsertions: vec![good], ..deletion(&u, SHA_256) },
    );
    c.ask("deleted", &deletion(&u, SHA_256));
    c.ask("deleted again", &deletion(&u, SHA_256));
    c.ask("deleted, an unknown mechanism", &deletion(&u, 9));
    c.ask("nothing", &AlterUserScramCredentialsRequest::default());
}

fn describe_scram(c: &mut Conversation) {
    let u = c.name("u");
    c.help(&AlterUserScramCredentialsRequest { upsertions: vec![upsertion(&u)], ..Default::default() });
    let of = |names: &[&Str]| DescribeUserScramCredentialsRequest {
        users: Some(
            names.iter().map(|name| UserName { name: (*name).clone(), ..Default::default() }).collect(),
        ),
    };
    c.settle("one", &of(&[&u]), |answer| answer.results.iter().all(|result| result.error_code == 0));
    c.ask("an unknown one", &of(&[&c.name("x")]));
    c.ask("one twice", &of(&[&u, &u]));
    c.ask("no name", &of(&[&"".into()]));
}
