//! Values of config keys: text in, checked and typed value out, and back to the text that Kafka shows.
//!
//! Source of the rules: Kafka's `ConfigDef` (types are trimmed, `+5` and `0005` are numbers, lists split at
//! commas, duplicates of a list are dropped).

use super::key::{ConfigKey, ConfigType, Validator};

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Boolean(bool),
    /// INT, SHORT and LONG.
    Integer(i64),
    Double(f64),
    /// STRING, CLASS and PASSWORD.
    Text(String),
    List(Vec<String>),
}

/// Why a value is refused; topic, group and client-metrics resources answer INVALID_CONFIG with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid value {value} for configuration {key}: {reason}")]
pub struct ValueError {
    pub key: String,
    pub value: String,
    pub reason: String,
}

impl Value {
    /// Checks and types the text. Passwords never appear in the error.
    pub fn parse(key: &ConfigKey, text: &str) -> Result<Value, ValueError> {
        Self::parse_and_check(key, text).map_err(|reason| ValueError {
            key: key.name.to_owned(),
            value: if key.is_sensitive() { "[hidden]".to_owned() } else { text.to_owned() },
            reason,
        })
    }

    fn parse_and_check(key: &ConfigKey, text: &str) -> Result<Value, String> {
        let mut value = parse_type(key.config_type, text)?;
        if let (Value::List(entries), Validator::List { .. }) = (&mut value, key.validator) {
            let mut seen = Vec::with_capacity(entries.len());
            entries.retain(|entry| {
                let new = !seen.contains(entry);
                if new {
                    seen.push(entry.clone());
                }
                new
            });
        }
        check(key.validator, &value)?;
        Ok(value)
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// As Kafka shows it.
    pub fn to_text(&self) -> String {
        match self {
            Value::Boolean(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Double(value) => double_text(*value),
            Value::Text(value) => value.clone(),
            Value::List(entries) => entries.join(","),
        }
    }
}

fn parse_type(config_type: ConfigType, text: &str) -> Result<Value, String> {
    let trimmed = text.trim_matches(|character: char| character <= ' ');
    let not_a_number = || format!("Not a number of type {}", config_type.name());
    let integer = |min: i64, max: i64| {
        let value: i64 = trimmed.parse().map_err(|_| not_a_number())?;
        if (min..=max).contains(&value) { Ok(Value::Integer(value)) } else { Err(not_a_number()) }
    };
    match config_type {
        ConfigType::Boolean if trimmed.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
        ConfigType::Boolean if trimmed.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
        ConfigType::Boolean => Err("Expected value to be either true or false".to_owned()),
        ConfigType::Short => integer(i64::from(i16::MIN), i64::from(i16::MAX)),
        ConfigType::Int => integer(i64::from(i32::MIN), i64::from(i32::MAX)),
        ConfigType::Long => integer(i64::MIN, i64::MAX),
        ConfigType::Double => trimmed.parse().map(Value::Double).map_err(|_| not_a_number()),
        ConfigType::String | ConfigType::Class | ConfigType::Password => Ok(Value::Text(trimmed.to_owned())),
        ConfigType::List if trimmed.is_empty() => Ok(Value::List(Vec::new())),
        ConfigType::List => {
            // Java splits at `\s*,\s*`: blanks around a comma go, blanks at the ends went with the trim.
            Ok(Value::List(trimmed.split(',').map(|entry| entry.trim().to_owned()).collect()))
        }
    }
}

fn check(validator: Validator, value: &Value) -> Result<(), String> {
    match (validator, value) {
        (Validator::Any, _) => Ok(()),
        (Validator::IntegerRange { min, max }, Value::Integer(value)) => {
            if *value < min {
                Err(format!("Value must be at least {min}"))
            } else if *value > max {
                Err(format!("Value must be no more than {max}"))
            } else {
                Ok(())
            }
        }
        (Validator::IntegerRangeOr { min, max, or }, Value::Integer(value)) => {
            if (min..=max).contains(value) || *value == or {
                Ok(())
            } else {
                Err(format!("Value must be between {min} and {max} or equal to {or}"))
            }
        }
        (Validator::DoubleRange { min, max }, Value::Double(value)) => {
            if *value < min {
                Err(format!("Value must be at least {min}"))
            } else if *value > max {
                Err(format!("Value must be no more than {max}"))
            } else if value.is_nan() {
                Err("Value must be a number".to_owned())
            } else {
                Ok(())
            }
        }
        (Validator::OneOf(values), Value::Text(value)) => one_of(values, value),
        (Validator::OneOfIgnoreCase(values), Value::Text(value)) => {
            if values.iter().any(|allowed| allowed.eq_ignore_ascii_case(value)) {
                Ok(())
            } else {
                Err(format!("String must be one of (case insensitive): {}", values.join(", ")))
            }
        }
        (Validator::NotEmpty, Value::Text(value)) => {
            if value.is_empty() {
                Err("String must be non-empty".to_owned())
            } else {
                Ok(())
            }
        }
        (Validator::List { values, empty_allowed }, Value::List(entries)) => {
            if entries.is_empty() && !empty_allowed {
                return Err("the list must not be empty".to_owned());
            }
            for entry in entries {
                if entry.is_empty() {
                    return Err("entries of the list must not be empty".to_owned());
                }
                if !values.is_empty() {
                    one_of(values, entry)?;
                }
            }
            Ok(())
        }
        (Validator::ThrottledReplicas, Value::List(entries)) => {
            let all = entries.len() == 1 && entries[0].trim() == "*";
            if all || entries.iter().all(|entry| is_throttled_replica(entry)) {
                Ok(())
            } else {
                Err("must be '*' or a list of partition:broker pairs".to_owned())
            }
        }
        (Validator::ShareOffsetReset, Value::Text(value)) => check_share_offset_reset(value),
        (Validator::DeadLetterTopic, Value::Text(value)) => match value.starts_with("__") {
            true => Err("a dead letter topic has no name that begins with '__'".to_owned()),
            false => Ok(()),
        },
        (validator, value) => unreachable!("the table pairs {validator:?} with a value like {value:?}"),
    }
}

fn one_of(values: &[&str], value: &str) -> Result<(), String> {
    if values.contains(&value) {
        Ok(())
    } else {
        Err(format!("String must be one of: {}", values.join(", ")))
    }
}

fn is_throttled_replica(entry: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    entry.split_once(':').is_some_and(|(partition, broker)| digits(partition) && digits(broker))
}

fn check_share_offset_reset(value: &str) -> Result<(), String> {
    let allowed = matches!(value, "latest" | "earliest")
        || value.strip_prefix("by_duration:").is_some_and(is_iso_duration);
    if allowed { Ok(()) } else { Err("must be earliest, latest or by_duration:<PnDTnHnMn.nS>".to_owned()) }
}

/// `PnDTnHnMn.nS` with at least one part and no sign: a negative duration would reset into the future. In milliseconds.
pub(super) fn iso_duration_ms(text: &str) -> Option<i64> {
    let rest = text.strip_prefix(['P', 'p'])?;
    let (date, time) = match rest.split_once(['T', 't']) {
        Some((date, time)) if !time.is_empty() => (date, time),
        Some(_) => return None,
        None => (rest, ""),
    };
    if date.is_empty() && time.is_empty() {
        return None;
    }
    let parts = |text: &str, units: &[(char, f64)]| {
        let mut units = units.iter();
        let (mut number, mut total_ms) = (String::new(), 0.0);
        for character in text.chars() {
            if character.is_ascii_digit() || (character == '.' && !number.is_empty()) {
                number.push(character);
                continue;
            }
            let unit = character.to_ascii_uppercase();
            let (_, unit_ms) = units.find(|(allowed, _)| *allowed == unit)?;
            let is_whole = unit == 'S' || !number.contains('.');
            let count: f64 = number.parse().ok().filter(|_| is_whole)?;
            total_ms += count * unit_ms;
            number.clear();
        }
        number.is_empty().then_some(total_ms)
    };
    let days = parts(date, &[('D', 86_400_000.0)])?;
    // What is too long for a number of its type is as long as that can say.
    Some((days + parts(time, &[('H', 3_600_000.0), ('M', 60_000.0), ('S', 1_000.0)])?) as i64)
}

fn is_iso_duration(text: &str) -> bool {
    iso_duration_ms(text).is_some()
}

/// Java's `Double.toString`: a point always, an exponent from 1e7 up and below 1e-3.
fn double_text(value: f64) -> String {
    if value == f64::INFINITY {
        return "Infinity".to_owned();
    }
    if value == f64::NEG_INFINITY {
        return "-Infinity".to_owned();
    }
    if value.is_nan() || value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_look_as_java_writes_them() {
        for (value, text) in [
            (0.5, "0.5"),
            (1.0, "1.0"),
            (f64::MAX, "1.7976931348623157E308"),
            (1e7, "1.0E7"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (123456.75, "123456.75"),
        ] {
            assert_eq!(double_text(value), text);
        }
    }

    #[test]
    fn durations() {
        for good in ["PT1H", "P1D", "P1DT2H3M4.5S", "pt5s", "PT0.1S"] {
            assert!(is_iso_duration(good), "{good}");
        }
        for bad in ["", "P", "PT", "1H", "PT1", "PT1M1H", "P1H", "PT-1H", "PT1.5H", "PT.S"] {
            assert!(!is_iso_duration(bad), "{bad}");
        }
    }
}
