//! The values that every message is made of: [`Str`], [`Uuid`], [`Records`], [`TopicIdPartition`].
//!
//! `Str` and `Records` are slices of the frame they came from. That makes decoding free of copies, and it
//! has a price: whoever *keeps* such a value keeps the whole frame alive (up to 100 MiB for one topic name).
//! What outlives its request goes through [`Str::detached`] first.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use smallvec::{SmallVec, smallvec};

/// UTF-8 text over shared bytes; a clone counts a reference and copies nothing.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Str(Bytes);

impl Str {
    pub const fn from_static(text: &'static str) -> Str {
        Str(Bytes::from_static(text.as_bytes()))
    }

    pub fn from_utf8(bytes: Bytes) -> Result<Str, std::str::Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Str(bytes))
    }

    pub fn as_str(&self) -> &str {
        // Checked once more because this room has no `unsafe`; names are short and the check runs at GB/s.
        std::str::from_utf8(&self.0).expect("a Str is made from UTF-8 only")
    }

    /// The same text in memory of its own, so that keeping it does not keep the frame.
    pub fn detached(&self) -> Str {
        Str(Bytes::copy_from_slice(&self.0))
    }

    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

// `Borrow<str>` promises that a Str hashes like the str it holds.
impl std::hash::Hash for Str {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self
    }
}

impl AsRef<[u8]> for Str {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Str {
        Str(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Str {
    fn from(text: String) -> Str {
        Str(Bytes::from(text))
    }
}

impl From<&String> for Str {
    fn from(text: &String) -> Str {
        Str::from(text.as_str())
    }
}

impl From<&Str> for Str {
    fn from(text: &Str) -> Str {
        text.clone()
    }
}

impl From<Str> for String {
    fn from(text: Str) -> String {
        text.as_str().to_owned()
    }
}

impl From<std::borrow::Cow<'_, str>> for Str {
    fn from(text: std::borrow::Cow<'_, str>) -> Str {
        match text {
            std::borrow::Cow::Borrowed(text) => Str::from(text),
            std::borrow::Cow::Owned(text) => Str::from(text),
        }
    }
}

impl FromStr for Str {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Str, Self::Err> {
        Ok(Str::from(text))
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<String> for Str {
    fn eq(&self, other: &String) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<Str> for str {
    fn eq(&self, other: &Str) -> bool {
        other == self
    }
}

impl PartialEq<Str> for &str {
    fn eq(&self, other: &Str) -> bool {
        other == self
    }
}

impl PartialEq<Str> for String {
    fn eq(&self, other: &Str) -> bool {
        other == self
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Kafka's id of topics, directories and clients: 16 bytes, shown as 22 characters of URL-safe base64.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// "No id": what Kafka calls ZERO_UUID.
    pub const ZERO: Uuid = Uuid([0; 16]);

    pub const fn from_bytes(bytes: [u8; 16]) -> Uuid {
        Uuid(bytes)
    }

    pub const fn from_u128(value: u128) -> Uuid {
        Uuid(value.to_be_bytes())
    }

    pub const fn as_u128(&self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub const fn is_zero(&self) -> bool {
        self.as_u128() == 0
    }
}

impl From<[u8; 16]> for Uuid {
    fn from(bytes: [u8; 16]) -> Uuid {
        Uuid(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 22];
        let len = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).expect("16 bytes make 22 characters");
        f.pad(std::str::from_utf8(&text[..len]).expect("base64 is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Kafka id: 22 characters of URL-safe base64 are expected")]
pub struct ParseUuidError;

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Uuid, ParseUuidError> {
        // Kafka's own tools accept the padded form as well.
        let text = text.strip_suffix("==").unwrap_or(text);
        let mut bytes = [0u8; 18];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => Ok(Uuid(bytes[..16].try_into().expect("16 bytes"))),
            _ => Err(ParseUuidError),
        }
    }
}

/// Record batches as they stand in a Produce request or a Fetch response: one byte string in one or more
/// segments, so that an answer can point at log memory instead of copying it. Never parsed here.
#[derive(Clone, Default)]
pub struct Records(SmallVec<[Bytes; 1]>);

impl Records {
    pub fn new() -> Records {
        Records::default()
    }

    /// Length of all segments, in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    pub fn segments(&self) -> &[Bytes] {
        &self.0
    }

    pub fn push(&mut self, segment: Bytes) {
        if !segment.is_empty() {
            self.0.push(segment);
        }
    }

    /// All segments as one; copies only when there are several.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0[..] {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut joined = BytesMut::with_capacity(self.len());
                for segment in many {
                    joined.extend_from_slice(segment);
                }
                joined.freeze()
            }
        }
    }

    fn bytes(&self) -> impl Iterator<Item = &u8> {
        self.0.iter().flatten()
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        if bytes.is_empty() { Records::default() } else { Records(smallvec![bytes]) }
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(segments: Vec<Bytes>) -> Records {
        segments.into_iter().collect()
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(segments: I) -> Records {
        Records(segments.into_iter().filter(|segment| !segment.is_empty()).collect())
    }
}

/// Equal when the bytes are equal, however they are cut.
impl PartialEq for Records {
    fn eq(&self, other: &Records) -> bool {
        match (&self.0[..], &other.0[..]) {
            ([a], [b]) => a == b,
            _ => self.len() == other.len() && self.bytes().eq(other.bytes()),
        }
    }
}

impl Eq for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} bytes in {} segments)", self.len(), self.0.len())
    }
}

/// One partition by its topic's id: the name that stays true when a topic is deleted and made again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIdPartition {
    pub topic_id: Uuid,
    pub partition: i32,
}

impl TopicIdPartition {
    pub const fn new(topic_id: Uuid, partition: i32) -> TopicIdPartition {
        TopicIdPartition { topic_id, partition }
    }
}

impl fmt::Display for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_and_shows_as_kafka_writes_it() {
        let id = Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        assert_eq!(id.to_string(), "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!("AAECAwQFBgcICQoLDA0ODw".parse(), Ok(id));
        assert_eq!("AAECAwQFBgcICQoLDA0ODw==".parse(), Ok(id));
        assert_eq!("AAECAwQ".parse::<Uuid>(), Err(ParseUuidError));
        assert_eq!("AAECAwQFBgcICQoLDA0ODwAAAAAA".parse::<Uuid>(), Err(ParseUuidError));
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
    }

    #[test]
    fn records_are_equal_however_they_are_cut() {
        let whole = Records::from(Bytes::from_static(b"abcdef"));
        let cut = Records::from(vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cdef")]);
        assert_eq!(whole, cut);
        assert_eq!(cut.segments().len(), 2);
        assert_eq!(cut.to_bytes(), "abcdef");
        assert_ne!(whole, Records::new());
    }

    #[test]
    fn a_str_is_found_by_the_text_it_holds() {
        let mut set = std::collections::BTreeSet::new();
        set.insert(Str::from("orders"));
        assert!(set.contains("orders"));
        assert!(Str::from_utf8(Bytes::from_static(b"\xff")).is_err());
    }
}
