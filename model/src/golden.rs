//! Files beside the tests that hold what the tests found when somebody last looked.
//!
//! Scripts are text with results in it, [`corpora`](check_corpus) the bytes that fuzzers begin
//! with. A test replays them and compares; with `UPDATE_GOLDEN=1` in the environment what is found
//! is written instead, to be reviewed as a change. Paths are relative to the
//! crate under test, which is where cargo runs its tests.

#![expect(clippy::disallowed_methods, reason = "golden files lie on the developer's disk")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Whether files are rewritten rather than compared.
#[must_use]
pub fn is_update() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// The files of a folder, sorted by name.
///
/// # Panics
/// Where there are none: a test of no scripts shows nothing.
#[must_use]
pub fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it is listed").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder} has no files");
    paths
}

/// The text of a script.
///
/// # Panics
/// When it is not there, or is not text.
#[must_use]
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Replays the scripts of a folder: the text of each, with results as they are now, is the text
/// itself.
///
/// # Panics
/// With the first line of each script that is different.
pub fn check_scripts(folder: &str, mut replay: impl FnMut(&str) -> String) {
    let mut different = String::new();
    for path in files(folder) {
        let script = read(&path);
        let found = replay(&script);
        if found == script {
            continue;
        }
        if is_update() {
            std::fs::write(&path, &found).expect("the script can be written");
        } else {
            let difference = first_difference(&script, &found);
            writeln!(different, "{}:{difference}", path.display()).expect("text grows");
        }
    }
    assert!(different.is_empty(), "UPDATE_GOLDEN=1 writes them anew:\n{different}");
}

/// The files of a corpus by name. Those that the test can build are as it builds them.
///
/// # Panics
/// When one of the seeds is missing or different.
#[must_use]
pub fn check_corpus(folder: &str, seeds: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    if is_update() {
        std::fs::create_dir_all(folder).expect("the folder can be made");
        for (name, bytes) in seeds {
            std::fs::write(Path::new(folder).join(name), bytes).expect("the seed can be written");
        }
    }
    let name = |path: &Path| path.file_name().expect("it is listed").to_string_lossy().into_owned();
    let read = |path: &Path| std::fs::read(path).expect("it is listed");
    let corpus: BTreeMap<_, _> =
        files(folder).iter().map(|path| (name(path), read(path))).collect();
    for (name, bytes) in seeds {
        assert!(corpus.get(name) == Some(bytes), "{name}: UPDATE_GOLDEN=1 writes it anew");
    }
    corpus
}

fn first_difference(was: &str, is: &str) -> String {
    let mut lines = was.lines().chain([""]).zip(is.lines().chain([""])).enumerate();
    match lines.find(|(_, (was, is))| was != is) {
        Some((at, (was, is))) => format!("{}\n  was {was}\n  is  {is}", at + 1),
        None => " one is longer".to_owned(),
    }
}
