//! What of an append or another message can be taken here: what the log has room for now, and what
//! it or the data could never take.

use super::local::{Local, LocalLog, LocalState};
use super::member::Replica;
use super::replicas::Replicas;
use crate::consensus::{Header, Kind, LogIndex, Membership, Message, Term};
use crate::link::{EntryView, Item};
use crate::placement::GroupId;
use crate::ring::HostId;
use std::fmt;

/// What an entry takes of the log besides its members and payload, and what a vote takes, at most.
const LOG_RECORD_BYTES: usize = 64;

/// An entry of another node that can never be taken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEntry {
    /// Its group.
    pub group: GroupId,
    /// Its place.
    pub index: LogIndex,
    /// What is wrong with it.
    pub reason: BadReason,
}

/// Why an entry can never be taken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadReason {
    /// It could not be applied.
    Damaged(&'static str),
    /// The log of this node takes no entry of that size.
    TooLarge {
        /// Bytes of the entry.
        payload_bytes: usize,
        /// The most that the log takes.
        payload_bytes_max: usize,
    },
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadEntry { group, index, reason } = self;
        write!(f, "entry {} of group {:016x} ", index.0, group.0)?;
        match reason {
            BadReason::Damaged(what) => {
                write!(f, "is damaged, and the group goes no further here: {what}")
            }
            BadReason::TooLarge { payload_bytes, payload_bytes_max } => write!(
                f,
                "has {payload_bytes} bytes, and the group goes no further here: the commit log of \
                 this node takes at most {payload_bytes_max}"
            ),
        }
    }
}

impl<W> Replicas<W> {
    /// The first entry of an item that can never be taken, if the group is here, and how many come
    /// before it. What is in the log already can be taken.
    pub(super) fn find_bad<L: LocalLog, S: LocalState, P>(
        &self,
        group: GroupId,
        item: &Item,
        bodies: &[EntryView<'_>],
        local: &Local<'_, L, S, P>,
    ) -> Option<(BadEntry, usize)> {
        let previous = previous_of(item)?;
        let replica = self.groups.get(&group)?;
        let payload_bytes_max = local.log.payload_bytes_max();
        let reason = |(index, view): (LogIndex, &EntryView<'_>)| {
            let EntryView { header: Header { term, kind }, payload } = view;
            if let Err(reason) = local.state.check(group, kind, payload) {
                return Some(BadReason::Damaged(reason));
            }
            let payload_bytes = payload_bytes(view);
            let is_too_large = payload_bytes > payload_bytes_max && !holds(replica, index, *term);
            is_too_large.then_some(BadReason::TooLarge { payload_bytes, payload_bytes_max })
        };
        let indexes = (previous.0 + 1..).map(LogIndex);
        let mut reasons = indexes.zip(bodies).map(|entry| (entry.0, reason(entry))).enumerate();
        reasons.find_map(|(before, (index, reason))| {
            Some((BadEntry { group, index, reason: reason? }, before))
        })
    }

    /// How many of an item's entries the log has room for now, of which those that are here need none;
    /// nothing if the item cannot be taken at all. A term that it has the group enter, a vote, and a
    /// leader's first entry need room too.
    pub(super) fn room_for(
        &self,
        id: GroupId,
        item: &Item,
        bodies: &[EntryView<'_>],
        log: &impl LocalLog,
    ) -> Option<usize> {
        let Some(replica) = self.groups.get(&id) else { return Some(bodies.len()) };
        let is_later = |term: Term| term > replica.group.term();
        let is_answered = match item {
            Item::Append { term, .. } => is_later(*term),
            Item::Consensus(Message::VoteRequest { .. } | Message::VoteReply { .. }) => true,
            Item::Consensus(message) => is_later(message.term()),
            // A campaign that comes of it is asked for by itself.
            Item::Leadership(_) | Item::Closed { .. } => false,
        };
        if is_answered && log.admit(id, LOG_RECORD_BYTES).is_err() {
            return None;
        }
        let (Some(previous), false) = (previous_of(item), bodies.is_empty()) else {
            return Some(0);
        };
        // Of one record the log counts by itself what it takes besides the payload: the largest entry
        // there is fits into an empty log, by itself.
        let mut before = if is_answered { LOG_RECORD_BYTES } else { 0 };
        let all = bodies.iter().map(|view| LOG_RECORD_BYTES + payload_bytes(view));
        if log.admit(id, before + all.sum::<usize>() - LOG_RECORD_BYTES).is_ok() {
            return Some(bodies.len());
        }
        let is_too_much = |(index, view): (u64, &EntryView<'_>)| {
            let is_new = !holds(replica, LogIndex(index), view.header.term);
            let through = before + payload_bytes(view);
            before = if is_new { through + LOG_RECORD_BYTES } else { before };
            is_new && log.admit(id, through).is_err()
        };
        match (previous.0 + 1..).zip(bodies).position(is_too_much) {
            Some(0) if !is_answered => None,
            taken => Some(taken.unwrap_or(bodies.len())),
        }
    }

    /// Whether the log has room for a change of members.
    pub(super) fn admit_change<L: LocalLog>(&self, id: GroupId, log: &L) -> Result<(), L::Error> {
        let members = self.members(id).map_or(0, Membership::encoded_bytes);
        log.admit(id, LOG_RECORD_BYTES + members + size_of::<HostId>())
    }
}

/// Whether the log has room for a campaign. One that it has no room for is begun another time, as if
/// nobody had answered.
pub(super) fn may_campaign(id: GroupId, log: &impl LocalLog) -> bool {
    log.admit(id, LOG_RECORD_BYTES).is_ok()
}

/// Whether an entry is in the log, or was before it was discarded.
fn holds<W>(replica: &Replica<W>, index: LogIndex, term: Term) -> bool {
    let group = &replica.group;
    index <= group.commit() || group.term_at(index) == Some(term)
}

fn previous_of(item: &Item) -> Option<LogIndex> {
    match item {
        Item::Append { previous, .. } => Some(previous.index),
        _ => None,
    }
}

/// What the log takes for an entry's payload.
fn payload_bytes(EntryView { header, payload }: &EntryView<'_>) -> usize {
    let members = match &header.kind {
        Kind::Membership(members) => members.encoded_bytes(),
        Kind::Data | Kind::NoOp => 0,
    };
    members + payload.len()
}
