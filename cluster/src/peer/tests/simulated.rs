//! In turmoil: partitions, frozen networks, crashes, peers that say nothing, from seeds.

use super::{Node, identity, peer};
use crate::peer::hello::{Hello, Purpose};
use crate::peer::limits::{BACKOFF_MAX, DIAL_TIME_MAX, INTRODUCTION_TIME_MAX, SILENCE_TIME_MAX};
use crate::peer::{Cause, Class, Event, Incoming, IntroductionError, SendError};
use crate::ring::HostId;
use env::{Env, Net};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const START_MICROS: i64 = 1_700_000_000_000_000;
const PORT: u16 = 7000;
/// A round trip of the simulated network, many times over.
const SOON: Duration = Duration::from_millis(500);

type Outcome = turmoil::Result;

fn simulation(seed: u64, seconds: u64) -> turmoil::Sim<'static> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(seconds))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .build()
}

fn env(seed: u64) -> Env {
    Env::simulated(seed, START_MICROS).0
}

fn address_of(host: &str) -> SocketAddr {
    SocketAddr::new(turmoil::lookup(host), PORT)
}

/// Starts the node of the simulated host it is called in; hosts are named for their numbers.
async fn start(env: &Env, host: u128) -> Node {
    let name = host.to_string();
    let mut us = identity(host, address_of(&name));
    us.incarnation = env.clock.now_micros() as u64;
    let node = Node::start(env, SocketAddr::from(([0, 0, 0, 0], PORT)), us).await;
    for other in ["1", "2", "3"] {
        if other != name {
            node.peers.set_address(HostId(other.parse().unwrap()), address_of(other));
        }
    }
    node
}

/// A node that sends back whatever comes, for ever.
async fn echo(host: u128) -> Outcome {
    let mut node = start(&env(host as u64), host).await;
    loop {
        if let Event::Messages { peer, messages } = node.inbox.recv().await {
            for incoming in messages {
                match incoming {
                    // Lost with its connection, or refused: the asker finds out.
                    Incoming::Message(bytes) => {
                        node.peers.send(peer, Class::Bulk, &[&bytes]).ok();
                    }
                    Incoming::Ask(bytes, responder) => {
                        responder.answer(Class::Bulk, &[&bytes]).ok();
                    }
                }
            }
        }
    }
}

fn with_echoes(simulation: &mut turmoil::Sim<'static>, hosts: &[u128]) {
    for host in hosts {
        let host = *host;
        // All three names must be known before a node starts.
        simulation.host(host.to_string(), move || echo(host));
    }
}

async fn ask(node: &Node, host: u128, time_max: Duration) -> bool {
    node.peers.ask(peer(host), Class::Bulk, &[b"?"], time_max).await.is_ok()
}

#[test]
fn a_partition_is_noticed_and_healed() {
    let mut simulation = simulation(1, 60);
    with_echoes(&mut simulation, &[2, 3]);
    simulation.client("1", async {
        let env = env(1);
        let mut node = start(&env, 1).await;
        assert!(ask(&node, 2, SOON).await && ask(&node, 3, SOON).await);
        for is_held in [false, true] {
            let (a, b) = ("1", "2");
            if is_held {
                turmoil::hold(a, b);
            } else {
                turmoil::partition(a, b);
            }
            let cut_at = env.clock.monotonic_nanos();
            // What is sent into the cut may or may not arrive; the rest of the cluster goes on.
            node.peers.send(peer(2), Class::Bulk, &[b"lost"]).unwrap();
            assert!(ask(&node, 3, SOON).await);
            assert_eq!(node.disconnected().await, Cause::Silent);
            let noticed = Duration::from_nanos(env.clock.monotonic_nanos() - cut_at);
            assert!(noticed <= SILENCE_TIME_MAX + SOON, "{noticed:?}");
            assert!(node.unreachable().await.is_passing());
            assert!(ask(&node, 3, SOON).await);
            if is_held {
                turmoil::release(a, b);
            } else {
                turmoil::repair(a, b);
            }
            let healed_at = env.clock.monotonic_nanos();
            node.connected().await;
            let back = Duration::from_nanos(env.clock.monotonic_nanos() - healed_at);
            assert!(back <= DIAL_TIME_MAX + BACKOFF_MAX + SOON, "{back:?}");
            env.clock.sleep(DIAL_TIME_MAX).await;
            assert!(ask(&node, 2, SOON).await);
        }
        Ok(())
    });
    simulation.run().unwrap();
}

#[test]
fn losing_one_direction_is_losing_the_connection() {
    let mut simulation = simulation(2, 60);
    with_echoes(&mut simulation, &[2, 3]);
    simulation.client("1", async {
        let env = env(1);
        let mut node = start(&env, 1).await;
        for (from, to) in [("1", "2"), ("2", "1")] {
            assert!(ask(&node, 2, DIAL_TIME_MAX).await);
            turmoil::partition_oneway(from, to);
            let asked = node.peers.ask(peer(2), Class::Bulk, &[b"?"], Duration::from_secs(20));
            assert!(asked.await.is_err());
            node.disconnected().await;
            assert!(ask(&node, 3, SOON).await);
            turmoil::repair_oneway(from, to);
            node.connected().await;
            env.clock.sleep(DIAL_TIME_MAX).await;
        }
        Ok(())
    });
    simulation.run().unwrap();
}

#[test]
fn a_host_that_crashes_is_found_again_in_its_next_life() {
    let mut simulation = simulation(3, 60);
    with_echoes(&mut simulation, &[2, 3]);
    let crash = Rc::new(RefCell::new(None));
    let asked = crash.clone();
    simulation.client("1", async move {
        let env = env(1);
        let mut node = start(&env, 1).await;
        assert!(ask(&node, 2, SOON).await);
        let before = node.registry.identity(HostId(2)).unwrap().incarnation;
        asked.replace(Some(true));
        node.disconnected().await;
        node.unreachable().await;
        asked.replace(Some(false));
        node.connected().await;
        assert!(node.registry.identity(HostId(2)).unwrap().incarnation > before);
        env.clock.sleep(DIAL_TIME_MAX).await;
        assert!(ask(&node, 2, SOON).await);
        Ok(())
    });
    loop {
        let is_over = simulation.step().unwrap();
        match crash.take() {
            Some(true) => simulation.crash("2"),
            Some(false) => simulation.bounce("2"),
            None => {}
        }
        if is_over {
            return;
        }
    }
}

#[test]
fn a_peer_that_says_nothing_is_given_up_and_in_nobodys_way() {
    let mut simulation = simulation(4, 60);
    with_echoes(&mut simulation, &[3]);
    simulation.host("2", || async {
        // It accepts, and that is all: a frozen process whose kernel lives.
        let listener = Net::simulated().bind(SocketAddr::from(([0, 0, 0, 0], PORT))).await?;
        let mut sockets = Vec::new();
        loop {
            sockets.push(listener.accept().await?);
        }
    });
    simulation.client("1", async {
        let env = env(1);
        let mut node = start(&env, 1).await;
        node.peers.send(peer(2), Class::Bulk, &[b"x"]).unwrap();
        let pending = node.peers.ask(peer(2), Class::Bulk, &[b"?"], Duration::from_secs(30));
        for _ in 0..5 {
            assert!(ask(&node, 3, SOON).await);
        }
        assert_eq!(node.unreachable().await, IntroductionError::Stalled(DIAL_TIME_MAX));
        let not_sent = crate::peer::AskError::NotSent(SendError::NotConnected);
        assert_eq!(pending.await, Err(not_sent));
        // While it pauses it refuses at once; while it dials it takes.
        let refused = node.peers.send(peer(2), Class::Bulk, &[b"x"]);
        assert_eq!(refused, Err(SendError::NotConnected));
        assert!(ask(&node, 3, SOON).await);
        Ok(())
    });
    simulation.run().unwrap();
}

#[test]
fn a_caller_that_stalls_in_its_introduction_is_let_go() {
    let mut simulation = simulation(5, 60);
    with_echoes(&mut simulation, &[3]);
    simulation.host("2", std::future::pending);
    simulation.client("1", async {
        let env = env(1);
        for said in [&b""[..], b"TETHYSNN\x01\x01\x04\x00\x40\x00half"] {
            let mut socket = env.net.connect(address_of("3")).await?;
            socket.write_all(said).await?;
            let from = env.clock.monotonic_nanos();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).await.ok();
            let waited = Duration::from_nanos(env.clock.monotonic_nanos() - from);
            assert!(answer.is_empty());
            assert!(waited <= INTRODUCTION_TIME_MAX + SOON, "{waited:?}");
        }
        // One that is let in and then says nothing.
        let identity = identity(1, address_of("1"));
        let purpose = Purpose::Messages;
        let hello = Hello { identity, purpose, from_shard: 0, to_shard: 0, remembered: None };
        let mut socket = env.net.connect(address_of("3")).await?;
        socket.write_all(&hello.encode()).await?;
        let from = env.clock.monotonic_nanos();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.ok();
        let waited = Duration::from_nanos(env.clock.monotonic_nanos() - from);
        assert!(answer.starts_with(b"TETHYSNN\x01"));
        assert!(waited <= DIAL_TIME_MAX + SOON, "{waited:?}");
        Ok(())
    });
    simulation.run().unwrap();
}

/// Asks the other many things from some moment on, and answers what it asks. Every question has to be
/// answered, and one connection has to do.
async fn converse(host: u128, other: u128, seed: u64, lateness: Duration) -> Outcome {
    let env = env(seed * 10 + host as u64);
    let mut node = start(&env, host).await;
    let peers = node.peers.clone();
    let clock = env.clock.clone();
    let asking = tokio::task::spawn_local(async move {
        clock.sleep(lateness).await;
        for _ in 0..40 {
            let asked = peers.ask(peer(other), Class::Bulk, &[b"?"], Duration::from_secs(10));
            assert!(asked.await.is_ok(), "seed {seed}: host {host} has no answer");
        }
    });
    let ends_at = env.clock.monotonic_nanos() + Duration::from_secs(5).as_nanos() as u64;
    while env.clock.monotonic_nanos() < ends_at {
        env.clock.sleep(Duration::from_millis(1)).await;
        while let Some(event) = node.inbox.try_recv() {
            match event {
                Event::Messages { messages, .. } => answer_all(messages),
                // The other may be done first.
                Event::Disconnected { cause, .. } if !asking.is_finished() => {
                    panic!("seed {seed}, host {host}: {cause}")
                }
                _ => {}
            }
        }
    }
    Ok(asking.await?)
}

fn answer_all(messages: Vec<Incoming>) {
    for incoming in messages {
        if let Incoming::Ask(bytes, responder) = incoming {
            responder.answer(Class::Bulk, &[&bytes]).unwrap();
        }
    }
}

/// Two shards that come to need each other at about the same moment end up with one connection, and
/// with nothing lost on the way to it.
#[test]
fn dials_that_cross_cost_nobody_a_question() {
    for seed in 0..60 {
        let mut simulation = simulation(seed, 8);
        let mut entropy = env::EntropySource::simulated(seed).generator("lateness");
        for (host, other) in [(1, 2), (2, 1)] {
            let lateness = Duration::from_millis(40 + entropy.below(60));
            simulation.client(u128::to_string(&host), converse(host, other, seed, lateness));
        }
        simulation.host("3", std::future::pending);
        simulation.run().unwrap();
    }
}

/// What one end of a chaotic run received, by connection.
type Heard = Rc<RefCell<Vec<Vec<u64>>>>;

/// Sends ever higher numbers to the other, and notes what comes.
async fn count(host: u128, other: u128, seed: u64, heard: Heard) -> Outcome {
    let env = env(seed * 10 + host as u64);
    let mut node = start(&env, host).await;
    let mut number = 0_u64;
    loop {
        number += 1;
        let large = vec![0; (number % 7 * 30_000) as usize];
        node.peers.send(peer(other), Class::Bulk, &[&number.to_le_bytes(), &large]).ok();
        env.clock.sleep(Duration::from_millis(30)).await;
        while let Some(event) = node.inbox.try_recv() {
            match event {
                Event::Connected { .. } => heard.borrow_mut().push(Vec::new()),
                Event::Messages { messages, .. } => {
                    for incoming in messages {
                        let Incoming::Message(bytes) = incoming else { panic!("nobody asks") };
                        let number = u64::from_le_bytes(bytes[..8].try_into()?);
                        heard.borrow_mut().last_mut().expect("it is connected").push(number);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Runs two nodes that both dial while the network fails at random, then heals. Returns what
/// each heard.
fn chaos(seed: u64) -> [Vec<Vec<u64>>; 2] {
    let mut simulation = simulation(seed, 120);
    let heard = [Heard::default(), Heard::default()];
    for (host, other, heard) in [(1, 2, heard[0].clone()), (2, 1, heard[1].clone())] {
        simulation.host(u128::to_string(&host), move || count(host, other, seed, heard.clone()));
    }
    simulation.host("3", std::future::pending);
    let mut entropy = env::EntropySource::simulated(seed).generator("chaos");
    for step in 0..40_000_u64 {
        let faults_end = step > 25_000;
        if step % 500 == 0 {
            match entropy.below(8) {
                _ if faults_end => simulation.repair("1", "2"),
                0 => simulation.partition("1", "2"),
                1 => simulation.hold("1", "2"),
                2 => simulation.partition_oneway("1", "2"),
                3 => simulation.partition_oneway("2", "1"),
                4 => simulation.bounce(if entropy.below(2) == 0 { "1" } else { "2" }),
                5 => {}
                _ => {
                    simulation.release("1", "2");
                    simulation.repair("1", "2");
                }
            }
        }
        if step == 25_500 {
            simulation.release("1", "2");
        }
        simulation.step().unwrap();
    }
    heard.map(|heard| heard.take())
}

#[test]
fn whatever_the_network_does_it_heals_in_order_and_nothing_comes_twice() {
    let seeds = std::env::var("TETHYS_SIM_SEEDS");
    let (first, last) = match seeds.as_deref().ok().and_then(|seeds| seeds.split_once("..")) {
        Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
        None => (0, 4),
    };
    for seed in first..last {
        let heard = chaos(seed);
        for of_one in &heard {
            // A peer that was restarted counts anew, on a new connection.
            for numbers in of_one {
                assert!(numbers.is_sorted_by(|a, b| a < b), "seed {seed}: {numbers:?}");
            }
            // The last 10 of 40 seconds were quiet: a message every 30 ms.
            let last = of_one.last().expect("they were connected");
            assert!(last.len() > 200, "seed {seed}: {} messages at the end", last.len());
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    assert_eq!(chaos(99), chaos(99));
    assert_ne!(chaos(99), chaos(98));
}
