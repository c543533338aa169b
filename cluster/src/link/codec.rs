//! An [`Envelope`] as bytes, with the entries of its appends.
//!
//! ```text
//! envelope = flags (1) · sent: session, count (8, 8) · taken: session, count (8, 8)
//!            · number of items (2) · item …
//! item     = group (8) · kind (1) · fields
//! entry    = term (8) · kind (1) · bytes that follow (4) · members, if that is its kind · payload
//! members  = number of voters (1), of learners (1) · host ids (16 each), voters first
//! ```
//! | item | what | fields |
//! |---|---|---|
//! | 1 | append | term, previous index and term, commit (8 each), number of entries (4), entries |
//! | 2 | vote request | term, index and term of the last entry (8 each) |
//! | 3 | vote reply | term (8), whether it is granted (1) |
//! | 4 | append accepted | term, matched (8 each) |
//! | 5 | append rejected | term, previous, index and term of the hint (8 each) |
//! | 6 | about who leads | [`leadership::Message`] |
//! | 7 | closed time | index and term of an entry, closed (8 each) |
//! | 8 | commit | term, commit (8 each) |
//!
//! Flags: bit 0 the receiver's session is refused, bit 1 an answer is wanted.
#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use super::envelope::{Envelope, Item, Progress};
use super::outbox::ITEMS_PER_ENVELOPE_MAX;
use crate::consensus::{self, Header, Kind, LogIndex, Membership};
use crate::leadership;
use crate::placement::GroupId;
use crate::wire::{DecodeError, Reader, put_entry_id, put_u64s};
use std::sync::Arc;

const APPEND: u8 = 1;
const VOTE_REQUEST: u8 = 2;
const VOTE_REPLY: u8 = 3;
const APPEND_ACCEPTED: u8 = 4;
const APPEND_REJECTED: u8 = 5;
const LEADERSHIP: u8 = 6;
const CLOSED: u8 = 7;
const COMMIT: u8 = 8;

const DATA: u8 = 0;
const NO_OP: u8 = 1;
const MEMBERS: u8 = 2;

const REFUSED_BIT: u8 = 1;
const WANTS_ANSWER_BIT: u8 = 2;

/// No item is shorter: a group and a kind.
const ITEM_BYTES_MIN: usize = 9;

/// Bytes of an entry besides its members and payload.
pub const ENTRY_HEAD_BYTES: usize = 13;

const _: () = assert!(ITEMS_PER_ENVELOPE_MAX <= u16::MAX as usize, "their number has two bytes");

/// An entry as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// Its term and kind.
    pub header: Header,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// An envelope that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// The envelope.
    pub envelope: Envelope,
    /// The entries of its appends, one append's after the other's: as many for each as lie between
    /// its `previous` and its `last`.
    pub entries: Vec<EntryView<'a>>,
}

impl Envelope {
    /// Appends the envelope's bytes; `entry` gives the entries of its appends, which are there: the
    /// appends were cut to them when the envelope was filled.
    pub fn encode<'a>(
        &self,
        out: &mut Vec<u8>,
        mut entry: impl FnMut(GroupId, LogIndex) -> EntryView<'a>,
    ) {
        let wants_answer = if self.wants_answer { WANTS_ANSWER_BIT } else { 0 };
        out.push(u8::from(self.is_refused) | wants_answer);
        let (sent, taken) = (self.sent, self.taken);
        put_u64s([sent.session, sent.count, taken.session, taken.count], out);
        let count =
            u16::try_from(self.items.len()).expect("a link fills in ITEMS_PER_ENVELOPE_MAX");
        out.extend_from_slice(&count.to_le_bytes());
        for (group, item) in &self.items {
            put_u64s([group.0], out);
            put_item(item, out, |index| entry(*group, index));
        }
    }

    /// The envelope that `bytes` are, all of them.
    pub fn decode(bytes: &[u8]) -> Result<Received<'_>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u8()?;
        if flags & !(REFUSED_BIT | WANTS_ANSWER_BIT) != 0 {
            return Err(DecodeError::Impossible("flags"));
        }
        let sent = Progress { session: reader.u64()?, count: reader.u64()? };
        let taken = Progress { session: reader.u64()?, count: reader.u64()? };
        let count = reader.u16()?;
        // As many as there are, but no more than bytes could say.
        let item_count = usize::from(count).min(bytes.len() / ITEM_BYTES_MIN);
        let (mut items, mut entries) =
            (Vec::with_capacity(item_count), Vec::with_capacity(item_count));
        for _ in 0..count {
            let group = GroupId(reader.u64()?);
            items.push((group, item(&mut reader, &mut entries)?));
        }
        reader.end()?;
        let is_refused = flags & REFUSED_BIT != 0;
        let wants_answer = flags & WANTS_ANSWER_BIT != 0;
        let envelope = Envelope { sent, taken, is_refused, wants_answer, items };
        Ok(Received { envelope, entries })
    }
}

fn put_item<'a>(item: &Item, out: &mut Vec<u8>, mut entry: impl FnMut(LogIndex) -> EntryView<'a>) {
    use consensus::Message;
    match item {
        Item::Append { term, previous, last, commit } => {
            out.push(APPEND);
            put_u64s([term.0], out);
            put_entry_id(*previous, out);
            put_u64s([commit.0], out);
            let count = u32::try_from(last.0 - previous.index.0);
            let count = count.expect("a link fills in BYTES_PER_ENVELOPE_MAX");
            out.extend_from_slice(&count.to_le_bytes());
            for index in previous.index.0 + 1..=last.0 {
                put_entry(&entry(LogIndex(index)), out);
            }
        }
        Item::Consensus(Message::VoteRequest { term, last }) => {
            out.push(VOTE_REQUEST);
            put_u64s([term.0], out);
            put_entry_id(*last, out);
        }
        Item::Consensus(Message::VoteReply { term, is_granted }) => {
            out.push(VOTE_REPLY);
            put_u64s([term.0], out);
            out.push(u8::from(*is_granted));
        }
        Item::Consensus(Message::AppendAccepted { term, matched }) => {
            out.push(APPEND_ACCEPTED);
            put_u64s([term.0, matched.0], out);
        }
        Item::Consensus(Message::AppendRejected { term, previous, hint }) => {
            out.push(APPEND_REJECTED);
            put_u64s([term.0, previous.0], out);
            put_entry_id(*hint, out);
        }
        Item::Consensus(Message::Commit { term, commit }) => {
            out.push(COMMIT);
            put_u64s([term.0, commit.0], out);
        }
        Item::Consensus(Message::Append { .. }) => {
            unreachable!("the core hands appends out as ranges")
        }
        Item::Leadership(message) => {
            out.push(LEADERSHIP);
            message.encode(out);
        }
        Item::Closed { entry, closed } => {
            out.push(CLOSED);
            put_entry_id(*entry, out);
            out.extend_from_slice(&closed.to_le_bytes());
        }
    }
}

fn item<'a>(
    reader: &mut Reader<'a>,
    entries: &mut Vec<EntryView<'a>>,
) -> Result<Item, DecodeError> {
    use consensus::Message;
    Ok(match reader.u8()? {
        APPEND => {
            let (term, previous, commit) = (reader.term()?, reader.entry_id()?, reader.index()?);
            let count = reader.u32()?;
            for _ in 0..count {
                entries.push(entry(reader)?);
            }
            let last = LogIndex(previous.index.0 + u64::from(count));
            Item::Append { term, previous, last, commit }
        }
        VOTE_REQUEST => {
            let (term, last) = (reader.term()?, reader.entry_id()?);
            Item::Consensus(Message::VoteRequest { term, last })
        }
        VOTE_REPLY => {
            let (term, is_granted) = (reader.term()?, reader.bool()?);
            Item::Consensus(Message::VoteReply { term, is_granted })
        }
        APPEND_ACCEPTED => {
            let (term, matched) = (reader.term()?, reader.index()?);
            Item::Consensus(Message::AppendAccepted { term, matched })
        }
        APPEND_REJECTED => {
            let (term, previous, hint) = (reader.term()?, reader.index()?, reader.entry_id()?);
            Item::Consensus(Message::AppendRejected { term, previous, hint })
        }
        COMMIT => {
            let (term, commit) = (reader.term()?, reader.index()?);
            Item::Consensus(Message::Commit { term, commit })
        }
        LEADERSHIP => Item::Leadership(leadership::Message::decode(reader)?),
        CLOSED => Item::Closed { entry: reader.entry_id()?, closed: reader.i64()? },
        found => return Err(DecodeError::UnknownKind { what: "item", found }),
    })
}

fn put_entry(entry: &EntryView<'_>, out: &mut Vec<u8>) {
    put_u64s([entry.header.term.0], out);
    let members = match &entry.header.kind {
        Kind::Data => {
            out.push(DATA);
            None
        }
        Kind::NoOp => {
            out.push(NO_OP);
            None
        }
        Kind::Membership(members) => {
            out.push(MEMBERS);
            Some(members)
        }
    };
    let members_bytes = members.map_or(0, |members| members.encoded_bytes());
    let count = u32::try_from(members_bytes + entry.payload.len());
    let count = count.expect("the log takes no entry of 4 GiB");
    out.extend_from_slice(&count.to_le_bytes());
    if let Some(members) = members {
        members.encode(out);
    }
    out.extend_from_slice(entry.payload);
}

fn entry<'a>(reader: &mut Reader<'a>) -> Result<EntryView<'a>, DecodeError> {
    let term = reader.term()?;
    let kind = reader.u8()?;
    let count = usize::try_from(reader.u32()?).map_err(|_| DecodeError::Cut)?;
    let content = reader.bytes(count)?;
    let (kind, payload) = match kind {
        DATA => (Kind::Data, content),
        NO_OP => (Kind::NoOp, content),
        MEMBERS => {
            let (members, payload) = Membership::decode(content)?;
            (Kind::Membership(Arc::new(members)), payload)
        }
        found => return Err(DecodeError::UnknownKind { what: "kind of entry", found }),
    };
    Ok(EntryView { header: Header { term, kind }, payload })
}
