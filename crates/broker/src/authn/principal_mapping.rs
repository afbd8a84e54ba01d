//! `ssl.principal.mapping.rules`: the name of a client whose certificate has this distinguished name.
//!
//! ```text
//!   RULE:^CN=(.*?),OU=.*$/$1/L, DEFAULT
//! ```
//! The first rule whose pattern matches the whole name wins; `L` and `U` change the case of the result. Without a rule that matches
//! there is no principal and no connection.

use regex::Regex;

#[derive(Debug, Clone)]
pub struct PrincipalMapping {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
enum Rule {
    Default,
    Replace { pattern: Regex, replacement: Vec<Piece>, case: Case },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Kept,
    Lower,
    Upper,
}

impl Default for PrincipalMapping {
    fn default() -> Self {
        Self { rules: vec![Rule::Default] }
    }
}

impl PrincipalMapping {
    /// Why not is for whoever wrote the rules.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let behind;
            if let Some(rule) = rest.strip_prefix("RULE:") {
                let (pattern, after) = until_slash(rule).ok_or("a rule is RULE:pattern/replacement/")?;
                let (replacement, after) = until_slash(after).ok_or("a rule is RULE:pattern/replacement/")?;
                let (case, after) = match after.as_bytes().first() {
                    Some(b'L') => (Case::Lower, &after[1..]),
                    Some(b'U') => (Case::Upper, &after[1..]),
                    _ => (Case::Kept, after),
                };
                rules.push(rule_of(pattern, replacement, case)?);
                behind = after;
            } else if let Some(after) = rest.strip_prefix("DEFAULT") {
                rules.push(Rule::Default);
                behind = after;
            } else {
                return Err(format!("{rest} is neither a RULE: nor DEFAULT"));
            }
            let behind = behind.trim_start();
            rest = match behind.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if behind.is_empty() => behind,
                None => return Err(format!("{behind} is behind the end of a rule")),
            };
        }
        Ok(Self { rules })
    }

    pub fn name(&self, distinguished_name: &str) -> Option<String> {
        self.rules.iter().find_map(|rule| match rule {
            Rule::Default => Some(distinguished_name.to_owned()),
            Rule::Replace { pattern, replacement, case } => {
                let groups = pattern.captures(distinguished_name)?;
                let mut name = String::new();
                for piece in replacement {
                    match piece {
                        Piece::Text(text) => name.push_str(text),
                        Piece::Group(group) => {
                            name.push_str(groups.get(*group).map_or("", |found| found.as_str()))
                        }
                    }
                }
                Some(match case {
                    Case::Kept => name,
                    Case::Lower => name.to_lowercase(),
                    Case::Upper => name.to_uppercase(),
                })
            }
        })
    }
}

/// A slash in a pattern or a replacement has a backslash in front.
fn until_slash(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'/' if !is_escaped => return Some((&text[..at], &text[at + 1..])),
            _ => is_escaped = byte == b'\\' && !is_escaped,
        }
    }
    None
}

fn rule_of(pattern: &str, replacement: &str, case: Case) -> Result<Rule, String> {
    let matcher = Regex::new(&format!("^(?:{pattern})$")).map_err(|error| format!("{pattern}: {error}"))?;
    let groups = matcher.captures_len() - 1;
    Ok(Rule::Replace { pattern: matcher, replacement: pieces(replacement, groups), case })
}

/// As Java reads a replacement: `$n` is a group, a backslash takes the next character as it is. A group that the pattern does not
/// have is text, and of more digits than there are groups the last ones are text.
fn pieces(text: &str, groups: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => literal.extend(characters.next()),
            '$' if characters.peek().is_some_and(char::is_ascii_digit) => {
                let mut group = 0;
                let mut digits = 0;
                while let Some(digit) = characters.peek().and_then(|digit| digit.to_digit(10)) {
                    let longer = group * 10 + digit as usize;
                    if longer > groups {
                        break;
                    }
                    (group, digits) = (longer, digits + 1);
                    characters.next();
                }
                if digits == 0 {
                    literal.push('$');
                } else {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    pieces.push(Piece::Group(group));
                }
            }
            other => literal.push(other),
        }
    }
    pieces.push(Piece::Text(literal));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(rules: &str, dn: &str) -> Option<String> {
        PrincipalMapping::parse(rules).unwrap_or_else(|error| panic!("{rules}: {error}")).name(dn)
    }

    /// The rules and names of KIP-371.
    #[test]
    fn the_first_rule_that_matches_names_the_principal() {
        let rules = r"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/,
            RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L, RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/U,DEFAULT";
        for (dn, expected) in [
            ("CN=duke,OU=ServiceUsers,O=Org,C=US", "duke"),
            ("CN=Duke,OU=SME,O=mycp,L=Fulton,ST=MD,C=US", "duke@sme"),
            ("cn=webserver,dc=Example", "WEBSERVER"),
            ("O=nobody", "O=nobody"),
        ] {
            assert_eq!(name(rules, dn).as_deref(), Some(expected), "{dn}");
        }
        assert_eq!(name("RULE:^CN=(.*),O=x$/$1/", "CN=a,O=y"), None);
        assert_eq!(name("", "CN=a"), None);
        assert_eq!(name("DEFAULT", "CN=a").as_deref(), Some("CN=a"));
    }

    #[test]
    fn replacements_are_read_as_java_reads_them() {
        for (rules, expected) in [
            (r"RULE:CN=(.*)/$1@$4/", "a@$4"),
            (r"RULE:CN=(.*)/$12/", "a2"),
            (r"RULE:CN=(.*)/x\$1\/\\/", r"x$1/\"),
            (r"RULE:CN=.*/$0/", "CN=a"),
            (r"RULE:CN\=(\w)/<$1>/U", "<A>"),
        ] {
            assert_eq!(name(rules, "CN=a").as_deref(), Some(expected), "{rules}");
        }
        for wrong in
            ["RULE:CN=(.*)", "RULE:CN=(.*)/$1", "RULE:((/x/", "OTHER", "DEFAULT DEFAULT", "RULE:a/b/LX"]
        {
            assert!(PrincipalMapping::parse(wrong).is_err(), "{wrong}");
        }
    }
}
