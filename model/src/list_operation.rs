//! Changes of a list that depend on what the list holds: by index, and by value.
//!
//! Such a change names no cell, so it cannot be part of a mutation's bytes. It travels beside the
//! mutation to the leader of the range, which looks at the row as it was before the mutation, and
//! adds the cells that come out to the mutation's own ([`ListOperation::resolve`]). From there on
//! it is a mutation like any other: followers see cells only.

mod codec;
#[cfg(test)]
pub(crate) use codec::tests as testing;

use crate::row::{Cell, CellContent, Expiry, RowView};
use crate::{ColumnId, EpochSeconds, TimestampMicros};
use std::fmt;

/// A change of one list column of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOperation {
    /// The row's clustering key; `None` for the static row.
    pub clustering: Option<Vec<u8>>,
    /// The list.
    pub column: ColumnId,
    /// The write's timestamp, or [`crate::row::UNSTAMPED`].
    pub timestamp: TimestampMicros,
    /// The end of what it sets.
    pub expiry: Option<Expiry>,
    /// When it was made, for what it deletes.
    pub deleted_at: EpochSeconds,
    /// What changes.
    pub change: ListChange,
}

/// What changes in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListChange {
    /// `l[index] = value`
    SetIndex {
        /// From 0, over the live elements.
        index: i32,
        /// The new value; null deletes the element.
        value: Option<Vec<u8>>,
    },
    /// `DELETE l[index]`
    DeleteIndex {
        /// From 0, over the live elements.
        index: i32,
    },
    /// `l = l - [values]`: deletes every element that equals one of them, byte by byte.
    RemoveValues {
        /// Serialized values.
        values: Vec<Vec<u8>>,
    },
}

/// The list does not have what the change is about. The write is refused as invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListError {
    /// There is no list to set an element of.
    SetOnNull,
    /// There is no list to delete an element from.
    DeleteOnNull,
    /// No element has that index.
    OutOfBound {
        /// The index asked for.
        index: i32,
        /// How many elements there are.
        size: usize,
    },
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListError::SetOnNull => {
                f.write_str("Attempted to set an element on a list which is null")
            }
            ListError::DeleteOnNull => {
                f.write_str("Attempted to delete an element from a list which is null")
            }
            ListError::OutOfBound { index, size } => {
                write!(f, "List index {index} out of bound, list has size {size}")
            }
        }
    }
}

impl std::error::Error for ListError {}

impl ListOperation {
    /// Appends the cells that make the change, in order, given the row as it is at `now` with all
    /// tombstones applied. Nothing may come out: no element had any of the values.
    pub fn resolve<'a>(
        &'a self,
        row: Option<RowView<'a>>,
        now: EpochSeconds,
        out: &mut Vec<Cell<'a>>,
    ) -> Result<(), ListError> {
        let live = row
            .into_iter()
            .flat_map(|row| row.column(self.column))
            .filter_map(|cell| Some((cell.path?, cell.live_value(now)?)));
        match &self.change {
            ListChange::SetIndex { index, value } => {
                let path = element_at(live, *index, ListError::SetOnNull)?;
                out.push(self.cell(path, value.as_deref()));
            }
            ListChange::DeleteIndex { index } => {
                let path = element_at(live, *index, ListError::DeleteOnNull)?;
                out.push(self.cell(path, None));
            }
            ListChange::RemoveValues { values } => {
                let removed = live.filter(|(_, value)| values.iter().any(|v| v == value));
                out.extend(removed.map(|(path, _)| self.cell(path, None)));
            }
        }
        Ok(())
    }

    fn cell<'a>(&self, path: &'a [u8], value: Option<&'a [u8]>) -> Cell<'a> {
        let content = match value {
            Some(value) => CellContent::Live { value, expiry: self.expiry },
            None => CellContent::Tombstone { deleted_at: self.deleted_at },
        };
        Cell { column: self.column, path: Some(path), timestamp: self.timestamp, content }
    }
}

/// The path of the live element with that index.
fn element_at<'a>(
    live: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    index: i32,
    when_null: ListError,
) -> Result<&'a [u8], ListError> {
    let wanted = usize::try_from(index).ok();
    let mut size = 0;
    for (path, _) in live {
        if Some(size) == wanted {
            return Ok(path);
        }
        size += 1;
    }
    Err(if size == 0 { when_null } else { ListError::OutOfBound { index, size } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{RowHead, RowWriter};

    const NOW: EpochSeconds = 100;

    /// A list of `a`, an expired `b`, `c`, a deleted element, and `a`.
    fn list() -> Vec<u8> {
        let mut out = Vec::new();
        let mut row = RowWriter::new(&mut out, 1, RowHead { marker: None, tombstone: None });
        let expired = Some(Expiry { ttl_seconds: 1, expires_at: NOW });
        let contents = [
            CellContent::Live { value: b"a", expiry: None },
            CellContent::Live { value: b"b", expiry: expired },
            CellContent::Live { value: b"c", expiry: None },
            CellContent::Tombstone { deleted_at: 1 },
            CellContent::Live { value: b"a", expiry: None },
        ];
        for (path, content) in [b"1", b"2", b"3", b"4", b"5"].into_iter().zip(contents) {
            row.cell(&Cell { column: 7, path: Some(path), timestamp: 1, content });
        }
        out
    }

    fn resolve(change: ListChange, row: Option<&[u8]>) -> Result<Vec<String>, String> {
        let operation = ListOperation {
            clustering: None,
            column: 7,
            timestamp: 9,
            expiry: None,
            deleted_at: NOW,
            change,
        };
        let mut cells = Vec::new();
        operation
            .resolve(row.map(RowView::new), NOW, &mut cells)
            .map_err(|error| error.to_string())?;
        let show = |cell: &Cell| {
            let value = cell.live_value(NOW).map(String::from_utf8_lossy);
            format!("{}={value:?}", String::from_utf8_lossy(cell.path.unwrap()))
        };
        Ok(cells.iter().map(show).collect())
    }

    #[test]
    fn indexes_count_live_elements_only() {
        let list = list();
        let set = |index| ListChange::SetIndex { index, value: Some(b"x".to_vec()) };
        assert_eq!(resolve(set(1), Some(&list)).unwrap(), ["3=Some(\"x\")"]);
        let delete = |index| ListChange::DeleteIndex { index };
        assert_eq!(resolve(delete(2), Some(&list)).unwrap(), ["5=None"]);
        for index in [3, -1] {
            let text = format!("List index {index} out of bound, list has size 3");
            assert_eq!(resolve(set(index), Some(&list)).unwrap_err(), text);
            assert_eq!(resolve(delete(index), Some(&list)).unwrap_err(), text);
        }
    }

    #[test]
    fn setting_null_deletes_the_element() {
        let change = ListChange::SetIndex { index: 0, value: None };
        assert_eq!(resolve(change, Some(&list())).unwrap(), ["1=None"]);
    }

    #[test]
    fn a_list_that_is_null_has_no_indexes() {
        let set = ListChange::SetIndex { index: 0, value: None };
        let text = "Attempted to set an element on a list which is null";
        assert_eq!(resolve(set, None).unwrap_err(), text);
        let text = "Attempted to delete an element from a list which is null";
        assert_eq!(resolve(ListChange::DeleteIndex { index: 0 }, None).unwrap_err(), text);
    }

    #[test]
    fn removing_values_deletes_each_equal_element() {
        let remove = |values: &[&[u8]]| ListChange::RemoveValues {
            values: values.iter().map(|v| v.to_vec()).collect(),
        };
        let list = list();
        assert_eq!(resolve(remove(&[b"a", b"b"]), Some(&list)).unwrap(), ["1=None", "5=None"]);
        assert!(resolve(remove(&[b"z"]), Some(&list)).unwrap().is_empty());
        assert!(resolve(remove(&[b"a"]), None).unwrap().is_empty());
    }
}
