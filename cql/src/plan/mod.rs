//! Statements ready to run: syntax tree and schema in, plans out.
//!
//! PREPARE does everything that does not depend on the values: names are resolved, types checked,
//! literals turned into bytes, columns sorted. Binding then takes the values of one execution and
//! makes what the storage understands, with as little work as possible.

pub mod arithmetic;
mod composite;
pub mod condition;
pub mod context;
pub mod ddl;
pub mod describe;
pub mod error;
pub mod filter;
pub mod function;
mod insert_json;
pub mod markers;
mod math;
pub mod names;
mod operation;
mod prepared;
pub mod restriction;
pub mod select;
pub mod system_schema;
pub mod term;
pub mod term_preparer;
mod term_text;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod type_name;
pub mod write;

pub use context::{BindContext, BoundValues, slots_from_names};
pub use error::{ErrorKind, PlanError};
pub use filter::prepare_filter;
pub use insert_json::{JsonDocument, JsonMember};
pub use markers::{BindSpec, MarkerSpecs, Receiver};
pub use prepared::{Plan, Prepared, digest, prepare, statement_id};
pub use term::{BoundTerm, PreparedTerm};
pub use term_preparer::TermPreparer;
