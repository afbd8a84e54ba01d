//! Cuts what comes in on stdin or from a file into records: `produce`'s reading half.
//!
//! Bytes go through untouched. A record ends at the delimiter (a line end if nothing else is said), which belongs to no record; what
//! stands behind the last delimiter is a record if it is not empty. The key is fixed, stands before a key delimiter, or is found in the
//! record by a regular expression.

use std::io::{self, Read};

use regex::bytes::Regex;

/// Where a record's key comes from.
#[derive(Debug)]
pub enum KeySource {
    None,
    Fixed(Vec<u8>),
    /// Before the first occurrence of these bytes; the value is what follows. A record without them has no key.
    Delimiter(Vec<u8>),
    /// The first group of the expression, or all that it matches when it has no group. The value stays whole.
    Found(Regex),
}

#[derive(Debug, PartialEq, Eq)]
pub struct KeyAndValue {
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

impl KeySource {
    /// Takes the key out of a record, or finds it there.
    pub fn cut(&self, mut record: Vec<u8>) -> KeyAndValue {
        match self {
            KeySource::None => KeyAndValue { key: None, value: record },
            KeySource::Fixed(key) => KeyAndValue { key: Some(key.clone()), value: record },
            KeySource::Delimiter(delimiter) => match find(&record, delimiter) {
                Some(at) => {
                    let value = record.split_off(at + delimiter.len());
                    record.truncate(at);
                    KeyAndValue { key: Some(record), value }
                }
                None => KeyAndValue { key: None, value: record },
            },
            KeySource::Found(expression) => {
                let found =
                    expression.captures(&record).and_then(|groups| groups.get(1).or_else(|| groups.get(0)));
                let key = found.map(|found| found.as_bytes().to_vec());
                KeyAndValue { key, value: record }
            }
        }
    }
}

/// Records of a stream, one after the other; holds one record and a read's worth of bytes.
pub struct Records<R> {
    input: R,
    delimiter: Vec<u8>,
    /// Larger records are an error: without a bound, a wrong delimiter would read the whole stream into memory.
    record_bytes_max: usize,
    buffer: Vec<u8>,
    /// Up to here there is no delimiter.
    searched: usize,
    at_end: bool,
}

impl<R: Read> Records<R> {
    pub fn new(input: R, delimiter: Vec<u8>, record_bytes_max: usize) -> Self {
        assert!(!delimiter.is_empty(), "an empty delimiter cuts nothing");
        Self { input, delimiter, record_bytes_max, buffer: Vec::new(), searched: 0, at_end: false }
    }

    pub fn next_record(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = find(&self.buffer[self.searched..], &self.delimiter) {
                let end = self.searched + at;
                let rest = self.buffer.split_off(end + self.delimiter.len());
                let mut record = std::mem::replace(&mut self.buffer, rest);
                record.truncate(end);
                self.searched = 0;
                return Ok(Some(record));
            }
            if self.at_end {
                let last = std::mem::take(&mut self.buffer);
                self.searched = 0;
                return Ok((!last.is_empty()).then_some(last));
            }
            if self.buffer.len() > self.record_bytes_max {
                let message = format!(
                    "a record is larger than {} bytes: is the delimiter right?",
                    self.record_bytes_max
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            // A delimiter may have begun at the end of what is here.
            self.searched = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        const READ_BYTES: usize = 64 << 10;
        let before = self.buffer.len();
        self.buffer.resize(before + READ_BYTES, 0);
        let count = loop {
            match self.input.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(before + *count.as_ref().unwrap_or(&0));
        self.at_end = count? == 0;
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    match needle {
        [byte] => haystack.iter().position(|b| b == byte),
        _ => haystack.windows(needle.len()).position(|window| window == needle),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `step` bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(buf.len());
            buf[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn records(input: &[u8], delimiter: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut records = Records::new(Slow(input, step), delimiter.to_vec(), 1 << 20);
        std::iter::from_fn(|| records.next_record().unwrap()).collect()
    }

    #[test]
    fn records_come_out_whole_however_the_bytes_come_in() {
        for step in [1, 2, 3, 1000] {
            assert_eq!(records(b"a\n\nb\n", b"\n", step), [&b"a"[..], b"", b"b"]);
            assert_eq!(records(b"a\nb", b"\n", step), [b"a", b"b"]);
            assert_eq!(records(b"", b"\n", step), [] as [&[u8]; 0]);
            assert_eq!(records(b"a\n\n\nb\n\n", b"\n\n", step), [&b"a"[..], b"\nb"]);
            assert_eq!(records(b"\xff\0--x-\0-", b"\0-", step), [&b"\xff"[..], b"-x-"]);
        }
    }

    #[test]
    fn a_stanza_is_a_record_keyed_by_its_package() {
        let status = b"Package: adduser\nStatus: install ok installed\n\nPackage: apt\nVersion: 2.9\nDescription: x\n .\n\n";
        let key = KeySource::Found(Regex::new(r"(?m)^Package: (.*)$").unwrap());
        let split: Vec<_> = records(status, b"\n\n", 10).into_iter().map(|record| key.cut(record)).collect();
        assert_eq!(split[0].key.as_deref(), Some(&b"adduser"[..]));
        assert_eq!(split[1].key.as_deref(), Some(&b"apt"[..]));
        let again: Vec<u8> = split.iter().flat_map(|record| [&record.value[..], b"\n\n"].concat()).collect();
        assert_eq!(again, status);
    }

    #[test]
    fn keys_before_a_delimiter() {
        let key = KeySource::Delimiter(b":".to_vec());
        assert_eq!(
            key.cut(b"a:b:c".to_vec()),
            KeyAndValue { key: Some(b"a".to_vec()), value: b"b:c".to_vec() }
        );
        assert_eq!(key.cut(b"abc".to_vec()), KeyAndValue { key: None, value: b"abc".to_vec() });
        assert_eq!(key.cut(b":".to_vec()), KeyAndValue { key: Some(vec![]), value: vec![] });
    }

    #[test]
    fn a_wrong_delimiter_does_not_fill_the_memory() {
        let mut records = Records::new(io::repeat(b'x'), b"\n".to_vec(), 1 << 20);
        assert!(records.next_record().is_err());
    }
}
