//! Whether all that a feed has yet to read is still in the log.
//!
//! Log rows end by their TTL, whoever has read them or not; what has not ended when a feed begins to
//! wait for it is kept from then on (`feeds::retention`). A feed that begins further back must not pass
//! over what has ended as if nothing had been there: it stops and says so, until somebody decides how
//! it goes on.

use crate::view::View;
use changefeed::source::SourceError;
use model::literal::push_rfc3339_micros;
use model::{TableId, TimestampMicros};

/// Rows are placed up to five seconds ahead of the clock, and end as much before their time and TTL
/// say; and until every node has heard what is to be kept, some seconds may pass.
const MARGIN_MICROS_MAX: i64 = 10_000_000;

/// Up to which time rows of a log with this TTL may have ended; nothing if they stay for good.
fn ended_micros(now: TimestampMicros, ttl_seconds: u32) -> Option<TimestampMicros> {
    let ttl = i64::from(ttl_seconds) * 1_000_000;
    (ttl > 0).then(|| now.saturating_sub(ttl - MARGIN_MICROS_MAX.min(ttl / 4)))
}

/// Up to which time rows in the logs of these base tables may have ended.
pub(in super::super) fn ended_of(
    view: &View,
    tables: impl Iterator<Item = TableId>,
    now: TimestampMicros,
) -> Option<TimestampMicros> {
    let ttl_of = |table: TableId| Some(view.followed_table(table)?.0.cdc_enabled()?.ttl_seconds);
    tables.filter_map(|table| ended_micros(now, ttl_of(table)?)).max()
}

/// What ends a feed that has nothing yet of what lies between two times.
pub(super) fn lost(interval: (TimestampMicros, TimestampMicros)) -> SourceError {
    let why = "may be lost: the CDC log keeps rows for its ttl, and the feed begins further back";
    SourceError::Failed(lost_text(interval, why) + HOW_TO_GO_ON)
}

/// For the user, behind what is lost of a log that is there.
pub(in super::super) const HOW_TO_GO_ON: &str =
    ". RESUME … FROM BEGINNING goes on with what is left";

/// For the user: changes of an interval are what is said.
pub(in super::super) fn lost_text(
    (from, to): (TimestampMicros, TimestampMicros),
    are: &str,
) -> String {
    let mut text = "changes from ".to_owned();
    push_rfc3339_micros(&mut text, from);
    text.push_str(" to ");
    push_rfc3339_micros(&mut text, to);
    text.push(' ');
    text.push_str(are);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_after_their_ttl_and_a_little_before() {
        let day = 86_400;
        let now = 1_800_000_000_000_000;
        assert_eq!(ended_micros(now, 0), None);
        assert_eq!(ended_micros(now, day), Some(now - 86_390_000_000));
        assert_eq!(ended_micros(now, 4), Some(now - 3_000_000));
        assert_eq!(ended_micros(i64::MIN, day), Some(i64::MIN));
        let text = lost((0, 1_500_000)).to_string();
        assert!(
            text.starts_with("changes from 1970-01-01T00:00:00.000000Z to 1970-01-01T00:00:01.5"),
            "{text}"
        );
    }
}
