//! Histories that are right, histories that are wrong, and the search against all orders of small
//! random histories.

use super::*;
use crate::random::Random;

/// A history in one line: `0:w1 1:r 1=1 0.` is client 0 that begins to write 1, client 1 that begins
/// to read and reads 1, and client 0 whose write is done; `0?` ends in doubt and `0!` fails.
fn history(script: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for (at, word) in script.split_whitespace().enumerate() {
        let process: u32 = word[..1].parse().unwrap();
        let (sign, rest) = (&word[1..2], &word[2..]);
        if sign == ":" {
            let operation = match &rest[..1] {
                "r" => Operation::Read { key: 0, value: None },
                "w" => Operation::Write { key: 0, value: rest[1..].parse().unwrap() },
                "c" => {
                    let (from, to) = rest[1..].split_once('>').unwrap();
                    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
                    Operation::CompareAndSet { key: 0, from, to, applied: None }
                }
                other => panic!("{other} is no operation"),
            };
            calls.push(Call { process, invoked: at, operation, outcome: Outcome::Unknown });
            continue;
        }
        let call = calls.iter_mut().rev().find(|call| call.process == process).unwrap();
        call.outcome = match sign {
            "!" => Outcome::Failed,
            "?" => Outcome::Unknown,
            _ => Outcome::Ok { returned: at },
        };
        match &mut call.operation {
            Operation::Read { value, .. } if sign == "=" => *value = rest.parse().ok(),
            Operation::CompareAndSet { applied, .. } if sign == "=" => {
                *applied = Some(rest == "yes");
            }
            _ => {}
        }
    }
    calls
}

#[test]
fn right_histories_are_valid() {
    for script in [
        "",
        "0:r 0=-",
        "0:w1 0. 1:r 1=1",
        // Two reads that overlap a write may see it in the order of their ends.
        "0:w1 1:r 1=- 2:r 2=1 0.",
        // A write of unknown fate takes effect much later, or never.
        "0:w1 0? 1:r 1=- 1:r 1=- 1:r 1=1",
        "0:w1 0? 1:r 1=-",
        "0:w1 0. 1:c1>2 1=yes 0:r 0=2",
        "0:w1 0. 1:c3>2 1=no 0:r 0=1",
        "0:w1 0. 1:c1>2 1? 0:r 0=1 0:r 0=2",
        // What failed has no effect.
        "0:w1 0. 1:w2 1! 0:r 0=1",
    ] {
        assert_eq!(check(&history(script)), Verdict::Valid, "{script}");
    }
}

#[test]
fn wrong_histories_are_not() {
    for script in [
        // A lost write.
        "0:w1 0. 1:r 1=-",
        // A value that nobody wrote.
        "0:w1 0. 1:r 1=2",
        // A read that goes back.
        "0:w1 1:r 1=1 2:r 2=- 0.",
        // The effect of a failed write.
        "0:w1 0! 1:r 1=1",
        // A write of unknown fate that takes effect, is overwritten, and comes again.
        "0:w1 0? 1:r 1=1 1:w2 1. 1:r 1=2 1:r 1=1",
        // Two compare-and-sets from one value.
        "0:w1 0. 1:c1>2 2:c1>3 1=yes 2=yes",
        "0:w1 0. 1:c1>2 1=no",
    ] {
        let verdict = check(&history(script));
        assert!(matches!(verdict, Verdict::Invalid(_)), "{script}: {verdict}");
    }
}

#[test]
fn registers_are_searched_alone() {
    let mut calls = history("0:w1 0. 1:r 1=1");
    let Operation::Read { key, .. } = &mut calls[1].operation else { unreachable!() };
    *key = 1;
    assert!(matches!(check(&calls), Verdict::Invalid(_)), "register 1 was never written");
}

/// Whether some order of the calls that remain is right, by trying them all.
fn has_order(actions: &[Action], taken: &mut Vec<bool>, state: State) -> bool {
    let is_done = |at: usize| taken[at] || actions[at].returned.is_none();
    if (0..actions.len()).all(is_done) {
        return true;
    }
    let first_end =
        (0..actions.len()).filter(|at| !taken[*at]).filter_map(|at| actions[at].returned).min();
    for at in 0..actions.len() {
        if taken[at] || first_end.is_some_and(|end| actions[at].invoked > end) {
            continue;
        }
        if let Some(after) = actions[at].what.apply(state) {
            taken[at] = true;
            let found = has_order(actions, taken, after);
            taken[at] = false;
            if found {
                return true;
            }
        }
    }
    false
}

fn random_actions(random: &mut Random) -> Vec<Action> {
    let count = 2 + random.below(6) as usize;
    let mut actions = Vec::new();
    for _ in 0..count {
        let value = |random: &mut Random| random.below(3) as i64;
        let what = match random.below(3) {
            0 => What::Read((random.below(4) > 0).then(|| value(random))),
            1 => What::Write(value(random)),
            _ => {
                let (from, to) = (value(random), value(random));
                What::CompareAndSet { from, to, applied: Some(random.below(2) == 0) }
            }
        };
        let invoked = 100 * random.below(12) as usize + actions.len();
        let is_known = matches!(what, What::Read(_)) || random.below(4) > 0;
        let returned = is_known.then(|| invoked + 100 * (1 + random.below(6) as usize) + 50);
        let what = match what {
            What::CompareAndSet { from, to, .. } if returned.is_none() => {
                What::CompareAndSet { from, to, applied: None }
            }
            other => other,
        };
        actions.push(Action { what, invoked, returned });
    }
    actions
}

#[test]
fn the_search_finds_what_trying_all_orders_finds() {
    let mut random = Random::new(11);
    let mut counts = [0, 0];
    for _ in 0..20_000 {
        let actions = random_actions(&mut random);
        let expected = has_order(&actions, &mut vec![false; actions.len()], None);
        let found = match Search::new(&actions).run(STEPS_MAX) {
            Found::Order => true,
            Found::NoOrder { .. } => false,
            Found::GaveUp => panic!("gave up on {actions:?}"),
        };
        assert_eq!(found, expected, "{actions:?}");
        counts[usize::from(found)] += 1;
    }
    assert!(counts.iter().all(|count| *count > 1_000), "both occur: {counts:?}");
}

#[test]
fn a_search_that_does_not_end_is_unknown() {
    let actions = (0..8).map(|at| Action { what: What::Write(at), invoked: 1, returned: Some(2) });
    let actions: Vec<Action> = actions.collect();
    assert!(matches!(Search::new(&actions).run(3), Found::GaveUp));
}
