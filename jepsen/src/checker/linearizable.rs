//! Linearizability of registers: is there an order of the calls, which keeps that of calls that do
//! not overlap, in which every read is right?
//!
//! The search is Wing and Gong's with Lowe's memory of what was tried: it goes through the history,
//! takes a call that is open as the next one, and goes back when a call ended before it was taken.
//! What was tried is a set of calls taken and the state they lead to; the same set and state again
//! lead nowhere new. Registers are independent of each other, so each is searched alone.
//!
//! A call of unknown fate ends never. So it may be taken at any later point, or at the very end,
//! which is the same as not at all: the search is over when all calls with an end were taken.

use super::Verdict;
use crate::history::{Call, Operation, Outcome};
use std::collections::{BTreeMap, HashSet};

/// Steps that the search of one register may take, so that it ends within seconds.
const STEPS_MAX: u64 = 20_000_000;

/// Checks the reads, writes and compare-and-sets of every register.
pub fn check(calls: &[Call]) -> Verdict {
    let mut by_key: BTreeMap<i64, Vec<Action>> = BTreeMap::new();
    for call in calls {
        if let Some((key, action)) = action(call) {
            by_key.entry(key).or_default().push(action);
        }
    }
    let mut verdict = Verdict::Valid;
    for (key, actions) in by_key {
        let found = Search::new(&actions).run(STEPS_MAX);
        verdict = verdict.and(match found {
            Found::Order => Verdict::Valid,
            Found::NoOrder { longest } => Verdict::Invalid(format!(
                "register {key}: no order of its {} calls is right; at most {longest} of them \
                 fit together",
                actions.len()
            )),
            Found::GaveUp => {
                Verdict::Unknown(format!("register {key}: no answer after {STEPS_MAX} steps"))
            }
        });
    }
    verdict
}

/// A register's state: `None` before its first write.
type State = Option<i64>;

/// One call on a register.
#[derive(Clone, Copy, Debug)]
struct Action {
    what: What,
    invoked: usize,
    /// Nothing if its end is not known.
    returned: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Read(State),
    Write(i64),
    /// `None` when it is not known whether it was applied.
    CompareAndSet {
        from: i64,
        to: i64,
        applied: Option<bool>,
    },
}

fn action(call: &Call) -> Option<(i64, Action)> {
    let returned = match call.outcome {
        Outcome::Ok { returned } => Some(returned),
        Outcome::Unknown => None,
        Outcome::Failed => return None,
    };
    let (key, what) = match call.operation {
        // A read that told nothing says nothing.
        Operation::Read { .. } if returned.is_none() => return None,
        Operation::Read { key, value } => (key, What::Read(value)),
        Operation::Write { key, value } => (key, What::Write(value)),
        Operation::CompareAndSet { key, from, to, applied } => {
            (key, What::CompareAndSet { from, to, applied: returned.and(applied) })
        }
        _ => return None,
    };
    Some((key, Action { what, invoked: call.invoked, returned }))
}

impl What {
    /// The state after it, if it can happen in this state.
    fn apply(self, state: State) -> Option<State> {
        match self {
            What::Read(value) => (value == state).then_some(state),
            What::Write(value) => Some(Some(value)),
            What::CompareAndSet { from, to, applied } => {
                let holds = state == Some(from);
                if applied.is_some_and(|applied| applied != holds) {
                    return None;
                }
                Some(if holds { Some(to) } else { state })
            }
        }
    }
}

enum Found {
    Order,
    NoOrder { longest: usize },
    GaveUp,
}

/// Beginnings and ends of calls, in order, as a list from which calls are taken out and put back.
struct Search<'a> {
    actions: &'a [Action],
    /// The list: entry 0 is its head. Entry `2 * call + 1` is a beginning, the next one its end.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Calls with an end that were not taken yet.
    open_count: usize,
    taken: Box<[u64]>,
}

impl<'a> Search<'a> {
    fn new(actions: &'a [Action]) -> Self {
        let mut order: Vec<(usize, usize)> = Vec::with_capacity(2 * actions.len());
        for (call, action) in actions.iter().enumerate() {
            order.push((action.invoked, 2 * call + 1));
            order.extend(action.returned.map(|returned| (returned, 2 * call + 2)));
        }
        order.sort_unstable();
        let (mut next, mut previous) =
            (vec![0; 2 * actions.len() + 1], vec![0; 2 * actions.len() + 1]);
        let mut last = 0;
        for (_, entry) in order {
            next[last] = entry;
            previous[entry] = last;
            last = entry;
        }
        next[last] = 0;
        previous[0] = last;
        let open_count = actions.iter().filter(|action| action.returned.is_some()).count();
        let taken = vec![0; actions.len().div_ceil(64)].into_boxed_slice();
        Search { actions, next, previous, open_count, taken }
    }

    fn run(mut self, steps_max: u64) -> Found {
        let mut tried: HashSet<(Box<[u64]>, State)> = HashSet::new();
        let mut order: Vec<(usize, State)> = Vec::new();
        let (mut state, mut longest) = (None, 0);
        let mut entry = self.next[0];
        for _ in 0..steps_max {
            if self.open_count == 0 {
                return Found::Order;
            }
            let is_beginning = entry % 2 == 1;
            if is_beginning {
                let call = (entry - 1) / 2;
                let after = self.actions[call].what.apply(state);
                if let Some(after) = after {
                    self.taken[call / 64] |= 1 << (call % 64);
                    if tried.insert((self.taken.clone(), after)) {
                        order.push((call, state));
                        longest = longest.max(order.len());
                        state = after;
                        self.take(call);
                        entry = self.next[0];
                        continue;
                    }
                    self.taken[call / 64] &= !(1 << (call % 64));
                }
                entry = self.next[entry];
            }
            // At an end, or behind the last beginning: the call was not taken in time.
            if entry == 0 || entry.is_multiple_of(2) {
                let Some((call, before)) = order.pop() else {
                    return Found::NoOrder { longest };
                };
                self.put_back(call);
                state = before;
                entry = self.next[2 * call + 1];
            }
        }
        Found::GaveUp
    }

    fn take(&mut self, call: usize) {
        self.unlink(2 * call + 1);
        if self.actions[call].returned.is_some() {
            self.unlink(2 * call + 2);
            self.open_count -= 1;
        }
    }

    fn put_back(&mut self, call: usize) {
        self.taken[call / 64] &= !(1 << (call % 64));
        if self.actions[call].returned.is_some() {
            self.link(2 * call + 2);
            self.open_count += 1;
        }
        self.link(2 * call + 1);
    }

    fn unlink(&mut self, entry: usize) {
        let (previous, next) = (self.previous[entry], self.next[entry]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    /// Undoes the last [`Search::unlink`] that is not undone.
    fn link(&mut self, entry: usize) {
        let (previous, next) = (self.previous[entry], self.next[entry]);
        self.next[previous] = entry;
        self.previous[next] = entry;
    }
}

#[cfg(test)]
mod tests;
