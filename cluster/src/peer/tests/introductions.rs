//! Who is let in and who is not, and what each end hears of it.

use super::{Node, identity, peer};
use crate::peer::{
    Class, Identity, IntroductionError, Memory, Overtaken, Peer, RefusalCode, Registry,
    Remembering, Start, introduce,
};
use crate::ring::HostId;
use env::Env;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::LocalSet;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// What a node hears that dials `to` and expects host 2 there.
async fn dials(node: &mut Node, to: SocketAddr) -> IntroductionError {
    node.peers.set_address(HostId(2), to);
    node.peers.connect(peer(2)).unwrap();
    node.unreachable().await
}

fn assert_refused(error: &IntroductionError, expected: RefusalCode, words: &str) {
    let IntroductionError::Refused { code, text } = error else { panic!("{error}") };
    assert_eq!(*code, expected);
    assert!(text.contains(words), "{text}");
}

#[test]
fn a_seed_says_who_it_is() {
    run(async {
        let (a, b) = (Node::on_loopback(1).await, Node::on_loopback(2).await);
        let env = Env::real();
        let found = introduce(&env, &a.registry, b.address()).await.unwrap();
        assert_eq!(found, b.registry.us());
        // A seed that is the node itself.
        let itself = introduce(&env, &a.registry, a.address()).await;
        assert_eq!(itself, Err(IntroductionError::Itself));
        assert!(a.refusal().await.contains("is this node"));
        // A seed that is not there.
        let gone = b.address();
        drop(b);
        let nobody = introduce(&env, &a.registry, gone).await;
        assert!(matches!(nobody, Err(IntroductionError::Network(_))));
    });
}

#[test]
fn nodes_of_other_clusters_hear_why_they_are_refused() {
    run(async {
        let b = Node::on_loopback(2).await;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut other = identity(1, any);
        other.cluster_name = "other".into();
        let mut a = Node::start(&Env::real(), any, other).await;
        let error = dials(&mut a, b.address()).await;
        assert_refused(&error, RefusalCode::ClusterName, "'tests' here, not 'other'");
        assert!(!error.is_passing());
        assert!(b.refusal().await.contains("'tests' here, not 'other'"));

        let mut c = Node::on_loopback(3).await;
        c.registry.set_cluster_id(1);
        b.registry.set_cluster_id(2);
        let error = dials(&mut c, b.address()).await;
        assert_refused(&error, RefusalCode::AnotherCluster, "same name");
        b.registry.remove(HostId(4));
        let mut removed = Node::on_loopback(4).await;
        let error = dials(&mut removed, b.address()).await;
        assert_refused(&error, RefusalCode::Removed, "was removed");
    });
}

#[test]
fn doubles_are_refused_while_the_first_is_connected() {
    run(async {
        let (mut a, b) = (Node::on_loopback(1).await, Node::on_loopback(2).await);
        a.knows(&b);
        a.send(&b, b"x");
        a.connected().await;
        // A node on a copy of the first one's data directory.
        let mut double = Node::on_loopback(1).await;
        let error = dials(&mut double, b.address()).await;
        assert_refused(&error, RefusalCode::HostIdInUse, "two nodes run on copies");
        // A node that announces the first one's address.
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut same = Node::start(&Env::real(), any, identity(3, a.address())).await;
        let error = dials(&mut same, b.address()).await;
        assert_refused(&error, RefusalCode::AddressInUse, "announce one address");
        // A copy of the node that is called.
        let mut copy = Node::on_loopback(2).await;
        copy.peers.set_address(HostId(9), b.address());
        copy.peers.connect(peer(9)).unwrap();
        assert_refused(&copy.unreachable().await, RefusalCode::HostIdInUse, "copies");
        // The first one goes on.
        assert!(a.peers.is_connected(b.peer()));
    });
}

/// Host 1 in that start, after starts with these marks, as a member.
async fn member_in_start(incarnation: u64, former_marks: &[u64], mark: u64) -> Node {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let us = Identity { cluster_id: Some(5), incarnation, mark, ..identity(1, any) };
    Node::start_again(&Env::real(), any, us, former_marks.to_vec()).await
}

#[test]
fn a_node_on_an_older_copy_of_its_data_learns_it_whoever_calls() {
    run(async {
        let mut b = Node::on_loopback(2).await;
        b.registry.set_cluster_id(5);
        let remembers = |b: &Node| b.registry.remembered(HostId(1)).unwrap().1;
        let mut a = member_in_start(2, &[10], 20).await;
        a.knows(&b);
        a.send(&b, b"x");
        a.connected().await;
        assert_eq!(b.take(1).await, [b"x"]);
        assert_eq!(remembers(&b), Start { incarnation: 2, mark: 20 });
        drop(a);
        b.disconnected().await;

        // Copies of what it had after its first start: one is started for the second time, one was started
        // a few times since.
        for (incarnation, former_marks, mark) in [(2, &[10][..], 21), (4, &[10, 21, 31], 41)] {
            let mut copy = member_in_start(incarnation, former_marks, mark).await;
            let found = introduce(&Env::real(), &copy.registry, b.address()).await;
            assert_eq!(found, Err(IntroductionError::Overtaken { remembered: 2 }));
            assert_eq!(dials(&mut copy, b.address()).await, found.unwrap_err());
            let overtaken = Overtaken { by: HostId(2), incarnation: 2 };
            assert_eq!(copy.registry.overtaken().await, overtaken);
            drop(copy);
            let mut copy = member_in_start(incarnation, former_marks, mark).await;
            b.knows(&copy);
            b.peers.connect(copy.peer()).unwrap();
            loop {
                let error = b.unreachable().await;
                if !error.is_passing() {
                    assert_refused(&error, RefusalCode::Overtaken, "nothing of start 2");
                    break;
                }
            }
            assert_eq!(copy.registry.overtaken().await, overtaken);
            assert!(copy.inbox.try_recv().is_none(), "it was never connected");
            assert_eq!(remembers(&b), Start { incarnation: 2, mark: 20 });
            b.peers.forget(HostId(1));
        }

        // The node itself, which was started meanwhile and met nobody.
        let mut a = member_in_start(5, &[10, 20, 30, 40], 50).await;
        b.knows(&a);
        b.send(&a, b"y");
        assert_eq!(a.take(1).await, [b"y"]);
        assert_eq!(remembers(&b), Start { incarnation: 5, mark: 50 });
    });
}

#[test]
fn a_node_whose_start_cannot_be_remembered_is_not_listened_to() {
    run(async {
        #[derive(Debug)]
        struct Full;
        impl Memory for Full {
            fn newest(&self, _: HostId) -> Option<Start> {
                None
            }
            fn remember(&self, _: HostId, _: Start) -> Remembering {
                let error = IntroductionError::NotRemembered("the disk is full".to_owned());
                Box::pin(std::future::ready(Err(error)))
            }
            fn forget(&self, _: HostId) {}
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let us = Identity { cluster_id: Some(5), ..identity(2, any) };
        let memory = Arc::new(Full);
        let mut full = Node::start_remembering(&Env::real(), any, us, Vec::new(), memory).await;
        let mut a = member_in_start(1, &[], 1).await;
        let error = dials(&mut a, full.address()).await;
        assert!(error.to_string().contains("the disk is full"), "{error}");
        full.knows(&a);
        full.peers.connect(a.peer()).unwrap();
        let error = full.unreachable().await;
        assert_eq!(error, IntroductionError::NotRemembered("the disk is full".to_owned()));
        // Of who belongs to no cluster nothing is remembered.
        let stranger = Node::on_loopback(3).await;
        stranger.knows(&full);
        stranger.send(&full, b"x");
        assert_eq!(full.take(1).await, [b"x"]);
    });
}

#[test]
fn who_answers_must_be_who_was_called() {
    run(async {
        let (mut a, c) = (Node::on_loopback(1).await, Node::on_loopback(3).await);
        let error = dials(&mut a, c.address()).await;
        let expected = IntroductionError::AnotherHost { expected: HostId(2), found: HostId(3) };
        assert_eq!(error, expected);
        let far = Peer { host_id: HostId(3), shard: 5 };
        a.peers.set_address(HostId(3), c.address());
        a.peers.send(far, Class::Bulk, &[b"x"]).unwrap();
        let error = a.unreachable().await;
        assert_refused(&error, RefusalCode::NoSuchShard, "no shard 5");
    });
}

#[test]
fn a_node_that_moved_is_found_at_its_new_address() {
    run(async {
        let (mut a, b) = (Node::on_loopback(1).await, Node::on_loopback(2).await);
        a.knows(&b);
        a.send(&b, b"x");
        a.connected().await;
        drop(b);
        a.disconnected().await;
        a.unreachable().await;
        let mut moved = Node::on_loopback(2).await;
        a.knows(&moved);
        a.connected().await;
        a.send(&moved, b"y");
        assert_eq!(moved.take(1).await, [b"y"]);
        // A node whose address was never told is found where it said it is.
        drop(a);
        moved.disconnected().await;
        let fresh = Registry::new(identity(1, moved.address())).unwrap();
        assert_eq!(fresh.identity(HostId(2)), None);
        assert!(moved.registry.identity(HostId(1)).is_some());
    });
}

#[test]
fn a_forgotten_node_is_disconnected_and_not_dialled() {
    run(async {
        let (mut a, mut b) = (Node::on_loopback(1).await, Node::on_loopback(2).await);
        a.knows(&b);
        a.send(&b, b"x");
        a.connected().await;
        b.connected().await;
        a.peers.forget(b.peer().host_id);
        assert_eq!(a.disconnected().await, crate::peer::Cause::Forgotten);
        b.disconnected().await;
        assert!(a.peers.figures().is_empty());
    });
}
