//! Kafka's message schema as it stands in the jars: JSON with `//` comments, versions as text, defaults as
//! text, number or null. Read once into these types; nothing behind them sees JSON.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// "3+", "0-5", "4" or "none", already bounded by the message's own versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub low: i16,
    pub high: i16,
}

impl Versions {
    pub const NONE: Versions = Versions { low: 0, high: -1 };

    fn parse(text: &str) -> Result<Versions> {
        let number = |text: &str| text.trim().parse::<i16>().with_context(|| format!("version {text:?}"));
        Ok(match text.trim() {
            "none" => Versions::NONE,
            text => match (text.strip_suffix('+'), text.split_once('-')) {
                (Some(low), _) => Versions { low: number(low)?, high: i16::MAX },
                (None, Some((low, high))) => Versions { low: number(low)?, high: number(high)? },
                (None, None) => Versions { low: number(text)?, high: number(text)? },
            },
        })
    }

    pub fn is_empty(self) -> bool {
        self.low > self.high
    }

    pub fn contains(self, version: i16) -> bool {
        (self.low..=self.high).contains(&version)
    }

    pub fn and(self, other: Versions) -> Versions {
        let both = Versions { low: self.low.max(other.low), high: self.high.min(other.high) };
        if both.is_empty() { Versions::NONE } else { both }
    }

    pub fn hull(self, other: Versions) -> Versions {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Versions { low: self.low.min(other.low), high: self.high.max(other.high) },
        }
    }

    pub fn covers(self, other: Versions) -> bool {
        other.is_empty() || (self.low <= other.low && self.high >= other.high)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

impl Type {
    fn parse(text: &str) -> Result<Type> {
        Ok(match text {
            "bool" => Type::Bool,
            "int8" => Type::Int8,
            "int16" => Type::Int16,
            "uint16" => Type::Uint16,
            "int32" => Type::Int32,
            "uint32" => Type::Uint32,
            "int64" => Type::Int64,
            "float64" => Type::Float64,
            "uuid" => Type::Uuid,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "records" => Type::Records,
            text => match text.strip_prefix("[]") {
                Some(element) => Type::Array(Box::new(Type::parse(element)?)),
                None => {
                    ensure!(text.starts_with(|c: char| c.is_ascii_uppercase()), "unknown type {text:?}");
                    Type::Struct(text.to_owned())
                }
            },
        })
    }

    /// The struct this is or has as elements.
    pub fn struct_name(&self) -> Option<&str> {
        match self {
            Type::Struct(name) => Some(name),
            Type::Array(element) => element.struct_name(),
            _ => None,
        }
    }

    pub fn wire_name(&self) -> String {
        match self {
            Type::Bool => "bool".into(),
            Type::Int8 => "int8".into(),
            Type::Int16 => "int16".into(),
            Type::Uint16 => "uint16".into(),
            Type::Int32 => "int32".into(),
            Type::Uint32 => "uint32".into(),
            Type::Int64 => "int64".into(),
            Type::Float64 => "float64".into(),
            Type::Uuid => "uuid".into(),
            Type::String => "string".into(),
            Type::Bytes => "bytes".into(),
            Type::Records => "records".into(),
            Type::Struct(name) => name.clone(),
            Type::Array(element) => format!("[]{}", element.wire_name()),
        }
    }
}

/// What a field is when nobody set it.
#[derive(Debug, Clone, PartialEq)]
pub enum DefaultValue {
    /// Zero, false, the empty string, no elements, a struct of defaults.
    Plain,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub ty: Type,
    pub versions: Versions,
    pub nullable: Versions,
    pub tagged: Versions,
    pub tag: u32,
    pub ignorable: bool,
    pub default: DefaultValue,
    /// Only the client id of the request header: it keeps the old format in a flexible version.
    pub never_flexible: bool,
}

impl Field {
    /// Whether the Rust field is an `Option`.
    pub fn is_optional(&self) -> bool {
        !self.nullable.is_empty() || self.ty == Type::Records
    }
}

#[derive(Debug, Clone)]
pub struct Struct {
    pub name: String,
    /// The versions of the message in which it can occur.
    pub versions: Versions,
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Header,
    Data,
    CoordinatorKey,
    CoordinatorValue,
}

#[derive(Debug, Clone)]
pub struct Message {
    pub name: String,
    pub kind: Kind,
    /// The API of a request or response, the record type of a coordinator's key or value.
    pub api_key: Option<i16>,
    pub versions: Versions,
    /// `i16::MAX` when no version is flexible.
    pub first_flexible: i16,
    pub latest_version_unstable: bool,
    /// For a request: whether a broker (and not only a controller) answers it.
    pub broker_listener: bool,
    /// The message itself first, then its structs in the order of the schema.
    pub structs: Vec<Struct>,
}

impl Message {
    pub fn structure(&self, name: &str) -> &Struct {
        self.structs.iter().find(|structure| structure.name == name).expect("every struct was resolved")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawMessage {
    name: String,
    r#type: String,
    api_key: Option<i16>,
    valid_versions: String,
    flexible_versions: Option<String>,
    #[serde(default)]
    latest_version_unstable: bool,
    #[serde(default)]
    listeners: Vec<String>,
    #[serde(default)]
    fields: Vec<RawField>,
    #[serde(default)]
    common_structs: Vec<RawStruct>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawStruct {
    name: String,
    #[serde(rename = "versions")]
    _versions: Option<String>,
    #[serde(rename = "about")]
    _about: Option<String>,
    fields: Vec<RawField>,
}

/// `entityType`, `mapKey`, `zeroCopy` and `about` change nothing on the wire.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawField {
    name: String,
    r#type: String,
    versions: Option<String>,
    nullable_versions: Option<String>,
    tagged_versions: Option<String>,
    tag: Option<u32>,
    #[serde(default)]
    ignorable: bool,
    default: Option<serde_json::Value>,
    flexible_versions: Option<String>,
    #[serde(default)]
    fields: Vec<RawField>,
    #[serde(rename = "entityType")]
    _entity_type: Option<String>,
    #[serde(rename = "mapKey")]
    _map_key: Option<bool>,
    #[serde(rename = "zeroCopy")]
    _zero_copy: Option<bool>,
    #[serde(rename = "about")]
    _about: Option<String>,
}

pub fn read(path: &Path) -> Result<Message> {
    let text = std::fs::read_to_string(path)?;
    let raw: RawMessage =
        serde_json::from_str(&without_comments(&text)).with_context(|| path.display().to_string())?;
    resolve(raw).with_context(|| path.display().to_string())
}

/// Drops `//` comments, but not inside a string.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let (mut in_string, mut escaped, mut end) = (false, false, line.len());
        for (index, byte) in line.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'/' if !in_string && line[index..].starts_with("//") => {
                    end = index;
                    break;
                }
                _ => {}
            }
        }
        kept.push_str(&line[..end]);
        kept.push('\n');
    }
    kept
}

fn resolve(raw: RawMessage) -> Result<Message> {
    let versions = Versions::parse(&raw.valid_versions)?;
    let flexible = Versions::parse(raw.flexible_versions.as_deref().unwrap_or("none"))?;
    ensure!(flexible.is_empty() || flexible.high == i16::MAX, "flexible versions that end");
    let kind = match raw.r#type.as_str() {
        "request" => Kind::Request,
        "response" => Kind::Response,
        "header" => Kind::Header,
        "data" => Kind::Data,
        "coordinator-key" => Kind::CoordinatorKey,
        "coordinator-value" => Kind::CoordinatorValue,
        other => bail!("unknown message type {other:?}"),
    };
    let mut gathered = Gathered { structs: Vec::new(), common: BTreeMap::new() };
    for common in raw.common_structs {
        gathered.common.insert(common.name, Some(common.fields));
    }
    gathered.add(raw.name.clone(), raw.fields, versions)?;
    let unused: Vec<_> = gathered.common.iter().filter(|(_, fields)| fields.is_some()).collect();
    ensure!(unused.is_empty(), "common structs nobody uses");
    let mut message = Message {
        name: raw.name,
        kind,
        api_key: raw.api_key,
        versions,
        first_flexible: if flexible.is_empty() { i16::MAX } else { flexible.low },
        latest_version_unstable: raw.latest_version_unstable,
        broker_listener: raw.listeners.iter().any(|listener| listener == "broker"),
        structs: gathered.structs,
    };
    narrow_versions(&mut message);
    Ok(message)
}

struct Gathered {
    structs: Vec<Struct>,
    /// Common structs not yet used by anybody; None once they were.
    common: BTreeMap<String, Option<Vec<RawField>>>,
}

impl Gathered {
    fn add(&mut self, name: String, raw_fields: Vec<RawField>, message: Versions) -> Result<()> {
        let place = self.structs.len();
        self.structs.push(Struct { name: name.clone(), versions: Versions::NONE, fields: Vec::new() });
        let mut fields = Vec::new();
        for raw in raw_fields {
            let field = resolve_field(&raw, message).with_context(|| format!("field {}", raw.name))?;
            if let Some(struct_name) = field.ty.struct_name() {
                if !raw.fields.is_empty() {
                    let known = self.structs.iter().any(|structure| structure.name == struct_name);
                    ensure!(!known, "two structs have the name {struct_name}");
                    self.add(struct_name.to_owned(), raw.fields, message)?;
                } else if let Some(common) = self
                    .common
                    .get_mut(struct_name)
                    .with_context(|| format!("no struct {struct_name}"))?
                    .take()
                {
                    self.add(struct_name.to_owned(), common, message)?;
                }
            }
            // A field whose versions have all been removed cannot be set or sent any more.
            if !field.versions.is_empty() {
                fields.push(field);
            }
        }
        self.structs[place].fields = fields;
        Ok(())
    }
}

fn resolve_field(raw: &RawField, message: Versions) -> Result<Field> {
    let range = |text: &Option<String>| match text {
        Some(text) => Versions::parse(text),
        None => Ok(Versions::NONE),
    };
    let tagged = range(&raw.tagged_versions)?;
    // Kafka: a tagged field without versions has its tagged versions.
    let versions = if raw.versions.is_some() { range(&raw.versions)? } else { tagged };
    let ty = Type::parse(&raw.r#type)?;
    ensure!(tagged.is_empty() || raw.tag.is_some(), "tagged versions without a tag");
    Ok(Field {
        name: raw.name.clone(),
        versions: versions.and(message),
        nullable: range(&raw.nullable_versions)?.and(versions).and(message),
        tagged: tagged.and(versions).and(message),
        tag: raw.tag.unwrap_or(0),
        ignorable: raw.ignorable,
        default: default_value(&ty, raw.default.as_ref())?,
        never_flexible: raw.flexible_versions.as_deref() == Some("none"),
        ty,
    })
}

/// A JSON `null` is the same as no default at all (Kafka's own generator reads it so); the *text* "null"
/// is the default null.
fn default_value(ty: &Type, raw: Option<&serde_json::Value>) -> Result<DefaultValue> {
    let text = match raw {
        None | Some(serde_json::Value::Null) => return Ok(plain(ty)),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if text.is_empty() {
        return Ok(plain(ty));
    }
    if text == "null" {
        return Ok(DefaultValue::Null);
    }
    Ok(match ty {
        Type::Bool if text == "false" => DefaultValue::Plain,
        Type::Bool => DefaultValue::Bool(text.parse()?),
        Type::Int8 | Type::Int16 | Type::Uint16 | Type::Int32 | Type::Uint32 | Type::Int64 => {
            let value = match text.strip_prefix("0x") {
                Some(hex) => i64::from_str_radix(hex, 16)?,
                None => text.parse()?,
            };
            if value == 0 { DefaultValue::Plain } else { DefaultValue::Int(value) }
        }
        Type::Float64 => DefaultValue::Float(text.parse()?),
        Type::String => DefaultValue::Text(text),
        other => bail!("a default of {text:?} for {other:?}"),
    })
}

fn plain(ty: &Type) -> DefaultValue {
    if *ty == Type::Records { DefaultValue::Null } else { DefaultValue::Plain }
}

/// Works out in which versions each struct can occur, from the message downwards.
fn narrow_versions(message: &mut Message) {
    message.structs[0].versions = message.versions;
    // Structs stand before those they use for the first time, but a common one can be used again later.
    loop {
        let before: Vec<Versions> = message.structs.iter().map(|structure| structure.versions).collect();
        for index in 0..message.structs.len() {
            let Struct { versions, fields, .. } = message.structs[index].clone();
            for field in &fields {
                if let Some(used) = field.ty.struct_name() {
                    let inner = message.structs.iter_mut().find(|structure| structure.name == used);
                    let inner = inner.expect("every struct was resolved");
                    inner.versions = inner.versions.hull(field.versions.and(versions));
                }
            }
        }
        if message.structs.iter().map(|structure| structure.versions).eq(before) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_strings_stay() {
        let text = "// head\n{ \"a\": \"x // y\", // tail\n \"b\": 1 }";
        let value: serde_json::Value = serde_json::from_str(&without_comments(text)).unwrap();
        assert_eq!(value["a"], "x // y");
        assert_eq!(value["b"], 1);
    }

    #[test]
    fn versions_are_read_in_all_four_forms() {
        let parse = |text| Versions::parse(text).unwrap();
        assert_eq!(parse("3+"), Versions { low: 3, high: i16::MAX });
        assert_eq!(parse("0-5"), Versions { low: 0, high: 5 });
        assert_eq!(parse("4"), Versions { low: 4, high: 4 });
        assert!(parse("none").is_empty());
        assert!(parse("0-2").and(parse("3+")).is_empty());
    }

    #[test]
    fn a_json_null_is_no_default_and_the_word_null_is_one() {
        let default = |ty: &Type, value| default_value(ty, Some(&value)).unwrap();
        assert_eq!(default(&Type::String, serde_json::json!(null)), DefaultValue::Plain);
        assert_eq!(default(&Type::String, serde_json::json!("null")), DefaultValue::Null);
        assert_eq!(
            default(&Type::Int32, serde_json::json!("0x7fffffff")),
            DefaultValue::Int(i32::MAX.into())
        );
        assert_eq!(default(&Type::Int32, serde_json::json!(0)), DefaultValue::Plain);
        assert_eq!(default(&Type::Bool, serde_json::json!("true")), DefaultValue::Bool(true));
    }
}
