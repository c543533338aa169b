//! A table's feeds against what was written and what they told (specs' F1 to F5).
//!
//! - *Complete* (F1, F4): every acknowledged write was told and acknowledged, of a feed that began
//!   behind a number everything above it; and nothing that nobody wrote, or that was refused.
//! - *One number, one event*: for every feed, however often it is told.
//! - *In order* (F2): of each key, what comes for the first time has a greater number than all before;
//!   and numbers stand in the order of writes that did not overlap.
//! - *Marks hold* (F3): what follows a mark in a partition lies above it, or was told before.
//! - *Repeats have a cause* (F5): an event that was acknowledged comes again only when the feed had
//!   another owner or its broker died, and so often at most; in a topic, only from within what a feed
//!   may have unacknowledged.
//! - *The position follows*: whatever the cluster says is delivered had arrived by then, and no owner
//!   begins before the position of the one before: nobody writes one when it is not the owner any more.
//! - *The table*: the last event of each row says what is in it.
//!
//! A topic is judged in the order of its offsets, whatever the order in which readers that were killed
//! and came back have read it; that they have read all of it is part of being complete.

use super::Verdict;
use crate::feeds::history::{Entry, Written};
use std::collections::{BTreeMap, BTreeSet};

/// The most messages that a feed has sent and not heard of.
const UNACKNOWLEDGED_MAX: usize = 20_000;
/// How often an event may come again for each change of a feed's epoch or death of its broker: once by
/// the one who comes after, and once by the one before, who was asleep.
const REPEATS_PER_CHANGE: u64 = 2;

/// An event as it was told once.
#[derive(Clone, Debug)]
struct Told {
    nanos: u64,
    key: i64,
    value: i64,
    sequence: u64,
    is_acknowledged: bool,
}

/// What a partition has told, in its order.
#[derive(Clone, Debug)]
enum Item {
    Told(Told),
    Mark(u64),
}

/// What one feed has told.
#[derive(Default)]
struct Feed {
    /// It owes what lies above; nothing if it was never begun.
    above: Option<u64>,
    partitions: BTreeMap<u32, Vec<Item>>,
    /// Positions: when they were known, and their numbers.
    positions: Vec<(u64, u64)>,
    /// Least and greatest position under each epoch.
    epochs: BTreeMap<u64, (u64, u64)>,
    /// A hole in the offsets that were read.
    hole: Option<String>,
}

impl Feed {
    fn told(&self) -> impl Iterator<Item = &Told> {
        self.partitions.values().flatten().filter_map(|item| match item {
            Item::Told(told) => Some(told),
            Item::Mark(_) => None,
        })
    }
}

/// A write that was asked for.
#[derive(Clone, Copy)]
struct Write {
    began: u64,
    ended: u64,
    key: i64,
    outcome: Written,
}

/// Checks a history.
pub fn check(entries: &[Entry]) -> Verdict {
    let feeds = feeds_of(entries);
    let writes = writes_of(entries);
    let table = entries.iter().find_map(|entry| match entry {
        Entry::Table { rows } => Some(rows),
        _ => None,
    });
    let broker_deaths =
        entries.iter().filter(|entry| matches!(entry, Entry::Broker { .. })).count() as u64;
    let Some(table) = table else {
        return Verdict::Unknown("the table was not read".to_owned());
    };
    if !writes.values().any(|write| write.outcome == Written::Ok) || feeds.is_empty() {
        return Verdict::Unknown("nothing was written, or there was no feed".to_owned());
    }
    let numbers = match numbers_of(&feeds, &writes) {
        Ok(numbers) => numbers,
        Err(contradiction) => return Verdict::Invalid(contradiction),
    };
    let of_feeds = feeds.iter().find_map(|(name, feed)| {
        let wrong = feed
            .hole
            .clone()
            .or_else(|| missing(feed, &writes, &numbers))
            .or_else(|| wrong_order(feed))
            .or_else(|| broken_mark(feed))
            .or_else(|| causeless_repeat(feed, broker_deaths))
            .or_else(|| hasty_position(feed))
            .or_else(|| lost_position(feed));
        wrong.map(|text| format!("feed {name}: {text}"))
    });
    Verdict::of(of_feeds.or_else(|| wrong_time(&writes, &numbers)).or_else(|| {
        let last = feeds.values().find(|feed| feed.above == Some(0))?;
        wrong_table(last, table)
    }))
}

fn writes_of(entries: &[Entry]) -> BTreeMap<i64, Write> {
    let write = |entry: &Entry| match *entry {
        Entry::Write { began, ended, key, value, outcome } => {
            Some((value, Write { began, ended, key, outcome }))
        }
        _ => None,
    };
    entries.iter().filter_map(write).collect()
}

fn feeds_of(entries: &[Entry]) -> BTreeMap<&str, Feed> {
    let mut feeds: BTreeMap<&str, Feed> = BTreeMap::new();
    // Of topics: by offset, so that a message that was read again is there once.
    let mut topics: BTreeMap<(&str, u32), BTreeMap<u64, Item>> = BTreeMap::new();
    for entry in entries {
        let (place, item) = match entry {
            Entry::Begin { feed, above } => {
                feeds.entry(feed).or_default().above = Some(*above);
                continue;
            }
            Entry::Position { nanos, feed, sequence, epoch } => {
                let feed = feeds.entry(feed).or_default();
                let (least, most) = feed.epochs.entry(*epoch).or_insert((*sequence, *sequence));
                (*least, *most) = ((*least).min(*sequence), (*most).max(*sequence));
                feed.positions.push((*nanos, *sequence));
                continue;
            }
            Entry::Told { nanos, place, key, value, sequence, is_acknowledged } => {
                let told = Told {
                    nanos: *nanos,
                    key: *key,
                    value: *value,
                    sequence: *sequence,
                    is_acknowledged: *is_acknowledged,
                };
                (place, Item::Told(told))
            }
            Entry::Mark { place, sequence, .. } => (place, Item::Mark(*sequence)),
            Entry::Write { .. } | Entry::Broker { .. } | Entry::Table { .. } => continue,
        };
        if let Some(offset) = place.offset {
            let items = topics.entry((&place.feed, place.partition)).or_default();
            items.entry(offset).or_insert(item);
        } else {
            let feed = feeds.entry(&place.feed).or_default();
            feed.partitions.entry(place.partition).or_default().push(item);
        }
    }
    for ((name, partition), items) in topics {
        let feed = feeds.entry(name).or_default();
        let hole = (0..).zip(items.keys()).find(|(expected, offset)| expected != *offset);
        if let Some((expected, _)) = hole {
            feed.hole = Some(format!("message {expected} of partition {partition} was never read"));
        }
        feed.partitions.insert(partition, items.into_values().collect());
    }
    feeds
}

/// The number of each value that was told; an error if events contradict each other or the writes.
fn numbers_of(
    feeds: &BTreeMap<&str, Feed>,
    writes: &BTreeMap<i64, Write>,
) -> Result<BTreeMap<i64, u64>, String> {
    let (mut numbers, mut values) = (BTreeMap::new(), BTreeMap::new());
    for told in feeds.values().flat_map(Feed::told) {
        let Told { key, value, sequence, .. } = *told;
        let write = writes.get(&value).ok_or(format!("{value} was told, which nobody wrote"))?;
        if write.outcome == Written::Fail {
            return Err(format!("{value} was told, which was refused"));
        }
        if write.key != key {
            return Err(format!("{value} was told of row {key}, and written to {}", write.key));
        }
        let number = *numbers.entry(value).or_insert(sequence);
        let of_number = *values.entry(sequence).or_insert(value);
        if number != sequence || of_number != value {
            return Err(format!(
                "{value} is number {number} and {sequence}, number {sequence} is {of_number}"
            ));
        }
    }
    Ok(numbers)
}

/// What a feed owes and has not delivered.
fn missing(
    feed: &Feed,
    writes: &BTreeMap<i64, Write>,
    numbers: &BTreeMap<i64, u64>,
) -> Option<String> {
    let above = feed.above?;
    let delivered: BTreeSet<i64> =
        feed.told().filter(|told| told.is_acknowledged).map(|told| told.value).collect();
    // What was acknowledged to its writer must have a number; what has one is owed if it lies above.
    let is_owed = |(value, write): &(&i64, &Write)| match numbers.get(value) {
        Some(number) => *number > above,
        None => write.outcome == Written::Ok,
    };
    let mut owed = writes.iter().filter(is_owed).map(|(value, _)| value);
    let lost = owed.find(|value| !delivered.contains(value))?;
    let outcome = writes.get(lost).map(|write| write.outcome);
    Some(format!("{lost} was not delivered, number {:?}, {outcome:?}", numbers.get(lost)))
}

/// A key's event that comes for the first time behind a later one.
fn wrong_order(feed: &Feed) -> Option<String> {
    let mut newest: BTreeMap<i64, u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for told in feed.told().filter(|told| seen.insert(told.sequence)) {
        let newest = newest.entry(told.key).or_insert(0);
        if told.sequence < *newest {
            let Told { key, sequence, .. } = told;
            return Some(format!("row {key}: number {sequence} comes behind {newest}"));
        }
        *newest = told.sequence;
    }
    None
}

/// An event at or below a mark that comes for the first time behind it.
fn broken_mark(feed: &Feed) -> Option<String> {
    feed.partitions.values().find_map(|items| {
        let (mut resolved, mut seen) = (0, BTreeSet::new());
        items.iter().find_map(|item| match item {
            Item::Mark(sequence) => {
                resolved = resolved.max(*sequence);
                None
            }
            Item::Told(told) => {
                let is_new = seen.insert(told.sequence);
                let text = || format!("number {} comes behind the mark {resolved}", told.sequence);
                (is_new && told.sequence <= resolved).then(text)
            }
        })
    })
}

/// An acknowledged event that comes again without a reason.
fn causeless_repeat(feed: &Feed, broker_deaths: u64) -> Option<String> {
    let epochs = || feed.epochs.keys();
    let changes = epochs().next_back().zip(epochs().next()).map_or(0, |(last, first)| last - first);
    let is_topic = feed.partitions.len() > 1;
    let changes = changes + if is_topic { broker_deaths } else { 0 };
    for items in feed.partitions.values() {
        let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
        let told = items.iter().filter_map(|item| match item {
            Item::Told(told) => Some(told),
            Item::Mark(_) => None,
        });
        for told in told {
            let times = acknowledged.get(&told.sequence).copied().unwrap_or(0);
            if times > REPEATS_PER_CHANGE * changes {
                return Some(format!(
                    "number {} was acknowledged {times} times and comes again, after {changes} \
                     changes",
                    told.sequence
                ));
            }
            let since = acknowledged.range(told.sequence..).count();
            if times > 0 && since > UNACKNOWLEDGED_MAX {
                return Some(format!("number {} comes again after {since} others", told.sequence));
            }
            if told.is_acknowledged {
                *acknowledged.entry(told.sequence).or_default() += 1;
            }
        }
    }
    None
}

/// A position that says of something that it was delivered before it was. Of topics a reader learns
/// later than the feed.
fn hasty_position(feed: &Feed) -> Option<String> {
    if feed.partitions.len() > 1 {
        return None;
    }
    let mut firsts: BTreeMap<u64, u64> = BTreeMap::new();
    for told in feed.told().filter(|told| told.is_acknowledged) {
        firsts.entry(told.sequence).or_insert(told.nanos);
    }
    // The latest arrival of all numbers up to each.
    let mut latest = 0;
    let arrived: BTreeMap<u64, u64> = firsts
        .into_iter()
        .map(|(sequence, nanos)| {
            latest = nanos.max(latest);
            (sequence, latest)
        })
        .collect();
    feed.positions.iter().find_map(|(known, sequence)| {
        let (last, arrived) = arrived.range(..=*sequence).next_back()?;
        let text =
            || format!("its position was {sequence} before all up to number {last} had arrived");
        (arrived > known).then(text)
    })
}

/// A position under one epoch that lies before one under an earlier epoch.
fn lost_position(feed: &Feed) -> Option<String> {
    let pairs = feed.epochs.iter().zip(feed.epochs.iter().skip(1));
    pairs.into_iter().find_map(|((former, (_, most)), (epoch, (least, _)))| {
        let text = || format!("its position was {most} in epoch {former}, and {least} in {epoch}");
        (least < most).then(text)
    })
}

/// Writes of one row, one after the other, whose numbers say otherwise.
fn wrong_time(writes: &BTreeMap<i64, Write>, numbers: &BTreeMap<i64, u64>) -> Option<String> {
    let mut rows: BTreeMap<i64, Vec<(u64, i64, Write)>> = BTreeMap::new();
    for (value, number) in numbers {
        let write = writes.get(value).copied()?;
        rows.entry(write.key).or_default().push((*number, *value, write));
    }
    rows.values_mut().find_map(|row| {
        row.sort_unstable_by_key(|(number, ..)| *number);
        let mut begun: Option<(u64, i64)> = None;
        row.iter().find_map(|(_, value, write)| {
            if let Some((latest, later)) = begun
                && write.outcome == Written::Ok
                && write.ended < latest
            {
                return Some(format!("{value} was written before {later}, and numbered behind it"));
            }
            if begun.is_none_or(|(latest, _)| write.began > latest) {
                begun = Some((write.began, *value));
            }
            None
        })
    })
}

/// A row that is not as the last of its events says.
fn wrong_table(feed: &Feed, table: &[(i64, i64)]) -> Option<String> {
    let mut last: BTreeMap<i64, (u64, i64)> = BTreeMap::new();
    for Told { key, value, sequence, .. } in feed.told() {
        let newest = last.entry(*key).or_default();
        *newest = (*newest).max((*sequence, *value));
    }
    let told: BTreeMap<i64, i64> = last.into_iter().map(|(key, (_, value))| (key, value)).collect();
    let stored: BTreeMap<i64, i64> = table.iter().copied().collect();
    let key = told.keys().chain(stored.keys()).find(|key| told.get(key) != stored.get(key))?;
    let (told, stored) = (told.get(key), stored.get(key));
    Some(format!("row {key} is {stored:?}, and what was told comes to {told:?}"))
}

#[cfg(test)]
mod tests;
