//! The feature level of a cluster, as Kafka's `metadata.version` (R18): which records may stand in its metadata log.
//!
//! ```text
//!   every broker registers the levels it knows ─▶ all that live know the next one ─▶ somebody raises it ─▶ its records may be appended
//! ```
//! A log says nothing of its level while that is the first one. Who meets a level that it does not know stops: what it would make of
//! the records behind it is not what others make of them. Levels go up and never down.

use std::fmt;

use crate::record::MetadataRecord;

/// The name under which tools see the level (`kafka-features.sh`).
pub const OTTLA_VERSION: &str = "ottla.version";

/// What every log begins with that does not say otherwise.
pub const FIRST: i16 = 1;
/// The highest one that this build knows; a cluster that it begins starts there.
#[cfg(not(feature = "next-level"))]
const HIGHEST: i16 = FIRST;
#[cfg(feature = "next-level")]
const HIGHEST: i16 = FIRST + 1;

/// The levels that a build knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    pub lowest: i16,
    pub highest: i16,
}

impl Levels {
    /// Of this build.
    pub const KNOWN: Levels = Levels { lowest: FIRST, highest: HIGHEST };
    /// Of every build that did not say what it knows.
    pub const FIRST_ONLY: Levels = Levels { lowest: FIRST, highest: FIRST };

    pub fn contains(self, level: i16) -> bool {
        (self.lowest..=self.highest).contains(&level)
    }

    pub(crate) fn require(self, level: i16) -> Result<(), LevelUnknown> {
        if self.contains(level) { Ok(()) } else { Err(LevelUnknown { level, known: self }) }
    }
}

impl Default for Levels {
    fn default() -> Self {
        Self::KNOWN
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} to {}", self.lowest, self.highest)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this cluster is at {OTTLA_VERSION} {level}, this build of ottla knows {known}: start a release that knows {level}; a level is never lowered, and nothing was changed"
)]
pub struct LevelUnknown {
    pub level: i16,
    pub known: Levels,
}

/// What a release of the next level says besides, from that level on: a remark with every topic that it makes.
#[cfg(feature = "next-level")]
pub(crate) fn with_remark(level: i16, mut records: Vec<MetadataRecord>) -> Vec<MetadataRecord> {
    let made = records.iter().find_map(|record| match record {
        MetadataRecord::CreateTopic { name, .. } if level > FIRST => Some(name),
        _ => None,
    });
    if let Some(name) = made {
        let text = protocol::Str::from(format!("remark-on-{name}"));
        records.push(MetadataRecord::Remark { text });
    }
    records
}

impl MetadataRecord {
    /// The level from which on it may be appended. A record that is new, or new in a version, belongs to the next level.
    pub(crate) fn level(&self) -> i16 {
        match self {
            #[cfg(any(test, feature = "next-level"))]
            Self::Remark { .. } => FIRST + 1,
            _ => FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Str, Uuid};

    use super::*;
    use crate::encoding::{Decoder, Encoder};
    use crate::snapshot::{self, SnapshotPlace};
    use crate::state::{Entry, State};

    fn register(levels: Levels) -> MetadataRecord {
        MetadataRecord::RegisterBroker {
            node_id: 7,
            previous: 0,
            incarnation: Uuid([0xaa; 16]),
            rack: None,
            endpoints: Vec::new(),
            levels,
        }
    }

    /// What a release of the next level writes of itself is read by all that have this file; and what has no level to name is
    /// written as it always was.
    #[test]
    fn what_names_a_level_keeps_its_bytes() {
        let cluster = |level| MetadataRecord::CreateCluster { cluster_id: Str::from("c"), level };
        let id = "aa".repeat(16);
        for (record, hex) in [
            (cluster(1), "0100 00 01000000 63".to_owned()),
            (cluster(2), "0100 01 01000000 63 0200".to_owned()),
            (register(Levels::FIRST_ONLY), format!("0200 00 07000000 0000000000000000 {id} 00 00000000")),
            (
                register(Levels { lowest: 2, highest: 5 }),
                format!("0200 01 07000000 0000000000000000 {id} 00 00000000 0200 0500"),
            ),
        ] {
            let mut out = Encoder::default();
            record.encode(&mut out);
            let bytes = out.finish();
            let written: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(written, hex.replace(' ', ""));
            let mut input = Decoder::new(&bytes, "record");
            assert_eq!((MetadataRecord::decode(&mut input), input.left()), (Ok(record), 0));
        }
    }

    /// A snapshot says it before its state, and with it what the brokers know.
    #[test]
    fn a_snapshot_names_its_level_in_its_head() {
        let known = Levels { lowest: 1, highest: 3 };
        for level in [1, 3] {
            let mut state = State::default();
            let records = vec![
                MetadataRecord::CreateCluster { cluster_id: Str::from("c"), level },
                register(known),
                MetadataRecord::BeginWal,
            ];
            state.apply(1, &[Entry { writer: 0, request: 0, records }]);
            let place = SnapshotPlace { log_id: [1; 16], position: 1, log_end: 0, frame_hash: 0 };
            let bytes = snapshot::encode(&place, &state);
            assert_eq!(bytes[10..12], [if level == 1 { 0 } else { level as u8 }, 0]);
            let (_, read) = snapshot::decode(&bytes, known).expect("it is known");
            assert_eq!((&read, read.broker(7).map(|broker| broker.levels)), (&state, Some(known)));
            let refused = snapshot::decode(&bytes, Levels::FIRST_ONLY).err().map(|error| error.to_string());
            assert_eq!(refused.is_some(), level == 3, "{refused:?}");
        }
    }
}
