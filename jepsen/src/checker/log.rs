//! A change log against the writes and the table: each acknowledged upsert is in the log once, one of
//! unknown fate at most once, nothing else at all; in a row, those that did not overlap stand in
//! their order; and the last of each row in the log is the row.
//!
//! Values tell the writes apart: nobody writes one twice.

use super::Verdict;
use crate::history::{Call, Operation, Outcome};
use std::collections::BTreeMap;

/// Rows as (key, clustering, value).
type Rows<'a> = &'a [(i64, i64, i64)];

/// Checks the last reads of table and log, made when nobody wrote any more.
pub fn check(calls: &[Call]) -> Verdict {
    let ended_well = || calls.iter().rev().filter(|call| call.is_ok());
    let table = ended_well().find_map(|call| match &call.operation {
        Operation::ReadTable { rows } => Some(rows.as_slice()),
        _ => None,
    });
    let log = ended_well().find_map(|call| match &call.operation {
        Operation::ReadLog { rows } => Some(rows.as_slice()),
        _ => None,
    });
    let (Some(table), Some(log)) = (table, log) else {
        return Verdict::Unknown("table and log were not both read".to_owned());
    };
    let writes: BTreeMap<i64, &Call> = calls
        .iter()
        .filter_map(|call| match call.operation {
            Operation::Upsert { value, .. } => Some((value, call)),
            _ => None,
        })
        .collect();
    Verdict::of(
        wrong_entries(&writes, log)
            .or_else(|| wrong_order(&writes, log))
            .or_else(|| wrong_rows(table, log)),
    )
}

fn wrong_entries(writes: &BTreeMap<i64, &Call>, log: Rows) -> Option<String> {
    let mut logged: BTreeMap<i64, usize> = BTreeMap::new();
    for (key, clustering, value) in log {
        let Some(write) = writes.get(value) else {
            return Some(format!("the log holds {value}, which nobody wrote"));
        };
        let expected = Operation::Upsert { key: *key, clustering: *clustering, value: *value };
        if write.operation != expected {
            return Some(format!(
                "the log holds {expected:?}, but asked was {:?}",
                write.operation
            ));
        }
        *logged.entry(*value).or_default() += 1;
    }
    writes.iter().find_map(|(value, write)| {
        let count = logged.get(value).copied().unwrap_or(0);
        let is_right = match write.outcome {
            Outcome::Ok { .. } => count == 1,
            Outcome::Unknown => count <= 1,
            Outcome::Failed => count == 0,
        };
        let text = || format!("{value} is {count} times in the log, and ended {:?}", write.outcome);
        (!is_right).then(text)
    })
}

/// Writes of one row that stand in the log against their order in time.
fn wrong_order(writes: &BTreeMap<i64, &Call>, log: Rows) -> Option<String> {
    // By row: the greatest beginning among the writes logged so far, and its value.
    let mut begun: BTreeMap<(i64, i64), (usize, i64)> = BTreeMap::new();
    for (key, clustering, value) in log {
        let write = writes[value];
        let latest = begun.entry((*key, *clustering)).or_insert((write.invoked, *value));
        if let Outcome::Ok { returned } = write.outcome
            && returned < latest.0
        {
            let (_, later) = *latest;
            return Some(format!("{value} was written before {later}, and is logged behind it"));
        }
        if write.invoked > latest.0 {
            *latest = (write.invoked, *value);
        }
    }
    None
}

fn wrong_rows(table: Rows, log: Rows) -> Option<String> {
    let fold = |rows: Rows| -> BTreeMap<(i64, i64), i64> {
        rows.iter().map(|(key, clustering, value)| ((*key, *clustering), *value)).collect()
    };
    let (stored, replayed) = (fold(table), fold(log));
    let rows = stored.keys().chain(replayed.keys());
    let mut wrong = rows.filter(|row| stored.get(row) != replayed.get(row));
    wrong.next().map(|row| {
        let (stored, replayed) = (stored.get(row), replayed.get(row));
        format!("row {row:?} is {stored:?}, and the log comes to {replayed:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: i64, invoked: usize, outcome: Outcome) -> Call {
        let operation = Operation::Upsert { key: 1, clustering: 2, value };
        Call { process: 0, invoked, operation, outcome }
    }

    fn verdict(table: &[i64], log: &[i64]) -> Verdict {
        let rows = |values: &[i64]| values.iter().map(|value| (1, 2, *value)).collect();
        let read = |invoked, operation| {
            let outcome = Outcome::Ok { returned: invoked + 1 };
            Call { process: 0, invoked, operation, outcome }
        };
        check(&[
            write(1, 0, Outcome::Ok { returned: 1 }),
            write(2, 2, Outcome::Ok { returned: 5 }),
            write(3, 3, Outcome::Unknown),
            write(4, 6, Outcome::Failed),
            read(20, Operation::ReadTable { rows: rows(table) }),
            read(22, Operation::ReadLog { rows: rows(log) }),
        ])
    }

    #[test]
    fn a_log_that_tells_the_truth_is_valid() {
        assert_eq!(verdict(&[2], &[1, 2]), Verdict::Valid);
        assert_eq!(verdict(&[3], &[1, 2, 3]), Verdict::Valid);
        assert_eq!(verdict(&[2], &[1, 3, 2]), Verdict::Valid, "2 and 3 overlap");
    }

    #[test]
    fn a_log_that_does_not_is_not() {
        for (table, log) in [
            (&[2][..], &[2][..]), // An acknowledged write is not logged.
            (&[2], &[1, 2, 2]),   // One is logged twice.
            (&[4], &[1, 2, 4]),   // A refused one is.
            (&[2], &[1, 9, 2]),   // One that nobody made.
            (&[1], &[2, 1]),      // The order of time is not that of the log.
            (&[3], &[1, 2]),      // A row without its log entry.
            (&[], &[1, 2]),       // A log entry without its row.
        ] {
            let found = verdict(table, log);
            assert!(matches!(found, Verdict::Invalid(_)), "{table:?} {log:?}: {found}");
        }
        assert!(matches!(check(&[]), Verdict::Unknown(_)), "never read");
    }
}
