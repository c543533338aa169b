//! The tree's own text files, without what builds and tests leave in it.

use crate::source;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are nobody's source.
const SKIPPED: &[&str] = &[".git", "target", "data", "data1", "data2", "data3", "node_modules"];

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let node = Path::new(env!("CARGO_MANIFEST_DIR"));
    node.parent().expect("the crate lies in the workspace").to_owned()
}

/// A text file.
pub(crate) struct File {
    /// From the root, with `/`.
    pub path: String,
    pub text: String,
}

/// Every text file.
pub(crate) struct Tree {
    pub files: Vec<File>,
}

impl Tree {
    pub(crate) fn read() -> Tree {
        let root = root();
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("the tree can be read") {
                let entry = entry.expect("the tree can be read");
                let path = entry.path();
                let name = entry.file_name();
                if SKIPPED.iter().any(|skipped| name == *skipped) {
                    continue;
                }
                if entry.file_type().expect("the tree can be read").is_dir() {
                    folders.push(path);
                } else if let Ok(text) = fs::read_to_string(&path) {
                    let path = path.strip_prefix(&root).expect("found below the root");
                    files.push(File { path: path.to_string_lossy().into_owned(), text });
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(files.iter().any(|file| file.path == "Cargo.toml"), "found the workspace");
        Tree { files }
    }

    /// The files below a folder whose names end on `.extension`.
    pub(crate) fn files(&self, folder: &str, extension: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| {
            let path = Path::new(&file.path);
            path.starts_with(folder) && path.extension().is_some_and(|ending| ending == extension)
        })
    }

    fn rust_files(&self) -> impl Iterator<Item = &File> {
        self.files("", "rs")
    }

    /// What a rule of Rust text says of all files, each with its path in front.
    pub(crate) fn rust_offences(&self, rule: fn(&str) -> Vec<String>) -> Vec<String> {
        let offences_of = |file: &File| {
            let path = file.path.clone();
            rule(&file.text).into_iter().map(move |offence| format!("{path}: {offence}"))
        };
        self.rust_files().flat_map(offences_of).collect()
    }

    /// The names of all functions that the test runner runs.
    pub(crate) fn test_names(&self) -> BTreeSet<String> {
        self.rust_files().flat_map(|file| source::test_names(&file.text)).collect()
    }
}
