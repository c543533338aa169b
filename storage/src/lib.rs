//! The crate `storage`; see docs/ARCHITECTURE.md.
pub mod commitlog;
