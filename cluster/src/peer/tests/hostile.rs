//! Whatever comes to port 7000: garbage, halves, lies, and silence.

use super::{Node, identity, peer};
use crate::peer::batch::{BatchError, Kind};
use crate::peer::feed::Feed;
use crate::peer::hello::{Hello, Purpose, encode_refusal};
use crate::peer::limits::INTRODUCTIONS_MAX;
use crate::peer::outbox::{Class, Outbox};
use crate::peer::transport::{LocalTasks, OwnedTasks, call};
use crate::peer::{Cause, RefusalCode};
use env::Env;
use env::net::TcpStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn hello() -> Hello {
    let identity = identity(1, "127.0.0.1:1".parse().unwrap());
    Hello { identity, purpose: Purpose::Messages, from_shard: 0, to_shard: 0, remembered: None }
}

/// Says something to a node, and returns what it says until it closes the connection.
async fn say(node: &Node, bytes: &[u8], is_over: bool) -> Vec<u8> {
    let mut socket = Env::real().net.connect(node.address()).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    if is_over {
        socket.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    // The node may close before it has read all.
    socket.read_to_end(&mut answer).await.ok();
    answer
}

#[test]
fn what_is_no_introduction_is_turned_away_by_name() {
    run(async {
        let mut node = Node::on_loopback(2).await;
        for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 1000], &[0xff; 14]] {
            assert_eq!(say(&node, garbage, false).await, b"");
            assert!(node.refusal().await.contains("not the introduction of a node"));
        }
        let whole = hello().encode();
        for cut in [0, 1, 13, 14, whole.len() - 1] {
            assert_eq!(say(&node, &whole[..cut], true).await, b"");
            assert!(node.refusal().await.contains("ended in the middle"));
        }
        let mut oversized = whole.clone();
        oversized[12..14].copy_from_slice(&[0xff, 0xff]);
        let answer = say(&node, &oversized, true).await;
        assert_eq!(answer[8], 2, "a refusal");
        assert!(node.refusal().await.contains("65535 bytes is too long"));
        let mut newer = whole.clone();
        newer[10] = 9;
        let answer = String::from_utf8_lossy(&say(&node, &newer, true).await).into_owned();
        assert!(answer.contains("version 4 here, not version 9"), "{answer}");
        node.refusal().await;
        let answer = say(&node, &encode_refusal(RefusalCode::Busy, "no"), true).await;
        assert_eq!(answer[8], 2);
        assert!(node.refusal().await.contains("a refusal comes second"));
        // Nobody of these was a peer, and the node goes on.
        assert!(node.inbox.try_recv().is_none());
        let friend = Node::on_loopback(1).await;
        friend.knows(&node);
        friend.send(&node, b"x");
        assert_eq!(node.take(1).await, [b"x"]);
    });
}

#[test]
fn silent_callers_are_bounded_and_the_node_goes_on_after_them() {
    run(async {
        let mut node = Node::on_loopback(2).await;
        let mut silent = Vec::new();
        for _ in 0..=INTRODUCTIONS_MAX {
            silent.push(Env::real().net.connect(node.address()).await.unwrap());
        }
        assert!(node.refusal().await.contains("too much to do"));
        drop(silent);
        let friend = Node::on_loopback(1).await;
        friend.knows(&node);
        friend.peers.connect(node.peer()).unwrap();
        node.connected().await;
    });
}

/// A socket that the node has let in, as a node of the cluster.
async fn introduced(node: &Node) -> TcpStream {
    let mut socket = Env::real().net.connect(node.address()).await.unwrap();
    socket.write_all(&hello().encode()).await.unwrap();
    let mut head = [0; 14];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(head[8], 1, "it is let in");
    let mut body = vec![0; usize::from(u16::from_le_bytes([head[12], head[13]]))];
    socket.read_exact(&mut body).await.unwrap();
    socket
}

#[test]
fn an_introduced_peer_that_speaks_garbage_is_let_go() {
    run(async {
        let mut node = Node::on_loopback(2).await;
        let mut socket = introduced(&node).await;
        socket.write_all(&[b'x'; 4096]).await.unwrap();
        socket.read_to_end(&mut Vec::new()).await.ok();
        assert!(node.inbox.try_recv().is_none());
        // Frames that no sender makes.
        for (kind, head, expected) in [
            (Kind::Continuation, &[][..], BatchError::Order),
            (Kind::Refused, &[1, 2, 3], BatchError::Length),
            (Kind::Ping, &[1], BatchError::Length),
        ] {
            let socket = introduced(&node).await;
            let (tasks, feed) = (OwnedTasks(LocalTasks::default()), Feed::new(Outbox::new()));
            feed.push(Class::Bulk, kind, head, &[]).unwrap();
            // It may be cut off before it hears that it was let in.
            let _batches = call(socket, &tasks.0, feed.outbound()).await;
            node.connected().await;
            assert_eq!(node.disconnected().await, Cause::Garbage(expected));
        }
        assert!(!node.peers.is_connected(peer(1)));
    });
}

/// A gRPC message that announces more than a batch may have: the stream ends before anything of
/// that size is there.
#[test]
fn a_length_beyond_a_batch_ends_the_stream() {
    run(async {
        let mut node = Node::on_loopback(2).await;
        let socket = introduced(&node).await;
        let tasks = OwnedTasks(LocalTasks::default());
        let (mut sender, connection) = hyper::client::conn::http2::handshake(
            tasks.0.clone(),
            hyper_util::rt::TokioIo::new(socket),
        )
        .await
        .unwrap();
        tasks.0.spawn(async move { connection.await.ok() });
        let request = http::Request::post("http://peer/tethys.Peer/Exchange")
            .body("\0\x7f\x7f\x7f\x7fxxxx".to_owned())
            .unwrap();
        let _answer = sender.send_request(request).await;
        node.connected().await;
        let cause = node.disconnected().await;
        let Cause::Lost(why) = &cause else { panic!("{cause}") };
        assert!(why.contains("too large"), "{why}");
        // A second method, or a second stream, there is not.
        let socket = introduced(&node).await;
        let tasks = OwnedTasks(LocalTasks::default());
        let (mut sender, connection) = hyper::client::conn::http2::handshake(
            tasks.0.clone(),
            hyper_util::rt::TokioIo::new(socket),
        )
        .await
        .unwrap();
        tasks.0.spawn(async move { connection.await.ok() });
        let request = http::Request::get("http://peer/metrics").body(String::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "12");
    });
}
