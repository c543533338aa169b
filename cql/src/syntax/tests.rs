//! The parser's runners: golden scripts, corpus with mutations, limits.
//!
//! A golden script is a list of cases, blank lines between: lines that begin with `> ` are one
//! statement, the lines under them its tree or its error. `#` begins a comment. Under
//! `UPDATE_GOLDEN=1` the results are written instead of compared.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use super::*;
use crate::plan::{ErrorKind, PlanError};
use model::golden;
use std::fmt::Write as _;

/// The tree on one line, without what is absent; or the error.
fn render(text: &str) -> String {
    let parsed = match parse(text) {
        Ok(parsed) => parsed,
        Err(error) => return error.to_string(),
    };
    let mut tree = format!("{:?}", parsed.statement);
    // A field that says "nothing" says it by its absence.
    for absent in [": false", ": None", ": []", ": Using {  }", ": TableProperties {  }"] {
        while let Some(end) = [", ", " }"].iter().find_map(|close| find_field(&tree, absent, close))
        {
            tree.replace_range(end, "");
        }
    }
    if !parsed.markers.is_empty() {
        write!(tree, "\nmarkers:").unwrap();
        for marker in &parsed.markers {
            let name = marker.name.as_ref().map(|name| format!("{name:?}"));
            write!(tree, " {}{:?}", name.unwrap_or_else(|| "?".to_owned()), marker.position)
                .unwrap();
        }
    }
    tree
}

/// The range of the first `name: false, ` or `, name: false` before ` }`.
fn find_field(tree: &str, value: &str, close: &str) -> Option<std::ops::Range<usize>> {
    let at = tree.find(&format!("{value}{close}"))?;
    let start = tree[..at].rfind([' ', '{']).map_or(0, |space| space + 1);
    if close == ", " {
        return Some(start..at + value.len() + close.len());
    }
    let comma = tree[..start].strip_suffix(", ").map_or(start, str::len);
    Some(comma..at + value.len())
}

#[test]
fn golden_scripts() {
    golden::check_scripts("testscripts/syntax", run_script);
}

/// The script with the results as they are.
fn run_script(script: &str) -> String {
    let mut output = String::new();
    let mut statement: Vec<&str> = Vec::new();
    for line in script.lines().chain([""]) {
        if let Some(text) = line.strip_prefix("> ").or_else(|| line.strip_prefix('>')) {
            statement.push(text);
            writeln!(output, "{line}").unwrap();
        } else if !statement.is_empty() {
            writeln!(output, "{}\n", render(&statement.join("\n"))).unwrap();
            statement.clear();
        } else if line.starts_with('#') {
            writeln!(output, "{line}\n").unwrap();
        }
    }
    output
}

/// The corpus: the statements of every file, which are separated by a comment of their own.
fn corpus() -> Vec<String> {
    let mut statements = Vec::new();
    for path in golden::files("corpus/statements") {
        let text = golden::read(&path);
        statements.extend(text.split("-- next\n").map(|s| s.trim_end_matches('\n').to_owned()));
    }
    assert!(statements.len() > 100, "the corpus is too small: {}", statements.len());
    statements
}

#[test]
fn corpus_is_parsed_without_panic() {
    let mut parsed_count = 0;
    for statement in corpus() {
        fuzz_statement(statement.as_bytes());
        parsed_count += usize::from(parse(&statement).is_ok());
    }
    assert!(parsed_count > 100, "most of the corpus must be CQL: {parsed_count}");
}

/// A small deterministic generator (xorshift), seeded by a constant: failures repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

#[test]
fn mutated_corpus_is_parsed_without_panic() {
    let statements = corpus();
    let tokens: Vec<&str> = statements.iter().flat_map(|s| s.split(' ')).collect();
    let mut random = Random(0x5EED_CA55_A0D2_A001);
    for statement in &statements {
        for _ in 0..60 {
            let mut bytes = statement.clone().into_bytes();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len() + 1);
                match random.below(6) {
                    0 => bytes.truncate(at),
                    1 => drop(bytes.drain(at..(at + random.below(8)).min(bytes.len()))),
                    2 => bytes
                        .insert(at, b"'\"$(){}[],;:.?=<>+-*/%0aP\\\n\x00\xC2"[random.below(29)]),
                    3 if at < bytes.len() => bytes[at] ^= 1 << random.below(7),
                    4 => drop(bytes.splice(at..at, tokens[random.below(tokens.len())].bytes())),
                    _ => {
                        let other = &statements[random.below(statements.len())];
                        let from = random.below(other.len());
                        bytes.extend_from_slice(&other.as_bytes()[from..]);
                    }
                }
            }
            fuzz_statement(&bytes);
        }
    }
}

/// Every construct that nests, as its opening, its middle and its closing.
const NESTING: &[(&str, &str, &str, &str, &str)] = &[
    ("INSERT INTO t (a) VALUES (", "[", "1", "]", ")"),
    ("INSERT INTO t (a) VALUES (", "{", "1", "}", ")"),
    ("INSERT INTO t (a) VALUES (", "{1:", "1", "}", ")"),
    ("INSERT INTO t (a) VALUES (", "{f:", "1", "}", ")"),
    ("INSERT INTO t (a) VALUES (", "(", "1", ")", ")"),
    ("INSERT INTO t (a) VALUES (", "f(", "1", ")", ")"),
    ("INSERT INTO t (a) VALUES (", "(int)", "1", "", ")"),
    ("INSERT INTO t (a) VALUES (", "- ", "?", "", ")"),
    ("INSERT INTO t (a) VALUES (", "", "1", "+1", ")"),
    ("INSERT INTO t (a) VALUES (", "(", "1", "*1)", ")"),
    ("INSERT INTO t (a) VALUES (", "(", "1", "*1)+1", ")"),
    ("CREATE TABLE t (a ", "list<", "int", ">", " PRIMARY KEY)"),
    ("CREATE TABLE t (a ", "map<int,", "int", ">", " PRIMARY KEY)"),
    ("SELECT ", "(", "a", ")", " FROM t"),
    ("SELECT ", "[", "a", "]", " FROM t"),
    ("SELECT ", "{1:", "a", "}", " FROM t"),
    ("SELECT ", "(text)", "a", "", " FROM t"),
    ("SELECT ", "- ", "a", "", " FROM t"),
    ("SELECT ", "", "a", "[1]", " FROM t"),
    ("SELECT ", "", "a", ".b", " FROM t"),
    ("SELECT ", "", "a", "-1", " FROM t"),
    ("SELECT ", "cast(", "a", " as int)", " FROM t"),
    ("SELECT ", "f(", "a", ")", " FROM t"),
    ("SELECT ", "(list<int>)", "1", "", " FROM t"),
    ("SELECT a FROM t WHERE ", "(", "a = 1", ")", ""),
    ("SELECT a FROM t WHERE a = ", "[", "1", "]", ""),
];

#[test]
fn nesting_is_bounded_in_every_construct() {
    for (head, open, middle, close, tail) in NESTING {
        let statement = |depth: usize| {
            format!("{head}{}{middle}{}{tail}", open.repeat(depth), close.repeat(depth))
        };
        let shallow = statement(8);
        assert!(parse(&shallow).is_ok(), "{shallow}: {:?}", parse(&shallow));
        for depth in [NESTING_DEPTH_MAX + 1, 10_000] {
            let deep = statement(depth);
            let error = parse(&deep).expect_err(head);
            assert_eq!(error.message, "nested more than 64 levels deep", "{head} {open}");
            fuzz_statement(deep.as_bytes());
        }
    }
}

#[test]
fn lists_markers_and_batches_are_bounded() {
    let list = |count: usize, item: &str| vec![item; count].join(",");
    let accepted = format!("SELECT a FROM t WHERE a IN ({})", list(MARKER_COUNT_MAX, "?"));
    assert_eq!(parse(&accepted).unwrap().markers.len(), MARKER_COUNT_MAX);
    let markers = format!("SELECT a FROM t WHERE b = ? AND a IN ({})", list(MARKER_COUNT_MAX, "?"));
    assert_eq!(parse(&markers).unwrap_err().message, "more than 65535 bind markers");
    let elements = format!("SELECT a FROM t WHERE a IN ({})", list(LIST_LENGTH_MAX + 1, "1"));
    assert_eq!(parse(&elements).unwrap_err().message, "more than 65535 items in a list");
    let batch = |count: usize| {
        format!("BEGIN BATCH {}APPLY BATCH", "DELETE FROM t WHERE a=1;".repeat(count))
    };
    assert!(parse(&batch(1_000)).is_ok());
    let error = parse(&batch(BATCH_STATEMENT_COUNT_MAX + 1)).unwrap_err();
    assert_eq!(error.message, "more than 65535 statements in a batch");
    let row = format!("[{}]", list(60_000, "1"));
    let nodes = format!("INSERT INTO t (a) VALUES ([{}])", list(20, &row));
    let error = parse(&nodes).unwrap_err();
    assert_eq!(error.message, "more than 1048576 names and values in a statement");
}

#[test]
fn reserved_words_are_sorted_and_found() {
    use model::schema::RESERVED_WORDS;
    assert!(RESERVED_WORDS.is_sorted(), "names are looked up by binary search");
    for word in RESERVED_WORDS {
        let free = ["default", "mbean", "mbeans", "replace", "unset"].contains(word);
        for spelling in [(*word).to_owned(), word.to_ascii_uppercase()] {
            let statement = format!("USE {spelling}");
            assert_eq!(parse(&statement).is_ok(), free, "{statement}");
        }
    }
    assert!(parse("USE selectx").is_ok());
    assert!(parse("USE selec").is_ok());
}

#[test]
fn a_constant_that_is_no_value_is_an_invalid_query() {
    for (constant, is_of_value) in
        [("0xabc", true), ("1h1y", true), ("P99999999999Y", true), ("0xzz", false), ("1x", false)]
    {
        let text = format!("INSERT INTO t (a) VALUES ({constant})");
        let error = parse(&text).unwrap_err();
        assert_eq!((error.column, error.is_of_value), (26, is_of_value), "{error}");
        let kind = if is_of_value { ErrorKind::Invalid } else { ErrorKind::Syntax };
        assert_eq!(PlanError::from(error).kind, kind, "{constant}");
    }
}

#[test]
fn long_statements_are_refused_and_excerpted() {
    let text = format!("SELECT '{}", "x".repeat(STATEMENT_BYTES_MAX));
    assert_eq!(parse(&text).unwrap_err().message, "statement is longer than 16777216 bytes");
    let long = "9".repeat(100_000);
    for text in [
        format!("SELECT '{long}"),
        format!("SELECT x{long} y{long} FROM t"),
        format!("UPDATE t SET x{long} = y{long} + 1 WHERE a = 1"),
        format!("INSERT INTO t (a) VALUES ({long}y)"),
        format!("INSERT INTO t (a) VALUES ({long}x)"),
        format!("INSERT INTO t (a) VALUES (0x{long}a{long})"),
        format!("ALTER TABLE t DROP a USING TIMESTAMP {long}"),
        format!("CREATE KEYSPACE k WITH x{long} = 1 AND x{long} = 1"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.to_string().len() < 300, "{error}");
    }
}
