//! Clients from elsewhere, fetched once into `target/peers` by their own package managers.
//!
//! Test programs may run at the same time, so a lock file guards the folder. What is there is kept
//! as long as the pins below have not changed.

use super::command::{Finished, run};
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PYTHON_PINS: &[&str] = &["cassandra-driver==3.30.1", "cqlsh==6.2.2", "lz4==4.4.5"];
const NPM_PINS: &[&str] = &["cassandra-driver@4.10.0"];
/// If set to 1, a client that cannot be had is a failure.
const REQUIRE_PEERS: &str = "TETHYS_REQUIRE_PEERS";

/// A Python with the Apache driver and cqlsh.
#[derive(Debug)]
pub(crate) struct Python {
    programs: PathBuf,
}

impl Python {
    /// A command that runs the interpreter.
    pub(crate) fn interpreter(&self) -> Command {
        let mut command = Command::new(self.programs.join("python"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("TZ", "UTC");
        command
    }

    /// A command that runs cqlsh, untouched by the user's own settings.
    pub(crate) fn cqlsh(&self, home: &Path) -> Command {
        let mut command = self.interpreter();
        command.arg(self.programs.join("cqlsh")).env("HOME", home).env("LC_ALL", "C.UTF-8");
        command
    }
}

/// Python's clients; `None` after a visible `skipped: …` where they cannot be had.
pub(crate) fn python() -> Option<&'static Python> {
    static PYTHON: OnceLock<Result<Python, String>> = OnceLock::new();
    let prepare = |folder: &Path| {
        let programs = folder.join("bin");
        done(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        done(Command::new(programs.join("python")).args(pip).args(PYTHON_PINS))
    };
    let fetched = || {
        let folder = fetched("python", PYTHON_PINS, prepare)?;
        Ok(Python { programs: folder.join("bin") })
    };
    or_skipped("the clients for Python", PYTHON.get_or_init(fetched))
}

/// The folder in which Node finds its driver; `None` after a visible `skipped: …`.
pub(crate) fn npm() -> Option<&'static PathBuf> {
    static NPM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let prepare = |folder: &Path| {
        done(Command::new("node").arg("--version"))?;
        let install = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
        done(Command::new("npm").args(install).arg(folder).args(NPM_PINS))
    };
    or_skipped("the client for Node", NPM.get_or_init(|| fetched("npm", NPM_PINS, prepare)))
}

fn or_skipped<T>(what: &str, fetched: &'static Result<T, String>) -> Option<&'static T> {
    let reason = match fetched {
        Ok(peer) => return Some(peer),
        Err(reason) => reason.trim(),
    };
    assert!(env::var(REQUIRE_PEERS).as_deref() != Ok("1"), "{what} cannot be had: {reason}");
    // Written past the test runner, which keeps what passing tests print to itself.
    let line = format!("skipped: {what} cannot be had: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error can be written");
    None
}

/// The folder of a peer, made by `prepare` if it is not there with these pins.
fn fetched(
    name: &str,
    pins: &[&str],
    prepare: impl Fn(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let peers = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers");
    fs::create_dir_all(&peers).expect("the target folder can be written");
    let lock = File::create(peers.join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("a lock on it");
    let folder = peers.join(name);
    let complete = folder.join("complete");
    let pins = pins.join("\n");
    if fs::read_to_string(&complete).is_ok_and(|text| text == pins) {
        return Ok(folder);
    }
    fs::create_dir_all(&folder).expect("the target folder can be written");
    prepare(&folder)?;
    fs::write(&complete, pins).expect("the target folder can be written");
    Ok(folder)
}

/// Runs a command that must succeed.
fn done(command: &mut Command) -> Result<(), String> {
    let Finished { status, stdout, stderr } = run(command, "")?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}\n{stdout}{stderr}")) }
}
