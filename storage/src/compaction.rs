//! Merging table files, so that reads meet few of them and what is deleted goes away.
//!
//! [`picker`] decides what to merge, as a pure function of the files' figures; [`executor`] merges;
//! [`purge`] says what may be forgotten.

pub(crate) mod executor;
pub(crate) mod picker;
pub(crate) mod purge;
