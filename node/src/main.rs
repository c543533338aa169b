//! The program `tethys`: reads the configuration, starts a node, and ends when it is told to.

use clap::Parser;
use env::Env;
use env::signals::ShutdownSignals;
use node::{CONFIG_FILE_BYTES_MAX, Config, Flags, Machine, Node, logging};
use std::process::ExitCode;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let env = Env::real();
    let (config, warnings) = match configure(&flags, &env) {
        Ok(configured) => configured,
        Err(error) => return fail(&error),
    };
    logging::start(config.log_format);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    tokio::task::LocalSet::new().block_on(&runtime, run(env, config))
}

fn configure(flags: &Flags, env: &Env) -> Result<(Config, Vec<String>), String> {
    let file = match &flags.config {
        None => None,
        Some(path) => {
            let bytes = env
                .disk
                .read(path, CONFIG_FILE_BYTES_MAX)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let text = String::from_utf8(bytes)
                .map_err(|_| format!("{} is not UTF-8 text", path.display()))?;
            Some(text)
        }
    };
    let machine =
        Machine { core_count: env::tasks::core_count(), memory_bytes: env::tasks::memory_bytes() };
    Config::resolve(flags, file.as_deref(), machine).map_err(|error| error.to_string())
}

async fn run(env: Env, config: Config) -> ExitCode {
    let mut signals = match ShutdownSignals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("cannot hear signals: {error}")),
    };
    let node = match Node::start(env, config).await {
        Ok(node) => node,
        Err(error) => return fail(&error.to_string()),
    };
    tracing::info!("{}", node.greeting());
    let signal = signals.next().await;
    tracing::info!("{signal}: writing out what is in memory");
    tokio::select! {
        () = node.stop() => tracing::info!("stopped"),
        signal = signals.next() => tracing::warn!("{signal} again: stopping at once"),
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "logging may not run yet, and this line must be seen")]
fn fail(reason: &str) -> ExitCode {
    eprintln!("tethys: {reason}");
    ExitCode::FAILURE
}
