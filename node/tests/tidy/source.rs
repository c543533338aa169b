//! Rules of Rust text. [`code`] takes away what is not code, so that the rest can count braces.

use std::iter::Peekable;
use std::str::CharIndices;

/// Files at least this long open with a header.
const HEADER_LINES_MIN: usize = 40;
/// Most lines of a file that hold code.
const FILE_CODE_LINES_MAX: usize = 1000;
/// Most lines of a function, from its name to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// The text with comments, strings and character literals blanked, line breaks kept.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.char_indices().peekable();
    let mut previous = ' ';
    while let Some((start, c)) = chars.next() {
        let rest = &text[start..];
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment_bytes(rest),
            '"' => string_bytes(rest),
            'r' | 'b' | 'c' if !is_word(previous) => prefixed_string_bytes(rest),
            '\'' => character_bytes(rest),
            _ => 0,
        };
        previous = c;
        if length == 0 {
            out.push(c);
            continue;
        }
        blank(&rest[..length], &mut out);
        advance_to(&mut chars, start + length);
        previous = ' ';
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn blank(text: &str, out: &mut String) {
    out.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
}

fn advance_to(chars: &mut Peekable<CharIndices<'_>>, end: usize) {
    while chars.next_if(|(at, _)| *at < end).is_some() {}
}

fn block_comment_bytes(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Length of a string literal with escapes that begins here.
fn string_bytes(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Length of `b"…"`, `r#"…"#` and their like; 0 if the letters begin something else.
fn prefixed_string_bytes(rest: &str) -> usize {
    let letters = rest.len() - rest.trim_start_matches(['r', 'b', 'c']).len();
    let after = &rest[letters..];
    if letters > 2 {
        return 0;
    }
    if !rest[..letters].contains('r') {
        return match after.chars().next() {
            Some('"') => letters + string_bytes(after),
            Some('\'') => letters + character_bytes(after),
            _ => 0,
        };
    }
    let hashes = after.len() - after.trim_start_matches('#').len();
    if !after[hashes..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let body = letters + hashes + 1;
    rest[body..].find(&close).map_or(rest.len(), |at| body + at + close.len())
}

/// Length of a character literal; 0 for a lifetime.
fn character_bytes(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(rest.len(), |at| 3 + at + 1),
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

/// The functions of blanked text: name, and its first and last line counted from 1.
fn functions(code: &str) -> Vec<(&str, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let rest = &code[at + 3..];
        let name = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
        if name.is_empty() {
            continue;
        }
        if let Some(length) = function_bytes(rest) {
            let line_of = |offset: usize| code[..offset].matches('\n').count() + 1;
            found.push((name, line_of(at), line_of(at + 3 + length)));
        }
    }
    found
}

/// How far the closing brace is; none for a function without a body.
fn function_bytes(rest: &str) -> Option<usize> {
    let mut brackets = 0_i32;
    let mut braces = 0_i32;
    for (at, c) in rest.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if brackets == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

pub(crate) fn long_functions(text: &str) -> Vec<String> {
    let code = code(text);
    let lines = |(_, first, last): &(&str, usize, usize)| last - first + 1;
    let all = functions(&code);
    let long = all.iter().filter(|function| lines(function) > FUNCTION_LINES_MAX);
    long.map(|function| {
        let (name, first, _) = function;
        format!("line {first}: `{name}` has {} lines, not {FUNCTION_LINES_MAX}", lines(function))
    })
    .collect()
}

pub(crate) fn too_long_file(text: &str) -> Vec<String> {
    let count = code(text).lines().filter(|line| !line.trim().is_empty()).count();
    let long = count > FILE_CODE_LINES_MAX;
    long.then(|| format!("{count} lines of code, not {FILE_CODE_LINES_MAX}")).into_iter().collect()
}

pub(crate) fn missing_header(text: &str) -> Vec<String> {
    let count = text.lines().count();
    let missing = count >= HEADER_LINES_MIN && !text.starts_with("//!");
    missing.then(|| format!("{count} lines and no header")).into_iter().collect()
}

pub(crate) fn ignored_tests(text: &str) -> Vec<String> {
    let code = code(text);
    let numbered = code.lines().enumerate();
    let ignored = numbered.filter(|(_, line)| line.contains("#[ignore"));
    ignored.map(|(index, _)| format!("line {}", index + 1)).collect()
}

pub(crate) fn test_names(text: &str) -> Vec<String> {
    let code = code(text);
    let mut names = Vec::new();
    for (at, _) in code.match_indices("#[test]") {
        if let Some((_, after)) = code[at..].split_once("fn ") {
            names.push(after[..after.find(|c| !is_word(c)).unwrap_or(after.len())].to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_code_is_blanked() {
        let blanked = |text: &str| code(text).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(blanked("a // }\nb /* { /* } */ */ c"), "a b c");
        assert_eq!(blanked(r##"a "}\"{" b r#"}"{"# c b"}" d"##), "a b c d");
        assert_eq!(blanked(r"a '}' b '\'' c b'{' d '\u{7d}' e &'a str"), "a b c d e &'a str");
        assert_eq!(blanked("barb crab r#type bar\"}\""), "barb crab r#type bar");
        assert_eq!(code("\"x\ny\"").lines().count(), 2);
    }

    #[test]
    fn functions_are_measured() {
        let text =
            "trait T {\n fn a(&self) -> [u8; 2];\n fn b() -> [u8; 2] {\n  if x { '{' }\n }\n}";
        assert_eq!(functions(&code(text)), [("b", 3, 5)]);
        let of = |lines: usize| format!("fn long(f: fn (u8)) {{{}}}", "\n".repeat(lines - 1));
        assert_eq!(long_functions(&of(FUNCTION_LINES_MAX)), Vec::<String>::new());
        assert_eq!(long_functions(&of(71)), ["line 1: `long` has 71 lines, not 70"]);
    }

    #[test]
    fn offences_are_found() {
        assert_eq!(too_long_file(&"x\n\n// c\n".repeat(1000)), Vec::<String>::new());
        assert_eq!(too_long_file(&"x\n".repeat(1001)), ["1001 lines of code, not 1000"]);
        assert_eq!(missing_header(&"x\n".repeat(39)), Vec::<String>::new());
        assert_eq!(missing_header(&"x\n".repeat(40)), ["40 lines and no header"]);
        let ignored = "#[test]\n#[ignore = \"slow\"]\nfn slow() {}";
        assert_eq!(ignored_tests(ignored), ["line 2"]);
        assert_eq!(test_names(ignored), ["slow"]);
    }
}
