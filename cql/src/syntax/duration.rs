//! What a duration looks like: `1h30m`, `P1Y2M3DT4H5M6S`, `P3W` and `P0001-02-03T04:05:06`.
//!
//! What one says, and whether it is one, is [`model::literal::parse_duration`]'s to tell.

/// Units of `1h30m`, in any case.
const UNITS: &[&str] = &["y", "mo", "w", "d", "h", "m", "s", "ms", "us", "µs", "ns"];

/// Whether `text` is digits and units in turn.
pub(super) fn is_units(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let Some(tail) = behind_digits(rest) else { return false };
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let Some((unit, next)) = tail.split_at_checked(end) else { return false };
        if !UNITS.iter().any(|known| known.eq_ignore_ascii_case(unit)) {
            return false;
        }
        rest = next;
    }
    !text.is_empty()
}

/// Length of the ISO 8601 duration that `text` begins with, if it does. `P` alone is a name.
pub(super) fn iso_length(text: &str) -> Option<usize> {
    let body = text.strip_prefix('P')?;
    if is_alternative(body) {
        return Some(1 + ALTERNATIVE_PATTERN.len());
    }
    let end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(body.len());
    is_iso(body.get(..end)?).then_some(1 + end)
}

/// `P[YYYY]-[MM]-[DD]T[hh]:[mm]:[ss]` without the P; a 0 stands for any digit.
const ALTERNATIVE_PATTERN: &str = "0000-00-00T00:00:00";

fn is_alternative(body: &str) -> bool {
    body.get(..ALTERNATIVE_PATTERN.len()).is_some_and(|candidate| {
        candidate.bytes().zip(ALTERNATIVE_PATTERN.bytes()).all(|(byte, pattern)| {
            if pattern == b'0' { byte.is_ascii_digit() } else { byte == pattern }
        })
    })
}

/// Whether it is `1Y2M3DT4H5M6S` or `3W`.
fn is_iso(body: &str) -> bool {
    if let Some(weeks) = body.strip_suffix('W') {
        return behind_digits(weeks) == Some("");
    }
    let (date, time) = body.split_once('T').unwrap_or((body, ""));
    let is_any = date.len() + time.len() > 0;
    is_any && is_designated(date, "YMD") && is_designated(time, "HMS")
}

/// Whether it is numbers, each followed by one of the letters, which come in this order.
fn is_designated(text: &str, letters: &str) -> bool {
    let mut rest = text;
    for letter in letters.chars() {
        rest = behind_digits(rest).and_then(|tail| tail.strip_prefix(letter)).unwrap_or(rest);
    }
    rest.is_empty()
}

/// What follows the digits that `text` begins with, at least one.
fn behind_digits(text: &str) -> Option<&str> {
    let tail = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (tail.len() < text.len()).then_some(tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::literal::parse_duration;

    #[test]
    fn every_form_is_seen_and_is_a_duration() {
        for text in ["1y2mo3w4d5h", "1h30m", "2s5ms7us9ns", "3µs", "10MO", "0d"] {
            assert!(is_units(text) && parse_duration(text).is_ok(), "{text}");
        }
        for text in ["P1Y2M3DT4H5M6S", "PT1M", "P1M", "P3W", "P0001-02-03T04:05:06"] {
            assert_eq!(iso_length(text), Some(text.len()), "{text}");
            assert!(parse_duration(text).is_ok(), "{text}");
        }
        assert_eq!(iso_length("P1Y)"), Some(3));
    }

    #[test]
    fn others_are_not() {
        for text in ["", "1", "h", "1x", "1h ", "P1D"] {
            assert!(!is_units(text), "{text}");
        }
        for text in ["", "P", "PT", "P1", "P1H", "P1D1Y", "PT1D", "P1Y2M3DT4H5M6", "1h"] {
            assert_eq!(iso_length(text), None, "{text}");
        }
    }
}
