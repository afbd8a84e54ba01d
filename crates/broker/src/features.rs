//! Feature levels as ApiVersions shows them (KIP-584): only what is true.
//!
//! `metadata.version` tells tools which release's metadata we can hold. `transaction.version`, `group.version` and
//! `share.version` are absent, which clients read as level 0: no KIP-890 transactions, no KIP-848 groups, no share
//! groups until they exist.

/// Name, lowest and highest level.
pub(crate) struct Feature {
    pub name: &'static str,
    pub min: i16,
    pub max: i16,
}

/// 3.3-IV3 to 4.3-IV0, Kafka's own range in the 4.4 line.
pub(crate) const METADATA_VERSION: Feature = Feature { name: "metadata.version", min: 7, max: 30 };

pub(crate) const SUPPORTED: [Feature; 1] = [METADATA_VERSION];
