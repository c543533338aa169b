//! cqlsh, typed into while nodes die: each statement is answered or refused with a clear error, within
//! its request timeout. It speaks with one node, as cqlsh does, and must answer again when that is
//! back. Beside it, its COPY of files into the table and out of it.

use super::command::run;
use super::peers::Python;
use super::{COPY, PARTITIONS, PAUSE, VALUES_OF_PROCESS, event};
use crate::history::{Event, Kind, Operation};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long a statement may take: cqlsh gives one ten seconds, and the rest is for a busy machine.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// The same for the first, before which it has to start.
const START_TIME_MAX: Duration = Duration::from_mins(2);
/// How long it may take to connect, in seconds: its own five are few on a busy machine.
const CONNECT_SECONDS_MAX: &str = "60";
/// What is typed after each statement, and how its answer begins: it asks nobody.
const MARK: &str = "CONSISTENCY;";
const MARK_ANSWER: &str = "Current consistency level is";
/// How an error begins.
const ERROR: &str = "<stdin>:";
/// Rows a second that are copied into the table, and for how long at most.
const COPIED_PER_SECOND: i64 = 100;
const COPYING_SECONDS_MAX: i64 = 90;

/// The running shell.
pub(super) struct Shell {
    process: Child,
    input: ChildStdin,
    lines: mpsc::UnboundedReceiver<String>,
    process_number: u32,
    events: Vec<Event>,
    /// The longest time that a statement took.
    longest: Duration,
    wrong: Option<String>,
}

/// What came of a shell.
pub(super) struct Typed {
    /// All that it has asked and heard.
    pub(super) events: Vec<Event>,
    /// The longest time that a statement took.
    pub(super) longest: Duration,
    /// A row that it wrote and did not find.
    pub(super) wrong: Option<String>,
}

impl Shell {
    /// Starts it, with a node and a folder that serves as home.
    pub(super) async fn start(
        python: &Python,
        home: &Path,
        address: SocketAddr,
        process_number: u32,
    ) -> io::Result<Shell> {
        let (output, of_shell) = io::pipe()?;
        let mut command = python.cqlsh(home);
        connecting(&mut command, address).env("PYTHONUNBUFFERED", "1").stdin(Stdio::piped());
        command.stdout(of_shell.try_clone()?).stderr(of_shell);
        let mut process = command.spawn()?;
        // With it goes this side's copy of the pipe's other end.
        drop(command);
        let input = process.stdin.take().ok_or_else(|| io::Error::other("no input"))?;
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let (events, longest, wrong) = (Vec::new(), Duration::ZERO, None);
        let mut shell = Shell { process, input, lines, process_number, events, longest, wrong };
        shell.ask_within("CONSISTENCY QUORUM;", START_TIME_MAX).await?;
        shell.longest = Duration::ZERO;
        Ok(shell)
    }

    /// Inserts rows and reads them again until it is to rest.
    pub(super) async fn work(&mut self, rests: &Cell<bool>) -> io::Result<()> {
        let first = i64::from(self.process_number) * VALUES_OF_PROCESS;
        for value in first.. {
            if rests.get() {
                break;
            }
            if self.add(value).await? {
                self.find(value).await?;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Whether the row is there for sure.
    async fn add(&mut self, value: i64) -> io::Result<bool> {
        let operation = Operation::Add { value };
        self.note(Kind::Invoke, operation.clone(), None);
        let key = value % PARTITIONS;
        let insert = format!("INSERT INTO jepsen.elements (k, v) VALUES ({key}, {value});");
        let said = self.ask(&insert).await?;
        let error = error_in(&said);
        let kind = if error.is_some() { Kind::Info } else { Kind::Ok };
        let is_there = error.is_none();
        self.note(kind, operation, error);
        Ok(is_there)
    }

    async fn find(&mut self, value: i64) -> io::Result<()> {
        let key = value % PARTITIONS;
        let select = format!("SELECT v FROM jepsen.elements WHERE k = {key} AND v = {value};");
        let said = self.ask(&select).await?;
        let is_found = said.iter().any(|line| line.trim() == value.to_string());
        if error_in(&said).is_none() && !is_found {
            self.wrong.get_or_insert(format!("cqlsh wrote {value} and reads {said:?}"));
        }
        Ok(())
    }

    /// Whether its node answers it.
    pub(super) async fn answers(&mut self) -> io::Result<bool> {
        let said = self.ask("SELECT v FROM jepsen.registers WHERE k = 0;").await?;
        Ok(error_in(&said).is_none())
    }

    /// Types a statement, and returns what is printed for it.
    async fn ask(&mut self, statement: &str) -> io::Result<Vec<String>> {
        self.ask_within(statement, ANSWER_TIME_MAX).await
    }

    async fn ask_within(&mut self, statement: &str, time: Duration) -> io::Result<Vec<String>> {
        let began = Instant::now();
        self.input.write_all(format!("{statement}\n{MARK}\n").as_bytes())?;
        let mut said = Vec::new();
        loop {
            let left = time.saturating_sub(began.elapsed());
            match tokio::time::timeout(left, self.lines.recv()).await {
                Ok(Some(line)) if line.starts_with(MARK_ANSWER) => break,
                Ok(Some(line)) => said.push(line),
                Ok(None) => {
                    let text = format!("cqlsh has ended after `{statement}`: {said:?}");
                    return Err(io::Error::other(text));
                }
                Err(_) => {
                    let text = format!("cqlsh hangs at `{statement}`, and said {said:?}");
                    return Err(io::Error::other(text));
                }
            }
        }
        self.longest = self.longest.max(began.elapsed());
        Ok(said)
    }

    fn note(&mut self, kind: Kind, operation: Operation, error: Option<String>) {
        self.events.push(event(self.process_number, kind, operation, error));
    }

    /// Ends it.
    pub(super) fn end(mut self) -> Typed {
        let events = std::mem::take(&mut self.events);
        Typed { events, longest: self.longest, wrong: self.wrong.take() }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn connecting(command: &mut Command, address: SocketAddr) -> &mut Command {
    command.args(["--connect-timeout", CONNECT_SECONDS_MAX]);
    command.args([address.ip().to_string(), address.port().to_string()])
}

fn error_in(said: &[String]) -> Option<String> {
    said.iter().find(|line| line.starts_with(ERROR)).cloned()
}

/// Copies rows from a file into the table, for about so long, and returns what is known of each: all
/// are there when COPY says so, and else any may be. Returns when COPY does.
pub(super) fn copy_in(
    python: &Python,
    home: &Path,
    address: SocketAddr,
    time: Duration,
) -> io::Result<Vec<Event>> {
    let first = i64::from(COPY) * VALUES_OF_PROCESS;
    let seconds = i64::try_from(time.as_secs()).unwrap_or(COPYING_SECONDS_MAX);
    let row_count = seconds.min(COPYING_SECONDS_MAX) * COPIED_PER_SECOND;
    let values = first..first + row_count;
    let lines: Vec<String> = values.clone().map(|v| format!("{},{v}", v % PARTITIONS)).collect();
    let file = home.join("in.csv");
    fs::write(&file, lines.join("\n") + "\n")?;
    let note = |value: i64, kind, error| {
        let process = COPY + u32::try_from(value - first).unwrap_or_default();
        event(process, kind, Operation::Add { value }, error)
    };
    let mut events: Vec<Event> = values.clone().map(|v| note(v, Kind::Invoke, None)).collect();
    let options =
        format!("INGESTRATE = {COPIED_PER_SECOND} AND CHUNKSIZE = 20 AND MAXATTEMPTS = 100");
    let words = format!("FROM '{}' WITH {options} AND", file.display());
    let said = copy(python, home, address, &words)?;
    let is_done = said.contains(&format!("\n{row_count} rows imported from 1 files"));
    let (kind, error) = if is_done {
        (Kind::Ok, None)
    } else {
        (Kind::Info, Some(why_not_whole(&said).to_owned()))
    };
    events.extend(values.map(|v| note(v, kind, error.clone())));
    Ok(events)
}

/// What a COPY FROM says of why it has not brought all rows.
fn why_not_whole(said: &str) -> &str {
    let signs = [ERROR, "No records inserted", "died unexpectedly", "given up"];
    let line = |sign: &str| said.lines().find(|line| line.contains(sign));
    signs.into_iter().find_map(line).unwrap_or("not whole")
}

/// Copies the table into a file, and returns its rows.
pub(super) fn copy_out(
    python: &Python,
    home: &Path,
    address: SocketAddr,
) -> io::Result<BTreeSet<i64>> {
    let file = home.join("out.csv");
    let said = copy(python, home, address, &format!("TO '{}' WITH", file.display()))?;
    let text = fs::read_to_string(&file)?;
    let value = |line: &str| line.split_once(',').and_then(|(_, value)| value.trim().parse().ok());
    let values: Option<BTreeSet<i64>> = text.lines().map(value).collect();
    let values = values.ok_or_else(|| io::Error::other("COPY TO wrote a line without a row"))?;
    if !said.contains(&format!("\n{} rows exported to 1 files", text.lines().count())) {
        return Err(io::Error::other(format!("COPY TO is not whole: {said}")));
    }
    Ok(values)
}

fn copy(python: &Python, home: &Path, address: SocketAddr, words: &str) -> io::Result<String> {
    let mut command = python.cqlsh(home);
    connecting(&mut command, address).current_dir(home);
    let input =
        format!("CONSISTENCY QUORUM;\nCOPY jepsen.elements (k, v) {words} NUMPROCESSES = 1;\n");
    let finished = run(&mut command, &input).map_err(io::Error::other)?;
    Ok(format!("\n{}\n{}", finished.stdout, finished.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_why_a_copy_is_not_whole() {
        let retried =
            "Failed to import 20 rows: NoHostAvailable - …,  will retry later, attempt 3 of 5";
        let given_up = "Failed to import 20 rows: NoHostAvailable - …,  given up after 5 attempts";
        let said = [retried, given_up, "Processed: 40 rows"].join("\n");
        assert_eq!(why_not_whole(&said), given_up);
        assert_eq!(why_not_whole(retried), "not whole");
    }
}
