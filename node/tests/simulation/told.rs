//! What clients wrote, each time another number, and that the log tells of it once: of what was
//! acknowledged exactly once, of what was not answered at most once, of nothing that nobody wrote.
//!
//! The law that the log, replayed, gives the table says nothing of this: a row that is told of twice
//! leaves the same table.

use cdc::fold::LogRow;
use std::collections::BTreeMap;

const UPDATE: i8 = 1;
const INSERT: i8 = 2;

/// A number in a row: the table, the partition, the clustering key, the number.
pub(crate) type Place = (usize, i32, Option<i32>, i32);

/// The numbers that clients wrote, and whether that was acknowledged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written(BTreeMap<Place, bool>);

impl Written {
    /// A number was written by `INSERT`.
    pub(crate) fn note(&mut self, place: Place, is_acknowledged: bool) {
        let former = self.0.insert(place, is_acknowledged);
        assert!(former.is_none(), "{place:?} was written before");
    }

    /// Takes in what another client wrote.
    pub(crate) fn add(&mut self, other: Written) {
        other.0.into_iter().for_each(|(place, is_acknowledged)| self.note(place, is_acknowledged));
    }

    /// Whether the log of a table tells of its rows once.
    pub(crate) fn check(&self, table: usize, log: &[LogRow]) -> Result<(), String> {
        let mut told: BTreeMap<Place, Vec<&LogRow>> = BTreeMap::new();
        for row in log.iter().filter(|row| row.operation == INSERT) {
            let key = |name: &str| int(row, name).ok_or_else(|| format!("{name} lacks: {row:?}"));
            let place = (table, key("p")?, int(row, "c"), key("v")?);
            told.entry(place).or_default().push(row);
        }
        if let Some((place, rows)) = told.iter().find(|(_, rows)| rows.len() > 1) {
            return Err(format!("{place:?} is told of more than once: {rows:?}"));
        }
        if let Some(place) = told.keys().find(|place| !self.0.contains_key(place)) {
            return Err(format!("{place:?} was written by nobody"));
        }
        let of_table = self.0.iter().filter(|(place, _)| place.0 == table);
        for (place, is_acknowledged) in of_table {
            if *is_acknowledged && !told.contains_key(place) {
                return Err(format!("{place:?} was acknowledged, and is not told of"));
            }
        }
        Ok(())
    }
}

/// Whether the log tells once of every step by which the numbers `n` of rows went up to these.
pub(crate) fn check_steps(log: &[LogRow], reached: &[i64]) -> Result<(), String> {
    let mut told: BTreeMap<(i32, i64), u64> = BTreeMap::new();
    for row in log.iter().filter(|row| matches!(row.operation, UPDATE | INSERT)) {
        let number = row.columns.get("n").and_then(|bytes| bytes.as_slice().try_into().ok());
        let (Some(p), Some(number)) = (int(row, "p"), number.map(i64::from_be_bytes)) else {
            return Err(format!("no step: {row:?}"));
        };
        *told.entry((p, number)).or_default() += 1;
    }
    let steps = (0..).zip(reached).flat_map(|(p, n)| (0..=*n).map(move |step| ((p, step), 1)));
    let expected: BTreeMap<(i32, i64), u64> = steps.collect();
    let is_other = |(at, count): &(&(i32, i64), &u64)| expected.get(at) != Some(count);
    let surplus: Vec<_> = told.iter().filter(is_other).collect();
    let missing: Vec<_> = expected.keys().filter(|at| !told.contains_key(at)).collect();
    if surplus.is_empty() && missing.is_empty() {
        return Ok(());
    }
    Err(format!("told otherwise: {surplus:?}; not told of: {missing:?}"))
}

fn int(row: &LogRow, name: &str) -> Option<i32> {
    let bytes = row.columns.get(name)?.as_slice().try_into().ok()?;
    Some(i32::from_be_bytes(bytes))
}

#[test]
fn what_is_told_twice_or_not_at_all_is_seen() {
    let row = |v: i32| LogRow {
        stream: vec![0; 16],
        time: [0; 16],
        batch_seq_no: 0,
        operation: INSERT,
        ttl_seconds: None,
        end_of_batch: true,
        columns: [("p", 1_i32), ("v", v)]
            .map(|(name, number)| (name.into(), number.to_be_bytes().to_vec()))
            .into(),
    };
    let mut written = Written::default();
    written.note((0, 1, None, 7), true);
    written.note((0, 1, None, 8), false);
    written.note((1, 1, None, 9), true);
    assert_eq!(written.check(0, &[row(7), row(8)]), Ok(()));
    assert_eq!(written.check(0, &[row(7)]), Ok(()));
    for (log, what) in [
        (vec![row(8)], "is not told of"),
        (vec![row(7), row(7)], "more than once"),
        (vec![row(7), row(8), row(8)], "more than once"),
        (vec![row(7), row(9)], "by nobody"),
    ] {
        let why = written.check(0, &log).unwrap_err();
        assert!(why.contains(what), "{why}");
    }
}
