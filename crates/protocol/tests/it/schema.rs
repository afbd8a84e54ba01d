//! Messages made from Kafka's schema alone: a second, slow opinion on what every field, version, default,
//! null and tag means. It shares no code with the generator.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

#[derive(Deserialize)]
pub struct Message {
    pub name: String,
    pub versions: (i16, i16),
    pub first_flexible: i16,
    structs: BTreeMap<String, Vec<Field>>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    r#type: String,
    versions: (i16, i16),
    nullable: Option<(i16, i16)>,
    tagged: Option<(i16, i16)>,
    #[serde(default)]
    tag: u32,
    #[serde(default)]
    ignorable: bool,
    #[serde(default)]
    never_flexible: bool,
    #[serde(default)]
    default_null: bool,
    #[serde(default)]
    default: serde_json::Value,
}

pub static MESSAGES: LazyLock<Vec<Message>> =
    LazyLock::new(|| serde_json::from_str(include_str!("schema.json")).expect("the schema is JSON"));

/// Every message in every version.
pub fn every_version() -> impl Iterator<Item = (&'static Message, i16)> {
    MESSAGES.iter().flat_map(|message| (message.versions.0..=message.versions.1).map(move |v| (message, v)))
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Int(i64),
    Float(f64),
    Uuid([u8; 16]),
    /// Strings, bytes and records.
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// The same element so many times.
    Repeated(Box<Value>, usize),
    /// In the order of the schema's fields.
    Struct(Vec<Value>),
}

/// Splitmix64: the same seed gives the same message on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// Why a message cannot be written in a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused(pub String);

fn within(versions: Option<(i16, i16)>, version: i16) -> bool {
    versions.is_some_and(|(low, high)| (low..=high).contains(&version))
}

impl Message {
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.first_flexible
    }

    fn fields(&self, name: &str) -> &[Field] {
        self.structs.get(name).unwrap_or_else(|| panic!("{} has no struct {name}", self.name))
    }

    /// A message with every field of `version` filled at random, the others at their defaults.
    pub fn filled(&self, version: i16, random: &mut Random) -> Value {
        self.filled_struct(&self.name, version, random)
    }

    /// Every array of the message itself has `count` elements as small as can be, arrays in them one.
    pub fn swollen(&self, version: i16, count: usize) -> Value {
        self.swollen_struct(&self.name, version, count)
    }

    fn swollen_struct(&self, name: &str, version: i16, count: usize) -> Value {
        let fields = self.fields(name).iter().map(|field| match field.r#type.strip_prefix("[]") {
            Some(element) if within(Some(field.versions), version) => {
                let element = match element {
                    "string" | "bytes" => Value::Bytes(Vec::new()),
                    "uuid" => Value::Uuid([0; 16]),
                    name if name.starts_with(|c: char| c.is_ascii_uppercase()) => {
                        self.swollen_struct(name, version, 1)
                    }
                    _ => Value::Int(0),
                };
                Value::Repeated(Box::new(element), count)
            }
            // Null has no room in every version that has the field.
            _ if within(Some(field.versions), version) && !within(field.nullable, version) => {
                match self.plain_field(field) {
                    Value::Null if matches!(field.r#type.as_str(), "string" | "bytes" | "records") => {
                        Value::Bytes(Vec::new())
                    }
                    plain => plain,
                }
            }
            _ => self.plain_field(field),
        });
        Value::Struct(fields.collect())
    }

    pub fn plain(&self) -> Value {
        self.plain_struct(&self.name)
    }

    pub fn encode(&self, value: &Value, version: i16) -> Result<Vec<u8>, Refused> {
        let mut out = Vec::new();
        self.encode_struct(&self.name, value, version, &mut out)?;
        Ok(out)
    }

    fn filled_struct(&self, name: &str, version: i16, random: &mut Random) -> Value {
        let fields = self.fields(name).iter().map(|field| {
            let present = within(Some(field.versions), version);
            // Half of the tagged fields keep their default: then they must not be written at all.
            let leave = within(field.tagged, version) && random.one_in(2);
            if present && !leave {
                self.filled_field(field, version, random)
            } else {
                self.plain_field(field)
            }
        });
        Value::Struct(fields.collect())
    }

    fn filled_field(&self, field: &Field, version: i16, random: &mut Random) -> Value {
        if within(field.nullable, version) && random.one_in(4) {
            return Value::Null;
        }
        self.filled_value(&field.r#type, version, random)
    }

    fn filled_value(&self, ty: &str, version: i16, random: &mut Random) -> Value {
        if let Some(element) = ty.strip_prefix("[]") {
            let small = element.starts_with(|c: char| c.is_ascii_lowercase());
            // Now and then a count that needs two bytes.
            let count = if small && random.one_in(12) { 128 + random.below(40) } else { random.below(4) };
            return Value::List((0..count).map(|_| self.filled_value(element, version, random)).collect());
        }
        match ty {
            "bool" => Value::Int(random.below(2) as i64),
            "int8" => Value::Int(random.next() as i8 as i64),
            "int16" => Value::Int(random.next() as i16 as i64),
            "uint16" => Value::Int(random.next() as u16 as i64),
            "int32" => Value::Int(random.next() as i32 as i64),
            "uint32" => Value::Int(random.next() as u32 as i64),
            "int64" => Value::Int(random.next() as i64),
            "float64" => Value::Float(random.next() as i64 as f64 / 1024.0),
            "uuid" => {
                let (high, low) = (random.next(), random.next());
                Value::Uuid((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
            }
            "string" => {
                let length = if random.one_in(20) { 100 + random.below(200) } else { random.below(12) };
                let text: String =
                    (0..length).map(|_| ['a', 'Z', '-', '.', '0', 'é', '€'][random.below(7)]).collect();
                Value::Bytes(text.into_bytes())
            }
            "bytes" | "records" => {
                // Long enough, at times, to be attached as a segment of its own.
                let length = if random.one_in(6) { 1000 + random.below(1500) } else { random.below(40) };
                Value::Bytes((0..length).map(|_| random.next() as u8).collect())
            }
            name => self.filled_struct(name, version, random),
        }
    }

    fn plain_struct(&self, name: &str) -> Value {
        Value::Struct(self.fields(name).iter().map(|field| self.plain_field(field)).collect())
    }

    fn plain_field(&self, field: &Field) -> Value {
        if field.default_null {
            return Value::Null;
        }
        match &field.default {
            serde_json::Value::Bool(default) => Value::Int((*default).into()),
            serde_json::Value::Number(default) => match default.as_i64() {
                Some(default) => Value::Int(default),
                None => Value::Float(default.as_f64().expect("a number")),
            },
            serde_json::Value::String(default) => Value::Bytes(default.clone().into_bytes()),
            serde_json::Value::Null => match field.r#type.as_str() {
                ty if ty.starts_with("[]") => Value::List(Vec::new()),
                "string" | "bytes" => Value::Bytes(Vec::new()),
                "records" => Value::Null,
                "uuid" => Value::Uuid([0; 16]),
                "float64" => Value::Float(0.0),
                name if name.starts_with(|c: char| c.is_ascii_uppercase()) => self.plain_struct(name),
                _ => Value::Int(0),
            },
            other => panic!("a default of {other}"),
        }
    }

    fn encode_struct(
        &self,
        name: &str,
        value: &Value,
        version: i16,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let Value::Struct(values) = value else { panic!("{name} is a struct") };
        let mut tagged = BTreeMap::new();
        for (field, value) in self.fields(name).iter().zip(values) {
            if !within(Some(field.versions), version) {
                if !field.ignorable && *value != self.plain_field(field) {
                    return Err(Refused(format!("{} is not in version {version}", field.name)));
                }
            } else if within(field.tagged, version) {
                if *value != self.plain_field(field) {
                    let mut bytes = Vec::new();
                    self.encode_field(field, value, version, true, &mut bytes)?;
                    tagged.insert(field.tag, bytes);
                }
            } else {
                self.encode_field(field, value, version, false, out)?;
            }
        }
        if self.is_flexible(version) {
            uvarint(out, tagged.len() as u64);
            for (tag, bytes) in tagged {
                uvarint(out, tag.into());
                uvarint(out, bytes.len() as u64);
                out.extend(bytes);
            }
        }
        Ok(())
    }

    fn encode_field(
        &self,
        field: &Field,
        value: &Value,
        version: i16,
        in_tag: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let flexible = self.is_flexible(version) && !field.never_flexible;
        let is_struct = field.r#type.starts_with(|c: char| c.is_ascii_uppercase());
        if *value == Value::Null {
            if !within(field.nullable, version) {
                return Err(Refused(format!("{} has no null in version {version}", field.name)));
            }
            match field.r#type.as_str() {
                _ if is_struct => out.push(if in_tag { 0 } else { 0xff }),
                _ if flexible => out.push(0),
                "string" => out.extend([0xff; 2]),
                _ => out.extend([0xff; 4]),
            }
            return Ok(());
        }
        if is_struct && within(field.nullable, version) {
            out.push(1);
        }
        self.encode_value(&field.r#type, value, version, flexible, out)
    }

    fn encode_value(
        &self,
        ty: &str,
        value: &Value,
        version: i16,
        flexible: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        match (value, ty) {
            (Value::Int(value), "bool" | "int8") => out.push(*value as u8),
            (Value::Int(value), "int16" | "uint16") => out.extend((*value as u16).to_be_bytes()),
            (Value::Int(value), "int32" | "uint32") => out.extend((*value as u32).to_be_bytes()),
            (Value::Int(value), "int64") => out.extend(value.to_be_bytes()),
            (Value::Float(value), _) => out.extend(value.to_be_bytes()),
            (Value::Uuid(bytes), _) => out.extend(bytes),
            (Value::Bytes(bytes), ty) => {
                match (flexible, ty) {
                    (true, _) => uvarint(out, bytes.len() as u64 + 1),
                    (false, "string") => out.extend((bytes.len() as i16).to_be_bytes()),
                    (false, _) => out.extend((bytes.len() as i32).to_be_bytes()),
                }
                out.extend(bytes);
            }
            (Value::List(values), ty) => {
                match flexible {
                    true => uvarint(out, values.len() as u64 + 1),
                    false => out.extend((values.len() as i32).to_be_bytes()),
                }
                let element = ty.strip_prefix("[]").expect("only arrays have lists");
                for value in values {
                    self.encode_value(element, value, version, flexible, out)?;
                }
            }
            (Value::Repeated(value, count), ty) => {
                match flexible {
                    true => uvarint(out, *count as u64 + 1),
                    false => out.extend((*count as i32).to_be_bytes()),
                }
                let element = ty.strip_prefix("[]").expect("only arrays have lists");
                let mut bytes = Vec::new();
                self.encode_value(element, value, version, flexible, &mut bytes)?;
                out.extend(bytes.repeat(*count));
            }
            (Value::Struct(_), name) => self.encode_struct(name, value, version, out)?,
            other => panic!("{other:?}"),
        }
        Ok(())
    }
}

pub fn uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
