//! What goes over a connection between two brokers: Kafka's frames with private api keys.
//!
//! ```text
//!   the one who is called, first:   protocol version u16 = 1      (now both know that the other is who it says)
//!   request    length i32 · api key i16 · version i16 · correlation id i32 · client id i16 = −1 · body
//!   answer     length i32 · correlation id i32 · error code i16 · body, if the code is 0
//!
//!   32001 LogMoved 0         position i64 · wait ms i32                 →  replayed i64 · applied i64 · load i64, bytes per second, or nothing
//!   32002 AppendMetadata 0   requests, as `catalog` writes them: bytes  →  outcome i8 (0 done, 1 not taken, 2 unknown) · position i64
//!   32003 SlotsStored 0      more than i64 · wait ms i32               →  slots of the WAL of the one who is called i64
//!   32005 and 32006: about transactions, bodies as `broker/transactions/messages.rs` has them
//!   32010: about share partitions, bodies as `broker/share_coordinator/messages.rs` has them
//!   32011: dead letters of share groups, bodies as `broker/share/dead_letters.rs` has them
//! ```
//! What this release does not know is answered with UNSUPPORTED_VERSION, so that a newer broker can go on without it. Big-endian.

use std::io;
use std::time::Duration;

use broker::{HandedOff, Progress};
use bytes::{BufMut, Bytes, BytesMut};
use protocol::ErrorCode;
use protocol::wire::{DecodeError, Reader, Writer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub const PROTOCOL_VERSION: u16 = 1;
/// Of a request or an answer, without its length. Larger changes of metadata are not handed off.
pub const FRAME_BYTES_MAX: usize = 2 << 20;

const LOG_MOVED: i16 = 32_001;
const APPEND_METADATA: i16 = 32_002;
const SLOTS_STORED: i16 = 32_003;
/// Keys of requests about transactions, about share partitions, and with dead letters; this room only carries them.
const TRANSACTIONS: std::ops::RangeInclusive<i16> = 32_005..=32_006;
const SHARE_GROUPS: std::ops::RangeInclusive<i16> = 32_010..=32_011;
const VERSION: i16 = 0;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The metadata log goes up to this position, at least. To be answered when that is in effect, or after `wait`.
    LogMoved {
        position: u64,
        wait: Duration,
    },
    AppendMetadata {
        requests: Bytes,
    },
    /// About transactions or share groups.
    Transactions {
        api_key: i16,
        body: Bytes,
    },
    /// To be answered when more slots than these are stored, or after `wait`.
    SlotsStored {
        more_than: u64,
        wait: Duration,
    },
}

/// A request as it came.
pub struct Received {
    pub correlation_id: i32,
    /// None: an api key or a version that is not known here.
    pub request: Option<Request>,
}

impl Request {
    /// A whole frame.
    pub fn encode(&self, correlation_id: i32) -> Bytes {
        let key = match self {
            Self::LogMoved { .. } => LOG_MOVED,
            Self::AppendMetadata { .. } => APPEND_METADATA,
            Self::Transactions { api_key, .. } => *api_key,
            Self::SlotsStored { .. } => SLOTS_STORED,
        };
        let mut out = Writer::with_capacity(64);
        out.i16(key);
        out.i16(VERSION);
        out.i32(correlation_id);
        out.null_string(false);
        match self {
            Self::LogMoved { position, wait } => {
                out.i64(*position as i64);
                out.i32(wait.as_millis().min(i32::MAX as u128) as i32);
            }
            Self::AppendMetadata { requests } => {
                out.i32(requests.len() as i32);
                out.attach(requests);
            }
            Self::Transactions { body, .. } => out.attach(body),
            Self::SlotsStored { more_than, wait } => {
                out.i64(*more_than as i64);
                out.i32(wait.as_millis().min(i32::MAX as u128) as i32);
            }
        }
        framed(out)
    }

    pub fn decode(frame: Bytes) -> Result<Received, DecodeError> {
        let mut bytes = Reader::new(frame);
        let (key, version) = (bytes.i16()?, bytes.i16()?);
        let correlation_id = bytes.i32()?;
        bytes.nullable_string(false)?;
        let request = match (key, version) {
            (LOG_MOVED, VERSION) => Some(Self::LogMoved {
                position: bytes.i64()? as u64,
                wait: Duration::from_millis(bytes.i32()?.max(0) as u64),
            }),
            (APPEND_METADATA, VERSION) => Some(Self::AppendMetadata { requests: bytes.bytes(false)? }),
            (api_key, VERSION) if TRANSACTIONS.contains(&api_key) || SHARE_GROUPS.contains(&api_key) => {
                Some(Self::Transactions { api_key, body: bytes.take_rest() })
            }
            (SLOTS_STORED, VERSION) => Some(Self::SlotsStored {
                more_than: bytes.i64()? as u64,
                wait: Duration::from_millis(bytes.i32()?.max(0) as u64),
            }),
            _ => return Ok(Received { correlation_id, request: None }),
        };
        bytes.expect_end()?;
        Ok(Received { correlation_id, request })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    LogMoved(Progress),
    AppendMetadata(HandedOff),
    Transactions(Bytes),
    SlotsStored(u64),
    Unsupported,
}

impl Answer {
    pub fn encode(&self, correlation_id: i32) -> Bytes {
        let mut out = Writer::with_capacity(64);
        out.i32(correlation_id);
        let code = match self {
            Self::Unsupported => ErrorCode::UnsupportedVersion,
            _ => ErrorCode::None,
        };
        out.i16(code.code());
        match self {
            Self::LogMoved(progress) => {
                out.i64(progress.replayed as i64);
                out.i64(progress.applied as i64);
                if let Some(load) = progress.load {
                    out.i64(load as i64);
                }
            }
            Self::AppendMetadata(outcome) => {
                let (outcome, position) = match outcome {
                    HandedOff::Done { position } => (0, *position),
                    HandedOff::NotTaken => (1, 0),
                    HandedOff::Unknown => (2, 0),
                };
                out.i8(outcome);
                out.i64(position as i64);
            }
            Self::Transactions(body) => out.attach(body),
            Self::SlotsStored(slots) => out.i64(*slots as i64),
            Self::Unsupported => {}
        }
        framed(out)
    }

    /// The correlation id of an answer, and the rest.
    pub fn split(frame: Bytes) -> Result<(i32, Reader), DecodeError> {
        let mut bytes = Reader::new(frame);
        Ok((bytes.i32()?, bytes))
    }

    /// `None`: the other one does not know the request.
    pub fn log_moved(mut bytes: Reader) -> Result<Option<Progress>, DecodeError> {
        match bytes.i16()? {
            0 => {
                let (replayed, applied) = (bytes.i64()? as u64, bytes.i64()? as u64);
                let load = if bytes.remaining() >= 8 { Some(bytes.i64()? as u64) } else { None };
                Ok(Some(Progress { replayed, applied, load }))
            }
            _ => Ok(None),
        }
    }

    /// `None`: the other one does not know the request, or could not read it.
    pub fn transactions(mut bytes: Reader) -> Result<Option<Bytes>, DecodeError> {
        match bytes.i16()? {
            0 => Ok(Some(bytes.take_rest())),
            _ => Ok(None),
        }
    }

    /// `None`: the other one does not know the request.
    pub fn slots_stored(mut bytes: Reader) -> Result<Option<u64>, DecodeError> {
        match bytes.i16()? {
            0 => Ok(Some(bytes.i64()? as u64)),
            _ => Ok(None),
        }
    }

    pub fn append_metadata(mut bytes: Reader) -> Result<HandedOff, DecodeError> {
        if bytes.i16()? != 0 {
            return Ok(HandedOff::NotTaken);
        }
        Ok(match (bytes.i8()?, bytes.i64()?) {
            (0, position) => HandedOff::Done { position: position as u64 },
            (1, _) => HandedOff::NotTaken,
            _ => HandedOff::Unknown,
        })
    }
}

/// The length before a body.
fn framed(body: Writer) -> Bytes {
    let mut frame = BytesMut::with_capacity(4 + body.len());
    frame.put_u32(body.len() as u32);
    frame.put(body.into_bytes());
    frame.freeze()
}

pub async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), frame: &Bytes) -> io::Result<()> {
    stream.write_all(frame).await?;
    stream.flush().await
}

/// The length of the next frame; `None` when the other one has closed.
pub async fn read_length(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<usize>> {
    let length = match stream.read_i32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    match usize::try_from(length).ok().filter(|length| *length <= FRAME_BYTES_MAX) {
        Some(length) => Ok(Some(length)),
        None => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is not taken")))
        }
    }
}

pub async fn read_body(stream: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Bytes> {
    // It grows with what arrives, not with what the length promises.
    let mut frame = Vec::with_capacity(length.min(16 << 10));
    stream.take(length as u64).read_to_end(&mut frame).await?;
    match frame.len() == length {
        true => Ok(frame.into()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_read_as_they_were_written() {
        let asked = [
            Request::LogMoved { position: 1 << 40, wait: Duration::from_millis(500) },
            Request::AppendMetadata { requests: Bytes::from_static(b"records") },
            Request::SlotsStored { more_than: 1 << 40, wait: Duration::from_secs(5) },
        ];
        for (api_key, is_known) in
            [(32_006, true), (32_010, true), (32_011, true), (32_007, false), (32_012, false)]
        {
            let carried = Request::Transactions { api_key, body: Bytes::from_static(b"carried") };
            let received = Request::decode(carried.encode(7).slice(4..)).unwrap();
            assert_eq!((received.correlation_id, received.request), (7, is_known.then_some(carried)));
        }
        for request in asked {
            let frame = request.encode(7);
            assert_eq!(frame.len() - 4, u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize);
            let received = Request::decode(frame.slice(4..)).unwrap();
            assert_eq!((received.correlation_id, received.request), (7, Some(request)));
            assert!(Request::decode(frame.slice(4..frame.len() - 1)).is_err());
            let mut newer = frame[4..].to_vec();
            newer[3] = 9;
            let received = Request::decode(newer.into()).unwrap();
            assert_eq!((received.correlation_id, received.request), (7, None));
        }
        let read = |answer: Answer| Answer::split(answer.encode(5).slice(4..)).unwrap();
        for load in [None, Some(7)] {
            let progress = Progress { replayed: 9, applied: 8, load };
            let (id, rest) = read(Answer::LogMoved(progress));
            assert_eq!((id, Answer::log_moved(rest)), (5, Ok(Some(progress))));
        }
        assert_eq!(Answer::log_moved(read(Answer::Unsupported).1), Ok(None));
        let body = Bytes::from_static(b"carried");
        assert_eq!(Answer::transactions(read(Answer::Transactions(body.clone())).1), Ok(Some(body)));
        assert_eq!(Answer::transactions(read(Answer::Unsupported).1), Ok(None));
        assert_eq!(Answer::slots_stored(read(Answer::SlotsStored(1 << 40)).1), Ok(Some(1 << 40)));
        assert_eq!(Answer::slots_stored(read(Answer::Unsupported).1), Ok(None));
        for outcome in [HandedOff::Done { position: 3 }, HandedOff::NotTaken, HandedOff::Unknown] {
            assert_eq!(Answer::append_metadata(read(Answer::AppendMetadata(outcome)).1), Ok(outcome));
        }
        assert_eq!(Answer::append_metadata(read(Answer::Unsupported).1), Ok(HandedOff::NotTaken));
    }
}
