//! Log lines: for people, or one JSON object a line, on standard error.

use crate::config::LogFormat;
use tracing_subscriber::EnvFilter;

/// What is logged when `TETHYS_LOG` names nothing else.
const FILTER_DEFAULT: &str = "info";
/// One of these is in every filter that was meant as one.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Starts logging for the whole process; later calls change nothing.
pub fn start(format: LogFormat) {
    let chosen = std::env::var("TETHYS_LOG").unwrap_or_default();
    let filter = filter(&chosen);
    let is_understood = filter.is_some();
    let filter = filter.unwrap_or_else(|| EnvFilter::new(FILTER_DEFAULT));
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
    if !is_understood && !chosen.is_empty() {
        tracing::warn!(
            "TETHYS_LOG: `{chosen}` is no filter, so it is {FILTER_DEFAULT}; write warn or debug, or \
             warn,node=debug"
        );
    }
}

/// What is logged by that text, if it can be understood. A word that is no level would be taken for
/// the name of a module, and nothing at all be logged.
fn filter(text: &str) -> Option<EnvFilter> {
    let text = text.to_ascii_lowercase();
    let names_level = LEVELS.iter().any(|level| text.contains(level));
    EnvFilter::try_new(text).ok().filter(|_| names_level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_does_not_silence_the_node() {
        for understood in ["debug", "INFO", "warn,node=debug", "off"] {
            assert!(filter(understood).is_some(), "{understood}");
        }
        for wrong in ["", "loud", "node", "node=loud", "warn,node=debug,x=["] {
            assert!(filter(wrong).is_none(), "{wrong}");
        }
    }
}
