//! The port for other nodes: whoever does not belong is turned away, and the node serves on.

use crate::support::{Node, Random, Raw, get, on_runtime};
use cluster::HostId;
use cluster::peer::{
    AskError, Class, Identity, IntroductionError, Peer, Peers, RefusalCode, Registry, introduce,
};
use env::Env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tokio::task::LocalSet;

/// What makes a stranger one that the node does not want.
type Change = fn(&mut Identity, &Identity);

fn port_of(node: &Node) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], node.storage_port()))
}

/// A stranger as `Test Cluster`'s nodes would see it, but for what `change` does to it.
fn stranger(change: impl FnOnce(&mut Identity)) -> Registry {
    let mut us = Identity {
        cluster_name: "Test Cluster".to_owned(),
        cluster_id: None,
        host_id: HostId(7),
        address: SocketAddr::from(([127, 0, 0, 1], 1)),
        shard_count: 1,
        incarnation: 1,
        mark: 1,
    };
    change(&mut us);
    Registry::new(us).expect("a short name")
}

fn meet(node: &Node, registry: &Registry) -> Result<Identity, IntroductionError> {
    on_runtime(introduce(&Env::real(), registry, port_of(node)))
}

#[test]
fn garbage_is_cut_off_and_harms_nobody() {
    let node = Node::start();
    let mut random = Random::from_environment("TETHYS_TEST_SEED");
    let mut openings: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"TETHYSNN".to_vec(),
        b"TETHYSNN\x01\x01\x01\x00\xff\xff".to_vec(),
        b"TETHYSNN\x01\x01\x01\x00\x10\x00".to_vec(),
    ];
    openings.extend((0..50).map(|length| (0..length * 7).map(|_| random.next() as u8).collect()));
    for opening in &openings {
        let mut stream = TcpStream::connect(port_of(&node)).expect("the node listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket takes it");
        drop(stream.write_all(opening));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        // A reset is as good an end as any.
        if stream.read_to_end(&mut answer).is_ok() {
            let is_refusal = answer.starts_with(b"TETHYSNN\x02");
            assert!(answer.is_empty() || is_refusal, "{opening:?}: {answer:?}");
        }
    }
    Raw::ready(&node).run("SELECT key FROM system.local");
    let said = node.log().matches("is turned away from the port for nodes").count();
    assert!((1..10).contains(&said), "a few lines, not one each: {said}");
}

#[test]
fn a_node_of_another_cluster_or_with_another_nodes_name_is_told_so() {
    let node = Node::start();
    let us = meet(&node, &stranger(|_| {})).expect("nothing speaks against it");
    assert_eq!((us.shard_count, us.address), (2, port_of(&node)));
    assert_eq!(us.incarnation, 1);

    let cases: [(Change, RefusalCode); 3] = [
        (|it, _| it.cluster_name = "another".to_owned(), RefusalCode::ClusterName),
        (|it, node| it.host_id = node.host_id, RefusalCode::HostIdInUse),
        (|it, node| it.address = node.address, RefusalCode::AddressInUse),
    ];
    for (change, reason) in cases {
        match meet(&node, &stranger(|it| change(it, &us))) {
            Err(IntroductionError::Refused { code, .. }) => assert_eq!(code, reason),
            other => panic!("{reason:?}: {other:?}"),
        }
    }
    Raw::ready(&node).run("SELECT key FROM system.local");
}

#[test]
fn requests_of_no_known_kind_are_refused_and_counted() {
    let node = Node::start();
    let registry = stranger(|_| {});
    let test = async {
        let env = Env::real();
        let host_id = introduce(&env, &registry, port_of(&node)).await.expect("let in").host_id;
        let (peers, _inbox) = Peers::new(&env, &registry, 0);
        let time_max = Duration::from_secs(20);
        for shard in 0..2 {
            let peer = Peer { host_id, shard };
            let ask = async |bytes: &[u8]| peers.ask(peer, Class::Urgent, &[bytes], time_max).await;
            for garbage in [&[4][..], b"\x04{}", b"\x04[[[[", &[4, 0xff]] {
                assert_eq!(ask(garbage).await, Err(AskError::Refused), "a request to join");
            }
            for unknown in [&[][..], &[0], &[99, 1, 2]] {
                peers.send(peer, Class::Urgent, &[unknown]).expect("there is room");
                assert_eq!(ask(unknown).await, Err(AskError::Refused));
            }
            let status = ask(&[5]).await.expect("it says how it stands");
            let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
            assert!(status["load_bytes"].is_u64() && status["metadata_index"] != 0, "{status}");
        }
    };
    on_runtime(LocalSet::new().run_until(test));
    let (_, metrics) = get(&node, "/metrics");
    for shard in 0..2 {
        let line = format!("tethys_internode_unknown_messages_total{{shard=\"{shard}\"}} 6\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[test]
fn each_start_is_another_life() {
    let mut node = Node::start();
    node.kill();
    node.restart();
    assert_eq!(meet(&node, &stranger(|_| {})).expect("it is let in").incarnation, 2);
}

#[test]
fn a_port_that_is_taken_is_named_with_its_key() {
    let node = Node::start();
    let taken = node.storage_port().to_string();
    let log = Node::refused(&["--storage-port", &taken]);
    let expected = format!("tethys: cannot listen on 127.0.0.1:{taken} (storage_port): ");
    assert!(log.contains(&expected), "{log}");
}
