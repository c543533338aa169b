//! Tests of [`crate::net`]: the same exchange over real and over simulated sockets.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{DetachedStream, Net, TcpListener, TcpStream};
use crate::tasks::queue::queue;
use crate::{Clock, Tasks};

/// Answers one connection with what comes in, turned around, until the peer ends its direction.
async fn answer(stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let (mut read, mut write) = stream.into_split();
    let mut word = [0; 4];
    while read.read_exact(&mut word).await.is_ok() {
        word.reverse();
        let (first, rest) = word.split_at(1);
        write.write_all(first).await.unwrap();
        write.write_all(rest).await.unwrap();
        write.flush().await.unwrap();
    }
    write.shutdown().await.unwrap();
}

async fn ask(net: Net, address: SocketAddr) {
    let mut stream = net.connect(address).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address);
    for (question, expected) in [(b"abcd", b"dcba"), (b"0123", b"3210")] {
        stream.write_all(question).await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, expected);
    }
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

async fn listen_on_loopback() -> (TcpListener, SocketAddr) {
    let listener = Net::real().bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn real_ends_talk() {
    let (listener, address) = listen_on_loopback().await;
    let server = async {
        let (stream, peer) = listener.accept().await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), peer);
        assert_eq!(stream.local_addr().unwrap(), address);
        answer(stream).await;
    };
    tokio::join!(server, ask(Net::real(), address));
}

#[tokio::test]
async fn an_accepted_connection_can_be_handed_to_another_shard() {
    let (listener, address) = listen_on_loopback().await;
    let (hand_over, mut accepted) = queue::<DetachedStream>(4);
    let shard = Tasks::real()
        .spawn_shard("shard-1", Some(1), || async move {
            while let Some(stream) = accepted.recv().await {
                answer(stream.attach().unwrap()).await;
            }
        })
        .unwrap();
    let acceptor = async move {
        let (stream, _) = listener.accept().await.unwrap();
        hand_over.try_send(stream.detach().unwrap()).unwrap();
    };
    tokio::join!(acceptor, ask(Net::real(), address));
    shard.finished().await.unwrap();
}

#[tokio::test]
async fn a_port_that_nobody_serves_refuses() {
    let (listener, address) = listen_on_loopback().await;
    drop(listener);
    let error = Net::real().connect(address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn numbers_resolve_to_themselves() {
    let addresses = Net::real().resolve("127.0.0.1", 9042).await.unwrap();
    assert_eq!(addresses, ["127.0.0.1:9042".parse().unwrap()]);
}

/// Runs two hosts and returns what the client saw, and when.
fn simulate(seed: u64) -> Vec<(&'static str, i64)> {
    let mut simulation = turmoil::Builder::new()
        .rng_seed(seed)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(50))
        .build();
    let (clock, _control) = Clock::simulated_on_turmoil(1_000_000);
    simulation.host("server", || async {
        let listener = Net::simulated().bind("0.0.0.0:9042".parse()?).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let stream = stream.detach()?;
            let shard = move || async move { answer(stream.attach().unwrap()).await };
            Tasks::simulated().spawn_shard("shard-0", None, shard)?.finished().await?;
        }
    });
    let (report, mut reports) = queue(16);
    simulation.client("client", async move {
        let address = Net::simulated().resolve("server", 9042).await?[0];
        for event in ["first", "second"] {
            ask(Net::simulated(), address).await;
            report.try_send((event, clock.now_micros()))?;
            clock.sleep(Duration::from_secs(1)).await;
        }
        report.try_send(("end", clock.now_micros()))?;
        Ok(())
    });
    simulation.run().unwrap();
    let mut events = Vec::new();
    reports.drain(&mut events, 16);
    events
}

#[test]
fn simulated_hosts_talk_on_simulated_time_and_repeat_from_the_seed() {
    let events = simulate(1);
    assert_eq!(events.len(), 3);
    assert!(events[0].1 > 1_000_000);
    assert!(events[2].1 - events[0].1 >= 2_000_000);
    assert_eq!(events, simulate(1));
    assert_ne!(events, simulate(2));
}
