//! An extent: batches of one partition that stand one after another in one container.

/// Where an extent's bytes are on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// WAL file.
    pub file: u64,
    /// From the start of the file.
    pub position: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub base_offset: i64,
    pub last_offset: i64,
    pub max_timestamp: i64,
    pub place: Place,
    pub len: u32,
    /// The chunk, and where in it: what the tail knows it by.
    pub chunk: u64,
    pub position_in_chunk: u32,
}
