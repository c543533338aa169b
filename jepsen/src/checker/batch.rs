//! Logged batches: of the two rows that each of them writes, both are there in the end, or neither.

use super::{Verdict, set};
use crate::history::{Call, Operation};

/// Elements that a verdict names at most.
const NAMED_MAX: usize = 10;

/// Checks each side as a set ([`set`]), and both against each other as they were last read, when
/// nobody wrote any more.
pub fn check(calls: &[Call]) -> Verdict {
    let side = |of: fn(&[i64], &[i64]) -> Vec<i64>| {
        let as_set = |call: &Call| match &call.operation {
            Operation::ReadBoth { left, right } => {
                Call { operation: Operation::ReadSet { values: of(left, right) }, ..call.clone() }
            }
            Operation::AddBoth { value } => {
                Call { operation: Operation::Add { value: *value }, ..call.clone() }
            }
            _ => call.clone(),
        };
        set::check(&calls.iter().map(as_set).collect::<Vec<Call>>())
    };
    let left = side(|left, _| left.to_vec());
    let right = side(|_, right| right.to_vec());
    let last =
        calls.iter().rev().filter(|call| call.is_ok()).find_map(|call| match &call.operation {
            Operation::ReadBoth { left, right } => Some((left, right)),
            _ => None,
        });
    let halves = last.and_then(|(left, right)| {
        let one_sided = |one: &[i64], other: &[i64]| -> Vec<i64> {
            one.iter().copied().filter(|value| !other.contains(value)).collect()
        };
        let mut halves = one_sided(left, right);
        halves.extend(one_sided(right, left));
        let named = &halves[..halves.len().min(NAMED_MAX)];
        (!halves.is_empty()).then(|| format!("{} batches are half there: {named:?}", halves.len()))
    });
    left.and(right).and(Verdict::of(halves))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Outcome;

    fn verdict(left: &[i64], right: &[i64]) -> Verdict {
        let add = |value, outcome| {
            let operation = Operation::AddBoth { value };
            Call { process: 0, invoked: 0, operation, outcome }
        };
        let operation = Operation::ReadBoth { left: left.to_vec(), right: right.to_vec() };
        let outcome = Outcome::Ok { returned: 11 };
        check(&[
            add(1, Outcome::Ok { returned: 1 }),
            add(2, Outcome::Unknown),
            add(3, Outcome::Failed),
            Call { process: 0, invoked: 10, operation, outcome },
        ])
    }

    #[test]
    fn both_rows_or_neither() {
        assert_eq!(verdict(&[1], &[1]), Verdict::Valid);
        assert_eq!(verdict(&[1, 2], &[1, 2]), Verdict::Valid);
        for (left, right) in [
            (&[1, 2][..], &[1][..]), // A batch of unknown fate is half there.
            (&[1], &[1, 2]),
            (&[1], &[]),        // An acknowledged one is.
            (&[], &[]),         // It is lost.
            (&[1, 3], &[1, 3]), // A refused one is there.
        ] {
            let found = verdict(left, right);
            assert!(matches!(found, Verdict::Invalid(_)), "{left:?} {right:?}: {found}");
        }
        assert!(matches!(check(&[]), Verdict::Unknown(_)), "never read");
    }
}
