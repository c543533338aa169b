//! The partitions of a range of tokens, in order, from all sources.

use crate::error::ReadError;
use crate::read::{PartitionId, Sources};
use crate::sstable::{BlockSource, TablePartitions};
use model::Token;

/// Walks partitions in the order of (token, key).
pub(crate) struct Scan<'a> {
    sources: Sources<'a>,
    tables: Vec<TablePartitions>,
    last_token: i64,
    /// Where the walk is: behind this, or at it when `is_inclusive`.
    at: PartitionId,
    is_inclusive: bool,
}

impl<'a> Scan<'a> {
    /// Begins at or behind a partition, up to a token.
    pub(crate) fn new(
        sources: Sources<'a>,
        at: PartitionId,
        is_inclusive: bool,
        last_token: i64,
        blocks: &mut impl BlockSource,
    ) -> Result<Self, ReadError> {
        let (token, key) = (at.0.0, &at.1);
        let tables = sources
            .tables
            .iter()
            .map(|t| TablePartitions::seek(&t.table, token, key, is_inclusive, blocks))
            .collect::<Result<_, _>>()?;
        Ok(Scan { sources, tables, last_token, at, is_inclusive })
    }

    /// The next partition that any source has.
    pub(crate) fn next(
        &mut self,
        blocks: &mut impl BlockSource,
    ) -> Result<Option<PartitionId>, ReadError> {
        self.skip_passed(blocks)?;
        let mut best: Option<(i64, &[u8])> = None;
        let (token, key) = (self.at.0, &*self.at.1);
        if let Some(p) = self.sources.active.partition_from(token, key, self.is_inclusive) {
            best = Some(lower(best, (p.token().0, p.key())));
        }
        for frozen in self.sources.frozen {
            let (mut from, mut inclusive) = ((token, key), self.is_inclusive);
            while let Some(p) = frozen.memtable.partition_from(from.0, from.1, inclusive) {
                if !frozen.hidden.contains(p.token()) {
                    best = Some(lower(best, (p.token().0, p.key())));
                    break;
                }
                (from, inclusive) = ((p.token(), p.key()), false);
            }
        }
        for table in &self.tables {
            if let Some(found) = table.current()? {
                best = Some(lower(best, found));
            }
        }
        let Some((token, key)) = best.filter(|(token, _)| *token <= self.last_token) else {
            return Ok(None);
        };
        self.at = (Token(token), key.into());
        self.is_inclusive = false;
        Ok(Some(self.at.clone()))
    }

    /// Whether the table of that index has the partition that [`Scan::next`] gave last.
    pub(crate) fn is_in_table(&self, index: usize) -> bool {
        let at = (self.at.0.0, &*self.at.1);
        self.tables.get(index).is_none_or(|t| t.current().ok().flatten().is_none_or(|c| c == at))
    }

    /// Moves the tables' walks past what was given, and past what is hidden in them.
    fn skip_passed(&mut self, blocks: &mut impl BlockSource) -> Result<(), ReadError> {
        let at = (self.at.0.0, &*self.at.1);
        for (walk, live) in self.tables.iter_mut().zip(self.sources.tables) {
            while let Some((token, key)) = walk.current()? {
                let is_passed = !self.is_inclusive && (token, key) <= at;
                if token > self.last_token || !is_passed && !live.hidden.contains(Token(token)) {
                    break;
                }
                walk.step(blocks)?;
            }
        }
        Ok(())
    }
}

/// A partition's place among others, borrowed.
type Candidate<'k> = (i64, &'k [u8]);

fn lower<'k>(best: Option<Candidate<'k>>, found: Candidate<'k>) -> Candidate<'k> {
    best.map_or(found, |best| best.min(found))
}
