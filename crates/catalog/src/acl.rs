//! Access control lists: who may, and who may not, do what with which resource. Kafka's model and Kafka's numbers (KIP-11, KIP-290).
//!
//! ```text
//!   Acl = pattern of a resource (type, literal or prefixed, name)  →  entry (principal, host, operation, allow or deny)
//! ```
//! [`Acls`] is the part of the state that has them, kept so that the few that matter for one resource and one principal are found
//! without a look at the others. What they come to is decided in `broker::authorizer`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;

use protocol::Str;

use crate::encoding::{DecodeError, Decoder, Encoder};
use crate::record::decode_list;

/// As a literal name: every resource of the type. As a host: every host.
pub const WILDCARD: &str = "*";
/// Every principal, whatever its type.
pub const WILDCARD_PRINCIPAL: &str = "User:*";

/// Declares an enum that stands for Kafka's codes; `ANY` (1) and `UNKNOWN` (0) are of filters and never of an ACL.
macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $code:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($variant = $code,)+
        }

        impl $name {
            pub const ALL_OF_THEM: &'static [$name] = &[$($name::$variant,)+];

            pub fn from_code(code: i8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }

            pub fn code(self) -> i8 {
                self as i8
            }
        }
    };
}

codes! {
    /// Kafka's `ResourceType` of ACLs; config resources have numbers of their own ([`crate::ResourceType`]).
    AclResourceType {
        Topic = 2,
        Group = 3,
        Cluster = 4,
        TransactionalId = 5,
        DelegationToken = 6,
        User = 7,
    }
}

codes! {
    /// Whether the name of a pattern is that of a resource (or the wildcard), or the beginning of names.
    PatternType {
        Literal = 3,
        Prefixed = 4,
    }
}

codes! {
    AclOperation {
        All = 2,
        Read = 3,
        Write = 4,
        Create = 5,
        Delete = 6,
        Alter = 7,
        Describe = 8,
        ClusterAction = 9,
        DescribeConfigs = 10,
        AlterConfigs = 11,
        IdempotentWrite = 12,
        CreateTokens = 13,
        DescribeTokens = 14,
        TwoPhaseCommit = 15,
    }
}

codes! {
    AclPermission {
        Deny = 2,
        Allow = 3,
    }
}

/// Which resources an ACL is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourcePattern {
    pub resource_type: AclResourceType,
    pub pattern_type: PatternType,
    pub name: Str,
}

/// What an ACL says of a principal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AclRule {
    /// An address as text, or [`WILDCARD`].
    pub host: Str,
    pub operation: AclOperation,
    pub permission: AclPermission,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    pub pattern: ResourcePattern,
    /// Type and name: `User:alice`.
    pub principal: Str,
    pub rule: AclRule,
}

impl fmt::Display for Acl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ResourcePattern { resource_type, pattern_type, name } = &self.pattern;
        let AclRule { host, operation, permission } = &self.rule;
        let principal = &self.principal;
        write!(
            out,
            "{permission:?} {operation:?} to {principal} from {host} on {resource_type:?} {pattern_type:?} {name}"
        )
    }
}

impl Acl {
    /// Of an encoded ACL: three strings and four numbers.
    pub(crate) const LEN_MIN: usize = 3 * 4 + 4;

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.u8(self.pattern.resource_type as u8);
        out.u8(self.pattern.pattern_type as u8);
        out.str(&self.pattern.name);
        out.str(&self.principal);
        out.str(&self.rule.host);
        out.u8(self.rule.operation as u8);
        out.u8(self.rule.permission as u8);
    }

    pub(crate) fn decode(bytes: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            pattern: ResourcePattern {
                resource_type: decode_code(bytes, AclResourceType::from_code)?,
                pattern_type: decode_code(bytes, PatternType::from_code)?,
                name: bytes.str()?,
            },
            principal: bytes.str()?,
            rule: AclRule {
                host: bytes.str()?,
                operation: decode_code(bytes, AclOperation::from_code)?,
                permission: decode_code(bytes, AclPermission::from_code)?,
            },
        })
    }

    /// Memory of its own: what a request brings is slices of its frame.
    fn detached(&self) -> Acl {
        let ResourcePattern { resource_type, pattern_type, ref name } = self.pattern;
        let AclRule { ref host, operation, permission } = self.rule;
        Acl {
            pattern: ResourcePattern { resource_type, pattern_type, name: name.detached() },
            principal: self.principal.detached(),
            rule: AclRule { host: host.detached(), operation, permission },
        }
    }
}

fn decode_code<T>(bytes: &mut Decoder<'_>, from_code: fn(i8) -> Option<T>) -> Result<T, DecodeError> {
    let code = bytes.u8()?;
    from_code(code as i8).ok_or_else(|| bytes.impossible(u64::from(code)))
}

/// The rules of one pattern, by principal. Never empty, and no principal in it is without rules.
pub type RulesByPrincipal = BTreeMap<Str, BTreeSet<AclRule>>;

/// All ACLs of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acls {
    literal: BTreeMap<AclResourceType, BTreeMap<Str, RulesByPrincipal>>,
    prefixed: BTreeMap<AclResourceType, BTreeMap<Str, RulesByPrincipal>>,
    /// The patterns that name a principal: for "does it have this right anywhere?".
    patterns: BTreeMap<Str, BTreeMap<AclResourceType, BTreeSet<(PatternType, Str)>>>,
    count: usize,
}

impl Acls {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn contains(&self, acl: &Acl) -> bool {
        let Acl { pattern, principal, rule } = acl;
        let rules = self.of(pattern.pattern_type).get(&pattern.resource_type);
        let rules = rules.and_then(|names| names.get(&pattern.name)?.get(principal));
        rules.is_some_and(|rules| rules.contains(rule))
    }

    /// Whether it was not there before.
    pub(crate) fn insert(&mut self, acl: &Acl) -> bool {
        if self.contains(acl) {
            return false;
        }
        let Acl { pattern, principal, rule } = acl.detached();
        let ResourcePattern { resource_type, pattern_type, name } = pattern;
        self.patterns
            .entry(principal.clone())
            .or_default()
            .entry(resource_type)
            .or_default()
            .insert((pattern_type, name.clone()));
        let names = self.of_mut(pattern_type).entry(resource_type).or_default();
        names.entry(name).or_default().entry(principal).or_default().insert(rule);
        self.count += 1;
        true
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, acl: &Acl) -> bool {
        if !self.contains(acl) {
            return false;
        }
        let Acl { pattern, principal, rule } = acl;
        let ResourcePattern { resource_type, pattern_type, name } = pattern;
        self.count -= 1;
        let types = self.of_mut(*pattern_type);
        remove_within(types, resource_type, |names| {
            remove_within(names, name, |principals| {
                remove_within(principals, principal, |rules| {
                    rules.remove(rule);
                    rules.is_empty()
                });
                principals.is_empty()
            });
            names.is_empty()
        });
        let rules = self.of(*pattern_type).get(resource_type).and_then(|names| names.get(name));
        if rules.is_none_or(|principals| !principals.contains_key(principal)) {
            remove_within(&mut self.patterns, principal, |types| {
                remove_within(types, resource_type, |patterns| {
                    patterns.remove(&(*pattern_type, name.clone()));
                    patterns.is_empty()
                });
                types.is_empty()
            });
        }
        true
    }

    /// The patterns that a resource matches: its own name, the wildcard, and every prefix of its name that somebody wrote.
    pub fn matching(
        &self,
        resource_type: AclResourceType,
        name: &str,
        mut visit: impl FnMut(&RulesByPrincipal),
    ) {
        if let Some(names) = self.literal.get(&resource_type) {
            names.get(name).into_iter().for_each(&mut visit);
            if name != WILDCARD {
                names.get(WILDCARD).into_iter().for_each(&mut visit);
            }
        }
        let Some(prefixes) = self.prefixed.get(&resource_type) else { return };
        // From the longest one down: what stands before it in the order is a prefix, or tells how long the next one can be.
        let mut end = Bound::Included(name);
        while let Some((prefix, rules)) = prefixes.range::<str, _>((Bound::Unbounded, end)).next_back() {
            let shared = shared_len(name, prefix);
            end = match shared == prefix.len() {
                true => {
                    visit(rules);
                    Bound::Excluded(&name[..shared])
                }
                false => Bound::Included(&name[..shared]),
            };
        }
    }

    /// The rules that name a principal, of all patterns of a type.
    pub fn of_principal<'a>(
        &'a self,
        resource_type: AclResourceType,
        principal: &'a str,
    ) -> impl Iterator<Item = (PatternType, &'a Str, &'a BTreeSet<AclRule>)> + use<'a> {
        let patterns = self.patterns.get(principal).and_then(|types| types.get(&resource_type));
        patterns.into_iter().flatten().filter_map(move |(pattern_type, name)| {
            let rules = self.of(*pattern_type).get(&resource_type)?.get(name)?.get(principal)?;
            Some((*pattern_type, name, rules))
        })
    }

    /// Ordered by pattern type, resource type, name and principal.
    pub fn iter(&self) -> impl Iterator<Item = Acl> + '_ {
        let both = [(PatternType::Literal, &self.literal), (PatternType::Prefixed, &self.prefixed)];
        both.into_iter().flat_map(|(pattern_type, types)| {
            types.iter().flat_map(move |(resource_type, names)| {
                names.iter().flat_map(move |(name, principals)| {
                    let pattern =
                        ResourcePattern { resource_type: *resource_type, pattern_type, name: name.clone() };
                    principals.iter().flat_map(move |(principal, rules)| {
                        let pattern = pattern.clone();
                        rules.iter().map(move |rule| Acl {
                            pattern: pattern.clone(),
                            principal: principal.clone(),
                            rule: rule.clone(),
                        })
                    })
                })
            })
        })
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.count(self.len());
        self.iter().for_each(|acl| acl.encode(out));
    }

    pub(crate) fn decode(bytes: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut acls = Acls::default();
        for acl in decode_list(bytes, Acl::LEN_MIN, Acl::decode)? {
            acls.insert(&acl);
        }
        Ok(acls)
    }

    fn of(&self, pattern_type: PatternType) -> &BTreeMap<AclResourceType, BTreeMap<Str, RulesByPrincipal>> {
        match pattern_type {
            PatternType::Literal => &self.literal,
            PatternType::Prefixed => &self.prefixed,
        }
    }

    fn of_mut(
        &mut self,
        pattern_type: PatternType,
    ) -> &mut BTreeMap<AclResourceType, BTreeMap<Str, RulesByPrincipal>> {
        match pattern_type {
            PatternType::Literal => &mut self.literal,
            PatternType::Prefixed => &mut self.prefixed,
        }
    }
}

/// Removes something within an entry, and the entry if nothing is left of it.
fn remove_within<K: Ord, V>(map: &mut BTreeMap<K, V>, key: &K, is_empty: impl FnOnce(&mut V) -> bool) {
    if map.get_mut(key).is_some_and(is_empty) {
        map.remove(key);
    }
}

/// How many bytes both begin with, in whole characters.
fn shared_len(name: &str, prefix: &str) -> usize {
    let shared = name.bytes().zip(prefix.bytes()).take_while(|(left, right)| left == right).count();
    name.floor_char_boundary(shared)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acl(pattern_type: PatternType, name: &str, principal: &str, host: &str) -> Acl {
        Acl {
            pattern: ResourcePattern {
                resource_type: AclResourceType::Topic,
                pattern_type,
                name: Str::from(name),
            },
            principal: Str::from(principal),
            rule: AclRule {
                host: Str::from(host),
                operation: AclOperation::Read,
                permission: AclPermission::Allow,
            },
        }
    }

    fn names() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "é", "ê", "*", "z"]), 0..5)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        /// The way down through the prefixes finds those that a look at each of them finds.
        #[test]
        fn what_matches_is_found_without_a_look_at_all(
            patterns in prop::collection::btree_set((prop::bool::ANY, names()), 0..40),
            name in names(),
        ) {
            let mut acls = Acls::default();
            for (is_prefix, pattern) in &patterns {
                let pattern_type = if *is_prefix { PatternType::Prefixed } else { PatternType::Literal };
                acls.insert(&acl(pattern_type, pattern, pattern, "*"));
            }
            let mut found = Vec::new();
            acls.matching(AclResourceType::Topic, &name, |rules| found.extend(rules.keys().map(Str::to_string)));
            let matches = |(is_prefix, pattern): &&(bool, String)| match is_prefix {
                true => name.starts_with(pattern.as_str()),
                false => *pattern == name || pattern == WILDCARD,
            };
            let mut expected: Vec<String> = patterns.iter().filter(matches).map(|(_, pattern)| pattern.clone()).collect();
            expected.sort();
            found.sort();
            prop_assert_eq!(found, expected);
        }

        /// Whatever came and went in between, only what there is counts, and a snapshot brings it back.
        #[test]
        fn what_was_removed_leaves_no_trace(
            steps in prop::collection::vec((prop::bool::ANY, names(), prop::sample::select(vec!["User:a", "User:*"]), 0..2u8), 0..60),
        ) {
            let mut acls = Acls::default();
            let mut model = BTreeSet::new();
            for (is_removal, name, principal, host) in steps {
                let acl = acl(PatternType::Prefixed, &name, principal, if host == 0 { "*" } else { "10.0.0.1" });
                match is_removal {
                    true => prop_assert_eq!(acls.remove(&acl), model.remove(&acl)),
                    false => prop_assert_eq!(acls.insert(&acl), model.insert(acl.clone())),
                }
            }
            prop_assert_eq!(acls.len(), model.len());
            prop_assert!(acls.iter().eq(model.iter().cloned()));
            let mut fresh = Acls::default();
            model.iter().for_each(|acl| assert!(fresh.insert(acl)));
            prop_assert_eq!(&fresh, &acls);
            for principal in ["User:a", "User:*"] {
                let of = acls.of_principal(AclResourceType::Topic, principal).map(|(_, _, rules)| rules.len()).sum::<usize>();
                prop_assert_eq!(of, model.iter().filter(|acl| acl.principal == *principal).count());
            }
            let mut out = Encoder::default();
            acls.encode(&mut out);
            let bytes = out.finish();
            let mut input = Decoder::new(&bytes, "acls");
            prop_assert_eq!(&Acls::decode(&mut input).unwrap(), &acls);
            prop_assert_eq!(input.left(), 0);
        }
    }
}
