//! A partition of a memtable, viewed in place.

use super::Memtable;
use super::arena::Place;
use super::content::Content;
use super::leaves::Position;
use super::record::RecordHead;
use super::rows::RowHandle;
use model::range_tombstones::RangeTombstones;
use model::row::Deletion;
use model::{TimestampMicros, Token};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionRef<'a> {
    memtable: &'a Memtable,
    token: Token,
    record: Place,
    head: RecordHead,
}

impl<'a> PartitionRef<'a> {
    #[inline]
    pub(super) fn new(memtable: &'a Memtable, token: Token, record: Place) -> Self {
        let head = RecordHead::read(&memtable.arena, record);
        PartitionRef { memtable, token, record, head }
    }

    pub(crate) fn token(&self) -> Token {
        self.token
    }

    #[inline]
    pub(crate) fn key(&self) -> &'a [u8] {
        self.head.key(&self.memtable.arena, self.record)
    }

    /// No timestamp in it is newer.
    #[inline]
    pub(crate) fn newest(&self) -> TimestampMicros {
        self.head.newest
    }

    #[inline]
    fn content(&self) -> Option<&'a Content> {
        self.head.content.map(|number| self.memtable.contents.get(number))
    }

    #[inline]
    pub(crate) fn deletion(&self) -> Option<Deletion> {
        self.content()?.deletion
    }

    #[inline]
    pub(crate) fn static_row(&self) -> Option<&'a [u8]> {
        Some(self.content()?.static_row?.get(&self.memtable.arena).1)
    }

    #[inline]
    pub(crate) fn range_tombstones(&self) -> Option<&'a RangeTombstones> {
        let list = &self.content()?.range_tombstones;
        (!list.is_empty()).then_some(list)
    }

    /// The row of that clustering key.
    #[inline]
    pub(crate) fn row(&self, clustering: &[u8]) -> Option<&'a [u8]> {
        let arena = &self.memtable.arena;
        let (found, row) = match self.content() {
            None => self.head.only_row(arena),
            Some(content) => {
                let at = content.rows.find(arena, clustering).ok()?;
                return Some(content.rows.at(at)?.get(arena).1);
            }
        };
        (found == clustering).then_some(row)
    }

    /// Whether the row of that clustering key, which is there, has all that older sources have of
    /// it.
    #[inline]
    pub(crate) fn is_whole(&self, clustering: &[u8]) -> bool {
        match self.content() {
            None => self.head.is_whole,
            Some(content) => {
                let found = content.rows.find(&self.memtable.arena, clustering).ok();
                found.and_then(|at| content.rows.at(at)).is_some_and(RowHandle::is_whole)
            }
        }
    }

    /// The position of the first row at or behind a clustering position.
    pub(crate) fn seek(&self, clustering: &[u8]) -> Position {
        let arena = &self.memtable.arena;
        match self.content() {
            None if self.head.only_row(arena).0 >= clustering => Position::FIRST,
            None => Position::SECOND,
            Some(content) => match content.rows.find(arena, clustering) {
                Ok(at) | Err(at) => at,
            },
        }
    }

    /// The position behind that of a row.
    pub(crate) fn next(&self, at: Position) -> Position {
        self.content().map_or(Position::SECOND, |content| content.rows.next(at))
    }

    /// The position before this one, if there is one.
    pub(crate) fn previous(&self, at: Position) -> Option<Position> {
        match self.content() {
            None => (at == Position::SECOND).then_some(Position::FIRST),
            Some(content) => content.rows.previous(at),
        }
    }

    /// Clustering key and bytes of the row at a position, `None` behind the last.
    pub(crate) fn row_at(&self, at: Position) -> Option<(&'a [u8], &'a [u8])> {
        let arena = &self.memtable.arena;
        match self.content() {
            None => (at == Position::FIRST).then(|| self.head.only_row(arena)),
            Some(content) => Some(content.rows.at(at)?.get(arena)),
        }
    }
}
