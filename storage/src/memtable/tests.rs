//! The memtable against a model: a map of [`Partition`]s that takes the same mutations. Tokens are
//! few here, so that partitions share them.

use super::*;
use crate::engine::tests::{Random, random_mutation};
use model::partition::Partition;

type Model = BTreeMap<(Token, Vec<u8>), Partition>;

/// Every third key has a token of its own, the others share a few.
fn token_of(key: &[u8]) -> Token {
    let number = i64::from(key.last().copied().unwrap_or(0));
    Token(if number % 3 == 0 { (number - 120) << 50 } else { number % 5 })
}

fn check(memtable: &Memtable, model: &Model) {
    assert_eq!(memtable.partition_count(), model.len());
    assert!(memtable.iter().map(|p| (p.token(), p.key().to_vec())).eq(model.keys().cloned()));
    for ((token, key), expected) in model {
        let partition = memtable.partition(*token, key).unwrap();
        assert_eq!(partition.deletion(), expected.deletion);
        assert_eq!(partition.static_row().unwrap_or(b""), expected.static_row);
        let ranges = partition.range_tombstones().cloned().unwrap_or_default();
        assert_eq!(ranges, expected.range_tombstones);
        let newest = expected.newest_timestamp().unwrap();
        assert!(partition.newest() >= newest && newest >= memtable.timestamps().oldest);
        check_rows(&partition, expected);
        let behind = model.range((*token, key.clone())..).nth(1).map(|(id, _)| id.clone());
        let found = memtable.partition_from(*token, key, false);
        assert_eq!(found.map(|p| (p.token(), p.key().to_vec())), behind);
        assert_eq!(memtable.partition_from(*token, key, true).unwrap().key(), key);
    }
    assert!(memtable.partition(Token(0), b"no such key").is_none());
    let rows = model.values().flat_map(|partition| &partition.rows);
    let row_bytes = rows.map(|(clustering, row)| clustering.len() + row.len()).sum::<usize>();
    assert!(memtable.memory_bytes() > row_bytes + 48 * model.len());
}

fn check_rows(partition: &PartitionRef, expected: &Partition) {
    let mut at = partition.seek(b"");
    let mut positions = Vec::new();
    for (clustering, row) in &expected.rows {
        assert_eq!(partition.row_at(at), Some((&**clustering, &**row)));
        assert_eq!(partition.row(clustering), Some(&**row));
        assert_eq!(partition.seek(clustering), at);
        positions.push(at);
        at = partition.next(at);
    }
    assert!(partition.row_at(at).is_none());
    assert!(partition.row(b"no such row").is_none());
    for expected in positions.iter().rev() {
        at = partition.previous(at).unwrap();
        assert_eq!(at, *expected);
    }
    assert!(partition.previous(at).is_none());
}

#[test]
fn a_memtable_holds_what_the_same_mutations_add_up_to() {
    for seed in 1..=8_u64 {
        let mut random = Random(seed << 7);
        let (mut memtable, mut model) = (Memtable::default(), Model::new());
        for step in 0..3_000 {
            let bytes = random_mutation(&mut random, 40 + seed * 25);
            let mutation = MutationView::check(&bytes).unwrap();
            if mutation.is_empty() {
                continue;
            }
            let token = token_of(mutation.key());
            memtable.prefetch_index(token);
            memtable.prefetch_record(token);
            memtable.apply(token, &mutation);
            memtable.note_index(1, step);
            model.entry((token, mutation.key().to_vec())).or_default().apply(&mutation);
        }
        check(&memtable, &model);
        assert!(memtable.indexes()[&1].last > 2_900);

        memtable.remove(-1 << 55..=3);
        model.retain(|(token, _), _| token.0 < -1 << 55 || token.0 > 3);
        check(&memtable, &model);
        memtable.remove(i64::MIN..=i64::MAX);
        check(&memtable, &Model::new());
        assert!(!memtable.is_empty(), "the entries are still noted");
    }
}
