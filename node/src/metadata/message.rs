//! The bytes of a change of the metadata that another node asks the leader for, and of its outcome.
//!
//! ```text
//! change  := 3 what
//! what    := 1 text:slice [keyspace:slice]  |  2 starts_in_millis:i64le  |  3 record:slice
//!          | 4  |  5 ring_request:slice
//!          | 8 node:u128le news:slice
//! outcome := index:varint events:varint event* warnings:varint slice*
//! event   := change:u8 target:u8 keyspace:slice name:slice
//! error   := 1..5 text:slice  |  6 keyspace:slice table:slice text:slice
//!          | 7 alive:varint required:varint  |  8 (the error of a write)
//! ```
//!
//! The answer around outcome and error is [`Answer`](crate::remote::Answer). The decoders begin
//! behind the kind of the request. Everything comes from another node and is checked whole before
//! it is used.

#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use super::{DdlError, DdlOutcome, MetadataRequest, NodeRecord};
use crate::internode::AskKind;
use crate::remote::Body;
use crate::shard::WriteError;
use cql::plan::{ErrorKind, PlanError};
use cql::wire::{ChangeKind, SchemaChange, SchemaTarget};
use model::codec::{Cursor, DecodeError, put_slice, put_varint};
use std::sync::Arc;

const WHAT_STATEMENT: u8 = 1;
const WHAT_GENERATION: u8 = 2;
const WHAT_NODE: u8 = 3;
const WHAT_INDEX: u8 = 4;
const WHAT_RING: u8 = 5;
const WHAT_FEEDS: u8 = 8;

const ERROR_SYNTAX: u8 = 1;
const ERROR_INVALID: u8 = 2;
const ERROR_UNAUTHORIZED: u8 = 3;
const ERROR_CONFIG: u8 = 4;
const ERROR_FUNCTION: u8 = 5;
const ERROR_ALREADY_EXISTS: u8 = 6;
const ERROR_NO_MAJORITY: u8 = 7;
const ERROR_WRITE: u8 = 8;

/// The bytes of a change, its kind first.
pub(crate) fn change_bytes(request: &MetadataRequest) -> Vec<u8> {
    let mut out = vec![AskKind::ChangeMetadata as u8];
    match request {
        MetadataRequest::Statement { text, keyspace } => {
            out.push(WHAT_STATEMENT);
            put_slice(&mut out, text.as_bytes());
            if let Some(keyspace) = keyspace {
                put_slice(&mut out, keyspace.as_bytes());
            }
        }
        MetadataRequest::Generation { starts_in_millis } => {
            out.push(WHAT_GENERATION);
            out.extend_from_slice(&starts_in_millis.to_le_bytes());
        }
        MetadataRequest::Node(record) => {
            out.push(WHAT_NODE);
            let record = serde_json::to_vec(record).expect("a record's fields are JSON");
            put_slice(&mut out, &record);
        }
        MetadataRequest::Ring(request) => {
            out.push(WHAT_RING);
            let request = serde_json::to_vec(request).expect("a request's fields are JSON");
            put_slice(&mut out, &request);
        }
        MetadataRequest::Index => out.push(WHAT_INDEX),
        MetadataRequest::Feeds { node, news } => {
            out.push(WHAT_FEEDS);
            out.extend_from_slice(&node.to_le_bytes());
            let news = serde_json::to_vec(news).expect("the fields of news are JSON");
            put_slice(&mut out, &news);
        }
    }
    out
}

/// What is to be changed.
pub(crate) fn read_change(bytes: &[u8]) -> Result<MetadataRequest, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let request = match cursor.u8()? {
        WHAT_STATEMENT => {
            let text = text(&mut cursor)?;
            let keyspace = if cursor.is_empty() { None } else { Some(text_of(cursor.slice()?)?) };
            MetadataRequest::Statement { text, keyspace }
        }
        WHAT_GENERATION => {
            MetadataRequest::Generation { starts_in_millis: i64::from_le_bytes(cursor.array()?) }
        }
        WHAT_NODE => {
            let record: NodeRecord = serde_json::from_slice(cursor.slice()?)
                .map_err(|_| DecodeError("the record of a node cannot be read"))?;
            MetadataRequest::Node(Box::new(record))
        }
        WHAT_RING => {
            let request = serde_json::from_slice(cursor.slice()?)
                .map_err(|_| DecodeError("a change of the ring cannot be read"))?;
            MetadataRequest::Ring(request)
        }
        WHAT_INDEX => MetadataRequest::Index,
        WHAT_FEEDS => {
            let node = u128::from_le_bytes(cursor.array()?);
            let news = serde_json::from_slice(cursor.slice()?)
                .map_err(|_| DecodeError("the news of changefeeds cannot be read"))?;
            MetadataRequest::Feeds { node, news }
        }
        _ => return Err(DecodeError("unknown change of the metadata")),
    };
    cursor.finish()?;
    Ok(request)
}

fn text(cursor: &mut Cursor) -> Result<Arc<str>, DecodeError> {
    text_of(cursor.slice()?)
}

fn text_of(bytes: &[u8]) -> Result<Arc<str>, DecodeError> {
    std::str::from_utf8(bytes).map(Arc::from).map_err(|_| DecodeError("text is not UTF-8"))
}

impl Body for DdlOutcome {
    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.index);
        put_varint(out, self.events.len() as u64);
        for event in &self.events {
            write_event(out, event);
        }
        put_varint(out, self.warnings.len() as u64);
        for warning in &self.warnings {
            put_slice(out, warning.as_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let index = cursor.varint()?;
        // Each takes bytes, so the input bounds how many come; the counts reserve nothing.
        let mut events = Vec::new();
        for _ in 0..cursor.varint()? {
            events.push(read_event(&mut cursor)?);
        }
        let mut warnings = Vec::new();
        for _ in 0..cursor.varint()? {
            warnings.push(text(&mut cursor)?.to_string());
        }
        cursor.finish()?;
        Ok(DdlOutcome { index, events, warnings })
    }
}

fn write_event(out: &mut Vec<u8>, event: &SchemaChange) {
    out.push(match event.kind {
        ChangeKind::Created => 1,
        ChangeKind::Updated => 2,
        ChangeKind::Dropped => 3,
    });
    let (target, name) = match &event.target {
        SchemaTarget::Keyspace => (1, ""),
        SchemaTarget::Table(name) => (2, &**name),
        SchemaTarget::Type(name) => (3, &**name),
        // There are no statements that make or drop them.
        SchemaTarget::Function { name, .. } | SchemaTarget::Aggregate { name, .. } => (2, &**name),
    };
    out.push(target);
    put_slice(out, event.keyspace.as_bytes());
    put_slice(out, name.as_bytes());
}

fn read_event(cursor: &mut Cursor) -> Result<SchemaChange, DecodeError> {
    let kind = match cursor.u8()? {
        1 => ChangeKind::Created,
        2 => ChangeKind::Updated,
        3 => ChangeKind::Dropped,
        _ => return Err(DecodeError("unknown change of the schema")),
    };
    let target = cursor.u8()?;
    let (keyspace, name) = (text(cursor)?, text(cursor)?);
    let target = match target {
        1 if name.is_empty() => SchemaTarget::Keyspace,
        2 => SchemaTarget::Table(name),
        3 => SchemaTarget::Type(name),
        _ => return Err(DecodeError("unknown part of the schema")),
    };
    Ok(SchemaChange { kind, keyspace, target })
}

impl Body for DdlError {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            DdlError::Plan(error) => write_plan_error(out, error),
            DdlError::NoMajority { alive, required } => {
                out.push(ERROR_NO_MAJORITY);
                put_varint(out, u64::from(*alive));
                put_varint(out, u64::from(*required));
            }
            DdlError::Write(error) => {
                out.push(ERROR_WRITE);
                error.write(out);
            }
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let kind = cursor.u8()?;
        if kind == ERROR_WRITE {
            return WriteError::read(cursor.rest()).map(DdlError::Write);
        }
        let error = if kind == ERROR_NO_MAJORITY {
            let mut count = || {
                let count = cursor.varint()?;
                u32::try_from(count).map_err(|_| DecodeError("a number of nodes is too large"))
            };
            DdlError::NoMajority { alive: count()?, required: count()? }
        } else {
            DdlError::Plan(read_plan_error(kind, &mut cursor)?)
        };
        cursor.finish()?;
        Ok(error)
    }
}

fn write_plan_error(out: &mut Vec<u8>, error: &PlanError) {
    out.push(match &error.kind {
        ErrorKind::Syntax => ERROR_SYNTAX,
        ErrorKind::Invalid => ERROR_INVALID,
        ErrorKind::Unauthorized => ERROR_UNAUTHORIZED,
        ErrorKind::Config => ERROR_CONFIG,
        ErrorKind::FunctionFailure { .. } => ERROR_FUNCTION,
        ErrorKind::AlreadyExists { .. } => ERROR_ALREADY_EXISTS,
    });
    if let ErrorKind::AlreadyExists { keyspace, table } = &error.kind {
        put_slice(out, keyspace.as_bytes());
        put_slice(out, table.as_bytes());
    }
    put_slice(out, error.message.as_bytes());
}

fn read_plan_error(kind: u8, cursor: &mut Cursor) -> Result<PlanError, DecodeError> {
    let kind = match kind {
        ERROR_SYNTAX => ErrorKind::Syntax,
        // Definitions call no functions.
        ERROR_INVALID | ERROR_FUNCTION => ErrorKind::Invalid,
        ERROR_UNAUTHORIZED => ErrorKind::Unauthorized,
        ERROR_CONFIG => ErrorKind::Config,
        ERROR_ALREADY_EXISTS => {
            let (keyspace, table) = (text(cursor)?.to_string(), text(cursor)?.to_string());
            ErrorKind::AlreadyExists { keyspace, table }
        }
        _ => return Err(DecodeError("unknown error of a change of the metadata")),
    };
    Ok(PlanError { kind, message: text(cursor)?.to_string().into() })
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::metadata::test_news;
    use crate::remote::Answer;

    type ChangeAnswer = Answer<DdlOutcome, DdlError>;

    fn requests() -> Vec<MetadataRequest> {
        let record = NodeRecord {
            host_id: u128::MAX,
            data_center: "dc1".to_owned(),
            rack: "r1".to_owned(),
            address: [127, 0, 0, 2].into(),
            cql_port: 9042,
            internode_address: ([127, 0, 0, 2], 7000).into(),
            tokens: vec![-1, 5],
            shard_count: 2,
        };
        vec![
            MetadataRequest::Statement { text: "DROP TABLE t".into(), keyspace: Some("k".into()) },
            MetadataRequest::Statement { text: "x".into(), keyspace: None },
            MetadataRequest::Generation { starts_in_millis: -2 },
            MetadataRequest::Index,
            MetadataRequest::Node(Box::new(record)),
            MetadataRequest::Feeds { node: 7, news: Box::new(test_news()) },
        ]
    }

    fn answers() -> Vec<ChangeAnswer> {
        let event = |kind, target| SchemaChange { kind, keyspace: "k".into(), target };
        let events = vec![
            event(ChangeKind::Created, SchemaTarget::Keyspace),
            event(ChangeKind::Updated, SchemaTarget::Table("t".into())),
            event(ChangeKind::Dropped, SchemaTarget::Type("u".into())),
        ];
        let warnings = vec!["w".to_owned(), String::new()];
        let plan = |kind| DdlError::Plan(PlanError { kind, message: "m".into() });
        let (keyspace, table) = ("k".to_owned(), "t".to_owned());
        let errors = vec![
            plan(ErrorKind::Syntax),
            plan(ErrorKind::Invalid),
            plan(ErrorKind::Unauthorized),
            plan(ErrorKind::Config),
            plan(ErrorKind::AlreadyExists { keyspace, table }),
            DdlError::NoMajority { alive: 1, required: 2 },
            DdlError::Write(WriteError::Overloaded("o".to_owned())),
        ];
        let mut answers = vec![Answer::Done(DdlOutcome { index: 300, events, warnings })];
        answers.extend(errors.into_iter().map(Answer::Failed));
        answers.push(Answer::NotLeader { hint: None });
        answers
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
    }

    #[test]
    fn changes_read_back_and_every_cut_is_an_error() {
        for request in requests() {
            let bytes = change_bytes(&request);
            assert_eq!(bytes[0], AskKind::ChangeMetadata as u8);
            assert_eq!(format!("{:?}", read_change(&bytes[1..]).unwrap()), format!("{request:?}"));
            assert!(read_change(&[&bytes[1..], &[0, 0]].concat()).is_err(), "trailing bytes");
            let without_keyspace = 1 + 1 + 1 + "DROP TABLE t".len();
            for length in 1..bytes.len() {
                let is_whole = length == without_keyspace && bytes[1] == WHAT_STATEMENT;
                assert_eq!(read_change(&bytes[1..length]).is_ok(), is_whole, "cut at {length}");
            }
        }
    }

    #[test]
    fn answers_read_back_and_every_cut_is_an_error() {
        for answer in answers() {
            let bytes = answer.to_bytes();
            let read = ChangeAnswer::from_bytes(&bytes).unwrap();
            assert_eq!(format!("{read:?}"), format!("{answer:?}"));
            assert!(ChangeAnswer::from_bytes(&[&bytes[..], &[0]].concat()).is_err(), "trailing");
            for length in 0..bytes.len() {
                assert!(ChangeAnswer::from_bytes(&bytes[..length]).is_err(), "cut at {length}");
            }
        }
    }

    #[test]
    fn counts_and_kinds_that_cannot_be_are_errors() {
        for bytes in [&[0][..], &[9], &[WHAT_STATEMENT, 1, 0xff], &[WHAT_NODE, 2, b'{', b'}']] {
            assert!(read_change(bytes).is_err(), "{bytes:?}");
        }
        let many = [&[0, 1][..], &[0xff; 9], &[1]].concat();
        assert!(ChangeAnswer::from_bytes(&many).is_err(), "more events than there are bytes");
        assert!(ChangeAnswer::from_bytes(&[1, 7, 0xff, 0xff, 0xff, 0xff, 0x7f, 1]).is_err());
        assert!(ChangeAnswer::from_bytes(&[1, 99, 0]).is_err());
    }

    /// Pins `docs/formats/requests.md`.
    #[test]
    fn the_bytes_of_a_change_of_the_metadata_do_not_change_unnoticed() {
        let requests: Vec<String> =
            requests().iter().take(4).map(|request| hex(&change_bytes(request))).collect();
        let expected =
            ["03010c44524f50205441424c452074016b", "03010178", "0302feffffffffffffff", "0304"];
        assert_eq!(requests, expected);
        let answers: Vec<String> = answers().iter().map(|answer| hex(&answer.to_bytes())).collect();
        let expected = [
            "00ac02030101016b000202016b01740303016b017502017700",
            "0101016d",
            "0102016d",
            "0103016d",
            "0104016d",
            "0106016b0174016d",
            "01070102",
            "010801016f",
            "02",
        ];
        assert_eq!(answers, expected);
    }
}
