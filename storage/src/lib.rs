//! The crate `storage`; see docs/ARCHITECTURE.md.
