//! `tethys decommission`, `tethys remove` and `tethys withdraw`: ask a node over HTTP until the ring has
//! changed, or is as it was, and print how far it is.
//!
//! What they began goes on without them: whoever interrupts one may run it again, or look with `tethys
//! status`.

use super::http::{DECOMMISSIONED, NOTHING_UNDER_WAY, REMOVED};
use crate::status::request;
use clap::Args;
use env::Env;
use std::io::Write;
use std::time::Duration;

/// How long a node may take for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// How often it is asked how far it is.
const INTERVAL: Duration = Duration::from_millis(500);
/// How often in a row it may be too busy, or have no leader to ask, before that is an error.
const ATTEMPTS_MAX: u32 = 20;

const DONE: u16 = 200;
const UNDER_WAY: u16 = 202;
const UNAVAILABLE: u16 = 503;

/// Where the node is that is asked.
#[derive(Debug, Args)]
struct Place {
    /// Node to ask.
    #[arg(long, default_value = "127.0.0.1", env = "TETHYS_ADDRESS")]
    host: String,
    /// Its HTTP port.
    #[arg(long, default_value_t = 9180, env = "TETHYS_HTTP_PORT", value_name = "PORT")]
    http_port: u16,
}

/// Arguments of `tethys decommission`.
#[derive(Debug, Args)]
pub struct DecommissionFlags {
    #[command(flatten)]
    place: Place,
}

/// Arguments of `tethys remove`.
#[derive(Debug, Args)]
pub struct RemoveFlags {
    /// The dead node, as `tethys status` shows it.
    #[arg(value_name = "HOST_ID")]
    host_id: String,
    #[command(flatten)]
    place: Place,
}

/// Arguments of `tethys withdraw`.
#[derive(Debug, Args)]
pub struct WithdrawFlags {
    /// The node that joins, leaves or is being removed, as `tethys status` shows it.
    #[arg(value_name = "HOST_ID")]
    host_id: String,
    #[command(flatten)]
    place: Place,
}

/// Has a node leave its cluster, and waits until it has. The error is for the operator.
pub async fn decommission(env: &Env, flags: &DecommissionFlags) -> Result<(), String> {
    see_through(env, &flags.place, "/decommission", DECOMMISSIONED).await
}

/// Removes a dead node from the cluster, and waits until that is done. The error is for the operator.
pub async fn remove(env: &Env, flags: &RemoveFlags) -> Result<(), String> {
    let path = format!("/remove?host_id={}", checked(&flags.host_id)?);
    see_through(env, &flags.place, &path, REMOVED).await
}

/// Takes back the change by which a node comes or goes, and waits until the ring is as it was. The
/// error is for the operator.
pub async fn withdraw(env: &Env, flags: &WithdrawFlags) -> Result<(), String> {
    let path = format!("/withdraw?host_id={}", checked(&flags.host_id)?);
    see_through(env, &flags.place, &path, NOTHING_UNDER_WAY).await
}

/// A host id that may stand in a path; whether it is one, the node says.
fn checked(host_id: &str) -> Result<&str, String> {
    let is_id = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    if host_id.bytes().all(is_id) {
        return Ok(host_id);
    }
    Err(format!("{host_id} is no host id: `tethys status` shows them"))
}

/// Asks until the node says that it is done.
async fn see_through(env: &Env, place: &Place, path: &str, done: &str) -> Result<(), String> {
    let (mut shown, mut failed_count) = (String::new(), 0);
    let mut is_begun = false;
    loop {
        let answer = tokio::select! {
            answer = request(env, (&place.host, place.http_port), "POST", path) => answer,
            () = env.clock.sleep(ANSWER_TIME_MAX) => {
                Err(format!("no answer within {ANSWER_TIME_MAX:?}"))
            }
        };
        let answer =
            answer.map(|(status, body)| (status, String::from_utf8_lossy(&body).trim().to_owned()));
        let failure = match answer {
            Ok((DONE, text)) if text.starts_with(done) => {
                print(&text);
                return Ok(());
            }
            Ok((UNDER_WAY, text)) => {
                (is_begun, failed_count) = (true, 0);
                if text != shown {
                    print(&text);
                    shown = text;
                }
                env.clock.sleep(INTERVAL).await;
                continue;
            }
            Ok((UNAVAILABLE, reason)) => reason,
            Ok((_, reason)) => return Err(reason),
            Err(reason) if is_begun => reason,
            Err(reason) => return Err(reason),
        };
        failed_count += 1;
        if failed_count >= ATTEMPTS_MAX {
            let rest =
                if is_begun { "; ask another node with `tethys status` how far it is" } else { "" };
            return Err(format!("{failure}{rest}"));
        }
        env.clock.sleep(INTERVAL).await;
    }
}

fn print(line: &str) {
    // A reader that has seen enough is no fault.
    writeln!(std::io::stdout(), "{line}").ok();
}
