//! Partitions of which all rows are written together: no read shows two writes at once, whichever
//! replica answers; and reads that a leader answers are linearizable, each partition being a register.

use super::{Verdict, linearizable};
use crate::history::{Call, Operation, Outcome};
use std::collections::BTreeMap;

/// Rows of a partition.
pub const ROWS: usize = 4;

/// Checks every read of a partition.
pub fn check(calls: &[Call]) -> Verdict {
    let mut writes: BTreeMap<i64, &Call> = BTreeMap::new();
    for call in calls {
        if let Operation::WriteAll { value, .. } = call.operation {
            writes.insert(value, call);
        }
    }
    let mut verdict = Verdict::Valid;
    let mut read_count = 0;
    let mut registers = Vec::new();
    for call in calls {
        let mut register = call.clone();
        match &call.operation {
            Operation::WriteAll { key, value } => {
                register.operation = Operation::Write { key: *key, value: *value };
            }
            Operation::ReadAll { key, is_of_any, values } if call.is_ok() => {
                read_count += 1;
                let found = mixture(values).or_else(|| impossible(&writes, call, values));
                verdict =
                    verdict.and(Verdict::of(found.map(|why| format!("partition {key}: {why}"))));
                if *is_of_any {
                    continue;
                }
                register.operation = Operation::Read { key: *key, value: values.first().copied() };
            }
            _ => continue,
        }
        registers.push(register);
    }
    if read_count == 0 {
        return Verdict::Unknown("no partition was ever read".to_owned());
    }
    verdict.and(linearizable::check(&registers))
}

/// A read of two writes, or of a part of one.
fn mixture(values: &[i64]) -> Option<String> {
    let is_whole = values.is_empty() || values.len() == ROWS;
    let is_mixed = values.windows(2).any(|pair| pair[0] != pair[1]);
    (is_mixed || !is_whole).then(|| format!("{values:?} is no single write"))
}

/// A read of what was refused, or not asked yet.
fn impossible(writes: &BTreeMap<i64, &Call>, read: &Call, values: &[i64]) -> Option<String> {
    let value = values.first()?;
    let Outcome::Ok { returned } = read.outcome else { return None };
    match writes.get(value) {
        Some(write) if write.outcome != Outcome::Failed && write.invoked < returned => None,
        _ => Some(format!("{value} was never written, or refused")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(is_of_any: bool, values: &[i64]) -> Verdict {
        let write = |value, invoked, outcome| Call {
            process: 0,
            invoked,
            operation: Operation::WriteAll { key: 1, value },
            outcome,
        };
        let operation = Operation::ReadAll { key: 1, is_of_any, values: values.to_vec() };
        check(&[
            write(1, 0, Outcome::Ok { returned: 1 }),
            write(2, 2, Outcome::Ok { returned: 3 }),
            write(3, 4, Outcome::Unknown),
            write(4, 5, Outcome::Failed),
            Call { process: 0, invoked: 10, operation, outcome: Outcome::Ok { returned: 11 } },
        ])
    }

    #[test]
    fn one_write_as_a_whole_is_valid() {
        assert_eq!(verdict(false, &[2; ROWS]), Verdict::Valid);
        assert_eq!(verdict(false, &[3; ROWS]), Verdict::Valid);
        assert_eq!(verdict(true, &[1; ROWS]), Verdict::Valid, "any replica may be behind");
        assert_eq!(verdict(true, &[]), Verdict::Valid, "far behind");
    }

    #[test]
    fn anything_else_is_not() {
        for (is_of_any, values, what) in [
            (true, &[1, 1, 2, 2][..], "a mixture"),
            (false, &[2, 2, 2, 3], "a mixture at the leader"),
            (true, &[2, 2], "half a write"),
            (true, &[4; ROWS], "a refused write"),
            (true, &[9; ROWS], "one that nobody made"),
            (false, &[1; ROWS], "a stale read at the leader"),
            (false, &[], "everything lost"),
        ] {
            let found = verdict(is_of_any, values);
            assert!(matches!(found, Verdict::Invalid(_)), "{what}: {found}");
        }
        assert!(matches!(check(&[]), Verdict::Unknown(_)), "never read");
    }
}
