//! Replicas that are asked one by one in the end: all of them have the same, which is what a read at
//! QUORUM shows, and that has every acknowledged write or a later one of its row.
//!
//! Rows are compared and not digests of them. A digest would be the word of the program under test,
//! and says only that two replicas differ; rows say in what, and are held against what clients were
//! told as well. What no read shows (tombstones, cells that lost) stays out; the law between a table
//! and its log, which [`super::log`] and the simulation check, is about those too.

use super::Verdict;
use crate::history::{Call, Operation, Outcome};
use std::collections::BTreeMap;

/// Rows as (key, clustering, value).
type Rows<'a> = &'a [(i64, i64, i64)];

/// Checks the last read of the table and of each replica, made when nobody wrote any more.
pub fn check(calls: &[Call]) -> Verdict {
    let ended_well = || calls.iter().filter(|call| call.is_ok());
    let table = ended_well().rev().find_map(|call| match &call.operation {
        Operation::ReadTable { rows } => Some(rows.as_slice()),
        _ => None,
    });
    let mut replicas: BTreeMap<u32, Rows> = BTreeMap::new();
    for call in ended_well() {
        if let Operation::ReadReplica { node, rows } = &call.operation {
            replicas.insert(*node, rows);
        }
    }
    let (Some(table), false) = (table, replicas.is_empty()) else {
        return Verdict::Unknown("table and replicas were not all read".to_owned());
    };
    let differing = replicas.iter().find_map(|(node, rows)| {
        let difference = difference(table, rows)?;
        Some(format!("the replica on node {} {difference}", node + 1))
    });
    Verdict::of(differing.or_else(|| wrong_row(calls, table)))
}

fn difference(table: Rows, replica: Rows) -> Option<String> {
    let missing = table.iter().find(|row| replica.binary_search(row).is_err());
    let foreign = replica.iter().find(|row| table.binary_search(row).is_err());
    match (missing, foreign) {
        (Some(row), _) => Some(format!("does not have {row:?}")),
        (None, Some(row)) => Some(format!("alone has {row:?}")),
        (None, None) => None,
    }
}

/// A row that holds something refused, or older than what was acknowledged last.
fn wrong_row(calls: &[Call], table: Rows) -> Option<String> {
    let mut writes: BTreeMap<(i64, i64), Vec<(&Call, i64)>> = BTreeMap::new();
    for call in calls {
        if let Operation::Upsert { key, clustering, value } = call.operation {
            writes.entry((key, clustering)).or_default().push((call, value));
        }
    }
    let found: BTreeMap<(i64, i64), i64> =
        table.iter().map(|(key, clustering, value)| ((*key, *clustering), *value)).collect();
    if let Some(row) = found.keys().find(|row| !writes.contains_key(row)) {
        return Some(format!("row {row:?} is there, and nobody wrote it"));
    }
    writes.iter().find_map(|(row, writes)| {
        let shown = found.get(row);
        let of_shown = writes.iter().find(|(_, value)| Some(value) == shown);
        let began = |end: usize| writes.iter().filter(move |(call, _)| call.invoked > end);
        let is_overtaken = |call: &Call| match call.outcome {
            Outcome::Ok { returned } => began(returned).any(|(later, _)| later.is_ok()),
            _ => false,
        };
        match of_shown {
            None if shown.is_none() && writes.iter().all(|(call, _)| !call.is_ok()) => None,
            None => Some(format!("row {row:?} is {shown:?}, and an acknowledged write is lost")),
            Some((call, value)) if call.outcome == Outcome::Failed => {
                Some(format!("row {row:?} is {value}, which was refused"))
            }
            Some((call, value)) if is_overtaken(call) => {
                Some(format!("row {row:?} is {value}, though a later write was acknowledged"))
            }
            Some(_) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(table: &[i64], replicas: &[&[i64]]) -> Verdict {
        let rows = |values: &[i64]| values.iter().map(|value| (1, *value / 10, *value)).collect();
        let call = |invoked, operation, outcome| Call { process: 0, invoked, operation, outcome };
        let ok = |invoked| Outcome::Ok { returned: invoked + 1 };
        let write = |value: i64, invoked, outcome| {
            call(invoked, Operation::Upsert { key: 1, clustering: value / 10, value }, outcome)
        };
        let mut calls = vec![
            write(11, 0, ok(0)),
            write(12, 2, ok(2)),
            write(13, 3, Outcome::Unknown),
            write(14, 4, Outcome::Failed),
            write(21, 6, Outcome::Unknown),
            call(20, Operation::ReadTable { rows: rows(table) }, ok(20)),
        ];
        for (node, values) in (0..).zip(replicas) {
            let at = 30 + node as usize * 2;
            calls.push(call(at, Operation::ReadReplica { node, rows: rows(values) }, ok(at)));
        }
        check(&calls)
    }

    #[test]
    fn replicas_that_are_the_table_are_valid() {
        for table in [&[12][..], &[13], &[12, 21], &[13, 21]] {
            assert_eq!(verdict(table, &[table, table]), Verdict::Valid, "{table:?}");
        }
    }

    #[test]
    fn others_are_not() {
        for (table, replicas, what) in [
            (&[12][..], &[&[12][..], &[]][..], "a replica misses a row"),
            (&[12], &[&[12], &[12, 21]], "a replica alone has a row"),
            (&[13], &[&[12], &[13]], "a replica has an older value"),
            (&[14], &[&[14], &[14]], "a refused write"),
            (&[11], &[&[11], &[11]], "an older value everywhere"),
            (&[], &[&[], &[]], "an acknowledged write is lost everywhere"),
            (&[12, 31], &[&[12, 31], &[12, 31]], "a row that nobody wrote"),
        ] {
            let found = verdict(table, replicas);
            assert!(matches!(found, Verdict::Invalid(_)), "{what}: {found}");
        }
        assert!(matches!(verdict(&[12], &[]), Verdict::Unknown(_)), "no replica was read");
    }
}
