//! Python with the client for Kafka that the examples name, fetched once into `target/peers`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const PINS: &[&str] = &["kafka-python==3.0.12"];
/// If set to 1, a Python that cannot be had is a failure.
const REQUIRE_PEERS: &str = "TETHYS_REQUIRE_PEERS";

/// An interpreter.
pub(crate) struct Python(PathBuf);

/// An example that runs.
pub(crate) struct Example {
    process: Child,
    output: BufReader<ChildStdout>,
    port: Option<u16>,
}

impl Python {
    /// None after a visible `skipped: …`.
    pub(crate) fn fetched() -> Option<Python> {
        match fetch() {
            Ok(python) => Some(Python(python)),
            Err(reason) => {
                let what = "the examples' Python cannot be had";
                assert!(std::env::var(REQUIRE_PEERS).as_deref() != Ok("1"), "{what}: {reason}");
                // Written past the test runner, which keeps what passing tests print to itself.
                let line = format!("skipped: {what}: {reason}\n");
                std::io::stderr().write_all(line.as_bytes()).expect("standard error is open");
                None
            }
        }
    }

    /// Starts a program of docs/examples.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Example {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
        let mut command = Command::new(&self.0);
        command.arg(examples.join(program)).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("Python runs");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let mut example = Example { process, output, port: None };
        if program == "webhook_receiver.py" {
            let mut line = String::new();
            example.output.read_line(&mut line).expect("a line");
            let port = line.trim().strip_prefix("listening on port ").expect("its port");
            example.port = Some(port.parse().expect("a port"));
        }
        example
    }
}

impl Example {
    /// Where a receiver listens.
    pub(crate) fn port(&self) -> u16 {
        self.port.expect("it is a receiver")
    }

    /// What it prints when it has had its events, without blanks.
    pub(crate) fn result(&mut self) -> String {
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("UTF-8");
        let status = self.process.wait().expect("our own child");
        assert!(status.success(), "{status}: {text}");
        text.chars().filter(|c| !c.is_whitespace()).collect()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn fetch() -> Result<PathBuf, String> {
    let peers = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers");
    fs::create_dir_all(&peers).expect("the target folder can be written");
    let lock = File::create(peers.join("examples.lock")).expect("a lock file");
    lock.lock().expect("a lock on it");
    let folder = peers.join("examples");
    let (python, complete) = (folder.join("bin/python"), folder.join("complete"));
    let pins = PINS.join("\n");
    if fs::read_to_string(&complete).is_ok_and(|text| text == pins) {
        return Ok(python);
    }
    done(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    done(Command::new(&python).args(pip).args(PINS))?;
    fs::write(&complete, pins).expect("the target folder can be written");
    Ok(python)
}

fn done(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{}: {said}", output.status)) }
}
