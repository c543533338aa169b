//! Log lines: for people, or one JSON object a line, on standard error.

use crate::config::LogFormat;
use tracing_subscriber::EnvFilter;

/// What is logged when `TETHYS_LOG` names nothing else.
const FILTER_DEFAULT: &str = "info";

/// Starts logging for the whole process; later calls change nothing.
pub fn start(format: LogFormat) {
    let filter =
        EnvFilter::try_from_env("TETHYS_LOG").unwrap_or_else(|_| EnvFilter::new(FILTER_DEFAULT));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // The only failure is that logging runs already, as in a process with several test nodes.
    drop(started);
}
