//! A [`Message`] as bytes: its kind (1), and its fields in the order in which they are declared.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use super::message::Message;
use crate::ring::HostId;
use crate::wire::{DecodeError, Reader, put_entry_id, put_epoch, put_u64s};

const PRE_VOTE_REQUEST: u8 = 1;
const PRE_VOTE_REPLY: u8 = 2;
const FORTIFY: u8 = 3;
const FORTIFIED: u8 = 4;
const LEADERSHIP_QUERY: u8 = 5;
const RELEASED: u8 = 6;
const TAKE_OVER: u8 = 7;

impl Message {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Message::PreVoteRequest { attempt, last } => {
                out.push(PRE_VOTE_REQUEST);
                put_u64s([attempt], out);
                put_entry_id(last, out);
            }
            Message::PreVoteReply { attempt, is_granted } => {
                out.push(PRE_VOTE_REPLY);
                put_u64s([attempt], out);
                out.push(u8::from(is_granted));
            }
            Message::Fortify { term } => {
                out.push(FORTIFY);
                put_u64s([term.0], out);
            }
            Message::Fortified { term, epoch } => {
                out.push(FORTIFIED);
                put_u64s([term.0], out);
                put_epoch(epoch, out);
            }
            Message::LeadershipQuery { term } => {
                out.push(LEADERSHIP_QUERY);
                put_u64s([term.0], out);
            }
            Message::Released { leader, term } => {
                out.push(RELEASED);
                out.extend_from_slice(&leader.0.to_le_bytes());
                put_u64s([term.0], out);
            }
            Message::TakeOver { term } => {
                out.push(TAKE_OVER);
                put_u64s([term.0], out);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Message, DecodeError> {
        Ok(match reader.u8()? {
            PRE_VOTE_REQUEST => {
                Message::PreVoteRequest { attempt: reader.u64()?, last: reader.entry_id()? }
            }
            PRE_VOTE_REPLY => {
                Message::PreVoteReply { attempt: reader.u64()?, is_granted: reader.bool()? }
            }
            FORTIFY => Message::Fortify { term: reader.term()? },
            FORTIFIED => Message::Fortified { term: reader.term()?, epoch: reader.epoch()? },
            LEADERSHIP_QUERY => Message::LeadershipQuery { term: reader.term()? },
            RELEASED => Message::Released { leader: HostId(reader.u128()?), term: reader.term()? },
            TAKE_OVER => Message::TakeOver { term: reader.term()? },
            found => return Err(DecodeError::UnknownKind { what: "leadership message", found }),
        })
    }
}
