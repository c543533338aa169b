//! What the log holds at start: first what became of each group, then its valid entries.
//!
//! Two passes over the mapped segments. The first verifies every byte and follows each group:
//! its hard state, start and terms, and which later records void earlier ones. It keeps a few words
//! per group and per conflict, nothing per entry. The second hands out the entries that no later
//! record voids, in the order in which they were written, so each group's by rising index.
//!
//! Promises: an entry is handed out exactly if it is the last word on its index, above the
//! group's start and above what the caller says is flushed.
//! Does not know which entries are committed: that is for the consensus core to find out.
#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use env::disk::Mapping;

use super::error::{Corruption, LogError};
use super::format::{EntryKind, GroupId, Index, NodeId, Record, RecordKind, SegmentHeader, Term};
use super::scan::{SegmentEnd, SegmentView};

/// A group's term and this node's vote in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The current term.
    pub term: Term,
    /// Whom this node voted for in that term.
    pub vote: Option<NodeId>,
}

/// Where a group's log begins: what is at or below is held elsewhere, in sstables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    /// The last index that the log does not have.
    pub index: Index,
    /// The term of that entry.
    pub term: Term,
}

/// Where the log of a replica ended that was removed; the later of two is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormerEnd {
    /// The term of its last entry.
    pub term: Term,
    /// The index of its last entry.
    pub index: Index,
}

/// One group as the log knows it at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupReplay {
    /// Term and vote, of a removed replica as well.
    pub hard_state: HardState,
    /// Where the log of a removed replica ended; 0 when none was removed.
    pub former_end: FormerEnd,
    /// Where the log was last said to begin; index 0 when nothing was said.
    pub start: LogStart,
    /// The members at the start, as they were named; nothing if they never were.
    pub start_members: Option<Arc<[u8]>>,
    /// The last index; `None` when the log holds no entry of the group any more, so that its last
    /// one is that of `start` or what the caller has flushed, whichever is higher.
    pub last_index: Option<Index>,
    /// Entries up to here were said to be committed; 0 when nothing was said.
    pub committed: Index,
    /// The valid entries that name members, with what they carry, ascending. Some may lie below
    /// what is flushed.
    pub memberships: Vec<(Index, Vec<u8>)>,
    /// The terms of the valid entries as runs: first index of the run and its term, ascending.
    /// The first run begins at the oldest valid entry, which may lie below what is flushed.
    pub term_runs: Vec<(Index, Term)>,
    /// Records that voided something: where they are, and from which index on. In log order.
    voids: Vec<(LogOffset, Index)>,
    /// The highest index per segment that has entries of the group, oldest first.
    highest: Vec<(u64, Index)>,
    is_removed: bool,
}

/// A place in the log: position of the segment in the list, then offset in it.
type LogOffset = (usize, u64);

/// The unsynced end of the log that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Sequence number of the segment.
    pub segment: u64,
    /// The first offset that was given up.
    pub offset: u64,
}

/// An entry handed out by [`Replay::entries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayedEntry<'a> {
    /// Of which group.
    pub group: GroupId,
    /// The term it was proposed in.
    pub term: Term,
    /// Its place in the group's log.
    pub index: Index,
    /// What it is for.
    pub kind: EntryKind,
    /// Its bundle.
    pub payload: &'a [u8],
}

#[derive(Debug)]
struct MappedSegment {
    sequence: u64,
    mapping: Mapping,
    end: u64,
}

/// The log as it was found. While it lives, its segments are not recycled.
#[derive(Debug)]
pub struct Replay {
    segments: Vec<MappedSegment>,
    groups: BTreeMap<GroupId, GroupReplay>,
    /// What is left of groups that were removed: nothing but their term, vote and end.
    removed: BTreeMap<GroupId, GroupReplay>,
    torn_tail: Option<TornTail>,
    guard: Arc<()>,
}

/// Where the log ends; what the next segment is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogEnd {
    pub(super) sequence: u64,
    pub(super) offset: u64,
}

impl Replay {
    /// Verifies the segments, which are those of one log in order of their sequence numbers.
    pub(super) fn scan(shard: u32, files: Vec<(u64, Mapping)>) -> Result<Replay, LogError> {
        let mut headers = Vec::with_capacity(files.len());
        for (sequence, mapping) in &files {
            headers.push(check_header(shard, *sequence, mapping)?);
        }
        let mut replay = Replay {
            segments: Vec::with_capacity(files.len()),
            groups: BTreeMap::new(),
            removed: BTreeMap::new(),
            torn_tail: None,
            guard: Arc::new(()),
        };
        let mut next_headers = headers.iter().skip(1);
        for (sequence, mapping) in files {
            let end = next_headers
                .next()
                .map_or(SegmentEnd::Last, |next| SegmentEnd::Known(next.previous_end));
            replay.scan_segment(sequence, mapping, end)?;
        }
        let removed = replay.groups.extract_if(.., |_, group| group.is_removed);
        replay.removed = removed.collect();
        for group in replay.groups.values_mut() {
            group.drop_runs_up_to_start();
        }
        Ok(replay)
    }

    fn scan_segment(
        &mut self,
        sequence: u64,
        mapping: Mapping,
        end: SegmentEnd,
    ) -> Result<(), LogError> {
        let corrupt =
            |(offset, corruption)| LogError::Corrupt { segment: sequence, offset, corruption };
        let position = self.segments.len();
        let groups = &mut self.groups;
        let (_, view) =
            SegmentView::new(&mapping).map_err(|corruption| corrupt((0, corruption)))?;
        let scanned = view
            .scan(end, |offset, record| {
                groups.entry(record.group).or_default().follow(
                    sequence,
                    (position, offset),
                    &record,
                )
            })
            .map_err(corrupt)?;
        if scanned.is_torn {
            self.torn_tail = Some(TornTail { segment: sequence, offset: scanned.end });
        }
        self.segments.push(MappedSegment { sequence, mapping, end: scanned.end });
        Ok(())
    }

    /// The groups by id.
    pub fn groups(&self) -> &BTreeMap<GroupId, GroupReplay> {
        &self.groups
    }

    /// The groups that were removed from the shard, by id: their terms and votes, and where their logs
    /// ended.
    pub fn removed(&self) -> &BTreeMap<GroupId, GroupReplay> {
        &self.removed
    }

    /// What was cut because its write had not been completed; worth a line in the node's log.
    pub fn torn_tail(&self) -> Option<TornTail> {
        self.torn_tail
    }

    /// Hands every valid entry above its group's `flushed` index to `each`, in log order.
    ///
    /// Where tables of a group have flushed to different indexes, `flushed` is the lowest and the
    /// caller skips per table. Ends early with the error of `each`.
    pub fn entries<'a, E>(
        &'a self,
        flushed: impl Fn(GroupId) -> Index,
        mut each: impl FnMut(ReplayedEntry<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut filters: BTreeMap<GroupId, EntryFilter> = BTreeMap::new();
        for (id, group) in &self.groups {
            filters.insert(*id, EntryFilter::new(group, flushed(*id)));
        }
        for (position, segment) in self.segments.iter().enumerate() {
            // The header was verified by the first pass over the same mapping.
            let Ok((_, view)) = SegmentView::new(&segment.mapping) else { continue };
            view.walk(segment.end, |offset, record| {
                let Record { group, term, index, payload, .. } = record;
                let Some(kind) = record.kind.entry_kind() else { return Ok(()) };
                let Some(filter) = filters.get_mut(&group) else { return Ok(()) };
                if !filter.is_wanted((position, offset), index) {
                    return Ok(());
                }
                each(ReplayedEntry { group, term, index, kind, payload })
            })?;
        }
        Ok(())
    }

    /// The segments with the highest index of each group that has entries in them, oldest first.
    pub(super) fn segments(&self) -> Vec<(u64, BTreeMap<GroupId, Index>)> {
        let mut segments: Vec<_> =
            self.segments.iter().map(|segment| (segment.sequence, BTreeMap::new())).collect();
        for (id, group) in &self.groups {
            let mut places = segments.iter_mut();
            for (sequence, highest) in &group.highest {
                if let Some((_, groups)) = places.find(|(other, _)| other == sequence) {
                    groups.insert(*id, *highest);
                }
            }
        }
        segments
    }

    /// Where the log ends; `None` when there is none.
    pub(super) fn end(&self) -> Option<LogEnd> {
        self.segments.last().map(|last| LogEnd { sequence: last.sequence, offset: last.end })
    }

    /// Alive as long as the mappings are.
    pub(super) fn guard(&self) -> std::sync::Weak<()> {
        Arc::downgrade(&self.guard)
    }
}

fn check_header(shard: u32, sequence: u64, bytes: &[u8]) -> Result<SegmentHeader, LogError> {
    let check = || {
        let (header, _) = SegmentView::new(bytes)?;
        if header.shard != shard {
            return Err(Corruption::Shard { found: header.shard });
        }
        if header.sequence != sequence {
            return Err(Corruption::Sequence { found: header.sequence });
        }
        Ok(header)
    };
    check().map_err(|corruption| LogError::Corrupt { segment: sequence, offset: 0, corruption })
}

impl GroupReplay {
    /// Takes the group's next record.
    fn follow(
        &mut self,
        segment: u64,
        place: LogOffset,
        record: &Record<'_>,
    ) -> Result<(), Corruption> {
        let index = record.index;
        self.is_removed = false;
        match record.kind {
            RecordKind::Entry | RecordKind::NoOpEntry | RecordKind::MembershipEntry => {
                if self.last_index.is_some_and(|last| index > last.saturating_add(1)) {
                    return Err(Corruption::Gap { group: record.group, index });
                }
                self.void_from(place, index);
                if self.term_runs.last().is_none_or(|(_, term)| *term != record.term) {
                    self.term_runs.push((index, record.term));
                }
                self.last_index = Some(index);
                if record.kind == RecordKind::MembershipEntry {
                    self.memberships.push((index, record.payload.to_vec()));
                }
                match self.highest.last_mut() {
                    Some((last, highest)) if *last == segment => *highest = index.max(*highest),
                    _ => self.highest.push((segment, index)),
                }
            }
            RecordKind::HardState => {
                self.hard_state = HardState { term: record.term, vote: record.vote() };
            }
            RecordKind::Start => {
                if index >= self.start.index {
                    self.start = LogStart { index, term: record.term };
                    if !record.payload.is_empty() {
                        self.start_members = Some(record.payload.into());
                    }
                }
                // Entries between this start and the next one seen may be in recycled segments, so
                // where none has been seen the last index stays unknown.
                self.last_index = self.last_index.map(|last| last.max(index));
            }
            RecordKind::Truncate => self.void_from(place, index),
            RecordKind::Committed => self.committed = self.committed.max(index),
            RecordKind::Remove => {
                self.void_from(place, 0);
                *self = GroupReplay {
                    hard_state: self.hard_state,
                    former_end: self.former_end,
                    voids: std::mem::take(&mut self.voids),
                    is_removed: true,
                    ..GroupReplay::default()
                };
            }
            RecordKind::FormerEnd => {
                self.former_end = FormerEnd { term: record.term, index }.max(self.former_end);
            }
        }
        Ok(())
    }

    /// Voids the entries at and above `index` that lie before `place`.
    fn void_from(&mut self, place: LogOffset, index: Index) {
        if self.last_index.is_none_or(|last| index > last) {
            return;
        }
        self.voids.push((place, index));
        self.memberships.retain(|(named_by, _)| *named_by < index);
        while self.term_runs.last().is_some_and(|(first, _)| *first >= index) {
            self.term_runs.pop();
        }
        self.last_index = Some(index.saturating_sub(1));
    }

    fn drop_runs_up_to_start(&mut self) {
        let start = self.start.index;
        let last = self.last_index.unwrap_or(0);
        let kept = self.term_runs.partition_point(|(first, _)| *first <= start);
        let split = self.term_runs.split_off(kept);
        let straddling =
            self.term_runs.pop().map(|(first, term)| (first.max(start.saturating_add(1)), term));
        let is_alive = split.first().map_or(last, |(first, _)| first - 1) > start;
        self.term_runs = straddling.filter(|_| is_alive).into_iter().chain(split).collect();
    }
}

/// Decides which of a group's entries the second pass hands out.
struct EntryFilter {
    /// Entries at or below are not wanted.
    floor: Index,
    /// Per voiding record: where it is, and the lowest index that it or a later one voids from.
    voids: Vec<(LogOffset, Index)>,
    /// How many of them the pass has left behind.
    passed: usize,
}

impl EntryFilter {
    fn new(group: &GroupReplay, flushed: Index) -> EntryFilter {
        let mut voids = group.voids.clone();
        let mut lowest = Index::MAX;
        for (_, index) in voids.iter_mut().rev() {
            lowest = lowest.min(*index);
            *index = lowest;
        }
        EntryFilter { floor: flushed.max(group.start.index), voids, passed: 0 }
    }

    fn is_wanted(&mut self, place: LogOffset, index: Index) -> bool {
        while self.voids.get(self.passed).is_some_and(|(at, _)| *at <= place) {
            self.passed += 1;
        }
        index > self.floor && self.voids.get(self.passed).is_none_or(|(_, from)| index < *from)
    }
}
