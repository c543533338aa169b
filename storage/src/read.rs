//! Reading: what memtables and table files say about a partition, merged.
//!
//! - [`partition`] merges the rows of one partition from all sources.
//! - [`scan`] finds the partitions of a range of tokens.
//! - [`page`] follows a [`model::read::ReadCommand`]: slices, limits, resuming.
//! - [`single`] reads one row, the hot path.

pub(crate) mod page;
pub(crate) mod partition;
pub(crate) mod scan;
pub(crate) mod single;

use crate::memtable::Memtable;
use crate::sstable::{KeyHash, SsTable};
use model::Token;
use std::sync::Arc;

/// A closed interval of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenInterval {
    /// Lowest token.
    pub first: i64,
    /// Highest token.
    pub last: i64,
}

impl TokenInterval {
    /// The whole ring.
    pub const ALL: TokenInterval = TokenInterval { first: i64::MIN, last: i64::MAX };

    /// Whether the token lies in it.
    pub fn contains(&self, token: Token) -> bool {
        self.first <= token.0 && token.0 <= self.last
    }
}

/// A partition's place in the order of a table.
pub(crate) type PartitionId = (Token, Arc<[u8]>);

/// A clustering key and the row's bytes.
pub(crate) type RowBytes<'a> = (&'a [u8], &'a [u8]);

/// Intervals of tokens whose partitions a source has, but that were truncated since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hidden(pub(crate) Vec<TokenInterval>);

impl Hidden {
    #[inline]
    pub(crate) fn contains(&self, token: Token) -> bool {
        self.0.iter().any(|interval| interval.contains(token))
    }

    pub(crate) fn add(&mut self, interval: TokenInterval) {
        if !self.0.contains(&interval) {
            self.0.push(interval);
        }
    }
}

/// A memtable that is being written to a file.
#[derive(Clone, Debug)]
pub(crate) struct Frozen {
    /// The number of the file it becomes.
    pub(crate) file_id: u64,
    pub(crate) memtable: Arc<Memtable>,
    pub(crate) hidden: Hidden,
    /// A job is writing it.
    pub(crate) is_running: bool,
}

/// A table file that belongs to the live set.
#[derive(Clone, Debug)]
pub(crate) struct LiveTable {
    pub(crate) table: Arc<SsTable>,
    pub(crate) hidden: Hidden,
}

impl LiveTable {
    #[inline]
    pub(crate) fn may_contain(&self, token: Token, key: &[u8], hash: KeyHash) -> bool {
        self.table.may_contain(token, key, hash) && !self.hidden.contains(token)
    }

    /// Whether one truncation covers all its tokens.
    pub(crate) fn is_all_hidden(&self) -> bool {
        let (first, last) = (self.table.statistics.first.0, self.table.statistics.last.0);
        self.hidden.0.iter().any(|h| h.first <= first && last <= h.last)
    }
}

/// Everything that a table's content is in.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) active: &'a Memtable,
    pub(crate) frozen: &'a [Frozen],
    /// Newest maximum timestamp first.
    pub(crate) tables: &'a [LiveTable],
}

impl<'a> Sources<'a> {
    /// The memtables that show this token.
    #[inline]
    pub(crate) fn memtables(self, token: Token) -> impl Iterator<Item = &'a Memtable> {
        let frozen = self.frozen.iter().rev().filter(move |f| !f.hidden.contains(token));
        std::iter::once(self.active).chain(frozen.map(|f| &*f.memtable))
    }
}
