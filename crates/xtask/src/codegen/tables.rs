//! The generated files that are about all messages: the list of modules, the registry, the api keys, and
//! the schema that protocol's tests fill messages from.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::rust::snake_case;
use super::schema::{DefaultValue, Field, Kind, Message, Versions};

pub fn modules(messages: &[&Message], kafka_version: &str) -> String {
    let mut out = format!(
        "// Written by `cargo xtask codegen` from the schemas of Kafka {kafka_version}. Do not edit.

//! Every message of Kafka that a broker answers or that stands in an internal topic: one file each, with
//! the names of Kafka's schema. `all` is the list of them for tests and tools.

#![allow(unused_variables, clippy::all)]

pub mod all;
pub mod api_key_table;\n"
    );
    for message in messages {
        let _ = writeln!(out, "pub mod {};", snake_case(&message.name));
    }
    out.push('\n');
    for message in messages {
        let _ = writeln!(out, "pub use {}::{};", snake_case(&message.name), message.name);
    }
    out
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Request => "Request",
        Kind::Response => "Response",
        Kind::Header => "Header",
        Kind::Data => "Data",
        Kind::CoordinatorKey => "CoordinatorKey",
        Kind::CoordinatorValue => "CoordinatorValue",
    }
}

pub fn all(messages: &[&Message], kafka_version: &str) -> String {
    let mut out = format!(
        "// Written by `cargo xtask codegen` from the schemas of Kafka {kafka_version}. Do not edit.

use crate::message::Kind::*;
use crate::message::{{Listed, listed}};

/// Every message, by name.
#[rustfmt::skip]
pub static ALL: &[Listed] = &[\n"
    );
    for message in messages {
        let key = match message.api_key {
            Some(key) => format!("Some({key})"),
            None => "None".into(),
        };
        let _ = writeln!(out, "    listed::<super::{}>({}, {key}),", message.name, kind_name(message.kind));
    }
    out.push_str("];\n");
    out
}

pub fn api_keys(all: &[Message], kafka_version: &str) -> String {
    let mut requests: Vec<&Message> = all.iter().filter(|message| message.kind == Kind::Request).collect();
    requests.sort_by_key(|message| message.api_key);
    let mut variants = String::new();
    let mut table = String::new();
    for request in requests {
        let name = request.name.strip_suffix("Request").expect("requests are called so");
        let key = request.api_key.expect("requests have a key");
        let Versions { low, high } = request.versions;
        let flexible = match request.first_flexible {
            i16::MAX => "i16::MAX".to_owned(),
            version => version.to_string(),
        };
        let _ = writeln!(variants, "    {name} = {key},");
        let _ = writeln!(table, "        (ApiKey::{name}, {name:?}, {low}, {high}, {flexible}),");
    }
    format!(
        "// Written by `cargo xtask codegen` from the schemas of Kafka {kafka_version}. Do not edit.

/// The number of an API, the first thing in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum ApiKey {{
{variants}}}

impl ApiKey {{
    /// Key, name, lowest and highest version (lowest above highest: removed), first flexible version.
    #[rustfmt::skip]
    pub(crate) const TABLE: &[(ApiKey, &'static str, i16, i16, i16)] = &[
{table}    ];
}}
"
    )
}

/// One message a line, so that a new version of Kafka shows as a readable difference.
pub fn test_schema(messages: &[&Message]) -> String {
    let lines: Vec<String> = messages.iter().map(|message| test_message(message).to_string()).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

fn range(versions: Versions) -> Value {
    json!([versions.low, versions.high])
}

fn test_message(message: &Message) -> Value {
    let structs: serde_json::Map<String, Value> = message
        .structs
        .iter()
        .map(|structure| {
            let fields: Vec<Value> = structure.fields.iter().map(test_field).collect();
            (structure.name.clone(), fields.into())
        })
        .collect();
    json!({
        "name": message.name,
        "kind": kind_name(message.kind),
        "versions": range(message.versions),
        "first_flexible": message.first_flexible,
        "structs": structs,
    })
}

fn test_field(field: &Field) -> Value {
    let mut value = json!({
        "name": field.name,
        "type": field.ty.wire_name(),
        "versions": range(field.versions),
    });
    let map = value.as_object_mut().expect("made as an object");
    let mut add = |key: &str, value: Value| {
        map.insert(key.to_owned(), value);
    };
    if !field.nullable.is_empty() {
        add("nullable", range(field.nullable));
    }
    if !field.tagged.is_empty() {
        add("tagged", range(field.tagged));
        add("tag", field.tag.into());
    }
    if field.ignorable {
        add("ignorable", true.into());
    }
    if field.never_flexible {
        add("never_flexible", true.into());
    }
    match &field.default {
        DefaultValue::Plain => {}
        DefaultValue::Null => add("default_null", true.into()),
        DefaultValue::Bool(default) => add("default", (*default).into()),
        DefaultValue::Int(default) => add("default", (*default).into()),
        DefaultValue::Float(default) => add("default", (*default).into()),
        DefaultValue::Text(default) => add("default", default.clone().into()),
    }
    value
}
