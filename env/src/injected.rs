//! Faults that a test injects into a real node: a wall clock that is wrong, a disk that is slow or fails.
//!
//! The file that the environment variable `TETHYS_TEST_FAULTS` names says which, as lines of `key=value`
//! with whole numbers; a thread reads it again and again. What it follows is written to `FILE.seen`, so
//! that whoever wrote the file knows that it was read.
//!
//! ```text
//! wall_offset_micros=-1500000     the wall clock is 1.5 s behind
//! disk_delay_millis=40            writes and syncs take so much longer
//! disk_fails=1                    they fail, with the error of a broken device
//! ```
//! Like [`crate::planted`] it exists with `debug_assertions` only: a release build, which the image is,
//! knows neither the variable nor the faults, and asks constants.

/// The environment variable with the file's name.
pub const FILE_VARIABLE: &str = "TETHYS_TEST_FAULTS";

#[cfg(not(debug_assertions))]
mod side {
    use std::io;

    pub(crate) fn start() {}

    #[inline]
    pub(crate) const fn wall_offset_micros() -> i64 {
        0
    }

    #[inline]
    pub(crate) const fn before_write() -> io::Result<()> {
        Ok(())
    }
}

#[cfg(debug_assertions)]
mod side {
    #![expect(clippy::disallowed_methods, reason = "the faults of a test come from outside")]

    use super::FILE_VARIABLE;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
    use std::time::Duration;

    /// How often the file is read.
    const READ_EVERY: Duration = Duration::from_millis(20);

    static WALL_OFFSET_MICROS: AtomicI64 = AtomicI64::new(0);
    static DISK_DELAY_MILLIS: AtomicU64 = AtomicU64::new(0);
    static DISK_FAILS: AtomicBool = AtomicBool::new(false);

    /// Begins to follow the file, if there is one.
    pub(crate) fn start() {
        static STARTED: Once = Once::new();
        let Some(path) = std::env::var_os(FILE_VARIABLE).map(PathBuf::from) else { return };
        STARTED.call_once(|| {
            // What the first read says holds before anything else of the node runs.
            let mut seen = String::new();
            follow(&path, &mut seen);
            std::thread::spawn(move || {
                loop {
                    std::thread::sleep(READ_EVERY);
                    follow(&path, &mut seen);
                }
            });
        });
    }

    fn follow(path: &Path, seen: &mut String) {
        let Ok(text) = std::fs::read_to_string(path) else { return };
        if text == *seen || !text.ends_with('\n') {
            return;
        }
        let value = |key: &str| -> i64 {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let of_key = lines.rfind(|(name, _)| *name == key);
            of_key.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
        };
        WALL_OFFSET_MICROS.store(value("wall_offset_micros"), Ordering::Relaxed);
        DISK_DELAY_MILLIS.store(value("disk_delay_millis").unsigned_abs(), Ordering::Relaxed);
        DISK_FAILS.store(value("disk_fails") != 0, Ordering::Relaxed);
        let mut told = path.as_os_str().to_owned();
        told.push(".seen");
        // Who waits for it waits until it is there.
        if std::fs::write(told, &text).is_ok() {
            *seen = text;
        }
    }

    /// What the wall clock shows more than the machine's.
    #[inline]
    pub(crate) fn wall_offset_micros() -> i64 {
        WALL_OFFSET_MICROS.load(Ordering::Relaxed)
    }

    /// Before every write and sync of the real disk.
    pub(crate) fn before_write() -> io::Result<()> {
        let millis = DISK_DELAY_MILLIS.load(Ordering::Relaxed);
        if millis > 0 {
            std::thread::sleep(Duration::from_millis(millis));
        }
        if DISK_FAILS.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        Ok(())
    }
}

pub(crate) use side::{before_write, start, wall_offset_micros};
