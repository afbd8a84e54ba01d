//! How long an answer may get that lists what is kept of many things: groups with their members, offsets, configs, producers. A name is a
//! few bytes in a request and may stand there again and again, and what is told of it may be a megabyte.
//!
//! The first thing is answered in any case. When there is no more room the rest is refused with an error that makes clients ask for it
//! again, where Kafka has such a one.

use protocol::ErrorCode;

use crate::request::RequestContext;

/// A part of the memory for answers, between bounds.
const PART: u64 = 8;
const ROOM_BYTES_MIN: u64 = 1 << 20;
const ROOM_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub(crate) struct AnswerRoom {
    left: usize,
    /// More is named than a request may name (`request.partitions.max`).
    is_too_large: bool,
}

impl AnswerRoom {
    /// For a request that names so many things.
    pub fn of(context: &RequestContext, named: usize) -> AnswerRoom {
        let memory = context.connection.answer_memory_bytes().unwrap_or(u64::MAX);
        AnswerRoom {
            left: (memory / PART).clamp(ROOM_BYTES_MIN, ROOM_BYTES_MAX) as usize,
            is_too_large: named > context.broker.limits.request_partitions_max,
        }
    }

    /// May the next thing be told? `full`: what makes clients ask for it again.
    pub fn check(&self, full: ErrorCode) -> Result<(), ErrorCode> {
        match self.left {
            _ if self.is_too_large => Err(ErrorCode::InvalidRequest),
            0 => Err(full),
            _ => Ok(()),
        }
    }

    /// So much was told, about.
    pub fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}
