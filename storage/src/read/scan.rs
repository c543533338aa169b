//! The partitions of a range of tokens, in order, from all sources.
//!
//! Of many tables that each hold a part of the tokens, as a node has them that was filled by
//! others, only those are looked at that the walk has come to.

use crate::error::ReadError;
use crate::read::{LiveTable, PartitionId, Sources};
use crate::sstable::{BlockSource, TablePartitions};
use model::Token;
use std::cmp::Reverse;
use std::sync::Arc;

/// Walks partitions in the order of (token, key).
pub(crate) struct Scan<'a> {
    sources: Sources<'a>,
    /// The tables that the walk has come to and not left, by their places among the sources.
    walks: Vec<(usize, TablePartitions)>,
    /// Those that it has not come to, the one that begins first last.
    ahead: Vec<usize>,
    last_token: i64,
    /// Where the walk is: behind this, or at it when `is_inclusive`.
    at: PartitionId,
    is_inclusive: bool,
    /// Which of the walks are at the partition that was given last.
    found: Vec<usize>,
}

impl<'a> Scan<'a> {
    /// Begins at or behind a partition, up to a token.
    pub(crate) fn new(
        sources: Sources<'a>,
        at: PartitionId,
        is_inclusive: bool,
        last_token: i64,
    ) -> Self {
        let ends_before = |table: &LiveTable| {
            let last = &table.table.statistics.last;
            (last.0, &*last.1) < (at.0.0, &*at.1)
        };
        let tables = sources.tables.iter().enumerate();
        let mut ahead: Vec<usize> =
            tables.filter(|(_, table)| !ends_before(table)).map(|(index, _)| index).collect();
        ahead.sort_by_key(|index| Reverse(sources.tables[*index].table.statistics.first.0));
        let (walks, found) = (Vec::new(), Vec::new());
        Scan { sources, walks, ahead, last_token, at, is_inclusive, found }
    }

    /// The next partition that any source has.
    pub(crate) fn next(
        &mut self,
        blocks: &mut impl BlockSource,
    ) -> Result<Option<PartitionId>, ReadError> {
        self.found.clear();
        self.leave_behind(blocks)?;
        let in_memory = self.next_in_memory();
        self.come_to_tables(in_memory.map(|(token, _)| token), blocks)?;
        let mut best = in_memory;
        for (_, walk) in &self.walks {
            if let Some(found) = walk.current()? {
                best = Some(lower(best, found));
            }
        }
        let Some((token, key)) = best.filter(|(token, _)| *token <= self.last_token) else {
            return Ok(None);
        };
        for (position, (_, walk)) in self.walks.iter().enumerate() {
            if walk.current()? == Some((token, key)) {
                self.found.push(position);
            }
        }
        let key: Arc<[u8]> = key.into();
        self.at = (Token(token), key);
        self.is_inclusive = false;
        Ok(Some(self.at.clone()))
    }

    pub(crate) fn sources(&self) -> Sources<'a> {
        self.sources
    }

    /// The partition that [`Scan::next`] gave last.
    pub(crate) fn at(&self) -> &PartitionId {
        &self.at
    }

    /// The walks that are at it: one for each table that shows it.
    pub(crate) fn found(&self) -> impl Iterator<Item = &TablePartitions> {
        self.found.iter().map(|position| &self.walks[*position].1)
    }

    fn next_in_memory(&self) -> Option<Candidate<'a>> {
        let mut best: Option<Candidate<'a>> = None;
        let (token, key) = (self.at.0, &*self.at.1);
        if let Some(p) = self.sources.active.partition_from(token, key, self.is_inclusive) {
            best = Some((p.token().0, p.key()));
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
        best
    }

    /// Moves the tables' walks past what was given, and forgets those that have come to their ends.
    fn leave_behind(&mut self, blocks: &mut impl BlockSource) -> Result<(), ReadError> {
        let mut position = 0;
        while let Some((index, walk)) = self.walks.get_mut(position) {
            let live = &self.sources.tables[*index];
            let at = (!self.is_inclusive).then_some((self.at.0.0, &*self.at.1));
            if pass(walk, live, at, self.last_token, blocks)?.is_some() {
                position += 1;
            } else {
                self.walks.swap_remove(position);
            }
        }
        Ok(())
    }

    /// Begins the walks of tables that may have what comes next, given a token of what does.
    fn come_to_tables(
        &mut self,
        in_memory: Option<i64>,
        blocks: &mut impl BlockSource,
    ) -> Result<(), ReadError> {
        let mut nearest = in_memory.unwrap_or(i64::MAX).min(self.last_token);
        for (_, walk) in &self.walks {
            if let Some((token, _)) = walk.current()? {
                nearest = nearest.min(token);
            }
        }
        while let Some(&index) = self.ahead.last() {
            let live = &self.sources.tables[index];
            if live.table.statistics.first.0 > nearest {
                break;
            }
            self.ahead.pop();
            let (token, key) = (self.at.0.0, &self.at.1);
            let mut walk =
                TablePartitions::seek(&live.table, token, key, self.is_inclusive, blocks)?;
            if let Some(token) = pass(&mut walk, live, None, self.last_token, blocks)? {
                nearest = nearest.min(token);
                self.walks.push((index, walk));
            }
        }
        Ok(())
    }
}

/// Moves a table's walk past a partition, and past what is hidden in it. The token that it comes to,
/// unless that lies behind the last.
fn pass(
    walk: &mut TablePartitions,
    live: &LiveTable,
    passed: Option<Candidate>,
    last_token: i64,
    blocks: &mut impl BlockSource,
) -> Result<Option<i64>, ReadError> {
    while let Some(found) = walk.current()? {
        let token = found.0;
        if token > last_token {
            return Ok(None);
        }
        if passed.is_none_or(|passed| found > passed) && !live.hidden.contains(Token(token)) {
            return Ok(Some(token));
        }
        walk.step(blocks)?;
    }
    Ok(None)
}

/// A partition's place among others, borrowed.
type Candidate<'k> = (i64, &'k [u8]);

fn lower<'k>(best: Option<Candidate<'k>>, found: Candidate<'k>) -> Candidate<'k> {
    best.map_or(found, |best| best.min(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::Random;
    use crate::memtable::Memtable;
    use crate::read::{Hidden, TokenInterval};
    use crate::sstable::{Block, BlockAddress, BlockingBlocks, SsTable, TableFile};
    use crate::sstable::{TableWriter, WriterOptions};
    use env::disk::Disk;
    use model::partition::Partition;
    use model::row::{Marker, RowHead, RowView, RowWriter};
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    const KEY: &[u8] = b"key";

    fn table(disk: &Disk, file_id: u64, tokens: impl IntoIterator<Item = i64>) -> LiveTable {
        let dir = Path::new("/t");
        disk.create_dir_all(dir).unwrap();
        let options =
            WriterOptions { is_compressed: false, block_bytes: 100, false_positive_chance: 0.01 };
        let mut writer = TableWriter::create(disk, dir, file_id, options).unwrap();
        let mut row = Vec::new();
        let marker = Some(Marker { timestamp: 1, expiry: None });
        RowWriter::new(&mut row, 1, RowHead { marker, tombstone: None });
        for token in tokens {
            writer.partition(Token(token), KEY, &Partition::default()).unwrap();
            writer.row(b"", RowView::new(&row)).unwrap();
        }
        writer.finish(disk, BTreeMap::new()).unwrap();
        let table = Arc::new(SsTable::open(disk, dir, file_id).unwrap());
        LiveTable { table, hidden: Hidden::default() }
    }

    /// Notes which files are read.
    #[derive(Default)]
    struct Asked {
        blocks: BlockingBlocks,
        files: BTreeSet<u64>,
    }

    impl BlockSource for Asked {
        fn block(
            &mut self,
            file: &Arc<TableFile>,
            address: BlockAddress,
        ) -> Result<Arc<Block>, ReadError> {
            self.files.insert(file.id);
            self.blocks.block(file, address)
        }
    }

    /// The tokens from `from` to `last`, each with the tables that have it.
    fn walk(tables: &[LiveTable], from: i64, last: i64) -> Vec<(i64, Vec<usize>)> {
        let nothing = Memtable::default();
        let sources = Sources { active: &nothing, frozen: &[], tables };
        let mut blocks = BlockingBlocks::default();
        let mut scan = Scan::new(sources, (Token(from), Arc::from(&[][..])), true, last);
        let mut found = Vec::new();
        while let Some((token, _)) = scan.next(&mut blocks).unwrap() {
            let mut holders: Vec<usize> =
                scan.found.iter().map(|position| scan.walks[*position].0).collect();
            holders.sort_unstable();
            found.push((token.0, holders));
        }
        found
    }

    #[test]
    fn a_table_is_not_looked_at_before_the_walk_comes_to_it() {
        let (disk, _control) = Disk::simulated(1);
        let tables: Vec<_> =
            (0..5).map(|part| table(&disk, part as u64, part * 100..part * 100 + 50)).collect();
        let nothing = Memtable::default();
        let sources = Sources { active: &nothing, frozen: &[], tables: &tables };
        let mut asked = Asked::default();
        let mut scan = Scan::new(sources, (Token(120), Arc::from(&[][..])), true, 249);
        for token in (120..150).chain(200..250) {
            let expected = (1..=token as u64 / 100).collect::<BTreeSet<_>>();
            assert_eq!(scan.next(&mut asked).unwrap().map(|found| found.0), Some(Token(token)));
            assert_eq!(asked.files, expected, "at {token}");
        }
        assert_eq!(scan.next(&mut asked).unwrap(), None);
        assert_eq!(asked.files, BTreeSet::from([1, 2]), "nothing is behind the last token");
    }

    #[test]
    fn every_partition_is_found_once_and_in_whichever_tables_show_it() {
        for seed in 1..=40_u64 {
            let (disk, _control) = Disk::simulated(seed);
            let mut source = Random(seed << 7);
            let mut random = |below: u64| source.below(below) as i64;
            let mut tables = Vec::new();
            let mut expected: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
            for index in 0..8 {
                let (first, step) = (random(300), 1 + random(9));
                let tokens: Vec<i64> = (0..=random(30)).map(|i| first + i * step).collect();
                let mut live = table(&disk, index as u64, tokens.iter().copied());
                let hidden = TokenInterval { first: random(300), last: random(300) };
                live.hidden.add(hidden);
                for token in tokens.into_iter().filter(|t| !hidden.contains(Token(*t))) {
                    expected.entry(token).or_default().push(index);
                }
                tables.push(live);
            }
            for (from, last) in [(0, i64::MAX), (random(300), 200 + random(300)), (500, 400)] {
                let wanted = expected.iter().filter(|(token, _)| (from..=last).contains(token));
                let wanted: Vec<_> =
                    wanted.map(|(token, tables)| (*token, tables.clone())).collect();
                assert_eq!(walk(&tables, from, last), wanted, "seed {seed}, {from} to {last}");
            }
        }
    }
}
