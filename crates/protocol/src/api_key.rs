//! Every API that Kafka 4.4 has a number for, the removed ones included.

pub use crate::messages::api_key_table::ApiKey;
use crate::wire::DecodeError;

impl ApiKey {
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name, such as `CreateTopics`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// All keys, by number.
    pub fn all() -> impl Iterator<Item = ApiKey> {
        ApiKey::TABLE.iter().map(|row| row.0)
    }

    /// Lowest and highest version in Kafka's schema; none for APIs that Kafka has removed. What we
    /// advertise is the broker's table, not this.
    pub fn versions(self) -> Option<std::ops::RangeInclusive<i16>> {
        let row = self.row();
        (row.2 <= row.3).then_some(row.2..=row.3)
    }

    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.row().4
    }

    /// Version 2 ends in tagged fields; its client id keeps the old length format.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// ApiVersions is always answered with header 0: a client that asks in a version we do not know must
    /// be able to read the answer (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        if self != ApiKey::ApiVersions && self.is_flexible(version) { 1 } else { 0 }
    }

    fn row(self) -> &'static (ApiKey, &'static str, i16, i16, i16) {
        // The table is in the order of the numbers and has no gaps; a test holds it to that.
        &ApiKey::TABLE[self as usize]
    }
}

impl TryFrom<i16> for ApiKey {
    type Error = DecodeError;

    fn try_from(code: i16) -> Result<ApiKey, DecodeError> {
        let row = usize::try_from(code).ok().and_then(|index| ApiKey::TABLE.get(index));
        row.map(|row| row.0).ok_or(DecodeError::UnknownApiKey(code))
    }
}

impl From<ApiKey> for i16 {
    fn from(key: ApiKey) -> i16 {
        key.code()
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_without_gaps() {
        for (index, key) in ApiKey::all().enumerate() {
            assert_eq!(key.code() as usize, index);
            assert_eq!(ApiKey::try_from(index as i16), Ok(key));
        }
        assert_eq!(ApiKey::try_from(-1), Err(DecodeError::UnknownApiKey(-1)));
        assert!(ApiKey::try_from(999).is_err());
    }

    #[test]
    fn header_versions_follow_the_schema() {
        assert_eq!(ApiKey::Produce.request_header_version(8), 1);
        assert_eq!(ApiKey::Produce.request_header_version(9), 2);
        assert_eq!(ApiKey::Produce.response_header_version(9), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
        assert_eq!(ApiKey::LeaderAndIsr.versions(), None);
        assert_eq!(ApiKey::Produce.name(), "Produce");
    }
}
