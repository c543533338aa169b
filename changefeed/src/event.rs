//! From the log rows of one change to the events that tell of it.
//!
//! A group has the log rows of one change of one partition. Each row of the base table that it
//! touches is one [`Event`], whatever number of log rows tells of it:
//!
//! ```text
//! operation   the row is there afterwards    INSERT when it was not there before, else UPDATE;
//!                                            without a preimage: INSERT when it was inserted
//!             it is not                      DELETE
//! number      that of the first log row of the change, so events of one group differ and ascend
//! key         the whole primary key; of the static row and of a partition, the partition key
//! ```
//!
//! A range delete is one DELETE with its bounds, a partition delete one DELETE with the partition
//! key. For a feed with `delete_expansion = 'rows'` either is one DELETE for each row that went with
//! it and that the change did not name itself, the static row among them; they share the number of
//! the delete, and an index tells them apart. Where the log does not name those rows it stays one.
//! Deletes win over what the same change writes below them, so a new row that one of the same
//! group covers has no event. A static row cannot be deleted by itself: when nothing is left of it,
//! that is an UPDATE to nulls.
//!
//! `cells` finds values in a log row, `body` writes events as JSON, `delta` and `patch` the
//! parts that only those kinds of events have.

pub(crate) mod body;
mod cells;
mod delta;
mod patch;
#[cfg(test)]
pub(crate) mod tests;

pub use cells::RowCells;
pub(crate) use delta::{push_changed_columns, push_elements};
pub(crate) use patch::push_patch;

use crate::options::{DeleteExpansion, ImagesNeeded, Options};
use crate::position::Position;
use crate::sequence::Group;
use crate::source::{LogRow, Operation, TableShape};
use model::filter::{Filter, FilterColumn};
use model::{PreimageMode, TimestampMicros, ValueError};
use std::cell::OnceCell;
use std::fmt;

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It came to be.
    Insert,
    /// It changed.
    Update,
    /// It is gone.
    Delete,
    /// Nothing: it was there when the feed's tables were scanned.
    Read,
}

impl Change {
    /// What happened to a row that was there before or not, and is there afterwards or not.
    fn between(was_there: bool, is_there: bool) -> Change {
        match (is_there, was_there) {
            (false, _) => Change::Delete,
            (true, false) => Change::Insert,
            (true, true) => Change::Update,
        }
    }

    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            Change::Insert | Change::Read => "INSERT",
            Change::Update => "UPDATE",
            Change::Delete => "DELETE",
        }
    }
}

/// Which columns of the base table an event's rows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// Key and regular columns.
    Row,
    /// Partition key and static columns.
    Static,
    /// A whole partition, or a range of it: the partition key.
    Partition,
}

/// A change of one row, or the deletion of a range of rows. Rows are log rows of its group.
#[derive(Clone, Debug)]
pub struct Event<'g> {
    /// The table.
    pub shape: &'g TableShape,
    /// Its place in the log, and its number.
    pub position: Position,
    /// What happened.
    pub change: Change,
    /// What kind of row it happened to.
    pub kind: RowKind,
    /// A row that has the key.
    pub key: &'g RowCells<'g>,
    /// The row before; absent when it was not there, or is not in the log.
    pub before: Option<&'g RowCells<'g>>,
    /// The row after; absent when it is not there, or is not in the log.
    pub after: Option<&'g RowCells<'g>>,
    /// What was changed: the first log row.
    pub delta: &'g RowCells<'g>,
    /// Further ones, where parts have TTLs of their own.
    pub more_deltas: Vec<&'g RowCells<'g>>,
    /// Start and end of a deleted range.
    pub range: Option<(&'g RowCells<'g>, &'g RowCells<'g>)>,
    /// How it stands to `delete_expansion = 'rows'`.
    pub expansion: Expansion,
}

/// What an event has to do with a delete that is to be told row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expansion {
    /// Nothing, or the feed does not ask for it.
    None,
    /// It is of a row that went with the delete: which one, counted from 0.
    Row(usize),
    /// It is the delete, whose rows have events of their own: nothing is sent of it.
    Done,
    /// It is the delete, whose rows the log does not name.
    Missing,
}

impl<'g> Event<'g> {
    /// When the change was made, by the log, in microseconds since the epoch.
    pub fn micros(&self) -> TimestampMicros {
        self.position.key.micros()
    }

    /// Whether a filter lets it through: what it says of the row after, of a DELETE the row before
    /// if it is there, else the key. The deletion of a range or a partition is let through unless
    /// its key alone says no: rows in it may be among those that were.
    pub fn passes(&self, filter: &Filter) -> bool {
        let row = match self.change {
            Change::Delete => self.before.unwrap_or(self.key),
            _ => self.after.unwrap_or(self.key),
        };
        let is_partition = self.kind == RowKind::Partition;
        let outcome = filter.evaluate(&|column: &FilterColumn| {
            row.value_of(self.shape, column.id)
                .or_else(|| self.key.value_of(self.shape, column.id).filter(|_| column.is_key()))
        });
        match outcome {
            Some(holds) => holds,
            None => is_partition,
        }
    }

    /// What tells of a row that was scanned. `position` is where in the log it was so.
    pub(crate) fn of_scanned_row(
        shape: &'g TableShape,
        cells: &'g RowCells<'g>,
        position: Position,
    ) -> Event<'g> {
        let is_static = !shape.clustering_key.is_empty() && cells.clustering()[0].is_none();
        Event {
            shape,
            position,
            change: Change::Read,
            kind: if is_static { RowKind::Static } else { RowKind::Row },
            key: cells,
            before: None,
            after: Some(cells),
            delta: cells,
            more_deltas: Vec::new(),
            range: None,
            expansion: Expansion::None,
        }
    }

    /// All log rows that tell what was changed.
    pub(crate) fn deltas(&self) -> impl Iterator<Item = &'g RowCells<'g>> + Clone {
        std::iter::once(self.delta).chain(self.more_deltas.iter().copied())
    }
}

/// A group of which no events can be made. The feed cannot go on behind it by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventError {
    /// The log does not hold the row before or after a change: it was made before the feed asked for
    /// them.
    NoImage {
        /// The table's name.
        table: String,
        /// When the change was made, in microseconds since the epoch.
        micros: TimestampMicros,
    },
    /// The rows are not what a log holds.
    Malformed(String),
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventError::NoImage { table, micros } => write!(
                f,
                "the CDC log of {table} does not hold the rows around the change at {}: it was \
                 made before this feed asked for them",
                body::Rfc3339(*micros)
            ),
            EventError::Malformed(why) => write!(f, "a row of the CDC log is malformed: {why}"),
        }
    }
}

impl std::error::Error for EventError {}

impl From<ValueError> for EventError {
    fn from(error: ValueError) -> Self {
        EventError::Malformed(error.to_string())
    }
}

/// The values of a group's log rows, found once for all of its events.
#[derive(Debug)]
pub struct GroupCells<'g> {
    shape: &'g TableShape,
    group: Group<'g>,
    rows: Vec<RowCells<'g>>,
    /// A static row of which nothing is left.
    gone: OnceCell<RowCells<'g>>,
}

impl<'g> GroupCells<'g> {
    /// Finds the values.
    ///
    /// Errors when a row lacks a part of the partition key.
    pub fn new(shape: &'g TableShape, group: Group<'g>) -> Result<GroupCells<'g>, EventError> {
        let rows = group.rows.iter().map(|row| RowCells::new(shape, row));
        Ok(GroupCells {
            shape,
            group,
            rows: rows.collect::<Result<_, _>>()?,
            gone: OnceCell::new(),
        })
    }

    /// The events of the group for a feed with these options, in the order of their numbers, those
    /// that were delivered already left out. `scans`: the feed's scan is under way, so that the log
    /// has the images which that needs.
    pub fn events<'s>(
        &'s self,
        options: &Options,
        scans: bool,
    ) -> Result<Vec<Event<'s>>, EventError> {
        let needed = options.images(scans);
        let mut events = Vec::new();
        if let Some(same_row) = self.one_row() {
            events.extend(self.row_event(same_row, needed, false)?);
        } else {
            let expands = options.delete_expansion == DeleteExpansion::Rows;
            let deletes = self.deletes(&mut events, expands)?;
            for same_row in self.by_row(expands).chunk_by(|a, b| self.is_same_row(*a, *b)) {
                events.extend(self.row_event(same_row, needed, deletes)?);
            }
            events.sort_by_key(|event| event.position.sequence);
            if expands {
                number_deleted_rows(&mut events);
            }
        }
        events.retain(|event| event.position.sequence > self.group.delivered);
        Ok(events)
    }

    /// All indexes, when all rows tell of one row of the base table: most groups.
    fn one_row(&self) -> Option<&'static [usize]> {
        const FIRST: [usize; 3] = [0, 1, 2];
        let indexes = FIRST.get(..self.rows.len())?;
        let is_one = indexes.iter().all(|index| {
            self.tells_of_row(*index) && self.rows[*index].clustering() == self.rows[0].clustering()
        });
        is_one.then_some(indexes)
    }

    /// The rows that tell of one row of the base table, those of the same row side by side; those that
    /// are told with deletes of ranges only if the feed `expands` these.
    fn by_row(&self, expands: bool) -> Vec<usize> {
        let is_asked = |index: &usize| expands || !self.rows[*index].row.is_by_row;
        let mut indexes: Vec<usize> = (0..self.rows.len())
            .filter(|index| self.tells_of_row(*index) && is_asked(index))
            .collect();
        indexes.sort_by_key(|index| self.rows[*index].clustering());
        indexes
    }

    /// A partition without clustering columns is a row.
    fn tells_of_row(&self, index: usize) -> bool {
        match self.rows[index].row.operation {
            Operation::Preimage
            | Operation::Update
            | Operation::Insert
            | Operation::RowDelete
            | Operation::Postimage => true,
            Operation::PartitionDelete => self.shape.clustering_key.is_empty(),
            _ => false,
        }
    }

    fn is_same_row(&self, a: usize, b: usize) -> bool {
        self.rows[a].clustering() == self.rows[b].clustering()
    }

    /// The event of one row. `deletes`: whether the group also deletes ranges.
    fn row_event<'s>(
        &'s self,
        indexes: &[usize],
        needed: ImagesNeeded,
        deletes: bool,
    ) -> Result<Option<Event<'s>>, EventError> {
        let (mut before, mut after, mut inserted, mut deleted) = (None, None, false, false);
        let (mut first, mut image) = (None, None);
        let mut more_deltas = Vec::new();
        for index in indexes {
            let cells = &self.rows[*index];
            match cells.row.operation {
                Operation::Preimage => before = Some(cells),
                Operation::Postimage => {
                    after = Some(cells);
                    image = Some(*index);
                }
                operation => {
                    inserted |= operation == Operation::Insert;
                    deleted |=
                        matches!(operation, Operation::RowDelete | Operation::PartitionDelete);
                    match first {
                        None => first = Some(*index),
                        Some(_) => more_deltas.push(cells),
                    }
                }
            }
        }
        // A write that is told in two groups has all its rows afterwards in the second, also those
        // that only the first has changed: there they read as gone, and here they come again.
        let Some(first) = first.or(image) else { return Ok(None) };
        inserted |= image == Some(first);
        let delta = &self.rows[first];
        let is_static = !self.shape.clustering_key.is_empty() && delta.clustering()[0].is_none();
        // An upsert without a row after it, where the log has such rows: a delete of the same write
        // covers it.
        let is_covered = after.is_none() && !deleted && needed.postimage;
        if is_covered && before.is_none() {
            return if deletes { Ok(None) } else { Err(self.no_image()) };
        }
        if is_covered && is_static && !delta.row.is_by_row {
            after = Some(self.gone.get_or_init(|| delta.without_values()));
        }
        let is_there = after.is_some() || !(deleted || is_covered);
        let was_there = match needed.preimage {
            PreimageMode::Off => !inserted,
            _ => before.is_some(),
        };
        let change = Change::between(was_there, is_there);
        let kind = if is_static { RowKind::Static } else { RowKind::Row };
        if !is_static && delta.clustering().contains(&None) {
            return Err(EventError::Malformed("a row lacks a part of its key".to_owned()));
        }
        let position = self.group.position(first);
        let key = delta;
        Ok(Some(Event {
            shape: self.shape,
            position,
            change,
            kind,
            key,
            before,
            after,
            delta,
            more_deltas,
            range: None,
            expansion: Expansion::None,
        }))
    }

    /// Adds the events of deleted ranges and partitions, and says whether there are any.
    fn deletes<'s>(
        &'s self,
        events: &mut Vec<Event<'s>>,
        expands: bool,
    ) -> Result<bool, EventError> {
        let mut start = None;
        for (index, cells) in self.rows.iter().enumerate() {
            let range = match cells.row.operation {
                Operation::RangeStartInclusive | Operation::RangeStartExclusive => {
                    start = Some((index, cells));
                    continue;
                }
                Operation::RangeEndInclusive | Operation::RangeEndExclusive => {
                    let Some((first, start)) = start.take() else {
                        let why = "a range delete has an end but no start";
                        return Err(EventError::Malformed(why.to_owned()));
                    };
                    Some((first, (start, cells)))
                }
                Operation::PartitionDelete if !self.tells_of_row(index) => None,
                _ => continue,
            };
            let first = range.as_ref().map_or(index, |(first, _)| *first);
            events.push(Event {
                shape: self.shape,
                position: self.group.position(first),
                change: Change::Delete,
                kind: RowKind::Partition,
                key: cells,
                before: None,
                after: None,
                delta: cells,
                more_deltas: Vec::new(),
                range: range.map(|(_, bounds)| bounds),
                expansion: match cells.row.is_by_row {
                    _ if !expands => Expansion::None,
                    true => Expansion::Done,
                    false => Expansion::Missing,
                },
            });
        }
        if start.is_some() {
            let why = "a range delete has a start but no end";
            return Err(EventError::Malformed(why.to_owned()));
        }
        Ok(!events.is_empty())
    }

    fn no_image(&self) -> EventError {
        let LogRow { key, .. } = &self.group.rows[0];
        EventError::NoImage { table: self.shape.name.to_string(), micros: key.micros() }
    }
}

/// Gives the events of rows that went with deletes, in order of their log rows, the number of the first
/// delete, and each its index.
fn number_deleted_rows(events: &mut [Event]) {
    let is_done = |event: &&Event| event.expansion == Expansion::Done;
    let Some(position) = events.iter().find(is_done).map(|event| event.position) else { return };
    let is_by_row =
        |event: &&mut Event| event.delta.row.is_by_row && event.expansion == Expansion::None;
    for (index, event) in events.iter_mut().filter(is_by_row).enumerate() {
        event.position = position;
        event.expansion = Expansion::Row(index);
    }
    events.sort_by_key(|event| event.position.sequence);
}
