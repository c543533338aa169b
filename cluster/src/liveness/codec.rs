//! A [`Message`] as bytes.
//!
//! ```text
//! message = kind (1) · incarnation, round of the epoch (8, 8) · the supporter's life (8) · more
//! ```
//! | kind | what | more |
//! |---|---|---|
//! | 1 | request | when it was sent (8), whether the requester hears (1) |
//! | 2 | granted | when the request was sent (8) |
//! | 3 | refused | |
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use super::state::{Incarnation, Message, MonotonicNanos};
use crate::wire::{DecodeError, Reader, put_epoch, put_u64s};

const REQUEST: u8 = 1;
const GRANTED: u8 = 2;
const REFUSED: u8 = 3;

impl Message {
    /// Appends the message's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Message::Request { epoch, supporter, sent, hears } => {
                out.push(REQUEST);
                put_epoch(epoch, out);
                put_u64s([supporter.0, sent.0], out);
                out.push(u8::from(hears));
            }
            Message::Granted { epoch, supporter, sent } => {
                out.push(GRANTED);
                put_epoch(epoch, out);
                put_u64s([supporter.0, sent.0], out);
            }
            Message::Refused { epoch, supporter } => {
                out.push(REFUSED);
                put_epoch(epoch, out);
                put_u64s([supporter.0], out);
            }
        }
    }

    /// The message that `bytes` are, all of them.
    pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        let epoch = reader.epoch()?;
        let supporter = Incarnation(reader.u64()?);
        let message = match kind {
            REQUEST => {
                let sent = MonotonicNanos(reader.u64()?);
                Message::Request { epoch, supporter, sent, hears: reader.bool()? }
            }
            GRANTED => Message::Granted { epoch, supporter, sent: MonotonicNanos(reader.u64()?) },
            REFUSED => Message::Refused { epoch, supporter },
            found => return Err(DecodeError::UnknownKind { what: "liveness message", found }),
        };
        reader.end()?;
        Ok(message)
    }
}
