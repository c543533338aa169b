//! The crate `cluster`; see docs/ARCHITECTURE.md.
