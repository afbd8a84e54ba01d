//! Delimiters and formats as they are typed: `\n \r \t \0 \\ \xHH`.

/// The bytes that `text` stands for.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let Some((escape, after)) = rest.split_first() else {
            return Err(format!("{text:?} ends with a lone backslash"));
        };
        rest = after;
        out.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                rest = rest.get(2..).unwrap_or_default();
                byte.ok_or_else(|| format!("\\x in {text:?} wants two hexadecimal digits"))?
            }
            other => {
                return Err(format!(
                    "\\{} in {text:?} is not one of \\n \\r \\t \\0 \\\\ \\xHH",
                    *other as char
                ));
            }
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_becomes_bytes() {
        assert_eq!(unescape(r"\n\n").unwrap(), b"\n\n");
        assert_eq!(unescape(r"ä\t\x00\xfF\\n").unwrap(), b"\xc3\xa4\t\0\xff\\n");
        for wrong in [r"\", r"\q", r"\x1", r"\xzz"] {
            assert!(unescape(wrong).is_err(), "{wrong}");
        }
    }
}
