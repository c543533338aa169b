//! Durations as text: `1y2mo3w4d5h6m7s8ms9us10ns`, and ISO 8601 in its three forms (`P1Y2M3DT4H5M6S`,
//! `P3W`, `P0001-02-03T04:05:06`), each with an optional minus before it.

use super::shown;
use crate::value::{ValueError, write_signed_vint};
use std::fmt::Write;

const SECOND_NANOS: u64 = 1_000_000_000;

/// Units from the largest on: symbol, name, which of the three parts it counts in, and how many of
/// that part one is.
const UNITS: [(&str, &str, Part, u64); 10] = [
    ("y", "years", Part::Months, 12),
    ("mo", "months", Part::Months, 1),
    ("w", "weeks", Part::Days, 7),
    ("d", "days", Part::Days, 1),
    ("h", "hours", Part::Nanos, 3600 * SECOND_NANOS),
    ("m", "minutes", Part::Nanos, 60 * SECOND_NANOS),
    ("s", "seconds", Part::Nanos, SECOND_NANOS),
    ("ms", "milliseconds", Part::Nanos, 1_000_000),
    ("us", "microseconds", Part::Nanos, 1_000),
    ("ns", "nanoseconds", Part::Nanos, 1),
];
const YEARS: usize = 0;
const MONTHS: usize = 1;
const WEEKS: usize = 2;
const DAYS: usize = 3;
const HOURS: usize = 4;
const MINUTES: usize = 5;
const SECONDS: usize = 6;

#[derive(Clone, Copy)]
enum Part {
    Months,
    Days,
    Nanos,
}

/// The months, days and nanoseconds of a duration. Errors speak Cassandra's words.
pub fn parse_duration(text: &str) -> Result<(i32, i32, i64), ValueError> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut duration = Duration::default();
    match unsigned.strip_prefix('P') {
        Some(iso) if iso.ends_with('W') => parse_designators(&mut duration, iso, &[('W', WEEKS)]),
        Some(iso) if iso.contains('-') => parse_alternative(&mut duration, iso),
        Some(iso) => {
            let (date, time) = iso.split_once('T').unwrap_or((iso, ""));
            parse_designators(&mut duration, date, &[('Y', YEARS), ('M', MONTHS), ('D', DAYS)])
                .and_then(|()| {
                    let units = [('H', HOURS), ('M', MINUTES), ('S', SECONDS)];
                    parse_designators(&mut duration, time, &units)
                })
        }
        None => parse_units(&mut duration, unsigned),
    }
    .map_err(|error| error.into_value_error(text))?;
    Ok(duration.parts(negative))
}

/// The serialized duration.
pub(super) fn serialize_duration((months, days, nanos): (i32, i32, i64)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16);
    for part in [i64::from(months), i64::from(days), nanos] {
        write_signed_vint(part, &mut bytes);
    }
    bytes
}

/// The duration with the units of the first form; zero is `0s`.
pub fn format_duration(months: i32, days: i32, nanos: i64) -> String {
    if months == 0 && days == 0 && nanos == 0 {
        return "0s".to_owned();
    }
    let negative = months < 0 || days < 0 || nanos < 0;
    let mut text = if negative { "-".to_owned() } else { String::new() };
    let mut months = u64::from(months.unsigned_abs());
    let mut days = u64::from(days.unsigned_abs());
    let mut nanos = nanos.unsigned_abs();
    for (symbol, _, part, factor) in UNITS {
        let rest = match part {
            Part::Months => &mut months,
            Part::Days if factor == 7 => continue,
            Part::Days => &mut days,
            Part::Nanos => &mut nanos,
        };
        if *rest >= factor {
            write!(text, "{}{symbol}", *rest / factor).expect("writing to a string");
            *rest %= factor;
        }
    }
    text
}

#[derive(Default)]
struct Duration {
    months: u64,
    days: u64,
    nanos: u64,
}

enum DurationError {
    Syntax,
    Invalid(String),
}

impl DurationError {
    fn into_value_error(self, text: &str) -> ValueError {
        ValueError::new(match self {
            DurationError::Syntax => format!("Unable to convert '{}' to a duration", shown(text)),
            DurationError::Invalid(reason) => format!("Invalid duration. {reason}"),
        })
    }
}

impl Duration {
    fn add(&mut self, unit: usize, digits: &str) -> Result<(), DurationError> {
        let (_, _, part, factor) = UNITS[unit];
        let (sum, name, maximum) = match part {
            Part::Months => (&mut self.months, "months", i32::MAX as u64),
            Part::Days => (&mut self.days, "days", i32::MAX as u64),
            Part::Nanos => (&mut self.nanos, "nanoseconds", i64::MAX as u64),
        };
        let total = digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor)?.checked_add(*sum))
            .filter(|total| *total <= maximum);
        *sum = total.ok_or_else(|| {
            let reason = format!("The total number of {name} must be less or equal to {maximum}");
            DurationError::Invalid(reason)
        })?;
        Ok(())
    }

    /// What was added fits, with either sign.
    fn parts(&self, negative: bool) -> (i32, i32, i64) {
        let sign = if negative { -1 } else { 1 };
        (self.months as i32 * sign, self.days as i32 * sign, self.nanos as i64 * i64::from(sign))
    }
}

/// Splits off leading digits; at least one.
fn split_digits(text: &str) -> Result<(&str, &str), DurationError> {
    match text.bytes().take_while(u8::is_ascii_digit).count() {
        0 => Err(DurationError::Syntax),
        count => Ok(text.split_at(count)),
    }
}

/// `1y2mo…`, units in falling order, symbols in any case.
fn parse_units(duration: &mut Duration, text: &str) -> Result<(), DurationError> {
    let mut rest = text;
    let mut last: Option<usize> = None;
    while last.is_none() || !rest.is_empty() {
        let (digits, after) = split_digits(rest)?;
        let symbol_length = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (symbol, next) = after.split_at(symbol_length);
        let symbol = symbol.to_ascii_lowercase().replace('µ', "u");
        let unit = UNITS.iter().position(|unit| unit.0 == symbol).ok_or(DurationError::Syntax)?;
        let name = UNITS[unit].1;
        match last {
            Some(last) if last == unit => {
                let reason = format!("The {name} are specified multiple times");
                return Err(DurationError::Invalid(reason));
            }
            Some(last) if last > unit => {
                let reason = format!("The {} should be after {name}", UNITS[last].1);
                return Err(DurationError::Invalid(reason));
            }
            _ => {}
        }
        duration.add(unit, digits)?;
        last = Some(unit);
        rest = next;
    }
    Ok(())
}

/// Numbers, each followed by one of the letters, which come in this order.
fn parse_designators(
    duration: &mut Duration,
    text: &str,
    mut units: &[(char, usize)],
) -> Result<(), DurationError> {
    let mut rest = text;
    while !rest.is_empty() {
        let (digits, after) = split_digits(rest)?;
        let letter = after.chars().next().ok_or(DurationError::Syntax)?;
        let at = units.iter().position(|unit| unit.0 == letter).ok_or(DurationError::Syntax)?;
        duration.add(units[at].1, digits)?;
        units = &units[at + 1..];
        rest = &after[letter.len_utf8()..];
    }
    Ok(())
}

/// `yyyy-mm-ddThh:mm:ss`.
fn parse_alternative(duration: &mut Duration, text: &str) -> Result<(), DurationError> {
    let mut rest = text;
    for (unit, width, separator) in [
        (YEARS, 4, "-"),
        (MONTHS, 2, "-"),
        (DAYS, 2, "T"),
        (HOURS, 2, ":"),
        (MINUTES, 2, ":"),
        (SECONDS, 2, ""),
    ] {
        let (digits, after) = split_digits(rest)?;
        if digits.len() != width {
            return Err(DurationError::Syntax);
        }
        duration.add(unit, digits)?;
        rest = after.strip_prefix(separator).ok_or(DurationError::Syntax)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(DurationError::Syntax) }
}
