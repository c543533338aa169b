//! Whether all that a feed has yet to read is still in the log.
//!
//! Log rows end by their TTL, whoever has read them or not. A feed that was away for longer must not
//! pass over what has ended as if nothing had been there: it stops and says so, until somebody
//! decides how it goes on.

use changefeed::source::SourceError;
use model::TimestampMicros;
use model::literal::push_rfc3339_micros;

/// Rows are placed so far ahead of the clock at most. They end as much before their time and TTL say.
const AHEAD_MICROS_MAX: i64 = 5_000_000;

/// Up to which time rows of a log with this TTL may have ended; nothing if they stay for good.
pub(super) fn ended_micros(now: TimestampMicros, ttl_seconds: u32) -> Option<TimestampMicros> {
    let ttl = i64::from(ttl_seconds) * 1_000_000;
    (ttl > 0).then(|| now.saturating_sub(ttl - AHEAD_MICROS_MAX.min(ttl / 4)))
}

/// What ends a source that has handed out everything up to `handed`.
pub(super) fn lost(handed: TimestampMicros, ended: TimestampMicros) -> SourceError {
    let mut text = "changes from ".to_owned();
    push_rfc3339_micros(&mut text, handed);
    text.push_str(" to ");
    push_rfc3339_micros(&mut text, ended);
    text.push_str(
        " may be lost: the CDC log keeps rows for its ttl, and the feed was away for longer. \
         RESUME … FROM BEGINNING goes on with what is left",
    );
    SourceError::Failed(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_after_their_ttl_and_a_little_before() {
        let day = 86_400;
        let now = 1_800_000_000_000_000;
        assert_eq!(ended_micros(now, 0), None);
        assert_eq!(ended_micros(now, day), Some(now - 86_395_000_000));
        assert_eq!(ended_micros(now, 4), Some(now - 3_000_000));
        assert_eq!(ended_micros(i64::MIN, day), Some(i64::MIN));
        let text = lost(0, 1_500_000).to_string();
        assert!(
            text.starts_with("changes from 1970-01-01T00:00:00.000000Z to 1970-01-01T00:00:01.5"),
            "{text}"
        );
    }
}
