//! Refusals that several schema statements share.

use super::super::system_schema::is_system_keyspace;
use super::super::{ErrorKind, PlanError};
use super::{KEYSPACE_NAME_BYTES_MAX, NAME_BYTES_MAX};
use std::borrow::Cow;

/// The statement's words are wrong, though they are words.
pub(super) fn syntax(message: impl Into<Cow<'static, str>>) -> PlanError {
    PlanError { kind: ErrorKind::Syntax, message: message.into() }
}

/// The keyspace is there already.
pub(super) fn keyspace_exists(keyspace: &str) -> PlanError {
    let kind = ErrorKind::AlreadyExists { keyspace: keyspace.to_owned(), table: String::new() };
    PlanError { kind, message: format!("Cannot add existing keyspace \"{keyspace}\"").into() }
}

/// The table is there already.
pub(super) fn table_exists(keyspace: &str, table: &str) -> PlanError {
    let kind = ErrorKind::AlreadyExists { keyspace: keyspace.to_owned(), table: table.to_owned() };
    let message =
        format!("Cannot add already existing table \"{table}\" to keyspace \"{keyspace}\"");
    PlanError { kind, message: message.into() }
}

/// There is no such keyspace.
pub(super) fn unknown_keyspace(keyspace: &str) -> PlanError {
    PlanError::invalid(format!("Keyspace '{keyspace}' doesn't exist"))
}

/// Refuses to change what belongs to the system.
pub(super) fn check_user_keyspace(keyspace: &str) -> Result<(), PlanError> {
    if !is_system_keyspace(keyspace) {
        return Ok(());
    }
    let message = format!("{keyspace} keyspace is not user-modifiable.");
    Err(PlanError { kind: ErrorKind::Unauthorized, message: message.into() })
}

/// Refuses names of keyspaces that could not be those of folders.
pub(super) fn check_keyspace_name(name: &str) -> Result<(), PlanError> {
    if !could_be_folder(name) {
        return Err(PlanError::invalid(format!(
            "Keyspace name must not be empty and must contain alphanumeric or underscore \
             characters only (got \"{name}\")"
        )));
    }
    if name.len() > KEYSPACE_NAME_BYTES_MAX {
        return Err(PlanError::invalid(format!(
            "Keyspace name must not be more than {KEYSPACE_NAME_BYTES_MAX} characters long (got {} \
             characters for \"{name}\")",
            name.len()
        )));
    }
    Ok(())
}

/// Refuses names of tables that could not be those of folders.
pub(super) fn check_table_name(keyspace: &str, name: &str) -> Result<(), PlanError> {
    if !could_be_folder(name) {
        return Err(PlanError::config(format!(
            "{keyspace}.{name}: Table name must not be empty or not contain \
             non-alphanumeric-underscore characters (got \"{name}\")"
        )));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(PlanError::config(format!(
            "{keyspace}.{name}: Table name must not be more than {NAME_BYTES_MAX} characters long \
             (got {} characters for \"{name}\")",
            name.len()
        )));
    }
    Ok(())
}

fn could_be_folder(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
