//! The program `tethys`.
fn main() {}
