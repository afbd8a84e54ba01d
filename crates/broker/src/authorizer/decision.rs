//! The rule of Kafka's `StandardAuthorizer`, without its caller: ACLs and a question in, a verdict out.

use std::net::IpAddr;

use catalog::acl::{
    AclOperation, AclPermission, AclResourceType, AclRule, Acls, PatternType, WILDCARD, WILDCARD_PRINCIPAL,
};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    /// As `User:alice`.
    pub principal: &'a str,
    pub host: IpAddr,
}

/// Why a question is answered as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allowed,
    /// An ACL denies it.
    Denied,
    /// No ACL of the resource allows it.
    NotAllowed,
    /// No ACL names the resource.
    NoAcl,
}

/// One denial weighs more than any number of permissions.
pub(super) fn decide(
    acls: &Acls,
    caller: Caller<'_>,
    operation: AclOperation,
    resource_type: AclResourceType,
    name: &str,
) -> Verdict {
    let mut verdict = Verdict::NoAcl;
    acls.matching(resource_type, name, |principals| {
        if verdict == Verdict::NoAcl {
            verdict = Verdict::NotAllowed;
        }
        let everybody = Some(WILDCARD_PRINCIPAL).filter(|everybody| *everybody != caller.principal);
        let rules = [Some(caller.principal), everybody].into_iter().flatten();
        let rules = rules.filter_map(|principal| principals.get(principal)).flatten();
        for rule in rules.filter(|rule| covers(rule, operation) && is_host(&rule.host, caller.host)) {
            match rule.permission {
                AclPermission::Deny => verdict = Verdict::Denied,
                AclPermission::Allow if verdict != Verdict::Denied => verdict = Verdict::Allowed,
                AclPermission::Allow => {}
            }
        }
    });
    verdict
}

/// Has the caller a right on some resource of a type, whichever (KIP-679)? Implied operations do not count, as in Kafka.
pub(super) fn has_somewhere(
    acls: &Acls,
    caller: Caller<'_>,
    operation: AclOperation,
    resource_type: AclResourceType,
) -> bool {
    let mut allowed: Vec<(PatternType, &str)> = Vec::new();
    let mut denied: Vec<(PatternType, &str)> = Vec::new();
    let everybody = Some(WILDCARD_PRINCIPAL).filter(|everybody| *everybody != caller.principal);
    for principal in [Some(caller.principal), everybody].into_iter().flatten() {
        for (pattern_type, name, rules) in acls.of_principal(resource_type, principal) {
            for rule in rules
                .iter()
                .filter(|rule| matches!(rule.operation, AclOperation::All) || rule.operation == operation)
            {
                if is_host(&rule.host, caller.host) {
                    match rule.permission {
                        AclPermission::Allow => allowed.push((pattern_type, name.as_str())),
                        AclPermission::Deny => denied.push((pattern_type, name.as_str())),
                    }
                }
            }
        }
    }
    let wildcard = (PatternType::Literal, WILDCARD);
    if denied.contains(&wildcard) {
        return false;
    }
    denied.sort_unstable();
    let is_denied = |pattern_type, name: &str| {
        let is_named = pattern_type == PatternType::Literal
            && denied.binary_search(&(PatternType::Literal, name)).is_ok();
        let ends = name.char_indices().map(|(at, character)| at + character.len_utf8());
        is_named
            || ends
                .into_iter()
                .any(|end| denied.binary_search(&(PatternType::Prefixed, &name[..end])).is_ok())
    };
    allowed.contains(&wildcard) || allowed.iter().any(|(pattern_type, name)| !is_denied(*pattern_type, name))
}

/// Is the rule about this operation? Whoever may read, write, delete or alter may describe as well, and whoever may alter configs may
/// describe them; a denial denies what it names and no more.
fn covers(rule: &AclRule, operation: AclOperation) -> bool {
    use AclOperation::*;
    let is_named = rule.operation == All || rule.operation == operation;
    match (rule.permission, operation) {
        (AclPermission::Allow, Describe) => {
            is_named || matches!(rule.operation, Read | Write | Delete | Alter)
        }
        (AclPermission::Allow, DescribeConfigs) => is_named || rule.operation == AlterConfigs,
        _ => is_named,
    }
}

/// Addresses are compared, not their spellings: Kafka knows an IPv6 address only as Java writes it.
fn is_host(host: &str, caller: IpAddr) -> bool {
    host == WILDCARD
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical() == caller.to_canonical())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn rule(host: &str, operation: AclOperation, permission: AclPermission) -> AclRule {
        AclRule { host: host.into(), operation, permission }
    }

    #[test]
    fn permissions_imply_what_denials_do_not() {
        use AclOperation::*;
        for implies in [Read, Write, Delete, Alter, Describe, All] {
            assert!(covers(&rule("*", implies, AclPermission::Allow), Describe), "{implies:?}");
        }
        for implies in [AlterConfigs, DescribeConfigs, All] {
            assert!(covers(&rule("*", implies, AclPermission::Allow), DescribeConfigs), "{implies:?}");
        }
        for silent in [Create, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite] {
            assert!(!covers(&rule("*", silent, AclPermission::Allow), Describe), "{silent:?}");
        }
        assert!(!covers(&rule("*", Read, AclPermission::Deny), Describe));
        assert!(covers(&rule("*", All, AclPermission::Deny), Describe));
        assert!(!covers(&rule("*", Describe, AclPermission::Allow), Read));
    }

    #[test]
    fn a_host_is_an_address_however_it_is_written() {
        let here = IpAddr::from(Ipv4Addr::new(10, 0, 0, 7));
        let mapped = IpAddr::from(Ipv4Addr::new(10, 0, 0, 7).to_ipv6_mapped());
        let loopback = IpAddr::from(Ipv6Addr::LOCALHOST);
        assert!(is_host("*", here) && is_host("10.0.0.7", here) && is_host("10.0.0.7", mapped));
        // As Java writes it, and as everybody else does.
        assert!(is_host("0:0:0:0:0:0:0:1", loopback) && is_host("::1", loopback));
        assert!(!is_host("10.0.0.8", here) && !is_host("", here) && !is_host("localhost", loopback));
    }
}
