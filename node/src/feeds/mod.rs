//! Changefeeds in the node.

pub(crate) mod source;
