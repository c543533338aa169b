//! The bytes of a batch: frames that carry messages, requests and answers, or pieces of them.
//!
//! ```text
//! batch  = crc32 of the rest (4, little endian) · frame …
//! frame  = kind (1) · bytes of the content (3, little endian) · content
//! ```
//! A message that does not fit into a batch is sent in pieces: the first has its own kind, the
//! others [`Kind::Continuation`], and all but the last have [`MORE`] set. Other messages may come
//! between two pieces, so that small ones overtake; a second one in pieces may not.
//!
//! The receiver keeps what has come of a message in pieces: memory grows with the bytes that
//! came, never with a length that was announced.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use super::limits::MESSAGE_BYTES_MAX;
use bytes::{Buf, Bytes, BytesMut};
use std::fmt;
use std::time::Duration;

/// Bytes before the content of a frame.
pub(super) const FRAME_HEAD_BYTES: usize = 4;
/// Bytes before the first frame.
pub(super) const CHECKSUM_BYTES: usize = 4;
/// More pieces of this message follow.
pub(super) const MORE: u8 = 0x80;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message; opaque.
    Message = 1,
    /// A request: its number (8), the milliseconds that are left (4), and opaque bytes.
    Ask = 2,
    /// The answer: the request's number (8), and opaque bytes.
    Answer = 3,
    /// The request (8) was not executed and will not be.
    Refused = 4,
    /// Nobody will answer the request (8); it may have been executed.
    Abandoned = 5,
    /// Nothing, said by an idle end so that the other knows it lives.
    Ping = 6,
    /// The next piece of a message.
    Continuation = 7,
    /// A bulk stream is complete.
    End = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        const ALL: [Kind; 8] = [
            Kind::Message,
            Kind::Ask,
            Kind::Answer,
            Kind::Refused,
            Kind::Abandoned,
            Kind::Ping,
            Kind::Continuation,
            Kind::End,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A request's number, unique on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AskId(pub(super) u64);

/// What a whole message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Message(Bytes),
    Ask { id: AskId, time_left: Duration, body: Bytes },
    Answer { id: AskId, body: Bytes },
    Refused(AskId),
    Abandoned(AskId),
    Ping,
    End,
}

/// The head of a request's content.
pub(super) fn ask_head(id: AskId, time_left: Duration) -> [u8; 12] {
    let millis = u32::try_from(time_left.as_millis()).unwrap_or(u32::MAX);
    let mut head = [0; 12];
    let (number, time) = head.split_at_mut(8);
    number.copy_from_slice(&id.0.to_le_bytes());
    time.copy_from_slice(&millis.to_le_bytes());
    head
}

/// What is wrong with a batch. The connection it came by cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The checksum does not fit: the bytes were damaged on the way.
    Checksum,
    /// It ends within a frame.
    Cut,
    /// A kind that this version does not know.
    UnknownKind(u8),
    /// A frame's content is shorter or longer than its kind allows.
    Length,
    /// A piece without a beginning, or a beginning before the end of the one before.
    Order,
    /// A message of more than [`MESSAGE_BYTES_MAX`].
    Oversized,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Checksum => f.write_str("its checksum is wrong"),
            BatchError::Cut => f.write_str("it ends within a frame"),
            BatchError::UnknownKind(kind) => write!(f, "there is no frame of kind {kind}"),
            BatchError::Length => f.write_str("a frame has the wrong length"),
            BatchError::Order => f.write_str("pieces of messages are mixed up"),
            BatchError::Oversized => {
                write!(f, "a message has more than {MESSAGE_BYTES_MAX} bytes")
            }
        }
    }
}

impl std::error::Error for BatchError {}

/// Turns the batches of one connection into what they say.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The pieces that came of a message.
    begun: Option<(Kind, BytesMut)>,
}

impl Decoder {
    /// Appends what a batch says to `frames`. After an error the connection has to go, and with
    /// it this decoder; the frames before the error are whole.
    pub(super) fn decode(
        &mut self,
        mut batch: Bytes,
        frames: &mut Vec<Frame>,
    ) -> Result<(), BatchError> {
        let checksum = batch.try_get_u32_le().map_err(|_| BatchError::Cut)?;
        if crc32fast::hash(&batch) != checksum {
            return Err(BatchError::Checksum);
        }
        while !batch.is_empty() {
            let head = batch.try_get_u32_le().map_err(|_| BatchError::Cut)?;
            let [kind, ..] = head.to_le_bytes();
            let content_bytes = usize::try_from(head >> 8).map_err(|_| BatchError::Length)?;
            if content_bytes > batch.len() {
                return Err(BatchError::Cut);
            }
            let content = batch.split_to(content_bytes);
            if let Some((kind, content)) = self.assemble(kind, content)? {
                frames.push(Frame::decode(kind, content)?);
            }
        }
        Ok(())
    }

    /// A whole message, if this frame is or completes one.
    fn assemble(&mut self, kind: u8, content: Bytes) -> Result<Option<(Kind, Bytes)>, BatchError> {
        let has_more = kind & MORE != 0;
        let kind = Kind::from_byte(kind & !MORE).ok_or(BatchError::UnknownKind(kind))?;
        match (kind, has_more) {
            (Kind::Continuation, _) => {
                let Some((_, bytes)) = &mut self.begun else { return Err(BatchError::Order) };
                if bytes.len() + content.len() > MESSAGE_BYTES_MAX {
                    return Err(BatchError::Oversized);
                }
                bytes.extend_from_slice(&content);
                if has_more {
                    return Ok(None);
                }
                Ok(self.begun.take().map(|(kind, bytes)| (kind, bytes.freeze())))
            }
            (_, true) if self.begun.is_some() => Err(BatchError::Order),
            (_, true) => {
                self.begun = Some((kind, BytesMut::from(content)));
                Ok(None)
            }
            (_, false) => Ok(Some((kind, content))),
        }
    }
}

impl Frame {
    fn decode(kind: Kind, mut content: Bytes) -> Result<Frame, BatchError> {
        let mut id = || content.try_get_u64_le().map(AskId).map_err(|_| BatchError::Length);
        let frame = match kind {
            Kind::Message => return Ok(Frame::Message(content)),
            Kind::Ask => {
                let id = id()?;
                let millis = content.try_get_u32_le().map_err(|_| BatchError::Length)?;
                let time_left = Duration::from_millis(u64::from(millis));
                return Ok(Frame::Ask { id, time_left, body: content });
            }
            Kind::Answer => return Ok(Frame::Answer { id: id()?, body: content }),
            Kind::Refused => Frame::Refused(id()?),
            Kind::Abandoned => Frame::Abandoned(id()?),
            Kind::Ping => Frame::Ping,
            Kind::End => Frame::End,
            Kind::Continuation => return Err(BatchError::Order),
        };
        if content.is_empty() { Ok(frame) } else { Err(BatchError::Length) }
    }
}
