//! Rules of pages: a format's page names what pins it, and no text names one machine's paths.

/// The words of a page between single backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// A page about a format names at least one test or fixture; whatever it calls one exists.
pub(crate) fn offences(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut offences = Vec::new();
    if !quoted(text).any(&exists) {
        offences.push(format!("{path} names no test and no fixture that exists"));
    }
    for kind in ["test `", "fixture `"] {
        for (start, _) in text.match_indices(kind) {
            let name = text[start + kind.len()..].split('`').next().unwrap_or_default();
            if !exists(name) {
                offences.push(format!("{path}: there is no {kind}{name}`"));
            }
        }
    }
    offences
}

/// Folders that exist on one machine only. Written apart, or this file would be the first offence.
const MACHINE_FOLDERS: [[&str; 2]; 4] =
    [["/wo", "rk/"], ["/fa", "rm/"], ["/tm", "p/"], ["/ro", "ot/"]];

/// Lines that name a folder of one machine.
pub(crate) fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let folders = MACHINE_FOLDERS.map(|parts| parts.concat());
    let offends = |line: &str| folders.iter().any(|folder| line.contains(folder.as_str()));
    let numbered = text.lines().enumerate().filter(|(_, line)| offends(line));
    numbered.map(|(index, line)| format!("{path}:{}: {}", index + 1, line.trim())).collect()
}

#[test]
fn pages_without_what_pins_them_are_found() {
    let exists = |name: &str| name == "bytes_stay";
    let found = |text: &str| offences("page", text, exists);
    assert_eq!(found("Pinned by the test `bytes_stay`."), Vec::<String>::new());
    assert_eq!(found("All in `format.rs`."), ["page names no test and no fixture that exists"]);
    assert_eq!(
        found("The tests are `bytes_stay` and, once, the test `bytes_left`."),
        ["page: there is no test `bytes_left`"]
    );
}

#[test]
fn machine_paths_are_found() {
    let [first, last] = MACHINE_FOLDERS[0];
    let text = format!("fine\n  see {first}{last}notes\n");
    assert_eq!(machine_paths("page", &text), [format!("page:2: see {first}{last}notes")]);
    assert_eq!(machine_paths("page", "network/homework"), Vec::<String>::new());
}
