//! `server.properties`: Java's properties syntax.
//!
//! Source: `java.util.Properties.load`: `#` and `!` comments, `=`, `:` or blanks between key and value, a backslash
//! at the end of a line joins the next one, `\t \n \r \f \uXXXX` escapes. A key given twice: the last one counts.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct PropertiesError {
    pub line: usize,
    pub reason: &'static str,
}

/// Key and value of each property in the order of the file.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, PropertiesError> {
    let mut properties: Vec<(String, String)> = Vec::new();
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate();
    while let Some((number, line)) = lines.next() {
        let mut logical = line.trim_start_matches(is_blank).to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while ends_with_open_backslash(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(is_blank)),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        let unescape =
            |text: &str| unescape(text).map_err(|reason| PropertiesError { line: number + 1, reason });
        let (key, value) = (unescape(key)?, unescape(value)?);
        properties.retain(|(known, _)| *known != key);
        properties.push((key, value));
    }
    Ok(properties)
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\x0c')
}

fn ends_with_open_backslash(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// At the first `=`, `:` or blank that no backslash protects.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (index, character) in line.char_indices() {
        if !escaped && (is_blank(character) || matches!(character, '=' | ':')) {
            let rest = line[index..].trim_start_matches(is_blank);
            let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..index], value.trim_start_matches(is_blank));
        }
        escaped = character == '\\' && !escaped;
    }
    (line, "")
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(text.len());
    let mut units: Vec<u16> = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let unescaped = match character {
            '\\' => match characters.next() {
                Some('u') => {
                    let digits: String = characters.by_ref().take(4).collect();
                    if digits.len() != 4 {
                        return Err("a \\u escape needs four hexadecimal digits");
                    }
                    let unit = u16::from_str_radix(&digits, 16);
                    units.push(unit.map_err(|_| "a \\u escape needs four hexadecimal digits")?);
                    continue;
                }
                Some('t') => Some('\t'),
                Some('n') => Some('\n'),
                Some('r') => Some('\r'),
                Some('f') => Some('\x0c'),
                other => other,
            },
            other => Some(other),
        };
        push_units(&mut units, &mut out)?;
        out.extend(unescaped);
    }
    push_units(&mut units, &mut out)?;
    Ok(out)
}

/// \u escapes are UTF-16; two of them may make one character.
fn push_units(units: &mut Vec<u16>, out: &mut String) -> Result<(), &'static str> {
    for character in char::decode_utf16(units.drain(..)) {
        out.push(character.map_err(|_| "half of a UTF-16 pair")?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_syntax() {
        let text = "# comment\n! too\n\nnode.id=1\n  log.dirs : /a\\\n    ,/b\r\nkey value with blanks \n\
                    a\\=b=c\\u00e4\\t|\\\\\nempty\nempty2=\nnode.id = 2\npair=\\ud83d\\ude00\n#x\\\nlast=1\\";
        let expected = [
            ("log.dirs", "/a,/b"),
            ("key", "value with blanks "),
            ("a=b", "cä\t|\\"),
            ("empty", ""),
            ("empty2", ""),
            ("node.id", "2"),
            ("pair", "😀"),
            ("last", "1"),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn a_broken_escape_names_its_line() {
        assert_eq!(parse("a=1\nb=\\u12").unwrap_err().line, 2);
        assert_eq!(parse("b=\\ud83d").unwrap_err().line, 1);
    }
}
