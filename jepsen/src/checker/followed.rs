//! What a reader of a change log saw against the log itself: of each stream the same changes in the
//! same order, each once; and of the table against both: each row was told of, and no other.

use super::Verdict;
use std::collections::{BTreeMap, BTreeSet};

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The stream's id, in any form that tells streams apart.
    pub stream: String,
    /// `cdc$time`.
    pub time: u128,
    /// `cdc$batch_seq_no`.
    pub sequence: i32,
    /// The row that was written; nobody writes another with it.
    pub value: i64,
}

/// Compares the log, in its own order, with what was seen, in the order in which it came, and with
/// the rows of the table.
pub fn check(logged: &[Change], seen: &[Change], rows: &BTreeSet<i64>) -> Verdict {
    let (logged_streams, seen_streams) = (by_stream(logged), by_stream(seen));
    let streams: BTreeSet<&str> =
        logged_streams.keys().chain(seen_streams.keys()).copied().collect();
    let none = Vec::new();
    let wrong = streams.iter().find_map(|stream| {
        let logged = logged_streams.get(stream).unwrap_or(&none);
        let seen = seen_streams.get(stream).unwrap_or(&none);
        difference(stream, logged, seen)
    });
    let told: BTreeSet<i64> = logged.iter().map(|change| change.value).collect();
    let untold = || {
        let value = told.symmetric_difference(rows).next()?;
        let (in_log, in_table) = (told.contains(value), rows.contains(value));
        Some(format!("row {value}: in the log {in_log}, in the table {in_table}"))
    };
    Verdict::of(wrong.or_else(untold))
}

fn by_stream(changes: &[Change]) -> BTreeMap<&str, Vec<&Change>> {
    let mut streams: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        streams.entry(&change.stream).or_default().push(change);
    }
    streams
}

/// The first place at which they differ.
fn difference(stream: &str, logged: &[&Change], seen: &[&Change]) -> Option<String> {
    let at = (0..logged.len().max(seen.len())).find(|at| logged.get(*at) != seen.get(*at))?;
    let what = match (logged.get(at), seen.get(at)) {
        (Some(lost), found) if !seen.contains(lost) => {
            format!("{lost:?} was not seen, but {found:?}")
        }
        (_, Some(strange)) if !logged.contains(strange) => {
            format!("{strange:?} was seen, and is not in the log")
        }
        (expected, found) => format!("{found:?} was seen where the log has {expected:?}"),
    };
    Some(format!("change {at} of stream {stream}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(list: &[(&str, i64)]) -> Vec<Change> {
        let change = |(stream, value): &(&str, i64)| Change {
            stream: (*stream).to_owned(),
            time: 100 + *value as u128,
            sequence: 0,
            value: *value,
        };
        list.iter().map(change).collect()
    }

    fn verdict(seen: &[(&str, i64)], rows: &[i64]) -> Verdict {
        let logged = changes(&[("a", 1), ("a", 2), ("b", 3)]);
        check(&logged, &changes(seen), &rows.iter().copied().collect())
    }

    #[test]
    fn streams_may_come_in_any_order_and_nothing_else() {
        assert_eq!(verdict(&[("b", 3), ("a", 1), ("a", 2)], &[1, 2, 3]), Verdict::Valid);
        for (seen, part) in [
            (&[("a", 1), ("b", 3)][..], "was not seen"),
            (&[("a", 2), ("a", 1), ("b", 3)], "was seen where"),
            (&[("a", 1), ("a", 2), ("a", 2), ("b", 3)], "was seen where"),
            (&[("a", 1), ("a", 2), ("b", 3), ("b", 9)], "is not in the log"),
        ] {
            let Verdict::Invalid(text) = verdict(seen, &[1, 2, 3]) else { panic!("{seen:?}") };
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn log_and_table_have_the_same_rows() {
        let seen = [("a", 1), ("a", 2), ("b", 3)];
        for rows in [&[1, 2][..], &[1, 2, 3, 4]] {
            assert!(matches!(verdict(&seen, rows), Verdict::Invalid(_)), "{rows:?}");
        }
    }
}
