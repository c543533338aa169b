//! What a receiver's answer means: taken, try again, or give up; and whether what was sent may be why.
//!
//! Only an answer that speaks of the request's content puts the blame on an event: 400, 409, 413 and
//! 422, and 500, which is what a receiver says that breaks on one. Whatever else is refused would be
//! so with any events: an address that is gone (404, 410), credentials (401, 403), a method (405).

use std::time::{Duration, UNIX_EPOCH};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::target::Target;
use crate::sink::SinkError;

/// A receiver that asks for more is asked again after this time all the same.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// `Ok` if the batch, of so many messages, is acknowledged. `now_seconds` is since 1970.
pub(super) fn judge(
    target: &Target,
    status: StatusCode,
    headers: &HeaderMap,
    now_seconds: i64,
    message_count: usize,
) -> Result<(), SinkError> {
    let said = format!("{target} answered {}", shown(status));
    match status.as_u16() {
        200..=299 => Ok(()),
        300..=399 => Err(SinkError::permanent(format!("{said}: redirects are not followed"))),
        408 | 425 | 429 | 500..=599 => {
            let retry_after = headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok())
                .and_then(|text| retry_after(text, now_seconds));
            let suspects =
                if status == StatusCode::INTERNAL_SERVER_ERROR { message_count } else { 0 };
            Err(SinkError { retry_after, ..SinkError::transient(said).suspecting(suspects) })
        }
        413 => Err(SinkError::too_large(said).suspecting(message_count)),
        400 | 409 | 422 => Err(SinkError::permanent(said).suspecting(message_count)),
        _ => Err(SinkError::permanent(said)),
    }
}

fn shown(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// Seconds, or a date of HTTP; none for anything else.
fn retry_after(text: &str, now_seconds: i64) -> Option<Duration> {
    let text = text.trim();
    let wait = if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        // More digits than a number holds is a long time as well.
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        let seconds = date.duration_since(UNIX_EPOCH).ok()?.as_secs();
        Duration::from_secs(seconds.saturating_sub(u64::try_from(now_seconds).ok()?))
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::{RETRY_AFTER_MAX, judge, retry_after};
    use crate::sink::Failure;
    use crate::sink::webhook::{AddressPolicy, Target};
    use http::{HeaderMap, StatusCode};
    use std::time::Duration;

    #[test]
    fn answers_are_told_apart() {
        let target = Target::parse("https://example.com/x", AddressPolicy::default()).expect("one");
        let kind = |status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            let judged = judge(&target, status, &HeaderMap::new(), 0, 7);
            judged.map_err(|error| (error.failure, error.suspects))
        };
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(kind(status), Ok(()), "{status}");
        }
        for status in [408, 425, 429, 502, 503, 504, 599] {
            assert_eq!(kind(status), Err((Failure::Transient, 0)), "{status}");
        }
        for status in [100, 101, 301, 302, 307, 308, 304, 401, 403, 404, 405, 410, 415, 600] {
            assert_eq!(kind(status), Err((Failure::Permanent, 0)), "{status}");
        }
        for status in [400, 409, 422] {
            assert_eq!(kind(status), Err((Failure::Permanent, 7)), "{status}");
        }
        assert_eq!(kind(413), Err((Failure::TooLarge, 7)));
        assert_eq!(kind(500), Err((Failure::Transient, 7)));
    }

    #[test]
    fn a_receiver_may_ask_for_time() {
        assert_eq!(retry_after("7", 0), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(" 0 ", 0), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999999999999999999", 0), Some(RETRY_AFTER_MAX));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after(date, 784_111_770), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(date, 784_111_779), Some(Duration::ZERO));
        assert_eq!(retry_after(date, 0), Some(RETRY_AFTER_MAX));
        for nonsense in ["", "soon", "-1", "1.5", "Sun, 99 Nov"] {
            assert_eq!(retry_after(nonsense, 0), None, "{nonsense}");
        }
    }
}
