//! Values as CQL's native protocol serializes them: views, checks, order, builders.

mod error;

pub use error::ValueError;
