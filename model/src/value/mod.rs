//! Values as CQL's native protocol serializes them: views, checks, order, builders.

mod build;
mod compare;
mod error;
mod fuzz;
mod number;
mod validate;
mod view;
mod vint;

pub use build::{CollectionBuilder, normalize, push_value};
pub use compare::compare_values;
pub use error::ValueError;
pub use fuzz::fuzz_value;
pub use number::NUMBER_BYTES_MAX;
pub use validate::{TYPE_DEPTH_MAX, read_duration, validate};
pub use view::{ListView, MapView, TupleView, VectorView, fixed_bytes_in_vector};

pub(crate) use number::{DecimalValue, minimal_varint};
pub(crate) use validate::DAY_NANOS;
pub(crate) use vint::{write_signed_vint, write_unsigned_vint};

#[cfg(test)]
pub(crate) mod testing;
