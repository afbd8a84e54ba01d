//! Writes one message as Rust: plain structs, `Default`, decode and encode. The text is kept small because
//! some 700 structs of it are compiled: no macros, helpers of `wire` instead of repeated loops.

use std::fmt::Write as _;

use super::schema::{DefaultValue, Field, Kind, Message, Struct, Type, Versions};

pub fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (index, &char) in chars.iter().enumerate() {
        let after_lower = index > 0 && !chars[index - 1].is_ascii_uppercase();
        let before_lower = chars.get(index + 1).is_some_and(|next| next.is_ascii_lowercase());
        if char.is_ascii_uppercase() && index > 0 && (after_lower || before_lower) {
            snake.push('_');
        }
        snake.push(char.to_ascii_lowercase());
    }
    snake
}

fn field_name(field: &Field) -> String {
    match snake_case(&field.name).as_str() {
        keyword @ ("type" | "match" | "ref" | "move" | "use" | "where" | "loop" | "in" | "as") => {
            format!("r#{keyword}")
        }
        name => name.to_owned(),
    }
}

pub fn message(message: &Message, kafka_version: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "// Written by `cargo xtask codegen` from {}.json of Kafka {kafka_version}. Do not edit.\n",
        message.name
    );
    let body: String = message.structs.iter().map(|one| structure(message, one)).collect();
    let mut types = vec!["Bytes", "Records", "Str", "Uuid"];
    types.retain(|name| {
        body.match_indices(name).any(|(at, _)| {
            let before = body[..at].chars().next_back();
            let after = body[at + name.len()..].chars().next();
            let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !part_of_word(before) && !part_of_word(after)
        })
    });
    if types.contains(&"Bytes") {
        types.retain(|name| *name != "Bytes");
        out.push_str("use bytes::Bytes;\n\n");
    }
    out.push_str("use crate::message::{Message, check_decode, check_encode};\n");
    if !types.is_empty() {
        let _ = writeln!(out, "use crate::types::{{{}}};", types.join(", "));
    }
    out.push_str("use crate::wire::{DecodeError, EncodeError, Reader, Writer};\n\n");
    out.push_str(&body);
    message_impl(&mut out, message);
    out
}

fn structure(message: &Message, structure: &Struct) -> String {
    let mut out = String::new();
    let plain = structure.fields.iter().all(|field| default_expression(field).is_none());
    if structure.name == message.name {
        let _ = writeln!(out, "/// {}.", versions_text(message.versions));
    }
    let derive_default = if plain { ", Default" } else { "" };
    let _ =
        writeln!(out, "#[derive(Debug, Clone, PartialEq{derive_default})]\npub struct {} {{", structure.name);
    for field in &structure.fields {
        if !field.versions.covers(structure.versions) {
            let _ = writeln!(out, "    /// {}.", versions_text(field.versions));
        }
        let _ = writeln!(out, "    pub {}: {},", field_name(field), rust_type(field));
    }
    out.push_str("}\n\n");
    if !plain {
        default_impl(&mut out, structure);
    }
    let _ = writeln!(out, "impl {} {{", structure.name);
    decode(&mut out, message, structure);
    encode(&mut out, message, structure);
    out.push_str("}\n\n");
    out
}

fn versions_text(versions: Versions) -> String {
    match versions {
        Versions { low, high } if low == high => format!("Version {low}"),
        Versions { low, high: i16::MAX } => format!("Versions {low} and up"),
        Versions { low, high } => format!("Versions {low} to {high}"),
    }
}

fn rust_type(field: &Field) -> String {
    let ty = bare_type(&field.ty);
    if field.is_optional() { format!("Option<{ty}>") } else { ty }
}

fn bare_type(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".into(),
        Type::Int8 => "i8".into(),
        Type::Int16 => "i16".into(),
        Type::Uint16 => "u16".into(),
        Type::Int32 => "i32".into(),
        Type::Uint32 => "u32".into(),
        Type::Int64 => "i64".into(),
        Type::Float64 => "f64".into(),
        Type::Uuid => "Uuid".into(),
        Type::String => "Str".into(),
        Type::Bytes => "Bytes".into(),
        Type::Records => "Records".into(),
        Type::Struct(name) => name.clone(),
        Type::Array(element) => format!("Vec<{}>", bare_type(element)),
    }
}

/// None when `Default::default()` of the Rust type is the default.
fn default_expression(field: &Field) -> Option<String> {
    let value = match &field.default {
        DefaultValue::Null => return None,
        DefaultValue::Plain if field.is_optional() => format!("{}::default()", bare_type(&field.ty)),
        DefaultValue::Plain => return None,
        DefaultValue::Bool(value) => value.to_string(),
        DefaultValue::Int(value) => integer(&field.ty, *value),
        DefaultValue::Float(value) => format!("{value:?}"),
        DefaultValue::Text(text) => format!("Str::from_static({text:?})"),
    };
    let value = match value.as_str() {
        vec if vec.starts_with("Vec<") => "Vec::new()".to_owned(),
        _ => value,
    };
    Some(if field.is_optional() { format!("Some({value})") } else { value })
}

fn integer(ty: &Type, value: i64) -> String {
    match (ty, value) {
        (Type::Int32, 0x7fff_ffff) => "i32::MAX".into(),
        (Type::Int32, v) if v == i64::from(i32::MIN) => "i32::MIN".into(),
        (Type::Int64, i64::MAX) => "i64::MAX".into(),
        (Type::Int64, i64::MIN) => "i64::MIN".into(),
        (_, value) => value.to_string(),
    }
}

fn default_impl(out: &mut String, structure: &Struct) {
    let name = &structure.name;
    let _ = writeln!(out, "impl Default for {name} {{\n    fn default() -> {name} {{\n        {name} {{");
    for field in &structure.fields {
        let value = default_expression(field).unwrap_or_else(|| match field.is_optional() {
            true => "None".into(),
            false => match &field.ty {
                Type::Bool => "false".into(),
                Type::Float64 => "0.0".into(),
                Type::Uuid => "Uuid::ZERO".into(),
                Type::Array(_) => "Vec::new()".into(),
                Type::String | Type::Bytes | Type::Struct(_) => {
                    format!("{}::default()", bare_type(&field.ty))
                }
                _ => "0".into(),
            },
        });
        let _ = writeln!(out, "            {}: {value},", field_name(field));
    }
    out.push_str("        }\n    }\n}\n\n");
}

/// "version is in `versions`" as Rust, given that it is in `within`. None when that is always so.
fn condition(versions: Versions, within: Versions) -> Option<String> {
    let versions = versions.and(within);
    if versions.covers(within) {
        None
    } else if versions.is_empty() {
        Some("false".into())
    } else if versions.low == versions.high {
        Some(format!("version == {}", versions.low))
    } else if versions.low <= within.low {
        Some(format!("version <= {}", versions.high))
    } else if versions.high >= within.high {
        Some(format!("version >= {}", versions.low))
    } else {
        Some(format!("({}..={}).contains(&version)", versions.low, versions.high))
    }
}

/// How "lengths are compact" is written for a field: a constant where all versions in sight agree.
fn flexible(message: &Message, field: &Field, within: Versions) -> String {
    if field.never_flexible {
        return "false".into();
    }
    flexible_in(message, within)
}

fn flexible_in(message: &Message, within: Versions) -> String {
    if message.first_flexible <= within.low {
        "true".into()
    } else if message.first_flexible > within.high {
        "false".into()
    } else {
        "flexible".into()
    }
}

/// Bytes that a value takes at least, in one version.
fn bytes_min(message: &Message, ty: &Type, nullable: bool, version: i16) -> usize {
    let flexible = version >= message.first_flexible;
    match ty {
        Type::Bool | Type::Int8 => 1,
        Type::Int16 | Type::Uint16 => 2,
        Type::Int32 | Type::Uint32 => 4,
        Type::Int64 | Type::Float64 => 8,
        Type::Uuid => 16,
        Type::String => {
            if flexible {
                1
            } else {
                2
            }
        }
        Type::Bytes | Type::Records | Type::Array(_) => {
            if flexible {
                1
            } else {
                4
            }
        }
        Type::Struct(_) if nullable => 1,
        Type::Struct(name) => {
            let fields = message.structure(name).fields.iter();
            let present = fields.filter(|f| f.versions.contains(version) && !f.tagged.contains(version));
            let fields: usize =
                present.map(|f| bytes_min(message, &f.ty, f.nullable.contains(version), version)).sum();
            fields + usize::from(flexible)
        }
    }
}

/// The smallest element of an array, as an expression over `version`.
fn element_bytes_min(message: &Message, element: &Type, within: Versions) -> String {
    let mut runs: Vec<(i16, usize)> = Vec::new();
    for version in within.low..=within.high {
        let bytes = bytes_min(message, element, false, version);
        assert!(bytes > 0, "{}: an element of no bytes cannot be counted", message.name);
        if runs.last().is_none_or(|(_, last)| *last != bytes) {
            runs.push((version, bytes));
        }
    }
    let mut text = String::new();
    for pair in runs.windows(2) {
        let _ = write!(text, "if version < {} {{ {} }} else ", pair[1].0, pair[0].1);
    }
    let last = runs.last().expect("an array field has versions").1;
    if runs.len() > 1 { format!("{text}{{ {last} }}") } else { last.to_string() }
}

/// The fields of the tag section in a version of `within`, by tag.
fn tagged_fields(structure: &Struct) -> Vec<&Field> {
    let mut tagged: Vec<&Field> = structure.fields.iter().filter(|field| !field.tagged.is_empty()).collect();
    tagged.sort_by_key(|field| field.tag);
    tagged
}

/// Where the field stands among the ordinary ones.
fn ordinary_versions(field: &Field, within: Versions) -> Versions {
    let versions = field.versions.and(within);
    if field.tagged.is_empty() {
        return versions;
    }
    if field.tagged.covers(versions) {
        return Versions::NONE;
    }
    assert!(field.tagged.low > versions.low && field.tagged.high >= versions.high, "{}", field.name);
    Versions { low: versions.low, high: field.tagged.low - 1 }
}

fn decode(out: &mut String, message: &Message, structure: &Struct) {
    let within = structure.versions;
    let mut body = String::new();
    for field in &structure.fields {
        let versions = ordinary_versions(field, within);
        if versions.is_empty() {
            continue;
        }
        let read = format!("value.{} = {};", field_name(field), read(message, field, versions, false));
        let _ = match condition(versions, within) {
            None => writeln!(body, "        {read}"),
            Some(condition) => writeln!(body, "        if {condition} {{ {read} }}"),
        };
    }
    let section = read_tag_section(message, structure);
    match flexible_in(message, within).as_str() {
        "true" => body.push_str(&section),
        "false" => {}
        condition => {
            let _ = writeln!(body, "        if {condition} {{ {section} }}");
        }
    }
    out.push_str("    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {\n");
    declare_flexible(out, message, &body);
    let _ = writeln!(out, "        let mut value = Self::default();\n{body}        Ok(value)\n    }}\n");
}

fn declare_flexible(out: &mut String, message: &Message, body: &str) {
    if body.contains("flexible") {
        let _ = writeln!(out, "        let flexible = version >= {};", message.first_flexible);
    }
}

fn read_tag_section(message: &Message, structure: &Struct) -> String {
    let tagged = tagged_fields(structure);
    if tagged.is_empty() {
        return "        r.skip_tagged_fields()?;\n".into();
    }
    let mut arms = String::new();
    for field in tagged {
        let versions = field.tagged.and(structure.versions);
        let guard = match condition(versions, from_flexible(message, structure)) {
            None => String::new(),
            Some(condition) => format!(" if {condition}"),
        };
        let read = read(message, field, versions, true);
        let _ = writeln!(arms, "{}{guard} => value.{} = {read},", field.tag, field_name(field));
    }
    format!(
        "        r.tagged_fields(|r, tag| {{ match tag {{ {arms} _ => return Ok(false), }} Ok(true) }})?;\n"
    )
}

fn from_flexible(message: &Message, structure: &Struct) -> Versions {
    structure.versions.and(Versions { low: message.first_flexible, high: i16::MAX })
}

/// The expression that reads a field, known to be present in `versions`.
fn read(message: &Message, field: &Field, versions: Versions, in_tag_section: bool) -> String {
    let nullable = field.nullable.and(versions);
    let flexible = flexible(message, field, versions);
    if !field.is_optional() || nullable.covers(versions) {
        return read_one(message, field, versions, field.is_optional(), &flexible, in_tag_section);
    }
    let never_null = read_one(message, field, versions, false, &flexible, in_tag_section);
    // `records()` is an Option in any case.
    let never_null = if field.ty == Type::Records { never_null } else { wrap_some(&never_null) };
    if nullable.is_empty() {
        return never_null;
    }
    let may_be_null = read_one(message, field, nullable, true, &flexible, in_tag_section);
    let condition = condition(nullable, versions).expect("nullable does not cover all versions");
    format!("if {condition} {{ {may_be_null} }} else {{ {never_null} }}")
}

fn wrap_some(expression: &str) -> String {
    format!("Some({expression})")
}

fn read_one(
    message: &Message,
    field: &Field,
    versions: Versions,
    nullable: bool,
    flexible: &str,
    in_tag_section: bool,
) -> String {
    let prefix = if nullable { "nullable_" } else { "" };
    match &field.ty {
        Type::String => format!("r.{prefix}string({flexible})?"),
        Type::Bytes => format!("r.{prefix}bytes({flexible})?"),
        Type::Records => format!("r.{prefix}records({flexible})?"),
        Type::Struct(name) if nullable && in_tag_section => {
            format!("r.nullable_tagged_struct(version, {name}::read)?")
        }
        Type::Struct(name) if nullable => format!("r.nullable_struct(version, {name}::read)?"),
        Type::Struct(name) => format!("{name}::read(r, version)?"),
        Type::Array(element) => {
            let min = element_bytes_min(message, element, versions);
            let read = match &**element {
                Type::Struct(name) => format!("{name}::read"),
                Type::String => format!("|r, _| r.string({flexible})"),
                Type::Bytes => format!("|r, _| r.bytes({flexible})"),
                other => format!("|r, _| r.{}()", bare_type(other).to_ascii_lowercase()),
            };
            format!("r.{prefix}array({flexible}, {min}, version, {read})?")
        }
        scalar => format!("r.{}()?", bare_type(scalar).to_ascii_lowercase()),
    }
}

fn encode(out: &mut String, message: &Message, structure: &Struct) {
    let within = structure.versions;
    let mut body = String::new();
    for field in &structure.fields {
        let versions = ordinary_versions(field, within);
        let absent = absent_check(field, within);
        if versions.is_empty() {
            body.push_str(&absent);
            continue;
        }
        let write = format!(
            "{}{}",
            null_check(field, versions),
            write(message, field, &format!("self.{}", field_name(field)), versions, false)
        );
        match condition(versions, within) {
            None => {
                let _ = writeln!(body, "        {write}");
            }
            // A field that goes from ordinary to tagged is present in both, so nothing is to be checked.
            Some(condition) if absent.is_empty() || !field.tagged.is_empty() => {
                let _ = writeln!(body, "        if {condition} {{ {write} }}");
                if !field.tagged.is_empty() {
                    body.push_str(&absent);
                }
            }
            Some(condition) => {
                let set = is_set(field, &format!("self.{}", field_name(field)));
                let _ = writeln!(
                    body,
                    "        if {condition} {{ {write} }} else if {set} {{ return Err({}); }}",
                    not_in_version(field)
                );
            }
        }
    }
    let section = write_tag_section(message, structure);
    match flexible_in(message, within).as_str() {
        "true" => body.push_str(&section),
        "false" => {}
        condition => {
            let _ = writeln!(body, "        if {condition} {{ {section} }}");
        }
    }
    out.push_str("    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {\n");
    declare_flexible(out, message, &body);
    let _ = writeln!(out, "{body}        Ok(())\n    }}");
}

fn not_in_version(field: &Field) -> String {
    format!("EncodeError::FieldNotInVersion {{ field: {:?}, version }}", field.name)
}

/// Refuses a field that is set in a version that has no place for it at all.
fn absent_check(field: &Field, within: Versions) -> String {
    if field.ignorable {
        return String::new();
    }
    let Some(present) = condition(field.versions, within) else { return String::new() };
    let set = is_set(field, &format!("self.{}", field_name(field)));
    format!("        if !({present}) && {set} {{ return Err({}); }}\n", not_in_version(field))
}

/// Refuses null in a version that has none.
fn null_check(field: &Field, versions: Versions) -> String {
    if !field.is_optional() {
        return String::new();
    }
    let error = format!("EncodeError::UnexpectedNull {{ field: {:?}, version }}", field.name);
    let name = field_name(field);
    match condition(field.nullable, versions) {
        None => String::new(),
        Some(never) if never == "false" => format!("if self.{name}.is_none() {{ return Err({error}); }}\n"),
        Some(nullable) => format!("if self.{name}.is_none() && !({nullable}) {{ return Err({error}); }}\n"),
    }
}

/// "The field is not what it is by default", as Rust.
fn is_set(field: &Field, place: &str) -> String {
    let optional = field.is_optional();
    match (&field.default, &field.ty) {
        (DefaultValue::Null, _) => format!("{place}.is_some()"),
        (DefaultValue::Plain, Type::String | Type::Bytes | Type::Array(_)) if optional => {
            format!("{place}.as_ref().is_none_or(|value| !value.is_empty())")
        }
        (DefaultValue::Plain, Type::Struct(name)) if optional => {
            format!("{place}.as_ref().is_none_or(|value| *value != {name}::default())")
        }
        (DefaultValue::Plain, Type::String | Type::Bytes | Type::Array(_)) => format!("!{place}.is_empty()"),
        (DefaultValue::Plain, Type::Struct(name)) => format!("{place} != {name}::default()"),
        (DefaultValue::Plain, Type::Bool) => place.to_owned(),
        (DefaultValue::Plain, Type::Uuid) => format!("{place} != Uuid::ZERO"),
        (DefaultValue::Plain, Type::Float64) => format!("{place} != 0.0"),
        (DefaultValue::Plain, _) => format!("{place} != 0"),
        (DefaultValue::Bool(true), _) => format!("!{place}"),
        (DefaultValue::Bool(false), _) => place.to_owned(),
        (DefaultValue::Int(value), ty) => format!("{place} != {}", integer(ty, *value)),
        (DefaultValue::Float(value), _) => format!("{place} != {value:?}"),
        (DefaultValue::Text(text), _) if optional => format!("{place}.as_deref() != Some({text:?})"),
        (DefaultValue::Text(text), _) => format!("{place} != {text:?}"),
    }
}

/// The statement that writes a field, known to be present in `versions`.
fn write(message: &Message, field: &Field, place: &str, versions: Versions, in_tag_section: bool) -> String {
    let prefix = if field.is_optional() { "nullable_" } else { "" };
    let flexible = flexible(message, field, versions);
    match &field.ty {
        Type::String => format!("w.{prefix}string({flexible}, &{place})?;"),
        Type::Bytes => format!("w.{prefix}bytes({flexible}, &{place})?;"),
        Type::Records => format!("w.nullable_records({flexible}, &{place})?;"),
        Type::Struct(name) if field.is_optional() && in_tag_section => {
            format!("w.nullable_tagged_struct(version, &{place}, {name}::write)?;")
        }
        Type::Struct(name) if field.is_optional() => {
            format!("w.nullable_struct(version, &{place}, {name}::write)?;")
        }
        Type::Struct(_) => format!("{place}.write(w, version)?;"),
        Type::Array(element) => {
            let write = match &**element {
                Type::Struct(name) => format!("{name}::write"),
                Type::String => format!("|value, w, _| w.string({flexible}, value)"),
                Type::Bytes => format!("|value, w, _| w.bytes({flexible}, value)"),
                other => {
                    format!("|value, w, _| {{ w.{}(*value); Ok(()) }}", bare_type(other).to_ascii_lowercase())
                }
            };
            let nullable_place =
                if field.is_optional() { format!("{place}.as_deref()") } else { format!("&{place}") };
            format!("w.{prefix}array({flexible}, version, {nullable_place}, {write})?;")
        }
        scalar => format!("w.{}({place});", bare_type(scalar).to_ascii_lowercase()),
    }
}

fn write_tag_section(message: &Message, structure: &Struct) -> String {
    let tagged = tagged_fields(structure);
    if tagged.is_empty() {
        return "        w.uvarint(0);\n".into();
    }
    let within = from_flexible(message, structure);
    let mut count = Vec::new();
    let mut fields = String::new();
    for field in tagged {
        let name = field_name(field);
        let mut present = is_set(field, &format!("self.{name}"));
        if let Some(condition) = condition(field.tagged, within) {
            present = format!("{condition} && {present}");
        }
        let versions = field.tagged.and(structure.versions);
        let _ = writeln!(fields, "let has_{} = {present};", name.trim_start_matches("r#"));
        count.push(format!("u32::from(has_{})", name.trim_start_matches("r#")));
        let _ = versions;
    }
    let _ = writeln!(fields, "w.uvarint({});", count.join(" + "));
    for field in tagged_fields(structure) {
        let name = field_name(field);
        let versions = field.tagged.and(structure.versions);
        let write = write(message, field, &format!("self.{name}"), versions, true);
        let _ = writeln!(
            fields,
            "if has_{} {{ {}w.tagged_field({}, |w| {{ {write} Ok(()) }})?; }}",
            name.trim_start_matches("r#"),
            null_check(field, versions),
            field.tag
        );
    }
    fields
}

fn message_impl(out: &mut String, message: &Message) {
    let name = &message.name;
    let first_flexible = match message.first_flexible {
        i16::MAX => "i16::MAX".to_owned(),
        version => version.to_string(),
    };
    let _ = write!(
        out,
        "impl Message for {name} {{
    const NAME: &'static str = {name:?};
    const VERSIONS: std::ops::RangeInclusive<i16> = {}..={};
    const FIRST_FLEXIBLE_VERSION: i16 = {first_flexible};

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {{
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }}

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {{
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }}
}}
",
        message.versions.low, message.versions.high
    );
    if message.kind == Kind::Request {
        let api = name.strip_suffix("Request").expect("requests are called so");
        let _ = write!(
            out,
            "
impl crate::message::Request for {name} {{
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::{api};
    const LATEST_VERSION_UNSTABLE: bool = {};
    type Response = super::{api}Response;
}}
",
            message.latest_version_unstable
        );
    }
    if message.kind == Kind::CoordinatorKey {
        let record = name.strip_suffix("Key").expect("keys are called so");
        let _ = write!(
            out,
            "
impl crate::message::RecordKey for {name} {{
    const RECORD_TYPE: i16 = {};
    type Value = super::{record}Value;
}}
",
            message.api_key.expect("keys have a record type")
        );
    }
}
