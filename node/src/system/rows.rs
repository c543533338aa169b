//! Values of virtual tables as the node has them, for [`SystemRows`].

use cql::plan::system_schema::{SystemRows, value};
use model::TableDef;
use std::collections::BTreeMap;

/// A serialized value of a virtual row.
#[derive(Clone, Debug)]
pub(super) struct Datum(Vec<u8>);

impl Datum {
    /// `blob`
    pub(super) fn blob(bytes: &[u8]) -> Datum {
        Datum(bytes.to_vec())
    }

    /// A set of serialized elements, in whatever order.
    pub(super) fn set(mut elements: Vec<Vec<u8>>) -> Datum {
        elements.sort_unstable();
        elements.dedup();
        Datum(value::elements(elements.iter().map(Vec::as_slice)))
    }

    /// A list of serialized elements.
    pub(super) fn list<'a>(elements: impl IntoIterator<Item = &'a [u8]>) -> Datum {
        Datum(value::elements(elements))
    }

    /// `map<text, text>`
    pub(super) fn map<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Datum {
        let sorted: BTreeMap<&str, &str> = entries.into_iter().collect();
        Datum(value::map(sorted.into_iter().map(|(key, value)| (key, value.as_bytes()))))
    }
}

impl From<&str> for Datum {
    fn from(text: &str) -> Self {
        Datum(value::text(text))
    }
}

impl From<String> for Datum {
    fn from(text: String) -> Self {
        Datum(text.into_bytes())
    }
}

impl From<i32> for Datum {
    fn from(number: i32) -> Self {
        Datum(value::int(number))
    }
}

impl From<i64> for Datum {
    fn from(number: i64) -> Self {
        Datum(value::bigint(number))
    }
}

impl From<f64> for Datum {
    fn from(number: f64) -> Self {
        Datum(value::double(number))
    }
}

impl From<bool> for Datum {
    fn from(flag: bool) -> Self {
        Datum(value::boolean(flag))
    }
}

impl From<[u8; 16]> for Datum {
    fn from(uuid: [u8; 16]) -> Self {
        Datum(uuid.to_vec())
    }
}

impl From<std::net::IpAddr> for Datum {
    fn from(address: std::net::IpAddr) -> Self {
        Datum(value::inet(address))
    }
}

/// Collects the rows of one virtual table.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    table: &'a TableDef,
    rows: SystemRows<'a>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(table: &'a TableDef) -> Self {
        Rows { table, rows: SystemRows::new(table) }
    }

    /// The rows as mutations.
    pub(super) fn finish(self) -> Vec<Vec<u8>> {
        self.rows.into_mutations().unwrap_or_else(|error| {
            tracing::error!("rows of {}.{}: {error}", self.table.keyspace, self.table.name);
            Vec::new()
        })
    }

    /// Adds a row. Columns that the table does not have are left out, so that one list of values
    /// serves several versions of a table.
    pub(super) fn add(&mut self, values: Vec<(&str, Datum)>) {
        let known = values.into_iter().filter(|(name, _)| self.table.column(name).is_some());
        if let Err(error) = self.rows.row(known.map(|(name, datum)| (name, datum.0))) {
            tracing::error!("a row of {}.{}: {error}", self.table.keyspace, self.table.name);
        }
    }
}
