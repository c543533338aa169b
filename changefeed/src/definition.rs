//! What a changefeed is by its statement, and where one begins: what the cluster agrees on.

use crate::options::{DeleteExpansion, Given, Options, SinkAddress, SinkKind, StartAt, to_cql};
use crate::position::{Position, Sequence};
use crate::sequence::Sequencer;
use model::schema::quote_identifier;
use model::{FeedLog, TableId, TimestampMicros};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::sync::Arc;

/// A changefeed as its statements define it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name, the only one in the cluster.
    pub name: Arc<str>,
    /// The keyspace of its tables.
    pub keyspace: Arc<str>,
    /// Its tables in the order of the statement, at least one.
    pub tables: Vec<FeedTable>,
    /// Where it goes.
    pub sink: SinkAddress,
    /// The options as they were given.
    pub given: Given,
    /// The same, checked and with the defaults.
    pub options: Options,
}

/// A table that a feed is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedTable {
    /// Its identity.
    pub id: TableId,
    /// Its name in the keyspace.
    pub name: Arc<str>,
}

/// How far a feed has come in the log of its tables: what it delivers next lies behind this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cursor {
    /// All of that time, in microseconds, and before it.
    Time(TimestampMicros),
    /// That row and those before it.
    Row(Position),
    /// The change with that number and those before it; where that is, the log has to say.
    Sequence(Sequence),
}

impl Cursor {
    /// A time in microseconds at or below which a feed that stands here needs nothing of the log, but
    /// what a reader counts from ([`WARM_UP_MICROS`](crate::sequence::WARM_UP_MICROS)).
    pub fn needs_above(&self) -> TimestampMicros {
        match self {
            Cursor::Time(micros) => *micros,
            Cursor::Row(position) => position.key.micros() - 1,
            Cursor::Sequence(sequence) => Sequencer::start_at(StartAt::Sequence(*sequence)).1,
        }
    }

    /// A time in microseconds such that whatever lies above it in the log lies behind this.
    pub fn lies_up_to(&self) -> TimestampMicros {
        match self {
            Cursor::Time(micros) => *micros,
            Cursor::Row(position) => position.key.micros(),
            Cursor::Sequence(sequence) => crate::sequence::last_micros_of(*sequence),
        }
    }

    /// The same, or that position if it lies further on.
    pub fn or_further(self, position: Position) -> Cursor {
        match self {
            Cursor::Time(micros) if micros >= position.key.micros() => self,
            Cursor::Row(row) if row >= position => self,
            _ => Cursor::Row(position),
        }
    }
}

impl Definition {
    /// What it needs of the logs of its tables; more while it `scans`: [`Options::images`].
    pub fn log_needed(&self, scans: bool) -> FeedLog {
        let images = self.options.images(scans);
        let deleted_rows = self.options.delete_expansion == DeleteExpansion::Rows;
        FeedLog { preimage: images.preimage, postimage: images.postimage, deleted_rows }
    }

    /// The names of its tables, as SHOW CHANGEFEEDS lists them.
    pub fn table_names(&self) -> String {
        let names: Vec<&str> = self.tables.iter().map(|table| &*table.name).collect();
        names.join(", ")
    }

    /// The statement that makes it, without its secrets.
    pub fn create_statement(&self) -> String {
        let mut out = format!("CREATE CHANGEFEED {} FOR TABLE ", quote_identifier(&self.name));
        for (index, table) in self.tables.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            let (keyspace, table) =
                (quote_identifier(&self.keyspace), quote_identifier(&table.name));
            write!(out, "{comma}{keyspace}.{table}").expect("writing to a string");
        }
        let (kind, address) = match &self.sink {
            SinkAddress::Kafka { brokers, topic } => {
                ("KAFKA", format!("{}/{topic}", brokers.join(",")))
            }
            SinkAddress::Webhook { .. } => ("WEBHOOK", self.sink.to_string()),
        };
        write!(out, " INTO {kind} '{}'", address.replace('\'', "''")).expect("writing to a string");
        if !self.given.is_empty() {
            write!(out, " WITH ({})", to_cql(&self.given)).expect("writing to a string");
        }
        out.push(';');
        out
    }

    /// What kind of sink it goes into.
    pub fn sink_kind(&self) -> SinkKind {
        self.sink.kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{OptionValue, parse};
    use crate::position::LogKey;

    fn definition() -> Definition {
        let given: Given =
            [("batch_size", "5"), ("hmac_secret", "whsec_aGlkZGVuIGhpZGRlbiBoaWRkZW4=")]
                .map(|(name, value)| (name.to_owned(), OptionValue::Text(value.to_owned())))
                .into();
        let kind = SinkKind::Webhook;
        Definition {
            name: "Feed".into(),
            keyspace: "ks".into(),
            tables: ["a", "B"].map(|name| FeedTable { id: TableId(7), name: name.into() }).into(),
            sink: SinkAddress::parse(kind, "https://example.com/it's?key=hidden").unwrap(),
            options: parse(kind, &given).unwrap(),
            given,
        }
    }

    #[test]
    fn a_definition_is_described_without_its_secrets() {
        let definition = definition();
        assert_eq!(
            definition.create_statement(),
            "CREATE CHANGEFEED \"Feed\" FOR TABLE ks.a, ks.\"B\" INTO WEBHOOK \
             'https://example.com/it''s?<redacted>' WITH (batch_size = 5, hmac_secret = \
             '<redacted>');"
        );
        assert_eq!(definition.table_names(), "a, B");
        assert!(!format!("{definition:?}").contains("hidden"));
    }

    #[test]
    fn a_cursor_goes_further_and_never_back() {
        let at = |micros: i64| {
            let time = cdc::time_uuid::log_time_uuid(micros, 1);
            let key = LogKey { time, table: TableId(1), stream: [0; 16], batch_seq_no: 0 };
            Position { key, sequence: 1 }
        };
        for (cursor, further) in [
            (Cursor::Time(9), Cursor::Row(at(10))),
            (Cursor::Time(10), Cursor::Time(10)),
            (Cursor::Row(at(9)), Cursor::Row(at(10))),
            (Cursor::Row(at(11)), Cursor::Row(at(11))),
            (Cursor::Sequence(5), Cursor::Row(at(10))),
        ] {
            assert_eq!(cursor.or_further(at(10)), further);
        }
    }

    #[test]
    fn a_definition_is_kept_as_json() {
        let definition = definition();
        let text = serde_json::to_string(&definition).unwrap();
        assert_eq!(serde_json::from_str::<Definition>(&text).unwrap(), definition);
    }
}
