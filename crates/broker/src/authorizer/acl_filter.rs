//! ACLs as requests name them: numbers and texts that must make sense (KIP-140, KIP-290).

use catalog::acl::{
    Acl, AclOperation, AclPermission, AclResourceType, AclRule, PatternType, ResourcePattern, WILDCARD,
};
use protocol::messages::create_acls_request::AclCreation;
use protocol::{ErrorCode, Str};

use super::rights::CLUSTER_NAME;
use crate::error::ApiError;

/// Of a name, a principal or a host. Kafka takes what a request can hold; the catalog keeps them in memory for ever.
const TEXT_LEN_MAX: usize = 1024;
/// "Whatever it is", in place of a type, an operation or a permission.
const ANY: i8 = 1;
/// As the type of a pattern: the patterns that a resource of this name is found by.
const MATCH: i8 = 2;

fn invalid(message: impl Into<Str>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

/// What somebody wants to be an ACL.
pub(crate) fn acl_to_create(creation: &AclCreation) -> Result<Acl, ApiError> {
    let unknown = |what: &'static str, code: i8| move || invalid(format!("Invalid {what} {code}"));
    let resource_type = AclResourceType::from_code(creation.resource_type)
        .ok_or_else(unknown("resourceType", creation.resource_type))?;
    if resource_type == AclResourceType::Cluster && creation.resource_name != CLUSTER_NAME {
        return Err(invalid(format!("The only valid name for the CLUSTER resource is {CLUSTER_NAME}")));
    }
    if creation.resource_name.is_empty() {
        return Err(invalid("Resource name should not be empty"));
    }
    let pattern_type = PatternType::from_code(creation.resource_pattern_type)
        .ok_or_else(unknown("patternType", creation.resource_pattern_type))?;
    let operation =
        AclOperation::from_code(creation.operation).ok_or_else(unknown("operation", creation.operation))?;
    let permission = AclPermission::from_code(creation.permission_type)
        .ok_or_else(unknown("permissionType", creation.permission_type))?;
    if !creation.principal.contains(':') {
        return Err(invalid("A principal is written as its type, a colon and its name"));
    }
    let texts = [&creation.resource_name, &creation.principal, &creation.host];
    if texts.iter().any(|text| text.len() > TEXT_LEN_MAX) {
        return Err(invalid(format!("A name, a principal or a host has at most {TEXT_LEN_MAX} bytes")));
    }
    Ok(Acl {
        pattern: ResourcePattern { resource_type, pattern_type, name: creation.resource_name.clone() },
        principal: creation.principal.clone(),
        rule: AclRule { host: creation.host.clone(), operation, permission },
    })
}

/// Kafka's `AclBindingFilter`: what is none does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AclFilter {
    resource_type: Option<AclResourceType>,
    pattern: PatternFilter,
    name: Option<Str>,
    principal: Option<Str>,
    host: Option<Str>,
    operation: Option<AclOperation>,
    permission: Option<AclPermission>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PatternFilter {
    Any,
    Match,
    Is(PatternType),
}

/// The seven fields of a filter, as both requests have them.
pub(crate) struct FilterFields<'a> {
    pub resource_type: i8,
    pub name: &'a Option<Str>,
    pub pattern_type: i8,
    pub principal: &'a Option<Str>,
    pub host: &'a Option<Str>,
    pub operation: i8,
    pub permission: i8,
}

impl AclFilter {
    pub fn of(fields: &FilterFields<'_>) -> Result<AclFilter, ApiError> {
        let resource_type = or_any(fields.resource_type, AclResourceType::from_code);
        let pattern = match fields.pattern_type {
            ANY => Some(PatternFilter::Any),
            MATCH => Some(PatternFilter::Match),
            code => PatternType::from_code(code).map(PatternFilter::Is),
        };
        let (Some(resource_type), Some(pattern)) = (resource_type, pattern) else {
            return Err(invalid("Unknown patternFilter."));
        };
        let operation = or_any(fields.operation, AclOperation::from_code);
        let permission = or_any(fields.permission, AclPermission::from_code);
        let (Some(operation), Some(permission)) = (operation, permission) else {
            return Err(invalid("Unknown entryFilter."));
        };
        Ok(AclFilter {
            resource_type,
            pattern,
            name: fields.name.clone(),
            principal: fields.principal.clone(),
            host: fields.host.clone(),
            operation,
            permission,
        })
    }

    pub fn matches(&self, acl: &Acl) -> bool {
        let Acl { pattern, principal, rule } = acl;
        fn is<T: PartialEq>(wanted: &Option<T>, actual: &T) -> bool {
            wanted.as_ref().is_none_or(|wanted| wanted == actual)
        }
        is(&self.resource_type, &pattern.resource_type)
            && self.matches_pattern(pattern)
            && is(&self.principal, principal)
            && is(&self.host, &rule.host)
            && is(&self.operation, &rule.operation)
            && is(&self.permission, &rule.permission)
    }

    fn matches_pattern(&self, pattern: &ResourcePattern) -> bool {
        let is_type = match self.pattern {
            PatternFilter::Is(pattern_type) => pattern_type == pattern.pattern_type,
            PatternFilter::Any | PatternFilter::Match => true,
        };
        let Some(name) = &self.name else { return is_type };
        is_type
            && match (self.pattern, pattern.pattern_type) {
                (PatternFilter::Any | PatternFilter::Is(_), _) => *name == pattern.name,
                (PatternFilter::Match, PatternType::Literal) => {
                    *name == pattern.name || pattern.name == WILDCARD
                }
                (PatternFilter::Match, PatternType::Prefixed) => name.starts_with(pattern.name.as_str()),
            }
    }
}

/// None: no such code. Some(None): any.
fn or_any<T>(code: i8, from_code: fn(i8) -> Option<T>) -> Option<Option<T>> {
    match code {
        ANY => Some(None),
        code => from_code(code).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn creation() -> AclCreation {
        AclCreation {
            resource_type: 2,
            resource_name: Str::from("orders"),
            resource_pattern_type: 3,
            principal: Str::from("User:alice"),
            host: Str::from("*"),
            operation: 3,
            permission_type: 3,
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_acl() {
        assert!(acl_to_create(&creation()).is_ok());
        let wrong: [fn(&mut AclCreation); 11] = [
            |acl| acl.resource_type = 1,
            |acl| acl.resource_type = 8,
            |acl| acl.resource_pattern_type = 2,
            |acl| acl.resource_pattern_type = 1,
            |acl| acl.operation = 1,
            |acl| acl.operation = 16,
            |acl| acl.permission_type = 1,
            |acl| acl.resource_name = Str::default(),
            |acl| acl.principal = Str::from("alice"),
            |acl| acl.resource_type = 4,
            |acl| acl.host = Str::from("h".repeat(TEXT_LEN_MAX + 1)),
        ];
        for (number, spoil) in wrong.iter().enumerate() {
            let mut creation = creation();
            spoil(&mut creation);
            let error = acl_to_create(&creation).expect_err("it makes no sense");
            assert_eq!(error.code, ErrorCode::InvalidRequest, "{number}");
        }
        let cluster = AclCreation { resource_type: 4, resource_name: Str::from(CLUSTER_NAME), ..creation() };
        assert!(acl_to_create(&cluster).is_ok());
    }

    #[test]
    fn a_filter_finds_by_pattern_or_by_the_name_of_a_resource() {
        let acl = |pattern_type: i8, name: &str| {
            let creation = AclCreation {
                resource_name: Str::from(name),
                resource_pattern_type: pattern_type,
                ..creation()
            };
            acl_to_create(&creation).expect("an ACL")
        };
        let acls =
            [acl(3, "team-a"), acl(4, "team-"), acl(4, "te"), acl(3, "*"), acl(3, "team-"), acl(4, "x")];
        let found = |pattern_type: i8, name: Option<&str>| {
            let filter = AclFilter::of(&FilterFields {
                resource_type: 2,
                name: &name.map(Str::from),
                pattern_type,
                principal: &None,
                host: &None,
                operation: 1,
                permission: 1,
            });
            let filter = filter.expect("a filter");
            (0..acls.len()).filter(|at| filter.matches(&acls[*at])).collect::<Vec<_>>()
        };
        assert_eq!(found(1, None), [0, 1, 2, 3, 4, 5]);
        assert_eq!(found(2, None), [0, 1, 2, 3, 4, 5]);
        assert_eq!(found(3, None), [0, 3, 4]);
        assert_eq!(found(4, None), [1, 2, 5]);
        assert_eq!(found(1, Some("team-")), [1, 4]);
        assert_eq!(found(2, Some("team-a")), [0, 1, 2, 3]);
        assert_eq!(found(3, Some("team-")), [4]);
        assert_eq!(found(4, Some("team-")), [1]);
        assert_eq!(found(3, Some("*")), [3]);
    }
}
