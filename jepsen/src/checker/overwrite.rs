//! Rows that are written and deleted with timestamps of the client's: the highest wins, and of equal
//! ones a delete over a value, and the larger value over the smaller.
//!
//! So a read shows something that is at least what had been acknowledged before it began, and nothing
//! that was refused or came later. An older value behind an acknowledged delete is a resurrection.

use super::Verdict;
use crate::history::{Call, Operation, Outcome};
use std::collections::BTreeMap;

/// What decides between two writes of a row: the timestamp, then this. A delete is above all values.
type Rank = (i64, i64);

/// Checks every read of a row.
pub fn check(calls: &[Call]) -> Verdict {
    let mut writes: BTreeMap<i64, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        if let Operation::Put { key, .. } = call.operation {
            writes.entry(key).or_default().push(call);
        }
    }
    let mut verdict = Verdict::Valid;
    let mut read_count = 0;
    for call in calls {
        let (Operation::Read { key, value }, Outcome::Ok { returned }) =
            (&call.operation, call.outcome)
        else {
            continue;
        };
        read_count += 1;
        let writes = writes.get(key).map_or(&[][..], Vec::as_slice);
        let found = contradiction(writes, *value, call.invoked, returned);
        verdict = verdict.and(Verdict::of(found.map(|why| format!("row {key}: {why}"))));
    }
    if read_count == 0 {
        return Verdict::Unknown("no row was ever read".to_owned());
    }
    verdict
}

fn rank(write: &Call) -> Rank {
    match write.operation {
        Operation::Put { timestamp, value, .. } => (timestamp, value.unwrap_or(i64::MAX)),
        _ => unreachable!("only writes are ranked"),
    }
}

fn value_of(write: &Call) -> Option<i64> {
    match write.operation {
        Operation::Put { value, .. } => value,
        _ => None,
    }
}

fn contradiction(
    writes: &[&Call],
    found: Option<i64>,
    began: usize,
    ended: usize,
) -> Option<String> {
    let is_before = |write: &&&Call| match write.outcome {
        Outcome::Ok { returned } => returned < began,
        _ => false,
    };
    let least = writes.iter().filter(is_before).max_by_key(|write| rank(write));
    // What the read may have seen: an attempt of this content that is not known to have failed.
    let of_content = writes.iter().filter(|write| {
        value_of(write) == found && write.outcome != Outcome::Failed && write.invoked < ended
    });
    let best = of_content.map(|write| rank(write)).max();
    match (least, best) {
        (None, None) if found.is_none() => None,
        (_, None) if found.is_some() => Some(format!("{found:?} was never written, or refused")),
        (Some(least), best) if best < Some(rank(least)) => {
            Some(format!("{found:?} was read after {:?} was acknowledged", least.operation))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(timestamp: i64, value: Option<i64>, invoked: usize, outcome: Outcome) -> Call {
        let operation = Operation::Put { key: 1, timestamp, value };
        Call { process: 0, invoked, operation, outcome }
    }

    fn verdict(value: Option<i64>, invoked: usize) -> Verdict {
        let outcome = Outcome::Ok { returned: invoked + 1 };
        let operation = Operation::Read { key: 1, value };
        check(&[
            put(10, Some(1), 0, Outcome::Ok { returned: 1 }),
            put(20, None, 4, Outcome::Ok { returned: 5 }),
            put(20, Some(2), 6, Outcome::Ok { returned: 7 }), // Loses against the delete.
            put(30, Some(3), 10, Outcome::Unknown),
            put(40, Some(4), 12, Outcome::Failed),
            put(50, Some(5), 20, Outcome::Ok { returned: 21 }),
            put(50, Some(6), 22, Outcome::Ok { returned: 23 }),
            Call { process: 0, invoked, operation, outcome },
        ])
    }

    #[test]
    fn what_the_highest_timestamp_left_is_valid() {
        for (value, invoked) in [
            (Some(1), 2),
            (None, 8),
            (None, 14),    // The write of unknown fate was not made,
            (Some(3), 14), // or was.
            (Some(6), 30),
        ] {
            assert_eq!(verdict(value, invoked), Verdict::Valid, "{value:?} at {invoked}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for (value, invoked, what) in [
            (None, 2, "an acknowledged write is not there"),
            (Some(1), 8, "a resurrection"),
            (Some(2), 8, "a value won over a delete of its time"),
            (Some(4), 14, "a refused write is there"),
            (Some(9), 14, "one that nobody made"),
            (Some(5), 30, "the smaller of two values of one time"),
            (None, 30, "the last write is lost"),
            (Some(6), 14, "a write that comes later"),
        ] {
            let found = verdict(value, invoked);
            assert!(matches!(found, Verdict::Invalid(_)), "{what}: {found}");
        }
        assert!(matches!(check(&[]), Verdict::Unknown(_)), "never read");
    }
}
