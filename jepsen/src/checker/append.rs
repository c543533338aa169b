//! Transactions that append to lists and read them: is there one order of all of them, which keeps that
//! of those that do not overlap?
//!
//! As in Elle, the values tell: nobody appends one twice, so the longest list that was read of a key is
//! the order of its appends, and every other list must be a beginning of it. From that follows what must
//! come before what:
//!
//! ```text
//! ww   an append before the next one of its key
//! wr   an append before a read that shows it last
//! rw   a read before the append that it does not show yet
//! rt   a call before one that began after its end
//! ```
//! A cycle is something that no order allows. The two keys of one partition are changed and read
//! together, so half a transaction is a cycle too. An append that was acknowledged and that nobody ever
//! read comes behind every read of its key; one of unknown fate may not have been made.
//!
//! Partitions are independent of each other: what is strictly serializable in each is so together.

use super::Verdict;
use crate::history::{Call, Operation, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// Calls of a cycle that a verdict names at most.
const NAMED_MAX: usize = 6;

/// A list: partition and key.
type Place = (i64, i64);

/// Checks the appends and the reads of lists.
pub fn check(calls: &[Call]) -> Verdict {
    let mut partitions: BTreeMap<i64, Vec<&Call>> = BTreeMap::new();
    let mut read_count = 0;
    for call in calls {
        match &call.operation {
            Operation::Append { partition, .. } => {
                partitions.entry(*partition).or_default().push(call);
            }
            Operation::ReadLists { partition, .. } if call.is_ok() => {
                read_count += 1;
                partitions.entry(*partition).or_default().push(call);
            }
            _ => {}
        }
    }
    if read_count == 0 {
        return Verdict::Unknown("no list was ever read".to_owned());
    }
    let found = partitions.values().map(|calls| Verdict::of(contradiction(calls)));
    found.fold(Verdict::Valid, Verdict::and)
}

/// What contradicts in one partition.
fn contradiction(calls: &[&Call]) -> Option<String> {
    // Who appended each value.
    let mut appends: BTreeMap<(Place, i64), usize> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        if let Operation::Append { partition, values } = &call.operation {
            for (key, value) in values {
                appends.insert(((*partition, *key), *value), at);
            }
        }
    }
    let orders = match orders(calls) {
        Ok(orders) => orders,
        Err(why) => return Some(why),
    };
    for (place, order) in &orders {
        let mut seen = BTreeSet::new();
        for value in *order {
            let writer = appends.get(&(*place, *value)).map(|at| calls[*at].outcome);
            match writer {
                None => {
                    return Some(format!("list {place:?} shows {value}, which nobody appended"));
                }
                Some(Outcome::Failed) => {
                    return Some(format!("list {place:?} shows {value}, which was refused"));
                }
                Some(_) if !seen.insert(value) => {
                    return Some(format!("list {place:?} shows {value} twice"));
                }
                Some(_) => {}
            }
        }
    }
    let mut graph = vec![BTreeSet::new(); calls.len()];
    add_data_edges(&mut graph, calls, &appends, &orders);
    add_time_edges(&mut graph, calls);
    cycle(&graph).map(|cycle| {
        let named: Vec<String> =
            cycle.iter().take(NAMED_MAX).map(|at| format!("{:?}", calls[*at])).collect();
        format!(
            "{} calls each come before the next, and the last before the first: {}",
            cycle.len(),
            named.join("; ")
        )
    })
}

/// The order of the appends of each key: the longest list that was read. Others must begin it.
fn orders<'a>(calls: &[&'a Call]) -> Result<BTreeMap<Place, &'a [i64]>, String> {
    let mut orders: BTreeMap<Place, &[i64]> = BTreeMap::new();
    for (place, list) in calls.iter().flat_map(|call| lists(call)) {
        let order = orders.entry(place).or_default();
        let (short, long) = if list.len() < order.len() { (list, *order) } else { (*order, list) };
        if !long.starts_with(short) {
            return Err(format!(
                "list {place:?} was {short:?} and {long:?}: neither begins the other"
            ));
        }
        *order = long;
    }
    Ok(orders)
}

/// What a read shows.
fn lists(call: &Call) -> impl Iterator<Item = (Place, &[i64])> {
    let (partition, lists): (i64, &[(i64, Vec<i64>)]) = match &call.operation {
        Operation::ReadLists { partition, lists } => (*partition, lists),
        _ => (0, &[]),
    };
    lists.iter().map(move |(key, values)| ((partition, *key), values.as_slice()))
}

fn add_data_edges(
    graph: &mut [BTreeSet<usize>],
    calls: &[&Call],
    appends: &BTreeMap<(Place, i64), usize>,
    orders: &BTreeMap<Place, &[i64]>,
) {
    let mut edge = |from: usize, to: usize| {
        if from != to {
            graph[from].insert(to);
        }
    };
    for (place, order) in orders {
        let writer = |at: usize| appends[&(*place, order[at])];
        (1..order.len()).for_each(|at| edge(writer(at - 1), writer(at)));
    }
    // Made, and never shown: behind every read.
    let is_unseen =
        |place: &Place, value: &i64| !orders.get(place).is_some_and(|order| order.contains(value));
    let unseen: Vec<(Place, usize)> = appends
        .iter()
        .filter(|((place, value), at)| calls[**at].is_ok() && is_unseen(place, value))
        .map(|((place, _), at)| (*place, *at))
        .collect();
    for (reader, call) in calls.iter().enumerate() {
        for (place, list) in lists(call) {
            if let Some(last) = list.last() {
                edge(appends[&(place, *last)], reader);
            }
            if let Some(next) = orders[&place].get(list.len()) {
                edge(reader, appends[&(place, *next)]);
            }
            let of_place = unseen.iter().filter(|(of, _)| *of == place);
            of_place.for_each(|(_, writer)| edge(reader, *writer));
        }
    }
}

/// Edges from each call to those that began after its end, but for those that follow from others.
fn add_time_edges(graph: &mut [BTreeSet<usize>], calls: &[&Call]) {
    let mut events: Vec<(usize, usize, bool)> = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        match call.outcome {
            Outcome::Ok { returned } => {
                events.push((call.invoked, at, false));
                events.push((returned, at, true));
            }
            Outcome::Unknown => events.push((call.invoked, at, false)),
            Outcome::Failed => {}
        }
    }
    events.sort_unstable();
    // The calls that have ended and that nothing which has ended came behind.
    let mut frontier: BTreeSet<usize> = BTreeSet::new();
    for (_, at, is_end) in events {
        if is_end {
            let invoked = calls[at].invoked;
            let is_earlier = |other: &usize| match calls[*other].outcome {
                Outcome::Ok { returned } => returned < invoked,
                _ => false,
            };
            frontier.retain(|other| !is_earlier(other));
            frontier.insert(at);
        } else {
            for before in &frontier {
                graph[*before].insert(at);
            }
        }
    }
}

/// A cycle of the graph, if there is one: whoever is left when nobody without a predecessor is, leads
/// back into one.
fn cycle(graph: &[BTreeSet<usize>]) -> Option<Vec<usize>> {
    let mut predecessors = vec![0; graph.len()];
    graph.iter().flatten().for_each(|to| predecessors[*to] += 1);
    let mut free: Vec<usize> = (0..graph.len()).filter(|at| predecessors[*at] == 0).collect();
    let mut is_left = vec![true; graph.len()];
    while let Some(at) = free.pop() {
        is_left[at] = false;
        for to in &graph[at] {
            predecessors[*to] -= 1;
            if predecessors[*to] == 0 {
                free.push(*to);
            }
        }
    }
    // Each that is left has a predecessor that is left: going back meets one a second time.
    let mut path = vec![is_left.iter().position(|left| *left)?];
    loop {
        let last = *path.last()?;
        let before = (0..graph.len()).find(|at| is_left[*at] && graph[*at].contains(&last))?;
        if let Some(start) = path.iter().position(|at| *at == before) {
            let mut cycle = path.split_off(start);
            cycle.reverse();
            return Some(cycle);
        }
        path.push(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: usize = 100;

    fn append(values: &[(i64, i64)], invoked: usize, outcome: Outcome) -> Call {
        let operation = Operation::Append { partition: 1, values: values.to_vec() };
        Call { process: 0, invoked, operation, outcome }
    }

    fn read(lists: &[(i64, &[i64])], invoked: usize, returned: usize) -> Call {
        let lists = lists.iter().map(|(key, values)| (*key, values.to_vec())).collect();
        let operation = Operation::ReadLists { partition: 1, lists };
        Call { process: 0, invoked, operation, outcome: Outcome::Ok { returned } }
    }

    /// Two transactions over two keys, one after the other, one beside the second, one refused.
    fn appends() -> Vec<Call> {
        vec![
            append(&[(1, 10), (2, 10)], 0, Outcome::Ok { returned: 1 }),
            append(&[(1, 11), (2, 11)], 2, Outcome::Ok { returned: 8 }),
            append(&[(1, 12)], 3, Outcome::Unknown),
            append(&[(1, 13)], 4, Outcome::Failed),
        ]
    }

    fn verdict(reads: &[Call]) -> Verdict {
        check(&[&appends()[..], reads].concat())
    }

    #[test]
    fn what_one_order_explains_is_valid() {
        for last in [
            read(&[(1, &[10, 11]), (2, &[10, 11])], LATER, LATER + 1),
            read(&[(1, &[10, 12, 11]), (2, &[10, 11])], LATER, LATER + 1),
            read(&[(1, &[10, 11, 12]), (2, &[10, 11])], LATER, LATER + 1),
        ] {
            let between = read(&[(1, &[10]), (2, &[10])], 5, 6);
            assert_eq!(verdict(&[between, last]), Verdict::Valid);
        }
        // Two reads beside the second append that part on whether it was made, in order.
        let (early, late) = (read(&[(1, &[10])], 5, 7), read(&[(1, &[10, 11])], 6, 9));
        assert_eq!(verdict(&[early, late]), Verdict::Valid);
    }

    #[test]
    fn what_no_order_explains_is_not() {
        let whole = || read(&[(1, &[10, 11]), (2, &[10, 11])], LATER, LATER + 1);
        for (wrong, what) in [
            (vec![read(&[(1, &[10, 13])], 20, 21)], "a refused append is there"),
            (vec![read(&[(1, &[10, 99])], 20, 21)], "one that nobody made"),
            (vec![read(&[(1, &[10, 10])], 20, 21)], "one is there twice"),
            (vec![read(&[(1, &[11, 10])], 20, 21)], "against the order of time"),
            (vec![read(&[(1, &[11])], 20, 21), whole()], "two orders"),
            (vec![read(&[(1, &[10]), (2, &[10])], 20, 21)], "an acknowledged append is lost"),
            (vec![read(&[(1, &[10]), (2, &[10])], 20, 21), whole()], "a stale read"),
            (vec![read(&[(1, &[10, 11]), (2, &[10])], 5, 6), whole()], "half a transaction"),
            (
                vec![read(&[(1, &[10, 11])], 3, 4), read(&[(1, &[10])], 5, 6), whole()],
                "a read that goes back",
            ),
        ] {
            let found = verdict(&wrong);
            assert!(matches!(found, Verdict::Invalid(_)), "{what}: {found}");
        }
        assert!(matches!(verdict(&[]), Verdict::Unknown(_)), "never read");
    }

    /// Two transactions that each read what the other was yet to append (write skew) need two keys that
    /// two calls read; here as two reads that see two appends in different orders.
    #[test]
    fn reads_that_see_two_appends_in_different_orders_are_not_valid() {
        let calls = [
            append(&[(1, 1)], 0, Outcome::Ok { returned: 20 }),
            append(&[(2, 2)], 1, Outcome::Ok { returned: 21 }),
            read(&[(1, &[1]), (2, &[])], 2, 10),
            read(&[(1, &[]), (2, &[2])], 3, 11),
            read(&[(1, &[1]), (2, &[2])], 30, 31),
        ];
        let found = check(&calls);
        assert!(matches!(found, Verdict::Invalid(_)), "{found}");
        assert_eq!(check(&[&calls[..3], &calls[4..]].concat()), Verdict::Valid);
    }
}
