//! The node's HTTP port, spoken to by hand.

use super::node::Node;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Posts without a body and returns the status and what follows the head.
pub(crate) fn post(node: &Node, path: &str) -> (u16, String) {
    request(node, "POST", path)
}

/// Gets, and returns the status and what follows the head.
pub(crate) fn get(node: &Node, path: &str) -> (u16, String) {
    request(node, "GET", path)
}

/// The sum of a metric over the shards of a node.
pub(crate) fn metric(node: &Node, name: &str) -> u64 {
    let (_, text) = get(node, "/metrics");
    let starts = [format!("tethys_{name}{{"), format!("tethys_{name} ")];
    let lines = text.lines().filter(|line| starts.iter().any(|start| line.starts_with(start)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn request(node: &Node, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect((node.ip(), node.http_port())).expect("HTTP answers");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or_else(|| panic!("no status: {answer}")), body.to_owned())
}
