//! The subject of a certificate as RFC 2253 writes it and Java shows it: `CN=alice,OU=eng,O=Acme\, Inc.,C=US`.
//!
//! Read from DER (X.501): a sequence of sets of {type, value}. The last one comes first; several in one set are joined by "+". Types
//! that the RFC has no name for are dotted numbers with the value's bytes in hex, `1.2.840.113549.1.9.1=#16…`; so are values of kinds
//! that Java does not take for text. Java escapes "=" and "#" wherever they stand and every space at the ends, which the RFC does not
//! ask for: an ACL or a super user is one by its letters, so ours are Java's.

use std::fmt::Write;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const TELETEX: u8 = 0x14;
const IA5: u8 = 0x16;
const GENERAL: u8 = 0x1b;
const BMP: u8 = 0x1e;

/// The names of RFC 2253 §2.3, as Java has them.
const KEYWORDS: [(&[u8], &str); 9] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01], "UID"),
];

/// `name`: what is in the outermost sequence. None: it is no name.
pub(super) fn rfc2253(name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let (set, behind) = take(rest, SET)?;
        rest = behind;
        let mut attributes = Vec::new();
        let mut within = set;
        while !within.is_empty() {
            let (attribute, behind) = take(within, SEQUENCE)?;
            within = behind;
            let (kind, value) = take(attribute, OBJECT_ID)?;
            attributes.push(shown(kind, value)?);
        }
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn shown(kind: &[u8], value: &[u8]) -> Option<String> {
    let keyword = KEYWORDS.iter().find(|(known, _)| *known == kind).map(|(_, keyword)| *keyword);
    match (keyword, text(value)?) {
        (Some(keyword), Some(text)) => Some(format!("{keyword}={}", escaped(&text))),
        (keyword, _) => {
            let mut out = match keyword {
                Some(keyword) => format!("{keyword}=#"),
                None => format!("{}=#", dotted(kind)?),
            };
            for byte in value {
                let _ = write!(out, "{byte:02x}");
            }
            Some(out)
        }
    }
}

/// None: it is not DER. Some(None): it is no text.
fn text(value: &[u8]) -> Option<Option<String>> {
    let tag = *value.first()?;
    let (bytes, behind) = take(value, tag)?;
    if !behind.is_empty() {
        return None;
    }
    Some(match tag {
        UTF8 | PRINTABLE | IA5 | GENERAL => Some(std::str::from_utf8(bytes).ok()?.to_owned()),
        TELETEX => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        BMP => {
            let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            Some(char::decode_utf16(units).collect::<Result<_, _>>().ok()?)
        }
        _ => None,
    })
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let content = text.trim_start_matches(' ');
    let (begin, end) = (text.len() - content.len(), text.trim_end_matches(' ').len());
    for (at, character) in text.char_indices() {
        match character {
            ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' => out.extend(['\\', character]),
            ' ' if at < begin || at >= end => out.push_str("\\ "),
            '\0' => out.push_str("\\00"),
            other => out.push(other),
        }
    }
    out
}

fn dotted(kind: &[u8]) -> Option<String> {
    let mut numbers = Vec::new();
    let mut number: u64 = 0;
    for byte in kind {
        number = number.checked_mul(128)? + u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            numbers.push(number);
            number = 0;
        }
    }
    let first = *numbers.first()?;
    let (one, two) = if first < 80 { (first / 40, first % 40) } else { (2, first - 80) };
    let mut out = format!("{one}.{two}");
    for number in &numbers[1..] {
        let _ = write!(out, ".{number}");
    }
    Some(out)
}

/// The content of the value at the start, and what is behind it.
fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = bytes.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => {
            let (high_low, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*high_low)), rest)
        }
        // No name is that long.
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, DnType, DnValue, KeyPair};
    use rustls::pki_types::CertificateDer;

    use super::*;

    fn subject(entries: &[(DnType, DnValue)]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in entries {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.custom_extensions = Vec::<CustomExtension>::new();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let der: CertificateDer<'_> = certificate.into();
        rfc2253(webpki::EndEntityCert::try_from(&der).unwrap().subject())
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn names_are_written_as_java_writes_them() {
        let entries = [
            (DnType::CountryName, DnValue::PrintableString("US".try_into().unwrap())),
            (DnType::OrganizationName, utf8("Acme, \"Inc\"")),
            (DnType::OrganizationalUnitName, utf8(" #1 ")),
            (DnType::CommonName, utf8("Jürgen=+")),
        ];
        let expected = r#"CN=Jürgen\=\+,OU=\ \#1\ ,O=Acme\, \"Inc\",C=US"#;
        assert_eq!(subject(&entries).as_deref(), Some(expected));
        let email = DnType::CustomDnType(vec![1, 2, 840, 113549, 1, 9, 1]);
        let entries =
            [(DnType::CommonName, utf8("a")), (email, DnValue::Ia5String("a@b".try_into().unwrap()))];
        assert_eq!(subject(&entries).as_deref(), Some("1.2.840.113549.1.9.1=#1603614062,CN=a"));
        assert_eq!(subject(&[]).as_deref(), Some(""));
    }

    /// As `X500Principal.getName()` of Java 17 writes a common name of this kind and content.
    #[test]
    fn a_value_is_escaped_as_java_escapes_it() {
        for (tag, content, expected) in [
            (UTF8, "a=b#c", r"CN=a\=b\#c"),
            (UTF8, "#x=", r"CN=\#x\="),
            (UTF8, " lead trail ", r"CN=\ lead trail\ "),
            (UTF8, "  two  ", r"CN=\ \ two\ \ "),
            (UTF8, " ", r"CN=\ "),
            (UTF8, "a  b", "CN=a  b"),
            (UTF8, "", "CN="),
            (UTF8, "a\0b", r"CN=a\00b"),
            (UTF8, r#"a,b+c"d\e<f>g;h"#, r#"CN=a\,b\+c\"d\\e\<f\>g\;h"#),
            (GENERAL, "gen", "CN=gen"),
            (0x1a, "vis", "CN=#1a03766973"),
            (0x1c, "\0\0\0A", "CN=#1c0400000041"),
            (0x04, "oc", "CN=#04026f63"),
        ] {
            let der = |tag: u8, parts: &[&[u8]]| {
                let content = parts.concat();
                [&[tag, content.len() as u8][..], &content].concat()
            };
            let value = der(tag, &[content.as_bytes()]);
            let name = der(SET, &[&der(SEQUENCE, &[&[OBJECT_ID, 3, 0x55, 0x04, 0x03], &value])]);
            assert_eq!(rfc2253(&name).as_deref(), Some(expected), "{content:?}");
        }
    }

    #[test]
    fn what_is_no_name_is_none() {
        let good = [0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, b'a'];
        assert_eq!(rfc2253(&good).as_deref(), Some("CN=a"));
        for length in 1..good.len() {
            assert_eq!(rfc2253(&good[..length]), None, "{length}");
        }
        for at in 0..good.len() {
            let mut changed = good;
            changed[at] ^= 0x80;
            // It may be another name, and never a panic.
            let _ = rfc2253(&changed);
        }
    }
}
