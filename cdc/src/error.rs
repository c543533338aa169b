//! What can be wrong with a statement about change data capture, in the words clients match on.
//!
//! Each function is one refusal; the caller decides when it applies, unless the function is named
//! `check_…`. Names are given as they are stored, without quotes.

use model::{TableDef, ValueError};
use std::fmt;

/// Which CQL error a refusal becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdcErrorKind {
    /// `ConfigError`, 0x2300.
    Config,
    /// `Invalid`, 0x2200.
    Invalid,
    /// `Unauthorized`, 0x2100.
    Unauthorized,
}

/// A refusal; always the statement's fault, and nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdcError {
    /// Which CQL error it becomes.
    pub kind: CdcErrorKind,
    /// The text for the client.
    pub message: String,
}

impl fmt::Display for CdcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CdcError {}

/// A key, a position or a path in a mutation that is not what its column's type demands.
impl From<ValueError> for CdcError {
    fn from(error: ValueError) -> Self {
        invalid(error.to_string())
    }
}

/// A mutation that does not decode.
impl From<model::codec::DecodeError> for CdcError {
    fn from(error: model::codec::DecodeError) -> Self {
        invalid(error.0.to_owned())
    }
}

pub(crate) fn config(message: impl Into<String>) -> CdcError {
    CdcError { kind: CdcErrorKind::Config, message: message.into() }
}

pub(crate) fn invalid(message: impl Into<String>) -> CdcError {
    CdcError { kind: CdcErrorKind::Invalid, message: message.into() }
}

/// The log's name belongs to an ordinary table already.
pub fn log_name_taken(keyspace: &str, base: &str) -> CdcError {
    let log = crate::log_table_name(base);
    invalid(format!(
        "Cannot create CDC log table for table {keyspace}.{base} because a table of name \
         {keyspace}.{log} already exists"
    ))
}

/// The base is a counter table.
pub fn counter_table(keyspace: &str, base: &str) -> CdcError {
    invalid(format!(
        "Cannot create CDC log for table {keyspace}.{base}. Counter support not implemented"
    ))
}

/// `ALTER TABLE … ADD c counter` on a table that has other columns.
pub fn counter_column_added(column: &str) -> CdcError {
    config(format!("Cannot add a counter column ({column}) in a non counter column family"))
}

/// `WITH cdc` on a log table.
pub fn nested_log(keyspace: &str, log: &str) -> CdcError {
    invalid(format!(
        "Cannot create a CDC log for a table {keyspace}.{log}, because creating nested CDC logs \
         is not allowed"
    ))
}

/// A materialized view created or altered `WITH cdc`.
pub fn view_with_cdc() -> CdcError {
    invalid("Cannot enable CDC for a materialized view")
}

/// A materialized view on a log.
pub fn view_on_log() -> CdcError {
    invalid("Materialized views cannot be created on CDC Log tables")
}

/// `ALTER TABLE` that adds, drops or retypes a log's columns.
pub fn log_columns_modified(attached: bool) -> CdcError {
    invalid(if attached {
        "You cannot modify the set of columns of a CDC log table directly. \
         Modify the base table instead."
    } else {
        "You cannot modify the set of columns of a CDC log table directly. \
         Although the base table has deactivated CDC, this table will continue being a CDC log \
         table until it is dropped. If you want to modify the columns in it, you can only do that \
         by reenabling CDC on the base table, which will reattach this log table. Then you will \
         be able to modify the columns in the base table, and that will have effect on the log \
         table too. Modifying the columns of a CDC log table directly is never allowed."
    })
}

/// `ALTER TABLE … RENAME` of a log's column.
pub fn log_column_renamed(attached: bool) -> CdcError {
    invalid(if attached {
        "Cannot rename a column of a CDC log table."
    } else {
        "You cannot rename a column of a CDC log table. Although the base table has deactivated \
         CDC, this table will continue being a CDC log table until it is dropped."
    })
}

/// `DROP TABLE` of a log whose base still has CDC on.
pub fn attached_log_dropped(log: &str) -> CdcError {
    CdcError {
        kind: CdcErrorKind::Unauthorized,
        message: format!("Cannot DROP cdc log table {log}"),
    }
}

/// `tombstone_gc = {'mode': 'repair'}` on a log.
pub fn log_tombstone_gc_repair() -> CdcError {
    invalid("The 'repair' mode for tombstone_gc is not allowed on CDC log tables.")
}

/// A write names a base column that the log does not have.
pub fn log_lacks_column(log: &TableDef, column: &str) -> CdcError {
    invalid(format!(
        "CDC log schema for {}.{} does not have base column {column}",
        log.keyspace, log.name
    ))
}

/// Two columns of the base would have log columns of one name.
pub fn log_column_taken(keyspace: &str, base: &str, column: &str) -> CdcError {
    invalid(format!(
        "Cannot create CDC log for table {keyspace}.{base}: the log would have two columns named \
         {column}"
    ))
}

/// Refuses to give `base` a log at all: it is a log itself, or a counter table.
pub fn check_base(base: &TableDef) -> Result<(), CdcError> {
    if base.is_cdc_log() {
        return Err(nested_log(&base.keyspace, &base.name));
    }
    if base.is_counter() {
        return Err(counter_table(&base.keyspace, &base.name));
    }
    Ok(())
}
