//! An answer as a tree. The generated messages have no reflection, and need none for this: what `{:?}` writes of them names every
//! field, and this reads it back.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

/// Deeper than any of Kafka's messages.
const DEPTH_MAX: usize = 64;
/// Characters of an id as Kafka shows it. No number of a message has as many.
const UUID_LEN: usize = 22;

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// As it was written: equal numbers are written equally.
    Float(String),
    Text(String),
    /// A topic id, a directory id.
    Uuid(String),
    /// Escaped as Rust does it.
    Bytes(String),
    /// What stands for a value that differs from run to run: `<topic_id 2>`, `<time>`.
    Stand(String),
    List(Vec<Value>),
    /// A list whose elements are named by one of their fields.
    Keyed(Vec<(String, Value)>),
    Struct(Vec<(String, Value)>),
}

impl Value {
    /// Reads what `{message:?}` writes.
    pub fn of(message: &dyn fmt::Debug) -> Result<Value> {
        let text = format!("{message:?}");
        let mut parser = Parser { rest: &text, depth: 0 };
        let value = parser.value().with_context(|| format!("cannot read {text}"))?;
        ensure!(parser.rest.is_empty(), "something stands behind the value: {}", parser.rest);
        Ok(value)
    }

    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Struct(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// As it stands in `docs/differences.md`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, open: &str, items: &[(String, Value)], close: &str| {
            f.write_str(open)?;
            for (index, (name, value)) in items.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                match name.is_empty() {
                    true => write!(f, "{comma}{value}")?,
                    false => write!(f, "{comma}{name}: {value}")?,
                }
            }
            f.write_str(close)
        };
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Float(text) | Value::Uuid(text) => f.write_str(text),
            Value::Bytes(text) => write!(f, "b\"{text}\""),
            Value::Stand(text) => write!(f, "<{text}>"),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(|item| (String::new(), item.clone())).collect();
                list(f, "[", &items, "]")
            }
            Value::Keyed(items) => list(f, "[", items, "]"),
            Value::Struct(fields) => list(f, "{", fields, "}"),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn value(&mut self) -> Result<Value> {
        self.depth += 1;
        ensure!(self.depth < DEPTH_MAX, "too deep");
        let value = self.any();
        self.depth -= 1;
        value
    }

    fn any(&mut self) -> Result<Value> {
        if self.takes("b\"") {
            return Ok(Value::Bytes(self.until_quote()?));
        }
        if self.takes("\"") {
            return Ok(Value::Text(unescaped(&self.until_quote()?)?));
        }
        if self.takes("[") {
            let mut items = Vec::new();
            while !self.takes("]") {
                items.push(self.value()?);
                self.takes(", ");
            }
            return Ok(Value::List(items));
        }
        let word_len = self.rest.find([',', ' ', '}', ']', ')', '(', '{']).unwrap_or(self.rest.len());
        let word = self.rest[..word_len].to_owned();
        self.rest = &self.rest[word_len..];
        if self.takes(" { ") {
            return self.fields();
        }
        if self.takes("(") {
            return self.tuple(&word);
        }
        bare(&word)
    }

    fn fields(&mut self) -> Result<Value> {
        let mut fields = Vec::new();
        loop {
            let (name, rest) = self.rest.split_once(": ").context("a field has a name")?;
            self.rest = rest;
            fields.push((name.to_owned(), self.value()?));
            if self.takes(" }") {
                return Ok(Value::Struct(fields));
            }
            ensure!(self.takes(", "), "a comma is missing before {}", self.rest);
        }
    }

    fn tuple(&mut self, word: &str) -> Result<Value> {
        // Record batches show their size only. A script that asks what is in them decodes them.
        if word == "Records" {
            let (_, rest) = self.rest.split_once(')').context("an open bracket")?;
            self.rest = rest;
            return Ok(Value::Stand("records".to_owned()));
        }
        ensure!(word == "Some", "what is {word}(…)?");
        let value = self.value()?;
        ensure!(self.takes(")"), "a bracket is missing before {}", self.rest);
        Ok(value)
    }

    fn takes(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Up to the closing quote, which goes.
    fn until_quote(&mut self) -> Result<String> {
        let mut escaped = false;
        for (at, c) in self.rest.char_indices() {
            match c {
                '"' if !escaped => {
                    let text = self.rest[..at].to_owned();
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        bail!("a quote is missing")
    }
}

fn bare(word: &str) -> Result<Value> {
    if word.len() == UUID_LEN {
        return Ok(Value::Uuid(word.to_owned()));
    }
    Ok(match word {
        "None" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        // A message without fields.
        _ if word.starts_with(|c: char| c.is_ascii_uppercase()) => Value::Struct(Vec::new()),
        _ => match word.parse::<i64>() {
            Ok(number) => Value::Int(number),
            Err(_) => {
                word.parse::<f64>().with_context(|| format!("what is {word:?}?"))?;
                Value::Float(word.to_owned())
            }
        },
    })
}

/// Without the escapes of Rust's `{:?}` for text.
fn unescaped(text: &str) -> Result<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next().context("an escape at the end")? {
            'n' => plain.push('\n'),
            'r' => plain.push('\r'),
            't' => plain.push('\t'),
            '0' => plain.push('\0'),
            'u' => {
                let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                let code = u32::from_str_radix(&code, 16)?;
                plain.push(char::from_u32(code).context("no character")?);
            }
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::messages::all::ALL;
    use protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};
    use protocol::messages::{JoinGroupResponse, MetadataResponse};
    use protocol::{Str, Uuid};

    use super::*;

    #[test]
    fn an_answer_becomes_a_tree_with_all_its_fields() {
        let answer = MetadataResponse {
            brokers: vec![MetadataResponseBroker { host: "a \"b\"\n\u{7f}".into(), ..Default::default() }],
            cluster_id: Some("c, } ]".into()),
            topics: vec![MetadataResponseTopic {
                topic_id: Uuid::from_u128(u128::MAX),
                name: None,
                ..Default::default()
            }],
            ..Default::default()
        };
        let value = Value::of(&answer).unwrap();
        assert_eq!(value.field("controller_id"), Some(&Value::Int(-1)));
        assert_eq!(value.field("cluster_id"), Some(&Value::Text("c, } ]".into())));
        let Some(Value::List(brokers)) = value.field("brokers") else { panic!("{value}") };
        assert_eq!(brokers[0].field("host"), Some(&Value::Text("a \"b\"\n\u{7f}".into())));
        let Some(Value::List(topics)) = value.field("topics") else { panic!("{value}") };
        assert_eq!(topics[0].field("topic_id"), Some(&Value::Uuid("_____________________w".into())));
        assert_eq!(topics[0].field("name"), Some(&Value::Null));
    }

    #[test]
    fn bytes_are_not_text() {
        let answer = JoinGroupResponse {
            members: vec![protocol::messages::join_group_response::JoinGroupResponseMember {
                member_id: Str::from("m"),
                metadata: Bytes::from_static(b"\x00\"\\"),
                ..Default::default()
            }],
            ..Default::default()
        };
        let value = Value::of(&answer).unwrap();
        let Some(Value::List(members)) = value.field("members") else { panic!("{value}") };
        assert_eq!(members[0].field("metadata"), Some(&Value::Bytes(r#"\0\"\\"#.into())));
    }

    #[test]
    fn every_message_can_be_read_back() {
        for listed in ALL {
            let message = (listed.default)();
            if let Err(error) = Value::of(&message) {
                panic!("{}: {error:#}", listed.name);
            }
        }
    }
}
