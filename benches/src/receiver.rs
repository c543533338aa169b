//! What measures feeds stands at their other end: an HTTP receiver that acknowledges everything, and
//! costs little.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// Reads a request into `body`, and answers 204. `None` when the sender has gone, or is no feed.
pub fn acknowledge(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Option<()> {
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        stream.read_line(&mut line).ok().filter(|count| *count > 0)?;
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().ok()?;
        }
    }
    body.resize(length, 0);
    stream.read_exact(body).ok()?;
    stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()
}
