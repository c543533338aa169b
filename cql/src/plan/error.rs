//! Why a statement cannot be prepared, bound or run, in the terms of the native protocol.

use crate::syntax::SyntaxError;
use model::ValueError;
use std::borrow::Cow;
use std::fmt;

/// Which error of the native protocol an answer carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is not CQL.
    Syntax,
    /// The statement does not fit the schema or its values do not fit the statement.
    Invalid,
    /// The user may not do this.
    Unauthorized,
    /// A definition that cannot be.
    Config,
    /// A function, or an operator, has no result for its arguments.
    FunctionFailure {
        /// Its name, in the keyspace `system`.
        function: &'static str,
        /// Types of its arguments.
        argument_types: Vec<String>,
    },
    /// What CREATE would make is there. The table is empty when it is the keyspace.
    AlreadyExists {
        /// The keyspace.
        keyspace: String,
        /// The table, or nothing.
        table: String,
    },
}

/// A statement that was refused. Always the client's fault, and nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// Which error the client is told.
    pub kind: ErrorKind,
    /// The text for the client.
    pub message: Cow<'static, str>,
}

impl PlanError {
    /// The statement, or what is bound to it, is wrong.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> PlanError {
        PlanError { kind: ErrorKind::Invalid, message: message.into() }
    }

    /// A function of `system` has no result for its arguments.
    pub fn function_failure(
        function: &'static str,
        argument_types: Vec<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> PlanError {
        let kind = ErrorKind::FunctionFailure { function, argument_types };
        PlanError { kind, message: message.into() }
    }

    /// The definition is wrong.
    pub fn config(message: impl Into<Cow<'static, str>>) -> PlanError {
        PlanError { kind: ErrorKind::Config, message: message.into() }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PlanError {}

impl From<ValueError> for PlanError {
    fn from(error: ValueError) -> PlanError {
        PlanError::invalid(error.to_string())
    }
}

impl From<SyntaxError> for PlanError {
    fn from(error: SyntaxError) -> PlanError {
        let kind = if error.is_of_value { ErrorKind::Invalid } else { ErrorKind::Syntax };
        PlanError { kind, message: error.to_string().into() }
    }
}
