//! Closed time: what a group's leader promises about time in its log, and who may believe it.
//!
//! *Closed at C* means that nothing will be placed in the log at or below C. A leader closes as it
//! appends entries, and between entries by beats. A beat is not in the log, so a leader that is
//! replaced could have closed more than its successor knows of. Therefore it closes only up to a
//! *reservation*: every entry carries the time up to which beats may close, it counts once the entry
//! is committed, and a new leader begins above every reservation in its log, which holds all that are
//! committed. No clock needs to be right for this, and no lease.
//!
//! A follower learns a closed time with the entry that came before, and believes it when it has
//! applied that entry: earlier, what lies below might still be on its way. The entry is named by its
//! term too. Another leader's entry in the same place says nothing: behind it there may be entries
//! that the one who closed the time never had, placed below it.

use crate::consensus::{EntryId, LogIndex};
use crate::rules::{Rule, is_kept};
use std::cmp::Ordering;

/// A time in the log, in microseconds of the wall clock.
pub type ClosedMicros = i64;

/// How far beyond the time asked for an entry reserves: an idle group whose closed time is read
/// appends an entry this often. A new leader closes all of it, so until its clock is there the writes
/// that come are late ones; no longer, then, than a group is without a leader when one dies.
pub const RESERVATION_MICROS: i64 = 1_000_000;

/// One member's view of its group's closed time.
///
/// Invariant: `believed <= usable <= reserved`.
#[derive(Clone, Debug)]
pub struct ClosedTime {
    /// As leader: nothing is placed at or below this. Closed by entries that may never be committed,
    /// too, and so nothing to tell others.
    floor: ClosedMicros,
    /// What readers of this replica may take for closed.
    believed: ClosedMicros,
    /// The highest reservation in the log, whether committed or not.
    reserved: ClosedMicros,
    /// Reservations of entries that are not applied here.
    pending: Vec<(LogIndex, ClosedMicros)>,
    /// The highest reservation that is applied here, hence committed.
    usable: ClosedMicros,
    /// What was heard and cannot be believed before an entry is applied.
    news: Option<(EntryId, ClosedMicros)>,
}

/// Where an entry stands, as seen from the last one that is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is applied here.
    Applied,
    /// It may come yet.
    Ahead,
    /// Another entry took its place, or may have.
    Void,
}

impl Standing {
    /// An applied entry of the same term is of the same leader, whose log holds both. Below one of a
    /// later term the entry may be there or not; who leads that term closes times of its own.
    fn of(entry: EntryId, applied: EntryId) -> Standing {
        let is_behind = entry.index <= applied.index;
        if !is_kept(Rule::BeatsNameATerm) {
            return if is_behind { Standing::Applied } else { Standing::Ahead };
        }
        match entry.term.cmp(&applied.term) {
            Ordering::Less => Standing::Void,
            Ordering::Equal if is_behind => Standing::Applied,
            Ordering::Greater if is_behind => Standing::Void,
            Ordering::Equal | Ordering::Greater => Standing::Ahead,
        }
    }
}

impl ClosedTime {
    /// A member as it starts, with what it believed and the highest reservation as of what it has
    /// applied, and the reservations of the entries after that.
    pub fn recover(
        believed: ClosedMicros,
        reserved: ClosedMicros,
        pending: Vec<(LogIndex, ClosedMicros)>,
    ) -> ClosedTime {
        let highest = pending.iter().map(|&(_, reserved)| reserved).fold(reserved, i64::max);
        let (usable, floor, news) = (reserved, believed, None);
        ClosedTime { floor, believed, reserved: highest, pending, usable, news }
    }

    /// What readers of this replica may take for closed: all that is at or below it is applied here.
    pub fn believed(&self) -> ClosedMicros {
        self.believed
    }

    /// As leader: what a write has to be placed above.
    pub fn floor(&self) -> ClosedMicros {
        self.floor
    }

    /// This member leads from here on: nothing is placed at or below what its predecessors may have
    /// closed. To be called before it places anything, and before its first entry.
    pub fn lead(&mut self) {
        self.floor = self.floor.max(self.believed);
        if is_kept(Rule::NewLeaderStartsAbove) {
            self.floor = self.floor.max(self.reserved);
        }
    }

    /// The reservation for the next entry, when beats after it are to close up to `wanted`.
    pub fn reservation(&self, wanted: ClosedMicros) -> ClosedMicros {
        self.reserved.max(wanted.max(self.floor).saturating_add(RESERVATION_MICROS))
    }

    /// An entry was appended, here or by the leader; those at and above its index are void.
    pub fn appended(&mut self, index: LogIndex, reserved: ClosedMicros) {
        // What void entries have reserved stays respected.
        self.pending.retain(|&(pending, _)| pending < index);
        self.pending.push((index, reserved));
        self.reserved = self.reserved.max(reserved);
    }

    /// As leader: closes with the entry that it appends next, which places above what was closed
    /// before. Replicas learn it with the entry, when they apply that.
    pub fn close_by_entry(&mut self, up_to: ClosedMicros) {
        self.floor = self.floor.max(up_to);
    }

    /// As leader: closes between entries, as far as is reserved. What comes back is to be told to all
    /// members, this one included, with the last entry appended.
    pub fn close_by_beat(&mut self, wanted: ClosedMicros) -> ClosedMicros {
        let bound = if is_kept(Rule::BeatsCloseWhatIsReserved) { self.usable } else { wanted };
        self.floor = self.floor.max(wanted.min(bound));
        self.floor.min(bound)
    }

    /// As leader: whether an entry is needed before beats can close up to `wanted`.
    pub fn needs_reservation(&self, wanted: ClosedMicros) -> bool {
        wanted > self.reserved
    }

    /// The leader has closed up to `closed` after an entry, by that entry or a beat; this replica has
    /// applied its log up to `applied`.
    pub fn learned(&mut self, entry: EntryId, closed: ClosedMicros, applied: EntryId) {
        let standing = if is_kept(Rule::BelievedWhenApplied) {
            Standing::of(entry, applied)
        } else {
            Standing::Applied
        };
        match standing {
            Standing::Applied => self.believed = self.believed.max(closed),
            Standing::Void => {}
            Standing::Ahead => {
                let is_news =
                    |known: (EntryId, ClosedMicros)| (entry.term, closed) > (known.0.term, known.1);
                if self.news.is_none_or(is_news) {
                    self.news = Some((entry, closed));
                }
            }
        }
    }

    /// Entries up to this one are applied here.
    pub fn applied(&mut self, applied: EntryId) {
        let committed = self.pending.iter().filter(|&&(index, _)| index <= applied.index);
        self.usable = committed.map(|&(_, reserved)| reserved).fold(self.usable, i64::max);
        self.pending.retain(|&(index, _)| index > applied.index);
        let Some((entry, closed)) = self.news else { return };
        match Standing::of(entry, applied) {
            Standing::Applied => self.believed = self.believed.max(closed),
            Standing::Void => {}
            Standing::Ahead => return,
        }
        self.news = None;
    }
}
