//! Scripts of CQL that are run once in a cluster's life: `/docker-entrypoint-initdb.d` in containers.
//!
//! Of nodes that are started together one founds the cluster, and that one runs them: when as many
//! nodes are up as it was told of, since nobody can join a cluster that has a keyspace; after
//! [`NODES_TIME_MAX`] without those that are missing. They are run in the order of their names, over
//! CQL, one statement after the other.
//!
//! Only in a cluster whose schema was never changed: a cluster that is in use already gets none. What
//! was run is written down script by script, so a node that ends in between goes on with the script
//! that it was at, from its beginning: scripts should say `IF NOT EXISTS`. A statement that fails
//! ends the run, with a line in the log; the next start tries again from that script on.

use crate::client::{Client, reachable};
use crate::node::Shared;
use crate::shard::Message;
use cql::syntax::{SCRIPT_BYTES_MAX, split_script};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long nodes that were told of are waited for.
const NODES_TIME_MAX: Duration = Duration::from_mins(5);
/// How often it is looked who is up.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How often the log says what is waited for.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// How long a single statement may take, and how long one is tried that is refused for now: the
/// replicas of a new table may still choose who leads.
const STATEMENT_TIME_MAX: Duration = Duration::from_mins(1);
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Scripts of a folder.
const SCRIPTS_MAX: usize = 1_000;

/// What was run, in the data directory.
const PROGRESS_FILE: &str = "init-scripts.json";
const PROGRESS_BYTES_MAX: u64 = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    /// Names of files.
    done: BTreeSet<String>,
    /// All of them are.
    is_finished: bool,
}

/// Runs the scripts of the configured folder, if this node is the one to do so and they were not
/// run before. Its outcome is in the log.
pub(crate) async fn run(shared: Arc<Shared>) {
    let Some(folder) = shared.config.init_scripts.clone() else { return };
    let progress = match begun(&shared) {
        Ok(Some(progress)) => progress,
        Ok(None) => return,
        Err(error) => return tracing::error!("init scripts are not run: {error}"),
    };
    if let Err(error) = run_all(&shared, &folder, progress).await {
        tracing::error!(
            "{error}; mend it and start the node again, which goes on with this script"
        );
    }
}

/// What was run before; nothing if nothing is to be run by this node.
fn begun(shared: &Shared) -> Result<Option<Progress>, String> {
    let metadata = &shared.views().newest().metadata;
    let is_founder = metadata.cluster_id == shared.host_id.0;
    let (disk, file) = (&shared.env.disk, progress_file(shared));
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    if !disk.exists(&file).map_err(failed)? {
        let is_new = metadata.schema.version == 0;
        return Ok((is_founder && is_new).then(Progress::default));
    }
    let bytes = disk.read(&file, PROGRESS_BYTES_MAX).map_err(failed)?;
    let progress: Progress = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{} is damaged: {error}", file.display()))?;
    Ok((!progress.is_finished).then_some(progress))
}

fn progress_file(shared: &Shared) -> PathBuf {
    shared.data.path.join(PROGRESS_FILE)
}

fn save(shared: &Shared, progress: &Progress) -> Result<(), String> {
    let (file, bytes) = (progress_file(shared), serde_json::to_vec(progress));
    let bytes = bytes.expect("names and a flag are JSON");
    let saved = shared.env.disk.write_atomic(&file, &bytes);
    saved.map_err(|error| format!("{}: {error}", file.display()))
}

async fn run_all(shared: &Shared, folder: &Path, mut progress: Progress) -> Result<(), String> {
    let scripts = scripts(shared, folder)?;
    if scripts.is_empty() {
        return Ok(());
    }
    wait_for_nodes(shared).await;
    save(shared, &progress)?;
    for name in scripts {
        if !progress.done.contains(&name) {
            let count = run_script(shared, &folder.join(&name)).await?;
            let plural = if count == 1 { "" } else { "s" };
            tracing::info!("init script {name}: {count} statement{plural} done");
            progress.done.insert(name);
            save(shared, &progress)?;
        }
    }
    progress.is_finished = true;
    save(shared, &progress)
}

/// The names of the folder's scripts, in their order; a folder that is not there has none.
fn scripts(shared: &Shared, folder: &Path) -> Result<Vec<String>, String> {
    let failed = |error: std::io::Error| format!("init scripts in {}: {error}", folder.display());
    if !shared.env.disk.exists(folder).map_err(failed)? {
        return Ok(Vec::new());
    }
    let mut names = shared.env.disk.list(folder).map_err(failed)?;
    names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "cql"));
    names.sort_unstable();
    if names.len() > SCRIPTS_MAX {
        let count = names.len();
        return Err(format!("{}: {count} scripts are above {SCRIPTS_MAX}", folder.display()));
    }
    Ok(names)
}

/// Waits until as many nodes are up as this one was told of, or for long enough.
async fn wait_for_nodes(shared: &Shared) {
    let expected = usize::from(shared.config.init_scripts_nodes());
    let clock = &shared.env.clock;
    let began_nanos = clock.monotonic_nanos();
    let mut reported = Duration::ZERO;
    loop {
        let count = up_count(shared).await;
        let waited = Duration::from_nanos(clock.monotonic_nanos().saturating_sub(began_nanos));
        if count >= expected {
            return;
        }
        if waited >= NODES_TIME_MAX {
            return tracing::warn!(
                "init scripts are run while {count} nodes are up, not {expected}: the others were \
                 waited for long enough, and may join later"
            );
        }
        if waited >= reported + REPORT_INTERVAL {
            reported = waited;
            tracing::info!("init scripts wait for nodes: {count} of {expected} are up");
        }
        clock.sleep(LOOK_INTERVAL).await;
    }
}

/// How many nodes of the cluster answer, this one included.
async fn up_count(shared: &Shared) -> usize {
    let (reply, answer) = oneshot::channel();
    if shared.shards[0].try_send(Message::ClusterStatus(None, reply)).is_err() {
        return 0;
    }
    match answer.await {
        Ok(Ok(status)) => status.nodes.iter().filter(|node| node.is_up).count(),
        _ => 0,
    }
}

/// Runs one script; returns how many statements it has.
async fn run_script(shared: &Shared, path: &Path) -> Result<usize, String> {
    let failed = |reason: String| format!("init script {}: {reason}", path.display());
    let bytes = shared.env.disk.read(path, SCRIPT_BYTES_MAX as u64);
    let bytes = bytes.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8 text".to_owned()))?;
    let statements = split_script(&text).map_err(|error| failed(error.to_string()))?;
    let address = shared.address();
    let address = SocketAddr::new(reachable(address.ip()), address.port());
    let client = Client::connect(&shared.env, address).await;
    let mut client = client.map_err(|error| failed(error.to_string()))?;
    for statement in &statements {
        let done = tokio::select! {
            done = run_statement(shared, &mut client, statement.text) => done,
            () = shared.env.clock.sleep(STATEMENT_TIME_MAX) => {
                Err(format!("no answer within {STATEMENT_TIME_MAX:?}"))
            }
        };
        let line = statement.line;
        done.map_err(|reason| failed(format!("the statement at line {line}: {reason}")))?;
    }
    Ok(statements.len())
}

async fn run_statement(shared: &Shared, client: &mut Client, text: &str) -> Result<(), String> {
    loop {
        match client.query(text).await {
            Err(error) if error.is_passing => shared.env.clock.sleep(RETRY_PAUSE).await,
            done => return done.map_err(|error| error.to_string()),
        }
    }
}
