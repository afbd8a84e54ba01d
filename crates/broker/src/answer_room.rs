//! How long an answer may get that lists what is kept of many things: groups with their members, offsets, configs, producers. A name is a
//! few bytes in a request and may stand there again and again, and what is told of it may be a megabyte.
//!
//! The first thing is answered in any case. When there is no more room the rest is refused with an error that makes clients ask for it
//! again, where Kafka has such a one.

use crate::request::RequestContext;

/// A part of the memory for answers, between bounds.
const PART: u64 = 8;
const ROOM_BYTES_MIN: u64 = 1 << 20;
const ROOM_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub(crate) struct AnswerRoom {
    left: usize,
}

impl AnswerRoom {
    pub fn of(context: &RequestContext) -> AnswerRoom {
        let memory = context.connection.answer_memory_bytes().unwrap_or(u64::MAX);
        AnswerRoom { left: (memory / PART).clamp(ROOM_BYTES_MIN, ROOM_BYTES_MAX) as usize }
    }

    pub fn is_full(&self) -> bool {
        self.left == 0
    }

    /// So much was told, about.
    pub fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}
