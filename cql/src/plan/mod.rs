//! Syntax tree and schema to an executable plan.
