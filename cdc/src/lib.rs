//! The crate `cdc`; see docs/ARCHITECTURE.md.
