//! A client in another language: a process that prints a line of JSON for each event and each view of
//! the cluster. It works from its start until it is told to rest, and ends with its standard input.

use super::View;
use crate::history::Event;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// The running client.
#[derive(Debug)]
pub(super) struct Program {
    process: Child,
    input: Option<ChildStdin>,
    told: Arc<Mutex<Told>>,
    reader: Option<JoinHandle<()>>,
    log: PathBuf,
}

/// What it has printed.
#[derive(Debug, Default)]
struct Told {
    events: Vec<Event>,
    /// The last.
    view: Option<View>,
    /// The first line that is neither event nor view.
    strange: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    View(View),
    Event(Event),
}

impl Program {
    /// Starts it: `COMMAND PORT PROCESS ADDRESS...`. What it says of itself goes to `log`.
    pub(super) fn start(
        mut command: Command,
        port: u16,
        first_process: u32,
        addresses: &[IpAddr],
        log: &Path,
    ) -> io::Result<Program> {
        command.arg(port.to_string()).arg(first_process.to_string());
        command.args(addresses.iter().map(ToString::to_string));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?);
        let mut process = command.spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let told: Arc<Mutex<Told>> = Arc::default();
        let of_thread = Arc::clone(&told);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                of_thread.lock().expect("nobody panics with it").take(line);
            }
        });
        Ok(Program { process, input, told, reader: Some(reader), log: log.to_path_buf() })
    }

    /// Its last view, if it has told one. An error when it has ended, or has said what nobody
    /// understands.
    pub(super) fn view(&mut self) -> io::Result<Option<View>> {
        let complaint =
            |what: String| io::Error::other(format!("a client {what}; see {}", self.log.display()));
        if let Some(status) = self.process.try_wait()? {
            return Err(complaint(format!("has ended with {status}")));
        }
        let told = self.told.lock().expect("nobody panics with it");
        match &told.strange {
            Some(line) => Err(complaint(format!("says {line}"))),
            None => Ok(told.view.clone()),
        }
    }

    /// Tells it to ask nothing more of its own.
    pub(super) fn rest(&mut self) {
        if let Some(input) = &mut self.input {
            // That it has ended is said when its view is looked at.
            drop(input.write_all(b"rest\n"));
        }
    }

    /// Ends it, and returns all events that it told.
    pub(super) fn end(mut self) -> io::Result<Vec<Event>> {
        drop(self.input.take());
        self.process.wait()?;
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| io::Error::other("the reader of a client panicked"))?;
        }
        let mut told = self.told.lock().expect("nobody panics with it");
        Ok(std::mem::take(&mut told.events))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Told {
    fn take(&mut self, line: String) {
        match serde_json::from_str(&line) {
            Ok(Line::View(view)) => self.view = Some(view),
            Ok(Line::Event(event)) => self.events.push(event),
            Err(_) => _ = self.strange.get_or_insert(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Kind, Operation};

    #[test]
    fn lines_are_events_or_views() {
        let mut told = Told::default();
        for line in [
            r#"{"nanos":1,"process":100,"type":"invoke","f":"add","value":7}"#,
            r#"{"nanos":2,"process":100,"type":"info","f":"add","value":7,"error":"timed out"}"#,
            r#"{"nanos":3,"known":["127.0.0.1","127.0.0.2"],"answered":["127.0.0.1"]}"#,
        ] {
            told.take(line.to_owned());
        }
        assert_eq!(told.strange, None);
        assert_eq!(told.events.len(), 2);
        assert_eq!(told.events[1].kind, Kind::Info);
        assert_eq!(told.events[1].operation, Operation::Add { value: 7 });
        let view = told.view.take().expect("a view");
        let known = view.known.clone();
        assert!(!view.is_of(&known), "one does not answer");
        assert!(View { answered: known.clone(), ..view }.is_of(&known));
        told.take("{}".to_owned());
        assert_eq!(told.strange.as_deref(), Some("{}"));
    }
}
