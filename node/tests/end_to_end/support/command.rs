//! A program that is run to its end, within a limit of time.

use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a client may take. A test takes seconds; this only ends one that hangs.
const RUN_TIME_MAX: Duration = Duration::from_mins(3);
/// How often it is looked whether the program has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What an ended program left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Standard output; fails with both outputs if the program failed.
    #[allow(dead_code, reason = "not everybody who shares the file needs all of it")]
    pub(crate) fn success(self) -> String {
        assert!(self.status.success(), "{}\n{}\n{}", self.status, self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs `command` with `input` as its standard input. The error says why it did not run, or that it
/// was ended because it took too long.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<Finished, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|error| format!("{name} does not start: {error}"))?;

    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // A program that ends without reading its input is judged by its status.
    let writer = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let stdout = read_in_background(child.stdout.take().expect("piped"));
    let stderr = read_in_background(child.stderr.take().expect("piped"));

    let deadline = Instant::now() + RUN_TIME_MAX;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
            break None;
        }
        thread::sleep(POLL_INTERVAL);
    };
    writer.join().expect("the writer does not panic");
    let stdout = stdout.join().expect("the reader does not panic");
    let stderr = stderr.join().expect("the reader does not panic");
    match status {
        Some(status) => Ok(Finished { status, stdout, stderr }),
        None => Err(format!("{name} took over {RUN_TIME_MAX:?}\n{stdout}\n{stderr}")),
    }
}

fn read_in_background(mut source: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
