//! `tethys health`: whether the node of this configuration serves clients. For the health checks of
//! containers, which run the same program with the same variables and the same file.

use crate::client::{Client, reachable};
use crate::config::Config;
use crate::status::get;
use env::Env;
use std::net::SocketAddr;
use std::time::Duration;

/// How long the node may take; less than the time that health checks give.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(4);
/// What every node can answer by itself.
const QUESTION: &str = "SELECT key FROM system.local";

/// Ends well only when the node answers a CQL statement and says that it is ready, which is that
/// it is a member of a cluster and serves. The error is for the operator.
pub async fn check_health(env: &Env, config: &Config) -> Result<(), String> {
    let address = SocketAddr::new(reachable(config.address), config.port);
    tokio::select! {
        checked = check(env, config, address) => checked,
        () = env.clock.sleep(ANSWER_TIME_MAX) => {
            Err(format!("{address} does not answer within {ANSWER_TIME_MAX:?}"))
        }
    }
}

async fn check(env: &Env, config: &Config, address: SocketAddr) -> Result<(), String> {
    let asked = async { Client::connect(env, address).await?.query(QUESTION).await };
    asked.await.map_err(|error| format!("{address}: {error}"))?;
    let (status, body) = get(env, &address.ip().to_string(), config.http_port, "/readyz").await?;
    match status {
        200 => Ok(()),
        _ => Err(format!("{address}: {}", String::from_utf8_lossy(&body).trim())),
    }
}
