//! The crate `env`; see docs/ARCHITECTURE.md.
