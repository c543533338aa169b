//! The crate `cql`; see docs/ARCHITECTURE.md.
