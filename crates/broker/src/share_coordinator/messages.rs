//! What brokers say to one another about share partitions, in the bodies of private requests (`server` carries them):
//!
//! ```text
//!   32010 ShareState 0   group · list of {topic id · partition i32 · asked i8 · what that needs}
//!                          →  list of {error code i16 · message (nullable) if the code is not 0 · else told i8 · what that says}
//!
//!   asked  0 Initialize  state epoch i32 · start offset i64          told  0 Done
//!          1 Read        leader epoch i32                                  1 State    state epoch i32 · start offset i64 · batches
//!          2 Write       state epoch i32 · leader epoch i32 ·              2 Summary  state epoch i32 · leader epoch i32 ·
//!                        start offset i64 · complete count i32 ·                      start offset i64 · complete count i32
//!                        batches
//!          3 Delete      state epoch i32                             batches: list of {first offset i64 · last offset i64 ·
//!          4 Summary     –                                                     delivery state i8 · delivery count i16}
//! ```
//! Strings and lists as in Kafka's messages that are not flexible.

use bytes::Bytes;
use protocol::wire::{DecodeError, EncodeError, Reader, Writer};
use protocol::{ErrorCode, Str, Uuid};

use super::event::{Answer, Asked, ReadState, Refusal, StateSummary, Told, WriteState};
use super::state::StateBatch;

pub const SHARE_STATE: i16 = 32_010;

/// One share partition of a group, and what is asked about it.
pub type Question = (Uuid, i32, Asked);

pub fn encode_questions(group: &Str, questions: &[Question]) -> Result<Bytes, EncodeError> {
    let mut out = Writer::new();
    out.string(false, group)?;
    out.array(false, 0, questions, |(topic, partition, asked), out, _| {
        out.uuid(*topic);
        out.i32(*partition);
        encode_asked(asked, out)
    })?;
    Ok(out.into_bytes())
}

pub fn decode_questions(body: Bytes) -> Result<(Str, Vec<Question>), DecodeError> {
    let mut body = Reader::new(body);
    let group = body.string(false)?;
    let questions =
        body.array(false, 21, 0, |body, _| Ok((body.uuid()?, body.i32()?, decode_asked(body)?)))?;
    body.expect_end()?;
    Ok((group, questions))
}

fn encode_asked(asked: &Asked, out: &mut Writer) -> Result<(), EncodeError> {
    match asked {
        Asked::Initialize { state_epoch, start_offset } => {
            out.i8(0);
            out.i32(*state_epoch);
            out.i64(*start_offset);
        }
        Asked::Read { leader_epoch } => {
            out.i8(1);
            out.i32(*leader_epoch);
        }
        Asked::Write(write) => {
            out.i8(2);
            out.i32(write.state_epoch);
            out.i32(write.leader_epoch);
            out.i64(write.start_offset);
            out.i32(write.delivery_complete_count);
            encode_batches(&write.batches, out)?;
        }
        Asked::Delete { state_epoch } => {
            out.i8(3);
            out.i32(*state_epoch);
        }
        Asked::Summary => out.i8(4),
    }
    Ok(())
}

fn decode_asked(body: &mut Reader) -> Result<Asked, DecodeError> {
    Ok(match body.i8()? {
        0 => Asked::Initialize { state_epoch: body.i32()?, start_offset: body.i64()? },
        1 => Asked::Read { leader_epoch: body.i32()? },
        2 => Asked::Write(WriteState {
            state_epoch: body.i32()?,
            leader_epoch: body.i32()?,
            start_offset: body.i64()?,
            delivery_complete_count: body.i32()?,
            batches: decode_batches(body)?,
        }),
        3 => Asked::Delete { state_epoch: body.i32()? },
        4 => Asked::Summary,
        // A newer release asks for something that this one does not know.
        _ => return Err(DecodeError::Invalid("a question about share partitions that is not known here")),
    })
}

pub fn encode_answers(answers: &[Answer]) -> Result<Bytes, EncodeError> {
    let mut out = Writer::new();
    out.array(false, 0, answers, |answer, out, _| {
        match answer {
            Err(refusal) => {
                out.i16(refusal.error.code());
                match &refusal.message {
                    Some(message) => out.string(false, message)?,
                    None => out.null_string(false),
                }
            }
            Ok(told) => {
                out.i16(ErrorCode::None.code());
                encode_told(told, out)?;
            }
        }
        Ok(())
    })?;
    Ok(out.into_bytes())
}

pub fn decode_answers(body: Bytes) -> Result<Vec<Answer>, DecodeError> {
    let mut body = Reader::new(body);
    let answers = body.array(false, 3, 0, |body, _| {
        // One that a newer release has made up is an error all the same.
        match ErrorCode::try_from(body.i16()?).unwrap_or(ErrorCode::UnknownServerError) {
            ErrorCode::None => Ok(Ok(decode_told(body)?)),
            error => Ok(Err(Refusal { error, message: body.nullable_string(false)? })),
        }
    })?;
    body.expect_end()?;
    Ok(answers)
}

fn encode_told(told: &Told, out: &mut Writer) -> Result<(), EncodeError> {
    match told {
        Told::Done => out.i8(0),
        Told::State(state) => {
            out.i8(1);
            out.i32(state.state_epoch);
            out.i64(state.start_offset);
            encode_batches(&state.batches, out)?;
        }
        Told::Summary(summary) => {
            out.i8(2);
            out.i32(summary.state_epoch);
            out.i32(summary.leader_epoch);
            out.i64(summary.start_offset);
            out.i32(summary.delivery_complete_count);
        }
    }
    Ok(())
}

fn decode_told(body: &mut Reader) -> Result<Told, DecodeError> {
    Ok(match body.i8()? {
        0 => Told::Done,
        1 => Told::State(ReadState {
            state_epoch: body.i32()?,
            start_offset: body.i64()?,
            batches: decode_batches(body)?,
        }),
        2 => Told::Summary(StateSummary {
            state_epoch: body.i32()?,
            leader_epoch: body.i32()?,
            start_offset: body.i64()?,
            delivery_complete_count: body.i32()?,
        }),
        _ => return Err(DecodeError::Invalid("an answer about share partitions that is not known here")),
    })
}

fn encode_batches(batches: &[StateBatch], out: &mut Writer) -> Result<(), EncodeError> {
    out.array(false, 0, batches, |batch, out, _| {
        out.i64(batch.first_offset);
        out.i64(batch.last_offset);
        out.i8(batch.delivery_state);
        out.i16(batch.delivery_count);
        Ok(())
    })
}

fn decode_batches(body: &mut Reader) -> Result<Vec<StateBatch>, DecodeError> {
    body.array(false, 19, 0, |body, _| {
        Ok(StateBatch {
            first_offset: body.i64()?,
            last_offset: body.i64()?,
            delivery_state: body.i8()?,
            delivery_count: body.i16()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let batch = StateBatch { first_offset: 3, last_offset: 9, delivery_state: 2, delivery_count: 1 };
        let write = WriteState {
            state_epoch: 1,
            leader_epoch: 2,
            start_offset: -1,
            delivery_complete_count: 7,
            batches: vec![batch],
        };
        let asked = [
            Asked::Initialize { state_epoch: 4, start_offset: -1 },
            Asked::Read { leader_epoch: 5 },
            Asked::Write(write),
            Asked::Delete { state_epoch: 6 },
            Asked::Summary,
        ];
        let questions: Vec<Question> =
            (0..).zip(asked).map(|(partition, asked)| (Uuid([7; 16]), partition, asked)).collect();
        let bytes = encode_questions(&Str::from("group"), &questions).unwrap();
        assert_eq!(decode_questions(bytes.clone()).unwrap(), (Str::from("group"), questions));
        assert!(decode_questions(bytes.slice(..bytes.len() - 1)).is_err());
        let summary =
            StateSummary { state_epoch: 1, leader_epoch: 2, start_offset: 3, delivery_complete_count: 4 };
        let answers: Vec<Answer> = vec![
            Ok(Told::Done),
            Ok(Told::State(ReadState { state_epoch: 1, start_offset: 2, batches: vec![batch] })),
            Ok(Told::Summary(summary)),
            Err(ErrorCode::FencedStateEpoch.into()),
            Err(Refusal::new(ErrorCode::InvalidRequest, "why")),
        ];
        let bytes = encode_answers(&answers).unwrap();
        assert_eq!(decode_answers(bytes.clone()).unwrap(), answers);
        assert!(decode_answers(bytes.slice(..bytes.len() - 1)).is_err());
    }
}
