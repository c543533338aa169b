//! What a decision writes for the log, and the space in which it is made.
//!
//! One buffer serves decision after decision, so that a write allocates nothing for its log rows.

use crate::delta::RowDelta;
use crate::place::Kept;
use crate::rows::{GroupWriter, PlannedRow, Touched};

/// More space than this is not kept from one decision to the next, in bytes.
const SPACE_KEPT_BYTES_MAX: usize = 1 << 20;

/// The log mutations of the last decision: one for each group, in order of their times.
#[derive(Debug, Default)]
pub struct LogBuffer {
    pub(crate) bytes: Vec<u8>,
    /// Where each mutation ends.
    pub(crate) ends: Vec<usize>,
    pub(crate) space: Space,
}

/// Lists and buffers of a decision in the making, empty before and after it.
#[derive(Debug, Default)]
pub(crate) struct Space {
    pub(crate) writer: GroupWriter,
    /// A row after the write.
    pub(crate) row_after: Vec<u8>,
    pub(crate) kept: Vec<Kept>,
    pub(crate) planned: Vec<PlannedRow<'static>>,
    pub(crate) delta_rows: Vec<(&'static [u8], RowDelta<'static>)>,
    pub(crate) touched: Vec<Touched<'static>>,
}

impl LogBuffer {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The mutations, in order of their times.
    pub fn mutations(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    /// Whether the last decision logs nothing.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        if self.bytes.capacity() > SPACE_KEPT_BYTES_MAX {
            *self = LogBuffer::default();
        }
        self.bytes.clear();
        self.ends.clear();
    }
}

/// An empty list with the space of a list whose elements borrowed from elsewhere.
pub(crate) fn emptied<T, U>(mut list: Vec<T>) -> Vec<U> {
    list.clear();
    // The standard library collects into the same allocation when the elements are of one size.
    list.into_iter().map(|_| unreachable!("the list is empty")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_list_keeps_its_space() {
        let text = String::from("borrowed");
        let mut list: Vec<&str> = Vec::with_capacity(100);
        list.push(&text);
        let (place, capacity) = (list.as_ptr(), list.capacity());
        let again: Vec<&'static str> = emptied(list);
        assert!(again.is_empty());
        assert_eq!((again.as_ptr(), again.capacity()), (place, capacity));
    }
}
