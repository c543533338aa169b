//! Timestamps, dates and times of day: ISO 8601 text to numbers and back, by the proleptic
//! Gregorian calendar.

use super::shown;
use crate::value::{DAY_NANOS, ValueError};
use std::fmt::Write;

const DAY_MILLIS: i64 = 86_400_000;
/// The serialized date of the Unix epoch.
const DATE_EPOCH: i64 = 1 << 31;

/// Milliseconds since the epoch: an integer, or a date with an optional time (`T` or a space
/// between) and an optional zone. Digits past milliseconds are dropped.
pub(super) fn parse_timestamp(text: &str) -> Result<i64, ValueError> {
    if is_integer(text) {
        return text.parse().map_err(|_| {
            ValueError::new(format!("Unable to make long (for date) from: '{}'", shown(text)))
        });
    }
    timestamp_millis(text).ok_or_else(|| {
        ValueError::new(format!("Unable to parse a date/time from '{}'", shown(text)))
    })
}

/// The serialized date: an unsigned integer as it stands, or `[+-]yyyy-mm-dd`.
pub(super) fn parse_date(text: &str) -> Result<u32, ValueError> {
    if is_integer(text) {
        return text.parse().map_err(|_| {
            let text = shown(text);
            ValueError::new(format!("Unable to make unsigned int (for date) from: '{text}'"))
        });
    }
    let mut scan = Scan { rest: text };
    scan.date(DayOfMonth::Exact)
        .filter(|_| scan.rest.is_empty())
        .and_then(|days| u32::try_from(days + DATE_EPOCH).ok())
        .ok_or_else(|| {
            let text = shown(text);
            ValueError::new(format!("Unable to coerce '{text}' to a formatted date (long)"))
        })
}

/// Nanoseconds since midnight: an integer, or `h:m:s[.fraction]`.
pub(super) fn parse_time(text: &str) -> Result<i64, ValueError> {
    if is_integer(text) {
        return text.parse().ok().filter(|nanos| (0..DAY_NANOS).contains(nanos)).ok_or_else(|| {
            ValueError::new(format!("Unable to make long (for time) from: '{}'", shown(text)))
        });
    }
    let mut scan = Scan { rest: text };
    scan.time(Seconds::Required)
        .filter(|nanos| scan.rest.is_empty() && *nanos < DAY_NANOS)
        .ok_or_else(|| {
            let text = shown(text);
            ValueError::new(format!(
                "(TimeType) Unable to coerce '{text}' to a formatted time (long)"
            ))
        })
}

/// `yyyy-mm-ddThh:mm:ss.mmmZ`.
pub(super) fn format_timestamp(millis: i64) -> String {
    let (days, rest) = (millis.div_euclid(DAY_MILLIS), millis.rem_euclid(DAY_MILLIS));
    let (seconds, millis) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", format_days(days))
}

/// Appends a time in microseconds since the epoch as RFC 3339 writes it: `yyyy-mm-ddThh:mm:ss.uuuuuuZ`.
pub fn push_rfc3339_micros(out: &mut String, micros: i64) {
    const DAY_MICROS: i64 = DAY_MILLIS * 1_000;
    let (days, rest) = (micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS));
    let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let date = format_days(days);
    write!(out, "{date}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
        .expect("writing to a string");
}

/// `yyyy-mm-dd` of a serialized date.
pub(super) fn format_date(date: u32) -> String {
    format_days(i64::from(date) - DATE_EPOCH)
}

/// `hh:mm:ss.nnnnnnnnn`.
pub(super) fn format_time(nanos: i64) -> String {
    let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{nanos:09}")
}

fn format_days(days: i64) -> String {
    let (year, month, day) = civil_from_days(days);
    match year {
        10_000.. => format!("+{year}-{month:02}-{day:02}"),
        0.. => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("-{:04}-{month:02}-{day:02}", -year),
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn timestamp_millis(text: &str) -> Option<i64> {
    let mut scan = Scan { rest: text };
    let days = scan.date(DayOfMonth::Clamped)?;
    let nanos = if scan.has_time() {
        scan.skip_one();
        scan.time(Seconds::Optional)?
    } else {
        0
    };
    let offset_minutes = scan.zone()?;
    if !scan.rest.is_empty() {
        return None;
    }
    days.checked_mul(DAY_MILLIS)?
        .checked_add(nanos / 1_000_000)?
        .checked_sub(offset_minutes * 60_000)
}

/// Whether the 31st of a short month is its last day (timestamps) or an error (dates).
#[derive(Clone, Copy, PartialEq)]
enum DayOfMonth {
    Exact,
    Clamped,
}

/// Whether a time may end after the minutes.
#[derive(Clone, Copy, PartialEq)]
enum Seconds {
    Required,
    Optional,
}

/// Reads a text from its start.
struct Scan<'a> {
    rest: &'a str,
}

impl Scan<'_> {
    fn skip_one(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or("");
    }

    fn eat(&mut self, expected: char) -> bool {
        let rest = self.rest.strip_prefix(expected);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// As many digits as there are, if their count is within bounds. Ten digits at most, so the
    /// number fits.
    fn digits(&mut self, count_min: usize, count_max: usize) -> Option<(i64, usize)> {
        let count = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        if count < count_min || count > count_max {
            return None;
        }
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        Some((digits.parse().ok()?, count))
    }

    /// Days since the epoch. Years of more than four digits need a sign, `+` is for those alone.
    fn date(&mut self, day_of_month: DayOfMonth) -> Option<i64> {
        let negative = self.eat('-');
        let positive = !negative && self.eat('+');
        let (digits_min, digits_max) = match (negative, positive) {
            (true, _) => (4, 10),
            (_, true) => (5, 10),
            _ => (4, 4),
        };
        let (year, _) = self.digits(digits_min, digits_max)?;
        let year = if negative { -year } else { year };
        let month = self.eat('-').then(|| self.digits(2, 2))??.0;
        let day = self.eat('-').then(|| self.digits(2, 2))??.0;
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let day_max = days_in_month(year, month);
        if day > day_max && day_of_month == DayOfMonth::Exact {
            return None;
        }
        Some(days_from_civil(year, month, day.min(day_max)))
    }

    /// Whether a time follows the date: `T`, or a space and a digit (else the space is a zone's).
    fn has_time(&self) -> bool {
        match self.rest.as_bytes() {
            [b'T', ..] => true,
            [b' ', next, ..] => next.is_ascii_digit(),
            _ => false,
        }
    }

    /// Nanoseconds since midnight; 24:00:00 is the end of the day.
    fn time(&mut self, seconds: Seconds) -> Option<i64> {
        let (hour, _) = self.digits(1, 2)?;
        let minute = self.eat(':').then(|| self.digits(1, 2))??.0;
        let mut second = 0;
        let mut nanos = 0;
        if self.eat(':') {
            second = self.digits(1, 2)?.0;
            if self.eat('.') {
                let (fraction, count) = self.digits(1, 9)?;
                nanos = fraction * 10_i64.pow(9 - count as u32);
            }
        } else if seconds == Seconds::Required {
            return None;
        }
        let total = (hour * 3600 + minute * 60 + second) * 1_000_000_000 + nanos;
        (minute < 60 && second < 60 && total <= DAY_NANOS).then_some(total)
    }

    /// Minutes east of UTC: nothing, `Z`, `UTC`, `GMT`, an offset, or the last two followed by an
    /// offset; one space may come before.
    fn zone(&mut self) -> Option<i64> {
        self.eat(' ');
        if self.eat('Z') {
            return Some(0);
        }
        for name in ["UTC", "GMT"] {
            self.rest = self.rest.strip_prefix(name).unwrap_or(self.rest);
        }
        let sign = if self.eat('-') {
            -1
        } else if self.eat('+') {
            1
        } else {
            return Some(0);
        };
        let (hours, minutes) = match self.digits(2, 4)? {
            (number, 4) => (number / 100, number % 100),
            (hours, 2) if self.eat(':') => (hours, self.digits(2, 2)?.0),
            (hours, 2) => (hours, 0),
            _ => return None,
        };
        (minutes < 60 && hours * 60 + minutes <= 18 * 60).then_some(sign * (hours * 60 + minutes))
    }
}

/// The same day so many months later, or the last day of that month if it is shorter; days since
/// the epoch. `None` beyond what 64 bits of milliseconds can hold.
pub fn add_months(days: i64, months: i64) -> Option<i64> {
    let (year, month, day) = civil_from_days(days);
    let month_number = year.checked_mul(12)?.checked_add(month - 1)?.checked_add(months)?;
    let (year, month) = (month_number.div_euclid(12), month_number.rem_euclid(12) + 1);
    let is_representable = year.unsigned_abs() < 300_000_000;
    is_representable.then(|| days_from_civil(year, month, day.min(days_in_month(year, month))))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the epoch. Years are counted from March, so that the leap day is a year's last; 400
/// years are 146,097 days.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day: the inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_end_where_they_end() {
        let day = |year, month, day| days_from_civil(year, month, day);
        assert_eq!(add_months(day(2024, 1, 31), 1), Some(day(2024, 2, 29)));
        assert_eq!(add_months(day(2024, 3, 31), -13), Some(day(2023, 2, 28)));
        assert_eq!(add_months(day(1969, 12, 15), 1), Some(day(1970, 1, 15)));
        assert_eq!(add_months(0, i64::MAX), None);
    }

    #[test]
    fn every_day_of_two_eras_comes_back_and_follows_the_last() {
        let mut previous = civil_from_days(-146_098);
        for days in -146_097..146_097 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert!((year, month, day) > previous);
            assert!((1..=days_in_month(year, month)).contains(&day));
            previous = (year, month, day);
        }
        assert_eq!(civil_from_days(0), (1970, 1, 1));
    }

    #[test]
    fn the_borders_of_a_timestamp_can_be_shown() {
        assert_eq!(format_timestamp(i64::MAX), "+292278994-08-17T07:12:55.807Z");
        assert_eq!(format_timestamp(i64::MIN), "-292275055-05-16T16:47:04.192Z");
    }
}
