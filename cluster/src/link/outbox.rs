//! What waits to be sent over a link, gathered until an envelope can leave.

use super::envelope::Item;
use crate::consensus::{EntryId, LogIndex, Message, Term};
use crate::placement::GroupId;
use model::IdMap;
use std::collections::VecDeque;

/// Bytes of entries in one envelope, roughly: a larger one would hold up the other groups on the
/// stream. One entry always fits.
pub const BYTES_PER_ENVELOPE_MAX: usize = 256 << 10;

/// Items in one envelope.
pub const ITEMS_PER_ENVELOPE_MAX: usize = 1_024;

/// What an item counts besides its entries, roughly.
const ITEM_BYTES: usize = 64;

/// What a link must know of the groups' logs, which the shell holds.
pub trait EntryBytes {
    /// How far a group's log is committed, if this member still leads that term: an append that
    /// waited longer is not sent, since the entries may be others now. One that waited for its
    /// entries says what is committed when it leaves, as nothing behind it may.
    fn commit(&self, group: GroupId, term: Term) -> Option<LogIndex>;
    /// The entry's size; its term too, so that what follows it can be sent apart. Nothing if the entry
    /// is not at hand.
    fn entry(&self, group: GroupId, index: LogIndex) -> Option<(EntryId, usize)>;
    /// An append came to an entry that is not at hand; this is what is left of it. It is not sent
    /// unless the shell puts it in again.
    fn missing(&self, group: GroupId, rest: Item);
}

/// Items in the order in which they were put in.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    items: VecDeque<(GroupId, Item)>,
    /// How many items were taken out so far: positions count from the first ever.
    taken_count: u64,
    /// The position of each group's last item; of items taken out too, until all are.
    last_of: IdMap<GroupId, u64>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.taken_count += self.items.len() as u64;
        self.items.clear();
        self.last_of.clear();
    }

    /// Puts an item in, or makes it one with the group's last.
    pub(super) fn push(&mut self, group: GroupId, item: Item) {
        let next = self.taken_count + self.items.len() as u64;
        let last = self.last_of.entry(group).or_insert(next);
        if let Some(at) = last.checked_sub(self.taken_count)
            && let Some((_, waiting)) = self.items.get_mut(at as usize)
            && join(waiting, &item)
        {
            return;
        }
        *last = next;
        self.items.push_back((group, item));
    }

    /// Takes out what fits into one envelope, and its size in bytes. Appends are cut where an
    /// envelope is full, and go on in the next.
    pub(super) fn fill(&mut self, entries: &impl EntryBytes) -> (Vec<(GroupId, Item)>, usize) {
        let mut items = Vec::with_capacity(self.items.len().min(ITEMS_PER_ENVELOPE_MAX));
        let mut byte_count = 0;
        while items.len() < ITEMS_PER_ENVELOPE_MAX && byte_count < BYTES_PER_ENVELOPE_MAX {
            let Some((group, mut item)) = self.items.pop_front() else {
                break;
            };
            if let Item::Append { term, commit, .. } = &mut item {
                let Some(commit_now) = entries.commit(group, *term) else {
                    self.taken_count += 1;
                    continue;
                };
                *commit = commit_now.max(*commit);
            }
            byte_count += ITEM_BYTES;
            match cut(group, &mut item, &mut byte_count, entries) {
                Cut::Whole => {
                    items.push((group, item));
                    self.taken_count += 1;
                }
                Cut::Full(rest) => {
                    items.push((group, item));
                    self.items.push_front((group, rest));
                }
                Cut::Missing(rest) => {
                    if !matches!(item, Item::Append { previous, last, .. } if previous.index == last)
                    {
                        items.push((group, item));
                    }
                    self.taken_count += 1;
                    entries.missing(group, rest);
                }
            }
        }
        if self.items.is_empty() {
            self.last_of.clear();
        }
        (items, byte_count)
    }
}

/// Makes a later item of a group one with the item that waits; whether that could be done.
fn join(waiting: &mut Item, item: &Item) -> bool {
    match (&mut *waiting, item) {
        (
            Item::Append { term, last, commit, .. },
            Item::Append { term: new_term, previous, last: new_last, commit: new_commit },
        ) if term == new_term && *last == previous.index => {
            *last = *new_last;
            *commit = *new_commit;
            true
        }
        (
            Item::Consensus(Message::AppendAccepted { term, matched }),
            Item::Consensus(Message::AppendAccepted { term: new_term, matched: new_matched }),
        ) if term == new_term => {
            *matched = *new_matched.max(matched);
            true
        }
        // The later of both says of more that it is committed.
        (Item::Consensus(Message::Commit { term, .. }), Item::Append { term: new_term, .. })
            if term == new_term =>
        {
            *waiting = item.clone();
            true
        }
        (
            Item::Append { term, commit, .. } | Item::Consensus(Message::Commit { term, commit }),
            Item::Consensus(Message::Commit { term: new_term, commit: new_commit }),
        ) if term == new_term => {
            *commit = *new_commit.max(commit);
            true
        }
        (Item::Closed { entry, closed }, Item::Closed { entry: new_entry, closed: new_closed }) => {
            (*entry, *closed) = (*new_entry, *new_closed);
            true
        }
        _ => false,
    }
}

/// What of an item does not go into an envelope.
enum Cut {
    Whole,
    /// The envelope is full.
    Full(Item),
    /// The first entry of the rest is not at hand.
    Missing(Item),
}

/// Cuts an append where the envelope is full, or an entry is missing.
fn cut(group: GroupId, item: &mut Item, byte_count: &mut usize, entries: &impl EntryBytes) -> Cut {
    let Item::Append { term, previous, last, commit } = item else {
        return Cut::Whole;
    };
    let (term, commit) = (*term, *commit);
    let mut end = *previous;
    for index in previous.index.0 + 1..=last.0 {
        if *byte_count >= BYTES_PER_ENVELOPE_MAX {
            let rest = Item::Append { term, previous: end, last: *last, commit };
            *last = end.index;
            return Cut::Full(rest);
        }
        let Some((entry, bytes)) = entries.entry(group, LogIndex(index)) else {
            let rest = Item::Append { term, previous: end, last: *last, commit };
            *last = end.index;
            return Cut::Missing(rest);
        };
        *byte_count += bytes;
        end = entry;
    }
    Cut::Whole
}
