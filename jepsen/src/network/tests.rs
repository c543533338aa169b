//! A network of two nodes that are echoes: what passes, what waits, what is not made.

use super::*;
use std::io::{Read, Write};
use std::net::TcpStream as Socket;
use std::time::Duration;

/// What a cut is given to let something through that it must not.
const HELD_FOR: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_mins(1);

/// The introduction of a node, and one byte of a body after the address.
fn introduction(node: usize) -> Vec<u8> {
    let mut bytes = b"TETHYSNN\x01\x01\x04\x00\x5c\x00".to_vec();
    bytes.extend([0; 86]);
    bytes.push(FAMILY_IPV4);
    bytes.extend(public_ip(node).octets());
    bytes.push(9);
    bytes
}

/// A network of two nodes, of which the second sends back what it is sent.
fn network() -> (Network, u16) {
    for port in 20_000..30_000 {
        let Ok(listener) = std::net::TcpListener::bind((hidden_ip(1), port)) else { continue };
        let Ok(network) = Network::start(2, port) else { continue };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || echo(stream));
            }
        });
        return (network, port);
    }
    panic!("no port is free");
}

fn echo(mut stream: Socket) {
    let mut bytes = [0; 256];
    while let Ok(count) = stream.read(&mut bytes) {
        if count == 0 || stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

fn dial(port: u16) -> Socket {
    let mut stream = Socket::connect((public_ip(1), port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&introduction(0)).unwrap();
    stream
}

fn hear(stream: &mut Socket, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn is_silent(stream: &mut Socket) -> bool {
    stream.set_read_timeout(Some(HELD_FOR)).unwrap();
    let heard = stream.read(&mut [0]);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    heard.is_err()
}

#[test]
fn what_is_cut_waits_and_comes_when_it_is_healed() {
    let (network, port) = network();
    let mut stream = dial(port);
    assert_eq!(hear(&mut stream, introduction(0).len()), introduction(0), "all of it passes");
    for (from, to) in [(0, 1), (1, 0)] {
        network.cut(Cuts::default().and_from_to(from, to));
        stream.write_all(b"abc").unwrap();
        assert!(is_silent(&mut stream), "{from} to {to}");
        network.cut(Cuts::default());
        assert_eq!(hear(&mut stream, 3), b"abc");
    }
}

#[test]
fn a_connection_over_a_cut_is_made_when_it_is_healed_if_its_dialler_still_waits() {
    let (network, port) = network();
    network.cut(Cuts::default().and_between(&[0], &[1]));
    drop(dial(port));
    let mut stream = dial(port);
    assert!(is_silent(&mut stream));
    network.cut(Cuts::default());
    assert_eq!(hear(&mut stream, introduction(0).len()), introduction(0));
}

#[test]
fn who_does_not_introduce_itself_is_not_let_in() {
    let (_network, port) = network();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n and so on"[..], &introduction(7)] {
        let mut stream = Socket::connect((public_ip(1), port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "{bytes:?}");
    }
}

#[test]
fn cuts_are_of_one_direction_each() {
    let cuts = Cuts::default().and_from_to(0, 2);
    assert!(!cuts.let_pass(0, 2) && cuts.let_pass(2, 0) && cuts.let_pass(0, 1));
    let halves = Cuts::default().and_between(&[0], &[1, 2]);
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
        assert!(!halves.let_pass(from, to), "{from} to {to}");
    }
    assert!(halves.let_pass(1, 2) && halves.let_pass(2, 1));
}
