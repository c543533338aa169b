//! What a test of feeds keeps of a run: what was written, what readers were told, and how far the
//! cluster said that its feeds had come. Lines of JSON, which can be judged again.

use serde::{Deserialize, Serialize};

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Written {
    /// It was done.
    Ok,
    /// It was not done, and never will be.
    Fail,
    /// It may have been done, or be done later.
    Info,
}

/// Where a reader found something. What one partition tells has one order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The feed, and so its destination.
    pub feed: String,
    /// Of a topic; 0 of a webhook.
    pub partition: u32,
    /// Of a topic: the message's number in its partition, by which a reader that was killed and reads
    /// again is told from a feed that sends again. Nothing of a webhook.
    pub offset: Option<u64>,
}

/// A line of the history. Lines stand in the order in which they happened, writes where they ended;
/// times are nanoseconds since the run began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "snake_case")]
pub enum Entry {
    /// A client wrote a row, or wanted to. Nobody writes a value twice.
    Write {
        /// When it was asked.
        began: u64,
        /// When the client knew, or gave up.
        ended: u64,
        /// The row.
        key: i64,
        /// What was to be in it.
        value: i64,
        /// How that ended.
        outcome: Written,
    },
    /// A feed is to tell of everything above that number.
    Begin {
        /// The feed.
        feed: String,
        /// 0 for all.
        above: u64,
    },
    /// A reader took an event.
    Told {
        /// When.
        nanos: u64,
        /// Where.
        #[serde(flatten)]
        place: Place,
        /// The row.
        key: i64,
        /// What is in it.
        value: i64,
        /// The event's number.
        sequence: u64,
        /// Whether the feed was told that it arrived. What was not may come again.
        is_acknowledged: bool,
    },
    /// A reader took a mark: nothing at or below its number follows.
    Mark {
        /// When.
        nanos: u64,
        /// Where.
        #[serde(flatten)]
        place: Place,
        /// The number.
        sequence: u64,
    },
    /// A node said how far a feed has come, as the cluster has agreed.
    Position {
        /// When that was known.
        nanos: u64,
        /// The feed.
        feed: String,
        /// The number of the last event that is behind it.
        sequence: u64,
        /// Raised by every change of owner.
        epoch: u64,
    },
    /// A broker was killed, or told to end.
    Broker {
        /// When.
        nanos: u64,
    },
    /// The table, read whole when all was over: key and value, by key.
    Table {
        /// All of them.
        rows: Vec<(i64, i64)>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{from_lines, to_lines};

    #[test]
    fn a_history_survives_its_file() {
        let place = Place { feed: "topic".to_owned(), partition: 2, offset: Some(7) };
        let entries = [
            Entry::Write { began: 1, ended: 5, key: 3, value: 4, outcome: Written::Ok },
            Entry::Mark { nanos: 9, place, sequence: 12 },
        ];
        let text = to_lines(&entries);
        assert_eq!(
            text.lines().last(),
            Some(r#"{"f":"mark","nanos":9,"feed":"topic","partition":2,"offset":7,"sequence":12}"#)
        );
        assert_eq!(from_lines::<Entry>(&text).unwrap(), entries);
        assert_eq!(from_lines::<Entry>("{}").unwrap_err().line, 1);
    }
}
