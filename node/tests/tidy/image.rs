//! What the image of the Dockerfile is compiled from.

use std::collections::BTreeSet;

/// Crates that `.dockerignore` does not let through whole. Each has to be named: `!*/src` is
/// understood by newer versions of Docker only.
pub(crate) fn missing<'c>(ignored: &str, crates: impl Iterator<Item = &'c str>) -> Vec<String> {
    let kept: BTreeSet<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    crates
        .flat_map(|name| ["Cargo.toml", "src"].map(|part| format!("{name}/{part}")))
        .filter(|path| !kept.contains(path.as_str()))
        .collect()
}

#[test]
fn a_crate_that_is_not_named_is_missing() {
    let ignored = "*\n!*/Cargo.toml\n!*/src\n!model/src\n!env/Cargo.toml\n!env/src\n";
    assert_eq!(missing(ignored, ["env", "model"].into_iter()), ["model/Cargo.toml"]);
}
