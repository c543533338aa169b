//! Statement text to syntax tree.
