//! What clients did and what they were told: the history of a run.
//!
//! A history is a list of events in the order in which they happened: a client *invokes* an
//! operation, and later hears that it was done (`ok`), that it was surely not done (`fail`), or
//! nothing that decides it (`info`: a timeout, a lost connection). Checkers look at [`Call`]s, which
//! are an invocation with its end. What is not known to have ended may take effect at any later
//! time, so its end is never.
//!
//! The same in a file: one event a line, as JSON, so that a history can be checked again later and
//! by others.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What a client asks, with what it was told once it has ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum Operation {
    /// The value of a register; `None` when it was never written.
    Read {
        /// The register.
        key: i64,
        /// What was read; nothing before the end.
        value: Option<i64>,
    },
    /// Sets a register.
    Write {
        /// The register.
        key: i64,
        /// Its new value.
        value: i64,
    },
    /// Sets a register if it holds a value.
    CompareAndSet {
        /// The register.
        key: i64,
        /// What it must hold.
        from: i64,
        /// Its new value.
        to: i64,
        /// Whether it did; nothing before the end.
        applied: Option<bool>,
    },
    /// Adds an element to the set.
    Add {
        /// The element; nobody adds it twice.
        value: i64,
    },
    /// All elements of the set.
    ReadSet {
        /// Ascending.
        values: Vec<i64>,
    },
    /// Adds an element to both of two sets, by one batch.
    AddBoth {
        /// The element; nobody adds it twice.
        value: i64,
    },
    /// All elements of both sets.
    ReadBoth {
        /// Ascending.
        left: Vec<i64>,
        /// Ascending.
        right: Vec<i64>,
    },
    /// Raises a counter.
    Increment {
        /// The counter.
        key: i64,
        /// By how much; above 0.
        by: i64,
    },
    /// The value of a counter.
    ReadCounter {
        /// The counter.
        key: i64,
        /// What was read; nothing before the end.
        value: Option<i64>,
    },
    /// Upserts one row of a logged table.
    Upsert {
        /// The partition.
        key: i64,
        /// The row in it.
        clustering: i64,
        /// Its value, which nobody else writes.
        value: i64,
    },
    /// The table, whole: (key, clustering, value).
    ReadTable {
        /// In order of keys.
        rows: Vec<(i64, i64, i64)>,
    },
    /// Appends to lists of one partition, together.
    Append {
        /// The partition.
        partition: i64,
        /// Which lists, each with the value that it gets; nobody appends a value to a list twice.
        values: Vec<(i64, i64)>,
    },
    /// All lists of one partition.
    ReadLists {
        /// The partition.
        partition: i64,
        /// Each with its values in their order; nothing before the end.
        lists: Vec<(i64, Vec<i64>)>,
    },
    /// Sets a row, or deletes it, with a timestamp of the client's.
    Put {
        /// The row.
        key: i64,
        /// The timestamp, in microseconds.
        timestamp: i64,
        /// Its value, which nobody else writes; `None` deletes the row.
        value: Option<i64>,
    },
    /// Sets all rows of a partition to one value, together.
    WriteAll {
        /// The partition.
        key: i64,
        /// The value, which nobody else writes.
        value: i64,
    },
    /// All rows of a partition.
    ReadAll {
        /// The partition.
        key: i64,
        /// Whether any replica may answer, with what it has.
        is_of_any: bool,
        /// The value of each row; nothing before the end.
        values: Vec<i64>,
    },
    /// Adds an element to the set that is taken away again, by the same client.
    Blink {
        /// The element.
        value: i64,
    },
    /// All elements of the set, page by page.
    Scan {
        /// Rows of a page.
        page_rows: i32,
        /// In the order of the pages.
        values: Vec<i64>,
    },
    /// What one replica has of the table, whole: (key, clustering, value).
    ReadReplica {
        /// The replica's node, from 0.
        node: u32,
        /// In order of keys.
        rows: Vec<(i64, i64, i64)>,
    },
    /// The table's change log, whole: (key, clustering, value) in the order of the log.
    ReadLog {
        /// In order of keys, then as logged.
        rows: Vec<(i64, i64, i64)>,
    },
}

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A client asked.
    Invoke,
    /// It was done.
    Ok,
    /// It was not done, and never will be.
    Fail,
    /// It may have been done, or be done later.
    Info,
}

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since the run began.
    pub nanos: u64,
    /// The client: it asks one thing at a time.
    pub process: u32,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// To what.
    #[serde(flatten)]
    pub operation: Operation,
    /// Why it failed or is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, by this event of the history.
    Ok {
        /// Position of its end.
        returned: usize,
    },
    /// Surely not done.
    Failed,
    /// Not known; perhaps later.
    Unknown,
}

/// An invocation and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The client.
    pub process: u32,
    /// Position of the invocation in the history.
    pub invoked: usize,
    /// With what was told, if it ended well.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
}

impl Call {
    /// Whether it was done.
    pub fn is_ok(&self) -> bool {
        matches!(self.outcome, Outcome::Ok { .. })
    }
}

/// A history that contradicts itself, or a line that is no event.
#[derive(Debug, PartialEq, Eq)]
pub struct BadHistory {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the history: {}", self.line, self.reason)
    }
}

impl std::error::Error for BadHistory {}

/// Pairs invocations with their ends, in the order of the invocations.
pub fn calls(events: &[Event]) -> Result<Vec<Call>, BadHistory> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: BTreeMap<u32, usize> = BTreeMap::new();
    for (at, event) in events.iter().enumerate() {
        let bad = |reason: &str| BadHistory { line: at + 1, reason: reason.to_owned() };
        if event.kind == Kind::Invoke {
            let (process, operation) = (event.process, event.operation.clone());
            let call = Call { process, invoked: at, operation, outcome: Outcome::Unknown };
            if open.insert(event.process, calls.len()).is_some() {
                return Err(bad("the client asks again before its last call has ended"));
            }
            calls.push(call);
            continue;
        }
        let call = open.remove(&event.process).and_then(|index| calls.get_mut(index));
        let call = call.ok_or_else(|| bad("the client had asked nothing"))?;
        match event.kind {
            Kind::Ok => {
                call.outcome = Outcome::Ok { returned: at };
                call.operation = event.operation.clone();
            }
            Kind::Fail => call.outcome = Outcome::Failed,
            Kind::Invoke | Kind::Info => {}
        }
    }
    Ok(calls)
}

/// A history as lines of JSON.
pub fn to_lines<E: Serialize>(events: &[E]) -> String {
    let line = |event| serde_json::to_string(event).expect("events have text keys and no floats");
    events.iter().map(|event| line(event) + "\n").collect()
}

/// A history from lines of JSON.
pub fn from_lines<E: DeserializeOwned>(text: &str) -> Result<Vec<E>, BadHistory> {
    let parse = |(at, line)| {
        serde_json::from_str(line)
            .map_err(|error| BadHistory { line: at + 1, reason: error.to_string() })
    };
    text.lines().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(process: u32, kind: Kind, value: Option<i64>) -> Event {
        let operation = Operation::Read { key: 1, value };
        Event { nanos: 5, process, kind, operation, error: None }
    }

    #[test]
    fn a_history_survives_its_file() {
        let mut events = vec![event(0, Kind::Invoke, None), event(0, Kind::Info, None)];
        events[1].error = Some("timed out".to_owned());
        let text = to_lines(&events);
        assert_eq!(
            text.lines().next(),
            Some(r#"{"nanos":5,"process":0,"type":"invoke","f":"read","key":1,"value":null}"#)
        );
        assert_eq!(from_lines::<Event>(&text).unwrap(), events);
        assert_eq!(from_lines::<Event>("{}").unwrap_err().line, 1);
    }

    #[test]
    fn calls_are_paired_by_client() {
        let events = [
            event(0, Kind::Invoke, None),
            event(1, Kind::Invoke, None),
            event(1, Kind::Ok, Some(4)),
            event(0, Kind::Fail, None),
            event(0, Kind::Invoke, None),
        ];
        let calls = calls(&events).unwrap();
        let outcomes: Vec<_> = calls.iter().map(|call| (call.process, call.outcome)).collect();
        assert_eq!(
            outcomes,
            [(0, Outcome::Failed), (1, Outcome::Ok { returned: 2 }), (0, Outcome::Unknown)]
        );
        assert_eq!(calls[1].operation, Operation::Read { key: 1, value: Some(4) });
    }

    #[test]
    fn a_history_that_contradicts_itself_is_named() {
        let twice = [event(0, Kind::Invoke, None), event(0, Kind::Invoke, None)];
        assert_eq!(calls(&twice).unwrap_err().line, 2);
        assert_eq!(calls(&[event(0, Kind::Ok, None)]).unwrap_err().line, 1);
    }
}
