//! Runs golden scripts: files of commands and of the output that they had when last reviewed.
//!
//! A script is a list of blocks: one or more commands, a line `---`, then what they print, up to an
//! empty line. A command is words split at spaces; `name=value` words are named arguments. Lines
//! that begin with `#` say what the script is about. With `UPDATE_GOLDEN=1` in the environment the
//! outputs are rewritten, to be reviewed as a change.

use model::golden;
use std::fmt::Write as _;

/// What a script drives. Each file starts with a new one.
pub(crate) trait Interpreter {
    /// Runs one command; what it prints, or why it makes no sense.
    fn run(&mut self, command: &Command) -> Result<String, String>;
}

/// One line of a script.
pub(crate) struct Command<'a> {
    /// The first word.
    pub(crate) name: &'a str,
    /// Words without `=`.
    pub(crate) words: Vec<&'a str>,
    /// Words with one.
    named: Vec<(&'a str, &'a str)>,
}

impl<'a> Command<'a> {
    fn parse(line: &'a str) -> Command<'a> {
        let mut command = Command { name: "", words: Vec::new(), named: Vec::new() };
        for (position, word) in line.split_whitespace().enumerate() {
            match word.split_once('=') {
                _ if position == 0 => command.name = word,
                Some(pair) => command.named.push(pair),
                None => command.words.push(word),
            }
        }
        command
    }

    /// The value of a named argument.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.named.iter().find(|(key, _)| *key == name).map(|&(_, value)| value)
    }

    /// A word, parsed.
    pub(crate) fn word<T: std::str::FromStr>(&self, position: usize) -> Result<T, String> {
        let word = self.words.get(position);
        let word = word.ok_or_else(|| format!("{} misses a word", self.name))?;
        word.parse().map_err(|_| format!("{word} cannot be read"))
    }

    /// Every named argument, in order.
    pub(crate) fn named(&self) -> &[(&'a str, &'a str)] {
        &self.named
    }
}

/// Runs every script in `testscripts/FOLDER`, each with an interpreter of its own.
pub(crate) fn run_folder<I: Interpreter>(folder: &str, new: impl Fn() -> I) {
    golden::check_scripts(&format!("testscripts/{folder}"), |script| replay(script, &mut new()));
}

/// The script with the outputs that it has now.
fn replay(script: &str, interpreter: &mut dyn Interpreter) -> String {
    let mut result = String::new();
    let mut output = String::new();
    let mut in_output = false;
    for line in script.lines() {
        if in_output {
            // The old output ends with the block.
            in_output = !line.is_empty();
            if !in_output {
                result.push('\n');
            }
            continue;
        }
        if line == "---" {
            let printed = if output.is_empty() { "ok" } else { output.trim_end() };
            writeln!(result, "---\n{printed}").unwrap();
            output.clear();
            in_output = true;
            continue;
        }
        writeln!(result, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match interpreter.run(&Command::parse(line)) {
            Ok(printed) if printed.is_empty() => {}
            Ok(printed) => writeln!(output, "{}", printed.trim_end()).unwrap(),
            Err(error) => writeln!(output, "ERROR {error}").unwrap(),
        }
    }
    assert!(output.is_empty(), "a block misses its ---");
    result
}
