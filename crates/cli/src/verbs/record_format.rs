//! kcat's format language for `consume -f`.
//!
//! `%t` topic, `%p` partition, `%o` offset, `%T` timestamp in ms, `%k` key, `%K` its length, `%s` value, `%S` its length, `%R` its
//! length as four bytes in big-endian order, `%h` headers as `name=value,name=value`, `%%` a percent sign (kcat has none); lengths of
//! null are -1. Escapes as in `escapes.rs`. Everything is bytes: a value comes out as it went in.

use crate::escapes::unescape;

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    KeyLength,
    Value,
    ValueLength,
    ValueLengthBytes,
    Headers,
}

#[derive(Debug, PartialEq, Eq)]
pub struct RecordFormat(Vec<Part>);

/// One record, borrowed for printing.
pub struct Shown<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

impl RecordFormat {
    pub fn parse(format: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = format;
        while !rest.is_empty() {
            let (text, after) = rest.split_at(rest.find('%').unwrap_or(rest.len()));
            if !text.is_empty() {
                parts.push(Part::Text(unescape(text)?));
            }
            let mut after = after.chars();
            if after.next().is_some() {
                parts.push(match after.next() {
                    Some('t') => Part::Topic,
                    Some('p') => Part::Partition,
                    Some('o') => Part::Offset,
                    Some('T') => Part::Timestamp,
                    Some('k') => Part::Key,
                    Some('K') => Part::KeyLength,
                    Some('s') => Part::Value,
                    Some('S') => Part::ValueLength,
                    Some('R') => Part::ValueLengthBytes,
                    Some('h') => Part::Headers,
                    Some('%') => Part::Text(b"%".to_vec()),
                    Some(other) => {
                        return Err(format!("%{other} is not one of %t %p %o %T %k %K %s %S %R %h %%"));
                    }
                    None => return Err("the format ends with a lone %".to_owned()),
                });
            }
            rest = after.as_str();
        }
        Ok(Self(parts))
    }

    pub fn write(&self, record: &Shown<'_>, out: &mut Vec<u8>) {
        let length = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Topic => out.extend_from_slice(record.topic.as_bytes()),
                Part::Partition => out.extend_from_slice(record.partition.to_string().as_bytes()),
                Part::Offset => out.extend_from_slice(record.offset.to_string().as_bytes()),
                Part::Timestamp => out.extend_from_slice(record.timestamp_ms.to_string().as_bytes()),
                Part::Key => out.extend_from_slice(record.key.unwrap_or_default()),
                Part::KeyLength => out.extend_from_slice(length(record.key).to_string().as_bytes()),
                Part::Value => out.extend_from_slice(record.value.unwrap_or_default()),
                Part::ValueLength => out.extend_from_slice(length(record.value).to_string().as_bytes()),
                Part::ValueLengthBytes => out.extend_from_slice(&(length(record.value) as i32).to_be_bytes()),
                Part::Headers => write_headers(&record.headers, out),
            }
        }
    }
}

fn write_headers(headers: &[(&[u8], Option<&[u8]>)], out: &mut Vec<u8>) {
    for (i, (name, value)) in headers.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value.unwrap_or(b"NULL"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(format: &str) -> Vec<u8> {
        let record = Shown {
            topic: "clicks",
            partition: 2,
            offset: 41,
            timestamp_ms: 1_700_000_000_000,
            key: Some(b"k\xff"),
            value: None,
            headers: vec![(b"a", Some(b"1")), (b"b", None)],
        };
        let mut out = Vec::new();
        RecordFormat::parse(format).unwrap().write(&record, &mut out);
        out
    }

    #[test]
    fn every_part_prints_what_kcat_prints() {
        assert_eq!(
            show(r"%t/%p@%o %T [%K]%k [%S]%s %h\n"),
            b"clicks/2@41 1700000000000 [2]k\xff [-1] a=1,b=NULL\n"
        );
        assert_eq!(show("%R"), [0xff; 4]);
        assert_eq!(show(r"100%%\x00"), b"100%\0");
        assert!(RecordFormat::parse("%q").is_err());
        assert!(RecordFormat::parse("50%").is_err());
    }
}
