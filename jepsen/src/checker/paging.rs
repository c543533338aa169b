//! A set that is read page by page while it changes: no element is shown twice, none is missing that was
//! there throughout, and none is shown that was refused or not asked for yet.
//!
//! Elements that are added stay. Those that blink are taken away again, and may be shown or not, once.

use super::Verdict;
use crate::history::{Call, Operation, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// Elements that a verdict names at most.
const NAMED_MAX: usize = 10;

/// Checks every scan.
pub fn check(calls: &[Call]) -> Verdict {
    let mut elements: BTreeMap<i64, &Call> = BTreeMap::new();
    for call in calls {
        if let Operation::Add { value } | Operation::Blink { value } = call.operation {
            elements.insert(value, call);
        }
    }
    let mut verdict = Verdict::Valid;
    let mut scan_count = 0;
    for call in calls {
        if let (Operation::Scan { page_rows, values }, Outcome::Ok { returned }) =
            (&call.operation, call.outcome)
        {
            scan_count += 1;
            let found = contradiction(&elements, values, call.invoked, returned);
            let named = found.map(|why| format!("by pages of {page_rows} rows: {why}"));
            verdict = verdict.and(Verdict::of(named));
        }
    }
    if scan_count == 0 {
        return Verdict::Unknown("the set was never read".to_owned());
    }
    verdict
}

fn contradiction(
    elements: &BTreeMap<i64, &Call>,
    values: &[i64],
    began: usize,
    ended: usize,
) -> Option<String> {
    let mut shown = BTreeSet::new();
    let twice: Vec<i64> = values.iter().copied().filter(|value| !shown.insert(*value)).collect();
    let is_possible = |value: &&i64| {
        elements.get(value).is_some_and(|call| {
            // Refused may have been that it is taken away again.
            let is_refused =
                call.outcome == Outcome::Failed && matches!(call.operation, Operation::Add { .. });
            call.invoked < ended && !is_refused
        })
    };
    let impossible: Vec<i64> = shown.iter().filter(|value| !is_possible(value)).copied().collect();
    let was_there = |call: &Call| {
        let is_added = matches!(call.operation, Operation::Add { .. });
        is_added && matches!(call.outcome, Outcome::Ok { returned } if returned < began)
    };
    let there = elements.iter().filter(|(_, call)| was_there(call));
    let missing: Vec<i64> =
        there.map(|(value, _)| *value).filter(|value| !shown.contains(value)).collect();
    for (some, what) in [(twice, "twice"), (impossible, "impossible"), (missing, "missing")] {
        if !some.is_empty() {
            let named = &some[..some.len().min(NAMED_MAX)];
            return Some(format!("{} elements are {what}: {named:?}", some.len()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(values: &[i64]) -> Verdict {
        let call = |invoked, operation, outcome| Call { process: 0, invoked, operation, outcome };
        let add = |value, invoked, outcome| call(invoked, Operation::Add { value }, outcome);
        let ok = |returned| Outcome::Ok { returned };
        let scan = Operation::Scan { page_rows: 2, values: values.to_vec() };
        check(&[
            add(1, 0, ok(1)),
            add(2, 2, ok(3)),
            add(3, 4, Outcome::Unknown),
            add(4, 5, Outcome::Failed),
            call(6, Operation::Blink { value: 5 }, ok(7)),
            call(10, scan, ok(20)),
            add(6, 11, ok(12)),
            add(7, 30, ok(31)),
        ])
    }

    #[test]
    fn a_scan_of_what_was_there_is_valid() {
        for right in [&[2, 1][..], &[1, 2, 3], &[1, 2, 5], &[6, 2, 1]] {
            assert_eq!(verdict(right), Verdict::Valid, "{right:?}");
        }
    }

    #[test]
    fn others_are_not() {
        for (wrong, what) in [
            (&[1, 2, 1][..], "an element twice"),
            (&[1], "a gap"),
            (&[1, 2, 4], "a refused element"),
            (&[1, 2, 7], "one that was added later"),
            (&[1, 2, 9], "one that nobody added"),
            (&[1, 2, 5, 5], "one that blinks, twice"),
        ] {
            let found = verdict(wrong);
            assert!(matches!(found, Verdict::Invalid(_)), "{what}: {found}");
        }
        assert!(matches!(check(&[]), Verdict::Unknown(_)), "never read");
    }
}
