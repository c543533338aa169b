//! `tethys status`: asks a node over HTTP, and prints what it says.

use super::{ClusterStatus, table};
use clap::{Args, ValueEnum};
use env::Env;
use env::net::TcpStream;
use std::io::Write;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long the node may take, which asks others.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// A larger answer is not that of a node.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Arguments of `tethys status`.
#[derive(Debug, Args)]
pub struct StatusFlags {
    /// Keyspace by whose replicas ownership is counted.
    pub keyspace: Option<String>,
    /// Node to ask.
    #[arg(long, default_value = "127.0.0.1", env = "TETHYS_ADDRESS")]
    pub host: String,
    /// Its HTTP port.
    #[arg(long, default_value_t = 9180, env = "TETHYS_HTTP_PORT", value_name = "PORT")]
    pub http_port: u16,
    /// A table as nodetool prints it, or JSON.
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    pub format: StatusFormat,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// A table.
    Text,
    /// One JSON object.
    Json,
}

/// Prints the status of a cluster to standard output. The error is for the operator.
pub async fn show_status(env: &Env, flags: &StatusFlags) -> Result<(), String> {
    let place = format!("{}:{}", flags.host, flags.http_port);
    let body = tokio::select! {
        body = ask(env, flags) => body?,
        () = env.clock.sleep(ANSWER_TIME_MAX) => {
            return Err(format!("{place} does not answer within {ANSWER_TIME_MAX:?}"));
        }
    };
    let status: ClusterStatus = serde_json::from_slice(&body)
        .map_err(|error| format!("{place} does not answer as a node of this version: {error}"))?;
    let text = match flags.format {
        StatusFormat::Text => table::print(&status),
        StatusFormat::Json => {
            let mut text = serde_json::to_string_pretty(&status).map_err(|e| e.to_string())?;
            text.push('\n');
            text
        }
    };
    // A reader that has seen enough, such as `head`, is no fault.
    std::io::stdout().write_all(text.as_bytes()).ok();
    Ok(())
}

/// The body of the node's answer.
async fn ask(env: &Env, flags: &StatusFlags) -> Result<Vec<u8>, String> {
    let StatusFlags { host, http_port, keyspace, .. } = flags;
    let query = keyspace.as_ref().map_or_else(String::new, |name| {
        name.bytes().fold("?keyspace=".to_owned(), |query, byte| query + &format!("%{byte:02x}"))
    });
    match get(env, host, *http_port, &format!("/status{query}")).await? {
        (200, body) => Ok(body),
        (_, body) => Err(format!("{host}:{http_port}: {}", String::from_utf8_lossy(&body).trim())),
    }
}

/// The status and the body of a node's answer to `GET` on its HTTP port. It sets no limit of time.
pub(crate) async fn get(
    env: &Env,
    host: &str,
    http_port: u16,
    path: &str,
) -> Result<(u16, Vec<u8>), String> {
    request(env, (host, http_port), "GET", path).await
}

/// The same for any method, with no body.
pub(crate) async fn request(
    env: &Env,
    (host, http_port): (&str, u16),
    method: &str,
    path: &str,
) -> Result<(u16, Vec<u8>), String> {
    let unreachable = |error: std::io::Error| {
        format!(
            "no node answers on {host}:{http_port}: {error}; --host and --http-port say where it is"
        )
    };
    let mut stream = connect(env, host, http_port).await.map_err(unreachable)?;
    let length = if method == "GET" { "" } else { "Content-Length: 0\r\n" };
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(unreachable)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(unreachable)?;
    let (status, body) = split(&answer)
        .ok_or_else(|| format!("what answers on {host}:{http_port} does not speak HTTP"))?;
    Ok((status, body.to_vec()))
}

async fn connect(env: &Env, host: &str, port: u16) -> std::io::Result<TcpStream> {
    let mut last = std::io::ErrorKind::NotFound.into();
    for address in env.net.resolve(host, port).await? {
        match env.net.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The status and the body of an answer whose body ends with the connection.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD)?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let (version, rest) = head.split_once(' ')?;
    let status = rest.get(..3)?.parse().ok()?;
    let body = answer.get(end + END_OF_HEAD.len()..)?;
    version.starts_with("HTTP/1.").then_some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart_and_garbage_is_not() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nno\n";
        assert_eq!(split(answer), Some((404, b"no\n".as_slice())));
        for garbage in [
            &b""[..],
            b"\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"SSH-2.0 x\r\n\r\n",
            b"HTTP/1.1 2\r\n\r\n",
        ] {
            assert_eq!(split(garbage), None);
        }
    }
}
