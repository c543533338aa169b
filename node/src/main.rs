//! The program `tethys`: reads the configuration, starts a node, and ends when it is told to; or
//! does what its verb says.

use env::Env;
use env::signals::ShutdownSignals;
use node::{
    CONFIG_FILE_BYTES_MAX, Config, Flags, Machine, Node, Sources, Verb, check_health, decommission,
    is_variable_for_node, logging, remove, show_status, withdraw,
};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long an orderly end may take: whoever runs containers kills them after ten seconds.
const STOP_TIME_MAX: Duration = Duration::from_secs(9);

/// How long a node that has left its cluster goes on to say so to whoever asks.
const FAREWELL: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let flags = Flags::of_process();
    let env = Env::real();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    if let Some(Verb::Status(status)) = &flags.verb {
        return end(runtime.block_on(show_status(&env, status)));
    }
    if let Some(Verb::Decommission(flags)) = &flags.verb {
        return end(runtime.block_on(decommission(&env, flags)));
    }
    if let Some(Verb::Remove(flags)) = &flags.verb {
        return end(runtime.block_on(remove(&env, flags)));
    }
    if let Some(Verb::Withdraw(flags)) = &flags.verb {
        return end(runtime.block_on(withdraw(&env, flags)));
    }
    let (config, warnings) = match configure(&flags, &env, &runtime) {
        Ok(configured) => configured,
        Err(error) => return fail(&error),
    };
    if let Some(Verb::Health) = flags.verb {
        return end(runtime.block_on(check_health(&env, &config)));
    }
    logging::start(config.log_format);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    tokio::task::LocalSet::new().block_on(&runtime, run(env, config))
}

fn configure(flags: &Flags, env: &Env, runtime: &Runtime) -> Result<(Config, Vec<String>), String> {
    let file = match &flags.config {
        None => None,
        Some(path) => {
            let bytes = env
                .disk
                .read(path, CONFIG_FILE_BYTES_MAX)
                .map_err(|error| format!("the configuration file {}: {error}", path.display()))?;
            let text = String::from_utf8(bytes).map_err(|_| {
                format!("the configuration file {} is not UTF-8 text", path.display())
            })?;
            Some(text)
        }
    };
    let machine =
        Machine { core_count: env::tasks::core_count(), memory_bytes: env::tasks::memory_bytes() };
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| is_variable_for_node(name))
        .collect();
    let look_up = |name: &str| {
        let addresses = runtime.block_on(env.net.resolve(name, 0));
        let addresses = addresses.map_err(|error| error.to_string())?;
        Ok(addresses.iter().map(SocketAddr::ip).collect())
    };
    let sources = Sources {
        flags,
        variables: &variables,
        file: file.as_deref(),
        machine,
        host_name: &env::net::host_name(),
        look_up: &look_up,
    };
    Config::resolve(&sources).map_err(|error| error.to_string())
}

async fn run(env: Env, config: Config) -> ExitCode {
    let mut signals = match ShutdownSignals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("cannot hear signals: {error}")),
    };
    let clock = env.clock.clone();
    // A node that waits for its seeds can be told to end.
    let started = tokio::select! {
        started = Node::start(env, config) => started,
        signal = signals.next() => {
            tracing::info!("{signal}: stopped before it was ready");
            return ExitCode::SUCCESS;
        }
    };
    let node = match started {
        Ok(node) => node,
        Err(error) => return fail(&error.to_string()),
    };
    tracing::info!("{}", node.greeting());
    tokio::select! {
        signal = signals.next() => tracing::info!("{signal}: writing out what is in memory"),
        // Nothing more is written, and nothing handed over: it is not to take part in anything.
        error = node.must_end() => return fail(&error.to_string()),
        () = node.gone() => {
            clock.sleep(FAREWELL).await;
            tracing::info!("this node has left its cluster, or was removed from it, and ends");
        }
    }
    tokio::select! {
        () = node.stop() => tracing::info!("stopped"),
        () = clock.sleep(STOP_TIME_MAX) => tracing::warn!(
            "not all of it was written within {STOP_TIME_MAX:?}; the next start reads it from the log"
        ),
        signal = signals.next() => tracing::warn!("{signal} again: stopping at once"),
    }
    ExitCode::SUCCESS
}

fn end(outcome: Result<(), String>) -> ExitCode {
    outcome.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "logging may not run yet, and this line must be seen")]
fn fail(reason: &str) -> ExitCode {
    eprintln!("tethys: {reason}");
    ExitCode::FAILURE
}
