//! Clients from elsewhere, fetched once into `target/peers` by their own package managers.
//!
//! Test programs may run at the same time, so a lock file guards the folder. What is there is kept
//! as long as the pins below have not changed.
//!
//! Shared by path with the crate `jepsen`: whoever has it says where cargo's target folder is.

use super::command::{Finished, run};
use super::target_folder;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PYTHON_PINS: &[&str] = &["cassandra-driver==3.30.1", "cqlsh==6.2.2", "lz4==4.4.5"];
const NPM_PINS: &[&str] = &["cassandra-driver@4.10.0"];
/// Group, artifact and version.
const MAVEN_PINS: &[&str] =
    &["org.apache.cassandra:java-driver-core:4.19.2", "org.slf4j:slf4j-simple:1.7.36"];
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

/// A Java with the Apache driver.
#[derive(Debug)]
pub(crate) struct Java {
    jars: PathBuf,
}

impl Java {
    /// A command that compiles and runs a program of one file.
    #[allow(dead_code, reason = "not everybody needs all of it")]
    pub(crate) fn launcher(&self) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx256M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        command.arg(self.jars.join("*"));
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
#[allow(dead_code, reason = "not everybody needs all of it")]
pub(crate) fn npm() -> Option<&'static PathBuf> {
    static NPM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let prepare = |folder: &Path| {
        done(Command::new("node").arg("--version"))?;
        let install = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
        done(Command::new("npm").args(install).arg(folder).args(NPM_PINS))
    };
    or_skipped("the client for Node", NPM.get_or_init(|| fetched("npm", NPM_PINS, prepare)))
}

/// Java's client; `None` after a visible `skipped: …`.
#[allow(dead_code, reason = "not everybody needs all of it")]
pub(crate) fn java() -> Option<&'static Java> {
    static JAVA: OnceLock<Result<Java, String>> = OnceLock::new();
    let prepare = |folder: &Path| {
        done(Command::new("java").arg("-version"))?;
        fs::write(folder.join("pom.xml"), pom(MAVEN_PINS)).expect("a file that can be written");
        let copy = ["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=."];
        done(Command::new("mvn").args(copy).current_dir(folder))
    };
    let fetched = || Ok(Java { jars: fetched("java", MAVEN_PINS, prepare)? });
    or_skipped("the client for Java", JAVA.get_or_init(fetched))
}

/// What Maven reads.
fn pom(pins: &[&str]) -> String {
    let dependency = |pin: &&str| {
        let mut parts = pin.split(':');
        let mut part = |name| {
            let text = parts.next().expect("three parts");
            format!("<{name}>{text}</{name}>")
        };
        let parts = ["groupId", "artifactId", "version"].map(&mut part).concat();
        format!("<dependency>{parts}</dependency>\n")
    };
    let dependencies: String = pins.iter().map(dependency).collect();
    format!(
        "<project><modelVersion>4.0.0</modelVersion>\n\
         <groupId>tethys</groupId><artifactId>clients</artifactId><version>1</version>\n\
         <packaging>pom</packaging><dependencies>\n{dependencies}</dependencies></project>\n"
    )
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
    let peers = target_folder().join("peers");
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
