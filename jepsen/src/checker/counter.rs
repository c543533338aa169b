//! Counters that only rise: a read lies between what was surely added before it began and what may
//! have been added before it ended.

use super::Verdict;
use crate::history::{Call, Operation, Outcome};

/// Checks every read of every counter. At least one must have told something.
pub fn check(calls: &[Call]) -> Verdict {
    let mut verdict = Verdict::Unknown("no counter was read".to_owned());
    let mut is_first = true;
    for call in calls {
        let (Operation::ReadCounter { key, value }, Outcome::Ok { returned }) =
            (&call.operation, call.outcome)
        else {
            continue;
        };
        let (least, most) = bounds(calls, *key, call.invoked, returned);
        let value = value.unwrap_or(0);
        let text = || format!("counter {key} is {value}, which is not in {least} to {most}");
        let found = Verdict::of((!(least..=most).contains(&value)).then(text));
        verdict = if std::mem::take(&mut is_first) { found } else { verdict.and(found) };
    }
    verdict
}

fn bounds(calls: &[Call], counter: i64, began: usize, ended: usize) -> (i64, i64) {
    let (mut least, mut most) = (0, 0);
    for call in calls {
        let Operation::Increment { key, by } = call.operation else { continue };
        if key != counter || call.outcome == Outcome::Failed {
            continue;
        }
        most += if call.invoked < ended { by } else { 0 };
        let is_due = matches!(call.outcome, Outcome::Ok { returned } if returned < began);
        least += if is_due { by } else { 0 };
    }
    (least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lie_between_what_was_and_what_may_have_been() {
        let add = |invoked, outcome| {
            let operation = Operation::Increment { key: 1, by: 2 };
            Call { process: 0, invoked, operation, outcome }
        };
        let calls = |value: i64| {
            let operation = Operation::ReadCounter { key: 1, value: Some(value) };
            let outcome = Outcome::Ok { returned: 11 };
            vec![
                add(0, Outcome::Ok { returned: 1 }),
                add(2, Outcome::Failed),
                add(3, Outcome::Unknown),
                Call { process: 0, invoked: 10, operation, outcome },
                add(12, Outcome::Ok { returned: 13 }),
            ]
        };
        for right in [2, 4] {
            assert_eq!(check(&calls(right)), Verdict::Valid, "{right}");
        }
        for wrong in [0, 6] {
            assert!(matches!(check(&calls(wrong)), Verdict::Invalid(_)), "{wrong}");
        }
        assert!(matches!(check(&calls(2)[..3]), Verdict::Unknown(_)), "without a read");
    }
}
