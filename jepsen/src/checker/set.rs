//! A set that only grows: no acknowledged element is lost, and no element appears that was refused
//! or never sent.

use super::Verdict;
use crate::history::{Call, Operation, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// Elements that a verdict names at most.
const NAMED_MAX: usize = 10;

/// Checks every read: it holds what was acknowledged before it began, and only what was sent before
/// it ended. At least one read must have told something.
pub fn check(calls: &[Call]) -> Verdict {
    let adds: BTreeMap<i64, &Call> = calls
        .iter()
        .filter_map(|call| match call.operation {
            Operation::Add { value } => Some((value, call)),
            _ => None,
        })
        .collect();
    let mut verdict = Verdict::Unknown("the set was never read".to_owned());
    let mut is_first = true;
    for call in calls {
        let (Operation::ReadSet { values }, Outcome::Ok { returned }) =
            (&call.operation, call.outcome)
        else {
            continue;
        };
        let found = Verdict::of(contradiction(&adds, values, call.invoked, returned));
        verdict = if std::mem::take(&mut is_first) { found } else { verdict.and(found) };
    }
    verdict
}

fn contradiction(
    adds: &BTreeMap<i64, &Call>,
    values: &[i64],
    began: usize,
    ended: usize,
) -> Option<String> {
    let read: BTreeSet<i64> = values.iter().copied().collect();
    let is_due = |add: &Call| matches!(add.outcome, Outcome::Ok { returned } if returned < began);
    let lost: Vec<i64> = adds
        .iter()
        .filter(|(value, add)| is_due(add) && !read.contains(value))
        .map(|(value, _)| *value)
        .collect();
    let can_be = |value: &i64| {
        adds.get(value).is_some_and(|add| add.outcome != Outcome::Failed && add.invoked < ended)
    };
    let strange: Vec<i64> = read.iter().copied().filter(|value| !can_be(value)).collect();
    if values.len() > read.len() {
        return Some("an element was read twice".to_owned());
    }
    let named = |elements: &[i64]| format!("{:?}", &elements[..elements.len().min(NAMED_MAX)]);
    if !lost.is_empty() {
        return Some(format!("{} acknowledged elements are lost: {}", lost.len(), named(&lost)));
    }
    let text = || format!("{} elements come from nowhere: {}", strange.len(), named(&strange));
    (!strange.is_empty()).then(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(value: i64, invoked: usize, outcome: Outcome) -> Call {
        Call { process: 0, invoked, operation: Operation::Add { value }, outcome }
    }

    fn read(values: &[i64]) -> Call {
        let operation = Operation::ReadSet { values: values.to_vec() };
        Call { process: 0, invoked: 100, operation, outcome: Outcome::Ok { returned: 101 } }
    }

    fn adds() -> Vec<Call> {
        vec![
            add(1, 0, Outcome::Ok { returned: 2 }),
            add(2, 1, Outcome::Failed),
            add(3, 3, Outcome::Unknown),
        ]
    }

    #[test]
    fn what_may_be_is_valid_and_what_may_not_is_not() {
        let verdict = |values: &[i64]| check(&[adds(), vec![read(values)]].concat());
        assert_eq!(verdict(&[1]), Verdict::Valid);
        assert_eq!(verdict(&[1, 3]), Verdict::Valid);
        for wrong in [&[][..], &[3], &[1, 2], &[1, 4], &[1, 1]] {
            assert!(matches!(verdict(wrong), Verdict::Invalid(_)), "{wrong:?}");
        }
        assert!(matches!(check(&adds()), Verdict::Unknown(_)), "without a read");
    }

    #[test]
    fn every_read_counts() {
        let mut early = read(&[]);
        early.invoked = 1;
        early.outcome = Outcome::Ok { returned: 2 };
        let history = |reads: Vec<Call>| check(&[adds(), reads].concat());
        assert_eq!(history(vec![early.clone(), read(&[1])]), Verdict::Valid);
        assert!(matches!(history(vec![early, read(&[])]), Verdict::Invalid(_)));
        assert!(matches!(history(vec![read(&[]), read(&[1])]), Verdict::Invalid(_)));
    }
}
