//! Any bytes as the content of each kind of block, for [`crate::fuzz`].

use super::data::DataBlock;
use super::filter::{Filter, KeyHash};
use super::index::IndexPage;
use super::statistics::Statistics;
use model::Token;
use model::codec::DecodeError;
use model::partition::Partition;
use model::row::RowView;

/// Decodes `content` as a block of each kind, and looks for what it finds in it.
pub(crate) fn fuzz_block_content(content: &[u8]) {
    // An error is an answer; only a panic is none.
    drop(read_data(content));
    drop(read_index(content));
    if let Ok(filter) = Filter::decode(content) {
        assert_eq!(filter.encode(), content, "a filter is its bytes");
        filter.may_contain(KeyHash::new(Token(content.len() as i64), content));
    }
    if let Ok(statistics) = Statistics::decode(content) {
        let again = Statistics::decode(&statistics.encode()).expect("what was encoded decodes");
        assert_eq!(again.encode(), statistics.encode(), "statistics read back");
        statistics.covers(Token(0), content);
    }
}

fn read_data(content: &[u8]) -> Result<(), DecodeError> {
    let block = DataBlock::new(content)?;
    for index in 0..block.mark_count() {
        let mark = block.mark(index)?;
        // Blocks that are not in order may not find it; they may not go astray either.
        block.find_mark(mark.token, mark.key)?.ok();
        mark.read_head(&mut Partition::default())?;
        for row in mark.rows.clone() {
            let (clustering, bytes) = block.row(row)?;
            RowView::check(bytes)?;
            if let Ok(found) = block.find_row(mark.rows.clone(), clustering)? {
                assert_eq!(block.row(found)?.0, clustering, "another row was found");
            }
        }
    }
    Ok(())
}

fn read_index(content: &[u8]) -> Result<(), DecodeError> {
    let page = IndexPage::new(content)?;
    for index in 0..page.len() {
        let (position, _) = page.entry(index)?;
        let found = page.find(&position)?;
        assert!(found.is_none_or(|found| found < page.len()), "an entry behind the last");
    }
    Ok(())
}

/// A valid block of each kind, by its name in the corpus.
#[cfg(test)]
pub(crate) fn fuzz_seeds() -> [(&'static str, Vec<u8>); 4] {
    use super::block::BlockAddress;
    use super::data::DataBuilder;
    use super::index::{IndexBuilder, Position};
    use model::mutation::MutationItem;
    use model::row::{Deletion, Marker, RowHead, RowWriter};

    let mut row = Vec::new();
    let marker = Some(Marker { timestamp: 6, expiry: None });
    RowWriter::new(&mut row, 5, RowHead { marker, tombstone: None });
    let row = RowView::new(&row);
    let deletion = Deletion { timestamp: 5, deleted_at: 6 };
    let mut head = Partition::default();
    head.apply_item(MutationItem::PartitionTombstone(deletion));
    head.apply_item(MutationItem::StaticRow(row));
    head.apply_item(MutationItem::RangeTombstone { start: b"b", end: b"c", deletion });
    let mut data = DataBuilder::default();
    let mut index = IndexBuilder::default();
    let mut statistics = Statistics::default();
    data.go_on(-5, b"before", true);
    data.row(b"z", row);
    for (token, key) in [(4, b"one"), (7, b"two")] {
        data.begin(token, key, &head);
        statistics.add_partition(Token(token), key, &head);
        for (clustering, offset) in [(b"a", 0), (b"c", 300), (b"d", 70_000)] {
            data.row(clustering, row);
            statistics.add_row(clustering, row);
            let first = Position { token, key, clustering: Some(clustering) };
            index.push(first, BlockAddress { offset, length: 200 });
        }
    }
    let hashes = [b"one", b"two"].map(|key| KeyHash::new(Token(4), key));
    [
        ("data", data.finish()),
        ("index", index.finish()),
        ("filter", Filter::build(&hashes, 0.01).encode()),
        ("statistics", statistics.encode()),
    ]
}
