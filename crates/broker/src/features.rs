//! Feature levels as ApiVersions shows them and UpdateFeatures changes them (KIP-584): only what is true.
//!
//! `ottla.version` is the level of the cluster (`catalog::level`, R18). `metadata.version` tells tools which release of Kafka we
//! resemble; it is what it is, since nothing of ours is stored as Kafka's metadata (`docs/decisions/feature-levels.md`).
//! `group.version` 1 says that there are groups of KIP-848, `streams.version` 1 the same of KIP-1071, `share.version` 1 of KIP-932
//! and 2 of their dead letter queues (KIP-1191).
//! `transaction.version` 2: each transaction of a client has an epoch of its own (KIP-890); older clients work as before.

use catalog::{Levels, OTTLA_VERSION, State};

/// 4.4-IV2. It stands still.
const METADATA_VERSION: Feature = Feature { name: "metadata.version", lowest: 33, highest: 33 };

/// Consumer groups of the new protocol (KIP-848). They need no record of the metadata log, so nothing has to be raised for them.
const GROUP_VERSION: Feature = Feature { name: "group.version", lowest: 0, highest: 1 };

/// TV_2. Where it is off in Kafka, clients of KIP-890 behave as older ones do; there is no reason to turn it off here.
const TRANSACTION_VERSION: Feature = Feature { name: "transaction.version", lowest: 0, highest: 2 };

/// Streams groups (KIP-1071), as consumer groups.
const STREAMS_VERSION: Feature = Feature { name: "streams.version", lowest: 0, highest: 1 };
/// Share groups, and their dead letter queues. They need no record of the metadata log either.
const SHARE_VERSION: Feature = Feature { name: "share.version", lowest: 0, highest: 2 };

/// A name and the levels that this broker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Feature {
    pub name: &'static str,
    pub lowest: i16,
    pub highest: i16,
}

impl Feature {
    /// What it is finalized at.
    pub fn level(&self, state: &State) -> i16 {
        match self.name {
            OTTLA_VERSION => state.level(),
            _ => self.highest,
        }
    }
}

pub(crate) fn supported(known: Levels) -> [Feature; 6] {
    let Levels { lowest, highest } = known;
    let ottla_version = Feature { name: OTTLA_VERSION, lowest, highest };
    [METADATA_VERSION, GROUP_VERSION, TRANSACTION_VERSION, STREAMS_VERSION, SHARE_VERSION, ottla_version]
}
