//! The rules of the tree that no compiler checks, as tests: the arrows between crates, the sizes of
//! files and functions, headers, format pages, and nothing that belongs to one machine.
//!
//! Each rule is a function of text that returns what offends it, so that a test beside it shows
//! that it can fail; the tests here apply them to the whole tree.

#![expect(clippy::disallowed_methods, reason = "a tidy test reads the tree that it checks")]

mod arrows;
mod image;
mod pages;
mod source;
mod tree;

use tree::{Tree, root};

/// Fails with all offences of a rule at once.
fn assert_none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n  {}\n", offences.join("\n  "));
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let edges = arrows::edges(&arrows::metadata(&root()));
    assert!(edges.contains_key("model"), "the workspace has a crate `model`: {edges:?}");
    assert_none("arrows between crates", &arrows::offences(&edges));
}

#[test]
fn the_image_is_compiled_from_all_crates() {
    let edges = arrows::edges(&arrows::metadata(&root()));
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).expect("it is there");
    let missing = image::missing(&ignored, edges.keys().map(String::as_str));
    assert_none(".dockerignore keeps these from the compiler", &missing);
}

#[test]
fn no_test_is_ignored() {
    let offences = Tree::read().rust_offences(source::ignored_tests);
    assert_none("a test that does not run is no test", &offences);
}

#[test]
fn files_open_with_a_header() {
    let offences = Tree::read().rust_offences(source::missing_header);
    assert_none("a file of 40 lines or more opens with `//!`", &offences);
}

#[test]
fn files_stay_below_a_thousand_lines_of_code() {
    let offences = Tree::read().rust_offences(source::too_long_file);
    assert_none("split the file", &offences);
}

#[test]
fn functions_fit_a_screen() {
    let offences = Tree::read().rust_offences(source::long_functions);
    assert_none("split the function", &offences);
}

#[test]
fn format_pages_name_the_test_that_pins_them() {
    let tree = Tree::read();
    let tests = tree.test_names();
    let mut offences = Vec::new();
    for file in tree.files("docs/formats", "md") {
        let exists = |name: &str| tests.contains(name) || root().join(name).exists();
        offences.extend(pages::offences(&file.path, &file.text, exists));
    }
    assert_none("format pages", &offences);
}

#[test]
fn nothing_names_a_path_of_one_machine() {
    let tree = Tree::read();
    let offences: Vec<String> =
        tree.files.iter().flat_map(|file| pages::machine_paths(&file.path, &file.text)).collect();
    assert_none("paths of one machine", &offences);
}
