//! What the tests share: a node to talk with, and clients to talk with it.

mod command;
mod http;
mod node;
mod peers;
mod random;
mod raw;

pub(crate) use command::{Finished, run};
pub(crate) use http::{get, metric, post};
pub(crate) use node::Node;
pub(crate) use peers::{npm, python};
pub(crate) use random::Random;
pub(crate) use raw::{Raw, Reply, Row, frame};

/// Cargo's target folder, where clients from elsewhere are kept.
fn target_folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("")
}

/// Runs a test that is written with async clients to its end.
pub(crate) fn on_runtime<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test)
}
