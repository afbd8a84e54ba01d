//! Subscriptions by regular expression (`SubscribedTopicRegex`). Kafka evaluates them with RE2; the syntax of the `regex` crate
//! is that of RE2, and it takes linear time as well. A topic matches when all of its name does.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::{ErrorCode, Str};
use regex::{Regex, RegexBuilder};

use super::event::Refusal;
use super::group::{Change, Matches};
use super::{Entry, Work};
use crate::groups::event::Now;
use crate::groups::settings::GroupSettings;

/// A name of a topic has 249 characters at most; a list of some hundred of them is no pattern any more.
const PATTERN_BYTES_MAX: usize = 16 << 10;
/// What one pattern may weigh when it is compiled.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// All topics are gone through again after this at the earliest, however often the catalog changes.
const LOOK_INTERVAL_MS: i64 = 10_000;

pub fn compile(pattern: &str) -> Result<Regex, Refusal> {
    let refuse = |why: String| {
        let message = format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {why}.");
        Refusal::new(ErrorCode::InvalidRegularExpression, message)
    };
    if pattern.len() > PATTERN_BYTES_MAX {
        let message = format!("SubscribedTopicRegex is longer than {PATTERN_BYTES_MAX} bytes.");
        return Err(Refusal::new(ErrorCode::InvalidRegularExpression, message));
    }
    // By itself first: of two halves of a group (`a)|(b`) the wrapping would make one.
    let plain = without_quotes(pattern);
    let build = |text: &str| {
        RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build()
    };
    build(&plain).map_err(|error| refuse(reason_of(&error.to_string())))?;
    build(&format!(r"\A(?:{plain})\z")).map_err(|error| refuse(reason_of(&error.to_string())))
}

/// RE2 takes what stands between `\Q` and `\E` as it is; the crate does not know that.
fn without_quotes(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(place) = rest.find('\\') {
        let (before, escape) = rest.split_at(place);
        plain.push_str(before);
        if let Some(quoted) = escape.strip_prefix(r"\Q") {
            let (quoted, behind) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            plain.push_str(&regex::escape(quoted));
            rest = behind;
        } else {
            // A backslash and what it escapes, which may be another backslash.
            let end = escape.char_indices().nth(2).map_or(escape.len(), |(end, _)| end);
            plain.push_str(&escape[..end]);
            rest = &escape[end..];
        }
    }
    plain.push_str(rest);
    plain
}

/// The last line of an error of the crate says what is wrong; those before show where.
fn reason_of(error: &str) -> String {
    error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// What the member that asks may see, and what it has brought: its pattern, compiled.
pub struct Sight<'a> {
    pub may_see: &'a dyn Fn(&str) -> bool,
    pub compiled: Option<(&'a Str, Regex)>,
}

impl Sight<'_> {
    /// One that was taken once is taken again, unless another release wrote it.
    fn compiled(&self, pattern: &Str) -> Option<Regex> {
        match &self.compiled {
            Some((brought, regex)) if *brought == pattern => Some(regex.clone()),
            _ => compile(pattern).ok(),
        }
    }
}

/// Looks up what has not been looked up yet, or may have changed. Says whether a regular expression stands for other topics now.
pub fn refresh(
    entry: &mut Entry,
    settings: &GroupSettings,
    sight: &Sight<'_>,
    now: Now,
    work: &mut Work,
) -> bool {
    let group = entry.group().expect("a member of it asks");
    if group.used_patterns().next().is_none() {
        return false;
    }
    let view = &settings.catalog;
    let version = view.version();
    let is_due = group.patterns_looked_up.is_none_or(|(at_version, at_ms)| {
        let age_ms = now.wall_ms.saturating_sub(at_ms);
        let is_old = age_ms >= settings.consumer_regex_refresh_interval_ms || at_version != version;
        // A clock that was set back must not keep the group from looking.
        is_old && !(0..LOOK_INTERVAL_MS).contains(&age_ms)
    });
    let is_wanted = |pattern: &&Str| is_due || !group.stored.patterns.contains_key(*pattern);
    let wanted: Vec<Str> = group.used_patterns().filter(is_wanted).cloned().collect();
    let mut has_changed = false;
    for pattern in wanted {
        let Some(regex) = sight.compiled(&pattern) else { continue };
        let topics = view.topic_names(&|name| regex.is_match(name) && (sight.may_see)(name));
        let topics: BTreeSet<Str> = topics.iter().map(Str::detached).collect();
        let group = entry.group().expect("a member of it asks");
        if group.stored.patterns.get(&pattern).is_some_and(|matches| matches.topics == topics) {
            continue;
        }
        has_changed = true;
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        let matches = Arc::new(Matches { topics, version, at_ms: now.wall_ms });
        work.put(entry, Change::Pattern { pattern, matches: Some(matches) });
    }
    if is_due {
        let group = entry.group_mut().expect("a member of it asks");
        group.patterns_looked_up = Some((version, now.wall_ms));
    }
    has_changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_re2_and_match_whole_names() {
        let matches = |pattern: &str, name: &str| compile(pattern).unwrap().is_match(name);
        assert!(
            matches("clicks", "clicks") && !matches("clicks", "clicks-eu") && !matches("clicks", "my-clicks")
        );
        assert!(matches("a|b.*", "bcd") && matches("(?i)CLICKS", "clicks") && matches("[[:alpha:]]+", "abc"));
        assert!(matches(r"\Qa.b\E.*", "a.b-c") && !matches(r"\Qa.b\E.*", "axb"));
        assert!(matches(r"\Qa+", "a+") && matches(r"a\.b", "a.b"));
        assert!(matches("", "") && !matches("", "a"));
        for bad in ["(", "*", "[", "(?=a)", r"(a)\1", "a{1,2000}{1,2000}", r"a\"] {
            let refusal = compile(bad).unwrap_err();
            assert_eq!(refusal.error, ErrorCode::InvalidRegularExpression, "{bad}");
        }
    }
}
