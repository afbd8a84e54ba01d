//! Two runs of one script, answer by answer and field by field.

use std::collections::{BTreeMap, BTreeSet};

use crate::conversation::{Exchange, Outcome};
use crate::normal::Normal;
use crate::value::Value;

/// Characters of a value that are shown.
const SHOWN_MAX: usize = 160;

/// Where the two said different things, and what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub api: String,
    /// `script/label`.
    pub step: String,
    /// The field; empty for the whole outcome.
    pub path: String,
    pub kafka: String,
    pub ottla: String,
}

/// Differences, each with the versions in which it shows.
pub type Differences = BTreeMap<Difference, BTreeSet<i16>>;

/// What a script has compared: api and version of every request that both have answered, or refused in their way.
pub type Covered = BTreeSet<(i16, i16)>;

pub fn compare(
    script: &str,
    marker: &str,
    kafka: &[Exchange],
    ottla: &[Exchange],
    differences: &mut Differences,
    covered: &mut Covered,
) {
    let (mut of_kafka, mut of_ottla) = (Normal::new(marker), Normal::new(marker));
    for (left, right) in kafka.iter().zip(ottla) {
        let api = left.api.name();
        let mut found = |path: &str, kafka: String, ottla: String| {
            let step = format!("{script}/{}", left.label);
            let difference = Difference { api: api.to_owned(), step, path: path.to_owned(), kafka, ottla };
            differences.entry(difference).or_default().insert(left.version);
        };
        if (&left.label, left.api, left.version) != (&right.label, right.api, right.version) {
            found("", format!("then {}", left.label), format!("then {}", right.label));
            return;
        }
        let is_asked =
            |outcome: &Outcome| !matches!(outcome, Outcome::Inexpressible | Outcome::NotAdvertised);
        if is_asked(&left.outcome) && is_asked(&right.outcome) {
            covered.insert((left.api.code(), left.version));
        }
        match (&left.outcome, &right.outcome) {
            (Outcome::Answer(left), Outcome::Answer(right)) => {
                let (left, right) = (of_kafka.of(api, left), of_ottla.of(api, right));
                fields("", &left, &right, &mut found);
            }
            // An API that is missing is said once, not with every request of it.
            (_, Outcome::NotAdvertised) => {}
            (left, right) if left == right => {}
            (left, right) => found("", shown_outcome(left), shown_outcome(right)),
        }
    }
    if kafka.len() != ottla.len() {
        let step = format!("{script}/the end");
        let api = kafka.first().or(ottla.first()).map_or("", |exchange| exchange.api.name()).to_owned();
        let (kafka, ottla) = (format!("{} requests", kafka.len()), format!("{} requests", ottla.len()));
        differences.entry(Difference { api, step, path: String::new(), kafka, ottla }).or_default();
    }
}

fn fields(path: &str, left: &Value, right: &Value, found: &mut impl FnMut(&str, String, String)) {
    match (left, right) {
        (Value::Struct(left), Value::Struct(right)) => {
            for ((name, left), (_, right)) in left.iter().zip(right) {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                fields(&inner, left, right, found);
            }
        }
        (Value::List(left), Value::List(right)) if left.len() == right.len() => {
            let inner = format!("{path}[]");
            for (left, right) in left.iter().zip(right) {
                fields(&inner, left, right, found);
            }
        }
        (Value::Keyed(left), Value::Keyed(right)) => {
            let names: BTreeSet<&String> = left.iter().chain(right).map(|(name, _)| name).collect();
            for name in names {
                let of = |items: &[(String, Value)]| {
                    items.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
                };
                let inner = format!("{path}[{name}]");
                match (of(left), of(right)) {
                    (Some(left), Some(right)) => fields(&inner, &left, &right, found),
                    (Some(_), None) => found(&inner, "there".to_owned(), "not there".to_owned()),
                    (None, _) => found(&inner, "not there".to_owned(), "there".to_owned()),
                }
            }
        }
        (left, right) if left == right => {}
        (left, right) => found(path, shown(left), shown(right)),
    }
}

fn shown_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answer(_) => "an answer".to_owned(),
        Outcome::Closed => "connection closed".to_owned(),
        Outcome::Silence => "no answer".to_owned(),
        Outcome::Unreadable(error) => format!("unreadable: {error}"),
        Outcome::NotAdvertised => "not advertised".to_owned(),
        Outcome::Inexpressible => "cannot be said".to_owned(),
    }
}

/// On one line, without the mark between the columns of the list.
fn shown(value: &Value) -> String {
    let text = value.to_string().replace('|', "¦");
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use protocol::ApiKey;
    use protocol::messages::HeartbeatResponse;

    use super::*;

    fn exchange(label: &str, outcome: Outcome) -> Exchange {
        Exchange { label: label.to_owned(), api: ApiKey::Heartbeat, version: 4, outcome }
    }

    fn answer(error_code: i16) -> Outcome {
        Outcome::Answer(Value::of(&HeartbeatResponse { error_code, ..Default::default() }).unwrap())
    }

    fn compared(kafka: &[Exchange], ottla: &[Exchange]) -> (Vec<Difference>, Covered) {
        let (mut differences, mut covered) = (Differences::new(), Covered::new());
        compare("s", "m", kafka, ottla, &mut differences, &mut covered);
        (differences.into_keys().collect(), covered)
    }

    #[test]
    fn a_field_that_differs_is_named_with_both_values() {
        let (differences, covered) = compared(&[exchange("a", answer(25))], &[exchange("a", answer(16))]);
        let expected = Difference {
            api: "Heartbeat".into(),
            step: "s/a".into(),
            path: "error_code".into(),
            kafka: "25".into(),
            ottla: "16".into(),
        };
        assert_eq!(differences, [expected]);
        assert_eq!(covered, Covered::from([(12, 4)]));
    }

    #[test]
    fn an_answer_is_not_the_end_of_a_connection() {
        let (differences, _) = compared(&[exchange("a", answer(0))], &[exchange("a", Outcome::Closed)]);
        assert_eq!(differences[0].ottla, "connection closed");
        let (differences, _) = compared(&[exchange("a", Outcome::Closed)], &[exchange("a", Outcome::Closed)]);
        assert!(differences.is_empty());
    }

    #[test]
    fn what_was_not_asked_is_not_covered() {
        let (differences, covered) =
            compared(&[exchange("a", answer(0))], &[exchange("a", Outcome::NotAdvertised)]);
        assert!(differences.is_empty() && covered.is_empty());
    }

    #[test]
    fn scripts_that_part_are_a_difference() {
        let (differences, _) = compared(&[exchange("a", answer(0))], &[]);
        assert_eq!(
            (differences[0].kafka.as_str(), differences[0].ottla.as_str()),
            ("1 requests", "0 requests")
        );
        let (differences, _) = compared(&[exchange("a", answer(0))], &[exchange("b", answer(0))]);
        assert_eq!(differences[0].kafka, "then a");
    }
}
