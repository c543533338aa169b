//! How far a scan of a feed's tables has come: what the cluster keeps of it.
//!
//! Tables are scanned in the order of their ids, partitions in the order of (token, key), rows in
//! the order of their clustering positions, the static row before them. As JSON, with bytes as
//! hexadecimal digits:
//!
//! ```text
//! {"to":{"table":"…32 digits…","within":{"token":-5,"key":"0004","clustering":null}},"rows":7,"is_complete":false}
//! ```

use crate::position::hex_table;
use model::TableId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::cmp::Ordering;

/// How far a scan has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanned {
    /// All rows up to here were sent; none before the first were.
    pub to: Option<Place>,
    /// Rows that were scanned so far, those that the filter left out included.
    pub rows: u64,
    /// All rows were sent.
    pub is_complete: bool,
}

/// A place in the order of rows, behind some row or table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The table.
    #[serde(with = "hex_table")]
    pub table: TableId,
    /// Where in it; `None`: behind all of it.
    pub within: Option<PlaceWithin>,
}

/// A place in a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceWithin {
    /// The partition's token.
    pub token: i64,
    /// The serialised partition key.
    #[serde(with = "hex")]
    pub key: Box<[u8]>,
    /// The clustering position of a row, behind which it lies; `None`: behind the partition.
    #[serde(with = "hex_option")]
    pub clustering: Option<Box<[u8]>>,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        let within = || match (&self.within, &other.within) {
            (Some(within), Some(other)) => within.cmp(other),
            // Behind all of the table.
            (within, other) => within.is_none().cmp(&other.is_none()),
        };
        self.table.cmp(&other.table).then_with(within)
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PlaceWithin {
    fn cmp(&self, other: &Self) -> Ordering {
        let clustering = || match (&self.clustering, &other.clustering) {
            (Some(clustering), Some(other)) => clustering.cmp(other),
            // Behind all of the partition.
            (clustering, other) => clustering.is_none().cmp(&other.is_none()),
        };
        (self.token, &self.key).cmp(&(other.token, &other.key)).then_with(clustering)
    }
}

impl PartialOrd for PlaceWithin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Place {
    /// Behind all of a table.
    pub fn end_of(table: TableId) -> Place {
        Place { table, within: None }
    }

    /// Whether a row lies before it. The static row's position is empty.
    pub fn covers(&self, table: TableId, token: i64, key: &[u8], position: &[u8]) -> bool {
        match (table.cmp(&self.table), &self.within) {
            (Ordering::Less, _) | (Ordering::Equal, None) => true,
            (Ordering::Greater, _) => false,
            (Ordering::Equal, Some(within)) => {
                match (token, key).cmp(&(within.token, &*within.key)) {
                    Ordering::Less => true,
                    Ordering::Greater => false,
                    Ordering::Equal => {
                        within.clustering.as_deref().is_none_or(|behind| position <= behind)
                    }
                }
            }
        }
    }
}

impl Scanned {
    /// The one of two that has come further.
    pub fn further<'a>(&'a self, other: &'a Scanned) -> &'a Scanned {
        let place = |scanned: &'a Scanned| (scanned.is_complete, scanned.to.as_ref());
        if place(self) < place(other) { other } else { self }
    }

    /// The part of the tables that was scanned, from 0 to 1, by the tokens: tables count alike,
    /// whatever they hold.
    pub fn fraction(&self, tables: impl Iterator<Item = TableId>) -> f64 {
        if self.is_complete {
            return 1.0;
        }
        let Some(to) = &self.to else { return 0.0 };
        let (mut all, mut done) = (0.0, 0.0);
        for table in tables {
            all += 1.0;
            done += match (table.cmp(&to.table), &to.within) {
                (Ordering::Less, _) | (Ordering::Equal, None) => 1.0,
                (Ordering::Greater, _) => 0.0,
                (Ordering::Equal, Some(within)) => {
                    within.token.abs_diff(i64::MIN) as f64 / u64::MAX as f64
                }
            };
        }
        if all > 0.0 { done / all } else { 0.0 }
    }
}

/// Bytes as text.
mod hex {
    use super::{Cow, Deserialize, Deserializer, Serializer};
    use serde::de::Error;
    use std::fmt::Write;

    pub(super) fn to_text(bytes: &[u8]) -> String {
        bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string");
            text
        })
    }

    pub(super) fn from_text(text: &str) -> Option<Box<[u8]>> {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect()
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&to_text(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Box<[u8]>, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        from_text(&text).ok_or_else(|| D::Error::custom("pairs of hexadecimal digits are expected"))
    }
}

/// The same, or null.
mod hex_option {
    use super::{Cow, Deserialize, Deserializer, Serializer, hex};
    use serde::de::Error;

    #[expect(clippy::ref_option, reason = "serde hands out a field as it is")]
    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Box<[u8]>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => to.serialize_some(&hex::to_text(bytes)),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Box<[u8]>>, D::Error> {
        let Some(text) = Option::<Cow<str>>::deserialize(from)? else { return Ok(None) };
        let bytes = hex::from_text(&text);
        bytes.map(Some).ok_or_else(|| D::Error::custom("pairs of hexadecimal digits are expected"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(table: u128, token: i64, key: &[u8], clustering: Option<&[u8]>) -> Place {
        let within = PlaceWithin { token, key: key.into(), clustering: clustering.map(Into::into) };
        Place { table: TableId(table), within: Some(within) }
    }

    #[test]
    fn a_place_covers_what_comes_before_it() {
        let at = place(5, -3, b"k", Some(b"m"));
        let rows: [(u128, i64, &[u8], &[u8]); 9] = [
            (4, 9, b"z", b"z"),
            (5, -4, b"z", b"z"),
            (5, -3, b"j", b"z"),
            (5, -3, b"k", b""),
            (5, -3, b"k", b"m"),
            (5, -3, b"k", b"n"),
            (5, -3, b"l", b""),
            (5, -2, b"a", b""),
            (6, -9, b"a", b""),
        ];
        let covered = |place: &Place| {
            let covers =
                |row: &(u128, i64, &[u8], &[u8])| place.covers(TableId(row.0), row.1, row.2, row.3);
            assert!(rows.is_sorted_by_key(|row| !covers(row)));
            rows.iter().filter(|row| covers(row)).count()
        };
        assert_eq!(covered(&at), 5);
        assert_eq!(covered(&place(5, -3, b"k", None)), 6);
        assert_eq!(covered(&Place::end_of(TableId(5))), 8);
        assert_eq!(covered(&Place::end_of(TableId(3))), 0);
    }

    #[test]
    fn places_are_in_the_order_of_rows_each_behind_its_own() {
        let ascending = [
            None,
            Some(place(4, 9, b"k", None)),
            Some(Place::end_of(TableId(4))),
            Some(place(5, -3, b"j", None)),
            Some(place(5, -3, b"k", Some(b"m"))),
            Some(place(5, -3, b"k", Some(b"ma"))),
            Some(place(5, -3, b"k", None)),
            Some(place(5, 2, b"a", Some(b""))),
            Some(Place::end_of(TableId(5))),
        ];
        assert!(ascending.is_sorted_by(|one, other| one < other));
        let at = |to: &Option<Place>| Scanned { to: to.clone(), ..Scanned::default() };
        let [less, more] = [&ascending[3], &ascending[4]].map(at);
        assert_eq!((less.further(&more), more.further(&less)), (&more, &more));
        let all = Scanned { is_complete: true, ..less.clone() };
        assert_eq!((all.further(&more), less.further(&all)), (&all, &all));
    }

    #[test]
    fn progress_is_kept_as_json() {
        let to = Some(place(u128::MAX, -5, &[0, 0xa4], None));
        let scanned = Scanned { to, rows: 7, is_complete: false };
        let text = serde_json::to_string(&scanned).unwrap();
        let table = "f".repeat(32);
        let expected = format!(
            r#"{{"to":{{"table":"{table}","within":{{"token":-5,"key":"00a4","clustering":null}}}},"rows":7,"is_complete":false}}"#
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Scanned>(&text).unwrap(), scanned);
        let within = Scanned { to: Some(place(1, 0, b"k", Some(&[1, 0xff]))), ..scanned };
        let text = serde_json::to_string(&within).unwrap();
        assert_eq!(serde_json::from_str::<Scanned>(&text).unwrap(), within);
        for wrong in [text.replace("01ff", "01f"), text.replace("01ff", "01+f")] {
            assert!(serde_json::from_str::<Scanned>(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_part_that_was_scanned_is_told_by_the_tokens() {
        let fraction = |to: Option<Place>| {
            Scanned { to, ..Scanned::default() }.fraction([4, 5].map(TableId).into_iter())
        };
        let is_about = |found: f64, expected: f64| (found - expected).abs() < 1e-6;
        assert!(is_about(fraction(None), 0.0));
        assert!(is_about(fraction(Some(place(4, 0, b"", None))), 0.25));
        assert!(is_about(fraction(Some(Place::end_of(TableId(4)))), 0.5));
        assert!(is_about(fraction(Some(place(5, i64::MAX, b"", None))), 1.0));
        let all = Scanned { is_complete: true, ..Scanned::default() };
        assert!(is_about(all.fraction(std::iter::empty()), 1.0));
    }
}
