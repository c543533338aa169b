//! The port for other nodes: whoever does not belong is turned away, and the node serves on.

use crate::support::{Node, Random, Raw, on_runtime};
use cluster::HostId;
use cluster::peer::{Identity, IntroductionError, RefusalCode, Registry, introduce};
use env::Env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

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
fn each_start_is_another_life() {
    let mut node = Node::start();
    node.kill();
    node.restart();
    assert_eq!(meet(&node, &stranger(|_| {})).expect("it is let in").incarnation, 2);
}

#[test]
fn a_port_that_is_taken_is_named_with_its_key() {
    let node = Node::start();
    let taken: &'static str = Box::leak(node.storage_port().to_string().into_boxed_str());
    let arguments: &'static [&'static str] = Box::leak(Box::new(["--storage-port", taken]));
    let log = Node::refused(arguments);
    let expected = format!("tethys: cannot listen on 127.0.0.1:{taken} (storage_port): ");
    assert!(log.contains(&expected), "{log}");
}

#[test]
fn seeds_that_are_others_are_refused_as_long_as_nobody_can_join() {
    let log = Node::refused(&["--seeds", "127.0.0.99"]);
    assert!(log.contains("tethys: cannot join the cluster of seed 127.0.0.99: "), "{log}");
    Node::start_with(&["--memory", "256M", "--seeds", "127.0.0.1"]);
}
