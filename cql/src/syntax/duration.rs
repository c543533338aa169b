//! Duration literals: `1h30m`, `P1Y2M3DT4H5M6S`, `P3W` and `P0001-02-03T04:05:06`.
//!
//! A duration is months, days and nanoseconds, since a month has no fixed number of days nor a day
//! one of hours. Units come from the largest to the smallest, each at most once, as in Cassandra.

/// Months, days and nanoseconds.
pub type Duration = (i32, i32, i64);

/// Units of `1h30m` literals, largest first, with how much they are of months, days, nanoseconds.
/// Longer spellings stand before those that begin them.
const UNITS: &[(&str, u8, i64, i64, i64)] = &[
    ("y", 0, 12, 0, 0),
    ("mo", 1, 1, 0, 0),
    ("w", 2, 0, 7, 0),
    ("d", 3, 0, 1, 0),
    ("h", 4, 0, 0, 3_600_000_000_000),
    ("ms", 7, 0, 0, 1_000_000),
    ("m", 5, 0, 0, 60_000_000_000),
    ("us", 8, 0, 0, 1_000),
    ("µs", 8, 0, 0, 1_000),
    ("ns", 9, 0, 0, 1),
    ("s", 6, 0, 0, 1_000_000_000),
];

/// The duration that `text` (without a sign) says: `Ok(None)` if it is none at all, an error in
/// words if its units repeat, are out of order or out of range.
pub fn parse(text: &str) -> Result<Option<Duration>, String> {
    if iso_length(text) == Some(text.len()) {
        return parse_iso(text).map(Some);
    }
    let Some(parts) = split_units(text) else { return Ok(None) };
    sum(parts).map(Some)
}

/// Whether `text` is digits and units in turn.
pub(super) fn is_units(text: &str) -> bool {
    split_units(text).is_some()
}

/// Length of the ISO 8601 duration that `text` begins with, if it does. `P` alone is a name.
pub(super) fn iso_length(text: &str) -> Option<usize> {
    let body = text.strip_prefix('P')?;
    if alternative_fields(body).is_some() {
        return Some(1 + ALTERNATIVE_PATTERN.len());
    }
    let end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(body.len());
    let body = body.get(..end)?;
    split_iso(body).map(|_| 1 + end)
}

/// `P[YYYY]-[MM]-[DD]T[hh]:[mm]:[ss]` without the P; a 0 stands for any digit.
const ALTERNATIVE_PATTERN: &str = "0000-00-00T00:00:00";

/// One amount of one unit.
type Part = (i64, &'static (&'static str, u8, i64, i64, i64));

fn unit(name: &str) -> Option<&'static (&'static str, u8, i64, i64, i64)> {
    UNITS.iter().find(|unit| unit.0 == name)
}

/// The digits that `text` begins with and what follows. An amount too large to count saturates,
/// and is refused by the sum.
fn split_amount(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    (!digits.is_empty()).then(|| (digits.parse().unwrap_or(i64::MAX), rest))
}

fn split_units(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (amount, tail) = split_amount(rest)?;
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (name, next) = tail.split_at_checked(end)?;
        parts.push((amount, unit(&name.to_ascii_lowercase())?));
        rest = next;
    }
    (!parts.is_empty()).then_some(parts)
}

/// The parts of `1Y2M3DT4H5M6S` or `3W`.
fn split_iso(body: &str) -> Option<Vec<Part>> {
    let (date, time) = match body.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (body, None),
    };
    let mut parts = Vec::new();
    if let Some(weeks) = body.strip_suffix('W') {
        let (amount, rest) = split_amount(weeks)?;
        return rest.is_empty().then_some(vec![(amount, unit("w")?)]);
    }
    split_designators(date, &[("Y", "y"), ("M", "mo"), ("D", "d")], &mut parts)?;
    split_designators(time.unwrap_or(""), &[("H", "h"), ("M", "m"), ("S", "s")], &mut parts)?;
    (!parts.is_empty()).then_some(parts)
}

/// Amounts, each followed by one of `designators`, in their order.
fn split_designators(
    text: &str,
    designators: &[(&str, &str)],
    parts: &mut Vec<Part>,
) -> Option<()> {
    let mut rest = text;
    for (designator, name) in designators {
        let Some((amount, tail)) = split_amount(rest) else { break };
        if let Some(next) = tail.strip_prefix(designator) {
            parts.push((amount, unit(name)?));
            rest = next;
        }
    }
    rest.is_empty().then_some(())
}

/// The six amounts of the alternative format.
fn alternative_fields(body: &str) -> Option<Vec<i64>> {
    let candidate = body.get(..ALTERNATIVE_PATTERN.len())?;
    let fits = candidate.bytes().zip(ALTERNATIVE_PATTERN.bytes()).all(|(byte, pattern)| {
        if pattern == b'0' { byte.is_ascii_digit() } else { byte == pattern }
    });
    let fields = candidate.split(['-', 'T', ':']).map(|field| field.parse().ok());
    if fits { fields.collect() } else { None }
}

fn parse_iso(text: &str) -> Result<Duration, String> {
    let body = text.strip_prefix('P').unwrap_or(text);
    if let Some(fields) = alternative_fields(body) {
        let names = ["y", "mo", "d", "h", "m", "s"];
        let parts = fields.into_iter().zip(names);
        return sum(parts.filter_map(|(amount, name)| Some((amount, unit(name)?))).collect());
    }
    sum(split_iso(body).unwrap_or_default())
}

fn sum(parts: Vec<Part>) -> Result<Duration, String> {
    let (mut months, mut days, mut nanoseconds) = (0_i64, 0_i64, 0_i64);
    let mut previous: Option<Part> = None;
    for part in parts {
        let (amount, unit) = part;
        if let Some((_, earlier)) = previous {
            if earlier.1 == unit.1 {
                return Err(format!("the unit '{}' is given twice", unit.0));
            }
            if earlier.1 > unit.1 {
                return Err(format!("the unit '{}' must stand before '{}'", unit.0, earlier.0));
            }
        }
        let add = |total: i64, each: i64| amount.checked_mul(each)?.checked_add(total);
        let totals = (add(months, unit.2), add(days, unit.3), add(nanoseconds, unit.4));
        let (Some(m), Some(d), Some(n)) = totals else { return Err(OUT_OF_RANGE.to_owned()) };
        (months, days, nanoseconds) = (m, d, n);
        previous = Some(part);
    }
    match (i32::try_from(months), i32::try_from(days)) {
        (Ok(months), Ok(days)) => Ok((months, days, nanoseconds)),
        _ => Err(OUT_OF_RANGE.to_owned()),
    }
}

const OUT_OF_RANGE: &str = "months and days must fit 32 bits, nanoseconds 64";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let hour = 3_600_000_000_000;
        for (text, expected) in [
            ("1y2mo3w4d5h", (14, 25, 5 * hour)),
            ("1h30m", (0, 0, hour * 3 / 2)),
            ("2s5ms7us9ns", (0, 0, 2_005_007_009)),
            ("3µs", (0, 0, 3_000)),
            ("10MO", (10, 0, 0)),
            ("P1Y2M3DT4H5M6S", (14, 3, 4 * hour + 306_000_000_000)),
            ("PT1M", (0, 0, 60_000_000_000)),
            ("P1M", (1, 0, 0)),
            ("P3W", (0, 21, 0)),
            ("P0001-02-03T04:05:06", (14, 3, 4 * hour + 306_000_000_000)),
        ] {
            assert_eq!(parse(text), Ok(Some(expected)), "{text}");
        }
    }

    #[test]
    fn others_are_not() {
        for text in ["", "1", "h", "1x", "P", "PT", "P1", "P1H", "1h ", "P1D1Y", "PT1D"] {
            assert_eq!(parse(text), Ok(None), "{text}");
        }
        for text in [
            "1m1h",
            "1h1h",
            "1us1µs",
            "200000000y",
            "9223372036854775807s",
            "99999999999999999999d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
